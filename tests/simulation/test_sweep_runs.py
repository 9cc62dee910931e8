"""A sweep's rows: the same on one process, on many and in this one; one that fails stays alone."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jsonschema
import pytest

from modelmgr.errors import InputError, UsageError
from modelmgr.integrations.ray_sweep import RayRunner
from modelmgr.records.schema import json_schema
from modelmgr.records.sweep import Sweep, decode_sweep, encode_sweep
from modelmgr.reporting.sweep_export import export_sweep_csv
from modelmgr.runtime.sweep_processes import ProcessRunner
from modelmgr.simulation.simulate import simulate
from modelmgr.simulation.slo import read_goal
from modelmgr.simulation.sweep import SweepPlan, SweepTask, plan_sweep, run_row, sweep, with_options
from modelmgr.workload.scenario_reader import parse_scenario
from modelmgr.workload.swept_keys import ImpossibleValueError, ScenarioTemplate, read_swept_key
from support.sweep_work import SCENARIO, die_on_the_second, raise_on_the_second

MEMORY = "devices.gpu0.memory=1GiB,2GiB,4GiB,8GiB"
POLICY = "manager.policy=lru,queue-value"


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., SweepPlan]:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, "utf-8")

    def plan(*texts: str, **options: Any) -> SweepPlan:
        keys = [read_swept_key(text) for text in texts]
        return plan_sweep(ScenarioTemplate.read(path), keys, **options)

    return plan


def test_the_same_sweep_gives_the_same_json_whoever_runs_it(
    plan_of: Callable[..., SweepPlan],
) -> None:
    plan = plan_of(MEMORY, POLICY, bound=True)
    goals = [read_goal("wait_p95<3s")]
    here = encode_sweep(sweep(plan, goals=goals))
    assert encode_sweep(sweep(plan, ProcessRunner(1), goals=goals)) == here
    assert encode_sweep(sweep(plan, ProcessRunner(3), goals=goals)) == here


def test_a_row_is_what_a_simulation_of_its_scenario_is(plan_of: Callable[..., SweepPlan]) -> None:
    found = sweep(plan_of(MEMORY, POLICY))
    row = found.rows[5]
    assert row.values == {"devices.gpu0.memory": "4GiB", "manager.policy": "queue-value"}
    alone = simulate(parse_scenario(SCENARIO)).result
    assert row.figures is not None
    assert row.figures.decisions_sha256 == alone.decisions_sha256
    assert row.figures.reload_cost_ns == alone.reload_cost_ns
    assert row.memory_bytes == 4 * 2**30


def test_a_device_too_small_for_every_model_is_a_failed_row(
    plan_of: Callable[..., SweepPlan],
) -> None:
    found = sweep(plan_of(MEMORY, POLICY))
    assert [row.number for row in found.rows] == list(range(8))
    assert [row.number for row in found.rows if row.error is not None] == [0, 1]
    assert "too small" in (found.rows[0].error or SimpleNamespace(message="")).message
    assert not found.partial
    assert [curve.rows for curve in found.curves] == [(2, 4, 6), (3, 5, 7)]


def test_where_no_row_makes_sense_the_sweep_is_refused(plan_of: Callable[..., SweepPlan]) -> None:
    with pytest.raises(UsageError, match="too small"):
        plan_of("devices.gpu0.memory=1GiB,1200MiB")
    with pytest.raises(ImpossibleValueError, match="lrru"):
        plan_of("manager.policy=lru,lrru")
    with pytest.raises(UsageError, match="swept twice"):
        plan_of("seed=1", "seed=2")
    with pytest.raises(UsageError, match="same key"):
        plan_of("devices.gpu0.memory=4GiB", "devices.0.memory=8GiB")
    with pytest.raises(UsageError, match="combinations"):
        plan_of("seed=1..10000:1", "manager.max_bypass=1..20:1")


def test_a_worker_that_is_killed_is_one_failed_row(plan_of: Callable[..., SweepPlan]) -> None:
    plan = plan_of("seed=1..4:1")
    found = sweep(plan, ProcessRunner(2, work=die_on_the_second))
    assert [row.number for row in found.rows] == [0, 1, 2, 3]
    assert [row.error.kind for row in found.rows if row.error is not None] == ["WorkerDiedError"]
    assert found.rows[1].error is not None


def test_an_error_that_nobody_foresaw_is_one_failed_row(plan_of: Callable[..., SweepPlan]) -> None:
    found = sweep(plan_of("seed=1..3:1"), ProcessRunner(1, work=raise_on_the_second))
    errors = [row.error for row in found.rows]
    assert errors[0] is errors[2] is None
    assert errors[1] is not None
    assert (errors[1].kind, errors[1].message) == ("ZeroDivisionError", "a bug")


def test_a_sweep_that_is_stopped_keeps_what_is_done(plan_of: Callable[..., SweepPlan]) -> None:
    done: list[int] = []
    for runner in (ProcessRunner(1), None):
        done.clear()
        options: dict[str, Any] = {} if runner is None else {"runner": runner}
        found = sweep(
            plan_of("seed=1..50:1"),
            stop=lambda: bool(done) and done[-1] >= 2,
            progress=lambda count, _planned: done.append(count),
            **options,
        )
        assert found.partial
        assert 2 <= len(found.rows) < 50
        assert found.planned == 50


def test_a_row_that_is_stopped_half_way_is_no_row(plan_of: Callable[..., SweepPlan]) -> None:
    (task,) = plan_of("workload.0.duration=20 h").tasks
    assert run_row(task, stop=lambda: True) is None


def test_seed_and_policy_of_the_command_line_go_into_every_row(
    plan_of: Callable[..., SweepPlan],
) -> None:
    plan = plan_of("manager.max_bypass=0,8", change=with_options(seed=9, policy="lru"))
    assert {task.scenario.seed for task in plan.tasks} == {9}
    assert {task.scenario.manager.policy for task in plan.tasks} == {"lru"}


def test_a_sweep_is_read_back_as_it_was_written(
    plan_of: Callable[..., SweepPlan], tmp_path: Path
) -> None:
    found = sweep(plan_of(MEMORY, bound=True), goals=[read_goal("wait_p95<1ms")])
    found.save(tmp_path / "sweep.json")
    assert Sweep.load(tmp_path / "sweep.json") == found

    jsonschema.validate(json.loads(encode_sweep(found)), json_schema("sweep"))
    with pytest.raises(InputError, match="newer modelmgr"):
        decode_sweep(encode_sweep(found).replace(b'"schema_version": 1', b'"schema_version": 2'))
    with pytest.raises(InputError, match=r"modelmgr\.sweep"):
        decode_sweep(b'{"kind": "modelmgr.result", "schema_version": 1}')


def test_the_csv_has_a_line_a_row_and_says_what_failed(plan_of: Callable[..., SweepPlan]) -> None:
    text = export_sweep_csv(sweep(plan_of(MEMORY)))
    lines = list(csv.reader(io.StringIO(text)))
    assert len(lines) == 5
    assert lines[0][:4] == ["row", "devices.gpu0.memory", "memory_bytes", "requests"]
    assert "too small" in lines[1][-1]
    assert lines[3][:3] == ["2", "4GiB", str(4 * 2**30)]


class OneNodeRay(ModuleType):
    """Ray's public calls that the runner uses, in this process: what is remote runs when asked."""

    def __init__(self, *, lost: int) -> None:
        super().__init__("ray")
        self.lost = lost
        self.calls: list[str] = []
        self.exceptions = SimpleNamespace(RayError=ArithmeticError)

    def init(self, *, address: str, log_to_driver: bool, logging_level: str) -> None:
        self.calls.append("init")
        assert not log_to_driver
        assert logging_level
        if address != "local":
            raise ConnectionError("no cluster\nand more")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, *, max_retries: int) -> Callable[[Callable[..., Any]], Any]:
        assert max_retries == 0

        def decorate(work: Callable[..., Any]) -> Any:
            def ask(task: SweepTask) -> _Reference:
                return _Reference(work, task)

            return SimpleNamespace(remote=ask)

        return decorate

    def wait(self, references: list[Any], *, num_returns: int, timeout: float) -> Any:
        assert timeout
        return references[-num_returns:], references[:-num_returns]

    def get(self, reference: _Reference) -> Any:
        if reference.task.number == self.lost:
            raise ArithmeticError("the node died")
        return reference.work(reference.task)

    def cancel(self, _reference: _Reference, *, force: bool) -> None:
        assert force
        self.calls.append("cancel")


