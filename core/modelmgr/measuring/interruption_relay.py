"""Sees to it that the main thread handles a signal, whichever thread the kernel gave it to.

Python runs signal handlers in the main thread only. A signal that another thread got, or one that
came just before the main thread began to wait, ends none of its waits: it is handled when the wait
is over, which may be never. The interpreter writes the number of every signal to a pipe, whichever
thread it comes in; a thread of ours waits for that and then sends the main thread a signal of its
own, which ends the wait for a moment, again and again until it is answered from Python.

It decides nothing about the signals: their handlers do. That signal is SIGURG, which is ignored by
default and no library's own: for these reasons Go wakes its threads with it (its runtime's
signal_unix.go).
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Collection
from contextlib import suppress
from types import FrameType

_NUDGE = signal.SIGURG
_END = 0  # no signal has this number
_ANSWER = 128  # and those above: no signal has them either
_SERIALS = 128
_BYTES = 4096
_FIRST_PATIENCE_MS, _LONGEST_PATIENCE_MS = 10, 1000


class SignalRelay:
    """The relay, from ``start`` to ``stop``; both in the main thread.

    Args:
        numbers: the signals; their handlers are the caller's.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = frozenset(numbers)
        self._serial = 0
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._main = threading.main_thread().ident or 0
        self._handler_before: object = None
        self._pipe_before = -1
        self._thread = threading.Thread(target=self._run, name="modelmgr-signals", daemon=True)

    def start(self) -> None:
        """Relay from now on."""
        self._handler_before = signal.signal(_NUDGE, self._answer)
        self._pipe_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread.start()

    def stop(self) -> None:
        """Relay no longer; what came until now was seen to."""
        signal.set_wakeup_fd(self._pipe_before)
        os.write(self._write, bytes([_END]))
        self._thread.join()
        # None: a handler that was not installed from Python cannot be put back.
        before = signal.SIG_DFL if self._handler_before is None else self._handler_before
        signal.signal(_NUDGE, before)  # type: ignore[arg-type]  # what signal() gave, it takes
        os.close(self._read)
        os.close(self._write)

    def _answer(self, _number: int, _frame: FrameType | None) -> None:
        """Say that the main thread is awake: it has handled what came before the nudge."""
        serial = self._serial
        # A signal that came after its turn in this round of handlers is handled at this call.
        _let_handlers_run()
        with suppress(BlockingIOError):  # full of signals: the relay asks once more
            os.write(self._write, bytes([_ANSWER + serial]))

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        unanswered = False
        patience_ms = _FIRST_PATIENCE_MS
        while True:
            poll.poll(patience_ms if unanswered else None)
            try:
                said = os.read(self._read, _BYTES)
            except BlockingIOError:
                said = b""
                patience_ms = min(2 * patience_ms, _LONGEST_PATIENCE_MS)
            if self._pipe_before >= 0:
                with suppress(OSError):  # full, or closed: its owner's affair
                    os.write(self._pipe_before, bytes(n for n in said if _END < n < _ANSWER))
            if _END in said:
                return
            if _ANSWER + self._serial in said:
                unanswered = False
            if not self._numbers.isdisjoint(said):
                self._serial = (self._serial + 1) % _SERIALS
                unanswered, patience_ms = True, _FIRST_PATIENCE_MS
            if unanswered:
                with suppress(ProcessLookupError):
                    signal.pthread_kill(self._main, _NUDGE)


def _let_handlers_run() -> None:
    """Do nothing: the interpreter looks for signals when a function is called."""
