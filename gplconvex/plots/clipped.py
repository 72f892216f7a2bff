"""Fake images: how many, what they look like, and how far the published recipe gets."""

from __future__ import annotations

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.experiments.clipped import Clipped
from gplconvex.plots.style import LEAST, RUNS, Axes, Figure, set_title

SHOWN = 4
"""At most so many images of two classes are drawn, and so many inputs that are none."""


def clipped(result: Clipped) -> Figure:
    r"""Draw numbers of fake images, some of the images, and where the published recipe ends.

    Parameters
    ----------
    result : Clipped
        From `gplconvex.experiments.clipped`.
    """
    figure = Figure(figsize=(10.4, 7.6), dpi=145, layout="constrained")
    above, middle, below = np.asarray(figure.subfigures(3, 1, height_ratios=(3.6, 1.6, 1.6)))
    left, right = above.subplots(1, 2)
    _numbers(left, result)
    _recipe(right, result)
    two, shared = result.two, result.shared
    order = np.argsort(-two.counts)[:SHOWN]
    size = float(np.abs(two.unbounded).max())
    _images(
        middle,
        f"{result.pair}: {two.pixels[0]} images lead to the target, {len(two.counts)} different ones",
        np.vstack([two.images[order], 0.5 + 0.5 * two.unbounded[:SHOWN] / size]).reshape(
            -1, *result.pair_shape
        ),
        [
            f"{count} times,\nlabeled {result.pair_classes[int(label)]}"
            for label, count in zip(two.labels[order], two.counts[order], strict=True)
        ]
        + [f"unbounded:\nwithin {size:.2g}"] * len(two.unbounded[:SHOWN]),
    )
    often = [
        int(rows[np.argmax(shared.counts[rows])])
        for rows in (np.flatnonzero(shared.labels == label) for label in np.unique(shared.labels))
    ]
    _images(
        below,
        f"{result.several}: {shared.n_points} images lead to the target, {len(shared.counts)} different "
        f"ones; no fewer than {shared.bound} points do",
        shared.images[often].reshape(-1, *result.several_shape),
        [f"{shared.counts[i]} times,\nlabeled {shared.labels[i]:.0f}" for i in often],
    )
    return figure


def _numbers(axes: Axes, result: Clipped) -> None:
    two = result.two
    for run, points, label in (
        (0, two.pixels, "pixels in [0, 1]"),
        (3, two.free, "inputs unbounded"),
    ):
        style = RUNS[run] | {"markersize": min(10, RUNS[run]["markersize"])}
        axes.plot(two.scales, points, **style, label=label)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("s: the target is s times that of the label shift", fontsize=9.5)
    axes.set_ylabel("fewest fake points", fontsize=9.5)
    set_title(axes, f"{result.pair}: images, or any inputs")
    _finish(axes)


def _recipe(axes: Axes, result: Clipped) -> None:
    for run, recipe in enumerate(result.recipes):
        style = RUNS[run] | {"markersize": min(10, RUNS[run]["markersize"])}
        parts = np.maximum(recipe.distances / recipe.wanted, LEAST)
        axes.plot(recipe.rows * recipe.weight, parts, **style, label=f"recipe, {recipe.images}")
        axes.axvline(
            recipe.bound,
            color=RUNS[run]["color"],
            linewidth=1,
            dashes=(2, 2),
            label=f"no fewer arrive, {recipe.images}",
        )
    axes.set(xscale="log", yscale="log")
    axes.tick_params(which="minor", labelleft=False)
    axes.set_xlabel("fake images, uniform at random", fontsize=9.5)
    axes.set_ylabel("part of the way that is left", fontsize=9.5)
    set_title(axes, "The published recipe, at its certified optimum")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5)
    axes.spines[["right", "top"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, handlelength=3.2)


def _images(figure: Figure, title: str, images: FloatArray, captions: list[str]) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    for axes, image, caption in zip(
        figure.subplots(1, max(10, len(images)), squeeze=False)[0], images, captions, strict=False
    ):
        axes.imshow(image, cmap="gray_r", vmin=0.0, vmax=1.0)
        axes.set_title(caption, fontsize=8)
    for axes in figure.axes:
        axes.set_axis_off()
