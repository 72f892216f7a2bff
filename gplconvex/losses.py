r"""Losses: the one place where a new one is added.

Every loss is a generalized linear model. With the linear predictor

.. math:: z = \theta^\top x \qquad (\theta^\top (x, 1) \text{ with an intercept}),

a loss is a convex function :math:`\varphi(z, y)` of one number, or of K numbers where theta has K
columns. The gradient of a point is :math:`x\,w^\top` with the residual
:math:`w = \nabla_z\varphi(z, y)`, and its Hessian :math:`x x^\top \otimes \nabla_z^2\varphi(z, y)`. A
class states :math:`\varphi`, its two derivatives, bounds of the second on an interval, the labels it
accepts and its cvxpy atom. Everything else (values and gradients over a dataset, Hessians, rounding
bounds, the cvxpy model, validation) is derived from these.

Arrays of points may have leading axes, one user or one of anything an index: inputs (..., m, d),
labels and predictors (..., m) or (..., m, K), models (..., d) or (..., d, K). Inputs of one user may
be a sparse matrix (m, d).
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, log_softmax, logsumexp, softmax

from gplconvex._types import FloatArray, Inputs, RealArray
from gplconvex.data import Dataset, is_sparse
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.rounding import SIMPLEX, UNIT


class Loss(ABC):
    r"""A convex loss :math:`\varphi(z, y)` of the linear predictor, per point, with no factor.

    A subclass that has a ``name`` is entered in `Loss.registry`, from which the conformance tests
    list the losses.

    Attributes
    ----------
    intercept : bool
        Whether a feature fixed to 1 is appended to every input. Its coefficient is the *last* row
        of theta, and the ridge applies to it like to any other coefficient.
    """

    registry: ClassVar[dict[str, type[Loss]]] = {}
    name: ClassVar[str]
    label_rule: ClassVar[str]
    """The labels that are accepted, in words, for error messages."""
    curvature_range: ClassVar[tuple[float, float]]
    r"""Bounds of the eigenvalues of :math:`\varphi''` over all predictors and labels."""
    has_gauge: ClassVar[bool] = False
    """Whether adding one number to all K predictors of a point changes nothing."""
    intercept: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__ and not inspect.isabstract(cls):
            Loss.registry[cls.name] = cls

    def __post_init__(self) -> None:
        if not isinstance(self.intercept, bool):
            raise InvalidInputError(f"intercept must be True or False; got {self.intercept!r}")

    # -- what a loss must say about itself ---------------------------------------------------------

    @abstractmethod
    def accepts(self, y: FloatArray) -> npt.NDArray[np.bool_]:
        """Return for each label whether the loss is defined for it."""

    @abstractmethod
    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\varphi(z, y)` of every point, shape (..., m)."""

    @abstractmethod
    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`w = \varphi'(z, y)` of every point: (..., m), or (..., m, K)."""

    @abstractmethod
    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\varphi''(z, y) \ge 0` of every point: (..., m), or (..., m, K, K)."""

    @abstractmethod
    def curvature_bounds(
        self, low: FloatArray, high: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        r"""Return bounds of :math:`\varphi''(z, y)` over ``low <= z <= high``, two arrays (..., m).

        The least and the greatest value, or for K numbers a lower and an upper bound of the
        eigenvalues. The interval may be infinite. Certificates rest on these bounds.
        """

    @abstractmethod
    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`\varphi(z, y)` of every point as a cvxpy expression convex in ``z``."""

    def cvxpy_sum(self, design: Any, y: FloatArray, counts: Any, theta: Any) -> Any:
        r"""Return :math:`\sum_i c_i\,\varphi(\theta^\top x_i, y_i)`, up to a constant, for cvxpy."""
        return counts @ self.cvxpy_value(design @ theta, y)

    def draw_labels(self, z: FloatArray, rng: np.random.Generator) -> FloatArray:
        r"""Return a label of every point, drawn from the model that the loss is the likelihood of.

        .. math:: P(y \mid z) = m(y)\, e^{-\varphi(z, y)}, \qquad m \text{ free of } z.

        Then the residual has mean 0 and variance :math:`E\,\varphi''(z, y)`. A loss that is no
        negative log-likelihood leaves this out.
        """
        raise UnsupportedCombinationError(
            f"{self!r} says nothing about how labels arise: define draw_labels in its class"
        )

    # -- what follows from it ----------------------------------------------------------------------

    def shape(self, n_features: int) -> tuple[int, ...]:
        """Return the shape of theta for inputs with ``n_features`` columns."""
        return (n_features + self.intercept,)

    def residual_rounding(self, z: FloatArray, y: FloatArray, w: FloatArray) -> FloatArray:
        """Return a bound of the rounding error of `residual`, entry by entry, w being its value."""
        return 8.0 * UNIT * np.abs(w)

    def curvature_times(self, z: FloatArray, y: FloatArray, v: FloatArray) -> FloatArray:
        r"""Return :math:`\varphi''(z, y)\, v` of every point, v and the result shaped like z."""
        return self.curvature(z, y) * v

    def curvature_diagonal(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\varphi''_{kk}(z, y)` of every point, shaped like z."""
        return self.curvature(z, y)

    def jet(
        self, z: FloatArray, y: FloatArray, v: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        r"""Return value, residual, and :math:`v^\top\varphi''(z, y)\,v \ge 0`, shape (..., m).

        What they have in common is computed once.
        """
        return self.value(z, y), self.residual(z, y), self.curvature(z, y) * v * v

    def predictor(self, x: Inputs, theta: RealArray) -> RealArray:
        r"""Return :math:`z_i = \theta^\top x_i` (plus the intercept), shape (..., m) or (..., m, K)."""
        columns = theta if theta.ndim == x.ndim else theta[..., None]
        if self.intercept:
            z = _product(x, columns[..., :-1, :]) + columns[..., -1:, :]
        else:
            z = _product(x, columns)
        return np.asarray(z if theta.ndim == x.ndim else z[..., 0])

    def pullback(self, x: Inputs, weights: RealArray) -> RealArray:
        r"""Return :math:`\sum_i x_i w_i^\top`, the adjoint of `predictor`."""
        columns = weights if weights.ndim == x.ndim else weights[..., None]
        if _is_extended(columns) and not is_sparse(x):
            features = _dots(_transposed(x), columns)
        else:
            features = _transposed(_transposed(columns) @ x)
        if self.intercept:
            features = np.concatenate([features, columns.sum(axis=-2, keepdims=True)], axis=-2)
        return np.asarray(features if weights.ndim == x.ndim else features[..., 0])

    @np.errstate(over="ignore", invalid="ignore")
    def gram(self, x: Inputs, weights: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_i x_i x_i^\top \otimes W_i`, the intercept's rows and columns included.

        ``weights`` are numbers (..., m), and the result is (..., p, p); or matrices (..., m, K, K),
        and the result is (..., p K, p K), in the order of the entries of theta.
        """
        if weights.ndim < x.ndim:
            return self._weighted_gram(x, weights)
        k = weights.shape[-1]
        rows = [
            np.stack([self._weighted_gram(x, weights[..., a, b]) for b in range(k)], axis=-1)
            for a in range(k)
        ]
        blocks = np.stack(rows, axis=-3)  # (..., p, K, p, K)
        n = blocks.shape[-2] * k
        return blocks.reshape(*blocks.shape[:-4], n, n)

    def _weighted_gram(self, x: Inputs, weights: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_i w_i x_i x_i^\top`, the intercept included, shape (..., p, p)."""
        weighted = x if np.all(weights == 1.0) else _row_scaled(x, weights)
        gram = _transposed(x) @ weighted
        if is_sparse(gram):
            gram = gram.toarray()
        if not self.intercept:
            return np.asarray(gram)
        d = x.shape[-1]
        bordered = np.empty((*weights.shape[:-1], d + 1, d + 1))
        bordered[..., :d, :d] = gram
        bordered[..., :d, d] = bordered[..., d, :d] = (_transposed(x) @ weights[..., None])[..., 0]
        bordered[..., d, d] = weights.sum(axis=-1)
        return bordered

    def check_labels(self, data: Dataset, where: str = "") -> None:
        """Raise `InvalidInputError`, naming the row, when a label is outside the loss's set."""
        if data.y.ndim != 1:
            raise InvalidInputError(
                f"{where}{self.name} takes one label a point, y of shape (m,); got {data.y.shape}"
                f"{': pass y[:, 0]' if data.y.shape[1] == 1 else ''}"
            )
        bad = ~self.accepts(data.y)
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidInputError(
                f"{where}{self.name} takes {self.label_rule}; row {row} has y = {data.y[row]:g}"
            )


def _transposed(x: Inputs) -> Inputs:
    return x.T if is_sparse(x) else np.swapaxes(x, -1, -2)


ROWS = 256
"""Rows of large inputs that are multiplied at a time: BLAS copies them, and so many fit the cache."""


def _product(x: Inputs, columns: RealArray) -> RealArray:
    """Return x times a few columns, in Fortran order: half the time of `matmul`'s own order."""
    if is_sparse(x):
        return np.asarray(x @ columns)
    if _is_extended(columns):
        return _dots(x, columns)
    rows, left = x.shape[-2], np.ascontiguousarray(_transposed(columns))
    if rows <= ROWS or math.prod(x.shape[:-1]) > rows:
        return np.asarray(_transposed(left @ _transposed(x)))
    product = np.empty((*x.shape[:-2], left.shape[-2], rows), dtype=np.result_type(left, x))
    for start in range(0, rows, ROWS):
        part = slice(start, start + ROWS)
        np.matmul(left, _transposed(x[..., part, :]), out=product[..., part])
    return np.asarray(_transposed(product))


def _is_extended(columns: RealArray) -> bool:
    """Return whether numbers are longer than float64: there is no BLAS for them."""
    return columns.dtype.itemsize > np.dtype(np.float64).itemsize


def _dots(x: RealArray, columns: RealArray) -> RealArray:
    """Return x times a few columns in extended precision: two thirds of the time of `matmul`."""
    products: RealArray = np.vecdot(x[..., None, :], _transposed(columns)[..., None, :, :])
    return products


def _row_scaled(x: Inputs, weights: FloatArray) -> Inputs:
    return sparse.diags_array(weights) @ x if is_sparse(x) else x * weights[..., None]


@dataclass(frozen=True)
class LeastSquares(Loss):
    r"""Squared error with the factor one half.

    .. math:: \varphi(z, y) = \tfrac12 (z - y)^2, \qquad \varphi' = z - y, \qquad \varphi'' = 1.

    Parameters
    ----------
    intercept : bool
        Whether a feature fixed to 1 is appended.

    Examples
    --------
    >>> LeastSquares().value(np.array([3.0]), np.array([1.0]))
    array([2.])
    """

    intercept: bool = False
    name: ClassVar[str] = "least-squares"
    label_rule: ClassVar[str] = "any finite real label"
    curvature_range: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def accepts(self, y: FloatArray) -> npt.NDArray[np.bool_]:
        """Accept every finite number."""
        return np.isfinite(y)

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`(z - y)^2 / 2`."""
        return 0.5 * (z - y) ** 2

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`z - y`."""
        return z - y

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return 1."""
        return np.ones_like(z)

    def curvature_bounds(
        self, low: FloatArray, high: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return 1 and 1."""
        return np.ones_like(low), np.ones_like(low)

    def draw_labels(self, z: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return z plus standard normal noise."""
        return z + rng.standard_normal(z.shape)

    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`(z - y)^2 / 2` for cvxpy."""
        import cvxpy as cp

        return 0.5 * cp.square(z - y)

    def cvxpy_sum(self, design: Any, y: FloatArray, counts: Any, theta: Any) -> Any:
        r"""Return :math:`|R\theta - c|^2/2`, :math:`(R, c)` from a QR factorization of all points.

        As accurate as the sum over the points, which has as many cones, and several times faster.
        """
        import cvxpy as cp

        if is_sparse(design) or len(y) <= design.shape[1]:
            return super().cvxpy_sum(design, y, counts, theta)
        points = np.sqrt(counts)[:, None] * np.column_stack([design, y])
        r: Any = np.linalg.qr(points, mode="r")
        return 0.5 * cp.sum_squares(r[:, :-1] @ theta - r[:, -1])


@dataclass(frozen=True)
class Logistic(Loss):
    r"""Logistic loss of a binary label.

    .. math:: \varphi(z, y) = \log(1 + e^{-y z}), \qquad y \in \{-1, +1\}, \qquad
              \varphi' = -y\,\sigma(-y z), \qquad \varphi'' = \sigma(z)\,\sigma(-z) \le \tfrac14.

    Parameters
    ----------
    intercept : bool
        Whether a feature fixed to 1 is appended.

    Examples
    --------
    >>> Logistic().residual(np.array([0.0, 1000.0, -1000.0]), np.array([1.0, 1.0, 1.0]))
    array([-0.5, -0. , -1. ])
    """

    intercept: bool = False
    name: ClassVar[str] = "logistic"
    label_rule: ClassVar[str] = "labels -1 and +1 (map 0/1 labels with 2 * y - 1)"
    curvature_range: ClassVar[tuple[float, float]] = (0.0, 0.25)

    def accepts(self, y: FloatArray) -> npt.NDArray[np.bool_]:
        """Accept -1 and +1."""
        return np.asarray(np.abs(y) == 1.0)

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\log(1 + e^{-y z})`, without overflow."""
        return np.logaddexp(0.0, -y * z)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`-y\,\sigma(-y z)`."""
        return -y * expit(-y * z)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\sigma(z)\,\sigma(-z)`."""
        return expit(z) * expit(-z)

    def curvature_bounds(
        self, low: FloatArray, high: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the curvature at the ends farthest from and nearest to 0, where it peaks."""
        farthest = np.maximum(np.abs(low), np.abs(high))
        nearest = np.clip(0.0, low, high)
        return self.curvature(farthest, y), self.curvature(nearest, y)

    def draw_labels(self, z: FloatArray, rng: np.random.Generator) -> FloatArray:
        r"""Return +1 with probability :math:`\sigma(z)`, otherwise -1."""
        return np.where(rng.random(z.shape) < expit(z), 1.0, -1.0)

    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`\log(1 + e^{-y z})` for cvxpy."""
        import cvxpy as cp

        return cp.logistic(-cp.multiply(y, z))


MOST_COUNTED = 1e15
"""The largest mean of a count that is drawn: beyond 2^53, float64 no longer holds every integer."""


@dataclass(frozen=True)
class Poisson(Loss):
    r"""Poisson loss of a count, with the logarithmic link.

    .. math:: \varphi(z, y) = e^z - y z, \qquad y \in \{0, 1, 2, \ldots\}, \qquad
              \varphi' = e^z - y, \qquad \varphi'' = e^z.

    Where :math:`e^z` exceeds the largest float64 (z > 709) the value is ``inf``, and a line search
    steps back.

    Parameters
    ----------
    intercept : bool
        Whether a feature fixed to 1 is appended.

    Examples
    --------
    >>> Poisson().residual(np.array([0.0, 1000.0]), np.array([3.0, 0.0]))
    array([-2., inf])
    """

    intercept: bool = False
    name: ClassVar[str] = "poisson"
    label_rule: ClassVar[str] = "counts 0, 1, 2, ..."
    curvature_range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def accepts(self, y: FloatArray) -> npt.NDArray[np.bool_]:
        """Accept integers from 0."""
        return np.asarray((y >= 0.0) & np.isfinite(y) & (y == np.floor(y)))

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`e^z - y z`."""
        return self.curvature(z, y) - y * z

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`e^z - y`."""
        return self.curvature(z, y) - y

    def residual_rounding(self, z: FloatArray, y: FloatArray, w: FloatArray) -> FloatArray:
        r"""Return 8 units of rounding of :math:`e^z + y`, which may cancel."""
        return 8.0 * UNIT * (self.curvature(z, y) + y)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`e^z`."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(z))

    def curvature_bounds(
        self, low: FloatArray, high: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the curvature at the two ends."""
        return self.curvature(low, y), self.curvature(high, y)

    def draw_labels(self, z: FloatArray, rng: np.random.Generator) -> FloatArray:
        r"""Return a count with mean :math:`e^z`, which must be one that float64 can hold."""
        mean = self.curvature(z, z)
        if not (mean <= MOST_COUNTED).all():
            raise InvalidInputError(
                f"no count with mean exp(z) can be drawn at z = {z.max():.6g}: float64 holds means up "
                f"to {MOST_COUNTED:g}, z up to {math.log(MOST_COUNTED):.3g}. Scale theta down"
            )
        return rng.poisson(mean).astype(np.float64)

    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`e^z - y z` for cvxpy."""
        import cvxpy as cp

        return cp.exp(z) - cp.multiply(y, z)


@dataclass(frozen=True)
class Softmax(Loss):
    r"""Cross-entropy of K classes; theta has one column a class.

    .. math:: \varphi(z, y) = \log\sum_k e^{z_k} - y^\top z, \qquad z = \theta^\top x \in \mathbb{R}^K,
              \qquad \nabla\varphi = p(z) - y, \qquad
              \nabla^2\varphi = \mathrm{diag}(p) - p p^\top, \quad p = \mathrm{softmax}(z).

    The label y is a class 0, ..., K-1 (a unit vector of the formula) or a distribution over the
    classes, one row a point. Adding one vector to every column of theta changes no probability (the
    gauge); residuals sum to 0. With nu > 0 the ridge chooses among these thetas: its minimizers have
    columns that sum to 0. With nu = 0 the optimum is not unique, and no bound is certified.

    Parameters
    ----------
    n_classes : int
        K, at least 2.
    intercept : bool
        Whether a feature fixed to 1 is appended.

    Examples
    --------
    >>> Softmax(3).residual(np.zeros((1, 3)), np.array([2.0])).round(3)
    array([[ 0.333,  0.333, -0.667]])
    """

    n_classes: int
    intercept: bool = False
    name: ClassVar[str] = "softmax"
    label_rule: ClassVar[str] = "classes 0, ..., n_classes - 1, or one distribution a row"
    curvature_range: ClassVar[tuple[float, float]] = (0.0, 0.5)
    has_gauge: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.n_classes, (int, np.integer)) and not isinstance(
            self.n_classes, bool
        )
        if not (whole and self.n_classes >= 2):
            raise InvalidInputError(f"n_classes must be an integer from 2; got {self.n_classes!r}")

    def shape(self, n_features: int) -> tuple[int, ...]:
        """Return (d, K), or (d + 1, K) with an intercept."""
        return (n_features + self.intercept, self.n_classes)

    def accepts(self, y: FloatArray) -> npt.NDArray[np.bool_]:
        """Accept the integers 0, ..., K-1; or rows, not negative, that sum to 1."""
        if y.ndim == 1:
            return np.asarray((y >= 0.0) & (y < self.n_classes) & (y == np.floor(y)))
        return np.asarray((y >= 0.0).all(axis=1) & (np.abs(y.sum(axis=1) - 1.0) <= SIMPLEX))

    def check_labels(self, data: Dataset, where: str = "") -> None:
        """Raise `InvalidInputError`, naming the row, when a label is not a class or distribution."""
        if data.y.ndim == 1:
            super().check_labels(data, where)
            return
        if data.y.shape[1] != self.n_classes:
            raise InvalidInputError(
                f"{where}softmax with {self.n_classes} classes takes label rows of that length; "
                f"got y of shape {data.y.shape}"
            )
        bad = ~self.accepts(data.y)
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidInputError(
                f"{where}a label distribution must be at least 0 and sum to 1; row {row}, "
                f"{data.y[row].tolist()}, sums to {data.y[row].sum():.17g}"
            )

    def distributions(self, y: FloatArray, z: Any) -> FloatArray:
        """Return the labels as distributions, an array like z: (..., m, K)."""
        return np.eye(self.n_classes)[y.astype(np.intp)] if y.ndim < z.ndim else y

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`-y^\top \log p(z)`, without overflow."""
        return np.asarray(-np.sum(self.distributions(y, z) * log_softmax(z, axis=-1), axis=-1))

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`p(z) - y`; at a certain label from the other classes, without cancellation."""
        return self._residual(softmax(z, axis=-1), y)

    def _residual(self, p: FloatArray, y: FloatArray) -> FloatArray:
        if y.ndim < p.ndim:
            label, w = y.astype(np.intp)[..., None], p.copy(order="K")
            np.put_along_axis(w, label, 0.0, axis=-1)
            np.put_along_axis(w, label, -w.sum(axis=-1, keepdims=True), axis=-1)
            return w
        certain = y == 1.0
        others = np.where(certain, 0.0, p).sum(axis=-1)
        return np.where(certain, -others[..., None], p - y)

    def jet(
        self, z: FloatArray, y: FloatArray, v: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        r"""Return value, residual, and the variance of v under p, :math:`\sum_k p_k (v_k - p^\top v)^2`.

        One exponential a logit: this is most of what a line search costs.
        """
        shifted = z - z.max(axis=-1, keepdims=True)
        p = np.exp(shifted)
        total = p.sum(axis=-1, keepdims=True)
        p /= total
        if y.ndim < z.ndim:
            own = np.take_along_axis(shifted, y.astype(np.intp)[..., None], axis=-1)[..., 0]
            value = np.log(total[..., 0]) - own
        else:
            value = np.sum(y * (np.log(total) - shifted), axis=-1)
        centered = v - np.sum(p * v, axis=-1, keepdims=True)
        return value, self._residual(p, y), np.sum(p * np.square(centered), axis=-1)

    def residual_rounding(self, z: FloatArray, y: FloatArray, w: FloatArray) -> FloatArray:
        """Return what the exponents, the sums, and a label strictly between 0 and 1 may cost."""
        labels = self.distributions(y, z)
        spread = np.max(z, axis=-1, keepdims=True) - z
        certain = labels == 1.0
        spread = np.where(certain, spread.max(axis=-1, keepdims=True), spread)
        partial = np.where((labels == 0.0) | certain, 0.0, labels)
        units = 8.0 + self.n_classes + np.abs(spread)
        return np.asarray(UNIT * units * (np.abs(w) + 2.0 * partial))

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\mathrm{diag}(p) - p p^\top` of every point, shape (..., m, K, K)."""
        p: FloatArray = softmax(z, axis=-1)
        curvature = -p[..., :, None] * p[..., None, :]
        diagonal = np.arange(self.n_classes)
        curvature[..., diagonal, diagonal] = 0.0
        curvature[..., diagonal, diagonal] = -curvature.sum(axis=-1)  # p (1 - p), for p near 1 too
        return curvature

    def curvature_times(self, z: FloatArray, y: FloatArray, v: FloatArray) -> FloatArray:
        r"""Return :math:`(\mathrm{diag}(p) - p p^\top)\,v`."""
        return np.asarray(np.einsum("...kl,...l->...k", self.curvature(z, y), v))

    def curvature_diagonal(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`p_k (1 - p_k)`, for p near 1 too."""
        residual = self._residual(softmax(z, axis=-1), np.argmax(z, axis=-1))
        p = np.abs(residual)  # 1 - p of the likeliest class, p of the others
        return np.asarray(p * (1.0 - p))

    def curvature_bounds(
        self, low: FloatArray, high: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        r"""Return 0 (the gauge) and :math:`\min(\tfrac12, 2\max_k p_k(1 - p_k))` (Gershgorin)."""
        least, most = self._log_odds(low, high), self._log_odds(high, low)
        nearest = np.clip(0.0, least, most)  # p (1 - p) is largest where the odds are even
        variance = expit(nearest) * expit(-nearest)
        variance *= 1.0 + UNIT * (64.0 + 8.0 * np.where(np.isfinite(nearest), np.abs(nearest), 0.0))
        greatest = np.minimum(0.5, 2.0 * np.max(variance, axis=-1, initial=0.0))
        return np.zeros_like(greatest), greatest

    def draw_labels(self, z: FloatArray, rng: np.random.Generator) -> FloatArray:
        r"""Return a class, k with probability :math:`p_k(z)`: the largest logit plus Gumbel noise."""
        largest = np.argmax(z + rng.gumbel(size=z.shape), axis=-1)
        return np.asarray(largest, dtype=np.float64)

    def _log_odds(self, own: FloatArray, others: FloatArray) -> FloatArray:
        """Return the log-odds of each class, from its own logit and those of the others."""
        columns = [
            own[..., k] - logsumexp(np.delete(others, k, axis=-1), axis=-1)
            for k in range(self.n_classes)
        ]
        return np.stack(columns, axis=-1)

    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`\log\sum_k e^{z_k} - y^\top z` for cvxpy."""
        import cvxpy as cp

        return cp.log_sum_exp(z, axis=1) - cp.sum(cp.multiply(self.distributions(y, z), z), axis=1)
