"""Progress of a solver: what it reports, when it is good enough, and what is left if it is stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates.judge import estimated_bounds
from gplconvex.participants import Attacker
from gplconvex.problem import Problem
from gplconvex.regularizers import norm

STOP = 0.01
"""Part of the tolerance to which an iterative method goes: rounding must fit into the rest."""


@dataclass(frozen=True)
class Progress:
    r"""Where a solver is after an iteration.

    Attributes
    ----------
    iteration : int
        From 1.
    objective : float
        :math:`F(\rho, \theta)` at the current point, the attacker's term included.
    gap : float
        Bound of :math:`F - F^*` by the formula of `certify`, with gradients as the solver has them:
        their rounding is not bounded here (that takes another pass over the data).
    passes : float
        Passes over the data so far: a forward product X theta and a transposed one each count half.
    seconds : float
        Since the solver started.
    """

    iteration: int
    objective: float
    gap: float
    passes: float
    seconds: float

    @property
    def relative_gap(self) -> float:
        """The gap over ``1 + |objective|``."""
        return self.gap / (1.0 + abs(self.objective))


class TimeLimitError(Exception):
    """Ends a solver whose time is up; never leaves `solve`."""


class Monitor:
    """Counts passes over the data, keeps the last point, and says when a solver may stop.

    Parameters
    ----------
    problem, attacker
        What is solved.
    tol : float
        The tolerance of `solve`.
    progress : callable, optional
        Called with a `Progress` after each iteration; only then is there a gap to compute.
    time_limit : float
        Seconds after which `report` raises `TimeLimitError`.
    start : tuple of arrays
        rho and thetas before the first iteration.
    """

    def __init__(
        self,
        problem: Problem,
        attacker: Attacker | None,
        tol: float,
        progress: Callable[[Progress], object] | None,
        time_limit: float,
        start: tuple[FloatArray, FloatArray],
    ) -> None:
        self.passes = 0.0
        self.gram_passes = 0.0
        self.iteration = 0
        self.point = start
        self._problem = problem
        self._attacker = attacker
        self._tol = tol
        self._progress = progress
        self._began = time.perf_counter()
        self._time_limit = time_limit
        self._now = math.inf, np.zeros(0)

    @property
    def seconds(self) -> float:
        """Seconds since the solver started."""
        return time.perf_counter() - self._began

    def report(
        self, objective: float, rho: FloatArray, thetas: FloatArray, gradients: FloatArray
    ) -> None:
        r"""Note a point, its objective and its :math:`\nabla L_n(\theta_n)`, after an iteration.

        Arrays are flattened or not, as the solver has them.

        Raises
        ------
        TimeLimitError
            If the time is up; the point is noted all the same.
        """
        self.iteration += 1
        self.point = rho, thetas
        self._now = objective, gradients
        if self._progress is not None:
            gap, _ = self._bounds()
            self._progress(Progress(self.iteration, objective, gap, self.passes, self.seconds))
        if self.seconds > self._time_limit:
            raise TimeLimitError

    def is_good_enough(self, relative_gradient: float) -> bool:
        """Return whether an iterative method may stop at the point that was reported last.

        The certified gap will be within the tolerance with room to spare, and so will, where r is
        strongly convex, the distance within its root. Where no bound of the gap exists the gradient
        decides, relative to the first: nothing can be promised there.
        """
        gap, distance = self._bounds()
        rho, _ = self.point
        objective, _ = self._now
        if math.isinf(gap):
            return relative_gradient <= self._tol
        near = distance <= math.sqrt(self._tol) * (1.0 + norm(rho))
        return near and gap <= STOP * self._tol * (1.0 + abs(objective))

    def _bounds(self) -> tuple[float, float]:
        (rho, thetas), (_, gradients) = self.point, self._now
        n_users = self._problem.n_users
        return estimated_bounds(
            self._problem,
            rho.ravel(),
            thetas.reshape(n_users, -1),
            gradients.reshape(n_users, -1),
            self._attacker,
        )
