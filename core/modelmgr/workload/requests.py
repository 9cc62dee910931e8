"""The traffic of a scenario, lazily and in time order: what ``simulation`` and ``run`` ask for.

How to use it (all times are ns since the scenario's start)::

    source = RequestSource(scenario)
    while batch := source.next_batch():              # a list, time-ordered, a few thousand long
        for at_ns, tag, service_ns, shape, user in batch:
            ...                                      # source.tags[tag] is the model
    # whenever a request ends, however it ends, and its user is not NOBODY:
    following = source.served(user, now_ns)          # a raw request at or after now, or None

* A batch never goes back in time behind the one before; ``[]`` means that nothing more will come
  but what ``served`` returns. Equal times keep a fixed order: phase by phase, then model by model,
  a trace's rows in the file's order. So ``(at_ns, number of the request)`` is a total order.
* ``tag`` is an index into ``source.tags``, which is the order of ``scenario.models``; ``shape`` one
  into ``source.shapes``, or ``NO_SHAPE``.
* ``service_ns`` is filled in: a trace's duration, else drawn here, from a stream of the model, so
  that the n-th request of a model takes equally long under every policy. ``draw_service=False``
  (for ``run``) leaves ``DRAWN_LATER`` where only the model itself can say.
* Closed-loop users' first requests are in the batches. ``served`` gives a user's next one: after a
  time-out or a refusal too. It is the caller's to merge: put it on the event heap.
* ``source.request(raw)`` makes a ``Request`` of a raw one; ``for request in source`` yields these,
  for callers that need no speed and have no closed loop.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter

import numpy as np

from modelmgr.errors import InputError, UsageError
from modelmgr.records.validation import nearest, shorten
from modelmgr.units import NS_PER_S
from modelmgr.workload.arrivals import Times, make_times, peak_rate_per_s
from modelmgr.workload.closed_loop import ClosedLoopUser
from modelmgr.workload.distributions import IntArray
from modelmgr.workload.raw_requests import DRAWN_LATER, NO_SHAPE, NOBODY, RawRequest
from modelmgr.workload.scenario import MixPhase, Phase, Request, Scenario, TracePhase
from modelmgr.workload.service import Columns, ServiceTimes, TracedModel
from modelmgr.workload.streams import open_stream
from modelmgr.workload.traces import read_trace

_BATCH = 2048
"""Requests that a batch is meant to have; it is cut by time, so it may have more or fewer."""
_PER_MODEL = 512
"""... of a mix rather so many for each model, as asking a model costs time too, ..."""
_LARGE_BATCH = 32_768
"""... within so many, which take 6 MB, ..."""
_LEAST_PER_MODEL = 32
"""... but no fewer than so many."""

_AT = itemgetter(0)

Chunk = tuple[list[RawRequest], int]
"""Requests of one line of phases, and the time before which it has no others."""

_NO_REQUESTS: list[RawRequest] = []
_ENDED: tuple[list[RawRequest], float] = (_NO_REQUESTS, math.inf)


class RequestSource:
    """A scenario's traffic; see the module for how to use it.

    Attributes:
        tags: the models, in the scenario's order.
        shapes: what a raw request's shape index stands for.
    """

    def __init__(self, scenario: Scenario, *, draw_service: bool = True) -> None:
        self.tags = tuple(model.tag for model in scenario.models)
        self._scenario = scenario
        self._index = {tag: index for index, tag in enumerate(self.tags)}
        self._service = ServiceTimes(scenario, drawn=draw_service)
        self.shapes = self._service.shapes
        self._users: list[ClosedLoopUser] = []
        self._batches = self._merge([self._line(line) for line in phase_lines(scenario.workload)])

    def next_batch(self) -> list[RawRequest]:
        """Return the next requests in time order; an empty list when there are no more.

        Raises:
            InputError: a trace has a bad row.
        """
        return next(self._batches, _NO_REQUESTS[:])

    def served(self, user: int, now_ns: int) -> RawRequest | None:
        """Return the next request of a closed loop's user; None when its phase is over.

        Args:
            user: from the raw request that ended, served or not.
            now_ns: when it ended.
        """
        if not 0 <= user < len(self._users):
            raise UsageError(f"there is no closed-loop user {user}")
        return self._users[user].ask(now_ns)

    def request(self, raw: RawRequest) -> Request:
        """Return a raw request in words."""
        at_ns, tag, service_ns, shape, user = raw
        return Request(
            at_ns=at_ns,
            tag=self.tags[tag],
            service_ns=None if service_ns == DRAWN_LATER else service_ns,
            shape=None if shape == NO_SHAPE else self.shapes[shape],
            user=None if user == NOBODY else user,
        )

    def __iter__(self) -> Iterator[Request]:
        while batch := self.next_batch():
            for raw in batch:
                yield self.request(raw)

    def _line(self, phases: Sequence[tuple[int, Phase]]) -> Iterator[Chunk]:
        """Yield the chunks of phases that follow one another; where one ends is known by then."""
        now_ns = 0
        for number, phase in phases:
            start_ns = now_ns if phase.start_ns is None else phase.start_ns
            now_ns = start_ns
            if isinstance(phase, TracePhase):
                chunks = self._trace(number, phase, start_ns)
            elif phase.arrivals.pattern == "closed":
                chunks = self._closed(number, phase, start_ns)
            else:
                chunks = self._mix(number, phase, start_ns)
            for chunk, until_ns in chunks:
                now_ns = until_ns
                yield chunk, until_ns

    def _mix(self, number: int, phase: MixPhase, start_ns: int) -> Iterator[Chunk]:
        total = sum(weight for _, weight in phase.mix)
        models: list[tuple[int, Times, Columns]] = []
        for tag, weight in phase.mix:
            index = self._index[tag]
            stream = open_stream(self._scenario.seed, "phase", number, "arrivals", tag)
            times = make_times(phase.arrivals, weight, total, stream, start_ns=start_ns)
            if times is not None:
                columns = self._service.columns(number, index, phase.shapes.get(tag, ()))
                models.append((index, times, columns))
        wanted = max(
            _BATCH,
            min(_PER_MODEL * len(models), _LARGE_BATCH),
            _LEAST_PER_MODEL * len(models),
        )
        window_ns = max(1, round(wanted * NS_PER_S / peak_rate_per_s(phase.arrivals)))
        now_ns, end_ns = start_ns, start_ns + phase.duration_ns
        while now_ns < end_ns:
            now_ns = min(end_ns, now_ns + window_ns)
            yield _generate(models, now_ns), now_ns

    def _closed(self, number: int, phase: MixPhase, start_ns: int) -> Iterator[Chunk]:
        end_ns = start_ns + phase.duration_ns
        first: list[RawRequest] = []
        for place in range(phase.arrivals.concurrency):
            user = ClosedLoopUser(
                self._scenario.seed,
                phase,
                self._service,
                phase_number=number,
                user=len(self._users),
                place=place,
                end_ns=end_ns,
                tags=self._index,
            )
            self._users.append(user)
            if (request := user.ask(start_ns)) is not None:
                first.append(request)
        first.sort(key=_AT)
        yield first, end_ns

    def _trace(self, number: int, phase: TracePhase, start_ns: int) -> Iterator[Chunk]:
        models: dict[str, TracedModel] = {}
        origin_ns, speedup = phase.from_ns, phase.speedup
        found: list[RawRequest] = []
        at_ns = start_ns
        for file_ns, model, duration_ns, tokens_in, tokens_out, line, row in read_trace(phase):
            traced = models.get(model)
            if traced is None:
                traced = models[model] = self._traced(number, phase, model, line, row)
            passed_ns = file_ns - origin_ns
            at_ns = start_ns + (passed_ns if speedup == 1 else int(passed_ns / speedup))
            shape = NO_SHAPE if tokens_in < 0 else traced.shape(tokens_in)
            service_ns = duration_ns
            if duration_ns < 0:
                service_ns = traced.service(shape)
                if traced.per_token is not None:
                    per_input, per_output = traced.per_token
                    service_ns += per_input * max(0, tokens_in) + per_output * max(0, tokens_out)
            if len(found) >= _BATCH and at_ns > found[-1][0]:
                yield found, at_ns
                found = []
            found.append((at_ns, traced.tag, service_ns, shape, NOBODY))
        if phase.until_ns is not None:
            at_ns = start_ns + int((phase.until_ns - origin_ns) / speedup)
        yield found, at_ns + (phase.until_ns is None)

    def _traced(
        self, number: int, phase: TracePhase, model: str, line: int, row: int
    ) -> TracedModel:
        tag = self._index.get(model)
        if tag is None:
            raise InputError(
                f"row {row}: the scenario has no model {shorten(model)!r}",
                path=str(phase.path),
                line=line,
                hint=f"{nearest(model, self.tags)}; or keep only the most frequent: 'top: 10'",
            )
        return self._service.traced(number, tag)

    def _merge(self, lines: Sequence[Iterator[Chunk]]) -> Iterator[list[RawRequest]]:
        """Merge lines: what all of them are through with goes out, in time order."""
        if len(lines) == 1:
            for found, _ in lines[0]:
                if found:
                    yield found
            return
        waiting: list[list[RawRequest]] = [[] for _ in lines]
        until: list[float] = [-1.0 for _ in lines]
        while any(waiting) or min(until) < math.inf:
            behind = until.index(min(until))
            if until[behind] < math.inf:
                found, until[behind] = next(lines[behind], _ENDED)
                waiting[behind] += found
            through = min(until)
            ready: list[RawRequest] = []
            for place, line in enumerate(waiting):
                cut = bisect_left(line, through, key=_AT)
                ready += line[:cut]
                waiting[place] = line[cut:]
            if ready:
                ready.sort(key=_AT)  # stable: equal times stay in the order of the phases
                yield ready


def _generate(models: Sequence[tuple[int, Times, Columns]], end_ns: int) -> list[RawRequest]:
    """Return what a mix's models ask for before an end, in time order."""
    times: list[IntArray] = []
    services: list[IntArray] = []
    shapes: list[IntArray | None] = []
    tags: list[int] = []
    for tag, source, columns in models:
        at_ns = source.before(end_ns)
        if len(at_ns):
            service, shape = columns(len(at_ns))
            times.append(at_ns)
            services.append(service)
            shapes.append(shape)
            tags.append(tag)
    if not times:
        return []
    at = np.concatenate(times)
    order = at.argsort(kind="stable")  # equal times stay in the mix's order
    counts = [len(part) for part in times]
    shape_column: Iterable[int] = repeat(NO_SHAPE)
    if any(shape is not None for shape in shapes):
        given = [
            np.full(count, NO_SHAPE, dtype=np.int64) if shape is None else shape
            for shape, count in zip(shapes, counts, strict=True)
        ]
        shape_column = np.concatenate(given)[order].tolist()
    return list(
        zip(
            at[order].tolist(),
            np.repeat(np.array(tags), counts)[order].tolist(),
            np.concatenate(services)[order].tolist(),
            shape_column,
            repeat(NOBODY),
            strict=False,
        )
    )


def phase_lines(workload: Sequence[Phase]) -> list[list[tuple[int, Phase]]]:
    """Return the phases, each with its number, as lines of phases that follow one another."""
    lines: list[list[tuple[int, Phase]]] = []
    for number, phase in enumerate(workload):
        if phase.start_ns is not None or not lines:
            lines.append([])
        lines[-1].append((number, phase))
    return lines
