"""What every loss and every regularizer must satisfy, whoever wrote it.

`check_loss` and `check_regularizer` raise `AssertionError`, naming the clause. They know of the class
only what it says of itself, and of the mathematics only the formula that is passed in.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import mpmath as mp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize

import gplconvex as gc
from gplconvex.rounding import UNIT
from tests.leading_axes import check_sparse_inputs, check_users, check_vectors
from tests.oracles import (
    LossOracle,
    RegularizerOracle,
    bends,
    exact,
    fenchel_young,
    gradient,
    hessian,
    label,
    slopes,
)

TINY = float(np.finfo(np.float64).tiny)
"""Below it float64 has fewer digits: the standard model of rounding leaves underflow out."""

LARGEST = float(np.finfo(np.float64).max)


def require(holds: Any, clause: str, *values: Any) -> None:
    if not np.all(holds):
        raise AssertionError(f"{clause}: {', '.join(map(str, values))}")


# -- losses ------------------------------------------------------------------------------------------

# With K columns predictors, residuals and labels are rows, curvatures matrices; a number is a row of
# one. Nothing below asks which loss it is.

MAGNITUDES = (1e-300, 1e-20, 1e-9, 1e-3, 0.1, 1.0, 3.0, 17.5, 36.7, 100.0, 700.0, 1000.0)
PREDICTORS = np.array(
    [0.0, *MAGNITUDES, *(-z for z in MAGNITUDES), *np.random.default_rng(0).normal(0, 5, 20)]
)


def _columns(loss: gc.Loss) -> tuple[int, ...]:
    """The shape of the predictor of one point: () or (K,)."""
    return loss.shape(1)[1:]


def _predictors(columns: tuple[int, ...]) -> np.ndarray:
    """Numbers; or rows that mix magnitudes and signs, and rows in which one column stands out."""
    if not columns:
        return PREDICTORS
    mixed = np.stack([np.roll(PREDICTORS, 7 * k) for k in range(*columns)], axis=1)
    return np.vstack([mixed, np.outer(PREDICTORS, np.eye(*columns)[0])])


def _repeated(y: Any, n: int) -> np.ndarray:
    return np.array([y] * n, dtype=float)


def _function(oracle: LossOracle, columns: tuple[int, ...], y: Any) -> Any:
    """phi(., y) of a list, whatever its length."""
    of = label(y)
    return lambda z: oracle.phi(z if columns else z[0], of)


def _total(row: list[Any]) -> Any:
    """The sum of absolute values."""
    return mp.fsum(map(abs, row))


def check_loss(loss: gc.Loss, oracle: LossOracle) -> None:
    """Check every clause of the contract of a loss."""
    with np.errstate(over="raise", invalid="raise", divide="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        _adjoint(loss)
        _labels(loss, oracle)
        _curvature_range(loss, oracle)
        for y in oracle.labels:
            _convexity(loss, y)
            _curvature_bounds(loss, y)
            _values_and_derivatives(loss, oracle, y)
        check_users(loss, oracle)
        check_sparse_inputs(loss)
    _loss_in_cvxpy(loss, oracle)


def _values_and_derivatives(loss: gc.Loss, oracle: LossOracle, y: Any) -> None:
    columns = _columns(loss)
    z = _predictors(columns)
    m, labels, phi = len(z), _repeated(y, len(z)), _function(oracle, columns, y)
    v = np.random.default_rng(3).normal(size=z.shape)
    jet_value, jet_residual, along = loss.jet(z, labels, v)
    require(along.shape == (m,) and (along >= 0.0).all(), "jet: curvature along v", along.shape)
    _, _, shifted = loss.jet(z, labels, np.ones_like(z))
    require(not loss.has_gauge or (shifted <= 1e-15).all(), "has_gauge", shifted.max())
    residual = loss.residual(z, labels)
    rounding = loss.residual_rounding(z, labels, residual)
    computed = {
        "value": loss.value(z, labels),
        "residual": residual,
        "residual_rounding": rounding,
        "curvature": loss.curvature(z, labels),
        "curvature_times": loss.curvature_times(z, labels, v),
        "curvature_diagonal": loss.curvature_diagonal(z, labels),
        "jet: value": jet_value,
        "jet: residual": jet_residual,
    }
    shapes = ((m,), z.shape, z.shape, z.shape + columns, z.shape, z.shape, (m,), z.shape)
    for (what, got), shape in zip(computed.items(), shapes, strict=True):
        require(got.shape == shape and got.dtype == np.float64, f"shape of {what}", got.shape)
    for i in range(m):
        value, w, off, curvature, times, diagonal, value_too, w_too = (
            list(map(float, np.ravel(got[i]))) for got in computed.values()
        )
        where = f"at z = {z[i]}, y = {y}"
        # What rounding z - y costs a function of it that decays like exp(-2 |z - y|).
        spread = 1.0 + float(np.sum(np.abs(z[i])) + np.sum(np.abs(y)))
        with mp.workdps(600):
            point, direction = exact(z[i]), exact(v[i])
            wanted, slope, bend = phi(point), slopes(phi, point), bends(phi, point)
            entries = [b for row in bend for b in row]
            products = [[b * d for b, d in zip(row, direction, strict=True)] for row in bend]
            moved = mp.fsum(abs(a * b) for a, b in zip(point, slope, strict=True))
            for what, got, got_w in (("", value, w), ("jet: ", value_too, w_too)):
                allowed = [8 * UNIT * (1 + abs(wanted) + moved)]
                _close(f"{what}value", got, [wanted], allowed, where)
                _close(f"{what}residual", got_w, slope, off, where)
            relative = 16 * UNIT * spread
            own = [row[k] for k, row in enumerate(bend)]
            allowed = [relative * abs(b) for b in own]
            _close("curvature_diagonal", diagonal, own, allowed, where)
            _close("curvature", curvature, entries, [relative * abs(b) for b in entries], where)
            allowed = [relative * _total(row) for row in products]
            _close("curvature_times", times, list(map(mp.fsum, products)), allowed, where)
            bent = [a * mp.fsum(row) for a, row in zip(direction, products, strict=True)]
            allowed = [
                relative
                * mp.fsum(
                    abs(a * b) for a, row in zip(direction, products, strict=True) for b in row
                )
            ]
            _close("jet: curvature along v", along[i : i + 1], [mp.fsum(bent)], allowed, where)
        largest = float(np.max(np.abs(w)) + np.max(np.abs(y)))
        require(np.array(off) <= 32 * UNIT * spread * largest + TINY, "residual_rounding", where)
        if not columns:
            continue
        matrix = computed["curvature"][i]
        assert_array_equal(matrix, matrix.T, "curvature is symmetric")
        _invariance(phi, z[i], w, off, matrix)


def _close(what: str, computed: list[float], exact_ones: Any, allowed: Any, where: str) -> None:
    for got, wanted, tolerance in zip(computed, exact_ones, allowed, strict=True):
        if abs(wanted) > LARGEST:
            require(got == math.copysign(math.inf, wanted), f"{what} overflows {where}", got)
            continue
        off = abs(mp.mpf(got) - wanted)
        require(off <= tolerance + TINY, f"{what} {where}", got, mp.nstr(wanted, 20))


def _invariance(phi: Any, z: np.ndarray, w: list[float], off: list[float], matrix: Any) -> None:
    """Where one number added to all columns changes nothing, the derivatives sum to 0."""
    with mp.workdps(600):
        if abs(phi([a + 7 for a in exact(z)]) - phi(exact(z))) > mp.mpf(10) ** -500:
            return
    require(abs(math.fsum(w)) <= math.fsum(off) + TINY, "residuals sum to 0", z, w)
    sums, sizes = np.abs(matrix.sum(axis=1)), np.abs(matrix).sum(axis=1)
    require(sums <= 16 * UNIT * (1 + np.abs(z).sum()) * sizes + TINY, "curvature sums to 0", z)


def _convexity(loss: gc.Loss, y: Any) -> None:
    z = _predictors(_columns(loss))
    values = loss.value(z, _repeated(y, len(z)))
    z, values = z[np.isfinite(values)], values[np.isfinite(values)]
    labels = _repeated(y, len(z))
    w = loss.residual(z, labels)
    off = loss.residual_rounding(z, labels, w) + TINY
    first, second = np.triu_indices(len(z), 1)

    def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b).reshape(len(a), -1).sum(axis=1)

    apart = z[first] - z[second]
    rise, slack = dot(w[first] - w[second], apart), dot(off[first] + off[second], np.abs(apart))
    require(rise >= -slack, "the residual increases with z")
    least, greatest = _eigenvalues(loss.curvature(z, labels), z.ndim)
    require(least >= -16 * UNIT * greatest, "curvature >= 0")
    middle = loss.value((z[first] + z[second]) / 2, labels[first % len(labels)])
    chord = (values[first] + values[second]) / 2
    slack = 8 * UNIT * (1 + np.abs(values) + dot(np.abs(w), np.abs(z)))
    require(middle <= chord + slack[first] + slack[second], "the value lies below its chords")


def _eigenvalues(curvature: np.ndarray, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest, for predictors with so many axes."""
    if ndim == 1:
        return curvature, curvature
    spectrum = np.linalg.eigvalsh(curvature)
    return spectrum[..., 0], spectrum[..., -1]


