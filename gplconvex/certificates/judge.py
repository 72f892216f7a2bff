r"""The judge: guaranteed bounds on how far any point is from the optimum. It imports no solver.

**The gap** (weak duality, T4). Let each :math:`L_n` be :math:`\mu_n`-strongly convex, let the
attacker, if there is one, report b at :math:`\rho`, and take any duals :math:`g_n` in the domain of
:math:`r^*` with :math:`b + \sum_n g_n = 0`. Adding, over n,

.. math::

    L_n(\theta) \ge L_n(\theta_n) + \langle \nabla L_n(\theta_n), \theta - \theta_n\rangle
                    + \tfrac{\mu_n}2 |\theta - \theta_n|^2, \qquad
    r(\rho' - \theta) \ge \langle g_n, \rho' - \theta\rangle - r^*(g_n)

cancels :math:`\rho'`, and minimizing over :math:`\theta` gives, with :math:`u_n = \rho - \theta_n` and
the Fenchel-Young residual :math:`e(u, g) = r(u) + r^*(g) - \langle u, g\rangle`,

.. math::

    F(\rho, \theta) - F^* \le \sum_n \Big[ e(u_n, g_n)
          + \frac{|g_n - \nabla L_n(\theta_n)|^2}{2 \mu_n} \Big] =: \text{gap},
    \qquad \tfrac{\mu_n}2 |\theta_n - \theta_n^*|^2 \le \text{gap}.

A sum of small squares: nothing of the size of F is ever subtracted. A user with :math:`\mu_n = 0` takes
part with the dual :math:`g_n = \nabla L_n(\theta_n)`.

**Where curvature is local** (nu = 0 with the logistic or the Poisson loss; tried whenever curvature
everywhere bounds no distance), :math:`\mu_n` is that of the ball of radius
:math:`R_n` around :math:`\theta_n` in which no predictor moves by more than 1. Completing squares above,
every point of the ball that is as good as this one has :math:`|\theta - \theta_n| \le
2\sqrt{2\,\text{gap}/\mu_n}`; if that is less than :math:`R_n`, the convex set of points as good as this
one does not meet the boundary of the ball, so it lies inside, and with it the optimum.

**The distance** of :math:`\rho` from :math:`\rho^*` is the least of the bounds that apply (T4); see
`gplconvex.certificates.distance`.

**Rounding.** Every number that enters is inflated by a bound of its own rounding error
(`gplconvex.rounding`), so that the printed bounds hold for the float64 data as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.certificates.certificate import Certificate, Check
from gplconvex.certificates.distance import distances
from gplconvex.certificates.gap import (
    SLACK,
    Users,
    choose_duals,
    natural_duals,
    rounded_curvature,
    total_of,
)
from gplconvex.errors import CertificateError
from gplconvex.parallel import map_on_cores
from gplconvex.participants import Attacker, check_attacker
from gplconvex.problem import Problem, check_problem
from gplconvex.regularizers import Regularizer, lengths, norm, rounding_of, roundings_of
from gplconvex.rounding import VERIFY_RELATIVE


def certify(
    problem: Problem,
    rho: npt.ArrayLike,
    thetas: Sequence[npt.ArrayLike],
    *,
    attacker: Attacker | None = None,
) -> Certificate:
    r"""Return guaranteed bounds of the gap and of the distance to the optimum, for any point.

    Parameters
    ----------
    problem : Problem
        The problem; its users follow the protocol.
    rho : array_like, shape of a model
        A global model, from anywhere.
    thetas : sequence of N arrays
        Personal models, from anywhere.
    attacker : GradientAttack or ModelAttack, optional
        One more participant, who adds a convex function of rho to F.

    Returns
    -------
    Certificate
        With ``inf`` for what cannot be bounded, and the clause that fails.

    Raises
    ------
    InvalidInputError
        If the point does not fit the problem.

    Notes
    -----
    Source: T4 (see the module's docstring). When no user has strong convexity (nu = 0 and data
    without curvature) no bound exists: ``gap`` and ``distance`` are then ``inf`` and the clause
    "strong convexity" fails.

    Examples
    --------
    >>> from gplconvex.losses import LeastSquares
    >>> from gplconvex.regularizers import SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [([[1.0]], [2.0]), ([[1.0]], [4.0])])
    >>> exact = certify(problem, [3.0], [[8 / 3], [10 / 3]])
    >>> exact.distance < 1e-14
    True
    >>> off = certify(problem, [3.5], [[8 / 3], [10 / 3]])
    >>> bool(0.5 <= off.distance < 1.0)
    True
    """
    check_problem(problem)
    rho = problem.check_model("rho", rho)
    models = problem.check_models(thetas)
    check_attacker(problem, attacker)
    flat = models.reshape(problem.n_users, -1)
    bounds, rounding = _bound(problem, rho.ravel(), flat, attacker)
    energy = 0.0 if attacker is None else attacker.energy(problem, rho)
    checks = (
        *bounds.checks,
        Check(
            "gap is bounded",
            bounds.gap,
            math.inf,
            "<",
            "otherwise nothing is known about this point",
        ),
        Check(
            "distance is bounded",
            bounds.distance,
            math.inf,
            "<",
            "needs strong convexity, and with a kinked or bounded regularizer one user strictly "
            "inside the ball of plausible reports; otherwise there may be many optima",
        ),
    )
    return Certificate(
        gap=bounds.gap,
        distance=bounds.distance,
        rule=bounds.rule,
        theta_distances=bounds.theta_distances,
        value=problem.energy(rho.ravel(), flat) + energy,
        size=norm(rho),
        strong_convexity=bounds.strong_convexity,
        rounding=rounding,
        unit_roundoff=float(np.finfo(np.longdouble).eps) / 2.0,
        checks=checks,
        fingerprint=_fingerprint(problem, rho, flat, attacker),
    )


def verify(
    certificate: Certificate,
    problem: Problem,
    rho: npt.ArrayLike,
    thetas: Sequence[npt.ArrayLike],
    *,
    attacker: Attacker | None = None,
) -> None:
    """Recompute a certificate from the problem and the point, and compare every field.

    Parameters
    ----------
    certificate : Certificate
        The claim.
    problem, rho, thetas, attacker
        As for `certify`.

    Raises
    ------
    CertificateError
        If a field differs: text and hash must be equal, numbers within one part in a million. A
        machine whose ``numpy.longdouble`` has another precision says so by ``unit_roundoff``.

    Examples
    --------
    >>> from gplconvex.losses import LeastSquares
    >>> from gplconvex.regularizers import SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [([[1.0]], [2.0])])
    >>> certificate = certify(problem, [2.0], [[2.0]])
    >>> verify(Certificate.from_json(certificate.to_json()), problem, [2.0], [[2.0]])
    """
    actual = certify(problem, rho, thetas, attacker=attacker)
    claimed_items = list(_flatten("", dataclasses.asdict(certificate)))
    actual_items = list(_flatten("", dataclasses.asdict(actual)))
    if [name for name, _ in claimed_items] != [name for name, _ in actual_items]:
        failing = [Check("fields that differ", 1.0, 0.0, "<=", "the certificate has other fields")]
    else:
        compared = zip(claimed_items, actual_items, strict=True)
        failing = [
            Check(
                f"{name} differs",
                _difference(claimed, computed),
                VERIFY_RELATIVE,
                "<=",
                f"claimed {claimed!r}, recomputed {computed!r}",
            )
            for (name, claimed), (_, computed) in compared
            if _difference(claimed, computed) > VERIFY_RELATIVE
        ]
    if failing:
        raise CertificateError("the certificate is not the one of this point:", checks=failing)


# -- the two cases -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bounds:
    gap: float
    distance: float
    rule: str
    theta_distances: tuple[float, ...]
    strong_convexity: tuple[float, ...]
    checks: tuple[Check, ...]


_NO_RULE = "no bound exists"


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # bounds that do not exist
def _bound(
    problem: Problem, rho: FloatArray, thetas: FloatArray, attacker: Attacker | None
) -> tuple[_Bounds, float]:
    """Return the better bounds, and the rounding allowed for."""
    apart = 0.0 if attacker is None else attacker.disagreement(problem, rho.reshape(problem.shape))
    if apart > 0.0:
        infinite = (math.inf,) * problem.n_users
        meaning = "under hard consensus rho must equal the attacker's model: F is infinite here"
        check = Check("the attacker agrees", apart, 0.0, "<=", meaning)
        return _Bounds(math.inf, math.inf, _NO_RULE, infinite, (), (check,)), 0.0
    users = Users.at(problem, rho, thetas)
    report = _report(problem, rho, users, attacker)
    bounds = _bounds(problem, users, report, near=False)
    if math.isinf(bounds.distance):
        local = _bounds(problem, users, report, near=True)
        if math.isinf(bounds.gap) or math.isfinite(local.distance):
            bounds = local
    return bounds, math.fsum(users.rounding)


def _bounds(problem: Problem, users: Users, report: FloatArray, *, near: bool) -> _Bounds:
    """Return the bounds that follow from curvature everywhere, or ``near`` the point."""
    if math.isinf(problem.regularizer.kink):
        return _consensus_bounds(problem, users, report, near)
    return _personal_bounds(problem.regularizer, users.near() if near else users, report)


def _report(
    problem: Problem, rho: FloatArray, users: Users, attacker: Attacker | None
) -> FloatArray:
    """Return the attacker's report, flattened: of those it may send the one the duals lack."""
    if attacker is None:
        return np.zeros_like(rho)
    consensus = math.isinf(problem.regularizer.kink)
    duals = users.gradient if consensus else natural_duals(problem.regularizer, users).vectors
    wanted = -duals.sum(axis=0).reshape(problem.shape)
    return attacker.report(problem, rho.reshape(problem.shape), wanted).ravel()


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def estimated_bounds(
    problem: Problem,
    rho: FloatArray,
    thetas: FloatArray,
    gradients: FloatArray,
    attacker: Attacker | None,
) -> tuple[float, float]:
    r"""Return the gap that follows from gradients taken as they are, and the distance if it is cheap.

    For progress reports: the formulas of `certify` without the pass over the data that bounds the
    rounding of the gradients, and 0 for the distance unless r is strongly convex.
    Models are flattened, (p,) and (N, p), and so are the gradients.
    """
    users = Users.with_gradients(problem, rho, thetas, gradients, roundings_of(gradients))
    report = _report(problem, rho, users, attacker)
    if math.isinf(problem.regularizer.kink):
        bounds = _consensus_bounds(problem, users, report, near=False)
        return bounds.gap, bounds.distance
    gap = math.fsum(choose_duals(problem.regularizer, users, report).costs)
    if problem.regularizer.strong_convexity == 0.0:
        return gap, 0.0
    found = distances(problem.regularizer, users, report, gap, _reaches(gap, users))
    return gap, min((bound for bound, _ in found), default=math.inf)


