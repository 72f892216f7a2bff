r"""The federated protocol: rounds of reports, and the server's step.

In round t the server sends :math:`\rho^t` to n participants. An honest one replies with a personal model
:math:`\theta_n` and reports :math:`g_n = \nabla r(\rho^t - \theta_n)`. The server drops reports outside
Grad, which no honest user can send, and steps against the pull of the k that are left,

.. math:: G^t = k\,\mathrm{rule}(g_1, \ldots, g_k), \qquad \rho^{t+1} = \rho^t - \eta_t\,G^t,

with the mean their sum. It sees reports and nothing else. If it asks only m of the N participants, G is
multiplied by N/m.

`Server` is the server, whoever answers it; `rounds` are its rounds with the users of a `Problem` and
attackers. Both go on without end: when to stop and what to keep is up to `run`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray, IntArray
from gplconvex.data import float_array, is_number
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.federated.optimizers import GradientDescent, Optimizer
from gplconvex.federated.participants import (
    Attack,
    CounterGradientAttack,
    DataAttack,
    Query,
    is_omniscient,
    joining,
    name_of,
)
from gplconvex.federated.rules import Rule, mean
from gplconvex.federated.users import Honest, LocalUsers, check_honest
from gplconvex.participants import GradientAttack, ModelAttack
from gplconvex.problem import Problem, check_problem
from gplconvex.regularizers import Regularizer, lengths, norm
from gplconvex.rounding import LARGEST, UNIT, gamma

StepSize = float | Callable[[int], float]
"""A number, or a function of the round."""

Answers = tuple[FloatArray, dict[int, str]]
"""Reports (m, *shape of a model) of those who were asked, and by place why some sent none."""


@dataclass(frozen=True)
class Rejection:
    """A report that the server dropped.

    Attributes
    ----------
    round : int
    participant : int
        The honest users come first, from 0, then the attackers.
    reason : str
    """

    round: int
    participant: int
    reason: str


@dataclass(frozen=True, eq=False)
class Round:
    r"""One round.

    Attributes
    ----------
    number : int
        From 0.
    rho : array, shape of a model
        What the server sent.
    step_size : float
        :math:`\eta_t`.
    asked : array of int, shape (m,)
        Whom it asked: honest users, from 0, then attackers.
    reports : array, shape (m, *shape of a model)
        What they sent, dropped or not; NaN where there is nothing of that shape.
    norms : array, shape (m,)
        The norms of the reports.
    rejections : tuple of Rejection
        What was dropped, and why.
    pull : array, shape of a model
        :math:`G^t`.
    next_rho : array, shape of a model
        Where the server stepped.
    """

    number: int
    rho: FloatArray
    step_size: float
    asked: IntArray
    reports: FloatArray
    norms: FloatArray
    rejections: tuple[Rejection, ...]
    pull: FloatArray
    next_rho: FloatArray

    @property
    def total(self) -> float:
        """The sum of the norms of the reports that were kept."""
        dropped = [rejection.participant for rejection in self.rejections]
        return float(self.norms[~np.isin(self.asked, dropped)].sum())

    @property
    def relative_pull(self) -> float:
        """The norm of the pull over the `total`; 0 at a fixed point."""
        size = norm(self.pull)
        return size / self.total if size > 0.0 else 0.0

    def __repr__(self) -> str:
        return (
            f"Round({self.number}, {len(self.asked)} asked, {len(self.rejections)} dropped, "
            f"step_size={self.step_size:.6g}, relative_pull={self.relative_pull:.3g})"
        )


class Users(Protocol):
    """The honest users of a run, wherever they are."""

    def answer(self, rho: FloatArray, asked: IntArray) -> FloatArray:
        """Return the reports (n, *shape of a model) of users, in the order in which they are named."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Where honest users do their work."""

    def opens(
        self, problem: Problem, honest: Sequence[Honest], start: FloatArray
    ) -> AbstractContextManager[Users]:
        """Return the users of one run, whose personal models are ``start`` before the first round."""
        ...


