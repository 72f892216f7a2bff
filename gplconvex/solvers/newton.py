r"""The native solver: Newton on the global model.

Eliminating the personal models from the joint Newton system (arrow-shaped: each one is coupled to rho
only) leaves the Schur complement

.. math:: \sum_n R_n - R_n (H_n + R_n)^{-1} R_n = \sum_n R_n (H_n + R_n)^{-1} H_n
          = \nabla^2 \sum_n M_n(\rho),

the Hessian of the sum of the Moreau envelopes. So the server's problem is to minimize
:math:`\Phi(\rho) = \sum_n M_n(\rho)`, smooth even where r has a kink, and each evaluation asks every
user for the exact reply, itself found by Newton from the last one.
"""

from __future__ import annotations

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.envelope import Envelope, local_envelope
from gplconvex.newton import Jet, Minimum, minimize, minimize_near
from gplconvex.participants import Attacker, GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import norm
from gplconvex.rounding import UNIT
from gplconvex.solvers.solution import Raw


class _Server:
    r"""The oracle of :math:`\Phi`; remembers the last replies as starting points."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.replies: list[FloatArray | None] = [None] * problem.n_users

    def __call__(self, point: FloatArray) -> Jet[list[Envelope]]:
        rho = point.reshape(self.problem.shape)
        envelopes = [
            local_envelope(local, self.problem.regularizer, rho, reply)
            for local, reply in zip(self.problem.locals, self.replies, strict=True)
        ]
        self.replies = [envelope.theta for envelope in envelopes]
        hessian = np.sum([envelope.hessian for envelope in envelopes], axis=0)
        return Jet(
            float(np.sum([envelope.value for envelope in envelopes])),
            np.sum([envelope.gradient for envelope in envelopes], axis=0).ravel(),
            0.5 * (hessian + hessian.T),
            # Where models part at a kink an envelope is flat, but never steeper than the local loss.
            np.sum([np.diagonal(envelope.local_hessian) for envelope in envelopes], axis=0),
            envelopes,
            4.0 * UNIT * sum(norm(envelope.gradient) for envelope in envelopes),
        )


def solve_newton(
    problem: Problem, start: FloatArray | None = None, attacker: Attacker | None = None
) -> Raw:
    """Solve a problem by Newton on rho; see the module's docstring."""
    server = _Server(problem)
    first = np.zeros(problem.shape) if start is None else start
    found = _minimize_with(problem, server, first.ravel(), attacker)
    return Raw(
        rho=found.point.reshape(problem.shape),
        thetas=tuple(envelope.theta for envelope in found.jet.extra),
        method="newton",
        stats={"iterations": float(found.iterations)},
    )


def _minimize_with(
    problem: Problem, server: _Server, start: FloatArray, attacker: Attacker | None
) -> Minimum[list[Envelope]]:
    if isinstance(attacker, ModelAttack):
        # Phi(rho) + r(rho - theta): the same shape as a local problem, theta being the anchor.
        regularizer = attacker.regularizer_for(problem)
        return minimize_near(server, regularizer, attacker.theta.ravel(), start)
    if isinstance(attacker, GradientAttack):
        gradient = attacker.gradient.ravel()

        def tilted(point: FloatArray) -> Jet[list[Envelope]]:
            jet = server(point)
            return Jet(
                jet.value + float(gradient @ point),
                jet.gradient + gradient,
                jet.hessian,
                jet.units,
                jet.extra,
                jet.floor + 4.0 * UNIT * norm(gradient),
            )

        return minimize(tilted, start)
    return minimize(server, start)
