"""What people write behind --fail-on and into a file of thresholds, and what they are told."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import yaml

from modelmgr.comparing.catalogue import CATALOGUE, DEFAULTS, Compared
from modelmgr.comparing.limits import parse_limit
from modelmgr.comparing.schema import json_schema
from modelmgr.comparing.threshold_file import read_threshold_file
from modelmgr.comparing.thresholds import (
    default_thresholds,
    parse_threshold,
    read_thresholds,
)
from modelmgr.errors import InputError, UsageError


@pytest.mark.parametrize(
    ("text", "compared", "meant"),
    [
        ("peak_bytes:5%", "costs", "peak_bytes:5%"),
        ("peak_bytes", "costs", "peak_bytes:0"),
        ("bert:peak_bytes:2%", "costs", "bert:peak_bytes:2%"),
        ("org/bert:v2:peak_bytes:64 MiB", "costs", "org/bert:v2:peak_bytes:64 MiB"),
        ("latency_ns:10%+1ms", "costs", "shapes.latency_ns:10%+1ms"),
        ("shapes[b=2 a=1].latency_ns.p95:3%", "costs", "shapes[a=1 b=2].latency_ns.p95:3%"),
        ("second_copy_bytes:1%", "costs", "copies.second_copy_bytes:1%"),
        ("wait_ns.p95:10%", "result", "wait_ns.p95:10%"),
        ("reload_cost_ns:0", "result", "reload_cost_ns:0"),
        ("decisions", "result", "decisions"),
        ("bert:wait_ns.p95:3%", "result", "bert:models.wait_ns.p95:3%"),
        ("models.loads:1", "result", "models.loads:1"),
        ("peak_bytes:1%", "result", "devices.peak_bytes:1%"),
    ],
)
def test_a_threshold_is_read_as_it_is_meant(text: str, compared: Compared, meant: str) -> None:
    threshold = parse_threshold(text, compared)
    assert str(threshold) == meant
    assert parse_threshold(meant, compared) == threshold


@pytest.mark.parametrize(
    ("text", "compared", "told"),
    [
        ("peak_byte:5%", "costs", "did you mean 'peak_bytes'?"),
        ("bert:peek_bytes:5%", "costs", "did you mean 'peak_bytes'?"),
        ("wait_n.p95:5%", "result", "did you mean 'wait_ns.p95'?"),
        ("wait_ns.p95:5%", "costs", "a figure of modelmgr.result files"),
        ("load_ns:5%", "result", "a figure of modelmgr.costs files"),
        ("decisions", "costs", "a figure of modelmgr.result files"),
        ("decisions:5%", "result", "write 'decisions'"),
        ("bert:decisions", "result", "write 'decisions'"),
        ("peak_bytes:5 ms", "costs", "write for example '5%' or '64 MiB'"),
        ("wait_ns.p95:5 MiB", "result", "write for example '5%' or '5 ms'"),
        ("loads:5 ms", "result", "write for example '5%' or 3"),
        ("peak_bytes:-5%", "costs", "is no limit"),
        ("shapes.throughput_per_s:5%", "costs", "write 'shapes.latency_ns'"),
        ("bert:reload_cost_ns:5%", "result", "of a single model"),
        ("", "costs", "names no figure; write for example 'peak_bytes:5%'"),
        ("peak_bytes:", "costs", "'peak_bytes:' names no figure"),
        ("bert:wait_ns.p95:", "result", "write for example 'wait_ns.p95:10%'"),
        ("peak_bytes:0.05", "costs", "for a share write '5%'"),
        ("wait_ns.p95:1%+0.5", "result", "for a share write '50%'"),
    ],
)
def test_a_threshold_that_is_none_is_refused_with_what_to_write(
    text: str, compared: Compared, told: str
) -> None:
    with pytest.raises(UsageError, match=r".") as refused:
        parse_threshold(text, compared)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_limits_are_exact_and_add_up() -> None:
    limit = parse_limit("0.1% + 1 KiB", "bytes")
    assert limit.allowed(1_000_000) == 1_000 + 1024
    assert parse_limit("33.3%", "ns").allowed(1000) == Fraction(333)
    assert parse_limit("7", "count").allowed(10**12) == 7


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_figures_of_their_kind(name: str) -> None:
    compared: Compared = "costs" if name == "costs" else "result"
    thresholds = default_thresholds(compared, None if compared == "costs" else name)
    assert {each.figure for each in thresholds.given} <= set(CATALOGUE[compared])
    again = read_thresholds(map(str, thresholds.given), compared)
    assert [str(each) for each in again.given] == [str(each) for each in thresholds.given]


FILE = """\
schema_version: 1
fail_on: {peak_bytes: 5%, shapes.latency_ns: 10%, wait_ns.p95: 10%, decisions: true, loads: 0}
models:
  bert: {load_ns: 30%+50ms, wait_ns.p95: 3%}
"""


def test_one_file_serves_cost_databases_and_results(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(FILE)
    jsonschema.validate(yaml.safe_load(FILE), json_schema("thresholds"))
    assert list(map(str, read_threshold_file(path, "costs"))) == [
        "peak_bytes:5%",
        "shapes.latency_ns:10%",
        "bert:load_ns:30%+50ms",
    ]
    assert list(map(str, read_threshold_file(path, "result"))) == [
        "devices.peak_bytes:5%",
        "wait_ns.p95:10%",
        "decisions",
        "loads:0",
        "bert:models.wait_ns.p95:3%",
    ]


def test_decisions_that_need_not_be_the_same_are_no_threshold(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("schema_version: 1\nfail_on: {decisions: false, loads: 0}\n")
    assert list(map(str, read_threshold_file(path, "result"))) == ["loads:0"]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("schema_version: 1\nfail_on:\n  peak_byte: 5%\n", 3, "there is no figure 'peak_byte'"),
        ("schema_version: 1\nfail_on:\n  peak_bytes: 5 ms\n", 3, "'5 ms' is no limit"),
        ("schema_version: 1\nfail_on:\n  peak_bytes: true\n", 3, "a limit such as 5%, not true"),
        ("schema_version: 1\nfail_on:\n  decisions: 3\n", 3, "true or false, not 3"),
        ("schema_version: 1\nfail_on: [peak_bytes]\n", 2, "not a list"),
        ("schema_version: 2\nfail_on: {peak_bytes: 5%}\n", 1, "newer modelmgr"),
        ("schema_version: 1\nfailon: {peak_bytes: 5%}\n", 2, "did you mean 'fail_on'?"),
        ("schema_version: 1\nfail_on: {}\n", 1, "has no threshold"),
        ("schema_version: 1\nmodels: {a: {decisions: true}}\n", 2, "write 'decisions'"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_threshold_file(path, "result")
    assert refused.value.line == line
    assert told in str(refused.value)


@pytest.mark.parametrize("kind", ["thresholds", "comparison"])
def test_the_schemas_are_schemas(kind: str) -> None:
    schema = json.loads(json.dumps(json_schema(kind)))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == f"modelmgr.{kind}"
