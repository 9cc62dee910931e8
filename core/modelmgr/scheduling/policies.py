"""Which idle copies go when room is needed: one protocol, four policies.

A policy is told what happens (``used``, ``evicted``) and, when room is needed, is shown every idle
copy that may go. It answers with the value that losing each would cost and with the chosen set. It
cannot break a promise: it sees no copy that is held, pinned or above a floor, and the scheduler
takes the answer only if it suffices.

* ``lru``: least recently used first, until enough is free. With one device, no service time, equal
  load costs and one copy a model this is a textbook size-aware LRU cache.
* ``gdsf``: GreedyDual-Size with frequency (Cherkasova, *Improving WWW Proxies Performance with
  Greedy-Dual-Size-Frequency Caching Policy*, HPL-98-69): value = L + frequency · cost / size.
* ``demand-tiers``: queued demand weighs most, then the tiers (surplus before last, cold before
  warm), then age: the order that Apache Beam's manager uses. Needless victims are left out after.
* ``queue-value``: reload cost * (1 + 1/position) where the visible queue wants the copy, else
  reload cost * the chance that enough requests come within the horizon, from a decayed arrival
  rate; the horizon follows how long copies stand idle until they are evicted. Where
  others that wait need room as well, ``lookahead`` plans for all of them. The victims are the exact
  cheapest covering set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from modelmgr.errors import UsageError
from modelmgr.scheduling.copies import Copy
from modelmgr.scheduling.covering import (
    affordable,
    by_value,
    cheapest_cover,
    first_that_suffice,
    lightest,
    without_needless,
)
from modelmgr.scheduling.lookahead import Ahead, Idle, first_victims


class IdleCopy(NamedTuple):
    """What a policy may know of a copy that could go.

    Attributes:
        copy: its number.
        tag: its model.
        device: the device's number.
        size_bytes: what the ledger would get back.
        last_used_ns: when it was last released (or loaded).
        use_serial: orders uses that fell into one moment; larger is later.
        reload_ns: what loading it again would take.
        surplus: the model has more copies than its floor.
        cold: unused for longer than the cooldown.
        rank: 1 for the model's most recently used copy, 2 for the next: the r-th copy is of use
            only to the r-th request at once.
        copies: how many copies the model has.
        queued: how many tickets wait for the model.
        place: the place in the queue (from 1) of the ticket that would get this copy: the
            ``rank``-th of its model; None where fewer wait.
        ahead: who else waits, the same for all candidates; None where nobody does.
    """

    copy: int
    tag: str
    device: int
    size_bytes: int
    last_used_ns: int
    use_serial: int
    reload_ns: int
    surplus: bool
    cold: bool
    rank: int
    copies: int
    queued: int
    place: int | None
    ahead: Ahead | None = None


class EvictionPolicy(Protocol):
    """Chooses victims. Deterministic: no clock, no randomness, ties by the order it is given."""

    @property
    def name(self) -> str:
        """As ``policy=`` has it."""
        ...

    def requested(self, tag: str, now_ns: int) -> None:
        """A request came."""
        ...

    def used(self, copy: int, tag: str, device: int) -> None:
        """A copy was granted."""
        ...

    def evicted(self, copy: IdleCopy, now_ns: int) -> None:
        """A copy was evicted by this policy's choice."""
        ...

    def values(self, candidates: Sequence[IdleCopy], now_ns: int) -> list[float]:
        """Return what losing each candidate costs, in the policy's own measure."""
        ...

    def choose(
        self, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
    ) -> tuple[int, ...] | None:
        """Return the indices of the victims in order, None where no set suffices.

        ``values`` is what ``values()`` has just answered for the same candidates.
        """
        ...


def _age(copy: IdleCopy) -> tuple[int, int, int]:
    """Order by last use, the oldest first."""
    return copy.last_used_ns, copy.use_serial, copy.copy


def _tie(copy: IdleCopy) -> tuple[bool, bool, tuple[int, int, int]]:
    """Among equals: surplus before last, cold before warm, then the oldest."""
    return not copy.surplus, not copy.cold, _age(copy)


def _last_needed(sizes: Sequence[int], values: Sequence[float], need: int) -> float:
    """Return the value of the last of the least valuable that suffice, infinity where none do."""
    return (by_value(sizes, values, need) or [math.inf])[-1]


