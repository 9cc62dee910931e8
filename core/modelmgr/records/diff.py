"""Compare two cost databases figure by figure. Pure; whether a change matters is not said here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.figures import Figure, Unit, figures
from modelmgr.records.machines import Difference, machine_differences
from modelmgr.records.measured import MeasuredBytes

Change = Literal["changed", "added", "removed", "became-unknown", "became-known"]


@dataclass(frozen=True, slots=True)
class FigureChange:
    """One figure that differs.

    Attributes:
        tag: the model.
        name: ``peak_bytes``, ``ledger.weights_bytes``, ``shapes[batch_size=4].latency_ns``.
        unit: of both values.
        change: ``added`` and ``removed`` are known figures of shapes that only one database has.
        old: None where it was unknown or not there.
        new: None where it is unknown or not there.
        percent: (new - old) / old in percent; None where one is None or the old one is 0.
    """

    tag: str
    name: str
    unit: Unit
    change: Change
    old: int | float | None
    new: int | float | None
    percent: float | None


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """Something of a model that is no number: evidence, method, fingerprint, error."""

    tag: str
    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class CostDiff:
    """All that differs between two databases; times of writing, runs and raw samples aside.

    Attributes:
        machine: first, since it may explain all the rest.
        added: models that only the new one has.
        removed: models that only the old one has.
        newly_failing: models that were measured and now have an error, with the new error.
        fixed: models that had an error and now are measured.
        figures: numbers, by model in the new database's order.
        properties: what is no number.
    """

    machine: tuple[Difference, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    newly_failing: tuple[tuple[str, str], ...]
    fixed: tuple[str, ...]
    figures: tuple[FigureChange, ...]
    properties: tuple[PropertyChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not any(
            (
                self.machine,
                self.added,
                self.removed,
                self.newly_failing,
                self.fixed,
                self.figures,
                self.properties,
            )
        )


def diff(old: CostDatabase, new: CostDatabase) -> CostDiff:
    """Return what differs between two databases."""
    both = [tag for tag in new.models if tag in old.models]
    pairs = [(tag, old.models[tag], new.models[tag]) for tag in both]
    return CostDiff(
        machine=machine_differences(old.machine, new.machine),
        added=tuple(tag for tag in new.models if tag not in old.models),
        removed=tuple(tag for tag in old.models if tag not in new.models),
        newly_failing=tuple(
            (tag, f"{after.error.kind}: {after.error.message}")
            for tag, before, after in pairs
            if before.error is None and after.error is not None
        ),
        fixed=tuple(
            tag for tag, before, after in pairs if before.error is not None and after.error is None
        ),
        figures=tuple(
            change for tag, before, after in pairs for change in _figure_changes(tag, before, after)
        ),
        properties=tuple(
            change
            for tag, before, after in pairs
            for change in _property_changes(tag, before, after)
        ),
    )


def _figure_changes(tag: str, old: ModelCost, new: ModelCost) -> Iterator[FigureChange]:
    before = {figure.name: figure for figure in figures(old)}
    after = {figure.name: figure for figure in figures(new)}
    for name in dict.fromkeys([*after, *before]):
        pair = before.get(name), after.get(name)
        known = pair[1] or pair[0]
        change = _change(*pair)
        if change is None or known is None:
            continue
        was, now = (None if figure is None else figure.value for figure in pair)
        yield FigureChange(
            tag=tag,
            name=name,
            unit=known.unit,
            change=change,
            old=was,
            new=now,
            percent=None if not was or now is None else (now - was) / abs(was) * 100,
        )


def _change(old: Figure | None, new: Figure | None) -> Change | None:
    was = None if old is None else old.value
    now = None if new is None else new.value
    if was == now:
        return None
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if now is None:
        return "became-unknown"
    return "became-known" if was is None else "changed"


def _property_changes(tag: str, old: ModelCost, new: ModelCost) -> Iterator[PropertyChange]:
    before, after = _properties(old), _properties(new)
    for name in dict.fromkeys([*after, *before]):
        if before.get(name) != after.get(name):
            yield PropertyChange(tag, name, before.get(name), after.get(name))


def _properties(cost: ModelCost) -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "method": cost.method,
        "fingerprint": cost.fingerprint,
        "error": None if cost.error is None else f"{cost.error.kind}: {cost.error.message}",
    }
    for figure in figures(cost):
        if isinstance(figure.measured, MeasuredBytes):
            found[f"{figure.name}.evidence"] = figure.measured.evidence
    return found
