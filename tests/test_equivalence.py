"""The theorem: gradient attack = model attack = data poisoning, exactly and with certificates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex import equivalence
from gplconvex.regularizers import norm
from tests import oracles_realization as oracle
from tests import strategies as cases

LOSSES = cases.LOSSES
ALL_LOSSES = cases.ALL_LOSSES
KINDS = {
    "squared-l2": gc.SquaredL2(0.6),
    "l2": gc.L2(2.0),
    "smooth-l2": gc.SmoothL2(2.0, 0.7),
    "hard-consensus": gc.HardConsensus(),
}


def users(
    loss: gc.Loss,
    regularizer: gc.Regularizer,
    seed: int,
    d: int = 3,
    nu: Any = 0.1,
    sizes: tuple[int, ...] = (12, 5, 8),
) -> gc.Problem:
    rng = np.random.default_rng(seed)
    data = [gc.Dataset(rng.normal(size=(m, d)), cases.labels(loss, m, rng)) for m in sizes]
    return gc.Problem(loss, regularizer, data, nu)


def near_target(problem: gc.Problem, seed: int, size: float = 0.6) -> np.ndarray:
    """Where honest users settle against a report of that part of the radius (or of 5)."""
    g = cases.centered(problem, np.random.default_rng(seed).normal(size=problem.shape))
    g *= size * min(problem.regularizer.radius, 5.0) / np.linalg.norm(g)
    settled = gc.solve(problem, attacker=gc.GradientAttack(g)).require_optimal().rho
    return cases.centered(problem, settled)


def reach(attack: gc.Poisoning, **options: Any) -> tuple[float, float]:
    """Distance of the solved poisoned optimum from the target, and the certified bound of it."""
    solution = gc.solve(attack.poisoned, **options)
    bound = attack.certificate.distance + solution.certificate.distance
    # The difference of two vectors of floats is itself rounded.
    return norm(solution.rho - attack.target), bound + 4e-16 * norm(attack.target)


def refusal(call: Callable[[], Any]) -> gc.GplConvexError | None:
    """The error that a call raises, if it does."""
    try:
        call()
    except gc.GplConvexError as error:
        return error
    return None


def check_points(attack: gc.Poisoning, problem: gc.Problem) -> None:
    """What a poisoning says about its points, by other means."""
    h = attack.gradient - 2.0 * attack.poisoned.nu[-1] * attack.theta
    assert attack.n_points == attack.dataset.n_points
    assert attack.lower_bound <= attack.n_points
    assert attack.residual <= 1e-12
    assert attack.poisoned.n_users == problem.n_users + 1
    assert attack.poisoned.datasets[-1] == attack.dataset
    if attack.n_points:
        assert oracle.relative_residual(problem.loss, attack.dataset, attack.theta, h) <= 1e-12
    gc.check_lower_bound(problem.loss, attack.theta, h, attack.proof)


# -- the poisoned optimum is the target --------------------------------------------------------------


@given(st.data())
def test_the_poisoned_optimum_is_the_target(data: st.DataObject) -> None:
    problem = data.draw(cases.problems())
    target = data.draw(cases.reachable_targets(problem))
    attack = gc.poison(problem, target)
    check_points(attack, problem)
    gc.verify(attack.certificate, attack.poisoned, attack.target, attack.thetas)
    assert np.array_equal(attack.target, target)
    assert attack.certificate.distance <= 1e-8 * (1.0 + norm(target))
    distance, bound = reach(attack)
    assert distance <= bound
    assert bound <= 3e-8 * (1.0 + norm(target))


@settings(max_examples=30)
@given(st.sampled_from(cases.MORE_LOSSES), st.data())
def test_the_poisoned_optimum_is_the_target_for_counts_and_classes(
    loss: gc.Loss, data: st.DataObject
) -> None:
    problem = data.draw(cases.problems(loss=st.just(loss), min_features=3, max_users=3))
    target = data.draw(cases.reachable_targets(problem))
    attack = gc.poison(problem, target)
    check_points(attack, problem)
    gc.verify(attack.certificate, attack.poisoned, attack.target, attack.thetas)
    assert attack.certificate.distance <= 1e-8 * (1.0 + norm(target))
    distance, bound = reach(attack)
    assert distance <= bound


@settings(max_examples=30)
@given(st.sampled_from(cases.MORE_LOSSES), st.data())
def test_reports_are_reproduced_for_counts_and_classes(loss: gc.Loss, data: st.DataObject) -> None:
    problem = data.draw(cases.problems(loss=st.just(loss), min_features=3, max_users=2))
    rho = cases.centered(problem, data.draw(cases.models(problem.shape, 1.0)))
    g = data.draw(cases.reports(problem, most=0.99))
    attack = gc.reproduce_gradient(problem, rho, g)
    check_points(attack, problem)
    reply = gc.moreau_envelope(attack.poisoned, problem.n_users, rho)
    assert norm(reply.gradient - g) <= 1e-9 * norm(g)


def test_a_target_off_the_center_of_the_classes_is_refused() -> None:
    """With nu > 0 honest users pull at what adding one number to all classes changes; data do not."""
    problem = users(gc.Softmax(3), gc.SquaredL2(1.0), 0)
    target = near_target(problem, 1) + 0.5
    with pytest.raises(gc.InvalidInputError, match="Center the target"):
        gc.poison(problem, target)
    free = users(gc.Softmax(3), gc.SquaredL2(1.0), 0, nu=0.0)
    check_points(gc.poison(free, target), free)


@pytest.mark.parametrize("regularizer", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("loss", ALL_LOSSES, ids=repr)
def test_another_solver_finds_the_target_too(loss: gc.Loss, regularizer: gc.Regularizer) -> None:
    problem = users(loss, regularizer, 1)
    attack = gc.poison(problem, near_target(problem, 2))
    distance, bound = reach(attack, method="cvxpy")
    assert distance <= bound
    assert distance <= 1e-3


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_exact_arithmetic_finds_the_target_too(loss: gc.Loss) -> None:
    """The optimum of the poisoned problem to 40 digits lies within the certified distance."""
    for seed, regularizer in enumerate(KINDS.values()):
        problem = users(loss, regularizer, seed, d=2 - loss.intercept, sizes=(4, 3))
        attack = gc.poison(problem, near_target(problem, seed))
        _, rho, _ = oracle.optimum(attack.poisoned, attack.target, attack.thetas)
        off = oracle.length(oracle.minus(oracle.exact(attack.target), rho))
        assert off <= attack.certificate.distance


# -- one report reproduced ---------------------------------------------------------------------------


@given(st.data())
def test_an_honest_user_with_the_points_reports_the_gradient(data: st.DataObject) -> None:
    problem = data.draw(cases.problems(max_users=2))
    rho = cases.centered(problem, data.draw(cases.models(problem.shape)))
    g = data.draw(cases.reports(problem, most=0.999))
    attack = gc.reproduce_gradient(problem, rho, g)
    check_points(attack, problem)
    reply = gc.moreau_envelope(attack.poisoned, problem.n_users, rho)
    assert norm(reply.gradient - g) <= 1e-9 * norm(g)
    # The report is the gradient of the local loss at the reply, l2 and consensus included.
    local = attack.poisoned.locals[-1]
    assert norm(local.gradient(attack.theta) - g) <= 1e-9 * (norm(g) + norm(attack.theta))
    alone = gc.Problem(problem.loss, problem.regularizer, [attack.dataset], attack.poisoned.nu[-1])
    gc.verify(attack.certificate, alone, rho, [attack.theta], attacker=gc.GradientAttack(-g))


def test_the_report_of_other_points_differs() -> None:
    """Negative control: one label moved, and the report is another."""
    for loss in ALL_LOSSES:
        for regularizer in KINDS.values():
            problem = users(loss, regularizer, 3)
            rho = cases.centered(problem, np.random.default_rng(0).normal(size=problem.shape))
            g = cases.centered(
                problem, 0.3 * np.eye(*(*problem.shape, 1)[:2]).reshape(problem.shape)
            )
            attack = gc.reproduce_gradient(problem, rho, g)
            changed = problem.with_user(tampered(attack.dataset, loss), 0.1)
            reply = gc.moreau_envelope(changed, problem.n_users, rho)
            assert norm(reply.gradient - g) > 1e-4 * norm(g)


# -- the reductions commute --------------------------------------------------------------------------


@given(st.data())
def test_gradient_to_model_and_back(data: st.DataObject) -> None:
    regularizer = data.draw(cases.smooth_regularizers())
    problem = gc.Problem(gc.LeastSquares(), regularizer, [gc.Dataset.empty(4)], 0.1)
    rho = data.draw(cases.models((4,)))
    g = data.draw(cases.reports(problem, most=0.999))
    theta = gc.to_model(problem, rho, g)
    assert norm(gc.to_gradient(problem, rho, theta) - g) <= 1e-11 * (norm(g) + norm(rho))
    theta = data.draw(cases.models((4,)))
    again = gc.to_model(problem, rho, gc.to_gradient(problem, rho, theta))
    assert norm(again - theta) <= 1e-8 * (1.0 + norm(theta))


def test_where_models_coincide_the_report_of_least_norm_is_returned() -> None:
    """l2 and consensus: every plausible g has the model rho, whose gradient is taken to be 0."""
    for regularizer in (gc.L2(2.0), gc.HardConsensus()):
        problem = gc.Problem(gc.LeastSquares(), regularizer, [gc.Dataset.empty(2)], 0.1)
        theta = gc.to_model(problem, [1.0, 2.0], [0.5, 1.5])
        assert np.array_equal(theta, [1.0, 2.0])
        assert np.array_equal(gc.to_gradient(problem, [1.0, 2.0], theta), [0.0, 0.0])
    with pytest.raises(gc.InvalidInputError):
        gc.to_gradient(problem, [1.0, 2.0], [1.0, 2.5])


@pytest.mark.parametrize("regularizer", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_three_attacks_one_optimum(loss: gc.Loss, regularizer: gc.Regularizer) -> None:
    """Replace the participant: gradient, model, data. The certified optimum stays the target."""
    problem = users(loss, regularizer, 5)
    target = near_target(problem, 6)
    attack = gc.poison(problem, target)
    honest = gc.solve(problem)
    assert norm(honest.rho - target) > 1e-2
    replies = [gc.moreau_envelope(problem, n, target).theta for n in range(problem.n_users)]
    for attacker in (gc.GradientAttack(attack.gradient), gc.ModelAttack(attack.theta)):
        predicted = gc.certify(problem, target, replies, attacker=attacker)
        assert predicted.relative_gap <= 1e-12
        assert predicted.relative_distance <= 1e-8
        solution = gc.solve(problem, attacker=attacker)
        bound = predicted.distance + solution.certificate.distance
        assert norm(solution.rho - target) <= bound <= 1e-7
    distance, bound = reach(attack)
    assert distance <= bound <= 1e-7


# -- negative controls -------------------------------------------------------------------------------


def tampered(data: gc.Dataset, loss: gc.Loss) -> gc.Dataset:
    """The dataset with one label of one point changed (the other copies of it keep theirs)."""
    y = data.y.copy()
    other = -y[:1] if isinstance(loss, gc.Logistic) else y[:1] + 1.0
    if isinstance(loss, gc.Softmax):
        other %= loss.n_classes
    if data.counts[0] == 1:
        return gc.Dataset(data.x, np.append(other, y[1:]), data.counts)
    counts = [data.counts[0] - 1, *data.counts[1:], 1]
    return gc.Dataset(np.vstack([data.x, data.x[:1]]), np.append(y, other), counts)


def dropped(data: gc.Dataset) -> gc.Dataset:
    """The dataset without one point."""
    counts = data.counts.copy()
    counts[0] -= 1
    kept = counts > 0
    return gc.Dataset(data.x[kept], data.y[kept], counts[kept])


@pytest.mark.parametrize("regularizer", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_other_data_have_another_optimum(
    loss: gc.Loss, regularizer: gc.Regularizer, seed: int
) -> None:
    """One point less, one label changed, the ridge forgotten: the optimum is not the target."""
    problem = users(loss, regularizer, seed)
    attack = gc.poison(problem, near_target(problem, seed + 1))
    forgetful = gc.realize_gradient(loss, attack.theta, attack.gradient).dataset
    for data in (dropped(attack.dataset), tampered(attack.dataset, loss), forgetful):
        solution = gc.solve(problem.with_user(data, 0.1)).require_optimal()
        moved = norm(solution.rho - attack.target)
        assert math.isfinite(solution.certificate.distance)
        assert moved > 1e-4
        assert moved > 2.0 * (attack.certificate.distance + solution.certificate.distance)
        thetas = [gc.moreau_envelope(solution.problem, n, attack.target).theta for n in range(4)]
        elsewhere = gc.certify(solution.problem, attack.target, thetas)
        assert elsewhere.distance >= moved - solution.certificate.distance


def test_the_certificate_is_of_the_shipped_data() -> None:
    problem = users(gc.Logistic(), gc.SquaredL2(0.6), 0)
    attack = gc.poison(problem, near_target(problem, 1))
    changed = problem.with_user(tampered(attack.dataset, problem.loss), 0.1)
    with pytest.raises(gc.CertificateError, match="fingerprint"):
        gc.verify(attack.certificate, changed, attack.target, attack.thetas)


def test_one_point_fewer_cannot_do() -> None:
    """The number is minimal for the target: k - 1 points, optimized, leave the target's gradient."""
    for seed in range(5):
        problem = users(gc.Logistic(), gc.SquaredL2(0.05), seed)
        attack = gc.poison(problem, near_target(problem, seed, 0.5))
        h = attack.gradient - 0.2 * attack.theta
        assert attack.n_points == oracle.fewest_without_intercept(attack.theta, h)
        assert attack.n_points > 1
        along = attack.theta @ h
        most = -(attack.n_points - 1) * float(oracle.kappa())
        assert along < most  # what k - 1 points can reach along theta, at the very best


