"""Solvers behind cvxpy, on the model that the package writes down for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import gplconvex as gc
from gplconvex.solvers import reference
from peers.outcome import Outcome, optional

CVXPY_SETTINGS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "CLARABEL": ({}, {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}),
    "OSQP": ({}, {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iter": 100_000, "polishing": True}),
    "SCS": ({}, {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 100_000}),
    "ECOS": ({}, {"abstol": 1e-12, "reltol": 1e-12, "feastol": 1e-12}),
}
"""Settings to try, the fastest first: the defaults, and tight ones for where these do not suffice."""


def cvxpy_solver(
    problem: gc.Problem,
    solver: str = "CLARABEL",
    *,
    settings: Mapping[str, Any] | None = None,
    rounds: int = 3,
) -> Outcome:
    """Solve with a solver behind cvxpy, on the model that the package writes down for it.

    Parameters
    ----------
    problem : Problem
        Any, as far as the solver takes it.
    solver : str
        The name by which cvxpy knows an installed solver.
    settings : mapping, optional
        Options of the solver, an empty mapping for its defaults. Without them: those of
        ``solve(problem, method="cvxpy:SOLVER")``, which ask Clarabel for more than its defaults.
    rounds : int
        It is run so often, and the fastest run counts: at least 2, so that what is imported and
        compiled on first use does not count.

    Returns
    -------
    Outcome
        ``extra`` holds the solver, its status and iterations, and the certificate.

    Raises
    ------
    MissingDependencyError
        If cvxpy is not installed.
    InvalidInputError
        If the solver is not installed.
    NotSolvedError
        If the solver does not take the problem, or returns no point.

    Notes
    -----
    Counted: the construction of the cvxpy model (a new problem needs a new one), its translation for
    the solver, and the solver. Not counted: the certificate.
    """
    changes = {} if settings is None else {solver: dict(settings)}
    with patch.dict(reference.OPTIONS, changes):
        solutions = [gc.solve(problem, method=f"cvxpy:{solver}") for _ in range(rounds)]
    solution = min(solutions, key=_seconds_of)
    extra = {
        "solver": solver,
        "status": solution.stats["solver_status"],
        "iterations": solution.stats["iterations"],
        "certificate": solution.certificate,
    }
    return Outcome(solution.rho, list(solution.thetas), _seconds_of(solution), extra)


def _seconds_of(solution: gc.Solution) -> float:
    return float(solution.stats["seconds"])


def best_cvxpy_solver(
    problem: gc.Problem,
    solvers: Sequence[str] = ("CLARABEL", "OSQP", "SCS", "ECOS"),
    *,
    tol: float = 1e-6,
    rounds: int = 3,
) -> Outcome:
    """Return what the fastest solver behind cvxpy finds whose point is certified.

    Every installed solver of the list is tried with its default settings and, if its point is not
    certified then, with tight ones (`CVXPY_SETTINGS`). Certified means that `gplconvex.certify` bounds
    the relative gap of the point by ``tol``; what a solver says of itself does not count.

    Parameters
    ----------
    problem : Problem
        Any.
    solvers : sequence of str
        Names of cvxpy; those that are not installed are passed over.
    tol : float
        The relative gap, ``gap / (1 + |F|)``, that must be certified.
    rounds : int
        See `cvxpy_solver`.

    Returns
    -------
    Outcome
        Of the fastest. ``extra`` also holds the ``settings`` and, in ``"attempts"``, for each solver
        its seconds and relative gap, or the sentence that says why there are none.

    Raises
    ------
    MissingDependencyError
        If cvxpy is not installed.
    NotSolvedError
        If no solver finds a certified point.
    """
    installed = optional("cvxpy", "cvxpy").installed_solvers()
    attempts: dict[str, tuple[float, float] | str] = {}
    certified: list[Outcome] = []
    for solver in solvers:
        if solver not in installed:
            attempts[solver] = "not installed"
            continue
        for settings in CVXPY_SETTINGS.get(solver, ({},)):
            try:
                outcome = cvxpy_solver(problem, solver, settings=settings, rounds=rounds)
            except gc.NotSolvedError as error:
                attempts[solver] = str(error)
                continue
            outcome.extra["settings"] = dict(settings)
            gap = outcome.extra["certificate"].relative_gap
            attempts[solver] = outcome.seconds, gap
            if gap <= tol:
                certified.append(outcome)
                break
    if not certified:
        raise gc.NotSolvedError(
            f"no cvxpy solver reached a certified relative gap of {tol:g}: {attempts}",
            solution=None,
        )
    best = min(certified, key=lambda outcome: outcome.seconds)
    best.extra["attempts"] = attempts
    return best
