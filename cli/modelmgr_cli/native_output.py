"""Keep what C libraries write to stdout away from a command's result.

Python's own streams are left alone; only the process's file descriptor 1 is turned away for a
while. HiGHS, the solver in scipy 1.17, writes a debugging line there for some programmes, whatever
it is told (github.com/jump-dev/HiGHS.jl/issues/312), and would break ``--json``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Generator

_STDOUT = 1


@contextlib.contextmanager
def kept_off_stdout() -> Generator[None]:
    """Send what native code writes to stdout to nowhere while this is entered."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    try:
        saved = os.dup(_STDOUT)
    except OSError:  # closed: there is nothing to keep clean
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT)
        os.close(nowhere)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # C buffers what goes to a pipe: empty it before going back
        os.dup2(saved, _STDOUT)
        os.close(saved)
