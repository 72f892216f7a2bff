r"""`Problem`: one convex GPL problem, validated once and read-only.

The conventions of the whole package, in one place:

.. math::

    F(\rho, \theta_1, \ldots, \theta_N) = \sum_n L_n(\theta_n) + \sum_n r(\rho - \theta_n), \qquad
    L_n(\theta) = \nu_n |\theta|^2 + \sum_i c_i\, \varphi(\theta^\top x_i, y_i).

=================== ================================================================================
data term           a SUM over points (not a mean), each with its multiplicity c_i
ridge               nu |theta|^2, *without* a factor 1/2 (gradient 2 nu theta), intercept included
least squares       (z - y)^2 / 2, *with* the factor 1/2
squared l2          lam |u|^2, *without* a factor 1/2 (gradient 2 lam u)
u                   rho - theta, global minus personal
report              g_n = grad_rho R(rho, theta_n) = grad r(rho - theta_n) = grad L_n(theta_n)
shape of a model    (d,), or (d, K) with K classes; with an intercept d + 1, and it is the last row
=================== ================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, float_array, is_number
from gplconvex.errors import InvalidInputError
from gplconvex.local_losses import LocalLoss, LocalLosses
from gplconvex.losses import Loss
from gplconvex.regularizers import Regularizer
from gplconvex.rounding import LARGEST


class Problem:
    r"""A convex GPL problem: loss x regularizer x one dataset a user.

    Parameters
    ----------
    loss : Loss
        The loss of one point, shared by all users.
    regularizer : Regularizer
        What ties the personal models to the global one.
    datasets : sequence of Dataset (or of tuples of its arguments)
        The points of users 1..N, of any sizes, empty ones included; at least one user.
    nu : float or sequence of N floats
        Ridge, at least 0: one number for everybody or one for each user.

    Attributes
    ----------
    n_users, n_features : int
    shape : tuple of int
        The shape of every model; with an intercept the last entry is the intercept.
    nu : array, shape (N,)
        The ridge of each user, read-only.
    locals : tuple of LocalLoss
        The local loss of each user; `local_losses` evaluates all of them together.

    Raises
    ------
    InvalidInputError
        No users, numbers of features that differ, a label that the loss does not take, a number
        that is not finite or a negative nu; the message names the user and the row.

    Examples
    --------
    >>> from gplconvex.losses import LeastSquares
    >>> from gplconvex.regularizers import SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [([[1.0]], [2.0]), ([[1.0]], [4.0])])
    >>> problem.value(np.array([3.0]), [np.array([2.0]), np.array([4.0])])
    2.0
    """

    loss: Loss
    regularizer: Regularizer
    datasets: tuple[Dataset, ...]
    nu: FloatArray

    def __init__(
        self,
        loss: Loss,
        regularizer: Regularizer,
        datasets: Sequence[Dataset | tuple[npt.ArrayLike, ...]],
        nu: float | Sequence[float] | FloatArray = 0.0,
    ) -> None:
        if not isinstance(loss, Loss):
            raise InvalidInputError(f"loss must be a Loss such as Logistic(); got {loss!r}")
        if not isinstance(regularizer, Regularizer):
            raise InvalidInputError(
                f"regularizer must be a Regularizer such as SquaredL2(1.0); got {regularizer!r}"
            )
        if isinstance(datasets, Dataset):
            raise InvalidInputError(
                "datasets must be a sequence, one Dataset a user; got a single Dataset: "
                "write [dataset] for one user"
            )
        if isinstance(datasets, dict):
            raise InvalidInputError(
                "datasets must be a sequence, one Dataset a user; got a dict: pass "
                "list(datasets.values())"
            )
        users = [_dataset_of_user(n, item) for n, item in enumerate(_iterate("datasets", datasets))]
        if not users:
            raise InvalidInputError("datasets is empty: a problem needs at least one user")
        for n, data in enumerate(users):
            if data.n_features != users[0].n_features:
                raise InvalidInputError(
                    f"user {n} has {data.n_features} features, user 0 has "
                    f"{users[0].n_features}: all users must share the same features"
                )
            if data.n_rows:
                loss.check_labels(data, where=f"user {n}: ")
        if loss.shape(users[0].n_features)[0] == 0:
            raise InvalidInputError("the datasets have no features: x needs at least one column")
        for name, value in (
            ("loss", loss),
            ("regularizer", regularizer),
            ("datasets", tuple(users)),
            ("nu", _validated_nu(nu, len(users))),
        ):
            object.__setattr__(self, name, value)

    @cached_property
    def locals(self) -> tuple[LocalLoss, ...]:
        """The local loss of each user."""
        pairs = zip(self.datasets, self.nu.tolist(), strict=True)
        return tuple(LocalLoss(self.loss, data, nu) for data, nu in pairs)

    @cached_property
    def local_losses(self) -> LocalLosses:
        """The local losses of all users, evaluated together."""
        return LocalLosses(self.loss, self.datasets, self.nu)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"a Problem is read-only: cannot set {name!r}. Build another one, or add a user with "
            "with_user"
        )

    def __repr__(self) -> str:
        points = sum(data.n_points for data in self.datasets)
        return (
            f"Problem({self.loss!r}, {self.regularizer!r}, {self.n_users} users, "
            f"{points} points, {self.n_features} features)"
        )

    @property
    def n_users(self) -> int:
        """Number of users N."""
        return len(self.datasets)

    @property
    def n_features(self) -> int:
        """Number of columns of every x, the intercept not counted."""
        return self.datasets[0].n_features

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every model."""
        return self.loss.shape(self.n_features)

    def value(self, rho: npt.ArrayLike, thetas: Sequence[npt.ArrayLike]) -> float:
        r"""Return :math:`F(\rho, \theta_1, \ldots, \theta_N)`."""
        rho = self.check_model("rho", rho)
        models = self.check_models(thetas)
        return self.energy(rho.ravel(), models.reshape(self.n_users, -1))

    def energy(self, rho: FloatArray, thetas: FloatArray) -> float:
        r"""Return F at flattened models, (p,) and (N, p), which are not checked."""
        return math.fsum(self.local_losses.value(thetas) + self.regularizer.value(rho - thetas))

    def with_user(self, data: Dataset, nu: float) -> Problem:
        """Return the problem with one more user, the last one; the data of the others is shared."""
        return Problem(self.loss, self.regularizer, [*self.datasets, data], [*self.nu, nu])

    def check_model(self, name: str, model: npt.ArrayLike) -> FloatArray:
        """Return ``model`` as a float64 array of the right shape, or raise `InvalidInputError`."""
        array = float_array(name, model)
        if array.shape != self.shape:
            raise InvalidInputError(
                f"{name} must have shape {self.shape} ({self.n_features} features"
                f"{', then the intercept' if self.loss.intercept else ''}); got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise InvalidInputError(f"{name} must be finite; got {array.tolist()}")
        if np.max(np.abs(array), initial=0.0) > LARGEST:
            raise InvalidInputError(
                f"{name} is so large that its square would overflow: entries must be within "
                f"{LARGEST:g}; got {array.tolist()}"
            )
        array.setflags(write=False)
        return array

    def check_models(self, thetas: Sequence[npt.ArrayLike]) -> FloatArray:
        """Return one validated model a user, shape (N, *shape)."""
        models = list(_iterate("thetas", thetas))
        if len(models) != self.n_users:
            raise InvalidInputError(
                f"thetas must hold one model a user, {self.n_users}; got {len(models)}"
            )
        if all(
            type(model) is np.ndarray and model.dtype == np.float64 and model.shape == self.shape
            for model in models
        ):  # the usual case, in one go for thousands of users
            array = np.array(models)
        else:
            array = np.array([self.check_model(f"thetas[{n}]", m) for n, m in enumerate(models)])
        bad = ~(np.abs(array) <= LARGEST).reshape(self.n_users, -1).all(axis=1)
        if bad.any():
            n = int(np.argmax(bad))
            self.check_model(f"thetas[{n}]", models[n])
        array.setflags(write=False)
        return array


def check_nu(nu: Any) -> float:
    """Return ``nu`` as a float, or raise `InvalidInputError` unless it is finite and at least 0."""
    if _is_scalar_array(nu):
        nu = nu[()]
    if not is_number(nu):
        raise InvalidInputError(f"nu must be a number; got {nu!r}")
    number = float(nu)  # before comparing: a shorter type would round the other side
    if not 0.0 <= number <= LARGEST:
        raise InvalidInputError(
            f"nu must be finite and at least 0; got {nu!r} (and at most {LARGEST:g}, so that "
            "squares are finite too)"
        )
    return number


def check_problem(problem: Any) -> None:
    """Raise `InvalidInputError` unless the argument is a `Problem`."""
    if not isinstance(problem, Problem):
        hint = ": pass its attribute .poisoned" if hasattr(problem, "poisoned") else ""
        raise InvalidInputError(f"expected a Problem; got {type(problem).__name__}{hint}")


def _validated_nu(nu: Any, n_users: int) -> FloatArray:
    if isinstance(nu, (str, bytes)) or not isinstance(nu, Iterable) or _is_scalar_array(nu):
        values = [check_nu(nu)] * n_users
    else:
        values = [check_nu(value) for value in _iterate("nu", nu)]
        if len(values) != n_users:
            raise InvalidInputError(
                f"nu must be one number or one for each of the {n_users} users; got {len(values)}"
            )
    array = np.array(values)
    array.setflags(write=False)
    return array


def _is_scalar_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0


def _dataset_of_user(n: int, item: Any) -> Dataset:
    if isinstance(item, Dataset):
        return item
    if not isinstance(item, tuple) or len(item) not in (2, 3):
        raise InvalidInputError(
            f"user {n}: expected a Dataset or a tuple (x, y) or (x, y, counts); "
            f"got {type(item).__name__}. For one user write [(x, y)]"
        )
    try:
        return Dataset(*item)
    except InvalidInputError as error:
        raise InvalidInputError(f"user {n}: {error}") from error


def _iterate(name: str, items: Any) -> Iterator[Any]:
    try:
        return iter(items)
    except TypeError as error:
        raise InvalidInputError(f"{name} must be a sequence; got {type(items).__name__}") from error
