"""One loaded copy as the library holds it: requests go to a process of its own, one at a time.

Owns what silence means: an answer that does not come in time, a pipe that closes, bytes that are
no answer. After any of these the process is ended, for nothing it says later could be trusted.
It never imports a framework.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar

from modelmgr.devices.process_memory import read_host_memory
from modelmgr.errors import (
    ModelmgrError,
    OutOfMemoryError,
    ReadingError,
    UsageError,
    WorkerDiedError,
    WorkerError,
    WorkerProtocolError,
    WorkerTimeoutError,
)
from modelmgr.workers import payload, protocol
from modelmgr.workers.failures import revive
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.process import WorkerProcess
from modelmgr.workers.process_exit import kernel_oom_kills
from modelmgr.workers.protocol import Channel
from modelmgr.workers.reports import EstimateReport, HostMemory, LoadReport, ShapeReport
from modelmgr.workload.model_spec import ModelSpec

_LOG = logging.getLogger(__name__)
_Expected = TypeVar("_Expected")

CLOSE_TIMEOUT_S = 10.0
_EXIT_NEWS_S = 5.0  # between the end of a pipe and the news of the process's end
_KILL_S = 60.0  # freeing tens of GiB takes the kernel seconds


class _Expired(Exception):  # noqa: N818 - not an error: it never leaves this module
    """The time for an answer passed."""


class Worker:
    """A worker process and the model in it. Thread-safe; usable as a context manager.

    Made by ``WorkerLauncher.start``. Requests wait for each other; ``kill`` and ``memory`` do not.

    Attributes:
        pid: its process id.
        tag: the model's tag.
        spec: the model.
        device: where it loads.
        budget_bytes: the memory that the model may take above the framework, None for no limit.
    """

    def __init__(
        self,
        process: WorkerProcess,
        connection: socket.socket,
        spec: ModelSpec,
        *,
        device: str,
        budget_bytes: int | None,
        forget: Callable[[Worker], None],
    ) -> None:
        self.pid = process.pid
        self.tag = spec.tag
        self.spec = spec
        self.device = device
        self.budget_bytes = budget_bytes
        self._process = process
        self._channel = Channel(connection, self._wait)
        self._forget = forget
        self._lock = threading.Lock()  # held for a whole request
        self._closing = threading.Lock()
        self._deadline: float | None = None
        self._serial = 0
        self._closed_ns: int | None = None
        self._killed = False
        self._broken: str | None = None
        self._oom_kills = kernel_oom_kills()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.status is None

    def load(self, *, timeout_s: float | None) -> LoadReport:
        """Load the model.

        Raises:
            ModelLoadError: the loader raised.
            MissingPackageError: a package that the loader needs is not installed.
            OutOfMemoryError: the model does not fit the budget.
            UsageError: the spec lacks something, or a model is loaded already.
            WorkerTimeoutError: it took longer than ``timeout_s``; the process was ended.
            WorkerDiedError: the process ended.
            WorkerProtocolError: the process answered with something that is no answer.
        """
        request = protocol.Load(id=self._next_id())
        reply, _ = self._ask(request, protocol.Loaded, timeout_s, "loading")
        return reply.report

    def run_shape(
        self,
        dims: Mapping[str, int],
        *,
        phase: Literal["memory", "latency"],
        warmups: int,
        repeats: int,
        seed: int,
        timeout_s: float | None,
    ) -> ShapeReport:
        """Run random batches of one shape, measured in the worker.

        The ``memory`` phases of all shapes go before any ``latency`` phase: the allocator does not
        give back what it kept for speed.

        Args:
            dims: the shape.
            phase: how the allocator is set.
            warmups: batches before the measurement, 0 or more.
            repeats: batches in it, 1 or more.
            seed: of the batch's random content.
            timeout_s: for all of it, seconds; None waits for ever.

        Raises:
            UsageError: the model does not know a dimension, or nothing is loaded.
            InferenceError: the model raised.
            MeasurementError: this kernel does not tell a batch's peak.
            OutOfMemoryError, WorkerTimeoutError, WorkerDiedError, WorkerProtocolError: as ``load``.
        """
        if warmups < 0 or repeats < 1:
            raise UsageError(f"{repeats} batches after {warmups} warm-ups: 1 after 0 are the least")
        request = protocol.RunShape(
            id=self._next_id(),
            dims=dict(dims),
            phase=phase,
            warmups=warmups,
            repeats=repeats,
            seed=seed,
        )
        what = ", ".join(f"{name}={size}" for name, size in dims.items()) or "a batch"
        reply, _ = self._ask(request, protocol.ShapeDone, timeout_s, f"running {what}")
        return reply.report

    def infer(self, batch: object, *, timeout_s: float | None = None) -> object:
        """Run one batch and return the model's output, arrays as numpy arrays.

        Args:
            batch: numpy arrays, numbers, strings, bytes, and lists, tuples and dicts of them.
            timeout_s: seconds; None waits for ever.

        Raises:
            UsageError: the batch holds something that cannot be sent, or nothing is loaded.
            InferenceError: the model raised, or returned something that cannot be sent.
            OutOfMemoryError, WorkerTimeoutError, WorkerDiedError, WorkerProtocolError: as ``load``.
        """
        tree, buffers = payload.encode(batch)
        request = protocol.Infer(id=self._next_id(), tree=tree)
        reply, out = self._ask(request, protocol.Outputs, timeout_s, "inferring", buffers)
        return payload.decode(reply.tree, out)

    def estimate(
        self, shapes: Sequence[Mapping[str, int]], *, timeout_s: float | None
    ) -> EstimateReport:
        """Guess the model's size without loading it; errors as ``load``."""
        request = protocol.Estimate(id=self._next_id(), shapes=tuple(dict(s) for s in shapes))
        reply, _ = self._ask(request, protocol.Estimated, timeout_s, "estimating")
        return reply.report

    def configure(self, *, seed: int, environment: Mapping[str, str], timeout_s: float) -> None:
        """Tell a new process what it is for; the launcher does this once."""
        try:
            folder = os.getcwd()  # noqa: PTH109 - as text, and it may be gone
        except FileNotFoundError:
            folder = "/"
        request = protocol.Configure(
            id=self._next_id(),
            spec=self.spec,
            device=self.device,
            seed=seed,
            budget_bytes=self.budget_bytes,
            environment=dict(environment),
            working_directory=folder,
            import_path=tuple(os.path.abspath(part) for part in sys.path),  # noqa: PTH100 - '' too
        )
        self._ask(request, protocol.Ready, timeout_s, "starting")

    def memory(self) -> HostMemory:
        """Return what the process holds of host memory now; ReadingError when it is gone."""
        if not self.alive:
            raise ReadingError(f"{self._name()} is gone: its memory cannot be read any more")
        return read_host_memory(self.pid)

    def kill(self) -> None:
        """End the process by SIGKILL at once, whatever it does; ``close`` is still needed."""
        self._killed = True
        self._process.kill()

    def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Free the model and end the process: by asking, then by SIGKILL.

        What a model's own ``close`` raises is logged. A second call does nothing.

        Args:
            timeout_s: how long to ask, and to wait for a request in progress, seconds.

        Returns:
            Nanoseconds from the order until the process was gone and waited for.

        Raises:
            WorkerTimeoutError: the kernel did not end the process.
        """
        with self._closing:
            if self._closed_ns is not None:
                return self._closed_ns
            started_ns = time.monotonic_ns()
            deadline = time.monotonic() + timeout_s
            if self.alive and self._lock.acquire(timeout=max(0.0, timeout_s)):
                try:
                    self._ask_to_end(deadline)
                finally:
                    self._lock.release()
            if self._process.wait(max(0.0, deadline - time.monotonic())) is None:
                self.kill()
                if self._process.wait(_KILL_S) is None:
                    raise WorkerTimeoutError(
                        f"{self._name()} was killed, but the kernel has not ended it within "
                        f"{_KILL_S:g} s (is it waiting for a disk or a driver?)",
                        pid=self.pid,
                    )
            closed_ns = time.monotonic_ns() - started_ns
            with self._lock:  # a request in another thread ends now, for its process has
                self._closed_ns = closed_ns
                self._channel.close()
                self._process.release()
            self._forget(self)
            return closed_ns

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "alive" if self.alive else str(self._process.status)
        return f"<Worker {self.tag!r} pid {self.pid} {state}>"

    def _next_id(self) -> int:
        self._serial += 1
        return self._serial

    def _name(self) -> str:
        return f"the worker of {self.tag!r} (process {self.pid})"

    def _ask(
        self,
        request: protocol.Request,
        expected: type[_Expected],
        timeout_s: float | None,
        doing: str,
        buffers: Sequence[memoryview] = (),
    ) -> tuple[_Expected, list[memoryview]]:
        parts = protocol.pack(request, buffers)
        with self._lock:
            if self._closed_ns is not None:
                raise UsageError(f"{self._name()} is closed: start another one")
            if self._broken is not None or not self.alive:
                raise self._describe_end(doing)
            reply, out = self._exchange(parts, timeout_s, doing)
            if isinstance(reply, protocol.Failed) and reply.id == request.id:
                raise self._revive(reply)
            if not isinstance(reply, expected) or reply.id != request.id:
                raise self._end(
                    f"answered {type(reply).__name__} {reply.id} to "
                    f"{type(request).__name__} {request.id}"
                )
            return reply, out

    def _exchange(
        self, parts: list[memoryview], timeout_s: float | None, doing: str
    ) -> tuple[protocol.Reply, list[memoryview]]:
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._channel.send_parts(parts)
            return self._channel.receive_reply()
        except _Expired:
            self._broken = f"gave no answer within {timeout_s:g} s while {doing}, and was killed"
            self._kill_and_wait()
            raise WorkerTimeoutError(
                f"{self._name()} {self._broken}", pid=self.pid, details=self._process.log.tail()
            ) from None
        except WorkerProtocolError as error:
            raise self._end(f"while {doing}: {error}") from error
        except (EOFError, OSError):
            if self._process.wait(_EXIT_NEWS_S) is None:
                raise self._end(f"closed its pipe while {doing}, and went on running") from None
            raise self._describe_end(doing) from None
        except BaseException:  # Ctrl-C: the answer to come would be taken for the next one's
            self._broken = f"was ended while {doing}, because the caller was interrupted"
            self.kill()
            raise

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), event)
        poll.register(self._process.pidfd, select.POLLIN)
        left_ms = None
        if self._deadline is not None:
            left_ms = max(0.0, self._deadline - time.monotonic()) * 1000
        ready = poll.poll(left_ms)
        if not ready:
            raise _Expired
        # What it said before it ended is read first. A process that it left behind may hold the
        # pipe open: the end of the process counts, not that of the pipe.
        if all(descriptor == self._process.pidfd for descriptor, _ in ready):
            raise EOFError("the process ended")

    def _ask_to_end(self, deadline: float) -> None:
        self._deadline = deadline
        try:
            self._channel.send(protocol.Close(id=self._next_id()))
            reply, _ = self._channel.receive_reply()
        except (_Expired, EOFError, OSError, WorkerProtocolError):
            return
        if isinstance(reply, protocol.Failed):
            _LOG.warning("%s: close() raised: %s", self._name(), self._revive(reply))

    def _revive(self, reply: protocol.Failed) -> ModelmgrError:
        return revive(reply.failure, pid=self.pid, output=self._process.log.tail())

    def _kill_and_wait(self) -> None:
        self._process.kill()
        self._process.wait(_KILL_S)

    def _end(self, why: str) -> WorkerProtocolError:
        self._broken = f"{why}; it was killed"
        self._kill_and_wait()
        return WorkerProtocolError(
            f"{self._name()} {self._broken}", pid=self.pid, details=self._process.log.tail()
        )

    def _describe_end(self, doing: str) -> WorkerError:
        status = self._process.status
        details = self._process.log.tail()
        if self._broken is not None or status is None:
            message = f"{self._name()} {self._broken or 'is ending'}"
            return WorkerDiedError(message, pid=self.pid, details=details)
        message = f"{self._name()} {status} while {doing}"
        if self._killed:
            message += ": kill() was called"
        elif self._ran_out_of_memory(details):
            return OutOfMemoryError(
                f"{message}: it ran out of memory",
                pid=self.pid,
                details=details,
                budget_bytes=self.budget_bytes,
            )
        elif status.signal == signal.SIGKILL and status.reason is None:
            message += ": somebody killed it, perhaps the kernel for lack of memory"
        return WorkerDiedError(
            message, pid=self.pid, details=details, exit_code=status.code, signal=status.signal
        )

    def _ran_out_of_memory(self, details: str | None) -> bool:
        """Return whether the kernel ended it for that, or native code said so before it gave up."""
        status = self._process.status
        if status is None or status.reason is not None or status.code == 0:
            return False
        if status.signal == signal.SIGKILL:
            kills = kernel_oom_kills()
            return kills is not None and self._oom_kills is not None and kills > self._oom_kills
        if self.budget_bytes is None and status.signal != signal.SIGABRT:
            return False
        # C++'s bad_alloc without a handler, OpenMP or OpenBLAS without room for a thread.
        return details is not None and is_out_of_memory(MemoryErrorText(details))


class MemoryErrorText(Exception):  # noqa: N818 - carries text to where errors are recognised
    """What a process printed, put where an error's text is looked at."""
