"""The training of the published experiments, in PyTorch: Adam, float32."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import gplconvex as gc
from peers.outcome import CORES, FloatArray, Outcome, Stopwatch, Watch, optional, refusal


def _torch() -> Any:
    return optional("torch", "torch")


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
        raise refusal("the published protocol", problem, "Softmax without hard consensus")
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
        clock = Stopwatch()
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
