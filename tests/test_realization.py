"""Realized gradients: exact at the float64 points that ship, and provably as few as possible."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize_scalar

import gplconvex as gc
from gplconvex.realization.lower_bound import KAPPA
from tests import oracles_realization as oracle
from tests import strategies as cases

LOGISTIC, INTERCEPT = gc.Logistic(), gc.Logistic(intercept=True)
SQUARES, SQUARES_INTERCEPT = gc.LeastSquares(), gc.LeastSquares(intercept=True)


def refusal(call: Callable[[], Any]) -> gc.CertificateError | None:
    """The certificate error that a call raises, if it does."""
    try:
        call()
    except gc.CertificateError as error:
        return error
    return None


def check(loss: gc.Loss, theta: Any, h: Any) -> gc.Realization:
    """Realize a gradient, and check by other means everything that is said of the result."""
    theta, h = np.asarray(theta, dtype=float), np.asarray(h, dtype=float)
    kept = theta.copy(), h.copy()
    found = gc.realize_gradient(loss, theta, h)
    assert np.array_equal(theta, kept[0])
    assert np.array_equal(h, kept[1])
    assert found.n_points == found.dataset.n_points
    assert found.lower_bound == found.proof.value <= found.n_points
    residual = oracle.relative_residual(loss, found.dataset, theta, h)
    assert residual <= 1e-12
    assert found.residual == pytest.approx(residual, rel=1e-6, abs=1e-30)
    assert found.dataset.n_rows <= 4
    if found.n_points > found.lower_bound:
        assert found.note
        assert loss.intercept
        assert (found.lower_bound, found.n_points) == (1, 2)
    else:
        assert not found.note
    if found.n_points:
        loss.check_labels(found.dataset)
    gc.check_lower_bound(loss, theta, h, found.proof)
    return found


@st.composite
def wanted(draw: st.DrawFn, intercept: bool, most: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A model and a gradient, each entry of a size of its own between 1e-3 and 1e3."""
    d = draw(st.integers(1, most)) + intercept
    number = st.tuples(st.sampled_from([-1.0, 1.0]), cases.powers(1e-3, 1e3))
    entries = st.lists(number.map(lambda p: p[0] * p[1]), min_size=d, max_size=d)
    return np.array(draw(entries)), np.array(draw(entries))


# -- any gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", cases.LOSSES, ids=repr)
@given(data=st.data())
def test_every_gradient_is_realized_minimally(loss: gc.Loss, data: st.DataObject) -> None:
    theta, h = data.draw(wanted(loss.intercept))
    if loss == INTERCEPT and abs(theta[-1]) > 10.0 * np.linalg.norm(theta[:-1]):
        # Where the intercept rules, inputs are so large that float64 may not hold them exactly
        # enough. Then there is no dataset, rather than one that is not what it says.
        failure = refusal(lambda: gc.realize_gradient(loss, theta, h))
        if failure is not None:
            assert "theta is tiny beside its intercept" in str(failure)
            return
    found = check(loss, theta, h)
    if loss == LOGISTIC:
        assert found.n_points == oracle.fewest_without_intercept(theta, h)
    if loss == SQUARES:
        assert found.n_points == 1
    if loss == SQUARES_INTERCEPT:
        assert found.lower_bound == 1
        assert found.n_points <= 2


@given(wanted(False), cases.powers(1e-6, 1e3))
def test_more_points_are_needed_the_further_the_gradient_opposes(
    pair: tuple[np.ndarray, np.ndarray], size: float
) -> None:
    """h = -size theta/|theta|^2 + orthogonal: exactly ceil(size / kappa) points, in any dimension."""
    theta, other = pair
    along = theta / (theta @ theta)
    h = -size * along + (other - (other @ theta) * along) * 1e-3
    found = check(LOGISTIC, theta, h)
    assert found.n_points == oracle.fewest_without_intercept(theta, h)
    assert abs(found.n_points - size / float(oracle.kappa())) <= 1.0 + 1e-6 * size


