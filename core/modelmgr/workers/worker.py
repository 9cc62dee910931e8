"""One loaded copy as the library holds it: an object whose model lives in a process of its own.

Owns what can be asked of a model; how answers are waited for, and what becomes of a process that
gives none, is ``conversation``'s work. It never imports a framework.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from modelmgr.devices.process_memory import read_host_memory
from modelmgr.devices.process_tree import DescendantMemory, read_descendants
from modelmgr.errors import ReadingError, UsageError, WorkerProtocolError
from modelmgr.workers import payload, protocol
from modelmgr.workers.conversation import Conversation
from modelmgr.workers.process import WorkerProcess
from modelmgr.workers.reports import EstimateReport, HostMemory, LoadReport, ShapeReport
from modelmgr.workers.shared_arrays import Segment
from modelmgr.workload.model_spec import ModelSpec

CLOSE_TIMEOUT_S = 10.0


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
        self._talk = Conversation(process, connection, tag=spec.tag, budget_bytes=budget_bytes)
        self._forget = forget

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._talk.alive

    def prepare(self, *, timeout_s: float | None) -> None:
        """Import and rehearse what ``load`` needs, which then has only to load; errors as ``load``.

        Nobody must: ``load`` does it where it was not done, or failed.
        """
        request = protocol.Prepare(id=self._talk.next_id())
        self._talk.ask(request, protocol.Prepared, timeout_s, "loading")

    @property
    def close_problem(self) -> str | None:
        """What the model did instead of closing, in words; known once ``close`` has returned."""
        return self._talk.close_problem

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
        request = protocol.Load(id=self._talk.next_id())
        reply, _ = self._talk.ask(request, protocol.Loaded, timeout_s, "loading")
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
        count_tensors: bool = True,
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
            count_tensors: whether the memory phase runs the batch once more, slowly, for the
                framework's own count of its tensors.

        Raises:
            UsageError: the model does not know a dimension, or nothing is loaded.
            InferenceError: the model raised.
            MeasurementError: this kernel does not tell a batch's peak.
            OutOfMemoryError, WorkerTimeoutError, WorkerDiedError, WorkerProtocolError: as ``load``.
        """
        if warmups < 0 or repeats < 1:
            raise UsageError(f"{repeats} batches after {warmups} warm-ups: 1 after 0 are the least")
        request = protocol.RunShape(
            id=self._talk.next_id(),
            dims=dict(dims),
            phase=phase,
            warmups=warmups,
            repeats=repeats,
            seed=seed,
            count_tensors=count_tensors,
        )
        what = ", ".join(f"{name}={size}" for name, size in dims.items()) or "a batch"
        reply, _ = self._talk.ask(request, protocol.ShapeDone, timeout_s, f"running {what}")
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
        tree, out = self._infer(*payload.encode(batch), timeout_s)
        try:
            return payload.decode(tree, out.copies() if isinstance(out, Segment) else out)
        except WorkerProtocolError as error:
            raise self._talk.refuse(f"returned {error}") from error
        finally:
            if isinstance(out, Segment):
                out.memory.close()

    def infer_encoded(
        self,
        tree: object,
        buffers: Sequence[memoryview] | Segment,
        *,
        timeout_s: float | None = None,
    ) -> tuple[object, list[memoryview] | Segment]:
        """Run one batch for another process: as ``payload`` has encoded it, and the output too.

        Arrays in shared memory go on as they came, both ways; the output's are the caller's to
        close.

        Args:
            tree: the batch without its arrays' bytes; one that ``payload`` decodes.
            buffers: those.
            timeout_s: seconds; None waits for ever.

        Raises:
            UsageError: nothing is loaded.
            InferenceError, OutOfMemoryError, WorkerTimeoutError, WorkerDiedError,
                WorkerProtocolError: as ``infer``.
        """
        found, out = self._infer(tree, buffers, timeout_s)
        try:
            payload.decode(found, out.views() if isinstance(out, Segment) else out)
        except WorkerProtocolError as error:
            raise self._talk.refuse(f"returned {error}") from error
        return found, out

    def _infer(
        self, tree: object, buffers: Sequence[memoryview] | Segment, timeout_s: float | None
    ) -> tuple[object, list[memoryview] | Segment]:
        request = protocol.Infer(id=self._talk.next_id(), tree=tree)
        reply, out = self._talk.ask(request, protocol.Outputs, timeout_s, "inferring", buffers)
        return reply.tree, out

    def estimate(
        self,
        shapes: Sequence[Mapping[str, int]],
        *,
        timeout_s: float | None,
        spec: ModelSpec | None = None,
    ) -> EstimateReport:
        """Guess the model's size without loading it; errors as ``load``.

        Args:
            shapes: the shapes to guess activations for.
            timeout_s: seconds; None waits for ever.
            spec: guess another model instead: what the frameworks imported for one serves all.
        """
        request = protocol.Estimate(
            id=self._talk.next_id(), shapes=tuple(dict(s) for s in shapes), spec=spec
        )
        reply, _ = self._talk.ask(request, protocol.Estimated, timeout_s, "estimating")
        return reply.report

    def configure(
        self, *, seed: int, environment: Mapping[str, str], rehearse: bool, timeout_s: float
    ) -> None:
        """Tell a new process what it is for; the launcher does this once."""
        try:
            folder = os.getcwd()  # noqa: PTH109 - as text, and it may be gone
        except FileNotFoundError:
            folder = "/"
        request = protocol.Configure(
            id=self._talk.next_id(),
            spec=self.spec,
            device=self.device,
            seed=seed,
            budget_bytes=self.budget_bytes,
            rehearse=rehearse,
            environment=dict(environment),
            working_directory=folder,
            import_path=tuple(os.path.abspath(part) for part in sys.path),  # noqa: PTH100 - '' too
        )
        self._talk.ask(request, protocol.Ready, timeout_s, "starting")

    def memory(self) -> HostMemory:
        """Return what the process holds of host memory now; ReadingError when it is gone."""
        if not self.alive:
            raise ReadingError(f"{self._talk.name} is gone: its memory cannot be read any more")
        return read_host_memory(self.pid)

    def descendant_memory(self) -> DescendantMemory:
        """Return how many processes the model started, and what they hold of host memory now.

        Raises:
            ReadingError: the worker is gone, or one of them cannot be read.
        """
        if not self.alive:
            raise ReadingError(f"{self._talk.name} is gone: its memory cannot be read any more")
        return read_descendants(self.pid)

    def kill(self) -> None:
        """End the process by SIGKILL at once, whatever it does; ``close`` is still needed."""
        self._talk.kill()

    def close(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Free the model and end the process: by asking, then by SIGKILL.

        What a model's own ``close`` raises is logged, and in ``close_problem``. A second call does
        nothing.

        Args:
            timeout_s: how long to ask, and to wait for a request in progress, seconds.

        Returns:
            Nanoseconds from the order until the process was gone and waited for.

        Raises:
            WorkerTimeoutError: the kernel did not end the process.
        """
        elapsed_ns = self._talk.close(timeout_s)
        self._forget(self)
        return elapsed_ns

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
        return f"<Worker {self.tag!r} pid {self.pid} {'alive' if self.alive else 'gone'}>"
