"""`Problem` against the double sum that defines it, its guaranteed bounds, and its refusals."""

from __future__ import annotations

import math
import sys

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex import solvers
from gplconvex.local_losses import LocalLoss
from gplconvex.rounding import UNIT
from tests import oracles
from tests import strategies as cases

NAN, INF = float("nan"), float("inf")


@st.composite
def points(draw, problem, consensus=True):
    """A global model and personal ones; equal where the regularizer asks for it."""
    rho = draw(cases.models(problem.shape))
    if consensus and math.isinf(problem.regularizer.kink):
        return rho, [rho] * problem.n_users
    return rho, [draw(cases.models(problem.shape)) for _ in range(problem.n_users)]


# -- the value ---------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(cases.problems(max_rows=6), st.data())
def test_the_value_is_the_literal_double_sum(problem, data):
    rho, thetas = data.draw(points(problem))
    expected = oracles.objective(problem, rho, thetas)
    assert problem.value(rho, thetas) == pytest.approx(expected, rel=1e-13, abs=1e-13)


def test_the_scales_are_those_of_the_convention_table():
    # One user, one point x = 2, y = 1 counted 3 times, theta = 1.5, rho = 1, lam = 10, nu = 100.
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(10.0), [([[2.0]], [1.0], [3])], nu=100.0)
    assert problem.value([1.0], [[1.5]]) == 100 * 2.25 + 3 * (3.0 - 1.0) ** 2 / 2 + 10 * 0.25
    assert problem.locals[0].gradient(np.array([1.5])) == 2 * 100 * 1.5 + 3 * 2 * (3.0 - 1.0)
    assert problem.locals[0].hessian(np.array([1.5])) == 2 * 100 + 3 * 4


def test_the_ridge_applies_to_the_intercept_which_is_the_last_entry():
    problem = gc.Problem(gc.LeastSquares(intercept=True), gc.L2(1.0), [([[2.0]], [0.0])], nu=1.0)
    assert problem.shape == (2,)
    assert problem.value([3.0, 5.0], [[3.0, 5.0]]) == 9 + 25 + (2 * 3 + 5) ** 2 / 2


@given(cases.problems(), st.data())
def test_a_count_is_a_repeated_row(problem, data):
    repeated = gc.Problem(
        problem.loss,
        problem.regularizer,
        [(np.repeat(d.x, d.counts, axis=0), np.repeat(d.y, d.counts)) for d in problem.datasets],
        problem.nu,
    )
    rho, thetas = data.draw(points(problem))
    assert repeated.value(rho, thetas) == pytest.approx(problem.value(rho, thetas), rel=1e-12)
    for one, two, theta in zip(problem.locals, repeated.locals, thetas, strict=True):
        scale = 1.0 + np.linalg.norm(one.gradient(theta))
        assert np.linalg.norm(one.gradient(theta) - two.gradient(theta)) <= 1e-11 * scale
        np.testing.assert_allclose(one.hessian(theta), two.hessian(theta), rtol=1e-11, atol=1e-11)
        assert one.strong_convexity == pytest.approx(two.strong_convexity, rel=1e-9, abs=1e-10)


@given(cases.problems(), st.data())
def test_splitting_a_user_changes_neither_sum_nor_gradient(problem, data):
    theta = data.draw(cases.models(problem.shape))
    for local in problem.locals:
        cut = data.draw(st.integers(0, local.data.n_rows))
        parts = [
            LocalLoss(
                local.loss,
                gc.Dataset(local.data.x[rows], local.data.y[rows], local.data.counts[rows]),
                local.nu / 2,
            )
            for rows in (slice(cut), slice(cut, None))
        ]
        assert sum(p.value(theta) for p in parts) == pytest.approx(local.value(theta), rel=1e-12)
        together = sum(p.gradient(theta) for p in parts)
        np.testing.assert_allclose(together, local.gradient(theta), atol=1e-10)


@given(cases.problems(), st.data())
def test_gradient_and_hessian_are_differences(problem, data):
    theta, direction = (data.draw(cases.models(problem.shape, 1.0)) for _ in range(2))
    h = 1e-5
    for local in problem.locals:
        up, down = theta + h * direction, theta - h * direction
        slope = (local.value(up) - local.value(down)) / (2 * h)
        scale = 1.0 + abs(local.value(theta))
        assert slope == pytest.approx(float(local.gradient(theta) @ direction), abs=1e-7 * scale)
        bend = (local.gradient(up) - local.gradient(down)) / (2 * h)
        size = 1.0 + np.linalg.norm(local.hessian(theta))
        np.testing.assert_allclose(bend, local.hessian(theta) @ direction, atol=1e-7 * size)


