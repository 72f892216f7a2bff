r"""Model to data in the limit: many points that a model labels honestly.

A user whose points :math:`\theta_\spadesuit` has labeled learns it, whatever the others do, as soon as
there are enough of them (T2.4). That is how the theorem was first proved; `gplconvex.to_data` needs
finitely many points, and the fewest, for the optimum itself (T2.5). Two ways to draw them:

- `honest_dataset`: inputs of a law, labels drawn from the model;
- `indifference_dataset`: inputs where all classes tie, labeled with the model's probabilities, which
  makes its gradient exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from gplconvex.data import Dataset, float_array, is_number
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.losses import LeastSquares, Loss, Softmax
from gplconvex.regularizers import lengths
from gplconvex.rounding import LARGEST, gamma

if TYPE_CHECKING:
    from gplconvex._types import FloatArray


def _uniform(rng: np.random.Generator, m: int, d: int) -> FloatArray:
    """Draw a normal direction, and the d-th root of a uniform number for its length."""
    u = rng.standard_normal((m, d))
    radius = math.sqrt(d + 2.0) * rng.random(m) ** (1.0 / d)
    return u * (radius / lengths(u))[:, None]


def _contaminated(rng: np.random.Generator, m: int, d: int) -> FloatArray:
    """Draw normal vectors, one in ten three times as large: 0.9 + 0.1 * 9 = 1.8."""
    scale = np.where(rng.random((m, 1)) < 0.1, 3.0, 1.0) / math.sqrt(1.8)
    return scale * rng.standard_normal((m, d))


LAWS: Mapping[str, Callable[[np.random.Generator, int, int], FloatArray]] = MappingProxyType(
    {
        "normal": lambda rng, m, d: rng.standard_normal((m, d)),
        "uniform": _uniform,
        "rademacher": lambda rng, m, d: rng.choice((-1.0, 1.0), (m, d)),
        "contaminated": _contaminated,
    }
)
r"""Laws of m independent vectors of d numbers: mean 0, covariance I, and sub-Gaussian.

.. math:: E\,x = 0, \qquad E\,x x^\top = I, \qquad E\,e^{v^\top x} \le e^{\kappa |v|^2 / 2}.

