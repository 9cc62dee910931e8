"""Random batches from a list's ``arguments``: what a loader sends when it cannot find out itself.

Works in NumPy alone; the ``torch`` loader turns the arrays into tensors.
"""
# ruff: noqa: ANN401 - an argument is whatever the model takes

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelmgr.errors import UsageError
from modelmgr.workers.loaders.dimensions import refuse_empty, refuse_unknown
from modelmgr.workers.loaders.frameworks import import_framework
from modelmgr.workers.loaders.nearest import did_you_mean
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
DTYPES = (*_FLOATS, *_INTEGERS, "bool")


@dataclass(frozen=True, slots=True)
class CallArguments:
    """What a model is called with: ``model(*positional, **named)``."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


def dimension_names(arguments: Sequence[ArgumentSpec]) -> tuple[str, ...]:
    """Return the dimensions that the shapes name, each once, in order."""
    names = (
        entry for argument in arguments for entry in argument.shape or () if isinstance(entry, str)
    )
    return tuple(dict.fromkeys(names))


def check_arguments(spec: ModelSpec, known_dims: Collection[str]) -> None:
    """Raise UsageError where an argument is neither a value nor a shape that can be drawn."""
    for number, argument in enumerate(spec.arguments, start=1):
        where = f"model {spec.tag!r}: argument {argument.name or number!r}"
        if (argument.shape is None) == (argument.value is None):
            raise UsageError(f"{where} needs a shape or a value, and not both")
        if argument.dtype not in DTYPES:
            hint = did_you_mean(argument.dtype, DTYPES)
            raise UsageError(f"{where} has an unknown dtype {argument.dtype!r}{hint}")
        if argument.high < 1:
            raise UsageError(f"{where}: high must be at least 1, not {argument.high}")
        for entry in argument.shape or ():
            if isinstance(entry, str) and entry not in known_dims:
                hint = did_you_mean(entry, known_dims)
                raise UsageError(f"{where} names a dimension {entry!r} that input lacks{hint}")
            if isinstance(entry, int) and entry < 0:
                raise UsageError(f"{where} has a negative size: {entry}")


def draw(argument: ArgumentSpec, dims: Mapping[str, int], generator: Any) -> Any:
    """Return the argument's value or a random array; ``bfloat16`` is drawn as ``float32``."""
    np = import_framework("numpy")

    if argument.shape is None:
        return argument.value
    shape = tuple(dims[entry] if isinstance(entry, str) else entry for entry in argument.shape)
    if argument.dtype == "bool":
        return np.ones(shape, dtype=np.bool_)
    if argument.dtype in _INTEGERS:
        return generator.integers(0, argument.high, size=shape, dtype=argument.dtype)
    values = generator.standard_normal(shape, dtype=np.float32)
    return values if argument.dtype == "bfloat16" else values.astype(argument.dtype, copy=False)


def draw_arguments(
    arguments: Sequence[ArgumentSpec], dims: Mapping[str, int], seed: int
) -> CallArguments:
    """Return one call's arguments as arrays; ValueError names a dimension that none of them has."""
    np = import_framework("numpy")

    known = dimension_names(arguments)
    refuse_unknown(dims, known, "the list's `arguments`")
    refuse_empty(dims)
    for name in known:
        if name not in dims:
            raise ValueError(f"dimension {name!r} of the list's `arguments` has no size")
    generator = np.random.default_rng(seed)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in arguments:
        value = draw(argument, dims, generator)
        if argument.name is None:
            positional.append(value)
        else:
            named[argument.name] = value
    return CallArguments(tuple(positional), named)
