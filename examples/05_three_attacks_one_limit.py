"""Three attacks on a federated protocol, one limit.

Four hospitals learn, round by round, how a patient's age and condition bear on the heart rate that
effort can reach: a server sends its model, each hospital answers with a report, the server steps
against their sum. A fifth participant wants the model to say that hearts beat *faster* with age. It may
send the same forged gradient every round, freeze a personal model, or add one invented patient and be
honest ever after: the way differs, the limit is the same. Nor need it know the data of the others, as
a counter-gradient attack shows. A server may fight back, by dropping reports that nobody honest could
send, or by a rule that distrusts outliers. That helps, and has a price when nobody lies.

    python examples/05_three_attacks_one_limit.py [FIGURE.png]

draws the models' ways, and beside that file FIGURE-distances.png, FIGURE-reports.png and
FIGURE-rules.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import gplconvex as gc
from gplconvex import plots
from gplconvex.experiments import RuleComparison, compare_rules
from gplconvex.federated import CounterGradientAttack, Query, Trace, run

AGE, ANGINA = 0, 8


def main(figure_file: Path | None = None) -> None:
    """Tell the story, check it, and save its figures if a file is named."""
    heart = gc.heart_disease_regression()
    assert (heart.features[AGE], heart.features[ANGINA]) == ("age", "exercise angina")
    loss = gc.LeastSquares(intercept=True)
    problem = gc.Problem(loss, gc.SquaredL2(1.0), heart.datasets, nu=0.1)
    honest = gc.solve(problem).require_optimal().rho
    target = honest.copy()
    target[AGE] = -honest[AGE]
    print(
        f"The honest model: {honest[AGE]:+.2f} deviations of the heart rate per deviation of age."
    )
    print(f"The target says:  {target[AGE]:+.2f}. One participant of five wants it.")

    # -- every attack on every rule; the first row, the mean, is the protocol of the theorem ---------
    result = compare_rules(problem, target)
    for attack in result.attacks:
        trace = result.traces["mean", attack]
        print(
            f"  {attack:16} ends after {trace.n_rounds:3} rounds, "
            f"{trace.distances('honest')[-1]:.0e} from the honest optimum, "
            f"{trace.distances('target')[-1]:.0e} from the target"
        )
    assert result.to_honest[0, 0] < 1e-8
    assert (result.to_target[0, 1:] < 1e-8).all()  # one limit
    ways = [result.traces["mean", attack].rho[1:4] for attack in ("gradient", "model", "data")]
    assert np.abs(ways[0] - ways[1]).max() > 1e-3  # on different ways
    assert np.abs(ways[1] - ways[2]).max() > 1e-4

    # -- reports that nobody honest can send are dropped; how far do the others lead? ----------------
    shy = gc.Problem(loss, gc.SmoothL2(3.0), heart.datasets, nu=0.1)
    radius = shy.regularizer.radius

    def shout(query: Query) -> np.ndarray:
        return (query.rho - target) / query.step_size  # as far as the server would go

    heard = run(shy, [CounterGradientAttack(target), shout], references={"target": target})
    limit = gc.solve(shy, attacker=gc.ModelAttack(target, gc.L2(radius))).require_optimal().rho
    dropped = sum(rejection.participant == shy.n_users + 1 for rejection in heard.rejections)
    print(
        f"Where no report may be longer than {radius:g}, all {dropped} shouts are dropped, and a "
        f"counter-gradient attack ends {np.linalg.norm(heard.rho[-1] - target):.2f} from the target."
    )
    assert dropped == heard.n_rounds
    assert np.linalg.norm(heard.rho[-1] - limit) < 1e-6

    # -- what distrust costs -------------------------------------------------------------------------
    print(f"Distances to the honest optimum, of which the target is {result.wanted:.2f} away:")
    print("  " + " ".join(f"{word:>17}" for word in ("", *result.attacks)))
    for rule, row in zip(result.rules, result.to_honest, strict=True):
        print("  " + " ".join([f"{rule:>17}", *(f"{far:17.2f}" for far in row)]))
    robust = result.to_honest[1:]
    assert robust[:, 1:].max() < 0.8 * result.wanted  # nobody gets through ...
    assert robust[:, 0].min() > 0.05  # ... and when nobody tries, the hospitals' differences pay

    if figure_file is not None:
        for name, figure in draw(result, heard, radius).items():
            figure.savefig(figure_file.with_stem(figure_file.stem + name), dpi=150)


def draw(result: RuleComparison, heard: Trace, radius: float) -> dict[str, Figure]:
    """Return the figures: ways and distances under the mean, reports, and all rules."""
    traces = {
        name: result.traces["mean", attack]
        for attack, name in (
            ("none", "nobody lies"),
            ("gradient", "gradient attack"),
            ("model", "model attack"),
            ("data", "data poisoning"),
            ("counter_gradient", "counter-gradient attack"),
        )
    }
    labels = ("coefficient of age", "coefficient of exercise angina")
    return {
        "": plots.trajectories(traces, coordinates=(AGE, ANGINA), labels=labels),
        "-distances": plots.distances(traces, "target"),
        "-reports": plots.reports(heard, radius),
        "-rules": plots.rules(result),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
