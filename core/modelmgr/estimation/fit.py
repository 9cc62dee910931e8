"""From the log of readings to what each model costs: set the regression up, solve it, read it off.

The unknowns ``theta`` are the memory of others (not negative), and for each model either its peak,
or where idle copies were seen, what it is resident with and what it takes on top at its peak: both
not negative, so that a peak is never below its resident size. Everything is scaled by the largest
reading before and back after, so that the result does not depend on the unit.

Owns that translation. The regression is ``estimation.robust``'s, what it does while the memory of
others moves ``estimation.levels``'s, the null space
``estimation.identifiability``'s, what becomes of older readings ``estimation.belief``'s. Publishing
(smoothing, who is trusted) is ``estimation.estimator``'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelmgr.estimation import spd
from modelmgr.estimation.belief import Belief
from modelmgr.estimation.identifiability import Information
from modelmgr.estimation.levels import solve_with_levels
from modelmgr.estimation.nnls import BoolArray
from modelmgr.estimation.robust import Problem, Solution
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.spd import FloatArray
from modelmgr.estimation.statistics import ObservationLog, active_column, idle_column

FOREIGN_NAME = "the memory of others"


@dataclass(frozen=True, slots=True)
class Term:
    """What was known of one model beforehand, bytes; ``measured`` for an isolation run."""

    index: int
    resident: bool
    mean: float
    sd: float
    measured: bool


@dataclass(frozen=True, slots=True)
class ModelFit:
    """What the readings say about one model, bytes.

    Attributes:
        peak: the peak of one copy.
        peak_sd: its standard deviation; None where no reading is left over to judge by.
        resident: None where readings do not tell it apart.
        determined: whether readings and isolation runs determine the peak.
        confused_with: the models that it cannot be told apart from, where it is not determined.
        measured_share: the share of the isolation runs in what is known, 0 to 1.
    """

    peak: float
    peak_sd: float | None
    resident: float | None
    determined: bool
    confused_with: tuple[str, ...]
    measured_share: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A solved log.

    Attributes:
        models: by index, those that occur in readings.
        scale: standard deviation of a clean reading, bytes.
        degrees: how many readings judge ``scale``; below 1 none does.
        largest: the largest reading, bytes.
        column_costs: bytes a copy, by column (0: the memory of others).
        belief: what is kept of the readings that were folded away in this fit.
        kept_rows: how many of the latest rows stay in the log.
        configurations: the combinations that occur in the rows.
        information: of the readings and isolation runs.
        layout: columns to unknowns, shape (columns, unknowns).
    """

    models: dict[int, ModelFit]
    scale: float
    degrees: float
    largest: float
    column_costs: list[float]
    belief: Belief
    kept_rows: int
    configurations: frozenset[tuple[tuple[int, ...], tuple[int, ...]]]
    information: Information
    layout: FloatArray


def fit_log(log: ObservationLog, belief: Belief, terms: list[Term]) -> Fit:
    """Return the costs that ``log``, ``belief`` and ``terms`` say; changes none of them."""
    belief = belief.widened(log.columns)
    design, readings = _design(log)
    seen = design.any(axis=0) | (np.diagonal(belief.precision) > 0.0)
    layout, models = _layout(log, seen)
    occurring = set(models)
    terms = [
        term
        for term in terms
        if term.index in occurring and (not term.resident or log.has_idle[term.index])
    ]
    unit = float(max(readings.max(initial=0.0), np.abs(belief.center).max(initial=0.0))) or 1.0
    contrasts = _contrasts(layout, terms)
    merged = _merge(design, log, models)
    unknowns = SparseRows(merged)
    history = _merge(_merge(belief.precision, log, models).T, log, models)
    center = _unknowns_of(log, models, belief.center / unit)
    solution, offsets = solve_with_levels(
        merged,
        Problem(
            unknowns,
            readings / unit,
            history,
            center,
            SparseRows(contrasts),
            np.array([term.mean / unit for term in terms]),
            np.array([term.sd / unit for term in terms]),
        ),
    )
    information = Information(
        unknowns.gram((solution.weights > 0.5).astype(np.float64))
        + solution.history_trust * history
        + _measured_information(contrasts, terms)
    )
    column_costs = SparseRows(layout).times(solution.theta) * unit
    kept = len(log.rows)
    if kept >= log.capacity:
        kept = log.capacity // 2
        old = len(log.rows) - kept
        belief = belief.folded(
            design[:old],
            readings[:old] - unit * offsets[:old],
            solution.weights[:old],
            trust=solution.history_trust,
            guess=column_costs,
        )
    return Fit(
        models=_read_off(
            log,
            models,
            layout,
            solution=solution,
            information=information,
            terms=terms,
            unit=unit,
        ),
        scale=solution.scale * unit,
        degrees=solution.degrees,
        largest=unit,
        column_costs=[float(cost) for cost in column_costs],
        belief=belief,
        kept_rows=kept,
        configurations=frozenset((columns, counts) for columns, counts, _ in log.rows),
        information=information,
        layout=layout,
    )


