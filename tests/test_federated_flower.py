"""Rounds on Flower: the same numbers as in this process, whoever fails, and nothing left behind.

Most tests have no process but this one: a thread runs the ServerApp, and a Grid calls the ClientApp. The
slow ones start real federations.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

import gplconvex as gc
from gplconvex.errors import EngineError, RunError, UnsupportedCombinationError
from gplconvex.federated import (
    CounterGradientAttack,
    DataAttack,
    HeavyBall,
    Honest,
    Query,
    Round,
    Trace,
    decaying,
    flower,
    rules,
    run,
)
from gplconvex.federated.flower import __main__ as demo
from gplconvex.federated.flower import attackers, client, federation, records, server
from gplconvex.federated.flower.processes import Processes

LONG = 300.0
"""Seconds for what takes 30 on an idle machine."""


def users(n: int = 3, loss: gc.Loss | None = None) -> gc.Problem:
    """A problem whose users have as many rows each: then no reply depends on who is in a batch."""
    loss = loss or gc.LeastSquares()
    rng = np.random.default_rng(3)
    labels = rng.choice([-1.0, 1.0], (n, 6))
    data = [gc.Dataset(rng.normal(size=(6, 2)), y) for y in labels]
    return gc.Problem(loss, gc.SquaredL2(0.7), data, nu=np.linspace(0.1, 0.3, n))


def assert_same(one: Trace, other: Trace) -> None:
    """Two traces are one, bit by bit, seconds and the words for failures apart."""
    assert one.stopped == other.stopped
    assert one.participants == other.participants
    assert dropped(one) == dropped(other)
    np.testing.assert_array_equal(one.rho, other.rho)
    np.testing.assert_array_equal(one.norms, other.norms)
    np.testing.assert_array_equal(one.step_sizes, other.step_sizes)
    np.testing.assert_array_equal(np.asarray(one.reports), np.asarray(other.reports))


def dropped(trace: Trace) -> list[tuple[int, int]]:
    return [(each.round, each.participant) for each in trace.rejections]


# -- a federation in one process ---------------------------------------------------------------------


class Ended(Exception):
    """Nobody looks at the rounds any longer."""


@dataclass
class Nodes(Grid):
    """Nodes that answer at once, in the order of ids that do not tell who they are."""

    app: Callable[[Message, Context], Message]
    contexts: dict[int, Context]
    goes_on: Callable[[], bool] = lambda: True
    answers: dict[str, Message | None] = field(default_factory=dict)
    sent: int = 0

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *arguments: Any, **options: Any) -> Any: ...

    def send_and_receive(self, *arguments: Any, **options: Any) -> Any: ...

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        if not self.goes_on():
            raise Ended
        return [self.push(message) for message in messages]

    def push(self, message: Message) -> Any:
        self.sent += 1
        number = str(self.sent)
        message.metadata.__dict__["_message_id"] = number
        try:
            answer: Message | None = self.app(message, self.contexts[message.metadata.dst_node_id])
        except TimeoutError:  # here, who never answers
            answer = None
        except Exception as error:  # as Flower does
            answer = Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=message)
        self.answers[number] = answer
        return number

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = {number: self.answers[number] for number in message_ids}
        return [answer for answer in found.values() if answer is not None]


def contexts(folder: Path, n: int) -> dict[int, Context]:
    """The contexts of n nodes by their ids, of which the first is not that of the first participant."""
    ids = [int(7919 * (k + 1)) for k in np.random.default_rng(0).permutation(n)]
    seats = {node: str(folder / f"seat-{number}.pickle") for number, node in enumerate(ids)}
    return {node: Context(1, node, {"seat": seats[node]}, RecordDict(), {}) for node in sorted(ids)}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Federations without processes; ``app`` takes the place of the ClientApp, if given."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the thread may write when all is over
    options: dict[str, Any] = {}
    threads = []

    def start(processes: Processes, n: int, name: str, until: float) -> None:
        folder = processes.folder
        app = options.get("app") or {"client": client, "attackers": attackers}[name].app
        grid = Nodes(app, contexts(folder, n), (folder / server.PLAN).exists)

        def work() -> None:
            with suppress(Ended, gc.InvalidInputError, OSError):  # the folder is gone
                server.app(grid, Context(1, 1, {}, RecordDict(), {"folder": str(folder)}))

        options.update(grid=grid, name=name)
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    for name in ("_run_id", "_node_id", "_task_id"):  # no message is made outside a task
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(federation, "_start", start)
    monkeypatch.setattr(federation, "POLL", 0.001)
    monkeypatch.setattr(server, "POLL", 0.001)
    yield options
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive()


def counting(calls: int = 3) -> Callable[[Query], np.ndarray]:
    """An attack that remembers how often it was asked, and fails once."""
    asked: list[int] = []

    def attack(query: Query) -> np.ndarray:
        asked.append(query.round)
        if len(asked) == calls:
            raise ValueError("not now")
        return np.array([0.1, -0.1]) * len(asked) * query.step_size

    return attack


ATTACKS: dict[str, Callable[[], list[Any]]] = {
    "nobody": lambda: [],
    "gradient": lambda: [gc.GradientAttack([0.4, -0.3])],
    "model": lambda: [gc.ModelAttack([2.0, -1.0])],
    "data": lambda: [DataAttack(gc.Dataset(np.ones((6, 2)), np.arange(6.0)), nu=0.1)],
    "counter-gradient": lambda: [CounterGradientAttack([1.0, 1.0])],
    "function": lambda: [counting()],
    "two": lambda: [gc.GradientAttack([0.4, -0.3]), CounterGradientAttack([1.0, 1.0])],
}


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("honest", [Honest(), Honest("auto")], ids=["exact", "one step"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_numbers_are_those_of_one_process(
    here: dict[str, Any], attack: str, honest: Honest, fraction: float
) -> None:
    options: Any = {"honest": honest, "fraction": fraction, "max_rounds": 9, "step_size": 0.1}
    there = flower.run(users(), ATTACKS[attack](), **options)
    assert_same(there, run(users(), ATTACKS[attack](), **options))
    assert here["name"] == ("client" if attack in ("nobody", "data") else "attackers")


def test_all_that_a_server_is_told_goes_along(here: dict[str, Any]) -> None:
    """Closures as a rule and as a step size, an optimizer, a loss, a start, choices of users."""
    problem = users(4, gc.Logistic())
    options: Any = {
        "rule": rules.trimmed_mean(1),
        "optimizer": HeavyBall(0.3),
        "step_size": decaying(0.2, 5.0),
        "honest": [Honest(), Honest("auto"), Honest(0.01), Honest()],
        "start": [0.5, -0.5],
        "seed": 4,
        "fraction": 0.8,
        "max_rounds": 6,
        "references": {"here": [1.0, 1.0]},
    }
    there = flower.run(problem, [lambda query: -query.rho], **options)
    assert_same(there, run(problem, [lambda query: -query.rho], **options))
    assert list(there.references) == ["here"]


def test_a_run_stops_when_it_is_stationary(here: dict[str, Any]) -> None:
    assert_same(flower.run(users()), run(users()))


def test_the_demo_compares_the_two(
    here: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    demo.main()
    assert "the same, bit for bit" in capsys.readouterr().out
    here["app"] = failing(lambda message, _: records.answer(message, np.zeros(11)))
    with pytest.raises(SystemExit, match="differ, by up to"):
        demo.main()


def test_an_interrupt_ends_the_federation_and_leaves_a_trace(
    here: dict[str, Any], tmp_path: Path
) -> None:
    def progress(each: Round) -> None:
        if each.number == 2:
            raise KeyboardInterrupt

    file = tmp_path / "trace.npz"
    trace = flower.run(users(), progress=progress, save=file, tol=0.0)
    assert (trace.stopped, trace.n_rounds) == ("interrupted", 3)
    assert Trace.load(file).rho.tobytes() == trace.rho.tobytes()


def test_a_rule_that_fails_ends_the_run_with_the_trace_so_far(here: dict[str, Any]) -> None:
    def picky(reports: np.ndarray) -> np.ndarray:
        if np.linalg.norm(reports.sum(axis=0)) < 1e-3:
            raise ArithmeticError("nothing to do")
        return np.asarray(reports.mean(axis=0))

    with pytest.raises(RunError, match="nothing to do") as there:
        flower.run(users(), rule=picky)
    with pytest.raises(RunError) as same:
        run(users(), rule=picky)
    assert_same(there.value.trace, same.value.trace)
    assert isinstance(there.value.__cause__, ArithmeticError)
    assert "Raised in the ServerApp" in there.value.__cause__.__notes__[0]


def test_an_error_that_cannot_be_sent_is_sent_in_words(here: dict[str, Any]) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    def rule(reports: np.ndarray) -> np.ndarray:
        raise Odd(1, 2)

    with pytest.raises(EngineError, match="odd"):
        flower.run(users(), rule=rule)


# -- participants that fail --------------------------------------------------------------------------


def failing(act: Callable[[Message, Context], Message]) -> Callable[[Message, Context], Message]:
    """The honest app, but the second participant does something else in its second round."""

    def app(message: Message, context: Context) -> Message:
        answer = client.app(message, context)
        second = str(context.node_config["seat"]).endswith("seat-1.pickle")
        asked = second and message.metadata.message_type == "train"
        return act(message, context) if asked and records.query_of(message).round == 1 else answer

    return app


def raises(message: Message, context: Context) -> Message:
    raise ValueError("no")


def hangs(message: Message, context: Context) -> Message:
    raise TimeoutError


FAILURES: dict[str, tuple[Callable[[Message, Context], Message], str]] = {
    "raises": (raises, "<class 'ValueError'>:<'no'>"),
    "hangs": (hangs, "no answer in 0.5 s"),
    "nan": (lambda message, _: records.answer(message, [np.nan, 0.0]), "not finite"),
    "inf": (lambda message, _: records.answer(message, [np.inf, 0.0]), "not finite"),
    "short": (lambda message, _: records.answer(message, [1.0]), "a report of shape (1,)"),
    "text": (lambda message, _: records.answer(message, ["a", "b"]), "real numbers"),
    "empty": (lambda message, _: Message(RecordDict(), reply_to=message), "KeyError"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_who_fails_is_dropped_in_that_round(here: dict[str, Any], how: str) -> None:
    act, reason = FAILURES[how]
    here["app"] = failing(act)
    trace = flower.run(users(), max_rounds=4, patience=0.5)
    assert dropped(trace) == [(1, 1)]
    assert reason in trace.rejections[0].reason
    assert trace.stopped == "max_rounds"
    assert np.isfinite(trace.rho).all()


def test_a_query_that_cannot_be_sent_is_no_answer(here: dict[str, Any]) -> None:
    class Picky(Nodes):
        def push(self, message: Message) -> Any:
            large = message.metadata.message_type == "train"
            return None if large and message.metadata.dst_node_id == 7919 else super().push(message)

    ask = with_grid(here, Picky)
    reports, failures = ask(Query(0, np.zeros(2), 0.1), np.arange(3))
    assert list(failures.values()) == ["the query was not sent"]
    assert np.isnan(reports).any(axis=1).sum() == 1


def with_grid(here: dict[str, Any], kind: type[Nodes]) -> Any:
    """Return how to ask the users on another grid."""
    folder = Path(tempfile.mkdtemp())
    seats = federation._seats(users(), [], [Honest()] * 3, np.zeros(2))
    for seat in seats:
        (folder / f"seat-{seat.number}.pickle").write_bytes(federation._pickled("", seat))
    grid = kind(client.app, contexts(folder, 3))
    here["contexts"] = grid.contexts
    return server.asking(grid, server.meet(grid, 3, 1.0), 1.0)


def test_who_lost_its_memory_is_dropped(here: dict[str, Any]) -> None:
    """A user by steps would else go on from the start, and nobody would know."""
    ask = with_grid(here, Nodes)
    everybody = np.arange(3)
    assert not ask(Query(0, np.zeros(2), 0.1), everybody)[1]
    next(iter(here["contexts"].values())).state = RecordDict()
    (reason,) = ask(Query(1, np.ones(2), 0.1), everybody)[1].values()
    assert "the answer in round 0 is forgotten; the last known is -1" in reason


def test_another_run_finds_no_memory(here: dict[str, Any]) -> None:
    """Flower keeps the state of a node's context over the runs of a series."""
    ask = with_grid(here, Nodes)
    first = ask(Query(0, np.ones(2), 0.1), np.arange(3))[0]
    for context in here["contexts"].values():
        context.run_id = 2
        stamp = context.state.config_records["honest-stamp"]
        assert (stamp["run"], stamp["round"]) == ("1", 0)
    grid = Nodes(client.app, here["contexts"])
    again = server.asking(grid, server.meet(grid, 3, 1.0), 1.0)
    np.testing.assert_array_equal(again(Query(0, np.ones(2), 0.1), np.arange(3))[0], first)


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "two nodes say that they are participant 0"), (7, "participant 7, of 3")],
)
def test_every_participant_is_there_once(here: dict[str, Any], number: int, message: str) -> None:
    here["app"] = lambda message, context: records.introduction(message, number)
    with pytest.raises(EngineError, match=message):
        flower.run(users())


