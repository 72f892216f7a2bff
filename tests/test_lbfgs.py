"""L-BFGS for many parameters: against Newton and cvxpy, its metric against dense algebra."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.local_losses import LocalLosses
from gplconvex.solvers import lbfgs, metric
from gplconvex.solvers.monitor import Monitor
from tests import strategies as cases
from tests.test_solvers import assert_same_point, assert_values_agree

REGULARIZERS = (gc.SquaredL2(0.7), gc.L2(1.5), gc.SmoothL2(1.5, 0.5), gc.HardConsensus())
ALL_LOSSES = st.sampled_from(cases.ALL_LOSSES)


def attackers(problem: gc.Problem, rng: np.random.Generator) -> list[gc.Attacker | None]:
    """None, a report, and frozen models near and far, with kinks and without."""
    report = rng.normal(size=problem.shape)
    report *= 0.5 * min(problem.regularizer.radius, 4.0) / np.linalg.norm(report)
    theta = rng.normal(size=problem.shape)
    return [
        None,
        gc.GradientAttack(report),
        gc.ModelAttack(theta),
        gc.ModelAttack(0.1 * theta, gc.L2(0.3)),
        gc.ModelAttack(0.1 * theta, gc.L2(100.0)),
        gc.ModelAttack(theta, gc.HardConsensus()),
    ]


# -- the same optimum --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cases.problems(loss=ALL_LOSSES), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_it_finds_what_newton_finds(problem, which, seed):
    attacker = attackers(problem, np.random.default_rng(seed))[which]
    newton = gc.solve(problem, attacker=attacker, method="newton")
    found = gc.solve(problem, attacker=attacker, method="lbfgs", tol=1e-10)
    assert found.method == "lbfgs"
    # Where all duals are on the boundary of the ball no bound exists for either.
    assert found.certificate.relative_gap <= max(1e-9, newton.certificate.relative_gap)
    assert_values_agree(newton, found)
    assert_same_point(newton, found)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["newton", "lbfgs"])
@pytest.mark.parametrize(
    ("loss", "regularizer"),
    list(itertools.product(cases.ALL_LOSSES, REGULARIZERS)),
    ids=lambda value: repr(value) if isinstance(value, gc.Loss) else value.name,
)
def test_random_problems_agree_with_cvxpy(loss, regularizer, method):
    """300 problems in all: ten of each pair, and two solvers' certificates a problem."""
    for seed in range(10):
        rng = np.random.default_rng((seed, 17))
        users, d = int(rng.integers(1, 6)), int(rng.integers(1, 6))
        datasets = []
        for _ in range(users):
            m = int(rng.integers(1, 25))
            x = rng.normal(size=(m, d))
            datasets.append(gc.Dataset(x, cases.labels(loss, m, rng), rng.integers(1, 4, m)))
        if isinstance(loss, gc.Softmax) and len({data.y.ndim for data in datasets}) == 2:
            datasets = [data for data in datasets if data.y.ndim == datasets[0].y.ndim]
        problem = gc.Problem(loss, regularizer, datasets, rng.uniform(0.05, 1.0, len(datasets)))
        found, reference = gc.solve(problem, method=method), gc.solve(problem, method="cvxpy")
        assert found.status is gc.Status.OPTIMAL
        assert_values_agree(found, reference)
        assert_same_point(found, reference)


def test_auto_counts_parameters():
    rng = np.random.default_rng(0)

    def chosen(loss, d):
        data = [gc.Dataset(rng.normal(size=(5, d)), np.ones(5)) for _ in range(2)]
        return gc.solve(gc.Problem(loss, gc.SquaredL2(1.0), data, 1.0)).method

    assert chosen(gc.Logistic(), 300) == "newton"
    assert chosen(gc.Logistic(), 301) == "lbfgs"
    assert chosen(gc.Softmax(4), 76) == "lbfgs"
    assert chosen(gc.LeastSquares(), 301) == "newton"
    assert chosen(gc.LeastSquares(), 2001) == "lbfgs"


