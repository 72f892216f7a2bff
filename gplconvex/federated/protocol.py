r"""Federated gradient descent: rounds of reports, and the server's step.

In round t the server sends :math:`\rho^t`. Honest user n replies with the minimizer
:math:`\theta_n` of :math:`L_n(\theta) + r(\rho^t - \theta)` and reports
:math:`g_n = \nabla r(\rho^t - \theta_n) = \nabla M_n(\rho^t)`. The server drops reports outside Grad,
which no honest user can send, and steps

.. math:: \rho^{t+1} = \rho^t - \eta\, n\,\text{rule}(g_1, \ldots, g_n),

n being the number of reports that are left; with the mean this is the paper's sum. It sees reports and
nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.federated.rules import Rule, mean
from gplconvex.participants import Attacker
from gplconvex.problem import Problem, check_problem
from gplconvex.regularizers import L2, HardConsensus, norm
from gplconvex.replies import replies

Respond = Callable[[FloatArray], FloatArray]
"""What a participant does in a round: from rho, shape of a model, to a report of that shape."""


class Participant(Protocol):
    """Somebody who takes part in rounds beside the honest users."""

    def joins(self, problem: Problem, step_size: float) -> Respond:
        """Return what the participant does in the rounds of one run."""
        ...


@dataclass(frozen=True, eq=False)
class CounterGradientAttack:
    r"""Pull the server to a target, knowing only the models it sent and one's own reports (T5).

    With a constant step size the pull of the others in the last round was
    :math:`G = (\rho^{t-1} - \rho^t)/\eta - g^{t-1}`, if nothing was dropped and the rule is the mean.
    The report is the plausible one that would bring the server nearest to the target if they pulled so
    again: :math:`(\rho^t - \rho_\dagger)/\eta - G` projected on Grad. In the first round it is 0.

    Parameters
    ----------
    target : array_like, shape of a model
        :math:`\rho_\dagger`.

    Notes
    -----
    Source: Farhadkhani et al. 2022. Under squared l2 it converges to the target where
    :math:`\eta\,\mathrm{Lip}(G) < 1/2`.
    """

    target: npt.ArrayLike

    def joins(self, problem: Problem, step_size: float) -> Respond:
        """Return the attack's responses, which remember the last round."""
        target = problem.check_model("target", self.target)
        radius = problem.regularizer.radius
        last: list[tuple[FloatArray, FloatArray]] = []

        def respond(rho: FloatArray) -> FloatArray:
            report = np.zeros_like(rho)
            if last:
                before, sent = last.pop()
                others = (before - rho) / step_size - sent
                report = (rho - target) / step_size - others
                size = norm(report)
                if size > radius:
                    report = report * (radius / size * (1.0 - 1e-15))
            last.append((rho, report))
            return report

        return respond


@dataclass(frozen=True, eq=False)
class Round:
    """One round.

    Attributes
    ----------
    number : int
        From 0.
    rho : array, shape of a model
        What the server sent.
    reports : array, shape (n, *shape of a model)
        Of the honest users, then of the attackers.
    dropped : tuple of int
        Whose reports were not plausible, or not finite.
    next_rho : array, shape of a model
        Where the server stepped.
    """

    number: int
    rho: FloatArray
    reports: FloatArray
    dropped: tuple[int, ...]
    next_rho: FloatArray


def rounds(
    problem: Problem,
    attackers: Sequence[Attacker | Participant] = (),
    *,
    rule: Rule = mean,
    step_size: float | None = None,
    start: npt.ArrayLike | None = None,
) -> Iterator[Round]:
    r"""Yield rounds without end.

    Parameters
    ----------
    problem : Problem
        The honest users. An attacker who poisons data is one more of them.
    attackers : sequence
        `GradientAttack`, `ModelAttack`, `CounterGradientAttack`, or any object with their ``joins``.
    rule : callable
        The server's estimate of the mean of reports, from (n, p) to (p,); default the mean.
    step_size : float, optional
        :math:`\eta`; default 1/(n S), S the smoothness of r, with which the honest sum descends. Hard
        consensus and l2, which have none, need a number.
    start : array_like, shape of a model, optional
        :math:`\rho^0`; default 0.

    Yields
    ------
    Round

    Raises
    ------
    InvalidInputError
        For a step size that is not positive, a start or an attack of the wrong shape, or a rule that
        returns something else than p finite numbers.
    UnsupportedCombinationError
        If a step size is needed.

    Notes
    -----
    Source: Farhadkhani et al. 2022 (T1).

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [Dataset([[1.0]], [3.0])], nu=0.1)
    >>> attack = CounterGradientAttack([-5.0])
    >>> last = next(t for t in rounds(problem, [attack], step_size=0.1) if t.number == 200)
    >>> last.next_rho.round(9)
    array([-5.])
    """
    check_problem(problem)
    n = problem.n_users + len(attackers)
    eta = _step_size(problem, n, step_size)
    rho = np.zeros(problem.shape) if start is None else problem.check_model("start", start)
    responses = [_joining(problem, attacker, eta) for attacker in attackers]
    return _rounds(problem, responses, rule, eta, rho)


def _rounds(
    problem: Problem, responses: list[Respond], rule: Rule, eta: float, rho: FloatArray
) -> Iterator[Round]:
    for number in itertools.count():
        honest = replies(problem, rho).gradient.reshape(-1, *problem.shape)
        own = [_shaped(problem, respond(rho.copy()), i) for i, respond in enumerate(responses)]
        reports = np.concatenate([honest, np.stack(own)]) if own else honest
        dropped = tuple(i for i, report in enumerate(reports) if not _plausible(problem, report))
        kept = np.delete(reports, dropped, axis=0).reshape(-1, math.prod(problem.shape))
        if not len(kept):
            raise InvalidInputError(f"round {number}: all {len(reports)} reports were dropped")
        estimate = np.asarray(rule(kept), dtype=np.float64)
        if estimate.shape != kept.shape[1:] or not np.isfinite(estimate).all():
            raise InvalidInputError(
                f"round {number}: the rule must return {kept.shape[1]} finite numbers; got "
                f"{estimate!r}"
            )
        after = rho - eta * len(kept) * estimate.reshape(rho.shape)
        yield Round(number, rho, reports, dropped, after)
        rho = after


def _plausible(problem: Problem, report: FloatArray) -> bool:
    return bool(np.isfinite(report).all()) and problem.regularizer.is_plausible(report)


def _shaped(problem: Problem, report: FloatArray, attacker: int) -> FloatArray:
    array = np.asarray(report, dtype=np.float64)
    if array.shape != problem.shape:
        raise InvalidInputError(
            f"attacker {attacker} reports an array of shape {array.shape}; models have {problem.shape}"
        )
    return array


def _joining(problem: Problem, attacker: Attacker | Participant, eta: float) -> Respond:
    if isinstance(attacker, Attacker):
        attack = attacker
        attack.check(problem)
        nothing = np.zeros(problem.shape)
        return lambda rho: attack.report(problem, rho, nothing)
    return attacker.joins(problem, eta)


def _step_size(problem: Problem, n: int, step_size: float | None) -> float:
    if step_size is None:
        if isinstance(problem.regularizer, (HardConsensus, L2)):
            raise UnsupportedCombinationError(
                f"{problem.regularizer!r} is not smooth, and the server's step size does not follow "
                "from it: pass step_size"
            )
        return 1.0 / (n * float(problem.regularizer.smoothness))
    if not (is_number(step_size) and 0.0 < step_size < math.inf):
        raise InvalidInputError(f"step_size must be a positive number; got {step_size!r}")
    return float(step_size)
