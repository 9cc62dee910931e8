"""What the driver's lists of processes say about ours: merged by id, and doubted in containers."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

# A process id and its bytes of device memory, None where the driver does not know them.
ListedProcess = tuple[int, int | None]


def merge_processes(
    lists: Sequence[Sequence[ListedProcess] | None], tracked: Collection[int] = ()
) -> Mapping[int, int] | None:
    """Return bytes by process id, or None where the lists do not tell them.

    A process that renders and computes stands in two lists with the same bytes: the larger counts,
    never the sum. One whose bytes are unknown is left out; when none is known, nothing is. Inside
    a container drivers may list the ids that the machine gave, which mean other processes here or
    none: a listed id with no process behind it (and that was no worker of ours) makes all of them
    doubtful, and the device's aggregate figure is what remains.

    Args:
        lists: what each query listed, None where the platform refused it.
        tracked: our workers, which drivers may list for a while after they ended.
    """
    known = [entries for entries in lists if entries is not None]
    if not known:
        return None
    listed = [entry for entries in known for entry in entries]
    if any(pid not in tracked and not _exists(pid) for pid, _ in listed):
        return None
    merged: dict[int, int] = {}
    for pid, size_bytes in listed:
        if size_bytes is not None:
            merged[pid] = max(merged.get(pid, 0), size_bytes)
    return None if listed and not merged else merged


def _exists(pid: int) -> bool:
    """Return whether an id names a process here, whosever it is; works with a hidden ``/proc``."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
