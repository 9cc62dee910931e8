"""Descriptors: how many a process may have, what of them a server keeps for what, and the last one.

Owns the arithmetic, and the words for it when there are none left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Generator
from pathlib import Path

PER_CONNECTION = 2
# A client's first connection has its process's descriptor beside it, and its last third, for calls,
# shared memory in both directions: no client takes more than two for each.
_FOR_MODELS = 128  # three for each process that a model lives in, three for each that starts those
_FOR_THE_REST = 32  # listening, watching, a database that is written; 20 of them for metrics
RESERVED = _FOR_MODELS + _FOR_THE_REST
_NONE_LEFT = frozenset({errno.EMFILE, errno.ENFILE})


def limit() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> None:
    """Raise this process's limit as far as it may be, where it may: the soft one to the hard one.

    The usual soft limit, 1,024, is for programs that call select(2); processes started from here on
    have the raised one too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may refuse it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable_connections() -> int:
    """Return how many connections there are descriptors for, beside what is open and reserved."""
    free = limit() - sum(1 for _ in Path("/proc/self/fd").iterdir())
    return max(0, (free - RESERVED) // PER_CONNECTION)


def none_left(error: BaseException) -> bool:
    """Say whether an error means that there is no further descriptor."""
    return isinstance(error, OSError) and error.errno in _NONE_LEFT


def explain(error: BaseException) -> str:
    """Return why there is no further descriptor, and what helps; "its" is the process's."""
    if isinstance(error, OSError) and error.errno == errno.ENFILE:
        return "the machine has no room for a further open file (`sysctl fs.file-max`)"
    return explain_limit()


def explain_limit() -> str:
    """Return what is told of a process that has as many descriptors as it may."""
    return (
        f"its limit of {limit()} open files is used up; close some, or raise the limit before its "
        "start (`ulimit -n 4096`)"
    )


class Spare:
    """A descriptor that is kept, to be lent where there is no other; call ``close`` at the end."""

    def __init__(self) -> None:
        self._kept: int | None = _open_any()

    @contextlib.contextmanager
    def lent(self) -> Generator[None]:
        """Have one more descriptor free while the block lasts, which is to close what it opens."""
        self.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # another thread took it: there is none to lend then
                self._kept = _open_any()

    def close(self) -> None:
        """Give it up; a second call does nothing."""
        kept, self._kept = self._kept, None
        if kept is not None:
            os.close(kept)


def _open_any() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