def _curvature_check(mu: float) -> Check:
    return Check(
        "strong convexity",
        mu,
        0.0,
        ">",
        "from the ridge, 2 nu, or the least eigenvalue of the data; with nu = 0 and no curvature in "
        "the data no bound exists: choose nu > 0",
    )


def _confined(reach: float, radius: float) -> Check:
    return Check(
        "optimum is near",
        2.0 * reach / radius if 0.0 < radius < math.inf else 0.0,
        1.0,
        "<",
        "where the curvature used is that of a ball, the ball must hold all points as good as this",
    )


def _consensus_bounds(problem: Problem, users: Users, report: FloatArray, near: bool) -> _Bounds:
    r"""Return the bounds for :math:`\theta_n = \rho`: one pooled, strongly convex loss L.

    :math:`|\rho - \rho^*| \le |\nabla L(\rho)| / \mu`, and the gap is :math:`|\nabla L|^2 / (2\mu)`.
    """
    disagreement = float(lengths(users.u).max())
    radius = float(users.losses.natural_radius.min()) if near else math.inf
    confines = 0.0 < radius < math.inf
    mu = users.losses.pooled_strong_convexity(*((users.thetas, radius) if confines else ()))
    mu = float(rounded_curvature(np.array(mu)))
    total, allowance = total_of(report, users.gradient)
    allowance += math.fsum(users.rounding) + rounding_of(report)
    slope = max(norm(total), allowance) + allowance
    distance = slope / mu * SLACK if mu > 0.0 else math.inf
    checks = (
        Check(
            "models agree",
            disagreement,
            0.0,
            "<=",
            "hard consensus allows one model only: every theta must equal rho",
        ),
        _curvature_check(mu),
        _confined(distance, radius),
    )
    if not all(check.passed for check in checks):
        distance = math.inf
    bounded = math.isfinite(distance)
    return _Bounds(
        gap=slope * slope / (2.0 * mu) * SLACK if bounded else math.inf,
        distance=distance,
        rule="strong convexity of the pooled loss" if bounded else _NO_RULE,
        theta_distances=(distance,) * problem.n_users,
        strong_convexity=(mu,),
        checks=checks,
    )


