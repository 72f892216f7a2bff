"""Points with a given gradient: how many, how exact, how fast; beside gradient inversion.

Run ``python benchmarks/realization.py DIGITS_NPZ --out benchmarks/realization.md``; MNIST is fetched,
or read from below the folder ``GPLCONVEX_DATA``; the file holds the arrays ``W`` (a softmax model of the
digits of scikit-learn), ``flip`` and ``rand`` (gradients at it), each (10, 65) with the intercept last.
PyTorch takes part if it is installed. All tables take over an hour on two cores; ``--without inversion
alone`` leaves out those whose titles have one of the words, and the rest takes five minutes.

Softmax throughout. A bound is the number of points that no dataset can go below; rows are points that
differ, the others being copies. Residuals are |sum of gradients - h| / |h|: of `gplconvex` in twice the
precision of the float64 points, of gradient inversion in float64. The latter is given as many points as
`gplconvex` takes, and k = 1, 10, 60, 300 of them; its seconds are those of its best run, of up to six.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from peers import gradient_inversion
from tables import Row, Tables

import gplconvex as gc
from gplconvex.datasets import mnist

POINTS = (1, 10, 60, 300)
"""How many points gradient inversion is given, besides as many as `gplconvex` takes."""

SIZES = ((2, 10), (3, 10), (5, 100), (10, 10), (10, 1000), (10, 10_000), (20, 1000))
"""Classes and features of random models."""

NUS = (1e-1,)
"""Ridges of the attack on MNIST."""

HEADLINE_NU = 1e-1
"""The ridge at which more points than the fewest are spent on smaller inputs."""

EXTRA = (0, 10, 20, 50, 100, 200, 500)
"""How many more."""

SOLVED = (0, 500)
"""Those of which the poisoned problem is solved anew."""

FloatArray = npt.NDArray[np.float64]


def main() -> None:
    """Write the tables."""
    page = Tables("Realizing a gradient", __doc__, ["digits"])
    arguments, table = page.arguments, page.table
    found = "bound | points | points - bound | rows | largest input norm | residual | seconds"
    table(
        "MNIST: 10 users of 6000 images, squared l2 with lam = 1; target: the model of labels y + 1",
        "nu | extra | norm of the target | norm of the attacker's model | bound | points | rows | "
        "largest input norm | residual | to_data, seconds | poison, seconds | certified distance | "
        "solve anew, seconds | its status | its distance from the target | its certified distance",
        mnist_attack(),
    )
    table(
        f"The same with nu = {HEADLINE_NU:g}: more points, smaller inputs",
        f"extra | {found}",
        smaller_inputs(),
    )
    table(
        "Random models and gradients: h = -3000 theta / |theta|^2 + noise orthogonal to theta",
        f"K | d | intercept | {found}",
        random_gradients(3000.0),
    )
    table(
        "Random models and gradients: noise orthogonal to theta alone",
        f"K | d | intercept | {found}",
        random_gradients(0.0),
    )
    beside = " | ".join(f"k = {k}" for k in POINTS)
    beside = f"gradient | tool | bound | points | residual | {beside} | seconds"
    table(
        "Gradients of digits, beside gradient inversion",
        beside,
        inversion(*digits_gradients(arguments.digits)),
    )
    table(
        "Gradients of MNIST, beside gradient inversion",
        beside,
        inversion(*mnist_gradients()),
    )


def _realized(loss: gc.Loss, theta: FloatArray, h: FloatArray, extra: int = 0) -> Row:
    """Return the cells of a realization, or the sentence that says why there is none."""
    began = time.perf_counter()
    try:
        found = gc.realize_gradient(loss, theta, h, extra=extra)
    except gc.GplConvexError as error:
        return (str(error),)
    seconds = time.perf_counter() - began
    bound, points, data = found.lower_bound, found.n_points, found.dataset
    largest = _largest(data)
    return bound, points, points - bound, data.n_rows, largest, found.residual, seconds


def _largest(data: gc.Dataset) -> float:
    """Return the largest norm of an input."""
    return float(np.max(np.linalg.norm(data.x, axis=1), initial=0.0))


# -- random ------------------------------------------------------------------------------------------


def random_gradients(against: float) -> Iterator[Row]:
    """Gradients with <theta, h> = -against; the entries of their noise are about 1."""
    for classes, features in SIZES:
        for intercept in (False, True):
            rng = np.random.default_rng(0)
            shape = features + intercept, classes
            theta = rng.normal(size=shape) / np.sqrt(features)
            direction = _centered(theta)
            direction /= np.sum(direction * theta)
            noise = _centered(rng.normal(size=shape))
            h = noise - (np.sum(noise * theta) + against) * direction
            loss = gc.Softmax(classes, intercept=intercept)
            yield classes, features, intercept, *_realized(loss, theta, h)


def _centered(h: FloatArray) -> FloatArray:
    """Return h with rows that sum to zero, as those of gradients do."""
    centered: FloatArray = h - h.mean(axis=1, keepdims=True)
    return centered


# -- beside gradient inversion -----------------------------------------------------------------------

Gradients = tuple[FloatArray, dict[str, FloatArray]]


def digits_gradients(file: Path) -> Gradients:
    """Return the model of the file, and its gradients."""
    with np.load(file) as arrays:
        theta, flip, rand = (arrays[name].T.copy() for name in ("W", "flip", "rand"))
    return theta, {"flip": flip, "-10 flip": -10.0 * flip, "rand": rand, "10 rand": 10.0 * rand}


def mnist_gradients() -> Gradients:
    """Return a model of 6000 images; the gradient of 60 of them, labels moved on, and a random one."""
    loss = gc.Softmax(10, intercept=True)
    (images,) = mnist().deal(1, 6000)
    theta = gc.solve(gc.Problem(loss, gc.HardConsensus(), [images], 1.0)).rho
    few = _moved_on(gc.Dataset(images.x[:60], images.y[:60]))
    flip = gc.Problem(loss, gc.HardConsensus(), [few]).locals[0].gradient(theta)
    noise = _centered(np.random.default_rng(0).normal(size=flip.shape))
    rand = noise * (np.linalg.norm(flip) / np.linalg.norm(noise))
    return theta, {"flip": flip, "-flip": -flip, "rand": rand, "10 rand": 10.0 * rand}


def _moved_on(data: gc.Dataset) -> gc.Dataset:
    """Return the data with labels y + 1 modulo 10."""
    return gc.Dataset(data.x, (data.y + 1.0) % 10.0)


def inversion(theta: FloatArray, gradients: dict[str, FloatArray]) -> Iterator[Row]:
    """Each gradient, realized and inverted."""
    loss = gc.Softmax(10, intercept=True)
    for name, h in gradients.items():
        try:
            began = time.perf_counter()
            ours = gc.realize_gradient(loss, theta, h)
            seconds = time.perf_counter() - began
        except gc.GplConvexError as error:
            yield name, str(error)
            continue
        blank = [""] * len(POINTS)
        yield name, "gplconvex", ours.lower_bound, ours.n_points, ours.residual, *blank, seconds
        for box in (True, False):
            for labels in ("hard", "soft"):
                tool = f"inversion, {labels} labels, inputs {'in [0, 1]' if box else 'free'}"
                try:
                    same, *others = [
                        gradient_inversion(loss, theta, h, k, labels=labels, box=box)
                        for k in (ours.n_points, *POINTS)
                    ]
                except gc.MissingDependencyError as error:
                    yield name, tool, str(error)
                    continue
                errors = [other.error for other in others]
                yield name, tool, "", ours.n_points, same.error, *errors, same.seconds


# -- MNIST -------------------------------------------------------------------------------------------


def _attack(nu: float, extra: int = 0) -> tuple[gc.Problem, gc.Poisoning, float]:
    """Return the honest users, the attack that moves their labels on, and the seconds of `poison`."""
    data = mnist().deal(10, 6000)
    loss, regularizer = gc.Softmax(10, intercept=True), gc.SquaredL2(1.0)
    moved_on = gc.Problem(loss, regularizer, [_moved_on(user) for user in data], nu)
    target = _centered(gc.solve(moved_on).rho)  # as every optimum is, this one up to the tolerance
    honest = gc.Problem(loss, regularizer, data, nu)
    began = time.perf_counter()
    attack = gc.poison(honest, target, extra=extra)
    return honest, attack, time.perf_counter() - began


def mnist_attack() -> Iterator[Row]:
    """Poison, and solve the poisoned problem without being told what was predicted."""
    for nu, extra in itertools.product(NUS, SOLVED):
        try:
            honest, attack, poison_seconds = _attack(nu, extra)
        except gc.GplConvexError as error:
            yield nu, extra, str(error)
            continue
        began = time.perf_counter()
        gc.to_data(honest, attack.theta, attack.gradient, extra=extra)
        data_seconds = time.perf_counter() - began
        began = time.perf_counter()
        solution = gc.solve(attack.poisoned, time_limit=300.0)
        solve_seconds = time.perf_counter() - began
        yield (
            nu,
            extra,
            float(np.linalg.norm(attack.target)),
            float(np.linalg.norm(attack.theta)),
            attack.lower_bound,
            attack.n_points,
            attack.dataset.n_rows,
            _largest(attack.dataset),
            attack.residual,
            data_seconds,
            poison_seconds,
            attack.certificate.distance,
            solve_seconds,
            solution.status.name,
            float(np.linalg.norm(solution.rho - attack.target)),
            solution.certificate.distance,
        )
        del honest, attack, solution


def smaller_inputs() -> Iterator[Row]:
    """More points than the fewest."""
    honest, attack, _ = _attack(HEADLINE_NU)
    for extra in EXTRA:
        yield extra, *_realized(honest.loss, attack.theta, attack.data_gradient, extra)


if __name__ == "__main__":
    main()
