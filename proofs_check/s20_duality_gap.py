r"""S20. The duality gap bounds what any point lacks of the optimum.

Let each :math:`L_n` be :math:`\mu_n`-strongly convex, :math:`\mu_n > 0`. For any models, and any
duals :math:`g_n` in the domain of :math:`r^\star` with :math:`\sum_n g_n = 0`,

.. math:: F(\rho, \theta) - F^\star \le \sum_n \Big[ e(\rho - \theta_n, g_n)
          + \frac{|g_n - \nabla L_n(\theta_n)|^2}{2\mu_n} \Big] = \text{gap}, \qquad
          \frac{\mu_n}{2}|\theta_n - \theta_n^\star|^2 \le \text{gap},

where :math:`e(u, g) = r(u) + r^\star(g) - \langle u, g\rangle \ge 0` has a closed form without
cancellation for each r. For the global model,

- squared l2: :math:`(m/2)|\rho - \rho^\star|^2 \le` gap,
  :math:`m = \sum_n 2\lambda\mu_n/(\mu_n + 2\lambda)`;
- l2: :math:`|\rho - \rho^\star| \le |\rho - \theta_n| + \sqrt{2\,\text{gap}/\mu_n}`, if user n is
  certainly at the kink;
- hard consensus: :math:`|\rho - \rho^\star| \le |\sum_n \nabla L_n(\rho)| / \mu`, :math:`\mu` that of
  the pooled loss.

All of these bounds are attained.

Source: new (T4.1, T4.4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity
from proofs_check.s03_data_to_model import LOSSES, honest_users

TITLE = "the duality gap"
SOURCE = "this package"

GAP = 1.0
"""The largest F - F* over the gap."""

REACH = 1.0
"""The largest |theta_n - theta_n*| over its bound."""

DISTANCE = 1.0
"""The largest |rho - rho*| over its bound."""

RIDGE = 2.0
"""a in mu = a nu + the least eigenvalue of the sum of x x^T, for least squares."""

MUTATIONS = {"GAP": 0.99, "REACH": 0.99, "DISTANCE": 0.99, "RIDGE": 1.01}

ATTAINED = 1e-6
"""What rounding, which bounds allow for, may take from an equality."""

Array = npt.NDArray[np.float64]


def symbolic() -> Iterator[Identity]:
    """Prove closed forms of e, and complete the squares behind the bounds."""
    lam, delta, mu, t, c = sp.symbols("lam delta mu t c", positive=True)
    a, p, x, z = sp.symbols("a p x z", real=True)  # g = (a, p) and u = (t, 0): a along u, p across
    square = a**2 + p**2
    yield identity(
        "squared l2: e = |2 lam u - g|^2/(4 lam)",
        lam * t**2 + square / (4 * lam) - t * a - ((2 * lam * t - a) ** 2 + p**2) / (4 * lam),
        sp.diff(lam * x**2 - x * a, x).subs(x, a / (2 * lam)),  # r* is attained there
    )
    yield identity(
        "l2: e = |u| (lam - a), lam - a = (lam^2 - |g|^2 + |p|^2)/(lam + a)",
        lam * t - t * a - t * (lam**2 - square + p**2) / (lam + a),
    )
    s = sp.sqrt(delta**2 + t**2)
    radius = sp.sqrt(c**2 + square)  # lam, as c^2 = lam^2 - |g|^2
    turned = (c * t - delta * a) ** 2 + (delta * p) ** 2
    yield identity(
        "smooth l2: e (lam s + delta c + <u, g>) = |c u - delta g|^2 + |u|^2 |p|^2",
        (radius * s - delta * c - t * a) * (radius * s + delta * c + t * a) - turned - (t * p) ** 2,
    )
    best = sp.solve(sp.diff((a - z) * x + mu * x**2 / 2, x), x)[0]
    yield identity(
        "least of <grad L - g, v> + mu v^2/2 over v: -(grad L - g)^2/(2 mu)",
        ((a - z) * x + mu * x**2 / 2).subs(x, best) + (a - z) ** 2 / (2 * mu),
    )
    yield identity(
        "mu/2 v^2 + lam (w - v)^2 exceeds lam mu/(mu + 2 lam) w^2 by a square",
        mu * x**2 / 2
        + lam * (z - x) ** 2
        - lam * mu / (mu + 2 * lam) * z**2
        - (mu + 2 * lam) / 2 * (x - 2 * lam * z / (mu + 2 * lam)) ** 2,
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Compare bounds with solutions at random points, and where squares leave no slack."""
    for regularizer in (gc.SquaredL2(1.0), gc.L2(4.0), gc.HardConsensus(), gc.SmoothL2(4.0)):
        found = [_ratios(problem, thetas, rng) for problem, thetas in _cases(regularizer, rng)]
        gap, reach, distance = np.max(np.vstack(found), axis=0).tolist()
        name = f"{type(regularizer).__name__}: the largest"
        yield Measurement(f"{name} F - F* over the gap", gap, GAP, "=", ATTAINED)
        yield Measurement(
            f"{name} |theta_n - theta_n*| over its bound", reach, REACH, "=", ATTAINED
        )
        yield Measurement(
            f"{name} |rho - rho*| over its bound",
            distance,
            DISTANCE,
            "<=" if isinstance(regularizer, gc.SmoothL2) else "=",
            ATTAINED,
        )
    problem = honest_users(gc.LeastSquares(), gc.SquaredL2(1.0), rng, 1)
    x, nu = np.asarray(problem.datasets[0].x), float(problem.nu[0])
    yield Measurement(
        "least squares: the curvature that a certificate takes",
        gc.solve(problem).certificate.strong_convexity[0],
        RIDGE * nu + float(np.linalg.eigvalsh(x.T @ x)[0]),
    )