# -- users -------------------------------------------------------------------------------------------


@given(cases.problems(), st.data())
def test_with_user_appends_one_user_and_shares_the_others(problem, data):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, problem.n_features))
    new = gc.Dataset(x, cases.labels(problem.loss, 3, rng))
    larger = problem.with_user(new, 0.25)
    assert larger.n_users == problem.n_users + 1
    assert larger.nu.tolist() == [*problem.nu.tolist(), 0.25]
    assert larger.datasets[-1] is new
    assert all(a is b for a, b in zip(larger.datasets, problem.datasets, strict=False))
    rho, thetas = data.draw(points(problem))
    extra = oracles.objective(
        gc.Problem(problem.loss, problem.regularizer, [new], 0.25), rho, [rho]
    )
    expected = problem.value(rho, thetas) + extra
    assert larger.value(rho, [*thetas, rho]) == pytest.approx(expected, rel=1e-12)


def test_nu_is_one_number_or_one_for_each_user_and_read_only():
    users = [([[1.0]], [1.0])] * 3
    assert gc.Problem(gc.LeastSquares(), gc.L2(1.0), users).nu.tolist() == [0.0] * 3
    assert gc.Problem(gc.LeastSquares(), gc.L2(1.0), users, 2).nu.tolist() == [2.0] * 3
    each = np.array([0.0, 1.0, 2.0])
    problem = gc.Problem(gc.LeastSquares(), gc.L2(1.0), users, each)
    each[0] = 7.0
    assert [local.nu for local in problem.locals] == problem.nu.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        problem.nu[0] = 1.0


@pytest.mark.parametrize("loss", cases.LOSSES, ids=repr)
def test_an_empty_user_has_the_ridge_and_nothing_else(loss):
    problem = gc.Problem(loss, gc.L2(1.0), [gc.Dataset.empty(2)], nu=3.0)
    (local,), theta = problem.locals, np.arange(1.0, 1.0 + problem.shape[0])
    assert local.value(theta) == 3.0 * theta @ theta
    np.testing.assert_array_equal(local.gradient(theta), 6.0 * theta)
    np.testing.assert_array_equal(local.hessian(theta), 6.0 * np.eye(len(theta)))
    assert local.strong_convexity == 6.0
    assert local.gradient_lipschitz(theta, 1.0) == 6.0
    gradient, bound = local.certified_gradient(theta)
    np.testing.assert_array_equal(gradient, 6.0 * theta)
    assert 0.0 <= bound <= 8 * UNIT * np.linalg.norm(gradient)


@pytest.mark.parametrize("loss", cases.LOSSES, ids=repr)
def test_one_point_has_a_gradient_along_itself(loss):
    problem = gc.Problem(loss, gc.L2(1.0), [([[3.0, -2.0]], [1.0])])
    (local,), theta = problem.locals, np.full(problem.shape, 0.1)
    features = [3.0, -2.0, 1.0][: len(theta)]
    z = theta @ features
    w = z - 1.0 if isinstance(loss, gc.LeastSquares) else -1.0 / (1.0 + math.exp(z))
    np.testing.assert_allclose(local.gradient(theta), w * np.array(features), rtol=1e-14)
    assert local.strong_convexity == 0.0  # one point in two dimensions


def test_a_problem_says_what_it_is():
    problem = gc.Problem(gc.Logistic(), gc.L2(2.0), [([[1.0, 0.0]], [1], [7]), gc.Dataset.empty(2)])
    assert repr(problem) == (
        "Problem(Logistic(intercept=False), L2(lam=2.0), 2 users, 7 points, 2 features)"
    )


# -- guaranteed bounds -------------------------------------------------------------------------------


