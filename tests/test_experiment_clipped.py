"""Fake points that are images: they lead where they should, and only images do so as images."""

from pathlib import Path

import numpy as np
import pytest
from same_results import assert_same
from scipy.special import softmax
from test_experiment_price import few_classes

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments import clipped as module
from gplconvex.experiments.clipped import (
    Clipped,
    clipped,
    clipped_recipe,
    nearest_image,
    quick,
    shared_images,
)
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.price import two_classes
from gplconvex.experiments.results import Result, Steps
from gplconvex.plots.clipped import clipped as draw

SETTINGS = {"scales": (1.0, 0.1), "spares": (2.2, 1.6), "each": 9, "weight": 100}


@pytest.fixture(scope="module")
def three() -> Federation:
    return few_classes(3, 2, 60)


@pytest.fixture(scope="module")
def pair() -> Federation:
    return Federation.of(two_classes(digits(), 4, 9), 2, 60)


@pytest.fixture(scope="module")
def result(three: Federation, pair: Federation) -> Clipped:
    return clipped(pair, three, [(three, (20, 200, 2000))], **SETTINGS)


def gradient_at(theta: np.ndarray, data: gc.Dataset) -> np.ndarray:
    """Return the sum of the gradients of points of classes, from the definition."""
    x = np.column_stack([data.x, np.ones(data.n_rows)])
    p = softmax(x @ theta, axis=1)
    p[np.arange(len(p)), data.y.astype(int)] -= 1.0
    return np.asarray(x.T @ (data.counts[:, None] * p))


def test_two_classes_arrive_and_images_are_no_cheaper(result: Clipped) -> None:
    two = result.two
    assert (two.distances < 1e-8).all()
    assert (two.free >= two.free_bounds).all()
    assert (two.pixels >= two.pixels_bounds).all()
    assert (two.pixels_bounds >= two.free_bounds).all()
    assert two.images.min() >= 0.0
    assert two.images.max() <= 1.0
    assert two.unbounded.min() < 0.0  # the negative control: these are no images
    assert two.counts.sum() == two.pixels[0]


def test_whether_one_label_is_enough(pair: Federation, result: Clipped) -> None:
    """Residuals of one sign have gradients in the cone of images, by definition."""
    assert len(set(result.two.labels.tolist())) == 2
    assert not result.two.one_label
    theta = np.array([[0.5, -0.5]] * 64 + [[0.0, 0.0]])
    image = gc.Dataset(np.full((1, 64), 0.25), [1.0], [7])
    h = gradient_at(theta, image)
    assert np.allclose(h[:-1, 1] / h[-1, 1], 0.25)


def test_shared_images_have_the_gradient(three: Federation, result: Clipped) -> None:
    shared = result.shared
    assert shared.images.min() >= 0.0
    assert shared.images.max() <= 1.0
    assert shared.bound <= shared.free <= shared.n_points <= 2.3 * shared.bound
    assert shared.certificate.distance < 1e-5
    assert shared.residual <= 1e-12
    problem, target = three.problem(), three.target(Steps())
    g = gc.required_gradient(problem, target)
    theta = gc.to_model(problem, target, g)
    h = g - 2.0 * three.nu * theta
    data = gc.Dataset(shared.images, shared.labels, shared.counts)
    assert np.allclose(gradient_at(theta, data), h, atol=1e-9 * np.abs(h).max())
    solved = gc.solve(problem.with_user(data, three.nu), tol=1e-13)
    assert np.abs(solved.rho - target).max() < 1e-5
    # Negative control: one image fewer does not arrive.
    counts = shared.counts.copy()
    counts[0] -= 1
    fewer = gc.Dataset(shared.images, shared.labels, counts)
    solved = gc.solve(problem.with_user(fewer, three.nu), tol=1e-13)
    assert np.abs(solved.rho - target).max() > 1e-4


