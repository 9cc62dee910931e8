"""How sure a figure is: 95 % intervals, and from which sample size on a percentile is one.

Where a sample is too small for an honest answer the answer is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from modelmgr.stats.location import median

_CONFIDENCE = 0.95
_SMALLEST_FOR_MEAN = 3
"""Of two values the standard deviation comes out too small by a factor of 16 in one case of 20."""

# Student's t, 97.5 % point, by degrees of freedom 1 to 30: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
_T_975 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


def mean_interval_95(samples: Sequence[float]) -> tuple[float, float] | None:
    """Return Student's 95 % interval of the mean; None below 3 samples.

    It supposes values that are about normally distributed, as repeated memory figures are.

    Raises:
        ValueError: a sample that is not finite.
    """
    if len(samples) < _SMALLEST_FOR_MEAN:
        return None
    median(samples)  # refuses what is not finite
    centre = fmean(samples)
    reach = _student_t_975(len(samples) - 1) * stdev(samples) / math.sqrt(len(samples))
    return centre - reach, centre + reach


def median_interval_95(samples: Sequence[float]) -> tuple[float, float] | None:
    """Return an interval that holds the median with at least 95 %, whatever the distribution.

    Its ends are samples: the number of samples below the median is binomial (n, 1/2), so the
    interval from the k-th smallest to the k-th largest misses it with twice P(B < k) (David and
    Nagaraja, Order Statistics, 3rd ed., 7.1). Below 6 samples even the whole range misses it with
    more than 5 %: None.

    Raises:
        ValueError: a sample that is not finite.
    """
    count = len(samples)
    if not percentile_established(count, 0.5):
        return None
    median(samples)  # refuses what is not finite
    ordered = sorted(samples)
    rank = _largest_rank(count)
    return ordered[rank - 1], ordered[count - rank]


def percentile_established(n: int, q: float) -> bool:
    """Return whether ``n`` samples are enough to state the ``q`` quantile.

    They are when the whole range of the sample holds the quantile with at least 95 %, whatever the
    distribution: 1 - q^n - (1 - q)^n >= 0.95 (Wilks, Annals of Mathematical Statistics 12, 1941).
    With fewer, more than one sample in 20 lies on one side of it altogether, and any figure for it
    is the largest value under another name. That is 6 samples for the median, 29 for the 90th
    percentile, 59 for the 95th, 299 for the 99th.

    Raises:
        ValueError: a negative n, or q that is not strictly between 0 and 1.
    """
    if n < 0:
        raise ValueError(f"n must be at least 0, not {n}")
    if not 0 < q < 1:
        raise ValueError(f"q must lie strictly between 0 and 1, not {q}")
    return 1 - q**n - (1 - q) ** n >= _CONFIDENCE


def _largest_rank(count: int) -> int:
    """Return the largest k with 2 P(B < k) <= 5 %, B binomial (count, 1/2); at least 1."""
    # Far below the mean the terms vanish: starting 10 standard deviations down loses 1e-22.
    start = max(0, math.floor(count / 2 - 5 * math.sqrt(count)) - 1)
    below = 0.0
    for successes in range(start, count):
        log_ways = (
            math.lgamma(count + 1) - math.lgamma(successes + 1) - math.lgamma(count - successes + 1)
        )
        below += math.exp(log_ways - count * math.log(2))
        if 2 * below > 1 - _CONFIDENCE:
            return max(1, successes)
    return 1


def _student_t_975(freedom: int) -> float:
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    # Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5: within 1e-5 beyond 30 degrees.
    z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
