"""Combine cost databases into one that has every model of each, and say which figures won.

  modelmgr costs merge monday.json tuesday.json --out all.json
  modelmgr costs merge all.json new.json --out all.json
  modelmgr costs merge a.json b.json --out all.json --json

Where several have a model: measured beats failed, then the same device, isolation, more
observations, the newer one. A model's figures stay together, as they only add up with each other.
A file that is there already is replaced only where it is one of the merged ones, or with --force.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmgr.errors import UsageError
from modelmgr.records.codec import save_costs
from modelmgr.records.merge import MergeResult, merge
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.render.differences import describe_difference, merge_page
from modelmgr_cli.render.json import answer
from modelmgr_cli.terminal import Terminal, terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("merge", help=__doc__, cls=DocCommand)
def combine(
    context: typer.Context,
    *,
    databases: Annotated[
        list[Path], typer.Argument(metavar="COSTS.json...", help="The databases, two or more.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the result goes.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: options.AsJson = False,
) -> None:
    """Read, combine, write, say why."""
    terminal = terminal_of(context)
    options.check_output(out, "--out")
    merges_itself = any(out.exists() and path.exists() and out.samefile(path) for path in databases)
    if out.exists() and not merges_itself and not force:
        raise UsageError(
            f"--out: {out} is there already and is none of the databases\n"
            "name it among them, choose another file, or replace it with --force"
        )
    names = [str(path) for path in databases]
    result = merge([options.load_database(path) for path in databases], names=names)
    _warn(result, terminal)
    save_costs(result.database, out)
    if json:
        terminal.out(answer("costs-merge", {"origins": result.origins, "choices": result.choices}))
    else:
        terminal.show(*merge_page(result, names))
    count = len(result.database.models)
    terminal.tell(f"{count} model{'' if count == 1 else 's'} written to {out}")


def _warn(result: MergeResult, terminal: Terminal) -> None:
    for foreign in result.foreign:
        if foreign.is_other_device and foreign.tags:
            told = "; ".join(describe_difference(each) for each in foreign.differences[:3])
            terminal.warn(
                f"{foreign.name} was measured on another device ({told}); figures of "
                f"{', '.join(foreign.tags)} need not hold on the merged one's"
            )
