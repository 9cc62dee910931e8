"""An observer in front of the caller's: one thread at a time, and its failures stay its own.

Live memory is told by the watching thread, everything else by the measuring one; a caller's
observer need not know.
"""

from __future__ import annotations

import threading

from modelmgr.errors import ModelmgrError
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.records.costs import ModelCost


class SerialObserver:
    """Passes every event on under a lock."""

    def __init__(self, observer: ProfileObserver) -> None:
        """Take the caller's observer."""
        self._observer = observer
        self._lock = threading.RLock()

    def run_started(self, tags: tuple[str, ...], *, device: str, limit_bytes: int) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.run_started(tags, device=device, limit_bytes=limit_bytes)

    def model_started(self, tag: str, *, steps: int) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.model_started(tag, steps=steps)

    def step_started(self, tag: str, step: str) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.step_started(tag, step)

    def memory_read(self, used_bytes: int, limit_bytes: int) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.memory_read(used_bytes, limit_bytes)

    def model_failed(self, tag: str, error: ModelmgrError) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.model_failed(tag, error)

    def model_finished(self, tag: str, cost: ModelCost) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.model_finished(tag, cost)

    def noticed(self, message: str) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.noticed(message)
