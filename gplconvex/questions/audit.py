r"""Audits: how many fake points at least move the model there? A robustness statement, certified.

**A goal** (T3.6). Let :math:`\Phi` be the honest objective with the attacker as one more user who has
no points (its ridge nu included), minimized over personal models, and let k points of the domain D
move the optimum into the goal :math:`\{A\rho \ge c\}`. Each of their losses is at least its infimum
over predictors, and no models are better than the optimal ones. So for *any* reference models, t the
attacker's,

.. math:: \min_{A\rho \ge c} \Phi \;\le\; \Phi(\text{reference}) + k\,S(t), \qquad
          S(t) = \sup_{x \in D,\,y} \Big[\varphi(t^\top x, y) - \inf_z \varphi(z, y)\Big],

hence :math:`k \ge (\min_{A\rho\ge c}\Phi - \Phi(\text{reference})) / S(t)`. The minimum is bounded
from below by duality: for every :math:`\mu \ge 0`

.. math:: \min_{A\rho \ge c} \Phi \;\ge\; \mu^\top c + \min_\rho\, \big[\Phi(\rho)
          - \langle A^\top\mu, \rho\rangle\big],

the optimum of a problem with a `GradientAttack`, which a certificate bounds at any point. So the claim
needs :math:`\mu`, that point and the reference, and no trust in how they were found.

**A target.** The lower bound of `poison` holds for every dataset of the domain.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from gplconvex._types import FloatArray
from gplconvex.certificates import Check, certify
from gplconvex.data import Dataset
from gplconvex.domains import Domain, Unbounded
from gplconvex.equivalence import Poisoning, poison, required_gradient, to_model
from gplconvex.errors import CertificateError, InvalidInputError, UnreachableTargetError
from gplconvex.participants import GradientAttack
from gplconvex.problem import Problem
from gplconvex.questions.cost import Costs
from gplconvex.questions.goals import Goal
from gplconvex.questions.reference import multipliers, reference
from gplconvex.questions.worst import worst_point
from gplconvex.regularizers import norm
from gplconvex.rounding import REALIZATION_RESIDUAL, UNIT, gamma

AGREEMENT = 1e-9
"""Relative agreement of an attack's report and model with those computed anew."""


@dataclass(frozen=True, eq=False, repr=False)
class TargetAudit:
    """How many points make one model the optimum.

    Attributes
    ----------
    problem : Problem
        The honest users.
    target : array, shape of a model
        The model.
    domain : Domain
        Where the points may lie.
    floor : int or inf
        No dataset of fewer points makes the target the optimum; ``inf`` if none whatever does.
    poisoning : Poisoning or None
        Points that do it, with the argument for the floor; None if the floor is ``inf``.
    """

    problem: Problem
    target: FloatArray
    domain: Domain
    floor: float
    poisoning: Poisoning | None

    def __str__(self) -> str:
        """Say it in one sentence."""
        if self.poisoning is None:
            return (
                f"No points whatever make the target the optimum: under {self.problem.regularizer!r} "
                "no report outweighs the pull of the honest users there."
            )
        number = self.poisoning.n_points
        if number == 0:
            return "The target is the optimum without any fake points."
        fewer = _no_fewer(self.floor, self.domain, "makes", "make")
        if not hits(self.poisoning):
            off = self.poisoning.certificate.distance
            return f"{fewer} the target the optimum; {points(number)} come within {off:.2g} of it."
        return (
            f"{fewer} the target the optimum; {points(number)} {'does' if number == 1 else 'do'}."
        )

    def __repr__(self) -> str:
        return f"<TargetAudit: {self}>"

    def require(self, tol: float = 1e-9) -> TargetAudit:
        r"""Return self if everything that is claimed holds, checked from scratch.

        Raises
        ------
        CertificateError
            If the target is reachable after all, or the points, the argument of the floor or the
            certificate fails as in `Poisoning.require`.
        """
        try:
            needed = required_gradient(self.problem, self.target)
        except UnreachableTargetError:
            needed = None
        claims = [
            _equal("out of reach", needed is None, self.poisoning is None, "as the audit says"),
            _equal(
                "floor is infinite", math.isinf(self.floor), self.poisoning is None, "then only"
            ),
        ]
        attack = self.poisoning
        if attack is not None and needed is not None:
            theta = to_model(self.problem, self.target, needed)
            off = norm(needed - attack.gradient) / (norm(needed) + norm(self.target) + 1.0)
            moved = norm(theta - attack.theta) / (norm(theta) + norm(self.target) + 1.0)
            claims += [
                _equal("floor", self.floor, attack.lower_bound, "must be the proved one"),
                _equal("target", np.array_equal(self.target, attack.target), True, "of the attack"),
                same_setting(self.problem, self.domain, attack),
                Check("report", off, AGREEMENT, "<=", "must balance the pull of the honest users"),
                Check("theta", moved, AGREEMENT, "<=", "must be the model that sends the report"),
            ]
        check_all(claims, "the audit contradicts itself:")
        if attack is not None:
            attack.require(tol)
        return self


