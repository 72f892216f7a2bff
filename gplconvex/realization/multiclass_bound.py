r"""How much K-class points can pay, and so how many of them a gradient takes.

A point with logits z, probabilities p(z) and label y has the residual :math:`q = p(z) - e_y`, and for
any vector :math:`\tau` of K numbers (T3.4)

.. math:: \sup_z\, (\tau - z)^\top q = \omega\Bigl(\log \sum_{k \ne y} e^{\tau_k - \tau_y} - 1\Bigr)
          =: \kappa_y(\tau), \qquad \omega + \log\omega = \cdot\,,

attained at :math:`z = \tau + (1 + \kappa_y) e_y`, where :math:`p_y = 1/(1 + \kappa_y)`. With
:math:`\pi = \mathrm{softmax}(\tau)` the sum is :math:`1/\pi_y - 1`, so the dearest label is the least
likely one. For :math:`\tau = 0` every label has :math:`\kappa_K = W((K-1)/e)`.

Any k points with gradient H at Theta have :math:`\sum_i z_i^\top q_i = \langle\Theta, H\rangle =: s`
and, with an intercept, :math:`\sum_i q_i = h_0`, the last row of H. Hence
:math:`s \ge \tau^\top h_0 - k \max_y\kappa_y(\tau)` for every :math:`\tau`. The best :math:`\tau`
follows from one number: given :math:`\kappa`, the constraint :math:`\max_y\kappa_y \le \kappa` says
:math:`\pi_y \ge \epsilon = 1/(1 + \kappa e^{1+\kappa})`, and
:math:`\tau^\top h_0 = \sum_y h_{0y}\log\pi_y` is then largest at
:math:`\pi_y = \max(\epsilon, \mu h_{0y})`, with :math:`\mu` such that they sum to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, wrightomega

from gplconvex._types import FloatArray

LARGEST_KAPPA = 1e6
"""Up to where the best multiplier is looked for: residuals that leave one point in 1e6 as room."""


def kappas(tau: FloatArray) -> FloatArray:
    r"""Return :math:`\kappa_y(\tau)` for every label y."""
    others = np.tile(tau, (len(tau), 1))
    np.fill_diagonal(others, -math.inf)
    return np.asarray(wrightomega(logsumexp(others, axis=1) - tau - 1.0))


@dataclass(frozen=True)
class Cheapest:
    r"""The least :math:`\sum_i z_i^\top q_i` of k points with :math:`\sum_i q_i = h_0`.

    Attributes
    ----------
    value : float
        :math:`\tau^\top h_0 - k\kappa`, which no k points go below.
    kappa : float
        :math:`\max_y\kappa_y(\tau)`.
    tau : array, shape (K,)
        The multiplier, summing to 0.
    mix : array, shape (K,)
        How many points of each label attain the value, as real numbers that sum to k.
    """

    value: float
    kappa: float
    tau: FloatArray
    mix: FloatArray


def cheapest(k: float, n_classes: int, h0: FloatArray | None) -> Cheapest:
    """Return the least cost of k points; without intercept ``h0`` is None, and the mix is free."""
    least = float(wrightomega(math.log(n_classes - 1) - 1.0))
    if h0 is None or not h0.any():
        mix = np.full(n_classes, k / n_classes)
        return Cheapest(-k * least, least, np.zeros(n_classes), mix)

    def negative(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        return k * kappa - float(_log_probabilities(kappa, h0) @ h0)

    ends = math.log(least), math.log(LARGEST_KAPPA)
    inside = minimize_scalar(negative, bounds=ends, method="bounded", options={"xatol": 1e-10})
    log_kappa = min((float(inside.x), *ends), key=negative)
    kappa = math.exp(log_kappa)
    log_pi = _log_probabilities(kappa, h0)
    epsilon = math.exp(_log_least(kappa))
    # sum_y m_y q_y = h0 with q_y = kappa/(1 + kappa) (pi_{-y}/(1 - pi_y) - e_y), on the labels at
    # epsilon
    mix = epsilon * k - (1.0 - epsilon) * (1.0 + kappa) / kappa * h0
    mix[log_pi > log_pi.min() + 1e-9] = 0.0
    mix = np.maximum(mix, 0.0)
    return Cheapest(-negative(log_kappa), kappa, log_pi - log_pi.mean(), mix * (k / mix.sum()))


def _log_least(kappa: float) -> float:
    r"""Return :math:`\log\epsilon = -\log(1 + \kappa e^{1 + \kappa})`."""
    return -float(np.logaddexp(0.0, math.log(kappa) + 1.0 + kappa))


def _log_probabilities(kappa: float, h0: FloatArray) -> FloatArray:
    r"""Return :math:`\log\pi` that maximizes :math:`\sum h_{0y}\log\pi_y`, all at least epsilon."""
    log_least = _log_least(kappa)
    log_pi = np.full(len(h0), log_least)
    order = np.argsort(-h0)
    order = order[h0[order] > 0.0]
    for n in range(len(order), 0, -1):
        above = order[:n]
        rest = -math.expm1(math.log(len(h0) - n) + log_least) if n < len(h0) else 1.0
        log_mu = math.log(max(rest, 2.0**-1000)) - math.log(float(h0[above].sum()))
        if n == 1 or log_mu + math.log(float(h0[above[-1]])) >= log_least:
            log_pi[above] = log_mu + np.log(h0[above])
            break
    return log_pi


def fewest(s: float, n_classes: int, h0: FloatArray | None) -> int:
    r"""Return the least k with :math:`k > |h_0|_1/2` whose least cost is at most s.

    Residuals have :math:`|q|_1 < 2`, hence the first; the least cost falls with k: bisection.
    """
    low = 0 if h0 is None else math.floor(0.5 * float(np.abs(h0).sum()))
    high = max(low + 1, 1)
    if cheapest(high, n_classes, h0).value <= s:
        return high
    while cheapest(high, n_classes, h0).value > s:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if cheapest(middle, n_classes, h0).value <= s:
            high = middle
        else:
            low = middle
    return high
