"""Hard consensus as one regression on the pooled data, by scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np

import gplconvex as gc
from peers.outcome import Outcome, Stopwatch, optional, refusal


def pooled_scikit_learn(
    problem: gc.Problem,
    solver: str = "newton-cg",
    *,
    tol: float = 1e-8,
    max_iter: int = 10_000,
) -> Outcome:
    r"""Solve hard consensus as one regression on the pooled data, with scikit-learn.

    With all models equal, :math:`F = \sum_i c_i\,\varphi(\theta^\top x_i, y_i) + S |\theta|^2` over all
    points, :math:`S = \sum_n \nu_n`. The same objective, up to a factor, in scikit-learn's words:

    ===================  ============================================  ============================
    loss                 scikit-learn minimizes                        so that
    ===================  ============================================  ============================
    softmax (K > 2)      C sum loss + 1/2 \|w\|^2                      C = 1 / (2 S)
    logistic             C sum loss + 1/2 \|w\|^2                      C = 1 / (2 S)
    softmax (K = 2)      the same, theta = (-w / 2, w / 2)             C = 1 / S
    least squares        \|y - X w\|^2 + alpha \|w\|^2                 alpha = 2 S
    ===================  ============================================  ============================

    scikit-learn does not penalize an intercept of its own; ours has the ridge, so that it is a column
    of ones appended to X.

    Parameters
    ----------
    problem : Problem
        With `HardConsensus`; `Softmax` with labels that are classes, `Logistic` or `LeastSquares`.
    solver : {"newton-cg", "lbfgs", "newton-cholesky"}
        That of ``LogisticRegression``. Least squares take ``Ridge(solver="cholesky")`` whatever it says.
    tol : float
        That of ``LogisticRegression``: about the largest entry of the gradient of the *mean* objective.
    max_iter : int
        That of ``LogisticRegression``.

    Returns
    -------
    Outcome
        ``extra`` holds the solver, its iterations and its warnings, an empty list if it converged.

    Raises
    ------
    UnsupportedCombinationError
        For another regularizer or loss, for label distributions, or if a class has no points.
    MissingDependencyError
        If scikit-learn is not installed.

    Notes
    -----
    Counted: ``fit``, with its own checks of the data. Not counted: pooling the data (a C-contiguous
    float64 array, which is what these solvers want: they copy others) and a fit of a few numbers, which
    loads what is loaded on first use. BLAS has all its threads.
    """
    linear_model = optional("sklearn.linear_model", "scikit-learn")
    takes = "HardConsensus with Softmax (of classes), Logistic or LeastSquares"
    classes = [-1.0, 1.0]
    match problem.loss:
        case gc.Softmax(n_classes=k) if all(user.y.ndim == 1 for user in problem.datasets):
            classes = list(range(k))
        case gc.Logistic() | gc.LeastSquares():
            pass
        case _:
            raise refusal("scikit-learn", problem, takes)
    if not isinstance(problem.regularizer, gc.HardConsensus):
        raise refusal("scikit-learn", problem, takes)
    users, ridge = problem.datasets, float(problem.nu.sum())
    x = np.empty((sum(user.n_rows for user in users), problem.shape[0]))
    np.concatenate([user.x for user in users], out=x[:, : problem.n_features])
    x[:, problem.n_features :] = 1.0
    y = np.concatenate([user.y for user in users])
    counts = np.concatenate([user.counts for user in users]).astype(np.float64)
    weights = counts if counts.max(initial=1.0) > 1.0 else None
    if isinstance(problem.loss, gc.LeastSquares):
        solver = "cholesky"
        model = linear_model.Ridge(alpha=2.0 * ridge, fit_intercept=False, solver=solver)
        few = np.arange(len(y)) < 2
    else:
        absent = set(classes).difference(y.tolist())
        if absent:
            raise gc.UnsupportedCombinationError(
                f"scikit-learn knows the classes that it meets; no point has {sorted(absent)}"
            )
        if isinstance(problem.loss, gc.Softmax) and len(classes) == 2:
            ridge *= 0.5  # as |w / 2|^2 + |w / 2|^2 = |w|^2 / 2
        model = linear_model.LogisticRegression(
            C=0.5 / ridge if ridge > 0.0 else math.inf,
            fit_intercept=False,
            solver=solver,
            tol=tol,
            max_iter=max_iter,
        )
        few = np.zeros(len(y), dtype=bool)
        few[[int(np.argmax(y == label)) for label in classes]] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x[few, :2], y[few])
        caught.clear()
        clock = Stopwatch()
        model.fit(x, y, sample_weight=weights)
        seconds = clock.seconds
    coefficients = np.asarray(model.coef_, dtype=np.float64)
    if isinstance(problem.loss, gc.Softmax) and len(classes) == 2:
        coefficients = 0.5 * np.vstack([-coefficients, coefficients])
    rho = np.ascontiguousarray(coefficients.T.reshape(problem.shape))
    iterations = np.max(model.n_iter_) if model.n_iter_ is not None else 1
    extra = {
        "solver": solver,
        "iterations": int(iterations),
        "warnings": [str(warning.message) for warning in caught],
    }
    return Outcome(rho, [rho] * problem.n_users, seconds, extra)
