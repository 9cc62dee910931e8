"""Waiting for processes that are not ours to be gone, and counting what is left behind."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable
from pathlib import Path

_DEADLINE_S = 60.0


def open_pidfds(pids: Iterable[int]) -> dict[int, int]:
    """Return a pidfd for each process that is there, which names it even after it is gone."""
    found: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found[pid] = os.pidfd_open(pid)
    return found


def still_running(pidfds: dict[int, int], *, deadline_s: float = _DEADLINE_S) -> set[int]:
    """Wait until all have ended, closing their pidfds; return those that had not in time."""
    running = dict(pidfds)
    deadline = time.monotonic() + deadline_s
    while running and (left_s := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for pidfd in running.values():
            poll.register(pidfd, select.POLLIN)
        ended = {pidfd for pidfd, _ in poll.poll(left_s * 1000)}
        running = {pid: pidfd for pid, pidfd in running.items() if pidfd not in ended}
    for pidfd in pidfds.values():
        os.close(pidfd)
    return set(running)


def descriptors() -> dict[str, str]:
    """Return this process's open descriptors and what they lead to.

    The kernel's own files are left out: a thread that watches memory may have one open just now.
    """
    found: dict[str, str] = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found[link.name] = str(link.readlink())
    passing = ("/proc/", "/sys/")
    return {name: target for name, target in found.items() if not target.startswith(passing)}


def children() -> set[int]:
    """Return the process ids of this process's children, zombies among them."""
    own = os.getpid()
    return {pid for pid, parent in _parents().items() if parent == own}


def descendants(pid: int) -> set[int]:
    """Return the process ids of a process's children, and theirs."""
    parents = _parents()
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= new
    return found


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended meanwhile
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(folder.name)] = int(fields[1])
    return found
