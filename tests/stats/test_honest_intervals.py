"""Intervals hold what they promise to hold, and small samples get none."""

from __future__ import annotations

import math
import random
import statistics

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.stats.bootstrap import SMALLEST_SAMPLE, bootstrap_interval
from modelmgr.stats.intervals import (
    mean_interval_95,
    median_interval_95,
    percentile_established,
)
from modelmgr.stats.location import median

_LISTS = st.lists(st.integers(0, 10**12), min_size=3, max_size=80)


@given(_LISTS)
def test_the_interval_of_the_mean_is_students(samples: list[int]) -> None:
    interval = mean_interval_95(samples)
    assert interval is not None
    error = statistics.stdev(samples) / math.sqrt(len(samples))
    reach = float(scipy.stats.t.ppf(0.975, len(samples) - 1)) * error
    mean = statistics.fmean(samples)
    assert interval == pytest.approx((mean - reach, mean + reach), rel=1e-4, abs=1e-4 * error)


@pytest.mark.parametrize("count", [*range(6, 120), 1_000, 9_999, 100_000])
def test_the_interval_of_the_median_is_the_narrowest_that_keeps_its_promise(count: int) -> None:
    interval = median_interval_95(range(1, count + 1))
    assert interval is not None
    low, high = interval
    assert low + high == count + 1
    missed = 2 * float(scipy.stats.binom.cdf(low - 1, count, 0.5))
    missed_by_the_next = 2 * float(scipy.stats.binom.cdf(low, count, 0.5))
    assert missed <= 0.05 + 1e-12
    assert missed_by_the_next > 0.05


def test_the_interval_of_the_median_holds_it_in_19_of_20_skewed_samples() -> None:
    generator = random.Random(20)
    truth = math.log(2)
    held = 0
    for _ in range(2_000):
        interval = median_interval_95([generator.expovariate(1) for _ in range(9)])
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held / 2_000 >= 0.95


@given(_LISTS)
def test_an_interval_of_the_median_holds_the_samples_own(samples: list[int]) -> None:
    interval = median_interval_95(samples)
    if len(samples) < 6:
        assert interval is None
    else:
        assert interval is not None
        assert interval[0] <= median(samples) <= interval[1]


def test_too_few_samples_have_no_interval() -> None:
    assert mean_interval_95([]) is None
    assert mean_interval_95([1, 2]) is None
    assert median_interval_95([]) is None
    assert median_interval_95([1, 2, 3, 4, 5]) is None
    assert bootstrap_interval([1.0] * (SMALLEST_SAMPLE - 1), median, seed=0) is None


def test_what_is_not_finite_is_refused() -> None:
    samples = [1.0] * 20 + [math.nan]
    with pytest.raises(ValueError, match="not finite"):
        mean_interval_95(samples)
    with pytest.raises(ValueError, match="not finite"):
        median_interval_95(samples)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval(samples, median, seed=0)


@pytest.mark.parametrize(("q", "smallest"), [(0.5, 6), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_a_percentile_is_established_from_wilks_number_on(q: float, smallest: int) -> None:
    assert percentile_established(smallest, q)
    assert not percentile_established(smallest - 1, q)
    assert percentile_established(smallest, 1 - q)
    assert not percentile_established(0, q)


@pytest.mark.parametrize(("n", "q"), [(-1, 0.5), (5, 0.0), (5, 1.0), (5, math.nan)])
def test_a_question_without_sense_is_refused(n: int, q: float) -> None:
    with pytest.raises(ValueError, match="must"):
        percentile_established(n, q)


def test_a_bootstrap_is_the_same_for_the_same_seed_and_close_for_another() -> None:
    generator = random.Random(1)
    samples = [generator.gauss(100, 10) for _ in range(50)]
    first = bootstrap_interval(samples, statistics.fmean, seed=7)
    assert first is not None
    assert bootstrap_interval(samples, statistics.fmean, seed=7) == first
    assert bootstrap_interval(tuple(samples), statistics.fmean, seed=8) != first
    assert first == pytest.approx(mean_interval_95(samples), abs=1.0)


def test_more_confidence_makes_a_wider_interval() -> None:
    samples = [float(value) for value in range(40)]
    narrow = bootstrap_interval(samples, median, seed=0, confidence=0.5)
    wide = bootstrap_interval(samples, median, seed=0, confidence=0.99)
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] <= median(samples) <= narrow[1] < wide[1]


def test_a_bootstrap_without_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval([1.0] * 20, median, seed=0, confidence=1.0)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval([1.0] * 20, median, seed=0, resamples=0)
