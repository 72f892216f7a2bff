"""Points of a bounded domain: the fewest, with their proof, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

import gplconvex as gc
from gplconvex.realization.lower_bound import BOUNDED
from tests import oracles_realization as oracle
from tests import strategies as cases
from tests.bounded_cases import (
    CATEGORIES,
    INFINITE,
    LOGISTIC,
    LOSSES,
    POISSON,
    SQUARES,
    WITH_INTERCEPT,
    check,
    inside,
    made,
)

UNBOUNDED = gc.Unbounded()


def refusal(call: Callable[[], Any], kind: type[gc.GplConvexError]) -> Any:
    """The error of a kind that a call raises, if it does."""
    try:
        call()
    except kind as error:
        return error
    return None


def rejected(
    loss: gc.Loss, theta: Any, h: Any, bound: gc.LowerBound, domain: gc.Domain = UNBOUNDED
) -> bool:
    """Whether a proof is refused, and for a reason."""
    failure = refusal(
        lambda: gc.check_lower_bound(loss, theta, h, bound, domain), gc.CertificateError
    )
    if failure is None:
        return False
    assert failure.checks
    assert "does not prove" in str(failure)
    return True


# -- the points, and the bound -----------------------------------------------------------------------


REFUSAL = "no way to share"
"""What is said where points exist but were not found: never claimed to be impossible."""


def realized(loss: gc.Loss, instance: tuple[np.ndarray, np.ndarray, gc.Domain, int]) -> None:
    """What must hold for a gradient that m points of the domain have."""
    theta, h, domain, m = instance
    found = None

    def attempt() -> None:
        nonlocal found
        found = check(loss, theta, h, domain)

    failure = refusal(attempt, gc.UnrealizableGradientError)
    if found is None:
        assert REFUSAL in str(failure)
        bound = gc.prove_lower_bound(loss, theta, h, domain)
        gc.check_lower_bound(loss, theta, h, bound, domain)
        assert bound.value <= m
        return
    assert found.lower_bound <= m
    if isinstance(loss, gc.Logistic) or domain.labels is not None:
        assert found.lower_bound >= gc.gauge(loss, theta, h, domain).value - 1e-6


@pytest.mark.parametrize("loss", WITH_INTERCEPT, ids=repr)
@given(data=st.data())
@settings(max_examples=5)
def test_gradients_of_points_of_the_domain(loss: gc.Loss, data: st.DataObject) -> None:
    realized(loss, data.draw(cases.bounded_instances(loss, ("box", "ball", "product"))))


@pytest.mark.parametrize("loss", WITH_INTERCEPT, ids=repr)
@given(data=st.data())
@settings(max_examples=5)
def test_gradients_of_points_of_domains_that_are_odd(loss: gc.Loss, data: st.DataObject) -> None:
    realized(loss, data.draw(cases.bounded_instances(loss, (*INFINITE, *CATEGORIES, "integer"))))


@pytest.mark.parametrize("loss", LOSSES[3:], ids=repr)
def test_gradients_of_points_without_intercept(loss: gc.Loss) -> None:
    realized(loss, (*made(loss, "box", seed=0, m=3), 3))


@pytest.mark.parametrize("extra", [1, 3, 20])
@pytest.mark.parametrize("kind", ["box", "ball", "nonnegative"])
@pytest.mark.parametrize("loss", WITH_INTERCEPT, ids=repr)
def test_exactly_so_many_more(loss: gc.Loss, kind: str, extra: int) -> None:
    theta, h, domain = made(loss, kind, seed=1)
    found = check(loss, theta, h, domain, extra=extra)
    assert found.n_points == found.lower_bound + extra
    assert not found.note


def test_exact_fractions_are_the_best_that_whole_points_can_do() -> None:
    """h = n times the gradient of a vertex that is the dearest in its direction: n points, no fewer."""
    box = gc.Box(0.0, 1.0)
    theta = np.array([1.0, -1.0, 0.2])
    vertex = np.array([[1.0, 0.0]])
    single = oracle.gradients(LOGISTIC, theta, vertex, -1.0)[0]
    for n in (1, 2, 7, 1000):
        found = check(LOGISTIC, theta, n * single, box)
        assert found.n_points == n
        assert gc.gauge(LOGISTIC, theta, n * single, box).value == pytest.approx(n, rel=1e-9)


# -- against exhaustive search -----------------------------------------------------------------------


def atoms(
    loss: gc.Loss, theta: np.ndarray, domain: gc.Domain, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Gradients, inputs and labels of a fine grid of points, and how far other points are from it."""
    n_features = len(theta) - loss.intercept
    x = oracle.hull_grid(domain, n_features, steps)
    rng = np.random.default_rng(0)
    others = cases.inputs(domain, n_features, 4000, rng)
    others = oracle.into_hull(domain, others * rng.uniform(size=(4000, 1)))
    if isinstance(loss, gc.LeastSquares):
        labels = np.linspace(*domain.labels, steps)
        drawn = rng.uniform(*domain.labels, size=4000)
    else:
        labels = np.array([-1.0, 1.0] if isinstance(loss, gc.Logistic) else [0, 1, 2, 3, 4])
        drawn = rng.choice(labels, size=4000)
    inputs, y = np.repeat(x, len(labels), axis=0), np.tile(labels, len(x))
    grid = oracle.gradients(loss, theta, inputs, y)
    missed = oracle.gradients(loss, theta, others, drawn)
    return grid, inputs, y, 1.5 * oracle.farthest_from(grid, missed)


