"""The CSV export: one row for each model and shape, nothing rounded, unknown is empty."""

from __future__ import annotations

import csv
import io

from modelmgr.records.costs import (
    CostDatabase,
    CostError,
    ModelCost,
    ShapeCost,
)
from modelmgr.records.measured import MeasuredBytes
from modelmgr.reporting import export_csv
from support.some_database import database_of


def _database(**models: ModelCost) -> CostDatabase:
    return database_of(models)


def _rows(database: CostDatabase) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(export_csv(database), newline="")))


def _shape(batch: int, activation: int) -> ShapeCost:
    return ShapeCost(
        dims={"batch_size": batch},
        activation_bytes=MeasuredBytes(value=activation, evidence="exact"),
        latency_ns=None,
        throughput_per_s=None,
    )


def test_every_shape_of_a_model_is_a_row_with_the_models_own_figures() -> None:
    cost = ModelCost(
        initial_estimate_bytes=1_234_567_891,
        resident_bytes=MeasuredBytes(value=1_234_567_890, evidence="sampled", interval_95=(1, 2)),
        shapes=(_shape(1, 10), _shape(8, 80)),
    )

    rows = _rows(_database(bert=cost))

    assert [row["batch_size"] for row in rows] == ["1", "8"]
    assert [row["activation_bytes"] for row in rows] == ["10", "80"]
    assert {row["resident_bytes"] for row in rows} == {"1234567890"}
    assert {row["resident_evidence"] for row in rows} == {"sampled"}
    assert {(row["resident_low_95_bytes"], row["resident_high_95_bytes"]) for row in rows} == {
        ("1", "2")
    }


def test_an_unknown_figure_is_an_empty_field_and_never_zero() -> None:
    rows = _rows(_database(bert=ModelCost(initial_estimate_bytes=5)))

    assert rows[0]["peak_bytes"] == ""
    assert rows[0]["latency_median_ns"] == ""
    assert rows[0]["ledger_weights_bytes"] == ""


def test_a_model_that_failed_keeps_its_row_and_its_reason() -> None:
    failed = ModelCost(error=CostError(kind="ModelLoadError", message='no "x",\nsee y'))

    rows = _rows(_database(bad=failed, good=ModelCost(shapes=(_shape(1, 10),))))

    assert rows[0]["tag"] == "bad"
    assert rows[0]["error_kind"] == "ModelLoadError"
    assert rows[0]["error_message"] == 'no "x",\nsee y'
    assert rows[1]["error_kind"] == ""


def test_models_with_different_dimensions_share_one_header() -> None:
    other = ShapeCost(
        dims={"seconds": 30}, activation_bytes=None, latency_ns=None, throughput_per_s=2.5
    )

    rows = _rows(
        _database(bert=ModelCost(shapes=(_shape(2, 1),)), whisper=ModelCost(shapes=(other,)))
    )

    assert (rows[0]["batch_size"], rows[0]["seconds"]) == ("2", "")
    assert (rows[1]["batch_size"], rows[1]["seconds"]) == ("", "30")
    assert rows[1]["throughput_per_s"] == "2.5"


def test_an_empty_database_is_a_header_line() -> None:
    lines = export_csv(_database()).splitlines()

    assert len(lines) == 1
    assert lines[0].startswith("tag,")
