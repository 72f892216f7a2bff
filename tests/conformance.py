"""What every loss and every regularizer must satisfy, whoever wrote it.

`check_loss` and `check_regularizer` raise `AssertionError`, naming the clause. They know of the class
only what it says of itself, and of the mathematics only the formula that is passed in.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import mpmath as mp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize

import gplconvex as gc
from gplconvex.rounding import UNIT
from tests.oracles import (
    LossOracle,
    RegularizerOracle,
    bend,
    fenchel_young,
    gradient,
    hessian,
    slope,
)

TINY = float(np.finfo(np.float64).tiny)
"""Below it float64 has fewer digits: the standard model of rounding leaves underflow out."""

LARGEST = float(np.finfo(np.float64).max)


def require(holds: Any, clause: str, *values: Any) -> None:
    if not np.all(holds):
        raise AssertionError(f"{clause}: {', '.join(map(str, values))}")


# -- losses ------------------------------------------------------------------------------------------

MAGNITUDES = (1e-300, 1e-20, 1e-9, 1e-3, 0.1, 1.0, 3.0, 17.5, 36.7, 100.0, 700.0, 1000.0)
PREDICTORS = np.array(
    [0.0, *MAGNITUDES, *(-z for z in MAGNITUDES), *np.random.default_rng(0).normal(0, 5, 20)]
)


def check_loss(loss: gc.Loss, oracle: LossOracle) -> None:
    """Check every clause of the contract of a loss."""
    with np.errstate(over="raise", invalid="raise", divide="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in oracle.labels:
            _values_and_derivatives(loss, oracle, y)
            _convexity(loss, y)
            _curvature_bounds(loss, y)
        _adjoint(loss)
        _labels(loss, oracle)
    _loss_in_cvxpy(loss, oracle)


def _values_and_derivatives(loss: gc.Loss, oracle: LossOracle, y: float) -> None:
    z, label = PREDICTORS, np.full(len(PREDICTORS), y)

    def phi(t: Any) -> Any:
        return oracle.phi(t, mp.mpf(y))

    for what, computed, reference, tolerance, floor in (
        ("value", loss.value(z, label), lambda f, t: f(mp.mpf(float(t))), 8.0, 8.0 * UNIT),
        ("residual", loss.residual(z, label), slope, 8.0, TINY),
        ("curvature", loss.curvature(z, label), bend, 16.0, TINY),
    ):
        require(computed.shape == z.shape and computed.dtype == np.float64, f"shape of {what}")
        for t, got in zip(z, computed, strict=True):
            with mp.workdps(600):
                wanted = reference(phi, float(t))
                if abs(wanted) > LARGEST:
                    continue
                off = abs(mp.mpf(float(got)) - wanted)
                # What rounding z - y costs a function of it that decays like exp(-2 |z - y|).
                spread = 1.0 + abs(t) + abs(y) if what == "curvature" else 1.0
                allowed = tolerance * UNIT * spread * abs(wanted) + floor
                require(off <= allowed, f"{what} at z = {t}, y = {y}", got, mp.nstr(wanted, 20))


def _convexity(loss: gc.Loss, y: float) -> None:
    z = np.sort(PREDICTORS)
    label = np.full(len(z), y)
    slopes = loss.residual(z, label)
    rise = np.diff(slopes) >= -8.0 * UNIT * (np.abs(slopes[1:]) + np.abs(slopes[:-1])) - TINY
    require(rise, "the residual increases with z")
    require(loss.curvature(z, label) >= 0.0, "curvature >= 0")
    middle = loss.value((z[1:] + z[:-1]) / 2, label[1:])
    chord = (loss.value(z[1:], label[1:]) + loss.value(z[:-1], label[1:])) / 2
    require(middle <= chord * (1 + 8 * UNIT) + 8 * UNIT, "the value lies below its chords")


def _curvature_bounds(loss: gc.Loss, y: float) -> None:
    rng = np.random.default_rng(1)
    ends = np.sort(rng.normal(0, 5, (40, 2)), axis=1)
    ends = np.vstack([ends, [[-3, -3], [0, 0], [0, 2], [-2, 0], [-1e3, -7e2], [-40, 40]]])
    label = np.full(len(ends), y)
    least, greatest = loss.curvature_bounds(ends[:, 0], ends[:, 1], label)
    inside = np.linspace(ends[:, 0], ends[:, 1], 4001)
    sampled = loss.curvature(inside, np.full(inside.shape, y))
    require(least <= sampled * (1 + 8 * UNIT) + TINY, "least curvature on intervals")
    require(sampled <= greatest * (1 + 8 * UNIT) + TINY, "greatest curvature on intervals")
    assert_allclose(least, sampled.min(axis=0), rtol=0.01, atol=1e-9, err_msg="least is reached")
    assert_allclose(greatest, sampled.max(axis=0), rtol=0.01, err_msg="greatest is reached")
    for low, high in ((-np.inf, np.inf), (-np.inf, -1.0), (2.0, np.inf), (-1.0, np.inf)):
        least, greatest = loss.curvature_bounds(np.array([low]), np.array([high]), np.array([y]))
        require(np.isfinite(least) & (least >= 0.0) & ~np.isnan(greatest), "infinite intervals")
        z = np.clip(np.concatenate([PREDICTORS, [low, high]]), max(low, -1e3), min(high, 1e3))
        sampled = loss.curvature(z, np.full(len(z), y))
        holds = (least <= sampled.min()) & (sampled.max() <= greatest * (1 + 8 * UNIT))
        require(holds, f"[{low}, {high}]", y)


def _adjoint(loss: gc.Loss) -> None:
    # Whole numbers, so that every sum is exact in any order.
    rng = np.random.default_rng(2)
    for m, d in ((7, 3), (1, 1), (0, 2), (4, 0)):
        x = rng.integers(-9, 10, (m, d)).astype(float)
        extended = np.column_stack([x, np.ones(m)]) if loss.intercept else x
        theta = rng.integers(-9, 10, loss.shape(d)).astype(float)
        w = rng.integers(-9, 10, m).astype(float)
        assert_array_equal(loss.predictor(x, theta), extended @ theta, "predictor")
        assert_array_equal(loss.pullback(x, w), extended.T @ w, "pullback")
        require(loss.predictor(x, theta) @ w == theta @ loss.pullback(x, w), "adjointness")
        outer = np.zeros((len(theta), len(theta)))
        for row, weight in zip(extended, w, strict=True):
            outer += weight * np.outer(row, row)
        assert_array_equal(loss.gram(x, w), outer, "gram is the sum of outer products")
        long = x.astype(np.longdouble)
        for result in (loss.predictor(long, theta), loss.pullback(long, w)):
            require(result.dtype == np.longdouble, "extended precision is kept")


def _labels(loss: gc.Loss, oracle: LossOracle) -> None:
    require(loss.accepts(np.array(oracle.labels)), "labels are accepted", oracle.labels)
    require(~loss.accepts(np.array(oracle.refused)), "labels are refused", oracle.refused)
    good = oracle.labels[0]
    loss.check_labels(gc.Dataset(np.zeros((2, 1)), [good, good]))
    for bad in filter(math.isfinite, oracle.refused):
        _raises(loss, gc.Dataset(np.zeros((3, 1)), [good, good, bad]), "row 2", f"{bad:g}")
    _raises(loss, gc.Dataset(np.zeros((1, 1)), [[good, good]]), "(1, 2)")


def _raises(loss: gc.Loss, data: gc.Dataset, *words: str) -> None:
    try:
        loss.check_labels(data, where="user 5: ")
    except gc.InvalidInputError as error:
        require(all(word in str(error) for word in ("user 5", loss.name, *words)), str(error))
    else:
        raise AssertionError(f"labels {data.y.tolist()} were not refused")


def _loss_in_cvxpy(loss: gc.Loss, oracle: LossOracle) -> None:
    import cvxpy as cp

    z = np.linspace(-30, 30, 25)
    for y in oracle.labels:
        label = np.full(len(z), y)
        variable = cp.Variable(len(z))
        expression = loss.cvxpy_value(variable, label)
        require(expression.is_dcp() and expression.is_convex(), "cvxpy sees a convex function")
        variable.value = z
        assert_allclose(
            expression.value, loss.value(z, label), rtol=1e-11, atol=1e-11, err_msg="cvxpy value"
        )


# -- regularizers ------------------------------------------------------------------------------------

LENGTHS = (1e-6, 1e-3, 0.1, 1.0, 8.0)
SHAPES = ((1,), (3,), (2, 2), (3, 1))


def check_regularizer(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    """Check every clause of the contract of a regularizer."""
    with np.errstate(over="raise", invalid="raise", divide="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        _at_zero(regularizer)
        _dual_domain(regularizer)
        _conjugate(regularizer, oracle)
        _inverse(regularizer)
        _kink(regularizer, oracle)
        _residual(regularizer, oracle)
        if math.isinf(regularizer.kink):
            _one_model(regularizer)
        else:
            _gradient_and_hessian(regularizer, oracle)
            _inequalities(regularizer, oracle)
            _curvature_constants(regularizer)
    if math.isfinite(regularizer.kink):
        _regularizer_in_cvxpy(regularizer)


def _units(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    draws = [rng.normal(size=shape) for shape in (shapes or SHAPES)]
    return [draw / np.linalg.norm(draw) for draw in draws]


def _points(seed: int) -> list[np.ndarray]:
    return [t * unit for unit in _units(seed) for t in LENGTHS]


def _duals(regularizer: gc.Regularizer, seed: int) -> list[np.ndarray]:
    """Reports well inside Grad, and near its boundary."""
    size = min(regularizer.radius, 5.0)
    return [t * size * unit for unit in _units(seed) for t in (1e-6, 0.3, 0.9, 0.999)]


def _at_zero(regularizer: gc.Regularizer) -> None:
    for shape in SHAPES:
        zero = np.zeros(shape)
        assert_array_equal(regularizer.gradient(zero), zero, "no difference, no pull")
        require(regularizer.fenchel_young(zero, zero) <= 1e-300 + UNIT**2, "e(0, 0) = 0")
        require(regularizer.value(zero) <= regularizer.value(zero + 1e-3), "r is least at 0")


def _gradient_and_hessian(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    for u in _points(3):
        g = regularizer.gradient(u)
        require(g.shape == u.shape, "shape of the gradient", g.shape)
        wanted = gradient(oracle.r, u)
        assert_allclose(g.ravel(), wanted, rtol=0, atol=16 * UNIT * np.linalg.norm(wanted))
        with mp.workdps(30):
            value = float(oracle.r([mp.mpf(float(x)) for x in u.ravel()]))
        assert_allclose(regularizer.value(u), value, rtol=16 * UNIT, err_msg="value")
        bend = regularizer.hessian(u)
        require(bend.shape == (u.size, u.size), "shape of the Hessian", bend.shape)
        wanted = hessian(oracle.r, u)
        scale = max(np.linalg.norm(wanted), np.linalg.norm(g) / np.linalg.norm(u))
        assert_allclose(bend, wanted, rtol=0, atol=32 * UNIT * scale, err_msg="Hessian")


def _inequalities(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    s, smoothness = regularizer.strong_convexity, regularizer.smoothness
    for u, v in zip(_points(4), [1.7 * v for v in _points(5)], strict=True):
        with mp.workdps(50):
            g = regularizer.gradient(u)
            u_exact, v_exact, g_exact = (
                [mp.mpf(float(x)) for x in array.ravel()] for array in (u, v, g)
            )
            move = [b - a for a, b in zip(u_exact, v_exact, strict=True)]
            square = mp.fsum(a * a for a in move)
            above = oracle.r(v_exact) - oracle.r(u_exact)
            above -= mp.fsum(a * b for a, b in zip(g_exact, move, strict=True))
            slack = 32 * UNIT * float(np.linalg.norm(g)) * float(mp.sqrt(square))
            require(above >= -slack, "the gradient is a subgradient", above)
            require(above >= s / 2 * square - slack, "strong convexity", above)
            require(above <= smoothness * square / 2 + slack, "smoothness", above)


def _curvature_constants(regularizer: gc.Regularizer) -> None:
    s, smoothness = regularizer.strong_convexity, regularizer.smoothness
    (unit,) = _units(6, (3,))
    spectra = [np.linalg.eigvalsh(regularizer.hessian(t * unit)) for t in np.logspace(-7, 5, 49)]
    for e in spectra:
        require(e[0] >= s - 1e-14 * e[-1], "no curvature below the constant", e, s)
    least, greatest = min(e[0] for e in spectra), max(e[-1] for e in spectra)
    require(least <= s + 1e-3, "the constant of strong convexity is the largest", least, s)
    require(greatest <= smoothness * (1 + 1e-12), "no curvature above the constant", greatest)
    require(greatest >= min(smoothness * (1 - 1e-6), 1e5), "smoothness is the smallest", greatest)


def _conjugate(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    for g in _duals(regularizer, 7):
        with mp.workdps(30):
            wanted = float(oracle.conjugate([mp.mpf(float(x)) for x in g.ravel()]))
        assert_allclose(regularizer.conjugate(g), wanted, rtol=1e-11, err_msg="conjugate")
    if math.isinf(regularizer.kink):
        return  # the supremum over u = 0 alone is 0
    for t in (0.2, 0.8):
        (g,) = (t * min(regularizer.radius, 3.0) * unit for unit in _units(8, (2,)))
        found = optimize.minimize(
            lambda u, g=g: regularizer.value(u) - u @ g,
            np.array([0.3, -0.2]),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000},
        )
        assert_allclose(regularizer.conjugate(g), -found.fun, rtol=1e-7, atol=1e-9)


def _dual_domain(regularizer: gc.Regularizer) -> None:
    radius = regularizer.radius
    for unit in _units(9, (1,), (3,), (2, 2)):
        if math.isinf(radius):
            require(regularizer.is_plausible(1e150 * unit), "every report is plausible")
            require(regularizer.is_reachable(1e150 * unit), "every report is reachable")
            continue
        outside, inside = 1.000001 * radius * unit, 0.999999 * radius * unit
        require(not regularizer.is_plausible(outside), "a report outside Grad is dropped")
        require(not regularizer.is_reachable(outside), "and is no subgradient")
        require(regularizer.conjugate(outside) == math.inf, "and has no conjugate")
        require(regularizer.is_plausible(inside), "a report inside Grad passes")
        require(regularizer.is_reachable(inside), "and is a subgradient")
        growth = [float(np.vdot(t * unit, outside)) - regularizer.value(t * unit) for t in (1, 1e9)]
        require(growth[1] > growth[0] + 100 * radius, "outside, <u, g> - r(u) is unbounded")
        for t in (1e-3, 1.0, 1e3, 1e9):
            size = np.linalg.norm(regularizer.gradient(t * unit))
            require(size <= radius * (1 + 4 * UNIT), "gradients lie in Grad", size)
        require(size >= 0.999999 * radius, "and fill it", size)
    edge = np.array([radius if math.isfinite(radius) else 1.0])
    require(regularizer.is_plausible(edge), "Grad is closed for the server")


def _kink(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    """The subdifferential at 0 is the ball of that radius: not less, not more."""
    kink = regularizer.kink
    steps = (1e-9, 1e-3, 1.0)

    def excess(unit: np.ndarray, size: float, t: float) -> Any:
        with mp.workdps(80):
            return oracle.r([mp.mpf(t) * mp.mpf(float(x)) for x in unit.ravel()]) - (
                oracle.r([mp.mpf(0)] * unit.size) + mp.mpf(size) * mp.mpf(t)
            )

    for unit in _units(10, (1,), (3,)):
        for t in steps:
            size = (1 - 1e-12) * kink if math.isfinite(kink) else 1e12
            require(excess(unit, size, t) >= -1e-15 * t * size, "subgradients at 0", t)
        if math.isfinite(kink):
            require(excess(unit, 1.001 * kink + 1e-3, 1e-9) < 0.0, "no other subgradient at 0")


def _inverse(regularizer: gc.Regularizer) -> None:
    for g in _duals(regularizer, 11):
        u = regularizer.inverse_gradient(g)
        require(u.shape == g.shape, "shape of the inverse")
        scale = 1.0 + np.linalg.norm(u) * np.linalg.norm(g)
        require(regularizer.fenchel_young(u, g) <= 1e-14 * scale, "g is a subgradient there", g)
        if regularizer.kink == 0.0:
            assert_allclose(regularizer.gradient(u), g, rtol=0, atol=1e-12 * np.linalg.norm(g))
    radius = min(regularizer.radius, 4.0)
    for bound in (0.0, 0.5 * radius, 0.99 * radius, 0.9999 * radius):
        lipschitz = regularizer.inverse_lipschitz(bound)
        if math.isinf(lipschitz):
            require(regularizer.kink == regularizer.radius, "an invertible gradient has a bound")
            continue
        ratios = [0.0]
        for one, two in zip(_units(12), _units(13), strict=True):
            for a, b in ((bound * one, bound * 0.999999 * one), (bound * one, 0.3 * bound * two)):
                change = regularizer.inverse_gradient(a) - regularizer.inverse_gradient(b)
                if bound:
                    ratios.append(float(np.linalg.norm(change) / np.linalg.norm(a - b)))
        require(max(ratios) <= lipschitz * (1 + 1e-9), "Lipschitz constant", max(ratios))
        if bound and lipschitz:
            require(max(ratios) >= 0.95 * lipschitz, "which is tight", max(ratios), lipschitz)
    if math.isfinite(regularizer.radius):
        for bound in (regularizer.radius, 2.0 * regularizer.radius):
            require(regularizer.inverse_lipschitz(bound) == math.inf, "no inverse beyond Grad")


def _residual(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    """`fenchel_young` is at least e(u, g), and not by more than rounding explains."""
    points = [np.zeros(shape) for shape in SHAPES]
    if math.isfinite(regularizer.kink):
        points += _points(14)
    rng = np.random.default_rng(15)
    for u in points:
        natural = regularizer.gradient(u)
        far = rng.normal(size=u.shape)
        far *= 0.5 * min(regularizer.radius, 5.0) / np.linalg.norm(far)
        size = max(float(np.linalg.norm(natural)), 1e-3)
        for perturbation in (0.0, 1e-9, 1e-3, None):
            if perturbation is None:
                g = far
            else:
                noise = rng.normal(size=u.shape)
                g = natural + perturbation * size * noise / np.linalg.norm(noise)
                # Into the domain of the conjugate, where a residual is finite; well into it where
                # the inverse of the gradient is steep, and so the residual ill-conditioned.
                margin = 1e-12 if _on_sphere(regularizer, natural) else 1e-6
                g *= min(1.0, regularizer.radius * (1 - margin) / max(np.linalg.norm(g), TINY))
            _one_residual(regularizer, oracle, u, g)
            for uncertainty in (1e-12, 1e-6, 0.05):
                _dominates(regularizer, oracle, u, g, uncertainty * min(regularizer.radius, 5.0))


def _on_sphere(regularizer: gc.Regularizer, g: np.ndarray) -> bool:
    return bool(np.linalg.norm(g) >= (1 - 1e-12) * regularizer.radius)


def _one_residual(regularizer: gc.Regularizer, oracle: RegularizerOracle, u: Any, g: Any) -> None:
    bound, true = regularizer.fenchel_young(u, g), fenchel_young(oracle, u, g)
    require(true <= bound, "the bound holds", bound, mp.nstr(true, 10))
    if math.isinf(bound):  # only too near the sphere to say
        require(np.linalg.norm(g) > (1 - 1e-9) * regularizer.radius, "a bound is available", u, g)
        return
    # A difference of terms of size `scale` would be off by 1e-16 times it. A square of residuals, each
    # off by 1e-16 times the root of that, is far better; where gradients lie on the sphere the
    # residual is linear, not quadratic, in what rounding does to g.
    sizes = np.linalg.norm(u), np.linalg.norm(g), np.linalg.norm(regularizer.gradient(u))
    scale = float(sizes[0] * sizes[1]) + abs(regularizer.conjugate(g))
    if _on_sphere(regularizer, regularizer.gradient(u)):
        exact_enough = bound <= float(true) + 1e-14 * sizes[0] * (sizes[1] + sizes[2])
    else:
        exact_enough = math.sqrt(bound) <= math.sqrt(true) + 1e-12 * math.sqrt(scale)
    require(exact_enough, "no cancellation", bound, mp.nstr(true, 10), u, g)


def _dominates(
    regularizer: gc.Regularizer, oracle: RegularizerOracle, u: Any, g: Any, uncertainty: float
) -> None:
    bound = regularizer.fenchel_young(u, g, uncertainty)
    require(bound >= regularizer.fenchel_young(u, g), "uncertainty costs")
    rng = np.random.default_rng(16)
    directions = [u, -u, g, -g, regularizer.gradient(u) - g, *rng.normal(size=(3, *u.shape))]
    for direction in directions:
        if np.linalg.norm(direction) > 0.0:
            near = g + (1 - 1e-9) * uncertainty / np.linalg.norm(direction) * direction
            if np.linalg.norm(near) < regularizer.radius:
                true = fenchel_young(oracle, u, near)
                require(true <= bound, "the bound holds nearby", bound, mp.nstr(true, 10))


def _one_model(regularizer: gc.Regularizer) -> None:
    """An infinite kink: r is 0 at 0 and infinite elsewhere."""
    for u in _points(17):
        require(regularizer.value(u) == math.inf, "r is infinite away from 0")
        require(regularizer.fenchel_young(u, u) == math.inf, "so is the residual")
        for refuse in (regularizer.gradient, regularizer.hessian, regularizer.cvxpy_value):
            try:
                refuse(u)
            except gc.InvalidInputError:
                continue
            raise AssertionError(f"{refuse} must refuse")
    require(regularizer.value(np.zeros(3)) == 0.0, "r(0) = 0")
    require(regularizer.strong_convexity == math.inf, "infinite curvature")


def _regularizer_in_cvxpy(regularizer: gc.Regularizer) -> None:
    import cvxpy as cp

    for shape in SHAPES:
        variable = cp.Variable(shape)
        expression = regularizer.cvxpy_value(variable)
        require(expression.is_dcp() and expression.is_convex(), "cvxpy sees a convex function")
        require(expression.size == 1, "of one number")
        for t in (0.0, 0.1, 1.0, 30.0):
            variable.value = t * np.random.default_rng(18).normal(size=shape)
            assert_allclose(
                expression.value,
                regularizer.value(variable.value),
                rtol=1e-9,
                atol=1e-12,
                err_msg="cvxpy value",
            )
