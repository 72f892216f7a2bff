"""What all comparisons have in common."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import gplconvex as gc

FloatArray = npt.NDArray[np.float64]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use."""


class Outcome(NamedTuple):
    """What a tool returned.

    Attributes
    ----------
    rho : array
        The global model, float64, of shape ``problem.shape``.
    thetas : list of arrays
        The personal models, likewise.
    seconds : float
        How long the tool took; each function says what is counted.
    extra : dict
        What the tool says of itself.
    """

    rho: FloatArray
    thetas: list[FloatArray]
    seconds: float
    extra: dict[str, Any]


Watch = Callable[[int, float, FloatArray, list[FloatArray]], object]
"""Called as ``watch(iteration, seconds, rho, thetas)``; what it returns is kept in ``"history"``."""


class Stopwatch:
    """Seconds since it was made, less those spent in `paused`."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Return what the watch shows."""
        return time.perf_counter() - self._began

    @contextmanager
    def paused(self) -> Iterator[float]:
        """Stop the watch; gives the seconds that it shows."""
        stopped = time.perf_counter()
        yield stopped - self._began
        self._began += time.perf_counter() - stopped


def optional(module: str, install: str) -> Any:
    """Return a module that is not everywhere, or raise `MissingDependencyError`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise gc.MissingDependencyError(
            f"this comparison needs {install}: install it with pip install {install}"
        ) from error


def refusal(tool: str, problem: gc.Problem, takes: str) -> gc.UnsupportedCombinationError:
    """Return what to raise where a tool does not take a problem."""
    return gc.UnsupportedCombinationError(
        f"{tool} takes {takes}; got {problem.loss!r} with {problem.regularizer!r}"
    )
