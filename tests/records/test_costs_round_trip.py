"""What was measured comes back from the file as it went in, or says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from modelmgr.errors import InputError, UsageError
from modelmgr.records import codec
from modelmgr.records.codec import decode_costs, encode_costs, load_costs, save_costs
from modelmgr.records.costs import (
    CostDatabase,
    Eviction,
    EvictionCandidate,
    ModelCost,
    ShapeCost,
)
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from support.record_strategies import DATABASES
from support.some_database import database_of


def _database(**models: ModelCost) -> CostDatabase:
    return database_of(models)


_MEASURED = MeasuredBytes(value=440, evidence="exact", interval_95=(430, 450), samples=(430, 450))
_BERT = ModelCost(
    initial_estimate_bytes=500,
    resident_bytes=_MEASURED,
    shapes=(
        ShapeCost(
            dims={"batch_size": 4, "sequence_length": 128},
            activation_bytes=_MEASURED,
            latency_ns=MeasuredDuration(median=5, p95=None, min=1, max=9, samples=(1, 5, 9)),
            throughput_per_s=2.5,
        ),
    ),
)
_GPT2 = ModelCost(initial_estimate_bytes=900)


@pytest.fixture
def two_models() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(encode_costs(_database(bert=_BERT, gpt2=_GPT2)))
    return content


def _write(folder: Path, content: object) -> Path:
    path = folder / "costs.json"
    path.write_text(json.dumps(content, indent=2))
    return path


@given(DATABASES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_database_comes_back_as_it_was(database: CostDatabase) -> None:
    content = encode_costs(database)
    assert decode_costs(content) == database
    assert content.endswith(b"}\n")
    assert encode_costs(decode_costs(content)) == content


def test_a_file_is_plain_json_with_dimensions_beside_figures(two_models: dict[str, Any]) -> None:
    assert list(two_models)[:2] == ["schema_version", "kind"]
    shape = two_models["models"]["bert"]["shapes"][0]
    assert shape["batch_size"] == 4
    assert shape["sequence_length"] == 128
    assert shape["activation_bytes"]["evidence"] == "exact"
    assert "dims" not in shape


def test_samples_stand_on_one_line_and_text_is_left_alone() -> None:
    database = _database(bert=msgspec.structs.replace(_BERT, notes=("[\n1,\n2\n]",)))
    content = encode_costs(database)
    assert b'"samples": [1, 5, 9]' in content
    assert decode_costs(content) == database


def test_a_database_loads_and_saves_itself(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    database = _database(bert=_BERT)
    database.save(path)
    assert CostDatabase.load(path) == database
    assert CostDatabase.load(str(path)) == database


def test_every_figure_but_the_estimate_may_be_absent_or_null(
    tmp_path: Path, two_models: dict[str, Any]
) -> None:
    two_models["models"] = {
        "absent": {"initial_estimate_bytes": 7, "shapes": [{"batch_size": 2}]},
        "null": {"initial_estimate_bytes": 7, "peak_bytes": None, "load_ns": None, "ledger": None},
    }
    loaded = load_costs(_write(tmp_path, two_models))
    assert [cost.error for cost in loaded.models.values()] == [None, None]
    assert loaded.models["absent"].shapes[0].dims == {"batch_size": 2}
    assert loaded.models["null"].peak_bytes is None


_BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({"resident": 3}, "unknown key 'resident'", "did you mean 'resident_bytes'?"),
    ({"resident_bytes": {"vaule": 1}}, "unknown key 'vaule'", "did you mean 'value'?"),
    ({"observations": "many"}, "must be a whole number, not the text 'many'", ""),
    ({"observations": -1}, "must be at least 0, not -1", ""),
    ({"initial_estimate_bytes": None}, "neither 'initial_estimate_bytes' nor an 'error'", ""),
    ({"initial_estimate_bytes": -5}, "must be at least 1, not -5", ""),
    ({"initial_estimate_bytes": 2.5}, "must be a whole number, not 2.5", ""),
    ({"method": "isolated"}, "cannot be 'isolated'", "did you mean 'isolation'?"),
    ({"interval_95_bytes": [9, 1]}, "runs from 9 down to 1", ""),
    ({"shapes": [{"latency_nss": {}}]}, "'latency_nss'", "did you mean 'latency_ns'?"),
    ({"shapes": [{"batch_size": 0}]}, "'batch_size'", ""),
    ({"shapes": [3]}, "must be a mapping, not 3", ""),
    (
        {"load_ns": {"median": 5, "p95": None, "min": 6, "max": 9}},
        "min, median and max must rise",
        "",
    ),
    ({"resident_bytes": {"value": -5, "evidence": "exact"}}, "resident_bytes is negative", ""),
    (
        {
            "peak_bytes": {"value": 10, "evidence": "exact"},
            "ledger": {
                "runtime_bytes": 5,
                "weights_bytes": None,
                "activation_bytes": 5,
                "cache_bytes": 3,
                "unaccounted_bytes": -4,
            },
        },
        "ledger adds up to 9, and peak_bytes is 10",
        "measure it again",
    ),
    (
        {"peak_bytes": {"value": 5, "evidence": "guess"}},
        "cannot be 'guess'",
        "known: estimated, exact, sampled",
    ),
]


@pytest.mark.parametrize(("change", "problem", "hint"), _BROKEN)
def test_one_broken_model_does_not_hide_the_others(
    tmp_path: Path, two_models: dict[str, Any], change: dict[str, Any], problem: str, hint: str
) -> None:
    two_models["models"]["bert"] |= change
    loaded = load_costs(_write(tmp_path, two_models))
    assert loaded.models["gpt2"] == _GPT2
    error = loaded.models["bert"].error
    assert error is not None
    assert error.kind == "InputError"
    assert problem in error.message
    assert hint in error.message
    assert f"{tmp_path / 'costs.json'}:" in error.message


def test_a_broken_model_is_named_with_its_line(tmp_path: Path, two_models: dict[str, Any]) -> None:
    two_models["models"]["gpt2"]["metod"] = "isolation"
    path = _write(tmp_path, two_models)
    lines = path.read_text().splitlines()
    number = next(index for index, line in enumerate(lines, start=1) if '"metod"' in line)
    error = load_costs(path).models["gpt2"].error
    assert error is not None
    assert error.message.startswith(f"{path}:{number}:7: ")


def test_a_tag_that_is_there_twice_is_not_quietly_dropped(tmp_path: Path) -> None:
    content = encode_costs(_database(bert=_BERT, gpt2=_GPT2, vit=_GPT2)).decode()
    path = tmp_path / "costs.json"
    path.write_text(content.replace('"gpt2": {', '"bert": {'))
    loaded = load_costs(path)
    error = loaded.models["bert"].error
    assert error is not None
    assert "there 2 times (lines " in error.message
    assert loaded.models["vit"] == _GPT2


def test_a_model_beyond_the_limit_is_one_broken_model(
    tmp_path: Path, two_models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_MODEL_BYTES", 1_000)
    two_models["models"]["bert"]["notes"] = ["x" * 1_000]
    loaded = load_costs(_write(tmp_path, two_models))
    assert loaded.models["gpt2"].error is None
    error = loaded.models["bert"].error
    assert error is not None
    assert "is larger than" in error.message


@pytest.mark.parametrize(
    ("change", "problem", "hint"),
    [
        ({"tol": {}}, "unknown key 'tol'", "did you mean 'tool'?"),
        ({"kind": "modelmgr.result"}, "'modelmgr.result', where a cost database", "profile"),
        ({"kind": 3}, "where a cost database", ""),
        ({"kind": None}, "has no 'kind'", ""),
        ({"schema_version": 2}, "written by a newer modelmgr", "upgrade"),
        ({"schema_version": 0}, "older than any", "measure again"),
        ({"schema_version": True}, "must be a whole number", ""),
        ({"schema_version": "1"}, "must be a whole number", ""),
        ({"schema_version": 10**30}, "written by a newer modelmgr", "upgrade"),
        ({"created_at": "yesterday"}, "'yesterday' is no time", "RFC 3339"),
        ({"created_at": "2026-01-01T00:00:00"}, "is no time with its zone", ""),
        ({"models": []}, "models must be a mapping, not a list", ""),
        ({"tool": {"name": "x"}}, "tool has no 'version'", "add 'version'"),
        ({"machine": None}, "machine must be a mapping, not nothing", ""),
        ({"runs": [{"comand": "x"}]}, "unknown key 'comand'", "did you mean 'command'?"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused_with_its_place(
    tmp_path: Path, two_models: dict[str, Any], change: dict[str, Any], problem: str, hint: str
) -> None:
    path = _write(tmp_path, two_models | change)
    with pytest.raises(InputError) as caught:
        load_costs(path)
    assert problem in caught.value.problem
    assert hint in str(caught.value)
    assert caught.value.path == str(path)
    assert caught.value.line is not None


def test_every_cut_of_a_file_is_told_as_a_cut(two_models: dict[str, Any]) -> None:
    content = json.dumps(two_models).encode()
    for length in range(1, len(content), 7):
        with pytest.raises(InputError, match=r"cut short|is empty"):
            decode_costs(content[:length])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\x89PNG\r\n", "is not UTF-8 text: byte 0x89"),
        (b"schema_version: 1\n", "not JSON"),
        (b"[1, 2]", "must be a mapping, not a list"),
        (b'"text"', "must be a mapping, not the text 'text'"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 1_000_000, "nested too deeply"),
        (b'{"kind": ' + b'"x"' * 2, "not JSON"),
        (b'{"kind": "' + b"x" * 100_000 + b'"}', "where a cost database"),
        (b'{"kind": NaN}', "not JSON"),
    ],
)
def test_what_is_no_json_database_is_refused_in_one_sentence(content: bytes, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_costs(content, path="costs.json")
    assert problem in caught.value.problem
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5_000], ids=["large", "low", "long"])
@pytest.mark.parametrize("key", ["total_bytes", "throughput_per_s", "weights", "schema_version"])
def test_a_number_that_none_can_hold_is_named_with_its_place(
    two_models: dict[str, Any], key: str, number: str
) -> None:
    """It was told to be a bug of modelmgr."""
    two_models["machine"]["device"]["total_bytes"] = 1
    two_models["models"]["bert"]["estimate"] = {"weights": 1, "text": "1e400"}
    two_models["models"]["bert"]["shapes"][0]["throughput_per_s"] = 1
    lines = json.dumps(two_models, indent=2).splitlines()
    place = next(place for place, line in enumerate(lines) if f'"{key}": 1' in line)
    column = lines[place].index("1") + 1
    lines[place] = lines[place].replace("1", number, 1)
    with pytest.raises(InputError, match=r"is out of range|must be a whole number") as caught:
        decode_costs("\n".join(lines).encode(), path="costs.json")
    assert (caught.value.line, caught.value.column) == (place + 1, column)
    assert len(str(caught.value)) < 200


def test_a_number_that_is_no_amount_breaks_one_model(two_models: dict[str, Any]) -> None:
    """No float can hold 400 digits, so that no comparison, no table and no plan could be made."""
    two_models["models"]["bert"]["initial_estimate_bytes"] = 10**400
    lasting = {"median": 2, "p95": None, "min": 1, "max": 3, "samples": [1, 10**400, 3]}
    two_models["models"]["gpt2"]["load_ns"] = lasting
    models = decode_costs(json.dumps(two_models).encode()).models
    for tag in ("bert", "gpt2"):
        error = models[tag].error
        assert error is not None
        assert "must be at most 9223372036854775807, not 1000" in error.message
        assert len(error.message) < 300


@pytest.mark.parametrize("value", ["value", "min", "median", "max"])
def test_a_value_that_its_samples_do_not_reach_is_refused(
    two_models: dict[str, Any], value: str
) -> None:
    """It was compared by its samples alone: doubled, it was the same."""
    sampled = {"value": 50, "evidence": "exact", "samples": [40, 50, 60]}
    lasting = {"median": 50, "p95": None, "min": 40, "max": 60, "samples": [40, 50, 60]}
    bert = two_models["models"]["bert"]
    bert |= {"resident_bytes": sampled, "load_ns": lasting}
    well = decode_costs(json.dumps(two_models).encode()).models["bert"]
    assert well.error is None
    low_max = {"min": 40, "median": 41, "max": 61}
    lasting |= {"min": {"min": 39}, "median": low_max, "max": low_max}.get(value, {})
    sampled |= {"value": 61} if value == "value" else {}
    broken = decode_costs(json.dumps(two_models).encode()).models["bert"]
    assert broken.error is not None
    assert "and its samples run from 40 to 60" in broken.error.message


def test_a_syntax_error_is_named_with_line_and_column() -> None:
    with pytest.raises(InputError) as caught:
        decode_costs('{\n  "kind": "é",\n  oops: 1\n}'.encode(), path="costs.json")
    assert (caught.value.line, caught.value.column) == (3, 3)


def test_a_byte_order_mark_is_no_mistake() -> None:
    database = _database(bert=_BERT)
    assert decode_costs(b"\xef\xbb\xbf" + encode_costs(database)) == database


def test_an_older_version_is_migrated_step_by_step(two_models: dict[str, Any]) -> None:
    two_models["schema_version"] = -1
    two_models["entries"] = two_models.pop("models")

    def to_0(plain: dict[str, Any]) -> dict[str, Any]:
        return plain | {"schema_version": 0, "runs": []}

    def to_1(plain: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in plain.items() if key != "entries"} | {
            "schema_version": 1,
            "models": plain["entries"],
        }

    content = json.dumps(two_models).encode()
    migrated = decode_costs(content, migrations={-1: to_0, 0: to_1})
    assert migrated == _database(bert=_BERT, gpt2=_GPT2)
    with pytest.raises(InputError, match="older than any"):
        decode_costs(content, migrations={-1: to_0})


def test_a_migrated_file_names_no_line_that_it_does_not_have(two_models: dict[str, Any]) -> None:
    two_models["schema_version"] = 0
    two_models["models"]["bert"]["metod"] = 1
    migrated = decode_costs(
        json.dumps(two_models).encode(),
        path="old.json",
        migrations={0: lambda plain: plain | {"schema_version": 1}},
    )
    error = migrated.models["bert"].error
    assert error is not None
    assert error.message.startswith("old.json: unknown key 'metod'")


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    save_costs(_database(), tmp_path / "costs.json")
    with pytest.raises(InputError, match=r"did you mean '.*/costs\.json'\?"):
        load_costs(tmp_path / "cost.json")


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    with path.open("wb") as file:
        file.truncate(codec.MAX_FILE_BYTES + 1)  # sparse: it takes no room and would take no time
    with pytest.raises(InputError, match=r"has at most 512\.0 MiB"):
        load_costs(path)


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    save_costs(_database(bert=_BERT), path)
    before = path.read_bytes()
    half = _database(**{"\ud800": _BERT})
    eviction = Eviction(
        at_ns=1,
        device="gpu0",
        tag="bert",
        copy=1,
        reason="make-room",
        requested_by=None,
        freed_bytes=3,
        candidates=(EvictionCandidate(tag="bert", copy=1, value=float("nan"), size_bytes=3),),
    )
    unranked = msgspec.structs.replace(_database(), evictions=(eviction,))
    misnamed = msgspec.structs.replace(_BERT.shapes[0], dims={"latency_ns": 3})
    clash = _database(bert=msgspec.structs.replace(_BERT, shapes=(misnamed,)))
    for database in (half, unranked, clash):
        with pytest.raises(UsageError):
            save_costs(database, path)
    assert path.read_bytes() == before


def test_a_throughput_that_is_no_number_is_written_as_unknown() -> None:
    shape = msgspec.structs.replace(_BERT.shapes[0], throughput_per_s=float("nan"))
    content = encode_costs(_database(bert=msgspec.structs.replace(_BERT, shapes=(shape,))))
    assert decode_costs(content).models["bert"].shapes[0].throughput_per_s is None
