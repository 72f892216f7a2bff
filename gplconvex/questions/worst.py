r"""The point of a domain that a given model fits worst, and how badly.

.. math:: S(t) = \sup_{x \in D,\,y} \Big[\varphi(t^\top x, y) - \inf_z \varphi(z, y)\Big].

The bracket is convex in the predictor and in the label, so that ends of their ranges decide; for K
classes each difference :math:`z_k - z_y` is bounded by its own largest value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, xlogy

from gplconvex._types import FloatArray
from gplconvex.domains import Domain
from gplconvex.errors import UnsupportedCombinationError
from gplconvex.losses import LeastSquares, Logistic, Loss, Poisson, Softmax
from gplconvex.realization.bounded.lens import Shape
from gplconvex.rounding import UNIT, gamma


@dataclass(frozen=True)
class Worst:
    """An upper bound of S(t), and a point that attains it or, for K > 2 classes, nearly so."""

    value: float
    x: FloatArray
    y: float


def worst_point(loss: Loss, t: FloatArray, domain: Domain) -> Worst:
    """Return the point that fits the model t worst; its value is rounded up, and may be ``inf``."""
    if isinstance(loss, Softmax):
        return _worst_class(loss, t, domain)
    slope, b = (t[:-1], float(t[-1])) if loss.intercept else (t, 0.0)
    ends = [
        (sign * (most + off), x)
        for sign in (1.0, -1.0)
        for most, off, x in [support(domain, sign * slope, sign * b)]
    ]
    found = [Worst(_rounded_up(loss, z, y), x, y) for z, x in ends for y in _labels(loss, domain)]
    return max(found, key=lambda point: point.value)


def excess(loss: Loss, z: FloatArray, y: float) -> float:
    r"""Return :math:`\varphi(z, y) - \inf \varphi(\cdot, y)` of one point, z of shape (1,) or (1, K)."""
    least = y - float(xlogy(y, y)) if isinstance(loss, Poisson) else 0.0
    return float(loss.value(z, np.array([y]))[0]) - least


def _rounded_up(loss: Loss, z: float, y: float) -> float:
    """Return the excess at a predictor that may be infinite, and what its evaluation may be off."""
    if not (math.isfinite(z) and math.isfinite(y)):
        return math.inf
    value = excess(loss, np.array([z]), y)
    return value + 16.0 * UNIT * (value + abs(y * z) + 2.0 * abs(float(xlogy(abs(y), abs(y)))))


def _labels(loss: Loss, domain: Domain) -> tuple[float, float]:
    if isinstance(loss, Logistic):
        return -1.0, 1.0
    if not isinstance(loss, (LeastSquares, Poisson)):
        raise UnsupportedCombinationError(
            f"nothing is known about the labels of {loss!r}: LeastSquares, Logistic, Poisson and "
            "Softmax can be audited"
        )
    low, high = domain.labels or (-math.inf, math.inf)
    return (max(low, 0.0), high) if isinstance(loss, Poisson) else (low, high)


def _worst_class(loss: Softmax, t: FloatArray, domain: Domain) -> Worst:
    slopes, b = (t[:-1], t[-1]) if loss.intercept else (t, np.zeros(loss.n_classes))
    found = []
    for y in range(loss.n_classes):
        ahead, inputs = [0.0], []
        for k in range(loss.n_classes):
            if k == y:
                continue
            most, off, x = support(domain, slopes[:, k] - slopes[:, y], float(b[k] - b[y]))
            ahead.append(most + off)
            inputs.append(x)
        value = float(logsumexp(ahead)) * (1.0 + gamma(loss.n_classes + 16))
        if math.isfinite(value):
            z = loss.predictor(np.stack(inputs), t)
            fits = loss.value(z, np.full(len(z), float(y)))
            found.append(Worst(value, inputs[int(np.argmax(fits))], float(y)))
        else:
            found.append(Worst(math.inf, inputs[0], float(y)))
    return max(found, key=lambda point: point.value)


def support(domain: Domain, u: FloatArray, b: float = 0.0) -> tuple[float, float, FloatArray]:
    r"""Return :math:`\sup_{x\in D} u^\top x + b`, a bound of its rounding, and an x that attains it."""
    shape = Shape.of(domain, len(u))
    x, value = shape.top(u), shape.support(u)
    if not math.isfinite(value):
        return math.inf, 0.0, shape.inside(np.zeros_like(u))
    return value + b, gamma(2 * len(u) + 8) * (shape.magnitude(u) + abs(b)), x
