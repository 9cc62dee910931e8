"""The parts that know nothing of models: linear algebra, quantiles, forgetting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import nnls

from modelmgr.estimation import spd
from modelmgr.estimation.arrow import Arrow, Pattern
from modelmgr.estimation.belief import Belief, forget
from modelmgr.estimation.identifiability import Information
from modelmgr.estimation.isolation import MAX_SAMPLES, IsolationSamples
from modelmgr.estimation.nnls import solve_by_factor, solve_nonnegative
from modelmgr.estimation.quantiles import normal_quantile, student_quantile
from modelmgr.estimation.robust import Problem, one_sided_weights, solve_robust
from modelmgr.estimation.sparse import SparseRows
from modelmgr.estimation.spd import FloatArray


def counts(generator: np.random.Generator, rows: int, columns: int) -> FloatArray:
    return generator.poisson(0.7, (rows, columns)).astype(np.float64)


def whole(matrix: FloatArray) -> Arrow:
    return Pattern.whole(len(matrix)).gathered(matrix)


SETS = [[1], [2], [3, 4], [5, 9], [6], [7, 8, 10, 11, 12], list(range(13, 50))]
PATTERN = Pattern(50, SETS)


def apart(generator: np.random.Generator) -> FloatArray:
    """A few readings of each set alone, and of nothing but the memory of others."""
    design = np.zeros((8 * len(SETS) + 1, PATTERN.size))
    design[:, 0] = 1.0
    for number, members in enumerate(SETS):
        design[8 * number : 8 * number + 8, members] = counts(generator, 8, len(members))
    return design


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_block_pivoting_agrees_with_lawson_and_hanson(size: int) -> None:
    generator = np.random.default_rng(size)
    for _ in range(40):
        design = generator.normal(size=(size + 5, size))
        right = generator.normal(size=size + 5)
        mine, free = solve_nonnegative(whole(design.T @ design), design.T @ right)
        reference = nnls(design, right)[0]
        np.testing.assert_allclose(mine, reference, atol=1e-8)
        assert not mine[~free].any()


def test_block_pivoting_survives_twin_columns() -> None:
    generator = np.random.default_rng(7)
    for _ in range(200):
        half = counts(generator, 30, 6)
        design = np.hstack([half, half])
        gram = design.T @ design + 1e-9 * np.eye(12)
        solution, _ = solve_nonnegative(whole(gram), design.T @ (design @ np.ones(12)))
        assert np.isfinite(solution).all()
        np.testing.assert_allclose(design @ solution, design @ np.ones(12), rtol=1e-5)


def test_a_guess_of_the_passive_set_does_not_change_the_solution() -> None:
    generator = np.random.default_rng(3)
    design = generator.normal(size=(12, 8))
    gram, moment = whole(design.T @ design), design.T @ generator.normal(size=12)
    plain, _ = solve_nonnegative(gram, moment)
    guessed, _ = solve_nonnegative(gram, moment, np.zeros(8, dtype=np.bool_))
    np.testing.assert_allclose(plain, guessed, atol=1e-10)
    np.testing.assert_allclose(plain, solve_by_factor(gram, moment)[0], atol=1e-8)


def test_spd_solutions_are_those_of_lapack() -> None:
    generator = np.random.default_rng(1)
    design = generator.normal(size=(90, 60))
    matrix = design.T @ design
    right = generator.normal(size=60)
    np.testing.assert_allclose(spd.solve(matrix, right), np.linalg.solve(matrix, right), rtol=1e-9)
    sides = generator.normal(size=(60, 3))
    np.testing.assert_allclose(spd.solve(matrix, sides), np.linalg.solve(matrix, sides), rtol=1e-8)
    np.testing.assert_allclose(spd.inverse(matrix), np.linalg.inv(matrix), atol=1e-10)


@pytest.mark.parametrize("columns", [3, 200])
def test_sparse_products_are_the_dense_ones(columns: int) -> None:
    generator = np.random.default_rng(columns)
    matrix = counts(generator, 50, columns) * (generator.random((50, columns)) < 0.05)
    weights, vector = generator.random(50), generator.random(columns)
    square = generator.random((columns, columns))
    rows = SparseRows.of_matrix(matrix)
    inverse = whole(square @ square.T + np.eye(columns)).inverse()
    np.testing.assert_allclose(rows.gram(weights), (matrix.T * weights) @ matrix, atol=1e-12)
    np.testing.assert_allclose(rows.times(vector), matrix @ vector, atol=1e-12)
    np.testing.assert_allclose(rows.transposed_times(weights), matrix.T @ weights, atol=1e-12)
    solved = np.linalg.solve(square @ square.T + np.eye(columns), matrix.T)
    forms = np.einsum("ij,ji->i", matrix, solved)
    np.testing.assert_allclose(rows.quadratic_forms(inverse), forms, atol=1e-10)
    np.testing.assert_allclose(rows.squares(), (matrix**2).sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(rows.dense(), matrix)
    np.testing.assert_allclose(rows.head(20).dense(), matrix[:20])


def test_differences_are_those_of_the_full_rows() -> None:
    matrix = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [1.0, 0.0, 3.0], [1.0, 1.0, 3.0]])
    differences, kept = SparseRows.of_matrix(matrix).differences()
    assert kept.tolist() == [1, 2]
    np.testing.assert_allclose(differences.dense(), np.diff(matrix, axis=0)[kept])


def test_an_arrow_computes_what_its_full_matrix_does() -> None:
    generator = np.random.default_rng(11)
    rows = SparseRows.of_matrix(apart(generator))
    weights = generator.random(rows.shape[0]) + 0.1
    dense = rows.gram(weights) + np.eye(PATTERN.size)
    arrow = rows.arrow(weights, PATTERN)
    arrow.values[PATTERN.diagonal] += 1.0
    np.testing.assert_allclose(arrow.dense(), dense, atol=1e-12)
    np.testing.assert_allclose(PATTERN.gathered(dense).values, arrow.values, atol=1e-12)
    vector = generator.normal(size=PATTERN.size)
    np.testing.assert_allclose(arrow.times(vector), dense @ vector, atol=1e-10)
    np.testing.assert_allclose(
        arrow.scaled(vector).dense(), dense * vector[:, None] * vector, atol=1e-10
    )
    inverse = arrow.inverse()
    np.testing.assert_allclose(inverse.times(vector), np.linalg.solve(dense, vector), atol=1e-10)
    trace = float(np.trace(np.linalg.solve(dense, arrow.dense())))
    assert inverse.trace_of_product(arrow) == pytest.approx(trace)
    across = SparseRows.of_matrix(counts(generator, 9, PATTERN.size))  # sets mixed in one row
    forms = np.einsum("ij,ji->i", across.dense(), np.linalg.solve(dense, across.dense().T))
    np.testing.assert_allclose(across.quadratic_forms(inverse), forms, atol=1e-10)


@pytest.mark.parametrize("seed", range(8))
def test_an_arrow_solves_for_any_free_unknowns_what_its_full_matrix_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    dense = SparseRows.of_matrix(apart(generator)).gram(np.ones(8 * len(SETS) + 1))
    dense += 1e-3 * np.eye(PATTERN.size)
    right = generator.normal(size=PATTERN.size)
    free = generator.random(PATTERN.size) < generator.random()
    solution = np.zeros(PATTERN.size)
    if free.any():
        solution[free] = np.linalg.solve(dense[np.ix_(free, free)], right[free])
    np.testing.assert_allclose(PATTERN.gathered(dense).solve(right, free), solution, atol=1e-7)


def test_twins_in_one_set_leave_the_memory_of_others_as_open_as_it_is() -> None:
    """Rounding made the twins' null space look like knowledge of the memory of others."""
    design = np.array([[1.0, 1.0, 1.0, 0.0]] * 5 + [[1.0, 0.0, 0.0, 1.0]] * 5)
    for pattern in (Pattern(4, [[1, 2], [3]]), Pattern.whole(4)):
        rows = SparseRows.of_matrix(design)
        information = Information(rows.arrow(np.ones(10), pattern))
        every = SparseRows.of_matrix(np.eye(4))
        assert not information.determines(every).any()
        seen = SparseRows.of_matrix(design[[0, 5]])
        assert information.determines(seen).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_regression_by_sets_is_the_regression_of_all_at_once(seed: int) -> None:
    """Spikes, terms and a memory of others: everything that couples the sets."""
    generator = np.random.default_rng(seed)
    design = np.vstack([apart(generator) for _ in range(4)])
    costs = generator.uniform(0.01, 0.1, PATTERN.size) * (generator.random(PATTERN.size) < 0.9)
    readings = design @ costs + generator.normal(0.0, 1e-3, len(design))
    readings[generator.random(len(design)) < 0.1] += 0.5
    terms = np.eye(PATTERN.size)[[2, 4, 30]]
    solutions = [
        solve_robust(
            Problem(
                SparseRows.of_matrix(design),
                readings,
                Arrow.zero(pattern),
                np.zeros(PATTERN.size),
                SparseRows.of_matrix(terms),
                terms @ costs,
                np.full(3, 1e-2),
            )
        )
        for pattern in (PATTERN, Pattern.whole(PATTERN.size))
    ]
    by_sets, at_once = solutions
    np.testing.assert_allclose(by_sets.theta, at_once.theta, atol=1e-6)
    np.testing.assert_allclose(by_sets.weights, at_once.weights, atol=1e-4)
    assert by_sets.scale == pytest.approx(at_once.scale, rel=1e-4)
    assert by_sets.degrees == pytest.approx(at_once.degrees, rel=1e-4)
    information = [
        Information(SparseRows.of_matrix(design).arrow(np.ones(len(design)), pattern))
        for pattern in (PATTERN, Pattern.whole(PATTERN.size))
    ]
    every = SparseRows.of_matrix(np.eye(PATTERN.size))
    np.testing.assert_array_equal(
        information[0].determines(every), information[1].determines(every)
    )
    pairs = SparseRows.of_matrix(counts(generator, 20, PATTERN.size) + np.eye(20, PATTERN.size))
    np.testing.assert_allclose(information[0].gain(pairs), information[1].gain(pairs), rtol=1e-4)


