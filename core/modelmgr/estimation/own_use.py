"""What copies in processes of their own were seen to hold, job by job.

A process's own bytes are no aggregate: nobody else's memory is in them, so that there are no spikes
to reject, and one copy seen above its estimate is proof. What they lack is the other side: a job
that was seen to take little may be followed by one that takes more. So the upper figure is the
*largest* of the latest jobs. It rises with the first reading that shows more, and falls only when
so many later jobs stayed below: of ``n`` exchangeable jobs the next one exceeds the largest with
probability ``1 / (n + 1)``, whatever their distribution (Wilks, Annals of Mathematical Statistics
12, 1941).

Owns the bounded memory of one model's jobs. Whether a job was watched closely enough to count as
whole is the caller's to know.
"""

from __future__ import annotations

from collections import deque

from modelmgr.stats.intervals import median_interval_95

ENOUGH_JOBS = 99  # the next one exceeds the largest of them with a probability of 1 %
FEWEST_JOBS = 3  # from which they say what is typical


class RecentMaxima:
    """The largest figure of each of the latest jobs, bytes.

    A figure of a job that was only glimpsed raises the largest at once, and goes with the job that
    is counted next.
    """

    __slots__ = ("_glimpsed", "_whole")

    def __init__(self) -> None:
        self._whole: deque[float] = deque(maxlen=ENOUGH_JOBS)
        self._glimpsed = 0.0

    def add(self, size: float, *, whole: bool) -> None:
        """Take a job's figure, or what was seen of a job that is not known to its end."""
        self._glimpsed = max(self._glimpsed, size)
        if whole:
            self._whole.append(self._glimpsed)
            self._glimpsed = 0.0

    @property
    def count(self) -> int:
        """How many whole jobs are remembered, 99 at most."""
        return len(self._whole)

    @property
    def largest(self) -> float:
        """The largest figure; 0 where there is none."""
        return max(self._glimpsed, max(self._whole, default=0.0))

    @property
    def typical(self) -> float:
        """The lower median of the whole jobs; there must be one."""
        return sorted(self._whole)[(len(self._whole) - 1) // 2]

    def interval_95(self) -> tuple[int, int] | None:
        """Return the 95 % interval of the median; None below 6 jobs."""
        interval = median_interval_95(list(self._whole))
        return None if interval is None else (int(interval[0]), round(interval[1]))


class OwnUse:
    """What one model's copies were seen to hold by themselves: at work, and at rest."""

    __slots__ = ("jobs", "peaks", "residents")

    def __init__(self) -> None:
        self.peaks = RecentMaxima()
        self.residents = RecentMaxima()
        self.jobs = 0

    @property
    def says_what_is_typical(self) -> bool:
        """Whether enough whole jobs were seen for a central figure."""
        return self.peaks.count >= FEWEST_JOBS

    @property
    def says_what_is_enough(self) -> bool:
        """Whether the largest job alone is an upper figure."""
        return self.peaks.count >= ENOUGH_JOBS
