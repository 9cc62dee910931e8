"""Goals of a sweep (``wait_p95<500ms``), and the smallest device that meets all of them.

Pure. A wait's percentiles are of the requests that were served, so a device that refuses half of
them would look fast: unless a goal says how many may stay unserved, every request must be served.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from modelmgr.errors import UsageError
from modelmgr.records.result import DurationFigures
from modelmgr.records.sweep import SloAnswer, SweepFigures, SweepRow
from modelmgr.records.validation import nearest, shorten
from modelmgr.simulation.pareto import unserved_share
from modelmgr.units import (
    format_bytes,
    format_duration,
    parse_bytes,
    parse_duration_ns,
    parse_fraction,
)

Operator = Literal["<", "<=", ">", ">="]
_Kind = Literal["duration", "size", "share", "count", "ratio"]
_Value = float | int | None

_GOAL = re.compile(r"\s*([A-Za-z][\w.-]*)\s*(<=|>=|<|>)\s*(\S.*?)\s*")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXAMPLE = "write for example 'wait_p95<500ms' or 'unserved<=1%'"


def _duration(name: str, figure: str, figures: SweepFigures) -> _Value:
    durations: DurationFigures | None = getattr(figures, name)
    if durations is None:
        return None
    value: int | None = getattr(durations, figure)
    return value


def _count(name: str, figures: SweepFigures) -> _Value:
    value: int = getattr(figures, name)
    return value


def _ended(name: str, figures: SweepFigures) -> _Value:
    value: int = getattr(figures.requests, name)
    return value


def _hit_rate(figures: SweepFigures) -> _Value:
    total = figures.requests.total
    return figures.hits / total if total else None


def _peak(figures: SweepFigures) -> _Value:
    return sum(use.peak_bytes for use in figures.devices.values())


def _over_bound(figures: SweepFigures) -> _Value:
    return None if figures.bound is None else figures.bound.ratio


_FIGURES: Mapping[str, tuple[_Kind, Callable[[SweepFigures], _Value]]] = {
    **{
        f"{short}_{figure}": ("duration", partial(_duration, f"{short}_ns", field))
        for short in ("wait", "latency")
        for figure, field in (
            ("mean", "mean"),
            ("median", "median"),
            ("p50", "median"),
            ("p95", "p95"),
            ("p99", "p99"),
            ("max", "max"),
        )
    },
    "reload_cost": ("duration", partial(_count, "reload_cost_ns")),
    "reload_ratio": ("ratio", _over_bound),
    "unserved": ("share", unserved_share),
    "hit_rate": ("share", _hit_rate),
    "memory_peak": ("size", _peak),
    **{
        name: ("count", partial(_count, name))
        for name in ("loads", "hits", "evictions", "oom_events", "failed_loads")
    },
    **{
        name: ("count", partial(_ended, name))
        for name in ("completed", "timed_out", "refused", "failed")
    },
}

FIGURES: tuple[str, ...] = tuple(_FIGURES)
"""What a goal can be about."""

_ABOUT_UNSERVED = frozenset({"unserved", "timed_out", "refused", "failed", "completed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One goal; ``limit`` is in the figure's base unit (ns, bytes, a share of 1, a count)."""

    text: str
    figure: str
    sign: Operator
    limit: float | int

    def value(self, figures: SweepFigures) -> _Value:
        """Return the figure that it is about; None where it is not known."""
        return _FIGURES[self.figure][1](figures)

    def is_met(self, figures: SweepFigures) -> bool:
        """Say whether a row meets it; a figure that is not known meets nothing."""
        value = self.value(figures)
        return value is not None and _COMPARE[self.sign](value, self.limit)

    def distance(self, figures: SweepFigures) -> float:
        """Return how far a row is from meeting it, as a share of the limit; 0 where it does."""
        if self.is_met(figures):
            return 0.0
        value = self.value(figures)
        if value is None:
            return float("inf")
        return abs(value - self.limit) / (abs(self.limit) or 1)

    def shown(self, value: _Value) -> str:
        """Return a value of its figure for people."""
        kind = _FIGURES[self.figure][0]
        if value is None:
            return "not known"
        if kind == "duration":
            return format_duration(round(value))
        if kind == "size":
            return format_bytes(round(value))
        return f"{value:.2%}" if kind == "share" else f"{value:,.6g}"


SERVE_ALL = Goal(text="unserved<=0%", figure="unserved", sign="<=", limit=0.0)
"""Is implied where no goal says how many requests may stay unserved."""


def read_goal(text: str) -> Goal:
    """Return the goal of ``FIGURE OP QUANTITY``.

    Raises:
        UsageError: it is no such text; names the nearest known figure.
    """
    match = _GOAL.fullmatch(text)
    if match is None:
        raise UsageError(f"{shorten(text)!r} is no FIGURE OP QUANTITY\n{_EXAMPLE}")
    figure, sign, quantity = match.groups()
    known = _FIGURES.get(figure)
    if known is None:
        raise UsageError(
            f"{shorten(text)!r}: there is no figure {figure!r}\n{nearest(figure, FIGURES)}"
        )
    try:
        limit = _limit(known[0], quantity)
    except ValueError as error:
        raise UsageError(f"{shorten(text)!r}: {error}") from error
    compared: Operator = sign  # type: ignore[assignment]  # the pattern has these only
    return Goal(text=text.strip(), figure=figure, sign=compared, limit=limit)


def _limit(kind: _Kind, quantity: str) -> float | int:
    if kind == "duration":
        return parse_duration_ns(quantity)
    if kind == "size":
        return parse_bytes(quantity)
    if kind == "share":
        return parse_fraction(quantity)
    try:
        number = float(quantity)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):  # no row would meet NaN, and every one infinity
        raise ValueError(f"{quantity!r} is no number; write for example '100'")
    return number


def answer_goals(
    goals: Sequence[Goal], rows: Sequence[SweepRow], *, complete: bool = True
) -> SloAnswer | None:
    """Return which rows meet the goals, and the one with the least memory; None without goals.

    Args:
        goals: all are to be met.
        rows: what is done of a sweep.
        complete: no row is missing.
    """
    if not goals:
        return None
    implied = () if any(goal.figure in _ABOUT_UNSERVED for goal in goals) else (SERVE_ALL,)
    every = (*goals, *implied)
    known = [(row, figures) for row in rows if (figures := row.figures) is not None]
    meeting = [row for row, figures in known if all(goal.is_met(figures) for goal in every)]
    smallest = min(meeting, key=_size, default=None)
    closest: tuple[SweepRow, SweepFigures] | None = None
    if smallest is None:
        closest = min(
            known,
            key=lambda pair: (max(goal.distance(pair[1]) for goal in every), *_size(pair[0])),
            default=None,
        )
    return SloAnswer(
        goals=tuple(goal.text for goal in goals),
        implied=tuple(goal.text for goal in implied),
        meets=tuple(row.number for row in meeting),
        smallest=None if smallest is None else smallest.number,
        closest=None if closest is None else closest[0].number,
        misses=()
        if closest is None
        else tuple(
            f"{goal.text}: it is {goal.shown(goal.value(closest[1]))}"
            for goal in every
            if not goal.is_met(closest[1])
        ),
        complete=complete,
    )


def _size(row: SweepRow) -> tuple[float, int, int]:
    memory = float("inf") if row.memory_bytes is None else row.memory_bytes
    cost_ns = 0 if row.figures is None else row.figures.reload_cost_ns
    return memory, cost_ns, row.number
