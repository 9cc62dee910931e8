"""The worker's side: takes one request after the other, answers it, and measures itself.

Runs in the process that holds the model, forked by ``forkserver`` or in a fresh interpreter. The
main thread does everything; a model may have threads of its own. Whatever a loader or a model
raises is an answer, never the end of the process. It imports no framework: loaders do.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.metadata
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from modelmgr.devices.process_memory import peak_reset_refusal, read_host_memory, reset_peak
from modelmgr.devices.process_tree import read_descendants
from modelmgr.errors import InferenceError, MeasurementError, UsageError
from modelmgr.workers import allocator, device_allocator, payload, process_control, protocol
from modelmgr.workers.failures import Stage, describe
from modelmgr.workers.loaders.base import LoadedModel, Loader
from modelmgr.workers.loaders.registry import get_loader
from modelmgr.workers.process_control import DataBudget
from modelmgr.workers.process_exit import end_children
from modelmgr.workers.protocol import Channel
from modelmgr.workers.reports import HostMemory, LoadReport, ShapeReport
from modelmgr.workload.model_spec import ModelSpec

_FRAMEWORKS = ("torch", "transformers", "onnxruntime", "numpy")
_PARENT_GONE = 0
_STAGES: dict[type[protocol.Request], Stage] = {
    protocol.Configure: "loading",
    protocol.Prepare: "loading",
    protocol.Load: "loading",
    protocol.Estimate: "estimating",
    protocol.Close: "closing",
}
_BROKEN = 70  # EX_SOFTWARE: an error of ours, its traceback is in the output


def main(arguments: list[str]) -> NoReturn:
    """Be a worker in a fresh interpreter. Arguments: the socket's descriptor, the server's pid."""
    allocator.use_policy("memory")  # before any framework is imported, or it comes too late
    status = _BROKEN
    try:
        status = run(int(arguments[0]), int(arguments[1]))
    except BaseException:  # noqa: BLE001 - nothing may keep this process alive
        traceback.print_exc()
    end_process(status)


def run(connection: int, parent_pid: int) -> int:
    """Serve requests on a socket until told to close or left alone; return the exit status."""
    process_control.tie_to_parent(parent_pid)
    process_control.leave_terminal()
    process_control.adopt_orphans()
    process_control.become_expendable()
    process_control.set_name("modelmgr-worker")
    # A crash in native code then leaves the Python lines that led there.
    faulthandler.enable(file=2)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]  # a replaced stream may lack it
    end = socket.socket(fileno=connection)
    end.set_inheritable(False)
    try:
        return _Child(Channel(end)).serve()
    finally:
        end_children()


def end_process(status: int) -> NoReturn:
    """End at once: frameworks take long to tear down, and nothing is worth saving."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


