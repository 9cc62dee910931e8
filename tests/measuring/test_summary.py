"""A summary of samples never claims more than the samples say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.measuring.summary import summarise_bytes, summarise_duration

_SIZES = st.lists(st.integers(0, 2**45), min_size=1, max_size=80)


@given(_SIZES)
def test_a_duration_lies_within_its_samples(samples: list[int]) -> None:
    duration = summarise_duration(samples)
    assert duration.min == min(samples)
    assert duration.max == max(samples)
    assert duration.min <= duration.median <= duration.max
    assert duration.samples == tuple(samples)


def test_a_percentile_that_the_sample_is_too_small_for_is_unknown() -> None:
    assert summarise_duration(range(58)).p95 is None
    assert summarise_duration(range(59)).p95 == 56
    assert summarise_duration([5] * 59).p95 == 5


@given(_SIZES)
def test_an_interval_holds_the_figure_and_is_never_negative(samples: list[int]) -> None:
    measured = summarise_bytes(samples, "exact")
    assert (measured.interval_95 is None) == (len(samples) < 3)
    if measured.interval_95 is not None:
        assert 0 <= measured.interval_95[0] <= measured.value <= measured.interval_95[1]


def test_equal_samples_have_no_spread() -> None:
    measured = summarise_bytes([438_000_000] * 3, "sampled")
    assert measured.value == 438_000_000
    assert measured.interval_95 == (438_000_000, 438_000_000)
    assert measured.evidence == "sampled"
    assert measured.samples == (438_000_000,) * 3


def test_one_or_two_samples_have_a_figure_and_no_interval() -> None:
    assert summarise_bytes([7], "exact").interval_95 is None
    assert summarise_bytes([7, 9], "exact").value == 8
    assert summarise_bytes([7, 9], "exact").interval_95 is None


def test_a_difference_of_readings_may_be_negative() -> None:
    measured = summarise_bytes([-4096, 0, 4096], "sampled")
    assert measured.value == 0
    assert measured.interval_95 is not None
    assert measured.interval_95[0] < 0


def test_no_sample_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no sample"):
        summarise_duration([])
    with pytest.raises(ValueError, match="no sample"):
        summarise_bytes([], "exact")
    with pytest.raises(ValueError, match="negative: -1 ns"):
        summarise_duration([1, -1])
