"""A stand-in takes the times that its scenario states, its memory's part included, or says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelmgr.records.host_memory import HostMemory
from modelmgr.records.result import ModelUse, StatedTime
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.scenario_run import copies
from modelmgr.runtime.scenario_run.copies import Copies, Faults, RunningCopy, Surroundings
from modelmgr.runtime.scenario_run.devices import RunDevice
from modelmgr.runtime.scenario_run.models import RunModel, StandInSizes
from modelmgr.runtime.scenario_run.run import run_scenario
from modelmgr.runtime.scenario_run.stated_times import overruns
from modelmgr.runtime.scenario_run.tally import Tally
from modelmgr.runtime.scenario_run.waiting import RunClock, Waiting
from modelmgr.units import MIB
from modelmgr.workers.placement import place
from support.real_runs import small_run
from support.small_scenarios import MS, constant, make_model


@dataclass
class FakeTime:
    """A clock that only what takes time moves on, and what happened when."""

    now_ns: int = 0
    happened: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    def passes(self, what: str, took_ns: int) -> None:
        self.now_ns += took_ns
        self.happened.append((what, self.now_ns // MS))

    def until(self, due_ns: int, alive: object = None) -> int:
        del alive
        if due_ns > self.now_ns:
            self.passes("waited", due_ns - self.now_ns)
        return self.now_ns - due_ns


class FakeWorker:
    """A worker whose memory takes its time: 40 ms to touch, 10 ms to free, 20 ms to load."""

    pid = 1
    alive = True

    def __init__(self, time: FakeTime) -> None:
        self._time = time

    def load(self, *, timeout_s: float | None) -> None:
        del timeout_s
        self._time.passes("touched", 40 * MS)

    def infer(self, batch: dict[str, int]) -> None:
        freed = batch == {"extra_bytes": 0}
        self._time.passes("freed" if freed else "touched", (10 if freed else 40) * MS)

    def memory(self) -> HostMemory:
        raise AssertionError("nobody asks")

    def kill(self) -> None:
        raise AssertionError("it goes in peace")

    def close(self) -> None:
        self._time.passes("freed", 10 * MS)


@dataclass
class Stage:
    """One stand-in on a machine whose time is ours."""

    time: FakeTime
    copy: RunningCopy
    device: RunDevice
    tally: Tally

    def load(self) -> None:
        self.copy.load(place(self.device.description))

    def times(self) -> dict[str, StatedTime]:
        return self.tally.models["m"].stated_times.record()


def nothing(*_: object, **__: object) -> None:
    """Do nothing, whatever it is told."""


def make_stage(
    monkeypatch: pytest.MonkeyPatch, *, load_ms: int, service_ms: int, unload_ms: int
) -> Stage:
    fake = FakeTime()
    model = make_model(
        "m",
        resident=40 * MIB,
        load=constant(load_ms * MS),
        service=constant(service_ms * MS),
        unload=constant(unload_ms * MS),
    )
    scenario = small_run(models=[model])
    sizes = StandInSizes(
        process_bytes=10 * MIB,
        resident_bytes=30 * MIB,
        loading_bytes=50 * MIB,
        running_bytes=8 * MIB,
    )

    class OurWaiting(Waiting):
        def until(self, due_ns: int, alive: object = None) -> int:
            return fake.until(due_ns, alive)

    clock = RunClock()
    device = cast(
        "RunDevice",
        SimpleNamespace(
            name="gpu0",
            description=SimpleNamespace(name="gpu0", kind="host", total_bytes=1 << 40),
            budget=None,
            lost=False,
            meter=SimpleNamespace(track=nothing, look=nothing),
        ),
    )
    monkeypatch.setattr(copies, "time", SimpleNamespace(monotonic_ns=lambda: fake.now_ns))
    monkeypatch.setattr(copies, "Waiting", OurWaiting)
    monkeypatch.setattr(copies, "reset_peak", nothing)
    tally = Tally(scenario)

    def start(*_: object, **__: object) -> FakeWorker:
        return FakeWorker(fake)

    launcher: Any = SimpleNamespace(start=start)
    around = Surroundings(
        launcher=launcher,
        clock=clock,
        tally=tally,
        faults=Faults(scenario, clock),
        devices={"gpu0": device},
        copies=Copies(),
        later=nothing,
        seed=1,
    )
    copy = RunningCopy(RunModel(model, 1, {"gpu0": sizes}), device, around)
    return Stage(fake, copy, device, tally)


def test_touching_and_freeing_memory_is_part_of_every_stated_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = make_stage(monkeypatch, load_ms=100, service_ms=100, unload_ms=100)
    stage.load()
    # The peak of the load is given up within its time: that came on top of it once.
    assert stage.time.happened == [
        ("touched", 40),
        ("waited", 90),
        ("freed", 100),
    ]
    stage.copy.serve(cast("Lease", None), 100 * MS, None, seed=1)
    assert stage.time.happened[3:] == [("touched", 140), ("waited", 190), ("freed", 200)]
    stage.copy.close()
    assert stage.time.happened[6:] == [("waited", 250), ("freed", 260), ("waited", 300)]
    assert stage.time.now_ns == 300 * MS
    exact = StatedTime(count=1, stated_ns=100 * MS, taken_ns=100 * MS, most_over_ns=0)
    assert stage.times() == {"load": exact, "service": exact, "unload": exact}


def test_what_takes_longer_than_stated_is_counted_with_by_how_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = make_stage(monkeypatch, load_ms=45, service_ms=20, unload_ms=0)
    stage.load()
    for _ in range(2):
        stage.copy.serve(cast("Lease", None), 20 * MS, None, seed=1)
    stage.copy.close()
    assert stage.times() == {
        "load": StatedTime(count=1, stated_ns=45 * MS, taken_ns=50 * MS, most_over_ns=5 * MS),
        "service": StatedTime(count=2, stated_ns=20 * MS, taken_ns=50 * MS, most_over_ns=30 * MS),
        "unload": StatedTime(count=1, stated_ns=0, taken_ns=10 * MS, most_over_ns=10 * MS),
    }


def use(**times: tuple[float, float]) -> ModelUse:
    return ModelUse(
        requests=1,
        loads=1,
        hits=0,
        evictions=0,
        wait_ns=None,
        stated_times={
            act: StatedTime(
                count=3,
                stated_ns=round(stated * MS),
                taken_ns=round(taken * MS),
                most_over_ns=round((taken - stated) * MS),
            )
            for act, (stated, taken) in times.items()
        },
    )


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ({"service": (100, 101.9)}, []),  # within 2 %
        ({"service": (100, 102.1)}, ["service"]),
        ({"service": (5, 5.9)}, []),  # a thread that woke late
        ({"service": (5, 6.1)}, ["service"]),
        ({"load": (1000, 1500), "service": (100, 100)}, ["load"]),
        # An unload of which nothing is stated, by the load that waits for it.
        ({"load": (1000, 1000), "unload": (0, 19)}, []),
        ({"load": (1000, 1000), "unload": (0, 21)}, ["unload"]),
        ({"unload": (0, 2)}, ["unload"]),
        ({}, []),
    ],
)
def test_a_stand_in_is_told_of_where_it_took_too_long_on_average(
    times: dict[str, tuple[float, float]], told: list[str]
) -> None:
    assert [each.act for each in overruns({"m": use(**times)})] == told


@pytest.mark.usefixtures("nothing_left")
def test_a_run_that_cannot_take_the_stated_times_says_so_in_its_result() -> None:
    # No machine touches 64 MiB in a microsecond.
    model = make_model(
        "m",
        resident=40 * MIB,
        peak=104 * MIB,
        load=constant(60 * MS),
        service=constant(1_000),
    )
    result = run_scenario(small_run(models=[model], seconds=0.3)).result
    service = result.models["m"].stated_times["service"]
    assert service.count == result.requests.completed > 0
    assert service.stated_ns == 1_000
    assert service.taken_ns > 2_000
    assert service.most_over_ns >= service.taken_ns - service.stated_ns
    assert "service" in [each.act for each in overruns(result.models)]
