r"""Regularizers: the one place where a new one is added.

A regularizer ties a personal model to the global one through a convex function of their difference,

.. math:: R(\rho, \theta) = r(u), \qquad u = \rho - \theta,

and :math:`|\cdot|` is the Euclidean (Frobenius) norm. Here a model is a vector, the *last* axis of an
array (flatten a model of shape (d, K)); leading axes hold one model each. The server sees the report
:math:`\nabla_\rho R = \nabla r(u)`; the set Grad of plausible reports is the set of (sub)gradients of
r, a ball in all four cases (T1):

=============== ================================= ============ ==================================
regularizer     r(u)                              Grad         conjugate r*(g)
=============== ================================= ============ ==================================
squared l2      lam * |u|^2                       everything   |g|^2 / (4 lam)
l2              lam * |u|                         |g| <= lam   0 on the ball
smooth l2       lam * sqrt(delta^2 + |u|^2)       |g| < lam    -delta * sqrt(lam^2 - |g|^2)
hard consensus  0 if u = 0, else infinity         everything   0
=============== ================================= ============ ==================================

All four are functions of the length :math:`t = |u|`, and their derivatives

.. math:: \nabla r(u) = a\,u, \qquad \nabla^2 r(u) = a\,I + (r''(t) - a)\,\hat u\hat u^\top, \qquad
          a = \frac{r'(t)}{t}, \; \hat u = \frac ut,

follow from two functions of it. Everything else (envelopes, solvers, duality gaps, error bounds) is
derived from a few methods. What
certificates rest on is the Fenchel-Young residual
:math:`e(u, g) = r(u) + r^*(g) - \langle u, g\rangle \ge 0`, which vanishes exactly when g is
a (sub)gradient of r at u, and is evaluated without cancellation.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError
from gplconvex.rounding import LARGEST, UNIT, gamma


@np.errstate(over="ignore")
def lengths(u: FloatArray) -> FloatArray:
    """Return the Euclidean norms along the last axis, also where squares overflow or underflow."""
    found = np.asarray(np.sqrt(np.einsum("...i,...i->...", u, u)))
    if not (found.size and found.min() > 1e-150 and found.max() < 1e150):
        if not u.any():
            return found
        usual = (found > 1e-150) & (found < 1e150)
        largest = np.max(np.abs(u), axis=-1, initial=0.0)
        unit = np.where((largest > 0.0) & (largest < math.inf), largest, 1.0)
        scaled = unit * np.sqrt(np.sum((u / unit[..., None]) ** 2, axis=-1))
        found = np.where(usual, found, scaled)
    return found


def norm(u: FloatArray) -> float:
    """Return the Euclidean (Frobenius) norm of one model of any shape, as `lengths` does."""
    return float(lengths(u.ravel()))


def roundings_of(*vectors: FloatArray) -> FloatArray:
    """Return what computing a few entrywise products, sums and norms of vectors may be off by."""
    return np.asarray(gamma(vectors[0].shape[-1] + 16) * sum(lengths(vector) for vector in vectors))


def rounding_of(*vectors: FloatArray) -> float:
    """Return the same for single models of any shape."""
    return float(roundings_of(*(vector.ravel() for vector in vectors)))


class Regularizer(ABC):
    r"""A convex function r of :math:`u = \rho - \theta`, a vector: the last axis of an array.

    Methods take one vector (p,), and then return one number, vector or matrix; or many, (..., p).

    A subclass that has a ``name`` is entered in `Regularizer.registry`, from which the conformance
    tests list the regularizers.
    """

    registry: ClassVar[dict[str, type[Regularizer]]] = {}
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__ and not inspect.isabstract(cls):
            Regularizer.registry[cls.name] = cls

    # -- predicates --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def radius(self) -> float:
        """The radius of Grad, the ball of plausible reports (``inf``: every report)."""

    @property
    @abstractmethod
    def kink(self) -> float:
        """The radius of the subdifferential at u = 0; 0 where r is differentiable."""

    @property
    @abstractmethod
    def strong_convexity(self) -> float:
        r"""The largest s with :math:`r - \tfrac s2 |\cdot|^2` convex."""

    @property
    @abstractmethod
    def smoothness(self) -> float:
        """The Lipschitz constant of the gradient (``inf`` where there is a kink)."""

    @abstractmethod
    def inverse_lipschitz(self, bound: FloatArray) -> FloatArray:
        r"""Return a Lipschitz constant of :math:`(\nabla r)^{-1}` on :math:`|g| \le` ``bound``.

        ``inf`` when the gradient of r has no single-valued inverse there.
        """

    # -- function and derivatives ------------------------------------------------------------------

    @abstractmethod
    def value(self, u: FloatArray) -> FloatArray:
        """Return r(u)."""

    @abstractmethod
    def gradient(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla r(u)`; at a kink the subgradient of least norm, 0."""

    @abstractmethod
    def slope(self, t: FloatArray) -> FloatArray:
        r"""Return :math:`a = r'(t)/t` for lengths t (t > 0 at a kink)."""

    @abstractmethod
    def curvature(self, t: FloatArray) -> FloatArray:
        r"""Return :math:`r''(t)`, the curvature along u, for lengths t (t > 0 at a kink)."""

    def hessian(self, u: FloatArray) -> FloatArray:
        """Return the Hessian at u, shape (..., p, p) (u != 0 at a kink)."""
        t = lengths(u)
        a = self.slope(t)
        across = a[..., None, None] * np.eye(u.shape[-1])
        bend = self.curvature(t) - a
        if not bend.any():
            return across
        unit = u / np.where(t > 0.0, t, 1.0)[..., None]
        return across + bend[..., None, None] * unit[..., :, None] * unit[..., None, :]

    # -- the dual side -----------------------------------------------------------------------------

    @abstractmethod
    def conjugate(self, g: FloatArray) -> FloatArray:
        r"""Return :math:`r^*(g) = \sup_u \langle u, g\rangle - r(u)` (``inf`` outside its domain)."""

    @abstractmethod
    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        r"""Return the u of least norm with g in the (sub)differential of r at u.

        ``g`` must satisfy `is_reachable`.
        """

    @abstractmethod
    def fenchel_young(
        self, u: FloatArray, g: FloatArray, uncertainty: FloatArray | float = 0.0
    ) -> FloatArray:
        r"""Return an upper bound of :math:`e(u, g)`, exact up to rounding, without cancellation.

        Parameters
        ----------
        u : array
            Difference of models, exact up to rounding of each entry.
        g : array
            A dual vector.
        uncertainty : float, or one a vector
            The bound holds for every dual vector within this distance of ``g``.

        Returns
        -------
        array
            At least :math:`r(u) + r^*(g') - \langle u, g'\rangle` for all :math:`g'` within
            ``uncertainty`` of g that lie in the domain of :math:`r^*`; ``inf`` when no bound is
            available.
        """

    @abstractmethod
    def cvxpy_value(self, u: Any) -> Any:
        """Return r(u) as a convex cvxpy expression; not called when `kink` is infinite."""

    def is_plausible(self, g: FloatArray) -> bool:
        """Return whether one g lies in the closure of Grad, up to the rounding of its norm."""
        return norm(g) <= self.radius * (1.0 + gamma(g.size + 8))

    def is_reachable(self, g: FloatArray) -> bool:
        """Return whether g is a (sub)gradient of r at some u."""
        return self.is_plausible(g)


