r"""L-BFGS for problems of many parameters a model: passes over the data are what counts.

All models :math:`(\rho, \theta_1, \ldots, \theta_N)` move together. The limited-memory BFGS recursion
(J. Nocedal, Math. Comp. 35, 1980) starts from an approximate Hessian (see `gplconvex.solvers.metric`)
that is rebuilt at a few of the iterations. Along the direction each model has a step length of its own:
Newton's method in these N + 1 numbers needs the predictors of the models and of the direction, both
known, so that an iteration costs one pass: the predictors of the direction, and the gradient.

A step is accepted by its derivatives, which show what values can no longer resolve: along it the
slope must have fallen to a tenth, and no other lengths may promise much more. Values only veto.

Where r has a kink some models coincide. A user is *tied* when :math:`\theta_n = \rho`, and rho is
*pinned* when it is the model of an attacker; among the others r is smooth. Users are tied when that is
optimal given rho, and untied when it is not and that is the larger error.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.local_losses import Jet
from gplconvex.participants import Attacker, GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer, lengths, norm
from gplconvex.rounding import UNIT
from gplconvex.solvers.metric import ArrowMetric, Coupling
from gplconvex.solvers.monitor import Monitor
from gplconvex.solvers.solution import Raw

MEMORY = 20
"""Pairs of steps and changes of the gradient that are remembered; fewer where they fill a GiB."""

MEMORY_NUMBERS = 2**27

REBUILT = (0, 3, 8, 16)
"""Iterations before which the metric is rebuilt, if the models have moved; then every `LATER`."""

LATER = 60

FAR = 0.03
"""Part of their norm by which the models must have moved for a new metric."""

FLOOR = 0.3
r"""The metric's ridge is raised to this times :math:`|\nabla F|/|w|`, w being all models: what is
flatter than that would send a step far beyond w. Without it a tiny nu costs twice the passes."""

MAX_ITERATIONS = 5000

SEED = 0
"""Of the sampling in the metric: the same problem gives the same iterates."""

FLAT = 0.1
"""Part of the initial slope to which a step must reduce it."""

NEAR = 0.02
"""Part of it that better step lengths may still gain."""

HALF = 0.5
"""Part of a slope to which the slope may rise again beyond a minimum, or the step was too long."""

TRIALS = 20
"""Step lengths tried: half of them for the best, the others for one that is just downhill."""

BLOCKED = 1e-3
"""Part of what a step promised: a kink that leaves no more than this is met by `merge`."""

HALVINGS = 60
"""Of a first step off a kink; beyond them it is lost in rounding."""

SINGLE = 2.0**-22
"""A change of the gradient is computed in single precision while the gradient is longer than this times
the bound of the summands: then its rounding, 2^-24 of these, is a quarter of it at most and in fact far
less."""

NOISE = 64.0 * UNIT
"""Relative differences of values that may be rounding."""

Mask = npt.NDArray[np.bool_]


def solve_lbfgs(
    problem: Problem,
    rho: FloatArray,
    thetas: FloatArray,
    attacker: Attacker | None,
    monitor: Monitor,
) -> Raw:
    """Solve a problem, starting at rho (p,) and thetas (N, p); see the module's docstring."""
    objective = _Objective(problem, attacker, monitor)
    rng = np.random.default_rng(SEED)
    point = objective.start(rho, thetas)
    memory = _Memory(point.models.size)
    first = objective.error(point)
    metrics, fresh, built_at = 0, False, point.models
    metric: ArrowMetric | None = None
    for iteration in range(MAX_ITERATIONS):
        due = metric is None or iteration in REBUILT or iteration % LATER == LATER - 1
        moved = objective.tie(point) if due else objective.untie(point)
        if moved is not point:
            memory.clear()
        far = due and norm(moved.models - built_at) > FAR * norm(moved.models)
        if metric is None or far or moved is not point:
            metric = ArrowMetric(problem.local_losses, moved.z, objective.coupling(moved), rng)
            metrics, fresh, point, built_at = metrics + 1, True, moved, moved.models
        step = memory.direction(point.gradient, metric)
        new = objective.search(point, step)
        if new is None and objective.single:
            point = objective.in_double(point) if point.exact else objective.refined(point)
            continue
        blocked = new is None or objective.is_blocked(point, new, step)
        merged = objective.merge(point, step) if blocked else point
        if new is None or merged is not point:
            if merged is point and fresh and not memory:
                break  # not even a new metric sees a way down: rounding is all that is left
            memory.clear()
            point, metric = merged, None
            continue
        memory.add(new.models - point.models, new.gradient - point.gradient)
        if blocked:  # by a kink that is not met yet: what is remembered leads there again and again
            memory.clear()
            metric = None
        point, fresh = objective.refined(new) if objective.is_coarse(new) else new, False
        monitor.report(point.value, point.models[0], point.models[1:], point.slopes)
        if monitor.is_good_enough(objective.error(point) / first):
            if not objective.rough:
                break
            point = objective.refined(point)
    return Raw(point.models[0], point.models[1:], "lbfgs", {"metrics": float(metrics)})


