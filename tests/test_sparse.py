"""Sparse inputs: the same numbers as dense ones, and stored as they are."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import gplconvex as gc
from tests import strategies as cases
from tests.test_solvers import assert_same_point

REGULARIZERS = (gc.SquaredL2(0.7), gc.L2(1.5), gc.SmoothL2(1.5, 0.5), gc.HardConsensus())
KINDS = (sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix, sparse.lil_array)


def random(rng, m=12, d=5, density=0.3):
    return np.where(rng.random((m, d)) < density, rng.normal(size=(m, d)), 0.0)


# -- Dataset -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_matrix_is_the_same_dataset_in_every_format(kind):
    x = random(np.random.default_rng(0))
    one, other = gc.Dataset(sparse.csr_array(x), np.zeros(12)), gc.Dataset(kind(x), np.zeros(12))
    assert isinstance(other.x, sparse.csr_array)
    np.testing.assert_array_equal(other.x.toarray(), x)
    assert one == other
    assert one.digest == other.digest
    assert (other.n_rows, other.n_points, other.n_features) == (12, 12, 5)
    assert repr(other) == repr(gc.Dataset(x, np.zeros(12)))


def test_duplicates_are_summed_and_zeros_dropped():
    x = sparse.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    data = gc.Dataset(x, np.zeros(2))
    assert data.x.nnz == 1
    np.testing.assert_array_equal(data.x.toarray(), [[0.0, 3.0], [0.0, 0.0]])


def test_the_users_matrix_is_neither_kept_nor_changed():
    x = sparse.csr_array(random(np.random.default_rng(1)))
    before = x.copy()
    data = gc.Dataset(x, np.zeros(12))
    x.data[:] = 9.0
    np.testing.assert_array_equal(data.x.toarray(), before.toarray())
    with pytest.raises(ValueError, match="read-only"):
        data.x.data[0] = 1.0


def test_different_matrices_differ():
    x = random(np.random.default_rng(2))
    data = gc.Dataset(sparse.csr_array(x), np.zeros(12))
    moved = np.roll(x, 1, axis=1)
    other = gc.Dataset(sparse.csr_array(moved), np.zeros(12))
    wider = gc.Dataset(sparse.csr_array(np.hstack([x, np.zeros((12, 1))])), np.zeros(12))
    dense = gc.Dataset(x, np.zeros(12))
    assert len({d.digest for d in (data, other, wider, dense)}) == 4
    assert data not in (other, wider, dense)


def test_copies_and_files(tmp_path):
    x = random(np.random.default_rng(3))
    data = gc.Dataset(sparse.csr_array(x), np.arange(12.0), np.arange(1, 13))
    assert pickle.loads(pickle.dumps(data)) == data
    assert copy.deepcopy(data) == data
    assert gc.Dataset.load(data.save(tmp_path / "data.csv")) == gc.Dataset(x, data.y, data.counts)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (sparse.csr_array([[1.0, 0.0], [0.0, np.nan]]), r"row 1 holds \[nan\]"),
        (sparse.csr_array([[1.0j]]), "a matrix of real numbers"),
        (sparse.coo_array([1.0, 2.0]), r"a matrix of real numbers; got shape \(2,\)"),
        (sparse.csr_array((3, 2)), r"y must have shape \(3,\)"),
    ],
)
def test_bad_matrices_are_refused(x, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        gc.Dataset(x, np.zeros(2))


# -- everything else ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.sampled_from(cases.ALL_LOSSES),
    st.sampled_from(REGULARIZERS),
    st.sampled_from(["newton", "lbfgs"]),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_sparse_and_dense_problems_have_one_solution(loss, regularizer, method, density, seed):
    rng = np.random.default_rng(seed)
    x = [random(rng, m, 5, density) for m in (3, 12, 0, 30)]
    y = [cases.labels(loss, len(a), np.random.default_rng(7)) for a in x]
    counts = [rng.integers(1, 4, len(a)) for a in x]
    dense, stored, mixed = (
        gc.Problem(loss, regularizer, list(zip(kind, y, counts, strict=True)), 0.2)
        for kind in (x, list(map(sparse.csr_array, x)), [sparse.csr_array(x[0]), *x[1:]])
    )
    found = gc.solve(dense, method=method)
    for problem in (stored, mixed):
        other = gc.solve(problem, method=method)
        assert other.status is gc.Status.OPTIMAL
        assert_same_point(found, other)
        gc.verify(other.certificate, problem, other.rho, other.thetas)
        there = gc.certify(dense, other.rho, other.thetas)
        assert there.relative_gap == pytest.approx(
            other.certificate.relative_gap, rel=0.1, abs=1e-14
        )


def test_the_reference_takes_sparse_inputs():
    rng = np.random.default_rng(6)
    x = [random(rng, 20, 4, 0.4) for _ in range(3)]
    for loss in (gc.LeastSquares(True), gc.Logistic(), gc.Softmax(3, True), gc.Poisson()):
        y = [cases.labels(loss, 20, np.random.default_rng(1)) for _ in x]
        stored = [(sparse.csr_array(a), b) for a, b in zip(x, y, strict=True)]
        problem = gc.Problem(loss, gc.SquaredL2(1.0), stored, 0.3)
        assert_same_point(gc.solve(problem), gc.solve(problem, method="cvxpy"))


def test_a_wide_sparse_problem_is_never_made_dense():
    """20 000 words: dense inputs would fill 320 MB, a Hessian 3 GB."""
    rng, d = np.random.default_rng(9), 20_000
    data = []
    for _ in range(4):
        x = sparse.random_array((500, d), density=1e-3, rng=rng, format="csr")
        data.append(gc.Dataset(x, rng.choice([-1.0, 1.0], 500)))
    problem = gc.Problem(gc.Logistic(True), gc.SquaredL2(1.0), data, 0.1)
    solution = gc.solve(problem)
    assert solution.method == "lbfgs"
    assert solution.status is gc.Status.OPTIMAL
    assert all(sparse.issparse(x) for x in (stack.x for stack in problem.local_losses.stacks))
