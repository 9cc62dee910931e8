"""The look of ``--help``: usage, the command's own text as written, arguments, options, commands.

Typer's own pages are made by rich, whose import alone costs more than all of ``modelmgr --help``,
or by click, which reflows examples. This writes to click's formatter; it knows no command.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from shutil import get_terminal_size
from typing import Any

# Typer carries its own copy of click and has no public names for these.
ClickCommand = Any
ClickContext = Any
ClickFormatter = Any

_MAX_WIDTH = 100
_MIN_TEXT_WIDTH = 30
_GAP = 2


def write_help(
    command: ClickCommand,
    ctx: ClickContext,
    formatter: ClickFormatter,
    *,
    commands: Mapping[str, str],
) -> None:
    """Write one command's help page; ``commands`` maps each subcommand to its summary."""
    width = _page_width()
    bold = "\x1b[1m{}\x1b[0m".format if ctx.color else str
    parts = [_usage(command, ctx, width, bold)]
    if command.help:
        parts.append(_text(command.help, width))
    arguments: list[tuple[str, str]] = []
    panels: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            arguments.append(_argument(record))
        else:
            panels.setdefault(param.rich_help_panel or "Options", []).append(_tidy(record))
    sections = [("Arguments", arguments), ("Commands", list(commands.items()))]
    # The command's own groups of options first; "Options" holds what is left, --help among it.
    sections += [(name, rows) for name, rows in panels.items() if name != "Options"]
    sections.append(("Options", panels.get("Options", [])))
    column = _first_column([rows for _, rows in sections], width)
    parts += [
        f"{bold(title + ':')}\n{_definitions(rows, column, width)}"
        for title, rows in sections
        if rows
    ]
    if ctx.parent is not None:
        parts.append("Every command also takes --quiet, --verbose, --debug and --no-color.")
    if command.epilog:
        parts.append(_text(command.epilog, width))
    formatter.write("\n\n".join(parts) + "\n")


def _page_width() -> int:
    return max(40, min(_MAX_WIDTH, get_terminal_size().columns))


def _usage(command: ClickCommand, ctx: ClickContext, width: int, bold: Callable[[str], str]) -> str:
    pieces = " ".join(command.collect_usage_pieces(ctx))
    line = f"{ctx.command_path} {pieces}"
    wrapped = textwrap.fill(line, width, initial_indent=" " * 7, subsequent_indent=" " * 9)
    return f"{bold('Usage:')} {wrapped.lstrip()}"


def _text(text: str, width: int) -> str:
    """Reflow paragraphs; keep blocks that are indented (examples, lists) line by line."""
    blocks = textwrap.dedent(text).strip("\n").split("\n\n")
    return "\n\n".join(
        block if any(line.startswith("  ") for line in block.splitlines()) else _fill(block, width)
        for block in blocks
    )


def _fill(paragraph: str, width: int) -> str:
    return textwrap.fill(" ".join(paragraph.split()), width)


def _tidy(record: tuple[str, str]) -> tuple[str, str]:
    names, text = record
    # Click writes "--resume / --no-resume"; a column of options reads better without the blanks.
    return names.replace(" / ", "/"), text


def _argument(record: tuple[str, str]) -> tuple[str, str]:
    names, text = record
    return names.partition(" <")[0], text  # typer adds the type: "PATH <path>"


def _first_column(sections: Sequence[Sequence[tuple[str, str]]], width: int) -> int:
    longest = max((len(first) for rows in sections for first, _ in rows), default=0)
    return min(longest, max(16, width // 3)) + _GAP


def _definitions(rows: Sequence[tuple[str, str]], column: int, width: int) -> str:
    room = max(_MIN_TEXT_WIDTH, width - column - _GAP)
    lines: list[str] = []
    for first, second in rows:
        text = " ".join(second.split())
        described = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        head = f"{'':{_GAP}}{first}"
        if len(first) <= column - _GAP:
            lines.append(f"{head:<{column + _GAP}}{described[0]}".rstrip())
            described = described[1:]
        else:
            lines.append(head)
        lines += [f"{'':{column + _GAP}}{line}" for line in described]
    return "\n".join(lines)
