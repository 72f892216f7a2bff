"""The ClientApp of the honest: one user, its data, and its personal model.

`app` reads all it needs from the file that its node's configuration names. A ClientApp of one's own
reads its data where they are, and leaves the rest to `reply`.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from gplconvex._types import FloatArray
from gplconvex.federated.flower import records
from gplconvex.federated.participants import EVERYBODY, Attack
from gplconvex.federated.users import Honest, LocalUsers
from gplconvex.problem import Problem


@dataclass(frozen=True, eq=False)
class Seat:
    """What belongs to one participant.

    Attributes
    ----------
    number : int
        Among the participants; honest users come first.
    user : Problem
        Of one user, the participant.
    honest : Honest
        How its replies are found.
    start : array, shape of a model, or None
        Its first personal model; None is the first model of the server that it sees.
    attack : Attack or None
        What it does instead, if it lies.
    """

    number: int
    user: Problem
    honest: Honest
    start: FloatArray | None = None
    attack: Attack | None = None


def seat_of(context: Context) -> Seat:
    """Return the content of the file that the configuration of a node names."""
    seat: Seat = pickle.loads(Path(str(context.node_config["seat"])).read_bytes())
    return seat


def reply(
    message: Message,
    context: Context,
    user: Problem,
    honest: Honest = Honest(),
    start: FloatArray | None = None,
) -> Message:
    """Improve the personal model of the one user of a problem, and return its report.

    Parameters
    ----------
    message, context
        Of Flower.
    user, honest, start
        See `Seat`.
    """
    rho = records.query_of(message).rho
    users = LocalUsers(user, honest, rho if start is None else start)
    memory = records.recall(message, context, "honest")
    if memory:
        users.theta = memory["theta"]
    report = users.answer(rho, EVERYBODY)[0]
    records.remember(message, context, "honest", {"theta": users.theta})
    return records.answer(message, report)


app = ClientApp()


@app.query()
def introduce(message: Message, context: Context) -> Message:
    """Say who this node is."""
    return records.introduction(message, seat_of(context).number)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a query honestly."""
    seat = seat_of(context)
    return reply(message, context, seat.user, seat.honest, seat.start)
