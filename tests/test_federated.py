"""The theorems on traces: three attacks with one limit, and where counter-gradient attacks end."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import NonlinearConstraint, minimize

import gplconvex as gc
from gplconvex.federated import (
    CounterGradientAttack,
    DataAttack,
    Query,
    Trace,
    decaying,
    rounds,
    run,
)
from tests import strategies as cases

LOSSES = (gc.LeastSquares(), gc.Logistic(), gc.Softmax(3))
SMOOTH = (gc.SquaredL2(1.0), gc.SmoothL2(6.0, 2.0))


def users(regularizer: gc.Regularizer, n_users: int = 4, seed: int = 0) -> gc.Problem:
    return cases.example(gc.LeastSquares(), regularizer, users=n_users, seed=seed)


def pull_and_slope(problem: gc.Problem, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """G and its derivative."""
    found = [gc.moreau_envelope(problem, n, rho) for n in range(problem.n_users)]
    return sum(one.gradient for one in found), sum(one.hessian for one in found)


def certified_end(problem: gc.Problem, trace: Trace, **attacker: Any) -> tuple[np.ndarray, float]:
    """The last model of a run that is over, and how far it is at most from the optimum."""
    assert trace.stopped == "stationary"
    rho = trace.rho[-1]
    replies = [gc.moreau_envelope(problem, n, rho).theta for n in range(problem.n_users)]
    return rho, gc.certify(problem, rho, replies, **attacker).distance


# -- three attacks, one limit ------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", SMOOTH, ids=repr)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_three_attacks_have_one_limit(loss: gc.Loss, regularizer: gc.Regularizer) -> None:
    """T2: the gradient, the model and the data lead to the target, certified; other data elsewhere.

    The end of every run is within its own certified distance of the optimum of its attack, and the
    target is within the certified distance of the attack's prediction.
    """
    problem = cases.example(loss, regularizer, nu=0.5)
    honest = gc.solve(problem).rho
    direction = cases.centered(problem, np.random.default_rng(1).normal(size=problem.shape))
    push = gc.GradientAttack(direction / np.linalg.norm(direction))
    target = cases.centered(problem, gc.solve(problem, attacker=push).rho)
    attack = gc.poison(problem, target)
    replies = [gc.moreau_envelope(problem, n, target).theta for n in range(problem.n_users)]
    for attacker in (gc.GradientAttack(attack.gradient), gc.ModelAttack(attack.theta)):
        end, distance = certified_end(problem, run(problem, [attacker]), attacker=attacker)
        predicted = gc.certify(problem, target, replies, attacker=attacker).distance
        assert np.linalg.norm(end - target) <= distance + predicted <= 1e-7
    by_data = run(problem, [DataAttack(attack.dataset)])
    end, distance = certified_end(attack.poisoned, by_data)
    assert np.linalg.norm(end - target) <= distance + attack.certificate.distance <= 1e-7
    # Nobody, and as many other points, lead elsewhere: farther than their certificates allow.
    other = gc.Dataset(attack.dataset.x[:, ::-1], attack.dataset.y, attack.dataset.counts)
    elsewhere = problem.with_user(other, 0.5)
    for changed, trace in (
        (problem, run(problem)),
        (elsewhere, run(problem, [DataAttack(other)])),
    ):
        end, distance = certified_end(changed, trace)
        assert distance <= 1e-7
        assert np.linalg.norm(end - target) > 1e-3 + distance
    assert np.linalg.norm(honest - target) > 1e-3


@pytest.mark.parametrize("regularizer", [gc.L2(4.0), gc.HardConsensus()], ids=repr)
def test_the_gradient_and_the_data_have_one_limit_where_models_are_tied(
    regularizer: gc.Regularizer,
) -> None:
    """At a kink a frozen model reports 0, and which subgradient keeps the target is lost (T2.2)."""
    problem = users(regularizer, 3)
    push = gc.GradientAttack([0.8, -0.5])
    target = gc.solve(problem, attacker=push).rho
    attack = gc.poison(problem, target)
    np.testing.assert_allclose(attack.gradient, push.gradient, atol=1e-9)
    for attackers in ([push], [DataAttack(attack.dataset)]):
        trace = run(problem, attackers)
        assert trace.stopped == "stationary"
        assert trace.distances(target)[-1] <= 1e-8
    assert run(problem).distances(target)[-1] > 1e-2


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3])
def test_one_point_imitates_a_constant_gradient_all_along(epsilon: float) -> None:
    """T2: x = eps g, y = -1/eps reports g at every rho, up to eps^2; without ridge."""
    problem = users(gc.SquaredL2(1.0), 3, seed=2)
    g = np.array([1.0, -0.5])
    point = gc.Dataset([epsilon * g], [-1.0 / epsilon])
    constant = rounds(problem, [gc.GradientAttack(g)], step_size=0.1)
    by_data = rounds(problem, [DataAttack(point, nu=0.0)], step_size=0.1)
    for one, other in itertools.islice(zip(constant, by_data, strict=False), 50):
        assert np.linalg.norm(one.next_rho - other.next_rho) <= 50.0 * epsilon**2
        assert np.linalg.norm(other.reports[-1] - g) <= 50.0 * epsilon**2
    # Negative controls: with a ridge the point reports something else, as does one point of size 1.
    for wrong in (DataAttack(point, nu=0.2), DataAttack(gc.Dataset([g], [-1.0]), nu=0.0)):
        first = next(rounds(problem, [wrong], step_size=0.1))
        assert np.linalg.norm(first.reports[-1] - g) > 0.1


# -- the counter-gradient attack by its formula ------------------------------------------------------


@given(
    regularizer=st.sampled_from([gc.SquaredL2(1.0), gc.SmoothL2(2.0), gc.L2(2.0)]),
    fraction=st.floats(0.3, 1.0),
    seed=st.integers(0, 10**6),
    waning=st.booleans(),
)
@settings(max_examples=25)
def test_counter_gradient_attack_by_its_formula(
    regularizer: gc.Regularizer, fraction: float, seed: int, waning: bool
) -> None:
    """What it reports is a function of the models it was sent and its own reports before."""
    target = np.array([2.0, -1.0])
    problem = users(regularizer, 3)
    step_size = decaying(0.05, 5.0) if waning else 0.05
    trace = run(
        problem,
        [CounterGradientAttack(target)],
        fraction=fraction,
        seed=seed,
        step_size=step_size,
        max_rounds=12,
        tol=0.0,
    )
    asked = ~np.isnan(trace.norms)
    scale = trace.step_sizes * (4 / asked.sum(axis=1))
    known = None
    for t in np.flatnonzero(asked[:, 3]):
        if t > 0 and asked[t - 1, 3]:
            step = (trace.rho[t - 1] - trace.rho[t]) / scale[t - 1]
            known = step - trace.reports[t - 1, 3]
            # It has found out what the others pulled by in the round before.
            others = np.nansum(trace.reports[t - 1, :3], axis=0)
            np.testing.assert_allclose(known, others, atol=1e-11)
        expected = np.zeros(2)
        if known is not None:
            expected = (trace.rho[t] - target) / scale[t] - known
            expected *= min(1.0, regularizer.radius / np.linalg.norm(expected))
        np.testing.assert_allclose(trace.reports[t, 3], expected, rtol=1e-9, atol=1e-11)


@given(
    seed=st.integers(0, 10**4),
    n_users=st.integers(1, 4),
    eta=cases.powers(1e-3, 1e3),
    loss=st.sampled_from(LOSSES),
)
@settings(max_examples=25)
def test_who_sees_everything_is_there_in_one_step(
    seed: int, n_users: int, eta: float, loss: gc.Loss
) -> None:
    """Squared l2: from anywhere, with any step size. Who does not see takes longer."""
    problem = cases.example(loss, gc.SquaredL2(0.7), users=n_users, seed=seed)
    start, target = np.random.default_rng(seed).normal(size=(2, *problem.shape)) * 5.0
    options: dict[str, Any] = {"start": start, "step_size": eta, "max_rounds": 1}
    seeing = run(problem, [CounterGradientAttack(target, omniscient=True)], **options)
    rounding = 1e-14 * (1.0 + np.linalg.norm(target - start) + eta * seeing.norms.sum())
    assert seeing.distances(target)[-1] <= rounding
    blind = run(problem, [CounterGradientAttack(target)], **options)
    np.testing.assert_array_equal(
        blind.rho, run(problem, [lambda query: np.zeros(problem.shape)], **options).rho
    )
    assert blind.distances(target)[-1] > rounding


@given(seed=st.integers(0, 10**4), share=st.floats(0.1, 1.0))
@settings(max_examples=15)
def test_who_sees_everything_and_weighs_lam_comes_as_near_as_that_allows(
    seed: int, share: float
) -> None:
    """One step reaches the ball of radius eta lam around where the others would go."""
    lam, eta = 2.0, 0.1
    problem = users(gc.SmoothL2(lam), 3, seed)
    reach = run(problem, step_size=eta, max_rounds=1).rho[-1]
    direction = np.random.default_rng(seed).normal(size=2)
    direction /= np.linalg.norm(direction)
    for distance in (share * eta * lam, (1.0 + share) * eta * lam):
        target = reach + distance * direction
        attack = CounterGradientAttack(target, omniscient=True)
        trace = run(problem, [attack], step_size=eta, max_rounds=1)
        left = max(0.0, distance - eta * lam)
        assert math.isclose(trace.distances(target)[-1], left, abs_tol=1e-13)


# -- where it ends under squared l2 ------------------------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    n_users=st.integers(1, 4),
    d=st.integers(1, 3),
    share=st.floats(0.1, 0.75),
)
@settings(max_examples=8)
def test_it_reaches_its_target_exactly_where_eta_lip_is_below_one_half(
    seed: int, n_users: int, d: int, share: float
) -> None:
    """Least squares: G is linear, and the errors along its curvature a follow x^2 + eta a (x - 1)."""
    problem = cases.example(gc.LeastSquares(), gc.SquaredL2(0.7), users=n_users, d=d, seed=seed)
    target = np.random.default_rng(seed).normal(size=d) * 5.0
    _, slope = pull_and_slope(problem, target)
    lipschitz = float(np.linalg.eigvalsh(slope)[-1])
    assert lipschitz <= 2.0 * 0.7 * n_users
    start = target + np.linalg.eigh(slope)[1][:, -1] * 1e-3  # along the steepest direction
    within, beyond = (
        run(
            problem,
            [CounterGradientAttack(target)],
            start=start,
            step_size=part * 0.5 / lipschitz,
            max_rounds=150,
            tol=1e-13,
        ).distances(target)
        for part in (share, 2.0 - share)
    )
    assert within[-1] <= 1e-4 * within.max()
    assert beyond[-1] > 30.0 * beyond[:3].max()


@given(seed=st.integers(0, 10_000), share=st.floats(0.3, 0.9), n_users=st.integers(1, 4))
@settings(max_examples=5)
def test_it_reaches_its_target_under_curved_losses_too(
    seed: int, share: float, n_users: int
) -> None:
    """Squared l2: where eta Lip(G) < 1/2, Lip(G) <= 2 lam N."""
    problem = cases.example(gc.Logistic(), gc.SquaredL2(0.7), users=n_users, seed=seed)
    target = np.random.default_rng(seed).normal(size=2) * 3.0
    eta = share * 0.5 / (2.0 * 0.7 * n_users)
    trace = run(problem, [CounterGradientAttack(target)], step_size=eta, max_rounds=400)
    assert trace.distances(target)[-1] <= 1e-6
    # The end is an equilibrium: the attack sends what the target needs, and then always.
    needed = gc.required_gradient(problem, target)
    np.testing.assert_allclose(trace.reports[-1, -1], needed, atol=1e-5)


# -- where it ends under l2 and smooth l2 ------------------------------------------------------------


def bounded_instance(seed: int) -> tuple[gc.Problem, np.ndarray]:
    """1-6 users, 1-4 features, targets near and far; l2 at odd seeds, smooth l2 at even ones."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    loss = gc.LeastSquares() if rng.random() < 0.5 else gc.Logistic()
    lam = float(10.0 ** rng.uniform(-0.5, 1.0))
    data = [
        gc.Dataset(rng.normal(size=(m, d)), cases.labels(loss, m, rng))
        for m in rng.integers(2, 12, size=n)
    ]
    nu = float(10.0 ** rng.uniform(-1.0, 0.5))
    kind = gc.L2(lam) if seed % 2 else gc.SmoothL2(lam, float(10.0 ** rng.uniform(-0.5, 0.5)))
    problem = gc.Problem(loss, kind, data, nu)
    distance = 10.0 ** rng.uniform(-1.0, 1.0)
    return problem, gc.solve(problem).rho + rng.normal(size=problem.shape) * distance