def test_a_gradient_that_no_images_have_is_refused(three: Federation) -> None:
    """Two images pull at a pixel with less than 2, and 5 is asked of every one."""
    theta, h = 0.1 * np.random.default_rng(0).standard_normal((65, 3)), np.zeros((65, 3))
    h[:64, 0], h[:64, 1] = 5.0, -5.0
    photos = np.asarray(three.users[0].x)
    with pytest.raises(gc.UnrealizableGradientError, match="no images"):
        shared_images(three.loss, theta, h, photos, 2, spares=(1.0,), each=1)


def test_the_nearest_image_is_nearest() -> None:
    rng = np.random.default_rng(0)
    slopes, photo = rng.standard_normal((3, 20)), rng.random(20)
    z = slopes @ rng.random(20)
    found = nearest_image(photo, slopes, z)
    assert found is not None
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert np.allclose(slopes @ found, z, atol=1e-8)
    # Obtuse angle: no image with the same logits lies on the other side.
    null = np.linalg.svd(slopes)[2][3:]
    for _ in range(200):
        other = found + 0.05 * null.T @ rng.standard_normal(17)
        if other.min() >= 0.0 and other.max() <= 1.0:
            assert np.dot(photo - found, other - found) <= 1e-8
    assert nearest_image(photo, slopes, 1e3 * z) is None


def test_the_recipe_is_labeled_by_the_model_and_tends_to_the_target(result: Clipped) -> None:
    theta = np.random.default_rng(1).standard_normal((65, 3))
    data = clipped_recipe(theta, 50, weight=3, seed=2)
    x = np.column_stack([data.x, np.ones(50)])
    assert data.n_points == 150
    assert data.x.min() >= 0.0
    assert data.x.max() <= 1.0
    assert np.abs(x.T @ (softmax(x @ theta, axis=1) - data.y)).max() < 1e-12
    recipe = result.recipes[0]
    assert all(optimum.status == "OPTIMAL" for optimum in recipe.optima)
    assert (np.diff(recipe.distances) < 0.0).all()
    assert recipe.distances[0] > 100.0 * recipe.optima[0].certificate.distance
    assert recipe.bound == result.shared.bound  # of one target, found on two ways


def test_save_load_resume(
    tmp_path: Path, three: Federation, pair: Federation, result: Clipped
) -> None:
    kept = Result.load(result.save(tmp_path / "clipped.npz"))
    assert isinstance(kept, Clipped)
    assert_same(kept, result)

    class Killed(Exception):
        pass

    def kill(name: str) -> None:
        if name == "200 points":
            raise Killed

    published = [(three, (20, 200, 2000))]
    with pytest.raises(Killed):
        clipped(pair, three, published, **SETTINGS, steps=Steps(tmp_path, on_step=kill))
    done: list[str] = []
    again = clipped(pair, three, published, **SETTINGS, steps=Steps(tmp_path, on_step=done.append))
    assert "shared images" not in done
    assert "200 points" in done
    assert_same(again, result)


def test_the_figure_shows_the_numbers(result: Clipped) -> None:
    figure = draw(result)
    left, right = figure.axes[:2]
    assert np.array_equal(left.lines[0].get_ydata(), result.two.pixels)
    assert np.array_equal(left.lines[1].get_ydata(), result.two.free)
    recipe = result.recipes[0]
    assert np.allclose(right.lines[0].get_ydata(), recipe.distances / recipe.wanted)
    texts = [sub.get_suptitle() for sub in figure.subfigs[1:]]
    assert str(result.two.pixels[0]) in texts[0]
    assert str(result.shared.n_points) in texts[1]


def test_bad_input(three: Federation, pair: Federation) -> None:
    with pytest.raises(gc.InvalidInputError, match="two classes"):
        clipped(three, three)
    x = np.random.default_rng(0).random((6, 3))
    odd = Federation("odd", [gc.Dataset(x, [0.0, 1.0] * 3)], 2, x, np.array([0.0, 1.0] * 3))
    with pytest.raises(gc.InvalidInputError, match="must be square"):
        module._square(odd)


@pytest.mark.slow
def test_quick_arrives_with_images_of_all_labels() -> None:
    result = quick(Steps())
    assert set(result.shared.labels.tolist()) == set(range(10))
    assert result.shared.certificate.distance < 1e-5
    assert result.recipes[0].distances[-1] < 0.1 * result.recipes[0].wanted
