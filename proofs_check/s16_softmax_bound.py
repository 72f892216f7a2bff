r"""S16. Softmax: a bound of the number of points, and points that nearly attain it.

A point of K classes with logits z and label y (a class or a distribution) adds :math:`x q^\top`,
:math:`q = p(z) - y`, to the gradient H at :math:`\Theta`, and :math:`q^\top z` to
:math:`\langle\Theta, H\rangle`. Always

.. math:: q^\top z \ge -\kappa_K, \qquad \kappa_K = W\Bigl(\frac{K-1}e\Bigr), \qquad\text{so}\qquad
          k \ge -\frac{\langle\Theta, H\rangle}{\kappa_K},

with equality at the logits :math:`(1 + \kappa_K) e_y`. If inputs are unbounded and :math:`\Theta`,
centered, has rank K - 1, 2K + 2 points more do.

For a class y the sum is :math:`-\log p_y - \mathsf H(p)`, :math:`\mathsf H` the entropy. Given
:math:`u = 1 - p_y`, the entropy is largest where the other classes are equally likely; what is left is
:math:`g(u) = u\,(\log\frac u{1-u} - \log(K - 1))`, convex. A distribution is a mixture of classes.

Source: T3.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import minimize
from scipy.special import lambertw

import gplconvex as gc
from gplconvex._types import FloatArray
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "least number of softmax points"
SOURCE = "this package"

SHARE = 1.0
"""e times the argument of W, over K - 1."""

PEAK = 1.0
"""The logit of the label of the dearest point, less kappa."""

MUTATIONS = {"SHARE": 1.01, "PEAK": 0.99}


def kappa(n_classes: int) -> float:
    """Return what one point can lower <Theta, H> by."""
    return float(lambertw(SHARE * (n_classes - 1) / math.e).real)


def symbolic() -> Iterator[Identity]:
    """From K logits to one number, and the minimum of its function; K is a symbol where it can be."""
    z = sp.symbols("z:4", real=True)
    r = sp.symbols("r1:4", positive=True)
    u, t, k, classes = sp.symbols("u t k K", positive=True)
    total = sum(sp.exp(each) for each in z)
    p = [sp.exp(each) / total for each in z]
    log_p = [each - sp.log(total) for each in z]
    yield identity(
        "q^T z = -log p_y - entropy of p (4 classes, any logits)",
        *(sp.log(a) - b for a, b in zip(p, log_p, strict=True)),
        sum(a * b for a, b in zip(p, z, strict=True))
        - z[0]
        - (-log_p[0] + sum(a * b for a, b in zip(p, log_p, strict=True))),
    )
    parts = [u * each for each in r]
    entropy = -(1 - u) * sp.log(1 - u) - sum(each * sp.log(each) for each in parts)
    split = -(1 - u) * sp.log(1 - u) - u * sp.log(u) - u * sum(each * sp.log(each) for each in r)
    yield identity(
        "entropy of (1 - u, u r) = that of (1 - u, u) + u that of r, where r sums to 1",
        sp.expand_log(entropy - split).expand() + u * sp.log(u) * (sum(r) - 1),
    )
    gibbs = t - 1 - sp.log(t)
    yield identity(
        "entropy of K - 1 classes <= log(K - 1): sum r log(1/((K-1) r)) <= sum 1/(K-1) - r = 0",
        sp.diff(gibbs, t).subs(t, 1),
        gibbs.subs(t, 1),
        sp.diff(gibbs, t, 2) - 1 / t**2,
        (classes - 1) / (classes - 1) - 1,
    )
    g = u * (sp.log(u / (1 - u)) - sp.log(classes - 1))
    root = sp.nsimplify(SHARE) * (classes - 1) * sp.exp(-1)
    others = k * sp.exp(1 + k) / sp.nsimplify(SHARE)  # K - 1, by k e^k = (K - 1)/e
    odds = k / (1 + k)
    yield identity(
        "g convex, g' = 0 and g = -kappa at u = kappa/(1 + kappa), kappa e^kappa = (K - 1)/e",
        sp.solve(k * sp.exp(k) - root, k)[0] - sp.LambertW(root),
        sp.diff(g, u, 2) - 1 / (u * (1 - u) ** 2),
        sp.expand_log(sp.simplify(sp.diff(g, u).subs(u, odds).subs(classes, 1 + others))),
        sp.expand_log(sp.simplify(g.subs(u, odds).subs(classes, 1 + others) + k)),
    )
    logit = sp.nsimplify(PEAK) + k
    likely = sp.exp(logit) / (sp.exp(logit) + others)
    yield identity(
        "logits (1 + kappa) e_y have p_y = 1/(1 + kappa), and q^T z = -kappa",
        likely - 1 / (1 + k),
        (likely - 1) * logit + k,
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Search for cheaper points, and count those that are built."""
    for n in (2, 3, 10):
        loss = gc.Softmax(n)
        paid = min(_least(loss, rng.normal(size=n)) for _ in range(8))
        yield Measurement(f"least q^T z, K = {n}", paid, -kappa(n))
        z = (PEAK + kappa(n)) * np.eye(n)
        q = loss.residual(z, np.arange(float(n)))
        highest = float(np.max(np.sum(q * z, axis=1)))
        yield Measurement(f"q^T z at (1 + kappa) e_y, K = {n}", highest, -kappa(n), tolerance=1e-13)
        z = 3.0 * rng.normal(size=(2000, n))
        q = loss.residual(z, rng.dirichlet(np.full(n, 0.3), size=2000))
        lowest = float(np.min(np.sum(q * z, axis=1)))
        yield Measurement(f"with label distributions, K = {n}", lowest, -kappa(n), ">=")
    for n, d in ((3, 3), (4, 5), (5, 6)):
        loss = gc.Softmax(n)
        theta, h = _instance(rng, n, d, 2000.3)
        found = gc.realize_gradient(loss, theta, h)
        gc.check_lower_bound(loss, theta, h, found.proof)
        bound = math.ceil(-float(np.sum(theta * h)) / kappa(n))
        what = f"K = {n}, d = {d}"
        yield Measurement(f"points proved to be needed, {what}", found.lower_bound, bound, "=", 0.0)
        yield Measurement(f"points, {what}", found.n_points, bound, ">=", 0.0)
        most = bound + 2 * n + 2
        yield Measurement(
            f"points, less than 2 K + 3 more, {what}", found.n_points, most, "<=", 0.0
        )


