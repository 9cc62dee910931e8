"""Rows of figures that are a table where they fit, and stacked lines where they do not.

A figure is never cut: half of a number is a wrong number. Renders what it is given; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

NAME_MIN = 10
"""The least that a long name gets, in columns, beside its figures."""

_GAP = 2
_INDENT = 2

Cell = str | Text


class Rows:
    """Figures by name, rendered as wide as the page is.

    Args:
        titles: a column's head each; its unit on a second line.
        rows: a cell for each title; an empty one is left out where rows are stacked.
        left: how many columns are names, to the left; the others are figures, to the right.
    """

    def __init__(
        self, titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, left: int = 1
    ) -> None:
        self._titles = tuple(titles)
        self._rows = [tuple(_as_text(cell) for cell in row) for row in rows]
        self._left = left

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render a table, or stacked lines where it would be too wide."""
        del console
        widths = [
            max(map(cell_len, (*title.split("\n"), *(row[at].plain for row in self._rows))))
            for at, title in enumerate(self._titles)
        ]
        room = options.max_width - sum(widths[1:]) - _GAP * (len(widths) - 1)
        if room >= min(widths[0], NAME_MIN):
            yield self._table(min(widths[0], room))
        else:
            yield from self._stacked()

    def _table(self, name_room: int) -> Table:
        # The box itself puts one blank between columns, the padding the other.
        padding = (0, _GAP - 1, 0, 0)
        table = Table(box=SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False)
        for at, title in enumerate(self._titles):
            table.add_column(
                title,
                justify="left" if at < self._left else "right",
                no_wrap=True,
                overflow="ellipsis",
                max_width=name_room if at == 0 else None,
            )
        for row in self._rows:
            table.add_row(*row)
        return table

    def _stacked(self) -> Iterable[Text | Table]:
        # A key is broken behind its dots, words between them.
        titles = [title.replace(".\n", ".").replace("\n", " ") for title in self._titles]
        name_width = max(map(cell_len, titles[self._left :]), default=0)
        value_width = max(
            (cell_len(cell.plain) for row in self._rows for cell in row[self._left :]), default=0
        )
        for row in self._rows:
            indent = len(row[0].plain) - len(row[0].plain.lstrip(" "))
            yield self._heading(row, titles)
            grid = Table.grid(padding=(0, _GAP, 0, 0))
            grid.add_column(style="dim", min_width=_INDENT + name_width)
            grid.add_column(justify="right", no_wrap=True, min_width=value_width)
            for title, cell in zip(titles[self._left :], row[self._left :], strict=True):
                if cell.plain:
                    grid.add_row(f"{'':{indent + _INDENT}}{title}", cell)
            yield grid

    def _heading(self, row: Sequence[Text], titles: Sequence[str]) -> Text:
        if self._left == 1:
            return row[0]
        named = zip(titles, row[: self._left], strict=False)
        return Text(", ").join(
            Text.assemble((f"{title} ", "dim"), cell) for title, cell in named if cell.plain
        )


def _as_text(cell: Cell) -> Text:
    return Text(cell) if isinstance(cell, str) else cell
