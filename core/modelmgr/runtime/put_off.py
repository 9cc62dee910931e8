"""Puts off what a signal handler would raise until an event is over.

Python runs signal handlers in the main thread, between any two instructions there. What one raises
(``KeyboardInterrupt``; an exception of a program's own for a time-out) would leave the scheduler
with half an event, for every other thread and for ever. So while the main thread is inside, what
handles a signal is replaced by a function that notes it; afterwards it is told, and may raise.

``signal.signal`` turns numbers into enumerations at ten times the cost of the two system calls that
it comes to; every hit and every release pays for it. So its C function is called.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from types import FrameType
from typing import Any, Final

_signal: Any = importlib.import_module("_signal")
_handle: Final = _signal.signal
_handler_of: Final = _signal.getsignal
_thread_ident: Final = threading.get_ident
# What programs let raise: Ctrl-C, a time-out, an orderly end.
_NUMBERS: Final = tuple(
    int(getattr(signal, name)) for name in ("SIGINT", "SIGALRM", "SIGTERM") if hasattr(signal, name)
)


class PutOff:
    """Notes signals instead of handling them, between ``begin`` and ``end`` in the main thread.

    Both do nothing in any other thread, where no handler ever runs. Pairs may be nested.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._depth = 0
        self._found: list[tuple[int, Any]] = []
        self._late: list[tuple[int, FrameType | None]] = []

    def begin(self) -> None:
        """Note signals from now on. What is raised in here was raised before anything began."""
        if _thread_ident() != self._main:
            return
        if self._depth:
            self._depth += 1
            return
        found: list[tuple[int, Any]] = []
        try:
            for number in _NUMBERS:
                handler = _handler_of(number)
                if callable(handler):
                    found.append((number, handler))
                    _handle(number, self._note)
        except ValueError:  # an interpreter within an interpreter: no handler ever runs in it
            found.clear()
        except BaseException:
            self._restore(found)
            raise
        self._found = found
        self._depth = 1

    def end(self) -> None:
        """Handle signals as before, and those that came meanwhile."""
        if _thread_ident() != self._main:
            return
        if self._depth != 1:
            self._depth -= 1
            return
        found = self._found
        self._found = []
        self._depth = 0
        self._restore(found)
        while self._late:
            number, frame = self._late.pop(0)
            for other, handler in found:
                if other == number:
                    handler(number, frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._late.append((number, frame))

    @staticmethod
    def _restore(found: list[tuple[int, Any]]) -> None:
        try:
            for number, handler in found:
                _handle(number, handler)
        except BaseException:  # what was restored first was raised while the rest was not yet
            for number, handler in found:
                _handle(number, handler)
            raise

    def in_child(self) -> None:
        """Begin anew in a forked child, whose main thread is the one that forked."""
        self._main = threading.main_thread().ident
        self._depth = 0
        self._found = []
        self._late = []


PUT_OFF: Final = PutOff()
os.register_at_fork(after_in_child=PUT_OFF.in_child)
