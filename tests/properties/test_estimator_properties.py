"""Properties of the estimator under observations of any kind."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.units import MIB
from support.interpreters import outputs_under_hash_seeds

TAGS: tuple[str, ...] = ("a", "b", "c", "d")
Reading = tuple[dict[str, int], float]

snapshots = st.dictionaries(st.sampled_from(TAGS), st.integers(0, 4), min_size=1).filter(
    lambda active: any(active.values())
)
any_readings = st.lists(
    st.tuples(snapshots, st.floats(1e-3, 1e6, allow_nan=False)), min_size=1, max_size=40
)
costs_of = st.fixed_dictionaries({tag: st.integers(50, 9000) for tag in TAGS})

quick = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@st.composite
def true_readings(draw: st.DrawFn) -> list[Reading]:
    """Readings of fixed costs with an error of up to 5 MB and now and then a spike."""
    costs = draw(costs_of)
    foreign = draw(st.integers(0, 2000))
    readings: list[Reading] = []
    for active in draw(st.lists(snapshots, min_size=10, max_size=40)):
        error = draw(st.floats(-5.0, 5.0))
        spike = draw(st.sampled_from((0.0,) * 9 + (3000.0,)))
        taken: dict[str, int] = dict(active.items())
        use = foreign + sum(costs[tag] * count for tag, count in active.items())
        readings.append((taken, use + error + spike))
    return readings


def learned_from(readings: list[Reading], *, scale: float = 1.0) -> ResourceEstimator:
    estimator = ResourceEstimator()
    for active, peak in readings:
        estimator.add_observation(active, peak * scale)
    return estimator


@quick
@given(any_readings, st.sampled_from(TAGS), st.floats(1.0, 1e5))
def test_no_figure_is_ever_negative_or_no_number(
    readings: list[Reading], preloaded: str, cost: float
) -> None:
    estimator = ResourceEstimator(min_data_points=1)
    estimator.set_initial_estimate(preloaded, cost)
    for number, (active, peak) in enumerate(readings):
        estimator.add_observation(active, peak)
        if number % 3 == 0:
            estimator.next_observation()
        for tag in TAGS:
            figure = estimator.get_estimate(tag)
            assert math.isfinite(figure)
            assert figure >= 0.0
            estimate = estimator.estimate(tag)
            if estimate is not None:
                assert 0 <= (estimate.resident_bytes or 0) <= estimate.peak_bytes + 1
                assert estimate.peak_bytes <= estimate.upper_bytes + 1
                assert (estimate.interval_95 is None) <= (estimate.reason is not None)
                if estimate.interval_95 is not None:
                    low, high = estimate.interval_95
                    assert 0 <= low <= estimate.peak_bytes <= high


@quick
@given(any_readings)
def test_a_model_that_no_reading_holds_stays_unknown(readings: list[Reading]) -> None:
    estimator = learned_from(readings)
    assert estimator.is_unknown("never")
    assert estimator.get_estimate("never", 7.0) == 7.0
    assert estimator.estimate("never") is None
    assert "never" not in estimator.learned()


@quick
@given(true_readings(), st.sampled_from((2.0**-6, 2.0**7, 3.7)))
def test_estimates_scale_with_the_unit(readings: list[Reading], scale: float) -> None:
    plain, scaled = learned_from(readings), learned_from(readings, scale=scale)
    for tag in TAGS:
        assert plain.is_unknown(tag) == scaled.is_unknown(tag)
        figure = plain.get_estimate(tag, 0.0)
        assert scaled.get_estimate(tag, 0.0) == pytest.approx(
            figure * scale, rel=1e-5, abs=1e-4 * scale
        )


@quick
@given(true_readings(), st.permutations(TAGS), st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(
    readings: list[Reading], names: list[str], shuffler: random.Random
) -> None:
    renaming = dict(zip(TAGS, names, strict=True))
    renamed = [
        ({renaming[tag]: count for tag, count in active.items()}, peak) for active, peak in readings
    ]
    shuffler.shuffle(renamed)
    plain, other = learned_from(readings), learned_from(renamed)
    largest = max(peak for _, peak in readings)
    for tag in TAGS:
        assert plain.is_unknown(tag) == other.is_unknown(renaming[tag])
        figure = plain.get_estimate(tag, 0.0)
        assert other.get_estimate(renaming[tag], 0.0) == pytest.approx(
            figure, rel=1e-4, abs=1e-5 * largest
        )


@quick
@given(true_readings(), any_readings)
def test_a_model_that_is_not_loaded_never_changes(
    readings: list[Reading], later: list[Reading]
) -> None:
    estimator = learned_from(readings)
    before = {tag: estimator.estimate(tag) for tag in TAGS if not estimator.is_unknown(tag)}
    occurring = {tag for active, _ in later for tag, count in active.items() if count}
    for active, peak in later:
        estimator.add_observation(active, peak)
    for tag, estimate in before.items():
        if tag not in occurring:
            assert estimator.estimate(tag) == estimate


@quick
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(TAGS), st.integers(1, 3), min_size=1),
            st.integers(0, 3),
            st.integers(1, 20_000),
            st.one_of(st.none(), st.integers(1, 20_000)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_a_resident_size_is_never_above_the_peak(
    readings: list[tuple[dict[str, int], int, int, int | None]],
) -> None:
    estimator = ResourceEstimator(min_data_points=2)
    for loaded, most_active, peak, resting in readings:
        active = {tag: min(count, most_active) for tag, count in loaded.items()}
        estimator.observe(
            loaded,
            active,
            peak * MIB,
            resident_bytes=None if resting is None else min(resting, peak) * MIB,
        )
    for tag in TAGS:
        estimate = estimator.estimate(tag)
        if estimate is not None and estimate.resident_bytes is not None:
            assert estimate.resident_bytes <= estimate.peak_bytes + 1


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.lists(st.tuples(snapshots, st.floats(1.0, 1e5)), min_size=5, max_size=20))
def test_the_state_is_bounded_by_the_models_not_by_the_readings(readings: list[Reading]) -> None:
    estimator = ResourceEstimator()
    for _ in range(3000 // len(readings)):
        for active, peak in readings:
            estimator.add_observation(active, peak)
    assert estimator.kept_readings <= estimator.most_kept_readings == 512


def test_the_hash_seed_does_not_matter() -> None:
    code = """
from modelmgr.estimation.estimator import ResourceEstimator
estimator = ResourceEstimator()
for number in range(120):
    active = {"bert": 1 + number % 3, "gpt2": number % 2, "t5": number * 7 % 5 % 3}
    use = 300.0 + 900 * active["bert"] + 2000 * active["gpt2"] + 5 * active["t5"]
    estimator.add_observation(active, use + number * 13 % 7 + (2000.0 if number % 11 == 0 else 0.0))
    print(estimator.get_estimate("bert"), estimator.next_observation())
print(estimator.learned())
"""
    assert len(outputs_under_hash_seeds("-c", code)) == 1
