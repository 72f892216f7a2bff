"""`Solution`: what a solver returns, with the status that its certificate justifies."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate
from gplconvex.errors import NotSolvedError
from gplconvex.problem import Problem


class Status(enum.Enum):
    """What is proved about a returned point."""

    OPTIMAL = "the certified gap is within the tolerance"
    INACCURATE = "the certified gap exceeds the tolerance"
    UNCERTIFIED = "no bound exists for this point"

    @classmethod
    def of(cls, certificate: Certificate, tol: float) -> Status:
        """Return the status that a certificate justifies."""
        if math.isinf(certificate.gap):
            return cls.UNCERTIFIED
        return cls.OPTIMAL if certificate.relative_gap <= tol else cls.INACCURATE


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    r"""A point, and what is proved about it.

    OPTIMAL speaks of the value F. Where the optimum is unique ``certificate.distance`` bounds how far
    rho is from it; where it is not (two users whose models differ under l2, softmax without
    ridge) that is ``inf``, and another solver may return another rho.

    Attributes
    ----------
    problem : Problem
        What was solved, so that anybody can recompute the certificate.
    rho : array
        The global model.
    thetas : tuple of arrays
        The personal models.
    value : float
        :math:`F(\rho, \theta)`, with the attacker's term if there is one.
    status : Status
        From the certificate at this point, never from a solver's word.
    certificate : Certificate
        Guaranteed bounds.
    method : str
        Which solver ran.
    stopped : str
        Why it stopped: ``"converged"`` (in its own opinion), ``"time limit"`` or ``"interrupted"``.
    stats : mapping
        What the solver says of itself: iterations, passes over the data, seconds, its own status.
    """

    problem: Problem
    rho: FloatArray
    thetas: tuple[FloatArray, ...]
    value: float
    status: Status
    certificate: Certificate
    method: str
    stopped: str
    stats: Mapping[str, float | str]

    def __repr__(self) -> str:
        return (
            f"<Solution by {self.method}: {self.status.name}, F = {self.value:.6g}, "
            f"gap <= {self.certificate.gap:.2g}, |rho - rho*| <= {self.certificate.distance:.2g}>"
        )

    def require_optimal(self) -> Solution:
        """Return self if the status is OPTIMAL; raise `NotSolvedError` otherwise."""
        if self.status is not Status.OPTIMAL:
            raise NotSolvedError(
                f"{self.method} returned a point of status {self.status.name} "
                f"({self.status.value}):\n{self.certificate}",
                solution=self,
            )
        return self


@dataclass(frozen=True)
class Raw:
    """What a backend hands to the judge: rho and N models, flattened or not."""

    rho: FloatArray
    thetas: FloatArray
    method: str
    stats: dict[str, float | str] = field(default_factory=dict)
