"""The published training: Adam by its formula, gradients by differences, and who may say what."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.experiments import training
from gplconvex.experiments.training import (
    DECAY,
    LEAST_RATE,
    RATE,
    ROWS,
    counter_gradient_report,
    rates,
    train,
)

K, D = 3, 4
REGULARIZERS = (gc.SquaredL2(0.7), gc.SmoothL2(0.9, 0.5), gc.L2(1.3))

# A gradient is a sum of up to 700 points in float32.
SINGLE = 1e-5


def users(rng, sizes):
    return [gc.Dataset(rng.uniform(size=(m, D)), rng.integers(K, size=m)) for m in sizes]


def problem_of(rng, sizes=(5, 9), regularizer=REGULARIZERS[0], nu=0.1):
    return gc.Problem(gc.Softmax(K, intercept=True), regularizer, users(rng, sizes), nu)


def models(rng, n):
    return rng.standard_normal((D + 1, K)), rng.standard_normal((n, D + 1, K))


def gradient_by_formula(problem, rho, thetas):
    """In float64, point by point: the gradients in rho and in each theta."""
    in_rho, in_thetas = np.zeros_like(rho), np.zeros_like(thetas)
    for n, (data, theta) in enumerate(zip(problem.datasets, thetas, strict=True)):
        for x, y, count in zip(data.x, data.y, data.counts, strict=True):
            x1 = np.append(x, 1.0)
            p = np.exp(theta.T @ x1)
            residual = p / p.sum() - (np.eye(K)[int(y)] if np.ndim(y) == 0 else y)
            in_thetas[n] += count * np.outer(x1, residual)
        in_thetas[n] += 2.0 * problem.nu[n] * theta
        tie = problem.regularizer.gradient((rho - theta).ravel()).reshape(rho.shape)
        in_rho += tie
        in_thetas[n] -= tie
    return in_rho, in_thetas


def adam_by_formula(problem, rho, thetas, step_sizes, reports):
    """Kingma and Ba's algorithm 1, in float64, all models one vector."""
    w = np.concatenate([rho[None], thetas])
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (rate, report) in enumerate(zip(step_sizes, reports, strict=True), start=1):
        in_rho, in_thetas = gradient_by_formula(problem, w[0], w[1:])
        g = np.concatenate([(in_rho + report)[None], in_thetas])
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1.0 - 0.9**t)) / (np.sqrt(v / (1.0 - 0.999**t)) + 1e-8)
    return w[0], w[1:]


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
@pytest.mark.parametrize("epochs", [1, 7])
def test_adam_by_its_formula(regularizer, epochs):
    rng = np.random.default_rng(epochs)
    problem = problem_of(rng, regularizer=regularizer)
    rho, thetas = models(rng, 2)
    reports = rng.standard_normal((epochs, D + 1, K))
    sent = iter(reports)
    found = train(problem, epochs, report=lambda *_: next(sent), start=(rho, thetas))
    expected = adam_by_formula(problem, rho, thetas, rates(epochs), reports)
    # Steps of 0.02 times a quotient of two numbers of float32; a gradient near 0 makes it uncertain.
    np.testing.assert_allclose(found.rho, expected[0], rtol=0.0, atol=2e-5)
    np.testing.assert_allclose(found.thetas, expected[1], rtol=0.0, atol=2e-5)
    moved = adam_by_formula(problem, rho, thetas, itertools.repeat(0.021, epochs), reports)
    assert np.abs(found.rho - moved[0]).max() > 5e-4  # another step size is told apart


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
@pytest.mark.parametrize("sizes", [(5, 9), (3, ROWS + 200, 1, ROWS)], ids=["small", "unequal"])
def test_gradient_is_that_of_the_problem(regularizer, sizes):
    rng = np.random.default_rng(1)
    problem = problem_of(rng, sizes, regularizer, nu=rng.uniform(size=len(sizes)))
    rho, thetas = models(rng, len(sizes))
    found = training._Models(problem, (rho, thetas))._gradient().transpose(0, 2, 1)
    own = problem.local_losses.gradient(thetas.reshape(len(sizes), -1)).reshape(thetas.shape)
    ties = regularizer.gradient((rho - thetas).reshape(len(sizes), -1)).reshape(thetas.shape)
    scale = np.abs(own).max()
    np.testing.assert_allclose(found[0], ties.sum(axis=0), rtol=0.0, atol=SINGLE)
    np.testing.assert_allclose(found[1:], own - ties, rtol=0.0, atol=SINGLE * scale)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=lambda r: r.name)
