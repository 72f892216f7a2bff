"""The judge against exact arithmetic: no bound below the truth, and none where none exists."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from tests import oracles_realization as oracle
from tests import strategies as cases
from tests.certified_instances import HOPELESS, INSTANCES, LOSSES, REGULARIZERS, SCALES, tiny


def perturbations(
    solution: gc.Solution, rng: np.random.Generator
) -> Iterator[tuple[float, np.ndarray, list[np.ndarray]]]:
    """Points around a solution: everything moves, rho only, one user only, all together."""
    rho, thetas = solution.rho, solution.thetas
    consensus = isinstance(solution.problem.regularizer, gc.HardConsensus)
    yield 0.0, rho, list(thetas)
    for scale in SCALES:
        kicks = scale * rng.normal(size=(len(thetas) + 1, rho.size))
        moved = rho + kicks[0]
        yield scale, moved, [t + (moved - rho) if (t != rho).any() else moved for t in thetas]
        if consensus:
            continue
        yield scale, moved, [t + k for t, k in zip(thetas, kicks[1:], strict=True)]
        yield scale, moved, list(thetas)
        which = int(rng.integers(len(thetas)))
        yield scale, rho, [t + kicks[1] * (n == which) for n, t in enumerate(thetas)]


def excess(
    problem: gc.Problem,
    attacker: Any,
    best: tuple[Any, Any, Any],
    rho: np.ndarray,
    thetas: list[np.ndarray],
) -> tuple[gc.Certificate, list[tuple[float, Any]]]:
    """A certificate, and every bound in it beside the exact value of what it bounds."""
    lowest, center, models = best
    certificate = gc.certify(problem, rho, thetas, attacker=attacker)
    pairs = [
        (certificate.gap, oracle.objective(problem, rho, thetas, attacker) - lowest),
        (certificate.distance, oracle.length(oracle.minus(oracle.exact(rho), center))),
    ]
    for bound, theta, model in zip(certificate.theta_distances, thetas, models, strict=True):
        pairs.append((bound, oracle.length(oracle.minus(oracle.exact(theta), model))))
    return certificate, pairs


# -- never below the truth ---------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(4))
def test_bounds_are_never_below_the_exact_truth(index: int) -> None:
    """F - F* <= gap, |rho - rho*| <= distance, |theta_n - theta_n*| <= theta_distances[n]."""
    points = finite = 0
    for number, (name, problem, attacker) in enumerate(INSTANCES[index::4]):
        solution = gc.solve(problem, attacker=attacker)
        best = oracle.optimum(problem, solution.rho, solution.thetas, attacker)
        rng = np.random.default_rng(number)
        for scale, rho, thetas in perturbations(solution, rng):
            certificate, pairs = excess(problem, attacker, best, rho, thetas)
            points += 1
            finite += math.isfinite(certificate.gap)
            for bound, truth in pairs:
                assert truth <= bound, f"{name}, scale {scale}: {bound} < {truth}\n{certificate}"
    assert points >= 225
    assert finite >= 0.7 * points, "the bounds must not be true by being infinite"


@pytest.mark.parametrize(
    "shrink", ["gap", "distance", "theta_distances"], ids=lambda name: f"smaller {name}"
)
def test_the_comparison_notices_a_bound_that_is_too_small(shrink: str) -> None:
    """Negative control: bounds divided by a hundred thousand are found out."""
    caught = 0
    for number, (_, problem, attacker) in enumerate(INSTANCES[::7]):
        solution = gc.solve(problem, attacker=attacker)
        best = oracle.optimum(problem, solution.rho, solution.thetas, attacker)
        for _, rho, thetas in perturbations(solution, np.random.default_rng(number)):
            _, pairs = excess(problem, attacker, best, rho, thetas)
            first = {"gap": 0, "distance": 1, "theta_distances": 2}[shrink]
            last = len(pairs) if first == 2 else first + 1
            caught += any(truth > 1e-5 * bound for bound, truth in pairs[first:last])
    assert caught > 20


@given(st.data())
@settings(max_examples=60)
def test_bounds_hold_at_points_of_random_problems(data: st.DataObject) -> None:
    """The same with up to 6 users and 8 features, against a solve and its certified distances."""
    problem = data.draw(cases.problems())
    solution = gc.solve(problem)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scale = data.draw(cases.powers(1e-10, 1.0))
    rho = solution.rho + scale * rng.normal(size=problem.shape)
    thetas = [theta + scale * rng.normal(size=problem.shape) for theta in solution.thetas]
    if isinstance(problem.regularizer, gc.HardConsensus):
        thetas = [rho] * problem.n_users
    certificate, at_best = gc.certify(problem, rho, thetas), solution.certificate
    above = oracle.objective(problem, rho, thetas) - oracle.objective(
        problem, solution.rho, solution.thetas
    )
    assert above <= certificate.gap  # F* is lower still than at the solution
    off = np.linalg.norm(rho - solution.rho)
    assert off <= certificate.distance + at_best.distance + 1e-15 * np.linalg.norm(rho)
    for n, bound in enumerate(certificate.theta_distances):
        off = float(np.linalg.norm(thetas[n] - solution.thetas[n]))
        assert off <= bound + at_best.theta_distances[n] + 1e-15 * np.linalg.norm(rho)


def test_curvature_of_the_data_stands_in_for_the_ridge() -> None:
    """Least squares, nu = 0: mu is the least eigenvalue of the data, and never above it."""
    rng = np.random.default_rng(5)
    data = [gc.Dataset(rng.normal(size=(m, 2)), rng.normal(size=m)) for m in (5, 7, 4)]
    for regularizer in (gc.SquaredL2(0.5), gc.L2(0.8), gc.SmoothL2(3.0), gc.HardConsensus()):
        problem = gc.Problem(gc.LeastSquares(), regularizer, data)
        solution = gc.solve(problem)
        best = oracle.optimum(problem, solution.rho, solution.thetas)
        for scale, rho, thetas in perturbations(solution, rng):
            certificate, pairs = excess(problem, None, best, rho, thetas)
            assert all(truth <= bound for bound, truth in pairs)
            assert math.isfinite(certificate.gap) or scale > 1e-2
        exact = [np.linalg.eigvalsh(d.x.T @ d.x)[0] for d in data]
        if not isinstance(regularizer, gc.HardConsensus):
            assert np.all(np.array(certificate.strong_convexity) <= np.array(exact))
            assert np.allclose(certificate.strong_convexity, exact, rtol=1e-10)


def test_one_user_without_strong_convexity_leaves_the_others_their_bounds() -> None:
    for loss in LOSSES:
        for regularizer in (gc.SquaredL2(0.7), gc.SmoothL2(30.0)):
            problem = tiny(loss, regularizer, (0.1, 0.0, 0.3), 3)
            solution = gc.solve(problem).require_optimal()
            certificate = solution.certificate
            assert certificate.strong_convexity[1] == 0.0
            assert math.isinf(certificate.theta_distances[1])
            assert certificate.relative_distance <= 1e-6
            assert max(certificate.theta_distances[::2]) <= 1e-6


def test_personal_models_that_all_part_from_rho_still_pin_it_down() -> None:
    """l2: rho is a geometric median of the personal models, and its curvature bounds the distance."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d = 2 + seed % 3
        # Each user wants a model of its own, far from the middle.
        homes = 20.0 * np.concatenate([np.eye(d), -np.eye(d)]) + rng.normal(size=(2 * d, d))
        data = [(np.eye(d), home) for home in homes]
        solution = gc.solve(gc.Problem(gc.LeastSquares(), gc.L2(0.3), data, 0.1))
        assert all((theta != solution.rho).any() for theta in solution.thetas)
        assert solution.certificate.rule == "the directions to the personal models pin rho down"
        assert solution.certificate.relative_distance <= 1e-8
        best = oracle.optimum(solution.problem, solution.rho, solution.thetas)
        for _, rho, thetas in perturbations(solution, rng):
            _, pairs = excess(solution.problem, None, best, rho, thetas)
            assert all(truth <= bound for bound, truth in pairs)


