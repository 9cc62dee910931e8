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

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

from modelmgr.units import NS_PER_S
from modelmgr.workload.distributions import standard_gamma
from modelmgr.workload.scenario import Arrivals
from modelmgr.workload.streams import Draw

Times = Callable[[int], list[int]]
"""Given an end, returns every time before it that was not yet returned, ascending; all ns."""


def make_times(
    arrivals: Arrivals, weight: float, total: float, draw: Draw, *, start_ns: int
) -> Times:
    """Return a model's arrival times.

    Args:
        arrivals: the pattern of the whole mix; not ``closed``, whose users ask by themselves.
        weight: the model's in the mix, more than 0.
        total: the sum of the mix's weights.
        draw: the stream of this model's arrivals.
        start_ns: where the phase begins.
    """
    # In fractions: the same rate of its own must give the same requests, to the nanosecond,
    # however weight and total come to it.
    share = Fraction(weight) / Fraction(total)
    rate = float(Fraction(arrivals.rate_per_s) * share)
    if arrivals.pattern == "burst":
        burst_rate = float(Fraction(arrivals.burst_rate_per_s) * share)
        return _burst(
            (burst_rate, rate), (arrivals.burst_ns, arrivals.period_ns), draw, start_ns=start_ns
        )
    if rate <= 0:
        return lambda _: []
    if arrivals.pattern == "constant" or (arrivals.pattern == "gamma" and arrivals.cv == 0):
        return _constant(rate, draw, start_ns=start_ns)
    if arrivals.pattern == "gamma":
        return _gamma(rate, arrivals.cv, draw, start_ns=start_ns)
    if arrivals.pattern == "diurnal":
        return _diurnal(rate, arrivals, draw, start_ns=start_ns)
    return _poisson(rate, draw, start_ns=start_ns)


def peak_rate_per_s(arrivals: Arrivals) -> float:
    """Return the highest rate that a pattern comes to, requests a second."""
    if arrivals.pattern == "diurnal":
        return arrivals.rate_per_s * (1 + arrivals.amplitude)
    return max(arrivals.rate_per_s, arrivals.burst_rate_per_s)


def poisson_times(rate_per_s: float, draw: Draw, *, start_ns: int) -> Iterator[int]:
    """Yield the times of a Poisson process for ever, ns: faults at a rate, for example."""
    elapsed = 0.0
    while True:
        elapsed -= math.log(1.0 - draw()) * NS_PER_S / rate_per_s
        yield start_ns + int(elapsed)


def _constant(rate: float, draw: Draw, *, start_ns: int) -> Times:
    interval = NS_PER_S / rate
    offset = draw() * interval
    count = 0

    def before(end_ns: int) -> list[int]:
        nonlocal count
        found: list[int] = []
        # A product, not a sum: rounding must not pile up over a long phase.
        while (at_ns := start_ns + int(offset + count * interval)) < end_ns:
            found.append(at_ns)
            count += 1
        return found

    return before


def _poisson(rate: float, draw: Draw, *, start_ns: int) -> Times:
    mean = NS_PER_S / rate
    log = math.log
    elapsed = -log(1.0 - draw()) * mean

    def before(end_ns: int) -> list[int]:
        nonlocal elapsed
        end = float(end_ns - start_ns)
        now = elapsed
        found: list[int] = []
        append = found.append
        while now < end:
            append(start_ns + int(now))
            now -= log(1.0 - draw()) * mean
        elapsed = now
        return found

    return before


def _gamma(rate: float, cv: float, draw: Draw, *, start_ns: int) -> Times:
    shape = 1 / cv**2
    scale = NS_PER_S / rate / shape
    interval = standard_gamma(shape, draw)
    elapsed = draw() * standard_gamma(shape + 1.0, draw)() * scale

    def before(end_ns: int) -> list[int]:
        nonlocal elapsed
        end = float(end_ns - start_ns)
        now = elapsed
        found: list[int] = []
        while now < end:
            found.append(start_ns + int(now))
            now += interval() * scale
        elapsed = now
        return found

    return before


def _burst(
    rates: tuple[float, float], spans_ns: tuple[int, int], draw: Draw, *, start_ns: int
) -> Times:
    """Invert the cumulated rate: each period begins with its burst, the calm follows."""
    fast, slow = (rate / NS_PER_S for rate in rates)
    burst_ns, period_ns = spans_ns
    in_burst = fast * burst_ns
    in_period = in_burst + slow * (period_ns - burst_ns)
    if in_period <= 0:
        return lambda _: []
    log = math.log
    period = 0.0
    expected = 0.0  # requests since the period began

    def advance() -> float:
        nonlocal period, expected
        skipped, expected = divmod(expected - log(1.0 - draw()), in_period)
        period += skipped
        if expected < in_burst or slow == 0:
            within = expected / fast
        else:
            within = burst_ns + (expected - in_burst) / slow
        return period * period_ns + within

    elapsed = advance()

    def before(end_ns: int) -> list[int]:
        nonlocal elapsed
        end = float(end_ns - start_ns)
        now = elapsed
        found: list[int] = []
        while now < end:
            found.append(start_ns + int(now))
            now = advance()
        elapsed = now
        return found

    return before


def _diurnal(rate: float, arrivals: Arrivals, draw: Draw, *, start_ns: int) -> Times:
    """Thin a Poisson process of the highest rate (Lewis and Shedler, 1979): exact."""
    highest = 1.0 + arrivals.amplitude
    amplitude = arrivals.amplitude
    mean = NS_PER_S / (rate * highest)
    turn = 2.0 * math.pi / arrivals.period_ns
    log, sin = math.log, math.sin
    elapsed = -log(1.0 - draw()) * mean

    def before(end_ns: int) -> list[int]:
        nonlocal elapsed
        end = float(end_ns - start_ns)
        now = elapsed
        found: list[int] = []
        while now < end:
            if draw() * highest < 1.0 + amplitude * sin(turn * now):
                found.append(start_ns + int(now))
            now -= log(1.0 - draw()) * mean
        elapsed = now
        return found

    return before
