"""Threads that a test can follow: what they return or raise comes back to the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")
PATIENCE_S = 100.0


class Party(Generic[_T]):
    """Runs one function in a thread of its own."""

    def __init__(self, action: Callable[[], _T]) -> None:
        self._action = action
        self._result: list[_T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._action())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> _T:
        """Return what the function returned; raise what it raised."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the thread did not end"
        if self._error is not None:
            raise self._error
        return self._result[0]


def wait_for(event: threading.Event) -> None:
    """Wait for an event that must come."""
    assert event.wait(PATIENCE_S), "the event did not come"


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait, by looking again and again, for something that gives no event."""
    pause = threading.Event()
    for _ in range(round(PATIENCE_S / 0.005)):
        if holds():
            return
        pause.wait(0.005)
    raise AssertionError(f"it never came true: {what}")
