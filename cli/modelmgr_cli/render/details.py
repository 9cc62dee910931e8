"""One model of a cost database in full: every figure, the ledger, every shape, notes.

Renders records; never measures and never decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelmgr.records.costs import ModelCost
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.reporting.figures import (
    LEDGER_LINES,
    activation_bytes,
    difference,
    dimension_names,
    guess_bytes,
    spread,
    weights_bytes,
)
from modelmgr.units import format_bytes, format_duration
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Cell, Rows
from modelmgr_cli.render.tables import failures
from modelmgr_cli.terminal import printable

_BESIDE_WIDTH = 64  # narrower terminals get what a figure means on a line of its own
_BAR_MIN, _BAR_WIDTH = 8, 24
_LEDGER_FIGURES = 38  # columns of a ledger line before its bar: 13, 11, 8 and the gaps


def model_details(tag: str, cost: ModelCost, width: int) -> list[RenderableType]:
    """Return everything that is known of one model."""
    failed = failures({tag: cost} if cost.error is not None else {})
    if cost.error is not None and cost.initial_estimate_bytes is None:
        return failed
    parts: list[RenderableType] = [_head(tag, cost), _figures(cost, width)]
    if cost.ledger is not None:
        parts += [_title("where the peak goes"), _ledger(cost, width)]
    if cost.shapes:
        parts += [_title("by shape"), _shapes(cost)]
    if cost.notes:
        notes = (Padding(Text(printable(note)), (0, 0, 0, 2)) for note in cost.notes)
        parts += [_title("notes"), *notes]
    if cost.fingerprint is not None:
        parts.append(Text(f"\nfingerprint {printable(cost.fingerprint)}", style="dim"))
    return [*parts, Text(), *failed] if failed else parts


def _head(tag: str, cost: ModelCost) -> Text:
    how = "alone (isolation)" if cost.method == "isolation" else "from the whole device's use"
    times = f"{cost.observations} fresh process{'es' if cost.observations != 1 else ''}"
    return Text.assemble(cells.name(tag), (f"  measured {how}, {times}", "dim"))


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _figures(cost: ModelCost, width: int) -> RenderableType:
    facts = list(_facts(cost))
    if width < _BESIDE_WIDTH:
        lines = (
            ((f"  {name}  {figure}\n"), (f"    {meaning}\n", "dim"))
            for name, figure, meaning in facts
        )
        text = Text.assemble(*(part for line in lines for part in line))
        text.rstrip()
        return text
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for name, figure, meaning in facts:
        table.add_row(f"  {name}", figure, meaning)
    return table


def _facts(cost: ModelCost) -> Iterator[tuple[str, str, str]]:
    """Return of each figure its name, itself with its unit, how good it is and its meaning."""
    second = cost.copies.second_copy_bytes if cost.copies is not None else None
    for name, figure, meaning in (
        ("resident", cost.resident_bytes, "after a first batch"),
        ("peak", cost.peak_bytes, "at the largest shape"),
        ("load peak", cost.load_peak_bytes, "while it loads"),
        ("second copy", second, "what one more copy takes"),
    ):
        value = figure.value if figure is not None else None
        yield name, format_bytes(value), f"{_quality(figure)}{meaning}"
    upper = "upper figure that a manager starts from"
    yield "preload", format_bytes(cost.initial_estimate_bytes), upper
    yield from _durations(cost)
    guessed = guess_bytes(cost, "weights_bytes")
    activation = activation_bytes(cost)
    if cost.estimate is not None:
        off = _off(difference(guessed, weights_bytes(cost)))
        yield "guessed weights", format_bytes(guessed), f"without loading{off}"
        guessed = guess_bytes(cost, "activation_bytes")
        off = _off(difference(guessed, activation.value if activation is not None else None))
        yield "guessed activation", format_bytes(guessed), f"without loading{off}"


def _durations(cost: ModelCost) -> Iterator[tuple[str, str, str]]:
    reclaim = cost.unload.reclaim_ns if cost.unload is not None else None
    for name, duration, meaning in (
        ("load", cost.load_ns, "without imports"),
        ("memory back after", reclaim, "unload to memory free"),
    ):
        median = duration.median if duration is not None else None
        yield name, format_duration(median), f"{_range(duration)}{meaning}"
    if cost.unload is not None:
        residue = format_bytes(cost.unload.residue_bytes)
        yield "stays behind", residue, "on the device after the unload"


def _ledger(cost: ModelCost, width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    peak = cost.peak_bytes.value if cost.peak_bytes is not None else None
    room = min(_BAR_WIDTH, width - _LEDGER_FIGURES)
    bar_width = room if room >= _BAR_MIN else 0
    for line in LEDGER_LINES:
        value: int | None = getattr(cost.ledger, f"{line}_bytes")
        share = value / peak if value is not None and peak else None
        bar = "█" * round(bar_width * max(0.0, min(1.0, share or 0.0)))
        shown = f"{share:.1%}" if share is not None else cells.UNKNOWN
        table.add_row(f"  {line}", format_bytes(value), shown, Text(bar, style="cyan"))
    table.add_row("  = peak", format_bytes(peak), "", "", style="bold")
    return table


def _shapes(cost: ModelCost) -> Rows:
    dimensions = dimension_names([cost])
    titles = [
        *(name.replace("_", "\n", 1) for name in dimensions),
        "activation\nMiB", "±\n%", "latency\nms", "p95\nms", "min\nms", "max\nms", "items\nper s",
    ]  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for shape in cost.shapes:
        latency = shape.latency_ns
        durations = (
            (latency.median, latency.p95, latency.min, latency.max)
            if latency is not None
            else (None,) * 4
        )
        rows.append(
            (
                *(f"{shape.dims[name]}" if name in shape.dims else "" for name in dimensions),
                cells.measured(shape.activation_bytes),
                cells.percent(spread(shape.activation_bytes)),
                *(cells.milliseconds(value) for value in durations),
                cells.rate(shape.throughput_per_s),
            )
        )
    return Rows(titles, rows, left=max(1, len(dimensions)))


def _quality(figure: MeasuredBytes | None) -> str:
    if figure is None:
        return "unknown; "
    share = spread(figure)
    plus_minus = f", ±{cells.percent(share)} %" if share is not None else ""
    return f"{figure.evidence}{plus_minus}; "


def _range(duration: MeasuredDuration | None) -> str:
    if duration is None:
        return "unknown; "
    if len(duration.samples) == 1:
        return ""
    count = f" of {len(duration.samples)}" if duration.samples else ""
    low, high = format_duration(duration.min), format_duration(duration.max)
    return f"median{count} ({low} to {high}); "


def _off(share: float | None) -> str:
    return "" if share is None else f", {cells.percent(share, signed=True)} % off"
