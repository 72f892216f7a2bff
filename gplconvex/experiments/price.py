r"""How many points a target takes, and how cheaply images can be relabeled.

At the target the attacker must report :math:`g = -G(\rho)`, from the model :math:`\theta_\spadesuit =
\rho - g/(2\lambda)`, and no points do that in fewer than (T3.4, T3.6; no ridge)

.. math:: k \ge -\langle\theta_\spadesuit, h\rangle / \kappa_K
          = \Bigl[\frac{|g|^2}{2\lambda} - \langle\rho, g\rangle\Bigr] / \kappa_K .

The first term is the price of the tie: under a weak one the honest users hardly pull, under a strong one
the attacker's model need not go far, and in between it is highest. The second is the price of the model
itself, and falls with its size. A model of the same labels need not be large, though: whoever wants
labels and not a model aims at a smaller one.

**Relabeling.** The models that are tried lie in the cone of the honest optimum and the target,

.. math:: \rho = s\,[(1 - w)\,\rho_{\mathrm{honest}} + w\,\rho_\dagger], \qquad 0 \le w \le 1, \; s > 0.

Labels depend on w alone, so that w is the least (of a grid) that relabels the wanted share of the
target's; s is searched. What comes out is the price of *one* model, proved from both sides; that no
other model with these labels is cheaper is not claimed.

**A floor for every model**, where training is pooled and inputs are pixels in [0, 1]. At the optimum
with k fake points each misnamed training image costs :math:`\log 2` or more, and no model t is better:

.. math:: q n \log 2 \;\le\; \Phi(t) + k\,S(t), \qquad
          k \ge \max_t \frac{q n \log 2 - \Phi(t)}{S(t)},

with the honest objective :math:`\Phi`, a share q of its n training images misnamed, and the largest
loss S(t) of a fake point at t (T3.6). With personal models it says nothing: there the honest users pay
for what their own models misname, not for what the shared one does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate
from gplconvex.data import Dataset
from gplconvex.datasets import Images, digits, mnist
from gplconvex.domains import Box, Domain, Unbounded
from gplconvex.equivalence import poison, required_gradient, to_data, to_model
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.results import Result, Steps
from gplconvex.losses import Logistic
from gplconvex.problem import Problem
from gplconvex.questions.audit import rounded_up, value_above
from gplconvex.questions.worst import worst_point
from gplconvex.realization import prove_lower_bound
from gplconvex.realization.lower_bound import logit_difference
from gplconvex.realization.multiclass_bound import fewest, kappas
from gplconvex.regularizers import HardConsensus, Regularizer, SquaredL2, norm
from gplconvex.replies import replies_by_solving

POOLED = math.inf
"""The lam of hard consensus: one model for all, ordinary training."""

LAMS = (0.1, 1.0, 10.0, 100.0, 1000.0, POOLED)
SCALES = (0.1, 0.2, 0.4, 0.7, 1.4, 2.0)
WAYS = (0.2, 0.4, 0.6, 0.8)
SHARES = (0.5, 0.9, 0.99)

TRIED = (0.2, 0.5, 1.0)
"""Scales s that a search starts from."""

SMALLER, SMALLEST = 0.4, 0.003
"""While the least of them is the best, one smaller by this factor is tried, down to the second."""

HALVINGS = 12
"""Of the way w."""

REFERENCES = np.linspace(0.02, 1.0, 15)
"""Multiples of the honest optimum that serve as t of a floor."""

PIXELS = Box(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Prices(Result):
    r"""What m targets cost, arrays of shape (m,).

    Attributes
    ----------
    lams, ways, scales : array
        Of the tie (inf: pooled), and the w and s of the target.
    reached : array
        The share of the test images that the target names one class on.
    sizes, gradients, thetas : array
        :math:`|\rho|, |g|, |\theta_\spadesuit|`.
    formula : array
        :math:`[|g|^2/(2\lambda) - \langle\rho, g\rangle]/\kappa_K`, which leaves out the ridge.
    bounds, points : array of int
        No dataset of fewer points has this optimum; and so many do, -1 where none were constructed.
    largest : array
        The norm of the largest input of these; nan without them.
    """

    lams: Any
    ways: Any
    scales: Any
    reached: Any
    sizes: Any
    gradients: Any
    thetas: Any
    formula: Any
    bounds: Any
    points: Any
    largest: Any

    @classmethod
    def joined(cls, parts: Sequence[Prices]) -> Prices:
        """Return the targets of all parts."""
        return cls(
            *(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls))
        )


@dataclass(frozen=True, eq=False)
class CertifiedPrice(Result):
    """What a target costs, and the certificate of the poisoned optimum."""

    prices: Prices
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class Floors(Result):
    """Points, shape (m,), that every way of misnaming shares of the training images takes."""

    shares: Any
    points: Any


@dataclass(frozen=True, eq=False)
class Price(Result):
    r"""What targets cost.

    Attributes
    ----------
    images, pair : str
        Names of the images, and of those of two classes.
    lam, nu : float
        Of the tie where it does not vary; the ridge.
    honest, target : float
        The share of the test images that the honest optimum names rightly, and that the target names one
        class on.
    targets : Prices
        The target, for each lam.
    certificates : tuple of Certificate
        Of its poisoned optima.
    scaled, on_the_way : Prices
        Multiples of the target, and models between the honest optimum and the target.
    shares : array, shape (n,)
        Of the images that the target relabels.
    found : Prices
        The cheapest models found that relabel so many: lams in the outer order, shares in the inner.
        That their points lead there follows from the gradient that they have (T2.5, to 1e-12); the
        optima are not certified one by one.
    pair_targets, pair_free, pair_pixels : Prices
        Of two classes, for each lam: the target with inputs in [0, 1]; and the cheapest model found in
        its direction, inputs unbounded and in [0, 1].
    floors, pair_floors : Floors
        Of pooled training with inputs in [0, 1].
    """

    images: str
    pair: str
    lam: float
    nu: float
    honest: float
    target: float
    targets: Prices
    certificates: tuple[Certificate, ...]
    scaled: Prices
    on_the_way: Prices
    shares: Any
    found: Prices
    pair_targets: Prices
    pair_free: Prices
    pair_pixels: Prices
    floors: Floors
    pair_floors: Floors


def two_classes(images: Images, first: int, second: int) -> Images:
    """Return the images of two classes, labeled 0 and 1.

    Examples
    --------
    >>> two_classes(digits(), 4, 9).labels[:5]
    array([0, 1, 0, 1, 0])
    """
    parts = []
    for pixels, labels in (
        (images.pixels, images.labels),
        (images.test_pixels, images.test_labels),
    ):
        rows = np.isin(labels, (first, second))
        parts += [pixels[rows], (labels[rows] == second).astype(np.int64)]
    return Images(
        f"{images.name} {first} and {second}",
        images.shape,
        (images.classes[first], images.classes[second]),
        images.levels,
        *parts,
    )


def price(
    federation: Federation,
    pair: Federation,
    *,
    lams: Sequence[float] = LAMS,
    scales: Sequence[float] = SCALES,
    ways: Sequence[float] = WAYS,
    shares: Sequence[float] = SHARES,
    steps: Steps = Steps(),
) -> Price:
    r"""Count the points that targets take.

    Parameters
    ----------
    federation, pair : Federation
        Of any number of classes, and of two, where inputs in [0, 1] have exact answers.
    lams : sequence of float
        Strengths of the tie; inf is pooled training.
    scales, ways : sequences of float
        The s and w of the targets whose prices are listed, under the federation's own lam.
    shares : sequence of float
        Of the images that the target relabels: how many are to be relabeled, more than 0, at most 1.
    steps : Steps
        Keeps what takes long.

    Returns
    -------
    Price
        With numbers of points proved from below and constructed.

    Raises
    ------
    InvalidInputError
        If ``pair`` has not two classes, or a number is out of range.
    """
    if pair.n_classes != 2:
        raise InvalidInputError(
            f"pair must be a federation of two classes, such as Federation.of(two_classes(digits(), 4, "
            f"9), 10, 27); got {pair.n_classes}"
        )
    if not (
        lams and all(lam > 0.0 for lam in lams) and shares and all(0.0 < q <= 1.0 for q in shares)
    ):
        raise InvalidInputError(
            f"lams must be positive and shares more than 0 and at most 1, one each at least; got "
            f"{tuple(lams)} and {tuple(shares)}"
        )
    inner = steps.within("price", **federation.settings, pair=pair.settings, lams=list(lams))
    ten, two = _Cone(federation, steps), _Cone(pair, steps)
    certified = [
        inner(f"target, lam {lam:g}", partial(_target, ten, lam, Unbounded())) for lam in lams
    ]
    curves = inner.within("curves", scales=list(scales), ways=list(ways))
    scaled = curves("scaled", lambda: _listed(ten, [(1.0, s) for s in scales]))
    on_the_way = curves("on the way", lambda: _listed(ten, [(w, 1.0) for w in ways]))
    search = inner.within("found", shares=list(shares))
    wanted = [(lam, q) for lam in lams for q in shares]
    found = []
    for i, (lam, q) in enumerate(wanted):
        found.append(search(f"lam {lam:g}, share {q:g}", partial(_cheapest, ten, lam, q)))
        steps.on_progress((i + 1) / len(wanted))
    of_pair = [inner(f"pair, lam {lam:g}", partial(_of_pair, two, lam)) for lam in lams]
    return Price(
        images=federation.name,
        pair=pair.name,
        lam=federation.lam,
        nu=federation.nu,
        honest=federation.accuracy(ten.honest),
        target=federation.accuracy(ten.target, 1),
        targets=Prices.joined([each.prices for each in certified]),
        certificates=tuple(each.certificate for each in certified),
        scaled=scaled,
        on_the_way=on_the_way,
        shares=np.array(shares),
        found=Prices.joined(found),
        pair_targets=Prices.joined([each.targets for each in of_pair]),
        pair_free=Prices.joined([each.free for each in of_pair]),
        pair_pixels=Prices.joined([each.pixels for each in of_pair]),
        floors=search("floors", lambda: _floors(federation, ten.honest, shares)),
        pair_floors=search("pair floors", lambda: _floors(pair, two.honest, shares)),
    )


@dataclass(frozen=True, eq=False)
class PairPrices(Result):
    """Of two classes: see `Price`."""

    targets: Prices
    free: Prices
    pixels: Prices


class _Cone:
    """The models s [(1 - w) honest + w target] of a federation."""

    def __init__(self, federation: Federation, steps: Steps) -> None:
        self.federation = federation
        optimum = federation.honest(steps)
        self.honest = np.asarray(optimum.rho - optimum.rho.mean(axis=1, keepdims=True))
        self.target = federation.target(steps)
        self.replies = np.asarray(optimum.thetas).reshape(len(optimum.thetas), -1)
        self.kappa = float(kappas(np.zeros(federation.n_classes))[0])

    def model(self, w: float, s: float) -> FloatArray:
        return s * ((1.0 - w) * self.honest + w * self.target)

    def problem(self, lam: float) -> Problem:
        return self.federation.problem(_tie(lam))

    def gradient(self, problem: Problem, rho: FloatArray) -> FloatArray:
        r"""Return g at :math:`\rho`; replies are sought from those at the honest optimum."""
        if isinstance(problem.regularizer, HardConsensus):
            return required_gradient(problem, rho)
        everybody = np.arange(problem.n_users)
        honest = replies_by_solving(problem, everybody, problem.local_losses, rho, self.replies)
        return np.asarray(-honest.gradient.sum(axis=0).reshape(problem.shape))

    def least_way(self, share: float) -> float:
        """Return the least w, of a grid, that relabels this share of what the target relabels."""
        wanted = share * self.federation.accuracy(self.target, 1)
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            if self.federation.accuracy(self.model(middle, 1.0), 1) >= wanted:
                high = middle
            else:
                low = middle
        return high

    def row(
        self,
        problem: Problem,
        lam: float,
        w: float,
        s: float,
        gradient: FloatArray,
        bound: int,
        data: Dataset | None = None,
    ) -> Prices:
        """Return what a target costs."""
        rho = self.model(w, s)
        tied = norm(gradient) ** 2 / (2.0 * lam)
        values: dict[str, float] = {
            "lams": lam,
            "ways": w,
            "scales": s,
            "reached": self.federation.accuracy(rho, 1),
            "sizes": norm(rho),
            "gradients": norm(gradient),
            "thetas": norm(to_model(problem, rho, gradient)),
            "formula": (tied - float(np.vdot(rho, gradient))) / self.kappa,
            "bounds": bound,
            "points": -1 if data is None else data.n_points,
            "largest": math.nan if data is None else float(np.linalg.norm(data.x, axis=1).max()),
        }
        return Prices(**{name: np.array([value]) for name, value in values.items()})


def _tie(lam: float) -> Regularizer:
    return HardConsensus() if lam == POOLED else SquaredL2(lam)


def _target(cone: _Cone, lam: float, domain: Domain) -> CertifiedPrice:
    """Return the price of the target, with points that lead there."""
    problem = cone.problem(lam)
    attack = poison(problem, cone.target, domain=domain)
    row = cone.row(problem, lam, 1.0, 1.0, attack.gradient, attack.lower_bound, attack.dataset)
    return CertifiedPrice(row, attack.certificate)


def _listed(cone: _Cone, places: Sequence[tuple[float, float]]) -> Prices:
    """Return the prices of some models under the federation's own lam."""
    lam = cone.federation.lam
    problem = cone.problem(lam)
    rows = []
    for w, s in places:
        gradient = cone.gradient(problem, cone.model(w, s))
        bound = _bound(cone, problem, w, s, gradient, Unbounded())
        rows.append(cone.row(problem, lam, w, s, gradient, bound))
    return Prices.joined(rows)


