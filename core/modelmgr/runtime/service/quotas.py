"""How many connections a server takes: in all, of one client, and of one process."""

from __future__ import annotations

from dataclasses import dataclass

from modelmgr.errors import UsageError
from modelmgr.runtime.service import descriptors

MOST = 1024
"""What a server takes where it has descriptors enough."""
_LEAST_FOR_CLIENT = 5
_SHARE_OF_CLIENT = 8  # one of so many


@dataclass(frozen=True, slots=True)
class Quotas:
    """What is not to be exceeded.

    Attributes:
        in_all: of all clients together.
        of_client: one that stands for it, others to ask on.
        of_process: of all clients that one process made.
    """

    in_all: int
    of_client: int
    of_process: int

    @classmethod
    def choose(cls, in_all: int | None, of_client: int | None, of_process: int | None) -> Quotas:
        """Return what was given, and for None what this process's limit of open files allows.

        Raises:
            UsageError: they contradict each other, or there are too few descriptors for them.
        """
        affordable = descriptors.affordable_connections()
        if in_all is None:
            in_all = min(MOST, max(affordable, _LEAST_FOR_CLIENT))
        if of_client is None:
            of_client = max(_LEAST_FOR_CLIENT, in_all // _SHARE_OF_CLIENT)
        if of_process is None:
            of_process = 2 * of_client
        if of_process < of_client:
            raise UsageError(
                f"{of_process} connections for a process, {of_client} for a client: a process may "
                "be one client at least"
            )
        if not _LEAST_FOR_CLIENT <= of_client <= in_all:
            raise UsageError(
                f"{in_all} connections, {of_client} for a client: a client needs five, and all "
                "together no fewer than one"
            )
        if in_all > affordable:
            raise UsageError(
                f"{in_all} connections need {descriptors.PER_CONNECTION} open files each, beside "
                f"{descriptors.RESERVED} for models and the rest: this process's limit of "
                f"{descriptors.limit()} has room for {affordable} connections beside what it has "
                "open; raise it (`ulimit -n 4096`)"
            )
        return cls(in_all, of_client, of_process)