def test_gradient_is_the_slope_of_the_objective(regularizer):
    rng = np.random.default_rng(2)
    problem = problem_of(rng, regularizer=regularizer)
    rho, thetas = models(rng, 2)
    found = training._Models(problem, (rho, thetas))._gradient().transpose(0, 2, 1)
    for _ in range(5):
        d_rho, d_thetas = models(rng, 2)
        h = 1e-5
        ends = [
            problem.value(rho + s * h * d_rho, list(thetas + s * h * d_thetas)) for s in (-1, 1)
        ]
        slope = np.vdot(found[0], d_rho) + np.vdot(found[1:], d_thetas)
        assert (ends[1] - ends[0]) / (2.0 * h) == pytest.approx(slope, abs=1e-3)


def test_rates_fall_to_the_least_and_stay_there():
    steps = np.array(list(rates(400)))
    assert steps[0] == RATE * DECAY
    falling = np.flatnonzero(np.diff(steps) < 0.0)
    # The last rate is the last power of 0.99 that is not below 0.005.
    last = math.floor(math.log(LEAST_RATE / RATE) / math.log(DECAY))
    assert falling.tolist() == list(range(last - 1))
    np.testing.assert_allclose(steps[:last], RATE * DECAY ** np.arange(1, last + 1), rtol=1e-12)
    assert (steps[last:] == steps[last - 1]).all()
    assert (steps >= LEAST_RATE).all()
    assert steps[-1] * DECAY < LEAST_RATE


def test_a_training_that_goes_on_begins_with_later_rates():
    problem = problem_of(np.random.default_rng(3))
    start = models(np.random.default_rng(4), 2)
    called = []
    watch = lambda epoch, rho, thetas: called.append(epoch)  # noqa: E731
    found = train(problem, 1, start=start, first_epoch=100, watch=watch)
    # Whatever the gradient, the first step of Adam is the step size in every coordinate.
    rate = list(rates(101))[-1]
    np.testing.assert_allclose(np.abs(found.rho - start[0]), rate, rtol=0.0, atol=1e-6)
    assert called == [101]
    assert found.epochs == 1


def gradient_of(*datasets):
    """Of a problem of these users, always at the same models."""
    problem = gc.Problem(gc.Softmax(K, intercept=True), gc.SquaredL2(1.0), datasets, 0.1)
    return training._Models(problem, models(np.random.default_rng(7), len(datasets)))._gradient()


def test_multiplicities_are_repeated_points():
    rng = np.random.default_rng(5)
    (data, other), counts = users(rng, (6, 4)), np.array([1, 3, 2, 1, 5, 1])
    repeated = gc.Dataset(np.repeat(data.x, counts, axis=0), np.repeat(data.y, counts))
    counted = gradient_of(gc.Dataset(data.x, data.y, counts), other)
    np.testing.assert_allclose(counted, gradient_of(repeated, other), rtol=0.0, atol=SINGLE)
    assert np.abs(counted - gradient_of(data, other)).max() > 0.1


def test_labels_may_be_distributions():
    rng = np.random.default_rng(6)
    x, y = rng.uniform(size=(8, D)), rng.integers(K, size=8)
    certain, others = np.eye(K)[y], np.eye(K)[(y + 1) % K]
    of_classes, of_certain, of_others, of_mixture = (
        gradient_of(gc.Dataset(x, labels))
        for labels in (y, certain, others, 0.25 * certain + 0.75 * others)
    )
    np.testing.assert_array_equal(of_certain, of_classes)
    average = 0.25 * of_certain + 0.75 * of_others
    np.testing.assert_allclose(of_mixture, average, rtol=0.0, atol=SINGLE)


def test_a_report_moves_the_server_alone():
    rng = np.random.default_rng(8)
    problem = problem_of(rng)
    start = models(rng, 2)
    honest, lied = (
        train(problem, 1, start=start, report=report) for report in (None, lambda *_: 1e6)
    )
    np.testing.assert_array_equal(honest.thetas, lied.thetas)
    step = next(rates(1))
    np.testing.assert_allclose(lied.rho, start[0] - step, rtol=0.0, atol=1e-6)
    assert np.abs(honest.rho - lied.rho).max() > step


