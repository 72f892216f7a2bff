"""Attacks, as a mod around the ClientApp of the honest, which is not changed and does not know.

All nodes of a federation run one app, so that the mod is everywhere; a node lies if its `Seat` has an
attack. (Who poisons data needs no mod: the user has other data, and is honest.)
"""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from gplconvex.federated.flower import client, records
from gplconvex.federated.participants import Attack, Query, joining
from gplconvex.federated.protocol import shaped
from gplconvex.problem import Problem


def lie(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let the honest client answer, then put another report into its answer."""
    honest = call_next(message, context)
    seat = client.seat_of(context)
    if seat.attack is None:
        return honest
    return records.answer(message, respond(message, context, seat.user, seat.attack))


def respond(message: Message, context: Context, user: Problem, attack: Attack) -> np.ndarray:
    """Return the report of an attacker, who may remember.

    An attacker is a function that need not say what it remembers, and every message finds another
    process. So the node keeps the queries, and asks them all again.
    """
    new = records.query_of(message)
    memory = records.recall(message, context, "attack")
    old = _queries(memory) if memory else []
    queries = [*old, new]
    # Before the response, since who raises may remember that too.
    records.remember(
        message,
        context,
        "attack",
        {
            "round": np.array([query.round for query in queries], dtype=np.float64),
            "rho": np.stack([query.rho for query in queries]),
            "step-size": np.array([query.step_size for query in queries]),
        },
    )
    responds = joining(user, attack)
    for query in old:
        try:
            responds(query)
        except Exception:  # as it did then
            continue
    return shaped(user.shape, responds(new))


def _queries(memory: records.Memory) -> list[Query]:
    return [
        Query(int(number), rho, float(step_size))
        for number, rho, step_size in zip(
            memory["round"], memory["rho"], memory["step-size"], strict=True
        )
    ]


app = ClientApp()
app.query()(client.introduce)
app.train(mods=[lie])(client.train)
