r"""Newton's method for problems of few parameters a model: exact Schur complements.

The models are :math:`\rho` and :math:`\theta_n = \rho - u_n`, and the unknowns :math:`\rho` and
:math:`u_n`: where a model is tied to the global one, :math:`u_n` is exactly 0. The Hessian of F is
arrow-shaped: each :math:`u_n` is coupled to rho only. With :math:`H_n = \nabla^2 L_n(\theta_n)`,
:math:`R_n = \nabla^2 r(u_n)`, :math:`G_n = \nabla L_n(\theta_n)` and :math:`g_n = \nabla r(u_n)`,
eliminating

.. math:: du_n = (H_n + R_n)^{-1}\,(G_n - g_n + H_n\,d\rho)

from the joint Newton system leaves, without a difference of nearly equal matrices,

.. math:: \Big[\sum_n R_n (H_n + R_n)^{-1} H_n\Big]\,d\rho
          = -\sum_n \big[g_n + R_n (H_n + R_n)^{-1} (G_n - g_n)\big].

**Where r has a kink** a step is Newton's on the smooth piece of F that the quadratic models of the
losses lead to, a semismooth Newton step. With :math:`G^0_n = G_n + H_n u_n`, the gradient of such a
model at :math:`\theta = \rho`, user n is tied if and only if :math:`|G^0_n| \le` kink: then
:math:`du_n = -u_n`, and the user adds :math:`H_n` and :math:`G^0_n` to the two sums. The others take
the step from a base: their :math:`u_n` or, where the model is lower there (as it is where :math:`u_n`
was 0), the point to which it descends from the kink. In place of :math:`R_n` stands

.. math:: a I + \tfrac12\,(r''(t) - a)\,(h \hat u^\top + \hat u h^\top), \qquad
          h = \frac{G_n}{r'(t)}, \; t = |u_n|, \; a = \frac{r'(t)}t,

:math:`G_n` being clipped to the ball of reports: equal to :math:`R_n` at the optimum, positive
semidefinite, and so apt farther away that u turns round in a few steps (K. D. Andersen,
E. Christiansen, A. R. Conn and M. L. Overton, SIAM J. Sci. Comput. 22, 2000). Last the models of all
losses, with r as it is, are searched along :math:`d\rho`: this needs no data. A step that lowers this
convex model of F, which has the slopes of F where the step begins, descends on F.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.envelope import Envelopes, envelopes
from gplconvex.newton import TINY, Jet, Smooth, minimize, solve_positive, start_below_kink
from gplconvex.parallel import blocks, map_on_cores
from gplconvex.participants import Attacker, GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer, lengths, norm
from gplconvex.rounding import UNIT
from gplconvex.solvers.monitor import Monitor
from gplconvex.solvers.solution import Raw

ROUNDING = 16.0
"""Units of rounding of the sums over the users, below which these are nothing but rounding."""

NOISE = 1e-13
"""Part of the values of quadratic models below which a change of them is nothing but rounding."""

SHORTEST = 1e-9
"""Part of a step of rho at which the search on the quadratic models ends."""

Ties = npt.NDArray[np.bool_]


def solve_newton(
    problem: Problem,
    rho: FloatArray,
    thetas: FloatArray,
    attacker: Attacker | None,
    monitor: Monitor,
) -> Raw:
    """Solve a problem, starting at rho (p,) and thetas (N, p); see the module's docstring."""
    if isinstance(attacker, ModelAttack) and attacker.regularizer_for(problem).kink > 0.0:
        rho, thetas, held = _beside_attacker(problem, rho, thetas, attacker, monitor)
        if held:
            return Raw(rho, thetas, "newton")
    losses, regularizer, p = problem.local_losses, problem.regularizer, len(rho)
    energy = _energy(problem, attacker)

    def oracle(points: FloatArray) -> Jet[FloatArray]:
        models = points.reshape(-1, p)
        rho, u = models[0], models[1:]
        thetas = rho - u
        value, pull, stiffness = energy(rho)
        values, gradients, hessians = losses.expansion(thetas)
        value = math.fsum([value, *values.tolist(), *regularizer.value(u).tolist()])
        if not math.isfinite(value):  # overflow far out: a line search steps back from here
            unknown = np.full_like(points, math.nan)
            return Jet(np.array([math.inf]), unknown, unknown, lambda shift: unknown, unknown)
        monitor.passes += 1.0
        reports = _nearest_reports(regularizer, u, gradients)
        gradient = np.concatenate([(pull + _sum(gradients))[None], reports - gradients])
        units = np.empty_like(models)
        units[1:] = np.diagonal(hessians, axis1=1, axis2=2)
        units[0] = units[1:].sum(axis=0) + np.diagonal(stiffness)
        at = _Point(regularizer, u, gradients, hessians, pull, stiffness, units[0])
        return Jet(
            np.array([value]),
            gradient.reshape(1, -1),
            units.reshape(1, -1),
            lambda shift: _newton_step(at, shift).reshape(1, -1),
            gradients,
            _floor(units, thetas, reports, gradients),
        )

    def report(points: FloatArray, jet: Jet[FloatArray]) -> bool:
        models = points.reshape(-1, p)
        monitor.report(float(jet.value[0]), models[0], models[0] - models[1:], jet.extra)
        return False  # as far as rounding allows

    u = np.zeros_like(thetas) if math.isinf(regularizer.kink) else rho - thetas
    start = np.concatenate([rho[None], u]).reshape(1, -1)
    models = minimize(oracle, start, report=report).point.reshape(-1, p)
    return Raw(models[0], models[0] - models[1:], "newton")


