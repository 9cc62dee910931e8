"""The processes that a process started, and theirs: who they are, and what they hold.

Owns the walk over ``/proc/PID/task/TID/children`` and nothing else; it ends no process. A process
may start another while the walk goes on, so one walk is a sample: what must be complete is walked
until nothing more is found, or over processes that are stopped.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from modelmgr.devices.process_memory import ProcessStatus
from modelmgr.errors import ReadingError

_PROC = "/proc"
_PARENT_FIELD = 4 - 3  # proc_pid_stat(5): field 4, counted from field 3 after the name's ")"


class DescendantMemory(NamedTuple):
    """What a process's descendants hold of host memory; a sample, not a peak.

    Attributes:
        processes: how many of them were alive.
        resident_bytes: their resident pages, summed. What a fork has not written to yet counts
            in it once for each process, as it does in every resident figure.
        unreclaimable_bytes: the part of it that is anonymous or shared memory.
    """

    processes: int
    resident_bytes: int
    unreclaimable_bytes: int


def child_pids(pid: int) -> tuple[int, ...]:
    """Return a process's children, dead ones that nobody waited for among them.

    One that is gone has none. A read takes about 10 µs for each of the process's threads.

    Raises:
        ReadingError: the process is there, but its folder cannot be read.
    """
    folder = f"{_PROC}/{pid}/task"
    found: list[int] = []
    try:
        threads = os.listdir(folder)  # noqa: PTH208 - a Path for each thread would double the cost
        for thread in threads:
            found.extend(_children_of_thread(f"{folder}/{thread}"))
    except (FileNotFoundError, ProcessLookupError):
        return tuple(found)
    except OSError as error:
        raise ReadingError(f"{folder} cannot be read: {error.strerror}") from error
    return tuple(found)


def descendant_pids(pid: int, *, without: Collection[int] = ()) -> Iterator[int]:
    """Yield a process's descendants, parents first.

    Args:
        pid: the process; it is not yielded itself.
        without: processes to leave out with all that they started.

    Raises:
        ReadingError: as ``child_pids``.
    """
    waiting = [pid]
    seen = {pid, *without}
    while waiting:
        for child in child_pids(waiting.pop()):
            if child not in seen:
                seen.add(child)
                waiting.append(child)
                yield child


def read_descendants(pid: int, *, without: Collection[int] = ()) -> DescendantMemory:
    """Return what a process's descendants hold now.

    Args:
        pid: the process; its own memory is not counted.
        without: processes to leave out with all that they started.

    Raises:
        ReadingError: one of them is there but cannot be read.
    """
    processes = resident_bytes = unreclaimable_bytes = 0
    for descendant in descendant_pids(pid, without=without):
        try:
            with ProcessStatus(descendant) as status:
                memory = status.find_host_memory()
        except ReadingError:
            if Path(_PROC, str(descendant)).exists():
                raise
            continue
        if memory is not None:  # a dead one that nobody waited for holds nothing
            processes += 1
            resident_bytes += memory.resident_bytes
            unreclaimable_bytes += memory.anon_bytes + memory.shmem_bytes
    return DescendantMemory(processes, resident_bytes, unreclaimable_bytes)


def descendant_memory_bytes(pid: int) -> int:
    """Return the resident bytes of a process's descendants now; errors as ``read_descendants``."""
    return read_descendants(pid).resident_bytes


def _children_of_thread(folder: str) -> list[int]:
    try:
        with open(f"{folder}/children", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return [int(word) for word in file.readall().split()]
    except FileNotFoundError:
        if not Path(folder).exists():
            return []  # the thread ended, and the process's others took over its children
        # A kernel without CONFIG_PROC_CHILDREN: every process is asked for its parent.
        leader = folder.split("/")[2]
        return _scan_for_children(int(leader)) if folder.endswith(f"/{leader}") else []


def _scan_for_children(pid: int) -> list[int]:
    found: list[int] = []
    for name in os.listdir(_PROC):  # noqa: PTH208 - as above
        if not name.isdecimal():
            continue
        try:
            text = Path(_PROC, name, "stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(text.rpartition(b")")[2].split()[_PARENT_FIELD]) == pid:
            found.append(int(name))
    return found
