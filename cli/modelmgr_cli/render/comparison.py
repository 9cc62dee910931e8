"""What ``compare`` found, as a page: what explains the rest first, then what moved most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from modelmgr.comparing.comparison import Comparison, FigureComparison, Verdict
from modelmgr.reporting.comparison_words import (
    WORDS,
    change_text,
    decision_lines,
    ending_text,
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

_TITLES = ("", "baseline", "new", "change\n%", "99 % interval\n%", "limit", "")
_GAP = 2
_Row = tuple[Text, ...]
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
    # A comparison for an export has the figures that are the same as well.
    moved = [each for each in found.figures if rows is None or each.verdict != "same"]
    shown = moved[:rows]
    if shown:
        if page:
            page.append(Text())
        page.append(_Figures(list(map(_row, shown))))
    if len(shown) < len(moved):
        page.append(Text(f"{len(moved) - len(shown)} more; --all shows them", style="dim"))
    reasons = dict.fromkeys(_reason(each) for each in shown if each.reason)
    page += [Text(printable(reason), style="dim") for reason in reasons]
    if found.decisions is not None:
        lines = list(decision_lines(found.decisions))
        style = "bold red" if found.decisions.failed else ""
        page += [Text()] if page else []
        page.append(Text(printable(lines[0]), style=style))
        page += [Text(printable(line)) for line in lines[1:]]
    ending = ending_text(found)
    verdict = Text(ending, style=_ENDING_STYLES.get(found.ending, "bold yellow"))
    verdict.append(headline(found).removeprefix(ending), style="not bold default")
    return [*page, Text(), verdict] if page else [verdict]


class _Figures:
    """The rows: a table where every name fits in whole, else its figures below each name.

    A name that is cut is the name of two figures: of a model's ``load_peak_bytes`` and ``load_ns``
    little but the model is left. Where not even the figures fit beside each other, they are
    stacked.
    """

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the first of the three that fits."""
        del console
        heads = [(title if "\n" in title else f"\n{title}").split("\n") for title in _TITLES[1:]]
        columns = zip(*(row[1:] for row in self._rows), strict=True)
        widths = [
            max(*map(cell_len, head), *(cell.cell_len for cell in column))
            for head, column in zip(heads, columns, strict=True)
        ]
        total = sum(widths) + _GAP * len(widths)
        longest = max(row[0].cell_len for row in self._rows)
        if not longest + total > options.max_width >= total:
            yield Rows(_TITLES, self._rows)
            return
        for line in zip(*heads, strict=True):
            yield _line([Text(part, style="bold") for part in line], widths)
        yield Text("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * total)
        for name, *figures, verdict in self._rows:
            room = max(0, total - _GAP - name.cell_len)
            yield name + _line([verdict], [max(room, verdict.cell_len)])
            yield _line(figures, widths[:-1])


def _line(row: Iterable[Text], widths: Iterable[int]) -> Text:
    """Return cells to the right of their columns, a gap before each."""
    line = Text()
    for cell, width in zip(row, widths, strict=True):
        line.append(" " * (_GAP + width - cell.cell_len)).append_text(cell)
    return line


def _reason(figure: FigureComparison) -> str:
    """Return why a figure is worse, by its name; why nobody can say, once for all of them."""
    what = owned(figure) if figure.verdict == "worse" else WORDS[figure.verdict]
    return f"{what}: {figure.reason}"


def _row(figure: FigureComparison) -> _Row:
    style = _STYLES.get(figure.verdict, "") if figure.gated else ""
    owner = figure.model or figure.device
    name = Text() if owner is None else Text(f"{printable(owner)} ", style="bold")
    name.append(_short(printable(figure.figure)), style="not bold")
    texts = (
        *value_texts(figure),
        change_text(figure).removesuffix(" %"),
        interval_text(figure).removesuffix(" %"),
        figure.limit if figure.gated else "not gated",
    )
    return (name, *map(Text, texts), Text(WORDS[figure.verdict], style=style))


def _short(figure: str) -> str:
    """Return ``latency_ns 4x128`` for ``shapes[batch_size=4 sequence_length=128].latency_ns``."""
    match = _OF_A_SHAPE.fullmatch(figure)
    if match is None:
        return figure
    sizes = [int(size) for size in _SIZE.findall(match[1])]
    return f"{match[2]} {cells.shape_label(sizes)}"
