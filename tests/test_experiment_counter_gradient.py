"""The counter-gradient attack: its limits by their definitions, its rounds by T5, and their record."""

from __future__ import annotations

import numpy as np
import pytest
from same_results import assert_same

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.counter_gradient import (
    CounterGradient,
    counter_gradient,
    dishonesty,
)
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.results import Steps
from gplconvex.federated import CounterGradientAttack, run
from gplconvex.plots.counter_gradient import counter_gradient as draw
from gplconvex.regularizers import norm

N, EPOCHS, ROUNDS = 3, 150, 6


def coarse(n_users, points, lam=1.0):
    """Digits of 4x4 pixels: small models are minimized in milliseconds."""
    fine = Federation.of(digits(), n_users, points, lam=lam)

    def pooled(x):
        return x.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(x), 16)

    users = [gc.Dataset(pooled(user.x), user.y) for user in fine.users]
    return Federation("4x4 digits", users, 10, pooled(fine.x_test), fine.y_test, lam)


@pytest.fixture(scope="module")
def federation():
    return coarse(N, 60)


@pytest.fixture(scope="module")
def result(federation):
    return counter_gradient(federation, epochs=EPOCHS, n_rounds=ROUNDS)


def pulls(problem, rho):
    """The gradients of the Moreau envelopes, found user by user."""
    return np.array([gc.moreau_envelope(problem, n, rho).gradient for n in range(N)])


# -- limits ------------------------------------------------------------------------------------------


def test_under_squared_l2_the_limit_is_the_target(federation, result):
    side = result.squared_l2
    assert side.limit.status == "OPTIMAL"
    assert side.certified_distance[1] <= 1e-6 * (1.0 + norm(result.target))
    # Not because the honest users want it.
    assert norm(result.target - federation.honest(Steps()).rho) > 1.0


def test_under_l2_the_limit_minimizes_what_t5_says(federation, result):
    side, problem = result.l2, federation.problem(gc.L2(federation.lam))
    assert side.limit.status == "OPTIMAL"
    away = side.limit.rho - result.target
    pull = pulls(problem, side.limit.rho).sum(axis=0)
    # Stationary: the pull is minus the gradient of lam |rho - target|, of length lam.
    np.testing.assert_allclose(-pull, federation.lam * away / norm(away), atol=1e-5)
    low, high = side.certified_distance
    assert low <= norm(away) <= high
    assert high - low < 1e-4
    # The target is none: there users pull harder than lam (T5, if and only if).
    assert norm(pulls(problem, result.target).sum(axis=0)) > federation.lam


def test_what_the_attack_does_to_accuracy(result):
    assert result.honest_accuracy > 0.7
    assert result.target_accuracy < 0.1
    for side, low, high in ((result.squared_l2, 0.0, 0.1), (result.l2, 0.6, 1.0)):
        ends = [side.training.accuracies[-1], *(each.accuracies[-1] for each in side.rounds)]
        assert all(low <= accuracy <= high for accuracy in (*ends, side.limit_accuracy))


# -- dishonesty --------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", [gc.SquaredL2(0.7), gc.L2(1.3), gc.SmoothL2(1.1, 0.4)])
def test_dishonesty_is_0_for_who_likes_the_target(regularizer):
    rho, target, lie = np.random.default_rng(0).standard_normal((3, 4, 2))
    problem = gc.Problem(gc.Softmax(2), regularizer, [gc.Dataset.empty(4)])
    honest = gc.to_gradient(problem, rho, target)
    assert dishonesty(regularizer, honest, rho, target) < 1e-14
    assert dishonesty(regularizer, honest + lie, rho, target) == pytest.approx(norm(lie))


def test_dishonesty_at_the_limits(federation, result):
    squared = federation.problem()
    pull = pulls(squared, result.target).sum(axis=0)
    assert result.squared_l2.limit_dishonesty == pytest.approx(norm(pull), rel=1e-5)
    assert norm(pull) > 10.0
    assert result.l2.limit_dishonesty < 1e-5


def test_dishonesty_of_first_reports(federation, result):
    size, lam = norm(result.target), federation.lam
    squared, l2 = result.squared_l2, result.l2
    # Rounds begin with the report 0, and the honest one is the gradient of r at -target.
    for each in squared.rounds:
        assert each.dishonesty[0] == pytest.approx(2.0 * lam * size)
    assert l2.rounds[0].dishonesty[0] == pytest.approx(lam)
    # Training begins with (0 - target) / eta, cut down to lam under l2: that is honest there.
    eta = squared.training.step_sizes[0]
    assert squared.training.dishonesty[0] == pytest.approx((1.0 / eta - 2.0 * lam) * size)
    assert l2.training.dishonesty[0] < 1e-12


# -- rounds ------------------------------------------------------------------------------------------