def _personal_bounds(regularizer: Regularizer, users: Users, report: FloatArray) -> _Bounds:
    duals = choose_duals(regularizer, users, report)
    gap = math.fsum(duals.costs) * SLACK
    n = int(np.argmax(np.where(users.radius < math.inf, _reaches(gap, users) / users.radius, 0.0)))
    confined = _confined(float(_reaches(gap, users)[n]), float(users.radius[n]))
    checks = (
        _curvature_check(float(users.mu.max())),
        Check(
            "duals sum to zero",
            max(duals.imbalance, duals.allowance),  # below the allowance it is noise
            duals.allowance,
            "<=",
            "consistency: up to rounding, which is allowed for; the attacker's report included",
        ),
        Check(
            "duals are plausible",
            duals.largest,
            regularizer.radius,
            "<=",
            "each dual, with its rounding, lies in the domain of the conjugate of r",
        ),
        confined,
    )
    if not all(check.passed for check in checks):
        gap = math.inf
    reaches = _reaches(gap, users)
    applicable = distances(regularizer, users, report, gap, reaches) if confined.passed else ()
    finite = [(bound, name) for bound, name in applicable if bound < math.inf]  # and no NaN
    distance, rule = min(finite, default=(math.inf, _NO_RULE))
    return _Bounds(
        gap=gap,
        distance=distance * SLACK,
        rule=rule,
        theta_distances=tuple(reaches.tolist()),
        strong_convexity=tuple(users.mu.tolist()),
        checks=checks,
    )


