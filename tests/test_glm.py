"""Poisson and softmax: solved, certified and attacked like the others, and what is theirs alone."""

from __future__ import annotations

import json
import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.local_losses import LocalLoss
from gplconvex.rounding import UNIT
from tests import oracles
from tests import strategies as cases

LOSSES = cases.MORE_LOSSES
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES, ids=repr)
REGULARIZERS = (gc.SquaredL2(0.7), gc.L2(1.5), gc.SmoothL2(1.5, 0.5), gc.HardConsensus())
ALL = pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
SCALES = (1e-10, 1e-7, 1e-5, 1e-3, 1e-2, 1e-1, 1.0)


def assert_same_point(one, two):
    """The one optimum is within the certified distances of both."""
    reach = one.certificate.distance + two.certificate.distance
    assert np.linalg.norm(one.rho - two.rho) <= reach
    for n, (a, b) in enumerate(zip(one.thetas, two.thetas, strict=True)):
        reach = one.certificate.theta_distances[n] + two.certificate.theta_distances[n]
        assert np.linalg.norm(a - b) <= reach


def assert_never_below(problem, certificate, rho, thetas, best, attacker=None):
    """The bounds of a point hold, up to what the certificate of ``best`` leaves open."""
    slack = best.certificate.gap + 1e-13 * (1 + abs(best.value) + abs(certificate.value))
    assert certificate.value - best.value <= certificate.gap + slack
    off = np.linalg.norm(rho - best.rho)
    assert off <= certificate.distance + best.certificate.distance
    for n, theta in enumerate(thetas):
        off = np.linalg.norm(theta - best.thetas[n])
        reach = certificate.theta_distances[n] + best.certificate.theta_distances[n]
        assert off <= reach


def perturbed(solution, rng):
    """Everything moves, rho alone, one user alone, or all together."""
    for scale in SCALES:
        kicks = scale * rng.normal(size=(1 + len(solution.thetas), *solution.rho.shape))
        moved = solution.rho + kicks[0]
        yield scale, moved, [theta + (moved - solution.rho) for theta in solution.thetas]
        if math.isinf(solution.problem.regularizer.kink):
            continue
        yield scale, moved, [t + k for t, k in zip(solution.thetas, kicks[1:], strict=True)]
        yield scale, moved, list(solution.thetas)
        first, *others = solution.thetas
        yield scale, solution.rho, [first + kicks[1], *others]


# -- solve -------------------------------------------------------------------------------------------


@ALL
@EVERY_LOSS
def test_both_methods_find_the_same_certified_optimum(loss, regularizer):
    problem = cases.example(loss, regularizer)
    newton, reference = gc.solve(problem), gc.solve(problem, method="cvxpy")
    assert newton.status is gc.Status.OPTIMAL
    assert newton.certificate.relative_gap <= 1e-13
    assert newton.certificate.relative_distance <= 1e-7
    assert newton.rho.shape == problem.shape
    assert reference.value == pytest.approx(newton.value, rel=1e-6)
    slack = 1e-13 * (1 + abs(newton.value))
    assert reference.value >= newton.value - newton.certificate.gap - slack
    assert newton.value >= reference.value - reference.certificate.gap - slack
    assert_same_point(newton, reference)


@settings(max_examples=30)
@given(cases.problems(loss=st.sampled_from(LOSSES), max_features=4))
def test_newton_certifies_every_random_problem(problem):
    solution = gc.solve(problem)
    if isinstance(problem.regularizer, gc.L2) and problem.n_users == 2:
        # rho may be anywhere between two models that are apart.
        assert solution.status is not gc.Status.UNCERTIFIED
        return
    assert solution.status is gc.Status.OPTIMAL


@settings(max_examples=15)
@given(cases.problems(loss=st.sampled_from(LOSSES), max_features=3, max_rows=4), st.data())
def test_the_value_is_the_literal_double_sum(problem, data):
    rho = data.draw(cases.models(problem.shape, 1.0))
    thetas = [rho] * problem.n_users
    if math.isfinite(problem.regularizer.kink):
        thetas = [data.draw(cases.models(problem.shape, 1.0)) for _ in thetas]
    expected = oracles.objective(problem, rho, thetas)
    assert problem.value(rho, thetas) == pytest.approx(expected, rel=1e-12, abs=1e-12)


# -- certify -----------------------------------------------------------------------------------------


