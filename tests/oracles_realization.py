"""Slow and obvious versions of what certificates and realizations claim, in 60-digit arithmetic.

Nothing here calls a formula of the package: sums, objectives and optima are written down again from
their definitions, and the least number of points comes from a search instead of Lambert's function.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import mpmath
import numpy as np
from mpmath import mp
from scipy.optimize import linprog, minimize
from scipy.spatial import cKDTree

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

    A min-plus convolution over a grid finds the valley, a simplex search its bottom; where the grid
    is too coarse for any residuals below 1 (h0 near k), the search starts at equal ones.
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
    if np.isinf(totals.min()):
        starts = [h0 / k] * (k - 1)

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


# -- bounded domains ---------------------------------------------------------------------------------
# In float64, over grids: least weights by linear programs, fewest points by exhaustive search.


def hull_grid(domain: gc.Domain, n_features: int, steps: int, far: float = 8.0) -> np.ndarray:
    """Points all over the convex hull of a domain, corners included; infinite ends are cut off."""
    if isinstance(domain, gc.Product):
        parts = [hull_grid(inner, number, steps, far) for number, inner in domain.parts]
        chosen = itertools.product(*parts)
        return np.array([np.concatenate(rows) for rows in chosen])
    if isinstance(domain, gc.OneHot):
        steps = min(steps, 12)
        shares = itertools.product(range(steps + 1), repeat=n_features)
        return np.array([row for row in shares if sum(row) == steps]) / steps
    if isinstance(domain, gc.Ball):
        if n_features == 1:
            return domain.radius * np.linspace(-1.0, 1.0, steps)[:, None]
        turn = np.linspace(0.0, 2.0 * np.pi, 4 * steps)
        circle = np.column_stack([np.cos(turn), np.sin(turn)])
        return np.concatenate([r * circle for r in domain.radius * np.linspace(0.0, 1.0, steps)])
    low, high = _bounds(domain, n_features)
    ends = np.where(np.isfinite(low), low, -far), np.where(np.isfinite(high), high, far)
    return np.array(list(itertools.product(*map(partial(np.linspace, num=steps), *ends))))


def into_hull(domain: gc.Domain, x: np.ndarray) -> np.ndarray:
    """Points near the hull of a domain moved into it."""
    if isinstance(domain, gc.Product):
        ends = np.cumsum([number for number, _ in domain.parts])[:-1]
        parts = np.split(x, ends, axis=1)
        inner = [part for _, part in domain.parts]
        return np.hstack([into_hull(i, part) for i, part in zip(inner, parts, strict=True)])
    if isinstance(domain, gc.OneHot):
        shares = np.maximum(x, 0.0) + 1e-300
        return shares / shares.sum(axis=1, keepdims=True)
    if isinstance(domain, gc.Ball):
        size = np.linalg.norm(x, axis=1, keepdims=True)
        return x * np.minimum(1.0, domain.radius / np.maximum(size, 1e-300))
    return np.clip(x, *_bounds(domain, x.shape[1]))


def _bounds(domain: gc.Domain, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(domain, gc.Unbounded):
        return np.full(n_features, -np.inf), np.full(n_features, np.inf)
    return domain.bounds(n_features)


def extreme_labels(loss: gc.Loss, domain: gc.Domain) -> tuple[float, float]:
    """The labels with the largest residuals above and below 0."""
    if isinstance(loss, gc.Logistic):
        return -1.0, 1.0
    low, high = domain.labels
    return (np.ceil(low), np.floor(high)) if isinstance(loss, gc.Poisson) else (low, high)


def gradients(loss: gc.Loss, theta: np.ndarray, x: np.ndarray, y: Any) -> np.ndarray:
    """The gradients of single points, one a row."""
    inputs = np.column_stack([x, np.ones(len(x))]) if loss.intercept else x
    z, y = inputs @ theta, np.broadcast_to(y, len(x))
    if isinstance(loss, gc.LeastSquares):
        w = z - y
    elif isinstance(loss, gc.Poisson):
        w = np.exp(z) - y
    else:
        w = -y / (1.0 + np.exp(y * z))
    return w[:, None] * inputs


def _around(domain: gc.Domain, x: np.ndarray, size: float) -> np.ndarray:
    """Points of the hull at some distance around others."""
    steps = np.array(list(itertools.product((-1.0, -0.4, 0.0, 0.4, 1.0), repeat=x.shape[1])))
    return into_hull(domain, (x[:, None, :] + size * steps).reshape(-1, x.shape[1]))


def least_weight(
    loss: gc.Loss,
    theta: np.ndarray,
    h: np.ndarray,
    domain: gc.Domain,
    steps: int = 25,
    far: float = 8.0,
    rounds: int = 14,
) -> float:
    """The least weight of points of a grid whose gradients sum to h: never below the gauge.

    Linear programs, each after the first on finer grids around the points that the last one took.
    """
    n_features = len(h) - loss.intercept
    x, size, labels = hull_grid(domain, n_features, steps, far), 2.0 / steps, None
    y = np.repeat(extreme_labels(loss, domain), len(x))
    x = np.concatenate([x, x])
    best = np.inf
    for _ in range(rounds):
        columns = gradients(loss, theta, x, y)
        found = linprog(np.ones(len(x)), A_eq=columns.T, b_eq=h, method="highs")
        if found.status != 0:
            break
        best = min(best, float(found.fun))
        taken = found.x > 1e-9 * best
        kept, labels = x[taken], y[taken]
        near = [_around(domain, row[None], size) for row in kept]
        x = np.concatenate([kept, *near])
        y = np.concatenate([labels, np.repeat(labels, [len(rows) for rows in near])])
        size *= 0.4
    return best


def most_paid(
    loss: gc.Loss, theta: np.ndarray, v: np.ndarray, domain: gc.Domain, sign: float, far: float
) -> float:
    """The largest <v, gradient> over points whose residuals have a sign: on a grid, then around."""
    n_features, size = len(v) - loss.intercept, 0.3
    x = hull_grid(domain, n_features, 17, far)
    y = extreme_labels(loss, domain)[0 if sign > 0.0 else 1]
    best = 0.0
    for _ in range(25):
        slope = gradients(loss, theta, x, y)
        w = slope[:, -1] if loss.intercept else residuals(loss, theta, x, y)
        paid = np.where(sign * w > 0.0, slope @ v, 0.0)
        first = np.argsort(-paid)[:3]
        best = max(best, float(paid[first[0]]))
        x = np.concatenate([_around(domain, x[first], size), x[first]])
        size *= 0.55
    return best


def residuals(loss: gc.Loss, theta: np.ndarray, x: np.ndarray, y: Any) -> np.ndarray:
    """The residuals of single points."""
    shifted = np.append(theta, 0.0) if not loss.intercept else theta
    other = type(loss)(intercept=True)
    return gradients(other, shifted, x, y)[:, -1]


def farthest_from(atoms: np.ndarray, rows: np.ndarray) -> float:
    """The largest distance of a row from the nearest atom."""
    return float(np.max(cKDTree(atoms).query(rows)[0]))


def nearest_sum(atoms: np.ndarray, h: np.ndarray, k: int) -> tuple[float, np.ndarray]:
    """How near the sum of k rows comes to h, and which rows: by exhaustive search, k up to 3."""
    tree = cKDTree(atoms)
    if k == 1:
        distance, index = tree.query(h)
        return float(distance), np.array([index])
    if k == 2:
        distances, others = tree.query(h - atoms)
        first = int(np.argmin(distances))
        return float(distances[first]), np.array([first, others[first]])
    pairs = np.array(list(itertools.combinations_with_replacement(range(len(atoms)), 2)))
    tree = cKDTree(atoms[pairs[:, 0]] + atoms[pairs[:, 1]])
    distances, others = tree.query(h - atoms)
    first = int(np.argmin(distances))
    return float(distances[first]), np.append(pairs[others[first]], first)
