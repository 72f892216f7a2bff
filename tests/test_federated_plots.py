"""Pictures of runs show the numbers of the runs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import gplconvex as gc
from gplconvex import plots
from gplconvex.experiments import compare_rules
from gplconvex.federated import CounterGradientAttack, Query, Trace, run

TARGET = np.array([0.4, -0.3])


def users(regularizer: gc.Regularizer, n_users: int = 4) -> gc.Problem:
    rng = np.random.default_rng(5)
    data = [gc.Dataset(rng.normal(size=(6, 2)), rng.normal(size=6) + 1.0) for _ in range(n_users)]
    return gc.Problem(gc.LeastSquares(), regularizer, data, nu=0.2)


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    problem = users(gc.SquaredL2(1.0))
    references = {"honest": gc.solve(problem).rho, "target": TARGET, "zero": np.zeros(2)}
    return {
        "nobody lies": run(problem, references=references),
        "counter-gradient": run(problem, [CounterGradientAttack(TARGET)], references=references),
    }


def lines(figure: Figure, label: str) -> Line2D:
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == label)
    return line


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def png(figure: Figure, tmp_path: Any) -> bool:
    figure.savefig(tmp_path / "figure.png")
    return bool((tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG"))


def test_trajectories_are_those_of_the_traces(traces: dict[str, Trace], tmp_path: Any) -> None:
    figure = plots.trajectories(traces, coordinates=(1, 0), labels=("second", "first"))
    for name, trace in traces.items():
        np.testing.assert_array_equal(lines(figure, name).get_xydata(), trace.rho[:, ::-1])
        dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
        assert any(np.array_equal(line.get_xydata(), trace.rho[:, ::-1]) for line in dots)
        assert lines(figure, name).get_markevery() == [trace.n_rounds]
    for name, model in traces["nobody lies"].references.items():
        np.testing.assert_array_equal(lines(figure, name).get_xydata(), [model[::-1]])
    assert legend(figure) == ["nobody lies", "counter-gradient", "honest", "target", "zero"]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("second", "first")
    assert png(figure, tmp_path)


def test_trajectories_of_matrices_are_those_of_their_entries() -> None:
    data = gc.Dataset([[1.0, 2.0], [0.5, -1.0], [0.0, 1.0]], [0, 1, 2])
    problem = gc.Problem(gc.Softmax(3), gc.SquaredL2(1.0), [data], nu=0.1)
    trace = run(problem, max_rounds=3)
    figure = plots.trajectories({"run": trace}, coordinates=(1, 3))
    np.testing.assert_array_equal(lines(figure, "run").get_ydata(), trace.rho[:, 1, 0])
    assert figure.axes[0].get_ylabel() == r"$\rho_{3}$"


def test_distances_are_those_of_the_traces(traces: dict[str, Trace], tmp_path: Any) -> None:
    figure = plots.distances(traces, "target")
    for name, trace in traces.items():
        np.testing.assert_array_equal(lines(figure, name).get_ydata(), trace.distances("target"))
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "round"
    assert "target" in axes.get_title(loc="left")
    by_model = plots.distances(traces, TARGET)
    np.testing.assert_array_equal(
        lines(by_model, "nobody lies").get_ydata(), lines(figure, "nobody lies").get_ydata()
    )
    assert png(figure, tmp_path)


def test_a_distance_of_0_is_drawn(traces: dict[str, Trace]) -> None:
    far = np.array(lines(plots.distances(traces, "zero"), "nobody lies").get_ydata())
    assert traces["nobody lies"].distances("zero")[0] == 0.0
    assert far[0] == 1e-17


def test_several_runs_look_different(traces: dict[str, Trace]) -> None:
    """Each of seven has a color, dashes and a shape that no other has all of; more repeat them."""
    many = {f"run {i}": traces["nobody lies"] for i in range(8)}
    figure = plots.distances(many, "honest")
    looks = [
        (line.get_color(), line.get_marker(), line.get_markersize(), line.get_linestyle())
        for line in (lines(figure, name) for name in many)
    ]
    colors, shapes = {look[0] for look in looks}, {look[1:3] for look in looks}
    assert len(colors) == len(shapes) == 7
    assert looks[7] == looks[0]


def shout(query: Query) -> list[float]:
    return [math.nan, 0.0] if query.round % 2 else [3.0, 4.0]


@pytest.mark.parametrize("fraction", [1.0, 0.6])
def test_reports_are_those_of_the_trace(fraction: float, tmp_path: Any) -> None:
    problem = users(gc.SmoothL2(2.0))
    attackers = [CounterGradientAttack(TARGET), shout]
    trace = run(problem, attackers, max_rounds=12, fraction=fraction)
    radius = problem.regularizer.radius
    figure = plots.reports(trace, radius)
    n = problem.n_users
    assert legend(figure) == [
        "honest (4)",
        "4: CounterGradientAttack",
        "5: shout",
        "dropped",
        "largest plausible",
    ]
    drawn = figure.axes[0].lines[: n + 2]
    for participant, line in enumerate(drawn):
        np.testing.assert_array_equal(line.get_ydata(), trace.norms[:, participant])
    assert len({line.get_color() for line in drawn[:n]}) == 1
    assert len({line.get_color() for line in drawn}) == 3
    rounds = {rejection.round for rejection in trace.rejections}
    crosses = lines(figure, "dropped")
    assert {int(t) for t in crosses.get_xdata()} == rounds
    finite = np.array(crosses.get_xdata())[np.isfinite(crosses.get_ydata())]
    assert {int(t) for t in finite} == {t for t in rounds if t % 2 == 0}
    edge = figure.axes[0].lines[n + 3]
    assert {int(t) for t in edge.get_xdata()} == {t for t in rounds if t % 2}
    assert list(lines(figure, "largest plausible").get_ydata()) == [radius, radius]
    assert png(figure, tmp_path)


def test_no_radius_is_drawn_where_every_report_is_plausible(traces: dict[str, Trace]) -> None:
    figure = plots.reports(traces["counter-gradient"], math.inf)
    assert legend(figure) == ["honest (4)", "4: CounterGradientAttack"]


def test_rules_are_those_of_the_table(tmp_path: Any) -> None:
    result = compare_rules(users(gc.SquaredL2(1.0)), TARGET, max_rounds=5)
    figure = plots.rules(result)
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), result.to_honest)
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["mean", "coordinate median"]
    cells = itertools.product(range(len(result.rules)), range(len(result.attacks)))
    for text, (row, column) in zip(axes.texts, cells, strict=True):
        assert text.get_position() == (column, row)
        shown = text.get_text()
        assert shown.endswith("*") == (result.stopped[row, column] != "stationary")
        assert float(shown.rstrip("*")) == pytest.approx(result.to_honest[row, column], rel=0.05)
    assert "not settled" in axes.get_xlabel()
    assert png(figure, tmp_path)


@pytest.mark.parametrize("draw", [plots.trajectories, lambda t: plots.distances(t, "honest")])
def test_traces_need_names(draw: Any, traces: dict[str, Trace]) -> None:
    for wrong in (traces["nobody lies"], {}):
        with pytest.raises(gc.InvalidInputError, match="mapping"):
            draw(wrong)


def test_what_is_not_there_is_not_drawn(traces: dict[str, Trace]) -> None:
    with pytest.raises(gc.InvalidInputError, match="from 0 to 1"):
        plots.trajectories(traces, coordinates=(0, 2))
    with pytest.raises(gc.InvalidInputError, match="no reference"):
        plots.distances(traces, "elsewhere")
