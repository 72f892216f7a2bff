r"""Regularizers: the one place where a new one is added.

A regularizer ties a personal model to the global one through a convex function of their difference,

.. math:: R(\rho, \theta) = r(u), \qquad u = \rho - \theta,

and :math:`|\cdot|` is the Euclidean (Frobenius) norm. The server sees the report
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

Everything else (envelopes, solvers, duality gaps, error bounds) is derived from a few methods. What
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
from scipy import linalg

from gplconvex._types import FloatArray
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError
from gplconvex.rounding import LARGEST, UNIT, gamma


def norm(u: FloatArray) -> float:
    """Return the Euclidean (Frobenius) norm, also where squares overflow or underflow."""
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(u))
    if 1e-150 < length < 1e150:
        return length
    return float(linalg.norm(u.ravel(), check_finite=False))


def rounding_of(*vectors: FloatArray) -> float:
    """Return what computing a few entrywise products, sums and norms of vectors may be off by."""
    return gamma(vectors[0].size + 16) * math.fsum(map(norm, vectors))


class Regularizer(ABC):
    r"""A convex function r of :math:`u = \rho - \theta`; models may have any shape.

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
    def inverse_lipschitz(self, bound: float) -> float:
        r"""Return a Lipschitz constant of :math:`(\nabla r)^{-1}` on :math:`|g| \le` ``bound``.

        ``inf`` when the gradient of r has no single-valued inverse there.
        """

    # -- function and derivatives ------------------------------------------------------------------

    @abstractmethod
    def value(self, u: FloatArray) -> float:
        """Return r(u)."""

    @abstractmethod
    def gradient(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla r(u)`; at a kink the subgradient of least norm, 0."""

    @abstractmethod
    def hessian(self, u: FloatArray) -> FloatArray:
        """Return the Hessian at u, shape (p, p) for a model of p numbers (u != 0 at a kink)."""

    # -- the dual side -----------------------------------------------------------------------------

    @abstractmethod
    def conjugate(self, g: FloatArray) -> float:
        r"""Return :math:`r^*(g) = \sup_u \langle u, g\rangle - r(u)` (``inf`` outside its domain)."""

    @abstractmethod
    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        r"""Return the u of least norm with g in the (sub)differential of r at u.

        ``g`` must satisfy `is_reachable`.
        """

    @abstractmethod
    def fenchel_young(self, u: FloatArray, g: FloatArray, uncertainty: float = 0.0) -> float:
        r"""Return an upper bound of :math:`e(u, g)`, exact up to rounding, without cancellation.

        Parameters
        ----------
        u : array
            Difference of models, exact up to rounding of each entry.
        g : array
            A dual vector.
        uncertainty : float
            The bound holds for every dual vector within this distance of ``g``.

        Returns
        -------
        float
            At least :math:`r(u) + r^*(g') - \langle u, g'\rangle` for all :math:`g'` within
            ``uncertainty`` of g that lie in the domain of :math:`r^*`; ``inf`` when no bound is
            available.
        """

    @abstractmethod
    def cvxpy_value(self, u: Any) -> Any:
        """Return r(u) as a convex cvxpy expression; not called when `kink` is infinite."""

    def is_plausible(self, g: FloatArray) -> bool:
        """Return whether g lies in the closure of Grad, up to the rounding of its norm."""
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

    def inverse_lipschitz(self, bound: float) -> float:
        """Return 1 / (2 lam)."""
        return 1.0 / (2.0 * self.lam)

    def value(self, u: FloatArray) -> float:
        """Return lam |u|^2."""
        length = norm(u)
        return self.lam * length * length

    def gradient(self, u: FloatArray) -> FloatArray:
        """Return 2 lam u."""
        return 2.0 * self.lam * u

    def hessian(self, u: FloatArray) -> FloatArray:
        """Return 2 lam I."""
        return 2.0 * self.lam * np.eye(u.size)

    def conjugate(self, g: FloatArray) -> float:
        """Return |g|^2 / (4 lam)."""
        length = norm(g)
        return length * length / (4.0 * self.lam)

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        """Return g / (2 lam)."""
        return g / (2.0 * self.lam)

    def fenchel_young(self, u: FloatArray, g: FloatArray, uncertainty: float = 0.0) -> float:
        """Return |2 lam u - g|^2 / (4 lam)."""
        scaled = self.gradient(u)
        off = rounding_of(scaled, g) + uncertainty
        mismatch = norm(scaled - g) + off
        return mismatch * mismatch / (4.0 * self.lam)

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

    def inverse_lipschitz(self, bound: float) -> float:
        """Return ``inf``: the gradient forgets the length of u."""
        return math.inf

    def value(self, u: FloatArray) -> float:
        """Return lam |u|."""
        return self.lam * norm(u)

    def gradient(self, u: FloatArray) -> FloatArray:
        """Return lam u / |u|, and 0 at u = 0."""
        length = norm(u)
        return self.lam * (u / length) if length > 0.0 else np.zeros_like(u)

    def hessian(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda (I - \hat u \hat u^\top) / |u|`."""
        length = norm(u)
        unit = u.ravel() / length  # u != 0
        return self.lam / length * (np.eye(u.size) - np.outer(unit, unit))

    def conjugate(self, g: FloatArray) -> float:
        """Return 0 on the ball of radius lam, ``inf`` outside."""
        return 0.0 if norm(g) <= self.lam else math.inf

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        """Return 0, at which every plausible g is a subgradient."""
        return np.zeros_like(g)

    def fenchel_young(self, u: FloatArray, g: FloatArray, uncertainty: float = 0.0) -> float:
        r"""Return :math:`|u| (\lambda - a)`, where :math:`a = \langle g, u\rangle / |u|`.

        :math:`\lambda - a = (\lambda^2 - |g|^2 + |p|^2) / (\lambda + a)`, with p the part of g
        orthogonal to u, has no cancellation when g is close to :math:`\lambda u / |u|`.
        """
        length = norm(u)
        if length == 0.0:
            return 0.0
        unit = u / length
        along = float(np.vdot(g, unit))
        across = norm(g - along * unit)
        size = norm(g)
        if along > 0.0:
            inside = (self.lam - size) * (self.lam + size)
            distance = (inside + across**2) / (self.lam + along)
        else:
            distance = self.lam - along
        off = rounding_of(g) + 8.0 * UNIT * self.lam + uncertainty
        return length * max(0.0, distance + off)

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
    >>> SmoothL2(2.0).value(np.zeros(3))
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

    def _cosine(self, size: float) -> float:
        r"""Return :math:`\sqrt{1 - t^2}`, :math:`t = |g|/\lambda \le 1`, without cancellation."""
        t = size / self.lam
        return math.sqrt((1.0 - t) * (1.0 + t))

    def inverse_lipschitz(self, bound: float) -> float:
        r"""Return :math:`\delta \lambda^2 / (\lambda^2 - G^2)^{3/2}` on :math:`|g| \le G < \lambda`."""
        cosine = self._cosine(bound) if bound < self.lam else 0.0
        return self.delta / self.lam / cosine**3 if cosine > 0.0 else math.inf

    def value(self, u: FloatArray) -> float:
        r"""Return :math:`\lambda \sqrt{\delta^2 + |u|^2}`."""
        return self.lam * math.hypot(self.delta, norm(u))

    def gradient(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda u / \sqrt{\delta^2 + |u|^2}`."""
        return self.lam * (u / math.hypot(self.delta, norm(u)))

    def hessian(self, u: FloatArray) -> FloatArray:
        r"""Return :math:`\lambda (I - u u^\top / s^2) / s`."""
        s = math.hypot(self.delta, norm(u))
        scaled = u.ravel() / s
        return self.lam / s * (np.eye(u.size) - np.outer(scaled, scaled))

    def conjugate(self, g: FloatArray) -> float:
        r"""Return :math:`-\delta \sqrt{\lambda^2 - |g|^2}`, ``inf`` outside the ball."""
        size = norm(g)
        if size > self.lam:
            return math.inf
        return -self.delta * self.lam * self._cosine(size)

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        r"""Return :math:`\delta g / \sqrt{\lambda^2 - |g|^2}`."""
        return g / self.lam * (self.delta / self._cosine(norm(g)))

    def is_reachable(self, g: FloatArray) -> bool:
        """Return whether |g| < lam: on the sphere u would be infinite."""
        return norm(g) < self.lam

    def fenchel_young(self, u: FloatArray, g: FloatArray, uncertainty: float = 0.0) -> float:
        """Return the closed form of the class docstring."""
        # In units of lam: with h = g / lam, e / lam is the same expression for lam = 1.
        length, h = norm(u), g / self.lam
        size = norm(h)
        off = uncertainty / self.lam + rounding_of(h)  # how far the exact dual may be from h
        if not size + off < 1.0:
            return math.inf
        s = math.hypot(self.delta, length)
        c = self._cosine(norm(g))
        # |dc/dh| = |h| / c increases with |h|: take it at the far end of the uncertain ball.
        c_off = off / math.sqrt((1.0 - size - off) * (1.0 + size + off))
        inner = float(np.vdot(u, h))
        across = norm(h - (inner / length) * (u / length)) if length > 0.0 else 0.0
        along = norm(c * u - self.delta * h) + rounding_of(c * u, self.delta * h)
        along += length * c_off + self.delta * off
        denominator = s + self.delta * c + inner
        denominator -= length * off + self.delta * c_off + gamma(u.size + 16) * s
        if denominator <= 0.0:
            return math.inf
        sideways = length * (across + off)
        return self.lam * (along * along + sideways * sideways) / denominator

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
    >>> HardConsensus().value(np.array([0.1]))
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

    def inverse_lipschitz(self, bound: float) -> float:
        """Return 0: every g belongs to u = 0."""
        return 0.0

    def value(self, u: FloatArray) -> float:
        """Return 0 at u = 0 and ``inf`` elsewhere."""
        return 0.0 if not u.any() else math.inf

    def gradient(self, u: FloatArray) -> FloatArray:
        """Return 0, the subgradient of least norm at u = 0."""
        if u.any():
            raise InvalidInputError(
                f"HardConsensus has no gradient away from u = 0; got |u| = {norm(u):g}"
            )
        return np.zeros_like(u)

    def hessian(self, u: FloatArray) -> FloatArray:
        """Raise: there is no smooth piece."""
        raise InvalidInputError("HardConsensus has no Hessian: r is infinite away from u = 0")

    def conjugate(self, g: FloatArray) -> float:
        """Return 0."""
        return 0.0

    def inverse_gradient(self, g: FloatArray) -> FloatArray:
        """Return 0."""
        return np.zeros_like(g)

    def fenchel_young(self, u: FloatArray, g: FloatArray, uncertainty: float = 0.0) -> float:
        """Return 0 at u = 0 and ``inf`` elsewhere."""
        return self.value(u)

    def cvxpy_value(self, u: Any) -> Any:
        """Raise: the models share one variable instead."""
        raise InvalidInputError("HardConsensus is modelled by one shared variable, not by a term")