def wide(loss, regularizer, d=400, users=4, rows=60, nu=0.05, seed=3):
    """More features than points, of sizes three orders apart."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-2.0, 1.0, d) / math.sqrt(d)
    data = [
        gc.Dataset(rng.normal(size=(rows, d)) * scale, cases.labels(loss, rows, rng))
        for _ in range(users)
    ]
    return gc.Problem(loss, regularizer, data, nu)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
@pytest.mark.parametrize(
    "loss", [gc.LeastSquares(), gc.Logistic(True), gc.Softmax(5, True)], ids=repr
)
def test_wide_problems_are_certified(loss, regularizer):
    solution = gc.solve(wide(loss, regularizer), method="lbfgs")
    assert solution.status is gc.Status.OPTIMAL
    assert solution.stats["passes"] <= 400


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
def test_blocks_too_large_to_factor_are_replaced_by_their_diagonals(regularizer, monkeypatch):
    problem = wide(gc.Softmax(3, True), regularizer, d=30)
    dense = gc.solve(problem, method="lbfgs")
    monkeypatch.setattr(metric, "DENSE_FEATURES", 10)
    diagonal = gc.solve(problem, method="lbfgs")
    assert diagonal.status is gc.Status.OPTIMAL
    assert diagonal.stats["passes"] > dense.stats["passes"]
    assert_same_point(dense, diagonal)


def test_single_precision_leaves_no_trace(monkeypatch):
    """Far from the optimum the gradient is rounded more; what is returned is as good as ever."""
    problem = wide(gc.Softmax(4, True), gc.SquaredL2(1.0), d=300, rows=250)
    assert problem.local_losses.has_single
    precisions, errors = [], []
    gradients, report = lbfgs._Objective.gradients, Monitor.report

    def watched(self, jet, thetas):
        slopes, size = gradients(self, jet, thetas)
        if not self.rough:  # what is computed in single precision is less than the gradient needs
            exact = 2.0 * self.nu[:, None] * thetas + self.losses.pullback(jet.w)
            np.testing.assert_allclose(slopes, exact, rtol=0.0, atol=2.0**-24 * size + 1e-12)
        precisions.append("rough" if self.rough else "changes" if self.single else "double")
        return slopes, size

    def reported(self, value, rho, thetas, slopes):
        exact, reports = problem.local_losses.gradient(thetas), 2.0 * (rho - thetas)
        whole = np.concatenate([reports.sum(axis=0)[None], exact - reports])
        errors.append(np.linalg.norm(slopes - exact) / np.linalg.norm(whole))
        return report(self, value, rho, thetas, slopes)

    monkeypatch.setattr(lbfgs._Objective, "gradients", watched)
    monkeypatch.setattr(Monitor, "report", reported)
    found = gc.solve(problem, method="lbfgs", tol=1e-16)
    assert max(errors) < 0.25
    rough = precisions.count("rough")
    assert rough >= 5
    # One point in double precision; then changes, which single precision resolves.
    assert precisions[rough] == "double"
    assert set(precisions[rough + 1 :]) == {"changes"}
    monkeypatch.setattr(LocalLosses, "has_single", False)
    double = gc.solve(problem, method="lbfgs", tol=1e-16)
    assert found.status is double.status is gc.Status.OPTIMAL
    assert found.stats["passes"] <= double.stats["passes"] + 2.0
    assert_same_point(found, double)
    loose = gc.solve(problem, method="lbfgs", tol=1e-3)  # certified by gradients in double, too
    assert loose.status is gc.Status.OPTIMAL


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_inputs_beyond_single_precision_are_solved_in_double(scale):
    problem = wide(gc.Logistic(), gc.SquaredL2(1.0), d=300, rows=250)
    data = [gc.Dataset(one.x * scale, one.y) for one in problem.datasets]
    other = gc.Problem(problem.loss, gc.SquaredL2(scale**2), data, 0.05 * scale**2)
    found, scaled = (gc.solve(p, method="lbfgs") for p in (problem, other))
    assert found.status is scaled.status is gc.Status.OPTIMAL
    np.testing.assert_allclose(scaled.rho * scale, found.rho, rtol=1e-3, atol=1e-5)


def test_counts_of_a_sampled_row_and_of_a_repeated_one_give_the_same_optimum():
    """Confident rows are sampled for the metric; the optimum knows nothing of that."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4)) + 2.0
    y = (x[:, 0] > x[:, 1]).astype(float)
    problem = gc.Problem(gc.Softmax(2, True), gc.SquaredL2(1.0), [(x, y), (x[::-1], y[::-1])], 0.1)
    found, newton = gc.solve(problem, method="lbfgs"), gc.solve(problem, method="newton")
    assert found.status is gc.Status.OPTIMAL
    assert_same_point(found, newton)


