"""Logistic points with inputs in a box: exact, inside, and proved to be the fewest."""

import dataclasses

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.realization.bounded.pricing import supports


def instance(seed: int) -> tuple[gc.Logistic, np.ndarray, np.ndarray, gc.Box, int]:
    """Return a model, and the gradient of m points in a box."""
    rng = np.random.default_rng(seed)
    d, m = int(rng.integers(2, 7)), int(rng.integers(3, 12))
    loss = gc.Logistic(intercept=True)
    theta, low = rng.normal(size=d + 1), rng.normal(size=d) - 1.0
    high = low + rng.uniform(0.5, 3.0, size=d)
    x, y = rng.uniform(low, high, size=(m, d)), rng.choice([-1.0, 1.0], size=m)
    w = loss.residual(loss.predictor(x, theta), y)
    return loss, theta, np.append(w @ x, w.sum()), gc.Box(low, high), m


@pytest.mark.parametrize("seed", range(8))
def test_points_are_exact_inside_and_the_bound_holds(seed):
    loss, theta, h, box, m = instance(seed)
    found = gc.realize_gradient(loss, theta, h, box)
    x, y, counts = found.dataset.x, found.dataset.y, found.dataset.counts
    assert box.contains(x).all()
    w = counts * loss.residual(loss.predictor(x, theta), y)
    np.testing.assert_allclose(np.append(w @ x, w.sum()), h, atol=1e-11 * np.linalg.norm(h))
    assert found.lower_bound <= min(m, found.n_points)  # m points have this gradient
    gc.check_lower_bound(loss, theta, h, found.proof, box)


@pytest.mark.parametrize("seed", range(8))
def test_no_point_pays_more_than_its_price(seed):
    loss, theta, _, box, _ = instance(seed)
    rng = np.random.default_rng(seed)
    v = rng.normal(size=theta.size)
    low, high = box.bounds(theta.size - 1)
    x = low + rng.choice([0.0, 0.5, 1.0], size=(20_000, len(low))) * (high - low)
    along = np.column_stack([x, np.ones(len(x))]) @ v
    for price, label in zip(supports(loss, theta, v, box), (-1.0, 1.0), strict=True):
        paid = loss.residual(loss.predictor(x, theta), np.full(len(x), label)) * along
        assert paid.max() <= price <= max(0.0, 1.5 * paid.max() + 0.1)


def test_target_needs_and_gets_the_same_number():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(200, 6))
    y = np.where(x @ rng.normal(size=6) > 0.3, 1.0, -1.0)
    loss, box = gc.Logistic(intercept=True), gc.Box(0.0, 1.0)
    honest = gc.Problem(loss, gc.HardConsensus(), [gc.Dataset(x, y)], nu=5.0)
    target = gc.solve(gc.Problem(loss, gc.HardConsensus(), [gc.Dataset(x, -y)], nu=5.0)).rho
    attack = gc.poison(honest, target, nu=0.0, domain=box)
    assert attack.n_points == attack.lower_bound
    attack.require(1e-9)
    np.testing.assert_allclose(gc.solve(attack.poisoned).rho, target, atol=1e-8)
    forged = dataclasses.replace(attack.proof, value=attack.proof.value + 1)
    with pytest.raises(gc.CertificateError):
        gc.check_lower_bound(loss, attack.theta, attack.data_gradient, forged, box)
    turned = dataclasses.replace(attack.proof, direction=-np.asarray(attack.proof.direction))
    with pytest.raises(gc.CertificateError):
        gc.check_lower_bound(loss, attack.theta, attack.data_gradient, turned, box)
    with pytest.raises(gc.CertificateError):
        gc.check_lower_bound(loss, attack.theta, attack.data_gradient, attack.proof)
    wider = gc.poison(honest, target, nu=0.0, domain=gc.Box(-1.0, 2.0))
    assert wider.lower_bound <= attack.lower_bound


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, 0.0), ([0.0, 0.0], [1.0] * 3)])
def test_bad_boxes_are_refused(low, high):
    with pytest.raises(gc.InvalidInputError):
        gc.Box(low, high)
