"""The one thread of a launcher: starts processes, notices their ends, drains what they print.

It is also the thread that the kernel ties the children to (see ``process_control``), so it lives
until the launcher is closed; starting them from a caller's thread would end them with that thread.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Readable(Protocol):
    """Something with a file descriptor."""

    def fileno(self) -> int:
        """Return it."""
        ...


class Watcher:
    """Runs calls and reacts to descriptors in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._woken, selectors.EVENT_READ, self._run_calls)
        self._calls: collections.deque[tuple[Future[Any], Callable[[], Any]]] = collections.deque()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Run a function in the watcher's thread; return what it returns, raise what it raises.

        Raises:
            RuntimeError: the watcher was stopped.
        """
        if threading.current_thread() is self._thread:
            return function()
        future: Future[_Result] = Future()
        with self._lock:
            if self._stopped:
                raise RuntimeError("the watcher was stopped")
            self._calls.append((future, function))
            with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
                os.write(self._wake, b"\0")
        return future.result()

    def add(self, source: Readable | int, react: Callable[[], None]) -> None:
        """Call ``react`` whenever the source can be read. In the watcher's thread only."""
        self._selector.register(source, selectors.EVENT_READ, react)

    def remove(self, source: Readable | int) -> None:
        """Stop watching; unknown sources are ignored. In the watcher's thread only."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def stop(self) -> None:
        """End the thread; a second call does nothing."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b"\0")
        self._thread.join()
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                react: Callable[[], None] = key.data
                try:
                    react()
                except Exception:  # noqa: BLE001 - one process's trouble must not hide the others
                    _LOG.exception("watching worker processes: a reaction failed")
                    self.remove(key.fd)
            with self._lock:
                if self._stopped and not self._calls:
                    return

    def _run_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while True:
            with self._lock:
                if not self._calls:
                    return
                future, function = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                future.set_exception(error)
