"""Run a scenario for real: worker processes, real memory, the wall clock.

The manager that runs in production serves the scenario's traffic. Models with a loader are loaded;
those without are stand-ins: processes that hold the stated memory and take the stated times. What
users would wait, what is loaded and evicted, how full each device gets, and what the manager
learned.

  modelmgr run scenarios/quickstart-scenario.yaml --out run.json
  modelmgr run scenarios/mixed-burst.yaml --memory-scale 1/8 --duration '2 min'
  modelmgr run scenario.yaml --out run.json --log decisions.jsonl --costs-out costs.json
  modelmgr simulate scenario.yaml --against run.json

A virtual device is a budget of the host's memory of its size. What the machine cannot hold is
refused before anything starts. --costs-out adds what was learned, and every eviction, to a cost
database. --against says how far two results are from each other, in per cent.
Ctrl-C ends the run: what came until then is shown and written, marked partial.

Exit status: 0 done; 2 bad input; 3 this machine cannot hold it; 5 a device or a worker cannot be
had; 130 interrupted, the result so far is kept.
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from modelmgr.errors import UsageError
from modelmgr.measuring.interruption import StopSignals
from modelmgr.measuring.machine import describe_machine
from modelmgr.records.atomic_files import write_atomically
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import CostDatabase, MachineInfo, RunInfo
from modelmgr.records.machines import is_same_device
from modelmgr.records.result import Result
from modelmgr.records.result_codec import encode_result
from modelmgr.reporting.result_export import export_result_csv, export_result_markdown
from modelmgr.runtime.scenario_run.devices import describe_first, machine_memory
from modelmgr.runtime.scenario_run.run import RunOutcome, run_scenario, traffic_ends_ns
from modelmgr.runtime.scenario_run.scaling import scale_memory
from modelmgr.units import NS_PER_S
from modelmgr.workload.policy_plugins import find_policy
from modelmgr.workload.scenario import Scenario
from modelmgr.workload.scenario_reader import read_scenario
from modelmgr_cli.commands import options
from modelmgr_cli.commands.against import Against, read_against, show_against
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.results import result_page
from modelmgr_cli.render.running import run_display
from modelmgr_cli.terminal import Terminal, terminal_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_DEFAULT_RESULT = Path("result.json")
# Sent later than this, on average, a machine did not keep up with the scenario.
_LATE_NS = NS_PER_S // 100


@app.command(help=__doc__, cls=DocCommand)
def run(
    context: typer.Context,
    *,
    path: Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="The scenario.")],
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Instead of the scenario's.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="NAME", help="Eviction policy instead of the scenario's."),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="End the traffic then, e.g. '2 min'."),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option("--max-requests", metavar="N", help="End the traffic after so many."),
    ] = None,
    memory_scale: Annotated[
        str | None,
        typer.Option(
            "--memory-scale",
            metavar="SHARE",
            help="Make devices and stand-ins so much smaller, e.g. 1/8: what fits stays the same.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the result there, as JSON.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="Write every decision there, as JSON lines."),
    ] = None,
    costs_out: Annotated[
        Path | None,
        typer.Option(
            "--costs-out",
            metavar="COSTS.json",
            help="Add what was learned, and the evictions, to this cost database, or begin one.",
        ),
    ] = None,
    against: Against = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORMAT[=PATH]",
            help="Also write csv or markdown; beside the result unless PATH says where.",
        ),
    ] = None,
    json: options.AsJson = False,
) -> Outcome:
    """Check everything, run, write, show."""
    terminal = terminal_of(context)
    scenario = _chosen(path, seed=seed, policy=policy, memory_scale=memory_scale)
    if max_requests is not None and max_requests < 1:
        raise UsageError(f"--max-requests: {max_requests} is no number of requests; write 1000")
    duration_s = options.read_seconds("--duration", duration)
    duration_ns = None if duration_s is None else round(duration_s * NS_PER_S)
    outputs = {"--out": out, "--log": log, "--costs-out": costs_out}
    exports = _check_outputs({"the scenario": path}, outputs, against, out, export)
    other = read_against(against)
    machine = describe_machine(describe_first(scenario))
    costs = _begun(costs_out, machine)
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with (
        _written_to(log) as write,
        StopSignals() as signals,
        run_display(terminal, traffic_ends_ns(scenario, duration_ns)) as display,
    ):
        outcome = run_scenario(
            scenario,
            log=write,
            progress=display,
            stop=lambda: signals.requested,
            max_requests=max_requests,
            duration_ns=duration_ns,
            machine=machine,
            costs=costs,
        )
    result = outcome.result
    if log is not None and result.evictions_trace is None:
        result = msgspec.structs.replace(result, evictions_trace=str(log))
    _write(result, out, exports, terminal)
    if costs_out is not None:
        _save_costs(outcome, costs_out, started_at, terminal)
    if other is None or not json:
        _show(result, terminal, json=json)
    if other is not None and against is not None:
        show_against(result, other, against, terminal, json=json)
    _remark(outcome, terminal)
    return Outcome.INTERRUPTED if result.partial else Outcome.FINE


def _chosen(
    path: Path, *, seed: int | None, policy: str | None, memory_scale: str | None
) -> Scenario:
    """Read the scenario and put in what the command line says otherwise."""
    scenario = read_scenario(path, purpose="run", machine_memory=machine_memory)
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    if policy is not None:
        try:
            find_policy(policy)
        except UsageError as error:
            raise UsageError(f"--policy: {error}") from error
        scenario = replace(scenario, manager=replace(scenario.manager, policy=policy))
    if memory_scale is None:
        return scenario
    try:
        return scale_memory(scenario, _share(memory_scale))
    except UsageError as error:
        raise UsageError(f"--memory-scale: {error}") from error


def _share(text: str) -> Fraction:
    """Return 1/8 for ``1/8``, ``0.125`` and ``12.5%``."""
    number = text.strip()
    try:
        if number.endswith("%"):
            return Fraction(number[:-1].strip()) / 100
        return Fraction(number)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{text!r} is no share; write for example '1/8'") from None


def _check_outputs(
    inputs: dict[str, Path],
    outputs: dict[str, Path | None],
    against: Path | None,
    out: Path | None,
    export: list[str] | None,
) -> dict[options.ExportFormat, Path]:
    """Refuse, before anything is run, what could not be written or would replace another."""
    taken = dict(inputs)
    if against is not None:
        taken["--against"] = against
    for option, output in outputs.items():
        if output is not None:
            options.check_output(output, option)
            options.keep_apart(output, option, taken)
            taken[option] = output
    return options.read_exports(export, out or _DEFAULT_RESULT, taken)


def _begun(costs_out: Path | None, machine: MachineInfo) -> CostDatabase | None:
    """Return the database to add to, None for a new one; refuse another device's."""
    if costs_out is None or not costs_out.exists():
        return None
    database = load_costs(costs_out)
    if not is_same_device(database.machine, machine):
        raise UsageError(
            f"--costs-out: {costs_out} was measured on another device "
            f"({database.machine.device.kind} {database.machine.device.name}) than this one "
            f"({machine.device.kind} {machine.device.name})\nname another file"
        )
    return database


