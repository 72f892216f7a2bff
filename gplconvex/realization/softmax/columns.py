r"""Real numbers of K-class points in a box with a given gradient, as few as possible: columns.

The least :math:`\sum_i c_i` with :math:`\sum_i c_i x_i q_i^\top = H`, :math:`c \ge 0`, over the points
found so far is a linear program. Its multipliers V price all others: a point of the box with
:math:`\langle V, x q^\top\rangle > 1` enters. What a point pays is not concave in x; so it is sought
from many places, by steps towards the vertex that the gradient points to (Frank-Wolfe), and the result
is no bound: `relaxation` has one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.special import softmax

from gplconvex._types import FloatArray

ROUNDS = 40
"""Most linear programs."""

STARTS = 4
"""Random places, for each label, that pricing starts from, besides the points in use."""

ASCENTS = 30
"""Steps from each of them."""

SHARES = 2.0 ** -np.arange(10)
"""Lengths of a step that are tried: shares of the way to the vertex."""

MORE = 60
"""Random points of each label to begin with, at least: what more points than the fewest are made of."""

PATIENCE = 2.0
"""Seconds for one integer program; most take a hundredth. What is found by then is a start as well."""

WORTH = 1e-4
"""How much more than 1 a point must pay to enter."""

PENALTY = 1e3
"""Price, in points for each unit, of an equation that does not hold."""


class Columns:
    """Points of the box, with the intercept's 1, whose mixtures are to have gradient h."""

    def __init__(self, theta: FloatArray, h: FloatArray, low: FloatArray, high: FloatArray) -> None:
        self.theta, self.h, self.low, self.high = theta, h, low, high
        self.n = theta.shape[1]
        self.rng = np.random.default_rng(0)
        self.x, self.labels = self.random(max(MORE, -(-2 * h.size // self.n)))

    def gradients(self, x: FloatArray, labels: FloatArray) -> FloatArray:
        """Return the gradients of points, without their last column, as rows."""
        q: FloatArray = softmax(x @ self.theta, axis=1) - np.eye(self.n)[labels]
        return np.asarray((x[:, :, None] * q[:, None, :-1]).reshape(len(x), -1))

    def pays(self, v: FloatArray, x: FloatArray, labels: FloatArray) -> FloatArray:
        """Return what points, (..., n, d), pay along V."""
        q = softmax(x @ self.theta, axis=-1) - np.eye(self.n)[labels]
        return np.asarray(np.sum(q * (x @ v), axis=-1))

    def ascend(self, v: FloatArray, x: FloatArray, labels: FloatArray) -> FloatArray:
        """Return points that pay more."""
        for _ in range(ASCENTS):
            p, a = softmax(x @ self.theta, axis=1), x @ v
            q = p - np.eye(self.n)[labels]
            uphill = q @ v.T + (p * (a - np.sum(p * a, axis=1, keepdims=True))) @ self.theta.T
            way = np.where(uphill > 0.0, self.high, self.low) - x
            tried = x + SHARES[:, None, None] * way
            paid = self.pays(v, tried, labels)
            best = np.argmax(paid, axis=0)
            rows = np.arange(len(x))
            better = paid[best, rows] > self.pays(v, x, labels)
            if not better.any():
                break
            x = np.where(better[:, None], tried[best, rows], x)
        return x

    def random(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Return n random points of each label: half vertices, half inside."""
        shape = (n * self.n, len(self.low))
        share = self.rng.random(shape)
        vertex = self.rng.random((shape[0], 1)) < 0.5
        share = np.where(vertex, np.round(share), share)
        return self.low + share * (self.high - self.low), np.tile(np.arange(self.n), n)

    def generate(self) -> None:
        """Let points enter until none pays."""
        h = self.h[:, :-1].ravel()
        slack = np.hstack([np.eye(len(h)), -np.eye(len(h))])
        for _ in range(ROUNDS):
            cost = np.append(np.ones(len(self.x)), np.full(2 * len(h), PENALTY))
            equations = np.hstack([self.gradients(self.x, self.labels).T, slack])
            found = linprog(cost, A_eq=equations, b_eq=h, method="highs")
            v = np.zeros_like(self.h)
            v[:, :-1] = found.eqlin.marginals.reshape(len(v), -1)
            used = np.asarray(found.x)[: len(self.x)] > 0.0
            fresh, fresh_labels = self.random(STARTS)
            labels = np.append(self.labels[used], fresh_labels)
            x = self.ascend(v, np.vstack([self.x[used], fresh]), labels)
            enters = self.pays(v, x, labels) > 1.0 + WORTH
            if not enters.any():
                return
            self.x = np.vstack([self.x, x[enters]])
            self.labels = np.append(self.labels, labels[enters])

    def whole(self, least: int, most: float, nearly: float) -> tuple[FloatArray, FloatArray] | None:
        """Return numbers of the points and of each label: the fewest, with whole numbers of labels.

        At least ``least`` and at most ``most`` in all, with the gradient up to ``nearly`` times its
        largest entry; None if there are none.
        """
        columns = self.gradients(self.x, self.labels).T
        m, n = len(self.x), self.n
        member = (np.arange(n)[:, None] == self.labels).astype(float)
        rows = np.block([[columns, np.zeros((len(columns), n))], [member, -np.eye(n)]])
        right = np.append(self.h[:, :-1].ravel(), np.zeros(n))
        room = np.append(np.full(len(columns), nearly * np.abs(self.h).max()), np.zeros(n))
        whole = np.repeat([0, 1], [m, n])
        found = milp(
            whole.astype(float),
            integrality=whole,
            bounds=Bounds(0.0, np.inf),
            constraints=[
                LinearConstraint(rows, right - room, right + room),
                LinearConstraint(whole[None, :].astype(float), least, most),
            ],
            options={"time_limit": PATIENCE},
        )
        return None if found.x is None else (found.x[:m], np.rint(found.x[m:]))
