"""What K-class points can pay, against maximization, convex duality and random points."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import lambertw, log_softmax, logsumexp, softmax

import gplconvex as gc
from gplconvex.realization.lower_bound import rank_bound, support
from gplconvex.realization.multiclass_bound import cheapest, fewest, kappas
from tests import oracles_realization as oracle
from tests import strategies as cases

CLASSES = st.integers(2, 8)
SEEDS = st.integers(0, 2**32 - 1)


def paid(tau: np.ndarray, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(tau - z)^T (p(z) - y), for every row of z and of label distributions y."""
    return np.sum((tau - z) * (softmax(z, axis=-1) - y), axis=-1)


def payment(tau: np.ndarray, y: int) -> float:
    """The supremum of (tau - z)^T (p(z) - e_y) over z: W(sum of exp(tau_k - tau_y) / e over k != y)."""
    others = logsumexp(np.delete(tau, y)) - tau[y]
    return float(lambertw(np.exp(others - 1.0)).real)


def gradient_sums(
    n: int, rng: np.random.Generator, k: int, spread: float
) -> tuple[float, np.ndarray]:
    """sum of z^T q and sum of q over k random points, some with label distributions."""
    z = spread * rng.normal(size=(k, n))
    y = np.eye(n)[rng.integers(n, size=k)]
    soft = rng.random(k) < 0.3
    y[soft] = rng.dirichlet(np.ones(n), int(soft.sum()))
    good = rng.random(k) < 0.5  # near the dearest points, where the bound is nearly attained
    z[good] = 0.3 * z[good] + (1.0 + rng.random()) * y[good]
    q = softmax(z, axis=1) - y
    return float(np.sum(z * q)), q.sum(axis=0)


@st.composite
def residual_sums(draw: st.DrawFn, n: int) -> np.ndarray:
    """A vector h0 that sums to 0: of any size, with integers, or with one positive entry."""
    rng = np.random.default_rng(draw(SEEDS))
    h0 = draw(cases.powers(1e-3, 30.0)) * rng.normal(size=n)
    kind = draw(st.sampled_from(["any", "integers", "one"]))
    if kind == "integers":
        h0 = np.round(h0)
    if kind == "one":
        h0[1:] = -np.abs(h0[1:])
        h0[0] = -h0[1:].sum()
        return h0
    return h0 - h0.mean() if kind == "any" else np.append(h0[:-1], -h0[:-1].sum())


# -- one point ---------------------------------------------------------------------------------------


