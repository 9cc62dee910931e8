"""A scenario for real: worker processes, real memory, the wall clock; figures that add up."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

import pytest

from modelmgr.errors import DoesNotFitError, UsageError
from modelmgr.records.costs import DeviceInfo, MachineInfo
from modelmgr.records.result import Result
from modelmgr.runtime.scenario_run.run import run_scenario
from modelmgr.runtime.scenario_run.scaling import scale_memory
from modelmgr.simulation.simulate import simulate
from modelmgr.units import GIB, MIB, NS_PER_S
from modelmgr.workload.model_spec import ModelSpec
from modelmgr.workload.scenario import Arrivals, Fault, ManagerOptions
from support.real_runs import on, small_model, small_run
from support.small_scenarios import MS, constant, make_model

pytestmark = pytest.mark.usefixtures("nothing_left")

MACHINE = MachineInfo(
    os="Linux",
    cpu=None,
    python="3",
    packages={},
    device=DeviceInfo(kind="host", name="gpu0", total_bytes=None),
)


def assert_adds_up(result: Result) -> None:
    requests = result.requests
    ended = requests.completed + requests.timed_out + requests.refused
    assert requests.total == ended + requests.failed + requests.cancelled
    assert requests.total == sum(use.requests for use in result.models.values())
    assert result.loads == sum(use.loads for use in result.models.values())
    assert result.hits == sum(use.hits for use in result.models.values())
    assert result.evictions == sum(use.evictions for use in result.models.values())
    assert result.latency_ns is None or result.latency_ns.count == requests.completed


def test_a_run_serves_everybody_within_the_devices_limit_and_leaves_nothing() -> None:
    outcome = run_scenario(small_run(), machine=MACHINE)
    result = outcome.result

    assert_adds_up(result)
    assert result.mode == "run"
    assert not result.partial
    assert result.requests.completed == result.requests.total > 10
    assert result.loads >= 3
    assert result.evictions >= 1
    use = result.devices["gpu0"]
    assert 80 * MIB < use.peak_bytes <= use.limit_bytes
    assert 0 < use.mean_bytes < use.peak_bytes
    assert len(outcome.evictions) == result.evictions
    assert all(0 <= each.at_ns <= result.duration_ns for each in outcome.evictions)
    assert outcome.lag_ns is not None
    assert outcome.lag_ns.count == result.requests.total


def test_a_run_draws_the_numbers_that_the_simulation_draws() -> None:
    scenario = small_run()
    real, simulated = run_scenario(scenario).result, simulate(scenario).result
    assert real.requests.total == simulated.requests.total
    assert {tag: use.requests for tag, use in real.models.items()} == {
        tag: use.requests for tag, use in simulated.models.items()
    }
    # Loads take what was drawn or, on a busy machine, longer: never less.
    assert real.reload_cost_ns >= real.loads * 60 * MS


def test_waits_count_from_the_scheduled_time_whatever_became_of_those_before() -> None:
    # One copy, jobs of 200 ms, twenty requests within a second: each waits for those before it.
    model = make_model("m", resident=40 * MIB, load=constant(50 * MS), service=constant(200 * MS))
    scenario = small_run(
        models=[model], seconds=1, arrivals=Arrivals(pattern="constant", rate_per_s=10)
    )
    result = run_scenario(scenario).result
    assert result.requests.completed == 10
    assert result.latency_ns is not None
    # The last of ten came at 0.9 s and could not be served before 2 s had been worked off.
    assert result.latency_ns.max >= 1_100 * MS


def test_what_was_learned_goes_into_a_cost_database() -> None:
    models = [small_model("known"), small_model("new", known=False)]
    outcome = run_scenario(small_run(models=models, memory_mib=200), machine=MACHINE)
    assert outcome.learned is not None
    learned = outcome.learned.models["new"]
    assert learned.initial_estimate_bytes is not None
    # 48 MiB when it runs, process included; the estimate has a margin.
    assert 40 * MIB <= learned.initial_estimate_bytes <= 64 * MIB
    assert outcome.result.learned["new"].source == "isolation"


def test_a_model_with_a_loader_is_loaded_for_real_and_takes_its_own_time() -> None:
    spec = ModelSpec(
        tag="real",
        loader="synthetic",
        options={"resident_bytes": 30 * MIB, "service_ns": 30 * MS},
    )
    stand_in = small_model("real")
    real = replace(stand_in, spec=spec, cost=None)
    scenario = small_run(models=[real], seconds=1, rate_per_s=5, memory_mib=200)
    result = run_scenario(scenario).result
    assert result.requests.completed == result.requests.total > 0
    assert result.latency_ns is not None
    assert result.latency_ns.min >= 30 * MS


def test_users_of_a_closed_loop_ask_again_when_they_were_served() -> None:
    model = make_model("m", resident=40 * MIB, load=constant(50 * MS), service=constant(50 * MS))
    closed = Arrivals(pattern="closed", concurrency=2, think=constant(10 * MS))
    scenario = small_run(
        models=[model], seconds=1, arrivals=closed, manager=ManagerOptions(max_copies=2)
    )
    result = run_scenario(scenario).result
    assert_adds_up(result)
    assert 4 <= result.requests.completed <= 40


def test_the_traffic_ends_after_so_many_requests_or_so_long() -> None:
    few = run_scenario(small_run(), max_requests=5).result
    assert few.requests.total == few.requests.completed == 5
    short = run_scenario(small_run(seconds=60), duration_ns=NS_PER_S // 2).result
    assert 0 < short.requests.completed == short.requests.total < 60
    with pytest.raises(UsageError):
        run_scenario(small_run(), max_requests=0)
    with pytest.raises(UsageError):
        run_scenario(small_run(), duration_ns=-1)


def test_a_stopped_run_says_so_and_leaves_no_process() -> None:
    slow = make_model(
        "m", resident=40 * MIB, load=constant(50 * MS), service=constant(60 * NS_PER_S)
    )
    loading = make_model("n", resident=40 * MIB, load=constant(60 * NS_PER_S))
    scenario = small_run(models=[slow, loading], seconds=3600, rate_per_s=20, memory_mib=200)
    came: list[int] = []

    def enough() -> bool:
        return bool(came) and came[-1] >= 10

    before = time.monotonic()
    outcome = run_scenario(
        scenario, progress=lambda _, requests, __: came.append(requests), stop=enough
    )
    result = outcome.result
    assert time.monotonic() - before < 50, "a job of a minute was waited for"
    assert result.partial
    assert_adds_up(result)
    assert result.requests.cancelled >= 2
    assert result.failed_loads == 0


def test_what_the_machine_cannot_hold_is_refused_before_anything_starts() -> None:
    scenario = small_run(memory_mib=1 << 24, manager=ManagerOptions())
    with pytest.raises(DoesNotFitError, match="memory-scale") as caught:
        run_scenario(scenario)
    assert caught.value.needed_bytes is not None
    # ... unless its models could never fill it.
    two = small_run("ab", seconds=0.2, memory_mib=1 << 24)
    assert run_scenario(two).result.requests.failed == 0


def test_a_stand_in_below_its_own_process_is_refused() -> None:
    tiny = make_model("tiny", resident=2 * MIB)
    with pytest.raises(UsageError, match="'tiny' is stated to take"):
        run_scenario(small_run(models=[tiny]))


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="kind: cuda"):
        run_scenario(
            on(
                small_run(
                    models=[replace(small_model("m"), spec=ModelSpec(tag="m", loader="synthetic"))]
                ),
                "cuda",
            )
        )


def test_a_scaled_scenario_is_decided_alike() -> None:
    scenario = small_run(
        models=[make_model(tag, resident=3 * GIB, peak=4 * GIB) for tag in "abc"],
        memory_mib=9 * 1024,
    )
    scaled = scale_memory(scenario, Fraction(1, 64))
    assert scaled.devices[0].total_bytes == 144 * MIB
    before, after = simulate(scenario).result, simulate(scaled).result
    assert (before.hits, before.loads, before.evictions) == (
        after.hits,
        after.loads,
        after.evictions,
    )
    assert before.wait_ns == after.wait_ns
    loaded = replace(scenario.models[0], spec=ModelSpec(tag="a", loader="synthetic"))
    for unscalable in (
        replace(scenario, models=(loaded,)),
        on(scenario, "cuda"),
    ):
        with pytest.raises(UsageError, match="cannot be scaled"):
            scale_memory(unscalable, Fraction(1, 2))
    with pytest.raises(UsageError):
        scale_memory(scenario, Fraction(0))


def test_faults_of_memory_are_scaled_with_the_rest() -> None:
    fault = Fault(kind="foreign-memory", at_ns=0, size_bytes=GIB)
    scaled = scale_memory(small_run(faults=[fault]), Fraction(1, 4))
    assert scaled.faults[0].size_bytes == GIB // 4
