"""SIGINT, SIGTERM and SIGHUP while models are measured: stop cleanly, and at once when asked twice.

The first signal only notes that the run is to stop; the watching thread then kills the workers, so
whatever waits for one of them fails, the run sees why at its next step, and unwinds in order, with
no exception thrown into the middle of somebody's lock. Where nothing of ours is half done
(``interruptible``), the first signal raises at once. The second one raises KeyboardInterrupt
wherever the program is. Handlers are installed in the main thread only (Python allows no other),
and a signal that was ignored before (``nohup``) stays ignored. That no signal is missed, whatever
the main thread waits for, is ``interruption_relay``'s work.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from modelmgr.measuring.interruption_relay import SignalRelay

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(KeyboardInterrupt):
    """The run was asked to stop and unwinds."""


class StopSignals:
    """Catches the signals that end a run, within a ``with`` block.

    Args:
        thrown_from: which signal raises KeyboardInterrupt wherever the program is, 1 for the first.

    Attributes:
        count: how many came.
    """

    def __init__(self, *, thrown_from: int = 2) -> None:
        """Catch nothing yet."""
        self.count = 0
        self._thrown_from = thrown_from
        self._interruptible = False
        self._before: dict[signal.Signals, object] = {}
        self._relay: SignalRelay | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.count > 0

    def check(self, *, after: int = 0) -> None:
        """Raise StopRequested when more signals than ``after`` have come."""
        if self.count > after:
            raise StopRequested

    @contextmanager
    def interruptible(self, *, after: int = 0) -> Generator[None]:
        """Let the next signal raise StopRequested at once, within a ``with`` block.

        Args:
            after: signals that have come and do not count; more of them raise on entering.
        """
        self._interruptible = True
        try:
            self.check(after=after)  # not before: one that came between would be waited through
            yield
        finally:
            self._interruptible = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
            self._relay = SignalRelay(self._before)
            self._relay.start()
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
        if self._relay is not None:
            self._relay.stop()
            self._relay = None

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= self._thrown_from:
            raise KeyboardInterrupt
        if self._interruptible:
            # Once: a second one would come into the middle of what the first one lets go of.
            self._interruptible = False
            raise StopRequested
