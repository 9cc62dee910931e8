"""Watches the workers while the run waits for them: the budget, live memory, foreign load.

One thread. Every 20 ms it reads each worker's resident bytes (3 µs a read) and kills one that is
beyond the budget; the soft RLIMIT_DATA in the worker comes first where it can, this is for what it
does not see (mapped files, a limit that the model's code raises). Every 200 ms it reads the device,
tells the observer, and notes what others use. It decides nothing else and measures no figure. All
of it takes about half a percent of a core: as measured, 50 µs for a turn of the thread and 500 µs
for a report.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from modelmgr.devices.host_available import AvailableMemory, total_host_bytes
from modelmgr.devices.process_memory import ResidentSampler
from modelmgr.devices.reading import MemoryReader, MemoryReading
from modelmgr.errors import DeviceError, ReadingError
from modelmgr.measuring.foreign import (
    ForeignLoad,
    budget_threshold_bytes,
    foreign_device_bytes,
    foreign_machine_bytes,
    foreign_threshold_bytes,
)
from modelmgr.measuring.observer import ProfileObserver

_BUDGET_PERIOD_S = 0.02
_READS_PER_REPORT = 10


class _Watched:
    """One worker: its open ``statm`` and what it held when it was started."""

    __slots__ = ("sampler", "start_bytes")

    def __init__(self, pid: int) -> None:
        self.sampler = ResidentSampler(pid)
        self.start_bytes = self.sampler.anon_bytes()


class MemoryWatch:
    """The watching thread, within a ``with`` block."""

    def __init__(
        self,
        reader: MemoryReader,
        observer: ProfileObserver,
        *,
        budget_bytes: int,
        on_tick: Callable[[], None],
    ) -> None:
        """Watch the reader's device.

        Args:
            reader: of the device.
            observer: is told the device's use.
            budget_bytes: what one worker may hold at most.
            on_tick: called by the thread every 20 ms, for what must not be done elsewhere.
        """
        self._reader = reader
        self._observer = observer
        self._budget_bytes = budget_bytes
        self._on_tick = on_tick
        self._lock = threading.Lock()
        self._workers: dict[int, _Watched] = {}
        self._beyond_budget: set[int] = set()
        self._available = AvailableMemory()
        self._machine_bytes = total_host_bytes()
        self._foreign = ForeignLoad(
            foreign_threshold_bytes(reader.description, machine_bytes=self._machine_bytes)
        )
        # What others took of a host's budget: there it hurts long before the machine is full.
        self._intrusion = ForeignLoad(budget_threshold_bytes())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelmgr-watch", daemon=True)

    def add(self, pid: int) -> None:
        """Watch a worker that was just started, once; one that is gone already is not watched."""
        with suppress(ReadingError), self._lock:
            if pid not in self._workers:
                self._workers[pid] = _Watched(pid)

    def remove(self, pid: int) -> None:
        """Stop watching a worker; unknown ids are ignored."""
        with self._lock:
            watched = self._workers.pop(pid, None)
            if watched is not None:
                watched.sampler.close()

    def was_beyond_budget(self, pid: int) -> bool:
        """Tell whether a worker was killed because it held more than the budget."""
        with self._lock:
            return pid in self._beyond_budget

    def start_foreign(self) -> None:
        """Begin to note foreign load from here."""
        foreign, intruded = self._foreign_now(), self._intruded_now()
        with self._lock:
            self._foreign.start(foreign)
            self._intrusion.start(intruded)

    def foreign_moved_bytes(self) -> int | None:
        """Return what others took (or gave back, negative) since ``start_foreign``.

        None where that stayed below the threshold. To be asked while no worker of ours is running.
        """
        foreign, intruded = self._foreign_now(), self._intruded_now()
        with self._lock:
            self._foreign.observe(foreign, settled=True)
            self._intrusion.observe(intruded, settled=True)
            for load in (self._foreign, self._intrusion):
                if load.is_disturbed():
                    return load.moved_bytes
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for pid in list(self._workers):
            self.remove(pid)

    def _run(self) -> None:
        reads = 0
        while not self._stop.wait(_BUDGET_PERIOD_S):
            self._on_tick()
            self._enforce_budget()
            reads += 1
            if reads % _READS_PER_REPORT == 0:
                self._report()

    def _enforce_budget(self) -> None:
        if self._reader.description.kind != "host":
            return  # device memory is in the device's reading, below
        with self._lock:
            for pid, watched in self._workers.items():
                try:
                    resident_bytes = watched.sampler.resident_bytes()
                except ReadingError:
                    continue  # it is gone; whoever talks to it will say how
                if resident_bytes > self._budget_bytes:
                    self._kill(pid)

    def _report(self) -> None:
        try:
            reading = self._reader.read()
        except DeviceError:
            return  # unknown is not shown as a number; measurements fail by themselves
        if self._reader.description.kind != "host" and reading.processes is not None:
            with self._lock:
                for pid in self._workers:
                    if reading.processes.get(pid, 0) > self._budget_bytes:
                        self._kill(pid)
        foreign, intruded = self._foreign_now(reading), self._intruded_now(reading)
        with self._lock:
            self._foreign.observe(foreign)
            self._intrusion.observe(intruded)
        self._observer.memory_read(reading.used_bytes, reading.total_bytes)

    def _kill(self, pid: int) -> None:
        """Kill a worker; the caller holds the lock, so it is one of ours and not yet reaped."""
        if pid not in self._beyond_budget:
            self._beyond_budget.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _foreign_now(self, reading: MemoryReading | None = None) -> int | None:
        try:
            if self._reader.description.kind == "host":
                return foreign_machine_bytes(
                    total_bytes=self._machine_bytes,
                    available_bytes=self._available.read_bytes(),
                    our_growth_bytes=self._our_growth_bytes(),
                )
            if reading is None:
                reading = self._reader.read()
        except DeviceError:
            return None
        with self._lock:
            ours = tuple(self._workers)
        return foreign_device_bytes(reading, ours)

    def _intruded_now(self, reading: MemoryReading | None = None) -> int | None:
        """Return what others have of a host's budget; None on devices, whose use is all told."""
        if self._reader.description.kind != "host":
            return None
        try:
            reading = self._reader.read() if reading is None else reading
        except DeviceError:
            return None
        return reading.used_bytes - sum((reading.processes or {}).values())

    def _our_growth_bytes(self) -> int:
        grown = 0
        with self._lock:
            for watched in self._workers.values():
                with suppress(ReadingError):
                    grown += watched.sampler.anon_bytes() - watched.start_bytes
        return grown
