r"""S9. Least squares is gradient-PAC*, for every alpha in (1/2, 1).

With :math:`y_i = \theta_\dagger^\top x_i + \xi_i`, :math:`S = \sum_i x_i x_i^\top` and
:math:`v = \theta - \theta_\dagger`,

.. math:: v^\top\nabla L(\theta) = v^\top S v - v^\top \sum_i \xi_i x_i
          \ge \lambda_{\min}(S)\,|v|^2 - |\nabla L(\theta_\dagger)|\,|v|,

so that the inequality holds for all theta with :math:`A I = \lambda_{\min}(S)` and :math:`B I^\alpha =
|\nabla L(\theta_\dagger)|`; no larger A does where the noise conspires. If x are i.i.d. with
:math:`\Sigma = E x x^\top > 0` and a fourth moment, and xi independent of them with mean 0 and variance
:math:`\sigma^2`, then for every :math:`A < \lambda_{\min}(\Sigma)` and every B > 0

.. math:: P(\text{fails}) \le \frac{E|x x^\top - \Sigma|^2}{I\,(\lambda_{\min}(\Sigma) - A)^2}
          + \frac{\sigma^2\,\mathrm{tr}\,\Sigma}{B^2}\,I^{1 - 2\alpha} \to 0

(Chebyshev, Weyl). At alpha = 1/2 it does not tend to 0.

Source: the paper, whose proof takes sub-Gaussian x; this one takes fourth moments.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from gplconvex.pac import estimate_gradient_pac, gradient_pac
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "least squares is gradient-PAC*"
SOURCE = "paper; with fourth moments only, this package"

CURVATURE = 1.0
"""A I over the least eigenvalue of S where the noise conspires."""

EXPONENT = 0.5
"""The root of E|grad L(theta_d)|^2 grows like I to this power."""

SPREAD = 1.0
"""E|grad L(theta_d)|^2 over I sigma^2 tr Sigma."""

MUTATIONS = {"CURVATURE": 0.99, "EXPONENT": 1.01, "SPREAD": 1.01}


def symbolic() -> Iterator[Identity]:
    """One point, the eigenbasis, the variance of a sum, and the limit."""
    d = 3
    x, v, target = (sp.Matrix(sp.symbols(f"{name}:{d}", real=True)) for name in "xvt")
    xi, eta = sp.symbols("xi eta", real=True)
    label = target.dot(x) + xi
    gradient = x * ((target + v).dot(x) - label)
    yield identity(
        "v . grad of a point = (v . x)^2 - xi v . x",
        v.dot(gradient) - v.dot(x) ** 2 + xi * v.dot(x),
    )
    least = sp.symbols("least", positive=True)
    gaps = sp.symbols(f"gap:{d}", real=True)
    values = [least + gap**2 for gap in gaps]
    yield identity(
        "in the eigenbasis v.Sv - least |v|^2 is a sum of squares",
        sum(value * a**2 for value, a in zip(values, v, strict=True))
        - least * v.dot(v)
        - sum((gap * a) ** 2 for gap, a in zip(gaps, v, strict=True)),
    )
    other = sp.Matrix(sp.symbols(f"y:{d}", real=True))
    total = xi * x + eta * other
    squares = xi**2 * x.dot(x) + eta**2 * other.dot(other)
    yield identity(
        "|xi x + eta y|^2 is the sum of squares and a multiple of xi eta, whose mean is 0",
        sp.expand(total.dot(total) - squares - 2 * xi * eta * x.dot(other)),
    )
    n, b, trace, above = sp.symbols("I B trace a", positive=True)
    chebyshev = sp.simplify(trace * n / (b * n ** (sp.nsimplify(EXPONENT) + above)) ** 2)
    yield identity(
        "tr I / (B I^alpha)^2 tends to 0 for alpha > 1/2, and is constant at 1/2",
        chebyshev - trace / b**2 * n ** (-2 * above),
        sp.limit(chebyshev.subs(above, sp.Rational(1, 8)), n, sp.oo),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Noise that conspires, all outcomes of small data, random models, and frequencies."""
    loss = gc.LeastSquares()
    x = rng.normal(size=(30, 3))
    values, vectors = np.linalg.eigh(x.T @ x)
    target = rng.normal(size=3)
    data = gc.Dataset(x, x @ (target + rng.uniform(0.1, 2.0) * vectors[:, 0]))
    A, _ = gradient_pac(loss, data, target).constants(0.75)
    yield Measurement(
        "noise that conspires: A I is the least eigenvalue", 30 * A, CURVATURE * values[0]
    )
    data = gc.honest_dataset(loss, target, 50, seed=int(rng.integers(2**32)))
    found = gradient_pac(loss, data, target)
    A, B = found.constants(0.75)
    values = np.linalg.eigvalsh(data.x.T @ data.x)
    yield Measurement("honest noise: A I is no less", 50 * A, CURVATURE * values[0], ">=")
    yield Measurement(
        "the least margin over 2000 models", _margin(data, target, A, B, rng), 0.0, ">="
    )
    one, three = (_mean_square(target, n) for n in (1, 3))
    yield Measurement("E|grad|^2, I = 3, all outcomes", three, SPREAD * 3 * target.size)
    yield Measurement("E|grad|^2 at 3 points over that at 1", three / one, 3.0 ** (2.0 * EXPONENT))
    few, many = estimate_gradient_pac(
        loss,
        target,
        [12, 1200],
        A=0.5,
        B=0.5,
        alpha=0.9,
        n_trials=20,
        seed=int(rng.integers(2**32)),
        inputs="rademacher",
        noise="uniform",
    ).proportions
    d = target.size
    allowed = (d * d - d) / (1200 * 0.5**2) + d / 0.5**2 * 1200 ** (1.0 - 2.0 * 0.9)
    yield Measurement("frequency of failing at I = 1200", 1.0 - many.successes / 20, allowed, "<=")
    yield Measurement("it holds no less often than at 12", many.successes, few.successes, ">=")