@dataclass(frozen=True, eq=False, repr=False)
class GoalAudit:
    r"""How many points at least move the optimum into a goal, whatever the points are.

    Attributes
    ----------
    problem : Problem
        The honest users.
    goal : Goal
        :math:`\{A\rho \ge c\}`.
    domain : Domain
        Where the points may lie.
    nu : float
        The attacker's ridge.
    floor : int
        No dataset of fewer points of the domain moves the optimum into the goal. 0: nothing is proved.
    multipliers : array, shape (m,)
        :math:`\mu \ge 0`, one a half-space.
    nearest, reference : tuples of a global model and N + 1 personal ones, the attacker's last
        The point at which the optimum with :math:`-A^\top\mu` is certified, for the best
        :math:`\mu` the honest optimum within the goal; and the reference models.
    """

    problem: Problem
    goal: Goal
    domain: Domain
    nu: float
    floor: int
    multipliers: FloatArray
    nearest: tuple[FloatArray, tuple[FloatArray, ...]]
    reference: tuple[FloatArray, tuple[FloatArray, ...]]

    @property
    def strength(self) -> float:
        r"""The real number that the floor is rounded up from; at most 0 if nothing is proved.

        Computed from the problem and the fields, rounding included. Where S is infinite, any positive
        difference proves that one point is needed, and no more.
        """
        least = least_value(self.with_attacker, *self._half_spaces, self.multipliers, *self.nearest)
        rho, thetas = self.reference
        missing = least - value_above(self.with_attacker, rho, thetas)
        worst = worst_point(self.problem.loss, thetas[-1], self.domain).value
        return missing / worst if math.isfinite(worst) else min(missing, 1.0)

    @property
    def with_attacker(self) -> Problem:
        """The problem with the attacker as a last user who has no points."""
        return self.problem.with_user(Dataset.empty(self.problem.n_features), self.nu)

    @property
    def _half_spaces(self) -> tuple[FloatArray, FloatArray]:
        return self.goal.half_spaces(self.problem)

    def __str__(self) -> str:
        """Say it in one sentence."""
        if self.floor == 0:
            return f"Nothing is proved: perhaps no points at all are needed such that {self.goal}."
        fewer = _no_fewer(self.floor, self.domain, "moves", "move")
        return f"{fewer} the optimum such that {self.goal}."

    def __repr__(self) -> str:
        return f"<GoalAudit: {self}>"

    def require(self) -> GoalAudit:
        """Return self if the floor holds, computed anew from the problem and the stored models.

        Raises
        ------
        CertificateError
            If the multipliers are negative or the models do not prove the floor.
        """
        least = float(np.min(self.multipliers))
        check_all(
            [Check("least multiplier", -least, 0.0, "<=", "multipliers must not be negative")],
            "the audit has no valid multipliers:",
        )
        proved = rounded_up(self.strength)
        check_all(
            [Check("floor", self.floor, proved, "<=", "what the multipliers and models prove")],
            "the floor is not proved:",
        )
        return self


