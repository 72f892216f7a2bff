"""The protocol by its formulas: optimizers, step sizes, partial participation, honest users."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.envelope import envelopes
from gplconvex.federated import (
    Adam,
    CounterGradientAttack,
    DataAttack,
    GradientDescent,
    HeavyBall,
    Honest,
    Query,
    Rejection,
    Round,
    Server,
    decaying,
    rounds,
    run,
)
from tests import strategies as cases

LOSSES = (gc.LeastSquares(), gc.Logistic(), gc.Softmax(3))
SMOOTH = (gc.SquaredL2(1.0), gc.SmoothL2(3.0))
KINKED = (gc.L2(2.0), gc.HardConsensus())


def quadratic(seed: int, n_users: int = 3, d: int = 2, lam: float = 0.7) -> gc.Problem:
    """Least squares under squared l2: the pull is linear in the model."""
    return cases.example(gc.LeastSquares(), gc.SquaredL2(lam), users=n_users, d=d, seed=seed)


def linear_pull(problem: gc.Problem) -> tuple[np.ndarray, np.ndarray]:
    """A and b with G(rho) = A rho - b, from the normal equations of every user."""
    d, lam = problem.n_features, problem.regularizer.lam
    matrix, offset = np.zeros((d, d)), np.zeros(d)
    for data, nu in zip(problem.datasets, problem.nu, strict=True):
        hessian = 2.0 * nu * np.eye(d) + data.x.T @ (data.counts[:, None] * data.x)
        inverse = np.linalg.inv(hessian + 2.0 * lam * np.eye(d))
        matrix += 2.0 * lam * (np.eye(d) - 2.0 * lam * inverse)
        offset += 2.0 * lam * inverse @ (data.x.T @ (data.counts * data.y))
    return matrix, offset


def objective(problem: gc.Problem, rho: np.ndarray) -> float:
    anchors = np.tile(rho.ravel(), (problem.n_users, 1))
    return math.fsum(envelopes(problem.local_losses, problem.regularizer, anchors).value)


@st.composite
def gentle(draw: st.DrawFn, kind: str) -> gc.Problem:
    """Problems whose optimum gradient descent finds in some hundred rounds.

    One user has no data, so that reports do not vanish at the optimum. Under l2 it agrees with the
    server there, which makes the optimum unique: nu |theta|^2 <= F* <= F(0), and lam > 2 nu |theta|.
    """
    loss, d = draw(st.sampled_from(LOSSES)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = [
        gc.Dataset(rng.normal(size=(m, d)), cases.labels(loss, m, rng), rng.integers(1, 4, size=m))
        for m in draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    ]
    nu, size = draw(cases.powers(0.3, 3.0)), draw(cases.powers(0.3, 3.0))
    ridges = [*[nu] * len(data), 0.2 * nu]
    pooled = gc.Problem(loss, gc.HardConsensus(), [*data, gc.Dataset.empty(d)], ridges)
    at_zero = objective(pooled, np.zeros(pooled.shape))
    regularizer = {
        "squared-l2": lambda: gc.SquaredL2(size),
        "smooth-l2": lambda: gc.SmoothL2(6.0, size),
        "l2": lambda: gc.L2((2.0 + 0.1 * size) * math.sqrt(ridges[-1] * at_zero)),
        "hard-consensus": gc.HardConsensus,
    }[kind]()
    return gc.Problem(loss, regularizer, pooled.datasets, ridges)


def certified(problem: gc.Problem, rho: np.ndarray, **attacker: Any) -> gc.Certificate:
    """What the judge says of a model that a run ended with, and the replies to it."""
    replies = [gc.moreau_envelope(problem, n, rho).theta for n in range(problem.n_users)]
    return gc.certify(problem, rho, replies, **attacker)


# -- optimizers --------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 999),
    beta=st.floats(0.0, 0.95),
    eta=st.floats(0.01, 0.3),
    rounds_to_half=st.one_of(st.none(), st.floats(0.5, 50.0)),
)
@settings(max_examples=20)
def test_heavy_ball_by_its_formula(
    seed: int, beta: float, eta: float, rounds_to_half: float | None
) -> None:
    problem = quadratic(seed)
    matrix, offset = linear_pull(problem)
    step_size = eta if rounds_to_half is None else decaying(eta, rounds_to_half)
    trace = run(problem, optimizer=HeavyBall(beta), step_size=step_size, max_rounds=12, tol=0.0)
    rho, velocity = np.zeros(2), np.zeros(2)
    for t in range(12):
        velocity = beta * velocity + (matrix @ rho - offset)
        scale = 1.0 if rounds_to_half is None else 1.0 / (1.0 + t / rounds_to_half)
        rho = rho - eta * scale * velocity
        np.testing.assert_allclose(trace.rho[t + 1], rho, rtol=1e-10, atol=1e-10)


@given(
    seed=st.integers(0, 999),
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.0, 0.9999),
    epsilon=cases.powers(1e-8, 1.0),
    eta=st.floats(1e-3, 0.5),
)
@settings(max_examples=20)
def test_adam_by_its_recursion(
    seed: int, beta1: float, beta2: float, epsilon: float, eta: float
) -> None:
    """Algorithm 1 of Kingma and Ba, coordinate by coordinate, their t counted from 1."""
    problem = quadratic(seed)
    matrix, offset = linear_pull(problem)
    adam = Adam(beta1, beta2, epsilon)
    trace = run(problem, optimizer=adam, step_size=eta, max_rounds=12, tol=0.0)
    rho, m, v = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for t in range(1, 13):
        g = matrix @ rho - offset
        for j in range(2):
            m[j] = beta1 * m[j] + (1.0 - beta1) * g[j]
            v[j] = beta2 * v[j] + (1.0 - beta2) * g[j] ** 2
            unbiased = m[j] / (1.0 - beta1**t), v[j] / (1.0 - beta2**t)
            rho[j] -= eta * unbiased[0] / (math.sqrt(unbiased[1]) + epsilon)
        np.testing.assert_allclose(trace.rho[t], rho, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_heavy_ball_without_momentum_is_gradient_descent(loss: gc.Loss) -> None:
    problem = cases.example(loss, gc.SmoothL2(3.0))
    plain, heavy = (
        run(problem, optimizer=optimizer, max_rounds=30)
        for optimizer in (GradientDescent(), HeavyBall(0.0))
    )
    np.testing.assert_array_equal(heavy.rho, plain.rho)
    for t, rho in enumerate(plain.rho[:-1]):
        step = plain.step_sizes[t] * plain.reports[t].sum(axis=0)
        np.testing.assert_allclose(plain.rho[t + 1], rho - step, atol=1e-14)
    moving = run(problem, optimizer=HeavyBall(0.5), max_rounds=30)
    assert np.abs(moving.rho[2] - plain.rho[2]).max() > 1e-3


@pytest.mark.parametrize("optimizer", [GradientDescent(), HeavyBall(), Adam()], ids=repr)
def test_an_optimizer_remembers_nothing_of_the_run_before(optimizer: Any) -> None:
    first, second = (
        run(quadratic(0), optimizer=optimizer, step_size=0.05, max_rounds=10) for _ in range(2)
    )
    np.testing.assert_array_equal(first.rho, second.rho)


class SignDescent:
    """An optimizer from elsewhere."""

    follows_smoothness = False

    def starts(self) -> Any:
        return lambda pull, step_size: step_size * np.sign(pull)


def test_any_optimizer_plugs_in() -> None:
    trace = run(quadratic(0), optimizer=SignDescent(), step_size=0.25, max_rounds=9)
    np.testing.assert_array_equal(np.abs(np.diff(trace.rho, axis=0)), np.full((9, 2), 0.25))
    with pytest.raises(gc.UnsupportedCombinationError):
        run(quadratic(0), optimizer=SignDescent())


@pytest.mark.parametrize("loss", LOSSES[:2], ids=repr)
def test_heavy_ball_arrives_though_not_downhill_all_the_way(loss: gc.Loss) -> None:
    problem = cases.example(loss, gc.SquaredL2(1.0), nu=0.5)
    trace = run(problem, optimizer=HeavyBall(0.8), tol=1e-8)
    assert trace.stopped == "stationary"
    np.testing.assert_allclose(trace.rho[-1], gc.solve(problem).rho, atol=1e-6)
    values = [objective(problem, rho) for rho in trace.rho[:20]]
    assert np.diff(values).max() > 1e-3


@given(seed=st.integers(0, 999), beta=st.floats(0.0, 0.7), share=st.floats(0.2, 0.85))
@settings(max_examples=6)
def test_heavy_ball_converges_up_to_its_bound_and_not_beyond(
    seed: int, beta: float, share: float
) -> None:
    """Polyak: on a quadratic of curvature a the errors follow x^2 - (1 + beta - eta a) x + beta."""
    problem = quadratic(seed, d=1)
    (curvature,), offset = linear_pull(problem)[0][0], linear_pull(problem)[1]
    optimum, bound = offset / curvature, 2.0 * (1.0 + beta) / curvature
    radius = max(abs(np.roots([1.0, -(1.0 + beta - share * bound * curvature), beta])))
    long = min(2000, math.ceil(math.log(1e-9) / math.log(radius)) + 50)
    within = run(
        problem, optimizer=HeavyBall(beta), step_size=share * bound, max_rounds=long, tol=0.0
    )
    assert within.distances(optimum)[-1] <= 1e-6 * (1.0 + within.distances(optimum)[0])
    beyond = run(problem, optimizer=HeavyBall(beta), step_size=bound * (2.0 - share), max_rounds=60)
    assert beyond.distances(optimum)[-1] > 2.0 * beyond.distances(optimum)[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: HeavyBall(1.0),
        lambda: HeavyBall(-0.1),
        lambda: HeavyBall(math.nan),
        lambda: HeavyBall(True),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=-1.0),
        lambda: Adam(epsilon=0.0),
        lambda: Adam(epsilon=math.inf),
        lambda: decaying(0.0, 1.0),
        lambda: decaying(1.0, -1.0),
        lambda: decaying(1.0, math.inf),
        lambda: Honest(0.0),
        lambda: Honest("exact"),
        lambda: Honest(math.inf),
    ],
)
def test_bad_parameters_are_refused(call: Any) -> None:
    with pytest.raises(gc.InvalidInputError):
        call()


# -- step sizes --------------------------------------------------------------------------------------


@given(first=cases.powers(1e-3, 1e3), half=cases.powers(0.1, 1e3), t=st.integers(0, 10**6))
def test_decaying_step_sizes_by_their_formula(first: float, half: float, t: int) -> None:
    step_size = decaying(first, half)
    assert math.isclose(step_size(t), first * half / (half + t), rel_tol=1e-12)
    assert step_size(0) == first


@pytest.mark.parametrize("half", [0.5, 30.0])
def test_decaying_steps_lead_anywhere_and_their_squares_do_not(half: float) -> None:
    """As T grows, from round t to 2t steps sum to T log 2 each time, their squares to less and less."""
    step_size = decaying(1.0, half)
    for t in (10**3, 10**4):
        late = [step_size(n) for n in range(t, 2 * t)]
        whole = half * math.log((half + 2 * t) / (half + t))
        assert math.isclose(math.fsum(late), whole, rel_tol=1e-3)
        assert math.fsum(step**2 for step in late) <= half**2 / t


def test_a_callable_is_asked_once_a_round() -> None:
    asked = []

    def step_size(t: int) -> float:
        asked.append(t)
        return 0.1 / (t + 1)

    trace = run(quadratic(0), step_size=step_size, max_rounds=6)
    assert asked == list(range(6))
    assert trace.step_sizes.tolist() == [0.1 / (t + 1) for t in range(6)]
    for t in range(6):
        step = 0.1 / (t + 1) * trace.reports[t].sum(axis=0)
        np.testing.assert_allclose(trace.rho[t + 1], trace.rho[t] - step, atol=1e-15)


@pytest.mark.parametrize("value", [math.nan, -1.0, 0.0, "small", None])
def test_a_step_size_that_is_none_ends_the_run(value: Any) -> None:
    with pytest.raises(gc.RunError, match=r"step_size\(3\)") as caught:
        run(quadratic(0), step_size=lambda t: 0.1 if t < 3 else value)
    assert caught.value.trace.n_rounds == 3


@pytest.mark.parametrize("regularizer", [*SMOOTH, *KINKED], ids=repr)
def test_decaying_steps_converge(regularizer: gc.Regularizer) -> None:
    problem = cases.example(gc.LeastSquares(), regularizer, nu=0.5)
    optimum = gc.solve(problem).rho
    smoothness = 3.0 * min(regularizer.smoothness, problem.local_losses.smoothness.max())
    trace = run(problem, step_size=decaying(1.0 / smoothness, 50.0), max_rounds=200)
    off = trace.distances(optimum)
    assert (np.diff(off) <= 1e-12).all()  # up to 1/smoothness no step leads away from the optimum
    assert off[-1] <= 1e-2 * off[0]


@pytest.mark.parametrize("kind", ["squared-l2", "smooth-l2", "l2", "hard-consensus"])
@given(data=st.data())
@settings(max_examples=4)
def test_the_automatic_step_descends_to_the_certified_optimum(
    kind: str, data: st.DataObject
) -> None:
    problem = data.draw(gentle(kind))
    start = data.draw(cases.models(problem.shape, 2.0))
    trace = run(problem, start=start, max_rounds=5000)
    assert trace.stopped == "stationary"
    values = [objective(problem, rho) for rho in trace.rho[:40]]
    rounding = 1e-12 * (1.0 + abs(values[0]))
    assert (np.diff(values) <= rounding).all()
    solution = gc.solve(problem)
    certificate = certified(problem, trace.rho[-1])
    assert certificate.relative_distance <= 1e-7
    off = np.linalg.norm(trace.rho[-1] - solution.rho)
    assert off <= certificate.distance + solution.certificate.distance


@pytest.mark.parametrize("nu", [1e3, 1e5])
def test_no_step_of_more_than_twice_the_automatic_one_descends(nu: float) -> None:
    """Negative control: with stiff local losses M_n is as steep as r is."""
    problem = cases.example(gc.LeastSquares(), gc.SquaredL2(1.0), nu=nu)
    automatic = 1.0 / (2.0 * problem.n_users)
    start = np.array([3.0, -2.0])
    assert run(problem, start=start, max_rounds=1).step_sizes[0] == automatic
    within, beyond = (
        run(problem, start=start, step_size=share * automatic, max_rounds=150)
        for share in (1.9, 2.1)
    )
    assert within.distances(np.zeros(2))[-1] < 0.1
    assert beyond.distances(np.zeros(2))[-1] > 1e4


@pytest.mark.parametrize(
    "kind",
    [
        lambda near: gc.GradientAttack([0.5, -0.3]),
        gc.ModelAttack,
        lambda near: gc.ModelAttack(near, gc.SmoothL2(1.0, 0.02)),  # steeper than the problem's r
    ],
    ids=["gradient", "model", "sharp model"],
)
@pytest.mark.parametrize("regularizer", SMOOTH, ids=repr)
def test_the_automatic_step_descends_beside_attackers(
    kind: Callable[[np.ndarray], Any], regularizer: gc.Regularizer
) -> None:
    problem = cases.example(gc.LeastSquares(), regularizer)
    attack = kind(gc.solve(problem).rho + np.array([0.3, -0.2]))
    trace = run(problem, [attack], max_rounds=5000)
    assert trace.stopped == "stationary"
    certificate = certified(problem, trace.rho[-1], attacker=attack)
    solution = gc.solve(problem, attacker=attack)
    off = np.linalg.norm(trace.rho[-1] - solution.rho)
    assert off <= certificate.distance + solution.certificate.distance <= 1e-7


@pytest.mark.parametrize("regularizer", KINKED, ids=repr)
def test_the_automatic_step_follows_from_the_losses_where_r_is_not_smooth(
    regularizer: gc.Regularizer,
) -> None:
    problem = cases.example(gc.Logistic(), regularizer)
    poisoned = DataAttack(gc.Dataset([[3.0, 1.0]], [1.0], [5]))
    attack = gc.GradientAttack([0.3, -0.3])
    trace = run(problem, [attack, poisoned])
    curvatures = [  # of the logistic loss at most 1/4
        2.0 * nu + np.linalg.eigvalsh(data.x.T @ (0.25 * data.counts[:, None] * data.x))[-1]
        for data, nu in zip((*problem.datasets, poisoned.data), (*problem.nu, 0.3), strict=True)
    ]
    assert math.isclose(trace.step_sizes[0], 1.0 / sum(curvatures), rel_tol=1e-12)
    with_data = problem.with_user(poisoned.data, 0.3)
    solution = gc.solve(with_data, attacker=attack)
    assert trace.stopped == "stationary"
    certificate = certified(with_data, trace.rho[-1], attacker=attack)
    off = np.linalg.norm(trace.rho[-1] - solution.rho)
    assert off <= certificate.distance + solution.certificate.distance <= 1e-7


def test_half_the_step_beside_a_counter_gradient_attack() -> None:
    problem = quadratic(0)
    alone, beside = (
        run(problem, attackers, max_rounds=1).step_sizes[0]
        for attackers in ([lambda query: np.zeros(2)], [CounterGradientAttack([5.0, 5.0])])
    )
    assert alone == 2.0 * beside == 1.0 / (2.0 * 0.7 * (problem.n_users + 1))


@pytest.mark.parametrize(
    ("loss", "regularizer", "attackers", "optimizer"),
    [
        (gc.Poisson(), gc.HardConsensus(), [], GradientDescent()),
        (gc.Poisson(), gc.L2(1.0), [], GradientDescent()),
        (gc.LeastSquares(), gc.SquaredL2(1.0), [], Adam()),
        (gc.LeastSquares(), gc.L2(1.0), [gc.ModelAttack([0.0, 0.0])], GradientDescent()),
        (gc.LeastSquares(), gc.L2(1.0), [lambda query: query.rho], GradientDescent()),
        (gc.LeastSquares(), gc.L2(1.0), [CounterGradientAttack([1.0, 0.0])], GradientDescent()),
        (gc.LeastSquares(), gc.HardConsensus(), [lambda query: query.rho], HeavyBall()),
        (
            gc.LeastSquares(),
            gc.SquaredL2(1.0),
            [gc.ModelAttack([0.0, 0.0], gc.L2(1.0))],
            GradientDescent(),
        ),
    ],
)
def test_where_no_step_size_follows_one_is_asked_for(
    loss: gc.Loss, regularizer: gc.Regularizer, attackers: list[Any], optimizer: Any
) -> None:
    problem = cases.example(loss, regularizer)
    with pytest.raises(gc.UnsupportedCombinationError, match="pass step_size"):
        rounds(problem, attackers, optimizer=optimizer)
    next(rounds(problem, attackers, optimizer=optimizer, step_size=1e-3))


# -- partial participation ---------------------------------------------------------------------------


@given(
    n_users=st.integers(1, 6),
    fraction=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**63),
    attacked=st.booleans(),
)
@settings(max_examples=20)
def test_the_same_seed_is_the_same_trace(
    n_users: int, fraction: float, seed: int, attacked: bool
) -> None:
    problem = quadratic(0, n_users)
    attackers = [gc.ModelAttack([1.0, 1.0])] if attacked else []
    options: dict[str, Any] = {"fraction": fraction, "seed": seed, "max_rounds": 5, "tol": 0.0}
    first, second = (run(problem, attackers, **options) for _ in range(2))
    n = n_users + attacked
    assert ((~np.isnan(first.norms)).sum(axis=1) == math.ceil(fraction * n)).all()
    for name in ("rho", "norms", "reports"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_another_seed_is_another_trace() -> None:
    first, second = (run(quadratic(0, 6), fraction=0.5, seed=s, max_rounds=5) for s in (0, 1))
    assert np.abs(first.rho - second.rho).max() > 1e-3


def served(n: int, fraction: float, n_rounds: int, seed: int = 0) -> list[Round]:
    """Rounds of a server whose participant i always reports the i-th of some vectors."""
    vectors = np.random.default_rng(1).normal(size=(n, 2))
    server = Server(gc.SquaredL2(1.0), n, 1e-3, fraction=fraction, seed=seed)
    found = server.rounds(lambda query, asked: (vectors[asked], {}), np.zeros(2))
    return list(itertools.islice(found, n_rounds))


@pytest.mark.parametrize(
    ("n", "fraction", "size"),
    [
        *[(5, 0.5, 3), (10, 0.1, 1), (10, 1e-9, 1), (100, 0.07, 7), (100, 0.29, 29)],
        *[
            (49, 1 / 49, 1),
            (7, 3 / 7, 3),
            (50, 0.14, 7),
            (3, 1.0, 3),
            (100, 0.071, 8),
            (3, 0.67, 3),
        ],
    ],
)
def test_the_smallest_whole_number_from_the_fraction_on_is_asked(
    n: int, fraction: float, size: int
) -> None:
    """0.07 of 100 is 7, though 0.07 * 100 is 7.000000000000001."""
    for one in served(n, fraction, 5):
        assert len(one.asked) == size
        assert (np.diff(one.asked) > 0).all()
        assert one.asked.min() >= 0
        assert one.asked.max() < n


def test_everybody_is_asked_again_and_again() -> None:
    n_rounds, n = 400, 10
    times = np.bincount(np.concatenate([r.asked for r in served(n, 0.3, n_rounds)]), minlength=n)
    # Binomial with probability 0.3: 120 times, with a standard deviation of 9.2.
    assert (np.abs(times - 120) <= 5 * 9.2).all()


def test_the_mean_step_over_all_subsets_is_the_full_step() -> None:
    n, m, n_rounds = 5, 2, 3000
    (full,) = served(n, 1.0, 1)
    subsets = collections.Counter()
    steps = {}
    for one in served(n, m / n, n_rounds):
        subsets[tuple(one.asked)] += 1
        steps[tuple(one.asked)] = one.pull
        np.testing.assert_allclose(one.next_rho, one.rho - 1e-3 * one.pull, atol=1e-15)
    assert set(subsets) == set(itertools.combinations(range(n), m))
    np.testing.assert_allclose(np.mean(list(steps.values()), axis=0), full.pull, atol=1e-13)
    # All ten equally often: 300 times, with a standard deviation of 16.4.
    assert all(abs(times - 300) <= 5 * 16.4 for times in subsets.values())
    # Negative control: no subset alone has the full step.
    assert min(np.linalg.norm(step - full.pull) for step in steps.values()) > 0.1


def test_only_who_is_asked_works() -> None:
    """Who takes one step in a round in which it is asked, takes none in the others."""
    problem = quadratic(3, 4)
    trace = run(problem, fraction=0.5, honest=Honest(0.01), step_size=1e-9, max_rounds=9, tol=0.0)
    asked = ~np.isnan(trace.norms)
    for n, data in enumerate(problem.datasets):
        theta = np.zeros(2)
        for t in np.flatnonzero(asked[:, n]):  # the model hardly moves
            slope = data.x.T @ (data.counts * (data.x @ theta - data.y)) + 0.6 * theta
            theta = theta - 0.01 * (slope + 2.0 * 0.7 * theta)
            np.testing.assert_allclose(trace.reports[t, n], -2.0 * 0.7 * theta, atol=1e-6)


@pytest.mark.parametrize("attacked", [False, True])
def test_partial_participation_converges_with_decaying_steps(attacked: bool) -> None:
    """And not with constant ones, where the draw of every round leaves its trace."""
    problem = quadratic(0, 4)
    attack = gc.GradientAttack([1.0, -2.0])
    attackers = [attack] if attacked else []
    optimum = gc.solve(problem, attacker=attack if attacked else None).rho
    constant, waning = (
        run(problem, attackers, fraction=0.5, step_size=step_size, max_rounds=400)
        for step_size in (0.15, decaying(0.15, 20.0))
    )
    late = slice(-100, None)
    settled = waning.distances(optimum)[late].mean()
    assert settled < 0.2 * waning.distances(optimum)[0]
    assert constant.distances(optimum)[late].mean() > 3.0 * settled
    assert constant.stopped == waning.stopped == "max_rounds"


# -- honest users ------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=5)
def test_one_step_users_descend_to_the_same_optimum(data: st.DataObject) -> None:
    """Alternating gradient steps on F(rho, theta), each within its block's smoothness."""
    problem = data.draw(gentle(data.draw(st.sampled_from(["squared-l2", "smooth-l2"]))))
    solution = gc.solve(problem)
    trace = run(problem, honest=Honest("auto"), start=solution.rho + 0.5, max_rounds=4000)
    assert trace.stopped == "stationary"
    certificate = certified(problem, trace.rho[-1])
    off = np.linalg.norm(trace.rho[-1] - solution.rho)
    assert off <= certificate.distance + solution.certificate.distance
    assert off <= 1e-6 * (1.0 + np.linalg.norm(solution.rho))
    exact = [gc.moreau_envelope(problem, n, trace.rho[-2]).gradient for n in range(problem.n_users)]
    np.testing.assert_allclose(trace.reports[-1], exact, atol=1e-6)
    values = []
    for rho, reports in zip(trace.rho[:40], trace.reports[:40], strict=False):
        away = problem.regularizer.inverse_gradient(reports.reshape(problem.n_users, -1))
        values.append(problem.value(rho, list(rho - away.reshape(reports.shape))))
    assert (np.diff(values) <= 1e-11 * (1.0 + abs(values[0]))).all()


