"""Domains: where the points of an attacker may lie."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, float_array, frozen_array, is_number
from gplconvex.errors import InvalidInputError
from gplconvex.rounding import LARGEST

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class Domain(ABC):
    """A set of allowed points: inputs x, and labels between two bounds.

    The intercept, fixed to 1, is never the attacker's to choose.

    Parameters
    ----------
    labels : pair of numbers, optional
        For least squares and Poisson regression: bounds of the labels; default, none but the loss's.
    """

    _: KW_ONLY
    labels: tuple[float, float] | None = None

    @property
    def discrete(self) -> bool:
        """Whether only some points of the convex hull belong to the domain."""
        return False

    def __post_init__(self) -> None:
        if self.labels is None:
            return
        pair = self.labels
        if not (
            isinstance(pair, Sequence)
            and len(pair) == 2
            and all(is_number(bound) and not math.isnan(bound) for bound in pair)
            and pair[0] < pair[1]
        ):
            raise InvalidInputError(
                f"{type(self).__name__}: labels must be two numbers, the lower bound before the upper; "
                f"got {pair!r}"
            )
        object.__setattr__(self, "labels", (float(pair[0]), float(pair[1])))

    @abstractmethod
    def contains(self, x: FloatArray) -> Rows:
        """Return for each row of ``x``, shape (m, d), whether it lies in the domain."""

    @abstractmethod
    def project(self, x: FloatArray) -> FloatArray:
        """Return the nearest inputs of the domain, row by row."""

    def __repr__(self) -> str:
        labels = "" if self.labels is None else f"labels={self.labels}"
        return f"{type(self).__name__}({labels})"

    def allows(self, data: Dataset) -> Rows:
        """Return for each point of a dataset whether its input and its label are allowed."""
        inside = self.contains(data.x)
        if self.labels is None:
            return inside
        return np.asarray(inside & (self.labels[0] <= data.y) & (data.y <= self.labels[1]))


@dataclass(frozen=True, eq=False, repr=False)
class Unbounded(Domain):
    r"""All of :math:`\mathbb{R}^d`.

    Examples
    --------
    >>> Unbounded().contains(np.array([[1e300, -5.0]]))
    array([ True])
    """

    def contains(self, x: FloatArray) -> Rows:
        """Return true for every finite row."""
        return np.asarray(np.isfinite(x).all(axis=1))

    def project(self, x: FloatArray) -> FloatArray:
        """Return the inputs."""
        return x


@dataclass(frozen=True, eq=False, repr=False)
class Box(Domain):
    r"""All x with :math:`l_j \le x_j \le u_j` and :math:`l_j < u_j`, infinite bounds allowed.

    Parameters
    ----------
    low, high : array_like, scalars or shape (d,)
        The bounds of all features, or one for each.
    labels : pair of numbers, optional
        Bounds of the labels.

    Raises
    ------
    InvalidInputError
        If a bound is not a number, shapes disagree, or a lower bound is not below the upper one.

    Examples
    --------
    >>> Box(0.0, 1.0).contains(np.array([[0.0, 1.0], [0.5, 1.5]]))
    array([ True, False])
    """

    low: npt.ArrayLike
    high: npt.ArrayLike

    def __repr__(self) -> str:
        ends = [np.array2string(np.asarray(end), threshold=6) for end in (self.low, self.high)]
        labels = "" if self.labels is None else f", labels={self.labels}"
        return f"{type(self).__name__}({ends[0]}, {ends[1]}{labels})"

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = type(self).__name__
        for name in ("low", "high"):
            bound = float_array(f"{kind}: {name}", getattr(self, name))
            finite = np.abs(bound) <= LARGEST
            if bound.ndim > 1 or not (finite | np.isinf(bound)).all():
                raise InvalidInputError(
                    f"{kind}: {name} must be one number, or one a feature, within {LARGEST:g} or "
                    f"infinite; got {bound.tolist()}"
                )
            object.__setattr__(self, name, frozen_array(f"{kind}: {name}", bound))
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.ndim == high.ndim == 1 and low.shape != high.shape:
            raise InvalidInputError(
                f"{kind}: low and high must be of one length; got {low.shape[0]} and {high.shape[0]}"
            )
        wrong = np.atleast_1d(~(low < high) | np.isposinf(low) | np.isneginf(high))
        if wrong.any():
            feature = int(np.argmax(wrong))
            raise InvalidInputError(
                f"{kind}: low must be less than high; for feature {feature} got "
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
                    f"the box has bounds for {len(bound)} features, the inputs {n_features} (the "
                    "intercept is not the attacker's to choose, and has none)"
                )
        return np.broadcast_to(low, n_features), np.broadcast_to(high, n_features)

    def contains(self, x: FloatArray) -> Rows:
        """Return for each row whether all its entries are within the bounds."""
        low, high = self.bounds(x.shape[1])
        return np.asarray(((low <= x) & (x <= high)).all(axis=1))

    def project(self, x: FloatArray) -> FloatArray:
        """Return every entry moved to its nearer bound if it is outside."""
        return np.clip(x, *self.bounds(x.shape[1]))


class NonNegative(Box):
    r"""All :math:`x \ge 0`.

    Parameters
    ----------
    labels : pair of numbers, optional
        Bounds of the labels.

    Examples
    --------
    >>> NonNegative().contains(np.array([[0.0, 7.0], [0.0, -1.0]]))
    array([ True, False])
    """

    def __init__(self, *, labels: tuple[float, float] | None = None) -> None:
        super().__init__(0.0, np.inf, labels=labels)

    def __repr__(self) -> str:
        return "NonNegative()" if self.labels is None else f"NonNegative(labels={self.labels})"


@dataclass(frozen=True, eq=False, repr=False)
class Integer(Box):
    r"""All x of whole numbers with :math:`l_j \le x_j \le u_j`.

    Parameters
    ----------
    low, high : array_like, scalars or shape (d,)
        The bounds, whole numbers or infinite.
    labels : pair of numbers, optional
        Bounds of the labels.

    Raises
    ------
    InvalidInputError
        As `Box`, and if a bound is finite and not whole.

    Examples
    --------
    >>> Integer(0, 9).project(np.array([[2.6, 11.0]]))
    array([[3., 9.]])
    """

    @property
    def discrete(self) -> bool:
        """True."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):
            bound = np.atleast_1d(getattr(self, name))
            wrong = np.isfinite(bound) & (bound != np.rint(bound))
            if wrong.any():
                raise InvalidInputError(
                    f"Integer: {name} must be whole numbers; got {bound[wrong].tolist()}"
                )

    def contains(self, x: FloatArray) -> Rows:
        """Return for each row whether its entries are whole and within the bounds."""
        return np.asarray(super().contains(x) & (x == np.rint(x)).all(axis=1))

    def project(self, x: FloatArray) -> FloatArray:
        """Return every entry rounded, and moved to its nearer bound if it is outside."""
        return super().project(np.rint(x))


