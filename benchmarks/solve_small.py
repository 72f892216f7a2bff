"""The two solvers side by side on small problems: seconds, their ratio, and what is certified of each.

Run ``python benchmarks/solve_small.py``. 10 users with 100 points of 20 features each, nu = 0.1; medians
of a few runs in this one process, the construction of the cvxpy model included (a new problem needs a
new one), compilation of its first use left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import gplconvex as gc

ROUNDS = 5
USERS, POINTS, FEATURES = 10, 100, 20


def problem(loss: gc.Loss, regularizer: gc.Regularizer) -> gc.Problem:
    """Return a random problem: labels from one model a user, around a common one."""
    rng = np.random.default_rng(0)
    common, datasets = rng.normal(size=FEATURES), []
    for _ in range(USERS):
        x = rng.normal(size=(POINTS, FEATURES)) / np.sqrt(FEATURES)
        z = x @ (common + 0.3 * rng.normal(size=FEATURES)) + 0.3 * rng.normal(size=POINTS)
        y = np.where(z > 0.0, 1.0, -1.0) if isinstance(loss, gc.Logistic) else z
        datasets.append(gc.Dataset(x, y))
    return gc.Problem(loss, regularizer, datasets, nu=0.1)


def median_seconds(run: Callable[[], gc.Solution]) -> tuple[float, gc.Solution]:
    """Return the median time of a few runs, after one that is not counted, and the last result."""
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        solution = run()
        times.append(time.perf_counter() - began)
    return statistics.median(times), solution


def main() -> None:
    """Print the table."""
    print(f"{USERS} users x {POINTS} points x {FEATURES} features; relative gaps are certified")
    print(f"{'loss':14}{'regularizer':16}{'newton s':>10}{'cvxpy s':>10}{'ratio':>7}"
          f"{'newton gap':>12}{'cvxpy gap':>11}")  # fmt: skip
    for loss in (gc.LeastSquares(intercept=True), gc.Logistic(intercept=True)):
        for regularizer in (gc.SquaredL2(1.0), gc.L2(1.0), gc.SmoothL2(1.0), gc.HardConsensus()):
            case = problem(loss, regularizer)
            native, newton = median_seconds(lambda case=case: gc.solve(case))
            general, reference = median_seconds(lambda case=case: gc.solve(case, method="cvxpy"))
            print(
                f"{loss.name:14}{regularizer.name:16}{native:10.4f}{general:10.4f}"
                f"{general / native:7.1f}{newton.certificate.relative_gap:12.1e}"
                f"{reference.certificate.relative_gap:11.1e}"
            )


if __name__ == "__main__":
    main()
