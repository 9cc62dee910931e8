"""How many threads of a client may ask at the same time, kept safe from interrupts."""

from __future__ import annotations

import queue
import weakref

from modelmgr.errors import AcquireTimeoutError


class Permit:
    """The right to use a connection; one that is lost on its way back is replaced."""

    def __init__(self, home: queue.SimpleQueue[Permit]) -> None:
        self._home = weakref.ref(home)  # or home and permits would keep each other for ever

    def __del__(self) -> None:
        home = self._home()
        if home is not None:
            home.put(Permit(home))


class Permits:
    """So many permits. Unlike a semaphore's, they survive an interrupt between any two steps.

    Attributes:
        give_back: takes a permit back, in one step that is no Python.
    """

    def __init__(self, count: int) -> None:
        self._home: queue.SimpleQueue[Permit] = queue.SimpleQueue()
        self.give_back = self._home.put
        for _ in range(count):
            self._home.put(Permit(self._home))

    def take(self, timeout_s: float | None) -> Permit:
        """Return a permit; AcquireTimeoutError where none came in time, None waits for ever."""
        try:
            return self._home.get(timeout=timeout_s)
        except queue.Empty:
            raise AcquireTimeoutError(
                "Timeout waiting to acquire model: all of this process's connections to the server "
                "are waiting already"
            ) from None
