"""What a manager comes to believe of what models cost: from measurements, failures and growth.

Every method asks the estimator, which may take its time, outside of the manager's lock. What it
returns tells the scheduler, under the lock and with the time, and answers with what follows. An
estimator of the caller's that fails harms no request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.runtime.loaded import Loaded
from modelmgr.runtime.measurement import JobMeasurement, MeasuredCosts, own_costs
from modelmgr.scheduling.actions import Action
from modelmgr.scheduling.beliefs import from_estimate
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.scheduling.scheduler import Scheduler
from modelmgr.units import MIB

Told = Callable[[int], list[Action]]
"""Tells the scheduler something, under the lock, and answers with what follows."""

_LOG = logging.getLogger("modelmgr")
# Jobs after the first that are watched where only the device's readings tell what a model takes.
_MEASURED_AGAIN = 2
# What a second load may take more than the first: allocators and drivers round.
_NOISE = 1.02


def nothing(_: int) -> list[Action]:
    """Tell nothing."""
    return []


@contextmanager
def _estimator_of_the_callers(tag: str) -> Generator[None]:
    """Let what the estimator raises go no further than the log: it must harm no request."""
    try:
        yield
    except Exception:  # noqa: BLE001 - a caller's code may raise anything
        _LOG.warning("the estimator failed for %r", tag, exc_info=True)


class CostKeeper:
    """Keeps the scheduler's costs in step with what is measured.

    Args:
        scheduler: who is told; its costs are read without the lock, as plain values.
        estimator: what learns.
    """

    def __init__(self, scheduler: Scheduler, estimator: ResourceEstimator) -> None:
        self._scheduler = scheduler
        self._estimator = estimator

    def known(self, tag: str, *, again: bool = False) -> Told:
        """Give the scheduler what the estimator knows, where it knows nothing or is told again."""
        scheduler = self._scheduler
        model = scheduler.models.get(tag)
        if model is not None and model.costs is not None and not again:
            return nothing
        found: ModelCosts | None = None
        with _estimator_of_the_callers(tag):
            if not self._estimator.is_unknown(tag):
                most_bytes = max(device.ledger.limit_bytes for device in scheduler.devices)
                load_ns = None if model is None else model.load_ns_seen
                found = from_estimate(self._estimator.estimate(tag), load_ns, most_bytes=most_bytes)
        if found is None:
            return nothing
        costs = found

        def tell(now_ns: int) -> list[Action]:
            if scheduler.model(tag).costs is not None and not again:
                return []
            return scheduler.set_costs(tag, costs, now_ns)

        return tell

    def measured(self, tag: str, loaded: Loaded) -> Told:
        """End an unknown model's measurement; the answer tells its figures."""
        figures: MeasuredCosts | None = None
        if loaded.tells_itself:
            figures = own_costs(loaded.instance)
        elif loaded.measurement is not None:
            figures = loaded.measurement.finish()
            loaded.measurement = None
        limit_bytes = self._scheduler.devices[loaded.device].ledger.limit_bytes
        if figures is not None and not loaded.tells_itself:
            if figures.peak_bytes > limit_bytes:
                # It ran on this device, so this is not what it took: others moved the figure.
                figures = None
            else:
                loaded.resident_bytes = figures.resident_bytes
                loaded.measure_again = _MEASURED_AGAIN
        if figures is not None:
            with _estimator_of_the_callers(tag):
                if self._estimator.is_unknown(tag):
                    self._estimator.record_isolation(
                        tag, figures.resident_bytes or None, figures.peak_bytes
                    )
        return self.known(tag)

    def measured_again(self, tag: str, loaded: Loaded, measurement: JobMeasurement) -> Told:
        """Take in what a later job added while it ran alone."""
        running_bytes = measurement.finish_running()
        if running_bytes is None:
            return nothing
        resident_bytes = loaded.resident_bytes or 0
        peak_bytes = max(resident_bytes + running_bytes, MIB)
        with _estimator_of_the_callers(tag):
            self._estimator.record_isolation(tag, resident_bytes or None, peak_bytes)
        return self.known(tag, again=True)

    def exhausted(self, tag: str, had_bytes: int) -> Told:
        """Take note that a model ran out of memory with so much charged to it."""
        scheduler = self._scheduler
        model = scheduler.models.get(tag)
        known = None if model is None else model.costs
        ledgers = [device.ledger for device in scheduler.devices]
        most_bytes = max(ledger.limit_bytes - ledger.foreign_bytes for ledger in ledgers)
        raised = None
        if known is not None:
            raised = known.after_out_of_memory(max(had_bytes, known.needed_bytes), most_bytes)
        at_least = had_bytes if raised is None else raised.peak_bytes
        if at_least > 0:
            with _estimator_of_the_callers(tag):
                self._estimator.record_out_of_memory(tag, at_least)
        if raised is None:
            return nothing
        costs = raised
        return lambda now_ns: scheduler.set_costs(tag, costs, now_ns)

    def grown(self, tag: str, grown_bytes: int) -> Told:
        """Raise what a model costs where loading it again took more than it is taken to cost.

        Its isolation run may have been spoiled by others who gave memory back meanwhile. Less says
        nothing: an allocator may have kept room from the last time.
        """
        scheduler = self._scheduler
        known = scheduler.model(tag).costs
        if known is None:
            return nothing
        running_bytes = known.peak_bytes - known.resident_bytes
        with _estimator_of_the_callers(tag):
            estimate = self._estimator.estimate(tag)
            believed_bytes = None if estimate is None else estimate.resident_bytes
            if believed_bytes is not None and grown_bytes > believed_bytes * _NOISE:
                self._estimator.record_isolation(tag, grown_bytes, grown_bytes + running_bytes)
        if grown_bytes <= known.resident_bytes * _NOISE:
            return nothing
        peak_bytes = max(known.peak_bytes, grown_bytes + running_bytes)
        costs = replace(known, resident_bytes=grown_bytes, peak_bytes=peak_bytes)
        return lambda now_ns: scheduler.set_costs(tag, costs, now_ns)