@st.composite
def local_losses(draw):
    """Features from 1e-8 to 1e8, counts to 1e6, and pairs of points that cancel."""
    loss = draw(cases.losses())
    rows, d = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exponents = draw(st.lists(st.sampled_from([-8, -3, 0, 3, 8]), min_size=d, max_size=d))
    x = rng.normal(size=(rows, d)) * 10.0 ** np.array(exponents)
    y = cases.labels(loss, rows, rng)
    counts = rng.integers(1, draw(st.sampled_from([2, 10**6])), rows)
    if draw(st.booleans()):
        x, y, counts = np.vstack([x, x]), np.append(y, -y), np.append(counts, counts)
    nu = draw(st.sampled_from([0.0, 1e-8, 0.3, 1e8]))
    size = draw(st.sampled_from([0.0, 1e-9, 1.0, 30.0]))
    theta = size * rng.normal(size=loss.shape(d))
    theta[:d] /= 10.0 ** np.array(exponents)
    return LocalLoss(loss, gc.Dataset(x, y, counts), nu), theta


def scale_of(local, theta):
    """What the terms of the gradient amount to before they cancel."""
    ones = np.ones((local.data.n_rows, int(local.loss.intercept)))
    x = np.abs(np.hstack([local.data.x, ones]))
    reach = x @ np.abs(theta)
    w = np.abs(local.loss.residual(local.loss.predictor(local.data.x, theta), local.data.y))
    return 2 * local.nu * np.linalg.norm(theta) + np.linalg.norm(
        x.T @ (local.data.counts * (w + reach))
    )


@settings(max_examples=60)
@given(local_losses())
def test_the_certified_gradient_is_within_its_bound_of_the_exact_one(case):
    local, theta = case
    gradient, bound = local.certified_gradient(theta)
    exact = oracles.local_gradient(local.loss, local.data, local.nu, theta)
    with mp.workdps(50):
        off = oracles.length([mp.mpf(float(a)) - b for a, b in zip(gradient, exact, strict=True)])
        assert off <= bound
    # And the bound is worth having: units of rounding of the terms, whatever they cancel to.
    assert bound <= (64 + theta.size + local.data.n_rows) * UNIT * scale_of(local, theta)


def test_a_bound_without_the_rounding_of_the_predictor_would_be_wrong():
    # Labels equal to the predictor up to rounding: the residual is nothing but that rounding.
    uncovered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, theta = rng.normal(size=(1, 40)), 1e3 * rng.normal(size=40)
        local = LocalLoss(gc.LeastSquares(), gc.Dataset(x, x @ theta, [10**6]), 0.0)
        gradient, bound = local.certified_gradient(theta)
        exact = oracles.local_gradient(local.loss, local.data, 0.0, theta)
        with mp.workdps(50):
            off = oracles.length(
                [mp.mpf(float(a)) - b for a, b in zip(gradient, exact, strict=True)]
            )
        assert off <= bound
        uncovered += bool(off > 16.0 * UNIT * np.linalg.norm(gradient))
    assert uncovered > 0  # what the rounding of residual and result alone would not cover


def exact_hessian(local, theta):
    phi = oracles.LOSSES[local.loss.name].phi
    size = theta.size
    total = mp.matrix(size, size)
    for j in range(size):
        total[j, j] = 2 * mp.mpf(local.nu)
    for x, y, count in zip(local.data.x, local.data.y, local.data.counts, strict=True):
        features = [*oracles.exact(x), *([mp.mpf(1)] if local.loss.intercept else [])]
        z = oracles.predictor(local.loss, x, oracles.exact(theta))
        bend = int(count) * oracles.bend(lambda z, y=y: phi(z, mp.mpf(float(y))), z, 250)
        for i in range(size):
            for j in range(size):
                total[i, j] += bend * features[i] * features[j]
    return total


@settings(max_examples=25)
@given(local_losses())
def test_strong_convexity_is_a_lower_bound_of_the_least_eigenvalue(case):
    local, theta = case
    with mp.workdps(250):
        spectrum = mp.eigsy(exact_hessian(local, theta), eigvals_only=True)
        least, largest = max(mp.mpf(0), min(spectrum)), max(spectrum)
        assert local.strong_convexity <= least + largest * mp.mpf(10) ** -200
        assert local.strong_convexity >= 2.0 * local.nu
        if isinstance(local.loss, gc.LeastSquares):
            # Nothing is given away but rounding of the largest eigenvalue.
            off = 2.0 * (local.data.n_rows + 10 * theta.size + 10) * theta.size * UNIT * largest
            assert local.strong_convexity >= least - off - 4 * UNIT * least