def test_what_a_liar_sees():
    problem = problem_of(np.random.default_rng(9))
    start = models(np.random.default_rng(10), 2)
    seen, way = [], [start]

    def report(rho, others, rate):
        seen.append((rho, others, rate))
        return np.ones_like(rho)

    watch = lambda epoch, rho, thetas: way.append((rho, thetas))  # noqa: E731
    train(problem, 4, report=report, start=start, watch=watch)
    assert [rate for *_, rate in seen] == list(rates(4))
    assert not seen[0][1].any()  # nothing has been sent yet
    for t, (rho, others, _) in enumerate(seen):
        np.testing.assert_allclose(rho, way[t][0], rtol=0.0, atol=1e-6)
        if t > 0:  # what the honest users sent the epoch before, its own report not among it
            expected = gradient_by_formula(problem, *way[t - 1])[0]
            np.testing.assert_allclose(others, expected, rtol=0.0, atol=SINGLE)


def test_the_counter_gradient_would_land_on_the_target():
    rng = np.random.default_rng(11)
    rho, target, others = rng.standard_normal((3, D + 1, K))
    report = counter_gradient_report(problem_of(rng), target)(rho, others, 0.02)
    np.testing.assert_allclose(rho - 0.02 * (others + report), target, atol=1e-14)
    # Under l2 it is cut down to what the server accepts, and points the same way.
    bounded = problem_of(rng, regularizer=gc.L2(0.3))
    cut = counter_gradient_report(bounded, target)(rho, others, 0.02)
    np.testing.assert_allclose(cut, 0.3 * report / np.linalg.norm(report), atol=1e-14)
    near = counter_gradient_report(bounded, target)(target, np.zeros_like(rho), 0.02)
    assert not near.any()
    small = counter_gradient_report(bounded, target)(target, np.full_like(rho, 0.01), 0.02)
    np.testing.assert_array_equal(small, np.full_like(rho, -0.01))


def test_what_looks_on_is_not_counted(monkeypatch):
    now = [0.0]

    class Clock:
        def __init__(self):
            self.began = now[0]

        @property
        def seconds(self):
            return now[0] - self.began

    def lasts(seconds):
        now[0] += seconds
        return 0.0

    monkeypatch.setattr(training, "Stopwatch", Clock)
    problem = problem_of(np.random.default_rng(12))
    found = train(problem, 5, report=lambda *_: lasts(1.0), watch=lambda *_: lasts(100.0))
    assert found.seconds == 5.0
    assert now[0] == 505.0


def test_it_tends_to_the_optimum():
    problem = problem_of(np.random.default_rng(13), (30, 40))
    optimum = gc.solve(problem).require_optimal()
    early, late = (train(problem, epochs) for epochs in (10, 1500))
    # Strongly convex, and the step stays at 0.005: at the end Adam turns about the optimum.
    assert np.abs(late.rho - optimum.rho).max() < 0.01
    assert optimum.value <= problem.value(late.rho, list(late.thetas)) <= optimum.value + 1e-3
    assert problem.value(early.rho, list(early.thetas)) > optimum.value + 0.1


def test_the_same_again():
    problem = problem_of(np.random.default_rng(14), (30, 40))
    one, two = train(problem, 20), train(problem, 20)
    np.testing.assert_array_equal(one.rho, two.rho)
    np.testing.assert_array_equal(one.thetas, two.thetas)


@pytest.mark.parametrize(
    ("loss", "regularizer"),
    [
        (gc.Softmax(K), gc.SquaredL2(1.0)),
        (gc.Logistic(intercept=True), gc.SquaredL2(1.0)),
        (gc.Softmax(K, intercept=True), gc.HardConsensus()),
    ],
    ids=["no intercept", "logistic", "consensus"],
)
def test_what_it_does_not_train(loss, regularizer):
    data = gc.Dataset([[1.0], [2.0]], [1.0, 1.0])
    with pytest.raises(gc.UnsupportedCombinationError, match="the published training is of"):
        train(gc.Problem(loss, regularizer, [data], 0.1), 1)
