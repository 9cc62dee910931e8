"""``verify``: measure a few models again and say whether a cost database still holds here.

Nothing is written. A figure holds where the new measurement is within the tolerance of the stored
one; a model holds where all its figures do and it could be measured at all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from modelmgr.errors import UsageError
from modelmgr.measuring.machine import describe_machine, refuse_budget
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.measuring.preflight import Places
from modelmgr.measuring.profile import plan_models
from modelmgr.measuring.session import Session
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.records.costs import CostDatabase, MachineInfo, ModelCost
from modelmgr.records.machines import machine_differences
from modelmgr.records.measured import MeasuredBytes
from modelmgr.workload.model_spec import ModelSpec

_NO_PLACES: Places = {}
# Memory that is measured exactly repeats; what a neighbour can change (latency, load time) is no
# test of whether the database is true.
_FIGURES = ("resident_bytes", "peak_bytes")


class VerifiedFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One stored figure beside its new measurement, bytes.

    Attributes:
        tag: the model.
        name: the figure's name in the database.
        stored_bytes: what the database says.
        measured_bytes: what came out now, None where it could not be measured.
        relative: measured over stored, less one; None where it could not be measured.
        holds: within the tolerance.
    """

    tag: str
    name: str
    stored_bytes: int
    measured_bytes: int | None
    relative: float | None
    holds: bool


class VerifyOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found.

    Attributes:
        tags: the models that were measured again, in order.
        figures: every figure that was compared.
        failed: why a model could not be measured, by tag.
        differences: what is different about this machine, e.g. a package's version; each a
            sentence. They explain, and fail nothing.
        interrupted: a signal ended it early; the rest was not looked at.
        tolerance: the share that a figure may be off.
    """

    tags: tuple[str, ...]
    figures: tuple[VerifiedFigure, ...]
    failed: dict[str, str]
    differences: tuple[str, ...]
    interrupted: bool
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether everything that was looked at still holds, and something was."""
        return (
            bool(self.figures)
            and not self.failed
            and not self.interrupted
            and all(figure.holds for figure in self.figures)
        )


def verify_costs(
    database: CostDatabase,
    models: Sequence[ModelSpec],
    settings: ProfileSettings,
    observer: ProfileObserver,
    *,
    sample: int | None,
    tolerance: float,
    places: Places = _NO_PLACES,
) -> VerifyOutcome:
    """Measure models of a database again and compare.

    Args:
        database: what was measured before.
        models: how to load them; those that the database has no figures of are left out.
        settings: how to measure; ``repeats`` defaults to 1 here, ``out`` and ``resume`` play no
            part, and ``seed`` chooses the sample.
        observer: is told what happens.
        sample: how many models at most, None for all.
        tolerance: the share that a figure may be off, e.g. 0.05.
        places: where the models stand in their list, for messages: ``ModelList.places``.

    Raises:
        InputError: a model of the list can be seen to be wrong; says where.
        UsageError: the settings make no sense, or no model of the list is in the database.
        DeviceError: there is no such device, or it cannot be read.
    """
    settings.check()
    if not tolerance >= 0:
        raise UsageError(f"the tolerance is {tolerance}: give a share, e.g. 0.05")
    if sample is not None and sample < 1:
        raise UsageError(f"the sample is {sample}: verify at least one model")
    chosen = choose_models(database, models, sample=sample, seed=settings.seed)
    repeats = 1 if settings.repeats is None else settings.repeats
    settings = msgspec.structs.replace(settings, repeats=repeats, estimate=False)
    plans = plan_models(chosen, settings, places)
    figures: list[VerifiedFigure] = []
    failed: dict[str, str] = {}
    done: list[str] = []
    with Session(settings, observer) as session:
        refuse_budget(session.device, settings.budget_bytes)
        differences = describe_differences(database.machine, describe_machine(session.device))
        session.observer.run_started(
            tuple(plan.spec.tag for plan in plans),
            device=session.device.name,
            limit_bytes=session.device.limit_bytes,
        )
        for plan, cost in session.measure_each(plans):
            tag = plan.spec.tag
            done.append(tag)
            if cost.error is not None:
                failed[tag] = f"{cost.error.kind}: {cost.error.message}"
            else:
                figures += compare_costs(tag, database.models[tag], cost, tolerance=tolerance)
        interrupted = session.interrupted
    return VerifyOutcome(
        tags=tuple(done),
        figures=tuple(figures),
        failed=failed,
        differences=differences,
        interrupted=interrupted,
        tolerance=tolerance,
    )


def choose_models(
    database: CostDatabase, models: Sequence[ModelSpec], *, sample: int | None, seed: int
) -> tuple[ModelSpec, ...]:
    """Return which models to measure again: the same ones for the same seed, in the list's order.

    Raises:
        UsageError: no model of the list has figures in the database.
    """
    known = [
        spec
        for spec in models
        if (cost := database.models.get(spec.tag)) is not None and cost.resident_bytes is not None
    ]
    if not known:
        raise UsageError(
            f"none of {', '.join(spec.tag for spec in models) or 'no models'} has figures in the "
            f"database; it has {', '.join(database.models) or 'none'}"
        )
    if sample is None or sample >= len(known):
        return tuple(known)
    chosen = random.Random(seed).sample(range(len(known)), sample)  # noqa: S311 - a choice, no secret
    return tuple(known[position] for position in sorted(chosen))


def compare_costs(
    tag: str, stored: ModelCost, measured: ModelCost, *, tolerance: float
) -> list[VerifiedFigure]:
    """Return the stored memory figures of a model beside the new ones."""
    figures: list[VerifiedFigure] = []
    for name in _FIGURES:
        before: MeasuredBytes | None = getattr(stored, name)
        now: MeasuredBytes | None = getattr(measured, name)
        if before is None or before.value <= 0:
            continue
        relative = None if now is None else now.value / before.value - 1
        figures.append(
            VerifiedFigure(
                tag=tag,
                name=name,
                stored_bytes=before.value,
                measured_bytes=None if now is None else now.value,
                relative=relative,
                holds=relative is not None and abs(relative) <= tolerance,
            )
        )
    return figures


def describe_differences(stored: MachineInfo, now: MachineInfo) -> tuple[str, ...]:
    """Return in what this machine differs from the one that a database was measured on."""
    return tuple(
        f"{each.name.removeprefix('packages.')} was {each.old} and is {each.new or 'unknown'}"
        for each in machine_differences(stored, now)
        # A worker tells of more packages than are known before it has run.
        if each.old is not None and (each.new is not None or not each.name.startswith("packages."))
    )
