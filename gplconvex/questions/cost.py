r"""What a target costs: the least weight of points that make it the optimum, and its gradient.

At a target :math:`\rho` the attacker needs (T2.5)

.. math:: g = -\sum_n \nabla M_n(\rho), \qquad \theta = \rho - (\nabla r)^{-1}(g), \qquad
          h = g - 2\nu\theta,

and the cost is the gauge of h at :math:`\theta` (T3.1), a lower bound of every number of points. By the
envelope theorem its derivatives are v in h, the direction of the gauge, and in :math:`\theta`

.. math:: -\sum_i c_i\,\varphi''(z_i, y_i)\,\langle v, (x_i, 1)\rangle\,(x_i, 1)

over the points of weight c_i that attain it. With :math:`\mathcal{H} = \sum_n \nabla^2 M_n(\rho)` and
R the Hessian of r at :math:`\rho - \theta` the chain rule adds :math:`\mathrm{d}g =
-\mathcal{H}\,\mathrm{d}\rho` and :math:`\mathrm{d}\theta = (I + R^{-1}\mathcal{H})\,\mathrm{d}\rho`;
where r has a kink, :math:`\theta = \rho`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import float_array
from gplconvex.domains import Domain, Unbounded
from gplconvex.envelope import envelopes
from gplconvex.equivalence import attacker_nu
from gplconvex.errors import (
    InvalidInputError,
    UnrealizableGradientError,
    UnsupportedCombinationError,
)
from gplconvex.problem import Problem, check_problem
from gplconvex.realization import gauge
from gplconvex.replies import replies
from gplconvex.solvers import fits_newton


@dataclass(frozen=True)
class Cost:
    """The gauge at a target, `inf` out of reach, and its gradient there, shape (p,)."""

    value: float
    gradient: FloatArray


class Costs:
    """The cost as a function of the target, for one attacker.

    Parameters
    ----------
    problem : Problem
        The honest users.
    domain : Domain
        Where the attacker's points may lie.
    nu : float, optional
        The attacker's ridge; default, the one that all users share.
    """

    def __init__(self, problem: Problem, domain: Domain, nu: float | None = None) -> None:
        check_problem(problem)
        if not isinstance(domain, Domain):
            raise InvalidInputError(f"domain must be a Domain such as Box(0, 1); got {domain!r}")
        self.problem, self.domain, self.nu = problem, domain, attacker_nu(problem, nu)

    def value(self, rho: FloatArray) -> float:
        """Return the cost of a target, an array of the shape of a model."""
        pull = replies(self.problem, rho).gradient.sum(axis=0)
        found = self._gauge(rho.ravel(), -pull)
        return math.inf if found is None else found[0]

    def at(self, rho: FloatArray) -> Cost:
        """Return the cost of a flattened target, with its gradient."""
        problem, r = self.problem, self.problem.regularizer
        honest = envelopes(problem.local_losses, r, np.tile(rho, (problem.n_users, 1)))
        g = -honest.gradient.sum(axis=0)
        found = self._gauge(rho, g)
        if found is None:
            return Cost(math.inf, np.zeros_like(rho))
        value, v, by_theta = found
        hessian = honest.hessian.sum(axis=0)
        by_theta = by_theta - 2.0 * self.nu * v
        through_g = v
        if r.kink == 0.0:
            through_g = v - np.linalg.solve(r.hessian(r.inverse_gradient(g)), by_theta)
        return Cost(value, by_theta - hessian @ through_g)

    def needs_hessians(self, who: str) -> None:
        """Raise `UnsupportedCombinationError` unless models are small enough for `at`."""
        if not fits_newton(self.problem):
            raise UnsupportedCombinationError(
                f"{who} searches with the Hessians of all users, which do not fit for "
                f"{math.prod(self.problem.shape)} parameters: ask for a given target with audit, or "
                "choose fewer features"
            )

    def _gauge(self, rho: FloatArray, g: FloatArray) -> tuple[float, FloatArray, FloatArray] | None:
        r"""Return the gauge and its derivatives in h and :math:`\theta`; None out of reach."""
        problem, loss = self.problem, self.problem.loss
        if not (np.isfinite(g).all() and problem.regularizer.is_reachable(g)):
            return None
        theta = rho - problem.regularizer.inverse_gradient(g)
        h = g - 2.0 * self.nu * theta
        theta, h = theta.reshape(problem.shape), h.reshape(problem.shape)
        try:
            found = gauge(loss, theta, h, self.domain)
        except UnrealizableGradientError:
            return None
        v, weights = found.direction, found.weights
        if not len(weights):
            return found.value, v.ravel(), np.zeros_like(rho)
        bend = loss.curvature_times(
            loss.predictor(found.x, theta), found.y, loss.predictor(found.x, v)
        )
        moved = loss.pullback(found.x, (bend.T * weights).T)
        return found.value, v.ravel(), -moved.ravel()


@dataclass(frozen=True, eq=False, repr=False)
class CostMap:
    r"""How many points it takes to make each target of a plane the optimum.

    Attributes
    ----------
    center : array, shape of a model
        The target at (0, 0).
    directions : array, shape (2, *shape of a model)
        The two axes.
    first, second : arrays, shapes (n,), (m,)
        Coordinates along them.
    points : array, shape (n, m)
        The gauge at ``center + first[i] * directions[0] + second[j] * directions[1]``: every integer
        number of points is at least as large. ``inf`` where no points whatever do.
    problem : Problem
        The honest users.
    domain : Domain
        Where the attacker's points may lie.
    """

    center: FloatArray
    directions: FloatArray
    first: FloatArray
    second: FloatArray
    points: FloatArray
    problem: Problem
    domain: Domain

    def __repr__(self) -> str:
        reachable = self.points[np.isfinite(self.points)]
        span = (
            f"{reachable.min():.4g} to {reachable.max():.4g}" if reachable.size else "no number of"
        )
        return f"<CostMap: {len(self.first)} x {len(self.second)} targets, {span} points>"


def cost_map(
    problem: Problem,
    center: npt.ArrayLike,
    directions: Sequence[npt.ArrayLike],
    *,
    extent: Sequence[Sequence[float]] = ((-1.0, 1.0), (-1.0, 1.0)),
    resolution: int | tuple[int, int] = 21,
    nu: float | None = None,
    domain: Domain = Unbounded(),
) -> CostMap:
    r"""Return the number of points that each target of a plane costs, as a real number (T3.1).

    Parameters
    ----------
    problem : Problem
        The honest users.
    center : array_like, shape of a model
        The target in the middle, such as the honest optimum.
    directions : two array_likes, shape of a model
        The axes of the plane, such as ``target - honest.rho`` and another one.
    extent : two pairs of numbers
        From where to where along each axis, in units of its direction.
    resolution : int, or a pair
        Number of targets along each axis, at least 2.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the attacker's points may lie.

    Returns
    -------
    CostMap
        To be drawn by `gplconvex.plots.cost_map`.

    Raises
    ------
    InvalidInputError
        If shapes or numbers do not fit.
    UnsupportedCombinationError
        As `gauge`.

    Notes
    -----
    Source: T3.6. With a kinked regularizer targets beyond lam cost ``inf``.

    Examples
    --------
    >>> from gplconvex import Box, Dataset, HardConsensus, Logistic, solve
    >>> data = Dataset([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [1.0, -1.0, 1.0], [50, 50, 30])
    >>> honest = Problem(Logistic(intercept=True), HardConsensus(), [data], nu=1.0)
    >>> axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    >>> found = cost_map(
    ...     honest, solve(honest).rho, axes, resolution=3, nu=0.0, domain=Box(-1.0, 1.0)
    ... )
    >>> found.points.round(1)
    array([[ 11.3,   9.9,  19. ],
           [ 54.5,   0. ,   9.1],
           [111.1,  62.1,  20. ]])
    """
    costs = Costs(problem, domain, nu)
    center = problem.check_model("center", center)
    if not isinstance(directions, (Sequence, np.ndarray)) or len(directions) != 2:
        raise InvalidInputError("directions must be two models, the axes of the plane")
    axes = np.stack([problem.check_model(f"directions[{i}]", v) for i, v in enumerate(directions)])
    if np.linalg.matrix_rank(axes.reshape(2, -1)) < 2:
        raise InvalidInputError(
            "directions must span a plane; one is zero, or they are multiples of each other"
        )
    spans = float_array("extent", [list(pair) for pair in extent])
    if spans.shape != (2, 2) or not (
        np.isfinite(spans).all() and (spans[:, 0] < spans[:, 1]).all()
    ):
        raise InvalidInputError(
            f"extent must be two pairs (from, to), finite and in order; got {spans.tolist()}"
        )
    sizes = resolution if isinstance(resolution, (tuple, list)) else (resolution, resolution)
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes)
    if not (len(sizes) == 2 and whole and min(sizes) >= 2):
        raise InvalidInputError(
            f"resolution must be an integer from 2, or a pair of them; got {resolution!r}"
        )
    first, second = (
        np.linspace(low, high, int(n)) for (low, high), n in zip(spans.tolist(), sizes, strict=True)
    )
    points = [
        [costs.value(center + a * axes[0] + b * axes[1]) for b in second.tolist()]
        for a in first.tolist()
    ]
    return CostMap(center, axes, first, second, np.array(points), problem, domain)
