"""Each kind of fault for real: what it costs is counted, and the run goes on after it."""

from __future__ import annotations

from typing import Any

import pytest

from modelmgr.errors import WorkerDiedError
from modelmgr.records.result import Result
from modelmgr.runtime.driver import Driver
from modelmgr.runtime.lease import Lease
from modelmgr.runtime.scenario_run.copies import RunningCopy
from modelmgr.runtime.scenario_run.run import run_scenario
from modelmgr.units import MIB
from modelmgr.workload.scenario import (
    Arrivals,
    Fault,
    ManagerOptions,
    MixPhase,
    ScenarioModel,
)
from support.real_runs import small_model, small_run
from support.small_scenarios import MS, constant, make_model

pytestmark = pytest.mark.usefixtures("nothing_left")

STEADY = Arrivals(pattern="constant", rate_per_s=10)


def long_job(tag: str = "m") -> ScenarioModel:
    """Return a model that is at work nearly all the time."""
    return small_model(tag, service=constant(95 * MS))


def run_with(
    *faults: Fault, models: list[ScenarioModel] | None = None, memory_mib: int = 60
) -> Result:
    scenario = small_run(
        models=models or [long_job()],
        arrivals=STEADY,
        seconds=2,
        memory_mib=memory_mib,
        manager=ManagerOptions(max_copies=1, wait_timeout_ns=30_000 * MS),
        faults=faults,
    )
    result = run_scenario(scenario).result
    requests = result.requests
    assert requests.total == 20 == requests.completed + requests.failed
    return result


def test_a_killed_worker_costs_its_request_and_is_loaded_again() -> None:
    result = run_with(Fault(kind="worker-killed", at_ns=850 * MS, model="m"))
    assert result.requests.failed <= 1  # it may have been idle at that moment
    assert result.loads == 2


def test_a_lost_holder_costs_its_request_and_its_copy() -> None:
    result = run_with(Fault(kind="holder-lost", rate_per_s=4, until_ns=1_500 * MS))
    assert result.requests.failed >= 1
    assert result.loads == 1 + result.requests.failed


def test_a_holder_lost_at_the_very_end_of_its_job_costs_its_request_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine such a request counted as completed, with its copy taken away."""
    struck: list[RunningCopy] = []
    drivers: list[Driver] = []
    acquire = Driver.acquire

    def remembered(driver: Driver, *args: Any, **options: Any) -> Lease:
        drivers.append(driver)
        return acquire(driver, *args, **options)

    def pass_time(copy: RunningCopy, *_: object) -> None:
        if not struck:
            struck.append(copy)
            copy.lose_holder(drivers[0].lose_holder, WorkerDiedError("lost"))

    monkeypatch.setattr(Driver, "acquire", remembered)
    monkeypatch.setattr(RunningCopy, "_pass_time", pass_time)
    result = run_with()
    assert (result.requests.failed, result.loads) == (1, 2)


def test_a_load_that_fails_fails_its_request_alone() -> None:
    result = run_with(Fault(kind="load-failed", at_ns=0, model="m"))
    assert result.failed_loads == 1
    assert result.requests.failed == 1
    assert result.loads == 1


def test_loads_that_fail_for_a_while_fail_all_of_them_and_none_afterwards() -> None:
    result = run_with(Fault(kind="load-failed", at_ns=0, duration_ns=700 * MS, model="m"))
    assert result.failed_loads > 1
    assert result.requests.completed > 0
    assert result.loads == 1


def test_a_load_that_hangs_is_waited_for() -> None:
    result = run_with(Fault(kind="load-hangs", at_ns=0, duration_ns=700 * MS))
    assert result.requests.failed == 0
    assert result.reload_cost_ns >= 760 * MS


def test_out_of_memory_in_use_is_tried_once_more() -> None:
    result = run_with(Fault(kind="out-of-memory", at_ns=950 * MS, model="m"))
    assert result.oom_events == 1
    assert result.requests.failed == 0
    assert result.loads == 2


def test_memory_that_comes_back_late_is_waited_for() -> None:
    late = Fault(kind="late-free", at_ns=0, duration_ns=600 * MS)
    result = run_with(late, models=[small_model("a"), small_model("b")])
    assert result.requests.failed == 0
    assert result.evictions >= 1
    assert result.wait_ns is not None
    assert result.wait_ns.max >= 600 * MS


@pytest.mark.parametrize("kind", ["reading-failed", "reading-wrong"])
def test_hits_go_on_while_readings_are_spoiled(kind: str) -> None:
    fault = Fault(
        kind="reading-failed" if kind == "reading-failed" else "reading-wrong",
        at_ns=500 * MS,
        duration_ns=500 * MS,
        size_bytes=30 * MIB if kind == "reading-wrong" else None,
    )
    result = run_with(fault)
    assert result.requests.failed == 0
    assert result.loads == 1


def test_foreign_memory_is_real_and_keeps_models_out_until_it_goes() -> None:
    foreign = Fault(kind="foreign-memory", at_ns=0, duration_ns=3_000 * MS, size_bytes=90 * MIB)
    traffic = MixPhase(
        mix=(("m", 1.0),), arrivals=STEADY, duration_ns=1_000 * MS, start_ns=1_500 * MS
    )
    scenario = small_run(
        models=[small_model("m")],
        workload=[traffic],
        memory_mib=120,
        manager=ManagerOptions(max_copies=1, wait_timeout_ns=30_000 * MS),
        faults=[foreign],
    )
    result = run_scenario(scenario).result
    assert result.requests.completed == result.requests.total == 10
    assert result.wait_ns is not None
    assert result.wait_ns.max >= 1_000 * MS
    assert result.devices["gpu0"].peak_bytes >= 80 * MIB


def test_a_lost_device_loses_its_copies_and_comes_back() -> None:
    lost = Fault(kind="device-lost", at_ns=950 * MS, duration_ns=400 * MS)
    result = run_with(lost)
    assert result.requests.failed >= 1
    assert result.requests.completed >= 5
    assert result.loads >= 2


def test_a_stand_in_larger_than_believed_runs_out_of_memory_as_on_a_device() -> None:
    # Two are believed to fit, and each takes more than is believed.
    large = [
        make_model(
            tag,
            resident=40 * MIB,
            peak=70 * MIB,
            load=constant(60 * MS),
            service=constant(30 * MS),
            believed=42 * MIB,
        )
        for tag in "ab"
    ]
    result = run_with(models=large, memory_mib=100)
    assert result.oom_events >= 1
    assert result.requests.failed <= 2
