"""Gradient canceling: poisoned points that cancel the clean gradient, found by optimization."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

import gplconvex as gc
from peers.outcome import FloatArray, Stopwatch


class Canceling(NamedTuple):
    """What the best of some runs found.

    Attributes
    ----------
    dataset : Dataset
        The points.
    error : float
        ``|sum of their gradients - h| / |h|``.
    seconds : float
        How long all runs took, up to and with the best one if that was good enough.
    runs : int
        How many these were.
    """

    dataset: gc.Dataset
    error: float
    seconds: float
    runs: int


def gradient_canceling(
    theta: FloatArray,
    h: FloatArray,
    n_points: int,
    clean: gc.Dataset,
    domain: gc.Box,
    *,
    negatives: Sequence[int] | None = None,
    rates: Sequence[float] = (),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 2000,
    enough: float = 1e-14,
) -> Canceling:
    r"""Look for k logistic points in a box whose gradients at theta sum to h.

    .. math:: \min_{x_1..x_k \in X}\ \frac{1}{2|h|^2}
              \Big|\sum_{i \le k} -y_i\,\sigma(-y_i\,\theta^\top x_i)\,x_i - h\Big|^2,

    h being minus the gradient of the clean loss at the wanted model theta. Labels are fixed. The inputs
    start as clean ones drawn at random; one run follows another until one is good enough.

    Parameters
    ----------
    theta, h : array, shape (d + 1,)
        The wanted model and the gradient, a sum over points; the intercept last.
    n_points : int
        The number k: the method cannot tell how many are needed.
    clean : Dataset
        Where inputs start.
    domain : Box
        Where they stay.
    negatives : sequence of int, optional
        How many of the labels are -1: numbers to try. Without them, points keep the labels of the clean
        ones that they start from, as published.
    rates : sequence of float
        Largest learning rates to try of Adam, which is projected after each step; the rate falls to 0
        along half a cosine. Without them scipy's L-BFGS-B, which needs none and ends far nearer.
    seeds : sequence of int
        Starts to try.
    steps : int
        Steps of each run, at most.
    enough : float
        No further run is tried after an error of at most this.

    Returns
    -------
    Canceling
        The run of the smallest error.

    Notes
    -----
    The published method is projected gradient descent, with means in place of sums. Both methods here
    are faster.

    Source: Y. Lu, G. Kamath, Y. Yu, *Exploring the Limits of Model-Targeted Indiscriminate Data
    Poisoning Attacks*, ICML 2023.
    """
    clock = Stopwatch()
    runs: list[tuple[float, gc.Dataset]] = []
    for seed, split, rate in itertools.product(seeds, negatives or (None,), rates or (None,)):
        drawn = np.random.default_rng(seed).integers(clean.n_rows, size=n_points)
        y = clean.y[drawn] if split is None else np.where(np.arange(n_points) < split, -1.0, 1.0)
        missing = _Missing(theta, h, y)
        bounds = domain.bounds(clean.n_features)
        if rate is None:
            x = _quasi_newton(missing, clean.x[drawn], bounds, steps)
        else:
            x = _adam(missing, clean.x[drawn], bounds, rate, steps)
        runs.append((math.sqrt(2.0 * missing(x)[0]), gc.Dataset(x, y)))
        if runs[-1][0] <= enough:
            break
    error, dataset = min(runs, key=lambda run: run[0])
    return Canceling(dataset, error, clock.seconds, len(runs))


class _Missing:
    """Half the squared relative error, and its gradient in the inputs."""

    def __init__(self, theta: FloatArray, h: FloatArray, y: FloatArray) -> None:
        self.theta, self.h, self.y = theta, h, y
        self.size = float(h @ h)

    def __call__(self, x: FloatArray) -> tuple[float, FloatArray]:
        t, b = self.theta[:-1], self.theta[-1]
        z = x @ t + b
        w = -self.y * expit(-self.y * z)
        m = np.append(w @ x, w.sum()) - self.h
        along = expit(z) * expit(-z) * (x @ m[:-1] + m[-1])
        slope = w[:, None] * m[:-1] + along[:, None] * t
        return 0.5 * float(m @ m) / self.size, slope / self.size


Bounds = tuple[FloatArray, FloatArray]


def _quasi_newton(missing: _Missing, x: FloatArray, bounds: Bounds, steps: int) -> FloatArray:
    def flat(inputs: FloatArray) -> tuple[float, FloatArray]:
        value, slope = missing(inputs.reshape(x.shape))
        return value, slope.ravel()

    found = minimize(
        flat,
        x.ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=np.tile(np.stack(bounds, axis=1), (len(x), 1)),
        options={"maxiter": steps, "maxfun": 2 * steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 20},
    )
    return np.asarray(found.x).reshape(x.shape)


def _adam(missing: _Missing, x: FloatArray, bounds: Bounds, rate: float, steps: int) -> FloatArray:
    mean, square = np.zeros_like(x), np.zeros_like(x)
    for step in range(steps):
        slope = missing(x)[1]
        mean += 0.1 * (slope - mean)
        square += 0.001 * (slope**2 - square)
        size = 0.5 * rate * (1.0 + math.cos(math.pi * step / steps)) / (1.0 - 0.9 ** (step + 1))
        spread = np.sqrt(square / (1.0 - 0.999 ** (step + 1)))
        x = np.clip(x - size * mean / (spread + 1e-16), *bounds)
    return x
