"""Read a model's part of a cost database at the decoder's own speed, where nothing is odd in it.

``model_json`` says what is wrong with a model, and where; for that it takes plain values apart one
by one. Here the same types and rules are only asked whether all is well: a file of a thousand
models is read in a fifth of the time, and whatever is not plainly well is left to ``model_json``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from modelmgr.records.costs import Ledger, ModelCost, ShapeCost
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration

_astuple = msgspec.structs.astuple
_FIGURES = ("activation_bytes", "latency_ns", "throughput_per_s")
_PLAIN_NAME = re.compile(r"\w{1,100}", re.ASCII)
_Size = Annotated[int, msgspec.Meta(ge=1)]


class _Outline(msgspec.Struct):
    """A model of which only the names in its first shape are of interest."""

    shapes: tuple[dict[str, msgspec.Raw], ...] = ()


def quick_model(
    raw: msgspec.Raw, likely: tuple[str, ...]
) -> tuple[ModelCost, tuple[str, ...]] | None:
    """Return the record of a model and its dimensions' names, in their order.

    None where ``model_json`` has to look at it.

    Args:
        raw: the model's text.
        likely: the dimensions of the model before: most models of a file have the same.
    """
    try:
        plain = _decoder(likely).decode(raw)
        names = likely
    except (msgspec.DecodeError, RecursionError):
        try:
            names = _dimensions(raw)
            if not all(map(_PLAIN_NAME.fullmatch, names)):
                return None
            plain = _decoder(names).decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return None
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
    fields["shapes"] = tuple(_shape(names, shape) for shape in plain.shapes)
    cost = ModelCost(**fields)
    return (cost, names) if _is_well(cost) else None


def _dimensions(raw: msgspec.Raw) -> tuple[str, ...]:
    shapes = msgspec.json.decode(raw, type=_Outline).shapes
    return tuple(name for name in shapes[0] if name not in _FIGURES) if shapes else ()


@lru_cache(maxsize=64)
def _decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Return a decoder of models whose shapes have these dimensions.

    A dimension may have any name, so that its field is called by its number.
    """
    shape = msgspec.defstruct(
        "_QuickShape",
        [
            *((f"size_{place}", _Size) for place in range(len(names))),
            ("activation_bytes", MeasuredBytes | None, None),
            ("latency_ns", MeasuredDuration | None, None),
            ("throughput_per_s", float | None, None),
        ],
        rename={f"size_{place}": name for place, name in enumerate(names)},
        forbid_unknown_fields=True,
    )
    model = msgspec.defstruct(
        "_QuickModel",
        [
            (each.name, tuple[shape, ...] if each.name == "shapes" else each.type, each.default)  # type: ignore[valid-type]  # made here
            for each in msgspec.structs.fields(ModelCost)
        ],
        kw_only=True,
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(model)


def _shape(names: tuple[str, ...], shape: Any) -> ShapeCost:  # noqa: ANN401 - of a type made at run time
    fields = _astuple(shape)
    return ShapeCost(
        dims=dict(zip(names, fields)),  # noqa: B905 - the sizes come first, the figures after them
        activation_bytes=fields[-3],
        latency_ns=fields[-2],
        throughput_per_s=fields[-1],
    )


def _is_well(cost: ModelCost) -> bool:
    estimate, interval = cost.initial_estimate_bytes, cost.interval_95_bytes
    if estimate is None and cost.error is None:
        return False
    if (estimate is not None and estimate <= 0) or cost.observations < 0:
        return False
    if interval is not None and interval[0] > interval[1]:
        return False
    copies, unload = cost.copies, cost.unload
    return (
        _adds_up(cost.ledger, cost.peak_bytes)
        and _are_bytes(cost.resident_bytes)
        and _are_bytes(cost.peak_bytes)
        and _are_bytes(cost.load_peak_bytes)
        and _are_bytes(None if copies is None else copies.second_copy_bytes)
        and _rises(cost.load_ns)
        and _rises(None if unload is None else unload.reclaim_ns)
        and all(map(_are_bytes, [each.activation_bytes for each in cost.shapes]))
        and all(map(_rises, [each.latency_ns for each in cost.shapes]))
    )


def _are_bytes(measured: MeasuredBytes | None) -> bool:
    if measured is None:
        return True
    interval, samples = measured.interval_95, measured.samples
    return (
        measured.value >= 0
        and (not samples or min(samples) >= 0)
        and (interval is None or interval[0] <= interval[1])
    )


def _rises(measured: MeasuredDuration | None) -> bool:
    return measured is None or 0 <= measured.min <= measured.median <= measured.max


def _adds_up(ledger: Ledger | None, peak: MeasuredBytes | None) -> bool:
    if ledger is None or peak is None or ledger.unaccounted_bytes is None:
        return True
    lines: dict[str, int | None] = msgspec.structs.asdict(ledger)
    return sum(line for line in lines.values() if line is not None) == peak.value
