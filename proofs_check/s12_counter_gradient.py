r"""S12. The counter-gradient attack: a recursion, its step bound, which is sharp, and its limits.

The others pull by :math:`G(\rho) = \sum_{n \ne s} \nabla M_n(\rho)`. The attacker takes their last pull,
:math:`(\rho^{t-1} - \rho^t)/\eta - g^{t-1} = G(\rho^{t-1})`, for the next, and reports :math:`g^t =
(\rho^t - \rho_\dagger)/\eta - G(\rho^{t-1})`, so that under squared l2

.. math:: \rho^{t+1} - \rho_\dagger = -\eta\,(G(\rho^t) - G(\rho^{t-1})).

With :math:`c = \eta\,\mathrm{Lip}(G)` the distances obey :math:`e^{t+1} \le c\,(e^t + e^{t-1})`: **they
tend to 0 if c < 1/2**. That is sharp: for linear G, along an eigenvector to the eigenvalue Lip(G), they
change by a root of :math:`z^2 + c z - c = 0` a round, and the size of the larger one, :math:`(c +
\sqrt{c^2 + 4c})/2`, is 1 exactly at c = 1/2. As every :math:`M_n` is 2 lam-smooth, Lip(G) is at most
2 lam (N - 1).

*l2 and smooth l2*: the report is cut off at norm lam. If the models converge, the limit minimizes
:math:`\sum_{n \ne s} M_n(\rho) + \lambda|\rho - \rho_\dagger|`, as under a model attack that freezes
:math:`\rho_\dagger` and is tied to rho by l2.

Source: the paper, recursion and bound; that the bound is sharp, and the limits, this package (T5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import sympy as sp

import gplconvex as gc
from gplconvex.federated import CounterGradientAttack, rounds, run
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "the counter-gradient attack"
SOURCE = "paper; sharpness and limits this package"

THRESHOLD = 0.5
"""c = eta Lip(G) at which distances neither shrink nor grow, G being linear."""

LIPSCHITZ = 2.0
"""The largest Lip(grad M_n) under squared l2 over lam."""

MUTATIONS = {"THRESHOLD": 1.01, "LIPSCHITZ": 0.99}


def symbolic() -> Iterator[Identity]:
    """One step, its roots, and the projection in the limit."""
    now, before, target, pull, last, eta = sp.symbols("rho_t rho_s target G_t G_s eta", real=True)
    report = (now - target) / eta - last
    yield identity(
        "rho^{t+1} - target = -eta (G(rho^t) - G(rho^{t-1}))",
        now - eta * (pull + report) - target + eta * (pull - last),
    )
    sent = sp.symbols("g_s", real=True)
    after = before - eta * (last + sent)
    yield identity(
        "(rho^{t-1} - rho^t)/eta - g^{t-1} = G(rho^{t-1})", (before - after) / eta - sent - last
    )
    c, z = sp.symbols("c z", positive=True)
    root = (c + sp.sqrt(c**2 + 4 * c)) / 2
    threshold = sp.nsimplify(THRESHOLD)
    yield identity(
        "z^2 + c z - c = 0 at z = -(c + sqrt(c^2 + 4 c)) / 2, which grows with c and is -1 at 1/2",
        (z**2 + c * z - c).subs(z, -root),
        sp.Gt(sp.diff(root, c).subs(c, z), 0),
        root.subs(c, threshold) - 1,
    )
    yield identity(
        "the bound e^{t+1} <= c (e^t + e^{t-1}) has the root r^2 = c (r + 1), which is 1 there too",
        (root**2 - c * (root + 1)),
        (z**2 - threshold * (z + 1)).subs(z, 1),
    )
    lam, h = sp.symbols("lam h", positive=True)
    smooth = 2 * lam * h / (h + 2 * lam)
    yield identity(
        "2 lam h / (h + 2 lam), the curvature of M_n where L_n has h, tends to 2 lam from below",
        sp.limit(smooth, h, sp.oo) - sp.nsimplify(LIPSCHITZ) * lam,
        sp.simplify(2 * lam - smooth - 4 * lam**2 / (h + 2 * lam)),
    )
    a = sp.Matrix(sp.symbols("u:3", real=True))  # rho - target
    size = sp.sqrt(a.dot(a))
    wish = a / eta + lam * a / size
    length = size / eta + lam
    yield identity(
        "where -G = lam (rho - target)/|rho - target|, the wish, of norm lam or more, is cut to -G",
        sp.expand(wish.dot(wish)) - length**2,
        *(lam * wish / length - lam * a / size),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Recursion, rates on either side of 1/2, users whose loss is not quadratic, and limits."""
    lam = float(rng.uniform(0.5, 2.0))
    target = 3.0 * rng.normal(size=2)
    linear = _linear(lam, rng)
    step = 0.4 / linear.lipschitz
    rhos = _models(linear.problem, target, step, 8)
    pulls = [_pull(linear.problem, rho) for rho in rhos]
    off = [
        np.linalg.norm(rhos[t + 1] - target + step * (pulls[t] - pulls[t - 1])) for t in range(1, 7)
    ]
    yield Measurement("the recursion's residual over 6 rounds", float(max(off)), 0.0)
    for factor in (0.9, 1.0, 1.1):
        c = factor * THRESHOLD
        rate = _rate(linear, target, c / linear.lipschitz)
        expected = (c + math.sqrt(c * c + 4.0 * c)) / 2.0
        yield Measurement(
            f"linear G: the rate at {factor} of the threshold", rate, expected, tolerance=1e-6
        )
        if factor == 1.0:
            yield Measurement("and there it is 1", rate, 1.0, tolerance=1e-6)
    steep = gc.Problem(
        gc.LeastSquares(), gc.SquaredL2(lam), [gc.Dataset(1e4 * np.eye(2), np.zeros(2))]
    )
    steepest = float(np.linalg.eigvalsh(gc.moreau_envelope(steep, 0, target).hessian)[-1])
    yield Measurement(
        "Lip(grad M_n) comes near to 2 lam", steepest, LIPSCHITZ * lam, tolerance=1e-6
    )
    data = [
        gc.honest_dataset(gc.Logistic(), rng.normal(size=2), 40, seed=int(rng.integers(2**32)))
        for _ in range(3)
    ]
    logistic = gc.Problem(gc.Logistic(), gc.SquaredL2(lam), data, nu=0.1)
    step = 0.98 * THRESHOLD / (LIPSCHITZ * lam * 3)
    reached = _models(logistic, target, step, 500)[-1]
    yield Measurement("logistic users: the distance after 500 rounds", _away(reached, target), 0.0)
    for regularizer in (gc.L2(lam), gc.SmoothL2(lam)):
        yield from _limit(regularizer, data, rng)


