r"""S19. Impossibility: how near to the honest mean a server can come.

N users, :math:`1 \le f \le N/2` of them strategic; honest preferred models have a diameter of at most
:math:`\Delta`. Put f of N preferred models at 0, f at the distance D, the others between, within
:math:`\Delta` of both ends. If the last f are strategic or the first, all data are the same, all reports
and the server's model; each time N - f users are honest, and their means are :math:`f D/(N - f)`
apart. So in one of the two worlds the server is at least

.. math:: \frac{f D}{2 (N - f)}

from the honest mean: :math:`f\Delta/(2(N - f))` if strategic users stay within the diameter, and
:math:`f\Delta/(N - f)`, from :math:`D = 2\Delta`, if they need not and N > 2f. For models of one number
both are the best constants: the trimmed mean never exceeds the second, and the midpoint of the means of
the N - f least and the N - f largest numbers never the first.

By the equivalence (T2.5) strategic users can do it with data.

Source: the paper, after El-Mhamdi et al. 2021, for :math:`D = \Delta`; the rest this package.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from gplconvex._types import FloatArray
from gplconvex.federated import DataAttack, run
from gplconvex.federated.rules import trimmed_mean
from gplconvex.impossibility import Instance, indistinguishable, measure, poisoned_worlds, sweep
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "impossibility"
SOURCE = "paper; D = 2 Delta and best constants this package"

SHARE = 0.5
"""The bound over f D/(N - f)."""

MUTATIONS = {"SHARE": 1.01}


def bound(instance: Instance) -> float:
    """Return the claimed bound."""
    distance = instance.reach * instance.delta
    return SHARE * instance.f * distance / (instance.n_users - instance.f)


def symbolic() -> Iterator[Identity]:
    """Means of N - f users, the distances of one point to two, and what trimming leaves."""
    n, f, d, rest, low, middle, top = sp.symbols("N f D S l m t", positive=True)
    share = sp.nsimplify(SHARE)
    first, second = rest / (n - f), (rest + f * d) / (n - f)
    yield identity(
        "honest means are f D/(N - f) apart, S the sum of the N - 2f others",
        second - first - f * d / (n - f),
    )
    rho, a, b = sp.symbols("rho a b", real=True)
    yield identity(
        "|rho - a|^2 + |rho - b|^2 = 2 |rho - (a + b)/2|^2 + 2 (|a - b|/2)^2, in each coordinate",
        (rho - a) ** 2 + (rho - b) ** 2 - 2 * (rho - (a + b) / 2) ** 2 - 2 * (share * (a - b)) ** 2,
    )
    # l, m, t: means of the f least, the N - 2f next and the f largest; of honest ones f more or less.
    least = (f * low + (n - 2 * f) * middle) / (n - f)
    largest = ((n - 2 * f) * middle + f * top) / (n - f)
    yield identity(
        "means of the N - f least and of the N - f largest are f (t - l)/(N - f) apart",
        largest - least - f * (top - low) / (n - f),
    )
    yield identity(
        "the mean of N - f numbers is f (t - m)/(N - f) above that of the N - 2f least, m",
        largest - middle - f * (top - middle) / (n - f),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """Measure all regularizers and rules in both worlds."""
    for n, f, d, reach in ((5, 2, 1, 1.0), (7, 1, 3, 1.5), (7, 2, 2, 1.0), (8, 4, 1, 1.0)):
        instance = indistinguishable(
            n,
            f,
            float(10.0 ** rng.uniform(-1.0, 1.0)),
            rest=rng.random(n - 2 * f).tolist(),
            reach=reach,
            direction=rng.normal(size=d),
        )
        what = f"N = {n}, f = {f}, d = {d}"
        first, second = instance.worlds
        apart = float(np.linalg.norm(second.mean - first.mean))
        yield Measurement(f"means apart, {what}", apart, 2.0 * bound(instance), tolerance=1e-12)
        errors = measure(instance).errors
        nearest = min(errors, key=lambda name: float(errors[name].max()))
        error = float(errors[nearest].max())
        yield Measurement(f"nearest of all, {nearest}, {what}", error, bound(instance), ">=")
    for reach in (1.0, 2.0):
        instance = indistinguishable(9, 2, 3.0, rest=0.5, reach=reach)
        for name in ("squared l2", "l2", "trimmed mean", "geometric median"):
            error = float(measure(instance).errors[name].max())
            what = f"{name}, worlds that mirror each other, D = {reach:g} Delta"
            yield Measurement(what, error, bound(instance))
    yield from _best_constants(rng)
    result = sweep(7, [1, 2], 1.0)
    medians = result.over_bound["coordinate median"]
    for f, mean, median in zip((1, 2), result.over_bound["mean"], medians, strict=True):
        yield Measurement(f"mean over the bound, f = {f} of 7", mean, 2.0 * (7 - f) / 7)
        yield Measurement(f"median over the bound, f = {f} of 7", median, 6 / f)
    instance = indistinguishable(5, 1, 4.0, rest=[0.0, 0.3, 1.0], direction=[1.0, 2.0])
    for regularizer in (gc.SquaredL2(1.0), gc.L2(1.0), gc.SmoothL2(1.0), gc.HardConsensus()):
        name = type(regularizer).__name__
        worlds = poisoned_worlds(instance, regularizer)
        found = [gc.solve(each.poisoned).rho for each in worlds]
        off = max(float(np.linalg.norm(rho - worlds[0].rho)) for rho in found)
        yield Measurement(f"poisoned by single points: the same model, {name}", off, 0.0, "=", 1e-8)
        error = max(
            float(np.linalg.norm(rho - each.world.mean))
            for rho, each in zip(found, worlds, strict=True)
        )
        yield Measurement(f"and so an error, {name}", error, bound(instance), ">=")


def _best_constants(rng: np.random.Generator) -> Iterator[Measurement]:
    """Search for honest and strategic numbers with a larger error of the two best rules."""
    n, f = 7, 2
    trimmed, middle = 0.0, 0.0
    for _ in range(500):
        honest = rng.choice([0.0, 1.0, rng.random()], size=n - f)
        far = rng.normal(size=f) * rng.choice([1.0, 100.0])
        estimate = trimmed_mean(f)(np.concatenate([honest, far])[:, None])[0]
        trimmed = max(trimmed, abs(float(estimate - honest.mean())))
        everybody = np.sort(np.concatenate([honest, rng.choice([0.0, 1.0], size=f)]))
        middle = max(middle, abs(_midpoint(everybody, f) - float(honest.mean())))
    yield Measurement("trimmed mean, strategic users anywhere", trimmed, 2.0 * SHARE * f / (n - f))
    yield Measurement("midpoint, all users within Delta", middle, SHARE * f / (n - f))


def _midpoint(numbers: FloatArray, f: int) -> float:
    """Return the midpoint of the means of the N - f least and the N - f largest, given in order."""
    n = len(numbers)
    return 0.5 * float(numbers[: n - f].mean() + numbers[f:].mean())


def counterexample() -> Iterator[Measurement]:
    """Tell the server who is honest, let reports differ, or let strategic users be the majority."""
    instance = indistinguishable(7, 2, 1.0)
    regularizer = gc.SquaredL2(1.0)
    told = max(
        float(np.linalg.norm(gc.solve(instance.problem(regularizer, world)).rho - world.mean))
        for world in instance.worlds
    )
    yield Measurement("the server knows who is honest", told, instance.bound, ">=")
    # Strategic users who prefer 0 in both worlds: the sum of all preferred models is the honest one.
    scale = instance.n_users / (instance.n_users - instance.f)
    error = 0.0
    for world in instance.worlds:
        attackers = [DataAttack(instance.datasets[0])] * instance.f
        rho = scale * run(instance.problem(regularizer, world), attackers).rho[-1]
        error = max(error, float(np.linalg.norm(rho - world.mean)))
    yield Measurement("the reports of the two worlds differ", error, instance.bound, ">=")
    outside = indistinguishable(7, 2, 1.0, reach=2.0)
    least = min(float(errors.max()) for errors in measure(outside).errors.values())
    what = "strategic users outside the diameter: f Delta/(2 (N - f)) is attained"
    yield Measurement(what, least, instance.bound, "<=")
    n, f = 3, 2  # one honest user, at 0 or at 1, and a server that says 1/2
    yield Measurement("f > N/2, all users within 1", 0.5, 0.5 * f / (n - f), ">=")
