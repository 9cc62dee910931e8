"""JSON on stdout, indented and with a newline: a record as its file has it, or a command's answer.

Every answer says what it is, as the files do, so that a program can refuse what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

ANSWER_VERSION = 1
"""``schema_version`` of the answers; raised when a key changes its meaning or goes away."""


def as_json(value: object) -> str:
    """Return indented JSON of anything that msgspec encodes; keys keep their order."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def answer(kind: str, value: Mapping[str, Any]) -> str:
    """Return a command's answer as JSON, headed by ``kind`` and ``schema_version``."""
    return as_json({"kind": f"modelmgr.{kind}", "schema_version": ANSWER_VERSION, **value})
