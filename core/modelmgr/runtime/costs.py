"""What a manager is told beforehand: preloaded costs, in any of the forms that ``costs=`` takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from modelmgr.errors import UsageError
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.units import MIB

CostsInput = CostDatabase | str | Path | Mapping[str, float] | None


def preloaded_costs(costs: CostsInput) -> dict[str, ModelCosts]:
    """Return what a manager preloads, by tag.

    Args:
        costs: a cost database, a path of one, or MB (MiB) by tag.

    Raises:
        UsageError: a figure is not a positive number.
        InputError: the file is no cost database.
    """
    if costs is None:
        return {}
    if isinstance(costs, str | Path):
        costs = CostDatabase.load(costs)
    if isinstance(costs, CostDatabase):
        known = ((tag, from_record(cost)) for tag, cost in costs.models.items())
        return {tag: cost for tag, cost in known if cost is not None}
    return {tag: _from_megabytes(tag, value) for tag, value in costs.items()}


def from_record(cost: ModelCost) -> ModelCosts | None:
    """Return a database's figures as admission uses them; None for a model that was not measured.

    The initial estimate is the upper figure for one running copy; a resident figure above it (one
    that was measured differently) lifts it.
    """
    estimate = cost.initial_estimate_bytes
    if estimate is None:
        return None
    resident = estimate if cost.resident_bytes is None else cost.resident_bytes.value
    resident = min(resident, estimate)
    return ModelCosts(
        resident_bytes=resident,
        peak_bytes=estimate,
        load_peak_bytes=None if cost.load_peak_bytes is None else cost.load_peak_bytes.value,
        load_ns=None if cost.load_ns is None else cost.load_ns.median,
    )


def from_estimate(estimate: CostEstimate | None, load_ns: int | None = None) -> ModelCosts | None:
    """Return what the estimator believes as admission uses it: the upper figure is the peak."""
    if estimate is None:
        return None
    peak = max(estimate.upper_bytes, estimate.peak_bytes)
    resident = peak if estimate.resident_bytes is None else min(estimate.resident_bytes, peak)
    return ModelCosts(resident_bytes=resident, peak_bytes=peak, load_ns=load_ns)


def _from_megabytes(tag: str, value: float) -> ModelCosts:
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"costs[{tag!r}] must be a positive number of MB, not {value!r}")
    size_bytes = round(value * MIB)
    return ModelCosts(resident_bytes=size_bytes, peak_bytes=size_bytes)
