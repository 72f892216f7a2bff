r"""The training of the published experiments: Adam on all models at once, in float32.

One epoch computes the gradient of F over all points of all users and takes one step of Adam in every
model, the server's and each personal one. The step size is multiplied by 0.99 before each step, the
first one too, unless that makes it less than 0.005. A liar without data adds a report to the server's
gradient. Nothing says how far from an optimum it ends: that is what the rest of this package is for.

Source: S. Farhadkhani, R. Guerraoui, L.-N. Hoang, O. Villemaud, *An Equivalence Between Data Poisoning
and Byzantine Gradient Attacks*, ICML 2022, its section of experiments. Everything here is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.errors import UnsupportedCombinationError
from gplconvex.experiments.results import Result, Stopwatch
from gplconvex.losses import Softmax
from gplconvex.parallel import map_on_cores
from gplconvex.problem import Problem
from gplconvex.regularizers import HardConsensus, norm

RATE, DECAY, LEAST_RATE = 0.02, 0.99, 0.005
"""The published step sizes."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam: those of its authors, and of every library."""

ROWS = 500
"""Points at a time: their inputs stay in the cache between the two products."""

Report = Callable[[FloatArray, FloatArray, float], npt.ArrayLike]
r"""A liar's: from :math:`\rho^t`, the sum of the others' reports in the epoch before (0 in the first)
and the step size to a report, shape of a model."""

Watch = Callable[[int, FloatArray, FloatArray], object]
"""Called after an epoch (from 1) with rho and the personal models (N, *shape of a model)."""


@dataclass(frozen=True, eq=False)
class Training(Result):
    r"""Where training ended.

    Attributes
    ----------
    rho : array, shape (d + 1, K)
    thetas : array, shape (N, d + 1, K)
    epochs : int
    seconds : float
        All epochs; what looks on between them is not counted.
    """

    rho: Any
    thetas: Any
    epochs: int
    seconds: float


def train(
    problem: Problem,
    epochs: int,
    *,
    report: Report | None = None,
    start: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    first_epoch: int = 0,
    watch: Watch | None = None,
) -> Training:
    r"""Train all models of a problem as the published experiments do.

    Parameters
    ----------
    problem : Problem
        Softmax with intercept; a liar who poisons data is one of its users.
    epochs : int
        The published experiments take 200 or 250.
    report : callable, optional
        What a liar without data sends.
    start : pair of arrays, optional
        rho and thetas, shapes (d + 1, K) and (N, d + 1, K); default 0. (The published models start
        at random, which is of no help to a convex problem.)
    first_epoch : int
        How many epochs the step sizes are ahead, for a training that goes on; Adam's memory is not kept.
    watch : callable, optional
        Called after each epoch.

    Returns
    -------
    Training
        In float64, as float32 had it.

    Raises
    ------
    UnsupportedCombinationError
        For another loss, or hard consensus.
    """
    if not (isinstance(problem.loss, Softmax) and problem.loss.intercept) or isinstance(
        problem.regularizer, HardConsensus
    ):
        raise UnsupportedCombinationError(
            "the published training is of Softmax(K, intercept=True) without HardConsensus(); got "
            f"{problem.loss!r} and {problem.regularizer!r}"
        )
    models = _Models(problem, start)
    paused = 0.0
    clock = Stopwatch()
    for epoch, rate in enumerate(rates(first_epoch + epochs), start=1):
        if epoch <= first_epoch:
            continue
        models.step(rate, report)
        if watch is not None:
            pause = Stopwatch()
            watch(epoch, models.rho, models.thetas)
            paused += pause.seconds
    return Training(models.rho, models.thetas, epochs, clock.seconds - paused)


def rates(epochs: int) -> Iterator[float]:
    """Yield the step size of each epoch."""
    rate = RATE
    for _ in range(epochs):
        if rate * DECAY >= LEAST_RATE:
            rate *= DECAY
        yield rate


