"""Users in batches are users one at a time, and their steps are those of the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.federated import Honest
from gplconvex.federated import users as module
from gplconvex.federated.users import LocalUsers
from tests import strategies as cases

CHOICES = [Honest(), Honest("auto"), Honest(0.01)]
SMOOTH_LOSSES = tuple(loss for loss in cases.ALL_LOSSES if not isinstance(loss, gc.Poisson))


def ragged(
    loss: gc.Loss, regularizer: gc.Regularizer, seed: int = 0, n_users: int = 12, d: int = 3
) -> gc.Problem:
    """Users with 0 to 50 rows, in multiplicities, and ridges of their own."""
    rng = np.random.default_rng(seed)
    sizes = rng.permutation(np.geomspace(1, 51, n_users).astype(int) - 1)
    data = [
        gc.Dataset(rng.normal(size=(m, d)), cases.labels(loss, m, rng), rng.integers(1, 4, m))
        for m in sizes
    ]
    return gc.Problem(loss, regularizer, data, nu=rng.uniform(0.1, 1.0, n_users))


def alone(problem: gc.Problem, n: int) -> gc.Problem:
    return gc.Problem(
        problem.loss, problem.regularizer, [problem.datasets[n]], [float(problem.nu[n])]
    )


def models(problem: gc.Problem, n_models: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_models, *problem.shape))


# -- batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [2**20, 200], ids=["one batch", "many batches"])
@pytest.mark.parametrize("regularizer", [gc.SquaredL2(0.6), gc.SmoothL2(2.0, 0.7)], ids=repr)
@pytest.mark.parametrize("loss", SMOOTH_LOSSES, ids=repr)
def test_users_in_batches_are_users_one_at_a_time(
    loss: gc.Loss, regularizer: gc.Regularizer, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they choose, however their rows differ, whoever is asked, round after round."""
    monkeypatch.setattr(module, "BLOCK", block)
    problem = ragged(loss, regularizer)
    rng = np.random.default_rng(2)
    choices = [CHOICES[i] for i in rng.integers(len(CHOICES), size=problem.n_users)]
    start = models(problem, 1)[0]
    together = LocalUsers(problem, choices, start)
    separate = [LocalUsers(alone(problem, n), choices[n], start) for n in range(problem.n_users)]
    for rho in models(problem, 5):
        asked = rng.permutation(problem.n_users)[: rng.integers(1, problem.n_users + 1)]
        before = together.theta.copy()
        reports = together.answer(rho, asked)
        assert reports.shape == (len(asked), *problem.shape)
        for report, n in zip(reports, asked, strict=True):
            expected = separate[n].answer(rho, np.zeros(1, dtype=int))[0]
            # Replies are solved to rounding: what is left of it grows with the condition, here 1e3.
            np.testing.assert_allclose(report, expected, rtol=0.0, atol=1e-12 * size_of(expected))
            np.testing.assert_allclose(
                together.theta[n], separate[n].theta[0], rtol=0.0, atol=1e-12 * size_of(rho)
            )
        others = np.setdiff1d(np.arange(problem.n_users), asked)
        np.testing.assert_array_equal(together.theta[others], before[others])


def size_of(model: np.ndarray) -> float:
    return 1.0 + float(np.linalg.norm(model))


def test_nobody_may_be_asked() -> None:
    problem = ragged(gc.LeastSquares(), gc.SquaredL2(1.0))
    users = LocalUsers(problem, Honest(), np.zeros(3))
    assert users.answer(np.ones(3), np.zeros(0, dtype=int)).shape == (0, 3)
    np.testing.assert_array_equal(users.theta, 0.0)


# -- exact -------------------------------------------------------------------------------------------