@cache
def tight(loss: gc.Loss, kind: str, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, gc.Domain]:
    """A model and a gradient a good bit beyond what k - 1 points can do."""
    theta, h, domain = made(loss, kind, seed)
    value = gc.gauge(loss, theta, h, domain).value
    return theta, h * ((k - 0.45) / value), domain


TIGHT = [
    (LOGISTIC, "box in one dimension", 2),
    (LOGISTIC, "box in one dimension", 3),
    (LOGISTIC, "ball in one dimension", 4),
    (LOGISTIC, "ball", 2),
    (LOGISTIC, "box", 3),
    (SQUARES, "box in one dimension", 2),
    (SQUARES, "box in one dimension", 3),
    (SQUARES, "ball in one dimension", 3),
    (POISSON, "box in one dimension", 2),
    (POISSON, "box in one dimension", 3),
    (POISSON, "box", 2),
    (gc.Logistic(), "box", 2),
]


@pytest.mark.parametrize(("loss", "kind", "k"), TIGHT)
def test_fewer_points_than_the_bound_miss_in_exhaustive_search(
    loss: gc.Loss, kind: str, k: int
) -> None:
    theta, h, domain = tight(loss, kind, k, 0)
    bound = gc.prove_lower_bound(loss, theta, h, domain)
    gc.check_lower_bound(loss, theta, h, bound, domain)
    assert bound.value >= k
    steps = {1: 121, 2: 31}[cases.DOMAINS[kind][0]]
    steps = min(steps, 41) if isinstance(loss, gc.LeastSquares) or k > 3 else steps
    grid, _, _, gap = atoms(loss, theta, domain, steps)
    nearest, _ = oracle.nearest_sum(grid, h, k - 1)
    assert nearest > (k - 1) * gap


