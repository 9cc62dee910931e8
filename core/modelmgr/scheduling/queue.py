"""Tickets and the order in which they are served.

A ticket is one request for one copy. Order is by ``(priority, ticket_num)``, lower first, FIFO
among equals; a ticket that was passed over ``max_bypass`` times is *urgent* and goes before
everything that is not (oldest first): that is the ageing that keeps the fairness promise.

*Passed over*: a later ticket (a larger number, whatever its priority) is granted a load or a
released copy while this one waits. A hit on a copy that was idle anyway does not count. Yet a
stream of such hits can keep every copy in use at some moment and so keep a large request out for
ever; after ``HITS_PER_BYPASS * max_bypass`` of them the oldest ticket of a model becomes urgent as
well.

Whatever passes over one ticket of a model passes over all its older ones too. So each model's line
keeps one sorted list of the numbers that passed it, and a ticket's count is how many of them are
larger than its own: an event costs as much with ten thousand tickets waiting as with ten.

The queue decides nothing; it keeps order, counts, and answers who is first for which model.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Final


class QueueTicket:
    """One place in the queue, ordered by priority, then by number (lower is served first)."""

    __slots__ = ("priority", "tag", "ticket_num")

    def __init__(self, priority: int, ticket_num: int, tag: str) -> None:
        self.priority = priority
        self.ticket_num = ticket_num
        self.tag = tag

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, QueueTicket):
            return NotImplemented
        return (self.priority, self.ticket_num) < (other.priority, other.ticket_num)

    def __le__(self, other: object) -> bool:
        if not isinstance(other, QueueTicket):
            return NotImplemented
        return (self.priority, self.ticket_num) <= (other.priority, other.ticket_num)

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, QueueTicket):
            return NotImplemented
        return (self.priority, self.ticket_num) > (other.priority, other.ticket_num)

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, QueueTicket):
            return NotImplemented
        return (self.priority, self.ticket_num) >= (other.priority, other.ticket_num)

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
        passed_over: how often a later ticket was served first, up to when it last stopped being
            counted (``TicketQueue.passed_over`` says how often up to now).
        worst_case_bytes: what an unknown model takes at most, where the caller knows.
        own_process: the copy's memory can be told apart from everybody else's.
        exclusive: wants its device drained, whatever the mode (a retry after out-of-memory).
        fresh: wants a copy that is loaded for it and none that is there (a retry after running out
            of memory in use).
        urgent: nobody may be served before it any more: it was passed over too often, a device is
            being kept free for it, or it is exclusive.
        copy: the number of the copy that is being made for it, None while it waits.
        device: the device that is being drained for it, None otherwise.
        wake_ns: the last time at which it asked to be looked at again.
        wake_pays: one more copy was worth its load when it asked.
        looked_at: its model's count of changes when it was last looked at in vain.
        will_clear: it has asked to be looked at when its last resort is open to it.
        clears: the plan that is under way for it suffices only if its victims hold more than they
            are charged.
    """

    __slots__ = (
        "clears",
        "copy",
        "deadline_ns",
        "device",
        "exclusive",
        "fresh",
        "looked_at",
        "own_process",
        "passed_over",
        "serial",
        "submitted_ns",
        "urgent",
        "wake_ns",
        "wake_pays",
        "will_clear",
        "worst_case_bytes",
    )

    def __init__(  # noqa: PLR0917 - made for every request: keywords cost a third of it
        self,
        priority: int,
        ticket_num: int,
        tag: str,
        submitted_ns: int,
        deadline_ns: int | None = None,
        serial: int = 0,
        worst_case_bytes: int | None = None,
        own_process: bool = False,
    ) -> None:
        self.priority = priority
        self.ticket_num = ticket_num
        self.tag = tag
        self.submitted_ns = submitted_ns
        self.deadline_ns = deadline_ns
        self.serial = serial
        self.passed_over = 0
        self.worst_case_bytes = worst_case_bytes
        self.own_process = own_process
        self.exclusive = False
        self.fresh = False
        self.urgent = False
        self.wake_ns: int | None = None
        self.wake_pays = False
        self.looked_at = -1
        self.clears = False
        self.will_clear = False
        self.copy: int | None = None
        self.device: int | None = None


HITS_PER_BYPASS: Final = 8
# Final: compiled, a name of another module is looked up every time.
_place: Final = bisect.bisect_left
_after: Final = bisect.bisect_right
_insert: Final = bisect.insort
# How many spent entries may be kept before they are dropped.
_SPENT: Final = 64
# (0, 0, number) of an urgent ticket, (1, priority, number) of another: sorts as they are served.
_Key = tuple[int, int, int]


