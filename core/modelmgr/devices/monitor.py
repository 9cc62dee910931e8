"""``GPUMonitor``: one device, read again and again by a thread, with the peak of the last seconds.

Owns the thread and what became of the last readings. It mirrors the surface of Apache Beam's
monitor (MB = MiB as float, converted here and nowhere else). A failed reading never changes a
figure: the last good one stands, and ``failing``, ``last_error`` and ``age_ns`` say so.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Literal, Self

from modelmgr.arguments import as_whole, check_positive
from modelmgr.devices.host import HostReader, default_host_budget_bytes, describe_host
from modelmgr.devices.nvml import NvmlReader, list_devices
from modelmgr.devices.reading import MemoryReader, MemoryReading
from modelmgr.devices.sliding_peak import SlidingPeak
from modelmgr.errors import ReadingError, UsageError
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import MIB, NS_PER_S

# A poll that has not ended after so many intervals (and a second) hangs in the driver.
_OVERDUE_INTERVALS = 10


class GPUMonitor:
    """Watches one device's memory.

    The device is ``reader``'s, or GPU number ``device`` (``CUDA_VISIBLE_DEVICES`` honoured), or,
    where there is no GPU, the host's memory: what this process grows by from now on, and workers
    that ``reader.track`` is told of, against a budget. ``fallback_memory_mb`` caps that budget,
    which is half of what is available; it is never passed off as the size of a GPU.

    The peak is ``sampled`` on a GPU: a rise and fall between two polls is not seen. On the host,
    with this process alone, the kernel's own peak between polls is used and it is ``exact`` (the
    process's VmHWM and ``ru_maxrss`` are restarted for it at each poll). ``peak_evidence`` says
    which. Thread-safe. Usable as a context manager.
    """

    def __init__(
        self,
        fallback_memory_mb: float = 16000.0,
        poll_interval: float = 0.5,
        peak_window_seconds: float = 30.0,
        *,
        device: int = 0,
        reader: MemoryReader | None = None,
    ) -> None:
        """Choose the device; nothing is read before ``start`` or ``refresh``.

        Args:
            fallback_memory_mb: most of the host's memory (MiB) to use where there is no GPU.
            poll_interval: seconds between readings.
            peak_window_seconds: how far back the peak looks, seconds.
            device: which of the visible GPUs and MIG instances, counted from 0.
            reader: what to read instead; the caller closes it.

        Raises:
            UsageError: a number makes no sense, or there is no such GPU.
            ReadingError: there is a driver, or a kernel, that does not tell.
        """
        check_positive("fallback_memory_mb", fallback_memory_mb)
        check_positive("poll_interval", poll_interval)
        check_positive("peak_window_seconds", peak_window_seconds)
        device = as_whole("device", device, least=0)
        self._poll_interval_s = poll_interval
        self._owned = reader is None
        self._reader = _choose(device, fallback_memory_mb) if reader is None else reader
        # Only a reader of our own: an exact peak restarts the kernel's, which others may rely on.
        self._exact = self._reader if self._owned and isinstance(self._reader, HostReader) else None
        self._window_ns = round(peak_window_seconds * NS_PER_S)
        self._peaks = SlidingPeak(self._window_ns)
        self._sampled_ns: int | None = None
        self._reading: MemoryReading | None = None
        self._last_error: str | None = None
        self._attempted_ns: int | None = None
        self._lock = threading.Lock()  # guards the figures; never held while reading
        self._poll_lock = threading.Lock()  # one reading at a time, so that times do not go back
        self._thread_lock = threading.Lock()  # guards the two below
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @classmethod
    def all(
        cls,
        fallback_memory_mb: float = 16000.0,
        poll_interval: float = 0.5,
        peak_window_seconds: float = 30.0,
    ) -> tuple[Self, ...]:
        """Return a monitor for each visible GPU and MIG instance, else one for the host."""
        count = max(1, len(list_devices()))
        return tuple(
            cls(fallback_memory_mb, poll_interval, peak_window_seconds, device=device)
            for device in range(count)
        )

    @property
    def description(self) -> DeviceDescription:
        """The device that is watched."""
        return self._reader.description

    @property
    def reader(self) -> MemoryReader:
        """What reads it; ``track`` a worker there so that the host counts it in."""
        return self._reader

    @property
    def last_error(self) -> str | None:
        """Why the latest reading failed; None where it was good or none was tried."""
        with self._lock:
            return self._last_error

    @property
    def failing(self) -> bool:
        """Whether the latest reading failed, or the one that is due does not come back."""
        with self._lock:
            if self._last_error is not None:
                return True
            attempted_ns = self._attempted_ns
        if attempted_ns is None or not self._is_running():
            return False
        patience_s = 1 + _OVERDUE_INTERVALS * self._poll_interval_s
        return time.monotonic_ns() - attempted_ns > patience_s * NS_PER_S

    @property
    def age_ns(self) -> int | None:
        """Nanoseconds since the last good reading began; None where there was none."""
        reading = self.reading()
        return None if reading is None else time.monotonic_ns() - reading.at_ns

    @property
    def peak_evidence(self) -> Literal["exact", "sampled"]:
        """How good the peak of the present window is."""
        with self._lock:
            sampled_ns = self._sampled_ns
        if self._exact is None:
            return "sampled"
        if sampled_ns is None or sampled_ns < time.monotonic_ns() - self._window_ns:
            return "exact"
        return "sampled"

    def reading(self) -> MemoryReading | None:
        """Return the last good reading; None where there was none."""
        with self._lock:
            return self._reading

    def get_stats(self) -> tuple[float, float, float]:
        """Return current use, its peak over the window, and the device's total, MiB.

        After a failed reading the last good figures stand; see ``failing``.

        Raises:
            ReadingError: no reading was ever good, so nothing is known (not even that it is 0).
        """
        with self._lock:
            reading = self._reading
            if reading is None:
                name = self._reader.description.name
                reason = self._last_error or "nothing was read yet; call start() or refresh()"
                raise ReadingError(f"device {name!r}: no memory reading: {reason}")
            peak_bytes = self._peaks.peak(time.monotonic_ns()) or 0
        current_bytes = reading.used_bytes
        peak_bytes = max(peak_bytes, current_bytes)
        return current_bytes / MIB, peak_bytes / MIB, reading.total_bytes / MIB

    def refresh(self) -> None:
        """Read the device now, in this thread.

        Raises:
            ReadingError: it failed; the last good figures stand and ``failing`` is set.
            DeviceLostError: the same, because the device or its driver is gone.
        """
        error = self._poll()
        if error is not None:
            raise error

    def reset_peak(self) -> None:
        """Let the peak start again from the current figure."""
        with self._poll_lock:
            if self._exact is not None:
                self._take_exact_peak(self._exact)
            with self._lock:
                self._peaks.clear()
                self._sampled_ns = None
                if self._reading is not None:
                    self._peaks.add(time.monotonic_ns(), self._reading.used_bytes)

    def start(self) -> None:
        """Read once and go on in a thread; harmless when it runs already.

        A failed reading does not raise here: ``failing`` says so, and the thread tries on.
        """
        with self._thread_lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._poll()
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="gpu-monitor", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; harmless when none runs. The figures stay."""
        with self._thread_lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def close(self) -> None:
        """Stop, and close the reader unless the caller gave it; a second call does nothing."""
        self.stop()
        if self._owned:
            self._reader.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _is_running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._poll_interval_s):
            self._poll()

    def _poll(self) -> Exception | None:
        """Read once; keep a good reading, or the reason of a failed one, and return that."""
        with self._poll_lock:
            began_ns = time.monotonic_ns()
            try:
                reading = self._reader.read()
                _check(reading)
                peak_bytes = None if self._exact is None else self._take_exact_peak(self._exact)
            except Exception as error:  # noqa: BLE001 - a reader is anybody's; its thread goes on
                with self._lock:
                    self._last_error = str(error) or type(error).__name__
                    self._attempted_ns = time.monotonic_ns()
                return error
            ours_bytes = sum((reading.processes or {}).values())
            foreign_bytes = reading.used_bytes - ours_bytes
            with self._lock:
                self._reading = reading
                self._last_error = None
                self._attempted_ns = time.monotonic_ns()
                if peak_bytes is None or foreign_bytes:
                    self._sampled_ns = began_ns
                highest_bytes = max(reading.used_bytes, (peak_bytes or 0) + foreign_bytes)
                self._peaks.add(began_ns, highest_bytes)
            return None

    @staticmethod
    def _take_exact_peak(reader: HostReader) -> int | None:
        try:
            return reader.take_peak_bytes()
        except ReadingError:
            return None


def _check(reading: MemoryReading) -> None:
    if reading.used_bytes < 0 or reading.total_bytes <= 0:
        raise ReadingError(
            f"a reading of {reading.used_bytes} of {reading.total_bytes} bytes makes no sense"
        )


def _choose(device: int, fallback_memory_mb: float) -> MemoryReader:
    devices = list_devices()
    if 0 <= device < len(devices):
        return NvmlReader(devices[device])
    if devices or device != 0:
        known = ", ".join(found.name for found in devices) or "no GPU, so only 0 (the host)"
        raise UsageError(f"there is no device number {device}; there is: {known}")
    budget_bytes = min(default_host_budget_bytes(), round(fallback_memory_mb * MIB))
    reader = HostReader(describe_host(budget_bytes))
    reader.track(os.getpid())
    reader.take_peak_bytes()  # begins the first interval that has an exact peak
    return reader
