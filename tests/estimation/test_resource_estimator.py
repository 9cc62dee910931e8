"""What the estimator promises: PEERS' failures of the original are named at their claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from modelmgr.errors import UsageError
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.units import MIB
from support.interpreters import run_python

COSTS = {"bert": 1500.0, "gpt2": 3000.0, "whisper": 700.0}
FOREIGN = 400.0


def whole_use(active: Mapping[str, int], costs: Mapping[str, float] = COSTS) -> float:
    return FOREIGN + sum(costs[tag] * count for tag, count in active.items())


def feed(
    estimator: ResourceEstimator,
    *,
    seed: int,
    readings: int,
    spikes: float = 0.0,
    noise: float = 10.0,
    costs: Mapping[str, float] = COSTS,
    foreign: float = 0.0,
) -> None:
    """Observe random combinations, MB."""
    generator = np.random.default_rng(seed)
    for _ in range(readings):
        active = {tag: int(count) for tag in costs if (count := generator.integers(0, 4))}
        if not active:
            continue
        reading = whole_use(active, costs) + generator.normal(0.0, noise) + foreign
        if generator.random() < spikes:
            reading += generator.uniform(100.0, 6000.0)
        estimator.add_observation(active, reading)


def known(estimator: ResourceEstimator, tag: str) -> CostEstimate:
    estimate = estimator.estimate(tag)
    assert estimate is not None
    return estimate


def test_a_model_never_heard_of_is_unknown_and_costs_the_default() -> None:
    estimator = ResourceEstimator()
    assert estimator.is_unknown("bert")
    assert estimator.get_estimate("bert") == 4000.0
    assert estimator.get_estimate("bert", 123.0) == 123.0
    assert estimator.estimate("bert") is None
    assert estimator.next_observation() is None
    assert estimator.learned() == {}


def test_a_preload_is_returned_as_it_was_told() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("bert", 1000.5)
    assert not estimator.is_unknown("bert")
    assert estimator.get_estimate("bert") == 1000.5
    assert known(estimator, "bert").source == "preload"
    assert estimator.learned() == {}


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
def test_a_preload_that_is_no_size_is_refused(cost: float) -> None:
    estimator = ResourceEstimator()
    with pytest.raises(ValueError, match="initial estimate"):
        estimator.set_initial_estimate("bert", cost)
    assert estimator.is_unknown("bert")


@pytest.mark.parametrize(
    ("active", "peak"),
    [
        ({"bert": 1}, float("nan")),
        ({"bert": 1}, float("inf")),
        ({"bert": 1}, -5.0),
        ({"bert": 1}, 0.0),
        ({}, 100.0),
        ({"bert": 0}, 100.0),
        ({"bert": -1}, 100.0),
        ({"gpt2": 1, "bert": -1}, 100.0),
        ({"bert": True}, 100.0),
        ({"bert": 10**400}, 100.0),
        ({"bert": 1.0}, 100.0),
        ({"bert": "1"}, 100.0),
        ({"bert": 1, 3: 1}, 100.0),
        ({None: 1}, 100.0),
        ([("bert", 1)], 100.0),
        (None, 100.0),
        ({"bert": 1}, "5"),
        ({"bert": 1}, True),
        ({"bert": 1}, None),
    ],
)
def test_a_bad_observation_is_refused_and_changes_nothing(active: Any, peak: Any) -> None:
    """A job shorter than the poll interval taught 0 MB; a failed reading read as free memory."""
    estimator = ResourceEstimator()
    feed(estimator, seed=1, readings=30)
    before = [estimator.estimate(tag) for tag in COSTS]
    with pytest.raises(ValueError, match=r"."):
        estimator.add_observation(active, peak)
    assert [estimator.estimate(tag) for tag in COSTS] == before


def test_a_tag_that_is_no_text_is_refused_and_changes_nothing() -> None:
    """One of them among ten thousand readings made every later question fail."""
    estimator = ResourceEstimator()
    feed(estimator, seed=1, readings=30)
    before = [estimator.estimate(tag) for tag in COSTS]
    wrong: Any = 3
    ways: tuple[Callable[[], None], ...] = (
        lambda: estimator.set_initial_estimate(wrong, 5.0),
        lambda: estimator.observe({wrong: 1}, {wrong: 1}, MIB),
        lambda: estimator.record_isolation(wrong, None, MIB),
        lambda: estimator.record_own_use(wrong, peak_bytes=MIB),
        lambda: estimator.record_out_of_memory(wrong, MIB),
    )
    for told in ways:
        with pytest.raises(ValueError, match="a tag is a text, not 3"):
            told()
    assert [estimator.estimate(tag) for tag in COSTS] == before
    assert set(estimator.learned()) == set(COSTS)


def test_counts_of_numpy_s_teach_as_python_s_do() -> None:
    one, other = ResourceEstimator(), ResourceEstimator()
    for count in (1, 2) * 10:
        one.add_observation({"bert": count}, 500.0 + 1000.0 * count)
        numpys: Any = {"bert": np.int64(count)}
        other.add_observation(numpys, 500.0 + 1000.0 * count)
    assert one.estimate("bert") == other.estimate("bert")


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, float("nan"), "0.2", True])
def test_a_smoothing_factor_outside_of_its_range_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="smoothing_factor"):
        ResourceEstimator(smoothing_factor=value)


@pytest.mark.parametrize("value", [0, 2.5, True, "5"])
def test_data_points_that_are_no_count_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="min_data_points must be a whole number, 1 or more"):
        ResourceEstimator(min_data_points=value)


def test_clean_readings_are_told_apart() -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=2, readings=200, noise=5.0)
    for tag, cost in COSTS.items():
        estimate = known(estimator, tag)
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=2e-3)
        assert estimate.source == "aggregate"
        assert estimate.identified
        assert estimate.interval_95 is not None
        assert estimate.interval_95[0] <= estimate.peak_bytes <= estimate.interval_95[1]
        assert estimate.upper_bytes > estimate.peak_bytes
    assert set(estimator.learned()) == set(COSTS)


def test_readings_without_noise_are_exact() -> None:
    """Load deltas mixed with absolute readings made 3,000 MB into 3,938, noise-free."""
    estimator = ResourceEstimator()
    estimator.record_isolation("gpt2", None, 3000 * MIB)
    feed(estimator, seed=3, readings=40, noise=0.0)
    for tag, cost in COSTS.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_spikes_are_charged_to_nobody(share: float) -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=4, readings=200, spikes=share)
    for tag, cost in COSTS.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=5e-3)


def test_readings_out_of_all_proportion_move_nothing() -> None:
    """What counts as rounding went by the largest reading, and let thousands of MB through."""
    estimator = ResourceEstimator()
    feed(estimator, seed=5, readings=300, spikes=0.1)
    before = estimator.get_estimate("bert")
    for _ in range(3):
        estimator.add_observation({"bert": 1}, 1e9)
    assert estimator.get_estimate("bert") == pytest.approx(before, rel=1e-3)
    feed(estimator, seed=6, readings=300)
    for tag, cost in COSTS.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=5e-3)


def test_as_many_readings_as_the_caller_asked_for_are_needed() -> None:
    estimator = ResourceEstimator(min_data_points=5)
    readings = [({"A": 1}, 500.0), ({"B": 1}, 500.0), ({"A": 1, "B": 1}, 900.0), ({"A": 1}, 500.0)]
    for active, peak in readings:
        estimator.add_observation(active, peak)
        assert estimator.is_unknown("A")
    estimator.add_observation({"B": 1}, 500.0)
    assert not estimator.is_unknown("A")
    assert estimator.get_estimate("A") == pytest.approx(400.0, rel=1e-4)
    assert not estimator.is_unknown("B")


def test_one_reading_of_a_new_model_is_not_trusted() -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=5, readings=50)
    for number in range(3):
        assert estimator.is_unknown("new")
        estimator.add_observation({"new": 1}, FOREIGN + 2000.0 + number)
    assert estimator.get_estimate("new") == pytest.approx(2000.0, rel=0.02)


def test_as_many_costs_as_readings_are_not_trusted() -> None:
    estimator = ResourceEstimator(min_data_points=1)
    estimator.add_observation({"A": 1}, 500.0)
    estimator.add_observation({"A": 2}, 900.0)
    assert estimator.is_unknown("A")
    assert "nothing is left to judge" in (known(estimator, "A").reason or "")


def test_twins_are_never_told_apart_by_guessing() -> None:
    """Rank-deficient observations gave one model everything and the other 0."""
    estimator = ResourceEstimator()
    for number in range(50):
        estimator.add_observation({"A": 1, "B": 1}, 5000.0 + number % 3)
    shares = [known(estimator, tag) for tag in "AB"]
    for share, other in zip(shares, "BA", strict=True):
        assert share.interval_95 is None
        assert not share.identified
        assert share.source == "prior"
        assert other in (share.reason or "")
        assert 0 < share.peak_bytes < share.upper_bytes <= 5000 * MIB
    assert shares[0].peak_bytes == pytest.approx(shares[1].peak_bytes, rel=1e-6)
    assert estimator.is_unknown("A")
    assert estimator.get_estimate("A") == 4000.0


def test_a_preload_stays_to_the_bit_where_readings_leave_it_open() -> None:
    """A preloaded cost decayed to 0 when its model did not run alone."""
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("A", 3000.3)
    for number in range(500):
        estimator.add_observation({"A": 1, "B": 1}, 5000.0 + number % 3)
        assert estimator.get_estimate("A") == 3000.3
    assert "B" in (known(estimator, "A").reason or "")
    assert known(estimator, "B").peak_bytes > 0


def test_a_preload_gives_way_where_readings_speak() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("gpt2", 9000.0)
    feed(estimator, seed=6, readings=200)
    assert estimator.get_estimate("gpt2") == pytest.approx(3000.0, rel=0.01)
    assert known(estimator, "gpt2").source == "aggregate"


def test_the_proposed_observations_tell_everything_apart() -> None:
    estimator = ResourceEstimator()
    costs = {"A": 1000.0, "B": 2500.0, "C": 400.0}
    generator = np.random.default_rng(8)
    active: Mapping[str, int] = {"A": 1, "B": 1, "C": 1}
    asked = 0
    for _ in range(60):
        reading = whole_use(active, costs) + generator.normal(0.0, 3.0)
        estimator.add_observation(dict(active), reading)
        proposal = estimator.next_observation()
        if proposal is None:
            break
        asked += 1
        active = proposal
    assert asked <= 40
    for tag, cost in costs.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=0.05)


def test_a_proposal_fits_the_limit_or_is_not_made() -> None:
    estimator = ResourceEstimator()
    for _ in range(6):
        estimator.add_observation({"A": 1, "B": 1}, 5000.0)
    proposal = estimator.next_observation()
    assert proposal is not None
    assert estimator.next_observation(limit_bytes=100 * MIB) is None


def test_a_model_that_always_runs_alone_is_told_from_foreign_memory_by_one_reading_of_it() -> None:
    estimator = ResourceEstimator()
    for number in range(10):
        estimator.add_observation({"A": 1}, 3000.0 + number % 2)
    assert estimator.is_unknown("A")
    for number in range(3):
        estimator.observe_foreign((1000 + number) * MIB)
    assert estimator.get_estimate("A") == pytest.approx(2000.0, rel=0.01)


def test_a_model_that_is_not_loaded_keeps_its_estimate_to_the_bit() -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=9, readings=100)
    estimator.set_initial_estimate("preloaded", 777.7)
    estimator.record_isolation("isolated", 10 * MIB, 20 * MIB)
    before = {tag: known(estimator, tag) for tag in (*COSTS, "preloaded", "isolated")}
    generator = np.random.default_rng(10)
    for _ in range(3000):
        count = int(generator.integers(1, 4))
        reading = 900.0 + 1500.0 * count + generator.normal(0.0, 50.0)
        estimator.add_observation({"bert": count}, reading)
    after = {tag: known(estimator, tag) for tag in before}
    assert after.pop("bert") != before.pop("bert")
    assert after == before


def test_a_model_that_comes_back_is_still_known() -> None:
    """Forgetting takes from those at work, never from those that rest."""
    estimator = ResourceEstimator()
    feed(estimator, seed=11, readings=400)
    for number in range(5000):
        estimator.add_observation({"bert": 1 + number % 3}, whole_use({"bert": 1 + number % 3}))
    estimator.add_observation({"whisper": 1, "gpt2": 1}, 9999.0)
    assert estimator.get_estimate("gpt2") == pytest.approx(3000.0, rel=0.02)
    assert estimator.get_estimate("whisper") == pytest.approx(700.0, rel=0.02)


def test_one_spiked_isolation_run_is_outvoted_by_later_ones() -> None:
    """One spike poisoned isolation for ever."""
    estimator = ResourceEstimator()
    estimator.record_isolation("bert", None, 9000 * MIB)
    assert estimator.get_estimate("bert") == 9000.0
    estimator.record_isolation("bert", 1200 * MIB, 1500 * MIB)
    assert estimator.get_estimate("bert") == 1500.0
    estimate = known(estimator, "bert")
    assert estimate.source == "isolation"
    assert estimate.resident_bytes == 1200 * MIB
    assert estimate.observations == 2


def test_one_spiked_isolation_run_is_outvoted_by_readings() -> None:
    estimator = ResourceEstimator()
    estimator.record_isolation("bert", None, 9000 * MIB)
    feed(estimator, seed=12, readings=100)
    assert estimator.get_estimate("bert") == pytest.approx(1500.0, rel=0.01)


def test_one_spiked_isolation_run_does_not_move_what_readings_established() -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=13, readings=100)
    estimator.record_isolation("bert", None, 9000 * MIB)
    assert estimator.get_estimate("bert") == pytest.approx(1500.0, rel=0.01)


@pytest.mark.parametrize(("resident", "peak", "weight"), [(0, 5, 1.0), (5, 0, 1.0), (5, 5, 0.0)])
def test_an_isolation_run_that_measured_nothing_is_refused(
    resident: int, peak: int, weight: float
) -> None:
    estimator = ResourceEstimator()
    with pytest.raises(ValueError, match="positive"):
        estimator.record_isolation("bert", resident, peak, weight)
    assert estimator.is_unknown("bert")


def test_an_isolation_run_tells_its_twin_apart() -> None:
    estimator = ResourceEstimator()
    estimator.record_isolation("A", None, 3000 * MIB)
    for number in range(20):
        estimator.add_observation(
            {"A": 1 + number % 2, "B": 1 + number % 2}, 5000.0 * (1 + number % 2)
        )
    assert estimator.get_estimate("A") == pytest.approx(3000.0, rel=0.02)
    assert estimator.get_estimate("B") == pytest.approx(2000.0, rel=0.05)
    assert known(estimator, "A").source == "isolation"


def test_resident_and_active_cost_are_told_apart() -> None:
    estimator = ResourceEstimator()
    generator = np.random.default_rng(14)
    for _ in range(150):
        loaded = {"A": int(generator.integers(1, 4)), "B": int(generator.integers(0, 3))}
        active = {tag: int(generator.integers(0, count + 1)) for tag, count in loaded.items()}
        use = 300 + sum(
            resident * loaded[tag] + extra * active[tag]
            for tag, resident, extra in (("A", 1000, 600), ("B", 2000, 100))
        )
        use += int(generator.normal(0.0, 5.0)) + (3000 if generator.random() < 0.1 else 0)
        estimator.observe(loaded, active, use * MIB)
    first, second = known(estimator, "A"), known(estimator, "B")
    assert first.resident_bytes == pytest.approx(1000 * MIB, rel=0.01)
    assert first.peak_bytes == pytest.approx(1600 * MIB, rel=0.01)
    assert second.resident_bytes == pytest.approx(2000 * MIB, rel=0.01)
    assert second.peak_bytes == pytest.approx(2100 * MIB, rel=0.01)


def test_a_reading_at_rest_gives_the_resident_size() -> None:
    estimator = ResourceEstimator()
    for count in (1, 2, 3, 1, 2, 3):
        estimator.observe(
            {"A": count},
            {"A": count},
            (500 + 1600 * count) * MIB,
            resident_bytes=(500 + 1000 * count) * MIB,
        )
    estimate = known(estimator, "A")
    assert estimate.resident_bytes == pytest.approx(1000 * MIB, rel=1e-3)
    assert estimate.peak_bytes == pytest.approx(1600 * MIB, rel=1e-3)


def test_a_model_never_seen_at_work_has_no_peak() -> None:
    estimator = ResourceEstimator()
    for count in (1, 2, 3) * 4:
        estimator.observe({"A": count}, {}, (500 + 1000 * count) * MIB)
    estimate = known(estimator, "A")
    assert not estimate.identified
    assert estimate.reason is not None
    assert estimator.is_unknown("A")


def test_more_copies_at_work_than_loaded_are_refused() -> None:
    estimator = ResourceEstimator()
    with pytest.raises(ValueError, match="2 copies of 'A' active, 1 loaded"):
        estimator.observe({"A": 1}, {"A": 2}, 100)
    with pytest.raises(ValueError, match="'B' active, 0 loaded"):
        estimator.observe({"A": 1}, {"B": 1}, 100)
    with pytest.raises(ValueError, match="outside"):
        estimator.observe({"A": 1}, {"A": -1}, 100)
    assert estimator.estimate("A") is None


def test_a_published_estimate_moves_by_the_smoothing_factor() -> None:
    slow, quick = ResourceEstimator(smoothing_factor=0.2), ResourceEstimator(smoothing_factor=1.0)
    for estimator in (slow, quick):
        estimator.set_initial_estimate("A", 1000.0)
        for count in (1, 2, 1, 2, 1):
            estimator.add_observation({"A": count}, 100.0 + 2000.0 * count)
    moved = 1.0 - 0.8**5
    assert quick.get_estimate("A") == pytest.approx(2000.0, rel=1e-3)
    assert slow.get_estimate("A") == pytest.approx(1000.0 + moved * 1000.0, rel=1e-3)
    assert known(slow, "A").upper_bytes >= 1999 * MIB


def test_a_cost_that_changed_is_learned_anew() -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=15, readings=3000)
    feed(estimator, seed=16, readings=3000, costs={**COSTS, "bert": 2200.0})
    assert estimator.get_estimate("bert") == pytest.approx(2200.0, rel=0.01)
    assert estimator.get_estimate("gpt2") == pytest.approx(3000.0, rel=0.01)


def test_foreign_memory_that_comes_is_charged_to_no_model() -> None:
    estimator = ResourceEstimator()
    feed(estimator, seed=17, readings=300)
    for seed in range(18, 38):
        feed(estimator, seed=seed, readings=50, foreign=5000.0)
        for tag, cost in COSTS.items():
            assert estimator.get_estimate(tag) == pytest.approx(cost, rel=0.02)


def test_an_estimate_rises_when_a_copy_ran_out_of_memory() -> None:
    estimator = ResourceEstimator()
    estimator.record_out_of_memory("new", 5000 * MIB)
    assert known(estimator, "new").upper_bytes == 5000 * MIB
    assert estimator.is_unknown("new")
    feed(estimator, seed=38, readings=100)
    estimator.record_out_of_memory("bert", 1800 * MIB)
    assert known(estimator, "bert").upper_bytes == 1800 * MIB
    estimator.record_isolation("bert", None, 1510 * MIB)
    assert known(estimator, "bert").upper_bytes < 1800 * MIB


def test_what_is_kept_stops_growing() -> None:
    estimator = ResourceEstimator()
    generator = np.random.default_rng(39)
    held: list[int] = []
    for number in range(20_000):
        active = {"bert": int(generator.integers(1, 5)), "gpt2": int(generator.integers(0, 5))}
        estimator.add_observation(active, whole_use(active) + generator.normal(0.0, 10.0))
        if number % 1000 == 999:
            held.append(estimator.kept_readings)
    assert max(held) <= estimator.most_kept_readings == 512
    assert estimator.get_estimate("bert") == pytest.approx(1500.0, rel=2e-3)


def test_asking_often_or_once_gives_the_same_figure() -> None:
    often, once = ResourceEstimator(), ResourceEstimator()
    generator = np.random.default_rng(40)
    for _ in range(300):
        active = {"bert": int(generator.integers(1, 4)), "gpt2": int(generator.integers(0, 4))}
        reading = whole_use(active) + generator.normal(0.0, 10.0)
        for estimator in (often, once):
            estimator.add_observation(active, reading)
        often.get_estimate("bert")
    assert often.get_estimate("bert") == pytest.approx(once.get_estimate("bert"), rel=2e-3)


def test_upper_figures_are_exceeded_about_as_rarely_as_they_claim() -> None:
    generator = np.random.default_rng(41)
    exceeded = total = 0
    for seed in range(40):
        estimator = ResourceEstimator()
        feed(estimator, seed=100 + seed, readings=60, spikes=0.1, noise=30.0)
        for tag, cost in COSTS.items():
            uppers = known(estimator, tag).upper_bytes / MIB
            nexts = cost + generator.normal(0.0, 30.0, 50)
            exceeded += int((nexts > uppers).sum())
            total += len(nexts)
    assert exceeded / total < 0.02


def test_making_an_estimator_imports_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys; from modelmgr.estimation.estimator import ResourceEstimator as R; r = R();"
        "r.add_observation({'a': 1}, 5.0); r.set_initial_estimate('a', 3.0); r.get_estimate('a');"
        "print(sorted({'numpy', 'scipy'} & set(sys.modules)))"
    )
    assert run_python("-c", code) == "[]\n"


def test_the_estimate_rises_with_what_a_copy_had_when_it_ran_out_of_memory() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("m", 10.0)
    estimator.record_out_of_memory("m", 900 * MIB)
    assert estimator.get_estimate("m") == 900.0
    estimator.record_isolation("m", 500 * MIB, 700 * MIB)
    assert estimator.get_estimate("m") == pytest.approx(700.0)
