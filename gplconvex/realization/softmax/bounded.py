r"""Softmax regression, inputs in a box: few points, and a bound that says how few could do.

What K-class points can contribute along a direction is not a concave problem, so the fewest points are
not known exactly: the lower bound is that of unbounded inputs or of a convex relaxation
(`relaxation`, checked by `gplconvex.realization.multiclass_pricing`), and the points are found by
solving :math:`\sum_i c_i x_i q_i^\top = H` in the box. Where to start from, and how many points of each
label, says an integer program over generated columns (`columns`); where there are too many equations
for that, random places and real counts that move along. Projected Levenberg-Marquardt steps of least
norm, in which inputs at a bound that would leave the box do not take part, move the inputs
:math:`x = m + r t`, m and r the center and half width of the box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.domains import Box, Domain
from gplconvex.errors import UnrealizableGradientError, UnsupportedCombinationError
from gplconvex.losses import Logistic, Softmax
from gplconvex.realization.bounded.realize import realize_bounded
from gplconvex.realization.exact import missing_gradient, relative_residual
from gplconvex.realization.lower_bound import BOUNDED, LowerBound, logit_difference
from gplconvex.realization.multiclass_pricing import enough, extended_bounds
from gplconvex.realization.result import Realization, ship
from gplconvex.realization.softmax import RANKS, prove_unbounded
from gplconvex.realization.softmax.columns import Columns
from gplconvex.realization.softmax.designs import apportion
from gplconvex.realization.softmax.relaxation import relaxed_dual
from gplconvex.realization.softmax.system import System
from gplconvex.regularizers import norm
from gplconvex.rounding import POLISHED, REALIZATION_RESIDUAL, UNIT

SPREADS = (0.0, 0.3, 1.0)
"""How far, as a share of the way to a random place, single points start from the columns."""

ROUGHLY = 16
"""Where there are no columns, numbers of points are bisected to one part in so many."""

NEARLY = (1e-3, 1e-7)
"""How far from H, relative to its largest entry, the mixtures of columns may be: inputs move anyway."""

STEPS = 60
"""Most steps of one solve; those that succeed take 5 to 30."""

PATIENCE = 8
"""Steps within which what is left must halve."""

PASSES = 4
"""How often a step is taken anew without the inputs that it would take out of the box."""

ROUNDED = 1e-3
"""Relative residual from which real counts are rounded: the rounding changes more than that."""

SPARE = 4
"""Unknown inputs for each equation: copies are single points until there are so many."""

MOST_EQUATIONS = 80
"""Equations up to which columns are generated: with so many that takes seconds."""

MOST_RELAXED = 300
"""Coefficients up to which the relaxation is solved: its Newton steps are dense."""

MOST_SINGLE = 100
"""Numbers of points that are tried as single ones, labels in turn, where there are no columns."""

NEAR = 8
"""How many numbers of points are tried one by one, before larger and larger steps."""

FAR = 10
"""And how many of those, each twice the one before."""


@dataclass(frozen=True)
class Points:
    r"""Rows of equal points: counts (m,), labels (m,), and t (m, d)."""

    counts: FloatArray
    labels: FloatArray
    t: FloatArray

    @property
    def total(self) -> int:
        """Their number, with multiplicities."""
        return int(self.counts.sum())


Found = tuple[Dataset, float]
"""A dataset and its relative residual."""


class Equations:
    """The equations for a model and gradient, in a box."""

    def __init__(self, loss: Softmax, theta: FloatArray, h: FloatArray, domain: Box) -> None:
        self.loss, self.theta, self.h, self.domain = loss, theta, h, domain
        low, high = domain.bounds(len(theta) - loss.intercept)
        self.low, self.high = low, high
        self.center, self.radius = 0.5 * (low + high), 0.5 * (high - low)
        self.size = norm(h)
        self.n_equations = h[:, 1:].size

    def inputs(self, t: FloatArray) -> FloatArray:
        """Return the inputs; rounding does not take them out of the box."""
        return np.clip(self.center + self.radius * t, self.low, self.high)

    def dataset(self, points: Points) -> Dataset:
        """Return the points; their counts are integers."""
        return Dataset(self.inputs(points.t), points.labels, points.counts.astype(np.int64))

    def missing(self, points: Points) -> FloatArray:
        """Return what the gradients miss of H, relative to |H|; its columns sum to 0: all but one."""
        x = self.inputs(points.t)
        q = self.loss.residual(self.loss.predictor(x, self.theta), points.labels)
        weighted = points.counts[:, None] * q
        total = x.T @ weighted
        if self.loss.intercept:
            total = np.vstack([total, weighted.sum(axis=0)])
        return np.asarray((self.h - total)[:, 1:].ravel() / self.size)

    def jacobian(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Return the derivatives of the gradients by t (equations, m d) and by log counts (., m)."""
        x = self.inputs(points.t)
        z = self.loss.predictor(x, self.theta)
        p, q = softmax(z, axis=1), self.loss.residual(z, points.labels)[:, 1:]
        slope = self.theta[: x.shape[1]]
        dq = p[:, None, :] * (slope - (p @ slope.T)[:, :, None])  # (m, d, K): by inputs
        extended = np.hstack([x, np.ones((len(x), int(self.loss.intercept)))])
        by_x = extended[:, :, None, None] * dq[:, None, :, 1:].transpose(0, 1, 3, 2)
        feature = np.arange(x.shape[1])
        by_x[:, feature, :, feature] += q
        by_x *= points.counts[:, None, None, None] * self.radius / self.size
        by_t = by_x.transpose(1, 2, 0, 3).reshape(self.n_equations, -1)
        by_count = points.counts * (extended[:, :, None] * q[:, None, :]).transpose(1, 2, 0)
        return by_t, by_count.reshape(self.n_equations, -1) / self.size

    def solve(self, points: Points, total: float | None = None) -> Points | None:
        r"""Move the points until the equations hold; None if they do not get there.

        With a ``total``, counts are real numbers that move as well and have this sum, and a rough
        solution is enough.
        """
        tolerance = 0.1 * REALIZATION_RESIDUAL if total is None else ROUNDED

        def off(points: Points) -> FloatArray:
            missing = self.missing(points)
            return (
                missing if total is None else np.append(missing, 1.0 - points.counts.sum() / total)
            )

        left, damping = off(points), 1e-2
        checked = math.inf
        for taken in range(STEPS):
            if norm(left) <= tolerance:
                return points
            if taken % PATIENCE == 0:
                if norm(left) > 0.5 * checked:
                    return None
                checked = norm(left)
            jacobian, by_count = self.jacobian(points)
            if total is not None:
                last = np.append(np.zeros(jacobian.shape[1]), points.counts / total)
                jacobian = np.vstack([np.hstack([jacobian, by_count]), last])
            before = norm(left)
            while True:
                moved = self._moved(points, self._step(points, jacobian, left, damping))
                after = norm(off(moved))
                if after < before:
                    break
                damping = max(8.0 * damping, 1e-9)
                if damping > 1e6:
                    return None
            damping *= 0.05 if after < 0.3 * before else 0.3 if after < 0.8 * before else 1.0
            points, left = moved, off(moved)
        return None

    def _step(
        self, points: Points, jacobian: FloatArray, left: FloatArray, damping: float
    ) -> FloatArray:
        """Return the damped step; inputs at a bound that it would take out of the box stay."""
        t = points.t.ravel()
        free = np.ones(jacobian.shape[1], dtype=bool)
        step = np.zeros(len(free))
        scale = float(np.sum(jacobian * jacobian)) / len(jacobian) + np.finfo(float).tiny
        for _ in range(PASSES):
            gram = jacobian[:, free] @ jacobian[:, free].T
            gram[np.diag_indices_from(gram)] += (damping + 8.0 * UNIT) * scale
            step = np.zeros(len(free))
            step[free] = jacobian[:, free].T @ cho_solve(cho_factor(gram), left)
            leaving = np.zeros(len(free), dtype=bool)
            leaving[: len(t)] = (np.abs(t) >= 1.0) & (t * step[: len(t)] > 0.0)
            if not leaving.any():
                break
            free &= ~leaving
        return step

    def _moved(self, points: Points, step: FloatArray) -> Points:
        by_t, by_count = step[: points.t.size], step[points.t.size :]
        t = points.t + by_t.reshape(points.t.shape)
        t = np.clip(t, -1.0, 1.0)
        if not by_count.size:
            return replace(points, t=t)
        return replace(points, t=t, counts=points.counts * np.exp(np.clip(by_count, -1.0, 1.0)))

    def near(self, columns: Columns, numbers: FloatArray, labels: FloatArray, seed: int) -> Points:
        """Return integer counts of points near columns, so many of each label, some of them single."""
        rng = np.random.default_rng(seed)
        d = len(self.center)
        most = max(3, math.ceil(SPARE * self.n_equations / d))
        rows: list[tuple[float, int, FloatArray]] = []
        for label, total in enumerate(labels):
            mine = np.flatnonzero((columns.labels == label) & (numbers > 0.0))
            if total == 0.0 or not mine.size:
                continue
            for i, copies in zip(mine, apportion(numbers[mine], int(total)), strict=True):
                t = (columns.x[i, :d] - self.center) / self.radius
                single = min(int(copies), most)
                for _ in range(single):
                    share = SPREADS[seed] * float(rng.random()) ** 2
                    rows.append((1.0, label, t + share * (rng.uniform(-1.0, 1.0, size=d) - t)))
                if copies > single:
                    rows.append((float(copies - single), label, t))
        return Points(
            np.array([count for count, _, _ in rows]),
            np.array([float(label) for _, label, _ in rows]),
            np.clip(np.stack([t for _, _, t in rows]), -1.0, 1.0),
        )

    def singles(self, k: int) -> Points:
        """Return k single points near the center, labels in turn."""
        t = np.random.default_rng(0).uniform(-0.5, 0.5, size=(k, len(self.center)))
        return Points(np.ones(k), np.arange(k, dtype=np.float64) % self.loss.n_classes, t)

    def random(self, k: int) -> Points | None:
        """Return integer counts of points from random places, after their real counts have moved."""
        n, d = self.loss.n_classes, len(self.center)
        each = -(-min(k, math.ceil(SPARE * self.n_equations / d)) // n)
        t = np.random.default_rng(0).uniform(-1.0, 1.0, size=(n * each, d))
        labels = np.repeat(np.arange(n, dtype=float), each)
        rough = self.solve(Points(np.full(n * each, k / (n * each)), labels, t), float(k))
        if rough is None:
            return None
        counts = apportion(rough.counts, k)
        return Points(counts[counts > 0.0], labels[counts > 0.0], rough.t[counts > 0.0])

    def polished(self, points: Points) -> Found | None:
        """Return the dataset after steps against what it misses in exact arithmetic."""
        data = self.dataset(points)
        best, residual = data, relative_residual(self.loss, data, self.theta, self.h)
        for _ in range(2):
            if residual <= POLISHED:
                break
            missing = (
                missing_gradient(self.loss, data, self.theta, self.h)[:, 1:].ravel() / self.size
            )
            jacobian, _ = self.jacobian(points)
            points = self._moved(
                points, np.asarray(np.linalg.lstsq(jacobian, missing, rcond=1e-14)[0])
            )
            data = self.dataset(points)
            after = relative_residual(self.loss, data, self.theta, self.h)
            if after < residual:
                best, residual = data, after
        return (best, residual) if residual <= REALIZATION_RESIDUAL else None


class Search:
    """The search for few points: by columns where there are few equations."""

    def __init__(self, equations: Equations) -> None:
        self.equations, self.columns = equations, None
        if equations.n_equations <= MOST_EQUATIONS:
            loss, theta = equations.loss, equations.theta
            bounds = extended_bounds(loss, theta, equations.domain)
            self.columns = Columns(theta, equations.h, *bounds)
            self.columns.generate()

    def attempt(self, least: int, most: float) -> tuple[int, Found | None]:
        """Return a number of points, and so many points if they were found.

        The number is the first, from ``least`` to ``most``, that is promising, or ``least``.
        """
        equations, k = self.equations, least
        for start in self._starts(least, most):
            k = start.total
            solved = equations.solve(start)
            found = None if solved is None else equations.polished(solved)
            if found:
                return k, found
        return k, None

    def _starts(self, least: int, most: float) -> Iterator[Points]:
        """Yield places to start from, of one number of points."""
        if self.columns is None:
            if least <= MOST_SINGLE:
                yield self.equations.singles(least)
            start = self.equations.random(least)
            if start is not None:
                yield start
            return
        for nearly in NEARLY:
            whole = self.columns.whole(least, most, nearly)
            if whole is None:
                continue
            most = float(whole[1].sum())
            for seed in range(len(SPREADS)):
                yield self.equations.near(self.columns, *whole, seed)

    def fewest(self, bound: int) -> tuple[int, Found | None]:
        """Return the fewest points found, from the bound, or the largest number that was tried."""
        least, step, failed = bound, 1, bound - 1
        found: Found | None = None
        near = NEAR if self.columns else 1
        for i in range(near + FAR):
            k, found = self.attempt(least, math.inf)
            if found:
                break
            failed, step = k, step if i < near else 2 * step
            least = k + step
        if not found:
            return failed, None
        # What was skipped in a large step is bisected.
        while step > 1 and k - failed > (1 if self.columns else 1 + k // ROUGHLY):
            middle = (k + failed) // 2
            number, other = self.attempt(middle, k - 1)
            if other:
                k, found = number, other
            else:
                failed = middle
        return k, found


def realize_softmax_in_box(
    loss: Softmax, theta: FloatArray, h: FloatArray, domain: Domain, extra: int
) -> Realization:
    """Return few softmax points in the box with gradient h, whose rows sum to 0, and ``extra`` more."""
    if not h.any():
        return ship(Dataset.empty(len(theta) - loss.intercept), 0.0, LowerBound(0, "zero"))
    if loss.n_classes == 2:
        return _binary(loss, theta, h, domain, extra)
    assert isinstance(domain, Box)  # the caller has refused others
    bounds = np.stack(domain.bounds(len(theta) - loss.intercept))
    if not np.isfinite(bounds).all():
        raise UnsupportedCombinationError(
            f"with more than two classes the bounds of a box must be finite; got {domain!r}"
        )
    proof = _proved(loss, theta, h, domain)
    search = Search(Equations(loss, theta, h, domain))
    k, found = search.fewest(proof.value)
    if found and extra:
        k, found = search.attempt(k + extra, k + extra)
    if not found:
        raise UnrealizableGradientError(
            f"at least {proof.value} points are needed in {domain!r}, and no way to share the gradient "
            f"among them or more, up to {k}, was found: the box leaves their logits too little room. "
            "Widen the box, or move the target",
            direction=-theta if proof.direction is None else proof.direction,
        )
    note = ""
    if k > proof.value + extra:
        note = (
            f"{k - extra} points were found and {proof.value} are proved to be needed: with more than "
            "two classes in a box neither is known to be the fewest"
        )
    return ship(*found, proof, note)


def _binary(
    loss: Softmax, theta: FloatArray, h: FloatArray, domain: Domain, extra: int
) -> Realization:
    r"""Two classes are logistic regression: coefficients :math:`\theta_1 - \theta_0`, gradient h_1."""
    found = realize_bounded(Logistic(loss.intercept), *logit_difference(theta, h), domain, extra)
    data = Dataset(found.dataset.x, 0.5 * (found.dataset.y + 1.0), found.dataset.counts)
    return ship(data, relative_residual(loss, data, theta, h), found.proof, found.note)


def _proved(loss: Softmax, theta: FloatArray, h: FloatArray, domain: Box) -> LowerBound:
    """Return the better bound: that of unbounded inputs, or that of the relaxation."""
    proof = prove_unbounded(loss, theta, h, System(loss, theta, h, RANKS[0]))
    if theta.size > MOST_RELAXED:
        return proof
    v, multipliers = relaxed_dual(theta, h, *extended_bounds(loss, theta, domain))
    value, most = enough(loss, theta, h, v, multipliers, domain)
    if value <= max(proof.value, 1):
        return proof
    return LowerBound(value, BOUNDED, v, most, tuple(multipliers.ravel().tolist()))
