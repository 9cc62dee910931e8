"""One model, process after process: fresh copies by the manager, others' load, the second copy.

What is run inside a copy is ``repeat``'s; what becomes of the samples is ``assembly``'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from modelmgr.devices.reading import MemoryReader
from modelmgr.errors import ForeignLoadError, ModelmgrError
from modelmgr.measuring.ahead import WorkerAhead
from modelmgr.measuring.foreign import describe_foreign
from modelmgr.measuring.gauges import Gauge
from modelmgr.measuring.interruption import StopSignals
from modelmgr.measuring.isolation import Isolation
from modelmgr.measuring.observer import ProfileObserver
from modelmgr.measuring.plan import STEP_SECOND_COPY, ModelPlan
from modelmgr.measuring.repeat import Deadline, measure_copy, measure_second_copy
from modelmgr.measuring.samples import RepeatSample
from modelmgr.measuring.settings import ProfileSettings
from modelmgr.measuring.watch import MemoryWatch
from modelmgr.measuring.worker_copy import WorkerCopy
from modelmgr.units import format_bytes
from modelmgr.workers.launcher import Worker, WorkerLauncher
from modelmgr.workers.placement import place
from modelmgr.workload.model_spec import ModelSpec

_MAX_ATTEMPTS = 3  # of one process, while others move the memory and the caller said to wait
_QUIET_S = 1.0
_QUIET_TIMEOUT_S = 60.0
_QUIET_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a run has open and every model is measured with."""

    settings: ProfileSettings
    observer: ProfileObserver
    signals: StopSignals
    reader: MemoryReader
    launcher: WorkerLauncher
    watch: MemoryWatch
    isolation: Isolation

    @property
    def budget_bytes(self) -> int:
        """What one worker may hold: what the caller said, else all of the device."""
        return self.settings.budget_bytes or self.reader.description.total_bytes


def start_worker(tools: Tools, spec: ModelSpec, *, rehearse: bool = True) -> Worker:
    """Start a watched worker for a model where the run's models are loaded; errors as launcher's.

    Args:
        tools: the run's.
        spec: the model.
        rehearse: whether its framework warms up before the load, so that figures are the model's.
    """
    placement = place(tools.reader.description)
    worker = tools.launcher.start(
        spec,
        device=placement.device,
        seed=tools.settings.seed,
        budget_bytes=tools.budget_bytes,
        env=placement.env,
        rehearse=rehearse,
    )
    tools.watch.add(worker.pid)
    return worker


