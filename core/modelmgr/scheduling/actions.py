"""What the scheduler answers: orders to its driver, as plain immutable values.

Every action has an ``action_id``; the completion of a load or an unload names the copy it answers.
A decision log is the sequence of these values in order, so their fields hold nothing that depends
on the machine.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Refusal(enum.Enum):
    """Why a ticket ended without a grant."""

    DOES_NOT_FIT = "does-not-fit"
    TIMED_OUT = "timed-out"
    CANCELLED = "cancelled"
    CLOSED = "closed"
    LOAD_FAILED = "load-failed"


class Grant(NamedTuple):
    """The ticket has the copy from now on; ``lease`` fences its release."""

    action_id: int
    ticket_num: int
    tag: str
    copy: int
    device: int
    lease: int
    hit: bool


class StartLoad(NamedTuple):
    """Load a model on a device; answer with ``load_finished`` or ``load_failed``."""

    action_id: int
    ticket_num: int
    tag: str
    copy: int
    device: int
    reserved_bytes: int
    isolated: bool


class Candidate(NamedTuple):
    """An idle copy that could have gone; ``value`` is what the policy says that losing it costs."""

    tag: str
    copy: int
    value: float
    size_bytes: int


class StartUnload(NamedTuple):
    """Unload a copy; answer with ``unload_finished``.

    Attributes:
        reason: ``make-room``, ``isolation``, ``reset``, ``shutdown`` or ``holder-lost``.
        requested_by: the tag that needed the room, None where nobody did.
        freed_bytes: what the ledger gets back once it is gone.
        candidates: what the policy could choose from; empty where there was no choice.
        chosen: the whole chosen set, copy numbers.
        instead: what other policies would have taken, as ``(policy, copy numbers)``; explanation
            only, no decision follows from it.
    """

    action_id: int
    tag: str
    copy: int
    device: int
    reason: str
    requested_by: str | None
    freed_bytes: int
    candidates: tuple[Candidate, ...] = ()
    chosen: tuple[int, ...] = ()
    instead: tuple[tuple[str, tuple[int, ...]], ...] = ()


class Reject(NamedTuple):
    """The ticket ended without a copy."""

    action_id: int
    ticket_num: int
    tag: str
    refusal: Refusal
    message: str


Action = Grant | StartLoad | StartUnload | Reject
