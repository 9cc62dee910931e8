"""Batches for a transformers model, from its call's signature and its config.

Owns what a model takes and how long its inputs may be. Real tensors and fake ones are made from
the same fields, so that the guess and the measurement are of the same batch.
"""
# ruff: noqa: ANN401 - torch and transformers are imported when needed, their objects untyped here

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelmgr.workers.loaders.dimensions import refuse_empty, refuse_unknown

KNOWN_DIMENSIONS = (
    "batch_size",
    "sequence_length",
    "decoder_length",
    "image_size",
    "num_frames",
    "audio_length",
)
# Taken where a list names no size. A decoder's first step sees one token; a second of 16 kHz sound.
_DEFAULTS = {
    "batch_size": 1,
    "sequence_length": 128,
    "decoder_length": 1,
    "audio_length": 16_000,
}
# Shapes to measure where a list names none; what is not here is taken to be a text model.
_BATCHES = (1, 4)
_VISION = [
    "beit",
    "cvt",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "dpt",
    "hiera",
    "levit",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilevit",
    "poolformer",
    "pvt",
    "regnet",
    "resnet",
    "segformer",
    "swin",
    "swinv2",
    "timesformer",
    "videomae",
    "vit",
    "vit_mae",
    "vit_msn",
    "vivit",
    "yolos",
    "convnext",
    "convnextv2",
    "efficientnet",
]
_SOUND = ["hubert", "sew", "unispeech", "unispeech-sat", "wav2vec2", "wavlm", "data2vec-audio"]
_TEXT_TO_TEXT = [
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "led",
    "longt5",
    "m2m_100",
    "marian",
    "mbart",
    "mt5",
    "pegasus",
    "t5",
    "umt5",
]


@dataclass(frozen=True, slots=True)
class InputField:
    """One tensor of a batch.

    Attributes:
        name: keyword of the model's call.
        shape: sizes, or names of dimensions.
        high: exclusive upper bound of random token ids; None makes random floats.
        is_mask: all ones: nothing is padded.
    """

    name: str
    shape: tuple[int | str, ...]
    high: int | None = None
    is_mask: bool = False


@dataclass(frozen=True, slots=True)
class InputPlan:
    """All that a model's batches are made from.

    Attributes:
        owner: the model's class, for messages.
        fields: the tensors, in order.
        defaults: the size of a dimension that a list does not name.
        limits: the largest size that the model's positions allow.
        image_size: the only size that the model's positions fit, None where any size goes.
        interpolates: the model can stretch its positions to other image sizes.
    """

    owner: str
    fields: tuple[InputField, ...]
    defaults: Mapping[str, int]
    limits: Mapping[str, int]
    image_size: int | None = None
    interpolates: bool = False

    def sizes(self, dims: Mapping[str, int]) -> dict[str, int]:
        """Return every dimension's size; ValueError where one is unknown, empty or too long."""
        refuse_unknown(dims, self.defaults, self.owner)
        refuse_empty(dims)
        for name, size in dims.items():
            limit = self.limits.get(name)
            if limit is not None and size > limit:
                raise ValueError(
                    f"{name} {size} is more than {self.owner} takes: its maximum is {limit}"
                )
        side = dims.get("image_size")
        if (
            None not in (side, self.image_size)
            and side != self.image_size
            and not self.interpolates
        ):
            raise ValueError(
                f"image_size {side}: {self.owner} takes {self.image_size} only; set config: "
                f"{{image_size: {side}}} to build it for that size"
            )
        return {**self.defaults, **dims}

    def constants(self, sizes: Mapping[str, int]) -> dict[str, object]:
        """Return keywords beside the tensors: positions of other image sizes are interpolated."""
        other = self.image_size not in (None, sizes.get("image_size"))
        return {"interpolate_pos_encoding": True} if other else {}

    def draw(
        self, torch: Any, dims: Mapping[str, int], *, seed: int, dtype: Any, device: str
    ) -> dict[str, Any]:
        """Return a batch of random tensors; equal seeds give equal batches."""
        sizes = self.sizes(dims)
        generator = torch.Generator().manual_seed(seed)
        batch: dict[str, Any] = {}
        for field in self.fields:
            shape = [sizes[entry] if isinstance(entry, str) else entry for entry in field.shape]
            if field.is_mask:
                tensor = torch.ones(shape, dtype=torch.int64)
            elif field.high is None:
                tensor = torch.randn(shape, generator=generator).to(dtype)
            else:
                tensor = torch.randint(0, field.high, shape, generator=generator)
            batch[field.name] = tensor.to(device)
        return {**batch, **self.constants(sizes)}

    def fake(self, torch: Any, dims: Mapping[str, int], *, dtype: Any) -> dict[str, Any]:
        """Return an empty batch, to be called in a fake mode.

        Masks are left out: models look whether a mask hides anything, which a fake tensor cannot
        tell them, and behave with an all-ones mask as without one.
        """
        sizes = self.sizes(dims)
        batch: dict[str, Any] = {}
        for field in self.fields:
            if field.is_mask:
                continue
            shape = [sizes[entry] if isinstance(entry, str) else entry for entry in field.shape]
            kind = dtype if field.high is None else torch.int64
            batch[field.name] = torch.empty(shape, dtype=kind)
        return {**batch, **self.constants(sizes)}


