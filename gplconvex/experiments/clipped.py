r"""Fake points that must be images: pixels in [0, 1].

Two honest users, and a liar whose inputs must look like theirs.

- **Two classes**: the fewest points are known with inputs unbounded and in [0, 1] (T3.5), for the
  target and for models of the same labels that are smaller.
- **Ten classes**: no construction is sure to find images. That of `gplconvex.poison` starts anywhere in
  the box, where the attacker's large model is sure of a class and residuals vanish; none of its starts
  that were tried led anywhere. `shared_images` starts where a point pays most, at honest images,
  darkened and moved by as little as possible to logits :math:`\tau + (1 + \kappa_K) e_y` (T3.4), with
  plenty of points, and then lowers their number. The lower bound is that of unbounded inputs.
- **The published recipe**, clipped: inputs uniform in :math:`[0, 1]^d`, labeled with the probabilities
  of :math:`\theta_\spadesuit`, each counted a thousand times. Its certified optimum is how far it gets.

Source of the recipe: S. Farhadkhani, R. Guerraoui, L.-N. Hoang, O. Villemaud, *An Equivalence Between
Data Poisoning and Byzantine Gradient Attacks*, ICML 2022, a published notebook. Everything here is
written anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate, certify
from gplconvex.data import Dataset
from gplconvex.datasets import digits, mnist
from gplconvex.domains import Box
from gplconvex.equivalence import poison, required_gradient, to_model
from gplconvex.errors import InvalidInputError, UnrealizableGradientError
from gplconvex.experiments.federation import Federation, optimum
from gplconvex.experiments.price import two_classes
from gplconvex.experiments.results import Optimum, Result, Steps
from gplconvex.losses import Softmax
from gplconvex.parallel import single_threaded_blas
from gplconvex.realization.lower_bound import logit_difference
from gplconvex.realization.multiclass_bound import cheapest, fewest
from gplconvex.realization.softmax.bounded import Equations, Points
from gplconvex.realization.softmax.designs import apportion
from gplconvex.regularizers import norm
from gplconvex.replies import replies

PIXELS = Box(0.0, 1.0)

SCALES = (1.0, 0.3, 0.1, 0.03)
WEIGHT = 1000
"""How often the published notebook counts each point."""

SPARES = (2.2, 1.6, 1.35, 1.25, 1.15, 1.1)
"""Numbers of points that `shared_images` goes through, as multiples of the lower bound."""

EACH = 14
"""Images of each label that it moves."""

STARTS = 4
"""How often it starts anew, with other images, before it gives up."""

DARKEST = 0.3
"""An honest image is multiplied by a number from this to 1, and no pixel stays quite black."""

GRAY = 0.05

NEWTON_STEPS = 60
ALIKE = 1e-9
"""How near logits must come to those that are asked."""


@dataclass(frozen=True, eq=False)
class TwoClasses(Result):
    r"""The fewest points for m multiples of the target, two classes.

    Attributes
    ----------
    scales, reached : array, shape (m,)
        The target is so many times :math:`\rho_\dagger`; the share of the test images that it names as
        the attacker wants.
    free, free_bounds, pixels, pixels_bounds : arrays of int, shape (m,)
        Points, and the number below which nothing does, inputs unbounded and in [0, 1].
    distances : array, shape (2, m)
        Certified, of the poisoned optimum from the target: inputs unbounded, in [0, 1].
    images, labels, counts : arrays, shapes (n, d), (n,), (n,)
        The points in [0, 1] for the first scale.
    unbounded : array, shape (n', d)
        Those that are not images, for the first scale.
    one_label : bool
        Whether points of one label alone could make the first target the optimum: all residuals then
        have one sign, and the gradient must be a multiple of an image.
    """

    scales: Any
    reached: Any
    free: Any
    free_bounds: Any
    pixels: Any
    pixels_bounds: Any
    distances: Any
    images: Any
    labels: Any
    counts: Any
    unbounded: Any
    one_label: bool


@dataclass(frozen=True, eq=False)
class SharedImages(Result):
    """Images of K classes that make a target the optimum.

    Attributes
    ----------
    images, labels, counts : arrays, shapes (n, d), (n,), (n,)
        The points.
    bound : int
        No dataset of fewer has the gradient, images or not.
    free : int
        So many do, inputs unbounded.
    residual : float
        Of the gradient, relative.
    certificate : Certificate
        That the target is the optimum.
    reached : float
        The share of the test images that the target names one class on.
    """

    images: Any
    labels: Any
    counts: Any
    bound: int
    free: int
    residual: float
    certificate: Certificate
    reached: float

    @property
    def n_points(self) -> int:
        """Their number."""
        return int(self.counts.sum())


@dataclass(frozen=True, eq=False)
class Recipe(Result):
    r"""Where the published recipe leads.

    Attributes
    ----------
    images : str
        The name of the honest users' images.
    rows : array of int, shape (m,)
        Numbers of different points, each counted ``weight`` times.
    weight : int
    bound : int
        No dataset of fewer points makes the target the optimum.
    wanted : float
        :math:`|\rho_\dagger - \rho_{honest}|`, what is to be covered.
    optima : tuple of Optimum
        Certified.
    distances, reached, accuracy, attackers : arrays, shape (m,)
        Of the shared model from the target; the share of the test images it names one class on, and
        rightly; the norm of the attacker's model.
    theta : float
        :math:`|\theta_\spadesuit|`.
    """

    images: str
    rows: Any
    weight: int
    bound: int
    wanted: float
    optima: tuple[Optimum, ...]
    distances: Any
    reached: Any
    accuracy: Any
    attackers: Any
    theta: float


@dataclass(frozen=True, eq=False)
class Clipped(Result):
    """What a liar can do with images.

    Attributes
    ----------
    pair, several : str
        Names of the images: of two classes, and of several.
    pair_classes : (str, str)
        What the two labels stand for.
    pair_shape, several_shape : (int, int)
        Of one image.
    two : TwoClasses
    shared : SharedImages
    recipes : tuple of Recipe
    """

    pair: str
    several: str
    pair_classes: tuple[str, str]
    pair_shape: tuple[int, int]
    several_shape: tuple[int, int]
    two: TwoClasses
    shared: SharedImages
    recipes: tuple[Recipe, ...]


def clipped(
    pair: Federation,
    several: Federation,
    published: Sequence[tuple[Federation, Sequence[int]]] = (),
    *,
    classes: tuple[str, str] = ("0", "1"),
    scales: Sequence[float] = SCALES,
    spares: Sequence[float] = SPARES,
    each: int = EACH,
    weight: int = WEIGHT,
    seed: int = 0,
    steps: Steps = Steps(),
) -> Clipped:
    r"""Lead the shared model to the target with images.

    Parameters
    ----------
    pair, several : Federation
        Of two classes, and of any number, of few pixels: :math:`(d + 1)(K - 1)` equations are solved
        by dense algebra.
    published : sequence of (Federation, numbers of points)
        Where the published recipe is tried, and with how many points.
    classes : (str, str)
        What the labels of ``pair`` stand for.
    scales : sequence of float
        Multiples of the target of ``pair``.
    spares, each : sequence of float, int
        See `shared_images`.
    weight : int
        How often each point of the recipe counts.
    seed : int
        Of the recipe, and of `shared_images`.
    steps : Steps
        Keeps what takes long.

    Raises
    ------
    InvalidInputError
        If ``pair`` has not two classes, or images are not square.
    UnrealizableGradientError
        If `shared_images` finds none.
    """
    if pair.n_classes != 2:
        raise InvalidInputError(f"pair must be a federation of two classes; got {pair.n_classes}")
    inner = steps.within("clipped", seed=seed)
    two = inner.within("pair", **pair.settings, scales=list(scales))(
        "two classes", lambda: _two_classes(pair, pair.target(steps), scales)
    )
    shared = inner.within("several", **several.settings, spares=list(spares), each=each)(
        "shared images", lambda: _shared(several, several.target(steps), spares, each, seed)
    )
    recipes = []
    for federation, rows in published:
        of = inner.within(
            f"recipe {federation.name}", **federation.settings, rows=list(rows), weight=weight
        )
        recipes.append(_recipe(federation, rows, weight, seed, of))
    return Clipped(
        pair.name,
        several.name,
        classes,
        _square(pair),
        _square(several),
        two,
        shared,
        tuple(recipes),
    )


def _square(federation: Federation) -> tuple[int, int]:
    pixels = federation.x_test.shape[1]
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise InvalidInputError(
            f"images must be square; those of {federation.name} have {pixels} pixels"
        )
    return side, side


# -- two classes -------------------------------------------------------------------------------------


def _two_classes(pair: Federation, target: FloatArray, scales: Sequence[float]) -> TwoClasses:
    problem = pair.problem()
    free = [poison(problem, s * target) for s in scales]
    images = [poison(problem, s * target, domain=PIXELS) for s in scales]
    first = images[0]
    _, h = logit_difference(first.theta, first.data_gradient)
    shape = h[:-1] / h[-1] if h[-1] != 0.0 else np.full(len(h) - 1, np.inf)
    return TwoClasses(
        scales=np.array(scales),
        reached=np.array([pair.accuracy(s * target, 1) for s in scales]),
        free=np.array([attack.n_points for attack in free]),
        free_bounds=np.array([attack.lower_bound for attack in free]),
        pixels=np.array([attack.n_points for attack in images]),
        pixels_bounds=np.array([attack.lower_bound for attack in images]),
        distances=np.array(
            [[attack.certificate.distance for attack in attacks] for attacks in (free, images)]
        ),
        images=np.asarray(first.dataset.x),
        labels=first.dataset.y,
        counts=first.dataset.counts,
        unbounded=np.asarray(free[0].dataset.x),
        one_label=bool(PIXELS.contains(shape[None])[0]),
    )


# -- several classes ---------------------------------------------------------------------------------


def _shared(
    federation: Federation, target: FloatArray, spares: Sequence[float], each: int, seed: int
) -> SharedImages:
    problem = federation.problem()
    free = poison(problem, target)
    photos = np.vstack([np.asarray(user.x) for user in federation.users])
    with single_threaded_blas():  # many small matrices
        data, residual = shared_images(
            federation.loss,
            free.theta,
            free.data_gradient,
            photos,
            free.lower_bound,
            spares=spares,
            each=each,
            seed=seed,
        )
    poisoned = problem.with_user(data, federation.nu)
    honest = replies(problem, target).theta.reshape(-1, *problem.shape)
    return SharedImages(
        images=np.asarray(data.x),
        labels=data.y,
        counts=data.counts,
        bound=free.lower_bound,
        free=free.n_points,
        residual=residual,
        certificate=certify(poisoned, target, (*honest, free.theta)),
        reached=federation.accuracy(target, 1),
    )


def shared_images(
    loss: Softmax,
    theta: FloatArray,
    h: FloatArray,
    photos: FloatArray,
    least: int,
    *,
    spares: Sequence[float] = SPARES,
    each: int = EACH,
    seed: int = 0,
) -> tuple[Dataset, float]:
    r"""Return images whose gradients at ``theta`` sum to h, and what they miss of it, relative.

    Parameters
    ----------
    loss : Softmax
        With intercept.
    theta, h : arrays, shape (d + 1, K)
        The model and the gradient.
    photos : array, shape (n, d)
        Images to start from.
    least : int
        A lower bound of the number of points.
    spares : sequence of float
        Multiples of ``least``, falling: the numbers of points that are gone through. The last that is
        reached is shipped.
    each : int
        Images of each label that the search moves.
    seed : int
        Which of the photos.

    Raises
    ------
    UnrealizableGradientError
        If none were found.

    Notes
    -----
    Inputs and real counts move by Levenberg-Marquardt steps in the box, from one number of points to
    the next; then counts are rounded and stay, and inputs move alone (T3.5, at its end).
    """
    equations = Equations(loss, theta, h - h.mean(axis=1, keepdims=True), PIXELS)
    rng = np.random.default_rng(seed)
    numbers = [math.ceil(spare * least) for spare in spares]
    for _ in range(STARTS):
        points: Points | None = _start(equations, photos, numbers[0], each, rng)
        reached = []
        for k in numbers:
            if points is not None:
                counts = points.counts * (k / points.counts.sum())
                points = equations.solve(replace(points, counts=counts), float(k))
            if points is None:
                break
            reached.append((k, points))
        for k, rough in reversed(reached):
            found = _rounded(equations, rough, k)
            if found is not None:
                return found
    raise UnrealizableGradientError(
        f"no images with this gradient were found, {numbers[0]} or fewer where {least} are needed: try "
        "another seed, more images of each label, or a smaller target",
        direction=-theta,
    )


def _rounded(equations: Equations, rough: Points, k: int) -> tuple[Dataset, float] | None:
    """Return k points near those whose counts are real, and their residual."""
    counts = apportion(rough.counts, k)
    used = counts > 0.0
    solved = equations.solve(Points(counts[used], rough.labels[used], rough.t[used]))
    return None if solved is None else equations.polished(solved)


def _start(
    equations: Equations, photos: FloatArray, k: int, each: int, rng: np.random.Generator
) -> Points | None:
    """Return images where a point of their label pays most, in numbers that sum to k."""
    theta, h = equations.theta, equations.h
    best = cheapest(k, theta.shape[1], h[-1])
    slopes = (theta[:-1, 1:] - theta[:-1, :1]).T
    rows, labels, counts = [], [], []
    for label, number in enumerate(best.mix.tolist()):
        z = best.tau - theta[-1]
        z[label] += 1.0 + best.kappa
        photo = photos[rng.integers(len(photos), size=each)]
        dark = photo * rng.uniform(DARKEST, 1.0, size=(each, 1)) + GRAY
        moved = [nearest_image(x, slopes, z[1:] - z[0]) for x in dark]
        mine = [x for x in moved if x is not None]
        rows += mine
        labels += [float(label)] * len(mine)
        counts += [number / len(mine)] * len(mine) if mine else []
    if not rows:
        return None
    t = (np.stack(rows) - equations.center) / equations.radius
    total = np.array(counts)
    return Points(total * (k / total.sum()), np.array(labels), np.clip(t, -1.0, 1.0))


def nearest_image(photo: FloatArray, slopes: FloatArray, z: FloatArray) -> FloatArray | None:
    r"""Return the image x in [0, 1]^d nearest to another one with ``slopes @ x = z``, or None.

    It is :math:`\mathrm{clip}(x_0 + A^\top\mu)`; Newton's method finds :math:`\mu`.

    Examples
    --------
    >>> nearest_image(np.array([0.9, 0.1]), np.array([[1.0, 1.0]]), np.array([1.6]))
    array([1. , 0.6])
    """
    mu = np.zeros(len(z))
    ridge = 1e-6 * (float(np.sum(slopes * slopes)) or 1.0) * np.eye(len(z))
    moved = photo
    for _ in range(NEWTON_STEPS):
        moved = photo + slopes.T @ mu
        x = np.clip(moved, 0.0, 1.0)
        missing = z - slopes @ x
        if norm(missing) <= ALIKE * (1.0 + norm(z)):
            return np.asarray(x)
        free = slopes[:, (moved > 0.0) & (moved < 1.0)]
        step, length = np.linalg.solve(free @ free.T + ridge, missing), 1.0
        while length > 1e-4 and norm(
            z - slopes @ np.clip(photo + slopes.T @ (mu + length * step), 0.0, 1.0)
        ) >= norm(missing):
            length *= 0.5
        mu = mu + length * step
    return None


# -- the published recipe ----------------------------------------------------------------------------


def clipped_recipe(
    theta: FloatArray, n_points: int, *, weight: int = WEIGHT, seed: int = 0
) -> Dataset:
    r"""Return inputs uniform in [0, 1]^d, labeled with the probabilities of a model (d + 1, K).

    Examples
    --------
    >>> data = clipped_recipe(np.array([[1.0, -1.0], [0.0, 0.0]]), 3)
    >>> data.n_points, bool((data.x <= 1.0).all())
    (3000, True)
    """
    x = np.random.default_rng(seed).random((n_points, len(theta) - 1))
    labels = softmax(x @ theta[:-1] + theta[-1], axis=1)
    return Dataset(x, labels, np.full(n_points, weight))


@dataclass(frozen=True, eq=False)
class Spade(Result):
    """The attacker's model for the target, and the number of points below which nothing leads there."""

    theta: Any
    bound: int


def _recipe(
    federation: Federation, rows: Sequence[int], weight: int, seed: int, steps: Steps
) -> Recipe:
    honest, target, problem = (
        federation.honest(steps),
        federation.target(steps),
        federation.problem(),
    )

    def spade() -> Spade:
        gradient = required_gradient(problem, target)
        theta = to_model(problem, target, gradient)
        h = gradient - 2.0 * federation.nu * theta
        bound = fewest(float(np.vdot(theta, h)), federation.n_classes, h[-1] - h[-1].mean())
        return Spade(theta, bound)

    aim = steps("spade", spade)
    optima = []
    for n in rows:
        data = clipped_recipe(aim.theta, n, weight=weight, seed=seed)
        poisoned = problem.with_user(data, federation.nu)
        optima.append(
            steps(f"{n} points", lambda: Optimum.of(optimum(poisoned, start=target)))  # noqa: B023
        )
    return Recipe(
        images=federation.name,
        rows=np.array(rows),
        weight=weight,
        bound=aim.bound,
        wanted=norm(target - honest.rho),
        optima=tuple(optima),
        distances=np.array([norm(found.rho - target) for found in optima]),
        reached=np.array([federation.accuracy(found.rho, 1) for found in optima]),
        accuracy=np.array([federation.accuracy(found.rho) for found in optima]),
        attackers=np.array([norm(found.thetas[-1]) for found in optima]),
        theta=norm(aim.theta),
    )


def quick(steps: Steps) -> Clipped:
    """Lead models astray on the digits that come with the package."""
    images = digits()
    several = Federation.of(images, 2, 700)
    pair = Federation.of(two_classes(images, 4, 9), 2, 139)
    recipes = [(several, (300, 1000))]
    return clipped(
        pair, several, recipes, classes=("4", "9"), spares=SPARES[:2], each=9, steps=steps
    )


def full(steps: Steps) -> Clipped:
    """Lead models astray on MNIST, and several classes also on digits."""
    images, small = mnist(), digits()
    several = Federation.of(small, 2, 700)
    pair = Federation.of(two_classes(images, 4, 9), 2, 5895)
    recipes = [(several, (1000, 100_000)), (Federation.of(images, 2, 30_000), (10_000,))]
    return clipped(pair, several, recipes, classes=("4", "9"), steps=steps)
