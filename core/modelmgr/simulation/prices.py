"""A bound that needs no solver: what a price on each state's memory proves, in exact arithmetic.

For any prices λ ≥ 0 (nanoseconds a byte) on the states of a schedule, no policy's reload cost is
below Σ c - Σ λ·room - Σ max(0, c_g - s_g·Σ λ over the gap's states): the first sum over all jobs,
the second over states, the third over gaps (``simulation.gaps``). It is the Lagrangian dual of
the choice of gaps to keep: whatever set is kept, each state's room pays for what is held in it, so
the kept gaps' worth is at most what all room costs plus what each gap is worth above its price.

A cost is a sum of single loads, so it is a multiple of what all loads' costs are multiples of: the
figure is rounded up to one. Integers only; finding good prices is ``simulation.solving``'s work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd

from modelmgr.errors import UsageError
from modelmgr.simulation.gaps import Gaps
from modelmgr.simulation.schedule import ServedSchedule

_DIGITS = 52  # numerators that every JSON reader keeps whole


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of states, sparse: a state that is not named has the price 0.

    Attributes:
        denominator: of every price, at least 1.
        states: ascending.
        numerators: nanoseconds a byte times the denominator, never negative.
    """

    denominator: int
    states: tuple[int, ...]
    numerators: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse prices that prove nothing."""
        if self.denominator < 1:
            raise UsageError(f"prices over {self.denominator} make no sense; give 1 or more")
        if len(self.states) != len(self.numerators):
            raise UsageError(f"{len(self.states)} states have {len(self.numerators)} prices")
        if any(numerator < 0 for numerator in self.numerators):
            raise UsageError(f"a price is negative: {min(self.numerators)}; it proves nothing")
        if any(a >= b for a, b in zip(self.states, self.states[1:], strict=False)):
            raise UsageError("the priced states are not in ascending order")
        if self.states and self.states[0] < 0:
            raise UsageError(f"there is no state {self.states[0]}")


NO_PRICES = Prices(1, (), ())
"""Prices that prove what needs no proof: the loads that no gap could save."""


def rounded_prices(values: Sequence[float]) -> Prices:
    """Return prices near these, one a state, in nanoseconds a byte; negative ones become 0."""
    largest = max(values, default=0.0)
    if largest <= 0.0:
        return NO_PRICES
    exponent = 0
    while exponent < 200 and largest * 2 ** (exponent + 1) < 2**_DIGITS:
        exponent += 1
    denominator = 2**exponent
    named = [
        (state, round(value * denominator))
        for state, value in enumerate(values)
        if value * denominator >= 0.5
    ]
    return Prices(
        denominator, tuple(state for state, _ in named), tuple(price for _, price in named)
    )


def proven_bound_ns(schedule: ServedSchedule, gaps: Gaps, prices: Prices) -> int:
    """Return what the prices prove of a schedule: nanoseconds of reload cost, at least.

    Raises:
        UsageError: a price is on a state that the schedule does not have.
    """
    count = len(gaps.rooms_bytes)
    if prices.states and prices.states[-1] >= count:
        raise UsageError(
            f"{schedule.device}: a price is on state {prices.states[-1]}, of {count} there are"
        )
    dense = [0] * count
    paid = 0
    for state, price in zip(prices.states, prices.numerators, strict=True):
        dense[state] = price
        paid += price * gaps.rooms_bytes[state]
    before = list(accumulate(dense, initial=0))
    sizes = [figures.resident_bytes for figures in schedule.figures]
    scale = prices.denominator
    costs = [figures.reload_cost_ns * scale for figures in schedule.figures]
    above = 0
    spans = zip(gaps.models, gaps.firsts, gaps.pasts, gaps.narrowest_bytes, strict=True)
    for model, first, past, narrowest in spans:
        if narrowest < sizes[model]:
            continue  # no policy can keep it
        worth = costs[model] - sizes[model] * (before[past] - before[first])
        if worth > 0:
            above += worth
    proven = schedule.load_everything_ns() * scale - paid - above
    return next_cost_ns(schedule, -(-proven // scale))


def next_cost_ns(schedule: ServedSchedule, at_least_ns: int) -> int:
    """Return the least cost, at least this and 0, that any number of loads could have."""
    unit = gcd(*(figures.reload_cost_ns for figures in schedule.figures)) or 1
    return max(0, -(-at_least_ns // unit) * unit)


def cost_of_keeping_ns(schedule: ServedSchedule, gaps: Gaps, reloaded: Sequence[int]) -> int:
    """Return the reload cost of keeping every gap but the reloaded ones, an upper end of the bound.

    Raises:
        UsageError: the gaps that are left do not fit a state, or a reloaded gap is not there.
    """
    dropped = set(reloaded)
    if len(dropped) != len(reloaded) or any(not 0 <= g < len(gaps.jobs) for g in dropped):
        raise UsageError(f"{schedule.device}: a reloaded gap is named twice or is not there")
    change = [0] * (len(gaps.rooms_bytes) + 1)
    saved = 0
    for gap, model in enumerate(gaps.models):
        if gap not in dropped:
            figures = schedule.figures[model]
            change[gaps.firsts[gap]] += figures.resident_bytes
            change[gaps.pasts[gap]] -= figures.resident_bytes
            saved += figures.reload_cost_ns
    for state, (held, room) in enumerate(zip(accumulate(change), gaps.rooms_bytes, strict=False)):
        if held > room:
            raise UsageError(
                f"{schedule.device}: the kept copies take {held} bytes in state {state}, which has "
                f"room for {room}"
            )
    return schedule.load_everything_ns() - saved
