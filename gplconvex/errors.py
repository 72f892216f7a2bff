"""The exception tree: every failure of the package is a `GplConvexError`.

A message says what happened, what was expected, what was got, and what to do next; the values that
caused it also hang on the exception, so that a program can read them without parsing a sentence.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gplconvex._types import FloatArray
    from gplconvex.certificates import Certificate, Check
    from gplconvex.federated import Trace
    from gplconvex.solvers import Solution


class GplConvexError(Exception):
    """Base class of every error raised on purpose by this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without ``__init__``, whose keywords Python would forget: workers send errors."""
        state = {"args": self.args, **self.__dict__}  # an OSError forgets what `__new__` is given
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]


class InvalidInputError(GplConvexError, ValueError):
    """An argument breaks the contract: shape, label, non-finite number, parameter, existing file."""


class UnsupportedCombinationError(GplConvexError):
    """Two valid choices do not work together; the message names who lacks what."""


class UnreachableTargetError(GplConvexError):
    """No plausible report makes the target stationary.

    Attributes
    ----------
    pull : float
        ``|G(target)|``, the norm of the pull of the honest users at the target.
    lam : float
        The largest norm that a plausible report can have.
    reachable : array
        The minimizer of ``sum_n M_n(rho) + lam |rho - target|``: the point that the
        counter-gradient attack ends at if it converges (T5).
    certificate : Certificate
        How far ``reachable`` is from that minimizer.
    """

    def __init__(
        self,
        message: str,
        *,
        pull: float,
        lam: float,
        reachable: FloatArray,
        certificate: Certificate,
    ) -> None:
        super().__init__(message)
        self.pull = pull
        self.lam = lam
        self.reachable = reachable
        self.certificate = certificate


class UnrealizableGradientError(GplConvexError):
    """No dataset with the wanted gradient was found, or one could not be written down.

    Attributes
    ----------
    direction : array
        The direction in which datasets miss it: no sum of up to 10^6 residuals fits, or more than
        2^53 points are needed.
    """

    def __init__(self, message: str, *, direction: FloatArray) -> None:
        super().__init__(message)
        self.direction = direction


class NotSolvedError(GplConvexError):
    """A solution was required to be optimal and its certificate does not say so.

    Attributes
    ----------
    solution : Solution or None
        What the solver returned, with its status and certificate; None if it returned no point.
    """

    def __init__(self, message: str, *, solution: Solution | None) -> None:
        super().__init__(message)
        self.solution = solution


class CertificateError(GplConvexError):
    """A certificate fails.

    Attributes
    ----------
    checks : sequence of Check
        The failing clauses, each with its value and its bound.
    """

    def __init__(self, message: str, *, checks: Sequence[Check]) -> None:
        lines = [message, *(f"  {check}" for check in checks)]
        super().__init__("\n".join(lines))
        self.checks = tuple(checks)


class RunError(GplConvexError):
    """A run of the federated protocol failed in a round; the failure is the ``__cause__``.

    Attributes
    ----------
    trace : Trace
        The rounds before.
    """

    def __init__(self, message: str, *, trace: Trace) -> None:
        super().__init__(message)
        self.trace = trace


class EngineError(GplConvexError):
    """An engine lost what it works with: a scheduler, workers again and again, a federation."""


class MissingDependencyError(GplConvexError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class DownloadError(GplConvexError, OSError):
    """Published data are not in the cache, and could not be fetched into it.

    Attributes
    ----------
    path : Path
        Where the file would lie.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path
