"""Benchmark problems of model-targeted poisoning, read from files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset, frozen_array
from gplconvex.domains import Box
from gplconvex.errors import InvalidInputError
from gplconvex.losses import Logistic
from gplconvex.problem import Problem
from gplconvex.regularizers import HardConsensus


@dataclass(frozen=True, eq=False)
class ModelTargeted:
    r"""A benchmark problem of poisoning: clean points, a wanted model, inputs in the unit box.

    Attributes
    ----------
    problem : Problem
        One honest user who owns the n clean points: logistic loss with intercept, hard consensus,
        ridge :math:`\nu = n\,\text{wd}/2`.
    target : array, shape (d + 1,)
        The model that poisoning shall lead to, the intercept last. Read-only, as are all arrays.
    domain : Box
        :math:`[0, 1]^d`, where the inputs of clean and of poisoned points lie.
    theta_clean : array, shape (d + 1,)
        The model of the clean points, as the file has it.
    x_test, y_test : arrays, shapes (m, d), (m,)
        Points to measure models with.
    wd : float
        The weight decay of the mean loss.
    """

    problem: Problem
    target: FloatArray
    domain: Box
    theta_clean: FloatArray
    x_test: FloatArray
    y_test: FloatArray
    wd: float


def model_targeted(path: str | os.PathLike[str]) -> ModelTargeted:
    r"""Read a benchmark problem of model-targeted poisoning from a NumPy archive.

    The model is trained on n clean and k poisoned points together, by

    .. math:: \min_\theta\; \sum_{i \le n + k} \log(1 + e^{-y_i (w^\top x_i + b)})
              + \frac{n\,\text{wd}}{2} |\theta|^2, \qquad \theta = (w, b):

    a sum over points, the intercept b under the ridge as well, whose size the clean points alone set.
    Then the attacker brings points and no ridge (``nu=0.0`` of `poison`). In the literature each
    poisoned point brings its share, n + k in place of n: ``nu=k * wd / 2``.

    Parameters
    ----------
    path : path-like
        An ``.npz`` file with these arrays; others are passed over.

        =================================  =============  ==========================
        name                               shape          holds
        =================================  =============  ==========================
        ``Xtr``, ``ytr``                   (n, d), (n,)   clean points
        ``Xte``, ``yte``                   (m, d), (m,)   test points
        ``theta_clean``, ``theta_target``  (d + 1,) each  models, the intercept last
        ``wd``                             ()             weight decay, positive
        =================================  =============  ==========================

        Inputs lie in [0, 1], labels are -1 and +1.

    Returns
    -------
    ModelTargeted

    Raises
    ------
    InvalidInputError
        If the file is no such archive, or an array is missing, has another shape, or holds other
        numbers.

    Notes
    -----
    Source of the setting: F. Suya, S. Mahloujifar, A. Suri, D. Evans, Y. Tian, *Model-Targeted
    Poisoning Attacks with Provable Convergence*, ICML 2021.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from gplconvex import poison
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "two_points.npz"
    ...     points = dict(Xtr=[[0.0], [1.0]], ytr=[-1, 1], Xte=[[0.9]], yte=[1])
    ...     np.savez(file, **points, theta_clean=[0.0, 0.0], theta_target=[-1.0, 0.5], wd=0.1)
    ...     benchmark = model_targeted(file)
    >>> attack = poison(benchmark.problem, benchmark.target, nu=0.0, domain=benchmark.domain)
    >>> attack.n_points, attack.lower_bound
    (6, 6)
    """
    stored = _stored(path, ("Xtr", "ytr", "Xte", "yte", "theta_clean", "theta_target", "wd"))
    name = repr(str(path))
    x, y = _labeled_points(name, stored, "Xtr", "ytr", None)
    n, d = x.shape
    x_test, y_test = _labeled_points(name, stored, "Xte", "yte", d)
    theta_clean, target = (
        _shaped(name, stored, key, (d + 1,)) for key in ("theta_clean", "theta_target")
    )
    wd = float(_shaped(name, stored, "wd", ()))
    if n == 0 or d == 0:
        raise InvalidInputError(
            f"{name}: Xtr must hold at least one point with at least one feature; got shape {x.shape}"
        )
    if not wd > 0.0:
        raise InvalidInputError(
            f"{name}: wd must be positive, so that every training has one optimum; got {wd:g}"
        )
    honest = Problem(Logistic(intercept=True), HardConsensus(), [Dataset(x, y)], nu=0.5 * n * wd)
    return ModelTargeted(honest, target, Box(0.0, 1.0), theta_clean, x_test, y_test, wd)


def _stored(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, npt.ArrayLike]:
    """Return arrays of an archive; no pickled objects, which may run code."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            held = list(archive)
            stored = {name: archive[name] for name in names if name in held}
    # A single array (.npy) is no context manager: a TypeError.
    except (zipfile.BadZipFile, ValueError, EOFError, TypeError) as error:
        raise InvalidInputError(
            f"{str(path)!r} must be a NumPy archive of plain numbers; got: {error}. Write it with "
            "np.savez(path, name=array, ...)"
        ) from error
    missing = [name for name in names if name not in held]
    if missing:
        raise InvalidInputError(
            f"{str(path)!r} must hold the arrays {list(names)}; it lacks {missing} and holds {held}. "
            "Write it with np.savez(path, name=array, ...)"
        )
    return stored


def _labeled_points(
    name: str, stored: Mapping[str, npt.ArrayLike], inputs: str, labels: str, d: int | None
) -> tuple[FloatArray, FloatArray]:
    """Return points with inputs in [0, 1] and labels -1 and +1."""
    x = _shaped(name, stored, inputs, (None, d))
    y = _shaped(name, stored, labels, (len(x),))
    outside = ((x < 0.0) | (x > 1.0)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        raise InvalidInputError(
            f"{name}: {inputs} must lie in [0, 1]; row {row} spans {x[row].min():g} to "
            f"{x[row].max():g}. Scale each feature by its range"
        )
    wrong = np.abs(y) != 1.0
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInputError(
            f"{name}: {labels} must be labels -1 and +1; entry {row} is {y[row]:g}. Map labels 0 and 1 "
            "with 2 * y - 1"
        )
    return x, y


def _shaped(
    name: str, stored: Mapping[str, npt.ArrayLike], key: str, shape: tuple[int | None, ...]
) -> FloatArray:
    """Return an array of finite numbers of that shape; None stands for any length."""
    array = frozen_array(f"{name}: {key}", stored[key])
    fits = array.ndim == len(shape) and all(
        wanted in (None, got) for wanted, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        lengths = ", ".join("any" if wanted is None else str(wanted) for wanted in shape)
        raise InvalidInputError(
            f"{name}: {key} must have shape ({lengths}{',' * (len(shape) == 1)}), which the other "
            f"arrays agree on; got {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InvalidInputError(
            f"{name}: {key} must be finite; got {array[~np.isfinite(array)][0]}. Drop or fill in what "
            "is missing"
        )
    return array
