"""A matrix of counts with few entries a row, and the products that a regression needs of it.

A reading holds a handful of models out of a hundred, so that its outer product has some dozens of
entries. Summing those by ``bincount`` takes a quarter of the time of a dense product, and none of
its threads: a threaded BLAS took 96 ms for a 600 by 101 product, instead of 0.4 ms, on a machine
whose cores were busy, which is where a model manager lives. Rows that are full go through BLAS all
the same, a few at a time.

Pure arithmetic; knows nothing of readings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelmgr.estimation import spd
from modelmgr.estimation.spd import FloatArray

IndexArray = npt.NDArray[np.intp]

_FULL_SHARE = 0.05  # of all entries of the outer products, from which BLAS is the cheaper way


class SparseRows:
    """The non-zero entries of a matrix, shape (n, p), and the pairs of them within each row."""

    __slots__ = (
        "_columns",
        "_dense",
        "_pair_rows",
        "_pair_values",
        "_pairs",
        "_rows",
        "_values",
        "shape",
    )

    def __init__(self, matrix: FloatArray) -> None:
        self.shape: tuple[int, int] = (matrix.shape[0], matrix.shape[1])
        self._dense = matrix
        self._rows, self._columns = np.nonzero(matrix)
        self._values: FloatArray = matrix[self._rows, self._columns]
        self._pairs: IndexArray | None = None
        self._pair_rows: IndexArray | None = None
        self._pair_values: FloatArray | None = None
        size = np.bincount(self._rows, minlength=self.shape[0])
        if int((size * size).sum()) > _FULL_SHARE * self.shape[0] * self.shape[1] ** 2 + 4096:
            return
        repeats = size[self._rows]
        left = np.repeat(np.arange(len(self._rows)), repeats)
        first_of_row = np.cumsum(size) - size
        first_of_entry = np.cumsum(repeats) - repeats
        right = first_of_row[self._rows[left]] + np.arange(len(left)) - first_of_entry[left]
        self._pair_rows = self._rows[left]
        self._pairs = self._columns[left] * self.shape[1] + self._columns[right]
        self._pair_values = self._values[left] * self._values[right]

    def gram(self, weights: FloatArray) -> FloatArray:
        """Return the sum of ``weights[i] * outer(row i, row i)``, shape (p, p)."""
        if self._pairs is None or self._pair_rows is None or self._pair_values is None:
            return spd.gram(self._dense * np.sqrt(weights)[:, None])
        size = self.shape[1]
        entries = self._pair_values * weights[self._pair_rows]
        summed = np.bincount(self._pairs, entries, minlength=size * size)
        return summed.astype(np.float64, copy=False).reshape(size, size)

    def quadratic_forms(self, matrix: FloatArray) -> FloatArray:
        """Return ``row' matrix row`` for each row, shape (n,)."""
        if self._pairs is None or self._pair_rows is None or self._pair_values is None:
            forms: FloatArray = ((self._dense @ matrix) * self._dense).sum(axis=1)
            return forms
        entries = self._pair_values * matrix.ravel()[self._pairs]
        summed = np.bincount(self._pair_rows, entries, minlength=self.shape[0])
        return summed.astype(np.float64, copy=False)

    def times(self, vector: FloatArray) -> FloatArray:
        """Return the matrix times ``vector`` (p,), shape (n,)."""
        entries = self._values * vector[self._columns]
        summed = np.bincount(self._rows, entries, minlength=self.shape[0])
        return summed.astype(np.float64, copy=False)

    def transposed_times(self, vector: FloatArray) -> FloatArray:
        """Return the transposed matrix times ``vector`` (n,), shape (p,)."""
        entries = self._values * vector[self._rows]
        summed = np.bincount(self._columns, entries, minlength=self.shape[1])
        return summed.astype(np.float64, copy=False)
