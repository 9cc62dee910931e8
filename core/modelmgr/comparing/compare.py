"""Hold a cost database or a result against an earlier one: what got worse, and by what is it known.

    from modelmgr.comparing.compare import compare_costs
    found = compare_costs(CostDatabase.load("old.json"), CostDatabase.load("new.json"))
    assert found.ending == "fine", found.figures[0]

Pure: records in, one record out. Reading files, and finding logs beside them, is ``reading``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import msgspec

from modelmgr.comparing.catalogue import KINDS
from modelmgr.comparing.comparison import (
    Comparison,
    DecisionComparison,
    Ending,
    FigureComparison,
    KnownOnce,
    Mismatch,
    NotedModel,
    Verdict,
)
from modelmgr.comparing.cost_pairs import CostPairs, has_value
from modelmgr.comparing.decisions import compare_logs, compare_traces
from modelmgr.comparing.judging import common_shift, judge
from modelmgr.comparing.mismatches import machine_mismatches, result_mismatches
from modelmgr.comparing.pairs import Pair
from modelmgr.comparing.result_pairs import pair_results
from modelmgr.comparing.thresholds import Threshold, Thresholds, default_thresholds
from modelmgr.errors import UsageError
from modelmgr.records.costs import CostDatabase, Eviction, Ledger, ModelCost
from modelmgr.records.result import Result
from modelmgr.units import format_bytes

_VERDICTS: tuple[Verdict, ...] = (
    "worse", "differs", "cannot-say", "not-comparable", "better", "same",
)  # fmt: skip

Lines = Iterable[bytes]


def compare_costs(
    old: CostDatabase,
    new: CostDatabase,
    thresholds: Thresholds | None = None,
    *,
    names: tuple[str, str] = ("baseline", "new"),
    allow_mismatch: bool = False,
    keep_same: bool = False,
) -> Comparison:
    """Compare two cost databases.

    Args:
        old: the baseline.
        new: what is held against it.
        thresholds: what fails; ``default_thresholds`` where none are given.
        names: what the two are called.
        allow_mismatch: judge figures of another machine or device as if it were the same.
        keep_same: list figures that are the same too.

    Raises:
        UsageError: the thresholds are a result's.
    """
    wanted = _checked(thresholds, "costs") or default_thresholds("costs")
    mismatches = machine_mismatches(old.machine, new.machine)
    # What is plainly the same is still not comparable where its machine is another.
    is_comparable = allow_mismatch or all(each.touches == "none" for each in mismatches)
    found = CostPairs(keep_same=keep_same or not is_comparable)
    both = [tag for tag in new.models if tag in old.models]
    measured = [
        tag for tag in both if _is_measured(old.models[tag]) and _is_measured(new.models[tag])
    ]
    for tag in measured:
        found.add_model(tag, old.models[tag], new.models[tag], wanted.rules(tag))
    concluded = _concluded(
        Comparison(
            compared="costs",
            baseline=names[0],
            new=names[1],
            ending="fine",
            thresholds=tuple(map(str, wanted.given)),
            unused=tuple(str(each) for each in wanted.given if not _is_used(each, old, new)),
            mismatches=mismatches,
            mismatch_allowed=allow_mismatch,
            vanished=tuple(tag for tag in old.models if tag not in new.models),
            added=tuple(tag for tag in new.models if tag not in old.models),
            failing=tuple(
                NotedModel(model=tag, message=f"{error.kind}: {error.message}")
                for tag in both
                if old.models[tag].error is None and (error := new.models[tag].error) is not None
            ),
            fixed=tuple(
                tag
                for tag in both
                if old.models[tag].error is not None and new.models[tag].error is None
            ),
            noted=tuple(_new_notes(old, new, measured, same_machine=not mismatches)),
            known_once=tuple(found.known_once),
            common_shift=common_shift(found.moves),
            counts={},
            figures=(),
        ),
        found.pairs,
        keep_same=keep_same,
        has_models=bool(both) or not (old.models and new.models),
        same=found.same,
        gated_same=found.gated_same,
    )
    explained = (_explained(each, old, new) for each in concluded.figures)
    return msgspec.structs.replace(concluded, figures=tuple(explained))


def compare_results(
    old: Result,
    new: Result,
    thresholds: Thresholds | None = None,
    *,
    names: tuple[str, str] = ("baseline", "new"),
    allow_mismatch: bool = False,
    keep_same: bool = False,
    logs: Callable[[], tuple[Lines, Lines] | None] = lambda: None,
) -> Comparison:
    """Compare two results of one scenario.

    Args:
        old: the baseline.
        new: what is held against it.
        thresholds: what fails; ``default_thresholds`` of the mode where none are given.
        names: what the two are called.
        allow_mismatch: judge figures of another machine, scenario or seed as if it were the same.
        keep_same: list figures that are the same too.
        logs: opens both decision logs, asked where the decisions differ; None where one is missing.

    Raises:
        UsageError: the thresholds are a cost database's.
    """
    mode = "simulate" if old.mode == new.mode == "simulate" else "run"
    wanted = _checked(thresholds, "result") or default_thresholds("result", mode)
    found = pair_results(old, new, wanted)
    mismatches = result_mismatches(old, new)
    in_force = () if allow_mismatch else mismatches
    decisions = _decisions(old, new, in_force, logs)
    if wanted.gates_decisions and decisions.verdict == "differs":
        decisions = msgspec.structs.replace(decisions, failed=True)
    return _concluded(
        Comparison(
            compared="result",
            baseline=names[0],
            new=names[1],
            ending="fine",
            thresholds=tuple(map(str, wanted.given)),
            unused=tuple(
                str(each)
                for each in wanted.given
                if each.strict
                and not found.has_value(each)
                # Of a model that only one side has, that is what is said.
                and (each.model in old.models) == (each.model in new.models)
            ),
            mismatches=mismatches,
            mismatch_allowed=allow_mismatch,
            vanished=tuple(tag for tag in old.models if tag not in new.models),
            added=tuple(tag for tag in new.models if tag not in old.models),
            known_once=tuple(found.known_once),
            counts={},
            figures=(),
            decisions=decisions,
        ),
        found.pairs,
        keep_same=keep_same,
        has_models=any(tag in old.models for tag in new.models) or not (old.models and new.models),
        gated_same=wanted.gates_decisions and decisions.verdict == "same",
    )


def _explained(figure: FigureComparison, old: CostDatabase, new: CostDatabase) -> FigureComparison:
    """Return a peak that got worse with the part of the ledger that grew."""
    if figure.figure != "peak_bytes" or figure.verdict != "worse" or figure.model is None:
        return figure
    grown = ledger_growth(old.models[figure.model].ledger, new.models[figure.model].ledger)
    if not grown:
        return figure
    told = ", ".join(f"{part} {format_bytes(by_bytes)}" for part, by_bytes in grown)
    return msgspec.structs.replace(figure, reason=f"grown by: {told}")


def ledger_growth(old: Ledger | None, new: Ledger | None) -> tuple[tuple[str, int], ...]:
    """Return the lines of the ledger that grew and by how many bytes, the largest first.

    Empty where a ledger, or the line on one side, is unknown.
    """
    if old is None or new is None:
        return ()
    grown: list[tuple[str, int]] = []
    for name in old.__struct_fields__:
        before: int | None = getattr(old, name)
        after: int | None = getattr(new, name)
        if before is not None and after is not None and after > before:
            grown.append((name.removesuffix("_bytes"), after - before))
    return tuple(sorted(grown, key=lambda each: -each[1]))


def _checked(thresholds: Thresholds | None, compared: str) -> Thresholds | None:
    if thresholds is not None and thresholds.compared != compared:
        raise UsageError(f"thresholds of {KINDS[thresholds.compared]} cannot judge {compared}")
    return thresholds


def _is_used(threshold: Threshold, old: CostDatabase, new: CostDatabase) -> bool:
    """Return whether either database has a value of what a threshold that was given is about."""
    model = threshold.model
    return not threshold.strict or any(
        cost is not None and _is_measured(cost) and has_value(cost, threshold)
        for side in (old, new)
        for cost in (side.models.values() if model is None else [side.models.get(model)])
    )


def _is_measured(cost: ModelCost) -> bool:
    """Return whether there are figures: an older measurement's count where the newest failed."""
    return cost.error is None


