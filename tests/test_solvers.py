"""Solvers against each other, against theorems, and against what they may not claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.newton import Jet, Smooth, minimize, minimize_near
from tests import strategies as cases

REGULARIZERS = (gc.SquaredL2(0.7), gc.L2(1.5), gc.SmoothL2(1.5, 0.5), gc.HardConsensus())
ALL = pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
EVERY_LOSS = pytest.mark.parametrize("loss", cases.LOSSES, ids=repr)
PINNED = st.one_of(cases.smooth_regularizers(), st.just(gc.HardConsensus()))
"""The regularizers under which every problem with nu > 0 has one solution."""


def example(loss, regularizer, users=3, rows=12, d=3, nu=0.05, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    datasets = [
        gc.Dataset(scale * rng.normal(size=(rows, d)), cases.labels(loss, rows, rng))
        for _ in range(users)
    ]
    return gc.Problem(loss, regularizer, datasets, nu)


def assert_same_point(one, two):
    """Each is within its certified distance of the one optimum."""
    reach = one.certificate.distance + two.certificate.distance
    assert np.linalg.norm(one.rho - two.rho) <= reach
    for a, b, first, second in zip(
        one.thetas,
        two.thetas,
        one.certificate.theta_distances,
        two.certificate.theta_distances,
        strict=True,
    ):
        assert np.linalg.norm(a - b) <= first + second


def assert_values_agree(one, two):
    """No value is below the other's guaranteed lower bound."""
    slack = 1e-13 * (1 + abs(one.value))
    assert one.value >= two.value - two.certificate.gap - slack
    assert two.value >= one.value - one.certificate.gap - slack


# -- the two methods ---------------------------------------------------------------------------------


@ALL
@EVERY_LOSS
def test_both_methods_find_the_same_certified_optimum(loss, regularizer):
    problem = example(loss, regularizer, nu=0.5)
    newton, reference = gc.solve(problem), gc.solve(problem, method="cvxpy")
    assert newton.status is gc.Status.OPTIMAL
    assert newton.certificate.relative_gap <= 1e-13
    assert newton.certificate.relative_distance <= 1e-7
    assert reference.value == pytest.approx(newton.value, rel=1e-6)
    assert_values_agree(newton, reference)
    assert_same_point(newton, reference)


def test_points_that_differ_would_be_told_apart():
    problem = example(gc.LeastSquares(), gc.SquaredL2(0.7))
    other = example(gc.LeastSquares(), gc.SquaredL2(0.71))
    with pytest.raises(AssertionError):
        assert_same_point(gc.solve(problem), gc.solve(other))


@settings(max_examples=80)
@given(cases.problems())
def test_newton_certifies_every_random_problem(problem):
    solution = gc.solve(problem)
    assert solution.status is gc.Status.OPTIMAL
    assert solution.certificate.relative_gap <= 1e-9


def test_newton_certifies_two_users_under_l2_whose_models_differ():
    for seed in (27, 85, 107, 163):
        rng = np.random.default_rng(seed)
        datasets = [gc.Dataset(rng.normal(size=(m, 4)), 2 * rng.normal(size=m)) for m in (12, 15)]
        solution = gc.solve(gc.Problem(gc.LeastSquares(), gc.L2(1.0), datasets, nu=1.0))
        assert solution.certificate.relative_gap <= 1e-9


@settings(max_examples=80)
@given(cases.problems(regularizer=PINNED))
def test_newton_pins_the_one_solution_down(problem):
    """Under smooth l2 rho follows from a report, and near lam that multiplies what rounding left."""
    limit = 1e-7 if isinstance(problem.regularizer, gc.SmoothL2) else 1e-10
    assert gc.solve(problem).certificate.relative_distance <= limit


def test_auto_is_newton():
    problem = example(gc.Logistic(), gc.L2(1.0))
    one, two = gc.solve(problem), gc.solve(problem, method="newton")
    assert one.method == two.method == "newton"
    np.testing.assert_array_equal(one.rho, two.rho)
    assert one.certificate == two.certificate


