r"""Impossibility: how near to the honest mean a server can come, whatever its rule.

Of N users f are strategic. What user n would learn alone is its *preferred model*,
:math:`p_n = \arg\min L_n` (ridge included, regularizer not), and the server would like the mean of the
honest ones. It does not know who they are, only that their preferred models lie within a diameter
:math:`\Delta`.

**Two worlds** (:math:`1 \le f \le N/2`). Users 0, ..., f - 1 prefer 0; the last f prefer a model at the
distance D; the N - 2f others prefer models on the segment between, within :math:`\Delta` of both ends:
:math:`t \in [D - \Delta, \Delta]`. In one world the last f are strategic, in the other the first f; each
has N - f honest users, whose diameter is at most :math:`\Delta`, and the N - 2f others are honest in
both. Strategic users follow the protocol, with data that they made up. So all N datasets are the same in
both worlds, all reports are, and the server's model :math:`\rho` is. But the honest means are

.. math:: m_0 = \frac1{N-f} \sum_{\text{others}} p_n, \qquad m_1 = m_0 + \frac{f D}{N - f}\,v, \quad
          |v| = 1, \qquad\text{so}\qquad
          \max_k |\rho - m_k| \ge \frac{|m_1 - m_0|}2 = \frac{f D}{2 (N - f)}.

A server that draws lots has the same distribution in both, and the bound holds on average.

How far apart the ends may be:

- :math:`D = \Delta`: all N are within the diameter :math:`\Delta`, no strategic user stands out, and
  the bound is :math:`f\Delta / (2 (N - f))`. This is the published one.
- :math:`D = 2\Delta`, N > 2f: the others are in the middle, and strategic users are outside the honest
  diameter. The bound is :math:`f\Delta / (N - f)`, twice as much.
- N = 2f: nobody is between, each world's honest users agree, and D has no limit.

For models of one number neither can be improved. Let :math:`h_1 \le \cdots \le h_{N-f}` be the honest
numbers. Of all N in order, the (f + i)-th is between :math:`h_i` and :math:`h_{f+i}`. So the mean
without the f least and the f largest is between the means of the N - 2f least and of the N - 2f largest
honest numbers, and either is within :math:`f\Delta / (N - f)` of the honest mean. If all N are within
:math:`\Delta`, the honest mean is between the mean of the N - f least and that of the N - f largest,
which are at most :math:`f\Delta / (N - f)` apart: their midpoint is within half of that.

Two worlds show what no server avoids, not what one guarantees: strategic users farther out than these
pull a mean anywhere.

The bound speaks of the mean of preferred models. That is what honest users alone would get under squared
l2 or hard consensus if their losses are equally curved, as they are here; under l2 they get a median.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray, IntArray
from gplconvex.certificates import Certificate, certify
from gplconvex.data import Dataset, float_array, is_number
from gplconvex.envelope import moreau_envelope
from gplconvex.equivalence import reproduce_gradient
from gplconvex.errors import InvalidInputError
from gplconvex.federated import run
from gplconvex.federated.rules import Rule, all_rules
from gplconvex.losses import LeastSquares
from gplconvex.problem import Problem
from gplconvex.regularizers import L2, HardConsensus, Regularizer, SmoothL2, SquaredL2, norm
from gplconvex.solvers import solve

__all__ = [
    "Instance",
    "Measurement",
    "PoisonedWorld",
    "Sweep",
    "World",
    "indistinguishable",
    "measure",
    "poisoned_worlds",
    "server_rules",
    "sweep",
]

FIT = 100.0
r"""Curvature w of the local losses: many times :math:`\lambda = 1`, so that personal models are near the
preferred ones."""

RIDGE = 1.0
r"""The ridge :math:`\nu` of all users, whose share of the curvature is :math:`2\nu`."""

REGULARIZERS: Mapping[str, Regularizer] = {
    "squared l2": SquaredL2(1.0),
    "l2": L2(1.0),
    "smooth l2": SmoothL2(1.0),
    "hard consensus": HardConsensus(),
}
"""What is measured with all reports counted alike."""

CLIPPING = 1.0
"""The radius of centered clipping, in units of reports."""

MAX_ROUNDS = 50
"""Rounds of a run that does not settle, as when krum has ties to break; the others take three."""


@dataclass(frozen=True, eq=False)
class World:
    """Who is honest in one of the two worlds.

    Attributes
    ----------
    honest, strategic : tuple of int
        The users, in order.
    mean : array, shape (d,)
        The mean of the honest preferred models.
    diameter : float
        Their largest distance.
    """

    honest: tuple[int, ...]
    strategic: tuple[int, ...]
    mean: FloatArray
    diameter: float


@dataclass(frozen=True, eq=False)
class Instance:
    r"""N users, and two worlds which no server can tell apart.

    Attributes
    ----------
    f : int
        How many are strategic.
    delta : float
        :math:`\Delta`, which no honest diameter exceeds.
    reach : float
        :math:`D/\Delta`.
    preferred : array, shape (N, d)
        The preferred models: the first f are equal, and so are the last f.
    datasets : tuple of Dataset
        The data of every user, honest or made up: d points, with which
        :math:`L_n(\theta) = \tfrac{w}{2} |\theta - p_n|^2` plus a constant, w = `FIT`.
    worlds : tuple of two World
        In the first the last f users are strategic, in the second the first f.
    """

    f: int
    delta: float
    reach: float
    preferred: FloatArray
    datasets: tuple[Dataset, ...]
    worlds: tuple[World, World]

    @property
    def n_users(self) -> int:
        """N."""
        return len(self.datasets)

    @property
    def bound(self) -> float:
        r""":math:`f D/(2 (N - f))`, at least the error of every server in one of the worlds."""
        return 0.5 * self.f * self.reach * self.delta / (self.n_users - self.f)

    def problem(self, regularizer: Regularizer, world: World | None = None) -> Problem:
        """Return the problem of all N users, the same in both worlds; or of a world's honest ones."""
        users = range(self.n_users) if world is None else world.honest
        return Problem(LeastSquares(), regularizer, [self.datasets[n] for n in users], RIDGE)

    def errors(self, rho: npt.ArrayLike) -> FloatArray:
        r"""Return :math:`|\rho - m_k|` for both worlds, shape (2,)."""
        model = float_array("rho", rho)
        if model.shape != self.preferred.shape[1:]:
            raise InvalidInputError(
                f"rho must have shape {self.preferred.shape[1:]}; got {model.shape}"
            )
        return np.array([norm(model - world.mean) for world in self.worlds])


