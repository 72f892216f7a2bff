r"""Pieces: convex sets of inputs, and the sums of points of two of them with a given difference.

A domain is a product of pieces (its convex hull, for integers and categories). Points of weight W have
the sum :math:`X \in W\mathcal{X}`, those of weight V the sum :math:`X - h \in V\mathcal{X}`. For the
program of `gplconvex.realization.bounded.program` a piece must know

- the least W (V = W - h0): :math:`W \ge (u^\top h + h_0\,\sigma(-u))/(\sigma(u) + \sigma(-u))` for the
  direction u that asks for most;
- the range of :math:`\theta^\top X`, whose end is, by duality,

  .. math:: \max_X e^\top X = \min_n\; W\sigma(e - n) + V\sigma(n) + n^\top h, \qquad e = \pm\theta,

  n being what the second set holds of e;

where :math:`\sigma(u) = \sup_{x \in \mathcal{X}} u^\top x` is the support function.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.regularizers import norm


@dataclass(frozen=True, eq=False)
class End:
    r"""An end of the range of :math:`e^\top X`, as a function of the weights near (W, V).

    Attributes
    ----------
    own, other, offset : float
        :math:`\sigma(e - n)`, :math:`\sigma(n)` and :math:`n^\top h`.
    """

    own: float
    other: float
    offset: float

    def value(self, w: float, v: float) -> float:
        """Return the end."""
        return (w * self.own if w else 0.0) + (v * self.other if v else 0.0) + self.offset


@dataclass(frozen=True, eq=False)
class Demand:
    r"""The direction u that asks for the largest W, with :math:`\sigma(u), \sigma(-u)` and that W."""

    u: FloatArray
    own: float
    other: float
    least: float


class Piece(ABC):
    """A convex set."""

    varies: bool = False
    """Whether ends depend on the weights."""

    @abstractmethod
    def support(self, u: FloatArray) -> float:
        r"""Return :math:`\sigma(u)`."""

    @abstractmethod
    def magnitude(self, u: FloatArray) -> float:
        """Return the largest sum of |u_j x_j| where finite bounds are attained; rounding's scale."""

    @abstractmethod
    def top(self, u: FloatArray) -> FloatArray:
        """Return an x with the largest u.x."""

    @abstractmethod
    def demand(self, h: FloatArray, h0: float) -> Demand:
        """Return the direction that asks for the largest W."""

    @abstractmethod
    def separating(self, h: FloatArray, weight: float) -> tuple[FloatArray, float]:
        r"""Return u and :math:`-\sigma(u)`, u.h less the support of the weight being largest."""

    @abstractmethod
    def end(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> End:
        """Return the upper end of the range of e.X."""

    @abstractmethod
    def normal(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return the n of that end: the part of e that the second set holds."""

    @abstractmethod
    def end_point(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return the X there; infinite where the end is."""

    @abstractmethod
    def inside(self, x: FloatArray) -> FloatArray:
        """Take back what rounding may have moved an input beyond its bound."""

    @abstractmethod
    def room(self, x: FloatArray, t: FloatArray, ahead: float, behind: float) -> FloatArray:
        """Return a large step d, t.d >= 0, such that x + ahead d and x - behind d are inside."""


class Intervals(Piece):
    r"""A box, :math:`l \le x \le u`, bounds infinite or not.

    Feature j of X lies between :math:`\max(W l_j, h_j + V l_j)` and :math:`\min(W u_j, h_j + V u_j)`;
    which of the two binds does not depend on W.
    """

    def __init__(self, low: FloatArray, high: FloatArray) -> None:
        self.low, self.high = low, high

    def support(self, u: FloatArray) -> float:
        """Return the sum over features of u_j times the bound it points to."""
        used = np.flatnonzero(u)
        u = u[used]
        return math.fsum((u * np.where(u > 0.0, self.high[used], self.low[used])).tolist())

    def magnitude(self, u: FloatArray) -> float:
        """Return it with the larger finite bound of every feature."""
        ends = np.abs(np.stack([self.low, self.high]))
        return float(np.abs(u) @ np.max(np.where(np.isfinite(ends), ends, 0.0), axis=0))

    def top(self, u: FloatArray) -> FloatArray:
        """Return those bounds; where u is 0, the number nearest to 0."""
        free = np.clip(0.0, self.low, self.high)
        return np.where(u > 0.0, self.high, np.where(u < 0.0, self.low, free))

    def demand(self, h: FloatArray, h0: float) -> Demand:
        r"""Return a feature: :math:`W (u_j - l_j) \ge h_0 u_j - h_j` or :math:`h_j - h_0 l_j`."""
        width = self.high - self.low
        bounded = np.isfinite(width)
        low, high = np.where(bounded, self.low, 0.0), np.where(bounded, self.high, 1.0)
        needed = np.stack([h0 * high - h, h - h0 * low]) / (high - low)
        needed[:, ~bounded] = -np.inf
        kind, j = divmod(int(np.argmax(needed)), len(h))
        u = np.zeros(len(h))
        u[j] = 1.0 if kind else -1.0
        if not bounded[j]:
            return Demand(u, math.inf, math.inf, -math.inf)
        return Demand(u, self.support(u), self.support(-u), float(needed[kind, j]))

    def separating(self, h: FloatArray, weight: float) -> tuple[FloatArray, float]:
        """Return the feature that is farthest out."""
        excess = np.stack([weight * self.low - h, h - weight * self.high])
        kind, j = divmod(int(np.argmax(excess)), len(h))
        u = np.zeros(len(h))
        u[j] = 1.0 if kind else -1.0
        return u, -self.support(u)

    def end(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> End:
        """Return the end from its normal."""
        normal = self.normal(e, h, h0, w)
        return End(self.support(e - normal), self.support(normal), float(normal @ h))

    def normal(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return e in the features that the second box limits."""
        far = np.where(e > 0.0, self.high, self.low)
        finite = np.isfinite(far)
        reach = h0 * np.where(finite, far, 0.0)
        second = finite & np.where(e > 0.0, h < reach, h > reach)
        return np.where(second, e, 0.0)

    def end_point(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return the bounds of X that e points to."""
        low, high = self.limits(h, h0, w)
        return np.where(e > 0.0, high, low)

    def limits(self, h: FloatArray, h0: float, w: float) -> tuple[FloatArray, FloatArray]:
        """Return the range of every feature of X."""
        v = w - h0
        low = np.maximum(_times(w, self.low), h + _times(v, self.low))
        high = np.minimum(_times(w, self.high), h + _times(v, self.high))
        return low, high

    def inside(self, x: FloatArray) -> FloatArray:
        """Return every entry within its bounds."""
        return np.clip(x, self.low, self.high)

    def room(self, x: FloatArray, t: FloatArray, ahead: float, behind: float) -> FloatArray:
        """Return the largest step of every feature, along t; without bounds one with t.d = 1."""
        up, down = self.high - x, x - self.low
        size = np.minimum(np.where(t > 0.0, up, down) / ahead, np.where(t > 0.0, down, up) / behind)
        size = np.where(np.isfinite(size), size, 1.0 / np.where(t == 0.0, 1.0, np.abs(t)))
        return np.asarray(np.sign(t) * size)


def _times(weight: float, bound: FloatArray) -> FloatArray:
    """Return weight * bound; an infinite bound stays so for weight 0, the limit of small ones."""
    return np.where(np.isfinite(bound), weight * np.where(np.isfinite(bound), bound, 0.0), bound)


class Disc(Piece):
    r"""A ball, :math:`|x| \le R`."""

    varies = True

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def support(self, u: FloatArray) -> float:
        """Return R |u|."""
        return self.radius * norm(u)

    def magnitude(self, u: FloatArray) -> float:
        """Return R |u|."""
        return self.support(u)

    def top(self, u: FloatArray) -> FloatArray:
        """Return R u/|u|."""
        return self.radius * _unit(u)

    def demand(self, h: FloatArray, h0: float) -> Demand:
        r"""Return h/|h|: :math:`2 W R \ge |h| + h_0 R`."""
        u, r = _unit(h), self.radius
        return Demand(u, r, r, 0.5 * (norm(h) / r + h0) if u.any() else -math.inf)

    def separating(self, h: FloatArray, weight: float) -> tuple[FloatArray, float]:
        """Return h/|h|."""
        return _unit(h), -self.radius

    def end(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> End:
        """Return the end, from coordinates in the plane of e and h."""
        n, along, across = _plane(e, h)
        _, (p, q) = self._end(n, along, across, w, w - h0)
        own = self.radius * math.hypot(along - p, across - q)
        return End(own, self.radius * math.hypot(p, q), p * n)

    def normal(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return n from its coordinates."""
        n, along, across = _plane(e, h)
        return _from_plane(e, h, self._end(n, along, across, w, w - h0)[1])

    def end_point(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return X from its coordinates."""
        n, along, across = _plane(e, h)
        return _from_plane(e, h, self._end(n, along, across, w, w - h0)[0])

    def _end(
        self, n: float, along: float, across: float, w: float, v: float
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        r"""Return X and n, where :math:`e = aX + n` and :math:`n = b(X - h)`, in the plane."""
        first, second = w * self.radius, v * self.radius
        size = math.hypot(along, across)
        if size == 0.0:
            return (n * first / (first + second), 0.0), (0.0, 0.0)
        x = first * along / size, first * across / size
        if math.hypot(x[0] - n, x[1]) <= second:
            return x, (0.0, 0.0)
        x = n + second * along / size, second * across / size
        if math.hypot(*x) <= first:
            return x, (along, across)
        # On both spheres: X is c along h and rho across; X - h is d along, -h for the larger of the two.
        if second < first:
            d = 0.5 * ((first - n) * (first + n) - second**2) / n
            c, square = n + d, (second - d) * (second + d)
        else:
            c = 0.5 * ((n - second) * (n + second) + first**2) / n
            d, square = c - n, (first - c) * (first + c)
        rho = math.sqrt(max(square, 0.0))
        if rho == 0.0 or across == 0.0:
            return (c, 0.0), (0.0, 0.0)
        both = across / rho  # a + b
        b = (both * c - along) / n
        return (c, rho), (b * d, b * rho)

    def inside(self, x: FloatArray) -> FloatArray:
        """Return x, shortened to R if it is longer."""
        size = norm(x)
        return x if size <= self.radius else x * (self.radius / size * (1.0 - 1e-15))

    def room(self, x: FloatArray, t: FloatArray, ahead: float, behind: float) -> FloatArray:
        """Return the largest step along t that the ball allows both ways."""
        e = _unit(t)
        along = float(e @ x)
        half = math.sqrt(max(self.radius**2 - float(x @ x) + along**2, 0.0))
        return e * max(min((half - along) / ahead, (half + along) / behind), 0.0)


def _plane(e: FloatArray, h: FloatArray) -> tuple[float, float, float]:
    """Return |h| and the coordinates of e along h and across."""
    n, size = math.sqrt(float(h @ h)), math.sqrt(float(e @ e))
    along = float(e @ h) / n if n else 0.0
    across = e - (along / n if n else 0.0) * h
    return n, along, math.sqrt(float(across @ across)) if size else 0.0


def _from_plane(e: FloatArray, h: FloatArray, point: tuple[float, float]) -> FloatArray:
    """Return the vector with these coordinates along h and across, in the plane of e and h."""
    n, along, across = _plane(e, h)
    x = (point[0] / n if n else 0.0) * h
    if across and point[1]:
        x = x + (point[1] / across) * (e - (along / n if n else 0.0) * h)
    return np.asarray(x)


def _unit(u: FloatArray) -> FloatArray:
    size = norm(u)
    return np.asarray(u / size) if size else np.zeros_like(u)


class Simplex(Piece):
    r"""Shares, :math:`x \ge 0` with sum 1: the convex hull of one-hot rows.

    Sums of weight W have the sum W, so that h must have the sum h0. X is at least
    :math:`\max(0, h)`, and the rest of its weight may lie anywhere.
    """

    def support(self, u: FloatArray) -> float:
        """Return the largest entry."""
        return float(np.max(u))

    def magnitude(self, u: FloatArray) -> float:
        """Return the largest entry in size."""
        return float(np.max(np.abs(u)))

    def top(self, u: FloatArray) -> FloatArray:
        """Return a vertex."""
        return np.asarray(np.eye(len(u))[int(np.argmax(u))])

    def demand(self, h: FloatArray, h0: float) -> Demand:
        r"""Return the categories with h > 0: :math:`W \ge \sum_j \max(0, h_j)`."""
        u = np.where(h > 0.0, 1.0, 0.0)
        if u.all() or not u.any():
            return Demand(u, 1.0, -1.0, -math.inf)
        return Demand(u, 1.0, 0.0, float(np.sum(h[h > 0.0])))

    def separating(self, h: FloatArray, weight: float) -> tuple[FloatArray, float]:
        """Return the least entry: a sum of shares has none below 0."""
        u = -np.eye(len(h))[int(np.argmin(h))]
        return u, -float(np.max(u))

    def end(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> End:
        """Return the end from its normal."""
        normal = self.normal(e, h, h0, w)
        return End(float(np.max(e)), float(np.max(normal)), float(normal @ h))

    def normal(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        """Return, where h > 0, how much less e is there than at its best."""
        return np.where(h > 0.0, e - float(np.max(e)), 0.0)

    def end_point(self, e: FloatArray, h: FloatArray, h0: float, w: float) -> FloatArray:
        r"""Return :math:`\max(0, h)` and the rest of the weight at the best category."""
        x = np.maximum(0.0, h)
        x[int(np.argmax(e))] += max(w - float(np.sum(x)), 0.0)
        return x

    def inside(self, x: FloatArray) -> FloatArray:
        """Return every share within 0 and 1."""
        return np.clip(x, 0.0, 1.0)

    def room(self, x: FloatArray, t: FloatArray, ahead: float, behind: float) -> FloatArray:
        """Return nothing: shares are rounded anyway."""
        return np.zeros_like(x)
