r"""`LowerBound`: how many points a gradient takes, and the argument that proves it.

Each argument rests on one quantity. With residuals :math:`w_i` and predictors :math:`z_i`, any
dataset with gradient h at theta satisfies

.. math:: \sum_i z_i w_i = \theta^\top h =: s \qquad\text{and, with an intercept,}\qquad
          \sum_i w_i = h_0,

and for the logistic loss :math:`z_i w_i = f(|w_i|)` with :math:`f(p) = p \log\frac{p}{1-p}`, strictly
convex on (0, 1), whose conjugate is :math:`f^*(\tau) = \omega(\tau - 1)`, Wright's omega function
(:math:`\omega + \log\omega = \tau - 1`). So kappa = :math:`-\min f = \omega(-1) = W(1/e)`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, wrightomega

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.data import frozen_array, is_number
from gplconvex.errors import CertificateError, InvalidInputError
from gplconvex.losses import Logistic, Loss
from gplconvex.rounding import UNIT

FORMAT = "gplconvex lower bound 1"

KAPPA = float(wrightomega(-1.0).real)
"""W(1/e) = 0.27846...: what one logistic point can lower theta^T gradient by."""

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
        ``"residuals"``: each residual is below 1 in size and they sum to :math:`h_0`.
        ``"direction"``: each point contributes at most ``support`` along ``direction``.
        ``"counting"``: with one point less, for every number j of residuals of the sign of
        :math:`h_0`, weak duality with a multiplier tau gives
        :math:`\theta^\top h \ge \tau |h_0| - j f^*(\tau) - (k-j) f^*(-\tau)`; the first of the
        ``multipliers`` refutes all j up to ``split``, the second all others.
        ``"constant predictor"``: theta is zero but for the intercept, and no smaller number of the
        two possible residuals sums to :math:`h_0`.
    direction : array or None
        v, for ``"direction"`` and ``"counting"`` (there the best single direction).
    support : float
        :math:`\sigma(v) = \sup \langle v, \nabla\text{loss}\rangle` over all points; ``inf`` if none.
    multipliers : tuple of float
        For ``"counting"``.
    split : int
        For ``"counting"``.
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


# -- checking a bound --------------------------------------------------------------------------------


def check_lower_bound(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> None:
    """Check the argument of a lower bound from scratch; it needs no solver.

    Parameters
    ----------
    loss : Loss
        The loss of a point.
    theta : array, shape (d,) or (d + 1,)
        The model.
    h : array, same shape
        The gradient.
    bound : LowerBound
        The claim: no fewer than ``bound.value`` points have this gradient at theta.

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
    if theta.shape != h.shape or theta.ndim != 1 or theta.size < 1 + loss.intercept:
        raise InvalidInputError(
            f"theta and h must have one shape, (d,) or (d + 1,); got {theta.shape} and {h.shape}"
        )
    if not (np.isfinite(theta).all() and np.isfinite(h).all()):
        raise InvalidInputError(f"theta and h must be finite; got {theta.tolist()}, {h.tolist()}")
    whole = is_number(bound.value) and is_number(bound.split)
    whole = whole and isinstance(bound.value, int) and isinstance(bound.split, int)
    if not whole:
        clause = Check("value and split are integers", 0.0, 0.0, ">", f"got {bound!r}")
        raise CertificateError("the lower bound counts points in integers:", checks=[clause])
    checks = _CHECKERS.get(str(bound.argument), _unknown)(loss, theta, h, bound)
    failing = [check for check in checks if not check.passed]
    if failing:
        raise CertificateError(
            f"the argument {bound.argument!r} does not prove that {bound.value} points are needed:",
            checks=failing,
        )


def _unknown(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    return [Check("known argument", 1.0, 0.0, "<=", f"got {bound.argument!r}")]


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
            "|h0|", abs(float(h[-1])), 0.0, "<=", "the residual of a single point would be h0 = 0"
        ),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
    ]


def _check_single(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
    s, off = dot(theta, h)
    h0 = abs(float(h[-1]))
    return [
        _is_logistic(loss, intercept=True),
        Check("claims no more than 2", bound.value, 2, "<=", "the argument excludes one point"),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
        Check(
            "|theta^T h - f(|h0|)|",
            *single_point_mismatch(s, off, h0),
            ">",
            "a single point would make them equal",
        ),
    ]


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
    return [
        _is_logistic(loss, intercept=True),
        Check(
            "points - 1",
            bound.value - 1,
            abs(float(h[-1])),
            "<=",
            "residuals are below 1 in size, so more than |h0| points are needed",
        ),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
    ]


def _check_direction(
    loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound
) -> list[Check]:
    if bound.direction is None or np.shape(bound.direction) != theta.shape:
        got = None if bound.direction is None else np.shape(bound.direction)
        shapes = f"it has {got}, theta {theta.shape}"
        return [Check("direction has the shape of theta", 1.0, 0.0, "<=", shapes)]
    support = logistic_support(loss, theta, bound.direction)
    along, off = dot(np.asarray(bound.direction, dtype=np.float64), h)
    reach = (bound.value - 1) * support * (1.0 + 8.0 * UNIT)
    return [
        _is_logistic(loss, intercept=loss.intercept),
        Check(
            "claimed support",
            abs(bound.support - support),
            1e-12 * support,
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


def _check_counting(loss: Loss, theta: FloatArray, h: FloatArray, bound: LowerBound) -> list[Check]:
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
    fewest = fewest_residuals(float(theta[-1]), float(h[-1]))
    silent = 2 if h[-1] == 0.0 else 0  # one residual is never zero, so h0 = 0 takes a pair
    needed = MOST_RESIDUALS + 1 if fewest is None else max(sum(fewest), silent)
    return [
        _is_logistic(loss, intercept=True),
        Check("h is not zero", float(np.abs(h).max()), 0.0, ">", "or no point would be needed"),
        Check("|theta| without intercept", float(np.abs(theta[:-1]).max()), 0.0, "<=", "is zero"),
        Check("points", bound.value, needed, "<=", "the fewest residuals that sum to h0"),
    ]


def logistic_support(loss: Loss, theta: FloatArray, v: FloatArray) -> float:
    r"""Return :math:`\sup \langle v, \nabla\text{loss}\rangle` over all points, inputs unbounded.

    Along :math:`v = -\theta + \tau e_0` a point contributes :math:`-f(|w|) + \tau w`, at most
    :math:`\omega(|\tau| - 1)`; with a part across theta, however small, the supremum is infinite.
    Other directions are not needed here and count as infinite.
    """
    if not loss.intercept:
        return KAPPA if np.array_equal(v, -theta) else math.inf
    if not np.array_equal(v[:-1], -theta[:-1]):
        return math.inf
    return omega(abs(float(v[-1] + theta[-1])) - 1.0)


def _is_logistic(loss: Loss, *, intercept: bool) -> Check:
    fits = isinstance(loss, Logistic) and loss.intercept == intercept
    return Check("logistic loss", float(fits), 0.0, ">", f"with intercept={intercept}")


_CHECKERS = {
    "zero": _check_zero,
    "nonzero": _check_nonzero,
    "silent point": _check_silent,
    "single point": _check_single,
    "residuals": _check_residuals,
    "direction": _check_direction,
    "counting": _check_counting,
    "constant predictor": _check_constant,
}
