"""Domains: where the inputs of an attacker may lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import float_array, frozen_array
from gplconvex.errors import InvalidInputError
from gplconvex.rounding import LARGEST


class Domain(ABC):
    """A set of allowed inputs x. The intercept, fixed to 1, is never the attacker's to choose."""

    @abstractmethod
    def contains(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Return for each row of ``x``, shape (m, d), whether it lies in the domain."""


@dataclass(frozen=True)
class Unbounded(Domain):
    r"""All of :math:`\mathbb{R}^d`.

    Examples
    --------
    >>> Unbounded().contains(np.array([[1e300, -5.0]]))
    array([ True])
    """

    def contains(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Return true for every finite row."""
        return np.asarray(np.isfinite(x).all(axis=1))


@dataclass(frozen=True, eq=False)
class Box(Domain):
    r"""All x with :math:`l_j \le x_j \le u_j`, both finite and :math:`l_j < u_j`.

    Parameters
    ----------
    low, high : array_like, scalars or shape (d,)
        The bounds of all features, or one for each.

    Raises
    ------
    InvalidInputError
        If a bound is not finite, shapes disagree, or a lower bound is not below the upper one.

    Examples
    --------
    >>> Box(0.0, 1.0).contains(np.array([[0.0, 1.0], [0.5, 1.5]]))
    array([ True, False])
    """

    low: npt.ArrayLike
    high: npt.ArrayLike

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = float_array(f"Box: {name}", getattr(self, name))
            if bound.ndim > 1 or not (np.abs(bound) <= LARGEST).all():
                raise InvalidInputError(
                    f"Box: {name} must be one number, or one a feature, finite and within "
                    f"{LARGEST:g}; got {bound.tolist()}"
                )
            object.__setattr__(self, name, frozen_array(f"Box: {name}", bound))
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.ndim == high.ndim == 1 and low.shape != high.shape:
            raise InvalidInputError(
                f"Box: low and high must be of one length; got {low.shape[0]} and {high.shape[0]}"
            )
        wrong = np.atleast_1d(~(low < high))
        if wrong.any():
            feature = int(np.argmax(wrong))
            raise InvalidInputError(
                f"Box: low must be less than high; for feature {feature} got "
                f"{np.broadcast_to(low, wrong.shape)[feature]:g} and "
                f"{np.broadcast_to(high, wrong.shape)[feature]:g}. A feature that cannot vary is no "
                "choice of the attacker: leave it out, or use the loss's intercept"
            )

    def bounds(self, n_features: int) -> tuple[FloatArray, FloatArray]:
        """Return the bounds of ``n_features`` features, two arrays of that length."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        for bound in (low, high):
            if bound.ndim == 1 and len(bound) != n_features:
                raise InvalidInputError(
                    f"the box has bounds for {len(bound)} features, the model {n_features} (the "
                    "intercept is not the attacker's to choose, and has none)"
                )
        return np.broadcast_to(low, n_features), np.broadcast_to(high, n_features)

    def contains(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Return for each row whether all its entries are within the bounds."""
        low, high = self.bounds(x.shape[1])
        return np.asarray(((low <= x) & (x <= high)).all(axis=1))
