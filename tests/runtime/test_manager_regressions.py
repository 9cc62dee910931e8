"""What a hostile reader found in the manager, each as the shortest script that showed it."""

# pyright: reportPrivateUsage=false
# The lock has to be held, and a measurement interrupted, at a moment that no public call can name.
# ruff: noqa: ARG002 - a policy's signature

from __future__ import annotations

import contextlib
import copy
import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from modelmgr import AcquireTimeoutError, Lease, LeaseError, ModelManager, UsageError
from modelmgr.runtime.cost_keeping import CostKeeper
from modelmgr.testing.fake_device import FakeDevice, FakeModel
from support.parties import Party, wait_for, wait_until


def loader_of(device: FakeDevice, size_mb: float) -> Callable[[], FakeModel]:
    return lambda: FakeModel(device, size_mb)


def test_a_lease_that_the_collector_releases_within_the_lock_is_put_off_not_deadlocked() -> None:
    device = FakeDevice()

    class Owner:
        def __init__(self, results: Iterator[object]) -> None:
            self.results = results
            self.itself = self

    with ModelManager(device, costs={"m": 1.0}) as manager:

        def lazy() -> Iterator[object]:
            with manager.lease("m", loader_of(device, 1.0)) as model:
                yield model

        before = gc.get_threshold()
        gc.set_threshold(20)
        try:
            for _ in range(300):
                next(Owner(lazy()).results)
        finally:
            gc.set_threshold(*before)
        gc.collect()
        wait_until(
            lambda: all(c.holder is None for c in manager.snapshot().copies),
            "every dropped lease is released",
        )


def test_a_snapshot_in_a_signal_handler_answers() -> None:
    device = FakeDevice()
    seen: list[object] = []
    with ModelManager(device, costs={"m": 1.0}) as manager:

        def look(_number: int, _frame: object) -> None:
            seen.append(manager.snapshot())

        before = signal.signal(signal.SIGUSR1, look)
        try:
            with manager._driver.gate.settled, manager._driver.gate.lock:
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert len(seen) == 1


@pytest.mark.parametrize("timeout", [0.0, 0.2])
def test_out_of_memory_honours_the_time_out_and_comes_back_as_it_was_raised(
    timeout: float,
) -> None:
    device = FakeDevice()

    def load() -> object:
        raise MemoryError("no more")

    with ModelManager(device, costs={"a": 100.0, "b": 100.0}) as manager:
        held = manager.lease("a", loader_of(device, 100.0))
        with pytest.raises(MemoryError):
            manager.lease("b", load, timeout=timeout)
        held.release()


def test_memory_that_comes_back_during_a_load_teaches_no_tiny_cost() -> None:
    device = FakeDevice(foreign_mb=5000.0)

    def load() -> FakeModel:
        model = FakeModel(device, 3000.0)
        device.foreign_mb = 0.0
        return model

    with ModelManager(device) as manager:
        with manager.lease("u", load):
            pass
        assert manager.estimator.is_unknown("u")


def test_one_spike_during_the_first_job_is_outvoted_by_later_ones() -> None:
    device = FakeDevice()
    with ModelManager(device) as manager:
        with manager.lease("m", loader_of(device, 500.0)):
            device.foreign_mb = 8000.0
            wait_until(lambda: device.get_stats()[0] > 8000.0, "the spike is there")
            threading.Event().wait(0.1)  # long enough to be sampled
            device.foreign_mb = 0.0
        for _ in range(3):
            with manager.lease("m", loader_of(device, 500.0)):
                pass
        assert manager.estimator.get_estimate("m") == pytest.approx(500.0, rel=0.02)


def test_a_figure_beyond_the_limit_is_not_believed() -> None:
    device = FakeDevice()
    with ModelManager(device) as manager:
        with manager.lease("m", loader_of(device, 500.0)):
            device.foreign_mb = 9300.0
            threading.Event().wait(0.1)
            device.foreign_mb = 0.0
        with manager.lease("m", loader_of(device, 500.0)):
            pass