@ALL
@EVERY_LOSS
def test_bounds_are_never_below_the_truth(loss, regularizer):
    for seed, nu in enumerate((0.1, (0.05, 2.0, 0.4))):
        problem = cases.example(loss, regularizer, nu, rows=5, seed=seed)
        best = gc.solve(problem).require_optimal()
        for _, rho, thetas in perturbed(best, np.random.default_rng(seed)):
            certificate = gc.certify(problem, rho, thetas)
            assert math.isfinite(certificate.gap) or regularizer.radius < math.inf
            assert_never_below(problem, certificate, rho, thetas, best)


@pytest.mark.parametrize("regularizer", [gc.SquaredL2(0.7), gc.HardConsensus()], ids=repr)
@EVERY_LOSS
def test_bounds_are_not_far_from_the_truth(loss, regularizer):
    """So that the check above has teeth."""
    problem = cases.example(loss, regularizer, 1.0)
    best = gc.solve(problem)
    rho = best.rho + 1e-3
    certificate = gc.certify(problem, rho, [theta + 1e-3 for theta in best.thetas])
    off = np.linalg.norm(rho - best.rho)
    assert 0.02 * certificate.distance <= off <= certificate.distance
    assert certificate.value - best.value >= 0.005 * certificate.gap > 0.0


@ALL
@pytest.mark.parametrize("intercept", [False, True])
def test_poisson_without_a_ridge_is_certified_by_the_curvature_near_the_point(
    regularizer, intercept
):
    problem = cases.example(gc.Poisson(intercept), regularizer, nu=0.0)
    best = gc.solve(problem).require_optimal()
    assert best.certificate.relative_gap <= 1e-12
    assert min(best.certificate.strong_convexity) > 0.0
    assert "optimum is near" in {check.name for check in best.certificate.checks}
    finite = 0
    for _, rho, thetas in perturbed(best, np.random.default_rng(0)):
        certificate = gc.certify(problem, rho, thetas)
        finite += math.isfinite(certificate.gap)
        assert_never_below(problem, certificate, rho, thetas, best)
    assert finite >= 4
    if math.isfinite(regularizer.kink):
        assert_same_point(best, gc.solve(problem, method="cvxpy", tol=1e-5))


def test_poisson_without_a_ridge_and_without_events_has_no_minimizer():
    """exp(z) alone decreases for ever: there is curvature at every point, and no bound."""
    data = [gc.Dataset([[1.0], [2.0]], [0.0, 0.0])] * 2
    for regularizer in REGULARIZERS:
        problem = gc.Problem(gc.Poisson(), regularizer, data)
        for place in (1.0, 0.0, -1.0, -10.0, -300.0, -600.0):
            certificate = gc.certify(problem, [place], [[place]] * 2)
            assert math.isinf(certificate.gap)
            assert math.isinf(certificate.distance)


@ALL
@pytest.mark.parametrize("intercept", [False, True])
def test_softmax_without_a_ridge_has_no_bound_because_of_the_gauge(regularizer, intercept):
    problem = cases.example(gc.Softmax(3, intercept), regularizer, nu=0.0, rows=20)
    solution = gc.solve(problem)
    assert solution.status is gc.Status.UNCERTIFIED
    assert solution.certificate.gap == solution.certificate.distance == math.inf
    failed = {check.name for check in solution.certificate.failures}
    assert "strong convexity" in failed
    with pytest.raises(gc.NotSolvedError, match="UNCERTIFIED"):
        solution.require_optimal()
    # And rightly: another model is as good.
    away = np.array([[10.0]] * problem.shape[0])
    moved = problem.value(solution.rho + away, [theta + away for theta in solution.thetas])
    assert moved == pytest.approx(solution.value, rel=1e-12)
    # Each user's share of the optimality conditions holds all the same.
    pull = sum(local.gradient(t) for local, t in zip(problem.locals, solution.thetas, strict=True))
    assert np.linalg.norm(pull) <= 1e-6


def test_one_user_with_a_ridge_pins_the_gauge_down():
    problem = cases.example(gc.Softmax(3), gc.SquaredL2(1.0), nu=(0.5, 0.0, 0.0))
    solution = gc.solve(problem)
    assert math.isfinite(solution.certificate.gap)
    assert_same_point(solution, gc.solve(problem, method="cvxpy"))


