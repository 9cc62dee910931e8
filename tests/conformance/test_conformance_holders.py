"""Rows 2, 5, 12 to 17: who holds a copy, and what becomes of one whose holder or worker is gone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from conformance.situations import loader_of, manager_of, serve_once, wait_for_queue
from modelmgr import AcquireTimeoutError, LeaseError
from modelmgr.records.devices import DeviceDescription
from modelmgr.runtime.manager import ModelManager
from modelmgr.runtime.worker_loader import WorkerLoader
from modelmgr.scheduling.actions import Grant, StartLoad, StartUnload
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from modelmgr.units import GIB, MIB
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workload.model_spec import ModelSpec
from support.parties import Party, wait_until


def test_a_copy_in_use_outlives_an_isolation_and_no_dead_one_is_granted() -> None:
    device = FakeDevice()
    costs = {"a": 6000.0, "b": 6000.0}
    with manager_of(device, costs=costs, isolation="exclusive") as manager:
        serve_once(manager, "a", loader_of(device, 6000.0))
        held = manager.lease("b", loader_of(device, 6000.0))  # its room was a's
        unknown = Party(lambda: manager.lease("unknown", loader_of(device, 500.0)))
        wait_until(lambda: unknown.done or bool(manager.snapshot().queue), "the unknown was seen")
        assert not held.instance.closed
        held.release()
        unknown.result().release()
        with manager.lease("b", loader_of(device, 6000.0)) as again:
            assert not again.closed


def test_a_waiter_that_timed_out_spoils_nothing_for_those_who_are_granted_after_it() -> None:
    device = FakeDevice()
    costs = {"large": 8000.0, "small": 1000.0, "other": 8500.0}
    with manager_of(device, costs=costs, isolation="exclusive") as manager:
        held = manager.lease("large", loader_of(device, 8000.0))
        unknown = Party(lambda: manager.lease("unknown", loader_of(device, 500.0)))
        wait_for_queue(manager, 1)
        with pytest.raises(AcquireTimeoutError):
            manager.lease("other", loader_of(device, 8500.0), timeout=0.05)
        held.release()
        unknown.result().release()
        small = Party(lambda: manager.lease("small", loader_of(device, 1000.0)))
        small.result().release()
        assert manager.snapshot().devices[0].isolating is None
        assert manager.snapshot().queue == ()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_loader_that_exits_ends_its_isolation(error: BaseException) -> None:
    device = FakeDevice()

    def load() -> FakeModel:
        raise error

    with manager_of(device, costs={"known": 1000.0}, isolation="exclusive") as manager:
        with pytest.raises(type(error)) as caught:
            manager.acquire_model("unknown", load)
        assert caught.value is error
        after = Party(lambda: serve_once(manager, "known", loader_of(device, 1000.0)))
        assert not after.result().closed
        again = Party(lambda: serve_once(manager, "unknown", loader_of(device, 500.0)))
        assert not again.result().closed


def test_a_double_release_is_refused_and_hands_out_nothing_twice() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"m": 1000.0}) as manager:
        instance = serve_once(manager, "m", loader_of(device, 1000.0))
        with pytest.raises(LeaseError):
            manager.release_model("m", instance)
        one = manager.acquire_model("m", loader_of(device, 1000.0))
        two = manager.acquire_model("m", loader_of(device, 1000.0))
        assert one is not two
        manager.release_model("m", one)
        with pytest.raises(LeaseError):
            manager.release_model("m", one)
        assert sorted(c.state for c in manager.snapshot().copies) == ["active", "idle"]
        manager.release_model("m", two)


def test_a_foreign_release_is_refused_and_puts_nothing_into_the_pool() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"m": 1000.0}) as manager:
        held = manager.acquire_model("m", loader_of(device, 1000.0))
        stranger = FakeModel(device, 10.0)
        with pytest.raises(LeaseError):
            manager.release_model("m", stranger)
        second = manager.acquire_model("m", loader_of(device, 1000.0))
        assert second is not stranger
        for instance in (held, second):
            manager.release_model("m", instance)


def test_a_holder_that_died_loses_its_copy_and_unknown_models_go_on() -> None:
    """As the manager of many processes is told of a killed client; here without the processes."""
    scheduler = Scheduler([("gpu", 10_000, 9_000)], SchedulerSettings(isolation="exclusive"))
    scheduler.memory_reading(0, 1, at_ns=1, used_bytes=0)
    scheduler.set_costs("known", ModelCosts(1000, 1000), 2)
    _, actions = scheduler.request("known", 3)
    (load,) = actions
    assert isinstance(load, StartLoad)
    (grant,) = scheduler.load_finished(load.copy, 4)
    assert isinstance(grant, Grant)
    scheduler.memory_reading(0, 6, at_ns=5, used_bytes=1000)
    _, actions = scheduler.request("unknown", 7)
    assert actions == []
    (unload,) = scheduler.holder_lost(grant.copy, grant.lease, 8)
    assert isinstance(unload, StartUnload)
    (profile,) = scheduler.unload_finished(unload.copy, 9, process_gone=True)
    assert isinstance(profile, StartLoad)
    assert (profile.tag, profile.isolated) == ("unknown", True)
    with pytest.raises(LeaseError):
        scheduler.release(grant.copy, grant.lease, 10)
    scheduler.check_valid()


def test_a_thread_that_dies_within_its_lease_gives_the_copy_back() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"known": 1000.0}, isolation="exclusive") as manager:

        def die() -> None:
            with manager.lease("known", loader_of(device, 1000.0)):
                sys.exit("killed")

        with pytest.raises(SystemExit):
            Party(die).result()
        unknown = Party(lambda: serve_once(manager, "unknown", loader_of(device, 500.0)))
        assert not unknown.result().closed


def test_a_release_under_another_tag_is_an_error_and_never_a_load_for_every_batch() -> None:
    device = FakeDevice()
    costs = {"model": 1000.0, "model/v2": 1000.0}
    with manager_of(device, costs=costs) as manager:
        for _ in range(5):
            instance = manager.acquire_model("model/v2", loader_of(device, 1000.0))
            with pytest.raises(LeaseError, match="'model/v2', not as 'model'"):
                manager.release_model("model", instance)
            manager.release_model("model/v2", instance)
        with manager.lease("model/v2", loader_of(device, 1000.0)):
            pass  # a lease knows its own tag
        assert device.loads == 1
        assert manager.all_models("model") == []


def test_a_lazy_result_holds_its_copy_until_it_is_consumed() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"m": 5000.0, "n": 5000.0}) as manager:

        def results() -> Iterator[Any]:
            with manager.lease("m", loader_of(device, 5000.0)) as model:
                for batch in range(3):
                    assert not model.closed
                    yield model.infer(batch)

        lazy = results()
        assert next(lazy) == 0
        with pytest.raises(AcquireTimeoutError):
            manager.lease("n", loader_of(device, 5000.0), timeout=0.05)
        assert list(lazy) == [1, 2]
        with manager.lease("n", loader_of(device, 5000.0)):
            pass


def test_a_lazy_result_that_is_dropped_half_way_gives_its_copy_back() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"m": 5000.0, "n": 5000.0}) as manager:

        def results() -> Generator[Any]:
            with manager.lease("m", loader_of(device, 5000.0)) as model:
                for batch in range(3):
                    yield model.infer(batch)

        lazy = results()
        assert next(lazy) == 0
        lazy.close()
        with manager.lease("n", loader_of(device, 5000.0)):
            pass


def _spec_of(tag: str) -> ModelSpec:
    options = {"resident_bytes": 20 * MIB, "load_ns": 0, "service_ns": 0}
    return ModelSpec(tag=tag, loader="synthetic", options=options)


def test_a_dead_workers_hold_is_given_back_though_its_holder_never_lets_go() -> None:
    host = DeviceDescription(name="host", kind="host", total_bytes=2 * GIB)
    with (
        WorkerLauncher() as launcher,
        ModelManager(devices=[host], costs={"m": 200.0}, isolation="exclusive") as manager,
    ):
        held = manager.lease("m", WorkerLoader(launcher, _spec_of("m")))
        unknown = Party(lambda: manager.lease("u", WorkerLoader(launcher, _spec_of("u"))))
        wait_for_queue(manager, 1)
        os.kill(held.instance.pid, signal.SIGKILL)
        unknown.result().release()
        assert {copy.tag for copy in manager.snapshot().copies} == {"u"}
        held.release()