@given(
    seed=st.integers(0, 999),
    gamma=st.floats(0.001, 0.02),
    regularizer=st.sampled_from(SMOOTH),
)
@settings(max_examples=15)
def test_a_step_of_an_honest_user_by_its_formula(
    seed: int, gamma: float, regularizer: gc.Regularizer
) -> None:
    problem = cases.example(gc.LeastSquares(), regularizer, users=2, seed=seed)
    trace = run(problem, honest=Honest(gamma), max_rounds=8)
    thetas = np.zeros((2, 2))
    for t in range(8):
        rho = trace.rho[t]
        for n, data in enumerate(problem.datasets):
            theta = thetas[n]
            slope = data.x.T @ (data.counts * (data.x @ theta - data.y)) + 0.6 * theta
            theta = theta - gamma * (slope - regularizer.gradient(rho - theta))
            thetas[n] = theta
            expected = regularizer.gradient(rho - theta)
            np.testing.assert_allclose(trace.reports[t, n], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_everybody_may_choose(loss: gc.Loss) -> None:
    """Exact users report gradients of their envelopes, others arrive there; one optimum for all."""
    problem = cases.example(loss, gc.SquaredL2(0.5), users=3)
    choices = [Honest(), Honest("auto"), Honest(0.01)]
    trace = run(problem, honest=choices, max_rounds=5000)
    assert trace.stopped == "stationary"
    optimum = gc.solve(problem).rho
    np.testing.assert_allclose(trace.rho[-1], optimum, atol=1e-6)
    for t in (0, 1, 5):
        exact = [gc.moreau_envelope(problem, n, trace.rho[t]).gradient for n in range(3)]
        np.testing.assert_allclose(trace.reports[t, 0], exact[0], atol=1e-9)
        assert np.abs(trace.reports[t, 1:] - exact[1:]).max() > 1e-4
    exact = [gc.moreau_envelope(problem, n, trace.rho[-2]).gradient for n in range(3)]
    np.testing.assert_allclose(trace.reports[-1], exact, atol=1e-6)


def test_honest_users_are_like_data_attackers() -> None:
    """An attacker who follows the protocol with the data of a user is that user."""
    problem = cases.example(gc.Logistic(), gc.SmoothL2(2.0), users=3)
    fewer = gc.Problem(problem.loss, problem.regularizer, problem.datasets[:2], 0.3)
    for honest in (Honest(), Honest("auto")):
        options: dict[str, Any] = {"honest": honest, "start": [1.0, -2.0], "max_rounds": 25}
        among = run(problem, **options)
        beside = run(fewer, [DataAttack(problem.datasets[2], honest=honest)], **options)
        np.testing.assert_allclose(beside.rho, among.rho, atol=1e-12)
        np.testing.assert_allclose(beside.reports, among.reports, atol=1e-11)


@pytest.mark.parametrize("attacking", [False, True])
@pytest.mark.parametrize("regularizer", [*KINKED, gc.SquaredL2(1.0)], ids=repr)
def test_no_step_of_honest_users_follows_without_smoothness(
    regularizer: gc.Regularizer, attacking: bool
) -> None:
    """Neither that of users nor that of an attacker who follows the protocol is made up."""
    loss = gc.Poisson() if isinstance(regularizer, gc.SquaredL2) else gc.LeastSquares()
    problem = cases.example(loss, regularizer)
    attacker = DataAttack(problem.datasets[0], honest=Honest("auto"))
    attackers, honest = ([attacker], Honest()) if attacking else ([], Honest("auto"))
    with pytest.raises(gc.UnsupportedCombinationError):
        run(problem, attackers, honest=honest, step_size=0.01)


@pytest.mark.parametrize("honest", [None, 1.0, [Honest()], [Honest()] * 4, ["auto"] * 3])
def test_choices_that_do_not_fit_are_refused(honest: Any) -> None:
    with pytest.raises((gc.InvalidInputError, TypeError)):
        rounds(quadratic(0), honest=honest)


# -- rounds ------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 5), dropped=st.integers(0, 4))
def test_the_relative_pull_by_its_definition(seed: int, m: int, dropped: int) -> None:
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.choice(9, m, replace=False))
    reports, pull = rng.normal(size=(m, 2, 3)), rng.normal(size=(2, 3))
    norms = np.array([math.sqrt(float(np.sum(report**2))) for report in reports])
    out = asked[: min(dropped, m - 1)]
    rejections = tuple(Rejection(0, int(n), "") for n in out)
    one = Round(0, pull, 0.1, asked, reports, norms, rejections, pull, pull)
    kept = norms[len(out) :]
    assert math.isclose(one.relative_pull, math.sqrt(np.sum(pull**2)) / kept.sum(), rel_tol=1e-12)
    still = Round(0, pull, 0.1, asked, reports * 0, norms * 0, (), pull * 0, pull)
    assert still.relative_pull == 0.0


