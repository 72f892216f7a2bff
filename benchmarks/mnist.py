"""MNIST, dealt out to users."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

import gplconvex as gc

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Of the four files before compression."""


def mnist(
    folder: str | os.PathLike[str],
    n_users: int = 10,
    points: int = 6000,
    *,
    sorted_by_label: bool = False,
) -> list[gc.Dataset]:
    """Return the training images of MNIST, dealt out to users.

    Parameters
    ----------
    folder : path-like
        Where ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz`` lie.
    n_users, points : int
        The first ``n_users * points`` of the 60 000 images are taken, in their order, the first
        ``points`` for the first user.
    sorted_by_label : bool
        Sort the images that are taken by their digits first: with 10 users almost every user then has
        one digit only.

    Returns
    -------
    list of Dataset
        Inputs of 784 pixels in [0, 1], labels 0 to 9.

    Raises
    ------
    InvalidInputError
        If a file is not the published one (by sha256), or there are not that many images.
    """
    x, y = _images(Path(folder), "train")
    total = n_users * points
    if not (n_users >= 1 and points >= 1 and total <= len(y)):
        raise gc.InvalidInputError(
            f"n_users * points must be from 1 to {len(y)}; got {n_users} * {points}"
        )
    order = np.argsort(y[:total], kind="stable") if sorted_by_label else np.arange(total)
    return [gc.Dataset(x[rows] / 255.0, y[rows]) for rows in np.split(order, n_users)]


def _images(folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return images (m, 784) and labels (m,)."""
    images, labels = (_idx(folder, f"{part}-{name}") for name in ("images-idx3", "labels-idx1"))
    return images.reshape(len(labels), -1), labels


def _idx(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """Return the array of bytes in a compressed idx file: 4 bytes, then its lengths, then the data."""
    name = f"{name}-ubyte"
    raw = gzip.decompress((folder / f"{name}.gz").read_bytes())
    digest = hashlib.sha256(raw).hexdigest()
    if digest != MNIST_SHA256[name]:
        raise gc.InvalidInputError(
            f"{name}.gz in {str(folder)!r} is not the published file: its contents have sha256 "
            f"{digest}, expected {MNIST_SHA256[name]}"
        )
    dimensions = raw[3]
    lengths = np.frombuffer(raw, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(lengths)
