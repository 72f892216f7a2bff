"""The federated protocol: a server, its rules and steps, and participants."""

from gplconvex.federated.optimizers import Adam, GradientDescent, HeavyBall, Optimizer, decaying
from gplconvex.federated.participants import (
    Attack,
    CounterGradientAttack,
    DataAttack,
    Participant,
    Query,
)
from gplconvex.federated.protocol import (
    Answers,
    Engine,
    InProcess,
    Rejection,
    Round,
    Server,
    Users,
    rounds,
)
from gplconvex.federated.trace import Trace, record, run
from gplconvex.federated.users import Honest
from gplconvex.participants import GradientAttack, ModelAttack

__all__ = [
    "Adam",
    "Answers",
    "Attack",
    "CounterGradientAttack",
    "DataAttack",
    "Engine",
    "GradientAttack",
    "GradientDescent",
    "HeavyBall",
    "Honest",
    "InProcess",
    "ModelAttack",
    "Optimizer",
    "Participant",
    "Query",
    "Rejection",
    "Round",
    "Server",
    "Trace",
    "Users",
    "decaying",
    "record",
    "rounds",
    "run",
]
