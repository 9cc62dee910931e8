"""Read and write a result: JSON, versioned, checked, and replaced as a whole or not at all.

The types are in ``result``, the words of an error in ``validation``.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.input_files import read_input
from modelmgr.records.json_source import JsonSource
from modelmgr.records.result import Result
from modelmgr.units import MIB

MAX_FILE_BYTES = 512 * MIB
_WHAT = "result"
_HINT = "'modelmgr simulate' and 'modelmgr run' make results"


class _Head(msgspec.Struct):
    """What is looked at before anything else: whatever the rest of the file may hold."""

    kind: object = None
    schema_version: object = None


def load_result(path: str | Path) -> Result:
    """Read a result.

    Raises:
        InputError: there is no such file, or it is no result that this version can read.
    """
    content = read_input(path, limit_bytes=MAX_FILE_BYTES, what=_WHAT)
    return decode_result(content, path=os.fspath(path))


def save_result(result: Result, path: str | Path) -> None:
    """Write a result, atomically.

    Raises:
        UsageError: it cannot be written there; an old file is as it was.
    """
    write_atomically(path, encode_result(result))


def encode_result(result: Result) -> bytes:
    """Return the file's bytes: equal results give equal bytes.

    Raises:
        UsageError: a text in it is not Unicode.
    """
    plain = {
        "schema_version": result.schema_version,
        "kind": result.kind,
        **{
            name: getattr(result, name)
            for name in result.__struct_fields__
            if name not in ("schema_version", "kind")
        },
    }
    try:
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
    except UnicodeEncodeError as error:
        raise UsageError(f"a text in the result is not Unicode: {error}") from error


def decode_result(content: bytes, *, path: str | None = None) -> Result:
    """Return the result that a file's bytes hold; ``path`` is for messages.

    Raises:
        InputError: as ``load_result``.
    """
    source = JsonSource(content, path, what=_WHAT)
    head = source.decode(_Head)
    if head.kind != Result.KIND:
        shown = repr(head.kind) if isinstance(head.kind, str) else "missing"
        raise source.error(
            ("kind",) if head.kind is not None else (),
            f"the kind is {shown[:100]}, where a result ({Result.KIND!r}) was expected",
            hint=_HINT,
        )
    version = head.schema_version
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise source.error(
            ("schema_version",) if version is not None else (),
            f"schema_version must be a whole number such as {Result.SCHEMA_VERSION}",
        )
    if version > Result.SCHEMA_VERSION:
        raise source.error(
            ("schema_version",),
            f"schema_version {version} was written by a newer modelmgr; this one knows "
            f"{Result.SCHEMA_VERSION}",
            hint="upgrade modelmgr",
        )
    return source.decode(Result)