# -- unreachable targets -----------------------------------------------------------------------------


def unreachable(kind: type, seed: int) -> tuple[gc.Problem, np.ndarray, gc.UnreachableTargetError]:
    problem = users(LOSSES[seed % 4], kind(0.8), seed, d=2)
    target = 4.0 * np.sign(np.random.default_rng(seed).normal(size=problem.shape))
    with pytest.raises(gc.UnreachableTargetError, match="stationary") as caught:
        gc.poison(problem, target)
    return problem, target, caught.value


def pull_at(problem: gc.Problem, rho: np.ndarray) -> np.ndarray:
    """The honest pull at rho, each reply found by a solver of the package's reference kind."""
    return np.sum(
        [gc.moreau_envelope(problem, n, rho).gradient for n in range(problem.n_users)], axis=0
    )


@pytest.mark.parametrize("kind", [gc.L2, gc.SmoothL2])
@pytest.mark.parametrize("seed", range(12))
def test_unreachable_targets_are_refused_with_a_proof(kind: type, seed: int) -> None:
    problem, target, error = unreachable(kind, seed)
    assert error.pull > error.lam == 0.8
    assert error.pull == pytest.approx(norm(pull_at(problem, target)), rel=1e-9)
    assert f"{error.lam:g}" in str(error)
    # The offered point minimizes sum M_n + lam |rho - target|: there the pull balances the unit
    # vector to the target.
    away = error.reachable - target
    assert norm(away) > 1e-6
    assert norm(pull_at(problem, error.reachable) + 0.8 * away / norm(away)) <= 1e-6
    values = [
        sum(gc.moreau_envelope(problem, n, rho).value for n in range(problem.n_users))
        + 0.8 * norm(rho - target)
        for rho in (
            error.reachable,
            *(error.reachable + 1e-2 * v for v in np.eye(len(target))),
            *(error.reachable - 1e-2 * v for v in np.eye(len(target))),
        )
    ]
    assert min(values) == values[0]
    # No report does better: it would need the pull itself.
    with pytest.raises(gc.InvalidInputError, match="not plausible"):
        gc.to_model(problem, target, -pull_at(problem, target))


