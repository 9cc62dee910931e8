"""``modelmgr run``: a scenario for real, the result on stdout, files that say the same."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import psutil
import pytest

from modelmgr.records.costs import CostDatabase
from modelmgr.records.result import Result
from support.command_line import Program

SCENARIO = """
schema_version: 1
name: small
seed: 7
devices:
  - {name: gpu0, memory: 112 MiB, slack: 10%}
manager: {policy: queue-value, max_copies: 1}
models:
  - {tag: bert, cost: {resident: 40 MiB, peak: 48 MiB, load: 60 ms, service: 20 ms}}
  - {tag: gpt2, cost: {resident: 40 MiB, peak: 48 MiB, load: 60 ms, service: 20 ms}}
  - {tag: t5, cost: {resident: 40 MiB, peak: 48 MiB, load: 60 ms, service: 20 ms}}
workload:
  - {mix: {bert: 3, gpt2: 1, t5: 1}, arrivals: {pattern: poisson, rate: 20/s}, duration: DURATION}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SCENARIO.replace("DURATION", "1500 ms"), "utf-8")
    return "small.yaml"


def test_a_run_shows_its_table_and_writes_result_log_and_costs(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    command = (
        *("run", scenario, "--out", "r.json", "--log", "d.jsonl"),
        *("--costs-out", "costs.json", "--export", "csv=r.csv"),
    )
    assert modelmgr(*command).returncode == 0
    finished = modelmgr(*command)  # it adds to what the first one learned
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("small: policy queue-value")
    assert "written to costs.json" in finished.stderr
    result = Result.load(tmp_path / "r.json")
    assert result.mode == "run"
    assert result.machine is not None
    content = (tmp_path / "d.jsonl").read_bytes()
    assert result.decisions_sha256 == "sha256:" + hashlib.sha256(content).hexdigest()
    costs = CostDatabase.load(tmp_path / "costs.json")
    assert [made.scenario for made in costs.runs] == ["small", "small"]
    assert len(costs.evictions) >= result.evictions > 0
    assert (tmp_path / "r.csv").read_text("utf-8").startswith("scenario,mode")


def test_a_stand_in_that_takes_longer_than_stated_is_told_of(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    # No machine touches 48 MiB, or ends a process, in a microsecond. All of it was silent once.
    path = tmp_path / scenario
    text = path.read_text("utf-8").replace("{resident: 40 MiB, peak: 48 MiB,", "{SIZES,", 1)
    text = text.replace("service: 20 ms", "service: 1 us", 1).replace("bert: 3", "bert: 9")
    text = text.replace("SIZES", "resident: 40 MiB, peak: 88 MiB")
    path.write_text(text, "utf-8")
    finished = modelmgr("run", scenario, "--out", "r.json")
    assert finished.returncode == 0, finished.stderr
    told = [line for line in finished.stderr.splitlines() if "the stand-in of 'bert'" in line]
    assert len(told) == 1, finished.stderr
    assert "took longer than the scenario states" in finished.stderr
    assert "instead of 0.0 ms (mean of" in finished.stderr
    assert "--memory-scale" in finished.stderr
    service = Result.load(tmp_path / "r.json").models["bert"].stated_times["service"]
    assert service.taken_ns > service.stated_ns == 1_000


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("nowhere.yaml",), 2, "nowhere.yaml"),
        (("small.yaml", "--policy", "lrru"), 2, "did you mean 'lru'"),
        (("small.yaml", "--max-requests", "0"), 2, "--max-requests"),
        (("small.yaml", "--duration", "0 s"), 2, "no time at all"),
        (("small.yaml", "--memory-scale", "half"), 2, "'half' is no share"),
        (("small.yaml", "--memory-scale", "1/64"), 2, "the process of its stand-in alone"),
        (("small.yaml", "--memory-scale", "1000000"), 3, "nothing was started"),
        (("small.yaml", "--out", "r", "--costs-out", "r"), 2, "is --out too"),
        (("small.yaml", "--against", "small.yaml"), 2, "small.yaml"),
    ],
)
def test_bad_usage_gets_one_message(
    modelmgr: Program, scenario: str, arguments: tuple[str, ...], status: int, message: str
) -> None:
    assert scenario == "small.yaml"
    assert message in modelmgr.refused("run", *arguments, status=status)


def test_ctrl_c_keeps_what_there_is_and_leaves_no_process(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    path = tmp_path / scenario
    path.write_text(path.read_text("utf-8").replace("1500 ms", "1 h"), "utf-8")
    with modelmgr.start("run", scenario, "--out", "r.json", "--log", "d.jsonl") as process:
        us = psutil.Process(process.pid)
        workers: list[psutil.Process] = []
        while len(workers) < 3:  # the forkserver and two models
            assert process.poll() is None
            workers = us.children(recursive=True)
        process.send_signal(signal.SIGINT)
        table, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in table.splitlines()[0]
    assert "counts as cancelled" in told
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    result = Result.load(tmp_path / "r.json")
    assert result.partial


def test_a_killed_run_leaves_the_decisions_until_then_and_no_process(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    path, log = tmp_path / scenario, tmp_path / "d.jsonl"
    path.write_text(path.read_text("utf-8").replace("1500 ms", "1 h"), "utf-8")
    with modelmgr.start("run", scenario, "--log", "d.jsonl", "--out", "r.json") as process:
        while not (log.exists() and log.stat().st_size):  # long before its 512 lines are full
            assert process.poll() is None
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    lines = log.read_text("utf-8").splitlines()
    assert {json.loads(line)["action"] for line in lines} >= {"start_load"}
    assert not (tmp_path / "r.json").exists()
