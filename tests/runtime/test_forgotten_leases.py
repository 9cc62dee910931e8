"""A lease that nobody has any more is given back, whoever forgot it and whatever ran just then."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from modelmgr import Lease, ModelManager
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.interpreters import run_python
from support.parties import wait_for, wait_until


def loader_of(device: FakeDevice, size_mb: float) -> Callable[[], FakeModel]:
    return lambda: FakeModel(device, size_mb)


def states(manager: ModelManager) -> list[str]:
    return [copy.state for copy in manager.snapshot().copies]


def comes_back(manager: ModelManager) -> None:
    wait_until(lambda: states(manager) == ["idle"], "it is given back")


@pytest.mark.parametrize("learn_in_use", [True, False])
def test_a_forgotten_lease_is_given_back_with_a_warning(learn_in_use: bool) -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}, learn_in_use=learn_in_use) as manager:
        lease = manager.lease("m", loader_of(device, 100.0))
        said = r"<Lease of 'm' copy 1 on device, held by MainThread> was forgotten and is given"
        with pytest.warns(ResourceWarning, match=said):
            del lease
        comes_back(manager)
        with manager.lease("m", loader_of(device, 100.0)):
            assert device.loads == 1


def test_a_cancelled_task_s_lease_goes_to_who_waits() -> None:
    device = FakeDevice()
    go_on = threading.Event()

    def slow() -> FakeModel:
        wait_for(go_on)
        return FakeModel(device, 8000.0)

    async def give_up(manager: ModelManager) -> object:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(manager.lease, "a", slow), 0.01)
        go_on.set()
        with await asyncio.to_thread(manager.lease, "b", loader_of(device, 8000.0)) as model:
            served: object = model
        return served

    costs = {"a": 8000.0, "b": 8000.0}
    with (
        ModelManager(device, costs=costs, eviction_cooldown_seconds=0) as manager,
        pytest.warns(ResourceWarning, match="<Lease of 'a'"),
    ):
        assert asyncio.run(give_up(manager)) is manager.all_models("b")[0]


def test_one_that_is_collected_by_a_thread_inside_is_given_back_when_it_has_left() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}) as manager:
        kept = [manager.lease("m", loader_of(device, 100.0))]
        known: Any = weakref.ref(kept[0])
        gate = manager.driver.gate
        with gate.settled, gate.lock:
            with pytest.warns(ResourceWarning, match="was forgotten"):
                kept.clear()
            assert known() is None
            assert states(manager) == ["active"]
        assert states(manager) == ["idle"]


def test_what_was_given_back_in_any_way_warns_of_nothing() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}) as manager, warnings.catch_warnings():
        warnings.simplefilter("error")
        lease = manager.lease("m", loader_of(device, 100.0))
        lease.release()
        del lease
        lease = manager.lease("m", loader_of(device, 100.0))
        manager.release_model("m", lease.instance)
        assert lease.over
        del lease
        with manager.lease("m", loader_of(device, 100.0)):
            gc.collect()
            assert states(manager) == ["active"]


def test_an_acquired_instance_is_held_until_it_is_released() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}) as manager:
        taken: list[object] = []
        party = threading.Thread(
            target=lambda: taken.append(manager.acquire_model("m", loader_of(device, 100.0)))
        )
        party.start()
        party.join()
        gc.collect()
        assert states(manager) == ["active"]
        manager.release_model("m", taken[0])


def test_a_lease_is_what_annotations_say() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}) as manager:
        lease: Lease = manager.lease("m", loader_of(device, 100.0))
        assert isinstance(lease, Lease)
        assert (lease.tag, lease.device, lease.copy, lease.hit) == ("m", "device", 1, False)
        assert lease.holder_ident == threading.get_ident()
        lease.release()


_FORK = """
import gc, os, warnings
warnings.simplefilter("always", ResourceWarning)
warnings.simplefilter("ignore", DeprecationWarning)  # of forking where threads run
warnings.showwarning = lambda message, *_: print("warned:", message, flush=True)
from modelmgr import ModelManager, UsageError

manager = ModelManager(costs={"m": 1.0})
lease = manager.lease("m", object)
if os.fork() == 0:
    try:
        lease.release()
    except UsageError as error:
        print("refused", f"child {os.getpid()}" in str(error), flush=True)
    try:
        with lease:
            raise SystemExit
    except SystemExit:
        print("left", flush=True)
    del lease
    gc.collect()
    os._exit(0)
os.wait()
print([copy.state for copy in manager.snapshot().copies], flush=True)
lease.release()
manager.shutdown()
"""


def test_a_forked_child_neither_releases_nor_forgets_what_is_its_parent_s() -> None:
    assert run_python("-c", _FORK).splitlines() == ["refused True", "left", "['active']"]


_END = """
import warnings
warnings.simplefilter("always", ResourceWarning)
from modelmgr import ModelManager
manager = ModelManager(costs={"m": 1.0})
lease = manager.lease("m", object)
print("done", flush=True)
"""


def test_a_program_that_ends_with_a_lease_ends_quietly() -> None:
    assert run_python("-c", _END).splitlines() == ["done"]