def indistinguishable(
    n_users: int,
    f: int,
    delta: float,
    *,
    rest: float | Sequence[float] = 0.0,
    reach: float = 1.0,
    direction: npt.ArrayLike = (1.0,),
) -> Instance:
    r"""Return N users in two worlds with the same reports and different honest means.

    Parameters
    ----------
    n_users, f : int
        N and f, :math:`1 \le f \le N/2`.
    delta : float
        :math:`\Delta`, positive.
    rest : float, or a sequence of N - 2f floats
        Where the others are, from 0 to 1 on the segment that is within :math:`\Delta` of both ends.
    reach : float
        :math:`D/\Delta`, from 1 to 2: the distance of the ends.
    direction : array_like, shape (d,)
        Of the line on which all preferred models are; its length does not matter.

    Returns
    -------
    Instance
        Its ``bound`` is :math:`f D/(2 (N - f))`.

    Raises
    ------
    InvalidInputError
        For numbers outside these ranges.

    Notes
    -----
    Source: E. M. El-Mhamdi et al., *Collaborative learning in the jungle*, NeurIPS 2021, for the kind of
    argument, and Farhadkhani et al. 2022; the constant for D beyond :math:`\Delta`, and that neither
    can be improved for one number, this package.

    Examples
    --------
    >>> instance = indistinguishable(7, 2, 3.0)
    >>> [world.mean.round(12).tolist() for world in instance.worlds]
    [[0.0], [1.2]]
    >>> instance.bound
    0.6
    """
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in (n_users, f))
    if not (whole and f >= 1 and 2 * f <= n_users):
        raise InvalidInputError(
            "f must be an integer from 1, and n_users one from 2 f (with more strategic users than "
            f"honest ones the worlds have nobody in common); got f = {f!r}, n_users = {n_users!r}"
        )
    if not (is_number(delta) and 0.0 < delta < math.inf):
        raise InvalidInputError(f"delta must be a positive number; got {delta!r}")
    if not (is_number(reach) and 1.0 <= reach <= 2.0):
        raise InvalidInputError(
            "reach must be from 1 to 2 (beyond it, nobody is within delta of both ends); got "
            f"{reach!r}"
        )
    along = float_array("direction", direction)
    if along.ndim != 1 or not np.isfinite(along).all() or not along.any():
        raise InvalidInputError(
            f"direction must be d finite numbers, not all 0; got {along.tolist()}"
        )
    n_rest = int(n_users) - 2 * int(f)
    shares = float_array("rest", rest)
    if shares.ndim == 0:
        shares = np.full(n_rest, float(shares))
    if shares.shape != (n_rest,) or not ((shares >= 0.0) & (shares <= 1.0)).all():
        raise InvalidInputError(
            f"rest must be a number from 0 to 1, or N - 2f = {n_rest} of them; got {rest!r}"
        )
    between = (reach - 1.0) + (2.0 - reach) * shares
    places = delta * np.concatenate([np.zeros(f), between, np.full(f, reach)])
    preferred = np.outer(places, along / norm(along))
    root = math.sqrt(FIT - 2.0 * RIDGE)
    x = root * np.eye(len(along))
    datasets = tuple(Dataset(x, FIT / root * p) for p in preferred)  # also against the ridge
    preferred.setflags(write=False)
    users = tuple(range(int(n_users)))
    first = _world(preferred, places, users[: len(users) - f], users[len(users) - f :])
    second = _world(preferred, places, users[f:], users[:f])
    return Instance(int(f), float(delta), float(reach), preferred, datasets, (first, second))


