"""Every example runs as its docstring says, and draws its figure."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_draws_its_figure(script: Path, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, figure],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