def _cases(
    regularizer: gc.Regularizer, rng: np.random.Generator
) -> Iterator[tuple[gc.Problem, str]]:
    """Yield problems, and which personal models to take: any, all one, or the replies."""
    consensus = isinstance(regularizer, gc.HardConsensus)
    for loss in LOSSES:
        yield honest_users(loss, regularizer, rng, 3), "one" if consensus else "any"
    for n_users in (1, 3):
        for thetas in ("one", "replies"):
            yield _bowls(regularizer, rng, n_users), thetas


def _bowls(regularizer: gc.Regularizer, rng: np.random.Generator, n_users: int) -> gc.Problem:
    """Return users with quadratic local losses, curved alike in all directions."""
    x = math.sqrt(2.0) * np.eye(3)
    data = [gc.Dataset(x, rng.normal(size=3)) for _ in range(n_users)]
    return gc.Problem(gc.LeastSquares(), regularizer, data, 0.3)


def _ratios(problem: gc.Problem, thetas: str, rng: np.random.Generator) -> Array:
    """Return what points lack of the optimum, at least, over what is certified, (points, 3)."""
    solved = gc.solve(problem)
    rows = []
    for scale in (1.0, 0.1, 0.01):
        rho = solved.rho + scale * rng.normal(size=problem.shape)
        models = [rho] * problem.n_users
        if thetas == "any":
            models = [theta + scale * rng.normal(size=problem.shape) for theta in solved.thetas]
        if thetas == "replies":
            models = [gc.moreau_envelope(problem, n, rho).theta for n in range(problem.n_users)]
        bound = gc.certify(problem, rho, models)
        off = [
            float(np.linalg.norm(one - other)) - known
            for one, other, known in zip(
                (*models, rho),
                (*solved.thetas, solved.rho),
                (*solved.certificate.theta_distances, solved.certificate.distance),
                strict=True,
            )
        ]
        reach = max(a / b for a, b in zip(off[:-1], bound.theta_distances, strict=True))
        least = min(
            bound.gap, _gap(problem, rho, models, _duals(problem, rng), 2.0 * float(problem.nu[0]))
        )
        rows.append([(bound.value - solved.value) / least, reach, off[-1] / bound.distance])
    return np.array(rows)


def _duals(problem: gc.Problem, rng: np.random.Generator) -> Array:
    """Return duals in the domain of the conjugate of r that sum to 0."""
    duals = rng.normal(size=(problem.n_users, *problem.shape))
    duals -= duals.mean(axis=0)
    largest = max(1e-9, *(float(np.linalg.norm(g)) for g in duals))
    return duals * (rng.uniform(0.0, min(4.0, problem.regularizer.radius)) / largest)


def counterexample() -> Iterator[Measurement]:
    """Let duals not sum to zero or leave the domain of r*, overstate mu, or have none."""
    rng = np.random.default_rng(0)
    problem = _bowls(gc.SquaredL2(1.0), rng, 3)
    best = gc.solve(problem)
    rho = best.rho + 1.0
    replies = [gc.moreau_envelope(problem, n, rho) for n in range(3)]
    models = [reply.theta for reply in replies]
    own = [reply.gradient for reply in replies]
    lacks = problem.value(rho, models) - best.value
    yield Measurement(
        "duals grad L_n, which do not sum to 0: F - F*",
        lacks,
        GAP * _gap(problem, rho, models, own, 2.6),
        "<=",
    )
    balanced = [g - np.mean(own, axis=0) for g in own]
    yield Measurement(
        "mu overstated tenfold: F - F*",
        lacks,
        GAP * _gap(problem, rho, models, balanced, 26.0),
        "<=",
    )
    opposed = [([[10.0]], [10.0]), ([[10.0]], [-10.0])]
    kinked = gc.Problem(gc.LeastSquares(), gc.L2(1.0), opposed, 0.1)
    zero = np.zeros(1)
    yield Measurement(
        "l2, both models 0, duals -100 and 100, r* taken for 0 there: F - F*",
        kinked.value(zero, [zero, zero]) - gc.solve(kinked).value,
        0.0,
        "<=",
    )
    flat = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [([[1.0, 0.0]], [1.0])], 0.0)
    one, other = np.array([1.0, 0.0]), np.array([1.0, 5.0])
    yield Measurement(
        "mu = 0, two optima, both of gap 0: |rho - rho*|",
        float(np.linalg.norm(one - other)),
        math.sqrt(2.0 * _gap(flat, other, [other], [np.zeros(2)], 1.0)),
        "<=",
    )


def _gap(
    problem: gc.Problem,
    rho: Array,
    models: Sequence[Array],
    duals: Sequence[Array] | Array,
    mu: float,
) -> float:
    """Return the gap by its formula, whatever the duals and mu are."""
    r, total = problem.regularizer, 0.0
    for local, theta, g in zip(problem.locals, models, duals, strict=True):
        u, mismatch = (rho - theta).ravel(), (g - local.gradient(theta)).ravel()
        total += float(r.value(u) + r.conjugate(g.ravel()) - u @ g.ravel())
        total += float(mismatch @ mismatch) / (2.0 * mu)
    return total
