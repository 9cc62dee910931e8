"""Measure what each model of a list costs and write a cost database.

Each model is loaded alone, in fresh processes: load time and load peak, resident memory, then every
shape of its input (activation peak, latency, throughput), a second copy, and the unload. The table
shows what came out; the database keeps every sample.

  modelmgr profile models.yaml
  modelmgr profile models.yaml --only bert-base --repeats 5
  modelmgr profile models.yaml --budget '8 GiB' --timeout '10 min' --resume
  modelmgr profile models.yaml --device cuda:1 --out gpu1.json --export markdown

A model that fails is kept in the database with the reason, and the others are still measured.
After a kill or Ctrl-C, the same command with --resume goes on where it stopped.

Exit status: 0 all measured; 2 bad input, a model that its loader cannot load among it; 3 a model
does not fit or ran out of memory; 5 a model could not be measured for another reason; 130
interrupted, what was measured is kept.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from modelmgr.devices.discovery import open_reader
from modelmgr.measuring.journal import journal_path
from modelmgr.measuring.profile import profile_models
from modelmgr.measuring.settings import ProfileOutcome, ProfileSettings
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.codec import encode_costs
from modelmgr_cli.commands import options
from modelmgr_cli.commands.exporting import exported
from modelmgr_cli.diagnostics import outcome_of_failures
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.progress import display_for
from modelmgr_cli.render.tables import cost_table
from modelmgr_cli.terminal import Terminal, terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(help=__doc__, cls=DocCommand)
def profile(
    context: typer.Context,
    *,
    models: options.ModelList,
    only: options.Only = None,
    device: options.Device = "auto",
    budget: options.Budget = None,
    timeout: options.Timeout = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            metavar="N",
            help="Fresh processes for each model; default: as the list says.",
        ),
    ] = None,
    seed: options.Seed = 0,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The database to write or to add to.")
    ] = Path("costs.json"),
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where a killed run stopped.")
    ] = False,
    isolation_action: Annotated[
        Literal["error", "warn", "wait"],
        typer.Option(
            "--device-isolation-action",
            metavar="error|warn|wait",
            help="When something else moves the device's memory meanwhile.",
        ),
    ] = "warn",
    estimate: Annotated[
        bool, typer.Option("--estimate/--no-estimate", help="Guess first, without loading.")
    ] = True,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORMAT[=PATH]",
            help="Also write csv or markdown; beside the database unless PATH says where.",
        ),
    ] = None,
    json: options.AsJson = False,
) -> Outcome:
    """Check everything, measure, write, show."""
    terminal = terminal_of(context)
    chosen = options.choose_models(models, only)
    budget_bytes = options.read_size("--budget", budget)
    settings = ProfileSettings(
        out=out,
        device=device,
        budget_bytes=budget_bytes,
        slack=options.slack_for(budget_bytes),
        repeats=repeats,
        timeout_s=options.read_seconds("--timeout", timeout),
        seed=seed,
        resume=resume,
        isolation_action=isolation_action,
        estimate=estimate,
        command=shlex.join(["modelmgr", *sys.argv[1:]]),
    )
    settings.check()
    options.check_output(out, "--out")
    inputs = {"the model list": models}
    options.keep_apart(out, "--out", inputs)
    exports = options.read_exports(
        export, out, {**inputs, "--out": out, "the journal": journal_path(out)}
    )
    options.check_device(device)
    # A device that cannot be read is refused before a journal is begun beside the output.
    open_reader(device, budget_bytes=budget_bytes, slack=settings.slack).close()
    try:
        with display_for(terminal) as display:
            outcome = profile_models(chosen.models, settings, display, places=chosen.places)
    except KeyboardInterrupt:
        terminal.warn(_ended_at_once(out))
        return Outcome.INTERRUPTED
    tags = [model.tag for model in chosen.models]
    if outcome.interrupted and not outcome.written:
        terminal.warn(_nothing_measured(out))
        return Outcome.INTERRUPTED
    for form, path in exports.items():
        write_atomically(path, exported(outcome.database, form).encode())
        terminal.tell(f"{form} written to {path}")
    try:
        _show(outcome, tags, terminal, json=json)
    finally:  # whatever becomes of the table, the file is there
        if outcome.interrupted:
            left = display.models_left
            terminal.warn(
                f"interrupted with {len(tags) if left is None else left} of {len(tags)} models "
                "not measured; go on with the same command and --resume"
            )
        terminal.tell(f"costs written to {outcome.path}")
    return _judged(outcome, tags)


def _show(outcome: ProfileOutcome, tags: list[str], terminal: Terminal, *, json: bool) -> None:
    if json:
        terminal.out(encode_costs(outcome.database).decode())
        return
    # The file may hold models of earlier runs too; the answer is about those asked for.
    asked = {tag: cost for tag, cost in outcome.database.models.items() if tag in tags}
    shown = msgspec.structs.replace(outcome.database, models=asked)
    terminal.show(*cost_table(shown, terminal.width(sys.stdout), reasons=False))


def _nothing_measured(out: Path) -> str:
    state = f"{out} is as it was" if out.exists() else "nothing was written"
    return f"interrupted: nothing was measured, {state}"


def _ended_at_once(out: Path) -> str:
    journal = journal_path(out)
    if not journal.exists():
        return _nothing_measured(out)
    return (
        f"interrupted at once, {out} was not written: {journal} keeps what was measured; "
        "go on with the same command and --resume"
    )


def _judged(outcome: ProfileOutcome, tags: list[str]) -> Outcome:
    if outcome.interrupted:
        return Outcome.INTERRUPTED
    errors = (outcome.database.models[tag].error for tag in tags if tag in outcome.failed)
    kinds = frozenset(error.kind for error in errors if error is not None)
    return outcome_of_failures(kinds, did_not_fit=bool(outcome.did_not_fit))
