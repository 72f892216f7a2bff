r"""Server rules: from the reports of n participants, shape (n, p), to one estimate of their mean, (p,).

A rule is any function of that kind, so that those of other libraries plug in. The ones here are those
of the literature; f is how many participants may lie.

- `mean`: what the paper's server takes, times n.
- `coordinate_median`, `trimmed_mean`: D. Yin et al., *Byzantine-robust distributed learning: towards
  optimal statistical rates*, ICML 2018.
- `krum`, `multi_krum`: P. Blanchard et al., *Machine learning with adversaries: Byzantine tolerant
  gradient descent*, NeurIPS 2017.
- `geometric_median`: the minimizer of :math:`\sum_i |v - g_i|`, K. Pillutla et al., *Robust aggregation
  for federated learning*, IEEE Trans. Signal Process. 70, 2022; here to convergence.
- `centered_clipping`: S. P. Karimireddy et al., *Learning from history for Byzantine robust
  optimization*, ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist, squareform

from gplconvex._types import FloatArray
from gplconvex.errors import InvalidInputError
from gplconvex.regularizers import lengths, norm
from gplconvex.rounding import UNIT

Rule = Callable[[FloatArray], FloatArray]
"""From reports (n, p) to an estimate of their mean (p,)."""


@dataclass(frozen=True)
class _Made:
    """A rule with parameters, which knows its name and can be sent to other processes."""

    name: str
    function: Callable[..., FloatArray]
    parameters: tuple[float, ...]

    def __call__(self, reports: FloatArray) -> FloatArray:
        return self.function(reports, *self.parameters)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.parameters))})"


MOST_STEPS = 10_000
"""Steps of the geometric median, which halve the distance in one or two, or crawl along a line."""


def mean(reports: FloatArray) -> FloatArray:
    """Return the mean.

    Examples
    --------
    >>> mean(np.array([[1.0], [2.0], [9.0]]))
    array([4.])
    """
    return np.asarray(_checked(reports).mean(axis=0))


def coordinate_median(reports: FloatArray) -> FloatArray:
    """Return the median of every coordinate.

    Examples
    --------
    >>> coordinate_median(np.array([[1.0], [2.0], [9.0]]))
    array([2.])
    """
    return np.asarray(np.median(_checked(reports), axis=0))


def trimmed_mean(f: int) -> Rule:
    """Return the rule that leaves out the f largest and the f least of every coordinate.

    Examples
    --------
    >>> trimmed_mean(1)(np.array([[1.0], [2.0], [4.0], [99.0]]))
    array([3.])
    """
    _check_count("trimmed_mean: f", f, 0)
    return _Made("trimmed_mean", _trimmed_mean, (f,))


def _trimmed_mean(reports: FloatArray, f: int) -> FloatArray:
    n = _enough(reports, 2 * f + 1, f"trimmed_mean({f})")
    return np.asarray(np.sort(reports, axis=0)[f : n - f].mean(axis=0))


def krum(f: int) -> Rule:
    """Return the rule that takes the report nearest to its n - f - 2 nearest, by squared distances.

    Examples
    --------
    >>> krum(1)(np.array([[1.0], [1.1], [1.2], [99.0]]))
    array([1.1])
    """
    _check_count("krum: f", f, 0)
    return _Made("krum", _krum, (f,))


def _krum(reports: FloatArray, f: int) -> FloatArray:
    _enough(reports, f + 3, f"krum({f})")
    return _multi_krum(reports, f, 1)


def multi_krum(f: int, m: int) -> Rule:
    """Return the rule that takes the mean of the m reports that `krum` scores best.

    Examples
    --------
    >>> multi_krum(1, 3)(np.array([[1.0], [1.1], [1.2], [99.0]])).round(12)
    array([1.1])
    """
    _check_count("multi_krum: f", f, 0)
    _check_count("multi_krum: m", m, 1)
    return _Made("multi_krum", _multi_krum, (f, m))


def _multi_krum(reports: FloatArray, f: int, m: int) -> FloatArray:
    n = _enough(reports, max(f + 3, m), f"multi_krum({f}, {m})")
    square = squareform(pdist(reports, "sqeuclidean"))
    np.fill_diagonal(square, math.inf)  # of a report only the others are neighbors
    scores = np.sort(square, axis=1)[:, : n - f - 2].sum(axis=1)
    return np.asarray(reports[np.argsort(scores, kind="stable")[:m]].mean(axis=0))


def geometric_median(reports: FloatArray) -> FloatArray:
    r"""Return the minimizer of :math:`\sum_i |v - g_i|`.

    By Weiszfeld's iteration as modified by Vardi and Zhang (2000), which passes through reports. A
    report is the minimizer if and only if the unit vectors from it to the others sum to no more than
    the number of its copies.

    Examples
    --------
    >>> geometric_median(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    array([0., 0.])
    """
    reports = _checked(reports)
    scale = float(np.max(lengths(reports - reports[0])))
    if scale == 0.0:
        return np.asarray(reports[0].copy())
    exponent = math.frexp(scale)[1]  # powers of two are exact, and near 1 no inverse overflows
    return np.asarray(np.ldexp(_geometric_median(np.ldexp(reports, -exponent)), exponent))


def _geometric_median(reports: FloatArray) -> FloatArray:
    """Return the geometric median of reports whose largest distance from the first is about 1."""
    v = np.asarray(reports.mean(axis=0))
    for _ in range(MOST_STEPS):
        distance = lengths(reports - v)
        away = distance > UNIT
        weights = 1.0 / distance[away]
        target = np.asarray(weights @ reports[away] / weights.sum())
        pull = norm((reports[away] - v).T @ weights)
        here = int(np.sum(~away))
        if here >= pull:
            return np.asarray(v)
        step = (1.0 - here / pull) * (target - v)
        v = np.asarray(v + step)
        if norm(step) <= 4.0 * UNIT:
            break
    nearest = reports[int(np.argmin(lengths(reports - v)))]
    return np.asarray(min((v, nearest), key=lambda point: float(lengths(reports - point).sum())))


def centered_clipping(radius: float, steps: int = 10) -> Rule:
    r"""Return the rule that steps by clipped differences, from the coordinate-wise median.

    .. math:: v \leftarrow v + \frac1n\sum_i (g_i - v)\min(1, \tau/|g_i - v|)

    Examples
    --------
    >>> centered_clipping(1.0)(np.array([[0.0], [0.0], [99.0]])).round(3)
    array([0.5])
    """
    if not (isinstance(radius, (int, float)) and 0.0 < radius < math.inf):
        raise InvalidInputError(
            f"centered_clipping: radius must be a positive number; got {radius!r}"
        )
    _check_count("centered_clipping: steps", steps, 1)
    return _Made("centered_clipping", _centered_clipping, (radius, steps))


def _centered_clipping(reports: FloatArray, radius: float, steps: int) -> FloatArray:
    v = coordinate_median(reports)
    for _ in range(steps):
        away = reports - v
        size = np.maximum(lengths(away), radius)
        v = v + (away * (radius / size)[:, None]).mean(axis=0)
    return v


def all_rules(n_participants: int, f: int, radius: float) -> dict[str, Rule]:
    """Return the rules of this module, by name, for f liars among n participants.

    Multi-Krum averages n - f reports. The trimmed mean is left out where n < 2f + 1, Krum and multi-Krum
    where n < f + 3: there they are not defined. (What Krum's authors promise needs 2f + 3.)

    Parameters
    ----------
    n_participants, f : int
        n, and how many of them may lie.
    radius : float
        Of centered clipping.

    Examples
    --------
    >>> sorted(set(all_rules(4, 1, 1.0)) - set(all_rules(3, 1, 1.0)))
    ['krum', 'multi_krum']
    """
    chosen: dict[str, Rule] = {"mean": mean, "coordinate_median": coordinate_median}
    if n_participants >= 2 * f + 1:
        chosen["trimmed_mean"] = trimmed_mean(f)
    if n_participants >= f + 3:
        chosen |= {"krum": krum(f), "multi_krum": multi_krum(f, n_participants - f)}
    chosen |= {
        "geometric_median": geometric_median,
        "centered_clipping": centered_clipping(radius),
    }
    return chosen


def _checked(reports: FloatArray) -> FloatArray:
    _enough(reports, 1, "a server rule")
    return reports


def _enough(reports: FloatArray, least: int, who: str) -> int:
    """Return the number of reports, if there are enough."""
    if np.ndim(reports) != 2 or len(reports) < least:
        raise InvalidInputError(
            f"{who} takes reports of shape (n, p), n at least {least}; got shape {np.shape(reports)}. "
            "A rule with parameters is made first: krum(1)"
        )
    return len(reports)


def _check_count(name: str, value: int, least: int) -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise InvalidInputError(f"{name} must be an integer from {least}; got {value!r}")