def test_without_a_ridge_the_gradient_decides_and_nothing_is_claimed():
    """Softmax without ridge: the optimum is not unique, and the status says that no bound exists."""
    problem = cases.example(gc.Softmax(3), gc.SquaredL2(1.0), nu=0.0, rows=60)
    solution = gc.solve(problem, method="lbfgs", tol=1e-8)
    assert solution.status is gc.Status.UNCERTIFIED
    assert math.isinf(solution.certificate.distance)
    assert any("choose nu > 0" in check.meaning for check in solution.certificate.checks)
    gradients = problem.local_losses.gradient(np.array([t.ravel() for t in solution.thetas]))
    start = problem.local_losses.gradient(np.zeros_like(gradients))
    assert np.linalg.norm(gradients.sum(axis=0)) <= 1e-7 * np.linalg.norm(start)


# -- ties --------------------------------------------------------------------------------------------


def test_users_are_tied_exactly_or_apart():
    """Under l2 a user's model is rho if and only if the gradient there is within lam."""
    rng = np.random.default_rng(5)
    data = [
        gc.Dataset(rng.normal(size=(m, 4)), rng.choice([-1.0, 1.0], m))
        for m in (2, 3, 5, 9, 17, 33, 65, 99)
    ]
    problem = gc.Problem(gc.Logistic(), gc.L2(2.0), data, 0.05)
    solution = gc.solve(problem, method="lbfgs", tol=1e-12)
    at_rho = problem.local_losses.gradient(np.tile(solution.rho, (8, 1)))
    tied = np.array([(theta == solution.rho).all() for theta in solution.thetas])
    np.testing.assert_array_equal(tied, np.linalg.norm(at_rho, axis=1) <= 2.0)
    assert 0 < tied.sum() < 8


def test_a_weak_leash_lets_rho_go_and_a_strong_one_holds_it():
    problem = cases.example(gc.LeastSquares(), gc.SquaredL2(1.0))
    theta = np.array([0.5, -0.5])
    weak, strong = (
        gc.solve(problem, attacker=gc.ModelAttack(theta, gc.L2(lam)), method="lbfgs", start=theta)
        for lam in (0.1, 1e3)
    )
    assert weak.status is strong.status is gc.Status.OPTIMAL
    assert (strong.rho == theta).all()
    assert (weak.rho != theta).any()


@pytest.mark.parametrize("seed", range(20))
def test_a_leash_lets_rho_go_as_far_as_newton_says(seed):
    """rho starts pinned and has to leave: along the ray the leash adds slope, not curvature."""
    rng = np.random.default_rng(seed)
    loss = cases.ALL_LOSSES[seed % len(cases.ALL_LOSSES)]
    regularizer = (gc.SquaredL2(0.2), gc.SmoothL2(1.0, 2.0))[seed % 2]
    problem = cases.example(loss, regularizer, nu=0.01, users=1 + seed % 3, d=5, rows=15, seed=seed)
    attacker = gc.ModelAttack(0.1 * rng.normal(size=problem.shape), gc.L2(0.3))
    newton, found = (gc.solve(problem, attacker=attacker, method=m) for m in ("newton", "lbfgs"))
    assert found.status is gc.Status.OPTIMAL
    assert_same_point(newton, found)


