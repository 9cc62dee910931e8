"""Models are read quickly where all is well, and exactly as slowly read where it is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from modelmgr.records.codec import decode_costs, encode_costs
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.json_places import has_each_key_once
from modelmgr.records.json_source import JsonSource
from modelmgr.records.model_json import decode_model
from modelmgr.records.quick_models import QuickModels
from support.record_strategies import DATABASES


def _slowly(text: bytes) -> ModelCost | None:
    """Return what the reader that explains mistakes makes of a model; None where it refuses it."""
    source = JsonSource(text, None, what="model")
    try:
        return decode_model(json.loads(text), source.error, base=())
    except Exception:  # noqa: BLE001 - whatever it refuses
        return None


def _quickly(text: bytes) -> ModelCost | None:
    return QuickModels().read(msgspec.Raw(text))


@given(DATABASES)
@settings(deadline=None, max_examples=50)
def test_a_model_is_read_alike_both_ways(database: CostDatabase) -> None:
    plain = json.loads(encode_costs(database))
    for tag, cost in database.models.items():
        text = json.dumps(plain["models"][tag]).encode()
        assert _slowly(text) == cost
        quick = _quickly(text)
        assert quick == cost or (quick is None and cost.shapes)


GOOD: dict[str, Any] = {
    "initial_estimate_bytes": 10,
    "peak_bytes": {"value": 5, "evidence": "exact", "samples": [5, 5]},
    "ledger": {
        "runtime_bytes": 1,
        "weights_bytes": 2,
        "activation_bytes": 2,
        "cache_bytes": None,
        "unaccounted_bytes": 0,
    },
    "shapes": [
        {"batch_size": 1, "activation_bytes": {"value": 2, "evidence": "sampled"}},
        {
            "batch_size": 4,
            "latency_ns": {"median": 2, "p95": None, "min": 1, "max": 3},
            "throughput_per_s": 2,
        },
    ],
}


def _changed(*path: str | int, to: object) -> bytes:
    document = json.loads(json.dumps(GOOD))
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = to
    return json.dumps(document).encode()


def test_a_plain_model_is_read_quickly() -> None:
    cost = _quickly(json.dumps(GOOD).encode())
    assert cost is not None
    assert cost == _slowly(json.dumps(GOOD).encode())
    assert cost.shapes[1].dims == {"batch_size": 4}


@pytest.mark.parametrize(
    "text",
    [
        _changed("initial_estimate_bytes", to=0),
        _changed("initial_estimate_bytes", to=None),
        _changed("observations", to=-1),
        _changed("interval_95_bytes", to=[2, 1]),
        _changed("peak_bytes", "value", to=-5),
        _changed("peak_bytes", "samples", to=[5, -5]),
        _changed("peak_bytes", "interval_95", to=[7, 6]),
        _changed("peak_bytes", "value", to=6),
        _changed("peak_bytes", "value", to=5.0),
        _changed("peak_bytes", "more", to=1),
        _changed("shapes", 0, "batch_size", to=0),
        _changed("shapes", 0, "batch_size", to=1.0),
        _changed("shapes", 0, "batch_size", to=True),
        _changed("shapes", 1, "latency_ns", "min", to=3),
        _changed("more", to=1),
    ],
)
def test_what_is_odd_is_left_to_the_reader_that_explains_it(text: bytes) -> None:
    assert _quickly(text) is None
    assert _slowly(text) is None


@pytest.mark.parametrize(
    "text",
    [
        _changed("shapes", 1, "sequence_length", to=8),
        _changed("shapes", 1, to={"other": 3}),
        _changed("shapes", 0, "odd\nname", to=3),
    ],
)
def test_shapes_of_other_dimensions_in_one_model_are_read_all_the_same(text: bytes) -> None:
    assert _quickly(text) is None
    assert _slowly(text) is not None


def test_a_file_whose_models_have_other_dimensions_each_is_read_quickly() -> None:
    quick = QuickModels()
    text = json.dumps(GOOD)
    frames = text.replace("batch_size", "frames")
    found = [quick.read(msgspec.Raw(each.encode())) for each in (text, frames, text)]
    assert [cost and [shape.dims for shape in cost.shapes] for cost in found] == [
        [{"batch_size": 1}, {"batch_size": 4}],
        [{"frames": 1}, {"frames": 4}],
        [{"batch_size": 1}, {"batch_size": 4}],
    ]


def test_a_model_that_is_odd_changes_nothing_for_those_after_it() -> None:
    quick = QuickModels()
    text = json.dumps(GOOD).encode()
    assert quick.read(msgspec.Raw(_changed("shapes", 0, "odd\nname", to=3))) is None
    assert quick.read(msgspec.Raw(_changed("observations", to=-1))) is None
    assert quick.read(msgspec.Raw(text)) == _slowly(text)


@pytest.mark.parametrize(
    ("text", "once"),
    [
        (b"{}", True),
        (b" { } ", True),
        (b'{"a": {"x": "}"}, "b\\"": [2]}', True),
        (b'{"a":1,"a":1}', False),
        (b'{"a":1,"b":2,"a":1}', False),
        (b'{"a":{"b":1},"b":2,"b":{"a":1}}', False),
    ],
)
def test_a_repeated_key_is_seen(text: bytes, once: bool) -> None:
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    assert has_each_key_once(msgspec.Raw(text), members.values()) is once


def test_a_tag_that_is_there_twice_is_still_told_with_its_lines() -> None:
    good = json.dumps(GOOD)
    text = (
        '{"schema_version": 1, "kind": "modelmgr.costs", "created_at": "2026-01-01T00:00:00Z",\n'
        '"tool": {"name": "modelmgr", "version": "1"}, "machine": {"os": "", "cpu": null,'
        '"python": "", "packages": {}, "device": {"kind": "host", "name": null,'
        f'"total_bytes": null}}}}, "models": {{"a": {good},\n"b": {good},\n"a": {good}}}}}'
    )
    models = decode_costs(text.encode()).models
    assert models["b"].error is None
    assert models["a"].error is not None
    assert "there 2 times (lines 2, 4)" in models["a"].error.message
