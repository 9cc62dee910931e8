"""A comparison's exports are read by readers that are not ours."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import msgspec
import pytest
import xmlschema

from modelmgr.comparing.compare import compare_costs, compare_results
from modelmgr.comparing.comparison import Comparison, NotedModel
from modelmgr.comparing.thresholds import read_thresholds
from modelmgr.records.costs import CostDatabase
from modelmgr.reporting.comparison_export import ComparisonFormat, export_comparison
from support.command_line import make_cost, make_database
from support.scenario_results import make_result

_JUNIT_XSD = Path(__file__).with_name("junit.xsd")


def read_junit(text: str) -> Any:
    """Return the report as another project's reader has it, whose attributes have no types."""
    return junitparser.JUnitXml.fromstring(text.encode())


def changed(**models: object) -> CostDatabase:
    database = make_database()
    return msgspec.structs.replace(database, models={**database.models, **models})


@pytest.fixture
def worse() -> Comparison:
    """Return a comparison with a larger model, a slower one and a few that are the same."""
    new = changed(
        **{"bert-base": make_cost(500, 171.3, 145.1), "t5-small": make_cost(230.8, 12.4, 90)}
    )
    return compare_costs(make_database(), new, keep_same=True, names=("old.json", "new.json"))


@pytest.fixture
def odd() -> Comparison:
    """Return a comparison whose every text is hostile to a format."""
    tag = 'a|b`<&>"\x00\x1b[31m\n]]>*_[x](y)'
    database = make_database()
    cost = make_cost(100, 10, 50)
    old = msgspec.structs.replace(database, models={tag: cost, "gone": cost})
    new = msgspec.structs.replace(database, models={tag: make_cost(200, 20, 50)})
    found = compare_costs(old, new, keep_same=True, names=("<old>", "new|.json"))
    return msgspec.structs.replace(found, failing=(NotedModel(model=tag, message="]]>&\x00<b>"),))


@pytest.mark.parametrize("which", ["worse", "odd"])
def test_junit_is_valid_by_its_schema_and_another_reader_agrees(
    which: str, request: pytest.FixtureRequest
) -> None:
    found: Comparison = request.getfixturevalue(which)
    text = export_comparison(found, "junit")
    xmlschema.XMLSchema(str(_JUNIT_XSD)).validate(text)
    report = read_junit(text)
    failures = sum(each.failed for each in found.figures)
    failures += len(found.vanished) + len(found.failing)
    gated = sum(each.gated for each in found.figures)
    assert report.failures == failures > 0
    assert report.tests == gated + len(found.vanished) + len(found.failing)
    cases = [case for suite in report for case in suite]
    assert len(cases) == report.tests
    failed = [
        case for case in cases if any(isinstance(r, junitparser.Failure) for r in case.result)
    ]
    assert len(failed) == failures


def test_junit_names_model_and_figure_of_what_failed(worse: Comparison) -> None:
    report = read_junit(export_comparison(worse, "junit"))
    cases = {(case.classname, case.name): case for suite in report for case in suite}
    (failure,) = cases["bert-base", "peak_bytes"].result
    message: str = failure.message
    assert "bert-base peak_bytes" in message
    assert "limit 5%+256KiB" in message
    assert not any(
        isinstance(result, junitparser.Failure) for result in cases["t5-small", "peak_bytes"].result
    )


def test_junit_of_results_has_the_decisions() -> None:
    old, new = make_result(), make_result(log=b"other")
    found = compare_results(old, new, read_thresholds(["decisions"], "result"))
    text = export_comparison(found, "junit")
    xmlschema.XMLSchema(str(_JUNIT_XSD)).validate(text)
    report = read_junit(text)
    assert (report.tests, report.failures) == (1, 1)


# As its README documents customSmallerIsBetter.
_BENCHMARK_ACTION = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string", "minLength": 1},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
    },
}


@pytest.mark.parametrize("which", ["worse", "odd"])
def test_benchmark_action_gets_the_shape_that_it_documents(
    which: str, request: pytest.FixtureRequest
) -> None:
    found: Comparison = request.getfixturevalue(which)
    entries = json.loads(export_comparison(found, "benchmark-action"))
    jsonschema.validate(entries, _BENCHMARK_ACTION)
    assert len(entries) == sum(each.gated for each in found.figures) > 0
    assert len({entry["name"] for entry in entries}) == len(entries)
    if which == "worse":
        values = {entry["name"]: entry["value"] for entry in entries}
        peak = make_cost(500, 171.3, 145.1).peak_bytes
        assert peak is not None
        assert values["bert-base peak_bytes"] == peak.value


# https://bencher.dev/bmf.json, and the lengths that its reference gives.
_BENCHER = {
    "type": "object",
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64},
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "additionalProperties": False,
            "properties": {
                "value": {"type": "number"},
                "lower_value": {"type": "number"},
                "upper_value": {"type": "number"},
            },
        },
    },
}


@pytest.mark.parametrize("which", ["worse", "odd"])
def test_bencher_gets_its_metric_format(which: str, request: pytest.FixtureRequest) -> None:
    found: Comparison = request.getfixturevalue(which)
    benchmarks = json.loads(export_comparison(found, "bencher"))
    jsonschema.validate(benchmarks, _BENCHER)
    metrics = [metric for measures in benchmarks.values() for metric in measures.values()]
    assert len(metrics) == sum(each.gated for each in found.figures)
    for metric in metrics:
        assert metric.get("lower_value", metric["value"]) <= metric["value"]
        assert metric.get("upper_value", metric["value"]) >= metric["value"]
    if which == "worse":
        assert set(benchmarks["bert-base batch_size=4 sequence_length=128"]) == {
            "latency",
            "activation-bytes",
        }


def test_csv_has_every_figure_unrounded(worse: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(export_comparison(worse, "csv"), newline="")))
    assert len(rows) == len(worse.figures)
    by_name = {(row["model"], row["figure"]): row for row in rows}
    for each in worse.figures:
        row = by_name[each.model or "", each.figure]
        assert (row["verdict"], int(row["new"])) == (each.verdict, each.new)
        assert (row["low_99"] == "") == (each.interval_99 is None)


def test_markdown_has_a_row_for_each_figure_that_moved(worse: Comparison) -> None:
    text = export_comparison(worse, "markdown")
    moved = [each for each in worse.figures if each.verdict != "same"]
    assert text.count("\n| ") == len(moved) + 2
    assert text.startswith("### old.json and new.json: It got worse.")
    assert "| ❌ worse | bert-base peak\\_bytes |" in text


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_no_text_breaks_out_of_its_cell(odd: Comparison, form: ComparisonFormat) -> None:
    text = export_comparison(odd, form)
    if form == "csv":
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {15}
    else:
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        cells = {line.replace("\\|", "").count("|") for line in lines}
        assert cells == {9}
        assert "<b>" not in text.replace("\\<", "")


@pytest.mark.parametrize("form", ["bencher", "benchmark-action"])
def test_an_interval_without_end_is_left_out_and_not_null(
    worse: Comparison, form: ComparisonFormat
) -> None:
    """Two wild samples have an interval beyond the largest number there is."""
    endless = tuple(
        msgspec.structs.replace(each, old=10**12, new=10**12, interval_99=(-1.0, 1e304))
        for each in worse.figures
    )
    text = export_comparison(msgspec.structs.replace(worse, figures=endless), form)
    assert "null" not in text
    assert "inf" not in text
