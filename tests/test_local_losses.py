"""The local losses of all users at once: stacks, padding, blocks and threads change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import gplconvex as gc
from gplconvex import local_losses, parallel
from gplconvex.local_losses import LocalLoss, LocalLosses
from gplconvex.regularizers import norm
from tests import strategies as cases

SIZES = (3, 0, 17, 16, 1, 18, 40, 17)
"""Alike and not, so that there are several stacks, some of them padded."""


def users(loss, seed=0, d=4):
    rng = np.random.default_rng(seed)
    return [
        gc.Dataset(
            rng.normal(size=(m, d)),
            cases.labels(loss, m, np.random.default_rng(1)),
            rng.integers(1, 4, m),
        )
        for m in SIZES
    ]


def everything(losses, thetas):
    """All that is asked of the losses, one row a user."""
    n = len(thetas)
    radius = np.full(n, 0.3)
    z, dz = losses.predictors(thetas), losses.predictors(np.cos(thetas))
    jet = losses.jet(z, dz, radius)
    there = losses.pullback(jet.w)
    assert np.linalg.norm(there, axis=1).max() <= losses.pullback_size(jet.w) * (1 + 1e-12)
    gradients, bounds = losses.certified_gradient(thetas)
    assert (np.linalg.norm(losses.gradient(thetas) - gradients, axis=1) <= bounds + 1e-11).all()
    singly = losses.value(thetas), losses.gradient(thetas), losses.hessian(thetas)
    for together, each in zip(losses.expansion(thetas), singly, strict=True):
        np.testing.assert_array_equal(together, each)
    return {
        "value": losses.value(thetas),
        "values along": jet.values,
        "gradient": losses.gradient(thetas),
        "gradient along": there,
        "certified gradient": gradients,
        "hessian": losses.hessian(thetas).reshape(n, -1),
        "slopes along": np.stack([jet.slopes, jet.bends], axis=1),
        "strong convexity": losses.strong_convexity,
        "near": losses.strong_convexity_near(thetas, radius),
        "radius": losses.natural_radius,
        "lipschitz": losses.gradient_lipschitz(thetas, radius),
    }


@pytest.mark.parametrize("loss", cases.ALL_LOSSES, ids=repr)
@pytest.mark.parametrize("shape", ["stacks", "one by one", "small blocks", "threads", "sparse"])
def test_each_user_has_what_it_has_alone(loss, shape, monkeypatch):
    if shape == "one by one":
        monkeypatch.setattr(local_losses, "STACKED", 0)
    if shape == "small blocks":
        monkeypatch.setattr(parallel, "BLOCK", 20)
    if shape == "threads":
        monkeypatch.setattr(parallel, "PARALLEL", 1)
    data, nu = users(loss), np.linspace(0.1, 0.8, len(SIZES))
    thetas = np.random.default_rng(2).normal(size=(len(SIZES), np.prod(loss.shape(4))))
    alone = [
        everything(LocalLosses(loss, [one], nu[[n]]), thetas[[n]]) for n, one in enumerate(data)
    ]
    if shape == "sparse":
        data = [gc.Dataset(sparse.csr_array(one.x), one.y, one.counts) for one in data]
    losses = LocalLosses(loss, data, nu)
    if shape == "stacks":
        assert 1 < len(losses.stacks) < len(SIZES)
    for what, found in everything(losses, thetas).items():
        expected = np.concatenate([one[what] for one in alone])
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12, err_msg=what)


@pytest.mark.parametrize("loss", cases.ALL_LOSSES, ids=repr)
def test_a_jet_is_what_the_losses_say_where_it_leads(loss):
    """At z + t dz, without the ridge; by the models that have these predictors."""
    data, step = users(loss), 0.3
    losses = LocalLosses(loss, data, np.zeros(len(data)))
    rng = np.random.default_rng(2)
    thetas, moves = rng.normal(size=(2, len(data), int(np.prod(loss.shape(4)))))
    z, dz = losses.predictors(thetas), losses.predictors(moves)
    jet = losses.jet(z, dz, np.full(len(data), step))
    there = thetas + step * moves
    gradients = losses.gradient(there)
    bends = np.einsum("np,npq,nq->n", moves, losses.hessian(there), moves)
    for found, wanted in (
        (jet.values, losses.value(there)),
        (losses.pullback(jet.w), gradients),
        (jet.slopes, np.sum(gradients * moves, axis=1)),
        (jet.bends, bends),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-11)


def test_single_precision_is_of_large_dense_inputs_only(monkeypatch):
    loss = gc.Softmax(3, intercept=True)
    data = [gc.Dataset(np.random.default_rng(n).normal(size=(50, 6)), np.zeros(50)) for n in (0, 1)]
    thetas = np.random.default_rng(5).normal(size=(2, 21))
    small = LocalLosses(loss, data, np.zeros(2))
    np.testing.assert_array_equal(
        small.predictors(thetas, single=True)[0], small.predictors(thetas)[0]
    )
    monkeypatch.setattr(local_losses, "STACKED", 0)
    large = LocalLosses(loss, data, np.zeros(2))
    sparse_one = LocalLosses(
        loss, [gc.Dataset(sparse.csr_array(one.x), one.y) for one in data], np.zeros(2)
    )
    exact, single = large.predictors(thetas)[1], large.predictors(thetas, single=True)[1]
    w = large.jet([exact, exact], [exact, exact], np.zeros(2)).w
    assert single.dtype == np.float64
    for found, wanted in (
        (single, exact),
        (large.pullback(w, single=True), large.pullback(w)),
    ):
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert 1e-9 < error < 1e-6
    np.testing.assert_array_equal(sparse_one.pullback(w, single=True), sparse_one.pullback(w))


def test_an_overflow_in_a_row_of_padding_is_nobodys():
    """The intercept alone drives e^z beyond float64 there, for one user with rows and one without."""
    loss = gc.Poisson(intercept=True)
    data = [gc.Dataset(np.full((m, 1), -1.0), np.ones(m)) for m in (17, 18)]
    losses = LocalLosses(loss, data, np.full(2, 0.1))
    assert len(losses.stacks) == 1
    thetas = np.tile([800.0, 800.0], (2, 1))  # z = 0 in every row, 800 in the padding
    assert np.isfinite(losses.value(thetas)).all()
    for n, one in enumerate(data):
        alone = LocalLoss(loss, one, 0.1)
        np.testing.assert_allclose(
            losses.gradient(thetas)[n], alone.gradient(thetas[n]), rtol=1e-12
        )
        assert losses.value(thetas)[n] == pytest.approx(alone.value(thetas[n]), rel=1e-14)


@settings(max_examples=40)
@given(st.sampled_from(cases.ALL_LOSSES), st.integers(0, 2**32 - 1), st.floats(0.0, 3.0).map(abs))
def test_gradients_in_float64_are_within_their_bounds(loss, seed, power):
    """As they are for users of millions of numbers; extended precision is the judge."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 5)) * 10.0 ** rng.uniform(-power, power, 5)
    data = gc.Dataset(x, cases.labels(loss, 60, rng), rng.integers(1, 1000, 60))
    theta = rng.normal(size=loss.shape(5))
    exact, tight = LocalLoss(loss, data, 0.1).certified_gradient(theta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_losses, "EXTENDED", 0)
        rounded, bound = LocalLoss(loss, data, 0.1).certified_gradient(theta)
    assert norm(rounded - exact) <= bound + tight  # also where Poisson's squares would overflow
    assert tight < bound or np.isinf(bound)
