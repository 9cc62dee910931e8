"""``modelmgr simulate``: the result on stdout, the rest on stderr, and files that say the same."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import pty
import signal
from collections import Counter
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
    assert result.started_at is None
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
        (("small.yaml", "--out", "."), "--out: . is this folder, or no name at all"),
        (("small.yaml", "--log", "sub"), "--log: sub is a folder"),
        (("small.yaml", "--export", "pdf"), "no format 'pdf'"),
        (("small.yaml", "--seed", "-1"), "--seed: -1 is no seed"),
        (("small.yaml", "--seed", "-1", "--sweep", "manager.max_bypass=1,2"), "--seed: -1 is no"),
        (("empty.yaml",), "write a scenario into it; 'modelmgr schema scenario' has its keys"),
    ],
)
def test_bad_usage_gets_one_message(
    modelmgr: Program,
    scenario: str,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    assert scenario == "small.yaml"
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty.yaml").write_text("", "utf-8")
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


def test_equal_simulations_give_equal_files(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    for name in ("one.json", "two.json"):
        assert modelmgr("simulate", scenario, "--out", name).returncode == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_log_that_another_run_writes_is_refused_and_left_as_it_is(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    log = tmp_path / "d.jsonl"
    log.write_text("another run's\n", "utf-8")
    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = modelmgr.refused("simulate", scenario, "--log", "d.jsonl")
    assert "another run writes d.jsonl just now" in said
    assert log.read_text("utf-8") == "another run's\n"
    assert modelmgr("simulate", scenario, "--log", "d.jsonl", "--out", "r.json").returncode == 0
    sha256 = hashlib.sha256(log.read_bytes()).hexdigest()
    assert Result.load(tmp_path / "r.json").decisions_sha256 == f"sha256:{sha256}"


def test_a_log_may_go_where_nothing_is_kept(modelmgr: Program, scenario: str) -> None:
    with Path(os.devnull).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        finished = modelmgr("simulate", scenario, "--log", os.devnull)
    assert finished.returncode == 0, finished.stderr


def test_a_fault_that_never_came_is_said(modelmgr: Program, scenario: str, tmp_path: Path) -> None:
    faults = "faults: [{at: 2 h, kind: worker-killed}, {at: 5 s, kind: worker-killed}]\n"
    (tmp_path / scenario).write_text(SCENARIO.replace("RATE", "5") + faults, "utf-8")
    finished = modelmgr("simulate", scenario)
    assert finished.returncode == 0
    assert "faults[0] (worker-killed at 2 h 00 min) never came: the run ended" in finished.stderr
    assert "faults[1]" not in finished.stderr


def test_a_trace_that_begins_with_hours_of_nothing_is_said_with_what_to_write(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("t_s,model\n1000000.5,bert\n1000001,t5\n", "utf-8")
    head = SCENARIO.partition("workload:")[0]
    (tmp_path / scenario).write_text(head + "workload: [{trace: t.csv}]\n", "utf-8")
    late = modelmgr("simulate", scenario)
    assert late.returncode == 0
    assert "t.csv: its first request comes 277 h 46 min after the phase begins" in late.stderr
    assert "write 'from: 1000000 s'" in late.stderr
    cut = head + "workload: [{trace: t.csv, from: 1000000 s}]\n"
    (tmp_path / scenario).write_text(cut, "utf-8")
    assert "first request" not in modelmgr("simulate", scenario).stderr


def test_a_perfetto_trace_has_every_load_service_and_unload_on_its_copys_track(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    finished = modelmgr("simulate", scenario, "--out", "r.json", "--export", "perfetto")
    assert finished.returncode == 0, finished.stderr
    result = Result.load(tmp_path / "r.json")
    trace = json.loads((tmp_path / "r.perfetto.json").read_text("utf-8"))
    events = trace["traceEvents"]
    assert trace["otherData"]["decisions_sha256"] == result.decisions_sha256
    drawn = Counter((event["ph"], event["name"]) for event in events)
    assert drawn["X", "load"] == drawn["M", "thread_name"] == result.loads
    assert drawn["X", "serve"] == result.requests.completed
    assert drawn["i", "unload"] == result.evictions
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {
        "gpu0",
        "requests without a copy",
    }
    # On one track, slices follow one another.
    ends: dict[int, float] = {}
    for event in events:
        if event["ph"] == "X":
            assert event["ts"] >= ends.get(event["tid"], 0.0) - 0.001
            ends[event["tid"]] = event["ts"] + event["dur"]
    loads = [event["dur"] for event in events if event["name"] == "load"]
    assert set(map(round, loads)) <= {1_000_000, 2_000_000, 3_000_000}
    copies = [event["args"]["value"] for event in events if event["name"] == "copies"]
    assert copies[-1] == result.loads - result.evictions


def test_a_trace_with_faults_draws_no_counter_that_could_be_wrong(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    faults = "faults: [{at: 5 s, kind: worker-killed}]\n"
    (tmp_path / scenario).write_text(SCENARIO.replace("RATE", "5") + faults, "utf-8")
    finished = modelmgr("simulate", scenario, "--export", "perfetto=t.json")
    assert finished.returncode == 0, finished.stderr
    events = json.loads((tmp_path / "t.json").read_text("utf-8"))["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "i"}