def test_two_free_users_under_l2_leave_rho_undetermined() -> None:
    """Negative control: every rho between two personal models is optimal, so no distance exists."""
    data = [([[1.0, 0.0], [0.0, 1.0]], [5.0, 0.0]), ([[1.0, 0.0], [0.0, 1.0]], [-5.0, 0.0])]
    problem = gc.Problem(gc.LeastSquares(), gc.L2(1.0), data, 0.1)
    values = {-1.0: 0.0, 0.0: 0.0, 1.0: 0.0}
    thetas = [np.array([(5.0 - 1.0) / 1.2, 0.0]), np.array([-(5.0 - 1.0) / 1.2, 0.0])]
    for first in values:
        rho = np.array([first, 0.0])
        certificate = gc.certify(problem, rho, thetas)
        assert certificate.gap <= 1e-12
        assert math.isinf(certificate.distance)
        with pytest.raises(gc.CertificateError, match="distance is bounded"):
            certificate.require(1.0)


# -- not vacuous -------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=40)
def test_solved_points_are_certified_to_eight_digits(data: st.DataObject) -> None:
    regularizer = cases.smooth_regularizers()
    problem = data.draw(cases.problems(regularizer=regularizer | st.just(gc.HardConsensus())))
    certificate = gc.solve(problem).certificate
    assert certificate.relative_gap <= 1e-9
    if not isinstance(problem.regularizer, gc.SmoothL2):
        assert certificate.relative_distance <= 1e-8
        certificate.require(1e-8)


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 1e-1])
def test_bounds_are_within_a_factor_of_the_truth(scale: float) -> None:
    """Squared l2 and hard consensus: a bound of 1000 times the truth would say little."""
    worst_gap = worst_distance = 0.0
    for seed in range(40):
        loss = LOSSES[seed % 4]
        consensus = seed % 8 >= 4
        regularizer = gc.HardConsensus() if consensus else gc.SquaredL2(0.7)
        problem = tiny(loss, regularizer, 0.1, seed)
        solution = gc.solve(problem)
        best = oracle.optimum(problem, solution.rho, solution.thetas)
        rng = np.random.default_rng(seed)
        rho = solution.rho + scale * rng.normal(size=2)
        thetas = [theta + scale * rng.normal(size=2) for theta in solution.thetas]
        _, pairs = excess(problem, None, best, rho, [rho] * 3 if consensus else thetas)
        worst_gap = max(worst_gap, float(pairs[0][0] / pairs[0][1]))
        worst_distance = max(worst_distance, float(pairs[1][0] / pairs[1][1]))
    assert worst_gap <= 1e3
    assert worst_distance <= 1e3


