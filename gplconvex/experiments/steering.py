r"""Steering a personal model: which shared model to force on a server so that one user ends at a target.

The attacker does not care for :math:`\rho` but for the model :math:`\theta_1` of one honest user, the
victim, whom it wants at :math:`\theta_\dagger`. At an optimum

.. math:: \nabla L_1(\theta_1) = \nabla r(\rho - \theta_1),

so the shared model that keeps the victim there is
:math:`\rho_\dagger = \theta_\dagger + (\nabla r)^{-1}(\nabla L_1(\theta_\dagger))`: under squared l2
:math:`\theta_\dagger + \nabla L_1(\theta_\dagger) / (2\lambda)`, under l2 :math:`\theta_\dagger` itself.
`gplconvex.poison` makes it the optimum by the fewest points, and certifies the victim's model, too.
Under l2 and smooth l2 the victim is out of everybody's reach where
:math:`|\nabla L_1(\theta_\dagger)| > \lambda`: no shared model whatever pulls it harder than that.

What it costs, beside the shared model itself steered to the same :math:`\theta_\dagger`, depends on
:math:`\lambda`. With the victim as only honest user the attacker must outweigh
:math:`G = \nabla L_1(\theta_\dagger)` from :math:`\theta_\spadesuit = \theta_\dagger + G/\lambda`, and
by T3.4 that takes at least

.. math:: \frac{-\langle\theta_\spadesuit, h\rangle}{\kappa_K} =
   \frac1{\kappa_K}\Big(\frac{|G|^2}\lambda + \langle\theta_\dagger, G\rangle
   + 2\nu|\theta_\spadesuit|^2\Big), \qquad h = -G - 2\nu\theta_\spadesuit

points: the looser the tie the dearer, like :math:`1/\lambda` and in the end like
:math:`1/\lambda^2`. The shared model alone has a price that stays bounded: the victim pulls at it by
:math:`2\lambda|\theta_\dagger - \theta_1|`, which a loose tie makes small.

Beside it, the published training with a counter-gradient attack that aims at :math:`\rho_\dagger`.
That the published one took 40 000 epochs is no wonder where the tie is loose: entries of
:math:`\rho_\dagger` are large then, and Adam hardly moves one by more than its step, 0.005, an epoch.
Where it is after the epochs is measured, not certified.

Source: the authors' notebooks to Farhadkhani et al., ICML 2022; T2.5, T3.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate
from gplconvex.datasets import digits, mnist
from gplconvex.equivalence import Poisoning, poison, required_gradient, to_model
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Result, Steps
from gplconvex.experiments.training import counter_gradient_report, train
from gplconvex.parallel import single_threaded_blas
from gplconvex.problem import Problem
from gplconvex.realization import LowerBound, check_lower_bound
from gplconvex.realization.lower_bound import support
from gplconvex.regularizers import SquaredL2, norm

LAMS = (0.1, 1.0, 10.0, 100.0)
"""Strengths of the tie."""

SOLVED = (10.0, 100.0)
"""Those of which the poisoned problem is also solved anew, knowing nothing. With looser ties the
invented points outweigh the victim's ten thousand times, and L-BFGS is far away after 1700 passes."""

TRAINED = (1.0, 100.0)
"""Those of which the published training is run."""

EPOCHS = 2000
"""A twentieth of the published number."""

EXTRA = 0.01
"""Part of the fewest points that may be spent besides, on smaller inputs: certificates, which count
rounding, are sharper by much, and the poisoned problem can be solved."""


@dataclass(frozen=True, eq=False)
class PoisonedVictim(Result):
    r"""A dataset that keeps the victim at the target, by its numbers.

    Attributes
    ----------
    n_points, n_rows : int
        Points, and those that differ.
    largest_input : float
        The largest norm of an input.
    certificate : Certificate
        Of the poisoned problem at the predicted optimum.
    victim_distance : float
        What :math:`|\theta_1^\star - \theta_\dagger|` is at most: certified.
    """

    n_points: int
    n_rows: int
    largest_input: float
    certificate: Certificate
    victim_distance: float

    @classmethod
    def of(cls, attack: Poisoning, target: FloatArray) -> PoisonedVictim:
        """Return the numbers of an attack; the victim is its first user."""
        off = norm(attack.thetas[0] - target)
        return cls(
            attack.n_points,
            attack.dataset.n_rows,
            float(np.linalg.norm(attack.dataset.x, axis=1).max()),
            attack.certificate,
            off + attack.certificate.theta_distances[0],
        )


