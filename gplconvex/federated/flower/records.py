r"""What messages hold, for both sides, and what a participant remembers from one to the next.

=========  ======================================  ==================================================
message    from the server                         from the node
=========  ======================================  ==================================================
``query``  nothing                                 its number among the participants
``train``  :math:`\rho^t`, t, the step size, and   its report
           the round of the last answer
=========  ======================================  ==================================================

Arrays go as `numpy.save` writes them: no bit is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from gplconvex._types import FloatArray
from gplconvex.errors import EngineError
from gplconvex.federated.participants import Query

ARRAYS, ABOUT = "arrays", "about"
"""Names of records."""

NEVER = -1
"""The round of the last answer of who has not answered yet."""

Memory = dict[str, FloatArray]
"""What a participant remembers."""


def question(query: Query, last: int) -> RecordDict:
    """Return what the server sends to a node, whose last answer was in round ``last``."""
    about = ConfigRecord({"round": query.round, "step-size": query.step_size, "last": last})
    return RecordDict({ARRAYS: _arrays({"rho": query.rho}), ABOUT: about})


def query_of(message: Message) -> Query:
    """Return what a node is asked."""
    about = message.content.config_records[ABOUT]
    rho = message.content.array_records[ARRAYS]["rho"].numpy()
    return Query(cast(int, about["round"]), rho, cast(float, about["step-size"]))


def answer(message: Message, report: npt.ArrayLike) -> Message:
    """Return the answer of a node to a query."""
    content = RecordDict({ARRAYS: _arrays({"report": np.asarray(report)})})
    return Message(content, reply_to=message)


def report_of(message: Message) -> npt.NDArray[np.generic]:
    """Return the report in an answer."""
    return message.content.array_records[ARRAYS]["report"].numpy()


def introduction(message: Message, number: int) -> Message:
    """Return the answer of the participant of that number to who asks who it is."""
    return Message(RecordDict({ABOUT: ConfigRecord({"number": number})}), reply_to=message)


def number_of(message: Message) -> int:
    """Return who somebody is."""
    return cast(int, message.content.config_records[ABOUT]["number"])


def recall(message: Message, context: Context, name: str) -> Memory:
    """Return what a participant remembered under a name; nothing before its first answer of a run.

    A node answers each message in a new process: what is not in the state of its context is forgotten.

    Raises
    ------
    EngineError
        If it has answered since. (A SuperNode gets the state after the answer, in a moment in which it
        could be asked again; and one that was started anew has none.)
    """
    state, known = context.state, NEVER
    stamp = state.config_records.get(f"{name}-stamp")
    if stamp is not None and stamp["run"] == str(context.run_id):
        known = cast(int, stamp["round"])
    last = cast(int, message.content.config_records[ABOUT]["last"])
    if known < last:
        raise EngineError(f"the answer in round {last} is forgotten; the last known is {known}")
    if known == NEVER:
        return {}
    return {key: array.numpy() for key, array in state.array_records[name].items()}


def remember(
    message: Message, context: Context, name: str, memory: Mapping[str, FloatArray]
) -> None:
    """Keep what a participant wants to `recall`."""
    number = cast(int, message.content.config_records[ABOUT]["round"])
    context.state[name] = _arrays(memory)
    context.state[f"{name}-stamp"] = ConfigRecord({"run": str(context.run_id), "round": number})


def _arrays(values: Mapping[str, npt.NDArray[np.generic]]) -> ArrayRecord:
    return ArrayRecord({key: Array(np.ascontiguousarray(value)) for key, value in values.items()})
