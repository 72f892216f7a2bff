r"""S15. Logistic regression: the least number of points that have a gradient.

A point (x, y) with :math:`z = \theta^\top x` and residual w has :math:`z w = f(|w|)`,
:math:`f(p) = p\log\frac{p}{1-p}`, whatever its label. f is strictly convex on (0, 1), and its minimum
is :math:`-\kappa`, :math:`\kappa = W(1/e)`, attained at :math:`|z| = 1 + \kappa`; so a point adds to
:math:`s = \theta^\top h` a number of :math:`S = [-\kappa, \infty)`, any of them. Without intercept,
for :math:`\theta \ne 0 \ne h` and unbounded inputs, the least number of points with gradient h is

.. math:: k^\star = \max(1, \lceil -s/\kappa\rceil).

With an intercept residuals must sum to :math:`h_0`, too, and k of at least 2 points do if and only if
:math:`k > |h_0|` and :math:`\varphi_k(h_0) \le s`, the least :math:`\sum f(p_i)` over signs
with :math:`\sum \pm p_i = |h_0|`; of each sign all :math:`p_i` are then equal.

Source: T3.2 and T3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import NonlinearConstraint, minimize, minimize_scalar
from scipy.special import expit, xlogy

import gplconvex as gc
from gplconvex._types import FloatArray
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "least number of logistic points"
SOURCE = "this package"

KAPPA = 0.27846454276107374
"""W(1/e): what one point can lower theta^T gradient by."""

PEAK = 1.0
"""|z| of the point that does, less kappa."""

MUTATIONS = {"KAPPA": 1.01, "PEAK": 0.99}


def count(s: float) -> int:
    """Return the claimed number of points, without intercept."""
    return max(1, math.ceil(-s / KAPPA))


def symbolic() -> Iterator[Identity]:
    """One number decides: its range, its minimum, and the copies that reach it."""
    omega, kappa, a, p, tau = sp.symbols("omega kappa a p tau", positive=True)
    f = p * sp.log(p / (1 - p))
    odds = omega / (1 + omega)  # p = odds has p/(1 - p) = omega
    z = [-y * sp.log(omega) for y in (1, -1)]
    w = [-y / (1 + sp.exp(y * z)) for y, z in zip((1, -1), z, strict=True)]
    yield identity(
        "z w = f(|w|) for both labels",
        *(sp.Abs(each) - odds for each in w),
        *(sp.logcombine(x * v - f.subs(p, odds)) for x, v in zip(z, w, strict=True)),
    )
    slope = sp.diff(f, p)
    yield identity(
        "f'' = 1/(p (1 - p)^2) > 0, f' from -inf to inf",
        sp.diff(f, p, 2) - 1 / (p * (1 - p) ** 2),
        sp.Eq(sp.limit(slope, p, 0, "+"), -sp.oo),
        sp.Eq(sp.limit(slope, p, 1, "-"), sp.oo),
    )
    at_peak = {sp.log(kappa): -1 - kappa}  # the logarithm of kappa e^kappa = 1/e
    (root,) = sp.solve(kappa * sp.exp(kappa) - sp.exp(-1), kappa)
    peak = sp.nsimplify(PEAK) + kappa
    yield identity(
        "f' = 0 at p = kappa/(1 + kappa), f = -kappa, |z| = 1 + kappa, where kappa e^kappa = 1/e",
        root - sp.LambertW(sp.exp(-1)),
        sp.simplify(slope.subs(p, kappa / (1 + kappa))).subs(at_peak),
        sp.simplify(f.subs(p, kappa / (1 + kappa))).subs(at_peak) + kappa,
        (-sp.log(kappa)).subs(at_peak) - peak,
    )
    yield identity(
        "the sums fill [-kappa, inf): f(0+) = 0, f(1-) = inf",
        sp.limit(f, p, 0, "+"),
        sp.Eq(sp.limit(f, p, 1, "-"), sp.oo),
    )
    # Copies x = -c h, y = 1 have z = -c s = c a, w = -sigma(-c a), and sum to k c sigma(-c a) h.
    c = sp.symbols("c", positive=True)
    share = c / (1 + sp.exp(c * a))
    rise = sp.diff(share, c).subs(c, peak / a)
    top = share.subs(c, peak / a)
    known = {sp.exp(kappa): sp.exp(-1) / kappa, sp.exp(kappa + 1): 1 / kappa}
    yield identity(
        "c sigma(c s) is kappa/|s| at its maximum, c = (1 + kappa)/|s|",
        sp.simplify(rise.subs(known)),
        sp.simplify(top.subs(known)) - kappa / a,
    )
    conjugate = tau * odds - odds * sp.log(omega)
    yield identity(
        "f*(tau) = omega at p = omega/(1 + omega), where omega + log omega = tau - 1",
        slope.subs(p, odds) - (1 + omega + sp.log(omega)),
        sp.simplify(conjugate.subs(tau, 1 + omega + sp.log(omega)) - omega),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Compare counts with the formula and with searches among fewer points."""
    loss = gc.Logistic()

    def lowest(z: float) -> float:
        return float(z * loss.residual(np.array([z]), np.array([1.0]))[0])

    best = minimize_scalar(lowest, bounds=(0.0, 10.0), method="bounded", options={"xatol": 1e-12})
    yield Measurement("least z w of a point", best.fun, -KAPPA)
    yield Measurement("attained at z", best.x, PEAK + KAPPA, tolerance=1e-6)
    for d in (1, 4):
        theta = rng.normal(size=d)
        h = -float(rng.uniform(90.0, 110.0)) * theta / (theta @ theta) + _across(rng, theta)
        found = gc.realize_gradient(loss, theta, h)
        gc.check_lower_bound(loss, theta, h, found.proof)
        s = float(theta @ h)
        yield Measurement(f"points, d = {d}, s = {s:.4g}", found.n_points, count(s), tolerance=0.0)
    theta = rng.normal(size=2)
    s = -3.5 * KAPPA
    h = s * theta / (theta @ theta) + _across(rng, theta)
    yield Measurement(
        "3 points where 3.5 kappa are asked for miss by kappa/(2 |theta|), at best",
        _least_miss(theta, h, 3, rng),
        0.5 * KAPPA / float(np.linalg.norm(theta)),
        tolerance=1e-6,
    )
    yield Measurement("and 4 by nothing", _least_miss(theta, h, 4, rng), 0.0, tolerance=1e-5)
    yield from _with_intercept(rng)


