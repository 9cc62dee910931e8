"""JSON Schemas of every kind of file: the YAML ones, and those that ``records.schema`` knows.

Derived from the types that the readers check with; only rules between keys are added by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from modelmgr.records import schema as records_schema
from modelmgr.records.schema import flatten_root, full_kind
from modelmgr.workload import scenario_entries
from modelmgr.workload.model_entries import SCHEMA_VERSION, AnyEntry, ModelEntry, ModelListFile
from modelmgr.workload.scenario_entries import (
    LOADED_ENTRIES,
    MixEntry,
    ScenarioFile,
    StandInEntry,
    TraceEntry,
)

_MODELS = "modelmgr.models"
_SCENARIO = "modelmgr.scenario"

KINDS: Mapping[str, str] = {
    "models": _MODELS,
    "scenario": _SCENARIO,
    **records_schema.KINDS,
}
"""What people type, and the full name; every kind of file that has a schema."""


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind of file, as people write it.

    Args:
        kind: a key or value of ``KINDS``.

    Raises:
        UsageError: there is no such kind; names the nearest.
    """
    full = full_kind(kind, KINDS)
    if full == _MODELS:
        return _models_schema()
    if full == _SCENARIO:
        return _scenario_schema()
    return records_schema.json_schema(kind)


def _models_schema() -> dict[str, Any]:
    schema = flatten_root(msgspec.json.schema(ModelListFile), title=_MODELS)
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    for entry in get_args(AnyEntry):
        _add_choice(schema["$defs"][entry.__name__], entry)
    return schema


def _scenario_schema() -> dict[str, Any]:
    items = (*LOADED_ENTRIES, StandInEntry, MixEntry, TraceEntry)
    (root, *_), definitions = msgspec.json.schema_components(
        (ScenarioFile, *items), ref_template="#/$defs/{name}"
    )
    schema = flatten_root({**root, "$defs": definitions}, title=_SCENARIO)
    properties = schema["properties"]
    properties["schema_version"] = {"const": scenario_entries.SCHEMA_VERSION}
    # The reader chooses by a key; an editor's checker tries them all.
    properties["models"]["items"] = _any_of(*LOADED_ENTRIES, StandInEntry)
    properties["workload"]["items"] = _any_of(MixEntry, TraceEntry)
    for entry in LOADED_ENTRIES:
        _add_choice(schema["$defs"][entry.__name__], entry)
    return schema


def _any_of(*entries: type[msgspec.Struct]) -> dict[str, Any]:
    return {"anyOf": [{"$ref": f"#/$defs/{entry.__name__}"} for entry in entries]}


def _add_choice(definition: dict[str, Any], entry: type[ModelEntry]) -> None:
    """State which keys exclude each other, or of which one is needed."""
    for word, keys in (("oneOf", entry.ONE_OF), ("anyOf", entry.ANY_OF)):
        if keys:
            definition[word] = [
                {"required": [key], "properties": {key: {"type": "string"}}} for key in keys
            ]
