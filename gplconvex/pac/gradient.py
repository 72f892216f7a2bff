r"""Gradient-PAC* of given points: for which A, B and alpha it holds, for all theta.

With :math:`s_w(r) = w^\top\nabla L(\theta_\dagger + r w)`, :math:`|w| = 1`, the inequality is

.. math:: s_w(r) + b \ge A I \min(1, r) \quad \text{for all } w \text{ and all } r > 0, \qquad
          b = B I^\alpha.

*Beyond r = 1* nothing is to be checked: L is convex, so that :math:`s_w` does not decrease.
*Near r = 0* it holds for all w only if :math:`b \ge \gamma = |\nabla L(\theta_\dagger)|`, whatever A
is: so :math:`B = \gamma / I^\alpha` is the least. *Between*, a point adds

.. math:: w^\top x\,[\varphi'(z + r w^\top x) - \varphi'(z)] \ge r\,\kappa\,(w^\top x)^2, \qquad
          \kappa = \min_{|s| \le |x|} \frac1s \int_0^s \varphi''(z + t)\,dt,

to :math:`s_w(r) - s_w(0)`, so that with :math:`K = 2\nu I + \sum_i c_i\kappa_i x_i x_i^\top`

.. math:: s_w(r) + b \ge w^\top\nabla L(\theta_\dagger) + b + r\,w^\top K w
          \ge r\,(m + b), \qquad m = \min_{|w| = 1} w^\top K w + w^\top\nabla L(\theta_\dagger),

as :math:`w^\top\nabla L(\theta_\dagger) + b \ge 0` and :math:`r \le 1`. **The inequality holds where**
:math:`b \ge \gamma` **and** :math:`A I \le b + m`. For least squares kappa is 1, :math:`m =
\min_w s_w(1)`, and it holds only there. For other losses it fails if :math:`A I > b +
s_w(1)` at some w that a search finds; how near the two come, the result says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, is_number
from gplconvex.eigenvalues import least_eigenvalues
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.local_losses import LocalLoss, Stack
from gplconvex.losses import Loss
from gplconvex.problem import Problem
from gplconvex.regularizers import SquaredL2, lengths, norm
from gplconvex.rounding import UNIT, gamma

CELLS = 64
"""Cells on either side of z, on each of which the least curvature stands for all."""

MOST_STEPS = 40
"""Of a search for the least slope: what it misses makes a result less sharp, not wrong."""

SLACK = 1e-12
"""Relative room for the rounding of a few operations on what is compared."""


@dataclass(frozen=True, eq=False)
class GradientPac:
    r"""What decides, for given points, for which A, B and alpha gradient-PAC* holds.

    Attributes
    ----------
    n_points : int
        I, with multiplicities.
    gradient_norm : float
        :math:`\gamma = |\nabla L(\theta_\dagger)|`, rounded up.
    rounding : float
        Bound of what it is rounded up by.
    least_slope : float
        A guaranteed lower bound of :math:`(\theta - \theta_\dagger)^\top\nabla L(\theta)` over the
        sphere :math:`|\theta - \theta_\dagger| = 1`.
    found_slope : float
        A guaranteed upper bound of the least such number, attained at ``witness`` to rounding.
    witness : array, shape of a model
        A theta at that distance.
    """

    n_points: int
    gradient_norm: float
    rounding: float
    least_slope: float
    found_slope: float
    witness: FloatArray

    def constants(self, alpha: float) -> tuple[float, float]:
        r"""Return A and B with which the inequality holds: the least B, and the A proved for it.

        .. math:: B = \gamma / I^\alpha, \qquad A = (\gamma + m) / I.

        Where :math:`A I \le B I^\alpha` the right side is never positive.

        Examples
        --------
        >>> from gplconvex import LeastSquares
        >>> found = gradient_pac(LeastSquares(), Dataset([[2.0]] * 4, [1.0] * 4), [0.0])
        >>> A, B = found.constants(0.5)
        >>> round(A, 6), round(B, 6)
        (4.0, 4.0)
        """
        slope, size = self.gradient_norm + self.least_slope, self.n_points ** _exponent(alpha)
        A, B = slope / self.n_points, self.gradient_norm / size
        return A * (1.0 - 2.0 * SLACK), B * (1.0 + 2.0 * SLACK)

    def holds(self, A: float, B: float, alpha: float) -> bool | None:
        """Return whether the inequality holds for all theta, or None if that is not decided.

        Raises
        ------
        InvalidInputError
            Unless A and B are at least 0 and alpha is less than 1.
        """
        for name, value in (("A", A), ("B", B)):
            if not (is_number(value) and 0.0 <= value < math.inf):
                raise InvalidInputError(f"{name} must be a number from 0; got {value!r}")
        b, wanted = B * self.n_points ** _exponent(alpha), A * self.n_points
        low, high = b * (1.0 - SLACK), b * (1.0 + SLACK)
        if low >= self.gradient_norm and wanted <= low + self.least_slope:
            return True
        if high < self.gradient_norm - self.rounding:
            return False
        return False if wanted * (1.0 - SLACK) > high + self.found_slope else None

    def distance_bound(self, radius: float) -> float:
        r"""Return how far from :math:`\theta_\dagger` a gradient of norm ``radius`` or less can be.

        .. math:: \min(1, |\theta - \theta_\dagger|) \le \frac{\gamma + \lambda}{\gamma + m}
                  = \frac{B I^\alpha + \lambda}{A I} \quad \text{where } |\nabla L(\theta)| \le \lambda,

        as :math:`(\theta - \theta_\dagger)^\top\nabla L(\theta) \le \lambda |\theta - \theta_\dagger|`.
        With :math:`\lambda` the radius of Grad this is where an honest user's optimum lies under l2 and
        smooth l2, whatever the others do. A right side of 1 or more says nothing: ``inf``.

        Raises
        ------
        InvalidInputError
            For a negative radius.

        Examples
        --------
        >>> from gplconvex import LeastSquares
        >>> found = gradient_pac(LeastSquares(), Dataset([[2.0]] * 4, [1.0] * 4), [0.0])
        >>> found.distance_bound(1.0), found.distance_bound(8.0)
        (0.5625, inf)
        """
        if not (is_number(radius) and radius >= 0.0):
            raise InvalidInputError(f"radius must be a number from 0; got {radius!r}")
        if not radius < self.least_slope:
            return math.inf
        above = (self.gradient_norm + radius) / (self.gradient_norm + self.least_slope)
        return above * (1.0 + SLACK)


def gradient_pac(
    loss: Loss, data: Dataset, theta: npt.ArrayLike, *, nu: float = 0.0
) -> GradientPac:
    r"""Return what decides for which A, B and alpha points are gradient-PAC* around ``theta``.

    Parameters
    ----------
    loss : Loss
        Of models that are vectors.
    data : Dataset
        At least one point; whoever labeled it.
    theta : array_like, shape of a model
        :math:`\theta_\dagger`.
    nu : float
        The ridge.

    Returns
    -------
    GradientPac

    Raises
    ------
    InvalidInputError
        For data that do not fit the loss, no points, or a gradient that overflows.
    UnsupportedCombinationError
        For softmax: a vector added to all columns of theta changes no gradient, so that without ridge
        the inequality fails wherever :math:`A I > B I^\alpha`, whatever the data.

    Notes
    -----
    Source: Farhadkhani et al. 2022 for the property; the proof of the constants is that of this module.

    Examples
    --------
    >>> from gplconvex import Logistic, honest_dataset
    >>> data = honest_dataset(Logistic(), [1.0, -1.0], 1000, seed=0)
    >>> found = gradient_pac(Logistic(), data, [1.0, -1.0])
    >>> A, B = found.constants(0.6)
    >>> round(A, 2), round(B, 2)
    (0.07, 0.4)
    >>> found.holds(A, B, 0.6), found.holds(2.0 * A, B, 0.6), found.holds(A, 0.99 * B, 0.6)
    (True, False, False)
    """
    problem = Problem(loss, SquaredL2(1.0), [data], nu)
    if len(problem.shape) > 1:
        raise UnsupportedCombinationError(
            f"gradient-PAC* is for models that are vectors; those of {loss!r} have {problem.shape[1]} "
            "columns, and a vector added to all of them changes no gradient. Use Logistic() for two "
            "classes"
        )
    center = problem.check_model("theta", theta)
    if data.n_points == 0:
        raise InvalidInputError("data is empty: gradient-PAC* is about at least one point")
    local = problem.locals[0]
    gradient, off = local.certified_gradient(center)
    if not math.isfinite(off):
        raise InvalidInputError(
            f"the gradient overflows at theta, of norm {norm(center):.3g}: scale theta or the inputs "
            "down"
        )
    off += 4.0 * gamma(center.size + 8) * norm(gradient)
    matrix = _chord_matrix(loss, data, center, float(problem.nu[0]))
    least, direction = _least_on_sphere(matrix, gradient, data.n_rows)
    size = norm(gradient) + off
    least = max(least - off, -size)  # slopes do not decrease along a ray
    found, witness = _search(local, center, direction, np.linalg.eigh(matrix)[1][:, 0])
    return GradientPac(data.n_points, size, 2.0 * off, min(least, found), found, witness)


def _chord_matrix(loss: Loss, data: Dataset, theta: FloatArray, nu: float) -> FloatArray:
    r"""Return :math:`2\nu I + \sum_i c_i\kappa_i x_i x_i^\top`, kappa rounded down.

    The mean of :math:`\varphi''` from z to z + s is at least that of its least values on the cells
    between; of these means the least is one that ends where a cell does.
    """
    stack = Stack(loss, [0], [data], np.array([nu]))
    z, reach = stack.predictors(theta[None], single=False)[0], stack.input_lengths[0]
    off = gamma(theta.size + 8) * (reach * (norm(theta) + 1.0) + np.abs(z))
    kappa = np.full_like(z, math.inf)
    for step in (reach / CELLS, -reach / CELLS):
        total = np.zeros_like(z)
        for j in range(CELLS):
            ends = z + j * step, z + (j + 1) * step
            low, high = np.minimum(*ends) - off, np.maximum(*ends) + off
            total += loss.curvature_bounds(low, high, data.y)[0]
            kappa = np.minimum(kappa, total / (j + 1))
    gram = loss.gram(data.x, data.counts * kappa * (1.0 - gamma(CELLS + 16)))
    return gram + 2.0 * nu * np.eye(theta.size)


def _least_on_sphere(matrix: FloatArray, g: FloatArray, n_rows: int) -> tuple[float, FloatArray]:
    r"""Return a lower bound of :math:`w^\top K w + w^\top g` over :math:`|w| = 1`, and where it is near.

    For every t up to the least eigenvalue of K, and every y,

    .. math:: w^\top K w + w^\top g \ge t - |2(K - tI)y + g| - y^\top(K - tI)y,

    as :math:`w^\top(K - tI)w \ge 2w^\top(K - tI)y - y^\top(K - tI)y`. With :math:`y =
    -(K - tI)^{-1}g/2` and t where :math:`|y| = 1`, it is an equality at w = y.
    """
    units = gamma(n_rows + 10 * len(g) + 20)
    values, vectors = np.linalg.eigh(matrix)
    c = vectors.T @ g
    floor = float(least_eigenvalues(matrix[None], n_rows)[0])
    # |y| is at most 1 at the lower end, at least 1 at the upper one, unless there c[0] = 0.
    low, high = values[0] - 0.5 * norm(g), values[0] - 0.5 * abs(float(c[0]))

    def solved(t: float) -> FloatArray:
        return np.divide(-0.5 * c, values - t, out=np.zeros_like(c), where=values > t)

    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if norm(solved(middle)) > 1.0 else (middle, high)
    t = min(low, floor)
    y = vectors @ solved(t)
    left = matrix @ y - t * y
    size, scale = norm(y), float(np.trace(matrix)) + abs(t)
    allowance = 4.0 * units * ((1.0 + size) ** 2 * scale + (1.0 + size) * norm(g))
    bound = t - norm(2.0 * left + g) - float(y @ left) - allowance
    return float(max(bound, floor - norm(g) * (1.0 + units))), y


def _search(
    local: LocalLoss, center: FloatArray, direction: FloatArray, axis: FloatArray
) -> tuple[float, FloatArray]:
    r"""Return a small :math:`w^\top\nabla L(\theta_\dagger + w)`, |w| = 1, rounded up, and the theta."""
    loss, data = local.loss, local.data

    def slope(v: FloatArray) -> tuple[float, FloatArray]:
        w = v / norm(v)
        gradient = local.gradient(center + w)
        z, along = loss.predictor(data.x, center + w), loss.predictor(data.x, w)
        bend = loss.pullback(data.x, data.counts * loss.curvature_times(z, data.y, along))
        full = gradient + bend + 2.0 * local.nu * w
        across = (full - (full @ w) * w) / norm(v)
        return float(w @ gradient) / data.n_points, across / data.n_points

    def improved(v: FloatArray) -> FloatArray:
        found = minimize(slope, v, jac=True, method="BFGS", options={"maxiter": MOST_STEPS})
        return np.asarray(found.x)

    starts = [axis, -axis, *([direction / norm(direction)] if direction.any() else [])]
    with np.errstate(over="ignore", invalid="ignore"):
        ends = [improved(v) for v in starts]
        best = min([*starts, *ends], key=lambda v: (not math.isfinite(slope(v)[0]), slope(v)[0]))
    # Not nearer than 1, whatever rounding does: farther out the slope is no smaller.
    w = best / norm(best) * (1.0 + 4.0 * UNIT * (center.size + norm(center)))
    witness = center + w
    gradient, off = local.certified_gradient(witness)
    away = witness - center
    size = float(lengths(away))
    if not math.isfinite(off):
        return math.inf, witness
    rounded = off + gamma(center.size + 8) * norm(gradient) + 4.0 * UNIT * norm(gradient)
    return float(away @ gradient) / size + rounded, witness


def _exponent(alpha: float) -> float:
    if not (is_number(alpha) and -math.inf < alpha < 1.0):
        raise InvalidInputError(f"alpha must be a number less than 1; got {alpha!r}")
    return float(alpha)
