"""``gplconvex solve``: files in, a certified solution out."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.cli import main
from tests import strategies as cases

pytest.importorskip("typer")
pytest.importorskip("rich")


@pytest.fixture
def users(tmp_path):
    """A softmax problem with users of different sizes, and its files."""
    rng = np.random.default_rng(0)
    data = [
        gc.Dataset(rng.normal(size=(m, 3)), rng.integers(3, size=m), rng.integers(1, 4, m))
        for m in (20, 7, 11)
    ]
    return [one.save(tmp_path / f"user{n}.csv") for n, one in enumerate(data)], data


def run(*arguments):
    """The exit code."""
    try:
        main([str(argument) for argument in ("solve", *arguments)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize("method", ["auto", "lbfgs", "cvxpy"])
def test_the_file_verifies(users, tmp_path, capsys, method):
    paths, data = users
    out = tmp_path / "solution.json"
    code = run(
        *paths,
        "--loss",
        "softmax",
        "--intercept",
        "--nu",
        0.2,
        "--method",
        method,
        "--tol",
        1e-6,
        "--out",
        out,
    )
    assert code == 0
    assert "OPTIMAL (converged)" in capsys.readouterr().out
    found = json.loads(out.read_text())
    problem = gc.Problem(gc.Softmax(3, intercept=True), gc.SquaredL2(1.0), data, 0.2)
    certificate = gc.Certificate.from_json(json.dumps(found["certificate"]))
    gc.verify(certificate, problem, found["rho"], found["thetas"])
    assert found["status"] == "OPTIMAL"
    assert certificate.relative_gap <= 1e-6


@pytest.mark.parametrize(
    "options",
    [
        ("--regularizer", "smooth-l2", "--lam", 3.0, "--delta", 0.2),
        ("--regularizer", "l2", "--lam", 3.0),
        ("--regularizer", "hard-consensus"),
    ],
    ids=lambda options: options[1],
)
def test_options_reach_the_problem(users, tmp_path, options):
    paths, data = users
    out = tmp_path / "solution.json"
    assert (
        run(*paths, "--loss", "softmax", "--classes", 4, "--nu", 0.3, *options, "--out", out) == 0
    )
    regularizer = {
        "smooth-l2": gc.SmoothL2(3.0, 0.2),
        "l2": gc.L2(3.0),
        "hard-consensus": gc.HardConsensus(),
    }[options[1]]
    problem = gc.Problem(gc.Softmax(4), regularizer, data, 0.3)
    assert json.loads(out.read_text())["value"] == gc.solve(problem).value


def test_a_point_that_is_not_optimal_is_written_and_told(users, tmp_path, capsys):
    paths, _ = users
    out = tmp_path / "solution.json"
    assert run(*paths, "--loss", "softmax", "--time-limit", 1e-9, "--out", out) == 1
    assert "INACCURATE (time limit)" in capsys.readouterr().out
    assert json.loads(out.read_text())["stopped"] == "time limit"


def test_an_interrupt_ends_the_search_and_not_the_program(users, tmp_path, monkeypatch):
    from gplconvex.solvers import monitor

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(monitor.Monitor, "report", interrupted)
    paths, _ = users
    out = tmp_path / "solution.json"
    assert run(*paths, "--loss", "softmax", "--out", out) == 1
    assert json.loads(out.read_text())["stopped"] == "interrupted"


def test_a_result_is_not_overwritten_unasked(users, tmp_path, monkeypatch):
    paths, _ = users
    out = tmp_path / "solution.json"
    out.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("gplconvex.cli.solve", None)  # nothing is solved before
        assert "exists" in run(*paths, "--loss", "softmax", "--out", out)
    assert out.read_text() == "mine"
    assert run(*paths, "--loss", "softmax", "--out", out, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--loss", "hinge"), "loss must be one of"),
        (("--loss", "softmax", "--regularizer", "lasso"), "regularizer must be one of"),
        (("--loss", "logistic"), "labels"),
        (("--loss", "softmax", "--method", "simplex"), "method must be one of"),
        (("--loss", "softmax", "--lam", -1), "lam"),
    ],
)
def test_bad_arguments_are_one_sentence(users, arguments, message):
    paths, _ = users
    assert message in run(*paths, *arguments)


def test_losses_of_the_registry_are_those_of_the_command():
    assert {loss.name for loss in cases.ALL_LOSSES} == set(gc.Loss.registry)
