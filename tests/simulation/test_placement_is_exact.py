"""A plan is the best there is: found by trying every placement, on small machines."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmgr.errors import UsageError
from modelmgr.records.costs import ModelCost
from modelmgr.records.measured import MeasuredBytes
from modelmgr.simulation.placement import (
    Demand,
    ModelNeed,
    Plan,
    PlanDevice,
    device_need_bytes,
    need_of,
    needs_of,
    plan,
)
from modelmgr.units import GIB
from support.command_line import make_database

Needs = dict[str, ModelNeed]


def _need(idle: int, peak: int, load: int | None = None) -> ModelNeed:
    return ModelNeed(resident_bytes=idle, peak_bytes=peak, load_bytes=load or peak)


def _draw(seed: int, models: int) -> Needs:
    draw = random.Random(seed)
    needs: Needs = {}
    for index in range(models):
        idle = draw.randint(1, 9)
        peak = idle + draw.randint(0, 5)
        needs[f"m{index}"] = _need(idle, peak, peak + draw.choice((0, 0, 3)))
    return needs


def _devices(*limits: int) -> list[PlanDevice]:
    return [PlanDevice(name=f"gpu{at}", limit_bytes=limit) for at, limit in enumerate(limits)]


def _best(
    needs: Needs, limits: list[int], demands: Mapping[str, Demand], active: int | None
) -> tuple[int, Fraction]:
    """Return most demands met and most weight, by trying every number of copies everywhere."""
    best = (0, Fraction(0))
    choices = [range(demand.at_most + 1) for demand in demands.values() for _ in limits]
    for counts in itertools.product(*choices):
        rows = [counts[at :: len(limits)] for at in range(len(limits))]
        copies = [dict(zip(demands, row, strict=True)) for row in rows]
        totals = {tag: sum(on[tag] for on in copies) for tag in demands}
        allowed = all(
            totals[tag] == 0 or demand.at_least <= totals[tag] <= demand.at_most
            for tag, demand in demands.items()
        )
        if allowed and all(
            device_need_bytes(needs, on, active=active) <= limit
            for on, limit in zip(copies, limits, strict=True)
        ):
            best = max(best, _worth(totals, demands))
    return best


def _worth(totals: Mapping[str, int], demands: Mapping[str, Demand]) -> tuple[int, Fraction]:
    met = sum(totals[tag] >= demand.at_least for tag, demand in demands.items())
    weights = (
        demand.weight / (k + 1) for tag, demand in demands.items() for k in range(totals[tag])
    )
    return met, sum(weights, Fraction(0))


def _check(found: Plan, needs: Needs, active: int | None) -> None:
    for device in found.devices:
        assert device.needed_bytes == device_need_bytes(needs, device.copies, active=active)
        assert device.left_bytes >= 0
    assert found.proven


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    limits=st.lists(st.integers(4, 30), min_size=1, max_size=2),
    active=st.sampled_from([None, 1, 2]),
)
def test_no_placement_meets_more_demands_or_places_more_weight(
    seed: int, limits: list[int], active: int | None
) -> None:
    draw = random.Random(seed)
    needs = _draw(seed, 3)
    demands = {
        tag: Demand(at_least=low, at_most=max(low, draw.randint(1, 2)), weight=Fraction(weight))
        for tag, low, weight in ((t, draw.randint(0, 2), draw.randint(1, 5)) for t in needs)
    }
    found = plan(needs, _devices(*limits), demands, active=active)

    _check(found, needs, active)
    assert _worth(found.copies, demands) == _best(needs, limits, demands, active)


def test_a_conflict_is_real_and_as_small_as_any() -> None:
    seen = 0
    for seed in range(25):
        needs = _draw(seed, 5)
        demands = {tag: Demand() for tag in needs}
        found = plan(needs, _devices(14, 9), demands)
        if found.conflict is None:
            assert found.fits
            continue
        seen += 1
        tags = list(found.conflict.copies)
        assert not plan(needs, _devices(14, 9), {tag: Demand() for tag in tags}).fits
        for fewer in itertools.combinations(needs, len(tags) - 1):
            if set(fewer) < set(tags):
                assert plan(needs, _devices(14, 9), {tag: Demand() for tag in fewer}).fits
        rest = {tag: Demand() for tag in needs if tag not in found.left_out}
        assert plan(needs, _devices(14, 9), rest).fits
    assert seen > 5


def test_all_copies_running_take_more_than_one_at_a_time() -> None:
    needs = {"a": _need(4, 10), "b": _need(4, 9)}
    together = {"a": 1, "b": 1}

    assert device_need_bytes(needs, together) == 19
    assert device_need_bytes(needs, together, active=1) == 14
    assert device_need_bytes(needs, together, active=5) == 19
    assert device_need_bytes(needs, {"a": 3}, active=2) == 24
    assert device_need_bytes(needs, {}) == 0


def test_a_load_needs_room_beside_what_is_idle() -> None:
    needs = {"a": _need(4, 5, 12), "b": _need(4, 5)}

    assert device_need_bytes(needs, {"a": 1, "b": 1}) == 16
    assert not plan(needs, _devices(15), {"a": Demand(), "b": Demand()}).fits
    assert plan(needs, _devices(16), {"a": Demand(), "b": Demand()}).fits


def test_what_fits_to_the_byte_fits() -> None:
    limit = 24 * GIB + 1
    needs = {"a": _need(8 * GIB, 8 * GIB), "b": _need(16 * GIB, 16 * GIB + 1)}
    demands = {"a": Demand(), "b": Demand()}

    assert plan(needs, _devices(limit), demands).fits
    assert not plan(needs, _devices(limit - 1), demands).fits


def test_what_is_beyond_every_device_by_far_is_left_out_and_the_search_is_complete() -> None:
    needs = {"a": _need(10**30, 10**30), "b": _need(4, 5)}
    found = plan(needs, _devices(24), {"a": Demand(), "b": Demand()})

    assert found.left_out == ("a",)
    assert found.copies["b"] == 1
    assert found.proven


def test_enough_memory_in_sum_may_still_not_fit() -> None:
    needs = {tag: _need(14, 14) for tag in "abc"}
    found = plan(needs, _devices(24, 24), {tag: Demand() for tag in "abc"})

    assert found.left_out == ("c",)
    assert found.conflict is not None
    assert found.conflict.needed_bytes == 42 < found.conflict.offered_bytes == 48


def test_copies_come_out_in_proportion_to_weights() -> None:
    needs = {"a": _need(1, 1), "b": _need(1, 1)}
    demands = {
        "a": Demand(at_most=20, weight=Fraction(3)),
        "b": Demand(at_most=20, weight=Fraction(1)),
    }
    found = plan(needs, _devices(8), demands)

    assert found.copies == {"a": 6, "b": 2}


def test_earlier_models_and_devices_come_first() -> None:
    needs = {tag: _need(5, 5) for tag in "abcd"}
    found = plan(needs, _devices(10, 5), {tag: Demand() for tag in "abcd"})
    roomy = plan(needs, _devices(99, 99), {tag: Demand() for tag in "abcd"})

    assert found.left_out == ("d",)
    assert roomy.devices[0].copies == dict.fromkeys("abcd", 1)
    assert roomy.more["a"] == 15 + 19


def test_the_same_question_gets_the_same_plan() -> None:
    needs = _draw(5, 6)
    demands = {tag: Demand(at_most=3) for tag in needs}
    plans = [plan(needs, _devices(20, 15), demands, active=2) for _ in range(3)]

    assert plans[0] == plans[1] == plans[2]


def test_nothing_wanted_is_a_plan() -> None:
    found = plan({"a": _need(1, 1)}, _devices(4), {"a": Demand(at_least=0, at_most=0)})

    assert found.fits
    assert found.copies == {"a": 0}


def test_needs_are_the_upper_figures_of_a_database() -> None:
    costs = make_database()
    needs = needs_of(costs)
    bert = costs.models["bert-base"]

    assert list(needs) == [tag for tag in costs.models if tag != "broken"]
    assert bert.resident_bytes is not None
    assert bert.resident_bytes.interval_95 is not None
    assert needs["bert-base"].resident_bytes == bert.resident_bytes.interval_95[1]
    assert needs["bert-base"].peak_bytes == bert.initial_estimate_bytes


def test_what_is_not_known_of_a_model_is_taken_as_its_peak() -> None:
    bare = ModelCost(initial_estimate_bytes=7)
    above = ModelCost(
        initial_estimate_bytes=7, resident_bytes=MeasuredBytes(value=9, evidence="sampled")
    )

    assert need_of(bare) == _need(7, 7)
    assert need_of(above) == _need(7, 7)
    assert need_of(ModelCost()) is None


def test_questions_that_make_no_sense_are_refused() -> None:
    needs = {"a": _need(1, 1)}
    with pytest.raises(UsageError, match="no device"):
        plan(needs, [], {"a": Demand()})
    with pytest.raises(UsageError, match="'gpu0' is there twice"):
        plan(needs, [*_devices(1), *_devices(1)], {"a": Demand()})
    with pytest.raises(UsageError, match="nothing is known of what 'b'"):
        plan(needs, _devices(1), {"b": Demand()})
    with pytest.raises(UsageError, match="0 copies running"):
        plan(needs, _devices(1), {"a": Demand()}, active=0)
    with pytest.raises(UsageError, match="from 2 to 1"):
        Demand(at_least=2, at_most=1)
    with pytest.raises(UsageError, match="negative"):
        Demand(weight=Fraction(-1))
    with pytest.raises(UsageError, match="resident <= peak <= load"):
        _need(3, 2)
