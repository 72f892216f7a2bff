r"""Logistic regression, inputs unbounded: exactly as many points as one number demands.

With :math:`w = \varphi'(z, y)` a point has :math:`z w = f(|w|)`, :math:`f(p) = p\log\frac{p}{1-p}`,
whatever its label (see `gplconvex.realization.lower_bound`), and once the :math:`z_i, w_i` satisfy

.. math:: \sum_i z_i w_i = s := \theta^\top h \qquad\text{and, with an intercept,}\qquad
          \sum_i w_i = h_0,

the part of the inputs orthogonal to theta supplies the rest of h. So a problem in d dimensions is
one about k numbers :math:`w_i \in (-1, 1)`.

*Without intercept* k copies of one point reach every :math:`s \ge -k\kappa`:
:math:`k^* = \max(1, \lceil -s/\kappa\rceil)`.

*With intercept* let :math:`h_0 \ge 0` (otherwise flip all signs). For given k and j, the least
:math:`\sum f(|w_i|)` over j positive and k - j negative residuals that sum to :math:`h_0` is attained
at two values, :math:`a = (f')^{-1}(\tau)` and :math:`-b`, :math:`b = (f')^{-1}(-\tau)`, and it is
convex in j. Everything above that minimum is attained too, so :math:`k^*` is the least k > |h_0| with
:math:`\varphi_k(h_0) = \min_j(\cdot) \le s`; and a single point does when :math:`s = f(|h_0|)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.errors import UnrealizableGradientError
from gplconvex.losses import Logistic
from gplconvex.realization.exact import relative_residual
from gplconvex.realization.inputs import smallest_inputs
from gplconvex.realization.lower_bound import (
    KAPPA,
    MOST_RESIDUALS,
    LowerBound,
    dot,
    dual_value,
    fewest_residuals,
    logit_of,
    omega,
    single_point_mismatch,
)
from gplconvex.realization.result import Realization, finish, ship
from gplconvex.regularizers import norm
from gplconvex.rounding import POLISHED, REALIZATION_RESIDUAL, UNIT

P_STAR = KAPPA / (1.0 + KAPPA)
"""The minimizer of f, 0.21781...: the residual of the cheapest point."""

EPS = 2.0 * UNIT
"""The spacing of float64 at 1, the least relative tolerance of a root."""

NUMBERS = 8
"""Numbers of points that are tried where more than the fewest are allowed."""

LEAST_LOG = 700.0
"""Residuals stay above exp(-700), within the range of float64."""


def realize_logistic(
    loss: Logistic, theta: FloatArray, h: FloatArray, extra: int = 0
) -> Realization:
    """Return the fewest logistic points whose gradient at ``theta`` is ``h``, or ``extra`` more."""
    n_features = theta.size - loss.intercept
    if not h.any():
        return finish(loss, theta, h, Dataset.empty(n_features), LowerBound(0, "zero"))
    if not loss.intercept:
        return _without_intercept(loss, theta, h, extra)
    if not theta[:-1].any():
        return _constant_predictor(loss, theta, h)
    fewest = _with_intercept(loss, theta, h)
    return _smaller(loss, theta, h, extra, fewest) if extra else fewest


# -- without intercept -------------------------------------------------------------------------------


def _without_intercept(loss: Logistic, theta: FloatArray, h: FloatArray, extra: int) -> Realization:
    r"""K copies of :math:`x = -c h`, y = +1, with :math:`k c\,\sigma(c\,s) = 1`."""
    s, off = dot(theta, h)
    # Rounded down: a bound must hold, and at a tie the construction below meets it.
    needed = -(s + off) / KAPPA * (1.0 - 8.0 * UNIT)
    _require_countable(needed, s, theta)
    k = max(1, math.ceil(needed))
    c = _copies_scale(k + extra, s)
    data = Dataset(-c * h[None, :], [1.0], [k + extra])
    proof = LowerBound(k, "direction", -theta, KAPPA) if k > 1 else LowerBound(1, "nonzero")
    return finish(loss, theta, h, data, proof)


def _require_countable(needed: float, s: float, theta: FloatArray) -> None:
    if needed >= 2.0**53:
        raise UnrealizableGradientError(
            f"{needed:.3g} points are needed, more than the 2^53 that float64 weights can count, for a "
            f"gradient h with theta^T h = {s:.3g}. Move the target closer",
            direction=-theta,
        )


def _copies_scale(k: int, s: float) -> float:
    r"""Return c > 0 with :math:`\log k + \log c + \log\sigma(c s) = 0`, the smaller root for s < 0."""

    def excess(log_c: float) -> float:
        return math.log(k) + log_c + float(log_expit(math.exp(log_c) * s))

    # k c sigma(cs) grows with c up to |cs| = 1 + kappa if s < 0, for ever if not. sigma <= 1 makes
    # c >= 1/k necessary, and sigma >= 1/2 for s >= 0 makes c <= 2/k sufficient.
    low = -math.log(k)
    high = math.log((1.0 + KAPPA) / -s) if s < 0.0 else math.log(2.0) - math.log(k)
    if s < 0.0 and excess(high) <= 0.0:
        return math.exp(high)  # the tie: the peak itself, up to rounding
    if excess(low) >= 0.0:
        return math.exp(low)  # sigma(cs) is 1 in float64
    return math.exp(brentq(excess, low, high, xtol=1e-18, rtol=4.0 * EPS, maxiter=1000))


# -- with intercept: numbers first -------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """``count`` equal points with residual w and predictor z."""

    count: int
    w: float
    z: float


def _with_intercept(loss: Logistic, theta: FloatArray, h: FloatArray) -> Realization:
    s, off = dot(theta, h)
    sign = -1.0 if h[-1] < 0.0 else 1.0
    h0 = abs(float(h[-1]))
    mismatch, allowance = single_point_mismatch(s, off, h0)
    # A single point has no freedom at all: take it if it happens to fit.
    if mismatch <= allowance + REALIZATION_RESIDUAL * norm(theta) * norm(h):
        alone = _inputs(theta, h, sign, [_Group(1, h0, math.log(h0) - math.log1p(-h0))])
        if relative_residual(loss, alone, theta, h) <= REALIZATION_RESIDUAL:
            return finish(loss, theta, h, alone, LowerBound(1, "nonzero"))
    _require_countable(max(h0, -(s + off) / KAPPA), s, theta)
    k = _fewest_points(h0, s + off)
    _require_countable(k, s, theta)
    candidates = [_inputs(theta, h, sign, groups) for groups in _splits(k, h0, s)]
    data = min(candidates, key=lambda d: max(POLISHED, relative_residual(loss, d, theta, h)))
    if k == 2 and mismatch <= allowance:
        note = "one point would do in exact arithmetic, but not in float64; two points are shipped"
        return finish(loss, theta, h, data, LowerBound(1, "nonzero"), note)
    return finish(loss, theta, h, data, _prove(k, h0, s + off, sign, theta))


def _smaller(
    loss: Logistic, theta: FloatArray, h: FloatArray, extra: int, fewest: Realization
) -> Realization:
    """Return, with up to ``extra`` points more, those whose largest input is smallest."""
    s, h0 = dot(theta, h)[0], abs(float(h[-1]))
    sign = -1.0 if h[-1] < 0.0 else 1.0
    k, best = fewest.n_points, fewest
    for n in sorted({max(2, k + math.ceil(extra * i / NUMBERS)) for i in range(1, NUMBERS + 1)}):
        if n <= h0:
            continue
        for groups in _splits(n, h0, s):
            data = _inputs(theta, h, sign, groups)
            residual = relative_residual(loss, data, theta, h)
            smaller = np.abs(data.x).max() < np.abs(best.dataset.x).max()
            if smaller and residual <= REALIZATION_RESIDUAL:
                best = ship(data, residual, fewest.proof)
    return best


def _fewest_points(h0: float, s: float) -> int:
    r"""Return the least k >= 2 with :math:`k > h_0` and :math:`\varphi_k(h_0) \le s`.

    :math:`\varphi_k` falls with k (a further residual near 0 costs nothing): double, then bisect.
    """
    low = max(2, math.floor(h0) + 1)
    if _least_sum(low, h0)[0] <= s:
        return low
    high = max(low + 1, math.ceil(-s / KAPPA))
    while _least_sum(high, h0)[0] > s:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _least_sum(middle, h0)[0] <= s:
            high = middle
        else:
            low = middle
    return high


def _least_sum(k: int, h0: float) -> tuple[float, int, float]:
    r"""Return :math:`\varphi_k(h_0)`, the j that attains it and its multiplier tau."""
    first = math.floor(h0) + 1  # j residuals below 1 must exceed h0 on their own
    ideal = (k + h0 / P_STAR) / 2.0  # all residuals at +-P_STAR, if j could be any number
    lower = min(max(math.floor(ideal), first), k)
    candidates = [(*_least_sum_for(k, j, h0), j) for j in {lower, min(lower + 1, k)}]
    value, tau, j = min(candidates)
    return value, j, tau


def _least_sum_for(k: int, j: int, h0: float) -> tuple[float, float]:
    r"""Return the least :math:`\sum f(|w_i|)` with j positive residuals, and its multiplier.

    The multiplier solves :math:`j\,a(\tau) - (k-j)\,b(\tau) = h_0`, with
    :math:`a = (f')^{-1}(\tau) = \omega/(1 + \omega)`, :math:`\omega = \omega(\tau - 1)`, and
    :math:`b(\tau) = a(-\tau)`; the left side grows with tau.
    """

    def excess(tau: float) -> float:
        if tau > 0.0:  # through 1 - a, which does not cancel where h0 is close to j
            return (j - h0) - j / (1.0 + omega(tau - 1.0)) - (k - j) * _residual_of(-tau)
        return j * _residual_of(tau) - (k - j) * _residual_of(-tau) - h0

    width = 1.0
    while excess(width) < 0.0:
        width *= 2.0
    low = -1.0
    while excess(low) > 0.0:
        low *= 2.0
    tau = brentq(excess, low, width, xtol=1e-18, rtol=4.0 * EPS, maxiter=1000)
    return dual_value(k, j, h0, tau), tau


def _residual_of(tau: float) -> float:
    value = omega(tau - 1.0)
    return value / (1.0 + value)


def _splits(k: int, h0: float, s: float) -> list[list[_Group]]:
    r"""Return ways to choose k residuals of two kinds with :math:`\sum w = h_0`, :math:`\sum z w = s`.

    From the minimizer of :math:`\sum z w` one moves, keeping :math:`\sum w`, until the sum has grown
    to s: outwards, to larger residuals and moderate predictors, which makes moderate inputs; or
    inwards, to smaller residuals, among which less cancels where h is tiny.
    """
    _, j, tau = _least_sum(k, h0)
    if j == k and h0 < k - 1:
        # A mixture of signs reaches every value above its own minimum: prefer it where it does.
        mixed_value, mixed_tau = _least_sum_for(k, k - 1, h0)
        if mixed_value <= s:
            j, tau = k - 1, mixed_tau
    if j == k:
        return [_split_same_sign(k, h0, s)]
    inwards = _split_inwards(k, j, h0, s, tau)
    outwards = _split_outwards(k, j, h0, s, tau)
    return [outwards] if inwards is None else [outwards, inwards]


def _split_inwards(k: int, j: int, h0: float, s: float, tau: float) -> list[_Group] | None:
    r"""Return j residuals :math:`a = (h_0 + (k-j) b)/j` and k - j residuals -b, b having shrunk.

    The parameter is :math:`-\log b`. The sum grows to :math:`j f(h_0/j)` at most: None if s is more.
    """

    def follow(t: float) -> tuple[float, float, float, float]:
        b = math.exp(-t)
        a = (h0 + (k - j) * b) / j
        return a, math.log(a) - math.log1p(-a), b, -t - math.log1p(-b)

    def excess(t: float) -> float:
        a, z_a, b, z_b = follow(t)
        return j * a * z_a + (k - j) * b * z_b - s

    start = -math.log(_residual_of(-tau)) if _residual_of(-tau) > 0.0 else LEAST_LOG
    if start >= LEAST_LOG or excess(LEAST_LOG) < 0.0:
        return None
    a, z_a, b, z_b = follow(_root_outwards(excess, start, LEAST_LOG))
    return [_Group(j, a, z_a), _Group(k - j, -b, -z_b)]


def _split_outwards(k: int, j: int, h0: float, s: float, tau: float) -> list[_Group]:
    r"""Return j residuals a and k - j residuals -b, :math:`j a - (k-j) b = h_0`, both having grown.

    The one that reaches 1 first leads: its predictor is the parameter,
    and the other one follows, through :math:`1 - b` so that nothing cancels near 1.
    """
    n_other, room = k - j, k - 2 * j + h0  # room = (k - j)(1 - b) where a = 1
    if room >= 0.0:
        lead, other, room_other, h = j, n_other, room, h0
        start = logit_of(tau - 1.0)
    else:
        lead, other, room_other, h = n_other, j, -room, -h0
        start = logit_of(-tau - 1.0)

    def follow(z: float) -> tuple[float, float]:
        """Return the other residual's size and predictor."""
        size = (lead - h) - lead * float(expit(-z)) if z > 0.0 else lead * float(expit(z)) - h
        size /= other
        if size <= 0.0:
            return 0.0, 0.0  # below the least number: f vanishes there
        log_rest = (
            math.log((room_other + lead * float(expit(-z))) / other)
            if room_other > 0.0
            else math.log(lead / other) + float(log_expit(-z))
        )
        return size, math.log(size) - log_rest

    def excess(z: float) -> float:
        size, z_other = follow(z)
        return lead * z * float(expit(z)) + other * z_other * size - s

    z = _root_outwards(excess, start)
    size, z_other = follow(z)
    leading, following = (lead, float(expit(z)), z), (other, size, z_other)
    positive, negative = (leading, following) if room >= 0.0 else (following, leading)
    return [_Group(*positive), _Group(negative[0], -negative[1], -negative[2])]


