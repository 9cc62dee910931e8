"""A model list as people write it: the types that its reader checks and its JSON Schema shows.

One struct a loader, so that a key of another loader is an unknown one. ``model_list`` turns these
into ``ModelSpec``; nothing here reads a file.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1

# `$` alone would let a trailing line break pass; `\Z` is unknown to JSON Schema.
_END = r"$(?!\n)"

Tag = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{{0,127}}{_END}",
        description="a name of at most 128 letters, digits and . _ - : / @ +, a letter or digit "
        "first",
        examples=["bert-base"],
    ),
]
DimensionName = Annotated[
    str,
    Meta(
        pattern=rf"^[a-z][a-z0-9_]{{0,63}}{_END}",
        description="a dimension's name in small letters, digits and _",
    ),
]
Size = Annotated[int, Meta(ge=1, le=2**40, description="a whole number of at least 1")]
Sizes = Size | Annotated[list[Size], Meta(min_length=1, description="a list of them")]
Dtype = Literal["float32", "float16", "bfloat16", "float64"]
ArgumentDtype = Literal[
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"
]
MOST_REPEATS = 1000
"""More processes a model are a slip of the finger."""
Repeats = Annotated[int, Meta(ge=1, le=MOST_REPEATS)]
Bytes = Annotated[
    str,
    Meta(
        description="a size with its unit such as '500 MiB'",
        examples=["500 MiB"],
        # Only for editors: `units.parse_bytes` is what checks it, with better words.
        extra_json_schema={
            "pattern": r"^\s*\+?[0-9.]+([eE][+-]?[0-9]+)?\s*([KkMmGgTt][Ii]?)?[Bb]\s*$"
        },
    ),
]
Duration = Annotated[
    str,
    Meta(
        description="a duration with its unit such as '35 ms'",
        examples=["35 ms"],
        extra_json_schema={
            "pattern": r"^\s*\+?[0-9.]+([eE][+-]?[0-9]+)?\s*([nuµmNUM]?[sS]|min|h|d)\s*$"
        },
    ),
]
Target = Annotated[
    str,
    Meta(
        pattern=rf"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*{_END}",
        description="written module:callable, such as my_package.models:load",
        examples=["my_package.models:load"],
    ),
]
ModelPath = Annotated[
    str,
    Meta(
        min_length=1,
        description="a local path, package:NAME/path, or a hub id",
        examples=["package:magika/models/standard_v3_3/model.onnx"],
    ),
]


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a model list."""


class Defaults(_Written, frozen=True, kw_only=True):
    """What holds for every model that does not say otherwise."""

    dtype: Dtype = "float32"
    batch_size: Sizes | None = None
    repeats: Repeats = 3
    input: dict[DimensionName, Sizes] = {}


class ArgumentEntry(_Written, frozen=True, kw_only=True):
    """One argument of the model's call: a tensor of a shape, or a constant value."""

    name: Annotated[str, Meta(min_length=1)] | None = None
    shape: list[Size | DimensionName] | None = None
    dtype: ArgumentDtype = "float32"
    value: bool | int | float | str | None = None
    high: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 2


class ModelEntry(_Written, frozen=True, kw_only=True, tag_field="loader"):
    """What every model has; the loader decides which keys come on top.

    Attributes:
        ONE_OF: keys of which exactly one is needed, none where the loader has no such rule.
        ANY_OF: keys of which at least one is needed, none where the loader has no such rule.
    """

    ONE_OF: ClassVar[tuple[str, ...]] = ()
    ANY_OF: ClassVar[tuple[str, ...]] = ()

    tag: Tag
    dtype: Dtype | None = None
    input: dict[DimensionName, Sizes] = {}
    repeats: Repeats | None = None


class TransformersOptions(_Written, frozen=True, kw_only=True):
    """Which head a transformers model has, and which attention it computes with."""

    auto_class: (
        Annotated[
            str,
            Meta(
                pattern=rf"^AutoModel\w*{_END}",
                description="an auto class such as AutoModelForCausalLM",
                examples=["AutoModelForCausalLM"],
            ),
        ]
        | None
    ) = None
    attn_implementation: Annotated[str, Meta(min_length=1, examples=["sdpa"])] | None = None


class TransformersEntry(ModelEntry, frozen=True, kw_only=True, tag="transformers"):
    """A transformers architecture with random weights, or a model with its own."""

    ONE_OF: ClassVar[tuple[str, ...]] = ("architecture", "model")

    architecture: Annotated[str, Meta(min_length=1, examples=["bert"])] | None = None
    model: ModelPath | None = None
    config: dict[str, Any] = {}
    options: TransformersOptions = TransformersOptions()


class TorchEntry(ModelEntry, frozen=True, kw_only=True, tag="torch"):
    """A TorchScript or exported file, or a callable that returns a module."""

    ANY_OF: ClassVar[tuple[str, ...]] = ("model", "target")

    model: ModelPath | None = None
    target: Target | None = None
    options: dict[str, Any] = {}
    arguments: list[ArgumentEntry] = []


class OnnxEntry(ModelEntry, frozen=True, kw_only=True, tag="onnx"):
    """An ONNX file."""

    model: ModelPath
    options: dict[str, Any] = {}
    arguments: list[ArgumentEntry] = []


class PythonEntry(ModelEntry, frozen=True, kw_only=True, tag="python"):
    """Any callable that returns an object with ``infer(batch)``."""

    target: Target
    options: dict[str, Any] = {}
    arguments: list[ArgumentEntry] = []


class SyntheticOptions(_Written, frozen=True, kw_only=True):
    """The sizes and times of a synthetic model; ``activation`` is for one item of a batch."""

    resident: Bytes
    activation: Bytes | None = None
    load_peak: Bytes | None = None
    load: Duration | None = None
    service: Duration | None = None


class SyntheticEntry(ModelEntry, frozen=True, kw_only=True, tag="synthetic"):
    """Takes a stated size and a stated time."""

    options: SyntheticOptions


AnyEntry = TransformersEntry | TorchEntry | OnnxEntry | PythonEntry | SyntheticEntry


class ModelListFile(_Written, frozen=True, kw_only=True):
    """The models to measure, each with the shapes of its input (``modelmgr profile``)."""

    schema_version: int
    models: Annotated[list[AnyEntry], Meta(min_length=1)]
    defaults: Defaults = msgspec.field(default_factory=Defaults)
