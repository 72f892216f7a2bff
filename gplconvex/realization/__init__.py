"""Realization: turn one gradient into a dataset of as few points as possible, with the proof."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.data import float_array
from gplconvex.domains import Box, Domain, Unbounded
from gplconvex.errors import CertificateError, InvalidInputError, UnsupportedCombinationError
from gplconvex.losses import LeastSquares, Logistic, Loss, Poisson, Softmax
from gplconvex.realization.bounded.realize import (
    Gauge,
    bounded_gauge,
    bounded_proof,
    realize_bounded,
)
from gplconvex.realization.least_squares import realize_least_squares
from gplconvex.realization.logistic import realize_logistic
from gplconvex.realization.lower_bound import LowerBound, check_lower_bound
from gplconvex.realization.poisson import realize_poisson
from gplconvex.realization.result import Realization
from gplconvex.realization.softmax import realize_softmax
from gplconvex.realization.softmax.bounded import realize_softmax_in_box
from gplconvex.regularizers import norm
from gplconvex.rounding import LARGEST, REALIZATION_RESIDUAL

__all__ = [
    "Gauge",
    "LowerBound",
    "Realization",
    "check_lower_bound",
    "gauge",
    "prove_lower_bound",
    "realize_gradient",
]


def gauge(loss: Loss, theta: npt.ArrayLike, gradient: npt.ArrayLike, domain: Domain) -> Gauge:
    r"""Return the gauge of a gradient: the least weight of points of the domain that has it.

    .. math:: \min \Big\{\sum_i c_i : \sum_i c_i \nabla_\theta\,\varphi(\theta^\top x_i, y_i) = h,
              \; c_i \ge 0,\; x_i \in X\Big\}
              = \max \{\langle v, h\rangle : \langle v, g\rangle \le 1 \text{ for all gradients } g
              \text{ of one point}\}.

    Parameters
    ----------
    loss : Loss
        `LeastSquares`, `Logistic` or `Poisson`.
    theta, gradient : array_like, shape of a model
        The model and the gradient h, a sum over points without ridge.
    domain : Domain
        Where points may lie. Of whole numbers and categories the convex hull counts.

    Returns
    -------
    Gauge
        The value, a lower bound of every number of points, and the direction that proves it.

    Raises
    ------
    InvalidInputError
        For shapes that disagree or numbers that are not finite.
    UnrealizableGradientError
        If no points of the domain have the gradient, with a direction that separates it from all of
        theirs.
    UnsupportedCombinationError
        For a loss or domain without a gauge.

    Notes
    -----
    Source: T3.1 and T3.5. For a proved integer bound see `realize_gradient`.

    Examples
    --------
    >>> from gplconvex import Box
    >>> gauge(Logistic(), [1.0, 0.0], [-1.0, 2.0], Box(-9.0, 9.0))
    <Gauge: 3.59112 points>
    """
    return bounded_gauge(loss, *_with_gauge(loss, theta, gradient, domain), domain)


def prove_lower_bound(
    loss: Loss, theta: npt.ArrayLike, gradient: npt.ArrayLike, domain: Domain
) -> LowerBound:
    """Return the largest number of points that a direction proves to be needed, without points.

    Parameters
    ----------
    loss, theta, gradient, domain
        As in `gauge`.

    Returns
    -------
    LowerBound
        For `check_lower_bound`; as strong as that of `realize_gradient`, which also finds points.

    Raises
    ------
    InvalidInputError, UnsupportedCombinationError, UnrealizableGradientError
        As `gauge`.

    Notes
    -----
    Source: T3.1 and T3.5.

    Examples
    --------
    >>> from gplconvex import Box
    >>> prove_lower_bound(Logistic(), [1.0, 0.0], [-1.0, 2.0], Box(-9.0, 9.0)).value
    4
    """
    return bounded_proof(loss, *_with_gauge(loss, theta, gradient, domain), domain)


def _with_gauge(
    loss: Loss, theta: npt.ArrayLike, gradient: npt.ArrayLike, domain: Domain
) -> tuple[FloatArray, FloatArray]:
    """Return model and gradient as arrays, if their loss has a gauge and the domain fits."""
    if not isinstance(loss, (LeastSquares, Logistic, Poisson)):
        raise UnsupportedCombinationError(
            f"no gauge is known for the loss {loss!r}: LeastSquares, Logistic and Poisson have one"
        )
    model, h = _pair(theta, gradient, loss)
    check_domain(loss, domain, len(h) - loss.intercept)
    return model, h


def check_domain(loss: Loss, domain: Domain, n_features: int) -> None:
    """Raise if a domain does not fit the loss or the number of features."""
    if not isinstance(domain, Domain):
        raise InvalidInputError(f"domain must be a Domain such as Box(0, 1); got {domain!r}")
    domain.contains(np.zeros((1, n_features)))  # raises if its bounds are of another length
    if domain.labels is None:
        return
    if not isinstance(loss, (LeastSquares, Poisson)):
        raise UnsupportedCombinationError(
            f"bounds of labels are for LeastSquares and Poisson; the labels of {loss!r} are classes: "
            "leave labels out"
        )
    if isinstance(loss, Poisson):
        low, high = domain.labels
        least, most = (
            math.ceil(min(max(low, 0.0), 2.0**53)),
            math.floor(min(max(high, -1.0), 2.0**53)),
        )
        if least >= most:
            raise InvalidInputError(
                f"bounds of labels must leave two counts from 0 to 2^53 or more; got {domain.labels}"
            )


def realize_gradient(
    loss: Loss,
    theta: npt.ArrayLike,
    gradient: npt.ArrayLike,
    domain: Domain = Unbounded(),
    *,
    extra: int = 0,
) -> Realization:
    r"""Return a smallest dataset, or nearly so, whose loss has the given gradient at ``theta``.

    .. math:: \text{fewest points } (x_i, y_i) \text{ of the domain with }
              \sum_i \nabla_\theta\, \varphi(\theta^\top x_i, y_i) = h.

    A sum over points, without ridge: for a user with ridge nu pass
    :math:`h = g - 2\nu\theta`, or call `gplconvex.to_data`.

    Parameters
    ----------
    loss : Loss
        `LeastSquares`, `Logistic`, `Poisson` or `Softmax`, with or without intercept.
    theta : array_like, shape (d,), (d + 1,), (d, K) or (d + 1, K)
        The model; with an intercept that is its last row.
    gradient : array_like, same shape
        The wanted gradient h. For softmax its rows sum to 0, as those of every gradient.
    domain : Domain
        Where the points may lie; default `Unbounded`. For `Softmax` with K > 2 that or a `Box` with
        finite bounds, where neither the lower bound nor the points are known to be the best. Where
        inputs are whole numbers or categories the gradient is missed by what rounding leaves:
        ``residual`` and ``note`` say by how much.
    extra : int
        For `Logistic` and `Softmax`: how many points more than the fewest may be spent on smaller
        inputs; in a bounded domain, for every loss, exactly so many more are shipped.

    Returns
    -------
    Realization
        The points (multiplicities in ``counts``), their number, a lower bound with the argument that
        proves it, and the relative residual of the float64 points, at most 1e-12.

    Raises
    ------
    InvalidInputError
        For shapes that disagree, numbers that are not finite, or a softmax gradient with a row that does
        not sum to 0.
    UnrealizableGradientError
        If more than 2^53 points are needed; if, with an intercept and all other coefficients of
        theta zero, no number of points up to 10^6 has this gradient (logistic and Poisson); or if no
        points that float64 can hold were found (softmax with classes that are nearly identical).
    UnsupportedCombinationError
        For a loss or a domain without a construction, or ``extra`` where it has no use.
    CertificateError
        If the problem is so badly conditioned that no float64 points reach the residual.

    Notes
    -----
    Source: T3.2 to T3.4. Least squares and Poisson regression need one point (two where an intercept
    leaves it no freedom). Logistic regression without intercept needs exactly
    :math:`\max(1, \lceil -\theta^\top h / \kappa \rceil)` points, :math:`\kappa = W(1/e)`: a point
    can lower :math:`\theta^\top` gradient by at most kappa. For softmax the lower bound is
    :math:`\max(\mathrm{rank}\,H, \lceil -\langle\Theta, H\rangle/\kappa_K\rceil)`,
    :math:`\kappa_K = W((K-1)/e)`, more if the intercept's row demands more; if the centered coefficients
    have rank K - 1, at most 2 K + 2 points more are shipped (2 K are proved to exist; should float64
    want more, ``note`` says so). Labels are classes, but for coefficients of
    lower rank, where they may have to be distributions; the bound holds for those as well.

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
    if not isinstance(loss, (LeastSquares, Logistic, Poisson, Softmax)):
        raise UnsupportedCombinationError(
            f"no construction is known for the loss {loss!r}: LeastSquares, Logistic, Poisson and "
            "Softmax have one"
        )
    theta, h = _pair(theta, gradient, loss)
    check_domain(loss, domain, len(h) - loss.intercept)
    bounded = not isinstance(domain, Unbounded) or domain.labels is not None
    if bounded and isinstance(loss, Softmax) and not (type(domain) is Box or loss.n_classes == 2):
        raise UnsupportedCombinationError(
            "points of more than two classes are constructed in a Box or Unbounded() only; got "
            f"{domain!r}"
        )
    if not (isinstance(extra, (int, np.integer)) and not isinstance(extra, bool) and extra >= 0):
        raise InvalidInputError(f"extra must be an integer from 0; got {extra!r}")
    if extra and not bounded and not isinstance(loss, (Logistic, Softmax)):
        raise UnsupportedCombinationError(
            f"extra points have no use for the loss {loss!r}, whose single points are realized as "
            "they are: leave extra out"
        )
    if bounded and isinstance(loss, Softmax):
        found = realize_softmax_in_box(loss, theta, _balanced(h), domain, int(extra))
    elif bounded:
        found = realize_bounded(loss, theta, h, domain, int(extra))
    else:
        found = _realized(loss, theta, h, int(extra))
    outside = int(np.sum(~domain.allows(found.dataset)))
    if outside:
        clause = Check(
            "points outside the domain", outside, 0.0, "<=", f"they must lie in {domain!r}"
        )
        raise CertificateError("realized points left the domain:", checks=[clause])
    return found


