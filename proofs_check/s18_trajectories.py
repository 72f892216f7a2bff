r"""S18. One least-squares point imitates a constant report through all of training.

Under squared l2, without ridge, the owner of n least-squares points with matrix X reports

.. math:: \nabla M(\rho) = A\rho + b, \qquad A = 2\lambda S(S + 2\lambda I)^{-1}, \qquad
          b = -2\lambda(S + 2\lambda I)^{-1}X^\top y, \qquad S = X^\top X.

*One point* x = eps g, y = -1/eps:

.. math:: \nabla M(\rho) = g\,\frac{1 + \varepsilon^2 g^\top\rho}{1 + \varepsilon^2 |g|^2 / (2\lambda)}
          = g\,\bigl(1 + \varepsilon^2 (g^\top\rho - |g|^2 / (2\lambda))\bigr) + O(\varepsilon^4),

within :math:`O(\varepsilon^2(|\rho| + |g|/\lambda))` of g. At :math:`\rho = 0` too it is off, by
:math:`\varepsilon^2 |g|^2/(2\lambda)` relative to g; the label :math:`-1/\varepsilon - \varepsilon
|g|^2/(2\lambda)` makes it exact there.

*n points* have exactly the reports :math:`A\rho + b` with A symmetric, :math:`0 \le A < 2\lambda I`,
rank A at most n, and b in the range of A: an eigenvalue s of S gives :math:`a = 2\lambda s/(s +
2\lambda)`, and :math:`s = 2\lambda a/(2\lambda - a)` gives it back.

Source: this package.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from gplconvex.federated import DataAttack, rounds
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "one point imitates a constant report"
SOURCE = "this package"

CEILING = 2.0
"""What the eigenvalues of A stay below, over lam."""

ORDER = 2.0
"""The power of epsilon with which the report's error falls."""

LEADING = 0.5
"""The relative error at rho = 0 over eps^2 |g|^2 / lam."""

MUTATIONS = {"CEILING": 0.99, "ORDER": 1.01, "LEADING": 1.01}


