"""The ServerApp: a loop over the rounds of a `Server`, whose questions go to nodes.

`app` reads the server from the folder that the run's configuration names, and writes every round there.
A ServerApp of one's own makes its `Server`, and records the rounds of `rounds`.

There is no Flower `Strategy`: those wait 3 seconds at a time, and take who has not answered for who was
not asked; and the rounds would be theirs, where these are the ones of `gplconvex.federated`.
"""

from __future__ import annotations

import math
import pickle
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from gplconvex._types import FloatArray, IntArray
from gplconvex.errors import EngineError
from gplconvex.federated.flower import records
from gplconvex.federated.participants import Query
from gplconvex.federated.protocol import Answers, Round, Server, shaped
from gplconvex.files import write_bytes

POLL = 0.1
"""Seconds between two looks for answers; those of `Grid.send_and_receive` are 3 s apart."""

PLAN, BEGUN, FAILED = "plan.pickle", "begun", "failed.pickle"
"""Files of a run: what to do; that everybody is there; why it ended."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the server of a federation does.

    Attributes
    ----------
    server : Server
    start : array, shape of a model
        The first model.
    patience : float
        Seconds that nodes have to come, and to answer.
    """

    server: Server
    start: FloatArray
    patience: float


def rounds(grid: Grid, server: Server, start: FloatArray, patience: float) -> Iterator[Round]:
    """Yield rounds without end.

    Parameters
    ----------
    grid : Grid
        Flower's, of a run whose nodes are the participants.
    server : Server
    start : array, shape of a model
        The first model.
    patience : float
        Seconds that nodes have to come, and to answer: who does not, or fails, is dropped in that round.

    Raises
    ------
    EngineError
        If not all participants come.
    """
    nodes = meet(grid, server.n_participants, patience)
    yield from server.rounds(asking(grid, nodes, patience), start)


def meet(grid: Grid, n: int, patience: float) -> list[int]:
    """Return the ids of the nodes of n participants, who say which they are."""
    until = time.monotonic() + patience
    asked: set[int] = set()
    waiting: set[str] = set()
    nodes: dict[int, int] = {}
    while len(nodes) < n:
        new = set(grid.get_node_ids()) - asked
        asked |= new
        sent = _send(grid, [(RecordDict(), node) for node in new], MessageType.QUERY, patience)
        waiting |= set(sent.values())
        for answer in _receive(grid, waiting):
            if answer.has_error():
                raise EngineError(f"a node does not say who it is: {answer.error.reason}")
            number = records.number_of(answer)
            if not 0 <= number < n:
                raise EngineError(f"a node says that it is participant {number}, of {n}")
            if number in nodes:
                raise EngineError(f"two nodes say that they are participant {number}")
            nodes[number] = answer.metadata.src_node_id
        if len(nodes) < n and time.monotonic() > until:
            absent = sorted(set(range(n)) - set(nodes))
            raise EngineError(f"participants {absent} are not there after {patience:g} s")
        time.sleep(POLL)
    return [nodes[number] for number in range(n)]


def asking(
    grid: Grid, nodes: Sequence[int], patience: float
) -> Callable[[Query, IntArray], Answers]:
    """Return how to ask participants, by their nodes."""
    last = [records.NEVER] * len(nodes)

    def ask(query: Query, asked: IntArray) -> Answers:
        everybody = asked.tolist()
        messages = [(records.question(query, last[i]), nodes[i]) for i in everybody]
        sent = _send(grid, messages, MessageType.TRAIN, patience)
        places = {message: place for place, message in sent.items()}
        reports = np.full((len(asked), *query.rho.shape), math.nan)
        failures = {
            place: f"no answer in {patience:g} s" if place in sent else "the query was not sent"
            for place in range(len(asked))
        }
        waiting = set(places)
        until = time.monotonic() + patience
        while waiting and time.monotonic() < until:
            for answer in _receive(grid, waiting):
                place = places[answer.metadata.reply_to_message_id]
                try:
                    if answer.has_error():
                        failures[place] = str(answer.error.reason)
                        continue
                    last[everybody[place]] = query.round
                    reports[place] = shaped(query.rho.shape, records.report_of(answer))
                    del failures[place]
                except Exception as error:  # whatever a node sends, the rounds go on
                    failures[place] = f"{type(error).__name__}: {error}"
            time.sleep(POLL)
        return reports, failures

    return ask


def _send(
    grid: Grid, messages: Sequence[tuple[RecordDict, int]], kind: str, patience: float
) -> dict[int, str]:
    """Send contents to nodes, and return the ids of the messages by place; not those that failed."""
    sent = grid.push_messages(
        [Message(content, node, kind, ttl=patience) for content, node in messages]
    )
    # Too much for one transfer is no ids at all, and what a node cannot get is None.
    return {place: message for place, message in enumerate(sent) if message}


def _receive(grid: Grid, waiting: set[str]) -> list[Message]:
    """Return the answers that are there, and wait no longer for them."""
    answers = list(grid.pull_messages(waiting)) if waiting else []
    waiting -= {answer.metadata.reply_to_message_id for answer in answers}
    return answers


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Write rounds until somebody ends this process."""
    folder = Path(str(context.run_config["folder"]))
    try:
        plan: Plan = pickle.loads((folder / PLAN).read_bytes())
        nodes = meet(grid, plan.server.n_participants, plan.patience)
        write_bytes(folder / BEGUN, b"")
        for each in plan.server.rounds(asking(grid, nodes, plan.patience), plan.start):
            write_bytes(folder / round_file(each.number), cloudpickle.dumps(each))
    except Exception as error:
        write_bytes(folder / FAILED, _pickled(error))


def round_file(number: int) -> str:
    """Return the name of the file of a round."""
    return f"round-{number}.pickle"


def _pickled(error: Exception) -> bytes:
    """Return the error with a note of where it was raised; in words if it cannot be sent."""
    where = f"Raised in the ServerApp:\n{traceback.format_exc()}"
    error.add_note(where)
    try:
        content: bytes = cloudpickle.dumps(error)
        pickle.loads(content)
    except Exception:
        return pickle.dumps(EngineError(where))
    return content
