"""Any object with infer(batch) can be loaded, and every way to get that wrong has its message."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelmgr.errors import MissingPackageError, ModelLoadError, UsageError
from modelmgr.workers.loaders.python import PythonLoader
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

_MODULE = """
import sys

class Model:
    def __init__(self, size=1):
        self.size = size
        self.closed = 0
        self.fingerprint = "sha256:mine"

    def infer(self, batch):
        return batch

    def close(self):
        self.closed += 1

class Chatty(Model):
    weights_bytes = 40

    def make_batch(self, dims, seed):
        return (dims, seed)

    @classmethod
    def estimate(cls, shapes, size=1):
        return {"weights_bytes": 40 * size, "activation_bytes": [d["batch_size"] for d in shapes]}

class Weighed(Model):
    def __init__(self, weights_bytes):
        super().__init__()
        self.weights_bytes = weights_bytes

def broken(**options):
    raise LookupError("no weights here")

def exhausted():
    raise MemoryError("full")

def guess():
    return Model()

guess.estimate = lambda shapes: {"weights_bytes": -1}
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "their_models", raising=False)
    (tmp_path / "their_models.py").write_text(_MODULE, encoding="utf-8")
    return tmp_path


def _spec(target: str | None, **rest: Any) -> ModelSpec:
    return ModelSpec(tag="mine", loader="python", target=target, **rest)


@pytest.mark.usefixtures("folder")
def test_a_module_in_the_current_folder_is_found_and_gets_its_options() -> None:
    model = PythonLoader().load(
        _spec("their_models:Model", options={"size": 7}), device="cpu", seed=0
    )
    assert model.infer("batch") == "batch"
    assert model.weights_bytes is None
    assert model.fingerprint == "sha256:mine"


@pytest.mark.usefixtures("folder")
def test_close_reaches_the_object_once() -> None:
    PythonLoader().prepare(_spec("their_models:Model"))
    model = PythonLoader().load(_spec("their_models:Model"), device="cpu", seed=0)
    instance: Any = model.instance
    model.close()
    model.close()
    assert instance.closed == 1


@pytest.mark.usefixtures("folder")
def test_the_object_may_make_its_own_batches() -> None:
    model = PythonLoader().load(_spec("their_models:Chatty"), device="cpu", seed=0)
    assert model.make_batch({"batch_size": 2}, seed=9) == ({"batch_size": 2}, 9)
    assert model.weights_bytes == 40


@pytest.mark.usefixtures("folder")
def test_without_arguments_the_batch_is_the_shape() -> None:
    model = PythonLoader().load(_spec("their_models:Model"), device="cpu", seed=0)
    assert model.make_batch({"batch_size": 2}, seed=0) == {"batch_size": 2}


@pytest.mark.usefixtures("folder")
def test_arguments_become_arrays_that_the_seed_decides() -> None:
    arguments = (
        ArgumentSpec(name="ids", shape=("batch_size", 5), dtype="int64", high=10),
        ArgumentSpec(name="mask", shape=("batch_size",), dtype="bool"),
        ArgumentSpec(name="rate", value=16_000),
    )
    spec = _spec("their_models:Model", arguments=arguments, input={"batch_size": (3,)})
    model = PythonLoader().load(spec, device="cpu", seed=0)
    batch: Any = model.make_batch({"batch_size": 3}, seed=1)
    again: Any = model.make_batch({"batch_size": 3}, seed=1)
    other: Any = model.make_batch({"batch_size": 3}, seed=2)
    assert batch["ids"].shape == (3, 5)
    assert batch["ids"].max() < 10
    assert batch["mask"].all()
    assert batch["rate"] == 16_000
    assert np.array_equal(batch["ids"], again["ids"])
    assert not np.array_equal(batch["ids"], other["ids"])
    with pytest.raises(ValueError, match="no dimension 'length'; known: batch_size"):
        model.make_batch({"batch_size": 3, "length": 1}, seed=0)
    with pytest.raises(ValueError, match=r"'batch_size' .* has no size"):
        model.make_batch({}, seed=0)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        model.make_batch({"batch_size": 0}, seed=0)


