r"""S8. The equivalence: what converging gradient attacks reach, data reach.

Let all :math:`L_n` be convex, r squared l2, l2 or smooth l2, the server descend with a constant
learning rate, small enough, and learning be locally PAC* (S9 to S11). Then some converging gradient
attack leads to :math:`\rho_\dagger` if and only if for every :math:`\varepsilon > 0` some dataset of s
moves the optimum to within :math:`\varepsilon` of it.

There reports tend to minus the pull G of the others. Where optima are unique, as with a ridge, a target
is therefore reached, both ways, if and only if :math:`|G(\rho_\dagger)|` is at most the radius of Grad
(infinite under squared l2). Of one that is not, every attack of either kind stays away by at least
:math:`(|G(\rho_\dagger)| - \lambda)/\mathrm{Lip}(G)`.

Source: the paper, its main theorem (T2); the criterion and the distance are new.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import sympy as sp

import gplconvex as gc
from gplconvex.federated import CounterGradientAttack, DataAttack, run
from proofs_check.ledger import Identity, Measurement, identity
from proofs_check.s03_data_to_model import SOLVED, apart, honest_users

TITLE = "the equivalence"
SOURCE = "paper"

BALANCE = -1.0
"""The limit of the reports over the pull of the others there."""

RADIUS = 1.0
"""The largest pull that an attack can hold, over lam."""

MUTATIONS = {"BALANCE": 0.99, "RADIUS": 0.99}

LIMIT = 1e-4
"""How far from the limit runs end: they stop where reports cancel to seven digits."""

TOLERANCES = {
    "gradient to data, the optima are apart by": SOLVED,
    "data to gradient, the optima are apart by": SOLVED,
    "runs end off by": LIMIT,
    "their last report is off by": LIMIT,
}

Array = npt.NDArray[np.float64]


def symbolic() -> Iterator[Identity]:
    """Take a fixed point of descent, and the norm of a report."""
    rho, pull, report = sp.symbols("rho G g", real=True)
    step, size, lam, delta = sp.symbols("eta u lam delta", positive=True)
    fixed = sp.solve(rho - step * (pull + report) - rho, report)[0]
    yield identity("rho - eta (G + g) = rho leaves g = -G", fixed - sp.nsimplify(BALANCE) * pull)
    slope = sp.diff(lam * sp.sqrt(delta**2 + size**2), size)
    yield identity(
        "smooth l2: lam^2 - |grad r|^2 = lam^2 delta^2/(delta^2 + |u|^2) > 0",
        (sp.nsimplify(RADIUS) * lam) ** 2 - slope**2 - (lam * delta) ** 2 / (delta**2 + size**2),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Go both ways from what one attack reaches; and try to reach what is out of reach."""
    for regularizer in (gc.SquaredL2(1.0), gc.SmoothL2(4.0), gc.L2(4.0)):
        worst = {what: 0.0 for what in TOLERANCES}
        for loss in (gc.LeastSquares(), gc.Logistic(intercept=True)):
            problem = honest_users(loss, regularizer, rng, 3)
            for what, off in (*_from_gradient(problem, rng), *_from_data(problem, rng)):
                worst[what] = float(np.maximum(worst[what], off))  # a NaN stays
        name = type(regularizer).__name__
        for what, tolerance in TOLERANCES.items():
            yield Measurement(f"{name}: {what} at most", worst[what], 0.0, tolerance=tolerance)
    yield from _unreachable(honest_users(gc.LeastSquares(), gc.L2(4.0), rng, 3), rng)
    yield from _unreachable(honest_users(gc.Logistic(), gc.SmoothL2(4.0), rng, 3), rng)


def _pull(problem: gc.Problem, rho: Array) -> Array:
    reports = [gc.moreau_envelope(problem, n, rho).gradient for n in range(problem.n_users)]
    return np.asarray(np.sum(reports, axis=0))


