r"""Strategic participants whose part in the server's problem is a convex function of rho alone.

The server descends on :math:`\sum_n M_n(\rho) + E(\rho)`, where the gradient of E is what the
attacker reports. (An attacker who poisons data is one more honest user, and needs no class here.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.data import frozen_array
from gplconvex.errors import InvalidInputError
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer, norm


class Attacker(ABC):
    """A participant without data, who sends reports of its own making."""

    @abstractmethod
    def energy(self, problem: Problem, rho: FloatArray) -> float:
        r"""Return :math:`E(\rho)`."""

    @abstractmethod
    def report(self, problem: Problem, rho: FloatArray, wanted: FloatArray) -> FloatArray:
        r"""Return the element of :math:`\partial E(\rho)` nearest to ``wanted``."""

    def disagreement(self, problem: Problem, rho: FloatArray) -> float:
        r"""Return how far rho is from where :math:`E(\rho)` is finite; 0 unless E ties models."""
        return 0.0

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Raise `InvalidInputError` when the attack does not fit the problem."""

    @abstractmethod
    def cvxpy_energy(self, problem: Problem, rho: Any) -> Any:
        r"""Return :math:`E(\rho)` as a convex cvxpy expression."""


@dataclass(frozen=True, eq=False)
class GradientAttack(Attacker):
    r"""Report the same gradient g every round: :math:`E(\rho) = \langle g, \rho\rangle`.

    Parameters
    ----------
    gradient : array, shape of a model
        The report; plausible, or the server would drop it.

    Examples
    --------
    >>> GradientAttack([1.0, -1.0]).gradient
    array([ 1., -1.])
    """

    gradient: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "gradient", frozen_array("gradient", self.gradient))

    def energy(self, problem: Problem, rho: FloatArray) -> float:
        r"""Return :math:`\langle g, \rho\rangle`."""
        return float(np.vdot(self.gradient, rho))

    def report(self, problem: Problem, rho: FloatArray, wanted: FloatArray) -> FloatArray:
        """Return g."""
        return self.gradient

    def check(self, problem: Problem) -> None:
        """Check the shape of g and that the server would not drop it."""
        problem.check_model("gradient", self.gradient)
        check_plausible(problem.regularizer, self.gradient)

    def cvxpy_energy(self, problem: Problem, rho: Any) -> Any:
        """Return the linear function for cvxpy."""
        import cvxpy as cp

        return cp.sum(cp.multiply(self.gradient, rho))


@dataclass(frozen=True, eq=False)
class ModelAttack(Attacker):
    r"""Freeze the personal model at theta: :math:`E(\rho) = r(\rho - \theta)`.

    Parameters
    ----------
    theta : array, shape of a model
        The frozen model.
    regularizer : Regularizer, optional
        The r of the formula; default, that of the problem.

    Examples
    --------
    >>> ModelAttack([1.0, -1.0]).theta
    array([ 1., -1.])
    """

    theta: FloatArray
    regularizer: Regularizer | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "theta", frozen_array("theta", self.theta))

    def regularizer_for(self, problem: Problem) -> Regularizer:
        """Return r."""
        return problem.regularizer if self.regularizer is None else self.regularizer

    def energy(self, problem: Problem, rho: FloatArray) -> float:
        r"""Return :math:`r(\rho - \theta)`."""
        return float(self.regularizer_for(problem).value((rho - self.theta).ravel()))

    def report(self, problem: Problem, rho: FloatArray, wanted: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla r(\rho - \theta)`; at a kink, ``wanted`` projected on the ball."""
        regularizer = self.regularizer_for(problem)
        u = rho - self.theta
        if regularizer.kink > 0.0 and not u.any():
            size = norm(wanted)
            return wanted if size <= regularizer.kink else wanted * (regularizer.kink / size)
        return regularizer.gradient(u.ravel()).reshape(u.shape)

    def disagreement(self, problem: Problem, rho: FloatArray) -> float:
        r"""Return :math:`|\rho - \theta|` under hard consensus."""
        return norm(rho - self.theta) if math.isinf(self.regularizer_for(problem).kink) else 0.0

    def check(self, problem: Problem) -> None:
        """Check the shape of theta."""
        problem.check_model("theta", self.theta)

    def cvxpy_energy(self, problem: Problem, rho: Any) -> Any:
        """Return the regularizer for cvxpy."""
        return self.regularizer_for(problem).cvxpy_value(rho - self.theta)


def check_plausible(regularizer: Regularizer, gradient: FloatArray) -> None:
    """Raise `InvalidInputError` when the server would drop the report."""
    if not regularizer.is_plausible(gradient):
        raise InvalidInputError(
            f"the gradient is not plausible under {regularizer!r}: its norm must be at most "
            f"{regularizer.radius:.17g}; got {norm(gradient):.17g}. The server drops such a report: "
            "scale it down or raise lam"
        )


def check_attacker(problem: Problem, attacker: Attacker | None) -> None:
    """Raise `InvalidInputError` unless ``attacker`` is None or an attack that fits the problem."""
    if attacker is None:
        return
    if not isinstance(attacker, Attacker):
        raise InvalidInputError(
            "attacker must be a GradientAttack or a ModelAttack, such as GradientAttack(gradient); "
            f"got {type(attacker).__name__}"
        )
    attacker.check(problem)
