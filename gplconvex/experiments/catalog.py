"""The published experiments by name, at two sizes: on digits in seconds, on MNIST in minutes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from gplconvex.experiments.results import Result, Steps

Run = Callable[[Steps], Result]
"""Does an experiment, asking steps for what takes long."""

Size = Literal["quick", "full"]


@dataclass(frozen=True)
class Experiment:
    """An experiment that can be run by its name.

    Attributes
    ----------
    title : str
        What it is about, in a few words.
    quick : callable
        Runs it on the digits that come with the package, offline.
    full : callable
        Runs it on MNIST or Fashion-MNIST, which are fetched once.
    """

    title: str
    quick: Run
    full: Run

    def run(self, size: Size, steps: Steps) -> Result:
        """Run it at one of its sizes."""
        return self.quick(steps) if size == "quick" else self.full(steps)


def _experiment(name: str, title: str) -> Experiment:
    """Return the experiment of a module of that name."""
    module = import_module(f"gplconvex.experiments.{name}")
    return Experiment(title, module.quick, module.full)


EXPERIMENTS: Mapping[str, Experiment] = {
    name: _experiment(name, title)
    for name, title in (
        ("counter_gradient", "a counter-gradient attack under squared l2 and under l2"),
        ("three_roads", "a gradient, a model and data that lead to one target"),
        ("transient", "the published dataset, trained on for longer, and its certified optimum"),
        ("price", "how many points a target takes, against lam, and what moves few labels"),
        ("steering", "the data that lead one user's own model to a target"),
        ("clipped", "fake points that must be images"),
        ("sum_or_mean", "one large user among small noisy ones: sums or means of losses"),
        ("writers", "a federation of the people who wrote the digits"),
        ("last_layer", "the last layer of a network, from a file of features"),
    )
}
"""By name, in the order in which they are told. A picture of each is drawn by the function of
`gplconvex.plots` of that name."""


def result_of(
    name: str,
    size: Size,
    folder: Path,
    *,
    on_step: Callable[[str], object],
    on_progress: Callable[[float], object],
) -> Result:
    """Return the result of an experiment: that of the folder, or a new one, which is left there.

    Parameters
    ----------
    name : str
        A key of `EXPERIMENTS`.
    size : {"quick", "full"}
        On which data.
    folder : Path
        Keeps the result as ``<name>.npz``, and the steps on the way to it in ``steps``: an experiment
        that was killed goes on where it was.
    on_step, on_progress : callable
        See `Steps`.

    Raises
    ------
    InvalidInputError
        If the folder holds a result of another size or version, or a damaged one.
    """
    kept = Steps(folder, {"size": size}, on_step, on_progress)
    inner = Steps(folder / "steps", {}, on_step, on_progress, folder / "steps" / "common")
    return kept(name, lambda: EXPERIMENTS[name].run(size, inner))


def forget(name: str, folder: Path) -> None:
    """Remove from a folder what `result_of` left there of an experiment, to start it anew."""
    (folder / f"{name}.npz").unlink(missing_ok=True)
    for steps in (name, "common"):
        shutil.rmtree(folder / "steps" / steps, ignore_errors=True)
