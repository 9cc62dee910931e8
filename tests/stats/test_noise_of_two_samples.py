"""The statistics that tell noise from change keep to their error rates, from either side."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, ttest_ind

from modelmgr.stats.shift import Shift, is_above, log_moments, relative_shift, typical_noise
from modelmgr.stats.two_samples import statistic_difference


def shift(old: Sequence[float], new: Sequence[float]) -> Shift:
    found = relative_shift(log_moments(old), log_moments(new))
    assert found is not None
    return found


def unknown(old: Sequence[float], new: Sequence[float]) -> bool:
    return relative_shift(log_moments(old), log_moments(new)) is None


def drawn(generator: random.Random, count: int, middle: float = 100.0) -> list[float]:
    return [middle * generator.lognormvariate(0, 0.1) for _ in range(count)]


@pytest.mark.parametrize("count", [3, 5, 30, 90])
def test_the_interval_misses_the_true_shift_about_once_in_a_hundred(count: int) -> None:
    generator = random.Random(count)
    tries = 2_000
    shifts = [shift(drawn(generator, count), drawn(generator, count, 120.0)) for _ in range(tries)]
    missed = sum(not each.low <= 0.2 <= each.high for each in shifts)
    assert missed < 0.02 * tries


def test_slow_drifts_are_noise_too() -> None:
    """Neighbouring values that resemble each other are not as many independent ones."""
    generator = random.Random(7)

    def drifting() -> list[float]:
        level = 0.0
        values: list[float] = []
        for _ in range(90):
            level = 0.9 * level + generator.gauss(0, 0.05)
            values.append(100 * math.exp(level))
        return values

    tries = 1_000
    shifts = [shift(drifting(), drifting()) for _ in range(tries)]
    missed = sum(not each.low <= 0 <= each.high for each in shifts)
    each_alone = np.mean(
        [
            ttest_ind(np.log(drifting()), np.log(drifting()), equal_var=False).pvalue < 0.01
            for _ in range(200)
        ]
    )
    assert each_alone > 0.3  # what taking each value for itself would make of it
    assert missed < 0.12 * tries


@given(st.lists(st.floats(1, 1e12), min_size=2, max_size=40), st.floats(0.1, 10))
@settings(deadline=None)
def test_swapping_the_sides_turns_the_shift_round(values: list[float], factor: float) -> None:
    other = [value * factor for value in reversed(values)]
    _, low, high = shift(values, other)
    _, swapped_low, swapped_high = shift(other, values)
    if high < 1e100:
        assert swapped_low == pytest.approx(1 / (1 + high) - 1, abs=1e-9, rel=1e-6)
    if swapped_high < 1e100:
        assert low == pytest.approx(1 / (1 + swapped_high) - 1, abs=1e-9, rel=1e-6)


def test_a_single_value_takes_the_noise_of_the_other_side() -> None:
    estimate, low, high = shift([100.0, 101.0, 99.0], [110.0])
    assert low < estimate < high
    assert unknown([100.0], [110.0])
    assert unknown([], [110.0])
    assert unknown([0.0, 1.0], [1.0, 2.0])


def test_values_without_noise_have_an_exact_shift() -> None:
    assert shift([100.0] * 3, [110.0] * 3)[1:] == pytest.approx((0.1, 0.1))


def test_the_least_noise_widens_what_agrees_by_chance() -> None:
    moments = log_moments([100.0] * 3), log_moments([110.0] * 3)
    widened = relative_shift(*moments, least_noise=0.02)
    assert widened is not None
    assert widened.low < 0.05
    assert widened.high > 0.15


def test_the_typical_noise_is_the_median_of_what_is_known() -> None:
    samples = [[100.0, 101.0], [100.0, 120.0], [100.0], [100.0, 100.1]]
    assert typical_noise(map(log_moments, samples)) == pytest.approx(0.00704, abs=1e-4)
    assert typical_noise([log_moments([1.0]), None]) == 0.0


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_ranks_agree_with_scipy(seed: int) -> None:
    generator = random.Random(seed)
    old = [round(value) for value in drawn(generator, generator.randint(8, 60))]
    new = [round(value) for value in drawn(generator, generator.randint(8, 60), 106.0)]
    expected = mannwhitneyu(new, old, alternative="greater", method="asymptotic").pvalue
    assert is_above(new, old) == bool(expected <= 0.005)


def test_few_values_are_above_only_if_all_are() -> None:
    assert is_above([4, 5, 6], [1, 2, 3])
    assert not is_above([3, 5, 6], [1, 2, 4])
    assert not is_above([], [1])
    assert not is_above([5] * 20, [5] * 20)


def test_a_tails_difference_has_an_interval_only_where_the_tail_is_known() -> None:
    generator = random.Random(3)
    old, new = drawn(generator, 100), drawn(generator, 100, 200.0)
    found = statistic_difference(old, new, "p95")
    assert found is not None
    assert 50 < found[0] < found[1] < 200
    assert statistic_difference(old[:40], new[:40], "p95") is None
    assert statistic_difference(old, new, "max") is None
    assert statistic_difference(old[:5], new[:5], "mean") is None


def test_swapping_the_sides_turns_a_tails_difference_round() -> None:
    generator = random.Random(4)
    old, new = drawn(generator, 80), drawn(generator, 90)
    there, back = (statistic_difference(*pair, "p95") for pair in ((old, new), (new, old)))
    assert there is not None
    assert back is not None
    assert there == pytest.approx((-back[1], -back[0]))


def test_a_sample_beside_itself_has_no_difference() -> None:
    values = drawn(random.Random(5), 100)
    assert statistic_difference(values, values, "mean") == (0.0, 0.0)


@pytest.mark.parametrize("counts", [(5, 5), (4, 6), (3, 9), (9, 3), (2, 19)])
def test_samples_that_lie_wholly_above_others_are_above_them_whatever_their_sizes(
    counts: tuple[int, int],
) -> None:
    """Five beside five never were: their p is 1/252, and its approximation 0.006."""
    old, new = counts
    assert is_above(range(100, 100 + new), range(old))
    assert not is_above(range(old - 1, old - 1 + new), range(old))


def test_a_quiet_sample_keeps_its_own_noise_beside_noisy_ones() -> None:
    quiet = [100.0, 100.1, 99.9, 100.05, 99.95]
    old, new = log_moments(quiet), log_moments([value * 1.15 for value in quiet])
    beside_noise = relative_shift(old, new, least_noise=0.3)
    assert beside_noise is not None
    assert 0.13 < beside_noise.low < 0.15 < beside_noise.high < 0.17


@pytest.mark.parametrize("count", [3, 5, 15, 60])
def test_the_least_noise_alarms_no_more_often_than_the_confidence_allows(count: int) -> None:
    """Whether a quiet sample is quiet, or by chance, is told at its own small risk."""
    generator = random.Random(count)
    tries = 3_000
    alarms = 0
    for _ in range(tries):
        old, new = drawn(generator, count), drawn(generator, count)
        found = relative_shift(log_moments(old), log_moments(new), least_noise=0.1)
        assert found is not None
        alarms += found.low > 0 and is_above(new, old)
    assert alarms <= 0.005 * tries
