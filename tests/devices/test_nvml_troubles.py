"""Queries that fail, drivers that restart, GPUs that are lost: errors, and never a zero."""

from __future__ import annotations

import pytest

from modelmgr.units import GIB
from support.fake_nvml import (
    EVERY_TIME,
    NOT_SUPPORTED,
    TIMEOUT,
    UNKNOWN,
    FakeNvml,
)
from support.nvml_probe import ProbeError, StartProbe

NO_PERMISSION = 4


def test_a_query_that_fails_once_is_an_error_and_the_next_is_fine(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=GIB)
    process = probe()
    process.ask("read")
    machine.fail("nvmlDeviceGetMemoryInfo", UNKNOWN)
    with pytest.raises(ProbeError, match=r"ReadingError: device 'cuda:0': .* \(NVML error 999\)"):
        process.ask("read")
    assert process.ask("read")["used_bytes"] == GIB


def test_a_list_of_processes_that_fails_is_an_error_too(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=GIB)
    process = probe()
    process.ask("read")
    machine.fail("nvmlDeviceGetGraphicsRunningProcesses", TIMEOUT)
    with pytest.raises(ProbeError, match=r"ReadingError: .*Timeout"):
        process.ask("read")
    assert process.ask("read")["processes"] == {}


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION])
def test_processes_that_are_not_told_are_unknown(
    machine: FakeNvml, probe: StartProbe, code: int
) -> None:
    machine.add_gpu(used=GIB)
    machine.fail("nvmlDeviceGetComputeRunningProcesses", code, EVERY_TIME)
    machine.fail("nvmlDeviceGetGraphicsRunningProcesses", code, EVERY_TIME)
    reading = probe().ask("read")
    assert (reading["used_bytes"], reading["processes"]) == (GIB, None)


def test_a_driver_that_goes_away_and_comes_back_is_read_again(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=GIB)
    process = probe()
    process.ask("read")
    machine.unload_driver()
    for _ in range(2):
        with pytest.raises(ProbeError, match=r"DeviceLostError: .*the driver is not loaded"):
            process.ask("read")
    assert process.ask("devices") == []
    machine.load_driver()
    assert process.ask("devices") != []
    assert process.ask("read")["used_bytes"] == GIB


def test_a_driver_that_restarted_unnoticed_costs_one_reading(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(used=GIB)
    process = probe()
    process.ask("read")
    machine.load_driver()  # what was initialised before is void
    with pytest.raises(ProbeError, match="DeviceLostError"):
        process.ask("read")
    assert process.ask("read")["used_bytes"] == GIB


def test_a_lost_gpu_is_lost_and_the_other_goes_on(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu(used=1 * GIB)
    second = machine.add_gpu(used=2 * GIB)
    process = probe()
    process.ask("read", name="cuda:1")
    machine.lose(second)
    with pytest.raises(ProbeError, match=r"DeviceLostError: device 'cuda:1': .*GPU is lost"):
        process.ask("read", name="cuda:1")
    assert process.ask("read", name="cuda:0")["used_bytes"] == 1 * GIB
    machine.find(second)
    assert process.ask("read", name="cuda:1")["used_bytes"] == 2 * GIB


def test_a_lost_gpu_keeps_its_number_and_is_named_in_the_status(
    machine: FakeNvml, probe: StartProbe
) -> None:
    first = machine.add_gpu()
    machine.add_gpu(used=GIB)
    machine.lose(first)
    process = probe()
    assert [device["name"] for device in process.ask("devices")] == ["cuda:1"]
    assert process.ask("read", name="cuda:1")["used_bytes"] == GIB
    status = process.ask("status")
    assert status["available"]
    [problem] = status["problems"]
    assert problem.startswith("GPU 0: ")
    assert "lost" in problem


def test_a_failing_list_is_an_error_and_never_a_machine_without_gpus(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu()
    machine.fail("nvmlDeviceGetCount", UNKNOWN)
    process = probe()
    with pytest.raises(ProbeError, match="ReadingError: the list of devices"):
        process.ask("devices")
    assert len(process.ask("devices")) == 1
