"""The one door to the scheduler: a lock that puts off what comes from within.

A garbage collection or a signal handler can run any Python code at any moment, also in a thread
that is just inside. A lease that is released there (a generator that nobody consumed to its end)
must neither wait for its own thread for ever nor change the scheduler in the middle of an event: it
is put off until the thread inside leaves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Gate:
    """A re-entrant lock with a list of what to do when it is free.

    Attributes:
        changed: a condition over the lock, notified after every event.
    """

    def __init__(self) -> None:
        lock: Any = threading.RLock()
        self._lock = lock
        # As threading.Condition asks it.
        self._is_owned: Callable[[], bool] = lock._is_owned  # noqa: SLF001
        self.changed = threading.Condition(self._lock)
        self.due_sooner = threading.Condition(self._lock)
        self._depth = 0
        self._put_off: deque[Callable[[], None]] = deque()
        self._afterwards: deque[Callable[[], None]] = deque()

    @property
    def inside(self) -> bool:
        """Whether the calling thread is inside already."""
        return self._is_owned()

    def run(self, event: Callable[[], None]) -> None:
        """Run something inside, now or, when called from within, as soon as the door is free."""
        if self.inside:
            self._put_off.append(event)
            return
        with self:
            event()

    def afterwards(self, action: Callable[[], None]) -> None:
        """Run something outside once the thread that is inside has left."""
        self._afterwards.append(action)

    def __enter__(self) -> Self:
        self._lock.acquire()
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._depth == 1:
                while self._put_off:
                    self._put_off.popleft()()
        finally:
            self._depth -= 1
            left = self._depth == 0
            self._lock.release()
        if left:
            while self._afterwards:
                try:
                    action = self._afterwards.popleft()
                except IndexError:
                    break
                action()
            if self._put_off:
                self.run(_nothing)


def _nothing() -> None:
    """Only pass through the door, which does what was put off."""
