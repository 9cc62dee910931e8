"""``modelmgr init``: a starter list that is valid, commented, and never replaces a file unasked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from modelmgr.workload.model_list import parse_model_list, read_model_list
from modelmgr_cli.commands.init import starter_list
from support.command_line import COMMAND, Program, clean_environment


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
    said = modelmgr.refused("init")

    # THEN it is left alone
    assert "models.yaml is there already" in said
    assert "--force" in said
    assert mine.read_text() == "mine: true\n"

    # AND replaced only when that is said
    assert modelmgr("init", "--force").returncode == 0
    assert "models:" in mine.read_text()


def test_a_full_disk_leaves_the_old_list_as_it_was(tmp_path: Path) -> None:
    # GIVEN a list, and a disk that takes no more
    mine = tmp_path / "models.yaml"
    mine.write_text("mine: true\n")

    # WHEN init would replace it (a limit on the size of files stands in for the full disk)
    finished = subprocess.run(  # noqa: S603  # our own program
        [
            "/bin/sh",
            "-c",
            'ulimit -f 0; trap "" XFSZ; exec "$@"',
            "sh",
            *COMMAND,
            "init",
            "--force",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=clean_environment(),
    )

    # THEN it is still there, and the message names it: --force used to leave an empty file
    assert finished.returncode == 2, finished.stderr
    assert "models.yaml" in finished.stderr
    assert mine.read_text() == "mine: true\n"
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_init_does_not_say_that_it_wrote_what_keeps_nothing(modelmgr: Program, path: str) -> None:
    said = modelmgr.refused("init", path, "--force")

    assert said.startswith(f"error: {path} is no regular file")


def test_a_missing_folder_is_named_with_the_command_that_makes_it(modelmgr: Program) -> None:
    assert "mkdir -p lists" in modelmgr.refused("init", "lists/mine.yaml")


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
