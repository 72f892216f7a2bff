r"""S7. Model to data, exactly: one equation makes a target the optimum.

Let all losses be convex and differentiable, r any of the four, and
:math:`G = \sum_{n \ne s} \nabla M_n(\rho_\dagger)`. If :math:`g = -G` is a subgradient of r at
:math:`u = \rho_\dagger - \theta_\spadesuit`, then with every dataset of s that satisfies

.. math:: \sum_i c_i \nabla_\theta\,\varphi(\theta_\spadesuit^\top x_i, y_i) = h,
          \qquad h = g - 2\nu_s\theta_\spadesuit,

:math:`\rho_\dagger`, the replies to it and :math:`\theta_\spadesuit` minimize F. If
:math:`\nu_s > 0`, and under l2 :math:`|g| < \lambda`, no other global model does.

Source: new (T2.5).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity
from proofs_check.s03_data_to_model import SOLVED, honest_users

TITLE = "model to data, exactly"
SOURCE = "this package"

RIDGE = 2.0
"""a in h = g - a nu theta_spade."""

BALANCE = -1.0
"""g over the pull of the others at the target."""

MUTATIONS = {"RIDGE": 1.01, "BALANCE": 0.99}

LOSSES = (
    gc.LeastSquares(),
    gc.LeastSquares(intercept=True),
    gc.Logistic(),
    gc.Logistic(intercept=True),
    gc.Poisson(),
    gc.Poisson(intercept=True),
    gc.Softmax(3),
    gc.Softmax(3, intercept=True),
)

REGULARIZERS = (gc.SquaredL2(1.0), gc.SmoothL2(4.0), gc.L2(4.0), gc.HardConsensus())

Array = npt.NDArray[np.float64]


def symbolic() -> Iterator[Identity]:
    """Put the equation into the derivatives of F, for any losses and r, with two users besides s."""
    rho, nu, own, *others = sp.symbols("rho nu theta_s theta_1 theta_2", real=True)
    points, tie, *losses = map(sp.Function, ("P", "r", "L_1", "L_2"))
    g = sp.symbols("g_1 g_2", real=True)
    report = sp.nsimplify(BALANCE) * sum(g)
    objective = nu * own**2 + points(own) + tie(rho - own)
    known = {  # the equation, and what the choice of theta_spade says
        sp.diff(points(own), own): report - sp.nsimplify(RIDGE) * nu * own,
        sp.diff(tie(rho - own), rho): report,
    }
    for loss, theta, each in zip(losses, others, g, strict=True):
        objective += loss(theta) + tie(rho - theta)
        known |= {sp.diff(loss(theta), theta): each, sp.diff(tie(rho - theta), rho): each}
    yield identity(
        "all derivatives of F vanish at the target",
        *(sp.diff(objective, model).subs(known) for model in (rho, own, *others)),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Solve the equation by as few points as possible, and then the poisoned problem."""
    for regularizer in REGULARIZERS:
        off = [_off(honest_users(loss, regularizer, rng, 3), rng) for loss in LOSSES]
        name = type(regularizer).__name__
        what = f"{name}, {len(LOSSES)} losses: |rho* with data - target| is at most"
        yield Measurement(what, float(np.max(off)), 0.0, tolerance=SOLVED)


def _target(problem: gc.Problem, rng: np.random.Generator) -> Array:
    """Return a model that the honest users are pulled to by a report of norm 2."""
    g = _centered(problem, rng.normal(size=problem.shape))
    g *= 2.0 / np.linalg.norm(g)
    return _centered(problem, gc.solve(problem, attacker=gc.GradientAttack(g)).rho)


def _centered(problem: gc.Problem, model: Array) -> Array:
    """Return the model without what no labels of softmax tell."""
    softmax = isinstance(problem.loss, gc.Softmax)
    return np.asarray(model - model.mean(axis=1, keepdims=True)) if softmax else model


def _off(problem: gc.Problem, rng: np.random.Generator, ridge: float | None = None) -> float:
    """Return how far from its target the optimum is with data from the equation, at most."""
    target = _target(problem, rng)
    replies = [gc.moreau_envelope(problem, n, target) for n in range(problem.n_users)]
    g = BALANCE * np.sum([reply.gradient for reply in replies], axis=0)
    theta, nu = gc.to_model(problem, target, g), float(problem.nu[0])
    h = _centered(problem, g - RIDGE * nu * theta)
    solved = gc.solve(problem.with_user(gc.realize_gradient(problem.loss, theta, h).dataset, nu))
    return float(np.linalg.norm(solved.rho - target)) + solved.certificate.distance


def counterexample() -> Iterator[Measurement]:
    """Forget the ridge; give s a loss that is not convex; report on the sphere under l2."""
    rng = np.random.default_rng(0)
    problem = honest_users(gc.LeastSquares(), gc.SquaredL2(1.0), rng, 3)
    target = _target(problem, rng)
    g = gc.required_gradient(problem, target)
    theta = gc.to_model(problem, target, g)
    data = gc.realize_gradient(problem.loss, theta, g).dataset
    solved = gc.solve(problem.with_user(data, float(problem.nu[0])))
    yield Measurement(
        "the points sum to g, the ridge is forgotten: rho* is off by at least",
        float(np.linalg.norm(solved.rho - target)) - solved.certificate.distance,
        0.0,
        tolerance=SOLVED,
    )
    yield _not_convex()
    # One honest user far away under l2: from its reply to the target all models are as good.
    far = gc.Problem(gc.LeastSquares(), gc.L2(1.0), [([[2.0, 0.0], [0.0, 2.0]], [6.0, 8.0])], 0.1)
    attack = gc.poison(far, [0.0, 0.0])
    between = 0.5 * attack.thetas[0]
    yield Measurement(
        f"l2, |g| = lam, half way to the reply, {np.linalg.norm(between):.3g} away: F exceeds F* by",
        attack.poisoned.value(between, attack.thetas)
        - attack.poisoned.value(attack.target, attack.thetas),
        1e-9,
        ">=",
    )


def _not_convex() -> Measurement:
    r"""Compare values of F where :math:`L_s(\theta_\spadesuit + v) = g v - 3 v^2 + v^4`."""
    honest = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [([[1.0]], [3.0])], 0.1)
    target = np.array([-1.0])
    g = float(gc.required_gradient(honest, target)[0])
    theta = float(gc.to_model(honest, target, [g])[0])

    def objective(v: float) -> float:
        away = float(target[0]) - theta - v
        own = g * v - 3.0 * v**2 + v**4
        return gc.moreau_envelope(honest, 0, target).value + away**2 + own

    return Measurement(
        "L_s is not convex: F at the predicted optimum, and beside it",
        objective(0.0),
        objective(1.0),
        "<=",
    )
