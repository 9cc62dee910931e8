"""TorchScript, exported programs and state dicts run; a pickle that would run code does not."""

from __future__ import annotations

import importlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

from modelmgr.errors import ModelLoadError, UsageError
from modelmgr.workers.loaders.torch import TorchLoader
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

pytestmark = pytest.mark.torch

_ROWS = ArgumentSpec(shape=("batch_size", 6))
_LINEAR = {"in_features": 6, "out_features": 4}
_LINEAR_BYTES = (6 * 4 + 4) * 4


@pytest.fixture(scope="module")
def torch() -> Any:
    return importlib.import_module("torch")


def _spec(**rest: Any) -> ModelSpec:
    rest.setdefault("arguments", (_ROWS,))
    return ModelSpec(tag="net", loader="torch", **rest)


def _linear(**rest: Any) -> ModelSpec:
    return _spec(target="torch.nn:Linear", options=_LINEAR, **rest)


def _script(torch: Any, path: Path) -> Any:
    module = torch.nn.Linear(**_LINEAR).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(module, torch.ones(1, 6)).save(str(path))
    return module


def test_a_target_is_built_from_its_options_and_the_seed() -> None:
    loader = TorchLoader()
    models = [loader.load(_linear(), device="cpu", seed=seed) for seed in (1, 1, 2)]
    outputs: list[Any] = [model.infer(model.make_batch({"batch_size": 3}, 0)) for model in models]
    assert outputs[0].shape == (3, 4)
    assert outputs[0].equal(outputs[1])
    assert not outputs[0].equal(outputs[2])
    assert models[0].weights_bytes == _LINEAR_BYTES
    assert models[0].tensor_peak(models[0].make_batch({"batch_size": 3}, 0)) == 3 * 4 * 4


def test_a_torchscript_file_runs_and_is_counted(torch: Any, tmp_path: Path) -> None:
    module = _script(torch, tmp_path / "net.pt")
    spec = _spec(model=str(tmp_path / "net.pt"))
    model = TorchLoader().load(spec, device="cpu", seed=0)
    batch: Any = model.make_batch({"batch_size": 2}, seed=0)
    output: Any = model.infer(batch)
    assert output.equal(module(batch.positional[0]))
    assert model.weights_bytes == _LINEAR_BYTES
    report = TorchLoader().estimate(spec, [{"batch_size": 1}])
    assert (report.weights_bytes, report.activation_bytes) == (_LINEAR_BYTES, (None,))
    assert report.method == "file-size"
    assert report.reason


def test_an_exported_program_runs(torch: Any, tmp_path: Path) -> None:
    module = torch.nn.Linear(**_LINEAR).eval()
    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(module, (torch.ones(2, 6),), dynamic_shapes=({0: rows},))
    torch.export.save(program, str(tmp_path / "net.pt2"))
    model = TorchLoader().load(_spec(model=str(tmp_path / "net.pt2")), device="cpu", seed=0)
    output: Any = model.infer(model.make_batch({"batch_size": 5}, seed=0))
    assert output.shape == (5, 4)
    assert model.weights_bytes == _LINEAR_BYTES


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_state_dict_goes_into_its_class(torch: Any, tmp_path: Path, suffix: str) -> None:
    weights: dict[str, Any] = torch.nn.Linear(**_LINEAR).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": weights, "epoch": 3}, path)
    else:
        importlib.import_module("safetensors.torch").save_file(weights, str(path))
    model = TorchLoader().load(_linear(model=str(path)), device="cpu", seed=0)
    assert model.module.weight.equal(weights["weight"])
    with pytest.raises(UsageError, match="holds weights and no code; name the class"):
        TorchLoader().check(_spec(model=str(path)))


class _Trap:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_a_pickle_that_would_run_code_is_refused(torch: Any, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for path in (tmp_path / "new.pt", tmp_path / "old.pt"):
        if path.name == "new.pt":
            torch.save({"weight": _Trap(sprung)}, path)
        else:
            path.write_bytes(pickle.dumps(_Trap(sprung), protocol=2))
        with pytest.raises(ModelLoadError, match="UnpicklingError"):
            TorchLoader().load(_linear(model=str(path)), device="cpu", seed=0)
    assert not sprung.exists()


def test_weights_that_do_not_fit_the_class_are_a_load_error(torch: Any, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ModelLoadError, match="size mismatch for weight"):
        TorchLoader().load(_linear(model=str(tmp_path / "other.pt")), device="cpu", seed=0)


def test_an_object_that_is_no_module_is_refused() -> None:
    with pytest.raises(ModelLoadError, match=r"is no torch\.nn.Module; use loader 'python'"):
        TorchLoader().load(_spec(target="builtins:dict"), device="cpu", seed=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "needs `model:`"),
        ({"target": "a:b", "arguments": ()}, "needs `arguments:`"),
        ({"target": "a:b", "architecture": "bert"}, "belong to 'transformers'"),
        ({"model": "./none.pt"}, r"there is no './none\.pt'"),
        ({"model": "none.pt", "options": {"a": 1}}, "there is no `target`"),
        ({"target": "a:b", "dtype": "float23"}, "did you mean 'float32'"),
        ({"target": "a"}, "write `module:callable`"),
        ({"target": "a:b", "input": {"rows": (1,)}}, "names a dimension 'batch_size' that input"),
    ],
)
def test_check_sees_what_is_wrong_without_torch(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TorchLoader().check(_spec(**spec))


def test_a_target_is_estimated_on_fake_tensors() -> None:
    options = {"d_model": 32, "nhead": 2, "dim_feedforward": 64, "batch_first": True}
    arguments = (ArgumentSpec(shape=("batch_size", "sequence_length", 32)),)
    spec = _spec(target="torch.nn:TransformerEncoderLayer", options=options, arguments=arguments)
    spec = ModelSpec(
        tag="layer",
        loader="torch",
        target=spec.target,
        options=options,
        arguments=arguments,
        input={"batch_size": (2,), "sequence_length": (16,)},
    )
    shape = spec.shapes()[0]
    report = TorchLoader().estimate(spec, [shape])
    model = TorchLoader().load(spec, device="cpu", seed=0)
    assert report.weights_bytes == model.weights_bytes
    assert report.activation_bytes[0] is not None
    assert report.method == "fake-tensor"


def test_silero_forgets_its_state_when_the_batch_size_changes() -> None:
    spec = ModelSpec(
        tag="silero",
        loader="torch",
        model="package:silero_vad/data/silero_vad.jit",
        arguments=(ArgumentSpec(shape=("batch_size", 512)), ArgumentSpec(value=16_000)),
    )
    model = TorchLoader().load(spec, device="cpu", seed=0)
    fresh: Any = model.infer(model.make_batch({"batch_size": 2}, seed=0))
    model.infer(model.make_batch({"batch_size": 3}, seed=0))
    again: Any = model.infer(model.make_batch({"batch_size": 2}, seed=0))
    assert again.equal(fresh)
    report = TorchLoader().estimate(spec, [{}])
    assert report.weights_bytes == model.weights_bytes