def check_limit(problem: gc.Problem, target: np.ndarray) -> tuple[np.ndarray, int]:
    """Run the attack with a constant step, and compare its end with the minimizer of T5.

    Under l2 too the pull is Lipschitz: M_n is as smooth as L_n. The attack's own kink, at the target,
    it does not step over: its report lands on the target if it can.
    """
    lam = problem.regularizer.radius
    smoothness = min(
        problem.n_users * problem.regularizer.smoothness, problem.local_losses.smoothness.sum()
    )
    trace = run(
        problem,
        [CounterGradientAttack(target)],
        step_size=0.4 / smoothness,
        max_rounds=4000,
        keep_reports=False,
        tol=1e-12,
    )
    assert trace.stopped == "stationary"
    rho = trace.rho[-1]
    frozen = gc.ModelAttack(target, gc.L2(lam))
    pull = np.linalg.norm(pull_and_slope(problem, target)[0])
    if problem.n_users == 1 and isinstance(problem.regularizer, gc.L2) and pull > 0.99 * lam:
        # Two kinked terms of the same slope: a whole segment is optimal, and no certificate applies.
        value = gc.moreau_envelope(problem, 0, rho).value + lam * np.linalg.norm(rho - target)
        best = gc.solve(problem, attacker=frozen, method="cvxpy").value
        assert abs(value - best) <= 1e-6 * (1.0 + abs(best))
        return rho, trace.n_rounds
    solution = gc.solve(problem, attacker=frozen).require_optimal()
    # A hair's breadth from the kink, the energy's slope is that beyond; at it, the one that is needed.
    point = target if np.linalg.norm(rho - target) <= 1e-9 else rho
    replies = [gc.moreau_envelope(problem, n, point).theta for n in range(problem.n_users)]
    assert gc.certify(problem, point, replies, attacker=frozen).relative_gap <= 1e-9
    assert np.linalg.norm(rho - solution.rho) <= 1e-6
    if pull <= lam:
        assert np.linalg.norm(rho - target) <= 1e-6
    if not problem.regularizer.is_reachable(pull_and_slope(problem, target)[0]):
        with pytest.raises(gc.UnreachableTargetError) as caught:
            gc.required_gradient(problem, target)
        assert np.linalg.norm(rho - caught.value.reachable) <= 1e-6
        assert math.isclose(np.linalg.norm(pull_and_slope(problem, rho)[0]), lam, rel_tol=1e-6)
    return rho, trace.n_rounds


