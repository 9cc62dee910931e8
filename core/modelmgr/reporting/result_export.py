"""A result in the formats that ``--export`` knows: CSV (RFC 4180) and Markdown.

CSV has one row for each model and one, without a tag, for the whole run; figures are in their base
units and an empty field is an unknown. Markdown is for people: seconds, MiB, rounded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from modelmgr.records.result import DurationFigures, Result
from modelmgr.units import MIB, NS_PER_S, format_duration

Cell = str | int | float | None
_FIGURES = ("count", "mean", "median", "p95", "p99", "min", "max")


def export_result_csv(result: Result) -> str:
    """Return the result as CSV text with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    rows = [dict(_row(result, tag)) for tag in (None, *result.models)]
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue()


def _row(result: Result, tag: str | None) -> Iterator[tuple[str, Cell]]:
    use = None if tag is None else result.models[tag]
    yield "scenario", result.scenario
    yield "mode", result.mode
    yield "policy", result.policy
    yield "seed", result.seed
    yield "partial", int(result.partial)
    yield "model", tag
    yield "requests", result.requests.total if use is None else use.requests
    for name in ("completed", "timed_out", "refused", "failed", "cancelled"):
        yield name, getattr(result.requests, name) if use is None else None
    for name in ("loads", "hits", "evictions"):
        yield name, getattr(use or result, name)
    yield "oom_events", result.oom_events if use is None else None
    yield "reload_cost_ns", result.reload_cost_ns if use is None else None
    yield from _durations("wait", (use or result).wait_ns)
    yield from _durations("latency", result.latency_ns if use is None else None)
    yield "decisions_sha256", result.decisions_sha256


def _durations(name: str, figures: DurationFigures | None) -> Iterator[tuple[str, Cell]]:
    for figure in _FIGURES:
        unit = "" if figure == "count" else "_ns"
        yield f"{name}_{figure}{unit}", getattr(figures, figure) if figures is not None else None


def export_result_markdown(result: Result) -> str:
    """Return the result as Markdown tables."""
    requests = result.requests
    partial = ", interrupted" if result.partial else ""
    passed = format_duration(result.duration_ns)
    lines = [
        f"# {_escaped(result.scenario)}: {result.mode}",
        "",
        f"Policy {_escaped(result.policy)}, seed {result.seed}, {passed} long{partial}.",
        "",
        *_table(
            ("requests", "completed", "timed out", "refused", "failed", "cancelled"),
            [
                (
                    requests.total,
                    requests.completed,
                    requests.timed_out,
                    requests.refused,
                    requests.failed,
                    requests.cancelled,
                )
            ],
        ),
        *_table(
            ("loads", "hits", "evictions", "out of memory", "time of loads (s)"),
            [
                (
                    result.loads,
                    result.hits,
                    result.evictions,
                    result.oom_events,
                    _seconds(result.reload_cost_ns),
                )
            ],
        ),
        *_table(
            ("from arrival (s)", "mean", "median", "p95", "p99", "max"),
            [("wait", *_seconds_of(result.wait_ns)), ("latency", *_seconds_of(result.latency_ns))],
        ),
        *_table(
            ("device", "limit (MiB)", "peak (MiB)", "mean (MiB)"),
            [
                (
                    _escaped(name),
                    *(f"{v / MIB:.1f}" for v in (d.limit_bytes, d.peak_bytes, d.mean_bytes)),
                )
                for name, d in result.devices.items()
            ],
        ),
        *_table(
            ("model", "requests", "hits", "loads", "evictions", "wait, mean (s)", "wait, p95 (s)"),
            [
                (
                    _escaped(tag),
                    use.requests,
                    use.hits,
                    use.loads,
                    use.evictions,
                    _seconds(None if use.wait_ns is None else use.wait_ns.mean),
                    _seconds(None if use.wait_ns is None else use.wait_ns.p95),
                )
                for tag, use in result.models.items()
            ],
        ),
        f"Decisions: {result.decisions}, `{result.decisions_sha256}`",
    ]
    return "\n".join(lines) + "\n"


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    head = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    return [*head, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def _seconds_of(figures: DurationFigures | None) -> tuple[str, ...]:
    if figures is None:
        return ("-",) * 5
    values = (figures.mean, figures.median, figures.p95, figures.p99, figures.max)
    return tuple(map(_seconds, values))


def _seconds(value_ns: int | None) -> str:
    return "-" if value_ns is None else f"{value_ns / NS_PER_S:.4g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
