"""Published files: read from a cache and fetched when they are not there, each checked by its sha256."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gplconvex.errors import DownloadError, InvalidInputError, MissingDependencyError

VARIABLE = "GPLCONVEX_DATA"
"""The environment variable that names the cache folder."""


class Hashes(NamedTuple):
    """The sha256 of a file and of the ``.gz`` it was published as."""

    contents: str
    archive: str


@dataclass(frozen=True)
class Collection:
    """Files that were published together, each as ``<name>.gz``.

    Attributes
    ----------
    folder : str
        Where they lie below the cache folder.
    mirrors : tuple of str
        Addresses that a file's name is put after, in the order in which they are tried.
    files : mapping from str to Hashes
        The names without ``.gz``.
    """

    folder: str
    mirrors: tuple[str, ...]
    files: Mapping[str, Hashes]


MNIST = Collection(
    "mnist",
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    {
        "train-images-idx3-ubyte": Hashes(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte": Hashes(
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte": Hashes(
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte": Hashes(
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
)

FASHION_MNIST = Collection(
    "fashion-mnist",
    (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        "train-images-idx3-ubyte": Hashes(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train-labels-idx1-ubyte": Hashes(
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "t10k-images-idx3-ubyte": Hashes(
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "t10k-labels-idx1-ubyte": Hashes(
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
)

QMNIST = Collection(
    "qmnist",
    (
        "https://raw.githubusercontent.com/facebookresearch/qmnist/master/",
        "https://github.com/facebookresearch/qmnist/raw/master/",
    ),
    {
        "qmnist-train-labels-idx2-int": Hashes(
            "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5",
            "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
        ),
    },
)


def contents(collection: Collection, name: str) -> bytes:
    """Return the contents of a file, which is fetched if it is not in the cache.

    A file that is there is never changed. It is known by the sha256 of its contents, not of its
    ``.gz``: it may have been compressed anew.

    Raises
    ------
    InvalidInputError
        If the file that is there is not the published one.
    DownloadError
        If it is not there, and no mirror gives it.
    MissingDependencyError
        If pooch is not installed and is needed: to fetch, or to tell where the cache is.
    """
    path = cache_folder() / collection.folder / f"{name}.gz"
    if not path.exists():
        _fetch(collection, name, path)
    way_out = f"Delete it, so that it is fetched anew, or set {VARIABLE} to another folder"
    try:
        raw = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInputError(
            f"{str(path)!r} is damaged: it must be a gzip archive; got: {error}. {way_out}"
        ) from error
    expected, got = collection.files[name].contents, hashlib.sha256(raw).hexdigest()
    if got != expected:
        raise InvalidInputError(
            f"{str(path)!r} is not the published file: its contents must have sha256 {expected}; "
            f"got {got}. {way_out}"
        )
    return raw


def cache_folder() -> Path:
    """Return the folder that ``GPLCONVEX_DATA`` names, else the one for caches on this system."""
    folder = os.environ.get(VARIABLE)
    if folder:
        return Path(folder)
    try:
        import pooch
    except ImportError as error:
        raise MissingDependencyError(
            "where data are kept on this system pooch knows: install it with pip install "
            f'"gplconvex[data]", or set {VARIABLE} to a folder that holds the data'
        ) from error
    return Path(pooch.os_cache("gplconvex"))


def _fetch(collection: Collection, name: str, path: Path) -> None:
    """Write the file as published to the path: all of it, or nothing."""
    try:
        import pooch
    except ImportError as error:
        raise MissingDependencyError(
            f"{str(path)!r} is not there, and to fetch it needs pooch: install it with pip install "
            f'"gplconvex[data]", or download it by hand from {collection.mirrors[0]}{path.name}'
        ) from error
    known_hash = f"sha256:{collection.files[name].archive}"
    failures = []
    logger = pooch.get_logger()
    logger.addFilter(_unheard)  # it would announce each download on stderr
    try:
        for mirror in collection.mirrors:
            url = f"{mirror}{path.name}"
            try:
                pooch.retrieve(url, known_hash, fname=path.name, path=path.parent)
                return
            # No answer, a refusal, a folder that cannot be written; another file (ValueError).
            except (OSError, ValueError) as error:
                failures.append(f"  {url}: {error}")
    finally:
        logger.removeFilter(_unheard)
    raise DownloadError(
        "\n".join(
            [
                f"{path.name} is not in {str(path.parent)!r}, and could not be fetched:",
                *failures,
                f"Download it by hand to {str(path)!r}, or set {VARIABLE} to a folder that holds "
                f"{collection.folder}/{path.name}, or that can be written",
            ]
        ),
        path=path,
    )


def _unheard(_: object) -> bool:
    return False
