"""How a process ended: reaping it with what it started, and saying it in words."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import msgspec


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
