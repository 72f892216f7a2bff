r"""The sum of local losses, or their mean: who has a say in the shared model.

Ten users have ten images each, an eleventh has all the others, and labels are noisy. Either every
*point* counts alike, or every *user*:

.. math:: F_\text{sum} = \sum_n L_n(\theta_n) + \lambda \sum_n |\rho - \theta_n|^2, \qquad
          F_\text{mean} = \sum_n \frac{L_n(\theta_n)}{m_n} + \lambda \sum_n |\rho - \theta_n|^2 .

The package minimizes sums. With m the largest of the m_n, and a multiple of all of them,

.. math:: m\,F_\text{mean} = \sum_n \frac{m}{m_n} L_n(\theta_n) + m\lambda \sum_n |\rho - \theta_n|^2

is one: each point of user n is there :math:`m/m_n` times, and so is its ridge. Exact, whole numbers.

**What was published** is of Fashion-MNIST and a network of two layers, which is not convex, and of
60 % noise in the labels; whose labels, the source available to us does not say. Here the model is
linear softmax, and both readings are done: noise for everybody, and for the small users alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate
from gplconvex.data import Dataset
from gplconvex.datasets import Images, digits, fashion_mnist
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Result, Steps
from gplconvex.experiments.training import train
from gplconvex.losses import Softmax
from gplconvex.problem import Problem
from gplconvex.regularizers import SquaredL2

N_SMALL, POINTS = 10, 10
"""Small users, and images of each: published."""

LAM, NOISE, EPOCHS = 100.0, 0.6, 200
"""Published as well."""

NU = 0.01
"""Ridge of every user. The published experiment has none, and then there is no optimum (T4)."""

TOL = 1e-11
"""Relative gap. Accuracies are asked for, and their certified bounds say what it leaves open."""

EVERY = 5
"""Epochs between two looks at the training."""

How = Literal["sum", "mean"]
HOW: tuple[How, ...] = ("sum", "mean")

Noisy = Literal["everybody", "small users"]
NOISY: tuple[Noisy, ...] = ("everybody", "small users")


@dataclass(frozen=True, eq=False)
class Weighing(Result):
    r"""One way to weigh users, and one draw of images and noise.

    Attributes
    ----------
    how : {"sum", "mean"}
        What is minimized.
    noisy : {"everybody", "small users"}
        Whose labels are noisy.
    seed : int
        Of the draw.
    accuracy : array, shape (3,)
        Of the shared model at the optimum, on test images: where the solver stopped, and the least and
        the greatest of any model within the certified distance of it.
    small, large : float
        Of the personal models at the optimum: the mean of the small users, and that of the large one.
    certificate : Certificate
        Of the optimum; for the mean, of m times the mean.
    lessons : Lessons
        The training.
    """

    how: str
    noisy: str
    seed: int
    accuracy: Any
    small: float
    large: float
    certificate: Certificate
    lessons: Lessons


@dataclass(frozen=True, eq=False)
class Lessons(Result):
    r"""Accuracies on test images along the published training.

    Attributes
    ----------
    epochs : array of int, shape (R,)
        When they were looked at.
    accuracy : array, shape (R,)
        Of the shared model.
    small, large : float
        Of the personal models at the end: the mean of the small users, and that of the large one.
    """

    epochs: Any
    accuracy: Any
    small: float
    large: float


@dataclass(frozen=True, eq=False)
class SumOrMean(Result):
    r"""Sum beside mean.

    Attributes
    ----------
    images : str
        Of which images.
    n_small, points, large : int
        How many small users, images of each of them, and images of the large user.
    noise, lam, nu : float
        Part of the labels that are drawn anew; :math:`\lambda`; ridge.
    seeds : tuple of int
        One draw each.
    weighings : tuple of Weighing
        For every seed, of whose labels are noisy, and of sum and mean.
    """

    images: str
    n_small: int
    points: int
    large: int
    noise: float
    lam: float
    nu: float
    seeds: tuple[int, ...]
    weighings: tuple[Weighing, ...]

    def of(self, how: str, noisy: str) -> tuple[Weighing, ...]:
        """Return those of one way and one reading, by seed."""
        return tuple(each for each in self.weighings if (each.how, each.noisy) == (how, noisy))


def sum_or_mean(
    images: Images,
    *,
    n_small: int = N_SMALL,
    points: int = POINTS,
    noise: float = NOISE,
    lam: float = LAM,
    nu: float = NU,
    epochs: int = EPOCHS,
    seeds: Sequence[int] = (0, 1, 2),
    steps: Steps = Steps(),
) -> SumOrMean:
    r"""Minimize, and train, the sum and the mean of the losses of small noisy users and a large one.

    Parameters
    ----------
    images : Images
        Dealt out at random: ``points`` for each small user, the others for the large one, whose number
        must be a multiple of ``points``.
    n_small, points : int
        How many small users, and images of each.
    noise : float
        From 0 to 1: of that part of a user's labels, rounded, each is replaced by a class drawn from
        all K alike, its own not excepted.
    lam, nu : float
        :math:`\lambda`, of squared l2, and the ridge of every user.
    epochs : int
        Of the training, on the same weighed points. (The steps of Adam do not depend on a factor of F,
        but for its epsilon.)
    seeds : sequence of int
        One draw of images and noise each.
    steps : Steps
        Where steps are kept.

    Raises
    ------
    InvalidInputError
        If there are too few images, the large user's are no multiple, or a setting makes no sense.
    NotSolvedError
        If an optimum cannot be certified.
    """
    large = len(images.labels) - n_small * points
    if not (n_small >= 1 and points >= 1 and large >= points and large % points == 0):
        raise InvalidInputError(
            f"n_small * points of the {len(images.labels)} images must leave a multiple of points for "
            f"the large user; got {n_small} * {points}"
        )
    if not 0.0 <= noise <= 1.0 or epochs < 1 or not seeds:
        raise InvalidInputError(
            "noise must be from 0 to 1, and there must be an epoch and a seed; got noise = "
            f"{noise}, epochs = {epochs}, seeds = {list(seeds)}"
        )
    n_classes = len(images.classes)
    judge = Federation(images.name, (), n_classes, images.x_test, images.y_test)
    steps = steps.within(
        "sum_or_mean",
        images=images.name,
        n_small=n_small,
        points=points,
        noise=noise,
        lam=lam,
        nu=nu,
    )

    def weigh(seed: int, noisy: Noisy, how: How) -> Weighing:
        name = f"{how}, noise of {noisy}, seed {seed}"

        def problem() -> Problem:
            users = deal(images, n_small, points, noise, noisy, seed)
            return weighed(users, n_classes, how, lam, nu)

        found = steps(f"optimum of {name}", lambda: Optimum.of(optimum(problem(), tol=TOL)))
        lessons = steps.within("training", epochs=epochs)(
            f"training of {name}", lambda: _learn(problem(), epochs, judge, steps.on_progress)
        )
        accuracies = [judge.accuracy(theta) for theta in found.thetas]
        within = judge.accuracy_within(found.rho, found.certificate.distance)
        return Weighing(
            how,
            noisy,
            seed,
            np.array([judge.accuracy(found.rho), *within]),
            float(np.mean(accuracies[:-1])),
            accuracies[-1],
            found.certificate,
            lessons,
        )

    return SumOrMean(
        images=images.name,
        n_small=n_small,
        points=points,
        large=large,
        noise=noise,
        lam=lam,
        nu=nu,
        seeds=tuple(seeds),
        weighings=tuple(
            weigh(seed, noisy, how) for seed in seeds for noisy in NOISY for how in HOW
        ),
    )


def deal(
    images: Images, n_small: int, points: int, noise: float, noisy: Noisy, seed: int
) -> list[Dataset]:
    """Return the users' images in a random order, the small users first, with noise in the labels.

    Of the noisy users' labels the part ``noise`` of each, rounded, is replaced by classes drawn from all
    K alike. Whose labels are noisy changes nothing else: the draw is the same.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images.labels))
    cuts = points * np.arange(1, n_small + 1)
    users = []
    for n, rows in enumerate(np.split(order, cuts)):
        y = images.labels[rows].copy()
        wrong = rng.permutation(len(rows))[: round(noise * len(rows))]
        drawn = rng.integers(len(images.classes), size=len(wrong))
        if noisy == "everybody" or n < n_small:
            y[wrong] = drawn
        users.append(Dataset(images.pixels[rows] / images.levels, y))
    return users


