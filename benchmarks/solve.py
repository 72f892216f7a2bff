"""The native solver beside other tools, on one machine in one run; everything judged by `certify`.

Run ``python benchmarks/solve.py --out benchmarks/solve.md`` (about 25 minutes on two cores; MNIST is
fetched, or read from below the folder ``GPLCONVEX_DATA``). PyTorch, scikit-learn and cvxpy take part
if they are installed. Times are those of the tool alone; the native solver's include its certificate.
The published protocol measures two accuracies on the test images after every epoch, image by image; its
steps alone take a fraction of that time, and less if they are tuned: all three are told.

A pass over the data is one product X theta and one product of X transposed. Relative gradients are
|grad F| over that at 0. Gaps and distances are what `certify` proves of the point that a tool returned:
for tools that stop early they are upper bounds and no measurements; F / F* - 1 is measured against the
value of the native solution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
from machine import peak_memory
from peers import Outcome, best_cvxpy_solver, joint_lbfgs, pooled_scikit_learn, published_protocol
from tables import Row, Tables

import gplconvex as gc
from gplconvex.datasets import mnist

HEADLINE_TOL = 1e-12
"""So that rho is certified within 1e-6 (1 + |rho|), the root of it."""

REGULARIZERS = (gc.SquaredL2(1.0), gc.L2(1.0), gc.SmoothL2(1.0, 1.0), gc.HardConsensus())

FloatArray = npt.NDArray[np.float64]


def main() -> None:
    """Write the tables."""
    table = Tables("Solving", __doc__).table
    beside = (
        "tool | seconds | ratio | passes | F / F* - 1 | relative gradient | certified relative gap | "
        "certified distance / (1 + rho)"
    )
    table(
        "MNIST: 10 users of 6000 images, softmax with intercept, squared l2 with lam = 1, nu = 0.01",
        beside,
        headline(),
    )
    table(
        "The same images sorted by label: hardly a user has more than two digits",
        beside,
        headline(sorted_by_label=True),
    )
    table(
        "The same with hard consensus: one model of the pooled data",
        beside,
        pooled(),
    )
    table(
        "MNIST, other settings (status OPTIMAL: relative gap at most 1e-9)",
        "setting | seconds | passes | certified relative gap | certified distance / (1 + rho) | status",
        settings(),
    )
    table(
        "Least squares at full size",
        "users x points x features | seconds | again | peak memory, GiB | certified relative gap",
        least_squares(),
    )
    table(
        "Small problems: 100 points of 20 features a user, nu = 0.1, beside the best cvxpy solver",
        "loss, regularizer, users | seconds | cvxpy, seconds | ratio | difference / sum of distances",
        small(),
    )
    table(
        "Growth: seconds for 1, 2, 4, 8 times the base size (N, m, d, K) = (8, 800, 40, 5), softmax",
        "what grows | 1 | 2 | 4 | 8 | slope",
        growth(),
    )


# -- MNIST -------------------------------------------------------------------------------------------


def _problem(
    regularizer: gc.Regularizer, nu: float = 0.01, *, sorted_by_label: bool = False
) -> gc.Problem:
    data = mnist().deal(10, 6000, sorted_by_label=sorted_by_label)
    return gc.Problem(gc.Softmax(10, intercept=True), regularizer, data, nu)


def _native(problem: gc.Problem, tol: float = 1e-9, **options: object) -> tuple[gc.Solution, float]:
    """Return the solution and the seconds with the certificate."""
    began = time.perf_counter()
    solution = gc.solve(problem, tol=tol, **options)  # type: ignore[arg-type]
    return solution, time.perf_counter() - began


def _beside(problem: gc.Problem, tools: list[tuple[str, Callable[[], Outcome]]]) -> Iterator[Row]:
    """Yield the native solver and other tools, each with the certificate of its point."""
    solution, ours = _native(problem, HEADLINE_TOL)

    def row(
        name: str, rho: FloatArray, thetas: list[FloatArray], seconds: float, passes: object
    ) -> Row:
        bounds = gc.certify(problem, rho, thetas)
        return (
            name,
            seconds,
            seconds / ours,
            passes,
            problem.value(rho, thetas) / solution.value - 1.0,
            _gradient(problem, rho, thetas) / start,
            bounds.relative_gap,
            bounds.relative_distance,
        )

    zero = np.zeros(problem.shape)
    start = _gradient(problem, zero, [zero] * problem.n_users)
    yield row("gplconvex", solution.rho, list(solution.thetas), ours, solution.stats["passes"])
    for name, tool in tools:
        try:
            found = tool()
        except gc.MissingDependencyError as error:
            yield name, str(error), "", "", "", "", "", ""
            continue
        passes = found.extra.get("passes", "")
        yield row(name, found.rho, found.thetas, found.seconds, passes)


def _gradient(problem: gc.Problem, rho: FloatArray, thetas: list[FloatArray]) -> float:
    """Return the norm of the gradient of F where it has one; of the pooled loss for one model."""
    flat = np.array([theta.ravel() for theta in thetas])
    slopes = problem.local_losses.gradient(flat)
    if isinstance(problem.regularizer, gc.HardConsensus):
        return float(np.linalg.norm(slopes.sum(axis=0)))
    reports = problem.regularizer.gradient(rho.ravel() - flat)
    return float(np.hypot(np.linalg.norm(reports.sum(axis=0)), np.linalg.norm(slopes - reports)))


def headline(*, sorted_by_label: bool = False) -> Iterator[Row]:
    """Beside the published protocol, tuned as well, and L-BFGS on all models."""
    problem = _problem(gc.SquaredL2(1.0), sorted_by_label=sorted_by_label)
    test = mnist().x_test, mnist().y_test
    rows = _beside(
        problem,
        [
            ("published protocol, 250 epochs", lambda: published_protocol(problem, test=test)),
            ("published protocol, its steps alone", lambda: published_protocol(problem)),
            ("the same steps, tuned by us", lambda: published_protocol(problem, style="tuned")),
            ("joint L-BFGS, 300 iterations", lambda: joint_lbfgs(problem, 300)),
        ],
    )
    ours = next(rows)
    _, seconds, *_ = ours
    yield ours
    again, took = _native(problem, HEADLINE_TOL)
    yield (
        "gplconvex, the same again",
        took,
        took / float(seconds),
        again.stats["passes"],
        *("",) * 4,
    )
    for row in rows:
        yield row
        if row[0] == "published protocol, 250 epochs" and isinstance(row[4], float):
            history: list[gc.Progress] = []
            optimum = gc.solve(problem, tol=HEADLINE_TOL, progress=history.append).value
            first = next(state for state in history if state.objective <= (1.0 + row[4]) * optimum)
            yield (
                "gplconvex, when F is as small as after these",
                first.seconds,
                first.seconds / float(seconds),
                first.passes,
                *("",) * 4,
            )


def pooled() -> Iterator[Row]:
    """Beside scikit-learn, which solves this case only."""
    problem = _problem(gc.HardConsensus())
    yield from _beside(
        problem,
        [
            ("scikit-learn newton-cg", lambda: pooled_scikit_learn(problem, tol=1e-6)),
            (
                "scikit-learn lbfgs, 500 iterations",
                lambda: pooled_scikit_learn(problem, "lbfgs", max_iter=500),
            ),
        ],
    )


def settings() -> Iterator[Row]:
    """Other users, ridges and regularizers; and a warm start after one user's data changed."""

    def row(name: str, problem: gc.Problem, tol: float = 1e-9, **options: object) -> Row:
        solution, seconds = _native(problem, tol, **options)
        bounds = solution.certificate
        last[0] = solution
        return (
            name,
            seconds,
            solution.stats["passes"],
            bounds.relative_gap,
            bounds.relative_distance,
            solution.status.name,
        )

    last: list[gc.Solution] = [None]  # type: ignore[list-item]
    squared = gc.SquaredL2(1.0)
    yield row("squared l2", _problem(squared))
    cold = last[0]
    data = list(cold.problem.datasets)
    rng = np.random.default_rng(0)
    data[0] = gc.Dataset(data[0].x, rng.permutation(data[0].y))
    changed = gc.Problem(cold.problem.loss, squared, data, 0.01)
    yield row("labels of one user shuffled", changed)
    yield row("the same, started from the optimum before", changed, start=cold)
    data[0] = gc.Dataset(cold.problem.datasets[0].x[:5400], cold.problem.datasets[0].y[:5400])
    changed = gc.Problem(cold.problem.loss, squared, data, 0.01)
    yield row("a tenth of one user's images removed, cold", changed)
    yield row("the same, started from the optimum before", changed, start=cold)
    changed = gc.Problem(cold.problem.loss, squared, cold.problem.datasets[:9], 0.01)
    yield row("one user leaves, started from the optimum before", changed, start=cold)
    del data, changed, cold
    last[0] = None  # type: ignore[call-overload]
    yield row("l2", _problem(gc.L2(1.0)))
    yield row("smooth l2, delta = 1", _problem(gc.SmoothL2(1.0, 1.0)))
    yield row("nu = 1e-4", _problem(squared, 1e-4))
    yield row("nu = 1e-6, at most 3 minutes", _problem(squared, 1e-6), time_limit=180.0)