@given(
    problem=cases.problems(
        loss=st.sampled_from(cases.ALL_LOSSES), regularizer=cases.smooth_regularizers()
    ),
    seed=st.integers(0, 99),
)
def test_exact_reports_are_gradients_of_envelopes(problem: gc.Problem, seed: int) -> None:
    r"""Whatever was asked before: g = grad M(rho) = grad r(rho - theta) = grad L(theta)."""
    users = LocalUsers(problem, Honest(), np.zeros(problem.shape))
    everybody = np.arange(problem.n_users)
    for rho in models(problem, 3, seed):
        reports = users.answer(rho, everybody)
    for n, report in enumerate(reports):
        expected = gc.moreau_envelope(problem, n, rho).gradient
        np.testing.assert_allclose(report, expected, rtol=0.0, atol=1e-8 * size_of(expected))
        theta = users.theta[n].reshape(problem.shape)
        tie = problem.regularizer.gradient((rho - theta).reshape(1, -1))[0]
        np.testing.assert_allclose(report.ravel(), tie, rtol=0.0, atol=1e-8 * size_of(tie))
        slope = problem.locals[n].gradient(theta)
        np.testing.assert_allclose(report, slope, rtol=0.0, atol=1e-8 * size_of(slope))


def test_exact_users_under_a_kink_report_their_gradient_at_rho() -> None:
    """A strong l2 holds every model at rho: theta = rho, and g is any gradient of norm up to lam."""
    problem = ragged(gc.Logistic(), gc.L2(1e3))
    users = LocalUsers(problem, Honest(), np.zeros(3))
    rho = models(problem, 1)[0]
    reports = users.answer(rho, np.arange(problem.n_users))
    for n, report in enumerate(reports):
        np.testing.assert_array_equal(users.theta[n], rho)
        np.testing.assert_allclose(report, problem.locals[n].gradient(rho), atol=1e-10)


def test_under_hard_consensus_reports_are_gradients_at_rho() -> None:
    problem = ragged(gc.Logistic(), gc.HardConsensus())
    users = LocalUsers(problem, Honest(), np.zeros(3))
    rho = models(problem, 1)[0]
    for n, report in enumerate(users.answer(rho, np.arange(problem.n_users))):
        np.testing.assert_allclose(report, problem.locals[n].gradient(rho), atol=1e-12)


# -- one step ----------------------------------------------------------------------------------------


def slope_of_loss(problem: gc.Problem, n: int, theta: np.ndarray) -> np.ndarray:
    """2 nu theta + the sum over points of their gradients, point by point."""
    data = problem.datasets[n]
    total = 2.0 * problem.nu[n] * theta
    for x, y, count in zip(data.x, data.y, data.counts, strict=True):
        z = float(x @ theta)
        logistic = isinstance(problem.loss, gc.Logistic)
        w = -y / (1.0 + math.exp(y * z)) if logistic else z - y
        total = total + count * w * x
    return total


def steepness(problem: gc.Problem, n: int) -> float:
    """Lip(grad L) + Lip(grad r)."""
    data, regularizer = problem.datasets[n], problem.regularizer
    most = 0.25 if isinstance(problem.loss, gc.Logistic) else 1.0
    gram = (data.x * data.counts[:, None]).T @ data.x
    least = 2.0 * problem.nu[n] + most * float(np.linalg.eigvalsh(gram)[-1])
    if isinstance(regularizer, gc.SmoothL2):
        return least + regularizer.lam / regularizer.delta
    assert isinstance(regularizer, gc.SquaredL2)
    return least + 2.0 * regularizer.lam


def tie(regularizer: Any, u: np.ndarray) -> np.ndarray:
    """Grad r; at a kink 0."""
    length = float(np.linalg.norm(u))
    if isinstance(regularizer, gc.SquaredL2):
        return 2.0 * regularizer.lam * u
    if isinstance(regularizer, gc.SmoothL2):
        return regularizer.lam * u / math.hypot(regularizer.delta, length)
    return regularizer.lam * u / length if length > 0.0 else np.zeros_like(u)