# -- the argument itself -----------------------------------------------------------------------------


def lower_bound(
    problem: gc.Problem, thetas: list[Any], duals: list[Any], sign: int, attacker: Any = None
) -> Any:
    r"""The dual bound of F* from the linear pieces at ``thetas`` and the duals, sum b + g_n = 0.

    L_n(t) >= L_n(theta_n) + <grad L_n(theta_n), t - theta_n> + (mu/2) |t - theta_n|^2 and
    r(rho - t) >= <g_n, rho - t> - r*(g_n); rho cancels, and t is minimized out.
    """
    total = mu = oracle.mpmath.mpf(0)
    for n, (theta, g) in enumerate(zip(thetas, duals, strict=True)):
        theta, g = oracle.exact(theta), oracle.exact(g)
        mu = 2 * oracle.mpmath.mpf(float(problem.nu[n]))
        own = [2 * oracle.mpmath.mpf(float(problem.nu[n])) * v for v in theta]
        data = oracle.gradient_sum(problem.loss, problem.datasets[n], theta)
        mismatch = oracle.minus([a + b for a, b in zip(own, data, strict=True)], g)
        total += oracle.local_loss(problem, n, theta) - oracle.inner(g, theta)
        total -= oracle.conjugate(problem.regularizer, g)
        total -= sign * oracle.inner(mismatch, mismatch) / (2 * mu)
    return total


def random_duals(problem: gc.Problem, rng: np.random.Generator) -> list[Any]:
    """Exact duals in the domain of the conjugate that sum to zero."""
    raw = rng.normal(size=(problem.n_users, 2))
    raw -= raw.mean(axis=0)
    largest = np.linalg.norm(raw, axis=1).max()
    raw *= min(rng.uniform(0.1, 3.0), 0.95 * problem.regularizer.radius) / largest
    exact = [oracle.exact(g) for g in raw]
    exact[-1] = [-sum(g[i] for g in exact[:-1]) for i in range(2)]
    return exact


