r"""Softmax regression, inputs unbounded: nearly as few points as a bound demands.

The lower bounds are the rank of H and what K-class points can pay
(`gplconvex.realization.multiclass_bound`). Points that attain the bound do not exist in general;
constructions (`designs`) start a solver of the equations (`system`), for as few points as it solves them
for, and the result is polished in exact arithmetic. If the centered coefficients have rank K - 1, one of
them (`pairs`) needs at most 2 K points besides the bound, whatever is wanted, and rounding is left 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import softmax

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.errors import UnrealizableGradientError
from gplconvex.losses import Logistic, Softmax
from gplconvex.realization.exact import REACHES, missing_gradient, relative_residual
from gplconvex.realization.logistic import realize_logistic
from gplconvex.realization.lower_bound import (
    LowerBound,
    as_multiclass,
    logit_difference,
    most_likely_bound,
    rank_bound,
    support,
    trace_bound,
)
from gplconvex.realization.multiclass_bound import cheapest, fewest
from gplconvex.realization.result import Realization, ship
from gplconvex.realization.softmax.designs import one_sided, singles
from gplconvex.realization.softmax.pairs import pairs
from gplconvex.realization.softmax.program import program
from gplconvex.realization.softmax.system import Points, System
from gplconvex.regularizers import norm
from gplconvex.rounding import POLISHED, REALIZATION_RESIDUAL

RANKS = (1e-9, 1e-3)
"""Singular values, relative to the largest, that count as zero.

