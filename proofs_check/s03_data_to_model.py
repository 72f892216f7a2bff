r"""S3. Data to model: freezing what one's data teach changes nothing.

Let :math:`(\rho^\star, \theta_1^\star, \ldots, \theta_N^\star)` minimize F, the data of user s
included. If s drops the data and freezes :math:`\theta_s = \theta_s^\star` instead, then
:math:`(\rho^\star, \theta_{-s}^\star)` minimizes what is left,

.. math:: F(\cdot, \theta_s^\star) - L_s(\theta_s^\star)
          = \sum_{n \ne s} L_n(\theta_n) + \sum_{n \ne s} r(\rho - \theta_n)
            + r(\rho - \theta_s^\star),

for all convex losses and regularizers.

Source: the paper, reduction from data poisoning to model attack (T2.1).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "data to model"
SOURCE = "paper"

FROZEN = 1.0
"""What is frozen over what the data teach."""

MUTATIONS = {"FROZEN": 1.01}

SOLVED = 1e-6
"""What two certified distances may add up to: under l2 one is the root of a gap, which is rounding."""

LOSSES = (gc.LeastSquares(), gc.Logistic(intercept=True), gc.Poisson(), gc.Softmax(3))


def symbolic() -> Iterator[Identity]:
    """Only a constant is dropped, and a minimum over fewer variables is no smaller."""
    rho, own, other = sp.symbols("rho theta_s theta_1", real=True)
    losses, tie = (sp.Function("L_1"), sp.Function("L_s")), sp.Function("r")
    whole = losses[0](other) + losses[1](own) + tie(rho - other) + tie(rho - own)
    frozen = losses[0](other) + tie(rho - other) + tie(rho - own)
    yield identity(
        "F less what is left is L_s(theta_s), free of rho and of all other models",
        whole - frozen - losses[1](own),
        *(sp.diff(whole - frozen, model) for model in (rho, other)),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Solve with the data of s, freeze its model, and solve again without them."""
    for regularizer in (gc.SquaredL2(1.0), gc.SmoothL2(4.0), gc.L2(4.0)):
        most = []
        for loss in LOSSES:
            problem = honest_users(loss, regularizer, rng)
            with_data = gc.solve(problem)
            attack = gc.ModelAttack(FROZEN * with_data.thetas[-1])
            frozen = gc.solve(without_last(problem), attacker=attack)
            most.append(apart(with_data, frozen)[1])
        yield Measurement(
            f"{type(regularizer).__name__}: |rho* with data - rho* with their model| is at most",
            float(np.max(most)),
            0.0,
            tolerance=SOLVED,
        )


def honest_users(
    loss: gc.Loss, regularizer: gc.Regularizer, rng: np.random.Generator, n_users: int = 4
) -> gc.Problem:
    """Return users with a few points of three features, labeled by models of their own."""
    teachers = 0.5 * rng.normal(size=(n_users, *loss.shape(3)))
    seeds = rng.integers(2**31, size=n_users)
    data = [
        gc.honest_dataset(loss, theta, 12, seed=int(seed))
        for theta, seed in zip(teachers, seeds, strict=True)
    ]
    return gc.Problem(loss, regularizer, data, 0.3)


def without_last(problem: gc.Problem) -> gc.Problem:
    """Return the problem without its last user."""
    return gc.Problem(problem.loss, problem.regularizer, problem.datasets[:-1], problem.nu[:-1])


def apart(one: gc.Solution, other: gc.Solution) -> tuple[float, float]:
    """Return how far two optima are apart, at least and at most, from certified solutions."""
    between = float(np.linalg.norm(one.rho - other.rho))
    off = one.certificate.distance + other.certificate.distance
    return max(0.0, between - off), between + off


def counterexample() -> Iterator[Measurement]:
    """Freeze something else than what the data teach, or tie it by something else than r."""
    rng = np.random.default_rng(0)
    problem = honest_users(gc.LeastSquares(), gc.SquaredL2(1.0), rng)
    with_data = gc.solve(problem)
    alone = gc.solve(gc.Problem(problem.loss, problem.regularizer, problem.datasets[-1:], 0.3))
    attacks = {
        "another user's model is frozen": gc.ModelAttack(with_data.thetas[0]),
        "frozen is what the data teach alone": gc.ModelAttack(alone.thetas[0]),
        "the frozen model is tied by l2": gc.ModelAttack(with_data.thetas[-1], gc.L2(1.0)),
    }
    for what, attack in attacks.items():
        frozen = gc.solve(without_last(problem), attacker=attack)
        least = apart(with_data, frozen)[0]
        yield Measurement(f"{what}: rho* moves by at least", least, 0.0, tolerance=SOLVED)
