r"""Poisson regression, inputs unbounded: one point, or two.

A point has the residual :math:`w = e^z - y`, and its input x must satisfy :math:`x w = h`.

*Without intercept* one point does: :math:`z w = s := \theta^\top h` has a solution for some count y.
For :math:`s \ge -1/e` it is y = 0, where :math:`z e^z = s` says z = W(s); for smaller s the label must
exceed :math:`\min_{z > 0} (e^z + |s|/z)`, and then :math:`y = e^z - s/z`.

*With an intercept* w = h_0 leaves no freedom: the one label that fits, :math:`e^{s/h_0} - h_0`, must be
a count. Otherwise two points with labels n and 0 do: residuals :math:`e^{z_1} - n` and :math:`e^{z_2}`
sum to :math:`h_0`, and :math:`\sum_i z_i w_i` takes every value above a least one, which falls without
end as n grows.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, lambertw, log_expit

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.errors import UnrealizableGradientError
from gplconvex.losses import Poisson
from gplconvex.realization.exact import EXTENDED, relative_residual
from gplconvex.realization.inputs import smallest_inputs
from gplconvex.realization.lower_bound import (
    LARGEST_EXPONENT,
    MOST_RESIDUALS,
    LowerBound,
    count_mismatch,
    dot,
    fewest_counts,
)
from gplconvex.realization.result import Realization, finish
from gplconvex.rounding import POLISHED, REALIZATION_RESIDUAL, UNIT

EPS = 2.0 * UNIT
"""The spacing of float64 at 1, the least relative tolerance of a root."""

COUNTS = 16
"""Labels of the first of two points that are tried."""


def realize_poisson(loss: Poisson, theta: FloatArray, h: FloatArray) -> Realization:
    """Return the fewest Poisson points whose gradient at ``theta`` is ``h``."""
    if not h.any():
        empty = Dataset.empty(theta.size - loss.intercept)
        return finish(loss, theta, h, empty, LowerBound(0, "zero"))
    if not loss.intercept:
        z, y = _single_label(dot(theta, h)[0])
        data = Dataset(h[None, :] / (math.exp(z) - y), [y])
        return finish(loss, theta, h, data, LowerBound(1, "nonzero"))
    if not theta[:-1].any():
        return _constant_predictor(loss, theta, h)
    return _with_intercept(loss, theta, h)


def _single_label(s: float) -> tuple[float, float]:
    r"""Return z and the least count y with :math:`z (e^z - y) = s`."""
    branch = -math.exp(-1.0)
    if s >= branch:
        return (float(lambertw(s).real) if s > branch else -1.0), 0.0

    def label(z: float) -> float:
        return math.exp(z) - s / z

    # The minimizer of e^z + |s|/z solves z^2 e^z = |s|. Before it residuals are larger, and inputs
    # smaller.
    lowest = 2.0 * float(lambertw(0.5 * math.sqrt(-s)).real)
    y = float(math.ceil(label(lowest)))
    if label(lowest) >= y:
        return lowest, y
    z = brentq(lambda z: label(z) - y, -s / y, lowest, xtol=1e-300, rtol=4.0 * EPS, maxiter=1000)
    return float(z), y


# -- with intercept ----------------------------------------------------------------------------------


def _with_intercept(loss: Poisson, theta: FloatArray, h: FloatArray) -> Realization:
    s, h0 = dot(theta, h)[0], float(h[-1])
    mismatch, allowance = count_mismatch(theta, h)
    # A single point has no freedom at all: take it if it happens to fit.
    fits = mismatch <= allowance + REALIZATION_RESIDUAL * abs(h0)
    if fits and s / h0 < LARGEST_EXPONENT:
        label = max(0.0, float(np.rint(math.exp(s / h0) - h0)))
        alone = Dataset(h[None, :-1] / h0, [label])
        if relative_residual(loss, alone, theta, h) <= REALIZATION_RESIDUAL:
            return finish(loss, theta, h, alone, LowerBound(1, "nonzero"))
    data = min(
        (_pair(theta, h, n, a) for n, a in _two_labels(s, h0)),
        key=lambda pair: max(POLISHED, relative_residual(loss, pair, theta, h)),
    )
    if mismatch <= allowance:
        note = (
            "one point may do in exact arithmetic, but float64 cannot hold its label and residual; two "
            "points are shipped"
        )
        return finish(loss, theta, h, data, LowerBound(1, "nonzero"), note)
    proof = LowerBound(2, "silent point" if h0 == 0.0 else "single point")
    return finish(loss, theta, h, data, proof)


def _pair(theta: FloatArray, h: FloatArray, n: float, a: float) -> Dataset:
    """Return two points with labels n and 0 whose means share h0 + n as sigma(a) and sigma(-a) say."""
    room = float(h[-1]) + n
    z = math.log(room) + log_expit(np.array([a, -a]))
    w = np.array([math.exp(z[0]) - n, room * float(expit(-a))])
    return Dataset(smallest_inputs(theta, h, w, z, np.ones(2)), [n, 0.0])


def _two_labels(s: float, h0: float) -> list[tuple[float, float]]:
    r"""Return pairs (n, a): with r = h_0 + n the two means are :math:`r\sigma(a), r\sigma(-a)`.

    n is doubled until there is an a; rounding may suit one of the counts up to twice that better.
    """
    n = float(max(1, math.floor(-h0) + 1))
    if h0 + n <= 0.0:
        n = math.nextafter(n, math.inf)  # floats of this size are integers, further apart than 1
    while _share(s, h0, n) is None:
        n *= 2.0
    counts = sorted({math.floor(n * (1.0 + i / COUNTS)) for i in range(COUNTS)})
    shares = ((float(count), _share(s, h0, float(count))) for count in counts)
    return [(count, a) for count, a in shares if a is not None]


def _share(s: float, h0: float, n: float) -> float | None:
    r"""Return a with :math:`(e^{z_1} - n) z_1 + e^{z_2} z_2 = s`, or None if the sum does not fall to s.

    It falls in a up to the root of :math:`a\,\sigma(a) = n/r`.
    """
    room = h0 + n

    def slope(a: float) -> float:
        return a * float(expit(a)) - n / room

    def excess(a: float) -> float:
        z = math.log(room) + log_expit(np.array([a, -a]))
        return float((room * expit(a) - n) * z[0] + room * expit(-a) * z[1]) - s

    lowest = float(brentq(slope, 0.0, 2.0 * (n / room + 1.0), xtol=1e-15, maxiter=1000))
    if excess(lowest) > 0.0:
        return None
    step = 1.0
    while excess(lowest - step) < 0.0:
        step *= 2.0
    root = brentq(excess, lowest - step, lowest, xtol=1e-300, rtol=4.0 * EPS, maxiter=1000)
    return float(root)


# -- theta zero but for the intercept ----------------------------------------------------------------


def _constant_predictor(loss: Poisson, theta: FloatArray, h: FloatArray) -> Realization:
    r"""Every point has z = b, so k residuals sum to :math:`k e^b` less a count; inputs are free."""
    b, h0 = float(theta[-1]), float(h[-1])
    fewest = fewest_counts(b, h0)
    silent = fewest is not None and not _constant_residuals(b, *fewest)[0].any()
    if silent:  # of residual h0 up to rounding, which is 0: a pair is needed, if any does
        fewest = fewest_counts(b, 0.0) if math.exp(b) > 0.0 else None
    if fewest is None:
        direction = np.zeros_like(theta)
        direction[-1] = 1.0
        raise UnrealizableGradientError(
            f"all coefficients of theta but the intercept {b:.6g} are zero, so every point has residual "
            f"exp({b:.6g}) less a count; no number of them up to {MOST_RESIDUALS} sums to the "
            f"intercept's entry of the gradient, {h0:.17g}. Move the target by a little, or change the "
            "attacker's nu",
            direction=direction,
        )
    w, labels, counts = _constant_residuals(b, *fewest)
    x = np.outer(w / float(counts @ w**2), h[:-1])
    data = Dataset(x, labels, counts)
    if silent and h0 != 0.0:
        note = "a single point would be silent up to rounding; two or more are shipped"
        return finish(loss, theta, h, data, LowerBound(1, "nonzero"), note)
    return finish(loss, theta, h, data, LowerBound(fewest[0], "constant predictor"))


def _constant_residuals(b: float, k: int, y: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return residuals, labels and counts of k points with predictor b and sum of labels y."""
    labels, counts = np.array([float(y), 0.0])[:k], np.array([1.0, k - 1.0])[:k]
    with localcontext(EXTENDED):  # exp(b) may all but cancel with a label
        w = np.array([float(Decimal(b).exp() - Decimal(label)) for label in labels.tolist()])
    return w, labels, counts
