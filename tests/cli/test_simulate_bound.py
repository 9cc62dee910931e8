"""``modelmgr simulate --bound``: the least possible cost, beside the run's own and provable."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from modelmgr.records.certificate import Certificate
from modelmgr.records.result import Result
from modelmgr.simulation.bound import reload_bound
from modelmgr.simulation.certificate import make_certificate, schedule_of
from modelmgr.simulation.schedule import ServedJob, ServedSchedule
from support.command_line import Program

SCENARIO = """
schema_version: 1
name: small
seed: 7
devices:
  - {name: gpu0, memory: 4 GiB, slack: 10%}
manager: {policy: lru, max_copies: 1}
models:
  - {tag: bert, cost: {resident: 1.2 GiB, peak: 1.6 GiB, load: LOAD, service: 35 ms}}
  - {tag: gpt2, cost: {resident: 1.5 GiB, peak: 2 GiB, load: LOAD, service: 20 ms}}
  - {tag: t5, cost: {resident: 1 GiB, peak: 1.1 GiB, load: LOAD, service: 20 ms}}
workload:
  - {mix: {bert: 3, gpt2: 1, t5: 1}, arrivals: {pattern: poisson, rate: 2/s}, duration: 60 s}
"""

WRONGLY_BELIEVED = """
schema_version: 1
name: surprised
devices:
  - {name: gpu0, memory: 4 GiB, slack: 20%}
models:
  - &one
    tag: one
    cost: {resident: 1 GiB, peak: 1.8 GiB, load: 1 s, service: 5 s}
    believed: {resident: 1 GiB, peak: 1 GiB}
  - {<<: *one, tag: two}
workload:
  - {mix: {one: 1, two: 1}, arrivals: {pattern: constant, rate: 1/s}, duration: 10 s}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SCENARIO.replace("LOAD", "2 s"), "utf-8")
    return "small.yaml"


def test_the_bound_is_in_the_table_and_in_the_result(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    finished = modelmgr("simulate", scenario, "--bound", "--out", "r.json")
    assert finished.returncode == 0, finished.stderr
    assert "least possible" in finished.stdout

    result = Result.load(tmp_path / "r.json")
    assert result.bound is not None
    assert result.bound.method == "exact"
    assert result.bound.ratio is not None
    assert result.bound.ratio >= 1
    assert result.bound.certificate is None
    # Loads always take 2 s here, so the run's own figure is what is held to the bound.
    assert result.bound.ratio == pytest.approx(result.reload_cost_ns / result.bound.reload_cost_ns)


def test_the_bound_changes_no_decision(modelmgr: Program, scenario: str) -> None:
    with_bound = json.loads(modelmgr("simulate", scenario, "--json", "--bound").stdout)
    without = json.loads(modelmgr("simulate", scenario, "--json").stdout)
    assert with_bound["decisions_sha256"] == without["decisions_sha256"]
    assert without["bound"] is None


def test_certify_accepts_the_certificate_for_this_result_and_no_other(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    finished = modelmgr(
        *("simulate", scenario, "--bound", "--certificate", "c.json", "--out", "r.json")
    )
    assert finished.returncode == 0, finished.stderr
    result = Result.load(tmp_path / "r.json")
    certificate = Certificate.load(tmp_path / "c.json")
    assert result.bound is not None
    assert result.bound.certificate == "c.json"
    assert certificate.decisions_sha256 == result.decisions_sha256
    assert modelmgr("certify", "c.json", "--result", "r.json").returncode == 0

    other = modelmgr("simulate", scenario, "--seed", "8", "--bound", "--out", "other.json")
    assert other.returncode == 0
    assert modelmgr("certify", "c.json", "--result", "other.json").returncode == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("fewer", "'bert': the result gave a copy to "),
        ("smaller", "the device 'gpu0': the result's limit is 3865470566 bytes, the certificate's"),
        ("later", "the certificate's last job ends at "),
    ],
)
def test_a_sound_certificate_of_other_jobs_is_not_the_results_whatever_hash_it_names(
    modelmgr: Program, scenario: str, tmp_path: Path, change: str, said: str
) -> None:
    simulated = ("simulate", scenario, "--bound", "--certificate", "c.json", "--out", "r.json")
    assert modelmgr(*simulated).returncode == 0
    certificate, result = Certificate.load(tmp_path / "c.json"), Result.load(tmp_path / "r.json")
    made = schedule_of(certificate.devices[0])
    jobs = list(made.jobs())
    if change == "fewer":
        jobs = jobs[:-30]
    if change == "later":
        jobs = [ServedJob(job.tag, job.start_ns * 2, job.end_ns * 2) for job in jobs]
    schedule = ServedSchedule(
        device=made.device,
        capacity_bytes=made.capacity_bytes - (change == "smaller"),
        models=dict(zip(made.tags, made.figures, strict=True)),
        jobs=jobs,
    )
    forged = make_certificate(
        [schedule],
        [reload_bound(schedule)],
        tool=certificate.tool,
        scenario=certificate.scenario,
        decisions_sha256=certificate.decisions_sha256,
    )
    forged.save(tmp_path / "c.json")
    assert result.bound is not None
    bound = msgspec.structs.replace(result.bound, reload_cost_ns=forged.solver.reload_cost_ns)
    msgspec.structs.replace(result, bound=bound).save(tmp_path / "r.json")

    assert modelmgr("certify", "c.json").returncode == 0
    finished = modelmgr("certify", "c.json", "--result", "r.json", "--json")
    assert finished.returncode == 1
    assert any(said in reason for reason in json.loads(finished.stdout)["refusals"])


def test_loads_drawn_short_by_luck_do_not_fall_below_the_bound(
    modelmgr: Program, tmp_path: Path
) -> None:
    # A load's time varies tenfold: the sum of a few drawn ones may be far below their mean.
    drawn = "{distribution: gamma, mean: 2 s, cv: 10}"
    (tmp_path / "drawn.yaml").write_text(SCENARIO.replace("LOAD", drawn), "utf-8")
    for seed in range(6):
        finished = modelmgr("simulate", "drawn.yaml", "--bound", "--json", "--seed", str(seed))
        assert json.loads(finished.stdout)["bound"]["ratio"] >= 1


def test_where_running_jobs_alone_are_too_large_there_is_no_bound_and_the_reason_is_said(
    modelmgr: Program, tmp_path: Path
) -> None:
    (tmp_path / "surprised.yaml").write_text(WRONGLY_BELIEVED, "utf-8")
    finished = modelmgr(
        *("simulate", "surprised.yaml", "--bound", "--json"), *("--certificate", "c.json")
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["bound"] is None
    assert "no bound: " in finished.stderr
    assert "gpu0" in finished.stderr
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--certificate", "c.json"), "add --bound"),
        (("--bound-time", "5 s"), "--bound-time: there is no bound"),
        (("--bound-time", "5 s", "--sweep", "seed=1,2"), "add --bound"),
        (("--bound", "--bound-time", "0 s"), "--bound-time"),
        (("--bound", "--bound-time", "soon"), "--bound-time"),
        (("--bound", "--certificate", "small.yaml"), "is the scenario too"),
        (("--bound", "--certificate", "no/such/c.json"), "does not exist"),
        (("--bound", "--certificate", "r", "--out", "r"), "is --out too"),
    ],
)
def test_bad_usage_of_the_bound_gets_one_message(
    modelmgr: Program, scenario: str, arguments: tuple[str, ...], message: str
) -> None:
    assert message in modelmgr.refused("simulate", scenario, *arguments)
