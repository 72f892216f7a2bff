"""Losses, domains and gradients for the tests of bounded points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gplconvex as gc
from tests import oracles_realization as oracle
from tests import strategies as cases

LOSSES = tuple(
    kind(intercept=intercept)
    for intercept in (True, False)
    for kind in (gc.Logistic, gc.LeastSquares, gc.Poisson)
)
WITH_INTERCEPT = LOSSES[:3]
LOGISTIC, SQUARES, POISSON = WITH_INTERCEPT
COMPACT = ("box", "box in one dimension", "ball", "ball in one dimension", "product", "integer")
CATEGORIES = ("categories", "mixed")
INFINITE = ("nonnegative", "ball and ray")


def made(
    loss: gc.Loss, kind: str, seed: int, m: int = 4, bounds: Any = "both signs"
) -> tuple[np.ndarray, np.ndarray, gc.Domain]:
    """A model, the gradient of m random points of a domain, and the domain."""
    n_features, make = cases.DOMAINS[kind]
    domain = make(labels=cases.domain_labels(loss) if bounds == "both signs" else bounds)
    rng = np.random.default_rng(seed)
    theta = 0.7 * rng.normal(size=n_features + loss.intercept)
    x = cases.inputs(domain, n_features, m, rng)
    y = cases.allowed_labels(loss, domain, m, rng)
    return theta, loss.pullback(x, loss.residual(loss.predictor(x, theta), y)), domain


def one_class(
    kind: str, seed: int, k: int, label: float
) -> tuple[np.ndarray, np.ndarray, gc.Domain]:
    """A model, the gradient of k points inside a domain that all have one label, and the domain."""
    n_features, make = cases.DOMAINS[kind]
    domain, rng = make(labels=None), np.random.default_rng(seed)
    theta = rng.normal(size=n_features + 1)
    x = cases.inputs(domain, n_features, k, rng) * rng.uniform(0.6, 0.95, size=(k, 1))
    residuals = LOGISTIC.residual(LOGISTIC.predictor(x, theta), np.full(k, label))
    return theta, LOGISTIC.pullback(x, residuals), domain


def inside(domain: gc.Domain, x: np.ndarray) -> bool:
    """Whether all rows are in a domain, by its definition."""
    if isinstance(domain, gc.Product):
        ends = np.cumsum([number for number, _ in domain.parts])[:-1]
        parts = zip(np.split(x, ends, axis=1), domain.parts, strict=True)
        return all(inside(inner, part) for part, (_, inner) in parts)
    if isinstance(domain, gc.Ball):
        return all(math.hypot(*row) <= domain.radius for row in x.tolist())
    if isinstance(domain, gc.OneHot):
        return all(sorted(row) == [0.0] * (len(row) - 1) + [1.0] for row in x.tolist())
    low, high = np.asarray(domain.low), np.asarray(domain.high)
    whole = np.array_equal(x, np.rint(x)) if isinstance(domain, gc.Integer) else True
    return whole and bool(np.all((low <= x) & (x <= high)))


def check(
    loss: gc.Loss, theta: np.ndarray, h: np.ndarray, domain: gc.Domain, extra: int = 0
) -> gc.Realization:
    """Realize a gradient, and check by other means everything that is said of the result."""
    kept = theta.copy(), h.copy()
    found = gc.realize_gradient(loss, theta, h, domain, extra=extra)
    assert np.array_equal(theta, kept[0])
    assert np.array_equal(h, kept[1])
    data = found.dataset
    assert found.n_points == data.n_points == data.counts.sum()
    assert found.lower_bound == found.proof.value
    assert found.n_points >= found.lower_bound + extra
    assert inside(domain, data.x)
    residual = oracle.relative_residual(loss, data, theta, h)
    assert found.residual == pytest.approx(residual, rel=1e-6, abs=1e-15)
    if not domain.discrete:
        assert residual <= 1e-12
        assert bool(found.note) == (found.n_points > found.lower_bound + extra)
    elif residual > 1e-12:
        assert "rounded" in found.note
    if found.n_points:
        loss.check_labels(data)
        low, high = (-math.inf, math.inf) if domain.labels is None else domain.labels
        assert low <= data.y.min() <= data.y.max() <= high
        if isinstance(loss, gc.Poisson):
            assert np.array_equal(data.y, np.rint(data.y))
            assert data.y.min() >= 0.0
        if isinstance(loss, gc.Logistic):
            assert set(data.y) <= {-1.0, 1.0}
    gc.check_lower_bound(loss, theta, h, found.proof, domain)
    return found