@pytest.mark.parametrize("step_size", ["auto", 0.02])
@pytest.mark.parametrize(
    "regularizer", [gc.SquaredL2(0.6), gc.SmoothL2(2.0, 0.7), gc.L2(2.0)], ids=repr
)
@pytest.mark.parametrize("loss", [gc.LeastSquares(), gc.Logistic()], ids=repr)
def test_one_step_is_its_formula(
    loss: gc.Loss, regularizer: gc.Regularizer, step_size: Any
) -> None:
    """From its last model, which it remembers over the rounds in which it is not asked."""
    problem = ragged(loss, regularizer)
    if isinstance(regularizer, gc.L2) and step_size == "auto":
        with pytest.raises(gc.UnsupportedCombinationError, match="step"):
            LocalUsers(problem, Honest(step_size), np.zeros(3))
        return
    start = models(problem, 1, 7)[0]
    users = LocalUsers(problem, Honest(step_size), start)
    thetas = np.tile(start, (problem.n_users, 1))
    rng = np.random.default_rng(3)
    for rho in (start, *models(problem, 6)):  # at the start u = 0
        asked = np.sort(rng.choice(problem.n_users, 8, replace=False))
        reports = users.answer(rho, asked)
        for report, n in zip(reports, asked, strict=True):
            step = 1.0 / steepness(problem, n) if step_size == "auto" else step_size
            slope = slope_of_loss(problem, n, thetas[n]) - tie(regularizer, rho - thetas[n])
            thetas[n] = thetas[n] - step * slope
            # A sum of up to 150 gradients rounds by 150 units of the largest.
            np.testing.assert_allclose(users.theta[n], thetas[n], rtol=0.0, atol=1e-12)
            expected = tie(regularizer, rho - thetas[n])
            np.testing.assert_allclose(report, expected, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("loss", SMOOTH_LOSSES, ids=repr)
def test_many_steps_at_one_model_lead_to_the_exact_report(loss: gc.Loss) -> None:
    problem = ragged(loss, gc.SmoothL2(2.0, 0.7), n_users=4)
    rho = models(problem, 1)[0]
    everybody = np.arange(problem.n_users)
    exact = LocalUsers(problem, Honest(), np.zeros(problem.shape)).answer(rho, everybody)
    users = LocalUsers(problem, Honest("auto"), np.zeros(problem.shape))
    first = users.answer(rho, everybody)
    for _ in range(3000):
        last = users.answer(rho, everybody)
    np.testing.assert_allclose(last, exact, rtol=0.0, atol=1e-9 * size_of(exact))
    assert np.abs(first - exact).max() > 1e-3  # one step is not enough


def test_steps_that_are_too_long_do_not() -> None:
    problem = ragged(gc.LeastSquares(), gc.SquaredL2(0.6), n_users=4)
    rho = models(problem, 1)[0]
    everybody = np.arange(problem.n_users)
    longest = 2.0 / min(steepness(problem, n) for n in everybody)
    users = LocalUsers(problem, Honest(1.1 * longest), np.zeros(3))
    for _ in range(100):
        last = users.answer(rho, everybody)
    assert np.abs(last).max() > 1e6


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.inf, math.nan, "fast", True])
def test_bad_step_sizes_are_refused(step_size: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="step_size"):
        Honest(step_size)


@pytest.mark.parametrize("honest", [[Honest()], [Honest(), "exact"], ["exact"] * 12])
def test_there_is_one_choice_a_user(honest: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="12 users"):
        LocalUsers(ragged(gc.LeastSquares(), gc.SquaredL2(1.0)), honest, np.zeros(3))


@pytest.mark.parametrize(
    ("loss", "regularizer", "honest"),
    [
        (gc.LeastSquares(), gc.HardConsensus(), Honest(0.1)),
        (gc.LeastSquares(), gc.L2(1.0), Honest("auto")),
        (gc.Poisson(), gc.SquaredL2(1.0), Honest("auto")),
    ],
)
def test_steps_without_a_size_are_refused(
    loss: gc.Loss, regularizer: gc.Regularizer, honest: Honest
) -> None:
    with pytest.raises(gc.UnsupportedCombinationError, match="Honest"):
        LocalUsers(ragged(loss, regularizer), honest, np.zeros(3))