def _new_notes(
    old: CostDatabase, new: CostDatabase, tags: Sequence[str], *, same_machine: bool
) -> Iterator[NotedModel]:
    for tag in tags:
        before, after = old.models[tag], new.models[tag]
        # Of the model, its data type, the device and the versions: the latter are the same here.
        if same_machine and before.fingerprint and after.fingerprint != before.fingerprint:
            changed = "the model itself changed: other weights, configuration or data type"
            yield NotedModel(model=tag, message=changed)
        if after.notes != before.notes:
            for note in after.notes:
                if note not in before.notes:
                    yield NotedModel(model=tag, message=note)


def _decisions(
    old: Result,
    new: Result,
    mismatches: Sequence[Mismatch],
    logs: Callable[[], tuple[Lines, Lines] | None],
) -> DecisionComparison:
    if old.decisions_sha256 == new.decisions_sha256:
        return DecisionComparison(verdict="same")
    other = next((each for each in mismatches if each.touches == "all"), None)
    if other is not None:
        return DecisionComparison(verdict="not-comparable", reason=f"another {other.name}")
    if "run" in {old.mode, new.mode}:
        reason = "a real run decides by a real clock: no two are the same"
        return DecisionComparison(verdict="not-comparable", reason=reason)
    traces = _trace(old), _trace(new)
    opened = logs()
    if opened is not None:
        return compare_logs(*opened, old_evictions=traces[0] or (), new_evictions=traces[1] or ())
    if traces[0] is not None and traces[1] is not None:
        return compare_traces(traces[0], traces[1])
    return DecisionComparison(
        verdict="differs", reason="there is no log of both; write one with --log"
    )


