"""Scenarios made in a line, for tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelmgr.units import GIB, NS_PER_S
from modelmgr.workload.scenario import (
    Arrivals,
    BelievedCost,
    Distribution,
    Fault,
    ManagerOptions,
    MixPhase,
    Phase,
    Scenario,
    ScenarioCost,
    ScenarioDevice,
    ScenarioModel,
)

MS = 1_000_000


def constant(mean_ns: int) -> Distribution:
    """Return a duration that is always the same."""
    return Distribution(kind="constant", mean_ns=mean_ns)


def exponential(mean_ns: int) -> Distribution:
    """Return an exponential one."""
    return Distribution(kind="exponential", mean_ns=mean_ns)


def make_model(
    tag: str,
    *,
    resident: int = GIB,
    peak: int | None = None,
    load: Distribution | None = None,
    unload: Distribution | None = None,
    service: Distribution | None = None,
    known: bool = True,
    believed: int | None = None,
    load_peak: int | None = None,
    pinned: bool = False,
    priority: int = 0,
) -> ScenarioModel:
    """Return a model; ``believed`` is a resident and peak figure that differs from the truth."""
    peak = resident if peak is None else peak
    load = load or constant(NS_PER_S)
    belief = BelievedCost(
        resident_bytes=resident if believed is None else believed,
        peak_bytes=peak if believed is None else believed,
        load_peak_bytes=load_peak,
        load_ns=load.mean_ns,
    )
    return ScenarioModel(
        tag=tag,
        cost=ScenarioCost(
            resident_bytes=resident,
            peak_bytes=peak,
            load_peak_bytes=load_peak,
            load=load,
            unload=unload or constant(0),
            service=service or constant(10 * MS),
        ),
        believed=belief if known else None,
        pinned=pinned,
        priority=priority,
    )


def make_scenario(
    models: Sequence[ScenarioModel],
    *,
    rate_per_s: float = 10.0,
    seconds: float = 60.0,
    memory: int | Sequence[int] = 4 * GIB,
    mix: Mapping[str, float] | None = None,
    arrivals: Arrivals | None = None,
    workload: Sequence[Phase] | None = None,
    manager: ManagerOptions | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 1,
) -> Scenario:
    """Return a scenario of one Poisson phase on virtual devices without slack."""
    sizes = (memory,) if isinstance(memory, int) else tuple(memory)
    weights = mix or {model.tag: 1.0 for model in models}
    phase = MixPhase(
        mix=tuple(weights.items()),
        arrivals=arrivals or Arrivals(pattern="poisson", rate_per_s=rate_per_s),
        duration_ns=round(seconds * NS_PER_S),
    )
    return Scenario(
        name="small",
        seed=seed,
        devices=tuple(
            ScenarioDevice(name=f"gpu{index}", kind="virtual", total_bytes=size, slack=0.0)
            for index, size in enumerate(sizes)
        ),
        manager=manager or ManagerOptions(),
        models=tuple(models),
        workload=tuple(workload) if workload is not None else (phase,),
        faults=tuple(faults),
    )
