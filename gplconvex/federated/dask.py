r"""Honest users on worker processes, by Dask: the same rounds, with the data elsewhere.

The users are cut into shards, one after the other and about equal in data; each shard is an *actor*, a
`LocalUsers` that stays on one worker. It gets its data once, then every round the query, and sends the
reports back with the personal models that it improved. The driver keeps these: if a worker is lost, its
actors are made anew elsewhere from the data and the last personal models, asked again, and answer as
the lost ones would have, bit for bit. The server sums in the order of the users, wherever they are.

Whoever can reach a Dask scheduler can run any code on its workers. A cluster that is opened here listens
on this machine only; how others are protected is up to those who run them.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from gplconvex._types import FloatArray, IntArray
from gplconvex.data import is_number
from gplconvex.errors import EngineError, InvalidInputError, MissingDependencyError
from gplconvex.federated.protocol import Users
from gplconvex.federated.users import Honest, LocalUsers
from gplconvex.parallel import at_most, single_threaded_blas
from gplconvex.problem import Problem

try:
    import dask
    from distributed import Client, LocalCluster, get_worker
    from distributed.protocol.pickle import dumps, loads
except ImportError as error:
    raise MissingDependencyError(
        'DaskEngine needs distributed: install it with pip install "gplconvex[dask]", or leave the '
        "users in this process: InProcess()"
    ) from error

POLL = 0.2
"""Seconds after which somebody who waits looks whether there is still somebody to wait for."""

ATTEMPTS = 5
"""How often a shard is asked in a round: a query that kills every worker is not a lost worker."""

Answer = tuple[FloatArray, FloatArray]
"""Reports and improved personal models, both (n, p)."""


@dataclass(frozen=True)
class _Failure:
    """What users raised on a worker: pickled, as far as it can be, and where it was raised."""

    pickled: bytes
    where: str

    def error(self) -> Exception:
        """Return it here."""
        try:
            error: Exception = loads(self.pickled)
        except Exception:  # not every exception survives, and its class may be unknown here
            return EngineError(f"users failed on a Dask worker. {self.where}")
        error.add_note(self.where)
        return error


@dataclass(frozen=True)
class DaskEngine:
    """Users on the workers of a Dask cluster.

    Parameters
    ----------
    cluster : None, str or distributed.Client
        The address of a scheduler that runs, or a client of it. None: as many worker processes on this
        machine as there are cores (or shards, if fewer), which end with the run. A script then has to
        call `run` under ``if __name__ == "__main__":``, since workers import it.
    shards : int, optional
        Into how many shards the users are cut; default one a worker.
    timeout : float
        Seconds to wait for an answer of the scheduler, and for a worker to take over a shard. How long
        users may compute is not limited.

    Raises
    ------
    InvalidInputError
        For arguments that make no sense.

    Notes
    -----
    Reports are those of one process, bit for bit if all users have the same number of rows, and to
    rounding if not: they are padded to the longest of those with whom they share a batch. Only the
    exact replies of large models (300 parameters; least squares: 2000), which are solved to a gap of
    1e-14, differ by its root.

    What a loss, a regularizer or a solver raises on a worker is raised here, with a note that says
    where. A scheduler that is lost, or a shard that loses five workers in one round, is an
    `EngineError`. A worker that hangs is given up by its scheduler, after the ``worker-ttl`` of Dask's
    configuration (5 minutes).

    Examples
    --------
    >>> from gplconvex.federated import run
    >>> trace = run(problem, engine=DaskEngine())  # doctest: +SKIP
    """

    cluster: str | Client | None = None
    _: KW_ONLY
    shards: int | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if not (self.cluster is None or isinstance(self.cluster, (str, Client))):
            raise InvalidInputError(
                "DaskEngine: cluster must be the address of a scheduler, a distributed.Client or None; "
                f"got {self.cluster!r}"
            )
        if isinstance(self.cluster, Client) and self.cluster.asynchronous:
            raise InvalidInputError("DaskEngine: the client must not be asynchronous")
        whole = isinstance(self.shards, (int, np.integer)) and not isinstance(self.shards, bool)
        if not (self.shards is None or (whole and self.shards >= 1)):
            raise InvalidInputError(
                f"DaskEngine: shards must be an integer from 1; got {self.shards!r}"
            )
        if not (is_number(self.timeout) and 0.0 < self.timeout < math.inf):
            raise InvalidInputError(
                f"DaskEngine: timeout must be a positive number of seconds; got {self.timeout!r}"
            )

    @contextmanager
    def opens(
        self, problem: Problem, honest: Sequence[Honest], start: FloatArray
    ) -> Iterator[Users]:
        """Return the users of one run; its end closes what it opened."""
        with ExitStack() as stack:
            cluster = self._connected(stack, problem.n_users)
            n_shards = self.shards or cluster.workers()
            yield _Users(cluster, problem, honest, start, n_shards)

    def _connected(self, stack: ExitStack, most: int) -> _Cluster:
        """Return a cluster for so many users."""
        if isinstance(self.cluster, Client):
            return _Cluster(self.cluster, 1, self.timeout)
        address, n_workers = self.cluster, 1
        try:
            if address is None:
                n_workers = min(os.cpu_count() or 1, self.shards or most, most)
                local = _local_cluster(n_workers, self.timeout)
                stack.callback(local.close, timeout=self.timeout)
                address = local.scheduler_address
            client = Client(
                address,
                set_as_default=False,
                timeout=self.timeout,
                direct_to_workers=True if self.cluster is None else None,
            )
        except (OSError, RuntimeError, ValueError) as error:
            what = f"no Dask scheduler answers at {address!r}: start one, or correct the address"
            if address is None:
                what = (
                    "Dask workers could not be started on this machine: a script must call run under "
                    'if __name__ == "__main__":'
                )
            raise EngineError(f"{what} ({error})") from error
        stack.callback(client.close, timeout=self.timeout)
        return _Cluster(client, n_workers, self.timeout)


def _local_cluster(n_workers: int, timeout: float) -> LocalCluster:
    """Return a cluster of processes on this machine, with a thread each."""
    # Dask would limit BLAS by variables in the environment, of this process too; `dask_setup` does it.
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # None would take port 8787
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,  # what fails raises; the log tells of workers replaced
            preload=__name__,
            death_timeout=timeout,
        )


def dask_setup(worker: object) -> None:
    """Prepare a process of a local cluster; Dask calls this there, by its name."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, who ends workers
    single_threaded_blas().__enter__()


