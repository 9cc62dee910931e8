"""Looking at few of many copies changes no decision; it leaves out only who could not be chosen."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from modelmgr.records.result import Result
from modelmgr.scheduling import victims
from modelmgr.scheduling.actions import Action, StartUnload
from modelmgr.scheduling.policies import IdleCopy, QueueValue
from modelmgr.scheduling.settings import SchedulerSettings
from modelmgr.simulation.simulate import simulate
from modelmgr.units import GIB, MIB, NS_PER_S
from modelmgr.workload.scenario import (
    Arrivals,
    BelievedCost,
    Distribution,
    ManagerOptions,
    MixPhase,
    Scenario,
    ScenarioCost,
    ScenarioDevice,
    ScenarioModel,
)
from support.seeded_run import SeededRun
from support.virtual_driver import VirtualDriver

MANY = 40


def mixed(seed: int, policy: str, *, alike: bool) -> Scenario:
    """Return sixty models, some wanted often, on two devices that hold a third of them."""
    draw = random.Random(seed)
    models: list[ScenarioModel] = []
    for number in range(60):
        resident = GIB if alike else draw.choice((200, 700, 1500, 4000)) * MIB
        load_ns = NS_PER_S if alike else draw.randint(1, 4 * NS_PER_S)
        models.append(
            ScenarioModel(
                tag=f"m{number:02}",
                cost=ScenarioCost(
                    resident_bytes=resident,
                    peak_bytes=resident + 100 * MIB,
                    load=Distribution(kind="constant", mean_ns=load_ns),
                    service=Distribution(kind="exponential", mean_ns=NS_PER_S // 10),
                ),
                believed=BelievedCost(
                    resident_bytes=resident,
                    peak_bytes=resident + 100 * MIB,
                    load_ns=load_ns if draw.random() < 0.8 else None,
                ),
                pinned=draw.random() < 0.03,
            )
        )
    total = sum(model.believed.peak_bytes for model in models if model.believed is not None)
    traffic = MixPhase(
        mix=tuple((model.tag, draw.choice((0.2, 1.0, 8.0))) for model in models),
        arrivals=Arrivals(pattern="poisson", rate_per_s=draw.choice((0.2, 1.0, 4.0))),
        duration_ns=10**6 * NS_PER_S,
    )
    return Scenario(
        name="many",
        seed=seed,
        devices=tuple(
            ScenarioDevice(name=name, kind="virtual", total_bytes=round(total * share), slack=0.0)
            for name, share in (("one", 0.25), ("two", 0.12))
        ),
        manager=ManagerOptions(policy=policy, wait_timeout_ns=None, max_copies=draw.choice((1, 3))),
        models=tuple(models),
        workload=(traffic,),
    )


def shown(result: Result) -> int:
    """Return how many copies were looked at, all evictions together."""
    trace = result.evictions_trace
    assert isinstance(trace, tuple)
    return sum(len(eviction.candidates) for eviction in trace)


@pytest.mark.parametrize("policy", ["lru", "gdsf", "queue-value"])
@pytest.mark.parametrize("seed", range(4))
def test_a_simulation_that_looks_at_few_copies_decides_as_one_that_looks_at_all(
    monkeypatch: pytest.MonkeyPatch, policy: str, seed: int
) -> None:
    what = mixed(seed, policy, alike=seed % 2 == 1)
    monkeypatch.setattr(victims, "_FEW", 10_000)
    full = simulate(what, max_requests=700).result
    monkeypatch.setattr(victims, "_FEW", 0)
    short = simulate(what, max_requests=700).result
    assert full.evictions is not None
    assert full.evictions > 50
    assert short.decisions_sha256 == full.decisions_sha256
    assert shown(short) < shown(full)


def ordered(log: Sequence[Action]) -> list[object]:
    """Return what was ordered, without who else could have gone."""
    return [
        action._replace(candidates=()) if isinstance(action, StartUnload) else action
        for action in log
    ]


def test_whatever_happens_few_copies_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    unloads = 0
    for seed in range(40):
        logs: list[list[object]] = []
        for few in (10_000, 0):
            monkeypatch.setattr(victims, "_FEW", few)
            run = SeededRun(seed)
            for _ in range(150):
                run.step()
            run.end()
            logs.append(ordered(run.driver.log))
        assert logs[0] == logs[1], f"seed {seed}"
        unloads += sum(isinstance(action, StartUnload) for action in logs[0])
    assert unloads > 300


def idle_copies(settings: SchedulerSettings, *, longer_ns: int = 0) -> VirtualDriver:
    """Return a full device with many idle copies: each used later, and loaded longer if wanted."""
    driver = VirtualDriver(MANY, settings=settings)
    for number in range(MANY):
        driver.know(f"m{number:02}", 1, load_ns=1000 + number * longer_ns)
        driver.serve(f"m{number:02}")
    driver.know("new", 1, load_ns=1000)
    return driver


def evicted(driver: VirtualDriver) -> list[str]:
    """Let another model in; return who went for it."""
    before = len(driver.unloads())
    driver.serve("new")
    return [unload.tag for unload in driver.unloads()[before:]]


@pytest.mark.parametrize("policy", ["lru", "gdsf", "queue-value"])
def test_of_many_copies_only_those_are_named_that_could_have_gone(policy: str) -> None:
    driver = idle_copies(SchedulerSettings(policy=policy), longer_ns=1000)
    assert evicted(driver) == ["m00"]
    (unload,) = driver.unloads()
    named = [candidate.tag for candidate in unload.candidates]
    assert "m00" in named
    assert len(named) == len(set(named)) < MANY // 2


def test_a_copy_that_was_used_again_is_no_longer_the_least() -> None:
    driver = idle_copies(SchedulerSettings(policy="lru"))
    for number in range(10):
        driver.serve(f"m{number:02}")
    assert evicted(driver) == ["m10"]


def test_where_evictions_are_explained_all_copies_are_named() -> None:
    driver = idle_copies(SchedulerSettings(explain=True))
    assert evicted(driver) == ["m00"]
    assert len(driver.unloads()[0].candidates) == MANY


def test_a_policy_derived_from_a_built_in_one_is_shown_every_copy() -> None:
    counts: list[int] = []

    class Own(QueueValue):
        """Takes the latest copy instead of the cheapest."""

        def choose(
            self,
            candidates: Sequence[IdleCopy],
            values: Sequence[float],  # noqa: ARG002 - the protocol's
            need_bytes: int,  # noqa: ARG002 - the protocol's
        ) -> tuple[int, ...] | None:
            """Take the one used last."""
            counts.append(len(candidates))
            return (len(candidates) - 1,)

    driver = idle_copies(SchedulerSettings(policy=Own()))
    assert evicted(driver) == [f"m{MANY - 1}"]
    assert counts == [MANY]


def test_a_model_that_turns_out_cheaper_to_load_is_found() -> None:
    driver = idle_copies(SchedulerSettings())
    assert evicted(driver) == ["m00"]
    driver.know("m20", 1, load_ns=1)
    driver.know("other", 1, load_ns=1000)
    driver.serve("other")
    assert [unload.tag for unload in driver.unloads()] == ["m00", "m20"]


def test_a_copy_that_goes_otherwise_and_comes_back_is_one_copy_again() -> None:
    driver = idle_copies(SchedulerSettings(policy="lru"))
    assert evicted(driver) == ["m00"]
    for _ in range(3 * MANY):
        driver.worker_lost(next(n for n, c in driver.scheduler.copies.items() if c.tag == "new"))
        driver.serve("new")
    driver.know("other", 1, load_ns=1000)
    driver.serve("other")
    assert [unload.tag for unload in driver.unloads()] == ["m00", "m01"]


def test_room_is_made_where_all_that_is_cheap_is_pinned() -> None:
    driver = idle_copies(SchedulerSettings(policy="lru"))
    for number in range(MANY - 1):
        driver.pin(f"m{number:02}")
    assert evicted(driver) == [f"m{MANY - 1}"]
    driver.pin("new")
    driver.know("other", 1, load_ns=1000)
    waiting = driver.request("other")
    assert driver.granted(waiting) is None
    assert len(driver.unloads()) == 1
