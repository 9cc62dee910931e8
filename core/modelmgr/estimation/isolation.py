"""Direct measurements of one copy, kept so that a single bad one cannot stay for ever.

A measurement of a model that ran alone is worth many aggregate readings, but it can be spiked like
any other: something else took memory meanwhile, or a stale peak was charged to it. Spikes go up, so
the figure is the *lower weighted median* of a bounded number of the latest samples: the smallest
sample that at least half of the weight does not exceed. With two samples that disagree it is the
lower one; with more, less than half of them may be spiked.

How sure it is: the spread of the samples (normal-consistent median absolute deviation), and never
better than 2 % of one measurement (the worst error of a careful reading on a real system was 1.7
%), shrinking with the root of the weight. Owns no fit: ``estimation.fit`` takes the figure as a
prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_SAMPLES = 15
RELATIVE_SD = 0.02
_MAD_TO_SD = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN_SD = 1.2533  # a median's standard error over a mean's: sqrt(pi / 2)


@dataclass(frozen=True, slots=True)
class Located:
    """A robust figure and its standard deviation, bytes.

    Attributes:
        value: the figure.
        sd: its standard deviation.
        spread: standard deviation of a single sample, 0 where they do not differ.
        samples: how many there were.
    """

    value: float
    sd: float
    spread: float
    samples: int


class IsolationSamples:
    """The latest isolation runs of one model."""

    __slots__ = ("_peak", "_resident", "runs")

    def __init__(self) -> None:
        self._peak: list[tuple[float, float]] = []
        self._resident: list[tuple[float, float]] = []
        self.runs = 0

    def add(self, resident_bytes: float | None, peak_bytes: float, weight: float) -> None:
        """Take one run; the oldest beyond the latest 15 are forgotten."""
        self.runs += 1
        self._peak.append((peak_bytes, weight))
        del self._peak[:-MAX_SAMPLES]
        if resident_bytes is not None:
            self._resident.append((resident_bytes, weight))
            del self._resident[:-MAX_SAMPLES]

    @property
    def peak(self) -> Located:
        """The peak of one copy; at least one run must have been added."""
        return locate(self._peak)

    @property
    def resident(self) -> Located | None:
        """The resident size of one copy, None where no run measured it."""
        return locate(self._resident) if self._resident else None


def locate(samples: list[tuple[float, float]]) -> Located:
    """Return the lower weighted median of (value, weight) samples and its standard deviation."""
    total = math.fsum(weight for _, weight in samples)
    median = _lower_median(samples, total)
    spread = [(abs(value - median), weight) for value, weight in samples]
    spread_sd = _MAD_TO_SD * _lower_median(spread, total)
    floor = RELATIVE_SD * median
    scale = max(spread_sd * _MEDIAN_TO_MEAN_SD, floor) if len(samples) > 1 else floor
    return Located(median, scale / math.sqrt(total), spread_sd, len(samples))


def _lower_median(samples: list[tuple[float, float]], total: float) -> float:
    reached = 0.0
    for value, weight in sorted(samples):
        reached += weight
        if reached >= total / 2.0:
            return value
    return max(value for value, _ in samples)
