"""Writers as users: ties help, and tell an attacker how far it gets."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from same_results import assert_same

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Steps
from gplconvex.experiments.writers import (
    ALONE,
    POOLED,
    Writers,
    averaged,
    name_of,
    tied,
    writers,
)
from gplconvex.plots.writers import writers as draw

LAMS = (0.1, 10.0)


@pytest.fixture(scope="module")
def federation():
    return Federation.of(digits(), 4, 50, nu=0.1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Steps(tmp_path_factory.mktemp("steps"))


@pytest.fixture(scope="module")
def result(federation, kept):
    return writers(federation, lams=LAMS, steps=kept)


@pytest.fixture(scope="module")
def optima(result, kept):
    """The models themselves, by strength."""
    folder = kept.folder / "writers"
    return {lam: Optimum.load(folder / f"{name_of(lam)}.npz") for lam in result.lams.tolist()}


@pytest.fixture(scope="module")
def learned(federation):
    """The same users without every fifth image."""
    kept = np.arange(50) % 5 != 4
    users = [gc.Dataset(user.x[kept], user.y[kept]) for user in federation.users]
    return replace(federation, users=users)


def test_alone_is_what_each_would_learn_without_the_others(learned, optima):
    for user, theta in zip(learned.users, optima[ALONE].thetas, strict=True):
        own = optimum(gc.Problem(learned.loss, gc.HardConsensus(), [user], learned.nu))
        assert np.abs(own.rho - theta).max() < 1e-5


def test_pooled_is_what_one_user_with_all_data_would_learn(learned, optima):
    everything = gc.Dataset(
        np.vstack([user.x for user in learned.users]),
        np.concatenate([user.y for user in learned.users]),
    )
    ridge = learned.nu * len(learned.users)
    one = optimum(gc.Problem(learned.loss, gc.HardConsensus(), [everything], ridge))
    assert np.abs(one.rho - optima[POOLED].rho).max() < 1e-5


def test_every_optimum_is_certified(learned, result, optima):
    for lam, certificate in zip(result.lams.tolist(), result.certificates, strict=True):
        found = optima[lam]
        problem, frozen = tied(learned, lam)
        again = gc.certify(problem, found.rho, list(found.thetas), attacker=frozen)
        assert again.distance == pytest.approx(certificate.distance)
        assert again.distance < 1e-4
        assert again.relative_gap < 1e-11


def test_shares_are_of_images_that_were_held_out(federation, result, optima):
    assert list(result.images) == [40] * 4
    assert list(result.held) == [10] * 4
    for row, lam in enumerate(result.lams.tolist()):
        for n, user in enumerate(federation.users):
            theta = optima[lam].thetas[n]
            named = np.argmax(user.x[4::5] @ theta[:-1] + theta[-1], axis=1)
            assert result.personal[row, n] == np.mean(named == user.y[4::5])
    assert math.isnan(result.shared[0])
    # Under consensus the shared model is everybody's own.
    assert result.shared[-1] == pytest.approx(result.mean(result.personal)[-1])


@pytest.fixture(scope="module")
def attack(learned, optima):
    """The attack under the first strength, made anew."""
    target = np.roll(optima[0.1].rho, 1, axis=1)
    return gc.poison(tied(learned, 0.1)[0], target - target.mean(axis=1, keepdims=True))


def test_the_target_is_what_shifted_labels_would_teach(learned, attack):
    relabeled = optimum(replace(learned, lam=0.1).relabeled())
    assert np.abs(attack.target - relabeled.rho).max() < 1e-5


def test_an_attack_takes_its_points_and_no_fewer(learned, result, attack):
    first = result.attacks[0]
    assert (first.points, first.lower_bound) == (attack.n_points, attack.lower_bound)
    for each in result.attacks:
        assert each.lower_bound <= each.points <= each.lower_bound + 22  # 2 K + 2 (T3.4)
        each.certificate.require(1e-6)
    # The same points once less, and the target is no optimum.
    few = gc.Dataset(attack.dataset.x, attack.dataset.y, np.maximum(attack.dataset.counts // 2, 1))
    halved = learned.problem(gc.SquaredL2(0.1)).with_user(few, learned.nu)
    with pytest.raises(gc.CertificateError):
        gc.certify(halved, attack.target, attack.thetas).require(1e-6)


def test_looser_ties_pass_on_less_of_an_attack(result):
    before, after = result.mean(result.personal), result.mean(result.attacked)
    assert after[0] == before[0]
    assert after[1] > 0.5
    assert (after[2:] < 0.2).all()
    assert all(attack.shared < 0.2 for attack in result.attacks)
    assert result.attacks[-1].shared == pytest.approx(after[-1])


def test_a_tie_moves_a_model_by_no_more_than_its_pull(learned, attack, optima):
    # A model reports 2 lam |rho - theta|, and its loss is 2 nu-strongly convex.
    for theta, alone in zip(attack.thetas, optima[ALONE].thetas, strict=False):
        pulled = 0.1 / learned.nu * np.linalg.norm(attack.target - theta)
        assert np.linalg.norm(theta - alone) <= pulled


def test_harm_is_by_how_many_images_a_writer_has(result):
    few_first = replace(result, images=np.array([9, 7, 8, 6]))
    taken = result.personal - result.attacked
    expected = np.stack([taken[:, [1, 3]].mean(axis=1), taken[:, [0, 2]].mean(axis=1)], axis=1)
    assert np.allclose(few_first.harm(2), expected)
    assert (result.harm()[0] == 0.0).all()  # nobody reaches those who are alone


def test_averages_are_over_blocks():
    images = np.arange(32.0).reshape(2, 16)
    small = averaged(images, (4, 4), 2)
    assert small.tolist() == [[2.5, 4.5, 10.5, 12.5], [18.5, 20.5, 26.5, 28.5]]
    assert np.array_equal(averaged(images, (4, 4), 1), images)


def test_what_is_saved_comes_back(result, tmp_path):
    assert_same(Writers.load(result.save(tmp_path / "result.npz")), result)


def test_an_interrupted_run_goes_on_to_the_same_result(federation, result, tmp_path):
    done = []

    def stop(name):
        done.append(name)
        if name == "one model, attacked":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writers(federation, lams=LAMS, steps=Steps(tmp_path, on_step=stop))
    again = writers(federation, lams=LAMS, steps=Steps(tmp_path, on_step=done.append))
    assert len(done) == 7 + 1  # each once, but for the one that was interrupted
    assert_same(again, result)


def test_the_figure_shows_the_result(result):
    figure = draw(result)
    left, middle, right = figure.axes
    assert left.get_title(loc="left") == "Nobody attacks"
    drawn = {line.get_label(): line.get_ydata() for line in left.lines}
    assert list(drawn["own model, own held-out images"]) == list(result.mean(result.personal))
    medians = [line.get_ydata()[0] for line in middle.lines if line.get_marker() == "o"]
    assert medians == list(np.median(result.attacked, axis=1))
    assert list(right.lines[0].get_ydata()) == [attack.points for attack in result.attacks]
    assert [text.get_text() for text in middle.get_legend().get_texts()] == ["before", "attacked"]


@pytest.mark.parametrize("lams", [(0.0, 1.0), (2.0, 1.0), (-1.0,), (1.0, math.inf)])
def test_senseless_strengths_are_refused(federation, lams):
    with pytest.raises(gc.InvalidInputError, match="ascending"):
        writers(federation, lams=lams)


def test_writers_without_an_image_to_hold_out_are_refused(federation):
    with pytest.raises(gc.InvalidInputError, match="at least 5 images"):
        writers(Federation.of(digits(), 5, 4), lams=LAMS)
