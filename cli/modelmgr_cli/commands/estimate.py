"""Predict what each model costs, without loading it: in seconds, and without its memory.

  modelmgr estimate models.yaml
  modelmgr estimate models.yaml --only bert-base --json
  modelmgr estimate models.yaml --budget '2 GiB'

Weights are counted from the architecture, activations by a run on tensors that hold no data. The
figures are the tensors' alone: a process adds its framework on top, which profile measures. The
last column says whether the model can fit the device; "?" means that only measuring tells.

Exit status: 0; 3 where a model certainly does not fit; 2 or 5 where one could not be looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from modelmgr.errors import MissingPackageError, ModelLoadError, ModelmgrError, UsageError
from modelmgr.measuring.estimate import ModelEstimate, estimate_models
from modelmgr.measuring.preflight import Places, bad_input
from modelmgr.measuring.settings import ProfileSettings
from modelmgr_cli.commands import options
from modelmgr_cli.diagnostics import outcome_of_failures
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.estimates import estimates_as_plain, estimates_page
from modelmgr_cli.render.json import answer
from modelmgr_cli.render.progress import display_for
from modelmgr_cli.render.reasons import shortened, traced
from modelmgr_cli.terminal import Terminal, terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def estimate(
    context: typer.Context,
    *,
    models: options.ModelList,
    only: options.Only = None,
    device: options.Device = "auto",
    budget: options.Budget = None,
    timeout: options.Timeout = None,
    json: options.AsJson = False,
) -> Outcome:
    """Guess and show."""
    terminal = terminal_of(context)
    options.check_device(device)
    chosen = options.choose_models(models, only)
    budget_bytes = options.read_size("--budget", budget)
    settings = ProfileSettings(
        out=Path("costs.json"),  # nothing is written there
        device=device,
        budget_bytes=budget_bytes,
        slack=options.slack_for(budget_bytes),
        timeout_s=options.read_seconds("--timeout", timeout),
    )
    with display_for(terminal) as display:
        estimates = estimate_models(chosen.models, settings, display, places=chosen.places)
    for item in estimates:
        if item.error is not None:
            _complain(item.tag, item.error, chosen.places, terminal)
    if json:
        terminal.out(answer("estimates", estimates_as_plain(estimates)))
    else:
        terminal.show(*estimates_page(estimates, terminal.width(sys.stdout)))
    return _judged(estimates)


def _complain(tag: str, error: ModelmgrError, places: Places, terminal: Terminal) -> None:
    if isinstance(error, UsageError | ModelLoadError | MissingPackageError):
        terminal.complain(shortened(str(bad_input(error, tag, places))))
    else:
        terminal.complain(f"{tag}: {type(error).__name__}: {shortened(str(error))}")
    if terminal.debug:
        terminal.trace(traced(tag, error))


def _judged(estimates: tuple[ModelEstimate, ...]) -> Outcome:
    kinds = frozenset(type(item.error).__name__ for item in estimates if item.error is not None)
    return outcome_of_failures(kinds, did_not_fit=any(item.fits is False for item in estimates))
