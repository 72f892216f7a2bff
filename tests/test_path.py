"""One problem for many values: the same solutions as one by one, for less."""

from __future__ import annotations

import numpy as np
import pytest

import gplconvex as gc
from tests import strategies as cases
from tests.test_solvers import assert_same_point

REGULARIZERS = (gc.SquaredL2(0.7), gc.L2(1.5), gc.SmoothL2(1.5, 0.5))
VALUES = (0.1, 1.0, 0.3, 30.0)


@pytest.mark.parametrize("method", ["newton", "lbfgs"])
@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
@pytest.mark.parametrize("which", ["lam", "nu"])
def test_a_path_is_what_its_values_are_one_by_one(regularizer, method, which):
    problem = cases.example(gc.Logistic(True), regularizer, d=3)
    found = gc.solve_path(problem, **{which: VALUES}, method=method)
    assert len(found) == 4
    for value, solution in zip(VALUES, found, strict=True):
        r = (
            type(regularizer)(**{**vars(regularizer), "lam": value})
            if which == "lam"
            else regularizer
        )
        nu = value if which == "nu" else problem.nu
        alone = gc.solve(gc.Problem(problem.loss, r, problem.datasets, nu))
        assert solution.status is gc.Status.OPTIMAL
        assert solution.problem.regularizer == r
        assert (solution.problem.nu == nu).all()
        assert_same_point(solution, alone)


def test_neighbours_are_cheap():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 300, 40))
    data = [(a, rng.integers(4, size=300)) for a in x]
    problem = gc.Problem(gc.Softmax(4), gc.SquaredL2(1.0), data, 0.1)
    near = gc.solve_path(problem, lam=[1.0, 1.01, 1.02], method="lbfgs")
    passes = [solution.stats["passes"] for solution in near]
    assert max(passes[1:]) <= 0.6 * passes[0]


def test_the_reference_and_hard_consensus_take_part():
    problem = cases.example(gc.LeastSquares(), gc.HardConsensus())
    ours, reference = (gc.solve_path(problem, nu=[0.2, 2.0], method=m) for m in ("auto", "cvxpy"))
    for one, other in zip(ours, reference, strict=True):
        assert_same_point(one, other)


def test_an_interrupt_ends_the_path_with_what_was_reached():
    problem = cases.example(gc.Logistic(), gc.SquaredL2(1.0))
    calls = []

    def progress(state):
        calls.append(state.iteration)
        if calls.count(1) == 2:
            raise KeyboardInterrupt

    found = gc.solve_path(problem, lam=[0.1, 50.0, 100.0], progress=progress)
    assert [solution.stopped for solution in found] == ["converged", "interrupted"]
    assert found[1].certificate == gc.certify(found[1].problem, found[1].rho, found[1].thetas)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"lam": [1.0], "nu": [1.0]},
        {"lam": []},
        {"lam": [1.0, -1.0]},
        {"nu": [0.1, float("nan")]},
    ],
    ids=repr,
)
def test_bad_values_are_refused_before_any_is_solved(values, monkeypatch):
    monkeypatch.setattr("gplconvex.solvers.path.solve", None)
    with pytest.raises(gc.InvalidInputError):
        gc.solve_path(cases.example(gc.LeastSquares(), gc.SquaredL2(1.0)), **values)


def test_hard_consensus_has_no_lam():
    with pytest.raises(gc.UnsupportedCombinationError, match="give nu"):
        gc.solve_path(cases.example(gc.LeastSquares(), gc.HardConsensus()), lam=[1.0])
