"""Newton's method with a line search, for many smooth convex functions at once, and next to a kink.

Local problems (the replies of all users) and the server's problem are smooth convex problems with a
cheap Hessian. The one routine here serves both: it minimizes B functions of p variables each, all of
them in every numpy call. It has no tolerance: it stops when rounding stops it, and the certificate
decides afterwards whether the point is good enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.regularizers import Regularizer, lengths
from gplconvex.rounding import UNIT

SHIFTS = (0.0, 1e-6, 1e-2, 1.0)
"""What a Hessian is shifted by, in its units, in the order tried; 0 is Newton's method."""

MAX_ITERATIONS = 200
"""Newton steps before giving up; convex problems that have a minimizer take 5 to 30."""

TINY = float(np.finfo(np.float64).tiny)

Extra = TypeVar("Extra")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Jet(Generic[Extra]):
    """B functions, each at one point.

    Attributes
    ----------
    value : array, shape (B,)
    gradient : array, shape (B, p)
    units : array, shape (B, p)
        A positive curvature for each coordinate, the scale in which "small" is meant: the diagonal
        of the Hessian, or of a larger one where the Hessian may vanish.
    newton_step : callable
        Maps a shift s to the steps :math:`-(A + s D)^{-1} g`, shape (B, p), A being the Hessian and
        D the units; NaN where A + s D is singular.
    extra : object
        What else was computed on the way.
    floor : array, shape (B,), or 0
        A gradient of at most this norm, in its units, is nothing but rounding.
    """

    value: FloatArray
    gradient: FloatArray
    units: FloatArray
    newton_step: Callable[[float], FloatArray]
    extra: Extra
    floor: FloatArray | float = 0.0


def dense_jet(
    value: FloatArray,
    gradient: FloatArray,
    hessian: FloatArray,
    units: FloatArray,
    extra: Extra,
) -> Jet[Extra]:
    """Return the jet of functions whose Hessians are matrices, shape (B, p, p)."""
    return Jet(
        value,
        gradient,
        units,
        lambda shift: -solve_positive(hessian, units, gradient[..., None], shift)[..., 0],
        extra,
    )


@dataclass(frozen=True)
class Minimum(Generic[Extra]):
    """Where `minimize` stopped: the points (B, p), the functions there, the steps taken."""

    point: FloatArray
    jet: Jet[Extra]
    iterations: int


def solve_positive(
    matrices: FloatArray, units: FloatArray, right: FloatArray, shift: float = 0.0
) -> FloatArray:
    r"""Return :math:`(A + s D)^{-1} b` of symmetric matrices (B, p, p) and right sides (B, p, k).

    The systems are scaled to units D of 1, so that the result does not depend on those of the
    features. NaN where A + s D is not positive definite beyond rounding.
    """
    p = matrices.shape[-1]
    scale = 1.0 / np.sqrt(np.maximum(units, TINY))
    scaled = matrices * (scale[:, :, None] * scale[:, None, :])
    if shift > 0.0:
        scaled = scaled + shift * np.eye(p)
    definite = np.square(_least_pivot(scaled)) > 4.0 * UNIT * p
    if not definite.all():
        scaled = np.where(definite[:, None, None], scaled, np.eye(p))
    solved = np.linalg.solve(scaled, right * scale[:, :, None]) * scale[:, :, None]
    solved[~definite] = math.nan
    return solved