class _Cluster:
    """A scheduler, and how many workers it should have."""

    def __init__(self, client: Client, n_workers: int, timeout: float) -> None:
        self.client, self.n_workers, self.timeout = client, n_workers, timeout
        self.check()

    def check(self) -> int:
        """Return how many workers there are, or raise `EngineError` if the scheduler is lost."""
        client = self.client
        try:
            return len(client.sync(client.scheduler.ncores, callback_timeout=self.timeout))
        except Exception as error:  # whatever it is, there is no scheduler to work with
            raise EngineError(
                f"the Dask scheduler of {client!r} does not answer: {type(error).__name__}: {error}. "
                "The rounds can be run again with another one, from the last model"
            ) from error

    def workers(self) -> int:
        """Return how many workers there are, once they are all there or time is up."""
        until = time.monotonic() + self.timeout
        while (found := self.check()) < self.n_workers and time.monotonic() < until:
            time.sleep(POLL)
        if not found:
            raise EngineError(
                f"there are no Dask workers, after {self.timeout:g} s: start some, or pass a longer "
                "timeout"
            )
        return found


class _Users:
    """The users of a run, in shards, and their personal models after the last round."""

    def __init__(
        self,
        cluster: _Cluster,
        problem: Problem,
        honest: Sequence[Honest],
        start: FloatArray,
        n_shards: int,
    ) -> None:
        self.theta = np.tile(start.ravel(), (problem.n_users, 1))
        self._ends = _ends(problem, n_shards)
        starts = [0, *self._ends[:-1]]
        self._shards = [
            _Shard(cluster, problem, honest, self.theta, slice(first, last))
            for first, last in zip(starts, self._ends, strict=True)
        ]

    def answer(self, rho: FloatArray, asked: IntArray) -> FloatArray:
        """Return the reports (n, *shape of a model) of users, in the order in which they are named."""
        reports = np.empty((len(asked), rho.size))
        shard_of = np.searchsorted(self._ends, asked, side="right")
        wanted = [
            (self._shards[k], np.flatnonzero(shard_of == k)) for k in np.unique(shard_of).tolist()
        ]
        for shard, places in wanted:
            shard.ask(rho, asked[places])
        for shard, places in wanted:
            reports[places], self.theta[asked[places]] = shard.answer()
        return reports.reshape(len(asked), *rho.shape)


