"""Say what this machine has and what profile would do on it.

  modelmgr doctor
  modelmgr doctor --device cuda:1 --budget '8 GiB'
  modelmgr doctor --json

Looks at the memory, the devices and their driver, the frameworks (without importing them), whether
memory peaks can be exact, and the disk. Exit status: 0 where profile can work, 5 where it cannot.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer

from modelmgr_cli.checkup import check_up
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.findings import checkup_page
from modelmgr_cli.render.json import answer
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def doctor(
    context: typer.Context,
    *,
    device: options.Device = "auto",
    budget: options.Budget = None,
    json: options.AsJson = False,
) -> Outcome:
    """Check the machine up and show it."""
    terminal = terminal_of(context)
    budget_bytes = options.read_size("--budget", budget)
    checkup = check_up(
        device,
        budget_bytes=budget_bytes,
        slack=options.slack_for(budget_bytes),
        folder=Path(),
    )
    if json:
        terminal.out(answer("checkup", msgspec.structs.asdict(checkup)))
    else:
        terminal.show(*checkup_page(checkup))
    return Outcome.FINE if checkup.usable else Outcome.NOTHING_MEASURED
