"""Show a cost database as a table, or everything about one model.

  modelmgr costs show costs.json
  modelmgr costs show costs.json bert-base
  modelmgr costs show costs.json --ledger
  modelmgr costs show costs.json --json | jq '.models | keys'

With a TAG: every figure with its evidence, where the peak goes, every shape. With --ledger: where
the peak of each model goes. The table has as many columns as the terminal is wide enough for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from modelmgr.errors import UsageError
from modelmgr.records.codec import encode_costs
from modelmgr.records.costs import CostDatabase
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand, nearest
from modelmgr_cli.render.details import model_details
from modelmgr_cli.render.tables import cost_table, ledger_table, origin
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def show(
    context: typer.Context,
    *,
    database: options.Database,
    tags: options.SavedTags = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Show where the peak of each model goes.")
    ] = False,
    json: options.AsJson = False,
) -> None:
    """Read and show it."""
    terminal = terminal_of(context)
    costs = _only(options.load_database(database), tags or [], database)
    width = terminal.width(sys.stdout)
    if json:
        terminal.out(encode_costs(costs).decode())
    elif ledger:
        terminal.show(*ledger_table(costs))
    elif tags:
        for tag, cost in costs.models.items():
            terminal.show(*model_details(tag, cost, width))
    else:
        terminal.show(origin(costs), *cost_table(costs, width))


def _only(costs: CostDatabase, tags: list[str], path: Path) -> CostDatabase:
    for tag in tags:
        if tag not in costs.models:
            raise UsageError(f"{path} has no model {tag!r}\n{nearest(tag, costs.models, 'Models')}")
    if not tags:
        return costs
    return msgspec.structs.replace(costs, models={tag: costs.models[tag] for tag in tags})
