"""Foreign load is what others moved, never our own use, and unknown is not quiet."""

from __future__ import annotations

from modelmgr.devices.reading import MemoryReading
from modelmgr.measuring.foreign import (
    ForeignLoad,
    describe_foreign,
    foreign_device_bytes,
    foreign_machine_bytes,
    foreign_threshold_bytes,
)
from modelmgr.records.devices import DeviceDescription

MIB = 1024**2


def reading(used: int, processes: dict[int, int] | None) -> MemoryReading:
    return MemoryReading(at_ns=0, used_bytes=used, total_bytes=10_000 * MIB, processes=processes)


def test_our_own_processes_are_no_foreign_load() -> None:
    assert foreign_device_bytes(reading(900, {1: 500, 2: 400}), [1]) == 400


def test_a_device_that_tells_no_processes_apart_cannot_tell_while_ours_are_there() -> None:
    assert foreign_device_bytes(reading(900, None), []) == 900
    assert foreign_device_bytes(reading(900, None), [1]) is None
    assert foreign_device_bytes(reading(900, {7: 900}), [1]) is None  # a container's other ids


def test_movement_in_either_direction_counts_and_is_told_with_its_size() -> None:
    load = ForeignLoad(10 * MIB)
    load.start(100 * MIB)
    load.observe(105 * MIB, settled=True)
    load.observe(None, settled=True)
    assert not load.is_disturbed()
    load.observe(80 * MIB, settled=True)
    assert load.is_disturbed()
    assert load.moved_bytes == -20 * MIB
    assert "gave back 20.0 MiB of cuda:0's memory" in describe_foreign(-20 * MIB, "cuda:0")
    load.start(80 * MIB)
    assert not load.is_disturbed()


def test_one_figure_out_of_line_is_a_race_of_two_queries_and_two_are_not() -> None:
    load = ForeignLoad(10 * MIB)
    load.start(100 * MIB)
    for figure in (100, 140, 100, 60, 100):
        load.observe(figure * MIB)
    assert not load.is_disturbed()
    for figure in (140, 140):
        load.observe(figure * MIB)
    assert load.is_disturbed()


def test_a_baseline_that_could_not_be_told_is_taken_from_the_first_that_can() -> None:
    load = ForeignLoad(MIB)
    load.start(None)
    assert load.moved_bytes == 0
    load.observe(500 * MIB)
    load.observe(502 * MIB, settled=True)
    assert load.moved_bytes == 2 * MIB


def test_what_our_workers_grew_by_is_not_the_others() -> None:
    assert foreign_machine_bytes(total_bytes=1000, available_bytes=600, our_growth_bytes=100) == 300


def test_a_device_minds_less_movement_than_a_whole_machine() -> None:
    host = DeviceDescription(name="host", kind="host", total_bytes=100 * 1024 * MIB)
    cuda = DeviceDescription(name="cuda:0", kind="cuda", total_bytes=100 * 1024 * MIB)
    machine_bytes = 100 * 1024 * MIB
    assert foreign_threshold_bytes(cuda, machine_bytes=machine_bytes) == 32 * MIB
    assert foreign_threshold_bytes(host, machine_bytes=machine_bytes) == 5 * 1024 * MIB
