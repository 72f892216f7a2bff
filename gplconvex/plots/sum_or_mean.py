"""Sum beside mean of local losses, along the training and at the optimum."""

from __future__ import annotations

import numpy as np

from gplconvex.experiments.sum_or_mean import HOW, NOISY, SumOrMean
from gplconvex.plots.style import GRAY, RUNS, Axes, Figure, PercentFormatter, set_title

MARKERS = ("D", "s")
"""Of the optima of sum and mean."""

LABELS = {"sum": "sum: one voice a point", "mean": "mean: one voice a user"}


def sum_or_mean(result: SumOrMean) -> Figure:
    """Draw the accuracy of the shared model against epochs; at the right edge the certified optima.

    A thin line is a draw of images and noise, a thick one the mean of the draws; each draw has its
    optimum.

    Parameters
    ----------
    result : SumOrMean
        From `gplconvex.experiments.sum_or_mean.sum_or_mean`.
    """
    figure = Figure(figsize=(10.4, 4.5), dpi=145, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, noisy in zip(panels, NOISY, strict=True):
        _panel(axes, result, noisy)
    panels[0].set_ylabel("test images, by the shared model", fontsize=9.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(
        f"A mean gives {result.n_small} users of {result.points} noisy images "
        f"the say over one of {result.large} images",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )
    return figure


def _panel(axes: Axes, result: SumOrMean, noisy: str) -> None:
    for how, style, marker in zip(HOW, RUNS, MARKERS, strict=False):
        runs = result.of(how, noisy)
        epochs, color = runs[0].lessons.epochs, style["color"]
        curves = np.stack([run.lessons.accuracy for run in runs])
        axes.plot(epochs, curves.T, color=color, linewidth=0.7, alpha=0.6)
        axes.plot(
            epochs,
            curves.mean(axis=0),
            color=color,
            linestyle=style["linestyle"],
            linewidth=2,
            label=LABELS[how],
        )
        optima = [run.accuracy[0] for run in runs]
        axes.plot(
            np.full(len(optima), 1.1 * epochs[-1]),  # no number of epochs
            optima,
            color=color,
            marker=marker,
            markersize=6,
            markerfacecolor="none",
            linestyle="none",
            label=f"certified optimum of the {how}",
        )
    set_title(axes, f"{result.noise:.0%} noise in the labels of {noisy}")
    axes.axvline(epochs[-1], color=GRAY, linewidth=0.8)
    axes.set_ylim(0.0, 1.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("epochs of training", fontsize=9.5)
    axes.tick_params(labelsize=9.5)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
