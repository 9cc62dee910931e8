"""What a forked child may do with its parent's managers: nothing, and nothing by mistake.

A child has a copy of every object and none of the threads. Its copy of a manager would wait for
threads that are not there, and unload what its parent has in use. So in a child every manager of
the parent's is taken out of service at once, before any other line of Python runs there.
"""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import NoReturn, Protocol

from modelmgr.errors import UsageError
from modelmgr.ownership import Owner


class OfOneProcess(Protocol):
    """What is of use only in the process that made it."""

    def leave_to_parent(self) -> None:
        """Go out of service; called in a child, where no lock may be waited for."""
        ...


class ParentsLock:
    """Stands for a lock that another thread may have held at the fork: nobody gets in.

    Args:
        owner: the process that it belongs to, which this is not.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def __enter__(self) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(
            f"{self._owner.told('this manager')}: make one here, or share one between processes "
            "with `modelmgr serve`"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: nobody was in."""


_KNOWN: weakref.WeakSet[OfOneProcess] = weakref.WeakSet()


def leave_to_parent_at_fork(kept: OfOneProcess) -> None:
    """See to it that an object goes out of service in every child of this process."""
    _KNOWN.add(kept)


def _after_fork_in_child() -> None:
    for kept in list(_KNOWN):
        kept.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)
