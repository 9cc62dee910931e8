"""Every promise, after every event, in runs of every shipped scenario and of drawn ones."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from modelmgr.simulation.simulate import SimulationOutcome, simulate
from modelmgr.units import GIB, MIB, NS_PER_S
from modelmgr.workload.scenario import (
    Arrivals,
    Distribution,
    Fault,
    FaultKind,
    ManagerOptions,
    Scenario,
    ScenarioModel,
)
from modelmgr.workload.scenario_reader import read_scenario
from support.small_scenarios import MS, constant, exponential, make_model, make_scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SHIPPED = sorted(
    path for path in SCENARIOS.glob("*.yaml") if "\nworkload:" in path.read_text("utf-8")
)
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


def run(scenario: Scenario, max_requests: int | None = None) -> SimulationOutcome:
    outcome = simulate(scenario, check=True, max_requests=max_requests)
    requests = outcome.result.requests
    ended = (
        requests.completed
        + requests.timed_out
        + requests.refused
        + requests.failed
        + requests.cancelled
    )
    assert ended == requests.total
    for use in outcome.result.devices.values():
        assert 0 <= use.mean_bytes <= use.peak_bytes
    return outcome


def drawn_scenario(seed: int) -> Scenario:
    """Return a scenario with everything in it that can go wrong."""
    draw = random.Random(seed)
    models: list[ScenarioModel] = []
    for number in range(draw.randint(2, 7)):
        resident = draw.randint(200, 3000) * MIB
        peak = resident + draw.randint(0, 800) * MIB
        models.append(
            make_model(
                f"m{number}",
                resident=resident,
                peak=peak,
                load=Distribution(kind="gamma", mean_ns=draw.randint(1, 3000) * MS, cv=0.5),
                unload=constant(draw.choice([0, 200 * MS])),
                service=exponential(draw.randint(1, 200) * MS),
                known=draw.random() < 0.8,
                believed=draw.choice([None, None, round(peak * 0.7)]),
                load_peak=draw.choice([None, round(peak * 1.2)]),
                priority=draw.choice([0, 0, 1]),
                pinned=draw.random() < 0.1,
            )
        )
    faults = [
        Fault(
            kind=kind,
            rate_per_s=draw.choice([0.02, 0.2]),
            model=draw.choice([None, "m1"]),
            duration_ns=draw.choice([None, 2 * NS_PER_S]) if kind != "device-lost" else NS_PER_S,
            size_bytes=draw.choice([500 * MIB, 1500 * MIB]),
        )
        for kind in draw.sample(KINDS, draw.randint(0, 5))
    ]
    arrivals = draw.choice(
        [
            Arrivals(pattern="poisson", rate_per_s=draw.choice([2.0, 20.0])),
            Arrivals(pattern="closed", concurrency=draw.randint(1, 12), think=constant(10 * MS)),
        ]
    )
    return make_scenario(
        models,
        seconds=12,
        memory=[draw.choice([4, 6, 10]) * GIB for _ in range(draw.randint(1, 2))],
        arrivals=arrivals,
        manager=ManagerOptions(
            policy=draw.choice(["lru", "gdsf", "demand-tiers", "queue-value"]),
            isolation=draw.choice(["beside", "exclusive"]),
            max_bypass=draw.choice([0, 3, 8]),
            max_copies=draw.choice([None, 1, 2]),
            cooldown_ns=draw.choice([0, 2 * NS_PER_S]),
            wait_timeout_ns=draw.choice([None, 0, 3 * NS_PER_S, 300 * NS_PER_S]),
        ),
        faults=faults,
        seed=seed,
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.stem))
def test_shipped_scenarios_keep_every_promise(path: Path) -> None:
    outcome = run(read_scenario(path, purpose="simulate"), max_requests=700)
    assert outcome.result.requests.completed > 0


@pytest.mark.parametrize("seed", range(40))
def test_drawn_scenarios_with_faults_keep_every_promise(seed: int) -> None:
    run(drawn_scenario(seed))


@pytest.mark.parametrize("seed", range(12))
def test_readings_that_are_left_out_would_have_changed_no_decision(seed: int) -> None:
    scenario = replace(drawn_scenario(seed), seed=seed + 100)
    some, every = simulate(scenario), simulate(scenario, read_always=True)
    assert some.result == every.result


def test_a_load_of_ten_years_is_waited_for_without_looking_every_half_second() -> None:
    years_ns = 10 * 365 * 86_400 * NS_PER_S
    scenario = make_scenario(
        [make_model("slow", load=constant(years_ns)), make_model("other")],
        seconds=5,
        arrivals=Arrivals(pattern="poisson", rate_per_s=2.0),
        manager=ManagerOptions(wait_timeout_ns=None),
    )
    result = run(scenario).result
    assert result.requests.completed == result.requests.total > 0
    waits = result.models["slow"].wait_ns
    assert waits is not None
    assert waits.max > 0.9 * years_ns


def test_a_dead_copy_that_is_unloaded_when_another_is_cleared_away_ends_once() -> None:
    """Clearing one dead copy away made room for a plan that evicted the next one on the list."""
    scenario = read_scenario(SCENARIOS / "ci-benchmark.yaml")
    manager = replace(scenario.manager, policy="demand-tiers")
    result = simulate(replace(scenario, seed=5, manager=manager), check=True).result
    assert result.requests.total == sum(model.requests for model in result.models.values())


def test_there_are_shipped_scenarios() -> None:
    assert len(SHIPPED) >= 8
