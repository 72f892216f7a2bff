"""Roots and peaks of functions of one number, to the last digits."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq, minimize_scalar

from gplconvex.rounding import UNIT

MOST_STEPS = 2000
"""A jump, or a root far below its interval, takes more than the 100 steps that scipy allows."""


def root(f: Callable[[float], float], low: float, high: float, xtol: float = 1e-300) -> float:
    """Return a root between two numbers at which f has different signs, to relative rounding or xtol."""
    return float(brentq(f, low, high, xtol=xtol, rtol=8 * UNIT, maxiter=MOST_STEPS))


def peak(f: Callable[[float], float], low: float, high: float, tol: float = 1e-8) -> float:
    """Return where a concave function is largest, to a tolerance relative to the interval."""
    found = minimize_scalar(
        lambda x: -f(x),
        bounds=(low, high),
        method="bounded",
        options={"xatol": tol * (high - low)},
    )
    return float(found.x)
