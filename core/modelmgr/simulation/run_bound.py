"""The offline bound of a whole run: its schedule by device, the programme, and what it is held to.

Owns the way from a scenario and its outcome to the figures that a result records and to the
certificate. The bound itself is ``simulation.bound``'s. Nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelmgr._version import __version__
from modelmgr.errors import UsageError
from modelmgr.records.certificate import Certificate
from modelmgr.records.costs import ToolInfo
from modelmgr.records.result import Bound as BoundRecord
from modelmgr.simulation.bound import Bound, BoundTotal, reload_bound, total
from modelmgr.simulation.certificate import make_certificate
from modelmgr.simulation.schedule import ModelFigures, ServedSchedule, by_device
from modelmgr.simulation.simulate import SimulationOutcome
from modelmgr.workload.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBound:
    """The bound of one run, all devices together.

    Attributes:
        schedules: what was served, one a device.
        bounds: the bound of each, in the same order.
        total: their sum.
        cost_ns: what the run's loads cost by the models' mean load times: what is held to the
            bound, as load times that are drawn can fall below it by luck.
    """

    schedules: tuple[ServedSchedule, ...]
    bounds: tuple[Bound, ...]
    total: BoundTotal
    cost_ns: int

    @property
    def ratio(self) -> float | None:
        """How many times the bound the run's loads cost; None where only the bound is nothing."""
        return self.total.ratio(self.cost_ns)

    def record(self, certificate: str | None = None) -> BoundRecord:
        """Return what a result says of it; ``certificate`` is the file that was written."""
        return BoundRecord(
            reload_cost_ns=self.total.reload_cost_ns,
            ratio=self.ratio,
            method=self.total.method,
            certificate=certificate,
        )

    def certificate(self, *, scenario: str, decisions_sha256: str) -> Certificate:
        """Return what proves it, tied to the run by the hash of its decisions."""
        return make_certificate(
            self.schedules,
            self.bounds,
            tool=ToolInfo(name="modelmgr", version=__version__),
            scenario=scenario,
            decisions_sha256=decisions_sha256,
        )


def model_figures(scenario: Scenario) -> dict[str, ModelFigures]:
    """Return what the bound must know of each model: its true sizes, and its mean load time."""
    return {
        model.tag: ModelFigures(
            resident_bytes=model.cost.resident_bytes,
            peak_bytes=model.cost.peak_bytes,
            reload_cost_ns=model.cost.load.mean_ns,
        )
        for model in scenario.models
        if model.cost is not None
    }


def bound_of_run(
    scenario: Scenario, outcome: SimulationOutcome, *, time_limit_s: float | None = None
) -> RunBound:
    """Return the least reload cost that any policy could have had on what a run served.

    Args:
        scenario: what was run.
        outcome: of the run, with its schedule.
        time_limit_s: roughly how long the solver may take for all devices together, seconds; the
            bound is valid and lower when it is too short.

    Raises:
        UsageError: the schedule was not kept, or its jobs alone took more than a device's limit
            (memory that nobody foresaw: wrong beliefs or faults), so no bound says anything.
    """
    if outcome.schedule is None:
        raise UsageError("the run kept no schedule; simulate with keep_schedule=True")
    figures = model_figures(scenario)
    schedules = by_device(
        outcome.schedule, {device.name: device.limit_bytes for device in scenario.devices}, figures
    )
    each_s = None if time_limit_s is None else time_limit_s / max(1, len(schedules))
    bounds = tuple(reload_bound(schedule, time_limit_s=each_s) for schedule in schedules)
    loads = {tag: use.loads for tag, use in outcome.result.models.items()}
    return RunBound(
        schedules=schedules,
        bounds=bounds,
        total=total(bounds),
        cost_ns=_cost_ns(schedules, figures, loads),
    )


def _cost_ns(
    schedules: tuple[ServedSchedule, ...],
    figures: Mapping[str, ModelFigures],
    loads: Mapping[str, int],
) -> int:
    """Return what the loads of every model that was served cost; the bound has no other loads."""
    served = {tag for schedule in schedules for tag in schedule.tags}
    return sum(figures[tag].reload_cost_ns * loads.get(tag, 0) for tag in served)