@pytest.mark.parametrize("probability", [0.9, 0.975, 0.99, 0.995])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 30, 1000])
def test_student_quantiles_are_those_of_the_tables(probability: float, degrees: int) -> None:
    reference = float(stats.t.ppf(probability, degrees))
    assert student_quantile(probability, degrees) == pytest.approx(reference, rel=0.015)


def test_a_normal_quantile_is_that_of_the_tables() -> None:
    assert normal_quantile(0.975) == pytest.approx(1.959964, rel=1e-6)


def test_no_interval_is_made_up_from_no_degrees_of_freedom() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        student_quantile(0.975, 0.5)


def test_weights_count_spikes_for_nothing_and_clean_readings_in_full() -> None:
    weights = one_sided_weights(np.array([-9.0, -3.9, 0.0, 2.7, 4.6, 1e9]))
    assert weights.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_forgetting_takes_only_what_was_at_work() -> None:
    precision = np.diag([10.0, 20.0, 30.0])
    after = forget(precision, np.array([1]), 0.9)
    np.testing.assert_allclose(after, np.diag([10.0, 18.0, 30.0]))


def test_forgetting_creates_no_knowledge() -> None:
    """Scaling rows and columns, the simple way, would claim to know the other twin exactly."""
    twins = 100.0 * np.ones((2, 2))
    after = forget(twins, np.array([0]), 1e-9)
    assert after[1, 1] < 1e-3
    assert np.linalg.eigvalsh(twins - after).min() > -1e-9


