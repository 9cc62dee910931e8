"""Ctrl-C at any line of an event: the manager stays sound, and the interrupt is raised after it."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, Self

import pytest

from modelmgr import Lease, ModelManager
from modelmgr.testing.fake_device import FakeDevice, FakeModel

HERE = ("/modelmgr/scheduling/",)


class _At:
    """Raises a signal at one line of those that are run in some files."""

    def __init__(self, line: int, number: int = signal.SIGINT) -> None:
        self.left = line
        self._number = number

    def __enter__(self) -> Self:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if any(part in frame.f_code.co_filename for part in HERE):
            return self._line
        return None

    def _line(self, _frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                signal.raise_signal(self._number)
        return self._line


def _manager() -> tuple[ModelManager, Callable[[str], Callable[[], FakeModel]]]:
    device = FakeDevice(8000)
    manager = ModelManager(
        device, costs={"a": 3000, "b": 3000, "c": 3000}, eviction_cooldown_seconds=0
    )

    def loader(_tag: str) -> Callable[[], FakeModel]:
        return lambda: FakeModel(device, 3000)

    return manager, loader


def _check(manager: ModelManager) -> None:
    """Hold the scheduler to its promises, between two events of whoever watches."""
    with manager._driver.gate.lock:
        manager._driver.scheduler.check_valid()


def _hit(manager: ModelManager, loader: Callable[[str], Callable[[], FakeModel]]) -> None:
    with manager.lease("a", loader("a")):
        pass


def _evict(manager: ModelManager, loader: Callable[[str], Callable[[], FakeModel]]) -> None:
    with manager.lease("c", loader("c")):
        pass


@pytest.fixture(autouse=True)
def as_python_does() -> Generator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, whoever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("what", "step"), [(_hit, 1), (_evict, 7)])
def test_an_interrupt_at_any_line_of_the_scheduler_leaves_a_sound_manager(
    what: Callable[[ModelManager, Callable[[str], Callable[[], FakeModel]]], None], step: int
) -> None:
    interrupted = 0
    line = 1
    while True:
        manager, loader = _manager()
        for tag in ("a", "b"):
            manager.lease(tag, loader(tag)).release()
        at = _At(line)
        try:
            with at:
                what(manager, loader)
        except KeyboardInterrupt:
            interrupted += 1
        _check(manager)
        for tag in ("a", "b", "c"):
            manager.lease(tag, loader(tag), timeout=20).release()
        manager.shutdown(timeout=20)
        if at.left > 0:
            break
        line += step
    assert interrupted > 0


def test_a_time_out_that_raises_is_put_off_as_well() -> None:
    class TooLateError(Exception):
        pass

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TooLateError

    manager, loader = _manager()
    manager.lease("a", loader("a")).release()
    before = signal.signal(signal.SIGALRM, late)
    try:
        with pytest.raises(TooLateError), _At(5, signal.SIGALRM):
            _hit(manager, loader)
        assert signal.getsignal(signal.SIGALRM) is late
    finally:
        signal.signal(signal.SIGALRM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    _check(manager)
    manager.shutdown(timeout=20)


def _interrupt_once(waits: Callable[[], object]) -> threading.Thread:
    """Return a thread that sends Ctrl-C to this process as soon as somebody waits."""

    def run() -> None:
        while not waits():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_who_waits_can_be_interrupted() -> None:
    manager, loader = _manager()
    held: list[Lease] = []
    holder = threading.Thread(
        target=lambda: held.extend(manager.lease(tag, loader(tag)) for tag in ("a", "b"))
    )
    holder.start()
    holder.join()
    thread = _interrupt_once(lambda: manager.snapshot().queue)
    with pytest.raises(KeyboardInterrupt):
        manager.lease("c", loader("c"))
    thread.join()
    assert manager.snapshot().queue == ()
    thread = _interrupt_once(lambda: manager._driver.gate.listeners)
    with pytest.raises(KeyboardInterrupt):
        manager.shutdown()
    thread.join()
    for lease in held:
        lease.release()
    manager.shutdown(timeout=20)
