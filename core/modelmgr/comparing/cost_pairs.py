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
from modelmgr.comparing.thresholds import Rule, RuleBook
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
        share: the limit's share in floats, a little less: what is close to it is judged exactly.
        amount: the same of the limit's amount.
    """

    known: Known
    rule: Rule
    suffix: str
    share: float
    amount: float


class _Lines(NamedTuple):
    """How all statistics of one figure are judged; ``gated`` is how many of them are."""

    lines: tuple[_Line, ...]
    gated: int


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
    _moves: list[float] = field(default_factory=list[float])

    def add_model(self, tag: str, old: ModelCost, new: ModelCost, rules: RuleBook) -> None:
        """Pair up one model's figures."""
        self._moves = []
        plan = self._plans.get(id(rules))
        if plan is None:
            plan = self._plans[id(rules)] = _plan(rules)
        for name, read, lines in plan.places:
            before, after = read(old), read(new)
            settled = self._is_settled(lines, before, after)
            if not settled or self.keep_same:
                self._pair_up(tag, name, lines, before, after, settled=settled)
        for old_shape, new_shape in _shapes(old.shapes, new.shapes):
            self._add_shape(tag, plan, old_shape, new_shape)
        if self._moves:
            self.moves[tag] = self._moves

    def _add_shape(self, tag: str, plan: _Plan, old: ShapeCost, new: ShapeCost) -> None:
        activation, latency = plan.activation, plan.latency
        if plan.rules.shapes:
            name = shape_name(new.dims or old.dims)
            activation, latency = (
                _lines(figure, plan.rules, name) for figure in (_ACTIVATION, _LATENCY)
            )
        # Nearly always they are settled, and need no name.
        before, after = old.activation_bytes, new.activation_bytes
        settled = self._is_settled(activation, before, after)
        if not settled or self.keep_same:
            name = f"shapes[{shape_name(new.dims or old.dims)}].activation_bytes"
            self._pair_up(tag, name, activation, before, after, settled=settled)
        earlier, later = old.latency_ns, new.latency_ns
        settled = self._is_settled(latency, earlier, later)
        if not settled or self.keep_same:
            name = f"shapes[{shape_name(new.dims or old.dims)}].latency_ns"
            self._pair_up(tag, name, latency, earlier, later, settled=settled)

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
        for line in wanted.lines:
            name = f"{figure}{line.suffix}"
            before, after = _value(old, line.suffix), _value(new, line.suffix)
            if before is not None and after is not None:
                self.pairs.append(
                    Pair(
                        line.known,
                        line.rule,
                        name,
                        before,
                        after,
                        _samples(old),
                        _samples(new),
                        exact=_is_exact(old) and _is_exact(new),
                        measured=True,
                        model=tag,
                        statistic=line.suffix.removeprefix(".") or "median",
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
                        unit=line.known.unit,
                        gated=line.rule.gates,
                        old=before,
                        new=after,
                    )
                )

    def _is_settled(self, wanted: _Lines, old: Measured, new: Measured) -> bool:
        """Return whether there is nothing to judge: count what is the same, note how times move.

        That is where all values of both sides lie well within the limits of each other.
        """
        # Asked fifty thousand times of a thousand models: calls of its own would take half of it.
        if old is None or new is None:
            return old is new
        if type(old) is MeasuredDuration and type(new) is MeasuredDuration:
            if old.median:
                self._moves.append(new.median / old.median)
            low_old, high_old, low_new, high_new = old.min, old.max, new.min, new.max
        elif type(old) is MeasuredBytes and type(new) is MeasuredBytes:
            ordered = sorted((old.value, *old.samples))
            low_old, high_old = ordered[0], ordered[-1]
            ordered = sorted((new.value, *new.samples))
            low_new, high_new = ordered[0], ordered[-1]
        elif type(old) is int and type(new) is int:
            low_old, high_old, low_new, high_new = old, old, new, new
        else:
            return False
        rise, fall = high_new - low_old, high_old - low_new
        for _, _, _, share, amount in wanted.lines:
            is_beyond = rise > low_old * share + amount or fall > low_new * share + amount
            if is_beyond and old != new:
                return False
        if not self.keep_same:
            self.same += len(wanted.lines)
            self.gated_same += wanted.gated
        return True


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
            float(rule.limit.share) * 0.999,
            float(rule.limit.amount) * 0.999,
        )
        for suffix in MEASURED_STATISTICS
        if (known := catalogue.get(f"{name}{suffix}")) is not None
        and (rule := rules.find(f"{name}{suffix}", shape)) is not None
    )
    return _Lines(found, sum(line.rule.gates for line in found))


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
) -> Iterable[tuple[ShapeCost, ShapeCost]]:
    """Return each shape of either side with its counterpart, in the new side's order."""
    if [shape.dims for shape in old] == [shape.dims for shape in new]:
        return zip(old, new, strict=True)
    by_name_old = {shape_name(shape.dims): shape for shape in old}
    by_name_new = {shape_name(shape.dims): shape for shape in new}
    return [
        (by_name_old.get(name, _NO_SHAPE), by_name_new.get(name, _NO_SHAPE))
        for name in dict.fromkeys([*by_name_new, *by_name_old])
    ]


def _value(measured: Measured, suffix: str) -> int | None:
    if isinstance(measured, MeasuredBytes):
        return measured.value
    if isinstance(measured, MeasuredDuration):
        value: int | None = getattr(measured, suffix.removeprefix(".") or "median")
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
