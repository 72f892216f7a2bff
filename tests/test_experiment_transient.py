"""The published poisoning of softmax: where training passes, and where it must end."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Steps
from gplconvex.experiments.transient import Transient, transient
from gplconvex.plots.transient import transient as draw
from gplconvex.regularizers import norm


@pytest.fixture(scope="module")
def federation():
    return Federation.of(digits(), 4, 60)


@pytest.fixture(scope="module")
def result(federation):
    return transient(federation, n_points=60, epochs=6000, seeds=(0, 1))


def poisoned(federation, result, n_points, seed):
    problem = federation.problem()
    target = federation.target(Steps())
    spade = gc.to_model(problem, target, gc.required_gradient(problem, target))
    assert norm(spade) == pytest.approx(result.spade_norm, rel=1e-6)
    data = gc.indifference_dataset(federation.loss, spade, n_points, seed=seed)
    return problem.with_user(data, federation.nu), target, spade


def test_every_optimum_is_certified_and_is_that_of_the_published_dataset(federation, result):
    for seed, found in zip(result.seeds, result.optima, strict=True):
        problem, _, _ = poisoned(federation, result, 60, seed)
        found.certificate.require(1e-6)
        judged = gc.certify(problem, found.rho, list(found.thetas))
        assert judged.distance <= 1e-6 * (1.0 + norm(found.rho))


def test_training_passes_the_target_and_ends_at_the_optimum(result):
    road, last = result.road, result.optima[0]
    published = list(road.epochs).index(250)
    assert road.shifted[published] > 0.75
    assert road.accuracy[published] < 0.05
    assert road.attacker[published] > 0.8 * result.spade_norm
    assert road.accuracy[-1] > 0.75
    assert road.shifted[-1] < 0.05
    # Adam stops at a distance of about its step.
    assert road.attacker[-1] == pytest.approx(norm(last.thetas[-1]), rel=0.02)
    assert road.objective[-1] >= last.certificate.value - last.certificate.gap
    assert road.objective[-1] <= 1.01 * last.certificate.value
    assert (road.objective >= last.certificate.value - last.certificate.gap).all()


def test_at_the_optimum_the_attack_has_collapsed(result):
    assert (result.accuracy[:, 1] > 0.75).all()
    assert (result.shifted < 0.05).all()
    assert (result.attacker < 0.3 * result.spade_norm).all()
    assert result.start_objective > 2.0 * result.optima[0].certificate.value


def test_the_energy_argument_holds_at_every_optimum(federation, result):
    for found in result.optima:
        rho, theta = found.rho, found.thetas[-1]
        held = federation.nu * norm(theta) ** 2 + federation.lam * norm(rho - theta) ** 2
        assert held <= 60 * math.log(10) + federation.lam * norm(rho) ** 2


def test_fewer_points_than_the_floors_do_not_hold_the_target_and_more_do(federation, result):
    _, target, _ = poisoned(federation, result, 60, 0)
    attack = gc.poison(federation.problem(), target)
    attack.require(1e-6)
    # The count of T3.4 without the intercept's demand, which only raises it.
    assert 60 < result.energy_floor < result.points_needed <= attack.lower_bound <= attack.n_points
    assert result.points_needed >= 0.99 * attack.lower_bound
    # At the optimum of these points the energy argument holds too: it is no obstacle to enough points.
    energy = (
        federation.nu * result.spade_norm**2
        + federation.lam * norm(target - attack.theta) ** 2
        - federation.lam * norm(target) ** 2
    )
    assert energy <= attack.n_points * math.log(10)


def test_accuracies_within_the_certified_distance_bracket_that_of_the_point(result):
    value, low, high = result.accuracy.T
    assert (low <= value).all()
    assert (value <= high).all()


def test_accuracy_within_a_distance_bounds_that_of_nearby_models(federation):
    honest = federation.honest(Steps()).rho
    rng = np.random.default_rng(0)
    for distance in (0.0, 1e-3, 0.1, 3.0):
        low, high = federation.accuracy_within(honest, distance)
        for _ in range(20):
            step = rng.standard_normal(honest.shape)
            moved = honest + step * (distance / norm(step))
            assert low <= federation.accuracy(moved) <= high
    # It is attained: along (x, 1) an image's own class loses to the next as fast as it can.
    named = np.argmax(federation.x_test @ honest[:-1] + honest[-1], axis=1)
    image = int(np.argmax(named == federation.y_test))
    x = np.append(federation.x_test[image], 1.0)
    logits = x @ honest
    own = int(federation.y_test[image])
    other = int(np.argmax(np.where(np.arange(10) == own, -np.inf, logits)))
    needed = (logits[own] - logits[other]) / (math.sqrt(2.0) * norm(x))
    single = Federation("one image", federation.users, 10, x[None, :-1], np.array([own]))
    assert needed > 0.0
    assert single.accuracy_within(honest, 0.999 * needed) == (1.0, 1.0)
    assert single.accuracy_within(honest, 1.001 * needed) == (0.0, 1.0)
    direction = np.zeros_like(honest)
    direction[:, own], direction[:, other] = -x, x
    direction /= norm(direction)
    assert single.accuracy(honest + 0.999 * needed * direction) == 1.0
    assert single.accuracy(honest + 1.001 * needed * direction) == 0.0


def test_it_goes_on_where_it_was_killed_and_comes_back_from_its_file(federation, tmp_path):
    options = {"n_points": 30, "epochs": 20, "seeds": (3,)}
    whole = transient(federation, **options)
    done = []

    def stop(name):
        done.append(name)
        if len(done) in (2, 4):
            raise KeyboardInterrupt

    steps = Steps(tmp_path / "steps", {}, stop, shared=tmp_path / "common")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            transient(federation, **options, steps=steps)
    again = transient(federation, **options, steps=steps)
    one = "optimum of seed 3"
    assert done == ["honest", "aim", "aim", one, one, "training of seed 3"]
    again.save(tmp_path / "transient.npz")
    for found in (again, Transient.load(tmp_path / "transient.npz")):
        assert found.optima[0].rho.tobytes() == whole.optima[0].rho.tobytes()
        assert found.road.attacker.tobytes() == whole.road.attacker.tobytes()
        assert found.road.objective.tobytes() == whole.road.objective.tobytes()
        assert isinstance(found.optima[0], Optimum)


def test_the_picture_shows_the_numbers(result):
    figure = draw(result)
    left, right = figure.axes
    assert left.get_title(loc="left") == "60 published points: a transient"
    assert str(result.points_needed) in right.get_title(loc="left")
    ends = {line.get_label(): line.get_ydata() for line in (*left.lines, *right.lines)}
    assert np.array_equal(ends["certified optimum: named right"], result.accuracy[:, 0])
    assert np.array_equal(ends[r"certified optimum: $|\theta_s|$"], result.attacker)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"seeds": ()}])
def test_wrong_arguments(federation, wrong):
    with pytest.raises(gc.InvalidInputError):
        transient(federation, **wrong)


def test_without_the_poison_there_is_no_attack(federation):
    """The negative control: an eleventh user without points changes nothing but its own model."""
    problem = federation.problem()
    empty = gc.Dataset(np.zeros((0, 64)), np.zeros(0))
    found = optimum(problem.with_user(empty, federation.nu))
    assert federation.accuracy(found.rho, shift=1) < 0.1