def _split_same_sign(k: int, h0: float, s: float) -> list[_Group]:
    r"""Return one residual p that has grown and k - 1 others, :math:`a = (h_0 - p)/(k-1)`.

    p ends at 1 if :math:`h_0 \ge 1` (the parameter is its predictor), otherwise at :math:`h_0`, where
    a vanishes (the parameter is :math:`-\log a`).
    """

    def by_growing(t: float) -> tuple[float, float, float, float]:
        rest = float(log_expit(-t)) if h0 == 1.0 else math.log((h0 - 1.0) + float(expit(-t)))
        log_a = rest - math.log(k - 1)
        log_complement = math.log(((k - h0) - float(expit(-t))) / (k - 1))  # of 1 - a
        return float(expit(t)), t, math.exp(log_a), log_a - log_complement

    def by_shrinking(t: float) -> tuple[float, float, float, float]:
        a = math.exp(-t)
        grown = h0 - (k - 1) * a
        return grown, math.log(grown) - math.log1p(-grown), a, -t - math.log1p(-a)

    if h0 >= 1.0:
        split, start, end = by_growing, math.log(h0) - math.log(k - h0), math.inf
    else:
        split, start, end = by_shrinking, math.log(k) - math.log(h0), LEAST_LOG

    def excess(t: float) -> float:
        w, z, a, z_a = split(t)
        return w * z + (k - 1) * a * z_a - s

    w, z, a, z_a = split(_root_outwards(excess, start, end))
    return [_Group(1, w, z), _Group(k - 1, a, z_a)]


