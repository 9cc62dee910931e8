"""``modelmgr simulate --sweep``: a table, files that say the same, and one message for what not."""

from __future__ import annotations

import csv
import io
import json
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelmgr.records.sweep import Sweep
from support.command_line import Program
from support.processes import descendants, open_pidfds, still_running
from support.sweep_work import SCENARIO

MEMORY = "devices.gpu0.memory=2GiB..6GiB:2GiB"


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SCENARIO, "utf-8")
    return "small.yaml"


def test_the_table_the_json_and_the_csv_say_the_same(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    finished = modelmgr(
        *("simulate", scenario, "--sweep", MEMORY, "--sweep", "manager.policy=lru,queue-value"),
        *("--slo", "wait_p95<60s", "--out", "s.json", "--export", "csv", "--jobs", "2"),
    )
    assert finished.returncode == 0, finished.stderr
    found = Sweep.load(tmp_path / "s.json")
    assert [row.number for row in found.rows] == list(range(6))
    assert found.slo is not None
    assert found.slo.smallest is not None
    assert "The smallest that meets wait_p95<60s" in finished.stdout
    for word in ("memory", "GiB", "policy", "p95", "queue-value", "small"):
        assert word in finished.stdout
    lines = list(csv.DictReader(io.StringIO((tmp_path / "s.csv").read_text("utf-8"))))
    assert [line["manager.policy"] for line in lines] == ["lru", "queue-value"] * 3
    assert [int(line["reload_cost_ns"]) for line in lines] == [
        row.figures.reload_cost_ns for row in found.rows if row.figures is not None
    ]


def test_the_json_does_not_depend_on_the_number_of_processes(
    modelmgr: Program, scenario: str
) -> None:
    def run(jobs: str) -> str:
        return modelmgr(
            *("simulate", scenario, "--sweep", MEMORY, "--bound", "--json", "--jobs", jobs)
        ).stdout

    by_one, by_three = run("1"), run("3")
    assert by_one == by_three
    assert json.loads(by_one)["kind"] == "modelmgr.sweep"


def test_a_goal_that_no_size_meets_fails_the_gate_and_names_the_closest(
    modelmgr: Program, scenario: str
) -> None:
    finished = modelmgr("simulate", scenario, "--sweep", MEMORY, "--slo", "wait_max<1ms")
    assert finished.returncode == 1
    assert "None of the swept sizes meets wait_max<1ms" in finished.stdout
    assert "The closest is " in finished.stdout


def test_ctrl_c_ends_every_process_and_keeps_what_is_done(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    # The second value takes days of processor time; the first, a moment.
    with modelmgr.start(
        *("simulate", scenario, "--out", "s.json", "--jobs", "1", "--verbose"),
        *("--sweep", "workload.0.duration=10 s,9000 d", "--slo", "wait_p95<60s"),
        own_session=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if "1 of 2 rows" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        page = process.stdout.read()
        assert process.wait() == 130
    assert "interrupted: 1 of 2 combinations" in rest
    assert "Traceback" not in rest
    assert "of those done" in page
    found = Sweep.load(tmp_path / "s.json")
    assert found.partial
    assert [row.number for row in found.rows] == [0]
    assert found.slo is not None
    assert not found.slo.complete


def test_what_is_interrupted_before_its_first_row_gives_no_verdict(
    modelmgr: Program, scenario: str
) -> None:
    with modelmgr.start(
        *("simulate", scenario, "--jobs", "1", "--verbose", "--slo", "wait_p95<60s"),
        *("--sweep", "workload.0.duration=9000 d,9001 d"),
        own_session=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if "0 of 2 rows" in line:
                break
        process.send_signal(signal.SIGINT)
        page = process.stdout.read()
        assert process.wait() == 130
    assert "Which meets wait_p95<60s and unserved<=0% is not known: no row has figures." in page
    assert "None of" not in page


def test_a_sweep_that_is_killed_leaves_no_process_behind(modelmgr: Program, scenario: str) -> None:
    with modelmgr.start(
        *("simulate", scenario, "--jobs", "2", "--verbose"),
        *("--sweep", "workload.0.duration=1 s,2 s,9000 d,9001 d"),
        own_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "2 of 4 rows" in line:
                break
        left = open_pidfds(descendants(process.pid))
        assert len(left) >= 2
        process.kill()
        assert still_running(left) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sweep", "devices.gpu0.memry=1GiB"), "did you mean 'memory'"),
        (("--sweep", "seed"), "KEY=VALUES"),
        (("--sweep", "manager.policy=lrru"), "did you mean 'lru'"),
        (("--sweep", "seed=1,2", "--seed", "3"), "seed is swept"),
        (("--sweep", "manager.policy=lru", "--policy", "lru"), "manager.policy is swept"),
        (("--sweep", "seed=1", "--policy", "lrru"), "did you mean 'lru'"),
        (("--sweep", "seed=1", "--slo", "wiat_p95<1s"), "did you mean 'wait_p95'"),
        (("--sweep", "seed=1", "--slo", "reload_ratio<2"), "add --bound"),
        (("--sweep", "seed=1", "--jobs", "0"), "--jobs"),
        (("--sweep", "seed=1", "--log", "d.jsonl"), "--log"),
        (("--sweep", "seed=1", "--check"), "--check"),
        (("--sweep", "seed=1", "--jobs", "1", "--ray", "auto"), "--jobs"),
        (("--sweep", "seed=1", "--export", "markdown"), "no markdown"),
        (("--sweep", "seed=1", "--out", "small.yaml"), "is the scenario too"),
        (("--slo", "wait_p95<1s"), "nothing is swept"),
        (("--jobs", "2"), "nothing is swept"),
        (("--plot", "x.html"), "nothing is swept"),
    ],
)
def test_bad_usage_of_a_sweep_gets_one_message(
    modelmgr: Program, scenario: str, arguments: tuple[str, ...], message: str
) -> None:
    assert message in modelmgr.refused("simulate", scenario, *arguments)


def test_what_is_not_installed_is_said_before_anything_is_computed(
    modelmgr: Program, scenario: str, tmp_path: Path
) -> None:
    if find_spec("ray") is None:
        said = modelmgr.refused("simulate", scenario, "--sweep", "seed=1", "--ray", "auto")
        assert "pip install 'modelmgr[ray]'" in said
    plotted = ("simulate", scenario, "--sweep", MEMORY, "--plot", "page.html")
    if find_spec("plotly") is None:
        assert "pip install 'modelmgr[plots]'" in modelmgr.refused(*plotted)
        assert not (tmp_path / "page.html").exists()
    else:
        assert modelmgr(*plotted).returncode == 0
        page = (tmp_path / "page.html").read_text("utf-8")
        assert "time of loads" in page
        assert 'src="http' not in page  # it needs no network
