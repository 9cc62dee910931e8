"""Reads of one process's host memory from ``/proc``: exact figures, the exact peak, shared files.

Owns the parsing of ``/proc/PID/{status,statm,stat,smaps,clear_refs}`` and nothing else: it sums no
processes, knows no budget and caches nothing. A process that is gone is a ``ReadingError`` that
says so; it is never a process of zero bytes. Swapped-out pages are not resident and not counted.

Why RssAnon plus file pages, never USS or PSS: those move when *other* processes map or unmap the
same libraries. Why VmHWM after a reset, never ``ru_maxrss``: a child starts with the high-water
mark of its parent.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from modelmgr.errors import ReadingError
from modelmgr.records.host_memory import HostMemory

_KIB = 1024
_PROC = Path("/proc")
_RESET_PEAK = b"5"  # proc_pid_clear_refs(5): reset the peak resident set size to the current one
_READ_SIZE = 1 << 14  # status is well under a page or two; one read must hold all of it
_STATUS_FIELDS = (b"VmRSS", b"RssAnon", b"RssFile", b"RssShmem", b"VmHWM")
_START_TIME_FIELD = 22 - 3  # proc_pid_stat(5): field 22, counted from field 3 after the name's ")"


def read_host_memory(pid: int | None = None) -> HostMemory:
    """Return what a process holds of host memory now, and its peak since the last reset.

    Args:
        pid: the process, None for this one.

    Raises:
        ReadingError: the process is gone, or ``/proc`` cannot be read.
    """
    with ProcessStatus(pid) as status:
        return status.host_memory()


def read_peak(pid: int | None = None) -> int:
    """Return the exact resident peak (VmHWM) since it was last reset, bytes.

    Raises:
        ReadingError: the process is gone, or ``/proc`` cannot be read.
    """
    return read_host_memory(pid).peak_bytes


def reset_peak(pid: int | None = None) -> bool:
    """Make a process's resident peak start again from what it holds now.

    Returns:
        Whether it was reset; ``peak_reset_refusal`` says why where it was not.

    Raises:
        ReadingError: the process is gone, or there is no ``/proc``.
    """
    return peak_reset_refusal(pid) is None


def peak_reset_refusal(pid: int | None = None) -> str | None:
    """Reset a process's resident peak; return None when that was done, else why it was refused.

    A process may reset its own peak and that of its children with no privileges; another user's
    takes CAP_SYS_PTRACE, and a kernel without CONFIG_PROC_PAGE_MONITOR cannot do it at all.

    Raises:
        ReadingError: the process is gone, or there is no ``/proc``.
    """
    pid = os.getpid() if pid is None else pid
    path = _path(pid, "clear_refs")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, _RESET_PEAK)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in {errno.ESRCH, errno.ENOENT}:
            return f"{path} cannot be written: {os.strerror(error.errno or 0)}"
        read_host_memory(pid)  # raises when the process is gone; else only this file is missing
        return f"{path} does not exist in this kernel"
    read_host_memory(pid)  # the kernel takes the write for a dead, unreaped process as well
    return None


def process_start_ticks(pid: int | None = None) -> int:
    """Return when a process started, clock ticks since boot: with its id, what identifies it.

    Raises:
        ReadingError: the process is gone, or ``/proc`` cannot be read.
    """
    pid = os.getpid() if pid is None else pid
    path = _path(pid, "stat")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _failure(error, pid, path) from error
    # The name stands in parentheses and may itself hold spaces and parentheses.
    return int(text.rpartition(b")")[2].split()[_START_TIME_FIELD])


def unshared_file_bytes(pid: int, others: Collection[int]) -> int | None:
    """Return what a process holds of mapped files beyond what the others hold of the same files.

    This is the file part of what one more copy costs: two workers that map the same safetensors
    file share its pages. Pages are compared by their number for each file (device, inode), so the
    figure is exact where the processes touched the same part of it; shared-memory objects count
    as files. Private copies of file pages are anonymous and not counted here. A read costs
    1-55 ms, growing with the size: not for sampling.

    Args:
        pid: the process in question.
        others: processes to compare with; those that are gone hold nothing.

    Returns:
        Bytes, or None where some process's mappings may not be read.

    Raises:
        ReadingError: ``pid`` is gone, or there is no ``/proc``.
    """
    own = _file_pages(pid)
    if own is None:
        return None
    shared: dict[tuple[bytes, bytes], int] = {}
    for other in others:
        if other == pid:
            continue
        try:
            held = _file_pages(other)
        except ReadingError:
            continue
        if held is None:
            return None
        for file, size_bytes in held.items():
            shared[file] = max(shared.get(file, 0), size_bytes)
    return sum(max(0, size_bytes - shared.get(file, 0)) for file, size_bytes in own.items())


class ProcessStatus:
    """One process's ``status``, kept open: no later process with the same id is mistaken for it.

    The open file names the process itself, not its number. Usable as a context manager.
    """

    __slots__ = ("_file", "pid")

    def __init__(self, pid: int | None = None) -> None:
        """Open it; raise ReadingError when the process is gone or ``/proc`` cannot be read."""
        self.pid = os.getpid() if pid is None else pid
        self._file = _ProcFile(self.pid, "status")

    def find_host_memory(self) -> HostMemory | None:
        """Return the process's memory, or None once it is gone (exited, reaped or not).

        Raises:
            ReadingError: the kernel refused the read; the process may well be there.
        """
        text = self._file.find()
        return None if text is None else _parse_status(text, self.pid)

    def host_memory(self) -> HostMemory:
        """Return the process's memory; raise ReadingError when it is gone or unreadable."""
        memory = self.find_host_memory()
        if memory is None:
            raise _gone(self.pid)
        return memory

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ResidentSampler:
    """Reads one process's resident bytes again and again from a ``statm`` that stays open.

    A read takes about 3 µs against 25 for ``status``. Kernels since 6.2 keep these counters by
    core and some round them by a few pages for each. Usable as a context manager.
    """

    __slots__ = ("_file", "pid")

    def __init__(self, pid: int | None = None) -> None:
        """Open ``statm``; raise ReadingError when the process is gone."""
        self.pid = os.getpid() if pid is None else pid
        self._file = _ProcFile(self.pid, "statm")

    def resident_bytes(self) -> int:
        """Return all resident pages, bytes; raise ReadingError when the process is gone."""
        return self._pages()[1] * mmap.PAGESIZE

    def anon_bytes(self) -> int:
        """Return resident pages with no file behind them, bytes; raise ReadingError when gone."""
        _, resident, shared, *_ = self._pages()
        return (resident - shared) * mmap.PAGESIZE

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def _pages(self) -> list[int]:
        pages = [int(field) for field in (self._file.find() or b"").split()]
        if not pages or pages[0] == 0:  # a dead, unreaped process has no address space
            raise _gone(self.pid)
        return pages

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _ProcFile:
    """A small file of ``/proc/PID`` that stays open and is read from its start each time."""

    __slots__ = ("_descriptor", "_path", "_pid")

    def __init__(self, pid: int, name: str) -> None:
        self._pid = pid
        self._path = _path(pid, name)
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(error, pid, self._path) from error

    def find(self) -> bytes | None:
        """Return the text, None once the process is gone; raise ReadingError otherwise."""
        try:
            return os.pread(self._descriptor, _READ_SIZE, 0)
        except ProcessLookupError:
            return None
        except OSError as error:
            raise _failure(error, self._pid, self._path) from error

    def close(self) -> None:
        """Close it; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _path(pid: int, file: str) -> Path:
    return _PROC / str(pid) / file


def _gone(pid: int) -> ReadingError:
    return ReadingError(f"process {pid} is gone: its memory cannot be read any more")


def _failure(error: OSError, pid: int, path: Path) -> ReadingError:
    if not (_PROC / "self" / "status").exists():
        return ReadingError("there is no /proc: host memory can be read on Linux only")
    if error.errno in {errno.ESRCH, errno.ENOENT}:
        return _gone(pid)
    return ReadingError(f"{path} cannot be read: {os.strerror(error.errno or 0)}")


def _parse_status(text: bytes, pid: int) -> HostMemory | None:
    """Return the figures, None where the process has no address space any more."""
    found: dict[bytes, int] = {}
    for name in _STATUS_FIELDS:  # looked for: splitting some sixty lines takes four times as long
        _, colon, rest = text.partition(b"\n%s:" % name)
        if colon:
            found[name] = int(rest.split(maxsplit=1)[0]) * _KIB
    if b"VmRSS" not in found:
        return None
    missing = [name.decode() for name in _STATUS_FIELDS if name not in found]
    if missing:  # sandboxes that imitate Linux leave some out
        raise ReadingError(f"/proc/{pid}/status has no {', '.join(missing)} in this kernel")
    return HostMemory(
        anon_bytes=found[b"RssAnon"],
        file_bytes=found[b"RssFile"],
        shmem_bytes=found[b"RssShmem"],
        peak_bytes=found[b"VmHWM"],
    )


def _file_pages(pid: int) -> dict[tuple[bytes, bytes], int] | None:
    """Return resident bytes by mapped file (device, inode), None where not permitted."""
    path = _path(pid, "smaps")
    try:
        lines = path.read_bytes().splitlines()
    except PermissionError:
        return None
    except OSError as error:
        raise _failure(error, pid, path) from error
    if not lines:
        raise _gone(pid)
    sizes: dict[tuple[bytes, bytes], int] = {}
    file: tuple[bytes, bytes] | None = None
    for line in lines:
        fields = line.split()
        if not fields[0].endswith(b":"):  # "start-end perms offset device inode [path]"
            file = (fields[3], fields[4]) if fields[4] != b"0" else None
        elif file is not None and fields[0] in {b"Rss:", b"Anonymous:"}:
            sign = 1 if fields[0] == b"Rss:" else -1
            sizes[file] = sizes.get(file, 0) + sign * int(fields[1]) * _KIB
    return sizes
