"""Draw durations: the transforms from uniform numbers to a scenario's distributions.

Own transforms, as those of ``random`` and numpy may change between versions: inversion for
exponential, uniform and empirical; Marsaglia's polar method for normal (*A Convenient Method for
Generating Normal Variables*, SIAM Review 6, 1964); Marsaglia and Tsang for gamma (*A Simple Method
for Generating Gamma Variables*, ACM TOMS 26, 2000). Nothing here reads a file or knows a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from modelmgr.workload.exact_math import FloatArray, exp, log
from modelmgr.workload.scenario import Distribution
from modelmgr.workload.streams import Stream, Variates, exponential

IntArray = npt.NDArray[np.int64]

MAX_UNIFORM_CV = 1 / math.sqrt(3)
"""Of a uniform distribution that starts at 0; a larger spread would draw negative durations."""

_LONGEST_NS = 2.0**62
_ONE_BY_ONE = 32


class Sampler:
    """Durations, nanoseconds, none below 0. ``sampler(count)`` is ``take`` as a list."""

    __slots__ = ("_ready", "_take")

    def __init__(self, take: Callable[[int], IntArray]) -> None:
        self._take = take
        self._ready: list[int] = []

    def __call__(self, count: int) -> list[int]:
        """Return the next durations as a list."""
        drawn: list[int] = self._take(count).tolist()
        return drawn

    def take(self, count: int) -> IntArray:
        """Return the next durations."""
        return self._take(count)

    def one(self) -> int:
        """Return the next duration, fast; not to be mixed with the other two."""
        if not self._ready:
            self._ready = self(_ONE_BY_ONE)
            self._ready.reverse()
        return self._ready.pop()


def make_sampler(distribution: Distribution, stream: Stream) -> Sampler:
    """Return what draws from a distribution with the numbers of one stream."""
    mean = distribution.mean_ns
    cv = distribution.cv
    kind = distribution.kind
    if kind == "empirical":
        samples = np.array(distribution.samples_ns, dtype=np.int64)
        return Sampler(lambda count: samples[(stream.take(count) * len(samples)).astype(np.int64)])
    if kind == "constant" or mean == 0 or (kind != "exponential" and cv == 0):
        return constant_sampler(mean)
    if kind == "exponential":
        return _scaled(exponential(stream), mean)
    if kind == "gamma":
        return _scaled(standard_gamma(1 / cv**2, stream), mean * cv**2)
    if kind == "uniform":
        half = min(cv, MAX_UNIFORM_CV) * math.sqrt(3) * mean
        return Sampler(lambda count: _whole(mean - half + 2 * half * stream.take(count)))
    return _lognormal(mean, cv, stream)


def constant_sampler(value: int) -> Sampler:
    """Return what draws always the same."""
    return Sampler(lambda count: np.full(count, value, dtype=np.int64))


def _scaled(variates: Variates, scale: float) -> Sampler:
    return Sampler(lambda count: _whole(variates.take(count) * scale))


def _lognormal(mean: int, cv: float, stream: Stream) -> Sampler:
    variance = float(log(np.array([1.0 + cv**2]))[0])
    sigma = math.sqrt(variance)
    mu = float(log(np.array([float(mean)]))[0]) - variance / 2
    normal = standard_normal(stream)
    return Sampler(lambda count: _whole(exp(mu + sigma * normal.take(count))))


def _whole(durations: FloatArray) -> IntArray:
    return np.rint(np.clip(durations, 0.0, _LONGEST_NS)).astype(np.int64)


def standard_normal(stream: Stream) -> Variates:
    """Return numbers of N(0, 1), two of each pair of uniform numbers within the unit circle."""

    def make(count: int) -> FloatArray:
        pairs = 2.0 * stream.take(2 * count).reshape(count, 2) - 1.0
        square = pairs[:, 0] * pairs[:, 0] + pairs[:, 1] * pairs[:, 1]
        inside = (square > 0.0) & (square < 1.0)
        square = square[inside]
        factor = np.sqrt(-2.0 * log(square) / square)
        return (pairs[inside] * factor[:, np.newaxis]).reshape(-1)

    return Variates(make)


def standard_gamma(shape: float, stream: Stream) -> Variates:
    """Return numbers of a gamma distribution of this shape and scale 1.

    Below a shape of 1 they are those of shape + 1 times U^(1/shape), section 6 of Marsaglia and
    Tsang.
    """
    if shape < 1.0:
        larger = standard_gamma(shape + 1.0, stream.child("larger"))
        return Variates(
            lambda count: larger.take(count) * exp(log(1.0 - stream.take(count)) / shape)
        )
    normal = standard_normal(stream.child("normal"))
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)

    def make(count: int) -> FloatArray:
        x = normal.take(count)
        u = 1.0 - stream.take(count)
        v = 1.0 + c * x
        positive = v > 0.0
        v = np.where(positive, v * v * v, 1.0)
        accepted = positive & (log(u) < 0.5 * x * x + d * (1.0 - v + log(v)))
        return d * v[accepted]

    return Variates(make)