class InProcess:
    """All users in this process, in batches on all cores."""

    def opens(
        self, problem: Problem, honest: Sequence[Honest], start: FloatArray
    ) -> AbstractContextManager[Users]:
        """Return the users of one run."""
        return nullcontext(LocalUsers(problem, honest, start))


@dataclass(frozen=True, eq=False)
class Server:
    r"""A server, whoever answers it.

    Parameters
    ----------
    regularizer : Regularizer
        Says which reports are plausible.
    n_participants : int
        N.
    step_size : float or callable
        :math:`\eta_t`, a number or a function of the round.
    rule : callable
        The server's estimate of the mean of reports, from (n, p) to (p,).
    optimizer : Optimizer
        What becomes of the pull.
    fraction : float
        The part of the participants that is asked in a round, drawn anew each time; in (0, 1].
    seed : int
        Of these draws.
    """

    regularizer: Regularizer
    n_participants: int
    step_size: StepSize
    rule: Rule = mean
    optimizer: Optimizer = GradientDescent()
    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.step_size):
            _positive("step_size", self.step_size)
        if not (is_number(self.fraction) and 0.0 < self.fraction <= 1.0):
            raise InvalidInputError(
                f"fraction must be positive and at most 1; got {self.fraction!r}"
            )
        whole = isinstance(self.seed, (int, np.integer)) and not isinstance(self.seed, bool)
        if not (whole and self.seed >= 0):
            raise InvalidInputError(f"seed must be an integer from 0; got {self.seed!r}")
        if not callable(self.rule):
            raise InvalidInputError(
                f"rule must be a function of reports (n, p), such as mean; got {self.rule!r}"
            )
        _check_optimizer(self.optimizer)

    def rounds(
        self, ask: Callable[[Query, IntArray], Answers], start: FloatArray
    ) -> Iterator[Round]:
        """Yield rounds without end.

        Parameters
        ----------
        ask : callable
            Passes a query on to participants, and returns their `Answers`.
        start : array, shape of a model
            The first model.
        """
        step = self.optimizer.starts()
        rng = np.random.default_rng(self.seed)
        n = self.n_participants
        m = math.ceil(self.fraction * n * (1.0 - 4.0 * UNIT))  # 7 of 100 at 0.07, not 8
        rho = start
        for number in itertools.count():
            asked = np.arange(n) if m == n else np.sort(rng.choice(n, m, replace=False))
            eta = self.step_size
            eta = _positive(f"step_size({number})", eta(number)) if callable(eta) else float(eta)
            reports, failures = ask(Query(number, rho, eta * (n / m)), asked)
            flat = reports.reshape(m, -1)
            norms = lengths(flat)
            reasons = {**self._implausible(norms, flat.shape[1]), **failures}
            kept = np.delete(flat, sorted(reasons), axis=0)
            if not len(kept):
                why = "; ".join(
                    f"{asked[i]}: {reason}" for i, reason in sorted(reasons.items())[:5]
                )
                raise InvalidInputError(f"round {number}: all {m} reports were dropped ({why})")
            pull = (n / m) * len(kept) * self._estimate(number, kept).reshape(rho.shape)
            after = rho - step(pull, eta)
            rejections = tuple(
                Rejection(number, int(asked[i]), reason) for i, reason in sorted(reasons.items())
            )
            yield Round(number, rho, eta, asked, reports, norms, rejections, pull, after)
            rho = after

    def _implausible(self, norms: FloatArray, p: int) -> dict[int, str]:
        """Return by place why the server drops reports of such norms, of p numbers each."""
        radius = min(self.regularizer.radius, LARGEST**2)  # sums of more would overflow
        largest = radius * (1.0 + gamma(p + 8))
        return {
            int(i): f"not plausible: norm {norms[i]:.6g}, at most {radius:.6g}"
            if np.isfinite(norms[i])
            else "not finite"
            for i in np.flatnonzero(~(np.isfinite(norms) & (norms <= largest)))
        }

    def _estimate(self, number: int, kept: FloatArray) -> FloatArray:
        estimate = float_array(f"round {number}: what the rule returns", self.rule(kept))
        if estimate.shape != kept.shape[1:] or not np.isfinite(estimate).all():
            raise InvalidInputError(
                f"round {number}: the rule must return {kept.shape[1]} finite numbers; got "
                f"{estimate!r}"
            )
        return estimate


