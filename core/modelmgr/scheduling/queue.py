"""Tickets and the order in which they are served.

A ticket is one request for one copy. Order is by ``(priority, ticket_num)``, lower first, FIFO
among equals; a ticket that was passed over ``max_bypass`` times goes before everything that has
not (oldest first): that is the ageing that keeps the fairness promise.

*Passed over*: a later ticket (a larger number, whatever its priority) is granted a load or a
released copy while this one waits. A hit on a copy that was idle anyway does not count. Yet a
stream of such hits can keep every copy in use at some moment and so keep a large request out for
ever; after ``HITS_PER_BYPASS * max_bypass`` of them a ticket goes before the others as well.

The queue decides nothing; it keeps order, counts, and answers who is first for which model.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from functools import total_ordering


@total_ordering
class QueueTicket:
    """One place in the queue, ordered by priority, then by number (lower is served first)."""

    __slots__ = ("priority", "tag", "ticket_num")

    def __init__(self, priority: int, ticket_num: int, tag: str) -> None:
        self.priority = priority
        self.ticket_num = ticket_num
        self.tag = tag

    def __lt__(self, other: QueueTicket) -> bool:
        return (self.priority, self.ticket_num) < (other.priority, other.ticket_num)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueueTicket):
            return NotImplemented
        return (self.priority, self.ticket_num, self.tag) == (
            other.priority,
            other.ticket_num,
            other.tag,
        )

    def __hash__(self) -> int:
        return hash((self.priority, self.ticket_num))

    def __repr__(self) -> str:
        return (
            f"QueueTicket(priority={self.priority}, ticket_num={self.ticket_num}, tag={self.tag!r})"
        )


class Ticket(QueueTicket):
    """A ticket as the scheduler keeps it.

    Attributes:
        submitted_ns: when it came.
        deadline_ns: when the wait ends, None for never.
        serial: the scheduler's event number at which it came.
        passed_over: how often a later ticket was served first.
        hits_before: how often a later ticket was given a copy that was idle anyway.
        worst_case_bytes: what an unknown model takes at most, where the caller knows.
        own_process: the copy's memory can be told apart from everybody else's.
        exclusive: wants its device drained, whatever the mode (a retry after out-of-memory).
        urgent: nobody may be served before it any more: it was passed over too often, or a device
            is being kept free for it.
        copy: the number of the copy that is being made for it, None while it waits.
        device: the device that is being drained for it, None otherwise.
        wake_ns: the last time at which it asked to be looked at again.
    """

    __slots__ = (
        "copy",
        "deadline_ns",
        "device",
        "exclusive",
        "hits_before",
        "own_process",
        "passed_over",
        "serial",
        "submitted_ns",
        "urgent",
        "wake_ns",
        "worst_case_bytes",
    )

    def __init__(
        self,
        priority: int,
        ticket_num: int,
        tag: str,
        *,
        submitted_ns: int,
        deadline_ns: int | None = None,
        serial: int = 0,
        worst_case_bytes: int | None = None,
        own_process: bool = False,
    ) -> None:
        super().__init__(priority, ticket_num, tag)
        self.submitted_ns = submitted_ns
        self.deadline_ns = deadline_ns
        self.serial = serial
        self.passed_over = 0
        self.hits_before = 0
        self.worst_case_bytes = worst_case_bytes
        self.own_process = own_process
        self.exclusive = False
        self.urgent = False
        self.wake_ns: int | None = None
        self.copy: int | None = None
        self.device: int | None = None


HITS_PER_BYPASS = 8


class TicketQueue:
    """The tickets that wait, by order and by model. Committed tickets are not in it."""

    __slots__ = ("_by_num", "_by_tag", "_max_bypass", "_nums", "_urgent")

    def __init__(self, max_bypass: int) -> None:
        self._max_bypass = max_bypass
        self._by_num: dict[int, Ticket] = {}
        self._by_tag: dict[str, list[Ticket]] = {}
        self._nums: list[int] = []
        self._urgent: list[int] = []

    def __len__(self) -> int:
        return len(self._by_num)

    def __contains__(self, ticket_num: int) -> bool:
        return ticket_num in self._by_num

    def get(self, ticket_num: int) -> Ticket | None:
        """Return the waiting ticket of that number."""
        return self._by_num.get(ticket_num)

    def push(self, ticket: Ticket) -> None:
        """Let a ticket wait; one that returns keeps its number and its count."""
        self._by_num[ticket.ticket_num] = ticket
        insort(self._by_tag.setdefault(ticket.tag, []), ticket)
        insort(self._nums, ticket.ticket_num)
        ticket.urgent = ticket.urgent or ticket.passed_over >= self._max_bypass
        if ticket.urgent:
            insort(self._urgent, ticket.ticket_num)

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out: it was served, or it ended."""
        del self._by_num[ticket.ticket_num]
        line = self._by_tag[ticket.tag]
        line.pop(bisect_left(line, ticket))
        if not line:
            del self._by_tag[ticket.tag]
        self._nums.pop(bisect_left(self._nums, ticket.ticket_num))
        if ticket.urgent:
            self._urgent.pop(bisect_left(self._urgent, ticket.ticket_num))

    def count_hit(self, served: Ticket, contends: Callable[[Ticket], bool]) -> None:
        """Note, against every older waiting ticket, a hit on a copy that was idle anyway."""
        for num in self._nums[: bisect_left(self._nums, served.ticket_num)]:
            ticket = self._by_num[num]
            if ticket.device is None and contends(ticket):
                ticket.hits_before += 1
                if ticket.hits_before >= HITS_PER_BYPASS * self._max_bypass:
                    self.make_urgent(ticket)

    def make_urgent(self, ticket: Ticket) -> None:
        """Let nobody be served before this ticket any more."""
        if not ticket.urgent:
            ticket.urgent = True
            insort(self._urgent, ticket.ticket_num)

    def urgent(self) -> tuple[Ticket, ...]:
        """Return the tickets before which nobody may be served any more, oldest first."""
        return tuple(self._by_num[num] for num in self._urgent)

    def count_passed_over(self, served: Ticket, contends: Callable[[Ticket], bool]) -> None:
        """Count one against every older waiting ticket that lost something to the one served.

        A ticket for which a device is already being kept free is being served and does not count.
        """
        for num in self._nums[: bisect_left(self._nums, served.ticket_num)]:
            ticket = self._by_num[num]
            if ticket.device is not None or not contends(ticket):
                continue
            ticket.passed_over += 1
            if ticket.passed_over >= self._max_bypass:
                self.make_urgent(ticket)

    def waiting(self, tag: str) -> int:
        """Return how many tickets wait for a model."""
        return len(self._by_tag.get(tag, ()))

    def first(self, tag: str) -> Ticket | None:
        """Return the ticket of a model that is served next, urgent ones before others."""
        line = self._by_tag.get(tag)
        if not line:
            return None
        if self._urgent:
            for num in self._urgent:
                if self._by_num[num].tag == tag:
                    return self._by_num[num]
        return line[0]

    def heads(self) -> list[Ticket]:
        """Return each model's next ticket, and its oldest, in the order of service."""
        urgent = {num: place for place, num in enumerate(self._urgent)}
        last = len(urgent)
        firsts: list[Ticket] = []
        for tag, line in self._by_tag.items():
            first = self.first(tag)
            # A newer ticket of higher priority may be barred where the oldest is not.
            oldest = min(line, key=lambda ticket: ticket.ticket_num)
            firsts.extend(dict.fromkeys(t for t in (first, oldest) if t is not None))
        firsts.sort(
            key=lambda ticket: (
                urgent.get(ticket.ticket_num, last),
                ticket.priority,
                ticket.ticket_num,
            )
        )
        return firsts

    def positions(self) -> dict[str, list[int]]:
        """Return, by model, the places (from 1) of its tickets in the order of service."""
        places: dict[str, list[int]] = {}
        for place, ticket in enumerate(self, start=1):
            places.setdefault(ticket.tag, []).append(place)
        return places

    def __iter__(self) -> Iterator[Ticket]:
        """Iterate in the order of service: urgent first, then by priority and number."""
        urgent = set(self._urgent)
        yield from (self._by_num[num] for num in self._urgent)
        for ticket in heapq.merge(*self._by_tag.values()):
            if ticket.ticket_num not in urgent:
                yield ticket

    def check_valid(self) -> None:
        """Raise AssertionError where the indices disagree."""
        assert self._nums == sorted(self._by_num)  # noqa: S101 - this is the check
        lines = sorted(t.ticket_num for line in self._by_tag.values() for t in line)
        assert lines == self._nums, "a ticket is missing from its model's line"  # noqa: S101
        late = [n for n in self._nums if self._by_num[n].urgent]
        assert late == self._urgent, "the urgent are not known"  # noqa: S101
        starving = [n for n in self._nums if self._by_num[n].passed_over >= self._max_bypass]
        assert set(starving) <= set(late), "a starving ticket is not urgent"  # noqa: S101
