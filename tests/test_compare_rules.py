"""Every rule beside every attack: what theorems say about the table."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.experiments import RuleComparison, compare_rules
from gplconvex.federated import GradientAttack, rules, run


def users(n_users: int, regularizer: gc.Regularizer, *, alike: bool = False) -> gc.Problem:
    rng = np.random.default_rng(3)
    data = [gc.Dataset(rng.normal(size=(6, 2)), rng.normal(size=6) + 1.0) for _ in range(n_users)]
    return gc.Problem(gc.LeastSquares(), regularizer, data[:1] * n_users if alike else data, nu=0.2)


TARGET = np.array([0.6, -0.5])
MOST = 90
"""Rounds; the slowest that must settle takes 86."""


@pytest.fixture(scope="module", params=[(4, 1), (5, 2)], ids=["one attacker", "two attackers"])
def result(request: Any) -> RuleComparison:
    n_users, f = request.param
    return compare_rules(users(n_users, gc.SquaredL2(1.0)), TARGET, f=f, max_rounds=MOST)


def test_every_rule_meets_every_attack(result: RuleComparison) -> None:
    public = {
        name
        for name, function in inspect.getmembers(rules, inspect.isfunction)
        if function.__module__ == rules.__name__ and not name.startswith("_")
    } - {"all_rules"}
    assert set(result.rules) == public
    assert result.attacks[0] == "none"
    assert set(result.traces) == {(r, a) for r in result.rules for a in result.attacks}
    for attack in result.attacks:
        attackers = 0 if attack == "none" else result.f
        assert len(result.traces["krum", attack].participants) == result.problem.n_users + attackers


def test_under_the_mean_nobody_leads_to_the_honest_optimum_and_everybody_else_to_the_target(
    result: RuleComparison,
) -> None:
    """T2: one limit, however many share the work."""
    (mean,) = np.flatnonzero(np.array(result.rules) == "mean")
    np.testing.assert_array_equal(result.target, TARGET)
    np.testing.assert_allclose(result.wanted, np.linalg.norm(TARGET - result.honest), rtol=1e-12)
    assert result.to_honest[mean, 0] < 1e-8
    assert (result.to_target[mean, 1:] < 1e-6).all()
    assert (result.stopped[mean] == "stationary").all()


def test_distrust_costs_where_users_differ(result: RuleComparison) -> None:
    robust = np.array(result.rules) != "mean"
    assert (result.to_honest[robust, 0] > 1e-3).all()


def test_cells_are_runs(result: RuleComparison) -> None:
    """The same run, by hand."""
    problem, f = result.problem, result.f
    g = gc.required_gradient(problem, TARGET) / f
    kept = result.traces["trimmed_mean", "gradient"]
    trace = run(
        problem,
        [GradientAttack(g)] * f,
        rule=rules.trimmed_mean(f),
        step_size=0.5 / ((problem.n_users + f) * problem.regularizer.smoothness),
        max_rounds=MOST,
    )
    np.testing.assert_allclose(trace.rho, kept.rho, atol=1e-12)
    row, column = result.rules.index("trimmed_mean"), result.attacks.index("gradient")
    far = np.linalg.norm(kept.rho[-1] - result.honest)
    np.testing.assert_allclose(result.to_honest[row, column], far, rtol=1e-12)
    assert result.stopped[row, column] == kept.stopped


def test_users_who_agree_cannot_be_outvoted() -> None:
    """Two of three at least send the same report: every robust rule takes it, or nearly so."""
    result = compare_rules(users(5, gc.SquaredL2(1.0), alike=True), TARGET, f=2, max_rounds=70)
    clipped = np.array(result.rules) == "centered_clipping"
    robust = (np.array(result.rules) != "mean") & ~clipped
    assert (result.to_honest[robust] < 1e-8).all()
    assert (result.to_honest[clipped] < 0.5 * result.wanted).all()


def test_the_default_target_is_the_reverse() -> None:
    result = compare_rules(users(4, gc.SquaredL2(1.0)), max_rounds=1)
    np.testing.assert_array_equal(result.target, -result.honest)
    assert set(result.stopped.ravel()) == {"max_rounds"}
    steps: list[str] = []
    slow = compare_rules(
        result.problem, step_size=lambda t: 1e-3, max_rounds=1, on_step=steps.append
    )
    assert steps == [f"{rule}, {attack}" for rule, attack in slow.traces]
    assert all(trace.step_sizes == [1e-3] for trace in slow.traces.values())


@pytest.mark.parametrize(
    ("n_users", "options", "message"),
    [
        (3, {}, "f = 1 and 3 users"),
        (4, {"f": 2}, "f = 2 and 4 users"),
        (6, {"f": 3}, "f = 3 and 6 users"),
        (4, {"f": 0}, "f = 0"),
        (4, {"f": 1.0}, r"f = 1\.0"),
        (4, {"target": [1.0]}, "target"),
    ],
)
def test_bad_input_is_refused(n_users: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(gc.InvalidInputError, match=message):
        compare_rules(users(n_users, gc.SquaredL2(1.0)), **options)