@pytest.mark.parametrize("kind", ["box in one dimension", "box", "ball"])
@pytest.mark.parametrize("k", [2, 3])
def test_a_search_finds_as_many_points_as_the_bound_and_no_fewer(kind: str, k: int) -> None:
    """The bound is tight: the k points of an exhaustive search, polished, have the gradient."""
    theta, _, domain = made(LOGISTIC, kind, 0)
    n_features = len(theta) - 1
    # k points next to the dearest one, apart from each other.
    v = np.random.default_rng(0).normal(size=len(theta))
    x = oracle.hull_grid(domain, n_features, 41)
    paid = oracle.gradients(LOGISTIC, theta, x, 1.0) @ v
    inner = 0.97 * x[np.argsort(-paid)[:k]]
    h = oracle.gradients(LOGISTIC, theta, inner, 1.0).sum(axis=0)
    found = check(LOGISTIC, theta, h, domain)
    assert found.n_points == found.lower_bound == k
    grid, inputs, y, gap = atoms(LOGISTIC, theta, domain, 121 if n_features == 1 else 31)
    fewer, _ = oracle.nearest_sum(grid, h, k - 1)
    assert fewer > (k - 1) * gap
    if n_features > 1 and k > 2:
        return
    near, rows = oracle.nearest_sum(grid, h, k)
    assert near < k * gap

    def off(flat: np.ndarray) -> np.ndarray:
        return oracle.gradients(LOGISTIC, theta, flat.reshape(k, -1), y[rows]).sum(axis=0) - h

    # In one dimension two inputs meet two equations: start next to the row that is there.
    reached = least_squares(off, inputs[rows].ravel(), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert np.linalg.norm(reached.fun) < 1e-6
    moved = reached.x.reshape(k, -1)
    np.testing.assert_allclose(moved, oracle.into_hull(domain, moved), atol=0.05)


# -- forged proofs -----------------------------------------------------------------------------------


Proof = tuple[gc.Loss, np.ndarray, np.ndarray, gc.Domain, gc.LowerBound]


@cache
def proofs() -> list[Proof]:
    """Proofs with one direction and with two, of every loss and some domains."""
    kept: dict[tuple[str, str, int], Proof] = {}
    for loss in WITH_INTERCEPT:
        for kind in ("box", "ball"):
            for seed in range(3):
                theta, h, domain = made(loss, kind, seed, m=6)
                bound = gc.prove_lower_bound(loss, theta, 3.0 * h, domain)
                if bound.argument == BOUNDED and bound.value > 2:
                    rows = len(np.atleast_2d(bound.direction))
                    kept.setdefault((loss.name, kind, rows), (loss, theta, 3.0 * h, domain, bound))
    return list(kept.values())


def test_both_forms_of_the_argument_occur() -> None:
    found = {(loss.name, len(np.atleast_2d(bound.direction))) for loss, *_, bound in proofs()}
    assert found >= {(loss.name, rows) for loss in WITH_INTERCEPT for rows in (1, 2)}


def test_genuine_proofs_pass_and_survive_json() -> None:
    for loss, theta, h, domain, bound in proofs():
        assert not rejected(loss, theta, h, bound, domain)
        again = gc.LowerBound.from_json(bound.to_json())
        assert np.array_equal(again.direction, bound.direction)
        assert (again.value, again.split, again.argument) == (bound.value, bound.split, BOUNDED)
        assert not rejected(loss, theta, h, again, domain)


def test_forged_fields_are_rejected() -> None:
    for loss, theta, h, domain, bound in proofs():

        def forged(
            bound: gc.LowerBound = bound,
            theta: np.ndarray = theta,
            h: np.ndarray = h,
            loss: gc.Loss = loss,
            domain: gc.Domain = domain,
            **fields: Any,
        ) -> bool:
            return rejected(loss, theta, h, dataclasses.replace(bound, **fields), domain)

        v = np.asarray(bound.direction)
        assert not forged()
        for more in (1, 2, 10, 10**6):
            assert forged(value=bound.value + more)
            assert forged(value=bound.value + more, split=bound.value + more - 1)
        for value in (0, 1, -3):  # true, but nothing is left to prove
            assert forged(value=value)
        for value in (float(bound.value), True, None, str(bound.value)):
            wrong = dataclasses.replace(bound, value=value)
            with pytest.raises(gc.CertificateError, match="integers"):
                gc.check_lower_bound(loss, theta, h, wrong, domain)
        for argument in ("", "trust me", "zero", "nonzero", "residuals", "direction", "counting"):
            assert forged(argument=argument) or (
                argument == "residuals" and bound.value <= abs(h[-1]) + 1.0
            )
        for direction in (
            *(None, -v, np.zeros_like(v), np.roll(v, 1, axis=-1), v[..., :-1]),
            *(np.stack([v[-1:]] * 3), np.full_like(v, np.nan), np.full_like(v, np.inf)),
            np.append(v, 0.0),
        ):
            assert forged(direction=direction), direction
        # What the argument does not use cannot make it prove more.
        assert forged(value=bound.value + 1, support=0.0)
        assert forged(value=bound.value + 1, multipliers=(1.0, -1.0))
        assert forged(theta=-theta)
        assert forged(h=-h)
        assert forged(h=0.5 * h)
        if len(np.atleast_2d(v)) == 1:
            for split in (-1, 0, bound.value - 2):
                assert forged(split=split)
            return
        assert forged(direction=v[::-1])
        for row in v:  # neither does alone
            assert forged(direction=row, split=bound.value - 1)
            assert forged(direction=np.stack([row, row]))
        for split in (-1, bound.value - 1):
            assert forged(split=split)


def test_a_proof_holds_in_smaller_domains_and_no_others() -> None:
    loss, rng = LOGISTIC, np.random.default_rng(4)
    theta, h = rng.normal(size=3), 8.0 * rng.normal(size=3)
    bounds = {r: gc.prove_lower_bound(loss, theta, h, gc.Box(-r, r)) for r in (0.3, 1.0, 3.0)}
    assert bounds[0.3].value > bounds[1.0].value > bounds[3.0].value > 1
    for r, bound in bounds.items():
        for smaller in (gc.Box(-r, r), gc.Ball(r), gc.Box([0.0, -r], r), gc.Box(-0.5 * r, 0.1 * r)):
            assert not rejected(loss, theta, h, bound, smaller)
        for larger in (
            *(gc.Box(-4.0 * r, 4.0 * r), gc.Ball(9.0 * r), gc.NonNegative()),
            *(gc.Unbounded(), gc.Box(-math.inf, r)),
        ):
            assert rejected(loss, theta, h, bound, larger)
        assert rejected(loss, theta, h, bound)
    # What holds for all inputs holds in a box.
    unbounded = gc.realize_gradient(loss, theta, h).proof
    assert not rejected(loss, theta, h, unbounded, gc.Box(-1.0, 1.0))


def test_a_proof_holds_for_narrower_labels_and_no_others() -> None:
    for loss in (SQUARES, POISSON):
        low, high = cases.domain_labels(loss)
        theta, h, _ = made(loss, "box", 0, m=6)
        bound = gc.prove_lower_bound(loss, theta, 4.0 * h, gc.Box(-2, 2, labels=(low, high)))
        assert bound.value > 2
        for pair, holds in (
            ((low, high), True),
            ((low + 0.5, high - 1.0), True),
            ((low - 9.0, high + 9.0), False),
            (None, False),
        ):
            box = gc.Box(-2, 2, labels=pair)
            assert rejected(loss, theta, 4.0 * h, bound, box) != holds


def test_the_argument_is_for_residuals_of_two_signs() -> None:
    loss = gc.Softmax(3)
    theta = np.ones((2, 3))
    h = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, -2.0]])
    bound = gc.LowerBound(2, BOUNDED, np.ones(6), split=1)
    assert rejected(loss, theta, h, bound, gc.Box(-1.0, 1.0))


