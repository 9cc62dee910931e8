"""Draw durations: the transforms from uniform numbers to a scenario's distributions.

Own transforms, as those of ``random`` may change between Python versions: inversion for
exponential, uniform and empirical; Marsaglia's polar method for normal (*A Convenient Method for
Generating Normal Variables*, SIAM Review 6, 1964); Marsaglia and Tsang for gamma (*A Simple Method
for Generating Gamma Variables*, ACM TOMS 26, 2000). Nothing here reads a file or knows a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from modelmgr.workload.scenario import Distribution
from modelmgr.workload.streams import Draw

Sampler = Callable[[int], list[int]]
"""Returns the next so many durations, nanoseconds, none below 0."""

MAX_UNIFORM_CV = 1 / math.sqrt(3)
"""Of a uniform distribution that starts at 0; a larger spread would draw negative durations."""


def make_sampler(distribution: Distribution, draw: Draw) -> Sampler:
    """Return what draws from a distribution with the numbers of one stream."""
    mean = distribution.mean_ns
    cv = distribution.cv
    if distribution.kind == "empirical":
        return _empirical(distribution.samples_ns, draw)
    if (
        distribution.kind == "constant"
        or mean == 0
        or (distribution.kind != "exponential" and not cv)
    ):
        return lambda count: [mean] * count
    if distribution.kind == "exponential":
        return _exponential(mean, draw)
    if distribution.kind == "uniform":
        return _uniform(mean, cv, draw)
    if distribution.kind == "gamma":
        gamma = standard_gamma(1 / cv**2, draw)
        scale = mean * cv**2
        return lambda count: [round(gamma() * scale) for _ in range(count)]
    return _lognormal(mean, cv, draw)


def _exponential(mean: int, draw: Draw) -> Sampler:
    log = math.log

    def sample(count: int) -> list[int]:
        return [int(0.5 - log(1.0 - draw()) * mean) for _ in range(count)]

    return sample


def _uniform(mean: int, cv: float, draw: Draw) -> Sampler:
    half = min(cv, MAX_UNIFORM_CV) * math.sqrt(3) * mean
    low = mean - half
    width = 2 * half
    return lambda count: [max(0, round(low + width * draw())) for _ in range(count)]


def _lognormal(mean: int, cv: float, draw: Draw) -> Sampler:
    variance = math.log1p(cv**2)
    sigma = math.sqrt(variance)
    mu = math.log(mean) - variance / 2
    normal = standard_normal(draw)
    return lambda count: [round(math.exp(mu + sigma * normal())) for _ in range(count)]


def _empirical(samples: tuple[int, ...], draw: Draw) -> Sampler:
    size = len(samples)
    return lambda count: [samples[int(draw() * size)] for _ in range(count)]


def standard_normal(draw: Draw) -> Draw:
    """Return what draws from N(0, 1); two at a time, the second is kept for the next call."""
    kept: list[float] = []

    def normal() -> float:
        if kept:
            return kept.pop()
        while True:
            x = 2.0 * draw() - 1.0
            y = 2.0 * draw() - 1.0
            square = x * x + y * y
            if 0.0 < square < 1.0:
                factor = math.sqrt(-2.0 * math.log(square) / square)
                kept.append(y * factor)
                return x * factor

    return normal


def standard_gamma(shape: float, draw: Draw) -> Draw:
    """Return what draws from a gamma distribution of this shape and scale 1.

    Below a shape of 1 it draws from shape + 1 and multiplies by U^(1/shape), section 6 of
    Marsaglia and Tsang.
    """
    if shape < 1.0:
        larger = standard_gamma(shape + 1.0, draw)
        power = 1.0 / shape
        return lambda: larger() * (1.0 - draw()) ** power
    normal = standard_normal(draw)
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)

    def gamma() -> float:
        while True:
            x = normal()
            v = 1.0 + c * x
            if v <= 0.0:
                continue
            v = v * v * v
            u = 1.0 - draw()
            if u < 1.0 - 0.0331 * x**4 or math.log(u) < 0.5 * x * x + d * (1.0 - v + math.log(v)):
                return d * v

    return gamma
