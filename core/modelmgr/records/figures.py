"""Every figure of a model's cost by its name: one list for checking, comparing and showing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from modelmgr.records.costs import ModelCost, ShapeCost
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration
from modelmgr.records.type_paths import KeyPath

Unit = Literal["bytes", "ns", "per_s", "count"]


class Figure(NamedTuple):
    """One figure.

    Attributes:
        name: ``peak_bytes``, ``ledger.weights_bytes``, ``shapes[batch_size=4].latency_ns``.
        unit: of the number.
        measured: the figure with its evidence or samples where it has them, else None.
        value: the number itself (of a duration the median), None where it is unknown.
        at: where it stands in the model's part of the file.
    """

    name: str
    unit: Unit
    measured: MeasuredBytes | MeasuredDuration | None
    value: int | float | None
    at: KeyPath


def figures(cost: ModelCost) -> Iterator[Figure]:
    """Yield every figure that a model's cost can have, unknown ones too, in the file's order."""
    yield _plain("initial_estimate_bytes", "bytes", cost.initial_estimate_bytes)
    yield _bytes("resident_bytes", cost.resident_bytes)
    yield _bytes("peak_bytes", cost.peak_bytes)
    yield _bytes("load_peak_bytes", cost.load_peak_bytes)
    ledger = cost.ledger
    for line in (
        "runtime_bytes",
        "weights_bytes",
        "activation_bytes",
        "cache_bytes",
        "unaccounted_bytes",
    ):
        value: int | None = None if ledger is None else getattr(ledger, line)
        yield _plain(f"ledger.{line}", "bytes", value)
    second = None if cost.copies is None else cost.copies.second_copy_bytes
    yield _bytes("copies.second_copy_bytes", second)
    for index, shape in enumerate(cost.shapes):
        yield from _shape_figures(index, shape)
    yield _duration("load_ns", cost.load_ns)
    unload = cost.unload
    yield _duration("unload.reclaim_ns", None if unload is None else unload.reclaim_ns)
    yield _plain("unload.residue_bytes", "bytes", None if unload is None else unload.residue_bytes)
    yield _plain("observations", "count", cost.observations)


def shape_name(dims: dict[str, int]) -> str:
    """Return ``batch_size=4 sequence_length=128``, whatever the order of the dimensions."""
    return " ".join(f"{name}={size}" for name, size in sorted(dims.items()))


def _shape_figures(index: int, shape: ShapeCost) -> Iterator[Figure]:
    prefix = f"shapes[{shape_name(shape.dims)}]"
    at: KeyPath = ("shapes", index)
    activation = _bytes("activation_bytes", shape.activation_bytes)
    latency = _duration("latency_ns", shape.latency_ns)
    throughput = _plain("throughput_per_s", "per_s", shape.throughput_per_s)
    for figure in (activation, latency, throughput):
        yield figure._replace(name=f"{prefix}.{figure.name}", at=(*at, *figure.at))


def _plain(name: str, unit: Unit, value: float | None) -> Figure:
    return Figure(name, unit, None, value, tuple(name.split(".")))


def _bytes(name: str, measured: MeasuredBytes | None) -> Figure:
    value = None if measured is None else measured.value
    return Figure(name, "bytes", measured, value, tuple(name.split(".")))


def _duration(name: str, measured: MeasuredDuration | None) -> Figure:
    value = None if measured is None else measured.median
    return Figure(name, "ns", measured, value, tuple(name.split(".")))
