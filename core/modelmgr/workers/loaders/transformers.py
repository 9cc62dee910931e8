"""The ``transformers`` loader: an architecture with random weights, or weights from a folder.

``architecture: bert`` (any model type of the library) is built from its default config with the
list's overrides and needs no network. ``model:`` is a local folder, ``package:NAME/path`` or a hub
id; weights of safetensors files stay mapped from the file, as in production. Code that a model
brings along is never run.
"""
# ruff: noqa: ANN401 - transformers is imported when it is needed, its objects have no types here

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from modelmgr.errors import MissingPackageError, ModelLoadError, UsageError, WorkerError
from modelmgr.workers.loaders.arguments import CallArguments
from modelmgr.workers.loaders.dimensions import refuse_unknown
from modelmgr.workers.loaders.exhaustion import is_out_of_memory
from modelmgr.workers.loaders.fake import estimate_module
from modelmgr.workers.loaders.fingerprints import fingerprint_of, sampled_digest
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.hub import check_reachable, is_cached
from modelmgr.workers.loaders.inputs import KNOWN_DIMENSIONS, default_shapes, plan_inputs
from modelmgr.workers.loaders.messages import told
from modelmgr.workers.loaders.modules import (
    DTYPES,
    ModuleModel,
    check_device,
    torch_dtype,
    touch_pages,
)
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workers.loaders.rehearsal import rehearse
from modelmgr.workers.loaders.sources import could_be_hub_id, find_local
from modelmgr.workers.loaders.warmup import warm_up_torch
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec

_OPTIONS = ("auto_class", "attn_implementation")


