"""`Dataset`: the labelled points of one user, validated once and read-only afterwards."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from gplconvex._types import FloatArray, Inputs, IntArray
from gplconvex.errors import InvalidInputError
from gplconvex.files import write_text


class Dataset:
    r"""Labelled points :math:`(x_i, y_i)` with multiplicities :math:`c_i`.

    A row with count :math:`c` stands for :math:`c` identical points, in every sum of the package.

    Parameters
    ----------
    x : array_like or sparse array of scipy, shape (m, d)
        Inputs, one row a point, *without* a column of ones: an intercept belongs to the loss. Sparse
        inputs stay sparse, in CSR format, and pay where less than about a fifth is not zero.
    y : array_like, shape (m,) or (m, K)
        Labels, or one label distribution a row. Which values are allowed is the loss's to say.
    counts : array_like of int, shape (m,), optional
        Multiplicities, each at least 1. Default: every row once.

    Attributes
    ----------
    x, y : array of float64
        Read-only copies: the caller's arrays are neither kept nor changed. A sparse x is a
        ``scipy.sparse.csr_array`` without duplicates and without stored zeros.
    counts : array of int64, shape (m,)
        Read-only.

    Raises
    ------
    InvalidInputError
        For shapes that disagree, a number that is not finite (with its row), or a count that is
        not a positive integer (with its row).

    Examples
    --------
    >>> data = Dataset([[1.0, 2.0], [3.0, 4.0]], [1, -1], counts=[1, 500])
    >>> data.n_rows, data.n_points, data.n_features
    (2, 501, 2)
    """

    __slots__ = ("_digest", "counts", "x", "y")

    x: Inputs
    y: FloatArray
    counts: IntArray
    _digest: str

    def __init__(
        self, x: npt.ArrayLike, y: npt.ArrayLike, counts: npt.ArrayLike | None = None
    ) -> None:
        x = _csr(x) if is_sparse(x) else float_array("x", x)
        y = float_array("y", y)
        if x.ndim != 2:
            raise InvalidInputError(
                f"x must have shape (m, d), one row a point; got {x.shape}. "
                "For one feature pass x[:, None], for no points np.empty((0, d))"
            )
        if y.ndim not in (1, 2) or len(y) != x.shape[0] or y.shape[1:] == (0,):
            raise InvalidInputError(
                f"y must have shape ({x.shape[0]},) or ({x.shape[0]}, K) with K >= 1, one row for "
                f"each row of x; got {y.shape}"
            )
        _require_finite("x", x)
        _require_finite("y", y)
        object.__setattr__(self, "x", _frozen(x))
        object.__setattr__(self, "y", _frozen(y))
        object.__setattr__(self, "counts", _frozen(_validated_counts(counts, x.shape[0])))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Dataset is read-only: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Dataset is read-only: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by rebuilding, so that a copy is validated and read-only too."""
        return Dataset, (self.x, self.y, self.counts)

    def __repr__(self) -> str:
        return (
            f"Dataset(n_points={self.n_points}, n_rows={self.n_rows}, n_features={self.n_features})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        if is_sparse(self.x) != is_sparse(other.x):
            return False
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return self.x.shape == other.x.shape and all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # compared by content, so not hashable

    @property
    def n_rows(self) -> int:
        """Number of rows, that is of points before multiplicities."""
        return int(self.x.shape[0])

    @property
    def n_points(self) -> int:
        """Number of points, with multiplicities."""
        return int(self.counts.sum())

    @property
    def n_features(self) -> int:
        """Number of features (columns of x)."""
        return int(self.x.shape[1])

    @property
    def digest(self) -> str:
        """A hexadecimal fingerprint of the contents, by which certificates name their data."""
        if not hasattr(self, "_digest"):
            hasher = hashlib.blake2b(digest_size=16)
            shapes = [self.x.shape, *(array.shape for array in self._arrays())]
            hasher.update(repr(shapes if is_sparse(self.x) else shapes[1:]).encode())
            for array in self._arrays():
                hasher.update(array.data)
            object.__setattr__(self, "_digest", hasher.hexdigest())
        return self._digest

    def _arrays(self) -> list[npt.NDArray[Any]]:
        """Return the arrays that hold all numbers."""
        x = [self.x.data, self.x.indices, self.x.indptr] if is_sparse(self.x) else [self.x]
        return [*x, self.y, self.counts]

    @classmethod
    def empty(cls, n_features: int) -> Dataset:
        """Return the dataset of a user who owns nothing."""
        return cls(np.empty((0, n_features)), np.empty(0))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        feature_names: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a CSV file: the features, then the label(s), then ``count``.

        Numbers are written in full, so that `load` gives back the same bits. Sparse inputs are
        written out, and are dense when they come back.

        Parameters
        ----------
        path : path-like
            Where to write.
        feature_names : sequence of str, optional
            Names of the d features in the header; default ``x0, x1, ...``.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        InvalidInputError
            If the file exists and ``overwrite`` is false, or the names do not fit.
        """
        names = (
            [f"x{j}" for j in range(self.n_features)]
            if feature_names is None
            else list(feature_names)
        )
        labels = self.y[:, None] if self.y.ndim == 1 else self.y
        label_names = ["y"] if self.y.ndim == 1 else [f"y{k}" for k in range(labels.shape[1])]
        if len(names) != self.n_features or any(_is_reserved(name) for name in names):
            raise InvalidInputError(
                f"feature_names must be {self.n_features} names other than y, y0, y1, ... and "
                f"count; got {names}"
            )
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*names, *label_names, "count"])
        for i, (label, count) in enumerate(zip(labels, self.counts, strict=True)):
            features = self.x[[i]].toarray()[0] if is_sparse(self.x) else self.x[i]
            writer.writerow([*map(repr, features.tolist()), *map(repr, label.tolist()), int(count)])
        return write_text(path, stream.getvalue(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dataset:
        """Read what `save` wrote, bit for bit.

        Raises
        ------
        InvalidInputError
            If the header or a line is not one that `save` writes (with the line's number).
        """
        try:
            with open(path, newline="", encoding="utf-8") as stream:
                rows = list(csv.reader(stream))
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{str(path)!r} is not a text file: {error}") from error
        header = rows[0] if rows else []
        n_features = sum(not _is_reserved(name) for name in header)
        labels = header[n_features:-1]
        if (
            any(_is_reserved(name) for name in header[:n_features])
            or (labels != ["y"] and labels != [f"y{k}" for k in range(max(1, len(labels)))])
            or header[-1] != "count"
        ):
            raise InvalidInputError(
                f"{str(path)!r} is not a dataset file: the header must be features, then y (or "
                f"y0, y1, ...), then count; got {header}"
            )
        values = np.empty((len(rows) - 1, len(header) - 1))
        counts = np.empty(len(rows) - 1, dtype=np.int64)
        for number, row in enumerate(rows[1:]):
            where = f"{str(path)!r}, line {number + 2}"
            if len(row) != len(header):
                raise InvalidInputError(f"{where}: expected {len(header)} values, got {len(row)}")
            try:
                values[number], counts[number] = [float(cell) for cell in row[:-1]], int(row[-1])
            except (ValueError, OverflowError) as error:
                raise InvalidInputError(
                    f"{where} holds something that is no number: {error}"
                ) from error
        y = values[:, n_features:]
        return cls(values[:, :n_features], y[:, 0] if labels == ["y"] else y, counts)


def is_number(value: Any) -> bool:
    """Return whether a value is a real number that float64 can hold, and neither a bool nor text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return not isinstance(value, int) or abs(value) <= sys.float_info.max


def is_sparse(x: Any) -> bool:
    """Return whether an array is a sparse one of scipy."""
    return bool(sparse.issparse(x))


def _csr(x: Any) -> Any:
    """Return a CSR copy in float64: the same matrix is the same arrays, whatever it came as."""
    if x.ndim != 2 or x.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"a sparse x must be a matrix of real numbers; got shape {x.shape} of {x.dtype}"
        )
    csr = sparse.csr_array(x, dtype=np.float64, copy=True)
    csr.sum_duplicates()
    csr.eliminate_zeros()
    csr.sort_indices()
    return csr


def _is_reserved(name: str) -> bool:
    """Return whether a column of that name holds labels or counts."""
    return name in ("y", "count") or (name[:1] == "y" and name[1:].isdecimal())


def float_array(name: str, values: npt.ArrayLike) -> FloatArray:
    """Return a C-contiguous float64 copy, or raise `InvalidInputError` naming ``name``."""
    try:
        if np.ma.isMaskedArray(values):
            raise TypeError("a masked array: fill or drop the masked values")
        if hasattr(values, "toarray"):
            raise TypeError("a sparse array: pass its toarray()")
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"entries of type {array.dtype}, the first is {array.ravel()[0]!r}")
        if array.dtype.kind == "O":
            text = [entry for entry in array.ravel() if isinstance(entry, (str, bytes))]
            if text:
                raise TypeError(f"entries that are text, the first is {text[0]!r}")
        return np.array(array, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{name} must be a rectangular array of real numbers; got {type(values).__name__} "
            f"({error})"
        ) from error


