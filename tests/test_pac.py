"""PAC* learning by its definitions: inequalities at many models, intervals by their tails, seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import gplconvex as gc
from gplconvex.honest import LAWS
from gplconvex.pac import (
    GradientPac,
    Proportion,
    estimate_gradient_pac,
    estimate_local_pac,
    fit_rate,
    gradient_pac,
)
from gplconvex.regularizers import norm

LOSSES = (
    gc.LeastSquares(),
    gc.LeastSquares(intercept=True),
    gc.Logistic(),
    gc.Logistic(intercept=True),
    gc.Poisson(),
)
LEAST_SQUARES = gc.LeastSquares()


def honest(
    loss: gc.Loss, d: int, n: int, seed: int = 0, law: str = "normal"
) -> tuple[gc.Dataset, np.ndarray]:
    p = d + loss.intercept
    theta = 0.7 * np.random.default_rng(seed).normal(size=p) / math.sqrt(p)
    return gc.honest_dataset(loss, theta, n, seed=seed, inputs=law), theta


def slopes(loss: gc.Loss, data: gc.Dataset, theta: np.ndarray, nu: float, u: np.ndarray) -> Any:
    r"""u . grad L(theta + u) for many u, (many, p), written out."""
    x = np.hstack([data.x, np.ones((data.n_rows, 1))]) if loss.intercept else data.x
    z, v = x @ (theta + u).T, x @ u.T
    y, c = data.y[:, None], data.counts[:, None]
    if isinstance(loss, gc.LeastSquares):
        w = z - y
    elif isinstance(loss, gc.Logistic):
        w = -y / (1.0 + np.exp(np.clip(y * z, None, 700.0)))
    else:
        w = np.exp(z) - y
    return np.sum(c * w * v, axis=0) + 2.0 * nu * np.sum((theta + u) * u, axis=1)


def everywhere(theta: np.ndarray, far: float, seed: int, extra: list[np.ndarray]) -> np.ndarray:
    """Steps from theta of all sizes, from 1e-6 to far, in random and in given directions."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(3000, theta.size))
    w = np.vstack([w, *[np.outer(np.ones(150), sign * v) for v in extra for sign in (1.0, -1.0)]])
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    r = np.exp(rng.uniform(math.log(1e-6), math.log(far), len(w)))
    r[::5] = rng.uniform(0.0, 2.0, len(r[::5]))
    r[::7] = 1.0
    return w * r[:, None]


def excess(found: GradientPac, A: float, B: float, alpha: float, u: Any, slope: Any) -> Any:
    """By how much the inequality holds, relative to its right side's terms."""
    r, n = np.linalg.norm(u, axis=1), found.n_points
    gained, lost = A * n * np.minimum(r, r * r), B * n**alpha * r
    return (slope - gained + lost) / (gained + lost + 1e-300)