def _least_pivot(matrices: FloatArray) -> FloatArray:
    """Return the least diagonal entry of the Cholesky factors, 0 where there is none, shape (B,)."""
    try:
        factors = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.zeros(1)
        return np.concatenate([_least_pivot(matrix[None]) for matrix in matrices])
    return np.asarray(np.min(np.diagonal(factors, axis1=1, axis2=2), axis=1))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def minimize(
    oracle: Callable[[FloatArray], Jet[Extra]],
    start: FloatArray,
    active: Mask | None = None,
    report: Callable[[FloatArray, Jet[Extra]], bool] = lambda point, jet: False,
) -> Minimum[Extra]:
    r"""Minimize smooth convex functions by Newton's method with a line search.

    A step t along d, with :math:`\varphi(t) = f(x + t d)`, is accepted when it does not overshoot
    (:math:`\varphi'(t) \le 0`, so that a convex f has decreased, even where rounding hides it),
    when the value decreases enough (Armijo), or when a slope
    :math:`|\varphi'(t)| \le |\varphi'(0)|/2` comes with a value that is equal up to rounding
    (approximate Wolfe condition; W. Hager and H. Zhang, SIAM J. Optim. 16, 2005). A step that promises
    less than the rounding of the value may instead halve the gradient. Where the Hessian is singular,
    or its step leads nowhere, the step with a shifted Hessian is tried.
    The iteration of a function ends when the Newton decrement is below the rounding of the value, or
    the step below that of the point, and the step does not halve the gradient (in its units).

    Parameters
    ----------
    oracle : callable
        Maps points (B, p) to the `Jet` of the functions there.
    start : array, shape (B, p)
        Where to start; 0 where a function overflows there.
    active : array of bool, shape (B,), optional
        Which functions to minimize; the points of the others stay.
    report : callable, optional
        Called with the points and their jet after each step; True ends the iteration.
    """
    point, jet = start, oracle(start)
    done = np.zeros(len(start), dtype=bool) if active is None else ~active
    overflowing = ~done & ~np.isfinite(jet.value)
    if overflowing.any():
        point = np.where(overflowing[:, None], 0.0, start)
        jet = oracle(point)
    size = _scaled_size(jet)
    best, best_size, best_jet = point, size, jet
    iterations = 0
    while iterations < MAX_ITERATIONS:
        done = done | (size <= jet.floor)
        if done.all():
            break
        noise = 8.0 * UNIT * (np.abs(jet.value) + np.sqrt(np.abs(jet.value)) + UNIT)
        step, length, new_jet = _take_steps(oracle, point, jet, ~done, noise)
        moved = length > 0.0
        if not moved.any():
            break
        decrement = -_dots(jet.gradient, step)
        negligible = np.all(np.abs(step) <= 4.0 * UNIT * np.abs(point), axis=1)
        settled = (decrement <= noise) | negligible
        point, jet = point + length[:, None] * step, new_jet
        size = _scaled_size(jet)
        better = moved & ((size < best_size) | ~settled)
        done = done | ~moved | (settled & (size > 0.5 * best_size))
        if better.all():
            best, best_size, best_jet = point, size, jet
        elif better.any():
            best = np.where(better[:, None], point, best)
            best_size = np.where(better, size, best_size)
            best_jet = oracle(best)
        iterations += 1
        if report(point, jet):
            break
    return Minimum(best, best_jet, iterations)


def _take_steps(
    oracle: Callable[[FloatArray], Jet[Extra]],
    point: FloatArray,
    jet: Jet[Extra],
    wanted: Mask,
    noise: FloatArray,
) -> tuple[FloatArray, FloatArray, Jet[Extra]]:
    """Return acceptable steps, their lengths (0 where there is none) and the jet where they lead."""
    steps, length = np.zeros_like(point), np.zeros(len(point))
    new_jet = jet
    for shift in SHIFTS:
        step = jet.newton_step(shift)
        slope = _dots(jet.gradient, step)
        pending = wanted & np.isfinite(slope) & (slope < 0.0)
        steps = np.where(pending[:, None], step, steps)
        length[pending] = 1.0
        # A step that promises less than the noise is tried once: where even rounding says no, it is
        # all that there is left to gain.
        last = pending & (-slope <= noise)
        while pending.any():
            new_jet = oracle(point + length[:, None] * steps)
            new_slope = _dots(new_jet.gradient, steps)
            near = new_jet.value <= jet.value + 1e4 * noise
            accepted = np.isfinite(new_jet.value) & (
                ((new_slope <= 0.0) & near)
                | (new_jet.value <= jet.value + 1e-4 * length * slope)
                | ((new_jet.value <= jet.value + noise) & (new_slope <= -0.5 * slope))
            )
            if (last & ~accepted).any():
                accepted = accepted | (last & near & _halves(new_jet, jet))
            wanted = wanted & ~(pending & accepted)
            if not wanted.any():
                return steps, length, new_jet
            pending = pending & ~accepted
            length[pending & last] = 0.0
            wanted, pending = wanted & ~(pending & last), pending & ~last
            # Where the secant of the slopes vanishes, but not too far nor too near.
            secant = np.where(np.isfinite(new_slope), slope / (slope - new_slope), 0.5)
            length[pending] *= np.clip(secant, 0.05, 0.5)[pending]
            pending = pending & (length >= 1e-12)
        if not wanted.any():
            return steps, length, new_jet
    length[wanted] = 0.0  # no step at all
    return steps, length, oracle(point + length[:, None] * steps)