The second is for classes so nearly identical that float64 cannot hold inputs that tell them apart.
"""

SMALL = 6
"""So many points a class are few: they are sought without a construction."""

SEEDS = 4
"""Starts that a number of few points gets."""

FEW_STEPS = 25
"""Steps from each of them: those that succeed take 5 to 10."""

TRIES = 8
"""Numbers of points that a construction gets, from the first for which it can be written down."""

BISECTIONS = 12
"""Of the reach of correctors: to one part in a hundred over six decades."""

CORRECTIONS = 4
"""Solutions for the inputs where logits are constant, the first and three of what rounding leaves."""

ROOM = (1.0001, 1.01, 1.1, 2.0)
"""Factors of the number of points, tried if the fewest need inputs too large for float64."""

NEARLY = 1e-6
"""Relative residual up to which single copies are worth a try."""

POLISHES = 8
"""Most polishing steps; each squares the residual, but for the first few where much has to move."""


def realize_softmax(loss: Softmax, theta: FloatArray, h: FloatArray, extra: int) -> Realization:
    """Return few softmax points whose gradient at ``theta`` is ``h``, whose rows sum to 0."""
    if not h.any():
        return ship(Dataset.empty(len(theta) - loss.intercept), 0.0, LowerBound(0, "zero"))
    system = System(loss, theta, h, RANKS[0])
    if loss.n_classes == 2 and system.rank:
        return _binary(system, extra)
    proof = prove_unbounded(loss, theta, h, system)
    if not system.rank:
        return _constant_logits(system, proof)
    coarser = System(loss, theta, h, RANKS[1])
    systems = [system] if coarser.rank == system.rank else [system, coarser]
    attempts = ((each, _fewest(each, proof.value)) for each in systems)
    system, found = next(filter(_succeeded, attempts), (system, None))
    if not found:  # more points have smaller inputs, which float64 may hold
        numbers = [math.ceil(proof.value * room) for room in ROOM]
        attempts = ((each, _smallest(each, k)) for k in numbers for each in systems)
        system, found = next(filter(_succeeded, attempts), (system, None))
    if not found:
        raise UnrealizableGradientError(
            f"no points with this gradient were found that float64 can hold: the singular values of "
            f"the centered coefficients run from {system.s[0]:.3g} to {system.s[-1]:.3g}, and at least "
            f"{proof.value} points are needed. Rescale the features, or move the target by a little",
            direction=-theta,
        )
    notes = []
    most = proof.value + 2 * loss.n_classes + 2
    if found[0].n_points > most:
        why = (
            "fewer, whose inputs float64 holds, were not found"
            if system.rank == loss.n_classes - 1
            else f"with coefficients of rank {system.rank} points cannot pay as much as the bound allows"
        )
        notes.append(f"more than 2 K + 2 points above the bound: {why}")
    if extra:
        smaller = _smallest(system, found[0].n_points + extra)
        if smaller and _largest(smaller) < _largest(found):
            found = smaller
        else:
            notes.append("no extra points: with them no smaller inputs were found")
    note = "; ".join(notes)
    return ship(*found, proof, note)


# -- the bound ---------------------------------------------------------------------------------------


def prove_unbounded(loss: Softmax, theta: FloatArray, h: FloatArray, system: System) -> LowerBound:
    """Return the best lower bound, rounded down, with its argument."""
    n = loss.n_classes
    s, h0 = trace_bound(theta, h), system.h0
    by_rank = rank_bound(loss, h)
    if not system.rank:
        most = 0 if h0 is None else most_likely_bound(theta[-1], h0)
        return LowerBound(max(most, by_rank), "rank" if by_rank >= most else "constant predictor")
    if -s / cheapest(1, n, None).kappa >= 2.0**53 or (
        h0 is not None and np.abs(h0).sum() >= 2.0**54
    ):
        raise UnrealizableGradientError(
            "more points are needed than the 2^53 that float64 weights can count, for a gradient H "
            f"with <Theta, H> = {s:.3g}. Move the target closer",
            direction=-theta,
        )
    k = fewest(s, n, h0)
    if k <= by_rank:
        return LowerBound(by_rank, "rank")
    if h0 is not None and k - 1 <= 0.5 * float(np.abs(h0).sum()):
        return LowerBound(k, "residuals")
    direction = -theta
    if loss.intercept:
        direction[-1] += cheapest(k - 1, n, h0).tau
    return LowerBound(k, "direction", direction, support(loss, theta, direction))


# -- the search --------------------------------------------------------------------------------------

Found = tuple[Dataset, float]
"""A dataset and its relative residual."""


def _finished(
    system: System, points: Points | None, nudge: bool = False, ties: bool = False
) -> Found | None:
    """Return the polished dataset of points that solve the system, if it is exact enough."""
    x = None if points is None else system.inputs(points, ties)
    if points is None or x is None or not np.isfinite(x).all():
        return None
    found = _polished(system, Dataset(x, points.labels, points.counts.astype(np.int64)), nudge)
    return found if found[1] <= REALIZATION_RESIDUAL else None


def _polished(system: System, data: Dataset, nudge: bool = False) -> Found:
    """Return the dataset with its inputs moved to the least residual.

    With ``nudge``, if rounding stops that too early, single copies move, whose own rounding nothing
    multiplies, and are nudged.
    """
    found = _moved(system, data, relative_residual(system.loss, data, system.theta, system.h))
    if nudge and REALIZATION_RESIDUAL < found[1] <= NEARLY:
        found = _single_copies(found[0]), found[1]
        for reach in REACHES[1:]:
            found = _moved(system, *found, reach)
            if found[1] <= REALIZATION_RESIDUAL:
                break
    return found


def _moved(system: System, data: Dataset, residual: float, reach: int = 0) -> Found:
    """Return the dataset after up to so many polishing steps."""
    best = data
    for _ in range(POLISHES):
        if residual <= POLISHED or not math.isfinite(residual):
            break
        data = system.polish(data, reach)
        after = relative_residual(system.loss, data, system.theta, system.h)
        better, settled = after < residual, residual <= REALIZATION_RESIDUAL
        if better:
            best, residual = data, after
        elif settled:
            break
    return best, residual


def _single_copies(data: Dataset) -> Dataset:
    """Return the dataset with one copy of every row in a row of its own."""
    several = np.flatnonzero(data.counts > 1)
    rows = np.concatenate([np.arange(data.n_rows), several])
    counts = data.counts.copy()
    counts[several] -= 1
    counts = np.concatenate([counts, np.ones(len(several), dtype=counts.dtype)])
    return Dataset(data.x[rows], data.y[rows], counts)


def _fewest(system: System, bound: int) -> Found | None:
    """Return the fewest points that one of the constructions finds."""
    n = system.n_classes
    best = _few(system, bound) if bound <= SMALL * n else None
    if system.rank == n - 1:
        most = bound + 2 * n + 2
        best = _first(system, one_sided, bound, best[0].n_points if best else most + 1) or best
        ceiling = best[0].n_points if best else 2 * most
        best = _first(system, pairs, max(bound + 1, 2 * n), ceiling) or best
    return best or _finished(system, program(system), nudge=True)


def _few(system: System, bound: int) -> Found | None:
    """Return few points found without a construction: try, with growing steps, then bisect."""

    def found_with(k: int) -> Found | None:
        starts = (singles(system, k, seed) for seed in range(SEEDS))
        attempts = (_finished(system, system.solve(start, steps=FEW_STEPS)) for start in starts)
        return next((found for found in attempts if found), None)

    low, gap = bound - 1, 0
    most = 2 * system.n_classes + 2
    while gap <= most:
        best = found_with(bound + gap)
        if best:
            break
        low, gap = bound + gap, max(gap + 1, min(2 * gap, most))
    else:
        return None
    while best[0].n_points - low > 1:
        middle = (low + best[0].n_points) // 2
        found = found_with(middle)
        if found:
            best = found
        else:
            low = middle
    return best


Design = Callable[[System, int], Points | None]


def _first(system: System, design: Design, bound: int, ceiling: int) -> Found | None:
    """Return the fewest points, below ``ceiling``, that a construction leads to.

    That it can be written down is necessary, and so bisected; the solver may want a point more.
    """
    low, high, gap = bound - 1, bound, 1
    while high < ceiling and design(system, high) is None:
        low, high, gap = high, bound + gap, 2 * gap
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if design(system, middle) is None else (low, middle)
    for k in range(high, min(high + TRIES, ceiling)):
        start = design(system, k)
        points = None if start is None else system.solve(start)
        found = _finished(system, points, nudge=True, ties=design is pairs)
        if found:
            return found
    return None


def _succeeded(attempt: tuple[System, Found | None]) -> bool:
    return attempt[1] is not None


def _smallest(system: System, k: int) -> Found | None:
    """Return k points whose largest input is smallest, of those that are found.

    One-sided correctors shrink as fast as their number grows; the reach is bisected.
    """
    few = k <= SMALL * system.n_classes
    candidates = [_finished(system, system.solve(singles(system, k, 0)))] if few else []
    low, high = 0.0, float(np.abs(system.target).max()) + 1.0
    if system.rank == system.n_classes - 1:
        for _ in range(BISECTIONS):
            reach = math.sqrt(max(low, 1.0) * high)
            start = one_sided(system, k, reach)
            points = None if start is None else system.solve(start)
            found = _finished(system, points, nudge=True)
            candidates.append(found)
            low, high = (reach, high) if found is None else (low, reach)
    return min(filter(None, candidates), key=_largest, default=None)


def _largest(found: Found) -> float:
    return float(np.linalg.norm(found[0].x, axis=1).max())


# -- two classes, and logits that inputs do not change -------------------------------------------------


def _binary(system: System, extra: int) -> Realization:
    r"""Two classes are logistic regression: coefficients :math:`\theta_1 - \theta_0`, gradient h_1."""
    loss, theta, h = system.loss, system.theta, system.h
    found = realize_logistic(Logistic(loss.intercept), *logit_difference(theta, h), extra)
    labels = 0.5 * (found.dataset.y + 1.0)
    data = Dataset(found.dataset.x, labels, found.dataset.counts)
    return ship(*_polished(system, data, nudge=True), as_multiclass(found.proof), found.note)


def _constant_logits(system: System, proof: LowerBound) -> Realization:
    r"""Every point has the probabilities :math:`p(b)`; label distributions y give any :math:`q \le p`.

    Inputs are free: the residuals only have to span the rows of H and, with an intercept, to sum to its
    last row. They are :math:`h_0/k + \epsilon d_i`, where the :math:`d_i` sum to 0.
    """
    p: FloatArray = softmax(system.b)
    h0 = np.zeros(system.n_classes) if system.h0 is None else system.h0
    length = float(np.linalg.norm(h0))
    unit = h0 / length if length else h0
    rows = system.features - np.outer(system.features @ unit, unit)
    _, singular, vt = np.linalg.svd(rows)
    tails = np.sqrt(np.cumsum(singular[::-1] ** 2))[::-1]
    directions = vt[: int(np.sum(tails > POLISHED * norm(system.h)))]
    if system.h0 is not None:
        directions = np.vstack([directions, -directions.sum(axis=0)])
    least = max(len(directions), math.floor(float(np.max(h0 / p))) + 1)
    # Where the likeliest class leaves no room, residuals hardly differ and inputs are huge: add points.
    for k in (least, least + 1, least + 2, *(math.ceil(least * room) for room in ROOM)):
        d = np.zeros((k, system.n_classes))
        d[: len(directions)] = directions
        room = p - h0 / k
        q = h0 / k + 0.5 * float(np.min(room / (np.abs(d).max(axis=0) + np.finfo(float).tiny))) * d
        inverse = np.linalg.pinv(q.T)
        data = Dataset(np.zeros((k, len(system.features))), p - q)
        for _ in range(CORRECTIONS):
            missing = missing_gradient(system.loss, data, system.theta, system.h)
            data = Dataset(data.x + inverse @ missing[: len(system.features)].T, data.y)
        residual = relative_residual(system.loss, data, system.theta, system.h)
        if residual <= REALIZATION_RESIDUAL:
            break
    note = ""
    if k > least:
        note = f"{least} points would do, but float64 does not hold inputs as large as they need"
    return ship(data, residual, proof, note)
