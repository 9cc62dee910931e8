"""README and docs: what they say is done and compared, and nothing that there is goes unsaid."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

import modelmgr
import modelmgr_cli
from modelmgr import errors
from modelmgr.comparing.catalogue import (
    CATALOGUE,
    DEFAULTS,
    MEASURED_STATISTICS,
    RUN_STATISTICS,
)
from modelmgr.comparing.schema import json_schema
from modelmgr.measuring.settings import IsolationAction
from modelmgr.reporting.metrics import ManagerCollector
from modelmgr.scheduling.policies import POLICIES
from modelmgr.simulation.slo import FIGURES
from modelmgr.testing.fake_device import FakeDevice
from modelmgr.workers.loaders.registry import LOADER_NAMES
from modelmgr.workload.scenario import ArrivalPattern, FaultKind
from modelmgr_cli.outcome import Outcome
from support.console_blocks import is_shown
from support.page_walk import Walk
from support.program_options import commands
from support.schema_cells import definitions, keys_of
from support.written_pages import (
    PAGES,
    ROOT,
    Block,
    Table,
    headings,
    links,
    prose,
    read_blocks,
    read_tables,
    source_of,
)

_PAGES_WITH_LINKS = (*PAGES, ".github/CONTRIBUTING.md", ".github/CHANGELOG.md")
_LANGUAGES = {"console", "csv", "json", "mermaid", "python", "text", "toml", "yaml"}
_BLOCKS = [block for page in PAGES for block in read_blocks(page)]
_TABLES = [table for page in PAGES for table in read_tables(page)]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with Walk(tmp_path_factory.mktemp("pages")) as walk:
        yield walk


@cache
def _sources() -> str:
    """Return the text of every module of both packages."""
    folders = [Path(str(module.__file__)).parent for module in (modelmgr, modelmgr_cli)]
    return "\n".join(p.read_text("utf-8") for folder in folders for p in folder.rglob("*.py"))


def _of_language(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in _BLOCKS if block.language in languages]


def _marked(mark: str) -> dict[str, Table]:
    """Return the tables with a mark by what it says."""
    found = [(table.marks[mark], table) for table in _TABLES if mark in table.marks]
    assert len({name for name, _ in found}) == len(found), f"twice: {Counter(n for n, _ in found)}"
    return dict(found)


def _headed(*head: str) -> Table:
    """Return the only table with these columns."""
    (table,) = (table for table in _TABLES if table.head == head)
    return table


# What the pages do -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_does_works_and_shows_what_it_says(page: str, walk: Walk) -> None:
    problems = [problem for told in walk.follow(page) if (problem := told.problem)]

    assert not problems, "\n\n".join(problems)


@pytest.mark.parametrize("block", _of_language("yaml"))
def test_every_yaml_block_is_what_its_reader_takes(block: Block) -> None:
    document: Any = yaml.safe_load(block.text)
    kinds = {"workload": "scenario", "fail_on": "thresholds", "models": "models"}
    kind = next(kind for key, kind in kinds.items() if key in document)

    jsonschema.validate(document, json_schema(kind))


@pytest.mark.parametrize("block", _of_language("json"))
def test_every_json_block_is_of_a_kind_of_file(block: Block) -> None:
    document: Any = json.loads(block.text)

    jsonschema.validate(document, json_schema(document["kind"]))


def test_every_block_is_of_a_language_that_is_looked_at() -> None:
    assert {block.language for block in _BLOCKS} <= _LANGUAGES


def test_a_block_of_text_says_where_it_comes_from() -> None:
    unsaid = [b.place for b in _BLOCKS if b.language == "text" and "output of" not in b.marks]
    assert unsaid == []


@pytest.mark.parametrize(
    ("shown", "real", "measured", "holds"),
    [
        (["a 1"], ["a 1"], False, True),
        (["a 1"], ["a 2"], False, False),
        (["a 1.5 MiB"], ["a  12 GiB"], True, True),
        (["a 1.5 MiB"], ["b  12 GiB"], True, False),
        (["a", "...", "d"], ["a", "b", "c", "d"], False, True),
        (["a", "...", "d"], ["a", "b", "c"], False, False),
        (["..."], [], False, True),
        (["a", "..."], ["b", "a"], False, False),
    ],
)
def test_a_page_that_shows_something_else_is_noticed(
    shown: list[str], real: list[str], *, measured: bool, holds: bool
) -> None:
    assert is_shown(shown, real, measured=measured) is holds


# What there is is said ---------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "rows"), commands().items())
def test_every_command_and_option_is_documented(command: str, rows: list[tuple[str, str]]) -> None:
    assert list(_marked("options of")[command].rows) == rows


def test_no_command_is_documented_that_is_not_there() -> None:
    listed = _headed("command", "what it does").column("command")

    assert set(_marked("options of")) == set(commands())
    assert {name.partition("`]")[0].strip("[`") for name in listed} == set(commands()) - {
        "modelmgr"
    }


def _in_text(page: str) -> set[str]:
    """Return what stands in backticks in a page's text and tables."""
    cells = [cell for table in read_tables(page) for row in table.rows for cell in row]
    return {code for text in [*prose(page), *cells] for code in re.findall(r"`([^`]+)`", text)}


