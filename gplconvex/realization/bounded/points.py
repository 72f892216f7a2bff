"""From merged points to points: whole numbers of them, with labels, inside the domain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy.optimize import least_squares

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.losses import LeastSquares, Logistic, Poisson
from gplconvex.realization.bounded.branches import Branch, PoissonBranch
from gplconvex.realization.bounded.pieces import Intervals
from gplconvex.realization.bounded.program import FARTHEST, TINY, Merged, Program
from gplconvex.realization.bounded.roots import peak, root
from gplconvex.realization.lower_bound import LARGEST_EXPONENT
from gplconvex.rounding import UNIT

NOTHING = 1e-9
"""A number of points that is left out; whether that was rounding the residual of the others decides."""

TRIES = 3
"""From how many random places single points are started."""

MOST_INPUTS = 500
"""Inputs that least squares moves at most: a factorization of so many takes a tenth of a second."""

MOST_ROUNDS, FEW_INPUTS = 100, 50
"""Rounds of least squares for few inputs, a third for more: where a solution is near, ten find it."""

FREE = 3
"""How many points of a sign are free then."""

MOST_SHARES = 32
"""How many numbers of the first of two kinds are tried."""

Group = tuple[int, FloatArray, float]
"""Number, input, label."""


def datasets(program: Program, above: int, below: int) -> Iterator[Dataset]:
    """Yield datasets of so many points with residuals above and below 0 whose gradients may sum to h."""
    if program.refutes(above, below):
        return
    if isinstance(program.loss, Logistic):
        for merged in _equal(program, (program.plus, above), (program.minus, below)):
            yield _pair(program, merged, [(above, -1.0)], [(below, 1.0)])
        yield from _spread(program, above, below)
    elif isinstance(program.loss, LeastSquares):
        yield from _linear(program, above, below)
    else:
        yield from _counted(program, above, below)


def _pair(
    program: Program,
    merged: Merged,
    above: list[tuple[int, float]],
    below: list[tuple[int, float]],
) -> Dataset:
    """Return the two merged points with (number, label) each."""
    x, other = program.inputs(merged)
    groups = [(n, x, y) for n, y in above] + [(n, other, y) for n, y in below]
    return _dataset([group for group in groups if group[0]])


def merged_points(program: Program, merged: Merged, k: int) -> Iterator[Dataset]:
    """Yield k copies of the two merged points, shared out in proportion: nearly the gradient."""
    whole = sum(merged.numbers)
    share = merged.numbers[0] / whole if whole > 0.0 else 0.5
    labels = program.plus.label, program.minus.label
    for above in sorted({math.floor(k * share), math.ceil(k * share)}):
        if isinstance(program.loss, LeastSquares):
            yield from _labelled(program, merged, above, k - above)
            continue
        if not math.isfinite(labels[1]) and k > above:
            labels = labels[0], _label_below(program, merged, k - above)
        yield _pair(program, merged, [(above, labels[0])], [(k - above, labels[1])])


def _dataset(groups: list[Group]) -> Dataset:
    return Dataset(
        np.stack([x for _, x, _ in groups]),
        [label for _, _, label in groups],
        np.array([number for number, _, _ in groups]),
    )


def _equal(
    program: Program, first: tuple[Branch, int], second: tuple[Branch, int]
) -> Iterator[Merged]:
    r"""Yield merged points that take exactly so many, n and n'.

    Then :math:`r_+(M) = W/n` and :math:`r_-(M') = V/n'`, and the margins agree on X and X' where

    .. math:: W r_+^{-1}(W/n) + V r_-^{-1}(V/n') = \theta^\top\tilde h + b h_0,

    whose left side is a convex function of W.
    """
    if first[1] == 0 or second[1] == 0:
        return
    if program.h0 is not None:
        differences = [program.h0]
    elif program.free:
        differences = [0.0]
    else:  # any W - V will do: that of the least weight, and some to both sides of it
        merged = program.solve(math.log(second[1] / first[1]))
        step = 0.25 * (2.0 * merged.weight - merged.h0)
        differences = [merged.h0, 0.0, *(merged.h0 + i * step for i in (-1.0, 1.0, -0.5, 0.5))]
    for h0 in dict.fromkeys(differences):
        yield from _equal_with(program, first, second, h0)


def _equal_with(
    program: Program, first: tuple[Branch, int], second: tuple[Branch, int], h0: float
) -> Iterator[Merged]:
    (plus, above), (minus, below) = first, second
    least, most = max(0.0, h0), min(above * plus.top, below * minus.top + h0)
    total = program.th + program.b * h0

    def excess(w: float) -> float:
        v = w - h0
        return total - w * plus.margin(w / above) - v * minus.margin(v / below)

    if most == math.inf:
        most = 2.0 * least + 1.0
        while excess(most) > 0.0:
            most *= 2.0
    width = most - least
    if not width > 0.0:
        return
    ends = least + TINY * width, most - TINY * width
    top = peak(excess, *ends)
    if excess(top) < 0.0:
        return
    lens = program.lens(h0)
    for end in ends:
        if excess(end) < 0.0:
            w = root(excess, min(end, top), max(end, top))
            s = w * (plus.margin(w / above) - program.b)
            if w >= lens.least and lens.s(-1.0, w) <= s <= lens.s(1.0, w):
                yield Merged(h0, w, s, (above, below), 1.0, np.zeros(0))


def _fitting(program: Program, above: int, below: int) -> Iterator[Merged]:
    """Yield merged points that take no more than so many."""
    if program.free:
        yield roomy(program)
        return

    def fits(merged: Merged | None) -> bool:
        return merged is not None and all(
            number <= n * (1.0 + 8.0 * UNIT) or number < NOTHING
            for number, n in zip(merged.numbers, (above, below), strict=True)
        )

    best = program.solve(0.0)
    if fits(best):
        yield best
    for number, other, index in ((above, below, 0), (below, above, 1)):
        if (merged := _taking(program, number, index, other)) is not None and fits(merged):
            yield merged


def _alone(program: Program, above: int, below: int) -> Iterator[Merged]:
    """Yield merged points of which one sign has no weight at all."""
    if above and below:
        return
    sign = 1.0 if above else -1.0
    weights = [sign * program.h0] if program.h0 is not None else []
    if program.h0 is None and not program.free:
        merged = _taking(program, 0, 1 if above else 0)
        if merged is not None:
            weights = [merged.weight if above else merged.weight - merged.h0]
    for weight in weights:
        if weight > 0.0:
            w, s = (weight, program.th) if above else (0.0, 0.0)
            yield Merged(sign * weight, w, s, (0.0, 0.0), 1.0, np.zeros(0))


def _taking(program: Program, number: int, index: int, most: float = math.inf) -> Merged | None:
    """Return merged points of which one sign takes exactly ``number``, the other the fewest.

    None if there are none, or if the other takes clearly more than ``most``.
    """

    def excess(log_ratio: float) -> float:
        return program.solve(log_ratio).numbers[index] - number

    if number == 0:
        merged = program.solve(FARTHEST if index == 0 else -FARTHEST)
        return merged if merged.numbers[index] < NOTHING else None
    ends = program.between(number, index)
    if excess(ends[0]) > 0.0 or excess(ends[1]) < 0.0:
        return None
    rough = root(excess, *ends, xtol=1e-6)
    least = program.solve(rough + math.copysign(1e-6, ends[0] - rough)).numbers
    if least[1 - index] > most + 1e-3 * (1.0 + most):
        return None
    return program.solve(root(excess, *ends, xtol=1e-15))


# -- least squares: labels take up what numbers leave -------------------------------------------------


def _linear(program: Program, above: int, below: int) -> Iterator[Dataset]:
    """Yield least squares points: any residual up to the rate has a label."""
    first, second = (program.plus, above), (program.minus, below)
    limited = not (program.plus.unlimited or program.minus.unlimited)
    for merged in itertools.chain(
        _equal(program, first, second) if limited else (),
        _alone(program, above, below),
        _fitting(program, above, below),
    ):
        yield from _labelled(program, merged, above, below)


def roomy(program: Program, size: float = 1.0) -> Merged:
    """Return merged points of a weight well inside the possible ones, for labels without a bound."""
    h0 = program.h0 if program.h0 is not None else 0.0
    lens = program.lens(h0)
    w = 2.0 * lens.least + size * float(np.max(np.abs(program.features), initial=abs(h0)))
    ends = lens.s(-1.0, w), lens.s(1.0, w)
    middle = program.th * w / (2.0 * w - h0)
    if all(map(math.isfinite, ends)):
        middle = 0.5 * sum(ends)
    return Merged(h0, w, min(max(middle, ends[0]), ends[1]), (0.0, 0.0), 1.0, np.zeros(0))


def _labelled(program: Program, merged: Merged, above: int, below: int) -> Iterator[Dataset]:
    """Yield the merged points with the labels that their weights ask for, if those are allowed."""
    w, v = merged.weight, merged.weight - merged.h0
    low, high = program.labels
    groups: list[Group] = []
    for sign, number, weight, x in zip(
        (1.0, -1.0), (above, below), (w, v), program.inputs(merged), strict=True
    ):
        z = float(program.t @ x) + program.b
        if number:
            label = z - sign * weight / number
            slack = 1e-13 * (abs(z) + abs(label))
            if not low - slack <= label <= high + slack:
                return
            groups.append((number, x, min(max(label, low), high)))
    if groups:
        yield _dataset(groups)


# -- Poisson: labels are counts -----------------------------------------------------------------------


def _counted(program: Program, above: int, below: int) -> Iterator[Dataset]:
    """Yield Poisson points: n with the predictor z and counts of sum Y have the weight n e^z - Y."""
    if not (above and below):
        yield from _counted_alone(program, above, below)
        return
    low, high = program.plus.label, program.minus.label
    sums: set[tuple[int, int]] = set()
    starts = [roomy(program, size) for size in (1.0, 8.0)]
    if not program.free:
        starts += [program.solve(0.0), program.solve(math.log(below / above))]
    for merged in starts:
        w, v = merged.weight, merged.weight - merged.h0
        z = merged.s / w + program.b if w > 0.0 else 0.0
        other = (merged.s - program.th) / v + program.b if v > 0.0 else 0.0
        first = above * math.exp(min(z, LARGEST_EXPONENT)) - w
        second = below * math.exp(min(other, LARGEST_EXPONENT)) + v
        for i in (0, 1, -1, 2):
            for j in (0, 1, -1, 2):
                sums.add((math.floor(first) + i, math.ceil(second) - j))
    for total, rest in sorted(sums, key=lambda pair: (pair[0] - above * low, -pair[1])):
        if total < above * low or rest > below * high or total < 0 or rest < 0:
            continue
        if total > above * high or rest < below * low:
            continue
        branches = (PoissonBranch(1.0, total / above), PoissonBranch(-1.0, rest / below))
        if branches[1].label == 0.0:
            continue
        for merged in _equal(program, (branches[0], above), (branches[1], below)):
            yield _pair(program, merged, _shared(total, above), _shared(rest, below))


def _counted_alone(program: Program, above: int, below: int) -> Iterator[Dataset]:
    """Yield Poisson points whose residuals all have one sign: equal ones, or of two kinds.

    Counts that all fit leave room, and inputs that are spread take it up.
    """
    n, index = above + below, 0 if above else 1
    sign = 1.0 - 2.0 * index
    for merged in _alone(program, above, below):
        weight, x = abs(merged.h0), program.inputs(merged)[index]
        z = float(program.t @ x) + program.b
        if z > LARGEST_EXPONENT:
            return
        total = n * math.exp(z) - sign * weight
        if program.plus.label * n <= round(total) <= program.minus.label * n:
            yield _dataset([(number, x, y) for number, y in _shared(round(total), n) if number])
        for step in range(3):
            y = math.floor(total / n) - step if above else math.ceil(total / n) + step
            if program.plus.label <= y <= program.minus.label and (above or y > 0):
                branch = PoissonBranch(sign, float(y))
                for two in _two_kinds(program, x, branch, weight, n):
                    yield _dataset([(number, kind, float(y)) for number, kind in two])


def _shared(total: int, number: int) -> list[tuple[int, float]]:
    """Return how many points get which count, the sum being the total."""
    count, more = divmod(total, number)
    return [(number - more, float(count)), (more, count + 1.0)]


# -- logistic: residuals are what inputs make them ----------------------------------------------------


def _spread(program: Program, above: int, below: int) -> Iterator[Dataset]:
    """Yield datasets in which one sign's points are equal and the other's are of two kinds."""
    branch = program.plus, program.minus
    if not (above and below):
        index = 0 if above else 1
        for alone in _alone(program, above, below):
            point = program.inputs(alone)[index]
            for two in _two_kinds(program, point, branch[index], abs(alone.h0), above + below):
                yield _dataset([(number, kind, branch[index].label) for number, kind in two])
        return
    for own, other, index in ((above, below, 0), (below, above, 1)):
        merged = _taking(program, own, index, other)
        if merged is None or merged.numbers[1 - index] > other:
            continue
        weights = merged.weight, merged.weight - merged.h0
        if not min(weights) > 0.0:
            continue
        x, rest = program.inputs(merged), branch[1 - index]
        for two in _two_kinds(program, x[1 - index], rest, weights[1 - index], other):
            groups = [(own, x[index], branch[index].label)]
            yield _dataset(groups + [(number, kind, rest.label) for number, kind in two])


def _two_kinds(
    program: Program, x: FloatArray, branch: Branch, weight: float, number: int
) -> Iterator[list[tuple[int, FloatArray]]]:
    r"""Yield points x + a d and x - c d with the weight W and the mean x of merged ones.

    n of them, whose margin is :math:`M + a`, have the weight :math:`W_1 = n\,r(M + a)`; the others
    :math:`W_2 = W - W_1`, at the distance :math:`c = W_1 a/W_2`. Costs are convex, so the number of
    these grows with a and is right at one a at most; the room beside x decides which n will do.
    """
    slope = branch.sign * program.t
    m = float(slope @ x) + branch.sign * program.b
    farthest = program.range[1] if branch.sign > 0.0 else -program.range[0]
    for first in _shares(number):

        def parts(a: float, first: int = first) -> tuple[float, float]:
            """Return the weight of the second kind and its distance."""
            one = first * branch.rate(m + a)
            two = weight - one
            return two, (one * a / two if two > 0.0 else math.inf)

        def excess(a: float, second: int = number - first) -> float:
            two, c = parts(a)
            return min(two * branch.cost(m - c) - second, number) if two > 0.0 else number

        end = (1.0 + TINY) * min(farthest - m, FARTHEST)
        if weight < first * branch.top:
            end = min(end, branch.margin(weight / first) - m)
        if not (end > 0.0 and excess(0.0) < 0.0 <= excess(end)):
            continue
        a = root(excess, 0.0, end)
        c = parts(a)[1]
        step = program.shape.room(x, slope, a, c)
        reach = float(slope @ step)
        if reach >= 1.0 - TINY:
            d = step / reach
            kinds = program.shape.inside(x + a * d), program.shape.inside(x - c * d)
            yield [(first, kinds[0]), (number - first, kinds[1])]


def _shares(number: int) -> list[int]:
    """Return numbers of the first of two kinds worth trying, nearly halves first."""
    most = max(number - 1, 0)
    shares = np.linspace(1, most, min(most, MOST_SHARES)).round().astype(int).tolist()
    return sorted(set(shares), key=lambda n: abs(2 * n - number))


# -- any loss, in a box: bounded least squares --------------------------------------------------------


def scattered(program: Program, above: int, below: int) -> Iterator[Dataset]:
    r"""Yield points of which up to three of a sign are free, the others equal, by least squares.

    The equations :math:`\sum_i c_i w_i x_i = h` are fewer than the inputs, and are solved within the box
    (trust regions) from the merged points, the single ones started in random places.
    """
    pieces = [piece for _, piece in program.shape.pieces]
    d = len(program.t)
    boxed = all(isinstance(piece, Intervals) for piece in pieces)
    if not boxed or isinstance(program.loss, LeastSquares) or program.refutes(above, below):
        return
    if (min(above, FREE + 1) + min(below, FREE + 1)) * d > MOST_INPUTS:
        return
    low, high = (
        np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("low", "high")
    )
    merged = roomy(program) if program.free else program.solve(0.0)
    x, y = program.inputs(merged)
    labels = program.plus.label, program.minus.label
    if isinstance(program.loss, Poisson) and not math.isfinite(labels[1]):
        labels = labels[0], _label_below(program, merged, below)
    # Inputs without a bound stay near the merged ones, where exponentials are finite.
    span = np.minimum(
        1.0 + np.abs(x) + np.abs(y), FARTHEST / (d * np.maximum(np.abs(program.t), TINY))
    )
    low = np.where(np.isfinite(low), low, np.minimum(x, y) - span)
    high = np.where(np.isfinite(high), high, np.maximum(x, y) + span)
    rng = np.random.default_rng(0)
    for _ in range(TRIES):
        groups: list[Group] = []
        for number, start, label in zip((above, below), (x, y), labels, strict=True):
            singles = min(number, FREE)
            if number > singles:
                groups.append((number - singles, start, label))
            for _ in range(singles):
                share = rng.uniform(0.0, 1.0)
                vertex = np.where(rng.random(d) < 0.5, low, high)
                groups.append((1, start + share * (vertex - start), label))
        with np.errstate(all="ignore"):  # trust regions that shrink to nothing
            yield from _solved(program, _dataset(groups), low, high)


def _label_below(program: Program, merged: Merged, number: int) -> float:
    """Return a count above the predictor's mean by the residual that is needed."""
    v = merged.weight - merged.h0
    z = (merged.s - program.th) / v + program.b
    return float(math.ceil(math.exp(min(z, LARGEST_EXPONENT)) + v / max(number, 1)))


def _solved(
    program: Program, start: Dataset, low: FloatArray, high: FloatArray
) -> Iterator[Dataset]:
    """Yield the dataset with inputs moved within the box so that its gradients sum to h."""
    loss, t, b = program.loss, program.t, program.b
    d = len(t)
    width = high - low
    counts, y = start.counts[:, None], start.y
    size = max(float(np.max(np.abs(program.h))), TINY)

    def split(inputs: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        x = inputs.reshape(-1, d)
        z = x @ t + b
        return x, loss.residual(z, y), loss.curvature(z, y)

    def missing(inputs: FloatArray) -> FloatArray:
        x, w, _ = split(inputs)
        weighted = counts * w[:, None]
        total = np.sum(weighted * x, axis=0)
        if loss.intercept:
            total = np.append(total, np.sum(weighted))
        return np.asarray((total - program.h) / size)

    def jacobian(inputs: FloatArray) -> FloatArray:
        x, w, dw = split(inputs)
        blocks = w[:, None, None] * np.eye(d) + dw[:, None, None] * x[:, :, None] * t
        if loss.intercept:
            last = np.broadcast_to(dw[:, None, None] * t, (len(x), 1, d))
            blocks = np.concatenate([blocks, last], axis=1)
        blocks = counts[:, :, None] * blocks / size
        return np.asarray(np.concatenate(list(blocks), axis=1))

    margin = 1e-6 * width
    inside = np.clip(start.x, low + margin, high - margin).ravel()
    if not (np.isfinite(missing(inside)).all() and np.isfinite(jacobian(inside)).all()):
        return
    found = least_squares(
        missing,
        inside,
        jac=jacobian,
        bounds=(np.tile(low, len(y)), np.tile(high, len(y))),
        x_scale=np.tile(width, len(y)),
        xtol=4 * UNIT,
        ftol=4 * UNIT,
        gtol=None,
        max_nfev=MOST_ROUNDS if inside.size <= FEW_INPUTS else MOST_ROUNDS // 3,
    )
    yield Dataset(np.clip(found.x.reshape(-1, d), low, high), y, start.counts)


# -- points that add nothing --------------------------------------------------------------------------


def silent(program: Program, number: int) -> Dataset | None:
    """Return points with residual 0, which change no gradient; None if the loss or labels have none."""
    lowest, highest = program.range
    low, high = program.plus.label, program.minus.label
    if isinstance(program.loss, LeastSquares):
        z = min(max(0.0, low, lowest), high, highest)
        fits = max(low, lowest) <= z
        label = z
    elif isinstance(program.loss, Poisson):
        count = max(1.0, low, math.ceil(math.exp(min(lowest, LARGEST_EXPONENT))))
        fits = count <= high and math.log(count) <= highest
        z, label = math.log(count), count
    else:
        return None
    if not fits or number == 0:
        return None
    x = _with_predictor(program, z)
    if isinstance(program.loss, LeastSquares):
        label = float(program.t @ x) + program.b
        if not low <= label <= high:
            return None
    return _dataset([(number, x, label)])


def _with_predictor(program: Program, z: float) -> FloatArray:
    """Return an input of the domain with predictor z, which must be in range."""
    middle = program.shape.inside(np.zeros_like(program.t))
    off = z - (float(program.t @ middle) + program.b)
    if off == 0.0:
        return middle
    far = program.shape.top(math.copysign(1.0, off) * program.t)
    span = far - middle
    if not np.isfinite(span).all():
        span = np.where(np.isfinite(span), 0.0, np.sign(off) * program.t)
        return np.asarray(middle + span * (off / float(program.t @ span)))
    room = float(program.t @ span)
    return np.asarray(middle + span * (min(off / room, 1.0) if room else 0.0))


def append(data: Dataset, more: Dataset) -> Dataset:
    """Return the rows of both."""
    return Dataset(
        np.vstack([data.x, more.x]),
        np.append(data.y, more.y),
        np.append(data.counts, more.counts),
    )
