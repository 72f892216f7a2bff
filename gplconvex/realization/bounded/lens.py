r"""The sums :math:`X \in W\mathcal{X}` with :math:`X - h \in V\mathcal{X}`, all pieces together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.domains import Ball, Box, Domain, OneHot, Product, Unbounded
from gplconvex.errors import UnrealizableGradientError, UnsupportedCombinationError
from gplconvex.realization.bounded.pieces import Demand, Disc, End, Intervals, Piece, Simplex
from gplconvex.realization.bounded.roots import root
from gplconvex.rounding import REALIZATION_RESIDUAL


@dataclass(frozen=True, eq=False)
class Shape:
    """The convex hull of a domain: a product of pieces."""

    pieces: list[tuple[slice, Piece]]

    @classmethod
    def of(cls, domain: Domain, n_features: int) -> Shape:
        """Return the hull of a domain of so many features."""
        if isinstance(domain, Product):
            parts = domain.slices(n_features)
        else:
            parts = [(slice(0, n_features), domain)]
        return cls([(part, _piece(inner, part.stop - part.start)) for part, inner in parts])

    @property
    def shares(self) -> slice | None:
        """Features that sum to 1 in every input, if there are such."""
        return next((part for part, piece in self.pieces if isinstance(piece, Simplex)), None)

    def support(self, u: FloatArray) -> float:
        """Return the largest u.x."""
        return math.fsum(piece.support(u[part]) for part, piece in self.pieces)

    def slopes(self, u: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Return between which p the support of u + p a is finite."""
        least, most = 0.0, math.inf
        for part, piece in self.pieces:
            if isinstance(piece, Intervals):
                for bound, sign in ((piece.high, 1.0), (piece.low, -1.0)):
                    free = np.isinf(bound)
                    v, along = sign * u[part][free], sign * a[part][free]  # v + p along <= 0
                    falls, rises = along < 0.0, along > 0.0
                    least = max(least, float(np.max(v[falls] / -along[falls], initial=0.0)))
                    most = min(most, float(np.min(-v[rises] / along[rises], initial=math.inf)))
        return least, most

    def magnitude(self, u: FloatArray) -> float:
        """Return what the rounding of a support is relative to."""
        return math.fsum(piece.magnitude(u[part]) for part, piece in self.pieces)

    def top(self, u: FloatArray) -> FloatArray:
        """Return an x with the largest u.x."""
        return np.concatenate([piece.top(u[part]) for part, piece in self.pieces])

    def inside(self, x: FloatArray) -> FloatArray:
        """Take back what rounding may have moved an input beyond its bound."""
        return np.concatenate([piece.inside(x[part]) for part, piece in self.pieces])

    def nudged(self, v: FloatArray, t: FloatArray) -> FloatArray:
        r"""Return v with :math:`v_j \ne -t_j` moved by a few roundings where inputs have no bound.

        There :math:`v_j = -p\,t_j` with some p, and the product's rounding must not fall on the side on
        which the contribution of points, :math:`(v_j + p t_j) x_j`, has no bound.
        """
        moved = v.copy()
        for part, piece in self.pieces:
            if isinstance(piece, Intervals):
                off = v[part] != -t[part]
                size = 1e-14 * np.abs(v[part])
                side = np.where(
                    np.isinf(piece.high), -size, np.where(np.isinf(piece.low), size, 0.0)
                )
                moved[part] += np.where(off, side, 0.0)
        return moved

    def room(self, x: FloatArray, t: FloatArray, ahead: float, behind: float) -> FloatArray:
        """Return a large step d, t.d >= 0, such that x + ahead d and x - behind d are inside."""
        rooms = [piece.room(x[part], t[part], ahead, behind) for part, piece in self.pieces]
        return np.concatenate(rooms)


def _piece(domain: Domain, n_features: int) -> Piece:
    if isinstance(domain, Unbounded):
        return Intervals(np.full(n_features, -np.inf), np.full(n_features, np.inf))
    if isinstance(domain, Box):
        return Intervals(*domain.bounds(n_features))
    if isinstance(domain, Ball):
        return Disc(float(domain.radius))
    if isinstance(domain, OneHot):
        return Simplex()
    raise UnsupportedCombinationError(
        f"no construction for the domain {domain!r}: Unbounded, Box, NonNegative, Ball, Integer and "
        "OneHot have one, and Product of them"
    )