@pytest.mark.parametrize("name", list(REGULARIZERS))
def test_weak_duality(name: str) -> None:
    """The dual bound is below F everywhere; with the sign of the last term flipped it is not."""
    flipped = 0
    for seed in range(24):
        problem = tiny(LOSSES[seed % 4], REGULARIZERS[name], 0.1 + 0.1 * (seed % 3), seed)
        rng = np.random.default_rng(seed)
        solution = gc.solve(problem)
        best, _, _ = oracle.optimum(problem, solution.rho, solution.thetas)
        for scale in (0.01, 1.0):
            thetas = [theta + scale * rng.normal(size=2) for theta in solution.thetas]
            duals = random_duals(problem, rng)
            bound = lower_bound(problem, thetas, duals, 1)
            assert bound <= best
            for _ in range(3):
                rho = solution.rho + rng.normal(size=2)
                others = [rho + rng.normal(size=2) for _ in thetas]
                others = [rho] * 3 if name == "hard-consensus" else others
                assert bound <= oracle.objective(problem, rho, others)
            flipped += lower_bound(problem, thetas, duals, -1) > best
    assert flipped >= 8, "the sign matters"


def test_duals_that_do_not_sum_to_zero_bound_nothing() -> None:
    """Negative control: then rho does not cancel, and the formula exceeds F*."""
    problem = tiny(gc.LeastSquares(), gc.SquaredL2(0.7), 0.1, 0)
    solution = gc.solve(problem)
    gradients = [
        local.gradient(t) for local, t in zip(problem.locals, solution.thetas, strict=True)
    ]
    assert lower_bound(problem, list(solution.thetas), gradients, 1) <= solution.value + 1e-12
    # Far from 0 the omitted term <sum g_n, rho> is of either sign: some shift breaks the bound.
    shifts = [np.array([a, b]) for a in (-0.1, 0.1) for b in (-0.1, 0.1)]
    bounds = [
        lower_bound(problem, list(solution.thetas), [g + shift for g in gradients], 1)
        for shift in shifts
    ]
    assert max(bounds) > solution.value + 1e-3


# -- no bound exists ---------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS.keys())
@pytest.mark.parametrize("data", HOPELESS.values(), ids=HOPELESS.keys())
def test_without_strong_convexity_no_bound_exists(data: Any, regularizer: gc.Regularizer) -> None:
    for loss in (gc.Logistic(), gc.LeastSquares()):
        if isinstance(loss, gc.LeastSquares) and len(data[0][0]) == 2:
            continue  # two points do pin a least-squares model down
        problem = gc.Problem(loss, regularizer, data)
        certificate = gc.certify(problem, [1.0, 0.5], [[1.0, 0.5]] * 2)
        assert math.isinf(certificate.distance)
        assert "distance is bounded" in {check.name for check in certificate.failures}
        with pytest.raises(gc.CertificateError, match=r"strong convexity|curvature") as caught:
            certificate.require(1e300)
        assert {check.name for check in caught.value.checks} & {
            "strong convexity",  # none at all,
            "optimum is near",  # or only near the point, and the optimum, if any, is far
        }
        assert not any(check.passed for check in caught.value.checks)


def test_messages_are_readable() -> None:
    problem = tiny(gc.LeastSquares(), gc.SquaredL2(1.0), 0.1, 0)
    certificate = gc.certify(problem, [5.0, 5.0], [[0.0, 0.0]] * 3)
    with pytest.raises(gc.CertificateError) as caught:
        certificate.require(1e-9)
    message = str(caught.value)
    assert "does not reach tol = 1e-09" in message
    assert "[FAILS] relative gap" in message
    assert "within tol" in message
    assert certificate.require(1e9) is certificate
    text = str(certificate)
    assert "F - F* <=" in text
    assert "|rho - rho*| <=" in text


def test_hard_consensus_refuses_models_that_differ() -> None:
    problem = tiny(gc.LeastSquares(), gc.HardConsensus(), 0.1, 0)
    solution = gc.solve(problem)
    thetas = [*solution.thetas[:2], np.nextafter(solution.rho, np.inf)]
    certificate = gc.certify(problem, solution.rho, thetas)
    assert next(check.name for check in certificate.failures) == "models agree"
    assert math.isinf(certificate.gap)
    with pytest.raises(gc.CertificateError, match="one model only"):
        certificate.require(1.0)


