"""Parse and format quantities: bytes, durations, rates, fractions.

Memory is ``int`` bytes, time is ``int`` nanoseconds; people write ``24 GiB``, ``35 ms``, ``5/s``
and ``10%``. Binary prefixes are powers of 1024, decimal ones (``MB``, ``GB``) powers of 1000, as
IEC 80000-13 has it. This module imports nothing of ours and raises ``ValueError`` on nonsense.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MIB = 1024**2
GIB = 1024**3
NS_PER_S = 1_000_000_000

_BYTES = {
    "b": 1,
    "kib": 1024,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024**4,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
}
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}
_QUANTITY = re.compile(
    r"\s*([+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?)\s*([^\d\s].*?)?\s*"
)
_MAX = 2**63 - 1


def _parse(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no {what}; write for example {example}")
    number, unit = match.groups()
    if unit is None:
        raise ValueError(f"{text!r} has no unit; write for example {example}")
    scale = units.get(unit.lower())
    if scale is None:
        known = ", ".join(dict.fromkeys(units))
        raise ValueError(f"{text!r} has an unknown unit {unit!r}; known: {known}")
    value = Fraction(number) * scale
    if value < 0:
        raise ValueError(f"{text!r} is negative")
    if value > _MAX:
        raise ValueError(f"{text!r} is too large")
    return round(value)


def parse_bytes(text: str) -> int:
    """Return the bytes in a text such as ``24 GiB`` or ``500MB``; raise ValueError otherwise."""
    return _parse(text, _BYTES, "size", "'24 GiB'")


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds in a text such as ``35 ms``; raise ValueError otherwise."""
    return _parse(text, _NANOSECONDS, "duration", "'35 ms'")


def parse_fraction(text: str) -> float:
    """Return 0.1 for ``10%`` or ``0.1``; raise ValueError outside of 0 to 1."""
    stripped = text.strip()
    try:
        value = float(stripped[:-1]) / 100 if stripped.endswith("%") else float(stripped)
    except ValueError:
        raise ValueError(f"{text!r} is no share; write for example '10%'") from None
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is outside of 0% to 100%")
    return value


def parse_rate_per_s(text: str) -> float:
    """Return the events a second in a text such as ``90/min``; raise ValueError otherwise."""
    number, slash, unit = text.partition("/")
    per_ns = _NANOSECONDS.get(unit.strip().lower()) if slash else None
    try:
        count = float(number)
    except ValueError:
        count = math.nan
    if per_ns is None or not math.isfinite(count):
        raise ValueError(f"{text!r} is no rate; write for example '5/s'")
    if count < 0:
        raise ValueError(f"{text!r} is negative")
    return count * NS_PER_S / per_ns


def format_bytes(value: int | None) -> str:
    """Return at most four significant digits with a binary unit; ``-`` for an unknown size."""
    if value is None:
        return "-"
    size = float(abs(value))
    sign = "-" if value < 0 else ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1023.95 or (unit == "B" and size < 1024):
            return f"{sign}{size:.0f} B" if unit == "B" else f"{sign}{size:.1f} {unit}"
        size /= 1024
    return f"{sign}{size:.1f} TiB"


def format_duration(value_ns: int | None) -> str:
    """Return a duration with the unit that fits it; ``-`` for an unknown one."""
    if value_ns is None:
        return "-"
    sign = "-" if value_ns < 0 else ""
    value = abs(value_ns)
    if value < 1_000:
        return f"{sign}{value} ns"
    if value < 1_000_000:
        return f"{sign}{value / 1_000:.1f} µs"
    if value < NS_PER_S:
        return f"{sign}{value / 1_000_000:.1f} ms"
    if value < 60 * NS_PER_S:
        return f"{sign}{value / NS_PER_S:.2f} s"
    minutes, seconds = divmod(round(value / NS_PER_S), 60)
    if minutes < 60:
        return f"{sign}{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours} h {minutes:02d} min"
