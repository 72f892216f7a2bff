r"""S5. Gradient to model: the model whose report is the limit of an attack.

Let a gradient attack lead to :math:`\rho_\dagger` with reports that converge to g, a subgradient of r
somewhere. (With a constant learning rate reports converge if models do.) Then :math:`\rho_\dagger` is
an optimum of the problem in which

.. math:: \theta_\spadesuit = \rho_\dagger - (\nabla r)^{-1}(g)

is frozen. Here :math:`(\nabla r)^{-1}(g)` is :math:`g/(2\lambda)` under squared l2, and
:math:`\delta g/\sqrt{\lambda^2 - |g|^2}` under smooth l2, where :math:`|g| < \lambda`. Under l2 it is 0,
and if :math:`|g| = \lambda` also :math:`t g` for every :math:`t \ge 0`. Under hard consensus it is 0.

Source: the paper, reduction from gradient attack to model attack (T2.3).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import sympy as sp

import gplconvex as gc
from gplconvex.federated import Query, decaying, run
from proofs_check.ledger import Identity, Measurement, identity
from proofs_check.s03_data_to_model import LOSSES, SOLVED, apart, honest_users

TITLE = "gradient to model"
SOURCE = "paper"

HALF = 2.0
"""g over lam (rho_dagger - theta_spade) under squared l2."""

WIDTH = 1.0
"""(rho_dagger - theta_spade) sqrt(lam^2 - |g|^2) over delta g under smooth l2."""

TIED = 1.0
"""theta_spade over rho_dagger under l2 inside the ball, and under hard consensus."""

MUTATIONS = {"HALF": 1.01, "WIDTH": 0.99, "TIED": 1.01}


def symbolic() -> Iterator[Identity]:
    """Put the inverse into the gradient of r, in the plane."""
    lam, delta, c, t = sp.symbols("lam delta c t", positive=True)
    g = sp.Matrix(sp.symbols("g:2", real=True))
    square = g.dot(g)

    def slope(r: sp.Expr, at: sp.Matrix) -> sp.Matrix:
        u = sp.Matrix(sp.symbols("u:2", real=True))
        gradient = sp.Matrix([sp.diff(r(u.dot(u)), each) for each in u])
        return gradient.subs(dict(zip(u, at, strict=True)))

    yield identity(
        "squared l2: grad r(g/(2 lam)) = g",
        *(slope(lambda s: lam * s, g / (sp.nsimplify(HALF) * lam)) - g),
    )
    smooth = slope(lambda s: lam * sp.sqrt(delta**2 + s), sp.nsimplify(WIDTH) * delta * g / c)
    yield identity(
        "smooth l2, c^2 = lam^2 - |g|^2 > 0: grad r(delta g/c) = g",
        *(smooth.subs(lam, sp.sqrt(c**2 + square)) - g),
    )
    edge = slope(lambda s: lam * sp.sqrt(s), t * g)
    yield identity(
        "l2, |g| = lam: grad r(t g) = g for every t > 0",
        *(edge.subs(lam, sp.sqrt(square)) - g),
    )
    along, across, size = sp.symbols("a p u", real=True)
    excess = (lam * abs(size)) ** 2 - (along * size) ** 2  # g = (a, p) and u along the first axis
    yield identity(
        "l2: (lam |u|)^2 - <g, u>^2 is at least 0 if |g| <= lam, so that g is a subgradient at 0",
        excess - size**2 * (lam**2 - along**2 - across**2) - (size * across) ** 2,
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Solve with a constant report, freeze its model, and solve again."""
    regularizers: tuple[gc.Regularizer, ...] = (
        gc.SquaredL2(1.0),
        gc.SmoothL2(4.0, 0.5),
        gc.L2(4.0),
        gc.HardConsensus(),
    )
    for regularizer in regularizers:
        yield _reached(regularizer, 3.0, 0.0, rng)
    yield _reached(gc.L2(4.0), 4.0, float(rng.uniform(0.1, 2.0)), rng)


def _reached(
    regularizer: gc.Regularizer, size: float, t: float, rng: np.random.Generator
) -> Measurement:
    most = []
    for loss in LOSSES:
        problem = honest_users(loss, regularizer, rng)
        g = rng.normal(size=problem.shape)
        g *= size / np.linalg.norm(g)
        reported = gc.solve(problem, attacker=gc.GradientAttack(g))
        theta = _model(regularizer, reported.rho, g, t)
        most.append(apart(reported, gc.solve(problem, attacker=gc.ModelAttack(theta)))[1])
    what = "|rho_dagger - rho* with theta_spade| is at most"
    name = f"{type(regularizer).__name__}, |g| = {size:g}" + (f", t = {t:.3g}" if t else "")
    return Measurement(f"{name}: {what}", float(np.max(most)), 0.0, tolerance=SOLVED)


def _model(
    regularizer: gc.Regularizer,
    rho: npt.NDArray[np.float64],
    g: npt.NDArray[np.float64],
    t: float,
) -> npt.NDArray[np.float64]:
    """Return theta_spade, by its formula."""
    if isinstance(regularizer, gc.SquaredL2):
        return rho - g / (HALF * regularizer.lam)
    if isinstance(regularizer, gc.SmoothL2):
        size = float(np.linalg.norm(g))
        away = regularizer.delta * g / np.sqrt((regularizer.lam - size) * (regularizer.lam + size))
        return np.asarray(rho - WIDTH * away)
    return TIED * rho - t * g


def counterexample() -> Iterator[Measurement]:
    """Report on the boundary of Grad, let reports not converge, or take another inverse."""
    rng = np.random.default_rng(0)
    smooth = honest_users(gc.LeastSquares(), gc.SmoothL2(4.0), rng)
    g = 4.0 * np.array([0.6, 0.0, 0.8])
    reported = gc.solve(smooth, attacker=gc.GradientAttack(g))
    frozen = gc.solve(smooth, attacker=gc.ModelAttack(reported.rho - 10.0 * g))
    yield Measurement(
        "smooth l2, |g| = lam, theta_spade = rho_dagger - 10 g: rho* is off by at least",
        apart(reported, frozen)[0],
        0.0,
        tolerance=SOLVED,
    )
    half = gc.solve(smooth, attacker=gc.GradientAttack(0.5 * g))
    other = gc.ModelAttack(half.rho - 0.5 * g / (HALF * 4.0))
    yield Measurement(
        "smooth l2, the inverse of squared l2: rho* is off by at least",
        apart(half, gc.solve(smooth, attacker=other))[0],
        0.0,
        tolerance=SOLVED,
    )
    squared = honest_users(gc.LeastSquares(), gc.SquaredL2(1.0), rng)

    def alternating(query: Query) -> npt.NDArray[np.float64]:
        return g if query.round % 2 else np.zeros(3)

    ended = run(squared, [alternating], step_size=decaying(0.05, 5), max_rounds=400).rho[-1]
    mean = gc.solve(squared, attacker=gc.GradientAttack(0.5 * g))
    near = float(np.linalg.norm(ended - mean.rho)) + mean.certificate.distance
    last = gc.solve(squared, attacker=gc.ModelAttack(ended - g / HALF))
    yield Measurement(
        "reports alternate while steps vanish: rho^T is within "
        f"{near:.2g} of rho_dagger, but the model of the last report leads at least so far away",
        apart(mean, last)[0],
        0.0,
        tolerance=near,
    )
