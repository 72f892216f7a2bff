"""A federation on this machine: a SuperLink, a SuperNode for every participant, one run of the app.

All are processes of their own, which talk over ports that no other machine reaches. What they need they
read from a temporary folder that only this user may enter; the server writes its rounds there, one file
each. When the rounds end, for whatever reason, so do the processes, and the folder goes.

While it runs, whoever is on this machine can reach its ports, and have code run there as this user.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import shutil
import socket
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import cloudpickle
import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, is_number
from gplconvex.errors import (
    EngineError,
    InvalidInputError,
    MissingDependencyError,
    UnsupportedCombinationError,
)
from gplconvex.federated.flower.client import Seat
from gplconvex.federated.flower.processes import Processes
from gplconvex.federated.flower.server import BEGUN, FAILED, PLAN, Plan, round_file
from gplconvex.federated.optimizers import GradientDescent, Optimizer
from gplconvex.federated.participants import Attack, DataAttack, is_omniscient, joining
from gplconvex.federated.protocol import Round, StepSize, server_for, start_for
from gplconvex.federated.rules import Rule, mean
from gplconvex.federated.trace import STATIONARY, Trace, names_and_models, record, settings_of
from gplconvex.federated.users import Honest, LocalUsers, check_honest
from gplconvex.problem import Problem

POLL = 0.05
"""Seconds between two looks for a file."""

PATIENCE = 300.0
"""Seconds: a round of many nodes on few cores takes its time."""

APP = """\
[project]
name = "gplconvex-rounds"
version = "1.0.0"
description = "Rounds of gplconvex"
license = "BSD-3-Clause"
dependencies = []

[tool.flwr.app]
publisher = "gplconvex"

[tool.flwr.app.components]
serverapp = "gplconvex.federated.flower.server:app"
clientapp = "gplconvex.federated.flower.{client}:app"

[tool.flwr.app.config]
{config}
"""

CONNECTION = """\
[superlink]
default = "loopback"

