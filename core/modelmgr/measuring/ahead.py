"""A worker that gets ready for its load while the model is still being guessed.

A load needs its code imported and rehearsed, a guess runs elsewhere and on one core: neither is
measured, so they may go on at the same time. What is measured begins when both are over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from modelmgr.errors import ModelmgrError, WorkerError
from modelmgr.workers.launcher import Worker


class WorkerAhead:
    """One worker, started and prepared by a thread of its own."""

    def __init__(self, start: Callable[[], Worker], *, timeout_s: float | None) -> None:
        """Begin.

        Args:
            start: starts the worker.
            timeout_s: the longest that preparing may take, None is no limit.
        """
        self._start = start
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._error: BaseException | None = None
        self._unwanted = False
        self._thread = threading.Thread(target=self._run, name="modelmgr-ahead", daemon=True)
        self._thread.start()

    def take(self) -> Worker | None:
        """Wait until it is ready and hand it over, to be closed by the caller; None a second time.

        Raises:
            ModelmgrError: it could not be started, or ended while it prepared.
        """
        self._thread.join()
        worker, self._worker = self._worker, None
        error, self._error = self._error, None
        if error is None:
            return worker
        if worker is not None:
            with suppress(WorkerError):
                worker.close()
        raise error

    def close(self) -> None:
        """End the worker where nobody took it. A second call does nothing."""
        with self._lock:
            self._unwanted = True
            if self._worker is not None:
                self._worker.kill()
        self._thread.join()
        self._error = None
        worker, self._worker = self._worker, None
        if worker is not None:
            with suppress(WorkerError):
                worker.close()

    def _run(self) -> None:
        try:
            worker = self._start()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that can raise it
            self._error = error
            return
        with self._lock:
            self._worker = worker
            if self._unwanted:
                worker.kill()
        try:
            worker.prepare(timeout_s=self._timeout_s)
        except ModelmgrError as error:
            # What the model's code raised, its load will raise as well and be told as that.
            if not worker.alive:
                self._error = error
