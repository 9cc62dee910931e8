"""The database that a run writes, and what becomes of the one that was there before.

An output that exists is added to: models that this run measured replace those of the same tag, all
others stay as they were, so that measuring one model again never loses the rest. Figures of two
machines or devices in one file would be true of neither: such an output is refused before anything
is measured. A model whose new measurement failed keeps its earlier figures beside the new error.
Evictions are those of the newest run, whose clock they share; runs are all kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from modelmgr._version import __version__
from modelmgr.errors import UsageError
from modelmgr.measuring.journal import journal_path
from modelmgr.records.codec import load_costs, save_costs
from modelmgr.records.costs import (
    CostDatabase,
    Eviction,
    MachineInfo,
    ModelCost,
    RunInfo,
    ToolInfo,
)


def timestamp() -> str:
    """Return the time now as RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_existing(out: Path, machine: MachineInfo) -> CostDatabase | None:
    """Return the database that is there, None where there is none.

    Raises:
        InputError: it cannot be read, is broken or of a newer schema.
        UsageError: it is no file (a folder, /dev/null), or was measured on another machine or
            device.
    """
    if not out.exists():
        return None
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name a file in it, e.g. {out / 'costs.json'}")
    if not out.is_file():
        raise UsageError(f"{out} is no regular file and keeps no database: name another output")
    existing = load_costs(out)
    theirs, ours = existing.machine, machine
    for what, before, now in (
        ("device", theirs.device.kind, ours.device.kind),
        ("device", theirs.device.name, ours.device.name),
        ("processor", theirs.cpu, ours.cpu),
    ):
        if before is not None and before != now:
            raise UsageError(
                f"{out} was measured on another {what} ({before}; this is {now}): name another "
                "output, and combine them with 'modelmgr costs merge' where that makes sense"
            )
    return existing


def combine(
    existing: CostDatabase | None,
    measured: Mapping[str, ModelCost],
    *,
    machine: MachineInfo,
    run: RunInfo,
    evictions: tuple[Eviction, ...],
) -> CostDatabase:
    """Return the database after a run: what was there, with what was measured over it."""
    models = {} if existing is None else dict(existing.models)
    for tag, cost in measured.items():
        models[tag] = _kept_beside_error(models.get(tag), cost)
    packages = {} if existing is None else existing.machine.packages
    return CostDatabase(
        created_at=timestamp(),
        tool=ToolInfo(name="modelmgr", version=__version__),
        machine=msgspec.structs.replace(machine, packages={**packages, **machine.packages}),
        models=models,
        evictions=evictions,
        runs=(*(() if existing is None else existing.runs), run),
    )


def write(database: CostDatabase, out: Path) -> None:
    """Write it atomically: the old file stays until the new one is whole.

    Raises:
        UsageError: the disk is full, or the folder cannot be written.
    """
    try:
        save_costs(database, out)
    except UsageError as error:
        raise UsageError(
            f"{error}\nWhat was measured is kept in {journal_path(out)}: go on with --resume"
        ) from error


def _kept_beside_error(before: ModelCost | None, now: ModelCost) -> ModelCost:
    if now.error is None or before is None or before.initial_estimate_bytes is None:
        return now
    note = "the figures are of an earlier run: the newest measurement failed, see the error"
    notes = tuple(dict.fromkeys((*before.notes, *now.notes, note)))
    return msgspec.structs.replace(before, error=now.error, notes=notes)
