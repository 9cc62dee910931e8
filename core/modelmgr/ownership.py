"""Which process something is of: a forked child has a copy of it, and leaves it to its parent.

Owns the question and the words of the refusal. Imports nothing of ours but errors.
"""

from __future__ import annotations

import os

from modelmgr.errors import UsageError


class Owner:
    """The process that makes this object.

    Attributes:
        pid: its number.
    """

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is that process, and no forked child of it."""
        return os.getpid() == self.pid

    def told(self, what: str) -> str:
        """Return the words for a child: whose it is, and who asks."""
        return f"{what} belongs to process {self.pid}, and this is its child {os.getpid()}"

    def check(self, what: str, advice: str) -> None:
        """Raise UsageError in a forked child, with what to do there instead."""
        if not self.is_here:
            raise UsageError(f"{self.told(what)}: {advice}")
