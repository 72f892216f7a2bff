"""Poisson and softmax for one user: envelopes, local losses and what certificates take from them."""

from __future__ import annotations

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


# -- one user ----------------------------------------------------------------------------------------


@st.composite
def local_losses(draw, scale=None):
    loss = draw(st.sampled_from(LOSSES))
    d, rows = draw(st.integers(1, 3)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = gc.Dataset(
        rng.normal(size=(rows, d)), cases.labels(loss, rows, rng), rng.integers(1, 10**6, rows)
    )
    local = LocalLoss(loss, data, draw(st.sampled_from([0.0, 0.1])))
    size = draw(st.sampled_from([1e-6, 0.1, 1.0, 10.0])) if scale is None else scale
    return local, size * rng.normal(size=loss.shape(d))


def error_of(local, theta, gradient):
    exact = oracles.local_gradient(local.loss, local.data, local.nu, theta)
    with mp.workdps(50):
        computed = oracles.exact(gradient)
        return oracles.length([a - b for a, b in zip(computed, exact, strict=True)])


@settings(max_examples=40)
@given(local_losses())
def test_the_certified_gradient_is_within_its_bound_of_the_exact_one(case):
    local, theta = case
    gradient, bound = local.certified_gradient(theta)
    assert gradient.shape == theta.shape
    assert error_of(local, theta, gradient) <= bound
    # And the bound is worth having: units of rounding of the terms, whatever they cancel to.
    x, y, loss = np.abs(local.data.x), local.data.y, local.loss
    z = loss.predictor(local.data.x, theta)
    w = np.abs(loss.residual(z, y)) + loss.residual_rounding(z, y, loss.residual(z, y)) / UNIT
    w += loss.curvature_times(z, y, np.ones_like(z)) + np.abs(z) * (np.abs(w) + 1.0)
    terms = loss.pullback(x, (w.T * local.data.counts).T)
    scale = local.nu * np.linalg.norm(theta) + np.linalg.norm(terms)
    assert bound <= 200 * UNIT * scale + 1e-149


@pytest.mark.parametrize("far", [25.0, 36.0, 36.7, 38.0, 200.0])
@pytest.mark.parametrize("gauge", [0.0, 1e3, 1e6])
def test_the_certified_gradient_of_a_confident_softmax_far_along_the_gauge(gauge, far):
    """Where residuals are of the size of rounding, beside predictors that are not."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        theta = gauge * rng.normal(size=(3, 1)) + rng.normal(size=(3, 3))
        x = rng.normal(size=(4, 3))
        # One class ahead by so much, up to rounding.
        theta[:, 0] += far * np.linalg.lstsq(x[:3], np.ones(3), rcond=None)[0]
        data = gc.Dataset(x[:3], np.zeros(3), [1, 1000, 10**9])
        local = LocalLoss(gc.Softmax(3), data, 0.0)
        gradient, bound = local.certified_gradient(theta)
        assert error_of(local, theta, gradient) <= bound


@pytest.mark.parametrize("z", [340.0, 400.0, 700.0])
def test_the_certified_gradient_is_bounded_up_to_where_it_overflows(z):
    local = LocalLoss(gc.Poisson(), gc.Dataset([[1.0, 0.25]], [3.0]), 0.0)
    theta = np.array([z, 0.0])
    gradient, bound = local.certified_gradient(theta)
    assert error_of(local, theta, gradient) <= bound
    assert bound <= 1e-12 * np.abs(gradient).sum()


@given(local_losses(scale=1.0), st.data())
def test_gradient_and_hessian_are_differences(case, data):
    local, theta = case
    direction = data.draw(cases.models(theta.shape, 1.0))
    h = 1e-5
    up, down = theta + h * direction, theta - h * direction
    scale = 1.0 + np.linalg.norm(local.hessian(theta)) * np.linalg.norm(direction) ** 2
    scale += abs(local.value(theta))
    slope = (local.value(up) - local.value(down)) / (2 * h)
    assert slope == pytest.approx(np.vdot(local.gradient(theta), direction), abs=1e-6 * scale)
    bend = (local.gradient(up) - local.gradient(down)) / (2 * h)
    along = (local.hessian(theta) @ direction.ravel()).reshape(theta.shape)
    np.testing.assert_allclose(bend, along, atol=1e-6 * scale)


@given(local_losses(scale=1.0), st.sampled_from([0.0, 1e-6, 0.3]))
def test_curvature_in_a_ball_is_bounded_from_both_sides(case, radius):
    local, theta = case
    lipschitz = local.gradient_lipschitz(theta, radius)
    mu = local.strong_convexity_near(theta, radius)
    assert mu >= local.strong_convexity
    rng = np.random.default_rng(0)
    for _ in range(4):
        step = rng.normal(size=theta.shape)
        moved = theta + radius * step / np.linalg.norm(step)
        spectrum = np.linalg.eigvalsh(local.hessian(moved))
        assert spectrum[-1] <= lipschitz * (1 + 1e-11)
        assert mu <= spectrum[0] + 1e-12 * spectrum[-1]
    if isinstance(local.loss, gc.Softmax):
        assert mu == local.strong_convexity == 2.0 * local.nu
        assert lipschitz <= 2.0 * local.nu + np.linalg.eigvalsh(
            local.loss.gram(local.data.x, 0.5 * local.data.counts)
        )[-1] * (1 + 1e-9)


@ALL
@EVERY_LOSS
def test_the_envelope_is_least_and_its_gradient_is_both_of_its_expressions(loss, regularizer):
    problem = cases.example(loss, regularizer, users=1)
    rng = np.random.default_rng(1)
    rho = rng.normal(size=problem.shape)
    envelope = gc.moreau_envelope(problem, 0, rho)
    local = problem.locals[0]
    assert envelope.theta.shape == envelope.gradient.shape == problem.shape
    assert envelope.hessian.shape == (rho.size,) * 2
    scale = 1.0 + np.linalg.norm(envelope.gradient)
    np.testing.assert_allclose(envelope.gradient, local.gradient(envelope.theta), atol=1e-9 * scale)
    if math.isinf(regularizer.kink):
        np.testing.assert_array_equal(envelope.theta, rho)
        return
    if (envelope.theta != rho).any():
        pull = regularizer.gradient((rho - envelope.theta).ravel()).reshape(rho.shape)
        np.testing.assert_allclose(envelope.gradient, pull, atol=1e-9 * scale)
    for size in (1e-4, 1e-2, 1.0):
        other = envelope.theta + size * rng.normal(size=rho.shape)
        assert local.value(other) + regularizer.value((rho - other).ravel()) >= envelope.value
    h, direction = 1e-5, rng.normal(size=rho.shape)
    up, down = (gc.moreau_envelope(problem, 0, rho + t * direction) for t in (h, -h))
    slope = (up.value - down.value) / (2 * h)
    assert slope == pytest.approx(np.vdot(envelope.gradient, direction), rel=1e-6, abs=1e-6)
    bend = (up.gradient - down.gradient) / (2 * h)
    along = (envelope.hessian @ direction.ravel()).reshape(rho.shape)
    np.testing.assert_allclose(bend, along, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("regularizer", REGULARIZERS[:3], ids=lambda r: r.name)
@pytest.mark.parametrize("rho", [-4.0, 0.25, 3.0])
def test_the_poisson_envelope_is_the_minimum_that_a_section_search_finds(regularizer, rho):
    data = gc.Dataset([[1.5], [-0.5], [2.0]], [1.0, 4.0, 0.0], [1, 2, 1])
    problem = gc.Problem(gc.Poisson(), regularizer, [data], nu=0.05)
    value, theta = oracles.reply(problem, 0, rho, reach=20.0)
    envelope = gc.moreau_envelope(problem, 0, [rho])
    assert envelope.value == pytest.approx(value, rel=1e-11)
    assert envelope.theta[0] == pytest.approx(theta, abs=1e-8)


@EVERY_LOSS
def test_a_user_without_data_replies_what_the_ridge_says(loss):
    problem = gc.Problem(loss, gc.SquaredL2(1.0), [gc.Dataset.empty(2)], nu=1.0)
    rho = np.random.default_rng(0).normal(size=problem.shape)
    np.testing.assert_allclose(gc.moreau_envelope(problem, 0, rho).theta, rho / 2, rtol=1e-12)
    assert not gc.solve(problem).require_optimal().rho.any()
