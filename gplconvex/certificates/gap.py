"""The duality gap: exact duals that sum to zero, and what each costs (T4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.local_losses import LocalLosses
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer, lengths, norm, rounding_of, roundings_of
from gplconvex.rounding import UNIT, gamma

LEAST_CURVATURE = 1e-100
"""Strong convexity below this counts as none."""

SLACK = 1.0 + 1e-12
"""Covers the rounding of the few positive terms that make up a bound."""


def rounded_curvature(mu: FloatArray) -> FloatArray:
    """Return mu, or 0 where it is so small that a square over it would underflow or overflow."""
    return np.where(mu >= LEAST_CURVATURE, mu, 0.0)


@dataclass(frozen=True)
class Users:
    r"""What the bounds need of all users, each number with its rounding allowance.

    Attributes
    ----------
    losses : LocalLosses
    thetas, u, gradient : arrays, shape (N, p)
        Models, :math:`\rho - \theta_n` and :math:`\nabla L_n(\theta_n)`.
    rounding : array, shape (N,)
        How far the gradients may be off.
    mu : array, shape (N,)
        Strong convexity of :math:`L_n` in the ball of ``radius`` (N,) around the model; 0 for none.
    """

    losses: LocalLosses
    thetas: FloatArray
    u: FloatArray
    gradient: FloatArray
    rounding: FloatArray
    mu: FloatArray
    radius: FloatArray

    @classmethod
    def at(cls, problem: Problem, rho: FloatArray, thetas: FloatArray) -> Users:
        """Return the users at a point, gradients in extended precision."""
        return cls.with_gradients(
            problem, rho, thetas, *problem.local_losses.certified_gradient(thetas)
        )

    @classmethod
    def with_gradients(
        cls,
        problem: Problem,
        rho: FloatArray,
        thetas: FloatArray,
        gradient: FloatArray,
        rounding: FloatArray,
    ) -> Users:
        """Return the users at a point where gradients are known."""
        losses = problem.local_losses
        mu = rounded_curvature(losses.strong_convexity)
        everywhere = np.full(len(thetas), math.inf)
        return cls(losses, thetas, rho - thetas, gradient, rounding, mu, everywhere)

    def near(self) -> Users:
        """Return them with curvature of balls around their models where there is none everywhere."""
        radius = self.losses.natural_radius
        wanting = (self.mu == 0.0) & (radius > 0.0) & (radius < math.inf)
        if not wanting.any():
            return self
        mu = rounded_curvature(
            self.losses.strong_convexity_near(self.thetas, np.where(wanting, radius, 0.0))
        )
        curved = wanting & (mu > 0.0)
        return replace(
            self,
            mu=np.where(curved, mu, self.mu),
            radius=np.where(curved, radius, math.inf),
        )

    def cost_of(self, g: FloatArray, off: FloatArray | float) -> FloatArray:
        r"""Return :math:`|g - \nabla L(\theta)|^2 / (2\mu)` for exact duals within ``off`` of g."""
        allowance = self.rounding + off
        # The floor makes the bound the same on machines that sum in another order.
        mismatch = np.maximum(lengths(g - self.gradient), allowance) + allowance
        return np.where(self.mu > 0.0, mismatch * mismatch / (2.0 * self.mu), math.inf)


@dataclass(frozen=True)
class Duals:
    """Exact duals that sum to zero, known up to rounding.

    What they cost each user; the largest norm; what the computed ones miss zero by, and how much of
    that the costs allow for (a consistency check).
    """

    costs: FloatArray
    largest: float
    imbalance: float
    allowance: float


def choose_duals(regularizer: Regularizer, users: Users, report: FloatArray) -> Duals:
    r"""Choose duals with :math:`b + \sum_n g_n = 0`, each in the domain of :math:`r^*`.

    Two duals are natural for a user: :math:`\nabla L_n(\theta_n)` has no curvature term, and
    :math:`\nabla r(u_n)` has no Fenchel-Young residual, *exactly*, even on the boundary of the domain,
    which a computed vector may miss. Each user gets the cheaper one. What is then missing
    from the sum is made up in one of three ways, whichever is cheapest.
    """
    natural = natural_duals(regularizer, users)
    missing, off = total_of(report, natural.vectors)
    off += rounding_of(report) + math.fsum(natural.off)
    ways = [_absorb(regularizer, users, natural, report, missing, off)]
    if regularizer.kink == regularizer.radius:  # r is lam |u|: its gradients lie on the sphere
        ways.append(_turn(regularizer, users, natural, missing, off))
        enough = min((_total(way) for way in ways if _fits(way, regularizer)), default=math.inf)
        if enough > off * math.fsum(lengths(users.u)):  # what the last way costs at least
            ways.append(_shrink(regularizer, users, natural, report, missing, off))
    possible = [duals for duals in ways if duals is not None]
    inside = [duals for duals in possible if _fits(duals, regularizer)]
    none = Duals(np.full(len(users.mu), math.inf), 0.0, 0.0, 0.0)
    return min(inside or possible or [none], key=_total)


def _fits(duals: Duals | None, regularizer: Regularizer) -> TypeGuard[Duals]:
    """Return whether there are duals that all lie in the domain of the conjugate."""
    return duals is not None and duals.largest <= regularizer.radius


def _total(duals: Duals) -> float:
    return math.fsum(duals.costs)


@dataclass(frozen=True)
class Natural:
    """The cheaper natural dual of every user; ``exact`` where it is grad r(u), known up to ``off``.

    With what it costs if it stays as it is, and its norm with rounding.
    """

    vectors: FloatArray
    exact: npt.NDArray[np.bool_]
    off: FloatArray
    costs: FloatArray
    sizes: FloatArray


def natural_duals(regularizer: Regularizer, users: Users) -> Natural:
    """Return the cheaper natural dual of every user."""
    curved = users.mu > 0.0
    # The gradient of the loss: clipped to the ball, or without curvature as it is, up to rounding.
    own, size = users.gradient, lengths(users.gradient)
    limit = regularizer.radius * (1.0 - gamma(own.shape[1] + 16))
    outside = curved & (size >= limit)
    own = np.where(outside[:, None], own * (limit / np.where(outside, size, 1.0))[:, None], own)
    own_off = np.where(curved, 0.0, users.rounding)
    own_costs = regularizer.fenchel_young(users.u, own, own_off)
    own_costs = own_costs + np.where(curved, users.cost_of(own, own_off), 0.0)
    # The gradient of the regularizer, where it is one vector.
    tied = regularizer.gradient(users.u)
    tied_off = roundings_of(tied)
    tied_costs = users.cost_of(tied, tied_off)
    single_valued = np.any(users.u, axis=1) if regularizer.kink > 0.0 else True
    exact = curved & single_valued & (tied_costs <= own_costs)
    return Natural(
        vectors=np.where(exact[:, None], tied, own),
        exact=exact,
        off=np.where(exact, tied_off, own_off),
        costs=np.where(exact, tied_costs, own_costs),
        sizes=np.where(
            exact, np.minimum(lengths(tied), regularizer.radius), lengths(own) + own_off
        ),
    )


def _absorb(
    regularizer: Regularizer,
    users: Users,
    natural: Natural,
    report: FloatArray,
    missing: FloatArray,
    off: float,
) -> Duals | None:
    """Let users with curvature and room make up what is missing, in proportion to their mu."""
    room = regularizer.radius * (1.0 - gamma(missing.size + 16)) - norm(missing) - off
    moves = (users.mu > 0.0) & (lengths(natural.vectors) < room)
    if not moves.any():
        return None
    weights = np.where(moves, users.mu, 0.0)
    weights = weights / math.fsum(weights)
    vectors = natural.vectors - weights[:, None] * missing
    roundings = roundings_of(vectors)
    spread = weights * (off + rounding_of(missing)) + roundings
    moved = regularizer.fenchel_young(users.u, vectors, spread) + users.cost_of(vectors, spread)
    sizes = np.where(moves, lengths(vectors) + spread, natural.sizes)
    rest, rest_off = total_of(report, vectors)
    return Duals(
        costs=np.where(moves, moved, natural.costs),
        largest=float(sizes.max()),
        imbalance=norm(rest),
        allowance=off + rest_off + rounding_of(report) + math.fsum(roundings),
    )


def _turn(
    regularizer: Regularizer, users: Users, natural: Natural, missing: FloatArray, off: float
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
    turning = natural.exact
    n_turning = int(turning.sum())
    if n_turning == 0:
        return None
    directions = users.u[turning]
    units = directions / lengths(directions)[:, None]
    kappa = least_spread(units, np.ones(n_turning))
    lam, size = regularizer.radius, norm(missing) + off
    if kappa <= 0.0 or 4.0 * n_turning * size > lam * kappa**2:
        return None
    angle = 2.0 * size / (lam * kappa) * SLACK
    turned = lam * lengths(users.u) * angle**2 / 2.0 * SLACK
    turned = turned + users.cost_of(natural.vectors, natural.off + lam * angle)
    costs = np.where(turning, turned, natural.costs)
    return Duals(costs, float(natural.sizes.max()), 0.0, off)


def _shrink(
    regularizer: Regularizer,
    users: Users,
    natural: Natural,
    report: FloatArray,
    missing: FloatArray,
    off: float,
) -> Duals | None:
    r"""Share what is missing equally, then shrink all duals into the ball: the sum stays zero.

    The last resort: it costs first order in what is missing, and needs no report to keep. Known to
    within ``off``, duals g that must lie in the ball cost :math:`|u|(\lambda - |g|) \ge |u|\,`
    ``off`` at least.
    """
    if report.any() or (users.mu == 0.0).any():
        return None
    vectors = natural.vectors - missing / len(users.mu)
    room = regularizer.radius * (1.0 - gamma(missing.size + 32)) - off
    largest = float(lengths(vectors).max())
    if room <= 0.0:
        return None
    vectors = vectors * (1.0 if largest <= room else room / largest)
    roundings = roundings_of(vectors)
    spread = off + roundings
    rest, rest_off = total_of(report, vectors)
    return Duals(
        costs=regularizer.fenchel_young(users.u, vectors, spread) + users.cost_of(vectors, spread),
        largest=float((lengths(vectors) + spread).max()),
        imbalance=norm(rest),
        allowance=off + rest_off + math.fsum(roundings),
    )


def least_spread(units: FloatArray, weights: FloatArray) -> float:
    r"""Return a lower bound of :math:`\lambda_{\min}(\sum_n w_n (I - \hat u_n\hat u_n^\top))`.

    That is :math:`\sum_n w_n` less the largest eigenvalue of :math:`B^\top B`, or of
    :math:`B B^\top`, whichever is smaller, with rows :math:`\sqrt{w_n}\,\hat u_n` of B.
    """
    rows = np.sqrt(weights)[:, None] * units
    gram = rows.T @ rows if units.shape[1] <= len(units) else rows @ rows.T
    total = math.fsum(weights)
    return total - float(np.linalg.eigvalsh(gram)[-1]) - gamma(20 * units.size + 20) * total


def total_of(report: FloatArray, vectors: FloatArray) -> tuple[FloatArray, float]:
    """Return the sum of a report and of all rows, and a bound of its rounding error."""
    total = (report + vectors.sum(axis=0, dtype=np.longdouble)).astype(np.float64)
    unit = (len(vectors) + 2) * float(np.finfo(np.longdouble).eps)
    off = unit * (norm(report) + math.fsum(lengths(vectors)))
    return total, off + 2.0 * UNIT * norm(total)
