"""Poisson gradients realized by one or two points, and logistic ones with points to spare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.realization.lower_bound import count_mismatch, fewest_counts
from tests import strategies as cases

POISSON, INTERCEPT = gc.Poisson(), gc.Poisson(intercept=True)
LOSSES = pytest.mark.parametrize("loss", [POISSON, INTERCEPT], ids=repr)


# -- what a realization says, recomputed -------------------------------------------------------------


def residual_of(loss: gc.Loss, data: gc.Dataset, theta: Any, h: Any) -> float:
    """|h - sum c (exp(z) - y) x| / |h|, or its logistic counterpart, with 60 digits."""
    with mpmath.workdps(60):
        model, wanted = ([mpmath.mpf(float(v)) for v in values] for values in (theta, h))
        missing = list(wanted)
        for row, y, count in zip(
            data.x.tolist(), data.y.tolist(), data.counts.tolist(), strict=True
        ):
            x = [mpmath.mpf(v) for v in row] + [mpmath.mpf(1)] * loss.intercept
            z = mpmath.fsum(a * b for a, b in zip(x, model, strict=True))
            w = mpmath.exp(z) - y if isinstance(loss, gc.Poisson) else -y / (1 + mpmath.exp(y * z))
            missing = [m - count * w * v for m, v in zip(missing, x, strict=True)]
        off, size = (mpmath.sqrt(mpmath.fsum(v**2 for v in a)) for a in (missing, wanted))
        return float(off / size if size else off)


def label_of_a_single_point(theta: Any, h: Any) -> Any:
    """exp(s/h0) - h0, what the label of one point with residual h0 would be; digits to spare."""
    with mpmath.workdps(5000):
        model, wanted = ([mpmath.mpf(float(v)) for v in values] for values in (theta, h))
        s = mpmath.fsum(a * b for a, b in zip(model, wanted, strict=True))
        return mpmath.exp(s / wanted[-1]) - wanted[-1]


def is_a_count(label: Any) -> bool:
    with mpmath.workdps(5000):
        nearest = max(mpmath.nint(label), mpmath.mpf(0))
        return bool(abs(label - nearest) < mpmath.mpf(10) ** -4500)


def hardness(theta: np.ndarray, h: np.ndarray) -> float:
    """The relative residual that rounding the inputs of two points with an intercept costs.

    Labels are about N = 4 (|s| + |h0| log|h0|), a predictor of size Z = log N + |b| is off by its
    rounding, and with it a residual by N times as much; an input is about Z / |slope|.
    """
    s, h0, b, slope = abs(theta @ h), abs(h[-1]), abs(theta[-1]), np.linalg.norm(theta[:-1])
    labels = 4.0 * (1.0 + s + h0 * (1.0 + math.log1p(h0)))
    z = math.log(labels) + b
    return float(2.0**-53 * labels * z * (1.0 + z / slope) / np.linalg.norm(h))


def blur(loss: gc.Poisson, data: gc.Dataset, theta: np.ndarray, h: np.ndarray) -> float:
    """What twice the working precision leaves open of a residual: 2^-100 of all its terms."""
    if not data.n_rows:
        return 0.0
    slope = theta[:-1] if loss.intercept else theta
    terms = np.abs(data.x) @ np.abs(slope) + 1.0
    weights = data.counts * (loss.curvature(loss.predictor(data.x, theta), data.y) + data.y)
    inputs = np.abs(data.x).max(axis=1) + loss.intercept
    return min(1e-12, 2.0**-100 * float(np.sum(terms * weights * inputs)) / np.abs(h).max())


def check(loss: gc.Poisson, theta: Any, h: Any) -> gc.Realization:
    """Realize a gradient, and check by other means everything that is said of the result."""
    theta, h = np.asarray(theta, dtype=float), np.asarray(h, dtype=float)
    kept = theta.copy(), h.copy()
    found = gc.realize_gradient(loss, theta, h)
    assert np.array_equal(theta, kept[0])
    assert np.array_equal(h, kept[1])
    data = found.dataset
    residual = residual_of(loss, data, theta, h)
    assert residual <= 1e-12
    assert found.residual == pytest.approx(residual, rel=1e-6, abs=blur(loss, data, theta, h))
    assert (data.y >= 0.0).all()
    assert np.array_equal(data.y, np.floor(data.y))
    assert np.isfinite(data.x).all()
    if data.n_rows:
        loss.check_labels(data)
    assert found.n_points == data.n_points
    assert found.lower_bound == found.proof.value <= found.n_points
    if found.n_points > found.lower_bound:
        assert found.note
        assert loss.intercept
    else:
        assert not found.note
    gc.check_lower_bound(loss, theta, h, found.proof)
    return found


def refusal(call: Callable[[], Any]) -> gc.CertificateError | None:
    """The certificate error that a call raises, if it does."""
    try:
        call()
    except gc.CertificateError as error:
        return error
    return None


def check_or_refusal(theta: Any, h: Any) -> gc.Realization | None:
    """As `check`; None where rounding the inputs alone costs too much, and the refusal says so."""
    theta, h = np.asarray(theta, dtype=float), np.asarray(h, dtype=float)
    failure = refusal(lambda: gc.realize_gradient(INTERCEPT, theta, h))
    if failure is None:
        return check(INTERCEPT, theta, h)
    assert "relative residual" in str(failure)
    assert hardness(theta, h) > 1e-13
    return None


@st.composite
def wanted(draw: st.DrawFn, intercept: bool, most: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A model and a gradient, each entry of a size of its own between 1e-3 and 1e3."""
    d = draw(st.integers(1, most)) + intercept
    number = st.tuples(st.sampled_from([-1.0, 1.0]), cases.powers(1e-3, 1e3))
    entries = st.lists(number.map(lambda p: p[0] * p[1]), min_size=d, max_size=d)
    return np.array(draw(entries)), np.array(draw(entries))


