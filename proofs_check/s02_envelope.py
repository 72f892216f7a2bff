r"""S2. The Moreau envelope: its gradient, its curvature, its Hessian.

What the server sees of user n is :math:`M(\rho) = \min_\theta L(\theta) + r(\rho - \theta)`, with the
minimizer :math:`\theta(\rho)`. For convex L its gradient is

.. math:: \nabla M(\rho) = \nabla L(\theta(\rho)),

which is :math:`\nabla r(\rho - \theta(\rho))` where r is differentiable. For squared l2,
:math:`r = \lambda|u|^2`, M is :math:`2\lambda`-smooth; if L is :math:`\mu`-strongly convex, M is
:math:`2\lambda\mu/(\mu + 2\lambda)`-strongly convex; and with H the Hessian of L at
:math:`\theta(\rho)`,

.. math:: \nabla^2 M(\rho) = 2\lambda I - 4\lambda^2 (H + 2\lambda I)^{-1}.

Source: the gradient is the paper's (and Moreau's, 1965); the rest is standard, and T1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "the Moreau envelope"
SOURCE = "paper"

GRADIENT = 1.0
"""grad M over grad L at the reply."""

SMOOTHNESS = 2.0
"""The smoothness of M under squared l2 over lam."""

HARMONIC = 2.0
"""a in the strong convexity of M, a lam mu / (mu + 2 lam)."""

HESSIAN = 4.0
"""a in the Hessian of M, 2 lam I - a lam^2 (H + 2 lam I)^{-1}."""

MUTATIONS = {"GRADIENT": 1.01, "SMOOTHNESS": 0.99, "HARMONIC": 1.01, "HESSIAN": 1.01}

LOSSES = (gc.LeastSquares(), gc.Logistic(), gc.Poisson(), gc.Softmax(3))

DIFFERENCE = 1e-6
"""What a central difference with step 1e-5 may be off by: its square, times a third derivative."""


def symbolic() -> Iterator[Identity]:
    """Differentiate through the reply; minimize a quadratic; take a Schur complement."""
    rho, t = sp.symbols("rho t", real=True)
    lam, mu, h = sp.symbols("lam mu h", positive=True)
    loss, tie, reply = sp.Function("L"), sp.Function("r"), sp.Function("theta")(rho)
    u = rho - reply
    stationary = sp.diff(loss(t), t).subs(t, reply) - sp.diff(tie(t), t).subs(t, u)
    envelope = loss(reply) + tie(u)
    yield identity(
        "M' = r'(rho - theta), theta' times the first-order condition being dropped",
        (
            sp.diff(envelope, rho)
            - sp.diff(tie(t), t).subs(t, u)
            - sp.diff(reply, rho) * stationary
        ).doit(),
    )
    slope = sp.Symbol("slope")
    moved = sp.solve(h * slope - 2 * lam * (1 - slope), slope)[0]  # the condition, differentiated
    second = 2 * lam * (1 - moved)
    yield identity(
        "squared l2, L'' = h: M'' = 2 lam - 4 lam^2/(h + 2 lam)",
        second - (2 * lam - sp.nsimplify(HESSIAN) * lam**2 / (h + 2 * lam)),
    )
    yield identity(
        "it grows with h, from 2 lam mu/(mu + 2 lam) at mu to 2 lam",
        sp.diff(second, h) - (2 * lam / (h + 2 * lam)) ** 2,
        second.subs(h, mu) - sp.nsimplify(HARMONIC) * lam * mu / (mu + 2 * lam),
        sp.limit(second, h, sp.oo) - sp.nsimplify(SMOOTHNESS) * lam,
    )
    yield identity(
        "M - lam rho^2 is a minimum of functions that are affine in rho: concave",
        sp.diff(lam * (rho - t) ** 2 - lam * rho**2, rho, 2),
    )
    yield identity(
        "mu t^2/2 + lam (rho - t)^2 exceeds 2 lam mu/(mu + 2 lam) rho^2/2 by a square",
        mu * t**2 / 2
        + lam * (rho - t) ** 2
        - sp.nsimplify(HARMONIC) * lam * mu / (mu + 2 * lam) * rho**2 / 2
        - (mu / 2 + lam) * (t - 2 * lam * rho / (mu + 2 * lam)) ** 2,
    )
    hessian, curvature = (
        sp.Matrix([[a, b], [b, c]]) for a, b, c in map(sp.symbols, ("a:3", "r:3"))
    )
    inverse = (hessian + curvature).inv()
    yield identity(
        "any r, 2 x 2: the Schur complement R - R(H + R)^{-1}R is R(H + R)^{-1}H",
        *(curvature - curvature * inverse * curvature - curvature * inverse * hessian),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Central differences of the envelope; slopes between random models, and along an eigenvector."""
    lam = float(rng.uniform(0.5, 2.0))
    for regularizer in (gc.SquaredL2(lam), gc.SmoothL2(lam), gc.L2(lam), gc.HardConsensus()):
        problems = [_one_user(loss, regularizer, rng) for loss in LOSSES]
        found = [_differences(problem, rng) for problem in problems]
        yield _worst(
            f"{type(regularizer).__name__}: steepest slope of M over |grad L(theta(rho))|",
            [slope / steepness for slope, steepness, _, _ in found],
            GRADIENT,
        )
        if isinstance(regularizer, gc.SquaredL2):
            yield _worst(
                "SquaredL2: curvature of M over that of 2 lam I - 4 lam^2 (H + 2 lam I)^(-1)",
                [bend / (2.0 * lam - HESSIAN * lam**2 * across) for _, _, bend, across in found],
                1.0,
            )
    yield from _slopes(lam, rng)