def test_a_folded_belief_is_the_regression_of_its_readings() -> None:
    generator = np.random.default_rng(5)
    design = counts(generator, 40, 3)
    design[:, 0] = 1.0
    costs = np.array([5.0, 20.0, 30.0])
    belief = Belief.empty().folded(
        SparseRows.of_matrix(design), design @ costs, np.ones(40), trust=1.0, guess=np.zeros(3)
    )
    np.testing.assert_allclose(belief.center, costs, rtol=1e-6)
    centred = design - design.mean(axis=0)  # what is left when the foreign level is not kept
    np.testing.assert_allclose(belief.precision, centred.T @ centred, atol=1e-9)


def test_the_null_space_names_its_columns() -> None:
    design = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    information = Information(whole(design.T @ design))
    assert information.determines(SparseRows.of_matrix(np.eye(3))).tolist() == [False, False, True]
    both = SparseRows.of_matrix(np.array([[1.0, 1.0, 0.0]]))
    assert information.determines(both).tolist() == [True]
    assert information.confused_columns(np.array([1.0, 0.0, 0.0])).tolist() == [0, 1]


def test_the_lower_half_of_isolation_runs_decides() -> None:
    samples = IsolationSamples()
    samples.add(None, 9000.0, 1.0)
    assert samples.peak.value == 9000.0
    samples.add(None, 3000.0, 1.0)
    assert samples.peak.value == 3000.0
    samples.add(2000.0, 3010.0, 1.0)
    samples.add(None, 9500.0, 1.0)
    samples.add(None, 3020.0, 1.0)
    assert samples.peak.value == 3020.0
    assert samples.resident is not None
    assert samples.resident.value == 2000.0


def test_isolation_runs_are_bounded_and_the_latest_count() -> None:
    samples = IsolationSamples()
    for _ in range(100):
        samples.add(None, 1.0, 1.0)
    for _ in range(MAX_SAMPLES):
        samples.add(None, 2.0, 1.0)
    assert samples.peak.value == 2.0
    assert samples.runs == 100 + MAX_SAMPLES


def test_a_heavier_isolation_run_is_surer() -> None:
    light, heavy = IsolationSamples(), IsolationSamples()
    light.add(None, 100.0, 1.0)
    heavy.add(None, 100.0, 4.0)
    assert heavy.peak.sd == pytest.approx(light.peak.sd / 2.0)
    assert math.isfinite(light.peak.sd)
