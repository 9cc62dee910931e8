"""What the pages say of each command's arguments and options, taken from the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

from modelmgr_cli.app import PROGRAM, app

# Typer has no public name for its groups, commands and parameters: Any.


def commands() -> dict[str, list[tuple[str, str]]]:
    """Return the rows of each command's table by its full name: an option, and what it does."""
    root = typer.main.get_command(app)
    return {PROGRAM: _rows(root, typer.Context(root))} | dict(_below(root, PROGRAM))


def _below(group: Any, path: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    context = typer.Context(group, info_name=path)
    for name in group.list_commands(context):
        command: Any = group.get_command(context, name)
        if isinstance(command, TyperGroup):
            yield from _below(command, f"{path} {name}")
        else:
            yield f"{path} {name}", _rows(command, typer.Context(command))


def _rows(command: Any, context: typer.Context) -> list[tuple[str, str]]:
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    return [
        (f"`{_tidy(names)}`", " ".join(text.split()))
        for names, text in (record for record in records if record is not None)
        if names != "--help"
    ]


def _tidy(names: str) -> str:
    # "--resume / --no-resume" and "PATH <path>", as on the help page
    return names.replace(" / ", "/").partition(" <")[0]
