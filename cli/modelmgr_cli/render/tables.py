"""The tables of a cost database: columns are chosen by the width, so that no figure is cut.

Renders records; never measures and never decides. Every column's head has its unit, every figure a
mark or a column that says how good it is, and a legend below says what the rest means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.measured import MeasuredDuration
from modelmgr.reporting.figures import (
    LEDGER_LINES,
    activation_bytes,
    failed_models,
    guess_bytes,
    largest_shape,
    measured_models,
    spread,
    weights_bytes,
)
from modelmgr.units import format_bytes
from modelmgr_cli.render import cells
from modelmgr_cli.render.reasons import shortened
from modelmgr_cli.render.rows import NAME_MIN, Cell, Rows
from modelmgr_cli.terminal import printable

_TAG_ROOM = 24  # what columns of less worth leave a tag, columns of the terminal
_GAP = 2


@dataclass(frozen=True, slots=True)
class _Column:
    """One figure of a model.

    Attributes:
        title: the head, its unit on the second line.
        rank: narrow terminals keep the columns of the lowest ranks.
        figure: the cell of a model.
        guess: the cell of the guess made without loading, empty where there is none.
    """

    title: str
    rank: int
    figure: Callable[[ModelCost], str]
    guess: Callable[[ModelCost], str] = lambda _: ""


def _median(duration: MeasuredDuration | None) -> int | None:
    return duration.median if duration is not None else None


def _latency_ns(cost: ModelCost) -> int | None:
    shape = largest_shape(cost)
    return _median(shape.latency_ns) if shape is not None else None


def _guess(name: str) -> Callable[[ModelCost], str]:
    def cell(cost: ModelCost) -> str:
        value = guess_bytes(cost, name)
        return "" if value is None else cells.mebibytes(value)

    return cell


def _largest_label(cost: ModelCost) -> str:
    shape = largest_shape(cost)
    return cells.shape_label(list(shape.dims.values())) if shape is not None else cells.UNKNOWN


def _throughput(cost: ModelCost) -> str:
    shape = largest_shape(cost)
    return cells.rate(shape.throughput_per_s if shape is not None else None)


def _second_copy(cost: ModelCost) -> str:
    return cells.measured(cost.copies.second_copy_bytes if cost.copies is not None else None)


_SPREAD = _Column("±\n%", 0, lambda c: cells.percent(spread(c.peak_bytes)))

# In the order in which they are shown.
_COLUMNS: tuple[_Column, ...] = (
    _Column(
        "weights\nMiB", 0, lambda c: cells.mebibytes(weights_bytes(c)), _guess("weights_bytes")
    ),
    _Column(
        "activ.\nMiB",
        1,
        lambda c: cells.measured(activation_bytes(c)),
        _guess("activation_bytes"),
    ),
    _Column("resident\nMiB", 0, lambda c: cells.measured(c.resident_bytes)),
    _Column("peak\nMiB", 0, lambda c: cells.measured(c.peak_bytes)),
    _SPREAD,
    _Column(
        "evidence\nof peak",
        3,
        lambda c: c.peak_bytes.evidence if c.peak_bytes else cells.UNKNOWN,
    ),
    _Column("load\npeak MiB", 5, lambda c: cells.measured(c.load_peak_bytes)),
    _Column("2nd copy\nMiB", 4, _second_copy),
    _Column("load\ns", 0, lambda c: cells.seconds(_median(c.load_ns))),
    _Column("latency\nms", 0, lambda c: cells.milliseconds(_latency_ns(c))),
    _Column("items\nper s", 6, _throughput),
    _Column("largest\nshape", 7, _largest_label),
)


def _ledger_line(name: str) -> Callable[[ModelCost], str]:
    return lambda cost: cells.mebibytes(getattr(cost.ledger, f"{name}_bytes"))


_LEDGER: tuple[_Column, ...] = (
    *(_Column(f"{line}\nMiB", 0, _ledger_line(line)) for line in LEDGER_LINES),
    _Column("= peak\nMiB", 0, lambda c: cells.measured(c.peak_bytes)),
)


def cost_table(database: CostDatabase, width: int, *, reasons: bool = True) -> list[RenderableType]:
    """Return the cost table, a legend, and the failures below it.

    Args:
        database: what is shown.
        width: columns of the terminal.
        reasons: say why models failed; else only which, as the reasons were told already.
    """
    models = measured_models(database)
    parts: list[RenderableType] = []
    if models:
        columns = _fitting(models, width)
        parts += [_costs(models, columns), _legend(models, columns)]
    failed = failures(failed_models(database), reasons=reasons)
    parts += [Text(), *failed] if parts and failed else failed
    return parts or [Text("The database has no models.")]


def origin(database: CostDatabase) -> Text:
    """Return a line that says when and on what the database was measured."""
    machine = database.machine
    facts = [
        f"measured {database.created_at}",
        f"on {machine.device.name or machine.device.kind}",
        machine.cpu or "",
        *(f"{name} {version}" for name, version in machine.packages.items()),
    ]
    return Text(printable(", ".join(fact for fact in facts if fact)), style="dim")


def ledger_table(database: CostDatabase) -> list[RenderableType]:
    """Return where each model's peak goes, line by line."""
    models = {t: c for t, c in measured_models(database).items() if c.ledger is not None}
    if not models:
        return [Text("No model of this database has a ledger.")]
    table = Rows(
        ("model", *(column.title for column in _LEDGER)),
        (
            (cells.name(tag), *(column.figure(cost) for column in _LEDGER))
            for tag, cost in models.items()
        ),
    )
    legend = (
        "runtime: the process with its framework; cache: what the allocator keeps beyond live "
        "tensors; the five lines add up to the peak of one copy at its largest shape."
    )
    return [table, Text(legend, style="dim")]


