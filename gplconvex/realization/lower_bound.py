r"""`LowerBound`: how many points a gradient takes, and the argument that proves it.

Each argument rests on one quantity. With residuals :math:`w_i` and predictors :math:`z_i`, any
dataset with gradient h at theta satisfies

.. math:: \sum_i z_i w_i = \theta^\top h =: s \qquad\text{and, with an intercept,}\qquad
          \sum_i w_i = h_0,

(numbers or, with K classes, vectors) and for the logistic loss :math:`z_i w_i = f(|w_i|)` with
:math:`f(p) = p \log\frac{p}{1-p}`, strictly convex on (0, 1), whose conjugate is
:math:`f^*(\tau) = \omega(\tau - 1)`, Wright's omega function (:math:`\omega + \log\omega = \tau - 1`).
So kappa = :math:`-\min f = \omega(-1) = W(1/e)`. What replaces it for K classes is in
`gplconvex.realization.multiclass_bound`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

import numpy as np
from scipy.special import expit, softmax, wrightomega

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.data import frozen_array, is_number
from gplconvex.domains import Domain, Unbounded
from gplconvex.errors import CertificateError, InvalidInputError
from gplconvex.losses import LeastSquares, Logistic, Loss, Poisson, Softmax
from gplconvex.realization.bounded.pricing import supports
from gplconvex.realization.multiclass_bound import kappas
from gplconvex.realization.multiclass_pricing import check_bounded_classes
from gplconvex.rounding import LARGEST, REALIZATION_RESIDUAL, UNIT

FORMAT = "gplconvex lower bound 1"

BOUNDED = "bounded inputs"
"""The argument of `LowerBound` for a domain."""

KAPPA = float(wrightomega(-1.0).real)
"""W(1/e) = 0.27846...: what one logistic point can lower theta^T gradient by."""

LARGEST_EXPONENT = 36.0
"""exp(36) is the largest below 2^53."""

MOST_RESIDUALS = 1_000_000
"""How many residuals are tried when theta is zero but for the intercept."""


@dataclass(frozen=True, eq=False)
class LowerBound:
    r"""A number of points that no dataset can beat, with the argument that proves it.

    Attributes
    ----------
    value : int
        The number.
    argument : str
        ``"zero"``: no point is needed. ``"nonzero"``: h is not zero, so one is.
        ``"silent point"``: a single point would have residual :math:`h_0 = 0` and no gradient.
        ``"single point"``: a single logistic point with residual :math:`h_0` has
        :math:`\theta^\top h = f(|h_0|)`, which is not so.
        ``"rank"``: a point adds a matrix of rank 1, so fewer miss H by its next singular value, more
        than any rounding; one more if :math:`h_0 = 0`, which makes residuals dependent.
        ``"residuals"``: each residual is below 1 in size (K classes: its positive part sums to less
        than 1) and they sum to :math:`h_0`.
        ``"direction"``: each point contributes at most ``support`` along ``direction``.
        ``"counting"``: with one point less, for every number j of residuals of the sign of
        :math:`h_0`, weak duality with a multiplier tau gives
        :math:`\theta^\top h \ge \tau |h_0| - j f^*(\tau) - (k-j) f^*(-\tau)`; the first of the
        ``multipliers`` refutes all j up to ``split``, the second all others.
        ``"constant predictor"``: theta is zero but for the intercept, and no smaller number of the
        possible residuals sums to :math:`h_0`.
        ``"bounded inputs"``: j points of the domain with residuals above 0 and k - j below, k one
        less, contribute at most :math:`j\sigma_+(v) + (k-j)\sigma_-(v)` along v, less than
        :math:`\langle v, h\rangle`: for all j up to ``split`` along the first (or only) direction,
        for the others along the second. Of K > 2 classes: each point contributes at most ``support``,
        which the ``multipliers`` prove (`gplconvex.realization.multiclass_pricing`).
    direction : array or None
        v, for ``"direction"``, ``"counting"`` (there the best single direction) and
        ``"bounded inputs"`` (there one, or two rows).
    support : float
        :math:`\sigma(v) = \sup \langle v, \nabla\text{loss}\rangle` over all points; ``inf`` if none.
    multipliers : tuple of float
        For ``"counting"``.
    split : int
        For ``"counting"`` and ``"bounded inputs"``.
    """

    value: int
    argument: str
    direction: FloatArray | None = None
    support: float = math.inf
    multipliers: tuple[float, ...] = ()
    split: int = 0

    def to_json(self) -> str:
        """Return the argument as JSON text; an infinite support is written as null."""
        content = {
            "format": FORMAT,
            **dataclasses.asdict(self),
            "direction": None if self.direction is None else self.direction.tolist(),
            "support": self.support if math.isfinite(self.support) else None,
        }
        return json.dumps(content, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> LowerBound:
        """Return what `to_json` wrote. Reading proves nothing: `check_lower_bound` does.

        Raises
        ------
        InvalidInputError
            If the text is not such an argument.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            direction, support = content.pop("direction"), content.pop("support")
            if not (
                isinstance(content.get("value"), int)
                and isinstance(content.get("split"), int)
                and isinstance(content.get("argument"), str)
            ):
                raise TypeError("value and split must be integers, argument text")
            return cls(
                direction=None if direction is None else frozen_array("direction", direction),
                support=math.inf if support is None else float(support),
                multipliers=tuple(map(float, content.pop("multipliers"))),
                **content,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"not a lower bound written by to_json: {error}") from error