def _dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the scalar product of each pair, without BLAS: that starts threads for long vectors."""
    return np.asarray(np.einsum("bp,bp->b", a, b))


def _halves(new_jet: Jet[Extra], jet: Jet[Extra]) -> Mask:
    """Return whether the gradients, in their units, are at most half as long."""
    return np.asarray(_scaled_size(new_jet) <= 0.5 * _scaled_size(jet))


def _scaled_size(jet: Jet[Extra]) -> FloatArray:
    """Return the norms of the gradients in their units, shape (B,)."""
    return lengths(jet.gradient / np.sqrt(np.maximum(jet.units, TINY)))


# -- next to a kink ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smooth(Generic[Extra]):
    """B smooth functions f at one point each: values (B,), gradients (B, p), Hessians (B, p, p).

    ``units`` and ``extra`` as for a `Jet`.
    """

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    units: FloatArray
    extra: Extra


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def minimize_near(
    oracle: Callable[[FloatArray], Smooth[Extra]],
    regularizer: Regularizer,
    anchor: FloatArray,
    start: FloatArray,
) -> tuple[FloatArray, Smooth[Extra], int]:
    r"""Minimize :math:`f(\theta) + r(a - \theta)` for smooth convex f and anchors a, both (B, p).

    First the kink: :math:`\theta = a` is optimal if and only if :math:`\nabla f(a)` is a subgradient
    of r at 0, that is :math:`|\nabla f(a)| \le` ``regularizer.kink``. Otherwise the minimizer lies on
    the smooth piece, and a descent method that starts below the value at the kink never meets it.

    Returns
    -------
    point : array, shape (B, p)
        The minimizers.
    at_point : Smooth
        f *alone* there.
    iterations : int
    """
    if regularizer.kink > 0.0:
        at_anchor = oracle(anchor)
        free = ~(lengths(at_anchor.gradient) <= regularizer.kink)
        if math.isinf(regularizer.kink) or not free.any():
            return anchor, at_anchor, 0
        start = start_below_kink(oracle, regularizer, anchor, at_anchor, start, free)
        free = free & (start != anchor).any(axis=1)  # some minimizers round to the kink
    else:
        free = np.ones(len(anchor), dtype=bool)

    def total(theta: FloatArray) -> Jet[Smooth[Extra]]:
        u, f = anchor - theta, oracle(theta)
        at_kink = np.asarray((regularizer.kink > 0.0) & ~u.any(axis=1))
        u = np.where(at_kink[:, None], 1.0, u)  # any u off the kink: the value is not used
        curvature = regularizer.hessian(u)
        return dense_jet(
            np.where(at_kink, math.inf, f.value + regularizer.value(u)),
            f.gradient - regularizer.gradient(u),
            f.hessian + curvature,
            f.units + np.diagonal(curvature, axis1=1, axis2=2),
            f,
        )

    found = minimize(total, start, free)
    return found.point, found.jet.extra, found.iterations


def start_below_kink(
    oracle: Callable[[FloatArray], Smooth[Extra]],
    regularizer: Regularizer,
    anchor: FloatArray,
    at_anchor: Smooth[Extra],
    start: FloatArray,
    free: Mask,
) -> FloatArray:
    """Return points whose value is below that at the kink, where free; the start if it clearly is."""
    below = oracle(start).value + regularizer.value(anchor - start)
    below_kink = below < at_anchor.value - 64.0 * UNIT * np.abs(at_anchor.value)
    good = (start != anchor).any(axis=1) & (below_kink | ~np.isfinite(at_anchor.value))
    start = np.where((free & good)[:, None], start, anchor)
    pending = free & ~good
    # Along d = -grad f / |grad f| the slope at the kink is -(|grad f| - kink) < 0: take the Newton
    # step there, halved until the slope is still not positive, so that the value has fallen.
    steepness = lengths(at_anchor.gradient)
    direction = -at_anchor.gradient / np.where(steepness > 0.0, steepness, 1.0)[:, None]
    bend = np.einsum("bp,bpq,bq->b", direction, at_anchor.hessian, direction)
    length = (steepness - regularizer.kink) / np.maximum(bend, UNIT * steepness)
    length = np.where(pending, length, 0.0)
    while pending.any():
        slope = np.sum(oracle(start + length[:, None] * direction).gradient * direction, axis=1)
        pending = pending & ~(slope + regularizer.kink <= 0.0)
        length[pending] *= 0.5
        pending = pending & (length > UNIT * lengths(anchor))
    return start + length[:, None] * direction
