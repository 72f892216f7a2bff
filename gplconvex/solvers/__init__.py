"""Solvers: `solve` chooses one, and every exit passes through the one judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.certificates import certify
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.parallel import own_threads
from gplconvex.participants import Attacker, check_attacker
from gplconvex.problem import Problem, check_problem
from gplconvex.solvers.lbfgs import solve_lbfgs
from gplconvex.solvers.monitor import Monitor, Progress, TimeLimitError
from gplconvex.solvers.newton import solve_newton
from gplconvex.solvers.reference import solve_cvxpy
from gplconvex.solvers.solution import Raw, Solution, Status

__all__ = ["Progress", "Solution", "Status", "solve"]

METHODS = ("auto", "newton", "lbfgs", "cvxpy", "cvxpy:SOLVER")

NEWTON_PARAMETERS = 300
"""Up to so many parameters a model a Hessian costs less than the iterations that it saves."""

NEWTON_PARAMETERS_CONSTANT = 2000
"""The same where the Hessian is constant and one Newton step is enough."""

NEWTON_NUMBERS = 2**25
"""Numbers in all Hessians together beyond which they are not formed."""


def solve(
    problem: Problem,
    *,
    method: str = "auto",
    tol: float = 1e-9,
    start: npt.ArrayLike | Solution | None = None,
    attacker: Attacker | None = None,
    progress: Callable[[Progress], object] | None = None,
    time_limit: float | None = None,
) -> Solution:
    r"""Minimize :math:`F(\rho, \theta_1, \ldots, \theta_N)`, and certify what comes out.

    Parameters
    ----------
    problem : Problem
        What to minimize.
    method : str
        ``"newton"``: native; Newton with the Schur complement of the arrow-shaped Hessian, as far as
        rounding goes. ``"lbfgs"``: native, for many parameters; L-BFGS that starts from an arrow-shaped
        approximation of the Hessian, until the gap is within ``tol`` with room to spare.
        ``"cvxpy"``: the reference; the model assembled from cvxpy atoms, solved by Clarabel, or by
        the installed cvxpy solver SOLVER with ``"cvxpy:SOLVER"``. ``"auto"``: newton up to 300
        parameters a model (2000 for least squares) where the Hessians fit into 256 MB, otherwise
        lbfgs.
    tol : float
        The status is OPTIMAL when the certified gap is at most ``tol * (1 + |F|)``. Only lbfgs
        stops by it: at a gap of a hundredth of that and, where r is strongly convex, a distance of
        at most ``sqrt(tol) * (1 + |rho|)``; without any bound (nu = 0), at a gradient of ``tol`` times
        the first.
    start : array_like, shape of a model, or Solution, optional
        Where native methods start: a global model, default 0; or the solution of a similar problem,
        whose personal models are taken over by the users who have the same data here, and by
        those who stand where a user with other data stood.
    attacker : GradientAttack or ModelAttack, optional
        One more participant, who adds a convex function of rho to F.
    progress : callable, optional
        Called after each iteration of a native method with a `Progress`.
    time_limit : float, optional
        Seconds after which a native method returns the best point it has.

    Returns
    -------
    Solution
        With the status that the certificate justifies, wherever the solver stopped: at its goal, at
        the time limit or at an interrupt (Ctrl-C); ``stopped`` says which. Nothing is raised for a
        point that is not optimal: call `Solution.require_optimal`.

    Raises
    ------
    InvalidInputError
        For an unknown method or solver, a ``tol`` or ``time_limit`` that is not positive, or a
        start that does not fit.
    UnsupportedCombinationError
        For a ``start``, ``progress`` or ``time_limit`` with a cvxpy method.
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
    check_attacker(problem, attacker)
    if not (is_number(tol) and 0.0 < tol < math.inf):
        raise InvalidInputError(f"tol must be positive and finite; got {tol!r}")
    if time_limit is not None and not (is_number(time_limit) and time_limit > 0.0):
        raise InvalidInputError(f"time_limit must be a positive number; got {time_limit!r}")
    if progress is not None and not callable(progress):
        raise InvalidInputError(f"progress must be a function of a Progress; got {progress!r}")
    run = _solver_of(method, problem, start=start, progress=progress, time_limit=time_limit)
    rho, thetas = _starting_point(problem, start)
    limit = math.inf if time_limit is None else time_limit
    monitor = Monitor(problem, attacker, tol, progress, limit, (rho, thetas))
    stopped = "converged"
    losses = problem.local_losses
    with own_threads(len(losses.stacks), losses.size):
        try:
            raw = run(problem, rho, thetas, attacker, monitor)
        except (TimeLimitError, KeyboardInterrupt) as stop:
            stopped = "time limit" if isinstance(stop, TimeLimitError) else "interrupted"
            raw = Raw(*monitor.point, run.__name__.removeprefix("solve_"))
        seconds = monitor.seconds
        # The certificate speaks of these very numbers.
        rho, thetas = _frozen(raw.rho, problem.shape), _frozen(raw.thetas, (-1, *problem.shape))
        certificate = certify(problem, rho, list(thetas), attacker=attacker)
    return Solution(
        problem=problem,
        rho=rho,
        thetas=tuple(thetas),
        value=certificate.value,
        status=Status.of(certificate, tol),
        certificate=certificate,
        method=raw.method,
        stopped=stopped,
        stats={
            "iterations": float(monitor.iteration),
            "passes": monitor.passes,
            **raw.stats,
            "seconds": seconds,
        },
    )


