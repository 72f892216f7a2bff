r"""Who takes part beside the honest users.

An attacker is a substitution: it takes the place of an honest user, is asked once a round like the
others, and the protocol goes on as before.

==========================  ========================================================================
`DataAttack`                is honest, on data of its own making
`ModelAttack`               freezes its personal model
`GradientAttack`            reports the same gradient every round
any function of a `Query`   reports whatever it returns
`CounterGradientAttack`     pulls the server to a target, knowing only what the server sends
==========================  ========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.federated.users import Honest, LocalUsers
from gplconvex.participants import Attacker, ModelAttack
from gplconvex.problem import Problem, check_nu
from gplconvex.regularizers import norm

EVERYBODY = np.zeros(1, dtype=np.int64)
"""The users of a problem of one user."""


@dataclass(frozen=True, eq=False)
class Query:
    r"""What a participant is asked in a round.

    Attributes
    ----------
    round : int
        From 0.
    rho : array, shape of a model
        The server's model :math:`\rho^t`.
    step_size : float
        What the sum of the reports asked for is multiplied by in this round: of gradient descent the
        next model is :math:`\rho^t - \eta_t\sum_n g_n`.
    honest : array, shape (n, *shape of a model), or None
        The reports of the honest users in this round; None except for who is ``omniscient``.
    """

    round: int
    rho: FloatArray
    step_size: float
    honest: FloatArray | None = None


Respond = Callable[[Query], npt.ArrayLike]
"""What a participant does in a round: from the query to a report, shape of a model."""


@runtime_checkable
class Participant(Protocol):
    """Somebody who takes part in rounds beside the honest users."""

    @property
    def omniscient(self) -> bool:
        """Whether it sees the honest reports of a round before it sends its own."""
        ...

    def joins(self, problem: Problem) -> Respond:
        """Return what the participant does in the rounds of one run, which may remember."""
        ...


@dataclass(frozen=True, eq=False)
class DataAttack:
    """Follow the protocol with data of one's own making.

    Parameters
    ----------
    data : Dataset
        The poisoned data.
    nu : float, optional
        The ridge; default the common one of the honest users.
    honest : Honest
        How the replies are found.
    """

    data: Dataset
    nu: float | None = None
    honest: Honest = Honest()
    omniscient = False

    def __post_init__(self) -> None:
        if not isinstance(self.data, Dataset):
            raise InvalidInputError(
                f"DataAttack: data must be a Dataset, such as that of poison(...).dataset; got "
                f"{type(self.data).__name__}"
            )
        if not isinstance(self.honest, Honest):
            raise InvalidInputError(f"DataAttack: honest must be Honest(...); got {self.honest!r}")
        if self.nu is not None:
            check_nu(self.nu)

    def problem(self, problem: Problem) -> Problem:
        """Return the attacker's data as a problem of one user."""
        nu = self.nu
        if nu is None:
            nu = float(problem.nu[0])
            if not (problem.nu == nu).all():
                raise InvalidInputError(
                    "DataAttack: the users have different nu, and that of the attacker does not "
                    "follow: pass nu"
                )
        both = Problem(problem.loss, problem.regularizer, [problem.datasets[0], self.data], nu)
        return Problem(problem.loss, problem.regularizer, [both.datasets[1]], nu)

    def joins(self, problem: Problem) -> Respond:
        """Return the honest responses to the data."""
        user = LocalUsers(self.problem(problem), self.honest, np.zeros(problem.shape))
        starts = True

        def respond(query: Query) -> FloatArray:
            nonlocal starts
            if starts:
                user.theta[:], starts = query.rho.ravel(), False
            return np.asarray(user.answer(query.rho, EVERYBODY)[0])

        return respond


@dataclass(frozen=True, eq=False)
class CounterGradientAttack:
    r"""Pull the server to a target, knowing only the models it sent and one's own reports (T5).

    In the last round the others pulled by :math:`G = (\rho^{t-1} - \rho^t)/\eta_{t-1} - g^{t-1}`, if
    the server takes the sum, descends on it and dropped nothing. The report is the plausible one that
    would bring the server nearest to the target if they pulled so again:
    :math:`(\rho^t - \rho_\dagger)/\eta_t - G` projected on Grad. Until it has been asked twice in a
    row the report is 0; after a round in which it was not asked, the last G that it knows serves.

    Parameters
    ----------
    target : array_like, shape of a model
        :math:`\rho_\dagger`.
    omniscient : bool
        Whether G is the sum of the honest reports of the same round instead, which no participant of
        the protocol can see.

    Notes
    -----
    Source: Farhadkhani et al. 2022. Under squared l2 it converges to the target where
    :math:`\eta\,\mathrm{Lip}(G) < 1/2`; the omniscient one gets there in one step, from anywhere.

    Examples
    --------
    >>> from gplconvex import LeastSquares, SquaredL2
    >>> from gplconvex.federated import run
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [Dataset([[1.0]], [3.0])], nu=0.1)
    >>> run(problem, [CounterGradientAttack([-5.0])], max_rounds=200).rho[-1].round(9)
    array([-5.])
    """

    target: npt.ArrayLike
    omniscient: bool = False

    def joins(self, problem: Problem) -> Respond:
        """Return the attack's responses, which remember the last round."""
        target = problem.check_model("target", self.target)
        radius = problem.regularizer.radius
        memory: list[tuple[Query, FloatArray]] = []
        pulls: list[FloatArray] = []

        def others(query: Query) -> FloatArray | None:
            if query.honest is not None:
                return np.asarray(query.honest.sum(axis=0))
            if memory:
                last, sent = memory.pop()
                if last.round == query.round - 1:
                    pulls[:] = [(last.rho - query.rho) / last.step_size - sent]
            return pulls[0] if pulls else None

        def respond(query: Query) -> FloatArray:
            report, pull = np.zeros_like(query.rho), others(query)
            if pull is not None:
                report = (query.rho - target) / query.step_size - pull
                size = norm(report)
                if size > radius:
                    report = report * (radius / size * (1.0 - 1e-15))
            memory.append((query, report))
            return report

        return respond


Attack = Attacker | Participant | Respond
"""Who may attack: `GradientAttack`, `ModelAttack`, a `Participant`, or a function of a `Query`."""


def is_omniscient(attack: Attack) -> bool:
    """Return whether the attack sees the honest reports of a round before it sends its own."""
    return isinstance(attack, Participant) and attack.omniscient


def joining(problem: Problem, attack: Attack) -> Respond:
    """Return what an attack does in the rounds of one run."""
    if isinstance(attack, Attacker):
        attacker = attack
        attacker.check(problem)
        if isinstance(attacker, ModelAttack) and math.isinf(attacker.regularizer_for(problem).kink):
            raise UnsupportedCombinationError(
                "a model frozen under HardConsensus() has no reports: it allows no other global model. "
                "Use GradientAttack or DataAttack"
            )
        nothing = np.zeros(problem.shape)
        return lambda query: attacker.report(problem, query.rho, nothing)
    if isinstance(attack, type) or not (isinstance(attack, Participant) or callable(attack)):
        raise InvalidInputError(
            "an attacker must be a GradientAttack(...), ModelAttack(...), DataAttack(...), "
            "CounterGradientAttack(...), a function of a Query, or an object with the attribute "
            f"omniscient and the method joins(problem); got {attack!r}"
        )
    return attack.joins(problem) if isinstance(attack, Participant) else attack


def name_of(attack: Attack) -> str:
    """Return what to call an attack in a record."""
    return getattr(attack, "__name__", type(attack).__name__)