def _from_gradient(problem: gc.Problem, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Attack by a constant report, then by data with the same limit; pull to the target meanwhile."""
    g = rng.normal(size=problem.shape)
    g *= 3.0 / np.linalg.norm(g)
    attacked = gc.solve(problem, attacker=gc.GradientAttack(g))
    data = gc.poison(problem, attacked.rho).dataset
    poisoned = gc.solve(problem.with_user(data, float(problem.nu[0])))
    yield "gradient to data, the optima are apart by", apart(attacked, poisoned)[1]
    if isinstance(problem.regularizer, gc.SquaredL2):
        yield from _ends(problem, CounterGradientAttack(attacked.rho), attacked)


def _from_data(problem: gc.Problem, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Attack by data, and then by the constant report that theirs tend to."""
    theta = 2.0 * rng.normal(size=problem.shape)
    data = gc.honest_dataset(problem.loss, theta, 10, seed=int(rng.integers(2**31)))
    poisoned = gc.solve(problem.with_user(data, float(problem.nu[0])))
    g = BALANCE * _pull(problem, poisoned.rho)
    g *= min(1.0, problem.regularizer.radius / float(np.linalg.norm(g)))  # rounding may exceed it
    attacked = gc.solve(problem, attacker=gc.GradientAttack(g))
    yield "data to gradient, the optima are apart by", apart(poisoned, attacked)[1]
    if isinstance(problem.loss, gc.LeastSquares):
        yield from _ends(problem, DataAttack(data), poisoned)


def _ends(
    problem: gc.Problem, attack: CounterGradientAttack | DataAttack, limit: gc.Solution
) -> Iterator[tuple[str, float]]:
    """Compare the last model and report of a run with their limits."""
    trace = run(problem, [attack], max_rounds=3000, tol=1e-7)
    assert trace.reports is not None
    off = float(np.linalg.norm(trace.rho[-1] - limit.rho)) + limit.certificate.distance
    yield "runs end off by", off
    unlike = trace.reports[-1, -1] - BALANCE * _pull(problem, limit.rho)
    yield "their last report is off by", float(np.linalg.norm(unlike))


def _unreachable(problem: gc.Problem, rng: np.random.Generator) -> Iterator[Measurement]:
    """Pull as hard as Grad allows, and by heavy data, to a target that is out of reach."""
    direction = rng.normal(size=problem.shape)
    target = 10.0 * direction / np.linalg.norm(direction)
    nearest, away = _refused(problem, target)
    lam, name = problem.regularizer.radius, type(problem.regularizer).__name__
    yield Measurement(
        f"{name}, a target out of reach: the pull over lam where it is given up",
        float(np.linalg.norm(_pull(problem, nearest))) / lam,
        RADIUS,
    )
    reached = []
    for towards in (target, *rng.normal(size=(3, *problem.shape))):
        unit = towards / np.linalg.norm(towards)
        data = gc.honest_dataset(problem.loss, 20.0 * unit, 1000, seed=0)
        reached.append(gc.solve(problem.with_user(data, float(problem.nu[0]))))
        for size in (0.9, 1.0):
            attack = gc.GradientAttack(-size * lam * unit)
            reached.append(gc.solve(problem, attacker=attack))
    pulls = [float(np.linalg.norm(_pull(problem, each.rho))) for each in reached]
    distances = [
        float(np.linalg.norm(each.rho - target)) + each.certificate.distance for each in reached
    ]
    hold = f"{name}, attacks of either kind: the largest pull held, over lam"
    yield Measurement(hold, max(pulls) / lam, RADIUS, "<=")
    yield Measurement(
        f"{name}, the same: the least distance to the target", min(distances), away, ">="
    )


def _refused(problem: gc.Problem, target: Array) -> tuple[Array, float]:
    """Return where an attack on an unreachable target ends, and how far all attacks stay away."""
    try:
        gc.required_gradient(problem, target)
    except gc.UnreachableTargetError as refused:
        steepest = [
            float(np.linalg.norm(_inputs(problem, data), 2)) ** 2 for data in problem.datasets
        ]
        smoothness = sum(steepest) + 2.0 * float(problem.nu.sum())  # phi'' is at most 1
        return refused.reachable, (refused.pull - RADIUS * refused.lam) / smoothness
    raise AssertionError(f"{target} is within reach")


def _inputs(problem: gc.Problem, data: gc.Dataset) -> Array:
    ones = np.ones((data.n_rows, int(problem.loss.intercept)))
    return np.hstack([np.asarray(data.x), ones])


def counterexample() -> Iterator[Measurement]:
    """Let labels not tell a model (no local PAC*), let reports leave Grad, or limit the data."""
    rng = np.random.default_rng(0)
    softmax = honest_users(gc.Softmax(3), gc.SquaredL2(1.0), rng, 3)
    g = rng.normal(size=softmax.shape) + 2.0
    attacked = gc.solve(softmax, attacker=gc.GradientAttack(g))
    theta = gc.to_model(softmax, attacked.rho, g)
    data = gc.honest_dataset(softmax.loss, theta, 2000, seed=0)
    poisoned = gc.solve(softmax.with_user(data, float(softmax.nu[0])))
    yield Measurement(
        "softmax, a report that pulls all classes alike: data stay away by at least",
        apart(attacked, poisoned)[0],
        0.0,
        tolerance=SOLVED,
    )
    bounded = honest_users(gc.LeastSquares(), gc.L2(4.0), rng, 3)
    target = np.array([6.0, -6.0, 6.0])
    implausible = gc.solve(bounded, attacker=gc.ModelAttack(target, gc.L2(400.0)))
    yield Measurement(
        f"reports of norm 400 lead to within {np.linalg.norm(implausible.rho - target):.2g} of a "
        "target: data stay away by at least",
        _refused(bounded, target)[1],
        0.0,
        tolerance=SOLVED,
    )
    logistic = honest_users(gc.Logistic(), gc.SquaredL2(1.0), rng, 3)
    reported = gc.solve(logistic, attacker=gc.GradientAttack(np.array([3.0, 0.0, 0.0])))
    yield Measurement(
        "logistic, one point only: the points that the limit of a report takes, at least",
        float(gc.poison(logistic, reported.rho).lower_bound),
        1.0,
        "<=",
    )
