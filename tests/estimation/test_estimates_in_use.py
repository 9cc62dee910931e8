"""What the estimator keeps, asked all the time or never; and what single copies show."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from modelmgr.estimation import spd
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.estimation.levels import level_offsets
from modelmgr.estimation.own_use import ENOUGH_JOBS, RecentMaxima
from modelmgr.estimation.spd import FloatArray
from modelmgr.units import MIB

COSTS = {"bert": 1500.0, "gpt2": 3000.0, "whisper": 700.0}


def known(estimator: ResourceEstimator, tag: str) -> CostEstimate:
    estimate = estimator.estimate(tag)
    assert estimate is not None
    return estimate


def observe(
    estimator: ResourceEstimator,
    generator: np.random.Generator,
    *,
    foreign: float = 400.0,
    noise: float = 10.0,
    costs: Mapping[str, float] = COSTS,
) -> None:
    """Take one random reading, MB."""
    active = {tag: int(count) for tag in costs if (count := generator.integers(0, 4))} or {
        next(iter(costs)): 1
    }
    use = foreign + sum(costs[tag] * count for tag, count in active.items())
    estimator.add_observation(active, use + generator.normal(0.0, noise))


class NeverSolved(ResourceEstimator):
    """Fails the test when somebody solves."""

    def _solve(self) -> None:
        raise AssertionError("observing solved the regression")


def test_observing_never_solves_however_long_nobody_asks() -> None:
    estimator = NeverSolved()
    generator = np.random.default_rng(1)
    for _ in range(3000):
        observe(estimator, generator)
    assert estimator.kept_readings <= estimator.most_kept_readings


def test_three_thousand_configurations_are_no_more_than_ten() -> None:
    """The original solved all it had ever seen at each release: 2 s after 3,000 configurations."""
    estimator = NeverSolved()
    held: set[int] = set()
    for number in range(3000):
        active = {"A": 1 + number % 50, "B": 1 + number // 50}
        estimator.add_observation(active, 500.0 + 10.0 * active["A"] + 20.0 * active["B"])
        if number >= 1000:
            held.add(estimator.kept_readings)
    assert held == {estimator.most_kept_readings}


@pytest.mark.parametrize("rounds", [1, 4])
def test_models_never_seen_together_are_never_factored_together(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand of them, each seen once and alone, cost more than 90 s: the cube of them all."""
    factored = [0]
    plain = spd.cholesky

    def cholesky(matrix: FloatArray) -> FloatArray:
        factored.append(len(matrix))
        return plain(matrix)

    monkeypatch.setattr(spd, "cholesky", cholesky)
    estimator = ResourceEstimator()
    generator = np.random.default_rng(3)
    for _ in range(rounds):
        for pair in range(1000):
            estimator.add_observation({f"a{pair}": 1, f"b{pair}": 1 + pair % 2}, 900.0 + pair)
            noise = float(generator.normal(0.0, 5.0))
            estimator.add_observation({f"a{pair}": 1}, 700.0 + pair % 7 + noise)
    assert known(estimator, "b500").observations == rounds
    estimator.add_observation({"a500": 1}, 703.0)
    assert known(estimator, "a500").observations == 2 * rounds + 1
    assert estimator.next_observation() is not None
    assert max(factored) <= 4


def test_what_cannot_be_told_apart_from_thousands_names_some_of_them() -> None:
    estimator = ResourceEstimator()
    for _ in range(3):
        for number in range(20):
            estimator.add_observation({f"m{number:02}": 1}, 900.0 + number)
    assert known(estimator, "m05").reason == (
        "no observation tells it apart from the memory of others, m00, m01, m02, m03, m04, m06, "
        "m07 and 12 more"
    )


def test_what_ran_long_before_anybody_asked_is_not_lost() -> None:
    estimator = ResourceEstimator()
    generator = np.random.default_rng(2)
    for _ in range(400):
        observe(estimator, generator)
    for _ in range(4000):
        observe(estimator, generator, costs={"bert": 1500.0})
    for tag, cost in COSTS.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=0.01)


def test_readings_that_overflow_are_told_from_spikes_by_the_latest_costs() -> None:
    estimator = ResourceEstimator()
    generator = np.random.default_rng(3)
    for _ in range(600):
        observe(estimator, generator)
    estimator.get_estimate("bert")
    for _ in range(3000):
        spiked = 4000.0 if generator.random() < 0.2 else 400.0
        observe(estimator, generator, foreign=spiked)
    for tag, cost in COSTS.items():
        assert estimator.get_estimate(tag) == pytest.approx(cost, rel=0.01)


def test_asking_after_every_reading_delays_nothing() -> None:
    """Smoothing what only refines an estimate kept it at what the first few readings said."""
    often, once = ResourceEstimator(), ResourceEstimator()
    generator, same = np.random.default_rng(4), np.random.default_rng(4)
    for _ in range(60):
        observe(often, generator, noise=40.0)
        observe(once, same, noise=40.0)
        often.get_estimate("bert")
    for tag, cost in COSTS.items():
        reached = often.get_estimate(tag)
        assert reached == pytest.approx(once.get_estimate(tag), abs=8.0)
        assert reached == pytest.approx(cost, abs=25.0)


