"""Solvers: `solve` chooses one, and every exit passes through the one judge."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.certificates import certify
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError
from gplconvex.participants import Attacker, check_attacker
from gplconvex.problem import Problem, check_problem
from gplconvex.solvers.newton import solve_newton
from gplconvex.solvers.reference import solve_cvxpy
from gplconvex.solvers.solution import Raw, Solution, Status

__all__ = ["Solution", "Status", "solve"]

METHODS = ("auto", "newton", "cvxpy", "cvxpy:SOLVER")


def solve(
    problem: Problem,
    *,
    method: str = "auto",
    tol: float = 1e-9,
    start: npt.ArrayLike | None = None,
    attacker: Attacker | None = None,
) -> Solution:
    r"""Minimize :math:`F(\rho, \theta_1, \ldots, \theta_N)`, and certify what comes out.

    Parameters
    ----------
    problem : Problem
        What to minimize.
    method : str
        ``"newton"``: native; Newton on rho with the Schur complement of the arrow-shaped Hessian.
        ``"cvxpy"``: the reference; the model assembled from cvxpy atoms, solved by Clarabel, or by
        the installed cvxpy solver SOLVER with ``"cvxpy:SOLVER"``. ``"auto"``: newton.
    tol : float
        The status is OPTIMAL when the certified gap is at most ``tol * (1 + |F|)``. It decides
        nothing else: solvers go as far as rounding lets them.
    start : array_like, shape of a model, optional
        Where Newton starts rho; default 0.
    attacker : GradientAttack or ModelAttack, optional
        One more participant, who adds a convex function of rho to F.

    Returns
    -------
    Solution
        With the status that the certificate justifies. Nothing is raised for a point that is not
        optimal: call `Solution.require_optimal`.

    Raises
    ------
    InvalidInputError
        For an unknown method or solver, a ``tol`` that is not positive, or an ill-shaped start.
    UnsupportedCombinationError
        For a ``start`` with a cvxpy method.
    MissingDependencyError
        If cvxpy is asked for and not installed.

    Examples
    --------
    >>> from gplconvex.losses import LeastSquares
    >>> from gplconvex.regularizers import SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [([[1.0]], [2.0]), ([[1.0]], [4.0])])
    >>> solution = solve(problem)
    >>> solution.status.name, solution.rho.round(12)
    ('OPTIMAL', array([3.]))
    """
    check_problem(problem)
    run = _solver_of(method)
    if not (is_number(tol) and 0.0 < tol < math.inf):
        raise InvalidInputError(f"tol must be positive and finite; got {tol!r}")
    first = None if start is None else problem.check_model("start", start)
    check_attacker(problem, attacker)
    began = time.perf_counter()
    raw = run(problem, first, attacker)
    seconds = time.perf_counter() - began
    for model in (raw.rho, *raw.thetas):
        model.setflags(write=False)  # the certificate speaks of these very numbers
    certificate = certify(problem, raw.rho, raw.thetas, attacker=attacker)
    return Solution(
        problem=problem,
        rho=raw.rho,
        thetas=raw.thetas,
        value=certificate.value,
        status=Status.of(certificate, tol),
        certificate=certificate,
        method=raw.method,
        stats={**raw.stats, "seconds": seconds},
    )


def _solver_of(
    method: str,
) -> Callable[[Problem, FloatArray | None, Attacker | None], Raw]:
    if method in ("auto", "newton"):
        return solve_newton
    family, _, solver = str(method).partition(":")
    if method == "cvxpy" or (family == "cvxpy" and solver):
        solver = solver or "CLARABEL"
        return lambda problem, start, attacker: solve_cvxpy(problem, start, attacker, solver)
    raise InvalidInputError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
