"""Model to data in the limit: points labeled by a model teach it, the more the better."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

import gplconvex as gc
from gplconvex.honest import LAWS
from gplconvex.regularizers import norm

LEAST_SQUARES_AND_LOGISTIC = (
    gc.LeastSquares(),
    gc.LeastSquares(intercept=True),
    gc.Logistic(),
    gc.Logistic(intercept=True),
)
LOSSES = (
    *LEAST_SQUARES_AND_LOGISTIC,
    gc.Poisson(),
    gc.Poisson(intercept=True),
    gc.Softmax(3),
    gc.Softmax(3, intercept=True),
)
INTERCEPT = gc.Softmax(4, intercept=True)


def model(loss: gc.Loss, seed: int, d: int = 3) -> np.ndarray:
    """A model; of those that differ by the gauge only, the one that a small ridge chooses."""
    theta = 0.6 * np.random.default_rng(seed).normal(size=loss.shape(d))
    return theta - theta.mean(axis=1, keepdims=True) if theta.ndim == 2 else theta


def learned(loss: gc.Loss, data: gc.Dataset) -> np.ndarray:
    """What a user learns alone from the points: the ridge moves it by about 1e-4 / n."""
    problem = gc.Problem(loss, gc.SquaredL2(1.0), [data], nu=1e-5)
    return gc.solve(problem).require_optimal().rho


# -- labels drawn from the model -----------------------------------------------------------------------


def scores(loss: gc.Loss, drawn_at: np.ndarray, z: np.ndarray, m: int = 40_000) -> Any:
    """Residuals at z of many labels drawn at a predictor, and the mean of their curvature."""
    y = loss.draw_labels(np.tile(drawn_at, (m,) + (1,) * drawn_at.ndim), np.random.default_rng(0))
    assert loss.accepts(y).all()
    tiled = np.tile(z, (m,) + (1,) * z.ndim)
    return loss.residual(tiled, y), loss.curvature(tiled, y).mean(axis=0)


def predictors(loss: gc.Loss) -> list[np.ndarray]:
    rows = np.random.default_rng(1).normal(size=(4, *loss.shape(1)[1:]))
    return list(2.0 * rows)


@pytest.mark.parametrize("loss", LOSSES[::2], ids=repr)
def test_the_score_has_mean_0_and_the_curvature_as_its_variance(loss: gc.Loss) -> None:
    """Bartlett's identities, which hold of no other distribution of the labels in the family."""
    for z in predictors(loss):
        w, curvature = scores(loss, z, z)
        allowed = 5.0 * np.sqrt(np.max(np.atleast_1d(curvature)) / len(w))
        assert np.abs(w.mean(axis=0)).max() <= allowed
        np.testing.assert_allclose(np.cov(w.T), curvature, rtol=0.05, atol=allowed)


@pytest.mark.parametrize("loss", LOSSES[::2], ids=repr)
def test_labels_of_another_predictor_have_another_score(loss: gc.Loss) -> None:
    """Negative control."""
    for z in predictors(loss):
        other = z + 0.3 * np.arange(1.0, 1.0 + z.size).reshape(z.shape)
        w, curvature = scores(loss, other, z)
        assert np.abs(w.mean(axis=0)).max() > 5.0 * np.sqrt(np.max(curvature) / len(w))


def test_predictors_of_any_size_have_labels() -> None:
    rng = np.random.default_rng(0)
    z = np.array([-1e100, -1000.0, 1000.0, 1e100])
    assert np.array_equal(gc.Logistic().draw_labels(z, rng), [-1.0, -1.0, 1.0, 1.0])
    assert np.array_equal(gc.Softmax(4).draw_labels(np.diag(z + 2e100), rng), [0, 1, 2, 3])
    assert np.array_equal(gc.Poisson().draw_labels(z[:2], rng), [0.0, 0.0])
    assert gc.Poisson().draw_labels(np.array([34.5]), rng) == pytest.approx(math.exp(34.5), 1e-6)
    for far in (35.0, 1000.0):
        with pytest.raises(gc.InvalidInputError, match="Scale theta down"):
            gc.Poisson().draw_labels(np.array([0.0, far]), rng)
    with pytest.raises(gc.InvalidInputError, match=r"z up to 34\.5"):
        gc.honest_dataset(gc.Poisson(), [100.0], 10, seed=0)


