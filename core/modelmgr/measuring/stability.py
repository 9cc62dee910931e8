"""When a latency has been measured often enough: the stopping rule, without a clock.

The rule for one shape in one process: go on until the 95 % interval of the median is no wider than
5 % of the median to either side, but at least ``MIN_BATCHES``, and no longer than ``MAX_BATCHES``
or ``MAX_TIME_NS`` of measured batches. The interval is the distribution-free one from order
statistics (Hahn and Meeker, *Statistical Intervals*, 1991, section 5.2): no normality is assumed,
latencies have none. Six batches are the fewest for which such an interval exists at 95 %.

A shape whose minimum already exceeds the time runs ``MIN_BATCHES`` and is left at that: several
fresh processes still give it an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MIN_BATCHES = 3
MAX_BATCHES = 30
MAX_TIME_NS = 1_000_000_000
RELATIVE_HALF_WIDTH = 0.05
_CONFIDENCE = 0.95


def median_interval(samples: Sequence[int]) -> tuple[int, int] | None:
    """Return the 95 % interval of the median from order statistics, None for too few samples."""
    ordered = sorted(samples)
    count = len(ordered)
    best: tuple[int, int] | None = None
    # P(X_(k) <= median <= X_(n+1-k)) = 1 - 2 P(Bin(n, 1/2) <= k - 1)
    below = 0
    for rank in range(1, count // 2 + 1):
        below += math.comb(count, rank - 1)
        if 1 - 2 * below / 2**count < _CONFIDENCE:
            break
        best = (ordered[rank - 1], ordered[count - rank])
    return best


def is_stable(samples: Sequence[int]) -> bool:
    """Tell whether the median is known to 5 %."""
    interval = median_interval(samples)
    if interval is None:
        return False
    ordered = sorted(samples)
    middle = ordered[len(ordered) // 2]
    low, high = interval
    return max(high - middle, middle - low) <= RELATIVE_HALF_WIDTH * middle


def batches_still_needed(samples: Sequence[int]) -> int:
    """Return how many batches to run next for this shape, 0 when it is done.

    Args:
        samples: latencies so far, nanoseconds, in order.
    """
    count, spent_ns = len(samples), sum(samples)
    if count < MIN_BATCHES:
        return MIN_BATCHES - count
    if count >= MAX_BATCHES or spent_ns >= MAX_TIME_NS or is_stable(samples):
        return 0
    # Ask for as many again, within both bounds: few round trips, little overshoot.
    affordable = max(1, (MAX_TIME_NS - spent_ns) * count // max(1, spent_ns))
    return min(max(count, 4), MAX_BATCHES - count, affordable)
