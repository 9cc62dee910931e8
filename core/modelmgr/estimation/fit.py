"""From the log of readings to what each model costs: set the regression up, solve it, read it off.

Everything is scaled by the largest reading before and back after, so that the result does not
depend on the unit. What counts as rounding goes by that scale, so a reading that is out of all
proportion (a counter that ran over) is not taken for it.

Owns that translation. What the unknowns are is ``estimation.layout``'s, the regression
``estimation.robust``'s, what it does while the memory of others moves ``estimation.levels``'s, the
null space
``estimation.identifiability``'s, what becomes of older readings ``estimation.belief``'s. Publishing
(smoothing, who is trusted) is ``estimation.estimator``'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelmgr.estimation.arrow import Arrow, IndexArray
from modelmgr.estimation.belief import Belief
from modelmgr.estimation.identifiability import Information
from modelmgr.estimation.layout import Layout
from modelmgr.estimation.levels import solve_with_levels
from modelmgr.estimation.robust import Problem, Solution
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.spd import FloatArray
from modelmgr.estimation.statistics import (
    FOREIGN_COLUMN,
    ObservationLog,
    active_column,
    idle_column,
)

FOREIGN_NAME = "the memory of others"
_OUT_OF_PROPORTION = 100.0  # times the median reading: no device's use grows like that


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
        index: which model it is.
        peak: the peak of one copy.
        peak_sd: its standard deviation; None where no reading is left over to judge by.
        resident: None where readings do not tell it apart.
        determined: whether readings and isolation runs determine the peak.
        measured_share: the share of the isolation runs in what is known, 0 to 1.
    """

    index: int
    peak: float
    peak_sd: float | None
    resident: float | None
    determined: bool
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
        layout: columns to unknowns.
        names: index to model.
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
    layout: Layout
    names: list[str]

    def confused_with(self, model: ModelFit) -> IndexArray:
        """Return the models that one cannot be told apart from; -1 is the memory of others."""
        contrast = self.layout.contrast(active_column(model.index))
        owners = self.layout.owners[self.information.confused_columns(contrast)]
        new = np.diff(owners, prepend=-2) > 0  # they ascend, and a model may own two
        others: IndexArray = owners[new & (owners != model.index)]
        return others

    def name_of(self, index: int) -> str:
        """Return a model's name."""
        return self.names[index] if index >= 0 else FOREIGN_NAME


def fit_log(log: ObservationLog, belief: Belief, terms: list[Term]) -> Fit:
    """Return the costs that ``log``, ``belief`` and ``terms`` say; changes none of them."""
    counted, readings = _counted(log)
    seen = np.zeros(log.columns, dtype=np.bool_)
    seen[counted.occurring] = True
    remembered = np.flatnonzero(np.diagonal(belief.precision) > 0.0)
    seen[remembered] = True
    layout = Layout(log, seen)
    pattern = layout.pattern(
        # What is remembered of one model went through the memory of others at that time, and is
        # tied to all the rest of it.
        [tuple(remembered[remembered > 0].tolist()), *{columns for columns, _, _ in log.rows}]
    )
    occurring = set(layout.models)
    terms = [
        term
        for term in terms
        if term.index in occurring and (not term.resident or log.has_idle[term.index])
    ]
    largest = float(max(readings.max(initial=0.0), np.abs(belief.center).max(initial=0.0))) or 1.0
    middle = float(np.median(readings)) if len(readings) else 0.0
    unit = min(largest, _OUT_OF_PROPORTION * middle) or largest
    contrasts = layout.single(
        [(idle_column if term.resident else active_column)(term.index) for term in terms]
    )
    unknowns = layout.rows(counted)
    history, center = Arrow.zero(pattern), np.zeros(pattern.size)
    if len(remembered):
        belief = belief.widened(log.columns)
        history = pattern.gathered(layout.merged(belief.precision))
        center = layout.unknowns(belief.center / unit)
    solution, offsets = solve_with_levels(
        Problem(
            unknowns,
            readings / unit,
            history,
            center,
            contrasts,
            np.array([term.mean / unit for term in terms]),
            np.array([term.sd / unit for term in terms]),
        ),
    )
    clean = unknowns.arrow((solution.weights > 0.5).astype(np.float64), pattern)
    measured = contrasts.arrow(np.array([float(term.measured) for term in terms]), pattern)
    information = Information(
        Arrow(
            pattern,
            clean.values + solution.history_trust * history.values + measured.values,
        )
    )
    column_costs = layout.costs(solution.theta) * unit
    kept = len(log.rows)
    if kept >= log.capacity:
        kept = log.capacity // 2
        old = len(log.rows) - kept
        belief = belief.folded(
            counted.head(old),
            readings[:old] - unit * offsets[:old],
            solution.weights[:old],
            trust=solution.history_trust,
            guess=column_costs,
        )
    return Fit(
        models=_read_off(
            layout,
            solution=solution,
            information=information,
            terms=terms,
            unit=unit,
        ),
        scale=solution.scale * unit,
        degrees=solution.degrees,
        largest=largest,
        column_costs=[float(cost) for cost in column_costs],
        belief=belief,
        kept_rows=kept,
        configurations=frozenset((columns, counts) for columns, counts, _ in log.rows),
        information=information,
        layout=layout,
        names=log.names,
    )


def _counted(log: ObservationLog) -> tuple[SparseRows, FloatArray]:
    """Return the copies of each reading by column, and the readings."""
    rows: list[int] = []
    columns: list[int] = []
    counts: list[float] = []
    readings: list[float] = []
    for number, (its_columns, its_counts, value) in enumerate(log.rows):
        rows += [number] * (len(its_columns) + 1)
        columns += (FOREIGN_COLUMN, *its_columns)
        counts += (1.0, *its_counts)
        readings.append(value)
    shape = (len(log.rows), log.columns)
    counted = SparseRows(np.array(rows, int), np.array(columns, int), np.array(counts), shape)
    return counted, np.array(readings)


def _read_off(
    layout: Layout,
    *,
    solution: Solution,
    information: Information,
    terms: list[Term],
    unit: float,
) -> dict[int, ModelFit]:
    models = layout.models
    peaks = layout.single([active_column(index) for index in models])
    residents = layout.single([idle_column(index) for index in models])
    peak_costs = peaks.times(solution.theta) * unit
    resident_costs = residents.times(solution.theta) * unit
    variances = peaks.quadratic_forms(solution.precision.inverse())
    determined = information.determines(peaks)
    resident_known = information.determines(residents)
    measured: dict[int, float] = {}
    for number, term in enumerate(terms):
        if term.measured and not term.resident:
            measured[term.index] = float(solution.term_weights[number])
    judged = solution.degrees >= 1.0
    result: dict[int, ModelFit] = {}
    for number, index in enumerate(models):
        variance = max(float(variances[number]), 0.0)
        result[index] = ModelFit(
            index=index,
            peak=float(peak_costs[number]),
            peak_sd=solution.scale * variance**0.5 * unit if judged else None,
            resident=(float(resident_costs[number]) if resident_known[number] else None),
            determined=bool(determined[number]),
            measured_share=min(measured.get(index, 0.0) * variance, 1.0),
        )
    return result
