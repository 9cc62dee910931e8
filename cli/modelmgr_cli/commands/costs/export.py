"""Write a cost database as CSV or Markdown.

  modelmgr costs export costs.json csv > costs.csv
  modelmgr costs export costs.json markdown --out COSTS.md

csv has one row for each model and shape, in bytes and nanoseconds, nothing rounded; an empty field
is unknown. markdown is for people: a README, a pull request, a job's summary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmgr.records.atomic_files import write_atomically
from modelmgr_cli.commands import options
from modelmgr_cli.commands.exporting import exported
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def export(
    context: typer.Context,
    *,
    database: options.Database,
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="csv or markdown.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The file; default: stdout.")
    ] = None,
) -> None:
    """Read, turn, write."""
    terminal = terminal_of(context)
    text = exported(options.load_database(database), options.read_format("FORMAT", form))
    if out is None:
        terminal.out(text)
        return
    options.keep_apart(out, "--out", {"the database": database})
    write_atomically(out, text.encode())
    terminal.tell(f"{form} written to {out}")
