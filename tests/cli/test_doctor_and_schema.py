"""``modelmgr doctor`` and ``modelmgr schema``: what the machine has, what the files must hold."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from modelmgr.records.codec import encode_costs
from modelmgr.records.costs import CostDatabase
from modelmgr_cli.checkup import check_up
from support.command_line import Program


def test_doctor_says_what_profile_would_do(modelmgr: Program) -> None:
    finished = modelmgr("doctor", "--device", "host", "--budget", "2 GiB")

    assert (finished.returncode, finished.stderr) == (0, "")
    for name in ("host memory", "accelerators", "torch", "memory peaks", "free disk"):
        assert name in finished.stdout
    assert "profile would measure on host with a limit of 2.0 GiB" in finished.stdout


def test_doctor_as_json_has_the_same_facts(modelmgr: Program) -> None:
    checkup = json.loads(modelmgr("doctor", "--device", "host", "--json").stdout)

    assert (checkup["kind"], checkup["schema_version"]) == ("modelmgr.checkup", 1)
    assert checkup["usable"] is True
    assert checkup["device"]["name"] == "host"
    assert 0 < checkup["limit_bytes"] < checkup["device"]["total_bytes"]
    assert {finding["state"] for finding in checkup["findings"]} <= {"fine", "warning"}


def test_doctor_ends_with_5_where_profile_cannot_work(modelmgr: Program) -> None:
    finished = modelmgr("doctor", "--device", "cuda:99")

    assert finished.returncode == 5
    assert "no device 'cuda:99'" in finished.stdout
    assert "profile cannot work here" in finished.stdout


@pytest.mark.parametrize(
    ("flags", "fact"),
    [
        (("--device", "fixed:24GiB"), "no device 'fixed:24GiB' to measure on"),
        (("--device", "cuda:99"), "devices here: auto, host"),
        (("--device", "host", "--budget", "9000 TiB"), "more than host has"),
    ],
)
def test_doctor_offers_nothing_that_profile_would_refuse(
    modelmgr: Program, flags: tuple[str, ...], fact: str
) -> None:
    finished = modelmgr("doctor", *flags, environment={"COLUMNS": "200"})

    assert finished.returncode == 5
    assert fact in finished.stdout
    assert "fixed:SIZE" not in finished.stdout
    assert "profile would" not in finished.stdout


def test_doctor_refuses_a_budget_that_is_none(modelmgr: Program) -> None:
    for text, word in (("0 MiB", "no memory"), ("8", "no unit"), ("-1 GiB", "negative")):
        said = modelmgr.refused("doctor", "--budget", text)

        assert said.startswith("error: --budget: ")
        assert word in said


def test_a_folder_that_is_not_there_is_a_problem_with_advice(tmp_path: Path) -> None:
    checkup = check_up("host", budget_bytes=None, slack=0.1, folder=tmp_path / "nowhere")

    assert not checkup.usable
    problem = next(finding for finding in checkup.findings if finding.state == "problem")
    assert problem.name == "free disk"
    assert problem.advice is not None


def test_schema_lists_its_kinds_and_refuses_others(modelmgr: Program) -> None:
    assert {"models", "costs", "certificate"} <= set(modelmgr("schema").stdout.split())
    assert "'costs'" in modelmgr.refused("schema", "cost")


@pytest.mark.parametrize("kind", ["models", "costs", "certificate"])
def test_schemas_are_valid_schemas(modelmgr: Program, kind: str) -> None:
    schema = json.loads(modelmgr("schema", kind).stdout)

    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_starter_list_and_a_database_keep_to_their_schemas(
    modelmgr: Program, tmp_path: Path, database: CostDatabase
) -> None:
    modelmgr("init")
    models = yaml.safe_load((tmp_path / "models.yaml").read_text())

    jsonschema.validate(models, json.loads(modelmgr("schema", "models").stdout))
    jsonschema.validate(
        json.loads(encode_costs(database)), json.loads(modelmgr("schema", "costs").stdout)
    )
