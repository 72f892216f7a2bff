"""A poisoned last layer: accuracies, the fake points, and the pictures that they are of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import SubFigure

from gplconvex.experiments.last_layer import LastLayer, LayerAttack, is_image
from gplconvex.plots.style import (
    DATA,
    GRAY,
    HONEST,
    MODEL,
    Axes,
    Figure,
    PercentFormatter,
    Style,
    set_title,
)

COLUMNS = 4
"""Pictures in a row."""


def last_layer(result: LastLayer) -> Figure:
    """Draw accuracies, how large the features of the fake points are, and pictures that have these.

    Parameters
    ----------
    result : LastLayer
        From `gplconvex.experiments.last_layer.last_layer`.
    """
    pictures = result.smaller.inputs is not None and len(result.shape) == 2
    figure = Figure(figsize=(13.2 if pictures else 9.2, 4.6), dpi=145, layout="constrained")
    left: Figure | SubFigure = figure
    if pictures:
        halves: Any = figure.subfigures(1, 2, width_ratios=(2.1, 1.0))
        left = halves[0]
        _pictures(halves[1], result)
    _accuracies(left.add_subplot(1, 2, 1), result)
    _sizes(left.add_subplot(1, 2, 2), result)
    return figure


def _accuracies(axes: Axes, result: LastLayer) -> None:
    """Draw shares of test inputs, one row a model and a class."""
    rows: list[tuple[str, float, Style]] = [
        ("honest users:\nnamed right", result.honest_accuracy[0], HONEST),
        ("poisoned:\nnamed right", result.accuracy[0], DATA | {"markersize": 8}),
        ("poisoned:\nnamed one class on", result.shifted[0], MODEL | {"color": DATA["color"]}),
    ]
    if not math.isnan(result.body_accuracy):
        rows.insert(
            0,
            (
                "body with its own head:\nnamed right",
                result.body_accuracy,
                {"marker": "x", "color": GRAY},
            ),
        )
    for row, (_, share, style) in enumerate(rows):
        axes.plot(share, row, linestyle="none", **style)
        axes.text(share, row - 0.18, f"{share:.1%}", ha="center", fontsize=9.5)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.12, 1.12)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("test inputs, by the shared last layer", fontsize=9.5)
    _tidy(axes, "A last layer is poisoned exactly")


def _sizes(axes: Axes, result: LastLayer) -> None:
    """Draw the largest feature of each distinct fake point beside its multiplicity."""
    attacks: list[tuple[LayerAttack, Style]] = [
        (result.fewest, HONEST | {"markersize": 5, "markerfacecolor": "none"}),
        (result.smaller, DATA),
    ]
    for attack, style in attacks[: 2 if result.extra else 1]:
        label = f"{attack.points} points"
        if attack is result.fewest:
            label += f" (fewer than {attack.lower_bound} cannot)"
        largest = np.abs(attack.x).max(axis=1)
        axes.plot(largest, attack.counts, linestyle="none", label=label, **style)
    axes.axvline(
        result.largest,
        color=GRAY,
        linewidth=1,
        linestyle=(0, (1, 2)),
        label="largest feature of a real input",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("largest of its features, in size", fontsize=9.5)
    axes.set_ylabel("times that a fake point is there", fontsize=9.5)
    axes.legend(fontsize=8.5, frameon=False, loc="upper right")
    axes.margins(y=0.3)
    _tidy(axes, "The fake points")


def _pictures(figure: SubFigure, result: LastLayer) -> None:
    """Show, for each class, the picture of the fake point that is there most often."""
    attack = result.smaller
    most = [
        max(np.flatnonzero(attack.y == label), key=lambda row: attack.counts[row])
        for label in np.unique(attack.y)
    ]
    panels = figure.subplots(-(-len(most) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    shown = attack.inputs[most]
    black, white = (0.0, 1.0) if is_image(attack.inputs) else (shown.min(), shown.max())
    for axes, row, image in zip(panels, most, shown, strict=False):
        axes.imshow(image.reshape(result.shape), cmap="gray", vmin=black, vmax=white)
        axes.set_title(f'"{attack.y[row]:.0f}", {attack.counts[row]} times', fontsize=8.5)
    kind = (
        "pixels from 0 to 1"
        if is_image(attack.inputs)
        else f"pixels from {attack.inputs.min():.2g} to {attack.inputs.max():.2g}"
    )
    figure.suptitle(f"Pictures of them, {kind}", fontsize=12, fontweight="bold")


def _tidy(axes: Axes, title: str) -> None:
    set_title(axes, title)
    axes.tick_params(labelsize=9.5)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)
