"""Read and write a cost database: JSON, versioned, checked, and replaced as a whole or not at all.

Owns the way between the frozen records and the bytes of a file: which keys stand where, versions
and their migrations, which mistakes break one model and which the file. The types are in ``costs``,
the words of an error in ``validation``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from modelmgr.errors import InputError, UsageError
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.costs import (
    CostDatabase,
    CostError,
    Eviction,
    MachineInfo,
    ModelCost,
    RunInfo,
    ToolInfo,
)
from modelmgr.records.input_files import read_input
from modelmgr.records.json_places import has_each_key_once
from modelmgr.records.json_source import JsonSource
from modelmgr.records.model_json import decode_model, model_to_plain
from modelmgr.records.quick_models import QuickModels
from modelmgr.records.validation import convert
from modelmgr.units import MIB, format_bytes

MAX_FILE_BYTES = 512 * MIB
MAX_MODEL_BYTES = 64 * MIB

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns a file's plain content of one version into that of the next."""

MIGRATIONS: Mapping[int, Migration] = {}
"""For each older version that can still be read, the step to the version after it."""

_WHAT = "cost database"
_NUMBERS = re.compile(rb"\[\n\s*(-?\d[\d.eE+-]*(?:,\n\s*-?\d[\d.eE+-]*)*)\n\s*\]")
_BREAK = re.compile(rb"\n\s*")


_NULL = msgspec.Raw(b"null")


class _Head(msgspec.Struct):
    """What is looked at before anything else: whatever the rest of the file may hold."""

    kind: msgspec.Raw = _NULL
    schema_version: msgspec.Raw = _NULL