@pytest.mark.parametrize("m", [1, 2, 3, 7, 100, 12345])
def test_ties(m: int) -> None:
    """theta^T h = -m kappa, the dearest that m points can do: m or, by a rounding, m + 1 points."""
    for theta, factor in (([1.0], 1.0), ([1.0, 1.0], 1.0), ([-1.0, 3.0], 0.5)):
        theta = np.array(theta)
        h = -factor * m * KAPPA * theta / (theta @ theta) / factor
        found = check(LOGISTIC, theta, h)
        # h is m kappa only up to a rounding, on either side.
        assert found.n_points - oracle.fewest_without_intercept(theta, h) in (-1, 0)
        assert found.n_points in (m, m + 1)
    for shift, points in ((1e-9, m), (-1e-9, m + 1)):
        h = np.array([-m * KAPPA * (1.0 - shift), 5.0])
        assert check(LOGISTIC, [1.0, 0.0], h).n_points == points


def test_kappa_is_the_maximum_of_z_over_one_plus_exp_z() -> None:
    assert float(oracle.kappa()) == pytest.approx(KAPPA, rel=1e-15)
    assert float(oracle.mpmath.lambertw(oracle.mpmath.exp(-1))) == pytest.approx(KAPPA, rel=1e-15)


# -- against exhaustive search -----------------------------------------------------------------------


def test_the_least_cost_of_the_oracle_is_never_beaten_by_random_residuals() -> None:
    rng = np.random.default_rng(0)
    for k, h0 in ((2, 0.0), (2, 0.6), (2, 1.4), (3, 0.0), (3, 1.0), (3, 2.2), (4, 0.5), (4, 3.5)):
        least = oracle.least_cost(k, h0)
        w = rng.uniform(-1.0, 1.0, size=(20000, k - 1))
        last = h0 - w.sum(axis=1)
        totals = oracle.cost(w).sum(axis=1) + oracle.cost(last)
        assert totals.min() >= least - 1e-12
        assert totals.min() <= least + 1.0


@given(
    st.floats(-3.4, 3.4),
    st.sampled_from([1, 2, 3, 4]),
    st.floats(0.05, 0.95),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
@example(0.0, 2, 0.5, 0)
@example(1.0, 3, 0.5, 1)
@example(-2.0, 3, 0.5, 2)
@example(3.0, 4, 0.5, 3)
@example(2.9921875, 1, 0.5, 0)
def test_with_an_intercept_the_number_is_the_least_that_a_search_finds(
    h0: float, k: int, where: float, seed: int
) -> None:
    """theta^T h between the thresholds of k and k + 1 points: then k + 1 points are needed."""
    upper = oracle.least_cost(k, h0) if k > abs(h0) and (k > 1 or h0 != 0.0) else math.inf
    lower = oracle.least_cost(k + 1, h0) if k + 1 > abs(h0) else math.inf
    # Below every threshold but that of k + 1 points, or above the lowest one that exists.
    if math.isinf(lower):
        lower = oracle.least_cost(math.floor(abs(h0)) + 1, h0)
    s = lower + where * (upper - lower) if math.isfinite(upper) else lower + 5.0 * where
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=3)
    h = np.append(rng.normal(size=2), h0)
    slope = theta[:2]
    h[:2] += slope * (s - theta @ h) / (slope @ slope)
    found = check(INTERCEPT, theta, h)
    assert found.n_points == oracle.fewest_with_intercept(float(theta @ h), h0, 5)


def closest(loss: gc.Loss, theta: np.ndarray, h: np.ndarray, k: int, tries: int) -> float:
    """The least |sum of gradients - h| over k points, inputs and labels, from many starts."""
    rng, d = np.random.default_rng(k), theta.size - loss.intercept
    best = math.inf
    for _ in range(tries):
        y = rng.choice([-1.0, 1.0], size=k)

        def off(x: np.ndarray, y: np.ndarray = y) -> np.ndarray:
            x = x.reshape(k, d)
            return loss.pullback(x, loss.residual(loss.predictor(x, theta), y)) - h

        start = rng.normal(size=k * d) * rng.choice([0.3, 1.0, 5.0])
        best = min(best, 2.0 * float(least_squares(off, start).cost))
    return math.sqrt(best)


@pytest.mark.parametrize("loss", [LOGISTIC, INTERCEPT], ids=repr)
@pytest.mark.parametrize("seed", range(6))
def test_exhaustive_search_with_fewer_points_fails(loss: gc.Loss, seed: int) -> None:
    """k - 1 points, optimized from many starts, stay away from the gradient; k points reach it."""
    rng = np.random.default_rng(seed)
    d = 2
    theta = rng.normal(size=d + loss.intercept)
    h = rng.normal(size=d + loss.intercept)
    goal = -(0.4 + 0.28 * (seed % 3))  # away from ties: 2, 3 or 4 points without intercept
    h[:d] += theta[:d] * (goal - theta @ h) / (theta[:d] @ theta[:d])
    found = check(loss, theta, h)
    k = found.n_points
    assert 2 <= k <= 6
    assert closest(loss, theta, h, k - 1, 25) > 1e-4
    assert closest(loss, theta, h, k, 25) < 1e-6  # negative control: the search can succeed