class _Child:
    """Holds the configuration and the model."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._configuration: protocol.Configure | None = None
        self._model: LoadedModel | None = None
        self._import_ns: int | None = None  # once the frameworks are there and rehearsed
        self._budget = DataBudget(None)

    def serve(self) -> int:
        """Answer requests until told to close or left alone; return the exit status."""
        while True:
            try:
                request, buffers = self._channel.receive_request()
            except (EOFError, ConnectionResetError):
                return _PARENT_GONE
            packed = self._answer(request, buffers)
            del buffers
            sys.stdout.flush()
            sys.stderr.flush()
            try:
                self._channel.send_packed(packed)
            except (BrokenPipeError, ConnectionResetError):
                return _PARENT_GONE
            if isinstance(request, protocol.Close):
                return 0

    def _answer(self, request: protocol.Request, buffers: list[memoryview]) -> protocol.Packed:
        self._budget.apply()
        try:
            return self._packed(*self._act(request, buffers))
        except BaseException as error:  # noqa: BLE001 - whatever a model raises is an answer
            self._budget.lift()
            failure = describe(
                error,
                stage=_STAGES.get(type(request), "running"),
                tag=self._tag_of(request),
                budget_bytes=self._budget.budget_bytes,
            )
            # The frames hold the tensors that did fit.
            with contextlib.suppress(Exception):
                traceback.clear_frames(error.__traceback__)
        allocator.give_back()
        return protocol.pack(protocol.Failed(id=request.id, failure=failure))

    def _act(
        self, request: protocol.Request, buffers: list[memoryview]
    ) -> tuple[protocol.Reply, list[memoryview]]:
        match request:
            case protocol.Configure():
                return self._configure(request), []
            case protocol.Prepare():
                self._prepare()
                return protocol.Prepared(id=request.id), []
            case protocol.Load():
                return self._load(request), []
            case protocol.RunShape():
                return self._run_shape(request), []
            case protocol.Infer():
                return self._infer(request, buffers)
            case protocol.Estimate():
                return self._estimate(request), []
            case protocol.Close():
                return self._close(request), []

    def _configure(self, request: protocol.Configure) -> protocol.Ready:
        for name in set(os.environ) - set(request.environment):
            del os.environ[name]
        os.environ.update(request.environment)
        # Where the folder is gone, the model may not need it.
        with contextlib.suppress(OSError):
            os.chdir(request.working_directory)
        # At the end: a stray file must not hide a framework's module.
        for folder in (*request.import_path, request.working_directory):
            if folder not in sys.path:
                sys.path.append(folder)
        importlib.invalidate_caches()
        process_control.set_name(f"mm:{request.spec.tag}")
        self._configuration = request
        if request.device == "cpu":
            self._budget = DataBudget(request.budget_bytes)
        return protocol.Ready(id=request.id, pid=os.getpid())

    def _load(self, request: protocol.Load) -> protocol.Loaded:
        configuration = self._configured()
        if self._model is not None:
            raise UsageError(f"{configuration.spec.tag!r} is loaded in this worker already")
        loader = get_loader(configuration.spec.loader)
        device = configuration.device
        import_ns = self._prepare()
        if configuration.budget_bytes is not None:
            device_allocator.limit(device, configuration.budget_bytes)
        allocator.give_back()
        reset_peak()
        before = read_host_memory()
        self._budget.start()
        started_ns = time.perf_counter_ns()
        model = loader.load(configuration.spec, device=device, seed=configuration.seed)
        load_ns = time.perf_counter_ns() - started_ns
        after = _settled(read_host_memory().peak_bytes)
        theirs = read_descendants(os.getpid())
        self._model = model
        return protocol.Loaded(
            id=request.id,
            report=LoadReport(
                load_ns=load_ns,
                import_ns=import_ns,
                before=before,
                after=after,
                weights_bytes=model.weights_bytes,
                device_allocated_bytes=device_allocator.allocated_bytes(device),
                device_peak_bytes=device_allocator.peak_bytes(device),
                fingerprint=model.fingerprint,
                packages=_versions(loader),
                descendants=theirs.processes,
                descendant_bytes=theirs.resident_bytes,
            ),
        )

    def _prepare(self) -> int:
        """Import and rehearse where that was not done yet; return what it took, nanoseconds."""
        if self._import_ns is None:
            configuration = self._configured()
            self._import_ns = _import_frameworks(
                get_loader(configuration.spec.loader),
                configuration.spec,
                rehearse=configuration.rehearse,
            )
        return self._import_ns

    def _run_shape(self, request: protocol.RunShape) -> protocol.ShapeDone:
        model, device = self._loaded(), self._configured().device
        allocator.use_policy(request.phase)
        try:
            batch = model.make_batch(request.dims, request.seed)
        except ValueError as error:
            raise UsageError(f"shape {request.dims}: {error}") from error
        for _ in range(request.warmups):
            model.infer(batch)
        allocator.give_back()
        refusal = peak_reset_refusal()
        if refusal is not None and request.phase == "memory":
            raise MeasurementError(f"the peak of one batch cannot be measured here: {refusal}")
        device_allocator.reset_peak(device)
        device_before_bytes = device_allocator.allocated_bytes(device)
        theirs_before = read_descendants(os.getpid())
        before = read_host_memory()
        latencies_ns: list[int] = []
        outputs: int | None = None
        for _ in range(request.repeats):
            started_ns = time.perf_counter_ns()
            output = model.infer(batch)
            latencies_ns.append(time.perf_counter_ns() - started_ns)
            outputs = payload.count_arrays(output)
            del output  # or the next batch's peak would have this one's outputs in it
        peak_bytes = read_host_memory().peak_bytes
        device_peak_bytes = device_allocator.peak_bytes(device)
        after = _settled(peak_bytes)
        theirs = max(
            theirs_before, read_descendants(os.getpid()), key=lambda held: held.resident_bytes
        )
        return protocol.ShapeDone(
            id=request.id,
            report=ShapeReport(
                dims=request.dims,
                phase=request.phase,
                before=before,
                after=after,
                latencies_ns=tuple(latencies_ns),
                warmups=request.warmups,
                tensor_peak_bytes=(
                    _tensor_peak(model, batch)
                    if request.phase == "memory" and request.count_tensors
                    else None
                ),
                device_peak_bytes=device_peak_bytes,
                device_before_bytes=device_before_bytes,
                outputs=outputs,
                descendants=theirs.processes,
                descendant_bytes=theirs.resident_bytes,
            ),
        )

    def _infer(
        self, request: protocol.Infer, buffers: list[memoryview]
    ) -> tuple[protocol.Reply, list[memoryview]]:
        output = self._loaded().infer(payload.decode(request.tree, buffers))
        try:
            tree, out = payload.encode(output, name="output")
        except UsageError as error:
            raise self._unsendable(error) from error
        return protocol.Outputs(id=request.id, tree=tree), out

    def _packed(self, reply: protocol.Reply, buffers: list[memoryview]) -> protocol.Packed:
        try:
            return protocol.pack(reply, buffers)
        except UsageError as error:
            raise self._unsendable(error) from error

    def _unsendable(self, error: UsageError) -> InferenceError:
        """Return what the model did wrong: its caller asked for nothing that cannot be sent."""
        return InferenceError(
            f"{self._configured().spec.tag!r} returned what cannot be sent: {error}"
        )

    def _estimate(self, request: protocol.Estimate) -> protocol.Estimated:
        spec = request.spec or self._configured().spec
        report = get_loader(spec.loader).estimate(spec, request.shapes)
        return protocol.Estimated(id=request.id, report=report)

    def _close(self, request: protocol.Close) -> protocol.Closed:
        model, self._model = self._model, None
        if model is not None:
            model.close()
        return protocol.Closed(id=request.id)

    def _tag_of(self, request: protocol.Request) -> str:
        if isinstance(request, protocol.Estimate) and request.spec is not None:
            return request.spec.tag
        return self._configuration.spec.tag if self._configuration else "?"

    def _configured(self) -> protocol.Configure:
        if self._configuration is None:
            raise UsageError("this worker was not told what it is for")
        return self._configuration

    def _loaded(self) -> LoadedModel:
        if self._model is None:
            raise UsageError(f"{self._configured().spec.tag!r} is not loaded: call load() first")
        return self._model


def _settled(peak_bytes: int) -> HostMemory:
    """Return what is held once garbage and free pages are gone, with the peak from before."""
    allocator.give_back()
    return msgspec.structs.replace(read_host_memory(), peak_bytes=peak_bytes)


def _import_frameworks(loader: Loader, spec: ModelSpec, *, rehearse: bool) -> int:
    started_ns = time.perf_counter_ns()
    for module in loader.preload:
        # A loader that misses its framework says so itself, with what to do about it.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    if rehearse:
        loader.prepare(spec)
    return time.perf_counter_ns() - started_ns


def _tensor_peak(model: LoadedModel, batch: object) -> int | None:
    tensor_peak: Callable[[object], Any] | None = getattr(model, "tensor_peak", None)
    found = None if tensor_peak is None else tensor_peak(batch)
    return None if found is None else int(found)


def _versions(loader: Loader) -> dict[str, str]:
    names = dict.fromkeys((*(module.partition(".")[0] for module in loader.preload), *_FRAMEWORKS))
    versions: dict[str, str] = {}
    for name in names:
        if name in sys.modules:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
    return versions