def _with_intercept(rng: np.random.Generator) -> Iterator[Measurement]:
    loss = gc.Logistic(intercept=True)
    for h0, s in ((2.3, -20.0), (-7.4, -1.2), (0.0, -0.9), (4.6, 30.0)):
        theta = rng.normal(size=3)
        h = np.append(rng.normal(size=2), h0)
        h[:2] += (s - theta @ h) * theta[:2] / (theta[:2] @ theta[:2])
        found = gc.realize_gradient(loss, theta, h)
        gc.check_lower_bound(loss, theta, h, found.proof)
        k = max(2, math.floor(abs(h0)) + 1)
        while _phi(k, abs(h0)) > float(theta @ h):
            k += 1
        what = f"points with intercept, h0 = {h0:g}, s = {s:g}"
        yield Measurement(what, found.n_points, k, tolerance=0.0)
    signs = np.array([1.0, 1.0, 1.0, 1.0, -1.0])

    def total(z: FloatArray) -> float:
        p = expit(z)
        return float(np.sum(xlogy(p, p) - p * np.log1p(-p)))

    program = minimize(
        total,
        rng.normal(size=5),
        method="SLSQP",
        constraints=NonlinearConstraint(lambda z: np.atleast_1d(signs @ expit(z)), 1.3, 1.3),
        tol=1e-14,
    )
    yield Measurement(
        "phi_5(1.3) with j = 4, over all five residuals", program.fun, _phi_of(5, 4, 1.3), "=", 1e-7
    )


def counterexample() -> Iterator[Measurement]:
    """Another loss, a target that is no label, an intercept: the count is another."""
    theta, h = np.array([1.0, 0.0]), np.array([-1.0, 2.0])
    squares = gc.realize_gradient(gc.LeastSquares(), theta, h).n_points
    yield Measurement("least squares: at least k* points", squares, count(-1.0), ">=", 0.0)
    z = 5.0
    yield Measurement(
        "a target of 1.5, not within [0, 1]: z w >= -kappa", z * (expit(z) - 1.5), -KAPPA, ">="
    )
    theta, h = np.array([1.0, 0.0]), np.array([1.0, 5.3])
    points = gc.realize_gradient(gc.Logistic(intercept=True), theta, h).n_points
    yield Measurement("an intercept: k* points do", points, count(float(theta @ h)), "=", 0.0)


def _across(rng: np.random.Generator, theta: FloatArray) -> FloatArray:
    """Return a random vector orthogonal to theta."""
    v = rng.normal(size=theta.size)
    return np.asarray(v - (v @ theta) / (theta @ theta) * theta)


def _least_miss(theta: FloatArray, h: FloatArray, k: int, rng: np.random.Generator) -> float:
    """Return how near the gradients of k points come to h, by search from many starts.

    (x, 1) and (-x, -1) have the same gradient, so that labels are all 1.
    """
    loss = gc.Logistic()
    ones = np.ones(k)

    def missing(flat: FloatArray) -> tuple[float, FloatArray]:
        x = flat.reshape(k, -1)
        z = x @ theta
        w = loss.residual(z, ones)
        off = w @ x - h
        curved = np.outer(loss.curvature(z, ones) * (x @ off), theta)
        return float(off @ off), 2.0 * (w[:, None] * off + curved).ravel()

    starts = 2.0 * rng.normal(size=(20, k * theta.size))
    ends = [minimize(missing, start, jac=True, method="BFGS", tol=1e-14) for start in starts]
    return math.sqrt(min(end.fun for end in ends))


def _phi(k: int, h0: float) -> float:
    """Return the least sum of f over k residuals that sum to h0, over all numbers j of positive ones."""
    return min(_phi_of(k, j, h0) for j in range(math.floor(h0), k + 1) if j > h0)


def _phi_of(k: int, j: int, h0: float) -> float:
    """Return it for one j, at two values: p of the sign of h0, q of the other."""
    if j == k:
        return k * _f(h0 / k)

    def value(q: float) -> float:
        return j * _f((h0 + (k - j) * q) / j) + (k - j) * _f(q)

    most = min(1.0, (j - h0) / (k - j))
    return float(
        minimize_scalar(value, bounds=(0.0, most), method="bounded", options={"xatol": 1e-12}).fun
    )


def _f(p: float) -> float:
    return float(xlogy(p, p) - p * np.log1p(-p)) if p < 1.0 else math.inf
