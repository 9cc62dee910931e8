"""Which costs the readings determine, and which combination would tell the rest apart.

Two models that always run together cost something together; how much each, no arithmetic can say. A
contrast ``v' theta`` is determined when ``v`` has no part in the null space of the information
matrix ``G``. With the columns scaled to unit diagonal, ``R = (G + eps I)^-1`` has the eigenvalue
``1 / (lambda + eps)`` where ``G`` has ``lambda``, so that ``eps v' R v / v' v`` is the squared part
of ``v`` in the null space (plus ``eps / lambda``, next to nothing). One Cholesky factor serves all
contrasts, and ``eps R v`` itself names the columns that ``v`` is confused with.

Next observation: the predictive variance ``x' R x`` of a combination ``x`` is what observing it
would remove (the greedy step of D-optimal design; Fedorov, *Theory of Optimal Experiments*, 1972).
Null directions weigh ``1 / eps`` and therefore come first.
"""

from __future__ import annotations

import numpy as np

from modelmgr.estimation.arrow import Arrow, BoolArray, IndexArray
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.spd import FloatArray

EPSILON = 1e-10
NULL_PART = 1e-4  # squared share of a contrast in the null space from which it is not determined
_NAMED_PART = 1e-3  # share of the largest entry from which a column is named as confused


class Information:
    """The null space of an information matrix."""

    __slots__ = ("_inverse", "_unit")

    def __init__(self, information: Arrow) -> None:
        pattern = information.pattern
        diagonal = information.values[pattern.diagonal]
        diagonal[diagonal <= 0.0] = 1.0
        self._unit: FloatArray = 1.0 / np.sqrt(diagonal)
        scaled = information.scaled(self._unit)
        scaled.values[pattern.diagonal] += EPSILON
        self._inverse = scaled.inverse()

    def determines(self, contrasts: SparseRows) -> BoolArray:
        """Tell for each row of ``contrasts`` (k, p) whether the information determines it."""
        scaled = contrasts.scaled(self._unit)
        null_part = EPSILON * scaled.quadratic_forms(self._inverse)
        determined: BoolArray = null_part < NULL_PART * scaled.squares()
        return determined

    def confused_columns(self, contrast: FloatArray) -> IndexArray:
        """Return the columns that share the null space's part of ``contrast``."""
        part = np.abs(self._inverse.times(contrast * self._unit))
        return np.flatnonzero(part > _NAMED_PART * part.max())

    def gain(self, combinations: SparseRows) -> FloatArray:
        """Return what observing each combination (a row, (k, p)) would remove, per unit of it."""
        scaled = combinations.scaled(self._unit)
        gained: FloatArray = scaled.quadratic_forms(self._inverse) / scaled.squares()
        return gained
