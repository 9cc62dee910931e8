"""What callers give, checked: every message shows the offending value."""

from __future__ import annotations

import operator
from numbers import Real
from typing import TypeGuard, cast

from modelmgr.errors import UsageError

LONGEST_S = 1e9  # 32 years, and no more than the system's clocks take
_MOST = LONGEST_S  # of any number: MB are a thousand TB then


def check_tag(tag: object) -> None:
    """Refuse a tag that is no text."""
    if not isinstance(tag, str):
        raise UsageError(f"a tag is a text, not {tag!r}")


def as_seconds(name: str, value: object) -> float | None:
    """Return a time-out in seconds; None, infinity and more than a lifetime never end."""
    if value is None:
        return None
    if not _is_real(value) or not value >= 0:
        raise UsageError(f"{name} must be seconds, 0 or more, or None; not {value!r}")
    return None if value > LONGEST_S else float(value)


def as_whole(name: str, value: object, *, least: int | None = None) -> int:
    """Return a whole number of any kind (numpy's too) as Python's; True and False are none."""
    number: int | None = None
    if value is not True and value is not False:
        try:
            number = operator.index(cast("int", value))
        except TypeError:
            number = None
    if number is None or (least is not None and number < least):
        such = "" if least is None else f", {least} or more"
        raise UsageError(f"{name} must be a whole number{such}, not {value!r}")
    return number


def check_positive(name: str, value: object) -> None:
    """Refuse zero, negatives, NaN, what is too large to mean anything, and what is no number."""
    if not _is_number(value) or value == 0:
        raise UsageError(f"{name} must be a positive number, at most {_MOST:g}, not {value!r}")


def check_not_negative(name: str, value: object) -> None:
    """Refuse negatives, NaN, what is too large to mean anything, and what is no number."""
    if not _is_number(value):
        raise UsageError(f"{name} must be a number, 0 to {_MOST:g}; not {value!r}")


def check_share(name: str, value: object) -> None:
    """Refuse what is no share of a whole that leaves some of it."""
    if not _is_number(value) or value >= 1:
        raise UsageError(f"{name} must be in [0, 1), not {value!r}")


def check_has(name: str, value: object, *methods: str) -> None:
    """Refuse an object that lacks methods, or is a class instead of one of its objects."""
    lacking = [method for method in methods if not callable(getattr(value, method, None))]
    if isinstance(value, type) or lacking:
        what = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise UsageError(
            f"{name} must be an object with {', '.join(f'{method}()' for method in methods)}, "
            f"not {what}"
        )


def _is_number(value: object) -> TypeGuard[float]:
    return _is_real(value) and 0 <= value <= _MOST


def _is_real(value: object) -> TypeGuard[float]:
    """Say whether something is a number; True and False are numbers to Python alone."""
    return value is not True and value is not False and isinstance(value, Real)
