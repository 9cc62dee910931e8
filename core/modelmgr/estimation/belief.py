"""What old readings said, after the readings themselves are gone: a bounded quadratic form.

Readings beyond the window are folded, with the robust weights that they had earned, into a
precision matrix and a centre: the Gram matrix and moments of a Gaussian belief. Its size is the
square of the number of columns, whatever the number of readings.

**Forgetting** is a random walk of the costs that were at work meanwhile, and of those only: before
a batch is folded in, the columns ``E`` that occur in it get the process noise ``Q`` that leaves the
share ``RETAINED`` of each one's own information,

    G' = (G^-1 + E Q E')^-1 = G - G E (E' G E + Q^-1)^-1 E' G,   Q^-1 = r / (1 - r) diag(E' G E),

which needs no inverse of ``G`` and keeps its rank. Plain exponential forgetting scales everything,
so that a model that does not run for a week is slowly forgotten; here its column is left alone.
(Directional forgetting: Kulhavý, "Restricted exponential forgetting in real-time identification",
Automatica 23, 1987.)

The memory of others comes and goes by gigabytes, so that nothing of it is kept: its column is
eliminated at every fold, and the window alone says what it is.

Columns are the observation log's numbers: 0 is the memory of others, then two for each model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelmgr.estimation import spd
from modelmgr.estimation.overflow import Overflow
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.spd import FloatArray
from modelmgr.estimation.statistics import MIN_CAPACITY

RETAINED = 0.9  # of a column's information, at each fold of half a window
READINGS_A_FOLD = MIN_CAPACITY // 2
LEAST_RETAINED = 0.3  # however many readings overflowed before somebody asked


@dataclass(frozen=True, slots=True)
class Belief:
    """A precision (in units of one reading) and the centre (bytes) that old readings left."""

    precision: FloatArray
    center: FloatArray

    @classmethod
    def empty(cls) -> Belief:
        """Return the belief of no readings."""
        return cls(np.zeros((0, 0)), np.zeros(0))

    def widened(self, columns: int) -> Belief:
        """Return the same belief over more columns, about which it says nothing."""
        more = columns - len(self.center)
        if more <= 0:
            return self
        return Belief(
            np.pad(self.precision, ((0, more), (0, more))), np.pad(self.center, (0, more))
        )

    def folded(
        self,
        design: SparseRows,
        readings: FloatArray,
        weights: FloatArray,
        *,
        trust: float,
        guess: FloatArray,
    ) -> Belief:
        """Return the belief after a batch of readings.

        Args:
            design: counts, shape (n, columns).
            readings: bytes, shape (n,).
            weights: what each reading counts for, shape (n,).
            trust: share of the old information that the fit left standing, 0 to 1.
            guess: where to be centred in directions that no reading determines, bytes.
        """
        return self._joined(
            design.gram(weights),
            design.transposed_times(weights * readings),
            design.occurring,
            retained=RETAINED * trust,
            guess=guess,
        )

    def with_overflow(self, overflow: Overflow, columns: int, guess: FloatArray) -> Belief:
        """Return the belief after readings that nobody looked at one by one.

        Args:
            overflow: their sums.
            columns: how many columns there are.
            guess: as for ``folded``, shape (columns,).
        """
        gram = np.zeros((columns, columns))
        for (row, column), much in overflow.gram.items():
            gram[row, column] = gram[column, row] = much
        moment = np.zeros(columns)
        moment[list(overflow.moment)] = list(overflow.moment.values())
        return self._joined(
            gram,
            moment,
            np.flatnonzero(np.diagonal(gram)),
            retained=max(RETAINED ** (overflow.count / READINGS_A_FOLD), LEAST_RETAINED),
            guess=guess,
        )

    def _joined(
        self,
        gram: FloatArray,
        moment: FloatArray,
        touched: np.ndarray,
        *,
        retained: float,
        guess: FloatArray,
    ) -> Belief:
        old = self.widened(len(moment))
        precision = forget(old.precision, touched, retained)
        moment = precision @ old.center + moment
        precision = precision + gram
        precision = (precision + precision.T) / 2.0
        diagonal = np.diagonal(precision).copy()
        diagonal[diagonal <= 0.0] = 1.0
        scale = 1.0 / np.sqrt(diagonal)
        scaled = precision * scale[:, None] * scale
        scaled[np.diag_indices_from(scaled)] += 1e-10
        step = spd.solve(scaled, scale * (moment - precision @ guess))
        return Belief(_without_foreign(precision), guess + scale * step)


def _without_foreign(precision: FloatArray) -> FloatArray:
    """Return what is left when the memory of others may have become anything."""
    own = float(precision[0, 0])
    if own <= 0.0:
        return precision
    across = precision[:, 0]
    remaining = precision - np.multiply.outer(across, across) / own
    remaining[0, :] = 0.0
    remaining[:, 0] = 0.0
    return remaining


def forget(precision: FloatArray, columns: np.ndarray, retained: float) -> FloatArray:
    """Return ``precision`` after the costs of ``columns`` have drifted; others keep theirs."""
    known = columns[np.diagonal(precision)[columns] > 0.0]
    if not len(known) or retained >= 1.0:
        return precision
    block = precision[np.ix_(known, known)]
    inner = block + np.diag(np.diagonal(block) * (retained / (1.0 - retained)))
    return precision - spd.gram(spd.whiten(inner, precision[known]))
