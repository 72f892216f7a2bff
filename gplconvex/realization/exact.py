r"""Residuals of realized points in twice the working precision, and their removal.

A hundred thousand copies of one point multiply the rounding of its inputs by a hundred thousand. So the
sum of gradients is evaluated, at the float64 points as they ship, in double-double arithmetic (106
bits; the exponentials in decimal arithmetic of 50 digits); and what it misses is put right by moving
single copies, whose own rounding nothing multiplies.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import cast

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.losses import LeastSquares, Loss, Poisson, Softmax
from gplconvex.realization.doubled import Pair, product_sum, total, two_sum
from gplconvex.regularizers import norm
from gplconvex.rounding import REALIZATION_RESIDUAL, UNIT

EXTENDED = Context(prec=50, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
"""50 digits; the exponential of a huge number is infinite, and its residual 0, as it should be."""

REACHES = (0, 16, 512)
"""Units in the last place by which polishing may nudge an input; 512 are 1e-13 of its size."""


CHUNK = 2**18
"""Products evaluated at a time, few enough to stay in the cache."""


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def missing_gradient(loss: Loss, data: Dataset, theta: FloatArray, h: FloatArray) -> FloatArray:
    r"""Return :math:`h - \sum_i c_i x_i w_i^\top` at the points of a dataset, rounded once at the end.

    For the losses that have a construction.
    """
    if data.n_rows == 0:
        return h.copy()
    columns, wanted = theta.reshape(len(theta), -1), h.reshape(len(h), -1)
    x = data.x
    weights = _weights(loss, data, _predictors(loss, x, columns))
    scaled, exponent = _scaled(x)
    high, low = weights
    unit = _scaled(high)[1]
    pair = np.ldexp(high, -unit)[:, None, :], np.ldexp(low, -unit)[:, None, :]
    step = max(1, CHUNK // high.size)
    parts = [
        product_sum(scaled[:, start : start + step, None], pair)
        for start in range(0, x.shape[1], step)
    ]
    sums = [np.ldexp(np.concatenate(part), exponent + unit) for part in zip(*parts, strict=True)]
    if loss.intercept:
        sums = [np.vstack(pair) for pair in zip(sums, total(weights), strict=True)]
    s, e = two_sum(wanted, -sums[0])
    return np.asarray(s + (e - sums[1])).reshape(h.shape)


def _scaled(a: FloatArray) -> tuple[FloatArray, int]:
    """Return the array divided by a power of two, exactly, so that its entries are at most 1."""
    exponent = int(np.frexp(np.max(np.abs(a), initial=0.0))[1])
    return np.ldexp(a, -exponent), exponent


def _predictors(loss: Loss, x: FloatArray, columns: FloatArray) -> Pair:
    """Return the predictors as double-double numbers (m, K)."""
    slope = columns[:-1] if loss.intercept else columns
    (x, x_exponent), (slope, exponent) = _scaled(x), _scaled(slope)
    weights = slope[:, None, :], np.zeros_like(slope)[:, None, :]
    step = max(1, CHUNK // slope.size)
    parts = [
        product_sum(x[start : start + step].T[:, :, None], weights)
        for start in range(0, len(x), step)
    ]
    high, low = (
        np.ldexp(np.concatenate(part), x_exponent + exponent) for part in zip(*parts, strict=True)
    )
    if loss.intercept:
        s, e = two_sum(high, columns[-1])
        return s, low + e
    return high, low


def _weights(loss: Loss, data: Dataset, z: Pair) -> Pair:
    """Return counts times residuals as double-double numbers (m, K)."""
    with localcontext(EXTENDED):
        exact = [
            [count * w for w in _residual(loss, [Decimal(a) + Decimal(b) for a, b in row], y)]
            for row, y, count in zip(
                np.stack(z, axis=-1).tolist(), data.y.tolist(), data.counts.tolist(), strict=True
            )
        ]
        high = [[float(w) for w in row] for row in exact]
        low = [
            [float(w - Decimal(h)) if math.isfinite(h) else 0.0 for w, h in zip(*rows, strict=True)]
            for rows in zip(exact, high, strict=True)
        ]
    return np.array(high), np.array(low)


def _residual(loss: Loss, z: list[Decimal], y: float | list[float]) -> list[Decimal]:
    if isinstance(loss, Softmax):
        largest = max(z)
        powers = [(value - largest).exp() for value in z]
        everything = sum(powers, Decimal(0))
        labels = y if isinstance(y, list) else [float(k == y) for k in range(len(z))]
        return [a / everything - Decimal(b) for a, b in zip(powers, labels, strict=True)]
    label = Decimal(cast("float", y))
    if isinstance(loss, LeastSquares):
        return [z[0] - label]
    if isinstance(loss, Poisson):
        return [z[0].exp() - label]
    return [-label / (1 + (label * z[0]).exp())]


def _dot(x: list[Decimal], theta: list[Decimal]) -> Decimal:
    return sum((a * b for a, b in zip(x, theta, strict=True)), Decimal(0))


def relative_residual(loss: Loss, data: Dataset, theta: FloatArray, h: FloatArray) -> float:
    r"""Return :math:`|h - \sum_i c_i x_i w_i^\top| / |h|` at the points of a dataset; 0 for 0 = 0."""
    off = norm(missing_gradient(loss, data, theta, h))
    if not h.any():
        return off
    with np.errstate(over="ignore", invalid="ignore"):
        z = loss.predictor(data.x, theta)
        # Of what a residual is the difference of, where it cancels.
        parts = loss.residual_rounding(z, data.y, loss.residual(z, data.y)) / (8.0 * UNIT)
        weights = parts.reshape(data.n_rows, -1).max(axis=1, initial=0.0)
        sizes = np.maximum(np.abs(data.x).max(axis=1, initial=0.0), float(loss.intercept))
        terms = float(np.sum(data.counts * weights * sizes))
    # Where 106 bits of the terms do not reach down to h nothing is known.
    return off / norm(h) if 2.0**-100 * terms <= REALIZATION_RESIDUAL * norm(h) else math.inf


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def polish(loss: Loss, data: Dataset, theta: FloatArray, h: FloatArray, reach: int) -> Dataset:
    r"""Move one copy of the first and of the last point so that the gradients sum to h.

    To first order a move :math:`\delta_i` of an input changes its gradient by
    :math:`w_i\delta_i + w_i' t_i x_i` (and :math:`w_i' t_i` on the intercept),
    :math:`t_i = \tilde\theta^\top\delta_i`. Along theta, and on the intercept, this is a linear system
    for the :math:`t_i`; across theta the two points share what is left in proportion to :math:`w_i`.
    The moved inputs, rounded, are nudged by up to ``reach`` units in the last place to the predictor
    they are meant to have. Where a move overflows the points are returned as they are.
    """
    data = _single_out(data)
    singles = [0, data.n_rows - 1] if data.n_rows > 1 else [0]
    slope = theta[:-1] if loss.intercept else theta
    square = float(slope @ slope)
    if square == 0.0:
        return data
    missing = missing_gradient(loss, data, theta, h)
    x, y = data.x[singles], data.y[singles]
    z = loss.predictor(x, theta)
    w, dw = loss.residual(z, y), loss.curvature(z, y)
    features = missing[:-1] if loss.intercept else missing
    along = w + dw * (x @ slope)
    system, right = along[None, :], np.array([slope @ features])
    if loss.intercept:
        system, right = np.vstack([along, dw]), np.append(right, missing[-1])
    if not (np.isfinite(system).all() and np.isfinite(right).all()):
        return data
    t = np.linalg.lstsq(system, right, rcond=None)[0]
    rest = features - (dw * t) @ x
    across = rest - slope * (float(slope @ rest) / square)
    moves = np.outer(t / square, slope) + np.outer(w / float(w @ w), across)
    if not np.isfinite(x + moves).all():
        return data
    moved = data.x.copy()
    for row, before, move, growth in zip(singles, x, moves, t, strict=True):
        moved[row] = nudged_to(before, before + move, slope, growth, reach)
    return Dataset(moved, data.y, data.counts)


def nudged_to(
    before: FloatArray, after: FloatArray, slope: FloatArray, growth: float, reach: int
) -> FloatArray:
    """Return ``after``, nudged so that x @ slope has grown from ``before`` by ``growth``."""
    with localcontext(EXTENDED):
        model = [Decimal(value) for value in slope.tolist()]
        old, new = ([Decimal(value) for value in x.tolist()] for x in (before, after))
        lacking = Decimal(growth) - (_dot(new, model) - _dot(old, model))
    return nudge(after, slope, float(lacking), reach)


@np.errstate(over="ignore")
def nudge(x: FloatArray, slope: FloatArray, wanted: float, reach: int) -> FloatArray:
    """Move two inputs by up to ``reach`` units in their last place, so that x @ slope grows as wanted.

    A unit of input j moves the sum by a_j; among n_i a_i + n_j a_j for integers n_i, n_j there is one
    much closer to ``wanted`` than any a_j.
    """
    ulps = np.spacing(np.abs(x))
    steps = ulps * slope
    usable = np.flatnonzero(steps)
    if usable.size < 2:
        return x
    first = usable[np.argmax(np.abs(steps[usable]))]
    others = usable[usable != first]
    n_first = np.arange(-reach, reach + 1)[:, None]
    rest = wanted - n_first * steps[first]
    n_other = np.clip(np.rint(rest / steps[others]), -reach, reach)
    row, column = divmod(int(np.argmin(np.abs(rest - n_other * steps[others]))), others.size)
    nudged = x.copy()
    nudged[first] += n_first[row, 0] * ulps[first]
    nudged[others[column]] += n_other[row, column] * ulps[others[column]]
    return nudged


def _single_out(data: Dataset) -> Dataset:
    """Return the dataset with a first and a last row of count 1."""
    counts = data.counts.tolist()
    rows, new = list(range(data.n_rows)), counts.copy()
    if counts[0] > 1:
        rows, new = [0, *rows], [1, counts[0] - 1, *new[1:]]
    if new[-1] > 1:
        rows, new = [*rows, data.n_rows - 1], [*new[:-1], new[-1] - 1, 1]
    return Dataset(data.x[rows], data.y[rows], np.array(new))