@given(CLASSES, cases.powers(1e-3, 3.0), SEEDS)
@settings(max_examples=15)
def test_kappa_is_the_most_that_one_point_pays(n: int, size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tau = size * rng.normal(size=n)
    for y, kappa in enumerate(kappas(tau)):
        label = np.eye(n)[y]

        def lost(z: np.ndarray, tau: np.ndarray = tau, label: np.ndarray = label) -> float:
            return -float(paid(tau, z, label))

        # Where labels are very unequal the maximum is far and flat around: start on the way, too.
        starts = [tau + step * label for step in (0.0, 1.0, 3.0, 0.9 * (1.0 + kappa))]
        most = max(-minimize(lost, start, method="BFGS").fun for start in starts)
        assert most == pytest.approx(kappa, rel=1e-6, abs=1e-12)
        z = tau + (1.0 + kappa) * label
        assert paid(tau, z, label) == pytest.approx(kappa, rel=1e-12)  # the supremum is attained
        assert -np.expm1(log_softmax(z)[y]) == pytest.approx(kappa / (1.0 + kappa), rel=1e-12)
    # Distributions pay no more than the dearest class: what is paid is linear in the label.
    z = np.vstack([rng.normal(size=(300, n)) * rng.choice([0.1, 1.0, 10.0]) + tau, tau])
    y = rng.dirichlet(np.ones(n), len(z))
    assert paid(tau, z, y).max() <= kappas(tau).max() * (1.0 + 1e-12)
    for k, kappa in enumerate(kappas(tau)):
        assert paid(tau, z, np.eye(n)[k]).max() <= kappa * (1.0 + 1e-12) + 1e-14 * size


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100])
def test_kappa_is_lambert_s_function(n: int) -> None:
    exact = mpmath.lambertw((mpmath.mpf(n) - 1) / mpmath.e)
    assert kappas(np.zeros(n)) == pytest.approx(np.full(n, float(exact)), rel=1e-14)
    tau = np.random.default_rng(n).normal(size=n) * 3.0
    for y in range(0, n, max(1, n // 5)):
        ratio = mpmath.fsum(mpmath.exp(mpmath.mpf(t) - tau[y]) for t in np.delete(tau, y))
        exact = mpmath.lambertw(ratio / mpmath.e)
        assert kappas(tau)[y] == pytest.approx(float(exact), rel=1e-13)


def test_kappa_of_extreme_multipliers() -> None:
    """Far below the others a label pays nearly its distance; far above, nothing."""
    low, high = kappas(np.array([-1000.0, 1000.0]))
    assert low == pytest.approx(1999.0 - math.log(1999.0), rel=1e-5)
    assert high == 0.0
    assert kappas(np.array([0.0, 1e6])).tolist() == pytest.approx([1e6, 0.0], rel=1e-4)


def test_the_least_likely_label_is_the_dearest() -> None:
    tau = np.array([0.3, -1.0, 2.0, 0.0])
    assert np.argsort(kappas(tau)).tolist() == np.argsort(-tau).tolist()


# -- k points ----------------------------------------------------------------------------------------


@given(CLASSES, st.data())
def test_the_least_cost_is_attained_by_its_mix(n: int, data: st.DataObject) -> None:
    """Strong duality: real numbers of the dearest points sum to k and h0, and cost the bound."""
    h0 = data.draw(residual_sums(n))
    # A tenth of a point clear of the number below which nothing has these residuals.
    k = 0.5 * float(np.abs(h0).sum()) + data.draw(cases.powers(0.1, 30.0))
    found = cheapest(k, n, h0)
    label_kappas = kappas(found.tau)
    assert label_kappas.max() == pytest.approx(found.kappa, rel=1e-12)
    assert found.value == pytest.approx(found.tau @ h0 - k * found.kappa, rel=1e-9, abs=1e-9)
    assert abs(found.tau.sum()) <= 1e-12 * (1.0 + np.abs(found.tau).max())
    assert np.all(found.mix >= 0.0)
    assert found.mix.sum() == pytest.approx(k, rel=1e-12)
    used = found.mix > 1e-6 * k
    # Complementary slackness: only the dearest labels are used.
    assert label_kappas[used] == pytest.approx(np.full(used.sum(), found.kappa), rel=1e-6)
    z = found.tau + (1.0 + label_kappas)[:, None] * np.eye(n)
    q = softmax(z, axis=1) - np.eye(n)
    # The maximum over one number is found to half the digits in its argument, and so in the mix.
    assert found.mix @ q == pytest.approx(h0, abs=1e-3 * (1.0 + k))
    cost = float(found.mix @ np.sum(z * q, axis=1))
    assert cost == pytest.approx(
        found.value, abs=1e-3 * (1.0 + k) * (1.0 + np.abs(found.tau).max())
    )


@given(st.integers(2, 5), st.data())
@settings(max_examples=20)
def test_the_least_cost_is_the_best_that_a_maximization_finds(n: int, data: st.DataObject) -> None:
    h0 = data.draw(residual_sums(n))
    k = 0.5 * float(np.abs(h0).sum()) + data.draw(cases.powers(0.3, 30.0))
    found = cheapest(k, n, h0)

    # maximize tau^T h0 - k t subject to t >= kappa_y(tau), in the variables (tau, t)
    def room(v: np.ndarray) -> np.ndarray:
        return np.array([v[-1] - payment(v[:-1], y) for y in range(n)])

    best = -math.inf
    for start in (np.zeros(n), np.sign(h0)):
        first = np.append(start, max(payment(start, y) for y in range(n)))
        answer = minimize(
            lambda v: (k * v[-1] - v[:-1] @ h0) / (1.0 + k),
            first,
            jac=lambda v: np.append(-h0, k) / (1.0 + k),
            constraints={"type": "ineq", "fun": room},
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-12},
        )
        tau = answer.x[:-1]
        best = max(best, float(tau @ h0) - k * max(payment(tau, y) for y in range(n)))
    scale = 1.0 + k
    assert best <= found.value + 1e-8 * scale * (1.0 + abs(found.value))
    assert best >= found.value - 1e-5 * scale * (1.0 + abs(found.value))


@given(CLASSES, st.integers(1, 40), cases.powers(0.03, 30.0), SEEDS)
def test_no_points_are_cheaper(n: int, k: int, spread: float, seed: int) -> None:
    """Weak duality, at the sum of residuals that random points happen to have."""
    s, h0 = gradient_sums(n, np.random.default_rng(seed), k, spread)
    slack = 1e-12 * (1.0 + k) * (1.0 + spread)
    assert k > 0.5 * np.abs(h0).sum()
    assert s >= cheapest(k, n, h0).value - slack - 1e-12 * abs(s)
    assert s >= cheapest(k, n, None).value - slack
    assert fewest(s + slack, n, h0) <= k
    assert fewest(s + slack, n, None) <= k


@given(CLASSES, st.data())
def test_more_points_pay_more(n: int, data: st.DataObject) -> None:
    h0 = data.draw(residual_sums(n))
    first = math.floor(0.5 * np.abs(h0).sum()) + 1
    values = [cheapest(k, n, h0).value for k in range(first, first + 6)]
    # A further pair of points that costs nothing could always be added: the cost falls.
    assert all(b <= a + 1e-9 * (1.0 + abs(a)) for a, b in itertools.pairwise(values))
    free = [cheapest(k, n, None).value for k in range(first, first + 6)]
    assert all(a <= b + 1e-9 * (1.0 + abs(b)) for a, b in zip(free, values, strict=True))


def test_without_intercept_every_point_pays_kappa() -> None:
    for n in (2, 3, 10):
        kappa = float(lambertw((n - 1) / math.e).real)
        for k in (1, 2, 17):
            for h0 in (None, np.zeros(n)):
                found = cheapest(k, n, h0)
                assert found.value == pytest.approx(-k * kappa, rel=1e-14)
                assert np.array_equal(found.tau, np.zeros(n))
                assert found.mix.tolist() == pytest.approx([k / n] * n)


# -- the fewest points -------------------------------------------------------------------------------


@given(CLASSES, st.data())
def test_the_fewest_points_are_the_first_that_can_pay(n: int, data: st.DataObject) -> None:
    h0 = data.draw(residual_sums(n))
    s = data.draw(st.floats(-200.0, 50.0))
    for residuals in (h0, None):
        size = 0.0 if residuals is None else 0.5 * float(np.abs(residuals).sum())
        k = fewest(s, n, residuals)
        assert k > size
        assert cheapest(k, n, residuals).value <= s
        assert k - 1 <= size or cheapest(k - 1, n, residuals).value > s
        # Monotone: who must pay more takes more points.
        assert fewest(s - 1.0, n, residuals) >= k >= fewest(s + 1.0, n, residuals)


@given(st.floats(-300.0, 20.0))
def test_two_classes_without_intercept_are_logistic(s: float) -> None:
    if abs(s / float(oracle.kappa()) - round(s / float(oracle.kappa()))) > 1e-9:  # no tie
        assert fewest(s, 2, None) == max(1, oracle.fewest_without_intercept([1.0], [s]))


@pytest.mark.parametrize("h0", [0.0, 0.3, 0.9, 1.4, 2.6])
def test_two_classes_with_an_intercept_need_no_fewer_than_the_bound(h0: float) -> None:
    """Counts of labels are whole numbers, which the bound disregards: it is off by one at most here."""
    for s in (-0.9, -0.5, 0.4, 2.1):
        least = oracle.fewest_with_intercept(s, h0, 6)
        if least is None:
            continue
        assert least - 1 <= fewest(s, 2, np.array([-h0, h0])) <= least


# -- rank and support --------------------------------------------------------------------------------


@given(CLASSES, st.integers(1, 10), st.booleans(), SEEDS)
def test_fewer_points_than_the_rank_miss_a_singular_value(
    n: int, d: int, intercept: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    loss = gc.Softmax(n, intercept)
    h = rng.normal(size=(d + intercept, n))
    h -= h.mean(axis=1, keepdims=True)
    rank = rank_bound(loss, h)
    singular = np.linalg.svd(h, compute_uv=False)
    assert rank == min(d + intercept, n - 1)
    theta = rng.normal(size=h.shape)
    left, s, right = np.linalg.svd(h)
    for k in range(rank):
        x, y = rng.normal(size=(k, d)), cases.labels(loss, k, rng)
        matrices = [loss.pullback(x, loss.residual(loss.predictor(x, theta), y))]
        matrices.append((left[:, :k] * s[:k]) @ right[:k])  # the best of all matrices of rank k
        for matrix in matrices:
            assert np.linalg.norm(matrix - h, 2) >= singular[k] * (1.0 - 1e-9)
    with pytest.raises(gc.CertificateError, match="rank"):
        gc.check_lower_bound(loss, theta, h, gc.LowerBound(rank + 1, "rank"))
    gc.check_lower_bound(loss, theta, h, gc.LowerBound(rank, "rank"))


def test_a_rounding_is_no_rank() -> None:
    rng = np.random.default_rng(0)
    h = np.outer(rng.normal(size=6), [1.0, 2.0, -3.0])
    noise = rng.normal(size=h.shape)
    noise -= noise.mean(axis=1, keepdims=True)
    for size, rank in ((0.0, 1), (1e-16, 1), (1e-14, 1), (1e-9, 2)):
        assert rank_bound(gc.Softmax(3), h + size * noise) == rank


@given(CLASSES, st.booleans(), cases.powers(1e-2, 10.0), SEEDS)
def test_no_point_exceeds_the_support_of_a_direction(
    n: int, intercept: bool, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    loss, d = gc.Softmax(n, intercept), n + 1
    theta = rng.normal(size=(d + intercept, n))
    v = -theta
    if intercept:
        v[-1] += size * rng.normal(size=n)
    most = support(loss, theta, v)
    x = rng.normal(size=(500, d)) * rng.choice([0.1, 1.0, 10.0], size=(500, 1))
    y = cases.labels(loss, 500, rng)
    w = loss.residual(loss.predictor(x, theta), y)
    assert np.sum(loss.predictor(x, v) * w, axis=1).max() <= most * (1.0 + 1e-9)
    # A part across theta, however small: the supremum is infinite.
    v[0] += 1e-9
    assert support(loss, theta, v) == math.inf
