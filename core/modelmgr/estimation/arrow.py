"""Matrices of costs that meet only through the memory of others: blocks, with a border of one.

Models that were never seen together, not even by way of third ones, share nothing but the memory of
others (unknown 0), which is in every reading. The matrix of such a regression is an *arrow*: the
border is unknown 0 with everybody, and apart from it there is one block for each set of models that
were seen together. With ``V`` the blocks' inverses, ``b`` the border, ``c`` its corner,
``s = c - b' V b`` and ``z = (1, -V b)``,

    (arrow)^-1 = (0 + V) + z z' / s,

so that solving, inverting and quadratic forms cost what the blocks cost: the cube of the largest
set instead of that of all models. Blocks of one size are worked on together. Where all models are
one set, there is one block, and the arithmetic is the dense one.

Owns that arithmetic. Pure; knows nothing of models or memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from modelmgr.estimation import spd
from modelmgr.estimation.spd import FloatArray

IndexArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

_TOGETHER = 32  # unknowns of a block up to which LAPACK works on many of them, in one thread


class Pattern:
    """Which unknowns meet: where each pair of them lies in an arrow's flat list of values.

    Attributes:
        size: how many unknowns there are, 0 included.
        blocks: the sets of unknowns, those of one size together, shape (sets, size of a set).
        diagonal: where each unknown's own entry lies, shape (size,).
        entries: how many values an arrow has: the border, then the blocks, row by row.
    """

    __slots__ = ("_first", "_place", "_set", "blocks", "diagonal", "entries", "size")

    def __init__(self, size: int, sets: Sequence[Sequence[int]]) -> None:
        self.size = size
        by_length: dict[int, list[Sequence[int]]] = {}
        for one in sets:
            by_length.setdefault(len(one), []).append(one)
        self.blocks: list[IndexArray] = [
            np.array(by_length[length], dtype=np.intp) for length in sorted(by_length)
        ]
        self._first: IndexArray = np.zeros(size, dtype=np.intp)
        self._place: IndexArray = np.zeros(size, dtype=np.intp)
        self._set: IndexArray = np.zeros(size, dtype=np.intp)
        self.entries: int = size
        for members in self.blocks:
            count, length = members.shape
            order: IndexArray = np.arange(count * length, dtype=np.intp)
            rows = self.entries + length * order.reshape(count, length)
            self._first[members] = rows
            self._place[members] = np.arange(length)
            self._set[members] = rows[:, :1]
            self.entries += count * length * length
        self.diagonal: IndexArray = self._first + self._place

    @property
    def largest(self) -> int:
        """How many unknowns the largest set has."""
        return max((members.shape[1] for members in self.blocks), default=0)

    @classmethod
    def whole(cls, size: int) -> Pattern:
        """Return the pattern of unknowns that all meet."""
        return cls(size, [range(1, size)] if size > 1 else [])

    def positions(self, left: IndexArray, right: IndexArray) -> IndexArray:
        """Return where pairs of unknowns lie; both must be of one set, or one of them 0."""
        inside = self._first[left] + self._place[right]
        found: IndexArray = np.where(left == 0, right, np.where(right == 0, left, inside))
        return found

    def of_one_set(self, left: IndexArray, right: IndexArray) -> BoolArray:
        """Say which pairs of unknowns are of one set; 0 is of none."""
        together: BoolArray = (self._set[left] == self._set[right]) & (left > 0)
        return together

    def gathered(self, dense: FloatArray) -> Arrow:
        """Return the arrow of a symmetric matrix, which must be 0 where unknowns do not meet."""
        values = [dense[0]]
        values += [dense[m[:, :, None], m[:, None, :]].ravel() for m in self.blocks]
        return Arrow(self, np.concatenate(values))

    def parts(self, values: FloatArray) -> Iterator[tuple[IndexArray, FloatArray]]:
        """Give each size's sets, and views of their blocks, shape (sets, length, length)."""
        start = self.size
        for members in self.blocks:
            count, length = members.shape
            stop = start + count * length * length
            yield members, values[start:stop].reshape(count, length, length)
            start = stop