def failures(models: Mapping[str, ModelCost], *, reasons: bool = True) -> list[RenderableType]:
    """Return which models could not be measured, one paragraph each, and why."""
    if not models:
        return []
    what = "1 model was" if len(models) == 1 else f"{len(models)} models were"
    parts: list[RenderableType] = [Text(f"{what} not measured:", style="bold red")]
    for tag, cost in models.items():
        if cost.error is None:
            continue
        line = Text.assemble(cells.name(tag), ": ", (cost.error.kind, "red"))
        if reasons:
            line.append(f": {shortened(cost.error.message)}")
        if cost.initial_estimate_bytes is not None:
            line.append("\nits figures are of an earlier run", style="dim")
        parts.append(Padding(line, (0, 0, 0, 2)))
        guess = guess_bytes(cost, "weights_bytes")
        if guess is not None and cost.initial_estimate_bytes is None:
            note = f"guessed weights: {format_bytes(guess)}"
            parts.append(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    return parts


def _costs(models: Mapping[str, ModelCost], columns: list[_Column]) -> Rows:
    rows: list[list[Cell]] = []
    for tag, cost in models.items():
        rows.append([cells.name(tag), *(column.figure(cost) for column in columns)])
        guesses = [column.guess(cost) for column in columns]
        if any(guesses):
            rows.append([Text(text, style="dim") for text in ("  guessed", *guesses)])
    return Rows(("model", *(column.title for column in columns)), rows)


def _fitting(models: Mapping[str, ModelCost], width: int) -> list[_Column]:
    """Return the columns that fit beside the tags, leaving out those of the highest ranks."""
    longest = max(cell_len(printable(tag)) for tag in models)
    room = width - max(NAME_MIN, min(longest, _TAG_ROOM))
    has_spread = any(spread(cost.peak_bytes) is not None for cost in models.values())
    offered = [column for column in _COLUMNS if has_spread or column is not _SPREAD]
    chosen: list[_Column] = []
    for column in sorted(offered, key=lambda candidate: candidate.rank):
        needed = sum(_needed(models, candidate) for candidate in (*chosen, column))
        if column.rank == 0 or needed <= room:
            chosen.append(column)
    return [column for column in offered if column in chosen]


def _needed(models: Mapping[str, ModelCost], column: _Column) -> int:
    """Return the width of a column with the gap before it."""
    figures = [text for c in models.values() for text in (column.figure(c), column.guess(c))]
    return _GAP + max(cell_len(text) for text in (*column.title.split("\n"), *figures))


def _legend(models: Mapping[str, ModelCost], columns: list[_Column]) -> Text:
    """Return what the heads and marks mean, as far as they occur."""
    rows = [[column.figure(cost) for column in columns] for cost in models.values()]
    lines = [
        f"whole process with its framework, {_times(models)}",
        "activ., latency: at the largest shape",
    ]
    if _SPREAD in columns:
        unknown = any(spread(cost.peak_bytes) is None for cost in models.values())
        few = ", - of too few processes" if unknown else ""
        lines.append(f"±: half of the peak's 95 % interval{few}")
    if any(column.guess(cost) for cost in models.values() for column in columns):
        lines.append("guessed: without loading")
    marks = [
        f"{mark} {meaning}"
        for mark, meaning in cells.MEANINGS.items()
        if any(text.startswith(mark) for row in rows for text in row)
    ]
    lines += [", ".join(marks)] if marks else []
    return Text("; ".join(lines), style="dim")


def _times(models: Mapping[str, ModelCost]) -> str:
    counts = {cost.observations for cost in models.values()}
    if counts == {1}:
        return "1 fresh process"
    times = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{times} fresh processes"
