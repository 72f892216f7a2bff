"""Realization: turn one gradient into a dataset of as few points as possible, with the proof."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.data import float_array
from gplconvex.domains import Domain, Unbounded
from gplconvex.errors import CertificateError, InvalidInputError, UnsupportedCombinationError
from gplconvex.losses import LeastSquares, Logistic, Loss
from gplconvex.realization.least_squares import realize_least_squares
from gplconvex.realization.logistic import realize_logistic
from gplconvex.realization.lower_bound import LowerBound, check_lower_bound
from gplconvex.realization.result import Realization
from gplconvex.rounding import LARGEST

__all__ = ["LowerBound", "Realization", "check_lower_bound", "realize_gradient"]


def realize_gradient(
    loss: Loss, theta: npt.ArrayLike, gradient: npt.ArrayLike, domain: Domain = Unbounded()
) -> Realization:
    r"""Return the smallest dataset whose loss has the given gradient at ``theta``.

    .. math:: \text{fewest points } (x_i, y_i) \text{ of the domain with }
              \sum_i \nabla_\theta\, \varphi(\theta^\top x_i, y_i) = h.

    A sum over points, without ridge: for a user with ridge nu pass
    :math:`h = g - 2\nu\theta`, or call `gplconvex.to_data`.

    Parameters
    ----------
    loss : Loss
        `LeastSquares` or `Logistic`, with or without intercept.
    theta : array_like, shape (d,) or (d + 1,)
        The model; with an intercept that is its last entry.
    gradient : array_like, same shape
        The wanted gradient h.
    domain : Domain
        Where the inputs may lie; default `Unbounded`.

    Returns
    -------
    Realization
        The points (multiplicities in ``counts``), their number, a lower bound with the argument that
        proves it, and the relative residual of the float64 points, at most 1e-12.

    Raises
    ------
    InvalidInputError
        For shapes that disagree or numbers that are not finite.
    UnrealizableGradientError
        If more than 2^53 points are needed; or if, with an intercept and all other coefficients of
        theta zero, no number of points up to 10^6 has this gradient.
    UnsupportedCombinationError
        For a loss or a domain without a construction.
    CertificateError
        If the problem is so badly conditioned that no float64 points reach the residual.

    Notes
    -----
    Source: T3.2 and T3.3. Least squares needs one point (two if only the intercept's entry of h is
    zero). Logistic regression without intercept needs exactly
    :math:`\max(1, \lceil -\theta^\top h / \kappa \rceil)` points, :math:`\kappa = W(1/e)`: a point
    can lower :math:`\theta^\top` gradient by at most kappa.

    Examples
    --------
    >>> realization = realize_gradient(Logistic(), [1.0, 0.0], [-1.0, 2.0])
    >>> realization.n_points, realization.lower_bound  # ceil(1 / 0.27846) points, and no fewer
    (4, 4)
    >>> realization.residual <= 1e-12
    True
    """
    if not isinstance(loss, Loss):
        raise InvalidInputError(f"loss must be a Loss such as Logistic(); got {loss!r}")
    if not isinstance(loss, (LeastSquares, Logistic)):
        raise UnsupportedCombinationError(
            f"no construction is known for the loss {loss!r}: LeastSquares and Logistic have one"
        )
    theta = _model("theta", theta, loss)
    h = _model("gradient", gradient, loss)
    if h.shape != theta.shape:
        raise InvalidInputError(
            f"gradient must have the shape of theta, {theta.shape}; got {h.shape}"
        )
    if not isinstance(domain, Unbounded):
        raise UnsupportedCombinationError(
            f"no construction for the domain {domain!r}: use Unbounded()"
        )
    found = (
        realize_least_squares(loss, theta, h)
        if isinstance(loss, LeastSquares)
        else realize_logistic(loss, theta, h)
    )
    outside = int(np.sum(~domain.contains(found.dataset.x)))
    if outside:
        clause = Check(
            "points outside the domain", outside, 0.0, "<=", f"they must lie in {domain!r}"
        )
        raise CertificateError("realized points left the domain:", checks=[clause])
    return found


def _model(name: str, values: npt.ArrayLike, loss: Loss) -> FloatArray:
    array = float_array(name, values)
    if array.ndim != 1 or array.size < 1 + loss.intercept:
        wanted = "(d + 1,), d features and the intercept," if loss.intercept else "(d,)"
        raise InvalidInputError(f"{name} must have shape {wanted} with d >= 1; got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} must be finite; got {array.tolist()}")
    if np.max(np.abs(array)) > LARGEST:
        raise InvalidInputError(
            f"entries of {name} must be within {LARGEST:g}, so that products stay finite; got "
            f"{array.tolist()}"
        )
    return array
