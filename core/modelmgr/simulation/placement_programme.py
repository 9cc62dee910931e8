"""Placement as a mixed-integer programme, solved in steps and checked in integers.

The steps: most models whose least copies are placed; with that many, most weight, the k-th copy of
a model counting a k-th; with that much, models that come first; then devices that come first. What
comes out is checked in exact arithmetic: copies that are over a limit by the solver's tolerance are
forbidden to be on such a device together, and it is asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import nlargest
from itertools import pairwise

import numpy as np

from modelmgr.errors import InvalidTransitionError
from modelmgr.simulation.highs import Columns, best_integers

_SIZES = 1_000.0  # the largest limit, in the programme's unit
_WEIGHT_KEPT = 1e-7  # how much of a step's worth the next ones may lose to arithmetic
_TRIES = 100
_GAP = 1e-6  # relative: weights that differ by less are equal
_PREFERENCE_GAP = 0.05  # of the last step: which device is used first is worth no long search


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """What to place.

    Attributes:
        needs: of one copy of each model: idle, running, loading, bytes.
        limits_bytes: of each device.
        at_least: copies of each model.
        at_most: copies of each model, 1 or more.
        weights: of each model.
        active: how many copies of a device run at once, None for all.
    """

    needs: list[tuple[int, int, int]]
    limits_bytes: list[int]
    at_least: list[int]
    at_most: list[int]
    weights: list[Fraction]
    active: int | None


@dataclass(frozen=True, slots=True)
class Placed:
    """Copies by device and model, and whether every step was solved to its end."""

    copies: list[list[int]]
    proven: bool


def solve(
    programme: Programme, *, time_limit_s: float | None = None, first_only: bool = False
) -> Placed:
    """Return the best placement.

    Args:
        programme: what to place.
        time_limit_s: for each step, seconds.
        first_only: only the first step counts: how many models fit.
    """
    limits = programme.limits_bytes
    if not programme.needs:
        return Placed([[] for _ in limits], proven=True)
    covers: list[_Cover] = []
    for _ in range(_TRIES):
        placed = _Builder(programme, covers).solve(time_limit_s, first_only=first_only)
        over = [
            _Cover(limit, copies)
            for copies, limit in zip(placed.copies, limits, strict=True)
            if _needed(programme, copies) > limit
        ]
        if not over:
            return placed
        covers += over
    raise InvalidTransitionError(
        f"the solver placed more on a device than it has, {_TRIES} times, of limits {limits}"
    )


def _needed(programme: Programme, copies: Sequence[int]) -> int:
    present = [(need, count) for need, count in zip(programme.needs, copies, strict=True) if count]
    idle = sum(need[0] * count for need, count in present)
    extra = [need[1] - need[0] for need, count in present for _ in range(count)]
    running = sum(extra if programme.active is None else nlargest(programme.active, extra))
    return idle + max(running, max((need[2] - need[0] for need, _ in present), default=0))


@dataclass(frozen=True, slots=True)
class _Cover:
    """Copies of each model that are too much for a device of this limit or a smaller one."""

    limit_bytes: int
    copies: list[int]


@dataclass(slots=True)
class _Row:
    entries: dict[int, float]
    least: float
    most: float


@dataclass(slots=True)
class _Builder:
    """The programme's columns and rows.

    Columns: ``there[model][device][k]``: at least k + 1 copies of the model are on the device;
    ``met[model]``: its least copies are placed; ``counted[model][k]``: at least k + 1 anywhere.
    """

    programme: Programme
    covers: list[_Cover]
    most: list[float] = field(default_factory=list[float])
    whole: list[bool] = field(default_factory=list[bool])
    rows: list[_Row] = field(default_factory=list[_Row])
    there: list[list[list[int]]] = field(default_factory=list[list[list[int]]])
    met: list[int] = field(default_factory=list[int])
    counted: list[list[int]] = field(default_factory=list[list[int]])
    unit: float = 1.0

    def solve(self, time_limit_s: float | None, *, first_only: bool) -> Placed:
        """Build it and take the steps."""
        self.unit = max(1, *self.programme.limits_bytes) / _SIZES
        self._add_models()
        for device in range(len(self.programme.limits_bytes)):
            self._add_device(device)
        for cover in self.covers:
            self._add_cover(cover)
        solution, proven = [0.0] * len(self.most), True
        steps = self._steps()
        for at, step in enumerate(steps[: 1 if first_only else None]):
            is_preference = at == len(steps) - 1
            if not step:
                continue
            worth = np.zeros(len(self.most))
            for column, value in step.items():
                worth[column] = value
            answer = best_integers(
                worth,
                self._matrix(),
                np.asarray([row.most for row in self.rows]),
                least=np.asarray([row.least for row in self.rows]),
                most=np.asarray(self.most),
                continuous=~np.asarray(self.whole),
                time_limit_s=time_limit_s,
                relative_gap=_PREFERENCE_GAP if is_preference else _GAP,
            )
            proven = proven and (is_preference or answer.is_optimal)
            if answer.solution is None:
                break
            solution = answer.solution.tolist()
            reached = float(worth @ np.round(answer.solution, 9))
            slack = _WEIGHT_KEPT * max(1.0, abs(reached))
            self.rows.append(_Row(step, reached - slack, np.inf))
        return Placed(
            [
                [sum(round(solution[c]) for c in self.there[m][d]) for m in range(len(self.met))]
                for d in range(len(self.programme.limits_bytes))
            ],
            proven,
        )

    def _column(self, most: float, *, whole: bool = True) -> int:
        self.most.append(most)
        self.whole.append(whole)
        return len(self.most) - 1

    def _row(self, entries: dict[int, float], *, least: float = -np.inf, most: float = 0.0) -> None:
        self.rows.append(_Row(entries, least, most))

    def _add_models(self) -> None:
        given = self.programme
        for need, low, high in zip(given.needs, given.at_least, given.at_most, strict=True):
            devices: list[list[int]] = []
            for limit in self.programme.limits_bytes:
                columns = [self._column(1.0 if need[2] <= limit else 0.0) for _ in range(high)]
                for fewer, more in pairwise(columns):
                    self._row({more: 1.0, fewer: -1.0})
                devices.append(columns)
            met = self._column(1.0)
            counted = [self._column(1.0, whole=False) for _ in range(high)]
            every = dict.fromkeys((column for columns in devices for column in columns), 1.0)
            self._row({**every, met: -float(low)}, least=0.0, most=np.inf)
            self._row({**every, met: -float(high)})
            self._row({**every, **dict.fromkeys(counted, -1.0)}, least=0.0)
            self.there.append(devices)
            self.met.append(met)
            self.counted.append(counted)

    def _add_device(self, device: int) -> None:
        """Add what the device must have room for: all that runs, and a load while all are idle."""
        given = self.programme
        limit = self.programme.limits_bytes[device] / self.unit
        idle: dict[int, float] = {}
        peak: dict[int, float] = {}
        for need, devices in zip(given.needs, self.there, strict=True):
            for column in devices[device]:
                idle[column] = need[0] / self.unit
                peak[column] = need[1] / self.unit
        if given.active is None:
            self._row(peak, most=limit)
        else:
            self._row({**idle, **self._largest(device, given.active)}, most=limit)
        if any(load > running for _, running, load in given.needs):
            loading = self._column(np.inf, whole=False)
            for need, devices in zip(given.needs, self.there, strict=True):
                if need[2] > need[1]:
                    first = devices[device][0]
                    self._row({first: (need[2] - need[0]) / self.unit, loading: -1.0})
            self._row({**idle, loading: 1.0}, most=limit)

    def _add_cover(self, cover: _Cover) -> None:
        """Forbid copies on a device together that exact arithmetic found too much for it."""
        for device, limit in enumerate(self.programme.limits_bytes):
            if limit <= cover.limit_bytes:
                counts = zip(self.there, cover.copies, strict=True)
                together = {devices[device][count - 1]: 1.0 for devices, count in counts if count}
                self._row(together, most=len(together) - 1.0)

    def _largest(self, device: int, active: int) -> dict[int, float]:
        """Return what the so many largest activations add: the dual of choosing them.

        The sum of the N largest of a is the least of N·t + Σ max(0, a - t) over all t.
        """
        threshold = self._column(np.inf, whole=False)
        total = {threshold: float(active)}
        for need, devices in zip(self.programme.needs, self.there, strict=True):
            for column in devices[device][:active]:
                above = self._column(np.inf, whole=False)
                extra = (need[1] - need[0]) / self.unit
                self._row({column: extra, threshold: -1.0, above: -1.0})
                total[above] = 1.0
        return total

    def _steps(self) -> list[dict[int, float]]:
        given = self.programme
        heaviest = max(given.weights, default=Fraction(0)) or Fraction(1)
        weight = {
            column: float(share / heaviest / (k + 1))
            for share, columns in zip(given.weights, self.counted, strict=True)
            for k, column in enumerate(columns)
            if share
        }
        count = len(self.met)
        order = {met: (count - at) / count for at, met in enumerate(self.met)}
        devices = {
            column: -at * need[1] / self.unit / _SIZES
            for need, devices in zip(given.needs, self.there, strict=True)
            for at, columns in enumerate(devices)
            for column in columns
            if at
        }
        return [dict.fromkeys(self.met, 1.0), weight, order, devices]

    def _matrix(self) -> Columns:
        entries = sorted(
            (column, row, value)
            for row, of in enumerate(self.rows)
            for column, value in of.entries.items()
        )
        starts = np.zeros(len(self.most) + 1, dtype=np.int64)
        for column, _, _ in entries:
            starts[column + 1] += 1
        return Columns(
            np.asarray([value for _, _, value in entries], dtype=np.float64),
            np.asarray([row for _, row, _ in entries], dtype=np.int64),
            np.cumsum(starts),
            len(self.rows),
        )
