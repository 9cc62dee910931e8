"""What was learned in use, written back into a cost database, so that the next start knows it.

A figure that was measured in isolation is worth more than one that was told apart from aggregate
readings, and stays. Only where a copy's own process was seen above the initial estimate, or even
the lower end of what was told apart lies above it, is that one raised, with a note: production
showed that it is too small. Nothing is ever lowered that was measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelmgr._version import __version__
from modelmgr.errors import UsageError
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.records.costs import CostDatabase, MachineInfo, ModelCost, ToolInfo
from modelmgr.records.measured import MeasuredBytes

LEARNED_NOTE = "learned in use"
RAISED_NOTE = "the initial estimate was raised: in use, more was seen than was measured alone"


def learned_costs(
    learned: Mapping[str, CostEstimate],
    database: CostDatabase | None,
    *,
    created_at: str,
    machine: MachineInfo | None = None,
) -> CostDatabase:
    """Return a database with what was learned in it; ``database`` itself is left alone.

    Args:
        learned: what the estimator or the learner calls ``learned()``.
        database: what to add to, None for a new one.
        created_at: the time now, RFC 3339 in UTC.
        machine: of a new database, or to replace the old one's record of the same machine.

    Raises:
        UsageError: neither a database nor a machine.
    """
    if database is None and machine is None:
        raise UsageError("a new cost database needs the machine that it was learned on")
    models = {} if database is None else dict(database.models)
    for tag, estimate in sorted(learned.items()):
        updated = _updated(models.get(tag), estimate)
        if updated is not None:
            models[tag] = updated
    if database is None:
        assert machine is not None  # noqa: S101 - checked above, and type checkers do not see it
        tool = ToolInfo(name="modelmgr", version=__version__)
        return CostDatabase(created_at=created_at, tool=tool, machine=machine, models=models)
    return msgspec.structs.replace(
        database,
        created_at=created_at,
        machine=database.machine if machine is None else machine,
        models=models,
    )


def _updated(before: ModelCost | None, estimate: CostEstimate) -> ModelCost | None:
    """Return a model's record after what was learned, None where it stays as it is."""
    if not estimate.identified and estimate.seen_bytes is None:
        return None
    if before is None or before.initial_estimate_bytes is None or before.method == "aggregate":
        return _learned(before, estimate)
    interval = estimate.interval_95
    shown = max(estimate.seen_bytes or 0, 0 if interval is None else interval[0])
    if shown <= before.initial_estimate_bytes:
        return None
    return msgspec.structs.replace(
        before,
        initial_estimate_bytes=max(estimate.upper_bytes, estimate.peak_bytes),
        notes=_with_note(before.notes, RAISED_NOTE),
    )


def _learned(before: ModelCost | None, estimate: CostEstimate) -> ModelCost:
    """Return the record of a model that only use has measured; how it loads is kept."""
    base = before if before is not None else ModelCost()
    resident = estimate.resident_bytes
    return msgspec.structs.replace(
        base,
        initial_estimate_bytes=max(estimate.upper_bytes, estimate.peak_bytes),
        resident_bytes=(
            None if resident is None else MeasuredBytes(value=resident, evidence="estimated")
        ),
        peak_bytes=MeasuredBytes(
            value=estimate.peak_bytes, evidence="estimated", interval_95=estimate.interval_95
        ),
        ledger=None,
        method="aggregate",
        interval_95_bytes=estimate.interval_95,
        observations=estimate.observations,
        notes=_with_note(base.notes, LEARNED_NOTE),
        error=None,
    )


def _with_note(notes: tuple[str, ...], note: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*notes, note)))
