"""The memory of others while it moves: one level for each stretch of readings, not one for all.

Other processes come and go by gigabytes, and stay for a while. A regression with one level for
their memory would charge such a step to whichever models ran more often after it. Where the
residuals show one (they follow each other, as those of independent spikes do not), the costs are
first found from *differences* of readings that follow each other: the level cancels, and a step is
one outlier. What those costs leave over is the level at each reading; it is cut into stretches, and
each stretch is moved to the latest one's level.

Pure arithmetic on readings in their order; the regression itself is ``estimation.robust``'s.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelmgr.estimation.arrow import Pattern
from modelmgr.estimation.robust import ROUNDING, Problem, Solution, solve_robust
from modelmgr.estimation.spd import FloatArray

_FEWEST = 12  # readings, from which a step can be told from noise
_CORRELATED = 0.25  # of the residuals with the next ones,
_CORRELATED_SDS = 3.5  # and this many standard deviations of what independent ones show
_CLIPPED = 10.0  # scales: how large a residual is no longer matters
_STEP = 8.0  # standard deviations of a level's noise
_STAYS = 3  # readings in a row, from which it is a step and no spike
_RECENT = 15  # readings that say where a stretch is
_ROUNDS = 3
_BETTER = 0.9  # of the scale
_AFFORDABLE = 512  # unknowns: the cube of them, however few of them were seen together


def solve_with_levels(problem: Problem) -> tuple[Solution, FloatArray]:
    """Return the robust solution, and what to take off each reading, shape (n,).

    Args:
        problem: with the readings in their order; column 0 of its design is the memory of others.
    """
    plain = solve_robust(problem)
    nothing = np.zeros(len(problem.readings))
    if not _follow_each_other(_left_over(problem, plain.theta), plain.scale):
        return plain, nothing
    start = _solved_by_differences(problem) or plain
    best: tuple[Solution, FloatArray] = plain, nothing
    costs = start.theta.copy()
    for _ in range(_ROUNDS):
        costs[0] = 0.0
        offsets = level_offsets(_left_over(problem, costs))
        solution = solve_robust(replace(problem, readings=problem.readings - offsets))
        if solution.scale < _BETTER * plain.scale or _rejected(solution) < _BETTER * _rejected(
            plain
        ):
            best = solution, offsets
        if np.abs(solution.theta - costs)[1:].max(initial=0.0) < 0.1 * solution.scale:
            break
        costs = solution.theta.copy()
    return best


def level_offsets(levels: FloatArray) -> FloatArray:
    """Return how far each level's stretch lies above the last stretch, shape (n,)."""
    noise = float(np.median(np.abs(np.diff(levels)))) * 1.4826 / 2.0**0.5
    step = max(_STEP * noise, 1e-12)
    starts = [0]
    for row in (np.flatnonzero(np.abs(np.diff(levels)) > 0.5 * step) + 1).tolist():
        following = levels[row : row + _STAYS]
        if len(following) < _STAYS or row - starts[-1] < _STAYS:
            continue
        here = float(np.median(levels[max(starts[-1], row - _RECENT) : row]))
        if np.abs(following - here).min() > step and np.ptp(following) < step:
            starts.append(row)
    ends = [*starts[1:], len(levels)]
    centers = [float(np.median(levels[start:end])) for start, end in zip(starts, ends, strict=True)]
    return np.repeat(np.array(centers) - centers[-1], np.diff([*starts, len(levels)]))


def _follow_each_other(residuals: FloatArray, scale: float) -> bool:
    count = len(residuals)
    if count < _FEWEST or float(np.abs(residuals).max()) < ROUNDING:
        return False
    clipped = np.clip(residuals / scale, -_CLIPPED, _CLIPPED)
    clipped -= clipped.mean()
    power = float(clipped @ clipped)
    if power <= 0.0:
        return False
    correlation = float(clipped[1:] @ clipped[:-1]) / power
    enough: float = max(_CORRELATED, _CORRELATED_SDS / float(count) ** 0.5)
    return correlation > enough


def _left_over(problem: Problem, theta: FloatArray) -> FloatArray:
    return problem.readings - problem.design.times(theta)


def _rejected(solution: Solution) -> int:
    return int(np.count_nonzero(solution.weights < 0.5))


def _solved_by_differences(problem: Problem) -> Solution | None:
    """Return what differences of readings that follow each other say; None where it is too dear.

    Each of them ties the models of two readings together, so that all unknowns meet.
    """
    pattern = problem.history.pattern
    if pattern.size > max(_AFFORDABLE, 2 * pattern.largest):
        return None
    differences, kept = problem.design.differences()
    return solve_robust(
        replace(
            problem,
            design=differences,
            readings=np.diff(problem.readings)[kept],
            history=Pattern.whole(pattern.size).gathered(problem.history.dense()),
        )
    )