def test_ties_that_are_not_optimal_are_no_end():
    """One feature and all users tied: the gradient of what moves is 0, and F is not minimal."""
    data = [gc.Dataset(np.full((1, 1), 4.0), [y]) for y in (-8.0, 8.0, 12.0)]
    problem = gc.Problem(gc.LeastSquares(), gc.L2(1.0), data, 0.1)
    attacker = gc.ModelAttack([0.0], gc.L2(0.3))
    newton, found = (gc.solve(problem, attacker=attacker, method=m) for m in ("newton", "lbfgs"))
    assert found.status is gc.Status.OPTIMAL
    assert any((theta != found.rho).any() for theta in found.thetas)
    assert_same_point(newton, found)


def test_a_kink_in_the_way_of_every_step_is_met():
    """One user all but meets rho, and steps of which it leaves nothing must not go on for ever."""
    rng = np.random.default_rng(6769)
    loss = cases.ALL_LOSSES[rng.integers(len(cases.ALL_LOSSES))]
    d, sizes = int(rng.integers(1, 9)), rng.integers(0, 21, size=rng.integers(1, 7))
    data = [
        gc.Dataset(rng.normal(size=(m, d)), cases.labels(loss, m, rng), rng.integers(1, 4, size=m))
        for m in sizes
    ]
    lam = 10 ** rng.uniform(-1, 1)
    _ = rng.uniform(), rng.integers(4)  # of another regularizer
    problem = gc.Problem(loss, gc.L2(lam), data, 10 ** rng.uniform(-3, 1))
    attacker = attackers(problem, rng)[2]
    newton, found = (gc.solve(problem, attacker=attacker, method=m) for m in ("newton", "lbfgs"))
    assert found.status is gc.Status.OPTIMAL
    assert found.stats["iterations"] < 100
    assert_same_point(newton, found)


# -- warm starts -------------------------------------------------------------------------------------


def test_a_warm_start_costs_little():
    rng = np.random.default_rng(8)
    problem = wide(gc.Softmax(4, True), gc.SquaredL2(1.0), d=100, users=10, rows=200, nu=0.01)
    cold = gc.solve(problem, method="lbfgs")
    again = gc.solve(problem, method="lbfgs", start=cold)
    assert again.stats["passes"] <= 4
    data = list(problem.datasets)
    data[3] = gc.Dataset(data[3].x, rng.integers(4, size=200).astype(float))
    changed = gc.Problem(problem.loss, problem.regularizer, data, problem.nu)
    warm, fresh = (gc.solve(changed, method="lbfgs", start=s) for s in (cold, None))
    assert warm.status is gc.Status.OPTIMAL
    assert_same_point(warm, fresh)
    assert warm.stats["passes"] < fresh.stats["passes"]
    fewer = gc.Problem(problem.loss, problem.regularizer, data[:7], problem.nu[:7])
    assert gc.solve(fewer, method="lbfgs", start=cold).status is gc.Status.OPTIMAL


# -- the metric --------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(1, 150), st.integers(0, 2**32 - 1))
def test_the_inverse_factor_is_one(n, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, n, n + 3))
    matrices = root @ np.swapaxes(root, 1, 2)
    factor = metric.inverse_factor(matrices)
    np.testing.assert_allclose(np.triu(factor, 1), 0.0, atol=1e-12)
    identity = np.swapaxes(factor, 1, 2) @ factor @ matrices
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(n), (2, n, n)), atol=1e-6)


@pytest.mark.parametrize("classes", [3, 7, 10, 49])
def test_where_all_classes_are_as_likely_a_block_serves_them_all(classes):
    """Their weights are then p (1 - p), which rounds one way for the first class, another for others."""
    x = np.random.default_rng(0).normal(size=(30, 5))
    losses = LocalLosses(gc.Softmax(classes), [gc.Dataset(x, np.zeros(30))], np.zeros(1))
    weights = losses.weights_at(losses.predictors(np.zeros((1, 5 * classes))))[0]
    assert metric._alike(weights) == [slice(0, classes)]
    weights[0, 1, 2] *= 1.001
    assert len(metric._alike(weights)) == classes


