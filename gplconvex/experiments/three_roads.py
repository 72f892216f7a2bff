r"""From a gradient to a model to data, as published, and exactly.

A liar beside N honest users wants :math:`\rho_\dagger`. The published experiment goes there on three
roads, each a training of 250 epochs from the start:

1. *gradient*: a counter-gradient attack. Where it ends, :math:`\theta_\spadesuit = (N + 1)\rho - \sum_n
   \theta_n` is the model whose honest report balances the others';
2. *model*: that one, frozen;
3. *data*: 2000 points of `indifference_dataset` as an eleventh user, whose training starts at
   :math:`\theta_\spadesuit` plus noise of deviation 0.1.

A training stops somewhere. Here it is also certified where the roads lead:

- the optimum of the published points, found by a solver;
- the exact gradient, model and data of T2.5, whose optimum is the target. The certificates are those of
  the target itself; and a solver that starts at 0 and is told nothing arrives there.

The published setting has no ridge, and then MNIST has no optimum: the trainings here have none, the
optima have one, and the last road is trained with it as well, on the very objective whose optimum is
certified. The exact attacks on the same target are certified at smaller ridges, too. They have a limit,
as the honest replies to one target exist without any ridge; what is lost on the way is the certificate,
whose distance grows as the strong convexity falls.

Source: S. Farhadkhani, R. Guerraoui, L.-N. Hoang, O. Villemaud, *An Equivalence Between Data Poisoning
and Byzantine Gradient Attacks*, ICML 2022, its section of experiments. Everything here is written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate, certify
from gplconvex.data import Dataset, is_number
from gplconvex.datasets import digits, mnist
from gplconvex.equivalence import poison, to_gradient
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import SOLVE_TOL, Federation
from gplconvex.experiments.results import Optimum, Result, Steps, Stopwatch
from gplconvex.experiments.training import Report, counter_gradient_report, train
from gplconvex.honest import indifference_dataset
from gplconvex.participants import Attacker, GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import norm
from gplconvex.solvers import solve

EPOCHS = 250
"""The published length of each road."""

POINTS = 2000
"""The published number of points."""

NOISE = 0.1
"""Published deviation of the attacker's first model from :math:`\\theta_\\spadesuit`."""

EXTRA = 500
"""Points beyond the fewest that the realized dataset spends on small inputs.

The fewest have inputs of norms up to 887 on MNIST. The target is certified to be their optimum, but no
solver of this package finds that from 0 to many digits; with 0.4 % more points the norms are small, and
`solve` does.
"""

SMALLER = (0.01, 0.001)
"""Ridges below that of the federation at which the exact attacks are certified as well."""


@dataclass(frozen=True, eq=False)
class TrainedRoad(Result):
    r"""One road, trained as published.

    Attributes
    ----------
    nu : float
        The ridge of all users; 0 is published.
    accuracy : array, shape (epochs,)
        Of :math:`\rho` on the true labels of the test images, after each epoch.
    distance : array, shape (epochs,)
        :math:`|\rho - \rho_\dagger|`, likewise.
    rho : array, shape of a model
        The last one.
    theta : array, shape of a model
        The attacker's personal model at the end: of the gradient, :math:`\theta_\spadesuit`.
    seconds : float
        Of the training; measuring it is not counted.
    """

    nu: float
    accuracy: Any
    distance: Any
    rho: Any
    theta: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class ExactRoads(Result):
    r"""The three attacks that make the target the optimum, certified at the target itself.

    Attributes
    ----------
    nu : float
        The ridge of all users, the attacker among them.
    report, theta : array, shape of a model
        The gradient g, and :math:`\theta_\spadesuit`, whose honest report at the target it is.
    thetas : array, shape (N, *shape of a model)
        The honest replies to the target.
    x, y, counts : arrays, shapes (rows, d), (rows,) or (rows, K), (rows,)
        The attacker's points.
    n_points, lower_bound : int
        How many they are, and the number below which no dataset does it.
    residual : float
        Relative residual of the sum of their gradients.
    gradient, model, data : Certificate
        At the target and these models: ``distance`` bounds :math:`|\rho^* - \rho_\dagger|` of each
        attack.
    seconds : float
        What all of it took but the first two certificates.
    """

    nu: float
    report: Any
    theta: Any
    thetas: Any
    x: Any
    y: Any
    counts: Any
    n_points: int
    lower_bound: int
    residual: float
    gradient: Certificate
    model: Certificate
    data: Certificate
    seconds: float

    @property
    def dataset(self) -> Dataset:
        """The attacker's points."""
        return Dataset(self.x, self.y, self.counts)


