"""What a manager did a minute, from what it had done by then: a short history of its totals.

Computes figures for displays; shows nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from modelmgr.runtime.counters import ManagerTotals, ModelTotals
from modelmgr.units import NS_PER_S

_WINDOW_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Activity:
    """What all models together did in a span of time.

    Attributes:
        span_ns: how long the span is.
        granted: requests that got a copy.
        hits: of them, those that got one that had been loaded before.
        refused: requests that ended without one.
        loads: loads begun.
        evictions: copies ordered to go.
        waits: requests whose wait is known.
        wait_ns: how long they waited, together.
        load_times: loads that ended well.
        load_ns: how long they took, together.
    """

    span_ns: int
    granted: int
    hits: int
    refused: int
    loads: int
    evictions: int
    waits: int
    wait_ns: int
    load_times: int
    load_ns: int

    @property
    def requests(self) -> int:
        """Requests that ended."""
        return self.granted + self.refused

    @property
    def hit_share(self) -> float | None:
        """Hits by requests that ended, 0 to 1; None where there were none."""
        return self.hits / self.requests if self.requests else None

    @property
    def mean_wait_ns(self) -> int | None:
        """How long a request waited on average, None where none did."""
        return self.wait_ns // self.waits if self.waits else None

    @property
    def mean_load_ns(self) -> int | None:
        """How long a load took on average, None where there was none."""
        return self.load_ns // self.load_times if self.load_times else None

    def per_minute(self, count: int) -> float | None:
        """Return a count of this span by the minute, None where the span is none."""
        return count * 60 * NS_PER_S / self.span_ns if self.span_ns > 0 else None


def since_start(totals: ManagerTotals) -> Activity:
    """Return what was done since the manager was made."""
    models = totals.models
    return Activity(
        span_ns=totals.age_ns,
        granted=sum(model.granted for model in models),
        hits=sum(model.hits for model in models),
        refused=sum(_refused(model) for model in models),
        loads=sum(model.loads for model in models),
        evictions=sum(sum(model.evictions.values()) for model in models),
        waits=sum(model.waits.count for model in models),
        wait_ns=sum(model.waits.sum_ns for model in models),
        load_times=sum(model.load_times.count for model in models),
        load_ns=sum(model.load_times.sum_ns for model in models),
    )


class History:
    """The totals of the last minute."""

    def __init__(self) -> None:
        self._seen: deque[Activity] = deque()

    def add(self, totals: ManagerTotals) -> Activity | None:
        """Take in what was done by now; return what was done in the last minute, None at first."""
        now = since_start(totals)
        if self._seen and now.span_ns < self._seen[-1].span_ns:
            self._seen.clear()  # the server was started anew
        self._seen.append(now)
        # The one before the window stays, so that the span is a whole minute.
        while len(self._seen) > 2 and now.span_ns - self._seen[1].span_ns >= _WINDOW_NS:
            self._seen.popleft()
        first = self._seen[0]
        return _between(first, now) if first is not now else None


def _between(first: Activity, now: Activity) -> Activity:
    return Activity(
        span_ns=now.span_ns - first.span_ns,
        granted=now.granted - first.granted,
        hits=now.hits - first.hits,
        refused=now.refused - first.refused,
        loads=now.loads - first.loads,
        evictions=now.evictions - first.evictions,
        waits=now.waits - first.waits,
        wait_ns=now.wait_ns - first.wait_ns,
        load_times=now.load_times - first.load_times,
        load_ns=now.load_ns - first.load_ns,
    )


def _refused(model: ModelTotals) -> int:
    return sum(model.refused.values())