def gradient_of_points(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of the gradients of points with an intercept, with 60 digits, rounded once."""
    with mpmath.workdps(60):
        total = [mpmath.mpf(0)] * theta.size
        for row, label in zip(np.column_stack([x, np.ones(len(x))]).tolist(), y, strict=True):
            z = mpmath.fsum(a * mpmath.mpf(b) for a, b in zip(row, theta.tolist(), strict=True))
            w = mpmath.exp(z) - float(label)
            total = [t + w * v for t, v in zip(total, row, strict=True)]
        return np.array([float(t) for t in total])


def with_product(theta: Any, s: float) -> np.ndarray:
    """A gradient with theta^T h = s, up to a rounding."""
    theta = np.asarray(theta, dtype=float)
    h = np.linspace(0.3, -0.7, theta.size)
    return np.asarray(h + theta * (s - theta @ h) / (theta @ theta))


# -- any gradient ------------------------------------------------------------------------------------


@given(wanted(False))
def test_without_an_intercept_one_point_does(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = check(POISSON, *pair)
    assert found.n_points == found.lower_bound == 1
    assert found.proof.argument == "nonzero"
    (y,) = found.dataset.y
    s = mpmath.fdot(*(map(mpmath.mpf, values.tolist()) for values in pair))
    if abs(s + mpmath.exp(-1)) > 1e-12:
        assert (y == 0.0) == (s > -mpmath.exp(-1))


@given(cases.powers(1e-3, 1e6))
def test_the_label_of_one_point_is_the_least_possible(excess: float) -> None:
    """One less and min over z > 0 of e^z + |s|/z exceeds it: no predictor fits."""
    s = -math.exp(-1.0) - excess
    (y,) = check(POISSON, [1.0, 0.0], [s, 1.0]).dataset.y
    z = np.linspace(1e-3, 30.0, 100_000)
    least = float(np.min(np.exp(z) - s / z))
    assert y >= 1.0
    assert y - 1.0 < least * (1.0 + 1e-12)
    assert y >= least * (1.0 - 1e-6)


@given(wanted(True))
@settings(max_examples=60)
def test_with_an_intercept_two_points_do(pair: tuple[np.ndarray, np.ndarray]) -> None:
    theta, h = pair
    found = check_or_refusal(theta, h)
    if found is None:
        return
    assert found.n_points <= 2
    if abs(theta @ h) > 9e3 * abs(h[-1]):
        return  # more digits than the oracle has
    if found.proof.argument == "single point":
        assert found.lower_bound == 2
        assert not is_a_count(label_of_a_single_point(theta, h))


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_moderate_gradients_with_an_intercept_are_never_refused(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta, h = rng.normal(size=d + 1), rng.normal(size=d + 1)
    theta[0] = math.copysign(1.0 + abs(theta[0]), theta[0])
    found = check(INTERCEPT, theta, h)
    assert found.lower_bound == 2
    assert not is_a_count(label_of_a_single_point(theta, h))


@LOSSES
@given(data=st.data())
@settings(max_examples=10)
def test_no_gradient_takes_no_points(loss: gc.Poisson, data: st.DataObject) -> None:
    theta, h = data.draw(wanted(loss.intercept))
    for model in (theta, np.zeros_like(theta)):
        found = check(loss, model, np.zeros_like(h))
        assert found.n_points == found.lower_bound == 0
        assert found.residual == 0.0
        assert found.proof.argument == "zero"


# -- with an intercept: one point or two -------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 6), st.floats(-3.0, 2.0), st.integers(0, 2**32 - 1))
def test_the_gradient_of_one_point_takes_one_point(d: int, y: int, z: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=d + 1)
    theta[0] = math.copysign(1.0 + abs(theta[0]), theta[0])
    if abs(math.exp(z) - y) < 0.05:
        z += 0.2  # a silent point would leave nothing to realize
    x = rng.normal(size=d)
    x += theta[:-1] * (z - theta[-1] - x @ theta[:-1]) / (theta[:-1] @ theta[:-1])
    h = gradient_of_points(theta, x[None, :], np.array([y]))
    found = check(INTERCEPT, theta, h)
    assert found.n_points == found.lower_bound == 1
    assert found.dataset.y[0] == y
    # Negative control: a relative 1e-6 away no single point fits any more.
    h[0] += 1e-6 * (1.0 + abs(h[0]))
    found = check(INTERCEPT, theta, h)
    assert found.n_points == found.lower_bound == 2
    assert found.proof.argument == "single point"


@pytest.mark.parametrize("z", [-20.0, -30.0, -40.0, -200.0, -1e5])
@pytest.mark.parametrize("y", [1.0, 3.0, 40.0])
def test_a_mean_below_any_float_counts_as_none(y: float, z: float) -> None:
    """The residual e^z - y is -y in float64: one point has this gradient to every digit there is."""
    x = np.array([1.5, -0.25])
    theta = np.array([2.0, 1.0, 0.0])
    theta[-1] = z - theta[:-1] @ x
    found = check(INTERCEPT, theta, -y * np.append(x, 1.0 - math.exp(z) / y))
    if z <= -30.0:
        assert found.n_points == found.lower_bound == 1
        assert found.dataset.y.tolist() == [y]


@given(wanted(True), st.floats(-1.0, 1.0))
@settings(max_examples=30)
def test_a_silent_point_does_nothing(pair: tuple[np.ndarray, np.ndarray], exponent: float) -> None:
    theta, h = pair
    theta = theta * (10.0**exponent / np.linalg.norm(theta[:-1]))
    h[-1] = 0.0
    found = check_or_refusal(theta, h)
    if found is not None:
        assert found.n_points == found.lower_bound == 2
        assert found.proof.argument == "silent point"


def test_a_label_beyond_any_float_leaves_the_bound_at_one() -> None:
    """Whether exp(2e4) - h0 is a count nobody computes, so two points come with a note."""
    theta, h = np.array([1.0, 0.0]), np.array([20.0, 1e-3])
    found = check(INTERCEPT, theta, h)
    assert (found.lower_bound, found.n_points) == (1, 2)
    assert "one point may do" in found.note
    assert count_mismatch(theta, h) == (0.0, 0.0)
    # Negative control: where it can be computed, it is not a count.
    h[-1] = 1e-1
    assert check(INTERCEPT, theta, h).lower_bound == 2


def test_exact_zeros_of_theta_and_h() -> None:
    assert check(POISSON, [0.0, 0.0], [1.0, -2.0]).dataset.y[0] == 0.0
    assert check(POISSON, [1.0, 0.0], [0.0, -2.0]).n_points == 1
    # s = 0: a single point has z = 0 and residual 1 - y, which is h0 for the count 1 - h0 only.
    assert check(INTERCEPT, [1.0, 0.0], [0.0, -2.0]).n_points == 1
    assert check(INTERCEPT, [1.0, 0.0], [0.0, 1.0]).n_points == 1
    assert check(INTERCEPT, [1.0, 0.0], [0.0, 2.0]).n_points == 2
    assert check(INTERCEPT, [1.0, 0.0], [0.0, -2.5]).n_points == 2


# -- theta zero, but for the intercept ---------------------------------------------------------------


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_at_the_zero_model_one_point_with_residual_one_does(d: int, seed: int) -> None:
    h = np.random.default_rng(seed).normal(size=d) * 10.0 ** (seed % 7 - 3)
    found = check(POISSON, np.zeros(d), h)
    assert found.n_points == 1
    assert np.array_equal(found.dataset.x[0], h)


@given(st.integers(1, 9), st.integers(0, 30), st.integers(-2000, 2000).map(lambda i: i / 1000.0))
@example(1, 1, 2.0**-14)  # e^b and the label nearly cancel
@example(1, 1, 1e-17)
@settings(max_examples=20)
def test_constant_predictors(k: int, y: int, b: float) -> None:
    """theta = (0, 0, b): k points sum to k e^b less a count, so h0 is one of countably many numbers."""
    theta = np.array([0.0, 0.0, b])
    h0 = float(k * mpmath.exp(b) - y)
    if h0 == 0.0:
        return
    h = np.array([0.3, -2.0, h0])
    found = check(INTERCEPT, theta, h)
    assert found.n_points <= k
    assert found.n_points == fewest_for_constant(b, h0, k)
    assert found.proof.argument == "constant predictor"


def test_what_the_digits_do_not_tell_is_refused() -> None:
    """exp(b) - 1 is b here, 45 digits below exp(b): its sum over points of inputs 1/b is not known."""
    b = 1.4e-45
    with pytest.raises(gc.GplConvexError):
        gc.realize_gradient(INTERCEPT, [0.0, 0.0, b], [0.3, -2.0, b])


def fewest_for_constant(b: float, h0: float, most: int) -> int | None:
    for k in range(1, most + 1):
        label = k * mpmath.exp(b) - h0
        tolerance = 1e-14 * (k * math.exp(b) + abs(h0))
        if abs(label - max(mpmath.nint(label), 0)) <= tolerance:
            return k
    return None


@pytest.mark.parametrize(
    ("b", "h0"), [(0.0, 0.3), (0.0, -2.5), (math.log(2.0), 0.5), (-800.0, 0.5)]
)
def test_other_sums_are_unrealizable_at_constant_predictors(b: float, h0: float) -> None:
    theta, h = np.array([0.0, 0.0, b]), np.array([1.0, -2.0, h0])
    with pytest.raises(gc.UnrealizableGradientError, match="Move the target") as caught:
        gc.realize_gradient(INTERCEPT, theta, h)
    assert np.array_equal(caught.value.direction, [0.0, 0.0, 1.0])
    # Negative control: any slope in theta sets the residuals free.
    if b > -100.0:
        check(INTERCEPT, [0.5, 0.0, b], h)


def test_a_pair_of_constant_predictors_cancels() -> None:
    """h0 = 0 takes a pair, whose residuals e^b - y and e^b sum to 0 where 2 e^b is a count."""
    for b, y in ((0.0, 2.0), (math.log(1.5), 3.0)):
        found = check(INTERCEPT, [0.0, 0.0, b], [1.0, -2.0, 0.0])
        assert found.n_points == found.lower_bound == 2
        assert found.dataset.y.tolist() == [y, 0.0]


@pytest.mark.parametrize("b", [0.0, 1.0, 34.0, -800.0, -1e5, 1e5])
@pytest.mark.parametrize("h0", [0.0, 1e-17, -1e-17, 1e-300, -1e100])
def test_silent_constant_predictors_are_realized_or_refused(b: float, h0: float) -> None:
    """exp(b) may be a count in float64, or 0: a point without a residual divides by nothing."""
    for features in ([1.0, -2.0], [0.0, 0.0]):
        honest(INTERCEPT, [0.0, 0.0, b], [*features, h0])


# -- extremes ----------------------------------------------------------------------------------------


def honest(loss: gc.Poisson, theta: Any, h: Any) -> None:
    """Points with a proof that checks, or a refusal that says why: no crash and no warning."""
    try:
        found = gc.realize_gradient(loss, theta, h)
    except (gc.CertificateError, gc.UnrealizableGradientError):
        return
    with mpmath.workdps(400):
        assert residual_of(loss, found.dataset, theta, h) <= 1e-12
    check(loss, theta, h)


BRANCH = -math.exp(-1.0)


@pytest.mark.parametrize(
    "s",
    [
        *(BRANCH, math.nextafter(BRANCH, 0.0), math.nextafter(BRANCH, -1.0)),
        *(BRANCH - 1e-12, BRANCH + 1e-12, BRANCH - 1e-9, BRANCH + 1e-9, 0.0, -1.0, 1.0),
        *(1e-300, -1e-300, 1e-16, -1e-16, 1e6, -1e6, 1e16, -1e16, 1e100, -1e100, 1e139, -1e139),
    ],
)
def test_sums_of_every_size_without_an_intercept(s: float) -> None:
    found = check(POISSON, [1.0, 0.0], [s, 3.0])
    assert found.n_points == 1
    assert check(POISSON, [1.0], [s]).n_points == (1 if s else 0)


@pytest.mark.parametrize("s", [1e-300, -1e-300, 1e-12, -1e-12, BRANCH, 1.0, -1.0, 36.0, 1e3, -1e3])
@pytest.mark.parametrize("h0", [0.7, -0.7, 3.5, -12.25])
def test_sums_of_every_size_with_an_intercept(s: float, h0: float) -> None:
    theta = np.array([1.0, -2.0, 0.5])
    h = np.append(with_product(theta[:2], s - 0.5 * h0), h0)
    found = check(INTERCEPT, theta, h)
    assert found.n_points == found.lower_bound == 2


@LOSSES
@given(data=st.data())
@settings(max_examples=60)
def test_entries_of_every_size_are_realized_or_refused(
    loss: gc.Poisson, data: st.DataObject
) -> None:
    d = data.draw(st.integers(1, 4)) + loss.intercept
    size = st.sampled_from([0.0, 1e-100, 1e-20, 1e-8, 1.0, 1e8, 1e17, 1e100])
    number = st.tuples(st.sampled_from([-1.0, 1.0]), size, st.floats(1.0, 9.0))
    entries = st.lists(number.map(math.prod), min_size=d, max_size=d)
    theta, h = np.array(data.draw(entries)), np.array(data.draw(entries))
    if loss == POISSON:
        check(loss, theta, h)
    else:
        honest(loss, theta, h)


EXTREMES = {
    "an h0 that absorbs 1": ([5.0, -1.0], [-1e19, -1.3e17]),
    "an h0 that absorbs any count": ([1e-4, 5.0, 2.0], [30.0, -7.0, -3.5e100]),
    "a predictor that overflows": (
        [5.010419e6, 1.631e-8, 1.3357e5, 8.4799e-7, -2.6963e12, 3.1e-15, 0.0317, 4.276e13],
        [1.5115e18, -1.8948e6, 3.9588e-6, 4.7342, -9.8796e10, -3.1536e11, 1.4693e13, -3.8552e-9],
    ),
    "a sum that cancels below 50 digits": ([-1.3e80, -1.1e-40], [-1.7e-55, 0.0]),
    "a slope of no size": ([1e-300, 1.0], [1.0, 2.0]),
}


@pytest.mark.parametrize("pair", EXTREMES.values(), ids=EXTREMES.keys())
def test_extremes_with_an_intercept(pair: tuple[Any, Any]) -> None:
    honest(INTERCEPT, *map(np.array, pair))


# -- forged proofs -----------------------------------------------------------------------------------


SLOPE = np.array([1.0, -2.0, 0.5])
FLAT = np.array([0.0, 0.0, math.log(2.5)])
PROBLEMS: list[tuple[gc.Loss, np.ndarray, np.ndarray]] = [
    (POISSON, SLOPE, np.zeros(3)),
    (POISSON, SLOPE, np.array([0.3, -0.7, 0.4])),
    (INTERCEPT, SLOPE, np.array([0.3, -0.7, 0.0])),
    (INTERCEPT, SLOPE, np.array([0.3, -0.7, 0.4])),
    (INTERCEPT, FLAT, np.array([1.0, 2.0, 3 * 2.5 - 4.0])),
    (INTERCEPT, SLOPE, np.array([2e4, 0.0, 1e-3])),
]
PROOFS = [(loss, t, h, gc.realize_gradient(loss, t, h).proof) for loss, t, h in PROBLEMS]


def rejected(loss: gc.Loss, theta: Any, h: Any, bound: gc.LowerBound) -> bool:
    failure = refusal(lambda: gc.check_lower_bound(loss, theta, h, bound))
    if failure is None:
        return False
    assert failure.checks
    assert "does not prove" in str(failure)
    return True


def test_every_argument_is_exercised() -> None:
    assert [bound.argument for *_, bound in PROOFS] == [
        *("zero", "nonzero", "silent point", "single point", "constant predictor", "nonzero")
    ]
    assert [bound.value for *_, bound in PROOFS] == [0, 1, 2, 2, 3, 1]


@pytest.mark.parametrize("number", range(len(PROOFS)))
def test_genuine_proofs_pass_and_exaggerations_do_not(number: int) -> None:
    loss, theta, h, bound = PROOFS[number]
    assert not rejected(loss, theta, h, bound)
    for more in (1, 2, 10, 10**7):
        assert rejected(loss, theta, h, dataclasses.replace(bound, value=bound.value + more))
    # A true number with an argument that does not give it.
    for argument in ("direction", "counting", "residuals", "trust me", ""):
        claim = dataclasses.replace(bound, argument=argument, value=bound.value + 1)
        assert rejected(loss, theta, h, claim)
    for *_, other in PROOFS:
        assert rejected(loss, theta, h, dataclasses.replace(other, value=bound.value + 1))
    for value in (math.nan, math.inf, 1.5, True, None):
        with pytest.raises(gc.CertificateError, match="integers"):
            gc.check_lower_bound(loss, theta, h, dataclasses.replace(bound, value=value))


def test_the_arguments_of_bounded_residuals_are_not_those_of_counts() -> None:
    """A Poisson residual has no bound, and theta^T gradient no floor: neither is a reason."""
    theta, h = SLOPE, np.array([-30.0, 60.0, 7.4])
    for loss in (POISSON, INTERCEPT):
        for claim in (
            gc.LowerBound(2, "residuals"),
            gc.LowerBound(1, "residuals"),
            gc.LowerBound(2, "direction", -theta, 0.2784645427610738),
            gc.LowerBound(2, "direction", -theta, math.inf),
            gc.LowerBound(3, "counting", None, math.inf, (1.0, -1.0), 1),
        ):
            assert rejected(loss, theta, h, claim)


def test_arguments_of_a_poisson_intercept_prove_nothing_elsewhere() -> None:
    for _, theta, h, bound in PROOFS[2:5]:
        claim = dataclasses.replace(bound, value=max(bound.value, 2))
        others: list[gc.Loss] = [POISSON, gc.LeastSquares(), gc.Logistic()]
        if bound.argument != "silent point":  # which holds for every loss with an intercept
            others.append(gc.LeastSquares(intercept=True))
        for loss in others:
            assert rejected(loss, theta, h, claim), (loss, claim)


def test_a_proof_is_about_its_own_gradient() -> None:
    silent, single, constant = (PROOFS[i][3] for i in (2, 3, 4))
    fits = gradient_of_points(SLOPE, np.array([[0.3, -0.7]]), np.array([3.0]))
    zero = np.zeros(3)
    for claim in (silent, single, constant):
        assert rejected(INTERCEPT, SLOPE, zero, claim)
    assert rejected(INTERCEPT, SLOPE, PROOFS[3][2], silent)
    assert rejected(INTERCEPT, SLOPE, PROOFS[3][2], constant)
    assert rejected(INTERCEPT, FLAT, np.array([1.0, 2.0, 2.5]), constant)
    # The label of a single point is computed for this h, and to all its digits.
    exact = np.array([0.0, -2.0, -2.0])
    assert rejected(INTERCEPT, np.array([1.0, 0.0, 0.0]), exact, single)
    exact[0] = 1e-15
    assert not rejected(INTERCEPT, np.array([1.0, 0.0, 0.0]), exact, single)
    assert check(INTERCEPT, SLOPE, fits).n_points == 1


@given(wanted(True, most=3), st.integers(1, 4))
@settings(max_examples=30)
def test_no_constant_predictor_argument_where_theta_has_a_slope(
    pair: tuple[np.ndarray, np.ndarray], value: int
) -> None:
    assert rejected(INTERCEPT, *pair, gc.LowerBound(value, "constant predictor"))


@pytest.mark.parametrize("b", [0.3, 20.0, 35.0, 36.5, 40.0, 100.0])
@pytest.mark.parametrize("k", [1, 3])
def test_points_that_exist_refute_a_constant_predictor(b: float, k: int) -> None:
    """h is the gradient of k points with label 0, so nothing proves that it takes more than k."""
    theta, h = np.array([0.0, 0.0, b]), np.array([1.0, 2.0, k * math.exp(b)])
    for value in (k + 1, 10, 10**6, 10**6 + 1):
        assert rejected(INTERCEPT, theta, h, gc.LowerBound(value, "constant predictor"))


def test_fewest_counts() -> None:
    assert fewest_counts(0.0, 1.0) == (1, 0)
    assert fewest_counts(0.0, -3.0) == (1, 4)
    assert fewest_counts(0.0, 7.0) == (7, 0)
    assert fewest_counts(0.0, 0.0) == (2, 2)
    assert fewest_counts(0.0, 0.5) is None
    assert fewest_counts(math.log(2.5), 0.5) == (1, 2)
    assert fewest_counts(math.log(2.5), 5.0) == (2, 0)
    assert fewest_counts(math.log(0.25), 0.5) == (2, 0)


@given(wanted(True, most=4))
@settings(max_examples=30)
def test_count_mismatch(pair: tuple[np.ndarray, np.ndarray]) -> None:
    theta, h = pair
    if abs(theta @ h) > 9e3 * abs(h[-1]):
        theta = theta * (1e3 * abs(h[-1]) / abs(theta @ h))
    label = label_of_a_single_point(theta, h)
    with mpmath.workdps(5000):
        nearest = max(mpmath.nint(label), mpmath.mpf(0))
        off = float(abs(label - nearest))
    mismatch, allowance = count_mismatch(theta, h)
    assert mismatch == pytest.approx(off, rel=1e-12, abs=allowance)
    assert 0.0 <= allowance <= 1e-70


# -- labels that are not counts ----------------------------------------------------------------------


@LOSSES
@pytest.mark.parametrize("label", [0.5, 2.0000001, -1.0, -1e-300, math.nan, math.inf])
def test_labels_that_are_no_counts_are_refused(loss: gc.Poisson, label: float) -> None:
    x = [[1.0], [2.0]]
    with pytest.raises(gc.InvalidInputError):
        gc.Problem(loss, gc.SquaredL2(1.0), [gc.Dataset(x, [1.0, label])], 0.1)
    if math.isfinite(label):
        with pytest.raises(gc.InvalidInputError, match="counts"):
            loss.check_labels(gc.Dataset(x, [1.0, label]))
    loss.check_labels(gc.Dataset(x, [0.0, 7.0]))  # negative control


# -- points to spare ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [gc.Logistic(), gc.Logistic(intercept=True)], ids=repr)
@given(d=st.integers(1, 4), extra=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_extra_points_make_smaller_inputs(loss: gc.Logistic, d: int, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta, h = rng.normal(size=(2, d + loss.intercept))
    theta[0] = math.copysign(1.0 + abs(theta[0]), theta[0])
    fewest = gc.realize_gradient(loss, theta, h)
    found = gc.realize_gradient(loss, theta, h, extra=extra)
    assert fewest.n_points == fewest.lower_bound == found.lower_bound
    assert fewest.n_points <= found.n_points == found.dataset.n_points <= fewest.n_points + extra
    assert residual_of(loss, found.dataset, theta, h) <= 1e-12
    assert found.proof.argument == fewest.proof.argument
    gc.check_lower_bound(loss, theta, h, found.proof)
    assert found.dataset.n_rows <= 4
    largest = np.abs(found.dataset.x).max()
    assert largest <= np.abs(fewest.dataset.x).max()
    if not loss.intercept:  # x = -c h with k c sigma(c s) = 1: c falls as k grows
        assert found.n_points == fewest.n_points + extra
        assert largest < np.abs(fewest.dataset.x).max()


def test_extra_points_with_an_intercept_make_smaller_inputs_as_a_rule() -> None:
    """Not always: one more point may have to take the residual, and with it the input, of two."""
    loss, ratios = gc.Logistic(intercept=True), []
    for seed in range(30):
        theta, h = np.random.default_rng(seed).normal(size=(2, 4))
        few, many = (gc.realize_gradient(loss, theta, h, extra=extra) for extra in (0, 100))
        ratios.append(np.abs(many.dataset.x).max() / np.abs(few.dataset.x).max())
    assert np.median(ratios) < 0.7


@pytest.mark.parametrize("loss", [gc.Logistic(), gc.Logistic(intercept=True)], ids=repr)
def test_a_thousand_extra_points(loss: gc.Logistic) -> None:
    theta, h = np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0, 0.2])
    alone = gc.realize_gradient(loss, theta, h)
    found = gc.realize_gradient(loss, theta, h, extra=np.int64(1000))
    assert found.n_points == alone.n_points + 1000
    assert residual_of(loss, found.dataset, theta, h) <= 1e-12
    assert np.abs(found.dataset.x).max() < np.abs(alone.dataset.x).max()


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("kind", [gc.LeastSquares, gc.Poisson])
def test_extra_points_have_no_use_for_single_points(kind: Any, intercept: bool) -> None:
    loss, theta, h = kind(intercept), [1.0, 2.0], [0.5, -0.3]
    with pytest.raises(gc.UnsupportedCombinationError, match="extra"):
        gc.realize_gradient(loss, theta, h, extra=1)
    gc.realize_gradient(loss, theta, h, extra=0)


@pytest.mark.parametrize("extra", [-1, 1.0, 0.5, math.nan, True, False, "1", None, [1]])
@pytest.mark.parametrize("loss", [gc.Logistic(), POISSON], ids=repr)
def test_bad_numbers_of_extra_points_are_refused(loss: gc.Loss, extra: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="extra must be an integer"):
        gc.realize_gradient(loss, [1.0, 2.0], [0.5, -0.3], extra=extra)
