"""Experiments: functions that return results; `gplconvex.report` and `gplconvex.plots` show them."""

from gplconvex.experiments.hospitals import (
    Outcome,
    Reversal,
    check_reversal,
    reverse_diagnosis,
    reverse_heart_rate,
)
from gplconvex.experiments.rules import RuleComparison, compare_rules

__all__ = [
    "Outcome",
    "Reversal",
    "RuleComparison",
    "check_reversal",
    "compare_rules",
    "reverse_diagnosis",
    "reverse_heart_rate",
]
