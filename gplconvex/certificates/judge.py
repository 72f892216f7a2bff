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
from gplconvex.certificates.gap import SLACK, User, choose_duals, rounded_curvature, sum_rounding
from gplconvex.errors import CertificateError
from gplconvex.participants import Attacker, check_attacker
from gplconvex.problem import Problem, check_problem, least_eigenvalue
from gplconvex.regularizers import Regularizer, norm, rounding_of
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
    bounds, rounding = _bound(problem, rho, models, attacker, near=False)
    if math.isinf(bounds.distance):
        local, _ = _bound(problem, rho, models, attacker, near=True)
        if math.isinf(bounds.gap) or math.isfinite(local.distance):
            bounds = local
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
        value=problem.value(rho, models) + energy,
        size=norm(rho),
        strong_convexity=bounds.strong_convexity,
        rounding=rounding,
        unit_roundoff=float(np.finfo(np.longdouble).eps) / 2.0,
        checks=checks,
        fingerprint=_fingerprint(problem, rho, models, attacker),
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


def _bound(
    problem: Problem,
    rho: FloatArray,
    thetas: tuple[FloatArray, ...],
    attacker: Attacker | None,
    *,
    near: bool,
) -> tuple[_Bounds, float]:
    """Return the bounds, from curvature everywhere or ``near`` the point, and the rounding allowed."""
    apart = 0.0 if attacker is None else attacker.disagreement(problem, rho)
    if apart > 0.0:
        infinite = (math.inf,) * problem.n_users
        meaning = "under hard consensus rho must equal the attacker's model: F is infinite here"
        check = Check("the attacker agrees", apart, 0.0, "<=", meaning)
        return _Bounds(math.inf, math.inf, _NO_RULE, infinite, (), (check,)), 0.0
    users = [
        User(local, problem.regularizer, rho, theta, near)
        for local, theta in zip(problem.locals, thetas, strict=True)
    ]
    pull = np.sum([user.gradient for user in users], axis=0)
    report = np.zeros_like(rho) if attacker is None else attacker.report(problem, rho, -pull)
    bounds = (
        _consensus_bounds(problem, users, report, near)
        if math.isinf(problem.regularizer.kink)
        else _personal_bounds(problem.regularizer, users, report)
    )
    return bounds, math.fsum(user.rounding for user in users)


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


def _consensus_bounds(
    problem: Problem, users: list[User], report: FloatArray, near: bool
) -> _Bounds:
    r"""Return the bounds for :math:`\theta_n = \rho`: one pooled, strongly convex loss L.

    :math:`|\rho - \rho^*| \le |\nabla L(\rho)| / \mu`, and the gap is :math:`|\nabla L|^2 / (2\mu)`.
    """
    disagreement = max(norm(user.u) for user in users)
    radius = min(local.natural_radius for local in problem.locals) if near else math.inf
    if 0.0 < radius < math.inf:
        grams = [user.local.least_gram_near(user.theta, radius) for user in users]
    else:
        grams = [local.least_gram for local in problem.locals if local.least_gram is not None]
    mu = 2.0 * float(problem.nu.sum())
    if grams:
        mu += least_eigenvalue(np.sum(grams, axis=0), sum(data.n_rows for data in problem.datasets))
    mu = rounded_curvature(mu)
    gradients = [report, *(user.gradient for user in users)]
    allowance = math.fsum(user.rounding for user in users) + sum_rounding(gradients)
    allowance += rounding_of(report)
    slope = max(norm(np.sum(gradients, axis=0)), allowance) + allowance
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
        theta_distances=(distance,) * len(users),
        strong_convexity=(mu,),
        checks=checks,
    )


def _personal_bounds(regularizer: Regularizer, users: list[User], report: FloatArray) -> _Bounds:
    duals = choose_duals(regularizer, users, report)
    gap = math.fsum(duals.costs) * SLACK
    confined = max(
        (_confined(_reach(gap, user), user.radius) for user in users), key=lambda c: c.value
    )
    checks = (
        _curvature_check(max(user.mu for user in users)),
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
    reaches = tuple(_reach(gap, user) for user in users)
    applicable = distances(regularizer, users, report, gap, reaches) if confined.passed else ()
    finite = [(bound, name) for bound, name in applicable if bound < math.inf]  # and no NaN
    distance, rule = min(finite, default=(math.inf, _NO_RULE))
    return _Bounds(
        gap=gap,
        distance=distance * SLACK,
        rule=rule,
        theta_distances=reaches,
        strong_convexity=tuple(user.mu for user in users),
        checks=checks,
    )


def _reach(gap: float, user: User) -> float:
    r"""Return :math:`\sqrt{2\,\text{gap}/\mu_n} \ge |\theta_n - \theta_n^*|`."""
    return math.sqrt(2.0 * gap / user.mu) * SLACK if user.mu > 0.0 else math.inf


# -- small tools -------------------------------------------------------------------------------------


def _fingerprint(
    problem: Problem, rho: FloatArray, thetas: Sequence[FloatArray], attacker: Attacker | None
) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    parts = [repr(problem.loss), repr(problem.regularizer), problem.nu.tolist()]
    parts += [data.digest for data in problem.datasets]
    parts += [model.tolist() for model in (rho, *thetas)]
    if attacker is not None:
        parts += [type(attacker).__name__, *_attacker_parts(attacker)]
    hasher.update(repr(parts).encode())
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