@ALL
@EVERY_LOSS
def test_certificates_go_through_json_and_are_verified(loss, regularizer):
    problem = cases.example(loss, regularizer)
    solution = gc.solve(problem)
    text = solution.certificate.to_json()
    back = gc.Certificate.from_json(text)
    assert back == solution.certificate
    gc.verify(back, problem, solution.rho, solution.thetas)
    with pytest.raises(gc.CertificateError):
        gc.verify(back, problem, solution.rho + 1e-3, solution.thetas)
    other = cases.example(loss, regularizer, seed=1)
    with pytest.raises(gc.CertificateError):
        gc.verify(back, other, solution.rho, solution.thetas)
    json.loads(text)


def test_the_curvature_bound_holds_where_one_class_is_certain():
    """diag(p) - p p' has the eigenvalue K e there, while each p_k (1 - p_k) of the others is e."""
    for k, far in ((3, 30.0), (3, 36.5), (3, 40.0), (10, 40.0), (10, 300.0), (5, 700.0)):
        loss, z = gc.Softmax(k), np.array([[0.0, *[-far] * (k - 1)]])
        _, bound = loss.curvature_bounds(z, z, np.zeros(1))
        with mp.workdps(50):
            e = mp.exp(-far) / (1 + (k - 1) * mp.exp(-far))
            # The Rayleigh quotient of (1 - K, 1, ..., 1), from the variance under p.
            p = [1 - (k - 1) * e, *[e] * (k - 1)]
            v = [mp.mpf(1 - k), *[mp.mpf(1)] * (k - 1)]
            mean = mp.fdot(zip(p, v, strict=True))
            spread = mp.fsum(a * (b - mean) ** 2 for a, b in zip(p, v, strict=True))
            rayleigh = spread / mp.fsum(b * b for b in v)
            assert bound[0] >= rayleigh * (1 - mp.mpf(10) ** -13), (k, far)


# -- attacks -----------------------------------------------------------------------------------------


def attackers(problem, rng):
    g = rng.normal(size=problem.shape)
    g *= 0.4 * min(problem.regularizer.radius, 3.0) / np.linalg.norm(g)
    own = gc.SquaredL2(0.5) if math.isinf(problem.regularizer.kink) else None
    return gc.GradientAttack(g), gc.ModelAttack(rng.normal(size=problem.shape), own)


@ALL
@EVERY_LOSS
def test_attacks_move_the_optimum_and_are_certified(loss, regularizer):
    problem = cases.example(loss, regularizer, rows=6)
    honest = gc.solve(problem)
    rng = np.random.default_rng(0)
    for attacker in attackers(problem, rng):
        solution = gc.solve(problem, attacker=attacker).require_optimal()
        assert solution.certificate.relative_gap <= 1e-12
        moved = np.linalg.norm(solution.rho - honest.rho)
        assert moved > 1e-3
        assert moved > 10 * (solution.certificate.distance + honest.certificate.distance)
        assert_same_point(solution, gc.solve(problem, attacker=attacker, method="cvxpy"))
        # The server is at rest: the reports sum to zero.
        reports = [gc.moreau_envelope(problem, n, solution.rho).gradient for n in range(3)]
        report = attacker.report(problem, solution.rho, -sum(reports))
        np.testing.assert_allclose(report, -sum(reports), atol=1e-6)
        for scale in (1e-6, 1e-3, 0.1):
            kick = scale * rng.normal(size=problem.shape)
            rho, thetas = solution.rho + kick, [theta + kick for theta in solution.thetas]
            certificate = gc.certify(problem, rho, thetas, attacker=attacker)
            assert_never_below(problem, certificate, rho, thetas, solution)


@EVERY_LOSS
def test_a_required_gradient_makes_the_target_stationary(loss):
    problem = cases.example(loss, gc.SquaredL2(1.0))
    target = np.random.default_rng(3).normal(size=problem.shape)
    attack = gc.GradientAttack(gc.required_gradient(problem, target))
    solution = gc.solve(problem, attacker=attack).require_optimal()
    assert np.linalg.norm(solution.rho - target) <= solution.certificate.distance + 1e-9


# -- softmax with two classes is logistic regression -------------------------------------------------

