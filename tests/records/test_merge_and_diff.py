"""Merging loses no model and says why whose figures won; comparing says all that differs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelmgr.errors import UsageError
from modelmgr.records.costs import (
    CostDatabase,
    CostError,
    DeviceInfo,
    Ledger,
    MachineInfo,
    ModelCost,
    RunInfo,
    ShapeCost,
    ToolInfo,
)
from modelmgr.records.diff import diff
from modelmgr.records.figures import figures
from modelmgr.records.machines import machine_differences
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.records.merge import merge
from support.record_strategies import DATABASES

_SLOW = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
_FAILED = ModelCost(error=CostError(kind="ModelLoadError", message="no such file"))


def _machine(device: str = "H200", total_bytes: int = 2**37, python: str = "3.11") -> MachineInfo:
    return MachineInfo(
        os="Linux",
        cpu="Xeon",
        python=python,
        packages={"torch": "2.13"},
        device=DeviceInfo(kind="cuda", name=device, total_bytes=total_bytes),
    )


def _database(
    created_at: str = "2026-01-01T00:00:00Z",
    machine: MachineInfo | None = None,
    **models: ModelCost,
) -> CostDatabase:
    return CostDatabase(
        created_at=created_at,
        tool=ToolInfo(name="modelmgr", version="0.1.0"),
        machine=machine or _machine(),
        models=models,
    )


def _cost(estimate_bytes: int = 500, **changes: object) -> ModelCost:
    return msgspec.structs.replace(ModelCost(initial_estimate_bytes=estimate_bytes), **changes)


@given(st.lists(DATABASES, min_size=1, max_size=3))
@_SLOW
def test_merging_never_loses_a_model_a_run_or_an_eviction(databases: list[CostDatabase]) -> None:
    result = merge(databases)
    assert set(result.database.models) == {tag for each in databases for tag in each.models}
    for each in databases:
        assert set(each.runs) <= set(result.database.runs)
        assert all(eviction in result.database.evictions for eviction in each.evictions)
    for tag, cost in result.database.models.items():
        offered = [each.models[tag] for each in databases if tag in each.models]
        assert cost in offered
        if any(offer.error is None for offer in offered):
            assert cost.error is None
        assert (len(offered) > 1) == (tag in {choice.tag for choice in result.choices})


@given(DATABASES)
@_SLOW
def test_merging_with_itself_changes_nothing(database: CostDatabase) -> None:
    assert merge([database]).database == database
    again = merge([database, database])
    assert again.database == database
    assert all(choice.reason == "the same figures" for choice in again.choices)
    assert again.foreign == ()


@given(st.lists(DATABASES, min_size=1, max_size=3, unique_by=lambda each: each.created_at))
@_SLOW
def test_the_order_of_the_files_does_not_change_whose_figures_win(
    databases: list[CostDatabase],
) -> None:
    forwards = merge(databases).database
    backwards = merge(databases[::-1]).database
    assert forwards.models == backwards.models
    assert forwards.machine == backwards.machine


@pytest.mark.parametrize(
    ("first", "second", "winner", "reason"),
    [
        (_FAILED, _cost(), "second", "could not be measured"),
        (_cost(method="aggregate", observations=9), _cost(), "second", "in isolation"),
        (_cost(observations=3), _cost(observations=5), "second", "more observations"),
        (_cost(1), _cost(2), "second", "newer"),
        (_cost(observations=5), _cost(observations=3), "first", "more observations"),
    ],
)
def test_the_better_figures_win_and_say_why(
    first: ModelCost, second: ModelCost, winner: str, reason: str
) -> None:
    older = _database("2026-01-01T00:00:00Z", bert=first)
    newer = _database("2026-01-01T02:00:00+01:00", bert=second)
    result = merge([older, newer], names=["first", "second"])
    (choice,) = result.choices
    assert (choice.tag, choice.winner) == ("bert", winner)
    assert reason in choice.reason
    assert result.origins == {"bert": winner}
    assert result.database.models["bert"] == {"first": first, "second": second}[winner]


def test_figures_of_another_device_lose_and_are_flagged() -> None:
    here = _database("2026-01-02T00:00:00Z", bert=_cost(observations=3))
    there = _database(
        machine=_machine("A10", 2**34), bert=_cost(observations=9), vit=_cost(observations=9)
    )
    result = merge([there, here], names=["there", "here"])
    assert result.origins == {"bert": "here", "vit": "there"}
    assert "another device" in result.choices[0].reason
    (foreign,) = result.foreign
    assert foreign.is_other_device
    assert foreign.name == "there"
    assert foreign.tags == ("vit",)
    assert {difference.name for difference in foreign.differences} == {
        "device.name",
        "device.total_bytes",
    }


def test_another_budget_is_no_change_of_the_machine() -> None:
    def host(budget_bytes: int | None) -> MachineInfo:
        device = DeviceInfo(kind="host", name="host", total_bytes=2**35, budget_bytes=budget_bytes)
        return msgspec.structs.replace(_machine(), device=device)

    assert machine_differences(host(2**33), host(None)) == ()


def test_the_budget_of_a_host_does_not_make_it_another_device() -> None:
    def host(total_bytes: int) -> MachineInfo:
        device = DeviceInfo(kind="host", name="host", total_bytes=total_bytes)
        return msgspec.structs.replace(_machine(), device=device)

    result = merge([_database(machine=host(2**33)), _database(machine=host(2**34))])
    (foreign,) = result.foreign
    assert not foreign.is_other_device


def test_the_merged_database_is_the_newest_ones() -> None:
    run = RunInfo(command="profile", scenario=None, seed=0, started_at="2026-01-01T00:00:00Z")
    old = msgspec.structs.replace(_database("2026-01-01T00:00:00Z"), runs=(run, run))
    new = _database("2026-02-01T00:00:00Z", machine=_machine(python="3.12"))
    merged = merge([old, new, old]).database
    assert merged.created_at == "2026-02-01T00:00:00Z"
    assert merged.machine.python == "3.12"
    assert merged.runs == (run, run)


def test_a_merge_of_nothing_or_without_a_time_is_refused() -> None:
    with pytest.raises(UsageError, match="no database to merge"):
        merge([])
    with pytest.raises(UsageError, match="1 names for 2"):
        merge([_database(), _database()], names=["one"])
    with pytest.raises(UsageError, match="'yesterday' is no time"):
        merge([_database("yesterday")])


@given(DATABASES)
@_SLOW
def test_a_database_does_not_differ_from_itself(database: CostDatabase) -> None:
    assert diff(database, database).is_empty


@given(DATABASES, DATABASES)
@_SLOW
def test_a_diff_backwards_tells_the_same_story(old: CostDatabase, new: CostDatabase) -> None:
    there, back = diff(old, new), diff(new, old)
    assert there.added == back.removed
    assert {(tag, name) for tag, name, *_ in map(_row, there.figures)} == {
        (tag, name) for tag, name, *_ in map(_row, back.figures)
    }
    assert len(there.machine) == len(back.machine)


def _row(change: object) -> tuple[object, object]:
    return getattr(change, "tag", None), getattr(change, "name", None)


def test_a_diff_names_every_kind_of_change() -> None:
    def measured(value: int) -> MeasuredBytes:
        return MeasuredBytes(value=value, evidence="exact")

    def shape(batch_size: int, median_ns: int) -> ShapeCost:
        latency = MeasuredDuration(median=median_ns, p95=None, min=1, max=10**9)
        return ShapeCost(
            dims={"batch_size": batch_size},
            activation_bytes=None,
            latency_ns=latency,
            throughput_per_s=None,
        )

    ledger = Ledger(
        runtime_bytes=0,
        weights_bytes=5,
        activation_bytes=None,
        cache_bytes=None,
        unaccounted_bytes=None,
    )
    old = _database(
        bert=_cost(400, resident_bytes=measured(100), shapes=(shape(1, 50), shape(2, 60))),
        gone=_cost(),
        breaks=_cost(),
        works=_FAILED,
    )
    new = _database(
        machine=_machine(python="3.12"),
        bert=_cost(500, ledger=ledger, shapes=(shape(1, 75), shape(4, 90))),
        breaks=_FAILED,
        works=_cost(),
        new=_cost(),
    )
    found = diff(old, new)
    assert [difference.name for difference in found.machine] == ["python"]
    assert found.added == ("new",)
    assert found.removed == ("gone",)
    assert found.newly_failing == (("breaks", "ModelLoadError: no such file"),)
    assert found.fixed == ("works",)
    of_bert = {change.name: change for change in found.figures if change.tag == "bert"}
    assert {name: change.change for name, change in of_bert.items()} == {
        "initial_estimate_bytes": "changed",
        "resident_bytes": "became-unknown",
        "ledger.runtime_bytes": "became-known",
        "ledger.weights_bytes": "became-known",
        "shapes[batch_size=1].latency_ns": "changed",
        "shapes[batch_size=4].latency_ns": "added",
        "shapes[batch_size=2].latency_ns": "removed",
    }
    assert of_bert["initial_estimate_bytes"].percent == pytest.approx(25.0)
    assert of_bert["shapes[batch_size=1].latency_ns"].percent == pytest.approx(50.0)
    assert of_bert["resident_bytes"].percent is None


def test_a_change_from_zero_has_no_percentage() -> None:
    (change,) = diff(
        _database(bert=_cost(observations=0)), _database(bert=_cost(observations=4))
    ).figures
    assert (change.old, change.new, change.percent) == (0, 4, None)


def test_evidence_method_and_fingerprint_are_compared_too() -> None:
    exact = MeasuredBytes(value=5, evidence="exact")
    sampled = MeasuredBytes(value=5, evidence="sampled")
    found = diff(
        _database(bert=_cost(peak_bytes=exact, fingerprint="sha256:1")),
        _database(bert=_cost(peak_bytes=sampled, method="aggregate")),
    )
    assert found.figures == ()
    assert {(change.name, change.old, change.new) for change in found.properties} == {
        ("peak_bytes.evidence", "exact", "sampled"),
        ("method", "isolation", "aggregate"),
        ("fingerprint", "sha256:1", None),
    }


def test_the_order_of_dimensions_makes_no_other_shape() -> None:
    def shape(**dims: int) -> ShapeCost:
        return ShapeCost(dims=dims, activation_bytes=None, latency_ns=None, throughput_per_s=1.0)

    old = _database(bert=_cost(shapes=(shape(batch_size=1, sequence_length=8),)))
    new = _database(bert=_cost(shapes=(shape(sequence_length=8, batch_size=1),)))
    assert diff(old, new).is_empty


def test_every_numeric_field_of_a_cost_is_among_its_figures() -> None:
    """A field that is added to the record and forgotten here would never be compared."""
    other = {"shapes", "method", "interval_95_bytes", "fingerprint", "estimate", "notes", "error"}
    fields = set(ModelCost.__struct_fields__) - other
    assert {figure.name.partition(".")[0] for figure in figures(_cost())} == fields
