"""Who waited in vain is told what stood in the way when the wait ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from modelmgr import AcquireTimeoutError, DoesNotFitError, ModelManager
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import Party, wait_for

KNOWN = {"small": 1000.0, "half": 4500.0, "large": 8000.0}


def manager_of(device: FakeDevice, **options: Any) -> ModelManager:
    options.setdefault("costs", KNOWN)
    options.setdefault("eviction_cooldown_seconds", 0.0)
    return ModelManager(device, **options)


def loader_of(device: FakeDevice, tag: str) -> Callable[[], FakeModel]:
    return lambda: FakeModel(device, KNOWN[tag])


def refused(manager: ModelManager, device: FakeDevice, tag: str) -> AcquireTimeoutError:
    """Ask without waiting, in vain; the error as everybody reads it."""
    with pytest.raises(AcquireTimeoutError) as raised:
        manager.lease(tag, lambda: FakeModel(device, 100.0), timeout=0)
    error = raised.value
    assert str(error).startswith(f"Timeout waiting to acquire model: {tag!r}, ")
    assert error.tag == tag
    assert str(error).splitlines()[1:] == list(error.reasons)
    return error


def test_who_holds_the_room_is_named_the_calling_thread_too() -> None:
    device = FakeDevice()
    with manager_of(device) as manager, manager.lease("large", loader_of(device, "large")):
        mine = refused(manager, device, "half").reasons
        assert "device: 1000.0 MiB of 8.8 GiB are free; 'half' needs 4.4 GiB" in mine
        assert mine[-1] == (
            "device: 7.8 GiB: 'large' (copy 1) is held by MainThread, the calling thread itself"
        )
        theirs = Party(lambda: refused(manager, device, "half").reasons).result()
        assert theirs[-1] == "device: 7.8 GiB: 'large' (copy 1) is held by MainThread"


def test_a_device_that_cannot_be_read_is_named_with_the_cause_and_the_age() -> None:
    device = FakeDevice()
    with manager_of(device) as manager, manager.lease("half", loader_of(device, "half")):
        device.fail_next(*[RuntimeError("the driver\nis away")] * 1000)
        said = [line for line in refused(manager, device, "large").reasons if "fail" in line]
        device.answer_truly()
    assert len(said) == 1
    assert said[0].startswith(
        "device: readings fail (the monitor failed: RuntimeError: the driver is away), "
        "the last good one is "
    )


def test_a_device_that_was_never_read_says_that_nothing_is_loaded_there() -> None:
    device = FakeDevice()
    device.fail_next(*[RuntimeError("away")] * 1000)
    with manager_of(device) as manager:
        (said,) = refused(manager, device, "small").reasons
    assert said.startswith("device: no reading of it has succeeded, and nothing is loaded before")
    assert said.endswith("(the monitor failed: RuntimeError: away)")


def test_pinned_copies_and_the_memory_of_others_are_named() -> None:
    device = FakeDevice(foreign_mb=500.0)
    with manager_of(device) as manager:
        manager.pin("large")
        manager.lease("large", loader_of(device, "large")).release()
        said = refused(manager, device, "half").reasons
    assert "device: 7.8 GiB: 'large' (copy 1) is pinned" in said
    assert said[-1] == "device: 500.0 MiB: used by others"


def test_a_measurement_that_runs_is_named() -> None:
    device = FakeDevice()
    with (
        manager_of(device, isolation="exclusive") as manager,
        manager.lease("new", lambda: FakeModel(device, 100.0)),
    ):
        said = refused(manager, device, "small").reasons
    assert "device: 'new' is being measured, and nothing else is loaded meanwhile" in said


def test_an_unknown_model_is_told_how_to_become_known() -> None:
    device = FakeDevice()
    with manager_of(device) as manager, manager.lease("large", loader_of(device, "large")):
        manager.lease("small", loader_of(device, "small")).release()
        with manager.lease("small", loader_of(device, "small")):
            said = refused(manager, device, "new").reasons
    assert said[0].startswith("nobody has measured 'new': it waits for room to be measured in;")


def test_a_ceiling_of_copies_is_named() -> None:
    device = FakeDevice()
    with (
        manager_of(device, max_model_copies=1) as manager,
        manager.lease("small", loader_of(device, "small")),
    ):
        said = refused(manager, device, "small").reasons
    assert said[0] == "all copies of 'small' that max_model_copies allows are there: 1"


def test_a_load_that_runs_and_others_who_wait_are_named() -> None:
    device = FakeDevice()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> FakeModel:
        begun.set()
        wait_for(go_on)
        return FakeModel(device, KNOWN["large"])

    with manager_of(device) as manager:
        loading = Party(lambda: manager.lease("large", slow).release())
        wait_for(begun)
        said = refused(manager, device, "half").reasons
        go_on.set()
        loading.result()
    assert said[-1] == "device: 7.8 GiB: 'large' (copy 1) is being loaded"


def test_a_difference_below_the_rounding_is_shown_to_the_byte() -> None:
    device = FakeDevice(8000.0)
    with (
        manager_of(device, costs={"a": 7200.5}) as manager,
        pytest.raises(DoesNotFitError, match="'a' can never fit") as raised,
    ):
        manager.lease("a", lambda: FakeModel(device, 7200.5))
    said = str(raised.value)
    assert "it needs 7,550,271,488 bytes and the largest limit is 7,549,747,200 bytes;" in said
