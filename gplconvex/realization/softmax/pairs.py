r"""Points for any gradient at coefficients of full rank: bulk, and pairs on a cycle of classes (T3.4).

The two points of an *edge* (c, y) lie near a tie of c and y, far above all other classes, and have
opposite labels. If their logits of c and y differ by t and t', their residuals are
:math:`w (e_c - e_y)` and :math:`w' (e_y - e_c)`, :math:`w = \sigma(t)`, :math:`w' = \sigma(t')`.
Together they add the *flow* :math:`\phi = w - w'` from y to c to :math:`\sum_i q_i`, and
:math:`v (e_c - e_y)^\top` with :math:`v = w z - w' z'` to :math:`A = \sum_i z_i q_i^\top`. Entries of v
are free but for :math:`v_c - v_y = f(w) + f(w')`, :math:`f(w) = w \log\frac{w}{1 - w}`, what the two
take of the trace.

On a cycle of all classes, the flows are any vector of sum 0 with small sums along the cycle, and the v
make any matrix with the trace that the pairs take. That is what the bulk leaves: its numbers of labels
are whole, and it pays at least what is wanted. Inputs need no search, and nothing but ties of two
classes is far away, so that rounding has little to spoil: a large trace even lets every pair be sure of
its classes, and no rounding of inputs changes such residuals.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, log_expit

from gplconvex._types import FloatArray, IntArray
from gplconvex.realization.multiclass_bound import cheapest
from gplconvex.realization.softmax.designs import FAR, apportion, dearest, joined, mix
from gplconvex.realization.softmax.system import Points, System


def pairs(system: System, k: int) -> Points | None:
    """Return bulk and a pair for every edge of a cycle, k points in all; None if k are too few."""
    n = system.n_classes
    bulk = _bulk(system, k - 2 * n)
    if bulk is None:
        return None
    lacking = system.matrix(system.target - system.sums(bulk))
    residual = np.zeros(n)
    if system.h0 is not None:
        residual = system.h0 - bulk.counts @ system.residuals(bulk)[1]
    order = cycle(residual)
    flows = np.cumsum(residual[order])
    flows -= 0.5 * (flows.max() + flows.min())
    apart = differences(flows, float(np.trace(lacking)))
    if apart is None:
        return None
    edges, c, y = np.arange(n), order, np.roll(order, -1)
    t, t_opposite = apart
    w, w_opposite = expit(t)[:, None], expit(t_opposite)[:, None]
    # Column c of the matrix is the difference of the v of the edges that meet at c: sums give all v up
    # to one vector, by which every edge but the last gets its v_c - v_y. The trace is right for that.
    v = np.cumsum(lacking[:, order], axis=1).T
    excess = v[edges, c] - v[edges, y] - (w[:, 0] * t + w_opposite[:, 0] * t_opposite)
    v[:, y[:-1]] += np.cumsum(excess[:-1])
    v -= 0.5 * (v[edges, c] + v[edges, y])[:, None]
    # Entries below zero are the one point's and those above, negative there, the other's.
    below = FAR * np.maximum(w, w_opposite)
    z = (np.minimum(v, 0.0) - below) / w
    z_opposite = -(np.maximum(v, 0.0) + below) / w_opposite
    z[edges, c], z[edges, y] = 0.5 * t, -0.5 * t
    z_opposite[edges, y], z_opposite[edges, c] = 0.5 * t_opposite, -0.5 * t_opposite
    labels = np.concatenate([y, c]).astype(float)
    return joined(bulk, system.points(np.ones(2 * n), labels, np.vstack([z, z_opposite])))


def _bulk(system: System, k: int) -> Points | None:
    r"""Return k of the dearest points, equal ones with equal labels; None if k are too few.

    Numbers of labels are rounded by largest remainders, by :math:`\delta_y` that span at most 1. That
    changes the residuals by :math:`-c\,\delta` with c < 1, and what the points pay not at all.
    """
    n, h0 = system.n_classes, system.h0
    size = 0.0 if h0 is None else 0.5 * float(np.abs(h0).sum())
    if k < 0 or size >= max(k, 1):
        return None
    if k == 0:
        return system.points(np.zeros(0), np.zeros(0), np.zeros((0, n)))
    best = cheapest(k, n, h0)
    counts = apportion(mix(system, system.matrix(system.target), k) if h0 is None else best.mix, k)
    labels = np.flatnonzero(counts)
    z = np.stack([dearest(best.tau, y) for y in labels.tolist()])
    # `cheapest` stops at a largest kappa: residuals that must be nearer to 1 are made so.
    z[np.arange(len(labels)), labels] -= np.log(max(size / (k - size) / best.kappa, 1.0))
    return system.points(counts[labels], labels.astype(float), z)


def cycle(residual: FloatArray) -> IntArray:
    """Return the classes in an order in which sums of their residuals stay between two of them."""
    rest = np.argsort(-np.abs(residual), kind="stable").tolist()
    order: list[int] = []
    total = 0.0
    while rest:
        following = next((c for c in rest if residual[c] * total <= 0.0), rest[0])
        rest.remove(following)
        order.append(following)
        total += float(residual[following])
    return np.array(order)


def differences(flows: FloatArray, trace: float) -> tuple[FloatArray, FloatArray] | None:
    r"""Return differences of logits of pairs with these flows that take ``trace``; None if that is less.

    The larger of the two is the same for all pairs. Where it is 0 each takes no more than 0, namely
    :math:`f(1/2) + f(1/2 - |\phi|)`, if its flow is below 1/2; where it is large, as much as is wanted.
    """
    size = np.abs(flows)
    largest = float(size.max())
    if largest >= 1.0:
        return None
    with np.errstate(divide="ignore"):
        log_size = np.log(size)

    def smaller(t: float) -> FloatArray:
        # logit(w - |phi|), where 1 - w + |phi| may be far below the rounding of 1
        return np.asarray(np.log(expit(t) - size) - np.logaddexp(log_expit(-t), log_size))

    def excess(t: float) -> float:
        less = smaller(t)
        return float(np.sum(expit(t) * t + expit(less) * less)) - trace

    low = 0.0 if largest < 0.5 else float(np.log((1.0 + largest) / (1.0 - largest)))
    if excess(low) > 0.0:
        return None
    # f(w) > t / 2 for t > 0, and no f is below -0.28
    t = float(brentq(excess, low, low + 1.0 + 2.0 * max(trace, 0.0) / len(flows)))
    larger, less = np.full(len(flows), t), smaller(t)
    return np.where(flows >= 0.0, larger, less), np.where(flows >= 0.0, less, larger)