def _options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


@pytest.mark.parametrize("page", _PAGES_WITH_LINKS)
def test_every_command_and_option_in_the_text_exists(page: str) -> None:
    known = {
        command: _options_in(" ".join(option for option, _ in rows))
        for command, rows in commands().items()
    }
    groups = {command.rpartition(" ")[0] for command in known}
    shared = known["modelmgr"] | {"--help"}
    anywhere = shared.union(*known.values(), re.findall(r'"(--modelmgr-[a-z-]+)"', _sources()))

    wrong: list[str] = []
    for code in sorted(_in_text(page)):
        if re.match("modelmgr [a-z]", code):
            named = [command for command in known if f"{code} ".startswith(f"{command} ")]
            command = max(named, key=len)
            is_there = command != "modelmgr" or code in groups
            allowed = known[command] | shared
        else:
            is_there, allowed = True, anywhere
        if not is_there or not _options_in(code) <= allowed:
            wrong.append(code)
    assert wrong == []


@pytest.mark.parametrize(("name", "definition"), definitions().items())
def test_every_key_of_a_file_is_documented_with_its_type_and_default(
    name: str, definition: Mapping[str, Any]
) -> None:
    documented = [
        (row[0].strip("`"), row[1], row[2])
        for table in _TABLES
        if name in table.marks.get("keys of", "").split()
        for row in table.rows
    ]

    keys = [(key, kind, default) for key, (kind, default) in keys_of(definition).items()]
    assert sorted(documented) == sorted(keys)


def test_no_object_is_documented_that_no_file_has() -> None:
    named = {name for table in _TABLES for name in table.marks.get("keys of", "").split()}
    assert named == set(definitions())


def test_every_exit_status_is_documented() -> None:
    assert [int(status) for status in _headed("exit status", "meaning").column("exit status")] == [
        *Outcome
    ]


def test_every_environment_variable_that_is_read_is_documented() -> None:
    read = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', _sources()))
    asked_by_shells = {"COMP_WORDS", "_TYPER_COMPLETE_ARGS"}

    assert set(_headed("variable", "effect").column("variable")) == read - asked_by_shells


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (("loader", "what it loads"), LOADER_NAMES),
        (("policy", "which idle copies go"), POLICIES),
        (("`arrivals.pattern`", "keys", "when requests come"), get_args(ArrivalPattern)),
        (("kind", "needs", "what happens"), get_args(FaultKind)),
        (("action", "what happens"), get_args(IsolationAction)),
    ],
)
def test_every_choice_is_documented(head: tuple[str, ...], names: list[str]) -> None:
    assert sorted(_headed(*head).column(head[0])) == sorted(names)


def test_every_figure_of_a_goal_is_documented() -> None:
    cells = _headed("figure", "value").column("figure")
    assert sorted(re.findall(r"\w+", " ".join(cells))) == sorted(FIGURES)


@pytest.mark.parametrize(
    ("title", "kind"),
    [("cost databases", "costs"), ("simulations", "simulate"), ("real runs", "run")],
)
def test_every_limit_that_holds_by_itself_is_documented(title: str, kind: str) -> None:
    table = _marked("limits of")["compare"]
    limits = zip(table.column("figure"), table.column(title), strict=True)

    assert {figure: limit for figure, limit in limits if limit} == DEFAULTS[kind]


