r"""Least squares, inputs unbounded: one point, or two.

A point with input x and residual w = z - y has gradient x w, and y is free, so w is. Without
intercept, x = h/w and y = theta^T x - w do it for every w. With an intercept the last entry says
w = h_0: one point if :math:`h_0 \neq 0`, otherwise two with opposite residuals.
"""

from __future__ import annotations

import math

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.losses import LeastSquares
from gplconvex.realization.exact import REACHES, missing_gradient, nudge, relative_residual
from gplconvex.realization.lower_bound import LowerBound
from gplconvex.realization.result import Realization, finish
from gplconvex.rounding import REALIZATION_RESIDUAL


def realize_least_squares(loss: LeastSquares, theta: FloatArray, h: FloatArray) -> Realization:
    """Return the fewest least-squares points whose gradient at ``theta`` is ``h``."""
    n_features = theta.size - loss.intercept
    if not h.any():
        return finish(loss, theta, h, Dataset.empty(n_features), LowerBound(0, "zero"))
    if not loss.intercept:
        # The label z - w loses |z|/|w| digits of w. With w^2 = |theta|^T |h| it loses none.
        w = math.sqrt(max(float(np.abs(theta) @ np.abs(h)), float(np.linalg.norm(h))))
        data = _points(theta, (h / w)[None, :], np.array([w]), 0.0)
        return finish(loss, theta, h, data, LowerBound(1, "nonzero"))
    slope, b, features, h0 = theta[:-1], float(theta[-1]), h[:-1], float(h[-1])
    proof = LowerBound(1, "nonzero") if h0 != 0.0 else LowerBound(2, "silent point")
    note = ""
    if h0 != 0.0:
        alone = _single_point(loss, theta, h)
        if alone is not None:
            return finish(loss, theta, h, alone, proof)
        note = (
            f"one point would do in exact arithmetic, but h0 = {h0:.3g} is so small beside the rest "
            "that its label cannot be written in float64; two points are shipped"
        )
    # Residuals h0/2 +- a at inputs +- x: any a does, and one of the size of z loses no digits.
    a = max(math.sqrt(float(np.abs(slope) @ np.abs(features))), abs(b), abs(h0))
    a = max(a, math.sqrt(float(np.linalg.norm(features))))
    x = features / (2.0 * a)
    data = _points(slope, np.stack([x, -x]), np.array([h0 / 2.0 + a, h0 / 2.0 - a]), b)
    return finish(loss, theta, h, data, proof, note)


def _single_point(loss: LeastSquares, theta: FloatArray, h: FloatArray) -> Dataset | None:
    """Return the one point with residual h0 and gradient h, or None if float64 cannot hold it."""
    slope, b, h0 = theta[:-1], float(theta[-1]), float(h[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        x = h[:-1] / h0
        z = x @ slope + b
    if not (np.isfinite(x).all() and np.isfinite(z)):
        return None
    data = Dataset(x[None, :], [z - h0])
    if relative_residual(loss, data, theta, h) > REALIZATION_RESIDUAL:
        # The label is rounded by up to |z| u, too much beside w = h0: let the inputs repair it.
        off = float(missing_gradient(loss, data, theta, h)[-1])
        data = Dataset(nudge(x, slope, off, REACHES[-1])[None, :], data.y)
    return data if relative_residual(loss, data, theta, h) <= REALIZATION_RESIDUAL else None


def _points(slope: FloatArray, x: FloatArray, w: FloatArray, b: float) -> Dataset:
    """Return points with inputs x and residuals w at the model (slope, b)."""
    return Dataset(x, x @ slope + b - w)
