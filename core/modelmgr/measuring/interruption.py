"""SIGINT, SIGTERM and SIGHUP while models are measured: stop cleanly, and at once when asked twice.

The first signal only notes that the run is to stop; the watching thread then kills the workers, so
whatever waits for one of them fails, the run sees why at its next step, and unwinds in order, with
no exception thrown into the middle of somebody's lock. Where nothing of ours is half done
(``interruptible``), the first signal raises at once. The second one raises KeyboardInterrupt
wherever the program is. Handlers are installed in the main thread only (Python allows no other),
and a signal that was ignored before (``nohup``) stays ignored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(KeyboardInterrupt):
    """The run was asked to stop and unwinds."""


class StopSignals:
    """Catches the signals that end a run, within a ``with`` block.

    Attributes:
        requested: the first signal has come.
    """

    def __init__(self) -> None:
        """Catch nothing yet."""
        self.requested = False
        self._interruptible = False
        self._before: dict[signal.Signals, object] = {}

    def check(self) -> None:
        """Raise StopRequested when a signal has come."""
        if self.requested:
            raise StopRequested

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """Let the first signal raise StopRequested at once, within a ``with`` block."""
        self.check()
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not installed from Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]  # what signal() gave, it takes
        self._before.clear()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._interruptible:
            raise StopRequested
