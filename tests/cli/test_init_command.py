"""``modelmgr init``: a starter list that is valid, commented, and never replaces a file unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.workload.model_list import parse_model_list, read_model_list
from modelmgr_cli.commands.init import starter_list
from support.command_line import Program


def test_init_writes_a_list_and_says_what_to_do_next(modelmgr: Program, tmp_path: Path) -> None:
    finished = modelmgr("init")

    assert finished.returncode == 0
    assert finished.stdout == "wrote models.yaml\n"
    assert finished.stderr == "next: modelmgr profile models.yaml\n"
    first = (tmp_path / "models.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=models.schema.json"


def test_init_never_replaces_a_file_unasked(modelmgr: Program, tmp_path: Path) -> None:
    # GIVEN somebody's own file
    mine = tmp_path / "models.yaml"
    mine.write_text("mine: true\n")

    # WHEN init would write there
    refused = modelmgr("init")

    # THEN it is left alone
    assert refused.returncode == 2
    assert "models.yaml is there already" in refused.stderr
    assert "--force" in refused.stderr
    assert mine.read_text() == "mine: true\n"

    # AND replaced only when that is said
    assert modelmgr("init", "--force").returncode == 0
    assert "models:" in mine.read_text()


def test_a_missing_folder_is_named_with_the_command_that_makes_it(modelmgr: Program) -> None:
    refused = modelmgr("init", "lists/mine.yaml")

    assert refused.returncode == 2
    assert "mkdir -p lists" in refused.stderr


@pytest.mark.parametrize("transformers", [True, False])
def test_the_starter_list_is_valid_and_has_what_works_here(transformers: bool) -> None:
    models = parse_model_list(starter_list("m.yaml", transformers=transformers)).models

    assert [model.tag for model in models] == [
        "synthetic-small",
        *(["bert-base"] if transformers else []),
    ]


def test_the_starter_list_without_transformers_says_how_to_get_them() -> None:
    text = starter_list("m.yaml", transformers=False)

    assert "pip install 'modelmgr[torch]'" in text
    # Taking the comment signs away must give the same list as where it is installed.
    start = text.index("  # - tag: bert-base")
    block, rest = text[start:].split("\n\n", 1)
    uncommented = "\n".join(line.replace("# ", "", 1) for line in block.splitlines())
    complete = starter_list("m.yaml", transformers=True)
    assert parse_model_list(f"{text[:start]}{uncommented}\n\n{rest}") == parse_model_list(complete)


def test_init_writes_a_list_that_profile_takes(modelmgr: Program, tmp_path: Path) -> None:
    modelmgr("init", "mine.yaml")

    tags = [model.tag for model in read_model_list(tmp_path / "mine.yaml").models]

    assert "synthetic-small" in tags
