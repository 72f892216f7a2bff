"""Logistic points of one class in a bounded domain: what is shipped is of two kinds, seldom alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from tests.bounded_cases import LOGISTIC, check, one_class


@pytest.mark.parametrize("kind", ["box", "ball", "box in one dimension"])
@pytest.mark.parametrize("label", [-1.0, 1.0])
@given(data=st.data())
@settings(max_examples=10)
def test_labels_of_one_class(label: float, kind: str, data: st.DataObject) -> None:
    """Points of one class are replaced by hardly more."""
    k, seed = data.draw(st.integers(2, 8)), data.draw(st.integers(0, 2**20))
    theta, h, domain = one_class(kind, seed, k, label)
    found = check(LOGISTIC, theta, h, domain)
    assert found.lower_bound <= k
    assert found.n_points <= k + 1


@pytest.mark.parametrize("kind", ["box", "ball", "box in one dimension"])
def test_as_many_points_of_one_class_as_the_bound(kind: str) -> None:
    """They are of two kinds, in the room that the domain leaves: seldom the same on both sides."""
    for seed in range(70):
        theta, h, domain = one_class(kind, seed, 2 + seed % 7, (-1.0) ** (seed // 7))
        found = check(LOGISTIC, theta, h, domain)
        assert found.n_points == found.lower_bound


def test_points_of_one_class_in_a_box_that_leaves_more_room_on_one_side() -> None:
    theta = [-0.006826779865523179, 1.0461432923049026, 0.7415884212828484]
    h = np.array([0.45018669621684415, 0.2303897431509768, -1.072328824450187])
    box = gc.Box([-1.0, -0.5], [0.7, 1.0])
    found = check(LOGISTIC, np.array(theta), h, box)
    assert found.n_points == found.lower_bound == 3
    assert np.all(found.dataset.y == 1.0)


def test_large_margins_of_one_class_are_not_refused() -> None:
    """A residual of e^-9 costs 8000 points: what is left of the other class is no reason to refuse."""
    theta = np.array([1.0, 9.0])
    x = np.array([[-0.3], [0.1], [0.2], [0.35]])
    h = LOGISTIC.pullback(x, LOGISTIC.residual(LOGISTIC.predictor(x, theta), -np.ones(4)))
    found = check(LOGISTIC, theta, h, gc.Box(-0.4, 0.4))
    assert found.n_points == found.lower_bound == 4