def test_a_loss_without_a_model_of_labels_says_so() -> None:
    class Silent(gc.LeastSquares):
        draw_labels = gc.Loss.draw_labels

    with pytest.raises(gc.UnsupportedCombinationError, match="draw_labels"):
        gc.honest_dataset(Silent(), [1.0], 10, seed=0)


def test_inputs_are_standard_normal() -> None:
    x = gc.honest_dataset(gc.LeastSquares(), np.ones(3), 40_000, seed=0).x
    assert np.abs(x.mean(axis=0)).max() <= 5.0 / math.sqrt(40_000)
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=0.05)
    assert np.mean(np.abs(x) < 1.0) == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.01)


PROXIES = {"normal": 1.0, "uniform": 1.0, "rademacher": 1.0, "contaminated": 5.0}
"""kappa of every law."""

KURTOSES = {"normal": 3.0, "uniform": 15.0 / 7.0, "rademacher": 1.0, "contaminated": 25.0 / 3.0}
"""E x_1^4 in 3 dimensions: of the ball of radius sqrt 5, 5^2 * 3 / (5 * 7)."""


@pytest.mark.parametrize("law", LAWS)
def test_laws_by_their_moments(law: str) -> None:
    x = LAWS[law](np.random.default_rng(0), 60_000, 3)
    assert x.shape == (60_000, 3)
    assert np.abs(x.mean(axis=0)).max() <= 5.0 / math.sqrt(60_000)
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(3), atol=0.06)
    np.testing.assert_allclose(np.mean(x**4, axis=0), KURTOSES[law], rtol=0.06)


@pytest.mark.parametrize("law", LAWS)
def test_laws_are_sub_gaussian(law: str) -> None:
    """E exp(v.x) <= exp(kappa |v|^2 / 2), to 5 standard deviations; a smaller kappa fails for one."""
    x = LAWS[law](np.random.default_rng(1), 200_000, 3)
    axes = np.vstack([np.eye(3), np.ones((1, 3)) / math.sqrt(3.0)])
    exceeded = False
    for size in (0.3, 0.7, 1.2):
        terms = np.exp(size * x @ axes.T)
        mean, spread = terms.mean(axis=0), terms.std(axis=0) / math.sqrt(len(x))
        assert (mean <= math.exp(PROXIES[law] * size**2 / 2.0) + 5.0 * spread).all()
        exceeded |= bool((mean > math.exp(0.5 * size**2) + 5.0 * spread).any())
    assert exceeded == (law == "contaminated")


