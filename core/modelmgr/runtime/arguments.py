"""What callers give, checked: every message shows the offending value."""

from __future__ import annotations

import math

from modelmgr.errors import UsageError


def check_types(tag: object, priority: object) -> None:
    """Refuse a tag that is no text and a priority that is no whole number."""
    if type(priority) is not int:
        raise UsageError(f"priority must be a whole number, not {priority!r}")
    if not isinstance(tag, str):
        raise UsageError(f"a tag is a text, not {tag!r}")


def as_seconds(name: str, value: object) -> float | None:
    """Return a time-out in seconds; None and infinity never end."""
    if value is None:
        return None
    if not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise UsageError(f"{name} must be seconds, 0 or more, or None; not {value!r}")
    return None if math.isinf(value) else float(value)


def check_positive(name: str, value: float) -> None:
    """Refuse zero, negatives, NaN and infinity."""
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"{name} must be a positive number, not {value!r}")


def check_not_negative(name: str, value: float) -> None:
    """Refuse negatives, NaN and infinity."""
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"{name} must be a number, 0 or more; not {value!r}")
