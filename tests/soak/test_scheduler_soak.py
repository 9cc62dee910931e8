"""The soak's short form, and that what it would find is found, kept and shrunk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from modelmgr.scheduling.admission import Admission
from modelmgr.scheduling.ledger import Entry
from modelmgr.scheduling.queue import TicketQueue
from support.random_events import Player, World, drawn
from support.seeded_run import SeededRun
from support.shrinking import replay, shrink

SCRIPT = Path(__file__).parents[2] / "results" / "soak" / "scheduler_soak.py"
REPLAYS = sorted((Path(__file__).parent / "replays").glob("*.json"))
EVENTS = 200


def failing(seeds: range, events: int = EVENTS) -> SeededRun:
    """Return the first run in which a promise breaks."""
    for seed in seeds:
        run = SeededRun(seed, steady=seed % 2 == 0)
        try:
            for _ in range(events):
                run.step()
            run.end()
        except AssertionError:
            return run
    pytest.fail("nothing was noticed")


@pytest.mark.parametrize("seed", range(60))
def test_no_promise_breaks_whatever_happens(seed: int) -> None:
    run = SeededRun(seed, steady=seed % 2 == 0)
    for _ in range(EVENTS):
        run.step()
    run.end()
    assert run.happened.total() >= EVENTS


def test_every_kind_of_event_and_every_promise_comes_up_within_a_few_seeds() -> None:
    kinds: set[str] = set()
    checked: set[str] = set()
    for seed in range(25):
        run = SeededRun(seed, steady=seed % 2 == 0)
        for _ in range(EVENTS):
            run.step()
        kinds |= run.happened.keys()
        checked |= run.checks().keys()
    assert kinds == set(drawn(Random(0)))
    promises = {"memory", "pin", "lease", "isolation", "progress", "fairness", "conservation"}
    assert checked >= promises | {"unknown"}


def test_what_was_drawn_plays_the_same_again() -> None:
    run = SeededRun(5, steady=False)
    for _ in range(200):
        run.step()
    kept = json.loads(json.dumps({"world": run.world.as_json(), "events": run.events}))
    world = World.from_json(kept["world"])
    assert world == run.world
    again = Player(world)
    for event in kept["events"]:
        again.play(tuple(event))
    assert again.driver.log == run.driver.log


def test_a_broken_promise_is_noticed_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Entry, "charge", _as_if_idle)
    run = failing(range(0, 20, 2))
    world, events, broken = shrink(run.world, run.events, most_events=60_000)
    assert len(events) < 12
    assert "promised" in broken.told
    assert replay(world, events) == broken
    monkeypatch.undo()
    assert replay(world, events) is None


def _as_if_idle(entry: Entry, active: bool) -> int:  # noqa: ARG001 - the fault
    if entry.leaving:
        return entry.left_bytes
    return max(entry.resident_bytes, 0 if entry.settled else entry.reserved_bytes)


def _nothing(*_: object, **_named: object) -> None:
    return None


def test_a_count_that_the_scheduler_forgets_is_kept_by_the_judge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TicketQueue, "count_passed_over", _nothing)
    run = failing(range(40))
    broken = replay(run.world, run.events)
    assert broken is not None
    assert "passed over too often" in broken.told


def test_a_ticket_that_is_forgotten_in_a_quiet_system_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Admission, "load", _nothing)
    run = failing(range(20))
    assert replay(run.world, run.events) is not None


@pytest.mark.parametrize("kept", REPLAYS, ids=lambda path: path.stem)
def test_what_the_soak_once_found_stays_mended(kept: Path) -> None:
    found = json.loads(kept.read_text())
    events = [tuple(event) for event in found["events"]]
    assert replay(World.from_json(found["world"]), events) is None


def test_the_soak_writes_its_result_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--seeds", "3", "--events", "40", "--jobs", "1"]
    command += ["--out", str(tmp_path / "soak.json"), "--journal", str(tmp_path / "soak.jsonl")]
    first = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)  # noqa: S603 - our own script
    result = json.loads((tmp_path / "soak.json").read_text())
    assert result["seeds"] == 3
    assert result["events"] == sum(result["events_by_kind"].values()) == 120
    assert result["broken"] == []
    assert "determinism" in result["promises_checked"]
    assert "3 seeds" in first.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)  # noqa: S603 - our own script
    assert "going on after 3 seeds" in again.stderr
    repeated = json.loads((tmp_path / "soak.json").read_text())
    assert repeated["decisions_sha256"] == result["decisions_sha256"]


def test_a_kept_run_can_be_played_again_and_told(tmp_path: Path) -> None:
    run = SeededRun(4)
    for _ in range(30):
        run.step()
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"world": run.world.as_json(), "events": run.events}))
    told = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), "--replay", str(kept)],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert "nothing breaks" in told.stdout
