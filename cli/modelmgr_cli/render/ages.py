"""How long ago, or how long: short, and no finer than anybody reads off a display."""

from __future__ import annotations

from modelmgr.units import NS_PER_S, format_duration

_MS = NS_PER_S // 1000


def brief(value_ns: int) -> str:
    """Return ``35 ms``, ``1.2 s``, ``48 s`` or ``3 min 12 s``."""
    if value_ns < NS_PER_S:
        return f"{max(0, value_ns) // _MS} ms"
    if value_ns < 10 * NS_PER_S:
        return f"{value_ns // (NS_PER_S // 10) / 10:.1f} s"
    if value_ns < 60 * NS_PER_S:
        return f"{value_ns // NS_PER_S} s"
    return format_duration(value_ns // NS_PER_S * NS_PER_S)
