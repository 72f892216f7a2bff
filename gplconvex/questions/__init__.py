"""What people ask: how near do k points get, which target is cheapest, how robust is the model.

Answers are certified: an attack that is shipped, and a number of points that none can go below.
"""

from gplconvex.questions.audit import GoalAudit, TargetAudit, audit
from gplconvex.questions.cost import CostMap, cost_map
from gplconvex.questions.goals import Goal, HalfSpaces, Predictions
from gplconvex.questions.search import Cheapest, Closest, cheapest_target, closest_reachable

__all__ = [
    "Cheapest",
    "Closest",
    "CostMap",
    "Goal",
    "GoalAudit",
    "HalfSpaces",
    "Predictions",
    "TargetAudit",
    "audit",
    "cheapest_target",
    "closest_reachable",
    "cost_map",
]
