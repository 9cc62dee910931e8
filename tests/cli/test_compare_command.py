"""``modelmgr compare``: what it answers, how it ends, what it tells of a file that is no good."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from modelmgr.comparing.schema import json_schema
from modelmgr.records.codec import encode_costs, save_costs
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.result_codec import encode_result
from modelmgr.units import MIB
from support.command_line import Finished, Program, make_cost
from support.scenario_results import make_result


@pytest.fixture
def baseline(modelmgr: Program, database: CostDatabase) -> Path:
    path = modelmgr.folder / "baseline.json"
    save_costs(database, path)
    return path


def _save(modelmgr: Program, database: CostDatabase, **models: ModelCost) -> None:
    changed = msgspec.structs.replace(database, models={**database.models, **models})
    save_costs(changed, modelmgr.folder / "new.json")


def _said(finished: Finished, status: int) -> str:
    assert finished.returncode == status, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout


def test_a_file_compared_with_itself_is_fine(modelmgr: Program, baseline: Path) -> None:
    said = _said(modelmgr("compare", baseline.name, baseline.name), 0)
    assert said.startswith("Nothing got worse.")


def test_a_larger_model_fails_and_is_named_first(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(500, 171.3, 145.1)})
    said = _said(modelmgr("compare", baseline.name, "new.json"), 1)
    rows = [line for line in said.splitlines() if line.startswith("bert-base")]
    assert all("worse" in row for row in rows[:2])
    assert any(row.startswith("bert-base peak_bytes") for row in rows)
    assert max(map(len, said.splitlines())) <= 100
    assert "It got worse." in said


def test_json_is_the_whole_comparison_and_keeps_to_its_schema(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(417.6, 171.3, 450)})
    finished = modelmgr(
        "compare", baseline.name, "new.json", "--json", "--fail-on", "peak_bytes:5%"
    )
    found = json.loads(_said(finished, 0))
    jsonschema.validate(found, json_schema("comparison"))
    assert (found["kind"], found["compared"], found["ending"]) == (
        "modelmgr.comparison",
        "costs",
        "fine",
    )
    assert found["thresholds"] == ["peak_bytes:5%"]
    gated = {each["figure"] for each in found["figures"] if each["gated"]}
    assert gated == {"peak_bytes"}
    slower = {each["figure"] for each in found["figures"] if each["verdict"] == "worse"}
    assert any("latency_ns" in figure for figure in slower)


def test_a_models_threshold_and_a_file_of_them_decide(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(438, 171.3, 145.1)})
    compare: Callable[..., Finished] = lambda *more: modelmgr(  # noqa: E731
        "compare", baseline.name, "new.json", *more
    )
    _said(compare("--fail-on", "peak_bytes:5%"), 0)
    said = _said(compare("--fail-on", "peak_bytes:5%", "--fail-on", "bert-base:peak_bytes:2%"), 1)
    assert "2%" in said
    (modelmgr.folder / "gate.yaml").write_text(
        "schema_version: 1\nfail_on: {peak_bytes: 5%, wait_ns.p95: 1%}\n"
        "models: {bert-base: {peak_bytes: 2%}}\n"
    )
    _said(compare("--thresholds", "gate.yaml"), 1)
    _said(compare("--thresholds", "gate.yaml", "--fail-on", "bert-base:peak_bytes:64MiB"), 0)


def test_what_vanished_and_what_fails_now_is_said(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    left = {tag: cost for tag, cost in database.models.items() if tag != "bert-base"}
    left["t5-small"] = database.models["broken"]
    save_costs(msgspec.structs.replace(database, models=left), modelmgr.folder / "new.json")
    said = _said(modelmgr("compare", baseline.name, "new.json"), 1)
    assert "bert-base vanished: only baseline.json has it" in said
    assert "t5-small can no longer be measured: ModelLoadError" in said


def test_another_machine_is_named_before_the_figures(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    machine = msgspec.structs.replace(database.machine, packages={"torch": "2.14.0"})
    models = {**database.models, "bert-base": make_cost(500, 171.3, 145.1)}
    other = msgspec.structs.replace(database, machine=machine, models=models)
    save_costs(other, modelmgr.folder / "new.json")
    said = _said(modelmgr("compare", baseline.name, "new.json"), 5)
    assert said.startswith("another packages.torch: 2.13.0, now 2.14.0")
    assert "Nothing that is gated could be compared." in said
    _said(modelmgr("compare", baseline.name, "new.json", "--allow-mismatch"), 1)


def test_a_gate_of_a_model_that_is_nowhere_is_said_to_have_compared_nothing(
    modelmgr: Program, baseline: Path
) -> None:
    """Beside "53 figures: same" it said that nothing could be compared."""
    gate = "no-such-model:peak_bytes:5%"
    said = _said(modelmgr("compare", baseline.name, baseline.name, "--fail-on", gate), 5)
    assert f"{gate} gates nothing: no such model or shape in either" in said
    assert "Nothing that is gated could be compared. Figures: " in said


def test_what_is_too_noisy_says_what_to_do(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    peak = database.models["bert-base"].peak_bytes
    assert peak is not None
    samples = tuple(round(peak.value * share) for share in (0.7, 1.1, 1.6))
    noisy = msgspec.structs.replace(peak, value=samples[1], evidence="sampled", samples=samples)
    model = msgspec.structs.replace(database.models["bert-base"], peak_bytes=noisy, ledger=None)
    _save(modelmgr, database, **{"bert-base": model})
    gate = ("--fail-on", "peak_bytes:5%")
    said = _said(modelmgr("compare", baseline.name, "new.json", *gate), 4)
    assert "Too noisy to say: measure both with more repeats. Figures: " in said


def test_without_a_baseline_it_ends_with_5_and_can_make_one(
    modelmgr: Program, database: CostDatabase
) -> None:
    _save(modelmgr, database)
    missing = modelmgr("compare", "baseline.json", "new.json")
    _said(missing, 5)
    assert "there is no baseline" in missing.stderr
    assert "--update-baseline" in missing.stderr
    _said(modelmgr("compare", "baseline.json", "new.json", "--update-baseline"), 0)
    written = (modelmgr.folder / "baseline.json").read_bytes()
    assert written == (modelmgr.folder / "new.json").read_bytes()


@pytest.mark.parametrize("there", [True, False])
def test_a_new_file_that_is_a_pipe_becomes_the_baseline_in_whole(
    modelmgr: Program, baseline: Path, database: CostDatabase, there: bool
) -> None:
    """It was read twice, and the second time there was nothing left: an empty baseline."""
    content = encode_costs(
        msgspec.structs.replace(database, models={"bert-base": make_cost(500, 171.3, 145.1)})
    )
    if not there:
        baseline.unlink()
    pipe = modelmgr.folder / "new.json"
    os.mkfifo(pipe)
    keeps_it = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # what is written stays until it is read
    pipe.write_bytes(content)
    _said(modelmgr("compare", baseline.name, "new.json", "--update-baseline"), 0)
    os.close(keeps_it)
    assert baseline.read_bytes() == content


def test_updating_the_baseline_takes_what_is_worse(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(500, 171.3, 145.1)})
    said = _said(modelmgr("compare", baseline.name, "new.json", "--update-baseline"), 0)
    assert "It got worse." in said
    assert baseline.read_bytes() == (modelmgr.folder / "new.json").read_bytes()
    assert not list(modelmgr.folder.glob(".*.tmp"))
    _said(modelmgr("compare", baseline.name, "new.json"), 0)


_HEAD = '{"schema_version": 1, "kind": "modelmgr.%s"'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"not json at all", "not JSON"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[1, 2]", "must be a mapping"),
        (b"{}", "is a file without a 'kind'"),
        ((_HEAD % "sweep").encode() + b"}", "is a file of kind 'modelmgr.sweep'"),
        ((_HEAD % "costs").encode(), "cut short"),
        (b'{"schema_version": 99, "kind": "modelmgr.costs"}', "written by a newer modelmgr"),
        (b'{"schema_version": 99, "kind": "modelmgr.result"}', "written by a newer modelmgr"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=[
        *("empty", "blank", "text", "binary", "list", "no kind", "another kind", "truncated"),
        *("newer costs", "newer result", "deep"),
    ],
)
def test_a_file_that_is_no_good_gets_one_clear_message(
    modelmgr: Program, baseline: Path, content: bytes, told: str
) -> None:
    (modelmgr.folder / "new.json").write_bytes(content)
    refused = modelmgr("compare", baseline.name, "new.json")
    _said(refused, 2)
    assert refused.stderr.startswith("error: new.json")
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) <= 2
    assert not refused.stdout


def test_a_file_of_500_mb_is_refused_by_its_size(modelmgr: Program, baseline: Path) -> None:
    with (modelmgr.folder / "new.json").open("wb") as file:
        file.truncate(500_000_000)
    refused = modelmgr("compare", baseline.name, "new.json")
    _said(refused, 2)
    assert "is 476.8 MiB large" in refused.stderr


def test_files_of_different_kinds_are_refused(modelmgr: Program, baseline: Path) -> None:
    (modelmgr.folder / "new.json").write_bytes(encode_result(make_result()))
    refused = modelmgr("compare", baseline.name, "new.json")
    _said(refused, 2)
    assert "new.json: is of kind 'modelmgr.result', and baseline.json is of kind" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fail-on", "peak_byte:5%"), "did you mean 'peak_bytes'?"),
        (("--fail-on", "wait_ns.p95:5%"), "a figure of modelmgr.result files"),
        (("--fail-on", "peak_bytes:5 parsecs"), "is no limit"),
        (("--export", "junitt"), "Did you mean 'junit'?"),
        (("--export", "csv="), "names no file"),
        (("--export", "csv=baseline.json"), "is the baseline too and would be replaced"),
        (("--thresholds", "gate.yml"), "there is no such file of thresholds"),
    ],
)
def test_wrong_usage_is_told_in_one_message(
    modelmgr: Program, baseline: Path, arguments: tuple[str, ...], told: str
) -> None:
    before = baseline.read_bytes()
    refused = modelmgr("compare", baseline.name, baseline.name, *arguments)
    _said(refused, 2)
    assert told in refused.stderr
    assert baseline.read_bytes() == before


def test_a_new_file_that_is_not_there_is_bad_input(modelmgr: Program, baseline: Path) -> None:
    refused = modelmgr("compare", baseline.name, "basline.json")
    _said(refused, 2)
    assert "did you mean 'baseline.json'?" in refused.stderr


@pytest.mark.parametrize("export", [(), ("--export", "csv")], ids=["plain", "export"])
@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_bad_input_on_either_side(
    modelmgr: Program, baseline: Path, path: str, export: tuple[str, ...]
) -> None:
    """An unset variable of a shell script was told to be a bug of modelmgr."""
    for sides in ((path, baseline.name), (baseline.name, path)):
        refused = modelmgr("compare", *sides, *export)
        _said(refused, 2)
        assert refused.stderr.startswith(f"error: {path or '.'}: is a folder, not a cost database")


def test_a_limit_is_read_though_there_is_no_baseline_yet(
    modelmgr: Program, database: CostDatabase
) -> None:
    _save(modelmgr, database)
    refused = modelmgr("compare", "baseline.json", "new.json", "--fail-on", "peak_byte:5%")
    _said(refused, 2)
    assert "did you mean 'peak_bytes'?" in refused.stderr


def test_exports_lie_beside_the_new_file_or_where_they_are_wanted(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(500, 171.3, 145.1)})
    asked = ("markdown", "csv", "junit=gate.xml", "benchmark-action", "bencher")
    options = [word for form in asked for word in ("--export", form)]
    finished = modelmgr("compare", baseline.name, "new.json", *options)
    _said(finished, 1)
    written = {path.name for path in modelmgr.folder.iterdir()}
    assert written >= {
        *("new-compared.md", "new-compared.csv", "gate.xml"),
        *("new-compared.benchmark-action.json", "new-compared.bencher.json"),
    }
    assert "❌ worse" in (modelmgr.folder / "new-compared.md").read_text()
    assert finished.stderr.count("written to") == len(asked)


def test_an_export_into_what_is_no_file_is_refused(modelmgr: Program, baseline: Path) -> None:
    """Once it was told that the folder /dev does not exist."""
    refused = modelmgr("compare", baseline.name, baseline.name, "--export", "csv=/dev/stdout")
    _said(refused, 2)
    assert "/dev/stdout is no regular file" in refused.stderr


def test_an_export_replaces_nothing_that_the_comparison_reads(
    modelmgr: Program, baseline: Path
) -> None:
    (modelmgr.folder / "gate.yaml").write_text("schema_version: 1\nfail_on: {peak_bytes: 5%}\n")
    (modelmgr.folder / "baseline.jsonl").write_text("the log\n")
    for name, called in (
        ("gate.yaml", "the file of thresholds"),
        ("baseline.jsonl", "the decision log"),
    ):
        before = (modelmgr.folder / name).read_bytes()
        refused = modelmgr(
            *("compare", baseline.name, baseline.name, "--thresholds", "gate.yaml"),
            *("--export", f"csv={name}"),
        )
        _said(refused, 2)
        assert called in refused.stderr
        assert (modelmgr.folder / name).read_bytes() == before


def test_an_export_makes_the_page_no_longer(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(500, 171.3, 145.1)})
    plain = _said(modelmgr("compare", baseline.name, "new.json"), 1)
    exported = _said(modelmgr("compare", baseline.name, "new.json", "--export", "csv"), 1)
    assert exported == plain


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140])
def test_every_figure_is_named_in_whole_however_narrow_the_terminal(
    modelmgr: Program, baseline: Path, database: CostDatabase, columns: int
) -> None:
    """A name cut to its model and two letters was that of several figures."""
    _save(modelmgr, database, **{"bert-base": make_cost(500, 171.3, 145.1)})
    finished = modelmgr("compare", baseline.name, "new.json", environment={"COLUMNS": str(columns)})
    said = _said(finished, 1)
    assert "\N{HORIZONTAL ELLIPSIS}" not in said
    lines = said.splitlines()
    for figure in ("peak_bytes", "load_peak_bytes", "ledger.weights_bytes"):
        assert sum(line.split()[:2] == ["bert-base", figure] for line in lines) == 1
    assert max(map(len, lines)) <= columns


def _decision(at_ns: int, copy: int) -> bytes:
    line: dict[str, Any] = {"at_ns": at_ns, "action_id": at_ns, "action": "start_unload"}
    line |= {"tag": "bert", "copy": copy, "device": "gpu0", "reason": "make-room"}
    return msgspec.json.encode(line | {"requested_by": "t5", "freed_bytes": MIB}) + b"\n"


def test_the_first_differing_decision_is_found_in_the_logs_beside_the_results(
    modelmgr: Program,
) -> None:
    for name, copies in (("old", (1, 2, 3)), ("new", (1, 3, 2))):
        log = b"".join(_decision(at, copy) for at, copy in enumerate(copies))
        (modelmgr.folder / f"{name}.jsonl").write_bytes(log)
        (modelmgr.folder / f"{name}.json").write_bytes(encode_result(make_result(log=log)))
    said = _said(modelmgr("compare", "old.json", "new.json", "--fail-on", "decisions"), 1)
    assert "Decisions: they differ: the same decisions in another order." in said
    assert "The first that differs is decision 2" in said
    assert "Before it, on both sides:\n  0 ns  start_unload bert copy 1" in said
    assert "baseline:\n  1 ns  start_unload bert copy 2" in said
    assert "new:\n  1 ns  start_unload bert copy 3" in said
    os.mkfifo(modelmgr.folder / "new.fifo.jsonl")  # nobody ever writes to it
    (modelmgr.folder / "new.jsonl").write_bytes(_decision(0, 9))  # another run's
    said = _said(modelmgr("compare", "old.json", "new.json"), 0)
    assert "there is no log of both" in said


def test_a_page_begins_with_what_it_says(modelmgr: Program) -> None:
    (modelmgr.folder / "old.json").write_bytes(encode_result(make_result()))
    said = _said(modelmgr("compare", "old.json", "old.json"), 0)
    assert said.startswith("Decisions: the same.\n")


def test_the_first_baseline_takes_the_log_along(modelmgr: Program) -> None:
    """Without it, a later gate on decisions could not say what led to the first other one."""
    (modelmgr.folder / "new.jsonl").write_bytes(_decision(0, 1))
    (modelmgr.folder / "new.json").write_bytes(encode_result(make_result(log=_decision(0, 1))))
    _said(modelmgr("compare", "old.json", "new.json", "--update-baseline"), 0)
    for suffix in ("json", "jsonl"):
        old, new = (modelmgr.folder / f"{name}.{suffix}" for name in ("old", "new"))
        assert old.read_bytes() == new.read_bytes()


def test_a_baseline_without_a_log_is_renewed_without_one(modelmgr: Program) -> None:
    (modelmgr.folder / "new.jsonl").write_bytes(_decision(0, 1))
    for name in ("old", "new"):
        content = encode_result(make_result(log=_decision(0, 1)))
        (modelmgr.folder / f"{name}.json").write_bytes(content)
    _said(modelmgr("compare", "old.json", "new.json", "--update-baseline"), 0)
    assert not (modelmgr.folder / "old.jsonl").exists()


def test_a_baseline_that_has_a_log_gets_the_new_one_with_the_new_result(modelmgr: Program) -> None:
    for name, copy in (("old", 1), ("new", 2)):
        (modelmgr.folder / f"{name}.jsonl").write_bytes(_decision(0, copy))
        (modelmgr.folder / f"{name}.json").write_bytes(
            encode_result(make_result(log=_decision(0, copy)))
        )
    _said(modelmgr("compare", "old.json", "new.json", "--update-baseline"), 0)
    for suffix in ("json", "jsonl"):
        old, new = (modelmgr.folder / f"{name}.{suffix}" for name in ("old", "new"))
        assert old.read_bytes() == new.read_bytes()


def test_a_larger_peak_says_which_part_of_the_ledger_grew(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    _save(modelmgr, database, **{"bert-base": make_cost(500, 171.3, 145.1)})
    said = _said(modelmgr("compare", baseline.name, "new.json"), 1)
    assert "bert-base peak_bytes: grown by: weights 82.4 MiB" in said


def test_a_database_of_the_same_content_in_another_order_is_the_same(
    modelmgr: Program, baseline: Path, database: CostDatabase
) -> None:
    turned = dict(reversed(database.models.items()))
    (modelmgr.folder / "new.json").write_bytes(
        encode_costs(msgspec.structs.replace(database, models=turned))
    )
    _said(modelmgr("compare", baseline.name, "new.json", "--fail-on", "peak_bytes:0"), 0)
