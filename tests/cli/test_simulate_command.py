"""``modelmgr simulate``: the result on stdout, the rest on stderr, and files that say the same."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pty
import signal
from pathlib import Path

import pytest

from modelmgr.records.result import Result
from support.command_line import Program

SCENARIO = """
schema_version: 1
name: small
seed: 7
devices:
  - {name: gpu0, memory: 4 GiB, slack: 10%}
manager: {policy: queue-value, max_copies: 1}
models:
  - {tag: bert, cost: {resident: 1.2 GiB, peak: 1.6 GiB, load: 2 s, service: 35 ms}}
  - {tag: gpt2, cost: {resident: 1.5 GiB, peak: 2 GiB, load: 3 s, service: 20 ms}}
  - {tag: t5, cost: {resident: 1 GiB, peak: 1.1 GiB, load: 1 s, service: 20 ms}}
workload:
  - {mix: {bert: 3, gpt2: 1, t5: 1}, arrivals: {pattern: poisson, rate: RATE/s}, duration: 60 s}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SCENARIO.replace("RATE", "5"), "utf-8")
    return "small.yaml"


def test_the_table_says_how_it_went(modelmgr: Program, scenario: str) -> None:
    finished = modelmgr("simulate", scenario)

    assert finished.returncode == 0
    assert finished.stdout.startswith("small: policy queue-value, seed 7, ")
    for word in ("requests", "evictions", "p95", "gpu0", "bert", "gpt2", "t5", "MiB", "ms"):
        assert word in finished.stdout
    assert "requests/s" in finished.stderr
    assert "requests/s" not in finished.stdout


def test_the_result_and_the_log_are_written_and_agree(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    finished = modelmgr("simulate", scenario, "--out", "r.json", "--log", "d.jsonl", "--json")
    assert finished.returncode == 0
    result = Result.load(tmp_path / "r.json")
    content = (tmp_path / "d.jsonl").read_bytes()

    assert finished.stdout == (tmp_path / "r.json").read_text("utf-8")
    assert result.decisions_sha256 == "sha256:" + hashlib.sha256(content).hexdigest()
    assert len(content.splitlines()) == result.decisions
    assert result.started_at is not None
    assert result.evictions > 0


def test_seed_and_policy_replace_the_scenarios(modelmgr: Program, scenario: str) -> None:
    def run(*arguments: str) -> dict[str, object]:
        finished = modelmgr("simulate", scenario, "--json", *arguments)
        assert finished.returncode == 0, finished.stderr
        answer: dict[str, object] = json.loads(finished.stdout)
        return answer

    plain, seeded, lru = run(), run("--seed", "8"), run("--policy", "lru")
    assert (plain["seed"], seeded["seed"]) == (7, 8)
    assert (plain["policy"], lru["policy"]) == ("queue-value", "lru")
    assert plain["decisions_sha256"] != seeded["decisions_sha256"]
    assert run()["decisions_sha256"] == plain["decisions_sha256"]


def test_exports_have_every_model(modelmgr: Program, scenario: str, tmp_path: Path) -> None:
    finished = modelmgr(
        *("simulate", scenario, "--check", "--max-requests", "50"),
        *("--export", "csv", "--export", "markdown=out.md"),
    )
    assert finished.returncode == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "result.csv").read_text("utf-8"))))
    assert [row["model"] for row in rows] == ["", "bert", "gpt2", "t5"]
    assert rows[0]["requests"] == "50"
    assert sum(int(row["requests"]) for row in rows[1:]) == 50
    assert "| bert |" in (tmp_path / "out.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.yaml",), "nowhere.yaml"),
        (("small.yaml", "--policy", "lrru"), "did you mean 'lru'"),
        (("small.yaml", "--max-requests", "0"), "--max-requests"),
        (("small.yaml", "--out", "small.yaml"), "is the scenario too"),
        (("small.yaml", "--out", "r", "--log", "r"), "is --out too"),
        (("small.yaml", "--out", "no/such/r.json"), "does not exist"),
        (("small.yaml", "--export", "pdf"), "no format 'pdf'"),
    ],
)
def test_bad_usage_gets_one_message(
    modelmgr: Program, scenario: str, arguments: tuple[str, ...], message: str
) -> None:
    assert scenario == "small.yaml"
    assert message in modelmgr.refused("simulate", *arguments)


def test_a_bar_is_shown_on_a_terminal_and_ctrl_c_keeps_what_there_is(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    path = tmp_path / scenario
    path.write_text(path.read_text("utf-8").replace("rate: 5/s", "rate: 20/s"), "utf-8")
    path.write_text(path.read_text("utf-8").replace("duration: 60 s", "duration: 300 d"), "utf-8")
    ours, theirs = pty.openpty()
    with modelmgr.start(
        *("simulate", scenario, "--out", "r.json"),
        environment={"TERM": "xterm", "COLUMNS": "120"},
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while shown.count(b"requests/s") < 3:  # it is drawn again and again
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        while chunk := _rest(ours):
            shown += chunk
        assert process.stdout is not None
        table = process.stdout.read()
    os.close(ours)

    assert process.returncode == 130
    assert "━".encode() in shown or "┄".encode() in shown
    assert b"simulated" in shown
    assert b"interrupted" in shown
    assert ", interrupted" in table.splitlines()[0]
    result = Result.load(tmp_path / "r.json")
    assert result.partial
    assert 0 < result.requests.completed <= result.requests.total


def _rest(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""
