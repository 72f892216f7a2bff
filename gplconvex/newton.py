r"""Damped Newton for smooth convex functions, and for such a function plus a regularizer.

Both the reply of one user (minimize :math:`L_n + r(\rho - \cdot)`) and the problem of the server
(minimize the sum of the envelopes) are small smooth convex problems with a cheap Hessian. The one
routine here serves both. It has no tolerance: it stops when rounding stops it, and the certificate
decides afterwards whether the point is good enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy import linalg

from gplconvex._types import FloatArray
from gplconvex.regularizers import Regularizer, norm
from gplconvex.rounding import UNIT

SHIFTS = (0.0, 1e-6, 1e-2, 1.0)
"""What a Hessian is shifted by, in its units, in the order tried; 0 is Newton's method."""

MAX_ITERATIONS = 200
"""Newton steps before giving up; convex problems that have a minimizer take 5 to 30."""

Extra = TypeVar("Extra", covariant=True)


@dataclass(frozen=True)
class Jet(Generic[Extra]):
    """A function at one point.

    Attributes
    ----------
    value : float
    gradient : array, shape (p,)
    hessian : array, shape (p, p)
    units : array, shape (p,)
        A positive curvature for each coordinate, the scale in which "small" is meant: the diagonal
        of the Hessian, or of a larger one where the Hessian may vanish.
    extra : object
        What else was computed on the way.
    floor : float
        A gradient of at most this norm is nothing but rounding.
    """

    value: float
    gradient: FloatArray
    hessian: FloatArray
    units: FloatArray
    extra: Extra
    floor: float = 0.0


@dataclass(frozen=True)
class Minimum(Generic[Extra]):
    """Where `minimize` stopped: the point (p,), the function there, the steps taken."""

    point: FloatArray
    jet: Jet[Extra]
    iterations: int


def solve_shifted(jet: Jet[Extra], shift: float) -> FloatArray | None:
    r"""Return the Newton step :math:`-(A + s D)^{-1} g`, D the units; None if A + s D is singular.

    The system is scaled to units of 1, so that the step does not depend on those of the features.
    """
    scale = np.sqrt(np.maximum(jet.units, np.finfo(np.float64).tiny))
    scaled = jet.hessian / scale / scale[:, None] + shift * np.eye(len(scale))
    try:
        factor, lower = linalg.cho_factor(scaled, check_finite=False)
    except linalg.LinAlgError:
        return None
    if np.min(np.diagonal(factor)) ** 2 <= 4.0 * UNIT * len(scale):
        return None
    solved = linalg.cho_solve((factor, lower), jet.gradient / scale, check_finite=False)
    return -np.asarray(solved) / scale


@np.errstate(over="ignore", invalid="ignore")
def minimize(oracle: Callable[[FloatArray], Jet[Extra]], start: FloatArray) -> Minimum[Extra]:
    r"""Minimize a smooth convex function by Newton's method with a line search.

    A step t along p, with :math:`\varphi(t) = f(x + t p)`, is accepted when it does not overshoot
    (:math:`\varphi'(t) \le 0`, so that a convex f has decreased, even where rounding hides it),
    when the value decreases enough (Armijo), or when a slope
    :math:`|\varphi'(t)| \le |\varphi'(0)|/2` comes with a value that is equal up to rounding
    (approximate Wolfe condition; W. Hager and H. Zhang, SIAM J. Optim. 16, 2005). Where the Hessian
    is singular, or its step leads nowhere, the step with a shifted Hessian is tried.
    The iteration ends when the Newton decrement is below the rounding of the value, or the step below
    that of the point, and the step does not halve the gradient (in its units).

    Parameters
    ----------
    oracle : callable
        Maps a point (p,) to its `Jet`.
    start : array, shape (p,)
        Where to start; 0 where the function overflows there.
    """
    point, jet = start, oracle(start)
    if not math.isfinite(jet.value):
        point = np.zeros_like(start)
        jet = oracle(point)
    best_point, best_jet, best_size = point, jet, _scaled_size(jet)
    stalled = False
    for iteration in range(MAX_ITERATIONS):
        if stalled or norm(jet.gradient) <= jet.floor:
            return Minimum(best_point, best_jet, iteration)
        noise = 8.0 * UNIT * (abs(jet.value) + math.sqrt(abs(jet.value)) + UNIT)
        for shift in SHIFTS:
            step = solve_shifted(jet, shift)
            if step is not None:
                found = _search_line(oracle, point, jet, step, noise)
                if found is not None:
                    break
        else:
            return Minimum(best_point, best_jet, iteration)
        settled = -float(jet.gradient @ step) <= noise or bool(
            np.all(np.abs(step) <= 4.0 * UNIT * np.abs(point))
        )
        point, jet = found
        size = _scaled_size(jet)
        stalled = settled and size > 0.5 * best_size
        if size < best_size or not settled:
            best_point, best_jet, best_size = point, jet, size
    return Minimum(best_point, best_jet, MAX_ITERATIONS)