@dataclass(frozen=True, eq=False)
class Steered(Result):
    r"""The victim at the target, under squared l2 of one strength.

    Attributes
    ----------
    lam : float
        The strength.
    rho : array, shape of a model
        :math:`\rho_\dagger`, the shared model that keeps it there.
    theta : array, shape of a model
        :math:`\theta_\spadesuit`, the attacker's model.
    rho_accuracy : (float, float)
        Of :math:`\rho_\dagger` on test images with their true labels, and with labels one class on.
    victim_accuracy : (float, float)
        Of the victim's model, likewise.
    lower_bound : int
        Fewer points do not make :math:`\rho_\dagger` the optimum.
    fewest, roomier : PoisonedVictim
        The dataset of the fewest points found, and one of some more points with smaller inputs.
    shared_lower_bound : int
        Fewer points do not make the *shared* model :math:`\theta_\dagger`.
    shared_distance : float
        How far from :math:`\theta_\dagger` the victim would be then, as computed.
    solved : Optimum or None
        The problem poisoned with the roomier data, solved without knowing where it leads.
    solved_distance : float
        :math:`|\theta_1 - \theta_\dagger|` there; NaN if it was not solved.
    """

    lam: float
    rho: Any
    theta: Any
    rho_accuracy: tuple[float, float]
    victim_accuracy: tuple[float, float]
    lower_bound: int
    fewest: PoisonedVictim
    roomier: PoisonedVictim
    shared_lower_bound: int
    shared_distance: float
    solved: Optimum | None
    solved_distance: float


@dataclass(frozen=True, eq=False)
class SteeringTraining(Result):
    r"""The published training, with a counter-gradient attack on the way to :math:`\rho_\dagger`.

    Attributes
    ----------
    lam : float
    largest_entry : float
        The largest entry of :math:`\rho_\dagger` in absolute value.
    victim_distances, rho_distances : arrays, shape (T + 1,)
        :math:`|\theta_1^t - \theta_\dagger|` and :math:`|\rho^t - \rho_\dagger|`, from the start on.
    accuracies : array, shape (T + 1,)
        Of the victim's model, on test images with their true labels.
    seconds : float
    """

    lam: float
    largest_entry: float
    victim_distances: Any
    rho_distances: Any
    accuracies: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class Steering(Result):
    r"""A victim steered to a target, under squared l2 of several strengths.

    Attributes
    ----------
    images : str
    target : array, shape of a model
        :math:`\theta_\dagger`.
    pull : float
        :math:`|\nabla L_1(\theta_\dagger)|`: under l2 and smooth l2 of less than this no attack whatever
        keeps the victim there.
    before : (float, float)
        Accuracy of the victim's model without an attack, on test images with their true labels, and
        with labels one class on.
    honest_certificate : Certificate
        Of the victim alone.
    cases : tuple of Steered
    trainings : tuple of SteeringTraining
    """

    images: str
    target: Any
    pull: float
    before: tuple[float, float]
    honest_certificate: Certificate
    cases: tuple[Steered, ...]
    trainings: tuple[SteeringTraining, ...]


