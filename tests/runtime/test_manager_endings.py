"""Managers that end at bad moments: in a loader, a signal handler, a finaliser, a forked child."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytest

from modelmgr import ManagerClosedError, ModelManager, ShutdownTimeoutError, UsageError
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.interpreters import run_python
from support.parties import Party, wait_for, wait_until

COSTS = {"small": 1000.0, "large": 8000.0}


def manager_of(device: FakeDevice, **options: Any) -> ModelManager:
    options.setdefault("costs", COSTS)
    options.setdefault("wait_timeout_seconds", None)
    return ModelManager(device, learn_in_use=False, **options)


def test_a_loader_that_shuts_its_manager_down_is_not_waited_for() -> None:
    device = FakeDevice()
    manager = manager_of(device)

    def load() -> FakeModel:
        manager.shutdown()  # for ever, if it waited for this very load
        return FakeModel(device, 1000.0)

    with pytest.raises(ManagerClosedError):
        manager.lease("small", load)
    manager.shutdown()
    assert manager.snapshot().copies == ()


def test_a_signal_handler_that_shuts_down_does_not_wait_for_the_load_that_it_interrupted() -> None:
    device = FakeDevice()
    manager = manager_of(device)

    def handler(_: int, __: FrameType | None) -> None:
        manager.shutdown()
        raise KeyboardInterrupt

    def load() -> FakeModel:
        signal.raise_signal(signal.SIGUSR1)
        return FakeModel(device, 1000.0)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            manager.lease("small", load)
    finally:
        signal.signal(signal.SIGUSR1, before)
    manager.shutdown()
    assert manager.snapshot().copies == ()


def test_an_unload_that_shuts_its_manager_down_is_not_waited_for() -> None:
    ended = threading.Event()

    class Closes:
        def close(self) -> None:
            manager.shutdown()
            ended.set()

    manager = manager_of(FakeDevice())
    manager.lease("small", Closes).release()
    manager.force_reset()
    wait_for(ended)
    manager.shutdown()


def test_a_shutdown_still_waits_for_what_another_thread_loads() -> None:
    device = FakeDevice()
    manager = manager_of(device)
    begun, go_on = threading.Event(), threading.Event()

    def load() -> FakeModel:
        begun.set()
        wait_for(go_on)
        return FakeModel(device, 1000.0)

    loading = Party(lambda: manager.lease("small", load))
    wait_for(begun)
    with pytest.raises(ShutdownTimeoutError, match="is being loaded"):
        manager.shutdown(timeout=0)
    go_on.set()
    with pytest.raises(ManagerClosedError):
        loading.result()
    manager.shutdown()


def test_a_shutdown_from_within_names_the_holders_also_where_waits_never_end() -> None:
    device = FakeDevice()
    manager = manager_of(device)
    lease = Party(lambda: manager.lease("small", lambda: FakeModel(device, 1000.0))).result()
    with (
        manager.driver.gate.lock,  # as a finaliser that runs in there
        pytest.raises(ShutdownTimeoutError, match=r"^still in use: 'small' \(copy 1\) held by"),
    ):
        manager.shutdown()
    lease.release()
    manager.shutdown()


def with_a_slow_close(device: FakeDevice, go_on: threading.Event) -> ModelManager:
    """Return a manager with an idle copy that takes until ``go_on`` to close."""

    class ClosesSlowly:
        def close(self) -> None:
            wait_for(go_on)

    manager = manager_of(device)
    manager.lease("slow", ClosesSlowly, worst_case_mb=100.0).release()
    return manager


def test_a_shutdown_tells_what_is_still_being_unloaded_from_who_still_holds_something() -> None:
    """It returned without a word, and left a close() that hung to be found by other means."""
    device, go_on = FakeDevice(), threading.Event()
    manager = with_a_slow_close(device, go_on)
    with pytest.raises(ShutdownTimeoutError) as late:
        manager.shutdown(timeout=0.05)
    assert str(late.value) == (
        "still being unloaded after 0.05 s: 'slow' (copy 1); a further shutdown() waits on"
    )
    assert (late.value.holders, late.value.unloading) == ((), ("'slow' (copy 1)",))
    manager.shutdown(timeout=0)  # does not wait, and has no reason to complain
    go_on.set()
    manager.shutdown()


def test_a_shutdown_names_holders_and_unloads_in_one_message() -> None:
    device, go_on = FakeDevice(), threading.Event()
    manager = with_a_slow_close(device, go_on)
    held = Party(lambda: manager.lease("small", lambda: FakeModel(device, 1000.0))).result()
    with pytest.raises(
        ShutdownTimeoutError,
        match=r"^still in use after 0\.05 s: 'small' \(copy 2\) held by .*; they are unloaded when "
        r"they are released\. still being unloaded after 0\.05 s: 'slow' \(copy 1\); ",
    ):
        manager.shutdown(timeout=0.05)
    go_on.set()
    held.release()
    manager.shutdown()


@pytest.mark.parametrize("timeout", [1e10, 1e300, 10**400])
def test_a_time_out_beyond_what_the_clock_takes_waits_as_for_ever(timeout: float) -> None:
    device = FakeDevice()
    with manager_of(device) as manager:
        held = manager.lease("large", lambda: FakeModel(device, 8000.0))
        waiting = Party(
            lambda: manager.lease("large", lambda: FakeModel(device, 8000.0), timeout=timeout)
        )
        wait_until(lambda: len(manager.snapshot().queue) == 1, "it waits")
        held.release()
        waiting.result().release()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poll_interval", "0.5"),
        ("poll_interval", 1e300),
        ("eviction_cooldown_seconds", 1e300),
        ("slack_percentage", "10%"),
        ("slack_percentage", 10**400),
        ("unload", 3),
        ("estimator", 4),
        ("min_data_points", 2.5),
        ("min_data_points", True),
        ("smoothing_factor", "0.2"),
        ("max_bypass", -1),
        ("min_model_copies", "1"),
    ],
)
def test_an_argument_that_is_none_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        manager_of(FakeDevice(), **{name: value})


@pytest.mark.parametrize("monitor", ["costs.json", FakeDevice])
def test_a_monitor_that_cannot_be_asked_is_refused_at_once(monitor: Any) -> None:
    with pytest.raises(UsageError, match=r"monitor must be an object with get_stats\(\)"):
        ModelManager(monitor)


@pytest.mark.parametrize("worst_case_mb", ["1 GiB", 1e300, 10**400])
def test_a_worst_case_that_is_no_size_is_refused(worst_case_mb: Any) -> None:
    with (
        manager_of(FakeDevice()) as manager,
        pytest.raises(UsageError, match="worst_case_mb must be a positive number"),
    ):
        manager.lease("small", object, worst_case_mb=worst_case_mb)


_FINALISED = """
from modelmgr import ModelManager
from modelmgr.testing.fake_device import FakeDevice, FakeModel

