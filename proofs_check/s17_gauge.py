r"""S17. The gauge: one direction proves how many points of a bounded domain a gradient takes.

If each point (x, y) of a domain, with gradient :math:`g(x, y)` at :math:`\theta`, has
:math:`\langle v, g\rangle \le \sigma`, then k points with gradient h have
:math:`k \ge \langle v, h\rangle / \sigma`. No fractional numbers of points do better than the best
direction says, and some attain it:

.. math:: \min\Bigl\{\sum_i c_i : \sum_i c_i\, g(x_i, y_i) = h,\; c_i \ge 0\Bigr\}
          = \max\bigl\{\langle v, h\rangle : \langle v, g\rangle \le 1 \text{ for all points}\bigr\}.

For logistic regression two points do, one with residuals above 0 and one below: a unit of residual at
the margin M costs :math:`c(M) = 1 + e^{-M}` points, which is convex, and so is :math:`W c(s/W)` in the
sums W of residuals and s of residuals times predictors. The tangents of c are the direction.

Source: T3.1 and T3.5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import linprog
from scipy.special import expit

import gplconvex as gc
from gplconvex._types import FloatArray
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "gauge of a gradient"
SOURCE = "this package"

REACH = 1.0
"""What a point contributes along the best direction, at most."""

PEAK = 1.27846454276107374
"""1 + W(1/e): the margin, in size, of the point that pays most."""

MUTATIONS = {"REACH": 0.99, "PEAK": 1.01}


def symbolic() -> Iterator[Identity]:
    """Costs are convex, so points merge; and their tangents are the direction."""
    m, t, s, b = sp.symbols("m t s b", real=True)
    w, theta, kappa = sp.symbols("w theta kappa", positive=True)
    cost = 1 + sp.exp(-m)
    yield identity(
        "the logarithm of the rate 1/(1 + e^-M) is concave, hence the cost 1 + e^-M convex",
        sp.diff(sp.log(1 / cost), m, 2) + sp.exp(m) / (1 + sp.exp(m)) ** 2,
        sp.diff(cost, m, 2) - sp.exp(-m),
    )
    c = sp.Function("c")
    perspective = w * c(s / w)
    curved = c(t).diff(t, 2).subs(t, s / w).doit() / w
    hessian = sp.hessian(perspective, (s, w)).doit()
    ray = sp.Matrix([1, -s / w])
    yield identity(
        "W c(s/W) has the Hessian c''(m)/W (1, -m)(1, -m)^T, m = s/W, for every c",
        *(hessian - curved * ray * ray.T),
    )
    margins, shares = sp.symbols("M1:4", real=True), sp.symbols("a1:4", positive=True)
    mean = sum(a * x for a, x in zip(shares, margins, strict=True)) / sum(shares)
    slope = sp.symbols("slope", real=True)
    yield identity(
        "tangents at the mean margin add up to the cost there (Jensen): points merge",
        sum(a * (c(mean) + slope * (x - mean)) for a, x in zip(shares, margins, strict=True))
        - sum(shares) * c(mean),
    )
    # Of a point with margin m: <v, g> = (v~ x + v0)/c(m) at most, v~ = -K theta, v0 = c + K (M - b).
    steep = -sp.diff(cost, m)
    predictor = m + t  # of another point, theta x + b
    reached = -steep * (predictor - b) + cost + steep * (m - b)
    excess = cost.subs(m, predictor) - reached
    yield identity(
        "<v, g> <= 1: c(m) less its tangent is e^-M (e^-t - 1 + t), at least 0, and 0 at t = 0",
        excess - sp.exp(-m) * (sp.exp(-t) - 1 + t),
        sp.diff(excess, t).subs(t, 0),
        excess.subs(t, 0),
        sp.diff(excess, t, 2) - sp.exp(-m - t),
    )
    share = t / (1 + sp.exp(theta * t))
    known = {sp.exp(kappa): sp.exp(-1) / kappa, sp.exp(kappa + 1): 1 / kappa}
    yield identity(
        "one feature, |x| <= r: |x| sigma(-theta |x|) is largest at (1 + kappa)/theta",
        sp.diff(share, t).subs(t, (1 + kappa) / theta).subs(known),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Compare gauges with a closed form, a linear program and their own two sides."""
    for r in (0.4, 3.0):
        slope = float(rng.uniform(0.8, 1.2))
        for wanted in (-2.0, 2.0):
            best = min(r, PEAK / slope) if wanted < 0.0 else r
            most = best * float(expit(math.copysign(slope * best, wanted)))
            value = gc.gauge(gc.Logistic(), [slope], [wanted], gc.Box(-r, r)).value
            what = f"one feature within {r:g}, h = {wanted:g}"
            yield Measurement(what, value, abs(wanted) / most)
    for intercept in (False, True):
        loss = gc.Logistic(intercept=intercept)
        name = f"intercept={intercept}"
        box = gc.Box([-1.0, -0.5], [0.7, 1.0])
        theta, h = _instance(loss, rng)
        found = gc.gauge(loss, theta, h, box)
        primal = _gradients(loss, theta, found.x, found.y)
        inside = float(np.mean(box.contains(found.x)))
        yield Measurement(f"its points are in the box, {name}", inside, 1.0)
        off = float(np.linalg.norm(found.weights @ primal - h) / np.linalg.norm(h))
        yield Measurement(f"its points have the gradient, {name}", off, 0.0, "=", 1e-8)
        weight = float(found.weights.sum())
        yield Measurement(f"their weight = <v, h>, {name}", weight, float(found.direction @ h))
        along = primal[found.weights > 1e-6 * weight] @ found.direction
        yield Measurement(f"<v, g> at its points, {name}", along.min(), REACH, "=", 1e-7)
        grid = _gradients(loss, theta, *_grid(box, 41))
        most = float(np.max(grid @ found.direction))
        yield Measurement(f"<v, g> at points of the box, {name}", most, REACH, "<=", 1e-7)
        fun = linprog(np.ones(len(grid)), A_eq=grid.T, b_eq=h).fun
        least = math.nan if fun is None else float(fun)
        yield Measurement(f"linear program on a grid, {name}", least, found.value, ">=", 1e-7)
        yield Measurement(f"and it comes near, {name}", least, 1.005 * found.value, "<=")
        proof = gc.prove_lower_bound(loss, theta, h, box)
        gc.check_lower_bound(loss, theta, h, proof, box)
        yield Measurement(f"proved >= gauge, {name}", proof.value, found.value, ">=")
        points = gc.realize_gradient(loss, theta, h, box).n_points
        yield Measurement(f"points >= proved, {name}", points, proof.value, ">=", 0.0)


