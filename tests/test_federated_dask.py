"""Users on real Dask workers: the same rounds as in one process, whatever happens to the workers."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

import gplconvex as gc
from gplconvex.errors import EngineError, NotSolvedError, RunError
from gplconvex.federated import (
    CounterGradientAttack,
    DataAttack,
    Honest,
    Round,
    Trace,
    rounds,
    run,
)
from gplconvex.federated.dask import DaskEngine, _ends
from tests import strategies as cases

slow = pytest.mark.slow
LOOPBACK: dict[str, Any] = {
    "host": "127.0.0.1",
    "protocol": "tcp",
    "dashboard_address": "127.0.0.1:0",
}

# Threads of distributed write what killed workers do to the streams of pytest, in whose tests no warning
# is allowed; what is lost shows in the results.


@contextmanager
def two_workers(**options: Any) -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **options, **LOOPBACK) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes."""
    with two_workers() as client:
        yield client


@pytest.fixture
def mortal() -> Iterator[Client]:
    """Two more, of which one may be killed: another is not replaced in any case (see below)."""
    with two_workers() as client:
        yield client


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    """Two workers in this process: all but the processes, and fast."""
    with two_workers(processes=False) as client:
        yield client


def users(loss: gc.Loss | None = None, sizes: tuple[int, ...] = (6, 6, 6, 6, 6)) -> gc.Problem:
    """A problem of five users with two features."""
    loss = loss or gc.LeastSquares()
    rng = np.random.default_rng(3)
    data = [gc.Dataset(rng.normal(size=(m, 2)), cases.labels(loss, m, rng)) for m in sizes]
    return gc.Problem(loss, gc.SquaredL2(0.7), data, nu=[0.1, 0.2, 0.3, 0.4, 0.5])


RAGGED = (0, 40, 3, 1, 12)


def assert_same(one: Trace, other: Trace, rtol: float = 0.0) -> None:
    """Two traces are one, seconds apart."""
    assert one.stopped == other.stopped
    assert one.participants == other.participants
    assert one.rejections == other.rejections
    for a, b in (
        (one.rho, other.rho),
        (one.norms, other.norms),
        (one.reports, other.reports),
        (one.step_sizes, other.step_sizes),
    ):
        size = np.nanmax(np.abs(np.asarray(a)))
        np.testing.assert_allclose(a, b, rtol=0.0, atol=rtol * size)


def after(n: int, act: Callable[[], object]) -> Callable[[Round], None]:
    """Return a progress that acts once, after n rounds."""

    def progress(each: Round) -> None:
        if each.number == n - 1:
            act()

    return progress


def kill_a_worker(client: Client) -> None:
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)


# -- the same numbers --------------------------------------------------------------------------------