@pytest.mark.parametrize("kind", ["box", "ball", "nonnegative", "mixed"])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@given(data=st.data())
@settings(max_examples=10)
def test_no_direction_proves_more_than_is_true(
    loss: gc.Loss, kind: str, data: st.DataObject
) -> None:
    """Whatever the numbers in it: an accepted proof never exceeds the m points that exist."""
    m = data.draw(st.integers(1, 4))
    seed = data.draw(st.integers(0, 2**20))
    theta, h, domain = made(loss, kind, seed, m)
    rng = np.random.default_rng(seed)
    size = data.draw(st.sampled_from([1.0, 1e-8, 1e8, 1e-100, 1e100]))
    rows = data.draw(st.sampled_from([1, 2]))
    v = rng.normal(size=(rows, len(h)))
    base = data.draw(st.sampled_from(["any", "-theta", "h"] + ["gauge"] * loss.intercept))
    near = {"any": 0.0 * h, "-theta": -theta, "h": h / max(np.linalg.norm(h), 1e-300)}
    if base == "gauge":
        near["gauge"] = gc.gauge(loss, theta, h, domain).direction
    v = near[base] + v * (1.0 if base == "any" else data.draw(st.sampled_from([0, 1e-16, 1e-3])))
    value = m + data.draw(st.integers(1, 3))
    claim = gc.LowerBound(value, BOUNDED, v * size, split=data.draw(st.integers(-1, value)))
    with np.errstate(all="ignore"):
        assert rejected(loss, theta, h, claim, domain)


# -- unreachable gradients ---------------------------------------------------------------------------


