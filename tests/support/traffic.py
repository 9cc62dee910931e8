"""Scenarios made in one line, and what their traffic came to, for tests of the workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelmgr.units import NS_PER_S
from modelmgr.workload.raw_requests import RawRequest
from modelmgr.workload.requests import RequestSource
from modelmgr.workload.scenario import (
    Arrivals,
    Distribution,
    ManagerOptions,
    MixPhase,
    Phase,
    Scenario,
    ScenarioCost,
    ScenarioModel,
)

SERVICE = Distribution(kind="exponential", mean_ns=35_000_000)


def model(tag: str, service: Distribution = SERVICE) -> ScenarioModel:
    """Return a small model."""
    cost = ScenarioCost(
        resident_bytes=1,
        peak_bytes=1,
        load=Distribution(kind="constant", mean_ns=1),
        service=service,
    )
    return ScenarioModel(tag=tag, cost=cost, believed=None)


def scenario(phases: Sequence[Phase], tags: Sequence[str], *, seed: int = 1) -> Scenario:
    """Return a scenario that has traffic and nothing else."""
    return Scenario(
        name="test",
        seed=seed,
        devices=(),
        manager=ManagerOptions(),
        models=tuple(model(tag) for tag in tags),
        workload=tuple(phases),
    )


def mix(
    weights: Mapping[str, float],
    arrivals: Arrivals,
    *,
    seconds: float = 1000,
    start_s: float | None = None,
) -> MixPhase:
    """Return a phase."""
    return MixPhase(
        mix=tuple(weights.items()),
        arrivals=arrivals,
        duration_ns=round(seconds * NS_PER_S),
        start_ns=None if start_s is None else round(start_s * NS_PER_S),
    )


def traffic(
    phases: Sequence[Phase], tags: Sequence[str] = ("a", "b", "c"), *, seed: int = 1
) -> list[RawRequest]:
    """Return all that comes by itself."""
    source = RequestSource(scenario(phases, tags, seed=seed))
    found: list[RawRequest] = []
    while batch := source.next_batch():
        found += batch
    return found


def of_model(requests: Sequence[RawRequest], tag: int) -> list[tuple[int, int]]:
    """Return a model's times and service times."""
    return [(request[0], request[2]) for request in requests if request[1] == tag]
