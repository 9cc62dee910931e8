"""Rows 39 to 41: what a caller was told of exists, and what a caller asked for is done."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from conformance.situations import loader_of, manager_of, serve_once
from modelmgr import (
    AcquireTimeoutError,
    DoesNotFitError,
    GPUMonitor,
    ManagerClosedError,
    ModelManager,
    ResourceEstimator,
    UsageError,
)
from modelmgr.records.devices import DeviceDescription
from modelmgr.testing.fake_device import FakeDevice
from modelmgr.units import GIB, MIB
from support.scripted_reader import ScriptedReader


def test_a_manager_is_a_context_manager_that_shuts_down_whatever_happens() -> None:
    device = FakeDevice()
    kept: list[Any] = []

    def work() -> None:
        with manager_of(device, costs={"m": 1000.0}) as manager:
            kept.append(manager)
            kept.append(serve_once(manager, "m", loader_of(device, 1000.0)))
            raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="the caller's own"):
        work()
    manager, model = kept
    assert model.closed
    with pytest.raises(ManagerClosedError):
        manager.acquire_model("m", loader_of(device, 1000.0))


def test_a_lease_is_a_context_manager_that_releases_whatever_happens() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"m": 1000.0}) as manager:
        for _ in range(2):
            with (
                pytest.raises(ValueError, match="a bad batch"),
                manager.lease("m", loader_of(device, 1000.0), timeout=0),
            ):
                raise ValueError("a bad batch")
        assert device.loads == 1


def test_every_method_that_a_caller_was_told_of_is_there_and_works() -> None:
    device = FakeDevice()
    manager = manager_of(device, costs={"m": 1000.0})
    instance = manager.acquire_model("m", loader_of(device, 1000.0))
    for model in manager.all_models("m"):  # as a caller does who updates every loaded copy
        assert model is instance
    assert manager.should_spawn_model("m", None)
    assert not manager.try_enter_isolation_mode("m", None)
    manager.release_model("m", instance)
    assert manager.try_enter_isolation_mode("unknown", None)
    manager.pin("m")
    manager.unpin("m")
    assert manager.monitor is device
    assert manager.estimator.get_estimate("m") == 1000.0
    assert manager.evictions() == ()
    manager.force_reset()
    assert manager.snapshot().queue == ()
    manager.shutdown()
    manager.shutdown()

    monitor = GPUMonitor(reader=ScriptedReader(GIB), poll_interval=3600.0)
    monitor.start()
    monitor.refresh()
    monitor.reset_peak()
    assert monitor.get_stats() == (1024.0, 1024.0, 8192.0)
    monitor.stop()

    estimator = ResourceEstimator()
    estimator.set_initial_estimate("m", 10.0)
    estimator.add_observation({"m": 1}, 12.0)
    assert not estimator.is_unknown("m")


def test_a_caller_written_for_the_original_finds_its_arguments_in_their_places() -> None:
    places = list(inspect.signature(ModelManager).parameters)[:11]
    assert places == [
        "monitor",
        "slack_percentage",
        "poll_interval",
        "peak_window_seconds",
        "min_data_points",
        "smoothing_factor",
        "eviction_cooldown_seconds",
        "min_model_copies",
        "wait_timeout_seconds",
        "lock_timeout_seconds",
        "verbose_logging",
    ]


def test_a_second_manager_does_what_its_own_arguments_say() -> None:
    one, two = FakeDevice(), FakeDevice(total_mb=20_000.0)
    with (
        manager_of(one, slack_percentage=0.5, costs={"m": 6000.0}) as first,
        manager_of(two, slack_percentage=0.1, costs={"m": 100.0}, smoothing_factor=0.7) as second,
    ):
        limits = [m.snapshot().devices[0].limit_bytes for m in (first, second)]
        assert limits == [5000 * MIB, 18_000 * MIB]
        with pytest.raises(DoesNotFitError):
            first.acquire_model("m", loader_of(one, 6000.0))
        assert not serve_once(second, "m", loader_of(two, 100.0)).closed
        assert second.estimator.smoothing_factor == 0.7
        assert [m.estimator.get_estimate("m") for m in (first, second)] == [6000.0, 100.0]
        assert first.all_models("m") == []


def test_a_second_manager_of_one_device_sees_what_the_first_has_loaded() -> None:
    device = FakeDevice()
    costs = {"m": 5000.0}
    with manager_of(device, costs=costs) as first, manager_of(device, costs=costs) as second:
        held = first.lease("m", loader_of(device, 5000.0))
        with pytest.raises(AcquireTimeoutError):
            second.lease("m", loader_of(device, 5000.0), timeout=0)
        held.release()
        assert device.highest_mb == 5000.0


def test_arguments_that_contradict_each_other_are_refused_and_never_dropped() -> None:
    described = DeviceDescription(name="one", kind="fixed", total_bytes=GIB)
    with pytest.raises(UsageError, match="not both"):
        ModelManager(FakeDevice(), devices=[described])
    with pytest.raises(TypeError):
        manager_of(FakeDevice(), no_such_argument=1)
