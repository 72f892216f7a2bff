r"""`Problem`: one convex GPL problem, and `LocalLoss`: the part of one user.

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

from gplconvex._types import FloatArray, RealArray
from gplconvex.data import Dataset, float_array, is_number
from gplconvex.errors import InvalidInputError
from gplconvex.losses import Loss
from gplconvex.regularizers import Regularizer, norm
from gplconvex.rounding import LARGEST, UNIT, gamma

UNDERFLOW = 1e-150
"""Added to bounds of rounding, so that their squares are positive whatever underflows."""

_OVERFLOW_IS_INFINITE = np.errstate(over="ignore", invalid="ignore")
"""Decorates what may meet an overflow and tells it by returning ``inf``."""

_BLOCK = 4096
"""Rows that are copied to extended precision at a time."""


class LocalLoss:
    r"""The local loss of one user, :math:`L(\theta) = \nu|\theta|^2 + \sum_i c_i \varphi(z_i, y_i)`.

    Parameters
    ----------
    loss : Loss
        The loss of one point.
    data : Dataset
        The points of the user; may be empty.
    nu : float
        The ridge of the user, at least 0.

    Examples
    --------
    >>> from gplconvex.losses import LeastSquares
    >>> local = LocalLoss(LeastSquares(), Dataset([[1.0]], [3.0]), nu=0.5)
    >>> local.value(np.array([1.0])), local.gradient(np.array([1.0]))
    (2.5, array([-1.]))
    """

    def __init__(self, loss: Loss, data: Dataset, nu: float) -> None:
        self.loss = loss
        self.data = data
        self.nu = nu

    @cached_property
    def _counts(self) -> FloatArray:
        return self.data.counts.astype(np.float64)

    @_OVERFLOW_IS_INFINITE
    def value(self, theta: FloatArray) -> float:
        r"""Return :math:`L(\theta)`; ``inf`` where a loss overflows."""
        z = self.loss.predictor(self.data.x, theta)
        return float(
            self.nu * np.vdot(theta, theta) + self._counts @ self.loss.value(z, self.data.y)
        )

    def gradient(self, theta: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla L(\theta) = 2\nu\theta + \sum_i c_i w_i x_i`."""
        z = self.loss.predictor(self.data.x, theta)
        weights = _scaled(self.loss.residual(z, self.data.y), self._counts)
        return 2.0 * self.nu * theta + self.loss.pullback(self.data.x, weights)

    def hessian(self, theta: FloatArray) -> FloatArray:
        r"""Return :math:`2\nu I + \sum_i c_i \varphi''(z_i)\, x_i x_i^\top`, shape (p, p).

        The Gram matrix of a loss of constant curvature is computed once.
        """
        if self._constant_gram is not None:
            gram = self._constant_gram
        else:
            z = self.loss.predictor(self.data.x, theta)
            curvature = _scaled(self.loss.curvature(z, self.data.y), self._counts)
            gram = self.loss.gram(self.data.x, curvature)
        return gram + 2.0 * self.nu * np.eye(theta.size)

    @_OVERFLOW_IS_INFINITE
    def certified_gradient(self, theta: FloatArray) -> tuple[FloatArray, float]:
        r"""Return :math:`\nabla L(\theta)` in extended precision, and a bound of its error.

        Predictors and sums are accumulated in the longest floating-point type of the machine, of
        unit roundoff v (:math:`2^{-64}` on x86, :math:`2^{-53}` where there is none longer), with
        :math:`\gamma_n = nv/(1 - nv)`: predictors are off by :math:`\delta z_i \le \gamma_p\sum_j
        |x_{ij}||\theta_j|`, residuals by :math:`\max\varphi''\,\delta z_i` and their own rounding, and
        the sum over m points by another :math:`\gamma_m\sum_i c_i|w_i||x_{ij}|`. So many digits lost to
        cancellation, as with thousands of copies of a point, are not lost here.

        Returns
        -------
        gradient : array
            Rounded to float64.
        bound : float
            Of the Euclidean distance to the exact gradient of the data as they are; ``inf`` where
            the loss overflows.
        """
        x, y, loss = self.data.x, self.data.y, self.loss
        unit = float(np.finfo(np.longdouble).eps) / 2.0
        per_sum = (self.data.n_rows + 4) * unit * 1.01
        per_predictor = (theta.size + 2) * unit * 1.01
        total = (2.0 * self.nu * theta).astype(np.longdouble)
        n_blocks = -(-self.data.n_rows // _BLOCK)
        off = (4 + n_blocks) * UNIT * (2.0 * self.nu * np.abs(theta))
        for start in range(0, self.data.n_rows, _BLOCK):
            block = slice(start, start + _BLOCK)
            inputs, labels, counts = x[block], y[block], self._counts[block]
            extended = inputs.astype(np.longdouble)
            z = loss.predictor(extended, theta.astype(np.longdouble))
            nearest = z.astype(np.float64)
            rest = (z - nearest).astype(np.float64)
            z_off = per_predictor * loss.predictor(np.abs(inputs), np.abs(theta))
            reach = np.abs(rest) + z_off
            slowest, steepest = loss.curvature_bounds(nearest - reach, nearest + reach, labels)
            w = loss.residual(nearest, labels)
            w_extended = w.astype(np.longdouble) + loss.curvature_times(nearest, labels, rest)
            total += loss.pullback(extended, _scaled(w_extended, counts))
            moved = steepest * _sizes(z_off) + (steepest - slowest) * _sizes(rest)
            w_off = _scaled(np.ones_like(w), moved) + loss.residual_rounding(nearest, labels, w)
            w_off += per_sum * (np.abs(w) + w_off)
            off += loss.pullback(np.abs(inputs), _scaled(w_off, counts))
        gradient = total.astype(np.float64)
        off += UNIT * np.abs(gradient)
        bound = norm(off) * (1.0 + gamma(self.data.n_rows + theta.size + 10)) + UNDERFLOW
        if not (np.isfinite(gradient).all() and math.isfinite(bound)):
            return np.zeros_like(theta), math.inf
        return gradient, bound

    @cached_property
    def least_gram(self) -> FloatArray | None:
        r"""A lower bound of the Gram part of every Hessian; None when the loss has none but 0."""
        least, _ = self._curvature_everywhere
        return self.loss.gram(self.data.x, self._counts * least) if least.any() else None

    @cached_property
    def strong_convexity(self) -> float:
        r"""A guaranteed :math:`\mu` such that L is mu-strongly convex: :math:`2\nu + \lambda_{\min}`."""
        if self.least_gram is None:
            return 2.0 * self.nu
        return self._with_ridge(least_eigenvalue(self.least_gram, self.data.n_rows))

    def least_gram_near(self, theta: FloatArray, radius: float) -> FloatArray:
        """Return a lower bound of the Gram part of the Hessians in the ball around theta."""
        low, high = self._predictor_range(theta, radius)
        slowest, _ = self.loss.curvature_bounds(low, high, self.data.y)
        weights = np.minimum(self._counts * slowest * (1.0 - 8.0 * UNIT), LARGEST)
        return self.loss.gram(self.data.x, weights)

    def strong_convexity_near(self, theta: FloatArray, radius: float) -> float:
        r"""Return a guaranteed :math:`\mu` such that L is mu-strongly convex in the ball."""
        gram = self.least_gram_near(theta, radius)
        return self._with_ridge(least_eigenvalue(gram, self.data.n_rows))

    def _with_ridge(self, least: float) -> float:
        """Return the sum of two lower bounds, rounded down."""
        return max(2.0 * self.nu, (2.0 * self.nu + least) * (1.0 - 2.0 * UNIT))

    @cached_property
    def natural_radius(self) -> float:
        """The radius within which no predictor moves by more than 1; ``inf`` without points."""
        longest = float(np.max(self._input_lengths, initial=0.0))
        return 1.0 / longest if longest > 0.0 else math.inf

    def gradient_lipschitz(self, theta: FloatArray, radius: float) -> float:
        r"""Return a Lipschitz constant of the gradient on the ball of that radius around theta."""
        low, high = self._predictor_range(theta, radius)
        _, steepest = self.loss.curvature_bounds(low, high, self.data.y)
        weights = self._counts * steepest * (1.0 + 8.0 * UNIT)
        if not np.isfinite(weights).all():
            return math.inf
        gram = self.loss.gram(self.data.x, weights)
        if not np.isfinite(gram).all():
            return math.inf
        largest = float(np.linalg.eigvalsh(gram)[-1]) if gram.size else 0.0
        allowance = gamma(self.data.n_rows + 10 * theta.size + 10) * float(np.trace(gram))
        return 2.0 * self.nu + max(0.0, largest) + allowance

    @cached_property
    def _input_lengths(self) -> FloatArray:
        """The Euclidean norm of every input, the intercept's 1 included."""
        largest = np.max(np.abs(self.data.x), axis=1, initial=float(self.loss.intercept))
        unit = np.where(largest > 0.0, largest, 1.0)  # scaled, so that no square overflows
        squares = np.sum((self.data.x / unit[:, None]) ** 2, axis=1)
        squares += float(self.loss.intercept) / unit / unit
        return np.asarray(unit * np.sqrt(squares), dtype=np.float64)

    def _predictor_range(self, theta: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
        """Return bounds of the predictors over the ball, rounding included."""
        z = self.loss.predictor(self.data.x, theta)
        sizes = self.loss.predictor(np.abs(self.data.x), np.abs(theta))
        lengths = radius * self._input_lengths * (1.0 + gamma(theta.size + 4))
        reach = _scaled(np.ones_like(z), lengths) + gamma(theta.size + 4) * sizes
        return z - reach, z + reach

    @cached_property
    def _curvature_everywhere(self) -> tuple[FloatArray, FloatArray]:
        origin = np.zeros(self.loss.shape(self.data.n_features))
        ends = np.full_like(self.loss.predictor(self.data.x, origin), math.inf)
        return self.loss.curvature_bounds(-ends, ends, self.data.y)

    @cached_property
    def _constant_gram(self) -> FloatArray | None:
        least, greatest = self._curvature_everywhere
        if self.data.n_rows == 0 or not np.array_equal(least, greatest):
            return None
        return self.loss.gram(self.data.x, self._counts * least)


def _scaled(values: RealArray, weights: FloatArray) -> RealArray:
    """Return the values of every point, numbers or arrays, times its weight."""
    return (values.T * weights).T


def _sizes(z: FloatArray) -> FloatArray:
    """Return the Euclidean norm of what belongs to every point, a number or K numbers."""
    return np.abs(z) if z.ndim == 1 else np.asarray(np.linalg.norm(z, axis=1))


def least_eigenvalue(gram: FloatArray, n_rows: int) -> float:
    """Return a guaranteed lower bound, at least 0, of the least eigenvalue of a Gram matrix.

    Forming the matrix from ``n_rows`` points and the symmetric eigenvalue solver are both backward
    stable: their errors are at most a multiple of the trace, which is subtracted.
    """
    if not np.isfinite(gram).all():
        return 0.0  # overflow: nothing is known
    allowance = gamma(n_rows + 10 * len(gram) + 10) * float(np.trace(gram))
    return max(0.0, float(np.linalg.eigvalsh(gram)[0]) - allowance)


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
        The local loss of each user.

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
    locals: tuple[LocalLoss, ...]

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
        ridges = _validated_nu(nu, len(users))
        pairs = zip(users, ridges.tolist(), strict=True)
        for name, value in (
            ("loss", loss),
            ("regularizer", regularizer),
            ("datasets", tuple(users)),
            ("nu", ridges),
            (
                "locals",
                tuple(LocalLoss(loss, data, ridge) for data, ridge in pairs),
            ),
        ):
            object.__setattr__(self, name, value)

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
        return math.fsum(
            local.value(theta) + self.regularizer.value(rho - theta)
            for local, theta in zip(self.locals, models, strict=True)
        )

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

    def check_models(self, thetas: Sequence[npt.ArrayLike]) -> tuple[FloatArray, ...]:
        """Return one validated model a user."""
        models = list(_iterate("thetas", thetas))
        if len(models) != self.n_users:
            raise InvalidInputError(
                f"thetas must hold one model a user, {self.n_users}; got {len(models)}"
            )
        return tuple(self.check_model(f"thetas[{n}]", theta) for n, theta in enumerate(models))


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
