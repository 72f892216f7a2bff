"""Runs of the federated protocol, and server rules beside attacks."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping
from itertools import cycle

import numpy as np
import numpy.typing as npt

from gplconvex.errors import InvalidInputError
from gplconvex.experiments.rules import RuleComparison
from gplconvex.federated import Trace
from gplconvex.plots.style import (
    LEAST,
    OTHER_REFERENCE,
    REFERENCES,
    RUNS,
    Axes,
    Figure,
    MaxNLocator,
    Style,
    set_title,
)

FAR = 1e30
"""Norms beyond this are drawn at the upper edge."""


def trajectories(
    traces: Mapping[str, Trace],
    *,
    coordinates: tuple[int, int] = (0, 1),
    labels: tuple[str, str] | None = None,
) -> Figure:
    r"""Draw the ways of the server's model in two of its coordinates, and the references.

    A dot is a round, a shape the end of a run.

    Parameters
    ----------
    traces : mapping of names to Trace
        From `gplconvex.federated.run`, of models of one shape.
    coordinates : pair of int
        Which entries of :math:`\rho`, as a vector, are drawn.
    labels : pair of str, optional
        What the two entries are.

    Examples
    --------
    >>> import gplconvex as gc
    >>> from gplconvex.federated import run
    >>> data = gc.Dataset([[1.0, 0.0], [1.0, 1.0]], [1.0, 2.0])
    >>> problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [data], nu=0.1)
    >>> trace = run(problem, references={"honest": gc.solve(problem).rho})
    >>> figure = trajectories({"nobody lies": trace})
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['nobody lies', 'honest']
    """
    _check_traces(traces)
    i, j = coordinates
    size = min(trace.rho[0].size for trace in traces.values())
    if not (0 <= i < size and 0 <= j < size):
        raise InvalidInputError(
            f"coordinates must be two numbers from 0 to {size - 1}; got {coordinates}"
        )
    figure, axes = _run_panel("The server's model, round by round")
    for (name, trace), style in zip(traces.items(), cycle(RUNS), strict=False):
        x, y = trace.rho.reshape(len(trace.rho), -1)[:, [i, j]].T
        axes.plot(x, y, color=style["color"], marker=".", markersize=4, linestyle="none")
        axes.plot(x, y, markevery=[len(x) - 1], label=name, **style)
    for name, model in ChainMap(*(trace.references for trace in traces.values())).items():
        x, y = model.ravel()[[i, j]]
        axes.plot(x, y, linestyle="none", label=name, **REFERENCES.get(name, OTHER_REFERENCE))
    across, up = labels or (rf"$\rho_{{{i}}}$", rf"$\rho_{{{j}}}$")
    axes.set(xlabel=across, ylabel=up, aspect="equal", adjustable="datalim")
    _legend(figure)
    return figure


def distances(traces: Mapping[str, Trace], reference: str | npt.ArrayLike) -> Figure:
    r"""Draw the distance :math:`|\rho^t - \rho|` of the server's model from another one against t.

    Parameters
    ----------
    traces : mapping of names to Trace
        From `gplconvex.federated.run`.
    reference : str or array_like, shape of a model
        The name of one of the ``references`` of all traces, or :math:`\rho`. A distance of exactly 0 is
        drawn at 1e-17.

    Examples
    --------
    >>> import gplconvex as gc
    >>> from gplconvex.federated import run
    >>> data = gc.Dataset([[1.0]], [3.0])
    >>> problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [data], nu=0.1)
    >>> trace = run(problem, references={"honest": gc.solve(problem).rho})
    >>> distances({"nobody lies": trace}, "honest").axes[0].get_title(loc="left")
    'Distance to honest, round by round'
    """
    _check_traces(traces)
    to = reference if isinstance(reference, str) else "a model"
    figure, axes = _run_panel(f"Distance to {to}, round by round")
    for (name, trace), style in zip(traces.items(), cycle(RUNS), strict=False):
        far = np.maximum(trace.distances(reference), LEAST)
        axes.plot(far, markevery=[len(far) - 1], label=name, **style)
    axes.set_yscale("log")
    axes.set(xlabel="round", ylabel="Euclidean distance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _legend(figure)
    return figure


def reports(trace: Trace, radius: float) -> Figure:
    """Draw the norms of the reports of each participant against the rounds.

    Reports of 0 have no place on the logarithmic axis. Crosses are reports that the server dropped, at
    the upper edge if they have no finite norm, or one that would leave no room for the others.

    Parameters
    ----------
    trace : Trace
        From `gplconvex.federated.run`; participants other than the honest users, whose names are
        ``"user 0"`` and so on, are drawn as attackers.
    radius : float
        Of Grad, beyond which no report is plausible: ``problem.regularizer.radius``; not drawn if
        infinite.

    Examples
    --------
    >>> import gplconvex as gc
    >>> from gplconvex.federated import run
    >>> data = gc.Dataset([[1.0]], [3.0])
    >>> problem = gc.Problem(gc.LeastSquares(), gc.SmoothL2(1.0), [data], nu=0.1)
    >>> figure = reports(run(problem, [gc.GradientAttack([0.5])], max_rounds=9), 1.0)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['honest (1)', '1: GradientAttack', 'largest plausible']
    """
    figure, axes = _run_panel("Norms of the reports, round by round")
    honest = [name.startswith("user ") for name in trace.participants]
    styles = cycle(RUNS[1:])
    for n, name in enumerate(trace.participants):
        if honest[n]:
            label = f"honest ({sum(honest)})" if n == honest.index(True) else None
            style: Style = {"color": "#A6A6A6", "linewidth": 0.8, "zorder": 1.9}
        else:
            label, style = f"{n}: {name}", next(styles) | {"markerfacecolor": None}
        sizes = np.where(trace.norms[:, n] <= FAR, trace.norms[:, n], np.nan)
        axes.plot(sizes, label=label, **style | {"marker": ".", "markersize": 3})
    dropped = np.array([(each.round, each.participant) for each in trace.rejections], dtype=int)
    if len(dropped):
        t, n = dropped.T
        sizes = trace.norms[t, n]
        cross: Style = {"color": "black", "marker": "x", "markersize": 5, "linestyle": "none"}
        axes.plot(t, np.where(sizes <= FAR, sizes, np.nan), label="dropped", **cross)
        beyond = t[~(sizes <= FAR)]
        axes.plot(beyond, np.full(len(beyond), 0.98), transform=axes.get_xaxis_transform(), **cross)
    if math.isfinite(radius):
        axes.axhline(radius, color="black", linewidth=1.2, dashes=(6, 3), label="largest plausible")
    axes.set_yscale("log", nonpositive="mask")
    axes.set(xlabel="round", ylabel="norm of the report")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _legend(figure)
    return figure


def rules(result: RuleComparison) -> Figure:
    """Draw how far every server rule ends from the honest optimum beside every attack.

    Parameters
    ----------
    result : RuleComparison
        From `gplconvex.experiments.compare_rules`.

    Examples
    --------
    >>> import gplconvex as gc
    >>> from gplconvex.experiments import compare_rules
    >>> users = [gc.Dataset([[1.0]], [y]) for y in (1.0, 2.0, 2.5, 4.0)]
    >>> problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), users, nu=0.1)
    >>> figure = rules(compare_rules(problem, max_rounds=5))
    >>> figure.axes[0].get_title(loc="left")
    'Distance of the last model to the honest optimum'
    """
    figure = Figure(figsize=(7.6, 4.8), dpi=145, layout="constrained")
    axes = figure.add_subplot()
    far = result.to_honest
    image = axes.imshow(far, cmap="cividis_r", vmin=0.0, vmax=result.wanted, aspect="auto")
    for row, column in np.ndindex(far.shape):
        settled = result.stopped[row, column] == "stationary"
        axes.text(
            column,
            row,
            f"{far[row, column]:#.2g}{'' if settled else '*'}",
            ha="center",
            va="center",
            fontsize=9.5,
            color="white" if far[row, column] > 0.5 * result.wanted else "black",
        )
    axes.set_xticks(
        range(len(result.attacks)), [name.replace("_", "-\n") for name in result.attacks]
    )
    axes.set_yticks(range(len(result.rules)), [name.replace("_", " ") for name in result.rules])
    axes.tick_params(length=0, labelsize=10)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(1, len(result.attacks)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(result.rules)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    unsettled = "\n* not settled when the run ended" * bool((result.stopped != "stationary").any())
    n = result.problem.n_users + result.f
    axes.set_xlabel(f"attack of {result.f} among {n} participants{unsettled}", fontsize=9.5)
    set_title(axes, "Distance of the last model to the honest optimum")
    bar = figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)
    bar.set_label(f"Euclidean distance (target at {result.wanted:#.2g})", fontsize=9.5)
    return figure


def _run_panel(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.6, 4.4), dpi=145, layout="constrained")
    axes = figure.add_subplot()
    set_title(axes, title)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9.5)
    axes.spines[["right", "top"]].set_visible(False)
    return figure, axes


def _legend(figure: Figure) -> None:
    figure.legend(
        loc="outside right upper",
        frameon=False,
        fontsize=9.5,
        handlelength=3.4,
        labelspacing=0.7,
        markerscale=0.8,
    )


def _check_traces(traces: Mapping[str, Trace]) -> None:
    if not (isinstance(traces, Mapping) and traces):
        raise InvalidInputError(
            f'traces must be a mapping such as {{"honest": run(problem)}}; got {traces!r}'
        )
