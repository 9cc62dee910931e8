"""How far one sample lies from another, relative to it, and how sure that is.

Two answers that have to agree before anybody is told that something got worse: an interval of the
shift, from what the samples themselves say of their noise, and a rank test that supposes no
distribution at all. Pure functions of positive numbers, in the order in which they were measured.
No NumPy: a comparison has a few thousand small samples, and importing it takes longer than these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

CONFIDENCE = 0.99
"""Of the intervals: whoever looks at a hundred figures finds one outside of its 99 % interval."""
SMALLEST_P = 0.005
"""What the rank test must reach, one side of ``CONFIDENCE``; a small sample may not be able to."""
STRETCHES = 8
"""Neighbouring values resemble each other, so a long sample counts as so many values, not more."""
_LARGEST = 700.0  # e^709 is the largest float

# Student's t, 99.5 % point, by degrees of freedom 1 to 30: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
# Beyond them (the limit is 2.5758) the last one is kept, which is a little too careful.
_T_995 = (
    *(63.6567, 9.9248, 5.8409, 4.6041, 4.0321, 3.7074, 3.4995, 3.3554, 3.2498, 3.1693),
    *(3.1058, 3.0545, 3.0123, 2.9768, 2.9467, 2.9208, 2.8982, 2.8784, 2.8609, 2.8453),
    *(2.8314, 2.8188, 2.8073, 2.7969, 2.7874, 2.7787, 2.7707, 2.7633, 2.7564, 2.7500),
)

# Chi-squared, 0.1 % point, by degrees of freedom: NIST/SEMATECH e-Handbook, 1.3.6.7.4. Fewer say so
# little that the typical noise stands.
_CHI2_001 = {4: 0.091, 5: 0.210, 6: 0.381, 7: 0.598}


class Moments(NamedTuple):
    """What a sample's logarithms say.

    Attributes:
        size: values that count, at most ``STRETCHES``.
        mean: of their logarithms.
        variance: of them; None of a single value.
    """

    size: int
    mean: float
    variance: float | None


class Shift(NamedTuple):
    """How far a sample lies from another, as shares of it: 0.1 is 10 % above.

    Attributes:
        estimate: the best guess.
        low: with 99 % the shift is not below.
        high: with 99 % it is not above.
    """

    estimate: float
    low: float
    high: float


def log_moments(sample: Sequence[float]) -> Moments | None:
    """Return the moments of a sample's logarithms; None of no values, or of one not above 0.

    A sample of more than ``STRETCHES`` values is cut into as many stretches of neighbours, and
    their medians count: what changes from stretch to stretch, a neighbour's load or a clock's
    frequency, is noise as well (the method of batch means), and a few wild values move no median.
    """
    if not sample or min(sample) <= 0:
        return None
    logs = list(map(math.log, _stretched(sample)))
    count = len(logs)
    mean = sum(logs) / count
    if count < 2:
        return Moments(count, mean, None)
    return Moments(count, mean, sum([(log - mean) ** 2 for log in logs]) / (count - 1))


def relative_shift(
    old: Moments | None, new: Moments | None, *, least_noise: float = 0.0
) -> Shift | None:
    """Return where the middle of a sample lies from that of another; None where nobody can say.

    Welch's interval (Biometrika 34, 1947) of the difference of logarithms. Where one side has a
    single value, the other's noise is taken for both; where both have, nobody can say.

    Args:
        old: of the sample that the other is measured by.
        new: of the other.
        least_noise: a standard deviation, as a share, that is taken where a sample shows less:
            three values agree by chance now and then. Of five and more only as much of it as they
            can have at all: a quiet model beside noisy ones is not one of them.
    """
    if old is None or new is None:
        return None
    variance_old = new.variance if old.variance is None else old.variance
    variance_new = old.variance if new.variance is None else new.variance
    if variance_old is None or variance_new is None:
        return None
    floor = least_noise * least_noise
    part_old = max(variance_old, min(floor, _largest_variance(old))) / old.size
    part_new = max(variance_new, min(floor, _largest_variance(new))) / new.size
    middle = new.mean - old.mean
    reach = _reach(part_old, old.size, part_new, new.size)
    return Shift(_share(middle), _share(middle - reach), _share(middle + reach))


def typical_noise(moments: Iterable[Moments | None]) -> float:
    """Return the median standard deviation of samples, as a share; 0 where none has one."""
    known = [each.variance for each in moments if each is not None and each.variance is not None]
    return math.sqrt(_median(known)) if known else 0.0


def is_above(new: Sequence[float], old: Sequence[float]) -> bool:
    """Return whether ranks alone say that values of ``new`` are larger than those of ``old``.

    Mann and Whitney's test (Annals of Mathematical Statistics 18, 1947), one-sided at 0.5 %. Where
    so few values can never reach that, all of the one must lie above all of the other.
    """
    if not old or not new:
        return False
    if min(new) > max(old):
        return True  # one order of all: its chance is exact, where the approximation is too careful
    if math.comb(len(old) + len(new), len(old)) * SMALLEST_P < 1:
        return False
    return _p_above(new, old) <= SMALLEST_P


def _stretched(sample: Sequence[float]) -> Sequence[float]:
    """Return the medians of a sample's stretches; a short sample as it is."""
    count = len(sample)
    if count <= STRETCHES:
        return sample
    edges = [round(count * part / STRETCHES) for part in range(STRETCHES + 1)]
    return [_median(sample[start:end]) for start, end in pairwise(edges)]


def _median(sample: Sequence[float]) -> float:
    # That of stats.location also refuses what is not finite, which no whole number is.
    ordered = sorted(sample)
    middle, is_odd = divmod(len(ordered), 2)
    return ordered[middle] if is_odd else (ordered[middle - 1] + ordered[middle]) / 2


def _reach(part_old: float, count_old: int, part_new: float, count_new: int) -> float:
    """Return half of the interval's width: Welch and Satterthwaite's degrees of freedom."""
    total = part_old + part_new
    if total == 0:
        return 0.0
    freedom = total**2 / (part_old**2 / max(1, count_old - 1) + part_new**2 / max(1, count_new - 1))
    return _T_995[min(max(1, int(freedom)), len(_T_995)) - 1] * math.sqrt(total)


def _largest_variance(moments: Moments) -> float:
    """Return a variance that values which vary so little are of once in a thousand times."""
    freedom = moments.size - 1
    if moments.variance is None or freedom not in _CHI2_001:
        return math.inf
    return moments.variance * freedom / _CHI2_001[freedom]


def _share(log_ratio: float) -> float:
    return math.expm1(min(max(log_ratio, -_LARGEST), _LARGEST))


def _p_above(new: Sequence[float], old: Sequence[float]) -> float:
    """Return the normal approximation, corrected for ties and for continuity."""
    count_old, count_new = len(old), len(new)
    total = count_old + count_new
    ordered = sorted([(value, 0) for value in old] + [(value, 1) for value in new])
    rank_sum = tie_sum = 0.0
    start = 0
    while start < total:
        end = start
        while end < total and ordered[end][0] == ordered[start][0]:
            end += 1
        tied = end - start
        rank_sum += (start + end + 1) / 2 * sum(side for _, side in ordered[start:end])
        tie_sum += tied**3 - tied
        start = end
    u = rank_sum - count_new * (count_new + 1) / 2
    mean = count_old * count_new / 2
    variance = count_old * count_new / 12 * (total + 1 - tie_sum / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return math.erfc((u - mean - 0.5) / math.sqrt(2 * variance)) / 2
