"""From a gradient to a model to data: trained as published, and exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from same_results import assert_same

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.results import Steps
from gplconvex.experiments.three_roads import (
    ThreeRoads,
    balancing,
    quick,
    three_roads,
)
from gplconvex.experiments.training import counter_gradient_report, train
from gplconvex.regularizers import norm

SETTINGS = {"epochs": 60, "points": 40, "extra": 20, "smaller": (0.01,), "seed": 3}

ATTACKS = ("gradient", "model", "data")


@pytest.fixture(scope="module")
def federation():
    """Three users with three digits: points for ten classes take seconds to find."""
    images = digits()
    few, test = images.labels < 3, images.test_labels < 3
    x, y = images.pixels[few] / images.levels, images.labels[few]
    users = [gc.Dataset(x[i::3], y[i::3]) for i in range(3)]
    return Federation("three digits", users, 3, images.x_test[test], images.y_test[test])


@pytest.fixture(scope="module")
def result(federation):
    return three_roads(federation, **SETTINGS)


def attackers(exact, federation, target):
    """The exact attacks as what is certified: problem, personal models, attacker."""
    problem = replace(federation, nu=exact.nu).problem()
    poisoned = problem.with_user(exact.dataset, exact.nu)
    return {
        "gradient": (problem, list(exact.thetas), gc.GradientAttack(exact.report)),
        "model": (problem, list(exact.thetas), gc.ModelAttack(exact.theta)),
        "data": (poisoned, [*exact.thetas, exact.theta], None),
    }


# -- exactly -----------------------------------------------------------------------------------------


def test_the_target_is_certified_to_be_the_optimum_of_every_exact_attack(federation, result):
    size = 1.0 + np.linalg.norm(result.target)
    assert [exact.nu for exact in result.exact] == [federation.nu, 0.01]
    for exact in result.exact:
        of_each = attackers(exact, federation, result.target)
        for name, (problem, thetas, attacker) in of_each.items():
            certificate = getattr(exact, name)
            assert certificate.distance <= 1e-6 * size
            gc.verify(certificate, problem, result.target, thetas, attacker=attacker)


def test_the_exact_attacks_satisfy_the_first_order_conditions(federation, result):
    """T2.5 by hand: reports cancel, replies are stationary, points have the report as gradient."""
    lam, target = federation.lam, result.target
    for exact in result.exact:
        report = exact.report
        assert np.linalg.norm(2.0 * lam * (target - exact.theta) - report) < 1e-9
        honest = 2.0 * lam * (target - exact.thetas)
        assert np.linalg.norm(honest.sum(axis=0) + report) < 1e-9 * np.linalg.norm(report)
        users = [*zip(federation.users, exact.thetas, strict=True), (exact.dataset, exact.theta)]
        for (user, theta), sent in zip(users, [*honest, report], strict=True):
            x = np.hstack([user.x, np.ones((len(user.x), 1))])
            y = np.eye(3)[user.y.astype(int)] if user.y.ndim == 1 else user.y
            z = np.exp(x @ theta - (x @ theta).max(axis=1, keepdims=True))
            residuals = user.counts[:, None] * (z / z.sum(axis=1, keepdims=True) - y)
            slope = x.T @ residuals + 2.0 * exact.nu * theta
            scale = np.abs(x.T) @ np.abs(residuals)
            assert np.abs(slope - sent).max() < 1e-8 + 1e-9 * scale.max()


def test_a_solver_that_is_told_nothing_arrives_at_the_target(federation, result):
    for name in ATTACKS:
        assert result.solved[name].status == "OPTIMAL"
        below, above = result.from_target(result.solved[name])
        assert below == 0.0
        assert above <= 1e-6 * (1.0 + np.linalg.norm(result.target))
        assert result.exact_accuracy[name] == result.target_accuracy
    (smaller,) = result.models
    assert result.from_target(smaller)[1] <= 1e-6 * (1.0 + np.linalg.norm(result.target))


def test_points_cost_what_is_said(federation, result):
    first, smaller = result.exact
    assert first.n_points == int(first.counts.sum()) >= first.lower_bound
    fewest = gc.poison(federation.problem(), result.target)
    assert first.lower_bound == fewest.lower_bound
    assert first.n_points == fewest.n_points + SETTINGS["extra"]
    assert smaller.n_points <= smaller.lower_bound + 2 * 3 + 2


def test_half_of_the_points_do_not_hold_the_target(federation, result):
    exact = result.exact[0]
    half = gc.Dataset(exact.x, exact.y, (exact.counts + 1) // 2)
    problem = federation.problem().with_user(half, exact.nu)
    thetas = [*exact.thetas, exact.theta]
    assert gc.certify(problem, result.target, thetas).relative_gap > 1e-3
    found = gc.solve(problem)
    assert np.linalg.norm(found.rho - result.target) > 100.0 * found.certificate.distance


# -- as published ------------------------------------------------------------------------------------


def test_the_roads_are_the_published_trainings(federation, result):
    """Each from the start, without ridge; the second and third made from where the first ends."""
    problem, target = replace(federation, nu=0.0).problem(), result.target
    roads = result.trained
    epochs = SETTINGS["epochs"]
    first = train(problem, epochs, report=counter_gradient_report(problem, target))
    theta = 4 * first.rho - first.thetas.sum(axis=0)
    assert np.array_equal(roads["gradient"].rho, first.rho)
    assert np.array_equal(roads["gradient"].theta, theta)
    frozen = train(problem, epochs, report=lambda rho, *_: 2.0 * (rho - theta))
    assert np.array_equal(roads["model"].rho, frozen.rho)
    assert np.array_equal(roads["model"].theta, theta)
    points = gc.indifference_dataset(federation.loss, theta, 40, seed=3)
    noise = 0.1 * np.random.default_rng([3, 1]).standard_normal(theta.shape)
    start = np.zeros(theta.shape), np.stack([*np.zeros((3, *theta.shape)), theta + noise])
    for name, nu in (("data", 0.0), ("data, ridge", federation.nu)):
        poisoned = replace(federation, nu=nu).problem().with_user(points, nu)
        data = train(poisoned, epochs, start=start)
        assert np.array_equal(roads[name].rho, data.rho)
        assert np.array_equal(roads[name].theta, data.thetas[-1])
        assert roads[name].nu == nu


def test_curves_end_at_the_models(federation, result):
    for road in result.trained.values():
        assert road.accuracy.shape == road.distance.shape == (SETTINGS["epochs"],)
        assert road.accuracy[-1] == federation.accuracy(road.rho)
        assert road.distance[-1] == norm(road.rho - result.target)


def test_the_frozen_model_balances_the_others():
    rng = np.random.default_rng(0)
    rho, thetas = rng.normal(size=(4, 2)), rng.normal(size=(3, 4, 2))
    pulls = [rho - theta for theta in [*thetas, balancing(rho, thetas)]]
    np.testing.assert_allclose(np.sum(pulls, axis=0), 0.0, atol=1e-14)


def test_the_optimum_of_the_published_points_keeps_to_what_they_can_pay(federation, result):
    """At 0 each point has the loss log K: the attacker's own part is no larger at the optimum."""
    published = result.published
    assert published.status == "OPTIMAL"
    rho, theta = published.rho, published.thetas[-1]
    paid = federation.nu * np.sum(theta**2) + federation.lam * np.sum((rho - theta) ** 2)
    can = SETTINGS["points"] * np.log(3.0) + federation.lam * np.sum(rho**2)
    assert paid <= can + published.certificate.gap
    exact = result.exact[0]
    held = federation.nu * np.sum(exact.theta**2)
    held += federation.lam * np.sum((result.target - exact.theta) ** 2)
    most = SETTINGS["points"] * np.log(3.0) + federation.lam * np.sum(result.target**2)
    assert held > most  # so no points, so few, hold the target
    assert result.from_target(published)[0] > 1.0
    assert result.trained["data, ridge"].distance[-1] < result.from_target(published)[0]
    assert result.published_accuracy > 0.9
    assert result.trained["data"].accuracy[-1] < 0.1