def _world(
    preferred: FloatArray, places: FloatArray, honest: tuple[int, ...], strategic: tuple[int, ...]
) -> World:
    mine = list(honest)
    diameter = float(np.ptp(places[mine]))
    return World(honest, strategic, np.asarray(preferred[mine].mean(axis=0)), diameter)


# -- what servers do ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Measurement:
    r"""Where servers end, and how far from the honest mean that is.

    Attributes
    ----------
    instance : Instance
        The two worlds.
    rho : dict
        The model of each server, by the name of its regularizer or rule.
    unsettled : tuple of str
        Rules whose run did not become stationary; theirs is the last model.
    """

    instance: Instance
    rho: dict[str, FloatArray]
    unsettled: tuple[str, ...]

    @property
    def errors(self) -> dict[str, FloatArray]:
        """The distances to the honest mean in the two worlds, shape (2,), by server."""
        return {name: self.instance.errors(model) for name, model in self.rho.items()}

    @property
    def over_bound(self) -> dict[str, float]:
        """The larger of them over the bound, by server; at least 1."""
        bound = self.instance.bound
        return {name: float(errors.max()) / bound for name, errors in self.errors.items()}


def server_rules(n_users: int, f: int) -> dict[str, Rule]:
    """Return the rules of `gplconvex.federated.rules` that are made for f of N, by name.

    See `gplconvex.federated.rules.all_rules`; centered clipping has the radius `CLIPPING`.
    """
    rules = all_rules(n_users, f, CLIPPING)
    return {name.replace("_", " "): rule for name, rule in rules.items()}


