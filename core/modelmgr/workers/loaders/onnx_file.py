"""The weights in an ONNX file, without the onnx package: sizes only, nothing is loaded or run.

Walks the protobuf's own framing; field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. A file that is not what it says is answered
with None, never with a guess.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

from modelmgr.errors import ModelLoadError

# Bits of an element by TensorProto.DataType; strings (8) have no fixed size.
_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_TENSOR_DIMS, _TENSOR_TYPE = 1, 2
# Branches and loops hold graphs of their own; nobody nests them this deep.
_MAX_DEPTH = 32


class _MalformedError(ValueError):
    pass


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _MalformedError


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, wire type, value or start, end of content)."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield number, wire, value, at
        elif wire == _BYTES:
            size, at = _varint(data, at, end)
            if at + size > end:
                raise _MalformedError
            yield number, wire, at, at + size
            at += size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise _MalformedError


def _tensor_bytes(data: mmap.mmap, start: int, end: int) -> int:
    elements, bits = 1, 0
    for number, wire, value, stop in _fields(data, start, end):
        if number == _TENSOR_DIMS and wire == _VARINT:
            elements *= value
        elif number == _TENSOR_DIMS and wire == _BYTES:
            at = value
            while at < stop:
                size, at = _varint(data, at, stop)
                elements *= size
        elif number == _TENSOR_TYPE and wire == _VARINT:
            bits = _BITS.get(value, 0)
    return math.ceil(elements * bits / 8)


def _graph_bytes(data: mmap.mmap, start: int, end: int, depth: int = 0) -> int:
    if depth > _MAX_DEPTH:
        raise _MalformedError
    total = 0
    for number, wire, at, stop in _fields(data, start, end):
        if wire != _BYTES:
            continue
        if number == _GRAPH_INITIALIZER:
            total += _tensor_bytes(data, at, stop)
        elif number == _GRAPH_NODE:
            for part, kind, first, last in _fields(data, at, stop):
                if part == _NODE_ATTRIBUTE and kind == _BYTES:
                    total += _attribute_bytes(data, first, last, depth)
    return total


def _attribute_bytes(data: mmap.mmap, start: int, end: int, depth: int) -> int:
    total = 0
    for number, wire, at, stop in _fields(data, start, end):
        if wire == _BYTES and number == _ATTRIBUTE_TENSOR:
            total += _tensor_bytes(data, at, stop)
        elif wire == _BYTES and number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            total += _graph_bytes(data, at, stop, depth + 1)
    return total


def tensor_bytes_in_file(path: Path) -> int | None:
    """Return the bytes of all initialisers and constants, external ones included.

    None where the file is no ONNX model; OSError as it comes.
    """
    if path.stat().st_size == 0:
        return None
    total, graphs = 0, 0
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for number, wire, start, end in _fields(data, 0, len(data)):
                if number == _MODEL_GRAPH and wire == _BYTES:
                    graphs += 1
                    total += _graph_bytes(data, start, end)
        except _MalformedError:
            return None
    return total if graphs else None


def weights_of_file(path: Path, name: str) -> int | None:
    """Return the bytes of a file's weights; None for ONNX Runtime's own format, which hides them.

    Args:
        path: the file.
        name: what errors call it.

    Raises:
        ModelLoadError: it cannot be read, is no ONNX file, or is cut off.
    """
    if path.suffix == ".ort":
        return None
    try:
        weights_bytes = tensor_bytes_in_file(path)
    except OSError as error:
        raise ModelLoadError(f"{name} cannot be read: {error.strerror}") from error
    if weights_bytes is None:
        raise ModelLoadError(f"{name} is no ONNX file, or is cut off: export it again")
    return weights_bytes
