"""Starts workers: keeps one forkserver for each set of frameworks, and ends all it started.

Nothing outlives it: the kernel ends the forkservers with the launcher's thread and the workers
with their forkserver, so even SIGKILL of the user's process leaves no orphan. It never imports a
framework: that is done in forkservers and workers alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from modelmgr.errors import UsageError, WorkerError, WorkerTimeoutError
from modelmgr.ownership import Owner
from modelmgr.workers.loaders.registry import get_loader
from modelmgr.workers.output_log import OutputLog
from modelmgr.workers.process import WorkerProcess
from modelmgr.workers.refusals import explain
from modelmgr.workers.reports import EstimateReport
from modelmgr.workers.server_process import ServerProcess
from modelmgr.workers.watcher import Watcher
from modelmgr.workers.worker import Worker
from modelmgr.workload.model_spec import ModelSpec

__all__ = ["StartMethod", "Worker", "WorkerLauncher"]

_LOG = logging.getLogger(__name__)

StartMethod = Literal["forkserver", "spawn"]

ANSWER_TIMEOUT_S = 60.0
PRELOAD_TIMEOUT_S = 600.0  # torch and transformers take 10 s from a warm disk, minutes from NFS

# A worker is one process with one model: tokenizers' own threads would not survive a fork, and
# warn about it.
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false"}

_ServerKey = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


class _Slot:
    """The place of one forkserver; its lock is held while the server is started."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.server: ServerProcess | None = None


