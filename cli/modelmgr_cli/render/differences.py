"""What ``costs diff`` and ``costs merge`` found, as pages."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelmgr.records.diff import CostDiff, FigureChange, PropertyChange
from modelmgr.records.figures import Unit
from modelmgr.records.machines import Difference
from modelmgr.records.merge import MergeChoice, MergeResult
from modelmgr.units import format_bytes, format_duration
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable

_OF_A_SHAPE = re.compile(r"shapes\[(.*)\]\.(.*)")
_SHORTENED = 16  # characters of a fingerprint that tell two apart


def difference_page(found: CostDiff, *, hidden: int, above: float) -> list[RenderableType]:
    """Return all that differs; ``hidden`` figures changed by less than ``above``."""
    parts: list[RenderableType] = []
    if found.machine:
        parts += [_title("machine"), _machine(found.machine)]
    for title, tags in (("only in the old", found.removed), ("only in the new", found.added)):
        if tags:
            parts.append(_line(title, ", ".join(tags)))
    if found.fixed:
        parts.append(_line("measured now, failed before", ", ".join(found.fixed)))
    for tag, why in found.newly_failing:
        parts.append(_line("failed now, measured before", f"{tag}: {why}"))
    parts += _by_model(found)
    if hidden:
        figures = "1 figure" if hidden == 1 else f"{hidden} figures"
        parts.append(Text(f"\n{figures} changed by less than {above:.1%}", style="dim"))
    return parts or [Text("Nothing differs.")]


def difference_as_plain(found: CostDiff) -> dict[str, Any]:
    """Return what JSON shows: every change; sizes of the machine are numbers, as everywhere."""
    machine = [
        {"name": each.name, "old": _plain(each.name, each.old), "new": _plain(each.name, each.new)}
        for each in found.machine
    ]
    return {**dataclasses.asdict(found), "machine": machine}


def _plain(name: str, text: str | None) -> str | int | None:
    return int(text) if text is not None and name.endswith("_bytes") else text


def merge_page(result: MergeResult, names: Sequence[str]) -> list[RenderableType]:
    """Return how many models came from where, and why where there was a choice."""
    counts = (
        (name, f"{sum(origin == name for origin in result.origins.values())}") for name in names
    )
    parts: list[RenderableType] = [Rows(("database", "models taken"), counts)]
    if result.choices:
        parts += [Text(), _choices(result.choices)]
    return parts


def describe_difference(difference: Difference) -> str:
    """Return ``packages.torch 2.13 instead of 2.12``: the new one first."""
    new, old = (text or "unknown" for text in (difference.new, difference.old))
    return f"{difference.name} {new} instead of {old}"


def _by_model(found: CostDiff) -> Iterable[RenderableType]:
    # Of a model that was not measured on one side every figure differs, and none says anything.
    one_sided = {*found.fixed, *(tag for tag, _ in found.newly_failing)}
    properties: dict[str, list[PropertyChange]] = {}
    for prop in found.properties:
        if prop.old is not None and prop.new is not None and prop.tag not in one_sided:
            properties.setdefault(prop.tag, []).append(prop)
    listed = (change for change in found.figures if change.tag not in one_sided)
    figures = {tag: list(group) for tag, group in groupby(listed, lambda c: c.tag)}
    for tag in dict.fromkeys((*figures, *properties)):
        yield Text.assemble("\n", cells.name(tag))
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="ellipsis")
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True)
        for change in figures.get(tag, []):
            table.add_row(f"  {_figure_name(change.name)}", *_values(change))
        for prop in properties.get(tag, []):
            name = f"  {_figure_name(prop.name)}"
            table.add_row(name, _short(prop.old), _short(prop.new), Text("changed", "yellow"))
        yield table


def _values(change: FigureChange) -> tuple[str, str, Text]:
    how = {"added": "new", "removed": "gone", "became-unknown": "unknown", "became-known": "known"}
    text = how.get(change.change, "")
    if change.percent is not None:
        text = f"{cells.percent(change.percent / 100, signed=True)} %"
    style = "yellow" if change.percent is None or abs(change.percent) >= 5 else ""
    return _value(change.old, change.unit), _value(change.new, change.unit), Text(text, style=style)


def _value(value: float | None, unit: Unit) -> str:
    if value is None:
        return cells.UNKNOWN
    match unit:
        case "bytes":
            return format_bytes(round(value))
        case "ns":
            return format_duration(round(value))
        case "per_s":
            return f"{cells.rate(value)}/s"
        case "count":
            return f"{value:,}"


def _figure_name(name: str) -> str:
    """Return ``latency at batch_size=4`` for ``shapes[batch_size=4].latency_ns``."""
    match = _OF_A_SHAPE.fullmatch(name)
    plain, place = (match.group(2), f" at {match.group(1)}") if match else (name, "")
    for unit in ("_bytes", "_ns", "_per_s"):
        plain = re.sub(rf"{unit}(?=\.|$)", "", plain)
    return f"{plain.replace('_', ' ').replace('.', ' ')}{place}"


def _machine(differences: Iterable[Difference]) -> Table:
    table = Table.grid(padding=(0, 2))
    for difference in differences:
        old, new = difference.old, difference.new
        if difference.name.endswith("_bytes"):
            old, new = (format_bytes(int(text)) if text else text for text in (old, new))
        table.add_row(
            f"  {difference.name}",
            printable(old or cells.UNKNOWN),
            "→",
            printable(new or cells.UNKNOWN),
        )
    return table


def _choices(choices: Iterable[MergeChoice]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    for title in ("model", "taken from", "not from", "because"):
        table.add_column(title, overflow="fold")
    for choice in choices:
        table.add_row(
            cells.name(choice.tag),
            printable(choice.winner),
            printable(", ".join(choice.losers)),
            choice.reason,
        )
    return table


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _line(title: str, text: str) -> RenderableType:
    return Padding(Text.assemble((f"{title}: ", "bold"), printable(text)), (0, 0))


def _short(text: str | None) -> str:
    if text is None:
        return cells.UNKNOWN
    text = printable(text)
    return text if len(text) <= _SHORTENED else f"{text[: _SHORTENED - 1]}…"
