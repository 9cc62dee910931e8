"""No policy goes below the bound, nor below what is certified of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from modelmgr.simulation.bound import reload_bound
from modelmgr.simulation.schedule import ServedSchedule
from support.served_schedules import draw_schedule, events_of, serve

Victim = Callable[[Sequence[int], int], int]


def _least_recent(_: ServedSchedule) -> Victim:
    return lambda _idle, _at: 0


def _most_recent(_: ServedSchedule) -> Victim:
    return lambda idle, _at: len(idle) - 1


def _cheapest_by_size(schedule: ServedSchedule) -> Victim:
    worth = [f.reload_cost_ns / max(1, f.resident_bytes) for f in schedule.figures]
    return lambda idle, _at: min(range(len(idle)), key=lambda place: worth[idle[place]])


def _drawn(_: ServedSchedule) -> Victim:
    draw = random.Random(5)
    return lambda idle, _at: draw.randrange(len(idle))


def _furthest_ahead(schedule: ServedSchedule) -> Victim:
    """Evict what is needed last, as Belady's rule does: it knows the future."""
    starts: dict[int, list[int]] = {}
    for at, (kind, number) in enumerate(events_of(schedule)):
        if kind == "start":
            starts.setdefault(schedule.job_models[number], []).append(at)

    def victim(idle: Sequence[int], at: int) -> int:
        ahead = [min((s for s in starts[model] if s > at), default=10**9) for model in idle]
        return max(range(len(idle)), key=lambda place: ahead[place])

    return victim


@pytest.mark.parametrize(
    "policy", [_least_recent, _most_recent, _cheapest_by_size, _drawn, _furthest_ahead]
)
def test_no_policy_costs_less_than_the_bound(policy: Callable[[ServedSchedule], Victim]) -> None:
    ratios: list[float] = []
    for seed in range(25):
        schedule = draw_schedule(seed, jobs=150, models=6, capacity=30, span=260, odd_costs=True)
        bound = reload_bound(schedule)
        cost_ns = schedule.cost_of_ns(serve(schedule, policy(schedule)))

        assert cost_ns >= bound.best_ns >= bound.reload_cost_ns >= bound.certified_ns > 0, seed
        found = bound.ratio(cost_ns)
        assert found is not None
        ratios.append(found)

    assert max(ratios) > 1.0  # the schedules are tight enough to tell policies apart