class Lru:
    """Least recently used first."""

    name = "lru"

    def requested(self, tag: str, now_ns: int) -> None:
        """Recency is kept by the copies themselves."""

    def used(self, copy: int, tag: str, device: int) -> None:
        """Recency is kept by the copies themselves."""

    def evicted(self, copy: IdleCopy, now_ns: int) -> None:
        """Nothing is remembered of the evicted."""

    def floor(self, copy: Copy) -> tuple[int, float]:
        """Return the time of last use."""
        return 0, float(copy.last_used_ns)

    def least_value(self, kind: int, floor: float, now_ns: int) -> float:  # noqa: ARG002 - protocol
        """Return the floor: it is the value."""
        return floor

    def dearest(self, sizes: Sequence[int], values: Sequence[float], need: int) -> float:
        """Return the latest use among the oldest that suffice."""
        return _last_needed(sizes, values, need)

    def values(self, candidates: Sequence[IdleCopy], now_ns: int) -> list[float]:  # noqa: ARG002 - protocol
        """Return the time of last use, nanoseconds."""
        return [float(copy.last_used_ns) for copy in candidates]

    def choose(
        self,
        candidates: Sequence[IdleCopy],
        values: Sequence[float],  # noqa: ARG002 - protocol
        need_bytes: int,
    ) -> tuple[int, ...] | None:
        """Take the oldest until enough is free."""
        order = sorted(range(len(candidates)), key=lambda i: _age(candidates[i]))
        prefix = first_that_suffice([candidates[i].size_bytes for i in order], need_bytes)
        return None if prefix is None else tuple(order[i] for i in prefix)


class Gdsf:
    """GreedyDual-Size with frequency."""

    name = "gdsf"

    def __init__(self) -> None:
        self._inflation: dict[int, float] = {}
        self._base: dict[int, float] = {}
        self._frequency: dict[str, int] = {}

    def requested(self, tag: str, now_ns: int) -> None:
        """Frequency is counted by use."""

    def used(self, copy: int, tag: str, device: int) -> None:
        """Count the use and put the copy on top of its device's inflation."""
        self._frequency[tag] = self._frequency.get(tag, 0) + 1
        self._base[copy] = self._inflation.get(device, 0.0)

    def evicted(self, copy: IdleCopy, now_ns: int) -> None:  # noqa: ARG002 - protocol
        """Raise the inflation to the victim's value; frequency starts again."""
        value = self._value(copy)
        self._inflation[copy.device] = max(self._inflation.get(copy.device, 0.0), value)
        self._base.pop(copy.copy, None)
        if copy.copies <= 1:
            self._frequency.pop(copy.tag, None)

    def _value(self, copy: IdleCopy) -> float:
        return self._worth(copy.copy, copy.tag, copy.reload_ns, copy.size_bytes)

    def _worth(self, copy: int, tag: str, reload_ns: int, size_bytes: int) -> float:
        frequency = self._frequency.get(tag, 1)
        return self._base.get(copy, 0.0) + frequency * reload_ns / max(1, size_bytes)

    def floor(self, copy: Copy) -> tuple[int, float]:
        """Return the value that it has at its largest: before its load is seen to have settled."""
        costs = copy.model.costs
        size_bytes = max(copy.reserved_bytes, 0 if costs is None else costs.resident_bytes)
        return 0, self._worth(copy.number, copy.tag, copy.model.reload_ns, size_bytes)

    def least_value(self, kind: int, floor: float, now_ns: int) -> float:  # noqa: ARG002 - protocol
        """Return the floor: it is the value, or was."""
        return floor

    def dearest(self, sizes: Sequence[int], values: Sequence[float], need: int) -> float:
        """Return the most valuable of the least valuable that suffice."""
        return _last_needed(sizes, values, need)

    def values(self, candidates: Sequence[IdleCopy], now_ns: int) -> list[float]:  # noqa: ARG002 - protocol
        """Return L + frequency · reload time / size."""
        return [self._value(copy) for copy in candidates]

    def choose(
        self, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
    ) -> tuple[int, ...] | None:
        """Take the least valuable until enough is free."""
        order = sorted(range(len(candidates)), key=lambda i: (values[i], _tie(candidates[i])))
        prefix = first_that_suffice([candidates[i].size_bytes for i in order], need_bytes)
        return None if prefix is None else tuple(order[i] for i in prefix)


