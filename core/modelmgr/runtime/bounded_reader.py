"""A reader whose readings end in time, whatever the driver under it does.

A monitor or a driver can hang. Nobody who waits for a model may hang with it, and a reading that
does not come is a failed reading. So readings are taken in a daemon thread, and callers wait for
them only so long; while one hangs, further ones fail at once.
"""

from __future__ import annotations

import queue
import sys
import threading
import time

from modelmgr.devices.reading import MemoryReader, MemoryReading
from modelmgr.errors import DeviceError, ReadingError
from modelmgr.records.devices import DeviceDescription

PATIENCE_S = 1.0
# The thread ends when nobody has asked for so long; the next reading starts another.
_IDLE_S = 5.0


class _Ask:
    """One reading that somebody waits for."""

    __slots__ = ("abandoned", "answer", "began_s", "done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: MemoryReading | None = None
        self.error: DeviceError | None = None
        self.abandoned = False
        self.began_s: float | None = None


class BoundedReader:
    """Takes another reader's readings in a thread of its own. Everything else is the other's."""

    def __init__(self, reader: MemoryReader) -> None:
        self._reader = reader
        self._asks: queue.SimpleQueue[_Ask] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # The reading under way, once its caller has given it up.
        self._hanging: _Ask | None = None

    @property
    def description(self) -> DeviceDescription:
        """The device that is read."""
        return self._reader.description

    @property
    def polls_itself(self) -> bool:
        """Whether its figures may be older than they say: see ``MonitorReader``."""
        return bool(getattr(self._reader, "polls_itself", False))

    def read(self, within_s: float = PATIENCE_S) -> MemoryReading:
        """Return a reading that was begun after the call.

        Raises:
            ReadingError: it failed, or did not end within ``within_s`` seconds.
            DeviceLostError: the device is gone.
        """
        hanging = self._hanging
        if hanging is not None and hanging.began_s is not None:
            raise ReadingError(
                f"the last reading of {self.description.name} has not ended for "
                f"{time.monotonic() - hanging.began_s:.1f} s"
            )
        if sys.is_finalizing():  # the thread that would take it runs no more
            raise ReadingError(
                f"{self.description.name} is not read any more: the interpreter is ending"
            )
        ask = _Ask()
        with self._lock:
            self._asks.put(ask)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="modelmgr-reading", daemon=True
                )
                self._thread.start()
        if not ask.done.wait(within_s) and not self._give_up(ask):
            raise ReadingError(
                f"reading {self.description.name} did not end within {within_s:.3g} s"
            )
        if ask.error is not None:
            raise ask.error
        if ask.answer is None:
            raise ReadingError(f"reading {self.description.name} gave no answer")
        return ask.answer

    def _give_up(self, ask: _Ask) -> bool:
        """Wait no longer for an answer; True where it has just come.

        One that the thread has not begun yet hangs nowhere: the thread passes over it.
        """
        with self._lock:
            if ask.done.is_set():
                return True
            ask.abandoned = True
            if ask.began_s is not None:
                self._hanging = ask
            return False

    def track(self, pid: int) -> None:
        """Count a worker process of ours in."""
        self._reader.track(pid)

    def untrack(self, pid: int) -> None:
        """Forget a worker process."""
        self._reader.untrack(pid)

    def close(self) -> None:
        """Close the reader itself."""
        self._reader.close()

    def _serve(self) -> None:
        while True:
            try:
                ask = self._asks.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._asks.empty():
                        self._thread = None
                        return
                continue
            with self._lock:
                if ask.abandoned:
                    continue
                ask.began_s = time.monotonic()
            try:
                ask.answer = self._reader.read()
            except DeviceError as error:
                ask.error = error
            except BaseException as error:  # noqa: BLE001 - a foreign monitor may raise anything
                ask.error = ReadingError(f"reading failed: {type(error).__name__}: {error}")
            with self._lock:
                self._hanging = None
                ask.done.set()
