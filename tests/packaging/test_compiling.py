"""Compiling is asked for, never needed: whether it works, ``make compiled`` says."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modelmgr.scheduling.native import is_compiled
from modelmgr.simulation import engine

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_plain_python_and_the_build_says_so(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own build
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=_ROOT,
        env={**os.environ, "MODELMGR_COMPILE": "1", "CC": "no-such-compiler -O2"},
        capture_output=True,
        check=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert "not compiled, the wheel is plain Python" in said
    assert "there is no compiler 'no-such-compiler'; CC names another" in said
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "modelmgr/scheduling/scheduler.py" in names
    assert not [name for name in names if name.endswith(".so")]


def test_what_runs_here_is_plain_python_or_says_that_it_is_not() -> None:
    assert is_compiled() == (not engine.__file__.endswith(".py"))