def _curvature_bounds(loss: gc.Loss, y: Any) -> None:
    columns = _columns(loss)
    rng = np.random.default_rng(1)
    low, high = np.sort(rng.normal(0, 5, (2, 40, *columns)), axis=0)
    special = ([-3, -3], [0, 0], [0, 2], [-2, 0], [-1e3, -7e2], [-40, 40])
    for ends in special:
        low, high = (
            np.concatenate([box, np.full((1, *columns), end, dtype=float)])
            for box, end in zip((low, high), ends, strict=True)
        )
    least, greatest = loss.curvature_bounds(low, high, _repeated(y, len(low)))
    require(least.shape == greatest.shape == (len(low),), "one bound a point", least.shape)
    lowest, highest = _on_diagonals(loss, low, high, y)
    slack = 16 * UNIT * highest + TINY
    require(least <= lowest + slack, "least curvature on intervals")
    require(highest <= greatest + slack, "greatest curvature on intervals")
    # Gershgorin's discs reach at most twice as far as the eigenvalues of such a matrix.
    wide = 2.0 if columns else 1.0
    assert_allclose(least, lowest, rtol=0.01, atol=1e-9, err_msg="least is reached")
    require(greatest <= 1.01 * wide * highest + TINY, "greatest is reached", greatest, highest)
    z = _predictors(columns)
    for low_end, high_end in ((-np.inf, np.inf), (-np.inf, -1.0), (2.0, np.inf), (-1.0, np.inf)):
        for first in {0, sum(columns) // 2}:
            low, high = np.full((1, *columns), low_end), np.full((1, *columns), high_end)
            low[..., :first], high[..., :first] = -1.0, 3.0
            least, greatest = loss.curvature_bounds(low, high, _repeated(y, 1))
            require(np.isfinite(least) & (least >= 0.0) & ~np.isnan(greatest), "infinite intervals")
            inside = np.clip(z, np.maximum(low, -1e3), np.minimum(high, 1e3))
            lowest, highest = _eigenvalues(loss.curvature(inside, _repeated(y, len(z))), z.ndim)
            holds = (least <= lowest + 16 * UNIT * highest) & (
                highest <= greatest * (1 + 16 * UNIT)
            )
            require(holds, f"infinite intervals from {low} to {high}", y)


def _curvature_range(loss: gc.Loss, oracle: LossOracle) -> None:
    """It encloses the curvature, and is what the bounds say of all predictors and labels."""
    bottom, top = loss.curvature_range
    z = _predictors(_columns(loss))
    ends = np.full((1, *_columns(loss)), math.inf)
    found = []
    for y in oracle.labels:
        lowest, highest = _eigenvalues(loss.curvature(z, _repeated(y, len(z))), z.ndim)
        require(bottom <= lowest + 16 * UNIT * highest, "no curvature below the range", bottom, y)
        require(highest <= top * (1 + 16 * UNIT), "no curvature above the range", top, y)
        found.append(loss.curvature_bounds(-ends, ends, _repeated(y, 1)))
    widest = np.min([least for least, _ in found]), np.max([greatest for _, greatest in found])
    assert_allclose((bottom, top), widest, rtol=8 * UNIT, err_msg="curvature_range")


def _on_diagonals(
    loss: gc.Loss, low: np.ndarray, high: np.ndarray, y: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest eigenvalue on the segments between opposite corners of each box."""
    found = []
    for swapped in itertools.product([False], *[[False, True]] * (sum(_columns(loss)) - 1)):
        swap = swapped if _columns(loss) else False
        ends = np.where(swap, high, low), np.where(swap, low, high)
        z = np.linspace(*ends, 1001).reshape(-1, *_columns(loss))
        spectrum = _eigenvalues(loss.curvature(z, _repeated(y, len(z))), z.ndim)
        found.append([e.reshape(1001, len(low)) for e in spectrum])
    return (
        np.min([least for least, _ in found], axis=(0, 1)),
        np.max([greatest for _, greatest in found], axis=(0, 1)),
    )


def _adjoint(loss: gc.Loss) -> None:
    # Whole numbers, so that every sum is exact in any order.
    rng = np.random.default_rng(2)
    columns = _columns(loss)
    for m, d in ((7, 3), (1, 1), (0, 2), (4, 0)):
        x = rng.integers(-9, 10, (m, d)).astype(float)
        extended = np.column_stack([x, np.ones(m)]) if loss.intercept else x
        theta = rng.integers(-9, 10, loss.shape(d)).astype(float)
        require(theta.shape == (d + loss.intercept, *columns), "shape of theta", theta.shape)
        w = rng.integers(-9, 10, (m, *columns)).astype(float)
        assert_array_equal(loss.predictor(x, theta), extended @ theta, "predictor")
        assert_array_equal(loss.pullback(x, w), extended.T @ w, "pullback")
        there, back = np.vdot(loss.predictor(x, theta), w), np.vdot(theta, loss.pullback(x, w))
        require(there == back, "adjointness")
        for size in {1, *columns}:
            weights = rng.integers(-9, 10, (m, size, size)).astype(float)
            weights += weights.transpose(0, 2, 1)
            # Row by row, the order of theta.ravel().
            outer = np.zeros((len(theta) * size,) * 2)
            for row, weight in zip(extended, weights, strict=True):
                outer += np.kron(np.outer(row, row), weight)
            given = weights[:, 0, 0] if size == 1 else weights
            assert_array_equal(loss.gram(x, given), outer, "gram is the sum of outer products")
        long = x.astype(np.longdouble)
        for result in (loss.predictor(long, theta), loss.pullback(long, w)):
            require(result.dtype == np.longdouble, "extended precision is kept")


def _labels(loss: gc.Loss, oracle: LossOracle) -> None:
    for y in oracle.labels:
        require(loss.accepts(_repeated(y, 1)), "labels are accepted", y)
        loss.check_labels(gc.Dataset(np.zeros((2, 1)), _repeated(y, 2)))
    for bad in oracle.refused:
        require(~loss.accepts(_repeated(bad, 1)), "labels are refused", bad)
        if np.isfinite(bad).all():
            good = next(y for y in oracle.labels if np.ndim(y) == np.ndim(bad))
            words = (loss.name, f"{bad:g}") if np.ndim(bad) == 0 else map(repr, bad)
            _raises(loss, gc.Dataset(np.zeros((3, 1)), [good, good, bad]), "row 2", *words)
    _raises(loss, gc.Dataset(np.zeros((1, 1)), [[1.0, 0.0]]), loss.name, "(1, 2)")


def _raises(loss: gc.Loss, data: gc.Dataset, *words: str) -> None:
    try:
        loss.check_labels(data, where="user 5: ")
    except gc.InvalidInputError as error:
        require(all(word in str(error) for word in ("user 5: ", *words)), str(error))
    else:
        raise AssertionError(f"labels {data.y.tolist()} were not refused")


def _loss_in_cvxpy(loss: gc.Loss, oracle: LossOracle) -> None:
    import cvxpy as cp

    z = np.random.default_rng(4).uniform(-30, 30, (25, *_columns(loss)))
    for y in oracle.labels:
        labels = _repeated(y, len(z))
        variable = cp.Variable(z.shape)
        expression = loss.cvxpy_value(variable, labels)
        require(expression.shape == (len(z),), "cvxpy shape", expression.shape)
        require(expression.is_dcp() and expression.is_convex(), "cvxpy sees a convex function")
        variable.value = z
        assert_allclose(
            expression.value, loss.value(z, labels), rtol=1e-11, atol=1e-11, err_msg="cvxpy value"
        )


# -- regularizers ------------------------------------------------------------------------------------

LENGTHS = (1e-6, 1e-3, 0.1, 1.0, 8.0)
SHAPES = ((1,), (3,), (4,), (3,))


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
            _along_rays(regularizer, oracle)
        check_vectors(regularizer)
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


def _along_rays(regularizer: gc.Regularizer, oracle: RegularizerOracle) -> None:
    """`slope` and `curvature` are r'(t) / t and r''(t); at 0, where they are one, its limit."""
    t = np.array([1e-9, 1e-6, 1e-3, 0.1, 1.0, 8.0, 1e4, 1e9])
    t = t if regularizer.kink else np.append(0.0, t)
    found = regularizer.slope(t), regularizer.curvature(t)
    for length, *computed in zip(t, *found, strict=True):
        bend = bends(lambda u: oracle.r(u), [mp.mpf(length)], 150)[0][0]
        steep = slopes(lambda u: oracle.r(u), [mp.mpf(length)], 150)[0] / length if length else bend
        scale = float(max(abs(steep), abs(bend)))
        assert_allclose(computed[0], float(steep), rtol=16 * UNIT, err_msg=f"slope {length}")
        off = 16 * UNIT * scale
        assert_allclose(computed[1], float(bend), rtol=0, atol=off, err_msg=f"curvature {length}")
    for u in _points(6):
        pull = regularizer.slope(np.linalg.norm(u)) * u
        allowed = 16 * UNIT * np.linalg.norm(pull)
        assert_allclose(regularizer.gradient(u), pull, rtol=0, atol=allowed, err_msg="slope")


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
    for unit in _units(9, (1,), (3,), (4,)):
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
        lipschitz = float(regularizer.inverse_lipschitz(np.array(bound)))
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
            beyond = regularizer.inverse_lipschitz(np.array(bound))
            require(beyond == math.inf, "no inverse beyond Grad")


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
        exact_enough = math.sqrt(bound) <= math.sqrt(true) + 1e-11 * math.sqrt(scale)
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
