"""`Dataset` and the files it writes: what is stored is what was given, or nothing is."""

from __future__ import annotations

import copy
import os
import pickle
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import gplconvex as gc
from gplconvex import files
from gplconvex.errors import InvalidInputError

FINITE = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
EXTREMES = st.sampled_from(
    [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 1 / 3, 1e16]
)


@st.composite
def datasets(draw, min_rows=0):
    """Any dataset: no rows or no features, plain labels or distributions, counts up to 2^53 - 1."""
    rows, columns = draw(st.integers(min_rows, 5)), draw(st.integers(0, 4))
    kinds = draw(st.sampled_from([(rows,), (rows, 1), (rows, 3)]))
    numbers = st.one_of(FINITE, EXTREMES)
    return gc.Dataset(
        draw(arrays.arrays(np.float64, (rows, columns), elements=numbers)),
        draw(arrays.arrays(np.float64, kinds, elements=numbers)),
        draw(arrays.arrays(np.int64, rows, elements=st.integers(1, 2**53 - 1))),
    )


def same_bits(one: gc.Dataset, two: gc.Dataset) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in ((one.x, two.x), (one.y, two.y), (one.counts, two.counts))
    )


@pytest.fixture
def data():
    return gc.Dataset([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0], counts=[1, 500])


# -- what is stored ----------------------------------------------------------------------------------


def test_a_dataset_copies_and_never_changes_what_it_was_given():
    x, y, counts = np.ones((2, 1)), np.zeros(2), np.array([1, 2])
    data = gc.Dataset(x, y, counts)
    x[0], y[0], counts[0] = 7.0, 7.0, 7
    assert data == gc.Dataset(np.ones((2, 1)), np.zeros(2), [1, 2])
    assert x.flags.writeable
    assert y.flags.writeable
    assert counts.flags.writeable


