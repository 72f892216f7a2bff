"""One bad point is enough to put a linear model anywhere.

Five weather stations fit the same straight line through their own measurements. They never show the
measurements: each sends a server how far its own line is from the shared one, and the server moves
the shared line until the pulls cancel. A sixth station wants the shared line somewhere else. It does
not need to break the protocol, and it does not need many measurements. It needs one.

    python examples/01_one_point_for_a_linear_model.py [FIGURE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import gplconvex as gc


def main(figure_file: Path | None = None) -> None:
    """Tell the story, check it, and save its figure if a file is named."""
    # -- the honest world --------------------------------------------------------------------------
    rng = np.random.default_rng(2022)
    slopes = 1.0 + 0.3 * rng.normal(size=5)
    stations = []
    for slope in slopes:
        hour = rng.uniform(-1.0, 1.0, size=(30, 1))
        stations.append(gc.Dataset(hour, slope * hour[:, 0] + 0.2 * rng.normal(size=30)))
    loss = gc.LeastSquares(intercept=True)
    problem = gc.Problem(loss, gc.SquaredL2(1.0), stations, nu=0.01)
    honest = gc.solve(problem).require_optimal()
    print(f"The honest line: temperature = {honest.rho[0]:+.3f} * hour {honest.rho[1]:+.3f}")

    # -- what the sixth station wants --------------------------------------------------------------
    target = np.array([-2.0, 1.0])
    attack = gc.poison(problem, target)
    (hour,), (temperature,) = attack.dataset.x[0], attack.dataset.y
    print(f"The target:      temperature = {target[0]:+.3f} * hour {target[1]:+.3f}")
    print(f"The one measurement it invents: hour {hour:+.4f}, temperature {temperature:+.4f}")

    # -- did it work? solve the poisoned problem from scratch, twice -------------------------------
    poisoned = gc.solve(attack.poisoned).require_optimal()
    reference = gc.solve(attack.poisoned, method="cvxpy", tol=1e-6).require_optimal()
    print(
        f"Distance of the poisoned line from the target: {np.linalg.norm(poisoned.rho - target):.1e}"
    )
    print(f"It is proved to be at most                     {attack.certificate.distance:.1e}")

    assert attack.n_points == attack.lower_bound == 1
    assert np.linalg.norm(poisoned.rho - target) <= (
        attack.certificate.distance + poisoned.certificate.distance
    )
    assert np.linalg.norm(reference.rho - target) <= (
        attack.certificate.distance + reference.certificate.distance
    )
    # The honest stations were not touched: without the sixth, the old line is still the optimum.
    assert np.allclose(gc.solve(problem, start=target).rho, honest.rho, rtol=0.0, atol=1e-12)

    if figure_file is not None:
        draw(stations, honest, attack, poisoned).savefig(figure_file, dpi=150)


def draw(
    stations: list[gc.Dataset], honest: gc.Solution, attack: gc.Poisoning, poisoned: gc.Solution
) -> Figure:
    """Return the figure: the lines near the measurements, and the invented point far away."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    figure.suptitle("One invented point puts a linear model anywhere, exactly")
    near, far = figure.subplots(1, 2, width_ratios=(1.4, 1.0))
    lines = (
        (honest.rho, "#0072B2", "-", "honest shared line"),
        (attack.target, "#D55E00", "-", "target of the sixth station"),
        (poisoned.rho, "black", ":", "shared line with the invented point"),
    )
    for axes, reach in ((near, 1.2), (far, 3.2)):
        hours = np.array([-reach, reach])
        for data in stations:
            axes.plot(data.x[:, 0], data.y, ".", color="0.65", markersize=4)
        for (slope, offset), color, style, label in lines:
            axes.plot(hours, slope * hours + offset, style, color=color, linewidth=2.5, label=label)
        axes.set(xlabel="hour (scaled)", ylabel="temperature (scaled)")
    near.plot([], [], ".", color="0.65", label="150 honest measurements")
    near.legend(frameon=False)
    near.set_title("near the measurements", fontsize="medium")
    far.plot(attack.dataset.x[:, 0], attack.dataset.y, "*", color="black", markersize=14)
    far.annotate(
        "the invented point",
        (attack.dataset.x[0, 0], attack.dataset.y[0]),
        xytext=(12, -4),
        textcoords="offset points",
    )
    far.set_title("the same, from further away", fontsize="medium")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
