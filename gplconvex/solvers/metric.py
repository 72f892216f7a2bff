r"""An arrow-shaped approximation of the Hessian of F, factored: the first metric of L-BFGS.

F couples each personal model to rho only. Between user n and the rest the curvature of r is taken as
:math:`a_n I`, :math:`a_n = r'(|u_n|)/|u_n|`, and of the Hessian of :math:`L_n` the blocks
:math:`K_n = \sum_i c_i\varphi''_{kk}\,x_i x_i^\top + 2\nu_n I` on the diagonal are kept, one for each
column k of theta (a column of its own for every class). Eliminating
:math:`d\theta_n = (K_n + a_n I)^{-1}(b_n + a_n\,d\rho)` leaves

.. math:: S\,d\rho = b_0 + \sum_n a_n (K_n + a_n I)^{-1} b_n, \qquad
          S = cI + \sum_n a_n (K_n + a_n I)^{-1} K_n + \sum_{\text{tied}} K_n,

where the models of tied users are rho itself, and c is the curvature of an attacker's term. In S every
:math:`K_n` is replaced by the mean block K, every :math:`a_n` by their mean a. With N users, t of them
tied, S is then a rational function of K, and its inverse needs no difference of near matrices:

.. math:: S^{-1} = w_0 I + \sum_j w_j (K + s_j I)^{-1}, \qquad
          t\,s^2 - (Na + c)\,s + ca = 0,\quad w_j \ge 0.

Where the loss has a gauge (softmax), blocks act on the vectors whose columns sum to zero, and the
rest, where the Hessian is the ridge alone, is solved exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import is_sparse
from gplconvex.local_losses import LocalLosses, Stack
from gplconvex.parallel import map_on_cores

Single = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

DENSE_FEATURES = 2500
"""Blocks of more rows than this are replaced by their diagonals: factoring takes seconds a block."""

DENSE_NUMBERS = 2**28
"""So are blocks that together hold more numbers than this: 1 GiB in single precision."""

SMALL = 48
"""Order up to which a matrix is factored by LAPACK."""

SAMPLED = 0.2
"""Rows whose weight is below this part of the largest are sampled, with probability proportional."""

FEW = 2000
"""So many rows a user cost little, and none of them is left out because of their number."""

NEGLIGIBLE = 0.01
"""A feature whose entry on the diagonal is below this part of the shift is left to the diagonal."""

ALIKE = 1e-6
"""Relative difference of weights that is rounding of theirs, not information about the blocks."""

SINGLE_RIDGE = 4e-7
"""Added to diagonal blocks, relative to the largest entry: single precision resolves no less."""


@dataclass(frozen=True)
class Coupling:
    r"""What the metric must know beside the blocks.

    Attributes
    ----------
    slopes : array, shape (N,)
        The curvatures a of r; not used where tied.
    tied : array of bool, shape (N,)
        Users whose model is rho.
    pinned : bool
        Whether rho does not move.
    server : float
        The curvature c of the attacker's term.
    ridge : array, shape (N,)
        :math:`2\nu`.
    floor : float
        What the ridge of a block is raised to, though not above its mean diagonal.
    """

    slopes: FloatArray
    tied: Mask
    pinned: bool
    server: float
    ridge: FloatArray
    floor: float

    def in_units(self, unit: float) -> Coupling:
        """Return the same, with curvatures in other units."""
        return replace(
            self,
            slopes=self.slopes / unit,
            server=self.server / unit,
            ridge=self.ridge / unit,
            floor=self.floor / unit,
        )

    def schur_terms(self) -> tuple[float, list[tuple[float, float]]]:
        """Return the weight of I and pairs (weight, shift) of the others in the inverse of S."""
        t, free = int(self.tied.sum()), ~self.tied
        total, c = float(self.slopes[free].sum()), self.server
        mean = total / free.sum() if free.any() else 0.0
        linear = total + t * mean + c
        if t == 0:
            shift = c * mean / linear
            return 1.0 / linear, [((mean - shift) / linear, shift)]
        root = math.sqrt(max(0.0, linear * linear - 4.0 * t * c * mean))
        far = 0.5 * (linear + root) / t
        if far == 0.0:
            return 0.0, [(1.0 / t, 0.0)]
        near = c * mean / (t * far)
        if far == near:
            return 0.0, [(1.0 / t, near)]
        spread = t * (far - near)
        return 0.0, [((mean - near) / spread, near), ((far - mean) / spread, far)]


DOUBLE_RIDGE = 1e-14
"""The same in double precision."""


@dataclass(frozen=True)
class _Part:
    """Some columns of theta, of the users of one stack: one, or all where their blocks are the same."""

    stack: Stack
    columns: slice
    weights: FloatArray
    shifts: FloatArray
    seed: int


class ArrowMetric:
    """The metric at one point.

    Parameters
    ----------
    losses : LocalLosses
    z : list of arrays
        The predictors at the point.
    coupling : Coupling
    rng : Generator
        Samples rows.
    """

    def __init__(
        self,
        losses: LocalLosses,
        z: list[FloatArray],
        coupling: Coupling,
        rng: np.random.Generator,
    ) -> None:
        loss = losses.stacks[0].loss
        self._has_gauge = loss.has_gauge
        d, self._columns = losses.stacks[0].matrix_shape
        dense = d <= DENSE_FEATURES and losses.n_users * self._columns * d * d <= DENSE_NUMBERS
        weights = losses.weights_at(z)
        mean_diagonal = np.zeros(losses.n_users)
        for stack, own in zip(losses.stacks, weights, strict=True):
            mean_diagonal[stack.users] = stack.gram_trace(own).mean(axis=1) / d
        # In units of the largest curvature, so that squares stay within single precision.
        largest = max(coupling.server, mean_diagonal.max(), coupling.slopes.max())
        self._unit = float(max(largest, coupling.ridge.max())) or 1.0
        coupling = self._coupling = coupling.in_units(self._unit)
        weights = [own / self._unit for own in weights]
        mean_diagonal /= self._unit
        ridges = np.maximum(coupling.ridge, np.minimum(coupling.floor, mean_diagonal))
        parts = [
            _Part(
                stack,
                columns,
                own[:, columns.start],
                (ridges + coupling.slopes)[stack.users],
                int(rng.integers(2**63)),
            )
            for stack, own in zip(losses.stacks, weights, strict=True)
            for columns in _alike(own)
        ]

        def build(part: _Part) -> tuple[_Gram, _Blocks | None]:
            gram, free = _gram(part, dense), ~coupling.tied[part.stack.users]
            own = _Gram(gram.diagonal[free], gram.features, gram.matrices[free])
            return gram, _Blocks(own, part.shifts[free]) if free.any() else None

        built = map_on_cores(build, parts, losses.size)
        self._parts = [
            (part.stack.users[~coupling.tied[part.stack.users]], part.columns, blocks)
            for part, (_, blocks) in zip(parts, built, strict=True)
            if blocks is not None
        ]
        self._identity, terms = (1.0, []) if coupling.pinned else coupling.schur_terms()
        same = all(part.columns == slice(0, self._columns) for part in parts)
        pooled = [slice(0, self._columns)] if same else _single(self._columns)
        ridge = float(ridges.mean())

        def pool(columns: slice) -> list[tuple[slice, float, _Blocks]]:
            grams = [
                gram
                for part, (gram, _) in zip(parts, built, strict=True)
                if part.columns.start <= columns.start < part.columns.stop
            ]
            found = []
            for weight, shift in terms:
                mean = _mean(grams, losses.n_users, ridge + shift)
                found.append((columns, weight, _Blocks(mean, np.array([ridge + shift]))))
            return found

        self._means = [term for found in map_on_cores(pool, pooled, losses.size) for term in found]

    def solve(self, b: FloatArray) -> FloatArray:
        """Return the solution for a right side (N + 1, p), rho's row first; rows of tied users are 0."""
        models = b.reshape(len(b), -1, self._columns) / self._unit
        if not self._has_gauge:
            return self._solve_blocks(np.swapaxes(models, 1, 2)).swapaxes(1, 2).reshape(b.shape)
        level = models.mean(axis=2)
        rest = self._solve_blocks(np.swapaxes(models - level[:, :, None], 1, 2)).swapaxes(1, 2)
        rest = rest - rest.mean(axis=2, keepdims=True) + self._solve_gauge(level)[:, :, None]
        return np.asarray(rest.reshape(b.shape))

    def _solve_blocks(self, b: FloatArray) -> FloatArray:
        """Solve for columns (N + 1, K, d)."""
        size = float(np.max(np.abs(b), initial=0.0)) or 1.0
        right = np.ascontiguousarray(b / size, dtype=np.float32)
        slopes = self._coupling.slopes.astype(np.float32)[:, None, None]
        found = np.zeros_like(right)
        own, rho = found[1:], right[0].astype(np.float64)
        self._eliminate(right[1:], own)
        if not self._coupling.pinned:
            rho = rho + np.sum(slopes * own, axis=0, dtype=np.float64, where=self._free)
            step = self._identity * rho
            for columns, weight, block in self._means:
                step[columns] += weight * block.solve(rho[None, columns])[0]
            found[0] = step
            self._eliminate(right[1:] + slopes * found[0], own)
        return size * found.astype(np.float64)

    @property
    def _free(self) -> Mask:
        return ~self._coupling.tied[:, None, None]

    def _eliminate(self, right: Single, solved: Single) -> None:
        """Put the solutions of all free users' blocks in their places."""

        def solve(users: npt.NDArray[np.int64], columns: slice, blocks: _Blocks) -> None:
            solved[users, columns] = blocks.solve(right[users, columns])

        size = sum(blocks.size for _, _, blocks in self._parts)
        map_on_cores(lambda part: solve(*part), self._parts, size)

    def _solve_gauge(self, b: FloatArray) -> FloatArray:
        """Solve where the Hessian of each loss is its ridge, for vectors (N + 1, d)."""
        known, free = self._coupling, ~self._coupling.tied
        a, ridge = known.slopes, known.ridge
        own = a + ridge
        schur = known.server + float(np.sum((a * ridge / own)[free]) + np.sum(ridge[known.tied]))
        found = np.zeros_like(b)
        if not known.pinned and schur > 0.0:
            found[0] = (b[0] + ((a / own)[free, None] * b[1:][free]).sum(axis=0)) / schur
        found[1:][free] = (b[1:][free] + a[free, None] * found[0]) / own[free, None]
        return found


