r"""S1. Plausible reports: Grad is the range of the gradient of r.

An honest user reports :math:`\nabla r(u)`, :math:`u = \rho - \theta_n`. For squared l2,
:math:`r = \lambda|u|^2`, that can be every vector: :math:`\nabla r(u) = 2\lambda u`. For l2,
:math:`r = \lambda|u|`, and smooth l2, :math:`r = \lambda\sqrt{\delta^2 + |u|^2}`, its norm is at most
:math:`\lambda`, and comes as near to that as one likes. So the server drops what is longer.

Source: the paper (Farhadkhani et al. 2022), the set Grad of each regularizer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from gplconvex.federated import rounds
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "plausible sets"
SOURCE = "paper"

RADIUS = 1.0
"""The radius of Grad under l2 and smooth l2 over lam."""

SLOPE = 2.0
"""|grad r(u)| under squared l2 over lam |u|."""

MUTATIONS = {"RADIUS": 0.99, "SLOPE": 1.01}


def symbolic() -> Iterator[Identity]:
    """Gradients along a ray, where |u| = t, and their ranges."""
    t, lam, delta = sp.symbols("t lam delta", positive=True)
    yield identity(
        "squared l2: d/dt lam t^2 = 2 lam t, onto [0, inf)",
        sp.diff(lam * t**2, t) - sp.nsimplify(SLOPE) * lam * t,
        sp.Eq(sp.limit(2 * lam * t, t, sp.oo), sp.oo),
    )
    yield identity("l2: d/dt lam t = lam", sp.diff(lam * t, t) - sp.nsimplify(RADIUS) * lam)
    smooth = sp.diff(lam * sp.sqrt(delta**2 + t**2), t)
    yield identity(
        "smooth l2: the slope grows, and tends to lam without reaching it",
        sp.limit(smooth, t, sp.oo) - sp.nsimplify(RADIUS) * lam,
        sp.diff(smooth, t) - lam * delta**2 / (delta**2 + t**2) ** sp.Rational(3, 2),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Norms of honest reports far from a user's own model, and what the server lets pass."""
    lam = float(rng.uniform(0.5, 2.0))
    far = 1e6 * rng.normal(size=3)
    data = gc.Dataset(rng.normal(size=(20, 3)), rng.normal(size=20))
    for regularizer in (gc.L2(lam), gc.SmoothL2(lam)):
        problem = gc.Problem(gc.LeastSquares(), regularizer, [data], nu=0.1)
        size = float(np.linalg.norm(gc.moreau_envelope(problem, 0, far).gradient))
        name = type(regularizer).__name__
        yield Measurement(f"{name}: an honest report from far away", size, RADIUS * lam, "<=")
        yield Measurement(f"{name}: and it comes near to lam", size, 0.999 * lam, ">=")
    squared = gc.Problem(gc.LeastSquares(), gc.SquaredL2(lam), [data], nu=0.1)
    reply = gc.moreau_envelope(squared, 0, far)
    apart = float(np.linalg.norm(far - reply.theta))
    size = float(np.linalg.norm(reply.gradient))
    yield Measurement("SquaredL2: |report| = 2 lam |rho - theta|", size, SLOPE * lam * apart)


def counterexample() -> Iterator[Measurement]:
    """Send a report outside Grad: nobody honest can, and the server drops it."""
    data = gc.Dataset([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    problem = gc.Problem(gc.LeastSquares(), gc.L2(1.0), [data], nu=0.1)
    report = np.array([3.0, 4.0])
    first = next(rounds(problem, [lambda query: report], step_size=0.1))
    yield Measurement(
        "a report of norm 5 under l2 with lam = 1 is plausible (norm <= lam)",
        float(first.norms[-1]),
        RADIUS,
        "<=",
    )
    yield Measurement(
        "and it moves the server (1 of 2 reports is left)",
        float(len(first.asked) - len(first.rejections)),
        2.0,
    )
