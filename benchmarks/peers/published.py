"""The training of the published experiments, in PyTorch: Adam, float32."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import gplconvex as gc
from gplconvex.experiments.training import Report
from peers.outcome import CORES, FloatArray, Outcome, Stopwatch, Watch, optional, refusal


def _torch() -> Any:
    return optional("torch", "torch")


def torch_devices() -> tuple[str, ...]:
    """Return where PyTorch can train here: "cpu", which is also said without PyTorch, and "cuda"."""
    try:
        has_cuda = bool(_torch().cuda.is_available())
    except gc.MissingDependencyError:
        has_cuda = False
    return ("cpu", "cuda") if has_cuda else ("cpu",)


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
    device: str = "cpu",
    report: Report | None = None,
    start: tuple[FloatArray, FloatArray] | None = None,
    test: tuple[FloatArray, npt.ArrayLike] | None = None,
    watch: Watch | None = None,
) -> Outcome:
    r"""Train as the published experiments do: full-batch Adam in float32 on all models at once.

    One epoch computes the gradient of F over all points of all users, and takes one step of Adam in
    every model, the server's included. The rate is multiplied by ``decay`` before each step, the first
    one too, unless that would make it less than ``least_rate``. All models start at 0 if nothing else is
    said; the published ones start at random, which is of no help to a convex problem, and differs from
    run to run.

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
    device : str
        Where PyTorch trains: ``"cpu"`` or ``"cuda"``; see `torch_devices`.
    report : callable, optional
        What a liar without data adds to the gradient of the server, as in
        `gplconvex.experiments.training`.
    start : pair of arrays, optional
        rho and thetas (N, *shape of a model) before the first epoch.
    test : pair of arrays, optional
        Inputs and labels of test points, on which the accuracies of the server's model and of the first
        user's are measured after every epoch: point by point in a Python loop, as the published scripts
        do it, and counted, as the seconds that they print count it. Only ``"published"``.
    watch : callable, optional
        Called after every epoch with its number from 1, the seconds so far and the models.

    Returns
    -------
    Outcome
        ``extra`` holds epochs, passes over the data (one an epoch), threads, device, the last rate, the
        history if there is a ``watch``, and the accuracies (epochs, 2) if there is a ``test``.

    Raises
    ------
    UnsupportedCombinationError
        For another loss, or hard consensus.
    InvalidInputError
        For an unknown style, and for a ``test`` beside ``"tuned"``.
    MissingDependencyError
        If PyTorch is not installed.

    Notes
    -----
    Counted: making the models and the optimizers, all epochs, and the reports of a liar. Not counted:
    converting the data to float32 tensors on the device (and stacking them), two epochs on one point
    that load what PyTorch loads on first use, the time spent in ``watch`` and in converting models for
    it, and the conversion of the result.

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
    if test is not None and style != "published":
        raise gc.InvalidInputError(f'test is for style "published"; got {style!r}: leave it out')
    trainer = trainers[style]
    rates = list(_rates(epochs, rate, decay, least_rate))
    before = torch.get_num_threads()
    torch.set_num_threads(threads or CORES)
    try:
        _warm_up(problem, trainer, device)
        data = trainer.convert(problem, device)
        scores = None if test is None else _Scores(*test, device)
        _finish(device)
        history: list[object] = []
        clock = Stopwatch()
        training = trainer(problem, data, device, start)
        for epoch, current in enumerate(rates, start=1):
            training.step(current, report)
            if scores is not None:
                scores.add(training.modules[:2])
            if watch is not None:
                _finish(device)
                with clock.paused() as seconds:
                    history.append(watch(epoch, seconds, *training.models()))
        _finish(device)
        seconds = clock.seconds
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    extra: dict[str, Any] = {
        "style": style,
        "epochs": epochs,
        "passes": epochs,
        "threads": used,
        "device": device,
        "last_rate": rates[-1] if rates else rate,
    }
    if watch is not None:
        extra["history"] = history
    if scores is not None:
        extra["accuracies"] = scores.found
    rho, thetas = training.models()
    return Outcome(rho, thetas, seconds, extra)


def _rates(epochs: int, rate: float, decay: float, least: float) -> Iterator[float]:
    """Yield the learning rate of each epoch."""
    for _ in range(epochs):
        if rate * decay >= least:
            rate *= decay
        yield rate


