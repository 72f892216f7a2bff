"""Progress, time limits and interrupts: what is told is true, and what was reached is kept."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import gplconvex as gc
from tests import strategies as cases

REGULARIZERS = (gc.SquaredL2(0.7), gc.L2(1.5), gc.SmoothL2(1.5, 0.5), gc.HardConsensus())
EVERY = pytest.mark.parametrize(
    ("method", "regularizer"),
    list(itertools.product(("newton", "lbfgs"), REGULARIZERS)),
    ids=lambda value: value if isinstance(value, str) else value.name,
)


@EVERY
def test_progress_tells_what_is_so(method, regularizer):
    """Objectives fall, passes and seconds grow, and the last gap is nearly the certified one."""
    problem = cases.example(gc.Softmax(3, True), regularizer, users=4, rows=30)
    seen: list[gc.Progress] = []
    solution = gc.solve(problem, method=method, progress=seen.append)
    assert [state.iteration for state in seen] == list(range(1, len(seen) + 1))
    assert len(seen) == solution.stats["iterations"]
    for before, after in itertools.pairwise(seen):
        slack = 1e-9 * (1.0 + abs(before.objective))
        assert after.objective <= before.objective + slack
        assert after.passes > before.passes
        assert after.seconds >= before.seconds
    last = seen[-1]
    assert last.objective == pytest.approx(solution.value, rel=1e-9)
    assert last.relative_gap <= 1e-9
    assert last.passes <= solution.stats["passes"]
    assert last.relative_gap == last.gap / (1.0 + abs(last.objective))


@EVERY
def test_every_gap_that_is_told_bounds_what_is_left(method, regularizer):
    problem = cases.example(gc.Logistic(True), regularizer, users=4, rows=30)
    seen: list[gc.Progress] = []
    solution = gc.solve(problem, method=method, progress=seen.append)
    for state in seen:
        assert state.objective - solution.value <= state.gap + 1e-12 * (1.0 + abs(solution.value))


@EVERY
@pytest.mark.parametrize("stop", ["time limit", "interrupted"])
def test_the_best_point_is_returned_with_its_certificate(method, regularizer, stop):
    problem = cases.example(gc.Softmax(4), regularizer, users=4, rows=40, d=4, nu=0.01)
    objectives = []

    def progress(state):
        objectives.append(state.objective)
        if stop == "interrupted" and state.iteration == 2:
            raise KeyboardInterrupt

    limit = 1e-9 if stop == "time limit" else None
    solution = gc.solve(problem, method=method, progress=progress, time_limit=limit)
    assert solution.stopped == stop
    assert solution.method == method
    assert solution.stats["iterations"] == len(objectives) <= 2
    assert solution.value == pytest.approx(objectives[-1], rel=1e-9)
    assert solution.certificate == gc.certify(problem, solution.rho, solution.thetas)
    optimum = gc.solve(problem)
    assert solution.value - optimum.value <= solution.certificate.gap * (1.0 + 1e-9)
    if solution.status is not gc.Status.OPTIMAL:
        with pytest.raises(gc.NotSolvedError):
            solution.require_optimal()


def test_an_interrupt_before_the_first_iteration_returns_the_start(monkeypatch):
    problem = cases.example(gc.Logistic(), gc.SquaredL2(1.0))

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(problem.local_losses), "expansion", interrupted)
    start = np.array([1.0, -2.0])
    solution = gc.solve(problem, start=start)
    assert solution.stopped == "interrupted"
    np.testing.assert_array_equal(solution.rho, start)
    assert math.isfinite(solution.certificate.gap)


@pytest.mark.parametrize("method", ["newton", "lbfgs"])
def test_an_error_in_a_callback_is_not_swallowed(method):
    def progress(state):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        gc.solve(cases.example(gc.Logistic(), gc.L2(1.0)), method=method, progress=progress)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, "soon", True])
def test_a_bad_time_limit_is_refused(limit):
    with pytest.raises(gc.InvalidInputError, match="time_limit must be a positive number"):
        gc.solve(cases.example(gc.Logistic(), gc.L2(1.0)), time_limit=limit)


def test_users_keep_their_models_when_others_come_and_go():
    """A solution as start: models go with the data, wherever the user now stands."""
    problem = cases.example(gc.Logistic(), gc.SquaredL2(1.0), users=5)
    cold = gc.solve(problem)
    order = [4, 2, 0]
    new = gc.Dataset([[1.0, 2.0]], [1.0])  # where user 3 stood, who is gone
    newer = gc.Dataset([[2.0, 1.0]], [1.0])  # where user 4 stood, who is now first
    data = [problem.datasets[n] for n in order] + [new, newer]
    fewer = gc.Problem(problem.loss, problem.regularizer, data, 0.3)
    from gplconvex.solvers import _starting_point

    rho, thetas = _starting_point(fewer, cold)
    np.testing.assert_array_equal(rho, cold.rho)
    np.testing.assert_array_equal(thetas, [*(cold.thetas[n] for n in [*order, 3]), cold.rho])
