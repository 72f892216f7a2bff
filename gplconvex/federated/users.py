r"""The honest users of a run: their choice, and their replies in batches.

Asked at :math:`\rho`, an honest user improves its personal model :math:`\theta_n` and reports
:math:`g_n = \nabla r(\rho - \theta_n)`. It improves it as far as possible,

.. math:: \theta_n = \arg\min_\theta L_n(\theta) + r(\rho - \theta), \qquad g_n = \nabla M_n(\rho),

or by one step :math:`\theta_n \leftarrow \theta_n - \gamma_n\,(\nabla L_n(\theta_n) - \nabla
r(\rho - \theta_n))`, which needs no solver. Either way its next search starts at its last model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gplconvex._types import FloatArray, IntArray
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.local_losses import LocalLosses
from gplconvex.parallel import BLOCK, map_on_cores
from gplconvex.problem import Problem
from gplconvex.regularizers import HardConsensus
from gplconvex.replies import newton_replies, replies_by_solving
from gplconvex.solvers import has_small_models


@dataclass(frozen=True)
class Honest:
    r"""How an honest user improves its personal model in a round.

    Parameters
    ----------
    step_size : None, "auto" or float
        None: by minimizing its local problem. Otherwise by one gradient step of that size
        :math:`\gamma_n`; ``"auto"`` is :math:`1/(\mathrm{Lip}(\nabla L_n) + \mathrm{Lip}(\nabla r))`,
        which needs both to be finite.

    Raises
    ------
    InvalidInputError
        For a step size that is not positive.

    Notes
    -----
    Source: Farhadkhani et al. 2022 (T1): "exactly, or by one gradient step".

    Examples
    --------
    >>> Honest()
    Honest(step_size=None)
    >>> Honest("auto")
    Honest(step_size='auto')
    """

    step_size: float | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        step_size = self.step_size
        if step_size is None or step_size == "auto":
            return
        if not (is_number(step_size) and 0.0 < step_size < math.inf):
            raise InvalidInputError(
                "Honest: step_size must be None (exact minimization), 'auto' or a positive number; "
                f"got {step_size!r}"
            )


class LocalUsers:
    """The honest users of a run in this process, with their personal models.

    Parameters
    ----------
    problem : Problem
        Theirs.
    honest : Honest, or a sequence of N of them
        Their choices.
    start : array, shape of a model
        Their personal models before the first round.

    Attributes
    ----------
    theta : array, shape (N, p)
        Their personal models, as vectors.
    """

    def __init__(
        self, problem: Problem, honest: Honest | Sequence[Honest], start: FloatArray
    ) -> None:
        self.problem = problem
        self.theta = np.tile(start.ravel(), (problem.n_users, 1))
        self._small = has_small_models(problem)
        self._batches = [
            _Batch(problem, choice, users)
            for choice, members in _by_choice(problem, honest).items()
            for users in _cut(problem, members, self._small)
        ]

    def answer(self, rho: FloatArray, asked: IntArray) -> FloatArray:
        """Return the reports (n, *shape of a model) of users, in the order in which they are named."""
        reports = np.empty((self.problem.n_users, rho.size))
        wanted = np.zeros(self.problem.n_users, dtype=bool)
        wanted[asked] = True

        def improve(batch: _Batch) -> None:
            users = batch.users[wanted[batch.users]]
            if len(users):
                self.theta[users], reports[users] = batch.improve(users, rho, self.theta[users])

        # Large models share the cores among themselves.
        size = sum(batch.size for batch in self._batches) if self._small else 0
        map_on_cores(improve, self._batches, size)
        return reports[asked].reshape(len(asked), *rho.shape)


class _Batch:
    """Users who make the same choice, improved together."""

    def __init__(self, problem: Problem, choice: Honest, users: IntArray) -> None:
        self.problem, self.choice, self.users = problem, choice, users
        self._losses = self._of(users)
        self._small = has_small_models(problem)
        self._steps = np.zeros(problem.n_users)
        if choice.step_size is not None:
            self._steps[users] = _step_sizes(problem, choice, self._losses)

    @property
    def size(self) -> int:
        """How many numbers the inputs are."""
        return self._losses.size

    @np.errstate(over="ignore", invalid="ignore")  # steps that are too long end in reports dropped
    def improve(
        self, users: IntArray, rho: FloatArray, theta: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return improved models of some users, and their reports, both (n, p)."""
        losses = self._losses if len(users) == len(self.users) else self._of(users)
        if self.choice.step_size is None:
            if self._small:
                found = newton_replies(self.problem, losses, rho, theta)
            else:
                found = replies_by_solving(self.problem, users, losses, rho, theta)
            return found.theta, found.gradient
        anchor = rho.ravel()
        slope = losses.gradient(theta) - self._tie(anchor - theta)
        theta = theta - self._steps[users, None] * slope
        return theta, self._tie(anchor - theta)

    def _of(self, users: IntArray) -> LocalLosses:
        problem = self.problem
        return LocalLosses(problem.loss, [problem.datasets[n] for n in users], problem.nu[users])

    def _tie(self, u: FloatArray) -> FloatArray:
        """Return grad r (n, p); at a kink 0, which is a subgradient."""
        away = np.asarray(u.any(axis=1))[:, None]
        return np.where(away, self.problem.regularizer.gradient(np.where(away, u, 1.0)), 0.0)


