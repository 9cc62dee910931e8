"""The host as a device: real children against a budget."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelmgr.devices.host import HostReader, default_host_budget_bytes, describe_host
from modelmgr.devices.host_available import AvailableMemory, total_host_bytes
from modelmgr.devices.process_memory import read_host_memory
from modelmgr.errors import ReadingError, UsageError
from modelmgr.units import GIB, MIB
from support.memory_child import MemoryChild

SIZE = 64 * MIB
NOISE = 1 * MIB


@pytest.fixture
def child() -> Iterator[MemoryChild]:
    with MemoryChild() as child:
        yield child


@pytest.fixture
def reader() -> Iterator[HostReader]:
    reader = HostReader(describe_host(SIZE * 2))
    yield reader
    reader.close()


def test_the_default_budget_is_at_most_half_of_the_machine() -> None:
    assert 0 < default_host_budget_bytes() <= total_host_bytes() // 2
    assert 0 < describe_host().total_bytes <= total_host_bytes() // 2


def test_only_tracked_processes_count_in(reader: HostReader, child: MemoryChild) -> None:
    child.hold(SIZE)
    assert reader.read().used_bytes == 0
    reader.track(child.pid)
    reading = reader.read()
    assert reading.used_bytes >= SIZE
    assert reading.processes == {child.pid: reading.used_bytes}
    assert reading.total_bytes == SIZE * 2


def test_a_process_over_its_budget_is_read_as_it_is(reader: HostReader, child: MemoryChild) -> None:
    reader.track(child.pid)
    child.hold(SIZE * 3)
    assert reader.read().used_bytes >= SIZE * 3


def test_what_a_tracked_process_gives_back_is_seen(reader: HostReader, child: MemoryChild) -> None:
    reader.track(child.pid)
    before_bytes = reader.read().used_bytes
    child.hold(SIZE)
    assert reader.read().used_bytes - before_bytes == pytest.approx(SIZE, abs=NOISE)
    child.drop()
    assert reader.read().used_bytes == pytest.approx(before_bytes, abs=NOISE)


@pytest.mark.parametrize("reap", [True, False], ids=["reaped", "zombie"])
def test_a_process_that_is_gone_holds_nothing(
    reader: HostReader, child: MemoryChild, reap: bool
) -> None:
    reader.track(child.pid)
    child.hold(SIZE)
    child.kill(reap=reap)
    for _ in range(2):
        reading = reader.read()
        assert reading.used_bytes == 0
        assert reading.processes == {child.pid: 0}


def test_tracking_a_process_that_died_already_is_harmless(
    reader: HostReader, child: MemoryChild
) -> None:
    child.kill()
    reader.track(child.pid)
    assert reader.read().processes == {child.pid: 0}


def test_tracking_twice_counts_once(reader: HostReader, child: MemoryChild) -> None:
    child.hold(SIZE)
    reader.track(child.pid)
    reader.track(child.pid)
    assert reader.read().used_bytes < SIZE + 32 * MIB


def test_an_untracked_process_counts_no_more(reader: HostReader, child: MemoryChild) -> None:
    reader.track(child.pid)
    reader.untrack(child.pid)
    reader.untrack(child.pid)
    reading = reader.read()
    assert reading.processes == {}
    assert reading.used_bytes == 0


def test_the_reading_process_counts_by_its_growth_alone(reader: HostReader) -> None:
    reader.track(os.getpid())
    held = bytearray(os.urandom(MIB) * 64)
    reading = reader.read()
    assert reading.used_bytes == pytest.approx(len(held), abs=2 * NOISE)
    assert reading.used_bytes < read_host_memory().resident_bytes


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "proc/meminfo"
    path.parent.mkdir()
    _leave(path, 8 * GIB)
    return path


def _leave(meminfo: Path, available_bytes: int) -> None:
    meminfo.write_text(f"MemAvailable: {available_bytes // 1024} kB\n")


def test_what_others_take_is_foreign_once_it_eats_into_the_budget(meminfo: Path) -> None:
    reader = HostReader(describe_host(4 * GIB), available=AvailableMemory(meminfo.parents[1]))
    assert reader.read().used_bytes == 0
    _leave(meminfo, 4 * GIB)
    assert reader.read().used_bytes == 0
    _leave(meminfo, 3 * GIB)
    assert reader.read().used_bytes == GIB
    assert reader.read().processes == {}


def test_what_ours_take_is_never_foreign_as_well(meminfo: Path, child: MemoryChild) -> None:
    reader = HostReader(describe_host(4 * GIB), available=AvailableMemory(meminfo.parents[1]))
    child.hold(SIZE)
    anon_bytes = read_host_memory(child.pid).anon_bytes
    _leave(meminfo, 4 * GIB - anon_bytes)
    assert reader.read().used_bytes == pytest.approx(anon_bytes, abs=NOISE)
    reader.track(child.pid)
    reading = reader.read()
    assert reading.processes is not None
    assert reading.used_bytes == pytest.approx(reading.processes[child.pid], abs=NOISE)
    reader.close()


def test_a_process_that_may_not_be_read_is_an_error_and_never_zero(
    reader: HostReader, child: MemoryChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.track(child.pid)

    def refuse(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(ReadingError, match="cannot be read: Permission denied"):
        reader.read()


def test_a_reading_is_dated_at_its_beginning(reader: HostReader) -> None:
    before_ns = time.monotonic_ns()
    first = reader.read()
    second = reader.read()
    assert before_ns <= first.at_ns <= second.at_ns <= time.monotonic_ns()


@pytest.mark.parametrize("budget_bytes", [0, -1])
def test_a_budget_that_holds_nothing_is_refused(budget_bytes: int) -> None:
    with pytest.raises(UsageError, match="budget"):
        describe_host(budget_bytes)


def test_a_closed_reader_can_be_closed_again(child: MemoryChild) -> None:
    reader = HostReader(describe_host(GIB))
    reader.track(child.pid)
    reader.close()
    reader.close()
    assert reader.read().processes == {}