def _cheapest(cone: _Cone, lam: float, share: float) -> Prices:
    """Return the cheapest model found that relabels a share of the images."""
    return _searched(cone, cone.problem(lam), lam, cone.least_way(share), [Unbounded()])[0]


def _searched(
    cone: _Cone, problem: Problem, lam: float, w: float, domains: Sequence[Domain]
) -> list[Prices]:
    """Return, for each domain, the cheapest multiple found of a direction."""
    reports: dict[float, FloatArray] = {}

    def report(s: float) -> FloatArray:
        if s not in reports:
            reports[s] = cone.gradient(problem, cone.model(w, s))
        return reports[s]

    rows = []
    for domain in domains:

        def bound(s: float, domain: Domain = domain) -> int:
            return _bound(cone, problem, w, s, report(s), domain)

        s = _least(bound)
        theta = to_model(problem, cone.model(w, s), report(s))
        data = to_data(problem, theta, report(s), domain=domain)
        rows.append(cone.row(problem, lam, w, s, report(s), data.lower_bound, data.dataset))
    return rows


def _least(bound: Callable[[float], int]) -> float:
    """Return the scale of the least bound found: some are tried, the best three tell the last."""
    bounds = {s: bound(s) for s in TRIED}
    while (least := min(bounds)) > SMALLEST and bounds[least] == min(bounds.values()):
        bounds[SMALLER * least] = bound(SMALLER * least)
    middle = _vertex(bounds)
    if middle is not None:
        bounds[middle] = bound(middle)
    return min(bounds, key=lambda s: bounds[s])


