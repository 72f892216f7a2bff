"""The last layer of a network: features, bodies, pictures, and the attack."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from same_results import assert_same
from scipy.special import logsumexp

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import optimum
from gplconvex.experiments.last_layer import (
    RATE,
    Body,
    Features,
    LastLayer,
    is_image,
    last_layer,
    on_small_body,
    train_body,
)
from gplconvex.experiments.results import Steps
from gplconvex.plots.last_layer import last_layer as draw

SETTINGS = {"hidden": 16, "epochs": 100, "extra": 50}


@pytest.fixture(scope="module")
def images():
    """Digits 0, 1 and 2: 419 to learn from."""
    every = digits()
    train, test = every.labels < 3, every.test_labels < 3
    return replace(
        every,
        classes=every.classes[:3],
        pixels=every.pixels[train],
        labels=every.labels[train],
        test_pixels=every.test_pixels[test],
        test_labels=every.test_labels[test],
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Steps(tmp_path_factory.mktemp("steps"))


@pytest.fixture(scope="module")
def result(images, kept):
    return on_small_body(images, 3, 100, **SETTINGS, steps=kept)


@pytest.fixture(scope="module")
def body(result, kept):
    return Body.load(kept.folder / "last_layer" / "body.npz")


@pytest.fixture(scope="module")
def problem(images, body):
    """The honest users, put together anew."""
    features = np.tanh(images.pixels / 16 @ body.weights + body.bias)
    users = [(features[n : n + 100], images.labels[n : n + 100]) for n in (0, 100, 200)]
    return gc.Problem(gc.Softmax(3, intercept=True), gc.SquaredL2(1.0), users, nu=0.1)


@pytest.fixture(scope="module")
def target(problem):
    """What the users would learn from labels that are one class on."""
    users = [(user.x, (user.y + 1) % 3) for user in problem.datasets]
    return optimum(gc.Problem(problem.loss, problem.regularizer, users, problem.nu)).rho


# -- features ----------------------------------------------------------------------------------------


@pytest.fixture
def features():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((60, 4)), np.arange(60) % 3
    return Features("random", x, y, x[:9], y[:9], ("a", "b", "c"))


def test_features_come_back_from_their_file(features, tmp_path):
    loaded = Features.load(features.save(tmp_path / "deep.npz"))
    for name in ("x", "y", "x_test", "y_test"):
        assert getattr(loaded, name).tobytes() == getattr(features, name).tobytes()
    assert loaded.classes == ("a", "b", "c")
    # The name tells apart files of one name that hold different numbers.
    assert loaded.name.startswith("deep ")
    features.save(tmp_path / "deep.npz", overwrite=True)
    assert Features.load(tmp_path / "deep.npz").name == loaded.name
    replace(features, y=features.y[::-1]).save(tmp_path / "deep.npz", overwrite=True)
    assert Features.load(tmp_path / "deep.npz").name != loaded.name


def test_features_of_anybody_are_read(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=[[1, 2], [3, 4]], y=[0, 3], x_test=[[0, 1]], y_test=[2], other=[7])
    assert Features.load(path).classes == ("0", "1", "2", "3")


def test_files_of_something_else_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_text("no archive")
    with pytest.raises(gc.InvalidInputError, match="NumPy archive"):
        Features.load(path)
    np.savez(path, x=[[1.0]], y=[0])
    with pytest.raises(gc.InvalidInputError, match=r"lacks \['x_test', 'y_test'\]"):
        Features.load(path)
    np.savez(path, x=[[1.0]], y=["cat"], x_test=[[1.0]], y_test=["cat"])
    with pytest.raises(gc.InvalidInputError, match="y must be"):
        Features.load(path)
    np.savez(path, x=np.array([[None]]), y=[0], x_test=[[1.0]], y_test=[0])
    with pytest.raises(gc.InvalidInputError, match="plain numbers"):
        Features.load(path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": np.zeros(60)}, "x must have shape"),
        ({"y": np.zeros(59)}, "x must have shape"),
        ({"x": np.zeros((0, 4)), "y": np.zeros(0)}, "at least 1"),
        ({"x": np.full((60, 4), np.nan)}, "finite"),
        ({"y": np.full(60, 3)}, "whole numbers from 0 to 2"),
        ({"y": np.full(60, 0.5)}, "whole numbers from 0 to 2"),
        ({"x_test": np.zeros((9, 5))}, "the same features"),
    ],
)
def test_features_that_are_none_are_refused(features, wrong, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        replace(features, **wrong)


def test_features_without_a_body_are_poisoned_too(features):
    result = last_layer(features, 3, 15)
    assert math.isnan(result.body_accuracy)
    assert result.smaller is result.fewest
    assert result.fewest.inputs is None
    result.fewest.certificate.require(1e-6)
    assert len(draw(result).axes) == 2
    for users, points in ((0, 15), (3, 0), (5, 15)):
        with pytest.raises(gc.InvalidInputError, match="60 training inputs"):
            last_layer(features, users, points)


# -- bodies ------------------------------------------------------------------------------------------


def test_a_body_descends_along_the_gradient_of_the_mean_loss():
    """Three steps of Adam, with differences in place of derivatives."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), np.arange(7) % 3
    body = train_body(x, y, 3, hidden=2, epochs=3, seed=4)

    def loss(w):
        f = np.tanh(x @ w[:6].reshape(3, 2) + w[6:8])
        z = f @ w[8:14].reshape(2, 3) + w[14:]
        return np.mean(logsumexp(z, axis=1) - z[np.arange(7), y])

    w = np.zeros(17)
    w[:6] = (np.random.default_rng(4).standard_normal((3, 2)) / np.sqrt(3)).ravel()
    first, second = np.zeros(17), np.zeros(17)
    for t in range(1, 4):
        g = np.array([(loss(w + e) - loss(w - e)) / 2e-5 for e in 1e-5 * np.eye(17)])
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        # Where the gradient is 0, as for the body in the first step, so is the step.
        w -= RATE * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    trained = np.concatenate([body.weights.ravel(), body.bias, body.head.ravel()])
    assert np.abs(trained - w).max() < 1e-6
    assert np.array_equal(body.mean, x.mean(axis=0))