def _warm_up(problem: gc.Problem, trainer: type[_Trainer], device: str) -> None:
    """Let PyTorch load and start what it does on first use (seconds)."""
    tiny = gc.Problem(problem.loss, problem.regularizer, [([[1.0]], [0])], nu=1.0)
    training = trainer(tiny, trainer.convert(tiny, device), device, None)
    for _ in range(2):
        training.step(0.01, None)


def _finish(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device != "cpu":
        _torch().cuda.synchronize()


class _Scores:
    """The accuracies of a few models after every epoch."""

    def __init__(self, x: FloatArray, y: npt.ArrayLike, device: str) -> None:
        self.x = _torch().tensor(x, dtype=_torch().float32, device=device)
        self.y = np.asarray(y).astype(int).tolist()
        self.found: list[list[float]] = []

    def add(self, modules: list[Any]) -> None:
        """Measure them."""
        self.found.append([self._accuracy(module) for module in modules])

    def _accuracy(self, module: Any) -> float:
        likeliest = module(self.x).argmax(1)
        right = sum(int(one == label) for one, label in zip(likeliest, self.y, strict=True))
        return right / len(self.y)


Start = tuple[FloatArray, FloatArray] | None


class _Trainer(ABC):
    """Models under training, from 0 or a start, on data as `convert` returns them."""

    others: FloatArray | float = 0.0
    """The sum of the users' reports in the epoch before."""

    @abstractmethod
    def __init__(self, problem: gc.Problem, data: Any, device: str, start: Start) -> None: ...

    @staticmethod
    @abstractmethod
    def convert(problem: gc.Problem, device: str) -> Any:
        """Return the data as float32 tensors."""

    def step(self, rate: float, report: Report | None) -> None:
        """Take one epoch."""
        self.differentiate()
        if report is not None:
            values, gradients = zip(*self.server(), strict=True)
            rho, others = _as_model(values), _as_model(gradients)
            before = np.zeros_like(rho) if isinstance(self.others, float) else self.others
            sent = np.asarray(report(rho, before, rate))
            self.others = others
            for gradient, part in zip(gradients, _as_parameters(sent, gradients), strict=True):
                gradient += part
        self.descend(rate)

    @abstractmethod
    def server(self) -> list[tuple[Any, Any]]:
        """Return the parameters of the server, (K, d) and, with an intercept, (K,), with gradients."""

    @abstractmethod
    def differentiate(self) -> None:
        """Compute the gradient of F."""

    @abstractmethod
    def descend(self, rate: float) -> None:
        """Take a step of Adam in all models."""

    @abstractmethod
    def models(self) -> tuple[FloatArray, list[FloatArray]]:
        """Return rho and the thetas as the package has them."""


def _as_model(parameters: Any) -> FloatArray:
    """Return weights (K, d) and biases (K,) as one model (d + 1, K), float64."""
    rows = [p.detach().cpu().double().numpy().T.reshape(-1, p.shape[0]) for p in parameters]
    return np.vstack(rows)


def _as_parameters(model: FloatArray, like: Any) -> list[Any]:
    """Return the opposite of `_as_model`, tensors as the given ones are."""
    parts = np.split(np.asarray(model, dtype=np.float32), [like[0].shape[1]])
    return [
        _torch().from_numpy(np.ascontiguousarray(part.T)).reshape(tensor.shape).to(tensor.device)
        for part, tensor in zip(parts, like, strict=False)  # an empty part: no intercept
    ]


class _LoopTrainer(_Trainer):
    """The protocol as a script has it: a module and an optimizer a model, one graph of the loss."""

    def __init__(self, problem: gc.Problem, data: Any, device: str, start: Start) -> None:
        torch = _torch()
        d, (_, k) = problem.n_features, problem.shape
        self.data = data
        self.nu = problem.nu.tolist()
        self.tie = _tie_of(problem.regularizer)
        self.modules = [
            torch.nn.Linear(d, k, bias=problem.loss.intercept, device=device)
            for _ in range(problem.n_users + 1)
        ]
        first = [np.zeros(problem.shape)] * (problem.n_users + 1)
        for model, value in zip(
            self.modules, first if start is None else [start[0], *start[1]], strict=True
        ):
            parameters = list(model.parameters())
            with torch.no_grad():
                for parameter, part in zip(
                    parameters, _as_parameters(value, parameters), strict=True
                ):
                    parameter.copy_(part)
        self.optimizers = [torch.optim.Adam(model.parameters()) for model in self.modules]

    @staticmethod
    def convert(problem: gc.Problem, device: str) -> Any:
        """Return x, y and the multiplicities (None: all are 1) of every user."""
        torch, data = _torch(), []
        for user in problem.datasets:
            several = user.counts.max(initial=1) > 1
            x = torch.tensor(user.x, dtype=torch.float32, device=device)
            kind = torch.int64 if user.y.ndim == 1 else torch.float32
            y = torch.tensor(user.y, dtype=kind, device=device)
            counts = torch.tensor(user.counts, dtype=torch.float32, device=device)
            data.append((x, y, counts if several else None))
        return data

    def server(self) -> list[tuple[Any, Any]]:
        """Return the parameters of the server with their gradients."""
        return [(parameter, parameter.grad) for parameter in self.modules[0].parameters()]

    def differentiate(self) -> None:
        """Compute the gradient of F."""
        cross_entropy = _torch().nn.functional.cross_entropy
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        server, *users = self.modules
        loss: Any = 0.0
        for (x, y, counts), nu, model in zip(self.data, self.nu, users, strict=True):
            if counts is None:
                loss = loss + cross_entropy(model(x), y, reduction="sum")
            else:
                loss = loss + counts @ cross_entropy(model(x), y, reduction="none")
            if nu > 0.0:
                loss = loss + nu * sum(p.square().sum() for p in model.parameters())
            loss = loss + self.tie(server, model)
        loss.backward()

    def descend(self, rate: float) -> None:
        """Take a step of Adam in every model."""
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()

    def models(self) -> tuple[FloatArray, list[FloatArray]]:
        """Return rho and the thetas as the package has them."""
        rho, *thetas = [_as_model(model.parameters()) for model in self.modules]
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

    def __init__(self, problem: gc.Problem, data: Any, device: str, start: Start) -> None:
        torch = _torch()
        d, (_, k) = problem.n_features, problem.shape
        self.x, self.y, self.counts = data  # (N, m, d), (N, K, m), (N, 1, m) or None
        self.nu = torch.tensor(problem.nu, dtype=torch.float32, device=device)[:, None, None]
        self.slope = _slope_of(problem.regularizer)
        self.intercept = problem.loss.intercept
        n = problem.n_users
        self.weights = torch.zeros(n + 1, k, d, device=device)  # the server's first
        self.biases = torch.zeros(n + 1, k, 1, device=device)
        if start is not None:
            for i, value in enumerate([start[0], *start[1]]):
                for tensor, part in zip(
                    self._of(i), _as_parameters(value, self._of(i)), strict=True
                ):
                    tensor.copy_(part)
        parameters = [self.weights, self.biases] if self.intercept else [self.weights]
        self.optimizer = torch.optim.Adam(parameters, fused=True)
        self.weights.grad = torch.zeros_like(self.weights)
        self.biases.grad = torch.zeros_like(self.biases)
        # Where x is read faster than it is multiplied nothing is gained by pieces of it.
        most = STACKED_AT_A_TIME if device == "cpu" else self.x.numel()
        self.rows = max(1, most // (n * max(1, d)))

    def _of(self, i: int) -> list[Any]:
        """Return the parameters of a model."""
        return [self.weights[i], self.biases[i, :, 0]][: 1 + self.intercept]

    @staticmethod
    def convert(problem: gc.Problem, device: str) -> Any:
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
        same = bool((counts == 1.0).all())
        return x.to(device), y.to(device), None if same else counts.to(device)

    def server(self) -> list[tuple[Any, Any]]:
        """Return the parameters of the server with their gradients."""
        gradients = [self.weights.grad[0], self.biases.grad[0, :, 0]]
        return list(zip(self._of(0), gradients, strict=False))  # without intercept, one

    def differentiate(self) -> None:
        """Compute the gradient of F."""
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

    def descend(self, rate: float) -> None:
        """Take a step of Adam in all models at once."""
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()

    def models(self) -> tuple[FloatArray, list[FloatArray]]:
        """Return rho and the thetas as the package has them."""
        torch = _torch()
        parts = [self.weights, self.biases] if self.intercept else [self.weights]
        models = torch.cat(parts, 2).cpu().double().numpy()
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
