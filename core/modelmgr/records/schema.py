"""JSON Schemas of the JSON files, derived from the types that read and write them.

Only where the file differs from the record is anything added by hand: a shape's dimensions beside
its figures, the one kind and version, the zone of a time. The YAML kinds are ``workload.schema``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.certificate import Certificate
from modelmgr.records.costs import CostDatabase
from modelmgr.records.result import Result
from modelmgr.records.sweep import Sweep
from modelmgr.records.validation import nearest

DIALECT = "https://json-schema.org/draft/2020-12/schema"

KINDS: Mapping[str, str] = {
    "costs": CostDatabase.KIND,
    "result": Result.KIND,
    "certificate": Certificate.KIND,
    "sweep": Sweep.KIND,
}
"""What people type, and the ``kind`` that stands in the file."""


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a JSON file.

    Args:
        kind: a key or value of ``KINDS``, such as ``costs`` or ``modelmgr.costs``.

    Raises:
        UsageError: there is no such kind; names the nearest.
    """
    return _BUILDERS[full_kind(kind, KINDS)]()


def full_kind(kind: str, kinds: Mapping[str, str]) -> str:
    """Return the full name of a kind, given it or its short form; UsageError where unknown."""
    full = kinds.get(kind, kind)
    if full not in kinds.values():
        raise UsageError(f"there is no kind {kind!r}; {nearest(kind, kinds)}")
    return full


def flatten_root(schema: dict[str, Any], *, title: str) -> dict[str, Any]:
    """Return a schema whose root is the document itself: some editors do not follow a root ref."""
    definitions: dict[str, Any] = dict(schema["$defs"])
    root: dict[str, Any] = definitions.pop(schema["$ref"].rsplit("/", 1)[1])
    for definition in (root, *definitions.values()):
        # The types' docstrings describe Python attributes; their first paragraph says what it is.
        if "description" in definition:
            definition["description"] = definition["description"].partition("\n\n")[0]
    return {"$schema": DIALECT, **root, "title": title, "$defs": definitions}


def _costs_schema() -> dict[str, Any]:
    schema = flatten_root(msgspec.json.schema(CostDatabase), title=CostDatabase.KIND)
    properties = schema["properties"]
    properties["kind"] = {"const": CostDatabase.KIND}
    properties["schema_version"] = {"const": CostDatabase.SCHEMA_VERSION}
    properties["created_at"]["format"] = "date-time"
    schema["required"] = ["schema_version", "kind", *schema["required"]]
    definitions = schema["$defs"]
    shape = definitions["ShapeCost"]
    del shape["properties"]["dims"]
    shape["required"] = []
    shape["additionalProperties"] = {
        "type": "integer",
        "minimum": 1,
        "description": "the size of a dimension, such as batch_size",
    }
    shape["description"] = "What one input shape costs: its dimensions, and beside them its figures"
    model = definitions["ModelCost"]
    model["properties"]["initial_estimate_bytes"]["anyOf"][0]["minimum"] = 1
    model["properties"]["observations"]["minimum"] = 0
    # Either a figure to preload, or the reason why there is none.
    model["anyOf"] = [
        {
            "required": ["initial_estimate_bytes"],
            "properties": {"initial_estimate_bytes": {"type": "integer"}},
        },
        {"required": ["error"], "properties": {"error": {"type": "object"}}},
    ]
    return schema


def _result_schema() -> dict[str, Any]:
    schema = flatten_root(msgspec.json.schema(Result), title=Result.KIND)
    schema["properties"]["kind"] = {"const": Result.KIND}
    schema["properties"]["schema_version"] = {"const": Result.SCHEMA_VERSION}
    schema["properties"]["decisions_sha256"]["pattern"] = "^sha256:[0-9a-f]{64}$"
    schema["required"] = ["schema_version", "kind", *schema["required"]]
    return schema


def _certificate_schema() -> dict[str, Any]:
    schema = flatten_root(msgspec.json.schema(Certificate), title=Certificate.KIND)
    schema["properties"]["kind"] = {"const": Certificate.KIND}
    schema["properties"]["schema_version"] = {"const": Certificate.SCHEMA_VERSION}
    schema["required"] = ["schema_version", "kind", *schema["required"], "sha256"]
    return schema


def _sweep_schema() -> dict[str, Any]:
    schema = flatten_root(msgspec.json.schema(Sweep), title=Sweep.KIND)
    schema["properties"]["kind"] = {"const": Sweep.KIND}
    schema["properties"]["schema_version"] = {"const": Sweep.SCHEMA_VERSION}
    schema["required"] = ["schema_version", "kind", *schema["required"]]
    return schema


_BUILDERS: Mapping[str, Callable[[], dict[str, Any]]] = {
    CostDatabase.KIND: _costs_schema,
    Result.KIND: _result_schema,
    Certificate.KIND: _certificate_schema,
    Sweep.KIND: _sweep_schema,
}
