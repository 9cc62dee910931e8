"""Medians, deviations and quantiles are what their definitions say, and never a guess."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.stats.location import mad, median, quantile

_SAMPLES = st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=60)
_INTEGERS = st.lists(st.integers(0, 2**50), min_size=1, max_size=60)


@given(_SAMPLES | _INTEGERS)
def test_the_median_is_the_middle_value(samples: list[float]) -> None:
    assert median(samples) == pytest.approx(statistics.median(samples))


@given(_SAMPLES, st.floats(0, 1))
def test_a_quantile_is_definition_8_of_hyndman_and_fan(samples: list[float], q: float) -> None:
    expected = float(np.quantile(samples, q, method="median_unbiased"))
    spread = max(samples) - min(samples)
    assert quantile(samples, q) == pytest.approx(expected, abs=1e-9 * max(spread, 1))


@given(_INTEGERS, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_stay_within_the_sample(samples: list[int], p: float, q: float) -> None:
    low, high = sorted((p, q))
    below, above = quantile(samples, low), quantile(samples, high)
    assert min(samples) <= below <= max(samples)
    assert below <= above or below == pytest.approx(above)


@given(st.integers(0, 2**53), st.integers(1, 30), st.floats(0, 1))
def test_equal_samples_have_exactly_that_quantile(value: int, count: int, q: float) -> None:
    assert quantile([value] * count, q) == value
    assert median([value] * count) == value
    assert mad([value] * count) == 0


def test_one_wild_value_hardly_moves_the_deviation() -> None:
    assert mad([1, 2, 3, 4, 5]) == 1
    assert mad([1, 2, 3, 4, 5_000_000]) == 1


@pytest.mark.parametrize("bad", [[], [math.nan], [1.0, math.inf]])
def test_no_sample_has_no_location(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no sample|not finite"):
        median(bad)
    with pytest.raises(ValueError, match=r"no sample|not finite"):
        mad(bad)
    with pytest.raises(ValueError, match=r"no sample|not finite"):
        quantile(bad, 0.5)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="q must be in 0 to 1"):
        quantile([1, 2, 3], q)
