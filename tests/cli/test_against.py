"""``--against``: how far a simulation is from the real run, in per cent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelmgr.records.fidelity import compare_results
from modelmgr.records.result import DeviceUse, Result
from modelmgr.simulation.simulate import simulate
from support.command_line import Program
from support.small_scenarios import make_model, make_scenario

SCENARIO = """
schema_version: 1
name: small
devices:
  - {name: gpu0, memory: 4 GiB, slack: 0%}
models:
  - {tag: bert, cost: {resident: 2 GiB, peak: 3 GiB, load: 2 s, service: 35 ms}}
  - {tag: gpt2, cost: {resident: 2 GiB, peak: 3 GiB, load: 3 s, service: 20 ms}}
workload:
  - {mix: {bert: 3, gpt2: 1}, arrivals: {pattern: poisson, rate: 5/s}, duration: 60 s}
"""


@pytest.fixture
def result() -> Result:
    scenario = make_scenario([make_model(tag) for tag in "abcde"], rate_per_s=5)
    return simulate(scenario).result


def as_run(result: Result, **changes: Any) -> Result:
    return msgspec.structs.replace(result, mode="run", **changes)


def test_a_result_is_no_distance_from_itself(result: Result) -> None:
    found = compare_results(result, result)
    assert found.differences == ()
    assert {distance.percent for distance in found.distances} <= {0.0, None}
    assert found.of("peak_bytes", "gpu0").percent == 0.0


def test_the_real_run_is_the_reference_on_whichever_side_it_stands(result: Result) -> None:
    real = as_run(result, loads=result.loads * 2)
    for this, against, where in ((result, real, "against"), (real, result, "this")):
        found = compare_results(this, against)
        assert (found.reference, found.reference_mode) == (where, "run")
        assert found.of("loads").percent == pytest.approx(-50.0)


def test_what_has_no_percentage_has_none(result: Result) -> None:
    real = as_run(
        result,
        evictions=0,
        wait_ns=None,
        devices={"gpu1": DeviceUse(limit_bytes=1, peak_bytes=1, mean_bytes=1)},
    )
    found = compare_results(result, real)
    assert found.of("evictions").percent is None
    assert found.of("wait_p95_ns").percent is None
    assert found.of("peak_bytes", "gpu0").reference is None
    assert found.of("peak_bytes", "gpu1").other is None


def test_jobs_that_took_longer_are_seen_as_what_they_are_and_not_only_as_waits(
    result: Result,
) -> None:
    assert result.wait_ns is not None
    assert result.latency_ns is not None
    served_ns = result.latency_ns.mean - result.wait_ns.mean
    slower = msgspec.structs.replace(
        result.latency_ns, mean=result.wait_ns.mean + 4 * served_ns, p95=None
    )
    found = compare_results(result, as_run(result, latency_ns=slower))
    assert found.of("service_mean_ns").percent == pytest.approx(-75.0)
    assert found.of("wait_mean_ns").percent == 0.0
    assert found.of("latency_mean_ns").reference == slower.mean
    assert found.of("latency_p95_ns").percent is None
    # Of others that waited than were served, nobody knows what their jobs took.
    fewer = msgspec.structs.replace(slower, count=slower.count - 1)
    found = compare_results(result, as_run(result, latency_ns=fewer))
    assert found.of("service_mean_ns").reference is None


def test_what_makes_results_hard_to_compare_is_said(result: Result) -> None:
    other = as_run(result, seed=result.seed + 1, policy="lru", partial=True)
    names = [name for name, _, _ in compare_results(result, other).differences]
    assert names == ["seed", "policy", "interrupted"]


def test_the_command_says_how_far_and_which_one_is_the_simulation(
    modelmgr: Program, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO, "utf-8")
    assert modelmgr("simulate", "small.yaml", "--out", "sim.json").returncode == 0
    simulated = Result.load(tmp_path / "sim.json")
    as_run(simulated, loads=simulated.loads * 4).save(tmp_path / "real.json")

    finished = modelmgr("simulate", "small.yaml", "--against", "real.json")
    assert finished.returncode == 0, finished.stderr
    assert "real.json is the real run, this the simulation" in finished.stdout
    assert "-75.0" in finished.stdout
    assert finished.stdout.startswith("small: policy")

    told = modelmgr("simulate", "small.yaml", "--against", "real.json", "--json")
    answer = json.loads(told.stdout)
    assert answer["kind"] == "modelmgr.fidelity"
    assert answer["reference_mode"] == "run"
    assert answer["against"] == "real.json"
    loads = next(each for each in answer["distances"] if each["name"] == "loads")
    assert loads["percent"] == -75.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "no.json"), "no.json"),
        (("--against", "small.yaml"), "small.yaml"),
        (("--against", "real.json", "--out", "real.json"), "is --against too"),
    ],
)
def test_a_bad_other_result_is_refused_before_anything_runs(
    modelmgr: Program, tmp_path: Path, result: Result, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "small.yaml").write_text(SCENARIO, "utf-8")
    result.save(tmp_path / "real.json")
    assert message in modelmgr.refused("simulate", "small.yaml", *arguments)
