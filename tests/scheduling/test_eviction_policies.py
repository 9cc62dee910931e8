"""Each policy against an independent reference, driven through the whole scheduler, and by rule."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.errors import UsageError
from modelmgr.scheduling.covering import cheapest_cover
from modelmgr.scheduling.policies import (
    POLICIES,
    DemandTiers,
    EvictionPolicy,
    Gdsf,
    IdleCopy,
    Lru,
    QueueValue,
    make_policy,
)
from modelmgr.scheduling.settings import SchedulerSettings
from support.virtual_driver import VirtualDriver

TAGS = "abcdefgh"
TRACES = st.lists(st.sampled_from(TAGS), max_size=60)
SIZES = st.lists(st.integers(1, 45), min_size=len(TAGS), max_size=len(TAGS))
COSTS = st.lists(st.integers(1, 30), min_size=len(TAGS), max_size=len(TAGS))
OFTEN = settings(max_examples=60, deadline=None, derandomize=True)


def idle(
    copy: int,
    size: int = 10,
    *,
    used_ns: int = 0,
    reload_ns: int = 100,
    surplus: bool = False,
    cold: bool = False,
    demand: tuple[int, ...] = (),
    rank: int = 1,
    tag: str = "",
) -> IdleCopy:
    return IdleCopy(
        copy,
        tag or f"m{copy}",
        0,
        size,
        used_ns,
        0,
        reload_ns,
        surplus,
        cold,
        rank,
        rank,
        len(demand),
        demand[rank - 1] if rank <= len(demand) else None,
    )


def chosen_by(
    policy: EvictionPolicy, candidates: list[IdleCopy], need: int, now_ns: int = 99
) -> tuple[int, ...] | None:
    return policy.choose(candidates, policy.values(candidates, now_ns), need)


def run_trace(
    policy: str, trace: list[str], sizes: list[int], capacity: int, costs: list[int] | None = None
) -> tuple[list[str], list[str]]:
    """Return the tags loaded and the tags evicted, in order: one device, one copy, no service."""
    driver = VirtualDriver(capacity, settings=SchedulerSettings(policy=policy, max_copies=1))
    for place, tag in enumerate(TAGS):
        driver.know(tag, sizes[place], load_ns=1000 if costs is None else costs[place])
    for tag in trace:
        driver.serve(tag)
    return [load.tag for load in driver.loads()], [unload.tag for unload in driver.unloads()]


def reference_lru(
    trace: list[str], sizes: dict[str, int], capacity: int
) -> tuple[list[str], list[str]]:
    """Return loads and victims of the textbook size-aware LRU cache."""
    cache: OrderedDict[str, int] = OrderedDict()
    loads: list[str] = []
    victims: list[str] = []
    for tag in trace:
        if tag in cache:
            cache.move_to_end(tag)
        elif sizes[tag] <= capacity:
            while sum(cache.values()) + sizes[tag] > capacity:
                victims.append(cache.popitem(last=False)[0])
            cache[tag] = sizes[tag]
            loads.append(tag)
    return loads, victims


def reference_gdsf(
    trace: list[str], sizes: dict[str, int], costs: dict[str, int], capacity: int
) -> tuple[list[str], list[str]]:
    """Return loads and victims of GreedyDual-Size-Frequency; among equals the older use goes."""
    inflation = 0.0
    cached: dict[str, tuple[float, int, int]] = {}  # tag: (L at last use, frequency, last use)
    loads: list[str] = []
    victims: list[str] = []

    def value(tag: str) -> float:
        base, frequency, _ = cached[tag]
        return base + frequency * costs[tag] / sizes[tag]

    for now, tag in enumerate(trace):
        frequency = cached[tag][1] if tag in cached else 0
        if tag not in cached:
            if sizes[tag] > capacity:
                continue
            while sum(sizes[other] for other in cached) + sizes[tag] > capacity:
                victim = min(cached, key=lambda other: (value(other), cached[other][2]))
                inflation = max(inflation, value(victim))
                victims.append(victim)
                del cached[victim]
            loads.append(tag)
        cached[tag] = (inflation, frequency + 1, now)
    return loads, victims


@given(trace=TRACES, sizes=SIZES, capacity=st.integers(20, 120))
@OFTEN
def test_lru_loads_and_evicts_exactly_as_a_textbook_size_aware_lru_cache(
    trace: list[str], sizes: list[int], capacity: int
) -> None:
    expected = reference_lru(trace, dict(zip(TAGS, sizes, strict=True)), capacity)
    assert run_trace("lru", trace, sizes, capacity) == expected


@given(trace=TRACES, sizes=SIZES, costs=COSTS, capacity=st.integers(20, 120))
@OFTEN
def test_gdsf_loads_and_evicts_exactly_as_greedy_dual_size_frequency(
    trace: list[str], sizes: list[int], costs: list[int], capacity: int
) -> None:
    expected = reference_gdsf(
        trace,
        dict(zip(TAGS, sizes, strict=True)),
        dict(zip(TAGS, costs, strict=True)),
        capacity,
    )
    assert run_trace("gdsf", trace, sizes, capacity, costs) == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_under_every_policy_a_model_that_fits_beside_the_others_evicts_nobody(policy: str) -> None:
    loads, victims = run_trace(policy, list("abcabc"), [30] * len(TAGS), 90)
    assert (loads, victims) == (list("abc"), [])


# LRU ---------------------------------------------------------------------------------------------


def test_lru_takes_the_oldest_until_enough_is_free_whatever_their_size() -> None:
    copies = [idle(1, 5, used_ns=30), idle(2, 50, used_ns=10), idle(3, 5, used_ns=20)]
    assert chosen_by(Lru(), copies, 51) == (1, 2)
    assert chosen_by(Lru(), copies, 1) == (1,)
    assert chosen_by(Lru(), copies, 61) is None


# Demand tiers ------------------------------------------------------------------------------------


def test_demand_tiers_order_is_demand_then_surplus_then_cold_then_age() -> None:
    ascending = [
        idle(9, surplus=True, cold=True, used_ns=5),
        idle(8, surplus=True, cold=True, used_ns=6),
        idle(7, surplus=True, cold=False, used_ns=1),
        idle(6, surplus=False, cold=True, used_ns=0),
        idle(5, surplus=False, cold=False, used_ns=0),
        idle(4, surplus=True, cold=True, used_ns=0, demand=(7,)),
        idle(3, surplus=False, cold=False, used_ns=0, demand=(9,)),
        idle(2, surplus=True, cold=True, used_ns=0, demand=(2, 3)),
    ]
    for shift in range(len(ascending)):
        shuffled = ascending[shift:] + ascending[:shift]
        for count in range(1, len(ascending) + 1):
            chosen = chosen_by(DemandTiers(), shuffled, 10 * count)
            assert chosen is not None
            assert [shuffled[i].copy for i in chosen] == [c.copy for c in ascending[:count]]


def test_demand_tiers_leave_out_what_was_needless() -> None:
    copies = [idle(1, 4, used_ns=1), idle(2, 30, used_ns=2)]
    assert chosen_by(DemandTiers(), copies, 30) == (1,)
    assert chosen_by(DemandTiers(), copies, 34) == (0, 1)
    assert chosen_by(DemandTiers(), copies, 35) is None


# GDSF --------------------------------------------------------------------------------------------


def test_gdsf_values_are_frequency_times_cost_over_size_above_the_inflation() -> None:
    policy = Gdsf()
    for _ in range(3):
        policy.used(1, "m1", 0)
    policy.used(2, "m2", 0)
    often, once = idle(1, 10, reload_ns=100), idle(2, 20, reload_ns=100)
    assert policy.values([often, once], 0) == [30.0, 5.0]
    policy.evicted(once, 0)
    policy.used(3, "m3", 0)
    assert policy.values([idle(3, 10, reload_ns=100)], 0) == [15.0]
    # Another device has an inflation of its own.
    policy.used(4, "m4", 1)
    assert policy.values([idle(4, 10)._replace(device=1)], 0) == [10.0]


def test_gdsf_forgets_how_often_an_evicted_model_was_used() -> None:
    policy = Gdsf()
    for _ in range(5):
        policy.used(1, "m1", 0)
    policy.evicted(idle(1), 0)
    policy.used(2, "m1", 0)
    (value,) = policy.values([idle(2, tag="m1")], 0)
    assert value == 50.0 + 10.0


# Queue value -------------------------------------------------------------------------------------


def test_a_copy_that_the_queue_wants_is_worth_its_reload_and_more_the_sooner() -> None:
    wanted = [idle(n, reload_ns=600, demand=(place,)) for n, place in ((1, 1), (2, 2), (3, 6))]
    assert QueueValue().values(wanted, 0) == [1200.0, 900.0, 700.0]


def test_the_second_copy_is_wanted_by_the_second_ticket_only() -> None:
    policy = QueueValue()
    second = idle(2, reload_ns=600, demand=(1, 3), rank=2)
    third = idle(3, reload_ns=600, demand=(1, 3), rank=3)
    assert policy.values([second], 0) == [800.0]
    assert policy.values([third], 0) == [0.0]


def test_without_demand_the_value_is_the_chance_of_enough_arrivals_in_time() -> None:
    """Poisson with the decayed rate: 600 s memory, a horizon of 10 s before anything is evicted."""
    policy = QueueValue()
    second = 1_000_000_000
    for at_s in (0, 60):
        policy.requested("a", at_s * second)
    weight = (math.exp(-60 / 600) + 1) * math.exp(-30 / 600)
    mean = weight / 600 * 10
    for reload_s in (0.1, 2):
        reload_ns = int(reload_s * second)
        once, twice = policy.values(
            [
                idle(1, tag="a", reload_ns=reload_ns),
                idle(2, tag="a", reload_ns=reload_ns, rank=2),
            ],
            90 * second,
        )
        assert once == pytest.approx(reload_ns * (1 - math.exp(-mean)))
        assert twice == pytest.approx(reload_ns * (1 - math.exp(-mean) * (1 + mean)))


@given(
    copies=st.lists(
        st.tuples(st.sampled_from((0.0, 1.0, 1.0 + 1e-14, 3.0)), st.booleans(), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_where_any_copy_suffices_the_cheapest_goes_as_the_covering_set_has_it(
    copies: list[tuple[float, bool, bool]], data: st.DataObject
) -> None:
    """Among those worth the same, finer than is told apart: surplus, then cold, then the oldest."""
    ages = data.draw(st.permutations(range(len(copies))))
    candidates = [
        idle(number, used_ns=age, surplus=surplus, cold=cold)
        for number, ((_, surplus, cold), age) in enumerate(zip(copies, ages, strict=True))
    ]
    values = [value * 1e9 for value, _, _ in copies]
    order = sorted(range(len(copies)), key=lambda i: (not copies[i][1], not copies[i][2], ages[i]))
    cover = cheapest_cover(
        [10] * len(copies),
        [values[i] for i in order],
        10,
        ties=[(not copies[i][1], not copies[i][2]) for i in order],
    )
    assert cover is not None
    assert QueueValue().choose(candidates, values, 10) == tuple(order[i] for i in cover)


def test_the_horizon_follows_how_long_copies_stand_idle_until_they_are_evicted() -> None:
    policy = QueueValue()
    second = 1_000_000_000
    policy.requested("a", 1000 * second)
    copy = idle(1, tag="a", reload_ns=600)
    before = policy.values([copy], 1000 * second)
    for _ in range(200):
        policy.evicted(idle(2, used_ns=600 * second), 1000 * second)
    (value,) = policy.values([copy], 1000 * second)
    assert [value] > before
    assert value == pytest.approx(600 * (1 - math.exp(-1 / 600 * 100)), rel=0.01)


@given(
    copies=st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 9), st.lists(st.integers(1, 9), max_size=1)),
        max_size=7,
    ),
    need=st.integers(1, 80),
)
@OFTEN
def test_queue_value_takes_a_set_that_no_other_set_undercuts(
    copies: list[tuple[int, int, list[int]]], need: int
) -> None:
    candidates = [
        idle(number, size, reload_ns=2520 * cost, demand=tuple(demand))
        for number, (size, cost, demand) in enumerate(copies)
    ]
    policy = QueueValue()
    values = policy.values(candidates, 0)
    chosen = chosen_by(policy, candidates, need, 0)
    best = min(
        (
            sum(values[i] for i in subset)
            for count in range(len(copies) + 1)
            for subset in itertools.combinations(range(len(copies)), count)
            if sum(copies[i][0] for i in subset) >= need
        ),
        default=None,
    )
    if chosen is None:
        assert best is None
        return
    assert sum(copies[i][0] for i in chosen) >= need
    assert sum(values[i] for i in chosen) == best


def test_queue_value_breaks_ties_surplus_then_cold_then_oldest() -> None:
    copies = [
        idle(1, used_ns=1),
        idle(2, used_ns=9, cold=True),
        idle(3, used_ns=8, cold=True),
        idle(4, used_ns=9, surplus=True),
    ]
    assert chosen_by(QueueValue(), copies, 10) == (3,)
    assert chosen_by(QueueValue(), copies[:3], 10) == (2,)
    assert chosen_by(QueueValue(), copies[:2], 10) == (1,)


# Making ------------------------------------------------------------------------------------------


def test_policies_are_made_by_name_or_taken_as_they_are() -> None:
    assert {make_policy(name).name for name in POLICIES} == set(POLICIES)
    own = Lru()
    assert make_policy(own) is own
    with pytest.raises(UsageError, match=r"fifo.*lru"):
        make_policy("fifo")
