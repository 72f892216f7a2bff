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


# -- bounded domains ---------------------------------------------------------------------------------

DOMAINS = {
    "box": (2, lambda **labels: gc.Box([-1.0, -0.5], [2.0, 1.0], **labels)),
    "box in one dimension": (1, lambda **labels: gc.Box(-1.0, 2.0, **labels)),
    "ball": (2, lambda **labels: gc.Ball(1.5, **labels)),
    "ball in one dimension": (1, lambda **labels: gc.Ball(1.5, **labels)),
    "nonnegative": (2, gc.NonNegative),
    "product": (2, lambda **labels: gc.Product([(1, gc.Box(-1, 2)), (1, gc.Ball(1))], **labels)),
    "ball and ray": (
        3,
        lambda **labels: gc.Product([(2, gc.Ball(1.0)), (1, gc.NonNegative())], **labels),
    ),
    "integer": (2, lambda **labels: gc.Integer([-2, 0], [3, 5], **labels)),
    "categories": (3, gc.OneHot),
    "mixed": (4, lambda **labels: gc.Product([(1, gc.Integer(-1, 2)), (3, gc.OneHot())], **labels)),
}
"""Domains by name, with their number of features; to be called with bounds of labels."""


def domain_labels(loss: gc.Loss) -> tuple[float, float] | None:
    """Bounds of labels that leave residuals of both signs."""
    if isinstance(loss, gc.Logistic):
        return None
    return (-1.0, 1.5) if isinstance(loss, gc.LeastSquares) else (0.0, 4.0)


def inputs(domain: gc.Domain, n_features: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """Random points of a domain, some of them on its boundary."""
    if isinstance(domain, gc.Product):
        return np.hstack([inputs(inner, number, m, rng) for number, inner in domain.parts])
    if isinstance(domain, gc.OneHot):
        return np.eye(n_features)[rng.integers(n_features, size=m)]
    if isinstance(domain, gc.Ball):
        x = rng.normal(size=(m, n_features))
        length = rng.choice([1.0 - 1e-12, 0.5, 0.1], size=(m, 1)) * domain.radius
        return x / np.linalg.norm(x, axis=1, keepdims=True) * length
    low, high = domain.bounds(n_features)
    if isinstance(domain, gc.Integer):
        return rng.integers(low, high + 1, size=(m, n_features)).astype(float)
    width = np.where(np.isfinite(high), high - low, 3.0)
    return low + rng.choice([0.0, 1.0, 0.5, rng.random()], size=(m, n_features)) * width


def allowed_labels(
    loss: gc.Loss, domain: gc.Domain, m: int, rng: np.random.Generator
) -> np.ndarray:
    """Labels that both the loss and the domain take."""
    if domain.labels is None:
        return labels(loss, m, rng)
    low, high = domain.labels
    if isinstance(loss, gc.Poisson):
        return rng.integers(int(low), int(high) + 1, size=m).astype(float)
    return rng.uniform(low, high, size=m)


@st.composite
def bounded_instances(
    draw: st.DrawFn, loss: gc.Loss, kinds: tuple[str, ...], most: int = 4
) -> tuple[np.ndarray, np.ndarray, gc.Domain, int]:
    """A model, the gradient of m random points of a domain, that domain, and m."""
    n_features, make = DOMAINS[draw(st.sampled_from(kinds))]
    bounds = draw(st.sampled_from([None, domain_labels(loss)]))
    domain = make(labels=bounds)
    m = draw(st.integers(1, most))
    scale = draw(powers(0.1, 1.5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    theta = scale * rng.normal(size=n_features + loss.intercept)
    x, y = inputs(domain, n_features, m, rng), allowed_labels(loss, domain, m, rng)
    w = loss.residual(loss.predictor(x, theta), y)
    return theta, loss.pullback(x, w), domain, m
