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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import is_sparse
from gplconvex.local_losses import LocalLosses, Stack
from gplconvex.parallel import map_on_cores

Single = npt.NDArray[np.float32]
_Group = tuple[slice, npt.NDArray[np.intp], npt.NDArray[np.floating]]
Mask = npt.NDArray[np.bool_]

DENSE_FEATURES = 2500
"""Blocks of more rows than this are replaced by their diagonals: factoring takes seconds a block."""

DENSE_NUMBERS = 2**28
"""So are blocks that together hold more numbers than this: 1 GiB in single precision."""

SMALL = 48
"""Order up to which a matrix is factored by LAPACK."""

SAMPLED = 0.2
"""Rows whose weight is below this part of the largest are sampled, with probability proportional."""

FEW = 1000
"""So many rows a user cost little, and none of them is left out because of their number."""

NEGLIGIBLE = 0.01
"""A feature whose entry on the diagonal is below this part of the shift is left to the diagonal."""

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
        self._coupling = coupling
        stack = losses.stacks[0]
        self._has_gauge = stack.loss.has_gauge
        d, self._columns = stack.matrix_shape
        dense = d <= DENSE_FEATURES and losses.n_users * self._columns * d * d <= DENSE_NUMBERS
        kind = _Factored if dense else _Diagonal
        seeds = rng.integers(2**63, size=len(losses.stacks))

        def build(
            stack: Stack, z: FloatArray, seed: int
        ) -> tuple[_Blocks | None, npt.NDArray[np.floating]]:
            users = stack.users
            blocks = kind.gram(stack, z, seed)
            total = blocks[0] if len(blocks) == 1 else blocks.sum(axis=0, dtype=np.float64)
            free = ~coupling.tied[users]
            ridges = _raised(coupling.ridge[users[free]], coupling.floor, blocks[free])
            shifts = ridges + coupling.slopes[users[free]]
            return (kind(blocks[free], shifts) if free.any() else None), total

        built = map_on_cores(
            lambda arguments: build(*arguments),
            zip(losses.stacks, z, seeds, strict=True),
            losses.size,
        )
        self._users = [stack.users[~coupling.tied[stack.users]] for stack in losses.stacks]
        self._blocks = [blocks for blocks, _ in built]
        mean = np.zeros(np.broadcast_shapes(*(total.shape for _, total in built)))
        for _, total in built:
            mean += total
        mean /= losses.n_users
        ridge = float(_raised(coupling.ridge.mean(keepdims=True), coupling.floor, mean[None])[0])
        self._identity, terms = (1.0, []) if coupling.pinned else coupling.schur_terms()
        largest = float(mean.max(initial=0.0))
        self._means = []
        for weight, shift in terms:
            # The one ridge may be far smaller than those beside r: single precision must resolve it.
            single = ridge + shift >= 10.0 * SINGLE_RIDGE * largest
            block = mean.astype(np.float32) if single else mean
            self._means.append((weight, kind(block[None], np.array([ridge + shift]))))

    def solve(self, b: FloatArray) -> FloatArray:
        """Return the solution for a right side (N + 1, p), rho's row first; rows of tied users are 0."""
        models = b.reshape(len(b), -1, self._columns)
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
            for weight, block in self._means:
                step = step + weight * block.solve(rho[None])[0]
            found[0] = step
            self._eliminate(right[1:] + slopes * found[0], own)
        return size * found.astype(np.float64)

    @property
    def _free(self) -> Mask:
        return ~self._coupling.tied[:, None, None]

    def _eliminate(self, right: Single, solved: Single) -> None:
        """Put the solutions of all free users' blocks in their places."""

        def solve(users: npt.NDArray[np.int64], blocks: _Blocks | None) -> None:
            if blocks is not None:
                solved[users] = blocks.solve(right[users])

        map_on_cores(
            lambda pair: solve(*pair),
            zip(self._users, self._blocks, strict=True),
            sum(blocks.size for blocks in self._blocks if blocks is not None),
        )

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


def _raised(ridge: FloatArray, floor: float, blocks: npt.NDArray[np.floating]) -> FloatArray:
    """Return ridges (B,) raised to the floor, or to the mean diagonal where that is less."""
    if blocks.ndim == 4:
        blocks = np.diagonal(blocks, axis1=-2, axis2=-1)
    return np.asarray(np.maximum(ridge, np.minimum(floor, blocks.mean(axis=(1, 2)))))


