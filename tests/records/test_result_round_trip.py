"""Results: what is written is read, and what is no result is refused."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import msgspec
import pytest

from modelmgr.errors import InputError
from modelmgr.records.result import Result
from modelmgr.records.result_codec import decode_result, encode_result
from modelmgr.records.schema import json_schema
from modelmgr.simulation.simulate import simulate
from support.small_scenarios import make_model, make_scenario


@pytest.fixture(scope="module")
def result() -> Result:
    models = [make_model(tag) for tag in ("a", "b", "c")]
    return simulate(make_scenario(models, memory=2 * 1024**3, seconds=30)).result


def test_a_result_is_read_as_it_was_written(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.save(path)
    assert Result.load(path) == result
    assert encode_result(Result.load(path)) == path.read_bytes()


@pytest.mark.parametrize("number", [b"1e400", b"9" * 5_000, b"9" * 400])
def test_a_number_that_none_can_hold_is_named_with_its_place(result: Result, number: bytes) -> None:
    before, key, after = encode_result(result).partition(b'"loads": ')
    with pytest.raises(InputError, match=r"is out of range|must be at most") as caught:
        decode_result(before + key + number + b", " + after.partition(b",")[2], path="r.json")
    place = before.count(b"\n") + 1
    assert (caught.value.line, caught.value.column) == (place, len('  "loads": ') + 1)


def test_a_result_keeps_to_its_schema(result: Result) -> None:
    schema = json_schema("result")
    plain = msgspec.json.decode(encode_result(result))
    jsonschema.validate(plain, schema)
    assert list(plain)[:2] == ["schema_version", "kind"]
    assert result.evictions == len(plain["evictions_trace"]) > 0
    del plain["loads"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain, schema)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "a mapping"),
        (b"{}", "the kind is missing"),
        (b'{"kind": "modelmgr.costs", "schema_version": 1}', "'modelmgr.costs'"),
        (b'{"kind": "modelmgr.result", "schema_version": "1"}', "whole number"),
        (b'{"kind": "modelmgr.result", "schema_version": 99}', "newer modelmgr"),
        (b'{"kind": "modelmgr.result", "schema_version": 1}', "has no 'mode'"),
        (b'{"kind": "modelmgr.result", "schema', "cut short"),
    ],
)
def test_what_is_no_result_is_refused_with_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(InputError) as refused:
        decode_result(content, path="r.json")
    assert message in str(refused.value)
    assert "r.json" in str(refused.value)


def test_a_misspelt_key_is_named(result: Result) -> None:
    content = encode_result(result).replace(b'"oom_events"', b'"oom_event"')
    with pytest.raises(InputError, match=r"oom_event"):
        decode_result(content)
