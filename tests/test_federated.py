"""Server rules by their definitions, and rounds by their limits."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gplconvex as gc
from gplconvex.federated import CounterGradientAttack, rounds, rules

REPORTS = hnp.arrays(  # odd numbers: on a line an even number has a segment of medians
    np.float64,
    st.tuples(st.sampled_from([5, 7, 9]), st.integers(1, 3)),
    elements=st.floats(-10, 10),
)
RULES = [
    rules.mean,
    rules.coordinate_median,
    rules.trimmed_mean(2),
    rules.krum(1),
    rules.multi_krum(1, 3),
    rules.geometric_median,
    rules.centered_clipping(1.0),
]


def users(regularizer: gc.Regularizer, n_users: int = 4, seed: int = 0) -> gc.Problem:
    rng = np.random.default_rng(seed)
    data = [gc.Dataset(rng.normal(size=(8, 2)), rng.normal(size=8)) for _ in range(n_users)]
    return gc.Problem(gc.LeastSquares(), regularizer, data, nu=0.2)


def last_model(n_rounds: int, *arguments: Any, **options: Any) -> np.ndarray:
    return next(itertools.islice(rounds(*arguments, **options), n_rounds - 1, None)).next_rho


# -- rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@given(reports=REPORTS, shift=st.floats(-10.0, 10.0), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_rules_move_with_their_reports(rule: Any, reports: Any, shift: float, seed: int) -> None:
    """Among equals, any order; shifted reports, shifted estimates; unanimous ones are taken."""
    reports = np.round(reports, 3) + 1e-3 * np.random.default_rng(seed).random(reports.shape)
    estimate = rule(reports)
    np.testing.assert_allclose(rule(reports + shift), estimate + shift, atol=1e-6)
    order = np.random.default_rng(seed).permutation(len(reports))
    np.testing.assert_allclose(rule(reports[order]), estimate, atol=1e-6)
    same = np.tile(reports[0], (6, 1))
    np.testing.assert_allclose(rule(same), reports[0], atol=1e-12)


@given(reports=REPORTS)
@settings(max_examples=50, deadline=None)
def test_geometric_median_is_a_minimizer(reports: Any) -> None:
    v = rules.geometric_median(reports)

    def total(point: np.ndarray) -> float:
        return float(np.sum(np.linalg.norm(reports - point, axis=1)))

    best = total(v)
    rng = np.random.default_rng(0)
    others = [*reports, reports.mean(axis=0), *(v + 0.1 * rng.normal(size=(50, v.size)))]
    assert all(best <= total(point) + 1e-7 * (1.0 + best) for point in others)


@given(reports=REPORTS)
@settings(max_examples=25, deadline=None)
def test_krum_by_its_definition(reports: Any) -> None:
    n, f = len(reports), 1
    scores = []
    for i in range(n):
        squares = sorted(float(np.sum((reports[i] - reports[j]) ** 2)) for j in range(n) if j != i)
        scores.append(math.fsum(squares[: n - f - 2]))
    chosen = rules.krum(f)(reports)
    score = min(s for s, report in zip(scores, reports, strict=True) if (report == chosen).all())
    assert score <= min(scores) * (1.0 + 1e-9) + 1e-12


@pytest.mark.parametrize("rule", [r for r in RULES if r is not rules.mean])
def test_one_liar_moves_no_robust_rule_far(rule: Any) -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(size=(8, 2))
    lied = np.vstack([honest, [[1e6, -1e6]]])
    assert np.linalg.norm(rule(lied) - honest.mean(axis=0)) < 2.0
    assert np.linalg.norm(rules.mean(lied)) > 1e4


@pytest.mark.parametrize(
    "call",
    [
        lambda: rules.trimmed_mean(-1),
        lambda: rules.trimmed_mean(2)(np.zeros((4, 1))),
        lambda: rules.krum(1)(np.zeros((3, 1))),
        lambda: rules.multi_krum(0, 0),
        lambda: rules.centered_clipping(0.0),
        lambda: rules.mean(np.zeros(3)),
    ],
)
def test_bad_rules_are_refused(call: Any) -> None:
    with pytest.raises(gc.InvalidInputError):
        call()


# -- rounds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", [gc.SquaredL2(1.0), gc.SmoothL2(3.0)], ids=repr)
def test_three_attacks_have_one_limit(regularizer: gc.Regularizer) -> None:
    """The theorem: the gradient, the model and the data lead to the target; nobody leads elsewhere."""
    problem = users(regularizer)
    honest = gc.solve(problem).rho
    target = honest + np.array([0.3, -0.2])
    attack = gc.poison(problem, target)
    kinds: list[tuple[gc.Problem, list[Any]]] = [
        (problem, [gc.GradientAttack(attack.gradient)]),
        (problem, [gc.ModelAttack(attack.theta)]),
        (attack.poisoned, []),
    ]
    for attacked, attackers in kinds:
        np.testing.assert_allclose(last_model(150, attacked, attackers), target, atol=1e-8)
    np.testing.assert_allclose(last_model(150, problem), honest, atol=1e-8)


@given(seed=st.integers(0, 10_000), share=st.floats(0.3, 0.9), n_users=st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_counter_gradient_attack_reaches_its_target(seed: int, share: float, n_users: int) -> None:
    """Squared l2: where eta Lip(G) < 1/2, Lip(G) <= 2 lam N."""
    problem = users(gc.SquaredL2(0.7), n_users, seed)
    target = np.random.default_rng(seed).normal(size=2) * 5.0
    eta = share * 0.5 / (2.0 * 0.7 * n_users)
    found = last_model(400, problem, [CounterGradientAttack(target)], step_size=eta)
    np.testing.assert_allclose(found, target, atol=1e-6)


def test_counter_gradient_attack_diverges_with_large_steps() -> None:
    problem = users(gc.SquaredL2(0.7))
    eta = 3.0 / (2.0 * 0.7 * problem.n_users)
    target = np.array([5.0, 5.0])
    found = last_model(60, problem, [CounterGradientAttack(target)], step_size=eta)
    assert np.linalg.norm(found - target) > 100.0


def test_counter_gradient_attack_under_smooth_l2_ends_as_a_model_attack_under_l2() -> None:
    """T5: its limit minimizes the honest sum plus lam |rho - target|."""
    problem = users(gc.SmoothL2(1.0))
    target = np.array([30.0, -20.0])
    found = last_model(800, problem, [CounterGradientAttack(target)], step_size=0.1)
    limit = gc.solve(problem, attacker=gc.ModelAttack(target, gc.L2(1.0))).rho
    assert np.linalg.norm(limit - target) > 1.0
    np.testing.assert_allclose(found, limit, atol=1e-5)


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3])
def test_one_point_imitates_a_constant_gradient_all_along(epsilon: float) -> None:
    """T2: x = eps g, y = -1/eps reports g at every rho, up to eps^2; without ridge."""
    rng = np.random.default_rng(2)
    data = [gc.Dataset(rng.normal(size=(8, 2)), rng.normal(size=8)) for _ in range(3)]
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), data, nu=[0.2, 0.2, 0.2])
    g = np.array([1.0, -0.5])
    point = gc.Dataset([epsilon * g], [-1.0 / epsilon])
    poisoned = problem.with_user(point, 0.0)
    constant = rounds(problem, [gc.GradientAttack(g)], step_size=0.1)
    by_data = rounds(poisoned, step_size=0.1)
    for one, other in itertools.islice(zip(constant, by_data, strict=False), 50):
        assert np.linalg.norm(one.next_rho - other.next_rho) <= 50.0 * epsilon**2
        assert np.linalg.norm(other.reports[-1] - g) <= 50.0 * epsilon**2


@pytest.mark.parametrize("report", [[math.nan, 0.0], [math.inf, 0.0], [3.0, 4.0]])
def test_implausible_reports_are_dropped(report: list[float]) -> None:
    problem = users(gc.SmoothL2(2.0))
    first = next(rounds(problem, [lambda query: report]))
    assert [rejection.participant for rejection in first.rejections] == [problem.n_users]
    eta = 1.0 / ((problem.n_users + 1) * 2.0)
    np.testing.assert_allclose(first.next_rho, -eta * first.reports[:-1].sum(axis=0), atol=1e-15)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"step_size": 0.0}, gc.InvalidInputError),
        ({"step_size": "fast"}, gc.InvalidInputError),
        ({"start": [1.0]}, gc.InvalidInputError),
        ({"attackers": [gc.GradientAttack([1.0])]}, gc.InvalidInputError),
        ({"attackers": [CounterGradientAttack([1.0])]}, gc.InvalidInputError),
        ({"rule": lambda reports: reports[0, :1]}, gc.InvalidInputError),
        ({"rule": lambda reports: reports[0] * math.nan}, gc.InvalidInputError),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        next(rounds(users(gc.SquaredL2(1.0)), **options))


def test_a_regularizer_with_a_kink_needs_a_step_size() -> None:
    with pytest.raises(gc.UnsupportedCombinationError, match="step_size"):
        rounds(users(gc.L2(1.0)), [gc.ModelAttack([0.0, 0.0])])
