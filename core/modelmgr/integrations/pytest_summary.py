"""What a test session says of its models at its end, from one process or from many.

Pure: reports in, lines out; printing is ``pytest_gate``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from modelmgr.comparing.comparison import Comparison
from modelmgr.integrations.pytest_baseline import Baseline
from modelmgr.integrations.pytest_verdicts import is_of_elsewhere, looks_grown
from modelmgr.measuring.database import combine
from modelmgr.records.codec import decode_costs
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.units import format_bytes, format_duration


class SessionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of a session measured.

    Attributes:
        elapsed_ns: how long that took, nanoseconds.
        costs: what came out, a cost database.
        failed: the models of tests that failed, by tag.
    """

    elapsed_ns: int
    costs: bytes
    failed: tuple[str, ...] = ()


def put_together(databases: Iterable[CostDatabase]) -> CostDatabase:
    """Return one database of what one session measured, on one device; at least one."""
    first, *others = databases
    machine = first.machine
    models = dict(first.models)
    for database in others:
        models |= database.models
        packages = {**machine.packages, **database.machine.packages}
        machine = msgspec.structs.replace(machine, packages=packages)
    return combine(None, models, machine=machine, run=first.runs[0], evictions=())


def all_measured(reports: Iterable[SessionReport]) -> CostDatabase:
    """Return what all processes of a session measured; at least one report."""
    return put_together(decode_costs(report.costs) for report in reports)


def summary(
    reports: Sequence[SessionReport], baseline: Baseline | None, *, verbose: bool
) -> list[str]:
    """Return the lines to show; none where nothing was to be measured.

    Args:
        reports: of each process that measured.
        baseline: the session's.
        verbose: whether each model has a line of its own.
    """
    if not reports:
        return [] if baseline is None else ["modelmgr: no model was measured"]
    database = all_measured(reports)
    models = database.models
    elapsed_ns = sum(report.elapsed_ns for report in reports)
    largest = max(models, key=lambda tag: _peak(models[tag]))
    measured = f"{_many(len(models), 'model')} measured on {database.machine.device.kind}"
    most = f"the largest peak {_shown(models[largest])} ({largest})"
    lines = [f"modelmgr: {measured} in {format_duration(elapsed_ns)}, {most}"]
    if verbose:
        lines += [f"  {tag}  {_shown(cost)}" for tag, cost in models.items()]
    if baseline is not None and not baseline.is_renewed:
        lines += _against(baseline, database)
    return lines


def _against(baseline: Baseline, database: CostDatabase) -> list[str]:
    compared = {
        tag: found
        for tag in database.models
        if (found := baseline.compare(tag, database)) is not None
    }
    mismatch = [tag for tag, found in compared.items() if is_of_elsewhere(found)]
    held = [tag for tag in compared if tag not in mismatch]
    grown = [tag for tag in held if baseline.judge(tag, database) is not None]
    unclear = [tag for tag in held if tag not in grown and looks_grown(compared[tag])]
    lines: list[str] = []
    if mismatch:
        lines += _mismatch(baseline, len(mismatch), compared[mismatch[0]])
    if held:
        which = f": {', '.join(grown)}" if grown else ""
        lines.append(
            f"modelmgr: {_many(len(held), 'model')} held against {baseline.name}, "
            f"{len(grown)} grew by more than {baseline.tolerance.text}{which}"
        )
    for tags, why in (
        (unclear, "too noisy to say, measure with more repeats"),
        ([tag for tag in database.models if tag not in compared], f"not in {baseline.name}"),
    ):
        if tags:
            lines.append(f"modelmgr: {why}: {', '.join(tags)}")
    return lines


def _mismatch(baseline: Baseline, count: int, found: Comparison) -> list[str]:
    """Say why nothing is said."""
    what = f"{_many(count, 'model')} not held against {baseline.name}"
    return [
        f"modelmgr: {what}, which is of another machine or version:",
        *(
            f"  {each.name} was {each.old} and is {each.new}"
            for each in found.mismatches
            if each.touches in {"all", "measured"}
        ),
        "  write a baseline here, or compare all the same with --modelmgr-allow-mismatch",
    ]


def _peak(cost: ModelCost) -> int:
    return 0 if cost.peak_bytes is None else cost.peak_bytes.value


def _shown(cost: ModelCost) -> str:
    return "unknown" if cost.peak_bytes is None else format_bytes(cost.peak_bytes.value)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
