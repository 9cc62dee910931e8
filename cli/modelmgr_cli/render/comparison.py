"""What ``compare`` found, as a page: what explains the rest first, then what moved most."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rich.console import RenderableType
from rich.text import Text

from modelmgr.comparing.comparison import Comparison, FigureComparison, Verdict
from modelmgr.reporting.comparison_words import (
    ENDINGS,
    WORDS,
    change_text,
    decision_lines,
    headline,
    interval_text,
    owned,
    remarks,
    value_texts,
)
from modelmgr_cli.render import cells
from modelmgr_cli.render.rows import Rows
from modelmgr_cli.terminal import printable

ROWS = 20
"""Figures that are shown unless all are asked for."""

_OF_A_SHAPE = re.compile(r"shapes\[(.*)\]\.(.*)")
_SIZE = re.compile(r"=(\d+)")
_STYLES: Mapping[Verdict, str] = {
    "worse": "bold red",
    "differs": "bold red",
    "cannot-say": "yellow",
    "not-comparable": "dim",
    "better": "green",
}
_REMARKS = {"bad": "bold red", "odd": "yellow", "plain": ""}
_ENDING_STYLES = {"fine": "bold green", "regression": "bold red"}


def comparison_page(found: Comparison, *, rows: int | None = ROWS) -> list[RenderableType]:
    """Return the remarks, the figures that moved (at most ``rows``), the decisions, the verdict."""
    page: list[RenderableType] = [
        Text(printable(each.text), style=_REMARKS[each.level]) for each in remarks(found)
    ]
    moved = found.figures
    shown = moved if rows is None else moved[:rows]
    if shown:
        titles = ("", "baseline", "new", "change\n%", "99 % interval\n%", "limit", "")
        if page:
            page.append(Text())
        page.append(Rows(titles, map(_row, shown)))
    if len(shown) < len(moved):
        page.append(Text(f"{len(moved) - len(shown)} more; --all shows them", style="dim"))
    reasons = dict.fromkeys(_reason(each) for each in shown if each.reason)
    page += [Text(printable(reason), style="dim") for reason in reasons]
    if found.decisions is not None:
        lines = list(decision_lines(found.decisions))
        style = "bold red" if found.decisions.failed else ""
        page += [Text(), Text(printable(lines[0]), style=style)]
        page += [Text(printable(line)) for line in lines[1:]]
    ending = ENDINGS[found.ending]
    verdict = Text(ending, style=_ENDING_STYLES.get(found.ending, "bold yellow"))
    verdict.append(headline(found).removeprefix(ending), style="not bold default")
    return [*page, Text(), verdict] if page else [verdict]


def _reason(figure: FigureComparison) -> str:
    """Return why a figure is worse, by its name; why nobody can say, once for all of them."""
    what = owned(figure) if figure.verdict == "worse" else WORDS[figure.verdict]
    return f"{what}: {figure.reason}"


def _row(figure: FigureComparison) -> tuple[str | Text, ...]:
    style = _STYLES.get(figure.verdict, "") if figure.gated else ""
    owner = figure.model or figure.device
    name = Text() if owner is None else Text(f"{printable(owner)} ", style="bold")
    name.append(_short(printable(figure.figure)), style="not bold")
    return (
        name,
        *value_texts(figure),
        change_text(figure).removesuffix(" %"),
        interval_text(figure).removesuffix(" %"),
        figure.limit if figure.gated else "not gated",
        Text(WORDS[figure.verdict], style=style),
    )


def _short(figure: str) -> str:
    """Return ``latency_ns 4x128`` for ``shapes[batch_size=4 sequence_length=128].latency_ns``."""
    match = _OF_A_SHAPE.fullmatch(figure)
    if match is None:
        return figure
    sizes = [int(size) for size in _SIZE.findall(match[1])]
    return f"{match[2]} {cells.shape_label(sizes)}"
