r"""What other tools do on the problem of this package, each set up as well as it can be.

=========================  ==========================================================================
`published_protocol`       the training of the published experiments, in PyTorch: Adam, float32
`pooled_scikit_learn`      hard consensus as one regression on the pooled data, by scikit-learn
`joint_lbfgs`              scipy's L-BFGS on all models together
`cvxpy_solver`             one solver behind cvxpy; `best_cvxpy_solver` tries several
=========================  ==========================================================================

Each returns an `Outcome`: float64 models in the shapes of `gplconvex.Problem`, so that
`gplconvex.certify` judges all of them alike, and the seconds that the tool itself took; its docstring
says what is counted.

The objective is, with sums over points and not means,

.. math:: F(\rho, \theta) = \sum_n \Big[\nu_n |\theta_n|^2 + \sum_i c_i\,\varphi(\theta_n^\top x_i, y_i)
          + r(\rho - \theta_n)\Big].
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

import gplconvex as gc
from gplconvex.solvers import reference

FloatArray = npt.NDArray[np.float64]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""


class Outcome(NamedTuple):
    """What a tool returned.

    Attributes
    ----------
    rho : array
        The global model, float64, of shape ``problem.shape``.
    thetas : list of arrays
        The personal models, likewise.
    seconds : float
        How long the tool took; each function says what is counted.
    extra : dict
        What the tool says of itself.
    """

    rho: FloatArray
    thetas: list[FloatArray]
    seconds: float
    extra: dict[str, Any]


Watch = Callable[[int, float, FloatArray, list[FloatArray]], object]
"""Called as ``watch(iteration, seconds, rho, thetas)``; what it returns is kept in ``"history"``."""


class _Stopwatch:
    """Seconds since it was made, less those spent in `paused`."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @contextmanager
    def paused(self) -> Iterator[float]:
        """Stop the watch; gives the seconds that it shows."""
        stopped = time.perf_counter()
        yield stopped - self._began
        self._began += time.perf_counter() - stopped


