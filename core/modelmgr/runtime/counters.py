"""What happened since a manager was made, counted by model: for metrics and displays.

It only counts, and nothing follows from it. The driver tells it: hits (in ``of``) and ``observed``
under its lock, which is what guards them; ``waited`` and ``loaded`` from any thread, which take a
lock of their own, for what they count took long anyway. Reading needs no lock of the driver's: each
count is right, and a request that ends at that moment may be in one and not yet in the next.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from modelmgr.scheduling.actions import Action, Grant, StartLoad, StartUnload
from modelmgr.units import NS_PER_S

_MS = NS_PER_S // 1000

WAIT_BOUNDS_NS = tuple(
    _MS * bound for bound in (1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000)
)
"""Upper ends of the buckets of how long requests waited for their copy, ns; one more is open."""

LOAD_BOUNDS_NS = tuple(
    _MS * bound
    for bound in (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000)
)
"""Upper ends of the buckets of how long loads took, ns; one more is open."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took, every time together.

    Attributes:
        counts: how often, by bucket: the bounds' first, then one for what took longer than all.
        sum_ns: all together, ns.
    """

    counts: tuple[int, ...]
    sum_ns: int

    @property
    def count(self) -> int:
        """How often."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """What happened to one model.

    Attributes:
        tag: the model.
        granted: requests that got a copy.
        hits: of them, those that got one that had been loaded before.
        refused: requests that got none, by why (``does-not-fit``, ``timed-out``, ``cancelled``,
            ``closed``, ``load-failed``).
        loads: loads begun.
        evictions: copies ordered to go, by reason.
        waits: how long those that got a copy waited, the loads that they waited for included.
        load_times: how long the loads took that ended well.
    """

    tag: str
    granted: int
    hits: int
    refused: Mapping[str, int]
    loads: int
    evictions: Mapping[str, int]
    waits: Durations
    load_times: Durations


@dataclass(frozen=True, slots=True)
class ManagerTotals:
    """What happened to all models since the manager was made, ``age_ns`` ago."""

    age_ns: int
    models: tuple[ModelTotals, ...]


class ModelCounts:
    """One model's counts; ``immediate_hits`` is for the driver to count up, under its lock."""

    __slots__ = (
        "evictions",
        "granted",
        "hits",
        "immediate_hits",
        "load_counts",
        "load_ns",
        "loads",
        "refused",
        "wait_counts",
        "wait_ns",
    )

    def __init__(self) -> None:
        self.immediate_hits = 0
        self.granted = 0
        self.hits = 0
        self.refused: dict[str, int] = {}
        self.loads = 0
        self.evictions: dict[str, int] = {}
        self.wait_counts = [0] * (len(WAIT_BOUNDS_NS) + 1)
        self.wait_ns = 0
        self.load_counts = [0] * (len(LOAD_BOUNDS_NS) + 1)
        self.load_ns = 0


class ManagerCounters:
    """Counts what a manager does."""

    def __init__(self) -> None:
        self._started_ns = time.monotonic_ns()
        self._models: dict[str, ModelCounts] = {}
        self._durations = threading.Lock()

    def hit(self, tag: str) -> None:
        """Count a request that was granted an idle copy at once. Under the driver's lock."""
        self.of(tag).immediate_hits += 1

    def observed(self, action: Action) -> None:
        """Count any other action of the scheduler's. Under the driver's lock."""
        counts = self.of(action.tag)
        if isinstance(action, Grant):
            counts.granted += 1
            counts.hits += action.hit
        elif isinstance(action, StartLoad):
            counts.loads += 1
        elif isinstance(action, StartUnload):
            counts.evictions[action.reason] = counts.evictions.get(action.reason, 0) + 1
        else:
            why = action.refusal.value
            counts.refused[why] = counts.refused.get(why, 0) + 1

    def waited(self, tag: str, duration_ns: int) -> None:
        """Count how long a request was on its way that was granted, other than by ``hit``."""
        counts = self.of(tag)
        with self._durations:
            counts.wait_counts[bisect_left(WAIT_BOUNDS_NS, duration_ns)] += 1
            counts.wait_ns += duration_ns

    def loaded(self, tag: str, duration_ns: int) -> None:
        """Count how long a load took that ended well."""
        counts = self.of(tag)
        with self._durations:
            counts.load_counts[bisect_left(LOAD_BOUNDS_NS, duration_ns)] += 1
            counts.load_ns += duration_ns

    def totals(self) -> ManagerTotals:
        """Return all counts, models by tag. Any thread; better outside of the driver's lock."""
        with self._durations:
            models = tuple(
                _totals(tag, counts) for tag, counts in sorted(self._models.copy().items())
            )
        return ManagerTotals(age_ns=time.monotonic_ns() - self._started_ns, models=models)

    def of(self, tag: str) -> ModelCounts:
        """Return a model's counts, made on first mention."""
        # One operation of the dictionary's, so that two threads get the same one.
        return self._models.get(tag) or self._models.setdefault(tag, ModelCounts())


def _totals(tag: str, counts: ModelCounts) -> ModelTotals:
    first, *others = counts.wait_counts
    return ModelTotals(
        tag=tag,
        granted=counts.granted + counts.immediate_hits,
        hits=counts.hits + counts.immediate_hits,
        refused=dict(counts.refused),
        loads=counts.loads,
        evictions=dict(counts.evictions),
        # A copy that was there was not waited for.
        waits=Durations((first + counts.immediate_hits, *others), counts.wait_ns),
        load_times=Durations(tuple(counts.load_counts), counts.load_ns),
    )
