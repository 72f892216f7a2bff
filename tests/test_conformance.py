"""Every registered class keeps its contract; so does a new one, written here in one class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import mpmath as mp
import numpy as np
import pytest

import gplconvex as gc
from gplconvex.losses import Loss
from gplconvex.regularizers import Regularizer, lengths, norm
from gplconvex.rounding import UNIT
from tests import oracles
from tests.conformance import check_loss, check_regularizer
from tests.oracles import LossOracle, RegularizerOracle, length

EXAMPLES = [example for name in Regularizer.registry for example in oracles.EXAMPLES[name]]


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("name", Loss.registry)
def test_every_loss_keeps_its_contract(name, intercept):
    oracle = oracles.LOSSES[name]
    check_loss(Loss.registry[name](*oracle.arguments, intercept=intercept), oracle)


@pytest.mark.parametrize("regularizer", EXAMPLES, ids=repr)
def test_every_regularizer_keeps_its_contract(regularizer):
    check_regularizer(regularizer, oracles.REGULARIZERS[regularizer.name](regularizer))


# -- negative controls: break one line, and the check must notice ------------------------------------


def softplus_naive(self, z, y):
    return np.log(1.0 + np.exp(-y * z))


BROKEN_LOSSES = {
    "value overflows": {"value": softplus_naive},
    "residual of the wrong sign": {"residual": lambda s, z, y: -gc.Logistic.residual(s, z, y)},
    "residual cancels": {"residual": lambda s, z, y: -y * (1.0 - 1.0 / (1.0 + np.exp(-y * z)))},
    "residual off by 1e-14": {
        "residual": lambda s, z, y: gc.Logistic.residual(s, z, y) * (1 + 1e-14)
    },
    "curvature": {"curvature": lambda s, z, y: 2.0 * gc.Logistic.curvature(s, z, y)},
    "bounds at the ends only": {
        "curvature_bounds": lambda s, low, high, y: tuple(
            np.sort([s.curvature(low, y), s.curvature(high, y)], axis=0)
        )
    },
    "bounds that say nothing": {
        "curvature_bounds": lambda s, low, high, y: (0.0 * y, 0.25 * np.ones_like(y))
    },
    "pullback forgets the intercept": {
        "pullback": lambda s, x, w: np.append(x.T @ w, 0.0 * w.sum())
    },
    "gram": {"gram": lambda s, x, w: s.pullback(x, w)[:, None] * s.pullback(x, w)},
    "predictor in float64": {
        "predictor": lambda s, x, t: np.asarray(gc.Logistic.predictor(s, x, t), dtype=np.float64)
    },
    "label 0": {"accepts": lambda s, y: (np.abs(y) == 1.0) | (y == 0.0)},
    "curvature_range": {"curvature_range": (0.0, 0.2)},
    "curvature_range of nothing": {"curvature_range": (-1.0, 0.25)},
    "users mixed": {"value": lambda s, z, y: np.logaddexp(0.0, -y * z).reshape(z.shape[::-1]).T},
    "labels unchecked": {"check_labels": lambda s, data, where="": None},
    "cvxpy": {"cvxpy_value": lambda s, z, y: 2.0 * gc.Logistic.cvxpy_value(s, z, y)},
}


@pytest.mark.parametrize("broken", BROKEN_LOSSES)
def test_a_loss_with_one_broken_line_is_caught(broken):
    loss = type("Broken", (gc.Logistic,), BROKEN_LOSSES[broken])(intercept=True)
    with pytest.raises((AssertionError, FloatingPointError)):
        check_loss(loss, oracles.LOSSES["logistic"])


def probabilities(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


BROKEN_GLMS = {
    "overflow warns": (gc.Poisson, {"curvature": lambda s, z, y: np.exp(z)}),
    "cancellation is not allowed for": (
        gc.Poisson,
        {"residual_rounding": lambda s, z, y, w: 8 * UNIT * np.abs(w)},
    ),
    "everything is allowed for": (
        gc.Poisson,
        {"residual_rounding": lambda s, z, y, w: 1e-9 * np.abs(w) + 1e-9},
    ),
    "counts of either sign": (gc.Poisson, {"accepts": lambda s, y: y == np.round(y)}),
    "bounds exchanged": (
        gc.Poisson,
        {"curvature_bounds": lambda s, low, high, y: (s.curvature(high, y), s.curvature(low, y))},
    ),
    "value overflows": (
        gc.Softmax,
        {
            "value": lambda s, z, y: (
                np.log(np.exp(z).sum(axis=1)) - (s.distributions(y, z) * z).sum(axis=1)
            )
        },
    ),
    "residual cancels": (
        gc.Softmax,
        {"residual": lambda s, z, y: probabilities(z) - s.distributions(y, z)},
    ),
    "residual without a label": (gc.Softmax, {"residual": lambda s, z, y: probabilities(z)}),
    "curvature without the product": (
        gc.Softmax,
        {"curvature": lambda s, z, y: probabilities(z)[:, :, None] * np.eye(s.n_classes)},
    ),
    "curvature cancels": (
        gc.Softmax,
        {
            "curvature": lambda s, z, y: (
                probabilities(z)[:, :, None] * (np.eye(s.n_classes) - probabilities(z)[:, None, :])
            )
        },
    ),
    "curvature_times": (
        gc.Softmax,
        {"curvature_times": lambda s, z, y, v: probabilities(z) * v},
    ),
    "curvature_diagonal without the product": (
        gc.Softmax,
        {"curvature_diagonal": lambda s, z, y: probabilities(z)},
    ),
    "curvature_diagonal cancels": (
        gc.Softmax,
        {"curvature_diagonal": lambda s, z, y: probabilities(z) * (1.0 - probabilities(z))},
    ),
    "jet with another residual": (
        gc.Softmax,
        {
            "jet": lambda s, z, y, v: (
                s.value(z, y),
                probabilities(z) - s.distributions(y, z),
                gc.Softmax.jet(s, z, y, v)[2],
            )
        },
    ),
    "jet without the mean": (
        gc.Softmax,
        {
            "jet": lambda s, z, y, v: (
                s.value(z, y),
                s.residual(z, y),
                np.sum(probabilities(z) * v * v, axis=-1),
            )
        },
    ),
    "bounds of the diagonal": (
        gc.Softmax,
        {
            "curvature_bounds": lambda s, low, high, y: tuple(
                b / d
                for b, d in zip(
                    gc.Softmax.curvature_bounds(s, low, high, y), (1.0, 2.0), strict=True
                )
            )
        },
    ),
    "bounds at the ends only": (
        gc.Softmax,
        {
            "curvature_bounds": lambda s, low, high, y: (
                np.zeros(len(low)),
                np.maximum(
                    *(np.linalg.norm(s.curvature(z, y), 2, (1, 2)) for z in (low, high)),
                ),
            )
        },
    ),
    "bounds that say nothing": (
        gc.Softmax,
        {"curvature_bounds": lambda s, low, high, y: (np.zeros(len(low)), np.ones(len(low)))},
    ),
    "gram column by column": (
        gc.Softmax,
        {
            "gram": lambda s, x, w: (
                gc.Softmax.gram(s, x, w)
                if w.ndim == 1
                else sum(
                    (
                        np.kron(v, np.outer(row, row))
                        for row, v in zip(extended(s, x), w, strict=True)
                    ),
                    np.zeros(((x.shape[1] + s.intercept) * s.n_classes,) * 2),
                )
            )
        },
    ),
    "any sum": (
        gc.Softmax,
        {"accepts": lambda s, y: gc.Softmax.accepts(s, y) if y.ndim == 1 else (y >= 0).all(axis=1)},
    ),
    "negative entries": (
        gc.Softmax,
        {
            "accepts": lambda s, y: (
                gc.Softmax.accepts(s, y) if y.ndim == 1 else np.abs(y.sum(axis=1) - 1.0) <= 1e-12
            )
        },
    ),
    "shape": (gc.Softmax, {"shape": lambda s, d: (s.n_classes, d + s.intercept)}),
    "cvxpy": (
        gc.Softmax,
        {"cvxpy_value": lambda s, z, y: gc.Softmax.cvxpy_value(s, z, 0.0 * s.distributions(y, z))},
    ),
}


def extended(loss, x):
    return np.column_stack([x, np.ones(len(x))]) if loss.intercept else x


@pytest.mark.parametrize("broken", BROKEN_GLMS)
def test_a_loss_of_counts_or_classes_with_one_broken_line_is_caught(broken):
    base, body = BROKEN_GLMS[broken]
    oracle = oracles.LOSSES[base.name]
    loss = type("Broken", (base,), body)(*oracle.arguments, intercept=True)
    with pytest.raises((AssertionError, FloatingPointError, RuntimeWarning, ValueError)):
        check_loss(loss, oracle)


def naive_residual(self, u, g, uncertainty=0.0):
    plain = self.value(u) + self.conjugate(g) - np.sum(u * g, axis=-1)
    return np.maximum(0.0, plain + 1e-15) + uncertainty


BROKEN_REGULARIZERS = {
    "value": (gc.SmoothL2, {"value": lambda s, u: s.lam * norm(u)}),
    "gradient": (gc.SmoothL2, {"gradient": lambda s, u: (1 + 1e-12) * gc.SmoothL2.gradient(s, u)}),
    "hessian": (gc.L2, {"hessian": lambda s, u: s.lam / norm(u) * np.eye(u.size)}),
    "slope": (gc.SmoothL2, {"slope": lambda s, t: s.lam / (s.delta + t)}),
    "curvature": (gc.SmoothL2, {"curvature": lambda s, t: s.lam * s.delta / (1.0 + t * t)}),
    "vectors mixed": (gc.SquaredL2, {"value": lambda s, u: s.lam * norm(u) ** 2 + 0.0 * u[..., 0]}),
    "conjugate": (gc.SquaredL2, {"conjugate": lambda s, g: norm(g) ** 2 / (2 * s.lam)}),
    "conjugate outside": (gc.L2, {"conjugate": lambda s, g: 0.0}),
    "inverse": (gc.SmoothL2, {"inverse_gradient": lambda s, g: g * s.delta / s.lam}),
    "inverse_lipschitz too small": (
        gc.SmoothL2,
        {"inverse_lipschitz": lambda s, b: np.where(b < s.lam, s.delta / s.lam, math.inf)},
    ),
    "inverse_lipschitz too large": (
        gc.SquaredL2,
        {"inverse_lipschitz": lambda s, b: np.full_like(b, 1.0 / s.lam)},
    ),
    "residual cancels": (gc.SquaredL2, {"fenchel_young": naive_residual}),
    "residual ignores the uncertainty": (
        gc.SmoothL2,
        {"fenchel_young": lambda s, u, g, off=0.0: gc.SmoothL2.fenchel_young(s, u, g)},
    ),
    "residual too small": (
        gc.L2,
        {
            "fenchel_young": lambda s, u, g, off=0.0: (
                (1 - 1e-9) * lengths(u) * (s.lam - lengths(g)) + off
            )
        },
    ),
    "residual says nothing": (
        gc.SmoothL2,
        {"fenchel_young": lambda s, u, g, off=0.0: np.full(u.shape[:-1], math.inf)},
    ),
    "strong_convexity": (gc.SquaredL2, {"strong_convexity": property(lambda s: 2.1 * s.lam)}),
    "strong_convexity of nothing": (gc.SquaredL2, {"strong_convexity": property(lambda s: 0.0)}),
    "smoothness": (gc.SmoothL2, {"smoothness": property(lambda s: 0.9 * s.lam / s.delta)}),
    "kink": (gc.L2, {"kink": property(lambda s: 1.1 * s.lam)}),
    "no kink": (gc.L2, {"kink": property(lambda s: 0.9 * s.lam)}),
    "radius": (gc.SmoothL2, {"radius": property(lambda s: 0.9 * s.lam)}),
    "radius too large": (gc.L2, {"radius": property(lambda s: 1.1 * s.lam)}),
    "cvxpy": (gc.SquaredL2, {"cvxpy_value": lambda s, u: 0.5 * gc.SquaredL2.cvxpy_value(s, u)}),
    "consensus": (gc.HardConsensus, {"value": lambda s, u: np.zeros(u.shape[:-1])}),
}


@pytest.mark.parametrize("broken", BROKEN_REGULARIZERS)
def test_a_regularizer_with_one_broken_line_is_caught(broken):
    base, body = BROKEN_REGULARIZERS[broken]
    regularizer = type("Broken", (base,), body)(*(() if base is gc.HardConsensus else (0.7,)))
    with pytest.raises((AssertionError, FloatingPointError)):
        check_regularizer(regularizer, oracles.REGULARIZERS[base.name](regularizer))


def test_a_subclass_without_a_name_of_its_own_is_not_registered():
    before = dict(Loss.registry)
    type("Nameless", (gc.Logistic,), {})
    assert Loss.registry == before


# -- a new loss: one class ---------------------------------------------------------------------------

LOG_COSH = LossOracle(lambda z, y: mp.log(mp.cosh(z - y)), (0.0, -2.5, 1.25), (np.nan, np.inf))


@pytest.fixture
def log_cosh():
    """The class of a robust regression loss, registered as long as the test lasts."""

    @dataclass(frozen=True)
    class LogCosh(Loss):
        r"""log cosh(z - y): quadratic near 0, |z - y| - log 2 far away."""

        intercept: bool = False
        name: ClassVar[str] = "log-cosh"
        label_rule: ClassVar[str] = "any finite real label"
        curvature_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

        def accepts(self, y):
            return np.isfinite(y)

        def value(self, z, y):
            t = np.abs(z - y)
            # log cosh t = log1p(sinh^2 t) / 2, which does not cancel near 0.
            near = 0.5 * np.log1p(np.sinh(np.minimum(t, 1.0)) ** 2)
            return np.where(t < 1.0, near, t + np.log1p(np.exp(-2.0 * t)) - math.log(2.0))

        def residual(self, z, y):
            return np.tanh(z - y)

        def curvature(self, z, y):
            small = np.exp(-2.0 * np.abs(z - y))
            return 4.0 * small / (1.0 + small) ** 2

        def curvature_bounds(self, low, high, y):
            farthest = np.maximum(np.abs(low - y), np.abs(high - y))
            return self.curvature(farthest, 0.0 * y), self.curvature(np.clip(y, low, high), y)

        def cvxpy_value(self, z, y):
            import cvxpy as cp

            # cosh t = exp(-t) (1 + exp(2 t)) / 2
            return cp.logistic(2.0 * (z - y)) - (z - y) - math.log(2.0)

    yield LogCosh
    del Loss.registry["log-cosh"]


@pytest.mark.parametrize("intercept", [False, True])
def test_a_new_loss_keeps_the_contract(log_cosh, intercept):
    assert Loss.registry["log-cosh"] is log_cosh
    check_loss(log_cosh(intercept=intercept), LOG_COSH)


def data_of(loss, users=4, rows=9, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        gc.Dataset(rng.normal(size=(rows, d)), rng.standard_t(2, rows), rng.integers(1, 4, rows))
        for _ in range(users)
    ]


@pytest.mark.parametrize("regularizer", EXAMPLES, ids=repr)
def test_a_new_loss_is_solved_certified_and_enveloped(log_cosh, regularizer, monkeypatch):
    problem = gc.Problem(log_cosh(intercept=True), regularizer, data_of(log_cosh), nu=0.05)
    solution = gc.solve(problem).require_optimal()
    assert solution.certificate.relative_gap <= 1e-12
    reference = gc.solve(problem, method="cvxpy")
    allowed = solution.certificate.distance + reference.certificate.distance
    assert np.linalg.norm(solution.rho - reference.rho) <= allowed
    slack = 1e-14 * (1.0 + abs(solution.value))  # values themselves are rounded
    assert reference.value >= solution.value - solution.certificate.gap - slack
    monkeypatch.setitem(oracles.LOSSES, "log-cosh", LOG_COSH)
    for user, theta in enumerate(solution.thetas):
        envelope = gc.moreau_envelope(problem, user, solution.rho)
        reach = 1e-12 + solution.certificate.theta_distances[user]
        np.testing.assert_allclose(envelope.theta, theta, atol=reach)
        local = problem.locals[user]
        computed, bound = local.certified_gradient(envelope.theta)
        exact = oracles.local_gradient(
            problem.loss, problem.datasets[user], problem.nu[user], envelope.theta
        )
        off = [mp.mpf(float(a)) - b for a, b in zip(computed, exact, strict=True)]
        assert length(off) <= bound
        np.testing.assert_allclose(envelope.gradient, computed, atol=1e-11)


def test_a_new_loss_is_left_behind_nowhere():
    assert "log-cosh" not in Loss.registry


# -- a new regularizer: one class --------------------------------------------------------------------


def huber_oracle(reg):
    lam, delta = mp.mpf(reg.lam), mp.mpf(reg.delta)

    def r(u):
        t = length(u)
        return lam * t * t / (2 * delta) if t <= delta else lam * (t - delta / 2)

    def conjugate(g):
        return mp.inf if length(g) > lam else delta * length(g) ** 2 / (2 * lam)

    return RegularizerOracle(r, conjugate)


@pytest.fixture
def huber():
    """The class of a regularizer whose gradient saturates, registered as long as the test lasts."""

    @dataclass(frozen=True)
    class Huber(Regularizer):
        """lam |u|^2 / (2 delta) up to |u| = delta, and lam (|u| - delta / 2) beyond."""

        lam: float
        delta: float = 1.0
        name: ClassVar[str] = "huber"

        @property
        def radius(self) -> float:
            return self.lam

        kink: ClassVar[float] = 0.0
        strong_convexity: ClassVar[float] = 0.0

        @property
        def smoothness(self) -> float:
            return self.lam / self.delta

        def inverse_lipschitz(self, bound):
            return np.where(bound < self.lam, self.delta / self.lam, math.inf)

        def value(self, u):
            t = lengths(u)
            near, far = t * t / (2.0 * self.delta), t - self.delta / 2.0
            return self.lam * np.where(t <= self.delta, near, far)

        def gradient(self, u):
            return self.lam * (u / np.maximum(lengths(u), self.delta)[..., None])

        def slope(self, t):
            return self.lam / np.maximum(t, self.delta)

        def curvature(self, t):
            return np.where(t <= self.delta, self.lam / self.delta, 0.0)

        def conjugate(self, g):
            size = lengths(g)
            return np.where(size <= self.lam, self.delta * size**2 / (2.0 * self.lam), math.inf)

        def inverse_gradient(self, g):
            return g * (self.delta / self.lam)

        def is_reachable(self, g):
            return self.is_plausible(g)

        def fenchel_young(self, u, g, uncertainty=0.0):
            # Inside, the square of grad r(u) - g; outside, that square and (|u| - delta) times what
            # the part of g along u lacks of lam.
            t, size, natural = lengths(u), lengths(g), self.gradient(u)
            rounding = 8.0 * UNIT * (size + self.lam * np.minimum(1.0, t / self.delta))
            off = lengths(natural - g) + rounding + uncertainty
            square = off**2 * self.delta / (2 * self.lam)
            lack = lengths(natural) - np.sum(g * u, axis=-1) / np.maximum(t, self.delta)
            beyond = (t - self.delta) * np.maximum(0.0, lack + 2 * rounding + uncertainty)
            return square + np.where(t <= self.delta, 0.0, beyond)

        def cvxpy_value(self, u: Any):
            import cvxpy as cp

            length = cp.norm(cp.vec(u, order="C"), 2)
            return self.lam / (2.0 * self.delta) * cp.huber(length, self.delta)

    yield Huber
    del Regularizer.registry["huber"]


@pytest.mark.parametrize(("lam", "delta"), [(0.7, 1.3), (3.0, 20.0)])
def test_a_new_regularizer_keeps_the_contract(huber, lam, delta):
    regularizer = huber(lam, delta)
    check_regularizer(regularizer, huber_oracle(regularizer))


@pytest.mark.parametrize("loss", [gc.LeastSquares(), gc.Logistic(intercept=True)], ids=repr)
def test_a_new_regularizer_is_solved_and_certified(huber, loss):
    rng = np.random.default_rng(3)
    y = rng.choice([-1.0, 1.0], (4, 12))
    datasets = [gc.Dataset(rng.normal(size=(12, 3)), y[n]) for n in range(4)]
    problem = gc.Problem(loss, huber(2.0, 0.5), datasets, nu=0.1)
    solution = gc.solve(problem).require_optimal()
    reference = gc.solve(problem, method="cvxpy")
    assert solution.certificate.relative_gap <= 1e-12
    assert solution.certificate.relative_distance <= 1e-8
    allowed = solution.certificate.distance + reference.certificate.distance
    assert np.linalg.norm(solution.rho - reference.rho) <= allowed
