"""The unmodified nvidia-ml-py against a library whose figures the tests move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from modelmgr.devices.nvml import NvmlReader
from modelmgr.errors import UsageError
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import GIB, MIB
from support.fake_nvml import (
    EVERY_TIME,
    NOT_SUPPORTED,
    FakeNvml,
    compile_library,
)
from support.memory_child import MemoryChild
from support.nvml_probe import NvmlProbe, ProbeError, StartProbe

LIB_RM_VERSION_MISMATCH = 18


def test_one_gpu_is_described_and_read(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu(total=24 * GIB, used=3 * GIB, name="Fake RTX 4090", uuid="GPU-abc")
    process = probe()
    [device] = process.ask("devices")
    assert device == {
        "name": "cuda:0",
        "kind": "cuda",
        "total_bytes": 24 * GIB,
        "index": 0,
        "uuid": "GPU-abc",
        "product": "Fake RTX 4090",
        "driver": "570.00",
        "unified": False,
    }
    reading = process.ask("read", name="cuda:0")
    assert reading == {"used_bytes": 3 * GIB, "total_bytes": 24 * GIB, "processes": {}}


def test_a_reading_is_never_cached(machine: FakeNvml, probe: StartProbe) -> None:
    gpu = machine.add_gpu(used=GIB)
    process = probe()
    assert process.ask("read")["used_bytes"] == GIB
    machine.set_memory(gpu, used=5 * GIB)
    assert process.ask("read")["used_bytes"] == 5 * GIB


def test_two_gpus_are_two_devices(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu(used=1 * GIB)
    machine.add_gpu(total=80 * GIB, used=2 * GIB)
    process = probe()
    assert [device["name"] for device in process.ask("devices")] == ["cuda:0", "cuda:1"]
    assert process.ask("read", name="cuda:0")["used_bytes"] == 1 * GIB
    assert process.ask("read", name="cuda:1")["used_bytes"] == 2 * GIB
    assert process.ask("monitors") == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("macros", [(), ("WITHOUT_MEMORY_V2",)], ids=["v2", "v1"])
def test_what_the_driver_reserves_is_used_whatever_its_version(
    tmp_path: Path, macros: tuple[str, ...]
) -> None:
    machine = FakeNvml(tmp_path, library=compile_library(tmp_path / "lib", *macros))
    machine.add_gpu(total=24 * GIB, used=3 * GIB, reserved=500 * MIB)
    with NvmlProbe(machine.env()) as process:
        reading = process.ask("read")
    assert reading["used_bytes"] == 3 * GIB + 500 * MIB
    assert reading["total_bytes"] == 24 * GIB


def test_version_2_that_is_not_supported_falls_back_to_version_1(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=GIB, reserved=MIB)
    machine.fail("nvmlDeviceGetMemoryInfo_v2", NOT_SUPPORTED, EVERY_TIME)
    assert probe().ask("read")["used_bytes"] == GIB + MIB


def test_mig_instances_are_devices_of_their_own(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu(used=GIB)
    gpu = machine.add_gpu(total=40 * GIB, used=9 * GIB)
    machine.mig(gpu, total=5 * GIB, used=1 * GIB)
    machine.mig(gpu, total=10 * GIB, used=2 * GIB, uuid="MIG-second")
    process = probe()
    names = [device["name"] for device in process.ask("devices")]
    assert names == ["cuda:0", "cuda:1/mig:0", "cuda:1/mig:1"]
    device = process.ask("devices")[2]
    assert (device["total_bytes"], device["index"], device["uuid"]) == (10 * GIB, 1, "MIG-second")
    assert process.ask("read", name="cuda:1/mig:1")["used_bytes"] == 2 * GIB


def test_a_gpu_in_mig_mode_with_no_instance_is_named_in_the_status(
    machine: FakeNvml, probe: StartProbe
) -> None:
    gpu = machine.add_gpu()
    instance = machine.mig(gpu)
    machine.remove(instance)
    process = probe()
    assert process.ask("devices") == []
    assert process.ask("status")["problems"] == [
        "GPU 0: MIG mode is on and no instance was created"
    ]


@pytest.mark.parametrize("error_code", [NOT_SUPPORTED, 0], ids=["not-supported", "total-0"])
def test_unified_memory_is_read_from_the_host_and_never_of_size_zero(
    machine: FakeNvml, probe: StartProbe, error_code: int
) -> None:
    gpu = machine.add_gpu()
    machine.set_unified(gpu, error_code=error_code)
    process = probe()
    [device] = process.ask("devices")
    page_count, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    assert device["unified"]
    assert device["total_bytes"] == pytest.approx(page_count * page_size, rel=0.01)
    reading = process.ask("read")
    assert 0 < reading["used_bytes"] < reading["total_bytes"] == device["total_bytes"]
    machine.lose(gpu)
    with pytest.raises(ProbeError, match="DeviceLostError"):
        process.ask("read")


def test_a_device_whose_figures_vanish_is_an_error_and_never_zero(
    machine: FakeNvml, probe: StartProbe
) -> None:
    gpu = machine.add_gpu(used=GIB)
    process = probe()
    process.ask("read")
    machine.set_unified(gpu)
    with pytest.raises(ProbeError, match=r"ReadingError: .*no memory figures"):
        process.ask("read")


def test_more_used_than_there_is_makes_no_sense(machine: FakeNvml, probe: StartProbe) -> None:
    gpu = machine.add_gpu(total=GIB, used=0)
    process = probe()
    process.ask("read")
    machine.set_memory(gpu, used=2 * GIB)
    with pytest.raises(ProbeError, match=f"ReadingError: .*{2 * GIB} of {GIB} bytes"):
        process.ask("read")


def test_a_process_in_both_lists_counts_once(machine: FakeNvml, probe: StartProbe) -> None:
    gpu = machine.add_gpu(used=3 * GIB)
    own = os.getpid()
    machine.set_processes(gpu, {own: 2 * GIB}, graphics={own: 2 * GIB, os.getppid(): GIB})
    processes = probe().ask("read")["processes"]
    assert processes == {str(own): 2 * GIB, str(os.getppid()): GIB}


def test_a_process_whose_bytes_are_not_available_is_left_out(
    machine: FakeNvml, probe: StartProbe
) -> None:
    gpu = machine.add_gpu(used=3 * GIB)
    process = probe()
    machine.set_processes(gpu, {os.getpid(): None, process.pid: GIB})
    assert process.ask("read")["processes"] == {str(process.pid): GIB}
    machine.set_processes(gpu, {os.getpid(): None})
    assert process.ask("read")["processes"] is None


def test_process_ids_of_another_namespace_make_all_of_them_unknown(
    machine: FakeNvml, probe: StartProbe
) -> None:
    gpu = machine.add_gpu(used=3 * GIB)
    beyond_any_process_id = 2**22 + 17
    machine.set_processes(gpu, {beyond_any_process_id: 2 * GIB, os.getpid(): GIB})
    reading = probe().ask("read")
    assert (reading["used_bytes"], reading["processes"]) == (3 * GIB, None)


def test_a_worker_that_ended_and_is_still_listed_causes_no_doubt(
    machine: FakeNvml, probe: StartProbe
) -> None:
    gpu = machine.add_gpu(used=3 * GIB)
    process = probe()
    process.ask("open", name="cuda:0")
    with MemoryChild() as worker:
        process.ask("track", name="cuda:0", pid=worker.pid)
    machine.set_processes(gpu, {worker.pid: 2 * GIB})
    assert process.ask("read")["processes"] == {str(worker.pid): 2 * GIB}
    process.ask("untrack", name="cuda:0", pid=worker.pid)
    process.ask("untrack", name="cuda:0", pid=worker.pid)
    assert process.ask("read")["processes"] is None


def test_what_a_worker_takes_is_gone_when_it_is(machine: FakeNvml, probe: StartProbe) -> None:
    gpu = machine.add_gpu(used=GIB)
    process = probe()
    with MemoryChild() as worker:
        machine.take(gpu, 2 * GIB, pid=worker.pid)
        reading = process.ask("read")
        assert reading["used_bytes"] == 3 * GIB
        assert reading["processes"] == {str(worker.pid): 2 * GIB}
    assert process.ask("read") == {"used_bytes": GIB, "total_bytes": 24 * GIB, "processes": {}}


def test_an_older_drivers_process_lists_are_read(tmp_path: Path) -> None:
    library = compile_library(tmp_path / "lib", "WITHOUT_PROCESSES_V3")
    machine = FakeNvml(tmp_path, library=library)
    machine.set_processes(machine.add_gpu(used=GIB), {os.getpid(): GIB})
    with NvmlProbe(machine.env()) as process:
        assert process.ask("read")["processes"] == {str(os.getpid()): GIB}


def test_without_a_library_there_is_no_device_and_the_status_says_why(tmp_path: Path) -> None:
    # No library of that name can be loaded, even on a machine that has the real one.
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    with NvmlProbe({"LD_LIBRARY_PATH": str(tmp_path)}) as process:
        assert process.ask("devices") == []
        status = process.ask("status")
        assert not status["available"]
        assert "install the NVIDIA driver" in status["reason"]
        [device] = process.ask("discover")
        assert device["kind"] == "host"


def test_a_driver_that_was_updated_under_us_says_what_to_do(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu()
    machine.unload_driver(LIB_RM_VERSION_MISMATCH)
    process = probe()
    assert process.ask("devices") == []
    assert "restart" in process.ask("status")["reason"]


def test_only_visible_devices_are_listed_in_their_order(
    machine: FakeNvml, probe: StartProbe
) -> None:
    for number in range(3):
        machine.add_gpu(used=number * GIB, uuid=f"GPU-{number}aaa")
    process = probe(CUDA_VISIBLE_DEVICES="2,GPU-0")
    devices = process.ask("devices")
    assert [(d["name"], d["index"]) for d in devices] == [("cuda:0", 2), ("cuda:1", 0)]
    assert process.ask("read", name="cuda:0")["used_bytes"] == 2 * GIB


def test_the_first_good_reading_after_a_fork_is_the_childs_own(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=GIB)
    process = probe()
    process.ask("read")
    assert process.ask("read_in_child", name="cuda:0") == 0
    assert process.ask("read")["used_bytes"] == GIB


def test_a_closed_reader_reads_no_more_and_leaves_the_others_alone(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=1 * GIB)
    machine.add_gpu(used=2 * GIB)
    process = probe()
    process.ask("read", name="cuda:0")
    process.ask("read", name="cuda:1")
    for _ in range(2):
        process.ask("close", name="cuda:0")
    with pytest.raises(ProbeError, match=r"ReadingError: .*was closed"):
        process.ask("read", name="cuda:0")
    assert process.ask("read", name="cuda:1")["used_bytes"] == 2 * GIB


def test_threads_that_find_the_driver_restarted_all_come_to_read_again(
    machine: FakeNvml, probe: StartProbe
) -> None:
    names = ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    for _ in names:
        machine.add_gpu(used=GIB)
    process = probe()
    for name in names:
        process.ask("read", name=name)
    for _ in range(5):
        machine.load_driver()
        failures = process.ask("hammer", names=names, times=50)
        assert 1 <= len(failures) <= 2 * len(names)
        assert set(failures) == {"DeviceLostError"}
        assert [process.ask("read", name=name)["used_bytes"] for name in names] == [GIB] * 4


def test_a_device_that_is_not_nvmls_is_refused() -> None:
    host = DeviceDescription(name="host", kind="host", total_bytes=GIB)
    with pytest.raises(UsageError, match="none of NVML's"):
        NvmlReader(host)


def test_the_monitor_watches_the_gpu_it_was_told(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu()
    gpu = machine.add_gpu(total=8 * GIB, used=2 * GIB)
    process = probe()
    assert process.ask("monitor", device=1)["name"] == "cuda:1"
    process.ask("refresh")
    machine.set_memory(gpu, used=GIB)
    process.ask("refresh")
    answer: dict[str, Any] = process.ask("stats")
    assert answer["stats"] == [1024.0, 2048.0, 8192.0]
    assert answer["evidence"] == "sampled"
    with pytest.raises(ProbeError, match=r"UsageError: .*number 2; there is: cuda:0, cuda:1"):
        process.ask("monitor", device=2)


def test_the_monitors_last_good_figure_stands_while_readings_fail(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(total=8 * GIB, used=2 * GIB)
    process = probe()
    process.ask("monitor")
    with pytest.raises(ProbeError, match=r"ReadingError: .*nothing was read yet"):
        process.ask("stats")
    process.ask("refresh")
    machine.unload_driver()
    with pytest.raises(ProbeError, match="DeviceLostError"):
        process.ask("refresh")
    answer = process.ask("stats")
    assert answer["stats"] == [2048.0, 2048.0, 8192.0]
    assert answer["failing"]
    assert "not loaded" in answer["last_error"]
    machine.load_driver()
    process.ask("refresh")
    assert not process.ask("stats")["failing"]