def test_a_measured_model_is_not_counted_twice_and_evicts_nobody() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"k": 3000.0}) as manager:
        unknown = manager.lease("u", loader_of(device, 4000.0))
        waiter = Party(lambda: manager.lease("k", loader_of(device, 3000.0)))
        wait_until(lambda: bool(manager.snapshot().queue), "k waits")
        unknown.release()
        waiter.result().release()
        assert manager.evictions() == ()


def test_a_monitor_that_answers_with_no_numbers_is_a_failed_reading_and_heals() -> None:
    device = FakeDevice(foreign_mb=8000.0)
    with ModelManager(device, costs={"m": 2000.0}, poll_interval=0.01) as manager:
        device.fail_next((None, None, None), ("a", "b", "c"))  # type: ignore[arg-type]  # on purpose
        waiter = Party(lambda: manager.lease("m", loader_of(device, 2000.0)))
        wait_until(lambda: bool(manager.snapshot().queue), "m waits")
        device.foreign_mb = 0.0
        waiter.result().release()


def test_an_unload_that_exits_is_logged_and_its_room_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = FakeDevice()

    def unload(instance: FakeModel) -> None:
        instance.close()
        sys.exit(3)

    with ModelManager(device, costs={"a": 6000.0, "b": 6000.0}, unload=unload) as manager:
        for tag in ("a", "b"):
            with manager.lease(tag, loader_of(device, 6000.0), timeout=20):
                pass
    assert "SystemExit" in caplog.text


def test_a_hung_monitor_does_not_hold_up_a_time_out() -> None:
    answer = threading.Event()

    class Hanging(FakeDevice):
        hangs = False

        def get_stats(self) -> tuple[float, float, float]:
            if self.hangs:
                wait_for(answer)
            return super().get_stats()

    device = Hanging()
    with ModelManager(device, costs={"m": 9500.0, "n": 100.0}) as manager:
        with manager.lease("n", loader_of(device, 100.0)):
            device.hangs = True
            waiter = Party(lambda: manager.lease("n", loader_of(device, 100.0), timeout=0))
            wait_until(lambda: waiter.done, "the request ends although no reading does")
            assert manager.snapshot().devices[0].reading_failed is not None
        answer.set()
        device.hangs = False
        waiter.result().release()


