"""The Moreau envelope: the defining inclusion, closed forms, and a search that knows no derivative."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.regularizers import norm
from gplconvex.rounding import UNIT
from tests import oracles
from tests import strategies as cases


def one_user(loss, regularizer, x, y, nu=0.0, counts=None):
    return gc.Problem(loss, regularizer, [gc.Dataset(x, y, counts)], nu)


@st.composite
def users(draw, regularizer=None, nu=None):
    """A problem of one user with data, and a global model."""
    loss = draw(cases.losses())
    d, rows = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, counts = rng.normal(size=(rows, d)), rng.integers(1, 4, rows)
    problem = one_user(
        loss,
        draw(cases.regularizers() if regularizer is None else regularizer),
        x,
        cases.labels(loss, rows, rng),
        draw(cases.powers(1e-3, 1.0)) if nu is None else nu,
        counts,
    )
    return problem, draw(cases.models(problem.shape))


# -- closed forms ------------------------------------------------------------------------------------


@given(cases.powers(0.01, 100.0), cases.models((4,)), cases.models((4,)))
def test_the_envelope_of_half_a_square_under_l2_is_huber(lam, rho, y):
    # L(theta) = |theta - y|^2 / 2: one point along each axis.
    envelope = gc.moreau_envelope(one_user(gc.LeastSquares(), gc.L2(lam), np.eye(4), y), 0, rho)
    t = np.linalg.norm(rho - y)
    huber = t**2 / 2 if t <= lam else lam * t - lam**2 / 2
    pull = (rho - y) * (1.0 if t <= lam else lam / t)
    assert envelope.value == pytest.approx(huber, rel=1e-12)
    np.testing.assert_allclose(envelope.gradient, pull, atol=1e-11 * (1 + lam))
    np.testing.assert_allclose(envelope.theta, rho if t <= lam else y + pull, atol=1e-11 * (1 + t))


@given(cases.powers(0.01, 100.0), st.floats(-10, 10), st.floats(-10, 10))
def test_quadratics_under_squared_l2_add_harmonically(lam, rho, y):
    envelope = gc.moreau_envelope(
        one_user(gc.LeastSquares(), gc.SquaredL2(lam), [[1.0]], [y]), 0, [rho]
    )
    curvature = 1 / (1 / 1.0 + 1 / (2 * lam))
    assert envelope.value == pytest.approx(curvature * (rho - y) ** 2 / 2, rel=1e-11, abs=1e-14)
    np.testing.assert_allclose(envelope.gradient, curvature * (rho - y), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(envelope.hessian, [[curvature]], rtol=1e-13)
    np.testing.assert_allclose(envelope.theta, (y + 2 * lam * rho) / (1 + 2 * lam), atol=1e-13)


@given(users(regularizer=st.builds(gc.SquaredL2, cases.powers(0.01, 100.0))))
def test_least_squares_under_squared_l2_is_one_linear_system(case):
    problem, rho = case
    if isinstance(problem.loss, gc.Logistic):
        problem = gc.Problem(
            gc.LeastSquares(problem.loss.intercept),
            problem.regularizer,
            problem.datasets,
            problem.nu,
        )
    data, lam, nu = problem.datasets[0], problem.regularizer.lam, problem.nu[0]
    x = np.hstack([data.x, np.ones((data.n_rows, int(problem.loss.intercept)))])
    matrix = x.T @ (data.counts[:, None] * x) + 2 * (nu + lam) * np.eye(len(rho))
    theta = np.linalg.solve(matrix, x.T @ (data.counts * data.y) + 2 * lam * rho)
    envelope = gc.moreau_envelope(problem, 0, rho)
    np.testing.assert_allclose(envelope.theta, theta, atol=1e-10 * (1 + np.linalg.norm(rho)))
    np.testing.assert_allclose(
        envelope.gradient, 2 * lam * (rho - theta), atol=1e-10 * (1 + lam * np.linalg.norm(rho))
    )


@pytest.mark.parametrize(
    "regularizer", [r for rs in oracles.EXAMPLES.values() for r in rs], ids=repr
)
def test_a_user_without_data_and_ridge_replies_what_it_was_sent(regularizer):
    problem = gc.Problem(gc.Logistic(), regularizer, [gc.Dataset.empty(3)])
    rho = np.array([1.0, -2.0, 3.0])
    envelope = gc.moreau_envelope(problem, 0, rho)
    np.testing.assert_allclose(envelope.theta, rho, atol=1e-12)
    np.testing.assert_allclose(
        envelope.gradient,
        0.0,
        atol=1e-12 * regularizer.smoothness if math.isfinite(regularizer.smoothness) else 0.0,
    )
    assert envelope.value == pytest.approx(regularizer.value(np.zeros(3)), abs=1e-12)


# -- the search that knows no derivative --------------------------------------------------------------

ONE_PARAMETER = [
    (gc.LeastSquares(), [[1.5], [-0.5], [2.0]], [1.0, 2.0, -1.0]),
    (gc.Logistic(), [[1.5], [-0.5], [2.0]], [1.0, 1.0, -1.0]),
    (gc.Logistic(), [[3.0]], [1.0]),
]


@pytest.mark.parametrize("rho", [-4.0, 0.25, 7.0])
@pytest.mark.parametrize(
    "regularizer", [r for rs in oracles.EXAMPLES.values() for r in rs], ids=repr
)
@pytest.mark.parametrize(
    ("loss", "x", "y"), ONE_PARAMETER, ids=["squares", "logistic", "one point"]
)
def test_the_envelope_is_the_minimum_that_a_section_search_finds(loss, x, y, regularizer, rho):
    problem = one_user(loss, regularizer, x, y, nu=0.05)
    envelope = gc.moreau_envelope(problem, 0, [rho])
    if math.isinf(regularizer.kink):
        value, theta = problem.value([rho], [[rho]]), rho
    else:
        value, theta = oracles.reply(problem, 0, rho)
    assert envelope.value == pytest.approx(value, rel=1e-13)
    assert envelope.theta[0] == pytest.approx(theta, abs=1e-12)


# -- theorems ----------------------------------------------------------------------------------------


def rounding(envelope, problem, rho):
    """A few units of rounding of what the reports are made of."""
    local = problem.locals[0].hessian(envelope.theta)
    return 1e-12 * (1.0 + np.linalg.norm(local) * (1.0 + np.linalg.norm(rho)))


@given(users())
def test_the_envelope_lies_below_every_model_and_is_reached_at_the_reply(case):
    problem, rho = case
    envelope = gc.moreau_envelope(problem, 0, rho)
    scale = 1e-13 * (1 + abs(envelope.value))
    assert envelope.value == pytest.approx(problem.value(rho, [envelope.theta]), rel=1e-13)
    rng = np.random.default_rng(0)
    for size in (1e-8, 1e-4, 1.0):
        other = envelope.theta + size * rng.normal(size=rho.shape)
        assert problem.value(rho, [other]) >= envelope.value - scale
    assert problem.value(rho, [rho]) >= envelope.value - scale


@given(users(regularizer=cases.smooth_regularizers()))
def test_the_report_is_the_gradient_of_both_terms(case):
    problem, rho = case
    envelope = gc.moreau_envelope(problem, 0, rho)
    slack = rounding(envelope, problem, rho) * (1 + problem.regularizer.smoothness)
    from_regularizer = problem.regularizer.gradient(rho - envelope.theta)
    from_loss = problem.locals[0].gradient(envelope.theta)
    np.testing.assert_allclose(envelope.gradient, from_regularizer, atol=slack)
    np.testing.assert_allclose(envelope.gradient, from_loss, atol=slack)


@given(users(regularizer=st.builds(gc.L2, cases.powers(0.1, 10.0))))
def test_under_l2_the_report_is_a_subgradient_of_r_and_the_gradient_of_the_loss(case):
    problem, rho = case
    envelope = gc.moreau_envelope(problem, 0, rho)
    slack = rounding(envelope, problem, rho)
    lam, u = problem.regularizer.lam, rho - envelope.theta
    np.testing.assert_allclose(
        envelope.gradient, problem.locals[0].gradient(envelope.theta), atol=slack
    )
    assert np.linalg.norm(envelope.gradient) <= lam * (1 + 1e-12) + slack
    if u.any():
        # How sharp the direction of u is depends on how long it is.
        sharp = slack + lam * 1e-12 * (1 + np.linalg.norm(rho)) / np.linalg.norm(u)
        np.testing.assert_allclose(envelope.gradient, lam * u / np.linalg.norm(u), atol=sharp)


@given(users(), st.data())
def test_the_report_is_the_difference_of_the_value(case, data):
    problem, rho = case
    direction = data.draw(cases.models(problem.shape, 1.0))
    direction /= np.linalg.norm(direction)
    h = 1e-5
    envelope, up, down = (gc.moreau_envelope(problem, 0, rho + t * direction) for t in (0.0, h, -h))
    # Convexity: the slopes of the two chords enclose the slope at the point, kinks or not.
    slack = 1e-14 * (1 + abs(envelope.value)) / h
    slope = float(envelope.gradient @ direction)
    assert (
        (envelope.value - down.value) / h - slack
        <= slope
        <= (up.value - envelope.value) / h + slack
    )
    # And they are close, since the gradient of an envelope is Lipschitz.
    steepest = problem.locals[0].gradient_lipschitz(rho, np.linalg.norm(rho - envelope.theta) + 1)
    assert (up.value - down.value) / (2 * h) == pytest.approx(slope, abs=h * steepest + slack)


@given(users(regularizer=cases.smooth_regularizers()), st.data())
def test_the_hessian_is_the_difference_of_the_report(case, data):
    problem, rho = case
    direction = data.draw(cases.models(problem.shape, 1.0))
    direction /= np.linalg.norm(direction)
    h = 1e-4
    up, down = (gc.moreau_envelope(problem, 0, rho + t * direction).gradient for t in (h, -h))
    hessian = gc.moreau_envelope(problem, 0, rho).hessian
    expected = (up - down) / (2 * h)
    size = 1.0 + problem.regularizer.smoothness + np.linalg.norm(hessian)
    # delta >= 0.1, so that third derivatives of r vary by 1/delta^2 <= 100 at most.
    np.testing.assert_allclose(hessian @ direction, expected, atol=1e-5 * size)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * size)


@given(users(regularizer=st.builds(gc.SquaredL2, cases.powers(0.01, 100.0))), st.data())
def test_constants_of_the_envelope_under_squared_l2(case, data):
    problem, a = case
    b = data.draw(cases.models(problem.shape))
    lam, mu = problem.regularizer.lam, problem.locals[0].strong_convexity
    m = 2 * lam * mu / (mu + 2 * lam)
    one, two = gc.moreau_envelope(problem, 0, a), gc.moreau_envelope(problem, 0, b)
    change, move = one.gradient - two.gradient, a - b
    slack = 1e-11 * (1 + np.linalg.norm(one.gradient) + np.linalg.norm(two.gradient))
    assert np.linalg.norm(change) <= 2 * lam * np.linalg.norm(move) + slack
    assert change @ move >= m * move @ move - slack * np.linalg.norm(move)
    for envelope in (one, two):
        spectrum = np.linalg.eigvalsh((envelope.hessian + envelope.hessian.T) / 2)
        assert m * (1 - 1e-9) - 1e-12 <= spectrum[0]
        assert spectrum[-1] <= 2 * lam * (1 + 1e-12)


def test_the_constants_are_reached_and_no_better_ones_hold():
    # mu = 2 nu and lam in one dimension: the envelope is exactly as curved as the bound says.
    nu, lam = 0.3, 2.0
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(lam), [gc.Dataset.empty(1)], nu)
    m = 2 * lam * 2 * nu / (2 * nu + 2 * lam)
    assert gc.moreau_envelope(problem, 0, [5.0]).gradient[0] == pytest.approx(5 * m, rel=1e-14)
    # And data with huge curvature come as near to 2 lam as one likes.
    stiff = one_user(gc.LeastSquares(), gc.SquaredL2(lam), [[1e6]], [0.0])
    assert gc.moreau_envelope(stiff, 0, [5.0]).gradient[0] == pytest.approx(10 * lam, rel=1e-9)


# -- the kink ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(users(regularizer=st.just(gc.L2(1.0))), st.sampled_from([1e-12, 1e-9, 1e-3, 0.5]))
def test_models_coincide_exactly_when_the_local_gradient_is_within_lam(case, margin):
    problem, rho = case
    pull = problem.locals[0].gradient(rho)
    size = norm(pull)

    def reply(lam):
        same = gc.Problem(problem.loss, gc.L2(lam), problem.datasets, problem.nu)
        return gc.moreau_envelope(same, 0, rho)

    for lam in (size * (1 + margin), size, 10 * size):
        envelope = reply(lam)
        np.testing.assert_array_equal(envelope.theta, rho)
        np.testing.assert_array_equal(envelope.gradient, pull)
        np.testing.assert_array_equal(envelope.hessian, problem.locals[0].hessian(rho))
        assert envelope.value == pytest.approx(problem.locals[0].value(rho), rel=1e-14)
    # A step of length 1e-12 would be a few units of rounding of rho, in any direction.
    margin = max(margin, 1e-9)
    apart = reply(size * (1 - margin))
    assert (apart.theta != rho).any()
    here = problem.locals[0].value(rho)
    assert apart.value <= here + 8 * UNIT * (here + math.sqrt(here) + UNIT)
    # It moves downhill, by about what the gradient exceeds lam in units of the curvature.
    assert float(pull @ (apart.theta - rho)) < 0.0
    assert np.linalg.norm(apart.theta - rho) <= 1.01 * margin * size / (2 * problem.nu[0])


@pytest.mark.parametrize(
    "margin",
    [
        1e-3,
        1e-6,
        1e-12,
    ],
)
def test_just_beyond_the_kink_the_report_is_still_plausible(margin):
    """u is then so short that its direction is noise: the gradient of the loss is the right form."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y, rho = rng.normal(size=(3, 3)), rng.normal(size=3), 3 * rng.normal(size=3)
        problem = one_user(gc.LeastSquares(), gc.L2(1.0), x, y, nu=1e-3)
        lam = float(np.linalg.norm(problem.locals[0].gradient(rho))) * (1 - margin)
        problem = one_user(gc.LeastSquares(), gc.L2(lam), x, y, nu=1e-3)
        report = gc.moreau_envelope(problem, 0, rho).gradient
        assert np.linalg.norm(report) == pytest.approx(lam, rel=1e-7)