def test_who_does_not_come_is_named(here: dict[str, Any]) -> None:
    app = ClientApp()
    here["app"] = app
    with pytest.raises(EngineError, match="a node does not say who it is"):
        flower.run(users())
    here["app"] = hangs
    with pytest.raises(
        EngineError, match=r"participants \[0, 1, 2\] are not there|has begun in time"
    ):
        flower.run(users(), patience=0.2)


def test_the_apps_of_the_page_run(here: dict[str, Any], tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "federated.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```py\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    own: dict[str, Any] = {}
    for name in ("clientapp", "serverapp"):
        (code,) = [block for block in blocks if f"from flwr.{name}" in block]
        exec(compile(code, name, "exec"), namespace := {})
        own[name] = namespace["app"]
    hospitals = [gc.Dataset(d.x[:50], d.y[:50]) for d in gc.heart_disease_regression().datasets[:3]]
    grid = Nodes(own["clientapp"], contexts(tmp_path, 3))
    for number, (data, node) in enumerate(zip(hospitals, grid.contexts.values(), strict=True)):
        np.savez(tmp_path / f"{number}.npz", x=data.x, y=data.y)
        node.node_config = {"number": number, "data": str(tmp_path / f"{number}.npz")}
    file = tmp_path / "trace.npz"
    own["serverapp"](grid, Context(1, 1, {}, RecordDict(), {"trace": str(file)}))
    problem = gc.Problem(gc.LeastSquares(intercept=True), gc.SquaredL2(1.0), hospitals, nu=0.1)
    trace = run(problem, max_rounds=20)
    np.testing.assert_array_equal(Trace.load(file).rho, trace.rho)
    assert trace.step_sizes[0] == 1 / 6


# -- refused before anything starts ------------------------------------------------------------------


def unpicklable() -> Callable[[np.ndarray], np.ndarray]:
    lock = threading.Lock()

    def rule(reports: np.ndarray) -> np.ndarray:
        with lock:
            return np.asarray(reports.mean(axis=0))

    return rule


REFUSED: dict[str, tuple[list[Any], dict[str, Any], type[Exception], str]] = {
    "omniscient": (
        [CounterGradientAttack([1.0, 1.0], omniscient=True)],
        {},
        UnsupportedCombinationError,
        "participant 3, .* nobody sees the reports of others",
    ),
    "rule": ([], {"rule": unpicklable()}, gc.InvalidInputError, "rule.* cannot be sent"),
    "function": ([unpicklable()], {"step_size": 0.1}, gc.InvalidInputError, "participant 3 cannot"),
    "shape": ([gc.GradientAttack([1.0])], {}, gc.InvalidInputError, "gradient"),
    "nobody": ([3], {}, gc.InvalidInputError, "an attacker must be"),
    "patience": ([], {"patience": 0.0}, gc.InvalidInputError, "patience must be"),
    "endless": ([], {"patience": float("inf")}, gc.InvalidInputError, "patience must be"),
    "step size": ([], {"step_size": -1.0}, gc.InvalidInputError, "step_size must be"),
    "reference": ([], {"references": {"a": [1.0]}}, gc.InvalidInputError, "references"),
    "rounds": ([], {"max_rounds": 0}, gc.InvalidInputError, "max_rounds must be"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    attackers, options, error, message = REFUSED[what]
    monkeypatch.setattr(federation, "Processes", None)
    with pytest.raises(error, match=message):
        flower.run(users(), attackers, **options)


def test_users_without_a_step_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "Processes", None)
    data = users().datasets
    consensus = gc.Problem(gc.LeastSquares(), gc.HardConsensus(), data, nu=0.1)
    with pytest.raises(UnsupportedCombinationError, match="nothing to improve"):
        flower.run(consensus, honest=Honest("auto"))
    attack = DataAttack(data[0], honest=Honest("auto"))
    with pytest.raises(UnsupportedCombinationError, match="nothing to improve"):
        flower.run(consensus, [attack])


def test_another_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation.os, "name", "nt")
    with pytest.raises(EngineError, match="POSIX"):
        flower.rounds(users())


@pytest.mark.parametrize("missing", ["flwr", "cloudpickle"])
def test_without_the_extra_the_error_names_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import gplconvex.federated\n"
        "import gplconvex.federated.flower"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingDependencyError: gplconvex.federated.flower needs flwr" in finished.stderr
    assert 'pip install "gplconvex[flower]"' in finished.stderr


# -- processes ---------------------------------------------------------------------------------------

SLEEP = [sys.executable, "-S", "-c", "import time; print('here', flush=True); time.sleep(600)"]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not, whose parent only has not noticed."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_processes_end_with_their_block(tmp_path: Path) -> None:
    with Processes(tmp_path, os.environ) as processes:
        processes.start("sleeper", SLEEP)
        processes.start("short", [sys.executable, "-S", "-c", "print('\\x1b[31mred')"])
        wait_for(lambda: processes.ended() == ["short"])
        wait_for(lambda: processes.tail("sleeper") == "here")
        assert processes.tail("short") == "red"
        assert processes.tail("nobody") == ""
        pids = [processes.keeper.pid, processes.running["sleeper"].pid]
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert tmp_path.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_who_started_them(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from gplconvex.federated.flower.processes import Processes\n"
        f"with Processes(Path({str(folder)!r}), os.environ) as processes:\n"
        f"    processes.start('sleeper', {SLEEP!r})\n"
        "    print(processes.keeper.pid, processes.running['sleeper'].pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with starter, starter.stdout as output:  # type: ignore[union-attr]
        pids = [int(pid) for pid in output.readline().split()]
        starter.send_signal(how)
    wait_for(lambda: not any(map(alive, pids)) and not folder.exists())


def starting(command: list[str], name: str) -> Callable[..., None]:
    """A federation that is one process."""

    def start(processes: Processes, n: int, client: str, until: float) -> None:
        processes.start(name, command)

    return start


@pytest.mark.parametrize("name", ["superlink", "supernode-1"])
def test_a_process_that_ends_before_the_rounds_ends_all(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    command = [sys.executable, "-S", "-c", "print('the port is taken')"]
    monkeypatch.setattr(federation, "_start", starting(command, name))
    with pytest.raises(EngineError, match=f"{name} of the federation ended(.|\n)*port is taken"):
        flower.run(users())


def test_a_federation_that_does_not_start_shows_what_it_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(federation, "_start", starting(SLEEP, "superlink"))
    with pytest.raises(EngineError, match=r"no round has begun in time(.|\n)*superlink:\nhere"):
        flower.run(users(), patience=2.0)


def test_flower_has_to_be_beside_this_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(federation.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(gc.MissingDependencyError, match="flower-superlink is not beside"):
        flower.run(users())


# -- real federations --------------------------------------------------------------------------------


def family(parent: int) -> list[psutil.Process]:
    """The processes of federations: descendants that are not in the process group of the parent."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) != os.getpgid(parent):
                found.append(process)
    return found


def listening(processes: Iterable[psutil.Process]) -> set[str]:
    """The addresses at which processes listen."""
    found = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found |= {
                each.laddr.ip for each in process.net_connections() if each.status == "LISTEN"
            }
    return found


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["nobody", "counter-gradient"])
def test_a_real_federation_has_the_same_numbers_and_stays_on_this_machine(attack: str) -> None:
    options: Any = {"honest": Honest("auto"), "max_rounds": 3}
    seen: list[tuple[set[str], set[int]]] = []

    def progress(each: Round) -> None:
        processes = family(os.getpid())
        seen.append((listening(processes), {process.pid for process in processes}))

    there = flower.run(users(2), ATTACKS[attack](), **options, progress=progress, patience=LONG)
    assert_same(there, run(users(2), ATTACKS[attack](), **options))
    for addresses, pids in seen:
        assert addresses == {"127.0.0.1"}
        wait_for(
            lambda pids=pids: not any(map(alive, pids))
        )  # what is killed may take a moment to end


@pytest.mark.slow
def test_a_real_node_that_fails_is_dropped_and_the_others_go_on() -> None:
    trace = flower.run(users(2), [counting(2)], max_rounds=3, step_size=0.1, patience=LONG)
    assert_same(trace, run(users(2), [counting(2)], max_rounds=3, step_size=0.1))
    (rejection,) = trace.rejections
    assert rejection.reason == "<class 'ValueError'>:<'not now'>"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_of_a_federation_whose_starter_is_ended_nothing_is_left(
    how: signal.Signals, tmp_path: Path
) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "from gplconvex.federated import flower\n"
        "from tests.test_federated_flower import users, LONG\n"
        "flower.run(users(2), tol=0.0, patience=LONG, progress=lambda _: print(flush=True))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    starter = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    with starter, starter.stdout as output:  # type: ignore[union-attr]
        assert output.readline() == "\n"  # a round is over
        pids = {process.pid for process in family(starter.pid)}
        assert len(pids) > 6
        starter.send_signal(how)
    wait_for(lambda: not any(map(alive, pids)) and not any(tmp_path.iterdir()))
