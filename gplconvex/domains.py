"""Domains: where the inputs of an attacker may lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray


class Domain(ABC):
    """A set of allowed inputs x. The intercept, fixed to 1, is never the attacker's to choose."""

    @abstractmethod
    def contains(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Return for each row of ``x``, shape (m, d), whether it lies in the domain."""


@dataclass(frozen=True)
class Unbounded(Domain):
    r"""All of :math:`\mathbb{R}^d`.

    Examples
    --------
    >>> Unbounded().contains(np.array([[1e300, -5.0]]))
    array([ True])
    """

    def contains(self, x: FloatArray) -> npt.NDArray[np.bool_]:
        """Return true for every finite row."""
        return np.asarray(np.isfinite(x).all(axis=1))
