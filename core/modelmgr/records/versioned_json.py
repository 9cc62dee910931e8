"""JSON files of one record each: the kind and the version first, then the record's own fields.

What results, certificates and sweeps share in being written and read. A cost database, whose models
are read one by one and whose older versions are migrated, has its own way (``codec``).
"""

from __future__ import annotations

from typing import ClassVar, Protocol, TypeVar

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.json_source import JsonSource


class _Record(Protocol):
    KIND: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int]
    __struct_fields__: ClassVar[tuple[str, ...]]


_R = TypeVar("_R", bound=_Record)
_FIRST = ("schema_version", "kind")


class _Head(msgspec.Struct):
    """What is looked at before anything else: whatever the rest of the file may hold."""

    kind: object = None
    schema_version: object = None


def encode_record(record: _Record, *, what: str, indent: int | None = None) -> bytes:
    """Return the file's bytes: equal records give equal bytes.

    Args:
        record: what to write.
        what: what it is, for messages.
        indent: spaces a level; None writes it on one line.

    Raises:
        UsageError: a text in it is not Unicode.
    """
    fields = (*_FIRST, *(name for name in record.__struct_fields__ if name not in _FIRST))
    try:
        content = msgspec.json.encode({name: getattr(record, name) for name in fields})
    except UnicodeEncodeError as error:
        raise UsageError(f"a text in the {what} is not Unicode: {error}") from error
    return (content if indent is None else msgspec.json.format(content, indent=indent)) + b"\n"


def decode_record(
    content: bytes, wanted: type[_R], *, path: str | None, what: str, hint: str
) -> _R:
    """Return the record that a file's bytes hold.

    Args:
        content: the file's bytes.
        wanted: the record's type, a struct with ``KIND`` and ``SCHEMA_VERSION``.
        path: the file as the caller named it, None where there is none.
        what: what it should be, for messages.
        hint: where such files come from.

    Raises:
        InputError: it is another kind of file, of a newer version, or broken; with the place.
    """
    source = JsonSource(content, path, what=what)
    head = source.decode(_Head)
    if head.kind != wanted.KIND:
        shown = repr(head.kind)[:100] if isinstance(head.kind, str) else "missing"
        raise source.error(
            ("kind",) if head.kind is not None else (),
            f"the kind is {shown}, where a {what} ({wanted.KIND!r}) was expected",
            hint=hint,
        )
    version, newest = head.schema_version, wanted.SCHEMA_VERSION
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise source.error(
            ("schema_version",) if version is not None else (),
            f"schema_version must be a whole number such as {newest}",
        )
    if version > newest:
        raise source.error(
            ("schema_version",),
            f"schema_version {version} was written by a newer modelmgr; this one knows {newest}",
            hint="upgrade modelmgr",
        )
    return source.decode(wanted)
