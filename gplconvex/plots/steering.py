"""A personal model steered to a target."""

from __future__ import annotations

import numpy as np

from gplconvex.experiments.steering import Steering
from gplconvex.plots.style import (
    GRAY,
    RUNS,
    Axes,
    Figure,
    PercentFormatter,
    Style,
    set_title,
)
from gplconvex.regularizers import norm

_VICTIM: Style = {"color": RUNS[0]["color"], "marker": "o"}
_SHARED: Style = {"color": RUNS[3]["color"], "marker": "s", "linestyle": (0, (4, 1.5))}
_LIAR: Style = {"color": RUNS[2]["color"], "marker": "^", "linestyle": (0, (7, 2, 1.5, 2))}
_DOTTED: Style = {"color": GRAY, "linestyle": (0, (1, 2)), "linewidth": 1.4}
_LEGEND: Style = {"frameon": False, "fontsize": 9, "handlelength": 3.2}
_TRAININGS = (_VICTIM, _SHARED, _LIAR)


def steering(result: Steering) -> Figure:
    r"""Draw what it costs to steer a personal model, how far the models lie, and where training is.

    Parameters
    ----------
    result : Steering
        From `gplconvex.experiments.steering`.

    Examples
    --------
    >>> from gplconvex.datasets import digits
    >>> from gplconvex.experiments.federation import Federation
    >>> from gplconvex.experiments.steering import steering as experiment
    >>> few = {"lams": [10.0], "solved": [], "trained": [10.0], "epochs": 5, "extra": 0.0}
    >>> figure = steering(experiment(Federation.of(digits(), 1, 60), **few))
    >>> figure.axes[0].get_title(loc="left")
    'Fake points needed'
    """
    figure = Figure(figsize=(9.6, 7.4), dpi=145, layout="constrained")
    (points, sizes), (accuracy, training) = figure.subplots(2, 2)
    _points(points, result)
    _sizes(sizes, result)
    _accuracies(accuracy, result)
    _training(training, result)
    for axes in (points, sizes, training):
        axes.legend(**_LEGEND)
    for axes in (points, sizes, accuracy):
        axes.set(xscale="log", xlabel=r"strength of the tie, $\lambda$")
    for axes in (points, sizes, accuracy, training):
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9.5)
        axes.spines[["right", "top"]].set_visible(False)
    figure.suptitle(
        f"{result.images}: a personal model can be steered, at a price that a loose tie raises",
        x=0.01,
        ha="left",
        fontsize=12.5,
        fontweight="bold",
    )
    return figure


def _points(axes: Axes, result: Steering) -> None:
    lams = [case.lam for case in result.cases]
    found = [case.fewest.n_points for case in result.cases]
    least = [case.lower_bound for case in result.cases]
    shared = [case.shared_lower_bound for case in result.cases]
    axes.plot(lams, found, label="personal model: found", **_VICTIM)
    axes.plot(lams, least, color="black", marker="_", markersize=13, linestyle="none")
    axes.plot([], [], color="black", marker="_", markersize=13, linestyle="none", label="at least")
    axes.plot(lams, shared, label="shared model: at least", **_SHARED)
    axes.set(yscale="log", ylabel="points")
    set_title(axes, "Fake points needed")


def _sizes(axes: Axes, result: Steering) -> None:
    lams = [case.lam for case in result.cases]
    liars = [norm(case.theta) for case in result.cases]
    shared = [norm(case.rho) for case in result.cases]
    axes.plot(lams, liars, label="the attacker's", **_LIAR)
    axes.plot(lams, shared, label="shared", **_SHARED)
    axes.axhline(norm(result.target), label="the victim's: the target", **_DOTTED)
    axes.set(yscale="log", ylabel="norm")
    set_title(axes, "Norms of the models")


def _accuracies(axes: Axes, result: Steering) -> None:
    lams = [case.lam for case in result.cases]
    victim = np.array([case.victim_accuracy for case in result.cases])
    shared = np.array([case.rho_accuracy for case in result.cases])
    hollow = {"markerfacecolor": "white"}
    axes.axhline(result.before[0], label="victim without attack, true labels", **_DOTTED)
    axes.plot(lams, victim[:, 1], label="victim, labels one on", **_VICTIM | hollow)
    axes.plot(lams, victim[:, 0], label="victim, true labels", **_VICTIM)
    axes.plot(lams, shared[:, 1], label="shared, labels one on", **_SHARED | hollow)
    axes.plot(lams, shared[:, 0], label="shared, true labels", **_SHARED)
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(**_LEGEND, loc="upper center", bbox_to_anchor=(0.5, 0.4))
    set_title(axes, "Accuracy")


def _training(axes: Axes, result: Steering) -> None:
    for run, look in zip(result.trainings, _TRAININGS, strict=False):
        every = max(1, len(run.victim_distances) // 8)
        axes.plot(run.victim_distances, label=rf"$\lambda$ = {run.lam:g}", markevery=every, **look)
    axes.set(yscale="log", xlabel="epoch", ylabel="victim's distance to the target")
    set_title(axes, "Published training")
