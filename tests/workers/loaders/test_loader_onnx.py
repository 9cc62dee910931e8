"""ONNX files run by their own description, and their weights are read off the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmgr.errors import ModelLoadError, UsageError
from modelmgr.workers.loaders.onnx import OnnxLoader
from modelmgr.workers.loaders.onnx_file import tensor_bytes_in_file
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

_MAGIKA = "package:magika/models/standard_v3_3/model.onnx"
_SILERO = "package:silero_vad/data/silero_vad.onnx"


def _spec(model: str | None, **rest: Any) -> ModelSpec:
    return ModelSpec(tag="net", loader="onnx", model=model, **rest)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _tensor(kind: int, *dims: int) -> bytes:
    return b"".join(_field(1, dim) for dim in dims) + _field(2, kind)


def _packed(kind: int, *dims: int) -> bytes:
    return _field(1, b"".join(map(_varint, dims))) + _field(2, kind)


def test_inputs_come_from_the_file() -> None:
    model = OnnxLoader().load(_spec(_MAGIKA), device="cpu", seed=0)
    batch: Any = model.make_batch({"batch_size": 3}, seed=0)
    assert {name: (value.shape, str(value.dtype)) for name, value in batch.items()} == {
        "bytes": ((3, 2048), "int32")
    }
    outputs: Any = model.infer(batch)
    assert outputs[0].shape == (3, 214)
    (from_array,) = list[Any](model.infer(batch["bytes"]))  # type: ignore[call-overload]  # a list
    assert (from_array == outputs[0]).all()
    model.close()


def test_arguments_say_what_the_file_leaves_open() -> None:
    arguments = (
        ArgumentSpec(name="sr", value=16_000),
        ArgumentSpec(name="state", shape=(2, "batch_size", 128)),
    )
    model = OnnxLoader().load(_spec(_SILERO, arguments=arguments), device="cpu", seed=0)
    with pytest.raises(ValueError, match="'input_1' of input 'input' has no size"):
        model.make_batch({"batch_size": 2}, seed=0)
    with pytest.raises(ValueError, match="has no dimension 'input_2'"):
        model.make_batch({"batch_size": 2, "input_2": 1}, seed=0)
    batch: Any = model.make_batch({"batch_size": 2, "input_1": 576}, seed=0)
    assert (batch["sr"].shape, int(batch["sr"])) == ((), 16_000)
    outputs: Any = model.infer(batch)
    assert outputs[0].shape == (2, 1)


def test_weights_are_the_tensors_of_the_file() -> None:
    for model in (_MAGIKA, _SILERO):
        report = OnnxLoader().estimate(_spec(model), [{}, {}])
        loaded = OnnxLoader().load(_spec(model), device="cpu", seed=0)
        assert report.weights_bytes == loaded.weights_bytes
        assert report.activation_bytes == (None, None)
        assert report.reason
        assert report.method == "file-size"
        assert loaded.fingerprint is not None
    # Nearly all of the file, as it should be.
    assert 3_100_000 < (OnnxLoader().estimate(_spec(_MAGIKA), []).weights_bytes or 0) < 3_163_737


def test_tensors_are_found_wherever_the_format_keeps_them(tmp_path: Path) -> None:
    branch = _field(5, _tensor(7, 3))  # int64[3]: 24 bytes
    constant = _field(5, _tensor(10, 5))  # float16[5]: 10 bytes
    node = _field(5, constant) + _field(5, _field(6, branch)) + _field(5, _field(11, branch))
    packed = _packed(22, 3, 3)  # int4[3, 3]: 5 bytes, rounded up
    graph = _field(1, node) + _field(5, _tensor(1, 2, 4)) + _field(5, packed)  # float32[2, 4]: 32
    path = tmp_path / "made.onnx"
    path.write_bytes(_field(1, 8) + _field(7, graph))
    assert tensor_bytes_in_file(path) == 24 + 24 + 10 + 5 + 32


@given(st.binary(max_size=200))
def test_a_file_that_is_no_onnx_is_never_guessed_at(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    path.write_bytes(content)
    found = tensor_bytes_in_file(path)
    assert found is None or found >= 0


def test_a_cut_file_is_a_load_error_and_its_weights_are_unknown(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(_field(7, b"\x0a" * 400)[:-1])
    assert tensor_bytes_in_file(path) is None
    with pytest.raises(ModelLoadError, match=r"cut\.onnx' is no ONNX file, or is cut off"):
        OnnxLoader().estimate(_spec(str(path)), [])
    with pytest.raises(ModelLoadError, match=r"onnxruntime cannot load .*cut\.onnx"):
        OnnxLoader().load(_spec(str(path)), device="cpu", seed=0)


def test_the_runtimes_own_format_is_guessed_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(b"\x20\x00\x00\x00ORTM")
    assert OnnxLoader().estimate(_spec(str(path)), []).weights_bytes == 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": None}, "needs `model:`"),
        ({"model": _MAGIKA, "target": "a:b"}, "takes no `target`"),
        ({"model": _MAGIKA, "options": {"arenas": True}}, "did you mean 'arena'"),
        ({"model": _MAGIKA, "arguments": (ArgumentSpec(shape=(1,)),)}, "needs its input's name"),
        ({"model": "./none.onnx"}, "there is no"),
    ],
)
def test_check_sees_what_is_wrong_without_onnxruntime(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OnnxLoader().check(_spec(**spec))


def test_an_argument_for_no_input_names_the_nearest() -> None:
    arguments = (ArgumentSpec(name="byte", shape=(1, 2048)),)
    with pytest.raises(UsageError, match="no input 'byte'; did you mean 'bytes'"):
        OnnxLoader().load(_spec(_MAGIKA, arguments=arguments), device="cpu", seed=0)
