"""JSON Schemas of every kind of file: those that ``workload.schema`` knows, and a comparison's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelmgr.comparing import threshold_file
from modelmgr.comparing.comparison import Comparison
from modelmgr.comparing.threshold_file import ThresholdFile
from modelmgr.records.schema import flatten_root, full_kind
from modelmgr.workload import schema as workload_schema

KINDS: Mapping[str, str] = {
    **workload_schema.KINDS,
    "thresholds": threshold_file.KIND,
    "comparison": Comparison.KIND,
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
    if full == threshold_file.KIND:
        schema = flatten_root(msgspec.json.schema(ThresholdFile), title=full)
        schema["properties"]["schema_version"] = {"const": threshold_file.SCHEMA_VERSION}
        return schema
    if full == Comparison.KIND:
        schema = flatten_root(msgspec.json.schema(Comparison), title=full)
        schema["properties"]["kind"] = {"const": Comparison.KIND}
        schema["properties"]["schema_version"] = {"const": Comparison.SCHEMA_VERSION}
        schema["required"] = ["schema_version", "kind", *schema["required"]]
        return schema
    return workload_schema.json_schema(kind)
