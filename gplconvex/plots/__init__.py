"""Results in pictures: result -> matplotlib Figure. Nothing is computed, and no global state used."""

from gplconvex.plots.clipped import clipped
from gplconvex.plots.costs import cost_map
from gplconvex.plots.counter_gradient import counter_gradient
from gplconvex.plots.hospitals import reversal
from gplconvex.plots.impossibility import impossibility
from gplconvex.plots.last_layer import last_layer
from gplconvex.plots.pac import local_pac
from gplconvex.plots.price import price
from gplconvex.plots.steering import steering
from gplconvex.plots.sum_or_mean import sum_or_mean
from gplconvex.plots.three_roads import three_roads
from gplconvex.plots.traces import distances, reports, rules, trajectories
from gplconvex.plots.transient import transient
from gplconvex.plots.writers import writers

__all__ = [
    "clipped",
    "cost_map",
    "counter_gradient",
    "distances",
    "impossibility",
    "last_layer",
    "local_pac",
    "price",
    "reports",
    "reversal",
    "rules",
    "steering",
    "sum_or_mean",
    "three_roads",
    "trajectories",
    "transient",
    "writers",
]
