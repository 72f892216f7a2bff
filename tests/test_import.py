"""`import gplconvex` brings numpy and scipy, and nothing else that is not of the standard library."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

HEAVY = (
    "clarabel",
    "cloudpickle",
    "cvxpy",
    "dask",
    "distributed",
    "flwr",
    "hypothesis",
    "matplotlib",
    "mpmath",
    "pooch",
    "pandas",
    "pytest",
    "rich",
    "sympy",
    "typer",
)

LIST_MODULES = """
import json, sys
before = set(sys.modules)
{statements}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


def imported_by(statements: str) -> set[str]:
    """The top-level packages that are new after the statements, in a fresh interpreter."""
    finished = subprocess.run(
        [sys.executable, "-c", LIST_MODULES.format(statements=statements)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(finished.stdout))


@pytest.fixture(scope="module")
def modules():
    return imported_by("import gplconvex, gplconvex.federated")


@pytest.mark.parametrize("name", HEAVY)
def test_importing_the_package_does_not_import(modules, name):
    assert name not in modules


def test_importing_the_package_imports_no_distribution_but_its_dependencies(modules):
    installed = importlib.metadata.packages_distributions()
    foreign = {name for name in modules - sys.stdlib_module_names if name in installed}
    foreign.discard("charset_normalizer")  # numpy.f2py takes it if it is there; flwr brings it
    assert foreign <= {"numpy", "scipy", "threadpoolctl", "gplconvex"}
    assert {"numpy", "scipy", "gplconvex"} <= modules


def test_the_list_of_imported_modules_would_show_one_more():
    assert "mpmath" in imported_by("import gplconvex, mpmath")


def test_solving_and_poisoning_need_no_optional_package():
    modules = imported_by(
        "import gplconvex as gc\n"
        "users = [([[1.0], [2.0]], [1.0, -1.0]), ([[-1.0]], [1.0])]\n"
        "problem = gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), users, nu=0.1)\n"
        "gc.solve(problem).require_optimal()\n"
        "gc.poison(problem, [0.5])"
    )
    assert not modules & set(HEAVY)


def test_nothing_is_printed_and_no_global_state_of_numpy_changes():
    code = (
        "import numpy as np, scipy.optimize, scipy.sparse, warnings\n"
        "before = (np.geterr(), np.get_printoptions(), list(warnings.filters))\n"
        "import gplconvex\n"
        "assert before == (np.geterr(), np.get_printoptions(), list(warnings.filters))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
