r"""Whole numbers and categories: rounding points so that their gradients change as little as may be.

The n copies of an input share out its fractions: feature j is rounded up in the nearest whole number
to :math:`n f_j` of them, a category is chosen by :math:`n p_k` of them. Then single entries move by one
step, the best step first, as long as :math:`|h - \sum_i w_i x_i|` falls. For least squares the labels
make good what they can, by bounded linear least squares.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import lsq_linear

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.domains import Domain, Integer, OneHot, Product
from gplconvex.losses import LeastSquares
from gplconvex.realization.bounded.program import Program

MOST_STEPS, MOST_WORK = 2000, 2e8
"""Steps after which the search stops, and steps times points, moves and features."""


def rounded(program: Program, data: Dataset) -> Dataset:
    """Return points of a discrete domain with nearly the same gradient, equal ones together."""
    rng = np.random.default_rng(0)
    parts = _parts(program.domain, data.n_features)
    x = np.repeat(data.x, data.counts, axis=0)
    y = np.repeat(data.y, data.counts)
    start = 0
    for row, count in zip(data.x, data.counts.tolist(), strict=True):
        rows = slice(start, start + count)
        for part, domain in parts:
            if isinstance(domain, OneHot):
                x[rows, part] = _categories(row[part], count, rng)
            elif isinstance(domain, Integer):
                x[rows, part] = _whole(row[part], count, rng)
        start += count
    x = program.domain.project(x)
    x = _improved(program, x, y, parts)
    if isinstance(program.loss, LeastSquares):
        y = _relabeled(program, x, y)
    distinct, counts = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    return Dataset(distinct[:, :-1], distinct[:, -1], counts)


def _parts(domain: Domain, n_features: int) -> list[tuple[slice, Domain]]:
    if isinstance(domain, Product):
        return domain.slices(n_features)
    return [(slice(0, n_features), domain)]


def _whole(x: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Return count rows of whole numbers with nearly the mean x."""
    below = np.floor(x)
    ups = np.rint(count * (x - below))
    ranks = rng.permuted(np.tile(np.arange(count), (len(x), 1)), axis=1).T
    return np.asarray(below + (ranks < ups))


def _categories(shares: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Return count one-hot rows with nearly the mean ``shares``: largest remainders."""
    exact = count * np.maximum(shares, 0.0) / np.sum(np.maximum(shares, 0.0))
    numbers = np.floor(exact).astype(int)
    lacking = count - int(numbers.sum())
    numbers[np.argsort(numbers - exact, kind="stable")[:lacking]] += 1
    chosen = rng.permutation(np.repeat(np.arange(len(shares)), numbers))
    return np.asarray(np.eye(len(shares))[chosen])


def _improved(
    program: Program, x: FloatArray, y: FloatArray, parts: list[tuple[slice, Domain]]
) -> FloatArray:
    """Return the inputs after steps of single entries that bring their gradients nearer to h."""
    loss, t, b, d = program.loss, program.t, program.b, x.shape[1]
    moves = _moves(parts, d)
    if not len(moves):
        return x
    x = x.copy()
    one = float(loss.intercept)
    gain, length = moves @ t, np.sum(moves**2, axis=1)
    for _ in range(min(MOST_STEPS, int(MOST_WORK / (x.size * len(moves))))):
        w = loss.residual(x @ t + b, y)
        missing = program.features - w @ x
        rest = float(program.h[-1]) - float(np.sum(w)) if one else 0.0
        now = float(missing @ missing) + rest**2
        # Point i moved by m: its gradient becomes w' (x + m, 1), with w' at its new predictor.
        moved = loss.residual((x @ t + b)[:, None] + gain, y[:, None])
        with_i = missing + w[:, None] * x
        free = rest + w
        along = np.sum(with_i * x, axis=1)[:, None] + with_i @ moves.T + one * free[:, None]
        square = np.sum(x**2, axis=1)[:, None] + 2.0 * (x @ moves.T) + length + one
        value = np.sum(with_i**2, axis=1)[:, None] + one * free[:, None] ** 2
        value = value - 2.0 * moved * along + moved**2 * square
        while True:
            i, j = divmod(int(np.argmin(value)), len(moves))
            if not value[i, j] < now * (1.0 - 1e-9):
                return x
            if program.domain.contains((x[i] + moves[j])[None]).all():
                break
            value[i, j] = np.inf
        x[i] += moves[j]
    return x


def _moves(parts: list[tuple[slice, Domain]], n_features: int) -> FloatArray:
    """Return the steps of single entries: a whole number by one, a category to another."""
    unit = np.eye(n_features)
    moves: list[FloatArray] = []
    for part, domain in parts:
        features = range(part.start, part.stop)
        if isinstance(domain, Integer):
            moves += [sign * unit[j] for j in features for sign in (1.0, -1.0)]
        elif isinstance(domain, OneHot):
            moves += [unit[j] - unit[i] for i in features for j in features if i != j]
    return np.array(moves).reshape(-1, n_features)


def _relabeled(program: Program, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the labels within their bounds whose residuals bring the gradients nearest to h."""
    z = x @ program.t + program.b
    low, high = program.labels
    columns = x.T if not program.loss.intercept else np.vstack([x.T, np.ones(len(x))])
    w = lsq_linear(columns, program.h, bounds=(z - high, z - low), tol=1e-15).x
    labels = np.clip(z - w, low, high)
    before = np.linalg.norm(columns @ (z - y) - program.h)
    return labels if np.linalg.norm(columns @ (z - labels) - program.h) < before else y
