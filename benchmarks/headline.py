"""The three attacks of the published experiment: as it trains them, and exactly, in one run.

Run ``python benchmarks/headline.py --out benchmarks/headline.md`` (about ten minutes on two cores; MNIST
is fetched, or read from below the folder ``GPLCONVEX_DATA``). PyTorch takes part if it is installed, on
the CPU, and on a GPU if it finds one.

Ten users of 6000 images, softmax with intercept, squared l2 with lam = 1; the target is the model of
labels y + 1. Exactly: with ridge nu = 0.1, as without any there is no optimum. `poison` finds the
report, the model and the data, and certifies that the target is the optimum; the solver then finds that
anew, from 0. As published: 250 epochs of Adam for each of a counter-gradient attack, the model that
balances the others where that ends, and 2000 points where all classes tie under this model; without
ridge. The same by `gplconvex.experiments.training`, which is numpy, and by PyTorch in two styles (see
`peers.published_protocol`). Neither finding the target nor reading and converting data is counted.

Distances to the target are those of the last model; where only a certificate was computed, the bound
that it proves of the optimum. Accuracies are those of the same model on the true labels of the test
images. "Certified" is the proved bound of |rho* - target| / (1 + |target|); where training ends nothing
is proved. Ratios are to `poison`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from peers import published_protocol, torch_devices
from tables import Row, Tables

import gplconvex as gc
from gplconvex.datasets import mnist
from gplconvex.experiments.federation import SOLVE_TOL, Federation
from gplconvex.experiments.results import Steps
from gplconvex.experiments.three_roads import EPOCHS, EXTRA, NOISE, POINTS, balancing
from gplconvex.experiments.training import Report, counter_gradient_report, train

FloatArray = npt.NDArray[np.float64]

HEADER = "how | attack | seconds | ratio | accuracy | distance to the target | certified"


def main() -> None:
    """Write the table."""
    page = Tables("From a gradient to a model to data", __doc__)
    federation = Federation.of(mnist(), 10, 6000)
    page.table(
        "MNIST: 10 users of 6000 images, softmax, squared l2 with lam = 1",
        HEADER,
        roads(federation),
    )


def roads(
    federation: Federation, *, epochs: int = EPOCHS, points: int = POINTS, extra: int = EXTRA
) -> Iterator[Row]:
    """Yield the exact attacks, then those of every tool that trains."""
    target = federation.target(Steps())
    began = time.perf_counter()
    attack = gc.poison(federation.problem(), target, extra=extra)
    ours = time.perf_counter() - began
    yield from exact(federation, attack, ours)
    yield from as_published(replace(federation, nu=0.0), target, ours, epochs, points)


# -- exactly -----------------------------------------------------------------------------------------


def exact(federation: Federation, attack: gc.Poisoning, seconds: float) -> Iterator[Row]:
    """Yield `poison` and the certificates of its steps, then what a solver finds that knows nothing."""
    problem, target = federation.problem(), attack.target
    size = 1.0 + float(np.linalg.norm(target))

    def row(what: str, name: str, seconds: float, of: float, model: FloatArray, far: float) -> Row:
        accuracy = federation.accuracy(model)
        return what, name, seconds, seconds / of, accuracy, far, far / size

    bound = attack.certificate.distance
    points = f"{attack.n_points} points ({attack.lower_bound} at least)"
    yield row(
        "gplconvex, all steps of `poison`", f"data: {points}", seconds, seconds, target, bound
    )
    attackers: dict[str, gc.Attacker] = {
        "gradient": gc.GradientAttack(attack.gradient),
        "model": gc.ModelAttack(attack.theta),
    }
    began = time.perf_counter()
    gradient = gc.required_gradient(problem, target)
    gc.to_model(problem, target, gradient)
    found = time.perf_counter() - began
    for name, attacker in attackers.items():
        began = time.perf_counter()
        proof = gc.certify(problem, target, attack.thetas[:-1], attacker=attacker)
        took = found + time.perf_counter() - began
        what = "gplconvex, `required_gradient`, `to_model`, `certify`"
        yield row(what, name, took, seconds, target, proof.distance)
    for name, of in (("gradient", problem), ("model", problem), ("data", attack.poisoned)):
        began = time.perf_counter()
        solution = gc.solve(of, attacker=attackers.get(name), tol=SOLVE_TOL)
        took = time.perf_counter() - began
        far, proved = float(np.linalg.norm(solution.rho - target)), solution.certificate.distance
        what = f"gplconvex, solved from 0: {solution.status.name}"
        accuracy = federation.accuracy(solution.rho)
        yield what, name, took, took / seconds, accuracy, far, (far + proved) / size


# -- as published ------------------------------------------------------------------------------------


def as_published(
    federation: Federation, target: FloatArray, ours: float, epochs: int, points: int
) -> Iterator[Row]:
    """Yield the attacks that every tool trains, and the seconds of all three."""
    for name, tool in tools().items():
        total = 0.0
        try:
            for row in trained(federation, target, tool, epochs, points):
                total += row.seconds
                ratio = row.seconds / ours
                yield name, row.attack, row.seconds, ratio, row.accuracy, row.distance
        except gc.MissingDependencyError as error:
            yield name, str(error)
            continue
        yield name, "all three", total, total / ours


class End(NamedTuple):
    """Where a training ended, and after how many seconds."""

    rho: FloatArray
    thetas: FloatArray
    seconds: float


Start = tuple[FloatArray, FloatArray]

Tool = Callable[[gc.Problem, int, Report | None, Start | None], End]
"""Trains the models of a problem for some epochs, beside a liar's reports, from a start."""


