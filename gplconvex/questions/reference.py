r"""The search for what an audit of a goal rests on: multipliers, and reference models.

Nothing here has to be trusted: `gplconvex.questions.audit` evaluates what comes out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize

from gplconvex._types import FloatArray
from gplconvex.domains import Domain
from gplconvex.losses import Loss
from gplconvex.participants import GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.questions.worst import Worst, excess, support, worst_point
from gplconvex.regularizers import HardConsensus, norm
from gplconvex.solvers import Solution, fits_newton, solve

EVALUATIONS = 300
"""How many problems are solved at most for the multipliers."""

CUTS = 24
"""How many worst points are collected at most for the reference."""

SHARES = 16
"""How many models between 0 and the honest optimum are tried first."""

Point = tuple[FloatArray, tuple[FloatArray, ...]]


def multipliers(problem: Problem, a: FloatArray, c: FloatArray) -> tuple[FloatArray, Solution]:
    r"""Return the best multipliers found, and the solution with the report :math:`-A^\top\mu`.

    The dual value :math:`\mu^\top c + \min_\rho\,[\Phi - \langle A^\top\mu, \rho\rangle]` is concave
    with gradient :math:`c - A\rho(\mu)`. A report that the regularizer cannot have is shortened.
    """
    radius = problem.regularizer.radius * (1.0 - 1e-12)
    scale = np.linalg.norm(a, axis=1)
    last: Solution | None = None

    def solved(mu: FloatArray) -> Solution:
        report = -(a.T @ mu).reshape(problem.shape)
        return solve(problem, attacker=GradientAttack(report), start=last)

    def plausible(mu: FloatArray) -> tuple[FloatArray, float]:
        size = norm(a.T @ mu)
        share = 1.0 if size <= radius else radius / size
        return share * mu, share

    def dual(scaled: FloatArray) -> tuple[float, FloatArray]:
        nonlocal last
        mu, share = plausible(scaled / scale)
        last = solved(mu)
        gradient = c - a @ last.rho.ravel()
        if share < 1.0:  # the gradient of share * mu
            along = a @ (a.T @ mu)
            gradient = share * (gradient - along * (gradient @ mu) / (mu @ along))
        return -(last.value + float(mu @ c)), -gradient / scale

    found = minimize(
        dual,
        np.zeros(len(c)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(c),
        options={"maxfun": EVALUATIONS, "ftol": 1e-13, "gtol": 1e-10},
    )
    mu, _ = plausible(np.maximum(found.x, 0.0) / scale)
    return mu, solved(mu)


def reference(problem: Problem, full: Problem, least: float, domain: Domain, nu: float) -> Point:
    r"""Return models that make :math:`(\text{least} - \Phi)/S(t)` large.

    A concave over a convex function. The attacker's model t decides; the others are optimal for it.
    First multiples of the honest optimum are tried; if none proves anything, the honest optimum is
    returned, which proves at least that points are needed. Then, the value k being reached,
    :math:`\Phi + k S` is minimized, S being the largest loss of points that are collected one by one,
    each the worst for the model before it.
    """
    best = _Search(problem, least, domain, nu)
    honest = solve(full)
    start = honest.rho.ravel().copy()
    start[~best.bounded] = 0.0
    if not math.isfinite(best.worst(start).value):
        return honest.rho, honest.thetas
    for share in np.linspace(0.0, 1.0, SHARES + 1):
        best.try_model(share * start)
    if not best.ratio > 0.0:
        return honest.rho, honest.thetas
    if fits_newton(problem):
        best.cut()
    models = (best.rho, *best.thetas, best.t.reshape(problem.shape))
    for model in models:
        model.setflags(write=False)
    return models[0], models[1:]


class _Search:
    """The best model of the attacker so far, with what is evaluated on the way."""

    def __init__(self, problem: Problem, least: float, domain: Domain, nu: float) -> None:
        self.problem, self.least, self.domain, self.nu = problem, least, domain, nu
        self.ratio = -math.inf
        self.last: Solution | None = None
        features = np.eye(problem.n_features)
        ends = [(support(domain, e)[0], support(domain, -e)[0]) for e in features]
        ends += [(0.0, 0.0)] * problem.loss.intercept
        bounded = np.isfinite(ends).all(axis=1)
        self.bounded = np.broadcast_to(
            bounded.reshape(-1, *[1] * (len(problem.shape) - 1)), problem.shape
        ).ravel()

    def worst(self, t: FloatArray) -> Worst:
        return worst_point(self.problem.loss, t.reshape(self.problem.shape), self.domain)

    def try_model(self, t: FloatArray) -> Worst:
        """Keep t if it is better, and return the point that it fits worst."""
        worst = self.worst(t)
        value, _, rho, thetas = self.honest(t)
        ratio = (self.least - value) / worst.value
        if ratio > self.ratio:
            self.ratio, self.t, self.rho, self.thetas = ratio, t, rho, thetas
        return worst

    def honest(self, t: FloatArray) -> tuple[float, FloatArray, FloatArray, tuple[FloatArray, ...]]:
        r"""Return :math:`\min_\rho \sum M_n(\rho) + r(\rho - t) + \nu|t|^2`, its gradient, the models.

        The gradient is the pull of the honest users, which is :math:`-\nabla r`, and the ridge's.
        """
        problem, model = self.problem, t.reshape(self.problem.shape)
        if isinstance(problem.regularizer, HardConsensus):
            rho, thetas = model, (model,) * problem.n_users
            value = problem.energy(t, np.tile(t, (problem.n_users, 1)))
        else:
            self.last = solve(problem, attacker=ModelAttack(model), start=self.last)
            rho, thetas, value = self.last.rho, self.last.thetas, self.last.value
        pull = problem.local_losses.gradient(np.stack([theta.ravel() for theta in thetas]))
        gradient = pull.sum(axis=0) + 2.0 * self.nu * t
        return value + self.nu * norm(t) ** 2, gradient, rho, thetas

    def cut(self) -> None:
        """Improve the model by cutting planes."""
        loss, shape, free = self.problem.loss, self.problem.shape, self.bounded
        points = [self.worst(t) for t in (self.t, -self.t)]

        def model(y: FloatArray) -> FloatArray:
            t = np.zeros(len(free))
            t[free] = y[:-1]
            return t

        def objective(y: FloatArray) -> tuple[float, FloatArray]:
            value, gradient, _, _ = self.honest(model(y))
            return value + self.ratio * y[-1], np.append(gradient[free], self.ratio)

        def room(y: FloatArray) -> FloatArray:
            t = model(y).reshape(shape)
            return np.array([y[-1] - _loss(loss, t, point) for point in points])

        def slopes(y: FloatArray) -> FloatArray:
            t = model(y).reshape(shape)
            rows = [np.append(-_loss_gradient(loss, t, point)[free], 1.0) for point in points]
            return np.stack(rows)

        for _ in range(CUTS):
            level = max(_loss(loss, self.t.reshape(shape), point) for point in points)
            constraint: Any = {"type": "ineq", "fun": room, "jac": slopes}
            found = minimize(
                objective,
                np.append(self.t[free], level),
                jac=True,
                method="SLSQP",
                constraints=constraint,
                options={"maxiter": 50, "ftol": 1e-9},
            )
            worst = self.try_model(model(found.x))
            if not worst.value > found.x[-1] * (1.0 + 1e-3):
                return
            points.append(worst)


def _loss(loss: Loss, t: FloatArray, point: Worst) -> float:
    return excess(loss, loss.predictor(point.x[None], t), point.y)


def _loss_gradient(loss: Loss, t: FloatArray, point: Worst) -> FloatArray:
    z = loss.predictor(point.x[None], t)
    return loss.pullback(point.x[None], loss.residual(z, np.array([point.y]))).ravel()
