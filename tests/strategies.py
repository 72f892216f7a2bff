"""Hypothesis strategies: valid problems by construction, nothing filtered."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import gplconvex as gc

LOSSES = (
    gc.LeastSquares(),
    gc.LeastSquares(intercept=True),
    gc.Logistic(),
    gc.Logistic(intercept=True),
)
"""The losses whose data with a given gradient are as few as the lower bound."""

MORE_LOSSES = (
    gc.Poisson(),
    gc.Poisson(intercept=True),
    gc.Softmax(3),
    gc.Softmax(4, intercept=True),
)
"""The others, with vectors for predictors or unbounded curvature."""

ALL_LOSSES = (*LOSSES, *MORE_LOSSES)


def powers(low: float, high: float) -> st.SearchStrategy[float]:
    """Positive numbers, uniform in their logarithm."""
    return st.floats(np.log10(low), np.log10(high)).map(lambda e: float(10.0**e))


def losses() -> st.SearchStrategy[gc.Loss]:
    return st.sampled_from(LOSSES)


def smooth_regularizers() -> st.SearchStrategy[gc.Regularizer]:
    """The regularizers with an invertible gradient."""
    return st.one_of(
        st.builds(gc.SquaredL2, powers(0.1, 10.0)),
        st.builds(gc.SmoothL2, powers(0.1, 10.0), powers(0.1, 3.0)),
    )


def regularizers() -> st.SearchStrategy[gc.Regularizer]:
    return st.one_of(
        smooth_regularizers(),
        st.builds(gc.L2, powers(0.1, 10.0)),
        st.just(gc.HardConsensus()),
    )


def labels(loss: gc.Loss, n: int, rng: np.random.Generator) -> np.ndarray:
    """Labels that the loss takes."""
    if isinstance(loss, gc.Logistic):
        return rng.choice([-1.0, 1.0], size=n)
    if isinstance(loss, gc.Poisson):
        return rng.poisson(2.0, n).astype(float)
    if isinstance(loss, gc.Softmax):
        if rng.random() < 0.5:
            return rng.dirichlet(np.ones(loss.n_classes), n)
        return rng.integers(loss.n_classes, size=n).astype(float)
    return 2.0 * rng.normal(size=n)


@st.composite
def problems(
    draw: st.DrawFn,
    loss: st.SearchStrategy[gc.Loss] | None = None,
    regularizer: st.SearchStrategy[gc.Regularizer] | None = None,
    max_features: int = 8,
    min_features: int = 1,
    max_users: int = 6,
    max_rows: int = 20,
) -> gc.Problem:
    """A problem of 1-6 users with 1-8 features, uneven sizes, empty users and counts included."""
    chosen = draw(losses() if loss is None else loss)
    d = draw(st.integers(min_features, max_features))
    sizes = draw(st.lists(st.integers(0, max_rows), min_size=1, max_size=max_users))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    datasets = [
        gc.Dataset(rng.normal(size=(m, d)), labels(chosen, m, rng), rng.integers(1, 4, size=m))
        for m in sizes
    ]
    nu = draw(powers(1e-3, 10.0))
    return gc.Problem(
        chosen, draw(regularizers() if regularizer is None else regularizer), datasets, nu
    )


@st.composite
def models(draw: st.DrawFn, shape: tuple[int, ...], scale: float = 3.0) -> np.ndarray:
    """A model of the given shape with standard normal entries times ``scale``."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return scale * rng.normal(size=shape)


def centered(problem: gc.Problem, model: np.ndarray) -> np.ndarray:
    """The model without what adding one number to all classes changes: no data pull at that."""
    return model - model.mean(axis=1, keepdims=True) if problem.loss.has_gauge else model


@st.composite
def reports(draw: st.DrawFn, problem: gc.Problem, most: float = 0.95) -> np.ndarray:
    """A plausible report: of norm at most ``most`` times the radius of Grad, and at most 10."""
    direction = centered(problem, draw(models(problem.shape, 1.0)))
    length = draw(st.floats(0.01, most)) * min(problem.regularizer.radius, 10.0)
    return direction * (length / np.linalg.norm(direction))


@st.composite
def reachable_targets(draw: st.DrawFn, problem: gc.Problem) -> np.ndarray:
    """A reachable target: where the honest users settle against some plausible report."""
    attack = gc.GradientAttack(draw(reports(problem)))
    return centered(problem, gc.solve(problem, attacker=attack).require_optimal().rho)


def example(loss, regularizer, nu=0.3, users=3, rows=10, d=2, seed=0) -> gc.Problem:
    """One problem of given sizes, the same each time."""
    rng = np.random.default_rng(seed)
    datasets = [
        gc.Dataset(rng.normal(size=(rows, d)), labels(loss, rows, rng), rng.integers(1, 4, rows))
        for _ in range(users)
    ]
    return gc.Problem(loss, regularizer, datasets, nu)
