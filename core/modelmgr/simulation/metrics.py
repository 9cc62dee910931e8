"""What a run adds up to: waits, latencies and counts, by model and as a whole, in bounded memory.

Waits and latencies count from the scheduled arrival. Every one of them is kept while there are at
most ``EXACT_SAMPLES`` in a run; beyond that they are counted in sketches (``stats.sketch``), whose
percentiles have a stated relative error. Owns figures alone; what happened is the engine's.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from modelmgr.records.result import DurationFigures
from modelmgr.stats.intervals import percentile_established
from modelmgr.stats.sketch import RELATIVE_ERROR, QuantileSketch

EXACT_SAMPLES = 1_000_000
"""Waits, and as many latencies, that are kept as they are: 16 MB."""

_SHOWN_SAMPLES = 100


class Durations:
    """A sample of durations, nanoseconds: ``buffer`` may be appended to, one number a duration.

    The buffer is a list, which is the fastest to append to; ``settle`` moves what is in it to where
    it takes a fifth of the memory.
    """

    __slots__ = ("_kept", "buffer", "sketch")

    def __init__(self) -> None:
        self.buffer: list[int] = []
        self._kept = array("q")
        self.sketch: QuantileSketch | None = None

    def settle(self) -> array[int]:
        """Empty the buffer, and return all that is kept as it is."""
        if self.buffer:
            import numpy as np  # noqa: PLC0415 - 0.1 s to import, and only a run needs it

            settled = np.fromiter(self.buffer, np.int64, len(self.buffer))
            self._kept.frombytes(settled.tobytes())  # faster than array's own way to take a list
            self.buffer.clear()
        return self._kept

    def spill(self) -> None:
        """Count what was kept in the sketch."""
        if self.sketch is None:
            self.sketch = QuantileSketch()
        self.sketch.add(self.settle())
        del self._kept[:]


def figures(parts: Sequence[Durations]) -> DurationFigures | None:
    """Return the figures of all the parts together; None where there is no duration at all."""
    if any(part.sketch is not None for part in parts):
        return _counted(parts)
    return _exact(parts)


def _exact(parts: Sequence[Durations]) -> DurationFigures | None:
    import numpy as np  # noqa: PLC0415 - 0.1 s to import, and only a finished run needs it

    kept = [part.settle() for part in parts]
    count = sum(map(len, kept))
    if not count:
        return None
    values = np.concatenate([np.frombuffer(each, dtype=np.int64) for each in kept if each])
    total = sum(map(sum, kept))
    shown = tuple(int(value) for value in values) if count <= _SHOWN_SAMPLES else ()

    def quantile(q: float) -> int | None:
        if not percentile_established(count, q):
            return None
        # Definition 8 of Hyndman and Fan, as stats.location.quantile has it.
        return round(float(np.quantile(values, q, method="median_unbiased")))

    return DurationFigures(
        count=count,
        mean=round(total / count),
        median=quantile(0.5),
        p95=quantile(0.95),
        p99=quantile(0.99),
        min=int(values.min()),
        max=int(values.max()),
        samples=shown,
    )


def _counted(parts: Sequence[Durations]) -> DurationFigures | None:
    whole = QuantileSketch()
    for part in parts:
        if part.sketch is not None:
            whole.merge(part.sketch)
        whole.add(part.settle())
    if whole.least is None or whole.greatest is None:
        return None

    def quantile(q: float) -> int | None:
        return whole.quantile(q) if percentile_established(whole.count, q) else None

    return DurationFigures(
        count=whole.count,
        mean=round(whole.total / whole.count),
        median=quantile(0.5),
        p95=quantile(0.95),
        p99=quantile(0.99),
        min=whole.least,
        max=whole.greatest,
        relative_error=RELATIVE_ERROR,
    )