@pytest.mark.parametrize("name", ["x", "y", "counts"])
def test_nothing_of_a_dataset_can_be_changed(data, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(data, name)[0] = 5
    with pytest.raises(ValueError, match="WRITEABLE"):
        getattr(data, name)[:].setflags(write=True)
    with pytest.raises(AttributeError, match=f"cannot set '{name}'"):
        setattr(data, name, np.zeros(2))
    with pytest.raises(AttributeError, match=f"cannot delete '{name}'"):
        delattr(data, name)
    with pytest.raises(AttributeError, match="read-only"):
        data.another = 1


def test_every_row_counts_once_unless_told_otherwise(data):
    assert gc.Dataset([[1.0], [1.0]], [0.0, 0.0]).counts.tolist() == [1, 1]
    assert (data.n_rows, data.n_points, data.n_features) == (2, 501, 2)
    assert "501" in repr(data)


def test_counts_are_exact_up_to_the_largest():
    most = 2**53 - 1
    data = gc.Dataset(np.zeros((3, 1)), np.zeros(3), [most] * 3)
    assert data.counts.tolist() == [most] * 3
    assert data.n_points == 3 * most


def test_the_empty_dataset_has_features_and_no_points():
    empty = gc.Dataset.empty(3)
    assert (empty.n_rows, empty.n_points, empty.n_features) == (0, 0, 3)
    assert empty == gc.Dataset(np.empty((0, 3)), [])
    assert empty.digest != gc.Dataset.empty(4).digest


def test_any_array_of_real_numbers_is_taken():
    expected = gc.Dataset([[1.0, 2.0], [3.0, 4.0]], [1.0, 0.0])
    rows = np.array([[1, 3], [2, 4]], order="F").T
    for x in (rows, rows.astype(np.float32), rows.tolist(), rows.astype(np.longdouble)):
        assert gc.Dataset(x, [True, False]) == expected
    assert gc.Dataset(rows, [1, 0]).x.flags.c_contiguous


# -- equality, digest, pickle ------------------------------------------------------------------------


def test_equality_is_that_of_contents(data):
    assert data == copy.deepcopy(data) == gc.Dataset(data.x, data.y, data.counts)
    assert data != gc.Dataset(data.x, data.y)
    assert data != gc.Dataset(data.x, -data.y, data.counts)
    assert data != "a dataset"
    with pytest.raises(TypeError, match="unhashable"):
        hash(data)


@given(datasets())
def test_the_digest_is_one_of_the_bits(data):
    again = gc.Dataset(data.x.copy(), data.y.copy(), data.counts.copy())
    assert data.digest == again.digest == data.digest


@given(datasets(min_rows=1), st.data())
def test_the_digest_sees_one_changed_bit(data, draw):
    row = draw.draw(st.integers(0, data.n_rows - 1))
    y, counts = data.y.copy(), data.counts.copy()
    y.reshape(-1).view(np.uint64)[row] ^= np.uint64(1)
    counts[row] ^= 2 if counts[row] != 2 else 1
    assert gc.Dataset(data.x, y, data.counts).digest != data.digest
    assert gc.Dataset(data.x, data.y, counts).digest != data.digest


def test_the_digest_sees_shapes():
    one = gc.Dataset(np.zeros((1, 2)), np.zeros((1, 1)))
    two = gc.Dataset(np.zeros((1, 1)), np.zeros((1, 2)))
    assert one.digest != two.digest


@given(
    datasets(), st.sampled_from([copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
)
def test_pickles_and_copies_are_equal_and_read_only(data, duplicate):
    again = duplicate(data)
    assert same_bits(data, again)
    assert again.digest == data.digest
    assert not any(array.flags.writeable for array in (again.x, again.y, again.counts))


# -- saving and loading ------------------------------------------------------------------------------


@given(datasets())
def test_saving_and_loading_keeps_every_bit(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("data") / "points.csv"
    assert data.save(path) == path
    again = gc.Dataset.load(path)
    assert same_bits(data, again)
    assert again.digest == data.digest


def test_the_file_is_a_table_that_anybody_can_read(tmp_path, data):
    data.save(tmp_path / "a.csv", feature_names=["age", 'the "other", one'])
    lines = (tmp_path / "a.csv").read_bytes().decode().split("\n")
    assert lines[0] == 'age,"the ""other"", one",y,count'
    assert lines[1:] == ["1.0,2.0,1.0,1", "3.0,4.0,-1.0,500", ""]
    assert gc.Dataset.load(tmp_path / "a.csv") == data


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], ["y", "b"], ["a", "count"], []], ids=str)
def test_feature_names_must_fit(tmp_path, data, names):
    with pytest.raises(InvalidInputError, match="feature_names must be 2 names"):
        data.save(tmp_path / "a.csv", feature_names=names)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "labels"), [("y0", [1.0, 2.0]), ("y", [[0.5, 0.5], [1.0, 0.0]])], ids=str
)
def test_no_name_of_a_feature_is_taken_for_a_label(tmp_path, name, labels):
    data = gc.Dataset([[1.0], [3.0]], labels)
    try:
        data.save(tmp_path / "a.csv", feature_names=[name])
    except InvalidInputError:
        return
    assert gc.Dataset.load(tmp_path / "a.csv") == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a dataset file"),
        ("x0,x1,count\n1,2,3\n", "not a dataset file"),
        ("x0,y\n1,2\n", "not a dataset file"),
        ("x0,y,count\n1,2,3\n1,2\n", "line 3: expected 3 values, got 2"),
        ("x0,y,count\n1,2,3\n\n", "line 3: expected 3 values, got 0"),
        ("x0,y,count\n1,two,3\n", "no number: .*two"),
        ("x0,y,count\n1,2,3.0\n", "no number: .*3.0"),
        ("x0,y,count\n1,2,0\n", "row 0 has 0"),
        ("x0,y,count\n1,2,1\n1,nan,1\n", "y must be finite; row 1"),
        ("x0,y,count\n1,2,1\n1e999,1,1\n", "x must be finite; row 1"),
    ],
)
def test_a_file_that_save_did_not_write_is_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        gc.Dataset.load(tmp_path / "a.csv")


@pytest.mark.parametrize("header", ["x0,y,z", "x0,y0,y2", "y,x0,x1", "x0,y0,extra"])
def test_no_column_is_dropped_in_silence(tmp_path, header):
    (tmp_path / "a.csv").write_text(f"{header},count\n1,2,3,4\n")
    with pytest.raises(InvalidInputError, match="not a dataset file"):
        gc.Dataset.load(tmp_path / "a.csv")


def test_loading_a_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        gc.Dataset.load(tmp_path / "nowhere.csv")


# -- atomicity ---------------------------------------------------------------------------------------