def _reaches(gap: float, users: Users) -> FloatArray:
    r"""Return :math:`\sqrt{2\,\text{gap}/\mu_n} \ge |\theta_n - \theta_n^*|`, shape (N,)."""
    return np.where(users.mu > 0.0, np.sqrt(2.0 * gap / users.mu) * SLACK, math.inf)


# -- small tools -------------------------------------------------------------------------------------


def _fingerprint(
    problem: Problem, rho: FloatArray, thetas: FloatArray, attacker: Attacker | None
) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    parts = [repr(problem.loss), repr(problem.regularizer), problem.shape]
    parts += map_on_cores(lambda data: data.digest, problem.datasets, problem.local_losses.size)
    if attacker is not None:
        parts += [type(attacker).__name__, *_attacker_parts(attacker)]
    hasher.update(repr(parts).encode())
    for numbers in (problem.nu, rho, thetas):
        hasher.update(np.ascontiguousarray(numbers).data)
    return hasher.hexdigest()


def _attacker_parts(attacker: Attacker) -> list[Any]:
    values = vars(attacker).values()
    return [value.tolist() if isinstance(value, np.ndarray) else repr(value) for value in values]


def _difference(claimed: Any, computed: Any) -> float:
    """Return the relative difference of two numbers; ``inf`` unless other values are equal."""
    if claimed == computed:
        return 0.0
    if not (isinstance(claimed, float) and isinstance(computed, float)):
        return math.inf
    if not (math.isfinite(claimed) and math.isfinite(computed)):
        return math.inf
    least = min(abs(claimed), abs(computed))
    return abs(claimed - computed) / least if least > 0.0 else math.inf


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(f"{name}.{key}".lstrip("."), item)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _flatten(f"{name}[{index}]", item)
    else:
        yield name, value
