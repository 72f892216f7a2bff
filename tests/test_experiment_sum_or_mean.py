"""Sum or mean of local losses: what is minimized, what noise is, and who has the say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from same_results import assert_same
from scipy.special import logsumexp

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Steps
from gplconvex.experiments.sum_or_mean import (
    HOW,
    NOISY,
    SumOrMean,
    deal,
    sum_or_mean,
    weighed,
)
from gplconvex.plots.sum_or_mean import sum_or_mean as draw

SETTINGS = {"n_small": 4, "points": 10, "epochs": 40, "seeds": (0, 1)}
ONE = SETTINGS | {"seeds": (0,)}


@pytest.fixture(scope="module")
def images():
    return replace(digits(), pixels=digits().pixels[:640], labels=digits().labels[:640])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Steps(tmp_path_factory.mktemp("steps"))


@pytest.fixture(scope="module")
def result(images, kept):
    return sum_or_mean(images, **SETTINGS, steps=kept)


def local_loss(theta, user, nu):
    """The local loss, each point once, written down anew."""
    z = user.x @ theta[:-1] + theta[-1]
    own = z[np.arange(len(z)), user.y.astype(int)]
    return nu * np.sum(theta**2) + np.sum(logsumexp(z, axis=1) - own)


def test_what_is_minimized_is_the_sum_and_m_times_the_mean(images):
    users = deal(images, 4, 10, 0.6, "everybody", 0)
    rng = np.random.default_rng(1)
    rho, thetas = rng.standard_normal((65, 10)), rng.standard_normal((5, 65, 10))
    losses = np.array(
        [local_loss(theta, user, 0.3) for theta, user in zip(thetas, users, strict=True)]
    )
    ties = 7.0 * np.sum((rho - thetas) ** 2)
    sizes = np.array([10, 10, 10, 10, 600])
    total = weighed(users, 10, "sum", lam=7.0, nu=0.3).value(rho, list(thetas))
    assert total == pytest.approx(losses.sum() + ties, rel=1e-12)
    mean = weighed(users, 10, "mean", lam=7.0, nu=0.3).value(rho, list(thetas))
    assert mean == pytest.approx(600 * (np.sum(losses / sizes) + ties), rel=1e-12)


def test_users_of_one_size_have_the_same_say_either_way(images):
    users = deal(images, 4, 10, 0.6, "everybody", 0)[:4]
    mean, total = (
        weighed(users, 10, "mean", 0.7, 0.1),
        weighed(users, 10, "sum", 10 * 0.7, 0.1),
    )
    assert optimum(mean).rho.tobytes() == optimum(total).rho.tobytes()


def test_every_image_is_dealt_once_and_noise_is_where_it_is_said_to_be(images):
    clean = deal(images, 4, 10, 0.0, "everybody", 3)
    noisy = deal(images, 4, 10, 0.6, "everybody", 3)
    small = deal(images, 4, 10, 0.6, "small users", 3)
    pictures = np.vstack([user.x for user in clean])
    order = np.lexsort(pictures.T)
    expected = images.pixels / images.levels
    assert np.array_equal(pictures[order], expected[np.lexsort(expected.T)])
    for n, users in enumerate(zip(clean, noisy, small, strict=True)):
        assert users[0].n_points == (10 if n < 4 else 600)
        assert all(np.array_equal(user.x, users[0].x) for user in users)
        changed = np.sum(users[0].y != users[1].y)
        # Six of ten are drawn anew, a tenth of which as they were.
        assert changed <= 0.6 * users[0].n_points
        assert np.array_equal(users[2].y, users[1].y if n < 4 else users[0].y)
    assert 0.48 * 600 < np.sum(clean[4].y != noisy[4].y) < 0.6 * 600


def test_every_optimum_is_certified(images, result, kept):
    assert len(result.weighings) == 8
    for each in result.weighings:
        assert each.certificate.relative_gap <= 1e-11
        problem = weighed(deal(images, 4, 10, 0.6, each.noisy, each.seed), 10, each.how, 100, 0.01)
        name = f"optimum of {each.how}, noise of {each.noisy}, seed {each.seed}"
        found = Optimum.load(kept.folder / "sum_or_mean" / f"{name}.npz")
        again = gc.certify(problem, found.rho, list(found.thetas))
        assert again.distance == pytest.approx(each.certificate.distance)
        assert again.distance < 1e-3
        assert each.accuracy[1] <= each.accuracy[0] <= each.accuracy[2]


def test_small_noisy_users_outvote_a_large_one_in_a_mean_alone(result):
    for noisy in NOISY:
        for total, mean in zip(result.of("sum", noisy), result.of("mean", noisy), strict=True):
            assert (total.seed, total.noisy) == (mean.seed, mean.noisy)
            assert total.accuracy[1] > mean.accuracy[2] + 0.05
            assert total.lessons.accuracy[-1] > mean.lessons.accuracy[-1] + 0.15


def test_without_noise_a_mean_does_less_harm(images, result):
    users = deal(images, 4, 10, 0.0, "everybody", 0)
    clean = optimum(weighed(users, 10, "mean", 100.0, 0.01), tol=1e-11).rho
    noisy = result.of("mean", "everybody")[0].accuracy[0]
    assert Federation.of(images, 1, 640).accuracy(clean) > noisy + 0.1


def test_what_is_saved_comes_back(result, tmp_path):
    loaded = SumOrMean.load(result.save(tmp_path / "result.npz"))
    assert_same(loaded, result)


def test_an_interrupted_run_goes_on_to_the_same_result(images, result, tmp_path):
    done = []

    def stop(name):
        done.append(name)
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sum_or_mean(images, **ONE, steps=Steps(tmp_path, on_step=stop))
    again = sum_or_mean(images, **ONE, steps=Steps(tmp_path, on_step=done.append))
    assert len(done) == 8 + 1  # each once, but for the one that was interrupted
    assert_same(again.weighings, result.weighings[:4])


def test_the_figure_shows_the_result(result):
    figure = draw(result)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "60% noise in the labels of everybody",
        "60% noise in the labels of small users",
    ]
    for axes, noisy in zip(figure.axes, NOISY, strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
        for how in HOW:
            expected = [each.accuracy[0] for each in result.of(how, noisy)]
            assert list(drawn[f"certified optimum of the {how}"]) == expected
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "sum: one voice a point" in texts
    assert "mean: one voice a user" in texts


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_small": 0},
        {"points": 7},
        {"points": 200},
        {"noise": 1.5},
        {"epochs": 0},
        {"seeds": ()},
    ],
)
def test_senseless_settings_are_refused(images, wrong):
    with pytest.raises(gc.InvalidInputError, match="got"):
        sum_or_mean(images, **{**SETTINGS, **wrong})


def test_a_mean_that_is_none_in_whole_numbers_is_refused(images):
    users = deal(images, 4, 10, 0.6, "everybody", 0)
    odd = [*users, gc.Dataset(users[0].x[:7], users[0].y[:7])]
    weighed(odd, 10, "sum", 1.0, 0.1)
    with pytest.raises(gc.InvalidInputError, match="multiple of all"):
        weighed(odd, 10, "mean", 1.0, 0.1)