class _Shard:
    """Some of the users, whose actor is replaced when it is lost."""

    def __init__(
        self,
        cluster: _Cluster,
        problem: Problem,
        honest: Sequence[Honest],
        theta: FloatArray,
        users: slice,
    ) -> None:
        self._cluster, self._users, self._theta = cluster, users, theta[users]
        self._part = (
            Problem(problem.loss, problem.regularizer, problem.datasets[users], problem.nu[users]),
            honest[users],
        )
        self._future: Any = None
        self._actor: Any = None
        self._call: Any = None
        self._error: Exception | None = None

    def ask(self, rho: FloatArray, users: IntArray) -> None:
        """Send a query about some users."""
        self._query = (rho, users - self._users.start)
        self._send()

    def answer(self) -> Answer:
        """Return the answer to the last query."""
        for _ in range(ATTEMPTS):
            answer = self._wait()
            if answer is not None:
                break
            time.sleep(POLL)  # what we noticed the scheduler notices a little later
            self._cluster.workers()
            self._send()
        else:
            raise EngineError(
                f"users {self._users.start} to {self._users.stop - 1}: {ATTEMPTS} Dask workers were "
                f"lost in one round, the last by {type(self._error).__name__}: {self._error}. Look "
                "into their logs; memory may be short: pass more shards, or use larger workers"
            ) from self._error
        if isinstance(answer, _Failure):
            raise answer.error()
        return answer

    def _send(self) -> None:
        """Send the query to the actor, or to a new one with the data."""
        data = None
        try:
            if self._actor is None:
                self._future = self._cluster.client.submit(_Actor, actor=True, pure=False)
                with self._cluster.client.as_current():  # or the actor is bound to another client
                    self._actor = self._future.result(timeout=self._cluster.timeout)
                data = dumps((*self._part, self._theta))
            self._call = self._actor.answer(*self._query, data)
        except Exception as error:
            self._lost(error)

    def _wait(self) -> Answer | _Failure | None:
        """Return what the actor says, or None if its worker was lost."""
        until = time.monotonic() + self._cluster.timeout
        try:
            while self._call is not None:
                with suppress(TimeoutError):  # a lost worker is another OSError
                    answer: Answer | _Failure = self._call.result(timeout=POLL)
                    return answer
                if self._future.status != "finished":
                    raise RuntimeError(f"the actor is {self._future.status}")
                if time.monotonic() > until:
                    self._cluster.check()
                    until = time.monotonic() + self._cluster.timeout
        except EngineError:
            raise
        except Exception as error:
            self._lost(error)
        return None

    def _lost(self, error: Exception) -> None:
        """Forget the actor: the scheduler drops it if it is still there."""
        self._future = self._actor = self._call = None
        self._error = error


class _Actor:
    """The users of a shard, on a worker."""

    _users: LocalUsers

    def answer(self, rho: FloatArray, asked: IntArray, data: bytes | None) -> Answer | _Failure:
        """Return reports and improved models, or what users raised: what Dask raises is Dask's."""
        worker = get_worker()
        try:
            with at_most(worker.state.nthreads):
                if data is not None:
                    problem, honest, theta = loads(data)
                    self._users = LocalUsers(problem, honest, np.zeros(problem.shape))
                    self._users.theta = theta
                reports = self._users.answer(rho, asked)
                return reports.reshape(len(asked), -1), self._users.theta[asked]
        except Exception as error:
            pickled = b""
            with suppress(Exception):  # any that pickling may raise
                pickled = dumps(error)
            return _Failure(pickled, f"On {worker.address}:\n{traceback.format_exc()}")


def _ends(problem: Problem, n_shards: int) -> IntArray:
    """Return where shards end: about equal in data, and none without users."""
    numbers = np.cumsum([1 + data.n_rows for data in problem.datasets])
    wanted = numbers[-1] * np.arange(1, n_shards + 1) / n_shards
    return np.unique(np.searchsorted(numbers, wanted) + 1)