@pytest.mark.parametrize("kind", [gc.L2, gc.SmoothL2])
@pytest.mark.parametrize("seed", range(4))
def test_the_offered_point_is_what_another_solver_finds(kind: type, seed: int) -> None:
    import cvxpy as cp

    problem, target, error = unreachable(kind, seed)
    rho = cp.Variable(len(target))
    thetas = [cp.Variable(len(target)) for _ in range(problem.n_users)]
    total = 0.8 * cp.norm(rho - target)
    for data, theta in zip(problem.datasets, thetas, strict=True):
        ones = np.ones((data.n_rows, 1))
        x = np.hstack([data.x, ones]) if problem.loss.intercept else data.x
        z = x @ theta
        logistic = isinstance(problem.loss, gc.Logistic)
        total += (
            cp.sum(cp.logistic(-cp.multiply(data.y, z)))
            if logistic
            else cp.sum_squares(z - data.y) / 2
        )
        u = rho - theta
        total += 0.1 * cp.sum_squares(theta)
        total += 0.8 * (cp.norm(u) if kind is gc.L2 else cp.norm(cp.hstack([np.ones(1), u])))
    cp.Problem(cp.Minimize(total)).solve(solver="CLARABEL")
    assert norm(rho.value - error.reachable) <= 1e-3