@ALL
def test_a_solution_carries_all_that_recomputes_it(regularizer):
    problem = example(gc.Logistic(intercept=True), regularizer)
    solution = gc.solve(problem)
    assert solution.problem is problem
    assert solution.value == problem.value(solution.rho, solution.thetas)
    assert solution.certificate == gc.certify(problem, solution.rho, solution.thetas)
    assert solution.require_optimal() is solution
    assert solution.rho.shape == problem.shape
    assert [theta.shape for theta in solution.thetas] == [problem.shape] * 3
    assert 1 <= solution.stats["iterations"] <= 50
    assert solution.stats["seconds"] > 0.0


def test_the_reference_says_which_solver_it_was_and_what_that_says():
    solution = gc.solve(example(gc.Logistic(), gc.SquaredL2(1.0)), method="cvxpy")
    assert solution.method == "cvxpy:CLARABEL"
    assert solution.stats["solver_status"] == "optimal"
    assert solution.stats["iterations"] > 1


def test_the_status_of_another_solver_is_that_of_its_certificate():
    pytest.importorskip("scs")
    problem = example(gc.Logistic(), gc.SquaredL2(1.0))
    gap = gc.solve(problem, method="cvxpy:SCS").certificate.relative_gap
    assert 0.0 < gap < 1e-3
    good, bad = (gc.solve(problem, method="cvxpy:SCS", tol=t * gap) for t in (2.0, 0.5))
    assert good.method == bad.method == "cvxpy:SCS"
    assert good.stats["solver_status"] == bad.stats["solver_status"] == "optimal"  # so it says
    assert good.status is gc.Status.OPTIMAL
    assert bad.status is gc.Status.INACCURATE
    assert good.require_optimal() is good
    with pytest.raises(gc.NotSolvedError, match="status INACCURATE") as info:
        bad.require_optimal()
    assert info.value.solution is bad
    assert_same_point(bad, gc.solve(problem))


@pytest.mark.parametrize("regularizer", [gc.SquaredL2(0.7), gc.SquaredL2(1e3)], ids=repr)
def test_newton_needs_one_step_on_a_quadratic(regularizer):
    """And as few more as it takes to see that rounding has stopped it."""
    problem = example(gc.LeastSquares(), regularizer)
    losses, rho = problem.local_losses, np.tile([3.0, -2.0, 1.0], (3, 1))

    def oracle(thetas):
        hessian = losses.hessian(thetas)
        units = np.diagonal(hessian, axis1=1, axis2=2)
        return Smooth(losses.value(thetas), losses.gradient(thetas), hessian, units, None)

    _, _, iterations = minimize_near(oracle, regularizer, rho, np.zeros((3, 3)))
    assert iterations <= 4
    assert gc.solve(problem).stats["iterations"] <= 4


def test_a_step_that_promises_less_than_the_rounding_of_the_value_may_halve_the_gradient():
    """Here the value rises by more than its rounding, and the step overshoots by a third."""

    def oracle(points):
        length = np.linalg.norm(points, axis=1)
        value = np.where(length < 9e-6, 1e6 + 5e-9, 1e6)
        return Jet(value, points, np.ones_like(points), lambda shift: -4.0 / 3.0 * points, None)

    found = minimize(oracle, np.array([[1e-5, 0.0]]))
    assert np.linalg.norm(found.point) < 1e-10


# -- under l2 ----------------------------------------------------------------------------------------


def pulls_at_consensus(loss, **sizes):
    """How strongly each user pulls at the one model of all."""
    consensus = gc.solve(example(loss, gc.HardConsensus(), **sizes))
    slopes = [local.gradient(consensus.rho) for local in consensus.problem.locals]
    return np.linalg.norm(np.reshape(slopes, (len(slopes), -1)), axis=1)


@EVERY_LOSS
def test_under_l2_those_are_tied_who_pull_by_less_than_lam(loss):
    lam = float(np.median(pulls_at_consensus(loss, users=7)))
    solution = gc.solve(example(loss, gc.L2(lam), users=7)).require_optimal()
    assert solution.stats["passes"] <= 15
    tied = [bool((theta == solution.rho).all()) for theta in solution.thetas]
    assert 0 < sum(tied) < 7
    for local, theta, together in zip(solution.problem.locals, solution.thetas, tied, strict=True):
        report, u = local.gradient(theta), solution.rho - theta
        if together:
            assert np.linalg.norm(report) <= lam
        else:
            np.testing.assert_allclose(report, lam * u / np.linalg.norm(u), atol=1e-9)