def test_every_figure_that_can_be_compared_is_documented_with_what_is_worse() -> None:
    directions = {"more": "lower", "less": "higher", "neither": "neither"}  # the good one
    documented = {
        (row[0], figure, directions[row[1]])
        for row in _marked("figures of")["compare"].rows
        for figure in re.findall(r"[\w.]+", row[2])
    }

    statistics = {*MEASURED_STATISTICS, *RUN_STATISTICS} - {""}
    assert documented == {
        (compared, known.name, known.good)
        for compared, catalogue in CATALOGUE.items()
        for known in catalogue.values()
        if not known.name.endswith(tuple(statistics))
    }


@pytest.mark.parametrize("name", ["GPUMonitor", "ModelManager", "ResourceEstimator"])
def test_every_argument_of_a_public_class_is_documented_with_its_default(name: str) -> None:
    parameters = inspect.signature(getattr(modelmgr, name)).parameters.values()
    table = _marked("arguments of")[name]

    documented = list(zip(table.column("argument"), table.column("default"), strict=True))
    assert documented == [(parameter.name, repr(parameter.default)) for parameter in parameters]


def test_every_method_of_the_manager_is_documented() -> None:
    public = inspect.getmembers(modelmgr.ModelManager, inspect.isfunction)
    documented = _marked("methods of")["ModelManager"].column("method")

    assert sorted(documented) == [name for name, _ in public if not name.startswith("_")]


def test_every_error_is_documented_with_what_it_is() -> None:
    table = _marked("errors of")["modelmgr"]
    documented = {
        name: set(re.findall(r"\w+", bases))
        for name, bases in zip(table.column("error"), table.column("is a"), strict=True)
    }

    exported = [getattr(errors, name) for name in modelmgr.__all__ if name.endswith("Error")]
    assert documented == {
        error.__name__: {base.__name__ for base in error.__bases__} for error in exported
    }


def test_every_public_name_is_on_the_library_s_page() -> None:
    page = source_of("docs/library.md")
    missing = [n for n in modelmgr.__all__ if not re.search(rf"\b{n}\b", page)]

    assert missing == ["__version__"]


def test_every_metric_is_documented() -> None:
    with modelmgr.ModelManager(FakeDevice()) as manager:
        families = list(ManagerCollector(manager.snapshot, ["bert"]).collect())
    ends = {"counter": "_total", "info": "_info"}
    names = [family.name + ends.get(family.type, "") for family in families]

    assert sorted(_marked("metrics of")["ManagerCollector"].column("metric")) == sorted(names)


@pytest.mark.parametrize(
    "mark", ["arguments of", "errors of", "keys of", "methods of", "options of"]
)
def test_every_row_says_something(mark: str) -> None:
    empty = [
        f"{table.page}:{table.line} {row[0]}"
        for table in _TABLES
        if mark in table.marks
        for row in table.rows
        # A key with one possible value needs no words: the object's heading has them.
        if not row[-1] and not re.fullmatch("`[^`]*`", row[1])
    ]
    assert empty == []


# How the pages hang together ---------------------------------------------------------------------


@pytest.mark.parametrize("page", _PAGES_WITH_LINKS)
def test_what_a_page_links_to_is_there(page: str) -> None:
    here = (ROOT / page).parent
    broken: list[str] = []
    for link in links(page):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (here / file).resolve() if file else ROOT / page
        known = headings(str(target.relative_to(ROOT))) if anchor and target.is_file() else []
        if not target.exists() or (anchor and anchor not in known):
            broken.append(link)

    assert broken == []


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert {page for page in PAGES if page.startswith("docs/")} <= linked


def test_nothing_is_said_twice() -> None:
    sentences = Counter(
        sentence
        for page in PAGES
        for text in prose(page)
        for sentence in re.split(r"(?<=[.:;?!]) ", text)
        if len(sentence.split()) >= 8
    )

    assert [sentence for sentence, times in sentences.items() if times > 1] == []
