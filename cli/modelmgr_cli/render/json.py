"""JSON on stdout: a record as its file has it, or a plain mapping, indented and with a newline."""

from __future__ import annotations

import msgspec


def as_json(value: object) -> str:
    """Return indented JSON of anything that msgspec encodes; keys keep their order."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
