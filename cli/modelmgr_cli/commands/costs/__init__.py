"""Look after cost databases, the files that profile writes.

  modelmgr costs show costs.json             the table again
  modelmgr costs show costs.json bert-base   everything about one model
  modelmgr costs diff old.json new.json      what changed
  modelmgr costs merge a.json b.json --out all.json
  modelmgr costs verify costs.json models.yaml
  modelmgr costs export costs.json markdown

Each of these has a --help of its own.
"""

from __future__ import annotations

from typing import ClassVar

import typer

from modelmgr_cli.lazy import LazyGroup


class _Subcommands(LazyGroup):
    entries: ClassVar = {
        "show": ("modelmgr_cli.commands.costs.show", "Show a database, or one model in full."),
        "diff": ("modelmgr_cli.commands.costs.diff", "Say what differs between two databases."),
        "merge": ("modelmgr_cli.commands.costs.merge", "Combine databases; no model is lost."),
        "verify": (
            "modelmgr_cli.commands.costs.verify",
            "Measure a few models again: does the database still hold here?",
        ),
        "export": ("modelmgr_cli.commands.costs.export", "Write a database as CSV or Markdown."),
    }


app = typer.Typer(cls=_Subcommands, rich_markup_mode=None, add_completion=False)


@app.callback(help=__doc__)
def _costs() -> None:
    pass