# -- least squares -----------------------------------------------------------------------------------


def least_squares() -> Iterator[Row]:
    """Many small users, and few large ones; each in a process of its own, whose memory is told."""
    for sizes in ((100_000, 20, 10), (10, 100_000, 500)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            yield fresh.submit(_least_squares, *sizes).result()


def _least_squares(users: int, points: int, features: int) -> Row:
    rng = np.random.default_rng(0)
    model = rng.normal(size=features)
    data = []
    for _ in range(users):
        x = rng.normal(size=(points, features))
        y = x @ (model + 0.3 * rng.normal(size=features)) + rng.normal(size=points)
        data.append(gc.Dataset(x, y))
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), data, 0.01)
    del x, data
    solution, seconds = _native(problem)
    again = _native(problem)[1]
    peak = peak_memory()
    gap = solution.certificate.relative_gap
    return f"{users} x {points} x {features}", seconds, again, peak, gap


# -- small problems ----------------------------------------------------------------------------------


def small() -> Iterator[Row]:
    """Beside the fastest cvxpy solver whose point is certified to 1e-6."""
    rng = np.random.default_rng(1)
    for users in (10, 1000):
        for loss in (gc.LeastSquares(), gc.Logistic()):
            for regularizer in (
                gc.SquaredL2(1.0),
                gc.L2(1.0),
                gc.SmoothL2(1.0, 1.0),
                gc.HardConsensus(),
            ):
                if users == 1000 and not isinstance(regularizer, (gc.SquaredL2, gc.L2)):
                    continue
                data = []
                for _ in range(users):
                    x = rng.normal(size=(100, 20))
                    z = x @ rng.normal(size=20)
                    logistic = isinstance(loss, gc.Logistic)
                    data.append(gc.Dataset(x, np.where(z > 0, 1.0, -1.0) if logistic else z))
                times = []
                for _ in range(5 if users == 10 else 2):  # a problem anew: nothing is remembered
                    problem = gc.Problem(loss, regularizer, data, 0.1)
                    solution, seconds = _native(problem)
                    times.append(seconds)
                fast = {"solvers": ("CLARABEL",), "rounds": 2} if users == 1000 else {}
                other = best_cvxpy_solver(problem, **fast)  # type: ignore[arg-type]
                apart = float(np.linalg.norm(solution.rho - other.rho))
                reach = solution.certificate.distance + other.extra["certificate"].distance
                yield (
                    f"{loss.name}, {regularizer.name}, {users} ({other.extra['solver']})",
                    float(np.median(times)),
                    other.seconds,
                    other.seconds / float(np.median(times)),
                    apart / reach if math.isfinite(reach) else "no bound of the distance",
                )


# -- growth ------------------------------------------------------------------------------------------


def growth() -> Iterator[Row]:
    """Seconds as one size doubles, and the slope of their logarithms."""
    base = {"users": 8, "points": 800, "features": 40, "classes": 5}
    for name in base:
        times = []
        for factor in (1, 2, 4, 8):
            size = base | {name: base[name] * factor}
            rng = np.random.default_rng(3)
            data = []
            for _ in range(size["users"]):
                x = rng.normal(size=(size["points"], size["features"]))
                z = x @ rng.normal(size=(size["features"], size["classes"]))
                data.append((x, np.argmax(z + rng.gumbel(size=z.shape), axis=1)))
            problem = gc.Problem(gc.Softmax(size["classes"]), gc.SquaredL2(1.0), data, 0.01)
            times.append(min(_native(problem, method="lbfgs")[1] for _ in range(2)))
        slope = float(np.polyfit(np.log([1, 2, 4, 8]), np.log(times), 1)[0])
        yield name, *times, slope


if __name__ == "__main__":
    main()
