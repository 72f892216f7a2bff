r"""A federation of real people: each writer of MNIST's digits is a user.

Between two extremes, everybody alone and one model for all, lies :math:`\lambda`: what ties personal
models to the shared one. Each writer's model is measured on images of the same writer that were held
out. Then one more participant wants everybody's labels shifted by one class, the published target, and
it is counted how many points that takes, and what becomes of each writer's model.

**Alone** is an optimum like the others: with the server's model frozen at 0,
:math:`\tfrac\nu2 |\theta|^2 + \tfrac\nu2 |0 - \theta|^2 = \nu|\theta|^2`, squared l2 is the other half
of the ridge, and nobody hears of anybody. There an attacker changes nothing, however many points it has.

Not a published experiment. Images are averaged over blocks of 2x2 pixels first: then optima take a tenth
of the time, and what a linear model can do is hardly less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate
from gplconvex.data import Dataset
from gplconvex.datasets import digits, mnist
from gplconvex.equivalence import poison
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Result, Steps
from gplconvex.participants import Attacker, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import HardConsensus, SquaredL2

ALONE, POOLED = 0.0, math.inf
r"""The ends of the scale of :math:`\lambda`."""

LAMS = (0.1, 1.0, 10.0)

NU = 0.01
"""Ridge of every writer."""

HELD_OUT = 5
"""Of so many images of a writer one is held out."""

TOL = 1e-11
"""Relative gap. Accuracies are asked for; distances are certified to about 1e-6 of the models."""


@dataclass(frozen=True, eq=False)
class WritersAttack(Result):
    r"""One more participant who holds the shared model at the target.

    Attributes
    ----------
    points, lower_bound : int
        How many points it owns, and how many it needs by T3.4.
    note : str
        Empty, or why more are shipped than the bound.
    certificate : Certificate
        Of the target in the poisoned problem.
    shared : float
        Share of all held-out images that the target names right.
    personal : array, shape (N,)
        Shares of each writer's that the writer's own model names right there.
    """

    points: int
    lower_bound: int
    note: str
    certificate: Certificate
    shared: float
    personal: Any


@dataclass(frozen=True, eq=False)
class Writers(Result):
    r"""What ties of every strength do, without an attack and with one.

    Attributes
    ----------
    settings : dict
        Of the federation.
    lams : array, shape (A,)
        0 for everybody alone, then the strengths, then inf for one model.
    images, held : arrays of int, shape (N,)
        How many images each writer learns from, and how many are held out.
    personal : array, shape (A, N)
        Share of each writer's held-out images that the writer's own model names right.
    shared : array, shape (A,)
        Share of all held-out images that the shared model names right; NaN for everybody alone.
    strangers : array, shape (A,)
        The same of the test images, which other people wrote.
    certificates : tuple of Certificate, length A
        Of the optima.
    attacks : tuple of WritersAttack, length A - 1
        From the second strength on.
    """

    settings: dict[str, Any]
    lams: Any
    images: Any
    held: Any
    personal: Any
    shared: Any
    strangers: Any
    certificates: tuple[Certificate, ...]
    attacks: tuple[WritersAttack, ...]

    @property
    def attacked(self) -> FloatArray:
        """Shares as ``personal``, with the attack, shape (A, N); alone, nothing has changed."""
        return np.stack([self.personal[0], *(attack.personal for attack in self.attacks)])

    def mean(self, shares: FloatArray) -> FloatArray:
        """Return means over held-out images from shares of each writer's, shape (..., N)."""
        return np.asarray(shares @ self.held / self.held.sum())

    def harm(self, groups: int = 4) -> FloatArray:
        """Return what an attack takes from a writer's share, shape (A, groups).

        Means over writers, grouped by how many images they learn from, the fewest first.
        """
        taken = (self.personal - self.attacked)[:, np.argsort(self.images, kind="stable")]
        parts = np.array_split(taken, groups, axis=1)
        return np.stack([part.mean(axis=1) for part in parts], axis=1)


