"""Servers against the bound that none avoids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.errors import InvalidInputError
from gplconvex.impossibility import Sweep
from gplconvex.plots.style import Axes, Figure, FixedLocator, MaxNLocator, NullLocator

# The palette of Okabe and Ito, which color-blind readers tell apart; the shapes say the same without
# color, and fit into one another where curves meet.
_STYLES: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker, "linestyle": dashes, "markersize": size}
    for color, marker, dashes, size in (
        ("#0072B2", "o", "-", 9.0),
        ("#D55E00", "^", "-", 5.0),
        ("#CC79A7", "D", (0, (4, 1.5)), 5.0),
        ("#E69F00", "s", "-", 9.5),
        ("#009E73", "v", (0, (6, 1.5)), 6.0),
        ("black", "x", (0, (2, 1.2)), 5.5),
        ("#56B4E9", "P", "-", 7.0),
        ("#767676", "*", (0, (1, 1)), 8.0),
    )
)
_SAME = 1e-6
"""Relative difference up to which two servers share a curve."""

_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def impossibility(by_f: Sweep, by_delta: Sweep) -> Figure:
    r"""Draw the errors of servers over the bound, as f and as :math:`\Delta` grow.

    Servers with the same errors share a curve.

    Parameters
    ----------
    by_f, by_delta : Sweep
        From `gplconvex.impossibility.sweep`: of several f, and of several :math:`\Delta`; the same N and
        the same servers.

    Raises
    ------
    InvalidInputError
        If the two are not of the same users and servers, or there are more than eight curves.

    Examples
    --------
    >>> from gplconvex.impossibility import sweep
    >>> figure = impossibility(
    ...     sweep(5, [1, 2], 1.0, regularizers={}), sweep(5, 1, [0.1, 10.0], regularizers={})
    ... )
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['More strategic users', 'More heterogeneous honest users']
    """
    same = by_f.n_users == by_delta.n_users and by_f.reach == by_delta.reach
    if not (same and set(by_f.over_bound) == set(by_delta.over_bound)):
        raise InvalidInputError(
            "the two sweeps must be of the same number of users, reach and servers; got "
            f"{by_f.n_users} users, reach {by_f.reach:g}, {sorted(by_f.over_bound)} and "
            f"{by_delta.n_users} users, reach {by_delta.reach:g}, {sorted(by_delta.over_bound)}"
        )
    curves = _curves(by_f, by_delta)
    if len(curves) > len(_STYLES):
        raise InvalidInputError(
            f"at most {len(_STYLES)} different curves can be told apart; got {len(curves)}: sweep fewer "
            "regularizers"
        )
    figure = Figure(figsize=(11, 5.6), dpi=145)
    rows = math.ceil(len(curves) / 3)  # of the legend, between the text and the panels
    top = 0.775 - 0.05 * rows
    grid = figure.add_gridspec(1, 2, left=0.062, right=0.985, bottom=0.105, top=top, wspace=0.13)
    left, right = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _panel(left, "More strategic users", by_f.f.astype(np.float64), by_f, curves)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_xlabel(
        f"strategic users f of N = {by_f.n_users}, Δ = {_range(by_f.delta)}", fontsize=9.5
    )
    left.set_ylabel("larger error of the two worlds / bound", fontsize=9.5)
    _panel(right, "More heterogeneous honest users", by_delta.delta, by_delta, curves)
    right.set_xscale("log")
    right.set_xlabel(
        f"diameter Δ of honest preferred models, f = {_range(by_delta.f)} of N = {by_delta.n_users}",
        fontsize=9.5,
    )
    top = 1.25 * max(axes.get_ylim()[1] for axes in (left, right))
    for axes in (left, right):
        axes.set_ylim(0.8, top)
        axes.text(
            0.5,
            (np.log(1.0) - np.log(0.8)) / (np.log(top) - np.log(0.8)) / 2.0,
            "no server can be here (proved)",
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=8.5,
            color="#4D4D4D",
        )
    figure.text(
        0.012,
        0.972,
        "How far from the honest mean servers end, against what none can avoid",
        fontsize=15,
        fontweight="bold",
        va="top",
    )
    figure.text(
        0.012,
        0.902,
        "f users at each end of a segment, the others at its ends in the worst proportion. Whether the "
        "first f are strategic or the last,\nall data, all reports and the model are the same: "
        f"in one of the two worlds it is at least {_bound(by_f.reach)} from the honest mean.",
        fontsize=10,
        va="top",
        linespacing=1.35,
    )
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(0.004, 0.825),
        ncols=3,
        frameon=False,
        fontsize=9.5,
        handlelength=3.0,
        columnspacing=2.0,
    )
    return figure


def _bound(reach: float) -> str:
    """Return the bound as a formula."""
    return f"{'' if reach == 1.0 else f'{reach:g} '}f Δ / (2 (N − f))"


def _curves(by_f: Sweep, by_delta: Sweep) -> list[list[str]]:
    """Return the servers, those together whose errors are the same in both sweeps."""

    def errors(name: str) -> FloatArray:
        return np.concatenate([by_f.over_bound[name], by_delta.over_bound[name]])

    curves: list[list[str]] = []
    for name in by_f.over_bound:
        for curve in curves:
            if np.allclose(errors(curve[0]), errors(name), rtol=_SAME, atol=0.0, equal_nan=True):
                curve.append(name)
                break
        else:
            curves.append([name])
    return curves


def _panel(
    axes: Axes, title: str, x: FloatArray, result: Sweep, curves: Sequence[Sequence[str]]
) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=8)
    axes.axhspan(0.5, 1.0, color="#E6E6E6", linewidth=0.0)
    axes.axhline(1.0, color="black", linewidth=1.2)
    for curve, style in zip(curves, _STYLES, strict=False):
        axes.plot(
            x,
            result.over_bound[curve[0]],
            linewidth=1.6,
            markerfacecolor="none",
            markeredgewidth=1.3,
            clip_on=False,
            zorder=3,
            label=", ".join(curve),
            **style,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(_TICKS))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=9.5)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def _range(values: FloatArray | Any) -> str:
    """Return the one value of several, or from where to where they go."""
    least, most = float(np.min(values)), float(np.max(values))
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
