"""When one model's requests come: its share of a phase's arrival pattern, from a stream of its own.

A mix is split into independent processes, one a model, at ``rate · weight / Σ weights``. For
Poisson traffic (``poisson``, ``burst``, ``diurnal``) this is exact: a thinned Poisson process is
one of independent Poisson processes. For ``constant`` and ``gamma`` it is a definition: the
intervals, and their ``cv``, are those of each model's own requests, and the traffic of the whole
mix is more irregular, or less, than one such process would be. What it buys: as long as a model's
own rate stays, nothing that happens to the rest of the mix moves a request of it.

Every process is stationary from its first moment, so the expected number of requests is rate times
duration: ``constant`` starts at a random place within its first interval, ``gamma`` with the
residual of an interval (U times an interval drawn by its length, which has shape + 1: Cox, *Renewal
Theory*, 1962, section 5.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from modelmgr.units import NS_PER_S
from modelmgr.workload.distributions import IntArray, standard_gamma
from modelmgr.workload.exact_math import FloatArray
from modelmgr.workload.scenario import Arrivals
from modelmgr.workload.streams import Stream, Variates, exponential

_NEVER_NS = 2.0**62  # 146 years
_BLOCK = 256
_NONE: IntArray = np.empty(0, dtype=np.int64)


class Times:
    """The arrival times of one model in a phase, ns, ascending, taken piece by piece."""

    __slots__ = ("_first", "_next_block", "_pending", "_start_ns")

    def __init__(self, next_block: Callable[[], FloatArray], start_ns: int) -> None:
        """Take what returns the next times, ns since ``start_ns``; never the end of them."""
        self._next_block = next_block
        self._start_ns = start_ns
        self._pending = _NONE
        self._first = -1

    def before(self, end_ns: int) -> IntArray:
        """Return every time before an end that was not yet returned."""
        if self._first >= end_ns:
            return _NONE
        parts: list[IntArray] = []
        while True:
            cut = int(self._pending.searchsorted(end_ns))
            if cut:
                parts.append(self._pending[:cut])
                self._pending = self._pending[cut:]
            if len(self._pending):
                self._first = int(self._pending[0])
                break
            elapsed = np.minimum(self._next_block(), _NEVER_NS)
            self._pending = elapsed.astype(np.int64) + self._start_ns
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else _NONE


def make_times(
    arrivals: Arrivals, weight: float, total: float, stream: Stream, *, start_ns: int
) -> Times | None:
    """Return a model's arrival times; None where it never comes.

    Args:
        arrivals: the pattern of the whole mix; not ``closed``, whose users ask by themselves.
        weight: the model's in the mix, more than 0.
        total: the sum of the mix's weights.
        stream: the stream of this model's arrivals.
        start_ns: where the phase begins.
    """
    # In fractions: the same rate of its own must give the same requests, to the nanosecond,
    # however weight and total come to it.
    share = Fraction(weight) / Fraction(total)
    rate = float(Fraction(arrivals.rate_per_s) * share)
    if arrivals.pattern == "burst":
        burst_rate = float(Fraction(arrivals.burst_rate_per_s) * share)
        spans = (arrivals.burst_ns, arrivals.period_ns)
        return _burst((burst_rate, rate), spans, stream, start_ns=start_ns)
    if rate <= 0:
        return None
    if arrivals.pattern == "constant" or (arrivals.pattern == "gamma" and arrivals.cv == 0):
        return _constant(rate, stream, start_ns=start_ns)
    if arrivals.pattern == "gamma":
        return _gamma(rate, arrivals.cv, stream, start_ns=start_ns)
    if arrivals.pattern == "diurnal":
        return _diurnal(rate, arrivals, stream, start_ns=start_ns)
    return _poisson(rate, stream, start_ns=start_ns)


def peak_rate_per_s(arrivals: Arrivals) -> float:
    """Return the highest rate that a pattern comes to, requests a second."""
    if arrivals.pattern == "diurnal":
        return arrivals.rate_per_s * (1 + arrivals.amplitude)
    return max(arrivals.rate_per_s, arrivals.burst_rate_per_s)


def poisson_times(rate_per_s: float, stream: Stream, *, start_ns: int) -> Iterator[int]:
    """Yield the times of a Poisson process for ever, ns: faults at a rate, for example."""
    block = _summed(exponential(stream), NS_PER_S / rate_per_s)
    while True:
        for elapsed in block():
            yield start_ns + int(elapsed)


def _summed(intervals: Variates, scale: float, first: float = 0.0) -> Callable[[], FloatArray]:
    """Return what returns the sums of ever more intervals, one after the other, exactly so."""
    total = first

    def next_block() -> FloatArray:
        nonlocal total
        block = intervals.next_block() * scale
        if len(block):
            block[0] += total
            np.add.accumulate(block, out=block)
            total = float(block[-1])
        return block

    return next_block


def _constant(rate: float, stream: Stream, *, start_ns: int) -> Times:
    interval = NS_PER_S / rate
    offset = stream() * interval
    count = 0

    def next_block() -> FloatArray:
        nonlocal count
        count += _BLOCK
        # A product, not a sum: rounding must not pile up over a long phase.
        return offset + np.arange(count - _BLOCK, count, dtype=np.float64) * interval

    return Times(next_block, start_ns)


def _poisson(rate: float, stream: Stream, *, start_ns: int) -> Times:
    return Times(_summed(exponential(stream), NS_PER_S / rate), start_ns)


def _gamma(rate: float, cv: float, stream: Stream, *, start_ns: int) -> Times:
    shape = 1 / cv**2
    scale = NS_PER_S / rate / shape
    whole = float(standard_gamma(shape + 1.0, stream.child("first")).take(1)[0])
    first = np.array([stream.child("residual")() * whole * scale])
    later = _summed(standard_gamma(shape, stream), scale, float(first[0]))
    waiting = [first]
    return Times(lambda: waiting.pop() if waiting else later(), start_ns)


def _burst(
    rates: tuple[float, float], spans_ns: tuple[int, int], stream: Stream, *, start_ns: int
) -> Times | None:
    """Invert the cumulated rate: each period begins with its burst, the calm follows."""
    fast, slow = (rate / NS_PER_S for rate in rates)
    burst_ns, period_ns = spans_ns
    in_burst = fast * burst_ns
    in_period = in_burst + slow * (period_ns - burst_ns)
    if in_period <= 0:
        return None
    expected = _summed(exponential(stream), 1.0)  # requests since the phase began

    def next_block() -> FloatArray:
        sums = expected()
        periods = np.floor(sums / in_period)
        rest = np.maximum(sums - periods * in_period, 0.0)
        within = rest / fast if fast > 0 else np.zeros_like(rest)
        if slow > 0:
            within = np.where(rest < in_burst, within, burst_ns + (rest - in_burst) / slow)
        # At a seam of two periods rounding may put a later request a nanosecond earlier.
        return np.maximum.accumulate(periods * period_ns + np.minimum(within, period_ns))

    return Times(next_block, start_ns)


def _diurnal(rate: float, arrivals: Arrivals, stream: Stream, *, start_ns: int) -> Times:
    """Thin a Poisson process of the highest rate (Lewis and Shedler, 1979): exact.

    The sine is the C library's: its last bit decides once in 10^16 requests.
    """
    highest = 1.0 + arrivals.amplitude
    turn = 2.0 * np.pi / arrivals.period_ns
    candidates = _summed(exponential(stream), NS_PER_S / (rate * highest))
    thinning = stream.child("thinning")

    def next_block() -> FloatArray:
        times = candidates()
        kept = thinning.take(len(times)) * highest < 1.0 + arrivals.amplitude * np.sin(turn * times)
        return times[kept]

    return Times(next_block, start_ns)
