"""What a manager is told beforehand: preloaded costs, in any of the forms that ``costs=`` takes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from modelmgr.arguments import check_positive, check_tag
from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.units import MIB

_LOG = logging.getLogger("modelmgr")
CostsInput = CostDatabase | str | Path | Mapping[str, float] | None


def preloaded_costs(costs: CostsInput) -> dict[str, ModelCosts]:
    """Return what a manager preloads, by tag.

    Args:
        costs: a cost database, a path of one, or MB (MiB) by tag.

    Raises:
        UsageError: a figure is not a positive number, a tag no text.
        InputError: the file is no cost database.
    """
    if costs is None:
        return {}
    if isinstance(costs, str | Path):
        costs = CostDatabase.load(costs)
    if isinstance(costs, CostDatabase):
        return _from_database(costs)
    return _from_mapping(costs)


def _from_database(database: CostDatabase) -> dict[str, ModelCosts]:
    """Return every model's figures that make sense; one that does not hides no other."""
    known: dict[str, ModelCosts] = {}
    for tag, cost in database.models.items():
        try:
            costs = from_record(cost)
        except ValueError as error:
            _LOG.warning("the cost database's figures of %r are not used: %s", tag, error)
            continue
        if costs is not None:
            known[tag] = costs
    return known


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


def _from_mapping(costs: object) -> dict[str, ModelCosts]:
    if not isinstance(costs, Mapping):
        raise UsageError(
            f"costs must be a CostDatabase, a path or {{tag: MB}}, not {type(costs).__name__}"
        )
    known: dict[str, ModelCosts] = {}
    for tag, size_mb in cast("Mapping[str, float]", costs).items():
        check_tag(tag)
        check_positive(f"costs[{tag!r}] (MB)", size_mb)
        size_bytes = max(1, round(float(size_mb) * MIB))
        known[tag] = ModelCosts(resident_bytes=size_bytes, peak_bytes=size_bytes)
    return known