ATTACKS = {
    "nobody": [],
    "gradient": [gc.GradientAttack([0.4, -0.3])],
    "model": [gc.ModelAttack([2.0, -1.0])],
    "data": [DataAttack(gc.Dataset([[3.0, 1.0]], [-1.0]), nu=0.1)],
    "counter-gradient": [CounterGradientAttack([1.0, 1.0])],
    "two": [gc.GradientAttack([0.4, -0.3]), CounterGradientAttack([1.0, 1.0], omniscient=True)],
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("honest", [Honest(), Honest("auto")], ids=["exact", "one step"])
def test_numbers_are_those_of_one_process(threads: Client, honest: Honest, attack: str) -> None:
    """Users with the same number of rows: bit for bit."""
    arguments: Any = (users(), ATTACKS[attack])
    options: Any = {"honest": honest, "max_rounds": 8}
    here = run(*arguments, **options)
    there = run(*arguments, **options, engine=DaskEngine(threads, shards=3))
    assert_same(here, there)


def test_another_client_is_let_alone(threads: Client) -> None:
    """Dask binds actors to its default client, unless told otherwise."""
    with (
        LocalCluster(n_workers=1, processes=False, **LOOPBACK) as cluster,
        Client(cluster) as other,
    ):
        assert Client.current() is other
        options: Any = {"engine": DaskEngine(threads), "progress": after(1, other.close)}
        there = run(users(), max_rounds=3, **options)
    assert_same(there, run(users(), max_rounds=3))


@slow
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("honest", [Honest(), Honest("auto")], ids=["exact", "one step"])
@pytest.mark.parametrize("sizes", [(6,) * 5, RAGGED], ids=["equal", "ragged"])
@pytest.mark.parametrize("loss", [gc.LeastSquares(), gc.Logistic()], ids=repr)
def test_numbers_of_processes(
    client: Client,
    loss: gc.Loss,
    sizes: tuple[int, ...],
    honest: Honest,
    fraction: float,
    attack: str,
) -> None:
    """Padded to another length, sums of products round otherwise: a few units of a sum of forty."""
    arguments: Any = (users(loss, sizes), ATTACKS[attack])
    options: Any = {"honest": honest, "max_rounds": 12, "fraction": fraction, "seed": 5}
    here = run(*arguments, **options)
    there = run(*arguments, **options, engine=DaskEngine(client))
    assert_same(here, there, 0.0 if sizes != RAGGED else 1e-12)


@slow
def test_users_may_choose_differently_and_have_large_models(client: Client) -> None:
    """Large models are solved to a gap of 1e-14, of which distances are the root."""
    rng = np.random.default_rng(0)
    data = [gc.Dataset(rng.normal(size=(4, 400)), rng.choice([-1.0, 1.0], 4)) for _ in range(3)]
    problem = gc.Problem(gc.Logistic(), gc.SmoothL2(1.0), data, nu=0.5)
    options: Any = {"honest": [Honest(), Honest("auto"), Honest(0.1)], "max_rounds": 3}
    engine = DaskEngine(client)
    assert_same(run(problem, **options), run(problem, **options, engine=engine), 1e-6)


@pytest.mark.parametrize("n_shards", range(1, 9))
def test_shards_are_about_equal_in_data(n_shards: int) -> None:
    sizes = (3, 0, 50, 1, 1, 7, 9)
    problem = gc.Problem(
        gc.LeastSquares(), gc.SquaredL2(1.0), [(np.zeros((m, 1)), np.zeros(m)) for m in sizes]
    )
    ends = _ends(problem, n_shards).tolist()
    weights = [
        sum(1 + m for m in sizes[first:last]) for first, last in itertools.pairwise([0, *ends])
    ]
    assert ends[-1] == len(sizes)
    assert len(ends) <= n_shards
    assert all(weight > 0 for weight in weights)
    assert max(weights) <= sum(weights) / n_shards + 1 + max(sizes)


# -- lost workers ------------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("honest", [Honest(), Honest("auto")], ids=["exact", "one step"])
@pytest.mark.parametrize("sizes", [(6,) * 5, RAGGED], ids=["equal", "ragged"])
def test_a_killed_worker_changes_nothing(
    mortal: Client, sizes: tuple[int, ...], honest: Honest
) -> None:
    """One-step users remember: a forgotten model would show."""
    problem = users(sizes=sizes)
    options: Any = {"honest": honest, "max_rounds": 30, "engine": DaskEngine(mortal)}
    undisturbed = run(problem, **options)
    killed = run(problem, **options, progress=after(4, lambda: kill_a_worker(mortal)))
    assert_same(undisturbed, killed)


@dataclass(frozen=True)
class Moody(gc.LeastSquares):
    """Least squares, until a file appears."""

    mood: str = ""

    def residual(self, z: Any, y: Any) -> Any:
        path = Path(self.mood)
        with suppress(FileNotFoundError):  # another worker was faster
            text = path.read_text()
            if text == "die once":
                path.rename(path.with_name("died"))
            if text.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"unsolved": NotSolvedError("no", solution=None), "odd": OddError(1, 2)}[text]
        return super().residual(z, y)


