"""From a gradient to a model to data: where training stops, and where it leads."""

from __future__ import annotations

import numpy as np

from gplconvex.experiments.three_roads import ThreeRoads, TrainedRoad
from gplconvex.plots.style import (
    ATTACKS,
    DATA,
    GRAY,
    HONEST,
    RUNS,
    Axes,
    Figure,
    FixedLocator,
    Line2D,
    NullLocator,
    PercentFormatter,
    Style,
    set_title,
)
from gplconvex.regularizers import norm

NAMES = ("gradient", "model", "data")
"""The roads, in their order."""

WANTED = 1e-6
"""The relative distance within which the exact optima are certified."""

_LINES = (*RUNS[1:4], RUNS[4])
"""Of the trained roads; the last one is the data with ridge."""

_HONEST: Style = {**HONEST, "markersize": 14, "markerfacecolor": "none", "markeredgewidth": 1.8}
"""A frame, as the optimum of the published points is close by."""

_PUBLISHED: Style = {**DATA, "marker": "X", "markersize": 8, "markeredgecolor": "black"}


def three_roads(result: ThreeRoads) -> Figure:
    r"""Draw accuracies and distances along the trained roads, their certified ends, and small ridges.

    Right of the trainings stand certified optima: of the published points, the one that the trained
    data would go to; of the exact gradient, model and data.

    Parameters
    ----------
    result : ThreeRoads
        From `gplconvex.experiments.three_roads`.

    Examples
    --------
    >>> import gplconvex as gc
    >>> from gplconvex.experiments.federation import Federation
    >>> from gplconvex.experiments.three_roads import three_roads as experiment
    >>> x = np.random.default_rng(0).uniform(size=(90, 2))
    >>> y = np.floor(3.0 * x[:, 0])
    >>> dots = Federation("dots", [gc.Dataset(x[:50], y[:50]), gc.Dataset(x[50:], y[50:])], 3, x, y)
    >>> figure = three_roads(experiment(dots, epochs=5, points=50, extra=5, smaller=()))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Accuracy on true labels', 'Distance to the target', 'Smaller ridges']
    """
    figure = Figure(figsize=(12.6, 5.4), dpi=145)
    grid = figure.add_gridspec(
        1, 3, left=0.055, right=0.985, bottom=0.115, top=0.70, wspace=0.24, width_ratios=(4, 4, 3)
    )
    left, middle, right = (figure.add_subplot(grid[i]) for i in range(3))
    _accuracies(left, result)
    _distances(middle, result)
    _ridges(right, result)
    exact = result.exact[0]
    epochs = len(result.trained["gradient"].distance)
    lines = (
        f"{result.images}, {result.users} honest users and a liar. Trained as published, for {epochs} "
        "epochs, all three take the shared model close to the target. At the optimum\n"
        f"of the {result.points} published points it names {result.published_accuracy:.1%} of test "
        f"images right, as honest users do ({result.honest_accuracy:.1%}). {exact.n_points} points "
        f"hold the target (ridge {exact.nu:g}); fewer than {exact.lower_bound} cannot."
    )
    figure.text(
        0.012,
        0.975,
        "Three roads lead to the target; the published points lead back from it",
        fontsize=15,
        fontweight="bold",
        va="top",
    )
    figure.text(0.012, 0.905, lines, fontsize=10, va="top", linespacing=1.35)
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    names = ("gradient, trained", "model, trained", "data, trained", "data, trained with ridge")
    trained = [
        Line2D([], [], label=name, color=line["color"], linestyle=line["linestyle"], linewidth=1.8)
        for name, line in zip(names, _LINES, strict=True)
    ]
    optima = [
        Line2D([], [], linestyle="none", label=name, **style)
        for name, style in (
            ("honest optimum", _HONEST),
            ("optimum of the published points", _PUBLISHED),
            *((f"exact {name}", style) for name, style in zip(NAMES, ATTACKS, strict=False)),
        )
    ]
    figure.legend(
        handles=[*trained, *optima],
        loc="upper left",
        bbox_to_anchor=(0.004, 0.83),
        ncols=5,
        frameon=False,
        fontsize=9,
        handlelength=3.0,
        columnspacing=1.6,
        markerscale=0.75,
    )


