r"""Pricing: what one logistic point with inputs in a box can contribute along a direction.

For the label -1 (residual :math:`\sigma(z) > 0`) and for +1 (residual :math:`-\sigma(-z) < 0`),

.. math:: \sigma_+(v) = \sup_{x \in X} \sigma(z)\,\langle v, (x, 1)\rangle, \qquad
          \sigma_-(v) = \sup_{x \in X} -\sigma(-z)\,\langle v, (x, 1)\rangle, \; z = \theta^\top x + b.

Both are :math:`\sup \sigma(M) V` over the pairs :math:`(M, V) = \pm(z, \langle v, (x, 1)\rangle)`, which
fill a zonogon. Where V > 0 the logarithm :math:`\log\sigma(M) + \log V` is concave and grows with both,
so the supremum lies on the upper right boundary: walk its vertices from the largest V to the largest M,
in the order of :math:`|\theta_j|/|v_j|`, and refine on the two edges at the best vertex (T3.5).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, log_expit

from gplconvex._types import FloatArray
from gplconvex.domains import Box
from gplconvex.losses import Logistic
from gplconvex.rounding import gamma


def supports(loss: Logistic, theta: FloatArray, v: FloatArray, domain: Box) -> tuple[float, float]:
    r"""Return upper bounds, equal up to rounding, of :math:`\sigma_+(v)` and :math:`\sigma_-(v)`.

    Parameters
    ----------
    loss : Logistic
    theta, v : array, shape (d,), or (d + 1,) with an intercept
        The model and the direction.
    domain : Box
        Where inputs may lie.

    Examples
    --------
    >>> supports(Logistic(), np.array([1.0]), np.array([-1.0]), Box(-5.0, 5.0))[0].__round__(6)
    0.278465
    """
    slope, b, direction, v0 = theta, 0.0, v, 0.0
    if loss.intercept:
        slope, b, direction, v0 = theta[:-1], float(theta[-1]), v[:-1], float(v[-1])
    low, high = domain.bounds(len(slope))
    return (
        _supremum(slope, b, direction, v0, low, high),
        _supremum(-slope, -b, -direction, -v0, low, high),
    )


def _supremum(
    a: FloatArray, a0: float, v: FloatArray, v0: float, low: FloatArray, high: FloatArray
) -> float:
    r"""Return the supremum of :math:`\sigma(a^\top x + a_0)\,(v^\top x + v_0)`, at least 0.

    Rounded up: by what the sums of M and V may be off, and the product of the two.
    """
    up = (v > 0.0) | ((v == 0.0) & (a > 0.0))
    x = np.where(up, high, low)
    against = np.flatnonzero(a * v < 0.0)  # moving these from their best V raises M
    order = against[np.argsort(-np.abs(a[against]) / np.abs(v[against]))]
    width = (high - low)[order]
    rise, fall = np.abs(a[order]) * width, np.abs(v[order]) * width
    m = math.fsum((a * x).tolist()) + a0 + np.concatenate([[0.0], np.cumsum(rise)])
    value = math.fsum((v * x).tolist()) + v0 - np.concatenate([[0.0], np.cumsum(fall)])
    largest = np.maximum(np.abs(low), np.abs(high))
    off = gamma(3 * len(a) + 8)
    m_off = off * (float(np.abs(a) @ largest) + abs(a0))
    value_off = off * (float(np.abs(v) @ largest) + abs(v0))
    if value[0] + value_off <= 0.0:
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.where(value > 0.0, log_expit(m) + np.log(value), -np.inf)
    best = int(np.argmax(heights))
    found = [(float(m[best]), max(float(value[best]), 0.0))]
    for edge in (best - 1, best):
        if 0 <= edge < len(order):
            found.append(_on_edge(m[edge], value[edge], rise[edge], fall[edge]))
    return max(
        float(expit(z + m_off)) * (height + value_off) * (1.0 + gamma(16)) for z, height in found
    )


def _on_edge(m: float, value: float, rise: float, fall: float) -> tuple[float, float]:
    r"""Return the point of :math:`(m + s\,\text{rise}, \text{value} - s\,\text{fall})` that is best."""

    def slope(s: float) -> float:
        return float(expit(-(m + s * rise))) * rise * (value - s * fall) - fall

    if slope(0.0) <= 0.0:
        return float(m), max(float(value), 0.0)
    s = 1.0 if slope(1.0) >= 0.0 else float(brentq(slope, 0.0, 1.0, xtol=1e-16))
    return float(m + s * rise), max(float(value - s * fall), 0.0)
