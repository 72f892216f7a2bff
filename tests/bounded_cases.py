"""Losses, domains and gradients for the tests of bounded points."""

from __future__ import annotations

from typing import Any

import numpy as np

import gplconvex as gc
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
