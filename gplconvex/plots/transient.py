"""The published poisoning of softmax along its training, and where it ends."""

from __future__ import annotations

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.experiments.transient import PUBLISHED_EPOCHS, Transient
from gplconvex.plots.style import GRAY, RUNS, Axes, Figure, PercentFormatter, set_title


def transient(result: Transient) -> Figure:
    r"""Draw accuracy and the attacker's model against epochs; at the right edge the certified optima.

    Parameters
    ----------
    result : Transient
        From `gplconvex.experiments.transient`.
    """
    figure = Figure(figsize=(10.4, 4.4), dpi=145, layout="constrained")
    left, right = figure.subplots(1, 2)
    road = result.road
    last = float(road.epochs[-1])
    end = last * 2.2  # the certified optima stand here: no number of epochs

    left.plot(road.epochs, road.accuracy, label="named right", **_line(0))
    left.plot(road.epochs, road.shifted, label="named one class on", **_line(1))
    left.axhline(
        result.honest_accuracy, color=GRAY, linewidth=1, linestyle=(0, (1, 2)), label="honest users"
    )
    _at_the_end(left, end, result.accuracy[:, 0], 0, "certified optimum: named right")
    _at_the_end(left, end, result.shifted, 1, "named one class on")
    left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    left.set_ylim(-0.03, 1.03)
    left.set_ylabel("test images, by the shared model", fontsize=9.5)
    set_title(left, f"{result.n_points} published points: a transient")

    right.plot(road.epochs, road.attacker, label=r"$|\theta_s|$, the attacker's model", **_line(2))
    right.plot(
        road.epochs, road.distance, label=r"$|\rho - \rho_\dagger|$, to the target", **_line(3)
    )
    right.axhline(
        result.spade_norm,
        color=GRAY,
        linewidth=1,
        linestyle=(0, (1, 2)),
        label=r"$|\theta_\spadesuit|$, what the target takes",
    )
    _at_the_end(right, end, result.attacker, 2, r"certified optimum: $|\theta_s|$")
    _at_the_end(right, end, result.distance, 3, r"$|\rho - \rho_\dagger|$")
    right.set_yscale("log")
    set_title(right, f"at the optimum it takes {result.points_needed} points or more")

    for axes in (left, right):
        axes.set_xscale("log")
        axes.axvline(PUBLISHED_EPOCHS, color=GRAY, linewidth=0.8)
        axes.annotate(
            " published end",
            (PUBLISHED_EPOCHS, 0.5),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=8,
            color=GRAY,
            ha="right",
            va="center",
        )
        axes.set_xlabel("epochs of training", fontsize=9.5)
        axes.tick_params(labelsize=9.5)
        axes.legend(
            fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False
        )
    return figure


def _line(i: int) -> dict[str, object]:
    return {name: RUNS[i][name] for name in ("color", "linestyle", "linewidth")}


def _at_the_end(axes: Axes, x: float, values: FloatArray, i: int, label: str) -> None:
    color = RUNS[i]["color"]
    style = {"color": color, "marker": "D" if i % 2 == 0 else "s", "markersize": 7}
    axes.plot(np.full(len(values), x), values, linestyle="none", label=label, **style)