@pytest.mark.usefixtures("folder")
def test_one_unnamed_argument_is_the_array_itself() -> None:
    spec = _spec("their_models:Model", arguments=(ArgumentSpec(shape=(2, 2), dtype="float16"),))
    model = PythonLoader().load(spec, device="cpu", seed=0)
    batch: Any = model.make_batch({}, seed=0)
    assert (batch.shape, batch.dtype) == ((2, 2), np.float16)
    assert PythonLoader().default_input(spec) == {}


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (
            "their_modles:x",
            ModelLoadError,
            "no module named 'their_modles'; is its folder",
        ),
        ("their_models:Modle", ModelLoadError, "did you mean 'Model'"),
        ("their_models:number", ModelLoadError, "is a int and cannot be called"),
        ("their_models:broken", ModelLoadError, "raised LookupError: no weights here"),
        ("their_models:sys.getsizeof", ModelLoadError, "raised TypeError"),
        ("builtins:dict", ModelLoadError, r"returned a dict, which has no infer\(batch\)"),
        (
            "needy:load",
            MissingPackageError,
            "'nowhere_to_be_found', which is not installed",
        ),
        ("wrong:load", ModelLoadError, "importing 'wrong' raised ZeroDivisionError"),
    ],
)
def test_each_failure_says_what_and_why(
    folder: Path, target: str, kind: type[Exception], message: str
) -> None:
    (folder / "needy.py").write_text("import nowhere_to_be_found.inside\n", encoding="utf-8")
    (folder / "wrong.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(kind, match=message) as caught:
        PythonLoader().load(_spec(target), device="cpu", seed=0)
    assert type(caught.value) is kind


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("said", [-5, 1.5, True, "12 MB", [1]])
def test_weights_that_are_no_size_are_refused_and_not_taken_for_unknown(said: object) -> None:
    spec = _spec("their_models:Weighed", options={"weights_bytes": said})
    with pytest.raises(ModelLoadError, match=r"weights_bytes of what .*Weighed.* must be bytes"):
        PythonLoader().load(spec, device="cpu", seed=0)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("said", [None, 0, 40, np.int64(40)])
def test_weights_are_what_the_object_says(said: Any) -> None:
    spec = _spec("their_models:Weighed", options={"weights_bytes": said})
    assert PythonLoader().load(spec, device="cpu", seed=0).weights_bytes == said


@pytest.mark.usefixtures("folder")
def test_a_memory_error_reaches_the_worker_as_what_it_is() -> None:
    with pytest.raises(MemoryError, match="full"):
        PythonLoader().load(_spec("their_models:exhausted"), device="cpu", seed=0)


@pytest.mark.parametrize("target", [None, "their_models", "their models:x", ":x", "a:", "a:b c"])
def test_a_target_that_is_none_is_refused_without_importing(target: str | None) -> None:
    with pytest.raises(UsageError, match="module:callable"):
        PythonLoader().check(_spec(target))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (ArgumentSpec(), "a shape or a value"),
        (ArgumentSpec(shape=(1,), value=1), "not both"),
        (ArgumentSpec(shape=("bach_size",)), "did you mean 'batch_size'"),
        (ArgumentSpec(shape=(1,), dtype="float23"), "did you mean 'float32'"),
        (ArgumentSpec(shape=(1,), high=0), "high must be at least 1"),
        (ArgumentSpec(shape=(-1,)), "negative size: -1"),
    ],
)
def test_an_argument_that_cannot_be_drawn_is_refused(argument: ArgumentSpec, message: str) -> None:
    spec = _spec("their_models:Model", arguments=(argument,), input={"batch_size": (1,)})
    with pytest.raises(UsageError, match=message):
        PythonLoader().check(spec)


@pytest.mark.usefixtures("folder")
def test_a_target_may_estimate_itself() -> None:
    spec = _spec("their_models:Chatty", options={"size": 2})
    report = PythonLoader().estimate(spec, [{"batch_size": 1}, {"batch_size": 4}])
    assert (report.weights_bytes, report.activation_bytes) == (80, (1, 4))
    assert (report.method, report.reason) == ("declared", None)


@pytest.mark.usefixtures("folder")
def test_an_unknown_cost_is_none_with_a_reason() -> None:
    report = PythonLoader().estimate(_spec("their_models:Model"), [{}])
    assert (report.weights_bytes, report.activation_bytes, report.method) == (None, (None,), "none")
    assert report.reason is not None
    with pytest.raises(ModelLoadError, match="weights_bytes must be bytes or None"):
        PythonLoader().estimate(_spec("their_models:guess"), [{}])


def test_the_shipped_matmul_is_what_it_says() -> None:
    spec = _spec("modelmgr.testing.models:load_matmul", options={"size": 64, "layers": 3})
    model = PythonLoader().load(spec, device="cpu", seed=0)
    output: Any = model.infer(model.make_batch({"batch_size": 5}, seed=0))
    assert output.shape == (5, 64)
    report = PythonLoader().estimate(spec, [{"batch_size": 5}])
    assert report.weights_bytes == model.weights_bytes == 3 * 64 * 64 * 4
    with pytest.raises(ValueError, match="no dimension 'length'"):
        model.make_batch({"length": 1}, seed=0)
