"""JSON Schemas of every kind of file: the YAML ones, and those that ``records.schema`` knows.

Derived from the types that the readers check with; only rules between keys are added by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from modelmgr.records import schema as records_schema
from modelmgr.records.schema import flatten_root, full_kind
from modelmgr.workload.model_entries import SCHEMA_VERSION, AnyEntry, ModelEntry, ModelListFile

_MODELS = "modelmgr.models"

KINDS: Mapping[str, str] = {"models": _MODELS, **records_schema.KINDS}
"""What people type, and the full name; every kind of file that has a schema."""


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind of file, as people write it.

    Args:
        kind: a key or value of ``KINDS``.

    Raises:
        UsageError: there is no such kind; names the nearest.
    """
    if full_kind(kind, KINDS) == _MODELS:
        return _models_schema()
    return records_schema.json_schema(kind)


def _models_schema() -> dict[str, Any]:
    schema = flatten_root(msgspec.json.schema(ModelListFile), title=_MODELS)
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    for entry in get_args(AnyEntry):
        _add_choice(schema["$defs"][entry.__name__], entry)
    return schema


def _add_choice(definition: dict[str, Any], entry: type[ModelEntry]) -> None:
    """State which keys exclude each other, or of which one is needed."""
    for word, keys in (("oneOf", entry.ONE_OF), ("anyOf", entry.ANY_OF)):
        if keys:
            definition[word] = [
                {"required": [key], "properties": {key: {"type": "string"}}} for key in keys
            ]
