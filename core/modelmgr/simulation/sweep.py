"""Simulate one scenario for many values of its keys: what is to be run, one row, and the sum of it.

Pure: the rows are run by a ``RowRunner`` (in this process here; on all cores in
``runtime.sweep_processes``, on a cluster in ``integrations.ray_sweep``), and what they come to does
not depend on which. Rows are numbered in the order of the combinations and put in that order again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from modelmgr._version import __version__
from modelmgr.errors import ModelmgrError, UsageError
from modelmgr.records.costs import ToolInfo
from modelmgr.records.result import Bound, DurationFigures
from modelmgr.records.sweep import Sweep, SweepError, SweepFigures, SweepKey, SweepRow
from modelmgr.simulation.pareto import memory_curves, pareto_front
from modelmgr.simulation.simulate import SimulationOutcome, simulate
from modelmgr.simulation.slo import Goal, answer_goals
from modelmgr.workload.scenario import Scenario
from modelmgr.workload.swept_keys import ImpossibleValueError, ScenarioTemplate

MAX_ROWS = 10_000
"""Each one's scenario is checked beforehand, which takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTask:
    """One row to simulate; it is sent to another process as it is.

    Attributes:
        number: among all combinations.
        values: as written, by key.
        scenario: with these values.
        max_requests: ends the traffic after so many.
        bound: compute the offline bound as well.
        bound_time_s: roughly how long that may take.
    """

    number: int
    values: dict[str, str]
    scenario: Scenario
    max_requests: int | None = None
    bound: bool = False
    bound_time_s: float | None = None

    @property
    def memory_bytes(self) -> int:
        """Of all devices together, slack included."""
        return sum(device.total_bytes for device in self.scenario.devices)

    def failed(self, kind: str, message: str) -> SweepRow:
        """Return its row where it could not be simulated."""
        return SweepRow(
            number=self.number,
            values=self.values,
            memory_bytes=self.memory_bytes,
            error=SweepError(kind=kind, message=message),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """All rows of a sweep.

    Attributes:
        name: the scenario's.
        keys: what is changed.
        tasks: the rows that can be simulated.
        refused: the rows whose scenario makes no sense, such as a device too small for any model.
    """

    name: str
    keys: tuple[SweepKey, ...]
    tasks: tuple[SweepTask, ...]
    refused: tuple[SweepRow, ...]

    @property
    def planned(self) -> int:
        """How many combinations there are."""
        return len(self.tasks) + len(self.refused)


class RowRunner(Protocol):
    """Runs rows, in any order, and yields each when it is done."""

    def __call__(self, tasks: Sequence[SweepTask], stop: Callable[[], bool]) -> Iterator[SweepRow]:
        """Yield every task's row; end early where ``stop`` says so, without those under way."""
        ...


def plan_sweep(
    template: ScenarioTemplate,
    keys: Sequence[SweepKey],
    *,
    change: Callable[[Scenario], Scenario] = lambda scenario: scenario,
    max_requests: int | None = None,
    bound: bool = False,
    bound_time_s: float | None = None,
) -> SweepPlan:
    """Return every combination of the keys' values, the last key's changing fastest.

    Args:
        template: the scenario.
        keys: what is changed.
        change: is applied to each scenario (the command line's ``--seed`` and ``--policy``).
        max_requests: ends each row's traffic after so many.
        bound: compute the offline bound of each row.
        bound_time_s: roughly how long that may take for a row.

    Raises:
        UsageError: an unknown key, one that is given twice, a value that its key cannot have, or
            no row whose scenario makes sense.
    """
    names = [key.key for key in keys]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(f"{repeated} is swept twice; write all its values in one list")
    places: dict[object, str] = {}
    for name in names:
        other = places.setdefault(template.place(name), name)
        if other != name:
            raise UsageError(f"{other} and {name} are the same key; sweep one of them")
    count = 1
    for key in keys:
        count *= len(key.values)
    if count > MAX_ROWS:
        raise UsageError(f"{count} combinations are more than {MAX_ROWS}; sweep fewer values")
    tasks: list[SweepTask] = []
    refused: list[SweepRow] = []
    first_error: UsageError | None = None
    title = ""
    combinations = itertools.product(*([value.text for value in key.values] for key in keys))
    for number, texts in enumerate(combinations):
        values = dict(zip(names, texts, strict=True))
        try:
            scenario = change(template.with_values(values))
        except ImpossibleValueError:
            raise
        except UsageError as error:
            first_error = first_error or error
            refusal = SweepError(kind=type(error).__name__, message=str(error))
            refused.append(SweepRow(number=number, values=values, memory_bytes=None, error=refusal))
            continue
        title = title or scenario.name
        tasks.append(
            SweepTask(
                number=number,
                values=values,
                scenario=scenario,
                max_requests=max_requests,
                bound=bound,
                bound_time_s=bound_time_s,
            )
        )
    if not tasks and first_error is not None:
        raise first_error
    return SweepPlan(name=title, keys=tuple(keys), tasks=tuple(tasks), refused=tuple(refused))


def run_row(task: SweepTask, *, stop: Callable[[], bool] | None = None) -> SweepRow | None:
    """Simulate one row; None where ``stop`` ended it before it was done.

    Whatever goes wrong is this row's and nobody else's: it is in the row.
    """
    try:
        outcome = simulate(
            task.scenario, stop=stop, max_requests=task.max_requests, keep_schedule=task.bound
        )
        if outcome.result.partial:
            return None
        bound, no_bound = _bound(task, outcome) if task.bound else (None, None)
    except ModelmgrError as error:
        return task.failed(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - one row's fault must not end the others
        return task.failed(type(error).__name__, str(error) or "no more is known")
    return SweepRow(
        number=task.number,
        values=task.values,
        memory_bytes=task.memory_bytes,
        figures=_figures(outcome, bound, no_bound),
    )


def in_this_process(tasks: Sequence[SweepTask], stop: Callable[[], bool]) -> Iterator[SweepRow]:
    """Run the rows one after another: the ``RowRunner`` that needs nothing."""
    for task in tasks:
        if stop():
            return
        row = run_row(task, stop=stop)
        if row is not None:
            yield row


def sweep(
    plan: SweepPlan,
    runner: RowRunner = in_this_process,
    *,
    goals: Sequence[Goal] = (),
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], object] = lambda _done, _planned: None,
) -> Sweep:
    """Run a plan's rows and say what they come to.

    Args:
        plan: what to run.
        runner: runs the rows.
        goals: what the smallest device is to meet.
        stop: is asked now and then; True ends the sweep, and it is partial.
        progress: is told how many rows are done and planned.

    Returns:
        The record; the same for every runner.
    """
    rows = list(plan.refused)
    progress(len(rows), plan.planned)
    for row in runner(plan.tasks, stop):
        rows.append(row)
        progress(len(rows), plan.planned)
    rows.sort(key=lambda row: row.number)
    partial = len(rows) < plan.planned
    return Sweep(
        tool=ToolInfo(name="modelmgr", version=__version__),
        scenario=plan.name,
        keys=plan.keys,
        planned=plan.planned,
        rows=tuple(rows),
        curves=memory_curves(plan.keys, rows),
        pareto=pareto_front(rows),
        slo=answer_goals(goals, rows, complete=not partial),
        partial=partial,
    )


