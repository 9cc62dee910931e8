"""A disk that fills up costs the file that it has no room for, and not the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.records.costs import CostDatabase
from modelmgr.records.result import Result
from support.command_line import Program

SCENARIO = """
schema_version: 1
name: small
devices: [{name: gpu0, memory: 112 MiB}]
manager: {policy: lru, max_copies: 1}
models:
  - {tag: bert, cost: {resident: 40 MiB, peak: 48 MiB, load: 60 ms, service: 20 ms}}
  - {tag: gpt2, cost: {resident: 40 MiB, peak: 48 MiB, load: 60 ms, service: 20 ms}}
workload:
  - {mix: {bert: 3, gpt2: 1}, arrivals: {pattern: poisson, rate: 20/s}, duration: 500 ms}
"""
FULL = "/dev/full"


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SCENARIO, "utf-8")
    return "small.yaml"


@pytest.mark.parametrize("command", ["simulate", "run"])
def test_a_log_that_cannot_be_written_ends_no_run(
    modelmgr: Program, scenario: str, tmp_path: Path, command: str
) -> None:
    finished = modelmgr(command, scenario, "--log", FULL, "--out", "r.json")

    assert finished.returncode == 2
    assert finished.stdout.startswith("small: policy lru")
    assert f"the log {FULL} ends too early: No space left on device" in finished.stderr
    result = Result.load(tmp_path / "r.json")
    assert result.requests.completed == result.requests.total > 0
    assert result.evictions_trace != FULL


def test_a_result_that_cannot_be_written_is_still_shown_and_the_other_files_are_written(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    finished = modelmgr(
        *("run", scenario, "--out", FULL, "--costs-out", "c.json", "--export", "csv=r.csv")
    )

    assert finished.returncode == 2
    assert finished.stdout.startswith("small: policy lru")
    assert f"cannot write {FULL}" in finished.stderr
    assert len(CostDatabase.load(tmp_path / "c.json").runs) == 1
    assert (tmp_path / "r.csv").read_text("utf-8").startswith("scenario,mode")


def test_a_sweep_that_cannot_be_written_is_still_shown(modelmgr: Program, scenario: str) -> None:
    finished = modelmgr(
        *("simulate", scenario, "--sweep", "manager.policy=lru,gdsf"),
        *("--jobs", "1", "--out", FULL, "--export", "csv=sweep.csv"),
    )

    assert finished.returncode == 2
    assert "gdsf" in finished.stdout
    assert f"cannot write {FULL}" in finished.stderr
    assert (modelmgr.folder / "sweep.csv").read_text("utf-8").count("\n") == 3


def test_a_log_where_there_can_be_none_is_refused_by_name(modelmgr: Program, scenario: str) -> None:
    assert "--log: cannot write /proc/x" in modelmgr.refused(
        "simulate", scenario, "--log", "/proc/x"
    )
