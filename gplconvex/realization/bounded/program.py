r"""The gauge of a gradient over a domain: a small convex program in merged points.

Give the points with residuals above 0 the weight :math:`W = \sum r_i` and :math:`X = \sum r_i x_i`,
those below 0 the weight V and X'. Since :math:`1/r` is convex (see
`gplconvex.realization.bounded.branches`), by Jensen's inequality their number is

.. math:: \sum_i 1 = \sum_i r_i\,\frac{1}{r_i} \;\ge\; \frac{W}{r(M)},
          \qquad M = \frac{\theta^\top X}{W} + b,

with equality if all inputs are X/W; over a convex domain that is an input as well. So *two distinct
points are enough*, and the gauge of h (T3.1), the least weight of points whose gradients sum to h, is a
convex program. With :math:`X - X' = \tilde h`, :math:`W - V = h_0` and :math:`s = \theta^\top X` it has
two unknowns,

.. math:: \min_{W, s}\; \frac{\alpha W}{r_+(s/W + b)}
          + \frac{\beta V}{r_-((\theta^\top\tilde h - s)/V - b)},
          \qquad s_{\min}(W) \le s \le s_{\max}(W),

the range of s being that of :math:`X \in W\mathcal{X} \cap (\tilde h + V\mathcal{X})`. Without intercept
:math:`h_0` is free: one unknown more, in which the least weight is convex. At :math:`\alpha = \beta = 1`
this is the gauge; other weights trace which numbers of points (above 0, below 0) can do at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from gplconvex._types import FloatArray
from gplconvex.domains import Domain
from gplconvex.errors import UnrealizableGradientError, UnsupportedCombinationError
from gplconvex.losses import Logistic, Loss
from gplconvex.realization.bounded.branches import (
    Branch,
    LinearBranch,
    LogisticBranch,
    PoissonBranch,
    branches,
)
from gplconvex.realization.bounded.lens import Lens, Shape
from gplconvex.realization.bounded.roots import root
from gplconvex.realization.lower_bound import dot
from gplconvex.rounding import LARGEST, gamma

TINY = 1e-12
"""How near to an end of an open interval a root is looked for, relative to the interval."""

MOST_DOUBLINGS = 60
"""How often the range of h0 is doubled, beyond the size of h."""

NEARLY = 1e-9
"""A relative excess of numbers of points that rounding cannot make."""

FARTHEST = 30.0
r"""The largest :math:`|\log(\alpha/\beta)|`: one sign weighs up to 1e13 times the other."""


@dataclass(frozen=True)
class Merged:
    r"""All points with residuals above 0 merged into one of weight W, those below into one of weight V.

    Attributes
    ----------
    h0 : float
        W - V.
    weight, s : float
        W and :math:`\theta^\top X`.
    numbers : tuple of float
        How many points of residuals above and below 0 that takes at least.
    scale : float
        The larger multiplier of :math:`\theta^\top X` in the two sets.
    direction : array, shape (d + 1,)
        Times ``scale`` the multiplier of :math:`(\tilde h, h_0)`: the direction that proves it. Its
        features are -theta exactly where W holds X: where inputs have no bound, rounding would make
        the supremum along it infinite.
    """

    h0: float
    weight: float
    s: float
    numbers: tuple[float, float]
    scale: float
    direction: FloatArray

    @property
    def v0(self) -> float:
        """The derivative of the least weight in h0."""
        return self.scale * float(self.direction[-1])


class Program:
    """The convex program for one model, gradient and domain; the intercept apart from the features."""

    def __init__(self, loss: Loss, theta: FloatArray, h: FloatArray, domain: Domain) -> None:
        self.loss, self.theta, self.h, self.domain = loss, theta, h, domain
        free = not loss.intercept
        self.t, self.features = (theta, h) if free else (theta[:-1], h[:-1])
        self.b = 0.0 if free else float(theta[-1])
        self.h0: float | None = None if free else float(h[-1])
        self.shape = Shape.of(domain, len(self.t))
        if free and self.shape.shares is not None:  # they sum to 1: as good as an intercept
            self.h0 = math.fsum(self.features[self.shape.shares].tolist())
        self.labels = domain.labels or (-math.inf, math.inf)
        self.plus, self.minus = branches(loss, self.labels)
        self.th = dot(self.t, self.features)[0]
        highest = self.shape.support(self.t) + self.b
        lowest = -self.shape.support(-self.t) + self.b
        self.range = lowest, highest
        every = np.ones_like(self.t)
        self.compact = all(math.isfinite(self.shape.support(u)) for u in (every, -every))
        self._solved: dict[float, Merged] = {}
        self.possible = highest > self.plus.lowest, -lowest > self.minus.lowest

    @property
    def free(self) -> bool:
        """Whether residuals of both signs may be so large that any weight takes less than one point."""
        above = self.plus.unlimited or (self.plus.top == math.inf == self.range[1])
        below = self.minus.unlimited or (self.minus.top == math.inf == -self.range[0])
        one = self.plus.unlimited or self.minus.unlimited
        return all(self.possible) and one and above and below

    def lens(self, h0: float) -> Lens:
        """Return the possible X for an h0."""
        return Lens(self.shape, self.t, self.features, h0)

    # -- the least weight ------------------------------------------------------------------------------

    def solve(self, log_ratio: float) -> Merged:
        r"""Return the merged points of least weight for :math:`\alpha/\beta = e^{\text{log\_ratio}}`."""
        if self.plus.unlimited or self.minus.unlimited:
            log_ratio = 0.0  # only one sign costs anything
        if log_ratio not in self._solved:
            self._solved[log_ratio] = (
                self._without_intercept(log_ratio)
                if self.h0 is None
                else self._with_h0(self.h0, log_ratio)
            )
        return self._solved[log_ratio]

    def refutes(self, above: int, below: int) -> bool:
        r"""Return whether a solution so far shows that so many of each sign cannot do.

        At the weights of each, :math:`\alpha n + \beta n'` is no less than :math:`\alpha c + \beta c'`.
        """
        if self.h0 is not None and isinstance(self.loss, Logistic):
            # Sums of residuals, each within the range of its rate, that are h0.
            low, high = self.range
            most = above * self.plus.rate(high) - below * self.minus.rate(-high)
            least = above * self.plus.rate(low) - below * self.minus.rate(-low)
            off = NEARLY * (above + below)
            if not least - off <= self.h0 <= most + off:
                return True
        return any(
            expit(log_ratio) * (merged.numbers[0] - above)
            + expit(-log_ratio) * (merged.numbers[1] - below)
            > NEARLY * (1.0 + sum(merged.numbers))
            for log_ratio, merged in self._solved.items()
        )

    def between(self, number: int, index: int) -> tuple[float, float]:
        """Return the nearest ratios so far at which a sign takes fewer and more than a number."""
        fewer = -FARTHEST if index else FARTHEST
        more = -fewer
        for log_ratio, merged in self._solved.items():
            if merged.numbers[index] <= number:
                fewer = max(fewer, log_ratio) if index else min(fewer, log_ratio)
            else:
                more = min(more, log_ratio) if index else max(more, log_ratio)
        return fewer, more

    def _without_intercept(self, log_ratio: float) -> Merged:
        if not all(self.possible):
            raise UnsupportedCombinationError(
                f"with labels in {self.labels} all residuals in {self.domain!r} have one sign, and "
                "without intercept no construction is known: widen the labels or the domain"
            )

        # v_0, the derivative in h0, grows; at the least weight it vanishes.
        def v0(h0: float) -> float:
            return self._with_h0(h0, log_ratio).v0

        low, high = -self._size() - 1e-300, self._size() + 1e-300
        for _ in range(MOST_DOUBLINGS):
            if v0(low) <= 0.0:
                break
            low *= 2.0
        for _ in range(MOST_DOUBLINGS):
            if v0(high) >= 0.0:
                break
            high *= 2.0
        if v0(low) <= 0.0 <= v0(high):
            middle = root(v0, low, high, xtol=TINY * (high - low))
        else:  # the weight falls all the way: its limit is nearly there
            middle = high if v0(high) < 0.0 else low
        step = TINY * (high - low)  # v_0 may jump: mix the multipliers on both sides
        ends = self._with_h0(middle - step, log_ratio), self._with_h0(middle + step, log_ratio)
        first, second = ends
        rising = second.v0 > first.v0
        share = min(max(-first.v0 / (second.v0 - first.v0), 0.0), 1.0) if rising else 0.5
        scale = (1.0 - share) * first.scale + share * second.scale
        part = share * second.scale / scale if scale else 0.0
        v = first.direction + part * (second.direction - first.direction)
        v[-1] = 0.0
        best = min(ends, key=lambda end: sum(end.numbers))
        return Merged(best.h0, best.weight, best.s, best.numbers, scale, v)

    def _with_h0(self, h0: float, log_ratio: float) -> Merged:
        lens = self.lens(h0)
        if not all(self.possible):
            return self._one_sign(lens)
        scale = max(lens.least, abs(h0), self._size(), 1e-300)
        start = closed = lens.least * (1.0 + TINY) + TINY * scale
        if self._room(lens, start) <= 0.0:
            far = 2.0 * start
            while self._room(lens, far) <= 0.0:
                far *= 2.0
            edge = root(lambda w: self._room(lens, w), start, far)
            start = edge + TINY * (far - edge)
        w, derivative = start, self._conditions(lens, start, log_ratio)[0]
        if derivative < 0.0:
            far = max(2.0 * start, scale)
            while self._conditions(lens, far, log_ratio)[0] < 0.0:
                far *= 2.0
            w = root(lambda weight: self._conditions(lens, weight, log_ratio)[0], start, far)
        scale, v = self._multiplier(lens, w, log_ratio)
        if derivative >= 0.0:
            if lens.blocking:
                v = v + lens.multiplier(derivative / scale)
            elif h0 > 0.0:
                v[-1] += derivative / scale  # V = 0 there, and W alone says what h0 costs
        s, m, other = self._best(lens, w, log_ratio)
        numbers = w * self.plus.cost(m), (w - h0) * self.minus.cost(other)
        if w == closed and h0 and self.compact and not lens.blocking:
            # A sign vanishes, and with it its gradient: what was left of it is no number.
            numbers = (numbers[0], 0.0) if h0 > 0.0 else (0.0, numbers[1])
        return Merged(h0, w, s, numbers, scale, v)

    def _size(self) -> float:
        """Return a weight of the size of h: its largest entry beside the range of that feature."""
        unit = np.eye(len(self.t))
        largest = int(np.argmax(np.abs(self.features)))
        u = unit[largest]
        width = self.shape.support(u) + self.shape.support(-u)
        return abs(float(self.features[largest])) / (width if 0.0 < width < math.inf else 1.0)

    def _room(self, lens: Lens, w: float) -> float:
        """Return by how much both margins can be above those of rate 0."""
        v = w - lens.h0
        low, high = w * (self.plus.lowest - self.b), self.th - v * (self.minus.lowest + self.b)
        return min(lens.s(1.0, w) - low, high - lens.s(-1.0, w), high - low)

    def _best(self, lens: Lens, w: float, log_ratio: float) -> tuple[float, float, float]:
        r"""Return the best s, M and M'; :math:`WM + VM' = \theta^\top\tilde h + b h_0`."""
        v, total = w - lens.h0, self.th + self.b * lens.h0
        m, other = _meet(self.plus, self.minus, w, v, total, log_ratio)
        s = w * (m - self.b)
        for sign in (-1.0, 1.0):
            end = lens.s(sign, w)
            if sign * s > sign * end:
                return end, end / w + self.b, (self.th - end) / v - self.b
        return s, m, other

    def _slopes(
        self, lens: Lens, w: float, log_ratio: float
    ) -> tuple[float, float, float, float, float, float]:
        """Return both margins, the weights' parts of the derivative in s, and the range's multiplier."""
        alpha, beta = math.exp(min(0.0, log_ratio)), math.exp(min(0.0, -log_ratio))
        s, m, other = self._best(lens, w, log_ratio)
        above, below = -alpha * self.plus.steepness(m), beta * self.minus.steepness(other)
        sign = 1.0 if above + below < 0.0 else -1.0
        press = -sign * (above + below) if lens.s(sign, w) == s else 0.0
        return m, other, above, below, sign, press

    def _conditions(self, lens: Lens, w: float, log_ratio: float) -> tuple[float, float]:
        """Return the derivative in W of the least weight, and its part from V."""
        alpha, beta = math.exp(min(0.0, log_ratio)), math.exp(min(0.0, -log_ratio))
        m, other, above, below, sign, press = self._slopes(lens, w, log_ratio)
        if not math.isfinite(above + below):  # a margin so low that more weight is wanted
            return -LARGEST, 0.0
        own, rest = alpha * self.plus.cost(m), beta * self.minus.cost(other)
        own -= (m - self.b) * above if above else 0.0
        rest += (other + self.b) * below if below else 0.0
        if press:
            end = lens.end(sign, w)
            own, rest = own - press * end.own, rest - press * end.other
        return own + rest, rest

    def _multiplier(self, lens: Lens, w: float, log_ratio: float) -> tuple[float, FloatArray]:
        r"""Return the derivative of the least weight in :math:`(\tilde h, h_0)`, in two factors.

        In the features that is :math:`-\beta s_-\theta - \pi n = -\alpha s_+\theta + \pi(e - n)`: -theta
        times one multiplier where the first set holds X, times another where the second one does.
        """
        _, _, above, below, sign, press = self._slopes(lens, w, log_ratio)
        rest = self._conditions(lens, w, log_ratio)[1]
        scale = max(below, -above)
        scale = scale if scale > 1e-300 else press or 1.0  # next to 0 no quotient is a number
        v = -(below / scale) * self.t if below >= -above else (above / scale) * self.t
        if press:
            normal = lens.normal(sign, w)
            part = -normal if below >= -above else sign * self.t - normal
            v = self.shape.nudged(v + (press / scale) * part, self.t)
        return scale, np.append(v, -rest / scale)

    def _one_sign(self, lens: Lens) -> Merged:
        """Return the merged points where all residuals have one sign: X or X' is zero."""
        above = self.possible[0]
        weight = lens.h0 if above else -lens.h0
        h = self.features if above else -self.features
        u, excess = self._outside(h, weight)
        if excess > 0.0 or weight <= 0.0:
            sign = 1.0 if above else -1.0
            raise UnrealizableGradientError(
                f"with labels in {self.labels} all residuals in {self.domain!r} are "
                f"{'above' if above else 'below'} 0, so that gradients lie in a cone, which this one is "
                "outside of (error.direction separates them): widen the labels or the domain",
                direction=sign * (u if weight > 0.0 else np.append(np.zeros_like(self.t), -1.0)),
            )
        margin = self.th / weight + (self.b if above else -self.b)
        branch = self.plus if above else self.minus
        number = weight * branch.cost(margin) if margin > branch.lowest else math.inf
        steep = branch.steepness(margin)
        # The derivative of W/r(theta^T h / W + b) in h and h0 = +-W.
        v0 = branch.cost(margin) + steep * (margin - (self.b if above else -self.b))
        v = np.append(-steep * self.t, v0 if above else -v0)
        numbers = (number, 0.0) if above else (0.0, number)
        return Merged(
            lens.h0, lens.h0 if above else 0.0, self.th if above else 0.0, numbers, 1.0, v
        )

    def _outside(self, h: FloatArray, weight: float) -> tuple[FloatArray, float]:
        r"""Return (u, -sigma(u)) and by how much u separates h from :math:`W\mathcal{X}`."""
        found: list[tuple[float, FloatArray]] = []
        for part, piece in self.shape.pieces:
            u = np.zeros(len(self.t) + 1)
            u[part], u[-1] = piece.separating(h[part], weight)
            found.append((float(u[:-1] @ h + u[-1] * weight), u))
        excess, u = max(found, key=lambda pair: pair[0])
        return u, excess

    def direction(self, merged: Merged) -> FloatArray:
        r"""Return the direction for the model: without intercept h0 is 0 or the sum over categories."""
        v = merged.direction.copy()
        # Where labels have no bound v must not point at points, not even by a rounding.
        size = self.shape.magnitude(v[:-1]) + abs(float(v[-1]))
        off = 4.0 * gamma(2 * len(v) + 8) * size
        if self.minus.unlimited:
            v[-1] = max(v[-1], self.shape.support(-v[:-1]) + off)
        if self.plus.unlimited:
            v[-1] = min(v[-1], -self.shape.support(v[:-1]) - off)
        return self._without_h0(v)

    def _without_h0(self, v: FloatArray) -> FloatArray:
        if self.loss.intercept:
            return v
        kept = v[:-1].copy()
        if self.shape.shares is not None:
            kept[self.shape.shares] += v[-1]
        return kept

    def separating(self, above: bool) -> FloatArray | None:
        """Return a direction between h and the cone of points whose residuals have one sign.

        None if h is in that cone, or might be (without intercept).
        """
        if self.h0 is None:
            return None
        sign = 1.0 if above else -1.0
        weight = sign * self.h0
        if weight < 0.0:
            v = np.append(np.zeros_like(self.t), -1.0)
        else:
            v, excess = self._outside(sign * self.features, weight)
            if excess <= 0.0:
                return None
            if weight > 0.0:  # strictly between
                v[-1] -= 0.5 * excess / weight
        return self._without_h0(sign * v)

    # -- the points ------------------------------------------------------------------------------------

    def inputs(self, merged: Merged) -> tuple[FloatArray, FloatArray]:
        """Return the inputs of the two merged points; of one without weight any input stands for it."""
        w, v = merged.weight, merged.weight - merged.h0
        if w > 0.0 and v > 0.0:
            x = self.lens(merged.h0).point(merged.s, w)
            return self.shape.inside(x / w), self.shape.inside((x - self.features) / v)
        middle = self.shape.inside(np.zeros_like(self.t))
        own = self.shape.inside(self.features / w) if w > 0.0 else middle
        return own, self.shape.inside(-self.features / v) if v > 0.0 else middle


def _meet(
    plus: Branch, minus: Branch, w: float, v: float, total: float, log_ratio: float
) -> tuple[float, float]:
    r"""Return M and M' at which :math:`\alpha s_+(M) = \beta s_-(M')`, :math:`WM + VM'` being the total.

    s are the steepnesses. Each margin follows from the other by that equation: not from the total, in
    which the smaller weight's share may be lost in rounding.
    """
    if minus.unlimited and plus.unlimited:
        return total / (w + v), total / (w + v)
    if minus.unlimited or plus.unlimited:
        return (math.inf, -math.inf) if minus.unlimited else (-math.inf, math.inf)
    if isinstance(plus, LogisticBranch):
        m = (total + v * log_ratio) / (w + v)
        return m, m - log_ratio
    if isinstance(plus, LinearBranch):
        ratio = math.exp(-0.5 * log_ratio)
        rate = (total - w * plus.lowest - v * minus.lowest) / (w + ratio * v)
        return rate + plus.lowest, ratio * rate + minus.lowest
    assert isinstance(plus, PoissonBranch)
    assert isinstance(minus, PoissonBranch)
    if v > w:
        other, m = _meet_poisson(minus, plus, v, w, total, -log_ratio)
        return m, other
    return _meet_poisson(plus, minus, w, v, total, log_ratio)


def _meet_poisson(
    plus: PoissonBranch,
    minus: PoissonBranch,
    w: float,
    v: float,
    total: float,
    log_ratio: float,
) -> tuple[float, float]:
    """Return both margins, from the first one's equation."""

    def excess(m: float) -> float:
        return w * m + v * minus.margin_of(plus.log_steepness(m) + log_ratio) - total

    # The left side grows with the first margin, from its lowest on: bracket the root around the mean.
    low, step = plus.lowest, 1.0
    middle = total / (w + v) if low == -math.inf else max(total / (w + v), low)
    low = max(low, middle - step)
    while excess(low) > 0.0 and low > plus.lowest:
        step *= 2.0
        low = max(plus.lowest, middle - step)
    high = middle + 1.0
    while excess(high) < 0.0:
        high = middle + 2.0 * (high - middle)
    if excess(low) >= 0.0:
        return low, minus.margin_of(plus.log_steepness(low) + log_ratio)
    m = root(excess, low, high)
    return m, minus.margin_of(plus.log_steepness(m) + log_ratio)
