"""The reference solver: the model written down in cvxpy atoms and handed to an installed solver."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy import sparse

from gplconvex.data import is_sparse
from gplconvex.errors import (
    InvalidInputError,
    MissingDependencyError,
    NotSolvedError,
)
from gplconvex.local_losses import LocalLoss
from gplconvex.participants import Attacker, ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer
from gplconvex.solvers.solution import Raw

OPTIONS = {"CLARABEL": {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}}
"""Clarabel stops at 1e-8 by default, which certifies a distance of 1e-4 only: let it go on."""


def solve_cvxpy(
    problem: Problem, attacker: Attacker | None = None, solver: str = "CLARABEL"
) -> Raw:
    """Solve a problem with an installed cvxpy solver, at the solver's own accuracy.

    Raises
    ------
    MissingDependencyError
        If cvxpy is not installed.
    InvalidInputError
        If the solver is not installed.
    NotSolvedError
        If the solver returns no point at all.
    """
    try:
        import cvxpy as cp
    except ImportError as error:
        raise MissingDependencyError(
            'method "cvxpy" needs cvxpy: install it with pip install "gplconvex[cvxpy]", or use '
            'method="newton"'
        ) from error
    if solver not in cp.installed_solvers():
        raise InvalidInputError(
            f"cvxpy solver must be one of those installed, {cp.installed_solvers()}; got {solver!r}"
        )
    rho = cp.Variable(problem.shape)
    if math.isinf(problem.regularizer.kink):
        thetas = [rho] * problem.n_users  # one model: the same variable, and no term
    else:
        thetas = [cp.Variable(problem.shape) for _ in problem.locals]
    terms: list[Any] = [
        _local(local, theta) for local, theta in zip(problem.locals, thetas, strict=True)
    ]
    constraints: list[Any] = []
    ties = [] if thetas[0] is rho else [(problem.regularizer, rho - theta) for theta in thetas]
    frozen = None
    if isinstance(attacker, ModelAttack):
        ties.append((attacker.regularizer_for(problem), rho - attacker.theta))
        if math.isinf(attacker.regularizer_for(problem).kink):
            frozen = attacker.theta  # what the constraint says, without the solver's rounding
    elif attacker is not None:
        terms.append(attacker.cvxpy_energy(problem, rho))
    for regularizer, u in ties:
        term, constraint = _tie(regularizer, u)
        terms += term
        constraints += constraint
    model = cp.Problem(cp.Minimize(sum(terms)), constraints)
    try:
        with warnings.catch_warnings():
            # How accurate the solution is, the certificate will say.
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            model.solve(solver=solver, **OPTIONS.get(solver, {}))
    except cp.SolverError as error:
        raise NotSolvedError(f"{solver} failed: {error}", solution=None) from error
    if rho.value is None:
        raise NotSolvedError(
            f"{solver} returned no point, status {model.status!r}: with nu = 0 the data may have no "
            "minimizer (separable labels); choose nu > 0",
            solution=None,
        )
    stats = model.solver_stats
    shared = np.array(rho.value, dtype=np.float64) if frozen is None else frozen
    return Raw(
        rho=shared,
        thetas=np.array(
            [shared if theta is rho else theta.value for theta in thetas], dtype=np.float64
        ),
        method=f"cvxpy:{solver}",
        stats={"iterations": float(stats.num_iters or 0), "solver_status": str(model.status)},
    )


def _local(local: LocalLoss, theta: Any) -> Any:
    """Return the local loss as a cvxpy expression."""
    import cvxpy as cp

    terms, data = [local.nu * cp.sum_squares(theta)], local.data
    if data.n_rows:
        ones = np.ones((data.n_rows, int(local.loss.intercept)))
        columns: list[Any] = [data.x, ones]
        design = sparse.hstack(columns) if is_sparse(data.x) else np.hstack(columns)
        terms.append(local.loss.cvxpy_sum(design, data.y, data.counts, theta))
    return sum(terms)


def _tie(regularizer: Regularizer, u: Any) -> tuple[list[Any], list[Any]]:
    """Return the terms and the constraints that tie two models."""
    if math.isinf(regularizer.kink):
        return [], [u == 0]
    return [regularizer.cvxpy_value(u)], []
