"""Run a scenario in virtual time, through the scheduler that runs in production.

Hours of traffic take seconds: what users would wait, what is loaded and evicted, how full each
device gets. The same scenario and seed give the same decisions, byte for byte, on any machine.

  modelmgr simulate scenarios/mixed-burst.yaml
  modelmgr simulate scenarios/mixed-burst.yaml --policy lru --seed 2 --out lru.json
  modelmgr simulate scenarios/long-tail.yaml --max-requests 10000 --log decisions.jsonl
  modelmgr simulate scenarios/worker-faults.yaml --check --export markdown=faults.md
  modelmgr simulate scenarios/mixed-burst.yaml --bound --out r.json --certificate c.json
  modelmgr simulate scenarios/mixed-burst.yaml --against real-run.json

  modelmgr simulate scenarios/long-tail.yaml --sweep devices.gpu0.memory=24GiB..96GiB:8GiB \
      --sweep manager.policy=lru,gdsf,demand-tiers,queue-value --slo 'wait_p95<500ms' --out s.json

--bound also computes the least reload cost that any policy could have had for the same jobs; the
certificate of it is what modelmgr certify checks, without a solver.

--sweep simulates every combination of other values of the scenario's keys, on all cores: a table,
the reload cost over memory, what no combination beats, and the smallest device that meets --slo.

The log has one decision a line, as it was taken; the result's decisions_sha256 is its SHA-256.
Ctrl-C ends the run: what came until then is shown and written, marked partial.

Exit status: 0 done; 1 no swept device meets --slo; 2 bad input; 5 every row of a sweep failed;
130 interrupted, the result so far is kept.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from modelmgr.errors import UsageError
from modelmgr.measuring.interruption import StopSignals
from modelmgr.records.certificate import encode_certificate
from modelmgr.records.result import Result
from modelmgr.records.result_codec import encode_result
from modelmgr.simulation.simulate import SimulationOutcome
from modelmgr.simulation.simulate import simulate as simulate_scenario
from modelmgr.units import NS_PER_S, format_duration
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
from modelmgr_cli.commands.sweeping import SweepOptions, check_no_sweep, simulate_sweep
from modelmgr_cli.lazy import DocCommand
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.pace import pace_display, simulated_words
from modelmgr_cli.render.results import result_page
from modelmgr_cli.solver_wait import solved
from modelmgr_cli.terminal import Terminal, terminal_of
from modelmgr_cli.writing import Writing

if TYPE_CHECKING:
    from modelmgr.simulation.run_bound import RunBound

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_BOUND_TIME = "60 s"


@app.command(help=__doc__, cls=DocCommand)
def simulate(
    context: typer.Context,
    *,
    path: scenario_options.ScenarioFile,
    seed: scenario_options.Seed = None,
    policy: scenario_options.Policy = None,
    out: scenario_options.Out = None,
    log: scenario_options.Log = None,
    max_requests: scenario_options.MaxRequests = None,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Check every promise after every event; slow."),
    ] = False,
    bound: Annotated[
        bool,
        typer.Option(
            "--bound", help="Also compute the least reload cost that any policy could have had."
        ),
    ] = False,
    bound_time: Annotated[
        str | None,
        typer.Option(
            "--bound-time",
            metavar="TIME",
            help=f"Longest for the bound ({_BOUND_TIME}); it is valid, and lower, when that is "
            "too short.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", metavar="FILE", help="Write what proves the bound there, as JSON."
        ),
    ] = None,
    against: Against = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=VALUES",
            help="Simulate for each of these values: a,b,c or 8GiB..80GiB:8GiB. May be given more "
            "than once, for every combination.",
        ),
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            "--slo",
            metavar="GOAL",
            help="Find the smallest swept device that meets it, e.g. 'wait_p95<500ms'.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", help="Processes of a sweep. Default: all cores."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Sweep on a Ray cluster instead."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.html", help="Draw the sweep, as a page by itself."),
    ] = None,
    export: scenario_options.Export = None,
    json: options.AsJson = False,
) -> Outcome:
    """Check everything, simulate, write, show."""
    terminal = terminal_of(context)
    check_max_requests(max_requests)
    if bound_time is not None and not bound:
        raise UsageError("--bound-time: there is no bound to take that time\nadd --bound")
    bound_time_s = options.read_seconds("--bound-time", bound_time or _BOUND_TIME)
    if sweep:
        one_run = {
            "--log": log,
            "--check": check,
            "--certificate": certificate,
            "--against": against,
        }
        return simulate_sweep(
            SweepOptions(
                path=path,
                keys=sweep,
                goals=slo or (),
                jobs=jobs,
                ray=ray,
                plot=plot,
                out=out,
                export=export,
                seed=seed,
                policy=policy,
                max_requests=max_requests,
                bound=bound,
                bound_time_s=bound_time_s,
                json=json,
                foreign=[option for option, value in one_run.items() if value],
            ),
            terminal,
        )
    check_no_sweep({"--slo": slo, "--jobs": jobs, "--ray": ray, "--plot": plot})
    scenario = with_changes(read_scenario(path), seed=seed, policy=policy)
    if certificate is not None and not bound:
        raise UsageError("--certificate: there is nothing to certify without a bound\nadd --bound")
    outputs = {"--out": out, "--log": log, "--certificate": certificate}
    inputs = {"the scenario": path} | ({} if against is None else {"--against": against})
    taken = options.check_outputs(outputs, inputs)
    exports = options.read_result_exports(export, out or DEFAULT_RESULT, taken)
    other = read_against(against)
    warn_of_empty_beginnings(scenario, terminal)
    began_ns = time.monotonic_ns()
    with (
        log_written_to(log, terminal) as log_file,
        StopSignals() as signals,
        pace_display(terminal, scenario.traffic_ends_ns, simulated_words) as display,
    ):
        decisions = Decisions(log_file, exports, terminal)
        outcome = simulate_scenario(
            scenario,
            log=decisions.write,
            check=check,
            progress=display,
            stop=lambda: signals.requested,
            max_requests=max_requests,
            keep_schedule=bound or "perfetto" in exports,
        )
    took_ns = time.monotonic_ns() - began_ns
    result = with_log(outcome.result, log_file)
    warn_of_missed_faults(scenario, result, terminal)
    writing = Writing(terminal, log_file)
    found, interrupted = None, result.partial
    if bound:
        try:
            found = _bound(scenario, outcome, bound_time_s, terminal)
        except KeyboardInterrupt:
            terminal.warn("no bound: interrupted while it was computed; the figures are whole")
            interrupted = True
    if found is not None:
        result = _certified(result, found, certificate, writing)
    trace = partial(decisions.trace, scenario, result, outcome.schedule)
    write_result(result, out, exports, writing, trace)
    if other is None or against is None:
        _show(result, found, took_ns, terminal, json=json)
    else:
        if not json:
            _show(result, found, took_ns, terminal, json=False)
        show_against(result, other, against, terminal, json=json)
    writing.check()
    return Outcome.INTERRUPTED if interrupted else Outcome.FINE


def _bound(
    scenario: Scenario, outcome: SimulationOutcome, time_s: float | None, terminal: Terminal
) -> RunBound | None:
    """Return the bound of a run; None, with the reason said, where there is none."""
    if outcome.result.partial:
        terminal.warn("no bound: the run was interrupted")
        return None
    from modelmgr.simulation.run_bound import bound_of_run  # noqa: PLC0415 - loads the solver

    longest = "" if time_s is None else f", at most {format_duration(round(time_s * NS_PER_S))}"
    terminal.tell(f"computing the least possible reload cost{longest}")
    try:
        return solved(lambda: bound_of_run(scenario, outcome, time_limit_s=time_s))
    except UsageError as error:
        terminal.warn(f"no bound: {error}")
        return None


def _certified(
    result: Result, bound: RunBound, certificate: Path | None, writing: Writing
) -> Result:
    """Put the bound into the result, and write its certificate if that is wanted."""
    written = writing.write(
        "certificate",
        certificate,
        lambda: encode_certificate(
            bound.certificate(scenario=result.scenario, decisions_sha256=result.decisions_sha256)
        ),
    )
    name = str(certificate) if written else None
    return msgspec.structs.replace(result, bound=bound.record(name))


def _show(
    result: Result, bound: RunBound | None, took_ns: int, terminal: Terminal, *, json: bool
) -> None:
    if json:
        terminal.out(encode_result(result).decode())
    elif bound is None:
        terminal.show(*result_page(result))
    else:
        from modelmgr_cli.render.bounds import bound_page  # noqa: PLC0415 - as the solver's import

        terminal.show(*result_page(result), *bound_page(bound))
    rate = result.requests.total * NS_PER_S / max(1, took_ns)
    terminal.tell(
        f"{result.requests.total:,} requests in {took_ns / NS_PER_S:.1f} s, {rate:,.0f} requests/s"
    )
    warn_if_partial(result, terminal)
