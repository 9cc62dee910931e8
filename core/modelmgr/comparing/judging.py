"""Say of every pair of readings whether it got worse, better, stayed the same, or nobody can say.

Exact figures are compared as they are. A noisy one is worse only where the whole interval of its
change lies beyond the limit and a rank test agrees; where the interval reaches beyond the limit and
begins within it, nobody can say. Better is what would be worse with the sides swapped. Where all
values of both sides lie within the limits of each other, it is the same, however few they are.

Measured times have one noise more, which no sample of theirs shows: a machine that is slower for
the whole time. Where the times of nearly all models move together, a figure is worse only if it
also is against that common move; otherwise nobody can say whether it was the machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelmgr.comparing.comparison import FigureComparison, Mismatch, Verdict
from modelmgr.comparing.mismatches import touched_by
from modelmgr.comparing.pairs import Pair
from modelmgr.stats.shift import (
    Moments,
    Shift,
    is_above,
    log_moments,
    relative_shift,
    typical_noise,
)
from modelmgr.stats.two_samples import statistic_difference

MODELS_FOR_COMMON = 3
"""Of fewer models nobody can tell a slower machine from slower models."""
SHARE_OF_MODELS = 0.8
LEAST_COMMON = 0.03
"""A smaller common move explains no verdict."""

Interval = tuple[float, float]


class _Span(NamedTuple):
    """What a change lies between, in the figure's unit.

    Attributes:
        least_rise: the new value is at least so much above the old one; negative: maybe below.
        least_fall: the old value is at least so much above the new one.
        most_rise: the new value is at most so much above the old one.
        interval: from the least to the most rise as shares of the old value; None of 0.
    """

    least_rise: float
    least_fall: float
    most_rise: float
    interval: Interval | None


def judge(
    pairs: Sequence[Pair], mismatches: Sequence[Mismatch], *, common: float | None
) -> list[FigureComparison]:
    """Return the verdict on each pair, in their order.

    Args:
        pairs: figures that both sides know.
        mismatches: what is not the same around them, empty where that is to be ignored.
        common: by which share the measured times moved together, None where they did not.
    """
    found: list[FigureComparison | None] = []
    noisy: list[int] = []
    for index, pair in enumerate(pairs):
        mismatch = touched_by(
            mismatches, pair.known.name, pair.known.nature, measured=pair.measured
        )
        if mismatch is not None:
            reason = f"another {mismatch.name}"
            found.append(_compared(pair, "not-comparable", None, reason))
        elif pair.exact or pair.is_identical:
            found.append(_compared(pair, _exact_verdict(pair), None, None))
        else:
            noisy.append(index)
            found.append(None)
    for index, judged in zip(
        noisy, _judge_noisy([pairs[index] for index in noisy], common), strict=True
    ):
        found[index] = judged
    return [each for each in found if each is not None]


def common_shift(moves: Mapping[str, Sequence[float]]) -> float | None:
    """Return by which share the measured times of nearly all models moved together.

    None where they did not, or where there are fewer than three models.

    Args:
        moves: for each model the new value over the old one, of each of its times.
    """
    if len(moves) < MODELS_FOR_COMMON:
        return None
    by_model = [statistics.median(each) for each in moves.values()]
    middle = statistics.median(by_model)
    if middle <= 0 or max(middle, 1 / middle) - 1 < LEAST_COMMON:
        return None
    half = math.sqrt(middle)
    along = sum((ratio >= half) if middle > 1 else (ratio <= half) for ratio in by_model)
    return middle - 1 if along >= SHARE_OF_MODELS * len(by_model) else None


def _exact_verdict(pair: Pair) -> Verdict:
    if pair.known.good == "neither":
        return "differs" if pair.is_worse() or pair.is_better() else "same"
    if pair.is_worse():
        return "worse"
    return "better" if pair.is_better() else "same"


def _judge_noisy(pairs: Sequence[Pair], common: float | None) -> list[FigureComparison]:
    moments = [(log_moments(pair.old_samples), log_moments(pair.new_samples)) for pair in pairs]
    noise = _typical_noises(pairs, moments)
    judged: list[FigureComparison] = []
    for pair, (old, new) in zip(pairs, moments, strict=True):
        shift = None
        if pair.statistic == "median":
            shift = relative_shift(old, new, least_noise=noise.get(pair.known.name, 0.0))
        span = _span(pair, shift)
        if span is None:
            judged.append(_without_noise(pair))
        elif pair.settled:
            judged.append(_compared(pair, "same", span.interval, None))
        else:
            verdict, reason = _noisy_verdict(pair, span, common)
            judged.append(_compared(pair, verdict, span.interval, reason))
    return judged


def _typical_noises(
    pairs: Sequence[Pair], moments: Sequence[tuple[Moments | None, Moments | None]]
) -> dict[str, float]:
    """Return the typical noise of each figure over all models: three values may agree by chance."""
    by_figure: dict[str, list[Moments | None]] = {}
    for pair, both in zip(pairs, moments, strict=True):
        if not pair.settled:  # or the verdicts would depend on whether those are listed
            by_figure.setdefault(pair.known.name, []).extend(both)
    return {name: typical_noise(each) for name, each in by_figure.items()}


def _span(pair: Pair, shift: Shift | None) -> _Span | None:
    """Return what the change lies between, given what the logarithms say; None: nobody knows."""
    if shift is not None:
        fall = pair.new * (1 / (1 + shift.high) - 1)
        interval = (shift.low, shift.high)
        return _Span(pair.old * shift.low, fall, pair.old * shift.high, interval)
    if pair.old_interval is not None and pair.new_interval is not None:
        return _apart(pair, pair.old_interval, pair.new_interval)
    # Of a sample with nothing in it, as of waits that were none, there are no logarithms.
    found = statistic_difference(pair.old_samples, pair.new_samples, pair.statistic)
    if found is None:
        return None
    shares = (found[0] / pair.old, found[1] / pair.old) if pair.old else None
    return _Span(found[0], -found[1], found[1], shares)


def _apart(pair: Pair, old: tuple[int, int], new: tuple[int, int]) -> _Span:
    """Return the span between intervals that the files themselves state: the ends count."""
    least, most = new[0] - old[1], new[1] - old[0]
    return _Span(least, -most, most, (least / pair.old, most / pair.old) if pair.old else None)


def _without_noise(pair: Pair) -> FigureComparison:
    """Judge a noisy figure whose samples say nothing of its noise."""
    if pair.is_worse() or pair.is_better():
        count = min(len(pair.old_samples), len(pair.new_samples))
        reason = "no samples" if not count else f"{count} sample{'s' * (count > 1)} on one side"
        return _compared(pair, "cannot-say", None, f"{reason}: the noise is not known")
    return _compared(pair, "same", None, None)


def _noisy_verdict(pair: Pair, span: _Span, common: float | None) -> tuple[Verdict, str | None]:
    limit = pair.rule.limit
    shared = common if common is not None and pair.known.nature == "time" else 0.0
    together = f"all times moved by {shared:+.0%} together"
    allowed = limit.roughly_allowed(pair.old)
    if span.least_rise > allowed and _outranks(
        pair.new_samples, pair.old_samples, allowed, pair.old, pair
    ):
        # As if the machine had been as fast as before.
        by_itself = (pair.old + span.least_rise) / (1 + max(shared, 0.0)) - pair.old
        return ("worse", None) if by_itself > allowed else ("cannot-say", together)
    allowed = limit.roughly_allowed(pair.new)
    if span.least_fall > allowed and _outranks(
        pair.old_samples, pair.new_samples, allowed, pair.new, pair
    ):
        by_itself = (pair.new + span.least_fall) * (1 + min(shared, 0.0)) - pair.new
        return ("better", None) if by_itself > allowed else ("cannot-say", together)
    if span.most_rise <= limit.roughly_allowed(pair.old):
        return "same", None
    return "cannot-say", "the noise is too large"


def _outranks(
    upper: Sequence[int], lower: Sequence[int], allowed: float, base: float, pair: Pair
) -> bool:
    """Return whether ranks agree; of tails, means and no samples they have nothing to say."""
    if pair.statistic != "median" or not upper or not lower:
        return True
    if not base:
        return is_above(upper, [sample + allowed for sample in lower])
    return is_above(upper, [sample * (1 + allowed / base) for sample in lower])


def _compared(
    pair: Pair, verdict: Verdict, interval: Interval | None, reason: str | None
) -> FigureComparison:
    gates = pair.rule.gates
    return FigureComparison(
        model=pair.model,
        device=pair.device,
        figure=pair.figure,
        unit=pair.known.unit,
        verdict=verdict,
        gated=gates,
        failed=gates and verdict in {"worse", "differs"},
        old=pair.old,
        new=pair.new,
        change=pair.change,
        interval_99=interval,
        exact=pair.exact,
        limit=pair.rule.limit.text,
        reason=reason,
    )
