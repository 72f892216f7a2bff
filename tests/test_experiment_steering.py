"""Steering a personal model: the shared model by stationarity, its price by T3.4, and their record."""

from __future__ import annotations

import math

import numpy as np
import pytest
from same_results import assert_same
from scipy.special import lambertw

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.results import Steps
from gplconvex.experiments.steering import Steering, shared_model_for, steering
from gplconvex.experiments.training import counter_gradient_report, train
from gplconvex.plots.steering import steering as draw
from gplconvex.regularizers import norm

LAMS, EPOCHS = (1.0, 10.0), 400
OPTIONS = {
    "lams": LAMS,
    "solved": [10.0],
    "trained": [10.0],
    "epochs": EPOCHS,
    "extra": 0.0,
    "method": "newton",
}


def coarse(n_users, points):
    """Digits of 4x4 pixels: small models are minimized in milliseconds."""
    fine = Federation.of(digits(), n_users, points)

    def pooled(x):
        return x.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(x), 16)

    users = [gc.Dataset(pooled(user.x), user.y) for user in fine.users]
    return Federation("4x4 digits", users, 10, pooled(fine.x_test), fine.y_test)


@pytest.fixture(scope="module")
def federation():
    return coarse(1, 60)


@pytest.fixture(scope="module")
def result(federation):
    return steering(federation, **OPTIONS)


# -- the shared model --------------------------------------------------------------------------------

LOGISTIC = [gc.Dataset([[1.0, 2.0], [-1.0, 0.5], [0.3, -1.0]], [1.0, -1.0, 1.0])]
THETA = np.array([-0.4, 0.8])


def one_user(regularizer):
    return gc.Problem(gc.Logistic(), regularizer, LOGISTIC, 0.1)


@pytest.mark.parametrize(
    "regularizer", [gc.SquaredL2(0.3), gc.SmoothL2(4.0, 0.5), gc.L2(4.0)], ids=lambda r: r.name
)
def test_the_user_replies_with_the_target(regularizer):
    problem = one_user(regularizer)
    rho = shared_model_for(problem, THETA)
    reply = gc.moreau_envelope(problem, 0, rho)
    np.testing.assert_allclose(reply.theta, THETA, atol=1e-10)
    own = problem.locals[0].gradient(THETA)
    np.testing.assert_allclose(reply.gradient, own, atol=1e-9)
    if regularizer.name == "l2":  # the kink holds the user, wherever that pulls
        np.testing.assert_array_equal(rho, THETA)
    else:  # another shared model is answered by another one
        assert norm(rho - THETA) > 0.05
        assert norm(gc.moreau_envelope(problem, 0, THETA).theta - THETA) > 0.01


@pytest.mark.parametrize("regularizer", [gc.SmoothL2, gc.L2])
def test_beyond_lam_no_shared_model_keeps_the_user(regularizer):
    pull = norm(one_user(gc.SquaredL2(1.0)).locals[0].gradient(THETA))
    shared_model_for(one_user(regularizer(1.01 * pull)), THETA)
    problem = one_user(regularizer(0.99 * pull))
    with pytest.raises(gc.InvalidInputError, match="no shared model keeps the user there"):
        shared_model_for(problem, THETA)
    # Whatever the shared model, its user is pulled by no more than lam (T1).
    for rho in np.random.default_rng(0).standard_normal((20, 2)) * 100.0:
        theta = gc.moreau_envelope(problem, 0, rho).theta
        assert norm(problem.locals[0].gradient(theta)) <= 0.99 * pull * (1.0 + 1e-9)
        assert norm(theta - THETA) > 1e-3


# -- the poisoned victim -----------------------------------------------------------------------------


def test_the_victim_is_at_the_target(federation, result):
    for case in result.cases:
        for data in (case.fewest, case.roomier):
            assert not data.certificate.failures
            assert data.victim_distance <= 1e-6 * (1.0 + norm(result.target))
            assert data.certificate.distance <= 1e-6 * (1.0 + norm(case.rho))
        assert case.victim_accuracy == (
            federation.accuracy(result.target),
            federation.accuracy(result.target, 1),
        )
        assert case.victim_accuracy[0] < 0.1 < result.before[0]
    # Of labels one class on, the target is as good as the victim's own model was of the true ones.
    assert result.cases[0].victim_accuracy[1] == result.before[0]


def test_solving_leads_there(result):
    loose, tight = result.cases
    assert loose.solved is None
    assert math.isnan(loose.solved_distance)
    assert tight.solved.status == "OPTIMAL"
    allowed = tight.solved.certificate.theta_distances[0] + tight.roomier.victim_distance
    assert tight.solved_distance <= allowed
    assert norm(tight.solved.rho - tight.rho) <= (
        tight.solved.certificate.distance + tight.roomier.certificate.distance
    )


def test_steering_the_shared_model_does_not_steer_the_victim(federation, result):
    for case in result.cases:
        assert case.shared_distance > 100.0 * case.fewest.victim_distance
        problem = federation.problem(gc.SquaredL2(case.lam))
        reply = gc.moreau_envelope(problem, 0, result.target).theta
        assert case.shared_distance == pytest.approx(norm(reply - result.target), rel=1e-6)


# -- the price ---------------------------------------------------------------------------------------


