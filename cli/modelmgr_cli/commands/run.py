"""Run a scenario for real: worker processes, real memory, the wall clock.

The manager that runs in production serves the scenario's traffic. Models with a loader are loaded;
those without are stand-ins: processes that hold the stated memory and take the stated times; where
this machine needs longer for so much memory, a warning says which model and by how much. What users
would wait, what is loaded and evicted, how full each device gets, and what the manager learned.

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
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from modelmgr.errors import UsageError
from modelmgr.measuring.interruption import StopSignals
from modelmgr.measuring.machine import describe_machine
from modelmgr.records.costs import RunInfo
from modelmgr.records.result import Result
from modelmgr.records.result_codec import encode_result
from modelmgr.runtime.scenario_run.devices import describe_first, machine_memory
from modelmgr.runtime.scenario_run.run import RunOutcome, run_scenario
from modelmgr.runtime.scenario_run.scaling import scale_memory
from modelmgr.runtime.scenario_run.stated_times import Overrun, overruns
from modelmgr.units import NS_PER_S
from modelmgr.workload.scenario import Scenario
from modelmgr.workload.scenario_reader import read_scenario
from modelmgr_cli.commands import options, scenario_options
from modelmgr_cli.commands.against import Against, read_against, show_against
from modelmgr_cli.commands.scenario_options import (
    DEFAULT_RESULT,
    Decisions,
    check_max_requests,
    log_written_to,
    warn_if_partial,
    warn_of_empty_beginnings,
    warn_of_missed_faults,
    with_changes,
    with_log,
    write_result,
)
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.pace import pace_display, run_words
from modelmgr_cli.render.results import result_page
from modelmgr_cli.shared_costs import SharedCosts
from modelmgr_cli.terminal import Terminal, terminal_of
from modelmgr_cli.writing import Writing

app = typer.Typer(rich_markup_mode=None, add_completion=False)

# Sent later than this, on average, a machine did not keep up with the scenario.
_LATE_NS = NS_PER_S // 100


@app.command(help=__doc__, cls=DocCommand)
def run(
    context: typer.Context,
    *,
    path: scenario_options.ScenarioFile,
    seed: scenario_options.Seed = None,
    policy: scenario_options.Policy = None,
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="End the traffic then, e.g. '2 min'."),
    ] = None,
    max_requests: scenario_options.MaxRequests = None,
    memory_scale: Annotated[
        str | None,
        typer.Option(
            "--memory-scale",
            metavar="SHARE",
            help="Make devices and stand-ins so much smaller, e.g. 1/8: what fits stays the same.",
        ),
    ] = None,
    out: scenario_options.Out = None,
    log: scenario_options.Log = None,
    costs_out: Annotated[
        Path | None,
        typer.Option(
            "--costs-out",
            metavar="COSTS.json",
            help="Add what was learned, and the evictions, to this cost database, or begin one.",
        ),
    ] = None,
    against: Against = None,
    export: scenario_options.Export = None,
    json: options.AsJson = False,
) -> Outcome:
    """Check everything, run, write, show."""
    terminal = terminal_of(context)
    scenario = _chosen(path, seed=seed, policy=policy, memory_scale=memory_scale)
    check_max_requests(max_requests)
    duration_s = options.read_seconds("--duration", duration)
    duration_ns = None if duration_s is None else round(duration_s * NS_PER_S)
    outputs = {"--out": out, "--log": log, "--costs-out": costs_out}
    inputs = {"the scenario": path} | ({} if against is None else {"--against": against})
    taken = options.check_outputs(outputs, inputs)
    exports = options.read_result_exports(export, out or DEFAULT_RESULT, taken)
    other = read_against(against)
    warn_of_empty_beginnings(scenario, terminal)
    machine = describe_machine(describe_first(scenario))
    shared = None if costs_out is None else SharedCosts(costs_out, machine)
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with (
        contextlib.nullcontext() if shared is None else shared,
        log_written_to(log, terminal) as log_file,
        StopSignals() as signals,
        pace_display(terminal, _ends_ns(scenario, duration_ns), run_words) as display,
    ):
        decisions = Decisions(log_file, exports, terminal)
        outcome = run_scenario(
            scenario,
            log=decisions.write,
            progress=display,
            stop=lambda: signals.requested,
            max_requests=max_requests,
            duration_ns=duration_ns,
            machine=machine,
            costs=None if shared is None else shared.latest,
        )
        result = with_log(outcome.result, log_file)
        writing = Writing(terminal, log_file)
        trace = partial(decisions.trace, scenario, result, None)
        write_result(result, out, exports, writing, trace)
        if shared is not None:
            _save_costs(outcome, shared, started_at, writing)
    if other is None or not json:
        _show(result, terminal, json=json)
    if other is not None and against is not None:
        show_against(result, other, against, terminal, json=json)
    warn_of_missed_faults(scenario, result, terminal)
    _remark(outcome, terminal)
    writing.check()
    return Outcome.INTERRUPTED if result.partial else Outcome.FINE


def _chosen(
    path: Path, *, seed: int | None, policy: str | None, memory_scale: str | None
) -> Scenario:
    """Read the scenario and put in what the command line says otherwise."""
    scenario = with_changes(
        read_scenario(path, purpose="run", machine_memory=machine_memory), seed=seed, policy=policy
    )
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


def _ends_ns(scenario: Scenario, duration_ns: int | None) -> int | None:
    """Return when the traffic ends; None where only its trace knows."""
    ends_ns = [end for end in (scenario.traffic_ends_ns, duration_ns) if end is not None]
    return min(ends_ns, default=None)


def _save_costs(
    outcome: RunOutcome, shared: SharedCosts, started_at: str, writing: Writing
) -> None:
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
    database = msgspec.structs.replace(
        learned,
        evictions=(*learned.evictions, *outcome.evictions),
        runs=(*learned.runs, made),
    )
    writing.write(
        f"{len(outcome.evictions):,} evictions and the costs learned",
        shared.path,
        partial(shared.encode, database),
    )


def _show(result: Result, terminal: Terminal, *, json: bool) -> None:
    if json:
        terminal.out(encode_result(result).decode())
    else:
        terminal.show(*result_page(result))


def _overrun_words(overrun: Overrun) -> str:
    time = overrun.time
    return (
        f"{overrun.act} {time.taken_ns / 1e6:,.1f} instead of {time.stated_ns / 1e6:,.1f} ms "
        f"(mean of {time.count:,}; the worst {time.most_over_ns / 1e6:,.1f} ms over)"
    )


def _remark(outcome: RunOutcome, terminal: Terminal) -> None:
    """Tell what the figures do not show."""
    for reason, count in outcome.troubles.items():
        terminal.tell(f"failed {count:,} times: {reason}")
    slow = [
        (tag, ", ".join(map(_overrun_words, found)))
        for tag, found in groupby(overruns(outcome.result.models), lambda each: each.tag)
    ]
    for tag, words in slow:
        terminal.warn(f"the stand-in of {tag!r} took longer than the scenario states: {words}")
    if slow:
        terminal.tell(
            "this machine needs so long to give so much memory and to take it back, or is too "
            "busy: the run\nis slower than the scenario. State times that it can take, or run it "
            "smaller (--memory-scale)"
        )
    lag = outcome.lag_ns
    if lag is not None and lag.mean > _LATE_NS:
        terminal.warn(
            f"requests were sent {lag.mean / 1e6:.1f} ms late on average: this machine is too busy "
            "for the scenario, and its waits are too long"
        )
    warn_if_partial(outcome.result, terminal)