def test_a_body_depends_on_its_seed_alone(images):
    x = images.pixels / 16
    one, two, other = (
        train_body(x, images.labels, 3, hidden=8, epochs=5, seed=seed) for seed in (1, 1, 2)
    )
    assert one.weights.tobytes() == two.weights.tobytes()
    assert np.abs(one.weights - other.weights).max() > 0.1


@pytest.fixture
def wide():
    """A body with room: 5 units of 20 pixels."""
    rng = np.random.default_rng(3)
    weights, bias = rng.standard_normal((20, 5)) / 5, rng.standard_normal(5) / 5
    return Body(weights, bias, np.zeros((6, 2)), np.full(20, 0.1))


def test_images_with_given_features_are_found(wide):
    images = np.random.default_rng(0).uniform(0.1, 0.9, (30, 20))
    found = wide.inputs(wide.features(images))
    assert is_image(found)
    assert np.abs(wide.features(found) - wide.features(images)).max() < 1e-13
    assert np.abs(found - images).max() > 0.05  # others, but as good


def test_where_no_image_has_the_features_an_input_has_them(wide):
    x = np.full((1, 20), 2.0 * np.sign(wide.weights[:, 0]))  # no pixels push the first unit as far
    found = wide.inputs(wide.features(x))
    assert not is_image(found)
    assert np.abs(wide.features(found) - wide.features(x)).max() < 1e-12
    # The nearest to the mean: no further than the one that is known, on the right line.
    assert np.linalg.norm(found - wide.mean) <= np.linalg.norm(x - wide.mean)


def test_features_of_no_input_are_refused(wide):
    with pytest.raises(gc.InvalidInputError, match="strictly between -1 and 1"):
        wide.inputs(np.ones((1, 5)))
    flat = replace(wide, weights=np.ones((20, 5)))
    with pytest.raises(gc.InvalidInputError, match="rank 5"):
        flat.inputs(np.zeros((1, 5)))