@dataclass(frozen=True, eq=False)
class ThreeRoads(Result):
    r"""Where the three roads were seen to end, and where they lead.

    Attributes
    ----------
    images : str
        Their name.
    users, points, extra, seed : int
        Of the honest users, the published dataset, the realized one, and of all random choices.
    lam : float
    target : array, shape of a model
        :math:`\rho_\dagger`.
    honest : Optimum
        Without attack, with the first ridge of ``exact``.
    trained : dict of TrainedRoad
        By name: ``"gradient"``, ``"model"``, ``"data"``, without ridge, and ``"data, ridge"``, the
        third with it.
    published : Optimum
        Of the published points, with the ridge.
    exact : tuple of ExactRoads
        The ridge of the federation first, with ``extra`` points; then the smaller ones, with the
        fewest.
    gradient, model, data : Optimum
        Of the first of them, found by a solver that starts at 0.
    models : tuple of Optimum
        Of the frozen models at the smaller ridges, likewise.
    honest_accuracy, target_accuracy, published_accuracy : float
        Of these three models, on the true labels of the test images.
    exact_accuracy : dict of float
        Of the solved ``"gradient"``, ``"model"`` and ``"data"``.
    """

    images: str
    users: int
    points: int
    extra: int
    seed: int
    lam: float
    target: Any
    honest: Optimum
    trained: dict[str, TrainedRoad]
    published: Optimum
    exact: tuple[ExactRoads, ...]
    gradient: Optimum
    model: Optimum
    data: Optimum
    models: tuple[Optimum, ...]
    honest_accuracy: float
    target_accuracy: float
    published_accuracy: float
    exact_accuracy: dict[str, float]

    @property
    def solved(self) -> dict[str, Optimum]:
        """The solved exact attacks by name."""
        return {"gradient": self.gradient, "model": self.model, "data": self.data}

    def from_target(self, optimum: Optimum) -> tuple[float, float]:
        r"""Return certified bounds of how far the exact optimum is from the target, below and above.

        The point that was found is some way off, and the optimum within the certified distance of it.
        """
        far, bound = norm(optimum.rho - self.target), optimum.certificate.distance
        return max(0.0, far - bound), far + bound