def _vertex(bounds: dict[float, int]) -> float | None:
    """Return where the parabola through the least value and its neighbors is least, over log s."""
    s = sorted(bounds)
    best = min(range(len(s)), key=lambda i: bounds[s[i]])
    if not 0 < best < len(s) - 1:
        return None
    near = s[best - 1 : best + 2]
    bend, slope, _ = np.polyfit(np.log(near), [bounds[each] for each in near], 2)
    return math.exp(-0.5 * slope / bend) if bend > 0.0 else None


def _bound(
    cone: _Cone, problem: Problem, w: float, s: float, gradient: FloatArray, domain: Domain
) -> int:
    """Return a number of points below which nothing makes a model the optimum."""
    theta = to_model(problem, cone.model(w, s), gradient)
    h = gradient - 2.0 * cone.federation.nu * theta
    classes = cone.federation.n_classes
    if classes == 2:
        loss = Logistic(intercept=True)
        return prove_lower_bound(loss, *logit_difference(theta, h), domain).value
    return fewest(float(np.vdot(theta, h)), classes, h[-1] - h[-1].mean())


@np.errstate(over="ignore")  # the gauge of a box looks far out for its brackets
def _of_pair(cone: _Cone, lam: float) -> PairPrices:
    target = _target(cone, lam, PIXELS).prices
    return PairPrices(target, *_searched(cone, cone.problem(lam), lam, 1.0, [Unbounded(), PIXELS]))


