"""Slow and obvious versions of what certificates and realizations claim, in 60-digit arithmetic.

Nothing here calls a formula of the package: sums, objectives and optima are written down again from
their definitions, and the least number of points comes from a search instead of Lambert's function.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
from mpmath import mp
from scipy.optimize import minimize

import gplconvex as gc

mp.dps = 60

Vector = list[Any]


def exact(values: Any) -> Vector:
    """The floats of a vector as exact numbers."""
    return [mpmath.mpf(value) for value in np.asarray(values, dtype=object).ravel()]


def inner(a: Sequence[Any], b: Sequence[Any]) -> Any:
    return mpmath.fsum(p * q for p, q in zip(a, b, strict=True))


def length(a: Sequence[Any]) -> Any:
    return mpmath.sqrt(inner(a, a))


def minus(a: Sequence[Any], b: Sequence[Any]) -> Vector:
    return [p - q for p, q in zip(a, b, strict=True)]


# -- sums over points --------------------------------------------------------------------------------


def points(loss: gc.Loss, data: gc.Dataset) -> list[tuple[Vector, Any, int]]:
    """The rows (input with its intercept, label, count) of a dataset."""
    return [
        (exact(x) + [mpmath.mpf(1)] * loss.intercept, mpmath.mpf(float(y)), int(count))
        for x, y, count in zip(data.x, data.y, data.counts, strict=True)
    ]


def derivatives(loss: gc.Loss, z: Any, y: Any) -> tuple[Any, Any, Any]:
    """Value and first two derivatives of the loss of one point."""
    if isinstance(loss, gc.LeastSquares):
        return (z - y) ** 2 / 2, z - y, mpmath.mpf(1)
    if isinstance(loss, gc.Poisson):
        return mpmath.exp(z) - y * z, mpmath.exp(z) - y, mpmath.exp(z)
    likely = 1 / (1 + mpmath.exp(-y * z))
    unlikely = 1 / (1 + mpmath.exp(y * z))
    return mpmath.log1p(mpmath.exp(-y * z)), -y * unlikely, likely * unlikely


def gradient_sum(loss: gc.Loss, data: gc.Dataset, theta: Any) -> Vector:
    """The sum over the points of a dataset of the gradients of their losses."""
    if isinstance(loss, gc.Softmax):
        return softmax_gradient_sum(loss, data, np.asarray(theta))
    model = exact(theta)
    total = [mpmath.mpf(0)] * len(model)
    for x, y, count in points(loss, data):
        weight = count * derivatives(loss, inner(x, model), y)[1]
        total = [t + weight * v for t, v in zip(total, x, strict=True)]
    return total


def softmax_gradient_sum(loss: gc.Softmax, data: gc.Dataset, theta: np.ndarray) -> Vector:
    """The entries, row by row, of the sum of x (softmax(theta^T x) - y)^T."""
    columns = [exact(column) for column in theta.T]
    total = [[mpmath.mpf(0)] * loss.n_classes for _ in theta]
    for x, y, count in zip(data.x, data.y, data.counts, strict=True):
        inputs = exact(x) + [mpmath.mpf(1)] * loss.intercept
        z = [inner(inputs, column) for column in columns]
        powers = [mpmath.exp(value - max(z)) for value in z]
        label = exact(y) if np.ndim(y) else [mpmath.mpf(int(k == y)) for k in range(len(z))]
        q = [p / mpmath.fsum(powers) - b for p, b in zip(powers, label, strict=True)]
        total = [
            [t + int(count) * a * w for t, w in zip(row, q, strict=True)]
            for row, a in zip(total, inputs, strict=True)
        ]
    return [value for row in total for value in row]


def relative_residual(loss: gc.Loss, data: gc.Dataset, theta: Any, h: Any) -> float:
    off = length(minus(gradient_sum(loss, data, theta), exact(h)))
    size = length(exact(h))
    return float(off / size) if size else float(off)


# -- the objective and its minimum -------------------------------------------------------------------


def local_loss(problem: gc.Problem, user: int, theta: Vector) -> Any:
    total = mpmath.mpf(float(problem.nu[user])) * inner(theta, theta)
    for x, y, count in points(problem.loss, problem.datasets[user]):
        total += count * derivatives(problem.loss, inner(x, theta), y)[0]
    return total


def regularizer_value(regularizer: gc.Regularizer, u: Vector) -> Any:
    if isinstance(regularizer, gc.HardConsensus):
        return mpmath.mpf(0) if not any(u) else mpmath.inf
    lam = mpmath.mpf(regularizer.lam)
    if isinstance(regularizer, gc.SquaredL2):
        return lam * inner(u, u)
    delta = mpmath.mpf(regularizer.delta) if isinstance(regularizer, gc.SmoothL2) else 0
    return lam * mpmath.sqrt(delta**2 + inner(u, u))


def regularizer_derivatives(regularizer: gc.Regularizer, u: Vector) -> tuple[Vector, Any]:
    """Gradient and Hessian of r where it is smooth."""
    eye = mpmath.eye(len(u))
    lam = mpmath.mpf(regularizer.lam)
    if isinstance(regularizer, gc.SquaredL2):
        return [2 * lam * v for v in u], 2 * lam * eye
    delta = mpmath.mpf(regularizer.delta) if isinstance(regularizer, gc.SmoothL2) else 0
    s = mpmath.sqrt(delta**2 + inner(u, u))
    column = mpmath.matrix(u)
    return [lam * v / s for v in u], lam / s * (eye - column * column.T / s**2)


def conjugate(regularizer: gc.Regularizer, g: Vector) -> Any:
    """The conjugate of r, from its definition: the supremum at the stationary point."""
    size = length(g)
    if isinstance(regularizer, gc.HardConsensus):
        return mpmath.mpf(0)
    lam = mpmath.mpf(regularizer.lam)
    if isinstance(regularizer, gc.SquaredL2):
        return size**2 / (4 * lam)
    if size > lam:
        return mpmath.inf
    delta = mpmath.mpf(regularizer.delta) if isinstance(regularizer, gc.SmoothL2) else 0
    return -delta * mpmath.sqrt(lam**2 - size**2)


def energy(problem: gc.Problem, attacker: Any, rho: Vector) -> Any:
    if attacker is None:
        return mpmath.mpf(0)
    if isinstance(attacker, gc.GradientAttack):
        return inner(exact(attacker.gradient), rho)
    regularizer = attacker.regularizer or problem.regularizer
    return regularizer_value(regularizer, minus(rho, exact(attacker.theta)))


def objective(problem: gc.Problem, rho: Any, thetas: Any, attacker: Any = None) -> Any:
    """F at a point of floats or of exact numbers."""
    rho, thetas = exact(rho), [exact(theta) for theta in thetas]
    total = energy(problem, attacker, rho)
    for user, theta in enumerate(thetas):
        total += local_loss(problem, user, theta)
        total += regularizer_value(problem.regularizer, minus(rho, theta))
    return total


def optimum(
    problem: gc.Problem, rho: Any, thetas: Any, attacker: Any = None
) -> tuple[Any, Vector, list[Vector]]:
    """The minimum of F and its minimizer: Newton on all models together, from a nearby start.

    Users whose start coincides with rho stay there, and rho on the model of a kinked model attack; that
    this is right is asserted.
    """
    pinned = (
        isinstance(attacker, gc.ModelAttack)
        and isinstance(attacker.regularizer or problem.regularizer, gc.L2)
        and np.array_equal(attacker.theta, rho)
    )
    d = len(np.ravel(rho))
    free = [n for n, theta in enumerate(thetas) if np.any(np.asarray(theta) != np.asarray(rho))]
    blocks = {n: 1 + i for i, n in enumerate(free)}
    point = exact(rho) + [v for n in free for v in exact(thetas[n])]

    def part(n: int) -> slice:
        block = blocks.get(n, 0)
        return slice(block * d, (block + 1) * d)

    for _ in range(60):
        slope, hessian = [mpmath.mpf(0)] * len(point), mpmath.zeros(len(point))

        def add(start: int, g: Vector, slope: Vector = slope) -> None:
            for i, v in enumerate(g):
                slope[start + i] += v

        def add_square(r: int, c: int, m: Any, sign: int, hessian: Any = hessian) -> None:
            for i, j in itertools.product(range(d), range(d)):
                hessian[r + i, c + j] += sign * m[i, j]

        shared = point[:d]
        for n in range(problem.n_users):
            where = part(n)
            theta, start = point[where], where.start
            g, local = _local_derivatives(problem, n, theta)
            add(start, g)
            add_square(start, start, local, 1)
            if n in blocks:
                g, curvature = regularizer_derivatives(problem.regularizer, minus(shared, theta))
                add(0, g)
                add(start, [-v for v in g])
                for r, c, sign in ((0, 0, 1), (start, start, 1), (0, start, -1), (start, 0, -1)):
                    add_square(r, c, curvature, sign)
        if isinstance(attacker, gc.GradientAttack):
            add(0, exact(attacker.gradient))
        elif attacker is not None and not pinned:
            u = minus(shared, exact(attacker.theta))
            g, curvature = regularizer_derivatives(attacker.regularizer or problem.regularizer, u)
            add(0, g)
            add_square(0, 0, curvature, 1)
        if pinned:
            pull, slope[:d] = slope[:d], [mpmath.mpf(0)] * d
            for i, j in itertools.product(range(d), range(len(point))):
                hessian[i, j] = hessian[j, i] = mpmath.mpf(i == j)
        if length(slope) < mpmath.mpf(10) ** -45 * (1 + length(point)):
            break
        step = mpmath.lu_solve(hessian, -mpmath.matrix(slope))
        point = [p + s for p, s in zip(point, step, strict=True)]
    assert length(slope) < mpmath.mpf(10) ** -40 * (1 + length(point))
    if pinned:
        assert length(pull) < (attacker.regularizer or problem.regularizer).lam
    models = [point[part(n)] for n in range(problem.n_users)]
    for n in range(problem.n_users):
        if n not in blocks and not isinstance(problem.regularizer, gc.HardConsensus):
            assert length(_local_derivatives(problem, n, models[n])[0]) < problem.regularizer.lam
    return objective(problem, point[:d], models, attacker), point[:d], models


def _local_derivatives(problem: gc.Problem, user: int, theta: Vector) -> tuple[Vector, Any]:
    nu = mpmath.mpf(float(problem.nu[user]))
    g, hessian = [2 * nu * v for v in theta], 2 * nu * mpmath.eye(len(theta))
    for x, y, count in points(problem.loss, problem.datasets[user]):
        _, first, second = derivatives(problem.loss, inner(x, theta), y)
        g = [a + count * first * v for a, v in zip(g, x, strict=True)]
        column = mpmath.matrix(x)
        hessian += count * second * (column * column.T)
    return g, hessian


# -- the least number of logistic points -------------------------------------------------------------


def kappa() -> Any:
    """The most that one point lowers theta^T gradient: the maximum of z / (1 + e^z)."""
    z = mpmath.findroot(lambda z: 1 + mpmath.exp(z) * (1 - z), 1.3)
    return z / (1 + mpmath.exp(z))


def fewest_without_intercept(theta: Any, h: Any) -> int:
    """The least number of logistic points with gradient h at theta, from exact dot products."""
    if not any(exact(h)):
        return 0
    return max(1, int(mpmath.ceil(-inner(exact(theta), exact(h)) / kappa())))


def cost(w: np.ndarray) -> np.ndarray:
    """f(|w|) = |w| log(|w| / (1 - |w|)), what a residual w adds to theta^T gradient."""
    p = np.abs(w)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = p * (np.log(p) - np.log1p(-p))
    return np.where(p == 0.0, 0.0, np.where(p < 1.0, inside, np.inf))


def least_cost(k: int, h0: float, steps: int = 200) -> float:
    """The infimum of the cost of k residuals that sum to h0, signs free, by search.

    A min-plus convolution over a grid finds the valley, a simplex search its bottom.
    """
    grid = np.arange(-steps + 1, steps) / steps
    one = cost(grid)
    size, best, chosen = 1, one, []  # best[i]: cost of `size` residuals that sum to grid steps
    for _ in range(k - 2):
        sums = np.full(len(best) + len(one) - 1, np.inf)
        choice = np.zeros(len(sums), dtype=int)
        for i, extra in enumerate(one):
            window = slice(i, i + len(best))
            better = best + extra < sums[window]
            sums[window] = np.where(better, best + extra, sums[window])
            choice[window] = np.where(better, i, choice[window])
        size, best = size + 1, sums
        chosen.append(choice)
    if k == 1:
        return float(cost(np.array(h0)))
    offset = size * (steps - 1)
    rest = h0 - (np.arange(len(best)) - offset) / steps
    totals = best + cost(rest)
    starts, index = [], int(np.argmin(totals))
    for choice in reversed(chosen):
        starts.append(grid[choice[index]])
        index -= choice[index]
    starts.append(grid[index])

    def total(w: np.ndarray) -> float:
        return float(cost(np.append(w, h0 - w.sum())).sum())

    options = {"xatol": 1e-11, "fatol": 1e-14, "maxiter": 4000, "maxfev": 4000}
    found = minimize(total, np.array(starts), method="Nelder-Mead", options=options)
    return min(float(found.fun), float(totals.min()))


def fewest_with_intercept(s: float, h0: float, most: int = 4) -> int | None:
    """The least number of logistic points for theta^T h = s and intercept entry h0, up to `most`.

    None if more are needed. s must not lie within 1e-9 of a threshold.
    """
    if 0.0 < abs(h0) < 1.0 and abs(s - float(cost(np.array(h0)))) < 1e-13:
        return 1
    for k in range(2, most + 1):
        if k > abs(h0) and least_cost(k, h0) <= s:
            return k
    return None