def test_an_attack_on_the_sphere_leaves_rho_unbounded() -> None:
    """One user and a report of norm lam: every rho far enough (l2), or none (smooth l2), is optimal."""
    for regularizer in (gc.L2(0.1), gc.SmoothL2(0.1)):
        problem = gc.Problem(gc.LeastSquares(), regularizer, [([[1.0]], [100.0])])
        attacker = gc.GradientAttack([0.1])
        for rho in (0.0, -100.0, -1e4):
            certificate = gc.certify(problem, [rho], [[100.1]], attacker=attacker)
            assert math.isinf(certificate.distance)


# -- curvature near the point ------------------------------------------------------------------------


def overlapping(regularizer: gc.Regularizer, seed: int, intercept: bool) -> gc.Problem:
    """Logistic users, nu = 0, whose labels overlap: each has a minimizer of its own."""
    rng = np.random.default_rng(seed)
    d = 2 - intercept
    x = [rng.normal(size=(6, d)) for _ in range(3)]
    # Every point with both labels, in different numbers: nothing separates them.
    data = [
        gc.Dataset(np.concatenate([a, a]), np.repeat([1.0, -1.0], 6), rng.integers(1, 4, size=12))
        for a in x
    ]
    return gc.Problem(gc.Logistic(intercept=intercept), regularizer, data)


@pytest.mark.parametrize("name", list(REGULARIZERS))
def test_curvature_near_the_point_gives_true_bounds(name: str) -> None:
    """nu = 0: no strong convexity everywhere, but enough of it around the optimum."""
    finite = 0
    for seed in range(6):
        problem = overlapping(REGULARIZERS[name], seed, intercept=seed % 2 == 1)
        solution = gc.solve(problem)
        best = oracle.optimum(problem, solution.rho, solution.thetas)
        assert solution.certificate.relative_gap <= 1e-9
        for scale, rho, thetas in perturbations(solution, np.random.default_rng(seed)):
            certificate, pairs = excess(problem, None, best, rho, thetas)
            for bound, truth in pairs:
                assert truth <= bound, f"{name}, scale {scale}: {bound} < {truth}\n{certificate}"
            finite += math.isfinite(certificate.gap)
        far = gc.certify(problem, solution.rho + 30.0, [t + 30.0 for t in solution.thetas])
        if name != "hard-consensus":
            assert math.isinf(far.gap)
            assert "optimum is near" in {c.name for c in far.failures} | {"strong convexity"}
    assert finite >= 40


def test_curvature_near_the_point_proves_nothing_about_separable_labels() -> None:
    """Negative control: there is curvature at every point, and yet no minimizer anywhere."""
    data = [([[1.0, 0.3], [-1.0, 0.2], [0.2, 1.0]], [1.0, -1.0, 1.0])] * 2
    for regularizer in REGULARIZERS.values():
        problem = gc.Problem(gc.Logistic(), regularizer, data)
        for size in (0.0, 1.0, 5.0, 20.0, 300.0):
            model = np.array([size, size])
            certificate = gc.certify(problem, model, [model, model])
            assert math.isinf(certificate.gap)
            assert math.isinf(certificate.distance)


def test_points_that_do_not_fit_are_refused() -> None:
    problem = tiny(gc.LeastSquares(), gc.SquaredL2(1.0), 0.1, 0)
    zero, zeros = [0.0, 0.0], [[0.0, 0.0]] * 3
    for rho, thetas, attacker in [
        ([0.0], zeros, None),
        ([0.0, math.nan], zeros, None),
        (zero, zeros[:2], None),
        (zero, 7, None),
        (zero, [[0.0, math.inf]] * 3, None),
        (zero, zeros, gc.GradientAttack([1.0])),
        (zero, zeros, gc.ModelAttack([1.0, 2.0, 3.0])),
    ]:
        with pytest.raises(gc.InvalidInputError):
            gc.certify(problem, rho, thetas, attacker=attacker)
    dropped = tiny(gc.LeastSquares(), gc.L2(1.0), 0.1, 0)
    with pytest.raises(gc.InvalidInputError, match="not plausible"):
        gc.certify(dropped, zero, zeros, attacker=gc.GradientAttack([1.0, 1.0]))


# -- rounding ----------------------------------------------------------------------------------------

