r"""The same rounds on Flower: a server and participants that are processes and send messages.

Flower has a *SuperLink*, which passes messages on; a *SuperNode* for every participant, which holds what
belongs to that participant; and an *app* in two parts: the `ServerApp` runs once, the `ClientApp` once a
message, each in a process of its own.

========================================  ==========================================================
`run`, `rounds`                           start all of these on this machine, and end them
`gplconvex.federated.flower.server`       the ServerApp: a loop over `Server.rounds`
`gplconvex.federated.flower.client`       the ClientApp of the honest
`gplconvex.federated.flower.attackers`    the same with a mod around it, which replaces reports
`gplconvex.federated.flower.records`      what messages hold
========================================  ==========================================================

The last four know nothing of this machine, and serve deployments too.
"""

from gplconvex.errors import MissingDependencyError

try:
    from gplconvex.federated.flower.federation import rounds, run
except ImportError as error:
    raise MissingDependencyError(
        "gplconvex.federated.flower needs flwr, 1.40 to 1.42: install it with pip install "
        '"gplconvex[flower]", or run the rounds in this process: gplconvex.federated.run'
    ) from error

__all__ = ["rounds", "run"]
