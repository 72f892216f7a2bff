r"""Newton's method for problems of few parameters a model: exact Schur complements.

The Hessian of F is arrow-shaped: each personal model is coupled to rho only. With
:math:`H_n = \nabla^2 L_n(\theta_n)`, :math:`R_n = \nabla^2 r(u_n)`,
:math:`G_n = \nabla L_n(\theta_n)` and :math:`g_n = \nabla r(u_n)`, eliminating

.. math:: d\theta_n = (H_n + R_n)^{-1}\,(R_n\,d\rho - (G_n - g_n))

from the joint Newton system leaves, without a difference of nearly equal matrices,

.. math:: \Big[\sum_n R_n (H_n + R_n)^{-1} H_n\Big]\,d\rho
          = -\sum_n \big[g_n + R_n (H_n + R_n)^{-1} (G_n - g_n)\big].

Where r has a kink, the server's problem is solved instead: minimize the sum of the Moreau envelopes,
:math:`\Phi(\rho) = \sum_n M_n(\rho)`, smooth even there, whose Hessian is the same Schur complement at
the exact replies. Each evaluation asks all users for these, themselves found by Newton from the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.envelope import Envelopes, envelopes
from gplconvex.newton import Jet, Smooth, dense_jet, minimize, minimize_near, solve_positive
from gplconvex.parallel import blocks, map_on_cores
from gplconvex.participants import Attacker, GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import lengths, norm
from gplconvex.rounding import UNIT
from gplconvex.solvers.monitor import Monitor
from gplconvex.solvers.solution import Raw

FLOOR = 16.0
"""Units of rounding of the reports, below which the sum of these is nothing but rounding."""


def solve_newton(
    problem: Problem,
    rho: FloatArray,
    thetas: FloatArray,
    attacker: Attacker | None,
    monitor: Monitor,
) -> Raw:
    """Solve a problem, starting at rho (p,) and thetas (N, p); see the module's docstring."""
    kinks = [problem.regularizer.kink]
    if isinstance(attacker, ModelAttack):
        kinks.append(attacker.regularizer_for(problem).kink)
    run = _solve_jointly if max(kinks) == 0.0 else _solve_on_envelopes
    rho, thetas = run(problem, rho, thetas, attacker, monitor)
    return Raw(rho, thetas, "newton")


# -- all models together -----------------------------------------------------------------------------


