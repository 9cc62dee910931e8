"""README and CONTRIBUTING: their targets, extras and rooms are those that there are, and what they
show is of the program as it is.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest
from rich.console import Console, RenderableType

import modelmgr
from modelmgr.workload.model_list import read_model_list
from modelmgr_cli.render.details import model_details
from modelmgr_cli.render.tables import cost_table
from modelmgr_cli.terminal import PLAIN_WIDTH
from support.command_line import make_database
from support.console_blocks import commands_of
from support.written_pages import PAGES, ROOT, read_blocks, read_tables

_CONTRIBUTING = ".github/CONTRIBUTING.md"
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _lines_of(program: str) -> list[list[str]]:
    """Return the words of each command line of a program, on all pages."""
    lines = [
        shlex.split(command.line, comments=True)
        for page in (*PAGES, _CONTRIBUTING)
        for block in read_blocks(page)
        if block.language == "console"
        for command in commands_of(block)
    ]
    return [words for words in lines if words[0] == program]


def _output_of(command: str) -> str:
    """Return the only block that is said to be the output of a command that takes long."""
    blocks = [block for page in PAGES for block in read_blocks(page)]
    (block,) = (block for block in blocks if block.marks.get("output of") == command)
    return block.text


def _rendered(*renderables: RenderableType) -> str:
    console = Console(width=PLAIN_WIDTH, color_system=None)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    return capture.get()


def _table(page: str, title: str) -> list[str]:
    """Return the first column of a page's table that begins with a title."""
    (table,) = (table for table in read_tables(page) if table.head[0] == title)
    return table.column(title)


def test_every_target_of_the_makefile_is_described_and_no_other() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    makes = [target for words in _lines_of("make") for target in words[1:]]

    assert makes[:2] == ["profile", "test"]
    assert {*makes, *_table(_CONTRIBUTING, "target")} == {*targets} - {"help"}


def test_every_room_of_the_library_is_described() -> None:
    folder = Path(str(modelmgr.__file__)).parent
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    cells = " ".join(_table(_CONTRIBUTING, "room"))

    assert set(re.findall(r"\w+", cells)) == rooms | {"modelmgr_cli", "errors", "units"}


def test_the_extras_that_the_pages_install_and_all_others_are_described() -> None:
    extras = _table("README.md", "extra")
    installed = [words[-1] for words in _lines_of("pip") if "[" in words[-1]]

    assert set(extras) == set(_PROJECT["optional-dependencies"])
    assert set(installed) <= {f".[{extra}]" for extra in extras}


def test_the_quick_start_shows_the_models_that_make_profile_measures() -> None:
    shown = _output_of("make profile")
    tags = [spec.tag for spec in read_model_list(ROOT / "scenarios" / "quickstart.yaml").models]

    assert [tag for tag in tags if f"\n{tag} " not in shown] == []


@pytest.mark.parametrize("line", [0, 1])
def test_the_quick_start_has_the_table_s_columns(line: int) -> None:
    database = make_database()
    models = {"whisper-tiny": database.models["bert-base"]}
    shown = msgspec.structs.replace(database, models=models)
    table = _rendered(*cost_table(shown, PLAIN_WIDTH)).splitlines()

    assert _output_of("make profile").splitlines()[line].split() == table[line].split()


def test_a_model_in_full_is_shown_as_it_is() -> None:
    shown = _output_of("modelmgr costs show results/local/costs.json bert-base")
    labels = re.compile(r"^  ([a-z ]+?)  ", re.MULTILINE)
    real = _rendered(*model_details("bert-base", make_database().models["bert-base"], PLAIN_WIDTH))

    assert shown.startswith("bert-base ")
    assert labels.findall(shown) == labels.findall(real)
