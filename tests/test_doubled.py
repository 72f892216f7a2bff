"""Sums of products in twice the working precision, and the residuals that rest on them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.realization.doubled import product_sum, total, two_product, two_sum
from gplconvex.realization.exact import missing_gradient, relative_residual
from tests import strategies as cases

LOSSES = (
    gc.LeastSquares(),
    gc.LeastSquares(intercept=True),
    gc.Logistic(),
    gc.Logistic(intercept=True),
    gc.Poisson(),
    gc.Poisson(intercept=True),
    gc.Softmax(2),
    gc.Softmax(3),
    gc.Softmax(4, intercept=True),
)
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES, ids=repr)


def numbers(size: float) -> st.SearchStrategy[float]:
    """Floats of every size up to ``size`` and down to its inverse, and 0."""
    positive = st.floats(1.0 / size, size, allow_subnormal=False)
    return st.one_of(positive, positive.map(lambda v: -v), st.just(0.0))


def fraction(pair: tuple[Any, Any]) -> Fraction:
    return Fraction(float(pair[0])) + Fraction(float(pair[1]))


# -- two numbers -------------------------------------------------------------------------------------


@given(numbers(1e300), numbers(1e300))
@example(1.0, 2.0**-53)
@example(1.0, -(2.0**-54))
@example(2.0**60, 1.0)
@example(1e300, -1e-300)
@settings(max_examples=300)
def test_two_sum_is_exact(a: float, b: float) -> None:
    pair = two_sum(np.array(a), np.array(b))
    assert fraction(pair) == Fraction(a) + Fraction(b)
    assert float(pair[0]) == a + b


@given(numbers(1e130), numbers(1e130))
@example(1.0 + 2.0**-52, 1.0 + 2.0**-52)
@example(2.0**53 - 1.0, 2.0**53 - 1.0)
@example(2.0**27 + 1.0, 2.0**27 - 1.0)
@settings(max_examples=300)
def test_two_product_is_exact(a: float, b: float) -> None:
    """As long as the error, 2^-106 of the product, is no subnormal."""
    pair = two_product(np.array(a), np.array(b))
    assert fraction(pair) == Fraction(a) * Fraction(b)
    assert float(pair[0]) == a * b


def test_a_plain_product_has_an_error() -> None:
    """Negative control: the low parts are there for a reason."""
    a = 1.0 + 2.0**-52
    assert Fraction(a * a) != Fraction(a) ** 2
    assert float(two_product(np.array(a), np.array(a))[1]) != 0.0


# -- many numbers ------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_total_of_pairs(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    high = rng.normal(size=(n, 3)) * 10.0 ** rng.uniform(-8.0, 8.0, (n, 3))
    low = high * rng.uniform(-1.0, 1.0, (n, 3)) * 2.0**-53
    got = total((high, low))
    for j in range(3):
        terms = [fraction((a, b)) for a, b in zip(high[:, j], low[:, j], strict=True)]
        size = sum(map(abs, terms))
        pair = got[0][j], got[1][j]
        assert abs(fraction(pair) - sum(terms)) <= size * n * Fraction(2.0**-104)
        assert float(pair[0]) + float(pair[1]) == float(pair[0])


@st.composite
def cancelling(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products that cancel to a part 10^-c of their sizes, c up to 30, with weights of 106 bits."""
    n, rng = draw(st.integers(1, 20)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = rng.normal(size=n) * 10.0 ** rng.uniform(-5.0, 5.0, n)
    high = rng.normal(size=n) * 10.0 ** rng.uniform(-5.0, 5.0, n)
    low = high * rng.uniform(-1.0, 1.0, n) * 2.0**-53
    a, high, low = np.append(a, -a), np.append(high, high), np.append(low, low)
    rest = 10.0 ** -draw(st.floats(0.0, 30.0)) * rng.normal(size=2)
    a, high, low = np.append(a, rest[0]), np.append(high, rest[1]), np.append(low, 0.0)
    order = rng.permutation(a.size)
    return a[order], high[order], low[order]


@given(cancelling())
@settings(max_examples=100)
def test_sums_of_products_that_cancel(parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    a, high, low = parts
    pair = product_sum(a, (high, low))
    terms = [
        Fraction(p) * fraction((q, r))
        for p, q, r in zip(a.tolist(), high.tolist(), low.tolist(), strict=True)
    ]
    bound = sum(map(abs, terms)) * a.size * Fraction(2.0**-104)
    assert abs(fraction(pair) - sum(terms)) <= bound


def test_sums_in_single_precision_would_lose_it_all() -> None:
    """Negative control, and the shapes: columns are summed on their own."""
    a = np.array([[1e20, 1.0], [1.0, 2.0], [-1e20, 3.0]])
    weights = np.array([[1.1, 1.0], [1.0, 1.0], [1.1, 1.0]])
    high, low = product_sum(a, (weights, np.zeros_like(weights)))
    assert (high + low).tolist() == [1.0, 6.0]
    assert float((a * weights)[:, 0].sum()) == 0.0


# -- residuals of datasets ---------------------------------------------------------------------------


def residuals(loss: gc.Loss, z: list[Any], y: Any) -> list[Any]:
    """The gradient of one loss in its predictors, from its formula."""
    if isinstance(loss, gc.Softmax):
        label = [float(k == y) for k in range(len(z))] if np.ndim(y) == 0 else np.ravel(y).tolist()
        powers = [mpmath.exp(value) for value in z]
        everything = mpmath.fsum(powers)
        return [p / everything - q for p, q in zip(powers, label, strict=True)]
    (value,), label = z, float(y)
    if isinstance(loss, gc.LeastSquares):
        return [value - label]
    if isinstance(loss, gc.Poisson):
        return [mpmath.exp(value) - label]
    return [-label / (1 + mpmath.exp(label * value))]


def missing(
    loss: gc.Loss, data: gc.Dataset, theta: np.ndarray, h: np.ndarray
) -> tuple[Any, np.ndarray]:
    """h - sum c x w^T with 60 digits, and the sum of absolute terms, both (rows, columns)."""
    columns, wanted = theta.reshape(len(theta), -1), h.reshape(len(h), -1)
    with mpmath.workdps(60):
        off = [[mpmath.mpf(v) for v in row] for row in wanted.tolist()]
        size = [[abs(v) for v in row] for row in off]
        for row, y, count in zip(data.x.tolist(), data.y, data.counts.tolist(), strict=True):
            x = row + [1.0] * loss.intercept
            products = [
                [mpmath.mpf(v) * t for v, t in zip(x, column, strict=True)]
                for column in columns.T.tolist()
            ]
            w = residuals(loss, [mpmath.fsum(p) for p in products], y)
            # What 2^-104 of a predictor's terms does to a residual, by its curvature (at most e^z).
            most = mpmath.fsum(abs(v) for p in products for v in p)
            slope = 1 + (abs(w[0]) + abs(float(y)) if isinstance(loss, gc.Poisson) else 0)
            for j, v in enumerate(x):
                for k, residual in enumerate(w):
                    off[j][k] -= count * residual * v
                    size[j][k] += count * abs(v) * (abs(residual) + slope * most)
        return off, np.array([[float(v) for v in row] for row in size])


def assert_rounded_once(got: np.ndarray, want: Any, size: np.ndarray) -> None:
    """Equal to the exact value up to half a unit in its last place and 1e-25 of the absolute terms."""
    for row_got, row, row_size in zip(got.reshape(len(want), -1), want, size, strict=True):
        for value, exact, terms in zip(row_got, row, row_size, strict=True):
            allowance = abs(exact) * 2.0**-53 * (1.0 + 1e-9) + 1e-25 * float(terms)
            assert abs(mpmath.mpf(float(value)) - exact) <= allowance


@st.composite
def datasets(
    draw: st.DrawFn, loss: gc.Loss
) -> tuple[gc.Dataset, np.ndarray, np.ndarray, np.random.Generator]:
    """Up to 12 points with counts, each entry of a size of its own; a model; a gradient."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, d = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    x = rng.normal(size=(m, d)) * 10.0 ** rng.uniform(-3.0, 1.0, (m, d))
    y, counts = cases.labels(loss, m, rng), rng.integers(1, 10 ** int(rng.integers(1, 7)), m)
    theta = rng.normal(size=loss.shape(d))
    h = rng.normal(size=loss.shape(d)) * 10.0 ** rng.uniform(-6.0, 3.0)
    return gc.Dataset(x, y, counts), theta, h, rng


@EVERY_LOSS
@given(data=st.data())
@settings(max_examples=25)
def test_missing_gradients_are_rounded_once(loss: gc.Loss, data: st.DataObject) -> None:
    points, theta, h, _ = data.draw(datasets(loss))
    kept = theta.copy(), h.copy()
    got = missing_gradient(loss, points, theta, h)
    assert got.shape == h.shape
    assert_rounded_once(got, *missing(loss, points, theta, h))
    assert np.array_equal(theta, kept[0])
    assert np.array_equal(h, kept[1])


@EVERY_LOSS
@given(data=st.data())
@settings(max_examples=15)
def test_what_is_missing_after_nearly_everything_cancels(
    loss: gc.Loss, data: st.DataObject
) -> None:
    """h is the sum of the gradients, rounded: what is missing is that rounding, to all its digits."""
    points, theta, h, _ = data.draw(datasets(loss))
    with mpmath.workdps(60):
        off, _ = missing(loss, points, theta, np.zeros_like(h))
        rounded = np.array([[-float(v) for v in row] for row in off]).reshape(h.shape)
    got = missing_gradient(loss, points, theta, rounded)
    want, size = missing(loss, points, theta, rounded)
    assert_rounded_once(got, want, size)
    assert np.abs(got).max() <= 2.0**-53 * np.abs(rounded).max()
    with mpmath.workdps(60):
        entries = [value for row in want for value in row], rounded.ravel().tolist()
        norms = [mpmath.sqrt(mpmath.fsum(v**2 for v in part)) for part in entries]
        ratio = float(norms[0] / norms[1])
    tolerance = 1e-24 * float(size.sum()) / float(norms[1])
    assert relative_residual(loss, points, theta, rounded) == pytest.approx(
        ratio, rel=1e-12, abs=tolerance
    )


def test_float64_would_not_see_it() -> None:
    """Negative control: summed in float64 the missing part is all rounding."""
    loss, rng = gc.Logistic(), np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    points = gc.Dataset(x, cases.labels(loss, 50, rng), rng.integers(1, 10**6, 50))
    theta = rng.normal(size=3)
    off, size = missing(loss, points, theta, np.zeros(3))
    h = np.array([-float(row[0]) for row in off])
    w = points.counts * loss.residual(x @ theta, points.y)
    plain = h - x.T @ w
    want, _ = missing(loss, points, theta, h)
    assert np.abs(plain - [float(row[0]) for row in want]).max() > 1e-20 * size.max()
    assert_rounded_once(missing_gradient(loss, points, theta, h), want, size)


@EVERY_LOSS
def test_no_points_miss_everything(loss: gc.Loss) -> None:
    h = np.arange(1.0, 1.0 + math.prod(loss.shape(3))).reshape(loss.shape(3))
    theta = np.ones(loss.shape(3))
    got = missing_gradient(loss, gc.Dataset.empty(3), theta, h)
    assert np.array_equal(got, h)
    assert not np.shares_memory(got, h)
    assert relative_residual(loss, gc.Dataset.empty(3), theta, np.zeros_like(h)) == 0.0


@EVERY_LOSS
def test_more_products_than_one_chunk_holds(loss: gc.Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the sums are cut into chunks, they are the same to the last bit."""
    rng = np.random.default_rng(3)
    points = gc.Dataset(rng.normal(size=(9, 7)), cases.labels(loss, 9, rng), rng.integers(1, 9, 9))
    theta, h = rng.normal(size=(2, *loss.shape(7)))
    whole = missing_gradient(loss, points, theta, h)
    for chunk in (1, 20, 100):
        monkeypatch.setattr("gplconvex.realization.exact.CHUNK", chunk)
        assert np.array_equal(missing_gradient(loss, points, theta, h), whole)


@pytest.mark.parametrize("size", [1e-140, 1e-30, 1e30, 1e140])
def test_inputs_and_models_of_extreme_sizes(size: float) -> None:
    """Powers of two are taken out first, so that no product overflows or is lost."""
    rng = np.random.default_rng(1)
    x, theta = rng.normal(size=(4, 3)) * size, rng.normal(size=3) / size
    for loss in LOSSES[0], LOSSES[2], LOSSES[4]:
        points = gc.Dataset(x, cases.labels(loss, 4, rng), [1, 2, 3, 100])
        h = rng.normal(size=3) * size
        got = missing_gradient(loss, points, theta, h)
        assert_rounded_once(got, *missing(loss, points, theta, h))


def test_saturated_predictors() -> None:
    """Residuals of exp(-1000) are 0 in float64, and those that tend to 1 are 1."""
    h = np.array([1.0])
    points = gc.Dataset([[1000.0], [-1000.0]], [1.0, 1.0])
    assert missing_gradient(gc.Logistic(), points, np.array([1.0]), h) == 1.0 - 1000.0
    points = gc.Dataset([[-1000.0], [0.0]], [3.0, 1.0])
    assert missing_gradient(gc.Poisson(), points, np.array([1.0]), h) == 1.0 - 3000.0
    points = gc.Dataset([[1000.0], [1000.0]], [0.0, 1.0])
    theta, wanted = np.array([[1.0, -1.0]]), np.array([[0.0, 0.0]])
    got = missing_gradient(gc.Softmax(2), points, theta, wanted)
    assert got.tolist() == [[-1000.0, 1000.0]]
