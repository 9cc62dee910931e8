"""The ``torch`` loader: TorchScript, a ``torch.export`` archive, or a module class with weights.

``model:`` alone is a TorchScript file or a ``.pt2`` archive. ``target: module:Class`` is called
with ``options`` and gives a module with random weights; with ``model:`` beside it, that file's
state dict (``.safetensors``, or a checkpoint read with ``weights_only``) is loaded into it. What
the module is called with stands under ``arguments``. No pickle that could run code is ever read.
"""
# ruff: noqa: ANN401 - torch is imported when it is needed, its objects have no types here

from __future__ import annotations

import time
import traceback
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from modelmgr.errors import ModelLoadError, UsageError, WorkerError
from modelmgr.workers.loaders.arguments import (
    CallArguments,
    check_arguments,
    draw_arguments,
)
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.fake import estimate_module
from modelmgr.workers.loaders.fingerprints import fingerprint_of, sampled_digest
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.messages import told
from modelmgr.workers.loaders.modules import (
    DTYPES,
    ModuleModel,
    check_device,
    torch_dtype,
    touch_pages,
)
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workers.loaders.sources import find_file
from modelmgr.workers.loaders.targets import call_target, check_target, find_target
from modelmgr.workers.loaders.warmup import warm_up_torch
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec


class TorchLoader:
    """Loads modules that torch itself can run."""

    name = "torch"
    preload: tuple[str, ...] = ("numpy", "torch")

    def check(self, spec: ModelSpec) -> None:
        """Raise UsageError for what can be seen to be wrong without torch."""
        where = f"model {spec.tag!r}"
        if spec.model is None and spec.target is None:
            raise UsageError(
                f"{where}: loader 'torch' needs `model:` (a TorchScript file or .pt2 archive) or "
                "`target: module:Class`"
            )
        if spec.architecture is not None or spec.config:
            raise UsageError(f"{where}: `architecture` and `config` belong to 'transformers'")
        if spec.options and spec.target is None:
            raise UsageError(f"{where}: `options` are the target's, and there is no `target`")
        if spec.dtype not in DTYPES:
            raise UsageError(
                f"{where}: {spec.dtype!r} is no dtype for weights{did_you_mean(spec.dtype, DTYPES)}"
            )
        if not spec.arguments:
            raise UsageError(
                f"{where}: loader 'torch' needs `arguments:`, what the module is called with, for "
                "example [{shape: [batch_size, 512]}]"
            )
        if spec.target is not None:
            check_target(spec)
        check_arguments(spec, known_dims=spec.input or self.default_input(spec))
        try:
            path = find_file(spec.model) if spec.model is not None else None
        except WorkerError as error:
            raise UsageError(f"{where}: {error}") from error
        if path is not None and spec.target is None and _kind(path) == "state-dict":
            raise UsageError(
                f"{where}: {spec.model!r} holds weights and no code; name the class that they "
                "belong to as `target: module:Class`"
            )

    def prepare(self, spec: ModelSpec) -> None:
        """Import the target's module and start torch's thread pools."""
        torch = import_framework("torch")
        if spec.target is not None:
            check_target(spec)
            find_target(spec.target)
        warm_up_torch(torch)

    def load(self, spec: ModelSpec, *, device: str, seed: int) -> ModuleModel:
        """Load the file, or call the target and load the file into it."""
        self.check(spec)
        torch = import_framework("torch")
        check_device(torch, device)
        path = find_file(spec.model) if spec.model is not None else None
        torch.manual_seed(seed)
        try:
            if spec.target is not None:
                module = _build(torch, spec, spec.target)
                if path is not None:
                    module.load_state_dict(_read_state_dict(torch, path), assign=True)
                module = module.to(torch_dtype(torch, spec.dtype)).eval().to(device)
            else:
                module = _read_program(torch, path or Path(), device)
            if path is not None:
                touch_pages(torch, module)
        except (UsageError, WorkerError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelLoadError(
                f"model {spec.tag!r}: {spec.model or spec.target}: {told(error)}",
                details=traceback.format_exc(),
            ) from error

        def make_batch(dims: Mapping[str, int], batch_seed: int) -> CallArguments:
            return _draw(torch, spec, dims, seed=batch_seed, device=device)

        def fingerprint() -> str:
            return fingerprint_of(
                weights=sampled_digest(path) if path is not None else "random",
                target=spec.target,
                options=spec.options,
                dtype=spec.dtype,
                torch=torch.__version__,
            )

        return ModuleModel(module, device=device, make_batch=make_batch, fingerprint=fingerprint)

    def default_input(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """Return batches of 1 and 4, or one fixed shape where no argument names a batch."""
        named = any("batch_size" in (argument.shape or ()) for argument in spec.arguments)
        return {"batch_size": (1, 4)} if named else {}

    def estimate(self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]]) -> EstimateReport:
        """Run a target on fake tensors; of a file alone, only the stored tensors' size is known."""
        started_ns = time.monotonic_ns()
        self.check(spec)
        if spec.target is None:
            path = find_file(spec.model or "")
            return EstimateReport(
                weights_bytes=_stored_bytes(path),
                activation_bytes=(None,) * len(shapes),
                method="file-size",
                reason="what a compiled program takes is known when it has been measured",
                elapsed_ns=time.monotonic_ns() - started_ns,
            )
        torch = import_framework("torch")
        target = spec.target

        def make_fake_batch(module: Any, dims: Mapping[str, int]) -> CallArguments:
            del module
            return _draw_fake(torch, spec, dims)

        return estimate_module(lambda: _build_outline(torch, spec, target), make_fake_batch, shapes)