@pytest.mark.parametrize("off", [-1e-2, -1e-4, -1e-8, 0.0, 1e-8, 1e-4])
@EVERY_LOSS
def test_two_users_who_are_about_to_part(loss, off):
    """Both pull alike, by about lam: rho may slide along the line from one to the other."""
    lam = (1.0 + off) * float(pulls_at_consensus(loss, users=2).max())
    solution = gc.solve(example(loss, gc.L2(lam), users=2)).require_optimal()
    assert solution.stats["passes"] <= 40


# -- metamorphic -------------------------------------------------------------------------------------


def mapped(problem, change, regularizer=None, nu=None):
    """The problem with every dataset changed."""
    return gc.Problem(
        problem.loss,
        problem.regularizer if regularizer is None else regularizer,
        [change(data) for data in problem.datasets],
        problem.nu if nu is None else nu,
    )


@settings(max_examples=25)
@given(cases.problems(regularizer=PINNED, max_users=4))
def test_a_count_is_as_good_as_repeated_rows(problem):
    repeated = mapped(
        problem,
        lambda d: gc.Dataset(np.repeat(d.x, d.counts, axis=0), np.repeat(d.y, d.counts)),
    )
    assert_same_point(gc.solve(problem), gc.solve(repeated))


@settings(max_examples=25)
@given(cases.problems(regularizer=PINNED), st.randoms(use_true_random=False))
def test_permuting_the_users_permutes_the_models(problem, random):
    order = list(range(problem.n_users))
    random.shuffle(order)
    permuted = gc.Problem(
        problem.loss,
        problem.regularizer,
        [problem.datasets[n] for n in order],
        [problem.nu[n] for n in order],
    )
    one, two = gc.solve(problem), gc.solve(permuted)
    reach = one.certificate.distance + two.certificate.distance
    assert np.linalg.norm(one.rho - two.rho) <= reach
    reaches = one.certificate.theta_distances
    for position, n in enumerate(order):
        off = np.linalg.norm(two.thetas[position] - one.thetas[n])
        assert off <= two.certificate.theta_distances[position] + reaches[n]


@settings(max_examples=25)
@given(cases.problems(regularizer=PINNED, max_users=4), st.integers(0, 2**32 - 1))
def test_rotating_the_features_rotates_the_solution(problem, seed):
    d = problem.n_features
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    rotated = mapped(problem, lambda data: gc.Dataset(data.x @ rotation, data.y, data.counts))
    whole = np.eye(problem.shape[0])
    whole[:d, :d] = rotation
    one, two = gc.solve(problem), gc.solve(rotated)
    # Rounding of the rotated data is one more perturbation, as large as that of a gradient.
    slack = 1e-11 * (1 + np.linalg.norm(one.rho)) / min(1.0, problem.nu.min())
    reach = one.certificate.distance + two.certificate.distance + slack
    assert np.linalg.norm(one.rho @ whole - two.rho) <= reach
    assert one.value == pytest.approx(two.value, rel=1e-10, abs=1e-12)


@settings(max_examples=25)
@given(cases.problems(loss=st.sampled_from(cases.LOSSES[:1]), max_users=4), st.integers(1, 20))
def test_scaling_everything_scales_the_value(problem, factor):
    """c F has the minimizers of F: counts, nu and lam times c (delta stays)."""
    scaled_by = {
        gc.SquaredL2: lambda r: gc.SquaredL2(factor * r.lam),
        gc.L2: lambda r: gc.L2(factor * r.lam),
        gc.SmoothL2: lambda r: gc.SmoothL2(factor * r.lam, r.delta),
        gc.HardConsensus: lambda r: r,
    }
    regularizer = scaled_by[type(problem.regularizer)](problem.regularizer)
    scaled = mapped(
        problem,
        lambda d: gc.Dataset(d.x, d.y, factor * d.counts),
        regularizer,
        factor * problem.nu,
    )
    one, two = gc.solve(problem), gc.solve(scaled)
    slack = 1e-12 * (1 + abs(two.value))
    assert two.value <= factor * one.value + two.certificate.gap + slack
    assert factor * one.value <= two.value + factor * one.certificate.gap + slack


