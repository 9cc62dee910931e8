"""The README: its code runs, its commands do what they say, its tables are complete."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from modelmgr.errors import ModelmgrError
from modelmgr.records.codec import load_costs
from modelmgr.workers.loaders.registry import LOADER_NAMES
from modelmgr.workload.model_list import parse_model_list, read_model_list
from modelmgr_cli.outcome import Outcome
from support.command_line import COMMAND, Program, clean_environment

_ROOT = Path(__file__).resolve().parents[2]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_PAGES = ("README.md", ".github/CONTRIBUTING.md", ".github/CHANGELOG.md")
_NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # the examples name no device: let them take the host


def _blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


def _lines_of(*programs: str) -> list[list[str]]:
    """Return the words of each command line in the README's shell blocks."""
    lines = (line for block in _blocks("sh") for line in block.splitlines())
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] in programs]


def _first_column(head: str) -> list[str]:
    """Return the first column of the README's table with this head, without its backticks."""
    table = _README.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return [row.split("|")[1].strip().strip("`") for row in table.splitlines()[2:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's model list, as far as it needs no framework, in one process."""
    folder = tmp_path_factory.mktemp("readme")
    (block,) = _blocks("yaml")
    document = yaml.safe_load(block)
    document["defaults"]["repeats"] = 1
    document["models"] = [entry for entry in document["models"] if entry["loader"] == "python"]
    (folder / "models.yaml").write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture(scope="module")
def measured(folder: Path) -> Path:
    """The same folder after the README's own commands, in their order."""
    modelmgr = Program(folder)
    (folder / "scenarios").symlink_to(_ROOT / "scenarios")
    for line in _lines_of("modelmgr"):
        if line[1] == "serve":
            continue  # it goes on until it is stopped: see the test of its own
        finished = modelmgr(*line[1:], environment=_NO_GPU)
        assert finished.returncode == 0, f"{shlex.join(line)}\n{finished.stderr}{finished.stdout}"
    return folder


def _run(
    block: str, folder: Path, environment: Mapping[str, str] = _NO_GPU
) -> subprocess.CompletedProcess[str]:
    """Run a block as a user would: saved as a script."""
    script = folder / "example.py"
    script.write_text(block)
    return subprocess.run(  # noqa: S603  # our own README
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=clean_environment(**environment),
        timeout=120,
    )


def test_the_commands_of_the_readme_measure_and_keep_the_model(measured: Path) -> None:
    (tag,) = (spec.tag for spec in read_model_list(measured / "models.yaml").models)
    assert load_costs(measured / "costs.json").models[tag].error is None


def test_production_code_of_the_readme_runs_on_the_database_that_its_commands_wrote(
    measured: Path,
) -> None:
    finished = _run(_blocks("python")[0], measured)

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "(64, 512) ['matmul']\n"


def test_what_the_readme_serves_can_be_connected_to(measured: Path) -> None:
    (serve,) = (line for line in _lines_of("modelmgr") if line[1] == "serve")
    (block,) = (block for block in _blocks("python") if "modelmgr.connect" in block)
    runtime = {**_NO_GPU, "XDG_RUNTIME_DIR": str(measured)}
    with (
        subprocess.Popen(  # noqa: S603  # our own program
            [*COMMAND, *serve[1:]],
            cwd=measured,
            env=clean_environment(**runtime),
            stderr=subprocess.PIPE,
            text=True,
        ) as served
    ):
        assert served.stderr is not None
        said = next((line for line in served.stderr if "modelmgr.connect(" in line), None)
        assert said is not None, "it ended and never said how to connect"
        finished = _run(block, measured, runtime)
        served.send_signal(signal.SIGTERM)
        served.communicate(timeout=60)

    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "(4, 512)\n"


@pytest.mark.parametrize(
    "block", [block for block in _blocks("python")[1:] if "modelmgr.connect" not in block]
)
def test_every_other_python_block_of_the_readme_runs(block: str, tmp_path: Path) -> None:
    finished = _run(block, tmp_path)

    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""


def test_the_model_list_of_the_readme_is_valid() -> None:
    (block,) = _blocks("yaml")
    assert {spec.loader for spec in parse_model_list(block).models} <= set(LOADER_NAMES)


def test_a_wrong_key_in_that_list_would_be_seen() -> None:
    (block,) = _blocks("yaml")
    with pytest.raises(ModelmgrError, match="architektur"):
        parse_model_list(block.replace("architecture:", "architektur:"))


def test_the_targets_that_the_readme_makes_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
    makes = [target for line in _lines_of("make") for target in line[1:]]

    assert makes[:2] == ["profile", "test"]
    assert set(makes) <= targets


def test_every_command_in_the_text_exists_with_its_options(tmp_path: Path) -> None:
    modelmgr = Program(tmp_path)
    written = {tuple(shlex.split(text)) for text in re.findall(r"`modelmgr ([^`]+)`", _README)}
    assert written

    for words in sorted(written):
        names = [word for word in words if re.fullmatch(r"[a-z]+", word)]
        page = modelmgr(*names, "--help")
        assert page.returncode == 0, page.stderr
        assert set(words) - set(names) <= {*page.stdout.split(), "MODELS.yaml"}


def test_the_tables_of_the_readme_name_every_command_loader_and_exit_status(tmp_path: Path) -> None:
    def commands(*group: str) -> set[str]:
        page = Program(tmp_path)(*group, "--help").stdout
        listed = page.partition("\nCommands:\n")[2].partition("\n\n")[0]
        names = re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE)
        return {shlex.join(["modelmgr", *group, name]) for name in names}

    every = (commands() | commands("costs")) - {"modelmgr costs"}
    assert set(_first_column("command")) == every
    assert set(_first_column("loader")) == set(LOADER_NAMES)
    assert [int(status) for status in _first_column("exit status")] == list(Outcome)


def test_the_output_in_the_readme_is_of_the_list_that_make_profile_measures() -> None:
    shown, details = _blocks("text")
    tags = [spec.tag for spec in read_model_list(_ROOT / "scenarios" / "quickstart.yaml").models]

    assert [tag for tag in tags if f"\n{tag} " not in shown] == []
    assert details.startswith("bert-base ")


@pytest.mark.parametrize("page", _PAGES)
def test_the_files_that_the_pages_link_to_exist(page: str) -> None:
    here = (_ROOT / page).parent
    links = re.findall(r"\]\(([^)#:]+)\)", (_ROOT / page).read_text(encoding="utf-8"))

    assert [link for link in links if not (here / link).exists()] == []