def measure(
    instance: Instance,
    *,
    regularizers: Mapping[str, Regularizer] = REGULARIZERS,
    rules: Mapping[str, Rule] | None = None,
) -> Measurement:
    r"""Measure regularizers and server rules against the bound.

    Parameters
    ----------
    instance : Instance
        The two worlds.
    regularizers : mapping
        By name; the server's model is the optimum of the problem of all N users.
    rules : mapping, optional
        By name; the server's model is where rounds end under squared l2 with :math:`\lambda = 1`. The
        step is one over the curvature of :math:`\sum_n M_n`, :math:`N\,2\lambda w/(2\lambda + w)`, with
        which a rule that moves and grows with its reports arrives at once. Default, `server_rules`.

    Returns
    -------
    Measurement
        Since both worlds are the same problem, each server is run once.

    Raises
    ------
    InvalidInputError
        If a regularizer and a rule have the same name.
    NotSolvedError
        If an optimum is not certified.

    Examples
    --------
    >>> measured = measure(indistinguishable(7, 2, 1.0, rest=0.5))
    >>> min(measured.over_bound.values()) > 1.0 - 1e-9  # no server beats the bound, ...
    True
    >>> round(measured.over_bound["trimmed mean"], 6)  # ... and some attain it
    1.0
    """
    chosen = server_rules(instance.n_users, instance.f) if rules is None else rules
    twice = sorted(set(regularizers) & set(chosen))
    if twice:
        raise InvalidInputError(f"regularizers and rules must have different names; got {twice}")
    models = {
        name: solve(instance.problem(regularizer)).require_optimal().rho
        for name, regularizer in regularizers.items()
    }
    unsettled = []
    everybody = instance.problem(SquaredL2(1.0))
    step = (2.0 + FIT) / (2.0 * FIT * instance.n_users)
    for name, rule in chosen.items():
        trace = run(everybody, rule=rule, step_size=step, max_rounds=MAX_ROUNDS, keep_reports=False)
        models[name] = trace.rho[-1]
        if trace.stopped != "stationary":
            unsettled.append(name)
    return Measurement(instance, models, tuple(unsettled))


@dataclass(frozen=True, eq=False)
class Sweep:
    r"""The largest errors over the bound, for m pairs of f and :math:`\Delta`.

    Attributes
    ----------
    n_users : int
        N.
    reach : float
        :math:`D/\Delta`.
    f : array of int, shape (m,)
    delta, bound : array, shape (m,)
    over_bound : dict
        By server, shape (m,); NaN where a rule is left out.
    """

    n_users: int
    reach: float
    f: IntArray
    delta: FloatArray
    bound: FloatArray
    over_bound: dict[str, FloatArray]


def sweep(
    n_users: int,
    f: int | Sequence[int],
    delta: float | Sequence[float],
    *,
    reach: float = 1.0,
    regularizers: Mapping[str, Regularizer] = REGULARIZERS,
) -> Sweep:
    r"""Measure servers as f or :math:`\Delta` grow, where the others are placed worst.

    The others are at the two ends of where they may be, and of all numbers at the one and the other the
    worst counts, for each server its own.

    Parameters
    ----------
    n_users : int
        N.
    f, delta : number or sequence
        One of each, or sequences of the same length.
    reach : float
        As for `indistinguishable`.
    regularizers : mapping
        As for `measure`.

    Returns
    -------
    Sweep

    Raises
    ------
    InvalidInputError, NotSolvedError
        As `indistinguishable` and `measure`; the first also for sequences that do not match.

    Examples
    --------
    A median follows the majority, however few are strategic; a mean does not:

    >>> result = sweep(7, [1, 2, 3], 1.0, regularizers={})
    >>> result.over_bound["coordinate median"].round(6)
    array([6., 3., 2.])
    >>> result.over_bound["trimmed mean"].round(6)
    array([2., 2., 2.])
    """
    try:
        numbers, deltas = np.broadcast_arrays(np.atleast_1d(f), np.atleast_1d(delta))
    except ValueError as error:
        raise InvalidInputError(
            f"f and delta must be numbers or sequences of one length; got {f!r} and {delta!r}"
        ) from error
    columns, bounds = [], []
    for some, width in zip(numbers.tolist(), deltas.tolist(), strict=True):
        worst: dict[str, float] = {}
        for split in _splits(n_users, some):
            instance = indistinguishable(n_users, some, width, rest=split, reach=reach)
            for name, ratio in measure(instance, regularizers=regularizers).over_bound.items():
                worst[name] = max(ratio, worst.get(name, 0.0))
        columns.append(worst)
        bounds.append(instance.bound)
    names = dict.fromkeys(name for worst in columns for name in worst)
    return Sweep(
        n_users,
        reach,
        np.array(numbers),
        np.array(deltas, dtype=np.float64),
        np.array(bounds),
        {name: np.array([worst.get(name, math.nan) for worst in columns]) for name in names},
    )