@EVERY_LOSS
def test_a_great_lam_approaches_hard_consensus(loss):
    consensus = gc.solve(example(loss, gc.HardConsensus())).require_optimal()
    off = []
    for lam in (1e2, 1e4, 1e6):
        solution = gc.solve(example(loss, gc.SquaredL2(lam))).require_optimal()
        off.append(np.linalg.norm(solution.rho - consensus.rho))
        assert solution.value <= consensus.value + 1e-12
    # The difference is of the order of 1 / lam.
    assert off[1] <= off[0] / 50
    assert off[2] <= off[1] / 50 + 1e-12
    # L2 does not approach it: it gets there, once lam exceeds every pull.
    pulls = [local.gradient(consensus.rho) for local in consensus.problem.locals]
    lam = 1.01 * max(map(np.linalg.norm, pulls))
    same = gc.solve(example(loss, gc.L2(lam))).require_optimal()
    for theta in same.thetas:
        np.testing.assert_array_equal(theta, same.rho)
    assert_values_agree(same, consensus)
    apart = gc.solve(example(loss, gc.L2(0.8 * lam))).require_optimal()
    assert any((theta != apart.rho).any() for theta in apart.thetas)


@ALL
@EVERY_LOSS
def test_a_warm_start_gives_the_same_optimum(loss, regularizer):
    problem = example(loss, regularizer)
    cold = gc.solve(problem)
    for start in (cold.rho, np.full(problem.shape, 7.0), -50.0 * cold.rho):
        warm = gc.solve(problem, start=start)
        assert warm.status is gc.Status.OPTIMAL
        assert_same_point(cold, warm)
    assert gc.solve(problem, start=cold.rho).stats["iterations"] <= 7
    assert gc.solve(problem, start=cold).stats["iterations"] <= 3


def test_a_start_is_not_changed():
    start = np.full(3, 7.0)
    gc.solve(example(gc.Logistic(), gc.L2(1.0)), start=start)
    np.testing.assert_array_equal(start, 7.0)


# -- attackers ---------------------------------------------------------------------------------------


@st.composite
def attacks(draw, regularizer):
    """A problem and a gradient attack or a model attack on it."""
    problem = draw(cases.problems(regularizer=regularizer, max_users=4))
    if draw(st.booleans()):
        return problem, gc.GradientAttack(draw(cases.reports(problem)))
    return problem, gc.ModelAttack(draw(cases.models(problem.shape)))


def pull_of(problem, rho):
    return np.sum(
        [gc.moreau_envelope(problem, n, rho).gradient for n in range(problem.n_users)], axis=0
    )


@settings(max_examples=40)
@given(attacks(cases.smooth_regularizers()))
def test_an_attack_ends_where_the_reports_sum_to_zero(case):
    problem, attacker = case
    solution = gc.solve(problem, attacker=attacker).require_optimal()
    if isinstance(attacker, gc.GradientAttack):
        report = attacker.gradient
    else:
        report = problem.regularizer.gradient(solution.rho - attacker.theta)
    missing = pull_of(problem, solution.rho) + report
    largest = sum(
        np.linalg.norm(local.hessian(theta)) * (1 + np.linalg.norm(theta))
        for local, theta in zip(problem.locals, solution.thetas, strict=True)
    )
    assert np.linalg.norm(missing) <= 1e-11 * (1 + largest + problem.regularizer.smoothness)


