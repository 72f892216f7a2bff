r"""What the honest users answer to a global model: replies and reports.

.. math:: \theta_n(\rho) = \arg\min_\theta L_n(\theta) + r(\rho - \theta), \qquad
          \nabla M_n(\rho) = \nabla r(\rho - \theta_n(\rho)) .

Small models take the Newton steps of `gplconvex.envelope`. For large ones the Hessians do not fit, and
each user alone is a problem for `solve`: with hard consensus its one model minimizes
:math:`L_n(\theta) + E(\theta)`, and the energy of a participant frozen at :math:`\rho` is
:math:`E(\theta) = r(\theta - \rho)`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from gplconvex._types import FloatArray, IntArray
from gplconvex.envelope import envelopes
from gplconvex.local_losses import LocalLosses
from gplconvex.parallel import at_most, map_on_cores
from gplconvex.participants import ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import HardConsensus, norm
from gplconvex.rounding import gamma
from gplconvex.solvers import fits_newton, solve

REPLY_TOL = 1e-14
"""Certified gap of a reply of a large model, relative to its value: about the rounding of that."""


@dataclass(frozen=True)
class Replies:
    """Replies and reports of n users, both (n, p): models are vectors."""

    theta: FloatArray
    gradient: FloatArray


def replies(problem: Problem, rho: FloatArray) -> Replies:
    """Return the replies and reports of all users at ``rho``, an array of the shape of a model."""
    everybody = np.arange(problem.n_users)
    starts = np.tile(rho.ravel(), (problem.n_users, 1))
    if fits_newton(problem):
        return newton_replies(problem, problem.local_losses, rho, starts)
    return replies_by_solving(problem, everybody, problem.local_losses, rho, starts)


def newton_replies(
    problem: Problem, losses: LocalLosses, rho: FloatArray, starts: FloatArray
) -> Replies:
    """Return the replies of the users of some local losses, searching from ``starts`` (n, p)."""
    anchors = np.tile(rho.ravel(), (losses.n_users, 1))
    found = envelopes(losses, problem.regularizer, anchors, starts)
    return Replies(found.theta, found.gradient)


def replies_by_solving(
    problem: Problem, users: IntArray, losses: LocalLosses, rho: FloatArray, starts: FloatArray
) -> Replies:
    """Return the replies of users with large models, searching from ``starts`` (n, p)."""
    regularizer = problem.regularizer
    anchors = np.tile(rho.ravel(), (len(users), 1))
    if isinstance(regularizer, HardConsensus):
        return Replies(anchors, losses.gradient(anchors))
    frozen = ModelAttack(rho, regularizer)

    def reply(of: tuple[np.int64, FloatArray]) -> FloatArray:
        n, start = of
        own = Problem(problem.loss, HardConsensus(), [problem.datasets[n]], problem.nu[[n]])
        with at_most(1) if len(users) > 1 else nullcontext():
            found = solve(
                own,
                method="lbfgs",
                tol=REPLY_TOL,
                start=start.reshape(problem.shape),
                attacker=frozen,
            )
        return found.rho.ravel()

    theta = np.stack(map_on_cores(reply, zip(users, starts, strict=True), losses.size))
    if problem.loss.has_gauge and norm(rho.sum(axis=1)) <= gamma(rho.size) * norm(rho):
        # What adding one number to all classes changes is 0 in the reply as it is in rho.
        models = theta.reshape(-1, *problem.shape)
        theta = (models - models.mean(axis=2, keepdims=True)).reshape(theta.shape)
    u = anchors - theta
    at_kink = np.asarray((regularizer.kink > 0.0) & ~u.any(axis=1))
    u[at_kink] = 1.0
    return Replies(
        theta, np.where(at_kink[:, None], losses.gradient(theta), regularizer.gradient(u))
    )