def plan_inputs(model: Any) -> InputPlan:
    """Return what the model's batches are made from; ValueError where that cannot be seen."""
    names = set(inspect.signature(model.forward).parameters)
    config = model.config
    text = getattr(config, "text_config", None) or config
    fields: list[InputField] = []
    if "input_ids" in names and model.main_input_name != "pixel_values":
        shape = ("batch_size", "sequence_length")
        fields.append(InputField("input_ids", shape, high=int(text.vocab_size)))
        if "attention_mask" in names:
            fields.append(InputField("attention_mask", shape, is_mask=True))
    contrastive = hasattr(config, "logit_scale_init_value")
    if "pixel_values" in names and (model.main_input_name == "pixel_values" or contrastive):
        fields.append(_pixels(getattr(config, "vision_config", None) or config))
    if "input_features" in names and model.main_input_name == "input_features":
        fields.append(_spectrogram(config))
    if "input_values" in names and model.main_input_name == "input_values":
        fields.append(InputField("input_values", ("batch_size", "audio_length")))
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        decoder = ("batch_size", "decoder_length")
        fields.append(InputField("decoder_input_ids", decoder, high=int(text.vocab_size)))
    owner = type(model).__name__
    if not fields:
        raise ValueError(
            f"cannot tell what {owner} takes (its main input is {model.main_input_name!r}); "
            "describe it under `arguments:`"
        )
    used = {entry for field in fields for entry in field.shape if isinstance(entry, str)}
    limits = _limits(model, text)
    vision = getattr(config, "vision_config", None) or config
    sizes = {
        **_DEFAULTS,
        "image_size": _side(vision),
        "num_frames": int(getattr(vision, "num_frames", None) or 1),
    }
    return InputPlan(
        owner=owner,
        fields=tuple(fields),
        defaults={name: min(sizes[name], limits.get(name, sizes[name])) for name in sorted(used)},
        limits=limits,
        image_size=_side(vision) if "image_size" in used and _has_side(vision) else None,
        interpolates="interpolate_pos_encoding" in names,
    )


def _has_side(vision: Any) -> bool:
    return getattr(vision, "image_size", None) is not None


def _side(vision: Any) -> int:
    size: Any = getattr(vision, "image_size", None) or 224
    return int(size if isinstance(size, int) else size[-1])


def _pixels(vision: Any) -> InputField:
    channels = int(getattr(vision, "num_channels", 3))
    image = (channels, "image_size", "image_size")
    # Video models say in their config how many frames they see.
    video = getattr(vision, "num_frames", None) is not None
    shape = ("batch_size", "num_frames", *image) if video else ("batch_size", *image)
    return InputField("pixel_values", shape)


def _spectrogram(config: Any) -> InputField:
    bins = int(getattr(config, "num_mel_bins", None) or config.input_feat_per_channel)
    if config.model_type == "whisper":
        # Two convolutions, the second with stride 2: exactly twice its positions, no more, no less.
        return InputField("input_features", ("batch_size", bins, 2 * config.max_source_positions))
    return InputField("input_features", ("batch_size", "num_frames", bins))


def _limits(model: Any, text: Any) -> dict[str, int]:
    limits: dict[str, int] = {}
    positions: Any = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits["sequence_length"] = positions
        limits["decoder_length"] = positions
    targets: Any = getattr(model.config, "max_target_positions", None)
    if isinstance(targets, int):
        limits["decoder_length"] = targets
    for name, module in model.named_modules():
        # RoBERTa and its kin start counting after the padding's index.
        padding: Any = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and isinstance(padding, int):
            limits["sequence_length"] = int(module.num_embeddings) - padding - 1
    return limits


def default_shapes(model_type: str | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes to measure for a model type where the list names none."""
    if model_type in _VISION:
        return {"batch_size": _BATCHES}
    if model_type in _SOUND:
        return {"batch_size": _BATCHES, "audio_length": (16_000,)}
    if model_type == "whisper":
        return {"batch_size": _BATCHES, "decoder_length": (8,)}
    if model_type in _TEXT_TO_TEXT:
        return {"batch_size": _BATCHES, "sequence_length": (32, 128), "decoder_length": (8,)}
    return {"batch_size": _BATCHES, "sequence_length": (32, 128)}
