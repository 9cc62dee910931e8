"""One model's part of a cost database, between record and plain values.

On disk a shape's dimensions stand beside its figures (FORMATS: ``shapes``); in the record they are
a mapping of their own. This module owns that difference and the rules that types cannot say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from modelmgr.errors import InputError, UsageError
from modelmgr.records.costs import ModelCost
from modelmgr.records.figures import figures
from modelmgr.records.measured import MeasuredBytes
from modelmgr.records.type_paths import KeyPath, fields_of
from modelmgr.records.validation import ErrorMaker, convert, nearest, place_name, show

SHAPE_FIGURES = ("activation_bytes", "latency_ns", "throughput_per_s")


def model_to_plain(cost: ModelCost) -> dict[str, Any]:
    """Return what a file has for a model.

    Raises:
        UsageError: a dimension is called as a figure is.
    """
    plain: dict[str, Any] = msgspec.structs.asdict(cost)
    plain["shapes"] = [
        {
            **_dims(shape.dims),
            "activation_bytes": shape.activation_bytes,
            "latency_ns": shape.latency_ns,
            "throughput_per_s": shape.throughput_per_s,
        }
        for shape in cost.shapes
    ]
    return plain


def decode_model(plain: object, error: ErrorMaker, *, base: KeyPath) -> ModelCost:
    """Return the record of a model; raise what ``error`` makes of the first mistake.

    Args:
        plain: what the file has for the model.
        error: makes errors from places in the file.
        base: where the model stands in the file.

    Raises:
        InputError: as ``error`` makes it.
    """

    def on_disk(
        at: KeyPath, problem: str, *, hint: str | None = None, on_key: bool = False
    ) -> InputError:
        # The record's `shapes[0].dims.batch_size` is the file's `shapes[0].batch_size`.
        is_dimension = at[len(base) :][:1] == ("shapes",) and at[len(base) + 2 :][:1] == ("dims",)
        place = (*at[: len(base) + 2], *at[len(base) + 3 :]) if is_dimension else at
        return error(place, problem.replace(".dims.", "."), hint=hint, on_key=on_key)

    fields = fields_of(plain)
    if fields is not None and isinstance(fields.get("shapes"), list):
        fields["shapes"] = [
            _unflatten(shape, error, (*base, "shapes", index))
            for index, shape in enumerate(cast("list[object]", fields["shapes"]))
        ]
    cost = convert(plain if fields is None else fields, ModelCost, on_disk, base=base)
    _check(cost, error, base)
    return cost


def _dims(dims: dict[str, int]) -> dict[str, int]:
    for name in dims:
        if name in SHAPE_FIGURES:
            raise UsageError(f"a dimension cannot be called {name!r}: it is a figure's name")
    return dims


def _unflatten(shape: object, error: ErrorMaker, at: KeyPath) -> object:
    values = fields_of(shape)
    if values is None:
        return shape
    dims = {key: size for key, size in values.items() if key not in SHAPE_FIGURES}
    for name, size in dims.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise error(
                (*at, name),
                f"{place_name(at)}: {name!r} is neither a figure nor a dimension's size "
                f"({show(size)})",
                hint=nearest(name, SHAPE_FIGURES),
                on_key=True,
            )
    return {"dims": dims, **{name: values.get(name) for name in SHAPE_FIGURES}}


def _check(cost: ModelCost, error: ErrorMaker, base: KeyPath) -> None:
    """Refuse what no measurement gives, whatever its types."""
    estimate = cost.initial_estimate_bytes
    if estimate is None and cost.error is None:
        raise error(
            base,
            f"{place_name(base)} has neither 'initial_estimate_bytes' nor an 'error' that says why",
            hint="measure it again with 'modelmgr profile'",
        )
    if estimate is not None and estimate <= 0:
        raise error(
            (*base, "initial_estimate_bytes"),
            f"{place_name(base)}.initial_estimate_bytes must be at least 1, not {estimate}",
        )
    if cost.observations < 0:
        raise error(
            (*base, "observations"),
            f"{place_name(base)}.observations must be at least 0, not {cost.observations}",
        )
    interval = cost.interval_95_bytes
    if interval is not None and interval[0] > interval[1]:
        at = (*base, "interval_95_bytes")
        raise error(at, f"{place_name(at)} runs from {interval[0]} down to {interval[1]}")
    _check_ledger(cost, error, base)
    for figure in figures(cost):
        measured = figure.measured
        at = (*base, *figure.at)
        if measured is None:
            continue
        if isinstance(measured, MeasuredBytes):
            if min(measured.value, *measured.samples, 0) < 0:
                raise error(at, f"{place_name(at)} is negative: no memory is")
            _check_samples(measured.samples, {"value": measured.value}, error, at)
            interval = measured.interval_95
            if interval is not None and interval[0] > interval[1]:
                raise error(
                    (*at, "interval_95"),
                    f"{place_name(at)}.interval_95 runs from {interval[0]} down to {interval[1]}",
                )
        elif not 0 <= measured.min <= measured.median <= measured.max:
            raise error(
                at,
                f"{place_name(at)}: min, median and max must rise from 0, not "
                f"{measured.min}, {measured.median}, {measured.max}",
            )
        else:
            ends = {"min": measured.min, "median": measured.median, "max": measured.max}
            _check_samples(measured.samples, ends, error, at)


def _check_samples(
    samples: Sequence[int], values: Mapping[str, int], error: ErrorMaker, at: KeyPath
) -> None:
    """Refuse a value that its own samples do not reach: one of the two was written by hand."""
    for name, value in values.items():
        if samples and not min(samples) <= value <= max(samples):
            raise error(
                (*at, name),
                f"{place_name((*at, name))} is {value}, and its samples run from {min(samples)} to "
                f"{max(samples)}",
                hint="measure it again with 'modelmgr profile'",
            )


def _check_ledger(cost: ModelCost, error: ErrorMaker, base: KeyPath) -> None:
    """Refuse lines that do not add up to the peak; an unknown line counts as nothing."""
    ledger, peak = cost.ledger, cost.peak_bytes
    if ledger is None or peak is None or ledger.unaccounted_bytes is None:
        return
    at = (*base, "ledger")
    lines: dict[str, int | None] = msgspec.structs.asdict(ledger)
    total_bytes = sum(line for line in lines.values() if line is not None)
    if total_bytes != peak.value:
        raise error(
            at,
            f"{place_name(at)} adds up to {total_bytes}, and peak_bytes is {peak.value}",
            hint="measure it again with 'modelmgr profile'",
        )