@given(local_losses(), st.data())
def test_the_gradient_is_lipschitz_on_the_ball(case, data):
    local, theta = case
    # A ball of about the extent of the models for which predictors are of order 1.
    radius = data.draw(st.sampled_from([0.0, 1e-6, 1.0])) * (np.linalg.norm(theta) + 1e-3)
    lipschitz = local.gradient_lipschitz(theta, radius)
    rng = np.random.default_rng(0)
    for _ in range(6):
        steps = [rng.normal(size=theta.shape) for _ in range(2)]
        one, two = (theta + radius * step / np.linalg.norm(step) for step in steps)
        (a, a_off), (b, b_off) = local.certified_gradient(one), local.certified_gradient(two)
        distance = np.linalg.norm(one - two) * (1 + 1e-12)
        assert np.linalg.norm(a - b) - a_off - b_off <= lipschitz * distance
        largest = np.linalg.eigvalsh(local.hessian(one))[-1]
        assert largest <= lipschitz * (1 + 1e-11)
    # Tight where the ball is a point.
    if radius == 0.0:
        assert lipschitz <= np.linalg.eigvalsh(local.hessian(theta))[-1] * (1 + 1e-6)


@given(local_losses())
def test_the_convexity_near_a_point_holds_in_the_ball(case):
    local, theta = case
    for radius in (0.0, local.natural_radius, 3.0 * local.natural_radius):
        mu = local.strong_convexity_near(theta, radius)
        largest = np.linalg.eigvalsh(local.hessian(theta))[-1]
        assert mu >= local.strong_convexity - 1e-12 * largest
        rng = np.random.default_rng(0)
        for _ in range(4):
            step = rng.normal(size=theta.shape)
            spectrum = np.linalg.eigvalsh(
                local.hessian(theta + radius * step / np.linalg.norm(step))
            )
            assert mu <= spectrum[0] + 1e-13 * spectrum[-1]


def test_the_natural_radius_moves_no_predictor_by_more_than_one():
    x = np.array([[3.0, 4.0], [0.1, 0.0]])
    assert LocalLoss(gc.Logistic(), gc.Dataset(x, [1.0, 1.0]), 0.0).natural_radius == 0.2
    with_intercept = LocalLoss(gc.Logistic(True), gc.Dataset(x, [1.0, 1.0]), 0.0)
    assert with_intercept.natural_radius == pytest.approx(1 / math.sqrt(26))
    assert LocalLoss(gc.Logistic(), gc.Dataset.empty(2), 0.0).natural_radius == INF


def test_the_lipschitz_constant_of_a_point_would_be_wrong_on_a_ball():
    local = LocalLoss(gc.Logistic(), gc.Dataset([[1.0]], [1.0]), 0.0)
    theta = np.array([6.0])
    assert local.gradient_lipschitz(theta, 0.0) < 0.01
    assert local.gradient_lipschitz(theta, 10.0) == pytest.approx(0.25)


# -- refusals ----------------------------------------------------------------------------------------

GOOD = ([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0])


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([], "datasets is empty"),
        ([GOOD, ([[1.0]], [1.0])], "user 1 has 1 features, user 0 has 2"),
        ([GOOD, gc.Dataset.empty(3)], "user 1 has 3 features, user 0 has 2"),
        ([GOOD, ([[1.0, 2.0]], [1.0, 1.0])], r"user 1: y must have shape \(1,\).*got \(2,\)"),
        ([GOOD, ([[1.0, NAN]], [1.0])], "user 1: x must be finite; row 0"),
        ([GOOD, ([[1.0, 0.0], [1.0, INF]], [1.0, 1.0])], "user 1: x must be finite; row 1"),
        ([GOOD, GOOD, (GOOD[0], [1.0, NAN])], "user 2: y must be finite; row 1 holds nan"),
        ([(GOOD[0], [1.0, 0.0])], "user 0: logistic takes labels -1 and .1.*row 1 has y = 0"),
        ([GOOD, (GOOD[0], [0.5, 1.0])], "user 1: logistic takes .*row 0 has y = 0.5"),
        ([GOOD, (GOOD[0], np.eye(2))], r"user 1: logistic takes one label a point.*\(2, 2\)"),
        ([(*GOOD, [1, 0])], "user 0: counts must be integers.*row 1 has 0"),
        ([(GOOD[0],)], r"user 0: expected a Dataset or a tuple \(x, y\)"),
        ([(*GOOD, [1, 1], 5)], "user 0: expected a Dataset"),
        ([GOOD, 5], "user 1: expected a Dataset .*got int"),
        ([list(GOOD)], "user 0: expected a Dataset .*got list"),
        (GOOD, "user 0: expected a Dataset .*got list"),
        (gc.Dataset(*GOOD), r"write \[dataset\] for one user"),
        ("ab", "user 0: expected a Dataset .*got str"),
    ],
)
def test_wrong_data_is_refused_with_its_user_and_row(users, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), users)


