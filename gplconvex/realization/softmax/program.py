r"""Points for coefficients of low rank: a linear program over sampled points.

If the logits cannot be any vector (few features, or classes that depend on others), the constructions of
full rank do not exist. Then a linear program chooses weights :math:`w_g \ge 0` of sampled points,

.. math:: \min \sum_g w_g \quad\text{subject to}\quad \sum_g w_g\,\zeta_g q_g^\top = S\,U^\top H,
          \qquad \sum_g w_g\,q_g^\top = h_0,

with as many points as equations; sampling again around those improves them. The numbers of points are
the weights rounded up, :math:`c_g = \lceil w_g\rceil`, and labels make up for it: with the distribution
:math:`(1 - w_g/c_g)\,p + (w_g/c_g)\,e_y` each of the c copies has the residual :math:`(w_g/c_g)\,q_g`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linprog

from gplconvex._types import FloatArray
from gplconvex.realization.softmax.system import Points, System

DIRECTIONS = 20
"""Sampled directions a dimension."""

SAMPLES = 60_000
"""Most sampled points: the linear program takes seconds for so many."""

AROUND = 8
"""Samples around each point, at each of three widths."""

ROUNDS = 4
"""Programs solved, each on samples around the last one's points."""


def program(system: System) -> Points | None:
    """Return points, their labels distributions, that solve the system; None if there are none."""
    rng = np.random.default_rng(0)
    points = _chosen(system, _sampled(system, rng))
    for _ in range(ROUNDS):
        if points is None:
            return None
        around = [points]
        size = 0.1 + np.linalg.norm(points.zeta, axis=1, keepdims=True)
        for width in np.repeat([0.3, 0.1, 0.03], AROUND):
            noise = width * size * rng.normal(size=points.zeta.shape)
            around.append(replace(points, zeta=points.zeta + noise))
        points = _chosen(system, _joined(around))
    if points is None:
        return None
    counts = np.ceil(points.counts)
    share = (points.counts / counts)[:, None]
    p = system.residuals(points)[0]
    return Points(
        counts,
        (1.0 - share) * p + share * np.eye(system.n_classes)[points.labels.astype(int)],
        points.zeta,
    )


def _sampled(system: System, rng: np.random.Generator) -> Points:
    """Return points of all labels, with logits of many directions and sizes, ties of two included."""
    n, rank = system.n_classes, system.rank
    directions = rng.normal(size=(DIRECTIONS * rank, rank))
    ties = [directions]
    for c in range(n):
        for y in range(c):
            normal = system.v[c] - system.v[y]
            square = float(normal @ normal)
            if rank > 1 and square > 0.0:
                ties.append(directions - np.outer(directions @ normal, normal) / square)
    directions = np.vstack(ties)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    largest = max(50.0, 4.0 * float(np.abs(system.target).max()))
    sizes = np.geomspace(0.3, largest, max(12, int(4 * np.log10(largest / 0.3))))
    most = SAMPLES // (n * len(sizes))
    if len(directions) > most:
        directions = rng.choice(directions, most, replace=False)
    zeta = (sizes[:, None, None] * directions).reshape(-1, rank)
    labels = np.repeat(np.arange(n, dtype=float), len(zeta))
    return Points(np.ones(len(labels)), labels, np.tile(zeta, (n, 1)))


def _columns(system: System, points: Points) -> FloatArray:
    """Return what one copy of each point adds to the sums, shape (equations, G)."""
    q = system.residuals(points)[1] @ system.basis
    first = points.zeta[:, :, None] * q[:, None, :]
    rows = [first.reshape(len(q), -1), *([] if system.h0 is None else [q])]
    return np.concatenate(rows, axis=1).T


def _chosen(system: System, points: Points) -> Points | None:
    """Return the points that the linear program uses, with their weights for counts."""
    columns = _columns(system, points)
    scale = np.linalg.norm(columns, axis=0)
    useful = scale > 1e-12
    points = replace(
        points, counts=points.counts[useful], labels=points.labels[useful], zeta=points.zeta[useful]
    )
    columns, scale = columns[:, useful], scale[useful]
    size = float(np.abs(system.target).max())
    answer = linprog(1.0 / scale, A_eq=columns / scale, b_eq=system.target / size, method="highs")
    if answer.x is None:
        return None
    used = answer.x > 1e-12 * answer.x.max()
    return Points(answer.x[used] / scale[used] * size, points.labels[used], points.zeta[used])


def _joined(parts: list[Points]) -> Points:
    return Points(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.vstack([part.zeta for part in parts]),
    )