# -- the functions of the logistic arguments ---------------------------------------------------------


def omega(t: float) -> float:
    """Return Wright's omega function of a real number."""
    return float(wrightomega(t))


def logit_of(t: float) -> float:
    r"""Return :math:`\log\omega(t) = t - \omega(t)`, by whichever side does not cancel."""
    return math.log(omega(t)) if t > 0.0 else t - omega(t)


def dual_value(k: int, j: int, h0: float, tau: float) -> float:
    r"""Return :math:`\tau h_0 - j f^*(\tau) - (k - j) f^*(-\tau)`, for :math:`h_0 \ge 0`.

    By weak duality no k residuals, j of them positive, that sum to :math:`h_0` have a smaller
    :math:`\sum f(|w_i|)`. Rounded down, so that this holds for the number returned. For a large tau
    :math:`\tau h_0 - j\omega(\tau - 1) = \tau (h_0 - j) + j (1 + \log\omega(\tau - 1))` loses nothing to
    cancellation, and likewise at the other end.
    """
    if tau > 1.0:
        terms = (tau * (h0 - j), j * (1.0 + logit_of(tau - 1.0)), -(k - j) * omega(-tau - 1.0))
    elif tau < -1.0:
        other = (k - j) * (1.0 + logit_of(-tau - 1.0))
        terms = (tau * (h0 + (k - j)), other, -j * omega(tau - 1.0))
    else:
        terms = (tau * h0, -j * omega(tau - 1.0), -(k - j) * omega(-tau - 1.0))
    # 64 units: omega itself is good to 32 of them where it is tiny.
    return math.fsum(terms) - 64.0 * UNIT * math.fsum(map(abs, terms))


def dot(theta: FloatArray, h: FloatArray) -> tuple[float, float]:
    """Return theta^T h and a bound of its rounding error."""
    products = (theta * h).tolist()
    exact = math.fsum(products)
    underflow = len(products) * 2.0**-1073
    return exact, UNIT * (math.fsum(map(abs, products)) + abs(exact)) + underflow


def fewest_residuals(b: float, h0: float) -> tuple[int, int] | None:
    r"""Return the fewest residuals, (positive, negative), with sum h0 when every predictor is b.

    k residuals, n of them negative, sum to :math:`k\sigma(b) - n`; at least one is needed, since
    the rest of the gradient is not zero or h0 is not.
    """
    k = np.arange(1, MOST_RESIDUALS + 1)
    wanted = k * float(expit(b)) - h0
    n = np.rint(wanted)
    tolerance = 8.0 * UNIT * (k + abs(h0))
    fits = (np.abs(wanted - n) <= tolerance) & (n >= 0) & (n <= k)
    if not fits.any():
        return None
    first = int(np.argmax(fits))
    negative = int(n[first])
    return int(k[first]) - negative, negative


def fewest_counts(b: float, h0: float) -> tuple[int, int] | None:
    r"""Return the fewest Poisson points with predictor b and residuals of sum h0, and their labels' sum.

    k residuals sum to :math:`k e^b` less a count; for h0 = 0 one point is silent, and two are needed.
    """
    if b > LARGEST_EXPONENT:
        return None
    k = np.arange(2 if h0 == 0.0 else 1, MOST_RESIDUALS + 1)
    wanted = k * math.exp(b) - h0
    y = np.rint(wanted)
    fits = (np.abs(wanted - y) <= 8.0 * UNIT * (k * math.exp(b) + abs(h0))) & (y >= 0.0)
    if not fits.any():
        return None
    first = int(np.argmax(fits))
    return int(k[first]), int(y[first])


