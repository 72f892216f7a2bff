r"""S4. Model to gradient: freezing a model is reporting the gradient of r.

A participant who freezes :math:`\theta_\spadesuit` sends, in round t,

.. math:: g^t = \nabla r(\rho^t - \theta_\spadesuit),

so a gradient attack that reports this has the same rounds, and the same limit. With a constant
learning rate of at most one over the smoothness of :math:`\sum_n M_n + r(\cdot - \theta_\spadesuit)`
where rounds go, they tend to the optimum :math:`\rho^\star` of the problem in which
:math:`\theta_\spadesuit` is frozen, and reports to
:math:`\nabla r(\rho^\star - \theta_\spadesuit)`. Under l2 that needs
:math:`\rho^\star \ne \theta_\spadesuit`: at the kink no learning rate is small enough.

Source: the paper, reduction from model attack to gradient attack (T2.2); what is said of the kink is
new. (There a constant report, S5, still leads to :math:`\theta_\spadesuit`.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import sympy as sp

import gplconvex as gc
from gplconvex.federated import Query, run
from proofs_check.ledger import Identity, Measurement, identity
from proofs_check.s03_data_to_model import honest_users

TITLE = "model to gradient"
SOURCE = "paper"

SLOPE = 2.0
"""The report over lam (rho - theta_spade) under squared l2."""

RADIUS = 1.0
"""The report over lam u/|u| under l2, and over lam u/sqrt(delta^2 + |u|^2) under smooth l2."""

MUTATIONS = {"SLOPE": 1.01, "RADIUS": 0.99}

LIMIT = 1e-5
"""How far from the limit runs end: they stop where reports cancel to eight digits."""


def symbolic() -> Iterator[Identity]:
    """Differentiate what the frozen model adds to F; bound how much of a distance a step leaves."""
    lam, delta = sp.symbols("lam delta", positive=True)
    u = sp.Matrix(sp.symbols("u:3", real=True))
    size = sp.sqrt(u.dot(u))
    slope, radius = sp.nsimplify(SLOPE), sp.nsimplify(RADIUS)
    for name, r, report in (
        ("squared l2", lam * size**2, slope * lam * u),
        ("l2", lam * size, radius * lam * u / size),
        ("smooth l2", lam * sp.sqrt(delta**2 + size**2), lam * u / sp.sqrt(delta**2 + size**2)),
    ):
        yield identity(
            f"{name}, in space: the gradient of r(rho - theta) by rho is the report",
            *(sp.diff(r, u[i]) - report[i] for i in range(3)),
        )
    least, above, below = sp.symbols("m a b", nonnegative=True)  # m <= h = m + a <= S = h + b
    h = least + above
    smoothness = h + below
    yield identity(
        "a step of 1/S leaves 1 - h/S of a distance, m <= h <= S: from 0 to 1 - m/S",
        1 - h / smoothness - below / smoothness,
        (1 - least / smoothness) - (1 - h / smoothness) - above / smoothness,
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Let one participant freeze a model, and another report by the formula."""
    for regularizer, loss in (
        (gc.SquaredL2(1.0), gc.LeastSquares()),
        (gc.SquaredL2(1.0), gc.Logistic(intercept=True)),
        (gc.SmoothL2(4.0), gc.Poisson()),
        (gc.L2(4.0), gc.LeastSquares()),
    ):
        problem = honest_users(loss, regularizer, rng, 3)
        direction = rng.normal(size=problem.shape)  # far away: the optimum is not there
        yield from _compare(problem, 10.0 * direction / np.linalg.norm(direction))


def _compare(problem: gc.Problem, theta: npt.NDArray[np.float64]) -> Iterator[Measurement]:
    def reported(query: Query) -> npt.NDArray[np.float64]:
        return _report(problem.regularizer, query.rho - theta)

    solved = gc.solve(problem, attacker=gc.ModelAttack(theta))
    frozen, sent = (
        run(problem, [attack], step_size=_step_size(problem), max_rounds=3000, tol=1e-8)
        for attack in (gc.ModelAttack(theta), reported)
    )
    both = min(frozen.n_rounds, sent.n_rounds) + 1
    name = f"{type(problem.regularizer).__name__}, {type(problem.loss).__name__}"
    apart = float(np.abs(frozen.rho[:both] - sent.rho[:both]).max())
    yield Measurement(f"{name}: the rounds of both differ by", apart, 0.0)
    assert sent.reports is not None
    limit = _report(problem.regularizer, solved.rho - theta)
    off = (
        float(np.linalg.norm(sent.rho[-1] - solved.rho)) + solved.certificate.distance,
        float(np.linalg.norm(sent.reports[-1, -1] - limit)),
    )
    yield Measurement(f"{name}: |rho^T - rho*| is at most", off[0], 0.0, tolerance=LIMIT)
    yield Measurement(f"{name}: the last report is off by", off[1], 0.0, tolerance=LIMIT)


def _report(regularizer: gc.Regularizer, u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the gradient of r at u, by its formula."""
    size = float(np.linalg.norm(u))
    if isinstance(regularizer, gc.SquaredL2):
        return SLOPE * regularizer.lam * u
    if isinstance(regularizer, gc.SmoothL2):
        return np.asarray(RADIUS * regularizer.lam * u / np.hypot(regularizer.delta, size))
    assert isinstance(regularizer, gc.L2)
    return RADIUS * regularizer.lam * u / size


def _step_size(problem: gc.Problem) -> float:
    """Return at most one over the smoothness: of least squares and r, away from its kink, under l2."""
    regularizer = problem.regularizer
    if not isinstance(regularizer, gc.L2):
        return 1.0 / (regularizer.smoothness * (problem.n_users + 1))
    steepest = [np.linalg.norm(data.x, 2) ** 2 for data in problem.datasets]
    return 1.0 / float(sum(steepest) + 2.0 * problem.nu.sum() + regularizer.lam)


def counterexample() -> Iterator[Measurement]:
    """Step too far; or, under l2, freeze a model that is the optimum."""
    rng = np.random.default_rng(0)
    problem = honest_users(gc.LeastSquares(), gc.SquaredL2(1.0), rng, 3)
    theta = rng.normal(size=3)
    solved = gc.solve(problem, attacker=gc.ModelAttack(theta))
    far = run(problem, [gc.ModelAttack(theta)], step_size=0.4, max_rounds=50)
    yield Measurement(
        "a learning rate beyond 2 over the smoothness: |rho^T - rho*|",
        float(np.linalg.norm(far.rho[-1] - solved.rho)),
        0.0,
        tolerance=LIMIT,
    )
    kinked = honest_users(gc.LeastSquares(), gc.L2(4.0), rng, 3)
    theta = gc.solve(kinked).rho + 0.01
    solved = gc.solve(kinked, attacker=gc.ModelAttack(theta))
    assert (solved.rho == theta).all()
    around = run(kinked, [gc.ModelAttack(theta)], step_size=_step_size(kinked), max_rounds=200)
    yield Measurement(
        "l2, rho* = theta_spade: |rho^T - rho*|",
        float(np.linalg.norm(around.rho[-1] - solved.rho)),
        0.0,
        tolerance=LIMIT,
    )
