"""Solve and invert small symmetric positive definite matrices without waking a thread.

For some hundred unknowns LAPACK's own solvers are fast alone, but hand their triangular parts to a
threaded BLAS, whose threads wait for each other by spinning: on a machine with busy cores one solve
of 101 unknowns took 48 ms on average instead of 0.1. The Cholesky factor stays in one thread at
the size of a block; substitution by rows costs 2 microseconds a row, and einsum is numpy's own.

Pure arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_WHOLE = 64  # unknowns that LAPACK factors in one thread; 201 took 0.2 s where cores were busy
_PRODUCT = 244_000  # multiplications at a time: below what OpenBLAS starts threads for


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
    """Return ``matrix^-1 right`` for a vector ``right``; LinAlgError if not positive definite."""
    factor = cholesky(matrix)
    diagonal: list[float] = np.diagonal(factor).tolist()
    size = len(diagonal)
    solution = right.astype(np.float64)
    for row in range(size):
        solution[row] = (solution[row] - factor[row, :row] @ solution[:row]) / diagonal[row]
    transposed = np.ascontiguousarray(factor.T)
    for row in range(size - 1, -1, -1):
        after = row + 1
        rest = transposed[row, after:] @ solution[after:]
        solution[row] = (solution[row] - rest) / diagonal[row]
    return solution


def whiten(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Return ``L^-1 right`` for the Cholesky factor ``L`` of ``matrix`` and a matrix ``right``."""
    factor = cholesky(matrix)
    return _substituted(factor, right)


def _substituted(factor: FloatArray, right: FloatArray) -> FloatArray:
    white = right.astype(np.float64)
    for row in range(len(white)):
        white[row] -= np.einsum("j,jk->k", factor[row, :row], white[:row])
        white[row] /= factor[row, row]
    return white


def gram(matrix: FloatArray) -> FloatArray:
    """Return ``matrix' matrix``."""
    size = matrix.shape[1]
    total: FloatArray = np.zeros((size, size))
    chunk = max(_PRODUCT // (size * size or 1), 4)
    for start in range(0, len(matrix), chunk):
        part = matrix[start : start + chunk]
        total += part.T @ part
    return total


def inverse(matrix: FloatArray) -> FloatArray:
    """Return ``matrix^-1``; LinAlgError if it is not positive definite."""
    return gram(whiten(matrix, np.eye(len(matrix))))
