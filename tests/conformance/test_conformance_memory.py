"""Rows 1, 3, 4, 6, 7, 8: memory is promised once, and an unknown figure is not zero."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from conformance.situations import PolledMonitor, loader_of, manager_of, serve_once
from modelmgr import AcquireTimeoutError, GPUMonitor, ModelManager, ReadingError
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from modelmgr.units import GIB, MIB
from support.fake_nvml import FakeNvml, compile_library
from support.nvml_probe import NvmlProbe
from support.parties import Party, wait_for, wait_until
from support.scripted_reader import ScriptedReader


class _SlowLoad:
    """A load that ends when it is told to."""

    def __init__(self, device: FakeDevice, size_mb: float) -> None:
        self._device, self._size_mb = device, size_mb
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self) -> FakeModel:
        self.began.set()
        wait_for(self.go)
        return FakeModel(self._device, self._size_mb)


def test_an_eviction_that_makes_room_reserves_what_it_frees() -> None:
    device = FakeDevice()
    slow = _SlowLoad(device, 6000.0)
    with manager_of(device, costs={"a": 6000.0, "b": 6000.0, "c": 4000.0}) as manager:
        serve_once(manager, "a", loader_of(device, 6000.0))
        made_room = Party(lambda: manager.lease("b", slow))
        try:
            wait_for(slow.began)
            late = Party(lambda: manager.lease("c", loader_of(device, 4000.0), timeout=0))
            with pytest.raises(AcquireTimeoutError):
                late.result()
        finally:
            slow.go.set()
        made_room.result().release()
        assert device.highest_mb <= 9000.0


def test_holds_and_releases_balance_after_an_eviction_made_room() -> None:
    device = FakeDevice()
    costs = {"a": 6000.0, "b": 6000.0, "c": 1000.0}
    with manager_of(device, costs=costs, isolation="exclusive") as manager:
        for tag in ("a", "b"):
            serve_once(manager, tag, loader_of(device, costs[tag]))
        held = manager.lease("c", loader_of(device, costs["c"]))
        unknown = Party(lambda: manager.lease("unknown", loader_of(device, 500.0)))
        wait_until(lambda: unknown.done or bool(manager.snapshot().queue), "the unknown was seen")
        assert not held.instance.closed
        held.release()
        unknown.result().release()
        assert manager.snapshot().devices[0].reserved_bytes == 0


@pytest.mark.parametrize(("fails", "more_mb"), [(False, 3000.0), (True, 6000.0)])
def test_the_end_of_one_load_leaves_anothers_reservation_alone(fails: bool, more_mb: float) -> None:
    device = FakeDevice()
    slow = _SlowLoad(device, 4000.0)
    costs = {"x": 3000.0, "a": 4000.0, "b": 4000.0, "more": more_mb}

    def broken() -> FakeModel:
        raise ValueError("no such file")

    with manager_of(device, costs=costs) as manager:
        serve_once(manager, "x", loader_of(device, costs["x"]))
        loading = Party(lambda: manager.lease("a", slow))
        try:
            wait_for(slow.began)
            other = Party(
                lambda: manager.lease("b", broken if fails else loader_of(device, costs["b"]))
            )
            if fails:
                with pytest.raises(ValueError, match="no such file"):
                    other.result()
            else:
                other.result()
            with pytest.raises(AcquireTimeoutError):
                manager.lease("more", loader_of(device, more_mb), timeout=0)
        finally:
            slow.go.set()
        loading.result().release()
        if not fails:
            other.result().release()
        assert device.highest_mb <= 9000.0


def test_a_reservation_lasts_until_a_reading_has_caught_up() -> None:
    device = FakeDevice()
    never_again = PolledMonitor(device, interval_s=3600.0)
    costs = {"a": 4000.0, "b": 4000.0, "c": 4000.0}
    with manager_of(never_again, costs=costs) as manager:
        held = [manager.lease(tag, loader_of(device, costs[tag])) for tag in ("a", "b")]
        assert never_again.get_stats()[0] == 0.0
        with pytest.raises(AcquireTimeoutError):
            manager.lease("c", loader_of(device, costs["c"]), timeout=0)
        assert device.highest_mb == 8000.0
        for lease in held:
            lease.release()


def test_two_gpus_are_two_devices_that_are_read_apart(tmp_path: Path) -> None:
    machine = FakeNvml(tmp_path / "machine", library=compile_library(tmp_path / "nvml"))
    machine.add_gpu(total=24 * GIB, used=3 * GIB)
    second = machine.add_gpu(total=16 * GIB, used=5 * GIB)
    with NvmlProbe(machine.env()) as process:
        assert process.ask("monitors") == ["cuda:0", "cuda:1"]
        figures: list[list[float]] = []
        for device in (0, 1):
            process.ask("monitor", device=device)
            process.ask("refresh")
            figures.append(process.ask("stats")["stats"])
        machine.set_memory(second, used=11 * GIB)
        process.ask("refresh")
        figures.append(process.ask("stats")["stats"])
    gib_mb = 1024.0
    assert [(used, total) for used, _, total in figures] == [
        (3 * gib_mb, 24 * gib_mb),
        (5 * gib_mb, 16 * gib_mb),
        (11 * gib_mb, 16 * gib_mb),
    ]


def test_a_failed_reading_leaves_the_monitors_last_good_figure() -> None:
    monitor = GPUMonitor(reader=ScriptedReader(6 * GIB, ReadingError("driver hiccup")))
    monitor.refresh()
    with pytest.raises(ReadingError):
        monitor.refresh()
    assert monitor.get_stats()[0] == 6 * 1024.0
    assert monitor.failing


def test_a_failed_reading_never_lets_a_load_in() -> None:
    device = FakeDevice(foreign_mb=6000.0)
    with manager_of(device, costs={"a": 2500.0, "b": 2500.0}) as manager:
        serve_once(manager, "a", loader_of(device, 2500.0))
        manager.pin("a")
        device.fail_next(*[RuntimeError("driver hiccup")] * 10_000)
        with pytest.raises(AcquireTimeoutError):
            manager.lease("b", loader_of(device, 2500.0), timeout=0.05)
        seen = manager.snapshot().devices[0]
        assert seen.used_bytes == 8500 * MIB
        assert "driver hiccup" in (seen.reading_failed or "")
        device.answer_truly()


def test_without_a_gpu_a_budget_of_the_hosts_memory_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as on a machine without one
    monitor = GPUMonitor(fallback_memory_mb=512.0)
    costs = {"a": 200.0, "b": 200.0, "c": 200.0}
    with manager_of(monitor, costs=costs) as manager:
        held = [manager.lease(tag, object) for tag in ("a", "b")]
        with pytest.raises(AcquireTimeoutError):
            manager.lease("c", object, timeout=0)
        for lease in held:
            lease.release()
    monitor.close()


def test_without_a_gpu_a_manager_that_is_told_nothing_keeps_to_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with ModelManager() as manager:
        (device,) = manager.snapshot().devices
        assert device.name == "host"
        assert device.used_bytes is not None
        assert 0 < device.limit_bytes < device.total_bytes