def _splits(n_users: int, f: int) -> list[list[float]]:
    """Return all ways to place the others at two ends; one at least, and be it of nobody."""
    n_rest = max(0, n_users - 2 * f)
    return [[0.0] * (n_rest - high) + [1.0] * high for high in range(n_rest + 1)]


# -- as data poisoning -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PoisonedWorld:
    r"""One world whose strategic users own the fewest points that do the same.

    Attributes
    ----------
    world : World
        Who is honest.
    poisoned : Problem
        The honest users of that world, then the f poisoners.
    n_points : int
        How many points each poisoner owns.
    rho : array, shape (d,)
        The optimum of the problem in which they own what honest users would.
    certificate : Certificate
        That it is an optimum of ``poisoned``, too.
    """

    world: World
    poisoned: Problem
    n_points: int
    rho: FloatArray
    certificate: Certificate


def poisoned_worlds(
    instance: Instance, regularizer: Regularizer
) -> tuple[PoisonedWorld, PoisonedWorld]:
    r"""Read the bound as one on data poisoning, by the equivalence.

    In each world the strategic users are given the fewest points that make them report at the common
    optimum :math:`\rho` what they report there (T2.5). They follow the protocol, and in both worlds
    :math:`\rho` is an optimum still.

    Parameters
    ----------
    instance : Instance
        The two worlds.
    regularizer : Regularizer
        The server's.

    Returns
    -------
    pair of PoisonedWorld
        Nothing is solved again: the certificates say that both worlds keep the optimum. Where their
        ``distance`` is finite it is the only one.

    Raises
    ------
    NotSolvedError
        If the common optimum is not certified.

    Examples
    --------
    >>> instance = indistinguishable(5, 1, 8.0)
    >>> for each in poisoned_worlds(instance, SquaredL2(1.0)):
    ...     rho = solve(each.poisoned).rho
    ...     error = norm(rho - each.world.mean)
    ...     print(each.n_points, each.certificate.gap < 1e-9, rho.round(9), round(error, 9))
    1 True [1.6] 1.6
    1 True [1.6] 0.4
    """
    everybody = instance.problem(regularizer)
    rho = solve(everybody).require_optimal().rho
    first, second = (_poisoned(instance, everybody, rho, world) for world in instance.worlds)
    return first, second


def _poisoned(
    instance: Instance, everybody: Problem, rho: FloatArray, world: World
) -> PoisonedWorld:
    honest = instance.problem(everybody.regularizer, world)
    report = moreau_envelope(everybody, world.strategic[0], rho).gradient
    attack = reproduce_gradient(honest, rho, report)
    poisoned = attack.poisoned
    for _ in world.strategic[1:]:
        poisoned = poisoned.with_user(attack.dataset, RIDGE)
    thetas = [*attack.thetas, *[attack.theta] * (instance.f - 1)]
    certificate = certify(poisoned, rho, thetas)
    return PoisonedWorld(world, poisoned, attack.n_points, rho, certificate)
