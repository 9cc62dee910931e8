"""Reads the host's memory as a device: our worker processes against a budget.

Owns which processes are ours and the sum over them; ``process_memory`` reads each one and
``host_available`` the machine. It starts and ends no process.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from modelmgr.devices.host_available import AvailableMemory
from modelmgr.devices.process_memory import ProcessStatus, process_start_ticks, reset_peak
from modelmgr.devices.process_tree import read_descendants
from modelmgr.devices.reading import MemoryReading
from modelmgr.errors import ReadingError, UsageError
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import format_bytes

_DEFAULT_SHARE = 2  # of what is available, one half: the rest is for everybody else


def default_host_budget_bytes() -> int:
    """Return half of what the host could give now, cgroup limits respected, bytes.

    Raises:
        ReadingError: the kernel does not tell.
    """
    return AvailableMemory().read_bytes() // _DEFAULT_SHARE


def describe_host(budget_bytes: int | None = None, *, slack: float = 0.1) -> DeviceDescription:
    """Return the host as a device; the budget is half of what is available where none is given.

    Raises:
        UsageError: the budget is not positive.
        ReadingError: there is no budget and the kernel does not tell what is available.
    """
    if budget_bytes is not None and budget_bytes <= 0:
        raise UsageError(f"a budget of {format_bytes(budget_bytes)} holds no model; give a size")
    total_bytes = default_host_budget_bytes() if budget_bytes is None else budget_bytes
    return DeviceDescription(name="host", kind="host", total_bytes=total_bytes, slack=slack)


@dataclass(slots=True)
class _Tracked:
    """One process of ours; ``status`` is None once it was seen to be gone."""

    start_ticks: int | None
    status: ProcessStatus | None
    baseline_bytes: int = 0
    peak_started: bool = False


class HostReader:
    """Sums the host memory of tracked processes and counts what others took of the budget.

    A process counts with its anonymous pages, shared memory and touched file pages. Pages that
    several processes share (libraries, weights mapped from one file, what a fork has not written
    to) count once for each, so the sum is an upper figure; ``unshared_file_bytes`` tells what a
    further copy really adds. What a tracked process started counts as its own. The process that
    reads (loaders that run in it) counts by what it grew since it was tracked. ``used_bytes``
    may be beyond ``total_bytes``: the processes are over their budget then, and the reading is
    as good as any.

    What others take is invisible until it eats into the budget: ``foreign = max(0, budget -
    (available now + what ours would free))``. Our own file pages are not added there because the
    kernel already counts them as available.
    """

    def __init__(
        self,
        description: DeviceDescription | None = None,
        *,
        available: AvailableMemory | None = None,
    ) -> None:
        """Read against ``description``'s budget, or the default one, on this machine."""
        self._description = describe_host() if description is None else description
        self._available = AvailableMemory() if available is None else available
        self._lock = threading.Lock()
        self._tracked: dict[int, _Tracked] = {}

    @property
    def description(self) -> DeviceDescription:
        """The host, with the budget as its total."""
        return self._description

    def read(self) -> MemoryReading:
        """Sum the tracked processes now.

        Raises:
            ReadingError: the kernel does not tell, or a process that is there cannot be read.
        """
        at_ns = time.monotonic_ns()
        processes: dict[int, int] = {}
        unreclaimable_bytes = 0
        own_pid = os.getpid()
        with self._lock:
            for pid, tracked in self._tracked.items():
                memory = None if tracked.status is None else tracked.status.find_host_memory()
                if memory is None:
                    _forget(tracked)
                    processes[pid] = 0
                    continue
                grown_bytes = max(0, memory.resident_bytes - tracked.baseline_bytes)
                processes[pid] = grown_bytes
                unreclaimable_bytes += min(grown_bytes, memory.anon_bytes + memory.shmem_bytes)
                if pid != own_pid:  # whose children are workers, tracked by themselves, and more
                    theirs = read_descendants(pid, without=self._tracked)
                    processes[pid] += theirs.resident_bytes
                    unreclaimable_bytes += theirs.unreclaimable_bytes
        budget_bytes = self._description.total_bytes
        reachable_bytes = self._available.read_bytes() + unreclaimable_bytes
        foreign_bytes = max(0, budget_bytes - reachable_bytes)
        return MemoryReading(
            at_ns=at_ns,
            used_bytes=sum(processes.values()) + foreign_bytes,
            total_bytes=budget_bytes,
            processes=processes,
        )

    def take_peak_bytes(self) -> int | None:
        """Return the exact peak of this process's part since the last call, and start a new one.

        The kernel keeps one peak for each process, and the peaks of several do not add up to the
        peak of their sum; a worker's own peak is the worker's to restart. So there is an exact
        figure only where this process alone is tracked, from the second call on; None otherwise.
        It restarts this process's VmHWM (``ru_maxrss`` follows). What others took is not in it.

        Raises:
            ReadingError: this process cannot be read.
        """
        with self._lock:
            own = self._tracked.get(os.getpid())
            if own is None or own.status is None:
                return None
            if len(self._tracked) > 1:
                own.peak_started = False
                return None
            memory = own.status.host_memory()
            started, own.peak_started = own.peak_started, reset_peak()
            return max(0, memory.peak_bytes - own.baseline_bytes) if started else None

    def track(self, pid: int) -> None:
        """Count a process in from now on; one that is gone already counts as nothing.

        A process is its id with its start time: an id that was given to another process since is
        not mistaken for the first.

        Raises:
            ReadingError: the process is there but cannot be read.
        """
        tracked = _find(pid)
        with self._lock:
            known = self._tracked.get(pid)
            if known is not None and known.start_ticks == tracked.start_ticks:
                _forget(tracked)
                return
            if known is not None:
                _forget(known)
            self._tracked[pid] = tracked

    def untrack(self, pid: int) -> None:
        """Forget a process; unknown ids are ignored."""
        with self._lock:
            tracked = self._tracked.pop(pid, None)
            if tracked is not None:
                _forget(tracked)

    def close(self) -> None:
        """Forget every process; a second call does nothing."""
        with self._lock:
            while self._tracked:
                _forget(self._tracked.popitem()[1])


def _find(pid: int) -> _Tracked:
    gone = _Tracked(start_ticks=None, status=None)
    try:
        status = ProcessStatus(pid)
    except ReadingError:
        if _is_there(pid):
            raise
        return gone
    try:
        memory = status.find_host_memory()
        start_ticks = None if memory is None else process_start_ticks(pid)
    except ReadingError:
        status.close()
        if _is_there(pid):
            raise
        return gone
    if memory is None:
        status.close()
        return gone
    baseline_bytes = memory.resident_bytes if pid == os.getpid() else 0
    return _Tracked(start_ticks, status, baseline_bytes)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _forget(tracked: _Tracked) -> None:
    if tracked.status is not None:
        tracked.status.close()
        tracked.status = None
