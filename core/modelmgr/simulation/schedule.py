"""The served schedule: which job ran when on which device, as the offline bound is told of it.

Plain data in the order of service, and the recorder that an engine fills as it grants and releases.
Nothing here decides, bounds or reads a clock: times are given.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from modelmgr.errors import UsageError

_MAX = 2**62  # a sum of two still fits the columns' 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """What the bound must know of a model.

    Attributes:
        resident_bytes: one copy that is loaded and idle.
        peak_bytes: one copy while a job runs on it, at least ``resident_bytes``.
        reload_cost_ns: what one load costs; the same for every load of the model.
    """

    resident_bytes: int
    peak_bytes: int
    reload_cost_ns: int

    def __post_init__(self) -> None:
        """Refuse figures for which no bound holds."""
        if not 0 <= self.resident_bytes <= self.peak_bytes <= _MAX:
            raise UsageError(
                "a model needs 0 <= resident <= peak, "
                f"not {self.resident_bytes} and {self.peak_bytes} bytes"
            )
        if not 0 <= self.reload_cost_ns <= _MAX:
            raise UsageError(f"a load cannot cost {self.reload_cost_ns} ns; give 0 or more")


@dataclass(frozen=True, slots=True)
class ServedJob:
    """One job: a copy of ``tag`` was held from ``start_ns`` to ``end_ns``."""

    tag: str
    start_ns: int
    end_ns: int


class ServedSchedule:
    """The jobs of one device in the order in which they were granted.

    Held in columns of integers: a job takes 20 bytes.

    Attributes:
        device: the device's name.
        capacity_bytes: what copies might use of it, at most.
        tags: the models that the columns' indices name, in ascending order.
        figures: the same models' figures.
        job_models: each job's index into ``tags``.
        starts_ns: when each job began; never decreasing.
        ends_ns: when each job ended, at its start or later.
    """

    __slots__ = (
        "capacity_bytes",
        "device",
        "ends_ns",
        "figures",
        "job_models",
        "starts_ns",
        "tags",
    )

    def __init__(
        self,
        *,
        device: str,
        capacity_bytes: int,
        models: Mapping[str, ModelFigures],
        jobs: Iterable[ServedJob],
    ) -> None:
        """Check and keep a schedule.

        Args:
            device: the device's name.
            capacity_bytes: what copies might use of it, at most.
            models: the figures of every model that a job names; others are left out.
            jobs: in the order of their starts; where several start at one time, in the order in
                which they were granted.

        Raises:
            UsageError: a job without figures, that ends before it starts, or out of order.
        """
        known = {tag: index for index, tag in enumerate(sorted(models))}
        job_models, starts, ends = array("i"), array("q"), array("q")
        for number, job in enumerate(jobs):
            index = known.get(job.tag)
            if index is None:
                raise UsageError(f"job {number} is of {job.tag!r}, of which there are no figures")
            job_models.append(index)
            starts.append(job.start_ns)
            ends.append(job.end_ns)
        tags = sorted(models)
        self._keep(
            device, capacity_bytes, tags, [models[t] for t in tags], (job_models, starts, ends)
        )

    @classmethod
    def from_columns(
        cls,
        *,
        device: str,
        capacity_bytes: int,
        models: Mapping[str, ModelFigures],
        job_models: Sequence[int],
        starts_ns: Sequence[int],
        ends_ns: Sequence[int],
    ) -> ServedSchedule:
        """Return a schedule of columns; ``job_models`` are indices into the sorted tags.

        Raises:
            UsageError: as the constructor.
        """
        tags = sorted(models)
        if not len(job_models) == len(starts_ns) == len(ends_ns):
            raise UsageError(
                f"{len(job_models)} models, {len(starts_ns)} starts and {len(ends_ns)} ends make "
                "no schedule; give one of each for every job"
            )
        if any(not 0 <= index < len(tags) for index in job_models):
            raise UsageError(f"a job names a model outside of the {len(tags)} there are")
        try:
            columns = array("i", job_models), array("q", starts_ns), array("q", ends_ns)
        except OverflowError:
            raise UsageError("a time of the schedule is beyond 64 bits") from None
        schedule = cls.__new__(cls)
        figures = [models[tag] for tag in tags]
        schedule._keep(device, capacity_bytes, tags, figures, columns)  # noqa: SLF001  # its own
        return schedule

    def _keep(
        self,
        device: str,
        capacity_bytes: int,
        tags: list[str],
        figures: list[ModelFigures],
        columns: tuple[array[int], array[int], array[int]],
    ) -> None:
        job_models, starts, ends = columns
        if not 0 <= capacity_bytes <= _MAX:
            raise UsageError(f"{device}: a capacity of {capacity_bytes} bytes makes no sense")
        for number, (earlier, later) in enumerate(pairwise(starts), 1):
            if later < earlier:
                raise UsageError(
                    f"{device}: job {number} starts before job {number - 1}; give the jobs in the "
                    "order in which they were granted"
                )
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if not 0 <= start <= end <= _MAX:
                raise UsageError(f"{device}: job {number} lasts from {start} to {end} ns")
        used = sorted(set(job_models))
        place = {index: position for position, index in enumerate(used)}
        self.device = device
        self.capacity_bytes = capacity_bytes
        self.tags = tuple(tags[index] for index in used)
        self.figures = tuple(figures[index] for index in used)
        self.job_models = array("i", (place[index] for index in job_models))
        self.starts_ns = starts
        self.ends_ns = ends

    def __len__(self) -> int:
        """Return how many jobs there are."""
        return len(self.job_models)

    def jobs(self) -> Iterator[ServedJob]:
        """Yield the jobs in their order."""
        for model, start, end in zip(self.job_models, self.starts_ns, self.ends_ns, strict=True):
            yield ServedJob(self.tags[model], start, end)

    def load_everything_ns(self) -> int:
        """Return what it would cost to load a copy anew for every job."""
        return sum(self.figures[model].reload_cost_ns for model in self.job_models)

    def cost_of_ns(self, loads: Mapping[str, int]) -> int:
        """Return what so many loads cost by the schedule's own figures: what to hold to its bound.

        Loads of models that no job named cost nothing here: the bound has none of them either.
        """
        return sum(
            figures.reload_cost_ns * loads.get(tag, 0)
            for tag, figures in zip(self.tags, self.figures, strict=True)
        )

    def sha256(self) -> str:
        """Return a hash of everything the bound depends on: ``sha256:…``."""
        digest = hashlib.sha256()
        lines = [f"{self.device!r} {self.capacity_bytes}"]
        lines += (
            f"{tag!r} {f.resident_bytes} {f.peak_bytes} {f.reload_cost_ns}"
            for tag, f in zip(self.tags, self.figures, strict=True)
        )
        digest.update("\n".join(lines).encode("utf-8", errors="surrogatepass"))
        for model, start, end in zip(self.job_models, self.starts_ns, self.ends_ns, strict=True):
            digest.update(b"\n%d %d %d" % (model, start, end))
        return f"sha256:{digest.hexdigest()}"


def pooled(schedules: Sequence[ServedSchedule], *, device: str = "all") -> ServedSchedule:
    """Return all devices as one that is as large as they are together.

    Its bound holds also against schedulers that would have served jobs on other devices, which the
    sum of the devices' own bounds does not: whatever fits several devices fits the pool, and an
    idle copy of the pool serves a job of any of them. It is the weaker for that.

    Raises:
        UsageError: there are no schedules, or they disagree about a model.
    """
    if not schedules:
        raise UsageError("there is no schedule to pool")
    models: dict[str, ModelFigures] = {}
    for schedule in schedules:
        for tag, figures in zip(schedule.tags, schedule.figures, strict=True):
            if models.setdefault(tag, figures) != figures:
                raise UsageError(f"the devices disagree about what {tag!r} costs; it has no pool")
    every = (
        (job.start_ns, order, number, job)
        for order, schedule in enumerate(schedules)
        for number, job in enumerate(schedule.jobs())
    )
    jobs = (job for _, _, _, job in sorted(every, key=lambda item: item[:3]))
    capacity = sum(schedule.capacity_bytes for schedule in schedules)
    return ServedSchedule(device=device, capacity_bytes=capacity, models=models, jobs=jobs)


def by_device(
    served: Iterable[tuple[str, str, int, int]],
    capacities: Mapping[str, int],
    models: Mapping[str, ModelFigures],
) -> tuple[ServedSchedule, ...]:
    """Return each device's schedule, in the devices' order, of jobs in the order they ended in.

    Among jobs that started at one time, those that ended first come first: with that a policy has
    no less freedom than with the order in which they were granted, so the bound holds for it too.

    Args:
        served: tag, device, start and end (ns) of each job.
        capacities: what copies may use of each device, bytes, by the device's name.
        models: the figures of every model that was served.

    Raises:
        UsageError: a device or model that there are no figures of.
    """
    jobs: dict[str, list[ServedJob]] = {name: [] for name in capacities}
    for tag, device, start_ns, end_ns in served:
        if device not in jobs:
            raise UsageError(f"a job ran on {device!r}, whose capacity is not given")
        jobs[device].append(ServedJob(tag, start_ns, end_ns))
    return tuple(
        ServedSchedule(
            device=name,
            capacity_bytes=capacities[name],
            models=models,
            jobs=sorted(of, key=lambda job: (job.start_ns, job.end_ns)),
        )
        for name, of in jobs.items()
    )


class ScheduleRecorder:
    """Notes jobs as an engine grants and releases them.

    What still runs when the schedules are taken ends then. Memory: about 20 bytes a job.
    """

    def __init__(self, capacities: Mapping[str, int], models: Mapping[str, ModelFigures]) -> None:
        """Begin an empty record.

        Args:
            capacities: what copies may use of each device, bytes, by the device's name.
            models: the figures of every model that may be served.
        """
        self._capacities = dict(capacities)
        self._tags = sorted(models)
        self._models = {tag: models[tag] for tag in self._tags}
        self._index = {tag: index for index, tag in enumerate(self._tags)}
        self._columns = {name: (array("i"), array("q"), array("q")) for name in capacities}
        self._running: dict[int, tuple[str, int]] = {}

    def granted(self, lease: int, device: str, tag: str, at_ns: int) -> None:
        """Note that a job began; ``lease`` is a number that only this job has."""
        models, starts, ends = self._columns[device]
        self._running[lease] = (device, len(models))
        models.append(self._index[tag])
        starts.append(at_ns)
        ends.append(at_ns)

    def released(self, lease: int, at_ns: int) -> None:
        """Note that a job ended; one that was never noted is no error."""
        running = self._running.pop(lease, None)
        if running is not None:
            device, number = running
            self._columns[device][2][number] = at_ns

    def schedules(self, now_ns: int) -> tuple[ServedSchedule, ...]:
        """Return each device's schedule, in the devices' order; what runs ends at ``now_ns``."""
        for device, number in self._running.values():
            self._columns[device][2][number] = now_ns
        return tuple(
            ServedSchedule.from_columns(
                device=name,
                capacity_bytes=self._capacities[name],
                models=self._models,
                job_models=models,
                starts_ns=starts,
                ends_ns=ends,
            )
            for name, (models, starts, ends) in self._columns.items()
        )