def _import(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise gc.MissingDependencyError(
            f"this comparison needs {install}: install it with pip install {install}"
        ) from error


def _torch() -> Any:
    return _import("torch", "torch")


def _refuse(tool: str, problem: gc.Problem, takes: str) -> gc.UnsupportedCombinationError:
    return gc.UnsupportedCombinationError(
        f"{tool} takes {takes}; got {problem.loss!r} with {problem.regularizer!r}"
    )


# -- the published experiments -----------------------------------------------------------------------

STACKED_AT_A_TIME = 2**22
"""Numbers of x in one batched product: 16 MB are still in the cache for the product that follows."""


def published_protocol(
    problem: gc.Problem,
    epochs: int = 250,
    *,
    style: str = "published",
    rate: float = 0.02,
    decay: float = 0.99,
    least_rate: float = 0.005,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Outcome:
    r"""Train as the published experiments do: full-batch Adam in float32 on all models at once.

    One epoch computes the gradient of F over all points of all users, and takes one step of Adam in
    every model, the server's included. The rate is multiplied by ``decay`` before each step, the first
    one too, unless that would make it less than ``least_rate``. All models start at 0; the published
    ones start at random, which is of no help to a convex problem, and differs from run to run.

    Parameters
    ----------
    problem : Problem
        With `Softmax`, and a regularizer other than `HardConsensus`. The published experiments have
        no ridge; here it is added to the objective where nu > 0.
    epochs : int
        Number of epochs: 250 (200 in some of the experiments) are published.
    style : {"published", "tuned"}
        ``"published"``: written as such scripts are: one `torch.nn.Linear` and one optimizer a model, a
        Python loop over the users, ``cross_entropy(reduction="sum")`` and automatic differentiation.
        ``"tuned"``: the same steps, up to rounding, as fast as PyTorch can be made to take them: all
        users in batched products (classes first, which is the fast order for so few of them; a few rows
        of every user at a time, so that x is read from memory once an epoch), gradients written down,
        and one fused Adam. Users with fewer rows than others are padded with rows that do not count.
    rate, decay, least_rate : float
        The schedule of learning rates.
    threads : int, optional
        Threads of PyTorch; default: all cores. Put back afterwards.
    watch : callable, optional
        Called after every epoch with its number from 1, the seconds so far and the models.

    Returns
    -------
    Outcome
        ``extra`` holds epochs, passes over the data (one an epoch), threads, the last rate, and the
        history if there is a ``watch``.

    Raises
    ------
    UnsupportedCombinationError
        For another loss, or hard consensus.
    MissingDependencyError
        If PyTorch is not installed.

    Notes
    -----
    Counted: making the models and the optimizers, and all epochs. Not counted: converting the data to
    float32 tensors (and stacking them), two epochs on one point that load what PyTorch loads on first
    use, the time spent in ``watch`` and in converting models for it, and the conversion of the result.
    The published scripts also measure accuracies after every epoch, point by point in a Python loop;
    the seconds that they print include that, the seconds here do not.

    The two styles agree to rounding in every gradient, less closely in the models: Adam steps as far
    where a gradient is rounding alone (a sum that would cancel, a direction without influence) as it
    does anywhere.

    Source: S. Farhadkhani, R. Guerraoui, L.-N. Hoang, O. Villemaud, *An Equivalence Between Data
    Poisoning and Byzantine Gradient Attacks*, ICML 2022, and the notebooks published with it.
    """
    torch = _torch()
    if not isinstance(problem.loss, gc.Softmax) or isinstance(
        problem.regularizer, gc.HardConsensus
    ):
        raise _refuse("the published protocol", problem, "Softmax without hard consensus")
    trainers: dict[str, type[_Trainer]] = {"published": _LoopTrainer, "tuned": _StackedTrainer}
    if style not in trainers:
        raise gc.InvalidInputError(f"style must be one of {list(trainers)}; got {style!r}")
    trainer = trainers[style]
    rates = list(_rates(epochs, rate, decay, least_rate))
    before = torch.get_num_threads()
    torch.set_num_threads(threads or CORES)
    try:
        _warm_up(problem, trainer)
        data = trainer.convert(problem)
        history: list[object] = []
        clock = _Stopwatch()
        training = trainer(problem, data)
        for epoch, current in enumerate(rates, start=1):
            training.step(current)
            if watch is not None:
                with clock.paused() as seconds:
                    history.append(watch(epoch, seconds, *training.models()))
        seconds = clock.seconds
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    extra: dict[str, Any] = {
        "style": style,
        "epochs": epochs,
        "passes": epochs,
        "threads": used,
        "last_rate": rates[-1] if rates else rate,
    }
    if watch is not None:
        extra["history"] = history
    rho, thetas = training.models()
    return Outcome(rho, thetas, seconds, extra)


def _rates(epochs: int, rate: float, decay: float, least: float) -> Iterator[float]:
    """Yield the learning rate of each epoch."""
    for _ in range(epochs):
        if rate * decay >= least:
            rate *= decay
        yield rate


def _warm_up(problem: gc.Problem, trainer: type[_Trainer]) -> None:
    """Let PyTorch load and start what it does on first use (seconds)."""
    tiny = gc.Problem(problem.loss, problem.regularizer, [([[1.0]], [0])], nu=1.0)
    training = trainer(tiny, trainer.convert(tiny))
    for _ in range(2):
        training.step(0.01)


class _Trainer(ABC):
    """Models under training, all of them 0 at first, on data as `convert` returns them."""

    @abstractmethod
    def __init__(self, problem: gc.Problem, data: Any) -> None: ...

    @staticmethod
    @abstractmethod
    def convert(problem: gc.Problem) -> Any:
        """Return the data as float32 tensors."""

    @abstractmethod
    def step(self, rate: float) -> None:
        """Take one epoch."""

    @abstractmethod
    def models(self) -> tuple[FloatArray, list[FloatArray]]:
        """Return rho and the thetas as the package has them."""


class _LoopTrainer(_Trainer):
    """The protocol as a script has it: a module and an optimizer a model, one graph of the loss."""

    def __init__(self, problem: gc.Problem, data: Any) -> None:
        torch = _torch()
        d, (_, k) = problem.n_features, problem.shape
        self.data = data
        self.nu = problem.nu.tolist()
        self.tie = _tie_of(problem.regularizer)
        self.server, *self.users = [
            torch.nn.Linear(d, k, bias=problem.loss.intercept) for _ in range(problem.n_users + 1)
        ]
        for model in (self.server, *self.users):
            for parameter in model.parameters():
                torch.nn.init.zeros_(parameter)
        self.optimizers = [
            torch.optim.Adam(model.parameters()) for model in (self.server, *self.users)
        ]

    @staticmethod
    def convert(problem: gc.Problem) -> Any:
        """Return x, y and the multiplicities (None: all are 1) of every user."""
        torch, data = _torch(), []
        for user in problem.datasets:
            several = user.counts.max(initial=1) > 1
            x = torch.tensor(user.x, dtype=torch.float32)
            y = torch.tensor(user.y, dtype=torch.int64 if user.y.ndim == 1 else torch.float32)
            data.append((x, y, torch.tensor(user.counts, dtype=torch.float32) if several else None))
        return data

    def step(self, rate: float) -> None:
        """Take one epoch."""
        cross_entropy = _torch().nn.functional.cross_entropy
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
        loss: Any = 0.0
        for (x, y, counts), nu, model in zip(self.data, self.nu, self.users, strict=True):
            if counts is None:
                loss = loss + cross_entropy(model(x), y, reduction="sum")
            else:
                loss = loss + counts @ cross_entropy(model(x), y, reduction="none")
            if nu > 0.0:
                loss = loss + nu * sum(p.square().sum() for p in model.parameters())
            loss = loss + self.tie(self.server, model)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()

    def models(self) -> tuple[FloatArray, list[FloatArray]]:
        """Return rho and the thetas as the package has them."""
        rho, *thetas = [
            np.vstack([p.detach().double().numpy().T.reshape(-1, p.shape[0]) for p in parameters])
            for parameters in (list(model.parameters()) for model in (self.server, *self.users))
        ]
        return rho, thetas


def _tie_of(regularizer: gc.Regularizer) -> Callable[[Any, Any], Any]:
    """Return r(rho - theta) of two modules."""
    torch = _torch()

    def squares(rho: Any, theta: Any) -> Any:
        pairs = zip(rho.parameters(), theta.parameters(), strict=True)
        return sum((a - b).square().sum() for a, b in pairs)

    def length(rho: Any, theta: Any) -> Any:
        pairs = zip(rho.parameters(), theta.parameters(), strict=True)
        # Unlike the root of a sum, it has the gradient 0 where the models coincide: at the start.
        return torch.linalg.vector_norm(torch.cat([(a - b).flatten() for a, b in pairs]))

    match regularizer:
        case gc.SquaredL2(lam=lam):
            return lambda rho, theta: lam * squares(rho, theta)
        case gc.L2(lam=lam):
            return lambda rho, theta: lam * length(rho, theta)
        case gc.SmoothL2(lam=lam, delta=delta):
            return lambda rho, theta: lam * (delta**2 + squares(rho, theta)).sqrt()
    raise gc.UnsupportedCombinationError(f"the published protocol has no {regularizer!r}")


class _StackedTrainer(_Trainer):
    """The same steps, all users in one array."""

    def __init__(self, problem: gc.Problem, data: Any) -> None:
        torch = _torch()
        d, (_, k) = problem.n_features, problem.shape
        self.x, self.y, self.counts = data  # (N, m, d), (N, K, m), (N, 1, m) or None
        self.nu = torch.tensor(problem.nu, dtype=torch.float32)[:, None, None]
        self.slope = _slope_of(problem.regularizer)
        self.intercept = problem.loss.intercept
        self.weights = torch.zeros(problem.n_users + 1, k, d)  # the server's first
        self.biases = torch.zeros(problem.n_users + 1, k, 1)
        parameters = [self.weights, self.biases] if self.intercept else [self.weights]
        self.optimizer = torch.optim.Adam(parameters, fused=True)
        self.weights.grad = torch.zeros_like(self.weights)
        self.biases.grad = torch.zeros_like(self.biases)
        self.rows = max(1, STACKED_AT_A_TIME // (problem.n_users * max(1, d)))

    @staticmethod
    def convert(problem: gc.Problem) -> Any:
        """Return x (N, m, d), label distributions (N, K, m) and multiplicities, stacked."""
        torch = _torch()
        users, (_, k) = problem.datasets, problem.shape
        n, m = len(users), max(user.n_rows for user in users)
        x = torch.zeros(n, m, problem.n_features)
        y = torch.zeros(n, k, m)
        counts = torch.zeros(n, 1, m)
        for i, user in enumerate(users):
            labels = np.eye(k)[user.y.astype(np.intp)] if user.y.ndim == 1 else user.y
            x[i, : user.n_rows] = torch.tensor(user.x)
            y[i, :, : user.n_rows] = torch.tensor(labels.T)
            counts[i, 0, : user.n_rows] = torch.tensor(user.counts)
        return x, y, None if bool((counts == 1.0).all()) else counts

    def step(self, rate: float) -> None:
        """Take one epoch."""
        torch = _torch()
        weights, biases = self.weights[1:], self.biases[1:]
        u, v = self.weights[:1] - weights, self.biases[:1] - biases
        length = (u.square().sum((1, 2), keepdim=True) + v.square().sum(1, keepdim=True)).sqrt()
        slope = self.slope(length)
        u *= slope
        v *= slope
        grad, bias_grad = self.weights.grad[1:], self.biases.grad[1:]
        torch.sum(u, 0, out=self.weights.grad[0])
        torch.sum(v, 0, out=self.biases.grad[0])
        torch.sub(2.0 * self.nu * weights, u, out=grad)
        torch.sub(2.0 * self.nu * biases, v, out=bias_grad)
        for start in range(0, self.x.shape[1], self.rows):
            rows = slice(start, start + self.rows)
            x = self.x[:, rows]
            z = torch.baddbmm(biases, weights, x.transpose(1, 2))
            residual = torch.softmax(z, 1)
            residual -= self.y[:, :, rows]
            if self.counts is not None:
                residual *= self.counts[:, :, rows]
            grad.baddbmm_(residual, x)
            bias_grad += residual.sum(2, keepdim=True)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()

    def models(self) -> tuple[FloatArray, list[FloatArray]]:
        """Return rho and the thetas as the package has them."""
        torch = _torch()
        parts = [self.weights, self.biases] if self.intercept else [self.weights]
        models = torch.cat(parts, 2).double().numpy()
        rho, *thetas = [np.ascontiguousarray(model.T) for model in models]
        return rho, thetas


def _slope_of(regularizer: gc.Regularizer) -> Callable[[Any], Any]:
    """Return r'(t) / t of a tensor of lengths t; at a kink 0."""
    match regularizer:
        case gc.SquaredL2(lam=lam):
            return lambda t: 2.0 * lam
        case gc.L2(lam=lam):
            return lambda t: lam / t.where(t > 0.0, math.inf)
        case gc.SmoothL2(lam=lam, delta=delta):
            return lambda t: lam / (delta**2 + t.square()).sqrt()
    raise gc.UnsupportedCombinationError(f"the published protocol has no {regularizer!r}")


# -- scikit-learn ------------------------------------------------------------------------------------


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
    linear_model = _import("sklearn.linear_model", "scikit-learn")
    takes = "HardConsensus with Softmax (of classes), Logistic or LeastSquares"
    classes = [-1.0, 1.0]
    match problem.loss:
        case gc.Softmax(n_classes=k) if all(user.y.ndim == 1 for user in problem.datasets):
            classes = list(range(k))
        case gc.Logistic() | gc.LeastSquares():
            pass
        case _:
            raise _refuse("scikit-learn", problem, takes)
    if not isinstance(problem.regularizer, gc.HardConsensus):
        raise _refuse("scikit-learn", problem, takes)
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
        clock = _Stopwatch()
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


# -- L-BFGS ------------------------------------------------------------------------------------------

ROWS_AT_A_TIME = 2**19
"""Numbers of x in one product: 4 MB, still in the cache for the product that follows."""

WORTH_A_THREAD = 2**18
"""Numbers of x in all, below which one thread is faster than several."""


class _Part(NamedTuple):
    """A few rows of one user; ``counts`` is None where all are 1."""

    user: int
    x: FloatArray
    y: FloatArray
    counts: FloatArray | None


def joint_lbfgs(
    problem: gc.Problem,
    maxiter: int = 10_000,
    tol: float = 1e-6,
    *,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Outcome:
    r"""Minimize F over rho and all thetas together, with scipy's L-BFGS-B (20 pairs, float64).

    One evaluation of F and its gradient is one pass over the data: a product with x and one with its
    transpose. Models are kept (K, d), which makes both products of a wide matrix and x as it lies; they
    take a few rows at a time, the second while these are in the cache, on all cores, each with a BLAS of
    one thread.

    Parameters
    ----------
    problem : Problem
        With `Softmax`, `Logistic` or `LeastSquares`, and `SquaredL2` or `SmoothL2`.
    maxiter : int
        The largest number of iterations.
    tol : float
        The method stops when no entry of the gradient of F exceeds this (``gtol``), or when rounding
        lets it get no further. A small decrease of F is no reason to stop here (``ftol = 0``).
    threads : int, optional
        Default: all cores.
    watch : callable, optional
        Called after every iteration with its number from 1, the seconds so far and the models.

    Returns
    -------
    Outcome
        ``extra`` holds the passes over the data, the iterations, scipy's message, the largest entry of
        the gradient, and the history if there is a ``watch``.

    Raises
    ------
    UnsupportedCombinationError
        For another loss, or a regularizer that is not differentiable.

    Notes
    -----
    Counted: everything from the first evaluation to the end. Not counted: the time spent in ``watch``,
    and the conversion of the result. Nothing is converted before: x is used where it is.
    """
    kernel = _KERNELS.get(type(problem.loss))
    if kernel is None or not isinstance(problem.regularizer, (gc.SquaredL2, gc.SmoothL2)):
        takes = "Softmax, Logistic or LeastSquares, with SquaredL2 or SmoothL2"
        raise _refuse("joint L-BFGS", problem, takes)
    n, d, p = problem.n_users, problem.n_features, problem.shape[0]
    shape = (n + 1, math.prod(problem.shape[1:]), p)
    parts = list(_parts(problem))
    ridge = problem.nu[:, None, None]
    history: list[object] = []
    passes = 0

    def one_part(part: _Part, thetas: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        theta = thetas[part.user]
        z = theta[:, :d] @ part.x.T
        z += theta[:, d:].sum(axis=1, keepdims=True)  # the intercept, or nothing
        values, residual = kernel(z, part.y)
        if part.counts is not None:
            values = values * part.counts
            residual *= part.counts
        return float(values.sum()), residual @ part.x, residual.sum(axis=1, keepdims=True)

    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads or CORES) as pool,
    ):
        many = sum(part.x.size for part in parts) >= WORTH_A_THREAD and (threads or CORES) > 1
        each = pool.map if many else map

        def evaluate(point: FloatArray) -> tuple[float, FloatArray]:
            nonlocal passes
            passes += 1
            models = point.reshape(shape)
            rho, thetas = models[0], models[1:]
            u = (rho - thetas).reshape(n, -1)
            reports = problem.regularizer.gradient(u).reshape(thetas.shape)
            gradient = np.empty(shape)
            gradient[0] = reports.sum(axis=0)
            gradient[1:] = 2.0 * ridge * thetas - reports
            values = [*problem.regularizer.value(u), float(np.sum(ridge * thetas**2))]
            found = each(one_part, parts, itertools.repeat(thetas))
            for part, (value, features, ones) in zip(parts, found, strict=True):
                values.append(value)
                gradient[1 + part.user, :, :d] += features
                gradient[1 + part.user, :, d:] += ones
            return math.fsum(values), gradient.ravel()

        def callback(xk: FloatArray) -> None:
            if watch is not None:
                with clock.paused() as seconds:
                    models = _models_of(problem, xk.reshape(shape))
                    history.append(watch(len(history) + 1, seconds, *models))

        clock = _Stopwatch()
        result = minimize(
            evaluate,
            np.zeros(math.prod(shape)),
            method="L-BFGS-B",
            jac=True,
            callback=callback,
            options={
                "maxcor": 20,
                "maxiter": maxiter,
                "maxfun": 100 * maxiter,
                "gtol": tol,
                "ftol": 0.0,
            },
        )
        seconds = clock.seconds
    extra: dict[str, Any] = {
        "passes": passes,
        "iterations": int(result.nit),
        "message": str(result.message),
        "largest_gradient": float(np.max(np.abs(result.jac))),
    }
    if watch is not None:
        extra["history"] = history
    rho, thetas = _models_of(problem, result.x.reshape(shape))
    return Outcome(rho, thetas, seconds, extra)


def _parts(problem: gc.Problem) -> Iterator[_Part]:
    """Yield all rows of all users, a few at a time."""
    rows = max(1, ROWS_AT_A_TIME // max(1, problem.n_features))
    for user, data in enumerate(problem.datasets):
        counts = data.counts.astype(np.float64) if data.counts.max(initial=1) > 1 else None
        for start in range(0, data.n_rows, rows):
            some = slice(start, start + rows)
            yield _Part(user, data.x[some], data.y[some], None if counts is None else counts[some])


def _models_of(problem: gc.Problem, models: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
    """Return rho and the thetas from an array (N + 1, K, p), copied."""
    rho, *thetas = [np.array(model.T.reshape(problem.shape), order="C") for model in models]
    return rho, thetas


# Takes predictors (K, m), which it may overwrite, and labels; returns the values of the loss (m,) and
# its residuals (K, m).
_Kernel = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


def _softmax(z: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    z -= z.max(axis=0)
    rows = np.arange(z.shape[1])
    labels = y.astype(np.intp) if y.ndim == 1 else None
    # Copies both: z becomes the residual.
    own = np.einsum("km,mk->m", z, y) if labels is None else z[labels, rows]
    p = np.exp(z, out=z)
    total = p.sum(axis=0)
    p /= total
    if labels is None:
        p -= y.T
    else:
        p[labels, rows] -= 1.0
    return np.log(total) - own, p


def _logistic(z: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    t = -y * z[0]
    values = np.logaddexp(0.0, t)
    return values, (-y * np.exp(t - values))[None]  # exp(t) / (1 + exp(t)), without overflow


def _least_squares(z: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    z -= y
    return 0.5 * z[0] ** 2, z


_KERNELS: Mapping[type[gc.Loss], _Kernel] = {
    gc.Softmax: _softmax,
    gc.Logistic: _logistic,
    gc.LeastSquares: _least_squares,
}


# -- cvxpy -------------------------------------------------------------------------------------------

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
    installed = _import("cvxpy", "cvxpy").installed_solvers()
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