def test_the_price_by_its_formula(federation, result):
    kappa = float(lambertw(9.0 / math.e).real)
    nu = federation.nu
    for case in result.cases:
        problem = federation.problem(gc.SquaredL2(case.lam))
        pull = problem.locals[0].gradient(result.target)
        assert norm(pull) == pytest.approx(result.pull)
        liar = result.target + pull / case.lam
        np.testing.assert_allclose(case.theta, liar, atol=1e-6)
        np.testing.assert_allclose(case.rho, result.target + pull / (2.0 * case.lam), atol=1e-9)
        needed = norm(pull) ** 2 / case.lam + np.vdot(result.target, pull)
        needed = (needed + 2.0 * nu * norm(liar) ** 2) / kappa
        # T3.4 has better bounds yet, and at most 2 K + 2 points more do.
        assert needed <= case.lower_bound + 1
        assert case.lower_bound <= 1.2 * needed + 2
        assert case.lower_bound <= case.fewest.n_points <= case.lower_bound + 22
    loose, tight = result.cases
    assert loose.lower_bound > 2 * tight.lower_bound
    for case in result.cases:
        assert case.shared_lower_bound < case.lower_bound


def test_the_bound_of_the_shared_model_is_kept(federation, result):
    case = result.cases[1]
    attack = gc.poison(federation.problem(gc.SquaredL2(case.lam)), result.target)
    assert case.shared_lower_bound <= attack.lower_bound <= attack.n_points
    assert attack.lower_bound <= 1.2 * case.shared_lower_bound + 2


@pytest.mark.slow
def test_roomier_data_have_smaller_inputs(federation):
    options = OPTIONS | {"lams": [10.0], "extra": 0.05, "trained": []}
    (case,) = steering(federation, **options).cases
    assert case.fewest.n_points < case.roomier.n_points <= math.ceil(1.05 * case.fewest.n_points)
    assert case.roomier.largest_input < case.fewest.largest_input
    assert case.roomier.victim_distance < 1e-6 * (1.0 + norm(case.theta))


# -- the published training --------------------------------------------------------------------------


def test_training_aims_at_the_shared_model(federation, result):
    (way,) = result.trainings
    case = result.cases[1]
    assert way.lam == case.lam == 10.0
    assert way.largest_entry == np.abs(case.rho).max()
    assert len(way.victim_distances) == len(way.rho_distances) == len(way.accuracies) == EPOCHS + 1
    assert way.victim_distances[0] == norm(result.target)
    assert way.rho_distances[0] == norm(case.rho)
    problem = federation.problem(gc.SquaredL2(10.0))
    again = train(problem, EPOCHS, report=counter_gradient_report(problem, case.rho))
    assert way.rho_distances[-1] == norm(again.rho - case.rho)
    assert way.victim_distances[-1] == norm(again.thetas[0] - result.target)
    assert way.accuracies[-1] == federation.accuracy(again.thetas[0])
    assert way.victim_distances[-1] < 0.5 * way.victim_distances[0]
    # Without the liar the victim goes elsewhere.
    honest = train(problem, EPOCHS).thetas[0]
    assert norm(honest - result.target) > 2.0 * way.victim_distances[-1]


# -- files, refusals, the figure ---------------------------------------------------------------------


def test_it_comes_back_from_a_file(result, tmp_path):
    assert_same(Steering.load(result.save(tmp_path / "result.npz")), result)


def test_a_run_that_was_killed_goes_on_to_the_same_result(federation, result, tmp_path):
    done = []

    def killed(step):
        if step == "lam=10":
            raise KeyboardInterrupt
        done.append(step)

    def again(on_step, **options):
        steps = Steps(tmp_path, on_step=on_step, shared=tmp_path / "common")
        return steering(federation, **(OPTIONS | options), steps=steps)

    with pytest.raises(KeyboardInterrupt):
        again(killed)
    assert_same(again(done.append), result)
    assert done == ["honest", "lam=1", "lam=10", "lam=10-training"]
    with pytest.raises(gc.InvalidInputError, match="other settings"):
        again(done.append, epochs=EPOCHS + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lams": []}, "lams must not be empty"),
        ({"solved": [2.0]}, "hold all of solved and trained"),
        ({"trained": [2.0]}, "hold all of solved and trained"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"extra": -0.1}, "extra at least 0"),
        ({"extra": math.nan}, "extra at least 0"),
    ],
)
def test_what_is_refused(federation, options, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        steering(federation, **(OPTIONS | options))


def test_two_users_are_refused():
    with pytest.raises(gc.InvalidInputError, match="one user, the victim; got 2"):
        steering(coarse(2, 10))


def test_the_figure_shows_the_result(result):
    figure = draw(result)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Fake points needed", "Norms of the models", "Accuracy", "Published training"]
    points, sizes, accuracy, training = figure.axes
    drawn = [list(line.get_ydata()) for line in points.lines]
    assert [case.fewest.n_points for case in result.cases] in drawn
    assert [case.lower_bound for case in result.cases] in drawn
    assert [case.shared_lower_bound for case in result.cases] in drawn
    drawn = [list(line.get_ydata()) for line in sizes.lines]
    assert [norm(case.theta) for case in result.cases] in drawn
    assert [norm(case.rho) for case in result.cases] in drawn
    drawn = [list(line.get_ydata()) for line in accuracy.lines]
    for place in (0, 1):
        assert [case.victim_accuracy[place] for case in result.cases] in drawn
        assert [case.rho_accuracy[place] for case in result.cases] in drawn
    (way,) = training.lines
    np.testing.assert_array_equal(way.get_ydata(), result.trainings[0].victim_distances)
    texts = [text.get_text() for text in training.get_legend().get_texts()]
    assert texts == [r"$\lambda$ = 10"]
