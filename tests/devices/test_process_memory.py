"""What ``/proc`` tells of a real child that takes known amounts of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelmgr.devices.process_memory import (
    ProcessStatus,
    ResidentSampler,
    peak_reset_refusal,
    process_start_ticks,
    read_host_memory,
    read_peak,
    reset_peak,
    unshared_file_bytes,
)
from modelmgr.errors import ReadingError
from modelmgr.units import MIB
from support.memory_child import MemoryChild

SIZE = 64 * MIB
NOISE = 1 * MIB  # what the interpreter itself may take or give back meanwhile


@pytest.fixture
def child() -> Iterator[MemoryChild]:
    with MemoryChild() as child:
        yield child


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(1024) * (16 * MIB // 1024))
    return path


def test_what_a_child_allocates_is_read_as_anonymous_memory(child: MemoryChild) -> None:
    before = read_host_memory(child.pid)
    child.hold(SIZE)
    after = read_host_memory(child.pid)
    assert after.anon_bytes - before.anon_bytes == pytest.approx(SIZE, abs=NOISE)
    assert after.file_bytes - before.file_bytes <= NOISE


def test_the_peak_is_seen_after_the_memory_was_given_back(child: MemoryChild) -> None:
    before = read_host_memory(child.pid)
    child.hold(SIZE)
    child.drop()
    after = read_host_memory(child.pid)
    assert after.anon_bytes - before.anon_bytes <= NOISE
    assert read_peak(child.pid) - before.resident_bytes == pytest.approx(SIZE, abs=NOISE)


def test_a_reset_peak_starts_again_from_what_is_held(child: MemoryChild) -> None:
    child.hold(SIZE)
    child.drop()
    assert reset_peak(child.pid)
    memory = read_host_memory(child.pid)
    assert memory.peak_bytes - memory.resident_bytes <= NOISE
    child.hold(SIZE // 2)
    assert read_peak(child.pid) - memory.resident_bytes == pytest.approx(SIZE // 2, abs=NOISE)


def test_a_process_reads_and_resets_itself() -> None:
    assert reset_peak()
    assert read_peak() >= read_host_memory().resident_bytes > 0


def test_the_sampler_agrees_with_the_status(child: MemoryChild) -> None:
    with ResidentSampler(child.pid) as sampler:
        before_bytes, before_anon_bytes = sampler.resident_bytes(), sampler.anon_bytes()
        child.hold(SIZE)
        assert sampler.resident_bytes() - before_bytes == pytest.approx(SIZE, abs=NOISE)
        assert sampler.anon_bytes() - before_anon_bytes == pytest.approx(SIZE, abs=NOISE)
        memory = read_host_memory(child.pid)
        assert sampler.resident_bytes() == pytest.approx(memory.resident_bytes, abs=NOISE)


def test_touched_pages_of_a_mapped_file_are_file_memory(child: MemoryChild, file: Path) -> None:
    before = read_host_memory(child.pid)
    child.map_file(file, 8 * MIB)
    after = read_host_memory(child.pid)
    assert after.file_bytes - before.file_bytes == pytest.approx(8 * MIB, abs=NOISE)
    assert after.anon_bytes - before.anon_bytes <= NOISE


def test_a_second_process_that_maps_the_same_file_costs_no_file_pages(
    child: MemoryChild, file: Path
) -> None:
    child.map_file(file, 16 * MIB)
    with MemoryChild() as second:
        unmapped_bytes = unshared_file_bytes(second.pid, [child.pid])
        second.map_file(file, 16 * MIB)
        mapped_bytes = unshared_file_bytes(second.pid, [child.pid, second.pid])
        alone_bytes = unshared_file_bytes(second.pid, [])
    assert unmapped_bytes is not None
    assert mapped_bytes is not None
    assert alone_bytes is not None
    assert abs(mapped_bytes - unmapped_bytes) <= NOISE
    assert alone_bytes - mapped_bytes >= 16 * MIB


def test_file_pages_that_the_other_process_has_not_touched_are_a_cost(
    child: MemoryChild, file: Path
) -> None:
    child.map_file(file, 4 * MIB)
    with MemoryChild() as second:
        before_bytes = unshared_file_bytes(second.pid, [child.pid])
        second.map_file(file, 16 * MIB)
        after_bytes = unshared_file_bytes(second.pid, [child.pid])
    assert before_bytes is not None
    assert after_bytes is not None
    assert after_bytes - before_bytes == pytest.approx(12 * MIB, abs=NOISE)


def test_another_process_that_is_gone_shares_nothing(child: MemoryChild, file: Path) -> None:
    child.map_file(file, 16 * MIB)
    with MemoryChild() as other:
        other.kill()
    shared = unshared_file_bytes(child.pid, [other.pid])
    assert shared == unshared_file_bytes(child.pid, [])


READS: dict[str, Callable[[int], object]] = {
    "memory": read_host_memory,
    "peak": read_peak,
    "reset": reset_peak,
    "refusal": peak_reset_refusal,
    "files": lambda pid: unshared_file_bytes(pid, []),
    "sampler": lambda pid: ResidentSampler(pid).resident_bytes(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize("reap", [True, False], ids=["reaped", "zombie"])
def test_a_process_that_is_gone_is_an_error_and_never_zero(
    child: MemoryChild, read: Callable[[int], object], reap: bool
) -> None:
    child.kill(reap=reap)
    with pytest.raises(ReadingError, match=f"process {child.pid} is gone"):
        read(child.pid)


def test_an_open_sampler_does_not_outlive_its_process(child: MemoryChild) -> None:
    with ResidentSampler(child.pid) as sampler, ProcessStatus(child.pid) as status:
        child.kill()
        with pytest.raises(ReadingError, match="is gone"):
            sampler.resident_bytes()
        assert status.find_host_memory() is None


def test_a_process_is_told_apart_by_when_it_started(child: MemoryChild) -> None:
    assert process_start_ticks(child.pid) >= process_start_ticks() > 0


def test_closing_twice_is_harmless(child: MemoryChild) -> None:
    sampler = ResidentSampler(child.pid)
    sampler.close()
    sampler.close()


def test_what_may_not_be_read_is_unknown_and_says_why(child: MemoryChild) -> None:
    # Root gives up its privileges for a moment; anybody else has none over the first process.
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)
    try:
        pid = child.pid if privileged else 1
        assert unshared_file_bytes(pid, []) is None
        assert not reset_peak(pid)
        assert "Permission denied" in (peak_reset_refusal(pid) or "")
    finally:
        if privileged:
            os.seteuid(0)