def writers(
    federation: Federation, *, lams: Sequence[float] = LAMS, steps: Steps = Steps()
) -> Writers:
    r"""Measure ties of several strengths between writers, and attacks on each.

    Parameters
    ----------
    federation : Federation
        Each user a writer, with at least five images, of which every fifth is held out; its own lam
        does not count. The attacker has the ridge of a writer.
    lams : sequence of float
        Strengths between alone and pooled, ascending.
    steps : Steps
        Where steps are kept.

    Raises
    ------
    InvalidInputError
        If a writer has too few images, or the strengths are not positive and ascending.
    NotSolvedError
        If an optimum cannot be certified.
    """
    if not all(0.0 < a < b for a, b in zip(lams, [*lams[1:], POOLED], strict=True)):
        raise InvalidInputError(f"lams must be positive, finite and ascending; got {list(lams)}")
    few = min(user.n_points for user in federation.users)
    if few < HELD_OUT:
        raise InvalidInputError(
            f"each writer must have at least {HELD_OUT} images, one of which is held out; got {few}"
        )
    learned, held = zip(*(_split(user) for user in federation.users), strict=True)
    federation = replace(federation, users=learned)
    settings = {**federation.settings, "lam": list(lams)}
    steps = steps.within("writers", **settings)
    scale = (ALONE, *lams, POOLED)

    def honest(lam: float) -> Optimum:
        return Optimum.of(optimum(*tied(federation, lam), tol=TOL))

    def attack(lam: float, rho: FloatArray) -> WritersAttack:
        target = np.roll(rho, 1, axis=1)  # shifted labels permute the optimum, and do no more
        target -= target.mean(axis=1, keepdims=True)
        attack = poison(tied(federation, lam)[0], target)
        return WritersAttack(
            attack.n_points,
            attack.lower_bound,
            attack.note,
            attack.certificate,
            _shared(target, held),
            _personal(attack.thetas[:-1], held),
        )

    found = [steps(name_of(lam), partial(honest, lam)) for lam in scale]
    attacks = [
        steps(f"{name_of(lam)}, attacked", partial(attack, lam, each.rho))
        for lam, each in zip(scale[1:], found[1:], strict=True)
    ]
    return Writers(
        settings=settings,
        lams=np.array(scale),
        images=np.array([user.n_points for user in learned]),
        held=np.array([user.n_points for user in held]),
        personal=np.stack([_personal(each.thetas, held) for each in found]),
        shared=np.array([math.nan, *(_shared(each.rho, held) for each in found[1:])]),
        strangers=np.array([math.nan, *(federation.accuracy(each.rho) for each in found[1:])]),
        certificates=tuple(each.certificate for each in found),
        attacks=tuple(attacks),
    )


def name_of(lam: float) -> str:
    """Return what a strength is called."""
    return {ALONE: "alone", POOLED: "one model"}.get(lam, f"lam = {lam:g}")


def tied(federation: Federation, lam: float) -> tuple[Problem, Attacker | None]:
    """Return the problem of users who are tied so strongly, and who freezes the server if alone."""
    if lam == ALONE:
        half = replace(federation, nu=federation.nu / 2.0).problem(SquaredL2(federation.nu / 2.0))
        return half, ModelAttack(np.zeros(half.shape), HardConsensus())
    return federation.problem(HardConsensus() if lam == POOLED else SquaredL2(lam)), None


def _split(user: Dataset) -> tuple[Dataset, Dataset]:
    """Return what a writer learns from, and every fifth image."""
    out = np.arange(user.n_rows) % HELD_OUT == HELD_OUT - 1
    return Dataset(user.x[~out], user.y[~out]), Dataset(user.x[out], user.y[out])


def _right(model: FloatArray, data: Dataset) -> int:
    """Return how many points a model puts into their class."""
    named = np.argmax(data.x @ model[:-1] + model[-1], axis=1)
    return int(np.sum(named == data.y))


def _personal(thetas: Sequence[FloatArray], held: Sequence[Dataset]) -> FloatArray:
    pairs = zip(thetas, held, strict=True)
    return np.array([_right(theta, data) / data.n_points for theta, data in pairs])


def _shared(rho: FloatArray, held: Sequence[Dataset]) -> float:
    return sum(_right(rho, data) for data in held) / sum(data.n_points for data in held)


def averaged(x: FloatArray, shape: tuple[int, int], block: int) -> FloatArray:
    """Return images of that many rows and columns, averaged over square blocks of pixels.

    Examples
    --------
    >>> averaged(np.array([[1.0, 3.0, 0.0, 0.0, 5.0, 7.0, 0.0, 4.0]]), (2, 4), 2)
    array([[4., 1.]])
    """
    rows, columns = shape
    blocks = x.reshape(len(x), rows // block, block, columns // block, block)
    return np.asarray(blocks.mean(axis=(2, 4)).reshape(len(x), -1))


def quick(steps: Steps) -> Writers:
    """Run it on small digits, whose writers nobody told apart: 20 users of 70 images, in their order."""
    return writers(Federation.of(digits(), 20, 70, nu=NU), steps=steps)


def full(steps: Steps) -> Writers:
    """Run it on MNIST and its 539 writers, images averaged over 2x2 pixels."""
    images = mnist(writers=True)

    def coarse(x: FloatArray) -> FloatArray:
        return averaged(x, images.shape, 2)

    people = [Dataset(coarse(user.x), user.y) for user in images.by_writer()]
    tests = coarse(images.x_test), images.y_test
    name = f"{images.name} by writer, 2x2 averaged"
    return writers(Federation(name, people, len(images.classes), *tests, nu=NU), steps=steps)
