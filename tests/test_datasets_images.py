"""Digits, MNIST and Fashion-MNIST: what the files hold, and how it is dealt out to users."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
from importlib import resources
from pathlib import Path

import numpy as np
import pandas
import pytest

import gplconvex as gc
from gplconvex.datasets import Images, digits, fashion_mnist, images, mnist
from gplconvex.datasets.fetch import FASHION_MNIST, MNIST, QMNIST, Collection, Hashes

EMBEDDED = resources.files("gplconvex") / "_embedded" / "digits.csv.gz"


def arrays(found: Images) -> list[np.ndarray]:
    values = vars(found).values()
    return [value for value in values if isinstance(value, np.ndarray)]


# -- digits ------------------------------------------------------------------------------------------


def test_the_embedded_file_is_the_one_that_was_documented():
    assert hashlib.sha256(EMBEDDED.read_bytes()).hexdigest() == (
        "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
    )


def test_digits_are_those_of_the_file():
    found = digits()
    with EMBEDDED.open("rb") as file:
        table = pandas.read_csv(file, header=None, compression="gzip").to_numpy()
    assert table.shape == (1797, 65)
    np.testing.assert_array_equal(np.vstack([found.pixels, found.test_pixels]), table[:, :-1])
    np.testing.assert_array_equal(np.append(found.labels, found.test_labels), table[:, -1])


def test_digits_are_as_documented():
    found = digits()
    assert (found.name, found.shape, found.levels) == ("digits", (8, 8), 16)
    assert found.classes == tuple("0123456789")
    assert (found.pixels.min(), found.pixels.max()) == (0, 16)
    assert len(found.labels) == 1400
    np.testing.assert_array_equal(
        np.bincount(found.labels), [139, 143, 137, 144, 140, 141, 142, 140, 135, 139]
    )
    np.testing.assert_array_equal(
        np.bincount(found.test_labels), [39, 39, 40, 39, 41, 41, 39, 39, 39, 41]
    )
    assert found.writers is None


def test_the_test_part_as_inputs_and_labels():
    found = digits()
    assert found.x_test.dtype == found.y_test.dtype == np.float64
    assert (found.x_test.min(), found.x_test.max()) == (0, 1)
    np.testing.assert_array_equal(found.x_test * 16, found.test_pixels)
    np.testing.assert_array_equal(found.y_test, found.test_labels)


def test_nothing_can_be_changed():
    found = digits()
    assert len(arrays(found)) == 4
    for array in arrays(found):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.levels = 255


# -- to users ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_users", "points"), [(1, 1), (3, 7), (10, 140), (1400, 1)])
def test_images_are_dealt_out_in_their_order(n_users, points):
    found = digits()
    users = found.deal(n_users, points)
    assert [user.n_points for user in users] == [points] * n_users
    x, y = (np.concatenate([getattr(user, name) for user in users]) for name in "xy")
    np.testing.assert_array_equal(x * 16, found.pixels[: n_users * points])
    np.testing.assert_array_equal(y, found.labels[: n_users * points])


def test_sorted_by_label_deals_out_the_same_images():
    found = digits()
    users = found.deal(10, 30, sorted_by_label=True)
    y = np.concatenate([user.y for user in users])
    assert (np.diff(y) >= 0).all()
    # Few labels a user, where images in their order give every user nearly all.
    assert max(len(np.unique(user.y)) for user in users) <= 3
    assert min(len(np.unique(user.y)) for user in found.deal(10, 30)) >= 9
    rows = np.hstack([np.concatenate([user.x for user in users]) * 16, y[:, None]])
    taken = np.hstack([found.pixels[:300], found.labels[:300, None]])
    np.testing.assert_array_equal(*(sorted(map(tuple, table)) for table in (rows, taken)))
    # Images of one label stay in their order.
    np.testing.assert_array_equal(users[0].x[0] * 16, found.pixels[np.argmin(found.labels)])


@pytest.mark.parametrize(("n_users", "points"), [(0, 5), (5, 0), (-1, -5), (1401, 1), (10, 141)])
def test_more_images_than_there_are_cannot_be_dealt_out(n_users, points):
    with pytest.raises(gc.InvalidInputError, match=rf"1400 .* digits; got {n_users} \* {points}"):
        digits().deal(n_users, points)


def test_one_user_a_writer():
    writers = np.random.default_rng(0).choice([2, 3, 11, 400], size=1400, p=[0.1, 0.2, 0.3, 0.4])
    found = dataclasses.replace(digits(), writers=writers)
    users = found.by_writer()
    assert len(users) == 4
    for writer, user in zip([2, 3, 11, 400], users, strict=True):
        np.testing.assert_array_equal(user.x * 16, found.pixels[writers == writer])
        np.testing.assert_array_equal(user.y, found.labels[writers == writer])
    numbers = [user.n_points for user in users]
    assert numbers == sorted(set(numbers))
    assert found.by_writer(numbers[2]) == users[2:]
    assert found.by_writer(numbers[2] + 1) == users[3:]
    for least in (0, numbers[3] + 1):
        with pytest.raises(gc.InvalidInputError, match=f"from 1 to {numbers[3]}.*; got {least}$"):
            found.by_writer(least)


def test_writers_that_are_not_known_are_asked_for():
    with pytest.raises(gc.InvalidInputError, match=r"digits .* mnist\(writers=True\)"):
        digits().by_writer()


# -- from files --------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """The file format: two zeros, type, number of axes; their lengths; the entries, big-endian."""
    code = {"u1": 0x08, "i4": 0x0C}[array.dtype.str[1:]]
    lengths = np.array(array.shape, dtype=">i4").tobytes()
    return (
        bytes([0, 0, code, array.ndim])
        + lengths
        + array.astype(f">{array.dtype.str[1:]}").tobytes()
    )


class Cache:
    """Made-up files in a folder that stands for the cache, published under the names of real ones."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.setenv("GPLCONVEX_DATA", str(folder))

    def publish(self, name: str, real: Collection, contents: list[np.ndarray]) -> None:
        (self.folder / real.folder).mkdir()
        hashes = {}
        for file, array in zip(real.files, contents, strict=True):
            raw = idx(array)
            hashes[file] = Hashes(hashlib.sha256(raw).hexdigest(), "0" * 64)
            (self.folder / real.folder / f"{file}.gz").write_bytes(gzip.compress(raw))
        self.monkeypatch.setattr(images, name, Collection(real.folder, (), hashes))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    return Cache(tmp_path, monkeypatch)