def counterexample() -> Iterator[Measurement]:
    """Put inputs on a line, give the noise a mean, and lower alpha to 0.4."""
    loss, target = gc.LeastSquares(), np.zeros(2)
    line = gc.Dataset(np.outer(np.linspace(-1.0, 1.0, 50), [1.0, 1.0]), np.zeros(50))
    yield Measurement(
        "inputs on a line: some A > 0 at least 0.01",
        gradient_pac(loss, line, target).constants(0.75)[0],
        0.01,
        ">=",
    )
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(4000, 2)))
    biased = gradient_pac(loss, gc.Dataset(x, np.ones(4000)), target)
    yield Measurement(
        "noise of mean 1 beside inputs of mean not 0: |grad| <= I^0.75",
        biased.gradient_norm,
        4000**0.75,
        "<=",
    )
    (often,) = estimate_gradient_pac(
        loss, target, [4000], A=0.5, B=1.0, alpha=0.4, n_trials=20, seed=0
    ).proportions
    yield Measurement("alpha = 0.4: holds in 9 of 10", often.successes / 20, 0.9, ">=")


def _margin(
    data: gc.Dataset, target: np.ndarray, A: float, B: float, rng: np.random.Generator
) -> float:
    """Return the least of left side over right side, minus 1, over models near and far."""
    local = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [data]).locals[0]
    n = data.n_points
    margins: list[float] = []
    for size in np.exp(rng.uniform(np.log(1e-3), np.log(1e3), 2000)):
        w = rng.normal(size=target.size)
        v = size * w / np.linalg.norm(w)
        left = float(v @ local.gradient(target + v)) + B * n**0.75 * size
        margins.append(left / (A * n * min(size, size**2)) - 1.0)
    return min(margins)


def _mean_square(target: np.ndarray, n: int) -> float:
    """Return E|grad L(target)|^2 over all signs of n inputs and noises."""
    d = target.size
    outcomes = []
    for signs in itertools.product((-1.0, 1.0), repeat=n * (d + 1)):
        x = np.reshape(signs[: n * d], (n, d))
        outcomes.append(gc.Dataset(x, x @ target + np.array(signs[n * d :])))
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), outcomes)
    gradients = problem.local_losses.gradient(np.tile(target, (len(outcomes), 1)))
    return float(np.mean(np.sum(gradients**2, axis=1)))