def three_roads(
    federation: Federation,
    *,
    epochs: int = EPOCHS,
    points: int = POINTS,
    extra: int = EXTRA,
    smaller: Sequence[float] = SMALLER,
    seed: int = 0,
    steps: Steps = Steps(),
) -> ThreeRoads:
    r"""Train all roads as published, and certify where they lead.

    Parameters
    ----------
    federation : Federation
        The honest users; its ridge must be positive.
    epochs : int
        Length of each training.
    points : int
        Of the published dataset.
    extra : int
        Points beyond the fewest in the realized dataset; see `EXTRA`.
    smaller : sequence of float
        Positive ridges below that of the federation, where the three attacks on the same target are
        certified, too.
    seed : int
        Of the published points and of the noise in the attacker's first model.
    steps : Steps
        Keeps every training, realization and optimum.

    Returns
    -------
    ThreeRoads

    Raises
    ------
    InvalidInputError
        If a number is out of range.
    NotSolvedError
        If an optimum other than that of the published points is not reached to the certified accuracy
        of all experiments; that one is returned with the status that its certificate justifies.
    """
    for name, value, least in (("epochs", epochs, 1), ("points", points, 1), ("extra", extra, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InvalidInputError(f"{name} must be an integer from {least}; got {value!r}")
    if not (
        federation.nu > 0.0 and all(is_number(nu) and 0.0 < nu < federation.nu for nu in smaller)
    ):
        raise InvalidInputError(
            "the ridges must be positive, or there is no optimum, and the smaller ones smaller; got "
            f"{list(smaller)!r} below {federation.nu!r}"
        )
    settings = {"epochs": epochs, "dataset": points, "extra": extra, "smaller": list(smaller)}
    steps = steps.within("three_roads", **federation.settings, **settings, seed=seed)
    honest, target = federation.honest(steps), federation.target(steps)
    trained, dataset = _trained(federation, target, epochs, points, seed, steps)
    problem = federation.problem()
    published = steps(
        "the published points, solved",
        lambda: Optimum.of(solve(problem.with_user(dataset, federation.nu))),
    )
    exact = [
        _exact(replace(federation, nu=nu), target, more, steps)
        for nu, more in ((federation.nu, extra), *((nu, 0) for nu in smaller))
    ]
    first, *others = exact
    gradient = _solved("gradient", problem, GradientAttack(first.report), steps)
    model = _solved("model", problem, ModelAttack(first.theta), steps)
    data = _solved("data", problem.with_user(first.dataset, first.nu), None, steps)
    models = [
        _solved("model", replace(federation, nu=at.nu).problem(), ModelAttack(at.theta), steps)
        for at in others
    ]
    return ThreeRoads(
        images=federation.name,
        users=problem.n_users,
        points=points,
        extra=extra,
        seed=seed,
        lam=federation.lam,
        target=target,
        honest=honest,
        trained=trained,
        published=published,
        exact=tuple(exact),
        gradient=gradient,
        model=model,
        data=data,
        models=tuple(models),
        honest_accuracy=federation.accuracy(honest.rho),
        target_accuracy=federation.accuracy(target),
        published_accuracy=federation.accuracy(published.rho),
        exact_accuracy={
            name: federation.accuracy(found.rho)
            for name, found in (("gradient", gradient), ("model", model), ("data", data))
        },
    )


def quick(steps: Steps) -> ThreeRoads:
    """Run it on digits."""
    federation = Federation.of(digits(), 10, 140)
    return three_roads(federation, extra=120, smaller=(0.01,), steps=steps)


def full(steps: Steps) -> ThreeRoads:
    """Run it on MNIST, as published."""
    return three_roads(Federation.of(mnist(), 10, 6000), steps=steps)


# -- as published ------------------------------------------------------------------------------------


def _trained(
    federation: Federation, target: FloatArray, epochs: int, points: int, seed: int, steps: Steps
) -> tuple[dict[str, TrainedRoad], Dataset]:
    """Return the roads that are trained, and the published points."""

    def road(
        nu: float,
        dataset: Dataset | None = None,
        theta: FloatArray | None = None,
        report: Report | None = None,
    ) -> TrainedRoad:
        """Train with a liar who owns a dataset and starts at ``theta``, or sends reports."""
        problem, start = replace(federation, nu=nu).problem(), None
        if dataset is not None:
            problem = problem.with_user(dataset, nu)
            thetas = np.zeros((problem.n_users, *problem.shape))
            thetas[-1] = theta
            start = np.zeros(problem.shape), thetas
        accuracy, distance = np.empty(epochs), np.empty(epochs)

        def watch(epoch: int, rho: FloatArray, thetas: FloatArray) -> None:
            accuracy[epoch - 1] = federation.accuracy(rho)
            distance[epoch - 1] = norm(rho - target)
            steps.on_progress(epoch / epochs)

        end = train(problem, epochs, report=report, start=start, watch=watch)
        if dataset is not None:
            theta = end.thetas[-1]
        elif theta is None:
            theta = balancing(end.rho, end.thetas)
        return TrainedRoad(nu, accuracy, distance, end.rho, theta, end.seconds)

    problem = federation.problem()
    gradient = steps(
        "gradient, trained", lambda: road(0.0, report=counter_gradient_report(problem, target))
    )
    theta = gradient.theta
    model = steps(
        "model, trained",
        lambda: road(0.0, theta=theta, report=lambda rho, *_: to_gradient(problem, rho, theta)),
    )
    dataset = indifference_dataset(federation.loss, theta, points, seed=seed)
    near = theta + NOISE * np.random.default_rng([seed, 1]).standard_normal(theta.shape)
    data = steps("data, trained", lambda: road(0.0, dataset, near))
    with_ridge = steps("data, trained with ridge", lambda: road(federation.nu, dataset, near))
    roads = {"gradient": gradient, "model": model, "data": data, "data, ridge": with_ridge}
    return roads, dataset


def balancing(rho: FloatArray, thetas: FloatArray) -> FloatArray:
    r"""Return :math:`(N + 1)\rho - \sum_n \theta_n`: frozen there, squared l2 balances the others.

    Examples
    --------
    >>> balancing(np.array([1.0]), np.array([[2.0], [4.0]]))  # 1 - 2, 1 - 4, 1 + 3 sum to 0
    array([-3.])
    """
    return np.asarray((len(thetas) + 1) * rho - thetas.sum(axis=0))


# -- exactly -----------------------------------------------------------------------------------------


def _exact(federation: Federation, target: FloatArray, extra: int, steps: Steps) -> ExactRoads:
    """Return the exact attacks at the ridge of a federation."""

    def compute() -> ExactRoads:
        clock = Stopwatch()
        problem = federation.problem()
        attack = poison(problem, target, extra=extra)
        seconds = clock.seconds
        honest = attack.thetas[:-1]
        gradient, model = (
            certify(problem, target, honest, attacker=attacker)
            for attacker in (GradientAttack(attack.gradient), ModelAttack(attack.theta))
        )
        return ExactRoads(
            nu=federation.nu,
            report=attack.gradient,
            theta=attack.theta,
            thetas=np.stack(honest),
            x=attack.dataset.x,
            y=attack.dataset.y,
            counts=attack.dataset.counts,
            n_points=attack.n_points,
            lower_bound=attack.lower_bound,
            residual=attack.residual,
            gradient=gradient,
            model=model,
            data=attack.certificate,
            seconds=seconds,
        )

    return steps(f"exact, nu = {federation.nu:g}", compute)


def _solved(name: str, problem: Problem, attacker: Attacker | None, steps: Steps) -> Optimum:
    """Return the optimum that a solver finds from 0."""
    return steps(
        f"{name}, nu = {problem.nu[0]:g}, solved",
        lambda: Optimum.of(solve(problem, attacker=attacker, tol=SOLVE_TOL).require_optimal()),
    )
