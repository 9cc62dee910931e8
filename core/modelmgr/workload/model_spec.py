"""One model of a list, as loaders and measuring are told of it.

Reading it from YAML is ``workload.model_list``'s work; nothing here touches a file.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import msgspec

LoaderName = Literal["transformers", "torch", "onnx", "python", "synthetic"]


class ArgumentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One argument of a model's call, for loaders that cannot find out (``torch``, ``python``).

    Attributes:
        name: keyword, or ONNX input name; None is positional.
        shape: sizes, or names of dimensions of ``input``; None where ``value`` is given.
        dtype: ``float32``, ``int64``, ... of a tensor.
        value: a constant passed as it is (a sample rate, a flag).
        high: exclusive upper bound of random integers (a vocabulary's size).
    """

    name: str | None = None
    shape: tuple[int | str, ...] | None = None
    dtype: str = "float32"
    value: int | float | bool | str | None = None
    high: int = 2


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to load and which shapes to measure.

    Attributes:
        tag: unique name.
        loader: which loader understands the rest.
        architecture: ``transformers``: the model type (``bert``), built with random weights.
        config: ``transformers``: overrides of the architecture's default config.
        model: a local path, ``package:NAME/path`` or a hub id.
        target: ``python`` (and ``torch``): ``module:callable``.
        options: keyword arguments of the target; the sizes and times of ``synthetic``.
        arguments: the call's arguments where the loader cannot derive them.
        dtype: of the weights.
        input: dimension name to the sizes to measure; every combination is measured.
        repeats: fresh processes to measure in.
    """

    tag: str
    loader: LoaderName
    architecture: str | None = None
    config: dict[str, Any] = {}
    model: str | None = None
    target: str | None = None
    options: dict[str, Any] = {}
    arguments: tuple[ArgumentSpec, ...] = ()
    dtype: str = "float32"
    input: dict[str, tuple[int, ...]] = {}
    repeats: int = 3

    def shapes(self) -> tuple[dict[str, int], ...]:
        """Return every combination of ``input``, the first dimension varying slowest."""
        names = list(self.input)
        return tuple(
            dict(zip(names, sizes, strict=True))
            for sizes in itertools.product(*(self.input[name] for name in names))
        )
