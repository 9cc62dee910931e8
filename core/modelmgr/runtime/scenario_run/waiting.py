"""Real time for a run: since when it goes, and waits that somebody else may end or prolong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from modelmgr.errors import ModelmgrError
from modelmgr.units import NS_PER_S

# How long a death that nobody told of may go unnoticed in a wait.
_LOOK_S = 0.05


class RunStoppedError(ModelmgrError):
    """The run was stopped: what was waiting or at work ends here."""


class RunClock:
    """Monotonic time since the start of the scenario.

    Attributes:
        origin_ns: when that was, as ``time.monotonic_ns`` counts.
        stopping: the run was stopped: nothing new begins.
    """

    def __init__(self) -> None:
        self.origin_ns = time.monotonic_ns()
        self.stopping = False

    def start(self) -> None:
        """Let the scenario begin now."""
        self.origin_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """Return nanoseconds since the start."""
        return time.monotonic_ns() - self.origin_ns


class Waiting:
    """One thread's wait until a time of ``time.monotonic_ns``.

    Another thread may end it with an error or make it longer.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._later_ns = 0
        self._error: Exception | None = None

    def interrupt(self, error: Exception) -> None:
        """End this wait, and every later one, with an error; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def prolong(self, longer_ns: int) -> None:
        """Make the wait longer, or the next one where nobody waits yet."""
        with self._changed:
            self._later_ns += longer_ns
            self._changed.notify_all()

    @property
    def interrupted(self) -> bool:
        """Whether somebody ended it."""
        return self._error is not None

    def check(self) -> None:
        """Raise what the wait was ended with, if it was."""
        if self._error is not None:
            raise self._error

    def until(self, due_ns: int, alive: Callable[[], bool] | None = None) -> int:
        """Wait; return early where ``alive`` says that there is nothing to wait for any more.

        Returns:
            By how many nanoseconds it is too late; negative where it returns early.

        Raises:
            Exception: what somebody ended it with.
        """
        with self._changed:
            while True:
                self.check()
                left_ns = due_ns + self._later_ns - time.monotonic_ns()
                if left_ns <= 0 or (alive is not None and not alive()):
                    return -left_ns
                left_s = left_ns / NS_PER_S
                self._changed.wait(left_s if alive is None else min(left_s, _LOOK_S))
