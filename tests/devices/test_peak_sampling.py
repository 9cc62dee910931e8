"""Peaks by sampling: over a block, and over a sliding window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.devices.process_memory import ResidentSampler
from modelmgr.devices.sampler import PeakSampler
from modelmgr.devices.sliding_peak import SlidingPeak
from modelmgr.errors import DeviceLostError, ReadingError, UsageError
from modelmgr.units import MIB
from support.memory_child import MemoryChild
from support.scripted_reader import ScriptedReader

MILLISECOND_NS = 1_000_000


def test_the_peak_within_a_block_is_the_highest_sample() -> None:
    reader = ScriptedReader(1, 5, 9, 2)
    with PeakSampler(reader, interval_ns=MILLISECOND_NS) as sampler:
        reader.wait_for(4)
    result = sampler.result
    assert result.peak_bytes == 9
    assert result.samples == reader.read_times
    assert result.failed_samples == 0
    assert result.largest_gap_ns is not None
    assert result.last_error is None
    assert result.interval_ns == MILLISECOND_NS


def test_a_short_block_is_sampled_at_both_ends() -> None:
    reader = ScriptedReader(1, 7)
    with PeakSampler(reader, interval_ns=3_600_000_000_000) as sampler:
        pass
    assert (sampler.result.samples, sampler.result.peak_bytes) == (2, 7)


def test_failed_samples_are_counted_and_never_zero() -> None:
    reader = ScriptedReader(4, ReadingError("once"), DeviceLostError("twice"), 3)
    with PeakSampler(reader, interval_ns=MILLISECOND_NS) as sampler:
        reader.wait_for(4)
    result = sampler.result
    assert (result.peak_bytes, result.failed_samples) == (4, 2)
    assert result.last_error == "twice"


def test_a_peak_that_was_never_seen_is_unknown() -> None:
    with PeakSampler(ScriptedReader(ReadingError("no driver"))) as sampler:
        pass
    result = sampler.result
    assert (result.peak_bytes, result.samples) == (None, 0)
    assert (result.largest_gap_ns, result.last_error) == (None, "no driver")


def test_a_real_childs_peak_is_sampled_from_its_statm() -> None:
    with MemoryChild() as child, ResidentSampler(child.pid) as resident:
        before_bytes = resident.resident_bytes()
        with PeakSampler(resident.resident_bytes, interval_ns=MILLISECOND_NS) as sampler:
            child.hold(64 * MIB)
    peak_bytes = sampler.result.peak_bytes
    assert peak_bytes is not None
    assert peak_bytes - before_bytes == pytest.approx(64 * MIB, abs=MIB)


def test_a_function_that_breaks_is_not_hidden() -> None:
    reader = ScriptedReader(1, ZeroDivisionError("a bug"))
    with (
        pytest.raises(ZeroDivisionError, match="a bug"),
        PeakSampler(reader, interval_ns=MILLISECOND_NS),
    ):
        reader.wait_for(2)


def test_a_sampler_runs_once() -> None:
    sampler = PeakSampler(lambda: 1)
    with sampler:
        pass
    with pytest.raises(UsageError, match="once"):
        sampler.__enter__()
    with pytest.raises(UsageError, match="0 ns"):
        PeakSampler(lambda: 1, interval_ns=0)


def test_a_peak_leaves_the_window_when_it_is_old() -> None:
    peaks = SlidingPeak(10)
    peaks.add(0, 5)
    peaks.add(4, 3)
    assert peaks.peak(10) == 5
    assert peaks.peak(11) == 3
    assert peaks.peak(15) is None


@given(
    values=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40),
    window=st.integers(0, 12),
)
def test_the_sliding_peak_is_that_of_a_plain_search(
    values: list[tuple[int, int]], window: int
) -> None:
    peaks, seen, now = SlidingPeak(window), list[tuple[int, int]](), 0
    for pause, value in values:
        now += pause
        peaks.add(now, value)
        seen.append((now, value))
        assert peaks.peak(now) == max(v for at, v in seen if at >= now - window)
