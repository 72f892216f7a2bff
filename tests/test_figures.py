"""`gplconvex figures`: what it leaves, what it goes on from, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from same_results import assert_same

import gplconvex as gc
from gplconvex import cli, plots
from gplconvex.experiments import catalog
from gplconvex.experiments.catalog import EXPERIMENTS, Experiment
from gplconvex.experiments.results import Result


@dataclass(frozen=True, eq=False)
class Small(Result):
    value: int


@pytest.fixture
def done(monkeypatch):
    """Two experiments of two steps each, and the list of the steps that were done."""
    steps_done = []

    def experiment(name, size, fails=False):
        def run(steps):
            inner = steps.within(name, size=size)

            def step(number):
                if number == 2 and fails and not steps_done.count((name, 1)) > 1:
                    steps_done.append("failed")
                    raise gc.InvalidInputError("the second step fails")
                steps_done.append((name, number))
                return Small(number)

            steps.on_progress(0.5)
            return Small(sum(inner(f"step {n}", lambda n=n: step(n)).value for n in (1, 2)))

        return run

    def drawn(result):
        from gplconvex.plots.style import Figure

        assert result.value == 3
        return Figure()

    fake = {
        name: Experiment(f"the {name}", experiment(name, "quick"), experiment(name, "full"))
        for name in ("first", "second")
    }
    monkeypatch.setattr(catalog, "EXPERIMENTS", fake)
    for name in fake:
        monkeypatch.setattr(plots, name, drawn, raising=False)
    return steps_done


def run(*arguments):
    cli.application()(["figures", *map(str, arguments)], standalone_mode=False)


def test_all_experiments_are_run_and_drawn(done, tmp_path, capsys):
    run("--out", tmp_path / "new")
    assert done == [("first", 1), ("first", 2), ("second", 1), ("second", 2)]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {
        "steps",
        *(f"{n}.{s}" for n in ("first", "second") for s in ("npz", "png", "pdf")),
    }
    assert "second: the second" in capsys.readouterr().out


def test_only_what_is_named_is_run(done, tmp_path):
    run("second", "--out", tmp_path, "--full")
    assert done == [("second", 1), ("second", 2)]
    assert Small.load(tmp_path / "second.npz").value == 3


def test_what_is_there_is_not_computed_again(done, tmp_path):
    run("--out", tmp_path)
    (tmp_path / "first.pdf").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    done.clear()
    run("--out", tmp_path)
    assert not done
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert {path for path in after if after[path] != before.get(path)} == {tmp_path / "first.pdf"}


def test_steps_that_were_done_are_not_done_again(done, tmp_path):
    run("first", "--out", tmp_path)
    (tmp_path / "first.npz").unlink()
    (tmp_path / "steps" / "first" / "step 2.npz").unlink()
    done.clear()
    run("first", "--out", tmp_path)
    assert done == [("first", 2)]


def test_overwrite_starts_anew(done, tmp_path):
    run("--out", tmp_path)
    done.clear()
    run("first", "--out", tmp_path, "--overwrite")
    assert done == [("first", 1), ("first", 2)]


def test_overwrite_leaves_what_is_not_its_own(done, tmp_path):
    for name in ("first.txt", "notes.npz"):
        (tmp_path / name).write_text("mine")
    run("--out", tmp_path)
    run("--out", tmp_path, "--overwrite")
    assert (tmp_path / "first.txt").read_text() == (tmp_path / "notes.npz").read_text() == "mine"


def test_a_folder_of_the_other_size_is_refused(done, tmp_path):
    run("first", "--out", tmp_path)
    with pytest.raises(gc.InvalidInputError, match=r"'size': 'full'.*'size': 'quick'"):
        run("first", "--out", tmp_path, "--full")


def test_an_unknown_name_is_refused_before_anything_is_done(done, tmp_path):
    with pytest.raises(gc.InvalidInputError, match="experiments are first, second; got third"):
        run("first", "third", "--out", tmp_path / "new")
    assert not done
    assert not (tmp_path / "new").exists()


def test_every_experiment_has_a_picture_and_a_result():
    assert EXPERIMENTS
    for name, experiment in EXPERIMENTS.items():
        assert callable(getattr(plots, name))
        assert name in plots.__all__
        assert experiment.title


# -- the real ones -----------------------------------------------------------------------------------

NO_NETWORK = """
import socket, sys
def refuse(*_, **__): raise OSError("no network in this test")
socket.socket.connect = refuse
socket.create_connection = refuse
from gplconvex.cli import main
main(sys.argv[1:])
"""


def command(*arguments):
    return [sys.executable, "-c", NO_NETWORK, "figures", "--quick", *map(str, arguments)]


def environment(folder: Path) -> dict[str, str]:
    """Nothing to read but what comes with the package."""
    return {**os.environ, "GPLCONVEX_DATA": str(folder / "no-data"), "MPLBACKEND": "Agg"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A folder in which all experiments were run without a break, without network and data."""
    folder = tmp_path_factory.mktemp("figures")
    subprocess.run(command("--out", folder / "out"), env=environment(folder), check=True)
    return folder / "out"


@pytest.mark.slow
def test_quick_runs_offline_and_leaves_results_and_pictures(quick):
    for name in EXPERIMENTS:
        assert isinstance(Result.load(quick / f"{name}.npz"), Result)
        assert (quick / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (quick / f"{name}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_results(quick, tmp_path):
    out = tmp_path / "out"
    rng = np.random.default_rng(0)
    kills = 0
    for _ in range(200):
        process = subprocess.Popen(
            command("--out", out), env=environment(tmp_path), start_new_session=True
        )
        until = time.monotonic() + rng.uniform(4.0, 15.0)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= 3
    for name in EXPERIMENTS:
        one, two = (Result.load(folder / f"{name}.npz") for folder in (quick, out))
        assert_same(one, two)


def test_the_network_is_refused_in_these_tests():
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            NO_NETWORK.replace("from gplconvex.cli import main", "").replace(
                "main(sys.argv[1:])", "socket.create_connection(('127.0.0.1', 9))"
            ),
        ],
        capture_output=True,
        text=True,
    )
    assert "no network in this test" in finished.stderr
