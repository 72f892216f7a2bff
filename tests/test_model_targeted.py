"""Benchmark problems of poisoning, read from files: what they hold, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.datasets import model_targeted

SHARED = Path(__file__).parents[2] / "shared" / "benchmarks"


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x, x_test = rng.uniform(size=(40, 3)), rng.uniform(size=(10, 3))
    y, y_test = (np.where(z[:, 0] > z[:, 1], 1, -1) for z in (x, x_test))
    target = np.array([-1.0, 1.0, 0.5, 0.0])
    models = {"theta_clean": np.zeros(4), "theta_target": target, "wd": 0.1}
    return {"Xtr": x, "ytr": y, "Xte": x_test, "yte": y_test, **models}


def write(folder, **arrays):
    np.savez(folder / "problem.npz", **arrays)
    return folder / "problem.npz"


def test_a_file_becomes_the_problem_that_it_describes(tmp_path, arrays):
    read = model_targeted(write(tmp_path, **arrays, flipped=[1, 2]))  # more than is needed
    (clean,) = read.problem.datasets
    np.testing.assert_array_equal(clean.x, arrays["Xtr"])
    np.testing.assert_array_equal(clean.y, arrays["ytr"])
    assert read.problem.loss == gc.Logistic(intercept=True)
    assert read.problem.regularizer == gc.HardConsensus()
    assert read.problem.nu == pytest.approx([40 * 0.1 / 2])
    assert read.wd == 0.1
    np.testing.assert_array_equal(read.target, arrays["theta_target"])
    np.testing.assert_array_equal(read.theta_clean, arrays["theta_clean"])
    np.testing.assert_array_equal(read.x_test, arrays["Xte"])
    np.testing.assert_array_equal(read.y_test, arrays["yte"])
    with pytest.raises(ValueError, match="read-only"):
        read.target[0] = 0.0


@pytest.mark.parametrize("points", [0, 20])
def test_the_attack_is_one_call(tmp_path, arrays, points):
    read = model_targeted(write(tmp_path, **arrays))
    nu = 0.5 * points * read.wd  # each of them may bring its share of the ridge
    attack = gc.poison(read.problem, read.target, nu=nu, domain=read.domain)
    attack.require(1e-9)
    np.testing.assert_allclose(gc.solve(attack.poisoned).rho, read.target, atol=1e-9)


def entry(key, index, value):
    """Change one number."""

    def change(arrays):
        changed = np.array(arrays[key], dtype=float)
        changed[index] = value
        return arrays | {key: changed}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {k: v for k, v in arrays.items() if k != "yte"}, r"lacks \['yte'\]"),
        (lambda arrays: arrays | {"Xtr": arrays["Xtr"][0]}, r"Xtr must have shape \(any, any\)"),
        (lambda arrays: arrays | {"ytr": arrays["ytr"][1:]}, r"ytr must have shape \(40,\)"),
        (lambda arrays: arrays | {"Xte": arrays["Xte"][:, 1:]}, r"shape \(any, 3\).* \(10, 2\)"),
        (lambda arrays: arrays | {"theta_target": np.zeros(3)}, r"theta_target must .* \(4,\)"),
        (lambda arrays: arrays | {"theta_clean": np.zeros((1, 4))}, r"theta_clean .* \(4,\)"),
        (lambda arrays: arrays | {"wd": [0.1]}, r"wd must have shape \(\)"),
        (lambda arrays: arrays | {"wd": 0.0}, "wd must be positive"),
        (lambda arrays: arrays | {"wd": "much"}, "wd must be .* numbers"),
        (lambda arrays: arrays | {"wd": np.array(None)}, "plain numbers.*allow_pickle"),
        (
            lambda arrays: arrays | {"Xtr": np.empty((0, 3)), "ytr": np.empty(0)},
            "at least one point",
        ),
        (entry("Xtr", (7, 1), 1.5), r"Xtr must lie in \[0, 1\]; row 7 .* to 1.5"),
        (entry("Xte", (3, 0), -0.1), r"Xte must lie in \[0, 1\]; row 3 spans -0.1"),
        (entry("Xtr", (7, 1), np.nan), "Xtr must be finite; got nan"),
        (entry("theta_target", 2, np.inf), "theta_target must be finite; got inf"),
        (entry("yte", 2, 0), "yte must be labels -1 and .1; entry 2 is 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, arrays, change, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        model_targeted(write(tmp_path, **change(arrays)))


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04 and no more"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    file = tmp_path / "problem.npz"
    file.write_bytes(content)
    with pytest.raises(gc.InvalidInputError, match="must be a NumPy archive"):
        model_targeted(file)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "problem.npy", np.zeros(3))
    with pytest.raises(gc.InvalidInputError, match="must be a NumPy archive"):
        model_targeted(tmp_path / "problem.npy")


@pytest.mark.parametrize(("name", "fewest"), [("bc", 33), ("d17", 99)])
def test_the_shared_problems(name, fewest):
    file = SHARED / f"{name}_lr_wd0.09_err0.15.npz"
    if not file.exists():
        pytest.skip("the shared benchmarks are not here")
    read = model_targeted(file)
    np.testing.assert_allclose(gc.solve(read.problem).rho, read.theta_clean, atol=1e-14)
    attack = gc.poison(read.problem, read.target, nu=0.0, domain=read.domain)
    assert attack.n_points == attack.lower_bound == fewest
    attack.require(1e-9)
