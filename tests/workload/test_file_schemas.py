"""An editor that checks a file by our schema agrees with our readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from modelmgr.errors import InputError, UsageError
from modelmgr.records.codec import decode_costs, encode_costs
from modelmgr.records.costs import CostDatabase
from modelmgr.workload.model_list import parse_model_list, read_model_list
from modelmgr.workload.schema import KINDS, json_schema
from support.record_strategies import DATABASES

_SCENARIOS = sorted(Path(__file__).parents[2].glob("scenarios/**/*.yaml"))
_VALIDATORS: dict[str, Any] = {kind: Draft202012Validator(json_schema(kind)) for kind in KINDS}

_GOOD = """\
schema_version: 1
defaults: {dtype: float32, batch_size: [1, 8], repeats: 3, input: {sequence_length: 32}}
models:
- {tag: a, loader: transformers, architecture: bert, config: {n: 2}, input: {batch_size: [1, 4]}}
- {tag: b, loader: transformers, model: "package:x/y", dtype: float16}
- {tag: h, loader: transformers, architecture: gpt2, options: {auto_class: AutoModelForCausalLM}}
- {tag: c, loader: torch, model: m.pt, arguments: [{shape: [batch_size, 3]}, {value: 1}]}
- {tag: d, loader: torch, target: "a.b:c", options: {x: 1}}
- {tag: e, loader: onnx, model: m.onnx}
- {tag: f, loader: python, target: "a:b", repeats: 1}
- {tag: g, loader: synthetic, options: {resident: 500 MiB, load: 300 ms, service: 1.5 s}}
"""


def _problems(kind: str, content: object) -> list[str]:
    return [error.message for error in _VALIDATORS[kind].iter_errors(content)]


@pytest.mark.parametrize("kind", [*KINDS, *KINDS.values()])
def test_every_kind_has_a_valid_schema(kind: str) -> None:
    schema = json_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == KINDS.get(kind, kind)
    assert schema["additionalProperties"] is False


def test_an_unknown_kind_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(UsageError, match=r"no kind 'model'; did you mean 'models'\?"):
        json_schema("model")


def test_a_good_list_passes_reader_and_schema() -> None:
    parse_model_list(_GOOD)
    assert _problems("models", yaml.safe_load(_GOOD)) == []


def test_the_lists_that_are_shipped_pass_reader_and_schema() -> None:
    for path in _SCENARIOS:
        content: dict[str, Any] = yaml.safe_load(path.read_text())
        if "workload" not in content:  # else a scenario, of another kind
            read_model_list(path)
            assert (path.name, _problems("models", content)) == (path.name, [])


@pytest.mark.parametrize(
    "bad",
    [
        "{tag: a, loader: python, target: 'a:b', optoins: {}}",
        "{tag: a, loader: transfomers, architecture: bert}",
        "{loader: python, target: 'a:b'}",
        "{tag: 7, loader: onnx, model: m}",
        "{tag: 'a b', loader: onnx, model: m}",
        '{tag: "a\\n", loader: onnx, model: m}',
        "{tag: a, loader: onnx}",
        "{tag: a, loader: transformers}",
        "{tag: a, loader: torch}",
        "{tag: a, loader: transformers, model: m, architecture: b}",
        "{tag: a, loader: transformers, architecture: b, options: {auto_clas: AutoModel}}",
        "{tag: a, loader: transformers, architecture: b, options: {auto_class: Bert}}",
        "{tag: a, loader: python, target: a.b}",
        "{tag: a, loader: onnx, model: m, dtype: floot16}",
        "{tag: a, loader: onnx, model: m, repeats: 0}",
        "{tag: a, loader: onnx, model: m, input: {n: -4}}",
        "{tag: a, loader: onnx, model: m, input: {n: []}}",
        "{tag: a, loader: onnx, model: m, input: {N-1: 1}}",
        "{tag: s, loader: synthetic}",
        "{tag: s, loader: synthetic, options: {resident: 500}}",
        "{tag: s, loader: synthetic, options: {resident: '500'}}",
        "{tag: s, loader: synthetic, options: {resident: -5 MiB}}",
        "{tag: s, loader: synthetic, options: {resident: 1 MiB, load: 3 MiB}}",
        "bert",
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(bad: str) -> None:
    text = f"schema_version: 1\nmodels:\n- {bad}\n"
    with pytest.raises(InputError):
        parse_model_list(text)
    assert _problems("models", yaml.safe_load(text))


@given(DATABASES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
def test_any_database_that_is_written_passes_the_schema(database: CostDatabase) -> None:
    content = msgspec.json.decode(encode_costs(database), type=object)
    assert _problems("costs", content) == []


_BAD_COSTS: list[dict[str, Any]] = [
    {"kind": "modelmgr.result"},
    {"schema_version": 2},
    {"unknown": 1},
    {"machine": {}},
    {"models": []},
]
_BAD_COST: list[dict[str, Any]] = [
    {"initial_estimate_bytes": None},
    {"initial_estimate_bytes": 0},
    {"resident": 3},
    {"resident_bytes": {"value": 1}},
    {"resident_bytes": {"value": 1, "evidence": "guess"}},
    {"method": "isolated"},
    {"observations": -1},
    {"shapes": [{"batch_size": 0}]},
    {"shapes": [{"latency_nss": {}}]},
    {"interval_95_bytes": [1]},
]


def _content(**cost: object) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "kind": "modelmgr.costs",
        "created_at": "2026-01-01T00:00:00Z",
        "tool": {"name": "modelmgr", "version": "0.1.0"},
        "machine": {
            "os": "Linux",
            "cpu": None,
            "python": "3.11",
            "packages": {},
            "device": {"kind": "host", "name": None, "total_bytes": None},
        },
        "models": {"bert": {"initial_estimate_bytes": 5, **cost}},
    }


def test_a_database_of_estimates_alone_passes_reader_and_schema() -> None:
    content = _content(shapes=[{"batch_size": 1}])
    assert decode_costs(msgspec.json.encode(content)).models["bert"].error is None
    assert _problems("costs", content) == []


@pytest.mark.parametrize("change", _BAD_COSTS, ids=lambda change: next(iter(change)))
def test_a_database_that_the_reader_refuses_the_schema_refuses(change: dict[str, Any]) -> None:
    content = _content() | change
    with pytest.raises(InputError):
        decode_costs(msgspec.json.encode(content))
    assert _problems("costs", content)


@pytest.mark.parametrize("change", _BAD_COST, ids=str)
def test_a_model_that_the_reader_refuses_the_schema_refuses(change: dict[str, Any]) -> None:
    content = _content(**change)
    assert decode_costs(msgspec.json.encode(content)).models["bert"].error is not None
    assert _problems("costs", content)