def _accuracies(axes: Axes, result: ThreeRoads) -> None:
    _roads(axes, result, "accuracy")
    honest, optimum = _places(result)
    axes.plot(honest, result.honest_accuracy, **_HONEST)
    axes.plot(honest, result.published_accuracy, **_PUBLISHED)
    for name, style in zip(NAMES, ATTACKS, strict=False):
        axes.plot(optimum, result.exact_accuracy[name], **style)
    axes.set_ylim(-0.06, 1.06)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    set_title(axes, "Accuracy on true labels")


def _distances(axes: Axes, result: ThreeRoads) -> None:
    _roads(axes, result, "distance")
    honest, optimum = _places(result)
    axes.plot(honest, norm(result.honest.rho - result.target), **_HONEST)
    axes.plot(honest, result.from_target(result.published)[1], **_PUBLISHED)
    for name, style in zip(NAMES, ATTACKS, strict=False):
        axes.plot(optimum, result.from_target(result.solved[name])[1], **style)
    axes.set_yscale("log")
    axes.set_ylabel("of optima, the certified upper bound", fontsize=9)
    set_title(axes, "Distance to the target")


def _roads(axes: Axes, result: ThreeRoads, what: str) -> None:
    """Draw the trained roads, and name the place of the optima."""
    roads: list[TrainedRoad] = list(result.trained.values())
    for road, line in zip(roads, _LINES, strict=True):
        values = getattr(road, what)
        style = {key: line[key] for key in ("color", "linestyle", "linewidth")}
        axes.plot(np.arange(1, len(values) + 1), values, **style)
    epochs = len(roads[0].distance)
    axes.axvspan(epochs, 1.4 * epochs, color="#F2F2F2", linewidth=0.0)
    axes.set_xlim(0.0, 1.4 * epochs)
    axes.xaxis.set_major_locator(FixedLocator([round(epochs * part / 5) for part in range(6)]))
    axes.text(
        1.2 * epochs,
        1.0,
        "certified optima",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize=8.5,
        color=GRAY,
    )
    _panel(axes)
    axes.set_xlabel("epoch", fontsize=9.5, x=0.36)


def _places(result: ThreeRoads) -> tuple[float, float]:
    """Return where, right of the epochs, optima stand: near the honest one, and near the target."""
    epochs = len(result.trained["gradient"].distance)
    return 1.12 * epochs, 1.28 * epochs


def _ridges(axes: Axes, result: ThreeRoads) -> None:
    nus = [exact.nu for exact in result.exact]
    size = 1.0 + norm(result.target)
    certified = {name: [getattr(e, name).distance / size for e in result.exact] for name in NAMES}
    for name, style in zip(NAMES, ATTACKS, strict=False):
        axes.plot(nus, certified[name], **style | {"linestyle": "none"})
    shown = [WANTED, *(value for values in certified.values() for value in values)]
    for exact in result.exact:
        axes.annotate(
            f"{exact.n_points}\npoints",
            (exact.nu, exact.data.distance / size),
            (0, 11),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axes.axhline(WANTED, color="black", linewidth=1.2, dashes=(6, 3))
    axes.annotate(
        "1e-6",
        (1.0, WANTED),
        (-2, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
    )
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(min(nus) / 2.5, max(nus) * 2.5)
    axes.xaxis.set_major_locator(FixedLocator(nus))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(min(shown) / 2.5, 4.0 * max(shown))
    _panel(axes)
    axes.set_xlabel("ridge ν", fontsize=9.5)
    axes.set_ylabel("certified distance / (1 + |target|)", fontsize=9)
    set_title(axes, "Smaller ridges")


def _panel(axes: Axes) -> None:
    axes.tick_params(labelsize=9)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)
