"""What is published of a model, and how it follows from each source.

``upper`` is the 99 % quantile of the next peak of one copy: the variance of the figure plus that of
a single reading, by Student's t with the readings that are left over to judge the spread. For
isolation runs likewise: their figure's own error plus the spread from run to run. A preloaded
figure is an upper one already.

A figure of more readings holds all that the earlier one held. Where it lies within what the earlier
one left open, smoothing would only delay it: it is taken whole. Where it lies outside, something
changed, and it is approached by steps.

Owns the record that the estimator keeps for each model, and those rules. Pure arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelmgr.estimation.cost_estimate import Source
from modelmgr.estimation.isolation import IsolationSamples
from modelmgr.estimation.own_use import OwnUse
from modelmgr.estimation.quantiles import normal_quantile, student_quantile

if TYPE_CHECKING:
    from modelmgr.estimation.fit import Fit, ModelFit

UPPER_PROBABILITY = 0.99
INTERVAL_PROBABILITY = 0.975  # each side of the 95 % interval
# A figure that is no better known than this is no figure.
_WORTHLESS_SHARE = 0.5  # of the figure itself,
_WORTHLESS_OF_LARGEST = 0.01  # unless that is small among what the device holds
# Of the median absolute deviation against the standard deviation. As Student's degrees it gives a
# figure that 0.6 to 2.3 % of next runs exceed (200,000 normal draws; 5 to 15 runs), 6 % after 3.
_MAD_EFFICIENCY = 0.37
_NAMED = 8  # models that a reason names, of those that one cannot be told apart from
_REFINEMENT = 0.9985  # each side of the earlier figure: where a later one of the same costs lies
_MORE = 1.25  # times the information of the earlier figure: that one hardly matters any more


@dataclass(frozen=True, slots=True)
class Published:
    """What callers see of a model, bytes; see ``CostEstimate``. ``known`` ends isolation runs.

    ``reach`` is how far from a figure that readings gave a better one of the same cost may lie, and
    ``information`` how many readings of that model alone it is worth; None for any other figure.
    ``resident_upper`` and ``seen`` are the most that a copy's own process held at rest and at all,
    None where none tells it.
    """

    known: bool
    peak: float
    resident: float | None
    upper: float
    interval: tuple[int, int] | None
    source: Source
    identified: bool
    reason: str | None
    reach: float | None = None
    information: float | None = None
    resident_upper: float | None = None
    seen: float | None = None


def from_preload(size: float) -> Published:
    """Return what a preloaded figure says."""
    reason = "preloaded, not yet measured here"
    return Published(True, size, None, size, None, "preload", False, reason)


def from_isolation(samples: IsolationSamples) -> Published:
    """Return what isolation runs say."""
    peak, resident = samples.peak, samples.resident
    side = normal_quantile(INTERVAL_PROBABILITY) * peak.sd
    upper = peak.value + normal_quantile(UPPER_PROBABILITY) * peak.sd
    if peak.spread > 0.0:
        degrees = max(_MAD_EFFICIENCY * (peak.samples - 1), 2.0)
        wide = student_quantile(UPPER_PROBABILITY, degrees)
        upper = max(upper, peak.value + wide * (peak.sd**2 + peak.spread**2) ** 0.5)
    return Published(
        True,
        peak.value,
        None if resident is None else min(resident.value, peak.value),
        upper,
        (max(round(peak.value - side), 0), round(peak.value + side)),
        "isolation",
        True,
        None,
    )


def from_fit(
    model: ModelFit,
    fit: Fit,
    *,
    previous: Published | None,
    share: float,
    shortage: str | None,
    bound: float,
) -> Published:
    """Return what readings say, or why the previous statement stays.

    Args:
        model: the fit's answer.
        fit: the fit.
        previous: what was published before, None for a model new to this.
        share: of the way from the previous peak to the fit's where something changed, 0 to 1.
        shortage: why there are too few observations, None where there are enough.
        bound: what one copy of a model that was not known cannot exceed, bytes.
    """
    sd = model.peak_sd
    reason = shortage or _doubt(model, fit)
    if reason is not None or sd is None:
        if previous is not None and previous.known:
            kept = previous.identified or previous.source == "isolation"
            return previous if kept else replace(previous, reason=reason)
        upper = max(bound, model.peak)
        return Published(False, model.peak, None, upper, None, "prior", False, reason)
    peak, resident = model.peak, model.resident
    information = (fit.scale / sd) ** 2 if sd > 0.0 else float("inf")
    whole = previous is None or not previous.known or _refines(model, information, previous)
    if previous is not None and not whole:
        peak = previous.peak + share * (model.peak - previous.peak)
        if previous.resident is not None:
            if resident is None:
                resident = previous.resident
            else:
                resident = previous.resident + share * (resident - previous.resident)
    if resident is not None:
        resident = min(resident, peak)
    side = student_quantile(INTERVAL_PROBABILITY, fit.degrees) * sd
    next_sd = (sd * sd + fit.scale * fit.scale) ** 0.5
    upper = max(peak, model.peak) + student_quantile(UPPER_PROBABILITY, fit.degrees) * next_sd
    low = max(min(model.peak - side, peak), 0.0)
    return Published(
        True,
        peak,
        resident,
        upper,
        (round(low), round(max(model.peak + side, peak))),
        "isolation" if model.measured_share > 0.5 else "aggregate",
        True,
        None,
        student_quantile(_REFINEMENT, fit.degrees) * sd,
        information if whole or previous is None else previous.information,
    )


def with_own_use(published: Published | None, own: OwnUse) -> Published | None:
    """Return what is published, with what single copies' own processes were seen to hold.

    What was seen is an upper figure's least at once; it replaces one when enough whole jobs were
    seen. What is typical replaces a figure that was told or inferred as soon as it is known.
    """
    largest = own.peaks.largest
    resident = own.residents.typical if own.residents.count else None
    most = own.residents.largest if own.residents.count else None
    if not own.says_what_is_typical:
        if published is None or not published.known:
            return published
        upper = max(published.upper, largest)
        return replace(published, upper=upper, resident_upper=most, seen=largest or most)
    peak = own.peaks.typical
    upper = largest
    if not own.says_what_is_enough:
        known = published is not None and published.known
        told = published.upper if published is not None and known else 0.0
        upper = max(largest, told)
    if resident is None and published is not None and published.known:
        resident = published.resident
    return Published(
        True,
        peak,
        None if resident is None else min(resident, peak),
        upper,
        own.peaks.interval_95(),
        "isolation",
        True,
        None if own.peaks.count >= 6 else f"an interval needs 6 jobs, not {own.peaks.count}",
        None,
        None,
        most,
        largest,
    )


def _refines(model: ModelFit, information: float, previous: Published) -> bool:
    if previous.reach is None or previous.information is None:
        return False
    return (
        abs(model.peak - previous.peak) <= previous.reach
        or information >= _MORE * previous.information
    )


def _doubt(model: ModelFit, fit: Fit) -> str | None:
    if not model.determined:
        confused = fit.confused_with(model)
        if len(confused):
            more = len(confused) - _NAMED
            named = ", ".join(fit.name_of(index) for index in confused[:_NAMED].tolist())
            also = f" and {more:,} more" if more > 0 else ""
            return f"no observation tells it apart from {named}{also}"
        return "never observed at work"
    if model.peak_sd is None:
        return "as many unknown costs as observations: nothing is left to judge them by"
    if model.peak_sd > max(_WORTHLESS_SHARE * model.peak, _WORTHLESS_OF_LARGEST * fit.largest):
        return f"known only to {model.peak_sd / max(model.peak, 1.0):.0%} of itself"
    return None
