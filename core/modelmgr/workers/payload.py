"""How batches and outputs cross the pipe: a JSON tree, and the arrays' own bytes behind it.

Plain numbers, strings and None stand for themselves; everything else is an object with one key
that says what it is. Nothing is pickled: what has no form here is refused by name. numpy is
imported when the first array comes by, so that neither side pays for it before.
"""
# ruff: noqa: ANN401 - batches and outputs may hold anything

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from modelmgr.errors import UsageError, WorkerProtocolError

_MAX_DEPTH = 64
_MAX_PLACE = 60  # characters of a place that a message shows
_MAX_DIMENSIONS = 32  # NPY_MAXDIMS of numpy 1
_DTYPE = re.compile(r"[<>|=](?:[biufcSU])[0-9]{1,6}")
_INT64 = 2**63


def encode(value: object, *, name: str = "batch") -> tuple[object, list[memoryview]]:
    """Return the tree and the buffers of a batch or an output.

    Takes None, booleans, numbers, strings, bytes, lists, tuples, mappings, numpy arrays and
    scalars, and whatever offers ``detach().cpu()`` (torch tensors) or ``__array__``.

    Args:
        value: the batch or output.
        name: what errors call it.

    Raises:
        UsageError: something in it has no form here; its type and place are named.
    """
    buffers: list[memoryview] = []
    return _encode(value, buffers, name, 0), buffers


def decode(tree: object, buffers: Sequence[memoryview]) -> object:
    """Return what a tree and its buffers describe; arrays are writable views of the buffers.

    Raises:
        WorkerProtocolError: they describe nothing.
    """
    return _decode(tree, buffers, 0)


def count_arrays(value: object) -> int:
    """Return how many arrays or tensors a model's output holds."""
    if isinstance(value, Mapping):
        return sum(map(count_arrays, cast("Mapping[object, object]", value).values()))
    if isinstance(value, (list, tuple)):
        return sum(map(count_arrays, cast("Sequence[object]", value)))
    return int(hasattr(value, "shape") and hasattr(value, "dtype"))


def _encode(value: Any, buffers: list[memoryview], place: str, depth: int) -> object:
    if depth > _MAX_DEPTH:
        raise UsageError(f"{_short(place)} is nested more than {_MAX_DEPTH} levels deep")
    if value is None or type(value) in {bool, str}:
        return value
    if type(value) is int:
        return value if -_INT64 <= value < _INT64 else {"int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (bytes, bytearray)):
        buffers.append(memoryview(value))
        return {"bytes": len(buffers) - 1}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {
            "dict": [
                [
                    _encode(key, buffers, f"a key of {place}", depth + 1),
                    _encode(item, buffers, f"{place}[{key!r}]", depth + 1),
                ]
                for key, item in items
            ]
        }
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        parts = cast("Sequence[object]", value)
        return {
            kind: [
                _encode(item, buffers, f"{place}[{i}]", depth + 1) for i, item in enumerate(parts)
            ]
        }
    return _encode_array(value, buffers, place)


def _encode_array(value: Any, buffers: list[memoryview], place: str) -> object:
    import numpy as np  # noqa: PLC0415 - see the module's docstring

    kind = cast("type[object]", type(value))
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a torch tensor, wherever it lies
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):  # which numpy does not have
            value = value.float()
        value = value.numpy()
    elif not hasattr(value, "__array__"):
        raise UsageError(
            f"{_short(place)} is a {kind.__module__}.{kind.__qualname__}, which cannot cross to or "
            "from a worker; use numpy arrays, numbers, strings, lists, tuples and dicts"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise UsageError(f"{_short(place)} is a masked array whose mask cannot cross; use filled()")
    array = np.asarray(value)
    if _DTYPE.fullmatch(array.dtype.str) is None:
        raise UsageError(
            f"{_short(place)} is an array of {array.dtype}, which cannot cross to or from a worker"
        )
    flat = np.ascontiguousarray(array).reshape(-1)
    buffers.append(flat.view(np.uint8).data if flat.nbytes else memoryview(b""))
    return {
        "scalar" if isinstance(value, np.generic) else "array": len(buffers) - 1,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
    }


def _short(place: str) -> str:
    """Return a place by its beginning and its end, where it is longer than a message should be."""
    if len(place) <= _MAX_PLACE:
        return place
    return f"{place[: _MAX_PLACE // 2]}...{place[-_MAX_PLACE // 2 :]}"


def _decode(tree: Any, buffers: Sequence[memoryview], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise WorkerProtocolError(f"a tree of more than {_MAX_DEPTH} levels")
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    node = cast("dict[str, Any]", tree) if isinstance(tree, dict) else {}
    what = next(iter(node), None)
    content = node.get(what) if what is not None else None
    if what in {"list", "tuple"} and isinstance(content, list):
        items = [_decode(item, buffers, depth + 1) for item in cast("list[object]", content)]
        return items if what == "list" else tuple(items)
    if what == "dict" and isinstance(content, list):
        return _decode_dict(cast("list[object]", content), buffers, depth)
    if what in {"array", "scalar"}:
        array = _decode_array(_buffer(buffers, content), node.get("dtype"), node.get("shape"))
        return array if what == "array" else array[()]
    if what == "bytes":
        return bytes(_buffer(buffers, content))
    if what == "int" and isinstance(content, str):
        return _decode_int(content)
    if what == "float" and content in {"nan", "inf", "-inf"}:
        return float(content)
    raise WorkerProtocolError(f"a tree with a node that is nothing: {what!r}")


def _decode_dict(items: list[object], buffers: Sequence[memoryview], depth: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for item in items:
        if not isinstance(item, list) or len(cast("list[object]", item)) != 2:
            raise WorkerProtocolError("a dict with an item that is no pair")
        key, value = cast("list[object]", item)
        try:
            found[_decode(key, buffers, depth + 1)] = _decode(value, buffers, depth + 1)
        except TypeError as error:
            raise WorkerProtocolError(f"a dict with a key that is none: {error}") from error
    return found


def _decode_int(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise WorkerProtocolError(f"a number that is none: {text[:40]!r}") from error


def _buffer(buffers: Sequence[memoryview], index: object) -> memoryview:
    if not isinstance(index, int) or not 0 <= index < len(buffers):
        raise WorkerProtocolError(f"buffer {index!r} of {len(buffers)}")
    return buffers[index]


def _decode_array(buffer: memoryview, dtype: object, shape: object) -> Any:
    import numpy as np  # noqa: PLC0415 - see the module's docstring

    given = cast("list[object]", shape) if isinstance(shape, list) else [None]
    sizes = [size for size in given if isinstance(size, int) and size >= 0]
    if (
        not isinstance(dtype, str)
        or _DTYPE.fullmatch(dtype) is None
        or len(sizes) != len(given)
        or len(sizes) > _MAX_DIMENSIONS
    ):
        raise WorkerProtocolError(f"an array of {dtype!r} with shape {shape}")
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise WorkerProtocolError(f"an array of {dtype!r}") from error
    if math.prod(sizes) * kind.itemsize != buffer.nbytes:
        raise WorkerProtocolError(f"{buffer.nbytes} bytes for an array of {dtype} {shape}")
    return np.frombuffer(buffer, dtype=kind).reshape(sizes)
