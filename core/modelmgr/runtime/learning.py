"""Learning while models are in use: from a device's readings to what each model costs.

A reading teaches something when it is known what was loaded and what was at work while it was
taken. So each device has a *generation*, counted up by everything that is granted, released, loaded
or unloaded on it; a reading counts when it began and ended in one. Readings of one generation are
one *window*, and its peak is one observation.

Two kinds of evidence, and what each may do:

* **Own bytes** of a copy in a process of its own. They are exact: an estimate rises as soon as one
  is seen above it. Watched to its end (three readings), a job also says what is typical, and after
  99 of them the largest is the upper figure, be it lower than what was told.
* **The rest of the device's use**, told apart by regression. What is at rest is in every reading.
  What is at work shows its peak only to somebody who looks often: a window with work in it counts
  from three readings, and a figure that was told may fall after 100 such windows. A figure that
  was measured alone (three runs) never falls because of readings that may have missed its peak.

Where a reading tells this process's own bytes apart, models that live in it are learned from those,
and nobody else's memory comes into it. Where it does not, the device's whole use is what there is;
each device has others on it, so that each is told apart by itself.

``changed`` is on the way of every hit and only counts. ``mark`` and ``reading`` belong to whoever
reads the device and only note things down. The work is done in ``take``, outside of any lock.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from modelmgr.devices.reading import MemoryReading
from modelmgr.estimation.cost_estimate import CostEstimate
from modelmgr.estimation.estimator import ResourceEstimator
from modelmgr.estimation.own_use import ENOUGH_JOBS
from modelmgr.runtime.configuration import Configuration, OwnBytes
from modelmgr.scheduling.copies import ModelCosts
from modelmgr.units import MIB

_LOG = logging.getLogger("modelmgr")
FEWEST_READINGS = 3  # of a window with work in it, or of a job, to have seen its peak
ENOUGH_WINDOWS = 100  # with a model at work, before readings may lower what it was told to take
ENOUGH_RESTS = 30  # windows with a model at rest, before they may lower its resident size
FIRM_RUNS = 3  # isolation runs that no reading of the whole device outvotes
_LONGEST_WINDOW = 64  # readings: one that never ends teaches what it has to teach once
_FALL = 0.02  # share of a figure from which it is told anew; more is told at once
_MOST_NOTES = 10_000  # not yet taken in; a manager that nobody watches forgets the oldest


class Mark(NamedTuple):
    """The moment before a reading."""

    generation: int
    at_ns: int


class _Observation(NamedTuple):
    """A closed window: what was loaded and active (told apart ones left out), and its peak."""

    device: int
    loaded: dict[str, int]
    active: dict[str, int]
    peak_bytes: int


class _OwnUse(NamedTuple):
    """What a copy's own process held."""

    tag: str
    peak_bytes: int | None
    resident_bytes: int | None
    whole_job: bool


@dataclass(slots=True)
class _Job:
    """A copy as its own process's readings show it; ``number`` is None at rest."""

    tag: str
    number: int | None
    readings: int = 0
    peak_bytes: int = 0


@dataclass(slots=True)
class _Device:
    """One device's open window, and its copies in processes of their own."""

    window: int = -1
    loaded: dict[str, int] = field(default_factory=dict[str, int])
    active: dict[str, int] = field(default_factory=dict[str, int])
    readings: int = 0
    peak_bytes: int = 0
    closed: bool = True
    by_process: bool | None = None
    jobs: dict[int, _Job] = field(default_factory=dict[int, _Job])