# -- multiplicities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [LOGISTIC, INTERCEPT], ids=repr)
@pytest.mark.parametrize("s", [-1.0, -1e2, -1e4, -3e5])
def test_a_million_points_are_a_handful_of_rows(loss: gc.Loss, s: float) -> None:
    theta = np.array([1.0, -2.0, 0.5])
    h = np.array([0.3, -0.7, 0.2])
    h[:2] += theta[:2] * (s - theta @ h) / (theta[:2] @ theta[:2])
    found = check(loss, theta, h)
    assert found.n_points >= -s / KAPPA - 5
    assert found.dataset.n_rows <= 4


# -- ordinary extremes -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", cases.LOSSES, ids=repr)
@given(data=st.data())
@settings(max_examples=15)
def test_no_gradient_takes_no_points(loss: gc.Loss, data: st.DataObject) -> None:
    theta, h = data.draw(wanted(loss.intercept))
    found = check(loss, theta, np.zeros_like(h))
    assert found.n_points == found.lower_bound == 0
    assert found.residual == 0.0
    assert found.proof.argument == "zero"


@pytest.mark.parametrize("loss", [LOGISTIC, SQUARES], ids=repr)
def test_at_the_zero_model_one_point_does(loss: gc.Loss) -> None:
    assert check(loss, np.zeros(3), [1.0, -20.0, 300.0]).n_points == 1


def test_at_the_zero_model_least_squares_with_an_intercept() -> None:
    assert check(SQUARES_INTERCEPT, np.zeros(3), [1.0, 2.0, 3.0]).n_points == 1
    assert check(SQUARES_INTERCEPT, np.zeros(3), [1.0, 2.0, 0.0]).n_points == 2


@pytest.mark.parametrize("s", [1e-300, 1.0, 36.0, 40.0, 700.0, 750.0, 1000.0, 1e6, 1e9])
@pytest.mark.parametrize("loss", [LOGISTIC, INTERCEPT], ids=repr)
def test_gradients_along_the_model_saturate_the_predictor(loss: gc.Loss, s: float) -> None:
    theta = np.array([1.0, 0.0, 0.0])
    found = check(loss, theta, [s, 3.0, 0.4])
    assert found.n_points == (2 if loss.intercept else 1)


def test_features_of_extreme_scales() -> None:
    for size in (1e-8, 1e8):
        for loss in cases.LOSSES:
            rng = np.random.default_rng(1)
            p = 3 + loss.intercept
            theta, h = rng.normal(size=p), rng.normal(size=p)
            features = slice(0, 3)
            theta[features] /= size  # inputs of that size need coefficients of the inverse
            h[features] *= size
            check(loss, theta, h)


@pytest.mark.parametrize("loss", cases.LOSSES, ids=repr)
def test_one_feature(loss: gc.Loss) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        theta, h = rng.normal(size=(2, 1 + loss.intercept)) * 10.0 ** rng.uniform(-2, 2)
        check(loss, theta, h)


# -- least squares with an intercept -----------------------------------------------------------------


def test_a_zero_residual_takes_two_points() -> None:
    found = check(SQUARES_INTERCEPT, [1.0, 2.0, 3.0], [4.0, 5.0, 0.0])
    assert found.n_points == found.lower_bound == 2
    assert found.proof.argument == "silent point"
    with pytest.raises(gc.CertificateError):
        gc.check_lower_bound(SQUARES_INTERCEPT, [1.0, 2.0, 3.0], [4.0, 5.0, 1e-9], found.proof)


@pytest.mark.parametrize("h0", [1e-3, 1e-8, 1e-14, 1e-30, 1e-300])
def test_a_tiny_residual_is_realized_all_the_same(h0: float) -> None:
    found = check(SQUARES_INTERCEPT, [1.0, 2.0, 3.0], [4.0, 5.0, h0])
    assert found.lower_bound == 1


# -- logistic with an intercept ----------------------------------------------------------------------


