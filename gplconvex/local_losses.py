r"""Local losses, :math:`L_n(\theta) = \nu_n|\theta|^2 + \sum_i c_i\,\varphi(\theta^\top x_i, y_i)`.

Users whose data have about the same number of rows are *stacked*: their inputs fill one array
(B, m, d), short ones padded with rows of multiplicity 0, and one numpy call serves all of them. The
data of large users are used where they are, unstacked and block by block, on all cores.

Here a model is a vector of p numbers, so that the models of N users are an array (N, p).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import sparse

from gplconvex._types import FloatArray, Inputs, IntArray, RealArray
from gplconvex.data import Dataset, is_sparse
from gplconvex.eigenvalues import (
    LARGEST_EIGENPROBLEM,
    largest_eigenvalues,
    least_eigenvalues,
)
from gplconvex.losses import Loss
from gplconvex.parallel import blocks, cached_property, map_on_cores
from gplconvex.regularizers import lengths
from gplconvex.rounding import LARGEST, UNIT, gamma

UNDERFLOW = 1e-150
"""Added to bounds of rounding, so that their squares are positive whatever underflows."""

STACKED = 2**16
"""A user with at most this many numbers in x is copied into a stack; a larger one is not copied."""

LARGEST_SINGLE = 1e18
"""Inputs of up to this norm are copied to single precision, where squares of more overflow."""

EXTENDED = 2**22
"""Numbers in x up to which certificates accumulate in extended precision: it has no BLAS."""

_OVERFLOW_IS_INFINITE = np.errstate(over="ignore", invalid="ignore")
"""Decorates what may meet an overflow and tells it by returning ``inf``."""

Result = TypeVar("Result")


class Stack:
    """The local losses of B users whose data fill arrays of one shape.

    Parameters
    ----------
    loss : Loss
    users : sequence of int
        Their numbers, by which results are put in place.
    datasets : sequence of B Dataset
        Alike in features and in the shape of a label.
    nu : array, shape (B,)
    """

    def __init__(
        self, loss: Loss, users: Sequence[int], datasets: Sequence[Dataset], nu: FloatArray
    ) -> None:
        self.loss = loss
        self.users: IntArray = np.array(users)
        self.nu = nu
        self.x, self.y, self.counts = _stacked(datasets)
        self.n_rows = self.y.shape[1]
        self._constant = loss.curvature_range[0] == loss.curvature_range[1]
        self._padded = any(data.n_rows < self.n_rows for data in datasets)
        self._shape = (len(datasets), *loss.shape(datasets[0].n_features))

    @property
    def curved(self) -> bool:
        """Whether the data give curvature everywhere that is worth an eigenvalue problem."""
        return self.loss.curvature_range[0] > 0.0 and self._shape[1] <= LARGEST_EIGENPROBLEM

    @property
    def size(self) -> int:
        """How many numbers the inputs are."""
        return int(self.x.nnz if is_sparse(self.x) else self.x.size)

    # -- the loss and its derivatives ----------------------------------------------------------------

    @_OVERFLOW_IS_INFINITE
    def value(self, thetas: FloatArray) -> FloatArray:
        r"""Return :math:`L(\theta)`, shape (B,); ``inf`` where a loss overflows."""
        total = self.nu * np.einsum("bp,bp->b", thetas, thetas)
        for x, y, counts in self._blocks():
            z = self._predictor(x, thetas)
            total = total + np.sum(self._scaled(self.loss.value(z, y), counts), axis=1)
        return np.where(np.isnan(total), math.inf, total)

    @_OVERFLOW_IS_INFINITE
    def gradient(self, thetas: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla L(\theta) = 2\nu\theta + \sum_i c_i w_i x_i`, shape (B, p)."""
        total = 2.0 * self.nu[:, None] * thetas
        for x, y, counts in self._blocks():
            w = self.loss.residual(self._predictor(x, thetas), y)
            total = total + self._pullback(x, self._scaled(w, counts))
        return total

    @_OVERFLOW_IS_INFINITE
    def hessian(self, thetas: FloatArray) -> FloatArray:
        r"""Return :math:`2\nu I + \sum_i c_i \varphi''(z_i)\, x_i x_i^\top`, shape (B, p, p).

        The Gram matrix of a loss of constant curvature is computed once.
        """
        if self._constant:
            return self._plus_ridge(self.least_gram)

        def weights(x: Inputs, y: FloatArray, counts: FloatArray) -> FloatArray:
            return self._scaled(self.loss.curvature(self._predictor(x, thetas), y), counts)

        return self._plus_ridge(self._gram(weights))

    @_OVERFLOW_IS_INFINITE
    def expansion(self, thetas: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return `value`, `gradient` and `hessian`, for which predictors are computed once."""
        values = self.nu * np.einsum("bp,bp->b", thetas, thetas)
        gradients = 2.0 * self.nu[:, None] * thetas
        grams: FloatArray | float = self.least_gram if self._constant else 0.0
        for x, y, counts in self._blocks():
            z = self._predictor(x, thetas)
            values = values + self._scaled(self.loss.value(z, y), counts).sum(axis=1)
            w = self._scaled(self.loss.residual(z, y), counts)
            gradients = gradients + self._pullback(x, w)
            if not self._constant:
                weights = self._scaled(self.loss.curvature(z, y), counts)
                grams = grams + self._weighted_gram(x, weights)
        return np.where(np.isnan(values), math.inf, values), gradients, self._plus_ridge(grams)

    def _plus_ridge(self, grams: FloatArray | float) -> FloatArray:
        r"""Return Gram matrices plus :math:`2\nu I`."""
        hessians = np.array(grams)
        diagonals = np.einsum("bii->bi", hessians)
        diagonals += 2.0 * self.nu[:, None]
        return hessians

    # -- the same, where the predictors are known ----------------------------------------------------

    @_OVERFLOW_IS_INFINITE
    def predictors(self, thetas: FloatArray, single: bool) -> FloatArray:
        """Return the predictors of all points, shape (B, m) or (B, m, K)."""
        if not single:
            return np.asarray(self._predictor(self.x, thetas))
        z = self._predictor(self.single, thetas.astype(self.single.dtype))
        return np.asarray(z, dtype=np.float64)

    @_OVERFLOW_IS_INFINITE
    def jet(
        self, z: FloatArray, dz: FloatArray, t: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        r"""Return the fields of a `Jet` at :math:`z + t\,dz`."""
        z = z + t.reshape(-1, *(1,) * (z.ndim - 1)) * dz
        values, w, bends = self.loss.jet(z, self.y, dz)
        w = self._scaled(w, self.counts)
        values, bends = (self._scaled(each, self.counts).sum(axis=1) for each in (values, bends))
        slopes = np.sum(w * dz, axis=tuple(range(1, z.ndim)))
        return z, w, np.where(np.isnan(values), math.inf, values), slopes, bends

    @_OVERFLOW_IS_INFINITE
    def pullback(self, w: FloatArray, single: bool) -> FloatArray:
        r"""Return :math:`\sum_i w_i x_i`, shape (B, p), for residuals times multiplicities."""
        if not single:
            return self._pullback(self.x, w)
        return np.asarray(
            self._pullback(self.single, w.astype(self.single.dtype)), dtype=np.float64
        )

    @cached_property
    def single(self) -> Inputs:
        """The inputs in single precision, if they are many, dense, and within its range."""
        if is_sparse(self.x) or self.size <= STACKED or self.input_norm.max() > LARGEST_SINGLE:
            return self.x
        return self.x.astype(np.float32)

    @cached_property
    def input_norm(self) -> FloatArray:
        """The Frobenius norm of every user's inputs, the intercept's 1 included, shape (B,)."""
        return lengths(self.input_lengths)

    @cached_property
    def input_lengths(self) -> FloatArray:
        """The Euclidean norm of every input, the intercept's 1 included, shape (B, m)."""
        return np.concatenate([self._input_lengths(x) for x, _, _ in self._blocks()], axis=1)

    @_OVERFLOW_IS_INFINITE
    def pullback_size(self, w: FloatArray) -> FloatArray:
        """Return a bound of the norms of `pullback`, shape (B,)."""
        squares = np.sum(np.square(w), axis=tuple(range(1, w.ndim)))
        return np.asarray(self.input_norm * np.sqrt(squares))

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape (d, K) of a model, K = 1 where it is a vector."""
        d, *columns = self._shape[1:]
        return d, columns[0] if columns else 1

    def design(self, rows: Any) -> Inputs:
        """Return some rows of the inputs, the intercept's 1 included: (B, m', d) or sparse (m', d)."""
        x = self.single[rows] if is_sparse(self.x) else self.single[:, rows]
        if not self.loss.intercept:
            return x
        ones = np.ones((*x.shape[:-1], 1), dtype=x.dtype)
        if is_sparse(x):
            return sparse.csr_array(sparse.hstack([x, sparse.csr_array(ones)]))
        return np.dstack([x, ones])

    def weights_at(self, z: FloatArray) -> FloatArray:
        r"""Return :math:`c_i\,\varphi''_{kk}` of every column k of theta, shape (B, K, m)."""
        weights = self._scaled(self.loss.curvature_diagonal(z, self.y), self.counts)
        if z.ndim == 2:
            return weights[:, None]
        return np.ascontiguousarray(np.swapaxes(weights, 1, 2))

    @_OVERFLOW_IS_INFINITE
    def certified_gradient(self, thetas: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `LocalLosses.certified_gradient`."""
        small = self.size <= EXTENDED
        longest: type[np.floating[Any]] = np.longdouble if small else np.float64
        unit = float(np.finfo(longest).eps) / 2.0
        (d, _), n_blocks = self.matrix_shape, 0
        per_sum = (self.n_rows + 4) * unit * 1.01
        per_predictor = (d + 2) * unit * 1.01
        ridge = 2.0 * self.nu[:, None] * thetas
        total: RealArray = ridge.astype(longest)
        off = np.zeros_like(thetas)
        extended_thetas = thetas.astype(longest)
        for x, y, counts in self._blocks():
            n_blocks += 1
            extended, sizes = x.astype(longest, copy=False), abs(x)
            z = self._predictor(extended, extended_thetas)
            nearest = z.astype(np.float64)
            rest = (z - nearest).astype(np.float64)
            z_off = per_predictor * self._predictor(sizes, np.abs(thetas))
            reach = np.abs(rest) + z_off
            slowest, steepest = self.loss.curvature_bounds(nearest - reach, nearest + reach, y)
            w = self.loss.residual(nearest, y)
            w_extended = w.astype(longest) + self.loss.curvature_times(nearest, y, rest)
            total += self._pullback(extended, self._scaled(w_extended, counts))
            moved = steepest * self._sizes(z_off) + (steepest - slowest) * self._sizes(rest)
            w_off = self._scaled(np.ones_like(w), moved) + self.loss.residual_rounding(
                nearest, y, w
            )
            w_off += per_sum * (np.abs(w) + w_off)
            off += self._pullback(sizes, self._scaled(w_off, counts))
        gradient = total.astype(np.float64)
        off += (4 + n_blocks) * UNIT * np.abs(ridge) + UNIT * np.abs(gradient)
        bound = lengths(off) * (1.0 + gamma(self.n_rows + thetas.shape[1] + 10)) + UNDERFLOW
        unknown = ~(np.isfinite(gradient).all(axis=1) & np.isfinite(bound))
        gradient[unknown], bound[unknown] = 0.0, math.inf
        return gradient, bound

    def gram_diagonal(self, weights: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_i w_i x_{ij}^2` for weights (B, m), shape (B, d)."""
        if is_sparse(self.x):
            diagonal = np.asarray(weights @ self.x.power(2))
        else:
            diagonal = np.einsum("bm,bmd->bd", weights, np.square(self.x))
        if self.loss.intercept:
            ones = weights.sum(axis=-1, keepdims=True)
            diagonal = np.concatenate([diagonal, ones], axis=-1)
        return np.asarray(diagonal)

    def gram_trace(self, weights: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_i w_i |x_i|^2` for weights (B, K, m), shape (B, K)."""
        return np.asarray(np.einsum("bkm,bm->bk", weights, np.square(self.input_lengths)))

    # -- bounds of the curvature ---------------------------------------------------------------------

    @cached_property
    def least_gram(self) -> FloatArray:
        r"""A lower bound of the Gram part of every Hessian, shape (B, p, p)."""
        least, _ = self.loss.curvature_range
        return self._gram(lambda x, y, counts: least * counts)

    @cached_property
    def strong_convexity(self) -> FloatArray:
        r"""Guaranteed :math:`\mu`, L being mu-strongly convex: :math:`2\nu + \lambda_{\min}`, (B,)."""
        if not self.curved:
            return 2.0 * self.nu
        return self._with_ridge(least_eigenvalues(self.least_gram, self.n_rows))

    def least_gram_near(self, thetas: FloatArray, radius: FloatArray) -> FloatArray:
        """Return a lower bound of the Gram part of the Hessians in the balls around the models."""

        def weights(x: Inputs, y: FloatArray, counts: FloatArray) -> FloatArray:
            slowest, _ = self.loss.curvature_bounds(*self._predictor_range(x, thetas, radius), y)
            return np.minimum(self._scaled(slowest, counts) * (1.0 - 8.0 * UNIT), LARGEST)

        return self._gram(weights)

    def strong_convexity_near(self, thetas: FloatArray, radius: FloatArray) -> FloatArray:
        r"""Return guaranteed :math:`\mu` such that L is mu-strongly convex in the balls."""
        return self._with_ridge(
            least_eigenvalues(self.least_gram_near(thetas, radius), self.n_rows)
        )

    def _with_ridge(self, least: FloatArray) -> FloatArray:
        """Return the sum of two lower bounds, rounded down."""
        return np.maximum(2.0 * self.nu, (2.0 * self.nu + least) * (1.0 - 2.0 * UNIT))

    @cached_property
    def natural_radius(self) -> FloatArray:
        """The radius within which no predictor moves by more than 1; ``inf`` without points."""
        longest = np.max(self.input_lengths, axis=1, initial=0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / longest)

    def gradient_lipschitz(self, thetas: FloatArray, radius: FloatArray) -> FloatArray:
        r"""Return Lipschitz constants of the gradients on balls around the models, shape (B,)."""
        return self._lipschitz(lambda x: self._predictor_range(x, thetas, radius))

    @cached_property
    @_OVERFLOW_IS_INFINITE
    def smoothness(self) -> FloatArray:
        """Lipschitz constants of the gradients everywhere, shape (B,); ``inf`` where there is none."""

        def everywhere(x: Inputs) -> tuple[FloatArray, FloatArray]:
            z = self._predictor(x, np.zeros((len(self.users), math.prod(self._shape[1:]))))
            return np.full_like(z, -math.inf), np.full_like(z, math.inf)

        return self._lipschitz(everywhere)

    def _lipschitz(
        self, predictor_range: Callable[[Inputs], tuple[FloatArray, FloatArray]]
    ) -> FloatArray:
        """Return Lipschitz constants of the gradients where predictors keep to a range."""

        def weights(x: Inputs, y: FloatArray, counts: FloatArray) -> FloatArray:
            _, steepest = self.loss.curvature_bounds(*predictor_range(x), y)
            return self._scaled(steepest, counts) * (1.0 + 8.0 * UNIT)

        gram = self.least_gram * (1.0 + 8.0 * UNIT) if self._constant else self._gram(weights)
        return 2.0 * self.nu + largest_eigenvalues(gram, self.n_rows)

    def _predictor_range(
        self, x: Inputs, thetas: FloatArray, radius: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return bounds of the predictors over the balls, rounding included."""
        z = self._predictor(x, thetas)
        units = gamma(self.matrix_shape[0] + 4)
        reach = radius[:, None] * self._input_lengths(x) * (1.0 + units)
        off = self._scaled(np.ones_like(z), reach) + units * self._predictor(abs(x), np.abs(thetas))
        return z - off, z + off

    def _input_lengths(self, x: Inputs) -> FloatArray:
        """Return the Euclidean norm of every input, the intercept's 1 included, shape (B, m)."""
        one = float(self.loss.intercept)
        if is_sparse(x):
            largest = np.maximum(abs(x).max(axis=1).toarray().ravel(), one)[None]
            unit = np.where(largest > 0.0, largest, 1.0)
            squares = ((sparse.diags_array(1.0 / unit[0]) @ x) ** 2).sum(axis=1)[None]
        else:
            largest = np.max(np.abs(x), axis=-1, initial=one)
            unit = np.where(largest > 0.0, largest, 1.0)  # scaled, so that no square overflows
            squares = np.sum((x / unit[..., None]) ** 2, axis=-1)
        return np.asarray(unit * np.sqrt(squares + one / unit / unit))

    # -- sums over the points ------------------------------------------------------------------------

    def _blocks(self) -> Iterator[tuple[Inputs, FloatArray, FloatArray]]:
        """Yield inputs, labels and multiplicities of a few rows at a time, of all B users."""
        for rows in blocks(self.n_rows, self.size // max(1, self.n_rows)):
            x = self.x[rows] if is_sparse(self.x) else self.x[:, rows]
            yield x, self.y[:, rows], self.counts[:, rows]

    def _gram(self, weights: Callable[[Inputs, FloatArray, FloatArray], FloatArray]) -> FloatArray:
        """Return the weighted Gram matrices, shape (B, p, p), or (B, d, d) for K numbers a point."""
        total: FloatArray | float = 0.0
        for block in self._blocks():
            total = total + self._weighted_gram(block[0], weights(*block))
        return np.asarray(total)

    def _weighted_gram(self, x: Inputs, weights: FloatArray) -> FloatArray:
        """Return the weighted Gram matrices of a few rows."""
        return self.loss.gram(x, weights[0])[None] if is_sparse(x) else self.loss.gram(x, weights)

    def _predictor(self, x: Inputs, thetas: RealArray) -> RealArray:
        """Return the predictors, shape (B, m) or (B, m, K)."""
        models = thetas.reshape(self._shape)
        if is_sparse(x):
            return self.loss.predictor(x, models[0])[None]
        return self.loss.predictor(x, models)

    def _pullback(self, x: Inputs, weights: RealArray) -> RealArray:
        """Return the weighted sums of inputs, shape (B, p)."""
        if is_sparse(x):
            return self.loss.pullback(x, weights[0]).reshape(1, -1)
        return self.loss.pullback(x, weights).reshape(self._shape[0], -1)

    def _scaled(self, values: RealArray, weights: FloatArray) -> RealArray:
        """Return values of points, numbers, vectors or matrices, times one weight a point."""
        weights = weights.reshape(*weights.shape, *(1,) * (values.ndim - weights.ndim))
        scaled = values * weights
        # What overflows in a row of padding, whose input is 0, is nobody's.
        return np.where(weights > 0.0, scaled, 0.0) if self._padded else scaled

    def _sizes(self, z: FloatArray) -> FloatArray:
        """Return the Euclidean norm of what belongs to every point, a number or K numbers."""
        return np.abs(z) if len(self._shape) == 2 else np.asarray(np.linalg.norm(z, axis=-1))


@dataclass(frozen=True)
class Jet:
    r"""The losses of N users at points known by their predictors, and along a direction dz of these.

    Attributes
    ----------
    z, w : list of arrays
        Predictors, and residuals times multiplicities, one array a stack.
    values, slopes, bends : arrays, shape (N,)
        The sums over the points, without the ridge; their first and second derivatives along dz.
    """

    z: list[FloatArray]
    w: list[FloatArray]
    values: FloatArray
    slopes: FloatArray
    bends: FloatArray


class LocalLosses:
    """The local losses of all N users; models are an array (N, p), and so are gradients.

    Parameters
    ----------
    loss : Loss
    datasets : sequence of N Dataset
    nu : array, shape (N,)
    """

    def __init__(self, loss: Loss, datasets: Sequence[Dataset], nu: FloatArray) -> None:
        self.n_users = len(datasets)
        self.stacks = [
            Stack(loss, users, [datasets[n] for n in users], nu[users])
            for users in _groups(datasets)
        ]
        self.size = sum(stack.size for stack in self.stacks)

    @property
    def has_single(self) -> bool:
        """Whether some inputs are there in single precision too."""
        return any(stack.single is not stack.x for stack in self.stacks)

    def value(self, thetas: FloatArray) -> FloatArray:
        r"""Return every :math:`L_n(\theta_n)`, shape (N,)."""
        return self._gather(self._each(lambda stack: stack.value(thetas[stack.users])))

    def gradient(self, thetas: FloatArray) -> FloatArray:
        r"""Return every :math:`\nabla L_n(\theta_n)`, shape (N, p)."""
        return self._gather(self._each(lambda stack: stack.gradient(thetas[stack.users])))

    def hessian(self, thetas: FloatArray) -> FloatArray:
        r"""Return every :math:`\nabla^2 L_n(\theta_n)`, shape (N, p, p)."""
        return self._gather(self._each(lambda stack: stack.hessian(thetas[stack.users])))

    def expansion(self, thetas: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return `value`, `gradient` and `hessian`: one pass, for which predictors are computed once."""
        parts = self._each(lambda stack: stack.expansion(thetas[stack.users]))
        values, gradients, hessians = (self._gather(part) for part in zip(*parts, strict=True))
        return values, gradients, hessians

    def predictors(self, thetas: FloatArray, *, single: bool = False) -> list[FloatArray]:
        """Return the predictors of all points, one array a stack: half a pass.

        With ``single`` products of large dense inputs are computed in single precision.
        """
        return self._each(lambda stack: stack.predictors(thetas[stack.users], single))

    def jet(self, z: list[FloatArray], dz: list[FloatArray], t: FloatArray) -> Jet:
        """Return what there is to know at z + t dz, a length t for each user."""

        def one(stack: Stack, z: FloatArray, dz: FloatArray) -> tuple[FloatArray, ...]:
            return stack.jet(z, dz, t[stack.users])

        moved, w, values, slopes, bends = zip(*self._each(one, z, dz), strict=True)
        sums = (self._gather(each) for each in (values, slopes, bends))
        return Jet(list(moved), list(w), *sums)

    def pullback(self, w: list[FloatArray], *, single: bool = False) -> FloatArray:
        r"""Return every :math:`\sum_i w_i x_i`, shape (N, p), w being those of a `Jet`: half a pass."""
        return self._gather(self._each(lambda stack, w: stack.pullback(w, single), w))

    def weights_at(self, z: list[FloatArray]) -> list[FloatArray]:
        """Return the weights of the points in the blocks of each column, see `Stack.weights_at`."""
        return self._each(Stack.weights_at, z)

    def pullback_size(self, w: list[FloatArray]) -> float:
        """Return a bound of the norm of `pullback`, to which its rounding is in proportion."""
        return float(np.linalg.norm(self._gather(self._each(Stack.pullback_size, w))))

    def certified_gradient(self, thetas: FloatArray) -> tuple[FloatArray, FloatArray]:
        r"""Return gradients computed in extended precision, and bounds of their errors.

        Predictors and sums are accumulated in the longest floating-point type of the machine, of
        unit roundoff v (:math:`2^{-64}` on x86, :math:`2^{-53}` where there is none longer), with
        :math:`\gamma_n = nv/(1 - nv)`: predictors are off by :math:`\delta z_i \le \gamma_d\sum_j
        |x_{ij}||\theta_j|`, residuals by :math:`\max\varphi''\,\delta z_i` and their own rounding, and
        the sum over m points by another :math:`\gamma_m\sum_i c_i|w_i||x_{ij}|`. So many digits lost to
        cancellation, as with thousands of copies of a point, are not lost here. Users with more than
        2^22 numbers are summed in float64, ten times faster, with the same bounds for
        :math:`v = 2^{-53}`.

        Returns
        -------
        gradients : array, shape (N, p)
            Rounded to float64.
        bounds : array, shape (N,)
            Of the Euclidean distances to the exact gradients of the data as they are; ``inf`` where
            the loss overflows.
        """
        parts = self._each(lambda stack: stack.certified_gradient(thetas[stack.users]))
        gradients, bounds = zip(*parts, strict=True)
        return self._gather(gradients), self._gather(bounds)

    @cached_property
    def strong_convexity(self) -> FloatArray:
        """A guaranteed strong convexity of every loss, shape (N,)."""
        return self._gather(self._each(lambda stack: stack.strong_convexity))

    def strong_convexity_near(self, thetas: FloatArray, radius: FloatArray) -> FloatArray:
        """Return a guaranteed strong convexity of every loss in a ball around its model."""
        return self._gather(
            self._each(
                lambda stack: stack.strong_convexity_near(thetas[stack.users], radius[stack.users])
            )
        )

    @cached_property
    def natural_radius(self) -> FloatArray:
        """The radii within which no predictor moves by more than 1, shape (N,)."""
        return self._gather(self._each(lambda stack: stack.natural_radius))

    def gradient_lipschitz(self, thetas: FloatArray, radius: FloatArray) -> FloatArray:
        """Return a Lipschitz constant of every gradient in a ball around its model, shape (N,)."""
        return self._gather(
            self._each(
                lambda stack: stack.gradient_lipschitz(thetas[stack.users], radius[stack.users])
            )
        )

    @cached_property
    def smoothness(self) -> FloatArray:
        """A Lipschitz constant of every gradient everywhere, shape (N,); ``inf`` if there is none."""
        return self._gather(self._each(lambda stack: stack.smoothness))

    def pooled_strong_convexity(
        self, thetas: FloatArray | None = None, radius: float = math.inf
    ) -> float:
        """Return a guaranteed strong convexity of the sum of all losses at one common model.

        Everywhere, or in the ball of a ``radius`` around the model where ``thetas`` are given.
        """
        ridge = 2.0 * math.fsum(stack.nu.sum() for stack in self.stacks)
        if thetas is None:
            if any(not stack.curved for stack in self.stacks):
                return ridge
            grams = self._each(lambda stack: stack.least_gram.sum(axis=0))
        else:
            grams = self._each(
                lambda stack: stack.least_gram_near(
                    thetas[stack.users], np.full(len(stack.users), radius)
                ).sum(axis=0)
            )
        n_rows = sum(stack.n_rows * len(stack.users) for stack in self.stacks)
        least = least_eigenvalues(np.sum(grams, axis=0)[None], n_rows)[0]
        return float(max(ridge, (ridge + least) * (1.0 - 2.0 * UNIT)))

    def _each(self, work: Callable[..., Result], *arrays: list[FloatArray]) -> list[Result]:
        """Return the results of all stacks, each with its arrays, on all cores where that pays."""
        stacks = zip(self.stacks, *arrays, strict=True)
        return map_on_cores(lambda arguments: work(*arguments), stacks, self.size)

    def _gather(self, parts: Sequence[FloatArray]) -> FloatArray:
        """Return the results of the users, each in its place."""
        if len(parts) == 1:
            return parts[0]  # one stack holds its users in order
        result = np.empty((self.n_users, *parts[0].shape[1:]))
        for stack, part in zip(self.stacks, parts, strict=True):
            result[stack.users] = part
        return result


class LocalLoss:
    r"""The local loss of one user, :math:`L(\theta) = \nu|\theta|^2 + \sum_i c_i \varphi(z_i, y_i)`.

    Models have the shape that the loss gives them.

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
    def _stack(self) -> Stack:
        return Stack(self.loss, [0], [self.data], np.array([self.nu]))

    def value(self, theta: FloatArray) -> float:
        r"""Return :math:`L(\theta)`; ``inf`` where a loss overflows."""
        return float(self._stack.value(theta.reshape(1, -1))[0])

    def gradient(self, theta: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla L(\theta)`, shaped like theta."""
        gradient: FloatArray = self._stack.gradient(theta.reshape(1, -1)).reshape(theta.shape)
        return gradient

    def hessian(self, theta: FloatArray) -> FloatArray:
        r"""Return :math:`\nabla^2 L(\theta)`, shape (p, p)."""
        return np.asarray(self._stack.hessian(theta.reshape(1, -1))[0])

    def certified_gradient(self, theta: FloatArray) -> tuple[FloatArray, float]:
        r"""Return :math:`\nabla L(\theta)` in extended precision, and a bound of its error."""
        gradient, bound = self._stack.certified_gradient(theta.reshape(1, -1))
        return gradient.reshape(theta.shape), float(bound[0])

    @property
    def strong_convexity(self) -> float:
        r"""A guaranteed :math:`\mu` such that L is mu-strongly convex: :math:`2\nu + \lambda_{\min}`."""
        return float(self._stack.strong_convexity[0])

    def strong_convexity_near(self, theta: FloatArray, radius: float) -> float:
        r"""Return a guaranteed :math:`\mu` such that L is mu-strongly convex in the ball."""
        return float(self._stack.strong_convexity_near(theta.reshape(1, -1), np.array([radius]))[0])

    @property
    def natural_radius(self) -> float:
        """The radius within which no predictor moves by more than 1; ``inf`` without points."""
        return float(self._stack.natural_radius[0])

    def gradient_lipschitz(self, theta: FloatArray, radius: float) -> float:
        r"""Return a Lipschitz constant of the gradient on the ball of that radius around theta."""
        return float(self._stack.gradient_lipschitz(theta.reshape(1, -1), np.array([radius]))[0])


# -- the shape of the work ---------------------------------------------------------------------------


def _groups(datasets: Sequence[Dataset]) -> Iterator[list[int]]:
    """Yield the users of every stack: alike in labels and, up to an eighth, in their rows."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for n, data in enumerate(datasets):
        if is_sparse(data.x) or data.x.size > STACKED:
            yield [n]
        else:
            alike.setdefault((_rounded_up(data.n_rows), data.y.shape[1:]), []).append(n)
    for (n_rows, *_), users in alike.items():
        for part in blocks(len(users), n_rows * datasets[0].n_features):
            yield users[part]


def _rounded_up(n_rows: int) -> int:
    """Return the number of rows rounded up to four binary digits."""
    unit = 1 << max(0, n_rows.bit_length() - 4)
    return -(-n_rows // unit) * unit


def _stacked(datasets: Sequence[Dataset]) -> tuple[Inputs, FloatArray, FloatArray]:
    """Return inputs (B, m, d), or (m, d) if sparse, labels (B, m, ...) and multiplicities (B, m)."""
    first = datasets[0]
    if len(datasets) == 1:
        x = first.x if is_sparse(first.x) else first.x[None]
        return x, first.y[None], first.counts[None].astype(np.float64)
    n_rows = max(data.n_rows for data in datasets)
    if all(data.n_rows == n_rows for data in datasets):
        return (
            np.array([data.x for data in datasets]),
            np.array([data.y for data in datasets]),
            np.array([data.counts for data in datasets], dtype=np.float64),
        )
    x = np.zeros((len(datasets), n_rows, first.n_features))
    y = np.zeros((len(datasets), n_rows, *first.y.shape[1:]))
    counts = np.zeros((len(datasets), n_rows))
    for b, data in enumerate(datasets):
        x[b, : data.n_rows], counts[b, : data.n_rows] = data.x, data.counts
        y[b, : data.n_rows] = data.y
        y[b, data.n_rows :] = data.y[:1]  # a label that the loss takes
    return x, y, counts
