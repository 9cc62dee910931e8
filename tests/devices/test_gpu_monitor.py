"""``GPUMonitor``: what it says after good and failed readings, and on a machine without a GPU."""

from __future__ import annotations

import math
import mmap
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from modelmgr.devices.host import HostReader
from modelmgr.devices.monitor import GPUMonitor
from modelmgr.devices.reading import MemoryReading
from modelmgr.errors import DeviceLostError, ReadingError, UsageError
from modelmgr.units import GIB, MIB
from support.memory_child import MemoryChild
from support.scripted_reader import DEVICE, ScriptedReader

EVER = 3600.0  # seconds: a poll that never comes, so that only what the test asks for is read
SOON = 0.001


def _threads() -> int:
    return sum(thread.name == "gpu-monitor" for thread in threading.enumerate())


def test_nothing_is_known_before_the_first_good_reading() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(ReadingError("no driver"), GIB))
    with pytest.raises(ReadingError, match="nothing was read yet"):
        monitor.get_stats()
    assert (monitor.reading(), monitor.age_ns, monitor.failing) == (None, None, False)
    with pytest.raises(ReadingError, match="no driver"):
        monitor.refresh()
    with pytest.raises(ReadingError, match="no memory reading: no driver"):
        monitor.get_stats()
    assert monitor.failing
    monitor.refresh()
    assert monitor.get_stats() == (1024.0, 1024.0, 8192.0)


def test_the_peak_is_that_of_the_window_and_starts_again_when_reset() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(GIB, 3 * GIB, 2 * GIB))
    for _ in range(3):
        monitor.refresh()
    assert monitor.get_stats() == (2048.0, 3072.0, 8192.0)
    monitor.reset_peak()
    assert monitor.get_stats() == (2048.0, 2048.0, 8192.0)
    assert monitor.peak_evidence == "sampled"


def test_a_peak_older_than_the_window_is_forgotten() -> None:
    reader = ScriptedReader(3 * GIB, GIB)
    monitor = GPUMonitor(reader=reader, poll_interval=SOON, peak_window_seconds=0.01)
    monitor.refresh()
    first = monitor.reading()
    assert first is not None
    with monitor:
        while monitor.get_stats()[1] != 1024.0:
            reader.wait_for(reader.read_times + 1)
    last = monitor.reading()
    assert last is not None
    assert last.at_ns - first.at_ns >= 10_000_000


@pytest.mark.parametrize(
    "failure",
    [ReadingError("once"), DeviceLostError("lost"), ZeroDivisionError("a plug-in's bug")],
    ids=lambda error: type(error).__name__,
)
def test_after_a_failure_the_last_good_figure_stands(failure: Exception) -> None:
    monitor = GPUMonitor(reader=ScriptedReader(GIB, failure, 2 * GIB))
    monitor.refresh()
    with pytest.raises(type(failure)):
        monitor.refresh()
    assert monitor.get_stats() == (1024.0, 1024.0, 8192.0)
    assert (monitor.failing, monitor.last_error) == (True, str(failure))
    age_ns = monitor.age_ns
    assert age_ns is not None
    assert age_ns >= 0
    monitor.refresh()
    assert monitor.get_stats() == (2048.0, 2048.0, 8192.0)
    assert (monitor.failing, monitor.last_error) == (False, None)


def test_a_reading_that_makes_no_sense_is_a_failed_one() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(GIB, -1))
    monitor.refresh()
    with pytest.raises(ReadingError, match="-1"):
        monitor.refresh()
    assert monitor.get_stats()[0] == 1024.0


def test_the_thread_survives_failures() -> None:
    reader = ScriptedReader(GIB, ReadingError("x"), RuntimeError("y"), 2 * GIB)
    with GPUMonitor(reader=reader, poll_interval=SOON) as monitor:
        reader.wait_for(5)  # the fourth is done when the fifth begins
        assert monitor.get_stats()[0] == 2048.0
        assert not monitor.failing


def test_start_reads_at_once_and_does_not_raise() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(GIB), poll_interval=EVER)
    monitor.start()
    assert monitor.get_stats()[0] == 1024.0
    monitor.stop()
    broken = GPUMonitor(reader=ScriptedReader(ReadingError("x")), poll_interval=EVER)
    broken.start()
    assert broken.failing
    broken.stop()


def test_starting_and_stopping_twice_is_harmless() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(GIB), poll_interval=EVER)
    monitor.stop()
    monitor.start()
    monitor.start()
    assert _threads() == 1
    monitor.stop()
    monitor.stop()
    assert _threads() == 0
    monitor.start()
    assert _threads() == 1
    monitor.close()
    monitor.close()
    assert _threads() == 0