def _search_line(
    oracle: Callable[[FloatArray], Jet[Extra]],
    point: FloatArray,
    jet: Jet[Extra],
    step: FloatArray,
    noise: float,
) -> tuple[FloatArray, Jet[Extra]] | None:
    """Return an acceptable point along ``step`` with its jet, or None if there is none."""
    slope = float(jet.gradient @ step)
    if not (math.isfinite(slope) and slope < 0.0):
        return None
    length = 1.0
    while length >= 1e-12:
        trial = point + length * step
        trial_jet = oracle(trial)
        trial_slope = float(trial_jet.gradient @ step)
        if math.isfinite(trial_jet.value) and (
            (trial_slope <= 0.0 and trial_jet.value <= jet.value + 1e4 * noise)
            or trial_jet.value <= jet.value + 1e-4 * length * slope
            or (trial_jet.value <= jet.value + noise and trial_slope <= -0.5 * slope)
        ):
            return trial, trial_jet
        # Where the secant of the slopes vanishes, but not too far nor too near.
        secant = slope / (slope - trial_slope) if math.isfinite(trial_slope) else 0.5
        length *= min(max(secant, 0.05), 0.5)
    return None


def _scaled_size(jet: Jet[Extra]) -> float:
    """Return the norm of the gradient in its units."""
    units = np.maximum(jet.units, np.finfo(np.float64).tiny)
    return float(np.linalg.norm(jet.gradient / np.sqrt(units)))


@np.errstate(over="ignore", invalid="ignore")
def minimize_near(
    oracle: Callable[[FloatArray], Jet[Extra]],
    regularizer: Regularizer,
    anchor: FloatArray,
    start: FloatArray,
) -> Minimum[Extra]:
    r"""Minimize :math:`f(\theta) + r(a - \theta)` for a smooth convex f and an anchor a.

    First the kink: :math:`\theta = a` is optimal if and only if :math:`\nabla f(a)` is a subgradient
    of r at 0, that is :math:`|\nabla f(a)| \le` ``regularizer.kink``. Otherwise the minimizer lies on
    the smooth piece, and a descent method that starts below the value at the kink never meets it.

    Returns
    -------
    Minimum
        The minimizer with the jet of f *alone* there.
    """
    at_anchor = oracle(anchor)
    if math.isinf(regularizer.kink) or norm(at_anchor.gradient) <= regularizer.kink:
        return Minimum(anchor, at_anchor, 0)

    def total(theta: FloatArray) -> Jet[Jet[Extra]]:
        u = anchor - theta
        jet = oracle(theta)
        if regularizer.kink > 0.0 and not u.any():
            return Jet(math.inf, jet.gradient, jet.hessian, jet.units, jet)
        curvature = regularizer.hessian(u)
        return Jet(
            jet.value + regularizer.value(u),
            jet.gradient - regularizer.gradient(u),
            jet.hessian + curvature,
            jet.units + np.diagonal(curvature),
            jet,
            jet.floor,
        )

    if regularizer.kink > 0.0 and math.isfinite(at_anchor.value):
        start = _start_below_kink(oracle, regularizer, anchor, at_anchor, start)
        if not (anchor - start).any():
            return Minimum(anchor, at_anchor, 0)  # the minimizer rounds to the kink
    found = minimize(total, start)
    return Minimum(found.point, found.jet.extra, found.iterations)


def _start_below_kink(
    oracle: Callable[[FloatArray], Jet[Extra]],
    regularizer: Regularizer,
    anchor: FloatArray,
    at_anchor: Jet[Extra],
    start: FloatArray,
) -> FloatArray:
    """Return a point whose value is below that at the kink; ``start`` itself if it clearly is."""
    if (start != anchor).any():
        value = oracle(start).value + regularizer.value(anchor - start)
        if value < at_anchor.value - 64.0 * UNIT * abs(at_anchor.value):
            return start
    # Along p = -grad f / |grad f| the slope at the kink is -(|grad f| - kink) < 0: take the Newton
    # step there, halved until the slope is still not positive, so that the value has fallen.
    steepness = norm(at_anchor.gradient)
    direction = -at_anchor.gradient / steepness
    curvature = max(float(direction @ at_anchor.hessian @ direction), UNIT * steepness)
    length = (steepness - regularizer.kink) / curvature
    while float(oracle(anchor + length * direction).gradient @ direction) + regularizer.kink > 0.0:
        length *= 0.5
        if length <= UNIT * norm(anchor):
            break
    return anchor + length * direction