def test_rounds_keep_the_inequality_of_t5(federation, result):
    for each in result.squared_l2.rounds:
        c = each.step_sizes * 2.0 * federation.lam * N
        assert (c < 0.5).all()
        e = each.distances
        # From the second report on: the first is 0.
        assert (e[2:] <= c[1:] * (e[1:-1] + e[:-2]) * (1.0 + 1e-9) + 1e-7).all()
    longer, shorter = result.squared_l2.rounds
    assert shorter.distances[-1] < longer.distances[-1] < longer.distances[0] / 10.0


def test_beyond_the_step_of_t5_rounds_diverge(federation, result):
    step = 4.0 * float(result.squared_l2.rounds[0].step_sizes[0])
    trace = run(
        federation.problem(),
        [CounterGradientAttack(result.target)],
        step_size=step,
        max_rounds=12,
        keep_reports=False,
    )
    far = trace.distances(result.target)
    assert far[-1] > 2.0 * far[0]


def test_rounds_under_l2_come_near_the_limit(result):
    (each,) = result.l2.rounds
    assert (np.diff(each.to_limit) < 0.0).all()
    assert each.to_limit[-1] < 0.5 * each.to_limit[0]
    # And so their reports become honest.
    assert (np.diff(each.dishonesty[1:]) < 0.0).all()


def test_rounds_are_those_of_the_protocol(federation, result):
    each = result.squared_l2.rounds[0]
    trace = run(federation.problem(), [CounterGradientAttack(result.target)], max_rounds=2, tol=0.0)
    np.testing.assert_array_equal(each.step_sizes[:2], trace.step_sizes)
    np.testing.assert_allclose(each.distances[:3], trace.distances(result.target), rtol=1e-9)
    lie = dishonesty(
        gc.SquaredL2(federation.lam), trace.reports[1, -1], trace.rho[1], result.target
    )
    assert each.dishonesty[1] == pytest.approx(lie)


def test_what_is_recorded_of_a_run(federation, result):
    for side in result.sides:
        assert len(side.training.distances) == EPOCHS + 1
        for each in (side.training, *side.rounds):
            steps = len(each.step_sizes)
            assert len(each.dishonesty) == steps
            assert len(each.distances) == len(each.to_limit) == len(each.accuracies) == steps + 1
            assert each.distances[0] == norm(result.target)
            assert each.distances[-1] == norm(each.rho - result.target)
            assert each.to_limit[-1] == norm(each.rho - side.limit.rho)
            assert each.accuracies[-1] == federation.accuracy(each.rho)


# -- files, refusals, the figure ---------------------------------------------------------------------


def test_it_comes_back_from_a_file(result, tmp_path):
    assert_same(CounterGradient.load(result.save(tmp_path / "result.npz")), result)


def test_a_run_that_was_killed_goes_on_to_the_same_result(federation, result, tmp_path):
    done = []

    def killed(step):
        if step == "l2-training":
            raise KeyboardInterrupt
        done.append(step)

    def again(on_step):
        steps = Steps(tmp_path, on_step=on_step, shared=tmp_path / "common")
        return counter_gradient(federation, epochs=EPOCHS, n_rounds=ROUNDS, steps=steps)

    with pytest.raises(KeyboardInterrupt):
        again(killed)
    assert_same(again(done.append), result)
    assert len(done) == len(set(done)) == 8
    steps = Steps(tmp_path, shared=tmp_path / "common")
    with pytest.raises(gc.InvalidInputError, match="other settings"):
        counter_gradient(federation, epochs=EPOCHS + 1, n_rounds=ROUNDS, steps=steps)


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"n_rounds": 0}])
def test_no_epoch_and_no_round_are_refused(federation, bad):
    with pytest.raises(gc.InvalidInputError, match="must be at least 1"):
        counter_gradient(federation, **bad)


def test_no_step_follows_where_a_user_sits_at_the_limit():
    tied = coarse(2, 5, lam=1000.0)
    with pytest.raises(gc.UnsupportedCombinationError, match="choose a smaller lam"):
        counter_gradient(tied, epochs=1, n_rounds=1)


def test_the_figure_shows_the_result(result):
    figure = draw(result)
    assert figure.get_suptitle().startswith(
        "4x4 digits: the counter-gradient attack wins under squared"
    )
    panels = np.reshape(figure.axes, (3, 2))
    names = [axes.get_title(loc="left") for axes in panels[0]]
    assert names == ["Published training", "Rounds of the protocol"]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["squared l2", "l2", "a quarter of the step", "limit"]
    for column, runs in (
        (0, [side.training for side in result.sides]),
        (1, [*result.squared_l2.rounds, *result.l2.rounds]),
    ):
        for row, name in enumerate(("accuracies", "distances", "dishonesty")):
            drawn = [line.get_ydata() for line in panels[row, column].lines]
            assert all(any(np.array_equal(getattr(each, name), y) for y in drawn) for each in runs)
    dotted = [line.get_ydata()[0] for line in panels[1, 0].lines if len(line.get_ydata()) == 2]
    assert dotted == [side.certified_distance[1] for side in result.sides]