def _realized(loss: Loss, theta: FloatArray, h: FloatArray, extra: int) -> Realization:
    if isinstance(loss, LeastSquares):
        return realize_least_squares(loss, theta, h)
    if isinstance(loss, Poisson):
        return realize_poisson(loss, theta, h)
    if isinstance(loss, Softmax):
        return realize_softmax(loss, theta, _balanced(h), extra)
    return realize_logistic(cast("Logistic", loss), theta, h, extra)


def _balanced(h: FloatArray) -> FloatArray:
    """Return H with rows that sum to 0, if they do up to the residual that is allowed anyway."""
    sums = h.sum(axis=1)
    if norm(sums) > 0.1 * REALIZATION_RESIDUAL * norm(h):
        row = int(np.argmax(np.abs(sums)))
        raise InvalidInputError(
            f"each row of a softmax gradient sums to 0, since residuals do; row {row} of gradient, "
            f"{h[row].tolist()}, sums to {sums[row]:.6g}. Subtract the mean of every row, or check "
            "that rows are features and columns are classes"
        )
    return np.asarray(h - h.mean(axis=1, keepdims=True))


def _pair(
    theta: npt.ArrayLike, gradient: npt.ArrayLike, loss: Loss
) -> tuple[FloatArray, FloatArray]:
    model, h = _model("theta", theta, loss), _model("gradient", gradient, loss)
    if h.shape != model.shape:
        raise InvalidInputError(
            f"gradient must have the shape of theta, {model.shape}; got {h.shape}"
        )
    return model, h


def _model(name: str, values: npt.ArrayLike, loss: Loss) -> FloatArray:
    array = float_array(name, values)
    n_features = (len(array) if array.ndim else 0) - loss.intercept
    if n_features < 1 or array.shape != loss.shape(n_features):
        rows = "d + 1, d features and the intercept" if loss.intercept else "d"
        classes = "" if len(loss.shape(1)) == 1 else f", columns {loss.shape(1)[1]} classes"
        raise InvalidInputError(
            f"{name} must have a number for each of its coefficients, rows {rows}{classes}, d >= 1; got "
            f"shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} must be finite; got {array.tolist()}")
    if np.max(np.abs(array)) > LARGEST:
        raise InvalidInputError(
            f"entries of {name} must be within {LARGEST:g}, so that products stay finite; got "
            f"{array.tolist()}"
        )
    return array