@pytest.mark.parametrize("users", [5, None])
def test_data_that_is_no_sequence_is_refused(users):
    with pytest.raises(gc.InvalidInputError, match="datasets"):
        gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), users)


@pytest.mark.parametrize(
    ("nu", "message"),
    [
        (-1e-300, "at least 0; got -1e-300"),
        (NAN, "at least 0; got nan"),
        (INF, "finite and at least 0; got inf"),
        (None, "must be a number; got None"),
        ("much", "must be a number; got 'much'"),
        (1j, "must be a number"),
        ([0.1, -2.0], "at least 0; got -2.0"),
        ([0.1], "one for each of the 2 users; got 1"),
        ([0.1, 0.1, 0.1], "one for each of the 2 users; got 3"),
        ([], "one for each of the 2 users; got 0"),
        ([[0.1, 0.2]], "must be a number"),
        ([0.1, [0.2, 0.3]], "nu must be"),
    ],
)
def test_a_wrong_ridge_is_refused(nu, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), [GOOD, GOOD], nu)


@pytest.mark.parametrize("bad", [0, 0.0, -1.0, NAN, INF, -INF, True, "1", None, 1j])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (gc.SquaredL2, "SquaredL2: lam"),
        (gc.L2, "L2: lam"),
        (gc.SmoothL2, "SmoothL2: lam"),
        (lambda bad: gc.SmoothL2(1.0, bad), "SmoothL2: delta"),
    ],
    ids=["squared-l2", "l2", "smooth-l2", "delta"],
)
def test_a_wrong_strength_or_width_is_refused(make, name, bad):
    with pytest.raises(gc.InvalidInputError, match=f"{name} must be"):
        make(bad)


@pytest.mark.parametrize("bad", [1, 0, None, "yes", np.True_])
@pytest.mark.parametrize("loss", [gc.LeastSquares, gc.Logistic])
def test_intercept_is_true_or_false(loss, bad):
    with pytest.raises(gc.InvalidInputError, match="intercept must be True or False"):
        loss(bad)


