"""Learning from honest points."""

from __future__ import annotations

import numpy as np

from gplconvex.pac import LocalPacEstimate
from gplconvex.plots.style import DATA, GRAY, HONEST, Axes, Figure

_MEASURED, _BOUND = HONEST["color"], DATA["color"]


def local_pac(result: LocalPacEstimate, epsilon: float) -> Figure:
    r"""Draw how far honest users end from their models, and how often within epsilon, against I.

    Parameters
    ----------
    result : LocalPacEstimate
        From `gplconvex.pac.estimate_local_pac`.
    epsilon : float
        The distance at which a trial succeeds.

    Examples
    --------
    >>> import gplconvex as gc
    >>> from gplconvex.pac import estimate_local_pac
    >>> result = estimate_local_pac(
    ...     gc.LeastSquares(), gc.SmoothL2(1.0), [[1.0, 0.0]], [20, 200], n_trials=3, seed=0
    ... )
    >>> [axes.get_title(loc="left") for axes in local_pac(result, 0.1).axes]
    ['The farthest user', 'All users within 0.1']
    """
    proportions = result.proportions(epsilon)
    figure = Figure(figsize=(9.6, 4.2), dpi=145, layout="constrained")
    left, right = figure.subplots(1, 2)
    _distances(left, result)
    left.axhline(epsilon, color=GRAY, linewidth=0.8, dashes=(6, 3))
    low, high = np.array([each.interval() for each in proportions]).T
    often = np.array([each.successes / each.trials for each in proportions])
    right.errorbar(
        result.sizes,
        often,
        yerr=(often - low, high - often),
        color=_MEASURED,
        marker="D",
        capsize=3,
    )
    right.set(ylim=(-0.03, 1.03), ylabel="frequency, 95 % intervals")
    for axes, title in ((left, "The farthest user"), (right, f"All users within {epsilon:g}")):
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
        axes.set(xscale="log", xlabel="points of each user")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _distances(axes: Axes, result: LocalPacEstimate) -> None:
    """Draw every trial, the median, what is proved, and the root's slope."""
    sizes = np.array(result.sizes)
    farthest, proved = result.distances.max(axis=2), result.bounds.max(axis=2)
    axes.plot(sizes, farthest, color=_MEASURED, marker=".", linestyle="none", alpha=0.4)
    median = np.median(farthest, axis=1)
    axes.plot(sizes, median, color=_MEASURED, marker="D", label="median")
    known = np.isfinite(proved).all(axis=1)
    if known.any():
        middle = np.median(proved[known], axis=1)
        axes.plot(sizes[known], middle, color=_BOUND, marker="s", label="median of the bounds")
    slope = median[-1] * np.sqrt(sizes[-1] / sizes)
    axes.plot(sizes, slope, color=GRAY, dashes=(2, 2), label=r"$\propto I^{-1/2}$")
    axes.set(yscale="log", ylabel="distance to the model that labeled")
    axes.legend(frameon=False)