def separated(
    loss: gc.Loss, theta: np.ndarray, h: np.ndarray, domain: gc.Domain, match: str
) -> None:
    """Both calls refuse, with a direction between h and the gradients of all points."""
    for call in (gc.realize_gradient, gc.gauge, gc.prove_lower_bound):
        with pytest.raises(gc.UnrealizableGradientError, match=match) as caught:
            call(loss, theta, h, domain)
        v = caught.value.direction
        assert v.shape == h.shape
        rng = np.random.default_rng(0)
        x = cases.inputs(domain, len(h) - loss.intercept, 4000, rng)
        y = cases.allowed_labels(loss, domain, 4000, rng)
        slopes = oracle.gradients(loss, theta, x, y)
        along = slopes @ v
        assert np.all(along <= 1e-12 * np.linalg.norm(v) * (1.0 + np.linalg.norm(slopes, axis=1)))
        assert v @ h > 1e-9 * np.linalg.norm(v) * np.linalg.norm(h)


@pytest.mark.parametrize("kind", CATEGORIES)
@pytest.mark.parametrize("loss", WITH_INTERCEPT, ids=repr)
def test_shares_that_do_not_sum_to_the_intercepts_entry(loss: gc.Loss, kind: str) -> None:
    theta, h, domain = made(loss, kind, seed=0)
    check(loss, theta, h, domain)
    for by in (1.0, -1.0, 1e-6):
        wrong = h.copy()
        wrong[-1] += by * np.linalg.norm(h)
        separated(loss, theta, wrong, domain, "categories")


def test_categories_without_intercept_take_any_sum() -> None:
    for loss in LOSSES[3:]:
        for kind in CATEGORIES:
            theta, h, domain = made(loss, kind, seed=0)
            h[-1] += 0.1
            assert gc.gauge(loss, theta, h, domain).value > 0.0


ONE_SIGN = [
    (SQUARES, (20.0, 21.0), -1.0),
    (SQUARES, (-31.0, -29.0), 1.0),
    (POISSON, (900.0, 1000.0), -1.0),
]


@pytest.mark.parametrize("kind", ["box", "ball", "product", "nonnegative", "mixed"])
@pytest.mark.parametrize(("loss", "bounds", "sign"), ONE_SIGN)
def test_labels_so_far_off_that_residuals_have_one_sign(
    loss: gc.Loss, bounds: tuple[float, float], sign: float, kind: str
) -> None:
    theta, h, domain = made(loss, kind, seed=0, bounds=bounds)
    if kind == "nonnegative":
        theta[:-1] = -sign * np.abs(theta[:-1]) * (-1.0 if sign < 0.0 else 1.0)
        theta[:-1] = -np.abs(theta[:-1]) if sign < 0.0 else np.abs(theta[:-1])
        x = np.ones((4, 2))
        y = np.full(4, bounds[0])
        h = loss.pullback(x, loss.residual(loss.predictor(x, theta), y))
    assert np.sign(h[-1]) == sign
    bound = gc.prove_lower_bound(loss, theta, h, domain)
    gc.check_lower_bound(loss, theta, h, bound, domain)
    assert bound.value <= 4
    if loss == SQUARES:
        check(loss, theta, h, domain)
    separated(loss, theta, -h, domain, "one sign|above 0|below 0")
    if kind == "mixed":
        return
    apart = h.copy()
    apart[0] -= 100.0 * abs(h[-1]) * sign
    separated(loss, theta, apart, domain, "widen the labels or the domain")


def test_one_sign_without_intercept_says_that_it_has_no_construction() -> None:
    box = gc.Box(-1.0, 1.0, labels=(20.0, 21.0))
    for call in (gc.realize_gradient, gc.gauge, gc.prove_lower_bound):
        with pytest.raises(gc.UnsupportedCombinationError, match="widen the labels"):
            call(gc.LeastSquares(), [1.0, 1.0], [1.0, 2.0], box)


# -- whole numbers and categories --------------------------------------------------------------------


DISCRETE = [
    (loss, kind)
    for loss in WITH_INTERCEPT
    for kind in ("integer", *CATEGORIES)
    if (loss, kind) != (LOGISTIC, "categories")  # categories alone leave predictors no room
]


@pytest.mark.parametrize(("loss", "kind"), DISCRETE)
def test_rounded_points_miss_by_what_is_said(loss: gc.Loss, kind: str) -> None:
    for seed in range(2):
        theta, h, domain = made(loss, kind, seed, m=6)
        h *= 4.0
        found = check(loss, theta, h, domain)
        assert found.lower_bound <= 24
        assert found.residual < 0.5
        if found.residual > 1e-12:
            assert f"{found.residual:.2g}" in found.note


