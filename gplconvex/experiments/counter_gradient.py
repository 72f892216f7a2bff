r"""The counter-gradient attack on images: under squared l2 it has its way, under l2 it has not.

A liar without data wants the server's model to be :math:`\rho_\dagger`, which names nearly every image
wrong. It is followed on three ways, under either regularizer.

- *The published training* (`gplconvex.experiments.training`): Adam, in float32, on all models at once.
- *Rounds of the protocol*, for which T5 is a theorem: gradient descent with a constant step, and honest
  users who minimize exactly. Under squared l2 with two steps, that of `gplconvex.federated.run`, which
  is near the largest that T5 allows, and a quarter of it. Under l2 the theorem names the limit, not
  the step; taken is one over the curvature that the reports can have at that limit,
  :math:`\sum_n \lambda / |\rho^\star - \theta_n^\star|`, the target among the :math:`\theta_n`.
- *The limit*, certified: under squared l2 the optimum beside the frozen model that keeps the target,
  under l2 the minimizer of :math:`\sum_n M_n(\rho) + \lambda |\rho - \rho_\dagger|` (T5).

How much of a lie is a report? A participant whose personal model is the target reports
:math:`\nabla r(\rho - \rho_\dagger)`. Here the *dishonesty* of a report g, sent at :math:`\rho`, is how
far it is from that,

.. math:: |g - \nabla r(\rho - \rho_\dagger)| .

In the limit it is the whole pull :math:`|\sum_n \nabla M_n(\rho_\dagger)|` under squared l2, and 0 under
l2: there the attacker can do no more than somebody who likes the target and says so.

The published numbers are of no ridge, and another target. Certified are the limits alone. Where training
and rounds are after so many epochs is what was measured.

Source: Farhadkhani et al., ICML 2022, section of experiments; T5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate
from gplconvex.datasets import digits, mnist
from gplconvex.equivalence import required_gradient, to_model
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Result, Steps, Stopwatch
from gplconvex.experiments.training import counter_gradient_report, rates, train
from gplconvex.federated import CounterGradientAttack, Round, run
from gplconvex.parallel import own_threads
from gplconvex.participants import ModelAttack
from gplconvex.problem import Problem
from gplconvex.regularizers import L2, Regularizer, SquaredL2, lengths, norm

EPOCHS = 200
"""As published."""

ROUNDS = 12
"""On MNIST a round takes ten problems of 7850 unknowns, 5 to 10 seconds of one core: three runs of
twelve are some minutes, and the shorter step is within 0.001 of its limit by then."""

SHORTER = 4.0
"""What the step of the second run of rounds is divided by: T5's rate is the better the smaller it is."""


@dataclass(frozen=True, eq=False)
class CounterGradientRun(Result):
    r"""One way of the server's model, over T epochs or rounds.

    Attributes
    ----------
    distances, to_limit : arrays, shape (T + 1,)
        :math:`|\rho^t - \rho_\dagger|`, and the distance to the certified limit, from the start on.
    accuracies : array, shape (T + 1,)
        Of :math:`\rho^t` on test images with their true labels.
    dishonesty : array, shape (T,)
        Of the report sent at :math:`\rho^t`.
    step_sizes : array, shape (T,)
        :math:`\eta_t`.
    rho : array, shape of a model
        The last one.
    seconds : float
    """

    distances: Any
    to_limit: Any
    accuracies: Any
    dishonesty: Any
    step_sizes: Any
    rho: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class UnderRegularizer(Result):
    r"""The attack under one regularizer.

    Attributes
    ----------
    regularizer : str
        Its name.
    limit : Optimum
        The limit of T5.
    limit_distance, limit_accuracy, limit_dishonesty : float
        :math:`|\rho^\star - \rho_\dagger|` of the numbers at hand, see `certified_distance`; and what
        the attacker's report, minus the honest ones, amounts to there.
    training : CounterGradientRun
        The published training.
    rounds : tuple of CounterGradientRun
        Rounds of the protocol, one run a step size.
    """

    regularizer: str
    limit: Optimum
    limit_distance: float
    limit_accuracy: float
    limit_dishonesty: float
    training: CounterGradientRun
    rounds: tuple[CounterGradientRun, ...]

    @property
    def certified_distance(self) -> tuple[float, float]:
        r"""What :math:`|\rho^\star - \rho_\dagger|` is at least and at most, for the exact limit."""
        off = self.limit.certificate.distance
        return max(0.0, self.limit_distance - off), self.limit_distance + off


