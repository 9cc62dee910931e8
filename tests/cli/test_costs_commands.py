"""``modelmgr costs``: show and export what a file holds, refuse what is no database."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from modelmgr.records.codec import decode_costs, load_costs, save_costs
from modelmgr.records.costs import CostDatabase
from support.command_line import Program


@pytest.fixture
def costs(tmp_path: Path, database: CostDatabase) -> Path:
    """A database in a file."""
    path = tmp_path / "costs.json"
    save_costs(database, path)
    return path


def test_show_prints_the_table_on_stdout_alone(modelmgr: Program, costs: Path) -> None:
    finished = modelmgr("costs", "show", costs.name)

    assert (finished.returncode, finished.stderr) == (0, "")
    assert "measured 2026-01-02T03:04:05Z" in finished.stdout
    assert "bert-base" in finished.stdout
    assert "1 model was not measured:" in finished.stdout


def test_show_fills_the_width_it_is_told(modelmgr: Program, costs: Path) -> None:
    narrow = modelmgr("costs", "show", costs.name, environment={"COLUMNS": "80"}).stdout
    wide = modelmgr("costs", "show", costs.name, environment={"COLUMNS": "160"}).stdout

    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert "a-model-with-a-rather-long-name-of-its-own" in wide


def test_show_of_one_model_has_everything_about_it(modelmgr: Program, costs: Path) -> None:
    finished = modelmgr("costs", "show", costs.name, "t5-small")

    assert "where the peak goes" in finished.stdout
    assert "by shape" in finished.stdout
    assert "bert-base" not in finished.stdout


def test_show_of_an_unknown_model_names_the_nearest(modelmgr: Program, costs: Path) -> None:
    said = modelmgr.refused("costs", "show", costs.name, "t5-smal")

    assert "costs.json has no model 't5-smal'" in said
    assert "Did you mean 't5-small'?" in said


def test_show_as_json_is_the_file_again(
    modelmgr: Program, costs: Path, database: CostDatabase
) -> None:
    finished = modelmgr("costs", "show", costs.name, "--json")

    assert decode_costs(finished.stdout.encode()) == database


def test_show_with_ledger_shows_where_peaks_go(modelmgr: Program, costs: Path) -> None:
    finished = modelmgr("costs", "show", costs.name, "--ledger")

    assert "unaccounted" in finished.stdout
    assert "= peak" in finished.stdout


def test_export_writes_csv_to_stdout_and_markdown_to_a_file(
    modelmgr: Program, costs: Path, tmp_path: Path
) -> None:
    as_csv = modelmgr("costs", "export", costs.name, "csv")
    as_markdown = modelmgr("costs", "export", costs.name, "markdown", "--out", "C.md")

    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert [row["tag"] for row in rows][:3] == ["bert-base", "bert-base", "t5-small"]
    assert (as_markdown.stdout, as_markdown.returncode) == ("", 0)
    assert (tmp_path / "C.md").read_text().startswith("## Model costs\n")


def test_export_never_replaces_the_database_itself(
    modelmgr: Program, costs: Path, database: CostDatabase
) -> None:
    said = modelmgr.refused("costs", "export", costs.name, "csv", "--out", costs.name)

    assert "is the database too" in said
    assert load_costs(costs) == database


def test_export_of_an_unknown_format_names_the_nearest(modelmgr: Program, costs: Path) -> None:
    said = modelmgr.refused("costs", "export", costs.name, "markdwn")

    assert "Did you mean 'markdown'?" in said


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no such cost database"),
        (b"", "empty"),
        (b'{"kind": "modelmgr.costs", "schema_version": 1, "mod', ""),
        (b'{"kind": "modelmgr.costs", "schema_version": 99}', "newer modelmgr"),
        (b"models: [yaml]", "a cost database was expected"),
    ],
)
def test_what_is_no_database_is_refused_in_one_message(
    modelmgr: Program, tmp_path: Path, content: bytes | None, word: str
) -> None:
    if content is not None:
        (tmp_path / "bad.json").write_bytes(content)

    said = modelmgr.refused("costs", "show", "bad.json")

    assert said.startswith("error: bad.json")
    assert word in said.lower()


def test_one_broken_model_does_not_hide_the_others(modelmgr: Program, costs: Path) -> None:
    # GIVEN a database in which one model is nonsense
    plain = json.loads(costs.read_text())
    plain["models"]["t5-small"]["peak_bytes"] = "much"
    costs.write_text(json.dumps(plain))

    # WHEN it is shown
    finished = modelmgr("costs", "show", costs.name)

    # THEN the others are there, and the broken one with its reason
    assert finished.returncode == 0
    assert "bert-base" in finished.stdout
    assert "t5-small: InputError" in finished.stdout