@pytest.mark.parametrize("seed", [5, 7, 9, 13, 24, 45])
def test_where_it_ends_with_bounded_reports(seed: int) -> None:
    """T5: a minimizer of the honest sum plus lam |rho - target|."""
    check_limit(*bounded_instance(seed))


def nearest_reachable(problem: gc.Problem, target: np.ndarray, near: np.ndarray) -> float:
    """The distance from the target to |G(rho)| <= lam, as found from there and from the optimum."""
    lam = problem.regularizer.radius

    def constraint(rho: np.ndarray) -> float:
        return float(np.sum(pull_and_slope(problem, rho)[0] ** 2)) / lam**2

    def jacobian(rho: np.ndarray) -> np.ndarray:
        pull, slope = pull_and_slope(problem, rho)
        return 2.0 * (slope @ pull)[None] / lam**2

    allowed = NonlinearConstraint(constraint, -np.inf, 1.0, jac=jacobian)
    found = [
        minimize(
            lambda rho: np.sum((rho - target) ** 2),
            start,
            jac=lambda rho: 2.0 * (rho - target),
            constraints=[allowed],
            method="SLSQP",
            options={"maxiter": 100, "ftol": 1e-12},
        ).x
        for start in (near, gc.solve(problem).rho)
    ]
    return min(
        (float(np.linalg.norm(rho - target)) for rho in found if constraint(rho) <= 1.0 + 1e-6),
        default=math.inf,
    )