def counterexample() -> Iterator[Measurement]:
    """Step too far: 1 % beyond the threshold, and well beyond it."""
    rng = np.random.default_rng(0)
    target = np.array([3.0, -1.0])
    linear = _linear(1.0, rng)
    yield Measurement(
        "c = 0.505: the distance shrinks",
        _rate(linear, target, 0.505 / linear.lipschitz),
        1.0,
        "<=",
    )
    rhos = _models(linear.problem, target, 0.7 / linear.lipschitz, 60)
    yield Measurement(
        "c = 0.7: nearer after 60 rounds than at the start",
        _away(rhos[-1], target),
        _away(rhos[0], target),
        "<=",
    )


@dataclass(frozen=True)
class _Linear:
    """Least-squares users, whose pull is linear: its Lipschitz constant, and where it is steepest."""

    problem: gc.Problem
    lipschitz: float
    axis: np.ndarray


def _linear(lam: float, rng: np.random.Generator) -> _Linear:
    data = [gc.Dataset(rng.normal(size=(5, 2)), rng.normal(size=5)) for _ in range(3)]
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(lam), data, nu=0.1)
    hessian = sum(gc.moreau_envelope(problem, n, np.zeros(2)).hessian for n in range(3))
    values, vectors = np.linalg.eigh(hessian)
    return _Linear(problem, float(values[-1]), vectors[:, -1])


def _pull(problem: gc.Problem, rho: np.ndarray) -> np.ndarray:
    users = range(problem.n_users)
    return np.asarray(np.sum([gc.moreau_envelope(problem, n, rho).gradient for n in users], axis=0))


def _models(problem: gc.Problem, target: np.ndarray, step: float, n: int) -> list[np.ndarray]:
    attack = CounterGradientAttack(target)
    return [each.rho for each in itertools.islice(rounds(problem, [attack], step_size=step), n)]


def _away(rho: np.ndarray, target: np.ndarray) -> float:
    return float(np.linalg.norm(rho - target))


def _rate(users: _Linear, target: np.ndarray, step: float) -> float:
    """Return the factor by which the distance along the steepest direction changes in a round."""
    *_, before, after = _models(users.problem, target, step, 80)
    return abs(float((after - target) @ users.axis)) / abs(float((before - target) @ users.axis))


def _limit(
    regularizer: gc.L2 | gc.SmoothL2, data: list[gc.Dataset], rng: np.random.Generator
) -> Iterator[Measurement]:
    """Aim at what cannot be reached: the model after many rounds beside the minimizer."""
    problem = gc.Problem(gc.Logistic(), regularizer, data, nu=0.1)
    target = 6.0 * rng.normal(size=2)
    attack = gc.ModelAttack(target, gc.L2(regularizer.lam))
    expected = gc.solve(problem, attacker=attack).require_optimal()
    found = run(problem, [CounterGradientAttack(target)], step_size=0.1, max_rounds=4000, tol=1e-12)
    reached, name = found.rho[-1], type(regularizer).__name__
    yield Measurement(
        f"{name}: how far the limit is from the minimizer",
        _away(reached, expected.rho),
        0.0,
        tolerance=1e-6,
    )
    yield Measurement(
        f"{name}: the pull there",
        float(np.linalg.norm(_pull(problem, expected.rho))),
        regularizer.lam * (1.0 + 1e-9),
        "<=",
    )