def _alike(weights: FloatArray) -> list[slice]:
    """Return the columns whose blocks are the same: all of them, or each for itself."""
    columns = weights.shape[1]
    if columns == 1 or np.ptp(weights, axis=1).max(initial=0.0) <= ALIKE * weights.max(initial=0.0):
        return [slice(0, columns)]
    return _single(columns)


def _single(columns: int) -> list[slice]:
    return [slice(k, k + 1) for k in range(columns)]


@dataclass(frozen=True)
class _Gram:
    """Weighted Gram matrices of B users: the diagonals (B, d), and the matrices (B, f, f) of f features.

    Other features have negligible weight beside the ridge, as many do in images and words: only the
    diagonal is kept of them. So it is of all where blocks are too large.
    """

    diagonal: npt.NDArray[np.floating]
    features: npt.NDArray[np.intp]
    matrices: npt.NDArray[np.floating]


class _Blocks:
    """Gram matrices and ridges, factored."""

    def __init__(self, gram: _Gram, shifts: FloatArray) -> None:
        self._features, matrices = gram.features, gram.matrices.copy()
        self._diagonal = (gram.diagonal + _resolved(gram, shifts)).astype(matrices.dtype)
        own = np.arange(len(self._features))
        matrices[:, own, own] = self._diagonal[:, self._features]
        self._inverse = inverse_factor(matrices)

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return self._inverse.size + self._diagonal.size

    def solve(self, b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the solutions for right sides (B, K, d), K for each block."""
        found = np.asarray(b / self._diagonal[:, None])
        right = np.swapaxes(b[:, :, self._features], 1, 2).astype(self._inverse.dtype)
        solved = np.swapaxes(self._inverse, 1, 2) @ (self._inverse @ right)
        found[:, :, self._features] = np.swapaxes(solved, 1, 2)
        return found


def _resolved(gram: _Gram, shifts: FloatArray) -> FloatArray:
    """Return ridges (B, 1) raised to what the precision of the matrices resolves."""
    least = SINGLE_RIDGE if gram.matrices.dtype == np.float32 else DOUBLE_RIDGE
    return np.asarray(
        np.maximum(shifts[:, None], least * gram.diagonal.max(axis=-1, keepdims=True))
    )


def _weighty(diagonal: npt.NDArray[np.floating], shifts: FloatArray) -> npt.NDArray[np.intp]:
    """Return the features that are not negligible beside the ridges of all users (B,)."""
    return np.flatnonzero((diagonal > NEGLIGIBLE * shifts[:, None]).any(axis=0))


def _gram(part: _Part, dense: bool) -> _Gram:
    """Return Gram matrices of the rows of a stack, sampled where weights are small.

    A row is kept with probability q = min(1, w / threshold) and then weighs w / q.
    """
    stack, weights = part.stack, part.weights
    if not dense:
        nothing = np.zeros((len(weights), 0, 0), dtype=np.float32)
        return _Gram(stack.gram_diagonal(weights), np.zeros(0, dtype=np.intp), nothing)
    kept: Any = slice(None)
    if len(weights) == 1:
        # The threshold is such that, on average, no more rows are kept than features, if many.
        threshold, most = SAMPLED * float(weights.max(initial=0.0)), max(FEW, stack.matrix_shape[0])
        for _ in range(4):
            threshold = max(threshold, float(np.minimum(weights, threshold).sum()) / most)
        rng = np.random.default_rng(part.seed)
        kept = np.flatnonzero(rng.random(weights.shape[1]) * threshold < weights[0])
        weights = np.maximum(weights[:, kept], threshold)
    rows, roots = stack.design(kept), np.sqrt(weights)
    if is_sparse(rows):
        rows = rows.multiply(roots[0, :, None]).tocsc()
        diagonal = np.asarray(rows.power(2).sum(axis=0))[None]
        features = _weighty(diagonal, part.shifts)
        rows = rows[:, features]
        return _Gram(diagonal, features, (rows.T @ rows).toarray().astype(np.float32)[None])
    # In these units no row times its root is large, whatever either is.
    rows = (rows * roots.astype(rows.dtype)[..., None]).astype(np.float32, copy=False)
    diagonal = np.einsum("bmd,bmd->bd", rows, rows)
    features = _weighty(diagonal, part.shifts)
    if len(features) < rows.shape[-1]:
        rows = rows[..., features]
    if len(rows) == 1:  # of one matrix and its transpose BLAS computes one half
        return _Gram(diagonal, features, (rows[0].T @ rows[0])[None])
    return _Gram(diagonal, features, np.swapaxes(rows, 1, 2) @ rows)


def _mean(grams: list[_Gram], n_users: int, shift: float) -> _Gram:
    """Return the mean of Gram matrices of all users."""
    diagonal = np.sum([gram.diagonal.sum(axis=0, dtype=np.float64) for gram in grams], axis=0)
    diagonal = diagonal / n_users
    matrix = np.zeros((len(diagonal), len(diagonal)))
    for gram in grams:
        total = gram.matrices[0] if len(gram.matrices) == 1 else gram.matrices.sum(axis=0)
        matrix[gram.features[:, None], gram.features] += total
    known = np.unique(np.concatenate([gram.features for gram in grams]))
    features = np.intersect1d(known, _weighty(diagonal[None], np.array([shift])))
    matrix = matrix[features[:, None], features] / n_users
    # The one ridge may be far smaller than those beside r: too small for single precision.
    if shift >= 10.0 * SINGLE_RIDGE * diagonal.max(initial=0.0):
        matrix = matrix.astype(np.float32)
    return _Gram(diagonal[None], features, matrix[None])


def inverse_factor(matrices: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    r"""Return lower triangular V with :math:`V^\top V = A^{-1}` for positive definite A (..., n, n).

    From :math:`A = \begin{pmatrix} A_{11} & A_{21}^\top \\ A_{21} & A_{22}\end{pmatrix}`:
    :math:`V_{11}` from :math:`A_{11}`, :math:`L_{21} = A_{21}V_{11}^\top`, :math:`V_{22}` from
    :math:`A_{22} - L_{21}L_{21}^\top`, and :math:`V_{21} = -V_{22}L_{21}V_{11}`. Nearly all of it are
    products of matrices, which run on all cores where LAPACK through scipy holds a lock.
    """
    n = matrices.shape[-1]
    if n <= SMALL:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(matrices)))
    h = n // 2
    factor = np.zeros_like(matrices)
    first = inverse_factor(matrices[..., :h, :h])
    lower = matrices[..., h:, :h] @ np.swapaxes(first, -1, -2)
    second = inverse_factor(matrices[..., h:, h:] - lower @ np.swapaxes(lower, -1, -2))
    factor[..., :h, :h], factor[..., h:, h:] = first, second
    factor[..., h:, :h] = -second @ (lower @ first)
    return factor
