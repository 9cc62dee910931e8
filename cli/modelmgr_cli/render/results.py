"""The tables of a result: how requests ended, how long they waited, what devices and models did.

Renders records; never measures and never decides. Every column's head has its unit.
"""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from modelmgr.records.result import DurationFigures, ModelUse, Result
from modelmgr.units import format_duration
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable


def result_page(result: Result) -> list[RenderableType]:
    """Return a result as tables, most important first."""
    page: list[RenderableType] = [
        _heading(result),
        Text(),
        _requests(result),
        Text(),
        _waits(result),
        Text(),
        _devices(result),
        Text(),
        _models(result),
    ]
    sketched = result.wait_ns is not None and result.wait_ns.relative_error is not None
    legend = "wait and latency count from the scheduled arrival; - : unknown, or too few requests"
    if sketched and result.wait_ns is not None:
        legend += f"; percentiles within {cells.percent(result.wait_ns.relative_error)} %"
    page.append(Text(legend, style="dim"))
    return page


def _heading(result: Result) -> Text:
    line = Text(printable(" ".join(result.scenario.split())), style="bold")
    line.append(
        f": policy {printable(result.policy)}, seed {result.seed}, "
        f"{format_duration(result.duration_ns)} simulated"
        if result.mode == "simulate"
        else f": policy {printable(result.policy)}, {format_duration(result.duration_ns)}",
        style="not bold",
    )
    if result.partial:
        line.append(", interrupted", style="yellow not bold")
    return line


def _requests(result: Result) -> Rows:
    requests = result.requests
    ended = (
        ("completed", requests.completed),
        ("timed out", requests.timed_out),
        ("refused", requests.refused),
        ("failed", requests.failed),
        ("cancelled", requests.cancelled),
    )
    first = sum(1 for use in result.models.values() if use.loads)
    figures: list[tuple[str, str]] = [("requests", f"{requests.total:,}")]
    figures += [(f"  {name}", f"{count:,}") for name, count in ended if count]
    figures += [
        ("hits", f"{result.hits:,}"),
        ("loads", f"{result.loads:,}"),
        ("  again", f"{result.loads - first:,}"),
        ("evictions", f"{result.evictions:,}"),
        ("out of memory", f"{result.oom_events:,}"),
        ("time of loads, s", cells.seconds(result.reload_cost_ns)),
    ]
    if result.failed_loads:
        figures.append(("failed loads", f"{result.failed_loads:,}"))
    return Rows(("", "whole run"), figures)


def _waits(result: Result) -> Rows:
    return Rows(
        ("", "mean\nms", "median\nms", "p95\nms", "p99\nms", "longest\nms"),
        [("wait", *_durations(result.wait_ns)), ("latency", *_durations(result.latency_ns))],
    )


def _durations(figures: DurationFigures | None) -> tuple[str, ...]:
    if figures is None:
        return (cells.UNKNOWN,) * 5
    values = (figures.mean, figures.median, figures.p95, figures.p99, figures.max)
    return tuple(map(cells.milliseconds, values))


def _devices(result: Result) -> Rows:
    return Rows(
        ("device", "limit\nMiB", "peak\nMiB", "mean\nMiB"),
        (
            (
                cells.name(name),
                cells.mebibytes(use.limit_bytes),
                cells.mebibytes(use.peak_bytes),
                cells.mebibytes(use.mean_bytes),
            )
            for name, use in result.devices.items()
        ),
    )


def _models(result: Result) -> Rows:
    titles = ("model", "requests", "hits\n%", "loads", "evictions", "wait\nmean ms", "wait\np95 ms")
    return Rows(titles, ((cells.name(tag), *_model(use)) for tag, use in result.models.items()))


def _model(use: ModelUse) -> tuple[str, ...]:
    wait = use.wait_ns
    share = use.hits / use.requests if use.requests else None
    return (
        f"{use.requests:,}",
        cells.percent(share),
        f"{use.loads:,}",
        f"{use.evictions:,}",
        cells.milliseconds(None if wait is None else wait.mean),
        cells.milliseconds(None if wait is None else wait.p95),
    )
