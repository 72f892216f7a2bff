"""A regularizer that resists: under l2, a liar pulls with force lam and not more.

With squared l2 a participant's pull grows with its distance, so a far-away liar pulls as hard as it
likes. With l2 (not squared) every participant pulls with a force of at most lam: some targets cannot be
reached at all, however many fake patients one invents, and the library says so with a proof. What a
liar can still do is push the model to the point where the honest pull equals lam.

    python examples/03_a_regularizer_that_resists.py [FIGURE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import gplconvex as gc

STRENGTHS = np.geomspace(1.0, 1000.0, 13)


def main(figure_file: Path | None = None) -> None:
    """Tell the story, check it, and save its figure if a file is named."""
    data = gc.heart_disease()
    loss = gc.Logistic(intercept=True)
    moved: dict[str, list[float]] = {"squared l2": [], "l2": []}
    accuracy: dict[str, list[float]] = {"squared l2": [], "l2": []}
    for lam in STRENGTHS:
        for name, regularizer in (("squared l2", gc.SquaredL2(lam)), ("l2", gc.L2(lam))):
            problem = gc.Problem(loss, regularizer, data.datasets, nu=1.0)
            honest = gc.solve(problem).require_optimal().rho
            reached = closest_to(problem, -honest)
            moved[name].append(
                1.0 - np.linalg.norm(reached + honest) / np.linalg.norm(2.0 * honest)
            )
            accuracy[name].append(accuracy_of(reached, data.datasets))
    for name, share in moved.items():
        print(
            f"{name:>10}: a liar moves the model {share[0]:.0%} of the way to its opposite at "
            f"lam = {STRENGTHS[0]:g} (accuracy left {accuracy[name][0]:.1%}), {share[-1]:.0%} at "
            f"lam = {STRENGTHS[-1]:g} ({accuracy[name][-1]:.1%})"
        )

    assert np.allclose(moved["squared l2"], 1.0)  # always reached
    assert moved["l2"][0] < 0.15  # the liar is nearly powerless ...
    assert accuracy["l2"][0] > 0.75  # ... and the model still works
    assert np.isclose(moved["l2"][-1], 1.0)  # a lam above the honest pull gives no protection

    if figure_file is not None:
        draw(moved, accuracy).savefig(figure_file, dpi=150)


def closest_to(problem: gc.Problem, target: np.ndarray) -> np.ndarray:
    """Return the target if data can reach it, else the point where the honest pull equals lam."""
    try:
        attack = gc.poison(problem, target)
    except gc.UnreachableTargetError as error:
        assert error.pull > error.lam == problem.regularizer.radius
        pulls = [
            gc.moreau_envelope(problem, n, error.reachable).gradient for n in range(problem.n_users)
        ]
        assert np.isclose(np.linalg.norm(sum(pulls)), error.lam, rtol=1e-9)
        return error.reachable
    attack.certificate.require(1e-8)
    return attack.target


def accuracy_of(model: np.ndarray, datasets: tuple[gc.Dataset, ...]) -> float:
    """Return the share of all patients that a model with intercept classifies correctly."""
    right = [np.sum(np.sign(data.x @ model[:-1] + model[-1]) == data.y) for data in datasets]
    return float(sum(right)) / sum(data.n_points for data in datasets)


def draw(moved: dict[str, list[float]], accuracy: dict[str, list[float]]) -> Figure:
    """Return the figure: how far the model moves, and how accurate it stays, against lam."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for name, color, marker in (("squared l2", "#D55E00", "s"), ("l2", "#0072B2", "o")):
        left.plot(STRENGTHS, moved[name], marker + "-", color=color, label=name)
        right.plot(STRENGTHS, accuracy[name], marker + "-", color=color, label=name)
    left.set(ylabel="share of the way to the reversed model", title="How far a liar gets")
    right.set(ylabel="accuracy on the 920 patients", title="What is left of the model")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="lam", ylim=(0.0, 1.05))
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
