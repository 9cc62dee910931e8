"""How far a statistic of one sample lies from that of another: for tails, which no formula covers.

A bootstrap of neighbouring values (blocks), since what waits behind the same load waits alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelmgr.stats.bootstrap import SMALLEST_SAMPLE
from modelmgr.stats.intervals import percentile_established
from modelmgr.stats.shift import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RESAMPLES = 2_000
_QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}


def statistic_difference(
    old: Sequence[float], new: Sequence[float], statistic: str
) -> tuple[float, float] | None:
    """Return the 99 % interval of the difference of a statistic; None where nobody can say.

    Blocks of about the cube root of the sample's size are drawn with replacement (Kuensch, Annals
    of Statistics 17, 1989); the interval lies between the tails of what the statistic gives.

    Args:
        old: values in the order of measurement.
        new: the same, of the other side.
        statistic: ``mean``, ``median``, ``p95`` or ``p99``. The least and the greatest value of a
            sample have no interval, and neither has a percentile of too small a sample.
    """
    if min(len(old), len(new)) < SMALLEST_SAMPLE:
        return None
    quantile = _QUANTILES.get(statistic)
    if quantile is None:
        if statistic != "mean":
            return None
    elif not all(percentile_established(len(side), quantile) for side in (old, new)):
        return None
    import numpy as np  # noqa: PLC0415 - 0.1 s to import, and few commands need it

    tail = (1 - CONFIDENCE) / 2
    before, after = (_resampled(side, quantile) for side in (old, new))
    low, high = np.quantile(after - before, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(sample: Sequence[float], quantile: float | None) -> NDArray[np.float64]:
    """Return the statistic of every resample."""
    import numpy as np  # noqa: PLC0415 - see statistic_difference

    values = np.asarray(sample, dtype=np.float64)
    block = max(1, round(len(values) ** (1 / 3)))
    blocks = -(-len(values) // block)
    # Of a sample the same draws every time, whichever side it is on: swapping the sides turns the
    # interval round.
    generator = np.random.default_rng(zlib.crc32(values.tobytes()))
    starts = generator.integers(0, len(values) - block + 1, size=(_RESAMPLES, blocks))
    places = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, : len(values)]
    drawn = values[places]
    if quantile is None:
        return np.asarray(drawn.mean(axis=1))
    return np.asarray(np.quantile(drawn, quantile, axis=1, method="median_unbiased"))
