"""The federated protocol: a server, its rules, and participants."""

from gplconvex.federated.protocol import CounterGradientAttack, Participant, Round, rounds

__all__ = ["CounterGradientAttack", "Participant", "Round", "rounds"]