def counterexample() -> Iterator[Measurement]:
    """Forge a number or a direction, and leave the box."""
    loss, box = gc.Logistic(), gc.Box(-1.0, 1.0)
    theta, h = np.array([1.0, 0.5]), np.array([-4.0, 3.0])
    proof = gc.prove_lower_bound(loss, theta, h, box)
    yield Measurement("a bound of one more passes its check", _passes(proof, 1, np.eye(2)), 1.0)
    turned = np.array([[1.0, -1.0], [1.0, 1.0]])
    yield Measurement("a turned direction passes", _passes(proof, 0, turned), 1.0)
    found = gc.gauge(loss, theta, h, box)
    wide = _gradients(loss, theta, *_grid(gc.Box(-3.0, 3.0), 13))
    most = float(np.max(wide @ found.direction))
    yield Measurement("outside the box: <v, g> <= 1", most, 1.0, "<=")
    points = gc.realize_gradient(loss, theta, h).n_points
    yield Measurement("inputs unbounded: points >= gauge of the box", points, found.value, ">=")


def _passes(proof: gc.LowerBound, more: int, turn: FloatArray) -> float:
    """Return 1 if a proof with another number or direction passes its check, otherwise 0."""
    theta, h = np.array([1.0, 0.5]), np.array([-4.0, 3.0])
    direction = np.asarray(proof.direction) @ turn
    forged = dataclasses.replace(proof, value=proof.value + more, direction=direction)
    try:
        gc.check_lower_bound(gc.Logistic(), theta, h, forged, gc.Box(-1.0, 1.0))
    except gc.CertificateError:
        return 0.0
    return 1.0


def _instance(loss: gc.Logistic, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return a model and the gradient of twenty points of the box, most of them nearly dearest."""
    theta = rng.normal(size=2 + loss.intercept)
    x = np.array([-1.0, -0.5]) + rng.random((20, 2)) * np.array([1.7, 1.5])
    z = loss.predictor(x, theta)
    y = np.where(rng.random(20) < 0.9, np.sign(z), -np.sign(z))
    return theta, loss.pullback(x, loss.residual(z, y))


def _gradients(loss: gc.Logistic, theta: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the gradients of points, one a row."""
    w = loss.residual(loss.predictor(x, theta), y)
    padded = np.hstack([x, np.ones((len(x), 1))]) if loss.intercept else x
    return np.asarray(padded * w[:, None])


def _grid(box: gc.Box, steps: int) -> tuple[FloatArray, FloatArray]:
    """Return the points of a grid on the box, with both labels."""
    low, high = box.bounds(2)
    axes = [np.linspace(a, b, steps) for a, b in zip(low, high, strict=True)]
    x = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return np.tile(x, (2, 1)), np.repeat([1.0, -1.0], len(x))
