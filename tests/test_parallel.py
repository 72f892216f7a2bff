"""Work is spread over as many cores as it may use."""

from __future__ import annotations

import contextvars
import os
import threading

import pytest

from gplconvex import parallel
from gplconvex.parallel import at_most, cached_property, map_on_cores


@pytest.mark.parametrize("cores", [1, 2])
def test_work_keeps_to_its_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can take more than there is."""
    monkeypatch.setattr(parallel, "PARALLEL", 0)

    def threads(item: int) -> int:
        found = map_on_cores(lambda inner: threading.get_ident(), range(40), 1)
        assert cores > 1 or set(found) == {threading.get_ident()}
        return len(set(found))

    with at_most(cores), at_most(cores + 5):
        assert threads(0) <= cores
        assert max(map_on_cores(threads, range(40), 1)) <= cores


def test_work_within_work_keeps_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PARALLEL", 0)
    context = contextvars.copy_context()
    context.run(parallel._cores.set, 3)
    found = context.run(map_on_cores, lambda item: parallel._cores.get(), range(4), 1)
    assert found == [3] * 4


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_two_cores_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PARALLEL", 0)
    both = threading.Barrier(2)
    with at_most(2):
        assert sorted(map_on_cores(lambda item: both.wait(60.0), range(2), 1)) == [0, 1]


class Meeting:
    """Its property is there once two instances compute theirs at the same time."""

    both = threading.Barrier(2)

    def __init__(self) -> None:
        self.times = 0

    @cached_property
    def place(self) -> int:
        """Where they met."""
        self.times += 1
        return self.both.wait(60.0)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_properties_of_two_instances_are_computed_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "PARALLEL", 0)
    pair = [Meeting(), Meeting()]
    with at_most(2):
        assert sorted(map_on_cores(lambda one: one.place, pair, 1)) == [0, 1]
    assert {one.place for one in pair} == {0, 1}  # remembered
    assert [one.times for one in pair] == [1, 1]
    assert isinstance(Meeting.place, cached_property)
