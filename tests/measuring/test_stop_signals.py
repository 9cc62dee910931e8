"""Signals that end a run: none is missed, whichever thread the kernel gives it to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from modelmgr.measuring.interruption import StopRequested, StopSignals

PATIENCE_S = 60.0

# The main thread waits for what never comes; a signal is taken by another thread.
_PROGRAM = """
import signal, sys, threading
from modelmgr.measuring.interruption import StopRequested, StopSignals

def take(*numbers):
    for number in numbers:
        signal.pthread_kill(threading.get_ident(), number)

def elsewhere(*numbers):
    threading.Thread(target=take, args=numbers).start()

with StopSignals() as signals:
    try:
        {body}
    except StopRequested:
        print("asked to stop", signals.count)
    except KeyboardInterrupt:
        print("ended at once", signals.count)
"""


def _said(body: str) -> str:
    program = _PROGRAM.format(body=body.replace("\n", "\n        "))
    finished = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert finished.stderr == ""
    assert finished.returncode == 0
    return finished.stdout.strip()


def test_a_signal_that_another_thread_got_ends_a_wait() -> None:
    """It was noticed once the main thread's own wait had ended, which may be never."""
    said = _said(
        "with signals.interruptible():\n    elsewhere(signal.SIGINT)\n    threading.Event().wait()"
    )
    assert said == "asked to stop 1"


def test_a_signal_that_another_thread_got_is_noted_while_the_main_thread_waits() -> None:
    said = _said(
        "def look():\n"
        "    while not signals.requested:\n"
        "        pass\n"
        "    noted.set()\n"
        "noted = threading.Event()\n"
        "threading.Thread(target=look).start()\n"
        "elsewhere(signal.SIGTERM)\n"
        "noted.wait()\n"
        "signals.check()"
    )
    assert said == "asked to stop 1"


def test_a_second_signal_that_another_thread_got_ends_what_cannot_be_interrupted() -> None:
    said = _said(
        "elsewhere(signal.SIGHUP)\n"
        "while not signals.requested:\n"
        "    pass\n"
        "elsewhere(signal.SIGINT)\n"
        "threading.Event().wait()"
    )
    assert said == "ended at once 2"


def test_a_signal_that_came_before_the_wait_is_not_waited_through() -> None:
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopRequested), signals.interruptible():
            pytest.fail("the block was entered")
        with signals.interruptible(after=1):
            pass
        with pytest.raises(StopRequested):
            signals.check()


def test_a_second_signal_does_not_come_into_what_the_first_one_lets_go_of() -> None:
    """Thrown into the end of a wait it left a lock untaken that its owner then freed."""

    def wait() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)

    with StopSignals(thrown_from=3) as signals:
        with pytest.raises(StopRequested) as caught, signals.interruptible():
            wait()
        assert signals.count == 2
        assert caught.value.__context__ is None


def test_signals_are_thrown_from_the_one_that_was_chosen() -> None:
    with StopSignals(thrown_from=3) as signals:
        for count in (1, 2):
            signal.raise_signal(signal.SIGINT)
            assert signals.count == count
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def _state() -> tuple[object, ...]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)
    return (*map(signal.getsignal, numbers), len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - a count


def test_everything_is_as_before_afterwards() -> None:
    before, threads = _state(), threading.active_count()
    for _ in range(3):
        with StopSignals():
            assert _state() != before
    assert _state() == before
    assert threading.active_count() == threads


def test_what_else_wakes_by_signals_goes_on_doing_so() -> None:
    """An event loop's wake-up descriptor gets the numbers that it would have got."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(write)
    try:
        with StopSignals():
            signal.raise_signal(signal.SIGTERM)
        assert signal.set_wakeup_fd(write) == write
        assert signal.SIGTERM in os.read(read, 64)
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


def _in_a_thread(action: Callable[[], None]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_another_thread_changes_nothing() -> None:
    before = _state()
    found: list[object] = []

    def use() -> None:
        with StopSignals() as signals:
            found.append((_state(), signals.requested))

    _in_a_thread(use)
    assert found == [(before, False)]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
