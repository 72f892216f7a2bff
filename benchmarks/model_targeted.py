"""The fewest points that lead training to a wanted model; beside other poisoning attacks.

Run ``python benchmarks/model_targeted.py FOLDER --out benchmarks/model_targeted.md`` (about a quarter of
an hour on two cores); the folder holds the problems ``bc_lr_wd0.09_err0.15.npz`` (breast cancer, n = 398
clean points, d = 30) and ``d17_lr_wd0.09_err0.15.npz`` (the digits 1 and 7, n = 252, d = 64), in the
format of `gplconvex.datasets.model_targeted`. Logistic regression with intercept, inputs in [0, 1],
labels -1 and +1.

Two conventions for the ridge: *fixed*, that of the clean points, wd n |theta|^2 / 2; and *avg*, that of
the literature, wd (n + k) |theta|^2 / 2, to which each of the k poisoned points brings its share.
Distances are |theta - target|, theta the model of clean and poisoned points together: as
`gplconvex.solve` finds it and, independently, Newton's method in numpy, which starts at 0 and knows
nothing of the target. The real bound is what fractional numbers of points could do, the floor the number
that none can go below. Seconds of the first table go from the problem to the certified attack; those of
the second are for one number of points, its own bound included. Gradient canceling has to be told how
many points it may use; its residual is |sum of gradients - h| / |h|.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from peers import gradient_canceling
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from tables import Row, Tables

import gplconvex as gc
from gplconvex.datasets import ModelTargeted, model_targeted

INSTANCES = ("bc", "d17")
CONVENTIONS = ("fixed", "avg")

MORE = 50
"""How many points more than the fewest are shipped, one after the other."""

PLENTY = (1.25, 1.5, 2.0)
"""How many times as many points gradient canceling is given as are needed."""

ELSEWHERE: tuple[Row, ...] = (
    ("bc", "fixed", "online model-targeted poisoning", 326, "2.2e-2", 15.5, 3),
    ("bc", "avg", "online model-targeted poisoning", 248, "3.3e-2", 15.0, 3),
    ("d17", "fixed", "online model-targeted poisoning", "1405 (budget)", "2.5e-2", 150, 88),
    ("d17", "avg", "online model-targeted poisoning", 837, "2.2e-2", 85.6, 91),
    ("bc", "avg", "gradient canceling, clean labels, tuned", 248, "8e-16", 2, "none"),
    ("bc", "avg", "gradient canceling, labels told by an oracle", 52, "9e-16", 2.7, "none"),
    ("d17", "avg", "gradient canceling, best of several splits", 120, "9e-15", 1.5, "none"),
    ("d17", "avg", "gradient canceling, clean labels", 220, "1e-14", 1.6, "none"),
    ("bc", "avg", "KKT attack", 72, "0.96", "", "none"),
)
"""What published attacks did in earlier runs, with their own lower bounds: copied, not measured here."""

FloatArray = npt.NDArray[np.float64]


def main() -> None:
    """Write the tables."""
    page = Tables("Leading training to a model", __doc__, ["folder"])
    arguments, table = page.arguments, page.table
    tasks = [
        Task(name, convention, model_targeted(arguments.folder / f"{name}_lr_wd0.09_err0.15.npz"))
        for name in INSTANCES
        for convention in CONVENTIONS
    ]
    table(
        "gplconvex: the fewest points",
        "instance | ridge | real bound | certified floor | points | in the box, hard labels | "
        "certified distance | distance, gplconvex.solve | distance, Newton | seconds",
        map(fewest, tasks),
    )
    table(
        f"gplconvex: from the floor to {MORE} points more",
        "instance | ridge | numbers of points | shipped exactly | in the box, hard labels | "
        "largest certified distance | largest distance, Newton | most seconds",
        map(more, tasks),
    )
    table(
        "Gradient canceling, measured here",
        "instance | ridge | points | times the floor | labels | method | residual | "
        "distance, Newton | runs | seconds of all runs",
        (row for task in tasks for row in canceling(task)),
    )
    table(
        "Published attacks, measured in earlier runs on a two-core machine",
        "instance | ridge | attack | points | distance | seconds | its own lower bound",
        iter(ELSEWHERE),
    )


# -- what is to be done ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A problem and a convention for the ridge."""

    instance: str
    convention: str
    benchmark: ModelTargeted

    def nu(self, points: float) -> float:
        """Return the attacker's ridge, if it has so many points."""
        return 0.5 * self.benchmark.wd * points if self.convention == "avg" else 0.0

    def needed(self, points: float) -> FloatArray:
        """Return the gradient that so many points have to have, affine in their number."""
        problem, target = self.benchmark.problem, self.benchmark.target
        return gc.required_gradient(problem, target) - 2.0 * self.nu(points) * target

    def attack(self, points: int, extra: int = 0) -> gc.Poisoning:
        """Return the fewest points, and ``extra`` more, if the ridge is that of so many ``points``."""
        b = self.benchmark
        return gc.poison(b.problem, b.target, nu=self.nu(points), domain=b.domain, extra=extra)

    def exactly(self, points: int) -> gc.Poisoning:
        """Return an attack with so many points, if that many are shipped for the asking."""
        return self.attack(points, points - self.attack(points).lower_bound)

    def least(self) -> float:
        r"""Return a number that no dataset can go below: the least k that is the gauge of h(k) or more.

        A direction v that proves a gauge is feasible for all h alike, so that k points need
        :math:`\langle v, h(k)\rangle \le k`, which is affine in k: Newton's method from the left.
        """
        b, k = self.benchmark, 0.0
        while True:
            v = gc.gauge(b.problem.loss, b.target, self.needed(k), b.domain).direction
            at_0, at_1 = (float(v @ self.needed(j)) for j in (0.0, 1.0))
            if at_1 - at_0 >= 1.0:
                raise gc.UnrealizableGradientError(
                    "each point brings more ridge than it can balance: no number suffices",
                    direction=v,
                )
            at = at_0 / (1.0 - (at_1 - at_0))
            if at <= k * (1.0 + 1e-12):
                return k
            k = at

    def fewest(self) -> tuple[int, gc.Poisoning]:
        """Return the certified floor, the least k whose bound is at most k, and the attack."""
        if self.convention == "fixed":
            attack = self.attack(0)
            return attack.lower_bound, attack
        k = math.ceil(self.least() * (1.0 - 1e-9))
        while (attack := self.attack(k)).lower_bound > k:
            k += 1
        floor = k
        while attack.n_points > k:
            k += 1
            attack = self.attack(k)
        if attack.n_points < k:
            attack = self.attack(k, k - attack.lower_bound)
        return floor, attack

    def retrained(self, poison: gc.Dataset) -> float:
        """Return the distance from the target, after training by `newton` on all points."""
        b = self.benchmark
        (clean,) = b.problem.datasets
        x = np.concatenate([clean.x, np.repeat(poison.x, poison.counts, axis=0)])
        y = np.concatenate([clean.y, np.repeat(poison.y, poison.counts)])
        ridge = float(b.problem.nu[0]) + self.nu(poison.n_points)
        return _distance(newton(x, y, ridge), b.target)


