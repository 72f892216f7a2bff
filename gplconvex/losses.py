r"""Losses: the one place where a new one is added.

Every loss is a generalized linear model. With the linear predictor

.. math:: z = \theta^\top x \qquad (\theta^\top (x, 1) \text{ with an intercept}),

a loss is a convex function :math:`\varphi(z, y)` of one number; the gradient of a point is
:math:`x\,w` with the residual :math:`w = \varphi'(z, y)`, and its Hessian is
:math:`\varphi''(z, y)\, x x^\top`. A class states :math:`\varphi`, its two derivatives, bounds of the
second on an interval, the labels it accepts and its cvxpy atom. Everything else (values and gradients
over a dataset, Hessians, rounding bounds, the cvxpy model, validation) is derived from these.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from gplconvex._types import FloatArray, RealArray
from gplconvex.data import Dataset
from gplconvex.errors import InvalidInputError


class Loss(ABC):
    r"""A convex loss :math:`\varphi(z, y)` of the linear predictor, per point, with no factor.

    A subclass that has a ``name`` is entered in `Loss.registry`, from which the conformance tests,
    the command line and the documentation list the losses.

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
        r"""Return :math:`\varphi(z, y)`, elementwise."""

    @abstractmethod
    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`w = \varphi'(z, y)`, elementwise, to within 8 units of rounding."""

    @abstractmethod
    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        r"""Return :math:`\varphi''(z, y) \ge 0`, elementwise."""

    @abstractmethod
    def curvature_bounds(
        self, low: FloatArray, high: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        r"""Return the least and the greatest :math:`\varphi''(z, y)` over ``low <= z <= high``.

        The interval may be infinite. Certificates rest on these bounds.
        """

    @abstractmethod
    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`\varphi(z, y)`, elementwise, as a cvxpy expression convex in ``z``."""

    # -- what follows from it ----------------------------------------------------------------------

    def shape(self, n_features: int) -> tuple[int, ...]:
        """Return the shape of theta for inputs with ``n_features`` columns."""
        return (n_features + self.intercept,)

    def predictor(self, x: RealArray, theta: RealArray) -> RealArray:
        r"""Return :math:`z_i = \theta^\top x_i` (plus the intercept), shape (m,)."""
        return x @ theta[:-1] + theta[-1] if self.intercept else x @ theta

    def pullback(self, x: RealArray, weights: RealArray) -> RealArray:
        r"""Return :math:`\sum_i x_i w_i`, the adjoint of `predictor`."""
        features = x.T @ weights
        return np.append(features, weights.sum()) if self.intercept else features

    def gram(self, x: FloatArray, weights: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_i w_i\, x_i x_i^\top`, the intercept's row and column included."""
        weighted = x * weights[:, None]
        features = weighted.T @ x
        if not self.intercept:
            return features
        border = weighted.sum(axis=0)
        return np.block([[features, border[:, None]], [border[None, :], weights.sum()]])

    def check_labels(self, data: Dataset, where: str = "") -> None:
        """Raise `InvalidInputError`, naming the row, when a label is outside the loss's set."""
        if data.y.ndim != 1:
            raise InvalidInputError(
                f"{where}{self.name} takes one label a point, y of shape (m,); got {data.y.shape}"
            )
        bad = ~self.accepts(data.y)
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidInputError(
                f"{where}{self.name} takes {self.label_rule}; row {row} has y = {data.y[row]:g}"
            )


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

    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`(z - y)^2 / 2` for cvxpy."""
        import cvxpy as cp

        return 0.5 * cp.square(z - y)


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

    def cvxpy_value(self, z: Any, y: FloatArray) -> Any:
        r"""Return :math:`\log(1 + e^{-y z})` for cvxpy."""
        import cvxpy as cp

        return cp.logistic(-cp.multiply(y, z))