def counter_gradient_report(problem: Problem, target: FloatArray) -> Report:
    r"""Return the reports of a counter-gradient attack on the published server.

    They would land on the target if the server descended by the step size and the others pulled as in
    the epoch before: :math:`(\rho^t - \rho_\dagger)/\eta_t - G^{t-1}`, projected on Grad. The server
    takes steps of Adam instead, where hardly more than the sign of each coordinate comes through.
    """
    radius = problem.regularizer.radius

    def report(rho: FloatArray, others: FloatArray, rate: float) -> FloatArray:
        wanted = (rho - target) / rate - others
        size = norm(wanted)
        return wanted * min(1.0, radius / size) if size > 0.0 else wanted

    return report


class _Models:
    """All models and the moments of their gradients, classes first, the server's model first."""

    def __init__(self, problem: Problem, start: tuple[Any, Any] | None) -> None:
        self.regularizer = problem.regularizer
        n, (p, k) = problem.n_users, problem.shape
        self.inputs = [_with_ones(user.x) for user in problem.datasets]
        self.labels = [
            (np.eye(k)[user.y.astype(np.intp)] if user.y.ndim == 1 else user.y).T.astype(np.float32)
            for user in problem.datasets
        ]
        self.counts = [user.counts.astype(np.float32) for user in problem.datasets]
        self.ridge = 2.0 * problem.nu.astype(np.float32)[:, None, None]
        self.weights = np.zeros((n + 1, k, p), dtype=np.float32)
        if start is not None:
            rho, thetas = start
            self.weights[0], self.weights[1:] = (
                np.asarray(rho).T,
                np.asarray(thetas).transpose(0, 2, 1),
            )
        self.first, self.second = np.zeros_like(self.weights), np.zeros_like(self.weights)
        self.weight1 = self.weight2 = 1.0
        self.others = np.zeros((p, k))
        self.pieces = [
            (user, slice(begin, begin + ROWS))
            for user, x in enumerate(self.inputs)
            for begin in range(0, len(x), ROWS)
        ]

    @property
    def rho(self) -> FloatArray:
        return np.asarray(self.weights[0].T, dtype=np.float64)

    @property
    def thetas(self) -> FloatArray:
        return np.asarray(self.weights[1:].transpose(0, 2, 1), dtype=np.float64)

    def step(self, rate: float, report: Report | None) -> None:
        """Take one epoch."""
        gradient = self._gradient()
        if report is not None:
            sent = report(self.rho, self.others, rate)
            self.others = gradient[0].T.astype(np.float64)
            gradient[0] += np.asarray(sent).T
        self.first += (1.0 - BETA1) * (gradient - self.first)
        self.second += (1.0 - BETA2) * (gradient**2 - self.second)
        self.weight1, self.weight2 = self.weight1 * BETA1, self.weight2 * BETA2
        scale = np.sqrt(self.second / np.float32(1.0 - self.weight2)) + np.float32(EPSILON)
        self.weights -= np.float32(rate / (1.0 - self.weight1)) * self.first / scale

    def _gradient(self) -> npt.NDArray[np.float32]:
        """Return the gradients of F in the server's model and each personal one."""
        n = len(self.inputs)
        u = (self.weights[0] - self.weights[1:]).reshape(n, -1)
        tie = self.regularizer.gradient(u.astype(np.float64)).astype(np.float32)
        tie = tie.reshape(self.weights[1:].shape)
        gradient = np.concatenate([tie.sum(axis=0)[None], self.ridge * self.weights[1:] - tie])
        size = sum(x.size for x in self.inputs)
        for (user, _), part in zip(
            self.pieces, map_on_cores(self._of_points, self.pieces, size), strict=True
        ):
            gradient[1 + user] += part
        return np.asarray(gradient)

    def _of_points(self, piece: tuple[int, slice]) -> npt.NDArray[np.float32]:
        """Return the gradient of the loss of some points of a user."""
        user, rows = piece
        x = self.inputs[user][rows]
        p = self.weights[1 + user] @ x.T
        p -= p.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        p -= self.labels[user][:, rows]
        p *= self.counts[user][rows]
        return np.asarray(p @ x)


def _with_ones(x: FloatArray) -> npt.NDArray[np.float32]:
    return np.hstack([x, np.ones((len(x), 1))]).astype(np.float32)