def _key(ticket: Ticket) -> _Key:
    return (0, 0, ticket.ticket_num) if ticket.urgent else (1, ticket.priority, ticket.ticket_num)


class _Order:
    """Sorted keys. Who comes and goes near either end moves few of the others, however many."""

    __slots__ = ("_first", "_keys")

    def __init__(self) -> None:
        self._keys: list[_Key] = []
        # What is before is spent.
        self._first = 0

    def add(self, key: _Key) -> None:
        """Put a key in its place."""
        keys, first = self._keys, self._first
        place = _after(keys, key, first)
        if first and place - first < len(keys) - place:
            keys[first - 1 : place - 1] = keys[first:place]
            keys[place - 1] = key
            self._first = first - 1
        else:
            keys.insert(place, key)

    def drop(self, key: _Key) -> None:
        """Take a key out."""
        keys, first = self._keys, self._first
        place = _place(keys, key, first)
        if place - first >= len(keys) - place:
            keys.pop(place)
            return
        keys[first + 1 : place + 1] = keys[first:place]
        self._first = first = first + 1
        if 2 * first > len(keys) and first > _SPENT:
            del keys[:first]
            self._first = 0

    def place(self, key: _Key) -> int:
        """Return a key's place, from 0."""
        return _place(self._keys, key, self._first) - self._first

    def soonest(self, count: int) -> list[_Key]:
        """Return the first keys, at most so many."""
        return self._keys[self._first : self._first + count]

    def all(self) -> list[_Key]:
        """Return every key, in order."""
        return self._keys[self._first :]


class _Line:
    """One model's waiting tickets.

    Attributes:
        keys: of all of them, in the order of service.
        shown: the keys of those that are heads.
        calm: the numbers of those that are not urgent, ascending.
        urgent: the numbers of those that are, ascending, but for those that want a drained device.
        exclusive: the numbers of these.
        passed: the numbers of tickets that were served before one of these, ascending.
        hits: how many copies that were idle anyway went past the oldest calm one.
        returned: of calm tickets that wait for a second time, what to add to their count.
    """

    __slots__ = ("calm", "exclusive", "hits", "keys", "passed", "returned", "shown", "urgent")

    def __init__(self) -> None:
        self.keys: list[_Key] = []
        self.shown: list[_Key] = []
        self.calm: list[int] = []
        self.urgent: list[int] = []
        self.exclusive: list[int] = []
        self.passed: list[int] = []
        self.hits = 0
        self.returned: dict[int, int] = {}

    def count(self, num: int) -> int:
        """Return how often a calm ticket was passed over."""
        count = len(self.passed) - _after(self.passed, num)
        return count + self.returned[num] if num in self.returned else count