def counterexample() -> Iterator[Measurement]:
    """More classes, another direction, coefficients of lower rank."""
    loss = gc.Softmax(10)
    z = (1.0 + kappa(10)) * np.eye(10)[:1]
    paid = float((loss.residual(z, np.zeros(1)) @ z.T)[0, 0])
    yield Measurement("10 classes with kappa of two", paid, -kappa(2), ">=")
    theta = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    v = -theta + 1e-3 * np.outer([0.0, 0.0, 1.0], [-1.0, 0.5, 0.5])
    x = np.array([[0.0, 0.0, 1e6]])
    q = gc.Softmax(3).residual(x @ theta, np.zeros(1))
    yield Measurement(
        "along -Theta and a thousandth of another direction: at most kappa",
        float(np.sum(v * (x.T @ q))),
        kappa(3),
        "<=",
    )
    theta = np.outer(
        [1.0, 2.0], [1.0, -1.0, 0.0]
    )  # rank 1 of 2: the third logit is between the two
    h = -500.0 * theta / np.sum(theta**2)
    points = gc.realize_gradient(gc.Softmax(3), theta, h).n_points
    most = math.ceil(-float(np.sum(theta * h)) / kappa(3)) + 2 * 3 + 2
    yield Measurement("rank 1, 3 classes: within 2 K + 2 of the bound", points, most, "<=", 0.0)


def _least(loss: gc.Softmax, start: FloatArray) -> float:
    """Return a local minimum of q^T z over logits, the label being class 0."""
    label = np.zeros(1)

    def paid(z: FloatArray) -> float:
        return float(loss.residual(z[None, :], label)[0] @ z)

    return float(minimize(paid, start, method="BFGS", tol=1e-10).fun)


def _instance(
    rng: np.random.Generator, n: int, d: int, points: float
) -> tuple[FloatArray, FloatArray]:
    """Return Theta and H with <Theta, H> = -points * kappa, whatever the claimed kappa."""
    theta, h = rng.normal(size=(2, d, n))
    theta -= theta.mean(axis=1, keepdims=True)
    h -= h.mean(axis=1, keepdims=True)
    exact = float(lambertw((n - 1) / math.e).real)
    return theta, h - (points * exact + np.sum(theta * h)) * theta / np.sum(theta**2)
