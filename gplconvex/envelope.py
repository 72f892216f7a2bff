r"""The Moreau envelope of a local loss: what the server sees of one user.

.. math:: M_n(\rho) = \min_\theta L_n(\theta) + r(\rho - \theta), \qquad
          \nabla M_n(\rho) = \nabla r(\rho - \theta_n(\rho)) = \nabla L_n(\theta_n(\rho)),

and the minimizer :math:`\theta_n(\rho)` is the honest user's reply. At a kink, where models coincide,
the second expression is the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from gplconvex._types import FloatArray
from gplconvex.errors import InvalidInputError
from gplconvex.local_losses import LocalLosses
from gplconvex.newton import TINY, Smooth, minimize_near, solve_positive
from gplconvex.problem import Problem, check_problem
from gplconvex.regularizers import Regularizer, lengths
from gplconvex.rounding import UNIT


@dataclass(frozen=True)
class Envelope:
    r"""The Moreau envelope of one user at one point.

    Attributes
    ----------
    value : float
        :math:`M_n(\rho)`.
    gradient : array, shape of a model
        :math:`\nabla M_n(\rho)`: the honest report of the user.
    theta : array, shape of a model
        :math:`\theta_n(\rho)`: the honest reply.
    hessian : array, shape (p, p)
        :math:`\nabla^2 M_n(\rho) = R (H + R)^{-1} H`, with H the Hessian of :math:`L_n` at the reply
        and R that of r; H itself where :math:`\theta_n(\rho) = \rho` at a kink.
    """

    value: float
    gradient: FloatArray
    theta: FloatArray
    hessian: FloatArray
    local_hessian: FloatArray


def moreau_envelope(problem: Problem, user: int, rho: npt.ArrayLike) -> Envelope:
    r"""Return the Moreau envelope of user ``user`` (0-based) at ``rho``, in one pass.

    Parameters
    ----------
    problem : Problem
        The problem of all users.
    user : int
        Index of the user, from 0.
    rho : array_like, shape of a model
        The global model that the server sends.

    Returns
    -------
    Envelope
        Value, gradient (the honest report), reply and Hessians.

    Raises
    ------
    InvalidInputError
        If there is no such user, or ``rho`` has the wrong shape or is not finite.

    Notes
    -----
    Source: T1; the envelope is that of J.-J. Moreau (1965).

    Examples
    --------
    The envelope of a quadratic is a quadratic with harmonically added curvatures:

    >>> from gplconvex.losses import LeastSquares
    >>> from gplconvex.regularizers import SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(0.5), [([[1.0]], [0.0])])
    >>> moreau_envelope(problem, 0, [2.0]).gradient
    array([1.])
    """
    check_problem(problem)
    if not isinstance(user, (int, np.integer)) or not 0 <= user < problem.n_users:
        raise InvalidInputError(f"user must be from 0 to {problem.n_users - 1}; got {user!r}")
    rho = problem.check_model("rho", rho)
    one = LocalLosses(problem.loss, [problem.datasets[user]], problem.nu[[user]])
    found = envelopes(one, problem.regularizer, rho.reshape(1, -1))
    return Envelope(
        float(found.value[0]),
        found.gradient[0].reshape(problem.shape),
        found.theta[0].reshape(problem.shape),
        found.hessian[0],
        found.local_hessian[0],
    )


@dataclass(frozen=True)
class Envelopes:
    """The envelopes of B users, models being vectors: the fields of `Envelope` with an axis in front."""

    value: FloatArray
    gradient: FloatArray
    theta: FloatArray
    hessian: FloatArray
    local_hessian: FloatArray
    passes: float
    """Passes over the data that it took to find them."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def envelopes(
    losses: LocalLosses,
    regularizer: Regularizer,
    rho: FloatArray,
    start: FloatArray | None = None,
) -> Envelopes:
    """Return the envelopes of all users at ``rho`` (B, p), searching for replies from ``start``."""
    passes = 0.0

    def oracle(thetas: FloatArray) -> Smooth[None]:
        nonlocal passes
        passes += 1.0
        value, gradient, hessian = losses.expansion(thetas)
        return Smooth(value, gradient, hessian, np.diagonal(hessian, axis1=1, axis2=2), None)

    theta, at_reply, _ = minimize_near(oracle, regularizer, rho, rho if start is None else start)
    u = rho - theta
    from_loss, hessian = at_reply.gradient, at_reply.hessian
    value = at_reply.value + regularizer.value(u)
    at_kink = np.asarray((regularizer.kink > 0.0) & ~u.any(axis=1))
    if at_kink.all():
        return Envelopes(value, from_loss, theta, hessian, hessian, passes)
    curved_at = u
    if regularizer.kink > 0.0:
        # Just beyond a kink less than half of the digits of u are right, or none. At the reply its
        # direction is that of grad L, which is known better.
        away, steep = lengths(u), lengths(from_loss)
        close = (away < math.sqrt(UNIT) * lengths(rho))[:, None]
        u = np.where(close, from_loss * (away / steep)[:, None], u)
        # R grows like 1/|u| there: beyond 1e8 H it changes nothing but drowns H in H + R.
        size = lengths(hessian.reshape(len(hessian), -1))
        shortest = np.where(size > 0.0, 1e-8 * regularizer.kink / size, 0.0)
        curved_at = u * np.maximum(1.0, shortest / lengths(u))[:, None]
        u, curved_at = (np.where(at_kink[:, None], 1.0, v) for v in (u, curved_at))
    # The two expressions of the gradient differ by what the reply is off. One Newton step on it
    # gives grad r + R (H + R)^{-1} (grad L - grad r), which damps the rounding of either.
    from_regularizer = regularizer.gradient(u)
    curvature = regularizer.hessian(curved_at)
    mismatch = np.concatenate([(from_loss - from_regularizer)[..., None], hessian], axis=2)
    solved = curvature @ _solve_sum(hessian, curvature, mismatch)
    tied = at_kink[:, None]
    return Envelopes(
        value,
        np.where(tied, from_loss, from_regularizer + solved[..., 0]),
        theta,
        np.where(tied[..., None], hessian, solved[..., 1:]),
        hessian,
        passes,
    )


def _solve_sum(hessian: FloatArray, curvature: FloatArray, right: FloatArray) -> FloatArray:
    """Solve (H + R) v = b in the units of the diagonal; least squares where H + R is singular."""
    total = hessian + curvature
    units = np.diagonal(total, axis1=1, axis2=2)
    solved = solve_positive(total, units, right)
    for b in np.flatnonzero(
        ~np.isfinite(solved).all(axis=(1, 2)) & np.isfinite(total).all(axis=(1, 2))
    ):
        scale = np.sqrt(np.maximum(units[b], TINY))[:, None]
        solved[b] = linalg.pinvh(total[b] / scale / scale.T) @ (right[b] / scale) / scale
    return solved
