"""Other users: root can become one, and who is not root has fewer privileges anyway."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

NOBODY = 65534


@contextmanager
def without_privileges() -> Generator[None]:
    """Root may read and write everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def another_owner() -> tuple[int, int]:
    """Return a user and a group whom this process may give a file to, others than a new file's.

    Root may give it to anybody, others to each group of theirs; to their own where it is the only.
    """
    if os.geteuid() == 0:
        return NOBODY, NOBODY
    return os.geteuid(), next(
        (group for group in os.getgroups() if group != os.getegid()), os.getegid()
    )