class WorkerLauncher:
    """Starts worker processes. Thread-safe; usable as a context manager.

    Args:
        start_method: ``forkserver`` (frameworks imported once) or ``spawn`` (each worker imports
            them by itself, in a fresh interpreter; a server without any starts it and ends what it
            leaves behind).
        answer_timeout_s: how long a new process may take to answer, seconds.
        preload_timeout_s: how long a forkserver may take to import its frameworks, seconds.

    Raises:
        UsageError: this is not Linux 5.3 or newer.
        WorkerError: no descriptor is left.
    """

    def __init__(
        self,
        *,
        start_method: StartMethod = "forkserver",
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        preload_timeout_s: float = PRELOAD_TIMEOUT_S,
    ) -> None:
        if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
            raise UsageError(f"workers need Linux 5.3 or newer, not {sys.platform}")
        if start_method not in {"forkserver", "spawn"}:
            raise UsageError(f"start_method is 'forkserver' or 'spawn', not {start_method!r}")
        self._start_method = start_method
        self._owner = Owner()
        self._answer_timeout_s = answer_timeout_s
        self._preload_timeout_s = preload_timeout_s
        try:
            self._watcher = Watcher("modelmgr-workers")
        except OSError as error:
            raise WorkerError(f"no worker can be started: {explain(error)}") from error
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)  # notified when a start is over
        self._slots: dict[_ServerKey, _Slot] = {}
        self._workers: set[Worker] = set()
        self._starting = 0
        self._closed = False

    def prepare(self, spec: ModelSpec, *, env: Mapping[str, str] | None = None) -> int:
        """Start the forkserver that workers of this model come from.

        Returns:
            Nanoseconds that it took, imports included; 0 where it was there, or none is used.

        Raises:
            WorkerError: it could not be started, ended, or took too long.
        """
        if self._start_method == "spawn":
            return 0
        before_ns = time.monotonic_ns()
        with self._starts():
            _, started = self._find_server(spec, env)
        return time.monotonic_ns() - before_ns if started else 0

    def start(
        self,
        spec: ModelSpec,
        *,
        device: str = "cpu",
        seed: int = 0,
        budget_bytes: int | None = None,
        env: Mapping[str, str] | None = None,
        rehearse: bool = True,
    ) -> Worker:
        """Start a worker for a model; nothing is loaded yet.

        Args:
            spec: the model.
            device: ``cpu`` or ``cuda:N``.
            seed: of random weights.
            budget_bytes: what the model may take above the framework, of host memory for ``cpu``,
                of the device's by torch's allocator for ``cuda``; None is no limit.
            env: environment variables beside those of this process. Each set of them has a
                forkserver of its own, for libraries read them while they are imported.
            rehearse: run what the framework needs once before the load, so that its own memory and
                code are not counted as the model's; without it a load begins sooner.

        Raises:
            UsageError: the spec can be seen to be wrong, or the launcher is closed.
            WorkerError: no process could be started, or it did not answer in time.
        """
        if budget_bytes is not None and budget_bytes <= 0:
            raise UsageError(f"a budget of {budget_bytes} bytes holds no model")
        get_loader(spec.loader).check(spec)
        environment = {**os.environ, **_ENVIRONMENT, **(env or {})}
        with self._starts():
            try:
                ours, theirs = socket.socketpair()
            except OSError as error:
                raise _refusal(spec, error) from error
            try:
                with theirs:
                    process = self._start_process(spec, theirs, env)
            except BaseException:
                ours.close()
                raise
            worker = Worker(
                process,
                ours,
                spec,
                device=device,
                budget_bytes=budget_bytes,
                forget=self._forget,
            )
            with self._lock:
                self._workers.add(worker)
            try:
                worker.configure(
                    seed=seed,
                    environment=environment,
                    rehearse=rehearse,
                    timeout_s=self._answer_timeout_s,
                )
            except BaseException:
                worker.kill()
                worker.close()
                raise
            return worker

    def estimate(
        self,
        spec: ModelSpec,
        shapes: Sequence[Mapping[str, int]],
        *,
        timeout_s: float | None,
    ) -> EstimateReport:
        """Guess a model's size in a worker that loads nothing and ends after it.

        Args:
            spec: the model.
            shapes: the shapes to guess activations for.
            timeout_s: for the guess, seconds; None waits for ever.

        Raises:
            UsageError, WorkerError: as ``start`` and ``Worker.load``.
        """
        with self.start(spec) as worker:
            return worker.estimate(shapes, timeout_s=timeout_s)

    def pids(self) -> frozenset[int]:
        """Return the process ids of the workers that are alive."""
        with self._lock:
            return frozenset(worker.pid for worker in self._workers if worker.alive)

    def server_pids(self) -> frozenset[int]:
        """Return the process ids of the forkservers that are alive."""
        with self._lock:
            slots = list(self._slots.values())
        servers = [slot.server for slot in slots]
        return frozenset(server.pid for server in servers if server is not None and not server.lost)

    def close(self) -> None:
        """End all workers and forkservers and wait for them; a second call does nothing.

        Starts in progress are let finish. Workers are asked first, all at the same time, and
        killed when they do not end. In a forked child nothing happens, as they are its parent's;
        nor where the interpreter ends, as they end with this process.
        """
        if not self._owner.is_here or sys.is_finalizing():
            return
        with self._quiet:
            if self._closed:
                return
            self._closed = True
            self._quiet.wait_for(lambda: self._starting == 0)
            workers = list(self._workers)
            servers = [slot.server for slot in self._slots.values() if slot.server is not None]
        closers = [threading.Thread(target=_close, args=(worker,)) for worker in workers]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()
        for server in servers:
            server.close()
        self._watcher.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _starts(self) -> Generator[None]:
        self._owner.check("this launcher", "make one here")
        with self._lock:
            if self._closed:
                raise UsageError("this launcher is closed: make another one")
            self._starting += 1
        try:
            yield
        finally:
            with self._quiet:
                self._starting -= 1
                self._quiet.notify_all()

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            self._workers.discard(worker)

    def _start_process(
        self,
        spec: ModelSpec,
        connection: socket.socket,
        env: Mapping[str, str] | None,
    ) -> WorkerProcess:
        try:
            log = OutputLog()
        except OSError as error:
            raise _refusal(spec, error) from error
        try:
            server, _ = self._find_server(spec, env)
            return server.fork(
                connection,
                log,
                timeout_s=self._answer_timeout_s,
                fresh=self._start_method == "spawn",
            )
        except OSError as error:
            log.close()
            raise _refusal(spec, error) from error
        except BaseException:
            log.close()
            raise

    def _find_server(
        self, spec: ModelSpec, env: Mapping[str, str] | None
    ) -> tuple[ServerProcess, bool]:
        """Return the forkserver for a model, and whether it was started for this call."""
        fresh = self._start_method == "spawn"
        modules = () if fresh else tuple(get_loader(spec.loader).preload)
        key = (modules, tuple(sorted((env or {}).items())))
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        with slot.lock:
            if slot.server is not None and not slot.server.lost:
                return slot.server, False
            if slot.server is not None:
                slot.server.close()
                slot.server = None
            slot.server = ServerProcess(
                self._watcher,
                modules,
                {**os.environ, **_ENVIRONMENT, **(env or {})},
                timeout_s=self._preload_timeout_s,
            )
            return slot.server, True


def _refusal(spec: ModelSpec, error: OSError) -> WorkerError:
    return WorkerError(f"no worker could be started for {spec.tag!r}: {explain(error)}")


def _close(worker: Worker) -> None:
    try:
        worker.close()
    except WorkerTimeoutError as error:  # the others and the forkservers are still to be closed
        _LOG.error("%s", error)
