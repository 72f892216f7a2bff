"""Domains: what they hold, where they move other inputs, and what they refuse."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gplconvex as gc
from tests import strategies as cases

MIXED = gc.Product([(1, gc.Integer(18, 90)), (3, gc.OneHot()), (2, gc.Ball(2.0))])


def rows(domain: gc.Domain, *points: list[float]) -> list[bool]:
    return domain.contains(np.array(points, dtype=float)).tolist()


# -- membership --------------------------------------------------------------------------------------


def test_box_holds_its_bounds() -> None:
    box = gc.Box([0.0, -1.0], [1.0, 2.0])
    corners = itertools.product((0.0, 1.0), (-1.0, 2.0))
    assert all(rows(box, *map(list, corners)))
    assert rows(box, [0.5, 0.0], [1.0 + 1e-15, 0.0], [-5e-324, 0.0], [0.5, 2.1]) == [
        *(True, False, False, False)
    ]
    assert rows(gc.Box(0, 1), [0.0, 1.0, 0.5], [0.0, 1.0, 1.5]) == [True, False]
    assert rows(gc.Box([0, 0], 1), [1.0, 0.0], [1.0, 2.0]) == [True, False]


def test_bounds_may_be_infinite() -> None:
    half = gc.Box([-math.inf, 0.0], [3.0, math.inf])
    assert rows(half, [-1e300, 1e300], [3.1, 0.0], [0.0, -1e-9]) == [True, False, False]
    assert rows(gc.Box(-math.inf, math.inf), [1e300, -1e300]) == [True]
    assert rows(gc.NonNegative(), [0.0, 1e300], [0.0, -1e-300]) == [True, False]


def test_integer_holds_whole_numbers_only() -> None:
    dice = gc.Integer(1, 6)
    assert rows(dice, [1.0], [6.0], [3.5], [0.0], [7.0]) == [True, True, False, False, False]
    assert rows(gc.Integer(0, math.inf), [2.0**52], [0.5]) == [True, False]


def test_ball_holds_its_sphere() -> None:
    assert rows(gc.Ball(5.0), [3.0, 4.0], [3.0, 4.0 + 1e-14], [0.0, 0.0]) == [True, False, True]
    assert rows(gc.Ball(1), [-1.0], [1.1]) == [True, False]


def test_one_hot_holds_single_ones() -> None:
    inside = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-0.0, 1.0, 0.0]]
    outside = [[0.0] * 3, [1.0, 1.0, 0.0], [0.5, 0.5, 0.0], [1.0, -1.0, 1.0], [2.0, -1.0, 0.0]]
    assert rows(gc.OneHot(), *inside, *outside) == [True] * 3 + [False] * 5


def test_product_holds_rows_of_allowed_parts() -> None:
    good = [30.0, 0.0, 1.0, 0.0, 1.2, 1.6]
    assert rows(MIXED, good) == [True]
    for j, value in ((0, 30.5), (0, 17.0), (1, 1.0), (2, 0.9), (5, 1.7)):
        bad = [*good[:j], value, *good[j + 1 :]]
        assert rows(MIXED, bad) == [False]


@pytest.mark.parametrize(
    "domain",
    [gc.Unbounded(), gc.Box(-1, 1), gc.NonNegative(), gc.Integer(-1, 1), gc.Ball(1), gc.OneHot()],
    ids=repr,
)
def test_what_is_no_number_is_outside(domain: gc.Domain) -> None:
    assert rows(domain, [math.nan, 0.0], [math.inf, math.nan]) == [False, False]
    if not isinstance(domain, gc.NonNegative):
        assert rows(domain, [math.inf, 0.0], [0.0, -math.inf]) == [False, False]


def test_no_rows_are_no_trouble() -> None:
    for n_features, make in cases.DOMAINS.values():
        nothing = np.empty((0, n_features))
        assert make(labels=None).contains(nothing).shape == (0,)
        assert make(labels=None).project(nothing).shape == nothing.shape


def test_only_whole_numbers_and_categories_are_discrete() -> None:
    discrete = {"integer", "categories", "mixed"}
    for name, (_, make) in cases.DOMAINS.items():
        assert make(labels=None).discrete == (name in discrete)
    assert not gc.Unbounded().discrete
    assert MIXED.discrete
    assert not gc.Product([(1, gc.Box(0, 1)), (2, gc.Unbounded())]).discrete


# -- projection --------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(cases.DOMAINS)),
    st.integers(0, 2**32 - 1),
    cases.powers(1e-3, 1e6),
)
def test_projections_are_inside_and_nearest(name: str, seed: int, size: float) -> None:
    n_features, make = cases.DOMAINS[name]
    domain, rng = make(labels=None), np.random.default_rng(seed)
    x = size * rng.normal(size=(20, n_features))
    kept = x.copy()
    moved = domain.project(x)
    assert np.array_equal(x, kept)
    assert moved.shape == x.shape
    assert domain.contains(moved).all()
    np.testing.assert_allclose(domain.project(moved), moved, rtol=1e-14)
    # No point of the domain is nearer.
    others = cases.inputs(domain, n_features, 200, rng)
    assert domain.contains(others).all()
    distance = np.linalg.norm(x - moved, axis=1)
    rivals = np.linalg.norm(x[:, None] - others, axis=2).min(axis=1)
    assert np.all(distance <= rivals * (1.0 + 1e-12) + 1e-12)


def test_points_of_a_domain_stay_where_they_are() -> None:
    rng = np.random.default_rng(0)
    for n_features, make in cases.DOMAINS.values():
        x = cases.inputs(make(labels=None), n_features, 50, rng)
        assert np.array_equal(make(labels=None).project(x), x)
    anywhere = rng.normal(size=(5, 3)) * 1e9
    assert np.array_equal(gc.Unbounded().project(anywhere), anywhere)


def test_projections_by_hand() -> None:
    def moved(domain: gc.Domain, point: list[float]) -> list[float]:
        return domain.project(np.array([point]))[0].tolist()

    assert moved(gc.Box([0, 0], [1, 2]), [-3.0, 1.5]) == [0.0, 1.5]
    assert moved(gc.NonNegative(), [-3.0, 1e9]) == [0.0, 1e9]
    assert moved(gc.Integer(0, 9), [2.6, 11.0]) == [3.0, 9.0]
    assert moved(gc.Ball(5.0), [6.0, 8.0]) == pytest.approx([3.0, 4.0], rel=1e-14)
    assert moved(gc.OneHot(), [-2.0, -1.0, -3.0]) == [0.0, 1.0, 0.0]
    assert moved(MIXED, [90.2, 0.1, 0.2, 0.3, 0.0, 3.0]) == pytest.approx(
        [90.0, 0.0, 0.0, 1.0, 0.0, 2.0], rel=1e-14
    )


# -- labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(cases.DOMAINS))
def test_labels_are_allowed_between_their_bounds(name: str) -> None:
    n_features, make = cases.DOMAINS[name]
    x = cases.inputs(make(labels=None), n_features, 4, np.random.default_rng(0))
    data = gc.Dataset(x, [-1.0, 1.0, 1.5, -1.1])
    assert make(labels=None).allows(data).all()
    assert make(labels=(-1, 1)).allows(data).tolist() == [True, True, False, False]
    assert make(labels=(-1, math.inf)).allows(data).tolist() == [True, True, True, False]
    assert make(labels=(-1, 1)).labels == (-1.0, 1.0)
    outside = gc.Dataset(np.full((1, n_features), -99.5), [0.0])
    assert not make(labels=(-1, 1)).allows(outside).any()


@pytest.mark.parametrize(
    "pair",
    [(1, 0), (1, 1), (0,), (0, 1, 2), 3.0, "ab", (0, math.nan), (None, 1), ("0", "1"), {0, 1}],
)
def test_bad_labels_are_refused(pair: Any) -> None:
    for make in (gc.Unbounded, gc.NonNegative, gc.OneHot, lambda **k: gc.Box(0, 1, **k)):
        with pytest.raises(gc.InvalidInputError, match="labels must be two numbers"):
            make(labels=pair)


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "match"),
    [
        (1.0, 0.0, "low must be less than high; for feature 0 got 1 and 0"),
        (0.0, 0.0, "cannot vary"),
        ([0.0, 1.0], [1.0, 1.0], "for feature 1"),
        ([0.0, 0.0], [1.0] * 3, "of one length; got 2 and 3"),
        ([[0.0]], 1.0, "low must be one number, or one a feature"),
        (0.0, [[1.0]], "high must be one number, or one a feature"),
        (math.nan, 1.0, "low must be one number"),
        (0.0, math.nan, "high must be one number"),
        (0.0, 1e200, "within 1e"),
        (math.inf, math.inf, "less than high"),
        (-math.inf, -math.inf, "less than high"),
        ("a", 1.0, "Box: low"),
        (0.0, None, "Box: high"),
        (0.0, 1j, "Box: high"),
    ],
)
def test_bad_boxes_are_refused(low: Any, high: Any, match: str) -> None:
    with pytest.raises(gc.InvalidInputError, match=match):
        gc.Box(low, high)


@pytest.mark.parametrize(
    ("low", "high", "match"),
    [
        (0.5, 2, "Integer: low must be whole numbers"),
        (0, [1, 2.5], "Integer: high must be whole numbers"),
        (2, 1, "Integer: low must be less than high"),
    ],
)
def test_bad_integers_are_refused(low: Any, high: Any, match: str) -> None:
    with pytest.raises(gc.InvalidInputError, match=match):
        gc.Integer(low, high)


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, math.inf, 1e200, None, "1", [1.0], True])
def test_bad_radii_are_refused(radius: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="radius must be a positive number"):
        gc.Ball(radius)


BOX = gc.Box(0, 1)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [BOX],
        [(1, BOX), BOX],
        [(0, BOX)],
        [(-1, BOX)],
        [(1.0, BOX)],
        [(True, BOX)],
        [(1, "box")],
        [(1, BOX, 2)],
        [[1, BOX]],
        [(1, gc.Box(0, 1, labels=(0, 1)))],
    ],
)
def test_bad_products_are_refused(parts: Any) -> None:
    with pytest.raises(gc.InvalidInputError, match="Product: parts must"):
        gc.Product(parts)


def test_other_numbers_of_features_are_refused() -> None:
    x = np.zeros((2, 3))
    for call in ("contains", "project"):
        with pytest.raises(gc.InvalidInputError, match="bounds for 2 features, the inputs 3"):
            getattr(gc.Box([0, 0], 1), call)(x)
        with pytest.raises(gc.InvalidInputError, match="have 6 features, the inputs 3"):
            getattr(MIXED, call)(x)


def test_parts_of_a_box_keep_their_own_bounds() -> None:
    wrong = gc.Product([(1, gc.Box([0, 0], 1))])
    with pytest.raises(gc.InvalidInputError, match="bounds for 2 features, the inputs 1"):
        wrong.contains(np.zeros((1, 1)))


# -- objects -----------------------------------------------------------------------------------------


def test_bounds_cannot_be_changed() -> None:
    low = np.zeros(2)
    box = gc.Box(low, 1.0)
    low[0] = 9.0
    assert rows(box, [0.0, 0.0]) == [True]
    with pytest.raises(ValueError, match="read-only"):
        box.low[0] = 9.0
    for domain in (box, gc.Ball(1), gc.OneHot(), MIXED, gc.Unbounded(), gc.NonNegative()):
        with pytest.raises(AttributeError):
            domain.labels = (0.0, 1.0)


def test_representations_say_what_counts() -> None:
    assert repr(gc.Unbounded()) == "Unbounded()"
    assert repr(gc.NonNegative()) == "NonNegative()"
    assert repr(gc.NonNegative(labels=(0, 1))) == "NonNegative(labels=(0.0, 1.0))"
    assert repr(gc.Ball(2.5)) == "Ball(2.5)"
    assert repr(gc.OneHot(labels=(0, 1))) == "OneHot(labels=(0.0, 1.0))"
    assert repr(gc.Box(0, [1, 2])) == "Box(0., [1. 2.])"
    assert repr(gc.Integer(0, 9, labels=(0, 1))) == "Integer(0., 9., labels=(0.0, 1.0))"
    assert "..." in repr(gc.Box(np.zeros(100), 1.0))
    assert all(part in repr(MIXED) for part in ("Integer(18., 90.)", "OneHot()", "Ball(2)"))