def test_laws_by_their_shapes() -> None:
    rng = np.random.default_rng(0)
    ball = LAWS["uniform"](rng, 20_000, 3)
    radius = np.linalg.norm(ball, axis=1) / math.sqrt(5.0)
    assert radius.max() <= 1.0
    assert np.quantile(radius**3, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    assert set(LAWS["rademacher"](rng, 100, 2).ravel()) == {-1.0, 1.0}
    heavy = LAWS["contaminated"](rng, 20_000, 3)
    squares = 1.8 * np.sum(heavy**2, axis=1)
    assert np.mean(squares > 25.0) == pytest.approx(0.1 * 0.43, abs=0.01)  # chi-square(3) > 25/9


@pytest.mark.parametrize("law", LAWS)
def test_noise_is_added_to_the_labels_of_least_squares(law: str) -> None:
    theta = np.array([1.0, -2.0])
    data = gc.honest_dataset(gc.LeastSquares(), theta, 40_000, seed=0, inputs=law, noise=law)
    xi = data.y - data.x @ theta
    assert np.abs(xi.mean()) <= 5.0 / math.sqrt(len(xi))
    assert np.mean(xi**2) == pytest.approx(1.0, abs=0.08)
    kurtosis = 1.8 if law == "uniform" else KURTOSES[law]  # in one dimension: an interval
    assert np.mean(xi**4) == pytest.approx(kurtosis, rel=0.15)
    np.testing.assert_allclose(data.x.T @ xi / len(xi), 0.0, atol=5.0 / math.sqrt(len(xi)))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("loss", LOSSES[::2], ids=repr)
def test_labels_follow_the_model_whatever_the_inputs(loss: gc.Loss, law: str) -> None:
    """At theta scores have mean 0 and the Hessian as their covariance; elsewhere they have not."""
    theta = 0.5 * model(loss, 2)
    data = gc.honest_dataset(loss, theta, 20_000, seed=0, inputs=law)
    local = gc.Problem(loss, gc.SquaredL2(1.0), [data]).locals[0]
    allowed = 5.0 * math.sqrt(np.trace(local.hessian(theta)))
    assert norm(local.gradient(theta)) <= allowed
    assert norm(local.gradient(theta + 0.3 * model(loss, 3))) > allowed


def test_the_default_is_normal_bit_for_bit() -> None:
    for loss in LOSSES:
        theta = model(loss, 1)
        named = gc.honest_dataset(loss, theta, 9, seed=4, inputs="normal", noise="normal")
        assert named == gc.honest_dataset(loss, theta, 9, seed=4)
        rng = np.random.default_rng(4)
        x = rng.standard_normal((9, 3))
        assert named == gc.Dataset(x, loss.draw_labels(loss.predictor(x, theta), rng))
        assert named != gc.honest_dataset(loss, theta, 9, seed=4, inputs="uniform")


@pytest.mark.parametrize("name", ["inputs", "noise"])
@pytest.mark.parametrize("value", ["cauchy", "", None, 1, ["normal"]])
def test_unknown_laws_are_refused(name: str, value: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match=f"{name} must be one of normal, uniform"):
        gc.honest_dataset(gc.LeastSquares(), [1.0], 3, seed=0, **{name: value})


def test_only_least_squares_has_noise_to_choose() -> None:
    for loss in LOSSES[2:]:
        with pytest.raises(gc.UnsupportedCombinationError, match="leave noise out"):
            gc.honest_dataset(loss, model(loss, 0), 3, seed=0, noise="uniform")


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_seed_is_a_dataset(loss: gc.Loss) -> None:
    makers = [gc.honest_dataset]
    if isinstance(loss, gc.Softmax):
        makers.append(gc.indifference_dataset)
    for make in makers:
        theta = model(loss, 0)
        kept = theta.copy()
        data = make(loss, theta, 7, seed=3)
        assert (data.n_rows, data.n_points, data.n_features) == (7, 7, 3)
        assert data == make(loss, theta.tolist(), np.int64(7), seed=np.int64(3))
        assert data != make(loss, theta, 7, seed=4)
        assert np.array_equal(theta, kept)
        loss.check_labels(data)


# -- the law of large numbers --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_error_falls_like_one_over_the_root_of_n(loss: gc.Loss) -> None:
    r"""n |theta_hat - theta|^2 has the mean tr Sigma^-1, for large n: the constant, not the rate only.

    Sigma comes from other inputs. Its trace of (K - 1)(d + 1) directions or fewer is met by the mean of
    16 seeds to about 0.2.
    """
    theta = model(loss, 1)
    x = np.random.default_rng(9).normal(size=(20_000, 3))
    z = loss.predictor(x, theta)
    sigma = loss.gram(x, loss.curvature(z, z)) / len(x)
    expected = np.trace(np.linalg.pinv(sigma, rcond=1e-9, hermitian=True))
    errors = {
        n: [
            norm(learned(loss, gc.honest_dataset(loss, theta, n, seed=s)) - theta)
            for s in range(16)
        ]
        for n in (400, 6400)
    }
    for n, off in errors.items():
        assert 0.5 <= n * np.mean(np.square(off)) / expected <= 1.8
    assert 2.5 <= np.mean(errors[400]) / np.mean(errors[6400]) <= 6.5  # the root of 16 is 4


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_points_that_another_model_labels_teach_the_other(loss: gc.Loss) -> None:
    """Negative control."""
    theta, other = model(loss, 1), model(loss, 2)
    found = learned(loss, gc.honest_dataset(loss, other, 6400, seed=0))
    assert norm(found - other) < 0.2 < 0.5 * norm(theta - other) < norm(found - theta)


# -- an attacker who owns honest points ----------------------------------------------------------------


def attacked(loss: gc.Loss) -> tuple[gc.Problem, np.ndarray, np.ndarray]:
    """Three users, a target that another report would reach, and the model whose report that is."""
    data = [gc.honest_dataset(loss, model(loss, 7), m, seed=m) for m in (12, 5, 8)]
    problem = gc.Problem(loss, gc.SquaredL2(0.6), data, nu=0.1)
    g = model(loss, 3)
    attack = gc.GradientAttack(3.0 * g / norm(g))
    target = gc.solve(problem, attacker=attack).require_optimal().rho
    return problem, target, gc.to_model(problem, target, gc.required_gradient(problem, target))


def misses(
    problem: gc.Problem, target: np.ndarray, spade: np.ndarray, data: gc.Dataset
) -> tuple[float, float]:
    """How far rho and the attacker's model are from where they should be."""
    solution = gc.solve(problem.with_user(data, 0.1)).require_optimal()
    off, own = norm(solution.rho - target), norm(solution.thetas[-1] - spade)
    # Under squared l2, rho is a proximal map of the attacker's model: nonexpansive.
    assert off <= own + solution.certificate.distance + solution.certificate.theta_distances[-1]
    return off, own


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_the_poisoned_optimum_approaches_the_target(loss: gc.Loss) -> None:
    """And as a negative control, few points leave it where it is far away."""
    problem, target, spade = attacked(loss)
    away = norm(gc.solve(problem).rho - target)
    few, some, many = (
        np.sqrt(
            np.mean(
                [
                    np.square(
                        misses(problem, target, spade, gc.honest_dataset(loss, spade, n, seed=s))
                    )
                    for s in range(8)
                ],
                axis=0,
            )
        )
        for n in (5, 500, 8000)
    )
    assert few[0] > 0.3 * away
    assert many[0] < 0.06 * away
    assert few[1] > 2.0 * some[1] > 4.0 * many[1]


@pytest.mark.parametrize("loss", LEAST_SQUARES_AND_LOGISTIC, ids=repr)
def test_what_honest_points_approach_few_made_points_hit(loss: gc.Loss) -> None:
    problem, target, spade = attacked(loss)
    attack = gc.poison(problem, target)
    assert norm(attack.theta - spade) <= 1e-12
    exactly = misses(problem, target, spade, attack.dataset)[0]
    nearly = misses(problem, target, spade, gc.honest_dataset(loss, spade, 8000, seed=0))[0]
    assert attack.n_points < 100
    assert exactly < 1e-9 < 1e-4 < nearly


# -- the published recipe ------------------------------------------------------------------------------


def dependent(d: int, rank: int, n_classes: int, seed: int, ties: bool) -> np.ndarray:
    """A model whose columns differ in ``rank`` directions, and tie somewhere or nowhere."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=(d, rank)) @ rng.normal(size=(rank, n_classes))
    intercept = slopes.T @ rng.normal(size=d) if ties else rng.normal(size=n_classes)
    common = rng.normal(size=d + 1)[:, None]
    return np.vstack([slopes, intercept]) + common


TYING = {
    "generic": (gc.Softmax(4), model(gc.Softmax(4), 0, 6)),
    "intercept": (INTERCEPT, model(INTERCEPT, 0, 6)),
    "two classes": (gc.Softmax(2, intercept=True), model(gc.Softmax(2, intercept=True), 0, 5)),
    "one feature": (gc.Softmax(2, intercept=True), [[1.0, 3.0], [0.0, 1.0]]),
    "as many conditions as features": (INTERCEPT, model(INTERCEPT, 1, 3)),
    "more conditions than features": (gc.Softmax(4), model(gc.Softmax(4), 0, 2)),
    "more conditions than features, and they agree": (INTERCEPT, dependent(2, 2, 4, 0, True)),
    "dependent conditions that agree": (INTERCEPT, dependent(6, 2, 4, 1, True)),
    "far from the center": (INTERCEPT, 1e-3 * model(INTERCEPT, 2, 5) + np.eye(6)[:, -1:] * 1e3),
    "large": (INTERCEPT, 1e130 * model(INTERCEPT, 3, 5)),
    "zero": (INTERCEPT, np.zeros((4, 4))),
    "equal columns": (INTERCEPT, np.full((4, 4), 0.1)),
}


@pytest.mark.parametrize("noise", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(("loss", "theta"), TYING.values(), ids=TYING.keys())
def test_the_gradient_is_zero_where_the_labels_are_the_model(
    loss: gc.Softmax, theta: Any, noise: float
) -> None:
    theta = np.array(theta)
    data = gc.indifference_dataset(loss, theta, 50, seed=0, noise=noise)
    design = np.hstack([data.x, np.ones((50, 1))]) if loss.intercept else data.x
    z = design @ theta
    rounding = 1e-13 * np.max((50.0 + np.abs(design)) @ np.abs(theta))  # inputs come from the cube
    if noise == 0.0:
        assert np.ptp(z, axis=1).max() <= rounding
    if rounding < 1e-6:
        np.testing.assert_allclose(data.y, softmax(z, axis=1), atol=rounding + 1e-15)
    local = gc.Problem(loss, gc.SquaredL2(1.0), [data]).locals[0]
    assert norm(local.gradient(theta)) <= 1e-13 * norm(design)
    if noise > 0.0:
        other = theta + max(1.0, norm(theta)) * np.eye(*theta.shape)
        assert norm(local.gradient(other)) > 1e-3


@pytest.mark.parametrize(
    "theta",
    [
        dependent(2, 2, 4, 0, False),
        dependent(6, 2, 4, 1, False),
        dependent(1, 1, 4, 2, False),
        np.vstack([np.zeros((3, 4)), np.arange(4.0)]),
        np.vstack([np.full((3, 4), 0.1), np.arange(4.0)]),
        np.vstack([1e-139 * np.eye(4), 1e3 * np.arange(4.0)]),
    ],
)
def test_where_no_tie_exists_it_says_so(theta: np.ndarray) -> None:
    with pytest.raises(gc.InvalidInputError, match="all 4 classes tie"):
        gc.indifference_dataset(INTERCEPT, theta, 10, seed=0)
    gc.honest_dataset(INTERCEPT, theta, 10, seed=0)
    gc.indifference_dataset(gc.Softmax(4), theta[:-1], 10, seed=0)  # 0 always ties


def test_points_are_uniform_along_the_ties_and_normal_across() -> None:
    """Covariance a^2/3 along, noise^2 across, mean the tie nearest to 0; with other formulas."""
    theta = model(INTERCEPT, 4, 6)
    data = gc.indifference_dataset(INTERCEPT, theta, 40_000, seed=0, half_width=3.0, noise=0.2)
    centered = theta - theta.mean(axis=1, keepdims=True)
    inverse = np.linalg.pinv(centered[:-1].T)
    across = inverse @ centered[:-1].T
    assert np.linalg.matrix_rank(across) == 3
    np.testing.assert_allclose(data.x.mean(axis=0), -inverse @ centered[-1], atol=0.05)
    covariance = 3.0 * (np.eye(6) - across) + 0.04 * across
    np.testing.assert_allclose(np.cov(data.x.T), covariance, atol=0.06)
    np.testing.assert_allclose(across @ np.cov(data.x.T) @ across, 0.04 * across, atol=1e-3)


def test_one_coordinate_decides() -> None:
    """Two classes that x0 = 2 tells apart: other coordinates fill the interval, x0 has the noise."""
    theta = np.array([[0.0, 3.0], [1.0, 1.0], [5.0, -1.0]])
    data = gc.indifference_dataset(gc.Softmax(2, intercept=True), theta, 10_000, seed=0)
    assert np.std(data.x[:, 0]) == pytest.approx(0.01, rel=0.03)
    assert np.mean(data.x[:, 0]) == pytest.approx(2.0, abs=5e-4)
    assert 49.9 < data.x[:, 1].max() <= 50.0
    assert -50.0 <= data.x[:, 1].min() < -49.9


@pytest.mark.parametrize("entry", [0.0, 0.1])
def test_where_columns_are_equal_the_cube_itself_is_labeled_evenly(entry: float) -> None:
    theta = np.full((2, 3), entry)
    data = gc.indifference_dataset(gc.Softmax(3), theta, 10_000, seed=0, half_width=2.0)
    assert np.array_equal(data.y, np.full((10_000, 3), 1.0 / 3.0))
    assert 1.99 < np.abs(data.x).max() <= 2.0
    np.testing.assert_allclose(np.cov(data.x.T), np.eye(2) * 4.0 / 3.0, atol=0.05)


def test_the_model_is_learned_from_a_few_points() -> None:
    """Alone and almost without ridge, once the inputs span the space; no chance is left."""
    for loss in (gc.Softmax(4), INTERCEPT):
        theta = model(loss, 5, 6)
        data = gc.indifference_dataset(loss, theta, 40, seed=0, half_width=2.0, noise=1.0)
        problem = gc.Problem(loss, gc.SquaredL2(1.0), [data], nu=1e-9)
        assert norm(gc.solve(problem).require_optimal().rho - theta) < 1e-5
        drawn = gc.honest_dataset(loss, theta, 40, seed=0)
        problem = gc.Problem(loss, gc.SquaredL2(1.0), [drawn], nu=1e-2)
        assert norm(gc.solve(problem).require_optimal().rho - theta) > 0.1


def test_without_noise_every_multiple_of_the_model_is_as_good() -> None:
    """Negative control: why the recipe leaves the subspace."""
    theta = model(INTERCEPT, 6, 6)
    for noise, least, most in ((0.0, 0.0, 1e-9), (0.5, 1.0, math.inf)):
        data = gc.indifference_dataset(INTERCEPT, theta, 100, seed=0, noise=noise)
        local = gc.Problem(INTERCEPT, gc.SquaredL2(1.0), [data]).locals[0]
        for factor in (0.0, -1.0, 3.0):
            assert least <= norm(local.gradient(factor * theta)) <= most


def test_the_error_falls_like_one_over_n() -> None:
    r"""Residuals at theta_spade are 0, not random: the pull is outweighed n times, not root n times."""
    for loss in (gc.Softmax(3), gc.Softmax(3, intercept=True)):
        problem, target, spade = attacked(loss)
        some, many = (
            misses(
                problem,
                target,
                spade,
                gc.indifference_dataset(loss, spade, n, seed=0, half_width=3.0, noise=0.5),
            )
            for n in (2000, 20_000)
        )
        assert 8.0 <= some[0] / many[0] <= 12.5
        assert many[0] < 0.01


def test_small_noise_holds_the_model_weakly() -> None:
    r"""The curvature across the ties is n noise^2 / K: with 0.01, a GPL problem pulls theta away."""
    loss = gc.Softmax(3, intercept=True)
    problem, target, spade = attacked(loss)
    data = gc.indifference_dataset(loss, spade, 2000, seed=0)
    slopes = spade[:-1] - spade[:-1].mean(axis=1, keepdims=True)
    v = loss.predictor(data.x, spade)  # at a tie all are equal: what is left is across
    v -= v.mean(axis=1, keepdims=True)
    curvature = np.sum(loss.jet(loss.predictor(data.x, spade), data.y, v)[2])
    assert curvature == pytest.approx(2000 * 0.01**2 / 3 * norm(slopes) ** 2, rel=0.05)
    away = norm(gc.solve(problem).rho - target)
    assert misses(problem, target, spade, data)[0] > 0.3 * away


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "softmax"},
        {"loss": gc.Softmax},
        {"loss": None},
        {"theta": [1.0, 2.0]},
        {"theta": 1.0},
        {"theta": np.ones((3, 3))},
        {"theta": np.ones((2, 3, 2))},
        {"theta": np.empty((0, 2))},
        {"theta": [[1.0, math.nan]]},
        {"theta": [[1.0, math.inf]]},
        {"theta": [[1.0, 1e141]]},
        {"theta": [["a", "b"]]},
        {"loss": gc.Softmax(2, intercept=True), "theta": [[1.0, 2.0]]},
        {"n_points": 0},
        {"n_points": -1},
        {"n_points": 3.0},
        {"n_points": True},
        {"n_points": "3"},
        {"seed": -1},
        {"seed": 1.0},
        {"seed": None},
        {"seed": False},
        {"seed": np.random.default_rng(0)},
    ],
    ids=lambda change: str(change).split(" at ")[0],
)
@pytest.mark.parametrize("make", [gc.honest_dataset, gc.indifference_dataset])
def test_bad_input_is_refused(make: Any, change: dict[str, Any]) -> None:
    arguments = {"loss": gc.Softmax(2), "theta": np.ones((3, 2)), "n_points": 3, "seed": 0}
    make(**arguments)
    with pytest.raises(gc.InvalidInputError, match="got"):
        make(**(arguments | change))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e141, "1", None, True, [1.0]])
@pytest.mark.parametrize("name", ["half_width", "noise"])
def test_bad_sizes_are_refused(name: str, value: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match=f"{name} must be a finite number"):
        gc.indifference_dataset(gc.Softmax(2), np.ones((3, 2)), 3, seed=0, **{name: value})


def test_a_loss_without_classes_has_no_ties() -> None:
    with pytest.raises(gc.UnsupportedCombinationError, match="honest_dataset"):
        gc.indifference_dataset(gc.Logistic(), [1.0], 3, seed=0)  # type: ignore[arg-type]


def test_the_seed_must_be_named() -> None:
    with pytest.raises(TypeError, match="seed"):
        gc.honest_dataset(gc.Logistic(), [1.0], 3)  # type: ignore[call-arg]