@contextlib.contextmanager
def _written_to(log: Path | None) -> Generator[Callable[[bytes], object] | None]:
    """Open the decision log, within a ``with`` block."""
    if log is None:
        yield None
        return
    with log.open("wb") as file:
        yield file.write


def _write(
    result: Result,
    out: Path | None,
    exports: dict[options.ExportFormat, Path],
    terminal: Terminal,
) -> None:
    if out is not None:
        write_atomically(out, encode_result(result))
        terminal.tell(f"result written to {out}")
    for form, path in exports.items():
        text = export_result_csv(result) if form == "csv" else export_result_markdown(result)
        write_atomically(path, text.encode())
        terminal.tell(f"{form} written to {path}")


def _save_costs(outcome: RunOutcome, path: Path, started_at: str, terminal: Terminal) -> None:
    """Write what was learned, with the evictions and this run."""
    learned, result = outcome.learned, outcome.result
    if learned is None:
        return
    made = RunInfo(
        command=shlex.join(["modelmgr", *sys.argv[1:]]),
        scenario=result.scenario,
        seed=result.seed,
        started_at=started_at,
    )
    save_costs(
        msgspec.structs.replace(
            learned,
            evictions=(*learned.evictions, *outcome.evictions),
            runs=(*learned.runs, made),
        ),
        path,
    )
    terminal.tell(f"{len(outcome.evictions):,} evictions and the costs learned written to {path}")


def _show(result: Result, terminal: Terminal, *, json: bool) -> None:
    if json:
        terminal.out(encode_result(result).decode())
    else:
        terminal.show(*result_page(result))


def _remark(outcome: RunOutcome, terminal: Terminal) -> None:
    """Tell what the figures do not show."""
    for reason, count in outcome.troubles.items():
        terminal.tell(f"failed {count:,} times: {reason}")
    lag = outcome.lag_ns
    if lag is not None and lag.mean > _LATE_NS:
        terminal.warn(
            f"requests were sent {lag.mean / 1e6:.1f} ms late on average: this machine is too busy "
            "for the scenario, and its waits are too long"
        )
    if outcome.result.partial:
        terminal.warn(
            "interrupted: these are the figures until then; what was waiting or in service counts "
            "as cancelled"
        )
