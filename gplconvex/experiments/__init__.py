"""Experiments: functions that return results; `gplconvex.report` and `gplconvex.plots` show them."""

from gplconvex.experiments.hospitals import (
    Outcome,
    Reversal,
    check_reversal,
    reverse_diagnosis,
    reverse_heart_rate,
)

__all__ = [
    "Outcome",
    "Reversal",
    "check_reversal",
    "reverse_diagnosis",
    "reverse_heart_rate",
]