@pytest.mark.parametrize("kind", [gc.L2, gc.SmoothL2])
@pytest.mark.parametrize("seed", range(8))
def test_the_offered_point_is_the_border_of_what_can_be_reached(kind: type, seed: int) -> None:
    """A report of 0.999 lam in the same direction is plausible, and ends up close to that point."""
    problem, target, error = unreachable(kind, seed)
    g = -pull_at(problem, error.reachable)
    assert norm(g) == pytest.approx(0.8, rel=1e-6)
    inside = gc.solve(problem, attacker=gc.GradientAttack(0.999 * g)).require_optimal().rho
    attack = gc.poison(problem, inside)
    assert attack.certificate.relative_distance <= 1e-6
    distance, bound = reach(attack)
    assert distance <= bound
    assert norm(inside - error.reachable) <= 0.1 * norm(target - error.reachable)
    # The point itself needs |g| = lam, with which float64 may do or not; never another failure.
    failure = refusal(lambda: gc.poison(problem, error.reachable))
    if isinstance(failure, gc.UnreachableTargetError):
        assert failure.pull == pytest.approx(0.8, rel=1e-6)
    elif failure is not None:  # the attacker's model would be at infinity
        assert kind is gc.SmoothL2
        assert isinstance(failure, gc.CertificateError)