def check_honest(problem: Problem, honest: Honest | Sequence[Honest]) -> list[Honest]:
    """Return one choice a user, or raise `InvalidInputError`."""
    choices = list(honest) if isinstance(honest, Sequence) else [honest] * problem.n_users
    if len(choices) != problem.n_users or not all(isinstance(each, Honest) for each in choices):
        raise InvalidInputError(
            f"honest must be Honest(...), or a sequence of one for each of the {problem.n_users} "
            f"users; got {honest!r}"
        )
    return choices


def _by_choice(problem: Problem, honest: Honest | Sequence[Honest]) -> dict[Honest, list[int]]:
    """Return the users of every choice."""
    members: dict[Honest, list[int]] = {}
    for n, choice in enumerate(check_honest(problem, honest)):
        members.setdefault(choice, []).append(n)
    return members


def _cut(problem: Problem, members: Sequence[int], small: bool) -> Iterator[IntArray]:
    """Yield users in batches: alike in their rows, and few enough to stay near the cache.

    Users with large models are improved one after the other, each on all cores.
    """
    if not small:
        yield np.array(members)
        return
    hessian = math.prod(problem.shape) ** 2
    batch: list[int] = []
    numbers = 0
    for n in sorted(members, key=lambda n: problem.datasets[n].n_rows):
        own = problem.datasets[n].n_rows * problem.n_features + hessian
        if batch and numbers + own > BLOCK:
            yield np.array(batch)
            batch, numbers = [], 0
        batch.append(n)
        numbers += own
    yield np.array(batch)


def _step_sizes(problem: Problem, choice: Honest, losses: LocalLosses) -> FloatArray | float:
    r"""Return :math:`\gamma_n` of users who take one gradient step."""
    if isinstance(problem.regularizer, HardConsensus):
        raise UnsupportedCombinationError(
            "under HardConsensus() personal models are the server's, and there is nothing to "
            "improve: use Honest(), whose reports are the gradients of the local losses"
        )
    if isinstance(choice.step_size, (int, float)):
        return float(choice.step_size)
    steepest = losses.smoothness + problem.regularizer.smoothness
    if not np.isfinite(steepest).all():
        raise UnsupportedCombinationError(
            f"{problem.loss!r} or {problem.regularizer!r} is not smooth, and the step of an honest "
            "user does not follow: pass Honest(step_size)"
        )
    return np.asarray(1.0 / steepest)
