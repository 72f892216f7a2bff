"""Array types used in annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
RealArray: TypeAlias = npt.NDArray[Any]
"""float64 or the longer type in which certificates accumulate."""

Inputs: TypeAlias = Any
"""Inputs of points: a dense array (..., m, d), or a sparse one (m, d) of `scipy.sparse`."""