Solver = Callable[[Problem, FloatArray, FloatArray, Attacker | None, Monitor], Raw]

NATIVE: dict[str, Solver] = {"newton": solve_newton, "lbfgs": solve_lbfgs}


def fits_newton(problem: Problem) -> bool:
    """Return whether the Hessians of all users together are small enough to be formed."""
    numbers = problem.n_users * math.prod(problem.shape) ** 2
    return has_small_models(problem) and numbers <= NEWTON_NUMBERS


def has_small_models(problem: Problem) -> bool:
    """Return whether the Hessian of one user is small enough to be formed."""
    least, greatest = problem.loss.curvature_range
    most = NEWTON_PARAMETERS_CONSTANT if least == greatest else NEWTON_PARAMETERS
    return math.prod(problem.shape) <= most


def _solver_of(method: str, problem: Problem, **options: Any) -> Solver:
    """Return the solver of that name; refuse options that it does not have."""
    if method in NATIVE:
        return NATIVE[method]
    if method == "auto":
        return solve_newton if fits_newton(problem) else solve_lbfgs
    family, _, name = str(method).partition(":")
    if not (method == "cvxpy" or (family == "cvxpy" and name)):
        raise InvalidInputError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    for option, value in options.items():
        if value is not None:
            raise UnsupportedCombinationError(
                f'method "cvxpy" has no {option} (its solvers start where they choose, and tell '
                'nothing on the way): leave it out, or use method="newton"'
            )
    solver = name or "CLARABEL"
    return lambda problem, rho, thetas, attacker, monitor: solve_cvxpy(problem, attacker, solver)


def _starting_point(
    problem: Problem, start: npt.ArrayLike | Solution | None
) -> tuple[FloatArray, FloatArray]:
    """Return rho (p,) and thetas (N, p) to start from."""
    if isinstance(start, Solution):
        rho = problem.check_model("start.rho", start.rho).ravel()
        old = [data.digest for data in start.problem.datasets]
        known = dict(zip(old, start.thetas, strict=True))
        new = [data.digest for data in problem.datasets]
        staying = set(new)
        thetas = [
            known[digest]
            if digest in known
            # Other data in the same place: the same user, unless that one is somewhere else now.
            else start.thetas[n]
            if n < len(old) and old[n] not in staying
            else rho
            for n, digest in enumerate(new)
        ]
        return rho, np.array([theta.ravel() for theta in thetas])
    if start is None:
        rho = np.zeros(math.prod(problem.shape))
    else:
        rho = problem.check_model("start", start).ravel()
    return rho, np.tile(rho, (problem.n_users, 1))


def _frozen(models: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    models = np.ascontiguousarray(models).reshape(shape)
    models.setflags(write=False)
    return models
