"""Pair up the figures of two cost databases, model by model.

A thousand models have fifty thousand figures, of which nearly all are the same: those whose values,
every single sample included, lie well within the limit of each other are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from modelmgr.comparing.catalogue import CATALOGUE, MEASURED_STATISTICS, Known
from modelmgr.comparing.comparison import KnownOnce
from modelmgr.comparing.pairs import Pair
from modelmgr.comparing.thresholds import Rule, RuleBook, Threshold
from modelmgr.records.costs import ModelCost, ShapeCost
from modelmgr.records.figures import shape_name
from modelmgr.records.measured import MeasuredBytes, MeasuredDuration

Measured = MeasuredBytes | MeasuredDuration | int | None

_PLACES = (
    *("peak_bytes", "resident_bytes", "load_peak_bytes", "initial_estimate_bytes"),
    *("copies.second_copy_bytes", "unload.residue_bytes"),
    *("ledger.runtime_bytes", "ledger.weights_bytes", "ledger.activation_bytes"),
    *("ledger.cache_bytes", "ledger.unaccounted_bytes"),
    *("load_ns", "unload.reclaim_ns"),
)
_ACTIVATION = "shapes.activation_bytes"
_LATENCY = "shapes.latency_ns"
_NO_SHAPE = ShapeCost(dims={}, activation_bytes=None, latency_ns=None, throughput_per_s=None)


class _Line(NamedTuple):
    """How one figure is judged, looked up once for all models.

    Attributes:
        known: its entry in the catalogue.
        rule: how it is judged.
        suffix: ``.p95`` where another statistic than the median is meant.
        statistic: the name of that statistic.
    """

    known: Known
    rule: Rule
    suffix: str
    statistic: str


class _Lines(NamedTuple):
    """How all statistics of one figure are judged.

    Attributes:
        lines: one for each statistic.
        gated: how many of them are.
        has_p95: one of them may be null where the others are known.
        limits: the share and the amount of each limit in floats, a little less: what is close to it
            is judged exactly.
    """

    lines: tuple[_Line, ...]
    gated: int
    has_p95: bool
    limits: tuple[tuple[float, float], ...]


class _Plan(NamedTuple):
    """What is read of a model, and how it is judged."""

    rules: RuleBook
    places: tuple[tuple[str, Callable[[ModelCost], Measured], _Lines], ...]
    activation: _Lines
    latency: _Lines


@dataclass(slots=True)
class CostPairs:
    """What pairing up found.

    Attributes:
        keep_same: pair up figures that are plainly the same too.
        pairs: figures that have to be judged.
        known_once: figures that became null or known.
        same: figures that need no judging, gated and not.
        gated_same: of these the gated ones.
        moves: for each model the new value over the old one, of each of its times.
    """

    keep_same: bool
    pairs: list[Pair] = field(default_factory=list[Pair])
    known_once: list[KnownOnce] = field(default_factory=list[KnownOnce])
    same: int = 0
    gated_same: int = 0
    moves: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    _plans: dict[int, _Plan] = field(default_factory=dict[int, _Plan])

    def add_model(self, tag: str, old: ModelCost, new: ModelCost, rules: RuleBook) -> None:
        """Pair up one model's figures."""
        plan = self._plans.get(id(rules))
        if plan is None:
            plan = self._plans[id(rules)] = _plan(rules)
        for name, read, lines in plan.places:
            self._add(tag, name, lines, read(old), read(new))
        shapes = _shapes(old.shapes, new.shapes)
        activation, latency = plan.activation, plan.latency
        for old_shape, new_shape in shapes:
            dims = new_shape.dims or old_shape.dims
            if rules.shapes:
                activation, latency = (
                    _lines(figure, rules, shape_name(dims)) for figure in (_ACTIVATION, _LATENCY)
                )
            before, after = old_shape.activation_bytes, new_shape.activation_bytes
            self._add(tag, "activation_bytes", activation, before, after, dims=dims)
            earlier, later = old_shape.latency_ns, new_shape.latency_ns
            self._add(tag, "latency_ns", latency, earlier, later, dims=dims)
        if moves := _moves(old, new, shapes):
            self.moves[tag] = moves

    def _add(
        self,
        tag: str,
        name: str,
        wanted: _Lines,
        old: Measured,
        new: Measured,
        *,
        dims: dict[str, int] | None = None,
    ) -> None:
        """Pair up one figure, of a shape where there are ``dims``; what is settled only counts."""
        settled = _is_settled(old, new, wanted.limits)
        if settled and not self.keep_same and not (wanted.has_p95 and _lacks_p95(old, new)):
            if old is not None:
                self.same += len(wanted.lines)
                self.gated_same += wanted.gated
            return
        if dims is not None:  # nearly always it is settled, and needs no name
            name = f"shapes[{shape_name(dims)}].{name}"
        self._pair_up(tag, name, wanted, old, new, settled=settled)

    def _pair_up(
        self,
        tag: str,
        figure: str,
        wanted: _Lines,
        old: Measured,
        new: Measured,
        *,
        settled: bool,
    ) -> None:
        for known, rule, suffix, statistic in wanted.lines:
            name = f"{figure}{suffix}"
            before, after = _value(old, statistic), _value(new, statistic)
            if before is not None and after is not None:
                self.pairs.append(
                    Pair(
                        known,
                        rule,
                        name,
                        before,
                        after,
                        _samples(old),
                        _samples(new),
                        exact=_is_exact(old) and _is_exact(new),
                        measured=True,
                        model=tag,
                        statistic=statistic,
                        old_interval=_said_interval(old),
                        new_interval=_said_interval(new),
                        settled=settled,
                    )
                )
            elif before is not None or after is not None:
                self.known_once.append(
                    KnownOnce(
                        model=tag,
                        device=None,
                        figure=name,
                        unit=known.unit,
                        gated=rule.gates,
                        old=before,
                        new=after,
                    )
                )