class DemandTiers:
    """Queued demand first, then tiers by cooldown and floor, then age."""

    name = "demand-tiers"
    _PER_DEMAND = 10.0

    def requested(self, tag: str, now_ns: int) -> None:
        """Demand is read from the queue."""

    def used(self, copy: int, tag: str, device: int) -> None:
        """Recency is kept by the copies themselves."""

    def evicted(self, copy: IdleCopy, now_ns: int) -> None:
        """Nothing is remembered of the evicted."""

    def values(self, candidates: Sequence[IdleCopy], now_ns: int) -> list[float]:  # noqa: ARG002 - protocol
        """Return ten for each queued ticket plus the tier: 0 surplus and cold, 3 last and warm."""
        return [
            self._PER_DEMAND * copy.queued + 2 * (not copy.surplus) + (not copy.cold)
            for copy in candidates
        ]

    def choose(
        self, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
    ) -> tuple[int, ...] | None:
        """Take by value, then age, until enough is free; leave out what was needless."""
        order = sorted(range(len(candidates)), key=lambda i: (values[i], _age(candidates[i])))
        sizes = [candidates[i].size_bytes for i in order]
        prefix = first_that_suffice(sizes, need_bytes)
        if prefix is None:
            return None
        return tuple(order[i] for i in without_needless(sizes, prefix, need_bytes))


class _Rate:
    """A model's decayed count of arrivals, as it was at its last one."""

    __slots__ = ("at_ns", "weight")

    def __init__(self, at_ns: int) -> None:
        self.weight = 1.0
        self.at_ns = at_ns