[superlink.loopback]
address = "{address}"
insecure = true
"""


class RoundOptions(TypedDict, total=False):
    """The options of `rounds`."""

    rule: Rule
    optimizer: Optimizer
    step_size: StepSize | Literal["auto"]
    fraction: float
    seed: int
    honest: Honest | Sequence[Honest]
    start: npt.ArrayLike | None
    patience: float


def run(
    problem: Problem,
    attackers: Sequence[Attack] = (),
    *,
    max_rounds: int = 1000,
    tol: float = STATIONARY,
    time_limit: float | None = None,
    references: Mapping[str, npt.ArrayLike] | None = None,
    keep_reports: bool = True,
    save: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[Round], object] | None = None,
    **options: Unpack[RoundOptions],
) -> Trace:
    """Do as `gplconvex.federated.run` does, in a federation of processes on this machine.

    Parameters
    ----------
    problem, attackers
        Who takes part; see `rounds`.
    max_rounds, tol, time_limit, references, keep_reports, save, overwrite, progress
        See `gplconvex.federated.run`.
    **options
        ``rule``, ``optimizer``, ``step_size``, ``fraction``, ``seed``, ``honest``, ``start`` and
        ``patience`` of `rounds`.

    Returns
    -------
    Trace
        With the numbers of `gplconvex.federated.run`, bit for bit if users have the same number of rows.

    Raises
    ------
    InvalidInputError, UnsupportedCombinationError, EngineError
        Before the end of the first round; see `rounds`.
    RunError
        If a later round fails, ``progress``, or writing the file.

    Examples
    --------
    >>> trace = run(problem, [CounterGradientAttack(target)], max_rounds=5)  # doctest: +SKIP
    """
    all_rounds = rounds(problem, attackers, **options)
    names, models = names_and_models(problem, attackers, references)
    return record(
        all_rounds,
        names,
        max_rounds=max_rounds,
        tol=tol,
        time_limit=time_limit,
        references=models,
        keep_reports=keep_reports,
        save=save,
        overwrite=overwrite,
        progress=progress,
        settings=settings_of(rounds, problem, attackers, **options),
    )


def rounds(
    problem: Problem,
    attackers: Sequence[Attack] = (),
    *,
    rule: Rule = mean,
    optimizer: Optimizer = GradientDescent(),
    step_size: StepSize | Literal["auto"] = "auto",
    fraction: float = 1.0,
    seed: int = 0,
    honest: Honest | Sequence[Honest] = Honest(),
    start: npt.ArrayLike | None = None,
    patience: float = PATIENCE,
) -> Iterator[Round]:
    """Yield rounds without end; closing the iterator ends the federation.

    Parameters
    ----------
    problem, attackers, rule, optimizer, step_size, fraction, seed, honest, start
        See `gplconvex.federated.rounds`. What is sent to other processes is pickled: functions may be
        lambdas, and may remember. The problem that an attacker joins has no data.
    patience : float
        Seconds that nodes have to come at first, and to answer in a round.

    Yields
    ------
    Round
        Whoever fails, or does not answer, is dropped in that round, honest users included.

    Raises
    ------
    InvalidInputError, UnsupportedCombinationError
        Before anything is started, as `gplconvex.federated.rounds`; and for what cannot be pickled, and
        attackers who are omniscient, since nobody sees the reports of others in the same round.
    EngineError
        If the federation does not start, or one of its processes, a participant's excepted, ends.
    """
    server = server_for(problem, attackers, step_size, rule, optimizer, fraction, seed)
    choices = check_honest(problem, honest)
    rho = start_for(problem, start)
    if not (is_number(patience) and 0.0 < patience < math.inf):
        raise InvalidInputError(f"patience must be a positive number of seconds; got {patience!r}")
    if os.name != "posix":
        raise EngineError("a federation of processes needs POSIX: Linux, macOS, or WSL on Windows")
    LocalUsers(problem, choices, rho)  # raises now what nodes would raise
    seats = _seats(problem, attackers, choices, rho)
    files = {
        PLAN: _pickled("the rule, the optimizer or the step size", Plan(server, rho, patience))
    }
    for seat in seats:
        files[_seat_file(seat.number)] = _pickled(f"participant {seat.number}", seat)
    client = "client" if all(seat.attack is None for seat in seats) else "attackers"
    return _federation(files, len(seats), client, patience)


def _seats(
    problem: Problem, attackers: Sequence[Attack], honest: Sequence[Honest], start: FloatArray
) -> list[Seat]:
    """Return what belongs to each participant."""
    loss, regularizer = problem.loss, problem.regularizer
    seats = [
        Seat(n, Problem(loss, regularizer, [data], problem.nu[n]), honest[n], start)
        for n, data in enumerate(problem.datasets)
    ]
    nothing = Dataset(np.zeros((0, problem.n_features)), np.zeros(0))
    nobody = Problem(loss, regularizer, [nothing], problem.nu[0])
    for n, attack in enumerate(attackers, problem.n_users):
        if is_omniscient(attack):
            raise UnsupportedCombinationError(
                f"participant {n}, {attack!r}, is omniscient, and in a federation nobody sees the "
                "reports of others in the same round: use gplconvex.federated.run"
            )
        if isinstance(attack, DataAttack):
            attack.joins(problem)  # likewise
            seats.append(Seat(n, attack.problem(problem), attack.honest))
        else:
            joining(nobody, attack)
            seats.append(Seat(n, nobody, Honest(), None, attack))
    return seats


def _pickled(what: str, value: object) -> bytes:
    try:
        content: bytes = cloudpickle.dumps(value)
    except Exception as error:  # pickling calls what it pickles
        raise InvalidInputError(
            f"{what} cannot be sent to another process ({type(error).__name__}: {error}): use "
            "gplconvex.federated.run"
        ) from error
    return content


def _seat_file(number: int) -> str:
    return f"seat-{number}.pickle"


def _federation(
    files: Mapping[str, bytes], n: int, client: str, patience: float
) -> Iterator[Round]:
    """Yield the rounds of a federation of n participants."""
    with tempfile.TemporaryDirectory(
        prefix="gplconvex-flower-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with Processes(folder, _environment(folder)) as processes:
            until = time.monotonic() + patience
            _start(processes, n, client, until)
            for number in itertools.count():
                yield _await_round(processes, number, until)


def _start(processes: Processes, n: int, client: str, until: float) -> None:
    """Start everything."""
    folder = processes.folder
    for part in ("home", "temporary", "app"):
        (folder / part).mkdir()
    port, *node_ports = _free_ports(1 + n)
    address = f"127.0.0.1:{port}"
    config = _toml({"folder": str(folder)}, "\n")
    app = APP.format(client=client, config=config)
    (folder / "app" / "pyproject.toml").write_text(app, encoding="utf-8")
    connection = CONNECTION.format(address=address)
    (folder / "home" / "config.toml").write_text(connection, encoding="utf-8")

    def start_with_executor(name: str, port: int, *command: str) -> None:
        # Either would start its executor itself; but that of the SuperLink would leave the process
        # group, and that of a SuperNode could end unnoticed.
        own = ["--insecure", "--isolation", "process", "--host", "127.0.0.1", "--port", str(port)]
        processes.start(name, [_flower(command[0]), *own, *command[1:]])
        executor = [_flower("flower-superexec"), "--insecure"]
        processes.start(
            f"{name}-executor", [*executor, "--runtime-api-address", f"127.0.0.1:{port}"]
        )

    start_with_executor("superlink", port, "flower-superlink")
    while not _healthy(address):
        _check(processes, until)
    for i in range(n):
        seat = _toml({"seat": str(folder / _seat_file(i))}, " ")
        start_with_executor(
            f"supernode-{i}", node_ports[i],
            "flower-supernode", "--superlink", address, "--node-config", seat,
        )  # fmt: skip
    processes.start("run", [_flower("flwr"), "run", str(folder / "app"), "loopback", "--stream"])


def _await_round(processes: Processes, number: int, until: float) -> Round:
    """Return a round when it is over; the first one has to begin before a time."""
    folder = processes.folder
    file = folder / round_file(number)
    while True:
        failed = (folder / FAILED).exists()  # looked for first, since it is written last
        if file.exists():
            each: Round = pickle.loads(file.read_bytes())
            file.unlink()
            return each
        if failed:
            error: Exception = pickle.loads((folder / FAILED).read_bytes())
            raise error
        _check(processes, until)


def _check(processes: Processes, until: float) -> None:
    """Wait a moment, or raise if there is nothing to wait for."""
    begun = (processes.folder / BEGUN).exists()
    for name in processes.ended():
        if begun and name.startswith("supernode"):
            continue  # one more who does not answer
        raise EngineError(f"{name} of the federation ended; it wrote:\n{processes.tail(name)}")
    if not begun and time.monotonic() > until:
        wrote = "".join(f"\n{name}:\n{processes.tail(name, 5)}" for name in processes.running)
        raise EngineError(f"no round has begun in time: pass more patience. They wrote:{wrote}")
    time.sleep(POLL)


def _toml(values: Mapping[str, str], separator: str) -> str:
    """Return pairs key=value, as Flower reads them."""
    return separator.join(f"{key}={json.dumps(value)}" for key, value in values.items())


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment in which Flower stays in the folder and on this machine."""
    scripts = sysconfig.get_path("scripts")
    return {
        **os.environ,
        # Flower starts its commands by name.
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        # What is pickled by name is found there as it is here.
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "TMPDIR": str(folder / "temporary"),
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        # A proxy would not find this machine.
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _flower(name: str) -> str:
    """Return the path of one of Flower's commands."""
    path = shutil.which(name, path=sysconfig.get_path("scripts"))
    if path is None:
        raise MissingDependencyError(
            f'{name} is not beside this Python: install it with pip install "gplconvex[flower]"'
        )
    return path


def _free_ports(n: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _healthy(address: str) -> bool:
    """Return whether the SuperLink answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/health", timeout=1.0) as response:
            return bool(response.status == 200)
    except OSError:
        return False