def _positive(what: str, name: str, value: float) -> float:
    """Return a parameter as a float64, or raise `InvalidInputError`."""
    if not is_number(value):
        raise InvalidInputError(f"{what}: {name} must be a number; got {value!r}")
    number = float(value)  # before comparing: a shorter type would round the other side
    if not LARGEST**-1 < number < LARGEST:
        raise InvalidInputError(
            f"{what}: {name} must be positive and finite, between {LARGEST**-1:g} and {LARGEST:g} so "
            f"that squares are too; got {value!r}"
        )
    return number


@dataclass(frozen=True)
class SquaredL2(Regularizer):
    r"""Squared Euclidean norm, *without* the factor one half.

    .. math:: r(u) = \lambda |u|^2, \qquad \nabla r(u) = 2\lambda u, \qquad
              r^*(g) = \frac{|g|^2}{4\lambda}, \qquad e(u, g) = \frac{|2\lambda u - g|^2}{4\lambda}.

    Parameters
    ----------
    lam : float
        Strength, positive.

    Examples
    --------
    >>> SquaredL2(0.5).gradient(np.array([3.0, 4.0]))
    array([3., 4.])
    """

    lam: float
    name: ClassVar[str] = "squared-l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", _positive("SquaredL2", "lam", self.lam))

    @property
    def radius(self) -> float:
        """Every report is plausible."""
        return math.inf

    @property
    def kink(self) -> float:
        """Differentiable everywhere."""
        return 0.0

    @property
    def strong_convexity(self) -> float:
        """Twice lam."""
        return 2.0 * self.lam

    @property
    def smoothness(self) -> float:
        """Twice lam."""
        return 2.0 * self.lam

    def inverse_lipschitz(self, bound: FloatArray) -> FloatArray:
        """Return 1 / (2 lam)."""
        return np.full_like(bound, 1.0 / (2.0 * self.lam))

    def value(self, u: FloatArray) -> FloatArray:
        """Return lam |u|^2."""
        return self.lam * lengths(u) ** 2

    def gradient(self, u: FloatArray) -> FloatArray:
        """Return 2 lam u."""
        return 2.0 * self.lam * u

    def slope(self, t: FloatArray) -> FloatArray:
        """Return 2 lam."""
        return np.full_like(t, 2.0 * self.lam)

    def curvature(self, t: FloatArray) -> FloatArray:
        """Return 2 lam."""
        return np.full_like(t, 2.0 * self.lam)

    def conjugate(self, g: FloatArray) -> FloatArray:
        """Return |g|^2 / (4 lam)."""
        return lengths(g) ** 2 / (4.0 * self.lam)

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        """Return g / (2 lam)."""
        return g / (2.0 * self.lam)

    def fenchel_young(
        self, u: FloatArray, g: FloatArray, uncertainty: FloatArray | float = 0.0
    ) -> FloatArray:
        """Return |2 lam u - g|^2 / (4 lam)."""
        scaled = self.gradient(u)
        off = roundings_of(scaled, g) + uncertainty
        return (lengths(scaled - g) + off) ** 2 / (4.0 * self.lam)

    def cvxpy_value(self, u: Any) -> Any:
        """Return lam |u|^2 for cvxpy."""
        import cvxpy as cp

        return self.lam * cp.sum_squares(u)