def audit(
    problem: Problem,
    wanted: npt.ArrayLike | Goal,
    *,
    nu: float | None = None,
    domain: Domain = Unbounded(),
) -> TargetAudit | GoalAudit:
    r"""Return how many fake points at least it takes to move the model there, with the proof.

    Parameters
    ----------
    problem : Problem
        The honest users; the attacker becomes one more.
    wanted : array_like, shape of a model, or Goal
        A target, or a set of them such as `Predictions`.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the attacker's points may lie; default `Unbounded`.

    Returns
    -------
    TargetAudit or GoalAudit
        Its ``floor``, a statement in one sentence (``str``), and ``require`` to check it.

    Raises
    ------
    InvalidInputError
        For shapes that disagree, or a goal that no model meets.
    UnrealizableGradientError, UnsupportedCombinationError, CertificateError
        For a target, as `poison`; for a goal the second, if the domain has no support function.

    Notes
    -----
    Source: T3.6. For a target the floor is the number of points or close to it. For a goal it is a
    weaker statement about far more models: often several times less than the cheapest attack that
    `cheapest_target` finds. Least squares and Poisson regression need bounds of the labels, or
    nothing but "one point at least" is provable.

    Examples
    --------
    >>> from gplconvex import Box, Dataset, HardConsensus, Logistic
    >>> from gplconvex.questions import Predictions
    >>> data = Dataset([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], [1.0, -1.0, 1.0], [50, 50, 30])
    >>> honest = Problem(Logistic(intercept=True), HardConsensus(), [data], nu=1.0)
    >>> goal = Predictions([[1.0, 0.0]], [-1.0])
    >>> print(audit(honest, goal, nu=0.0, domain=Box(-1.0, 1.0)).require())
    No 8 points with inputs in Box(...), whatever they are, move the optimum such that 1 input is
    labeled -1.
    """
    ridge = Costs(problem, domain, nu).nu
    if isinstance(wanted, Goal):
        return _audit_goal(problem, wanted, ridge, domain)
    target = problem.check_model("target", wanted)
    try:
        attack = poison(problem, target, nu=ridge, domain=domain)
    except UnreachableTargetError:
        return TargetAudit(problem, target, domain, math.inf, None)
    return TargetAudit(problem, target, domain, attack.lower_bound, attack)


def _audit_goal(problem: Problem, goal: Goal, nu: float, domain: Domain) -> GoalAudit:
    a, c = goal.half_spaces(problem)
    feasible = linprog(np.zeros(a.shape[1]), A_ub=-a, b_ub=-c, bounds=(None, None))
    if feasible.status == 2:
        raise InvalidInputError(
            f"no model meets the goal that {goal}: its {len(c)} half-spaces have no point in common. "
            "Drop a demand or lower the margin"
        )
    full = problem.with_user(Dataset.empty(problem.n_features), nu)
    mu, nearest = multipliers(full, a, c)
    least = least_value(full, a, c, mu, nearest.rho, nearest.thetas)
    models = (nearest.rho, nearest.thetas), reference(problem, full, least, domain, nu)
    unproved = GoalAudit(problem, goal, domain, nu, 0, mu, *models)
    return dataclasses.replace(unproved, floor=rounded_up(unproved.strength))


def rounded_up(strength: float) -> int:
    """Return the integer that a real number of points, which may be off by its rounding, proves."""
    return math.ceil(strength * (1.0 - 1e-12)) if strength > 0.0 else 0


def least_value(
    problem: Problem,
    a: FloatArray,
    c: FloatArray,
    mu: FloatArray,
    rho: FloatArray,
    thetas: tuple[FloatArray, ...],
) -> float:
    r"""Return a lower bound of :math:`\min_{A\rho\ge c}\Phi`, or ``-inf``; rounding included.

    The report is :math:`-A^\top\mu` up to rounding e, and replacing it moves the optimum of its problem,
    concave in the report, by at most |e| times the size of a minimizer.
    """
    report = -(a.T @ mu)
    off = gamma(len(mu) + 2) * norm(np.abs(a).T @ np.abs(mu))
    certificate = certify(
        problem, rho, thetas, attacker=GradientAttack(report.reshape(problem.shape))
    )
    if not math.isfinite(certificate.gap + certificate.distance):
        return -math.inf
    terms = np.append(report * rho.ravel(), mu * c)
    rounding = gamma(terms.size + 4) * math.fsum(np.abs(terms).tolist())
    rounding += 2.0 * off * (norm(rho) + certificate.distance)
    value = problem.energy(rho.ravel(), _flat(thetas)) + math.fsum(terms.tolist())
    return value - certificate.gap - rounding - rounding_of_value(problem, rho, thetas)