class _CostFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The file with its models still unread, so that a broken one stays its own problem."""

    schema_version: int
    kind: str
    created_at: str
    tool: ToolInfo
    machine: MachineInfo
    models: msgspec.Raw
    evictions: tuple[Eviction, ...] = ()
    runs: tuple[RunInfo, ...] = ()


class _CostFileOutline(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """As ``_CostFile``, for plain values: there is no raw JSON in them."""

    schema_version: int
    kind: str
    created_at: str
    tool: ToolInfo
    machine: MachineInfo
    models: dict[str, Any]
    evictions: tuple[Eviction, ...] = ()
    runs: tuple[RunInfo, ...] = ()


def load_costs(
    path: str | Path, *, migrations: Mapping[int, Migration] = MIGRATIONS
) -> CostDatabase:
    """Read a cost database.

    A model that cannot be read becomes a ``ModelCost`` whose ``error`` (kind ``InputError``) says
    what is wrong with it and where; the others are read as if it were not there.

    Args:
        path: the file, at most 512 MiB.
        migrations: how to read older versions.

    Raises:
        InputError: there is no such file, or it is no cost database that this version can read.
    """
    content = read_input(path, limit_bytes=MAX_FILE_BYTES, what=_WHAT)
    return decode_costs(content, path=os.fspath(path), migrations=migrations)


def save_costs(database: CostDatabase, path: str | Path) -> None:
    """Write a cost database, atomically.

    Raises:
        UsageError: it cannot be written there; an old file is as it was.
    """
    write_atomically(path, encode_costs(database))


def encode_costs(database: CostDatabase) -> bytes:
    """Return the file's bytes: equal databases in equal order give equal bytes.

    Raises:
        UsageError: the database holds something that JSON cannot (half a character, an eviction's
            value that is no finite number).
    """
    for index, eviction in enumerate(database.evictions):
        if not all(math.isfinite(candidate.value) for candidate in eviction.candidates):
            raise UsageError(
                f"evictions[{index}] of {eviction.tag!r} has a candidate whose value is no finite "
                "number; a policy must give one"
            )
    plain = {
        "schema_version": database.schema_version,
        "kind": database.kind,
        "created_at": database.created_at,
        "tool": database.tool,
        "machine": database.machine,
        "models": {tag: model_to_plain(cost) for tag, cost in database.models.items()},
        "evictions": database.evictions,
        "runs": database.runs,
    }
    try:
        content = msgspec.json.encode(plain)
    except UnicodeEncodeError as error:
        raise UsageError(f"a text in the cost database is not Unicode: {error}") from error
    indented = msgspec.json.format(content, indent=2)
    # A list of samples on one line reads well, and a diff of two files stays short. JSON has no
    # line break inside a text, so this never touches one.
    return _NUMBERS.sub(lambda found: b"[" + _BREAK.sub(b" ", found[1]) + b"]", indented) + b"\n"


def decode_costs(
    content: bytes, *, path: str | None = None, migrations: Mapping[int, Migration] = MIGRATIONS
) -> CostDatabase:
    """Return the database that a file's bytes hold; ``path`` is for messages.

    Raises:
        InputError: as ``load_costs``.
    """
    source = JsonSource(content, path, what=_WHAT)
    file = _current_file(content)
    if file is None:
        source = _migrated(source, migrations)
        file = source.decode(_CostFile, outline=_CostFileOutline)
    _check_created_at(source, file.created_at)
    models = _members(source, file.models)
    has_repeats = not has_each_key_once(file.models, models.values())
    repeated = source.repeated_keys(("models",)) if has_repeats else {}
    return CostDatabase(
        created_at=file.created_at,
        tool=file.tool,
        machine=file.machine,
        models=_read_models(source, models, repeated),
        evictions=file.evictions,
        runs=file.runs,
    )


def _current_file(content: bytes) -> _CostFile | None:
    """Return the outline of a file of this version; None of any other, and of what is no good."""
    try:
        file = msgspec.json.decode(content, type=_CostFile)
    except (msgspec.DecodeError, RecursionError):
        return None
    is_current = (file.kind, file.schema_version) == (
        CostDatabase.KIND,
        CostDatabase.SCHEMA_VERSION,
    )
    return file if is_current else None


def _migrated(source: JsonSource, migrations: Mapping[int, Migration]) -> JsonSource:
    """Return the content as this version has it; InputError where it is none that can be read."""
    head = source.decode(_Head)
    _check_kind(source, _short(source, head.kind))
    version = _check_version(source, _short(source, head.schema_version), migrations)
    if version == CostDatabase.SCHEMA_VERSION:
        return source
    plain = source.decode(dict[str, Any])
    for step in range(version, CostDatabase.SCHEMA_VERSION):
        plain = migrations[step](plain)
    return source.replaced(msgspec.json.encode(plain))


def _short(source: JsonSource, raw: msgspec.Raw) -> object:
    """Return a value that should be small; a huge one is wrong whatever it is."""
    return source.plain(raw) if len(raw) < 200 else [...]


def _check_kind(source: JsonSource, kind: object) -> None:
    wanted = CostDatabase.KIND
    if kind is None:
        raise source.error(
            (),
            f"has no 'kind'; a cost database has 'kind': {wanted!r}",
            hint=f"check that this is the {_WHAT} that was meant",
        )
    if kind != wanted:
        shown = repr(kind) if isinstance(kind, str) else "no text"
        raise source.error(
            ("kind",),
            f"the kind is {shown[:100]}, where a cost database ({wanted!r}) was expected",
            hint="'modelmgr profile' makes a cost database",
        )


def _check_version(source: JsonSource, version: object, migrations: Mapping[int, Migration]) -> int:
    newest = CostDatabase.SCHEMA_VERSION
    if isinstance(version, bool) or not isinstance(version, int):
        raise source.error(
            ("schema_version",), f"schema_version must be a whole number such as {newest}"
        )
    if version > newest:
        raise source.error(
            ("schema_version",),
            f"schema_version {version} was written by a newer modelmgr; this one knows {newest}",
            hint="upgrade modelmgr",
        )
    if any(step not in migrations for step in range(version, newest)):
        raise source.error(
            ("schema_version",),
            f"schema_version {version} is older than any that this modelmgr reads",
            hint="measure again with 'modelmgr profile'",
        )
    return version


def _check_created_at(source: JsonSource, created_at: str) -> None:
    try:
        offset = datetime.fromisoformat(created_at).utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise source.error(
            ("created_at",),
            f"created_at {created_at[:60]!r} is no time with its zone (RFC 3339)",
            hint="write for example '2026-01-31T12:00:00Z'",
        )


def _members(source: JsonSource, models: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(models, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        plain = source.plain(models)
        convert(plain, dict[str, Any], source.error, base=("models",))
        raise


def _read_models(
    source: JsonSource, models: Mapping[str, msgspec.Raw], repeated: Mapping[str, list[int]]
) -> dict[str, ModelCost]:
    found: dict[str, ModelCost] = {}
    quick = QuickModels()
    for tag, raw in models.items():
        is_plain = tag not in repeated and len(raw) <= MAX_MODEL_BYTES
        cost = quick.read(raw) if is_plain else None
        found[tag] = _read_model(source, tag, raw, repeated.get(tag)) if cost is None else cost
    return found


def _read_model(
    source: JsonSource, tag: str, raw: msgspec.Raw, lines: list[int] | None
) -> ModelCost:
    # As what is no JSON, a number that none can hold is the file's mistake and not the model's.
    plain = source.plain(raw) if len(raw) <= MAX_MODEL_BYTES else None
    try:
        if lines is not None:
            places = ", ".join(map(str, lines))
            raise source.error(
                ("models", tag),
                f"the tag {tag!r} is there {len(lines)} times (lines {places})",
                hint="keep one of them",
            )
        if len(raw) > MAX_MODEL_BYTES:
            raise source.error(
                ("models", tag),
                f"the model {tag!r} is larger than {format_bytes(MAX_MODEL_BYTES)}",
            )
        return decode_model(plain, source.error, base=("models", tag))
    except InputError as error:
        return ModelCost(error=CostError(kind=InputError.__name__, message=str(error)))
