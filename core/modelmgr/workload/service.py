"""How long requests hold a copy, and which shape they have: drawn ahead, with the request.

Drawn with the request and not when it is granted, so that the n-th request of a model takes equally
long under every policy and at any size of device: what differs between two runs is then the
scheduling alone. Owns the scenario's list of shapes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from modelmgr.workload.distributions import IntArray, Sampler, constant_sampler, make_sampler
from modelmgr.workload.raw_requests import DRAWN_LATER, NO_SHAPE
from modelmgr.workload.scenario import MixPhase, Scenario, ScenarioCost
from modelmgr.workload.streams import Stream, open_stream

Shape = tuple[tuple[str, int], ...]
"""Dimensions and sizes, sorted by name."""
Columns = Callable[[int], tuple[IntArray, IntArray | None]]
"""Draws so many service times, and their shapes where they have any."""

_LENGTH = "sequence_length"
_BATCH = "batch_size"


class TracedModel(NamedTuple):
    """A model of a trace.

    Attributes:
        tag: its index.
        shape: the index of the measured shape that a prompt of so many tokens would run in: the
            shortest ``sequence_length`` that holds it, else the longest, at the smallest batch.
        service: draws a service time for a shape, ns.
        per_token: what an input and an output token add, ns; None for nothing.
    """

    tag: int
    shape: Callable[[int], int]
    service: Callable[[int], int]
    per_token: tuple[int, int] | None


class ServiceTimes:
    """Draws service times and shapes for one scenario.

    Attributes:
        shapes: every shape that a request of the scenario may have, by index.
    """

    def __init__(self, scenario: Scenario, *, drawn: bool) -> None:
        self._seed = scenario.seed
        self._models = scenario.models
        self._drawn = drawn
        found: dict[Shape, None] = {}
        for model in scenario.models:
            found.update(dict.fromkeys(model.cost.service_by_shape if model.cost else ()))
        for phase in scenario.workload:
            if isinstance(phase, MixPhase):
                for shapes in phase.shapes.values():
                    found.update(dict.fromkeys(shape for shape, _ in shapes))
        self.shapes: tuple[Shape, ...] = tuple(found)
        self._number: Mapping[Shape, int] = {shape: i for i, shape in enumerate(found)}

    def sampler(self, tag: int, shape: int, stream: Stream) -> Sampler:
        """Return what draws a model's service times for a shape, or for no particular one."""
        cost = self._models[tag].cost
        if cost is None or not self._drawn:
            return constant_sampler(DRAWN_LATER)
        distribution = cost.service
        if shape != NO_SHAPE:
            distribution = cost.service_by_shape.get(self.shapes[shape], distribution)
        return make_sampler(distribution, stream)

    def columns(self, phase: int, tag: int, weighted: Sequence[tuple[Shape, float]]) -> Columns:
        """Return what draws the next service times of a model in a phase, and their shapes.

        The shapes are None where the model's requests have no particular one.
        """
        name = self._models[tag].tag

        def stream(purpose: str, *names: str) -> Stream:
            return open_stream(self._seed, "phase", phase, purpose, name, *names)

        if not weighted:
            take = self.sampler(tag, NO_SHAPE, stream("service")).take
            return lambda count: (take(count), None)
        indices = np.array([self._number[shape] for shape, _ in weighted], dtype=np.int64)
        bounds = np.array(list(accumulate(weight for _, weight in weighted)), dtype=np.float64)
        total = float(bounds[-1])
        last = max(place for place, (_, weight) in enumerate(weighted) if weight > 0)
        draw = stream("shape")
        samplers = [
            self.sampler(tag, self._number[shape], stream("service", *map(str, shape)))
            for shape, _ in weighted
        ]

        def shaped(count: int) -> tuple[IntArray, IntArray | None]:
            found = bounds.searchsorted(draw.take(count) * total, side="right")
            chosen = np.minimum(found.astype(np.int64), last)
            service = np.empty(count, dtype=np.int64)
            for place, sampler in enumerate(samplers):
                places = np.flatnonzero(chosen == place)
                service[places] = sampler.take(len(places))
            return service, indices[chosen]

        return shaped

    def shape_picker(
        self, weighted: Sequence[tuple[Shape, float]], stream: Stream
    ) -> Callable[[], int]:
        """Return what draws the index of a shape."""
        if not weighted:
            return lambda: NO_SHAPE
        indices = [self._number[shape] for shape, _ in weighted]
        pick = picker([weight for _, weight in weighted], stream)
        return lambda: indices[pick()]

    def traced(self, phase: int, tag: int) -> TracedModel:
        """Return what a trace's rows of a model take."""
        model = self._models[tag]
        stream = open_stream(self._seed, "phase", phase, "service", model.tag)
        samplers: dict[int, Sampler] = {}

        def service(shape: int) -> int:
            sample = samplers.get(shape)
            if sample is None:
                sample = samplers[shape] = self.sampler(tag, shape, stream.child(str(shape)))
            return sample.one()

        cost = model.cost if self._drawn else None
        per_token = None if cost is None else (cost.per_input_token_ns, cost.per_output_token_ns)
        if per_token is not None and not any(per_token):
            per_token = None
        return TracedModel(tag, self._shape_of_tokens(tag), service, per_token)

    def _shape_of_tokens(self, tag: int) -> Callable[[int], int]:
        cost = self._models[tag].cost
        lengths = {} if cost is None else _shapes_by_length(cost)
        if not lengths:
            return lambda _: NO_SHAPE
        sizes = sorted(lengths)
        indices = [self._number[lengths[size]] for size in sizes]
        return lambda tokens: indices[min(bisect_left(sizes, tokens), len(sizes) - 1)]


def picker(weights: Sequence[float], stream: Stream) -> Callable[[], int]:
    """Return what draws an index by weight; an index of weight 0 never comes."""
    bounds = list(accumulate(weights))
    total = bounds[-1]
    last = max(index for index, weight in enumerate(weights) if weight > 0)
    return lambda: min(last, bisect_right(bounds, stream() * total))


def _shapes_by_length(cost: ScenarioCost) -> dict[int, Shape]:
    found: dict[int, Shape] = {}
    for shape in sorted(cost.service_by_shape, key=lambda shape: dict(shape).get(_BATCH, 1)):
        size = dict(shape).get(_LENGTH)
        if size is not None:
            found.setdefault(size, shape)
    return found
