r"""Searches: the cheapest target of a goal, and the nearest target within a budget.

Both minimize over targets with the cost of `gplconvex.questions.cost` and its exact gradient, by
sequential quadratic programming in coordinates in which the honest objective has unit curvature. The
cost is not convex in the target: a search ends in a local optimum. What is shipped is a `Poisoning`,
certified, whose number of points is an integer; beside it stands a floor that is proved, and what lies
between the two is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.data import Dataset
from gplconvex.domains import Domain, Unbounded
from gplconvex.envelope import envelopes
from gplconvex.equivalence import Poisoning, poison, required_gradient
from gplconvex.errors import (
    CertificateError,
    InvalidInputError,
    UnreachableTargetError,
    UnrealizableGradientError,
)
from gplconvex.problem import Problem
from gplconvex.questions.audit import (
    GoalAudit,
    TargetAudit,
    audit,
    check_all,
    hits,
    points,
    same_setting,
)
from gplconvex.questions.cost import Costs
from gplconvex.questions.goals import Goal
from gplconvex.regularizers import norm
from gplconvex.solvers import solve

BEYOND = 1e9
"""The cost of what is out of reach, so many times that of the start: a line search steps back."""

INSIDE = 1e-7
"""How far inside the goal or the budget a search stays, relative; roundings then stay inside too."""

STEPS_BACK = (0.0, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.2, 0.4, 0.7)
"""How much of the way back to the start is tried, in turn, until integer points fit the budget."""

HALVINGS = 3
"""How many halvings then look for a shorter way back."""

NOT_FOUND = (UnrealizableGradientError, UnreachableTargetError, CertificateError)
"""Why a target may have a cost and yet no points that are shipped."""


Function = Callable[[FloatArray], tuple[float, FloatArray]]


class Demand(NamedTuple):
    """Functions of the target that must not be negative, (m,), and their gradients, (m, p)."""

    room: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False, repr=False)
class Cheapest:
    """The cheapest way found into a goal, and the floor that is proved for every way.

    Attributes
    ----------
    poisoning : Poisoning
        The points, and the target that they make the optimum.
    audit : GoalAudit
        The goal, and the number of points that no dataset can go below.
    cost : float
        The gauge at the target, which the search made small.
    """

    poisoning: Poisoning
    audit: GoalAudit
    cost: float

    @property
    def target(self) -> FloatArray:
        """The model within the goal."""
        return self.poisoning.target

    def __str__(self) -> str:
        """Say what is known and what is not."""
        floor, n_points = self.audit.floor, self.poisoning.n_points
        found = f"{points(n_points)} move the optimum such that {self.audit.goal}"
        if not hits(self.poisoning):
            off = self.poisoning.certificate.distance
            found = (
                f"{points(n_points)} bring the optimum within {off:.2g} of a model such that "
                f"{self.audit.goal}"
            )
        if floor >= n_points:
            return f"{found}, and no fewer can."
        if floor <= 1:
            return f"{found}. Whether fewer can is not known."
        return f"{found}. Fewer than {floor} cannot; whether {floor} to {n_points - 1} can is not known."

    def __repr__(self) -> str:
        return f"<Cheapest: {self}>"

    def require(self, tol: float = 1e-9) -> Cheapest:
        """Return self if the attack and the floor hold, and the poisoned optimum meets the goal.

        Raises
        ------
        CertificateError
            If one of them fails. The goal must hold at the target and at every model that the
            certificate of the attack leaves possible.
        """
        honest, attack = self.audit.problem, self.poisoning
        ridge = float(attack.poisoned.nu[-1])
        a, c = self.audit.goal.half_spaces(honest)
        reach = np.linalg.norm(a, axis=1) * attack.certificate.distance
        short = float(np.max(c - a @ self.target.ravel() + reach))
        check_all(
            [
                same_setting(honest, self.audit.domain, attack),
                Check("other ridge", abs(ridge - self.audit.nu), 0.0, "<=", "than in the audit"),
                Check("distance from the goal", short, 0.0, "<=", "of the poisoned optimum"),
            ],
            "the attack does not reach the goal:",
        )
        attack.require(tol)
        self.audit.require()
        return self


@dataclass(frozen=True, eq=False, repr=False)
class Closest:
    """How near to a target a budget of points brings the optimum.

    Attributes
    ----------
    audit : TargetAudit
        The target, and what it takes to make it the optimum.
    budget : int
        The most points that may be used.
    poisoning : Poisoning
        Points within the budget, and the model that they make the optimum.
    distance : float
        From that model to the target; 0 if the budget is enough. A local minimum.
    """

    audit: TargetAudit
    budget: int
    poisoning: Poisoning
    distance: float

    @property
    def rho(self) -> FloatArray:
        """The model that the points make the optimum."""
        return self.poisoning.target

    @property
    def out_of_reach(self) -> bool:
        """Whether it is proved that no dataset within the budget makes the target itself the optimum."""
        return self.audit.floor > self.budget

    def __str__(self) -> str:
        """Say what is known and what is not."""
        if not hits(self.poisoning):
            off = self.distance + self.poisoning.certificate.distance
            return f"{points(self.poisoning.n_points)} bring the optimum within {off:.4g} of the target."
        if self.distance == 0.0:
            return f"{points(self.poisoning.n_points)} make the target itself the optimum."
        known = (
            f"that {points(self.budget)} cannot reach it is proved"
            if self.out_of_reach
            else f"whether {points(self.budget)} can reach it is not known"
        )
        return (
            f"{points(self.poisoning.n_points)} bring the optimum within {self.distance:.4g} of the "
            f"target; {known}."
        )

    def __repr__(self) -> str:
        return f"<Closest: {self}>"

    def require(self, tol: float = 1e-9) -> Closest:
        """Return self if the attack keeps to the budget, ends where it says, and the audit holds.

        Raises
        ------
        CertificateError
            If one of them fails.
        """
        off = abs(norm(self.rho - self.audit.target) - self.distance)
        attack = self.poisoning
        check_all(
            [
                Check("points", attack.n_points, self.budget, "<=", "must be within the budget"),
                Check("distance is off", off, 1e-12 * (1.0 + self.distance), "<=", "to the target"),
                same_setting(self.audit.problem, self.audit.domain, attack),
            ],
            "the answer contradicts itself:",
        )
        attack.require(tol)
        self.audit.require(tol)
        return self


def cheapest_target(
    problem: Problem,
    goal: Goal,
    *,
    nu: float | None = None,
    domain: Domain = Unbounded(),
) -> Cheapest:
    r"""Return a target within a goal that few points make the optimum, and how few are provably needed.

    .. math:: \min_\rho \text{cost}(\rho) \quad\text{subject to}\quad A\rho \ge c.

    Parameters
    ----------
    problem : Problem
        The honest users; the attacker becomes one more.
    goal : Goal
        Such as `Predictions`.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the attacker's points may lie.

    Returns
    -------
    Cheapest
        The attack, and the certified floor of the goal. Between the two is a gap.

    Raises
    ------
    InvalidInputError
        If no model meets the goal, or shapes disagree.
    UnreachableTargetError
        If no plausible report makes any target that was tried stationary.
    UnrealizableGradientError, UnsupportedCombinationError, CertificateError
        As `poison` and `gauge`; the second also where Hessians do not fit.

    Notes
    -----
    Source: T3.6. The searches start from the honest optimum within the goal, from the point of the
    goal nearest to the honest optimum, and from a point as far inside.

    Examples
    --------
    >>> from gplconvex import Box, Dataset, HardConsensus, Logistic
    >>> from gplconvex.questions import Predictions
    >>> data = Dataset([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [1.0, -1.0, 1.0], [50, 50, 30])
    >>> honest = Problem(Logistic(intercept=True), HardConsensus(), [data], nu=1.0)
    >>> goal = Predictions([[1.0, 0.0]], [-1.0])
    >>> print(cheapest_target(honest, goal, nu=0.0, domain=Box(-1.0, 1.0)))
    47 points move the optimum such that 1 input is labeled -1. Fewer than 9 cannot; whether 9 to 46 can
    is not known.
    """
    if not isinstance(goal, Goal):
        raise InvalidInputError(
            f"goal must be a Goal such as Predictions(x, y); got {type(goal).__name__}. For one target "
            "use poison"
        )
    found = _Search(problem, domain, nu, "cheapest_target")
    floor = audit(problem, goal, nu=found.costs.nu, domain=domain)
    assert isinstance(floor, GoalAudit)
    a, c = goal.half_spaces(problem)
    inside = c + INSIDE * np.linalg.norm(a, axis=1) * (1.0 + norm(found.origin))
    demand = Demand(lambda rho: a @ rho - inside, lambda rho: a)
    nearest = found.minimized(
        lambda rho: (float(np.sum((rho - found.origin) ** 2)), 2.0 * (rho - found.origin)),
        found.origin,
        demand,
    )
    starts = [floor.nearest[0].ravel(), nearest, 2.0 * nearest - found.origin]
    ends = [found.minimized(found.cost_from(start), start, demand) for start in starts]
    within = [rho for rho in ends + starts if (a @ rho - c > 0.5 * (inside - c)).all()]
    if not within:
        raise UnrealizableGradientError(
            f"no model within the goal that {goal} was found: its half-spaces leave too little room",
            direction=nearest - found.origin,
        )
    costs = [found.costs.at(rho).value for rho in within]
    ranked = [within[i] for i in np.argsort(costs, kind="stable")]
    for rho in ranked:
        attack = found.poisoned(rho)
        if attack is not None:
            return Cheapest(attack, floor, found.costs.at(rho).value)
    required_gradient(problem, ranked[0].reshape(problem.shape))  # which may be out of reach
    raise UnrealizableGradientError(
        f"no points in {domain!r} were found for any target within the goal that {goal}: widen "
        "the domain, or lower the margin",
        direction=ranked[0] - found.origin,
    )


def closest_reachable(
    problem: Problem,
    target: npt.ArrayLike,
    budget: int,
    *,
    nu: float | None = None,
    domain: Domain = Unbounded(),
) -> Closest:
    r"""Return how near to a target a budget of points brings the optimum.

    .. math:: \min_\rho |\rho - \rho_\dagger| \quad\text{subject to}\quad \text{cost}(\rho) \le k.

    Parameters
    ----------
    problem : Problem
        The honest users; the attacker becomes one more.
    target : array_like, shape of a model
        The aimed global model :math:`\rho_\dagger`.
    budget : int
        k, at least 1: how many points the attacker has at most.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the attacker's points may lie.

    Returns
    -------
    Closest
        The nearest optimum found, the points, and whether the target is provably out of reach.

    Raises
    ------
    InvalidInputError
        If the budget is not an integer from 1, or shapes disagree.
    UnrealizableGradientError
        If nowhere on the way to the target points within the budget were found.
    UnsupportedCombinationError, CertificateError
        As `poison` and `gauge`; the first also where Hessians do not fit.

    Notes
    -----
    Source: T3.6. Bisection on the segment from the optimum with no points to the target, with the
    cost as oracle; then a local search; then steps back until integer points are found.

    Examples
    --------
    >>> from gplconvex import Box, Dataset, HardConsensus, Logistic
    >>> data = Dataset([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [1.0, -1.0, 1.0], [50, 50, 30])
    >>> honest = Problem(Logistic(intercept=True), HardConsensus(), [data], nu=1.0)
    >>> print(closest_reachable(honest, [0.0, 0.0, 0.0], 40, nu=0.0, domain=Box(-1.0, 1.0)))
    40 points bring the optimum within ... of the target; that 40 points cannot reach it is proved.
    """
    if not (isinstance(budget, (int, np.integer)) and not isinstance(budget, bool) and budget >= 1):
        raise InvalidInputError(
            f"budget must be an integer from 1, a number of points; got {budget!r}"
        )
    budget = int(budget)
    search = _Search(problem, domain, nu, "closest_reachable")
    asked = audit(problem, target, nu=search.costs.nu, domain=domain)
    assert isinstance(asked, TargetAudit)
    if asked.poisoning is not None and asked.poisoning.n_points <= budget:
        return Closest(asked, budget, asked.poisoning, 0.0)
    aim = asked.target.ravel()
    most = budget * (1.0 - INSIDE)
    on_segment = search.last_within(aim, most)
    room = Demand(
        lambda rho: np.array([max(1.0 - search.cost(rho)[0] / most, -BEYOND)]),
        lambda rho: -search.cost(rho)[1][None] / most,
    )
    size = float(np.sum((on_segment - aim) ** 2))
    moved = search.minimized(
        lambda rho: (float(np.sum((rho - aim) ** 2)) / size, 2.0 * (rho - aim) / size),
        on_segment,
        room,
    )
    shipped = (search.last_shipped(end, budget) for end in (moved, on_segment))
    best = next((attack for attack in shipped if attack is not None), None)
    if best is None:
        raise UnrealizableGradientError(
            f"no points within the budget of {budget} were found for any model on the way to the "
            f"target: in {domain!r} integers need more than the cost says where it is small. Raise the "
            "budget",
            direction=aim - search.origin,
        )
    return Closest(asked, budget, best, norm(best.target - asked.target))


class _Search:
    """The cost of targets, the optimum with an attacker without points, and coordinates."""

    def __init__(self, problem: Problem, domain: Domain, nu: float | None, who: str) -> None:
        self.costs = Costs(problem, domain, nu)
        self.costs.needs_hessians(who)
        idle = problem.with_user(Dataset.empty(problem.n_features), self.costs.nu)
        self.origin = solve(idle).rho.ravel()
        anchors = np.tile(self.origin, (idle.n_users, 1))
        hessian = envelopes(idle.local_losses, idle.regularizer, anchors).hessian.sum(axis=0)
        hessian += 1e-9 * np.trace(hessian) * np.eye(len(hessian))  # where there is no curvature
        lower = np.linalg.cholesky(hessian)
        self.step = solve_triangular(lower, np.eye(len(lower)), lower=True, trans=1)
        self._last: tuple[FloatArray, float, FloatArray] | None = None

    def cost(self, rho: FloatArray) -> tuple[float, FloatArray]:
        """Return cost and gradient, for the constraint and its slope computed once."""
        if self._last is None or not np.array_equal(self._last[0], rho):
            found = self.costs.at(rho)
            self._last = rho.copy(), found.value, found.gradient
        return self._last[1:]

    def cost_from(self, start: FloatArray) -> Function:
        """Return the cost in units of that of the start."""
        unit = self.costs.at(start).value

        def relative(rho: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self.cost(rho)
            return min(value / unit, BEYOND), gradient / unit

        return relative if 0.0 < unit < np.inf else self.cost

    def minimized(self, objective: Function, start: FloatArray, demand: Demand) -> FloatArray:
        """Return where the objective is least, subject to functions that must not be negative."""

        def rho(y: FloatArray) -> FloatArray:
            return start + self.step @ y

        def moved(y: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = objective(rho(y))
            return value, self.step.T @ gradient

        constraint: Any = {
            "type": "ineq",
            "fun": lambda y: demand.room(rho(y)),
            "jac": lambda y: demand.slope(rho(y)) @ self.step,
        }
        found = minimize(
            moved,
            np.zeros(len(start)),
            jac=True,
            method="SLSQP",
            constraints=constraint,
            options={"maxiter": 300, "ftol": 1e-9},
        )
        return rho(found.x)

    def last_within(self, aim: FloatArray, most: float) -> FloatArray:
        """Return the last point of the segment from the origin to ``aim`` that costs no more."""
        low, high = 0.0, 1.0
        for _ in range(50):
            share = 0.5 * (low + high)
            if self.costs.at(self.toward(aim, share)).value <= most:
                low = share
            else:
                high = share
        return self.toward(aim, low)

    def last_shipped(self, end: FloatArray, budget: int) -> Poisoning | None:
        """Return points within the budget for the end of the segment, or as near to it as there are."""
        best, too_far = None, 0.0
        for back in STEPS_BACK:
            best = self.poisoned(self.toward(end, 1.0 - back), budget)
            if best is not None:
                break
            too_far = back
        for _ in range(HALVINGS if best is not None else 0):
            middle = 0.5 * (too_far + back)
            attack = self.poisoned(self.toward(end, 1.0 - middle), budget)
            if attack is None:
                too_far = middle
            else:
                best, back = attack, middle
        return best

    def toward(self, end: FloatArray, share: float) -> FloatArray:
        """Return a point of the segment from the origin."""
        return self.origin + share * (end - self.origin)

    @np.errstate(divide="ignore", invalid="ignore")  # in scipy's trust regions, where they end
    def poisoned(self, rho: FloatArray, budget: float = np.inf) -> Poisoning | None:
        """Return points that make a target the optimum, if some within the budget are found."""
        problem, costs = self.costs.problem, self.costs
        try:
            attack = poison(problem, rho.reshape(problem.shape), nu=costs.nu, domain=costs.domain)
        except NOT_FOUND:
            return None
        return attack if attack.n_points <= budget else None
