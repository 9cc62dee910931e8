"""Samples of several processes become one record: medians, upper figures, and nothing made up."""

from __future__ import annotations

import pytest

from modelmgr.errors import MeasurementError, ModelLoadError
from modelmgr.measuring.assembly import FigureEvidence, assemble_cost, failed_cost
from modelmgr.measuring.ledger import ledger_total_bytes
from modelmgr.measuring.samples import RepeatSample, ShapeSample
from modelmgr.records.devices import DeviceDescription
from modelmgr.workers.reports import EstimateReport

MIB = 1024**2
HOST = DeviceDescription(name="host", kind="host", total_bytes=1024 * MIB)
EXACT = FigureEvidence(resident="exact", load_peak="exact", peak="exact", activation="exact")


def process(resident: int, activation: int | None, *, latency_ns: int = 10**6) -> RepeatSample:
    return RepeatSample(
        runtime_bytes=100 * MIB,
        weights_bytes=200 * MIB,
        loaded_bytes=resident,
        resident_bytes=resident,
        load_peak_bytes=resident + 5 * MIB,
        load_ns=7,
        shapes=(
            ShapeSample(
                dims={"batch_size": 4},
                before_bytes=resident,
                activation_bytes=activation,
                default_peak_bytes=None if activation is None else resident + 2 * activation,
                latencies_ns=(latency_ns,) * 3,
            ),
        ),
        reclaim_ns=3,
        residue_bytes=0,
        fingerprint="sha256:model",
        packages={"numpy": "2"},
    )


def test_the_record_keeps_every_sample_and_the_middle_one_as_its_value() -> None:
    cost = assemble_cost(
        [process(size * MIB, 10 * MIB) for size in (301, 303, 302)], evidence=EXACT, device=HOST
    )
    assert cost.resident_bytes is not None
    assert cost.resident_bytes.samples == (301 * MIB, 303 * MIB, 302 * MIB)
    assert cost.resident_bytes.value == 302 * MIB
    assert cost.observations == 3
    assert cost.ledger is not None
    assert cost.peak_bytes is not None
    assert ledger_total_bytes(cost.ledger) == cost.peak_bytes.value == 322 * MIB
    assert cost.ledger.cache_bytes == 10 * MIB
    assert cost.shapes[0].throughput_per_s == pytest.approx(4000)


def test_the_figure_to_preload_is_no_less_than_any_peak_and_than_the_intervals_end() -> None:
    cost = assemble_cost(
        [process(size * MIB, 10 * MIB) for size in (300, 310, 390)], evidence=EXACT, device=HOST
    )
    assert cost.peak_bytes is not None
    assert cost.interval_95_bytes is not None
    assert cost.initial_estimate_bytes == max(410 * MIB, cost.interval_95_bytes[1])


def test_what_no_process_told_is_unknown_and_not_zero() -> None:
    cost = assemble_cost([process(300 * MIB, None)], evidence=EXACT, device=HOST)
    assert cost.shapes[0].activation_bytes is None
    assert cost.copies is None
    assert cost.ledger is not None
    assert cost.ledger.activation_bytes is None
    assert cost.initial_estimate_bytes == 300 * MIB


def test_processes_whose_memory_was_never_read_measure_nothing() -> None:
    blind = RepeatSample(
        runtime_bytes=None,
        weights_bytes=200,
        loaded_bytes=None,
        resident_bytes=None,
        load_peak_bytes=None,
        load_ns=7,
        shapes=(),
    )
    with pytest.raises(MeasurementError):
        assemble_cost([blind], evidence=EXACT, device=HOST)


def test_the_fingerprint_changes_with_model_device_and_versions() -> None:
    sample = process(300 * MIB, 10 * MIB)
    here = assemble_cost([sample], evidence=EXACT, device=HOST).fingerprint
    assert here is not None
    assert here.startswith("sha256:")
    assert here == assemble_cost([sample], evidence=EXACT, device=HOST).fingerprint
    gpu = DeviceDescription(name="cuda:0", kind="cuda", total_bytes=MIB, product="X", driver="1")
    assert here != assemble_cost([sample], evidence=EXACT, device=gpu).fingerprint


def test_a_failed_model_keeps_its_reason_and_its_guess() -> None:
    guess = EstimateReport(
        weights_bytes=5, activation_bytes=(1, None, 3), method="fake-tensor", reason="partly"
    )
    cost = failed_cost(ModelLoadError("no such file"), estimate=guess, notes=["a", "a"])
    assert cost.error is not None
    assert (cost.error.kind, cost.error.message) == ("ModelLoadError", "no such file")
    assert cost.initial_estimate_bytes is None
    assert cost.notes == ("a",)
    assert cost.estimate == {
        "weights_bytes": 5,
        "activation_bytes": 3,
        "method": "fake-tensor",
        "reason": "partly",
    }
