"""What a report reads out of a model's cost: pure look-ups and ratios, no formatting of a format.

Shared by the exports here and by the command line's tables, so that they never disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from modelmgr.records.costs import CostDatabase, ModelCost, ShapeCost
from modelmgr.records.measured import MeasuredBytes

LEDGER_LINES = ("runtime", "weights", "activation", "cache", "unaccounted")


def largest_shape(cost: ModelCost) -> ShapeCost | None:
    """Return the shape with the largest activation (else the most elements); None without shapes.

    It is the one that the ledger's activation line is about. Among equals the last one.
    """
    best: ShapeCost | None = None
    for shape in cost.shapes:
        if best is None or _extent(shape) >= _extent(best):
            best = shape
    return best


def shape_name(dims: Mapping[str, int]) -> str:
    """Return ``batch_size=4 sequence_length=128``; ``-`` for a shape without dimensions."""
    return " ".join(f"{name}={size}" for name, size in dims.items()) or "-"


def dimension_names(costs: Iterable[ModelCost]) -> list[str]:
    """Return every dimension of these models' shapes, in order of appearance."""
    return list(dict.fromkeys(name for c in costs for shape in c.shapes for name in shape.dims))


def weights_bytes(cost: ModelCost) -> int | None:
    """Return the ledger's weights, bytes; None where unknown."""
    return cost.ledger.weights_bytes if cost.ledger is not None else None


def activation_bytes(cost: ModelCost) -> MeasuredBytes | None:
    """Return what the largest shape takes on top while it runs; None where unknown."""
    shape = largest_shape(cost)
    return shape.activation_bytes if shape is not None else None


def guess_bytes(cost: ModelCost, name: str) -> int | None:
    """Return ``weights_bytes`` or ``activation_bytes`` of the guess made without loading.

    Activations may be stored as one figure or as one for each shape; the largest is returned.
    """
    found: Any = (cost.estimate or {}).get(name)
    values: list[object]
    if isinstance(found, Mapping):
        values = list(cast("Mapping[str, object]", found).values())
    elif isinstance(found, list | tuple):
        values = list(cast("Sequence[object]", found))
    else:
        values = [found]
    figures = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    return max(figures, default=None)


def spread(figure: MeasuredBytes | None) -> float | None:
    """Return half of the 95 % interval over the value (0.01 is ±1 %); None where unknown."""
    if figure is None or figure.interval_95 is None or figure.value == 0:
        return None
    low, high = figure.interval_95
    return max(high - figure.value, figure.value - low) / abs(figure.value)


def difference(guess: int | None, measured: int | None) -> float | None:
    """Return how far a guess is off, relative to the measurement (0.02 is 2 % too high)."""
    if guess is None or not measured:
        return None
    return guess / measured - 1


def measured_models(database: CostDatabase) -> dict[str, ModelCost]:
    """Return the models that have figures, in the database's order.

    One whose newest measurement failed keeps its earlier figures: it is here and in
    ``failed_models``.
    """
    return {
        tag: cost
        for tag, cost in database.models.items()
        if cost.error is None or cost.initial_estimate_bytes is not None
    }


def failed_models(database: CostDatabase) -> dict[str, ModelCost]:
    """Return the models whose newest measurement failed, in the database's order."""
    return {tag: cost for tag, cost in database.models.items() if cost.error is not None}


def _extent(shape: ShapeCost) -> tuple[int, int]:
    activation = shape.activation_bytes.value if shape.activation_bytes is not None else -1
    return activation, math.prod(shape.dims.values())
