"""``estimate``: what each model would take, without loading any of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelmgr.devices.discovery import open_reader
from modelmgr.errors import ModelmgrError
from modelmgr.measuring.describer import Describer
from modelmgr.measuring.guess import fit_from_guess
from modelmgr.measuring.interruption import StopSignals
from modelmgr.measuring.machine import refuse_budget
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.measuring.plan import STEP_ESTIMATE
from modelmgr.measuring.preflight import Places
from modelmgr.measuring.profile import plan_models
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.reports import EstimateReport
from modelmgr.workload.model_spec import ModelSpec

_NO_PLACES: Places = {}


class ModelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """One model's guess.

    Attributes:
        tag: the model.
        shapes: what was guessed, in the order of the report's activations.
        report: the guess, None where it failed.
        error: why it failed, None where it did not.
        fits: whether the model fits the device's limit: True and False are certain, None is not.
        least_bytes: what it needs at the very least, None where that is not certain.
    """

    tag: str
    shapes: tuple[dict[str, int], ...] = ()
    report: EstimateReport | None = None
    error: ModelmgrError | None = None
    fits: bool | None = None
    least_bytes: int | None = None


def estimate_models(
    models: Sequence[ModelSpec],
    settings: ProfileSettings,
    observer: ProfileObserver,
    *,
    places: Places = _NO_PLACES,
) -> tuple[ModelEstimate, ...]:
    """Guess what each model costs from its architecture or file, loading none.

    Args:
        models: what to guess, in order.
        settings: ``device``, ``budget_bytes``, ``slack`` and ``timeout_s`` matter; nothing is
            written to ``out``.
        observer: is told which model is looked at.
        places: where the models stand in their list, for messages: ``ModelList.places``.

    Raises:
        InputError: a model of the list can be seen to be wrong; says where.
        UsageError: the settings or the list make no sense.
        DeviceError: there is no such device, or it cannot be read.
        KeyboardInterrupt: a signal asked to stop.
    """
    settings.check()
    plans = plan_models(models, settings, places)
    reader = open_reader(settings.device, budget_bytes=settings.budget_bytes, slack=settings.slack)
    reader.close()
    refuse_budget(reader.description, settings.budget_bytes)
    limit_bytes = reader.description.limit_bytes
    estimates: list[ModelEstimate] = []
    with (
        StopSignals() as signals,
        signals.interruptible(),
        WorkerLauncher() as launcher,
        Describer(launcher) as describer,
    ):
        for plan in plans:
            tag = plan.spec.tag
            observer.step_started(tag, STEP_ESTIMATE)
            try:
                launcher.prepare(plan.spec)
                report = describer.estimate(plan.spec, plan.shapes, timeout_s=settings.timeout_s)
            except ModelmgrError as error:
                estimates.append(ModelEstimate(tag=tag, shapes=plan.shapes, error=error))
                continue
            fit = fit_from_guess(report, limit_bytes=limit_bytes)
            estimates.append(
                ModelEstimate(
                    tag=tag,
                    shapes=plan.shapes,
                    report=report,
                    fits=fit.fits,
                    least_bytes=fit.least_bytes,
                )
            )
    return tuple(estimates)