class Keeps:
    def __init__(self):
        device = FakeDevice()
        self.manager = ModelManager(device, costs={"small": 1000.0}, wait_timeout_seconds=None)
        self.manager.lease("small", lambda: FakeModel(device, 1000.0)).release()
    def __del__(self):
        self.manager.shutdown()

keeps = Keeps()
keeps.itself = keeps
print("last line")
"""


def test_a_shutdown_in_a_finaliser_at_the_interpreters_end_comes_to_an_end() -> None:
    assert run_python("-c", _FINALISED) == "last line\n"


_FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking where threads run
from modelmgr import LeaseError, ModelManager, UsageError

class Copy:
    closed = False
    def close(self):
        os.write(1, b"closed in parent\\n" if os.getpid() == parent else b"closed in child\\n")

parent = os.getpid()
manager = ModelManager(costs={"held": 1.0, "idle": 1.0}, wait_timeout_seconds=None)
held = manager.lease("held", Copy)
manager.lease("idle", Copy).release()

def refused(ask):
    try:
        ask()
    except UsageError as error:
        return f"process {parent}" in str(error) and f"child {os.getpid()}" in str(error)
    return False

if os.fork() == 0:
    print(
        refused(lambda: manager.lease("idle", Copy)),
        refused(lambda: manager.acquire_model("held", Copy)),
        refused(manager.snapshot),
        refused(manager.force_reset),
        flush=True,
    )
    try:
        with manager, held:  # as a child that unwinds what its parent began
            sys.exit(3)
    except SystemExit as left:
        print("left with", left.code, flush=True)
    os._exit(0)
os.wait()
print([(copy.tag, copy.state) for copy in manager.snapshot().copies], flush=True)
held.release()
manager.shutdown()
"""


def test_a_forked_child_is_refused_and_ends_nothing_of_its_parents() -> None:
    assert run_python("-c", _FORKS).splitlines() == [
        "True True True True",
        "left with 3",
        "[('held', 'active'), ('idle', 'idle')]",
        "closed in parent",
        "closed in parent",
    ]
