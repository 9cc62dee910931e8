"""One loaded copy as the manager holds it: a started, watched, loaded worker, and its unload.

The manager's loader makes one of these in the thread that acquires; the manager calls ``close``
when it unloads the copy. Everything that one copy needs done at both ends is here and nowhere else:
track it on the device, watch its budget, measure how long its memory takes to come back.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import (
    DeviceError,
    OutOfMemoryError,
    WorkerDiedError,
    WorkerError,
)
from modelmgr.measuring.gauges import Gauge, LoadFigures
from modelmgr.measuring.watch import MemoryWatch
from modelmgr.units import NS_PER_S, format_bytes
from modelmgr.workers.launcher import Worker

_CLOSE_TIMEOUT_S = 10.0  # for a model's own close(), as long as others' clean ends may take
# Drivers free late: a second is generous (nvidia-smi shows it within 100 ms), and bounded.
_RECLAIM_TIMEOUT_NS = 5_000_000_000
_RECLAIM_POLL_S = 0.002
# What other processes of the device may move meanwhile without hiding that ours is gone.
_RECLAIM_TOLERANCE_BYTES = 4 * 1024**2


class WorkerCopy:
    """A loaded copy of a model.

    Attributes:
        worker: the process.
        figures: what its load took.
        reclaim_ns: from ``close``'s start until the process was gone and its memory back; None
            until then, and where the memory did not come back in time.
        residue_bytes: the device's use after that above the use before the load; None until then.
        note: what was wrong with its end, None until then and where nothing was.
        pid: the worker's process id, as the manager asks for it.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        gauge: Gauge,
        reader: MemoryReader,
        watch: MemoryWatch,
        budget_bytes: int,
        timeout_s: float | None,
    ) -> None:
        """Load a model into a worker that was just started; on failure the worker is gone.

        Raises:
            OutOfMemoryError: the worker grew beyond the budget and was killed.
            WorkerError: as the worker reported it.
        """
        self.worker = worker
        self.pid = worker.pid
        self.reclaim_ns: int | None = None
        self.residue_bytes: int | None = None
        self.note: str | None = None
        self._closed = threading.Event()
        self._ending = threading.Lock()
        self._reader = reader
        self._watch = watch
        self._budget_bytes = budget_bytes
        self._used_before = self._device_use()
        reader.track(worker.pid)
        watch.add(worker.pid)
        try:
            self.figures: LoadFigures = gauge.load(worker, timeout_s=timeout_s)
        except BaseException as error:
            self.kill()
            raise self.explained(error) from error

    def explained(self, error: BaseException) -> BaseException:
        """Return what really happened: a worker that the watch killed died of its appetite."""
        if isinstance(error, WorkerDiedError) and self._watch.was_beyond_budget(self.worker.pid):
            return OutOfMemoryError(
                f"the model grew beyond the budget of {format_bytes(self._budget_bytes)} and was "
                "killed; give it a larger --budget, or fewer and smaller shapes",
                pid=self.worker.pid,
                budget_bytes=self._budget_bytes,
            )
        return error

    @property
    def alive(self) -> bool:
        """Whether the process runs; the manager counts the copy's memory as free when not."""
        return self.worker.alive

    def kill(self) -> None:
        """End the worker at once and forget it; nothing is measured. A second call does nothing."""
        self.worker.kill()
        with self._ending:
            if not self._closed.is_set():
                with suppress(WorkerError):
                    self.worker.close()
                self._forget()

    def close(self) -> None:
        """Unload: end the process, wait until its memory is back, note how long both took."""
        with self._ending:
            if self._closed.is_set():
                return
            started_ns = time.monotonic_ns()
            try:
                ended_ns = self.worker.close(timeout_s=_CLOSE_TIMEOUT_S)
                self.residue_bytes = self._wait_for_memory(started_ns)
                if ended_ns >= _CLOSE_TIMEOUT_S * NS_PER_S:
                    # The time is the time-out's, and no figure of the model's.
                    self.reclaim_ns = None
                    self.note = "how long an unload takes is not known"
                if self.worker.close_problem is not None:
                    parts = (self.worker.close_problem, self.note)
                    self.note = ": ".join(part for part in parts if part is not None)
            finally:
                self._forget()

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until somebody has closed or killed this copy; return whether that happened."""
        return self._closed.wait(timeout_s)

    def _wait_for_memory(self, started_ns: int) -> int | None:
        """Return what stays behind; set ``reclaim_ns`` where the memory came back."""
        if self._used_before is None:
            return None
        while True:
            used = self._device_use()
            now_ns = time.monotonic_ns()
            if used is not None and used <= self._used_before + _RECLAIM_TOLERANCE_BYTES:
                self.reclaim_ns = now_ns - started_ns
                return max(0, used - self._used_before)
            if now_ns - started_ns > _RECLAIM_TIMEOUT_NS:
                return None if used is None else used - self._used_before
            time.sleep(_RECLAIM_POLL_S)

    def _forget(self) -> None:
        self._watch.remove(self.pid)
        self._reader.untrack(self.pid)
        self._closed.set()

    def _device_use(self) -> int | None:
        """Return the device's use that this copy is part of: ours on the host, else all of it."""
        try:
            reading = self._reader.read()
        except DeviceError:
            return None
        if self._reader.description.kind == "host" and reading.processes is not None:
            return sum(reading.processes.values())  # others only matter to what is available
        return reading.used_bytes