def _floors(federation: Federation, honest: FloatArray, shares: Sequence[float]) -> Floors:
    """Return how many points every way of misnaming shares of the training images takes, pooled."""
    problem = federation.problem(HardConsensus())
    full = problem.with_user(Dataset.empty(problem.n_features), federation.nu)
    images = sum(user.n_points for user in federation.users)
    strongest = np.zeros(len(shares))
    for multiple in REFERENCES.tolist():
        t = multiple * honest
        value = value_above(full, t, (t,) * full.n_users)
        worst = worst_point(problem.loss, t, PIXELS).value
        missing = np.array(shares) * images * math.log(2.0) * (1.0 - 1e-12) - value
        strongest = np.maximum(strongest, missing / worst)
    return Floors(np.array(shares), np.array([rounded_up(each) for each in strongest.tolist()]))


def quick(steps: Steps) -> Price:
    """Count the points on the digits that come with the package."""
    return price(
        Federation.of(digits(), 10, 140),
        Federation.of(two_classes(digits(), 4, 9), 10, 27),
        lams=(1.0, 100.0, POOLED),
        scales=(0.2, 0.5, 2.0),
        ways=(0.3, 0.6),
        shares=(0.9,),
        steps=steps,
    )


def full(steps: Steps) -> Price:
    """Count the points on MNIST."""
    images = mnist()
    return price(
        Federation.of(images, 10, 6000),
        Federation.of(two_classes(images, 4, 9), 10, 1179),
        steps=steps,
    )
