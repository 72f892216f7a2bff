r"""Which server rule withstands which attack: every pair is run.

Honest users and f attackers follow the protocol until the reports cancel. The attackers want
:math:`\rho_\dagger` and share the work: together they send what leads the *mean* there, a report g as
:math:`g/f` from each. They do not adapt to the rule: one that withstands them may fall to others.

A robust rule has a price without any attack: users whose data differ send reports that differ, a rule
that distrusts the outlying ones distrusts honest users, and the model that it leads to is not the
honest optimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.datasets import heart_disease_regression
from gplconvex.equivalence import reproduce_gradient, required_gradient
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.hospitals import LAM, NU
from gplconvex.federated import (
    Attack,
    CounterGradientAttack,
    DataAttack,
    GradientAttack,
    ModelAttack,
    Trace,
    rounds,
    run,
)
from gplconvex.federated.participants import Respond
from gplconvex.federated.protocol import StepSize
from gplconvex.federated.rules import all_rules
from gplconvex.losses import LeastSquares
from gplconvex.problem import Problem
from gplconvex.regularizers import SquaredL2, norm
from gplconvex.solvers import solve

MAX_ROUNDS = 400
"""Rounds of a run that does not settle, such as one of krum, whose choice may change for ever."""


@dataclass(frozen=True, eq=False)
class RuleComparison:
    r"""Where every server rule ends beside every attack.

    Attributes
    ----------
    problem : Problem
        The honest users.
    f : int
        How many attackers there are, and how many the rules are told.
    honest, target : array, shape of a model
        The honest optimum :math:`\rho^*`, and :math:`\rho_\dagger`.
    clipping : float
        The radius of centered clipping.
    traces : dict
        The runs, by rule and attack, with the references ``"honest"`` and ``"target"``.
    """

    problem: Problem
    f: int
    honest: FloatArray
    target: FloatArray
    clipping: float
    traces: dict[tuple[str, str], Trace]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules, by their names in `gplconvex.federated.rules`."""
        return tuple(dict.fromkeys(rule for rule, _ in self.traces))

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks; the first is ``"none"``."""
        return tuple(dict.fromkeys(attack for _, attack in self.traces))

    @property
    def wanted(self) -> float:
        r"""The distance :math:`|\rho_\dagger - \rho^*|` that the attackers aim at."""
        return norm(self.target - self.honest)

    @property
    def to_honest(self) -> FloatArray:
        r"""The distances :math:`|\rho - \rho^*|` of the last models, shape (rules, attacks)."""
        return np.array(self._of_each(lambda trace: trace.distances("honest")[-1]))

    @property
    def to_target(self) -> FloatArray:
        r"""The distances :math:`|\rho - \rho_\dagger|` of the last models, likewise."""
        return np.array(self._of_each(lambda trace: trace.distances("target")[-1]))

    @property
    def stopped(self) -> npt.NDArray[np.str_]:
        """Why each run is over, likewise; a run that is not ``"stationary"`` has no limit to show."""
        return np.array(self._of_each(lambda trace: trace.stopped))

    def _of_each(self, value: Callable[[Trace], object]) -> list[list[object]]:
        return [
            [value(self.traces[rule, attack]) for attack in self.attacks] for rule in self.rules
        ]


def compare_rules(
    problem: Problem | None = None,
    target: npt.ArrayLike | None = None,
    *,
    f: int = 1,
    step_size: StepSize | Literal["auto"] = "auto",
    max_rounds: int = MAX_ROUNDS,
    on_step: Callable[[str], None] = lambda step: None,
) -> RuleComparison:
    r"""Run every rule of `gplconvex.federated.rules` beside every attack.

    Parameters
    ----------
    problem : Problem, optional
        The honest users, with a common ridge; default, four hospitals that learn a linear model of the
        heart rate, as in `reverse_heart_rate`.
    target : array_like, shape of a model, optional
        :math:`\rho_\dagger`; default :math:`-\rho^*`.
    f : int
        How many attackers there are, and how many the rules are told.
    step_size : "auto", float or callable
        :math:`\eta_t` of all runs. ``"auto"`` is half of one over the smoothness of the sum: with it the
        mean descends, and a `CounterGradientAttack` on it converges. For the other rules no theorem
        names a step; ``stopped`` tells whether this one led to a fixed point. Where a report that
        follows the model is at times the median, and at times not, models go to and fro by about a step,
        and a smaller or `decaying` one narrows that.
    max_rounds : int
        When a run ends that does not settle.
    on_step : callable, optional
        Called with the name of each run as it begins.

    Returns
    -------
    RuleComparison
        Beside the mean, the distance to the honest optimum is not 0 without an attack either, unless
        the users agree. Multi-krum averages n - f of n reports; the radius of centered clipping is the
        median of the norms of the honest reports at the honest optimum.

    Raises
    ------
    InvalidInputError
        If the users are too few for rules that expect f attackers: they must be at least 2 f + 1, and
        f + 3.
    UnreachableTargetError, UnrealizableGradientError, UnsupportedCombinationError
        As `poison` for the target; the last one also if no step size follows from the smoothness.

    Examples
    --------
    >>> from gplconvex import Dataset
    >>> users = [Dataset([[1.0]], [y]) for y in (1.0, 2.0, 2.5, 4.0)]
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), users, nu=0.1)
    >>> result = compare_rules(problem, max_rounds=20)
    >>> result.rules[:3], result.attacks[:3]
    (('mean', 'coordinate_median', 'trimmed_mean'), ('none', 'gradient', 'model'))
    >>> result.to_honest[:3, :3].round(1)
    array([[0.1, 3.9, 4. ],
           [0.2, 0.3, 0.3],
           [0.2, 0.5, 0.5]])
    """
    if problem is None:
        hospitals = heart_disease_regression().datasets
        problem = Problem(LeastSquares(intercept=True), SquaredL2(LAM), hospitals, nu=NU)
    whole = isinstance(f, (int, np.integer)) and not isinstance(f, bool)
    if not (whole and f >= 1 and problem.n_users >= max(2 * f + 1, f + 3)):
        raise InvalidInputError(
            "f must be an integer from 1, and the honest users at least 2 f + 1 and f + 3; got "
            f"f = {f!r} and {problem.n_users} users"
        )
    honest = solve(problem).require_optimal().rho
    goal = -honest if target is None else problem.check_model("target", target)
    attacks = _attacks(problem, goal, f)
    liars = [CounterGradientAttack(goal)] * f
    first = next(rounds(problem, liars, step_size=step_size, start=honest))
    clipping = float(np.median(first.norms[: problem.n_users])) or 1.0  # 0 where users agree
    traces = {}
    for rule in all_rules(problem.n_users, f, clipping):
        for attack, attackers in attacks.items():
            on_step(f"{rule}, {attack}")
            traces[rule, attack] = run(
                problem,
                attackers,
                rule=all_rules(problem.n_users + len(attackers), f, clipping)[rule],
                step_size=first.step_size if step_size == "auto" else step_size,
                max_rounds=max_rounds,
                references={"honest": honest, "target": goal},
                keep_reports=False,
            )
    return RuleComparison(problem, f, honest, goal, clipping, traces)


def _attacks(problem: Problem, target: FloatArray, f: int) -> dict[str, list[Attack]]:
    """Return the attacks of f attackers."""
    part = reproduce_gradient(problem, target, required_gradient(problem, target) / f)
    return {
        "none": [],
        "gradient": [GradientAttack(part.gradient)] * f,
        "model": [ModelAttack(part.theta)] * f,
        "data": [DataAttack(part.dataset)] * f,
        "counter_gradient": [_Share(CounterGradientAttack(target), f)] * f,
        "omniscient": [_Share(CounterGradientAttack(target, omniscient=True), f)] * f,
    }


@dataclass(frozen=True, eq=False)
class _Share:
    """One of f participants who together send what one would."""

    whole: CounterGradientAttack
    f: int

    @property
    def omniscient(self) -> bool:
        return self.whole.omniscient

    def joins(self, problem: Problem) -> Respond:
        respond = self.whole.joins(problem)
        return lambda query: np.asarray(respond(query)) / self.f
