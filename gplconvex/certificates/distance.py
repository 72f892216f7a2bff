"""Bounds of the distance of rho from the optimum, one rule a function (T4)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates.gap import SLACK, User, sum_rounding
from gplconvex.regularizers import Regularizer, norm, rounding_of
from gplconvex.rounding import gamma


def distances(
    regularizer: Regularizer,
    users: list[User],
    report: FloatArray,
    gap: float,
    reaches: tuple[float, ...],
) -> Iterator[tuple[float, str]]:
    r"""Yield every bound of :math:`|\rho - \rho^*|` that applies, each with its argument.

    Parameters
    ----------
    regularizer : Regularizer
    users : list of User
        The users at the point.
    report : array
        The attacker's report b, or zeros.
    gap : float
        The duality gap.
    reaches : tuple of float
        Bounds :math:`\delta_n \ge |\theta_n - \theta_n^*|`.
    """
    yield from _by_strong_convexity(regularizer, users, report, gap)
    yield from _by_kink(regularizer, users, reaches)
    yield from _by_directions(regularizer, users, report, reaches)
    yield from _by_inverse(regularizer, users, reaches)


def _by_strong_convexity(
    regularizer: Regularizer, users: list[User], report: FloatArray, gap: float
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
    m = math.fsum(s * user.mu / (user.mu + s) for user in users) if s > 0.0 else 0.0
    if m == 0.0:
        return
    yield math.sqrt(2.0 * gap / m), "strong convexity of the envelopes, from the gap"
    reports = [regularizer.gradient(user.u) for user in users]
    allowance = sum_rounding([report, *reports]) + rounding_of(report, *reports)
    slope = max(norm(report + np.sum(reports, axis=0)), allowance) + allowance
    for user, g in zip(users, reports, strict=True):
        allowance = user.rounding + rounding_of(g)
        mismatch = max(norm(user.gradient - g), allowance) + allowance
        slope += regularizer.smoothness * mismatch / (user.mu + s)
    yield slope / m, "strong convexity of the envelopes, from their gradient"


def _by_kink(
    regularizer: Regularizer, users: list[User], reaches: tuple[float, ...]
) -> Iterator[tuple[float, str]]:
    r"""Bounds from users at a kink: if :math:`|\nabla L_n| <` kink within the certified ball around
    :math:`\theta_n`, then :math:`\theta_n^* = \rho^*`, so that
    :math:`|\rho - \rho^*| \le |\rho - \theta_n| + |\theta_n - \theta_n^*|`.
    """  # noqa: D205
    if regularizer.kink == 0.0:
        return
    for n, (user, reach) in enumerate(zip(users, reaches, strict=True)):
        if math.isfinite(reach):
            lipschitz = user.local.gradient_lipschitz(user.theta, reach)
            if (norm(user.gradient) + user.rounding + lipschitz * reach) * SLACK < regularizer.kink:
                yield norm(user.u) * SLACK + reach, f"user {n} shares the global model exactly"


def _by_directions(
    regularizer: Regularizer, users: list[User], report: FloatArray, reaches: tuple[float, ...]
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
    lengths = np.array([norm(user.u) for user in users])
    off = np.array(reaches)
    if regularizer.kink != lam or math.isinf(lam) or not (off < lengths).all():
        return
    units = np.array([user.u.ravel() / norm(user.u) for user in users])
    pull = norm(report.ravel() + lam * units.sum(axis=0)) + lam * gamma(units.size + 16) * len(
        users
    )
    slope = (pull + rounding_of(report) + float(np.sum(2.0 * lam * off / lengths))) * SLACK

    def curvature(radius: float) -> float:
        turns = (radius + off) / lengths
        weights = lam / (lengths * (1.0 + turns))
        spread = weights.sum() * np.eye(units.shape[1]) - (units.T * weights) @ units
        allowance = gamma(20 * units.size + 20) * weights.sum()
        return float(np.linalg.eigvalsh(spread)[0] - weights @ turns - allowance)

    flat = curvature(0.0)
    if flat > 0.0:
        radius = 2.0 * slope / flat
        kappa = curvature(radius)
        if slope < kappa * radius:
            yield slope / kappa, "the directions to the personal models pin rho down"


def _by_inverse(
    regularizer: Regularizer, users: list[User], reaches: tuple[float, ...]
) -> Iterator[tuple[float, str]]:
    r"""Bounds from :math:`\rho^* = \theta_n^* + (\nabla r)^{-1}(\nabla L_n(\theta_n^*))`, for each user.

    Both maps are Lipschitz on the certified ball around :math:`\theta_n`.
    """
    for n, (user, reach) in enumerate(zip(users, reaches, strict=True)):
        if not math.isfinite(reach):
            continue
        off = user.rounding + user.local.gradient_lipschitz(user.theta, reach) * reach
        inverse = regularizer.inverse_lipschitz((norm(user.gradient) + off) * SLACK)
        if math.isfinite(inverse):
            back = regularizer.inverse_gradient(user.gradient)
            # The closed form of the inverse rounds like its Lipschitz constant times the gradient.
            allowance = rounding_of(user.u, back, inverse * user.gradient)
            here = max(norm(user.u - back), allowance) + allowance
            yield here + reach + inverse * off, f"the report of user {n} determines rho"
