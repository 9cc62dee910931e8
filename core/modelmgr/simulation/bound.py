"""The offline bound: the least reload cost that any eviction policy could have had on a schedule.

What it is valid against: every way of evicting, keeping and prefetching copies, with all knowledge
of the future, on *this device*, that serves *these jobs in this order at these times*, and starts
from an empty device. A load is given no time and no memory of its own, an unload takes none, and no
copy is ever lost to a fault: all of that only helps, so real policies stay above. It says nothing
about schedulers that serve in another order (they can be far below: order is the bigger lever).

Where there are several devices, each one's schedule is bound by itself, given where its jobs were
served: nothing is said about schedulers that would have placed a job elsewhere. For a bound that
holds whatever the placement, bound ``schedule.pooled(schedules)`` instead; it is weaker.

It is a bound on loads at the schedule's own costs. Hold ``ServedSchedule.cost_of_ns(loads)`` to it,
not a sum of load times that were drawn at random.

The programme (Berger, Beckmann, Harchol-Balter: Practical Bounds on Optimal Caching with Variable
Object Sizes, 2018, for caches; here with running jobs that pin their memory): of each gap between a
release and the later start that could use the copy again, is the idle copy kept? In every state,
kept copies and running jobs fit the capacity; the kept gaps' costs are saved. ``simulation.gaps``
has why those gaps and states are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelmgr.errors import UsageError
from modelmgr.simulation import solving
from modelmgr.simulation.gaps import Gaps, find_gaps
from modelmgr.simulation.highs import Floats, Ints
from modelmgr.simulation.prices import (
    NO_PRICES,
    Prices,
    cost_of_keeping_ns,
    next_cost_ns,
    proven_bound_ns,
    rounded_prices,
)
from modelmgr.simulation.reduction import Choice, reduce_choice
from modelmgr.simulation.schedule import ServedSchedule

BoundMethod = Literal["exact", "windowed", "dual"]

WINDOW_JOBS = 5_000
"""Jobs of a window where a schedule is cut by itself."""

WHOLE_UP_TO_JOBS = 20_000
WHOLE_UP_TO_SLOTS = 4_000_000
"""The longest schedule, and the largest matrix, that is solved as a whole."""

_WINDOW_GAP = 1e-6  # relative; a window's value was divided, so its last digits say nothing
_EXACT_WITHIN = 10**8  # a solver's arithmetic: what is left of a gap that it closed
_PRICES_SHARE = 0.4  # of the time limit


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound of one device's schedule.

    Attributes:
        device: the device's name.
        jobs: how many jobs were bound.
        reload_cost_ns: the bound: no policy costs less. As good as the solver's word, which is
            floating point with a margin; never below ``certified_ns``.
        certified_ns: what the prices prove in exact arithmetic; may be lower.
        best_ns: the cost of the best choice of gaps that was found; the least cost is between.
        method: ``exact`` (bound and best are the same but for the solver's margin of 1e-8),
            ``windowed`` (cut into windows, each solved), ``dual`` (a time limit ended the solver,
            whose bound so far it is).
        prices: the certificate.
        reloaded: the gaps that the best choice does not keep.
    """

    device: str
    jobs: int
    reload_cost_ns: int
    certified_ns: int
    best_ns: int
    method: BoundMethod
    prices: Prices
    reloaded: tuple[int, ...]

    def ratio(self, cost_ns: int) -> float | None:
        """Return how many times the bound a cost is; None where only the bound is nothing."""
        return ratio(cost_ns, self.reload_cost_ns)


@dataclass(frozen=True, slots=True)
class BoundTotal:
    """The sum over devices, given where each job was served; figures as ``Bound`` has them."""

    reload_cost_ns: int
    certified_ns: int
    best_ns: int
    method: BoundMethod

    def ratio(self, cost_ns: int) -> float | None:
        """Return how many times the bound a cost is; None where only the bound is nothing."""
        return ratio(cost_ns, self.reload_cost_ns)


def ratio(cost_ns: int, bound_ns: int) -> float | None:
    """Return a cost over its bound: 1.0 where both are nothing, None where only the bound is."""
    if bound_ns == 0:
        return 1.0 if cost_ns == 0 else None
    return cost_ns / bound_ns


def total(bounds: Sequence[Bound]) -> BoundTotal:
    """Return the sum of the devices' bounds; its method is the weakest of theirs."""
    order: tuple[BoundMethod, ...] = ("exact", "windowed", "dual")
    methods: list[BoundMethod] = [bound.method for bound in bounds]
    return BoundTotal(
        sum(bound.reload_cost_ns for bound in bounds),
        sum(bound.certified_ns for bound in bounds),
        sum(bound.best_ns for bound in bounds),
        order[max((order.index(method) for method in methods), default=0)],
    )


