"""The number of points, with its proof, and the points.

The number comes from a convex program (`program`) and directions that refute fewer (`pricing`); the
points from the two merged ones that attain it (`points`, `rounded`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.domains import Domain
from gplconvex.errors import UnrealizableGradientError
from gplconvex.losses import Logistic, Loss
from gplconvex.realization.bounded.points import (
    append,
    datasets,
    merged_points,
    roomy,
    scattered,
    silent,
)
from gplconvex.realization.bounded.program import FARTHEST, Merged, Program
from gplconvex.realization.bounded.roots import peak
from gplconvex.realization.bounded.rounded import rounded
from gplconvex.realization.exact import relative_residual
from gplconvex.realization.lower_bound import BOUNDED, LowerBound, refuted_splits
from gplconvex.realization.result import Realization, ship
from gplconvex.rounding import REALIZATION_RESIDUAL

MOST_MORE = 16
"""How many numbers of points next to the bound are tried, before larger and larger steps."""


@dataclass(frozen=True, eq=False, repr=False)
class Gauge:
    r"""The least weight of points of the domain whose gradients sum to h (T3.1), with its multiplier.

    Attributes
    ----------
    value : float
        The least weight: what fractional numbers of points could do. Integers need at least as many.
    direction : array, shape of a model
        v with :math:`\langle v, g\rangle \le 1` for the gradient g of every single point of the domain
        and :math:`\langle v, h\rangle` = ``value``: the derivative of the value in h.
    x, y, weights : arrays, shapes (n, d), (n,), (n,)
        Points and fractional numbers of them that attain it; n is at most 2.
    """

    value: float
    direction: FloatArray
    x: FloatArray
    y: FloatArray
    weights: FloatArray

    def __repr__(self) -> str:
        return f"<Gauge: {self.value:.6g} points>"


def bounded_gauge(loss: Loss, theta: FloatArray, h: FloatArray, domain: Domain) -> Gauge:
    """Return the gauge of h."""
    nothing = np.empty((0, len(h) - loss.intercept)), *np.empty((2, 0))
    if not h.any():
        return Gauge(0.0, np.zeros_like(h), *nothing)
    program = Program(loss, theta, h, domain)
    if program.free:
        return Gauge(0.0, np.zeros_like(h), *nothing)
    best = program.solve(0.0)
    kept = [i for i, number in enumerate(best.numbers) if number > 0.0]
    return Gauge(
        sum(best.numbers),
        best.scale * program.direction(best),
        np.stack([program.inputs(best)[i] for i in kept]),
        np.array([program.plus.label, program.minus.label])[kept],
        np.array(best.numbers)[kept],
    )


def realize_bounded(
    loss: Loss, theta: FloatArray, h: FloatArray, domain: Domain, extra: int
) -> Realization:
    """Return the fewest points of the domain with gradient h, and ``extra`` more."""
    if not h.any():
        return ship(Dataset.empty(len(h) - loss.intercept), 0.0, LowerBound(0, "zero"))
    program = Program(loss, theta, h, domain)
    best = roomy(program) if program.free else program.solve(0.0)
    proof = _proved(program, best)
    least = proof.value + extra
    more = 0 if isinstance(loss, Logistic) else extra
    if domain.discrete:
        return _rounded(program, best, proof, least, extra)
    farther = [least + MOST_MORE * 2**i for i in range(1 + (least // MOST_MORE).bit_length())]
    for k in [*range(least, least + MOST_MORE), *farther]:
        for data in _candidates(program, best, k, extra, more):
            found = _checked(program, data, proof, least)
            if found is not None:
                return found
    raise UnrealizableGradientError(
        f"at least {proof.value} points are needed in {domain!r}, and no way to share h among {least} "
        f"to {farther[-1]} points was found: the domain leaves their predictors too little room. Widen "
        "it or ask for more points with extra",
        direction=np.zeros_like(h) if proof.direction is None else np.asarray(proof.direction),
    )


def _rounded(program: Program, best: Merged, proof: LowerBound, k: int, extra: int) -> Realization:
    """Return k points of a discrete domain that miss the gradient least: points of the hull, rounded.

    Of the hull's points those that have the gradient are tried first, then the two merged ones.
    """
    loss, theta, h = program.loss, program.theta, program.h
    exact = (
        data
        for above in _splits(program, k, best.numbers, extra)
        for data in datasets(program, above, k - above)
        if relative_residual(loss, data, theta, h) <= REALIZATION_RESIDUAL
    )
    hull = [
        data for data in (next(exact, None), *merged_points(program, best, k)) if data is not None
    ]
    found = [data if program.domain.allows(data).all() else rounded(program, data) for data in hull]
    residual, _, data = min(
        (relative_residual(loss, data, theta, h), i, data) for i, data in enumerate(found)
    )
    note = ""
    if residual > REALIZATION_RESIDUAL:
        note = (
            f"inputs are whole or categories: rounded, they miss the gradient by {residual:.2g} of its "
            "size"
        )
    return Realization(data, data.n_points, proof.value, proof, residual, note)


def _candidates(program: Program, best: Merged, k: int, extra: int, more: int) -> Iterator[Dataset]:
    """Yield datasets of k points, first such whose last ones add nothing."""
    for spare in dict.fromkeys((more, 0)):
        padding = silent(program, spare) if spare else None
        if spare and padding is None:
            continue
        for construct in (datasets, scattered):
            for above in _splits(program, k - spare, best.numbers, extra - spare):
                for data in construct(program, above, k - spare - above):
                    yield data if padding is None else append(data, padding)


def _checked(program: Program, data: Dataset, proof: LowerBound, least: int) -> Realization | None:
    """Return the points as a realization if they have the gradient and are in the domain."""
    loss, theta, h, domain = program.loss, program.theta, program.h, program.domain
    residual = relative_residual(loss, data, theta, h)
    if not (residual <= REALIZATION_RESIDUAL and domain.allows(data).all()):
        return None
    note = ""
    if data.n_points > least:
        note = f"no way to ship {least} points was found; {data.n_points} are shipped"
    return ship(data, residual, proof, note)


def _splits(program: Program, k: int, numbers: tuple[float, float], extra: int) -> list[int]:
    """Return numbers of points with residuals above 0 worth trying, likely ones first."""
    whole = sum(numbers)
    ideal = k * numbers[0] / whole if whole > 0.0 else 0.5 * k
    near = {math.floor(numbers[0]), math.ceil(numbers[0]), math.floor(ideal), math.ceil(ideal)}
    near |= {min(max(j, 1), k - 1) for j in near}  # next to one sign alone: a point of the other
    near |= {math.floor(numbers[0]) + i for i in range(-2, 3)}
    middle = 0.5 * sum(program.range)
    if program.h0 is not None and isinstance(program.loss, Logistic) and math.isfinite(middle):
        # In a narrow domain all residuals are nearly those of the middle, and sum to h0.
        balanced = program.h0 + k * program.minus.rate(-middle)
        near |= {math.floor(balanced), math.ceil(balanced)}
    if extra:
        near |= {round(numbers[0] + share * extra) for share in (0.25, 0.5, 0.75)}
    return sorted((j for j in near if 0 <= j <= k), key=lambda j: abs(j - ideal))


# -- the proof ---------------------------------------------------------------------------------------


def bounded_proof(loss: Loss, theta: FloatArray, h: FloatArray, domain: Domain) -> LowerBound:
    """Return the largest number that directions prove, without points."""
    if not h.any():
        return LowerBound(0, "zero")
    program = Program(loss, theta, h, domain)
    return _proved(program, roomy(program) if program.free else program.solve(0.0))


def _proved(program: Program, best: Merged) -> LowerBound:
    """Return the largest number that directions prove: of the gauge, or of splits that cannot do."""
    value = max(1, math.ceil(sum(best.numbers) * (1.0 - 1e-9)))
    proof = LowerBound(1, "nonzero")
    if value > 1:
        gauge = program.direction(best)
        while value > 1 and not _refuted(program, gauge, value - 1, 0, value - 1):
            value -= 1
        if value > 1:
            proof = LowerBound(value, BOUNDED, gauge, split=value - 1)
    # With one point more only numbers next to the best real one can do, by convexity.
    for k in range(value, value + 2):
        split = min(math.floor(best.numbers[0]), k)
        below = _refuting(program, split, k - split, k, 0, split)
        above = _refuting(program, split + 1, k - split - 1, k, split + 1, k)
        if below is None or above is None:
            break
        proof = LowerBound(k + 1, BOUNDED, np.stack([below, above]), split=split)
    return proof


def _refuted(program: Program, v: FloatArray, k: int, first: int, last: int) -> bool:
    return refuted_splits(program.loss, program.theta, program.h, v, program.domain, k, first, last)


def _refuting(
    program: Program, above: int, below: int, k: int, first: int, last: int
) -> FloatArray | None:
    r"""Return a direction that refutes a split, and with it all in a range, if one is found.

    :math:`\alpha (c - n) + \beta (c' - n')`, c and c' being the least numbers at the weights, is
    positive somewhere if and only if the split cannot do; it is concave in
    :math:`\alpha/(\alpha+\beta)`. Points whose residuals all have one sign fill a cone, from which a
    direction separates h.
    """
    if first > last:
        return np.zeros_like(program.h)
    if first == last and not (above and below):
        v = program.separating(above=above > 0)
        if v is not None and _refuted(program, v, k, first, last):
            return v
    if program.free:
        return None

    def gap(log_ratio: float) -> float:
        c = program.solve(log_ratio).numbers
        share = float(expit(log_ratio))
        return share * (c[0] - above) + (1.0 - share) * (c[1] - below)

    found = peak(gap, -FARTHEST, FARTHEST, tol=1e-4)
    if not gap(found) > 0.0:
        return None
    v = program.direction(program.solve(found))
    return v if _refuted(program, v, k, first, last) else None
