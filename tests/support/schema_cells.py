"""What the reference of the files says of a key, taken from its JSON Schema: type and default."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from modelmgr.comparing.schema import KINDS, json_schema

Schema = Mapping[str, Any]

_WORDS = {
    "a size with its unit such as '500 MiB'": "size",
    "a duration with its unit such as '35 ms'": "duration",
    "a rate with its unit of time such as '5/s'": "rate",
    "a share such as '10%'": "share",
    "a path, from the scenario's folder": "path",
    "a local path, package:NAME/path, or a hub id": "path or hub id",
    "written module:callable, such as my_package.models:load": "module:callable",
    "an auto class such as AutoModelForCausalLM": "class",
    "a dimension's name in small letters, digits and _": "dimension",
    "a name of at most 128 letters, digits and . _ - : / @ +, a letter or digit first": "tag",
}
_UNITS = {"_bytes": "bytes", "_ns": "ns"}
"""By the end of the key."""
_NO_DEFAULT = object()


def definitions() -> dict[str, Schema]:
    """Return every object of every kind of file by its name; a file's own has its kind's.

    A scenario's models with a loader are left out: they have the keys of a model list's, and those
    of a model without one.
    """
    found: dict[str, Schema] = {}
    for kind in KINDS:
        schema = json_schema(kind)
        for name, definition in {kind: schema, **schema.get("$defs", {})}.items():
            # A kind of file has objects of another one; they must be the same.
            assert found.setdefault(name, definition) == definition, name
    for name in [name for name in found if re.fullmatch("Scenario.+Entry", name)]:
        both = {**keys_of(found["StandInEntry"]), **keys_of(found[name.removeprefix("Scenario")])}
        assert keys_of(found.pop(name)) == both, name
    return found


def keys_of(definition: Schema) -> dict[str, tuple[str, str]]:
    """Return type and default of each key of an object, as the reference writes them."""
    required = set(definition["required"])
    return {
        key: (_type(schema, key), "required" if key in required else _default(schema))
        for key, schema in definition["properties"].items()
    }


def title_of(name: str) -> str:
    """Return what the reference calls an object: ``ScenarioTorchEntry`` is its ``torch``."""
    short = re.sub(r"^Scenario(?=.*Entry$)|Entry$", "", name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", short).lower()


def _type(schema: Schema, key: str) -> str:
    """Return a key's type in words, with its unit; that null is the default says that it may be."""
    parts = schema.get("anyOf", [schema])
    if schema.get("default", _NO_DEFAULT) is None:
        parts = [part for part in parts if part.get("type") != "null"]
    words = _or([_word(part) for part in parts])
    unit = next((unit for suffix, unit in _UNITS.items() if key.endswith(suffix)), None)
    # An object says the units of its own keys.
    return words if unit is None or "](" in words else f"{words}, {unit}"


def _word(schema: Schema) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema:
        title = title_of(schema["$ref"].rsplit("/", 1)[1])
        return f"[{title}](#{title.replace(' ', '-')})"
    if schema.get("description") in _WORDS:
        return _WORDS[schema["description"]]
    if "enum" in schema:
        return _or([f"`{value}`" for value in schema["enum"]])
    if "anyOf" in schema:
        return _or([_word(part) for part in schema["anyOf"]])
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list of two {_word(schema['prefixItems'][0])}s"
        case "array":
            return f"list of {_word(schema['items'])}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            names = _word(schema["propertyNames"]) if "propertyNames" in schema else "name"
            return f"{names} to {_word(schema['additionalProperties'])}"
        case "object":
            return "anything by name"
        case "string":
            return "text"
        case "boolean":
            return "`true` or `false`"
        case number:
            return f"{number}{_limits(schema)}"


def _default(schema: Schema) -> str:
    """Return a key's default as one writes it."""
    match schema.get("default", _NO_DEFAULT):
        case None:
            return "null"
        case {} | [] | () as nothing if not nothing:
            return "none"
        case dict():
            return "its own"
        case str() as text:
            return f"`{text}`"
        case default if default is _NO_DEFAULT:
            return "none"
        case default:
            return f"`{json.dumps(default)}`"


def _or(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _limits(schema: Schema) -> str:
    low, high, above = (schema.get(key) for key in ("minimum", "maximum", "exclusiveMinimum"))
    if above is not None:
        return f" above {above}"
    # A limit that nobody meets would only be in the way.
    if low is None or low == -(2**63):
        return ""
    return (
        f" from {low}" if high is None or high > 2**31 or high == 1e9 else f" from {low} to {high}"
    )
