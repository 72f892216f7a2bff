r"""Logistic regression, inputs in a box: the exact number of points, and the points.

Give the points of label -1, whose residuals :math:`\sigma(z_i)` are positive, the weight
:math:`W = \sum\sigma(z_i)` and :math:`X = \sum\sigma(z_i)\,x_i`. Their number is

.. math:: \sum_i 1 = \sum_i \sigma(z_i)\,(1 + e^{-z_i}) \;\ge\; W\,(1 + e^{-z}),
          \qquad z = \frac{\theta^\top X}{W} + b,

by Jensen's inequality, with equality if all inputs are X/W. Likewise for the label +1 with
:math:`V(1 + e^{z})`. So *two distinct points are enough*, and the gauge of h (T3.1), the least weight of
points whose gradients sum to h, is a small convex program. With :math:`X - X' = \tilde h`,
:math:`W - V = h_0` and :math:`s = \theta^\top X` it has two unknowns,

.. math:: \min_{W, s}\; \alpha W (1 + e^{-s/W - b}) + \beta V (1 + e^{(s - \theta^\top\tilde h)/V + b}),
          \qquad s_{\min}(W) \le s \le s_{\max}(W),

where :math:`s_{\max}` and :math:`s_{\min}`, the range of :math:`\theta^\top X` over
:math:`X \in W\,[l, u] \cap (\tilde h + V\,[l, u])`, are linear in W. Without intercept
:math:`h_0` is free: one unknown more, in which the least weight is convex. At :math:`\alpha = \beta = 1`
this is the gauge; other weights trace which numbers (of label -1, of label +1) can do at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares, minimize_scalar
from scipy.special import expit

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.domains import Box
from gplconvex.errors import UnrealizableGradientError
from gplconvex.losses import Logistic
from gplconvex.realization.exact import relative_residual
from gplconvex.realization.lower_bound import BOUNDED, LowerBound, dot, refuted_splits
from gplconvex.realization.result import Realization, ship
from gplconvex.rounding import REALIZATION_RESIDUAL, UNIT

TINY = 1e-12
"""How near to an end of an open interval a root is looked for, relative to the interval."""

FARTHEST = 30.0
"""The largest :math:`|\\log(\\alpha/\\beta)|`: one label weighs up to 1e13 times the other."""

NOTHING = 1e-9
"""A number of points that is left out; whether that was rounding the residual of the others decides."""

TRIES = 3
"""From how many random places single points are started."""

MOST_INPUTS = 500
"""Inputs that least squares moves at most: a factorization of so many takes a tenth of a second."""

FREE = 3
"""How many points of a label are free then."""

MOST_MORE = 16
"""How many numbers of points next to the bound are tried, before larger and larger steps."""


@dataclass(frozen=True)
class Merged:
    r"""All points of label -1 merged into one of weight W, those of +1 into one of weight V.

    Attributes
    ----------
    h0 : float
        W - V.
    weight, s : float
        W and :math:`\theta^\top X`.
    numbers : tuple of float
        How many points of label -1 and +1 that takes at least.
    direction : array, shape (d + 1,)
        The multiplier of :math:`(\tilde h, h_0)`: the direction that proves it.
    """

    h0: float
    weight: float
    s: float
    numbers: tuple[float, float]
    direction: FloatArray


class Program:
    """The convex program for one model, gradient and box; rows are features, the intercept apart."""

    def __init__(self, loss: Logistic, theta: FloatArray, h: FloatArray, domain: Box) -> None:
        self.loss, self.theta, self.h, self.domain = loss, theta, h, domain
        free = not loss.intercept
        self.t, self.features = (theta, h) if free else (theta[:-1], h[:-1])
        self.b = 0.0 if free else float(theta[-1])
        self.h0: float | None = None if free else float(h[-1])
        self.low, self.high = domain.bounds(len(self.t))
        self.th = dot(self.t, self.features)[0]

    def solve(self, log_ratio: float) -> Merged:
        r"""Return the merged points of least weight for :math:`\alpha/\beta = e^{\text{log\_ratio}}`."""
        if self.h0 is not None:
            return self._with_h0(self.h0, log_ratio)

        # v_0, the derivative in h0, grows; at the least weight it vanishes.
        def v0(h0: float) -> float:
            return float(self._with_h0(h0, log_ratio).direction[-1])

        low, high = -1.0, 1.0
        while v0(low) > 0.0:
            low *= 2.0
        while v0(high) < 0.0:
            high *= 2.0
        root = float(brentq(v0, low, high, xtol=TINY * (high - low), rtol=8 * UNIT))
        step = TINY * (high - low)  # v_0 may jump: mix the multipliers on both sides
        ends = self._with_h0(root - step, log_ratio), self._with_h0(root + step, log_ratio)
        left, right = (float(end.direction[-1]) for end in ends)
        share = min(max(right / (right - left), 0.0), 1.0) if right > left else 0.5
        v = share * ends[0].direction + (1.0 - share) * ends[1].direction
        v[-1] = 0.0
        best = min(ends, key=lambda end: sum(end.numbers))
        return Merged(best.h0, best.weight, best.s, best.numbers, v)

    def _with_h0(self, h0: float, log_ratio: float) -> Merged:
        alpha, beta = math.exp(min(0.0, log_ratio)), math.exp(min(0.0, -log_ratio))
        lens = self.lens(h0)

        def conditions(w: float) -> tuple[float, FloatArray]:
            """Return the derivative in W of the least weight, and the multiplier of (h, h0)."""
            s, zp, zn = self._best_s(lens, w, log_ratio)
            dp, dn = -alpha * math.exp(-zp), beta * math.exp(zn)
            side = lens.upper if dp + dn < 0.0 else lens.lower
            press = -(dp + dn) if side is lens.upper else dp + dn  # multiplier of the range of s
            if lens.s(side, w) != s:
                press = 0.0
            own = alpha * (1.0 + math.exp(-zp)) - (zp - self.b) * dp - press * side.own
            other = beta * (1.0 + math.exp(zn)) - (zn - self.b) * dn - press * side.other
            return own + other, np.append(-dn * self.t - press * side.normal, -other)

        start = lens.least * (1.0 + TINY) + TINY * lens.scale
        derivative, v = conditions(start)
        w = start
        if derivative < 0.0:
            far = 2.0 * start
            while conditions(far)[0] < 0.0:
                far *= 2.0
            w = float(
                brentq(lambda weight: conditions(weight)[0], start, far, xtol=1e-300, rtol=8 * UNIT)
            )
            v = conditions(w)[1]
        elif lens.blocking is not None:
            # W cannot fall further because of one feature, whose multiplier is the derivative.
            v = v + lens.multiplier(derivative)
        elif h0 > 0.0:
            v[-1] += derivative  # V = 0 there, and W alone says what h0 costs
        s, zp, zn = self._best_s(lens, w, log_ratio)
        numbers = w * (1.0 + math.exp(-zp)), (w - h0) * (1.0 + math.exp(zn))
        return Merged(h0, w, s, numbers, v)

    def _best_s(self, lens: Lens, w: float, log_ratio: float) -> tuple[float, float, float]:
        r"""Return the best s and predictors; :math:`\alpha e^{-z} = \beta e^{z'}` if s is free."""
        v = w - lens.h0
        s = (log_ratio - 2.0 * self.b + self.th / v) / (1.0 / w + 1.0 / v)
        s = min(max(s, lens.s(lens.lower, w)), lens.s(lens.upper, w))
        return s, s / w + self.b, (s - self.th) / v + self.b

    def lens(self, h0: float) -> Lens:
        """Return the possible X for an h0."""
        return Lens(self.t, self.features, h0, self.low, self.high)

    # -- from merged points to points ----------------------------------------------------------------

    def inputs(self, merged: Merged) -> tuple[FloatArray, FloatArray]:
        """Return the inputs of the two merged points."""
        lens, w = self.lens(merged.h0), merged.weight
        lower, upper = lens.x(lens.lower, w), lens.x(lens.upper, w)
        room = float(self.t @ (upper - lower))
        share = (merged.s - float(self.t @ lower)) / room if room > 0.0 else 0.0
        x = lower + min(max(share, 0.0), 1.0) * (upper - lower)
        v = w - merged.h0
        # A label without weight has no point; any place in the box stands for it.
        own = x / w if w > 0.0 else self.low
        other = (x - self.features) / v if v > 0.0 else self.low
        return self._inside(own), self._inside(other)

    def _inside(self, x: FloatArray) -> FloatArray:
        """Take back what a division may have moved an input beyond its bound: a few roundings."""
        return np.clip(x, self.low, self.high)

    def dataset(self, groups: list[tuple[int, FloatArray, float]]) -> Dataset:
        """Return (number, input, label) as a dataset."""
        return Dataset(
            np.stack([x for _, x, _ in groups]),
            [label for _, _, label in groups],
            np.array([number for number, _, _ in groups]),
        )

    def datasets(self, positive: int, negative: int) -> Iterator[Dataset]:
        """Yield datasets of so many points of label -1 and +1 whose gradients sum to h."""
        for merged in self._equal(positive, negative):
            x, y = self.inputs(merged)
            yield self.dataset([(positive, x, -1.0), (negative, y, 1.0)])
        yield from self._spread(positive, negative)
        yield from self._scattered(positive, negative)

    def _equal(self, positive: int, negative: int) -> Iterator[Merged]:
        r"""Yield merged points that take exactly so many: :math:`W(1 + e^{-z}) = n`, and for the other.

        Then :math:`z = -\log(n/W - 1)`, and both predictors agree on s where

        .. math:: W\log(n/W - 1) + V\log(n'/V - 1) + \theta^\top\tilde h + h_0 b = 0,

        a concave function of W.
        """
        if positive == 0 or negative == 0:
            return
        h0 = self.h0 if self.h0 is not None else self.solve(math.log(negative / positive)).h0
        least, most = max(0.0, h0), min(float(positive), negative + h0)
        width = most - least
        if not width > 0.0:
            return

        def excess(w: float) -> float:
            v = w - h0
            own = w * math.log(positive / w - 1.0) + v * math.log(negative / v - 1.0)
            return own + self.th + h0 * self.b

        ends = least + TINY * width, most - TINY * width
        peak = _peak(excess, *ends)
        if excess(peak) < 0.0:
            return
        lens = self.lens(h0)
        for end in ends:
            if excess(end) < 0.0:
                w = float(
                    brentq(excess, min(end, peak), max(end, peak), xtol=1e-300, rtol=8 * UNIT)
                )
                s = -w * (math.log(positive / w - 1.0) + self.b)
                inside = lens.s(lens.lower, w) <= s <= lens.s(lens.upper, w)
                if w >= lens.least and inside:
                    yield Merged(h0, w, s, (positive, negative), np.zeros(0))

    def _spread(self, positive: int, negative: int) -> Iterator[Dataset]:
        """Yield datasets in which one label's points are equal and the other's are of two kinds."""
        for own, other, index in ((positive, negative, 0), (negative, positive, 1)):
            merged = self._taking(own, index)
            if merged is None or merged.numbers[1 - index] > other:
                continue
            v = merged.weight - merged.h0
            if not (v > 0.0 and merged.weight > 0.0):
                continue
            x = self.inputs(merged)
            labels = (-1.0, 1.0)
            fixed = [(own, x[index], labels[index])] if own else []
            weight = v if index == 0 else merged.weight
            sign = -1.0 if index == 0 else 1.0
            for two in self._two_kinds(x[1 - index], weight, other, sign):
                groups = [(number, point, labels[1 - index]) for number, point in two]
                yield self.dataset(fixed + groups)

    def _scattered(self, positive: int, negative: int) -> Iterator[Dataset]:
        r"""Yield points of which up to three of a label are free, the others equal, by least squares.

        The equations :math:`\sum_i c_i w_i x_i = h` are fewer than the inputs, and are solved within the
        box (trust regions) from the merged points, the single ones started in random places.
        """
        if (min(positive, FREE + 1) + min(negative, FREE + 1)) * len(self.t) > MOST_INPUTS:
            return
        merged = self.solve(0.0)
        rng = np.random.default_rng(0)
        x, y = self.inputs(merged)
        for _ in range(TRIES):
            groups: list[tuple[int, FloatArray, float]] = []
            for number, start, label in ((positive, x, -1.0), (negative, y, 1.0)):
                singles = min(number, FREE)
                if number > singles:
                    groups.append((number - singles, start, label))
                for _ in range(singles):
                    share = rng.uniform(0.0, 1.0)
                    vertex = np.where(rng.random(len(x)) < 0.5, self.low, self.high)
                    groups.append((1, start + share * (vertex - start), label))
            yield self._solved(self.dataset(groups))

    def _solved(self, start: Dataset) -> Dataset:
        """Return the dataset with inputs moved within the box so that its gradients sum to h."""
        d, width = len(self.t), self.high - self.low
        counts, y = start.counts[:, None], start.y
        size = max(float(np.max(np.abs(self.h))), TINY)

        def split(inputs: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
            x = inputs.reshape(-1, d)
            z = x @ self.t + self.b
            return x, self.loss.residual(z, y), self.loss.curvature(z, y)

        def missing(inputs: FloatArray) -> FloatArray:
            x, w, _ = split(inputs)
            weighted = counts * w[:, None]
            total = np.sum(weighted * x, axis=0)
            if self.loss.intercept:
                total = np.append(total, np.sum(weighted))
            return np.asarray((total - self.h) / size)

        def jacobian(inputs: FloatArray) -> FloatArray:
            x, w, dw = split(inputs)
            blocks = w[:, None, None] * np.eye(d) + dw[:, None, None] * x[:, :, None] * self.t
            if self.loss.intercept:
                last = np.broadcast_to(dw[:, None, None] * self.t, (len(x), 1, d))
                blocks = np.concatenate([blocks, last], axis=1)
            blocks = counts[:, :, None] * blocks / size
            return np.asarray(np.concatenate(list(blocks), axis=1))

        margin = 1e-6 * width
        inside = np.clip(start.x, self.low + margin, self.high - margin)
        found = least_squares(
            missing,
            inside.ravel(),
            jac=jacobian,
            bounds=(np.tile(self.low, len(y)), np.tile(self.high, len(y))),
            x_scale=np.tile(width, len(y)),
            xtol=4 * UNIT,
            ftol=4 * UNIT,
            gtol=None,
            max_nfev=100,
        )
        return Dataset(self._inside(found.x.reshape(-1, d)), y, start.counts)

    def _taking(self, number: int, index: int) -> Merged | None:
        """Return merged points of which one label takes exactly ``number``, the other the fewest."""

        def excess(log_ratio: float) -> float:
            return self.solve(log_ratio).numbers[index] - number

        if number == 0:
            merged = self.solve(FARTHEST if index == 0 else -FARTHEST)
            return merged if merged.numbers[index] < NOTHING else None
        ends = sorted((-FARTHEST, FARTHEST), key=excess)
        if excess(ends[0]) > 0.0 or excess(ends[1]) < 0.0:
            return None
        return self.solve(float(brentq(excess, ends[0], ends[1], xtol=1e-15, rtol=8 * UNIT)))

    def _two_kinds(
        self, x: FloatArray, weight: float, number: int, sign: float
    ) -> Iterator[list[tuple[int, FloatArray]]]:
        r"""Yield points x + a d and x - c d with the weight W and the mean x of merged ones.

        Residuals :math:`\sigma(\pm z)` (sign +1, -1). n of them at :math:`x + a d` have the weight
        :math:`W_1 = n\,\sigma(\pm(z + a))`; the others :math:`W_2 = W - W_1`, at the distance
        :math:`c = W_1 a/W_2`, and a is such that they are the right number.
        """
        room = np.minimum(x - self.low, self.high - x)
        reach = float(np.abs(self.t) @ room)
        if number < 2 or reach == 0.0:
            return
        d = np.sign(self.t) * room / reach
        z = float(self.t @ x) + self.b
        for first in sorted({number // 2, 1, number - 1}, key=lambda n: abs(2 * n - number)):
            second = number - first

            def parts(a: float, first: int = first) -> tuple[float, float]:
                """Return the weight of the second kind and its distance."""
                one = first * float(expit(sign * (z + a)))
                two = weight - one
                return two, (one * a / two if two > 0.0 else math.inf)

            def excess(a: float, second: int = second) -> float:
                two, c = parts(a)
                if not (two > 0.0 and abs(c) <= (1.0 + TINY) * reach):
                    return math.inf
                return two * (1.0 + math.exp(-sign * (z - c))) - second

            for end in (reach, -reach):
                grid = np.linspace(0.0, end, 33)
                values = [excess(float(a)) for a in grid]
                crossing = next(
                    (i for i in range(32) if values[i] < 0.0 <= values[i + 1] < math.inf), None
                )
                if crossing is None:
                    continue
                a = float(
                    brentq(excess, grid[crossing], grid[crossing + 1], xtol=1e-300, rtol=8 * UNIT)
                )
                c = parts(a)[1]
                if abs(c) <= reach:
                    yield [
                        (first, self._inside(x + a * d)),
                        (second, self._inside(x - c * d)),
                    ]


@dataclass(frozen=True, eq=False, repr=False)
class Gauge:
    r"""The least weight of points of the domain whose gradients sum to h (T3.1), with its multiplier.

    Attributes
    ----------
    value : float
        The least weight: what fractional numbers of points could do. Integers need at least as many.
    direction : array, shape of a model
        v with :math:`\langle v, g\rangle \le 1` for the gradient g of every single point of the domain
        and :math:`\langle v, h\rangle` = ``value``: the derivative of the value in h.
    x, y, weights : arrays, shapes (n, d), (n,), (n,)
        Points and fractional numbers of them that attain it; n is at most 2.
    """

    value: float
    direction: FloatArray
    x: FloatArray
    y: FloatArray
    weights: FloatArray

    def __repr__(self) -> str:
        return f"<Gauge: {self.value:.6g} points>"


@dataclass(frozen=True, eq=False)
class Side:
    r"""One end of the range of s: :math:`\epsilon\theta = n + n'`, normals of the two boxes at X.

    Attributes
    ----------
    sign : float
        :math:`\epsilon`: +1 for the largest s, -1 for the least.
    normal : array
        :math:`n'`, the part of the features that the second box holds.
    own, other : float
        The supports :math:`\sup n^\top x` and :math:`\sup n'^\top x` of the box.
    """

    sign: float
    normal: FloatArray
    own: float
    other: float


class Lens:
    r"""The set :math:`W\,[l, u] \cap (\tilde h + V\,[l, u])`, V = W - h0, for all W at once.

    Feature j lies between :math:`\max(W l_j, h_j + V l_j)` and :math:`\min(W u_j, h_j + V u_j)`; which
    of the two binds does not depend on W.
    """

    def __init__(
        self, t: FloatArray, h: FloatArray, h0: float, low: FloatArray, high: FloatArray
    ) -> None:
        self.t, self.h, self.h0, self.low, self.high = t, h, h0, low, high
        needed = np.stack([h0 * high - h, h - h0 * low]) / (high - low)
        kind, feature = divmod(int(np.argmax(needed)), len(t))
        least = max(0.0, h0)
        self.blocking = (kind, feature) if needed[kind, feature] > least else None
        self.least = max(least, float(needed[kind, feature]))
        self.scale = max(self.least, abs(h0), float(np.max(np.abs(h) / (high - low))), 1e-300)
        self.upper, self.lower = self._side(1.0), self._side(-1.0)

    def _side(self, sign: float) -> Side:
        e = sign * self.t
        second = np.where(e > 0.0, self.h < self.h0 * self.high, self.h > self.h0 * self.low)
        normal = np.where(second, e, 0.0)
        end = np.where(e > 0.0, self.high, self.low)
        return Side(sign, normal, float((e - normal) @ end), float(normal @ end))

    def s(self, side: Side, w: float) -> float:
        """Return the end of the range of s."""
        return side.sign * (w * side.own + (w - self.h0) * side.other + float(side.normal @ self.h))

    def x(self, side: Side, w: float) -> FloatArray:
        """Return the X at that end."""
        v = w - self.h0
        top = np.minimum(w * self.high, self.h + v * self.high)
        bottom = np.maximum(w * self.low, self.h + v * self.low)
        return np.where(side.sign * self.t > 0.0, top, bottom)

    def multiplier(self, derivative: float) -> FloatArray:
        r"""Return the multiplier of (h, h0) of the feature j that keeps W from falling.

        :math:`h_j - W u_j + V l_j \le 0`, or :math:`-(h_j - W l_j + V u_j) \le 0`.
        """
        assert self.blocking is not None
        kind, j = self.blocking
        v = np.zeros(len(self.t) + 1)
        low, high = float(self.low[j]), float(self.high[j])
        size = derivative / (high - low)
        v[j], v[-1] = (-size, size * high) if kind == 0 else (size, -size * low)
        return v


def _peak(f: Callable[[float], float], low: float, high: float) -> float:
    """Return where a concave function is largest."""
    found = minimize_scalar(
        lambda x: -f(x),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-8 * (high - low)},
    )
    return float(found.x)


def gauge_in_box(loss: Logistic, theta: FloatArray, h: FloatArray, domain: Box) -> Gauge:
    """Return the gauge of h."""
    if not h.any():
        return Gauge(
            0.0, np.zeros_like(h), np.empty((0, len(h) - loss.intercept)), *np.empty((2, 0))
        )
    program = Program(loss, theta, h, domain)
    best = program.solve(0.0)
    kept = [i for i, number in enumerate(best.numbers) if number > 0.0]
    return Gauge(
        sum(best.numbers),
        best.direction if loss.intercept else best.direction[:-1],
        np.stack([program.inputs(best)[i] for i in kept]),
        np.array([-1.0, 1.0])[kept],
        np.array(best.numbers)[kept],
    )


def realize_in_box(
    loss: Logistic, theta: FloatArray, h: FloatArray, domain: Box, extra: int
) -> Realization:
    """Return the fewest logistic points in the box with gradient h, and ``extra`` more."""
    if not h.any():
        empty = Dataset.empty(theta.size - loss.intercept)
        return ship(empty, 0.0, LowerBound(0, "zero"))
    program = Program(loss, theta, h, domain)
    best = program.solve(0.0)
    proof = _proved(program, best)
    least = proof.value + extra
    farther = [least + MOST_MORE * 2**i for i in range(1 + (least // MOST_MORE).bit_length())]
    for k in [*range(least, least + MOST_MORE), *farther]:
        for positive in _splits(k, best.numbers, extra):
            for data in program.datasets(positive, k - positive):
                residual = relative_residual(loss, data, theta, h)
                if residual <= REALIZATION_RESIDUAL and domain.contains(data.x).all():
                    note = ""
                    if k > least:
                        note = f"no way to ship {least} points was found; {k} are shipped"
                    return ship(data, residual, proof, note)
    raise UnrealizableGradientError(
        f"at least {proof.value} points are needed in {domain!r}, and no way to share h among {least} "
        f"to {farther[-1]} points was found: the box leaves their predictors too little room. Widen the "
        "box or ask for more with extra",
        direction=np.asarray(proof.direction),
    )


def _splits(k: int, numbers: tuple[float, float], extra: int) -> list[int]:
    """Return numbers of points of label -1 worth trying, likely ones first."""
    ideal = k * numbers[0] / sum(numbers)
    near = {math.floor(numbers[0]), math.ceil(numbers[0]), math.floor(ideal), math.ceil(ideal)}
    near |= {math.floor(numbers[0]) + i for i in range(-2, 3)}
    if extra:
        near |= {round(numbers[0] + share * extra) for share in (0.25, 0.5, 0.75)}
    return sorted((j for j in near if 0 <= j <= k), key=lambda j: abs(j - ideal))


def _proved(program: Program, best: Merged) -> LowerBound:
    """Return the largest number that directions prove: of the gauge, or of splits that cannot do."""
    loss, theta, h, domain = program.loss, program.theta, program.h, program.domain
    kept = slice(None) if loss.intercept else slice(-1)
    gauge = best.direction[kept]
    value = max(1, math.ceil(sum(best.numbers) * (1.0 - 1e-9)))
    while value > 1 and not refuted_splits(loss, theta, h, gauge, domain, value - 1, 0, value - 1):
        value -= 1
    proof = (
        LowerBound(value, BOUNDED, gauge, split=value - 1)
        if value > 1
        else LowerBound(1, "nonzero")
    )
    # With one point more only numbers next to the best real one can do, by convexity.
    for k in range(value, value + 2):
        split = math.floor(best.numbers[0])
        below, above = (
            _refuting(program, j, k - j, kept) if 0 <= j <= k else gauge for j in (split, split + 1)
        )
        if below is None or above is None:
            break
        if not (
            refuted_splits(loss, theta, h, below, domain, k, 0, min(split, k))
            and refuted_splits(loss, theta, h, above, domain, k, split + 1, k)
        ):
            break
        proof = LowerBound(k + 1, BOUNDED, np.stack([below, above]), split=split)
    return proof


def _refuting(program: Program, positive: int, negative: int, kept: slice) -> FloatArray | None:
    r"""Return the direction that refutes a split, if there is one.

    :math:`\alpha (c - n) + \beta (c' - n')`, c and c' being the least numbers at the weights, is
    positive somewhere if and only if the split cannot do; it is concave in
    :math:`\alpha/(\alpha+\beta)`.
    """

    def gap(log_ratio: float) -> float:
        c = program.solve(log_ratio).numbers
        share = float(expit(log_ratio))
        return share * (c[0] - positive) + (1.0 - share) * (c[1] - negative)

    best = _peak(gap, -FARTHEST, FARTHEST)
    return program.solve(best).direction[kept] if gap(best) > 0.0 else None