@given(users(regularizer=cases.smooth_regularizers()))
def test_without_a_kink_models_differ(case):
    problem, rho = case
    assert (gc.moreau_envelope(problem, 0, rho).theta != rho).any()


@given(users(regularizer=st.just(gc.HardConsensus())))
def test_under_hard_consensus_the_envelope_is_the_local_loss(case):
    problem, rho = case
    envelope, (local,) = gc.moreau_envelope(problem, 0, rho), problem.locals
    np.testing.assert_array_equal(envelope.theta, rho)
    assert envelope.value == local.value(rho)
    np.testing.assert_array_equal(envelope.gradient, local.gradient(rho))
    np.testing.assert_array_equal(envelope.hessian, local.hessian(rho))


@given(users(regularizer=st.builds(gc.SquaredL2, cases.powers(0.1, 10.0))))
def test_a_great_lam_approaches_the_local_loss_at_the_rate_of_1_over_lam(case):
    problem, rho = case
    (local,) = problem.locals
    stiff = gc.Problem(problem.loss, gc.SquaredL2(1e8), problem.datasets, problem.nu)
    envelope = gc.moreau_envelope(stiff, 0, rho)
    square = float(np.sum(local.gradient(rho) ** 2))
    assert envelope.value <= local.value(rho) * (1 + 1e-13)
    assert envelope.value >= local.value(rho) - square / 4e8 - 1e-13 * (1 + local.value(rho))


