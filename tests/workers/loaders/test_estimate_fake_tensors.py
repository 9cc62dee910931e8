"""The guess without loading is the measured figure, and takes none of the memory."""

from __future__ import annotations

from typing import Any

import pytest

from modelmgr.devices.process_memory import read_host_memory, reset_peak
from modelmgr.units import MIB
from modelmgr.workers.loaders.torch import TorchLoader
from modelmgr.workers.loaders.transformers import TransformersLoader
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

pytestmark = pytest.mark.torch

_TINY: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 2},
    "vit": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "t5": {"d_model": 64, "num_layers": 2, "num_heads": 2},
    "whisper": {"d_model": 96, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 50_258},
    "llama": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}
_TEXT = ({"batch_size": 1, "sequence_length": 8}, {"batch_size": 3, "sequence_length": 70})
_SHAPES: dict[str, tuple[dict[str, int], ...]] = {
    "vit": ({"batch_size": 1}, {"batch_size": 3}),
    "whisper": ({"batch_size": 2, "decoder_length": 5},),
    "t5": ({"batch_size": 3, "sequence_length": 70, "decoder_length": 5},),
}


def _spec(architecture: str, **config: Any) -> ModelSpec:
    return ModelSpec(tag="guess", loader="transformers", architecture=architecture, config=config)


@pytest.mark.parametrize("architecture", _TINY)
def test_the_guess_is_the_tracked_peak_to_the_byte(architecture: str) -> None:
    loader, spec = TransformersLoader(), _spec(architecture, **_TINY[architecture])
    shapes = _SHAPES.get(architecture, _TEXT)
    report = loader.estimate(spec, shapes)
    model = loader.load(spec, device="cpu", seed=0)
    measured = tuple(model.tensor_peak(model.make_batch(dims, seed=0)) for dims in shapes)
    assert report.weights_bytes == model.weights_bytes
    assert report.activation_bytes == measured
    assert (report.method, report.reason) == ("fake-tensor", None)


def test_the_tracked_peak_counts_what_lives_at_once() -> None:
    # Two layers: at most one's input and output live at once, the batch not counted.
    options: dict[str, Any] = {"in_features": 100, "out_features": 100}
    spec = ModelSpec(
        tag="linear",
        loader="torch",
        target="torch.nn:Linear",
        options=options,
        arguments=(ArgumentSpec(shape=("batch_size", 100)),),
    )
    model = TorchLoader().load(spec, device="cpu", seed=0)
    assert model.tensor_peak(model.make_batch({"batch_size": 7}, seed=0)) == 7 * 100 * 4


@pytest.mark.slow
def test_guessing_bert_base_takes_none_of_its_memory() -> None:
    loader = TransformersLoader()
    loader.estimate(_spec("bert", **_TINY["bert"]), _TEXT)  # imports what there is to import
    reset_peak()
    before = read_host_memory().resident_bytes
    report = loader.estimate(_spec("bert"), [{"batch_size": 16, "sequence_length": 512}])
    grown = read_host_memory().peak_bytes - before
    assert report.weights_bytes == 437_937_152  # float32, and two buffers of 512 positions
    assert report.activation_bytes[0] is not None
    assert report.activation_bytes[0] > 200 * MIB
    assert grown < 100 * MIB


def test_what_cannot_be_known_is_none_with_the_reason() -> None:
    too_long = {"batch_size": 1, "sequence_length": 100_000}
    report = TransformersLoader().estimate(_spec("bert", **_TINY["bert"]), [_TEXT[0], too_long])
    assert report.activation_bytes[0] is not None
    assert report.activation_bytes[1] is None
    assert report.reason is not None
    assert "maximum is 512" in report.reason
