"""Say what differs between two cost databases: the machine, models, figures.

  modelmgr costs diff old.json new.json
  modelmgr costs diff old.json new.json --above 5%
  modelmgr costs diff old.json new.json --above 0% --json

Figures that changed by less than --above are counted and not listed. Nothing is judged: the exit
status is 0 whatever differs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from modelmgr.records.diff import CostDiff, diff
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.render.differences import difference_as_plain, difference_page
from modelmgr_cli.render.json import answer
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("diff", help=__doc__, cls=DocCommand)
def differences(
    context: typer.Context,
    *,
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="The earlier one.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="The later one.")],
    above: Annotated[
        str, typer.Option("--above", metavar="SHARE", help="List figures that changed by this.")
    ] = "1%",
    json: options.AsJson = False,
) -> None:
    """Compare and show."""
    terminal = terminal_of(context)
    least = options.read_share("--above", above)
    found = diff(options.load_database(old), options.load_database(new))
    shown, hidden = _split(found, least)
    if json:
        terminal.out(
            answer("costs-diff", {**difference_as_plain(shown), "smaller_changes": hidden})
        )
    else:
        terminal.show(*difference_page(shown, hidden=hidden, above=least))


def _split(found: CostDiff, least: float) -> tuple[CostDiff, int]:
    """Return the difference without small changes of figures, and how many those were."""
    listed = tuple(
        change
        for change in found.figures
        if change.percent is None or abs(change.percent) >= least * 100
    )
    return dataclasses.replace(found, figures=listed), len(found.figures) - len(listed)
