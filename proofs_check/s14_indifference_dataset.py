r"""S14. Points where all classes tie: their gradient is 0, and they hold the model weakly.

The published recipe for softmax: inputs where all classes tie under :math:`\theta_\spadesuit`, plus
normal noise of deviation :math:`\varepsilon` across, labeled with
:math:`\mathrm{softmax}(\theta_\spadesuit^\top x)`. Every residual is 0, so
:math:`\nabla L(\theta_\spadesuit) = 0` for every number I of points: alone, :math:`\theta_\spadesuit` is
a minimizer. Against others who pull with h,

.. math:: \theta_s^* - \theta_\spadesuit \approx (I\Sigma)^+ h,

of order 1/I where honest labels leave an error of order :math:`1/\sqrt I`. At a tie the Hessian of a
point is :math:`x x^\top \otimes (I_K - 1 1^\top / K)/K`: across the ties the curvature is
:math:`\varepsilon^2 / K` a point, and along them every multiple of :math:`\theta_\spadesuit` ties too.

Source: the paper, the recipe; its gradient, curvature and rate, this package (T2.4).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "points where all classes tie"
SOURCE = "paper; curvature and rate this package"

ACROSS = 1.0
"""The curvature across the ties over epsilon^2 / K a point."""

RATE = -1.0
"""The power of I with which the error falls."""

MUTATIONS = {"ACROSS": 1.01, "RATE": 1.01}


def symbolic() -> Iterator[Identity]:
    """Residuals, the curvature at a tie, the rate, and multiples of the model."""
    K = 3
    z = sp.Matrix(sp.symbols(f"z:{K}", real=True))
    t = sp.symbols("t", real=True)
    log_sum = sp.log(sum(sp.exp(each) for each in z))
    p = sp.Matrix([sp.exp(each) for each in z]) / sum(sp.exp(each) for each in z)
    slope = sp.Matrix([sp.diff(log_sum, each) for each in z])
    yield identity("labels softmax(z): the residual is 0, whatever z", *(slope - p))
    at_tie = sp.hessian(log_sum, list(z)).subs(dict.fromkeys(z, t))
    wanted = (sp.eye(K) - sp.ones(K, K) / K) * sp.nsimplify(ACROSS) / K
    yield identity("at a tie the Hessian is (I - 11^T/K)/K", *(at_tie - wanted))
    n, sigma, h, c = sp.symbols("I sigma h c", positive=True)
    yield identity(
        "the root of I sigma v = h is (I sigma)^{-1} h: times I, the same for all I",
        sp.diff(sp.solve(n * sigma * c - h, c)[0] * n ** (-sp.nsimplify(RATE)), n),
    )
    scaled = p.subs({each: t * z[0] for each in z}, simultaneous=True)
    yield identity(
        "where all logits are equal they are after any scaling", *(scaled - sp.ones(K, 1) / K)
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Gradients of many sizes, the curvature across, and the rate against others."""
    seed = int(rng.integers(2**32))
    loss = gc.Softmax(3, intercept=True)
    theta = rng.normal(size=(5, 3))
    theta -= theta.mean(axis=1, keepdims=True)
    for n in (1, 100, 2000):
        data = gc.indifference_dataset(loss, theta, n, seed=seed)
        local = gc.Problem(loss, gc.SquaredL2(1.0), [data]).locals[0]
        size = float(np.linalg.norm(local.gradient(theta)))
        yield Measurement(f"I = {n}: |grad L(theta_spade)|", size / n, 0.0, tolerance=1e-12)
    yield from _across(seed)
    few, many = (_error(copies, seed) for copies in (50, 200))
    computed = float(np.log(many / few) / np.log(4.0))
    yield Measurement("against others: the power of I", computed, RATE, tolerance=2e-3)


def counterexample() -> Iterator[Measurement]:
    """Draw the labels instead; leave out the noise."""
    loss = gc.Softmax(3)
    theta = np.array([[1.0, 0.0, -1.0], [0.0, 2.0, -2.0], [1.0, 1.0, -2.0]])
    tied = gc.indifference_dataset(loss, theta, 500, seed=0)
    drawn = loss.draw_labels(loss.predictor(tied.x, theta), np.random.default_rng(0))
    local = gc.Problem(loss, gc.SquaredL2(1.0), [gc.Dataset(tied.x, drawn)]).locals[0]
    yield Measurement(
        "classes drawn from the probabilities: |grad L|",
        float(np.linalg.norm(local.gradient(theta))),
        0.0,
    )
    tied = gc.indifference_dataset(loss, theta, 500, seed=0, noise=0.0)
    local = gc.Problem(loss, gc.SquaredL2(1.0), [tied]).locals[0]
    other = float(np.linalg.norm(local.gradient(3.0 * theta)))
    yield Measurement("without noise 3 theta is told apart: |grad L|", other, 1e-6, ">=")


def _across(seed: int) -> Iterator[Measurement]:
    """Compare the curvature across, which here is the first feature, with the spread of the inputs."""
    loss, noise, m = gc.Softmax(3), 0.01, 200_000
    theta = np.array([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    data = gc.indifference_dataset(loss, theta, m, seed=seed, noise=noise)
    local = gc.Problem(loss, gc.SquaredL2(1.0), [data]).locals[0]
    direction = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0]) / np.sqrt(2.0)
    curvature = float(direction @ local.hessian(theta) @ direction) / m
    spread = float(np.mean(data.x[:, 0] ** 2))
    yield Measurement(
        "the curvature across, over the square of the inputs across / K",
        curvature / (spread / 3.0),
        ACROSS,
        tolerance=1e-3,
    )
    yield Measurement(
        "the square of the inputs across over epsilon^2",
        spread / noise**2,
        1.0,
        tolerance=6.0 * float(np.sqrt(2.0 / m)),
    )


def _error(copies: int, seed: int) -> float:
    """Return how far the attacker's model ends from theta_spade, its points all repeated."""
    loss = gc.Softmax(3)
    data = [gc.honest_dataset(loss, np.zeros((2, 3)), 20, seed=k) for k in range(2)]
    theta = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
    made = gc.indifference_dataset(loss, theta, 400, seed=seed, half_width=3.0, noise=0.5)
    made = gc.Dataset(made.x, made.y, counts=np.full(400, copies))
    problem = gc.Problem(loss, gc.SquaredL2(0.5), [*data, made], nu=0.1)
    solved = gc.solve(problem).require_optimal()
    return float(np.linalg.norm(solved.thetas[-1] - theta))