def _require_finite(name: str, array: Any) -> None:
    finite = np.isfinite(array.data if is_sparse(array) else array)
    if not finite.all():
        first = np.argwhere(~finite)[0][0]
        if is_sparse(array):
            row = int(np.searchsorted(array.indptr, first, side="right") - 1)
            held = array.data[array.indptr[row] : array.indptr[row + 1]]
        else:
            row, held = int(first), array[first]
        raise InvalidInputError(
            f"{name} must be finite; row {row} holds {held.tolist()}. "
            "Remove the row or replace the missing value"
        )


def _validated_counts(counts: npt.ArrayLike | None, n_rows: int) -> IntArray:
    if counts is None:
        return np.ones(n_rows, dtype=np.int64)
    numbers = float_array("counts", counts)
    if numbers.shape != (n_rows,):
        raise InvalidInputError(
            f"counts must have shape ({n_rows},), one for each row of x; got {numbers.shape}"
        )
    # Beyond 2^53 neighbouring integers are no longer distinct float64 weights.
    bad = ~((numbers >= 1) & (numbers < 2.0**53) & (numbers == np.floor(numbers)))
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidInputError(
            f"counts must be integers from 1 to 2^53 - 1; row {row} has {numbers[row]}. "
            "Drop rows that should not count"
        )
    return numbers.astype(np.int64)


def frozen_array(name: str, values: npt.ArrayLike) -> FloatArray:
    """Return a read-only C-contiguous float64 copy, or raise `InvalidInputError`."""
    array = float_array(name, values)
    array.setflags(write=False)
    return array


def _frozen(array: Any) -> Any:
    parts = (array.data, array.indices, array.indptr) if is_sparse(array) else (array,)
    for part in parts:
        part.setflags(write=False)
    return array