class ModelRun:
    """The measurement of one model.

    Attributes:
        notes: what a reader of the figures should know, so far.
    """

    def __init__(
        self,
        tools: Tools,
        plan: ModelPlan,
        gauge: Gauge,
        deadline: Deadline,
        ahead: WorkerAhead | None = None,
    ) -> None:
        """Measure nothing yet; the first copy loads in the worker that is ``ahead``, if any."""
        self._ahead = ahead
        self.notes: list[str] = []
        self._tools = tools
        self._plan = plan
        self._gauge = gauge
        self._deadline = deadline
        self._samples: list[RepeatSample] = []
        self._foreign_moved_bytes: list[int] = []
        self._told_foreign = False

    def measure(self) -> tuple[RepeatSample, ...]:
        """Measure in as many fresh processes as planned; return a sample of each.

        Raises:
            ForeignLoadError: others moved the device's memory, and the caller wants none of that.
            WorkerError: the model or its process failed.
            StopRequested: a signal asked the run to stop.
        """
        for repeat in range(self._plan.repeats):
            self._samples.append(self._measure_undisturbed(repeat))
        if self._foreign_moved_bytes:
            most_bytes = max(self._foreign_moved_bytes, key=abs)
            self.notes.append(describe_foreign(most_bytes, self._tools.reader.description.name))
        return tuple(self._samples)

    def _measure_undisturbed(self, repeat: int) -> RepeatSample:
        """Measure in one fresh process, and once more where others disturbed and we may wait."""
        tools, tag = self._tools, self._plan.spec.tag
        action = tools.settings.isolation_action
        attempts = _MAX_ATTEMPTS if action == "wait" else 1
        while True:
            if action == "wait":
                self._wait_until_quiet()
            tools.watch.start_foreign()
            sample = self._measure_process(repeat)
            moved_bytes = tools.watch.foreign_moved_bytes()
            if moved_bytes is None:
                return sample
            told = describe_foreign(moved_bytes, tools.reader.description.name)
            if not self._told_foreign:  # one line a model; its note has the largest movement
                self._told_foreign = True
                tools.observer.noticed(f"{tag}: {told}")
            if action == "error":
                raise ForeignLoadError(
                    f"{told}; stop it, or measure with --device-isolation-action wait"
                )
            attempts -= 1
            if attempts <= 0:
                self._foreign_moved_bytes.append(moved_bytes)
                return sample
            tools.isolation.unload_idle()

    def _measure_process(self, repeat: int) -> RepeatSample:
        plan, tools = self._plan, self._tools
        tag = plan.spec.tag
        last = repeat == plan.repeats - 1
        self._step(plan.load_step(repeat))
        with tools.isolation.lease(tag, self._load) as copy:
            sample = self._measure_held(copy, repeat)
            if sample.peak_bytes is not None:
                tools.isolation.learn(tag, max(sample.peak_bytes, sample.load_peak_bytes or 0))
        second_copy_bytes = self._second_copy(sample) if last else None
        self._step(plan.unload_step(repeat))
        # The last copies of a model that was unloaded before stay, for the next model's isolation
        # to evict: a real eviction for the trace, of a copy whose unload was measured already.
        if not (last and any(earlier.reclaim_ns is not None for earlier in self._samples)):
            tools.isolation.unload_idle()
        if copy.note is not None:
            self.notes.append(copy.note)
        return msgspec.structs.replace(
            sample,
            second_copy_bytes=second_copy_bytes,
            reclaim_ns=copy.reclaim_ns,
            residue_bytes=copy.residue_bytes,
        )

    def _measure_held(self, copy: WorkerCopy, repeat: int) -> RepeatSample:
        """Measure in a held copy; where that fails, its process is ended: it is not to be used."""
        try:
            return measure_copy(
                copy,
                self._plan,
                self._gauge,
                repeat=repeat,
                seed=self._tools.settings.seed,
                deadline=self._deadline,
                step=self._step,
            )
        except BaseException as error:
            copy.kill()
            explained = copy.explained(error)
            if explained is error:
                raise
            raise explained from error

    def _second_copy(self, sample: RepeatSample) -> int | None:
        """Return what a second copy costs while the first is held, None with a note otherwise."""
        tools, tag = self._tools, self._plan.spec.tag
        self._step(STEP_SECOND_COPY)
        peak_bytes = max(sample.peak_bytes or 0, sample.load_peak_bytes or 0)
        limit_bytes = tools.reader.description.limit_bytes
        if 2 * peak_bytes > limit_bytes:
            self.notes.append(
                "no second copy was tried: two of them may not fit the limit of "
                f"{format_bytes(limit_bytes)}"
            )
            return None
        try:
            with (
                tools.isolation.lease(tag, self._load),
                tools.isolation.lease(tag, self._load_second) as second,
            ):
                second_bytes = self._measure_second(second)
        except ModelmgrError as error:
            tools.signals.check()
            self.notes.append(f"a second copy could not be measured: {error}")
            return None
        if second_bytes is None:
            self.notes.append(
                "a second copy ran but could not be measured: its memory could not be read"
            )
        return second_bytes

    def _measure_second(self, second: WorkerCopy) -> int | None:
        try:
            return measure_second_copy(
                second,
                self._plan,
                self._gauge,
                seed=self._tools.settings.seed,
                deadline=self._deadline,
            )
        except BaseException as error:
            second.kill()
            explained = second.explained(error)
            if explained is error:
                raise
            raise explained from error

    def _load(self) -> WorkerCopy:
        """Make a copy: what the manager calls, in this thread."""
        self._tools.signals.check()
        ahead, self._ahead = self._ahead, None
        worker = None if ahead is None else ahead.take()
        return self._copy(worker or start_worker(self._tools, self._plan.spec))

    def _load_second(self) -> WorkerCopy:
        """Make the copy of which its own pages alone are read, whoever they belong to."""
        self._tools.signals.check()
        return self._copy(start_worker(self._tools, self._plan.spec, rehearse=False))

    def _copy(self, worker: Worker) -> WorkerCopy:
        tools = self._tools
        return WorkerCopy(
            worker,
            gauge=self._gauge,
            reader=tools.reader,
            watch=tools.watch,
            budget_bytes=tools.budget_bytes,
            timeout_s=self._deadline.remaining_s(),
        )

    def _wait_until_quiet(self) -> None:
        """Return once nobody else moved the memory for a second, or after a bounded wait."""
        tools = self._tools
        ends_s = time.monotonic() + _QUIET_TIMEOUT_S
        tools.watch.start_foreign()
        quiet_since_s = time.monotonic()
        while (now_s := time.monotonic()) - quiet_since_s < _QUIET_S:
            tools.signals.check()
            self._deadline.remaining_s()
            if now_s > ends_s:
                tools.observer.noticed("the device did not become quiet: measuring all the same")
                return
            time.sleep(_QUIET_POLL_S)
            if tools.watch.foreign_moved_bytes() is not None:
                tools.watch.start_foreign()
                quiet_since_s = time.monotonic()

    def _step(self, name: str) -> None:
        self._tools.signals.check()
        self._tools.observer.step_started(self._plan.spec.tag, name)
