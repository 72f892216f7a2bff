"""Slow, obvious versions of what the package computes, from another formula.

Here a loss is nothing but its function phi(z, y), of a number or of a list of K numbers, and a
regularizer nothing but r(u) and r*(g), all in mpmath; derivatives are differences in many digits, sums
are literal double sums over points, and minimizers come from a section search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mpmath as mp
import numpy as np

import gplconvex as gc

DIGITS = 600
"""Enough for exp(-1000) beside 1, twice differenced with a step of 1e-40."""


@dataclass(frozen=True)
class LossOracle:
    """A loss by its formula, labels that it takes, and finite or other labels that it must refuse.

    A label is a number or a tuple. ``arguments`` are those of the class, but for the intercept.
    """

    phi: Callable[[Any, Any], Any]
    labels: tuple[Any, ...]
    refused: tuple[Any, ...]
    arguments: tuple[Any, ...] = ()


@lru_cache(maxsize=2**16)
def _log_sum_exp(z: tuple[Any, ...], digits: int) -> Any:
    with mp.workdps(digits):
        return mp.log(mp.fsum(map(mp.exp, z)))


def _softmax(z: list[Any], y: Any) -> Any:
    """log sum_k exp(z_k) - sum_k y_k z_k, with y_k = 1 for the class of the label."""
    weights = y if isinstance(y, list) else [mp.mpf(k == y) for k in range(len(z))]
    # The logarithm does not know the label: it is kept, for the digits at hand.
    return _log_sum_exp(tuple(z), mp.mp.dps) - mp.fsum(
        a * b for a, b in zip(weights, z, strict=True)
    )


LOSSES = {
    "least-squares": LossOracle(
        lambda z, y: (z - y) ** 2 / 2,
        (0.0, 1.0, -2.5, 1e-9, 1000.0, -1e6),
        (np.nan, np.inf, -np.inf),
    ),
    "logistic": LossOracle(
        lambda z, y: mp.log(1 + mp.exp(-y * z)),
        (-1.0, 1.0),
        (0.0, 0.5, 2.0, -1.0000000000000002, np.nan, np.inf),
    ),
    "poisson": LossOracle(
        lambda z, y: mp.exp(z) - y * z,
        (0.0, 1.0, 3.0, 20.0, 1e6),
        (-1.0, 0.5, 3.0000000000000004, -0.5, np.nan, np.inf, -np.inf),
    ),
    "softmax": LossOracle(
        _softmax,
        (0.0, 2.0, (0.25, 0.25, 0.5), (0.1, 0.2, 0.7), (0.0, 1.0, 0.0)),
        (
            *(-1.0, 3.0, 0.5, 1.0000000000000002, np.nan, np.inf),
            *((0.5, 0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.25, 0.25 - 1e-11), (0.0, 0.0, 0.0)),
        ),
        arguments=(3,),
    ),
}


def length(u: Sequence[Any]) -> Any:
    """The Euclidean norm."""
    return mp.sqrt(mp.fsum(x * x for x in u))


@dataclass(frozen=True)
class RegularizerOracle:
    """A regularizer by its formulas; vectors are lists of mpf."""

    r: Callable[[list[Any]], Any]
    conjugate: Callable[[list[Any]], Any]


def _outside(condition: bool, value: Any) -> Any:
    return mp.inf if condition else value


REGULARIZERS: dict[str, Callable[[Any], RegularizerOracle]] = {
    "squared-l2": lambda reg: RegularizerOracle(
        lambda u: mp.mpf(reg.lam) * length(u) ** 2,
        lambda g: length(g) ** 2 / (4 * mp.mpf(reg.lam)),
    ),
    "l2": lambda reg: RegularizerOracle(
        lambda u: mp.mpf(reg.lam) * length(u),
        lambda g: _outside(length(g) > reg.lam, mp.mpf(0)),
    ),
    "smooth-l2": lambda reg: RegularizerOracle(
        lambda u: mp.mpf(reg.lam) * mp.sqrt(mp.mpf(reg.delta) ** 2 + length(u) ** 2),
        lambda g: (
            mp.inf
            if length(g) > reg.lam
            else -mp.mpf(reg.delta) * mp.sqrt(mp.mpf(reg.lam) ** 2 - length(g) ** 2)
        ),
    ),
    "hard-consensus": lambda reg: RegularizerOracle(
        lambda u: _outside(any(u), mp.mpf(0)),
        lambda g: mp.mpf(0),
    ),
}

EXAMPLES: dict[str, tuple[gc.Regularizer, ...]] = {
    "squared-l2": (gc.SquaredL2(0.5), gc.SquaredL2(30.0)),
    "l2": (gc.L2(0.7), gc.L2(30.0)),
    "smooth-l2": (gc.SmoothL2(0.7), gc.SmoothL2(30.0, delta=0.1), gc.SmoothL2(2.0, delta=5.0)),
    "hard-consensus": (gc.HardConsensus(),),
}


# -- numbers and differences -------------------------------------------------------------------------


def exact(array: Any) -> list[Any]:
    """The numbers of an array, as they are, flattened."""
    return [mp.mpf(float(x)) for x in np.asarray(array).ravel()]


def slope(f: Callable[[Any], Any], z: float, digits: int = DIGITS) -> Any:
    """The derivative of a function of one number."""
    with mp.workdps(digits):
        h = mp.mpf(10) ** -40
        return (f(mp.mpf(z) + h) - f(mp.mpf(z) - h)) / (2 * h)


def bend(f: Callable[[Any], Any], z: float, digits: int = DIGITS) -> Any:
    """The second derivative of a function of one number."""
    with mp.workdps(digits):
        h = mp.mpf(10) ** -40
        z = mp.mpf(z)
        return (f(z + h) - 2 * f(z) + f(z - h)) / h**2


def _moved(u: list[Any], *steps: tuple[int, Any]) -> list[Any]:
    moved = list(u)
    for j, h in steps:
        moved[j] += h
    return moved


def slopes(f: Callable[[list[Any]], Any], u: list[Any], digits: int = DIGITS) -> list[Any]:
    """The gradient of a function of a vector."""
    with mp.workdps(digits):
        h = mp.mpf(10) ** -40
        return [(f(_moved(u, (j, h))) - f(_moved(u, (j, -h)))) / (2 * h) for j in range(len(u))]


def bends(f: Callable[[list[Any]], Any], u: list[Any], digits: int = DIGITS) -> list[list[Any]]:
    """The Hessian of a function of a vector, by rows."""
    with mp.workdps(digits):
        h = mp.mpf(10) ** -40

        def entry(i: int, j: int) -> Any:
            corners = [
                a * b * f(_moved(u, (i, a * h), (j, b * h))) for a in (1, -1) for b in (1, -1)
            ]
            return mp.fsum(corners) / (4 * h**2)

        return [[entry(i, j) for j in range(len(u))] for i in range(len(u))]


def gradient(f: Callable[[list[Any]], Any], u: Any) -> np.ndarray:
    """The gradient of a function of a vector, rounded once."""
    return np.array([float(x) for x in slopes(f, exact(u), 150)])


def hessian(f: Callable[[list[Any]], Any], u: Any) -> np.ndarray:
    """The Hessian of a function of a vector, rounded once."""
    return np.array([[float(x) for x in row] for row in bends(f, exact(u), 150)])


def fenchel_young(oracle: RegularizerOracle, u: Any, g: Any) -> Any:
    """r(u) + r*(g) - <u, g> in 100 digits, where cancellation does not matter."""
    with mp.workdps(100):
        u, g = exact(u), exact(g)
        terms = oracle.r(u), oracle.conjugate(g), -mp.fsum(a * b for a, b in zip(u, g, strict=True))
        return max(mp.mpf(0), sum(terms))


def least_on_segment(f: Callable[[Any], Any], low: float, high: float, digits: int = 60) -> Any:
    """The minimizer of a convex function on a segment, by golden section, to half the digits."""
    with mp.workdps(digits):
        a, b = mp.mpf(low), mp.mpf(high)
        ratio = (mp.sqrt(5) - 1) / 2
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        fc, fd = f(c), f(d)
        while b - a > mp.mpf(10) ** (-digits // 2 + 5):
            if fc <= fd:
                b, d, fd = d, c, fc
                c = b - ratio * (b - a)
                fc = f(c)
            else:
                a, c, fc = c, d, fd
                d = a + ratio * (b - a)
                fd = f(d)
        return (a + b) / 2


# -- the model, literally ----------------------------------------------------------------------------


def label(y: Any) -> Any:
    """A label, as it is: a number, or a list of them."""
    return exact(y) if np.ndim(y) else mp.mpf(float(y))


def predictor(loss: gc.Loss, x: np.ndarray, theta: Any) -> Any:
    """z of one point: the features, then 1 if there is an intercept, times theta, row by row."""
    features = [*exact(x), mp.mpf(1)] if loss.intercept else exact(x)
    columns = len(theta) // len(features)
    z = [
        mp.fsum(a * b for a, b in zip(features, theta[k::columns], strict=True))
        for k in range(columns)
    ]
    return z if loss.shape(len(x))[1:] else z[0]


def local_value(loss: gc.Loss, data: gc.Dataset, nu: float, theta: Any) -> Any:
    """L(theta): the ridge, then one term for every single point."""
    phi, theta = LOSSES[loss.name].phi, [mp.mpf(t) for t in np.ravel(theta)]
    total = mp.mpf(float(nu)) * mp.fsum(t * t for t in theta)
    for x, y, count in zip(data.x, data.y, data.counts, strict=True):
        term = phi(predictor(loss, x, theta), label(y))
        for _ in range(int(count)):
            total += term
    return total


def objective(problem: gc.Problem, rho: Any, thetas: Any) -> float:
    """F, as the double sum over users and points that defines it."""
    oracle = REGULARIZERS[problem.regularizer.name](problem.regularizer)
    with mp.workdps(50):
        total = mp.mpf(0)
        for data, nu, theta in zip(problem.datasets, problem.nu, thetas, strict=True):
            total += local_value(problem.loss, data, nu, theta)
            total += oracle.r([a - b for a, b in zip(exact(rho), exact(theta), strict=True)])
        return float(total)


def local_gradient(loss: gc.Loss, data: gc.Dataset, nu: float, theta: np.ndarray) -> list[Any]:
    """grad L(theta) of the float64 data as they are, row by row, to 50 digits and more."""
    phi = LOSSES[loss.name].phi
    with mp.workdps(250):
        total = [2 * mp.mpf(float(nu)) * t for t in exact(theta)]
        for x, y, count in zip(data.x, data.y, data.counts, strict=True):
            z, of = predictor(loss, x, exact(theta)), label(y)
            if isinstance(z, list):
                residual = slopes(lambda z, of=of: phi(z, of), z, 250)
            else:
                residual = [slope(lambda z, of=of: phi(z, of), z, 250)]
            features = [*exact(x), mp.mpf(1)] if loss.intercept else exact(x)
            terms = [int(count) * w * feature for feature in features for w in residual]
            total = [t + term for t, term in zip(total, terms, strict=True)]
        return total


def reply(problem: gc.Problem, user: int, rho: float, reach: float = 50.0) -> tuple[float, float]:
    """The Moreau envelope of a problem with one parameter, and the minimizer: a section search."""
    oracle = REGULARIZERS[problem.regularizer.name](problem.regularizer)
    data, nu = problem.datasets[user], problem.nu[user]

    def total(theta: Any) -> Any:
        return local_value(problem.loss, data, nu, [theta]) + oracle.r([mp.mpf(rho) - theta])

    theta = least_on_segment(total, -reach, reach)
    with mp.workdps(60):
        return float(total(theta)), float(theta)