def test_every_target_is_reachable_without_a_bound_on_reports() -> None:
    for regularizer in (gc.SquaredL2(0.6), gc.HardConsensus()):
        for loss in LOSSES:
            problem = users(loss, regularizer, 0, d=2)
            target = np.array([30.0, -40.0, 5.0])[: problem.shape[0]]
            attack = gc.poison(problem, target)
            assert attack.certificate.relative_distance <= 1e-8
            distance, bound = reach(attack)
            assert distance <= bound


# -- borders and special cases -----------------------------------------------------------------------


def test_a_pull_of_exactly_lam() -> None:
    """One user, M(rho) = rho^2/2 near 0: at rho = lam = 1 the pull is exactly lam."""
    data = [([[1.0]], [0.0])]
    problem = gc.Problem(gc.LeastSquares(), gc.L2(1.0), data)
    attack = gc.poison(problem, [1.0])
    assert np.array_equal(attack.gradient, [-1.0])
    assert np.array_equal(attack.theta, [1.0])
    assert attack.residual <= 1e-12
    # Nothing strictly inside the ball pins rho down, and the certificate does not claim otherwise.
    assert attack.certificate.gap <= 1e-12
    assert gc.reproduce_gradient(problem, [1.0], [-1.0]).residual <= 1e-12
    # A norm is known up to its rounding, and no further.
    rounded = np.nextafter(1.0, 2.0)
    assert gc.reproduce_gradient(problem, [1.0], [rounded]).residual <= 1e-12
    with pytest.raises(gc.InvalidInputError, match="not plausible"):
        gc.reproduce_gradient(problem, [1.0], [1.0 + 1e-12])
    smooth = gc.Problem(gc.LeastSquares(), gc.SmoothL2(1.0), data)
    for function in (gc.to_model, gc.reproduce_gradient):
        with pytest.raises(gc.InvalidInputError, match="strictly less than 1"):
            function(smooth, [1.0], [-1.0])
        with pytest.raises(gc.InvalidInputError, match="not plausible"):
            function(smooth, [1.0], [-1.5])