class QueueValue:
    """The value of a copy to the visible queue and to the expected arrivals."""

    name = "queue-value"
    # Arrivals are forgotten with this time constant.
    _DECAY_NS = 600_000_000_000
    # The horizon over which a copy may be wanted again is a quarter of how long copies stand idle
    # until they are evicted: what is wanted later than that would have been evicted for something
    # else by then (the characteristic time of Che et al., *Hierarchical Web Caching Systems*, IEEE
    # JSAC 20, 2002). Much longer, and every copy looks as if it were wanted for sure.
    _HORIZON_SHARE = 0.25
    _FIRST_IDLE_NS = 40_000_000_000.0
    _NEW_SHARE = 1 / 32

    def __init__(self) -> None:
        self._rate: dict[str, _Rate] = {}
        self._idle_ns = self._FIRST_IDLE_NS

    def requested(self, tag: str, now_ns: int) -> None:
        """Count the arrival in the model's decayed rate."""
        rate = self._rate.get(tag)
        if rate is None:
            self._rate[tag] = _Rate(now_ns)
            return
        rate.weight = rate.weight * math.exp((rate.at_ns - now_ns) / self._DECAY_NS) + 1.0
        rate.at_ns = now_ns

    def used(self, copy: int, tag: str, device: int) -> None:
        """Arrivals are counted, not uses."""

    def evicted(self, copy: IdleCopy, now_ns: int) -> None:
        """Take how long it stood idle into the average; its model's rate outlives it."""
        self._idle_ns += self._NEW_SHARE * (now_ns - copy.last_used_ns - self._idle_ns)

    def floor(self, copy: Copy) -> tuple[int, float]:
        """Return a quarter of an octave of reload times, and in it the logarithm of time and rate.

        As the rates of all fall alike, this stays in order while they are not requested.
        """
        reload_ns = max(1, copy.model.reload_ns)
        mantissa, octave = math.frexp(reload_ns)
        rate = self._rate.get(copy.tag)
        floor = -math.inf
        if rate is not None:
            floor = math.log(reload_ns * rate.weight) + rate.at_ns / self._DECAY_NS
        return 4 * octave + int(8 * mantissa) - 4, floor

    def least_value(self, kind: int, floor: float, now_ns: int) -> float:
        """Return the value with the class's shortest reload time, where fewer are sure to come."""
        shortest_ns = math.ldexp((4 + kind % 4) / 8, kind // 4)
        falls = math.exp(floor - now_ns / self._DECAY_NS) / self._DECAY_NS
        expected_ns = falls * self._HORIZON_SHARE * self._idle_ns
        return -shortest_ns * math.expm1(-expected_ns / shortest_ns)

    def dearest(self, sizes: Sequence[int], values: Sequence[float], need: int) -> float:
        """Return what the least valuable that suffice are worth together."""
        taken = by_value(sizes, values, need)
        return sum(taken) if taken else math.inf

    def _chance(self, tag: str, rank: int, now_ns: int) -> float:
        """Return the chance of so many requests for a model within the horizon."""
        rate = self._rate.get(tag)
        if rate is None:
            return 0.0
        per_ns = rate.weight * math.exp((rate.at_ns - now_ns) / self._DECAY_NS) / self._DECAY_NS
        return _at_least(rank, per_ns * self._HORIZON_SHARE * self._idle_ns)

    def values(self, candidates: Sequence[IdleCopy], now_ns: int) -> list[float]:
        """Return nanoseconds of reload time that losing each copy is expected to cost.

        Where others that wait need room as well, the cheapest plan for all of them decides: what
        it keeps is then worth more than all that it gives up first.
        """
        if not candidates:
            return []
        ahead = candidates[0].ahead
        values = [self._value(copy, now_ns) for copy in candidates]
        if ahead is None or not ahead.others:
            return values
        idle = [
            Idle(
                copy.tag,
                copy.size_bytes,
                copy.reload_ns,
                self._worth(copy, ahead, now_ns),
                copy.rank > 1,
            )
            for copy in candidates
        ]
        others = (ahead.first, *ahead.others, *ahead.held)
        worth_ns = {
            other.tag: other.reload_ns * self._chance(other.tag, 1, now_ns) for other in others
        }
        victims = first_victims(idle, ahead, worth_ns)
        if not victims:
            return values
        # The sum must stay the least after rounding.
        lost = sum([values[place] for place in victims]) * (1 + 1e-9) + 1.0
        gone = set(victims)
        return [
            value if place in gone or value > lost else lost for place, value in enumerate(values)
        ]

    def _value(self, copy: IdleCopy, now_ns: int) -> float:
        cost = float(copy.reload_ns) if copy.reload_ns > 1 else 1.0
        if copy.place is not None:
            return cost * (1.0 + 1.0 / copy.place)
        return cost * self._chance(copy.tag, copy.rank, now_ns)

    def _worth(self, copy: IdleCopy, ahead: Ahead, now_ns: int) -> float:
        """Return what a copy is worth once all in sight are served."""
        if copy.place is not None and (copy.rank > 1 or copy.place > 1 + len(ahead.others)):
            return self._value(copy, now_ns)
        return copy.reload_ns * self._chance(copy.tag, copy.rank, now_ns)

    def choose(
        self, candidates: Sequence[IdleCopy], values: Sequence[float], need_bytes: int
    ) -> tuple[int, ...] | None:
        """Take the exact cheapest covering set."""
        sizes = [copy.size_bytes for copy in candidates]
        cheap = affordable(sizes, values, need_bytes)
        if cheap and min([sizes[i] for i in cheap]) >= need_bytes > 0:
            # Any one suffices, and none is worth a second.
            return (lightest(cheap, values, lambda i: _tie(candidates[i])),)
        order = sorted(cheap, key=lambda i: _tie(candidates[i]))
        cover = cheapest_cover(
            [sizes[i] for i in order],
            [values[i] for i in order],
            need_bytes,
            ties=[(not candidates[i].surplus, not candidates[i].cold) for i in order],
        )
        return None if cover is None else tuple(order[i] for i in cover)


def _at_least(count: int, mean: float) -> float:
    """Return P(N ≥ count) for N ~ Poisson(mean)."""
    if count == 1:
        return -math.expm1(-mean)
    term = math.exp(-mean)
    below = 0.0
    for k in range(count):
        below += term
        term *= mean / (k + 1)
    return max(0.0, 1.0 - below)


POLICIES: dict[str, Callable[[], EvictionPolicy]] = {
    "lru": Lru,
    "gdsf": Gdsf,
    "demand-tiers": DemandTiers,
    "queue-value": QueueValue,
}


def make_policy(policy: str | EvictionPolicy) -> EvictionPolicy:
    """Return a policy by name, or the given one; raise UsageError for an unknown name."""
    if not isinstance(policy, str):
        return policy
    maker = POLICIES.get(policy)
    if maker is None:
        raise UsageError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
    return maker()