def _worst(what: str, ratios: list[float], claimed: float) -> Measurement:
    """Return the ratio that is farthest from the claim, of all losses."""
    worst = max(ratios, key=lambda ratio: abs(ratio - claimed))
    return Measurement(what, worst, claimed, tolerance=DIFFERENCE)


def _one_user(
    loss: gc.Loss, regularizer: gc.Regularizer, rng: np.random.Generator, nu: float = 0.2
) -> gc.Problem:
    labels = 0.5 * rng.normal(size=loss.shape(2))
    data = gc.honest_dataset(loss, labels, 20, seed=int(rng.integers(2**31)))
    return gc.Problem(loss, regularizer, [data], nu)


def _differences(
    problem: gc.Problem, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    r"""Return slope and :math:`|\nabla L|`, curvature and :math:`v^\top(H + 2\lambda I)^{-1}v`.

    Both are differences along the gradient, v.
    """
    rho, step = rng.normal(size=problem.shape), 1e-5
    found = gc.moreau_envelope(problem, 0, rho)
    along = found.gradient / np.linalg.norm(found.gradient)
    ahead, behind = (gc.moreau_envelope(problem, 0, rho + s * step * along) for s in (1.0, -1.0))
    slope = (ahead.value - behind.value) / (2.0 * step)
    bend = float(np.vdot(ahead.gradient - behind.gradient, along)) / (2.0 * step)
    steepness = float(np.linalg.norm(problem.locals[0].gradient(found.theta)))
    v, twice = along.ravel(), 2.0 * getattr(problem.regularizer, "lam", 0.0)
    across = v @ np.linalg.solve(found.local_hessian + twice * np.eye(len(v)), v)
    return slope, steepness, bend, float(across)


def _slopes(lam: float, rng: np.random.Generator) -> Iterator[Measurement]:
    r"""Attain both bounds: data steep in one direction, nothing but the ridge in the other."""
    nu, squared = 0.2, gc.SquaredL2(lam)
    mu = 2.0 * nu
    steep, flat = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    attained = gc.Problem(gc.LeastSquares(), squared, [(1e5 * steep[None], [1.0])], nu)
    pairs = [(attained, rng.normal(size=2), direction) for direction in (steep, flat)]
    for loss in (gc.LeastSquares(), gc.Logistic(), gc.Poisson()):
        problem = _one_user(loss, squared, rng, nu)
        pairs += [(problem, *rng.normal(size=(2, 2))) for _ in range(20)]
    steepest, least = 0.0, np.inf
    for problem, rho, step in pairs:
        here, there = (gc.moreau_envelope(problem, 0, point) for point in (rho, rho + step))
        change = there.gradient - here.gradient
        steepest = max(steepest, float(np.linalg.norm(change) / np.linalg.norm(step)))
        least = min(least, float(change @ step / (step @ step)))
    yield Measurement("the steepest |change of grad M|/|step|", steepest, SMOOTHNESS * lam, "<=")
    yield Measurement(
        "the least <change of grad M, step>/|step|^2",
        least,
        HARMONIC * lam * mu / (mu + 2.0 * lam),
        ">=",
    )


def counterexample() -> Iterator[Measurement]:
    """Take l2, not squared: M is as curved as L near its minimum, and linear far from it."""
    lam, nu = 1.0, 0.2
    mu = 2.0 * nu
    steep = gc.Problem(gc.LeastSquares(), gc.L2(lam), [([[100.0]], [0.0])], nu)

    def report(rho: float) -> float:
        return float(gc.moreau_envelope(steep, 0, [rho]).gradient[0])

    yield Measurement(
        "under l2, near the minimum of L, M is 2 lam-smooth",
        (report(5e-5) - report(0.0)) / 5e-5,
        SMOOTHNESS * lam,
        "<=",
    )
    yield Measurement(
        "under l2, far from it, M is 2 lam mu/(mu + 2 lam)-strongly convex",
        report(11.0) - report(10.0),
        HARMONIC * lam * mu / (mu + 2.0 * lam),
        ">=",
    )
    reply = gc.moreau_envelope(steep, 0, [5e-5]).theta
    yield Measurement(
        "where models coincide under l2, grad M is grad r (of least norm)",
        report(5e-5),
        float(gc.to_gradient(steep, [5e-5], reply)[0]),
    )
