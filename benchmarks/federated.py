"""Rounds of the federated protocol: how long, how they grow, and what worker processes cost.

Run ``python benchmarks/federated.py --out benchmarks/federated.md`` (about ten minutes on two cores);
Dask takes part if it is installed. ``--without Dask rules`` leaves out tables whose titles have one of
the words.

Users have 20 points of 10 features, or 10 to 30 where they are called ragged; nu = 0.1, squared l2 with
lam = 1. The first round is apart: replies start from nothing, and the data is put in order. Of the
later ones the median of five counts. Each row of the first table is a process of its own, whose memory
is told; in it are the data, 170 MB of 100 000 users as Python objects and arrays, and a copy in order.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
from machine import peak_memory
from tables import Row, Tables

import gplconvex as gc
from gplconvex import federated
from gplconvex.federated import rules

ROUNDS = 5
"""Rounds after the first, of which the median counts."""

SIZES = (10, 100, 1000, 10_000, 100_000)
"""Numbers of users."""

SMALL = (10, 100, 1000)
"""Those that are also asked one by one."""

WORKERS = 2
"""Worker processes of Dask."""

LOSSES = {"least squares": gc.LeastSquares(), "logistic": gc.Logistic()}

FloatArray = npt.NDArray[np.float64]


def main() -> None:
    """Write the tables."""
    page = Tables("Rounds of the federated protocol", __doc__)
    page.table(
        "Growth: users of 20 points and 10 features; slope of the logarithms from 1000 users on",
        "loss, users | first round, seconds | a round, seconds | users a second | peak memory, GiB",
        growth(),
    )
    page.table(
        "In batches, beside one user after the other (`moreau_envelope`)",
        "loss, users | in batches, seconds a round | one by one, seconds a round | ratio | "
        "largest relative difference",
        one_by_one(),
    )
    page.table(
        f"Dask: {WORKERS} worker processes beside this one",
        "loss, users | start and first round, seconds | a round, seconds | a round here, seconds | "
        "ratio | largest relative difference",
        dask(),
    )
    page.table(
        "Server rules: milliseconds for n reports of p numbers",
        "rule | n = 10, p = 10 | n = 10, p = 7850 | n = 1000, p = 10 | n = 1000, p = 1000",
        server_rules(),
    )


def users(loss: gc.Loss, n: int, ragged: bool = False) -> gc.Problem:
    """Return n users, whose own models are near one another's."""
    rng = np.random.default_rng(0)
    model = rng.normal(size=10)
    data = []
    for m in rng.integers(10, 31, size=n) if ragged else np.full(n, 20):
        x = rng.normal(size=(m, 10))
        z = x @ (model + 0.3 * rng.normal(size=10))
        data.append(gc.Dataset(x, loss.draw_labels(z, rng)))
    return gc.Problem(loss, gc.SquaredL2(1.0), data, 0.1)


def timed(
    all_rounds: Iterator[federated.Round], count: int = ROUNDS
) -> tuple[float, float, FloatArray]:
    """Return the seconds of the first round, the median of the next ones, and the last reports."""
    seconds = []
    for _ in range(1 + count):
        began = time.perf_counter()
        last = next(all_rounds)
        seconds.append(time.perf_counter() - began)
    return seconds[0], float(np.median(seconds[1:])), last.reports


def growth() -> Iterator[Row]:
    """Seconds as users are added, and memory."""
    for name in LOSSES:
        medians = []
        for n, ragged in ((n, ragged) for ragged in (False, True) for n in SIZES):
            if ragged and n != SIZES[-1]:
                continue
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                first, median, peak = fresh.submit(_growth, name, n, ragged).result()
            label = f"{name}, {n}{' ragged' if ragged else ''}"
            yield label, first, median, float(n / median), peak
            if not ragged:
                medians.append(median)
        large = [i for i, n in enumerate(SIZES) if n >= 1000]
        slope = np.polyfit(
            np.log([SIZES[i] for i in large]), np.log([medians[i] for i in large]), 1
        )
        yield f"{name}, slope", "", float(slope[0])


def _growth(name: str, n: int, ragged: bool) -> tuple[float, float, float]:
    first, median, _ = timed(federated.rounds(users(LOSSES[name], n, ragged)))
    return first, median, peak_memory()


def one_by_one() -> Iterator[Row]:
    """Time the same rounds, each user alone."""
    for (name, loss), n in itertools.product(LOSSES.items(), SMALL):
        problem = users(loss, n)
        _, batched, _ = timed(federated.rounds(problem))
        first = next(federated.rounds(problem))
        began = time.perf_counter()
        alone = [gc.moreau_envelope(problem, user, first.next_rho).gradient for user in range(n)]
        seconds = time.perf_counter() - began
        (_, second) = itertools.islice(federated.rounds(problem), 2)
        yield f"{name}, {n}", batched, seconds, seconds / batched, _apart(second.reports, alone)


def dask() -> Iterator[Row]:
    """Time the same rounds on worker processes."""
    from gplconvex.federated.dask import DaskEngine

    for (name, loss), n in itertools.product(LOSSES.items(), (10, 1000, 100_000)):
        problem = users(loss, n)
        _, here, ours = timed(federated.rounds(problem))
        far = federated.rounds(problem, engine=DaskEngine(shards=WORKERS))
        first, there, theirs = timed(far)
        far.close()
        yield f"{name}, {n}", first, there, here, there / here, _apart(theirs, ours)


def server_rules() -> Iterator[Row]:
    """Each rule on normal reports."""
    chosen = {
        "mean": lambda f: rules.mean,
        "coordinate_median": lambda f: rules.coordinate_median,
        "trimmed_mean": rules.trimmed_mean,
        "krum": rules.krum,
        "multi_krum": lambda f: rules.multi_krum(f, f),
        "geometric_median": lambda f: rules.geometric_median,
        "centered_clipping": lambda f: rules.centered_clipping(1.0),
    }
    for name, make in chosen.items():
        times = []
        for n, p in ((10, 10), (10, 7850), (1000, 10), (1000, 1000)):
            reports = np.random.default_rng(0).normal(size=(n, p))
            rule = make(n // 5)
            best = math.inf
            for _ in range(3):
                began = time.perf_counter()
                rule(reports)
                best = min(best, time.perf_counter() - began)
            times.append(1e3 * best)
        yield name, *times


def _apart(reports: npt.ArrayLike, others: npt.ArrayLike) -> float:
    one, other = np.asarray(reports), np.asarray(others)
    return float(np.abs(one - other).max() / np.abs(one).max())


if __name__ == "__main__":
    main()