def steering(
    federation: Federation,
    *,
    lams: Sequence[float] = LAMS,
    solved: Sequence[float] = SOLVED,
    trained: Sequence[float] = TRAINED,
    epochs: int = EPOCHS,
    extra: float = EXTRA,
    method: str = "auto",
    steps: Steps = Steps(),
) -> Steering:
    r"""Steer the personal model of a federation's only user to one of labels one class on.

    Parameters
    ----------
    federation : Federation
        With one user.
    lams : sequence of float
        Strengths of squared l2.
    solved : sequence of float
        Those of them whose poisoned problem is solved.
    trained : sequence of float
        Those of them with which the published training is run.
    epochs : int
        Of that training.
    extra : float
        The roomier data have so much more than the fewest points, relatively; 0: they are the same.
    method : str
        Of `gplconvex.solve`, for the poisoned problems.
    steps : Steps
        Where what takes long is kept.

    Returns
    -------
    Steering

    Raises
    ------
    InvalidInputError
        If there is not exactly one user, no strength, or a strength in ``solved`` or ``trained`` that is
        not one of ``lams``; for less than one epoch, or a negative ``extra``.
    NotSolvedError
        If a poisoned problem could not be solved to a certificate.
    UnrealizableGradientError
        If the tie is so loose that float64 cannot count the points.

    Notes
    -----
    Source: the notebooks of Farhadkhani et al. 2022.

    Examples
    --------
    >>> result = steering(
    ...     Federation.of(digits(), 1, 60), lams=[10.0], solved=[], trained=[], extra=0.0
    ... )
    >>> case = result.cases[0]
    >>> case.fewest.n_points - case.lower_bound < 10, case.fewest.victim_distance < 1e-4
    (True, True)
    >>> result.before[0] > 0.7, case.victim_accuracy[1] == result.before[0]
    (True, True)
    """
    if len(federation.users) != 1:
        raise InvalidInputError(
            f"the federation must have one user, the victim; got {len(federation.users)}"
        )
    lams, solved, trained = (tuple(map(float, each)) for each in (lams, solved, trained))
    if not lams or not {*solved, *trained} <= set(lams):
        raise InvalidInputError(
            f"lams must not be empty, and hold all of solved and trained; got {lams}, {solved} and "
            f"{trained}"
        )
    if epochs < 1 or not 0.0 <= extra < math.inf:
        raise InvalidInputError(
            f"epochs must be at least 1 and extra at least 0; got {epochs} and {extra}"
        )
    honest, target = federation.honest(steps), federation.target(steps)
    settings = {"lams": lams, "solved": solved, "trained": trained, "epochs": epochs}
    settings |= {"extra": extra, "method": method}
    steps = steps.within("steering", **federation.settings, **settings)
    problems = {lam: federation.problem(SquaredL2(lam)) for lam in lams}

    def steered(lam: float) -> Steered:
        how = method if lam in solved else None
        with single_threaded_blas():  # many small products: its threads would wait for one another
            return _steered(federation, problems[lam], target, lam, extra, how)

    def followed(lam: float) -> SteeringTraining:
        return _trained(federation, problems[lam], target, lam, epochs, steps)

    cases = tuple(steps(f"lam={lam:g}", partial(steered, lam)) for lam in lams)
    trainings = tuple(steps(f"lam={lam:g}-training", partial(followed, lam)) for lam in trained)
    pull = problems[lams[0]].local_losses.gradient(target.reshape(1, -1))
    return Steering(
        federation.name,
        target,
        norm(pull),
        _accuracies(federation, honest.thetas[0]),
        honest.certificate,
        cases,
        trainings,
    )


def quick(steps: Steps) -> Steering:
    """Run it on digits, with the fewest points alone."""
    return steering(
        Federation.of(digits(), 1, 140),
        lams=(1.0, 10.0, 100.0),
        extra=0.0,
        method="newton",
        steps=steps,
    )


def full(steps: Steps) -> Steering:
    """Run it on MNIST: minutes."""
    return steering(Federation.of(mnist(), 1, 6000), steps=steps)


