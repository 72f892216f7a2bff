"""Inputs of points whose residuals and predictors are known numbers."""

from __future__ import annotations

import math

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.errors import CertificateError
from gplconvex.regularizers import norm


def smallest_inputs(
    theta: FloatArray, h: FloatArray, w: FloatArray, z: FloatArray, counts: FloatArray
) -> FloatArray:
    r"""Return the smallest inputs with given residuals w and predictors z and gradients that sum to h.

    For a model with intercept b and slope :math:`\tilde\theta \ne 0`, if
    :math:`\sum_i c_i w_i = h_0` and :math:`\sum_i c_i z_i w_i = \theta^\top h`:

    .. math:: x_i = \frac{z_i - b}{|\tilde\theta|^2}\,\tilde\theta
              + \frac{w_i}{\sum_l c_l w_l^2}\,h_\perp .
    """
    slope, b = theta[:-1], float(theta[-1])
    length = norm(slope)
    unit = slope / length
    across = h[:-1] - unit * float(unit @ h[:-1])
    scaled = w / np.max(np.abs(w))
    with np.errstate(over="ignore"):
        x = np.outer((z - b) / length, unit)
        x += np.outer(scaled / float(counts @ scaled**2), across / np.max(np.abs(w)))
    largest = float(np.max(np.abs(x)))
    if not largest < math.inf:
        clause = Check(
            "largest input", largest, math.inf, "<", "theta is too small for its intercept"
        )
        raise CertificateError("the realized points overflow:", checks=[clause])
    return x
