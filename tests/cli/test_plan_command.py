"""``modelmgr plan``: what fits together, and one clear reason where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelmgr.records.codec import save_costs
from modelmgr.records.costs import CostDatabase
from support.command_line import Program

LONG = "a-model-with-a-rather-long-name-of-its-own"


@pytest.fixture
def costs(tmp_path: Path, database: CostDatabase) -> str:
    """A database in a file."""
    save_costs(database, tmp_path / "costs.json")
    return "costs.json"


def test_everything_that_fits_is_placed(modelmgr: Program, costs: str) -> None:
    finished = modelmgr("plan", costs, "--device", "gpu0=8GiB")

    assert finished.returncode == 0
    assert "All 3 copies fit." in finished.stdout
    assert finished.stderr == "warning: broken was not measured and is left out\n"


def test_what_does_not_fit_is_explained(modelmgr: Program, costs: str) -> None:
    finished = modelmgr("plan", costs, "--device", "gpu0=6GiB", environment={"COLUMNS": "300"})

    assert finished.returncode == 3
    assert "Does not fit: " in finished.stdout
    assert f"{LONG} need " in finished.stdout
    assert "gpu0 offers 5.4 GiB; without " in finished.stdout
    assert "the rest fits." in finished.stdout


def test_one_model_that_is_too_large_for_every_device_is_named(
    modelmgr: Program, costs: str
) -> None:
    finished = modelmgr(
        "plan", costs, "--device", "a=2GiB", "--device", "b=3GiB", environment={"COLUMNS": "300"}
    )

    assert finished.returncode == 3
    assert f"{LONG} needs 5.4 GiB to be loaded, the largest device offers 2.7 GiB" in (
        finished.stdout
    )


def test_json_has_every_figure_and_nothing_else_on_stdout(modelmgr: Program, costs: str) -> None:
    finished = modelmgr(
        "plan", costs, "--device", "gpu0=8GiB,slack=0%", "--device", "gpu1=1GiB",
        "--copies", "t5-small=2", "--at-least", "bert-base=1", "--json",
    )  # fmt: skip
    answer = json.loads(finished.stdout)

    assert finished.returncode == 0
    assert (answer["kind"], answer["schema_version"]) == ("modelmgr.plan", 1)
    assert answer["fits"] is answer["proven"] is True
    assert answer["models"]["t5-small"]["copies"] == 2
    assert answer["devices"][0]["limit_bytes"] == 8 * 1024**3
    assert answer["devices"][1]["limit_bytes"] == 1024**3 - round(1024**3 * 0.1)
    for device in answer["devices"]:
        assert device["left_bytes"] == device["limit_bytes"] - device["needed_bytes"] >= 0


def test_json_says_why_not(modelmgr: Program, costs: str) -> None:
    finished = modelmgr("plan", costs, "--device", "gpu0=1GiB", "--json")
    answer = json.loads(finished.stdout)

    assert finished.returncode == 3
    assert answer["fits"] is False
    assert answer["left_out"] == [LONG, "t5-small"] or LONG in answer["left_out"]
    assert answer["conflict"]["needed_bytes"] > answer["conflict"]["offered_bytes"]
    assert "offers" in answer["conflict"]["message"]


def test_weights_fill_what_is_left(modelmgr: Program, costs: str) -> None:
    finished = modelmgr(
        "plan", costs, "--device", "gpu0=8GiB", "--only", "bert-base", "--only", "t5-small",
        "--weight", "bert-base=1", "--weight", "t5-small=1", "--max-copies", "4", "--json",
    )  # fmt: skip
    models = json.loads(finished.stdout)["models"]

    assert finished.returncode == 0
    assert {tag: model["copies"] for tag, model in models.items()} == {
        "bert-base": 4,
        "t5-small": 4,
    }


def test_fewer_running_at_once_leave_more_room(modelmgr: Program, costs: str) -> None:
    device = ("--device", "gpu0=5800MiB,slack=0%")

    assert modelmgr("plan", costs, *device).returncode == 3
    tight = modelmgr("plan", costs, "--only", LONG, "--only", "t5-small", *device, "--json")
    single = modelmgr(
        "plan", costs, "--only", LONG, "--only", "t5-small", *device, "--active", "1", "--json"
    )
    needed = [json.loads(f.stdout)["devices"][0]["needed_bytes"] for f in (tight, single)]
    assert needed[1] <= needed[0]


def test_this_machine_is_planned_for_without_a_device(modelmgr: Program, costs: str) -> None:
    finished = modelmgr("plan", costs, "--only", "t5-small", "--json")

    assert json.loads(finished.stdout)["devices"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu0=24"], "'24' has no unit"),
        (["--device", "=24GiB"], "has no name"),
        (["--device", "gpu9"], "there is no 'gpu9' here"),
        (["--device", "gpu0=24GiB,slak=3%"], "means nothing"),
        (["--device", "gpu0=24GiB", "--device", "gpu0=1GiB"], "'gpu0' is there twice"),
        (["--slack", "100%"], "leaves nothing"),
        (["--copies", "bert=2"], "there is no model 'bert' to place"),
        (["--copies", "bert-base"], "names no model"),
        (["--copies", "bert-base=two"], "is no number of copies"),
        (["--copies", "bert-base=1", "--copies", "bert-base=2"], "given twice"),
        (["--copies", "bert-base=1", "--at-least", "bert-base=2"], "both say how many"),
        (["--weight", "bert-base=-1"], "is no weight"),
        (["--max-copies", "3"], "give a --weight too"),
        (["--weight", "bert-base=1", "--max-copies", "100000000"], "give 9999 or less"),
        (["--copies", "bert-base=10000"], "give 9999 or less"),
        (["--active", "0"], "serve nobody"),
        (["--only", "broken"], "was not measured"),
        (["--only", "bert"], "has no model 'bert'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    modelmgr: Program, costs: str, arguments: list[str], message: str
) -> None:
    device = [] if "--device" in arguments or "--slack" in arguments else ["--device", "g=9GiB"]

    assert message in modelmgr.refused("plan", costs, *arguments, *device)
