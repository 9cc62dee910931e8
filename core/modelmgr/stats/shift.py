"""How far samples lie from others, relative to them, and how sure that is.

Two answers that have to agree before anybody is told that something got worse: an interval of the
shift, from what the samples themselves say of their noise, and a rank test that supposes no
distribution at all. Pure functions of positive numbers, in the order in which they were measured;
many pairs at once, as a comparison of a thousand models has tens of thousands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

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


@dataclass(frozen=True, slots=True)
class Moments:
    """What many samples say, as arrays with an entry for each; of logarithms.

    Attributes:
        counts: values that count, at most ``STRETCHES``.
        means: NaN where a sample is empty or has a value that is not positive.
        variances: NaN of fewer than two values.
    """

    counts: Floats
    means: Floats
    variances: Floats


@dataclass(frozen=True, slots=True)
class Shifts:
    """How far samples lie from others, as shares of them: 0.1 is 10 % above. NaN: nobody can say.

    Attributes:
        estimates: the best guesses.
        lows: with 99 % a shift is not below.
        highs: with 99 % it is not above.
    """

    estimates: Floats
    lows: Floats
    highs: Floats


def log_moments(samples: Sequence[Sequence[float]]) -> Moments:
    """Return the moments of many samples' logarithms.

    A sample of more than ``STRETCHES`` values is cut into as many stretches of neighbours, and
    their medians count: what changes from stretch to stretch, a neighbour's load or a clock's
    frequency, is noise as well (the method of batch means), and a few wild values move no median.
    """
    import numpy as np  # noqa: PLC0415 - 0.1 s to import, and few commands need it

    counts = np.zeros(len(samples))
    means = np.full(len(samples), np.nan)
    variances = np.full(len(samples), np.nan)
    by_length: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        by_length.setdefault(len(sample), []).append(index)
    for length, places in by_length.items():
        if not length:
            continue
        values = np.array([samples[index] for index in places], dtype=np.float64)
        values[values <= 0] = np.nan
        logs = np.log(_stretched(values))
        counts[places] = logs.shape[1]
        means[places] = logs.mean(axis=1)
        if logs.shape[1] > 1:
            variances[places] = logs.var(axis=1, ddof=1)
    return Moments(counts, means, variances)


def relative_shifts(old: Moments, new: Moments, least_noise: Floats | float = 0.0) -> Shifts:
    """Return where the middle of each sample lies from that of its counterpart.

    Welch's interval (Biometrika 34, 1947) of the difference of logarithms. Where one side has a
    single value, the other's noise is taken for both; where both have, nobody can say.

    Args:
        old: of the samples that the others are measured by.
        new: as many.
        least_noise: a standard deviation, as a share, that is taken where samples show less: three
            values agree by chance now and then.
    """
    import numpy as np  # noqa: PLC0415 - see log_moments

    floor = np.square(least_noise)
    of_old = np.where(np.isnan(old.variances), new.variances, old.variances)
    of_new = np.where(np.isnan(new.variances), old.variances, new.variances)
    with np.errstate(divide="ignore", invalid="ignore"):
        part_old = np.maximum(of_old, floor) / old.counts
        part_new = np.maximum(of_new, floor) / new.counts
        total = part_old + part_new
        freedom = np.square(total) / (
            np.square(part_old) / np.maximum(1, old.counts - 1)
            + np.square(part_new) / np.maximum(1, new.counts - 1)
        )
    # 0 / 0: no noise on either side, and no reach whatever the factor.
    rows = np.clip(np.nan_to_num(freedom, nan=1.0), 1, len(_T_995)).astype(np.int64) - 1
    reach = np.asarray(_T_995)[rows] * np.sqrt(total)
    middle = new.means - old.means
    ends = (np.clip(each, -_LARGEST, _LARGEST) for each in (middle, middle - reach, middle + reach))
    return Shifts(*map(np.expm1, ends))


def typical_noise(*moments: Moments) -> float:
    """Return the median standard deviation of all samples, as a share; 0 where none has one."""
    import numpy as np  # noqa: PLC0415 - see log_moments

    variances = np.concatenate([each.variances for each in moments])
    known = variances[~np.isnan(variances)]
    return float(np.sqrt(np.median(known))) if len(known) else 0.0


def is_above(new: Sequence[float], old: Sequence[float]) -> bool:
    """Return whether ranks alone say that values of ``new`` are larger than those of ``old``.

    Mann and Whitney's test (Annals of Mathematical Statistics 18, 1947), one-sided at 0.5 %. Where
    so few values can never reach that, all of the one must lie above all of the other.
    """
    if not old or not new:
        return False
    if math.comb(len(old) + len(new), len(old)) * SMALLEST_P < 1:
        return min(new) > max(old)
    return _p_above(new, old) <= SMALLEST_P


def _stretched(values: Floats) -> Floats:
    """Return the medians of each row's stretches; short rows as they are."""
    import numpy as np  # noqa: PLC0415 - see log_moments

    length = values.shape[1]
    if length <= STRETCHES:
        return values
    edges = [round(length * part / STRETCHES) for part in range(STRETCHES + 1)]
    stretches = [np.median(values[:, start:end], axis=1) for start, end in pairwise(edges)]
    return np.stack(stretches, axis=1)


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
