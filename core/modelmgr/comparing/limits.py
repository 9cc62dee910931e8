"""By how much a figure may get worse: a share of the old value, an amount, or both. Exact.

Limits are compared in whole numbers and fractions, never in floats: at its limit a figure is still
within it, a byte beyond it is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from modelmgr.units import format_bytes, format_duration, parse_bytes, parse_duration_ns

_PERCENT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*%")
_NUMBER = re.compile(r"\d{1,19}(?:\.\d{1,9})?")
Unit = Literal["bytes", "ns", "count", "ratio"]
"""Of a figure and of an amount that it may move by."""
_EXAMPLES: dict[Unit, str] = {"bytes": "'64 MiB'", "ns": "'5 ms'", "count": "3", "ratio": "0.05"}


@dataclass(frozen=True, slots=True)
class Limit:
    """How far a figure may move in its bad direction.

    Attributes:
        share: of the old value, 0 or more.
        amount: on top of it, in the figure's unit, 0 or more.
        text: as it was written.
    """

    share: Fraction
    amount: Fraction
    text: str
    _share: float = field(init=False, repr=False, compare=False)
    _amount: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Turn the fractions into floats once, for figures that noise makes inexact anyway."""
        object.__setattr__(self, "_share", float(self.share))
        object.__setattr__(self, "_amount", float(self.amount))

    def roughly_allowed(self, old: float) -> float:
        """Return what ``allowed`` does, in floats and fifty times as fast."""
        return abs(old) * self._share + self._amount

    def allowed(self, old: float | Fraction) -> Fraction:
        """Return by how much a figure of this old value may get worse, in its unit."""
        return abs(Fraction(old)) * self.share + self.amount


def parse_limit(text: str, unit: Unit) -> Limit:
    """Return the limit in a text: ``5%``, ``64 MiB``, ``0``, ``5%+1MiB``.

    Args:
        text: a share, an amount, or several joined by ``+``, which then add up.
        unit: of the figure. An amount without a unit is in that one.

    Raises:
        ValueError: it is none, or of another unit.
    """
    share = amount = Fraction(0)
    for part in text.split("+"):
        stripped = part.strip()
        percent = _PERCENT.fullmatch(stripped)
        if percent is not None:
            share += Fraction(percent[1]) / 100
        elif _NUMBER.fullmatch(stripped):
            amount += _plain(stripped, unit)
        else:
            amount += _amount(stripped, unit)
    return Limit(share, amount, re.sub(r"\s+", " ", text.strip()))


def _plain(text: str, unit: Unit) -> Fraction:
    """Return an amount without a unit; half a byte, or half a nanosecond, was meant otherwise."""
    amount = Fraction(text)
    if 0 < amount < 1 and unit in {"bytes", "ns"}:
        share = f"{float(amount * 100):g}%"
        raise ValueError(
            f"{text!r} is less than one of its unit, {unit}; for a share write {share!r}"
        )
    return amount


def _amount(text: str, unit: Unit) -> int:
    try:
        match unit:
            case "bytes":
                return parse_bytes(text)
            case "ns":
                return parse_duration_ns(text)
            case _:
                pass
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no limit; write for example '5%' or {_EXAMPLES[unit]}")


def format_value(value: float | None, unit: Unit) -> str:
    """Return a figure with its unit, rounded for people; ``-`` where it is unknown."""
    if value is None:
        return "-"
    match unit:
        case "bytes":
            return format_bytes(round(value))
        case "ns":
            return format_duration(round(value))
        case "count":
            return f"{value:,.0f}"
        case _:
            return f"{value:.4g}"
