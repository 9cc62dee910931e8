"""From the raw samples of several fresh processes to one model's cost record.

Pure: statistics are ``summary``'s, the ledger's arithmetic is ``ledger``'s; this module says which
samples make which figure.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from modelmgr.errors import MeasurementError, ModelmgrError
from modelmgr.measuring.leak import worst_leak
from modelmgr.measuring.ledger import combine_ledgers, repeat_ledger
from modelmgr.measuring.samples import RepeatSample
from modelmgr.measuring.summary import summarise_bytes, summarise_duration
from modelmgr.records.costs import Copies, CostError, ModelCost, ShapeCost, Unload
from modelmgr.records.devices import DeviceDescription
from modelmgr.records.measured import Evidence, MeasuredBytes, MeasuredDuration
from modelmgr.units import NS_PER_S, format_bytes
from modelmgr.workers.reports import EstimateReport


class FigureEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """How good each figure of a run is.

    Attributes:
        resident: of ``resident_bytes`` and ``second_copy_bytes``.
        load_peak: of ``load_peak_bytes``.
        peak: of ``peak_bytes``.
        activation: of every shape's ``activation_bytes``.
        method: ``isolation`` where the copy's own use was read, ``aggregate`` where it is the
            difference of the whole device's.
        notes: what the words above mean on this device, e.g. the interval of sampling.
    """

    resident: Evidence
    load_peak: Evidence
    peak: Evidence
    activation: Evidence
    method: Literal["isolation", "aggregate"] = "isolation"
    notes: tuple[str, ...] = ()


def assemble_cost(
    samples: Sequence[RepeatSample],
    *,
    evidence: FigureEvidence,
    device: DeviceDescription,
    estimate: EstimateReport | None = None,
    notes: Iterable[str] = (),
) -> ModelCost:
    """Return one model's cost from the samples of its processes.

    ``initial_estimate_bytes`` is the largest of all peaks seen and of the upper end of the peak's
    95 % interval: one copy at its largest measured shape will not take more.

    Raises:
        MeasurementError: no process told how much memory it used.
    """
    most = max(samples, key=lambda sample: sample.descendant_bytes, default=None)
    if most is not None and most.descendant_bytes > 0:
        evidence = _with_descendants(evidence, most)
    peaks = _known(sample.peak_bytes for sample in samples)
    peak = _bytes(peaks, evidence.peak)
    if peak is None:
        raise MeasurementError("no process's memory could be read: nothing was measured")
    ledgers = [ledger for sample in samples if (ledger := repeat_ledger(sample)) is not None]
    second = _bytes(_known(sample.second_copy_bytes for sample in samples), evidence.resident)
    reclaims = _known(sample.reclaim_ns for sample in samples)
    residues = _known(sample.residue_bytes for sample in samples)
    leak = worst_leak([sample.leak for sample in samples])
    all_notes = (
        *(() if leak is None else (str(leak),)),
        *evidence.notes,
        *itertools.chain(*(sample.notes for sample in samples)),
        *notes,
    )
    return ModelCost(
        initial_estimate_bytes=max(*peaks, peak.value, *(peak.interval_95 or ())),
        resident_bytes=_bytes(
            _known(sample.resident_bytes for sample in samples), evidence.resident
        ),
        peak_bytes=peak,
        load_peak_bytes=_bytes(
            _known(sample.load_peak_bytes for sample in samples), evidence.load_peak
        ),
        ledger=combine_ledgers(ledgers, peak_bytes=peak.value),
        copies=None if second is None else Copies(second_copy_bytes=second),
        shapes=_shapes(samples, evidence.activation),
        load_ns=_duration([sample.load_ns for sample in samples]),
        unload=Unload(reclaim_ns=_duration(reclaims), residue_bytes=max(residues, default=None)),
        method=evidence.method,
        interval_95_bytes=peak.interval_95,
        observations=len(samples),
        fingerprint=_fingerprint(samples[0], device),
        estimate=None if estimate is None else describe_estimate(estimate),
        notes=tuple(dict.fromkeys(all_notes)),
    )


def failed_cost(
    error: ModelmgrError, *, estimate: EstimateReport | None = None, notes: Iterable[str] = ()
) -> ModelCost:
    """Return the record of a model whose measurement failed: why, and the guess where there is."""
    return ModelCost(
        error=CostError(kind=type(error).__name__, message=str(error)),
        estimate=None if estimate is None else describe_estimate(estimate),
        notes=tuple(dict.fromkeys(notes)),
    )


def describe_estimate(estimate: EstimateReport) -> dict[str, Any]:
    """Return the guess as a cost record keeps it: the largest shape's activation, bytes."""
    known = [value for value in estimate.activation_bytes if value is not None]
    described: dict[str, Any] = {
        "weights_bytes": estimate.weights_bytes,
        "activation_bytes": max(known, default=None),
        "method": estimate.method,
    }
    if estimate.reason is not None:
        described["reason"] = estimate.reason
    return described


def _shapes(samples: Sequence[RepeatSample], evidence: Evidence) -> tuple[ShapeCost, ...]:
    costs: list[ShapeCost] = []
    for position, first in enumerate(samples[0].shapes):
        same = [sample.shapes[position] for sample in samples if position < len(sample.shapes)]
        latency = _duration([value for shape in same for value in shape.latencies_ns])
        costs.append(
            ShapeCost(
                dims=first.dims,
                activation_bytes=_bytes(_known(shape.activation_bytes for shape in same), evidence),
                latency_ns=latency,
                throughput_per_s=_throughput(first.dims, latency),
            )
        )
    return tuple(costs)


def _with_descendants(evidence: FigureEvidence, most: RepeatSample) -> FigureEvidence:
    """Return the evidence for a model with processes of its own: no peak of theirs is exact."""
    many = "1 process" if most.descendants == 1 else f"{most.descendants} processes"
    note = (
        f"starts {many} of its own, which held {format_bytes(most.descendant_bytes)}: sampled "
        "before and after each shape, not limited by the budget"
    )
    return msgspec.structs.replace(
        evidence,
        resident="sampled",
        load_peak="sampled",
        peak="sampled",
        notes=(*evidence.notes, note),
    )


def _throughput(dims: Mapping[str, int], latency: MeasuredDuration | None) -> float | None:
    if latency is None or latency.median <= 0:
        return None
    return dims.get("batch_size", 1) * NS_PER_S / latency.median


def _fingerprint(sample: RepeatSample, device: DeviceDescription) -> str:
    """Return the hash of all that the figures depend on: model, device, driver, versions."""
    parts = [
        sample.fingerprint,
        device.kind,
        device.product,
        device.driver,
        sorted(sample.packages.items()),
    ]
    return "sha256:" + hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _bytes(samples: Sequence[int], evidence: Evidence) -> MeasuredBytes | None:
    return summarise_bytes(samples, evidence) if samples else None


def _duration(samples: Sequence[int]) -> MeasuredDuration | None:
    return summarise_duration(samples) if samples else None
