"""Solve and invert small symmetric positive definite matrices without waking a thread.

For some hundred unknowns LAPACK's own solvers are fast alone, but hand their triangular parts to a
threaded BLAS, whose threads wait for each other by spinning: on a machine with busy cores one solve
of 101 unknowns took 48 ms on average instead of 0.1. The Cholesky factor stays in one thread at
the size of a block, an inverse at that of a leaf, a product at that of a tile.

Pure arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_WHOLE = 64  # unknowns that LAPACK factors in one thread; 201 took 0.2 s where cores were busy
_LEAF = 32  # unknowns from which two halves are substituted one after the other
_TILE = 62  # of a product, each way: its cube is below what OpenBLAS starts threads for


def cholesky(matrix: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor, by halves; LinAlgError if not positive definite."""
    size = len(matrix)
    if size <= _WHOLE:
        whole: FloatArray = np.linalg.cholesky(matrix).astype(np.float64, copy=False)
        return whole
    half = size // 2
    factor: FloatArray = np.zeros((size, size))
    factor[:half, :half] = cholesky(matrix[:half, :half])
    side = _substituted(factor[:half, :half], matrix[:half, half:])
    factor[half:, :half] = side.T
    factor[half:, half:] = cholesky(matrix[half:, half:] - gram(side))
    return factor


def solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Return ``matrix^-1 right``, a vector or a matrix; LinAlgError if not positive definite."""
    factor = cholesky(matrix)
    white = _substituted(factor, right.reshape(len(right), -1))
    turned = factor.T[::-1, ::-1]  # the transposed one from its last row up, which is lower as well
    return _substituted(turned, white[::-1])[::-1].reshape(right.shape)


def whiten(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Return ``L^-1 right`` for the Cholesky factor ``L`` of ``matrix`` and a matrix ``right``."""
    factor = cholesky(matrix)
    return _substituted(factor, right)


def _substituted(factor: FloatArray, right: FloatArray) -> FloatArray:
    size = len(right)
    if size <= _LEAF:
        leaf: FloatArray = np.linalg.inv(factor).astype(np.float64, copy=False)
        return _product(leaf, right)
    half = size // 2
    upper = _substituted(factor[:half, :half], right[:half])
    lower = right[half:] - _product(factor[half:, :half], upper)
    return np.concatenate((upper, _substituted(factor[half:, half:], lower)))


def gram(matrix: FloatArray) -> FloatArray:
    """Return ``matrix' matrix``."""
    size = matrix.shape[1]
    total: FloatArray = np.zeros((size, size))
    tiles = _tiles(size, _TILE)
    for rows in _tiles(len(matrix), _TILE**3 // min(size or 1, _TILE) ** 2):
        for number, left in enumerate(tiles):
            part = matrix[rows, left].T
            for right in tiles[number:]:
                total[left, right] += part @ matrix[rows, right]
    for number, left in enumerate(tiles):
        for right in tiles[number + 1 :]:
            total[right, left] = total[left, right].T
    return total


def inverse(matrix: FloatArray) -> FloatArray:
    """Return ``matrix^-1``; LinAlgError if it is not positive definite."""
    return gram(whiten(matrix, np.eye(len(matrix))))


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    total: FloatArray = np.zeros((left.shape[0], right.shape[1]))
    for rows in _tiles(left.shape[0], _TILE):
        for inner in _tiles(left.shape[1], _TILE):
            part = left[rows, inner]
            for columns in _tiles(right.shape[1], _TILE):
                total[rows, columns] += part @ right[inner, columns]
    return total


def _tiles(size: int, length: int) -> list[slice]:
    return [slice(start, start + length) for start in range(0, size, length)]
