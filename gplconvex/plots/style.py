"""What all pictures share: matplotlib, a palette, and the looks of runs and attacks."""

from __future__ import annotations

from typing import Any

from gplconvex.errors import MissingDependencyError

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter
except ImportError as error:
    raise MissingDependencyError(
        'figures need matplotlib: install it with pip install "gplconvex[demo]"'
    ) from error

__all__ = [
    "Axes",
    "Figure",
    "FixedLocator",
    "Line2D",
    "LogNorm",
    "MaxNLocator",
    "NullLocator",
    "PercentFormatter",
]

Style = dict[str, Any]

# The palette of Okabe and Ito, which color-blind readers tell apart; the shapes say the same without
# color. The three attacks are a ring, a square and a dot that fit into one another: where the models
# coincide they make a bull's-eye.
HONEST: Style = {"color": "#0072B2", "marker": "D", "markersize": 7}
GRADIENT: Style = {
    "color": "#E69F00",
    "marker": "o",
    "markersize": 16,
    "markerfacecolor": "none",
    "markeredgewidth": 2.2,
}
MODEL: Style = {
    "color": "#009E73",
    "marker": "s",
    "markersize": 8,
    "markerfacecolor": "none",
    "markeredgewidth": 1.8,
}
DATA: Style = {"color": "#D55E00", "marker": "o", "markersize": 4}
TARGET: Style = {"color": "black", "marker": "|", "markersize": 24, "markeredgewidth": 1.3}
ATTACKS = (GRADIENT, MODEL, DATA, DATA)
GRAY = "#767676"
LEAST = 1e-17
"""Where a distance of exactly 0 is drawn on a logarithmic axis."""

# Several runs differ in color, dashes and the shape at their end; the shapes fit into one another.
RUNS: tuple[Style, ...] = tuple(
    {
        "color": color,
        "linestyle": dashes,
        "marker": marker,
        "markersize": size,
        "markerfacecolor": "none",
        "markeredgewidth": 1.6,
        "linewidth": 1.6,
    }
    for color, dashes, marker, size in (
        ("#0072B2", "-", "o", 14),
        ("#E69F00", (0, (7, 2)), "s", 10),
        ("#009E73", (0, (4, 1.5)), "o", 7),
        ("#D55E00", (0, (1.5, 1)), "o", 3),
        ("#CC79A7", (0, (7, 2, 1.5, 2)), "^", 12),
        ("#56B4E9", (0, (4, 1.5, 1.5, 1.5)), "v", 12),
        ("black", (0, (1, 2.5)), "x", 8),
    )
)
REFERENCES: dict[str, Style] = {
    "honest": HONEST,
    "target": TARGET | {"marker": "+"},
}
"""References that are drawn in every picture alike; others take what is left."""
OTHER_REFERENCE: Style = {"color": GRAY, "marker": "P", "markersize": 9}


def set_title(axes: Axes, title: str) -> None:
    """Write the title of a picture, or of a part of one."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=8)
