"""Table cells: a figure as text in a column's unit, with a mark that says how good it is.

A column has one unit, named in its head, so that figures line up and compare at a glance.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from modelmgr.records.measured import Evidence, MeasuredBytes
from modelmgr.units import MIB, NS_PER_S
from modelmgr_cli.terminal import printable

UNKNOWN = "-"
MARKS: dict[Evidence, str] = {"exact": "", "sampled": "~", "estimated": "?"}
MEANINGS = {MARKS["sampled"]: "sampled", MARKS["estimated"]: "estimated", UNKNOWN: "unknown"}
_NS_PER_MS = 1_000_000


def mebibytes(value: int | None) -> str:
    """Return bytes in MiB with one decimal."""
    return UNKNOWN if value is None else f"{value / MIB:,.1f}"


def measured(figure: MeasuredBytes | None) -> str:
    """Return a figure in MiB behind its evidence's mark."""
    return UNKNOWN if figure is None else f"{MARKS[figure.evidence]}{mebibytes(figure.value)}"


def seconds(value_ns: int | None) -> str:
    """Return nanoseconds in seconds, to the millisecond below ten seconds."""
    if value_ns is None:
        return UNKNOWN
    value = value_ns / NS_PER_S
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def milliseconds(value_ns: int | None) -> str:
    """Return nanoseconds in milliseconds with three significant digits or one decimal."""
    if value_ns is None:
        return UNKNOWN
    value = value_ns / _NS_PER_MS
    decimals = 3 if value < 1 else 2 if value < 10 else 1
    return f"{value:,.{decimals}f}"


def rate(value_per_s: float | None) -> str:
    """Return events a second with three significant digits or none after the point."""
    if value_per_s is None:
        return UNKNOWN
    decimals = 2 if value_per_s < 10 else 1 if value_per_s < 100 else 0
    return f"{value_per_s:,.{decimals}f}"


def percent(share: float | None, *, signed: bool = False) -> str:
    """Return a share in percent without its sign of percent, which the column's head has."""
    if share is None:
        return UNKNOWN
    value = share * 100
    decimals = 2 if abs(value) < 0.995 else 1
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def shape_label(dims: Sequence[int]) -> str:
    """Return a shape's sizes, ``4x128``."""
    return "x".join(str(size) for size in dims) or UNKNOWN


def name(tag: str) -> Text:
    """Return a model's tag as a cell; nothing in it is markup or steers the terminal."""
    return Text(printable(tag), style="bold")
