"""Devices by name, and a clear answer for a name that is none."""

from __future__ import annotations

import pytest

from modelmgr.devices.discovery import open_reader
from modelmgr.devices.host_available import total_host_bytes
from modelmgr.errors import UsageError
from modelmgr.units import GIB
from support.fake_nvml import FakeNvml
from support.nvml_probe import ProbeError, StartProbe


def test_auto_is_the_first_gpu_where_there_is_one(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu()
    machine.add_gpu()
    process = probe()
    assert process.ask("open", name="auto")["name"] == "cuda:0"
    assert process.ask("open", name="cuda")["name"] == "cuda:0"
    assert process.ask("open", name="cuda:1")["name"] == "cuda:1"
    assert process.ask("open", name="host")["name"] == "host"


def test_auto_is_the_host_where_there_is_no_gpu(probe: StartProbe) -> None:
    process = probe()
    assert process.ask("open", name="auto")["kind"] == "host"
    assert process.ask("monitor")["kind"] == "host"
    assert process.ask("monitors") == ["host"]


def test_every_gpu_and_instance_is_discovered(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu()
    machine.mig(machine.add_gpu())
    names = [device["name"] for device in probe().ask("discover")]
    assert names == ["cuda:0", "cuda:1/mig:0"]


@pytest.mark.parametrize("name", ["cuda:2", "cuda:0/mig:0", "gpu0", "", "CUDA:0"])
def test_an_unknown_device_is_answered_with_the_known_ones(
    machine: FakeNvml, probe: StartProbe, name: str
) -> None:
    machine.add_gpu()
    machine.add_gpu()
    with pytest.raises(ProbeError, match=r"UsageError: .*cuda:0, cuda:1, host, fixed:SIZE"):
        probe().ask("open", name=name)


def test_without_a_gpu_cuda_is_an_unknown_device(probe: StartProbe) -> None:
    with pytest.raises(ProbeError, match=r"no device 'cuda' here; there are: host, "):
        probe().ask("open", name="cuda")


def test_a_budget_leaves_a_gpu_its_size_and_limits_its_use(
    machine: FakeNvml, probe: StartProbe
) -> None:
    machine.add_gpu(total=24 * GIB)
    [device] = probe().ask("discover", budget_bytes=6 * GIB)
    assert device["total_bytes"] == 24 * GIB
    assert device["limit_bytes"] == pytest.approx(6 * GIB, abs=1024)


def test_a_budget_beyond_the_gpu_is_refused(machine: FakeNvml, probe: StartProbe) -> None:
    machine.add_gpu(total=24 * GIB)
    with pytest.raises(ProbeError, match=r"UsageError: .*32\.0 GiB is more than cuda:0 has"):
        probe().ask("discover", budget_bytes=32 * GIB)


def test_a_host_budget_is_the_hosts_size() -> None:
    reader = open_reader("host", budget_bytes=GIB, slack=0.25)
    assert reader.description.total_bytes == GIB
    assert reader.description.limit_bytes == GIB * 3 // 4
    assert open_reader("host").description.total_bytes < total_host_bytes()


def test_a_fixed_device_has_the_size_in_its_name() -> None:
    reader = open_reader("fixed:24GiB", slack=0.5)
    assert reader.description.name == "fixed:24GiB"
    assert reader.read().total_bytes == 24 * GIB
    assert reader.description.limit_bytes == 12 * GIB
    assert open_reader("fixed:24GiB", budget_bytes=GIB).description.limit_bytes == GIB


@pytest.mark.parametrize("name", ["fixed:", "fixed:24", "fixed:0 B", "fixed:-1 GiB"])
def test_a_fixed_device_of_no_size_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="fixed:"):
        open_reader(name)


@pytest.mark.parametrize(("budget_bytes", "slack"), [(0, 0.1), (-1, 0.1), (None, 1.0), (None, -1)])
def test_a_budget_or_slack_that_makes_no_sense_is_refused(
    budget_bytes: int | None, slack: float
) -> None:
    with pytest.raises(UsageError, match=r"budget|slack"):
        open_reader("host", budget_bytes=budget_bytes, slack=slack)
