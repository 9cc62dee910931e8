"""Rows 27 to 35 without 33: who has to go, for whom, and what kind of object may be loaded."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from conformance.situations import (
    CountedDevice,
    database_of,
    loader_of,
    manager_of,
    serve_once,
    wait_for_queue,
)
from modelmgr import AcquireTimeoutError
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import Party, wait_until


def test_an_unknown_model_flushes_nothing_from_an_almost_empty_device() -> None:
    device = FakeDevice(total_mb=80_000.0)
    with manager_of(device, costs={"known": 1000.0}) as manager:
        known = serve_once(manager, "known", loader_of(device, 1000.0))
        with manager.lease("unknown", loader_of(device, 500.0)):
            assert not known.closed
        assert serve_once(manager, "known", loader_of(device, 1000.0)) is known
        assert manager.evictions() == ()


def test_memory_that_comes_back_late_is_not_evicted_a_second_time() -> None:
    device = CountedDevice()
    late: list[FakeModel] = []
    at_once = threading.Event()
    sizes = {f"old {number}": 2000.0 for number in range(4)}

    def unload(model: FakeModel) -> None:
        late.append(model)
        if at_once.is_set():
            model.close()

    with manager_of(device, costs={**sizes, "new": 2500.0}, unload=unload, policy="lru") as manager:
        idle = [serve_once(manager, tag, loader_of(device, size)) for tag, size in sizes.items()]
        new = Party(lambda: manager.lease("new", loader_of(device, 2500.0)))
        wait_until(lambda: bool(late), "a victim was told to go")
        before = device.readings
        wait_until(lambda: device.readings >= before + 10, "readings without a change were taken")
        assert late == idle[:1]
        assert not new.done
        at_once.set()
        late[0].close()
        new.result().release()
        assert late == idle[:1]
        assert device.highest_mb <= 9000.0


def test_a_victim_is_chosen_by_what_it_frees() -> None:
    device = FakeDevice()
    costs = {"tiny": 500.0, "large": 4000.0, "other": 4000.0, "new": 4000.0}
    with manager_of(device, costs=costs) as manager:
        tiny, _, _ = (
            serve_once(manager, tag, loader_of(device, costs[tag]))
            for tag in ("tiny", "large", "other")
        )
        serve_once(manager, "new", loader_of(device, costs["new"]))
        assert not tiny.closed  # the oldest, and it would not have helped
        assert [eviction.freed_bytes > 0 for eviction in manager.evictions()] == [True]


def test_a_victim_is_chosen_by_what_its_return_would_cost() -> None:
    device = FakeDevice()
    costs = database_of({"slow": (4000.0, 60.0), "quick": (4000.0, 0.1), "new": (4000.0, 1.0)})
    with manager_of(device, costs=costs) as manager:
        slow, quick = (
            serve_once(manager, tag, loader_of(device, 4000.0)) for tag in ("slow", "quick")
        )
        serve_once(manager, "new", loader_of(device, 4000.0))
        assert quick.closed
        assert not slow.closed  # although it is the older one


@pytest.mark.parametrize("min_copies", [1, 0], ids=["floor", "no floor"])
def test_min_model_copies_is_a_floor_against_one_more_copy_of_another(min_copies: int) -> None:
    _evicts_for_one_more_copy_unless(kept=bool(min_copies), min_model_copies=min_copies)


@pytest.mark.parametrize("cooldown_s", [3600.0, 0.0], ids=["warm", "cold"])
def test_the_cooldown_is_a_floor_against_one_more_copy_of_another(cooldown_s: float) -> None:
    _evicts_for_one_more_copy_unless(
        kept=bool(cooldown_s), min_model_copies=0, eviction_cooldown_seconds=cooldown_s
    )


def _evicts_for_one_more_copy_unless(*, kept: bool, **floor: Any) -> None:
    device = FakeDevice()
    with manager_of(device, costs={"a": 4000.0, "b": 4000.0}, **floor) as manager:
        last = serve_once(manager, "a", loader_of(device, 4000.0))
        held = manager.acquire_model("b", loader_of(device, 4000.0))
        second = Party(lambda: manager.acquire_model("b", loader_of(device, 4000.0)))
        if kept:
            wait_for_queue(manager, 1)
            assert not last.closed
            assert not second.done
            manager.release_model("b", held)
            assert second.result() is held
        else:
            assert second.result() is not held
            assert last.closed
            manager.release_model("b", held)
        manager.release_model("b", second.result())


def test_memory_that_others_free_is_noticed_without_any_event_of_ours() -> None:
    device = FakeDevice(foreign_mb=7000.0)
    with manager_of(device, costs={"m": 4000.0}) as manager:
        waiter = Party(lambda: serve_once(manager, "m", loader_of(device, 4000.0)))
        wait_for_queue(manager, 1)
        assert not waiter.done
        device.foreign_mb = 0.0
        assert not waiter.result().closed


def test_memory_that_others_take_is_noticed_before_the_next_load() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"a": 3000.0, "b": 3000.0}) as manager:
        held = manager.lease("a", loader_of(device, 3000.0))
        device.foreign_mb = 4000.0
        with pytest.raises(AcquireTimeoutError):
            manager.lease("b", loader_of(device, 3000.0), timeout=0)
        held.release()


@pytest.mark.parametrize("instance", [None, 0, "", [], False], ids=repr)
def test_an_instance_that_counts_as_false_is_loaded_once(instance: object) -> None:
    loads: list[object] = []

    def load() -> object:
        loads.append(instance)
        return instance

    with manager_of(FakeDevice(), costs={"m": 1000.0}) as manager:
        for _ in range(3):
            assert serve_once(manager, "m", load) is instance
    assert len(loads) == 1


def _array() -> Any:
    return np.zeros(3)


def test_an_array_is_held_and_reused_as_any_other_instance() -> None:
    with manager_of(FakeDevice(), costs={"array": 3000.0}) as manager:
        one, two = (manager.acquire_model("array", _array) for _ in range(2))
        assert one is not two
        for instance in (one, two):
            manager.release_model("array", instance)
        again = manager.acquire_model("array", _array)
        assert again is one or again is two
        manager.release_model("array", again)


def test_an_array_is_evicted_as_any_other_instance() -> None:
    device = FakeDevice()
    with manager_of(device, costs={"array": 3000.0, "large": 8000.0}) as manager:
        held = [manager.acquire_model("array", _array) for _ in range(2)]
        for instance in held:
            manager.release_model("array", instance)
        with manager.lease("large", loader_of(device, 8000.0)):
            assert manager.all_models("array") == []