# -- gradient-PAC* by its definition -------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_inequality_holds_for_all_models(loss: gc.Loss, d: int) -> None:
    """Near, at distance 1 and far; along what the data hold least, and against the gradient."""
    for seed, nu in ((0, 0.0), (1, 0.3)):
        law = list(LAWS)[(d + seed) % 4]
        data, theta = honest(loss, d, 60, seed, law)
        found = gradient_pac(loss, data, theta, nu=nu)
        gradient = gc.Problem(loss, gc.L2(1.0), [data], nu).locals[0].gradient(theta)
        axes = list(np.linalg.eigh(loss.gram(data.x, np.ones(60)))[1].T)
        far = 5.0 if isinstance(loss, gc.Poisson) else 1e4
        u = everywhere(theta, far, seed, [found.witness - theta, gradient, *axes])
        slope = slopes(loss, data, theta, nu, u)
        for alpha in (0.0, 0.5, 0.75):
            A, B = found.constants(alpha)
            assert A > 0.0
            assert found.holds(A, B, alpha) is True
            assert excess(found, A, B, alpha, u, slope).min() >= -1e-9
            wider = (3.0 * B, A + 2.0 * B * found.n_points ** (alpha - 1.0))
            assert found.holds(wider[1] * (1 - 1e-9), wider[0], alpha) is True
            assert excess(found, wider[1], wider[0], alpha, u, slope).min() >= -1e-9


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_larger_constants_fail_where_it_says(loss: gc.Loss) -> None:
    """Negative control: too large an A at the witness, too small a B near theta."""
    data, theta = honest(loss, 3, 80)
    found = gradient_pac(loss, data, theta)
    n, (A, B) = found.n_points, found.constants(0.6)
    u = (found.witness - theta)[None]
    assert norm(u) == pytest.approx(1.0, rel=1e-12)
    too_much = (found.gradient_norm + found.found_slope) / n * (1.0 + 1e-9)
    assert found.holds(too_much, B, 0.6) is False
    assert excess(found, too_much, B, 0.6, u, slopes(loss, data, theta, 0.0, u))[0] < 0.0
    assert found.holds(1e-6, 0.99 * B, 0.6) is False
    gradient = gc.Problem(loss, gc.L2(1.0), [data]).locals[0].gradient(theta)
    u = -1e-4 * (gradient / norm(gradient))[None]
    assert excess(found, 1e-6, 0.99 * B, 0.6, u, slopes(loss, data, theta, 0.0, u))[0] < 0.0
    between = (found.gradient_norm + 0.5 * (found.least_slope + found.found_slope)) / n
    assert found.holds(between, B, 0.6) is (None if found.least_slope < found.found_slope else True)
    assert found.holds(0.5 * A, 2.0 * B, 0.6) is True


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("loss", LOSSES[:4:2], ids=repr)
def test_the_least_slope_in_the_plane(loss: gc.Loss, law: str) -> None:
    """Against all directions of a fine grid: exact for least squares, a bound for logistic."""
    angles = np.linspace(0.0, 2.0 * math.pi, 5001)
    u = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for seed in range(2):
        data, theta = honest(loss, 2, 400, seed, law)
        found = gradient_pac(loss, data, theta)
        least = slopes(loss, data, theta, 0.0, u).min()
        assert found.found_slope == pytest.approx(least, rel=1e-5, abs=1e-4)
        assert found.least_slope <= least
        if isinstance(loss, gc.LeastSquares):
            assert found.least_slope == pytest.approx(found.found_slope, rel=1e-10)
        else:
            assert found.gradient_norm + found.least_slope > 0.5 * (found.gradient_norm + least)