class _Reference:
    def __init__(self, work: Callable[..., Any], task: SweepTask) -> None:
        self.work = work
        self.task = task


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> OneNodeRay:
    module = OneNodeRay(lost=2)
    monkeypatch.setitem(sys.modules, "ray", module)
    return module


def test_on_ray_the_rows_are_the_same_and_a_lost_one_is_one_failed_row(
    plan_of: Callable[..., SweepPlan], ray: OneNodeRay
) -> None:
    plan = plan_of("seed=1..6:1")
    found = sweep(plan, RayRunner("local"))
    here = sweep(plan)
    assert [row.number for row in found.rows] == list(range(6))
    lost = found.rows[2].error
    assert lost is not None
    assert lost.message == "the node died"
    assert [row for row in found.rows if row.number != 2] == [
        row for row in here.rows if row.number != 2
    ]
    assert ray.calls == ["init", "shutdown"]


def test_on_ray_a_sweep_that_is_stopped_takes_back_what_is_under_way(
    plan_of: Callable[..., SweepPlan], ray: OneNodeRay
) -> None:
    done: list[int] = []
    found = sweep(
        plan_of("seed=1..20:1"),
        RayRunner("local"),
        stop=lambda: bool(done) and done[-1] >= 2,
        progress=lambda count, _planned: done.append(count),
    )
    assert found.partial
    assert ray.calls[-1] == "shutdown"
    assert "cancel" in ray.calls


def test_a_cluster_that_is_not_there_is_one_clear_line(
    plan_of: Callable[..., SweepPlan], ray: OneNodeRay
) -> None:
    with pytest.raises(UsageError, match="no cluster") as refusal:
        sweep(plan_of("seed=1,2"), RayRunner("10.0.0.1:6379"))
    assert "\n" not in str(refusal.value)
    assert ray.calls == ["init"]


def test_without_ray_the_runner_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'modelmgr\[ray\]'"):
        RayRunner("auto")