class UseLearner:
    """Turns readings of devices in use into better costs.

    Args:
        estimator: what learns; public figures are its.
        devices: how many there are.
        pid: this process's id, in which models without a process of their own live.
    """

    def __init__(
        self, estimator: ResourceEstimator, devices: int, *, pid: int | None = None
    ) -> None:
        self._estimator = estimator
        self._devices = [_Device() for _ in range(devices)]
        # Counted up by the driver, under the manager's lock, by everything that is granted,
        # released, loaded or unloaded on a device, or is about to be.
        self.generations = [0] * devices
        self._pid = os.getpid() if pid is None else pid
        # Others' memory differs from device to device, costs do not: one regression for each.
        self._regressions = [
            estimator,
            *(
                ResourceEstimator(estimator.smoothing_factor, estimator.min_data_points)
                for _ in range(devices - 1)
            ),
        ]
        self._notes: deque[_Observation | _OwnUse] = deque(maxlen=_MOST_NOTES)
        self._taking = threading.Lock()
        self._estimates: dict[str, CostEstimate] = {}
        self._at_work: dict[str, int] = {}
        self._at_rest: dict[str, int] = {}
        self._whole_jobs: dict[str, int] = {}
        self._runs: dict[str, int] = {}

    # Noting down: cheap, under the manager's lock ---------------------------------------------

    def changed(self, device: int) -> None:
        """Note that something was granted, released, loaded or unloaded, or is about to be."""
        self.generations[device] += 1

    def mark(self, device: int, now_ns: int) -> Mark:
        """Return the moment before a reading begins."""
        return Mark(self.generations[device], now_ns)

    def reading(
        self, device: int, reading: MemoryReading, configuration: Configuration, mark: Mark
    ) -> None:
        """Take a reading; one during which something changed, or older than its mark, is dropped.

        Args:
            device: its number.
            reading: a good one.
            configuration: what is on the device now.
            mark: taken before the reading was begun.
        """
        state = self._devices[device]
        generation = self.generations[device]
        if mark.generation != generation or reading.at_ns < mark.at_ns:
            return
        self._note_own(state, configuration.own)
        if not configuration.at_rest:
            return
        loaded, active = _untold(configuration)
        used_bytes = self._used(state, reading, configuration, alone=not loaded)
        if used_bytes is None:
            return
        if state.window != generation:
            self._close(device)
            state.window, state.readings, state.peak_bytes = generation, 0, 0
            state.loaded, state.active, state.closed = loaded, active, False
        state.readings += 1
        state.peak_bytes = max(state.peak_bytes, used_bytes)
        if state.readings == _LONGEST_WINDOW:
            self._close(device)

    def job_measured(self, tag: str, resident_bytes: int | None, peak_bytes: int) -> None:
        """Take what a copy's own process says of a job that ended: the kernel's own peak."""
        self._notes.append(_OwnUse(tag, peak_bytes, resident_bytes, whole_job=True))

    # Working: outside of the manager's lock -----------------------------------------------------

    def take(self) -> list[str]:
        """Take in what was noted and solve; return the models about which more is known now."""
        with self._taking:
            return self._take()

    def _take(self) -> list[str]:
        touched: set[str] = set()
        while self._notes:
            note = self._notes.popleft()
            try:
                touched.update(self._learn(note))
            except Exception:  # noqa: BLE001 - an estimator of the caller's must not end the watch
                _LOG.warning("the estimator refused %r", note, exc_info=True)
        changed: list[str] = []
        for tag in sorted(touched):
            try:
                estimate = self._estimate(tag)
                runs = self._estimator.isolation_runs(tag)
            except Exception:  # noqa: BLE001 - as above
                _LOG.warning("the estimator tells nothing of %r", tag, exc_info=True)
                continue
            if estimate is not None and estimate != self._estimates.get(tag):
                self._estimates[tag] = estimate
                self._runs[tag] = runs
                changed.append(tag)
        return changed

    def costs(self, tag: str, current: ModelCosts | None) -> ModelCosts | None:
        """Return what the scheduler should count for a model, None where nothing changes much.

        Solves nothing: it answers from what ``take`` found.

        Args:
            tag: one that ``take`` returned.
            current: what the scheduler counts for it now, None for an unknown model.
        """
        estimate = self._estimates.get(tag)
        if estimate is None or estimate.source == "prior":
            return None
        upper = _whole_mib(max(estimate.upper_bytes, estimate.peak_bytes))
        resident = estimate.resident_upper_bytes or estimate.resident_bytes
        if current is None:
            size = upper if resident is None else min(_whole_mib(resident), upper)
            return ModelCosts(resident_bytes=size, peak_bytes=upper)
        peak = _moved(current.peak_bytes, upper, may_fall=self._peak_may_fall(tag, estimate))
        rest = current.resident_bytes
        if resident is not None:
            rested = self._at_rest.get(tag, 0) >= ENOUGH_RESTS
            rest = _moved(rest, _whole_mib(resident), may_fall=rested)
        peak = max(peak, rest) if rest > current.resident_bytes else peak
        rest = min(rest, peak)
        if (rest, peak) == (current.resident_bytes, current.peak_bytes):
            return None
        return replace(current, resident_bytes=rest, peak_bytes=peak)

    def learned(self) -> dict[str, CostEstimate]:
        """Return what was measured and learned on all devices, by model."""
        learned = self._estimator.learned()
        for regression in self._regressions[1:]:
            for tag, estimate in regression.learned().items():
                learned[tag] = _stricter(learned.get(tag), estimate)
        return learned

    # How it is done --------------------------------------------------------------------------

    def _note_own(self, state: _Device, own: tuple[OwnBytes, ...]) -> None:
        """Note what rose, what rests, and the jobs that ended."""
        for gone in state.jobs.keys() - {each.copy for each in own}:
            del state.jobs[gone]
        for copy, tag, number, used_bytes in own:
            if used_bytes <= 0:
                continue  # a process whose bytes are not told yet
            job = state.jobs.get(copy)
            if job is None or job.number != number or job.tag != tag:
                if job is not None and job.number is not None and job.readings >= FEWEST_READINGS:
                    self._notes.append(_OwnUse(job.tag, job.peak_bytes, None, whole_job=True))
                job = state.jobs[copy] = _Job(tag, number)
            job.readings += 1
            if used_bytes > job.peak_bytes:
                job.peak_bytes = used_bytes
                if number is None:
                    self._notes.append(_OwnUse(tag, None, used_bytes, whole_job=False))
                else:
                    self._notes.append(_OwnUse(tag, used_bytes, None, whole_job=False))

    def _used(
        self, state: _Device, reading: MemoryReading, configuration: Configuration, *, alone: bool
    ) -> int | None:
        """Return the use that is to be told apart, None where it does not go with earlier ones."""
        mine = None if reading.processes is None else reading.processes.get(self._pid)
        if not alone and mine is not None:
            state.by_process = True
        if state.by_process:
            return mine if mine is not None or not alone else 0
        if state.by_process is None:
            if alone:
                return None  # nothing of this process's was seen: it is not known how it shows
            state.by_process = False
        return max(reading.used_bytes - sum(each.used_bytes for each in configuration.own), 0)

    def _close(self, device: int) -> None:
        """Note a window's observation where it was watched closely enough."""
        state = self._devices[device]
        if state.closed or state.readings < (FEWEST_READINGS if state.active else 1):
            return
        state.closed = True
        note = _Observation(device, state.loaded, state.active, state.peak_bytes)
        self._notes.append(note)

    def _learn(self, note: _Observation | _OwnUse) -> Iterable[str]:
        """Hand a note to the estimator; return the models that it is about."""
        if isinstance(note, _OwnUse):
            self._estimator.record_own_use(
                note.tag,
                peak_bytes=note.peak_bytes,
                resident_bytes=note.resident_bytes,
                whole_job=note.whole_job,
            )
            if note.whole_job:
                _count(self._whole_jobs, [note.tag])
            if note.resident_bytes is not None:
                _count(self._at_rest, [note.tag])
            return (note.tag,)
        regression = self._regressions[note.device]
        if not note.loaded:
            regression.observe_foreign(note.peak_bytes)
        elif note.peak_bytes:
            regression.observe(note.loaded, note.active, note.peak_bytes)
            _count(self._at_work, note.active)
            resting = [tag for tag, count in note.loaded.items() if count > note.active.get(tag, 0)]
            _count(self._at_rest, resting)
        return note.loaded

    def _estimate(self, tag: str) -> CostEstimate | None:
        """Return what all devices say together."""
        result: CostEstimate | None = None
        for regression in self._regressions:
            estimate = regression.estimate(tag)
            if estimate is not None:
                result = _stricter(result, estimate)
        return result

    def _peak_may_fall(self, tag: str, estimate: CostEstimate) -> bool:
        if self._whole_jobs.get(tag, 0) >= ENOUGH_JOBS:
            return True
        return (
            estimate.source == "aggregate"
            and self._at_work.get(tag, 0) >= ENOUGH_WINDOWS
            and self._runs.get(tag, 0) < FIRM_RUNS
        )