def with_options(
    *, seed: int | None = None, policy: str | None = None
) -> Callable[[Scenario], Scenario]:
    """Return a change of scenarios: another seed, another policy, where they are given."""

    def change(scenario: Scenario) -> Scenario:
        if seed is not None:
            scenario = replace(scenario, seed=seed)
        if policy is not None:
            scenario = replace(scenario, manager=replace(scenario.manager, policy=policy))
        return scenario

    return change


def _bound(task: SweepTask, outcome: SimulationOutcome) -> tuple[Bound | None, str | None]:
    from modelmgr.simulation.run_bound import bound_of_run  # noqa: PLC0415 - loads the solver

    try:
        found = bound_of_run(task.scenario, outcome, time_limit_s=task.bound_time_s)
    except UsageError as error:
        return None, str(error)
    return found.record(), None


def _figures(outcome: SimulationOutcome, bound: Bound | None, no_bound: str | None) -> SweepFigures:
    result = outcome.result
    return SweepFigures(
        duration_ns=result.duration_ns,
        requests=result.requests,
        loads=result.loads,
        hits=result.hits,
        evictions=result.evictions,
        oom_events=result.oom_events,
        failed_loads=result.failed_loads,
        reload_cost_ns=result.reload_cost_ns,
        first_load_cost_ns=result.first_load_cost_ns,
        wait_ns=_without_samples(result.wait_ns),
        latency_ns=_without_samples(result.latency_ns),
        devices=result.devices,
        decisions_sha256=result.decisions_sha256,
        bound=bound,
        no_bound=no_bound,
    )


def _without_samples(figures: DurationFigures | None) -> DurationFigures | None:
    """Return the figures alone: a row of a table has no use for every single value."""
    return None if figures is None else msgspec.structs.replace(figures, samples=())
