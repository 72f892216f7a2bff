"""Small problems of every kind, with and without an attacker, for the tests of certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import gplconvex as gc
from tests import strategies as cases

LOSSES = cases.LOSSES
SCALES = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
REGULARIZERS = {
    "squared-l2": gc.SquaredL2(0.7),
    "squared-l2 weak": gc.SquaredL2(0.01),
    "l2, all users share rho": gc.L2(50.0),
    "l2, all users free": gc.L2(0.3),
    "smooth-l2": gc.SmoothL2(2.0, 0.5),
    "smooth-l2 weak": gc.SmoothL2(0.3),
    "hard-consensus": gc.HardConsensus(),
}
RIDGES = {
    "one nu": 0.1,
    "a nu each": (0.05, 0.5, 2.0),
    "one user without strong convexity": (0.1, 0.0, 0.3),
}


def tiny(
    loss: gc.Loss,
    regularizer: gc.Regularizer,
    nu: Any,
    seed: int,
    rows: tuple[int, ...] = (4, 2, 3),
) -> gc.Problem:
    """Three users of a two-dimensional model; the second cannot be strongly convex by itself."""
    rng = np.random.default_rng(seed)
    d = 2 - loss.intercept
    # One row does not span the plane: without a ridge mu is 0 for it, whatever the loss.
    sizes = (rows[0], 1, rows[2])
    data = [
        gc.Dataset(rng.normal(size=(m, d)), cases.labels(loss, m, rng), rng.integers(1, 4, size=m))
        for m in sizes
    ]
    return gc.Problem(loss, regularizer, data, nu)


def attackers(problem: gc.Problem, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    g = rng.normal(size=2)
    g *= 0.4 * min(problem.regularizer.radius, 3.0) / np.linalg.norm(g)
    return {
        "nobody": None,
        "gradient attack": gc.GradientAttack(g),
        "model attack": gc.ModelAttack(2.0 * rng.normal(size=2)),
    }


def instances() -> Iterator[tuple[str, gc.Problem, Any]]:
    seed = 0
    for loss in LOSSES:
        for name, regularizer in REGULARIZERS.items():
            for ridge, nu in RIDGES.items():
                seed += 1
                problem = tiny(loss, regularizer, nu, seed)
                chosen = attackers(problem, seed)
                if isinstance(regularizer, gc.HardConsensus):
                    chosen["model attack"] = gc.ModelAttack([1.0, -1.0], gc.SquaredL2(0.5))
                who = list(chosen)[seed % 3]
                yield f"{loss!r}, {name}, {ridge}, {who}", problem, chosen[who]


INSTANCES = list(instances())

HOPELESS = {
    "separable labels, nu = 0": [([[1.0, 0.5], [-1.0, 0.2]], [1.0, -1.0])] * 2,
    "one-point users, nu = 0": [([[1.0, 2.0]], [1.0]), ([[1.0, 2.0]], [-1.0])],
    "users without data, nu = 0": [(np.empty((0, 2)), np.empty(0))] * 2,
}