def _untold(configuration: Configuration) -> tuple[dict[str, int], dict[str, int]]:
    """Return what is loaded and active without the copies whose own bytes are told."""
    loaded, active = dict(configuration.loaded), dict(configuration.active)
    for each in configuration.own:
        loaded[each.tag] -= 1
        if each.job is not None:
            active[each.tag] -= 1
    return (
        {tag: count for tag, count in loaded.items() if count > 0},
        {tag: count for tag, count in active.items() if count > 0},
    )


def _moved(current: int, wanted: int, *, may_fall: bool) -> int:
    """Return where a figure goes: up at once, down only where it may and where it matters."""
    if wanted > current or (may_fall and wanted < current * (1.0 - _FALL)):
        return wanted
    return current


def _stricter(first: CostEstimate | None, second: CostEstimate) -> CostEstimate:
    """Return the one of two devices' estimates that knows, the larger where both do."""
    if first is None or (second.identified and not first.identified):
        return second
    if not second.identified:
        return first
    return max(first, second, key=lambda estimate: estimate.upper_bytes)


def _count(counts: dict[str, int], tags: Iterable[str]) -> None:
    for tag in tags:
        counts[tag] = counts.get(tag, 0) + 1


def _whole_mib(size_bytes: int) -> int:
    return -(-size_bytes // MIB) * MIB