@pytest.mark.slow
def test_where_it_ends_with_bounded_reports_on_fifty_instances() -> None:
    """And how much farther from the target that is than the nearest reachable point."""
    ratios = {}
    for seed in range(50):
        problem, target = bounded_instance(seed)
        rho, n_rounds = check_limit(problem, target)
        away = float(np.linalg.norm(rho - target))
        lam = problem.regularizer.radius
        unreachable = np.linalg.norm(pull_and_slope(problem, target)[0]) > lam * (1.0 + 1e-9)
        line = f"{seed:2d} {problem!r}: {n_rounds} rounds, ends {away:.4g} away"
        if unreachable:
            nearest = nearest_reachable(problem, target, rho)
            assert nearest <= away * (1.0 + 1e-6)
            ratios[seed] = away / nearest
            line += f", nearest reachable {nearest:.4g}, ratio {ratios[seed]:.4f}"
            if problem.shape == (1,):  # on a line there is one way to the target
                assert math.isclose(away, nearest, rel_tol=1e-5)
        print(line)
    assert len(ratios) > 20
    # It is not the nearest reachable point, and on these instances hardly farther.
    assert 1.02 < max(ratios.values()) < 1.05


def test_its_end_is_not_that_of_other_attacks() -> None:
    """Negative control for T5: neither the honest optimum nor what freezing the target leads to."""
    problem = users(gc.SmoothL2(1.0))
    target = np.array([30.0, -20.0])
    trace = run(problem, [CounterGradientAttack(target)], max_rounds=2000)
    assert trace.stopped == "stationary"
    end = trace.rho[-1]
    limit = gc.solve(problem, attacker=gc.ModelAttack(target, gc.L2(1.0))).rho
    assert np.linalg.norm(end - limit) <= 1e-7
    assert np.linalg.norm(end - target) > 1.0
    assert np.linalg.norm(end - gc.solve(problem).rho) > 1e-2
    frozen = gc.solve(problem, attacker=gc.ModelAttack(target)).rho  # tied by smooth l2 instead
    assert np.linalg.norm(end - frozen) > 1e-5