def rounds(
    problem: Problem,
    attackers: Sequence[Attack] = (),
    *,
    rule: Rule = mean,
    optimizer: Optimizer = GradientDescent(),
    step_size: StepSize | Literal["auto"] = "auto",
    fraction: float = 1.0,
    seed: int = 0,
    honest: Honest | Sequence[Honest] = Honest(),
    start: npt.ArrayLike | None = None,
    engine: Engine | None = None,
) -> Iterator[Round]:
    r"""Yield rounds without end.

    Parameters
    ----------
    problem : Problem
        The honest users.
    attackers : sequence
        `GradientAttack`, `ModelAttack`, `DataAttack`, `CounterGradientAttack`, functions from a `Query`
        to a report, or other objects with their ``joins`` and ``omniscient``.
    rule : callable
        The server's estimate of the mean of reports, from (n, p) to (p,); see
        `gplconvex.federated.rules`.
    optimizer : Optimizer
        What becomes of the pull: `GradientDescent`, `HeavyBall` or `Adam`.
    step_size : "auto", float or callable
        :math:`\eta_t`, a number or a function of the round. ``"auto"`` is one over the smoothness of
        :math:`\sum_n M_n`: n S, S that of r, or the sum of those of the local losses where r is not
        smooth; half of it beside a `CounterGradientAttack`, which on gradient descent converges only
        there. (A frozen model with its own r counts with the S of that.) Where r is not smooth, only
        honest users, data and constant gradients have one.
    fraction : float
        The part of the participants that is asked in a round, rounded up to a whole number of them and
        drawn anew each time; in (0, 1].
    seed : int
        Of these draws.
    honest : Honest, or a sequence of one a user
        How users improve their personal models.
    start : array_like, shape of a model, optional
        :math:`\rho^0`, and the first personal models; default 0.
    engine : Engine, optional
        Where the honest users work; default in this process. See `gplconvex.federated.dask`.

    Yields
    ------
    Round

    Raises
    ------
    InvalidInputError
        Before the first round for options that make no sense, an attack of the wrong shape, or a
        constant gradient that is not plausible. In a round if the rule returns something else than p
        finite numbers, or too few reports are left for it. An attacker that raises, or sends something
        else than a plausible report (none is longer than 1e280), is dropped in that round.
    UnsupportedCombinationError
        If no step size follows from the smoothness.

    Notes
    -----
    Source: Farhadkhani et al. 2022 (T1).

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [Dataset([[1.0]], [3.0])], nu=0.1)
    >>> first = next(rounds(problem, [GradientAttack([0.5])]))
    >>> first.reports.ravel().round(6)
    array([-1.875, 0.5 ])
    """
    server = server_for(problem, attackers, step_size, rule, optimizer, fraction, seed)
    choices = check_honest(problem, honest)
    rho = start_for(problem, start)
    if engine is not None and (isinstance(engine, type) or not isinstance(engine, Engine)):
        raise InvalidInputError(
            f"engine must be an Engine, such as InProcess() or DaskEngine(); got {engine!r}"
        )
    responses = [joining(problem, attack) for attack in attackers]
    knowing = [is_omniscient(attack) for attack in attackers]

    def all_rounds() -> Iterator[Round]:
        with (engine or InProcess()).opens(problem, choices, rho) as users:

            def ask(query: Query, asked: IntArray) -> Answers:
                reports = np.full((len(asked), *problem.shape), math.nan)
                n_honest = int(np.searchsorted(asked, problem.n_users))
                reports[:n_honest] = users.answer(query.rho, asked[:n_honest])
                failures = {}
                for place, number in enumerate(asked[n_honest:] - problem.n_users, n_honest):
                    seen = reports[:n_honest].copy() if knowing[number] else None
                    own = Query(query.round, query.rho.copy(), query.step_size, seen)
                    try:
                        reports[place] = shaped(problem.shape, responses[number](own))
                    except (Exception, SystemExit) as error:  # the rounds go on
                        failures[place] = _described(error)
                return reports, failures

            yield from server.rounds(ask, rho)

    return all_rounds()