@dataclass(eq=False)
class Lens:
    r"""The possible X for a model's slope t, a difference h and :math:`W - V = h_0`."""

    shape: Shape
    t: FloatArray
    h: FloatArray
    h0: float
    demand: Demand = field(init=False)
    _cache: dict[tuple[float, float], End] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        whole = max(float(np.max(np.abs(self.h), initial=0.0)), abs(self.h0))
        for part, piece in self.shape.pieces:
            if isinstance(piece, Simplex):
                off = math.fsum([*self.h[part].tolist(), -self.h0])
                if abs(off) > REALIZATION_RESIDUAL * whole:
                    raise _unequal(part, off, len(self.t))
        demands = [(part, piece.demand(self.h[part], self.h0)) for part, piece in self.shape.pieces]
        part, most = max(demands, key=lambda pair: pair[1].least)
        u = np.zeros_like(self.h)
        u[part] = most.u
        self.demand = Demand(u, most.own, most.other, most.least)
        self.varies = any(piece.varies for _, piece in self.shape.pieces)

    @property
    def blocking(self) -> bool:
        """Whether a direction keeps W above what its sign and that of V do."""
        return self.demand.least > max(0.0, self.h0)

    @property
    def least(self) -> float:
        """The least W."""
        return max(0.0, self.h0, self.demand.least)

    def end(self, sign: float, w: float) -> End:
        r"""Return the end of :math:`\epsilon\theta^\top X`."""
        key = sign, w if self.varies else 0.0
        if key not in self._cache:
            e = sign * self.t
            ends = [piece.end(e[p], self.h[p], self.h0, w) for p, piece in self.shape.pieces]
            self._cache[key] = End(
                sum(end.own for end in ends),
                sum(end.other for end in ends),
                math.fsum(end.offset for end in ends),
            )
        return self._cache[key]

    def normal(self, sign: float, w: float) -> FloatArray:
        """Return the part of it that the second sets hold."""
        e = sign * self.t
        return np.concatenate(
            [piece.normal(e[p], self.h[p], self.h0, w) for p, piece in self.shape.pieces]
        )

    def s(self, sign: float, w: float) -> float:
        r"""Return the largest (sign +1) or least (-1) :math:`\theta^\top X`."""
        return sign * self.end(sign, w).value(w, w - self.h0)

    def end_point(self, sign: float, w: float) -> FloatArray:
        """Return the X there."""
        e = sign * self.t
        return np.concatenate(
            [piece.end_point(e[p], self.h[p], self.h0, w) for p, piece in self.shape.pieces]
        )

    def point(self, s: float, w: float) -> FloatArray:
        r"""Return an X with :math:`\theta^\top X = s`."""
        lower, upper = self.end_point(-1.0, w), self.end_point(1.0, w)
        finite = np.isfinite(lower) & np.isfinite(upper)
        if finite.all():
            room = float(self.t @ (upper - lower))
            share = (s - float(self.t @ lower)) / room if room > 0.0 else 0.0
            return np.asarray(lower + min(max(share, 0.0), 1.0) * (upper - lower))
        # Some features are unbounded: move all from a middle along t until s is reached. Other pieces
        # stay half way between their ends, or as near to that as the intervals' range of s allows.
        low, high = lower.copy(), upper.copy()
        held = np.ones(len(self.t), dtype=bool)
        for part, piece in self.shape.pieces:
            if isinstance(piece, Intervals):
                low[part], high[part] = piece.limits(self.h[part], self.h0, w)
                held[part] = False
        rest = s - float(self.t[held] @ lower[held])
        room = float(self.t[held] @ (upper - lower)[held])
        moving = ~held & (self.t != 0.0)
        reach = [float(self.t[moving] @ end[moving]) for end in (lower, upper)]
        share = 0.5
        if room > 0.0:
            share = min(max(share, (rest - reach[1]) / room), (rest - reach[0]) / room)
        share = min(max(share, 0.0), 1.0)
        low[held] = high[held] = lower[held] + share * (upper - lower)[held]
        v = w - self.h0
        middle = np.clip(self.h * (w / (w + v) if w + v else 0.5), low, high)

        def moved(step: float) -> FloatArray:
            return np.clip(middle + step * self.t, low, high)

        def excess(step: float) -> float:
            return float(self.t @ moved(step)) - s

        if not self.t.any():
            return middle
        near = (s - float(self.t @ middle)) / float(self.t @ self.t)
        far = near
        while excess(far) * math.copysign(1.0, near) < 0.0 and abs(far) < 1e200:
            far *= 2.0
        if excess(0.0) * excess(far) >= 0.0:
            return moved(far)
        step = root(excess, 0.0, far)
        return moved(step)

    def multiplier(self, derivative: float) -> FloatArray:
        """Return the multiplier of (h, h0) of the direction that keeps W from falling."""
        size = derivative / (self.demand.own + self.demand.other)
        return np.append(size * self.demand.u, size * self.demand.other)


def _unequal(part: slice, off: float, n_features: int) -> UnrealizableGradientError:
    direction = np.zeros(n_features + 1)
    direction[part] = math.copysign(1.0, off)
    direction[-1] = -math.copysign(1.0, off)
    return UnrealizableGradientError(
        f"features {part.start} to {part.stop - 1} are categories and sum to 1 in every point, so their "
        f"entries of a gradient sum to that of the intercept; here they differ by {off:.6g}. Aim at a "
        "model whose coefficients of these features sum to its intercept's (those of a ridge that "
        "includes it do)",
        direction=direction,
    )