def _build(torch: Any, spec: ModelSpec, target: str) -> Any:
    module = call_target(target, find_target(target), spec.options)
    if not isinstance(module, torch.nn.Module):
        raise ModelLoadError(
            f"target {target!r} returned a {type(module).__name__}, which is no torch.nn.Module; "
            "use loader 'python' for other objects"
        )
    return module


def _build_outline(torch: Any, spec: ModelSpec, target: str) -> Any:
    return _build(torch, spec, target).to(torch_dtype(torch, spec.dtype)).eval()


def _draw(
    torch: Any, spec: ModelSpec, dims: Mapping[str, int], *, seed: int, device: str
) -> CallArguments:
    np = import_framework("numpy")
    drawn = draw_arguments(spec.arguments, dims, seed)
    unnamed = [argument for argument in spec.arguments if argument.name is None]
    named = {argument.name: argument for argument in spec.arguments}

    def sent(argument: ArgumentSpec, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return torch.from_numpy(value).to(device=device, dtype=getattr(torch, argument.dtype))

    return CallArguments(
        tuple(map(sent, unnamed, drawn.positional)),
        {name: sent(named[name], value) for name, value in drawn.named.items()},
    )


def _draw_fake(torch: Any, spec: ModelSpec, dims: Mapping[str, int]) -> CallArguments:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in spec.arguments:
        value: Any = argument.value
        if argument.shape is not None:
            shape = [dims[entry] if isinstance(entry, str) else entry for entry in argument.shape]
            value = torch.empty(shape, dtype=getattr(torch, argument.dtype))
        if argument.name is None:
            positional.append(value)
        else:
            named[argument.name] = value
    return CallArguments(tuple(positional), named)


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError):
        return []


def _kind(path: Path) -> str:
    """Return ``script``, ``export`` or ``state-dict`` by what the archive holds."""
    if path.suffix == ".pt2":
        return "export"
    inside = {entry.filename.partition("/")[2] for entry in _entries(path)}
    # Files of torch's archive formats: only TorchScript has constants.pkl, only export its tag.
    if "archive_format" in inside:
        return "export"
    return "script" if "constants.pkl" in inside else "state-dict"


def _stored_bytes(path: Path) -> int:
    """Return the bytes of the tensors in a torch archive, or the file's size for other files."""
    sizes = [
        entry.file_size
        for entry in _entries(path)
        if {"data", "constants"} & set(Path(entry.filename).parts[:-1])
        and Path(entry.filename).suffix not in {".json", ".pkl"}
    ]
    return sum(sizes) if sizes else path.stat().st_size


def _read_program(torch: Any, path: Path, device: str) -> Any:
    if _kind(path) == "export":
        # An exported program has one mode, the one it was exported in.
        return torch.export.load(str(path)).module().to(device)
    with warnings.catch_warnings():
        # torch 2.13 says so at each load; such files are in use all the same.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*deprecated")
        return torch.jit.load(str(path), map_location=device).eval()


def _read_state_dict(torch: Any, path: Path) -> Any:
    if path.suffix == ".safetensors":
        return import_framework("safetensors.torch").load_file(str(path))
    content: Any = torch.load(str(path), map_location="cpu", weights_only=True)
    # Training checkpoints keep the weights beside other things.
    for key in ("state_dict", "model_state_dict", "model", "model_state"):
        inside: Any = cast("Mapping[str, Any]", content).get(key) if _is_mapping(content) else None
        if _is_mapping(inside):
            return inside
    return content


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)
