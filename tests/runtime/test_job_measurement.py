"""A job's measurement from a device's aggregate readings: deltas, the last reading included."""

from __future__ import annotations

import threading

import pytest

from modelmgr.errors import ReadingError
from modelmgr.runtime import measurement
from modelmgr.runtime.measurement import JobMeasurement, MeasuredCosts
from modelmgr.units import GIB
from support.scripted_reader import ScriptedReader


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample at the ends alone, so that a test knows who reads what."""
    monkeypatch.setattr(measurement, "_INTERVAL_NS", 3_600_000_000_000)


def begun(reader: ScriptedReader, after: int) -> JobMeasurement:
    job = JobMeasurement(reader, patience_s=0.0)
    reader.script(after)
    job.loaded()
    return job


@pytest.mark.usefixtures("seldom")
def test_what_only_the_last_reading_shows_is_part_of_the_figures() -> None:
    reader = ScriptedReader(GIB)
    job = begun(reader, 2 * GIB)
    reader.script(5 * GIB)
    assert job.finish() == MeasuredCosts(GIB, 4 * GIB)


@pytest.mark.usefixtures("seldom")
def test_what_running_took_has_the_last_reading_in_it_too() -> None:
    reader = ScriptedReader(2 * GIB)
    job = begun(reader, 2 * GIB)
    reader.script(3 * GIB)
    assert job.finish_running() == GIB


def test_a_peak_between_the_ends_is_seen_and_no_thread_stays() -> None:
    before = set(threading.enumerate())  # a thread of an earlier test may end meanwhile
    reader = ScriptedReader(GIB)
    job = begun(reader, 2 * GIB)
    reader.script(7 * GIB, 2 * GIB)
    reader.wait_for(reader.read_times + 2)
    assert job.finish() == MeasuredCosts(GIB, 6 * GIB)
    assert set(threading.enumerate()) <= before


def test_a_failed_reading_in_between_is_no_zero_and_at_an_end_no_figure() -> None:
    reader = ScriptedReader(GIB)
    job = begun(reader, 2 * GIB)
    reader.script(ReadingError("busy"), 2 * GIB)
    reader.wait_for(reader.read_times + 2)
    assert job.finish() == MeasuredCosts(GIB, GIB)
    job = begun(ScriptedReader(GIB), 2 * GIB)
    failing = ScriptedReader(ReadingError("gone"))
    assert begun(failing, 0).finish() is None
    assert job.finish_running() is not None


def test_a_cancelled_measurement_waits_for_nobody_and_reads_no_more() -> None:
    reader = ScriptedReader(GIB)
    before = set(threading.enumerate())
    job = begun(reader, 2 * GIB)
    (sampling,) = set(threading.enumerate()) - before
    job.cancel()
    sampling.join(60)
    assert not sampling.is_alive()
    reads = reader.read_times
    job.cancel()
    assert reader.read_times == reads