ILL_SCALED = {
    "features 1e8": (1e8, 1, 1e-16),
    "features 1e-8": (1e-8, 1, 1e-12),
    "counts 1e6": (1.0, 10**6, 1.0),
    "features 1e8, counts 1e6": (1e8, 10**6, 1e-8),
    "features of mixed sizes": (np.array([1e8, 1e-8]), 1, 1e-3),
}


@pytest.mark.parametrize("setting", ILL_SCALED.values(), ids=ILL_SCALED.keys())
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_rounding_allowance_covers_the_rounding(loss: gc.Loss, setting: Any) -> None:
    """certified_gradient against 60 digits, where cancellation is worst: near optima."""
    scale, count, nu = setting
    for seed in range(10):
        rng = np.random.default_rng(seed)
        d = 2
        x = rng.normal(size=(6, d)) * scale
        data = gc.Dataset(x, cases.labels(loss, 6, rng), np.full(6, count))
        problem = gc.Problem(loss, gc.SquaredL2(0.5), [data], nu)
        local = problem.locals[0]
        fitted = gc.solve(problem).rho
        for theta in (fitted, np.round(fitted, 2), rng.normal(size=problem.shape)):
            gradient, allowance = local.certified_gradient(theta)
            truth = oracle.gradient_sum(loss, data, theta)
            truth = [
                t + 2 * oracle.mpmath.mpf(nu) * v
                for t, v in zip(truth, oracle.exact(theta), strict=True)
            ]
            off = oracle.length(oracle.minus(oracle.exact(gradient), truth))
            assert off <= allowance
        assert allowance <= 1e-9 * (1.0 + np.abs(x).sum() * count * (1.0 + np.abs(x).max()))


@pytest.mark.parametrize("setting", ILL_SCALED.values(), ids=ILL_SCALED.keys())
@pytest.mark.parametrize(
    "regularizer",
    [
        pytest.param(regularizer, id=name, marks=[pytest.mark.slow] * name.startswith("l2"))
        for name, regularizer in REGULARIZERS.items()
    ],
)
def test_bounds_hold_on_ill_scaled_data(regularizer: gc.Regularizer, setting: Any) -> None:
    """The gap beside F(point) - F(best known point), both in exact arithmetic."""
    scale, count, nu = setting
    for loss in LOSSES:
        rng = np.random.default_rng(7)
        data = [
            gc.Dataset(
                rng.normal(size=(m, 2)) * scale, cases.labels(loss, m, rng), np.full(m, count)
            )
            for m in (5, 3)
        ]
        problem = gc.Problem(loss, regularizer, data, nu)
        solution = gc.solve(problem)
        lowest = oracle.objective(problem, solution.rho, solution.thetas)
        shape = problem.shape
        for relative in (0.0, 1e-12, 1e-6):
            rho = solution.rho * (1.0 + relative * rng.normal(size=shape))
            thetas = [t * (1.0 + relative * rng.normal(size=shape)) for t in solution.thetas]
            if isinstance(regularizer, gc.HardConsensus):
                thetas = [rho, rho]
            gap = gc.certify(problem, rho, thetas).gap
            assert oracle.objective(problem, rho, thetas) - lowest <= gap


# -- independence ------------------------------------------------------------------------------------


def test_the_judge_imports_no_solver() -> None:
    """Judged with the package's own modules only: none of them solves anything."""
    script = (
        "import sys, types, pathlib\n"
        "import gplconvex.errors as e\n"
        "root = pathlib.Path(e.__file__).parent\n"
        "for name in [n for n in sys.modules if n.startswith('gplconvex')]: del sys.modules[name]\n"
        "bare = types.ModuleType('gplconvex'); bare.__path__ = [str(root)]\n"
        "sys.modules['gplconvex'] = bare\n"
        "import gplconvex.certificates\n"
        "print(*sorted(n for n in sys.modules if n.startswith(('gplconvex', 'cvxpy', 'clarabel',"
        " 'scipy.optimize'))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert "gplconvex.certificates.judge" in loaded
    forbidden = ("cvxpy", "clarabel", "gplconvex.solvers", "gplconvex.newton", "gplconvex.envelope")
    assert not [name for name in loaded if name.startswith(forbidden)]
    assert not [name for name in loaded if name.startswith("gplconvex.realization")]