def reload_bound(
    schedule: ServedSchedule, *, time_limit_s: float | None = None, window: int | None = None
) -> Bound:
    """Return the least reload cost that any eviction and prefetch policy could have had.

    Without a time limit the answer is the same everywhere with the same scipy.

    Args:
        schedule: what was served on one device.
        time_limit_s: roughly how long the solver may take, seconds; the bound is valid and lower
            when it is too short.
        window: jobs of a window; None solves schedules of up to 20,000 jobs as a whole and cuts
            longer ones into windows of 5,000.

    Raises:
        UsageError: a window or time limit of nothing, or jobs that no policy could have served.
    """
    if window is not None and window < 1:
        raise UsageError(f"a window of {window} jobs makes no sense; give 1 or more")
    if time_limit_s is not None and not time_limit_s > 0:
        raise UsageError(f"a time limit of {time_limit_s} s makes no sense; give a positive time")
    gaps = find_gaps(schedule)
    choice = reduce_choice(schedule, gaps)
    cut = _states_of_a_window(schedule, choice, window)
    values = _prices(choice, cut, time_limit_s)
    prices = _best_prices(schedule, gaps, choice, values)
    certified_ns = proven_bound_ns(schedule, gaps, prices)
    saved_ns, kept = _solved(choice, cut, values, time_limit_s)
    kept = _fitting(choice, values, kept)
    reloaded = np.sort(np.concatenate([choice.impossible, choice.gaps[~kept]]))
    best_ns = cost_of_keeping_ns(schedule, gaps, reloaded.tolist())
    bound_ns = certified_ns
    if saved_ns is not None:
        most_ns = _decided_ns(schedule, gaps, choice) + saved_ns
        said_ns = floor(schedule.load_everything_ns() - most_ns)
        bound_ns = min(best_ns, max(bound_ns, next_cost_ns(schedule, said_ns)))
    method: BoundMethod = "windowed" if cut is not None else "dual"
    return Bound(
        device=schedule.device,
        jobs=len(schedule),
        reload_cost_ns=bound_ns,
        certified_ns=certified_ns,
        best_ns=best_ns,
        method="exact" if (best_ns - bound_ns) * _EXACT_WITHIN <= best_ns else method,
        prices=prices,
        reloaded=tuple(reloaded.tolist()),
    )


def _states_of_a_window(schedule: ServedSchedule, choice: Choice, window: int | None) -> int | None:
    """Return how many states a window has, None for the whole as one."""
    states = len(choice.rooms_bytes)
    if window is None:
        if len(schedule) <= WHOLE_UP_TO_JOBS and choice.slots() <= WHOLE_UP_TO_SLOTS:
            return None
        window = WINDOW_JOBS
    if window >= len(schedule):
        return None
    return max(1, -(-states * window // len(schedule)))


def _prices(choice: Choice, cut: int | None, time_limit_s: float | None) -> Floats:
    """Return each state's price, in nanoseconds a byte, by linear programmes."""
    none = np.zeros(len(choice.rooms_bytes))
    limit_s = None if time_limit_s is None else time_limit_s * _PRICES_SHARE
    if cut is None:
        found = solving.relaxed_prices(solving.whole(choice), limit_s)
        return none if found is None else found
    # Twice, the second time with windows that begin in the middles of the first: a gap's value is
    # then divided by what the first time says about the states on both sides of a cut.
    prices = none
    for offset in (cut, max(1, cut // 2)):
        cuts = list(solving.windows(choice, cut, prices, offset=offset))
        refined = prices.copy()
        for part in cuts:
            found = solving.relaxed_prices(
                part, None if limit_s is None else limit_s / (2 * len(cuts))
            )
            if found is not None:
                refined[part.begin : part.begin + len(found)] = found
        prices = refined
    return prices


def _best_prices(schedule: ServedSchedule, gaps: Gaps, choice: Choice, values: Floats) -> Prices:
    dense = np.zeros(len(gaps.rooms_bytes))
    dense[choice.states] = values
    prices = rounded_prices(dense.tolist())
    proves_more = proven_bound_ns(schedule, gaps, prices) > proven_bound_ns(
        schedule, gaps, NO_PRICES
    )
    return prices if proves_more else NO_PRICES


def _solved(
    choice: Choice,
    cut: int | None,
    prices: Floats,
    time_limit_s: float | None,
) -> tuple[float | None, npt.NDArray[np.bool_] | None]:
    """Return what keeping gaps can save at most (ns), and the gaps that every window keeps."""
    limit_s = None if time_limit_s is None else time_limit_s * (1 - _PRICES_SHARE)
    if cut is None:
        answer = solving.best_kept(solving.whole(choice), time_limit_s=limit_s)
        return answer.at_most_ns, answer.chosen
    cuts = list(solving.windows(choice, cut, prices))
    saved_ns: float | None = 0.0
    kept = np.ones(len(choice.gaps), dtype=np.bool_)
    for part in cuts:
        answer = solving.best_kept(
            part,
            time_limit_s=None if limit_s is None else limit_s / len(cuts),
            relative_gap=_WINDOW_GAP,
        )
        if answer.at_most_ns is None or saved_ns is None:
            saved_ns = None
        else:
            saved_ns += answer.at_most_ns
        if answer.chosen is not None:
            kept[part.members[~answer.chosen]] = False
    return saved_ns, kept


def _fitting(
    choice: Choice, prices: Floats, kept: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.bool_]:
    """Return a set of gaps that fits exactly: those of the solver, and what else has room.

    The gaps are put in one by one, the solver's first, then by how far their value is above the
    price of their room, so nothing depends on the solver's tolerances.
    """
    paid = np.concatenate([[0.0], np.cumsum(prices)])
    above = choice.values_ns - choice.sizes_bytes * (paid[choice.pasts] - paid[choice.firsts])
    wanted = np.zeros(len(choice.gaps)) if kept is None else ~kept
    fitting = np.zeros(len(choice.gaps), dtype=np.bool_)
    rooms: Ints = choice.rooms_bytes.copy()
    for gap in np.lexsort((-above, wanted)).tolist():
        span = rooms[choice.firsts[gap] : choice.pasts[gap]]
        if int(span.min()) >= choice.sizes_bytes[gap]:
            span -= choice.sizes_bytes[gap]
            fitting[gap] = True
    return fitting


def _decided_ns(schedule: ServedSchedule, gaps: Gaps, choice: Choice) -> int:
    """Return what the gaps save that are always kept."""
    costs = [figures.reload_cost_ns for figures in schedule.figures]
    undecided = int(choice.values_ns.sum())
    impossible: list[int] = choice.impossible.tolist()
    never = sum(costs[gaps.models[gap]] for gap in impossible)
    return sum(costs[model] for model in gaps.models) - undecided - never
