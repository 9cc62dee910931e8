"""``modelmgr simulate --sweep``: read what is swept, run it on all cores or on Ray, write, show."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from modelmgr.errors import UsageError
from modelmgr.measuring.interruption import StopSignals
from modelmgr.records.sweep import Sweep, encode_sweep
from modelmgr.simulation.slo import read_goal
from modelmgr.simulation.sweep import RowRunner, plan_sweep, sweep, with_options
from modelmgr.workload.policy_plugins import find_policy
from modelmgr.workload.swept_keys import ScenarioTemplate, read_swept_key
from modelmgr_cli.commands import options
from modelmgr_cli.commands.scenario_options import check_seed
from modelmgr_cli.outcome import Outcome
from modelmgr_cli.render.sweeps import SweepDisplay, rate_line, sweep_page
from modelmgr_cli.terminal import Terminal
from modelmgr_cli.writing import Writing

_DEFAULT_SWEEP = Path("sweep.json")
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """What the command line says of a sweep; texts are as they were written.

    Attributes:
        foreign: options that were given and that a sweep has no use for.
    """

    path: Path
    keys: Sequence[str]
    goals: Sequence[str]
    jobs: int | None
    ray: str | None
    plot: Path | None
    out: Path | None
    export: list[str] | None
    seed: int | None
    policy: str | None
    max_requests: int | None
    bound: bool
    bound_time_s: float | None
    json: bool
    foreign: Sequence[str]


def simulate_sweep(asked: SweepOptions, terminal: Terminal) -> Outcome:
    """Check everything, run every row, write, show."""
    _check(asked)
    keys = [_read("--sweep", text, read_swept_key) for text in asked.keys]
    goals = [_read("--slo", text, read_goal) for text in asked.goals]
    if not asked.bound and any(goal.figure == "reload_ratio" for goal in goals):
        raise UsageError(
            "--slo: reload_ratio is over the bound, which is not computed\nadd --bound"
        )
    csv = _check_outputs(asked)
    runner = _runner(asked)
    template = ScenarioTemplate.read(asked.path)
    try:
        plan = plan_sweep(
            template,
            keys,
            change=with_options(seed=asked.seed, policy=asked.policy),
            max_requests=asked.max_requests,
            bound=asked.bound,
            bound_time_s=asked.bound_time_s,
        )
    except UsageError as error:
        raise UsageError(f"--sweep: {error}") from error
    began_ns = time.monotonic_ns()
    with StopSignals() as signals, SweepDisplay(terminal) as display:
        found = sweep(plan, runner, goals=goals, stop=lambda: signals.requested, progress=display)
    took_ns = time.monotonic_ns() - began_ns
    writing = Writing(terminal)
    _write(found, asked, csv, writing)
    if asked.json:
        terminal.out(encode_sweep(found).decode())
    else:
        terminal.show(*sweep_page(found))
    terminal.tell(rate_line(found, took_ns))
    outcome = _outcome(found, terminal)
    writing.check()
    return outcome


def check_no_sweep(asked: Mapping[str, object]) -> None:
    """Refuse the options of a sweep where nothing is swept."""
    for option, value in asked.items():
        if value:
            raise UsageError(
                f"{option}: nothing is swept\nadd for example "
                "--sweep devices.gpu0.memory=8GiB..80GiB:8GiB"
            )


def _check(asked: SweepOptions) -> None:
    for option in asked.foreign:
        raise UsageError(
            f"{option}: it is of one run and --sweep makes many\nleave one of them out"
        )
    if asked.jobs is not None and asked.jobs < 1:
        raise UsageError(f"--jobs: {asked.jobs} processes run nothing; give 1 or more")
    if asked.jobs is not None and asked.ray is not None:
        raise UsageError("--jobs: the Ray cluster has its own number of cores\nleave one out")
    for option, value, key in (
        ("--seed", asked.seed, "seed"),
        ("--policy", asked.policy, "manager.policy"),
    ):
        if value is not None and any(text.partition("=")[0].strip() == key for text in asked.keys):
            raise UsageError(f"{option}: {key} is swept\nleave one of them out")
    check_seed(asked.seed)
    if asked.policy is not None:
        _read("--policy", asked.policy, find_policy)


def _read(option: str, text: str, read: Callable[[str], _Read]) -> _Read:
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def _check_outputs(asked: SweepOptions) -> Path | None:
    """Refuse what could not be written; return where the CSV goes."""
    outputs = {"--out": asked.out, "--plot": asked.plot}
    taken = options.check_outputs(outputs, {"the scenario": asked.path})
    exports = options.read_exports(asked.export, asked.out or _DEFAULT_SWEEP, taken)
    others = [form for form in exports if form != "csv"]
    if others:
        raise UsageError(f"--export: a sweep has no {others[0]}\nwrite csv, or --plot page.html")
    return exports.get("csv")


def _runner(asked: SweepOptions) -> RowRunner:
    """Return what runs the rows; refuse what is not installed, before anything is computed."""
    if asked.plot is not None:
        from modelmgr.reporting.sweep_plot import check_plotting  # noqa: PLC0415 - only for --plot

        _read("--plot", "", lambda _: check_plotting())
    if asked.ray is not None:
        from modelmgr.integrations.ray_sweep import RayRunner  # noqa: PLC0415 - only for --ray

        return _read("--ray", asked.ray, RayRunner)
    from modelmgr.runtime.sweep_processes import (  # noqa: PLC0415 - only for a sweep
        ProcessRunner,
        usable_cores,
    )

    return ProcessRunner(usable_cores() if asked.jobs is None else asked.jobs)


def _write(found: Sweep, asked: SweepOptions, csv: Path | None, writing: Writing) -> None:
    writing.write("sweep", asked.out, partial(encode_sweep, found))
    if csv is not None:
        from modelmgr.reporting.sweep_export import export_sweep_csv  # noqa: PLC0415 - if wanted

        writing.write("csv", csv, lambda: export_sweep_csv(found).encode())
    if asked.plot is not None:
        from modelmgr.reporting.sweep_plot import plot_sweep  # noqa: PLC0415 - if wanted

        writing.write("plot", asked.plot, lambda: plot_sweep(found).encode())


def _outcome(found: Sweep, terminal: Terminal) -> Outcome:
    if found.partial:
        terminal.warn(
            f"interrupted: {len(found.rows)} of {found.planned} combinations are done, and these "
            "are shown"
        )
        return Outcome.INTERRUPTED
    failed = [row for row in found.rows if row.figures is None]
    if failed:
        terminal.warn(f"{len(failed)} of {found.planned} rows failed")
    if len(failed) == len(found.rows):
        return Outcome.NOTHING_MEASURED
    if found.slo is not None and found.slo.smallest is None:
        return Outcome.GATE_FAILED
    return Outcome.FINE