def newton(x: FloatArray, y: FloatArray, nu: float) -> FloatArray:
    """Return the logistic model of points with ridge nu |theta|^2, the intercept last, to rounding."""
    x = np.column_stack([x, np.ones(len(x))])
    theta = np.zeros(x.shape[1])
    for _ in range(50):
        z = x @ theta
        gradient = x.T @ (-y * expit(-y * z)) + 2.0 * nu * theta
        hessian = (x.T * (expit(z) * expit(-z))) @ x + 2.0 * nu * np.eye(len(theta))
        step = cho_solve(cho_factor(hessian), gradient)
        theta -= step
        if np.linalg.norm(step) <= 1e-15 * np.linalg.norm(theta):
            return theta
    # By strong convexity; below that, steps are rounding.
    if np.linalg.norm(gradient) > 1e-14 * 2.0 * nu:
        raise gc.NotSolvedError("Newton's method did not converge", solution=None)
    return theta


def _distance(theta: FloatArray, target: FloatArray) -> float:
    return float(np.linalg.norm(theta - target))


def _proper(task: Task, data: gc.Dataset) -> bool:
    """Return whether all inputs are in the box and all labels are -1 or +1."""
    return bool(task.benchmark.domain.contains(data.x).all() and (np.abs(data.y) == 1.0).all())


# -- the tables --------------------------------------------------------------------------------------


def fewest(task: Task) -> Row:
    """Return the row of the fewest points."""
    began = time.perf_counter()
    floor, attack = task.fewest()
    seconds = time.perf_counter() - began
    return (
        task.instance,
        task.convention,
        f"{task.least():.6g}",
        floor,
        attack.n_points,
        _proper(task, attack.dataset),
        attack.certificate.distance,
        _distance(gc.solve(attack.poisoned).rho, attack.target),
        task.retrained(attack.dataset),
        seconds,
    )


def more(task: Task) -> Row:
    """Return the row of all numbers of points from the floor on."""
    floor = task.fewest()[0]
    numbers = range(floor, floor + MORE + 1)
    exact, proper, certified, distances, seconds = [], [], [], [], []
    for k in numbers:
        began = time.perf_counter()
        attack = task.exactly(k)
        seconds.append(time.perf_counter() - began)
        exact.append(attack.n_points == k)
        proper.append(_proper(task, attack.dataset))
        certified.append(attack.certificate.distance)
        distances.append(task.retrained(attack.dataset))
    return (
        task.instance,
        task.convention,
        f"{floor} to {floor + MORE}",
        f"{sum(exact)} of {len(numbers)}",
        all(proper),
        max(certified),
        max(distances),
        max(seconds),
    )


def canceling(task: Task) -> Iterator[Row]:
    """Yield the rows of gradient canceling: one point less than the floor, the floor, and more."""
    b = task.benchmark
    (clean,) = b.problem.datasets
    floor = task.fewest()[0]
    for k in (floor - 1, floor, *(math.ceil(times * floor) for times in PLENTY)):
        middle_first = sorted(range(k + 1), key=lambda j: abs(2 * j - k))
        for labels, method, options in (
            ("clean", "Adam", {"rates": (0.05, 0.2, 0.01)}),
            ("clean", "L-BFGS-B", {}),
            ("5 splits", "L-BFGS-B", {"negatives": [k * i // 4 for i in (2, 1, 3, 0, 4)]}),
            ("all splits", "L-BFGS-B", {"negatives": middle_first, "seeds": (0,)}),
        ):
            found = gradient_canceling(b.target, task.needed(k), k, clean, b.domain, **options)
            yield (
                task.instance,
                task.convention,
                k,
                k / floor,
                labels,
                method,
                found.error,
                task.retrained(found.dataset),
                found.runs,
                found.seconds,
            )


if __name__ == "__main__":
    main()
