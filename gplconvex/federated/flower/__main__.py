"""`python -m gplconvex.federated.flower` runs a federation: three hospitals, one liar, real messages."""

import time

import numpy as np

import gplconvex as gc
from gplconvex import federated as fed
from gplconvex.federated import flower

ROUNDS = 5


def main(n_rounds: int = ROUNDS) -> None:
    """Run the same rounds in this process and on Flower, and compare them."""
    # Of each hospital as many patients: then the numbers agree bit for bit.
    heart = gc.heart_disease_regression().datasets[:3]
    hospitals = [gc.Dataset(data.x[:100], data.y[:100]) for data in heart]
    problem = gc.Problem(gc.LeastSquares(intercept=True), gc.SquaredL2(1.0), hospitals, nu=0.1)
    target = gc.solve(problem).rho * ([-1.0] + [1.0] * 10)
    attackers = [fed.CounterGradientAttack(target)]
    print(
        "Three hospitals learn what heart rate a patient reaches; a fourth participant wants the\n"
        f"effect of age reversed. First {n_rounds} rounds in this process, then the same on Flower: a\n"
        "SuperLink, and a SuperNode for each of the four. They need a while to start."
    )
    models = {"target": target}
    here = fed.run(problem, attackers, max_rounds=n_rounds, references=models)
    expected = here.distances("target")
    begin = time.monotonic()

    def progress(each: fed.Round) -> None:
        distance = float(np.linalg.norm(each.next_rho - target))
        print(
            f"round {each.number}: {len(each.reports)} reports; to the liar's target {distance:.6f}, "
            f"in this process {expected[each.number + 1]:.6f}  [{time.monotonic() - begin:.0f} s]",
            flush=True,
        )

    there = flower.run(
        problem, attackers, max_rounds=n_rounds, references=models, progress=progress
    )
    same = all(
        one.tobytes() == other.tobytes()
        for one, other in ((here.rho, there.rho), (here.norms, there.norms))
    )
    if not same:
        largest = abs(here.rho - there.rho).max()
        raise SystemExit(f"The models differ, by up to {largest:.2g}.")
    print("All models and reports are the same, bit for bit. Every process has ended.")


if __name__ == "__main__":
    main()