def tools() -> dict[str, Tool]:
    """Return by name what can train here."""
    found: dict[str, Tool] = {"published protocol, numpy": _numpy}
    for device in torch_devices():
        for style in ("published", "tuned"):
            name = f"published protocol, PyTorch, {style}, {device}"
            found[name] = partial(_torch, style=style, device=device)
    return found


def _numpy(problem: gc.Problem, epochs: int, report: Report | None, start: Start | None) -> End:
    end = train(problem, epochs, report=report, start=start)
    return End(end.rho, end.thetas, end.seconds)


def _torch(
    problem: gc.Problem,
    epochs: int,
    report: Report | None,
    start: Start | None,
    *,
    style: str,
    device: str,
) -> End:
    end = published_protocol(
        problem, epochs, style=style, device=device, report=report, start=start
    )
    return End(end.rho, np.stack(end.thetas), end.seconds)


class Trained(NamedTuple):
    """A row of what one training came to."""

    attack: str
    seconds: float
    accuracy: float
    distance: float


def trained(
    federation: Federation, target: FloatArray, tool: Tool, epochs: int, points: int
) -> Iterator[Trained]:
    """Yield the three attacks, each trained from the start, the second and third after the first."""
    problem = federation.problem()

    def row(attack: str, end: End) -> Trained:
        far = float(np.linalg.norm(end.rho - target))
        return Trained(attack, end.seconds, federation.accuracy(end.rho), far)

    first = tool(problem, epochs, counter_gradient_report(problem, target), None)
    yield row("gradient", first)
    theta = balancing(first.rho, first.thetas)
    frozen = tool(problem, epochs, lambda rho, *_: gc.to_gradient(problem, rho, theta), None)
    yield row("model", frozen)
    poisoned = problem.with_user(
        gc.indifference_dataset(federation.loss, theta, points, seed=0), 0.0
    )
    thetas = np.zeros((poisoned.n_users, *problem.shape))
    thetas[-1] = theta + NOISE * np.random.default_rng([0, 1]).standard_normal(problem.shape)
    data = tool(poisoned, epochs, None, (np.zeros(problem.shape), thetas))
    yield row(f"data: {points} points", data)


if __name__ == "__main__":
    main()
