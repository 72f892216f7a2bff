r"""The published poisoning of softmax: an attack, or a transient of the optimizer.

The published dataset: 2000 points near which all classes tie under :math:`\theta_\spadesuit`, labeled
with its probabilities (`gplconvex.indifference_dataset`, T2.4). An attacker who owns it starts near
:math:`\theta_\spadesuit`, all others at 0; after 250 epochs the shared model is near the target. Here
the training goes on, and the optimum of the same data is certified.

**Why it cannot last.** At an optimum the attacker's model is no worse for the attacker than 0, where
each of k points has the loss log K:

.. math:: \nu|\theta_s|^2 + \lambda|\rho - \theta_s|^2 \le k \log K + \lambda|\rho|^2.

So k points, whatever they are, can hold :math:`\theta_\spadesuit` against the pull of
:math:`\rho_\dagger` only if k is at least `Transient.energy_floor`. T3.4 proves more:
`Transient.points_needed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.datasets import digits, mnist
from gplconvex.equivalence import to_model
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Result, Steps
from gplconvex.experiments.training import train
from gplconvex.honest import indifference_dataset
from gplconvex.problem import Problem
from gplconvex.realization.multiclass_bound import kappas
from gplconvex.regularizers import norm
from gplconvex.replies import replies

PUBLISHED_EPOCHS = 250
"""After so many the published training stops."""

START_NOISE = 0.1
"""Standard deviation of what is added to the attacker's first model, as published."""

RECORDS = 120
"""How many epochs are looked at, evenly on a logarithmic axis."""


@dataclass(frozen=True, eq=False)
class Road(Result):
    r"""Training with the poisoned data, at the epochs that were looked at.

    Attributes
    ----------
    epochs : array of int, shape (R,)
    accuracy, shifted : arrays, shape (R,)
        Shares of test images that :math:`\rho` puts into their class, and into the one after.
    distance : array, shape (R,)
        :math:`|\rho - \rho_\dagger|`.
    attacker : array, shape (R,)
        :math:`|\theta_s|`.
    objective : array, shape (R,)
        F of the poisoned problem.
    seconds : float
        Of the training alone.
    """

    epochs: Any
    accuracy: Any
    shifted: Any
    distance: Any
    attacker: Any
    objective: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class Transient(Result):
    r"""What becomes of the published dataset.

    Attributes
    ----------
    settings : dict
        Of the federation.
    n_points : int
        k, how many points the dataset has.
    seeds : tuple of int
        Of the datasets; the training is with the first.
    honest : Optimum
        Of the honest users.
    honest_accuracy : float
        Of their shared model on test images.
    target_norm, pull, spade_norm : float
        :math:`|\rho_\dagger|`, :math:`|g|`, :math:`|\theta_\spadesuit|`.
    start_objective : float
        F where the attacker has what it wants: :math:`\rho_\dagger`, the honest replies to it, and
        :math:`\theta_\spadesuit`.
    road : Road
        The training.
    optima : tuple of Optimum
        Of the poisoned problems, one a seed.
    accuracy : array, shape (S, 3)
        Of :math:`\rho` on test images, one row a seed: where the solver stopped, and the least and the
        greatest that any model within the certified distance of it has.
    shifted : array, shape (S,)
        Share of test images put into the class after theirs.
    attacker : array, shape (S,)
        :math:`|\theta_s^*|`, up to ``certificate.theta_distances``.
    distance : array, shape (S,)
        :math:`|\rho^* - \rho_\dagger|`, up to ``certificate.distance``.
    energy_floor, points_needed : int
        No fewer points make the target the optimum, by the argument above and by T3.4.
    """

    settings: dict[str, Any]
    n_points: int
    seeds: tuple[int, ...]
    honest: Optimum
    honest_accuracy: float
    target_norm: float
    pull: float
    spade_norm: float
    start_objective: float
    road: Road
    optima: tuple[Optimum, ...]
    accuracy: Any
    shifted: Any
    attacker: Any
    distance: Any
    energy_floor: int
    points_needed: int


