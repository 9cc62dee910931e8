"""One model in one fresh process: which runs are made, in which order, and what is kept of them.

The order matters. The memory phase of all shapes comes first: an allocator that was set for speed
cannot be talked back into returning what is freed. Resident memory is read after the first run, as
mapped weights are touched only then. Latencies come last, with the allocator as in production.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from modelmgr.errors import WorkerTimeoutError
from modelmgr.measuring.gauges import Gauge, RunFigures
from modelmgr.measuring.leak import RunGrowth, find_leak
from modelmgr.measuring.plan import ModelPlan
from modelmgr.measuring.samples import RepeatSample, ShapeSample, with_descendants
from modelmgr.measuring.stability import batches_still_needed
from modelmgr.measuring.worker_copy import WorkerCopy

_WARMUPS = 1
_GROWTH_NOTE = "weights are what the process grew by over the load: the loader does not count them"


class Deadline:
    """When a model's measurement must be over."""

    def __init__(self, tag: str, timeout_s: float | None) -> None:
        """Start now; None never ends."""
        self._tag = tag
        self._timeout_s = timeout_s
        self._started_s = time.monotonic()

    def remaining_s(self) -> float | None:
        """Return the seconds left, None where there is no end.

        Raises:
            WorkerTimeoutError: there are none left.
        """
        if self._timeout_s is None:
            return None
        left = self._timeout_s - (time.monotonic() - self._started_s)
        if left <= 0:
            raise WorkerTimeoutError(
                f"measuring {self._tag!r} took longer than its time-out of {self._timeout_s:g} s; "
                "give it a larger --timeout, or fewer shapes or repeats"
            )
        return left


def measure_copy(
    copy: WorkerCopy,
    plan: ModelPlan,
    gauge: Gauge,
    *,
    repeat: int,
    seed: int,
    deadline: Deadline,
    step: Callable[[str], None],
) -> RepeatSample:
    """Run every shape in both phases in a copy that was just loaded; return what it showed.

    Args:
        copy: held by the caller.
        plan: which shapes.
        gauge: reads the copy's memory.
        repeat: which process this is, counted from 0, for the steps' names.
        seed: of the random batches.
        deadline: for the whole model.
        step: is told what begins; may raise to end the measurement.

    Raises:
        WorkerError: the model or its process failed.
    """
    worker, load = copy.worker, copy.figures
    resident_bytes, runtime_bytes = load.loaded_bytes, load.start_bytes
    held: list[tuple[int, int]] = [(load.descendant_bytes, load.report.descendants)]
    shapes: list[ShapeSample] = []
    done: list[RunFigures] = []
    for dims in plan.shapes:
        step(plan.shape_step(dims, "memory", repeat))
        run = gauge.run(
            worker,
            dims,
            phase="memory",
            warmups=_WARMUPS,
            repeats=1,
            seed=seed,
            timeout_s=deadline.remaining_s(),
        )
        done.append(run)
        if not shapes:
            rest = gauge.rest(worker, load)
            resident_bytes, runtime_bytes = rest.resident_bytes, rest.runtime_bytes
        shapes.append(
            ShapeSample(
                dims=dims,
                before_bytes=run.before_bytes,
                activation_bytes=run.activation_bytes,
            )
        )
    for position, shape in enumerate(shapes):
        step(plan.shape_step(shape.dims, "latency", repeat))
        shapes[position], runs = _with_latency(shape, copy, gauge, seed=seed, deadline=deadline)
        done += runs
    held += ((run.descendant_bytes, run.report.descendants) for run in done)
    report = load.report
    weights_bytes = report.weights_bytes
    notes: tuple[str, ...] = ()
    if weights_bytes is None and load.loaded_bytes is not None and load.start_bytes:
        weights_bytes = max(0, load.loaded_bytes - load.start_bytes)
        notes = (_GROWTH_NOTE,)
    sample = RepeatSample(
        runtime_bytes=runtime_bytes,
        weights_bytes=weights_bytes,
        notes=notes,
        loaded_bytes=load.loaded_bytes,
        resident_bytes=resident_bytes,
        load_peak_bytes=load.peak_bytes,
        load_ns=report.load_ns,
        shapes=tuple(shapes),
        fingerprint=report.fingerprint,
        packages=report.packages,
        leak=find_leak([_growth(run) for run in done]),
    )
    held_bytes, processes = max(held)
    return with_descendants(sample, processes=processes, held_bytes=held_bytes)


def _growth(run: RunFigures) -> RunGrowth:
    report = run.report
    return RunGrowth(
        batches=len(report.latencies_ns),
        grown_bytes=report.after.anon_bytes - report.before.anon_bytes,
    )


def _with_latency(
    shape: ShapeSample, copy: WorkerCopy, gauge: Gauge, *, seed: int, deadline: Deadline
) -> tuple[ShapeSample, list[RunFigures]]:
    """Return the sample with its latencies, measured until they are stable, and the runs."""
    latencies: list[int] = []
    runs: list[RunFigures] = []
    while count := batches_still_needed(latencies):
        run = gauge.run(
            copy.worker,
            shape.dims,
            phase="latency",
            warmups=0 if latencies else _WARMUPS,
            repeats=count,
            seed=seed,
            timeout_s=deadline.remaining_s(),
        )
        latencies += run.report.latencies_ns
        runs.append(run)
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    measured = ShapeSample(
        dims=shape.dims,
        before_bytes=shape.before_bytes,
        activation_bytes=shape.activation_bytes,
        default_peak_bytes=max(peaks, default=None),
        latencies_ns=tuple(latencies),
    )
    return measured, runs


def measure_second_copy(
    second: WorkerCopy, plan: ModelPlan, gauge: Gauge, *, seed: int, deadline: Deadline
) -> int | None:
    """Run one batch in a second copy, so that its weights are touched; return what it costs."""
    run = gauge.run(
        second.worker,
        plan.shapes[0],
        phase="memory",
        warmups=0,
        repeats=1,
        seed=seed,
        timeout_s=deadline.remaining_s(),
    )
    own_bytes = gauge.further_copy(second.worker, second.figures)
    if own_bytes is None:
        return None
    return own_bytes + max(run.descendant_bytes, second.figures.descendant_bytes)
