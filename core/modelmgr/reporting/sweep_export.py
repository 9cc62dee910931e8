"""A sweep as CSV (RFC 4180): a row for each combination, figures in their base units.

An empty field is an unknown; a row that failed says why in ``error``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from modelmgr.records.result import DurationFigures
from modelmgr.records.sweep import Sweep, SweepFigures, SweepRow
from modelmgr.simulation.pareto import unserved_share

Cell = str | int | float | None
_DURATIONS = ("mean", "median", "p95", "p99", "max")


def export_sweep_csv(sweep: Sweep) -> str:
    """Return the sweep as CSV text with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    rows = [dict(_cells(sweep, row)) for row in sweep.rows]
    titles = dict(_cells(sweep, _NO_ROW)) if not rows else rows[0]
    writer.writerow(titles)
    writer.writerows(row.values() for row in rows)
    return text.getvalue()


_NO_ROW = SweepRow(number=0, values={}, memory_bytes=None)


def _cells(sweep: Sweep, row: SweepRow) -> Iterator[tuple[str, Cell]]:
    yield "row", row.number
    for key in sweep.keys:
        yield key.key, row.values.get(key.key)
    yield "memory_bytes", row.memory_bytes
    yield from _figures(row.figures)
    yield "pareto", int(row.number in sweep.pareto)
    yield "meets_slo", None if sweep.slo is None else int(row.number in sweep.slo.meets)
    yield "error", None if row.error is None else row.error.message


def _figures(figures: SweepFigures | None) -> Iterator[tuple[str, Cell]]:
    for name in ("total", "completed", "timed_out", "refused", "failed", "cancelled"):
        yield (
            "requests" if name == "total" else name,
            None if figures is None else getattr(figures.requests, name),
        )
    yield "unserved", None if figures is None else unserved_share(figures)
    for name in ("loads", "hits", "evictions", "oom_events", "reload_cost_ns"):
        yield name, None if figures is None else getattr(figures, name)
    bound = None if figures is None else figures.bound
    yield "bound_ns", None if bound is None else bound.reload_cost_ns
    yield "bound_ratio", None if bound is None else bound.ratio
    yield from _durations("wait", None if figures is None else figures.wait_ns)
    yield from _durations("latency", None if figures is None else figures.latency_ns)
    yield "decisions_sha256", None if figures is None else figures.decisions_sha256


def _durations(name: str, figures: DurationFigures | None) -> Iterator[tuple[str, Cell]]:
    for figure in _DURATIONS:
        yield f"{name}_{figure}_ns", None if figures is None else getattr(figures, figure)
