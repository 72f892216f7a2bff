"""What a method gives for many, along leading axes, is what it gives for each alone.

To 4 units in the last place: the order of a sum may differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

import gplconvex as gc
from gplconvex.rounding import UNIT
from tests.oracles import LossOracle


def _each_alone(
    what: str, method: Callable[..., Any], *arguments: Any, axes: int, rtol: float = 8 * UNIT
) -> None:
    together = np.asarray(method(*arguments))
    lead = arguments[0].shape[:axes]
    for index in np.ndindex(lead):
        alone = np.asarray(method(*(argument[index] for argument in arguments)))
        shape = f"shape of many: {what}"
        assert together.shape == (*lead, *alone.shape), f"{shape}, {together.shape}"
        assert_allclose(together[index], alone, rtol=rtol, err_msg=f"alone: {what} {index}")
    nobody = np.asarray(method(*(argument[:0] for argument in arguments)))
    assert nobody.shape == (0, *together.shape[1:]), f"shape of none: {what}, {nobody.shape}"


# -- losses ------------------------------------------------------------------------------------------


def check_users(loss: gc.Loss, oracle: LossOracle) -> None:
    """Points, models and weights of 2 x 3 users at once."""
    rng = np.random.default_rng(5)
    columns, lead = loss.shape(1)[1:], (2, 3, 5)
    z = rng.normal(0.0, 3.0, (*lead, *columns))
    z[0, 1], z[1, 2] = 1e3, 1e-300  # users of whom nobody else may hear
    v = rng.normal(size=z.shape)
    for axes in {np.ndim(y) for y in oracle.labels}:
        labels = [y for y in oracle.labels if np.ndim(y) == axes]
        y = np.array(labels, dtype=float)[rng.integers(len(labels), size=lead)]

        def bounds(*interval: Any) -> np.ndarray:
            return np.stack(loss.curvature_bounds(*interval), axis=-1)

        _each_alone("value", loss.value, z, y, axes=2)
        _each_alone("residual", loss.residual, z, y, axes=2)
        _each_alone("residual_rounding", loss.residual_rounding, z, y, v, axes=2)
        _each_alone("curvature", loss.curvature, z, y, axes=2)
        _each_alone("curvature_diagonal", loss.curvature_diagonal, z, y, axes=2)
        for part in range(3):
            _each_alone(f"jet {part}", lambda *at, k=part: loss.jet(*at)[k], z, y, v, axes=2)
        _each_alone("curvature_times", loss.curvature_times, z, y, v, axes=2)
        _each_alone("curvature_bounds", bounds, z - 1.0, z + abs(v), y, axes=2)
    for method, x, other in _linear_maps(loss, rng, (2, 3)):
        _each_alone(method.__name__, method, x, other, axes=2, rtol=0.0)


def check_sparse_inputs(loss: gc.Loss) -> None:
    """A sparse matrix is the dense one that it stands for."""
    rng = np.random.default_rng(6)
    for density in (0.0, 0.3, 1.0):
        for method, x, other in _linear_maps(loss, rng, ()):
            x = np.where(rng.random(x.shape) < density, x, 0.0)
            for inputs in (x, x.astype(np.longdouble)):
                dense = method(inputs, other)
                found = method(sparse.csr_array(inputs), other)
                assert isinstance(found, np.ndarray), f"sparse {method.__name__} is no array"
                assert found.dtype == dense.dtype, f"sparse {method.__name__}: {found.dtype}"
                assert_array_equal(found, dense, f"sparse {method.__name__}")


def _linear_maps(loss: gc.Loss, rng: np.random.Generator, lead: tuple[int, ...]) -> Any:
    """Methods with inputs and what else they take: whole numbers, so that every sum is exact."""

    def whole(*shape: int) -> np.ndarray:
        return rng.integers(-9, 10, (*lead, *shape)).astype(float)

    columns = loss.shape(1)[1:]
    x = whole(5, 4)
    yield loss.predictor, x, whole(*loss.shape(4))
    yield loss.pullback, x, whole(5, *columns)
    yield loss.gram, x, whole(5)
    yield loss.gram, x, np.ones((*lead, 5))
    if columns:
        yield loss.gram, x, whole(5, *columns, *columns)


# -- regularizers ------------------------------------------------------------------------------------


def check_vectors(regularizer: gc.Regularizer) -> None:
    """Rows of lengths from 0 to the largest that models may have, in one array."""
    reg, rng = regularizer, np.random.default_rng(19)
    lengths = np.array([[0.0, 1e-200, 1e-3], [1.0, 8.0, 1e140]])
    shares = np.array([[0.0, 1e-200, 1e-3], [0.3, 0.9, 1e139]])
    sizes = np.minimum(shares, 0.99) * reg.radius if math.isfinite(reg.radius) else 3.0 * shares
    uncertainty = np.array([[1e-9, 0.0, 1e-3], [1e-6, 0.2, 0.0]]) * min(reg.radius, 1.0)
    bounds = np.array([[0.0, 0.5, 0.99], [1.0, 1.5, 0.1]]) * min(reg.radius, 3.0)
    for p in (1, 3, 20):
        units = rng.normal(size=(2, 2, 3, p))
        units /= np.linalg.norm(units, axis=-1, keepdims=True)
        u, g = units[0] * lengths[..., None], units[1] * sizes[..., None]
        some = np.zeros_like(u) if math.isinf(reg.kink) else u
        _each_alone("value", reg.value, u, axes=2)
        _each_alone("gradient", reg.gradient, some, axes=2)
        _each_alone("conjugate", reg.conjugate, g, axes=2)
        _each_alone("conjugate", reg.conjugate, 1.2 * g, axes=2)
        _each_alone("inverse_gradient", reg.inverse_gradient, g, axes=2)
        _each_alone("fenchel_young", reg.fenchel_young, u, g, axes=2)
        _each_alone("fenchel_young", reg.fenchel_young, u, g, uncertainty, axes=2)
        same = reg.fenchel_young(u, g, np.full(u.shape[:-1], 1e-3))
        assert_array_equal(reg.fenchel_young(u, g, 1e-3), same, "one uncertainty for all")
        _each_alone("inverse_lipschitz", reg.inverse_lipschitz, bounds, axes=2)
        if math.isfinite(reg.kink):
            first = 1 if reg.kink else 0  # no derivatives at a kink
            _each_alone("hessian", reg.hessian, u[:, first:], axes=2)
            _each_alone("slope", reg.slope, lengths[:, first:], axes=2)
            _each_alone("curvature", reg.curvature, lengths[:, first:], axes=2)
