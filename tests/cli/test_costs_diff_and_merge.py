"""``modelmgr costs diff`` and ``merge``: what differs is said, and no model is ever lost."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import CostDatabase
from support.command_line import Program, make_cost


@pytest.fixture
def old(tmp_path: Path, database: CostDatabase) -> Path:
    """The database of a month ago."""
    path = tmp_path / "old.json"
    save_costs(database, path)
    return path


@pytest.fixture
def new(tmp_path: Path, database: CostDatabase) -> Path:
    """A later one: another torch, one model changed, one gone, one new, one measured at last."""
    models = dict(database.models)
    del models["t5-small"]
    models["bert-base"] = make_cost(420, 190, 160)
    models["fresh"] = make_cost(10, 2, 3)
    models["broken"] = make_cost(20, 2, 3)
    machine = msgspec.structs.replace(database.machine, packages={"torch": "2.14.0"})
    later = msgspec.structs.replace(
        database, models=models, machine=machine, created_at="2026-02-02T03:04:05Z"
    )
    path = tmp_path / "new.json"
    save_costs(later, path)
    return path


@pytest.mark.usefixtures("old", "new")
def test_diff_says_what_changed_and_by_how_much(modelmgr: Program) -> None:
    finished = modelmgr("costs", "diff", "old.json", "new.json")

    assert (finished.returncode, finished.stderr) == (0, "")
    lines = [line.split() for line in finished.stdout.splitlines()]
    assert ["packages.torch", "2.13.0", "→", "2.14.0"] in lines
    assert ["peak", "738.6", "MiB", "759.8", "MiB", "+2.9", "%"] in lines
    assert "only in the old: t5-small" in finished.stdout
    assert "only in the new: fresh" in finished.stdout
    assert "measured now, failed before: broken" in finished.stdout


@pytest.mark.usefixtures("old", "new")
def test_diff_counts_small_changes_instead_of_listing_them(modelmgr: Program) -> None:
    coarse = modelmgr("costs", "diff", "old.json", "new.json", "--above", "5%").stdout
    fine = modelmgr("costs", "diff", "old.json", "new.json", "--above", "0%").stdout

    assert "\n  peak " not in coarse
    assert "figures changed by less than 5.0%" in coarse
    assert "\n  resident " in fine
    assert "changed by less" not in fine


@pytest.mark.usefixtures("old")
def test_diff_of_equals_is_that_nothing_differs(modelmgr: Program) -> None:
    assert modelmgr("costs", "diff", "old.json", "old.json").stdout == "Nothing differs.\n"


@pytest.mark.usefixtures("old", "new")
def test_diff_as_json_has_every_change_with_its_unit(modelmgr: Program) -> None:
    found = json.loads(modelmgr("costs", "diff", "old.json", "new.json", "--json").stdout)

    peak = next(change for change in found["figures"] if change["name"] == "peak_bytes")
    assert (peak["tag"], peak["unit"], peak["change"]) == ("bert-base", "bytes", "changed")
    assert found["removed"] == ["t5-small"]
    assert (found["kind"], found["schema_version"]) == ("modelmgr.costs-diff", 1)


@pytest.mark.usefixtures("old")
def test_bytes_of_a_machine_are_numbers_in_json(
    modelmgr: Program, tmp_path: Path, database: CostDatabase
) -> None:
    device = msgspec.structs.replace(database.machine.device, total_bytes=77)
    machine = msgspec.structs.replace(database.machine, device=device)
    save_costs(msgspec.structs.replace(database, machine=machine), tmp_path / "new.json")

    found = json.loads(modelmgr("costs", "diff", "old.json", "new.json", "--json").stdout)

    # They used to be "12884901888" in quotes.
    assert found["machine"] == [
        {"name": "device.total_bytes", "old": database.machine.device.total_bytes, "new": 77}
    ]


@pytest.mark.usefixtures("old", "new")
def test_merge_as_json_says_what_it_is(modelmgr: Program) -> None:
    arguments = ("costs", "merge", "old.json", "new.json", "--out", "all.json", "--json")
    answer = json.loads(modelmgr(*arguments).stdout)

    assert (answer["kind"], answer["schema_version"]) == ("modelmgr.costs-merge", 1)
    assert answer["origins"]["fresh"] == "new.json"


@pytest.mark.usefixtures("old", "new")
def test_merge_keeps_every_model_and_says_whose_figures_won(
    modelmgr: Program, tmp_path: Path
) -> None:
    finished = modelmgr("costs", "merge", "old.json", "new.json", "--out", "all.json")

    assert finished.returncode == 0
    assert "5 models written to all.json" in finished.stderr
    merged = load_costs(tmp_path / "all.json")
    assert set(merged.models) == {
        "bert-base",
        "t5-small",
        "a-model-with-a-rather-long-name-of-its-own",
        "broken",
        "fresh",
    }
    rows = [line.split() for line in finished.stdout.splitlines()]
    assert ["bert-base", "new.json", "old.json", "newer"] in rows
    assert merged.models["broken"].error is None


@pytest.mark.usefixtures("old", "new")
def test_merge_into_one_of_its_own_is_fine_into_another_file_it_asks(
    modelmgr: Program, tmp_path: Path
) -> None:
    other = tmp_path / "precious.json"
    other.write_text("precious")

    said = modelmgr.refused("costs", "merge", "old.json", "new.json", "--out", "precious.json")
    allowed = modelmgr("costs", "merge", "old.json", "new.json", "--out", "old.json")

    assert "--force" in said
    assert other.read_text() == "precious"
    assert allowed.returncode == 0
    assert "fresh" in load_costs(tmp_path / "old.json").models


@pytest.mark.usefixtures("old")
def test_merge_of_a_file_that_is_no_database_changes_nothing(
    modelmgr: Program, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{")

    said = modelmgr.refused("costs", "merge", "old.json", "bad.json", "--out", "all.json")

    assert said.startswith("error: bad.json")
    assert not (tmp_path / "all.json").exists()