@pytest.mark.parametrize("tied", [(), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize(("pinned", "server"), [(False, 0.0), (False, 0.8), (True, 0.0)])
@pytest.mark.parametrize("loss", [gc.LeastSquares(True), gc.Softmax(3)], ids=repr)
def test_the_metric_is_the_inverse_of_its_arrow_when_users_are_alike(loss, tied, pinned, server):
    """Then the mean block is that of every user, and the Schur complement is exact."""
    rng, n = np.random.default_rng(1), 3
    x = rng.normal(size=(40, 4))
    data = gc.Dataset(x, np.zeros(40) if isinstance(loss, gc.Softmax) else rng.normal(size=40))
    losses = LocalLosses(loss, [data] * n, np.full(n, 0.2))
    shape = loss.shape(4)
    p, columns = math.prod(shape), math.prod(shape[1:])
    z = losses.predictors(np.tile(rng.normal(size=p), (n, 1)))
    mask = np.isin(np.arange(n), tied)
    coupling = metric.Coupling(
        np.where(mask, 0.0, 0.9), mask, pinned, server, np.full(n, 0.4), floor=0.0
    )
    found = metric.ArrowMetric(losses, z, coupling, np.random.default_rng(0))
    stack = losses.stacks[0]
    design = np.asarray(stack.design(slice(None)))[0]
    weights = stack.weights_at(z[0])[0]
    # The arrow itself, column by column, projected on the gauge.
    arrow = np.zeros((n + 1, p, n + 1, p))
    for k in range(columns):
        own = np.arange(k, p, columns)
        block = (design.T * weights[k]) @ design + 0.4 * np.eye(len(own))
        for user in range(n):
            if mask[user]:
                arrow[np.ix_([0], own, [0], own)] += block[None, :, None]
                continue
            tie = 0.9 * np.eye(len(own))
            arrow[np.ix_([user + 1], own, [user + 1], own)] += (block + tie)[None, :, None]
            arrow[np.ix_([0], own, [0], own)] += tie[None, :, None]
            for a, b in ((0, user + 1), (user + 1, 0)):
                arrow[np.ix_([a], own, [b], own)] -= tie[None, :, None]
        arrow[np.ix_([0], own, [0], own)] += server * np.eye(len(own))[None, :, None]
    moving = np.concatenate([[not pinned], ~mask])
    right = np.where(moving[:, None], rng.normal(size=(n + 1, p)), 0.0)
    if columns > 1:  # blocks act where columns sum to zero
        right -= right.reshape(n + 1, -1, columns).mean(axis=2).repeat(columns, axis=1)
    free = np.repeat(moving, p)
    full = arrow.reshape((n + 1) * p, -1)
    wanted = np.zeros((n + 1) * p)
    wanted[free] = np.linalg.solve(full[np.ix_(free, free)], right.ravel()[free])
    wanted = wanted.reshape(n + 1, p)
    if columns > 1:
        wanted -= wanted.reshape(n + 1, -1, columns).mean(axis=2).repeat(columns, axis=1)
    np.testing.assert_allclose(found.solve(right), wanted, rtol=2e-3, atol=2e-4)


@settings(max_examples=20)
@given(cases.problems(loss=ALL_LOSSES), st.integers(0, 2**32 - 1))
def test_the_metric_is_symmetric_and_positive(problem, seed):
    """Whatever users differ in: a direction from it is downhill."""
    rng = np.random.default_rng(seed)
    n, p = problem.n_users, math.prod(problem.shape)
    z = problem.local_losses.predictors(rng.normal(size=(n, p)))
    tied = rng.random(n) < 0.3
    slopes = np.where(tied, 0.0, rng.uniform(0.1, 3.0, n))
    coupling = metric.Coupling(slopes, tied, False, 0.3, 2.0 * problem.nu, floor=0.0)
    solve = metric.ArrowMetric(problem.local_losses, z, coupling, rng).solve
    moving = np.concatenate([[True], ~tied])[:, None]
    a, b = (np.where(moving, rng.normal(size=(n + 1, p)), 0.0) for _ in range(2))
    sizes = math.sqrt(np.vdot(a, solve(a)) * np.vdot(b, solve(b)))
    assert np.vdot(a, solve(a)) > 0.0
    assert abs(np.vdot(a, solve(b)) - np.vdot(b, solve(a))) <= 1e-4 * sizes


@pytest.mark.parametrize(
    ("tied", "server", "slope"), list(itertools.product(range(4), (0.0, 0.6), (0.0, 1.5)))
)
def test_the_schur_complement_of_equal_users_is_inverted(tied, server, slope):
    """As a function of one number K: N - t users with (K + a)^{-1} a K, t with K, and c."""
    mask = np.arange(3) < tied
    slopes = np.where(mask, 0.0, slope)
    if not (slopes.any() or tied or server):
        return  # nothing holds rho: no regularizer has this
    coupling = metric.Coupling(slopes, mask, False, server, np.zeros(3), 0.0)
    identity, terms = coupling.schur_terms()
    for block in (1e-8, 0.3, 1.0, 1e5):
        schur = server + tied * block + (3 - tied) * slope * block / (block + slope)
        if schur:
            inverse = identity + sum(w / (block + shift) for w, shift in terms)
            assert inverse == pytest.approx(1.0 / schur, rel=1e-9)
            assert identity >= 0.0
            assert all(w >= 0.0 for w, _ in terms)


def test_the_step_lengths_are_those_of_newton():
    """The derivatives by the N + 1 lengths, against differences of F."""
    rng = np.random.default_rng(4)
    for regularizer in (gc.SmoothL2(1.1, 0.4), gc.L2(0.9), gc.SquaredL2(0.5)):
        problem = cases.example(gc.Softmax(3, True), regularizer, nu=0.2)
        attacker = gc.ModelAttack(rng.normal(size=problem.shape), gc.SmoothL2(0.8, 0.3))
        monitor = type("Passes", (), {"passes": 0.0})()
        objective = lbfgs._Objective(problem, attacker, monitor)
        p = math.prod(problem.shape)
        point = objective.start(rng.normal(size=p), rng.normal(size=(3, p)))
        models, step = point.models, rng.normal(size=(4, p))
        jet = problem.local_losses.jet(point.z, objective.predictors(step[1:]), np.zeros(3))
        first, second, row = objective._derivatives(point, models, step, jet)
        hessian = np.diag(second)
        hessian[0, 1:] = hessian[1:, 0] = row

        def value(t, objective=objective, models=models, step=step, point=point):
            moved = models + t[:, None] * step
            return objective.at(moved, point.tied, False).value

        h, eye = 1e-4, np.eye(4)
        for i, j in itertools.product(range(4), repeat=2):
            slope = (value(h * eye[i]) - value(-h * eye[i])) / (2 * h)
            assert first[i] == pytest.approx(slope, rel=1e-6, abs=1e-6)
            corners = [
                value(h * (a * eye[i] + b * eye[j]))
                for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))
            ]
            mixed = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * h * h)
            assert hessian[i, j] == pytest.approx(mixed, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_a_step_does_not_end_on_the_far_side_of_a_valley(seed):
    """At the start every logit is saturated, F is all but linear, the first step far too long."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    x = rng.uniform(0.0, 20.0, size=(200, d))
    start = -np.full(d, 2.0)
    problem = gc.Problem(gc.Logistic(), gc.HardConsensus(), [gc.Dataset(x, np.ones(200))], nu=0.1)
    frozen = gc.ModelAttack(start, gc.SquaredL2(1.0))
    solution = gc.solve(problem, method="lbfgs", start=start, attacker=frozen)
    assert solution.status is gc.Status.OPTIMAL