def weighed(users: Sequence[Dataset], n_classes: int, how: How, lam: float, nu: float) -> Problem:
    r"""Return the sum of the local losses, or m times their mean, m the largest number of points.

    Parameters
    ----------
    users : sequence of Dataset
        For the mean m must be a multiple of every number of points.
    n_classes : int
        K.
    how : {"sum", "mean"}
        How they are weighed.
    lam, nu : float
        Of the sum, and of the mean.

    Examples
    --------
    >>> users = [Dataset([[1.0]], [0]), Dataset([[1.0], [2.0]], [0, 1])]
    >>> problem = weighed(users, 2, "mean", lam=3.0, nu=0.1)
    >>> [user.counts.tolist() for user in problem.datasets], problem.regularizer.lam
    ([[2], [1, 1]], 6.0)
    """
    most = max(user.n_points for user in users)
    times = np.array([most // user.n_points if how == "mean" else 1 for user in users])
    if how == "mean" and any(most % user.n_points for user in users):
        raise InvalidInputError(
            "for a mean in whole numbers the largest number of points must be a multiple of all; got "
            f"{[user.n_points for user in users]}"
        )
    weighted = [
        Dataset(user.x, user.y, factor * user.counts)
        for user, factor in zip(users, times, strict=True)
    ]
    scale = most if how == "mean" else 1
    return Problem(Softmax(n_classes, intercept=True), SquaredL2(scale * lam), weighted, nu * times)


def _learn(
    problem: Problem, epochs: int, judge: Federation, on_progress: Callable[[float], object]
) -> Lessons:
    """Train as published, and look at every few epochs, the first and the last."""
    looked_at = sorted({1, *range(EVERY, epochs, EVERY), epochs})
    accuracies: list[float] = []

    def look(epoch: int, rho: FloatArray, thetas: FloatArray) -> None:
        if epoch in looked_at:
            on_progress(epoch / epochs)
            accuracies.append(judge.accuracy(rho))

    thetas = train(problem, epochs, watch=look).thetas
    small = [judge.accuracy(theta) for theta in thetas[:-1]]
    return Lessons(
        np.array(looked_at),
        np.array(accuracies),
        float(np.mean(small)),
        judge.accuracy(thetas[-1]),
    )


def quick(steps: Steps) -> SumOrMean:
    """Run it on small digits: 1300 for the large user."""
    return sum_or_mean(digits(), steps=steps)


def full(steps: Steps) -> SumOrMean:
    """Run it on Fashion-MNIST: 59 900 for the large user."""
    return sum_or_mean(fashion_mnist(), steps=steps)