# theta has columns (a - b / 2, a + b / 2). The loss knows b = theta_1 - theta_0 alone, and is the
# logistic one of b with the label 2 y - 1. Norms add: |theta|^2 = 2 |a|^2 + |b|^2 / 2, so that every
# minimizer has a = 0, and in b the ridge is nu / 2 and r is
AS_LOGISTIC = {
    gc.SquaredL2(0.7): gc.SquaredL2(0.35),
    gc.L2(1.5): gc.L2(1.5 / math.sqrt(2)),
    gc.SmoothL2(1.5, 0.5): gc.SmoothL2(1.5 / math.sqrt(2), 0.5 * math.sqrt(2)),
    gc.HardConsensus(): gc.HardConsensus(),
}
NU = (0.1, 0.3, 0.6)


def two_classes(regularizer, intercept, seed=0):
    """A softmax problem with two classes, and the logistic one that it is."""
    softmax = cases.example(gc.Softmax(2, intercept), regularizer, NU, seed=seed)
    rng = np.random.default_rng(seed)
    hard = [gc.Dataset(d.x, rng.integers(2, size=d.n_rows), d.counts) for d in softmax.datasets]
    signs = [gc.Dataset(d.x, 2 * d.y - 1, d.counts) for d in hard]
    half = [nu / 2 for nu in NU]
    return (
        gc.Problem(softmax.loss, regularizer, hard, NU),
        gc.Problem(gc.Logistic(intercept), AS_LOGISTIC[regularizer], signs, half),
    )


def difference(theta):
    return theta[:, 1] - theta[:, 0]


def columns(b):
    return np.stack([-b / 2, b / 2], axis=1)


@ALL
@pytest.mark.parametrize("intercept", [False, True])
def test_two_classes_are_logistic_regression(regularizer, intercept):
    softmax, logistic = two_classes(regularizer, intercept)
    one, two = gc.solve(softmax), gc.solve(logistic)
    assert one.value == pytest.approx(two.value, rel=1e-13)
    reach = one.certificate.distance + two.certificate.distance / math.sqrt(2)
    assert np.linalg.norm(one.rho - columns(two.rho)) <= reach
    for n, (theta, b) in enumerate(zip(one.thetas, two.thetas, strict=True)):
        reach = one.certificate.theta_distances[n] + two.certificate.theta_distances[n]
        assert np.linalg.norm(theta - columns(b)) <= reach
    # The whole certificate carries over but for what is known of curvature: 2 nu for both.
    rng = np.random.default_rng(0)
    rho = rng.normal(size=logistic.shape)
    thetas = [rho] * 3
    if math.isfinite(regularizer.kink):
        thetas = [rng.normal(size=logistic.shape) for _ in range(3)]
    here = gc.certify(softmax, columns(rho), list(map(columns, thetas)))
    there = gc.certify(logistic, rho, thetas)
    assert here.value == pytest.approx(there.value, rel=1e-13)
    assert here.gap == pytest.approx(there.gap, rel=1e-9)


@ALL
def test_two_classes_under_attack_are_logistic_regression_under_attack(regularizer):
    softmax, logistic = two_classes(regularizer, True)
    g = np.array([0.3, -0.2, 0.1])
    one = gc.solve(softmax, attacker=gc.GradientAttack(np.stack([-g, g], axis=1)))
    two = gc.solve(logistic, attacker=gc.GradientAttack(g))
    assert one.value == pytest.approx(two.value, rel=1e-12)
    np.testing.assert_allclose(difference(one.rho), two.rho, atol=1e-8)
    np.testing.assert_allclose(one.rho.sum(axis=1), 0.0, atol=1e-9)


def test_another_ridge_would_not_be_logistic_regression():
    softmax, logistic = two_classes(gc.SquaredL2(0.7), False)
    other = gc.Problem(logistic.loss, logistic.regularizer, logistic.datasets, NU)
    assert np.linalg.norm(difference(gc.solve(softmax).rho) - gc.solve(other).rho) > 1e-2


