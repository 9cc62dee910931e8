"""A latency is measured until its median is known, and never for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelmgr.measuring.stability import (
    MAX_BATCHES,
    MAX_TIME_NS,
    MIN_BATCHES,
    batches_still_needed,
    is_stable,
    median_interval,
)

MS = 1_000_000


def test_the_interval_is_the_textbook_one() -> None:
    # Hahn and Meeker, table of order statistics for the median at 95 %: n=10 gives ranks 2 and 9.
    assert median_interval(range(1, 11)) == (2, 9)
    assert median_interval(range(1, 7)) == (1, 6)
    assert median_interval(range(1, 6)) is None


def test_equal_batches_stop_as_soon_as_an_interval_exists() -> None:
    assert batches_still_needed([]) == MIN_BATCHES
    assert not is_stable([MS] * 5)
    assert batches_still_needed([MS] * 6) == 0


def test_a_noisy_latency_is_measured_longer() -> None:
    noisy = [MS, 3 * MS] * 4
    assert not is_stable(noisy)
    assert batches_still_needed(noisy) > 0


def test_a_slow_model_runs_its_minimum_and_no_more() -> None:
    assert batches_still_needed([2 * MAX_TIME_NS] * MIN_BATCHES) == 0


@given(st.lists(st.integers(min_value=1, max_value=10**12), max_size=40), st.data())
def test_every_measurement_ends(samples: list[int], data: st.DataObject) -> None:
    latencies = list(samples[:MAX_BATCHES])
    while needed := batches_still_needed(latencies):
        assert len(latencies) + needed <= MAX_BATCHES
        latencies += data.draw(
            st.lists(st.integers(1, 10**12), min_size=needed, max_size=needed), label="next"
        )
    assert len(latencies) >= MIN_BATCHES