class TicketQueue:
    """The tickets that wait, by order and by model. Committed tickets are not in it.

    Attributes:
        tickets: all of them by number, to look at.
    """

    __slots__ = (
        "_by_num",
        "_head_keys",
        "_heads",
        "_kept",
        "_keys",
        "_lines",
        "_max_bypass",
        "_urgent",
        "tickets",
    )

    def __init__(self, max_bypass: int) -> None:
        self._max_bypass = max_bypass
        self._by_num: dict[int, Ticket] = {}
        self.tickets: Mapping[int, Ticket] = self._by_num
        self._lines: dict[str, _Line] = {}
        # Those of models for which nobody waits, for the next who does: a line is seven lists.
        self._kept: dict[str, _Line] = {}
        self._keys = _Order()
        self._urgent: list[int] = []
        self._head_keys: list[_Key] = []
        self._heads: list[Ticket] | None = None

    def __len__(self) -> int:
        return len(self._by_num)

    def __contains__(self, ticket_num: int) -> bool:
        return ticket_num in self._by_num

    def get(self, ticket_num: int) -> Ticket | None:
        """Return the waiting ticket of that number."""
        return self._by_num.get(ticket_num)

    # Coming and going ------------------------------------------------------------------------

    def push(self, ticket: Ticket) -> None:
        """Let a ticket wait; one that returns keeps its number and its count."""
        num = ticket.ticket_num
        self._by_num[num] = ticket
        line = self._lines.get(ticket.tag)
        if line is None:
            kept = self._kept
            line = kept.pop(ticket.tag) if ticket.tag in kept else _Line()
            self._lines[ticket.tag] = line
        if ticket.passed_over >= self._max_bypass or ticket.exclusive:
            ticket.urgent = True
        if ticket.urgent:
            _insert(self._urgent, num)
            _insert(line.exclusive if ticket.exclusive else line.urgent, num)
        else:
            _insert(line.calm, num)
            if line.passed:
                before = ticket.passed_over - line.count(num)
                if before:
                    line.returned[num] = before
            elif ticket.passed_over:
                line.returned[num] = ticket.passed_over
        key = _key(ticket)
        _insert(line.keys, key)
        self._keys.add(key)
        self._show(line)

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out: it was served, or it ended."""
        num, tag = ticket.ticket_num, ticket.tag
        del self._by_num[num]
        line = self._lines[tag]
        key = _key(ticket)
        if ticket.urgent:
            late = line.exclusive if ticket.exclusive else line.urgent
            late.pop(_place(late, num))
            self._urgent.pop(_place(self._urgent, num))
        else:
            self._freeze(ticket, line)
        line.keys.pop(_place(line.keys, key))
        self._keys.drop(key)
        self._show(line)
        if not line.keys:
            line.passed.clear()
            line.hits = 0
            self._kept[tag] = self._lines.pop(tag)

    def make_urgent(self, ticket: Ticket) -> None:
        """Let nobody be served before this ticket any more."""
        if ticket.urgent:
            return
        line = self._lines[ticket.tag]
        self._freeze(ticket, line)
        before = _key(ticket)
        ticket.urgent = True
        _insert(self._urgent, ticket.ticket_num)
        _insert(line.exclusive if ticket.exclusive else line.urgent, ticket.ticket_num)
        after = _key(ticket)
        line.keys.pop(_place(line.keys, before))
        _insert(line.keys, after)
        self._keys.drop(before)
        self._keys.add(after)
        self._show(line)

    def _show(self, line: _Line) -> None:
        """Keep up which tickets of a line are heads."""
        keys, calm, shown = line.keys, line.calm, line.shown
        if len(shown) == 1 and keys and keys[0] == shown[0] and not (calm and calm[0] < keys[0][2]):
            return  # as nearly always
        heads = self._heads_of(line)
        if heads == line.shown:
            return
        for key in line.shown:
            self._head_keys.pop(_place(self._head_keys, key))
        for key in heads:
            _insert(self._head_keys, key)
        line.shown = heads
        self._heads = None

    def _freeze(self, ticket: Ticket, line: _Line) -> None:
        """End a calm ticket's counting; what was counted stays with it."""
        num = ticket.ticket_num
        ticket.passed_over = line.count(num)
        line.returned.pop(num, None)
        place = _place(line.calm, num)
        line.calm.pop(place)
        if place == 0:
            line.hits = 0

    def _heads_of(self, line: _Line) -> list[_Key]:
        """Return the keys of a line's next ticket and of its oldest, if that is another one."""
        heads = line.keys[:1]
        # A newer ticket of higher priority may be barred where the oldest is not.
        if line.calm and line.calm[0] < line.keys[0][2]:
            heads.append(_key(self._by_num[line.calm[0]]))
        return heads

    # Counting --------------------------------------------------------------------------------

    def older_tags(self, ticket_num: int) -> list[str]:
        """Return the models for which somebody waits who came before that number and is calm."""
        return [tag for tag, line in self._lines.items() if line.calm and line.calm[0] < ticket_num]

    def count_passed_over(self, tag: str, served_num: int) -> None:
        """Count one against a model's calm tickets that came before the one that was served.

        A ticket for which a device is already being kept free is urgent, and so is being served.
        """
        line = self._lines[tag]
        _insert(line.passed, served_num)
        # Nobody's count is above an older one's, but for those that were away for a while.
        while line.calm and line.count(line.calm[0]) >= self._max_bypass:
            self.make_urgent(self._by_num[line.calm[0]])
        if line.returned:
            for num in [n for n in line.calm if line.count(n) >= self._max_bypass]:
                self.make_urgent(self._by_num[num])
        if not line.calm:
            line.passed.clear()
        elif len(line.passed) > _SPENT:
            del line.passed[: _after(line.passed, line.calm[0])]

    def count_hit(self, tag: str) -> None:
        """Count a copy that was idle anyway and went past a model's oldest calm ticket."""
        line = self._lines[tag]
        line.hits += 1
        if line.hits >= HITS_PER_BYPASS * self._max_bypass:
            self.make_urgent(self._by_num[line.calm[0]])

    def passed_over(self, ticket: Ticket) -> int:
        """Return how often a ticket was passed over, up to now."""
        if ticket.urgent or ticket.ticket_num not in self._by_num:
            return ticket.passed_over
        return self._lines[ticket.tag].count(ticket.ticket_num)

    # Questions -------------------------------------------------------------------------------

    def urgent(self) -> Iterator[Ticket]:
        """Iterate the tickets before which nobody may be served any more, oldest first."""
        return map(self._by_num.__getitem__, self._urgent)

    def starving(self, before: int) -> list[Ticket]:
        """Return who of those that came before a number is urgent and has no device kept for it.

        Of each model the oldest will do, and the oldest that wants a drained device: what could be
        given to another one could be given to it.
        """
        if not self._urgent or self._urgent[0] >= before:
            return []
        found: list[Ticket] = []
        for line in self._lines.values():
            for late in (line.urgent, line.exclusive):
                for num in late:
                    if num >= before:
                        break
                    ticket = self._by_num[num]
                    if ticket.device is None:
                        found.append(ticket)
                        break
        return found

    def waiting(self, tag: str) -> int:
        """Return how many tickets wait for a model."""
        line = self._lines.get(tag)
        return 0 if line is None else len(line.keys)

    def first(self, tag: str) -> Ticket | None:
        """Return the ticket of a model that is served next, urgent ones before others."""
        line = self._lines.get(tag)
        return None if line is None else self._by_num[line.keys[0][2]]

    def oldest(self, tag: str) -> Ticket | None:
        """Return who of a model came first, those that want a drained device left out."""
        line = self._lines.get(tag)
        if line is None:
            return None
        calm, urgent = line.calm, line.urgent
        if calm and (not urgent or calm[0] < urgent[0]):
            return self._by_num[calm[0]]
        return self._by_num[urgent[0]] if urgent else None

    def soonest(self, count: int) -> list[Ticket]:
        """Return the first tickets, at most ``count``, in the order of service."""
        return [self._by_num[key[2]] for key in self._keys.soonest(count)]

    def heads(self) -> list[Ticket]:
        """Return each model's next ticket, and its oldest, in the order of service."""
        heads = self._heads
        if heads is None:
            by_num = self._by_num
            heads = self._heads = [by_num[key[2]] for key in self._head_keys]
        return heads

    def place(self, tag: str, rank: int) -> int | None:
        """Return the place (from 1) in the whole order of a model's ``rank``-th ticket (from 1)."""
        line = self._lines.get(tag)
        if line is None or rank > len(line.keys):
            return None
        return self._keys.place(line.keys[rank - 1]) + 1

    def __iter__(self) -> Iterator[Ticket]:
        """Iterate in the order of service: urgent first, then by priority and number."""
        return iter([self._by_num[key[2]] for key in self._keys.all()])

    def check_valid(self) -> None:
        """Raise AssertionError where the indices disagree."""
        keys = sorted(_key(ticket) for ticket in self._by_num.values())
        assert keys == self._keys.all(), "the order is not the tickets'"  # noqa: S101 - this is the check
        lines = sorted(key for line in self._lines.values() for key in line.keys)
        assert lines == keys, "a ticket is missing from its model's line"  # noqa: S101
        shown = sorted(key for line in self._lines.values() for key in line.shown)
        assert shown == self._head_keys, "the heads are not the lines'"  # noqa: S101
        late = sorted(num for num, ticket in self._by_num.items() if ticket.urgent)
        assert late == self._urgent, "the urgent are not known"  # noqa: S101
        for tag, line in self._lines.items():
            calm = sorted(t.ticket_num for t in self._by_num.values() if t.tag == tag)
            calm = [num for num in calm if not self._by_num[num].urgent]
            assert line.keys == sorted(line.keys), "a line is not in order"  # noqa: S101
            assert line.calm == calm, "who is calm is not known"  # noqa: S101
            assert line.shown == self._heads_of(line), "a line shows others than its heads"  # noqa: S101
            urgent = [key[2] for key in line.keys if self._by_num[key[2]].urgent]
            assert sorted(line.urgent + line.exclusive) == urgent, "a line lost its urgent"  # noqa: S101
            assert all(self._by_num[num].exclusive for num in line.exclusive), "not exclusive"  # noqa: S101
            assert set(line.returned) <= set(calm), "counted for nobody"  # noqa: S101
            starving = [num for num in calm if line.count(num) >= self._max_bypass]
            assert not starving, "a starving ticket is not urgent"  # noqa: S101