class OddError(Exception):
    """Cannot be pickled: its second argument is lost."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


@slow
@pytest.mark.parametrize("honest", [Honest(), Honest("auto")], ids=["exact", "one step"])
def test_a_worker_that_dies_while_it_computes_changes_nothing(
    mortal: Client, tmp_path: Path, honest: Honest
) -> None:
    mood = tmp_path / "mood"
    problem = users(Moody(mood=str(mood)))
    options: Any = {"honest": honest, "max_rounds": 30, "engine": DaskEngine(mortal)}
    undisturbed = run(problem, **options)
    died = run(problem, **options, progress=after(4, lambda: mood.write_text("die once")))
    assert not mood.exists()
    assert_same(undisturbed, died)


@slow
def test_a_query_that_kills_every_worker_ends_the_run(tmp_path: Path) -> None:
    """By the number of attempts, or for want of workers: Dask replaces none that dies as it starts."""
    mood = tmp_path / "mood"
    problem = users(Moody(mood=str(mood)))
    with pytest.raises(RunError, match=r"5 Dask workers were lost|no Dask workers") as caught:
        run(
            problem,
            engine=DaskEngine(shards=2, timeout=5.0),
            progress=after(2, lambda: mood.write_text("die")),
        )
    assert isinstance(caught.value.__cause__, EngineError)
    assert caught.value.trace.n_rounds == 2


# -- exceptions of users -----------------------------------------------------------------------------


@pytest.mark.parametrize(("mood", "error"), [("unsolved", NotSolvedError), ("odd", EngineError)])
def test_what_a_user_raises_is_raised_here(
    threads: Client, tmp_path: Path, mood: str, error: type[Exception]
) -> None:
    path = tmp_path / "mood"
    problem = users(Moody(mood=str(path)))
    with pytest.raises(RunError) as caught:
        run(
            problem,
            honest=Honest("auto"),
            engine=DaskEngine(threads),
            progress=after(3, lambda: path.write_text(mood)),
        )
    cause = caught.value.__cause__
    assert type(cause) is error
    assert caught.value.trace.n_rounds == 3
    told = "".join([str(cause), *getattr(cause, "__notes__", [])])
    assert "in residual" in told  # where on the worker
    with pytest.raises(error):  # in the first round there is no trace to carry
        run(problem, honest=Honest("auto"), engine=DaskEngine(threads))


def test_errors_can_be_sent() -> None:
    """With their attributes, which are keywords of their constructors."""
    trace = run(users(), max_rounds=1)
    point = np.zeros(2)
    certificate = gc.solve(users()).certificate
    errors: list[gc.GplConvexError] = [
        gc.InvalidInputError("what"),
        NotSolvedError("what", solution=gc.solve(users())),
        RunError("what", trace=trace),
        gc.UnrealizableGradientError("what", direction=point),
        gc.UnreachableTargetError(
            "what", pull=2.0, lam=1.0, reachable=point, certificate=certificate
        ),
        gc.CertificateError("what", checks=()),
    ]
    for error in errors:
        error.add_note("where")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == "what"
        assert vars(copy).keys() == vars(error).keys()
        assert copy.__notes__ == ["where"]


def test_impossible_choices_are_refused_as_in_one_process(threads: Client) -> None:
    problem = cases.example(gc.LeastSquares(), gc.HardConsensus())
    with pytest.raises(gc.UnsupportedCombinationError, match="Honest"):
        run(problem, honest=Honest(0.1), engine=DaskEngine(threads))


@pytest.mark.parametrize(
    "arguments",
    [{"cluster": 8786}, {"shards": 0}, {"shards": True}, {"timeout": 0.0}, {"timeout": "long"}],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(gc.InvalidInputError):
        DaskEngine(**arguments)


# -- lost schedulers ---------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler that is a process of its own, and it and its only worker."""
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1"]
    dask = [sys.executable, "-m", "dask"]
    web = ["--dashboard-address", "127.0.0.1:0"]
    processes = [
        subprocess.Popen([*dask, "scheduler", *common, *web, "--port", "0"], stderr=-3),
        subprocess.Popen([*dask, "worker", *common, *web, "--no-nanny"], stderr=-3),
    ]
    try:
        with Client(scheduler_file=str(file), set_as_default=False, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            address = client.scheduler.address
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@slow
@pytest.mark.parametrize("lost", ["scheduler", "worker"])
def test_a_lost_cluster_ends_the_run_and_saves_it(outside: Any, tmp_path: Path, lost: str) -> None:
    address, (scheduler, worker) = outside
    victim = scheduler if lost == "scheduler" else worker
    file = tmp_path / "trace.npz"
    began = time.monotonic()
    with pytest.raises(RunError) as caught:
        run(
            users(),
            engine=DaskEngine(address, timeout=4.0),
            save=file,
            progress=after(3, victim.kill),
        )
    assert time.monotonic() - began < 60.0
    cause = caught.value.__cause__
    assert isinstance(cause, EngineError)
    assert ("does not answer" if lost == "scheduler" else "there are no Dask workers") in str(cause)
    trace = caught.value.trace
    assert trace.n_rounds >= 3
    assert_same(trace, Trace.load(file))
    undisturbed = run(users(), max_rounds=trace.n_rounds)
    np.testing.assert_array_equal(trace.rho, undisturbed.rho)


@slow
def test_a_stopped_scheduler_is_lost(outside: Any) -> None:
    address, (scheduler, _) = outside
    with pytest.raises(RunError, match="does not answer"):
        run(
            users(),
            engine=DaskEngine(address, timeout=2.0),
            progress=after(3, lambda: scheduler.send_signal(signal.SIGSTOP)),
        )


def test_no_scheduler_and_no_workers() -> None:
    with pytest.raises(EngineError, match="no Dask scheduler answers at 'tcp:"):
        run(users(), engine=DaskEngine("tcp://127.0.0.1:9", timeout=0.5))
    with (
        LocalCluster(n_workers=0, processes=False, **LOOPBACK) as cluster,
        pytest.raises(EngineError, match="there are no Dask workers"),
    ):
        run(users(), engine=DaskEngine(cluster.scheduler_address, timeout=0.5))


# -- nothing is left ---------------------------------------------------------------------------------


def workers_of(process: psutil.Process) -> set[psutil.Process]:
    """The processes that it started; Python's own, which counts resources, ends with it."""
    return {
        child
        for child in process.children(recursive=True)
        if not any("resource_tracker" in word for word in child.cmdline())
    }


@slow
def test_a_cluster_of_its_own_ends_with_the_run(tmp_path: Path) -> None:
    me = psutil.Process()
    before = workers_of(me)
    during: set[psutil.Process] = set()
    listening: set[str] = set()

    def look(each: Round) -> None:
        during.update(workers_of(me) - before)
        for process in [me, *during]:
            listening.update(c.laddr.ip for c in process.net_connections() if c.status == "LISTEN")

    trace = run(users(), engine=DaskEngine(shards=2), max_rounds=3, progress=look)
    assert_same(trace, run(users(), max_rounds=3))
    assert during
    assert listening == {"127.0.0.1"}
    assert workers_of(me) == before

    source = rounds(users(), engine=DaskEngine(shards=2))
    next(source)
    assert workers_of(me) > before
    source.close()
    assert workers_of(me) == before

    mood = tmp_path / "mood"
    mood.write_text("unsolved")
    with pytest.raises(NotSolvedError):
        run(users(Moody(mood=str(mood))), engine=DaskEngine(shards=2), honest=Honest("auto"))
    assert workers_of(me) == before


SCRIPT = """
import signal, sys, time
from gplconvex.federated import run
from gplconvex.federated.dask import DaskEngine
from tests.test_federated_dask import users

def told(each):
    print(each.number, flush=True)
    time.sleep(0.1)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    run(users(), engine=DaskEngine(shards=2), tol=0.0, save=sys.argv[1], progress=told)
"""


@slow
def test_a_cluster_of_its_own_replaces_a_killed_worker() -> None:
    me = psutil.Process()
    before = workers_of(me)
    counts: list[int] = []

    def progress(each: Round) -> None:
        counts.append(len(workers_of(me) - before))
        if each.number == 2:
            next(iter(workers_of(me) - before)).kill()

    options: Any = {"honest": Honest("auto"), "max_rounds": 10}
    trace = run(users(), **options, engine=DaskEngine(shards=2), progress=progress)
    assert_same(trace, run(users(), **options))
    assert counts[0] == counts[-1] == min(2, os.cpu_count() or 1)


@slow
def test_the_environment_is_let_alone() -> None:
    """Dask's own way to one thread a worker are variables in the environment of the driver."""
    before = dict(os.environ)
    next(rounds(users(), engine=DaskEngine(shards=1)))
    assert dict(os.environ) == before


@slow
def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    command = [sys.executable, str(script), str(tmp_path / "trace.npz")]
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert finished.returncode == 1
    assert "a script must call run under" in finished.stderr.splitlines()[-1]


@slow
def test_an_interruption_ends_the_workers_and_saves_the_run(tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a terminal at once, as here to those of a session."""
    script, file = tmp_path / "script.py", tmp_path / "trace.npz"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 3:
                break
        workers = workers_of(psutil.Process(process.pid))
        assert workers
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (0, "")
    assert Trace.load(file).stopped == "interrupted"
    assert not any(worker.is_running() for worker in workers)
