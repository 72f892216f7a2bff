r"""How often honest points teach their model, by repeated draws; every draw has a seed of its own.

In trial t of size I, user h owns I points that :math:`\theta_{\dagger h}` labels, drawn from the seed
(seed, I, t, h): the trials of one size are the same whatever the other sizes are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, float_array, is_number
from gplconvex.errors import InvalidInputError
from gplconvex.honest import honest_dataset
from gplconvex.losses import Loss
from gplconvex.pac.gradient import gradient_pac
from gplconvex.participants import Attacker
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer, norm
from gplconvex.solvers import solve


@dataclass(frozen=True)
class Proportion:
    """How many of independent trials succeeded.

    Attributes
    ----------
    successes, trials : int
    undecided : int
        Trials that may have succeeded or not: what is computed does not say.
    """

    successes: int
    trials: int
    undecided: int = 0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        r"""Return the Clopper-Pearson interval of the probability of success.

        .. math:: P(X \ge k \mid p_{\text{low}}) = P(X \le k \mid p_{\text{high}}) =
                  \tfrac12(1 - \text{confidence}), \qquad X \sim \mathrm{Binomial}(n, p).

        It covers the probability at least that often, whatever it is. Undecided trials count against
        either limit.

        Raises
        ------
        InvalidInputError
            For a confidence outside (0, 1).

        Notes
        -----
        Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934) 404-413.

        Examples
        --------
        >>> low, high = Proportion(20, 20).interval()
        >>> round(low, 3), high
        (0.832, 1.0)
        """
        if not (is_number(confidence) and 0.0 < confidence < 1.0):
            raise InvalidInputError(f"confidence must be between 0 and 1; got {confidence!r}")
        low, high = (
            stats.binomtest(k, self.trials).proportion_ci(confidence, method="exact")
            for k in (self.successes, self.successes + self.undecided)
        )
        return float(low.low), float(high.high)


@dataclass(frozen=True, eq=False)
class GradientPacEstimate:
    r"""How often points are gradient-PAC* with given constants.

    Attributes
    ----------
    sizes : tuple of int
        Numbers I of points.
    proportions : tuple of Proportion
        How often the inequality holds for all theta, one a size.
    A, B, alpha : float
    """

    sizes: tuple[int, ...]
    proportions: tuple[Proportion, ...]
    A: float
    B: float
    alpha: float


def estimate_gradient_pac(
    loss: Loss,
    theta: npt.ArrayLike,
    sizes: Sequence[int],
    *,
    A: float,
    B: float,
    alpha: float,
    n_trials: int,
    seed: int,
    nu: float = 0.0,
    inputs: str = "normal",
    noise: str = "normal",
) -> GradientPacEstimate:
    r"""Return how often honest points are gradient-PAC* with A, B and alpha, against their number.

    Honest residuals have mean 0, so that :math:`|\nabla L(\theta_\dagger)|` grows like
    :math:`\sqrt I`: for the probability to tend to 1 with a fixed B, **alpha must exceed 1/2**; at 1/2
    it tends to a limit below 1, below 1/2 to 0. And A must be less than what it tends to in the data.

    Parameters
    ----------
    loss : Loss
        Of models that are vectors.
    theta : array_like, shape of a model
        :math:`\theta_\dagger`.
    sizes : sequence of int
        Numbers of points, each at least 1.
    A, B, alpha : float
        The constants.
    n_trials : int
        Datasets a size.
    seed : int
    nu : float
        The ridge.
    inputs, noise : str
        Laws, as in `honest_dataset`.

    Returns
    -------
    GradientPacEstimate

    Raises
    ------
    InvalidInputError
        As `honest_dataset`, `gradient_pac` and `GradientPac.holds`; or without sizes or trials.

    Notes
    -----
    Source: Farhadkhani et al. 2022, gradient-PAC*.

    Examples
    --------
    >>> from gplconvex import LeastSquares
    >>> few, many = estimate_gradient_pac(
    ...     LeastSquares(), [1.0, 0.0], [5, 500], A=0.5, B=1.0, alpha=0.75, n_trials=20, seed=0
    ... ).proportions
    >>> few.successes < many.successes == 20
    True
    """
    sizes = _sizes(sizes, n_trials)
    theta = float_array("theta", theta)
    proportions = []
    for size in sizes:
        found = [
            gradient_pac(
                loss, _draw(loss, theta, size, (seed, trial, 0), inputs, noise), theta, nu=nu
            ).holds(A, B, alpha)
            for trial in range(n_trials)
        ]
        proportions.append(Proportion(found.count(True), n_trials, found.count(None)))
    return GradientPacEstimate(sizes, tuple(proportions), A, B, alpha)


@dataclass(frozen=True, eq=False)
class LocalPacEstimate:
    r"""How far honest users end from the models that labeled their points.

    Attributes
    ----------
    sizes : tuple of int
        Numbers I of points, S of them.
    distances : array, shape (S, trials, users)
        :math:`|\theta_h - \theta_{\dagger h}|` of the models that the solver returned.
    errors : array, likewise
        Certified bounds of :math:`|\theta_h - \theta_h^*|`.
    bounds : array, likewise
        Those of `GradientPac.distance_bound` on :math:`|\theta_h^* - \theta_{\dagger h}|`, which know
        the user's points and the radius of Grad, not the others; ``inf`` where they say nothing.
    """

    sizes: tuple[int, ...]
    distances: FloatArray
    errors: FloatArray
    bounds: FloatArray

    def proportions(self, epsilon: float) -> tuple[Proportion, ...]:
        r"""Return how often all users end within epsilon of their models, one a size.

        Raises
        ------
        InvalidInputError
            For an epsilon that is not positive.
        """
        if not (is_number(epsilon) and 0.0 < epsilon < math.inf):
            raise InvalidInputError(f"epsilon must be a positive number; got {epsilon!r}")
        within = np.sum((self.distances + self.errors <= epsilon).all(axis=2), axis=1)
        perhaps = np.sum((self.distances - self.errors <= epsilon).all(axis=2), axis=1)
        trials = self.distances.shape[1]
        return tuple(
            Proportion(int(sure), trials, int(most - sure))
            for sure, most in zip(within, perhaps, strict=True)
        )

    def rate(self) -> Rate:
        r"""Return the exponent with which the farthest user's distance falls.

        -1/2 is expected where the noise of the labels, of order :math:`I^{-1/2}`, outweighs what the
        others can do, of order 1/I.
        """
        return fit_rate(self.sizes, self.distances.max(axis=2))


def estimate_local_pac(
    loss: Loss,
    regularizer: Regularizer,
    models: npt.ArrayLike,
    sizes: Sequence[int],
    *,
    attack: Attacker | Callable[[Problem], Attacker] | None = None,
    n_trials: int,
    seed: int,
    nu: float = 0.0,
    inputs: str = "normal",
    noise: str = "normal",
) -> LocalPacEstimate:
    r"""Return how far honest users end from the models that labeled their points, against the number.

    Under l2 and smooth l2 the attack may be chosen last, even after the points: its reports are no
    longer than the radius of Grad, and `LocalPacEstimate.bounds` hold for all attacks. Under squared l2
    the convergence is for an attack that does not grow with I: where the points say :math:`I\theta^2/2`,
    a report of -I keeps :math:`\theta_h^*` at 1 for every I. Models of softmax are learned up to the
    vector that all columns have in common, which the others choose.

    Parameters
    ----------
    loss : Loss
    regularizer : Regularizer
    models : array_like, shape (users, *shape of a model)
        :math:`\theta_{\dagger h}`, one an honest user.
    sizes : sequence of int
        Numbers of points of every user.
    attack : GradientAttack, ModelAttack, or a function from the honest `Problem` to one, optional
        Of the others. Under l2 f colluding attackers are
        ``ModelAttack(target, L2(f * lam))``: together they send any vector of norm f lam, and this one
        is their best for the target.
    n_trials : int
        Draws a size.
    seed : int
    nu : float
        The ridge of every user.
    inputs, noise : str
        Laws, as in `honest_dataset`.

    Returns
    -------
    LocalPacEstimate

    Raises
    ------
    InvalidInputError
        As `honest_dataset`, `Problem` and `solve`; or without models, sizes or trials.

    Notes
    -----
    Source: Farhadkhani et al. 2022, local PAC* learning. A model that the solver cannot certify, such
    as one of separable points without ridge, counts as undecided.

    Examples
    --------
    >>> from gplconvex import L2, LeastSquares, ModelAttack
    >>> found = estimate_local_pac(
    ...     LeastSquares(),
    ...     L2(1.0),
    ...     [[1.0, 0.0], [0.0, 1.0]],
    ...     [10, 1000],
    ...     n_trials=5,
    ...     seed=0,
    ...     attack=ModelAttack([9.0, 9.0]),
    ... )
    >>> [proportion.successes for proportion in found.proportions(0.2)]
    [0, 5]
    >>> bool((found.distances <= found.bounds).all())
    True
    """
    sizes = _sizes(sizes, n_trials)
    targets = float_array("models", models)
    if targets.ndim < 2 or not len(targets):
        raise InvalidInputError(
            f"models must hold one model an honest user, shape (users, ...); got {targets.shape}"
        )
    shape = (len(sizes), n_trials, len(targets))
    distances, errors, bounds = np.empty(shape), np.empty(shape), np.full(shape, math.inf)
    for s, size in enumerate(sizes):
        for trial in range(n_trials):
            data = [
                _draw(loss, theta, size, (seed, trial, h), inputs, noise)
                for h, theta in enumerate(targets)
            ]
            problem = Problem(loss, regularizer, data, nu)
            present = attack if attack is None or isinstance(attack, Attacker) else attack(problem)
            solution = solve(problem, attacker=present)
            distances[s, trial] = [
                norm(a - b) for a, b in zip(solution.thetas, targets, strict=True)
            ]
            errors[s, trial] = solution.certificate.theta_distances
            if math.isfinite(regularizer.radius) and len(problem.shape) == 1:
                bounds[s, trial] = [
                    gradient_pac(loss, own, theta, nu=nu).distance_bound(regularizer.radius)
                    for own, theta in zip(data, targets, strict=True)
                ]
    return LocalPacEstimate(sizes, distances, errors, bounds)


@dataclass(frozen=True)
class Rate:
    r"""The exponent of a power of I, with its standard error.

    Attributes
    ----------
    exponent, standard_error : float
    """

    exponent: float
    standard_error: float


def fit_rate(sizes: Sequence[int], distances: npt.ArrayLike) -> Rate:
    r"""Return the exponent of :math:`|\cdot| \propto I^\beta`: least squares in logarithms.

    Parameters
    ----------
    sizes : sequence of S int
        Numbers I, two different ones at least.
    distances : array_like, shape (S, trials)
        Positive.

    Raises
    ------
    InvalidInputError
        For other shapes or numbers.

    Examples
    --------
    >>> fit_rate([1, 4, 16], [[2.0, 4.0], [1.0, 2.0], [0.5, 1.0]]).exponent
    -0.5
    """
    values = float_array("distances", distances)
    sizes = _sizes(sizes, 1)
    if values.ndim != 2 or len(values) != len(sizes) or values.size < 3 or len(set(sizes)) < 2:
        raise InvalidInputError(
            f"distances must have shape (sizes, trials), with two different sizes and three values at "
            f"least; got {values.shape} for sizes {list(sizes)}"
        )
    if not (np.isfinite(values) & (values > 0.0)).all():
        raise InvalidInputError(
            f"distances must be positive and finite, or they have no logarithm; got {values.min()} to "
            f"{values.max()}"
        )
    logs = np.repeat(np.log(sizes), values.shape[1])
    fitted = stats.linregress(logs, np.log(values).ravel())
    return Rate(float(fitted.slope), float(fitted.stderr))


def _draw(
    loss: Loss, theta: FloatArray, size: int, key: tuple[int, ...], inputs: str, noise: str
) -> Dataset:
    """Return honest points; the seed is a number made of the key and the size."""
    if any(part < 0 for part in key):
        raise InvalidInputError(f"seed must be an integer from 0; got {key[0]!r}")
    words = np.random.SeedSequence((*key, size)).generate_state(1, np.uint64)
    return honest_dataset(loss, theta, size, seed=int(words[0]), inputs=inputs, noise=noise)


def _sizes(sizes: Sequence[int], n_trials: int) -> tuple[int, ...]:
    """Return validated numbers of points."""
    for name, value in (("n_trials", n_trials), *(("a size", size) for size in sizes)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise InvalidInputError(f"{name} must be an integer from 1; got {value!r}")
    if not len(sizes):
        raise InvalidInputError("sizes is empty: give the numbers of points")
    return tuple(int(size) for size in sizes)