def server_for(
    problem: Problem,
    attackers: Sequence[Attack],
    step_size: StepSize | Literal["auto"],
    rule: Rule,
    optimizer: Optimizer,
    fraction: float,
    seed: int,
) -> Server:
    """Return the server of a run; see `rounds`."""
    check_problem(problem)
    if not isinstance(attackers, Sequence):
        raise InvalidInputError(
            f"attackers must be a sequence, [attacker] for one; got {type(attackers).__name__}"
        )
    if isinstance(step_size, str) and step_size == "auto":
        step_size = _automatic(problem, attackers, optimizer)
    n_participants = problem.n_users + len(attackers)
    return Server(problem.regularizer, n_participants, step_size, rule, optimizer, fraction, seed)


def start_for(problem: Problem, start: npt.ArrayLike | None) -> FloatArray:
    r"""Return :math:`\rho^0`, by default 0."""
    return np.zeros(problem.shape) if start is None else problem.check_model("start", start)


def shaped(shape: tuple[int, ...], report: npt.ArrayLike) -> FloatArray:
    """Return a report as an array of the shape of a model."""
    array = float_array("a report", report)
    if array.shape != shape:
        raise InvalidInputError(f"a report of shape {array.shape}; models have {shape}")
    return array


def _described(error: BaseException) -> str:
    """Return what an attacker raised, whose text may raise too."""
    kind = type(error).__name__
    try:
        return f"{kind}: {error}"
    except Exception:
        return f"{kind}, and its text raises as well"


def _automatic(problem: Problem, attackers: Sequence[Attack], optimizer: Optimizer) -> float:
    r"""Return a step size with which the server descends.

    :math:`M_n` is as smooth as r, and as :math:`L_n`: it is their infimal convolution.
    """
    _check_optimizer(optimizer)
    own = [
        attack.regularizer_for(problem) if isinstance(attack, ModelAttack) else problem.regularizer
        for attack in attackers
    ]
    shares = [float(r.smoothness) for r in own]
    smoothness = problem.n_users * float(problem.regularizer.smoothness) + math.fsum(shares)
    if math.isinf(smoothness) and all(
        isinstance(attack, (DataAttack, GradientAttack)) for attack in attackers
    ):
        data = [attack.problem(problem) for attack in attackers if isinstance(attack, DataAttack)]
        smoothness = math.fsum(each.local_losses.smoothness.sum() for each in (problem, *data))
    if not (optimizer.follows_smoothness and math.isfinite(smoothness)):
        raise UnsupportedCombinationError(
            f"no step size follows from the smoothness with {optimizer!r}, {problem.regularizer!r}, "
            f"{problem.loss!r} and attackers {[name_of(each) for each in attackers]}: pass step_size, "
            "a number or a function of the round such as decaying(0.1, 50)"
        )
    if any(isinstance(attack, CounterGradientAttack) for attack in attackers):
        smoothness *= 2.0
    return 1.0 / smoothness


def _check_optimizer(optimizer: Optimizer) -> None:
    if isinstance(optimizer, type) or not isinstance(optimizer, Optimizer):
        raise InvalidInputError(
            f"optimizer must be an Optimizer, such as GradientDescent(); got {optimizer!r}"
        )


def _positive(name: str, value: float) -> float:
    if not (is_number(value) and 0.0 < value < math.inf):
        raise InvalidInputError(f"{name} must be a positive number; got {value!r}")
    return float(value)