def test_an_interrupted_release_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    with ModelManager(device) as manager:
        lease = manager.lease("m", loader_of(device, 100.0))
        with monkeypatch.context() as patch:
            patch.setattr(CostKeeper, "measured", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                lease.release()
        lease.release()
        assert [c.state for c in manager.snapshot().copies] == ["idle"]


def _interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_what_a_failed_loader_had_built_is_gone_with_its_error() -> None:
    class Weights:
        pass

    built: list[weakref.ref[Weights]] = []

    def load() -> object:
        weights = Weights()
        built.append(weakref.ref(weights))
        raise ValueError("half way")

    with ModelManager(FakeDevice(), costs={"m": 10.0}) as manager:
        with pytest.raises(ValueError, match="half way") as caught:
            manager.lease("m", load)
        del caught
        gc.disable()
        try:
            with pytest.raises(MemoryError):
                manager.lease("m", _out_of_memory_twice(built, Weights))
        finally:
            gc.enable()


def _out_of_memory_twice(built: list[Any], kind: type) -> Callable[[], object]:
    def load() -> object:
        assert all(ref() is None for ref in built[1:]), "the first attempt's weights live on"
        weights = kind()
        built.append(weakref.ref(weights))
        raise MemoryError

    return load


def test_a_failed_reading_or_two_do_not_spoil_a_measurement() -> None:
    device = FakeDevice()

    def load() -> FakeModel:
        device.fail_next(RuntimeError("hiccup"))
        return FakeModel(device, 500.0)

    with ModelManager(device) as manager:
        with manager.lease("u", load):
            pass
        assert manager.estimator.get_estimate("u") == pytest.approx(500.0, rel=0.02)


def test_a_shutdown_while_an_unknown_model_loads_leaves_no_thread() -> None:
    device = FakeDevice()
    loading, go = threading.Event(), threading.Event()

    def load() -> FakeModel:
        loading.set()
        wait_for(go)
        return FakeModel(device, 100.0)

    manager = ModelManager(device)
    waiter = Party(lambda: manager.lease("u", load))
    wait_for(loading)
    closing = Party(manager.shutdown)
    wait_until(lambda: manager.snapshot().closed, "the manager closes")
    go.set()
    with pytest.raises(RuntimeError, match="shut down"):
        waiter.result()
    closing.result()
    wait_until(
        lambda: all(t.name != "modelmgr-measurement" for t in threading.enumerate()),
        "the measurement's thread ends",
    )


def test_one_object_twice_is_two_copies_and_goes_with_the_last() -> None:
    device = FakeDevice()
    model = FakeModel(device, 100.0)
    with ModelManager(device, costs={"m": 100.0}) as manager:
        one = manager.lease("m", lambda: model)
        two = manager.lease("m", lambda: model)
        two.release()
        manager.force_reset()
        wait_until(lambda: len(manager.snapshot().copies) == 1, "the idle copy goes")
        assert not model.closed
        one.release()
        wait_until(lambda: model.closed, "the object goes with its last copy")


def test_a_lease_that_is_over_hands_nothing_out_and_cannot_be_copied() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}) as manager:
        lease = manager.lease("m", loader_of(device, 100.0))
        with pytest.raises(TypeError):
            copy.copy(lease)
        lease.release()
        with pytest.raises(LeaseError), lease:
            pass


@pytest.mark.parametrize(
    "arguments",
    [
        {"wait_timeout_seconds": float("nan")},
        {"eviction_cooldown_seconds": float("inf")},
        {"peak_window_seconds": -1.0},
        {"min_model_copies": 2.5},
        {"costs": {"a": "3"}},
        {"costs": [1]},
    ],
)
def test_arguments_that_make_no_sense_are_refused_when_they_are_given(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(UsageError):
        ModelManager(FakeDevice(), **arguments)


def test_a_request_that_makes_no_sense_is_refused_and_an_infinite_wait_is_none() -> None:
    device = FakeDevice()
    with ModelManager(device, costs={"m": 1.0}, wait_timeout_seconds=float("inf")) as manager:
        wrong: tuple[dict[str, Any], ...] = (
            {"priority": float("nan")},
            {"priority": "x"},
            {"timeout": float("nan")},
        )
        for bad in wrong:
            with pytest.raises(UsageError):
                manager.lease("m", loader_of(device, 1.0), **bad)
        with manager.lease("m", loader_of(device, 1.0), timeout=float("inf")):
            pass


def test_a_policy_that_raises_does_not_break_the_manager() -> None:
    class Broken:
        name = "broken"

        def requested(self, tag: str, now_ns: int) -> None: ...
        def used(self, copy: int, tag: str, device: int) -> None: ...
        def evicted(self, copy: Any, now_ns: int) -> None: ...
        def values(self, candidates: Any, now_ns: int) -> list[float]:
            raise ZeroDivisionError

        def choose(self, candidates: Any, values: Any, need_bytes: int) -> tuple[int, ...] | None:
            raise ZeroDivisionError

    device = FakeDevice()
    with ModelManager(device, costs={"a": 6000.0, "b": 6000.0}, policy=Broken()) as manager:
        for tag in ("a", "b", "a"):
            with manager.lease(tag, loader_of(device, 6000.0), timeout=20):
                pass
        with pytest.raises(AcquireTimeoutError), manager.lease("a", loader_of(device, 6000.0)):
            manager.lease("b", loader_of(device, 6000.0), timeout=0)


def test_an_unload_begins_at_once_while_the_watch_waits_for_the_next_reading() -> None:
    """The watch waited inside the lock by the gate's own count, so nobody else was ever outside."""
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}, poll_interval=3600.0) as manager:
        lease = manager.lease("m", loader_of(device, 100.0))
        wait_until(lambda: not manager.driver.watch.asleep, "somebody watches")
        for _ in range(50):  # the watch thread is in its wait by now, or will be
            threading.Event().wait(0.001)
        manager.force_reset()
        model = lease.instance
        lease.release()
        wait_until(lambda: model.closed, "the copy is unloaded")


