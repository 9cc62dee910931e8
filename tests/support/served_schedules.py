"""Served schedules for tests of the offline bound, and ways to serve them again.

``least_cost_ns`` tries every decision and knows nothing of gaps, states or programmes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from modelmgr.simulation.schedule import ModelFigures, ServedJob, ServedSchedule

Event = tuple[str, int]
"""``start`` or ``end`` of a job by its number."""


def events_of(schedule: ServedSchedule) -> list[Event]:
    """Return starts and ends in the order that leaves most freedom: ends first, then starts."""
    keyed: list[tuple[tuple[int, int, int, int], Event]] = []
    for number, job in enumerate(schedule.jobs()):
        keyed.append(((job.start_ns, 1, number, 0), ("start", number)))
        at_once = job.end_ns == job.start_ns
        place = (job.end_ns, 1, number, 1) if at_once else (job.end_ns, 0, number, 0)
        keyed.append((place, ("end", number)))
    return [event for _, event in sorted(keyed)]


def draw_schedule(
    seed: int,
    *,
    jobs: int = 8,
    models: int = 4,
    capacity: int = 24,
    equal_sizes: bool = False,
    odd_costs: bool = False,
    span: int = 12,
) -> ServedSchedule:
    """Return a schedule of small sizes that its own capacity could serve.

    Args:
        seed: of everything drawn.
        jobs: how many.
        models: of how many models.
        capacity: the device's, bytes.
        equal_sizes: idle and running copies are as large.
        odd_costs: costs without a common divisor, to the nanosecond.
        span: the jobs start within so many nanoseconds, so that many do at once.
    """
    draw = random.Random(seed)
    figures: dict[str, ModelFigures] = {}
    for index in range(models):
        resident = draw.randint(0 if draw.random() < 0.1 else 2, 10)
        peak = resident if equal_sizes else resident + draw.randint(0, 4)
        cost = draw.randint(1, 3 * 10**9) if odd_costs else draw.randint(1, 9) * 100
        figures[f"m{index}"] = ModelFigures(
            resident_bytes=resident, peak_bytes=peak, reload_cost_ns=cost
        )
    served: list[ServedJob] = []
    for start in sorted(draw.randint(0, span) for _ in range(jobs)):
        tag = draw.choice(list(figures))
        job = ServedJob(tag, start, start + draw.choice((0, 1, 1, 2, 5)))
        running = sum(figures[j.tag].peak_bytes for j in served if j.end_ns >= start)
        if running + figures[tag].peak_bytes <= capacity:
            served.append(job)
    return ServedSchedule(device="gpu0", capacity_bytes=capacity, models=figures, jobs=served)


def least_cost_ns(schedule: ServedSchedule, *, prefetch: bool = False) -> int:
    """Return the least reload cost, by trying all decisions at every event.

    After each event any set of idle copies may be evicted and, with ``prefetch``, one more copy of
    any model may be loaded; at each start an idle copy may be used or another one loaded.
    """
    sizes = [f.resident_bytes for f in schedule.figures]
    peaks = [f.peak_bytes for f in schedule.figures]
    costs = [f.reload_cost_ns for f in schedule.figures]
    reached: dict[tuple[int, ...], int] = {(0,) * len(sizes): 0}
    running = 0

    def offer(into: dict[tuple[int, ...], int], idle: tuple[int, ...], cost: int) -> None:
        held = sum(count * size for count, size in zip(idle, sizes, strict=True))
        if held + running <= schedule.capacity_bytes and cost < into.get(idle, cost + 1):
            into[idle] = cost

    for kind, number in events_of(schedule):
        model = schedule.job_models[number]
        after: dict[tuple[int, ...], int] = {}
        running += peaks[model] if kind == "start" else -peaks[model]
        for before, cost in reached.items():
            if kind == "end":
                offer(after, _changed(before, model, 1), cost)
                continue
            for idle in _evictions(before):
                offer(after, idle, cost + costs[model])
                if idle[model]:
                    offer(after, _changed(idle, model, -1), cost)
        if prefetch:
            for idle, cost in list(after.items()):
                for other in range(len(sizes)):
                    offer(after, _changed(idle, other, 1), cost + costs[other])
        else:
            for idle, cost in list(after.items()):
                for fewer in _evictions(idle):
                    offer(after, fewer, cost)
        reached = after
    return min(reached.values())


def serve(schedule: ServedSchedule, victim: Callable[[Sequence[int], int], int]) -> dict[str, int]:
    """Return the loads, by tag, of a policy that evicts one copy after the other until it fits.

    Args:
        schedule: what to serve.
        victim: chooses an index of the idle copies' models, given those (least recently used
            first) and the event's number.
    """
    loads = dict.fromkeys(schedule.tags, 0)
    idle: list[int] = []
    running = 0
    for at, (kind, number) in enumerate(events_of(schedule)):
        model = schedule.job_models[number]
        figures = schedule.figures[model]
        if kind == "end":
            running -= figures.peak_bytes
            idle.append(model)
            continue
        if model in idle:
            idle.remove(model)
        else:
            loads[schedule.tags[model]] += 1
        running += figures.peak_bytes
        while running + sum(_sizes(schedule, idle)) > schedule.capacity_bytes:
            del idle[victim(idle, at)]
    return loads


def _sizes(schedule: ServedSchedule, models: Iterable[int]) -> list[int]:
    return [schedule.figures[model].resident_bytes for model in models]


def _changed(counts: tuple[int, ...], model: int, by: int) -> tuple[int, ...]:
    return (*counts[:model], counts[model] + by, *counts[model + 1 :])


def _evictions(idle: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return every way to keep some of the idle copies."""
    kept: list[tuple[int, ...]] = [()]
    for count in idle:
        kept = [(*counts, some) for counts in kept for some in range(count + 1)]
    return kept