@dataclass(frozen=True, eq=False, repr=False)
class Ball(Domain):
    r"""All x with :math:`|x| \le R`, the Euclidean norm.

    Parameters
    ----------
    radius : float
        R > 0.
    labels : pair of numbers, optional
        Bounds of the labels.

    Raises
    ------
    InvalidInputError
        If the radius is not a positive number.

    Examples
    --------
    >>> Ball(5.0).contains(np.array([[3.0, 4.0], [4.0, 4.0]]))
    array([ True, False])
    """

    radius: float

    def __repr__(self) -> str:
        labels = "" if self.labels is None else f", labels={self.labels}"
        return f"Ball({self.radius:g}{labels})"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_number(self.radius) and 0.0 < self.radius <= LARGEST):
            raise InvalidInputError(
                f"Ball: radius must be a positive number up to {LARGEST:g}; got {self.radius!r}"
            )

    def contains(self, x: FloatArray) -> Rows:
        """Return for each row whether its norm is at most R."""
        return np.asarray(np.linalg.norm(x, axis=1) <= self.radius)

    def project(self, x: FloatArray) -> FloatArray:
        """Return longer rows shortened to R."""
        size = np.linalg.norm(x, axis=1, keepdims=True)
        shorter = x * (self.radius / np.maximum(size, self.radius) * (1.0 - 1e-15))
        return np.where(size <= self.radius, x, shorter)