def symbolic() -> Iterator[Identity]:
    """Solve for the reply to one point, expand it in eps, and bound eigenvalues."""
    d = 3
    x, rho, g = (sp.Matrix(sp.symbols(f"{name}:{d}", real=True)) for name in ("x", "rho", "g"))
    y = sp.symbols("y", real=True)
    lam, eps, s, a = sp.symbols("lam epsilon s a", positive=True)
    report = x * (x.dot(rho) - y) / (1 + x.dot(x) / (2 * lam))
    theta = rho - report / (2 * lam)
    yield identity(
        "theta = rho - report / (2 lam) minimizes: x (theta . x - y) = 2 lam (rho - theta)",
        *(x * (theta.dot(x) - y) - 2 * lam * (rho - theta)),
    )
    swap = dict(zip(x, eps * g, strict=True))
    imitated = report.subs({**swap, y: -1 / eps}, simultaneous=True)
    factor = (1 + eps**2 * g.dot(rho)) / (1 + eps**2 * g.dot(g) / (2 * lam))
    yield identity(
        "x = eps g, y = -1/eps: g (1 + eps^2 g.rho) / (1 + eps^2 |g|^2 / (2 lam))",
        *(imitated - factor * g),
    )
    first = sp.diff(factor, eps, 2).subs(eps, 0) / 2
    half = sp.nsimplify(LEADING)
    yield identity(
        "the factor is 1 + eps^2 (g.rho - |g|^2 / (2 lam)) + O(eps^4)",
        factor.subs(eps, 0) - 1,
        sp.diff(factor, eps).subs(eps, 0),
        first - (g.dot(rho) - half * g.dot(g) / lam),
    )
    shifted = report.subs({**swap, y: -1 / eps - half * eps * g.dot(g) / lam}, simultaneous=True)
    yield identity(
        "y = -1/eps - eps |g|^2 / (2 lam): exact at rho = 0",
        *(shifted.subs(dict.fromkeys(rho, 0)) - g),
    )
    value = 2 * lam * s / (s + 2 * lam)
    yield identity(
        "a = 2 lam s / (s + 2 lam) grows from 0 to 2 lam, and s = 2 lam a / (2 lam - a)",
        value.subs(s, 2 * lam * a / (2 * lam - a)) - a,
        sp.diff(value, s) - 4 * lam**2 / (s + 2 * lam) ** 2,
        sp.limit(value, s, sp.oo) - sp.nsimplify(CEILING) * lam,
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Ask at random models, run the protocol, and realize a random map."""
    lam, g = float(rng.uniform(0.5, 2.0)), rng.normal(size=3)
    rhos = rng.normal(size=(20, 3))
    coarse, fine = (
        max(float(np.linalg.norm(_report(lam, *_point(g, eps), rho) - g)) for rho in rhos)
        for eps in (1e-2, 1e-3)
    )
    yield Measurement(
        "the error's power of eps", float(np.log10(coarse / fine)), ORDER, tolerance=2e-3
    )
    at_zero = _report(lam, *_point(g, 1e-3), np.zeros(3))
    relative = float(np.linalg.norm(at_zero - g) / np.linalg.norm(g))
    expected = LEADING * 1e-6 * float(g @ g) / lam
    yield Measurement("eps = 1e-3, rho = 0: the relative error", relative, expected, tolerance=1e-4)
    yield from _run(lam, g, rng)
    yield from _maps(lam, rng)
    steep = _slopes(lam, gc.Dataset(1e6 * np.eye(3), np.zeros(3)))
    yield Measurement(
        "the largest eigenvalue of A comes near to 2 lam",
        float(np.linalg.eigvalsh(steep)[-1]),
        CEILING * lam,
        tolerance=1e-6,
    )


def counterexample() -> Iterator[Measurement]:
    """Give the attacker a ridge, or logistic points; ask for an A that is too steep."""
    g, rho = np.array([1.0, -2.0]), np.array([3.0, 1.0])
    x, y = _point(g, 1e-3)
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [gc.Dataset(x, y)], nu=0.1)
    ridged = gc.moreau_envelope(problem, 0, rho).gradient
    yield Measurement(
        "nu = 0.1: the relative error at eps = 1e-3",
        float(np.linalg.norm(ridged - g) / np.linalg.norm(g)),
        1e-3,
        "<=",
    )
    logistic = gc.Problem(
        gc.Logistic(), gc.SquaredL2(1.0), [gc.realize_gradient(gc.Logistic(), rho, -g).dataset]
    )
    report = gc.moreau_envelope(logistic, 0, -rho).gradient
    yield Measurement(
        "logistic points that have the gradient at one model: the error at another",
        float(np.linalg.norm(report + g)),
        1e-3,
        "<=",
    )
    steep = _slopes(1.0, gc.Dataset(1e6 * np.eye(2), np.zeros(2)))
    yield Measurement(
        "an eigenvalue of A of 2.5 lam", float(np.linalg.eigvalsh(steep)[-1]), 2.5, ">="
    )


def _point(g: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    return eps * g[None], np.array([-1.0 / eps])


def _report(lam: float, x: np.ndarray, y: np.ndarray, rho: np.ndarray) -> np.ndarray:
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(lam), [gc.Dataset(x, y)])
    return gc.moreau_envelope(problem, 0, rho).gradient


def _slopes(lam: float, data: gc.Dataset) -> np.ndarray:
    """Return A, column by column, from reports."""
    d = data.n_features
    start = _report(lam, data.x, data.y, np.zeros(d))
    return np.array([_report(lam, data.x, data.y, e) - start for e in np.eye(d)])


def _run(lam: float, g: np.ndarray, rng: np.random.Generator) -> Iterator[Measurement]:
    """Run the protocol beside honest users: who owns the point, and who reports g."""
    data = [gc.Dataset(rng.normal(size=(8, 3)), rng.normal(size=8)) for _ in range(3)]
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(lam), data, nu=0.1)
    attacks = DataAttack(gc.Dataset(*_point(g, 1e-3)), nu=0.0), gc.GradientAttack(g)
    by_data, by_gradient = (
        [each.next_rho for each in itertools.islice(rounds(problem, [attack], step_size=0.05), 60)]
        for attack in attacks
    )
    apart = max(float(np.linalg.norm(a - b)) for a, b in zip(by_data, by_gradient, strict=True))
    # A step on the honest users does not expand distances: only the reports part the models.
    farthest = max(abs(float(g @ rho)) for rho in [np.zeros(3), *by_data]) + float(g @ g) / (
        2 * lam
    )
    allowed = 60 * 0.05 * 1e-6 * float(np.linalg.norm(g)) * farthest
    yield Measurement("60 rounds, eps = 1e-3: the models part by", apart, allowed, "<=")


def _maps(lam: float, rng: np.random.Generator) -> Iterator[Measurement]:
    """Realize a random map of rank 2 by two points."""
    d, n = 4, 2
    q = np.linalg.qr(rng.normal(size=(d, d)))[0][:, :n]
    values = CEILING * lam * rng.uniform(0.05, 0.95, size=n)
    b = q @ rng.normal(size=n)
    s = CEILING * lam * values / (CEILING * lam - values)
    x = np.sqrt(s)[:, None] * q.T
    y = -(q.T @ b) * (s + 2.0 * lam) / (2.0 * lam * np.sqrt(s))
    rhos = 10.0 * rng.normal(size=(10, d))
    off = [np.linalg.norm(_report(lam, x, y, rho) - ((q * values) @ q.T @ rho + b)) for rho in rhos]
    yield Measurement(
        "two points with reports A rho + b, rank A = 2: the error", float(max(off)), 0.0
    )
