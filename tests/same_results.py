"""Results of experiments, compared bit for bit but for the seconds that they took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from gplconvex.experiments.results import Result


def assert_same(one: Any, two: Any) -> None:
    """Fail where two results differ, and say where."""
    assert list(differences(one, two)) == []


def differences(one: Any, two: Any, where: str = "result") -> Iterator[str]:
    """Yield where two results differ in anything but seconds; a list comes back as a tuple."""
    one, two = (tuple(each) if isinstance(each, list) else each for each in (one, two))
    if type(one) is not type(two):
        yield where
        return
    match one:
        case Result():
            for field in fields(one):
                if "seconds" not in field.name:
                    name = field.name
                    yield from differences(
                        getattr(one, name), getattr(two, name), f"{where}.{name}"
                    )
        case np.ndarray():
            alike = (one.dtype, one.shape) == (two.dtype, two.shape)
            if not alike or one.tobytes() != two.tobytes():
                yield where
        case tuple():
            if len(one) != len(two):
                yield where
            for i, (a, b) in enumerate(zip(one, two, strict=False)):
                yield from differences(a, b, f"{where}[{i}]")
        case dict():
            if list(one) != list(two):
                yield where
            for key in one.keys() & two.keys():
                yield from differences(one[key], two[key], f"{where}[{key!r}]")
        case _:
            if not (one == two or (one != one and two != two)):
                yield where