def test_a_reader_that_was_given_is_the_callers_to_close() -> None:
    reader = ScriptedReader(GIB)
    with GPUMonitor(reader=reader, poll_interval=EVER) as monitor:
        assert monitor.reader is reader
        assert monitor.description == DEVICE
    assert not reader.closed


class _HangingReader(ScriptedReader):
    """A reader whose second read does not come back before it is let go."""

    def __init__(self) -> None:
        super().__init__(GIB)
        self.let_go = threading.Event()

    def read(self) -> MemoryReading:
        reading = super().read()
        if self.read_times > 1:
            self.let_go.wait()
        return reading


def test_a_reading_that_does_not_come_back_is_known_as_failing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = _HangingReader()
    with GPUMonitor(reader=reader, poll_interval=SOON) as monitor:
        reader.wait_for(2)
        assert monitor.get_stats()[0] == 1024.0
        reading = monitor.reading()
        assert reading is not None
        later_ns = reading.at_ns + 60_000_000_000
        monkeypatch.setattr("time.monotonic_ns", lambda: later_ns)
        assert monitor.failing
        assert monitor.last_error is None
        assert monitor.get_stats()[0] == 1024.0
        monkeypatch.undo()
        reader.let_go.set()


@pytest.fixture
def host_monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[GPUMonitor]:
    # As on a machine without a GPU; CUDA shows none when the list is empty.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monitor = GPUMonitor(fallback_memory_mb=512.0, poll_interval=EVER)
    yield monitor
    monitor.close()


def test_without_a_gpu_this_process_is_watched_against_a_budget(host_monitor: GPUMonitor) -> None:
    assert host_monitor.description.kind == "host"
    host_monitor.refresh()
    before_mb = host_monitor.get_stats()[0]
    with mmap.mmap(-1, 64 * MIB) as block:
        block[:] = bytes(len(block))
        host_monitor.refresh()
        current_mb, _, total_mb = host_monitor.get_stats()
    assert current_mb - before_mb == pytest.approx(64, abs=2)
    assert total_mb == 512.0


def test_a_rise_and_fall_between_two_polls_is_in_the_exact_peak(host_monitor: GPUMonitor) -> None:
    host_monitor.refresh()
    host_monitor.reset_peak()
    with mmap.mmap(-1, 64 * MIB) as block:
        block.write(b"x" * len(block))
    host_monitor.refresh()
    current_mb, peak_mb, _ = host_monitor.get_stats()
    assert peak_mb - current_mb >= 62
    assert host_monitor.peak_evidence == "exact"


def test_with_a_worker_beside_this_process_the_peak_is_sampled(host_monitor: GPUMonitor) -> None:
    assert isinstance(host_monitor.reader, HostReader)
    with MemoryChild() as worker:
        host_monitor.reader.track(worker.pid)
        host_monitor.refresh()
    assert host_monitor.peak_evidence == "sampled"


def test_the_fallback_caps_the_budget_and_is_no_gpus_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    whole = GPUMonitor(fallback_memory_mb=1e9)
    assert whole.description.total_bytes < 1e9 * MIB
    assert whole.description.name == "host"
    whole.close()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UsageError, match="no device number 1"):
        GPUMonitor(device=1)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_numbers_that_make_no_sense_are_refused(value: float) -> None:
    reader = ScriptedReader(GIB)
    with pytest.raises(UsageError, match="poll_interval"):
        GPUMonitor(poll_interval=value, reader=reader)
    with pytest.raises(UsageError, match="peak_window_seconds"):
        GPUMonitor(peak_window_seconds=value, reader=reader)
    with pytest.raises(UsageError, match="fallback_memory_mb"):
        GPUMonitor(value, reader=reader)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fallback_memory_mb", "16000"),
        ("fallback_memory_mb", 10**400),
        ("poll_interval", "0.5"),
        ("poll_interval", 1e300),
        ("peak_window_seconds", 1e300),
        ("peak_window_seconds", True),
        ("device", "cuda:0"),
        ("device", 0.0),
    ],
)
def test_an_argument_that_is_none_is_refused_by_its_name(name: str, value: object) -> None:
    """Some were a TypeError or an OverflowError, and an interval of 1e300 s was taken."""
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=rf"^{name} must be .*, not {re.escape(repr(value))}$"):
        GPUMonitor(**arguments)
