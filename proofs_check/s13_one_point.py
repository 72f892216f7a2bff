r"""S13. Least squares: one point has any gradient.

With inputs unbounded and no intercept, for every theta and every h that is not 0 the point

.. math:: x = h / w, \qquad y = \theta^\top x - w, \qquad w \ne 0,

has residual w and gradient x w = h, exactly. With w = 1 that is x = h, :math:`y = \theta^\top h - 1`.
With an intercept the last entry of the gradient is w: one point if :math:`h_0 \ne 0`, otherwise two,
with residuals w and -w.

Source: the paper, one point; with an intercept, this package (T3.3).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "one point has any gradient under least squares"
SOURCE = "paper; with an intercept, this package"

RESIDUAL = 1.0
"""theta . h - y of the point with x = h."""

POINTS = 1.0
"""How many points it takes."""

MUTATIONS = {"RESIDUAL": 0.99, "POINTS": 1.01}


def symbolic() -> Iterator[Identity]:
    """One point without intercept, and with one; two points where one has no gradient."""
    d = 4
    theta, h = (sp.Matrix(sp.symbols(f"{name}:{d}", real=True)) for name in ("theta", "h"))
    w, a, b, h0 = sp.symbols("w a b h_0", real=True, nonzero=True)

    def gradient(x: sp.Matrix, y: sp.Expr, intercept: sp.Expr) -> sp.Matrix:
        residual = theta.dot(x) + intercept - y
        return sp.Matrix([*(x * residual), residual])

    x = h / w
    yield identity(
        "x = h / w, y = theta . x - w: gradient h",
        *(gradient(x, theta.dot(x) - w, sp.Integer(0))[:d, 0] - h),
    )
    r = sp.nsimplify(RESIDUAL)
    yield identity(
        "x = h, y = theta . h - 1: gradient h",
        *(gradient(h, theta.dot(h) - r, sp.Integer(0))[:d, 0] - h),
    )
    x = h / h0
    yield identity(
        "an intercept b, h_0 not 0: x = h / h_0, y = theta . x + b - h_0",
        *(gradient(x, theta.dot(x) + b - h0, b) - sp.Matrix([*h, h0])),
    )
    x = h / (2 * a)
    pair = gradient(x, theta.dot(x) + b - a, b) + gradient(-x, -theta.dot(x) + b + a, b)
    yield identity(
        "h_0 = 0: residuals a and -a at h / (2 a) and -h / (2 a)", *(pair - sp.Matrix([*h, 0]))
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Random gradients of many sizes, the point by hand, and a target of a GPL problem."""
    loss = gc.LeastSquares()
    theta, h = rng.normal(size=4), rng.normal(size=4)
    by_hand = gc.Dataset(h[None], [theta @ h - RESIDUAL])
    yield Measurement(
        "x = h by hand: relative residual", _off(loss, by_hand, theta, h), 0.0, tolerance=1e-13
    )
    worst, most = 0.0, 0
    for _ in range(50):
        theta = rng.normal(size=4) * 10.0 ** rng.uniform(-4.0, 4.0)
        h = rng.normal(size=4) * 10.0 ** rng.uniform(-4.0, 4.0)
        found = gc.realize_gradient(loss, theta, h)
        worst, most = max(worst, found.residual), max(most, found.n_points)
    yield Measurement("50 gradients: points", float(most), POINTS)
    yield Measurement("50 gradients: relative residual", worst, 0.0, tolerance=1e-12)
    with_intercept = gc.LeastSquares(intercept=True)
    found = gc.realize_gradient(with_intercept, theta, h)
    yield Measurement("with an intercept, h_0 not 0: points", float(found.n_points), POINTS)
    data = [gc.Dataset(rng.normal(size=(6, 3)), rng.normal(size=6)) for _ in range(3)]
    problem = gc.Problem(loss, gc.SquaredL2(0.7), data, nu=0.1)
    target = rng.normal(size=3)
    attack = gc.poison(problem, target)
    solved = gc.solve(attack.poisoned).require_optimal()
    yield Measurement("poisoning: points", float(attack.n_points), POINTS)
    yield Measurement(
        "poisoning: optimum to target", float(np.linalg.norm(solved.rho - target)), 0.0
    )


def counterexample() -> Iterator[Measurement]:
    """Add an intercept and ask for h_0 = 0, or take another loss."""
    h = np.array([1.0, -2.0, 0.0])
    theta = np.array([0.5, 0.3, 0.1])
    found = gc.realize_gradient(gc.LeastSquares(intercept=True), theta, h)
    yield Measurement("with an intercept, h_0 = 0: points", float(found.lower_bound), POINTS, "<=")
    found = gc.realize_gradient(gc.Logistic(), [1.0, 0.0], [-1.0, 0.0])
    yield Measurement("logistic, theta . h = -1: points", float(found.lower_bound), POINTS, "<=")


def _off(loss: gc.Loss, data: gc.Dataset, theta: np.ndarray, h: np.ndarray) -> float:
    """Return |grad L(theta) - h| over |h|."""
    local = gc.Problem(loss, gc.SquaredL2(1.0), [data]).locals[0]
    return float(np.linalg.norm(local.gradient(theta) - h) / np.linalg.norm(h))
