"""What ``simulate`` and ``run`` share: options, what is checked before, what is written after."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from modelmgr.errors import UsageError
from modelmgr.records.result import Result
from modelmgr.records.result_codec import encode_result
from modelmgr.reporting.result_export import export_result_csv, export_result_markdown
from modelmgr.reporting.trace_export import MOST_DECISIONS, Served, TraceLines, export_trace
from modelmgr.workload.policy_plugins import find_policy, policy_names
from modelmgr.workload.remarks import empty_beginnings, missed_faults
from modelmgr.workload.scenario import Scenario
from modelmgr.workload.scenario_entries import MAX_SEED
from modelmgr_cli.commands import options
from modelmgr_cli.terminal import Terminal
from modelmgr_cli.writing import LogFile, Writing


def _complete_policies(incomplete: str) -> list[str]:
    return [name for name in policy_names() if name.startswith(incomplete)]


ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="The scenario.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Instead of the scenario's.")]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="Eviction policy instead of the scenario's: lru, gdsf, demand-tiers, queue-value or "
        "one that another package brings.",
        autocompletion=_complete_policies,
    ),
]
MaxRequests = Annotated[
    int | None,
    typer.Option("--max-requests", metavar="N", help="End the traffic after so many."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the result there, as JSON.")
]
Log = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="Write every decision there, as JSON lines."),
]
Export = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="FORMAT[=PATH]",
        help="Also write csv, markdown or perfetto (a trace for ui.perfetto.dev); beside the "
        "result unless PATH says where.",
    ),
]

DEFAULT_RESULT = Path("result.json")


def check_max_requests(count: int | None) -> None:
    """Refuse an end of the traffic before its first request."""
    if count is not None and count < 1:
        raise UsageError(f"--max-requests: {count} is no number of requests; write 1000")


def check_seed(seed: int | None) -> None:
    """Refuse what a scenario's ``seed`` could not be."""
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise UsageError(f"--seed: {seed} is no seed; write a whole number from 0 to {MAX_SEED}")


def with_changes(scenario: Scenario, *, seed: int | None, policy: str | None) -> Scenario:
    """Return the scenario with what the command line says otherwise."""
    check_seed(seed)
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    if policy is not None:
        try:
            find_policy(policy)
        except UsageError as error:
            raise UsageError(f"--policy: {error}") from error
        scenario = replace(scenario, manager=replace(scenario.manager, policy=policy))
    return scenario


@contextlib.contextmanager
def log_written_to(log: Path | None, terminal: Terminal) -> Generator[LogFile | None]:
    """Open the decision log, within a ``with`` block."""
    if log is None:
        yield None
        return
    file = LogFile(log, terminal)
    try:
        yield file
    finally:
        file.close()


def with_log(result: Result, log: LogFile | None) -> Result:
    """Return a result that says where its decisions are, if they are in a file and not in it."""
    if log is None or log.problem is not None or result.evictions_trace is not None:
        return result
    return msgspec.structs.replace(result, evictions_trace=str(log.path))


class Decisions:
    """Where a run's decisions go: the log, and the lines that a trace is drawn from.

    Attributes:
        write: what the run is given; None where only the log's hash is wanted.
    """

    def __init__(
        self, log: LogFile | None, exports: Mapping[options.ResultFormat, Path], terminal: Terminal
    ) -> None:
        self._terminal = terminal
        self._lines = TraceLines() if "perfetto" in exports else None
        takers = [taker.write for taker in (log, self._lines) if taker is not None]
        self.write: Callable[[bytes], object] | None = None
        if takers:
            self.write = lambda lines: [take(lines) for take in takers]

    def trace(self, scenario: Scenario, result: Result, served: Sequence[Served] | None) -> bytes:
        """Return the trace of a run; say what did not fit into it."""
        lines = self._lines or TraceLines()
        if lines.left_out:
            self._terminal.warn(
                f"the trace has the first {MOST_DECISIONS:,} decisions; {lines.left_out:,} are "
                "left out"
            )
        lost = result.failed_loads + result.requests.failed + result.oom_events
        steady = not (scenario.faults or lost)
        return export_trace(result, lines, served, steady=steady).encode()


def write_result(
    result: Result,
    out: Path | None,
    exports: Mapping[options.ResultFormat, Path],
    writing: Writing,
    trace: Callable[[], bytes],
) -> None:
    """Write the result and its exports where they are wanted, and say so."""
    writing.write("result", out, partial(encode_result, result))
    texts: dict[options.ResultFormat, Callable[[], bytes]] = {
        "csv": lambda: export_result_csv(result).encode(),
        "markdown": lambda: export_result_markdown(result).encode(),
        "perfetto": trace,
    }
    for form, path in exports.items():
        writing.write(form, path, texts[form])


def warn_of_empty_beginnings(scenario: Scenario, terminal: Terminal) -> None:
    """Say which recorded traffic begins long after its phase does."""
    for remark in empty_beginnings(scenario):
        terminal.warn(remark)


def warn_of_missed_faults(scenario: Scenario, result: Result, terminal: Terminal) -> None:
    """Say which faults never came, as the run had ended before; an interrupted one did not end."""
    if not result.partial:
        for remark in missed_faults(scenario, result.duration_ns):
            terminal.warn(remark)


def warn_if_partial(result: Result, terminal: Terminal) -> None:
    """Say of an interrupted run what its figures are."""
    if result.partial:
        terminal.warn(
            "interrupted: these are the figures until then; what was waiting or in service counts "
            "as cancelled"
        )
