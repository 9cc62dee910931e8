"""Everything that a run holds open, and the measurement of model after model with it.

Owns the device's reader, the launcher of workers, the manager in isolation and the watch, for as
long as the run lasts. What happens to the figures afterwards (journal, database) is ``profile``'s.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import msgspec

from modelmgr.devices.discovery import open_reader
from modelmgr.errors import (
    DoesNotFitError,
    MissingPackageError,
    ModelLoadError,
    ModelmgrError,
    UsageError,
)
from modelmgr.measuring.ahead import WorkerAhead
from modelmgr.measuring.assembly import assemble_cost, failed_cost
from modelmgr.measuring.describer import Describer, runs_framework_code_only
from modelmgr.measuring.device_gauge import DeviceGauge
from modelmgr.measuring.gauges import Gauge
from modelmgr.measuring.guess import least_bytes_of_shapes
from modelmgr.measuring.host_gauge import HostGauge
from modelmgr.measuring.interruption import StopRequested, StopSignals
from modelmgr.measuring.isolation import Isolation
from modelmgr.measuring.model_run import ModelRun, Tools, start_worker
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.measuring.plan import STEP_ESTIMATE, ModelPlan, describe_dims
from modelmgr.measuring.preflight import Places, bad_input
from modelmgr.measuring.repeat import Deadline
from modelmgr.measuring.serial_observer import SerialObserver
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.measuring.watch import MemoryWatch
from modelmgr.records.costs import Eviction, ModelCost
from modelmgr.records.devices import DeviceDescription
from modelmgr.units import format_bytes
from modelmgr.workers.launcher import WorkerLauncher
from modelmgr.workers.placement import place
from modelmgr.workers.reports import EstimateReport

_MEASURABLE = frozenset({"cuda", "host"})


class Session:
    """The open run, within a ``with`` block.

    Attributes:
        signals: the signals that end a run, caught within the block.
        observer: the caller's, called by one thread at a time.
        packages: versions that the workers reported so far.
        interrupted: a signal ended ``measure_each`` early.
    """

    def __init__(self, settings: ProfileSettings, observer: ProfileObserver) -> None:
        """Open nothing yet."""
        self.signals = StopSignals()
        self.observer: ProfileObserver = SerialObserver(observer)
        self.packages: dict[str, str] = {}
        self.interrupted = False
        self._settings = settings
        self._resources = ExitStack()
        self._tools: Tools
        self._describer: Describer
        self._still_to_describe: set[str] = set()

    @property
    def device(self) -> DeviceDescription:
        """The device, its budget as its size."""
        return self._tools.reader.description

    def evictions(self) -> tuple[Eviction, ...]:
        """Return every eviction of this run so far."""
        return self._tools.isolation.evictions()

    def __enter__(self) -> Self:
        settings = self._settings
        with ExitStack() as opened:
            reader = open_reader(
                settings.device, budget_bytes=settings.budget_bytes, slack=settings.slack
            )
            opened.callback(reader.close)
            if reader.description.kind not in _MEASURABLE:
                raise UsageError(
                    f"device {settings.device!r} is a stated size and cannot be measured on; "
                    "name 'host' or a 'cuda:N'"
                )
            opened.enter_context(self.signals)
            launcher = opened.enter_context(WorkerLauncher())
            watch = opened.enter_context(
                MemoryWatch(
                    reader,
                    self.observer,
                    budget_bytes=settings.budget_bytes or reader.description.total_bytes,
                    on_tick=lambda: self._kill_when_stopped(launcher),
                )
            )
            self._tools = Tools(
                settings=settings,
                observer=self.observer,
                signals=self.signals,
                reader=reader,
                launcher=launcher,
                watch=watch,
                isolation=opened.enter_context(Isolation(reader)),
            )
            self._describer = opened.enter_context(
                Describer(launcher, place(reader.description).env)
            )
            self._resources = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def check_each(self, plans: Sequence[ModelPlan], places: Places) -> None:
        """Refuse models whose mistakes only their framework knows; nothing is loaded for that.

        A signal sets ``interrupted``, and the rest is not looked at.

        Raises:
            InputError: no such architecture or config key, a hub that cannot be reached.
        """
        try:
            for plan in plans:
                self.signals.check()
                if runs_framework_code_only(plan.spec):
                    self._check_by_framework(plan, places)
        except StopRequested:
            self.interrupted = True

    def _check_by_framework(self, plan: ModelPlan, places: Places) -> None:
        """Have a worker describe the model; a guess of no shape reads its config and no weight."""
        try:
            with self.signals.interruptible():
                self._tools.launcher.prepare(plan.spec, env=place(self.device).env)
                self._describer.estimate(plan.spec, (), timeout_s=self._settings.timeout_s)
        except (UsageError, ModelLoadError, MissingPackageError) as error:
            self.signals.check()
            raise bad_input(error, plan.spec.tag, places) from error
        except ModelmgrError:
            self.signals.check()  # a worker's own trouble: measuring will meet and record it

    def measure_each(self, plans: Sequence[ModelPlan]) -> Iterator[tuple[ModelPlan, ModelCost]]:
        """Measure model by model until done or asked to stop (``interrupted`` says which).

        The observer is told that a model is finished when the next one is asked for: by then the
        caller has put it where it is safe.
        """
        self._still_to_describe = {
            plan.spec.tag for plan in plans if plan.estimate and runs_framework_code_only(plan.spec)
        }
        if not self._still_to_describe:
            self._describer.close()
        try:
            for plan in plans:
                self.signals.check()
                self.observer.model_started(plan.spec.tag, steps=plan.steps)
                cost = self.measure(plan)
                yield plan, cost
                self.observer.model_finished(plan.spec.tag, cost)
        except StopRequested:
            self.interrupted = True

    def measure(self, plan: ModelPlan) -> ModelCost:
        """Measure one model; a failure of the model is in its record, not raised.

        Raises:
            StopRequested: a signal asked the run to stop.
        """
        tools = self._tools
        estimate: EstimateReport | None = None
        ahead: WorkerAhead | None = None
        notes: list[str] = []
        try:
            with self.signals.interruptible():
                # It serves all workers: not this model's time.
                tools.launcher.prepare(plan.spec, env=place(self.device).env)
            deadline = Deadline(plan.spec.tag, self._settings.timeout_s)
            ahead = self._start_ahead(plan, deadline)
            if plan.estimate:
                estimate = self._estimate(plan, deadline, notes)
                plan = self._without_misfits(plan, estimate, notes)
            gauge: Gauge = HostGauge() if self.device.kind == "host" else DeviceGauge(tools.reader)
            run = ModelRun(tools, plan, gauge, deadline, ahead)
            try:
                samples = run.measure()
            finally:
                notes += run.notes
            cost = assemble_cost(
                samples, evidence=gauge.evidence, device=self.device, estimate=estimate, notes=notes
            )
        except ModelmgrError as error:
            self.signals.check()
            tools.isolation.unload_idle()
            self.observer.model_failed(plan.spec.tag, error)
            return failed_cost(error, estimate=estimate, notes=notes)
        finally:
            if ahead is not None:
                ahead.close()
        for sample in samples:
            self.packages.update(sample.packages)
        return cost

    def _start_ahead(self, plan: ModelPlan, deadline: Deadline) -> WorkerAhead | None:
        """Let the first copy's worker get ready during the guess, where that disturbs nobody.

        Not where code of the model's author would run twice at a time, nor on a device, whose
        readings tell our processes apart only once they have a context.
        """
        if not (
            plan.estimate and runs_framework_code_only(plan.spec) and self.device.kind == "host"
        ):
            return None
        tools = self._tools
        return WorkerAhead(lambda: start_worker(tools, plan.spec), timeout_s=deadline.remaining_s())

    def _estimate(
        self, plan: ModelPlan, deadline: Deadline, notes: list[str]
    ) -> EstimateReport | None:
        """Return the guess; one that fails is no reason not to measure."""
        self.observer.step_started(plan.spec.tag, STEP_ESTIMATE)
        try:
            with self.signals.interruptible():
                return self._describer.estimate(
                    plan.spec, plan.shapes, timeout_s=deadline.remaining_s()
                )
        except ModelmgrError as error:
            self.signals.check()
            deadline.remaining_s()  # a time-out of the whole model is no failed guess
            notes.append(f"no estimate: {error}")
            return None
        finally:
            self._still_to_describe.discard(plan.spec.tag)
            if not self._still_to_describe:
                self._describer.close()  # models are measured alone

    def _without_misfits(
        self, plan: ModelPlan, estimate: EstimateReport | None, notes: list[str]
    ) -> ModelPlan:
        """Return the plan without the shapes that are certain not to fit; say which in a note.

        Raises:
            DoesNotFitError: none is left.
        """
        if estimate is None:
            return plan
        device, tag = self.device, plan.spec.tag
        limit_bytes = device.limit_bytes
        needs = least_bytes_of_shapes(estimate, count=len(plan.shapes))
        kept = tuple(
            dims
            for dims, need_bytes in zip(plan.shapes, needs, strict=True)
            if need_bytes is None or need_bytes <= limit_bytes
        )
        if not kept:
            least_bytes, smallest = min(
                (need_bytes or 0, describe_dims(dims))
                for dims, need_bytes in zip(plan.shapes, needs, strict=True)
            )
            at = f" at {smallest}" if smallest else ""
            raise DoesNotFitError(
                f"{tag!r} needs at least {format_bytes(least_bytes)}{at} and the limit of "
                f"{device.name} is {format_bytes(limit_bytes)}: it was not loaded; "
                "give it a larger --budget, or smaller shapes",
                tag=tag,
                needed_bytes=least_bytes,
                limit_bytes=limit_bytes,
            )
        for dims, need_bytes in zip(plan.shapes, needs, strict=True):
            if need_bytes is not None and need_bytes > limit_bytes:
                note = (
                    f"{describe_dims(dims)} was not measured: it needs at least "
                    f"{format_bytes(need_bytes)} and the limit is {format_bytes(limit_bytes)}"
                )
                notes.append(note)
                self.observer.noticed(f"{tag}: {note}")
        return msgspec.structs.replace(plan, shapes=kept)

    def _kill_when_stopped(self, launcher: WorkerLauncher) -> None:
        """End what a stopped run may be waiting for; called by the watching thread."""
        if self.signals.requested:
            for pid in launcher.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
