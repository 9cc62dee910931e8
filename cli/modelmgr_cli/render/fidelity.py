"""How far two results are from each other, as a table and as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from modelmgr.records.fidelity import Distance, Fidelity
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable

KIND = "fidelity"
"""Of the answer that ``--json`` prints."""

_NAMES = {
    "hits": "hits",
    "loads": "loads",
    "evictions": "evictions",
    "wait_mean_ns": "wait mean, ms",
    "wait_median_ns": "wait median, ms",
    "wait_p95_ns": "wait p95, ms",
    "wait_p99_ns": "wait p99, ms",
    "latency_mean_ns": "latency mean, ms",
    "latency_p95_ns": "latency p95, ms",
    "service_mean_ns": "service mean, ms",
    "reload_cost_ns": "time of loads, s",
    "peak_bytes": "peak of {device}, MiB",
}
_MODES = {"run": "real run", "simulate": "simulation"}


def fidelity_page(found: Fidelity, name: str) -> list[RenderableType]:
    """Return the distances as a table.

    Args:
        found: what ``compare_results`` said.
        name: what the result that it was held against is called.
    """
    this, against = "this", printable(name)
    left, right = (this, against) if found.reference == "this" else (against, this)
    heading = Text("against ", style="bold")
    heading.append(against, style="bold")
    heading.append(
        f": {left} is the {_MODES[found.reference_mode]}, {right} the {_MODES[found.other_mode]}",
        style="not bold",
    )
    page: list[RenderableType] = [heading]
    page += [
        Text(f"not the same {what}: {printable(ours)} and {printable(theirs)}", style="yellow")
        if what != "interrupted"
        else Text(f"interrupted: {ours} and {theirs}", style="yellow")
        for what, ours, theirs in found.differences
    ]
    titles = ("", _title(found.reference_mode, left), _title(found.other_mode, right), "off by\n%")
    return [*page, Text(), Rows(titles, map(_row, found.distances))]


def fidelity_as_plain(found: Fidelity, name: str) -> dict[str, Any]:
    """Return what JSON shows."""
    return {
        "against": name,
        **dataclasses.asdict(found),
        "differences": [
            {"name": what, "reference": ours, "other": theirs}
            for what, ours, theirs in found.differences
        ],
    }


def _title(mode: str, which: str) -> str:
    return f"{_MODES[mode]}\n{'this' if which == 'this' else 'other'}"


def _row(distance: Distance) -> tuple[str, str, str, str]:
    name = _NAMES[distance.name].format(device=printable(distance.device or ""))
    share = None if distance.percent is None else distance.percent / 100
    return (
        name,
        _value(distance, distance.reference),
        _value(distance, distance.other),
        cells.percent(share, signed=True),
    )


def _value(distance: Distance, value: int | None) -> str:
    if value is None:
        return cells.UNKNOWN
    match distance.unit:
        case "count":
            return f"{value:,}"
        case "bytes":
            return cells.mebibytes(value)
        case "ns":
            return (
                cells.seconds(value)
                if distance.name == "reload_cost_ns"
                else cells.milliseconds(value)
            )
