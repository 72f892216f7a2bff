"""Results in pictures: result -> matplotlib Figure. Nothing is computed, and no global state used."""

from gplconvex.plots.costs import cost_map
from gplconvex.plots.hospitals import reversal
from gplconvex.plots.impossibility import impossibility
from gplconvex.plots.pac import local_pac
from gplconvex.plots.traces import distances, reports, rules, trajectories
from gplconvex.plots.transient import transient

__all__ = [
    "cost_map",
    "distances",
    "impossibility",
    "local_pac",
    "reports",
    "reversal",
    "rules",
    "trajectories",
    "transient",
]
