"""Walk a path through plain values and, beside them, through the types they should have.

msgspec says where a value misfits as ``$.models[0].input[...]``: it names no mapping's key. This
module finds the key, and the type that was expected there. It words nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import inspect

KeyPath = tuple[str | int, ...]
"""Keys and indices from a document's root to a value: ``("models", 0, "tag")``."""

PLACE = re.compile(r"(?:\s+- at )?(`key` in )?`\$((?:\.\w+|\[(?:\d+|\.\.\.)\])*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")


def keys_of(value: object) -> list[str]:
    """Return a mapping's keys in order; none for anything else."""
    return list(cast("dict[str, object]", value)) if isinstance(value, dict) else []


def fields_of(value: object) -> dict[str, object] | None:
    """Return a copy of a mapping; None for anything else."""
    return dict(cast("dict[str, object]", value)) if isinstance(value, dict) else None


def member(value: object, step: str | int) -> object:
    """Return a list's or mapping's member; None where there is none."""
    if isinstance(value, dict):
        return cast("dict[object, object]", value).get(step)
    if isinstance(value, (list, tuple)) and isinstance(step, int):
        items = cast("Sequence[object]", value)
        return items[step] if step < len(items) else None
    return None


def value_at(value: object, at: Sequence[str | int]) -> object:
    """Return what stands at a path; None where there is nothing."""
    for step in at:
        value = member(value, step)
    return value


def find_place(message: str, value: object, wanted: type[Any]) -> tuple[KeyPath, bool]:
    """Return the place that msgspec's message is about, and whether it means a mapping's key."""
    steps, on_key = _parse_place(message)
    found: list[str | int] = []
    for step in steps:
        if step is not None:
            found.append(step)
            continue
        mapping = value_at(value, found)
        if not keys_of(mapping):
            break
        found.append(_find_culprit(value, wanted, found, keys_of(mapping)))
    return tuple(found), on_key


def types_at(value: object, wanted: type[Any], at: Sequence[str | int]) -> list[inspect.Type]:
    """Return every type that is allowed at a path, unions taken apart, descriptions kept."""
    kinds: list[inspect.Type] = _members_of_union(inspect.type_info(wanted))
    for step in at:
        kinds = [
            inner
            for kind in kinds
            for found in _member_types(unwrap(kind), value, step)
            for inner in _members_of_union(found)
        ]
        value = member(value, step)
    return kinds


def unwrap(kind: inspect.Type) -> inspect.Type:
    """Return the type without its description."""
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def description_of(kind: inspect.Type) -> str | None:
    """Return what ``Meta(description=...)`` says of a type."""
    if not isinstance(kind, inspect.Metadata):
        return None
    extra = cast("dict[str, object]", kind.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType] - a bare dict in msgspec
    text = extra.get("description")
    return text.rstrip(".") if isinstance(text, str) else None


def _parse_place(message: str) -> tuple[list[str | int | None], bool]:
    match = PLACE.search(message)
    if match is None:
        return [], False
    steps: list[str | int | None] = []
    for step in _STEP.finditer(match.group(2)):
        name, index = step.groups()
        steps.append(name or (None if index == "..." else int(index)))
    return steps, match.group(1) is not None


def _find_culprit(
    value: object, wanted: type[Any], at: Sequence[str | int], keys: list[str]
) -> str:
    """Bisect for a key whose value is refused: without it the mapping passes."""
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        keys = half if _is_refused(_keep(value, at, half), wanted, at) else keys[len(half) :]
    return keys[0]


def _is_refused(value: object, wanted: type[Any], at: Sequence[str | int]) -> bool:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as mismatch:
        steps, _ = _parse_place(str(mismatch))
        return len(steps) > len(at) and all(
            step in (None, known) for step, known in zip(steps, at, strict=False)
        )
    return False


def _keep(value: object, at: Sequence[str | int], keys: list[str]) -> object:
    """Return the value with only these keys left in the mapping at that place."""
    if not at:
        return {key: member(value, key) for key in keys}
    inner = _keep(member(value, at[0]), at[1:], keys)
    if isinstance(value, dict):
        copy: dict[str | int, object] = dict(cast("dict[str | int, object]", value))
        copy[at[0]] = inner
        return copy
    items = list(cast("Sequence[object]", value))
    items[int(at[0])] = inner
    return items


def _members_of_union(kind: inspect.Type) -> list[inspect.Type]:
    inner = unwrap(kind)
    if isinstance(inner, inspect.UnionType):
        return [found for each in inner.types for found in _members_of_union(each)]
    return [kind]


def _member_types(kind: inspect.Type, value: object, step: str | int) -> list[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        tag = member(value, kind.tag_field) if kind.tag_field is not None else None
        # Of a tagged union only the member that the value names counts.
        if isinstance(value, Mapping) and tag is not None and tag != kind.tag:
            return []
        return [field.type for field in kind.fields if field.encode_name == step]
    if isinstance(kind, inspect.DictType):
        return [kind.value_type]
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        return [kind.item_type]
    if isinstance(kind, inspect.TupleType) and isinstance(step, int):
        return list(kind.item_types[step : step + 1])
    return []
