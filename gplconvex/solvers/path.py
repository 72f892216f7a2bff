"""`solve_path`: one problem for many values of lam or nu, each solved from the solution before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.participants import Attacker
from gplconvex.problem import Problem, check_problem
from gplconvex.solvers import Progress, Solution, solve


def solve_path(
    problem: Problem,
    *,
    lam: Sequence[float] | None = None,
    nu: Sequence[float] | None = None,
    method: str = "auto",
    tol: float = 1e-9,
    attacker: Attacker | None = None,
    progress: Callable[[Progress], object] | None = None,
    time_limit: float | None = None,
) -> tuple[Solution, ...]:
    r"""Solve a problem for several values of :math:`\lambda` or :math:`\nu`, one after the other.

    Each native solution starts where the one before ended. Neighbouring values are cheap, so give them
    in order.

    Parameters
    ----------
    problem : Problem
        What to solve; its own lam or nu does not count.
    lam : sequence of float, optional
        Values of the regularizer's strength.
    nu : sequence of float, optional
        Values of the ridge, common to all users. Give one of the two.
    method, tol, attacker, progress
        As for `solve`.
    time_limit : float, optional
        As for `solve`, for each value.

    Returns
    -------
    tuple of Solution
        One a value, in their order, each with its certificate; fewer after an interrupt (Ctrl-C), the
        last one then being what was reached.

    Raises
    ------
    InvalidInputError
        Unless one of ``lam`` and ``nu`` is given, with values that are allowed: before any is solved.
    UnsupportedCombinationError
        For ``lam`` with a regularizer that has none (hard consensus).

    Examples
    --------
    >>> from gplconvex.losses import LeastSquares
    >>> from gplconvex.regularizers import SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [([[1.0]], [2.0]), ([[1.0]], [4.0])])
    >>> [float(s.thetas[0][0].round(6)) for s in solve_path(problem, lam=[0.5, 50.0])]
    [2.5, 2.990099]
    """
    check_problem(problem)
    values = nu if lam is None else lam
    if values is None or (lam is not None and nu is not None) or len(values) == 0:
        raise InvalidInputError(
            f"give a sequence of values for one of lam and nu; got lam = {lam!r}, nu = {nu!r}"
        )
    regularizer: Any = problem.regularizer
    if lam is not None and "lam" not in {field.name for field in fields(regularizer)}:
        raise UnsupportedCombinationError(f"{regularizer!r} has no lam: give nu instead")
    problems = [
        Problem(problem.loss, regularizer, problem.datasets, value)
        if lam is None
        else Problem(problem.loss, replace(regularizer, lam=value), problem.datasets, problem.nu)
        for value in values
    ]
    found: list[Solution] = []
    for one in problems:
        start = found[-1] if found and not method.startswith("cvxpy") else None
        found.append(
            solve(
                one,
                method=method,
                tol=tol,
                start=start,
                attacker=attacker,
                progress=progress,
                time_limit=time_limit,
            )
        )
        if found[-1].stopped == "interrupted":
            break
    return tuple(found)