def test_foreign_memory_on_many_levels_is_charged_to_no_model() -> None:
    """One level for all of it put 30 % of a step on a model that ran more often after it."""
    estimator = ResourceEstimator()
    generator = np.random.default_rng(6)
    for number in range(40):
        level = float(generator.uniform(0.0, 20_000.0))
        for _ in range(int(generator.integers(8, 30))):
            observe(estimator, generator, foreign=level)
        if number >= 3:
            for tag, cost in COSTS.items():
                assert known(estimator, tag).peak_bytes == pytest.approx(cost * MIB, rel=0.03)


def test_spikes_are_no_levels() -> None:
    levels = np.random.default_rng(7).normal(0.0, 1.0, 200)
    spiked = levels.copy()
    spiked[::7] += 500.0
    assert not level_offsets(spiked).any()
    moved = levels + np.where(np.arange(200) < 90, 0.0, 300.0)
    offsets = level_offsets(moved)
    np.testing.assert_allclose(offsets[:90], -300.0, atol=1.0)
    assert not offsets[90:].any()


def test_runs_that_differ_widen_what_admission_counts_with() -> None:
    """The next run differs as much; the figure's own error alone is exceeded by every other."""
    generator = np.random.default_rng(8)
    exceeded = total = 0
    for _ in range(60):
        estimator = ResourceEstimator()
        for _ in range(10):
            estimator.record_isolation("A", None, round(generator.normal(1000.0, 80.0) * MIB))
        upper = known(estimator, "A").upper_bytes / MIB
        nexts = generator.normal(1000.0, 80.0, 100)
        exceeded += int((nexts > upper).sum())
        total += len(nexts)
    assert exceeded / total < 0.03


# Copies in processes of their own ------------------------------------------------------------


def test_a_copys_own_bytes_raise_the_upper_figure_at_once_and_nothing_else() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("A", 1000.0)
    estimator.record_own_use("A", peak_bytes=1300 * MIB)
    estimate = known(estimator, "A")
    assert estimate.upper_bytes == 1300 * MIB
    assert estimate.peak_bytes == 1000 * MIB
    assert estimate.seen_bytes == 1300 * MIB
    assert estimate.source == "preload"
    assert estimator.is_unknown("B")
    estimator.record_own_use("B", peak_bytes=1300 * MIB)
    assert estimator.is_unknown("B")


def test_whole_jobs_of_a_process_make_a_model_known() -> None:
    estimator = ResourceEstimator()
    for megabytes in (900, 1000, 1100):
        assert estimator.is_unknown("A")
        estimator.record_own_use(
            "A", peak_bytes=megabytes * MIB, resident_bytes=800 * MIB, whole_job=True
        )
    estimate = known(estimator, "A")
    assert not estimator.is_unknown("A")
    assert estimator.get_estimate("A") == 1000.0
    assert (estimate.resident_bytes, estimate.upper_bytes) == (800 * MIB, 1100 * MIB)
    assert estimate.identified
    assert estimate.interval_95 is None
    assert "6 jobs" in (estimate.reason or "")
    assert estimator.learned() == {"A": estimate}


def test_the_largest_of_enough_jobs_is_exceeded_as_rarely_as_it_claims() -> None:
    generator = np.random.default_rng(9)
    exceeded = total = 0
    for _ in range(300):
        maxima = RecentMaxima()
        for size in generator.lognormal(0.0, 1.0, 2 * ENOUGH_JOBS):
            maxima.add(float(size), whole=True)
        exceeded += int((generator.lognormal(0.0, 1.0, 100) > maxima.largest).sum())
        total += 100
    assert exceeded / total == pytest.approx(1.0 / (ENOUGH_JOBS + 1), rel=0.3)


def test_a_largest_job_is_forgotten_after_enough_smaller_ones() -> None:
    estimator = ResourceEstimator()
    estimator.record_own_use("A", peak_bytes=9000 * MIB, whole_job=True)
    for number in range(ENOUGH_JOBS):
        assert known(estimator, "A").upper_bytes == 9000 * MIB if number >= 2 else True
        estimator.record_own_use("A", peak_bytes=1000 * MIB, whole_job=True)
    assert known(estimator, "A").upper_bytes == 1000 * MIB


def test_an_out_of_memory_figure_is_put_aside_once_jobs_have_measured_it() -> None:
    estimator = ResourceEstimator()
    estimator.set_initial_estimate("A", 1000.0)
    estimator.record_out_of_memory("A", 3000 * MIB)
    for _ in range(20):
        assert known(estimator, "A").upper_bytes == 3000 * MIB
        estimator.record_own_use("A", peak_bytes=1100 * MIB, whole_job=True)
    assert known(estimator, "A").upper_bytes == 1100 * MIB


@pytest.mark.parametrize("size", [0, -1, 2**70])
def test_own_bytes_that_are_no_size_are_refused(size: int) -> None:
    estimator = ResourceEstimator()
    with pytest.raises(ValueError, match="'A'"):
        estimator.record_own_use("A", peak_bytes=size)
    with pytest.raises(ValueError, match="'A'"):
        estimator.record_own_use("A", peak_bytes=5, resident_bytes=size, whole_job=True)
    assert estimator.estimate("A") is None


def test_own_jobs_tell_a_twin_apart_in_the_regression() -> None:
    estimator = ResourceEstimator()
    for _ in range(6):
        estimator.record_own_use("A", peak_bytes=3000 * MIB, whole_job=True)
    for number in range(30):
        copies = 1 + number % 2
        estimator.add_observation({"A": copies, "B": copies}, 500.0 + 5000.0 * copies)
    assert estimator.get_estimate("B") == pytest.approx(2000.0, rel=0.05)