class Arrow:
    """A symmetric matrix of a pattern.

    Attributes:
        pattern: which of its entries may differ from 0.
        values: the border (the corner first), then the blocks, shape (pattern.entries,).
    """

    __slots__ = ("pattern", "values")

    def __init__(self, pattern: Pattern, values: FloatArray) -> None:
        self.pattern = pattern
        self.values = values

    @classmethod
    def zero(cls, pattern: Pattern) -> Arrow:
        """Return the matrix of zeros."""
        return cls(pattern, np.zeros(pattern.entries))

    def times(self, vector: FloatArray) -> FloatArray:
        """Return the matrix times ``vector``."""
        border = self.values[: self.pattern.size]
        product: FloatArray = border * vector[0]
        for members, block in self.pattern.parts(self.values):
            product[members] += np.einsum("kij,kj->ki", block, vector[members])
        product[0] = np.einsum("i,i->", border, vector)
        return product

    def scaled(self, unit: FloatArray) -> Arrow:
        """Return the matrix with row and column ``i`` multiplied by ``unit[i]``."""
        pattern = self.pattern
        values = self.values.copy()
        values[: pattern.size] *= unit[0] * unit
        for members, block in pattern.parts(values):
            np.multiply(block, unit[members][:, :, None] * unit[members][:, None, :], out=block)
        return Arrow(pattern, values)

    def solve(self, right: FloatArray, free: BoolArray) -> FloatArray:
        """Return the solution over the ``free`` unknowns; the others are 0.

        The matrix must be positive definite.
        """
        border = self.values[: self.pattern.size]
        solved = np.zeros((len(right), 2))
        both = np.stack((right, border), axis=1)
        for members, block in self.pattern.parts(self.values):
            _solve_blocks(block, members, both, free, solved)
        solution: FloatArray = solved[:, 0]
        if free[0]:
            across = np.einsum("i,ij->j", border[1:], solved[1:])
            first = (right[0] - across[0]) / (border[0] - across[1])
            solution = solution - first * solved[:, 1]
            solution[0] = first
        return solution

    def inverse(self) -> ArrowInverse:
        """Return the inverse; the matrix must be positive definite."""
        return ArrowInverse(self)

    def dense(self) -> FloatArray:
        """Return the matrix in full."""
        size = self.pattern.size
        full: FloatArray = np.zeros((size, size))
        for members, block in self.pattern.parts(self.values):
            full[members[:, :, None], members[:, None, :]] = block
        full[0] = full[:, 0] = self.values[:size]
        return full


class ArrowInverse:
    """The inverse of an arrow: the blocks' inverses, and ``z z' / s``.

    Attributes:
        pattern: the arrow's.
        values: 0 for the border, then the blocks' inverses.
        across: ``z``.
        remaining: ``s``.
    """

    __slots__ = ("across", "pattern", "remaining", "values")

    def __init__(self, arrow: Arrow) -> None:
        self.pattern = arrow.pattern
        border = arrow.values[: self.pattern.size]
        self.values: FloatArray = np.zeros(len(arrow.values))
        self.across: FloatArray = np.zeros(self.pattern.size)
        theirs = self.pattern.parts(arrow.values)
        for (_, inverse), (_, block) in zip(self.pattern.parts(self.values), theirs, strict=True):
            inverse[:] = _inverted(block)
        # Solved for, not multiplied out: where twins are in a block, the inverse is all null space,
        # and of its product with the border nothing would be left but rounding.
        everywhere = np.ones(self.pattern.size, dtype=np.bool_)
        solved = np.zeros((self.pattern.size, 1))
        for members, block in self.pattern.parts(arrow.values):
            _solve_blocks(block, members, border[:, None], everywhere, solved)
        self.across -= solved[:, 0]
        self.across[0] = 1.0
        self.remaining = float(np.einsum("i,i->", border, self.across))

    def times(self, vector: FloatArray) -> FloatArray:
        """Return the inverse times ``vector``."""
        share = np.einsum("i,i->", self.across, vector) / self.remaining
        product: FloatArray = self.across * share
        for members, inverse in self.pattern.parts(self.values):
            product[members] += np.einsum("kij,kj->ki", inverse, vector[members])
        return product

    def trace_of_product(self, arrow: Arrow) -> float:
        """Return the trace of the inverse times an arrow of the same pattern."""
        size = self.pattern.size
        own = np.einsum("i,i->", self.values[size:], arrow.values[size:])
        through_border = np.einsum("i,i->", self.across, arrow.times(self.across))
        return float(own + through_border / self.remaining)


def _solve_blocks(
    block: FloatArray,
    members: IndexArray,
    right: FloatArray,
    free: BoolArray,
    solved: FloatArray,
) -> None:
    count, length = members.shape
    kept = free[members]
    if length == 1:
        solved[members[:, 0]] = np.where(kept, right[members[:, 0]] / block[:, 0], 0.0)
    elif count > 1 and length <= _TOGETHER:
        both_kept = kept[:, :, None] & kept[:, None, :]
        masked = np.where(both_kept, block, np.eye(length))
        solved[members] = np.linalg.solve(masked, right[members] * kept[:, :, None])
    else:
        for one, its_members, is_free in zip(block, members, kept, strict=True):
            if is_free.all():
                solved[its_members] = spd.solve(one, right[its_members])
            elif is_free.any():
                index = its_members[is_free]
                solved[index] = spd.solve(one[np.ix_(is_free, is_free)], right[index])


def _inverted(block: FloatArray) -> FloatArray:
    count, length = block.shape[:2]
    if length == 1:
        reciprocal: FloatArray = 1.0 / block
        return reciprocal
    if count > 1 and length <= _TOGETHER:
        together: FloatArray = np.linalg.inv(block).astype(np.float64, copy=False)
        return together
    return np.stack([spd.inverse(one) for one in block])
