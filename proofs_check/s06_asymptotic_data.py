r"""S6. Model to data, in the limit: points that a model labels teach it.

Let user s own I independent points that :math:`\theta_\spadesuit` labels honestly: x standard normal,
y with probability :math:`m(y)\,e^{-\varphi(\theta_\spadesuit^\top x, y)}`. As I grows, the personal
model of s tends to :math:`\theta_\spadesuit` whatever the others do, and the optimum to the
target at which :math:`\theta_\spadesuit` keeps it. Given x, :math:`E[\varphi'] = 0` and
:math:`E[\varphi'^2] = E[\varphi'']`, so that to first order

.. math:: \theta_s^\star - \theta_\spadesuit \approx (I\Sigma)^{-1}\Big(h - \sum_{i \le I} x_i w_i\Big),
          \qquad |\theta_s^\star - \theta_\spadesuit| \approx \sqrt{\mathrm{tr}\,\Sigma^{-1}/I},
          \qquad \Sigma = E[\varphi''\,x x^\top].

Under squared l2, :math:`|\rho^\star - \rho_\dagger| \le |\theta_s^\star - \theta_\spadesuit|`. For
softmax rows of :math:`\theta_\spadesuit` must sum to 0: no labels tell models apart that differ by one
column added to all.

Source: convergence is the paper's (T2.4); its speed, and what is said of softmax, are new.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import sympy as sp

import gplconvex as gc
from proofs_check.ledger import Identity, Measurement, identity
from proofs_check.s03_data_to_model import honest_users

TITLE = "model to data, in the limit"
SOURCE = "paper"

FISHER = 1.0
"""E[phi'^2] over E[phi''], labels being honest."""

FIRST_ORDER = 1.0
"""|theta_s* - theta_spade| over |(X^T X)^{-1} (h - sum x w)| for least squares."""

RATE = -0.5
"""The power of I at which theta_s* tends to theta_spade."""

MUTATIONS = {"FISHER": 1.01, "FIRST_ORDER": 0.99}
"""Not RATE, nor the constant: a sample knows them to a few per cent."""

SIZES = (250, 1000, 4000, 16000, 64000)
SEEDS = 10

SAMPLING = 0.3
"""Five deviations, relative: of a slope 0.03 of 0.5, of a root mean square 0.06."""

Array = npt.NDArray[np.float64]


def symbolic() -> Iterator[Identity]:
    """Differentiate the sum of probabilities twice; sandwich the variance."""
    z, mu = sp.symbols("z mu", positive=True)
    phi = sp.Function("phi")(z)
    likelihood = sp.exp(-phi)
    yield identity(
        "0 = (sum_y m e^{-phi})'' = E[phi'^2] - E[phi''], and 0 = (...)' = -E[phi']",
        sp.diff(likelihood, z, 2)
        - (sp.diff(phi, z) ** 2 - sp.nsimplify(FISHER) * sp.diff(phi, z, 2)) * likelihood,
        sp.diff(likelihood, z) + sp.diff(phi, z) * likelihood,
    )
    p = 1 / (1 + sp.exp(-z))
    yield identity(
        "logistic: p (1 - p)^2 + (1 - p) p^2 = phi''",
        p * (1 - p) ** 2 + (1 - p) * p**2 - sp.diff(sp.log(1 + sp.exp(-z)), z, 2),
    )
    count = sp.Symbol("y", integer=True, nonnegative=True)
    chance = sp.exp(-mu) * mu**count / sp.factorial(count)
    yield identity(
        "Poisson, mean e^z = mu: E[(mu - y)^2] = mu = phi''",
        sp.summation((mu - count) ** 2 * chance, (count, 0, sp.oo)) - mu,
    )
    size = sp.Symbol("I", positive=True)
    curvature = sp.Matrix([[sp.Symbol("a"), sp.Symbol("b")], [sp.Symbol("b"), sp.Symbol("c")]])
    inverse = curvature.inv()
    yield identity(
        "the variance of (I Sigma)^{-1} sum x w is Sigma^{-1}/I",
        *((inverse / size) * (size * curvature) * (inverse / size).T - inverse / size),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Sum over labels; solve with more and more points."""
    for loss in (gc.LeastSquares(), gc.Logistic(), gc.Poisson(), gc.Softmax(3)):
        yield from _moments(loss, rng.normal(size=loss.shape(1)[1:]))
    yield _first_order(rng)
    for loss in (gc.Logistic(), gc.Poisson()):
        yield from _speed(loss, rng)


def _moments(loss: gc.Loss, z: Array) -> Iterator[Measurement]:
    """Sum probabilities, and what they say of residuals, over all labels at one predictor."""
    labels, measure = _labels(loss, z)
    z = np.broadcast_to(z, (len(labels), *z.shape))
    chance = measure * np.exp(-loss.value(z, labels))
    w = loss.residual(z, labels).reshape(len(labels), -1)
    squares = np.einsum("y,yi,yj->ij", chance, w, w)
    bend = np.tensordot(chance, loss.curvature(z, labels), 1)
    name = type(loss).__name__
    yield Measurement(f"{name}: probabilities sum to", float(chance.sum()), 1.0)
    yield Measurement(f"{name}: |E[phi']|", float(np.linalg.norm(chance @ w)), 0.0)
    yield Measurement(
        f"{name}: |E[phi'^2]| = |E[phi'']|",
        float(np.linalg.norm(squares)),
        FISHER * float(np.linalg.norm(bend)),
    )


def _labels(loss: gc.Loss, z: Array) -> tuple[Array, Array]:
    """Return labels and m(y), times the weights of a quadrature for least squares."""
    if isinstance(loss, gc.LeastSquares):
        nodes, weights = np.polynomial.hermite.hermgauss(20)
        return z + math.sqrt(2.0) * nodes, weights * np.exp(nodes**2) / math.sqrt(math.pi)
    if isinstance(loss, gc.Poisson):
        counts = np.arange(150.0)
        return counts, np.exp([-math.lgamma(y + 1.0) for y in counts])
    labels = np.arange(3.0) if isinstance(loss, gc.Softmax) else np.array([-1.0, 1.0])
    return labels, np.ones(len(labels))


def _first_order(rng: np.random.Generator) -> Measurement:
    r"""Return the error of least squares over what its first order says, known up to 2 lam over I.

    The report differs from g by at most :math:`2\lambda|\theta_s^\star - \theta_\spadesuit|`, as
    proximal maps do not expand distances.
    """
    problem = honest_users(gc.LeastSquares(), gc.SquaredL2(1.0), rng, 3)
    theta, target = _attack(problem, rng)
    data = gc.honest_dataset(problem.loss, theta, 4000, seed=int(rng.integers(2**31)))
    nu = float(problem.nu[0])
    solved = gc.solve(problem.with_user(data, nu))
    x = np.asarray(data.x)
    curvature = x.T @ x + 2.0 * nu * np.eye(len(theta))
    h = gc.to_gradient(problem, target, theta) - 2.0 * nu * theta
    claimed = np.linalg.solve(curvature, h - x.T @ (x @ theta - data.y))
    return Measurement(
        "LeastSquares, I = 4000: |theta_s* - theta_spade| over its first order",
        float(np.linalg.norm(solved.thetas[-1] - theta) / np.linalg.norm(claimed)),
        FIRST_ORDER,
        tolerance=2.0 / float(np.linalg.eigvalsh(curvature)[0]),
    )


def _attack(problem: gc.Problem, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a model of norm 1, and the target at which it keeps the optimum."""
    theta = rng.normal(size=problem.shape)
    theta /= np.linalg.norm(theta)
    return theta, gc.solve(problem, attacker=gc.ModelAttack(theta)).rho


def _speed(loss: gc.Loss, rng: np.random.Generator) -> Iterator[Measurement]:
    """Fit a power of I to root mean squares, known to a part in the root of twice their number."""
    problem = honest_users(loss, gc.SquaredL2(1.0), rng, 3)
    theta, target = _attack(problem, rng)
    errors, shifts = np.empty((2, len(SIZES), SEEDS))
    for i, j in np.ndindex(errors.shape):
        data = gc.honest_dataset(loss, theta, SIZES[i], seed=int(rng.integers(2**31)))
        solved = gc.solve(problem.with_user(data, float(problem.nu[0])))
        errors[i, j] = np.linalg.norm(solved.thetas[-1] - theta)
        shifts[i, j] = np.linalg.norm(solved.rho - target)
    name = type(loss).__name__
    sizes = np.array(SIZES, dtype=float)
    roots = np.sqrt(np.mean(errors**2, axis=1))
    slope = np.polyfit(np.log(sizes), np.log(roots), 1)[0]
    yield Measurement(f"{name}: the power of I", float(slope), RATE, tolerance=SAMPLING)
    scaled = math.sqrt(np.mean(errors**2 * sizes[:, None]))
    yield Measurement(
        f"{name}: root mean square of sqrt(I) |theta_s* - theta_spade|",
        scaled,
        math.sqrt(_inverse_trace(loss, float(np.linalg.norm(theta)), len(theta))),
        tolerance=SAMPLING,
    )
    ratio = float(np.max(shifts / errors))
    yield Measurement(
        f"{name}: |rho* - rho_dagger| over |theta_s* - theta_spade|", ratio, 1.0, "<="
    )


def _inverse_trace(loss: gc.Loss, size: float, d: int) -> float:
    r"""Return the trace of the inverse of :math:`E[\varphi'' x x^\top]`: across theta, and along."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    bend = loss.curvature(size * nodes, np.ones(len(nodes))) * weights / math.sqrt(2.0 * math.pi)
    return (d - 1) / float(bend.sum()) + 1.0 / float(bend @ nodes**2)


def counterexample() -> Iterator[Measurement]:
    """Let labels be certain instead of honest, or a model of softmax have what labels cannot tell."""
    rng = np.random.default_rng(0)
    problem = honest_users(gc.Logistic(), gc.SquaredL2(1.0), rng, 3)
    theta, _ = _attack(problem, rng)
    n_points = 20_000
    honest = gc.honest_dataset(problem.loss, theta, n_points, seed=0)
    certain = gc.Dataset(honest.x, np.sign(honest.x @ theta))
    yield Measurement(
        "logistic, all labels the likelier ones, I = 20 000: |theta_s* - theta_spade|",
        _off(problem, certain, theta),
        5.0 * math.sqrt(_inverse_trace(problem.loss, 1.0, 3) / n_points),
        "<=",
    )
    softmax = honest_users(gc.Softmax(3), gc.SquaredL2(1.0), rng, 3)
    centered = rng.normal(size=(3, 3))
    centered -= centered.mean(axis=1, keepdims=True)
    shift = np.ones((3, 1))
    near = _off(softmax, gc.honest_dataset(softmax.loss, centered, n_points, seed=0), centered)
    data = gc.honest_dataset(softmax.loss, centered + shift, n_points, seed=0)
    yield Measurement(
        "softmax, rows of theta_spade sum to 3, not 0: |theta_s* - theta_spade|",
        _off(softmax, data, centered + shift),
        5.0 * near,
        "<=",
    )


def _off(problem: gc.Problem, data: gc.Dataset, theta: Array) -> float:
    solved = gc.solve(problem.with_user(data, float(problem.nu[0])))
    return float(np.linalg.norm(solved.thetas[-1] - theta))