@dataclass(frozen=True)
class L2(Regularizer):
    r"""Euclidean norm, not squared: it has a kink at u = 0, where models coincide exactly.

    .. math:: r(u) = \lambda |u|, \qquad \partial r(0) = \{|g| \le \lambda\}, \qquad
              r^*(g) = 0 \text{ for } |g| \le \lambda, \qquad
              e(u, g) = |u|\,(\lambda - a), \; a = \langle g, u\rangle / |u|.

    Parameters
    ----------
    lam : float
        Strength, positive: the largest norm that a report can have.

    Examples
    --------
    >>> L2(2.0).gradient(np.array([3.0, 4.0]))
    array([1.2, 1.6])
    """

    lam: float
    name: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", _positive("L2", "lam", self.lam))

    @property
    def radius(self) -> float:
        """Reports have norm at most lam."""
        return self.lam

    @property
    def kink(self) -> float:
        """The subdifferential at 0 is the ball of radius lam."""
        return self.lam

    @property
    def strong_convexity(self) -> float:
        """Zero: r is linear along rays."""
        return 0.0

    @property
    def smoothness(self) -> float:
        """Infinite: there is a kink."""
        return math.inf

    def inverse_lipschitz(self, bound: FloatArray) -> FloatArray:
        """Return ``inf``: the gradient forgets the length of u."""
        return np.full_like(bound, math.inf)

    def value(self, u: FloatArray) -> FloatArray:
        """Return lam |u|."""
        return self.lam * lengths(u)

    def gradient(self, u: FloatArray) -> FloatArray:
        """Return lam u / |u|, and 0 at u = 0."""
        t = lengths(u)
        return self.lam * (u / np.where(t > 0.0, t, 1.0)[..., None])

    def slope(self, t: FloatArray) -> FloatArray:
        """Return lam / t."""
        return self.lam / t

    def curvature(self, t: FloatArray) -> FloatArray:
        """Return 0: r is linear along rays."""
        return np.zeros_like(t)

    def conjugate(self, g: FloatArray) -> FloatArray:
        """Return 0 on the ball of radius lam, ``inf`` outside."""
        return np.where(lengths(g) <= self.lam, 0.0, math.inf)

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        """Return 0, at which every plausible g is a subgradient."""
        return np.zeros_like(g)

    def fenchel_young(
        self, u: FloatArray, g: FloatArray, uncertainty: FloatArray | float = 0.0
    ) -> FloatArray:
        r"""Return :math:`|u| (\lambda - a)`, where :math:`a = \langle g, u\rangle / |u|`.

        :math:`\lambda - a = (\lambda^2 - |g|^2 + |p|^2) / (\lambda + a)`, with p the part of g
        orthogonal to u, has no cancellation when g is close to :math:`\lambda u / |u|`.
        """
        t, size = lengths(u), lengths(g)
        unit = u / np.where(t > 0.0, t, 1.0)[..., None]
        along = np.sum(g * unit, axis=-1)
        across = lengths(g - along[..., None] * unit)
        inside = (self.lam - size) * (self.lam + size)
        forwards = np.maximum(along, 0.0)  # the quotient is for g that points along u
        distance = np.where(
            along > 0.0, (inside + across**2) / (self.lam + forwards), self.lam - along
        )
        off = roundings_of(g) + 8.0 * UNIT * self.lam + uncertainty
        return np.asarray(t * np.maximum(0.0, distance + off))

    def cvxpy_value(self, u: Any) -> Any:
        """Return lam |u| for cvxpy."""
        import cvxpy as cp

        return self.lam * cp.norm(cp.vec(u, order="C"), 2)


