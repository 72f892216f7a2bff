r"""One more participant reverses what four hospitals learn together: three ways, one damage.

The hospitals of `gplconvex.datasets` learn personalized linear models, tied by squared l2 to a shared
model :math:`\rho`. A fifth participant wants the optimum to be :math:`\rho_\dagger = -\rho^*`, where
:math:`\rho^*` is the honest one, and gets it

- by reporting a gradient (*gradient attack*),
- by freezing a personal model (*model attack*),
- by owning a dataset, of the least possible size, and following the protocol (*data poisoning*).

Each attacked problem is solved from scratch and certified; the data also by a second solver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Check, verify
from gplconvex.datasets import HeartDisease, heart_disease, heart_disease_regression
from gplconvex.equivalence import Poisoning, poison
from gplconvex.errors import CertificateError
from gplconvex.losses import LeastSquares, Logistic, Loss
from gplconvex.participants import GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.realization import LowerBound, check_lower_bound
from gplconvex.regularizers import SquaredL2, norm
from gplconvex.solvers import Solution, solve

LAM = 1.0
"""Weight of the squared l2 tie between the shared model and each personal one."""

NU = 0.1
"""Ridge of every participant, the fifth one included."""

TOLERANCE = 1e-8
"""What every certificate must reach, relative to 1 + |rho|; they reach about 1e-12."""

REFERENCE_TOLERANCE = 1e-2
"""The same for Clarabel. It reaches 1e-9, or stalls at a relative gap of 1e-9, of which a distance is
about the root: on a few problems in a hundred, whatever its settings."""


@dataclass(frozen=True, eq=False)
class Outcome:
    r"""A shared model, and what it is worth.

    Attributes
    ----------
    name : str
        Who takes part besides the hospitals, and which solver ran.
    solution : Solution
        The optimum, certified.
    distance : float
        :math:`|\rho - \rho_\dagger|`, from the shared model to the attacker's target.
    scores : tuple of float
        One a hospital, of the shared model on the hospital's patients.
    tolerance : float
        What the certificate must reach, relative to :math:`1 + |\rho|`.
    """

    name: str
    solution: Solution
    distance: float
    scores: tuple[float, ...]
    tolerance: float = TOLERANCE

    @property
    def certified(self) -> float:
        r"""Bound of the distance from the shared model to the exact optimum."""
        return self.solution.certificate.distance


@dataclass(frozen=True, eq=False)
class Reversal:
    r"""What happens to the hospitals; `check_reversal` has passed.

    Attributes
    ----------
    data : HeartDisease
        The patients.
    problem : Problem
        The hospitals alone.
    honest : Outcome
        Their optimum.
    attacks : tuple of Outcome
        Gradient attack, model attack, data poisoning by Newton and by Clarabel.
    poisoning : Poisoning
        The target, the gradient, the frozen model, and the dataset with its certificate.
    """

    data: HeartDisease
    problem: Problem
    honest: Outcome
    attacks: tuple[Outcome, ...]
    poisoning: Poisoning

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The honest optimum, then the attacks."""
        return (self.honest, *self.attacks)

    @property
    def n_patients(self) -> int:
        """Number of real patients."""
        return sum(dataset.n_points for dataset in self.data.datasets)

    @property
    def data_gradient(self) -> FloatArray:
        r""":math:`h = g - 2\nu\theta_\spadesuit`: what the gradients of the fake records sum to."""
        return self.poisoning.gradient - 2.0 * NU * self.poisoning.theta

    @property
    def data_gradient_along(self) -> float | None:
        r""":math:`\langle v, h\rangle`, v the direction of the proof; None if it has none.

        A single record reaches at most ``poisoning.proof.support`` along v.
        """
        direction = self.poisoning.proof.direction
        return None if direction is None else float(direction @ self.data_gradient)

    @property
    def fake_records(self) -> FloatArray:
        """The distinct fake records in natural units, shape (n_rows, d)."""
        return self.data.to_raw(self.poisoning.dataset.x)

    @property
    def fake_labels(self) -> FloatArray:
        """Their labels in natural units, shape (n_rows,)."""
        return self.data.label_center + self.data.label_scale * self.poisoning.dataset.y

    @property
    def highest_label(self) -> float:
        """The highest label of a real patient, in natural units."""
        highest = max(float(dataset.y.max()) for dataset in self.data.datasets)
        return self.data.label_center + self.data.label_scale * highest


