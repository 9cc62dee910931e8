"""What an unquoted YAML scalar means: the core schema of YAML 1.2.

YAML 1.1 (PyYAML's) makes false of ``no``, 90 of ``1:30`` and a date of ``2024-01-01``; in a list of
models these are names. https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import math
import re

_INT = re.compile(r"[-+]?[0-9]{1,40}")
_OCTAL = re.compile(r"0o[0-7]{1,40}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,9})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_LARGEST = 2**63  # what a JSON reader in another language can still hold


def resolve(text: str) -> bool | int | float | str | None:
    """Return the value that an unquoted scalar stands for; ValueError where it is out of range."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            number = int(text, base) if base == 10 else int(text[2:], base)
            if not -_LARGEST <= number < _LARGEST:
                raise ValueError(f"{text} is too large for a number")
            return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is no finite number")
    if _FLOAT.fullmatch(text):
        real = float(text)
        if not math.isfinite(real):
            raise ValueError(f"{text[:60]} is too large for a number")
        return real
    return text