def test_under_l2_the_attacker_takes_the_target_for_its_model() -> None:
    for loss in LOSSES:
        problem = users(loss, gc.L2(2.0), 4)
        target = near_target(problem, 5)
        attack = gc.poison(problem, target)
        assert np.array_equal(attack.theta, target)
        assert norm(attack.gradient) < 2.0


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_an_attacker_with_the_zero_model(loss: gc.Loss) -> None:
    """g = 2 lam rho makes theta_spade = 0, where predictors vanish."""
    problem = gc.Problem(loss, gc.SquaredL2(0.5), [gc.Dataset.empty(2)], 0.1)
    rho = np.array([1.0, -2.0, 0.5][: 2 + loss.intercept])
    attack = gc.reproduce_gradient(problem, rho, rho)
    assert np.array_equal(attack.theta, np.zeros_like(rho))
    assert attack.n_points == 1
    reply = gc.moreau_envelope(attack.poisoned, 1, rho)
    assert norm(reply.gradient - rho) <= 1e-10


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_an_attacker_who_behaves_as_if_without_data_needs_none(loss: gc.Loss) -> None:
    """h = g - 2 nu theta = 0: the report of a user who owns nothing."""
    regularizer = gc.SquaredL2(0.5)
    problem = users(loss, regularizer, 2)
    rho = cases.centered(problem, np.random.default_rng(0).normal(size=problem.shape))
    empty = gc.Dataset.empty(3)
    for nu in (0.0, 0.1, 2.0):
        alone = gc.moreau_envelope(problem.with_user(empty, nu), problem.n_users, rho)
        attack = gc.reproduce_gradient(problem, rho, alone.gradient, nu=nu)
        assert attack.n_points == attack.lower_bound == 0
        assert attack.dataset == empty
        reply = gc.moreau_envelope(attack.poisoned, problem.n_users, rho)
        assert norm(reply.gradient - alone.gradient) <= 1e-14 * (1.0 + norm(alone.gradient))


def test_the_honest_optimum_as_target() -> None:
    """Without a ridge of its own the attacker then has (next to) nothing to add."""
    for loss in LOSSES:
        problem = users(loss, gc.SquaredL2(0.6), 7)
        target = gc.solve(problem).rho
        attack = gc.poison(problem, target, nu=0.0)
        assert norm(attack.gradient) <= 1e-12
        assert attack.n_points <= 2
        distance, bound = reach(attack)
        assert distance <= bound
        assert bound <= 1e-7