class TransformersLoader:
    """Options: ``auto_class`` (``AutoModel``: no head; ``AutoModelForCausalLM`` …) and
    ``attn_implementation`` (the library's default: SDPA where the model has it).
    """  # noqa: D205 - the option list is the summary

    name = "transformers"
    preload: tuple[str, ...] = (
        "torch",
        "transformers",
        "transformers.modeling_utils",
        "transformers.models.auto.modeling_auto",
        "transformers.generation.utils",
        "transformers.masking_utils",
        "transformers.modeling_layers",
        "transformers.processing_utils",
        "transformers.integrations.sdpa_attention",
    )

    def check(self, spec: ModelSpec) -> None:
        """Raise UsageError for what can be seen to be wrong without the framework."""
        where = f"model {spec.tag!r}"
        if (spec.architecture is None) == (spec.model is None):
            raise UsageError(
                f"{where}: loader 'transformers' needs `architecture:` (random weights) or "
                "`model:` (a folder, package:NAME/path or hub id), and not both"
            )
        if spec.target is not None or spec.arguments:
            key = "target" if spec.target is not None else "arguments"
            raise UsageError(f"{where}: loader 'transformers' takes no `{key}`; use loader 'torch'")
        if spec.model is not None and spec.config:
            raise UsageError(
                f"{where}: `config` belongs to `architecture`; a model brings its own config"
            )
        if spec.dtype not in DTYPES:
            raise UsageError(
                f"{where}: {spec.dtype!r} is no dtype for weights{did_you_mean(spec.dtype, DTYPES)}"
            )
        for key in spec.options:
            if key not in _OPTIONS:
                hint = did_you_mean(key, _OPTIONS)
                raise UsageError(f"{where}: transformers has no option {key!r}{hint}")
        try:
            refuse_unknown(spec.input, KNOWN_DIMENSIONS, "a transformers model")
            if spec.model is not None:
                _find_folder(spec.model)
        except (ValueError, WorkerError) as error:
            raise UsageError(f"{where}: {error}") from error

    def prepare(self, spec: ModelSpec) -> None:
        """Import the architecture's own module and start torch's thread pools."""
        torch, _ = _import_quietly()
        config = _read_config(spec)
        model_class = _model_class(spec, config)
        warm_up_torch(torch)
        rehearse(torch, model_class, config, from_file=spec.model is not None)

    def load(self, spec: ModelSpec, *, device: str, seed: int) -> ModuleModel:
        """Build with random weights from ``seed``, or load the model's own."""
        self.check(spec)
        torch, _ = _import_quietly()
        check_device(torch, device)
        config = _read_config(spec)
        model_class = _model_class(spec, config)
        dtype = torch_dtype(torch, spec.dtype)
        try:
            if spec.model is None:
                torch.manual_seed(seed)
                module = _build(model_class, config, spec, dtype)
            else:
                module = model_class.from_pretrained(
                    str(_find_folder(spec.model) or spec.model),
                    dtype=dtype,
                    local_files_only=_is_local(spec.model),
                    **_attention(spec),
                )
            if spec.model is not None:
                touch_pages(torch, module)
            module = module.eval().to(device)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelLoadError(
                f"model {spec.tag!r}: {told(error)}",
                details=traceback.format_exc(),
            ) from error
        module.requires_grad_(requires_grad=False)
        plan = plan_inputs(module)

        def make_batch(dims: Mapping[str, int], batch_seed: int) -> CallArguments:
            batch = plan.draw(torch, dims, seed=batch_seed, dtype=dtype, device=device)
            return CallArguments((), batch)

        return ModuleModel(
            module,
            device=device,
            make_batch=make_batch,
            fingerprint=lambda: _fingerprint(spec, config),
        )

    def default_input(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """Return shapes that suit the architecture; a folder's is read from its config.json."""
        return default_shapes(spec.architecture or _folder_model_type(spec.model))

    def estimate(self, spec: ModelSpec, shapes: Sequence[Mapping[str, int]]) -> EstimateReport:
        """Build on the meta device and run on fake tensors; weights are never read."""
        self.check(spec)
        torch, _ = _import_quietly()
        config = _read_config(spec)
        model_class = _model_class(spec, config)
        dtype = torch_dtype(torch, spec.dtype)

        def make_fake_batch(module: Any, dims: Mapping[str, int]) -> CallArguments:
            return CallArguments((), plan_inputs(module).fake(torch, dims, dtype=dtype))

        return estimate_module(
            lambda: _build(model_class, config, spec, dtype).eval(), make_fake_batch, shapes
        )


def _import_quietly() -> tuple[Any, Any]:
    torch = import_framework("torch")
    transformers = import_framework("transformers")
    # A worker has nobody to show progress bars and advice to.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def _attention(spec: ModelSpec) -> dict[str, Any]:
    chosen = spec.options.get("attn_implementation")
    return {} if chosen is None else {"attn_implementation": chosen}


def _build(model_class: Any, config: Any, spec: ModelSpec, dtype: Any) -> Any:
    return model_class._from_config(config, dtype=dtype, **_attention(spec))  # noqa: SLF001


def _find_folder(model: str) -> Path | None:
    """Return the folder with the model's config.json, None for a hub id."""
    path = find_local(model)
    if path is None:
        return None
    if not path.is_dir():
        raise ModelLoadError(f"{model!r} is a file; give the folder that has its config.json")
    if (path / "config.json").is_file():
        return path
    # sentence-transformers keep the network in the folder of their first module.
    listed = path / "modules.json"
    if listed.is_file():
        modules: Any = json.loads(listed.read_text(encoding="utf-8"))
        first = path / str(modules[0].get("path", ""))
        if (first / "config.json").is_file():
            return first
    raise ModelLoadError(f"{model!r} has no config.json; is it a transformers model's folder?")


def _is_local(model: str) -> bool:
    return _find_folder(model) is not None or is_cached(model)


def _folder_model_type(model: str | None) -> str | None:
    try:
        folder = _find_folder(model) if model is not None else None
        text = (folder / "config.json").read_text(encoding="utf-8") if folder else "{}"
        found: Any = json.loads(text).get("model_type")
    except (OSError, ValueError, WorkerError):
        return None
    return found if isinstance(found, str) else None


def _read_config(spec: ModelSpec) -> Any:
    transformers = import_framework("transformers")
    if spec.architecture is not None:
        return _config_of_architecture(transformers, spec, spec.architecture)
    model = spec.model or ""
    local = _is_local(model)
    if not local:
        check_reachable(model)
    try:
        return transformers.AutoConfig.from_pretrained(
            str(_find_folder(model) or model), local_files_only=local
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(f"model {spec.tag!r}: {model!r}: {error}") from error


def _config_of_architecture(transformers: Any, spec: ModelSpec, architecture: str) -> Any:
    known = list(transformers.CONFIG_MAPPING.keys())
    if architecture not in known:
        hint = did_you_mean(architecture, known)
        raise UsageError(
            f"model {spec.tag!r}: transformers {transformers.__version__} has no architecture "
            f"{architecture!r}{hint}"
        )
    default = transformers.AutoConfig.for_model(architecture)
    attributes = {*default.to_dict(), *default.attribute_map}
    for key in spec.config:
        if key not in attributes:
            hint = did_you_mean(key, attributes)
            raise UsageError(
                f"model {spec.tag!r}: the config of {architecture!r} has no {key!r}{hint}"
            )
    try:
        return transformers.AutoConfig.for_model(architecture, **spec.config)
    except Exception as error:
        raise UsageError(f"model {spec.tag!r}: config: {error}") from error


def _model_class(spec: ModelSpec, config: Any) -> Any:
    """Return the class that the auto class has for this config; importing it is the point."""
    transformers = import_framework("transformers")
    name = str(spec.options.get("auto_class", "AutoModel"))
    auto_class: Any = getattr(transformers, name, None) if name.startswith("AutoModel") else None
    if auto_class is None:
        public = [entry for entry in dir(transformers) if entry.startswith("AutoModel")]
        hint = did_you_mean(name, public)
        raise UsageError(f"model {spec.tag!r}: transformers has no {name!r}{hint}")
    try:
        mapping: Any = auto_class._model_mapping  # noqa: SLF001 - there is no public way
        found: Any = mapping[type(config)]
    except (ImportError, KeyError) as error:
        if isinstance(error, ModuleNotFoundError):
            raise MissingPackageError(
                f"model {spec.tag!r}: {config.model_type!r} needs {error.name!r}, which is not "
                "installed"
            ) from error
        raise ModelLoadError(
            f"model {spec.tag!r}: transformers has no {name} for {config.model_type!r}"
        ) from error
    several = cast("Sequence[Any]", found if isinstance(found, (tuple, list)) else (found,))
    return several[0]


def _fingerprint(spec: ModelSpec, config: Any) -> str:
    folder = _find_folder(spec.model) if spec.model is not None else None
    files = sorted(folder.glob("*.safetensors")) if folder else []
    described: dict[str, Any] = config.to_dict()
    for key in ("_name_or_path", "transformers_version"):
        described.pop(key, None)
    return fingerprint_of(
        config=described,
        weights={path.name: sampled_digest(path) for path in files} or "random",
        hub_id=spec.model if spec.model and not folder and could_be_hub_id(spec.model) else None,
        dtype=spec.dtype,
        options=spec.options,
        torch=import_framework("torch").__version__,
        transformers=import_framework("transformers").__version__,
    )