def made_up() -> list[np.ndarray]:
    """Images of 3x2 pixels and labels, of a training and of a test part."""
    rng = np.random.default_rng(0)
    train, test = (rng.integers(256, size=(m, 3, 2), dtype=np.uint8) for m in (12, 5))
    labels, test_labels = (rng.integers(10, size=m, dtype=np.uint8) for m in (12, 5))
    return [train, labels, test, test_labels]


def traced(labels: np.ndarray, writers: list[int]) -> np.ndarray:
    """A file of eight columns, of which all but two are noise."""
    table = np.random.default_rng(1).integers(10**6, size=(len(labels), 8), dtype=np.int32)
    table[:, 0], table[:, 2] = labels, writers
    return table


@pytest.mark.parametrize(
    ("load", "name", "real"),
    [(mnist, "MNIST", MNIST), (fashion_mnist, "FASHION_MNIST", FASHION_MNIST)],
)
def test_images_are_those_of_the_files(cache, load, name, real):
    train, labels, test, test_labels = made_up()
    cache.publish(name, real, [train, labels, test, test_labels])
    found = load()
    assert found.shape == (3, 2)
    assert found.levels == 255
    assert len(found.classes) == 10
    assert found.writers is None
    np.testing.assert_array_equal(found.pixels.reshape(train.shape), train)
    np.testing.assert_array_equal(found.test_pixels.reshape(test.shape), test)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.test_labels, test_labels)
    assert found.pixels.dtype == found.test_pixels.dtype == np.uint8
    assert found.labels.dtype == found.test_labels.dtype == np.int64
    assert not any(array.flags.writeable for array in arrays(found))
    (user,) = found.deal(1, 12)
    np.testing.assert_array_equal(user.x, train.reshape(12, 6) / 255)


