"""The library's edge: run a scenario in virtual time and say what it came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelmgr._version import __version__
from modelmgr.records.costs import ToolInfo
from modelmgr.records.result import (
    DeviceUse,
    LearnedCost,
    ModelUse,
    RequestCounts,
    Result,
)
from modelmgr.simulation.engine import Engine, Progress
from modelmgr.simulation.metrics import figures
from modelmgr.simulation.world import ServedJob, World
from modelmgr.units import NS_PER_S
from modelmgr.workload.scenario import Scenario

POLL_INTERVAL_NS = NS_PER_S // 2
"""As ``ModelManager(poll_interval=0.5)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOutcome:
    """What a simulation came to.

    Attributes:
        result: the record of it; ``started_at`` is None, as nobody looked at a clock.
        schedule: every request that was given a copy, in the order in which they ended; None where
            it was not asked for.
    """

    result: Result
    schedule: tuple[ServedJob, ...] | None


def simulate(
    scenario: Scenario,
    *,
    log: Callable[[bytes], object] | None = None,
    check: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    max_requests: int | None = None,
    keep_schedule: bool = False,
    poll_interval_ns: int = POLL_INTERVAL_NS,
    read_always: bool = False,
) -> SimulationOutcome:
    """Run a scenario through the scheduler in virtual time.

    The same scenario gives the same decisions, byte for byte, on any machine.

    Args:
        scenario: what to run; every model needs a cost.
        log: is given the decision log, whole JSON lines at a time.
        check: check every promise after every event; many times slower.
        progress: is told the simulated time (ns) and the requests that came, now and then.
        stop: is asked now and then; True ends the run, and the result is partial.
        max_requests: ends the traffic after so many.
        keep_schedule: keep every served job, for the offline bound.
        poll_interval_ns: between readings while somebody waits.
        read_always: take device readings that cannot change anything as well.

    Raises:
        UsageError: a model has no cost, or a setting makes no sense.
        InputError: a trace has a bad row.
        AssertionError: a promise was broken, with ``check``.
    """
    world = World(
        scenario,
        write_log=log,
        poll_interval_ns=poll_interval_ns,
        keep_schedule=keep_schedule,
        read_always=read_always,
    )
    engine = Engine(world, check=check, progress=progress, stop=stop, max_requests=max_requests)
    finished = engine.run()
    schedule = None if world.schedule is None else tuple(world.schedule)
    return SimulationOutcome(
        result=_result(scenario, world, partial=not finished), schedule=schedule
    )


def _result(scenario: Scenario, world: World, *, partial: bool) -> Result:
    sha256 = world.log.sha256()
    models = world.models
    return Result(
        mode="simulate",
        scenario=scenario.name,
        seed=scenario.seed,
        policy=scenario.manager.policy,
        started_at=None,
        tool=ToolInfo(name="modelmgr", version=__version__),
        machine=None,
        duration_ns=world.ended_ns,
        partial=partial,
        requests=RequestCounts(
            total=world.total,
            completed=world.completed,
            timed_out=world.timed_out,
            refused=world.refused,
            failed=world.failed,
            cancelled=world.cancelled,
        ),
        loads=sum(model.loads for model in models),
        failed_loads=world.failed_loads,
        hits=sum(model.hits for model in models),
        evictions=sum(model.evictions for model in models),
        oom_events=sum(device.oom_events for device in world.devices),
        reload_cost_ns=world.loads_ns,
        first_load_cost_ns=world.first_loads_ns,
        wait_ns=figures([model.waits for model in models]),
        latency_ns=figures([world.latencies]),
        devices={
            device.name: DeviceUse(
                limit_bytes=device.limit_bytes,
                peak_bytes=device.peak_bytes,
                mean_bytes=device.mean_bytes(world.ended_ns),
            )
            for device in world.devices
        },
        models={
            model.tag: ModelUse(
                requests=model.requests,
                loads=model.loads,
                hits=model.hits,
                evictions=model.evictions,
                wait_ns=figures([model.waits]),
            )
            for model in models
        },
        decisions=world.log.count,
        decisions_sha256=sha256,
        learned={
            tag: LearnedCost(
                resident_bytes=cost.resident_bytes,
                peak_bytes=cost.peak_bytes,
                upper_bytes=cost.upper_bytes,
                interval_95=cost.interval_95,
                source=cost.source,
                observations=cost.observations,
            )
            for tag, cost in sorted(world.estimator.learned().items())
        },
        evictions_trace=world.evictions(),
    )
