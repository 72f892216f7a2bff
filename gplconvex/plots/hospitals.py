"""What the reversal of a diagnosis did."""

from __future__ import annotations

from collections.abc import Sequence

from gplconvex.experiments.hospitals import Reversal
from gplconvex.plots.style import (
    ATTACKS,
    DATA,
    GRADIENT,
    GRAY,
    HONEST,
    LEAST,
    MODEL,
    TARGET,
    Axes,
    Figure,
    Line2D,
    PercentFormatter,
    set_title,
)


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
                ("honest", HONEST),
                ("target of the attacker", TARGET | {"markersize": 15}),
                ("gradient attack", GRADIENT),
                ("model attack", MODEL),
                ("data poisoning", DATA),
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
                "color": GRAY,
                "linewidth": 1.2,
                "shrinkA": 7,
                "shrinkB": 11,
            },
        )
        axes.plot(honest, row, **HONEST)
        axes.text(honest + 0.035, row, f"{honest:.1%}", va="center", fontsize=9.5)
        axes.text(scores[0] - 0.05, row, f"{scores[0]:.1%}", va="center", ha="right", fontsize=9.5)
        for score, style in zip(scores, ATTACKS, strict=True):
            axes.plot(score, row, **style)
    axes.set_xlim(-0.08, 1.08)
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _distances(axes: Axes, result: Reversal) -> None:
    _panel(axes, "Distance to the target", [outcome.name for outcome in result.outcomes])
    for row, (outcome, style) in enumerate(zip(result.outcomes, (HONEST, *ATTACKS), strict=True)):
        shown, bound = max(outcome.distance, LEAST), outcome.distance + outcome.certified
        axes.plot([shown, bound], [row, row], color=style["color"], linewidth=1.6)
        axes.plot(bound, row, marker="|", markersize=11, markeredgewidth=2.2, color=style["color"])
        face = "white" if "markerfacecolor" in style else style["color"]
        axes.plot(shown, row, **style | {"markerfacecolor": face})
    axes.set_xscale("log")
    axes.set_xlim(LEAST / 3.0, 1e2)
    axes.set_xlabel("model found, with certified bound of the exact one")


def _coefficients(axes: Axes, result: Reversal) -> None:
    honest, target = result.honest.solution.rho, result.poisoning.target
    names = [*result.data.features, "intercept"]
    order = sorted(range(len(names)), key=lambda j: -honest[j])
    _panel(axes, "Coefficients of the shared model", [names[j] for j in order])
    axes.axvline(0.0, color=GRAY, linewidth=1.0)
    for row, j in enumerate(order):
        axes.plot(target[j], row, **TARGET)
        axes.plot(honest[j], row, **HONEST)
        for attack, style in zip(result.attacks, ATTACKS, strict=True):
            axes.plot(attack.solution.rho[j], row, **style)
    limit = 1.15 * max(abs(honest))
    axes.set_xlim(-limit, limit)
    axes.set_xlabel("healthy  ←  per standard deviation  →  ill")


def _panel(axes: Axes, title: str, rows: Sequence[str]) -> None:
    """Prepare a panel with one named row a line, from the top down."""
    set_title(axes, title)
    axes.set_yticks(range(len(rows)), rows, fontsize=10)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=9.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.label.set_fontsize(9.5)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