def learned(
    loss: gc.Loss, kind: str, regularizer: gc.Regularizer, nu: float, seed: int = 0
) -> tuple[gc.Problem, np.ndarray]:
    """Honest users in a domain, and a target: what they learn from other labels."""
    n_features, make = cases.DOMAINS[kind]
    domain, rng = make(labels=cases.domain_labels(loss)), np.random.default_rng(seed)
    data = []
    for _ in range(2):
        x = cases.inputs(domain, n_features, 30, rng)
        y, other = (cases.allowed_labels(loss, domain, 30, rng) for _ in range(2))
        data.append((gc.Dataset(x, y), gc.Dataset(x, other)))
    honest = gc.Problem(loss, regularizer, [first for first, _ in data], nu=nu)
    aimed = gc.Problem(loss, regularizer, [second for _, second in data], nu=nu)
    return honest, gc.solve(aimed).require_optimal().rho


@pytest.mark.parametrize("regularizer", [gc.HardConsensus(), gc.SquaredL2(2.0)], ids=repr)
@pytest.mark.parametrize(("loss", "kind"), DISCRETE)
def test_attack_of_rounded_points_says_how_far_it_ends(
    loss: gc.Loss, regularizer: gc.Regularizer, kind: str
) -> None:
    honest, target = learned(loss, kind, regularizer, nu=2.0)
    domain = cases.DOMAINS[kind][1](labels=cases.domain_labels(loss))
    attack = gc.poison(honest, target, domain=domain)
    assert attack.lower_bound <= attack.n_points
    assert inside(domain, attack.dataset.x)
    gc.check_lower_bound(loss, attack.theta, attack.data_gradient, attack.proof, domain)
    assert math.isfinite(attack.certificate.distance)
    attack.require(1e9)
    solution = gc.solve(attack.poisoned)
    off = np.linalg.norm(solution.rho - target)
    assert off <= attack.certificate.distance + solution.certificate.distance
    # Negative control: the attack does pull, and what is claimed is no triviality.
    before = np.linalg.norm(gc.solve(honest).rho - target)
    assert off < 0.5 * before


# -- end to end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["box", "ball", "product"])
@pytest.mark.parametrize("regularizer", [gc.HardConsensus(), gc.SquaredL2(2.0)], ids=repr)
@pytest.mark.parametrize("loss", WITH_INTERCEPT, ids=repr)
def test_attacks_land_on_their_target(
    loss: gc.Loss, regularizer: gc.Regularizer, kind: str
) -> None:
    honest, target = learned(loss, kind, regularizer, nu=2.0)
    domain = cases.DOMAINS[kind][1](labels=cases.domain_labels(loss))
    attack = gc.poison(honest, target, domain=domain)
    assert attack.residual <= 1e-12
    assert inside(domain, attack.dataset.x)
    assert domain.allows(attack.dataset).all()
    assert attack.lower_bound <= attack.n_points
    attack.require(1e-9)
    solution = gc.solve(attack.poisoned)
    np.testing.assert_allclose(solution.rho, target, atol=1e-8)
    assert np.linalg.norm(gc.solve(honest).rho - target) > 1e-3


def test_target_needs_and_gets_the_same_number() -> None:
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
    assert rejected(loss, attack.theta, attack.data_gradient, forged, box)
    turned = dataclasses.replace(attack.proof, direction=-np.asarray(attack.proof.direction))
    assert rejected(loss, attack.theta, attack.data_gradient, turned, box)
    assert rejected(loss, attack.theta, attack.data_gradient, attack.proof)
    for change in (
        {"proof": forged},
        {"proof": forged, "lower_bound": forged.value},
        {"proof": turned},
        {"domain": gc.Unbounded()},
        {"domain": gc.Box(0.0, 0.5)},
    ):
        with pytest.raises(gc.CertificateError):
            dataclasses.replace(attack, **change).require(1e-9)
    wider = gc.poison(honest, target, nu=0.0, domain=gc.Box(-1.0, 2.0))
    assert wider.lower_bound <= attack.lower_bound