def test_with_the_mean_the_relative_pull_is_that_of_the_sum() -> None:
    """1 where all reports agree, 0 where they cancel."""
    problem = quadratic(0)
    x = problem.datasets[0]
    same = gc.Problem(problem.loss, problem.regularizer, [x, x, x], 0.3)
    assert math.isclose(next(rounds(same)).relative_pull, 1.0, rel_tol=1e-12)
    first = next(rounds(problem, start=gc.solve(problem).rho))
    assert first.relative_pull < 1e-13
    assert first.norms.min() > 1e-2


def test_what_participants_are_asked() -> None:
    """The round, the model, and the step that the sum of the reports asked for makes."""
    queries: list[Query] = []

    def attack(query: Query) -> np.ndarray:
        queries.append(query)
        return np.array([0.3, 0.1])

    problem = quadratic(0, 3)
    trace = run(problem, [attack], fraction=0.5, step_size=0.1, max_rounds=20, seed=2)
    asked = np.flatnonzero(~np.isnan(trace.norms[:, 3]))
    assert [query.round for query in queries] == asked.tolist()
    for query in queries:
        t = query.round
        np.testing.assert_array_equal(query.rho, trace.rho[t])
        assert query.honest is None
        total = np.nansum(trace.reports[t], axis=0)
        np.testing.assert_allclose(
            trace.rho[t + 1], trace.rho[t] - query.step_size * total, atol=1e-14
        )