def value_above(problem: Problem, rho: FloatArray, thetas: tuple[FloatArray, ...]) -> float:
    """Return an upper bound of the objective at a point: its value and what that may be off."""
    value = problem.energy(rho.ravel(), _flat(thetas))
    return value + rounding_of_value(problem, rho, thetas)


def rounding_of_value(problem: Problem, rho: FloatArray, thetas: tuple[FloatArray, ...]) -> float:
    r"""Return how far the computed objective may be from the exact one.

    Predictors are off by :math:`\delta_i \le \gamma|x_i||\theta|`, losses by :math:`(|w_i| +
    \max\varphi''\,\delta_i)\,\delta_i` and by their own evaluation, sums relative to the sum of
    absolute values.
    """
    loss, total, sizes = problem.loss, 0.0, 0.0
    p = math.prod(problem.shape)
    for data, nu, theta in zip(problem.datasets, problem.nu.tolist(), thetas, strict=True):
        u = (rho - theta).ravel()
        sizes += nu * norm(theta) ** 2 + abs(float(problem.regularizer.value(u)))
        if data.n_rows == 0:
            continue
        z = loss.predictor(data.x, theta)
        lengths = np.sqrt(np.asarray((data.x * data.x).sum(axis=1)).ravel() + 1.0)
        delta = gamma(p + 4) * lengths * norm(theta)
        reach = delta if z.ndim == 1 else delta[:, None]
        _, steepest = loss.curvature_bounds(z - reach, z + reach, data.y)
        w = np.abs(loss.residual(z, data.y)).reshape(len(delta), -1).sum(axis=1)
        values = np.abs(loss.value(z, data.y))
        largest = np.abs(z).reshape(len(delta), -1).max(axis=1)
        labels = np.abs(data.y).reshape(len(delta), -1).max(axis=1)
        evaluated = (p + 16) * UNIT * (values + (1.0 + labels) * (1.0 + largest) + w)
        total += float(data.counts @ ((w + steepest * delta) * delta + evaluated))
        sizes += float(data.counts @ values)
    rows = sum(data.n_rows for data in problem.datasets)
    return (total + gamma(rows + p + problem.n_users + 32) * sizes) * (1.0 + gamma(rows + 64))


def _flat(thetas: tuple[FloatArray, ...]) -> FloatArray:
    return np.stack([theta.ravel() for theta in thetas])


def _no_fewer(floor: float, domain: Domain, verb: str, verbs: str) -> str:
    inside = "" if isinstance(domain, Unbounded) else f" with inputs in {domain!r}"
    if floor <= 1:
        return f"No participant without points {verb}"
    if floor == 2:
        return f"No single point{inside}, whatever it is, {verb}"
    return f"No {points(floor - 1)}{inside}, whatever they are, {verbs}"


def points(number: float) -> str:
    """Return a number of points in words."""
    return f"{number:.0f} point{'' if number == 1 else 's'}"


def hits(attack: Poisoning) -> bool:
    """Return whether the points have the gradient, and are not only rounded to have it nearly."""
    return attack.residual <= REALIZATION_RESIDUAL


def same_setting(problem: Problem, domain: Domain, attack: Poisoning) -> Check:
    """Check that an attack is one on these honest users, with points of this domain."""
    poisoned = attack.poisoned
    same = (
        poisoned.loss == problem.loss
        and poisoned.regularizer == problem.regularizer
        and poisoned.datasets[:-1] == problem.datasets
        and np.array_equal(poisoned.nu[:-1], problem.nu)
        and attack.domain is domain
    )
    return Check("other users or domain", float(not same), 0.0, "<=", "must be those of the audit")


def _equal(name: str, value: object, expected: object, meaning: str) -> Check:
    return Check(f"{name} differs", float(value != expected), 0.0, "<=", meaning)


def check_all(claims: list[Check], message: str) -> None:
    """Raise `CertificateError` with the claims that fail, if any do."""
    failing = [claim for claim in claims if not claim.passed]
    if failing:
        raise CertificateError(message, checks=failing)