================ ======================================================================= =====
name             law                                                                     kappa
================ ======================================================================= =====
``normal``       standard normal                                                         1
``uniform``      uniform in the ball of radius :math:`\sqrt{d + 2}`                      1
``rademacher``   independent entries -1 and +1                                           1
``contaminated`` normal, one vector in ten three times as large; kurtosis 25/3           5
================ ======================================================================= =====
"""


def honest_dataset(
    loss: Loss,
    theta: npt.ArrayLike,
    n_points: int,
    *,
    seed: int,
    inputs: str = "normal",
    noise: str = "normal",
) -> Dataset:
    r"""Return independent points that ``theta`` labels honestly.

    .. math:: E\,x = 0, \quad E\,x x^\top = I, \qquad
              P(y \mid x) = m(y)\, e^{-\varphi(\theta^\top x, y)}.

    For least squares :math:`y = \theta^\top x` plus noise, standard normal in this formula; for logistic
    regression +1 with probability :math:`\sigma(z)`; for softmax a class drawn from
    :math:`\mathrm{softmax}(z)`; for Poisson a count with mean :math:`e^z`.

    Parameters
    ----------
    loss : Loss
        The loss that the points are for.
    theta : array_like, shape of a model
        The model that labels: (d,) or (d, K), with an intercept one row more, the last.
    n_points : int
        Number of points, at least 1.
    seed : int
        At least 0; the same seed gives the same points.
    inputs, noise : str
        Names of `LAWS`: of x, and of the noise of least squares.

    Returns
    -------
    Dataset
        ``n_points`` rows, each with count 1.

    Raises
    ------
    InvalidInputError
        For a wrong shape, number or name; or under Poisson if some :math:`e^z` is too large to be drawn.
    UnsupportedCombinationError
        If the loss does not say how labels arise; or for a law of the noise where it is no noise that
        is added.

    Notes
    -----
    Source: Farhadkhani et al. 2022, honest data and local PAC* learning (T2.4): the minimizer of
    the sum of the losses is off by about :math:`\sqrt{\mathrm{tr}\,\Sigma^{-1} / n}`,
    :math:`\Sigma = E[\varphi''\, x x^\top]`.

    Examples
    --------
    >>> from gplconvex import Logistic, Problem, SquaredL2, solve
    >>> data = honest_dataset(Logistic(), [1.0, -2.0], 20_000, seed=0)
    >>> solve(Problem(Logistic(), SquaredL2(1.0), [data], nu=1e-3)).rho.round(1)
    array([ 1., -2.])
    """
    theta, d = _model(loss, theta)
    m = _whole("n_points", n_points, 1)
    rng = np.random.default_rng(_whole("seed", seed, 0))
    x, xi = _law("inputs", inputs)(rng, m, d), _law("noise", noise)
    z = loss.predictor(x, theta)
    if noise == "normal":
        return Dataset(x, loss.draw_labels(z, rng))
    if not isinstance(loss, LeastSquares):
        raise UnsupportedCombinationError(
            f"noise is added to the labels of LeastSquares only; {loss!r} draws them from its own law: "
            f"leave noise out (got {noise!r})"
        )
    return Dataset(x, z + xi(rng, m, 1)[:, 0])


def indifference_dataset(
    loss: Softmax,
    theta: npt.ArrayLike,
    n_points: int,
    *,
    seed: int,
    half_width: float = 50.0,
    noise: float = 0.01,
) -> Dataset:
    r"""Return points near which all classes tie, labeled with the probabilities of ``theta``.

    .. math:: x = \Pi(u) + \varepsilon\, P\xi, \qquad y = \mathrm{softmax}(\theta^\top x), \qquad
              \Pi \text{ the projection on } V = \{x : (\theta^\top x)_1 = \cdots = (\theta^\top x)_K\},

    with u uniform in the cube :math:`[-a, a]^d`, :math:`\xi` standard normal and P the projection on
    what lies across V: the span of the differences of theta's columns (intercepts left out). Since
    every label is the model's own distribution, all residuals at theta are 0: without ridge and
    alone, **theta is a minimizer, with any number of points**. The noise makes it the only one up to
    the gauge, as soon as the inputs span the space: on V itself every multiple of theta ties as well.

    Parameters
    ----------
    loss : Softmax
        With or without intercept.
    theta : array_like, shape (d, K) or (d + 1, K)
        The model; with an intercept that is its last row.
    n_points : int
        Number of points, at least 1.
    seed : int
        At least 0; the same seed gives the same points.
    half_width : float
        a, at least 0.
    noise : float
        The standard deviation :math:`\varepsilon` of each coordinate across V, at least 0.

    Returns
    -------
    Dataset
        ``n_points`` rows, each with count 1, and labels of shape (n_points, K).

    Raises
    ------
    InvalidInputError
        For a wrong shape or number; or if all classes tie nowhere, which takes an intercept and
        columns whose differences are linearly dependent (as with fewer than K - 1 features).
    UnsupportedCombinationError
        For another loss.

    Notes
    -----
    Source: Farhadkhani et al. 2022, the experiments; the defaults are theirs (T2.4). If theta's
    columns are equal, V is the whole space and nothing lies across it.

    Examples
    --------
    >>> from gplconvex import Problem, SquaredL2
    >>> loss, theta = Softmax(3), np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 1.0], [0.5, 0.0, 0.0]])
    >>> data = indifference_dataset(loss, theta, 1000, seed=0)
    >>> data.y[0].round(1)  # nearly a tie
    array([0.3, 0.3, 0.3])
    >>> user = Problem(loss, SquaredL2(1.0), [data]).locals[0]
    >>> bool(np.abs(user.gradient(theta)).max() < 1e-12)
    True
    """
    model, d = _model(loss, theta)
    if not isinstance(loss, Softmax):
        raise UnsupportedCombinationError(
            f"ties are between the classes of Softmax(n_classes); got {loss!r}: use honest_dataset"
        )
    m = _whole("n_points", n_points, 1)
    rng = np.random.default_rng(_whole("seed", seed, 0))
    a, deviation = _size("half_width", half_width), _size("noise", noise)
    nearest, across = _ties(model, d)
    u, xi = rng.uniform(-a, a, (m, d)), rng.standard_normal((m, d))
    x = nearest + u + (deviation * xi - u) @ across @ across.T
    return Dataset(x, softmax(loss.predictor(x, model), axis=1))


def _ties(theta: FloatArray, d: int) -> tuple[FloatArray, FloatArray]:
    r"""Return the point of V nearest to 0, and an orthonormal basis of what is normal to V.

    With differences :math:`D = U S W^\top` of theta's columns and c of its intercepts, V is
    :math:`D^\top x + c = 0`, and if it is not empty its least point is :math:`-U S^{-1} W^\top c`.
    """
    differences = theta[:, 1:] - theta[:, :1]  # no cancellation: each has one rounding error
    slopes, c = differences[:d], differences[d:].sum(axis=0)
    rounding = gamma(16 * sum(theta.shape))
    u, s, wt = np.linalg.svd(slopes, full_matrices=False)
    rank = int(np.sum(s > rounding * s[0]))
    across = u[:, :rank]
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = -across @ (wt[:rank] @ c / s[:rank])
        left = np.linalg.norm(slopes.T @ nearest + c)
        size = np.linalg.norm(nearest)
        exists = left <= rounding * (s[0] * size + np.linalg.norm(c)) and size <= LARGEST
    if not exists:
        raise InvalidInputError(
            f"no input makes all {theta.shape[1]} classes tie: expected intercepts that slopes of "
            f"rank {rank} in {d} features can make up for; got logits that still differ by "
            f"{left:.3g} at the best input, of norm {size:.3g} (which may be up to {LARGEST:g}). Make "
            "the intercepts equal, or use honest_dataset, which needs no ties"
        )
    return nearest, across


def _model(loss: Any, theta: npt.ArrayLike) -> tuple[FloatArray, int]:
    """Return the validated model and its number of features."""
    if not isinstance(loss, Loss):
        raise InvalidInputError(f"loss must be a Loss such as Logistic(); got {loss!r}")
    array = float_array("theta", theta)
    d = array.shape[0] - loss.intercept if array.ndim else 0
    if d < 1 or array.shape != loss.shape(d):
        columns = "".join(f", {k}" for k in loss.shape(1)[1:])
        rows = "d + 1" if loss.intercept else "d"
        raise InvalidInputError(
            f"theta must have shape ({rows}{columns or ','}) for {loss!r}, d >= 1 features"
            f"{' and the intercept last' if loss.intercept else ''}; got {array.shape}"
        )
    if not (np.abs(array) <= LARGEST).all():
        raise InvalidInputError(
            f"theta must be finite, with entries within {LARGEST:g} so that squares are finite too; "
            f"got {array.tolist()}"
        )
    return array, d


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidInputError(f"{name} must be an integer, at least {least}; got {value!r}")
    return int(value)


def _law(name: str, value: Any) -> Callable[[np.random.Generator, int, int], FloatArray]:
    if not (isinstance(value, str) and value in LAWS):
        raise InvalidInputError(f"{name} must be one of {', '.join(LAWS)}; got {value!r}")
    return LAWS[value]


def _size(name: str, value: Any) -> float:
    if not (is_number(value) and math.isfinite(value) and 0.0 <= value <= LARGEST):
        raise InvalidInputError(
            f"{name} must be a finite number, from 0 to {LARGEST:g}; got {value!r}"
        )
    return float(value)
