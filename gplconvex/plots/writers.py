"""Writers as users: what ties do for them, and what an attacker makes of these."""

from __future__ import annotations

import numpy as np

from gplconvex.experiments.writers import ALONE, POOLED, Writers
from gplconvex.plots.style import (
    DATA,
    GRAY,
    HONEST,
    MODEL,
    Axes,
    Figure,
    PercentFormatter,
    set_title,
)

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the writers' accuracies, which are drawn as a thin bar, a thick bar and a line."""


def writers(result: Writers) -> Figure:
    """Draw accuracies of the writers with and without an attack, and what it costs.

    Parameters
    ----------
    result : Writers
        From `gplconvex.experiments.writers.writers`.
    """
    figure = Figure(figsize=(13.2, 5.0), dpi=145, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _help(left, result)
    _harm(middle, result)
    _cost(right, result)
    names = [_name(lam) for lam in result.lams]
    for axes in (left, middle, right):
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xlabel(r"$\lambda$, what ties writers", fontsize=9.5)
        axes.tick_params(labelsize=9.5)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["right", "top"]].set_visible(False)
    for axes in (left, middle):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.suptitle(
        "Loose ties serve writers better than one model, and shield them from an attack on it",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )
    return figure


def _name(lam: float) -> str:
    return {ALONE: "alone", POOLED: "one\nmodel"}.get(lam, f"{lam:g}")


def _help(axes: Axes, result: Writers) -> None:
    place = np.arange(len(result.lams))
    for values, style, label in (
        (result.mean(result.personal), HONEST, "own model, own held-out images"),
        (result.shared, MODEL, "shared model, the same images"),
        (result.strangers, {"color": GRAY, "marker": "x"}, "shared model, test images"),
    ):
        axes.plot(place, values, linewidth=0.9, linestyle=(0, (1, 2)), label=label, **style)
    set_title(axes, "Nobody attacks")
    axes.set_ylabel("images named right", fontsize=9.5)
    axes.legend(
        fontsize=8.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1
    )


def _harm(axes: Axes, result: Writers) -> None:
    for place, (before, after) in enumerate(zip(result.personal, result.attacked, strict=True)):
        for offset, shares, style in ((-0.15, before, HONEST), (0.15, after, DATA)):
            low, quarter, half, most, high = np.quantile(shares, QUANTILES)
            at, color = place + offset, style["color"]
            axes.plot([at, at], [low, high], color=color, linewidth=1.0)
            axes.plot([at, at], [quarter, most], color=color, linewidth=5.0, alpha=0.5)
            label = "before" if style is HONEST else "attacked"
            axes.plot(
                at,
                half,
                linestyle="none",
                label=label if place == 0 else None,
                **style | {"markersize": 6},
            )
    set_title(axes, "Each writer's own model")
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("own images named right: 5, 25, 50, 75, 95 % of writers", fontsize=8.5)
    axes.legend(
        fontsize=8.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2
    )


def _cost(axes: Axes, result: Writers) -> None:
    points = [attack.points for attack in result.attacks]
    place = np.arange(1, len(result.lams))
    axes.plot(place, points, linestyle="none", **DATA | {"markersize": 7})
    for at, each in zip(place, points, strict=True):
        axes.annotate(
            f"{each:,}".replace(",", " "),
            (float(at), float(each)),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axes.text(
        0,
        0.5,
        "no number\nof points",
        transform=axes.get_xaxis_transform(),
        ha="center",
        fontsize=8.5,
    )
    axes.axhline(result.images.sum(), color=GRAY, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        "images of all writers",
        (0.99, float(result.images.sum())),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color=GRAY,
    )
    axes.set_yscale("log")
    axes.margins(y=0.15)
    set_title(axes, "Fake points that shift the shared model")
