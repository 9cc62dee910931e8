"""What each kind of fault does to a run, and what a run says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelmgr.records.result import Result
from modelmgr.simulation.simulate import simulate
from modelmgr.units import GIB, MIB, NS_PER_S
from modelmgr.workload.scenario import Fault, ManagerOptions, ScenarioModel
from support.small_scenarios import MS, constant, make_model, make_scenario


def run(
    *faults: Fault,
    models: list[ScenarioModel] | None = None,
    rate_per_s: float = 5,
    memory: int = 4 * GIB,
    manager: ManagerOptions | None = None,
    seconds: float = 30,
) -> tuple[Result, list[dict[str, Any]]]:
    """Run a small scenario with faults, every promise checked; return the decisions too."""
    written: list[bytes] = []
    scenario = make_scenario(
        models or [make_model("a", service=constant(100 * MS)), make_model("b")],
        rate_per_s=rate_per_s,
        seconds=seconds,
        memory=memory,
        faults=faults,
        manager=manager or ManagerOptions(max_copies=1),
    )
    result = simulate(scenario, log=written.append, check=True).result
    return result, [json.loads(line) for line in b"".join(written).splitlines()]


def test_without_faults_nothing_fails() -> None:
    result, _ = run()
    assert result.requests.completed == result.requests.total
    assert (result.loads, result.failed_loads, result.oom_events) == (2, 0, 0)


def test_a_killed_worker_is_loaded_again() -> None:
    result, _ = run(Fault(kind="worker-killed", at_ns=10 * NS_PER_S, model="a"))
    assert result.models["a"].loads == 2
    assert result.models["b"].loads == 1
    assert result.requests.failed <= 1


def test_a_copy_that_died_idle_is_found_when_it_is_granted_and_its_request_is_served() -> None:
    models = [make_model("a", service=constant(MS))]
    result, _ = run(Fault(kind="worker-killed", at_ns=10 * NS_PER_S), models=models, rate_per_s=1)
    assert result.models["a"].loads == 2
    assert result.requests.completed == result.requests.total


def test_a_lost_holder_fails_its_request_and_its_copy_is_unloaded() -> None:
    models = [make_model("a", service=constant(NS_PER_S))]
    result, log = run(Fault(kind="holder-lost", at_ns=10 * NS_PER_S), models=models, rate_per_s=0.9)
    assert result.requests.failed == 1
    assert [d["reason"] for d in log if d["action"] == "start_unload"] == ["holder-lost"]


def test_a_failed_load_is_told_and_the_next_request_loads_again() -> None:
    result, log = run(Fault(kind="load-failed", at_ns=0, model="a"))
    assert result.failed_loads == 1
    assert result.models["a"].loads == 1
    assert result.requests.failed == 1
    assert [d["refusal"] for d in log if d["action"] == "reject"] == ["load-failed"]


def test_loads_that_fail_for_a_while_fail_all_of_them_and_none_afterwards() -> None:
    lasting = Fault(kind="load-failed", at_ns=500 * MS, duration_ns=10 * NS_PER_S, model="a")
    result, log = run(lasting)  # the first loads take 1 s: some are under way
    failed_at = [d["at_ns"] for d in log if d["action"] == "reject"]
    assert result.failed_loads > 2
    assert 500 * MS <= min(failed_at) < 1500 * MS
    assert max(failed_at) < 500 * MS + 11 * NS_PER_S
    assert result.requests.failed == len(failed_at)
    assert result.models["a"].loads == result.models["b"].loads == 1


def test_a_load_that_hangs_takes_that_much_longer() -> None:
    clean, _ = run()
    result, _ = run(Fault(kind="load-hangs", at_ns=0, model="a", duration_ns=7 * NS_PER_S))
    assert result.reload_cost_ns == clean.reload_cost_ns + 7 * NS_PER_S


def test_memory_that_comes_back_late_keeps_others_out_until_it_is_seen() -> None:
    models = [make_model(tag, resident=3 * GIB) for tag in ("a", "b")]
    clean, _ = run(models=models)
    late = Fault(kind="late-free", rate_per_s=5.0, duration_ns=2 * NS_PER_S)
    result, _ = run(late, models=models)
    assert result.wait_ns is not None
    assert clean.wait_ns is not None
    assert result.wait_ns.mean > clean.wait_ns.mean
    assert result.oom_events == 0


def test_failing_readings_keep_loads_out_only_as_long_as_they_must() -> None:
    result, _ = run(Fault(kind="reading-failed", at_ns=0, duration_ns=20 * NS_PER_S))
    assert result.requests.completed == result.requests.total


def test_foreign_memory_is_seen_and_models_are_loaded_only_beside_it() -> None:
    foreign = Fault(
        kind="foreign-memory", at_ns=0, size_bytes=2 * GIB + 512 * MIB, duration_ns=20 * NS_PER_S
    )
    result, log = run(foreign)
    assert result.oom_events == 0
    assert result.devices["gpu0"].peak_bytes <= 4 * GIB
    # Only one of the two fits beside it, so they take turns.
    assert any(d["action"] == "start_unload" for d in log)
    assert result.requests.completed == result.requests.total


def test_wrong_readings_make_admission_stricter() -> None:
    wrong = Fault(
        kind="reading-wrong", at_ns=0, size_bytes=2 * GIB + 512 * MIB, duration_ns=20 * NS_PER_S
    )
    _, log = run(wrong)
    assert any(d["action"] == "start_unload" for d in log)


def test_a_lost_device_fails_what_is_on_it_and_the_other_goes_on() -> None:
    scenario = make_scenario(
        [make_model(tag, service=constant(300 * MS)) for tag in ("a", "b", "c")],
        rate_per_s=6,
        seconds=30,
        memory=[2 * GIB, 2 * GIB],
        faults=[
            Fault(kind="device-lost", at_ns=10 * NS_PER_S, device="gpu0", duration_ns=5 * NS_PER_S)
        ],
    )
    result = simulate(scenario, check=True).result
    assert result.requests.failed > 0
    assert result.requests.completed > 0.7 * result.requests.total
    ended = result.requests
    assert ended.completed + ended.failed + ended.timed_out == ended.total


def test_a_model_that_takes_more_than_is_believed_runs_out_of_memory_and_is_believed_more() -> None:
    models = [
        make_model(tag, resident=GIB, peak=3 * GIB, believed=GIB, service=constant(200 * MS))
        for tag in ("a", "b")
    ]
    result, log = run(models=models)
    assert result.oom_events > 0
    assert any(d.get("reason") == "out-of-memory" for d in log)
    # What is believed rises, so that it does not go on for ever.
    assert result.oom_events < 10
    assert result.requests.completed > 0.9 * result.requests.total


def test_an_injected_out_of_memory_is_tried_once_more() -> None:
    result, _ = run(Fault(kind="out-of-memory", at_ns=10 * NS_PER_S, model="a"))
    assert result.oom_events == 1
    assert result.requests.failed == 0


def test_unknown_models_are_measured_by_their_first_job() -> None:
    models = [make_model("a", peak=2 * GIB, known=False), make_model("b")]
    result, log = run(models=models)
    learned = result.learned["a"]
    assert learned.source == "isolation"
    assert learned.resident_bytes == GIB
    assert learned.peak_bytes == 2 * GIB <= learned.upper_bytes
    assert "b" not in result.learned
    assert [d["isolated"] for d in log if d.get("tag") == "a" and d["action"] == "start_load"] == [
        True
    ]


@pytest.mark.parametrize("timeout_ns", [None, 300 * NS_PER_S])
def test_a_run_ends_though_somebody_waits_for_what_never_comes(timeout_ns: int | None) -> None:
    models = [
        make_model("kept", resident=3 * GIB, pinned=True),
        make_model("late", resident=3 * GIB),
    ]
    result, _ = run(
        Fault(kind="worker-killed", rate_per_s=0.01, model="nobody"),
        models=models,
        manager=ManagerOptions(wait_timeout_ns=timeout_ns, max_copies=1),
    )
    requests = result.requests
    assert requests.completed > 0
    assert (requests.cancelled if timeout_ns is None else requests.timed_out) > 0
    assert requests.completed + requests.cancelled + requests.timed_out == requests.total


def test_stopping_gives_what_was_until_then() -> None:
    scenario = make_scenario([make_model("a", service=constant(MS))], rate_per_s=1000, seconds=60)
    result = simulate(scenario, stop=lambda: True).result
    assert result.partial
    assert 0 < result.requests.total < 30_000
    assert result.requests.completed + result.requests.cancelled == result.requests.total


def test_a_stated_number_of_requests_is_not_exceeded() -> None:
    scenario = make_scenario([make_model("a", service=constant(MS))], rate_per_s=1000, seconds=60)
    assert simulate(scenario, max_requests=123).result.requests.total == 123


def test_the_served_schedule_has_every_job() -> None:
    scenario = make_scenario([make_model("a"), make_model("b")], seconds=20)
    outcome = simulate(scenario, keep_schedule=True)
    assert outcome.schedule is not None
    assert len(outcome.schedule) == outcome.result.requests.completed
    assert {job.device for job in outcome.schedule} == {"gpu0"}
    assert all(job.end_ns - job.start_ns == 10 * MS for job in outcome.schedule)
    assert simulate(scenario).schedule is None