def test_an_existing_file_is_refused_and_left_as_it_was(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_text("precious")
    with pytest.raises(InvalidInputError, match=r"a\.csv' exists and is not overwritten"):
        data.save(path)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_overwriting_must_be_asked_for(tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_text("worthless")
    data.save(path, overwrite=True)
    assert gc.Dataset.load(path) == data
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("step", "overwrite"),
    [(s, o) for s in ("fsync", "chmod") for o in (False, True)]
    + [("link", False), ("replace", True)],
)
def test_a_failure_leaves_no_file_behind(tmp_path, monkeypatch, step, overwrite):
    path = tmp_path / "a.csv"
    if overwrite:
        path.write_text("old")

    def fail(*_args, **_kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        files.write_text(path, "new", overwrite=overwrite)
    assert [file.read_text() for file in tmp_path.iterdir()] == (["old"] if overwrite else [])


def test_of_two_writers_one_wins_and_the_other_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    link = os.link

    def slow_link(source, target):
        path.write_text("the other one")  # written between the test for absence and the link
        link(source, target)

    monkeypatch.setattr(os, "link", slow_link)
    with pytest.raises(InvalidInputError, match="exists and is not overwritten"):
        files.write_text(path, "mine")
    assert path.read_text() == "the other one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"folder .*nowhere' does not exist"):
        files.write_text(tmp_path / "nowhere" / "a.csv", "text")


def test_an_output_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "a", b"\x00\xff")
        mask = os.umask(0o027)
    finally:
        os.umask(before)
    assert mask == 0o027
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"


def test_text_is_utf8(tmp_path):
    files.write_text(tmp_path / "a", "θ♠")
    assert (tmp_path / "a").read_bytes() == "θ♠".encode()


def test_require_absent_returns_the_path(tmp_path):
    assert files.require_absent(str(tmp_path / "a")) == tmp_path / "a"
    with pytest.raises(InvalidInputError, match="exists"):
        files.require_absent(tmp_path)


# -- bad input ---------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0, 2.0]), r"x must have shape \(m, d\).*got \(2,\)"),
        ((np.zeros((1, 2, 3)), [1.0]), r"x must have shape .*got \(1, 2, 3\)"),
        ((5.0, [1.0]), r"x must have shape .*got \(\)"),
        (([[1.0], [2.0]], [1.0]), r"y must have shape \(2,\) or \(2, K\).*got \(1,\)"),
        (([[1.0]], 1.0), r"y must have shape .*got \(\)"),
        (([[1.0]], np.zeros((1, 2, 2))), r"y must have shape .*got \(1, 2, 2\)"),
        (([[1.0, 2.0], [3.0]], [1.0, 2.0]), "x must be a rectangular array of real numbers"),
        (([["one"]], [1.0]), "x must be a rectangular array of real numbers.*one"),
        (([[1j]], [1.0]), "x must be .*complex"),
        (([[1.0]], [1j]), "y must be .*complex"),
        (([[1.0]], [object()]), "y must be a rectangular array"),
        (([[0.0, 1.0], [2.0, NAN]], [1.0, 1.0]), r"x must be finite; row 1 holds \[2.0, nan\]"),
        (([[INF, 1.0], [2.0, NAN]], [1.0, 1.0]), r"x must be finite; row 0 holds \[inf, 1.0\]"),
        (([[None]], [1.0]), "x must be finite; row 0"),
        ((np.zeros((3, 1)), [1.0, 1.0, -INF]), "y must be finite; row 2 holds -inf"),
        ((np.zeros((2, 1)), [[0, 1], [NAN, 1]]), r"y must be finite; row 1 holds \[nan, 1.0\]"),
        ((np.zeros((2, 1)), [0, 0], [1]), r"counts must have shape \(2,\).*got \(1,\)"),
        ((np.zeros((2, 1)), [0, 0], 3), r"counts must have shape \(2,\).*got \(\)"),
        ((np.zeros((2, 1)), [0, 0], [1, 0]), "counts must be integers.*row 1 has 0"),
        ((np.zeros((2, 1)), [0, 0], [-1, 1]), "counts must be integers.*row 0 has -1"),
        ((np.zeros((2, 1)), [0, 0], [1, 1.5]), "counts must be integers.*row 1 has 1.5"),
        ((np.zeros((2, 1)), [0, 0], [NAN, 1]), "counts must be integers.*row 0 has nan"),
        ((np.zeros((2, 1)), [0, 0], [1, INF]), "counts must be integers.*row 1 has inf"),
        ((np.zeros((2, 1)), [0, 0], [1, 2.0**53]), "counts must be integers.*row 1 has 9007"),
        ((np.zeros((2, 1)), [0, 0], ["a", 1]), "counts must be a rectangular array"),
    ],
)
def test_a_wrong_argument_is_named_with_its_row_or_shape(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        gc.Dataset(*arguments)
