"""Labeled images: 8x8 digits that come with the package; MNIST, its writers, and Fashion-MNIST."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray, IntArray
from gplconvex.data import Dataset
from gplconvex.datasets.fetch import FASHION_MNIST, MNIST, QMNIST, Collection, contents
from gplconvex.errors import InvalidInputError

_DIGITS_TRAIN, _DIGITS_TEST = slice(1400), slice(1400, None)

_TEN = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_DIGIT, _WRITER = 0, 2  # columns of the labels of QMNIST

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Images:
    """Images of a few classes, in a training and a test part, to deal out to users.

    Attributes
    ----------
    name : str
        Of the collection.
    shape : (int, int)
        Rows and columns of an image; ``d`` is their product.
    classes : tuple of str
        What each label stands for.
    levels : int
        The largest value of a pixel; the background is 0.
    pixels : array of uint8, shape (m, d)
        Training images, one a row, in their published order. Read-only, as are all arrays.
    labels : array of int64, shape (m,)
        Their classes, from 0.
    test_pixels, test_labels : arrays of uint8 and int64, shapes (n, d), (n,)
        The test part.
    writers : array of int64, shape (m,), or None
        The number of each training image's writer, where that is known.

    Examples
    --------
    >>> images = digits()
    >>> images.x_test.shape, float(images.x_test.max())
    ((397, 64), 1.0)
    """

    name: str
    shape: tuple[int, int]
    classes: tuple[str, ...]
    levels: int
    pixels: npt.NDArray[np.uint8]
    labels: IntArray
    test_pixels: npt.NDArray[np.uint8]
    test_labels: IntArray
    writers: IntArray | None = None

    @property
    def x_test(self) -> FloatArray:
        """The test images as inputs in [0, 1], shape (n, d): ``test_pixels / levels``."""
        return self.test_pixels / self.levels

    @property
    def y_test(self) -> FloatArray:
        """The labels of the test images, shape (n,), as those of a `Dataset`."""
        return self.test_labels.astype(np.float64)

    def deal(
        self, n_users: int, points: int, *, sorted_by_label: bool = False
    ) -> tuple[Dataset, ...]:
        """Return the first training images, dealt out to users.

        Parameters
        ----------
        n_users, points : int
            The first ``n_users * points`` images are taken, in their order, the first ``points`` for
            the first user.
        sorted_by_label : bool
            Sort the images that are taken by their labels first: with as many users as classes
            almost every user then has one class only.

        Returns
        -------
        tuple of Dataset
            Inputs in [0, 1], ``pixels / levels``, with the labels.

        Raises
        ------
        InvalidInputError
            If there are not that many images.

        Examples
        --------
        >>> [user.n_points for user in digits().deal(10, 140)]
        [140, 140, 140, 140, 140, 140, 140, 140, 140, 140]
        """
        total = n_users * points
        if not (n_users >= 1 and points >= 1 and total <= len(self.labels)):
            raise InvalidInputError(
                f"n_users and points must be at least 1, and n_users * points at most the "
                f"{len(self.labels)} training images of {self.name}; got {n_users} * {points}"
            )
        order = np.arange(total)
        if sorted_by_label:
            order = np.argsort(self.labels[:total], kind="stable")
        return tuple(map(self._dataset, np.split(order, n_users)))

    def by_writer(self, least: int = 1) -> tuple[Dataset, ...]:
        """Return the training images of each writer: one user a writer, in order of their numbers.

        Parameters
        ----------
        least : int
            Writers of fewer images are left out.

        Returns
        -------
        tuple of Dataset
            Inputs in [0, 1] with the labels; a user's images are in their order.

        Raises
        ------
        InvalidInputError
            If the writers are not known, or none has that many images.

        Examples
        --------
        Two writers, of whom the first wrote two digits:

        >>> from dataclasses import replace
        >>> three = replace(digits(), pixels=digits().pixels[:3], labels=digits().labels[:3])
        >>> [user.y.tolist() for user in replace(three, writers=np.array([5, 9, 5])).by_writer()]
        [[0.0, 2.0], [1.0]]
        """
        if self.writers is None:
            raise InvalidInputError(
                f"by_writer needs images whose writers are known; those of {self.name} are not here. "
                "mnist(writers=True) reads them"
            )
        counts = np.unique(self.writers, return_counts=True)[1]
        if not 1 <= least <= counts.max():
            raise InvalidInputError(
                f"least must be from 1 to {counts.max()}, the most images that one writer has; got "
                f"{least}"
            )
        order = np.argsort(self.writers, kind="stable")
        users = np.split(order, np.cumsum(counts)[:-1])
        return tuple(self._dataset(rows) for rows in users if len(rows) >= least)

    def _dataset(self, rows: npt.NDArray[np.intp]) -> Dataset:
        return Dataset(self.pixels[rows] / self.levels, self.labels[rows])


def digits() -> Images:
    """Return 1797 handwritten digits of 8x8 pixels, which come with the package.

    They are the test part of a larger collection, by 13 people who are not told apart. A pixel counts
    the inked ones in a block of 4x4 of the scan: 0 to 16. In their published order, the first 1400
    are the training part here and the last 397 the test part; nothing else is done.

    Returns
    -------
    Images
        Built anew by each call.

    References
    ----------
    E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49. License: CC BY 4.0.

    Examples
    --------
    >>> images = digits()
    >>> images.pixels.shape, images.test_pixels.shape
    ((1400, 64), (397, 64))
    >>> for row in images.pixels[0].reshape(images.shape):
    ...     print("".join(".:+*#"[value // 4] for value in row))
    ..:*+...
    ..**+*:.
    ..*..++.
    .:*..++.
    .:+..++.
    .:+..*:.
    ..*:+*..
    ..:*+...
    >>> images.classes[images.labels[0]]
    '0'
    """
    file = resources.files("gplconvex") / "_embedded" / "digits.csv.gz"
    lines = gzip.decompress(file.read_bytes()).decode("ascii").splitlines()
    table = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    train, test = ((images[part], labels[part]) for part in (_DIGITS_TRAIN, _DIGITS_TEST))
    return _images("digits", _TEN, 16, train, test)


def mnist(*, writers: bool = False) -> Images:
    """Return MNIST: 70 000 handwritten digits of 28x28 pixels, by 539 people in the training part.

    The four files are read from the folder ``mnist`` of the cache, which the environment variable
    ``GPLCONVEX_DATA`` names, and fetched into it (12 MB) if they are not there; what they hold is
    checked by its sha256. 60 000 images are the training part, 10 000 the test part, as published.

    Parameters
    ----------
    writers : bool
        Read who wrote each training image, too, from the labels of QMNIST (folder ``qmnist``), which
        trace every image of MNIST back to the form it was cut from.

    Returns
    -------
    Images
        Read anew by each call.

    Raises
    ------
    InvalidInputError
        If a file that is there is not the published one.
    DownloadError
        If a file is not there and cannot be fetched.
    MissingDependencyError
        If pooch is not installed and is needed: to fetch, or to tell where the cache is.

    References
    ----------
    Y. LeCun, C. Cortes, C. Burges, *The MNIST database of handwritten digits*. License: CC BY-SA 3.0.

    C. Yadav, L. Bottou, *Cold Case: The Lost MNIST Digits*, NeurIPS 2019. License: BSD.

    Examples
    --------
    Nobody's digits are shared: each writer is a user.

    >>> images = mnist(writers=True)  # doctest: +SKIP
    >>> users = images.by_writer()  # doctest: +SKIP
    >>> len(users), sum(user.n_points for user in users)  # doctest: +SKIP
    (539, 60000)
    """
    images = _published("MNIST", MNIST, _TEN)
    if not writers:
        return images
    table = _idx(QMNIST, "qmnist-train-labels-idx2-int")
    if not np.array_equal(table[:, _DIGIT], images.labels):
        raise InvalidInputError(
            f"the labels of QMNIST must be those of MNIST, image by image; got {len(table)} beside "
            f"{len(images.labels)}, which do not agree"
        )
    return replace(images, writers=_frozen(table[:, _WRITER], np.int64))


def fashion_mnist() -> Images:
    """Return Fashion-MNIST: 70 000 pictures of clothes of 28x28 pixels, in ten classes.

    The four files are read from the folder ``fashion-mnist`` of the cache and fetched into it (31 MB)
    if they are not there, as those of `mnist` are; 60 000 images are the training part, 10 000 the
    test part, as published.

    Returns
    -------
    Images
        Read anew by each call.

    Raises
    ------
    InvalidInputError
        If a file that is there is not the published one.
    DownloadError
        If a file is not there and cannot be fetched.
    MissingDependencyError
        If pooch is not installed and is needed: to fetch, or to tell where the cache is.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, *Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms*, 2017, arXiv:1708.07747. License: MIT.

    Examples
    --------
    >>> images = fashion_mnist()  # doctest: +SKIP
    >>> images.classes[images.labels[0]]  # doctest: +SKIP
    'Ankle boot'
    """
    return _published("Fashion-MNIST", FASHION_MNIST, _CLOTHES)


def _published(name: str, collection: Collection, classes: tuple[str, ...]) -> Images:
    """Return the images of four idx files, in the order of the collection."""
    images, labels, test_images, test_labels = (_idx(collection, file) for file in collection.files)
    return _images(name, classes, 255, (images, labels), (test_images, test_labels))


def _idx(collection: Collection, name: str) -> npt.NDArray[Any]:
    """Return the array in an idx file: its type, its number of axes, their lengths, its entries."""
    raw = contents(collection, name)
    dtype, axes = {0x08: ">u1", 0x0C: ">i4"}[raw[2]], raw[3]
    lengths = np.frombuffer(raw, dtype=">i4", count=axes, offset=4)
    return np.frombuffer(raw, dtype=dtype, offset=4 + 4 * axes).reshape(lengths)


def _images(
    name: str,
    classes: tuple[str, ...],
    levels: int,
    train: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    test: tuple[npt.NDArray[Any], npt.NDArray[Any]],
) -> Images:
    """Return the images of two parts, each images (m, rows, columns) and labels (m,)."""
    pixels, test_pixels = (
        _frozen(images.reshape(len(images), -1), np.uint8) for images, _ in (train, test)
    )
    labels, test_labels = (_frozen(labels, np.int64) for _, labels in (train, test))
    rows, columns = train[0].shape[1:]
    return Images(name, (rows, columns), classes, levels, pixels, labels, test_pixels, test_labels)


def _frozen(array: npt.NDArray[Any], dtype: type[_Number]) -> npt.NDArray[_Number]:
    """Return a read-only array of that type."""
    frozen = np.ascontiguousarray(array, dtype=dtype)
    frozen.setflags(write=False)
    return frozen