class _Blocks:
    """Positive definite blocks, B users by K columns."""

    size: int

    def solve(self, b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the solutions for right sides (B, K, d)."""
        raise NotImplementedError


class _Factored(_Blocks):
    """Blocks as matrices, (B, K, d, d) or (B, 1, d, d) where all columns have the same.

    Features of negligible weight are many in images and words, and do not enter the factors: which
    those are is decided for each block of a user alone in its stack, and for all blocks of a stack.
    """

    def __init__(self, blocks: npt.NDArray[np.floating], shifts: FloatArray) -> None:
        entries = np.diagonal(blocks, axis1=-2, axis2=-1)
        least = SINGLE_RIDGE if blocks.dtype == np.float32 else DOUBLE_RIDGE
        shift = np.maximum(shifts[:, None, None], least * entries.max(axis=-1, keepdims=True))
        self._diagonal = (entries + shift).astype(blocks.dtype)
        weighty = entries > NEGLIGIBLE * shift

        def factor(part: slice) -> _Group:
            features = np.flatnonzero(weighty[:, part].any(axis=(0, 1)))
            matrix = blocks[:, part][:, :, features[:, None], features]
            own = np.arange(len(features))
            matrix[..., own, own] = self._diagonal[:, part][..., features]
            return part, features, inverse_factor(matrix)

        alone = len(blocks) == 1 and blocks.shape[1] > 1
        parts = [slice(k, k + 1) for k in range(blocks.shape[1])] if alone else [slice(None)]
        self._groups = map_on_cores(factor, parts, blocks.size)
        self.size = sum(inverse.size for _, _, inverse in self._groups)

    @staticmethod
    def gram(stack: Stack, z: FloatArray, seed: int) -> Single:
        """Return the blocks of a stack without their ridges."""
        weights = stack.weights_at(z)
        same = weights.shape[1] > 1 and bool(np.all(weights == weights[:, :1]))
        columns = 1 if same else weights.shape[1]
        rng = np.random.default_rng(seed)
        return np.stack([_gram(stack, weights[:, k], rng) for k in range(columns)], axis=1)

    def solve(self, b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        found = np.asarray(b / self._diagonal)
        for part, features, inverse in self._groups:
            own = inverse @ b[:, part][:, :, features, None]
            found[:, part, features] = (np.swapaxes(inverse, -1, -2) @ own)[..., 0]
        return found


class _Diagonal(_Blocks):
    """The diagonals of the blocks, (B, K, d)."""

    def __init__(self, blocks: npt.NDArray[np.floating], shifts: FloatArray) -> None:
        self._diagonal = blocks + shifts[:, None, None]
        self.size = self._diagonal.size

    @staticmethod
    def gram(stack: Stack, z: FloatArray, seed: int) -> FloatArray:
        """Return the diagonals of a stack without their ridges."""
        return stack.gram_diagonal(stack.weights_at(z))

    def solve(self, b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        return np.asarray(b / self._diagonal)


def _gram(stack: Stack, weights: FloatArray, rng: np.random.Generator) -> Single:
    """Return the weighted Gram matrices (B, d, d) of a stack, of rows sampled where weights are small.

    A row is kept with probability q = min(1, w / threshold) and then weighs w / q.
    """
    if len(weights) > 1:
        rows = stack.design(slice(None)).astype(np.float32)
        rows *= np.sqrt(weights)[..., None]
        return np.asarray(np.swapaxes(rows, 1, 2) @ rows)
    weights = weights[0]
    # The threshold is such that, on average, no more rows are kept than there are features, if many.
    threshold, most = SAMPLED * float(weights.max(initial=0.0)), max(FEW, stack.matrix_shape[0])
    for _ in range(4):
        threshold = max(threshold, np.minimum(weights, threshold).sum() / most)
    kept = np.flatnonzero(rng.random(len(weights)) * threshold < weights)
    roots = np.sqrt(np.maximum(weights[kept], threshold))
    rows = stack.design(kept)
    if is_sparse(rows):
        rows = rows.multiply(roots[:, None]).tocsr()
        return np.asarray((rows.T @ rows).toarray(), dtype=np.float32)[None]
    scaled = rows[0].astype(np.float32)
    scaled *= roots[:, None].astype(np.float32)
    return np.asarray(scaled.T @ scaled)[None]


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
