"""Run the rows of a sweep on all cores: one process a lane, one row at a time in each.

A lane is an executor of its own with a single worker, so that a worker that dies is one row's and
nobody else's: that row fails, and the lane begins again with a new process. Workers ignore Ctrl-C,
which a terminal sends to them too; this side ends them, and the kernel where this side is killed.
Figures depend on the rows alone, never on the number of lanes.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker

from modelmgr.errors import UsageError
from modelmgr.records.sweep import SweepRow
from modelmgr.simulation.sweep import SweepTask, run_row
from modelmgr.workers.process_control import tie_to_parent

_BETWEEN_LOOKS_S = 0.1

Work = Callable[[SweepTask], SweepRow | None]
"""What a worker does with a task; importable by name from the worker's process."""


class ProcessRunner:
    """A ``RowRunner`` on this machine's cores.

    Args:
        jobs: how many processes, 1 or more.
        work: what each does with a task; the default simulates it.
    """

    def __init__(self, jobs: int, *, work: Work = run_row) -> None:
        if jobs < 1:
            raise UsageError(f"{jobs} processes run nothing; give 1 or more")
        self._jobs = jobs
        self._work = work

    def __call__(self, tasks: Sequence[SweepTask], stop: Callable[[], bool]) -> Iterator[SweepRow]:
        """Yield rows as they are done."""
        waiting = deque(tasks)
        free = [_Lane() for _ in range(min(self._jobs, len(tasks)))]
        busy: dict[Future[SweepRow | None], tuple[_Lane, SweepTask]] = {}
        try:
            while (waiting or busy) and not stop():
                while waiting and free:
                    lane, task = free.pop(), waiting.popleft()
                    busy[lane.submit(self._work, task)] = (lane, task)
                done, _ = wait(busy, timeout=_BETWEEN_LOOKS_S, return_when=FIRST_COMPLETED)
                for future in done:
                    lane, task = busy.pop(future)
                    row = _row_of(future, task)
                    if future.exception() is not None:
                        lane.end()
                    free.append(lane)
                    if row is not None:
                        yield row
        finally:
            for lane in (*free, *(lane for lane, _ in busy.values())):
                lane.end()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


class _Lane:
    """One worker process, started when there is work and again after it died."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._pid: Future[int] | None = None

    def submit(self, work: Work, task: SweepTask) -> Future[SweepRow | None]:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                max_workers=1,
                mp_context=get_context("spawn"),
                initializer=_be_a_worker,
                initargs=(os.getpid(),),
            )
            with _no_interrupts():
                self._pid = self._executor.submit(os.getpid)
        return self._executor.submit(work, task)

    def end(self) -> None:
        """Kill the worker, whatever it does, and wait until it is gone."""
        executor, pid = self._executor, self._pid
        self._executor = self._pid = None
        if executor is None:
            return
        if pid is not None:
            # One that still starts has its work already, so it is waited for. BrokenProcessPool: it
            # died as it started.
            with suppress(ProcessLookupError, BrokenProcessPool):
                os.kill(pid.result(), signal.SIGKILL)
        executor.shutdown(wait=True, cancel_futures=True)


def _row_of(future: Future[SweepRow | None], task: SweepTask) -> SweepRow | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return task.failed(
            "WorkerDiedError",
            "the process that simulated this row died (killed, or out of memory?)",
        )
    except Exception as error:  # noqa: BLE001 - one row's fault must not end the others
        return task.failed(type(error).__name__, str(error) or "no more is known")


def _be_a_worker(parent_pid: int) -> None:
    """End with the parent, even where it is killed; leave it Ctrl-C, and stdout to its result.

    The solver's library writes to stdout.
    """
    tie_to_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


@contextmanager
def _no_interrupts() -> Generator[None]:
    """Let a process start that a Ctrl-C cannot hit before it ignores them: masks are inherited."""
    resource_tracker.ensure_running()  # it would lift the mask when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
