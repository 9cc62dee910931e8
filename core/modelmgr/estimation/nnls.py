"""Non-negative least squares on a Gram matrix, by block principal pivoting.

Minimise ``x' G x / 2 - g' x`` over ``x >= 0`` for a positive definite ``G``. The conditions of
Karush, Kuhn and Tucker ask for a split of the variables into a passive set (``x`` free, gradient 0)
and an active one (``x = 0``, gradient not negative). Block principal pivoting guesses the split,
solves for it, and exchanges every variable that breaks a condition at once; when that has not
reduced the number of broken ones three times in a row, it exchanges only the last of them (Murty's
rule), which cannot cycle. Portugal, Júdice and Vicente, "A comparison of block pivoting and
interior point algorithms for linear least squares problems with nonnegative variables", Mathematics
of Computation 63 (1994); Kim and Park, SIAM J. Scientific Computing 33 (2011).

The cost does not depend on how many observations went into ``G``. This module knows nothing of
models or memory. Callers make ``G`` positive definite (a ridge) where it is not.
"""

from __future__ import annotations

import numpy as np

from modelmgr.estimation.arrow import Arrow, BoolArray
from modelmgr.estimation.spd import FloatArray

_FULL_EXCHANGES = 3  # Kim and Park's choice for the tries without progress
_TOLERANCE = 1e-12  # of the largest entry of x or g: rounding, not a broken condition


def solve_nonnegative(
    gram: Arrow, moment: FloatArray, passive: BoolArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """Return the minimiser over ``x >= 0`` and its passive set.

    Args:
        gram: positive definite, of p unknowns.
        moment: shape (p,).
        passive: a guess of the passive set (a neighbouring problem's), all variables otherwise.
    """
    size = len(moment)
    free = np.ones(size, dtype=np.bool_) if passive is None else passive.copy()
    fewest_broken = size + 1
    tries = _FULL_EXCHANGES
    gradient_floor = -_TOLERANCE * float(np.abs(moment).max(initial=0.0))
    for _ in range(30 + 10 * size):
        solution = gram.solve(moment, free)
        solution_floor = -_TOLERANCE * float(np.abs(solution).max(initial=0.0))
        broken = solution < solution_floor
        if not free.all():
            gradient = gram.times(solution) - moment
            broken = np.where(free, broken, gradient < gradient_floor)
        count = int(np.count_nonzero(broken))
        if count == 0:
            return np.maximum(solution, 0.0), free
        if count < fewest_broken:
            fewest_broken, tries = count, _FULL_EXCHANGES
        elif tries > 0:
            tries -= 1
        else:
            last = int(np.flatnonzero(broken)[-1])
            broken[:] = False
            broken[last] = True
        free ^= broken
    return solve_by_factor(gram, moment)


def solve_by_factor(gram: Arrow, moment: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Solve by Lawson and Hanson's method on the Cholesky factor: slow, for the rarest inputs."""
    from scipy.optimize import nnls  # noqa: PLC0415  0.7 s to import, hardly ever needed

    factor = np.linalg.cholesky(gram.dense())
    solution = np.asarray(nnls(factor.T, np.linalg.solve(factor, moment))[0], dtype=np.float64)
    return solution, solution > 0.0
