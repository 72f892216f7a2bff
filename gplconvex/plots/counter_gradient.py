"""The counter-gradient attack under two regularizers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.experiments.counter_gradient import (
    CounterGradient,
    CounterGradientRun,
    UnderRegularizer,
)
from gplconvex.plots.style import (
    GRAY,
    RUNS,
    Axes,
    Figure,
    Line2D,
    MaxNLocator,
    PercentFormatter,
    Style,
    set_title,
)

_LOOKS: tuple[tuple[str, Style], ...] = (
    ("squared l2", {"color": RUNS[0]["color"], "marker": "o"}),
    ("l2", {"color": RUNS[3]["color"], "marker": "s"}),
)
_MARKS = 8
"""How many marks a line has, so that it is told apart without color."""

_LEAST = 1e-6
"""Where the axis of dishonesty begins: less is the rounding of reports."""

_NONE = 1e-4
"""Dishonesty of a limit that is 0, but for how well the limit is known."""


def counter_gradient(result: CounterGradient) -> Figure:
    """Draw accuracy, distance to the target and dishonesty of the reports, on all ways to the limit.

    The published training is on the left, rounds of the protocol are on the right. Dotted lines are
    the limits, of distances what they are certified to be at most; that of dishonesty under l2 is 0.

    Parameters
    ----------
    result : CounterGradient
        From `gplconvex.experiments.counter_gradient`.

    Examples
    --------
    >>> from gplconvex.datasets import digits
    >>> from gplconvex.experiments.counter_gradient import counter_gradient as experiment
    >>> from gplconvex.experiments.federation import Federation
    >>> figure = counter_gradient(experiment(Federation.of(digits(), 2, 20), epochs=9, n_rounds=1))
    >>> figure.axes[0].get_title(loc="left")
    'Published training'
    """
    figure = Figure(figsize=(8.6, 8.2), dpi=145, layout="constrained")
    panels = figure.subplots(3, 2, sharex="col", sharey="row")
    for side, (_, look) in zip(result.sides, _LOOKS, strict=True):
        for row, (value, limit) in zip(panels, _quantities(side), strict=True):
            _line(row[0], value(side.training), look)
            for run, dashes in zip(side.rounds, ("-", (0, (4, 1.5))), strict=False):
                _line(row[1], value(run), look | {"linestyle": dashes})
            for axes in row if limit is not None else ():
                axes.axhline(limit, color=look["color"], linewidth=1.4, linestyle=(0, (1, 2)))
    _label(panels)
    handles = [
        *(Line2D([], [], label=name, **look) for name, look in _LOOKS),
        Line2D(
            [], [], color=RUNS[0]["color"], linestyle=(0, (4, 1.5)), label="a quarter of the step"
        ),
        Line2D([], [], color=GRAY, linestyle=(0, (1, 2)), linewidth=1.4, label="limit"),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9.5,
        handlelength=3.0,
    )
    figure.suptitle(
        f"{result.images}: the counter-gradient attack wins under squared l2, not under l2",
        x=0.01,
        ha="left",
        fontsize=12.5,
        fontweight="bold",
    )
    return figure


_Value = Callable[[CounterGradientRun], FloatArray]


def _quantities(side: UnderRegularizer) -> tuple[tuple[_Value, float | None], ...]:
    """Return what the rows show of a run, and its limit unless that is 0."""
    lie = side.limit_dishonesty
    return (
        (lambda run: np.asarray(run.accuracies), side.limit_accuracy),
        (lambda run: np.asarray(run.distances), side.certified_distance[1]),
        (lambda run: np.asarray(run.dishonesty), lie if lie > _NONE else None),
    )


def _line(axes: Axes, values: FloatArray, look: Style) -> None:
    every = max(1, len(values) // _MARKS)
    axes.plot(values, linewidth=1.6, markersize=5.5, markevery=every, **look)


def _label(panels: object) -> None:
    """Name axes and set their scales; panels are (3, 2) Axes."""
    accuracy, distance, lie = np.asarray(panels)
    accuracy[0].set(ylabel="accuracy on true labels", ylim=(-0.03, 1.03))
    accuracy[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    distance[0].set(ylabel="distance to the target", yscale="log")
    lie[0].set(ylabel="dishonesty of the report", yscale="log")
    lie[0].set_ylim(bottom=_LEAST / 2.0)
    for axes, title in zip(accuracy, ("Published training", "Rounds of the protocol"), strict=True):
        set_title(axes, title)
    for axes, unit in zip(lie, ("epoch", "round"), strict=True):
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in np.asarray(panels).ravel():
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9.5)
        axes.spines[["right", "top"]].set_visible(False)
