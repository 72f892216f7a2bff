"""scipy's L-BFGS on all models together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

import gplconvex as gc
from peers.outcome import CORES, FloatArray, Outcome, Stopwatch, Watch, refusal

ROWS_AT_A_TIME = 2**19
"""Numbers of x in one product: 4 MB, still in the cache for the product that follows."""

WORTH_A_THREAD = 2**18
"""Numbers of x in all, below which one thread is faster than several."""


class _Part(NamedTuple):
    """A few rows of one user; ``counts`` is None where all are 1."""

    user: int
    x: FloatArray
    y: FloatArray
    counts: FloatArray | None


def joint_lbfgs(
    problem: gc.Problem,
    maxiter: int = 10_000,
    tol: float = 1e-6,
    *,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Outcome:
    r"""Minimize F over rho and all thetas together, with scipy's L-BFGS-B (20 pairs, float64).

    One evaluation of F and its gradient is one pass over the data: a product with x and one with its
    transpose. Models are kept (K, d), which makes both products of a wide matrix and x as it lies; they
    take a few rows at a time, the second while these are in the cache, on all cores, each with a BLAS of
    one thread.

    Parameters
    ----------
    problem : Problem
        With `Softmax`, `Logistic` or `LeastSquares`, and `SquaredL2` or `SmoothL2`.
    maxiter : int
        The largest number of iterations.
    tol : float
        The method stops when no entry of the gradient of F exceeds this (``gtol``), or when rounding
        lets it get no further. A small decrease of F is no reason to stop here (``ftol = 0``).
    threads : int, optional
        Default: all cores.
    watch : callable, optional
        Called after every iteration with its number from 1, the seconds so far and the models.

    Returns
    -------
    Outcome
        ``extra`` holds the passes over the data, the iterations, scipy's message, the largest entry of
        the gradient, and the history if there is a ``watch``.

    Raises
    ------
    UnsupportedCombinationError
        For another loss, or a regularizer that is not differentiable.

    Notes
    -----
    Counted: everything from the first evaluation to the end. Not counted: the time spent in ``watch``,
    and the conversion of the result. Nothing is converted before: x is used where it is.
    """
    kernel = _KERNELS.get(type(problem.loss))
    if kernel is None or not isinstance(problem.regularizer, (gc.SquaredL2, gc.SmoothL2)):
        takes = "Softmax, Logistic or LeastSquares, with SquaredL2 or SmoothL2"
        raise refusal("joint L-BFGS", problem, takes)
    n, d, p = problem.n_users, problem.n_features, problem.shape[0]
    shape = (n + 1, math.prod(problem.shape[1:]), p)
    parts = list(_parts(problem))
    ridge = problem.nu[:, None, None]
    history: list[object] = []
    passes = 0

    def one_part(part: _Part, thetas: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        theta = thetas[part.user]
        z = theta[:, :d] @ part.x.T
        z += theta[:, d:].sum(axis=1, keepdims=True)  # the intercept, or nothing
        values, residual = kernel(z, part.y)
        if part.counts is not None:
            values = values * part.counts
            residual *= part.counts
        return float(values.sum()), residual @ part.x, residual.sum(axis=1, keepdims=True)

    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads or CORES) as pool,
    ):
        many = sum(part.x.size for part in parts) >= WORTH_A_THREAD and (threads or CORES) > 1
        each = pool.map if many else map

        def evaluate(point: FloatArray) -> tuple[float, FloatArray]:
            nonlocal passes
            passes += 1
            models = point.reshape(shape)
            rho, thetas = models[0], models[1:]
            u = (rho - thetas).reshape(n, -1)
            reports = problem.regularizer.gradient(u).reshape(thetas.shape)
            gradient = np.empty(shape)
            gradient[0] = reports.sum(axis=0)
            gradient[1:] = 2.0 * ridge * thetas - reports
            values = [*problem.regularizer.value(u), float(np.sum(ridge * thetas**2))]
            found = each(one_part, parts, itertools.repeat(thetas))
            for part, (value, features, ones) in zip(parts, found, strict=True):
                values.append(value)
                gradient[1 + part.user, :, :d] += features
                gradient[1 + part.user, :, d:] += ones
            return math.fsum(values), gradient.ravel()

        def callback(xk: FloatArray) -> None:
            if watch is not None:
                with clock.paused() as seconds:
                    models = _models_of(problem, xk.reshape(shape))
                    history.append(watch(len(history) + 1, seconds, *models))

        clock = Stopwatch()
        result = minimize(
            evaluate,
            np.zeros(math.prod(shape)),
            method="L-BFGS-B",
            jac=True,
            callback=callback,
            options={
                "maxcor": 20,
                "maxiter": maxiter,
                "maxfun": 100 * maxiter,
                "gtol": tol,
                "ftol": 0.0,
            },
        )
        seconds = clock.seconds
    extra: dict[str, Any] = {
        "passes": passes,
        "iterations": int(result.nit),
        "message": str(result.message),
        "largest_gradient": float(np.max(np.abs(result.jac))),
    }
    if watch is not None:
        extra["history"] = history
    rho, thetas = _models_of(problem, result.x.reshape(shape))
    return Outcome(rho, thetas, seconds, extra)


def _parts(problem: gc.Problem) -> Iterator[_Part]:
    """Yield all rows of all users, a few at a time."""
    rows = max(1, ROWS_AT_A_TIME // max(1, problem.n_features))
    for user, data in enumerate(problem.datasets):
        counts = data.counts.astype(np.float64) if data.counts.max(initial=1) > 1 else None
        for start in range(0, data.n_rows, rows):
            some = slice(start, start + rows)
            yield _Part(user, data.x[some], data.y[some], None if counts is None else counts[some])


def _models_of(problem: gc.Problem, models: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
    """Return rho and the thetas from an array (N + 1, K, p), copied."""
    rho, *thetas = [np.array(model.T.reshape(problem.shape), order="C") for model in models]
    return rho, thetas


# Takes predictors (K, m), which it may overwrite, and labels; returns the values of the loss (m,) and
# its residuals (K, m).
_Kernel = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


def _softmax(z: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    z -= z.max(axis=0)
    rows = np.arange(z.shape[1])
    labels = y.astype(np.intp) if y.ndim == 1 else None
    # Copies both: z becomes the residual.
    own = np.einsum("km,mk->m", z, y) if labels is None else z[labels, rows]
    p = np.exp(z, out=z)
    total = p.sum(axis=0)
    p /= total
    if labels is None:
        p -= y.T
    else:
        p[labels, rows] -= 1.0
    return np.log(total) - own, p


def _logistic(z: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    t = -y * z[0]
    values = np.logaddexp(0.0, t)
    return values, (-y * np.exp(t - values))[None]  # exp(t) / (1 + exp(t)), without overflow


def _least_squares(z: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    z -= y
    return 0.5 * z[0] ** 2, z


_KERNELS: Mapping[type[gc.Loss], _Kernel] = {
    gc.Softmax: _softmax,
    gc.Logistic: _logistic,
    gc.LeastSquares: _least_squares,
}