def _trace(result: Result) -> tuple[Eviction, ...] | None:
    return result.evictions_trace if isinstance(result.evictions_trace, tuple) else None


def _concluded(
    found: Comparison,
    pairs: Sequence[Pair],
    *,
    keep_same: bool,
    has_models: bool,
    same: int = 0,
    gated_same: int = 0,
) -> Comparison:
    """Judge the figures, sort them and say how it ends.

    Args:
        found: what is known before the figures are judged.
        pairs: the figures that have to be judged.
        keep_same: list those that are the same too.
        has_models: the two have a model in common, or one of them none at all. Two files of
            different models are not a gate's failure but the wrong two files.
        same: figures that needed no judging.
        gated_same: of these the gated ones.
    """
    in_force = () if found.mismatch_allowed else found.mismatches
    judged = judge(pairs, in_force, common=found.common_shift)
    counts: dict[Verdict, int] = dict.fromkeys(_VERDICTS, 0)
    counts["same"] = same
    for figure in judged:
        counts[figure.verdict] += 1
    listed = [each for each in judged if keep_same or each.verdict != "same"]
    undecided = any(_is_undecided(pair, each) for pair, each in zip(pairs, judged, strict=True))
    compared = gated_same + sum(each.gated and each.verdict != "not-comparable" for each in judged)
    decisions = found.decisions
    failed = (
        any(each.failed for each in judged)
        or bool(found.vanished or found.failing)
        or (decisions is not None and decisions.failed)
    )
    ending: Ending = "fine"
    if (failed and has_models) or (decisions is not None and decisions.failed):
        ending = "regression"
    elif not compared or not has_models:
        ending = "nothing-in-common"
    elif undecided:
        ending = "inconclusive"
    return msgspec.structs.replace(
        found,
        ending=ending,
        known_once=tuple(sorted(found.known_once, key=_gated_null_first)),
        counts=counts,
        figures=tuple(
            sorted(listed, key=partial(_most_moved_first, of_run=found.compared == "result"))
        ),
    )


def _is_undecided(pair: Pair, figure: FigureComparison) -> bool:
    """Return whether the gate has to be told that nobody can say."""
    if not figure.gated or figure.verdict != "cannot-say":
        return False
    return pair.rule.strict or pair.is_worse()


def _most_moved_first(figure: FigureComparison, *, of_run: bool) -> tuple[bool, bool, int, float]:
    move = float("inf") if figure.change is None else abs(figure.change)
    # What one model of a run waited says where the run's figures come from, which stand before it.
    is_part = of_run and figure.model is not None and not figure.gated
    return not figure.failed, is_part, _VERDICTS.index(figure.verdict), -move


def _gated_null_first(figure: KnownOnce) -> tuple[bool, bool]:
    return not figure.gated, figure.new is not None
