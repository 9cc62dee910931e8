"""Bootstrap intervals: for figures that no formula has an interval for. Deterministic by seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from modelmgr.stats.location import median, quantile

SMALLEST_SAMPLE = 10
"""Below it, resampling knows too few values: the interval is markedly too narrow."""
_RESAMPLES = 2_000


def bootstrap_interval(
    samples: Sequence[float],
    statistic: Callable[[Sequence[float]], float],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = _RESAMPLES,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a statistic; None below 10 samples.

    Resampling with replacement, the interval between the tails of what the statistic gives (Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        samples: independent values.
        statistic: of one sample, for example ``median``.
        seed: equal seeds and samples give equal intervals, on any machine.
        confidence: share of intervals that hold the true value, strictly between 0 and 1.
        resamples: how often to resample; 2,000 pin the ends of a 95 % interval well.

    Raises:
        ValueError: a sample that is not finite, or a confidence or count out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    if len(samples) < SMALLEST_SAMPLE:
        return None
    median(samples)  # refuses what is not finite
    values = list(samples)
    generator = random.Random(seed)  # noqa: S311 - statistics, no secret
    results = [statistic(generator.choices(values, k=len(values))) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    return quantile(results, tail), quantile(results, 1 - tail)