# -- the experiment ----------------------------------------------------------------------------------


def test_honest_users_learn_and_are_certified(problem, result):
    again = gc.certify(problem, result.honest.rho, list(result.honest.thetas))
    assert again.distance == pytest.approx(result.honest.certificate.distance)
    assert again.distance < 1e-5
    share, least, greatest = result.honest_accuracy
    assert 0.9 < least <= share <= greatest
    assert result.body_accuracy > 0.9


def test_the_attack_is_certified_and_changes_every_label(result):
    for attack in (result.fewest, result.smaller):
        attack.certificate.require(1e-6)
        assert attack.counts.sum() == attack.points
    assert result.fewest.points <= result.fewest.lower_bound + 8  # 2 K + 2 (T3.4)
    assert result.smaller.points <= result.fewest.points + result.extra
    assert result.accuracy[2] < 0.1
    assert result.shifted[1] > 0.9
    # Shifted labels permute the optimum: the wrong names are as good as the right ones were.
    assert result.shifted[0] == pytest.approx(result.honest_accuracy[0])


def test_smaller_features_are_those_of_pictures_and_do_the_same(problem, target, result, body):
    attack = result.smaller
    assert attack.largest < 1.0 < result.fewest.largest
    assert result.fewest.inputs is None
    seen = np.tanh(attack.inputs @ body.weights + body.bias)
    assert is_image(attack.inputs)
    assert np.abs(seen - attack.x).max() < 1e-12
    attack.inputs_certificate.require(1e-6)
    # Whoever solves the problem with these pictures in it gets the target.
    poisoned = problem.with_user(gc.Dataset(seen, attack.y, attack.counts), 0.1)
    assert np.abs(gc.solve(poisoned, tol=1e-13).rho - target).max() < 1e-4


def test_other_pictures_do_not_do_the_same(problem, target, result, body):
    attack = result.smaller
    seen = np.tanh((attack.inputs + 0.01) @ body.weights + body.bias)
    poisoned = problem.with_user(gc.Dataset(seen, attack.y, attack.counts), 0.1)
    assert np.abs(gc.solve(poisoned, tol=1e-13).rho - target).max() > 1e-2


def test_what_is_saved_comes_back(result, tmp_path):
    assert_same(LastLayer.load(result.save(tmp_path / "result.npz")), result)


def test_an_interrupted_run_goes_on_to_the_same_result(images, result, tmp_path):
    done = []

    def stop(name):
        done.append(name)
        if name == "50 points more":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_small_body(images, 3, 100, **SETTINGS, steps=Steps(tmp_path, on_step=stop))
    again = on_small_body(images, 3, 100, **SETTINGS, steps=Steps(tmp_path, on_step=done.append))
    # Steps that experiments have in common are kept only if they are given a folder.
    assert [done.count(name) for name in ("body", "fewest points", "50 points more")] == [1, 1, 2]
    assert_same(again, result)


def test_the_figure_shows_the_result(result):
    figure = draw(result)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    left = figure.axes[titles.index("A last layer is poisoned exactly")]
    assert [line.get_xdata()[0] for line in left.lines] == [
        result.body_accuracy,
        result.honest_accuracy[0],
        result.accuracy[0],
        result.shifted[0],
    ]
    points = figure.axes[titles.index("The fake points")]
    fewest, smaller = result.fewest, result.smaller
    assert [text.get_text() for text in points.get_legend().get_texts()] == [
        f"{fewest.points} points (fewer than {fewest.lower_bound} cannot)",
        f"{smaller.points} points",
        "largest feature of a real input",
    ]
    assert list(points.lines[1].get_ydata()) == list(smaller.counts)
    shown = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    assert len(shown) == 3
    drawn = np.stack([np.asarray(image.get_array()).ravel() for image in shown])
    assert all((each == smaller.inputs).all(axis=1).any() for each in drawn)


def test_a_body_must_be_left_some_images(images):
    for users, points in ((0, 70), (5, 100)):
        with pytest.raises(gc.InvalidInputError, match="leave some of the 419"):
            on_small_body(images, users, points, **SETTINGS)