def test_a_target_that_categories_cannot_reach_is_refused() -> None:
    honest, target = learned(LOGISTIC, "categories", gc.HardConsensus(), nu=2.0)
    target = target + np.array([0.0, 0.0, 0.0, 1.0])
    with pytest.raises(gc.UnrealizableGradientError, match="sum to its intercept's") as caught:
        gc.poison(honest, target, domain=gc.OneHot())
    assert np.array_equal(np.abs(caught.value.direction), np.ones(4))


# -- what does not fit -------------------------------------------------------------------------------


BOX = gc.Box(0.0, 1.0)


@pytest.mark.parametrize(
    ("loss", "n", "domain", "error", "match"),
    [
        (LOGISTIC, 3, "box", gc.InvalidInputError, "domain must be"),
        (LOGISTIC, 3, gc.Box([0.0] * 3, 1.0), gc.InvalidInputError, "bounds for 3 features"),
        (LOGISTIC, 3, gc.Product([(1, BOX)]), gc.InvalidInputError, "have 1 features"),
        (LOGISTIC, 3, gc.Box(0, 1, labels=(0, 1)), gc.UnsupportedCombinationError, "classes"),
        (POISSON, 3, gc.Box(0, 1, labels=(0.1, 0.9)), gc.InvalidInputError, "two counts"),
        (POISSON, 3, gc.Box(0, 1, labels=(-5.0, -1.0)), gc.InvalidInputError, "two counts"),
        (POISSON, 3, gc.Box(0, 1, labels=(1.0, 1.9)), gc.InvalidInputError, "two counts"),
    ],
)
def test_domains_that_do_not_fit(
    loss: gc.Loss, n: int, domain: Any, error: type[Exception], match: str
) -> None:
    for call in (gc.realize_gradient, gc.gauge, gc.prove_lower_bound):
        with pytest.raises(error, match=match):
            call(loss, np.ones(n), np.ones(n), domain)


def test_losses_without_a_gauge_say_so() -> None:
    zero = np.array([[1.0, -1.0], [0.0, 0.0]])
    for call in (gc.gauge, gc.prove_lower_bound):
        with pytest.raises(gc.UnsupportedCombinationError, match="LeastSquares, Logistic"):
            call(gc.Softmax(2), zero, zero, BOX)


@pytest.mark.parametrize("extra", [-1, 1.5, True, "2"])
def test_extra_is_a_number_of_points(extra: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="extra must be"):
        gc.realize_gradient(LOGISTIC, np.ones(3), np.ones(3), BOX, extra=extra)


# -- regressions -------------------------------------------------------------------------------------


def test_counts_with_residuals_of_one_sign() -> None:
    x, theta = np.array([0.5, 1.0]), np.array([0.5, 0.2])
    h = 4.0 * (math.exp(float(x @ theta)) - 3.0) * x
    box = gc.Box(-1.0, 1.0, labels=(2.0, 4.0))
    assert gc.realize_gradient(gc.Poisson(intercept=True), theta, h, box).n_points <= 4


def test_points_in_a_narrow_box_are_found() -> None:
    """All residuals are nearly the same, so that only some numbers of each label sum to h0."""
    box = gc.Box(-1.93797777, -1.16088406)
    theta, h = [0.67317816, -0.50107977], [6.18377067, -3.66142983]
    assert gc.realize_gradient(gc.Logistic(intercept=True), theta, h, box).n_points <= 8


def test_categories_alone() -> None:
    theta = [0.13233736725547313, -0.36592390903652317, -0.2891444803743254, -1.7090271678478988]
    h = [0.0, -1.7768892222018067, 0.11939502092234384, -1.657494201279463]
    found = gc.realize_gradient(gc.Logistic(), theta, h, gc.OneHot())
    assert gc.OneHot().contains(found.dataset.x).all()
    assert found.residual < 0.3
    assert found.note


def test_huge_directions_are_rejected() -> None:
    domain = gc.Product([(1, gc.Integer(-1, 2)), (3, gc.OneHot())])
    forged = gc.LowerBound(2, "bounded inputs", np.full(4, 1e300), split=1)
    with pytest.raises(gc.CertificateError):
        gc.check_lower_bound(gc.Logistic(), np.ones(4), np.ones(4), forged, domain)
