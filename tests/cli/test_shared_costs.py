"""Two runs that add to one cost database at once: nothing that either learned is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase, RunInfo
from modelmgr_cli.shared_costs import SharedCosts
from support.command_line import make_database


def with_run(database: CostDatabase, name: str) -> CostDatabase:
    made = RunInfo(command="run", scenario=name, seed=1, started_at="2026-01-01T00:00:00Z")
    return msgspec.structs.replace(database, runs=(*database.runs, made))


def test_each_adds_to_what_the_other_wrote_and_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    empty = make_database()
    one, other = (SharedCosts(path, empty.machine) for _ in range(2))  # both begin with nothing
    found: list[CostDatabase | None] = []

    def run_other() -> None:
        with other:
            found.append(other.latest())

    waiting = threading.Thread(target=run_other)
    with one:
        assert one.latest() is None
        waiting.start()
        path.write_bytes(one.encode(with_run(empty, "one")))
    waiting.join()

    assert [[made.scenario for made in database.runs] for database in found if database] == [
        ["one"]
    ]


def test_a_database_that_breaks_meanwhile_is_left_alone_and_costs_no_run(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    before = with_run(make_database(), "before")
    before.save(path)
    with SharedCosts(path, before.machine) as shared:
        path.write_text("nothing of ours")
        assert shared.latest() == before
        with pytest.raises(UsageError, match=r"costs\.json"):
            shared.encode(before)
