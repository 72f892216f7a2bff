r"""The equations of K-class points, in the few dimensions in which they live.

Let :math:`U S V^\top` be the centered coefficients without the intercept b, of rank
:math:`\rho \le K - 1`. An input is :math:`x = U S^{-1}\zeta + u` with :math:`u \perp U`, and its
logits are :math:`z = b + V\zeta`, whatever u. So points with residuals q have the gradient H if and only
if

.. math:: \sum_i c_i\,\zeta_i q_i^\top = S\,U^\top H, \qquad
          \sum_i c_i\,q_i^\top = h_0 \ \text{(with an intercept)}, \qquad
          \sum_i c_i\,u_i q_i^\top = (I - U U^\top) H,

and the last has the solution :math:`u_i = (I - U U^\top) H M^+ s_i q_i`,
:math:`M = \sum_i c_i s_i q_i q_i^\top`, with any shares :math:`s_i > 0`, of least norm where they are
equal, if the residuals span the rows of its right side. The first two are
a nonlinear system for the :math:`\zeta_i`, whose size does not depend on the number of features.
Vectors that sum to 0, as residuals do, have K - 1 coordinates in an orthonormal basis B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import helmert
from scipy.special import softmax

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.losses import Softmax
from gplconvex.realization.exact import missing_gradient, nudged_to
from gplconvex.regularizers import norm
from gplconvex.rounding import UNIT

SOLVED = 1e-9
"""Relative residual at which the system counts as solved; `polish` removes what is left."""

CLOSE = 1e3
"""Times the tolerance: good enough where rounding stops the steps; `polish` does the rest."""

SMALL_STEP = 1e-3
"""Change of logits up to which a step of `polish` is taken to be well determined."""

STEPS = 60
"""Most steps of one solve; those that succeed take 5 to 30."""


@dataclass(frozen=True)
class Points:
    r"""Points: counts (G,), labels (G,) or (G, K), and coordinates of logits :math:`\zeta` (G, rho)."""

    counts: FloatArray
    labels: FloatArray
    zeta: FloatArray

    @property
    def total(self) -> int:
        """Their number, with multiplicities."""
        return int(self.counts.sum())


class System:
    r"""The equations for a model Theta (p, K) and a gradient H of the same shape with H 1 = 0.

    Singular values below ``least`` times the largest count as zero: inputs along them would be 1/least
    times as large as others.

    Attributes
    ----------
    b : array, shape (K,)
        The centered intercept, or zeros.
    h0 : array, shape (K,), or None
        The last row of H, with an intercept.
    u, s, v : arrays
        The singular value decomposition, without what counts as zero.
    rank : int
        :math:`\rho`.
    trace : float
        :math:`\langle\Theta, H\rangle = \sum_i c_i z_i^\top q_i`.
    target : array
        The right sides of the two systems in coordinates, one after the other.
    """

    def __init__(self, loss: Softmax, theta: FloatArray, h: FloatArray, least: float) -> None:
        self.loss, self.theta, self.h = loss, theta, h
        self.n_classes = loss.n_classes
        centered = theta - theta[:, :1]  # so that equal columns become 0 exactly
        centered -= centered.mean(axis=1, keepdims=True)
        slope, self.features = (centered[:-1], h[:-1]) if loss.intercept else (centered, h)
        self.b = centered[-1] if loss.intercept else np.zeros(self.n_classes)
        self.h0 = h[-1] if loss.intercept else None
        u, s, vt = np.linalg.svd(slope, full_matrices=False)
        self.rank = int(np.sum(s > least * s.max(initial=0.0)))
        self.u, self.s, self.v = u[:, : self.rank], s[: self.rank], vt[: self.rank].T
        self.basis = helmert(self.n_classes).T
        self.trace = math.fsum((centered * h).ravel().tolist())
        first = self.s[:, None] * (self.u.T @ self.features) @ self.basis
        second = np.zeros(0) if self.h0 is None else self.h0 @ self.basis
        self.target = np.concatenate([first.ravel(), second])

    # -- coordinates -------------------------------------------------------------------------------

    def logits(self, points: Points) -> FloatArray:
        r"""Return :math:`z = b + V\zeta`, shape (G, K)."""
        return np.asarray(self.b + points.zeta @ self.v.T)

    def points(self, counts: FloatArray, labels: FloatArray, z: FloatArray) -> Points:
        """Return the points with logits nearest to z."""
        return Points(counts, labels, (z - self.b) @ self.v)

    def residuals(self, points: Points) -> tuple[FloatArray, FloatArray]:
        r"""Return probabilities p and residuals :math:`q = p - e_y`, shapes (G, K)."""
        z = self.logits(points)
        p: FloatArray = softmax(z, axis=1)
        return p, self.loss.residual(z, points.labels)

    def matrix(self, values: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_i c_i z_i q_i^\top`, shape (K, K), from the two sums in coordinates."""
        first, second = self._split(values)
        matrix: FloatArray = self.v @ first @ self.basis.T
        return matrix if self.h0 is None else matrix + np.outer(self.b, self.basis @ second)

    def _split(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        n = self.rank * (self.n_classes - 1)
        return values[:n].reshape(self.rank, -1), values[n:]

    def relative(self, off: FloatArray) -> float:
        """Return how far from H sums are that are off in coordinates, relative to |H|."""
        first, second = self._split(off)
        return math.hypot(norm(first / self.s[:, None]), norm(second)) / norm(self.h)

    # -- the two sums and their derivatives --------------------------------------------------------

    def sums(self, points: Points) -> FloatArray:
        r"""Return the two sums times B, the second one only with an intercept, end to end."""
        q = (self.residuals(points)[1] @ self.basis) * points.counts[:, None]
        second = np.zeros(0) if self.h0 is None else q.sum(axis=0)
        return np.concatenate([(points.zeta.T @ q).ravel(), second])

    def jacobian(self, points: Points) -> FloatArray:
        r"""Return the derivatives of `sums` by the :math:`\zeta_i`, shape (equations, G, rho).

        :math:`\partial q/\partial\zeta = (\mathrm{diag}(p) - p p^\top) V`.
        """
        p, q = self.residuals(points)
        q = q @ self.basis
        dq = np.einsum("gk,kn,kr->gnr", p, self.basis, self.v, optimize=True)
        dq -= (p @ self.basis)[:, :, None] * (p @ self.v)[:, None, :]
        first = points.zeta[:, :, None, None] * dq[:, None, :, :]
        for r in range(self.rank):
            first[:, r, :, r] += q
        rows = first.reshape(len(q), -1, self.rank)
        if self.h0 is not None:
            rows = np.concatenate([rows, dq], axis=1)
        return np.asarray((rows * points.counts[:, None, None]).transpose(1, 0, 2))

    # -- solving -----------------------------------------------------------------------------------

    def solve(
        self,
        points: Points,
        target: FloatArray | None = None,
        rows: FloatArray | None = None,
        tolerance: float = SOLVED,
        steps: int = STEPS,
    ) -> Points | None:
        r"""Move the points until their sums are the target; None if they do not get there.

        Levenberg-Marquardt steps of least norm. Each of c copies counts, and the unit of a point grows
        with its logits, by which an error of its probabilities is multiplied.

        Parameters
        ----------
        points : Points
            Where to start.
        target : array, optional
            Wanted sums; default, those of H.
        rows : array, shape (n, equations), optional
            Solve only for these combinations of the equations.
        tolerance : float
            Relative residual.
        steps : int
            Most steps.
        """
        target = self.target if target is None else target
        rows = np.eye(len(target)) if rows is None else rows
        whole = len(rows) == len(target)
        size = norm(rows @ target) + 1.0
        unit = 1.0 / (np.sqrt(points.counts) * (1.0 + np.abs(self.logits(points)).max(axis=1)))
        off, damping = target - self.sums(points), 1e-3
        for _ in range(steps):
            gap = self.relative(off) if whole else norm(rows @ off) / size
            if gap <= tolerance:
                return points
            jacobian = self.jacobian(points) * unit[:, None]
            q, r = np.linalg.qr((rows @ jacobian.reshape(len(target), -1)).T)
            left, singular, right = np.linalg.svd(r.T, full_matrices=False)
            if not singular[0] > 0.0:
                return None
            along = left.T @ (rows @ off)
            before = norm(rows @ off)
            while True:
                filtered = singular / (singular**2 + (damping * singular[0]) ** 2) * along
                step = (q @ (right.T @ filtered)).reshape(points.zeta.shape)
                moved = replace(points, zeta=points.zeta + unit[:, None] * step)
                left_over = target - self.sums(moved)
                after = norm(rows @ left_over)
                if after < before:
                    break
                if damping > 1e6:
                    return points if gap <= CLOSE * tolerance else None
                damping = max(6.0 * damping, 1e-12)
            damping *= 0.05 if after < 0.3 * before else 0.3 if after < 0.7 * before else 1.0
            points, off = moved, left_over
        gap = self.relative(off) if whole else norm(rows @ off) / size
        return points if gap <= CLOSE * tolerance else None

    # -- inputs ------------------------------------------------------------------------------------

    def inputs(self, points: Points, ties: bool = False) -> FloatArray | None:
        """Return small inputs, shape (G, d); None if the residuals do not span what they must.

        The smallest, or with ``ties`` those whose parts across are with points at a tie of two classes,
        or sure of one: their rounding moves logits, by 2^-53 times the sizes of model and gradient,
        and all but one difference of logits does not matter to these points.
        """
        across = self.features - self.u @ (self.u.T @ self.features)
        x: FloatArray = (points.zeta / self.s) @ self.u.T
        if norm(across) <= UNIT * math.sqrt(across.size) * norm(self.h):
            return x
        p, q = self.residuals(points)
        q = q @ self.basis
        share = np.ones_like(q)
        if ties:
            covariance = p[:, :, None] * (np.eye(self.n_classes) - p[:, None, :])
            matters = np.linalg.eigvalsh(covariance)[:, -2:-1]
            share /= 1.0 + self.s[0] * norm(self.h) * matters
        inverse = np.linalg.pinv(q.T @ (points.counts[:, None] * share * q), hermitian=True)
        u = share * q @ inverse @ (across @ self.basis).T
        missed = across @ self.basis - u.T @ (points.counts[:, None] * q)
        if norm(missed) > SOLVED * norm(self.h):
            return None
        return x + u

    def polish(self, data: Dataset, reach: int = 0) -> Dataset:
        r"""Move the inputs to remove what the gradients, evaluated exactly, miss of H.

        Rounding a moved input costs again, and far points cost most. So only as many points move, those
        of the least cost first, as can make up for what is missing by small steps; the others keep their
        float64 inputs.

        With a ``reach``, each moved input is nudged by up to so many units in the last place to the
        step that it is meant to take along the logits to which its probabilities are most sensitive: at
        a tie of two classes, far from all others, along the only ones that matter.
        """
        missing = missing_gradient(self.loss, data, self.theta, self.h)
        counts = data.counts.astype(float)
        points = Points(counts, data.y, data.x @ self.u * self.s)
        p, q = self.residuals(points)
        lengths = np.linalg.norm(data.x, axis=1)
        spread = np.sqrt(np.sum(p * (1.0 - p), axis=1)) * self.s[0] * lengths
        cost = counts * np.maximum(lengths, np.finfo(float).tiny) * (norm_rows(q) + spread)
        order = np.argsort(cost, kind="stable")
        features = missing[:-1] if self.loss.intercept else missing
        first = self.s[:, None] * (self.u.T @ features) @ self.basis
        second = missing[-1] @ self.basis if self.loss.intercept else np.zeros(0)
        off = np.concatenate([first.ravel(), second])
        jacobian = self.jacobian(points) / counts[:, None]
        n_moving, small = 0, False
        while not small:
            n_moving = min(max(self.n_classes, 2 * n_moving), len(order))
            moving = order[:n_moving]
            system = jacobian[:, moving].reshape(len(off), -1)
            total = np.linalg.lstsq(system, off, rcond=1e-14)[0]
            step = total.reshape(n_moving, -1) / counts[moving, None]
            small = n_moving == len(order) or bool(
                np.abs(step).max() <= SMALL_STEP and norm(system @ total - off) <= 1e-6 * norm(off)
            )
        zeta = np.zeros_like(points.zeta)
        zeta[moving] = step
        # Then across: what the moved residuals change there, and what was missing there.
        turned = self.loss.curvature_times(self.logits(points), data.y, zeta @ self.v.T)
        rest = features - data.x.T @ (counts[:, None] * turned)
        across = (rest - self.u @ (self.u.T @ rest)) @ self.basis
        directions = q[moving] @ self.basis
        gram = directions.T @ (counts[moving, None] * directions)
        x = data.x + (zeta / self.s) @ self.u.T
        x[moving] += directions @ np.linalg.pinv(gram, hermitian=True) @ across.T
        if reach and np.isfinite(x).all():
            slope = self.theta[:-1] if self.loss.intercept else self.theta
            for i in moving.tolist():
                sensitive = np.linalg.eigh(np.diag(p[i]) - np.outer(p[i], p[i]))[1][:, -1]
                growth = float(zeta[i] @ (self.v.T @ sensitive))
                x[i] = nudged_to(data.x[i], x[i], slope @ sensitive, growth, reach)
        return Dataset(x, data.y, data.counts)


def norm_rows(q: FloatArray) -> FloatArray:
    """Return the norm of every row."""
    return np.asarray(np.linalg.norm(q, axis=1))
