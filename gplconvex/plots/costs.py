"""What targets cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gplconvex.plots.style import Axes, Figure, LogNorm, set_title
from gplconvex.questions import CostMap


def cost_map(
    result: CostMap,
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
    labels: tuple[str, str] = ("first direction", "second direction"),
) -> Figure:
    """Draw how many points it takes to move the optimum to each target of a plane.

    Parameters
    ----------
    result : CostMap
        From `gplconvex.cost_map`.
    marks : mapping of names to pairs of coordinates, optional
        Targets to be named in the picture; default, none but the center.
    labels : pair of str
        What the two axes are.

    Examples
    --------
    >>> import gplconvex as gc
    >>> data = gc.Dataset([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    >>> problem = gc.Problem(gc.Logistic(), gc.HardConsensus(), [data], nu=1.0)
    >>> axes = [[1.0, 0.0], [0.0, 1.0]]
    >>> result = gc.cost_map(problem, [0.0, 0.0], axes, resolution=3, domain=gc.Box(-1.0, 1.0))
    >>> cost_map(result).axes[0].get_title(loc="left")
    'Fake points needed, at least'
    """
    figure = Figure(figsize=(6.6, 5.2), dpi=145, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#D9D9D9")  # shows through where no number of points is enough
    if np.isfinite(result.points).any():
        _contours(figure, axes, result)
    for name, (x, y) in ({"center": (0.0, 0.0)} if marks is None else marks).items():
        axes.plot(x, y, color="white", marker="D", markersize=7, markeredgecolor="black")
        axes.annotate(name, (x, y), (7, 7), textcoords="offset points", fontsize=10)
    axes.set_xlabel(labels[0], fontsize=9.5)
    axes.set_ylabel(labels[1], fontsize=9.5)
    axes.tick_params(labelsize=9.5)
    set_title(axes, "Fake points needed, at least")
    return figure


def _contours(figure: Figure, axes: Axes, result: CostMap) -> None:
    points = np.where(np.isfinite(result.points), np.maximum(result.points, 1.0), np.nan).T
    levels = _round_levels(float(np.nanmax(points)))
    plane = result.first, result.second, points
    filled = axes.contourf(*plane, levels=levels, norm=LogNorm(), cmap="cividis_r")
    lines = axes.contour(*plane, levels=levels[1:-1], colors="black", linewidths=0.7)
    axes.clabel(lines, fmt="%g", fontsize=9)
    bar = figure.colorbar(filled, ax=axes, ticks=levels, format="%g")
    bar.ax.minorticks_off()
    bar.set_label("points", fontsize=9.5)


def _round_levels(most: float) -> list[float]:
    """Return 1, 2, 5, 10, 20, 50, ... up to a number that is at least ``most``."""
    levels = [1.0, 2.0]
    while levels[-1] < most:
        levels.append(levels[-1] * (2.5 if f"{levels[-1]:g}".startswith("2") else 2.0))
    return levels
