r"""Goals: what an attacker may want of the model, as half-spaces.

.. math:: \{\rho : \langle a_i, \rho\rangle \ge c_i \text{ for all } i\}.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, float_array, frozen_array, is_number
from gplconvex.errors import InvalidInputError, UnsupportedCombinationError
from gplconvex.losses import Logistic, Softmax
from gplconvex.problem import Problem


class Goal(ABC):
    """A convex set of global models, the intersection of half-spaces."""

    @abstractmethod
    def half_spaces(self, problem: Problem) -> tuple[FloatArray, FloatArray]:
        r"""Return the :math:`a_i`, one flattened model a row (m, p), and the :math:`c_i`, (m,).

        Raises
        ------
        InvalidInputError
            If the goal does not fit the problem.
        UnsupportedCombinationError
            If the goal has no meaning for the loss.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Say what the goal demands, in the words that follow "such that"."""


@dataclass(frozen=True, eq=False)
class Predictions(Goal):
    r"""These inputs get these labels, with this margin.

    .. math:: y_i\,z_i \ge m \;\text{(logistic)}, \qquad
              z_{i,y_i} - z_{i,k} \ge m \text{ for all } k \neq y_i \;\text{(softmax)},
              \qquad z_i = \rho^\top x_i + b.

    Parameters
    ----------
    x : array_like, shape (m, d)
        Inputs, without the intercept's 1.
    y : array_like, shape (m,)
        The labels they shall get: -1 and +1, or classes.
    margin : float
        m, at least 0, in units of the predictor; with 0 a tie counts as reached.

    Raises
    ------
    InvalidInputError
        For shapes that disagree, numbers that are not finite, or a negative margin.

    Examples
    --------
    >>> from gplconvex import HardConsensus
    >>> problem = Problem(Logistic(intercept=True), HardConsensus(), [([[1.0]], [1.0])], nu=1.0)
    >>> Predictions([[2.0]], [-1.0], margin=0.5).half_spaces(problem)
    (array([[-2., -1.]]), array([0.5]))
    """

    x: npt.ArrayLike
    y: npt.ArrayLike
    margin: float = 0.0

    def __post_init__(self) -> None:
        data = Dataset(self.x, self.y)
        if data.y.ndim != 1 or not data.n_rows:
            raise InvalidInputError(
                "Predictions: give at least one input and one label for each, y of shape (m,); got "
                f"x of shape {data.x.shape}, y of shape {data.y.shape}"
            )
        if not (is_number(self.margin) and 0.0 <= self.margin < np.inf):
            raise InvalidInputError(
                f"Predictions: margin must be a finite number from 0; got {self.margin!r}"
            )
        object.__setattr__(self, "x", data.x)
        object.__setattr__(self, "y", data.y)
        object.__setattr__(self, "margin", float(self.margin))

    def half_spaces(self, problem: Problem) -> tuple[FloatArray, FloatArray]:
        """Return one half-space an input, or K - 1."""
        loss, data = problem.loss, Dataset(self.x, self.y)
        if data.n_features != problem.n_features:
            raise InvalidInputError(
                f"Predictions: the inputs have {data.n_features} features, the problem "
                f"{problem.n_features}"
            )
        if not isinstance(loss, (Logistic, Softmax)):
            raise UnsupportedCombinationError(
                f"labels to be predicted are for Logistic and Softmax; got {loss!r}. Demand that a "
                "predictor is at least c with HalfSpaces(x, c), the intercept's 1 appended to x"
            )
        loss.check_labels(data, where="Predictions: ")
        x = data.x.toarray() if not isinstance(data.x, np.ndarray) else data.x
        inputs = np.column_stack([x, np.ones(len(x))]) if loss.intercept else x
        if isinstance(loss, Logistic):
            normals = data.y[:, None] * inputs
        else:
            label = data.y.astype(np.intp)[:, None]
            k = np.arange(loss.n_classes - 1)[None]
            units = np.eye(loss.n_classes)
            ahead = units[label] - units[k + (k >= label)]  # (m, K - 1, K): e_y - e_k, k not y
            normals = inputs[:, None, :, None] * ahead[:, :, None, :]
        rows = normals.reshape(-1, math.prod(problem.shape))
        return rows, np.full(len(rows), self.margin)

    def __str__(self) -> str:
        """Name the labels if they are few."""
        labels = np.asarray(self.y)
        wanted = (
            ", ".join(f"{label:g}" for label in labels) if len(labels) <= 4 else "the labels wanted"
        )
        inputs = "1 input is" if len(labels) == 1 else f"{len(labels)} inputs are"
        margin = f" with a margin of {self.margin:g}" if self.margin else ""
        return f"{inputs} labeled {wanted}{margin}"


@dataclass(frozen=True, eq=False)
class HalfSpaces(Goal):
    r"""Linear demands on the model: :math:`\langle a_i, \rho\rangle \ge c_i`.

    Parameters
    ----------
    normals : array_like, shape (m, *shape of a model)
        The :math:`a_i`, none of them 0.
    bounds : array_like, shape (m,)
        The :math:`c_i`.

    Raises
    ------
    InvalidInputError
        For shapes that disagree, numbers that are not finite, or a normal that is 0.

    Examples
    --------
    >>> print(HalfSpaces([[1.0, 0.0]], [3.0]))
    1 linear demand holds
    """

    normals: npt.ArrayLike
    bounds: npt.ArrayLike

    def __post_init__(self) -> None:
        normals = float_array("HalfSpaces: normals", self.normals)
        bounds = float_array("HalfSpaces: bounds", self.bounds)
        if normals.ndim < 2 or bounds.shape != (len(normals),) or not len(normals):
            raise InvalidInputError(
                "HalfSpaces: give one model a row and a bound for each; got normals of shape "
                f"{normals.shape}, bounds of shape {bounds.shape}"
            )
        flat = normals.reshape(len(normals), -1)
        wrong = ~(np.isfinite(flat).all(axis=1) & np.isfinite(bounds) & flat.any(axis=1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InvalidInputError(
                f"HalfSpaces: normals must be finite and not 0, bounds finite; row {row} has "
                f"{normals[row].tolist()} and {bounds[row]:g}"
            )
        object.__setattr__(self, "normals", frozen_array("HalfSpaces: normals", normals))
        object.__setattr__(self, "bounds", frozen_array("HalfSpaces: bounds", bounds))

    def half_spaces(self, problem: Problem) -> tuple[FloatArray, FloatArray]:
        """Return them."""
        normals, bounds = np.asarray(self.normals), np.asarray(self.bounds)
        if normals.shape[1:] != problem.shape:
            raise InvalidInputError(
                f"HalfSpaces: normals must have the shape of a model, {problem.shape}; got "
                f"{normals.shape[1:]}"
            )
        return normals.reshape(len(normals), -1), bounds

    def __str__(self) -> str:
        """Count them."""
        number = len(np.asarray(self.bounds))
        return "1 linear demand holds" if number == 1 else f"{number} linear demands hold"
