"""How many fake patients it takes to move a logistic model, and why fewer cannot do.

A single fake patient can lower theta^T (gradient) by no more than kappa = W(1/e) = 0.278..., whatever
the record says. So a gradient h at the model theta needs at least -theta^T h / kappa of them, and
(with an intercept, by a slightly finer count) exactly that number is enough. Here four hospitals
learn to recognize heart disease, and we ask how many fake patients it takes to drag the shared model
along a straight line, from what the hospitals learned to its exact opposite. The coupling strength
lam decides the price: the tighter the models are tied together, the more real patients speak against
the move. And being idle is not neutral: a fifth hospital without patients pulls the model towards
zero (by its ridge), so leaving it where it is takes a few patients too.

    python examples/02_how_many_for_a_logistic_model.py [FIGURE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import gplconvex as gc

STRENGTHS = (0.3, 1.0, 10.0, 100.0)
STEPS = np.linspace(0.0, 1.0, 21)  # 0: the honest model, 1/2: no model at all, 1: its opposite


def main(figure_file: Path | None = None) -> None:
    """Tell the story, check it, and save its figure if a file is named."""
    data = gc.heart_disease()
    n_patients = sum(hospital.n_points for hospital in data.datasets)
    print(f"{n_patients} real patients. Fake patients needed, by coupling strength lam:")
    prices: dict[float, list[int]] = {}
    for lam in STRENGTHS:
        problem = gc.Problem(gc.Logistic(intercept=True), gc.SquaredL2(lam), data.datasets, nu=1.0)
        honest = gc.solve(problem).require_optimal()
        prices[lam] = []
        for step in STEPS:
            attack = gc.poison(problem, (1.0 - 2.0 * step) * honest.rho)
            # The proof is checked from scratch, and the optimum is certified at the target.
            h = attack.gradient - 2.0 * attack.poisoned.nu[-1] * attack.theta
            gc.check_lower_bound(problem.loss, attack.theta, h, attack.proof)
            assert attack.n_points == attack.lower_bound
            attack.certificate.require(1e-8)
            prices[lam].append(attack.n_points)
        print(
            f"  lam = {lam:5g}: {prices[lam][0]:5d} to leave the model as it is, "
            f"{prices[lam][10]:5d} to erase it, {prices[lam][-1]:5d} to reverse it"
        )
        away = prices[lam][3:]
        assert away == sorted(away)  # beyond the first steps, further is dearer

    # One point less cannot do: the argument fails to prove one point more, and only one.
    claim = gc.LowerBound(
        attack.proof.value + 1,
        attack.proof.argument,
        attack.proof.direction,
        attack.proof.support,
        attack.proof.multipliers,
        attack.proof.split,
    )
    try:
        gc.check_lower_bound(problem.loss, attack.theta, h, claim)
    except gc.CertificateError:
        print("A forged claim of one point more is rejected.")
    else:
        raise AssertionError("a false lower bound was accepted")

    if figure_file is not None:
        draw(prices, n_patients).savefig(figure_file, dpi=150)


def draw(prices: dict[float, list[int]], n_patients: int) -> Figure:
    """Return the figure: fake patients needed along the way, one curve a coupling strength."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    colors = ("#56B4E9", "#0072B2", "#D55E00", "black")
    for (lam, counts), color, marker in zip(prices.items(), colors, "osD^", strict=True):
        axes.plot(STEPS, counts, marker + "-", color=color, markersize=4, label=f"lam = {lam:g}")
    axes.axhline(n_patients, color="0.6", linestyle="--")
    axes.annotate(f"{n_patients} real patients", (0.0, n_patients), ha="left", va="bottom")
    axes.set(
        yscale="log",
        xlabel="position of the target: honest model (0), zero (1/2), reversed model (1)",
        ylabel="fake patients needed (exact minimum)",
        title="The price of moving a logistic model",
    )
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