# -- K classes ---------------------------------------------------------------------------------------


def logit_difference(theta: FloatArray, h: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Return model and gradient of the logistic regression that a two-class softmax is.

    With class 1 for the label +1: :math:`\theta_1 - \theta_0` and :math:`h_1 = -h_0`.
    """
    return theta[:, 1] - theta[:, 0], 0.5 * (h[:, 1] - h[:, 0])


def as_multiclass(bound: LowerBound) -> LowerBound:
    """Return a logistic argument with its direction, if any, for two columns."""
    if bound.direction is None:
        return bound
    columns = np.stack([-0.5 * bound.direction, 0.5 * bound.direction], axis=1)
    return dataclasses.replace(bound, direction=columns)


def trace_bound(theta: FloatArray, h: FloatArray) -> float:
    r"""Return an upper bound of :math:`\langle\Theta, H\rangle`; rows of H sum to 0 up to rounding."""
    s, off = dot(theta.ravel(), h.ravel())
    return float(s + 2.0 * h.shape[1] * off)


def rank_bound(loss: Loss, h: FloatArray) -> int:
    """Return how many points the rank of H demands, by singular values clear of any rounding."""
    singular = np.linalg.svd(h, compute_uv=False)
    clear = 2.0 * REALIZATION_RESIDUAL * float(np.linalg.norm(h))
    silent = loss.intercept and bool(h.any()) and not h[-1].any()
    return int(np.sum(singular > clear)) + int(silent)


# -- checking a bound --------------------------------------------------------------------------------


def check_lower_bound(
    loss: Loss,
    theta: FloatArray,
    h: FloatArray,
    bound: LowerBound,
    domain: Domain = Unbounded(),
) -> None:
    """Check the argument of a lower bound from scratch; it needs no solver.

    Parameters
    ----------
    loss : Loss
        The loss of a point.
    theta : array, shape of a model
        The model: (d,), (d + 1,) with an intercept; one column a class for softmax.
    h : array, same shape
        The gradient.
    bound : LowerBound
        The claim: no fewer than ``bound.value`` points have this gradient at theta.
    domain : Domain
        Where the inputs of those points may lie; default `Unbounded`. What holds for all inputs holds
        in every domain.

    Raises
    ------
    CertificateError
        If the argument does not prove the bound.
    InvalidInputError
        If shapes disagree or a number is not finite.

    Examples
    --------
    >>> proof = LowerBound(4, "direction", np.array([-1.0, 0.0]), KAPPA)
    >>> check_lower_bound(Logistic(), np.array([1.0, 0.0]), np.array([-1.0, 2.0]), proof)
    """
    theta, h = np.asarray(theta, dtype=np.float64), np.asarray(h, dtype=np.float64)
    n_features = (len(theta) if theta.ndim else 0) - loss.intercept
    if not theta.shape == h.shape == loss.shape(n_features) or n_features < 1:
        raise InvalidInputError(
            f"theta and h must have the shape of a model of {loss!r}, such as "
            f"{loss.shape(max(1, n_features))}; got {theta.shape} and {h.shape}"
        )
    if not (np.isfinite(theta).all() and np.isfinite(h).all()):
        raise InvalidInputError(f"theta and h must be finite; got {theta.tolist()}, {h.tolist()}")
    whole = is_number(bound.value) and is_number(bound.split)
    whole = whole and isinstance(bound.value, int) and isinstance(bound.split, int)
    if not whole:
        clause = Check("value and split are integers", 0.0, 0.0, ">", f"got {bound!r}")
        raise CertificateError("the lower bound counts points in integers:", checks=[clause])
    checker = _CHECKERS.get(str(bound.argument), _unknown)
    if bound.argument == BOUNDED:
        checks = _check_bounded(loss, theta, h, bound, domain)
    elif (
        isinstance(loss, Softmax)
        and loss.n_classes == 2
        and checker not in (_check_rank, _check_constant)
    ):
        checks = _check_binary(checker, loss, theta, h, bound)
    else:
        checks = checker(loss, theta, h, bound)
    failing = [check for check in checks if not check.passed]
    if failing:
        raise CertificateError(
            f"the argument {bound.argument!r} does not prove that {bound.value} points are needed:",
            checks=failing,
        )


def _unknown(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    return [Check("known argument", 1.0, 0.0, "<=", f"got {bound.argument!r}")]


def _check_binary(
    checker: Checker, loss: Softmax, theta: FloatArray, h: FloatArray, bound: LowerBound
) -> list[Check]:
    """Check an argument about two classes as one about logistic regression."""
    if bound.direction is not None:
        v = np.asarray(bound.direction, dtype=np.float64)
        if v.shape != theta.shape:
            return [_misshapen(theta, v.shape)]
        bound = dataclasses.replace(bound, direction=v[:, 1] - v[:, 0])
    return checker(Logistic(loss.intercept), *logit_difference(theta, h), bound)


def _check_rank(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    is_softmax = Check("softmax loss", float(isinstance(loss, Softmax)), 0.0, ">", "has a matrix H")
    if h.ndim != 2:
        return [is_softmax]
    return [
        is_softmax,
        Check(
            "points", bound.value, rank_bound(loss, h), "<=", "singular values clear of rounding"
        ),
    ]


def _check_zero(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    return [Check("claims no more than 0", bound.value, 0, "<=", "an empty dataset has gradient 0")]


def _check_nonzero(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    return [
        Check("claims no more than 1", bound.value, 1, "<=", "the argument gives one point"),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "an empty dataset has gradient 0"),
    ]


def _check_silent(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    return [
        Check("claims no more than 2", bound.value, 2, "<=", "the argument excludes one point"),
        Check("intercept", float(loss.intercept), 0.0, ">", "the loss has one"),
        Check(
            "|h0|",
            float(np.abs(h[-1]).max()),
            0.0,
            "<=",
            "the residual of a single point would be h0 = 0",
        ),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
    ]


def _check_single(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    known = isinstance(loss, (Logistic, Poisson)) and loss.intercept
    checks = [
        Check("logistic or Poisson loss", float(known), 0.0, ">", "with an intercept"),
        Check("claims no more than 2", bound.value, 2, "<=", "the argument excludes one point"),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
    ]
    if not known:
        return checks
    if isinstance(loss, Poisson):
        meaning = "a single point with residual h0 would have this label, which must be a count"
        mismatch = count_mismatch(theta, h)
        return [*checks, Check("distance of exp(s/h0) - h0 from a count", *mismatch, ">", meaning)]
    mismatch = single_point_mismatch(*dot(theta, h), abs(float(h[-1])))
    meaning = "a single point would make them equal"
    return [*checks, Check("|theta^T h - f(|h0|)|", *mismatch, ">", meaning)]


def count_mismatch(theta: FloatArray, h: FloatArray) -> tuple[float, float]:
    r"""Return how far :math:`e^{s/h_0} - h_0` is from a count 0, 1, 2, ..., and the rounding in it.

    In decimal arithmetic with 50 digits after the point, for a float64 has none left where the
    exponential is large; beyond exp(10^4) nothing is claimed.
    """
    h0 = float(h[-1])
    if h0 == 0.0:
        return math.inf, 0.0
    rough = dot(theta, h)[0] / h0
    if rough > 1e4:
        return 0.0, 0.0
    digits = 100 + math.ceil(max(rough, 0.0) / math.log(10.0))
    with localcontext(Context(prec=digits, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])):
        products = [
            Decimal(a) * Decimal(b) for a, b in zip(theta.tolist(), h.tolist(), strict=True)
        ]
        label = (sum(products, Decimal(0)) / Decimal(h0)).exp() - Decimal(h0)
        off = abs(label - max(label.to_integral_value(), Decimal(0)))
        size = 1 + abs(h0) + math.fsum(abs(float(product)) for product in products) / abs(h0)
        return float(off), 1e-90 * size


def single_point_mismatch(s: float, off: float, h0: float) -> tuple[float, float]:
    r"""Return :math:`|s - f(h_0)|` and the rounding in it; a single point needs them equal."""
    if not 0.0 < h0 < 1.0:
        return math.inf, 0.0
    odds, against = math.log(h0), math.log1p(-h0)
    rounding = 16.0 * UNIT * h0 * (abs(odds) + abs(against))
    return abs(s - h0 * (odds - against)), off + rounding


def _check_residuals(
    loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound
) -> list[Check]:
    bounded = isinstance(loss, (Logistic, Softmax)) and loss.intercept
    size = float(np.abs(h[-1]).sum()) / (1.0 if h.ndim == 1 else 2.0)
    return [
        Check("logistic or softmax loss", float(bounded), 0.0, ">", "with an intercept"),
        Check(
            "points - 1",
            bound.value - 1,
            size * (1.0 - 8.0 * UNIT * h[-1].size * (h.ndim - 1)),
            "<=",
            "each residual takes off less than 1, so more points than this are needed",
        ),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
    ]


def _misshapen(theta: FloatArray, got: object) -> Check:
    meaning = f"it has {got}, theta {theta.shape}"
    return Check("direction has the shape of theta", 1.0, 0.0, "<=", meaning)


def _check_direction(
    loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound
) -> list[Check]:
    if bound.direction is None or np.shape(bound.direction) != theta.shape:
        return [_misshapen(theta, None if bound.direction is None else np.shape(bound.direction))]
    v = np.asarray(bound.direction, dtype=np.float64)
    most = support(loss, theta, v)
    along, off = dot(v.ravel(), h.ravel())
    off *= 1.0 if h.ndim == 1 else 2.0 * h.shape[1]  # for rows of h that sum to 0 up to rounding
    reach = (bound.value - 1) * most * (1.0 + 8.0 * UNIT)
    known = isinstance(loss, (Logistic, Softmax))
    return [
        Check(
            "logistic or softmax loss", float(known), 0.0, ">", "supports of others are infinite"
        ),
        Check(
            "claimed support",
            abs(bound.support - most),
            1e-12 * most,
            "<=",
            "the supremum of <v, gradient> over all points",
        ),
        Check(
            "<v, h>",
            along - off,
            reach if math.isfinite(reach) else math.inf,
            ">",
            "one point less reaches (points - 1) * support along v",
        ),
    ]


def refuted_splits(
    loss: Loss,
    theta: FloatArray,
    h: FloatArray,
    v: FloatArray,
    domain: Domain,
    k: int,
    first: int,
    last: int,
) -> bool:
    r"""Return whether :math:`\langle v, h\rangle > j\sigma_+(v) + (k-j)\sigma_-(v)` for j in a range.

    The right side is linear in j: its ends decide.
    """
    if first > last:
        return True
    above, below = supports(loss, theta, v, domain)
    along, off = dot(v, h)
    most = max(
        (j * above if j else 0.0) + ((k - j) * below if j < k else 0.0) for j in (first, last)
    )
    return along - off > most * (1.0 + 8.0 * UNIT)


def _check_bounded(
    loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound, domain: Domain
) -> list[Check]:
    if isinstance(loss, Softmax) and loss.n_classes > 2:
        return check_bounded_classes(
            loss, theta, h, bound.value, bound.direction, bound.multipliers, domain
        )
    if isinstance(loss, Softmax):
        theta, h = logit_difference(theta, h)
        loss = Logistic(loss.intercept)
    if not isinstance(loss, (LeastSquares, Logistic, Poisson)):
        return [Check("residuals of two signs", 1.0, 0.0, "<=", f"got {loss!r}")]
    k, v = bound.value - 1, np.atleast_2d(np.asarray(bound.direction, dtype=np.float64))
    if bound.direction is None or v.shape not in ((1, theta.size), (2, theta.size)):
        return [Check("one or two directions", 1.0, 0.0, "<=", f"got shape {v.shape}")]
    if not (np.abs(v) <= LARGEST).all():
        return [
            Check("entries of directions", 1.0, 0.0, "<=", f"within {LARGEST:g}; got {v.tolist()}")
        ]
    ranges = [(0, min(bound.split, k)), (max(bound.split + 1, 0), k)]
    if k < 1 or (len(v) == 1 and bound.split < k):
        return [Check("all splits", 1.0, 0.0, "<=", f"one direction, split {bound.split} of {k}")]
    return [
        Check(
            f"splits {first} to {last} of {k}",
            float(not refuted_splits(loss, theta, h, along, domain, k, first, last)),
            0.0,
            "<=",
            "no such numbers of points of the two signs reach <v, h>",
        )
        for along, (first, last) in zip(v, ranges, strict=False)
    ]


def _check_counting(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    if h.ndim != 1 or not loss.intercept:
        return [_is_logistic(loss, intercept=True)]
    k, s_off = bound.value - 1, dot(theta, h)
    s, h0 = s_off[0] + s_off[1], abs(float(h[-1]))
    if len(bound.multipliers) != 2 or not 0 <= bound.split <= k:
        meaning = f"got multipliers {bound.multipliers}, split {bound.split} for {k} points"
        return [Check("two multipliers and a split", 1.0, 0.0, "<=", meaning)]
    left, right = bound.multipliers
    checks = [_is_logistic(loss, intercept=True)]
    # The dual value is linear in j with slope f*(-tau) - f*(tau), of the sign of -tau.
    for name, tau, j, sign in (
        ("first", left, bound.split, 1),
        ("second", right, bound.split + 1, -1),
    ):
        if j > k:
            continue
        checks += [
            Check(
                f"{name} multiplier's sign", sign * tau, 0.0, ">", "its bound is least at the split"
            )
            if sign * tau != 0.0
            else Check(f"{name} multiplier", 0.0, 0.0, "<=", "zero: the same bound for every j"),
            Check(
                f"{name} dual value",
                dual_value(k, j, h0, tau),
                s,
                ">",
                f"{k} points would need theta^T h to be at least this",
            ),
        ]
    return checks


def _check_constant(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    if isinstance(loss, Softmax):
        return _check_constant_logits(loss, theta, h, bound)
    known = isinstance(loss, (Logistic, Poisson)) and loss.intercept
    fits = Check("logistic, Poisson or softmax loss", float(known), 0.0, ">", "with an intercept")
    if not known:
        return [fits]
    b, h0 = float(theta[-1]), float(h[-1])
    silent = 2 if h0 == 0.0 else 0  # a pair at least: a single residual h0 = 0 has no gradient
    if isinstance(loss, Poisson):
        counts = fewest_counts(b, h0)
        needed = MOST_RESIDUALS + 1 if counts is None else counts[0]
        if b > LARGEST_EXPONENT:
            needed = 1  # nothing is known there
    else:
        fewest = fewest_residuals(b, h0)
        needed = MOST_RESIDUALS + 1 if fewest is None else max(sum(fewest), silent)
    return [
        fits,
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
        Check("|theta| without intercept", float(np.abs(theta[:-1]).max()), 0.0, "<=", "is zero"),
        Check("points", bound.value, needed, "<=", "the fewest residuals that sum to h0"),
    ]


def _check_constant_logits(
    loss: Softmax, theta: FloatArray, h: FloatArray, bound: LowerBound
) -> list[Check]:
    intercept = Check("intercept", float(loss.intercept), 0.0, ">", "or the rank decides")
    if not loss.intercept:
        return [intercept]
    slope = theta[:-1] - theta[:-1, :1]
    return [
        intercept,
        Check("columns of theta without intercept", float(np.abs(slope).max()), 0.0, "<=", "equal"),
        Check("points", bound.value, most_likely_bound(theta[-1], h[-1]), "<=", "q_k <= p_k"),
    ]


def most_likely_bound(b: FloatArray, h0: FloatArray) -> int:
    r"""Return the least k with :math:`h_{0k} \le k\,p_k(b)`, rounded down: residuals have q_k <= p_k."""
    return math.ceil(float(np.max(h0 / softmax(b))) * (1.0 - 1e-12))


def support(loss: Loss, theta: FloatArray, v: FloatArray) -> float:
    r"""Return :math:`\sup \langle v, \nabla\text{loss}\rangle` over all points, inputs unbounded.

    Along :math:`v = -\theta + \tau e_0` (e_0 picks the intercept's row) a logistic point contributes
    :math:`-f(|w|) + \tau w`, at most :math:`\omega(|\tau| - 1)`, and one of K classes at most
    :math:`\max_y\kappa_y(\tau)`; with a part across theta, however small, the supremum is infinite.
    Other directions are not needed here and count as infinite.
    """
    if not loss.intercept and np.array_equal(v, -theta):
        tau = np.zeros(theta.shape[1:])
    elif loss.intercept and np.array_equal(v[:-1], -theta[:-1]):
        tau = v[-1] + theta[-1]
    else:
        return math.inf
    return omega(abs(float(tau)) - 1.0) if theta.ndim == 1 else float(kappas(tau).max())


Checker = Callable[[Loss, FloatArray, FloatArray, LowerBound], list[Check]]


def _is_logistic(loss: Loss, *, intercept: bool) -> Check:
    fits = isinstance(loss, Logistic) and loss.intercept == intercept
    return Check("logistic loss", float(fits), 0.0, ">", f"with intercept={intercept}")


_CHECKERS: dict[str, Checker] = {
    "zero": _check_zero,
    "rank": _check_rank,
    "nonzero": _check_nonzero,
    "silent point": _check_silent,
    "single point": _check_single,
    "residuals": _check_residuals,
    "direction": _check_direction,
    "counting": _check_counting,
    "constant predictor": _check_constant,
}