@pytest.mark.parametrize("z", [-4.0, -1.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("x", [-2.5, 0.1, 3.0])
def test_one_point_by_the_least_chord_of_the_residual(z: float, x: float) -> None:
    """Up to 3 % for cells, and never above; whichever of the two ends has it."""
    residuals: list[tuple[gc.Loss, float, Any]] = [
        (gc.Logistic(), 1.0, lambda at: -1.0 / (1.0 + math.exp(at))),
        (gc.Logistic(), -1.0, lambda at: 1.0 / (1.0 + math.exp(-at))),
        (gc.Poisson(), 0.0, math.exp),
        (gc.Poisson(), 4.0, lambda at: math.exp(at) - 4.0),
    ]
    for loss, y, w in residuals:
        chord = min((w(z + s) - w(z)) / s for s in (abs(x), -abs(x)))
        found = gradient_pac(loss, gc.Dataset([[x]], [y]), [z / x])
        expected = chord * x * x - abs(x * w(z))
        assert expected - 0.03 * chord * x * x <= found.least_slope <= expected + 1e-12


def test_least_squares_is_exact_in_any_dimension() -> None:
    """Also where the gradient is orthogonal to what the data hold least, and where it is 0."""
    x = np.diag([1.0, 2.0, 3.0])
    for gradient in ([0.0, 1.0, 0.0], [0.0, 50.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, -1.0]):
        data = gc.Dataset(x, -np.linalg.solve(x, gradient))
        found = gradient_pac(LEAST_SQUARES, data, np.zeros(3))
        assert found.least_slope == pytest.approx(found.found_slope, rel=1e-7, abs=1e-9)
        assert found.gradient_norm == pytest.approx(np.linalg.norm(gradient), abs=1e-12)
    for d in (1, 3, 8, 20):
        data, theta = honest(LEAST_SQUARES, d, 40, d)
        found = gradient_pac(LEAST_SQUARES, data, theta)
        assert found.least_slope == pytest.approx(found.found_slope, rel=1e-9)
        least = np.linalg.eigvalsh(data.x.T @ data.x)[0]
        assert found.gradient_norm + found.least_slope >= least * (1.0 - 1e-12)


def test_counts_and_rows_are_the_same() -> None:
    for loss in LOSSES:
        data, theta = honest(loss, 2, 20)
        twice = gc.Dataset(data.x, data.y, counts=np.full(20, 2))
        rows = gc.Dataset(np.repeat(data.x, 2, axis=0), np.repeat(data.y, 2))
        a, b = (gradient_pac(loss, each, theta) for each in (twice, rows))
        assert a.n_points == b.n_points == 40
        assert a.constants(0.5) == pytest.approx(b.constants(0.5), rel=1e-9)


def test_points_that_do_not_span_the_space_hold_nothing() -> None:
    """Negative control: without E x x^T > 0 there is no A."""
    data = gc.Dataset([[1.0, 1.0], [-2.0, -2.0]], [0.3, 0.1])
    found = gradient_pac(LEAST_SQUARES, data, [0.0, 0.0])
    B = found.constants(0.5)[1]
    idle = B / math.sqrt(2.0)  # A I = B I^alpha, where the right side is never positive
    assert found.holds(0.99 * idle, B, 0.5) is True
    assert found.holds(1.01 * idle, B, 0.5) is False
    assert found.distance_bound(0.0) == math.inf


# -- from gradients to distances -----------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", [gc.L2(1.5), gc.SmoothL2(1.5, delta=0.1)], ids=repr)
@pytest.mark.parametrize("loss", LOSSES[:4], ids=repr)
def test_honest_optima_keep_within_the_bound(loss: gc.Loss, regularizer: gc.Regularizer) -> None:
    """Wherever the others drag rho to; and as a negative control, not under squared l2."""
    data, theta = honest(loss, 2, 300)
    bound = gradient_pac(loss, data, theta).distance_bound(1.5)
    assert bound < 1.0
    rng = np.random.default_rng(0)
    for size in (1.0, 1e3, 1e6):
        rho = size * rng.normal(size=theta.size)
        reply = gc.moreau_envelope(gc.Problem(loss, regularizer, [data]), 0, rho).theta
        assert norm(reply - theta) <= bound
    squared = gc.Problem(loss, gc.SquaredL2(1.5), [data])
    assert norm(gc.moreau_envelope(squared, 0, rho).theta - theta) > bound


def test_the_bound_is_attained_on_the_line() -> None:
    data = gc.Dataset([[2.0], [1.0]], [1.0, 0.5])
    found = gradient_pac(LEAST_SQUARES, data, [0.0])
    reply = gc.moreau_envelope(gc.Problem(LEAST_SQUARES, gc.L2(1.0), [data]), 0, [1e6]).theta
    assert reply[0] == pytest.approx(found.distance_bound(1.0), rel=1e-10)
    assert found.distance_bound(0.0) == pytest.approx(0.5)
    assert found.distance_bound(2.5) == math.inf
    assert found.distance_bound(math.inf) == math.inf


# -- intervals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_intervals_by_their_tails_and_their_coverage(n: int, confidence: float) -> None:
    intervals = [Proportion(k, n).interval(confidence) for k in range(n + 1)]
    tail = (1.0 - confidence) / 2.0
    for k, (low, high) in enumerate(intervals):
        assert low <= k / n <= high
        if k:
            assert stats.binom.sf(k - 1, n, low) == pytest.approx(tail, rel=1e-6)
        if k < n:
            assert stats.binom.cdf(k, n, high) == pytest.approx(tail, rel=1e-6)
    assert intervals[0] == (0.0, pytest.approx(1.0 - tail ** (1.0 / n)))
    for p in np.linspace(0.001, 0.999, 333):
        covering = [k for k, (low, high) in enumerate(intervals) if low <= p <= high]
        assert stats.binom.pmf(covering, n, p).sum() >= confidence - 1e-12


def test_undecided_trials_widen_the_interval() -> None:
    low, high = Proportion(8, 10, 1).interval()
    assert (low, high) == (Proportion(8, 10).interval()[0], Proportion(9, 10).interval()[1])


# -- how often points are gradient-PAC* ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "A", "B"), [(LEAST_SQUARES, 0.7, 0.4), (gc.Logistic(), 0.08, 0.15)], ids=repr
)
def test_the_probability_tends_to_one(loss: gc.Loss, A: float, B: float) -> None:
    """And for least squares every case is decided."""
    found = estimate_gradient_pac(
        loss, [0.6, -0.4], [10, 100, 800], A=A, B=B, alpha=0.9, n_trials=25, seed=1
    )
    assert (found.A, found.B, found.alpha, found.sizes) == (A, B, 0.9, (10, 100, 800))
    few, _, many = found.proportions
    assert few.interval(0.99)[1] < 0.95
    assert many.successes == 25
    if loss is LEAST_SQUARES:
        assert not any(proportion.undecided for proportion in found.proportions)


def test_at_one_half_it_tends_to_a_limit_below_one_and_below_that_to_zero() -> None:
    r"""Negative control: :math:`|\nabla L|^2 / I` tends to a chi-square law of d degrees."""
    exponents = {}
    for alpha in (0.3, 0.5, 0.7):
        (exponents[alpha],) = estimate_gradient_pac(
            LEAST_SQUARES, [1.0, 1.0], [600], A=0.5, B=1.5, alpha=alpha, n_trials=60, seed=3
        ).proportions
    limit = stats.chi2.cdf(1.5**2, 2)
    low, high = exponents[0.5].interval(0.999)
    assert low < limit < high < 0.95
    assert exponents[0.3].interval()[1] < 0.25
    assert exponents[0.7].successes == 60


# -- local PAC* ----------------------------------------------------------------------------------------

MODELS = np.array([[1.0, 0.0], [0.0, -1.0]])
FAR = gc.ModelAttack([30.0, 40.0])


@pytest.mark.parametrize("loss", [LEAST_SQUARES, gc.Logistic()], ids=repr)
@pytest.mark.parametrize(
    ("regularizer", "law"), [(gc.L2(1.0), "normal"), (gc.SmoothL2(1.0), "contaminated")], ids=repr
)
def test_honest_users_learn_their_models_whatever_the_others_do(
    loss: gc.Loss, regularizer: gc.Regularizer, law: str
) -> None:
    """Each its own, and at the rate of one over the root."""
    sizes = (40, 200, 1000)
    found = estimate_local_pac(
        loss, regularizer, MODELS, sizes, attack=FAR, n_trials=5, seed=0, inputs=law
    )
    assert found.distances.shape == found.errors.shape == found.bounds.shape == (3, 5, 2)
    assert (found.distances - found.errors <= found.bounds).all()
    assert np.isfinite(found.bounds[-1]).all()
    epsilon = 0.4 if isinstance(loss, gc.Logistic) else 0.15
    few, _, many = found.proportions(epsilon)
    assert few.successes < many.successes == 5
    assert many.undecided == 0
    rate = found.rate()
    assert abs(rate.exponent + 0.5) <= 4.0 * rate.standard_error < 0.8


def test_an_attack_may_look_at_the_points() -> None:
    """Of two attackers under l2 the best for a target far away: against theta, with all they have."""
    seen = []

    def against(problem: gc.Problem) -> gc.ModelAttack:
        seen.append(problem)
        return gc.ModelAttack(-50.0 * MODELS.mean(axis=0), gc.L2(1.5))

    found = estimate_local_pac(
        LEAST_SQUARES, gc.L2(1.0), MODELS, [300], attack=against, n_trials=3, seed=0
    )
    other = estimate_local_pac(
        LEAST_SQUARES, gc.L2(1.0), MODELS, [300], attack=FAR, n_trials=3, seed=0
    )
    assert [problem.n_users for problem in seen] == [2, 2, 2]
    assert (found.bounds == other.bounds).all()
    assert (found.distances != other.distances).any()
    assert (found.distances <= found.bounds).all()


def test_under_squared_l2_the_attack_must_not_grow_with_the_points() -> None:
    """What "whatever the others do" cannot mean: the same attack for all sizes, or one for each."""

    def growing_with_them(problem: gc.Problem) -> gc.GradientAttack:
        return gc.GradientAttack([2.0 * problem.datasets[0].n_points, 0.0])

    same, growing = (
        estimate_local_pac(
            LEAST_SQUARES,
            gc.SquaredL2(1.0),
            MODELS,
            [20, 200, 2000],
            attack=attack,
            n_trials=3,
            seed=0,
        )
        for attack in (gc.GradientAttack([3.0, 0.0]), growing_with_them)
    )
    assert np.isinf(same.bounds).all()
    assert same.proportions(0.2)[-1].successes == 3
    assert growing.distances.min() > 0.5


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_seed_is_an_experiment(loss: gc.Loss) -> None:
    models = 0.5 * np.ones((2, 2 + loss.intercept))
    options: dict[str, Any] = {"n_trials": 2, "nu": 0.01}
    both, again, other, alone = (
        estimate_local_pac(loss, gc.SmoothL2(1.0), models, sizes, seed=seed, **options)
        for sizes, seed in (((8, 16), 5), ((8, 16), 5), ((8, 16), 6), ((16,), 5))
    )
    assert np.array_equal(both.distances, again.distances)
    assert np.array_equal(both.distances[1], alone.distances[0])
    assert not np.isin(both.distances, other.distances).any()
    assert (
        len(np.unique(both.distances)) == both.distances.size
    )  # each user and trial its own points


def test_separable_points_without_ridge_are_undecided() -> None:
    found = estimate_local_pac(gc.Logistic(), gc.SquaredL2(1.0), [[8.0]], [2], n_trials=4, seed=0)
    (proportion,) = found.proportions(0.1)
    assert proportion.undecided > 0


def test_softmax_is_learned_too_but_has_no_such_constants() -> None:
    models = np.array([[[0.5, 0.0, -0.5], [0.0, 0.4, -0.4]]])
    found = estimate_local_pac(
        gc.Softmax(3), gc.L2(0.5), models, [50, 1500], n_trials=1, seed=0, nu=1e-3
    )
    assert found.distances[1].max() < 0.2 < found.distances[0].max()
    assert np.isinf(found.bounds).all()
    pushed = estimate_local_pac(  # negative control: what all columns have in common, nobody learns
        gc.Softmax(3),
        gc.SmoothL2(0.5),
        models,
        [1500],
        attack=gc.ModelAttack(models[0] + 1.0),
        n_trials=1,
        seed=0,
    )
    assert pushed.distances.min() >= math.sqrt(6.0) - 1e-6
    data = gc.honest_dataset(gc.Softmax(3), models[0], 10, seed=0)
    with pytest.raises(gc.UnsupportedCombinationError, match="columns"):
        gradient_pac(gc.Softmax(3), data, models[0])


def test_the_exponent_of_a_power() -> None:
    rng = np.random.default_rng(0)
    sizes = [10, 100, 1000, 10_000]
    values = 3.0 * np.array(sizes)[:, None] ** -0.7 * np.exp(0.1 * rng.normal(size=(4, 50)))
    rate = fit_rate(sizes, values)
    assert abs(rate.exponent + 0.7) <= 4.0 * rate.standard_error
    assert rate.standard_error == pytest.approx(
        0.1 / math.sqrt(50 * 4) / np.std(np.log(sizes)), rel=0.2
    )


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 2.0, math.nan, math.inf, "1", None, True])
def test_bad_exponents_are_refused(alpha: Any) -> None:
    found = gradient_pac(LEAST_SQUARES, *honest(LEAST_SQUARES, 1, 5))
    for call in (lambda: found.constants(alpha), lambda: found.holds(1.0, 1.0, alpha)):
        with pytest.raises(gc.InvalidInputError, match="alpha must be a number less than 1"):
            call()


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, None, "1"])
def test_bad_numbers_are_refused(value: Any) -> None:
    found = gradient_pac(LEAST_SQUARES, *honest(LEAST_SQUARES, 1, 5))
    for A, B in ((value, 1.0), (1.0, value)):
        with pytest.raises(gc.InvalidInputError, match="must be a number from 0"):
            found.holds(A, B, 0.5)
    with pytest.raises(gc.InvalidInputError, match="confidence"):
        Proportion(1, 2).interval(value)
    if value != math.inf:
        with pytest.raises(gc.InvalidInputError, match="radius"):
            found.distance_bound(value)
    experiment = estimate_local_pac(LEAST_SQUARES, gc.L2(1.0), [[1.0]], [5], n_trials=1, seed=0)
    with pytest.raises(gc.InvalidInputError, match="epsilon"):
        experiment.proportions(value)


