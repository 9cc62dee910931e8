"""Where a sample lies and how far it spreads: median, median absolute deviation, quantiles.

Pure functions of finite numbers. An empty sample has no location: that is a ValueError, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def median(samples: Sequence[float]) -> float:
    """Return the middle of a sample, of an even one the mean of the two middle values.

    Raises:
        ValueError: no sample, or one that is not finite.
    """
    ordered = _ordered(samples)
    middle, is_odd = divmod(len(ordered), 2)
    return ordered[middle] if is_odd else (ordered[middle - 1] + ordered[middle]) / 2


def mad(samples: Sequence[float]) -> float:
    """Return the median absolute deviation from the median, unscaled.

    Half of all values lie no further from the median. For normal values it is 0.6745 standard
    deviations; unlike these, a few wild values do not move it (Hampel, JASA 69, 1974).

    Raises:
        ValueError: no sample, or one that is not finite.
    """
    centre = median(samples)
    return median([abs(sample - centre) for sample in samples])


def quantile(samples: Sequence[float], q: float) -> float:
    """Return the value below which a share ``q`` of the distribution lies.

    Definition 8 of Hyndman and Fan (The American Statistician 50, 1996), which they recommend:
    approximately median-unbiased whatever the distribution; NumPy's ``median_unbiased``. (NumPy's
    default, definition 7, puts the 95th percentile of a small sample too low.)

    Args:
        samples: in any order.
        q: 0 to 1.

    Raises:
        ValueError: no sample, one that is not finite, or q out of range.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q must be in 0 to 1, not {q}")
    ordered = _ordered(samples)
    count = len(ordered)
    position = (count + 1 / 3) * q + 1 / 3  # 1-based
    position = min(max(position, 1.0), float(count))
    below = math.floor(position)
    share = position - below
    lower = ordered[below - 1]
    upper = ordered[min(below, count - 1)]
    # Not lower + share * (upper - lower): this way equal neighbours give exactly their value.
    return lower if lower == upper else lower * (1 - share) + upper * share


def _ordered(samples: Sequence[float]) -> list[float]:
    if not samples:
        raise ValueError("there is no sample")
    for sample in samples:
        if not math.isfinite(sample):
            raise ValueError(f"a sample is not finite: {sample}")
    return sorted(samples)
