"""Softmax points with inputs in a box: exact, inside, and never fewer than the bound."""

import numpy as np
import pytest
from scipy.special import softmax

import gplconvex as gc
from gplconvex.realization.exact import relative_residual
from gplconvex.realization.multiclass_pricing import check_bounded_classes, extended_bounds, price
from gplconvex.realization.softmax.bounded import realize_softmax_in_box
from gplconvex.realization.softmax.relaxation import relaxed_dual

Instance = tuple[gc.Softmax, np.ndarray, np.ndarray, gc.Box]


def instance(seed: int, d: int, n: int, m: int, *, intercept: bool = True) -> Instance:
    """Return a model, and the gradient of m points in a box."""
    rng = np.random.default_rng(seed)
    loss = gc.Softmax(n, intercept=intercept)
    theta, low = rng.normal(size=(d + intercept, n)), rng.normal(size=d) - 1.0
    theta -= theta.mean(axis=1, keepdims=True)
    high = low + rng.uniform(0.5, 3.0, size=d)
    x, y = rng.uniform(low, high, size=(m, d)), rng.integers(n, size=m).astype(float)
    q = loss.residual(loss.predictor(x, theta), y)
    h = np.hstack([x, np.ones((m, int(intercept)))]).T @ q
    return loss, theta, h - h.mean(axis=1, keepdims=True), gc.Box(low, high)


def failing(loss, theta, h, proof, box) -> list[gc.Check]:
    checks = check_bounded_classes(
        loss, theta, h, proof.value, proof.direction, proof.multipliers, box
    )
    return [check for check in checks if not check.passed]


CASES = [
    (1, 2, 3, 20, True),
    (2, 4, 3, 10, True),
    (3, 3, 4, 20, True),
    (6, 3, 3, 50, True),
    (7, 4, 3, 9, False),
]


@pytest.mark.parametrize(("seed", "d", "n", "m", "intercept"), CASES)
def test_points_are_exact_inside_and_the_bound_holds(seed, d, n, m, intercept):
    loss, theta, h, box = instance(seed, d, n, m, intercept=intercept)
    found = realize_softmax_in_box(loss, theta, h, box, 0)
    data = found.dataset
    assert box.contains(data.x).all()
    assert relative_residual(loss, data, theta, h) == found.residual <= 1e-12
    q = softmax(loss.predictor(data.x, theta), axis=1) - np.eye(n)[data.y.astype(int)]
    x = np.hstack([data.x, np.ones((data.n_rows, int(intercept)))])
    np.testing.assert_allclose(x.T @ (data.counts[:, None] * q), h, atol=1e-11 * np.abs(h).max())
    assert found.lower_bound <= min(m, found.n_points)  # m points have this gradient
    assert (found.note == "") == (found.lower_bound == found.n_points)
    if found.proof.argument == "bounded inputs":
        assert not failing(loss, theta, h, found.proof, box)


def test_forged_bounds_are_refused():
    loss, theta, h, box = instance(1, 2, 3, 20)
    proof = realize_softmax_in_box(loss, theta, h, box, 0).proof
    assert proof.argument == "bounded inputs"
    v, w = proof.direction, proof.multipliers
    for forged in (
        (proof.value + 1, v, w),
        (proof.value, -v, w),
        (proof.value, v, tuple(10.0 * a for a in w)),
        (proof.value, v, tuple(-a for a in w)),
        (proof.value, v, w[:-1]),
        (proof.value, v[:-1], w),
        (proof.value, None, w),
    ):
        checks = check_bounded_classes(loss, theta, h, *forged, box)
        assert not all(check.passed for check in checks)
    wider = gc.Box(-99.0, 99.0)
    assert failing(loss, theta, h, proof, wider)


@pytest.mark.parametrize("seed", range(4))
def test_no_point_pays_more_than_its_price(seed):
    loss, theta, h, box = instance(seed, 3, 4, 20)
    rng = np.random.default_rng(seed)
    v, multipliers = relaxed_dual(theta, h, *extended_bounds(loss, theta, box))
    low, high = box.bounds(3)
    x = low + rng.choice([0.0, 0.3, 0.7, 1.0], size=(20_000, 3)) * (high - low)
    z = loss.predictor(x, theta)
    a = np.column_stack([x, np.ones(len(x))]) @ v
    paid = max(
        float(np.max(np.sum(loss.residual(z, np.full(len(x), float(y))) * a, axis=1)))
        for y in range(4)
    )
    assert paid <= price(loss, theta, v, multipliers, box) <= 1.5 * paid
    other = multipliers * rng.uniform(0.5, 2.0, size=multipliers.shape)  # any multipliers prove
    assert paid <= price(loss, theta, v, other, box)


