r"""The convex program behind bounds for K classes in a box, by an interior-point method.

For each label y there are real numbers :math:`P_{yk} \ge 0` of points, spread over the classes by their
probabilities, and vectors :math:`X_{yk}` in :math:`P_{yk}\,[l, u]`; their number and their gradient are

.. math:: \sum_{yk} P_{yk}, \qquad
          H = \sum_{yk} X_{yk} (e_k - e_y)^\top, \qquad
          P_{yk} \log\frac{P_{yk}}{P_{yl}} \le (\Theta_k - \Theta_l)^\top X_{yk} .

Points of the box satisfy this, with equality in the last. It is all convex, and positively homogeneous:
the least number bounds the number of points from below. Its dual is to maximize
:math:`\langle V, H\rangle` such that all the brackets of `gplconvex.realization.multiclass_pricing`,
:math:`F_{yk}(V, w, s)`, are at most 1. Newton's method follows the maximizers of

.. math:: \frac1\mu\langle V, H\rangle + \sum \log(1 - F_{yk}) + \sum \log w + \sum \log s

to small :math:`\mu` (Boyd and Vandenberghe, *Convex Optimization*, section 11.3). The supremum
:math:`\sup U^\top x = m^\top U + r^\top |U|`, m and r the center and half width of the box, has
variables :math:`\rho > |U|` for its absolute values, with the terms :math:`\log(\rho^2 - U^2)`. In each
Newton step :math:`\rho` is eliminated first (its block of the Hessian is diagonal but for a rank-one
term: Sherman and Morrison), then w and s, label by label, for those of two labels meet in V only.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from gplconvex._types import FloatArray
from gplconvex.regularizers import norm
from gplconvex.rounding import UNIT

GAP = 1e-5
"""Relative gap to the maximum at which the method stops."""

SHRINK = 0.1
"""Factor of mu from one center to the next."""

NEWTON_STEPS = 30
"""Most Newton steps to one center; most take 3 to 10."""

ALL_STEPS = 150
"""Most Newton steps in all: what is reached by then is a bound as well."""

CENTERED = 0.5
"""The squared Newton decrement at which a center is reached."""

SHORTEST = 1e-10
"""The shortest damped step; where rounding allows no longer one the method stops."""

NARROW = 1e-6
"""Least half width, relative to the largest, for the barrier: the intercept's feature has none."""


State = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""V (d, K), w and s (K, pairs of classes), and rho (K, K, d)."""


class Barrier:
    """The dual with its barrier, for a model and gradient, and bounds of the inputs."""

    def __init__(self, theta: FloatArray, h: FloatArray, low: FloatArray, high: FloatArray) -> None:
        self.theta, self.h = theta, h
        self.center, radius = 0.5 * (low + high), 0.5 * (high - low)
        self.radius = np.maximum(radius, NARROW * radius.max())
        self.d, self.n = theta.shape
        self.k, self.l = np.nonzero(~np.eye(self.n, dtype=bool))
        self.a = (theta[:, self.k] - theta[:, self.l]).T
        self.pairs = len(self.k)
        self.into = np.eye(self.n)[self.l]  # (pairs, K): where s_kl belongs, to F_l

    def start(self) -> State:
        """Return a strictly feasible place: V = 0 and small multipliers."""
        size = float((np.abs(self.center) + self.radius) @ np.abs(self.a).max(axis=0))
        w = np.full((self.n, self.pairs), 0.25 / (self.n * (1.0 + size)))
        v = np.zeros_like(self.theta)
        rho = np.abs(self.slopes(v, w)) + 0.25 / (self.d * self.radius)
        return v, w, w.copy(), rho

    def unpacked(self, state: State) -> tuple[FloatArray, FloatArray]:
        """Return V, centered, and the multipliers indexed by y, k and l."""
        v, w, s, _ = state
        multipliers = np.zeros((2, self.n, self.n, self.n))
        multipliers[0][:, self.k, self.l], multipliers[1][:, self.k, self.l] = w, s
        return v - v.mean(axis=1, keepdims=True), multipliers

    def slopes(self, v: FloatArray, w: FloatArray) -> FloatArray:
        """Return U, shape (K, K, d); w and s have shape (K, pairs)."""
        return np.asarray(v.T - v.T[:, None] + self.by_class(w[:, :, None] * self.a))

    def by_class(self, values: FloatArray) -> FloatArray:
        """Return the sums over l of values for the pairs (k, l), which are on the second axis."""
        shape = (self.n, self.n, self.n - 1, *values.shape[2:])
        return np.asarray(values.reshape(shape).sum(axis=2))

    def brackets(self, u: FloatArray, w: FloatArray, s: FloatArray, rho: FloatArray) -> FloatArray:
        """Return F, shape (K, K)."""
        f = u @ self.center + rho @ self.radius + self.by_class(w * (np.log(w / s) - 1.0))
        f += s @ self.into
        return np.asarray(f)

    def value(self, state: State, mu: float) -> float:
        """Return the barrier function, infinite outside."""
        v, w, s, rho = state
        u = self.slopes(v, w)
        if not (w.min() > 0.0 and s.min() > 0.0 and np.all(rho > np.abs(u))):
            return math.inf
        room = 1.0 - self.brackets(u, w, s, rho)
        if not room.min() > 0.0:
            return math.inf
        logs = sum(float(np.log(part).sum()) for part in (room, w, s, rho - u, rho + u))
        return -float(np.sum(v * self.h)) / mu - logs

    def step(self, state: State, mu: float) -> tuple[State, float]:
        """Return the Newton step and the squared Newton decrement."""
        v, w, s, rho = state
        n, d, pairs = self.n, self.d, self.pairs
        u = self.slopes(v, w)
        m = 1.0 / (1.0 - self.brackets(u, w, s, rho))
        # rho: gradient, diagonal e, and (second derivative by rho and U) / e.
        gap, square = (rho - u) * (rho + u), rho * rho + u * u
        e, ratio = 2.0 * square / gap**2, -2.0 * rho * u / square
        grad_rho = m[:, :, None] * self.radius - 2.0 * rho / gap
        grad_u = m[:, :, None] * self.center + 2.0 * u / gap
        # What is left without rho: slopes g of F in U, weights of its rank-one terms, right sides.
        g = self.center - self.radius * ratio
        growth = 1.0 + m**2 * np.sum(self.radius**2 / e, axis=2)
        weight = m**2 / growth
        beta = np.sum(self.radius * grad_rho / e, axis=2)
        left_u = grad_u - ratio * grad_rho - (weight * beta)[:, :, None] * g
        left_m = m - weight * beta
        hessian = np.zeros((n, d, n, d))
        right, grad_v = self.h.T / mu, -self.h.T / mu
        blocks = []
        for y in range(n):
            entropy = self._entropy(w[y], s[y])
            barrier = np.concatenate([1.0 / w[y], 1.0 / s[y]])
            own = [
                by_m @ entropy - barrier + self._through_w(by_u)
                for by_u, by_m in ((grad_u[y], m[y]), (left_u[y], left_m[y]))
            ]
            grad_v = grad_v + _through_v(grad_u[y], y)
            right = right - _through_v(left_u[y], y)
            dv = np.zeros((n, n, d))
            dv[np.arange(n), np.arange(n)] = g[y]
            dv[:, y] -= g[y]
            index = np.arange(pairs)
            dz = entropy.copy()
            dz[self.k, index] += np.sum(g[y, self.k] * self.a, axis=1)
            root = np.sqrt(weight[y])[:, None]
            flat, dz = root * dv.reshape(n, -1), root * dz
            bend = 2.0 / square[y]
            hessian += (flat.T @ flat).reshape(n, d, n, d)
            _add_bends(hessian, bend, y)
            inner = dz.T @ dz + np.diag(barrier * barrier)
            pull = m[y, self.k]
            inner[index, index] += pull / w[y]
            inner[index, pairs + index] -= pull / s[y]
            inner[pairs + index, index] -= pull / s[y]
            inner[pairs + index, pairs + index] += pull * w[y] / s[y] ** 2
            bent = bend[self.k] * self.a
            same = self.k[:, None] == self.k
            inner[:pairs, :pairs] += np.where(same, bent @ self.a.T, 0.0)
            cross = (flat.T @ dz).reshape(n, d, 2 * pairs)
            cross[self.k, :, index] += bent
            cross[y, :, index] -= bent
            blocks.append((cho_factor(inner), cross.reshape(n * d, -1), own))
        free = (n - 1) * d  # one vector added to all columns of V changes nothing: the last stays 0
        schur, along = hessian.reshape(n * d, n * d)[:free, :free], right.ravel()[:free]
        for factor, cross, (_, left) in blocks:
            solved = cho_solve(factor, cross[:free].T)
            schur -= cross[:free] @ solved
            along = along + solved.T @ left
        schur[np.diag_indices(free)] *= 1.0 + 64.0 * UNIT
        flat_v = np.append(cho_solve(cho_factor(schur), along), np.zeros(d))
        steps = np.stack([cho_solve(f, -left - c.T @ flat_v) for f, c, (_, left) in blocks])
        step_v, step_w, step_s = flat_v.reshape(n, d).T, steps[:, :pairs], steps[:, pairs:]
        step_u = self.slopes(step_v, step_w)
        rise = np.sum(g * step_u, axis=2) + self.by_class(step_w * np.log(w / s) - step_s * w / s)
        rise += step_s @ self.into
        alpha = m**2 * (rise - beta) / growth
        step_rho = -grad_rho / e - ratio * step_u - alpha[:, :, None] * self.radius / e
        gain = float(np.sum(grad_v * step_v.T)) + float(np.sum(grad_rho * step_rho))
        gain += sum(float(full @ z) for (_, _, (full, _)), z in zip(blocks, steps, strict=True))
        return (step_v, step_w, step_s, step_rho), -gain

    def _entropy(self, w: FloatArray, s: FloatArray) -> FloatArray:
        """Return the derivatives (K, 2 pairs) of the other terms of F by w and s."""
        index = np.arange(self.pairs)
        by_z = np.zeros((self.n, 2 * self.pairs))
        by_z[self.k, index] = np.log(w / s)
        by_z[self.k, self.pairs + index] = -w / s
        by_z[self.l, self.pairs + index] += 1.0
        return by_z

    def _through_w(self, by_u: FloatArray) -> FloatArray:
        """Return the derivatives by w, and 0 by s, of what has derivatives by U."""
        return np.append(np.sum(by_u[self.k] * self.a, axis=1), np.zeros(self.pairs))


def _through_v(by_u: FloatArray, y: int) -> FloatArray:
    """Return the derivatives by V (K, d) of what has derivatives by U, for the label y."""
    by_v = by_u.copy()
    by_v[y] -= by_u.sum(axis=0)
    return by_v


def _add_bends(hessian: FloatArray, bend: FloatArray, y: int) -> None:
    """Add second derivatives by U, diagonal in the features, for the label y."""
    feature = np.arange(bend.shape[1])
    for k in range(len(bend)):
        if k != y:
            hessian[k, feature, k, feature] += bend[k]
            hessian[y, feature, y, feature] += bend[k]
            hessian[k, feature, y, feature] -= bend[k]
            hessian[y, feature, k, feature] -= bend[k]


def relaxed_dual(
    theta: FloatArray, h: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return a direction V and multipliers (w, s), shape (2, K, K, K), that nearly are the best.

    Any are valid: `gplconvex.realization.multiclass_pricing.price` says what they prove.
    """
    barrier = Barrier(theta, h, low, high)
    state = barrier.start()
    terms = barrier.n**2 * (2 * barrier.n - 1 + 2 * barrier.d)
    mu, left = norm(h), ALL_STEPS
    while left > 0:
        for _ in range(NEWTON_STEPS):
            left -= 1
            try:
                step, decrement = barrier.step(state, mu)
            except np.linalg.LinAlgError:
                return barrier.unpacked(state)
            if decrement < CENTERED or left <= 0:
                break
            before, length = barrier.value(state, mu), 1.0
            moved = _moved(state, step, length)
            while not barrier.value(moved, mu) <= before - 0.1 * length * decrement:
                length *= 0.5
                if length < SHORTEST:
                    return barrier.unpacked(state)
                moved = _moved(state, step, length)
            state = moved
        if terms * mu <= GAP * float(np.sum(state[0] * h)):
            break
        mu *= SHRINK
    return barrier.unpacked(state)


def _moved(state: State, step: State, length: float) -> State:
    v, w, s, rho = (part + length * move for part, move in zip(state, step, strict=True))
    return v, w, s, rho
