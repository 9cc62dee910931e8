"""The one door to the scheduler: a lock that puts off what comes from within.

A garbage collection or a signal handler can run any Python code at any moment, also in a thread
that is just inside. A lease that is released there (a generator that nobody consumed to its end)
must neither wait for its own thread for ever nor change the scheduler in the middle of an event: it
is put off until the thread inside has left. What a handler raises is put off as well: it would end
an event half-way.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from modelmgr.ownership import Owner
from modelmgr.runtime.forked import ParentsLock
from modelmgr.runtime.put_off import PUT_OFF

_LONGEST_INSIDE_S = 0.1
_begin: Final = PUT_OFF.begin
_end: Final = PUT_OFF.end


class Bell:
    """Wakes one waiting thread; rung by whoever is inside.

    It is a bare lock, which a ring frees: an interrupt leaves it as it was, while a
    ``threading.Event`` can be left with its own lock taken, and would stop the next who rings.
    """

    __slots__ = ("_silence",)

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Let the waiting thread go on, or not begin to wait. Inside only: one at a time."""
        if self._silence.locked():
            self._silence.release()

    def wait(self, timeout_s: float | None) -> None:
        """Wait for a ring, at most so long. Outside, by one thread alone."""
        longest_s = threading.TIMEOUT_MAX
        self._silence.acquire(timeout=-1 if timeout_s is None else min(timeout_s, longest_s))


class _Settled:
    """Puts interrupts off for a block, and settles a gate at its end."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        _begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._gate.left:
                self._gate.settle()
        finally:
            _end()


class Gate:
    """A re-entrant lock with a list of what to do when it is free.

    Go in by ``with gate.settled, gate.lock:``, and wait for nothing in there: the main thread
    cannot be interrupted meanwhile.

    Attributes:
        lock: the lock itself.
        settled: puts interrupts off for its ``with`` block, and calls ``settle`` at its end.
        inside: says whether the calling thread is inside already.
        foreign: this is a forked child, and the gate its parent's.
        left: what is to be done once the thread inside has left: what was put off, as a function
            and True where it has to be done inside.
        listeners: rung after every event; changed inside alone.
        due_sooner: a condition over the lock, notified when something may be due sooner.
    """

    def __init__(self) -> None:
        lock: Any = threading.RLock()
        self.lock: Any = lock
        # As threading.Condition asks it.
        self.inside: Callable[[], bool] = lock._is_owned  # noqa: SLF001
        self.listeners: list[Bell] = []
        self.due_sooner = threading.Condition(lock)
        self.settled = _Settled(self)
        self.foreign = False
        self._owner = Owner()
        self.left: deque[tuple[Callable[[], None], bool]] = deque()

    def leave_to_parent(self) -> None:
        """Let nobody in any more; called in a forked child."""
        self.foreign = True
        self.lock = ParentsLock(self._owner)
        self.inside = bool  # which is False
        self.left.clear()

    def abandoned(self) -> bool:
        """Say whether the interpreter ends and a thread, which runs no more, was left inside."""
        if not sys.is_finalizing():
            return False
        if self.lock.acquire(timeout=_LONGEST_INSIDE_S):
            self.lock.release()
            return False
        return True

    def run(self, event: Callable[[], None]) -> None:
        """Run something inside, now or, when called from within, as soon as the door is free."""
        if self.inside():
            self.left.append((event, True))
            return
        with self.settled, self.lock:
            event()

    def afterwards(self, action: Callable[[], None]) -> None:
        """Run something outside once the thread that is inside has left."""
        self.left.append((action, False))

    def settle(self) -> None:
        """Do what has to be done once this thread has left; nothing where it is still inside.

        A thread that waits for a condition of this lock is not inside meanwhile: whoever comes and
        goes then does not leave its things to it.
        """
        while self.left and not self.inside():
            try:
                action, within = self.left.popleft()
            except IndexError:  # another thread was faster
                return
            if within:
                with self.lock:
                    action()
            else:
                action()