def reverse_diagnosis(on_step: Callable[[str], None] = lambda step: None) -> Reversal:
    """Reverse a logistic model that predicts heart disease; scores are accuracies.

    Parameters
    ----------
    on_step : callable, optional
        Called with the name of each step as it begins.

    Raises
    ------
    CertificateError
        If anything that the result claims is not certified.
    MissingDependencyError
        If cvxpy is not installed.

    Examples
    --------
    >>> reversal = reverse_diagnosis()
    >>> reversal.poisoning.n_points, reversal.poisoning.lower_bound
    (1143, 1143)
    >>> max(attack.distance for attack in reversal.attacks) < 1e-3 < reversal.honest.distance
    True
    """

    def accuracy(z: FloatArray, y: FloatArray) -> float:
        return float(np.mean(z * y > 0.0))

    return _reverse(heart_disease(), Logistic(intercept=True), accuracy, on_step)


def reverse_heart_rate(on_step: Callable[[str], None] = lambda step: None) -> Reversal:
    """Reverse a linear model that predicts the maximum heart rate; scores are mean absolute errors.

    Parameters
    ----------
    on_step : callable, optional
        Called with the name of each step as it begins.

    Raises
    ------
    CertificateError
        If anything that the result claims is not certified.
    MissingDependencyError
        If cvxpy is not installed.

    Examples
    --------
    >>> reverse_heart_rate().poisoning.n_points
    1
    """
    data = heart_disease_regression()

    def error(z: FloatArray, y: FloatArray) -> float:
        return data.label_scale * float(np.mean(np.abs(z - y)))

    return _reverse(data, LeastSquares(intercept=True), error, on_step)


def check_reversal(reversal: Reversal) -> None:
    r"""Check all that a result claims; it trusts no solver.

    1. Every solution is certified, and so near to the target that the exact optimum is, too:
       :math:`|\rho^* - \rho_\dagger| \le |\rho - \rho_\dagger| + |\rho - \rho^*|`.
    2. The certificate of the dataset is the one of the poisoned problem at the target.
    3. The proof that fewer points cannot do holds, and says as many as there are.

    Raises
    ------
    CertificateError
        If one of them fails.
    """
    poisoning, loss = reversal.poisoning, reversal.problem.loss
    for outcome in reversal.outcomes:
        outcome.solution.certificate.require(outcome.tolerance)
    poisoning.certificate.require(TOLERANCE)
    verify(poisoning.certificate, poisoning.poisoned, poisoning.target, poisoning.thetas)
    theta, h, proof = poisoning.theta, reversal.data_gradient, poisoning.proof
    check_lower_bound(loss, theta, h, proof)
    if proof.direction is not None:
        # The argument that people are told, simpler than the one behind the bound.
        simple = LowerBound(proof.value, "direction", proof.direction, proof.support)
        check_lower_bound(loss, theta, h, simple)
    checks = [
        Check(
            f"{attack.name}: optimum to target",
            attack.distance + attack.certified,
            attack.tolerance * (1.0 + norm(poisoning.target)),
            "<=",
            "the attack must do exactly the wanted damage",
        )
        for attack in reversal.attacks
    ]
    checks.append(
        Check(
            "points",
            poisoning.dataset.n_points,
            min(proof.value, poisoning.lower_bound),
            "<=",
            "the dataset must be of the least possible size",
        )
    )
    failing = [check for check in checks if not check.passed]
    if failing:
        raise CertificateError("the result is not what it claims:", checks=failing)


def _reverse(
    data: HeartDisease,
    loss: Loss,
    score: Callable[[FloatArray, FloatArray], float],
    on_step: Callable[[str], None],
) -> Reversal:
    on_step("honest optimum")
    problem = Problem(loss, SquaredL2(LAM), data.datasets, nu=NU)
    honest = solve(problem)
    target = -honest.rho
    on_step("gradient, model and smallest dataset for the target")
    poisoning = poison(problem, target)

    def outcome(name: str, solution: Solution, tolerance: float = TOLERANCE) -> Outcome:
        scores = tuple(
            score(loss.predictor(hospital.x, solution.rho), hospital.y)
            for hospital in data.datasets
        )
        return Outcome(name, solution, norm(solution.rho - target), scores, tolerance)

    on_step("gradient attack and model attack")
    by_gradient = solve(problem, attacker=GradientAttack(poisoning.gradient))
    by_model = solve(problem, attacker=ModelAttack(poisoning.theta))
    on_step("data poisoning, solved by Newton")
    by_data = solve(poisoning.poisoned, method="newton")
    on_step("data poisoning, solved by Clarabel")
    by_data_again = solve(poisoning.poisoned, method="cvxpy")
    reversal = Reversal(
        data=data,
        problem=problem,
        honest=outcome("honest", honest),
        attacks=(
            outcome("gradient attack", by_gradient),
            outcome("model attack", by_model),
            outcome("data poisoning (Newton)", by_data),
            outcome("data poisoning (Clarabel)", by_data_again, REFERENCE_TOLERANCE),
        ),
        poisoning=poisoning,
    )
    on_step("certificates and proofs")
    check_reversal(reversal)
    return reversal
