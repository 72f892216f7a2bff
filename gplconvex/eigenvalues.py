"""Bounds of the eigenvalues of Gram matrices, rounding included."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.rounding import gamma

LARGEST_EIGENPROBLEM = 2048
"""Order from which on eigenvalues (seconds) are replaced by bounds that are weaker and free."""


def least_eigenvalues(grams: FloatArray, n_rows: int) -> FloatArray:
    """Return guaranteed lower bounds, at least 0, of the least eigenvalues of Gram matrices.

    Forming a matrix from ``n_rows`` points and the symmetric eigenvalue solver are both backward
    stable: their errors are at most a multiple of the trace, which is subtracted.
    """
    known, finite = _finite(grams)
    least = np.linalg.eigvalsh(finite)[:, 0] - _allowance(finite, n_rows)
    return np.where(known, np.maximum(0.0, least), 0.0)


def largest_eigenvalues(grams: FloatArray, n_rows: int) -> FloatArray:
    """Return guaranteed upper bounds of the largest eigenvalues; ``inf`` after an overflow."""
    known, finite = _finite(grams)
    if grams.shape[-1] > LARGEST_EIGENPROBLEM:
        largest = np.trace(finite, axis1=1, axis2=2)
    else:
        largest = np.maximum(0.0, np.linalg.eigvalsh(finite)[:, -1])
    return np.where(known, largest + _allowance(finite, n_rows), math.inf)


def _finite(grams: FloatArray) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Return which matrices are finite, and all with zeros in place of the others."""
    known = np.asarray(np.isfinite(grams).all(axis=(1, 2)))
    return known, grams if known.all() else np.where(known[:, None, None], grams, 0.0)


def _allowance(grams: FloatArray, n_rows: int) -> FloatArray:
    units = gamma(n_rows + 10 * grams.shape[-1] + 10)
    return np.asarray(units * np.trace(grams, axis1=1, axis2=2))
