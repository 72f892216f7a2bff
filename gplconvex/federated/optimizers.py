r"""Server optimizers: from the pull of the reports to the server's step.

In round t the reports pull by :math:`G^t = n\,\mathrm{rule}(g_1, \ldots, g_n)`, with the mean their sum.

====================  ==============================================================================
`GradientDescent`     :math:`\rho^{t+1} = \rho^t - \eta_t\,G^t`
`HeavyBall`           :math:`v^t = \beta v^{t-1} + G^t,\ \rho^{t+1} = \rho^t - \eta_t\,v^t`
`Adam`                moments of G, each coordinate in units of its own
====================  ==============================================================================

A step size is a number, or a function of the round such as `decaying`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError

Step = Callable[[FloatArray, float], FloatArray]
r"""From :math:`G^t` and :math:`\eta_t` to :math:`\rho^t - \rho^{t+1}`; remembers the rounds before."""


@runtime_checkable
class Optimizer(Protocol):
    """What a server does with the pull of the reports."""

    @property
    def follows_smoothness(self) -> bool:
        r"""Whether it descends where :math:`\eta` is at most one over the smoothness."""
        ...

    def starts(self) -> Step:
        """Return the steps of one run."""
        ...


@dataclass(frozen=True)
class GradientDescent:
    r"""Step against the pull: :math:`\rho^{t+1} = \rho^t - \eta_t\,G^t`.

    Notes
    -----
    Source: Farhadkhani et al. 2022 (T1).
    """

    follows_smoothness = True

    def starts(self) -> Step:
        """Return the steps of one run."""
        return lambda pull, step_size: step_size * pull


@dataclass(frozen=True)
class HeavyBall:
    r"""Go on as before and against the pull: :math:`\eta_t v^t`, :math:`v^t = \beta v^{t-1} + G^t`.

    Parameters
    ----------
    momentum : float
        :math:`\beta`, at least 0 and below 1.

    Notes
    -----
    Source: B. T. Polyak, *Some methods of speeding up the convergence of iteration methods*, USSR
    Comput. Math. Math. Phys. 4, 1964. With a constant step it converges on quadratics where
    :math:`\eta < 2(1 + \beta)/\mathrm{Lip}(G)`.
    """

    momentum: float = 0.9
    follows_smoothness = True

    def __post_init__(self) -> None:
        _check_factor("HeavyBall: momentum", self.momentum)

    def starts(self) -> Step:
        """Return the steps of one run."""
        velocity = np.zeros(1)

        def step(pull: FloatArray, step_size: float) -> FloatArray:
            nonlocal velocity
            velocity = self.momentum * velocity + pull
            return step_size * velocity

        return step


@dataclass(frozen=True)
class Adam:
    r"""Step by the mean of the pulls over the root of the mean of their squares.

    .. math:: m^t = \beta_1 m^{t-1} + (1 - \beta_1)\,G^t, \qquad
              s^t = \beta_2 s^{t-1} + (1 - \beta_2)\,(G^t)^2, \qquad
              \rho^{t+1} = \rho^t - \eta_t\,\frac{m^t/(1 - \beta_1^{t+1})}
                                             {\sqrt{s^t/(1 - \beta_2^{t+1})} + \epsilon}

    Parameters
    ----------
    beta1, beta2 : float
        At least 0 and below 1.
    epsilon : float
        Positive.

    Notes
    -----
    Source: D. P. Kingma, J. Ba, *Adam: a method for stochastic optimization*, ICLR 2015; the published
    experiments use it. With a constant step it need not converge, and it has no step size that
    follows from smoothness.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    follows_smoothness = False

    def __post_init__(self) -> None:
        _check_factor("Adam: beta1", self.beta1)
        _check_factor("Adam: beta2", self.beta2)
        if not (is_number(self.epsilon) and 0.0 < self.epsilon < math.inf):
            raise InvalidInputError(
                f"Adam: epsilon must be a positive number; got {self.epsilon!r}"
            )

    def starts(self) -> Step:
        """Return the steps of one run."""
        first, second, weight1, weight2 = np.zeros(1), np.zeros(1), 1.0, 1.0

        def step(pull: FloatArray, step_size: float) -> FloatArray:
            nonlocal first, second, weight1, weight2
            first = self.beta1 * first + (1.0 - self.beta1) * pull
            second = self.beta2 * second + (1.0 - self.beta2) * pull**2
            weight1, weight2 = weight1 * self.beta1, weight2 * self.beta2
            scale = np.sqrt(second / (1.0 - weight2)) + self.epsilon
            return np.asarray(step_size * (first / (1.0 - weight1)) / scale)

        return step


def decaying(first: float, rounds: float) -> Callable[[int], float]:
    r"""Return the step sizes :math:`\eta_t = \eta_0/(1 + t/T)`: half of the first after T rounds.

    Parameters
    ----------
    first : float
        :math:`\eta_0`.
    rounds : float
        T.

    Notes
    -----
    Their sum diverges and that of their squares does not, as in H. Robbins, S. Monro, *A stochastic
    approximation method*, Ann. Math. Statist. 22, 1951.

    Examples
    --------
    >>> [decaying(1.0, 10)(t) for t in (0, 10, 30)]
    [1.0, 0.5, 0.25]
    """
    for name, value in (("first", first), ("rounds", rounds)):
        if not (is_number(value) and 0.0 < value < math.inf):
            raise InvalidInputError(f"decaying: {name} must be a positive number; got {value!r}")
    return lambda t: first / (1.0 + t / rounds)


def _check_factor(name: str, value: float) -> None:
    if not (is_number(value) and 0.0 <= value < 1.0):
        raise InvalidInputError(f"{name} must be at least 0 and below 1; got {value!r}")
