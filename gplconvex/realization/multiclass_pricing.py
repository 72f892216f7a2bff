r"""Pricing: what one K-class point with inputs in a box can contribute along a direction, at most.

A point (x, 1) of label y, with logits :math:`z = \Theta^\top x` and probabilities p, contributes along V

.. math:: \langle V, x\,(p - e_y)^\top\rangle = \sum_k p_k\,(V_k - V_y)^\top x .

Its :math:`X_k = p_k x` lie in :math:`p_k\,[l, u]`, and :math:`p_l = p_k e^{-a^\top x}`,
:math:`a = \Theta_k - \Theta_l`. The exponential lies above its tangents, so for all
:math:`w, s > 0`, the tangent at :math:`\log(w/s)`,

.. math:: w\,a^\top X_k + s\,p_l - w \Bigl(1 + \log\frac{s}{w}\Bigr) p_k \ge 0 .

Adding these for all pairs leaves a sum :math:`\sum_k p_k\,(\ldots)` that is linear in x, and no more
than its largest term. Hence for any positive numbers :math:`w_{kl}, s_{kl}`, one pair of matrices for
each label,

.. math:: \sup_x \sum_k p_k (V_k - V_y)^\top x \;\le\; \max_k \Bigl[\sup_{x \in [l, u]} U_k^\top x
          + \sum_l \Bigl(s_{lk} - w_{kl} - w_{kl}\log\frac{s_{kl}}{w_{kl}}\Bigr)\Bigr], \qquad
          U_k = V_k - V_y + \sum_l w_{kl} (\Theta_k - \Theta_l).

The supremum of a linear function over a box is a sum. The best V, w, s are the dual solution of the
program in which the :math:`X_k` are any vectors, not multiples of one x: a convex program
(`gplconvex.realization.softmax.relaxation`). With two classes it is exact: the gauge of T3.5.
"""

from __future__ import annotations

import math

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.domains import Box, Domain
from gplconvex.losses import Softmax
from gplconvex.rounding import UNIT, gamma


def extended_bounds(loss: Softmax, theta: FloatArray, domain: Box) -> tuple[FloatArray, FloatArray]:
    """Return the bounds of inputs, and 1 and 1 for the intercept's feature."""
    low, high = domain.bounds(len(theta) - loss.intercept)
    ones = np.ones(int(loss.intercept))
    return np.concatenate([low, ones]), np.concatenate([high, ones])


def price(
    loss: Softmax, theta: FloatArray, v: FloatArray, multipliers: FloatArray, domain: Box
) -> float:
    r"""Return an upper bound of :math:`\langle V, \nabla\varphi\rangle` over all points of the box.

    Rounded up, for labels that are classes or distributions (what a point contributes is linear in y).

    Parameters
    ----------
    loss : Softmax
    theta, v : array, shape (d, K), or (d + 1, K) with an intercept
        The model and the direction.
    multipliers : array, shape (2, K, K, K)
        w and s, indexed by y, k and l, positive where k and l differ.
    domain : Box
        Where inputs may lie.

    Examples
    --------
    >>> theta = np.array([[1.0, -1.0]])
    >>> kappa = 0.2784645427610738  # along -theta, with w = 1 and log(s / w) = -(1 + kappa)
    >>> w = np.ones((2, 2, 2))
    >>> price(
    ...     Softmax(2), theta, -theta, np.stack([w, np.exp(-1 - kappa) * w]), Box(-9.0, 9.0)
    ... ) >= kappa
    True
    """
    low, high = extended_bounds(loss, theta, domain)
    w, s = multipliers * ~np.eye(loss.n_classes, dtype=bool)
    columns, directions = theta.T, v.T
    u = directions - directions[:, None] + w.sum(axis=2)[:, :, None] * columns - w @ columns
    log_ratio = np.log(np.where(w > 0.0, s, 1.0) / np.where(w > 0.0, w, 1.0))
    value = np.maximum(u * low, u * high).sum(axis=2)
    value += s.sum(axis=1) - (w * (1.0 + log_ratio)).sum(axis=2)
    # What the sums are made of, for their rounding.
    largest = np.maximum(np.abs(low), np.abs(high))
    size = (np.abs(directions) + np.abs(directions[:, None])) @ largest
    size += w.sum(axis=2) * (np.abs(columns) @ largest) + w @ (np.abs(columns) @ largest)
    size += s.sum(axis=1) + (w * (1.0 + np.abs(log_ratio))).sum(axis=2)
    return float(np.max(value + gamma(len(theta) + 4 * loss.n_classes + 16) * size))


def enough(
    loss: Softmax,
    theta: FloatArray,
    h: FloatArray,
    v: FloatArray,
    multipliers: FloatArray,
    domain: Box,
) -> tuple[int, float]:
    r"""Return a number of points that no dataset in the box with gradient H can beat, and the price.

    k points contribute at most k times the price along V, and H is :math:`\langle V, H\rangle` (T3.1).
    Rows of H sum to 0 up to rounding, for which as much again is taken off.
    """
    most = price(loss, theta, v, multipliers, domain)
    products = (v * h).ravel().tolist()
    off = 4.0 * UNIT * loss.n_classes * math.fsum(map(abs, products))
    least = math.fsum(products) - off
    if not 0.0 < most < math.inf:
        return 0, most
    return max(0, math.ceil(least / most * (1.0 - 8.0 * UNIT))), most


def check_bounded_classes(
    loss: Softmax,
    theta: FloatArray,
    h: FloatArray,
    value: int,
    direction: object,
    multipliers: tuple[float, ...],
    domain: Domain,
) -> list[Check]:
    """Check the argument "bounded inputs" for K classes: that fewer points do not reach H along V."""
    if not isinstance(domain, Box):
        return [Check("a box", 1.0, 0.0, "<=", f"got {domain!r}")]
    n = loss.n_classes
    v, w = np.asarray(direction, dtype=np.float64), np.asarray(multipliers, dtype=np.float64)
    if direction is None or v.shape != theta.shape or w.size != 2 * n**3:
        meaning = f"got shape {v.shape} and {w.size} multipliers"
        return [Check("a direction and 2 K^3 multipliers", 1.0, 0.0, "<=", meaning)]
    off_diagonal = w.reshape(2, n, n, n)[:, :, ~np.eye(n, dtype=bool)]
    if not (np.isfinite(v).all() and np.isfinite(w).all() and (off_diagonal > 0.0).all()):
        return [Check("finite direction, positive multipliers", 1.0, 0.0, "<=", "not so")]
    proved, _ = enough(loss, theta, h, v, w.reshape(2, n, n, n), domain)
    return [Check("points", value, proved, "<=", "<V, H> over what one point can contribute")]
