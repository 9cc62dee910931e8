"""Sum up raw samples as the records' figures. Which samples belong together is not decided here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelmgr.records.measured import Evidence, MeasuredBytes, MeasuredDuration
from modelmgr.stats.intervals import mean_interval_95, median_interval_95, percentile_established
from modelmgr.stats.location import median, quantile

_P95 = 0.95


def summarise_duration(samples_ns: Sequence[int]) -> MeasuredDuration:
    """Return median, 95th percentile and range of durations, nanoseconds.

    The percentile is None below 59 samples (``percentile_established`` says why).

    Raises:
        ValueError: no sample, or a negative one.
    """
    _refuse_negative(samples_ns)
    is_known = percentile_established(len(samples_ns), _P95)
    return MeasuredDuration(
        median=round(median(samples_ns)),
        p95=round(quantile(samples_ns, _P95)) if is_known else None,
        min=min(samples_ns),
        max=max(samples_ns),
        samples=tuple(samples_ns),
    )


def summarise_bytes(samples: Sequence[int], evidence: Evidence) -> MeasuredBytes:
    """Return the median of sizes with its 95 % interval, bytes.

    From 6 samples on the interval is the median's own, free of any assumption; with 3 to 5 it is
    Student's interval of the mean, which always holds the median too; below, None. Ends are rounded
    outwards, and an interval of sizes that are all positive does not start below 0.

    Raises:
        ValueError: no sample.
    """
    value = round(median(samples))
    interval = median_interval_95(samples) or mean_interval_95(samples)
    ends: tuple[int, int] | None = None
    if interval is not None:
        low, high = math.floor(interval[0]), math.ceil(interval[1])
        ends = (max(low, 0) if min(samples) >= 0 else low, high)
    return MeasuredBytes(value=value, evidence=evidence, interval_95=ends, samples=tuple(samples))


def _refuse_negative(samples: Sequence[int]) -> None:
    for sample in samples:
        if sample < 0:
            raise ValueError(f"a duration cannot be negative: {sample} ns")
