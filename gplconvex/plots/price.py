"""How many points targets take, against the strength of the tie and the size of the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.experiments.price import POOLED, Price, Prices
from gplconvex.plots.style import (
    GRAY,
    RUNS,
    Axes,
    Figure,
    FixedLocator,
    NullLocator,
    Style,
    set_title,
)


def price(result: Price) -> Figure:
    r"""Draw numbers of points: of the target, of what relabels images, and of pixels in [0, 1].

    Numbers of points are those constructed, or else proved to be needed, which hardly differ.

    Parameters
    ----------
    result : Price
        From `gplconvex.experiments.price`.
    """
    figure = Figure(figsize=(10.4, 8.2), dpi=145, layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    _against_lam(first, result)
    _against_size(second, result)
    _on_the_way(third, result)
    _pair(fourth, result)
    for axes in (first, third, fourth):
        axes.set_yscale("log")
    for axes in (first, second, third, fourth):
        axes.set_ylabel("fake points", fontsize=9.5)
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9.5)
        axes.spines[["right", "top"]].set_visible(False)
        axes.legend(fontsize=8.5, frameon=False, handlelength=3.2)
    return figure


def _against_lam(axes: Axes, result: Price) -> None:
    _of_lams(axes, result.targets, 0, "the target itself")
    x = _places(result.targets.lams)
    axes.plot(x, result.targets.formula, color=GRAY, linewidth=1, label="its formula, no ridge")
    n = len(result.shares)
    for i, share in enumerate(result.shares.tolist()):
        label = f"{share:.0%} of its labels, cheapest found"
        _of_lams(axes, result.found, i + 1, label, slice(i, None, n))
    _name_lams(axes, result.targets.lams)
    set_title(axes, f"{result.images}: labels are cheaper than a model")


def _against_size(axes: Axes, result: Price) -> None:
    rows = result.scaled
    at_one = result.targets.lams == result.lam
    s = np.append(rows.scales, result.targets.scales[at_one])
    points = np.append(rows.bounds, result.targets.bounds[at_one])
    order = np.argsort(s)
    axes.plot(s[order], points[order], **_style(0), label="needed")
    formula = np.append(rows.formula, result.targets.formula[at_one])
    axes.plot(s[order], formula[order], color=GRAY, linewidth=1, label="formula, no ridge")
    axes.set_xlabel("s: the target is s times that of the label shift", fontsize=9.5)
    set_title(axes, rf"A smaller target, the same labels ($\lambda$ = {result.lam:g})")


def _on_the_way(axes: Axes, result: Price) -> None:
    rows = result.on_the_way
    at_one = result.targets.lams == result.lam
    w = np.append(rows.ways, result.targets.ways[at_one])
    axes.plot(w, np.append(rows.bounds, result.targets.bounds[at_one]), **_style(0), label="needed")
    for x, points, reached in zip(rows.ways, rows.bounds, rows.reached, strict=True):
        axes.annotate(
            f"{reached:.0%}",
            (x, points),
            (-8, 5),
            textcoords="offset points",
            fontsize=8.5,
            ha="right",
        )
    axes.set_xlim(0.0, 1.05)
    axes.set_xlabel(
        "w: part of the way from the honest optimum (percent: relabeled images)", fontsize=9.5
    )
    set_title(axes, rf"On the way to the target ($\lambda$ = {result.lam:g})")


def _pair(axes: Axes, result: Price) -> None:
    _of_lams(axes, result.pair_targets, 0, "the target itself, pixels in [0, 1]")
    _of_lams(axes, result.pair_pixels, 1, "its labels, pixels in [0, 1]")
    _of_lams(axes, result.pair_free, 3, "its labels, inputs unbounded")
    if POOLED in result.pair_pixels.lams:
        floor, share = result.pair_floors.points[-1], result.pair_floors.shares[-1]
        x = _places(result.pair_pixels.lams)[result.pair_pixels.lams == POOLED]
        label = f"no model that misnames {share:.0%} costs less: pixels, pooled"
        axes.plot(
            x, [floor], marker="_", markersize=18, color="black", linestyle="none", label=label
        )
    _name_lams(axes, result.pair_targets.lams)
    set_title(axes, f"{result.pair}: do points have to be images?")


def _of_lams(axes: Axes, prices: Prices, run: int, label: str, rows: slice = slice(None)) -> None:
    lams, points = prices.lams[rows], prices.points[rows]
    axes.plot(_places(lams), points, **_style(run), label=label)


def _style(run: int) -> Style:
    return RUNS[run] | {"markersize": min(9, RUNS[run]["markersize"])}


def _places(lams: FloatArray) -> FloatArray:
    """Return log10 of lam, and for pooled training a place beyond the others."""
    finite = np.log10(lams[np.isfinite(lams)])
    beyond = (finite.max() if finite.size else 0.0) + 1.0
    return np.where(np.isfinite(lams), np.log10(np.where(np.isfinite(lams), lams, 1.0)), beyond)


def _name_lams(axes: Axes, lams: Sequence[float]) -> None:
    places = _places(np.asarray(lams))
    axes.xaxis.set_major_locator(FixedLocator(places.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{lam:g}" if math.isfinite(lam) else "pooled" for lam in lams])
    axes.set_xlabel(r"$\lambda$, the strength of the tie", fontsize=9.5)
