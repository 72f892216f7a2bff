"""What would it take? An audit: how many fake patients move a model into a goal, and how many cannot.

Four hospitals train one logistic model of heart disease together. Somebody who may add fake patients
wants it to call the average sick patient healthy. Each value of a fake patient must lie within the range
that the real patients span; an indicator may be anything between 0 and 1. Two numbers frame the answer.
Fewer than the *floor* cannot do it, whatever they are: that is proved, and the proof trusts no search,
and it holds for whole records too. The *attack* was found by a search; its effect is certified. Whether
some number between the two is enough is not known, and the sentence says so. At last we draw what each
model of a plane through the honest one costs.

    python examples/04_what_would_it_take.py [FIGURE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import gplconvex as gc
from gplconvex import plots


def main(figure_file: Path | None = None) -> None:
    """Tell the story, check it, and save its figure if a file is named."""
    heart = gc.heart_disease()
    x = np.vstack([hospital.x for hospital in heart.datasets])
    y = np.concatenate([hospital.y for hospital in heart.datasets])
    problem = gc.Problem(gc.Logistic(intercept=True), gc.HardConsensus(), heart.datasets, nu=1.0)
    honest = gc.solve(problem).require_optimal().rho

    average = x[y > 0.0].mean(axis=0)
    goal = gc.Predictions([average], [-1.0])
    assert predicted(honest, average) > 0.0  # the honest model calls the average sick patient sick
    print(f"{len(y)} real patients. The average one with heart disease shall be called healthy.")

    found = {}
    for name, domain in (
        ("within the real ranges", gc.Box(x.min(axis=0), x.max(axis=0))),
        ("whatever their values", gc.Unbounded()),
    ):
        found[name] = gc.cheapest_target(problem, goal, nu=0.0, domain=domain).require()
        print(f"Fake patients {name}: {found[name]}")
    within, without = found.values()
    assert 1 < within.audit.floor <= within.poisoning.n_points
    # Unlimited values make a cheaper attack; of a floor nothing is left, but that points are needed.
    assert without.poisoning.n_points < within.poisoning.n_points
    assert without.audit.floor == 1

    # The attack from the outside: solve for the poisoned optimum, and look at the fake patients.
    poisoned = gc.solve(within.poisoning.poisoned).require_optimal().rho
    assert predicted(poisoned, average) < 0.0
    fakes = within.poisoning.dataset
    assert ((x.min(axis=0) <= fakes.x) & (fakes.x <= x.max(axis=0))).all()
    for model, which in ((honest, "the honest model"), (poisoned, "the poisoned one")):
        sick, healthy = predicted(model, x[y > 0.0]) > 0.0, predicted(model, x[y < 0.0]) < 0.0
        print(
            f"  {which} finds {sick.mean():.0%} of the sick and {healthy.mean():.0%} of the healthy"
        )
    most = int(np.argmax(fakes.counts))
    record = zip(heart.features, heart.to_raw(fakes.x[most]), heart.units, strict=True)
    words = ", ".join(
        f"{feature} {round(value, 2):.3g} {unit}".strip() for feature, value, unit in record
    )
    print(f"  {fakes.counts[most]} of the {fakes.n_points} are this one, labeled healthy: {words}")
    assert fakes.y[most] == -1.0

    # Every model of a plane: one axis erases what was learned, the other leads to the target found.
    axes = -honest, within.target - honest
    plane = gc.cost_map(
        problem,
        honest,
        axes,
        extent=((-0.2, 1.2), (-0.2, 1.2)),
        resolution=29,
        nu=0.0,
        domain=within.audit.domain,
    )
    assert plane.points.max() > within.poisoning.n_points
    if figure_file is not None:
        draw(plane, average).savefig(figure_file)


def predicted(model: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the predictor of a model with intercept: above 0 for heart disease."""
    return x @ model[:-1] + model[-1]


def draw(plane: gc.CostMap, average: np.ndarray) -> Figure:
    """Return the figure: the cost of each model, and the line beyond which the goal is reached."""
    figure = plots.cost_map(
        plane,
        marks={"honest": (0.0, 0.0), "cheapest found": (0.0, 1.0), "zero": (1.0, 0.0)},
        labels=("from the honest model to no model at all", "to the cheapest target found"),
    )
    (panel, _), (first, second) = figure.axes, plane.directions
    start, slopes = (
        predicted(plane.center, average),
        [predicted(v, average) for v in (first, second)],
    )
    goal = -(start + slopes[0] * plane.first) / slopes[1]
    panel.plot(plane.first, goal, color="white", linestyle="--", linewidth=1.5)
    panel.text(0.95, 0.95, "average sick patient called healthy", color="white", ha="right")
    panel.set(xlim=plane.first[[0, -1]], ylim=plane.second[[0, -1]])
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
