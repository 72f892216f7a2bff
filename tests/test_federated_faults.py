"""Whatever participants and rules do in a round: the others go on, or the rounds before are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.federated import (
    CounterGradientAttack,
    DataAttack,
    HeavyBall,
    InProcess,
    Query,
    Server,
    Trace,
    rounds,
    rules,
    run,
)
from tests import strategies as cases

STEP = 0.05
PROBLEM = cases.example(gc.LeastSquares(), gc.SmoothL2(2.0))


def raises(query: Query) -> Any:
    raise ZeroDivisionError("nothing left")


def spoils(query: Query) -> Any:
    """Write into what it was given, and send nothing."""
    query.rho[:] = 1e6
    if query.honest is not None:
        query.honest[:] = -1e6


def cheats(query: Query) -> Any:
    query.step_size = 1e6
    return query.rho


class Broken:
    """What says it is an array and is none."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError("no array")


class Spy:
    """A participant that sees everything and spoils it."""

    omniscient = True

    def joins(self, problem: gc.Problem) -> Callable[[Query], Any]:
        return spoils


class Faulty:
    """A participant that joins, and raises from then on."""

    omniscient = False

    def joins(self, problem: gc.Problem) -> Callable[[Query], Any]:
        return raises


FAULTS: dict[str, tuple[Any, str]] = {
    "raises": (raises, "ZeroDivisionError: nothing left"),
    "a participant that raises": (Faulty(), "ZeroDivisionError: nothing left"),
    "NaN": (lambda query: [math.nan, 0.0], "not finite"),
    "infinite": (lambda query: [0.0, -math.inf], "not finite"),
    "overflows": (lambda query: [1e200, 1e200], r"not plausible: norm 1\.41421e\+200, at most 2"),
    "too few": (lambda query: [1.0], r"shape \(1,\); models have \(2,\)"),
    "too many": (lambda query: np.zeros((2, 1)), r"shape \(2, 1\)"),
    "a number": (lambda query: 0.0, r"shape \(\)"),
    "nothing": (lambda query: None, r"shape \(\)"),
    "holes": (lambda query: [None, 1.0], "not finite"),
    "ragged": (lambda query: [[1.0], [1.0, 2.0]], "real numbers"),
    "text": (lambda query: "a report", "real numbers"),
    "numbers as text": (lambda query: ["1.0", "2.0"], "real numbers"),
    "complex": (lambda query: np.array([1.0 + 0.0j, 0.5]), "real numbers"),
    "complex list": (lambda query: [1.0j, 0.5], "real numbers"),
    "masked": (lambda query: np.ma.array([1.0, 2.0], mask=[False, True]), "masked"),
    "an object": (lambda query: object(), "real numbers"),
    "a set": (lambda query: {1.0, 2.0}, "real numbers"),
    "no array": (lambda query: Broken(), "RuntimeError: no array"),
    "implausible": (lambda query: [3.0, 4.0], "not plausible: norm 5, at most 2"),
    "just implausible": (lambda query: [2.0 * (1.0 + 1e-13), 0.0], "not plausible: norm 2"),
    "spoils its query": (spoils, r"shape \(\)"),
    "sees and spoils": (Spy(), r"shape \(\)"),
    "changes its query": (cheats, "FrozenInstanceError"),
    "takes no query": (lambda: [0.0, 0.0], "TypeError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_rounds_go_on_without_who_fails(name: str) -> None:
    """Exactly as if it were not there: the server sums what is left."""
    attacker, reason = FAULTS[name]
    options: dict[str, Any] = {"step_size": STEP, "max_rounds": 6}
    without = run(PROBLEM, **options)
    trace = run(PROBLEM, [attacker], **options)
    np.testing.assert_array_equal(trace.rho, without.rho)
    np.testing.assert_array_equal(trace.reports[:, :3], without.reports)
    assert [(r.round, r.participant) for r in trace.rejections] == [(t, 3) for t in range(6)]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(trace.rejections[0].reason)


@pytest.mark.parametrize("optimizer", [gc.federated.GradientDescent(), HeavyBall(0.5)], ids=repr)
@pytest.mark.parametrize("rule", [rules.mean, rules.geometric_median, rules.krum(0)])
def test_who_is_right_in_between_is_heard_then(optimizer: Any, rule: Any) -> None:
    """Every third report is good, and it counts as that of one who only then takes part."""

    def sometimes(query: Query) -> Any:
        return [1.0, 0.5] if query.round % 3 == 0 else [math.nan, math.nan]

    trace = run(PROBLEM, [sometimes], step_size=STEP, max_rounds=9, rule=rule, optimizer=optimizer)
    assert [r.round for r in trace.rejections] == [1, 2, 4, 5, 7, 8]
    steps = optimizer.starts()
    for t in range(9):
        kept = trace.reports[t] if t % 3 == 0 else trace.reports[t, :3]
        expected = trace.rho[t] - steps(len(kept) * rule(kept.copy()), STEP)
        np.testing.assert_allclose(trace.rho[t + 1], expected, atol=1e-14)


def test_a_good_attacker_among_bad_ones_wins_all_the_same() -> None:
    optimum = gc.solve(PROBLEM).rho
    target = optimum + np.array([0.2, 0.1])
    attack = gc.ModelAttack(gc.poison(PROBLEM, target).theta)
    bad = [attacker for attacker, _ in FAULTS.values()]
    trace = run(PROBLEM, [*bad[:8], attack, *bad[8:]], step_size=STEP)
    assert trace.stopped == "stationary"
    assert trace.distances(target)[-1] < 1e-7
    assert {r.participant for r in trace.rejections} == {3, *range(4, 4 + len(bad))} - {11}


@given(share=st.floats(0.0, 2.0), angle=st.floats(0.0, 6.3))
def test_the_ball_of_plausible_reports_is_closed(share: float, angle: float) -> None:
    report = 2.0 * share * np.array([math.cos(angle), math.sin(angle)])
    first = next(rounds(PROBLEM, [lambda query: report]))
    size = math.hypot(*report)
    assert bool(first.rejections) == (size > 2.0 * (1.0 + 1e-14)) or abs(size - 2.0) < 1e-14


@given(seed=st.integers(0, 2**32 - 1), p=st.integers(1, 2000))
@settings(max_examples=30)
def test_no_honest_report_is_dropped_for_its_rounding(seed: int, p: int) -> None:
    """Under l2 honest reports have norm lam, and rounding grows with the length of the model."""
    u = np.random.default_rng(seed).normal(size=p)
    lam = 0.1 + (seed % 97)
    server = Server(gc.L2(lam), 1, 1.0)
    report = gc.L2(lam).gradient(u)
    first = next(server.rounds(lambda query, asked: (report[None], {}), np.zeros(p)))
    assert not first.rejections
    grown = report * (1.0 + 4.0 * (p + 8) * 2.0**-53 + 1e-15)  # twice what is allowed for it
    with pytest.raises(gc.InvalidInputError, match="not plausible"):
        next(server.rounds(lambda query, asked: (grown[None], {}), np.zeros(p)))


@pytest.mark.parametrize("size", [1e160, 1e300, 1.7e308])
def test_reports_whose_sum_would_overflow(size: float) -> None:
    """Squared l2 takes any report: the run diverges, or drops what no model of this size sends."""
    problem = cases.example(gc.LeastSquares(), gc.SquaredL2(1.0))
    liars = [lambda query: [size, size]] * 2
    trace = run(problem, liars, step_size=STEP, max_rounds=5)
    if size < 1e280:
        assert (trace.stopped, trace.n_rounds) == ("diverged", 1)
    else:
        np.testing.assert_array_equal(trace.rho, run(problem, step_size=STEP, max_rounds=5).rho)


def test_a_report_is_what_it_was_when_it_was_sent() -> None:
    """An attacker who keeps its array, and changes it later, changes nothing."""
    mine = np.zeros(2)

    def attack(query: Query) -> np.ndarray:
        mine[:] = [1.0, float(query.round)]
        return mine

    problem = cases.example(gc.LeastSquares(), gc.SquaredL2(1.0))
    trace = run(problem, [attack], step_size=STEP, max_rounds=4)
    assert trace.reports[:, 3].tolist() == [[1.0, float(t)] for t in range(4)]


# -- nothing is left ---------------------------------------------------------------------------------


def test_a_round_of_which_nothing_is_left_ends_the_run(tmp_path: Path) -> None:
    """Asked alone, who fails leaves the server without a report."""
    path = tmp_path / "trace.npz"
    with pytest.raises(gc.RunError, match=r"all 1 reports were dropped.*nothing left") as caught:
        run(PROBLEM, [raises], fraction=0.2, seed=1, step_size=STEP, save=path)
    error = caught.value
    alone = error.trace.n_rounds
    assert isinstance(error.__cause__, gc.InvalidInputError)
    assert alone >= 1
    assert np.isnan(error.trace.norms[:, 3]).all()  # so far it was not asked
    again = run(PROBLEM, [raises], fraction=0.2, seed=1, step_size=STEP, max_rounds=alone)
    np.testing.assert_array_equal(Trace.load(path).rho, again.rho)


def test_where_nothing_is_left_of_the_first_round_there_is_no_trace(tmp_path: Path) -> None:
    def ask(query: Query, asked: np.ndarray) -> Any:
        return np.ones((4, 2)), dict.fromkeys(range(4), "lost on the way")

    with pytest.raises(gc.InvalidInputError, match=r"all 4 reports were dropped.*lost on the way"):
        next(Server(gc.SquaredL2(1.0), 4, 0.1).rounds(ask, np.zeros(2)))
    seed = next(
        seed
        for seed in range(100)
        if np.random.default_rng(seed).choice(4, 1, replace=False).tolist() == [3]
    )
    path = tmp_path / "trace.npz"
    with pytest.raises(gc.InvalidInputError, match="round 0: all 1 reports were dropped"):
        run(PROBLEM, [raises], fraction=0.2, seed=seed, step_size=STEP, save=path)
    assert not path.exists()


def test_honest_reports_beyond_all_numbers_end_the_run() -> None:
    """Counts under hard consensus: a step too long, and exp overflows for everybody."""
    problem = cases.example(gc.Poisson(), gc.HardConsensus())
    with pytest.raises(gc.RunError, match="all 3 reports were dropped") as caught:
        run(problem, step_size=1e3)
    assert caught.value.trace.n_rounds == 1


# -- rules and engines that fail ---------------------------------------------------------------------


def own_error(reports: np.ndarray) -> Any:
    raise LookupError("the rule is lost")


RUBBISH: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "raises": (own_error, "the rule is lost"),
    "NaN": (lambda reports: reports[0] * math.nan, "must return 2 finite numbers"),
    "infinite": (lambda reports: np.array([math.inf, 0.0]), "must return 2 finite numbers"),
    "too few": (lambda reports: reports[0, :1], "must return 2 finite numbers"),
    "all of them": (lambda reports: reports, "must return 2 finite numbers"),
    "nothing": (lambda reports: None, "must return 2 finite numbers"),
    "text": (lambda reports: "median", "real numbers"),
    "complex": (lambda reports: reports[0] * (1.0 + 0.0j), "real numbers"),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_a_rule_that_fails_in_round_five_leaves_five_rounds(tmp_path: Path, name: str) -> None:
    rubbish, message = RUBBISH[name]
    calls = []

    def rule(reports: np.ndarray) -> Any:
        calls.append(len(reports))
        return rubbish(reports) if len(calls) == 6 else rules.mean(reports)

    path = tmp_path / "trace.npz"
    with pytest.raises(gc.RunError, match=message) as caught:
        run(PROBLEM, rule=rule, step_size=STEP, save=path)
    trace, cause = caught.value.trace, caught.value.__cause__
    assert isinstance(cause, LookupError if name == "raises" else gc.InvalidInputError)
    assert trace.n_rounds == 5
    assert trace.stopped.startswith("error: ")
    without = run(PROBLEM, step_size=STEP, max_rounds=5)
    np.testing.assert_array_equal(trace.rho, without.rho)
    stored = Trace.load(path)
    np.testing.assert_array_equal(stored.rho, without.rho)
    assert stored.stopped == trace.stopped


@pytest.mark.parametrize("name", RUBBISH)
def test_a_rule_that_fails_at_once_leaves_nothing(tmp_path: Path, name: str) -> None:
    rubbish, message = RUBBISH[name]
    with pytest.raises((gc.InvalidInputError, LookupError), match=message):
        run(PROBLEM, rule=rubbish, step_size=STEP, save=tmp_path / "trace.npz")
    assert not list(tmp_path.iterdir())


class LosesItsUsers(InProcess):
    """An engine whose users are gone in round 3."""

    def opens(self, problem: gc.Problem, honest: Any, start: Any) -> Any:
        context = super().opens(problem, honest, start)
        users = context.__enter__()
        answer, calls = users.answer, []

        def sometimes(rho: np.ndarray, asked: np.ndarray) -> np.ndarray:
            calls.append(rho)
            if len(calls) == 4:
                raise ConnectionError("the users are gone")
            return answer(rho, asked)

        users.answer = sometimes
        return context


def test_an_engine_that_fails_leaves_the_rounds_before() -> None:
    with pytest.raises(gc.RunError, match="the users are gone") as caught:
        run(PROBLEM, step_size=STEP, engine=LosesItsUsers())
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert caught.value.trace.n_rounds == 3


# -- an attack that was not asked --------------------------------------------------------------------


@given(
    regularizer=st.sampled_from([gc.SquaredL2(1.0), gc.SmoothL2(2.0), gc.L2(2.0)]),
    n_users=st.integers(1, 4),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 10**6),
    omniscient=st.booleans(),
)
@settings(max_examples=12)
def test_counter_gradient_attacks_that_are_not_always_asked(
    regularizer: gc.Regularizer, n_users: int, fraction: float, seed: int, omniscient: bool
) -> None:
    """Their reports are right whoever was asked, and nobody asked in between is no fault."""
    problem = cases.example(gc.LeastSquares(), regularizer, users=n_users)
    attacks = [
        CounterGradientAttack([2.0, -1.0], omniscient),
        CounterGradientAttack([0.0, 3.0]),
        DataAttack(gc.Dataset([[1.0, 1.0]], [3.0])),
    ]
    trace = run(
        problem, attacks, fraction=fraction, seed=seed, step_size=0.02, max_rounds=25, tol=0.0
    )
    assert not trace.rejections
    assert trace.n_rounds == 25


class Unspeakable(Exception):
    """What an attacker may raise to end a run."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [SystemExit(3), Unspeakable()], ids=["exit", "no text"])
def test_no_exception_of_an_attacker_ends_a_run(error: BaseException) -> None:
    def leaves(query: Query) -> Any:
        raise error

    trace = run(PROBLEM, [leaves], step_size=STEP, max_rounds=3)
    assert trace.stopped == "max_rounds"
    assert [each.round for each in trace.rejections] == [0, 1, 2]
    assert all(each.reason.startswith(type(error).__name__) for each in trace.rejections)


def test_a_frozen_model_under_hard_consensus_is_refused() -> None:
    problem = gc.Problem(gc.LeastSquares(), gc.HardConsensus(), PROBLEM.datasets, nu=0.1)
    frozen = gc.ModelAttack(np.zeros(problem.shape))
    with pytest.raises(gc.UnsupportedCombinationError, match="no reports"):
        rounds(problem, [frozen], step_size=STEP)


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "dask"},
        {"engine": InProcess},
        {"optimizer": HeavyBall},
        {"honest": 0.1},
        {"attackers": [gc.GradientAttack]},
        {"attackers": [CounterGradientAttack]},
        {"attackers": [3]},
        {"references": [[1.0, 2.0]]},
    ],
    ids=repr,
)
def test_what_is_of_another_kind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(gc.InvalidInputError, match="must be"):
        run(PROBLEM, step_size=STEP, **options)


@pytest.mark.parametrize("arguments", [{"nu": -1.0}, {"nu": "a"}, {"honest": 0.1}])
def test_a_data_attack_is_checked_when_it_is_made(arguments: dict[str, Any]) -> None:
    with pytest.raises(gc.InvalidInputError):
        DataAttack(PROBLEM.datasets[0], **arguments)
