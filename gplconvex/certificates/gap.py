"""The duality gap: exact duals that sum to zero, and what each costs (T4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.problem import LocalLoss
from gplconvex.regularizers import Regularizer, norm, rounding_of
from gplconvex.rounding import gamma

LEAST_CURVATURE = 1e-100
"""Strong convexity below this counts as none."""

SLACK = 1.0 + 1e-12
"""Covers the rounding of the few positive terms that make up a bound."""


def rounded_curvature(mu: float) -> float:
    """Return mu, or 0 where it is so small that a square over it would underflow or overflow."""
    return mu if mu >= LEAST_CURVATURE else 0.0


class User:
    """What the bounds need of one user, each number with its rounding allowance.

    With ``near``, a user without strong convexity everywhere gets that of a ball around theta.
    """

    def __init__(
        self,
        local: LocalLoss,
        regularizer: Regularizer,
        rho: FloatArray,
        theta: FloatArray,
        near: bool,
    ) -> None:
        self.local = local
        self.theta = theta
        self.u = rho - theta
        self.mu = rounded_curvature(local.strong_convexity)
        self.radius = math.inf
        if near and self.mu == 0.0 and 0.0 < local.natural_radius < math.inf:
            self.mu = rounded_curvature(local.strong_convexity_near(theta, local.natural_radius))
            self.radius = local.natural_radius if self.mu > 0.0 else math.inf
        self.gradient, self.rounding = local.certified_gradient(theta)
        self.at_kink = regularizer.kink > 0.0 and not self.u.any()

    def cost_of(self, g: FloatArray, off: float) -> float:
        r"""Return :math:`|g - \nabla L(\theta)|^2 / (2\mu)` for an exact dual within ``off`` of g."""
        allowance = self.rounding + off
        # The floor makes the bound the same on machines that sum in another order.
        mismatch = max(norm(g - self.gradient), allowance) + allowance
        return mismatch * mismatch / (2.0 * self.mu)


@dataclass(frozen=True)
class Duals:
    """Exact duals that sum to zero, known up to rounding.

    What they cost each user; the largest norm; what the computed ones miss zero by, and how much of
    that the costs allow for (a consistency check).
    """

    costs: list[float]
    largest: float
    imbalance: float
    allowance: float


def choose_duals(regularizer: Regularizer, users: list[User], report: FloatArray) -> Duals:
    r"""Choose duals with :math:`b + \sum_n g_n = 0`, each in the domain of :math:`r^*`.

    Two duals are natural for a user: :math:`\nabla L_n(\theta_n)` has no curvature term, and
    :math:`\nabla r(u_n)` has no Fenchel-Young residual, *exactly*, even on the boundary of the domain,
    which a computed vector may miss. Each user gets the cheaper one. What is then missing
    from the sum is made up in one of three ways, whichever is cheapest.
    """
    natural = [_natural_dual(regularizer, user) for user in users]
    ways = [_absorb(regularizer, users, natural, report)]
    if regularizer.kink == regularizer.radius:  # r is lam |u|: its gradients lie on the sphere
        ways += [
            _turn(regularizer, users, natural, report),
            _shrink(regularizer, users, natural, report),
        ]
    possible = [duals for duals in ways if duals is not None]
    inside = [duals for duals in possible if duals.largest <= regularizer.radius]
    none = Duals([math.inf] * len(users), 0.0, 0.0, 0.0)
    return min(inside or possible or [none], key=lambda duals: math.fsum(duals.costs))


@dataclass(frozen=True)
class Natural:
    """The cheaper natural dual of a user; ``exact`` when it is grad r(u), known up to ``off``."""

    vector: FloatArray
    exact: bool
    off: float


def _natural_dual(regularizer: Regularizer, user: User) -> Natural:
    if user.mu == 0.0:
        return Natural(user.gradient, False, user.rounding)  # the exact gradient, up to rounding
    g = user.gradient
    if norm(g) >= regularizer.radius * (1.0 - gamma(g.size + 16)):
        g = g * (regularizer.radius * (1.0 - gamma(g.size + 16)) / norm(g))
    own = Natural(g, False, 0.0)
    if user.at_kink:
        return own
    g = regularizer.gradient(user.u)
    exact = Natural(g, True, rounding_of(g))
    return min(exact, own, key=lambda dual: _stay(regularizer, user, dual)[0])


def _stay(regularizer: Regularizer, user: User, dual: Natural) -> tuple[float, float]:
    """Return what a user's natural dual costs, and its norm with rounding."""
    if dual.exact:
        return user.cost_of(dual.vector, dual.off), min(norm(dual.vector), regularizer.radius)
    cost = regularizer.fenchel_young(user.u, dual.vector, dual.off)
    if user.mu > 0.0:
        cost += user.cost_of(dual.vector, dual.off)
    return cost, norm(dual.vector) + dual.off


def _missing(natural: list[Natural], report: FloatArray) -> tuple[FloatArray, float]:
    """Return the sum of the natural duals and the report, and a bound of its rounding error."""
    vectors = [report, *(dual.vector for dual in natural)]
    off = sum_rounding(vectors) + rounding_of(report)
    return np.sum(vectors, axis=0), off + math.fsum(dual.off for dual in natural)


