"""Gradient inversion: points with a given gradient, found by optimization, in PyTorch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import gplconvex as gc
from peers.outcome import CORES, FloatArray, Stopwatch, optional


class Inversion(NamedTuple):
    """What the best of some runs found.

    Attributes
    ----------
    dataset : Dataset
        The points; label distributions where these were optimized.
    error : float
        ``|sum of their gradients - h| / |h|``.
    seconds : float
        How long that run alone took.
    rate, start : float
        Its largest learning rate, and the size of the inputs that it started from.
    """

    dataset: gc.Dataset
    error: float
    seconds: float
    rate: float
    start: float


def gradient_inversion(
    loss: gc.Softmax,
    theta: FloatArray,
    h: FloatArray,
    n_points: int,
    *,
    labels: str = "hard",
    box: bool = False,
    rates: Sequence[float] = (0.05, 0.2, 0.01),
    starts: Sequence[float] = (0.1, 0.01),
    steps: int = 2000,
    enough: float = 1e-12,
    seed: int = 0,
    threads: int | None = None,
) -> Inversion:
    r"""Look for ``n_points`` points whose gradients sum to h, as gradients are inverted.

    .. math:: \min_{x_1..x_k}\ \Big|\sum_{i \le k} x_i (p(\theta^\top x_i) - y_i)^\top - h\Big|^2

    by Adam in float64, for one pair of a learning rate and a start after the other. The rate falls to 0
    along half a cosine, which ends orders of magnitude nearer than steps or powers do; so does a start
    near 0, where no label is certain yet.

    Parameters
    ----------
    loss : Softmax
        With K classes, with or without intercept.
    theta, h : array, shape (d, K) or (d + 1, K)
        The model and the gradient, a sum over points without ridge; the last row is the intercept's.
    n_points : int
        The number k of points: the method cannot tell how many are needed.
    labels : {"hard", "soft"}
        ``"hard"``: labels 0, 1, ..., K - 1, 0, 1, ... are given and the inputs are optimized.
        ``"soft"``: label distributions, the softmax of free numbers, are optimized with them.
    box : bool
        Keep the inputs in :math:`[0, 1]^d`, by projection after each step.
    rates : sequence of float
        Largest learning rates to try.
    starts : sequence of float
        Sizes s to try: inputs start uniform in :math:`[0, s]^d` with a ``box``, without it normal with
        standard deviation s. The free numbers behind the labels start standard normal.
    steps : int
        Steps of Adam in each run.
    enough : float
        No further pair is tried after an error of at most this.
    seed : int
        Where the random numbers of each run start.
    threads : int, optional
        Threads of PyTorch; default: all cores. Put back afterwards.

    Returns
    -------
    Inversion
        The run of the smallest error.

    Raises
    ------
    InvalidInputError
        For other ``labels``.
    MissingDependencyError
        If PyTorch is not installed.

    Notes
    -----
    The published methods match the gradient that a deep model has on a batch, which takes a second
    differentiation of the model; the gradient of a linear one is written down. They look for *the* batch
    and are judged by images; here any points will do, and the error is what counts.

    Source: L. Zhu, Z. Liu, S. Han, *Deep Leakage from Gradients*, NeurIPS 2019 (squared distance, labels
    optimized); J. Geiping, H. Bauermeister, H. Dröge, M. Moeller, *Inverting Gradients - How easy is it
    to break privacy in federated learning?*, NeurIPS 2020 (Adam with a falling rate, inputs in a box by
    projection, labels known).
    """
    torch = optional("torch", "torch")
    if labels not in ("hard", "soft"):
        raise gc.InvalidInputError(f"labels must be 'hard' or 'soft'; got {labels!r}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or CORES)
    try:
        runs = []
        for start, rate in itertools.product(starts, rates):
            run = _Run(loss, theta, h, n_points, labels == "soft", box, start, seed)
            runs.append(run.descend(rate, steps))
            if runs[-1].error <= enough:
                break
    finally:
        torch.set_num_threads(before)
    return min(runs, key=lambda found: found.error)


class _Run:
    """Points under way."""

    def __init__(
        self,
        loss: gc.Softmax,
        theta: FloatArray,
        h: FloatArray,
        n_points: int,
        soft: bool,
        box: bool,
        start: float,
        seed: int,
    ) -> None:
        torch = optional("torch", "torch")
        rng = np.random.default_rng(seed)
        k, d = loss.n_classes, len(theta) - loss.intercept
        shape = n_points, d
        x = start * (rng.uniform(size=shape) if box else rng.normal(size=shape))
        self.theta, self.h = torch.tensor(theta), torch.tensor(h)
        self.ones = torch.ones(n_points, int(loss.intercept), dtype=torch.float64)
        self.x = torch.tensor(x, requires_grad=True)
        self.y = torch.tensor(np.eye(k)[np.arange(n_points) % k])
        self.logits = None
        if soft:
            self.logits = torch.tensor(rng.normal(size=(n_points, k)), requires_grad=True)
        self.box, self.start = box, start

    def labels(self) -> Any:
        """Return the label distributions (n_points, K)."""
        return self.y if self.logits is None else self.logits.softmax(1)

    def missing(self) -> Any:
        """Return the sum of the gradients less h."""
        inputs = optional("torch", "torch").cat([self.x, self.ones], 1)
        return inputs.T @ ((inputs @ self.theta).softmax(1) - self.labels()) - self.h

    def descend(self, rate: float, steps: int) -> Inversion:
        """Take all steps, and return where they lead."""
        torch = optional("torch", "torch")
        free = [self.x] if self.logits is None else [self.x, self.logits]
        optimizer = torch.optim.Adam(free)
        clock = Stopwatch()
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.5 * rate * (1.0 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            self.missing().square().sum().backward()
            optimizer.step()
            if self.box:
                self.x.data.clamp_(0.0, 1.0)
        seconds = clock.seconds
        with torch.no_grad():
            error = float(self.missing().norm() / self.h.norm())
            dataset = gc.Dataset(self.x.numpy(), self.labels().numpy())
        return Inversion(dataset, error, seconds, rate, self.start)
