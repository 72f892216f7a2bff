"""The promise for coefficients of full rank, in full: at most 2 K + 2 points besides the bound.

Bulk and pairs on a cycle of classes solve the equations with 2 K; the rest is what float64 takes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import gplconvex as gc
from gplconvex.realization.softmax import prove_unbounded
from gplconvex.realization.softmax.pairs import cycle, differences, pairs
from gplconvex.realization.softmax.system import System
from tests import strategies as cases
from tests.test_realization_softmax import SEEDS, balanced, drawn, promised


def with_trace(
    n: int, d: int, intercept: bool, seed: int, scale: float, trace: float
) -> tuple[gc.Softmax, np.ndarray, np.ndarray]:
    """Model and gradient as large as ``scale``, with <Theta, H> = ``trace`` nonetheless."""
    loss, theta, h = drawn(n, d, intercept, seed, scale)
    theta = scale * balanced(theta)
    return loss, theta, h + (trace - np.sum(theta * h)) / np.sum(theta**2) * theta


# -- the search ended beyond the promise before there was this construction ----------------------------


@pytest.mark.parametrize(
    ("n", "d", "intercept", "seed", "scale", "size"),
    [
        (6, 20, False, 3216020990, 597.0, 798.0),
        (8, 22, False, 1762278045, 380.8866263068513, 872.2636600822715),  # 16 % more
        (5, 17, False, 900551278, 738.2164128646324, 755.1408084663427),  # none at all
        (8, 22, True, 1087263122, 5.6, 35.7),
        (8, 9, True, 842598837, 189.50766582535715, 453.0639857565062),  # none at all
        (7, 7, True, 2487318903, 56.31795986732206, 603.1434793836141),  # beyond the largest kappa
    ],
)
def test_known_cases(n: int, d: int, intercept: bool, seed: int, scale: float, size: float) -> None:
    loss, theta, h = drawn(n, d, intercept, seed)
    found = promised(loss, scale * theta, size * h)
    assert found.n_points - found.lower_bound <= 2 * n


@pytest.mark.parametrize("trace", [-30.0, -1.0, 0.0, 1.0, 300.0])
@pytest.mark.parametrize("intercept", [False, True])
def test_large_matrices_of_small_trace(intercept: bool, trace: float) -> None:
    """Nothing pays for points whose residuals no rounding changes: ties have to be held."""
    promised(*with_trace(6, 12, intercept, 0, 600.0, trace))


def test_a_part_across_that_rounding_spreads_over_all_logits() -> None:
    """Eight classes, where it took 88864 points of coarser labels as long as the bulk had that part."""
    loss, theta, h = drawn(8, 28, False, 3014306019)
    theta, h = balanced(741.6769460670545 * theta), 443.82251682829224 * h
    promised(loss, theta, h - np.sum(theta * h) / np.sum(theta**2) * theta)


# -- the construction ----------------------------------------------------------------------------------


@given(
    st.integers(3, 8), st.integers(0, 22), st.booleans(), SEEDS, cases.powers(1e-3, 1e3), st.data()
)
@settings(max_examples=40)
def test_pairs_solve_the_equations_with_2_k_points_besides_the_bound(
    n: int, more: int, intercept: bool, seed: int, scale: float, data: st.DataObject
) -> None:
    """Up to exp(-45) and the rounding of logits that may be 10^8."""
    loss, theta, h = drawn(n, n + more, intercept, seed)
    theta, h = scale * theta, data.draw(cases.powers(1e-3, 1e3)) * h
    system = System(loss, theta, h, 1e-9)
    bound = prove_unbounded(loss, theta, h, system).value
    for k in range(bound + 2 * n, bound + 2 * n + 3):
        points = pairs(system, k)
        if points is None:  # only beyond the largest kappa, where the bound is no longer sharp
            assert intercept
            assert 0.5 * np.abs(h[-1]).sum() > bound * (1.0 - 1e-6)
            continue
        assert points.total == k
        off = system.matrix(system.target - system.sums(points))
        z, q = np.abs(system.logits(points)), np.abs(system.residuals(points)[1])
        terms = points.counts @ (z.max(axis=1) * q.max(axis=1))
        assert np.abs(off).max() <= 1e-13 * (terms + 1.0) * (1.0 + z.max())
    assert pairs(system, 2 * n - 1) is None


@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=9))
def test_sums_along_the_cycle_stay_between_two_of_them(residual: list[float]) -> None:
    r = np.array(residual) - np.mean(residual)
    order = cycle(r)
    assert sorted(order) == list(range(len(r)))
    sums = np.cumsum(r[order])
    assert r.min() - 1e-12 <= sums.min()
    assert sums.max() <= r.max() + 1e-12


@given(
    st.lists(st.floats(-0.4999, 0.4999), min_size=3, max_size=9),
    st.sampled_from([0.0, 1e-6, 1.0, 100.0, 1e8]),
)
def test_pairs_take_any_trace_with_any_flow(flows: list[float], trace: float) -> None:
    found = differences(np.array(flows), trace)
    assert found is not None
    t, opposite = found
    assert np.abs(expit(t) - expit(opposite) - flows).max() <= 1e-12
    assert np.sum(expit(t) * t + expit(opposite) * opposite) == pytest.approx(trace, 1e-9, 1e-9)


def test_pairs_that_would_take_more_than_there_is() -> None:
    assert differences(np.array([0.9, -0.9, 0.0]), 0.1) is None
    assert differences(np.array([1.0, -1.0, 0.0]), 1e3) is None