def _absorb(
    regularizer: Regularizer, users: list[User], natural: list[Natural], report: FloatArray
) -> Duals | None:
    """Let users with curvature and room make up what is missing, in proportion to their mu."""
    missing, off = _missing(natural, report)
    room = regularizer.radius * (1.0 - gamma(missing.size + 16)) - norm(missing) - off
    moves = [
        user.mu > 0.0 and norm(dual.vector) < room
        for user, dual in zip(users, natural, strict=True)
    ]
    if not any(moves):
        return None
    total = math.fsum(user.mu for user, free in zip(users, moves, strict=True) if free)
    vectors, costs, sizes = [report], [], []
    for user, dual, free in zip(users, natural, moves, strict=True):
        if free:
            weight = user.mu / total
            g = dual.vector - weight * missing
            spread = weight * (off + rounding_of(missing)) + rounding_of(g)
            cost = regularizer.fenchel_young(user.u, g, spread) + user.cost_of(g, spread)
            size = norm(g) + spread
        else:
            g = dual.vector
            cost, size = _stay(regularizer, user, dual)
        vectors.append(g)
        costs.append(cost)
        sizes.append(size)
    allowance = off + sum_rounding(vectors) + rounding_of(*vectors)
    return Duals(costs, max(sizes), norm(np.sum(vectors, axis=0)), allowance)


def _turn(
    regularizer: Regularizer, users: list[User], natural: list[Natural], report: FloatArray
) -> Duals | None:
    r"""Turn the duals :math:`\lambda\hat u_n` slightly, on the sphere, until the sum is zero.

    With :math:`P_n = I - \hat u_n\hat u_n^\top` and :math:`K = \sum_n P_n \succeq \kappa I`, the duals
    :math:`g_n(y) = \lambda(\hat u_n + P_n y)/\sqrt{1 + |P_n y|^2}` sum to
    :math:`s + \lambda K y + O(y)`, s what is missing and :math:`|O(y)| \le N\lambda|y|^2`. If
    :math:`4 N |s| \le \lambda\kappa^2`, the map :math:`y \mapsto -(\lambda K)^{-1}(s + O(y))` takes the
    ball of radius :math:`t = 2|s|/(\lambda\kappa)` into itself, so by Brouwer some y in it makes the sum
    zero exactly, at :math:`e(u_n, g_n) \le \lambda|u_n|t^2/2` and
    :math:`|g_n - \lambda\hat u_n| \le \lambda t`.
    """
    turning = [
        user for user, dual in zip(users, natural, strict=True) if dual.exact and user.mu > 0.0
    ]
    if not turning:
        return None
    missing, off = _missing(natural, report)
    units = np.array([user.u.ravel() / norm(user.u) for user in turning])
    spread = len(turning) * np.eye(units.shape[1]) - units.T @ units
    kappa = float(np.linalg.eigvalsh(spread)[0]) - gamma(20 * units.size + 20) * len(turning)
    lam, size = regularizer.radius, norm(missing) + off
    if kappa <= 0.0 or 4.0 * len(turning) * size > lam * kappa**2:
        return None
    angle = 2.0 * size / (lam * kappa) * SLACK
    costs = [
        lam * norm(user.u) * angle**2 / 2.0 * SLACK
        + user.cost_of(dual.vector, dual.off + lam * angle)
        if dual.exact
        else _stay(regularizer, user, dual)[0]
        for user, dual in zip(users, natural, strict=True)
    ]
    sizes = [_stay(regularizer, user, dual)[1] for user, dual in zip(users, natural, strict=True)]
    return Duals(costs, max(sizes), 0.0, off)


def _shrink(
    regularizer: Regularizer, users: list[User], natural: list[Natural], report: FloatArray
) -> Duals | None:
    """Share what is missing equally, then shrink all duals into the ball: the sum stays zero.

    The last resort: it costs first order in what is missing, and needs no report to keep.
    """
    if report.any() or any(user.mu == 0.0 for user in users):
        return None
    missing, off = _missing(natural, report)
    vectors = [dual.vector - missing / len(users) for dual in natural]
    room = regularizer.radius * (1.0 - gamma(missing.size + 32)) - off
    largest = max(map(norm, vectors))
    if room <= 0.0:
        return None
    factor = 1.0 if largest <= room else room / largest
    costs, sizes = [], []
    for user, vector in zip(users, vectors, strict=True):
        g = factor * vector
        spread = off + rounding_of(g)
        costs.append(regularizer.fenchel_young(user.u, g, spread) + user.cost_of(g, spread))
        sizes.append(norm(g) + spread)
    return Duals(costs, max(sizes), norm(np.sum(vectors, axis=0)), 2.0 * off)


def sum_rounding(vectors: Sequence[FloatArray]) -> float:
    """Return a bound of the rounding error of a sum of vectors."""
    return gamma(len(vectors)) * math.fsum(map(norm, vectors))