def transient(
    federation: Federation,
    *,
    n_points: int = 2000,
    epochs: int = 10_000,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: Steps = Steps(),
) -> Transient:
    r"""Train with the published dataset for long, and certify where it leads.

    Parameters
    ----------
    federation : Federation
        The honest users; the attacker has their ridge.
    n_points : int
        k.
    epochs : int
        Of the training, the published 250 included.
    seeds : sequence of int
        One dataset each; the noise of the attacker's start is drawn with the same seed.
    steps : Steps
        Where steps are kept.

    Raises
    ------
    InvalidInputError
        For less than one epoch, or no seed.
    NotSolvedError
        If an optimum cannot be certified.
    """
    if epochs < 1 or not seeds:
        raise InvalidInputError(
            f"there must be an epoch and a seed; got epochs = {epochs}, seeds = {list(seeds)}"
        )
    steps = steps.within("transient", **federation.settings, n_points=n_points)
    honest, target = federation.honest(steps), federation.target(steps)
    aim = steps("aim", lambda: _aim(federation.problem(), target))

    def optimum_of(seed: int) -> Optimum:
        return Optimum.of(optimum(_poisoned(federation, aim, n_points, seed)))

    optima = tuple(steps(f"optimum of seed {seed}", partial(optimum_of, seed)) for seed in seeds)
    first = _poisoned(federation, aim, n_points, seeds[0])
    road = steps.within("training", epochs=epochs)(
        f"training of seed {seeds[0]}",
        lambda: _road(federation, first, aim, epochs, seeds[0], steps.on_progress),
    )
    lam, nu, classes = federation.lam, federation.nu, federation.n_classes
    energy = nu * norm(aim.spade) ** 2 + lam * (norm(target - aim.spade) ** 2 - norm(target) ** 2)
    paid = -float(np.vdot(aim.spade, aim.gradient - 2.0 * nu * aim.spade))
    return Transient(
        settings=federation.settings,
        n_points=n_points,
        seeds=tuple(seeds),
        honest=honest,
        honest_accuracy=federation.accuracy(honest.rho),
        target_norm=norm(target),
        pull=norm(aim.gradient),
        spade_norm=norm(aim.spade),
        start_objective=first.value(target, [*aim.replies, aim.spade]),
        road=road,
        optima=optima,
        accuracy=np.array(
            [
                [
                    federation.accuracy(each.rho),
                    *federation.accuracy_within(each.rho, each.certificate.distance),
                ]
                for each in optima
            ]
        ),
        shifted=np.array([federation.accuracy(each.rho, shift=1) for each in optima]),
        attacker=np.array([norm(each.thetas[-1]) for each in optima]),
        distance=np.array([norm(each.rho - target) for each in optima]),
        energy_floor=math.ceil(energy / math.log(classes)),
        points_needed=math.ceil(paid / float(kappas(np.zeros(classes)).max())),
    )


@dataclass(frozen=True, eq=False)
class Aim(Result):
    r"""What holds the shared model at a target.

    Attributes
    ----------
    target, gradient, spade : arrays, shape of a model
        :math:`\rho_\dagger`, g and :math:`\theta_\spadesuit`.
    replies : array, shape (N, *shape of a model)
        The personal models of the honest users there.
    """

    target: Any
    gradient: Any
    spade: Any
    replies: Any


def _aim(problem: Problem, target: FloatArray) -> Aim:
    honest = replies(problem, target)
    gradient = -honest.gradient.sum(axis=0).reshape(problem.shape)
    spade = to_model(problem, target, gradient)
    return Aim(target, gradient, spade, honest.theta.reshape(-1, *problem.shape))


def _poisoned(federation: Federation, aim: Aim, n_points: int, seed: int) -> Problem:
    """Return the problem with the attacker as its last user."""
    data = indifference_dataset(federation.loss, aim.spade, n_points, seed=seed)
    return federation.problem().with_user(data, federation.nu)


def _road(
    federation: Federation,
    problem: Problem,
    aim: Aim,
    epochs: int,
    seed: int,
    on_progress: Callable[[float], object],
) -> Road:
    """Train with the poisoned data, and look at some epochs."""
    looked_at = set(np.unique(np.geomspace(1, epochs, RECORDS).round().astype(int)).tolist())
    looked_at |= {epochs, min(epochs, PUBLISHED_EPOCHS)}
    rows: list[tuple[float, ...]] = []

    def look(epoch: int, rho: FloatArray, thetas: FloatArray) -> None:
        if epoch in looked_at:
            on_progress(epoch / epochs)
            rows.append(
                (
                    federation.accuracy(rho),
                    federation.accuracy(rho, shift=1),
                    norm(rho - aim.target),
                    norm(thetas[-1]),
                    problem.value(rho, list(thetas)),
                )
            )

    thetas = np.zeros((problem.n_users, *problem.shape))
    noise = np.random.default_rng(seed).standard_normal(problem.shape)
    thetas[-1] = aim.spade + START_NOISE * noise
    start = (np.zeros(problem.shape), thetas)
    training = train(problem, epochs, start=start, watch=look)
    accuracy, shifted, distance, attacker, objective = np.array(rows).T
    return Road(
        np.array(sorted(looked_at)),
        accuracy,
        shifted,
        distance,
        attacker,
        objective,
        training.seconds,
    )


def quick(steps: Steps) -> Transient:
    """Run it on small digits, with 200 points and three seeds."""
    return transient(
        Federation.of(digits(), 10, 140), n_points=200, epochs=10_000, seeds=(0, 1, 2), steps=steps
    )


def full(steps: Steps) -> Transient:
    """Run it on MNIST."""
    return transient(Federation.of(mnist(), 10, 6000), steps=steps)