def _design(log: ObservationLog) -> tuple[FloatArray, FloatArray]:
    design = np.zeros((len(log.rows), log.columns))
    row_numbers: list[int] = []
    column_numbers: list[int] = []
    entries: list[int] = []
    readings: list[float] = []
    for number, (columns, counts, value) in enumerate(log.rows):
        row_numbers += [number] * len(columns)
        column_numbers += columns
        entries += counts
        readings.append(value)
    design[row_numbers, column_numbers] = entries
    design[:, 0] = 1.0
    return design, np.array(readings)


def _layout(log: ObservationLog, seen: BoolArray) -> tuple[FloatArray, list[int]]:
    """Return columns to unknowns, and the models that occur."""
    models = [
        index
        for index in range(len(log.names))
        if seen[active_column(index)] or seen[idle_column(index)]
    ]
    unknowns = 1 + sum(2 if log.has_idle[index] else 1 for index in models)
    layout = np.zeros((log.columns, unknowns))
    layout[0, 0] = 1.0
    position = 1
    for index in models:
        layout[active_column(index), position] = 1.0
        if log.has_idle[index]:
            layout[idle_column(index), position] = 1.0
            layout[active_column(index), position + 1] = 1.0
            position += 1
        position += 1
    return layout, models


def _merge(matrix: FloatArray, log: ObservationLog, models: list[int]) -> FloatArray:
    """Return ``matrix @ layout``, by adding columns."""
    firsts = [0]
    seconds: list[tuple[int, int]] = []  # a loaded copy: idle or at work
    for index in models:
        if log.has_idle[index]:
            seconds.append((len(firsts), active_column(index)))
            firsts.append(idle_column(index))
        firsts.append(active_column(index))
    merged: FloatArray = matrix[:, firsts]
    if seconds:
        merged[:, [unknown for unknown, _ in seconds]] += matrix[
            :, [column for _, column in seconds]
        ]
    return merged


def _unknowns_of(log: ObservationLog, models: list[int], column_costs: FloatArray) -> FloatArray:
    """Return the unknowns that give these costs by column: the layout's inverse."""
    values: list[float] = [float(column_costs[0])]
    for index in models:
        peak = float(column_costs[active_column(index)])
        if log.has_idle[index]:
            resident = float(column_costs[idle_column(index)])
            values += [resident, peak - resident]
        else:
            values.append(peak)
    return np.array(values)


def _contrasts(layout: FloatArray, terms: list[Term]) -> FloatArray:
    columns = [
        idle_column(term.index) if term.resident else active_column(term.index) for term in terms
    ]
    return layout[columns]


def _measured_information(contrasts: FloatArray, terms: list[Term]) -> FloatArray:
    measured = contrasts[[number for number, term in enumerate(terms) if term.measured]]
    gram: FloatArray = measured.T @ measured
    return gram


def _read_off(
    log: ObservationLog,
    models: list[int],
    layout: FloatArray,
    *,
    solution: Solution,
    information: Information,
    terms: list[Term],
    unit: float,
) -> dict[int, ModelFit]:
    if not models:
        return {}
    peaks = layout[[active_column(index) for index in models]]
    residents = layout[[idle_column(index) for index in models]]
    covariance = spd.inverse(solution.precision)
    peak_costs = SparseRows(peaks).times(solution.theta) * unit
    resident_costs = SparseRows(residents).times(solution.theta) * unit
    variances = SparseRows(peaks).quadratic_forms(covariance)
    determined = information.determines(peaks)
    resident_known = np.zeros(len(models), dtype=np.bool_)
    split = residents.any(axis=1)
    if split.any():
        resident_known[split] = information.determines(residents[split])
    measured: dict[int, float] = {}
    for number, term in enumerate(terms):
        if term.measured and not term.resident:
            measured[term.index] = float(solution.term_weights[number])
    owners = _owners(log, models)
    judged = solution.degrees >= 1.0
    result: dict[int, ModelFit] = {}
    for number, index in enumerate(models):
        variance = max(float(variances[number]), 0.0)
        confused: tuple[str, ...] = ()
        if not determined[number]:
            columns = information.confused_columns(peaks[number])
            names = dict.fromkeys(owners[column] for column in columns)
            confused = tuple(name for name in names if name != log.names[index])
        result[index] = ModelFit(
            peak=float(peak_costs[number]),
            peak_sd=solution.scale * variance**0.5 * unit if judged else None,
            resident=(float(resident_costs[number]) if resident_known[number] else None),
            determined=bool(determined[number]),
            confused_with=confused,
            measured_share=min(measured.get(index, 0.0) * variance, 1.0),
        )
    return result


def _owners(log: ObservationLog, models: list[int]) -> list[str]:
    """Return whose unknown each one is, by name."""
    owners = [FOREIGN_NAME]
    for index in models:
        owners += [log.names[index]] * (2 if log.has_idle[index] else 1)
    return owners