# -- files, pictures, input --------------------------------------------------------------------------


def test_the_result_comes_back_from_its_file(result, tmp_path):
    path = result.save(tmp_path / "three_roads.npz")
    assert_same(ThreeRoads.load(path), result)


def test_an_interrupted_run_goes_on_to_the_same_result(federation, result, tmp_path):
    done = []

    def until(name):
        done.append(name)
        if name in stops:
            stops.remove(name)
            raise KeyboardInterrupt

    stops = ["data, trained", "exact, nu = 0.01", "data, nu = 0.1, solved"]
    steps = Steps(tmp_path / "steps", {}, until, shared=tmp_path / "common")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            three_roads(federation, **SETTINGS, steps=steps)
    assert_same(three_roads(federation, **SETTINGS, steps=steps), result)
    assert done.count("gradient, trained") == 1
    assert done.count("data, trained") == 2
    done.clear()
    assert_same(three_roads(federation, **SETTINGS, steps=steps), result)
    assert not done


def test_other_settings_are_not_mixed_in(federation, result, tmp_path):
    steps = Steps(tmp_path / "steps")

    def stop(name):
        raise KeyboardInterrupt

    settings = SETTINGS | {"epochs": 1}
    with pytest.raises(KeyboardInterrupt):
        three_roads(federation, **settings, steps=replace(steps, on_step=_on("model", stop)))
    with pytest.raises(gc.InvalidInputError, match="other settings"):
        three_roads(federation, **(settings | {"seed": 4}), steps=steps)


