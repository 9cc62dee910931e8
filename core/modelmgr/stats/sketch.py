"""Quantiles of more whole numbers than can be kept: counts in log-linear buckets.

Every octave (a power of two) is cut into 128 buckets of equal width, values below 256 have one
each: the layout of Gil Tene's HdrHistogram, with the guarantee of DDSketch (Masson, Rim and Lee,
VLDB 2019): a quantile is off by at most ``RELATIVE_ERROR`` of its value, whatever the distribution,
and two sketches merge into exactly the sketch of all their values. Buckets come from the bits of a
whole number, with no logarithm, so that every machine counts alike.

Owns counting; which percentile a sample is large enough for is ``stats.intervals``'s.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

RELATIVE_ERROR = 1 / 256
"""Half of a bucket's width over its lower edge, at most."""

_SUB_BITS = 7
_SUBS = 1 << _SUB_BITS  # buckets in an octave
_EXACT_BITS = _SUB_BITS + 1  # values of so many bits have a bucket of their own


class QuantileSketch:
    """Counts of whole numbers from 0 up to 2^63 - 1, in memory that no number of them enlarges.

    Attributes:
        count: how many values.
        total: their sum, exact.
        least: the smallest, None of none.
        greatest: the largest, None of none.
    """

    __slots__ = ("_counts", "_first", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least: int | None = None
        self.greatest: int | None = None
        self._counts: NDArray[np.int64] | None = None  # of the buckets from ``_first`` on
        self._first = 0

    def add(self, values: Sequence[int]) -> None:
        """Count values: a list, or faster an ``array('q')``.

        Raises:
            ValueError: a value is negative; nothing was counted.
        """
        import numpy as np  # noqa: PLC0415 - 0.1 s to import, and small runs need none

        if not len(values):
            return
        numbers = np.asarray(values, dtype=np.int64)
        least, greatest = int(numbers.min()), int(numbers.max())
        if least < 0:
            raise ValueError(f"only numbers from 0 on can be counted, not {least}")
        buckets = _buckets(numbers)
        first = int(buckets.min())
        self._add_counts(first, np.bincount(buckets - first).astype(np.int64))
        self.count += len(numbers)
        # In Python's own numbers where their sum could pass 2^63.
        fits = greatest * len(numbers) < 2**63
        self.total += int(numbers.sum()) if fits else sum(map(int, numbers))
        self.least = least if self.least is None else min(self.least, least)
        self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)

    def merge(self, other: QuantileSketch) -> None:
        """Count everything that another sketch has counted; it stays as it is."""
        if other._counts is None or other.least is None or other.greatest is None:
            return
        self._add_counts(other._first, other._counts)
        self.count += other.count
        self.total += other.total
        self.least = other.least if self.least is None else min(self.least, other.least)
        greatest = self.greatest
        self.greatest = other.greatest if greatest is None else max(greatest, other.greatest)

    def quantile(self, q: float) -> int:
        """Return the value at a share ``q`` of the values, within ``RELATIVE_ERROR`` of it.

        Raises:
            ValueError: no value was counted, or q is not in 0 to 1.
        """
        import numpy as np  # noqa: PLC0415 - see add

        if not 0 <= q <= 1:
            raise ValueError(f"q must be in 0 to 1, not {q}")
        if self._counts is None or self.least is None or self.greatest is None:
            raise ValueError("there is no sample")
        # The rank of definition 8 of Hyndman and Fan, as stats.location.quantile has it.
        rank = min(max(math.floor((self.count + 1 / 3) * q + 1 / 3), 1), self.count)
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        low, high = _edges(self._first + place)
        return min(max((low + high) // 2, self.least), self.greatest)

    def _add_counts(self, first: int, counts: NDArray[np.int64]) -> None:
        import numpy as np  # noqa: PLC0415 - see add

        old = self._counts
        if old is None:
            self._first, self._counts = first, counts.copy()
            return
        low = min(first, self._first)
        high = max(first + len(counts), self._first + len(old))
        if low != self._first or high != self._first + len(old):
            wider = np.zeros(high - low, dtype=np.int64)
            wider[self._first - low : self._first - low + len(old)] = old
            self._first, self._counts, old = low, wider, wider
        old[first - low : first - low + len(counts)] += counts


def _buckets(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each number's bucket."""
    import numpy as np  # noqa: PLC0415 - see QuantileSketch.add

    _, bits = np.frexp(numbers.astype(np.float64))
    shifts = np.maximum(bits.astype(np.int64) - _EXACT_BITS, 0)
    tops = numbers >> shifts
    # Beyond 2^53 a float may have been rounded up to the next octave.
    shifts -= (shifts > 0) & (tops < _SUBS)
    buckets: NDArray[np.int64] = shifts * _SUBS + (numbers >> shifts)
    return buckets


def _edges(bucket: int) -> tuple[int, int]:
    """Return the least and the greatest number of a bucket."""
    if bucket < 2 * _SUBS:
        return bucket, bucket
    shift = bucket // _SUBS - 1
    low = (bucket - shift * _SUBS) << shift
    return low, low + (1 << shift) - 1