@dataclass(frozen=True, eq=False)
class CounterGradient(Result):
    r"""A counter-gradient attack under squared l2 and under l2.

    Attributes
    ----------
    images : str
    target : array, shape of a model
        :math:`\rho_\dagger`.
    target_accuracy, honest_accuracy : float
        On test images with their true labels, of the target and of the honest optimum.
    honest_certificate : Certificate
        Of that optimum under squared l2, whose columns, one class on, are the target.
    squared_l2, l2 : UnderRegularizer
    """

    images: str
    target: Any
    target_accuracy: float
    honest_accuracy: float
    honest_certificate: Certificate
    squared_l2: UnderRegularizer
    l2: UnderRegularizer

    @property
    def sides(self) -> tuple[UnderRegularizer, UnderRegularizer]:
        """Both regularizers."""
        return self.squared_l2, self.l2


def counter_gradient(
    federation: Federation,
    *,
    epochs: int = EPOCHS,
    n_rounds: int = ROUNDS,
    steps: Steps = Steps(),
) -> CounterGradient:
    r"""Let a counter-gradient attack lead the server, under squared l2 and under l2.

    Parameters
    ----------
    federation : Federation
        The honest users; both regularizers have its ``lam``.
    epochs : int
        Of the published training.
    n_rounds : int
        Of each run of the protocol.
    steps : Steps
        Where what takes long is kept.

    Returns
    -------
    CounterGradient

    Raises
    ------
    InvalidInputError
        If there is not one epoch, or not one round.
    NotSolvedError
        If a limit could not be certified.
    UnsupportedCombinationError
        If under l2 the limit is the target, or the personal model of a user: then the curvature is
        infinite there, and no step follows.

    Notes
    -----
    Source: Farhadkhani et al. 2022; T5.

    Examples
    --------
    >>> result = counter_gradient(Federation.of(digits(), 2, 50), epochs=50, n_rounds=1)
    >>> result.honest_accuracy > 0.7, result.target_accuracy < 0.1
    (True, True)
    >>> [side.limit_accuracy > 0.7 for side in result.sides]
    [False, True]
    """
    if epochs < 1 or n_rounds < 1:
        raise InvalidInputError(
            f"epochs and n_rounds must be at least 1; got {epochs} and {n_rounds}"
        )
    settings = {"epochs": epochs, "rounds": n_rounds}
    steps = steps.within("counter_gradient", **federation.settings, **settings)
    honest, target = federation.honest(steps), federation.target(steps)
    sides = [
        _side(federation, regularizer, target, epochs, n_rounds, steps)
        for regularizer in (SquaredL2(federation.lam), L2(federation.lam))
    ]
    return CounterGradient(
        federation.name,
        target,
        federation.accuracy(target),
        federation.accuracy(honest.rho),
        honest.certificate,
        *sides,
    )


def quick(steps: Steps) -> CounterGradient:
    """Run it on digits, with fewer rounds."""
    return counter_gradient(Federation.of(digits(), 10, 140), n_rounds=8, steps=steps)


def full(steps: Steps) -> CounterGradient:
    """Run it on MNIST: minutes."""
    return counter_gradient(Federation.of(mnist(), 10, 6000), steps=steps)


def dishonesty(
    regularizer: Regularizer, report: FloatArray, rho: FloatArray, target: FloatArray
) -> float:
    r"""Return :math:`|g - \nabla r(\rho - \rho_\dagger)|`, see the top of the module.

    Examples
    --------
    >>> rho, target = np.array([1.0]), np.array([3.0])
    >>> dishonesty(SquaredL2(0.5), np.array([-2.0]), rho, target)  # what the target's owner reports
    0.0
    >>> dishonesty(SquaredL2(0.5), np.array([7.0]), rho, target)
    9.0
    """
    honest = regularizer.gradient((rho - target).ravel()).reshape(rho.shape)
    return norm(report - honest)


def _side(
    federation: Federation,
    regularizer: Regularizer,
    target: FloatArray,
    epochs: int,
    n_rounds: int,
    steps: Steps,
) -> UnderRegularizer:
    problem, name = federation.problem(regularizer), regularizer.name

    def limit_of() -> Optimum:
        return Optimum.of(optimum(problem, _at_the_limit(problem, target)))

    limit = steps(f"{name}-limit", limit_of)
    step_sizes = tuple(_step_sizes(problem, limit, target))
    training = steps(
        f"{name}-training", lambda: _trained(federation, problem, target, limit, epochs, steps)
    )

    def rounds_of(step_size: float) -> CounterGradientRun:
        return _descended(federation, problem, target, limit, step_size, n_rounds, steps)

    rounds = tuple(
        steps(f"{name}-rounds-{number}", partial(rounds_of, step_size))
        for number, step_size in enumerate(step_sizes, start=1)
    )
    # The reports of all users, as gradients of their losses: these are right at a kink of r, too.
    pull = problem.local_losses.gradient(limit.thetas.reshape(problem.n_users, -1)).sum(axis=0)
    return UnderRegularizer(
        name,
        limit,
        norm(limit.rho - target),
        federation.accuracy(limit.rho),
        dishonesty(regularizer, -pull.reshape(problem.shape), limit.rho, target),
        training,
        rounds,
    )