@pytest.mark.parametrize(
    ("loss", "regularizer", "message"),
    [
        (gc.Logistic, gc.L2(1.0), "loss must be a Loss such as"),
        ("logistic", gc.L2(1.0), "loss must be a Loss such as"),
        (gc.Logistic(), gc.L2, "regularizer must be a Regularizer such as"),
        (gc.Logistic(), 1.0, "regularizer must be a Regularizer such as"),
        (gc.L2(1.0), gc.Logistic(), "loss must be a Loss such as"),
    ],
)
def test_classes_and_names_are_not_losses_or_regularizers(loss, regularizer, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        gc.Problem(loss, regularizer, [GOOD])


@pytest.fixture
def problem():
    return gc.Problem(gc.Logistic(intercept=True), gc.SquaredL2(1.0), [GOOD, GOOD], nu=0.1)


@pytest.fixture
def no_work(monkeypatch):
    """Every solver fails the test when it is called."""

    def fail(*_args, **_kwargs):
        raise AssertionError("work began before the arguments were checked")

    monkeypatch.setattr(solvers, "solve_newton", fail)
    monkeypatch.setattr(solvers, "certify", fail)
    monkeypatch.setattr("gplconvex.envelope.envelopes", fail)
    return fail


MODELS = [
    ([1.0, 2.0], r"must have shape \(3,\) \(2 features, then the intercept\); got \(2,\)"),
    ([[1.0, 2.0, 3.0]], r"must have shape \(3,\) .*got \(1, 3\)"),
    (1.0, r"must have shape \(3,\) .*got \(\)"),
    ([1.0, NAN, 3.0], r"must be finite; got \[1.0, nan, 3.0\]"),
    ([1.0, INF, 3.0], "must be finite"),
    (["a", 1, 2], "must be a rectangular array of real numbers"),
    ([1j, 1, 2], "must be a rectangular array of real numbers"),
]


@pytest.mark.parametrize(("model", "message"), MODELS)
@pytest.mark.usefixtures("no_work")
def test_a_wrong_model_is_refused_everywhere_before_work_starts(problem, model, message):
    zero = np.zeros(3)
    uses = {
        "start": lambda: gc.solve(problem, start=model),
        "rho": lambda: gc.moreau_envelope(problem, 0, model),
        "target": lambda: gc.required_gradient(problem, model),
        "gradient": lambda: gc.solve(problem, attacker=gc.GradientAttack(model)),
        "theta": lambda: gc.solve(problem, attacker=gc.ModelAttack(model)),
        r"thetas\[1\]": lambda: problem.value(zero, [zero, model]),
    }
    for name, use in uses.items():
        with pytest.raises(gc.InvalidInputError, match=f"{name} {message}"):
            use()
    with pytest.raises(gc.InvalidInputError, match=f"rho {message}"):
        problem.value(model, [zero, zero])


@pytest.mark.parametrize(
    ("thetas", "message"),
    [
        ([np.zeros(3)], "one model a user, 2; got 1"),
        ([np.zeros(3)] * 3, "one model a user, 2; got 3"),
        (5, "thetas must be a sequence; got int"),
        (None, "thetas must be a sequence; got NoneType"),
    ],
)
def test_there_must_be_one_model_for_each_user(problem, thetas, message):
    for use in (problem.value, lambda *point: gc.certify(problem, *point)):
        with pytest.raises(gc.InvalidInputError, match=message):
            use(np.zeros(3), thetas)


@pytest.mark.parametrize("user", [-1, 2, 100])
def test_there_is_no_such_user(problem, user):
    with pytest.raises(gc.InvalidInputError, match=f"user must be from 0 to 1; got {user}"):
        gc.moreau_envelope(problem, user, np.zeros(3))


@pytest.mark.parametrize("method", ["", "Newton", "simplex", "cvxpy CLARABEL", None, 5])
@pytest.mark.usefixtures("no_work")
def test_an_unknown_method_is_refused_with_the_list(problem, method):
    with pytest.raises(
        gc.InvalidInputError, match="method must be one of auto, newton, lbfgs, cvxpy"
    ):
        gc.solve(problem, method=method)


def test_an_unknown_cvxpy_solver_is_refused_with_those_installed(problem):
    with pytest.raises(gc.InvalidInputError, match=r"CLARABEL.*got 'MAGIC'"):
        gc.solve(problem, method="cvxpy:MAGIC")


@pytest.mark.parametrize("tol", [0, 0.0, -1e-9, NAN, -INF])
@pytest.mark.usefixtures("no_work")
def test_a_tolerance_must_be_positive(problem, tol):
    with pytest.raises(gc.InvalidInputError, match="tol must be positive"):
        gc.solve(problem, tol=tol)


@pytest.mark.usefixtures("no_work")
def test_a_start_is_of_no_use_to_cvxpy(problem):
    with pytest.raises(gc.UnsupportedCombinationError, match="has no start"):
        gc.solve(problem, method="cvxpy", start=np.zeros(3))


@pytest.mark.usefixtures("no_work")
def test_a_missing_cvxpy_is_named_with_its_extra(problem, monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(
        gc.MissingDependencyError, match=r'pip install "gplconvex\[cvxpy\]"'
    ) as info:
        gc.solve(problem, method="cvxpy")
    assert isinstance(info.value, ImportError)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("regularizer", [gc.L2(1.0), gc.SmoothL2(1.0)], ids=repr)
def test_a_report_that_the_server_would_drop_is_refused(regularizer):
    problem = gc.Problem(gc.Logistic(), regularizer, [GOOD], nu=0.1)
    with pytest.raises(gc.InvalidInputError, match=r"not plausible under .*at most 1; got 5"):
        gc.solve(problem, attacker=gc.GradientAttack([3.0, 4.0]))


@pytest.mark.usefixtures("no_work")
def test_unknown_options_are_refused(problem):
    with pytest.raises(TypeError, match="max_iter"):
        gc.solve(problem, max_iter=5)
    with pytest.raises(TypeError, match="positional"):
        gc.solve(problem, "newton")


def test_every_refusal_is_one_of_the_tree_and_a_value_error(problem):
    with pytest.raises(ValueError, match="tol") as info:
        gc.solve(problem, tol=0.0)
    assert isinstance(info.value, gc.GplConvexError)