def _root_outwards(excess: Callable[[float], float], start: float, end: float = math.inf) -> float:
    """Return the root of a function that grows from ``start``.

    ``start`` if it is not below 0 there, ``end`` if it still is there: the root up to rounding.
    """
    if excess(start) >= 0.0:
        return start
    step, far = 1.0, start
    while far < end and excess(far) < 0.0:
        step *= 2.0
        far = min(start + step, end)
    if excess(far) < 0.0:
        return far
    return float(brentq(excess, start, far, xtol=1e-18, rtol=4.0 * EPS, maxiter=1000))


def _prove(k: int, h0: float, s: float, sign: float, theta: FloatArray) -> LowerBound:
    """Return the argument that k - 1 points cannot do."""
    if k - 1 <= h0:
        return LowerBound(k, "residuals")
    if k == 2:
        return LowerBound(2, "silent point" if h0 == 0.0 else "single point")
    direction, support = _best_direction(h0, s, sign, theta)
    first = math.floor(h0) + 1
    ideal = (k - 1 + h0 / P_STAR) / 2.0
    split = min(max(math.floor(ideal), first), k - 1)
    _, left = _least_sum_for(k - 1, split, h0)
    right = _least_sum_for(k - 1, split + 1, h0)[1] if split < k - 1 else 0.0
    if left < 0.0:
        # Then the second multiplier serves j = first, first + 1, ...; the others, j <= h0, leave
        # nothing to sum up to h0, and their bounds grow without end.
        split, left, right = first - 1, 1.0, left
        while dual_value(k - 1, split, h0, left) <= s:
            left *= 2.0
    return LowerBound(k, "counting", direction, support, (left, right), split)