def _nearest_reports(regularizer: Regularizer, u: FloatArray, gradients: FloatArray) -> FloatArray:
    """Return the subgradients of r at u that are nearest to the gradients of the losses."""
    reports = regularizer.gradient(u)
    if regularizer.kink == 0.0:
        return reports
    away = np.any(u, axis=1, keepdims=True)
    return np.where(away, reports, _clipped(gradients, regularizer.kink))


def _clipped(vectors: FloatArray, radius: float) -> FloatArray:
    """Return vectors projected on a ball."""
    return vectors * np.minimum(1.0, radius / lengths(vectors))[:, None]


def _floor(
    units: FloatArray, thetas: FloatArray, reports: FloatArray, gradients: FloatArray
) -> float:
    r"""Return the size of a gradient, in its units, that is nothing but rounding.

    A predictor, of :math:`\theta_n^\top x`, is known to a unit of rounding of its summands, so
    that a gradient of L, in units of :math:`\sqrt{H_{jj}}`, is to one of
    :math:`\sum_j \sqrt{H_{jj}}\,|\theta_j|`. The sums over the users have a rounding of their own.
    """
    predictors = np.vecdot(np.sqrt(units[1:]), np.abs(thetas))
    summands = float(np.sum(lengths(reports) + lengths(gradients)))
    largest = max(float(units[0].max()), TINY)
    return UNIT * (norm(predictors) + ROUNDING * summands / math.sqrt(largest))


