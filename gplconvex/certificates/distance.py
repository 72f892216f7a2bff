"""Bounds of the distance of rho from the optimum, one rule a function (T4)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates.gap import SLACK, Users, least_spread, total_of
from gplconvex.regularizers import Regularizer, lengths, norm, rounding_of, roundings_of
from gplconvex.rounding import gamma


def distances(
    regularizer: Regularizer,
    users: Users,
    report: FloatArray,
    gap: float,
    reaches: FloatArray,
) -> Iterator[tuple[float, str]]:
    r"""Yield every bound of :math:`|\rho - \rho^*|` that applies, each with its argument.

    Parameters
    ----------
    regularizer : Regularizer
    users : Users
        The users at the point.
    report : array
        The attacker's report b, or zeros.
    gap : float
        The duality gap.
    reaches : array, shape (N,)
        Bounds :math:`\delta_n \ge |\theta_n - \theta_n^*|`.
    """
    if regularizer.strong_convexity > 0.0:
        yield from _by_strong_convexity(regularizer, users, report, gap)
    elif np.isfinite(reaches).any():
        balls = np.where(np.isfinite(reaches), reaches, 0.0)
        lipschitz = users.losses.gradient_lipschitz(users.thetas, balls)
        # How far the gradients at the optimum may be from those here.
        off = np.where(np.isfinite(reaches), users.rounding + lipschitz * balls, math.inf)
        yield from _by_kink(regularizer, users, reaches, off)
        yield from _by_inverse(regularizer, users, reaches, off)
    yield from _by_directions(regularizer, users, report, reaches)


def _by_strong_convexity(
    regularizer: Regularizer, users: Users, report: FloatArray, gap: float
) -> Iterator[tuple[float, str]]:
    r"""Bounds from the strong convexity of :math:`\Phi = \sum_n M_n`.

    With r s-strongly convex and S-smooth (squared l2: s = S = 2 lam), Phi is m-strongly convex,
    :math:`m = \sum_n s\mu_n/(\mu_n + s)`, so that :math:`(m/2)|\rho-\rho^*|^2 \le` gap. Directly, the
    reply is off by at most :math:`\epsilon_n/(\mu_n+s)`,
    :math:`\epsilon_n = |\nabla L_n(\theta_n) - \nabla r(u_n)|`, and the gradient of Phi at rho by S
    times as much, so that
    :math:`|\rho-\rho^*| \le (|b + \sum_n\nabla r(u_n)| + \sum_n S\epsilon_n/(\mu_n+s))/m`.
    """
    s = regularizer.strong_convexity
    m = math.fsum(s * users.mu / (users.mu + s))
    if m == 0.0:
        return
    yield math.sqrt(2.0 * gap / m), "strong convexity of the envelopes, from the gap"
    reports = regularizer.gradient(users.u)
    total, allowance = total_of(report, reports)
    allowance += rounding_of(report) + math.fsum(roundings_of(reports))
    slope = max(norm(total), allowance) + allowance
    off = users.rounding + roundings_of(reports)
    mismatch = np.maximum(lengths(users.gradient - reports), off) + off
    slope += math.fsum(regularizer.smoothness * mismatch / (users.mu + s))
    yield slope / m, "strong convexity of the envelopes, from their gradient"


def _by_kink(
    regularizer: Regularizer, users: Users, reaches: FloatArray, off: FloatArray
) -> Iterator[tuple[float, str]]:
    r"""Bound from users at a kink: if :math:`|\nabla L_n| <` kink within the certified ball around
    :math:`\theta_n`, then :math:`\theta_n^* = \rho^*`, so that
    :math:`|\rho - \rho^*| \le |\rho - \theta_n| + |\theta_n - \theta_n^*|`.
    """  # noqa: D205
    tied = (lengths(users.gradient) + off) * SLACK < regularizer.kink
    if tied.any():
        bounds = np.where(tied, lengths(users.u) * SLACK + reaches, math.inf)
        n = int(np.argmin(bounds))
        yield float(bounds[n]), f"user {n} shares the global model exactly"


def _by_directions(
    regularizer: Regularizer, users: Users, report: FloatArray, reaches: FloatArray
) -> Iterator[tuple[float, str]]:
    r"""Bound for :math:`r = \lambda|u|` when every personal model differs from the global one.

    :math:`\rho^*` minimizes :math:`\psi(\rho') = E(\rho') + \sum_n \lambda|\rho' -
    \theta_n^*|`, a geometric median. With :math:`\delta_n \ge |\theta_n - \theta_n^*|`, its gradient
    at rho is at most :math:`\gamma = |b + \sum_n\lambda\hat u_n| + \sum_n 2\lambda\delta_n/|u_n|`, and
    within R of rho, where directions turn by at most :math:`e_n/|u_n|`, :math:`e_n = R + \delta_n`, its
    Hessian is at least :math:`\kappa_R = \lambda_{\min}\sum_n \lambda P_n/(|u_n| + e_n) - \sum_n \lambda
    (e_n/|u_n|)/(|u_n| + e_n)`. If :math:`\gamma < \kappa_R R` then :math:`|\rho-\rho^*| \le
    \gamma/\kappa_R`.
    """
    lam = regularizer.radius
    away = lengths(users.u)
    if regularizer.kink != lam or math.isinf(lam) or not (reaches < away).all():
        return
    units = users.u / away[:, None]
    total, total_off = total_of(report, lam * units)
    slope = (
        norm(total) + total_off + rounding_of(report) + lam * gamma(len(report) + 16) * len(away)
    )
    slope = (slope + math.fsum(2.0 * lam * reaches / away)) * SLACK

    def curvature(radius: float) -> float:
        turns = (radius + reaches) / away
        weights = lam / (away * (1.0 + turns))
        return least_spread(units, weights) - math.fsum(weights * turns) * SLACK

    flat = curvature(0.0)
    if flat > 0.0:
        radius = 2.0 * slope / flat
        kappa = curvature(radius)
        if slope < kappa * radius:
            yield slope / kappa, "the directions to the personal models pin rho down"


def _by_inverse(
    regularizer: Regularizer, users: Users, reaches: FloatArray, off: FloatArray
) -> Iterator[tuple[float, str]]:
    r"""Bound from :math:`\rho^* = \theta_n^* + (\nabla r)^{-1}(\nabla L_n(\theta_n^*))`, for each user.

    Both maps are Lipschitz on the certified ball around :math:`\theta_n`.
    """
    inverse = regularizer.inverse_lipschitz((lengths(users.gradient) + off) * SLACK)
    usable = np.isfinite(inverse)
    if not usable.any():
        return
    inverse, gradient = inverse[usable], users.gradient[usable]
    back = regularizer.inverse_gradient(gradient)
    # The closed form of the inverse rounds like its Lipschitz constant times the gradient.
    allowance = roundings_of(users.u[usable], back, inverse[:, None] * gradient)
    here = np.maximum(lengths(users.u[usable] - back), allowance) + allowance
    bounds = here + reaches[usable] + inverse * off[usable]
    n = int(np.argmin(bounds))
    yield float(bounds[n]), f"the report of user {np.flatnonzero(usable)[n]} determines rho"