def _at_the_limit(problem: Problem, target: FloatArray) -> ModelAttack:
    """Return the frozen model beside which the limit of the attack is the optimum (T2.3, T5)."""
    if isinstance(problem.regularizer, L2):
        return ModelAttack(target)
    with _threads(problem):
        gradient = required_gradient(problem, target)
    return ModelAttack(to_model(problem, target, gradient))


def _step_sizes(problem: Problem, limit: Optimum, target: FloatArray) -> Iterator[float]:
    """Yield the step sizes of the runs of rounds."""
    if isinstance(problem.regularizer, SquaredL2):
        # Half of one over the smoothness with the attacker counted, as `gplconvex.federated.run` has
        # it: eta Lip(G) is at most N / (2 (N + 1)), which T5 needs below one half.
        longest = 0.5 / (problem.regularizer.smoothness * (problem.n_users + 1))
        yield longest
        yield longest / SHORTER
        return
    away = lengths(
        (limit.rho - np.stack([*limit.thetas, target])).reshape(len(limit.thetas) + 1, -1)
    )
    if not away.all():
        raise UnsupportedCombinationError(
            f"under {problem.regularizer!r} the limit of the attack is the target or the personal model "
            "of a user, where no step follows from the curvature: choose a smaller lam"
        )
    yield 1.0 / float(problem.regularizer.slope(away).sum())


class _Way:
    """What is recorded of the server's models and of the reports sent to it."""

    def __init__(
        self,
        federation: Federation,
        regularizer: Regularizer,
        target: FloatArray,
        limit: Optimum,
        start: FloatArray,
    ) -> None:
        self.federation, self.regularizer = federation, regularizer
        self.target, self.limit = target, limit
        self.models: list[tuple[float, float, float]] = []
        self.lies: list[float] = []
        self.at(start)

    def at(self, rho: FloatArray) -> None:
        """Record the next model."""
        self.rho = rho
        far = norm(rho - self.target), norm(rho - self.limit.rho)
        self.models.append((*far, self.federation.accuracy(rho)))

    def sent(self, report: FloatArray, rho: FloatArray) -> None:
        """Record a report."""
        self.lies.append(dishonesty(self.regularizer, report, rho, self.target))

    def ended(self, step_sizes: FloatArray, seconds: float) -> CounterGradientRun:
        """Return the record."""
        distances, to_limit, accuracies = np.array(self.models).T
        lies = np.array(self.lies)
        return CounterGradientRun(
            distances, to_limit, accuracies, lies, step_sizes, self.rho, seconds
        )


def _trained(
    federation: Federation,
    problem: Problem,
    target: FloatArray,
    limit: Optimum,
    epochs: int,
    steps: Steps,
) -> CounterGradientRun:
    """Return the way of the published training."""
    way = _Way(federation, problem.regularizer, target, limit, np.zeros(problem.shape))
    lie = counter_gradient_report(problem, target)

    def report(rho: FloatArray, others: FloatArray, rate: float) -> FloatArray:
        sent = np.asarray(lie(rho, others, rate))
        way.sent(sent, rho)
        return sent

    def watch(epoch: int, rho: FloatArray, thetas: FloatArray) -> None:
        way.at(rho)
        steps.on_progress(epoch / epochs)

    training = train(problem, epochs, report=report, watch=watch)
    return way.ended(np.fromiter(rates(epochs), float), training.seconds)


def _descended(
    federation: Federation,
    problem: Problem,
    target: FloatArray,
    limit: Optimum,
    step_size: float,
    n_rounds: int,
    steps: Steps,
) -> CounterGradientRun:
    """Return the way of rounds with a constant step, and honest users who minimize exactly."""
    way = _Way(federation, problem.regularizer, target, limit, np.zeros(problem.shape))

    def progress(each: Round) -> None:
        way.sent(each.reports[-1], each.rho)
        way.at(each.next_rho)
        steps.on_progress((each.number + 1) / n_rounds)

    clock = Stopwatch()
    with _threads(problem):
        trace = run(
            problem,
            [CounterGradientAttack(target)],
            step_size=step_size,
            max_rounds=n_rounds,
            tol=0.0,
            keep_reports=False,
            progress=progress,
        )
    return way.ended(trace.step_sizes, clock.seconds)


def _threads(problem: Problem) -> Any:
    """Return the context of replies by large models: BLAS on one thread, many products being small."""
    return own_threads(problem.n_users, problem.local_losses.size)
