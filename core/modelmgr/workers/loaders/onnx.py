"""The ``onnx`` loader: an ONNX file run by ONNX Runtime, on the CPU or a CUDA device.

Inputs come from the file: a symbolic first axis is ``batch_size``, other symbolic axes are
dimensions by their own names (``NAME_AXIS`` where they have none). ``arguments`` override an input
by its name. The weights are the file's tensors; ONNX Runtime may hold them in another form.
"""
# ruff: noqa: ANN401 - onnxruntime is imported when it is needed, its objects have no types here

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from modelmgr.errors import ModelLoadError, UsageError, WorkerError
from modelmgr.workers.loaders.arguments import draw
from modelmgr.workers.loaders.dimensions import refuse_empty, refuse_unknown
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.fingerprints import fingerprint_of, sampled_digest
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.messages import text_of
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workers.loaders.onnx_file import tensor_bytes_in_file, weights_of_file
from modelmgr.workers.loaders.sources import find_file
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

_OPTIONS = ("arena",)
# What ONNX Runtime calls an element type, and what NumPy does.
_ELEMENT_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
# onnxruntime's levels: 3 is errors. Its warnings go to stderr, past every handler.
_LOG_ERRORS = 3


class OnnxModel:
    """An inference session with its inputs."""

    def __init__(self, session: Any, spec: ModelSpec, path: Path) -> None:
        self._session: Any = session
        self._path = path
        self._spec = spec
        self._inputs = _describe_inputs(session, spec)
        self.weights_bytes: int | None = tensor_bytes_in_file(path)

    @cached_property
    def fingerprint(self) -> str | None:
        """``sha256:…`` of the file; worked out when it is asked for."""
        return fingerprint_of(
            weights=sampled_digest(self._path),
            options=self._spec.options,
            onnxruntime=import_framework("onnxruntime").__version__,
        )

    def make_batch(self, dims: Mapping[str, int], seed: int) -> object:
        """Return random arrays by input name; ValueError where a dimension is unknown or open."""
        np = import_framework("numpy")
        named = [
            (name, entry)
            for name, argument in self._inputs.items()
            for entry in argument.shape or ()
            if isinstance(entry, str)
        ]
        refuse_unknown(dims, {entry for _, entry in named}, f"{self._path.name}")
        refuse_empty(dims)
        sizes = {"batch_size": 1, **dims}
        for name, entry in named:
            if entry not in sizes:
                raise ValueError(
                    f"dimension {entry!r} of input {name!r} has no size; name it under `input:`"
                )
        generator = np.random.default_rng(seed)
        return {
            name: np.asarray(draw(argument, sizes, generator), dtype=argument.dtype)
            for name, argument in self._inputs.items()
        }

    def infer(self, batch: object) -> object:
        """Run the session; all outputs, in the file's order. One array is the first input."""
        if isinstance(batch, Mapping):
            feed = dict(cast("Mapping[str, Any]", batch))
        else:
            values = cast("Sequence[Any]", batch if isinstance(batch, (list, tuple)) else (batch,))
            feed = dict(zip(self._inputs, values, strict=False))
        outputs: object = self._session.run(None, feed)
        return outputs

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _describe_inputs(session: Any, spec: ModelSpec) -> dict[str, ArgumentSpec]:
    overrides = {argument.name: argument for argument in spec.arguments}
    described: dict[str, ArgumentSpec] = {}
    for entry in session.get_inputs():
        dtype = _ELEMENT_TYPES.get(entry.type)
        if dtype is None:
            raise ModelLoadError(
                f"model {spec.tag!r}: input {entry.name!r} is a {entry.type}, of which no random "
                "batch can be made"
            )
        given = overrides.pop(entry.name, None)
        if given is None:
            shape = tuple(
                _axis(entry.name, number, size) for number, size in enumerate(entry.shape)
            )
            given = ArgumentSpec(name=entry.name, shape=shape, dtype=dtype)
        elif given.shape is None:
            given = ArgumentSpec(name=entry.name, value=given.value, dtype=dtype)
        described[entry.name] = given
    for name in overrides:
        hint = did_you_mean(str(name), described)
        raise UsageError(f"model {spec.tag!r}: the file has no input {name!r}{hint}")
    return described


def _axis(name: str, number: int, size: Any) -> int | str:
    if isinstance(size, int):
        return size
    if number == 0:
        return "batch_size"
    return str(size) if size else f"{name}_{number}"


class OnnxLoader:
    """Options: ``arena`` (ONNX Runtime's memory arena on the host; its default: true)."""

    name = "onnx"
    preload: tuple[str, ...] = ("numpy", "onnxruntime")

    def check(self, spec: ModelSpec) -> None:
        """Raise UsageError where the file is missing or a key does not belong here."""
        where = f"model {spec.tag!r}"
        if spec.model is None:
            raise UsageError(f"{where}: loader 'onnx' needs `model:`, a file or package:NAME/path")
        for key, value in (
            ("architecture", spec.architecture),
            ("config", spec.config),
            ("target", spec.target),
        ):
            if value:
                raise UsageError(f"{where}: loader 'onnx' takes no `{key}`")
        for key in spec.options:
            if key not in _OPTIONS:
                raise UsageError(
                    f"{where}: onnx has no option {key!r}{did_you_mean(key, _OPTIONS)}"
                )
        for argument in spec.arguments:
            if argument.name is None:
                raise UsageError(f"{where}: an argument of an ONNX model needs its input's name")
        try:
            find_file(spec.model)
        except WorkerError as error:
            raise UsageError(f"{where}: {error}") from error

    def prepare(self, spec: ModelSpec) -> None:
        """Import ONNX Runtime."""
        del spec
        import_framework("onnxruntime")

    def load(self, spec: ModelSpec, *, device: str, seed: int) -> OnnxModel:
        """Open a session; the arena is as ONNX Runtime has it unless ``arena: false``."""
        del seed
        self.check(spec)
        runtime = import_framework("onnxruntime")
        path = find_file(spec.model or "")
        options = runtime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS
        options.enable_cpu_mem_arena = bool(spec.options.get("arena", True))
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu":
            number = device.partition(":")[2] or "0"
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
            if "CUDAExecutionProvider" not in runtime.get_available_providers():
                raise ModelLoadError(
                    f"model {spec.tag!r}: this onnxruntime has no CUDA provider; install "
                    "onnxruntime-gpu, or profile on the host"
                )
        try:
            session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelLoadError(
                f"model {spec.tag!r}: onnxruntime cannot load {spec.model!r}: {text_of(error)}",
                details=traceback.format_exc(),
            ) from error
        if device != "cpu" and session.get_providers()[0] != "CUDAExecutionProvider":
            raise ModelLoadError(f"model {spec.tag!r}: onnxruntime could not use {device}")
        return OnnxModel(session, spec, path)

    def default_input(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """Return batches of 1 and 4."""
        del spec
        return {"batch_size": (1, 4)}

    def estimate(self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]]) -> EstimateReport:
        """Return the bytes of the file's tensors, the file's size where they cannot be read."""
        started_ns = time.monotonic_ns()
        self.check(spec)
        path = find_file(spec.model or "")
        found = weights_of_file(path, f"model {spec.tag!r}: {spec.model!r}")
        return EstimateReport(
            weights_bytes=path.stat().st_size if found is None else found,
            activation_bytes=(None,) * len(shapes),
            method="file-size",
            reason="what an ONNX model takes while it runs is known when it has been measured",
            elapsed_ns=time.monotonic_ns() - started_ns,
        )