def _solve_jointly(
    problem: Problem,
    rho: FloatArray,
    thetas: FloatArray,
    attacker: Attacker | None,
    monitor: Monitor,
) -> tuple[FloatArray, FloatArray]:
    losses, regularizer, p = problem.local_losses, problem.regularizer, len(rho)
    energy = _energy(problem, attacker)

    def oracle(points: FloatArray) -> Jet[FloatArray]:
        models = points.reshape(-1, p)
        rho, thetas = models[0], models[1:]
        u = rho - thetas
        value, server, server_hessian = energy(rho)
        value = math.fsum([value, *losses.value(thetas), *regularizer.value(u)])
        if not math.isfinite(value):  # overflow far out: a line search steps back from here
            unknown = np.full_like(points, math.nan)
            return Jet(np.array([math.inf]), unknown, unknown, lambda shift: unknown, unknown)
        monitor.passes += 1.0
        gradients, hessians = losses.gradient(thetas), losses.hessian(thetas)
        reports = regularizer.gradient(u)
        mismatch = gradients - reports
        diagonals = np.diagonal(hessians, axis1=1, axis2=2)
        units = diagonals + regularizer.slope(lengths(u))[:, None]
        server_units = diagonals.sum(axis=0) + np.diagonal(server_hessian)

        def eliminate(users: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
            """Return (H + R)^{-1} [G - g, H] of some users, and the sums of g and H times R that."""
            curvature = regularizer.hessian(u[users])
            total = hessians[users] + curvature
            right = np.concatenate([mismatch[users, :, None], hessians[users]], axis=2)
            solved = solve_positive(total, np.diagonal(total, axis1=1, axis2=2), right)
            reduced = curvature @ solved
            return solved, reduced[..., 0], reduced[..., 1:].sum(axis=0)

        def newton_step(shift: float) -> FloatArray:
            parts = map_on_cores(eliminate, blocks(len(thetas), p * p), hessians.size)
            solved, slopes, schurs = zip(*parts, strict=True)
            schur = server_hessian + np.sum(schurs, axis=0)
            slope = server + _sum(reports + np.concatenate(slopes))
            step = -solve_positive(
                0.5 * (schur + schur.T)[None], server_units[None], slope[None, :, None], shift
            )[0, :, 0]
            # R = (H + R) - H, so that (H + R)^{-1} R d = d - (H + R)^{-1} H d.
            local = [step - part[..., 1:] @ step - part[..., 0] for part in solved]
            return np.concatenate([step[None], *local]).reshape(1, -1)

        gradient = np.concatenate([(server + _sum(reports))[None], mismatch])
        floor = FLOOR * UNIT * (norm(server) + math.fsum(lengths(reports) + lengths(gradients)))
        return Jet(
            np.array([value]),
            gradient.reshape(1, -1),
            np.concatenate([server_units[None], units]).reshape(1, -1),
            newton_step,
            gradients,
            np.array([floor]),
        )

    def report(points: FloatArray, jet: Jet[FloatArray]) -> bool:
        models = points.reshape(-1, p)
        monitor.report(float(jet.value[0]), models[0], models[1:], jet.extra)
        return False  # as far as rounding allows

    start = np.concatenate([rho[None], thetas]).reshape(1, -1)
    models = minimize(oracle, start, report=report).point.reshape(-1, p)
    return models[0], models[1:]


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


# -- the server's problem ----------------------------------------------------------------------------


def _solve_on_envelopes(
    problem: Problem,
    rho: FloatArray,
    thetas: FloatArray,
    attacker: Attacker | None,
    monitor: Monitor,
) -> tuple[FloatArray, FloatArray]:
    losses, replies = problem.local_losses, thetas
    pull = attacker.gradient.ravel() if isinstance(attacker, GradientAttack) else np.zeros_like(rho)

    def server(points: FloatArray) -> Smooth[Envelopes]:
        nonlocal replies
        anchors = np.broadcast_to(points, replies.shape)
        found = envelopes(losses, problem.regularizer, anchors, replies)
        monitor.passes += found.passes
        replies = np.where(np.isfinite(found.theta), found.theta, replies)
        hessian = found.hessian.sum(axis=0)
        return Smooth(
            np.array([math.fsum([*found.value, float(pull @ points[0])])]),
            (pull + _sum(found.gradient))[None],
            0.5 * (hessian + hessian.T)[None],
            # Where models part at a kink an envelope is flat, but never steeper than the local loss.
            np.diagonal(found.local_hessian, axis1=1, axis2=2).sum(axis=0)[None],
            found,
            np.array([FLOOR * UNIT * (norm(pull) + math.fsum(lengths(found.gradient)))]),
        )

    def report(points: FloatArray, jet: Jet[Smooth[Envelopes]]) -> bool:
        found = jet.extra.extra
        monitor.report(float(jet.value[0]), points[0], found.theta, found.gradient)
        return False  # as far as rounding allows

    if isinstance(attacker, ModelAttack):
        # Phi(rho) + r(rho - theta): the same shape as a local problem, theta being the anchor.
        tie, anchor = attacker.regularizer_for(problem), attacker.theta.reshape(1, -1)
        point, smooth, _ = minimize_near(server, tie, anchor, rho[None], report)
        return point[0], smooth.extra.theta

    def oracle(points: FloatArray) -> Jet[Smooth[Envelopes]]:
        f = server(points)
        return dense_jet(f.value, f.gradient, f.hessian, f.units, f, f.floor)

    found = minimize(oracle, rho[None], report=report)
    return found.point[0], found.jet.extra.extra.theta
