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

from modelmgr.estimation import spd
from modelmgr.estimation.arrow import Arrow, ArrowInverse, IndexArray, Pattern
from modelmgr.estimation.spd import FloatArray

_FULL_SHARE = 0.05  # of all entries of the outer products, from which BLAS is the cheaper way


class SparseRows:
    """The non-zero entries of a matrix, shape (n, p), and the pairs of them within each row.

    Args:
        rows: of each entry, ascending; no place is named twice.
        columns: of each entry.
        values: the entries.
        shape: of the matrix.
    """

    __slots__ = ("_columns", "_dense", "_full", "_pairs", "_placed", "_rows", "_values", "shape")

    def __init__(
        self, rows: IndexArray, columns: IndexArray, values: FloatArray, shape: tuple[int, int]
    ) -> None:
        self.shape = shape
        self._rows = rows
        self._columns = columns
        self._values = values
        self._dense: FloatArray | None = None
        self._full: bool | None = None
        self._pairs: tuple[IndexArray, IndexArray, IndexArray, FloatArray] | None = None
        self._placed: tuple[Pattern, IndexArray, IndexArray, FloatArray] | None = None

    @classmethod
    def of_matrix(cls, matrix: FloatArray) -> SparseRows:
        """Return the rows of a dense matrix."""
        rows, columns = np.nonzero(matrix)
        return cls(rows, columns, matrix[rows, columns], (matrix.shape[0], matrix.shape[1]))

    @classmethod
    def summed(
        cls, rows: IndexArray, columns: IndexArray, values: FloatArray, shape: tuple[int, int]
    ) -> SparseRows:
        """Return the rows of entries in any order, those of one place summed."""
        places, which = np.unique(rows * shape[1] + columns, return_inverse=True)
        total = np.bincount(which, values, minlength=len(places)).astype(np.float64, copy=False)
        some = total != 0.0
        return cls(places[some] // shape[1], places[some] % shape[1], total[some], shape)

    def moved(self, targets: tuple[IndexArray, ...], size: int) -> SparseRows:
        """Return the matrix whose entries are added to other columns, shape (n, size).

        Args:
            targets: for each column where it goes, -1 for nowhere; it goes to each of them.
            size: how many columns there are then.
        """
        columns = np.concatenate([target[self._columns] for target in targets])
        rows, values = np.tile(self._rows, len(targets)), np.tile(self._values, len(targets))
        some = columns >= 0
        return SparseRows.summed(rows[some], columns[some], values[some], (self.shape[0], size))

    def differences(self) -> tuple[SparseRows, IndexArray]:
        """Return each row less the one before it, without rows of zeros, and which are left."""
        count, size = self.shape
        rows = np.concatenate((self._rows - 1, self._rows))
        columns = np.concatenate((self._columns, self._columns))
        values = np.concatenate((self._values, -self._values))
        inside = (rows >= 0) & (rows < count - 1)
        every = SparseRows.summed(
            rows[inside], columns[inside], values[inside], (max(count - 1, 0), size)
        )
        return every.without_empty()

    def without_empty(self) -> tuple[SparseRows, IndexArray]:
        """Return the rows that have an entry, and which those are."""
        kept, rows = np.unique(self._rows, return_inverse=True)
        left = SparseRows(rows, self._columns, self._values, (len(kept), self.shape[1]))
        return left, kept

    def scaled(self, unit: FloatArray) -> SparseRows:
        """Return the matrix with column ``j`` multiplied by ``unit[j]``."""
        return SparseRows(self._rows, self._columns, self._values * unit[self._columns], self.shape)

    def head(self, count: int) -> SparseRows:
        """Return the first ``count`` rows."""
        end = int(np.searchsorted(self._rows, count))
        return SparseRows(
            self._rows[:end], self._columns[:end], self._values[:end], (count, self.shape[1])
        )

    @property
    def occurring(self) -> IndexArray:
        """The columns that have an entry, ascending."""
        return np.unique(self._columns)

    def dense(self) -> FloatArray:
        """Return the matrix in full."""
        if self._dense is None:
            self._dense = np.zeros(self.shape)
            self._dense[self._rows, self._columns] = self._values
        return self._dense

    def gram(self, weights: FloatArray) -> FloatArray:
        """Return the sum of ``weights[i] * outer(row i, row i)``, shape (p, p)."""
        size = self.shape[1]
        if self._is_full():
            return spd.gram(self.dense() * np.sqrt(weights)[:, None])
        rows, left, right, products = self._all_pairs()
        summed = np.bincount(left * size + right, products * weights[rows], minlength=size * size)
        return summed.astype(np.float64, copy=False).reshape(size, size)

    def arrow(self, weights: FloatArray, pattern: Pattern) -> Arrow:
        """Return the same sum; what occurs in one row must meet in the pattern."""
        if self._is_full():
            return pattern.gathered(self.gram(weights))
        if self._placed is None or self._placed[0] is not pattern:
            rows, left, right, products = self._all_pairs()
            once = (right > 0) | (left == 0)  # the border is kept once, not as row and column
            positions = pattern.positions(left[once], right[once])
            self._placed = pattern, rows[once], positions, products[once]
        _, rows, positions, products = self._placed
        summed = np.bincount(positions, products * weights[rows], minlength=pattern.entries)
        return Arrow(pattern, summed.astype(np.float64, copy=False))

    def quadratic_forms(self, inverse: ArrowInverse) -> FloatArray:
        """Return ``row' inverse row`` for each row, shape (n,)."""
        rows, left, right, products = self._all_pairs()
        pattern = inverse.pattern
        inside = pattern.of_one_set(left, right)
        entries = products * np.where(inside, inverse.values[pattern.positions(left, right)], 0.0)
        blocks = np.bincount(rows, entries, minlength=self.shape[0])
        forms: FloatArray = blocks + self.times(inverse.across) ** 2 / inverse.remaining
        return forms

    def squares(self) -> FloatArray:
        """Return ``row' row`` for each row, shape (n,)."""
        summed = np.bincount(self._rows, self._values**2, minlength=self.shape[0])
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

    def _is_full(self) -> bool:
        if self._full is None:
            count, size = self.shape
            entries = np.bincount(self._rows, minlength=count)
            self._full = int((entries**2).sum()) > _FULL_SHARE * count * size**2 + 4096
        return self._full

    def _all_pairs(self) -> tuple[IndexArray, IndexArray, IndexArray, FloatArray]:
        """Return each two entries of one row: the row, both columns, the product."""
        if self._pairs is None:
            entries = np.bincount(self._rows, minlength=self.shape[0])
            repeats = entries[self._rows]
            left = np.repeat(np.arange(len(self._rows)), repeats)
            first_of_row = np.cumsum(entries) - entries
            first_of_entry = np.cumsum(repeats) - repeats
            right = first_of_row[self._rows[left]] + np.arange(len(left)) - first_of_entry[left]
            self._pairs = (
                self._rows[left],
                self._columns[left],
                self._columns[right],
                self._values[left] * self._values[right],
            )
        return self._pairs