class _Interrupt:
    """Raises KeyboardInterrupt where the n-th function of ours begins or ends."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event in {"call", "return"} and "modelmgr" in frame.f_code.co_filename:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


class _Signal:
    """Raises KeyboardInterrupt at the n-th moment at which Python looks for signals.

    That is where a function begins and where one that is no Python has returned; not while the
    scheduler decides or its decisions are handed on: an event is not to be torn apart here.
    """

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        ours = "/modelmgr/" in file or file == threading.__file__
        if event in {"call", "c_return"} and ours and not _in_an_event(frame):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def _in_an_event(frame: FrameType | None) -> bool:
    while frame is not None:
        if "/scheduling/" in frame.f_code.co_filename or frame.f_code.co_name == "_route":
            return True
        frame = frame.f_back
    return False


def _nothing(_: str) -> None:
    """Stand for a hit that finds no idle copy."""


@pytest.mark.parametrize("waits", [False, True])
def test_an_interrupt_at_any_moment_of_an_acquisition_leaves_nothing_held(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that was granted just before was held for ever: nobody had its lease."""
    device = FakeDevice()
    number, left = 0, 0
    with ModelManager(
        device, costs={"m": 100.0}, learn_in_use=False, wait_timeout_seconds=9.0
    ) as manager:
        load = loader_of(device, 100.0)
        manager.lease("m", load).release()
        if waits:  # takes the way of a request that is not served at once
            monkeypatch.setattr(manager.driver, "hit", _nothing)

        def acquire() -> Lease:
            return manager.lease("m", load)

        while left == 0:  # until it came too late
            number += 1
            signal = _Signal(number)
            lease = None
            before = sys.getprofile()
            sys.setprofile(signal)
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    lease = acquire()
            finally:
                sys.setprofile(before)
            left = signal.left
            if lease is not None:
                lease.release()
            copies = Party(manager.snapshot).result().copies
            assert [copy.state for copy in copies] == ["idle"], number
        assert number > 10


def test_an_interrupt_at_any_moment_leaves_the_lock_free() -> None:
    """One that came just when the lock was taken, or about to be freed, left it taken for ever."""
    device = FakeDevice()
    with ModelManager(device, costs={"m": 100.0}) as manager:
        number, left = 0, 0
        while left == 0:  # until it came too late
            number += 1
            interrupt = _Interrupt(number)
            before = sys.getprofile()
            sys.setprofile(interrupt)
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    manager.snapshot()
            finally:
                sys.setprofile(before)
            assert Party(manager.snapshot).result().copies == (), number
            left = interrupt.left
        assert number > 20


def test_an_unload_that_would_wait_for_its_own_manager_is_told_so_at_once() -> None:
    said: list[BaseException] = []

    def unload(_instance: object) -> None:
        try:
            manager.lease("b", lambda: FakeModel(device, 3000))
        except UsageError as error:
            said.append(error)
            raise

    device = FakeDevice(8000)
    manager = ModelManager(
        device, costs={"a": 3000, "b": 3000}, unload=unload, wait_timeout_seconds=60
    )
    manager.lease("a", lambda: FakeModel(device, 3000)).release()
    manager.force_reset()
    manager.shutdown(timeout=20)
    assert len(said) == 1
    assert "unload" in str(said[0])