def _best_direction(
    h0: float, s: float, sign: float, theta: FloatArray
) -> tuple[FloatArray, float]:
    r"""Return the :math:`v = -\theta + \tau e_0` with the best bound, and its :math:`\sigma(v)`."""
    best = minimize_scalar(
        lambda tau: -(tau * h0 - s) / omega(tau - 1.0), bounds=(0.0, 1e3), method="bounded"
    )
    tau = float(best.x) if -best.fun > -s / KAPPA else 0.0
    direction = -theta
    direction[-1] += sign * tau
    return direction, omega(tau - 1.0)


# -- with intercept: then the inputs -----------------------------------------------------------------


def _inputs(theta: FloatArray, h: FloatArray, sign: float, groups: list[_Group]) -> Dataset:
    """Return points with the given residuals and predictors whose gradients sum to h."""
    counts = np.array([group.count for group in groups])
    w = sign * np.array([group.w for group in groups])
    z = sign * np.array([group.z for group in groups])
    x = smallest_inputs(theta, h, w, z, counts)
    return Dataset(x, np.where(np.signbit(w), 1.0, -1.0), counts)


# -- theta zero but for the intercept ----------------------------------------------------------------


def _constant_predictor(loss: Logistic, theta: FloatArray, h: FloatArray) -> Realization:
    r"""Every point has z = b, so residuals are :math:`\sigma(b)` or :math:`\sigma(b) - 1`.

    Their sum can be only one of countably many numbers; inputs are free.
    """
    b, h0 = float(theta[-1]), float(h[-1])
    fewest = fewest_residuals(b, h0)
    if fewest is None:
        direction = np.zeros_like(theta)
        direction[-1] = 1.0
        raise UnrealizableGradientError(
            f"all coefficients of theta but the intercept {b:.6g} are zero, so every point has "
            f"residual {expit(b):.6g} or {-expit(-b):.6g}; no number of them up to {MOST_RESIDUALS} "
            f"sums to the intercept's entry of the gradient, {h0:.17g}. Move the target by a little, or "
            "change the attacker's nu",
            direction=direction,
        )
    positive, negative = fewest
    counts = np.array([positive, negative])
    w = np.array([float(expit(b)), -float(expit(-b))])
    used = counts > 0
    counts, w = counts[used], w[used]
    x = np.outer(w / float(counts @ w**2), h[:-1])
    data = Dataset(x, np.where(w > 0.0, -1.0, 1.0), counts)
    return finish(loss, theta, h, data, LowerBound(data.n_points, "constant predictor"))