def test_a_longer_step_than_its_theorem_allows_misses_a_reachable_target() -> None:
    """Negative control: with bounded reports it cannot diverge, and circles instead."""
    problem = users(gc.SmoothL2(20.0, 5.0))
    target = gc.solve(problem).rho + np.array([0.5, 0.3])
    lipschitz = float(np.linalg.eigvalsh(pull_and_slope(problem, target)[1])[-1])
    near, wide = (
        run(problem, [CounterGradientAttack(target)], step_size=part / lipschitz, max_rounds=150)
        for part in (0.3, 1.2)
    )
    assert near.distances(target)[-1] <= 1e-6
    assert wide.distances(target)[-50:].min() > 1e-2


def test_a_function_of_a_query_can_be_any_of_them() -> None:
    """The same reports are the same run, whoever sends them."""
    problem, theta = users(gc.SmoothL2(3.0)), np.array([1.0, 2.0])
    by_hand = run(problem, [lambda query: freeze(problem, query, theta)], max_rounds=20)
    frozen = run(problem, [gc.ModelAttack(theta)], max_rounds=20)
    np.testing.assert_allclose(by_hand.rho, frozen.rho, atol=1e-14)


def freeze(problem: gc.Problem, query: Query, theta: np.ndarray) -> np.ndarray:
    u = query.rho - theta
    return 3.0 * u / math.sqrt(1.0 + float(u @ u))