def test_no_points_and_too_large_ones_are_refused() -> None:
    with pytest.raises(gc.InvalidInputError, match="empty"):
        gradient_pac(LEAST_SQUARES, gc.Dataset.empty(1), [0.0])
    with pytest.raises(gc.InvalidInputError, match="overflows"):
        gradient_pac(gc.Poisson(), gc.Dataset([[1000.0]], [0.0]), [1.0])
    with pytest.raises(gc.InvalidInputError, match="shape"):
        gradient_pac(LEAST_SQUARES, gc.Dataset([[1.0]], [0.0]), [1.0, 2.0])


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": []},
        {"sizes": [0]},
        {"sizes": [2.0]},
        {"sizes": [True]},
        {"n_trials": 0},
        {"n_trials": 1.5},
        {"seed": -1},
        {"inputs": "cauchy"},
        {"noise": "cauchy"},
        {"noise": None},
        {"models": [1.0]},
        {"models": np.empty((0, 2))},
        {"models": [[1.0], [2.0, 3.0]]},
    ],
    ids=str,
)
def test_bad_experiments_are_refused(change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"models": [[1.0]], "sizes": [5], "n_trials": 1, "seed": 0} | change
    with pytest.raises(gc.InvalidInputError):
        estimate_local_pac(LEAST_SQUARES, gc.L2(1.0), **arguments)
    if "models" not in change:
        theta = arguments.pop("models")[0]
        with pytest.raises(gc.InvalidInputError):
            estimate_gradient_pac(LEAST_SQUARES, theta, A=1.0, B=1.0, alpha=0.6, **arguments)


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ([1, 2], [1.0, 2.0]),
        ([1, 2], [[1.0], [2.0]]),
        ([1, 2], [[1.0, 0.0], [1.0, 1.0]]),
        ([1, 2], [[1.0, math.inf], [1.0, 1.0]]),
        ([1, 1], [[1.0, 2.0], [1.0, 2.0]]),
        ([1, 2, 3], [[1.0, 2.0], [1.0, 2.0]]),
    ],
)
def test_bad_distances_are_refused(sizes: list[int], values: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="distances must"):
        fit_rate(sizes, values)


# -- the picture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", [gc.SmoothL2(1.0), gc.SquaredL2(1.0)], ids=repr)
def test_the_picture_shows_the_numbers(regularizer: gc.Regularizer) -> None:
    from gplconvex.plots import local_pac

    result = estimate_local_pac(
        LEAST_SQUARES, regularizer, MODELS, [10, 90, 400], attack=FAR, n_trials=3, seed=0
    )
    figure = local_pac(result, 0.3)
    left, right = figure.axes
    drawn = {line.get_label(): np.array(line.get_ydata()) for line in left.lines}
    assert np.array_equal(drawn["median"], np.median(result.distances.max(axis=2), axis=1))
    assert ("median of the bounds" in drawn) == math.isfinite(regularizer.radius)
    often = [each.successes / 3 for each in result.proportions(0.3)]
    assert np.array_equal(right.lines[0].get_ydata(), often)
    figure.canvas.draw()