class _Memory:
    """Pairs (s, y) of steps and changes of the gradient, and the two-loop recursion."""

    def __init__(self, size: int) -> None:
        self._pairs: deque[tuple[FloatArray, FloatArray, float]] = deque(
            maxlen=max(3, min(MEMORY, MEMORY_NUMBERS // (2 * size)))
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def clear(self) -> None:
        """Forget all pairs: they belong to another function."""
        self._pairs.clear()

    def add(self, step: FloatArray, change: FloatArray) -> None:
        """Remember a pair; its product is positive, F being convex, unless it is rounding."""
        product = float(np.vdot(step, change))
        if product > 0.0:
            self._pairs.append((step, change, product))

    def direction(self, gradient: FloatArray, metric: ArrowMetric) -> FloatArray:
        """Return the quasi-Newton step."""
        rest, factors = gradient.copy(), []
        for s, y, product in reversed(self._pairs):
            factors.append(float(np.vdot(s, rest)) / product)
            rest -= factors[-1] * y
        step = metric.solve(rest)
        for (s, y, product), factor in zip(self._pairs, reversed(factors), strict=True):
            step += (factor - float(np.vdot(y, step)) / product) * s
        return -step


@dataclass(frozen=True)
class _Point:
    """All models (N + 1, p), rho first, and what is known there.

    ``z`` are the predictors, ``w`` the residuals times multiplicities, ``slopes`` the gradients of the
    local losses (N, p), ``gradient`` that of F for the models that move: 0 for tied users, whose part is
    rho's, and for a rho that is pinned. ``size`` bounds the sums over points in it that were computed
    in single precision.
    """

    models: FloatArray
    z: list[FloatArray]
    w: list[FloatArray]
    tied: Mask
    pinned: bool
    value: float
    slopes: FloatArray
    server: FloatArray
    gradient: FloatArray
    size: float

    @property
    def exact(self) -> bool:
        """Whether the gradient is computed in double precision."""
        return self.size == 0.0


class _Objective:
    """F, an attacker's term included, and its ties."""

    def __init__(self, problem: Problem, attacker: Attacker | None, monitor: Monitor) -> None:
        self.losses = problem.local_losses
        self.regularizer = problem.regularizer
        self.nu = problem.nu
        self.monitor = monitor
        self.single = self.losses.has_single
        self.base: _Point | None = None
        p = math.prod(problem.shape)
        self.pull, self.anchor = np.zeros(p), np.zeros(p)
        self.leash: Regularizer | None = None
        if isinstance(attacker, GradientAttack):
            self.pull = attacker.gradient.ravel()
        elif isinstance(attacker, ModelAttack):
            self.leash, self.anchor = attacker.regularizer_for(problem), attacker.theta.ravel()

    @property
    def rough(self) -> bool:
        """Whether nothing is computed in double precision yet."""
        return self.single and self.base is None

    def start(self, rho: FloatArray, thetas: FloatArray) -> _Point:
        """Return the first point: models that are equal at a kink are tied."""
        kink = 0.0 if self.leash is None else self.leash.kink
        rho = self.anchor if math.isinf(kink) else rho
        if math.isinf(self.regularizer.kink):
            thetas = np.tile(rho, (len(thetas), 1))
        tied = (self.regularizer.kink > 0.0) & (thetas == rho).all(axis=1)
        pinned = kink > 0.0 and bool((rho == self.anchor).all())
        return self.at(np.concatenate([rho[None], thetas]), tied, pinned)

    def predictors(self, models: FloatArray) -> list[FloatArray]:
        """Return predictors, for half a pass."""
        self.monitor.passes += 0.5
        return self.losses.predictors(models, single=self.rough)

    def at(self, models: FloatArray, tied: Mask, pinned: bool) -> _Point:
        """Return the point at these models, for a pass."""
        z = self.predictors(models[1:])
        jet = self.losses.jet(z, z, np.zeros(len(tied)))
        return self.at_jet(models, jet, tied, pinned, self.value(models, jet))

    def value(self, models: FloatArray, jet: Jet) -> float:
        """Return F."""
        rho, thetas = models[0], models[1:]
        terms = [float(self.pull @ rho), *jet.values, *self.regularizer.value(rho - thetas)]
        terms += [*(self.nu * np.einsum("np,np->n", thetas, thetas))]
        if self.leash is not None:
            terms.append(float(self.leash.value(rho - self.anchor)))
        return math.fsum(terms) if np.isfinite(terms).all() else math.inf

    def gradients(self, jet: Jet, thetas: FloatArray) -> tuple[FloatArray, float]:
        """Return the gradients of the local losses, for half a pass, and the size of what is rounded.

        Known at a `refined` point, they change by what residuals have changed since: a small sum.
        """
        self.monitor.passes += 0.5
        known: FloatArray | float = 0.0
        w = jet.w
        if self.base is not None:
            known, thetas = self.base.slopes, thetas - self.base.models[1:]
            w = [new - old for new, old in zip(w, self.base.w, strict=True)]
        slopes = known + 2.0 * self.nu[:, None] * thetas
        slopes += self.losses.pullback(w, single=self.single)
        return slopes, self.losses.pullback_size(w) if self.single else 0.0

    def at_jet(
        self, models: FloatArray, jet: Jet, tied: Mask, pinned: bool, value: float
    ) -> _Point:
        """Return the point where the losses are known, for half a pass."""
        rho, thetas = models[0], models[1:]
        slopes, size = self.gradients(jet, thetas)
        reports = np.where(tied[:, None], slopes, self.regularizer.gradient(rho - thetas))
        server = self.pull + reports.sum(axis=0)
        gradient = np.concatenate([server[None], slopes - reports])
        if pinned:
            gradient[0] = 0.0
        elif self.leash is not None:
            gradient[0] += self.leash.gradient(rho - self.anchor)
        return _Point(models, jet.z, jet.w, tied, pinned, value, slopes, server, gradient, size)

    def is_coarse(self, point: _Point) -> bool:
        """Return whether rounding to single precision may matter to the gradient."""
        return not point.exact and norm(point.gradient) <= SINGLE * point.size

    def refined(self, point: _Point) -> _Point:
        """Return the point in double precision, from which on changes are computed in single."""
        exact = self.in_double(point)
        self.single, self.base = True, exact
        return exact

    def in_double(self, point: _Point) -> _Point:
        """Return the point in double precision, in which everything is computed from here on."""
        self.single, self.base = False, None
        return self.at(point.models, point.tied, point.pinned)

    def error(self, point: _Point) -> float:
        """Return the norm of the gradient, and of what is missing to the optimality of the ties."""
        excess = float(self._excess(point).max())
        return norm(point.gradient) + max(0.0, excess, self._leash_excess(point))

    def _excess(self, point: _Point) -> FloatArray:
        """Return by how much the gradients of tied users exceed what the kink allows, (N,)."""
        return np.where(point.tied, lengths(point.slopes) - self.regularizer.kink, 0.0)

    def _leash_excess(self, point: _Point) -> float:
        """Return by how much the pull on a pinned rho exceeds what its kink allows."""
        if not point.pinned or self.leash is None:
            return 0.0
        return norm(point.server) - self.leash.kink

    def coupling(self, point: _Point) -> Coupling:
        """Return what the metric must know."""
        rho, thetas = point.models[0], point.models[1:]
        slopes, free = np.zeros(len(thetas)), ~point.tied
        if free.any():
            slopes[free] = self.regularizer.slope(lengths(rho - thetas[free]))
        server = 0.0
        if self.leash is not None and not point.pinned:
            server = float(self.leash.slope(lengths(rho - self.anchor)))
        size = norm(point.models)
        return Coupling(
            slopes=slopes,
            tied=point.tied,
            pinned=point.pinned,
            server=server,
            ridge=2.0 * self.nu,
            floor=FLOOR * norm(point.gradient) / size if size > 0.0 else math.inf,
        )

    # -- along a direction ---------------------------------------------------------------------------

    def search(self, point: _Point, step: FloatArray) -> _Point | None:
        """Return the point where a step along ``step`` leads, or None where none is downhill."""
        downhill = float(np.vdot(point.gradient, step))
        if not downhill < 0.0:
            return None
        tied = np.concatenate([[False], point.tied])
        step = np.where(tied[:, None], step[0], step)
        dz = self.predictors(step[1:])
        # Lengths are base + s * direction; the slope along that direction was -steep at the base.
        base, direction, steep, s = np.zeros(len(step)), np.ones(len(step)), -downhill, 1.0
        found, ceiling = None, point.value + NOISE * (1.0 + abs(point.value))
        for trial in range(TRIALS):
            t = base + s * direction
            t[tied] = t[0]
            models = point.models + t[:, None] * step
            models[tied] = models[0]
            jet = self.losses.jet(point.z, dz, t[1:])
            first, second, row = self._derivatives(point, models, step, jet)
            along, newton = float(first @ direction), _solve_arrow(first, second, row)
            # Far out, where F is nearly flat, a gentle slope may be beyond a valley.
            lower = self.value(models, jet) <= ceiling
            if lower and along <= HALF * steep and np.isfinite(newton).all():
                found, base, s = (models, jet), t, 1.0
                best = abs(float(first @ t)) <= -FLAT * downhill
                best = best and -float(first @ newton) <= -NEAR * downhill
                limit, largest = 3.0 * np.abs(t).max(), np.abs(newton).max()
                direction = newton * (limit / largest) if largest > limit else newton
                steep = -float(first @ direction)
                if best or steep <= 0.0 or trial >= TRIALS // 2:
                    break
            else:  # too far: back to where the secant of the slopes vanishes
                secant = steep / (steep + along) if math.isfinite(along) else 0.0
                s *= min(max(secant, 0.1), 0.5)
        if found is None:
            return None
        value = self.value(*found)
        moved = bool((found[0] != point.models).any())
        if not moved or value > ceiling:
            return None
        return self.at_jet(*found, point.tied, point.pinned, value)

    @np.errstate(over="ignore", invalid="ignore")
    def _derivatives(
        self,
        point: _Point,
        models: FloatArray,
        step: FloatArray,
        jet: Jet,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return F's derivatives by the N + 1 step lengths: first, second, and those by t_0 and t_n."""
        d0, own, free = step[0], step[1:], ~point.tied
        loss = jet.slopes + 2.0 * self.nu * np.einsum("np,np->n", models[1:], own)
        bend = jet.bends + 2.0 * self.nu * np.einsum("np,np->n", own, own)
        first, second, row = np.zeros(len(step)), np.ones(len(step)), np.zeros(len(own))
        first[0] = float(self.pull @ d0) + loss[point.tied].sum()
        second[0] = bend[point.tied].sum()
        if free.any():
            g, bends = _along(self.regularizer, (models[0] - models[1:])[free], d0, own[free])
            first[0] += float(np.sum(g @ d0))
            second[0] += float(np.sum(bends[0]))
            first[1:][free] = loss[free] - np.einsum("np,np->n", g, own[free])
            second[1:][free] = bend[free] + bends[2]
            row[free] = -bends[1]
        if point.pinned:
            first[0], second[0], row[:] = 0.0, 1.0, 0.0
        elif self.leash is not None:
            g, bends = _along(self.leash, models[:1] - self.anchor, d0, np.zeros_like(d0)[None])
            first[0] += float(np.sum(g @ d0))
            second[0] += float(np.sum(bends[0]))
        return first, second, row

    # -- ties ----------------------------------------------------------------------------------------

    def tie(self, point: _Point) -> _Point:
        r"""Tie the users for whom that is optimal given rho, and untie others; pin rho likewise.

        The reply to rho is rho itself if and only if :math:`|\nabla L_n(\rho)| \le` kink: tying, like
        pinning, minimizes F exactly in one model.
        """
        kink = self.regularizer.kink
        if 0.0 < kink < math.inf and not point.tied.all():
            rho = point.models[0]
            common = np.tile(rho, (len(point.tied), 1))
            z = self.predictors(common)
            jet = self.losses.jet(z, z, np.zeros(len(common)))
            tied = lengths(self.gradients(jet, common)[0]) <= kink
            if (tied & ~point.tied).any():
                tied = tied | point.tied
                models = np.where(np.concatenate([[False], tied])[:, None], rho, point.models)
                point = self.at(models, tied, point.pinned)
        kink = 0.0 if self.leash is None else self.leash.kink
        if 0.0 < kink < math.inf and not point.pinned:
            models = point.models.copy()
            models[0] = self.anchor
            models[1:][point.tied] = self.anchor
            moved = self.at(models, point.tied, False)
            if norm(moved.server) <= kink:
                gradient = moved.gradient.copy()
                gradient[0] = 0.0
                point = replace(moved, pinned=True, gradient=gradient)
        return self.untie(point)

    def is_blocked(self, point: _Point, new: _Point, step: FloatArray) -> bool:
        """Return whether a kink is in the way of a step, so that next to nothing was gained."""
        if not 0.0 < self.regularizer.kink < math.inf:
            return False
        promised = -float(np.vdot(point.gradient, step))
        gained = point.value - new.value
        return gained <= BLOCKED * promised and promised > NOISE * (1.0 + abs(point.value))

    def merge(self, point: _Point, step: FloatArray) -> _Point:
        r"""Tie the users whose kink blocks a step.

        Of all subgradients where :math:`u_n = 0`, with A the report of all others, the shortest has
        :math:`g = (\nabla L_n - A)/2`; if :math:`|g| \le` kink, both models descend as one.
        """
        kink, u = self.regularizer.kink, point.models[0] - point.models[1:]
        blocking = ~point.tied & (lengths(u) <= lengths(step[0] - step[1:]))
        if not 0.0 < kink < math.inf or point.pinned or not blocking.any():
            return point
        others = point.gradient[0] - self.regularizer.gradient(np.where(blocking[:, None], u, 1.0))
        blocking &= lengths(point.slopes - others) <= 2.0 * kink
        if not blocking.any():
            return point
        merged = np.concatenate([[False], blocking])[:, None]
        models = np.where(merged, point.models[0], point.models)
        return self.at(models, point.tied | blocking, point.pinned)

    def untie(self, point: _Point) -> _Point:
        """Untie users, or unpin rho, where that error is larger than all others together."""
        error, excess = norm(point.gradient), self._excess(point)
        if excess.max() > error:
            return self._released(point, excess > 0.1 * excess.max())
        if self.leash is not None and self._leash_excess(point) > error:
            return self._unpinned(point, self.leash)
        return point

    def _released(self, point: _Point, released: Mask) -> _Point:
        r"""Move models off the kink, where F falls at the rate :math:`|\nabla L_n| -` kink.

        The length is that of Newton's step, halved until the slope is still not positive.
        """
        steep = np.where(released, lengths(point.slopes), 1.0)
        direction = np.where(released[:, None], -point.slopes / steep[:, None], 0.0)
        dz = self.predictors(direction)
        jet = self.losses.jet(point.z, dz, np.zeros(len(steep)))
        length = (steep - self.regularizer.kink) / (jet.bends + 2.0 * self.nu)
        length = np.where(released, np.where(np.isfinite(length), length, 1.0), 0.0)
        for _ in range(HALVINGS):
            jet = self.losses.jet(point.z, dz, length)
            moved = point.models[1:] + length[:, None] * direction
            slope = jet.slopes + 2.0 * self.nu * np.einsum("np,np->n", moved, direction)
            far = released & ~(slope + self.regularizer.kink <= 0.0)
            if not far.any():
                models, tied = np.concatenate([point.models[:1], moved]), point.tied & ~released
                return self.at_jet(models, jet, tied, point.pinned, self.value(models, jet))
            length[far] *= 0.5
        return point

    def _unpinned(self, point: _Point, leash: Regularizer) -> _Point:
        """Move rho, and the models tied to it, off the attacker's model, as far as is told above."""
        steep = norm(point.server)
        moving = np.concatenate([[True], point.tied])[:, None]
        step = np.where(moving, -point.server / steep, 0.0)
        dz, unpinned = self.predictors(step[1:]), replace(point, pinned=False)
        # Near enough for the curvature, far enough to leave half of the digits to the direction: along
        # the ray the leash adds none, across it, where a rounded difference points, 1/|u|.
        length, newton = math.sqrt(UNIT) * (1.0 + norm(self.anchor)), 0.0
        for _ in range(HALVINGS):
            models = point.models + length * step
            jet = self.losses.jet(point.z, dz, np.full(len(point.tied), length))
            first, second, _ = self._derivatives(unpinned, models, step, jet)
            if newton == 0.0:
                newton = length = (steep - leash.kink) / second[0] if second[0] > 0.0 else 1.0
            elif first[0] <= 0.0:
                return self.at_jet(models, jet, point.tied, False, self.value(models, jet))
            else:
                length *= 0.5
        return point


def _along(
    regularizer: Regularizer, u: FloatArray, d0: FloatArray, own: FloatArray
) -> tuple[FloatArray, tuple[FloatArray, FloatArray, FloatArray]]:
    """Return gradients at u (N, p), and the second derivatives (d0, d0), (d0, own), (own, own)."""
    t = lengths(u)
    a, c = regularizer.slope(t), regularizer.curvature(t)
    unit = u / np.where(t > 0.0, t, 1.0)[:, None]
    x, y = unit @ d0, np.einsum("np,np->n", unit, own)
    return a[:, None] * u, (
        a * float(d0 @ d0) + (c - a) * x * x,
        a * (own @ d0) + (c - a) * x * y,
        a * np.einsum("np,np->n", own, own) + (c - a) * y * y,
    )


def _solve_arrow(first: FloatArray, second: FloatArray, row: FloatArray) -> FloatArray:
    """Return Newton's step for an arrow-shaped Hessian: a diagonal, and the first row beside it."""
    own = np.where(second[1:] > 0.0, second[1:], 1.0)
    schur = second[0] - float(np.sum(row * row / own))
    step = (float(np.sum(row * first[1:] / own)) - first[0]) / schur if schur > 0.0 else 0.0
    return np.concatenate([[step], (-first[1:] - row * step) / own])
