"""What a process of ours does to itself: ties to its parent, signals, descriptors, limits.

Runs in forkservers and workers, never in the user's process. Linux only (prctl(2), /proc).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_LOST_PARENT = 78  # exit status of a process whose parent went before it could be tied to it

# A worker is what the kernel should end when memory runs out, not the process that owns it.
# Range -1000 to 1000, proc_pid_oom_score_adj(5); raising it needs no privilege.
_OOM_SCORE_ADJ = b"500"


def tie_to_parent(parent_pid: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel end this process by a signal when its parent ends; end now if it did.

    The kernel means the *thread* that made this process (prctl(2), PR_SET_PDEATHSIG), so parents
    start children from a thread that lives as long as they are wanted.
    """
    _prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent_pid:
        os._exit(_LOST_PARENT)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets away.

    The kernel gives a process without a parent to the nearest such ancestor (prctl(2),
    PR_SET_CHILD_SUBREAPER), whatever session or group it moved to.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Set the name that ``top`` shows, cut to 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def leave_terminal() -> None:
    """Start a session of our own and ignore what a terminal sends: the parent decides."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def become_expendable() -> None:
    """Leave no core file (it would be as large as the model) and be the first to go."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        Path("/proc/self/oom_score_adj").write_bytes(_OOM_SCORE_ADJ)
    except OSError:
        return  # some sandboxes keep it read-only; nothing depends on it


def redirect_output(log: int) -> None:
    """Send standard output and error to a descriptor, and give standard input its end."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)


class DataBudget:
    """A soft RLIMIT_DATA above what the process has now: allocations beyond it fail cleanly.

    Counted are private writable mappings, touched or not, so thread stacks count as well. Set it
    after the imports: a limit on everything can hang OpenBLAS while it starts.
    """

    def __init__(self, budget_bytes: int | None) -> None:
        self.budget_bytes = budget_bytes
        self._limit_bytes: int | None = None

    def start(self) -> None:
        """Count from here: the limit is the data size of now and the budget above it."""
        if self.budget_bytes is not None:
            self._limit_bytes = _data_size_bytes() + self.budget_bytes
            self.apply()

    def apply(self) -> None:
        """Put the limit in force, where one was started."""
        if self._limit_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            limit = self._limit_bytes
            resource.setrlimit(
                resource.RLIMIT_DATA,
                (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard),
            )

    def lift(self) -> None:
        """Put it out of force: reporting that memory ran out takes some memory."""
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _data_size_bytes() -> int:
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _prctl(option: int, value: int | bytes) -> None:
    # A sandbox may refuse it: the end of the pipe then has to do.
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