@dataclass(frozen=True, eq=False, repr=False)
class OneHot(Domain):
    r"""One category of as many as there are features: a single 1 and zeros.

    Examples
    --------
    >>> OneHot().project(np.array([[0.2, 0.7, 0.1]]))
    array([[0., 1., 0.]])
    """

    @property
    def discrete(self) -> bool:
        """True."""
        return True

    def contains(self, x: FloatArray) -> Rows:
        """Return for each row whether it is a single 1 and zeros."""
        return np.asarray(((x == 0.0) | (x == 1.0)).all(axis=1) & (x.sum(axis=1) == 1.0))

    def project(self, x: FloatArray) -> FloatArray:
        """Return 1 for the largest entry of a row."""
        return np.asarray(np.eye(x.shape[1])[np.argmax(x, axis=1)])


@dataclass(frozen=True, eq=False, repr=False)
class Product(Domain):
    """Features of several kinds: the first ones in one domain, the next ones in another.

    Parameters
    ----------
    parts : sequence of (int, Domain)
        How many features, and where they lie. Bounds of labels are the product's to have.
    labels : pair of numbers, optional
        Bounds of the labels.

    Raises
    ------
    InvalidInputError
        If a part is not such a pair, or has bounds of labels.

    Examples
    --------
    >>> mixed = Product([(1, Integer(18, 90)), (3, OneHot())])
    >>> mixed.contains(np.array([[40.0, 0.0, 1.0, 0.0], [40.5, 0.0, 1.0, 0.0]]))
    array([ True, False])
    """

    parts: Sequence[tuple[int, Domain]]

    def __repr__(self) -> str:
        labels = "" if self.labels is None else f", labels={self.labels}"
        return f"Product({list(self.parts)}{labels})"

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = tuple(self.parts)
        for part in parts:
            if not (isinstance(part, tuple) and len(part) == 2 and _is_part(*part)):
                raise InvalidInputError(
                    "Product: parts must be pairs of a number of features from 1 and a domain "
                    f"without labels; got {part!r}"
                )
        if not parts:
            raise InvalidInputError("Product: parts must not be empty")
        object.__setattr__(self, "parts", parts)

    @property
    def discrete(self) -> bool:
        """Whether one of the parts is."""
        return any(domain.discrete for _, domain in self.parts)

    def slices(self, n_features: int) -> list[tuple[slice, Domain]]:
        """Return which features lie where."""
        ends = np.cumsum([number for number, _ in self.parts]).tolist()
        if ends[-1] != n_features:
            raise InvalidInputError(
                f"the parts of the product have {ends[-1]} features, the inputs {n_features}"
            )
        starts = [0, *ends[:-1]]
        return [
            (slice(start, end), domain)
            for start, end, (_, domain) in zip(starts, ends, self.parts, strict=True)
        ]

    def contains(self, x: FloatArray) -> Rows:
        """Return for each row whether all its parts are allowed."""
        inside = [domain.contains(x[:, part]) for part, domain in self.slices(x.shape[1])]
        return np.asarray(np.logical_and.reduce(inside))

    def project(self, x: FloatArray) -> FloatArray:
        """Return the nearest inputs of every part."""
        return np.hstack([domain.project(x[:, part]) for part, domain in self.slices(x.shape[1])])


def _is_part(number: Any, domain: Any) -> bool:
    whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool) and number >= 1
    return bool(whole) and isinstance(domain, Domain) and domain.labels is None
