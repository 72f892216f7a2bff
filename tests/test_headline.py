"""The headline benchmark runs at a small size, and tells exact attacks from trained ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.results import Steps

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def headline(monkeypatch):
    """The module, as the command finds it and what stands beside it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    import headline

    yield headline
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def federation():
    """Three classes: points for ten take seconds to find."""
    images = digits()
    few = images.labels < 3
    test = images.test_labels < 3
    users = [
        gc.Dataset(images.pixels[few][i::3] / 16.0, images.labels[few][i::3]) for i in range(3)
    ]
    return Federation("three digits", users, 3, images.x_test[test], images.y_test[test])


def test_every_way_has_a_row(headline, federation):
    rows = list(headline.roads(federation, epochs=40, points=50, extra=20))
    assert all(len(row) <= len(headline.HEADER.split(" | ")) for row in rows)
    names = [name for name, *_ in rows]
    exact = rows[: names.index("published protocol, numpy")]
    target = federation.target(Steps())
    assert len(exact) == 6
    for _, _, seconds, ratio, accuracy, far, certified in exact:
        assert seconds > 0.0
        assert ratio == pytest.approx(seconds / exact[0][2])
        assert accuracy == federation.accuracy(target)
        assert far <= certified * (1.0 + np.linalg.norm(target)) * (1.0 + 1e-12)
        assert certified <= 1e-6
    trained = [row for row in rows if row[0] == "published protocol, numpy"]
    assert [row[1] for row in trained] == ["gradient", "model", "data: 50 points", "all three"]
    assert trained[-1][2] == pytest.approx(sum(row[2] for row in trained[:-1]))
    for row in trained[:-1]:
        assert len(row) == 6  # nothing is certified of where a training ends
        assert row[5] > 1e-3


def test_tools_that_are_not_installed_say_so(headline, federation, monkeypatch):
    import peers.published

    def absent():
        raise gc.MissingDependencyError("this comparison needs torch")

    monkeypatch.setattr(peers.published, "_torch", absent)
    assert peers.torch_devices() == ("cpu",)
    target = federation.target(Steps())
    rows = list(headline.as_published(federation, target, 1.0, 1, 5))
    without = [row for row in rows if "PyTorch" in row[0]]
    assert [row[1] for row in without] == ["this comparison needs torch"] * 2


def test_pytorch_takes_the_same_steps(headline, federation):
    pytest.importorskip("torch")
    target = federation.target(Steps())
    ours, *others = (
        list(headline.trained(federation, target, tool, 20, 50))
        for tool in headline.tools().values()
    )
    assert others
    for theirs in others:
        for one, other in zip(ours, theirs, strict=True):
            assert one.attack == other.attack
            # Adam steps as far where a gradient is rounding alone: pixels that are always 0.
            assert one.distance == pytest.approx(other.distance, rel=0.05)
