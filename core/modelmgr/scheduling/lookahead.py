"""Which idle copies to lose now, given everybody who waits: a plan over the visible queue.

A copy is worth its next use only if it is still there by then, and what is lost for one waiting
ticket is no longer there for the next. So the waiting tickets are gone through as if they were
served one after another: a loaded model costs nothing, another one its load and the room for it.
Of all ways to make room, those that cost least are followed: what they reload for the tickets in
sight, less what the copies that are left at the end are expected to be worth.

Exact where few states are possible; else a beam of the best states, each followed by its cheapest
sets of victims, so that a decision is bounded however long the queue is (Ow & Morton, *Filtered
Beam Search in Scheduling*, International Journal of Production Research 26, 1988). Pure: no clock,
no randomness, ties by the order given.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

# States that are followed from one ticket to the next, ways to make room tried from each, and looks
# at one more victim for it: twice as many change the cost by less than a hundredth.
_STATES: Final = 6
_WAYS: Final = 6
_LOOKS: Final = 32
# Of all tickets together: bounds a decision.
_ALL_LOOKS: Final = 500


class Waiting(NamedTuple):
    """A model that is loaded, or that a ticket waits for.

    Attributes:
        tag: the model.
        resident_bytes: what a copy takes.
        needed_bytes: the room to load and run one.
        reload_ns: what a load takes.
    """

    tag: str
    resident_bytes: int
    needed_bytes: int
    reload_ns: int


class Ahead(NamedTuple):
    """What is in sight when room is needed on a device.

    Attributes:
        need_bytes: what has to be freed now.
        room_bytes: what all the device's copies could fill, were everything else gone.
        first: whom the room is for.
        others: the tickets that wait behind it and could be served on this device, in order.
        held: copies of the device that cannot go now, and may later.
        queued: how many tickets wait, in sight or not.
    """

    need_bytes: int
    room_bytes: int
    first: Waiting
    others: tuple[Waiting, ...]
    held: tuple[Waiting, ...]
    queued: int


class Idle(NamedTuple):
    """An idle copy that may go: its model, its size, its load, what keeping it is worth later.

    ``extra`` is one more copy of a model that has another: the tickets in sight use that one.
    """

    tag: str
    size_bytes: int
    reload_ns: int
    worth_ns: float
    extra: bool


# The copies that are loaded (a set of places, as a number's bits): what it cost to get there, what
# they fill, and which places were given up first.
_States = dict[int, tuple[float, int, tuple[int, ...]]]
# A set of victims: what they are worth, their places, their bytes.
_Way = tuple[float, tuple[int, ...], int]

_NOTHING: list[_Way] = [(0.0, (), 0)]


def first_victims(
    idle: Sequence[Idle], ahead: Ahead, worth_ns: Mapping[str, float], *, effort: int = 1
) -> tuple[int, ...]:
    """Return the places of the idle copies that the cheapest plan gives up first; () for no plan.

    Args:
        idle: the copies that may go.
        ahead: what is in sight.
        worth_ns: what a copy of each model that is held or waited for is worth after all that.
        effort: how many times as many states and ways to follow.
    """
    board = _Board(idle, ahead, worth_ns, effort)
    states: _States = {board.loaded: (0.0, board.used_bytes, ())}
    for number in range(1 + len(ahead.others)):
        values = board.values_ns(number)
        found = _served(board, ahead, number, states, values)
        if found:
            states = _best(found, values, _STATES * effort)
            if len({first for _, _, first in states.values()}) == 1:
                break  # whatever follows, these go first
        elif number == 0:
            return ()
        # Else nobody could make room for this one: it waits until somebody lets go.
    return next(iter(states.values()))[2]


def _served(
    board: _Board, ahead: Ahead, number: int, states: _States, values: Sequence[float]
) -> _States:
    """Return the states that serving one more ticket can lead to; the first one costs nothing."""
    ticket = ahead.others[number - 1] if number else ahead.first
    own = board.places[ticket.tag]
    bit, size, reload_ns = 1 << own, board.sizes[own], board.reloads_ns[own] if number else 0.0
    order = board.cheapest_bytes_first(values)
    found: _States = {}
    for loaded, (before_ns, used, first) in states.items():
        if loaded & bit:
            more, filled, cost_ns = ticket.needed_bytes - size, used, before_ns
        else:
            more, filled, cost_ns = ticket.needed_bytes, used + size, before_ns + reload_ns
        missing = used + more - ahead.room_bytes if number else ahead.need_bytes
        ways: list[_Way] = _NOTHING
        if missing > 0:
            free = loaded & ~bit if number else board.idle_bits
            ways = board.ways([place for place in order if free >> place & 1], values, missing)
        for _, chosen, freed in ways:
            left = loaded | bit
            for place in chosen:
                left &= ~(1 << place)
            known = found.get(left)
            if known is None or cost_ns < known[0]:
                found[left] = (cost_ns, filled - freed, first if number else chosen)
    return found


class _Board:
    """The copies that a plan moves, each at its place: the idle ones, then the others."""

    def __init__(
        self, idle: Sequence[Idle], ahead: Ahead, worth_ns: Mapping[str, float], effort: int
    ) -> None:
        self._effort = effort
        self._looks_left = _ALL_LOOKS * effort
        self.sizes = [copy.size_bytes for copy in idle]
        self.reloads_ns = [float(copy.reload_ns) for copy in idle]
        self._worth_ns = [copy.worth_ns for copy in idle]
        self.idle_bits = (1 << len(idle)) - 1
        # The place of the copy that each model's tickets use.
        self.places: dict[str, int] = {}
        for place, copy in enumerate(idle):
            if not copy.extra:
                self.places.setdefault(copy.tag, place)
        for model in ahead.held:
            self._add(model, worth_ns)
        self.loaded = (1 << len(self.sizes)) - 1
        self.used_bytes = sum(self.sizes)
        self._last_use: dict[int, int] = {}
        for number, model in enumerate((ahead.first, *ahead.others)):
            if model.tag not in self.places:
                self._add(model, worth_ns)
            self._last_use[self.places[model.tag]] = number

    def _add(self, model: Waiting, worth_ns: Mapping[str, float]) -> None:
        self.places.setdefault(model.tag, len(self.sizes))
        self.sizes.append(model.resident_bytes)
        self.reloads_ns.append(float(model.reload_ns))
        self._worth_ns.append(worth_ns.get(model.tag, 0.0))

    def values_ns(self, number: int) -> list[float]:
        """Return what each copy is worth after a ticket: its load where a later one wants it."""
        values = list(self._worth_ns)
        for place, last in self._last_use.items():
            if last > number:
                values[place] = self.reloads_ns[place]
        return values

    def cheapest_bytes_first(self, values: Sequence[float]) -> list[int]:
        """Return the places of all copies that fill something, by value per byte."""
        sizes = self.sizes
        return sorted(
            [place for place, size in enumerate(sizes) if size > 0],
            key=lambda place: values[place] / sizes[place],
        )

    def ways(self, can_go: Sequence[int], values: Sequence[float], need: int) -> list[_Way]:
        """Return the cheapest sets found that free enough and need all their members.

        Depth first, cheapest bytes first; the first set is the greedy one and always found.
        """
        sizes, count = self.sizes, _WAYS * self._effort
        looks = min(_LOOKS * self._effort, self._looks_left)
        # What those from each one on could free.
        rest = [0] * (len(can_go) + 1)
        for i in range(len(can_go) - 1, -1, -1):
            rest[i] = rest[i + 1] + sizes[can_go[i]]
        if rest[0] < need:
            return []
        found: dict[tuple[int, ...], _Way] = {}
        least: list[float] = []
        most = inf
        stack: list[tuple[int, int, float, tuple[int, ...]]] = [(0, need, 0.0, ())]
        spent = 0
        while stack and (spent < looks or not found):
            i, missing, value, chosen = stack.pop()
            if value >= most:
                continue
            spent += 1
            place = can_go[i]
            if rest[i + 1] >= missing:
                stack.append((i + 1, missing, value, chosen))
            taken, left, total = (*chosen, place), missing - sizes[place], value + values[place]
            if left > 0:
                stack.append((i + 1, left, total, taken))
                continue
            if left < 0 and chosen:
                taken, left = _needed(taken, sizes, left)
                total = sum([values[victim] for victim in taken])
            if total < most and taken not in found:
                found[taken] = (total, taken, need - left)
                insort(least, total)
                if len(least) >= count:
                    most = least[count - 1]
        self._looks_left -= spent
        return sorted(found.values())[:count]


def _needed(
    chosen: tuple[int, ...], sizes: Sequence[int], left: int
) -> tuple[tuple[int, ...], int]:
    """Leave out, the dearest bytes first, what the rest can do without; ``left`` is -spare."""
    kept = list(chosen)
    for place in reversed(chosen):
        if sizes[place] <= -left:
            kept.remove(place)
            left += sizes[place]
    return tuple(kept), left


def _best(found: _States, values: Sequence[float], count: int) -> _States:
    """Return the states to follow, the best first: by cost and the worth of what is not loaded."""
    anywhere = 0
    for loaded in found:
        anywhere |= loaded
    keys: list[tuple[float, int]] = []
    for loaded, state in found.items():
        key, missing = state[0], anywhere & ~loaded
        while missing:
            place = missing.bit_length() - 1
            key += values[place]
            missing ^= 1 << place
        keys.append((key, loaded))
    keys.sort()
    return {loaded: found[loaded] for _, loaded in keys[:count]}
