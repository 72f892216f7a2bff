r"""Points from which the equations are solved: the constructions of T3.4.

*Bulk*: :math:`m_y` copies with label y and logits :math:`\tau + (1 + \kappa_y) e_y`, the dearest there
are. They pay :math:`\langle\Theta, H\rangle`, but not the rest of the matrix
:math:`A = \sum_i z_i q_i^\top = \Theta^\top H`.

*One-sided correctors* (j, y): logits that are :math:`-t` for one class j and dearest on the other
K - 1 classes. The point adds :math:`t\,\frac{\kappa'}{1 + \kappa'}(e_y - \pi')` to row j of A, at the
price that it pays :math:`\kappa'`, what a point of K - 1 classes pays, instead of :math:`\kappa`. For
each j the K - 1 vectors :math:`e_y - \pi'` are positively dependent, so K - 2 correctors reach any row;
K (K - 2) of them reach any A, and cost :math:`K (K - 2) (1 - \kappa'/\kappa) \approx K/\log K` points.

The third construction, with pairs in place of correctors, is in `pairs`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, nnls

from gplconvex._types import FloatArray
from gplconvex.realization.multiclass_bound import Cheapest, cheapest, kappas
from gplconvex.realization.softmax.system import Points, System

FAR = 45.0
"""Logits so far below others have probability 0: exp(-45) is below the rounding of 1."""

LEAST = 1e-12
"""Entries of a unit vector that are this small are not told from 0."""

PARTS = 4
"""Parts of the copies of a label that may differ, with an intercept."""


def apportion(shares: FloatArray, n: int) -> FloatArray:
    """Return integers that sum to n, in proportion to the shares (largest remainders)."""
    exact = shares * (n / shares.sum())
    whole = np.floor(exact)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: n - int(whole.sum())]] += 1.0
    return np.asarray(whole)


# -- bulk --------------------------------------------------------------------------------------------


def dearest(tau: FloatArray, label: int) -> FloatArray:
    r"""Return :math:`\tau + (1 + \kappa_y) e_y`."""
    z = tau.copy()
    z[label] += 1.0 + kappas(tau)[label]
    return z


def bulk(
    system: System, k: int, trace: float, h0: FloatArray | None, a: FloatArray
) -> tuple[Points, Cheapest] | None:
    r"""Return k points that pay ``trace`` and have residuals that sum to ``h0``; None if k are too few.

    Their logits are :math:`\tau + s (1 + \kappa_y) e_y` with :math:`s \le 1` such that they pay no more
    than wanted. Without intercept the labels are free, and chosen so that A lacks little.
    """
    n = system.n_classes
    best = cheapest(k, n, h0)
    if best.value > trace:
        return None
    if h0 is not None:  # a label takes off less than 1 a copy
        needed = np.where(h0 < 0.0, np.floor(-h0) + 1.0, 0.0)
        if needed.sum() > k:
            return None
        counts = needed + apportion(
            np.maximum(best.mix - needed, 0.0) + 1e-9, k - int(needed.sum())
        )
    elif k < n:
        counts = (np.arange(n) < k).astype(float)
    else:  # each label at least once: such points can later put right what rounding spoils
        counts = 1.0 + apportion(mix(system, a, k), k - n)
    labels = np.flatnonzero(counts)
    counts = counts[labels]
    peaks = np.stack([dearest(best.tau, y) - best.tau for y in labels.tolist()])
    if h0 is not None:  # unlike parts: equal points have too little freedom
        parts = [np.floor((counts + n_part) / PARTS) for n_part in range(PARTS)]
        shifts = np.linspace(-0.2, 0.2, PARTS)
        used = np.concatenate(parts) > 0.0
        counts = np.concatenate(parts)[used]
        labels = np.tile(labels, PARTS)[used]
        peaks = np.vstack([peaks + shift * np.sign(peaks) for shift in shifts])[used]

    def shrunk(s: float) -> Points:
        return system.points(counts, labels.astype(float), best.tau + s * peaks)

    def excess(s: float) -> float:
        return pay(system, shrunk(s)) - trace

    whole, none = excess(1.0) >= 0.0, excess(-FAR) <= 0.0
    points = shrunk(1.0 if whole else -FAR if none else float(brentq(excess, -FAR, 1.0)))
    if h0 is None:
        return points, best
    # The row of the intercept, and the trace: up to K equations.
    first = (system.v.T @ system.basis).ravel()
    by_trace = np.concatenate([first, system.b @ system.basis])
    by_row = np.eye(len(system.target))[first.size :]
    goal = system.sums(points)
    goal[first.size :] = h0 @ system.basis
    goal[: first.size] += first * ((trace - by_trace @ goal) / float(first @ first))
    size = 1.0 + np.abs(best.tau).max() + best.kappa
    settled = system.solve(points, goal, np.vstack([by_trace / size, by_row]))
    return None if settled is None else (settled, best)


def pay(system: System, points: Points) -> float:
    r"""Return :math:`\sum_i c_i z_i^\top q_i`."""
    z, q = system.logits(points), system.residuals(points)[1]
    return float(points.counts @ np.sum(z * q, axis=1))


def mix(system: System, a: FloatArray, k: int) -> FloatArray:
    r"""Return numbers of labels, summing to k, for which the rows of A lack least.

    Adding one vector c, :math:`c^\top 1 = 0`, to all rows changes nothing (the gauge of the logits);
    with :math:`c_j = -\kappa m_j - A_{jj}` the diagonal is what the bulk has. Least squares of what
    remains of the other entries, up to a number a row, which the bulk has too.
    """
    n = system.n_classes
    kappa = float(kappas(np.zeros(n))[0])
    centre = np.eye(n - 1) - 1.0 / (n - 1)
    blocks, right = [], []
    for j in range(n):
        others = np.delete(np.arange(n), j)
        blocks.append(-kappa * centre @ np.eye(n)[others])
        right.append(-centre @ (a[j, others] - np.diag(a)[others]))
    heavy = 10.0 * n
    blocks.append(np.full((1, n), heavy))
    right.append(np.array([heavy * k]))
    mix = nnls(np.vstack(blocks), np.concatenate(right))[0]
    return np.asarray(mix if mix.any() else np.ones(n))


def singles(system: System, k: int, seed: int) -> Points:
    """Return k different points near those of the bulk, for the solver to move as it needs."""
    n = system.n_classes
    best = cheapest(k, n, system.h0)
    labels = np.arange(k) % n
    if system.h0 is not None:
        labels = np.repeat(np.arange(n), apportion(best.mix, k).astype(int))
    s = min(1.0, max(-1.0, system.trace / best.value)) if best.value < 0.0 else 0.5
    peaks = np.stack([dearest(best.tau, y) - best.tau for y in labels.tolist()])
    noise = 0.3 * np.random.default_rng(seed).normal(size=(k, n))
    return system.points(np.ones(k), labels.astype(float), best.tau + s * peaks + noise)


# -- correctors --------------------------------------------------------------------------------------


def one_sided(system: System, k: int, reach: float = math.inf) -> Points | None:
    r"""Return bulk and one-sided correctors, k points together; None if k are too few.

    ``reach`` is the largest :math:`t`: a corrector that needs more becomes several.
    """
    n = system.n_classes
    everything = system.matrix(system.target)
    chosen: dict[tuple[int, int], tuple[int, float]] = {}
    for _ in range(6):
        labels = np.array([y for _, y in chosen], dtype=int)
        copies = np.array([number for number, _ in chosen.values()], dtype=float)
        n_bulk = k - int(copies.sum())
        if n_bulk < 1:
            return None
        tau = cheapest(n_bulk, n, system.h0).tau
        # What correctors add but for the row of the class that they push down.
        near, residual_sum = np.zeros((n, n)), np.zeros(n)
        for (j, y), (number, _) in chosen.items():
            z, q = _corrector(tau, j, y)
            z[j] = 0.0
            near += number * np.outer(z, q)
            residual_sum += number * q
        h0 = None if system.h0 is None else system.h0 - residual_sum
        found = bulk(system, n_bulk, system.trace - float(np.trace(near)), h0, everything - near)
        if found is None:
            return None
        points, best = found
        tau = best.tau
        lacking = everything - near - system.matrix(system.sums(points))
        lacking -= np.diag(lacking)
        before, chosen = chosen, _correctors(lacking, tau, reach)
        same = {key: number for key, (number, _) in before.items()} == {
            key: number for key, (number, _) in chosen.items()
        }
        if same:
            break
    rows = []
    for (j, y), (number, t) in chosen.items():
        z = _corrector(tau, j, y)[0]
        z[j] = -t / number
        rows.append(z)
    if not rows:
        return points
    labels = np.array([y for _, y in chosen], dtype=float)
    copies = np.array([number for number, _ in chosen.values()], dtype=float)
    if not same and int(copies.sum()) + points.total != k:
        return None
    return joined(points, system.points(copies, labels, np.stack(rows)))


def _corrector(tau: FloatArray, j: int, y: int) -> tuple[FloatArray, FloatArray]:
    """Return logits, dearest but for the class j, and the residual where that one is far below."""
    n = len(tau)
    others = np.delete(np.arange(n), j)
    z = np.zeros(n)
    z[others] = dearest(tau[others], int(np.flatnonzero(others == y)[0]))
    weights = np.exp(z[others] - z[others].max())
    q = np.zeros(n)
    q[others] = weights / weights.sum()
    q[y] = 0.0
    q[y] = -q.sum()
    return z, q


def _correctors(
    lacking: FloatArray, tau: FloatArray, reach: float
) -> dict[tuple[int, int], tuple[int, float]]:
    """Return numbers and sizes t of the correctors (j, y) that supply the rows that are lacking."""
    n = len(tau)
    chosen = {}
    for j in range(n):
        others = np.delete(np.arange(n), j)
        # Row j gets -t q of each. The q are positively dependent: shift to the least t that are >= 0.
        columns = np.stack([-_corrector(tau, j, int(y))[1][others] for y in others], axis=1)
        t = np.linalg.lstsq(columns, lacking[j, others], rcond=None)[0]
        kernel = np.linalg.svd(columns)[2][-1]
        kernel = np.abs(kernel)  # all of one sign
        t = t - kernel * np.min(t / np.maximum(kernel, LEAST))
        for y, size in zip(others, t, strict=True):
            if size > 1.0:
                number = 1 if math.isinf(reach) else math.ceil(size / reach)
                chosen[j, int(y)] = (number, float(size))
    return chosen


def joined(first: Points, second: Points) -> Points:
    """Return the points of both."""
    return Points(
        np.concatenate([first.counts, second.counts]),
        np.concatenate([first.labels, second.labels]),
        np.vstack([first.zeta, second.zeta]),
    )