@dataclass(frozen=True)
class SmoothL2(Regularizer):
    r"""Smoothed Euclidean norm (pseudo-Huber): quadratic near 0, linear far away.

    .. math:: r(u) = \lambda \sqrt{\delta^2 + |u|^2}, \qquad
              \nabla r(u) = \frac{\lambda u}{\sqrt{\delta^2 + |u|^2}}, \qquad
              r^*(g) = -\delta\sqrt{\lambda^2 - |g|^2}, \qquad
              e(u, g) = \frac{|c u - \delta g|^2 + |u|^2 |p|^2}
                             {\lambda s + \delta c + \langle u, g\rangle},

    with :math:`s = \sqrt{\delta^2 + |u|^2}`, :math:`c = \sqrt{\lambda^2 - |g|^2}` and p the part of g
    orthogonal to u.

    Parameters
    ----------
    lam : float
        Strength, positive: reports have norm below lam.
    delta : float
        Width of the smoothing, positive; the paper has 1.

    Examples
    --------
    >>> float(SmoothL2(2.0).value(np.zeros(3)))
    2.0
    """

    lam: float
    delta: float = 1.0
    name: ClassVar[str] = "smooth-l2"

    def __post_init__(self) -> None:
        object.__setattr__(self, "lam", _positive("SmoothL2", "lam", self.lam))
        object.__setattr__(self, "delta", _positive("SmoothL2", "delta", self.delta))

    @property
    def radius(self) -> float:
        """Reports have norm below lam."""
        return self.lam

    @property
    def kink(self) -> float:
        """Differentiable everywhere."""
        return 0.0

    @property
    def strong_convexity(self) -> float:
        """Zero: r is asymptotically linear."""
        return 0.0

    @property
    def smoothness(self) -> float:
        """The curvature lam / delta at u = 0."""
        return self.lam / self.delta

    def _cosine(self, size: FloatArray) -> FloatArray:
        r"""Return :math:`\sqrt{1 - t^2}`, :math:`t = |g|/\lambda \le 1`, without cancellation."""
        t = size / self.lam
        return np.sqrt((1.0 - t) * (1.0 + t))

    def inverse_lipschitz(self, bound: FloatArray) -> FloatArray:
        r"""Return :math:`\delta \lambda^2 / (\lambda^2 - G^2)^{3/2}` on :math:`|g| \le G < \lambda`."""
        cosine = self._cosine(np.minimum(bound, self.lam))
        with np.errstate(divide="ignore"):
            return self.delta / self.lam / cosine**3

    def value(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda \sqrt{\delta^2 + |u|^2}`."""
        return self.lam * np.hypot(self.delta, lengths(u))

    def gradient(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda u / \sqrt{\delta^2 + |u|^2}`."""
        return self.lam * (u / np.hypot(self.delta, lengths(u))[..., None])

    def slope(self, t: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda / s`."""
        return self.lam / np.hypot(self.delta, t)

    def curvature(self, t: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda \delta^2 / s^3`."""
        s = np.hypot(self.delta, t)
        return self.lam / s * (self.delta / s) ** 2

    def conjugate(self, g: FloatArray) -> FloatArray:
        r"""Return :math:`-\delta \sqrt{\lambda^2 - |g|^2}`, ``inf`` outside the ball."""
        size = lengths(g)
        inside = -self.delta * self.lam * self._cosine(np.minimum(size, self.lam))
        return np.where(size <= self.lam, inside, math.inf)

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        r"""Return :math:`\delta g / \sqrt{\lambda^2 - |g|^2}`."""
        return g / self.lam * (self.delta / self._cosine(lengths(g)))[..., None]

    def is_reachable(self, g: FloatArray) -> bool:
        """Return whether |g| < lam: on the sphere u would be infinite."""
        return norm(g) < self.lam

    @np.errstate(over="ignore", divide="ignore", invalid="ignore")
    def fenchel_young(
        self, u: FloatArray, g: FloatArray, uncertainty: FloatArray | float = 0.0
    ) -> FloatArray:
        """Return the closed form of the class docstring."""
        # In units of lam: with h = g / lam, e / lam is the same expression for lam = 1.
        t, h = lengths(u), g / self.lam
        size = lengths(h)
        off = uncertainty / self.lam + roundings_of(h)  # how far the exact dual may be from h
        s = np.hypot(self.delta, t)
        c = self._cosine(np.minimum(lengths(g), self.lam))
        # |dc/dh| = |h| / c increases with |h|: take it at the far end of the uncertain ball.
        c_off = off / np.sqrt((1.0 - size - off) * (1.0 + size + off))
        inner = np.sum(u * h, axis=-1)
        unit = u / np.where(t > 0.0, t, 1.0)[..., None]
        across = lengths(h - np.sum(unit * h, axis=-1)[..., None] * unit)
        turned, pulled = c[..., None] * u, self.delta * h
        along = lengths(turned - pulled) + roundings_of(turned, pulled)
        along += t * c_off + self.delta * off
        denominator = s + self.delta * c + inner
        denominator -= t * off + self.delta * c_off + gamma(u.shape[-1] + 16) * s
        bound = self.lam * (along**2 + (t * (across + off)) ** 2) / denominator
        return np.where((size + off < 1.0) & (denominator > 0.0), bound, math.inf)

    def cvxpy_value(self, u: Any) -> Any:
        r"""Return :math:`\lambda |(\delta, u)|` for cvxpy."""
        import cvxpy as cp

        return self.lam * cp.norm(cp.hstack([np.array([self.delta]), cp.vec(u, order="C")]), 2)


@dataclass(frozen=True)
class HardConsensus(Regularizer):
    r"""All models equal: ordinary federated training of ONE model, the limit lam -> infinity.

    .. math:: r(0) = 0, \quad r(u) = \infty \text{ for } u \neq 0, \qquad r^*(g) = 0.

    Examples
    --------
    >>> float(HardConsensus().value(np.array([0.1])))
    inf
    """

    name: ClassVar[str] = "hard-consensus"

    @property
    def radius(self) -> float:
        """Every report is plausible."""
        return math.inf

    @property
    def kink(self) -> float:
        """Every vector is a subgradient at 0."""
        return math.inf

    @property
    def strong_convexity(self) -> float:
        """Infinite: u = 0 is the only point of the domain."""
        return math.inf

    @property
    def smoothness(self) -> float:
        """Infinite."""
        return math.inf

    def inverse_lipschitz(self, bound: FloatArray) -> FloatArray:
        """Return 0: every g belongs to u = 0."""
        return np.zeros_like(bound)

    def value(self, u: FloatArray) -> FloatArray:
        """Return 0 at u = 0 and ``inf`` elsewhere."""
        return np.where(np.any(u, axis=-1), math.inf, 0.0)

    def gradient(self, u: FloatArray) -> FloatArray:
        """Return 0, the subgradient of least norm at u = 0."""
        if u.any():
            raise InvalidInputError(
                f"HardConsensus has no gradient away from u = 0; got |u| = {norm(u):g}"
            )
        return np.zeros_like(u)

    def slope(self, t: FloatArray) -> FloatArray:
        """Raise: there is no smooth piece."""
        raise InvalidInputError("HardConsensus has no Hessian: r is infinite away from u = 0")

    def curvature(self, t: FloatArray) -> FloatArray:
        """Raise: there is no smooth piece."""
        return self.slope(t)

    def conjugate(self, g: FloatArray) -> FloatArray:
        """Return 0."""
        return np.zeros(g.shape[:-1])

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        """Return 0, to which every g belongs."""
        return np.zeros_like(g)

    def fenchel_young(
        self, u: FloatArray, g: FloatArray, uncertainty: FloatArray | float = 0.0
    ) -> FloatArray:
        """Return 0 at u = 0 and ``inf`` elsewhere."""
        return self.value(u)

    def cvxpy_value(self, u: Any) -> Any:
        """Raise: the models share one variable instead."""
        raise InvalidInputError("HardConsensus is modelled by one shared variable, not by a term")
