"""Pieces of text side by side, in as many lines as it takes: a piece is never broken."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from modelmgr_cli.terminal import printable


def one_line(text: str) -> str:
    """Return a text that steers no terminal and breaks no line, whoever wrote it."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def packed(pieces: Iterable[Text], width: int, *, indent: int, gap: int = 2) -> list[Text]:
    """Return lines of pieces; one that is wider than a line has one to itself.

    Args:
        pieces: what goes side by side.
        width: columns of a line.
        indent: blanks before each line.
        gap: blanks between pieces.
    """
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + gap + piece.cell_len <= width:
            lines[-1].append(" " * gap).append_text(piece)
        else:
            line = Text(" " * indent)
            lines.append(line.append_text(piece))
    return lines