def shared_model_for(problem: Problem, theta: npt.ArrayLike) -> FloatArray:
    r"""Return the shared model at which the only user of a problem replies with ``theta``.

    Parameters
    ----------
    problem : Problem
        With one user.
    theta : array_like, shape of a model
        :math:`\theta_\dagger`.

    Returns
    -------
    array, shape of a model
        :math:`\theta_\dagger + (\nabla r)^{-1}(\nabla L_1(\theta_\dagger))`; under l2
        :math:`\theta_\dagger`.

    Raises
    ------
    InvalidInputError
        If no shared model pulls that hard: :math:`|\nabla L_1(\theta_\dagger)| >` lam under l2,
        :math:`\ge` lam under smooth l2.

    Notes
    -----
    Source: T1, the stationarity of a reply.

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, moreau_envelope
    >>> problem = Problem(LeastSquares(), SquaredL2(0.5), [Dataset([[1.0]], [0.0])])
    >>> shared_model_for(problem, [2.0])
    array([4.])
    >>> moreau_envelope(problem, 0, [4.0]).theta
    array([2.])
    """
    theta = problem.check_model("theta", theta)
    pull = problem.local_losses.gradient(theta.reshape(1, -1))[0]
    if not problem.regularizer.is_reachable(pull):
        raise InvalidInputError(
            f"no shared model keeps the user there: its own data pull with {norm(pull):.6g}, and under "
            f"{problem.regularizer!r} a shared model pulls with less than that. Choose another model, "
            "or raise lam"
        )
    return np.asarray(theta + problem.regularizer.inverse_gradient(pull).reshape(theta.shape))


def _steered(
    federation: Federation,
    problem: Problem,
    target: FloatArray,
    lam: float,
    extra: float,
    method: str | None,
) -> Steered:
    """Return the victim at the target; ``method`` solves the poisoned problem, None: it is not."""
    rho = shared_model_for(problem, target)
    fewest = roomier = poison(problem, rho)
    if extra > 0.0:
        roomier = poison(problem, rho, extra=math.ceil(extra * fewest.n_points))
    found = None if method is None else Optimum.of(optimum(roomier.poisoned, method=method))
    own = required_gradient(problem, target)
    return Steered(
        lam,
        rho,
        fewest.theta,
        _accuracies(federation, rho),
        _accuracies(federation, fewest.thetas[0]),
        fewest.lower_bound,
        PoisonedVictim.of(fewest, target),
        PoisonedVictim.of(roomier, target),
        _at_least(problem, to_model(problem, target, own), own),
        # The report of the one user is -g = grad r(target - theta_1).
        norm(problem.regularizer.inverse_gradient(own.ravel())),
        found,
        math.nan if found is None else norm(found.thetas[0] - target),
    )


def _at_least(problem: Problem, theta: FloatArray, g: FloatArray) -> int:
    r"""Return :math:`\lceil-\langle\theta, h\rangle / \kappa_K\rceil`: fewer cannot do (T3.4)."""
    h = g - 2.0 * float(problem.nu[0]) * theta
    h -= h.mean(axis=1, keepdims=True)  # rounding: its rows sum to 0
    most = support(problem.loss, theta, -theta)
    needed = -float(np.vdot(theta, h)) / most * (1.0 - 1e-12)
    bound = LowerBound(1, "nonzero")
    if needed > 1.0:
        bound = LowerBound(math.ceil(needed), "direction", -theta, most)
    check_lower_bound(problem.loss, theta, h, bound)
    return bound.value


def _accuracies(federation: Federation, model: FloatArray) -> tuple[float, float]:
    """Return the accuracies on true labels, and on labels one class on."""
    return federation.accuracy(model), federation.accuracy(model, 1)


def _trained(
    federation: Federation,
    problem: Problem,
    target: FloatArray,
    lam: float,
    epochs: int,
    steps: Steps,
) -> SteeringTraining:
    """Return where the published training led the victim, epoch by epoch."""
    aim = shared_model_for(problem, target)
    way: list[tuple[float, float, float]] = []

    def watch(epoch: int, rho: FloatArray, thetas: FloatArray) -> None:
        victim = thetas[0]
        way.append((norm(victim - target), norm(rho - aim), federation.accuracy(victim)))
        steps.on_progress(epoch / epochs)

    watch(0, np.zeros(problem.shape), np.zeros((1, *problem.shape)))
    training = train(problem, epochs, report=counter_gradient_report(problem, aim), watch=watch)
    victim_distances, rho_distances, accuracies = np.array(way).T
    largest = float(np.abs(aim).max())
    return SteeringTraining(
        lam, largest, victim_distances, rho_distances, accuracies, training.seconds
    )
