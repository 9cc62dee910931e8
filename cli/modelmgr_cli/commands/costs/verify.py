"""Measure a few models of a cost database again and say whether it still holds on this machine.

  modelmgr costs verify costs.json models.yaml
  modelmgr costs verify costs.json models.yaml --sample 3 --seed 7 --tolerance 2%
  modelmgr costs verify costs.json models.yaml --only bert-base

Resident memory and peak are compared; latency is not, as a busy neighbour changes it. Nothing is
written. Exit status: 0 it holds, 1 it does not, 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelmgr.measuring.settings import ProfileSettings
from modelmgr.measuring.verify import VerifyOutcome, verify_costs
from modelmgr_cli.commands import options
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.json import answer
from modelmgr_cli.render.progress import display_for
from modelmgr_cli.render.verification import verification_page
from modelmgr_cli.terminal import terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def verify(
    context: typer.Context,
    *,
    database: options.Database,
    models: options.ModelList,
    only: options.Only = None,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", help="How many models to measure, at most.")
    ] = 2,
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="SHARE", help="How far a figure may be off.")
    ] = "5%",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Chooses the sample.")] = 0,
    repeats: Annotated[
        int | None, typer.Option("--repeats", metavar="N", help="Fresh processes; default 1.")
    ] = None,
    device: options.Device = "auto",
    budget: options.Budget = None,
    timeout: options.Timeout = None,
    json: options.AsJson = False,
) -> Outcome:
    """Measure and compare."""
    terminal = terminal_of(context)
    options.check_device(device)
    costs = options.load_database(database)
    chosen = options.choose_models(models, only)
    budget_bytes = options.read_size("--budget", budget)
    settings = ProfileSettings(
        out=Path(database),
        device=device,
        budget_bytes=budget_bytes,
        slack=options.slack_for(budget_bytes),
        repeats=repeats,
        timeout_s=options.read_seconds("--timeout", timeout),
        seed=seed,
    )
    with display_for(terminal) as display:
        outcome = verify_costs(
            costs,
            chosen.models,
            settings,
            display,
            sample=None if only else sample,
            tolerance=options.read_share("--tolerance", tolerance),
            places=chosen.places,
        )
    if json:
        terminal.out(answer("verification", {"holds": outcome.holds, "result": outcome}))
    else:
        terminal.show(*verification_page(outcome, total=len(costs.models)))
    return _judged(outcome)


def _judged(outcome: VerifyOutcome) -> Outcome:
    if outcome.interrupted:
        return Outcome.INTERRUPTED
    return Outcome.FINE if outcome.holds else Outcome.GATE_FAILED