@pytest.mark.parametrize("strength", [0.5, 0.95, 1.05, 100.0])
@EVERY_LOSS
def test_a_model_attack_under_l2_holds_its_model_when_stronger_than_the_pull(loss, strength):
    """E has a kink at theta: rho stays there if and only if the pull is at most the strength."""
    problem = example(loss, gc.L2(0.4))
    theta = np.full(problem.shape, 2.0)
    pull = float(np.linalg.norm(pull_of(problem, theta)))
    attacker = gc.ModelAttack(theta, gc.L2(strength * pull))
    solution = gc.solve(problem, attacker=attacker).require_optimal()
    if strength > 1.0:
        np.testing.assert_array_equal(solution.rho, theta)
    else:
        u = solution.rho - theta
        assert np.linalg.norm(u) > 1e-3
        expected = -strength * pull * u / np.linalg.norm(u)
        np.testing.assert_allclose(pull_of(problem, solution.rho), expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["gradient", "model", "model under l2"])
@ALL
@EVERY_LOSS
def test_an_attack_is_solved_alike_by_both_methods(loss, regularizer, kind):
    problem = example(loss, regularizer)
    vector = np.full(problem.shape, 0.3)
    attacker = {
        "gradient": gc.GradientAttack(vector),
        "model": gc.ModelAttack(vector),
        "model under l2": gc.ModelAttack(vector, gc.L2(0.6)),
    }[kind]
    newton = gc.solve(problem, attacker=attacker)
    assert newton.status is gc.Status.OPTIMAL
    if kind == "model" and isinstance(regularizer, gc.HardConsensus):
        np.testing.assert_array_equal(newton.rho, vector)  # one model, and it is the attacker's
    reference = gc.solve(problem, method="cvxpy", attacker=attacker)
    assert_values_agree(newton, reference)
    assert_same_point(newton, reference)


def test_an_attack_moves_the_solution():
    problem = example(gc.LeastSquares(), gc.SquaredL2(1.0))
    honest, attacked = (
        gc.solve(problem, attacker=a) for a in (None, gc.GradientAttack(np.full(3, 0.3)))
    )
    with pytest.raises(AssertionError):
        assert_same_point(honest, attacked)


# -- no minimizer, no ridge --------------------------------------------------------------------------


def separable():
    return [([[1.0], [2.0], [-1.5]], [1.0, 1.0, -1.0]), ([[1.0], [-1.0]], [1.0, -1.0])]


@ALL
def test_separable_labels_without_ridge_are_not_certified(regularizer):
    problem = gc.Problem(gc.Logistic(), regularizer, separable(), nu=0.0)
    solution = gc.solve(problem)
    assert solution.status is gc.Status.UNCERTIFIED
    assert solution.certificate.gap == math.inf
    with pytest.raises(gc.NotSolvedError, match=r"choose nu > 0") as info:
        solution.require_optimal()
    assert info.value.solution is solution
    assert "gap is bounded" in [check.name for check in solution.certificate.failures]
    # The negative control: the least ridge makes it a problem like any other.
    ridge = gc.Problem(gc.Logistic(), regularizer, separable(), nu=1e-6)
    assert gc.solve(ridge).status is gc.Status.OPTIMAL


@ALL
@pytest.mark.parametrize("intercept", [False, True])
def test_least_squares_without_ridge_is_certified_by_the_curvature_of_the_data(
    regularizer, intercept
):
    problem = example(gc.LeastSquares(intercept), regularizer, nu=0.0)
    solution = gc.solve(problem).require_optimal()
    assert min(solution.certificate.strong_convexity) > 0.1
    assert solution.certificate.relative_distance <= 1e-8


@ALL
def test_least_squares_with_fewer_points_than_features_is_not_certified_without_ridge(regularizer):
    problem = example(gc.LeastSquares(), regularizer, users=1, rows=2, d=5, nu=0.0)
    assert gc.solve(problem).status is gc.Status.UNCERTIFIED


# -- ordinary cases at the edge ----------------------------------------------------------------------


@ALL
@EVERY_LOSS
def test_one_feature(loss, regularizer):
    assert gc.solve(example(loss, regularizer, d=1)).status is gc.Status.OPTIMAL


@ALL
@EVERY_LOSS
def test_users_with_one_point_each(loss, regularizer):
    problem = example(loss, regularizer, users=5, rows=1, d=2)
    assert gc.solve(problem).status is gc.Status.OPTIMAL


