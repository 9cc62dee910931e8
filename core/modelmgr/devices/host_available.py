"""How much memory the host could still give: the kernel's MemAvailable, cgroup limits respected.

Owns ``/proc/meminfo`` and the memory controllers of cgroup v1 and v2. It knows no budget and no
process. A container that is limited to 4 GiB on a machine of 256 must not believe in 256.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modelmgr.errors import ReadingError

_KIB = 1024
_ROOT = Path("/")
# cgroup v1 writes "no limit" as the largest page-aligned counter, about 2**63.
_NO_LIMIT_V1 = 1 << 62


class _Group(NamedTuple):
    """The files of one memory cgroup that matter."""

    limit: str
    usage: str
    statistics: str
    reclaimable: bytes


def total_host_bytes(root: Path = _ROOT) -> int:
    """Return the machine's memory (MemTotal), bytes; raise ReadingError when it is not told."""
    return _meminfo(root, "MemTotal")


class AvailableMemory:
    """What could be allocated now without swapping, as often as it is asked.

    The memory cgroups are looked for once, when it is made; their limits are read each time.
    """

    __slots__ = ("_groups", "_root")

    def __init__(self, root: Path = _ROOT) -> None:
        """Find the groups below ``root``, where ``proc`` and ``sys`` are mounted."""
        self._root = root
        self._groups = tuple(_memory_groups(root))

    def read_bytes(self) -> int:
        """Return MemAvailable, or what is left below a cgroup's limit where that is less.

        Page cache that the kernel would drop counts as available in both.

        Raises:
            ReadingError: the kernel does not tell; a failed read never means unlimited.
        """
        available_bytes = _meminfo(self._root, "MemAvailable")
        for group in self._groups:
            limit_bytes = _limit(group.limit)
            if limit_bytes is None:
                continue
            used_bytes = int(_bytes(group.usage)) - _statistic(group.statistics, group.reclaimable)
            available_bytes = min(available_bytes, max(0, limit_bytes - used_bytes))
        return available_bytes


def _meminfo(root: Path, name: str) -> int:
    path = str(root / "proc/meminfo")
    _, found, rest = (b"\n" + _bytes(path)).partition(b"\n%s:" % name.encode())
    if found:
        return int(rest.split(maxsplit=1)[0]) * _KIB
    raise ReadingError(f"{path} has no {name}: the host's memory is not known")


def _memory_groups(root: Path) -> Iterator[_Group]:
    """Yield this process's memory cgroup and those above it, as far as they can be seen."""
    own = _own_groups(root)
    for line in _lines(root / "proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        mounted, kind = left.split(), right.split()
        if len(mounted) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
            continue
        if kind[0] == "cgroup" and "memory" not in kind[2].split(","):
            continue
        path = own.get("memory" if kind[0] == "cgroup" else "")
        if path is None:
            continue
        top = root / mounted[4].lstrip("/")
        # A container sees its own group mounted as the top, or its path from the machine's root.
        inside = path.removeprefix(mounted[3]) if mounted[3] != "/" else path
        folder = top / inside.lstrip("/")
        if not folder.is_dir():
            folder = top
        for place in (folder, *folder.parents):
            if not place.is_relative_to(top):
                break
            if kind[0] == "cgroup2":
                names = ("memory.max", "memory.current", b"inactive_file")
            else:
                names = (
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    b"total_inactive_file",
                )
            limit, usage = place / names[0], place / names[1]
            if limit.exists() and usage.exists():
                yield _Group(str(limit), str(usage), str(place / "memory.stat"), names[2])


def _own_groups(root: Path) -> dict[str, str]:
    """Return this process's cgroup path by controller; the empty name is version 2."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _limit(path: str) -> int | None:
    text = _bytes(path).strip()
    if text == b"max" or (limit_bytes := int(text)) >= _NO_LIMIT_V1:
        return None
    return limit_bytes


def _statistic(path: str, name: bytes) -> int:
    """Return one line of ``memory.stat``; 0 where it is not told, which only makes us stricter."""
    if not os.path.exists(path):  # noqa: PTH110 - as in _bytes
        return 0
    _, found, rest = (b"\n" + _bytes(path)).partition(b"\n%s " % name)
    return int(rest.split(maxsplit=1)[0]) if found else 0


def _lines(path: Path) -> list[str]:
    """Return a file's lines, none where this kernel does not have it."""
    return _text(path).splitlines() if path.exists() else []


def _text(path: Path) -> str:
    return _bytes(str(path)).decode("utf-8", "replace")


def _bytes(path: str) -> bytes:
    # Read twenty times a second: a Path and a text stream would take as long as the kernel does.
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see above
            return file.read()
    except OSError as error:
        raise ReadingError(f"{path} cannot be read: {error.strerror}") from error
