"""How a process ends: with all that it started; reaping it, and saying in words how it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Collection
from pathlib import Path

import msgspec

from modelmgr.devices.process_tree import child_pids, descendant_pids
from modelmgr.errors import ReadingError

_DEATH_S = (
    5.0  # for a killed process to be gone; one that waits for a disk or a driver takes longer
)


class ExitStatus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a process ended.

    Attributes:
        code: its exit status, None where a signal ended it.
        signal: that signal's number; None for both where nobody could find out.
        reason: why, where that is known beyond doubt.
    """

    code: int | None = None
    signal: int | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            because = f", because {self.reason}" if self.reason else ""
            return f"was ended by {signal_name(self.signal)}{because}"
        if self.code is not None:
            return f"exited with status {self.code}"
        return "ended in a way that is not known"


def reap(pid: int) -> ExitStatus:
    """Wait for a child that has ended, ending what else is in its process group.

    The group goes first, while the child's id cannot be given to another process.
    """
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # somebody in this process waits for every child
        return ExitStatus()
    if os.WIFSIGNALED(status):
        return ExitStatus(signal=os.WTERMSIG(status))
    return ExitStatus(code=os.WEXITSTATUS(status))


def end_children(keep: Collection[int] = ()) -> None:
    """Kill this process's children and wait for them, then for what they leave behind.

    In a process that adopts orphans this ends every descendant. Those that may not be killed, or
    that the kernel does not end within seconds, are left.

    Args:
        keep: children to leave alone.
    """
    left = set(keep)
    with contextlib.suppress(ReadingError):
        while strays := [pid for pid in child_pids(os.getpid()) if pid not in left]:
            for pid in strays:
                if not _end_child(pid):
                    left.add(pid)


def kill_tree(pid: int, pidfd: int) -> None:
    """Kill a process and all its descendants; raise ProcessLookupError where it is gone.

    They are stopped first, from the top down, so that none starts another meanwhile.
    """
    signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    found: list[int] = []
    # An id is its own for as long as the process is not waited for, which one that stands still
    # is not. One that has ended may be waited for at any time, and its children are gone to others.
    if not _is_readable(pidfd, 0):
        with contextlib.suppress(ReadingError):
            # One by one: each stands still before its own children are looked for.
            found.extend(child for child in descendant_pids(pid) if _send(child, signal.SIGSTOP))
    for descendant in found:
        _send(descendant, signal.SIGKILL)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def signal_name(number: int) -> str:
    """Return ``SIGSEGV (11)``, or ``signal 35`` for one without a name."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def kernel_oom_kills() -> int | None:
    """Return how often the kernel ended a process for lack of memory, None where not told."""
    try:
        lines = Path("/proc/vmstat").read_bytes().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(b" ")
        if name == b"oom_kill":
            return int(value)
    return None


def _end_child(pid: int) -> bool:
    """Kill a child and wait for it; return whether it is gone."""
    if not _send(pid, signal.SIGKILL):
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # no descriptor is left: it is waited for without a limit
        pass
    else:
        try:
            if not _is_readable(pidfd, _DEATH_S):
                return False
        finally:
            os.close(pidfd)
    with contextlib.suppress(ChildProcessError):  # a thread of the model's waited for it
        os.waitpid(pid, 0)
    return True


def _send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return False where that is not permitted. One that is gone needs none."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _is_readable(pidfd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
