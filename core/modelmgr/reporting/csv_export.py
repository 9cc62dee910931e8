"""A cost database as CSV (RFC 4180): one row for each model and shape, figures in their base units.

A model's own figures repeat on each of its rows; a model without shapes (a failed one) has one row.
An empty field is an unknown. Columns say their unit; nothing is rounded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from modelmgr.records.costs import CostDatabase, ModelCost, ShapeCost
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.reporting.figures import LEDGER_LINES, dimension_names, guess_bytes

Cell = str | int | float | None


def export_csv(database: CostDatabase) -> str:
    """Return the whole database as CSV text with a header line."""
    dimensions = dimension_names(database.models.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    header: list[str] | None = None
    for tag, cost in database.models.items():
        for shape in cost.shapes or (None,):
            row = dict(_row(tag, cost, shape, dimensions))
            if header is None:
                header = list(row)
                writer.writerow(header)
            writer.writerow(row.values())
    if header is None:
        empty = ModelCost()
        writer.writerow(name for name, _ in _row("", empty, None, dimensions))
    return text.getvalue()


def _row(
    tag: str, cost: ModelCost, shape: ShapeCost | None, dimensions: list[str]
) -> Iterator[tuple[str, Cell]]:
    yield "tag", tag
    for name in dimensions:
        yield name, shape.dims.get(name) if shape is not None else None
    yield from _bytes("activation", shape.activation_bytes if shape is not None else None)
    yield from _duration("latency", shape.latency_ns if shape is not None else None)
    yield "throughput_per_s", shape.throughput_per_s if shape is not None else None
    yield from _bytes("resident", cost.resident_bytes)
    yield from _bytes("peak", cost.peak_bytes)
    yield from _bytes("load_peak", cost.load_peak_bytes)
    yield from _bytes("second_copy", cost.copies.second_copy_bytes if cost.copies else None)
    yield from _duration("load", cost.load_ns)
    yield from _duration("reclaim", cost.unload.reclaim_ns if cost.unload else None)
    yield "residue_bytes", cost.unload.residue_bytes if cost.unload else None
    for line in LEDGER_LINES:
        name = f"{line}_bytes"
        yield f"ledger_{name}", getattr(cost.ledger, name) if cost.ledger else None
    yield "guess_weights_bytes", guess_bytes(cost, "weights_bytes")
    yield "guess_activation_bytes", guess_bytes(cost, "activation_bytes")
    yield "initial_estimate_bytes", cost.initial_estimate_bytes
    yield "method", cost.method
    yield "observations", cost.observations
    yield "fingerprint", cost.fingerprint
    yield "error_kind", cost.error.kind if cost.error else None
    yield "error_message", cost.error.message if cost.error else None


def _bytes(name: str, figure: MeasuredBytes | None) -> Iterator[tuple[str, Cell]]:
    low, high = (figure.interval_95 if figure is not None else None) or (None, None)
    yield f"{name}_bytes", figure.value if figure is not None else None
    yield f"{name}_evidence", figure.evidence if figure is not None else None
    yield f"{name}_low_95_bytes", low
    yield f"{name}_high_95_bytes", high


def _duration(name: str, figure: MeasuredDuration | None) -> Iterator[tuple[str, Cell]]:
    yield f"{name}_median_ns", figure.median if figure is not None else None
    yield f"{name}_p95_ns", figure.p95 if figure is not None else None
    yield f"{name}_min_ns", figure.min if figure is not None else None
    yield f"{name}_max_ns", figure.max if figure is not None else None
