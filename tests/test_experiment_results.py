"""Results come back from their files bit for bit, and steps are done once."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from same_results import assert_same

import gplconvex as gc
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.results import Optimum, Result, Steps


@dataclass(frozen=True, eq=False)
class Sample(Result):
    value: object
    other: object = None


@dataclass(frozen=True, eq=False)
class Different(Result):
    value: object


arrays = st.builds(
    lambda shape, seed, kind: np.random.default_rng(seed).standard_normal(shape).astype(kind),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.integers(0, 99),
    st.sampled_from([np.float64, np.float32, np.int64]),
)
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | arrays
keys = st.text() | st.integers() | st.tuples(st.text(), st.floats(allow_nan=False))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(Sample, inner, inner)
    ),
    max_leaves=8,
)


@given(values)
def test_what_is_loaded_is_what_was_saved(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("results") / "sample.npz"
    result = Sample(value)
    result.save(path)
    assert_same(Sample.load(path), result)
    assert_same(Result.load(path), result)


def test_a_certificate_that_was_saved_still_verifies(tmp_path):
    problem = gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), [([[1.0], [2.0]], [1, -1])], nu=0.1)
    kept = Optimum.of(gc.solve(problem))
    kept.save(tmp_path / "optimum.npz")
    loaded = Optimum.load(tmp_path / "optimum.npz")
    gc.verify(loaded.certificate, problem, loaded.rho, list(loaded.thetas))
    with pytest.raises(gc.CertificateError):
        gc.verify(loaded.certificate, problem, loaded.rho + 1e-9, list(loaded.thetas))


def test_what_a_result_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="cannot hold"):
        Sample(object()).save(tmp_path / "sample.npz")
    assert not list(tmp_path.iterdir())


def test_a_result_is_not_written_over(tmp_path):
    path = Sample(1).save(tmp_path / "sample.npz")
    with pytest.raises(gc.InvalidInputError, match="exists"):
        Sample(2).save(path)
    assert Sample.load(path).value == 1
    Sample(2).save(path, overwrite=True)
    assert Sample.load(path).value == 2


def test_other_files_are_refused(tmp_path):
    path = Different(1).save(tmp_path / "different.npz")
    with pytest.raises(gc.InvalidInputError, match="holds a Different; expected a Sample"):
        Sample.load(path)
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(gc.InvalidInputError, match="damaged"):
            Different.load(path)
    head = np.array(json.dumps({"format": "gplconvex result 0"}))
    np.savez(tmp_path / "old.npz", head=head)
    with pytest.raises(gc.InvalidInputError, match="gplconvex result 0"):
        Result.load(tmp_path / "old.npz")


def test_a_step_is_done_once(tmp_path):
    done = []
    steps = Steps(tmp_path, {"seed": 1}, done.append)
    for _ in range(2):
        assert steps.within("part", of=(1, 2))("first", lambda: Sample(5)).value == 5
    assert done == ["first"]
    assert (tmp_path / "part" / "first.npz").exists()


def test_a_step_that_fails_leaves_nothing_and_is_done_again(tmp_path):
    steps = Steps(tmp_path)

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps("first", fail)
    assert not list(tmp_path.rglob("*.npz"))
    assert steps("first", lambda: Sample(1)).value == 1


def test_a_step_of_other_settings_is_refused(tmp_path):
    Steps(tmp_path, {"seed": 1})("first", lambda: Sample(1))
    with pytest.raises(gc.InvalidInputError, match=r"'seed': 2.*'seed': 1"):
        Steps(tmp_path, {"seed": 2})("first", lambda: Sample(2))


def test_a_step_of_another_version_is_refused(tmp_path, monkeypatch):
    Steps(tmp_path)("first", lambda: Sample(1))
    monkeypatch.setattr("gplconvex.__version__", "99.0")
    with pytest.raises(gc.InvalidInputError, match=r"99\.0"):
        Steps(tmp_path)("first", lambda: Sample(2))


def test_steps_without_a_folder_compute():
    done = []
    steps = Steps(on_step=done.append).within("part", seed=1)
    assert [steps("first", lambda value=value: Sample(value)).value for value in (1, 2)] == [1, 2]
    assert done == ["first", "first"]


def test_common_steps_are_shared_by_experiments_of_one_setting(tmp_path):
    done = []
    steps = Steps(tmp_path / "steps", {}, done.append, shared=tmp_path / "common")
    for experiment in ("one", "two"):
        inner = steps.within(experiment, epochs=7)
        inner.common(users=3)("honest", lambda: Sample(1))
    steps.common(users=4)("honest", lambda: Sample(1))
    assert done == ["honest", "honest"]
    assert len(list((tmp_path / "common").iterdir())) == 2


@pytest.fixture(scope="module")
def federation():
    from gplconvex.datasets import digits

    return Federation.of(digits(), 3, 60)


def test_the_target_is_the_optimum_of_relabeled_users(federation):
    target = federation.target(Steps())  # of the honest users' optimum, with classes permuted
    problem = federation.relabeled()
    for old, new in zip(federation.users, problem.datasets, strict=True):
        assert np.array_equal(old.x, new.x)
        assert np.array_equal((old.y + 1) % 10, new.y)
    found = optimum(problem)
    assert np.abs(target - found.rho).max() < 1e-6
    assert np.abs(target.sum(axis=1)).max() < 1e-13  # or no data lead there (T2.5)


def test_the_target_names_images_one_class_on(federation):
    honest, target = federation.honest(Steps()), federation.target(Steps())
    honest.certificate.require(1e-6)
    assert federation.accuracy(honest.rho) > 0.75
    assert federation.accuracy(honest.rho, shift=1) < 0.1
    assert federation.accuracy(target, shift=1) > 0.75
    assert federation.accuracy(target, shift=1) == federation.accuracy(honest.rho)


def test_accuracy_is_the_share_of_test_images_that_are_named_right(federation):
    model = np.zeros((65, 10))
    model[-1, 3] = 1.0  # names every image a 3
    share = float(np.mean(federation.y_test == 3))
    assert federation.accuracy(model) == share
    assert federation.accuracy(model, shift=1) == float(np.mean(federation.y_test == 2))
