r"""Pricing: what one point of a domain can contribute along a direction.

A point with residual of sign :math:`\epsilon` and margin :math:`M = \epsilon z` contributes at most
:math:`r(M)\,V` with :math:`V = \epsilon\langle v, (x, 1)\rangle`. The pairs (M, V) fill a convex set
(over a box, a zonogon), whose supporting lines are :math:`V + pM \le S(p)`, :math:`p \ge 0`, S being the
support function of the domain. Every p gives an upper bound,

.. math:: \sup_x r(M) V \;\le\; \max_{M \le \bar M} r(M)\,(S(p) - pM), \qquad \bar M = \sup_x M,

and, :math:`\log r` being concave, the best p gives the supremum itself: where the maximizing M is that
of the point at which the line touches.
"""

from __future__ import annotations

import math

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.domains import Domain
from gplconvex.losses import Loss
from gplconvex.realization.bounded.branches import Branch, branches
from gplconvex.realization.bounded.lens import Shape
from gplconvex.realization.bounded.roots import root
from gplconvex.rounding import UNIT, gamma

STEEPEST = 2.0**60
"""The range of slopes p, relative to the ratio of the sizes of v and theta, on both sides."""


def supports(loss: Loss, theta: FloatArray, v: FloatArray, domain: Domain) -> tuple[float, float]:
    r"""Return upper bounds of :math:`\sup\langle v, \text{gradient}\rangle` over points of a domain.

    Parameters
    ----------
    loss : Logistic, LeastSquares or Poisson
    theta, v : array, shape (d,), or (d + 1,) with an intercept
        The model and the direction.
    domain : Domain
        Where points may lie.

    Returns
    -------
    pair of floats
        For points with residuals above and below 0; equal to the suprema up to rounding, at least 0.

    Examples
    --------
    >>> from gplconvex import Box, Logistic
    >>> supports(Logistic(), np.array([1.0]), np.array([-1.0]), Box(-5.0, 5.0))[0].__round__(6)
    0.278465
    """
    slope, b, direction, v0 = theta, 0.0, v, 0.0
    if loss.intercept:
        slope, b, direction, v0 = theta[:-1], float(theta[-1]), v[:-1], float(v[-1])
    shape = Shape.of(domain, len(slope))
    plus, minus = branches(loss, domain.labels or (-math.inf, math.inf))
    return (
        _supremum(plus, shape, slope, b, direction, v0),
        _supremum(minus, shape, -slope, -b, -direction, -v0),
    )


def _supremum(
    branch: Branch, shape: Shape, a: FloatArray, a0: float, u: FloatArray, u0: float
) -> float:
    r"""Return the supremum of :math:`r(a^\top x + a_0)\,(u^\top x + u_0)`, rounded up, or 0."""
    off = gamma(2 * len(a) + 8)

    def upper(p: float) -> float:
        """Return S(p), rounded up."""
        slope = _line(shape, u, a, p)
        if slope is None:
            return math.inf
        return shape.support(slope) + u0 + p * a0 + off * (size_u + p * size_a)

    size_u, size_a = shape.magnitude(u) + abs(u0), shape.magnitude(a) + abs(a0)
    most = shape.support(a) + a0 + off * size_a
    highest = upper(0.0)
    if highest <= 0.0 or most <= branch.lowest:
        return 0.0
    if branch.unlimited:
        return math.inf

    def best(p: float) -> float:
        """Return the maximizing M, of those up to the largest."""
        s = upper(p)
        if s == math.inf:
            return most
        if p == 0.0 or s / p <= branch.lowest:
            return most if p == 0.0 else branch.lowest
        return min(branch.best(s / p), most)

    def bound(p: float) -> float:
        s, m = upper(p), best(p)
        if s == math.inf or (m == math.inf and branch.top == math.inf):
            return math.inf
        if m == math.inf:
            return branch.top * s
        if m <= branch.lowest:
            return 0.0
        height = max(s - p * m, 0.0) + 4.0 * UNIT * (
            abs(s) + p * abs(m)
        )  # the difference may cancel
        return max(branch.rate(m), 0.0) * height * (1.0 + gamma(64))

    def excess(q: float) -> float:
        """Return the maximizing M less that of the point where the line of slope exp(q) touches."""
        p = math.exp(q)
        slope = _line(shape, u, a, p)
        return 0.0 if slope is None else best(p) - (float(a @ shape.top(slope)) + a0)

    found = [bound(0.0), bound(1.0)]
    size = float(np.max(np.abs(a), initial=0.0))
    if size > 0.0 and found[0] > 0.0:
        scale = float(np.max(np.abs(u), initial=0.0)) / size or 1.0
        flattest, steepest = shape.slopes(u, a)
        flattest = max(scale / STEEPEST, flattest * (1.0 + 16.0 * UNIT))
        steepest = min(scale * STEEPEST, steepest * (1.0 - 16.0 * UNIT))
        if flattest < steepest:
            low, high = math.log(flattest), math.log(steepest)
            found += [bound(math.exp(q)) for q in (low, 0.5 * (low + high), high)]
            if excess(low) > 0.0 > excess(high):
                best_q = root(excess, low, high, xtol=UNIT)
                found += [bound(math.exp(best_q + shift * UNIT)) for shift in (-16, -4, 0, 4, 16)]
    return min(found)


def _line(shape: Shape, u: FloatArray, a: FloatArray, p: float) -> FloatArray | None:
    """Return u + p a, or None if its support is infinite, or rounding leaves that open.

    The sum of two numbers has the right sign, so p = 0 and p = 1 are exact.
    """
    slope = np.asarray(u + p * a)
    if p not in (0.0, 1.0):
        doubt = np.abs(slope) <= 2.0 * UNIT * np.abs(p * a)
        for sign in (-1.0, 1.0):
            if not math.isfinite(shape.support(np.where(doubt, sign * np.abs(p * a), 0.0))):
                return None
    return slope if math.isfinite(shape.support(slope)) else None