@pytest.mark.parametrize("nu", [0.0, 1e-6, 0.5, 30.0])
@pytest.mark.parametrize("regularizer", KINDS.values(), ids=KINDS.keys())
def test_the_attacker_may_have_a_ridge_of_its_own(regularizer: gc.Regularizer, nu: float) -> None:
    for loss in ALL_LOSSES:
        problem = users(loss, regularizer, 1, nu=(0.1, 0.2, 0.3))
        target = near_target(problem, 2)
        attack = gc.poison(problem, target, nu=nu)
        assert attack.poisoned.nu.tolist() == [0.1, 0.2, 0.3, nu]
        check_points(attack, problem)
        distance, bound = reach(attack)
        assert distance <= bound
        # Under l2 it is the attacker alone who holds rho at the target: that takes curvature.
        unknown = isinstance(regularizer, gc.L2) and attack.certificate.strong_convexity[-1] == 0.0
        assert attack.certificate.relative_gap <= 1e-12
        assert bound <= 1e-7 or unknown
        with pytest.raises(gc.InvalidInputError, match="different ridges"):
            gc.poison(problem, target)
        with pytest.raises(gc.InvalidInputError, match="different ridges"):
            gc.reproduce_gradient(problem, target, attack.gradient)


BAD = {
    "too short": [1.0],
    "too long": [1.0] * 9,
    "a matrix": [[1.0, 2.0, 3.0]],
    "a number": 1.0,
    "NaN": [1.0, math.nan, 0.0],
    "infinite": [1.0, math.inf, 0.0],
    "words": ["a", "b", "c"],
    "nothing": None,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_models_are_refused(bad: Any) -> None:
    problem = users(gc.LeastSquares(), gc.SquaredL2(1.0), 0)
    fine = [1.0, 2.0, 3.0]
    for call in (
        lambda: gc.poison(problem, bad),
        lambda: gc.required_gradient(problem, bad),
        lambda: gc.to_model(problem, bad, fine),
        lambda: gc.to_model(problem, fine, bad),
        lambda: gc.to_gradient(problem, fine, bad),
        lambda: gc.to_gradient(problem, bad, fine),
        lambda: gc.to_data(problem, bad, fine),
        lambda: gc.to_data(problem, fine, bad),
        lambda: gc.reproduce_gradient(problem, bad, fine),
        lambda: gc.reproduce_gradient(problem, fine, bad),
    ):
        with pytest.raises(gc.InvalidInputError):
            call()


@pytest.mark.parametrize("nu", [-1.0, math.nan, math.inf, "much", [0.1]])
def test_bad_ridges_are_refused(nu: Any) -> None:
    problem = users(gc.LeastSquares(), gc.SquaredL2(1.0), 0)
    for call in (gc.poison, gc.required_gradient):
        if call is gc.poison:
            with pytest.raises(gc.InvalidInputError, match="nu must be"):
                call(problem, [1.0, 2.0, 3.0], nu=nu)


def test_reports_outside_the_ball_are_refused() -> None:
    for kind in (gc.L2, gc.SmoothL2):
        problem = users(gc.Logistic(), kind(1.0), 0)
        for call in (gc.to_model, gc.reproduce_gradient):
            with pytest.raises(gc.InvalidInputError, match=r"not plausible.*at most 1"):
                call(problem, [0.0, 0.0, 0.0], [1.0, 1.0, 0.0])


UNTIGHT = (gc.SquaredL2(0.6), gc.L2(20.0), gc.SmoothL2(20.0))


def test_without_any_curvature_nothing_is_promised() -> None:
    """nu = 0 and separable or single points: an answer may come, a false bound may not."""
    for data in (
        [([[1.0, 0.5], [-1.0, 0.2]], [1.0, -1.0])] * 2,
        [([[1.0, 2.0]], [1.0]), ([[2.0, -1.0]], [-1.0])],
        [(np.empty((0, 2)), np.empty(0))],
    ):
        for loss in (gc.Logistic(), gc.LeastSquares()):
            for regularizer in (*UNTIGHT, gc.HardConsensus()):
                problem = gc.Problem(loss, regularizer, data)
                attack = gc.poison(problem, [0.3, -0.2])
                assert attack.residual <= 1e-12
                solution = gc.solve(attack.poisoned)
                distance = norm(solution.rho - attack.target)
                bound = attack.certificate.distance + solution.certificate.distance
                assert distance <= bound + 1e-15
                for certificate in (attack.certificate, solution.certificate):
                    assert math.isfinite(certificate.distance) or certificate.failures


@pytest.mark.parametrize("regularizer", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_one_feature(loss: gc.Loss, regularizer: gc.Regularizer) -> None:
    for seed in range(3):
        problem = users(loss, regularizer, seed, d=1)
        attack = gc.poison(problem, near_target(problem, seed))
        check_points(attack, problem)
        assert attack.certificate.relative_distance <= 1e-8
        distance, bound = reach(attack)
        assert distance <= bound


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("loss", [gc.LeastSquares(), gc.Logistic()], ids=repr)
def test_units_of_the_features_do_not_matter(loss: gc.Loss, size: float) -> None:
    """Features in other units, x -> s x, with nu and lam in units of s^2: models shrink by s."""
    problem = users(loss, gc.SquaredL2(0.6), 0)
    target = near_target(problem, 1)
    scaled = gc.Problem(
        loss,
        gc.SquaredL2(0.6 * size**2),
        [gc.Dataset(data.x * size, data.y) for data in problem.datasets],
        0.1 * size**2,
    )
    plain, other = gc.poison(problem, target), gc.poison(scaled, target / size)
    assert other.n_points == plain.n_points
    assert other.residual <= 1e-12
    assert other.certificate.distance <= 1e-8 * norm(other.target)
    distance, bound = reach(other)
    assert distance <= bound
    assert bound <= 1e-7 * norm(other.target)
    assert np.allclose(other.gradient / size, plain.gradient, rtol=1e-9)


@pytest.mark.parametrize("size", [1e-8, 1e8])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_features_of_extreme_scales(loss: gc.Loss, size: float) -> None:
    """lam and nu of order one: then theta_spade is as large as the pull, and yet the points are exact.

    With an intercept beside features of 1e8 float64 may not suffice, which is said.
    """
    rng = np.random.default_rng(3)
    data = [
        gc.Dataset(rng.normal(size=(6, 2)) * size, cases.labels(loss, 6, rng)) for _ in range(2)
    ]
    problem = gc.Problem(loss, gc.SquaredL2(0.6), data, 0.1)
    target = gc.solve(problem).rho * 1.5 + 0.01 / max(1.0, size)
    failure = refusal(lambda: gc.poison(problem, target))
    if failure is not None:
        assert isinstance(failure, gc.CertificateError)
        assert loss.intercept
        assert size > 1.0
        assert "relative residual" in str(failure)
        return
    attack = gc.poison(problem, target)
    check_points(attack, problem)
    distance, bound = reach(attack)
    assert distance <= bound


def test_badly_known_replies_are_not_taken_for_no_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    data = [gc.Dataset(rng.normal(size=(6, 2)), rng.normal(size=6)) for _ in range(2)]
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), data, 0.1)
    start = 0.0 * gc.solve(problem).rho
    found = equivalence.replies(problem, start)
    report = found.gradient[0]
    wrong = dataclasses.replace(found, gradient=np.stack([report, -(1.0 - 1e-9) * report]))
    monkeypatch.setattr(equivalence, "replies", lambda *_: wrong)
    with pytest.raises(gc.NotSolvedError, match="known only up to"):
        gc.poison(problem, start)