@given(st.integers(0, 2**32 - 1))
def test_two_classes_have_the_derivatives_of_the_logistic_loss(seed):
    rng = np.random.default_rng(seed)
    z, y = 10.0 ** rng.uniform(-3, 2) * rng.normal(size=(6, 2)), rng.integers(2, size=6)
    softmax, logistic, t, s = gc.Softmax(2), gc.Logistic(), z[:, 1] - z[:, 0], 2.0 * y - 1.0
    y = y.astype(float)
    np.testing.assert_allclose(softmax.value(z, y), logistic.value(t, s), rtol=1e-12, atol=1e-15)
    w = logistic.residual(t, s)
    np.testing.assert_allclose(softmax.residual(z, y), np.stack([-w, w], 1), rtol=1e-12)
    bend = logistic.curvature(t, s)[:, None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(softmax.curvature(z, y), bend, rtol=1e-12)
    _, greatest = softmax.curvature_bounds(z, z, y)
    np.testing.assert_allclose(greatest, 2 * logistic.curvature(t, s), rtol=1e-11)


# -- metamorphic -------------------------------------------------------------------------------------


def quarters(rng, rows, classes):
    """Distributions in quarters, and how often each class then occurs among four points."""
    times = rng.multinomial(4, np.full(classes, 1 / classes), size=rows)
    return times / 4, times


@ALL
def test_a_distribution_is_a_mixture_of_hard_labels(regularizer):
    rng = np.random.default_rng(0)
    soft, hard = [], []
    for _ in range(3):
        x = rng.normal(size=(6, 2))
        y, times = quarters(rng, 6, 3)
        rows, classes = np.nonzero(times)
        soft.append(gc.Dataset(x, y, [4] * 6))
        hard.append(gc.Dataset(x[rows], classes, times[rows, classes]))
    one, two = (
        gc.Problem(gc.Softmax(3, intercept=True), regularizer, data, nu=0.2)
        for data in (soft, hard)
    )
    rho = rng.normal(size=one.shape)
    assert one.value(rho, [rho] * 3) == pytest.approx(two.value(rho, [rho] * 3), rel=1e-13)
    for a, b in zip(one.locals, two.locals, strict=True):
        np.testing.assert_allclose(a.gradient(rho), b.gradient(rho), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a.hessian(rho), b.hessian(rho), rtol=1e-12, atol=1e-12)
    assert_same_point(gc.solve(one), gc.solve(two))


def test_a_class_is_the_distribution_that_is_certain_of_it():
    problem = cases.example(gc.Softmax(3), gc.L2(1.0), rows=7)
    hard = [gc.Dataset(d.x, np.arange(7) % 3, d.counts) for d in problem.datasets]
    rows = [gc.Dataset(d.x, np.eye(3)[d.y.astype(int)], d.counts) for d in hard]
    one, two = (
        gc.solve(gc.Problem(problem.loss, problem.regularizer, data, 0.1)) for data in (hard, rows)
    )
    np.testing.assert_array_equal(one.rho, two.rho)
    assert one.certificate.gap == two.certificate.gap


@settings(max_examples=20)
@given(cases.problems(loss=st.sampled_from(LOSSES), regularizer=cases.smooth_regularizers()))
def test_a_count_is_as_good_as_repeated_rows(problem):
    repeated = gc.Problem(
        problem.loss,
        problem.regularizer,
        [
            gc.Dataset(np.repeat(d.x, d.counts, axis=0), np.repeat(d.y, d.counts, axis=0))
            for d in problem.datasets
        ],
        problem.nu,
    )
    assert_same_point(gc.solve(problem), gc.solve(repeated))


@pytest.mark.parametrize("intercept", [False, True])
def test_permuting_the_classes_permutes_the_columns(intercept):
    problem = cases.example(gc.Softmax(4, intercept), gc.SmoothL2(1.0))
    order = np.array([2, 0, 3, 1])
    hard = [gc.Dataset(d.x, np.arange(10) % 4, d.counts) for d in problem.datasets]
    permuted = [gc.Dataset(d.x, order[d.y.astype(int)], d.counts) for d in hard]
    one, two = (
        gc.solve(gc.Problem(problem.loss, problem.regularizer, data, 0.1))
        for data in (hard, permuted)
    )
    reach = one.certificate.distance + two.certificate.distance
    assert np.linalg.norm(one.rho - two.rho[:, order]) <= reach


def test_with_a_ridge_the_columns_sum_to_zero():
    for regularizer in REGULARIZERS:
        solution = gc.solve(cases.example(gc.Softmax(4, intercept=True), regularizer))
        for model in (solution.rho, *solution.thetas):
            assert np.abs(model.sum(axis=1)).max() <= 1e-8


def test_the_intercept_of_poisson_alone_is_the_logarithm_of_the_mean():
    data = gc.Dataset(np.zeros((4, 1)), [0.0, 3.0, 5.0, 2.0], [2, 1, 1, 4])
    problem = gc.Problem(gc.Poisson(intercept=True), gc.SquaredL2(1.0), [data], nu=[0.0])
    local = problem.locals[0]
    gradient, bound = local.certified_gradient(np.array([7.0, math.log(2.0)]))
    assert np.linalg.norm(gradient) <= bound + 8 * 4 * UNIT


def test_the_intercepts_of_softmax_alone_are_the_logarithms_of_the_frequencies():
    data = gc.Dataset(np.zeros((3, 1)), [0.0, 1.0, 2.0], [1, 2, 5])
    local = LocalLoss(gc.Softmax(3, intercept=True), data, 0.0)
    theta = np.array([[1.0, 2.0, 3.0], np.log([1.0, 2.0, 5.0])])
    assert np.linalg.norm(local.gradient(theta)) <= 1e-14


# -- far out -----------------------------------------------------------------------------------------


def counts_problem(regularizer, nu=0.1, intercept=False):
    return cases.example(gc.Poisson(intercept), regularizer, nu, rows=6)


def far_from(problem, size):
    """A model with predictors of about this size, of both signs."""
    x = problem.datasets[0].x
    direction = np.zeros(problem.shape)
    direction[: problem.n_features] = x[0] / np.dot(x[0], x[0])
    return size * direction


@ALL
@pytest.mark.parametrize("size", [800.0, -800.0, 5000.0])
@pytest.mark.parametrize("nu", [0.1, 0.0])
def test_newton_returns_from_where_poisson_overflows(regularizer, size, nu):
    problem = counts_problem(regularizer, nu)
    start = far_from(problem, size)
    near, far = gc.solve(problem), gc.solve(problem, start=start)
    assert far.status is gc.Status.OPTIMAL
    assert_same_point(near, far)


@ALL
@pytest.mark.parametrize("size", [720.0, 5000.0])
def test_where_poisson_overflows_nothing_is_certified(regularizer, size):
    problem = counts_problem(regularizer)
    rho = far_from(problem, size)
    assert problem.value(rho, [rho] * 3) == math.inf
    certificate = gc.certify(problem, rho, [rho] * 3)
    assert certificate.gap == certificate.distance == math.inf
    assert certificate.failures
    gc.verify(gc.Certificate.from_json(certificate.to_json()), problem, rho, [rho] * 3)


def test_one_user_far_out_leaves_no_bound_for_any():
    problem = counts_problem(gc.SquaredL2(1.0))
    best = gc.solve(problem)
    thetas = [far_from(problem, 800.0), *best.thetas[1:]]
    certificate = gc.certify(problem, best.rho, thetas)
    assert certificate.gap == certificate.distance == math.inf


@pytest.mark.parametrize("regularizer", REGULARIZERS[:3], ids=lambda r: r.name)
@pytest.mark.parametrize("size", [800.0, -800.0, 1e5])
def test_the_envelope_of_poisson_is_finite_however_far_rho_is(regularizer, size):
    problem = counts_problem(regularizer)
    rho = far_from(problem, size)
    envelope = gc.moreau_envelope(problem, 0, rho)
    assert math.isfinite(envelope.value)
    local = problem.locals[0]
    assert math.isfinite(local.value(envelope.theta))
    pull = regularizer.gradient(rho - envelope.theta)
    np.testing.assert_allclose(envelope.gradient, pull, atol=1e-6 * (1.0 + np.linalg.norm(pull)))


def test_softmax_does_not_overflow():
    problem = cases.example(gc.Softmax(3), gc.SquaredL2(1.0))
    rho = 1e5 * np.random.default_rng(0).normal(size=problem.shape)
    assert math.isfinite(problem.value(rho, [rho] * 3))
    assert math.isfinite(gc.certify(problem, rho, [rho] * 3).distance)
    assert_same_point(gc.solve(problem), gc.solve(problem, start=rho))


# -- bad input ---------------------------------------------------------------------------------------


def refused(loss, y, *words, d=1):
    data = gc.Dataset(np.ones((len(y), d)), y)
    with pytest.raises(gc.InvalidInputError) as info:
        gc.Problem(loss, gc.L2(1.0), [gc.Dataset.empty(d), data])
    for word in ("user 1", *words):
        assert word in str(info.value)


@pytest.mark.parametrize("intercept", [False, True])
def test_rows_off_the_simplex_are_named_with_their_sum(intercept):
    loss, good = gc.Softmax(3, intercept), [0.25, 0.25, 0.5]
    refused(loss, [good, [0.5, 0.25, 0.0], good], "row 1", "0.75", "sum to 1")
    refused(loss, [good, good, [0.5, 0.5, 1e-6]], "row 2", "1.00000099", "sum to 1")
    refused(loss, [[1.5, -0.25, -0.25]], "row 0", "-0.25", "at least 0")
    refused(loss, [[0.0, 0.0, 0.0]], "row 0", "sums to 0")
    refused(loss, [good, [2.0, 1.0, 1.0], [9.0, 0.0, 0.0]], "row 1", "sums to 4")


def test_probabilities_that_rounding_moved_off_the_simplex_are_taken():
    rng = np.random.default_rng(0)
    y = rng.dirichlet(np.ones(1000), 20)
    assert (y.sum(axis=1) != 1.0).any()
    gc.Problem(gc.Softmax(1000), gc.L2(1.0), [gc.Dataset(np.ones((20, 1)), y)])


def test_labels_out_of_range_are_named():
    refused(
        gc.Softmax(3), [0.0, 1.0, 3.0], "softmax", "row 2", "y = 3", "classes 0, ..., n_classes"
    )
    refused(gc.Softmax(3), [0.0, -1.0], "row 1", "y = -1")
    refused(gc.Softmax(3), [0.5], "row 0", "y = 0.5")
    refused(gc.Softmax(2), [2.0], "row 0", "y = 2")
    refused(gc.Poisson(), [0.0, 2.5], "poisson", "row 1", "y = 2.5", "counts 0, 1, 2")
    refused(gc.Poisson(), [3.0, -1.0], "row 1", "y = -1")
    refused(gc.Poisson(True), [-0.5], "row 0", "y = -0.5")


def test_a_wrong_number_of_columns_is_named():
    refused(gc.Softmax(3), [[0.5, 0.5]], "3 classes", "(1, 2)")
    refused(gc.Softmax(2), [[0.25, 0.25, 0.5]] * 4, "2 classes", "(4, 3)")
    refused(gc.Softmax(3), [[1.0], [1.0]], "3 classes", "(2, 1)")
    refused(gc.Poisson(), [[1.0, 2.0]], "poisson", "one label", "(1, 2)")


@pytest.mark.parametrize("n", [1, 0, -2, 2.0, 2.5, "3", None, True, math.nan, [3], np.float64(3)])
def test_a_number_of_classes_that_is_none_is_refused(n):
    with pytest.raises(gc.InvalidInputError, match="n_classes must be an integer from 2"):
        gc.Softmax(n)


def test_a_number_of_classes_may_come_from_numpy():
    assert gc.Softmax(np.int64(3)).shape(5) == (5, 3)
    assert gc.Softmax(3, intercept=True).shape(5) == (6, 3)


@pytest.mark.parametrize("loss", [gc.Poisson, lambda intercept: gc.Softmax(3, intercept)])
@pytest.mark.parametrize("intercept", [1, 0, None, "yes"])
def test_an_intercept_that_is_no_truth_value_is_refused(loss, intercept):
    with pytest.raises(gc.InvalidInputError, match="intercept"):
        loss(intercept)


def test_models_of_another_shape_are_refused():
    problem = cases.example(gc.Softmax(3, intercept=True), gc.L2(1.0))
    good = np.zeros((3, 3))
    for bad in (np.zeros(3), np.zeros((3, 2)), np.zeros((2, 3)), np.zeros(9), np.zeros((3, 3, 1))):
        with pytest.raises(gc.InvalidInputError, match=r"\(3, 3\)"):
            gc.certify(problem, bad, [good] * 3)
        with pytest.raises(gc.InvalidInputError, match=r"\(3, 3\)"):
            gc.solve(problem, start=bad)
        with pytest.raises(gc.InvalidInputError, match=r"\(3, 3\)"):
            gc.moreau_envelope(problem, 0, bad)
        with pytest.raises(gc.InvalidInputError, match=r"\(3, 3\)"):
            gc.solve(problem, attacker=gc.GradientAttack(bad))


@pytest.mark.parametrize("y", [[0, 2, 1], [[0.25, 0.25, 0.5], [0.1, 0.2, 0.7], [1, 0, 0]]])
def test_labels_are_saved_and_loaded(y, tmp_path):
    data = gc.Dataset(np.random.default_rng(0).normal(size=(3, 2)), y, [1, 2, 3])
    back = gc.Dataset.load(data.save(tmp_path / "data.csv"))
    assert back == data
    gc.Softmax(3).check_labels(back)