# -- scale -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("regularizer", [gc.SquaredL2(1.0), gc.L2(1.0), gc.SmoothL2(1.0)], ids=repr)
@pytest.mark.parametrize("loss", [gc.LeastSquares(), gc.Logistic()], ids=repr)
def test_features_of_another_scale_give_a_certified_reply(loss, regularizer, scale):
    rng = np.random.default_rng(3)
    problem = one_user(
        loss, regularizer, scale * rng.normal(size=(6, 3)), rng.choice([-1.0, 1.0], 6), nu=1e-3
    )
    rho = np.array([1.0, -1.0, 0.5]) / max(scale, 1.0)
    envelope = gc.moreau_envelope(problem, 0, rho)
    gradient, off = problem.locals[0].certified_gradient(envelope.theta)
    # Fenchel and Young: the duality gap of the reply, a sum of squares, is at the level of rounding.
    gap = regularizer.fenchel_young(rho - envelope.theta, gradient, off)
    assert gap <= 1e-12 * (1 + abs(envelope.value))


@pytest.mark.parametrize("label", [-1.0, 1.0])
def test_predictors_of_a_thousand_neither_overflow_nor_warn(label):
    problem = one_user(gc.Logistic(), gc.SquaredL2(0.5), [[1000.0], [-1000.0]], [label, -label])
    with np.errstate(all="raise", under="ignore"):
        envelope = gc.moreau_envelope(problem, 0, [1.0])
    # On the wrong side of both points, or far on the right one.
    expected = oracles.reply(problem, 0, 1.0, reach=5.0)
    assert envelope.value == pytest.approx(expected[0], rel=1e-12, abs=1e-40)
    assert envelope.theta[0] == pytest.approx(expected[1], rel=1e-12)