@given(st.floats(0.01, 0.99), st.sampled_from([-1.0, 1.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_single_point_is_recognized(p: float, sign: float, seed: int) -> None:
    """The gradient of one point is realized by one point: theta^T h = f(|h0|)."""
    rng = np.random.default_rng(seed)
    theta = np.append(rng.normal(size=2), 0.5)
    theta[:2] += np.sign(theta[:2])
    z = sign * math.log(p / (1.0 - p))  # residual sign * p of the label -sign
    x = rng.normal(size=2)
    x += theta[:2] * (z - theta[2] - x @ theta[:2]) / (theta[:2] @ theta[:2])
    single = gc.Dataset([x], [-sign])
    h = np.array([float(v) for v in oracle.gradient_sum(INTERCEPT, single, theta)])
    found = check(INTERCEPT, theta, h)
    assert found.n_points == 1
    # Negative control: a relative 1e-6 away no single point fits any more.
    h[0] += 1e-6 * (1.0 + abs(h[0]))
    assert check(INTERCEPT, theta, h).n_points == 2


@contextmanager
def seconds(limit: float) -> Iterator[None]:
    """Turn an endless loop into a failure (on systems that have an alarm)."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {limit} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def honest(theta: Any, h: Any) -> None:
    """Either a dataset with a proof that checks, or a refusal: no crash, no proof that fails."""
    with seconds(3.0):
        failure = refusal(lambda: gc.realize_gradient(INTERCEPT, theta, h))
        if failure is None:
            check(INTERCEPT, theta, h)
        else:
            assert "relative residual" in str(failure)


NEARLY_SINGLE = {
    "a proof that only rounding contradicts": (
        [41.8693614989155, -152.26248342107763, -348.7743661200267, -151110.55298868235],
        [-36.19758605106649, 104.05151922001927, 206.02029523874998, -0.5903858100772013],
    ),
    "a residual that rounds to 1, without end": (
        [-417.3912488656172, -9.266522398624108, 148.15570144838142, 72.9637893120653],
        [-0.21413922695341803, -0.005102407507887281, 0.07618731689753012, -0.9999999999991129],
    ),
    "a residual that rounds to 1": (
        [
            -1.2534168400424606,
            1.9435215226797602,
            -2.129089665595825,
            1.0505847680202434,
            20.94480256508008,
        ],
        [
            -4.8998660871030175,
            7.598332843095059,
            -8.324036661565879,
            4.106435650555992,
            -0.9999999997213528,
        ],
    ),
}


@pytest.mark.parametrize("pair", NEARLY_SINGLE.values(), ids=NEARLY_SINGLE.keys())
def test_gradients_that_are_all_but_those_of_one_point(pair: tuple[Any, Any]) -> None:
    honest(*map(np.array, pair))


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_gradients_of_one_point_at_badly_scaled_models(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=d + 1) * 10.0 ** rng.uniform(-4, 4)
    theta[-1] *= 10.0 ** rng.uniform(-2, 3)
    z, sign = rng.normal() * 10.0 ** rng.uniform(-1, 1.5), rng.choice([-1.0, 1.0])
    x = rng.normal(size=d) * 10.0 ** rng.uniform(-3, 3)
    x += theta[:-1] * (z - theta[-1] - x @ theta[:-1]) / (theta[:-1] @ theta[:-1])
    single = gc.Dataset([x], [sign])
    honest(theta, np.array([float(v) for v in oracle.gradient_sum(INTERCEPT, single, theta)]))


@pytest.mark.parametrize("k", [2, 3, 5, 50, 1000])
def test_thresholds(k: int) -> None:
    """theta^T h equal to the least sum of k points, or off by a few roundings: k or k + 1 points."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        h0 = rng.uniform(0.0, min(k, 3)) * rng.choice([-1.0, 1.0]) * rng.choice([1.0, 1e-8])
        least = least_sum(k, h0)
        theta, h = rng.normal(size=3), np.append(rng.normal(size=2), h0)
        slope = theta[:2]
        s = least * (1.0 + rng.choice([0.0, 1e-16, -1e-16, 3e-16, 1e-9, -1e-9]))
        h[:2] += slope * (s - theta @ h) / (slope @ slope)
        found = check(INTERCEPT, theta, h)
        assert found.n_points in (k, k + 1)


def least_sum(k: int, h0: float) -> float:
    """The least cost of k residuals that sum to h0: two values, found by minimizing over one."""
    best = math.inf
    for j in range(math.floor(abs(h0)) + 1, k + 1):
        if j == k:
            best = min(best, k * float(oracle.cost(np.array(abs(h0) / k))))
            continue

        def total(a: float, j: int = j) -> float:
            b = (j * a - abs(h0)) / (k - j)
            return float(j * oracle.cost(np.array(a)) + (k - j) * oracle.cost(np.array(b)))

        low, high = abs(h0) / j, min(1.0, (k - j + abs(h0)) / j)
        found = minimize_scalar(
            total, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        )
        best = min(best, float(found.fun))
    return best


@pytest.mark.parametrize("h0", [0.0, 1.0, -1.0, 2.0, -5.0, 0.5, 1.5, 17.25, -100.0])
@pytest.mark.parametrize("s", [-3.0, 0.0, 4.0, 200.0, 1000.0, 1e6])
def test_integer_and_large_sums_of_residuals(h0: float, s: float) -> None:
    theta = np.array([1.0, -1.0, 0.7])
    h = np.array([0.2, 0.4, h0])
    h[:2] += theta[:2] * (s - theta @ h) / 2.0
    found = check(INTERCEPT, theta, h)
    assert found.n_points > abs(h0)
    if found.n_points == math.floor(abs(h0)) + 1 and abs(h0) >= 1.0:
        assert found.proof.argument == "residuals"


def test_constant_predictors() -> None:
    """theta = (0, 0, b): every residual is sigma(b) or sigma(b) - 1, so h0 is one of countably many."""
    for h0, points in ((0.0, 2), (0.5, 1), (-0.5, 1), (1.0, 2), (-1.5, 3), (2.5, 5)):
        found = check(INTERCEPT, [0.0, 0.0, 0.0], [1.0, -2.0, h0])
        assert found.n_points == points
        assert found.proof.argument == "constant predictor"
    b = 0.7
    up = 1.0 / (1.0 + math.exp(-b))
    assert check(INTERCEPT, [0.0, 0.0, b], [1.0, -2.0, 3.0 * up - 1.0]).n_points == 3
    # Also when nothing but the intercept's entry is wanted.
    assert check(INTERCEPT, [0.0, 0.0, 0.0], [0.0, 0.0, 1.5]).n_points == 3


@pytest.mark.parametrize(("b", "h0"), [(0.0, 0.3), (0.7, 0.3), (-2.0, 1.0), (40.0, 0.5)])
def test_other_sums_are_unrealizable_at_constant_predictors(b: float, h0: float) -> None:
    with pytest.raises(gc.UnrealizableGradientError, match="Move the target") as caught:
        gc.realize_gradient(INTERCEPT, [0.0, 0.0, b], [1.0, -2.0, h0])
    assert np.array_equal(caught.value.direction, [0.0, 0.0, 1.0])
    # Negative control: any slope in theta sets the residuals free.
    check(INTERCEPT, [0.1, 0.0, b], [1.0, -2.0, h0])


# -- forged proofs -----------------------------------------------------------------------------------


def proofs() -> list[tuple[gc.Loss, np.ndarray, np.ndarray, gc.LowerBound]]:
    """One proof of every kind."""
    slope = np.array([1.0, -2.0, 0.5])

    def opposed(s: float, h0: float) -> np.ndarray:
        h = np.array([0.3, -0.7, h0])
        h[:2] += slope[:2] * (s - slope @ h) / 5.0
        return h

    zero = np.zeros(3)
    wants = [
        (LOGISTIC, slope, opposed(-5.0, 0.2)),
        (LOGISTIC, slope, opposed(5.0, 0.2)),
        (LOGISTIC, slope, zero),
        (SQUARES_INTERCEPT, slope, opposed(5.0, 0.0)),
        (INTERCEPT, slope, opposed(1.0, 0.3)),
        (INTERCEPT, slope, opposed(50.0, 4.5)),
        (INTERCEPT, slope, opposed(-5.0, 0.3)),
        (INTERCEPT, slope, opposed(-50.0, -7.3)),
        (INTERCEPT, slope, opposed(0.5, 3.3)),
        (INTERCEPT, slope, opposed(-40.0, 0.0)),
        (INTERCEPT, zero, np.array([1.0, 2.0, 2.5])),
    ]
    return [(loss, t, h, gc.realize_gradient(loss, t, h).proof) for loss, t, h in wants]


PROOFS = proofs()


def rejected(loss: gc.Loss, theta: Any, h: Any, bound: gc.LowerBound) -> bool:
    failure = refusal(lambda: gc.check_lower_bound(loss, theta, h, bound))
    if failure is None:
        return False
    assert failure.checks
    assert "does not prove" in str(failure)
    return True


def test_every_argument_is_exercised() -> None:
    assert {bound.argument for *_, bound in PROOFS} == {
        "direction",
        "nonzero",
        "zero",
        "silent point",
        "single point",
        "residuals",
        "counting",
        "constant predictor",
    }


@pytest.mark.parametrize("number", range(len(PROOFS)))
def test_genuine_proofs_pass_and_exaggerations_do_not(number: int) -> None:
    loss, theta, h, bound = PROOFS[number]
    assert not rejected(loss, theta, h, bound)
    for more in (1, 2, 10, 10**6):
        assert rejected(loss, theta, h, dataclasses.replace(bound, value=bound.value + more))
    # A true number with an argument that does not give it.
    for *_, other in PROOFS:
        swapped = dataclasses.replace(other, value=bound.value + 1)
        assert rejected(loss, theta, h, swapped)
    assert rejected(loss, theta, h, dataclasses.replace(bound, argument="trust me"))
    assert rejected(loss, theta, h, dataclasses.replace(bound, argument=""))


def test_a_direction_proves_only_its_own_gradient() -> None:
    loss, theta, h, bound = next(p for p in PROOFS if p[3].argument == "direction")
    assert bound.value > 2
    for direction in (theta, None, np.zeros(3), -theta[:2], np.roll(-theta, 1), -theta + 1e-9):
        assert rejected(loss, theta, h, dataclasses.replace(bound, direction=direction))
    for support in (bound.support * 0.9, 0.0, -bound.support, math.inf, math.nan):
        assert rejected(loss, theta, h, dataclasses.replace(bound, support=support))
    assert rejected(loss, -theta, h, bound)
    assert rejected(loss, theta, -h, bound)
    assert rejected(SQUARES, theta, h, bound)


def test_a_direction_off_by_a_rounding_has_no_support() -> None:
    """Any component across theta makes the supremum infinite, and a large h would exploit it."""
    theta, h = np.array([1.0, 0.0]), np.array([-1.0, 1e16])
    assert gc.realize_gradient(LOGISTIC, theta, h).n_points == 4
    slanted = gc.LowerBound(20, "direction", np.array([-1.0, 4.0 * 2.0**-53]), KAPPA)
    assert rejected(LOGISTIC, theta, h, slanted)


def test_a_multiplier_of_the_wrong_sign_proves_nothing() -> None:
    for loss, theta, h, bound in PROOFS:
        if bound.argument != "counting":
            continue
        left, right = bound.multipliers
        forged: list[tuple[float, ...]] = [(), (left,), (left, right, 0.0), (math.nan, math.nan)]
        forged += [(-left - 1.0, right)] if left >= 0.0 else []
        forged += [(left + 5.0, right + 5.0), (left - 5.0, right - 5.0)]
        for multipliers in forged:
            wrong = dataclasses.replace(bound, multipliers=multipliers)
            assert rejected(loss, theta, h, wrong)
        for split in (-1, bound.value):
            assert rejected(loss, theta, h, dataclasses.replace(bound, split=split))
        assert rejected(LOGISTIC, theta, h, bound)


@given(
    st.integers(2, 40),
    st.integers(-1, 41),
    st.tuples(st.floats(-20.0, 20.0), st.floats(-20.0, 20.0)),
    st.floats(-8.0, 8.0),
    st.floats(-10.0, 1.0),
)
@settings(max_examples=200)
def test_no_counting_argument_proves_more_than_is_true(
    value: int, split: int, multipliers: tuple[float, float], h0: float, s: float
) -> None:
    """Whatever the multipliers: a proof that is accepted never exceeds the true number."""
    theta = np.array([2.0, 0.0, 0.0])
    h = np.array([s / 2.0, 1.0, h0])
    bound = gc.LowerBound(value, "counting", None, math.inf, multipliers, split)
    if not rejected(INTERCEPT, theta, h, bound):
        assert value <= gc.realize_gradient(INTERCEPT, theta, h).n_points


@given(st.floats(-8.0, 8.0), st.floats(-10.0, 1.0), st.floats(-3.0, 3.0), st.integers(2, 60))
@settings(max_examples=200)
def test_no_direction_proves_more_than_is_true(h0: float, s: float, tau: float, value: int) -> None:
    theta = np.array([2.0, 0.0, 0.5])
    h = np.array([(s - 0.5 * h0) / 2.0, 1.0, h0])
    direction = -theta + np.array([0.0, 0.0, tau])
    support = float(oracle.mpmath.lambertw(oracle.mpmath.exp(abs(tau) - 1)))
    bound = gc.LowerBound(value, "direction", direction, support)
    if not rejected(INTERCEPT, theta, h, bound):
        assert value <= gc.realize_gradient(INTERCEPT, theta, h).n_points


@given(st.floats(-3.0, 3.0), st.floats(-20.0, 20.0), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_no_point_exceeds_the_support_of_a_direction(tau: float, b: float, seed: int) -> None:
    """sigma(v) = sup <v, gradient>: W(e^{|tau| - 1}), approached and never passed."""
    theta = np.array([1.0, 0.0, b])
    direction = -theta + np.array([0.0, 0.0, tau])
    support = float(oracle.mpmath.lambertw(oracle.mpmath.exp(abs(tau) - 1)))
    z = np.linspace(-30.0, 30.0, 6001)
    x = np.column_stack([z - b, np.random.default_rng(seed).normal(size=z.size)])
    reach = [
        INTERCEPT.residual(INTERCEPT.predictor(x, theta), np.full(z.size, y))
        * INTERCEPT.predictor(x, direction)
        for y in (-1.0, 1.0)
    ]
    assert np.max(reach) <= support * (1.0 + 1e-9)
    assert np.max(reach) >= support * (1.0 - 1e-4)


def test_nothing_is_needed_for_the_zero_gradient() -> None:
    """No argument may prove that a zero gradient takes points."""
    zero = np.zeros(3)
    for *_, bound in PROOFS:
        for loss in cases.LOSSES:
            for value in (1, 2, 3):
                claim = dataclasses.replace(bound, value=value)
                assert rejected(loss, np.array([1.0, -2.0, 0.5]), zero, claim), claim


# -- what does not fit -------------------------------------------------------------------------------


class Halfspace(gc.Domain):
    """A domain that the package has no construction for."""

    def contains(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0] >= 0.0

    def project(self, x: np.ndarray) -> np.ndarray:
        return np.column_stack([np.maximum(x[:, 0], 0.0), x[:, 1:]])


class Stretched(gc.LeastSquares):
    """Not registered, and a loss of its own all the same."""


@pytest.mark.parametrize(
    ("loss", "theta", "h"),
    [
        ("logistic", [1.0], [1.0]),
        (None, [1.0], [1.0]),
        (gc.Logistic, [1.0], [1.0]),
        (LOGISTIC, [1.0], [1.0, 2.0]),
        (LOGISTIC, [[1.0]], [[1.0]]),
        (LOGISTIC, 1.0, 1.0),
        (LOGISTIC, [], []),
        (INTERCEPT, [1.0], [1.0]),
        (LOGISTIC, [math.nan], [1.0]),
        (LOGISTIC, [1.0], [math.inf]),
        (SQUARES, [1.0], [math.nan]),
        (SQUARES, ["one"], [1.0]),
        (SQUARES, [1.0 + 2.0j], [1.0]),
        (SQUARES, None, [1.0]),
    ],
)
def test_bad_input_is_refused(loss: Any, theta: Any, h: Any) -> None:
    with pytest.raises(gc.InvalidInputError):
        gc.realize_gradient(loss, theta, h)


def test_what_has_no_construction_says_so() -> None:
    class Cubic(gc.Loss):
        intercept = False

        def accepts(self, y: Any) -> Any:
            return np.isfinite(y)

        value = residual = curvature = cvxpy_value = lambda self, z, y: z

        def curvature_bounds(self, low: Any, high: Any, y: Any) -> Any:
            return low, high

    with pytest.raises(gc.UnsupportedCombinationError, match="Poisson and Softmax"):
        gc.realize_gradient(Cubic(), [1.0], [1.0])
    with pytest.raises(gc.UnsupportedCombinationError, match="Unbounded"):
        gc.realize_gradient(SQUARES, [1.0], [1.0], Halfspace())
