"""The gauge over a domain, against a linear program, and the prices of single points."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.realization.bounded.pricing import supports
from gplconvex.realization.lower_bound import KAPPA
from tests import oracles_realization as oracle
from tests import strategies as cases
from tests.bounded_cases import (
    CATEGORIES,
    COMPACT,
    INFINITE,
    LOSSES,
    POISSON,
    SQUARES,
    WITH_INTERCEPT,
    made,
)

UNBOUNDED = gc.Unbounded()


# -- the gauge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*COMPACT, *CATEGORIES])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gauge_is_the_value_of_a_linear_program_over_a_grid(loss: gc.Loss, kind: str) -> None:
    theta, h, domain = made(loss, kind, seed=0)
    found = gc.gauge(loss, theta, h, domain)
    steps = 7 if kind == "mixed" else 17
    program = oracle.least_weight(loss, theta, h, domain, steps, rounds=9)
    assert found.value * (1.0 - 1e-7) <= program <= found.value * (1.0 + 1e-3) + 1e-6


@pytest.mark.parametrize("kind", INFINITE)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_no_program_over_part_of_an_unbounded_domain_beats_its_gauge(
    loss: gc.Loss, kind: str
) -> None:
    theta, h, domain = made(loss, kind, seed=1)
    program = oracle.least_weight(loss, theta, h, domain, steps=7, far=6.0, rounds=4)
    assert gc.gauge(loss, theta, h, domain).value <= program * (1.0 + 1e-7) + 1e-9


@pytest.mark.parametrize("kind", [*COMPACT, *CATEGORIES, *INFINITE])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gauge_has_points_and_a_direction_that_agree(loss: gc.Loss, kind: str) -> None:
    for seed in range(3):
        theta, h, domain = made(loss, kind, seed)
        found = gc.gauge(loss, theta, h, domain)
        v = found.direction
        scale = 1e-7 * (1.0 + found.value)
        # Attained by its points, which are in the hull, ...
        assert len(found.weights) == len(found.x) == len(found.y) <= 2
        assert np.all(found.weights > 0.0)
        assert found.weights.sum() == pytest.approx(found.value, rel=1e-9)
        x = found.x[found.weights > 1e-6 * found.value]
        np.testing.assert_allclose(x, oracle.into_hull(domain, x), atol=1e-9)
        slopes = oracle.gradients(loss, theta, found.x, found.y)
        if np.all(np.abs(slopes).max(axis=1, initial=0.0) < 1e6):
            reached = found.weights @ slopes
            np.testing.assert_allclose(reached, h, atol=1e-7 * np.linalg.norm(h))
        # ... and proved by its direction, along which no point passes 1.
        assert v @ h == pytest.approx(found.value, abs=scale)
        rng = np.random.default_rng(seed)
        x = cases.inputs(domain, len(h) - loss.intercept, 4000, rng)
        for y in oracle.extreme_labels(loss, domain):
            assert np.max(oracle.gradients(loss, theta, x, y) @ v) <= 1.0 + 1e-7


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@given(data=st.data())
@settings(max_examples=6)
def test_gauge_is_a_norm_of_one_side(loss: gc.Loss, data: st.DataObject) -> None:
    """Homogeneous and subadditive, with the direction for a subgradient."""
    kind = data.draw(st.sampled_from([*COMPACT, *CATEGORIES]))
    seed = data.draw(st.integers(0, 2**20))
    theta, h, domain = made(loss, kind, seed)
    rng = np.random.default_rng(seed + 1)
    x = cases.inputs(domain, len(h) - loss.intercept, 3, rng)
    y = cases.allowed_labels(loss, domain, 3, rng)
    other = loss.pullback(x, loss.residual(loss.predictor(x, theta), y))
    first = gc.gauge(loss, theta, h, domain)
    second = gc.gauge(loss, theta, other, domain)
    both = gc.gauge(loss, theta, h + other, domain)
    slack = 1e-6 * (1.0 + first.value + second.value)
    assert both.value <= first.value + second.value + slack
    assert second.value <= 3.0 + slack  # three points have it
    assert first.direction @ other <= second.value + slack
    assert both.direction @ h <= first.value + slack
    t = data.draw(cases.powers(1e-3, 1e3))
    assert gc.gauge(loss, theta, t * h, domain).value == pytest.approx(
        t * first.value, rel=1e-6, abs=slack * t
    )


def test_zero_takes_nothing() -> None:
    for loss in LOSSES:
        n = 2 + loss.intercept
        box = gc.Box(-1.0, 1.0, labels=cases.domain_labels(loss))
        found = gc.gauge(loss, np.ones(n), np.zeros(n), box)
        assert found.value == 0.0
        assert not found.direction.any()
        assert gc.realize_gradient(loss, np.ones(n), np.zeros(n), box).n_points == 0
        assert gc.prove_lower_bound(loss, np.ones(n), np.zeros(n), box).value == 0


# -- larger domains ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_larger_domain_never_raises_the_gauge(loss: gc.Loss) -> None:
    labels = cases.domain_labels(loss)
    theta, h, _ = made(loss, "box", seed=3)
    nested = [
        domain
        for r in (0.7, 1.5, 3.2)
        for domain in (
            gc.Ball(r, labels=labels),
            gc.Box(-r, r, labels=labels),
            gc.Ball(math.sqrt(2.0) * r * (1.0 + 1e-12), labels=labels),
        )
    ]
    nested += [gc.Box(-math.inf, 50.0, labels=labels), gc.Unbounded(labels=labels)]
    values = [gc.gauge(loss, theta, h, domain).value for domain in nested]
    for smaller, larger in itertools.pairwise(values):
        assert larger <= smaller * (1.0 + 1e-9) + 1e-9
    assert values[-1] < values[0]
    if loss.intercept:
        proved = [
            gc.prove_lower_bound(loss, theta, 3.0 * h, domain).value for domain in nested[::3]
        ]
        assert proved == sorted(proved, reverse=True)


def test_wider_labels_never_raise_the_gauge() -> None:
    for loss in (SQUARES, POISSON):
        theta, h, _ = made(loss, "box", seed=5)
        ends = ((0.0, 3.0), (0.0, 6.0), (-1.0, 6.0), (-1.0, 1e6), None)
        values = [
            gc.gauge(loss, theta, h, gc.Box([-1.0, -0.5], [2.0, 1.0], labels=pair)).value
            for pair in ends
        ]
        for smaller, larger in itertools.pairwise(values):
            assert larger <= smaller * (1.0 + 1e-9)
        assert values[-1] < values[0]


@pytest.mark.parametrize("seed", range(3))
def test_growing_boxes_tend_to_the_unbounded_number(seed: int) -> None:
    """Without bounds, and without intercept, it is -theta.h / kappa (T3.2)."""
    loss, rng = gc.Logistic(), np.random.default_rng(seed)
    theta, h = rng.normal(size=(2, 3))
    h -= theta * (theta @ h + 2.0) / (theta @ theta)
    limit = 2.0 / KAPPA
    values = [gc.gauge(loss, theta, h, gc.Box(-r, r)).value for r in (0.2, 20.0, 200.0, 2e4)]
    off = np.array(values) - limit
    assert np.all(off >= -1e-9 * limit)
    assert np.all(np.diff(values) <= 1e-9 * limit)
    assert off[-1] <= 1e-3 * limit < off[0]
    assert gc.gauge(loss, theta, h, gc.Unbounded()).value == pytest.approx(limit, rel=1e-9)
    assert gc.gauge(loss, theta, h, gc.Ball(2e4)).value == pytest.approx(limit, rel=1e-3)
    assert gc.realize_gradient(loss, theta, h).lower_bound == math.ceil(limit)
    assert gc.gauge(loss, theta, -h, gc.Unbounded()).value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", WITH_INTERCEPT, ids=repr)
def test_growing_boxes_tend_to_the_nonnegative_numbers(loss: gc.Loss) -> None:
    theta, h, domain = made(loss, "nonnegative", seed=2)
    limit = gc.gauge(loss, theta, h, domain).value
    values = [
        gc.gauge(loss, theta, h, gc.Box(0.0, r, labels=domain.labels)).value
        for r in (3.0, 30.0, 3e3, 3e6)
    ]
    assert np.all(np.diff(values) <= 1e-9)
    assert limit * (1.0 - 1e-9) <= values[-1] <= limit * (1.0 + 1e-4) + 1e-6


# -- pricing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*COMPACT, *CATEGORIES])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_no_point_pays_more_than_its_price_and_one_pays_it(loss: gc.Loss, kind: str) -> None:
    for seed in range(2):
        theta, h, domain = made(loss, kind, seed)
        rng = np.random.default_rng(seed)
        v = rng.normal(size=len(h)) * 10.0 ** rng.uniform(-3, 3)
        prices = supports(loss, theta, v, domain)
        x = cases.inputs(domain, len(h) - loss.intercept, 3000, rng)
        y = cases.allowed_labels(loss, domain, 3000, rng)
        w = oracle.residuals(loss, theta, x, y)
        paid = oracle.gradients(loss, theta, x, y) @ v
        for sign, price in zip((1.0, -1.0), prices, strict=True):
            assert np.max(paid[sign * w > 0.0], initial=0.0) <= price
            best = oracle.most_paid(loss, theta, v, domain, sign, 8.0)
            assert best <= price * (1.0 + 1e-12)
            assert best >= price * (1.0 - 1e-3) - 1e-9 * np.linalg.norm(v)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_prices_where_inputs_have_no_bound(loss: gc.Loss) -> None:
    """Along -theta, but for the intercept, it is finite; elsewhere points far out pay any amount."""
    labels = cases.domain_labels(loss)
    theta = np.array([0.8, -0.5, 0.3])[: 2 + loss.intercept]
    domain = gc.Unbounded(labels=labels)
    last = np.eye(len(theta))[-1] * loss.intercept
    for v in (-theta, 0.4 * last - theta):
        for sign, price in zip((1.0, -1.0), supports(loss, theta, v, domain), strict=True):
            best = oracle.most_paid(loss, theta, v, domain, sign, 6.0)
            assert best * (1.0 - 1e-12) <= price <= best * (1.0 + 1e-3) + 1e-9
    v = -theta + np.eye(len(theta))[0] * 1e-9
    assert max(supports(loss, theta, v, domain)) == math.inf
    across = np.array([0.5, 0.8])
    far = np.stack([r * across / 0.89 for r in (1e12, -1e12)])
    paid = [oracle.gradients(loss, theta, far, y) @ v for y in oracle.extreme_labels(loss, domain)]
    assert np.max(paid) > 10.0
    # Of the nonnegative numbers only directions that grow matter.
    for sign, finite in ((-1.0, True), (1.0, False)):
        v = sign * np.ones(len(theta))
        price = supports(LOSSES[0 if loss.intercept else 3], theta, v, gc.NonNegative())[0]
        assert math.isfinite(price) == finite


# -- labels without a bound ---------------------------------------------------------------------------


def test_a_tight_direction_proves_what_the_gauge_says() -> None:
    """Labels without a bound: rounding must not make the direction point at points."""
    theta = np.array([0.34558419, 0.82161814, 0.33043708])
    h = np.array([1.56320543, -0.5042855, 1.63036144])
    assert gc.gauge(gc.Poisson(intercept=True), theta, h, gc.Ball(1.5)).value > 1.0
    assert gc.prove_lower_bound(gc.Poisson(intercept=True), theta, h, gc.Ball(1.5)).value == 2


@pytest.mark.parametrize("labels", [(-1.0, math.inf), (-math.inf, 5.0)])
def test_labels_may_have_one_bound(labels: tuple[float, float]) -> None:
    box = gc.Box(-1.0, 1.0, labels=labels)
    assert gc.gauge(gc.Poisson(intercept=True), [0.5, 0.2], [1.0, 2.0], box).value > 0.0


@pytest.mark.parametrize(("seed", "points"), [(3, 5), (47, 2)])
def test_gauge_where_a_slope_is_next_to_zero(seed: int, points: int) -> None:
    """A sign with hardly any weight has a slope that no quotient by is a number."""
    theta, h, domain = made(gc.Logistic(), "nonnegative", seed, points)
    found = gc.gauge(gc.Logistic(), theta, h, domain)
    assert 0.0 < found.value <= points * (1.0 + 1e-9)
    proof = gc.prove_lower_bound(gc.Logistic(), theta, h, domain)
    gc.check_lower_bound(gc.Logistic(), theta, h, proof, domain)