def test_two_classes_are_logistic_regression():
    loss, theta, h, box = instance(5, 3, 2, 12)
    found = realize_softmax_in_box(loss, theta, h, box, 0)
    logistic = gc.realize_gradient(
        gc.Logistic(True), theta[:, 1] - theta[:, 0], 0.5 * (h[:, 1] - h[:, 0]), box
    )
    assert (found.n_points, found.lower_bound) == (logistic.n_points, logistic.lower_bound)
    # The relaxation, which the two-class path has no need of, is exact there.
    v, multipliers = relaxed_dual(theta, h, *extended_bounds(loss, theta, box))
    value = float(np.sum(v * h)) / price(loss, theta, v, multipliers, box)
    gauge = gc.realization.gauge(
        gc.Logistic(True), theta[:, 1] - theta[:, 0], 0.5 * (h[:, 1] - h[:, 0]), box
    )
    assert value == pytest.approx(gauge.value, rel=1e-4)


def test_extra_points_are_shipped_exactly():
    loss, theta, h, box = instance(6, 3, 3, 50)
    fewest = realize_softmax_in_box(loss, theta, h, box, 0)
    assert realize_softmax_in_box(loss, theta, h, box, 5).n_points == fewest.n_points + 5


def test_an_impossible_gradient_is_refused():
    # All probabilities are 1/3, so k points of which n have label 0 have k/3 - n in the last row.
    theta, h = np.zeros((2, 3)), np.array([[0.2, -0.1, -0.1], [0.1, 0.0, -0.1]])
    with pytest.raises(gc.UnrealizableGradientError, match="points are needed") as error:
        realize_softmax_in_box(gc.Softmax(3, intercept=True), theta, h, gc.Box(0.0, 1.0), 0)
    assert error.value.direction is not None


def test_no_points_for_no_gradient():
    loss, theta, h, box = instance(0, 2, 3, 5)
    assert realize_softmax_in_box(loss, theta, 0.0 * h, box, 0).n_points == 0


def test_targets_are_reached_end_to_end():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(60, 3)), rng.integers(0, 3, size=60).astype(float)
    loss, box = gc.Softmax(3, intercept=True), gc.Box(0.0, 1.0)
    honest = gc.Problem(loss, gc.SquaredL2(1.0), [gc.Dataset(x, y)], nu=0.5)
    flipped = gc.Problem(loss, gc.SquaredL2(1.0), [gc.Dataset(x, (y + 1.0) % 3.0)], nu=0.5)
    target = gc.solve(flipped).rho
    target = target - target.mean(axis=1, keepdims=True)
    attack = gc.poison(honest, target, domain=box).require(1e-9)
    assert attack.lower_bound <= attack.n_points <= attack.lower_bound + 3
    np.testing.assert_allclose(gc.solve(attack.poisoned).rho, target, atol=1e-8)
    with pytest.raises(gc.UnsupportedCombinationError, match="two classes"):
        gc.poison(honest, target, domain=gc.Ball(1.0))


def test_many_equations():
    """More than columns are generated for: single points from random places."""
    rng = np.random.default_rng(4)
    loss, box, m = gc.Softmax(6, intercept=True), gc.Box(0.0, 1.0), 12
    theta = rng.normal(size=(31, 6))
    theta -= theta.mean(axis=1, keepdims=True)
    x, y = rng.uniform(size=(m, 30)), rng.integers(0, 6, size=m).astype(float)
    h = np.column_stack([x, np.ones(m)]).T @ loss.residual(loss.predictor(x, theta), y)
    found = gc.realize_gradient(loss, theta, h, box)
    assert found.lower_bound <= min(m, found.n_points)
    assert found.n_points <= m + 4
    assert relative_residual(loss, found.dataset, theta, h) <= 1e-12
    assert box.contains(found.dataset.x).all()
    gc.check_lower_bound(loss, theta, h, found.proof, box)