@ALL
def test_users_without_points_all_end_at_zero(regularizer):
    problem = gc.Problem(gc.Logistic(), regularizer, [gc.Dataset.empty(2)] * 3, nu=1.0)
    solution = gc.solve(problem, start=np.array([3.0, 4.0])).require_optimal()
    np.testing.assert_allclose(solution.rho, 0.0, atol=1e-12)


def assert_solved_or_refused(problem):
    """OPTIMAL, except under l2, where it may also be an honest INACCURATE."""
    solution = gc.solve(problem)
    assert np.isfinite(solution.rho).all()
    if isinstance(problem.regularizer, gc.L2) and solution.status is gc.Status.INACCURATE:
        reference = gc.solve(problem, method="cvxpy")
        assert solution.value - solution.certificate.gap <= reference.value
        with pytest.raises(gc.NotSolvedError, match="INACCURATE"):
            solution.require_optimal()
        return
    assert solution.status is gc.Status.OPTIMAL
    assert solution.certificate.relative_gap <= 1e-9


@ALL
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
@EVERY_LOSS
def test_features_of_another_scale(loss, regularizer, scale):
    assert_solved_or_refused(example(loss, regularizer, scale=scale))


@ALL
@EVERY_LOSS
def test_features_of_scales_sixteen_orders_apart(loss, regularizer):
    rng = np.random.default_rng(4)
    scales = np.array([1e-8, 1.0, 1e8])
    datasets = [
        gc.Dataset(scales * rng.normal(size=(8, 3)), cases.labels(loss, 8, rng)) for _ in range(3)
    ]
    assert_solved_or_refused(gc.Problem(loss, regularizer, datasets, nu=0.05))


@ALL
def test_predictors_of_a_thousand(regularizer):
    """At the start z = +-1000, on the right side and on the wrong one: no overflow, no warning."""
    x = [[1000.0, 0.0], [-1000.0, 0.0], [0.0, 1000.0]]
    problem = gc.Problem(gc.Logistic(), regularizer, [(x, [1.0, 1.0, -1.0])] * 2, nu=0.1)
    with np.errstate(all="raise", under="ignore"):
        solution = gc.solve(problem, start=np.ones(2))
    assert solution.status is gc.Status.OPTIMAL
    assert solution.certificate.relative_gap <= 1e-9


@ALL
def test_a_million_copies_of_two_contradicting_points(regularizer):
    data = gc.Dataset([[1.0, 0.5], [1.0, 0.5], [0.3, -1.0]], [1.0, -1.0, 1.0], [10**6, 10**6, 3])
    solution = gc.solve(gc.Problem(gc.Logistic(), regularizer, [data, data], nu=0.01))
    assert solution.status is gc.Status.OPTIMAL
    assert solution.certificate.relative_gap <= 1e-9


@ALL
def test_one_user_has_nothing_to_disagree_about(regularizer):
    """With N = 1 any regularizer gives theta = rho: the minimizer of the local loss."""
    problem = example(gc.LeastSquares(), regularizer, users=1, nu=0.2)
    (local,) = problem.locals
    x, y = local.data.x, local.data.y
    expected = np.linalg.solve(x.T @ x + 0.4 * np.eye(3), x.T @ y)
    solution = gc.solve(problem).require_optimal()
    np.testing.assert_allclose(solution.rho, expected, atol=1e-9)
    np.testing.assert_allclose(solution.thetas[0], expected, atol=1e-9)


@pytest.mark.parametrize("lam", [0.05, 0.5, 5.0])
def test_two_users_at_opposite_points_under_l2(lam):
    """L_n = (theta -+ 1)^2 / 2: each moves by lam, at most to the middle, where rho may be any."""
    users = [([[1.0]], [1.0]), ([[1.0]], [-1.0])]
    solution = gc.solve(gc.Problem(gc.LeastSquares(), gc.L2(lam), users)).require_optimal()
    left = max(0.0, 1.0 - lam)
    np.testing.assert_allclose(np.ravel(solution.thetas), [left, -left], atol=1e-7)
    assert -left - 1e-9 <= solution.rho[0] <= left + 1e-9
    assert solution.value == pytest.approx((1 - left) ** 2 + lam * 2 * left, rel=1e-9)