def _on(word, act):
    return lambda name: act(name) if word in name else None


def test_trainings_tell_how_far_they_are(federation):
    fractions = []

    def stop(name):
        raise KeyboardInterrupt

    steps = Steps(on_step=_on("model", stop), on_progress=fractions.append)
    with pytest.raises(KeyboardInterrupt):
        three_roads(federation, epochs=4, steps=steps)
    assert fractions == [0.25, 0.5, 0.75, 1.0]


def test_the_picture_shows_the_numbers_of_the_result(result):
    from gplconvex.plots.three_roads import three_roads as draw

    figure = draw(result)
    accuracy, distance, ridges = figure.axes
    for axes, what in ((accuracy, "accuracy"), (distance, "distance")):
        curves = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) > 2]
        for curve, road in zip(curves, result.trained.values(), strict=True):
            assert np.array_equal(curve, getattr(road, what))
    points = [float(line.get_ydata()[0]) for line in distance.lines if len(line.get_ydata()) == 1]
    optima = [result.published, *(result.solved[name] for name in ATTACKS)]
    assert points == [
        norm(result.honest.rho - result.target),
        *(result.from_target(optimum)[1] for optimum in optima),
    ]
    points = [float(line.get_ydata()[0]) for line in accuracy.lines if len(line.get_ydata()) == 1]
    assert points == [
        result.honest_accuracy,
        result.published_accuracy,
        *(result.exact_accuracy[name] for name in ATTACKS),
    ]
    size = 1.0 + np.linalg.norm(result.target)
    for line, name in zip(ridges.lines, ATTACKS, strict=False):
        assert list(line.get_xdata()) == [exact.nu for exact in result.exact]
        certified = [getattr(exact, name).distance / size for exact in result.exact]
        np.testing.assert_allclose(line.get_ydata(), certified, rtol=1e-12)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:5] == [
        "gradient, trained",
        "model, trained",
        "data, trained",
        "data, trained with ridge",
        "honest optimum",
    ]
    written = " ".join(text.get_text() for text in figure.texts)
    assert f"{result.exact[0].n_points} points" in written
    assert f"{result.published_accuracy:.1%}" in written


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer from 1; got 0"),
        ({"epochs": 2.0}, "epochs must be an integer"),
        ({"points": 0}, "points must be an integer from 1; got 0"),
        ({"extra": -1}, "extra must be an integer from 0; got -1"),
        ({"smaller": (0.01, 0.0)}, r"ridges must be positive.*\[0.01, 0.0\] below 0.1"),
        ({"smaller": (0.1,)}, r"ridges must be positive.*\[0.1\] below 0.1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_done(federation, wrong, message):
    done = []
    with pytest.raises(gc.InvalidInputError, match=message):
        three_roads(federation, **wrong, steps=Steps(on_step=done.append))
    assert not done


def test_without_ridge_there_is_no_optimum_to_tell(federation):
    with pytest.raises(gc.InvalidInputError, match="ridges must be positive"):
        three_roads(replace(federation, nu=0.0), smaller=())


@pytest.mark.slow
def test_ten_digits():
    result = quick(Steps())
    for exact in result.exact:
        for name in ATTACKS:
            assert getattr(exact, name).distance <= 1e-6 * (1.0 + np.linalg.norm(result.target))
    assert max(road.accuracy[-1] for road in result.trained.values()) < 0.02
    assert abs(result.published_accuracy - result.honest_accuracy) < 0.02
