"""Softmax gradients realized: exact at the float64 points that ship, nearly as few as a bound says."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.special import softmax

import gplconvex as gc
from tests import strategies as cases

SEEDS = st.integers(0, 2**32 - 1)


def gradient_sum(loss: gc.Softmax, data: gc.Dataset, theta: np.ndarray) -> list[list[Any]]:
    """The sum over the points of c x (softmax(theta^T x) - y)^T in the precision that mpmath has."""
    model = [[mpmath.mpf(v) for v in row] for row in theta.tolist()]
    total = [[mpmath.mpf(0)] * loss.n_classes for _ in model]
    for x, y, count in zip(data.x.tolist(), data.y.tolist(), data.counts.tolist(), strict=True):
        row = [mpmath.mpf(v) for v in x] + [mpmath.mpf(1)] * loss.intercept
        z = [mpmath.fdot(row, column) for column in zip(*model, strict=True)]
        powers = [mpmath.exp(v - max(z)) for v in z]
        everything = mpmath.fsum(powers)
        w = [p / everything for p in powers]
        if isinstance(y, list):
            w = [p - mpmath.mpf(share) for p, share in zip(w, y, strict=True)]
        else:
            w[int(y)] = -mpmath.fsum(p for k, p in enumerate(w) if k != int(y))
        for out, value in zip(total, row, strict=True):
            out[:] = [t + count * value * v for t, v in zip(out, w, strict=True)]
    return total


def relative_residual(loss: gc.Softmax, data: gc.Dataset, theta: Any, h: Any) -> float:
    """|sum of gradients - h| / |h|, from the definition, with 50 digits."""
    with mpmath.workdps(50):
        wanted = [mpmath.mpf(v) for v in h.ravel().tolist()]
        got = [v for row in gradient_sum(loss, data, theta) for v in row]
        off = mpmath.sqrt(mpmath.fsum((a - b) ** 2 for a, b in zip(got, wanted, strict=True)))
        size = mpmath.sqrt(mpmath.fsum(v**2 for v in wanted))
        return float(off / size) if size else float(off)


def balanced(h: np.ndarray) -> np.ndarray:
    """The matrix with rows that sum to 0."""
    return h - h.mean(axis=1, keepdims=True)


def drawn(
    n: int, d: int, intercept: bool, seed: int, size: float = 1.0
) -> tuple[gc.Softmax, np.ndarray, np.ndarray]:
    """A loss, a model with standard normal entries and a gradient of the given size."""
    rng, shape = np.random.default_rng(seed), (d + intercept, n)
    theta, h = rng.normal(size=shape), balanced(size * rng.normal(size=shape))
    return gc.Softmax(n, intercept), theta, h


def opposed(n: int, d: int, intercept: bool, seed: int, size: float) -> Any:
    """A gradient that opposes the model: h = -size theta + noise, dear to pay."""
    loss, theta, noise = drawn(n, d, intercept, seed)
    theta = balanced(theta)
    return loss, theta, balanced(-size * theta + noise)


def largest_input(found: gc.Realization) -> float:
    return float(np.linalg.norm(found.dataset.x, axis=1).max())


def check(loss: gc.Softmax, theta: Any, h: Any, extra: int = 0) -> gc.Realization:
    """Realize a gradient, and check by other means everything that is said of the result."""
    theta, h = np.asarray(theta, dtype=float), np.asarray(h, dtype=float)
    kept = theta.copy(), h.copy()
    found = gc.realize_gradient(loss, theta, h, extra=extra)
    assert np.array_equal(theta, kept[0])
    assert np.array_equal(h, kept[1])
    assert found.n_points == found.dataset.n_points == int(found.dataset.counts.sum())
    assert found.lower_bound == found.proof.value <= found.n_points
    residual = relative_residual(loss, found.dataset, theta, h)
    assert residual <= 1e-12
    # What is reported is measured after rows of h are made to sum to 0 exactly: a rounding of h.
    assert found.residual == pytest.approx(residual, rel=1e-6, abs=1e-15)
    assert (found.n_points == 0) == (not h.any())
    if found.n_points:
        loss.check_labels(found.dataset)
    gc.check_lower_bound(loss, theta, h, found.proof)
    # More than the promise never goes without a word.
    assert found.note or found.n_points - found.lower_bound <= 2 * loss.n_classes + 2 + extra
    return found


def promised(loss: gc.Softmax, theta: Any, h: Any) -> gc.Realization:
    """The same, and the promise for coefficients of rank K - 1: at most 2 K + 2 points more."""
    found = check(loss, theta, h)
    slope = balanced(theta[:-1] if loss.intercept else theta)
    assert np.linalg.matrix_rank(slope, rtol=1e-9) == loss.n_classes - 1
    assert found.n_points - found.lower_bound <= 2 * loss.n_classes + 2
    return found


@st.composite
def wanted(
    draw: st.DrawFn, most_classes: int, most_features: int = 30
) -> tuple[gc.Softmax, np.ndarray, np.ndarray]:
    """A loss, and a model and a gradient of sizes of their own between 1e-3 and 1e3."""
    n, d = draw(st.integers(2, most_classes)), draw(st.integers(1, most_features))
    loss, theta, h = drawn(n, d, draw(st.booleans()), draw(SEEDS))
    return loss, draw(cases.powers(1e-3, 1e3)) * theta, draw(cases.powers(1e-3, 1e3)) * h


# -- any gradient ------------------------------------------------------------------------------------


def check_any(loss: gc.Softmax, theta: np.ndarray, h: np.ndarray) -> None:
    if len(theta) - loss.intercept >= loss.n_classes:
        promised(loss, theta, h)
        return
    # Few features may not be able to make a class likely at all. Then a note or an error says so.
    with contextlib.suppress(gc.UnrealizableGradientError):
        check(loss, theta, h)


@given(wanted(4))
@settings(max_examples=15)
def test_every_gradient_is_realized(case: tuple[gc.Softmax, np.ndarray, np.ndarray]) -> None:
    check_any(*case)


@pytest.mark.slow
@given(wanted(8))
@settings(max_examples=30)
def test_every_gradient_of_up_to_eight_classes_is_realized(
    case: tuple[gc.Softmax, np.ndarray, np.ndarray],
) -> None:
    check_any(*case)


@pytest.mark.parametrize("intercept", [False, True])
def test_many_classes(intercept: bool) -> None:
    promised(*drawn(8, 30, intercept, 0, 0.01))


@pytest.mark.parametrize(
    ("n", "seed", "scale", "size"), [(3, 16, 100.0, 30.0), (4, 34, 100.0, 30.0), (8, 1, 1.0, 300.0)]
)
def test_large_sums_of_residuals(n: int, seed: int, scale: float, size: float) -> None:
    """The row of the intercept demands the points, and leaves little room to the rest of h."""
    loss, theta, h = drawn(n, 20 if n == 8 else n + 2, True, seed, size)
    promised(loss, scale * theta, h)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("size", [1e2, 1e5])
def test_many_points_are_few_rows(intercept: bool, size: float) -> None:
    loss, theta, h = opposed(4, 6, intercept, 3, size)
    found = promised(loss, theta, h)
    assert found.proof.argument == "direction"
    kappa = float(mpmath.lambertw(3 / mpmath.e))
    assert found.lower_bound >= -np.sum(theta * h) / kappa * (1.0 - 1e-9)
    # Parts of the copies of a label, and correctors for any pair of classes.
    assert found.dataset.n_rows <= 4 * 4 + 4 * 3


# -- two classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("intercept", [False, True])
def test_two_classes_are_logistic_regression(intercept: bool) -> None:
    loss, logistic = gc.Softmax(2, intercept), gc.Logistic(intercept)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(1, 8)) + intercept, 2)
        theta = 10.0 ** rng.uniform(-1.0, 1.0) * rng.normal(size=shape)
        h = balanced(10.0 ** rng.uniform(-1.0, 1.5) * rng.normal(size=shape))
        found = gc.realize_gradient(loss, theta, h)
        alike = gc.realize_gradient(logistic, theta[:, 1] - theta[:, 0], h[:, 1])
        assert (found.n_points, found.lower_bound) == (alike.n_points, alike.lower_bound)
        assert found.proof.argument == alike.proof.argument
        gc.check_lower_bound(loss, theta, h, found.proof)
        assert found.note == alike.note
        assert np.array_equal(found.dataset.y, 0.5 * (alike.dataset.y + 1.0))
        assert np.array_equal(found.dataset.counts, alike.dataset.counts)
        scale = largest_input(alike)
        assert np.abs(found.dataset.x - alike.dataset.x).max() <= 1e-9 * scale
        assert relative_residual(loss, found.dataset, theta, h) <= 1e-12


# -- special cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("intercept", [False, True])
def test_no_gradient_takes_no_points(n: int, intercept: bool) -> None:
    loss, theta, h = drawn(n, 5, intercept, 0)
    for model in (theta, np.zeros_like(theta)):
        found = check(loss, model, np.zeros_like(h))
        assert found.n_points == found.lower_bound == 0
        assert found.residual == 0.0
        assert found.proof.argument == "zero"


@pytest.mark.parametrize("n", [3, 6])
@pytest.mark.parametrize("d", [1, 2, 7])
def test_at_the_zero_model_the_rank_is_enough(n: int, d: int) -> None:
    loss, theta, h = drawn(n, d, False, 0)
    for model in (np.zeros_like(theta), np.repeat(theta[:, :1], n, axis=1)):
        found = check(loss, model, h)
        assert found.n_points == found.lower_bound == min(d, n - 1)
        assert found.proof.argument == "rank"


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("size", [0.01, 1.0, 10.0])
def test_logits_that_inputs_do_not_change(n: int, size: float) -> None:
    """Columns that are equal but for the intercept: q <= p(b), so that k p >= h0."""
    loss, theta, h = drawn(n, 4, True, 1, size)
    theta[:-1] = theta[:-1, :1]
    for b in (theta[-1], np.zeros(n)):
        theta[-1] = b
        found = check(loss, theta, h)
        p = np.exp(b) / np.exp(b).sum()
        least = max(math.ceil(np.max(h[-1] / p)), n - 1)
        assert found.lower_bound == least
        assert found.n_points <= max(least + 1 + (n - 1), math.ceil(1.1 * (least + 1)))
        assert found.proof.argument in {"rank", "constant predictor"}
    # Nothing wanted of the intercept: the residuals are dependent, and one point more is needed.
    h[-1] = 0.0
    assert check(loss, theta, h).n_points == n


@pytest.mark.parametrize(("n", "d"), [(4, 1), (5, 2), (6, 3)])
@pytest.mark.parametrize("intercept", [False, True])
def test_fewer_features_than_classes(n: int, d: int, intercept: bool) -> None:
    """Logits in a subspace: still exact, and a word where points cannot pay what the bound allows."""
    loss, theta, h = drawn(n, d, intercept, 2)
    check(loss, theta, h)
    check(loss, theta, balanced(-20.0 * theta))


@pytest.mark.parametrize("intercept", [False, True])
def test_a_class_that_is_never_wanted(intercept: bool) -> None:
    loss, theta, h = drawn(4, 6, intercept, 4)
    h[:, 0] = 0.0
    h[:, 1:] = balanced(h[:, 1:])
    promised(loss, theta, h)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_two_classes_with_the_same_coefficients(intercept: bool, seed: int) -> None:
    loss, theta, h = drawn(4, 6, intercept, seed, 3.0)
    theta[:, 1] = theta[:, 0]
    check(loss, theta, h)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("apart", [1e-3, 1e-6])
@pytest.mark.parametrize("seed", range(2))
def test_two_classes_that_are_nearly_the_same(intercept: bool, apart: float, seed: int) -> None:
    """Inputs that tell them apart are huge: an exact dataset, or a refusal, never a poor one."""
    loss, theta, h = drawn(3, 6, intercept, seed, 3.0)
    theta[:, 1] = theta[:, 0] + apart * np.random.default_rng(seed).normal(size=len(theta))
    if apart == 1e-6 and intercept:
        with contextlib.suppress(gc.UnrealizableGradientError):
            check(loss, theta, h)
    else:
        check(loss, theta, h)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("n", [3, 5])
def test_a_gradient_of_rank_one(intercept: bool, n: int) -> None:
    loss, theta, h = drawn(n, 6, intercept, 5)
    left, singular, right = np.linalg.svd(h)
    h = balanced(singular[0] * np.outer(left[:, 0], right[0]))
    found = promised(loss, theta, h)
    if intercept:
        h[-1] = 0.0
        found = promised(loss, theta, h)
        assert found.lower_bound >= 2


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_one_point(intercept: bool, n: int, seed: int) -> None:
    """One point is found with an intercept, which fixes its residual; without, few."""
    loss, theta, _ = drawn(n, 5, intercept, seed)
    x = np.random.default_rng(seed).normal(size=(1, 5))
    label = np.array([float(seed % n)])
    h = balanced(loss.pullback(x, loss.residual(loss.predictor(x, theta), label)))
    found = promised(loss, theta, h)
    assert found.lower_bound == 1
    assert found.n_points == 1 or not intercept


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("n", [3, 5])
def test_gauge_and_order_of_classes(intercept: bool, n: int) -> None:
    """Adding one vector to every column, or renaming classes, changes nothing that matters."""
    loss, theta, h = drawn(n, 7, intercept, 6, 2.0)
    found = promised(loss, theta, h)
    rng = np.random.default_rng(n)
    for size in (1.0, 30.0):
        shifted = promised(loss, theta + size * rng.normal(size=(len(theta), 1)), h)
        assert shifted.lower_bound == found.lower_bound
        assert shifted.n_points == found.n_points
    order = rng.permutation(n)
    renamed = promised(loss, theta[:, order], h[:, order])
    assert renamed.lower_bound == found.lower_bound
    # The solver starts from other points, so that one more or less may do.
    assert abs(renamed.n_points - found.n_points) <= 2


@pytest.mark.parametrize("intercept", [False, True])
def test_features_of_extreme_scales(intercept: bool) -> None:
    for size in (1e-8, 1e8):
        loss, theta, h = drawn(3, 5, intercept, 7)
        theta[:5] /= size  # inputs of that size need coefficients of the inverse
        h[:5] *= size
        check(loss, theta, h)


# -- more points, smaller inputs ---------------------------------------------------------------------


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("n", [2, 3])
def test_extra_points_are_spent_on_smaller_inputs(intercept: bool, n: int) -> None:
    loss, theta, h = drawn(n, 6, intercept, 8, 3.0)
    fewest = check(loss, theta, h)
    for extra in (1, 12):
        found = check(loss, theta, h, extra)
        assert found.lower_bound == fewest.lower_bound
        assert found.n_points <= fewest.n_points + extra
        assert largest_input(found) <= largest_input(fewest) * (1.0 + 1e-12)


@pytest.mark.parametrize("intercept", [False, True])
def test_where_inputs_are_large_extra_points_make_them_really_smaller(intercept: bool) -> None:
    loss, theta, h = opposed(5, 8, intercept, 9, 200.0)
    sizes = [largest_input(check(loss, theta, h, extra)) for extra in (0, 10, 100)]
    assert sizes[1] < 0.8 * sizes[0]
    assert sizes[2] < 0.8 * sizes[1]


def heavy(seed: int) -> Any:
    """Logits so large that float64 hardly resolves a tie of two classes; 4 10^8 points are needed."""
    loss, theta, noise = drawn(3, 4, True, seed)
    theta, noise = 5e4 * balanced(theta), 1e4 * balanced(noise)
    return loss, theta, noise - theta * ((np.vdot(theta, noise) + 2e8) / np.vdot(theta, theta))


def test_where_float64_hardly_holds_the_fewest_points_some_more_do_and_extra_ones_are_used() -> (
    None
):
    notes = []
    for seed in range(4):
        loss, theta, h = heavy(seed)
        fewest = check(loss, theta, h)
        assert fewest.n_points <= 1.011 * fewest.lower_bound
        notes.append(fewest.note)
        extra = fewest.n_points // 100
        found = check(loss, theta, h, extra)
        assert found.n_points == fewest.n_points + extra
        assert largest_input(found) < min(10.0, largest_input(fewest))
    assert any("fewer, whose inputs float64 holds, were not found" in note for note in notes)
    assert not all(notes)


# -- forged proofs -----------------------------------------------------------------------------------


def refusal(call: Callable[[], Any]) -> gc.CertificateError | None:
    """The certificate error that a call raises, if it does."""
    try:
        call()
    except gc.CertificateError as error:
        return error
    return None


def rejected(loss: gc.Loss, theta: Any, h: Any, bound: gc.LowerBound) -> bool:
    failure = refusal(lambda: gc.check_lower_bound(loss, theta, h, bound))
    if failure is None:
        return False
    assert failure.checks
    assert "does not prove" in str(failure)
    return True


Proven = tuple[gc.Softmax, np.ndarray, np.ndarray, gc.LowerBound]


def proofs() -> list[Proven]:
    """One proof of every kind, for two classes and for more."""
    flat = drawn(3, 4, True, 1, 30.0)
    flat[1][:-1] = flat[1][:-1, :1]
    two = drawn(2, 4, True, 0)
    flat_two = two[1].copy()
    flat_two[:-1] = flat_two[:-1, :1]
    sums = drawn(3, 5, True, 0)
    sums[2][-1] = [7.3, -3.0, -4.3]
    sums[2][:-1] += 40.0 * balanced(sums[1])[:-1]
    silent = drawn(4, 6, True, 1, 0.01)
    silent[2][-1] = 0.0
    wants = [
        drawn(3, 5, False, 0, 0.01),  # rank
        drawn(4, 6, True, 1, 0.01),
        silent,
        opposed(3, 4, False, 2, 5.0),  # direction
        opposed(4, 5, True, 3, 5.0),
        sums,  # residuals
        flat,  # constant predictor
        (*two[:1], flat_two, two[2]),
        (*drawn(3, 4, True, 0)[:2], np.zeros((5, 3))),  # zero
        opposed(2, 4, False, 4, 5.0),  # logistic arguments
        opposed(2, 4, True, 5, 5.0),
        two,
        (gc.Softmax(2), np.array([[1.0, 2.0]]), np.array([[-3.0, 3.0]])),
    ]
    return [(loss, t, h, gc.realize_gradient(loss, t, h).proof) for loss, t, h in wants]


PROOFS = proofs()


def test_every_argument_is_exercised() -> None:
    more = {bound.argument for loss, *_, bound in PROOFS if loss.n_classes > 2}
    assert more == {"rank", "residuals", "direction", "constant predictor", "zero"}
    two = {bound.argument for loss, *_, bound in PROOFS if loss.n_classes == 2}
    assert two >= {"direction", "counting", "nonzero"}


@pytest.mark.parametrize("number", range(len(PROOFS)))
def test_genuine_proofs_pass_and_exaggerations_do_not(number: int) -> None:
    loss, theta, h, bound = PROOFS[number]
    assert not rejected(loss, theta, h, bound)
    for more in (1, 2, 10, 10**6):
        assert rejected(loss, theta, h, dataclasses.replace(bound, value=bound.value + more))
    assert rejected(loss, theta, h, dataclasses.replace(bound, argument="trust me"))
    for argument in ("single point", "silent point", "nonzero", "zero"):
        claim = dataclasses.replace(bound, value=bound.value + 1, argument=argument)
        if claim.value > {"silent point": 2, "single point": 2, "nonzero": 1}.get(argument, 0):
            assert rejected(loss, theta, h, claim)


@pytest.mark.parametrize("number", range(len(PROOFS)))
def test_no_argument_proves_what_another_one_is_needed_for(number: int) -> None:
    """A number that is too large, with the argument of any other proof."""
    loss, theta, h, _ = PROOFS[number]
    known = gc.realize_gradient(loss, theta, h).n_points
    for *_, other in PROOFS:
        swapped = dataclasses.replace(other, value=known + 1)
        assert rejected(loss, theta, h, swapped), swapped


def test_a_direction_proves_only_its_own_gradient() -> None:
    for loss, theta, h, bound in PROOFS:
        if bound.argument != "direction":
            continue
        assert bound.value > 2
        v = np.asarray(bound.direction)
        assert v.shape == theta.shape
        turned = [theta, np.zeros_like(v), v[:-1], v[:, 1], v + 1e-9 * h, np.roll(v, 1, axis=1)]
        for direction in (None, *turned):
            assert rejected(loss, theta, h, dataclasses.replace(bound, direction=direction))
        for support in (bound.support * 0.9, 0.0, -bound.support, math.inf, math.nan):
            assert rejected(loss, theta, h, dataclasses.replace(bound, support=support))
        # A part of the direction that is allowed, with the support of the old one.
        if loss.intercept and loss.n_classes > 2:
            shifted = v.copy()
            shifted[-1] += [1.0, *[0.0] * (loss.n_classes - 1)]
            assert rejected(loss, theta, h, dataclasses.replace(bound, direction=shifted))
        assert rejected(loss, theta, -h, bound)
        assert rejected(loss, -theta, h, bound)
        # The same number from a direction with the support that it has: less of h, so not enough.
        assert rejected(loss, theta, 0.5 * h, bound)


@pytest.mark.parametrize("number", range(len(PROOFS)))
def test_a_proof_is_about_its_loss(number: int) -> None:
    loss, theta, h, bound = PROOFS[number]
    others = [gc.LeastSquares(), gc.Logistic(), gc.Logistic(True), gc.Poisson(), gc.Poisson(True)]
    if bound.value > 2 and bound.argument != "residuals":  # which is one of logistic regression too
        for other in others:
            assert rejected(other, theta[:, 0], h[:, 0], bound)
    with pytest.raises(gc.InvalidInputError, match="shape"):
        gc.check_lower_bound(gc.Softmax(loss.n_classes + 1), theta, h, bound)
    with pytest.raises(gc.InvalidInputError, match="shape"):
        gc.check_lower_bound(gc.Logistic(), theta, h, bound)
    # With or without an intercept: what sums of residuals prove, they prove with one only.
    if loss.intercept and bound.argument in {"residuals", "constant predictor", "counting"}:
        assert rejected(gc.Softmax(loss.n_classes), theta, h, bound)


def test_nothing_is_needed_for_the_zero_gradient() -> None:
    """No argument may prove that a zero gradient takes points."""
    for *_, bound in PROOFS:
        for intercept in (False, True):
            for n in (2, 3):
                loss, theta, h = drawn(n, 4, intercept, 0)
                for value in (1, 2, 3):
                    claim = dataclasses.replace(bound, value=value)
                    assert rejected(loss, theta, 0.0 * h, claim), (loss, claim)


@pytest.mark.parametrize(
    "argument", sorted({bound.argument for *_, bound in PROOFS} | {"silent point"})
)
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("intercept", [False, True])
def test_arguments_that_do_not_fit_are_refused_not_crashed_into(
    argument: str, n: int, intercept: bool
) -> None:
    loss, theta, h = drawn(n, 1, intercept, 0, 0.1)
    for multipliers in ((), (-0.5, 0.5), (0.1, 0.2, 0.3)):
        for direction in (None, -theta, -theta[:, 0]):
            claim = gc.LowerBound(10**4, argument, direction, math.inf, multipliers, 1)
            assert rejected(loss, theta, h, claim)


@given(st.integers(3, 5), st.booleans(), cases.powers(0.1, 30.0), st.integers(1, 60), SEEDS)
@settings(max_examples=15)
def test_no_direction_proves_more_than_is_true(
    n: int, intercept: bool, size: float, value: int, seed: int
) -> None:
    """Whatever the multiplier: a proof that is accepted never exceeds the number of points found."""
    loss, theta, h = drawn(n, n, intercept, seed, size)
    v, tau = -theta, np.zeros(n)
    if intercept:
        tau = 2.0 * np.random.default_rng(seed).normal(size=n)
        v[-1] = tau - theta[-1]
        tau = v[-1] + theta[-1]
    most = max(
        float(
            mpmath.lambertw(
                mpmath.fsum(mpmath.exp(t - tau[y]) for t in np.delete(tau, y)) / mpmath.e
            )
        )
        for y in range(n)
    )
    bound = gc.LowerBound(value, "direction", v, most)
    if not rejected(loss, theta, h, bound):
        assert value <= check(loss, theta, h).n_points


@pytest.mark.parametrize("number", range(len(PROOFS)))
def test_proofs_round_trip_as_text(number: int) -> None:
    loss, theta, h, bound = PROOFS[number]
    again = gc.LowerBound.from_json(bound.to_json())
    gc.check_lower_bound(loss, theta, h, again)
    for field in dataclasses.fields(bound):
        a, b = getattr(bound, field.name), getattr(again, field.name)
        if field.name == "direction" and a is not None:
            assert b.shape == a.shape == theta.shape
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
    assert again.to_json() == bound.to_json()


# -- fewer points than the bound: a search finds none ------------------------------------------------


def closest(
    loss: gc.Softmax,
    theta: np.ndarray,
    h: np.ndarray,
    k: int,
    tries: int,
    near: gc.Dataset | None = None,
) -> float:
    """The least |sum of gradients - h| / |h| over k points, inputs and label distributions.

    From random starts, every other one with labels that are distributions, or near a dataset.
    """
    rng, d, n = np.random.default_rng(k), len(theta) - loss.intercept, loss.n_classes
    best = math.inf
    for attempt in range(tries):
        classes = np.eye(n)[rng.integers(n, size=k)]
        start = rng.normal(size=k * d) * rng.choice([0.3, 1.0, 5.0])
        if near is not None:
            classes = np.eye(n)[np.repeat(near.y.astype(int), near.counts)]
            start = (np.repeat(near.x, near.counts, axis=0) * (1.0 + 0.03 * rng.normal())).ravel()
        soft = near is None and attempt % 2 == 1

        def off(v: np.ndarray, soft: bool = soft, classes: np.ndarray = classes) -> np.ndarray:
            y = softmax(v[k * d :].reshape(k, n), axis=1) if soft else classes
            x = v[: k * d].reshape(k, d)
            w = loss.residual(loss.predictor(x, theta), y)
            return (loss.pullback(x, w) - h).ravel() / np.linalg.norm(h)

        if soft:
            start = np.append(start, (3.0 * classes + rng.normal(size=(k, n))).ravel())
        found = least_squares(off, start, max_nfev=60, xtol=1e-12, ftol=1e-12, gtol=1e-12)
        best = min(best, math.sqrt(2.0 * float(found.cost)))
    return best


def check_search(intercept: bool, seed: int, tries: int) -> None:
    loss, theta, h = opposed(3, 2, intercept, seed, 0.4)
    found = check(loss, theta, h)
    assert found.proof.argument == "direction"
    assert closest(loss, theta, h, found.lower_bound - 1, tries) > 1e-6
    # Negative control: the search succeeds where there is something to find.
    assert closest(loss, theta, h, found.n_points, 5, found.dataset) < 1e-6


@pytest.mark.parametrize("intercept", [False, True])
def test_a_search_with_fewer_points_than_the_bound_fails(intercept: bool) -> None:
    check_search(intercept, 1, 10)


@pytest.mark.slow
@pytest.mark.parametrize(("intercept", "seed"), [(False, 1), (False, 2), (True, 0), (True, 1)])
def test_a_long_search_with_fewer_points_fails(intercept: bool, seed: int) -> None:
    check_search(intercept, seed, 50)


# -- what does not fit -------------------------------------------------------------------------------


def test_rows_that_do_not_sum_to_zero_are_named() -> None:
    loss, theta, h = drawn(3, 4, True, 0)
    h[2] = [1.0, 2.0, -2.5]
    with pytest.raises(gc.InvalidInputError, match=r"row 2 .*\[1.0, 2.0, -2.5\], sums to 0.5"):
        gc.realize_gradient(loss, theta, h)
    with pytest.raises(gc.InvalidInputError, match="features"):  # classes and features swapped
        gc.realize_gradient(gc.Softmax(3), theta[:3], h[:3].T)
    h = balanced(h)
    h[1, 0] += 1e-15  # a rounding is none
    check(loss, theta, h)


@pytest.mark.parametrize(
    ("loss", "theta", "h", "message"),
    [
        (gc.Softmax(3), np.ones((2, 4)), np.zeros((2, 4)), "shape (2, 4)"),
        (gc.Softmax(3), np.ones((3, 2)), np.zeros((3, 2)), "columns 3 classes"),
        (gc.Softmax(3), np.ones(3), np.zeros(3), "shape (3,)"),
        (gc.Softmax(3), 1.0, 1.0, "shape ()"),
        (gc.Softmax(3), np.ones((0, 3)), np.ones((0, 3)), "shape (0, 3)"),
        (gc.Softmax(3, True), np.ones((1, 3)), np.zeros((1, 3)), "shape (1, 3)"),
        (gc.Softmax(3), np.ones((2, 3)), np.zeros((3, 3)), "shape of theta, (2, 3); got (3, 3)"),
        (gc.Softmax(2), [[math.nan, 1.0]], [[1.0, -1.0]], "theta must be finite"),
        (gc.Softmax(2), [[1.0, 1.0]], [[math.inf, -1.0]], "gradient must be finite"),
        (gc.Softmax(2), [[1e200, 1.0]], [[1.0, -1.0]], "entries of theta"),
        (gc.Softmax(2), [["one", 1.0]], [[1.0, -1.0]], "theta"),
    ],
)
def test_bad_input_is_refused(loss: gc.Softmax, theta: Any, h: Any, message: str) -> None:
    with pytest.raises(gc.InvalidInputError, match=re.escape(message)):
        gc.realize_gradient(loss, theta, h)


@pytest.mark.parametrize("n", [1, 0, -3, 2.0, True, None, "3"])
def test_there_are_at_least_two_classes(n: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="n_classes must be an integer from 2"):
        gc.Softmax(n)


@pytest.mark.parametrize("extra", [-1, 1.0, True, None])
def test_extra_is_a_number_of_points(extra: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="extra"):
        gc.realize_gradient(*drawn(3, 4, False, 0), extra=extra)


def test_labels_that_are_none() -> None:
    loss, x = gc.Softmax(3), np.eye(2)

    def problem(y: Any) -> gc.Problem:
        return gc.Problem(loss, gc.SquaredL2(1.0), [gc.Dataset(x, y)], 0.1)

    problem([0.0, 2.0])
    problem([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    with pytest.raises(gc.InvalidInputError, match=r"row 1, \[0.5, 0.25, 0.0\], sums to 0.75"):
        problem([[0.5, 0.5, 0.0], [0.5, 0.25, 0.0]])
    with pytest.raises(gc.InvalidInputError, match=r"row 0, \[1.5, -0.5, 0.0\], sums to 1"):
        problem([[1.5, -0.5, 0.0], [1.0, 0.0, 0.0]])
    with pytest.raises(gc.InvalidInputError, match="rows of that length"):
        problem([[0.5, 0.5], [1.0, 0.0]])
    for y in ([0.0, 3.0], [-1.0, 0.0], [0.5, 1.0]):
        with pytest.raises(gc.InvalidInputError, match="classes 0"):
            problem(y)


def test_more_points_than_can_be_counted() -> None:
    loss, theta, _ = drawn(3, 4, False, 0)
    theta = balanced(theta)
    with pytest.raises(gc.UnrealizableGradientError, match="more points are needed than the 2"):
        gc.realize_gradient(loss, theta, -1e17 * theta)
