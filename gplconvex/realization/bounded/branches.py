r"""Branches: the points whose residuals have one sign, and how many of them a weight takes.

A point at the predictor z with residual of sign :math:`\epsilon = \pm 1` has the margin
:math:`M = \epsilon z`, and its residual is in size at most the rate r(M) of the branch:

================ ====================== ======================
loss             residuals above 0      residuals below 0
================ ====================== ======================
logistic         :math:`\sigma(M)`      :math:`\sigma(M)`
least squares    :math:`M - l`          :math:`M + u`
Poisson          :math:`e^M - l`        :math:`u - e^{-M}`
================ ====================== ======================

for labels in [l, u] (infinite without a bound). All rates grow, and both :math:`\log r` is concave and
:math:`1/r`, the number of points that a unit of weight takes, is convex.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import expit, logit, wrightomega

from gplconvex.errors import UnsupportedCombinationError
from gplconvex.losses import LeastSquares, Logistic, Loss, Poisson
from gplconvex.realization.bounded.roots import root


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf


@dataclass(frozen=True)
class Branch:
    """Residuals of one sign; here they may be as large as one likes (labels without a bound).

    Attributes
    ----------
    sign : float
        That of the residuals.
    label : float
        The label of the largest residuals.
    """

    sign: float
    label: float

    @property
    def lowest(self) -> float:
        """The margin at which the rate is 0."""
        return -math.inf

    @property
    def top(self) -> float:
        """The limit of the rate for large margins."""
        return math.inf

    @property
    def unlimited(self) -> bool:
        """Whether the rate is infinite everywhere."""
        return True

    def rate(self, m: float) -> float:
        """Return r."""
        return math.inf

    def cost(self, m: float) -> float:
        """Return 1/r, for margins above `lowest`."""
        return 0.0

    def steepness(self, m: float) -> float:
        """Return -(1/r)'."""
        return 0.0

    def margin(self, rate: float) -> float:
        """Return the margin with this rate; where all have every rate, the lowest."""
        return -math.inf

    def best(self, c: float) -> float:
        """Return the margin at which r(M) (c - M) is largest; where all are alike, the lowest."""
        return -math.inf


class LogisticBranch(Branch):
    r""":math:`r = \sigma(M)`, of both signs."""

    top = 1.0
    unlimited = False

    def rate(self, m: float) -> float:
        r"""Return :math:`\sigma(M)`."""
        return float(expit(m))

    def cost(self, m: float) -> float:
        """Return :math:`1 + e^{-M}`."""
        return 1.0 + _exp(-m)

    def steepness(self, m: float) -> float:
        """Return :math:`e^{-M}`."""
        return _exp(-m)

    def margin(self, rate: float) -> float:
        """Return the logit."""
        return float(logit(rate))

    def best(self, c: float) -> float:
        r"""Return :math:`\log\omega(c - 1)`, Wright's omega."""
        t = c - 1.0
        omega = float(wrightomega(t))
        return math.log(omega) if t > 0.0 else t - omega


class LinearBranch(Branch):
    r""":math:`r = M - \epsilon y`: least squares."""

    unlimited = False

    @property
    def lowest(self) -> float:
        r"""The margin of the label, :math:`\epsilon y`."""
        return self.sign * self.label

    def rate(self, m: float) -> float:
        r"""Return :math:`M - \epsilon y`."""
        return m - self.lowest

    def cost(self, m: float) -> float:
        """Return its inverse."""
        return 1.0 / (m - self.lowest) if m > self.lowest else math.inf

    def steepness(self, m: float) -> float:
        """Return the square of that."""
        return self.cost(m) ** 2

    def margin(self, rate: float) -> float:
        """Return rate and lowest margin together."""
        return rate + self.lowest

    def best(self, c: float) -> float:
        """Return the middle of c and the lowest margin."""
        return 0.5 * (c + self.lowest)


class PoissonBranch(Branch):
    r""":math:`r = \epsilon(e^{\epsilon M} - y)`."""

    unlimited = False

    @property
    def lowest(self) -> float:
        r"""The margin of the label, :math:`\epsilon\log y`."""
        return self.sign * math.log(self.label) if self.label > 0.0 else -self.sign * math.inf

    @property
    def top(self) -> float:
        """Infinite above 0, the label below."""
        return math.inf if self.sign > 0.0 else self.label

    def rate(self, m: float) -> float:
        r"""Return :math:`\epsilon(e^{\epsilon M} - y)`."""
        size = _exp(m) if self.sign > 0.0 else self.label
        return size * -math.expm1(min(self.lowest - m, 0.0))

    def cost(self, m: float) -> float:
        """Return its inverse."""
        rate = self.rate(m)
        return 1.0 / rate if rate > 0.0 else math.inf

    def steepness(self, m: float) -> float:
        r"""Return :math:`e^{\epsilon M}/r^2`."""
        return _exp(self.log_steepness(m))

    def log_steepness(self, m: float) -> float:
        """Return the logarithm of the steepness, for margins above `lowest`."""
        share = -math.expm1(
            self.lowest - m
        )  # r is this times its value for label 0, or in the limit
        if share <= 0.0:
            return math.inf
        size = m if self.sign > 0.0 else math.log(self.label)
        return self.sign * m - 2.0 * (size + math.log(share))

    def margin_of(self, log_steepness: float) -> float:
        r"""Return the margin with this steepness K: :math:`K (q - y)^2 = q = e^{\epsilon M}`."""
        if self.label == 0.0:
            return -log_steepness
        half = 0.5 * _exp(-log_steepness)
        # q = y + half +- sqrt(half (2 y + half)); the product of both roots is y^2.
        larger = self.label + half + math.sqrt(half) * math.sqrt(2.0 * self.label + half)
        if larger == math.inf:
            return (
                -log_steepness if self.sign > 0.0 else -log_steepness - 2.0 * math.log(self.label)
            )
        return (
            math.log(larger) if self.sign > 0.0 else math.log(larger) - 2.0 * math.log(self.label)
        )

    def margin(self, rate: float) -> float:
        r"""Return :math:`\epsilon\log(y + \epsilon r)`."""
        return self.sign * math.log(self.label + self.sign * rate)

    def best(self, c: float) -> float:
        """Return the root of the derivative."""

        # (log r)' = 1/share above 0, exp(lowest - M)/share below, share = 1 - exp(lowest - M).
        def slope(m: float) -> float:
            rest = math.exp(min(self.lowest - m, 0.0))
            return (c - m) * (1.0 if self.sign > 0.0 else rest) - (1.0 - rest)

        low = max(self.lowest, c - 1.0) if self.sign > 0.0 else self.lowest
        if slope(low) <= 0.0:  # c is so large that c - 1 is c
            return low
        return root(slope, low, c)


def branches(loss: Loss, labels: tuple[float, float]) -> tuple[Branch, Branch]:
    """Return the branches of residuals above and below 0."""
    low, high = labels
    if isinstance(loss, Logistic):
        return LogisticBranch(1.0, -1.0), LogisticBranch(-1.0, 1.0)
    if isinstance(loss, LeastSquares):
        kind: type[Branch] = LinearBranch
    elif isinstance(loss, Poisson):
        kind, low = PoissonBranch, float(math.ceil(max(low, 0.0)))
        high = math.floor(high) if math.isfinite(high) else high
    else:
        raise UnsupportedCombinationError(f"residuals of {loss!r} have no two signs")
    return (
        kind(1.0, low) if math.isfinite(low) else Branch(1.0, low),
        kind(-1.0, high) if math.isfinite(high) else Branch(-1.0, high),
    )
