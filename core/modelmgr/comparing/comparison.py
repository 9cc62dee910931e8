"""What a comparison came to (``kind: modelmgr.comparison``): frozen types, no judgement."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from modelmgr.comparing.catalogue import Compared
from modelmgr.comparing.limits import Unit

Verdict = Literal["worse", "differs", "cannot-say", "not-comparable", "better", "same"]
"""Of one figure; ``differs`` is for what has no better direction."""

Ending = Literal["fine", "regression", "inconclusive", "nothing-in-common"]


class FigureComparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure of both sides.

    Attributes:
        model: whose, None where it is the whole run's or a device's.
        device: whose, None where it is none's.
        figure: ``peak_bytes``, ``shapes[batch_size=4].latency_ns``, ``wait_ns.p95``.
        unit: of the values.
        verdict: what the limit and the noise make of it.
        gated: a threshold is about it.
        failed: it fails the gate.
        old: the baseline's value.
        new: the other one's.
        change: (new - old) / old; None where the old one is 0.
        interval_99: the change lies within with 99 %, by the samples' noise; None of an exact
            figure, and where the samples say nothing of their noise.
        exact: both values are what they are: a simulation's, or a measurement without noise.
        limit: how far it may get worse.
        reason: why nobody can say, or what the change comes from; None where that is plain.
    """

    model: str | None
    device: str | None
    figure: str
    unit: Unit
    verdict: Verdict
    gated: bool
    failed: bool
    old: int | float
    new: int | float
    change: float | None
    interval_99: tuple[float, float] | None
    exact: bool
    limit: str
    reason: str | None = None


class KnownOnce(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure that only one side knows: it became null, or became known."""

    model: str | None
    device: str | None
    figure: str
    unit: Unit
    gated: bool
    old: int | float | None
    new: int | float | None


class Mismatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something around the figures that is not the same on both sides.

    Attributes:
        name: ``device.driver``, ``packages.torch``, ``seed``.
        old: the baseline's, None where it does not say.
        new: the other one's.
        touches: the figures that depend on it: ``all``, ``measured`` (all that is measured),
            ``times``; ``judged`` where what it changes is what the comparison is to show; or
            ``none``: then it is only said.
    """

    name: str
    old: str | None
    new: str | None
    touches: Literal["all", "measured", "times", "judged", "none"]


class NotedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model and what is said of it."""

    model: str
    message: str


class DecisionSide(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first differing decision on one side, and what led to it.

    Attributes:
        decision: as its log has it; None where this side's log had ended.
        before: the decisions right before it, oldest first.
        candidates: what the policy could evict there and what it thought of each, None where that
            is no eviction or not recorded.
    """

    decision: dict[str, Any] | None
    before: tuple[dict[str, Any], ...]
    candidates: tuple[dict[str, Any], ...] | None = None


class DecisionComparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decision logs of both sides.

    Attributes:
        verdict: ``same`` or ``differs``; ``not-comparable`` of other traffic or a real run.
        failed: it fails the gate.
        source: what was looked through for the first difference: ``log`` (all decisions),
            ``evictions`` (the trace within the results), None where neither was there, or nothing
            in it differs.
        index: the first differing decision's number, from 0, in that source.
        at_ns: when that was, in the scenario's time: the earlier of both.
        old: the baseline's side.
        new: the other one's.
        reason: what else there is to say, for example that only the order differs.
    """

    verdict: Literal["same", "differs", "not-comparable"]
    failed: bool = False
    source: Literal["log", "evictions"] | None = None
    index: int | None = None
    at_ns: int | None = None
    old: DecisionSide | None = None
    new: DecisionSide | None = None
    reason: str | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two files of one kind, held against each other.

    Attributes:
        compared: ``costs`` or ``result``.
        baseline: what the earlier one is called, for example its path.
        new: what the later one is called.
        ending: what the gate says; ``nothing-in-common`` where no gated figure could be compared.
        thresholds: what fails, as ``--fail-on`` takes it.
        unused: those of them that neither file has a value for (no such model or shape, or null),
            which therefore gate nothing.
        mismatches: other machines, devices, versions, scenarios; those that touch most first.
        mismatch_allowed: they were compared all the same.
        vanished: models that only the baseline has; they fail the gate.
        added: models that only the new one has.
        failing: models that were measured and now are not, with their errors; they fail the gate.
        fixed: models that were not measured and now are.
        noted: what the new measurement remarks and the baseline's did not, such as a leak.
        known_once: figures that became null or known.
        common_shift: by which share the measured times of nearly all models moved together; None
            where they did not.
        counts: how many figures came to each verdict, those that are not listed too.
        figures: first what fails, then what moved most; of a result, those of single models that
            nothing gates last. A figure that is the same is listed only where that was asked for.
        decisions: of results.
    """

    KIND: ClassVar[str] = "modelmgr.comparison"
    SCHEMA_VERSION: ClassVar[int] = 1

    compared: Compared
    baseline: str
    new: str
    ending: Ending
    thresholds: tuple[str, ...]
    unused: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    mismatch_allowed: bool = False
    vanished: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    failing: tuple[NotedModel, ...] = ()
    fixed: tuple[str, ...] = ()
    noted: tuple[NotedModel, ...] = ()
    known_once: tuple[KnownOnce, ...] = ()
    common_shift: float | None = None
    counts: dict[Verdict, int]
    figures: tuple[FigureComparison, ...]
    decisions: DecisionComparison | None = None
    schema_version: int = SCHEMA_VERSION
    kind: str = KIND
