"""HiGHS through scipy: the one place here that solves programmes, and that imports scipy.

scipy is imported when a programme is solved, as that alone takes most of a second. Its stubs know
no sparse matrices, so it is untyped here and typed to everybody else. Everything is maximised.

The HiGHS of scipy 1.17 writes a debugging line to C's stdout for some programmes, whatever it is
told (github.com/jump-dev/HiGHS.jl/issues/312); whoever's stdout is a result must keep it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_OPTIMAL = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """A sparse matrix by columns.

    Attributes:
        values: of the entries, column after column.
        rows: of the entries.
        starts: where each column's entries begin, and behind them the end of the last.
        row_count: how many rows there are.
    """

    values: Floats
    rows: Ints
    starts: Ints
    row_count: int

    def as_scipy(self) -> Any:  # noqa: ANN401  # scipy's stubs fit no use of it
        """Return it as scipy has it."""
        sparse: Any = import_module("scipy.sparse")
        shape = (self.row_count, len(self.starts) - 1)
        return sparse.csc_array((self.values, self.rows, self.starts), shape=shape)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mixed-integer programme came to.

    Attributes:
        at_most: no solution is worth more; None where the solver did not get to it.
        solution: the best one found; None where none was found.
        is_optimal: the solver closed the gap it was asked to.
        is_infeasible: there is no solution at all.
    """

    at_most: float | None
    solution: Floats | None
    is_optimal: bool
    is_infeasible: bool


def row_duals(
    worth: Floats, matrix: Columns, limits: Floats, *, time_limit_s: float | None = None
) -> Floats | None:
    """Return what more of each row's limit would be worth, for shares of columns between 0 and 1.

    None where the time limit ended it first. Never negative.
    """
    optimize: Any = import_module("scipy.optimize")
    answer = optimize.linprog(
        -worth,
        A_ub=matrix.as_scipy(),
        b_ub=limits,
        bounds=(0.0, 1.0),
        method="highs-ds",
        options={} if time_limit_s is None else {"time_limit": time_limit_s},
    )
    if answer.status != _OPTIMAL:
        return None
    return np.maximum(-np.asarray(answer.ineqlin.marginals, dtype=np.float64), 0.0)


def best_integers(
    worth: Floats,
    matrix: Columns,
    limits: Floats,
    *,
    least: Floats | None = None,
    most: Floats | None = None,
    continuous: npt.NDArray[np.bool_] | None = None,
    time_limit_s: float | None = None,
    relative_gap: float = 0.0,
) -> Answer:
    """Return the solution of most worth whose rows are within their limits.

    Args:
        worth: of one unit of each column.
        matrix: what each column takes of each row.
        limits: of the rows, from above.
        least: of the rows, from below; None for no such limits.
        most: of each column; None for 1. None goes below 0.
        continuous: columns that need not be whole; None for none.
        time_limit_s: when to stop, seconds.
        relative_gap: between solution and bound, when to stop.
    """
    optimize: Any = import_module("scipy.optimize")
    options: dict[str, float] = {"mip_rel_gap": relative_gap}
    if time_limit_s is not None:
        options["time_limit"] = time_limit_s
    whole = np.ones(len(worth)) if continuous is None else np.where(continuous, 0.0, 1.0)
    answer = optimize.milp(
        -worth,
        integrality=whole,
        bounds=optimize.Bounds(0.0, 1.0 if most is None else most),
        constraints=optimize.LinearConstraint(
            matrix.as_scipy(), -np.inf if least is None else least, limits
        ),
        options=options,
    )
    dual = answer.mip_dual_bound
    return Answer(
        at_most=-float(dual) if dual is not None and np.isfinite(dual) else None,
        solution=None if answer.x is None else np.asarray(answer.x, dtype=np.float64),
        is_optimal=answer.status == _OPTIMAL,
        is_infeasible=answer.status == 2,
    )
