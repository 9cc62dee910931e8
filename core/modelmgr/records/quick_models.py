"""Read a model's part of a cost database at the decoder's own speed, where nothing is odd in it.

``model_json`` says what is wrong with a model, and where; for that it takes plain values apart one
by one. Here the same types and rules are only asked whether all is well: a file of a thousand
models is read in a fifth of the time, and whatever is not plainly well is left to ``model_json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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


class QuickModels:
    """Reads one file's models, of which most have the same dimensions as the one before.

    Shapes of equal dimensions share one mapping: twenty thousand of them would be a fifth of the
    memory, and nobody changes a record.
    """

    def __init__(self) -> None:
        """Expect nothing."""
        self._names: tuple[str, ...] = ()
        self._known: dict[tuple[int, ...], dict[str, int]] = {}

    def read(self, raw: msgspec.Raw) -> ModelCost | None:
        """Return the record of a model's text; None where ``model_json`` has to look at it."""
        try:
            plain = self._decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return None
        if plain is None:
            return None
        fields = msgspec.structs.asdict(plain)
        fields["shapes"] = tuple(self._shapes(plain.shapes))
        cost = ModelCost(**fields)
        return cost if _is_well(cost) else None

    def _decode(self, raw: msgspec.Raw) -> Any:  # noqa: ANN401 - of a type made at run time
        try:
            return _decoder(self._names).decode(raw)
        except msgspec.DecodeError:
            names = _dimensions(raw)
        if names == self._names or not all(map(_PLAIN_NAME.fullmatch, names)):
            return None
        plain = _decoder(names).decode(raw)
        self._names, self._known = names, {}
        return plain

    def _shapes(self, plain: Iterable[Any]) -> Iterator[ShapeCost]:
        known, count = self._known, len(self._names)
        for shape in plain:
            sizes = _astuple(shape)[:count]
            dims = known.get(sizes)
            if dims is None:
                dims = known[sizes] = dict(zip(self._names, sizes, strict=True))
            yield ShapeCost(
                dims=dims,
                activation_bytes=shape.activation_bytes,
                latency_ns=shape.latency_ns,
                throughput_per_s=shape.throughput_per_s,
            )


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
        gc=False,
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


def _is_well(cost: ModelCost) -> bool:
    estimate, interval = cost.initial_estimate_bytes, cost.interval_95_bytes
    if estimate is None and cost.error is None:
        return False
    if (estimate is not None and estimate <= 0) or cost.observations < 0:
        return False
    if interval is not None and interval[0] > interval[1]:
        return False
    copies, unload, shapes = cost.copies, cost.unload, cost.shapes
    second_copy = None if copies is None else copies.second_copy_bytes
    reclaim = None if unload is None else unload.reclaim_ns
    return (
        _adds_up(cost.ledger, cost.peak_bytes)
        and _are_bytes((cost.resident_bytes, cost.peak_bytes, cost.load_peak_bytes, second_copy))
        and _rise((cost.load_ns, reclaim))
        and _are_bytes([each.activation_bytes for each in shapes])
        and _rise([each.latency_ns for each in shapes])
    )


def _are_bytes(figures: Iterable[MeasuredBytes | None]) -> bool:
    for each in figures:
        if each is None:
            continue
        interval, samples = each.interval_95, each.samples
        if each.value < 0:
            return False
        if samples and not 0 <= min(samples) <= each.value <= max(samples):
            return False
        if interval is not None and interval[0] > interval[1]:
            return False
    return True


def _rise(figures: Iterable[MeasuredDuration | None]) -> bool:
    for each in figures:
        if each is None:
            continue
        if not 0 <= each.min <= each.median <= each.max:
            return False
        # The ends are samples, and all between them lies in the samples' range: nearly always.
        samples = each.samples
        if samples and not (each.min in samples and each.max in samples):
            return False
    return True


def _adds_up(ledger: Ledger | None, peak: MeasuredBytes | None) -> bool:
    if ledger is None or peak is None or ledger.unaccounted_bytes is None:
        return True
    lines: dict[str, int | None] = msgspec.structs.asdict(ledger)
    return sum(line for line in lines.values() if line is not None) == peak.value
