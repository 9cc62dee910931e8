"""Print the JSON Schema of a file format, for editors and other programs.

  modelmgr schema models > models.schema.json
  modelmgr schema costs

A model list whose first line is

  # yaml-language-server: $schema=models.schema.json

is then completed and checked while it is written. Without KIND the kinds are listed.
"""

from __future__ import annotations

from typing import Annotated

import typer

from modelmgr.comparing.schema import KINDS, json_schema
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.render.json import as_json
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@app.command(help=__doc__, cls=DocCommand)
def schema(
    context: typer.Context,
    *,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help=f"{' or '.join(KINDS)}.", autocompletion=_complete_kind
        ),
    ] = None,
) -> None:
    """Print one schema, or the kinds there are."""
    terminal = terminal_of(context)
    if kind is None:
        terminal.out("\n".join(KINDS))
    else:
        terminal.out(as_json(json_schema(kind)))
