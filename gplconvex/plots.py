"""Results in pictures: result -> matplotlib Figure. Nothing is computed, and no global state used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gplconvex.errors import MissingDependencyError
from gplconvex.experiments.hospitals import Reversal
from gplconvex.questions import CostMap

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import PercentFormatter
except ImportError as error:
    raise MissingDependencyError(
        'figures need matplotlib: install it with pip install "gplconvex[demo]"'
    ) from error

_Style = dict[str, Any]

# The palette of Okabe and Ito, which color-blind readers tell apart; the shapes say the same without
# color. The three attacks are a ring, a square and a dot that fit into one another: where the models
# coincide they make a bull's-eye.
_HONEST: _Style = {"color": "#0072B2", "marker": "D", "markersize": 7}
_GRADIENT: _Style = {
    "color": "#E69F00",
    "marker": "o",
    "markersize": 16,
    "markerfacecolor": "none",
    "markeredgewidth": 2.2,
}
_MODEL: _Style = {
    "color": "#009E73",
    "marker": "s",
    "markersize": 8,
    "markerfacecolor": "none",
    "markeredgewidth": 1.8,
}
_DATA: _Style = {"color": "#D55E00", "marker": "o", "markersize": 4}
_TARGET: _Style = {"color": "black", "marker": "|", "markersize": 24, "markeredgewidth": 1.3}
_ATTACKS = (_GRADIENT, _MODEL, _DATA, _DATA)
_GRAY = "#767676"
_LEAST = 1e-17
"""Where a distance of exactly 0 is drawn on a logarithmic axis."""


def reversal(result: Reversal) -> Figure:
    """Draw what the reversal of the diagnosis did: accuracies, coefficients, distances.

    Parameters
    ----------
    result : Reversal
        From `gplconvex.experiments.reverse_diagnosis`.

    Examples
    --------
    >>> from gplconvex.experiments import reverse_diagnosis
    >>> figure = reversal(reverse_diagnosis())
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Accuracy of the shared model', 'Distance to the target', 'Coefficients of the shared model']
    """
    figure = Figure(figsize=(11, 6.6), dpi=145)
    grid = figure.add_gridspec(
        2,
        2,
        left=0.178,
        right=0.985,
        bottom=0.085,
        top=0.775,
        wspace=0.62,
        hspace=0.42,
        width_ratios=(1.0, 1.0),
        height_ratios=(4.0, 5.0),
    )
    _accuracies(figure.add_subplot(grid[0, 0]), result)
    _distances(figure.add_subplot(grid[1, 0]), result)
    _coefficients(figure.add_subplot(grid[:, 1]), result)

    n_points, needed = result.poisoning.n_points, result.poisoning.lower_bound
    figure.text(
        0.015,
        0.975,
        "Fake patients do exactly the damage of a forged gradient",
        fontsize=17,
        fontweight="bold",
        va="top",
    )
    figure.text(
        0.015,
        0.915,
        f"Four hospitals ({result.n_patients} patients) share a model of heart disease; a fifth "
        f"participant reverses it. {n_points} fake patients do it, and {needed - 1} cannot (proved).",
        fontsize=10.5,
        va="top",
    )
    figure.legend(
        handles=[
            Line2D([], [], linestyle="none", label=label, **style)
            for label, style in (
                ("honest", _HONEST),
                ("target of the attacker", _TARGET | {"markersize": 15}),
                ("gradient attack", _GRADIENT),
                ("model attack", _MODEL),
                ("data poisoning", _DATA),
            )
        ],
        loc="upper left",
        bbox_to_anchor=(0.005, 0.89),
        ncols=5,
        frameon=False,
        fontsize=10.5,
        handletextpad=0.5,
        columnspacing=2.2,
    )
    return figure


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
    axes.set_title(
        "Fake points needed, at least", loc="left", fontsize=12, fontweight="bold", pad=8
    )
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


def _accuracies(axes: Axes, result: Reversal) -> None:
    _panel(axes, "Accuracy of the shared model", result.data.hospitals)
    for row, honest in enumerate(result.honest.scores):
        scores = [attack.scores[row] for attack in result.attacks]
        axes.annotate(
            "",
            (scores[0], row),
            (honest, row),
            arrowprops={
                "arrowstyle": "->",
                "color": _GRAY,
                "linewidth": 1.2,
                "shrinkA": 7,
                "shrinkB": 11,
            },
        )
        axes.plot(honest, row, **_HONEST)
        axes.text(honest + 0.035, row, f"{honest:.1%}", va="center", fontsize=9.5)
        axes.text(scores[0] - 0.05, row, f"{scores[0]:.1%}", va="center", ha="right", fontsize=9.5)
        for score, style in zip(scores, _ATTACKS, strict=True):
            axes.plot(score, row, **style)
    axes.set_xlim(-0.08, 1.08)
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _distances(axes: Axes, result: Reversal) -> None:
    _panel(axes, "Distance to the target", [outcome.name for outcome in result.outcomes])
    for row, (outcome, style) in enumerate(zip(result.outcomes, (_HONEST, *_ATTACKS), strict=True)):
        shown, bound = max(outcome.distance, _LEAST), outcome.distance + outcome.certified
        axes.plot([shown, bound], [row, row], color=style["color"], linewidth=1.6)
        axes.plot(bound, row, marker="|", markersize=11, markeredgewidth=2.2, color=style["color"])
        face = "white" if "markerfacecolor" in style else style["color"]
        axes.plot(shown, row, **style | {"markerfacecolor": face})
    axes.set_xscale("log")
    axes.set_xlim(_LEAST / 3.0, 1e2)
    axes.set_xlabel("model found, with certified bound of the exact one")


def _coefficients(axes: Axes, result: Reversal) -> None:
    honest, target = result.honest.solution.rho, result.poisoning.target
    names = [*result.data.features, "intercept"]
    order = sorted(range(len(names)), key=lambda j: -honest[j])
    _panel(axes, "Coefficients of the shared model", [names[j] for j in order])
    axes.axvline(0.0, color=_GRAY, linewidth=1.0)
    for row, j in enumerate(order):
        axes.plot(target[j], row, **_TARGET)
        axes.plot(honest[j], row, **_HONEST)
        for attack, style in zip(result.attacks, _ATTACKS, strict=True):
            axes.plot(attack.solution.rho[j], row, **style)
    limit = 1.15 * max(abs(honest))
    axes.set_xlim(-limit, limit)
    axes.set_xlabel("healthy  ←  per standard deviation  →  ill")


def _panel(axes: Axes, title: str, rows: Sequence[str]) -> None:
    """Prepare a panel with one named row a line, from the top down."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=10)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=9.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.label.set_fontsize(9.5)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