def _is_settled(old: Measured, new: Measured, limits: Iterable[tuple[float, float]]) -> bool:
    """Return whether there is nothing to judge.

    That is where all values of both sides lie well within the limits of each other.
    """
    # Asked fifty thousand times of a thousand models: calls of its own would take half of it.
    if old is None or new is None:
        return old is new
    if type(old) is MeasuredBytes and type(new) is MeasuredBytes:
        ordered = [old.value, *old.samples]
        ordered.sort()
        low_old, high_old = ordered[0], ordered[-1]
        ordered = [new.value, *new.samples]
        ordered.sort()
        low_new, high_new = ordered[0], ordered[-1]
    elif type(old) is MeasuredDuration and type(new) is MeasuredDuration:
        low_old, high_old, low_new, high_new = old.min, old.max, new.min, new.max
    elif type(old) is int and type(new) is int:
        low_old, high_old, low_new, high_new = old, old, new, new
    else:
        return False
    rise, fall = high_new - low_old, high_old - low_new
    for share, amount in limits:
        is_beyond = rise > low_old * share + amount or fall > low_new * share + amount
        if is_beyond and old != new:
            return False
    return True


def _lacks_p95(*sides: Measured) -> bool:
    """Return whether a side is a duration of too few samples for its 95th percentile."""
    return any(isinstance(each, MeasuredDuration) and each.p95 is None for each in sides)


def has_value(cost: ModelCost, threshold: Threshold) -> bool:
    """Return whether a model has a value of the figure that a threshold is about."""
    name, _, statistic = threshold.figure.partition("_ns.")
    name = f"{name}_ns" if statistic else name
    if not name.startswith("shapes."):
        return _value(_reader(name)(cost), statistic or "median") is not None
    attribute = name.removeprefix("shapes.")
    return any(
        _value(getattr(each, attribute), statistic or "median") is not None
        for each in cost.shapes
        if threshold.shape is None or shape_name(each.dims) == threshold.shape
    )


def _plan(rules: RuleBook) -> _Plan:
    return _Plan(
        rules,
        tuple((name, _reader(name), _lines(name, rules)) for name in _PLACES),
        _lines(_ACTIVATION, rules),
        _lines(_LATENCY, rules),
    )


def _lines(name: str, rules: RuleBook, shape: str | None = None) -> _Lines:
    """Return how a figure's statistics are judged, for those that a rule is about."""
    catalogue = CATALOGUE["costs"]
    found = tuple(
        _Line(
            known,
            rule,
            suffix,
            suffix.removeprefix(".") or "median",
        )
        for suffix in MEASURED_STATISTICS
        if (known := catalogue.get(f"{name}{suffix}")) is not None
        and (rule := rules.find(f"{name}{suffix}", shape)) is not None
    )
    return _Lines(
        found,
        sum(line.rule.gates for line in found),
        any(line.statistic == "p95" for line in found),
        tuple(
            (float(line.rule.limit.share) * 0.999, float(line.rule.limit.amount) * 0.999)
            for line in found
        ),
    )


def _reader(name: str) -> Callable[[ModelCost], Measured]:
    part, dot, attribute = name.partition(".")
    if not dot:
        return attrgetter(name)

    def read(cost: ModelCost) -> Measured:
        holder: object = getattr(cost, part)
        value: Measured = None if holder is None else getattr(holder, attribute)
        return value

    return read


def _shapes(
    old: tuple[ShapeCost, ...], new: tuple[ShapeCost, ...]
) -> list[tuple[ShapeCost, ShapeCost]]:
    """Return each shape of either side with its counterpart, in the new side's order."""
    if [shape.dims for shape in old] == [shape.dims for shape in new]:
        return list(zip(old, new, strict=True))
    by_name_old = {shape_name(shape.dims): shape for shape in old}
    by_name_new = {shape_name(shape.dims): shape for shape in new}
    return [
        (by_name_old.get(name, _NO_SHAPE), by_name_new.get(name, _NO_SHAPE))
        for name in dict.fromkeys([*by_name_new, *by_name_old])
    ]


def _moves(
    old: ModelCost, new: ModelCost, shapes: Iterable[tuple[ShapeCost, ShapeCost]]
) -> list[float]:
    """Return the new value over the old one of each of a model's times."""
    reclaims = (None if each.unload is None else each.unload.reclaim_ns for each in (old, new))
    times = [(old.load_ns, new.load_ns), tuple(reclaims)]
    times += [(before.latency_ns, after.latency_ns) for before, after in shapes]
    return [
        after.median / before.median
        for before, after in times
        if before is not None and after is not None and before.median
    ]


def _value(measured: Measured, statistic: str) -> int | None:
    if isinstance(measured, MeasuredBytes):
        return measured.value
    if isinstance(measured, MeasuredDuration):
        value: int | None = getattr(measured, statistic)
        return value
    return measured


def _samples(measured: Measured) -> tuple[int, ...]:
    return () if measured is None or isinstance(measured, int) else measured.samples


def _said_interval(measured: Measured) -> tuple[int, int] | None:
    """Return what a figure without samples says that it lies between; None where it does not."""
    if measured is None or isinstance(measured, int) or measured.samples:
        return None
    if isinstance(measured, MeasuredBytes):
        return measured.interval_95
    return (measured.min, measured.max) if measured.min < measured.max else None


def _is_exact(measured: Measured) -> bool:
    """Return whether a reading has no noise to ask about: repeated, it gave the same each time."""
    if isinstance(measured, MeasuredBytes):
        return measured.evidence == "exact" and len(set(measured.samples)) <= 1
    return isinstance(measured, int)
