"""Merge cost databases without losing a model, and say which figure won and why.

Pure: databases in, one database and the reasons out. A model's figures stay together, since they
only add up with each other; what is chosen is whose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import msgspec

from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase, ModelCost
from modelmgr.records.machines import Difference, is_same_device, machine_differences

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MergeChoice:
    """Whose figures a model has in the merged database; only where there was a choice.

    Attributes:
        tag: the model.
        winner: name of the database whose figures were taken.
        losers: names of the others that have the model.
        reason: why, against the closest of the others.
    """

    tag: str
    winner: str
    losers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ForeignMachine:
    """A database that was measured on another machine or device than the merged one names.

    Attributes:
        name: of the database.
        is_other_device: its figures need not hold on the merged database's device.
        differences: what differs; ``old`` is the merged database's.
        tags: the models whose figures in the merged database come from there.
    """

    name: str
    is_other_device: bool
    differences: tuple[Difference, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merged database and how it came about.

    Attributes:
        database: every model of every database.
        origins: for each model the name of the database that its figures come from.
        choices: for each model that several had, whose figures won and why.
        foreign: databases of another machine, first the ones of another device.
    """

    database: CostDatabase
    origins: dict[str, str]
    choices: tuple[MergeChoice, ...]
    foreign: tuple[ForeignMachine, ...]


class _Offer(NamedTuple):
    """One database's figures for a model."""

    position: int
    database: CostDatabase
    cost: ModelCost
    is_same_device: bool


_Rule = Callable[[_Offer], float]

# Each with the words for why the larger value wins; the first rule that tells two offers apart
# decides.
_RULES: tuple[tuple[_Rule, str], ...] = (
    (lambda offer: offer.cost.error is None, "the other could not be measured"),
    (lambda offer: offer.is_same_device, "the other was measured on another device"),
    (lambda offer: offer.cost.method == "isolation", "measured in isolation, not in aggregate"),
    (lambda offer: offer.cost.observations, "more observations"),
    (lambda offer: _created(offer.database).timestamp(), "newer"),
    (lambda offer: -offer.position, "equally good and named first"),
)


def merge(databases: Sequence[CostDatabase], *, names: Sequence[str] | None = None) -> MergeResult:
    """Merge databases into one that has every model of each.

    The merged database is the newest one's (its machine, tool and time; of equals the first one
    named). Where several have a model, these rules decide in turn: measured rather than failed; on
    the merged database's device rather than on another; in isolation rather than in aggregate; more
    observations; newer; named first. Evictions and runs are those of all, each once.

    Args:
        databases: at least one.
        names: what to call them in the reasons, for example their paths; by default ``#1``, ...

    Raises:
        UsageError: no database, or not as many names as databases.
    """
    if not databases:
        raise UsageError("there is no database to merge; name at least one")
    called = [f"#{number}" for number in range(1, len(databases) + 1)] if names is None else names
    if len(called) != len(databases):
        raise UsageError(f"{len(called)} names for {len(databases)} databases")
    base = max(databases, key=_created)  # of equals, max takes the first
    models: dict[str, ModelCost] = {}
    origins: dict[str, int] = {}
    choices: list[MergeChoice] = []
    for tag in dict.fromkeys(tag for database in databases for tag in database.models):
        offers = [
            _Offer(position, database, database.models[tag], _is_on(base, database))
            for position, database in enumerate(databases)
            if tag in database.models
        ]
        offers.sort(key=lambda offer: [rule(offer) for rule, _ in _RULES], reverse=True)
        winner, *losers = offers
        models[tag] = winner.cost
        origins[tag] = winner.position
        if losers:
            choices.append(
                MergeChoice(
                    tag=tag,
                    winner=called[winner.position],
                    losers=tuple(called[loser.position] for loser in losers),
                    reason=_reason(winner, losers[0]),
                )
            )
    merged = msgspec.structs.replace(
        base,
        models=models,
        evictions=_union([database.evictions for database in databases]),
        runs=_union([database.runs for database in databases]),
    )
    foreign = _foreign(base, databases, called, origins)
    named = {tag: called[position] for tag, position in origins.items()}
    return MergeResult(merged, named, tuple(choices), foreign)


def _created(database: CostDatabase) -> datetime:
    try:
        created_at = datetime.fromisoformat(database.created_at)
    except ValueError as error:
        raise UsageError(f"created_at {database.created_at!r} is no time (RFC 3339)") from error
    return created_at if created_at.tzinfo is not None else created_at.replace(tzinfo=UTC)


def _is_on(base: CostDatabase, database: CostDatabase) -> bool:
    return is_same_device(base.machine, database.machine)


def _reason(winner: _Offer, loser: _Offer) -> str:
    if winner.cost == loser.cost:
        return "the same figures"
    return next(words for rule, words in _RULES if rule(winner) != rule(loser))


def _union(parts: Sequence[Sequence[_T]]) -> tuple[_T, ...]:
    """Return all entries in order, those of a later part only where no earlier one has them."""
    kept: list[_T] = []
    for part in parts:
        # Not against its own part: one file may well say the same thing twice.
        earlier = {msgspec.msgpack.encode(entry) for entry in kept}
        kept += [entry for entry in part if msgspec.msgpack.encode(entry) not in earlier]
    return tuple(kept)


def _foreign(
    base: CostDatabase,
    databases: Sequence[CostDatabase],
    called: Sequence[str],
    origins: dict[str, int],
) -> tuple[ForeignMachine, ...]:
    found = [
        ForeignMachine(
            name=name,
            is_other_device=not _is_on(base, database),
            differences=differences,
            tags=tuple(tag for tag, origin in origins.items() if origin == position),
        )
        for position, (database, name) in enumerate(zip(databases, called, strict=True))
        if (differences := machine_differences(base.machine, database.machine))
    ]
    return tuple(sorted(found, key=lambda entry: not entry.is_other_device))
