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
from gplconvex.newton import Jet, minimize_near
from gplconvex.problem import LocalLoss, Problem, check_problem
from gplconvex.regularizers import Regularizer, norm
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
    return local_envelope(problem.locals[user], problem.regularizer, rho)


def local_envelope(
    local: LocalLoss, regularizer: Regularizer, rho: FloatArray, start: FloatArray | None = None
) -> Envelope:
    """Return the envelope of one local loss, starting the search for the reply at ``start``."""
    shape = rho.shape

    def oracle(point: FloatArray) -> Jet[None]:
        theta = point.reshape(shape)
        value = local.value(theta)
        if not math.isfinite(value):  # overflow far out: a line search steps back from here
            unknown = np.full((point.size, point.size), math.nan)
            return Jet(math.inf, unknown[0], unknown, unknown[0], None)
        hessian = local.hessian(theta)
        return Jet(value, local.gradient(theta).ravel(), hessian, np.diagonal(hessian), None)

    first = rho if start is None else start
    found = minimize_near(oracle, regularizer, rho.ravel(), first.ravel())
    theta = found.point.reshape(shape)
    u = rho - theta
    from_loss, hessian = found.jet.gradient, found.jet.hessian
    value = found.jet.value + regularizer.value(u)
    if math.isinf(regularizer.smoothness) and not u.any():
        return Envelope(value, from_loss.reshape(shape), theta, hessian, hessian)
    curved_at = u
    if regularizer.kink > 0.0:
        # Just beyond a kink less than half of the digits of u are right, or none. At the reply its
        # direction is that of grad L, which is known better.
        if norm(u) < math.sqrt(UNIT) * norm(rho):
            u = from_loss.reshape(shape) * (norm(u) / norm(from_loss))
        # R grows like 1/|u| there: beyond 1e8 H it changes nothing but drowns H in H + R.
        shortest = 1e-8 * regularizer.kink / norm(hessian) if hessian.any() else 0.0
        curved_at = u * max(1.0, shortest / norm(u))
    # The two expressions of the gradient differ by what the reply is off. One Newton step on it
    # gives grad r + R (H + R)^{-1} (grad L - grad r), which damps the rounding of either.
    from_regularizer = regularizer.gradient(u).ravel()
    curvature = regularizer.hessian(curved_at)
    mismatch = np.column_stack([from_loss - from_regularizer, hessian])
    solved = _solve_sum(hessian, curvature, mismatch)
    return Envelope(
        value,
        (from_regularizer + curvature @ solved[:, 0]).reshape(shape),
        theta,
        curvature @ solved[:, 1:],
        hessian,
    )


def _solve_sum(hessian: FloatArray, curvature: FloatArray, right: FloatArray) -> FloatArray:
    """Solve (H + R) v = b in the units of the diagonal; least squares where H + R is singular."""
    total = hessian + curvature
    scale = np.sqrt(np.maximum(np.diagonal(total), np.finfo(np.float64).tiny))
    scaled = total / scale / scale[:, None]
    try:
        factor = linalg.cho_factor(scaled, check_finite=False)
        solved = linalg.cho_solve(factor, right / scale[:, None], check_finite=False)
    except linalg.LinAlgError:
        solved = linalg.pinvh(scaled) @ (right / scale[:, None])
    return np.asarray(solved) / scale[:, None]