# -- a step ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    """What a step is computed from: what the users say at a point, and the attacker's term.

    Attributes
    ----------
    regularizer : Regularizer
    u, gradients : arrays, shape (N, p)
    hessians : array, shape (N, p, p)
        Of the losses, as the gradients.
    pull, stiffness : arrays, shape (p,) and (p, p)
        Gradient and Hessian of the attacker's term.
    units : array, shape (p,)
        Of rho.
    """

    regularizer: Regularizer
    u: FloatArray
    gradients: FloatArray
    hessians: FloatArray
    pull: FloatArray
    stiffness: FloatArray
    units: FloatArray


def _newton_step(at: _Point, shift: float) -> FloatArray:
    """Return the steps of rho and of all u, shape (N + 1, p)."""
    kink = at.regularizer.kink
    if kink == 0.0 or math.isinf(kink):  # nobody is tied, or everybody
        tied = np.full(len(at.u), kink > 0.0)
        step, still, turn, _ = _solve_arrow(at, at.u, at.gradients, shift, tied)
        return np.concatenate([step[None], still + turn])
    at_kink = at.gradients + _products(at.hessians, at.u)
    base, tied, values = _model_replies(at.regularizer, at_kink, at.hessians, at.u)
    at_base = at_kink - _products(at.hessians, base)
    step, still, turn, slope = _solve_arrow(at, base, at_base, shift, tied)
    # The models of the losses are quadratic, r is not: a search along rho that costs no pass.
    moved = at.hessians @ step
    rise = float((at.pull + _sum(at_kink)) @ step)
    bend = float((moved.sum(axis=0) + at.stiffness @ step) @ step)
    noise = NOISE * float(np.abs(values).sum())
    length = 1.0
    while True:
        here = base + still + length * turn
        u, _, ahead = _model_replies(at.regularizer, at_kink + length * moved, at.hessians, here)
        change = length * (rise + 0.5 * length * bend) + math.fsum(ahead - values)
        if not change > 1e-4 * length * slope + noise or length < SHORTEST:
            return np.concatenate([length * step[None], u - at.u])
        # Where a parabola of that slope and that change has its minimum.
        parabola = 0.5 * length * slope / (length * slope - change)
        length *= min(max(parabola, 0.1), 0.5)


def _solve_arrow(
    at: _Point,
    base: FloatArray,
    gradients: FloatArray,
    shift: float,
    tied: Ties,
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Solve the Newton system of the users who are not tied, and of rho.

    Parameters
    ----------
    at : _Point
    base, gradients : arrays, shape (N, p)
        All u from where the step starts, and the gradients there of the models of the losses.
    shift : float
        Times the units, added to the Hessian.
    tied : array of bool, shape (N,)
        Whose u stays 0.

    Returns
    -------
    step : array, shape (p,)
        Of rho.
    still, turn : arrays, shape (N, p)
        The step of all u is their sum: what it would be if rho stayed, and the rest.
    slope : float
        Along the step of rho.
    """
    hessians, p = at.hessians, len(at.pull)
    reports = at.regularizer.gradient(base)
    mismatch = gradients - reports
    schur = at.stiffness
    free: list[Any] = blocks(len(base), p**3)  # by their work, that of solving
    if tied.any():
        reports[tied] = gradients[tied]
        schur = schur + hessians[tied].sum(axis=0)
        others = np.flatnonzero(~tied)
        free = [others[part] for part in blocks(len(others), p**3)] if len(others) else []

    def eliminate(users: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return (H + R)^{-1} [G - g, H] of some users, and R times that, H summed."""
        h = hessians[users]
        curvature = _curvature(at.regularizer, base[users], gradients[users], h)
        total = h + curvature
        units = np.diagonal(total, axis1=1, axis2=2)
        if shift > 0.0:
            shifted = shift * units[:, :, None] * np.eye(p)
            curvature, total = curvature + shifted, total + shifted
        right = np.concatenate([mismatch[users, :, None], h], axis=2)
        solved = solve_positive(total, units, right)
        reduced = curvature @ solved
        return solved, reduced[..., 0], reduced[..., 1:].sum(axis=0)

    parts = map_on_cores(eliminate, free, p * hessians.size)
    for users, (_, slopes, schurs) in zip(free, parts, strict=True):
        reports[users] += slopes
        schur = schur + schurs
    slope = at.pull + _sum(reports)
    symmetric = 0.5 * (schur + schur.T)
    step = -solve_positive(symmetric[None], at.units[None], slope[None, :, None], shift)[0, :, 0]
    still, turn = np.zeros_like(base), np.zeros_like(base)
    for users, (solved, _, _) in zip(free, parts, strict=True):
        still[users], turn[users] = solved[..., 0], solved[..., 1:] @ step
    return step, still, turn, float(slope @ step)


def _model_replies(
    regularizer: Regularizer, at_kink: FloatArray, hessians: FloatArray, u: FloatArray
) -> tuple[FloatArray, Ties, FloatArray]:
    r"""Return approximate replies to quadratic models of the losses, where r has a kink.

    Of the model :math:`-\langle G^0, u\rangle + \tfrac12 u^\top H u + r(u)`, 0 is the minimizer if and
    only if :math:`|G^0| \le` kink. Otherwise u is returned or, if the model is lower there, its minimum
    on the ray along which it descends from 0, where r is linear.

    Returns
    -------
    u : array, shape (N, p)
    tied : array of bool, shape (N,)
        Whose u is 0.
    values : array, shape (N,)
        Of the models there.
    """
    steepness = lengths(at_kink)
    tied = steepness <= regularizer.kink
    if tied.all():
        return np.zeros_like(u), tied, np.zeros(len(u))
    direction = at_kink / np.where(tied, 1.0, steepness)[:, None]
    bend = np.vecdot(_products(hessians, direction), direction)
    length = (steepness - regularizer.kink) / np.maximum(bend, UNIT * steepness)
    ahead = length[:, None] * direction
    here = regularizer.value(u) - np.vecdot(at_kink - 0.5 * _products(hessians, u), u)
    there = regularizer.value(ahead) - length * (steepness - 0.5 * length * bend)
    better = there < here - 1e-3 * np.abs(there)  # by more than rounding
    found = np.where(better[:, None], ahead, u)
    values = np.where(better, there, here)
    return np.where(tied[:, None], 0.0, found), tied, np.where(tied, 0.0, values)


def _curvature(
    regularizer: Regularizer, u: FloatArray, gradients: FloatArray, hessians: FloatArray
) -> FloatArray:
    """Return the R of the module's docstring, for u other than 0 where r has a kink."""
    t = lengths(u)
    if regularizer.kink > 0.0:
        # R grows like 1/|u|: beyond 1e8 H it changes nothing but drowns H in H + R.
        size = np.trace(hessians, axis1=1, axis2=2)
        t = np.maximum(t, np.where(size > 0.0, 1e-8 * regularizer.kink / size, 0.0))
    a = regularizer.slope(t)
    bend = regularizer.curvature(t) - a
    if bend.any():
        t = np.where(t > 0.0, t, 1.0)
        h = _clipped(gradients, regularizer.radius) / (a * t)[:, None]
        half = (0.5 * bend / t)[:, None, None] * h[:, :, None] * u[:, None, :]
        curvature = half + np.swapaxes(half, 1, 2)
    else:
        curvature = np.zeros_like(hessians)
    diagonals = np.einsum("bii->bi", curvature)
    diagonals += a[:, None]
    return curvature


def _products(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """Return the product of each matrix with its vector."""
    products: FloatArray = np.matmul(matrices, vectors[..., None])[..., 0]
    return products


# -- attackers ---------------------------------------------------------------------------------------


def _energy(
    problem: Problem, attacker: Attacker | None
) -> Callable[[FloatArray], tuple[float, FloatArray, FloatArray]]:
    """Return the attacker's smooth term with its gradient and its Hessian."""
    p = math.prod(problem.shape)
    nothing = np.zeros((p, p))
    if isinstance(attacker, GradientAttack):
        pull = attacker.gradient.ravel()
        return lambda rho: (float(pull @ rho), pull, nothing)
    if isinstance(attacker, ModelAttack):
        tie, anchor = attacker.regularizer_for(problem), attacker.theta.ravel()
        return lambda rho: (
            float(tie.value(rho - anchor)),
            tie.gradient(rho - anchor),
            tie.hessian(rho - anchor),
        )
    return lambda rho: (0.0, np.zeros(p), nothing)


def _sum(vectors: FloatArray) -> FloatArray:
    """Return the sum over the users, rounded once."""
    total: FloatArray = vectors.sum(axis=0, dtype=np.longdouble).astype(np.float64)
    return total


def _beside_attacker(
    problem: Problem, rho: FloatArray, thetas: FloatArray, attacker: ModelAttack, monitor: Monitor
) -> tuple[FloatArray, FloatArray, bool]:
    """Return models at a kink of the attacker's term, and true, if that holds rho.

    Otherwise models of a lower F, from which no descent leads back to the kink.
    """
    tie, anchor = attacker.regularizer_for(problem), attacker.theta.reshape(1, -1)
    replies = thetas

    def server(points: FloatArray) -> Smooth[Envelopes]:
        nonlocal replies
        anchors = np.broadcast_to(points, replies.shape)
        found = envelopes(problem.local_losses, problem.regularizer, anchors, replies)
        monitor.passes += found.passes
        replies = np.where(np.isfinite(found.theta), found.theta, replies)
        return Smooth(
            np.array([math.fsum(found.value)]),
            _sum(found.gradient)[None],
            found.hessian.sum(axis=0)[None],
            np.diagonal(found.local_hessian, axis1=1, axis2=2).sum(axis=0)[None],
            found,
        )

    at_anchor = server(anchor)
    if norm(at_anchor.gradient) <= tie.kink:
        return anchor[0], at_anchor.extra.theta, True
    start = start_below_kink(server, tie, anchor, at_anchor, rho[None], np.ones(1, dtype=bool))
    return start[0], server(start).extra.theta, False
