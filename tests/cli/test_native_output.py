"""What native code writes to stdout stays away from a command's result."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ctypes, os
from modelmgr_cli.native_output import kept_off_stdout
libc = ctypes.CDLL(None)
print("before")
with kept_off_stdout():
    libc.puts(b"native, through C's buffer")
    os.write(1, b"native, straight")
libc.puts(b"native, afterwards")
libc.fflush(None)
print("after")
"""

CLOSED = """
import os, sys
from modelmgr_cli.native_output import kept_off_stdout
os.close(1)
with kept_off_stdout():
    sys.stderr.write("went on")
sys.stdout = None
"""


def test_only_what_is_written_outside_arrives() -> None:
    finished = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )

    assert finished.stdout.splitlines() == ["before", "native, afterwards", "after"]
    assert finished.stderr == ""


def test_a_closed_stdout_is_no_error() -> None:
    finished = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", CLOSED], capture_output=True, text=True, check=False
    )

    assert finished.stderr.startswith("went on")
