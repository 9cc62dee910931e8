"""Notices that clients are gone: one thread, one epoll, woken by the kernel alone.

A connection's end tells of a client that closed or died; a process descriptor tells of one that was
killed while a descendant of it keeps the connection open.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

_LOG = logging.getLogger("modelmgr")


class HolderWatch:
    """Calls back, once each, when descriptors tell that somebody is gone. Thread-safe.

    Call ``unwatch`` before closing a descriptor.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[int, Callable[[], None]]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="modelmgr-holders", daemon=True)
        self._thread.start()

    def watch_connection(self, descriptor: int, gone: Callable[[], None]) -> None:
        """Call ``gone`` when the other end of a socket is closed."""
        self._watch(descriptor, select.EPOLLRDHUP, gone)

    def watch_process(self, pidfd: int, gone: Callable[[], None]) -> None:
        """Call ``gone`` when a process has ended."""
        self._watch(pidfd, select.EPOLLIN, gone)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; harmless where it is not watched."""
        with self._lock:
            if self._watched.pop(descriptor, None) is not None and not self._epoll.closed:
                self._epoll.unregister(descriptor)

    def stop(self) -> None:
        """End the thread; what is still watched is forgotten. A second call does nothing."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._wake)

    def _watch(self, descriptor: int, event: int, gone: Callable[[], None]) -> None:
        with self._lock:
            if self._stopping:
                return
            self._watched[descriptor] = (event, gone)
            self._epoll.register(descriptor, event)

    def _run(self) -> None:
        while not self._stopping:
            for descriptor, _ in self._epoll.poll():
                if descriptor != self._wake:
                    self._tell(descriptor)

    def _tell(self, descriptor: int) -> None:
        with self._lock:
            event, gone = self._watched.get(descriptor, (0, None))
            # The number may be another descriptor's by now: only what is true now counts.
            if gone is None or not _holds(descriptor, event):
                return
            del self._watched[descriptor]
            self._epoll.unregister(descriptor)
        try:
            gone()
        except Exception:  # noqa: BLE001 - one client's end must not hide another's
            _LOG.exception("clearing up after a client failed")


def _holds(descriptor: int, event: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(0))