def test_writers_are_matched_to_images(cache):
    contents = made_up()
    writers = [7, 7, 2100, 3, 3, 3, 7, 2100, 7, 7, 3, 0]
    cache.publish("MNIST", MNIST, contents)
    cache.publish("QMNIST", QMNIST, [traced(contents[1], writers)])
    found = mnist(writers=True)
    np.testing.assert_array_equal(found.writers, writers)
    assert found.writers.dtype == np.int64
    assert not found.writers.flags.writeable
    assert [user.n_points for user in found.by_writer()] == [1, 4, 5, 2]
    assert [user.n_points for user in found.by_writer(least=3)] == [4, 5]


@pytest.mark.parametrize("change", ["a digit", "a row less"])
def test_writers_of_other_images_are_refused(cache, change):
    contents = made_up()
    table = traced(contents[1], [1] * 12)
    if change == "a digit":
        table[11, 0] = (table[11, 0] + 1) % 10
    else:
        table = table[:-1]
    cache.publish("MNIST", MNIST, contents)
    cache.publish("QMNIST", QMNIST, [table])
    mnist()
    with pytest.raises(gc.InvalidInputError, match="labels of QMNIST must be those of MNIST"):
        mnist(writers=True)


def test_what_is_made_up_is_not_the_published_file(cache, monkeypatch):
    cache.publish("MNIST", MNIST, made_up())
    monkeypatch.setattr(images, "MNIST", MNIST)
    expected = MNIST.files["train-images-idx3-ubyte"].contents
    with pytest.raises(gc.InvalidInputError, match=f"not the published file.*{expected}"):
        mnist()


# -- the real files ----------------------------------------------------------------------------------


def require(*collections: Collection) -> None:
    """Skip where files are missing: no test downloads them."""
    folder = os.environ.get("GPLCONVEX_DATA")
    for collection in collections:
        for file in collection.files:
            if not folder or not (Path(folder) / collection.folder / f"{file}.gz").exists():
                pytest.skip(f"{collection.folder} is not in the folder GPLCONVEX_DATA")


def test_real_mnist():
    require(MNIST)
    found = mnist()
    assert found.shape == (28, 28)
    assert (found.pixels.shape, found.test_pixels.shape) == ((60_000, 784), (10_000, 784))
    assert (found.pixels.max(), found.test_pixels.max()) == (255, 255)
    np.testing.assert_array_equal(
        np.bincount(found.labels), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    )
    np.testing.assert_array_equal(
        np.bincount(found.test_labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )


def test_real_writers():
    require(MNIST, QMNIST)
    found = mnist(writers=True)
    numbers, counts = np.unique(found.writers, return_counts=True)
    assert (len(numbers), counts.sum(), counts.min(), counts.max()) == (539, 60_000, 19, 131)
    employees = numbers < 2100
    assert (employees.sum(), counts[employees].sum()) == (289, 30_950)
    assert [user.n_points for user in found.by_writer(125)] == counts[counts >= 125].tolist()


def test_real_fashion_mnist():
    require(FASHION_MNIST)
    found = fashion_mnist()
    assert found.shape == (28, 28)
    assert (found.pixels.shape, found.test_pixels.shape) == ((60_000, 784), (10_000, 784))
    np.testing.assert_array_equal(np.bincount(found.labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(found.test_labels), [1000] * 10)
    assert [found.classes[label] for label in found.labels[:3]] == [
        "Ankle boot",
        "T-shirt/top",
        "T-shirt/top",
    ]
