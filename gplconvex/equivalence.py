r"""The theorem, made constructive: gradient attack -> model attack -> data poisoning, exactly.

At a target :math:`\rho_\dagger` let :math:`G = \sum_n \nabla M_n(\rho_\dagger)` be the pull of the
honest users (T2). By convexity first-order conditions are sufficient, so the target is the optimum as
soon as one more participant

1. reports :math:`g = -G` (`required_gradient`), which needs g in Grad;
2. freezes :math:`\theta_\spadesuit = \rho_\dagger - (\nabla r)^{-1}(g)` (`to_model`), whose report is g
   (`to_gradient`);
3. owns points with :math:`\sum \nabla\text{loss}(\theta_\spadesuit; x, y) = h = g - 2\nu
   \theta_\spadesuit` (`to_data`): then :math:`\theta_\spadesuit` is the honest reply to the target.

`poison` does all three, and certifies the poisoned problem at the predicted optimum without solving it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gplconvex.certificates import Certificate, Check, certify
from gplconvex.domains import Domain, Unbounded
from gplconvex.errors import (
    CertificateError,
    InvalidInputError,
    NotSolvedError,
    UnreachableTargetError,
)
from gplconvex.participants import GradientAttack, ModelAttack, check_plausible
from gplconvex.problem import Problem, check_nu, check_problem
from gplconvex.realization import LowerBound, Realization, check_lower_bound, realize_gradient
from gplconvex.realization.exact import missing_gradient
from gplconvex.regularizers import L2, lengths, norm, rounding_of
from gplconvex.replies import Replies, replies
from gplconvex.rounding import REALIZATION_RESIDUAL, UNSOLVED, VERIFY_RELATIVE
from gplconvex.solvers import solve

if TYPE_CHECKING:
    from gplconvex._types import FloatArray
    from gplconvex.data import Dataset


def required_gradient(problem: Problem, target: npt.ArrayLike) -> FloatArray:
    r"""Return the report that makes ``target`` stationary: :math:`g = -\sum_n \nabla M_n(\rho_\dagger)`.

    Parameters
    ----------
    problem : Problem
        The honest users.
    target : array_like, shape of a model
        The aimed global model :math:`\rho_\dagger`.

    Returns
    -------
    array, shape of a model
        The report g.

    Raises
    ------
    InvalidInputError
        If the target has the wrong shape or is not finite.
    UnreachableTargetError
        If g is not a gradient that the regularizer can have: :math:`|G| >` lam under l2,
        :math:`|G| \ge` lam under smooth l2. It carries the reachable point, the minimizer of
        :math:`\sum_n M_n(\rho) + \lambda|\rho - \rho_\dagger|`.

    Notes
    -----
    Source: T2.5.

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(0.5), [Dataset([[1.0]], [0.0])])
    >>> required_gradient(problem, [2.0])
    array([-1.])
    """
    check_problem(problem)
    target = problem.check_model("target", target)
    return _needed(problem, target, replies(problem, target))


def _needed(problem: Problem, target: FloatArray, honest: Replies) -> FloatArray:
    """Return minus the sum of the honest reports, if it is a gradient that r can have."""
    pull: FloatArray = np.sum(honest.gradient, axis=0).reshape(problem.shape)
    if not np.isfinite(pull).all():
        raise InvalidInputError(
            f"the reports of the honest users overflow at a target of size {norm(target):.3g}: "
            "choose a nearer one"
        )
    if not problem.regularizer.is_reachable(-pull):
        lam = problem.regularizer.radius
        nearest = solve(problem, start=target, attacker=ModelAttack(target, L2(lam)))
        raise UnreachableTargetError(
            f"no report under {problem.regularizer!r} makes the target stationary: the honest users "
            f"pull with |G| = {norm(pull):.6g}, a report weighs no more than lam = {lam:g}. A "
            f"counter-gradient attack that converges ends {norm(nearest.rho - target):.6g} away, at "
            f"{np.array2string(nearest.rho, precision=6)}: aim just short of there "
            "(error.reachable), or raise lam",
            pull=norm(pull),
            lam=lam,
            reachable=nearest.rho,
            certificate=nearest.certificate,
        )
    return -pull


def to_model(problem: Problem, rho: npt.ArrayLike, gradient: npt.ArrayLike) -> FloatArray:
    r"""Gradient to model: :math:`\theta_\spadesuit = \rho - (\nabla r)^{-1}(g)`.

    Under l2, where every :math:`|g| \le \lambda` is a subgradient at 0, this is rho itself.

    Parameters
    ----------
    problem : Problem
        Gives the regularizer and the shape.
    rho : array_like, shape of a model
        Where the report is sent.
    gradient : array_like, shape of a model
        The report g.

    Returns
    -------
    array, shape of a model
        The frozen model :math:`\theta_\spadesuit`.

    Raises
    ------
    InvalidInputError
        If g is outside Grad (for smooth l2 also on its boundary), or a shape is wrong.

    Notes
    -----
    Source: Farhadkhani et al. 2022, reduction from gradient attack to model attack (T2.3).

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(0.5), [Dataset([[1.0]], [0.0])])
    >>> to_model(problem, [2.0], [-1.0])
    array([3.])
    """
    check_problem(problem)
    rho = problem.check_model("rho", rho)
    g = problem.check_model("gradient", gradient)
    check_plausible(problem.regularizer, g)
    if not problem.regularizer.is_reachable(g):
        raise InvalidInputError(
            f"no model has this gradient under {problem.regularizer!r}: its norm must be strictly "
            f"less than {problem.regularizer.radius:g}; got {norm(g):.17g}. Scale it down"
        )
    return rho - problem.regularizer.inverse_gradient(g.ravel()).reshape(g.shape)


def to_gradient(problem: Problem, rho: npt.ArrayLike, theta: npt.ArrayLike) -> FloatArray:
    r"""Model to gradient: :math:`g = \nabla_\rho R(\rho, \theta) = \nabla r(\rho - \theta)`.

    At a kink (l2 with theta = rho) the subgradient of least norm, 0.

    Parameters
    ----------
    problem : Problem
        Gives the regularizer and the shape.
    rho, theta : array_like, shape of a model
        The global model and the frozen personal one.

    Returns
    -------
    array, shape of a model
        The report g.

    Raises
    ------
    InvalidInputError
        If a shape is wrong, or under hard consensus theta differs from rho.

    Notes
    -----
    Source: Farhadkhani et al. 2022, reduction from model attack to gradient attack (T2.2).

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(0.5), [Dataset([[1.0]], [0.0])])
    >>> to_gradient(problem, [2.0], [3.0])
    array([-1.])
    """
    check_problem(problem)
    rho = problem.check_model("rho", rho)
    u = rho - problem.check_model("theta", theta)
    return problem.regularizer.gradient(u.ravel()).reshape(u.shape)


def to_data(
    problem: Problem,
    theta: npt.ArrayLike,
    gradient: npt.ArrayLike,
    *,
    nu: float | None = None,
    domain: Domain = Unbounded(),
    extra: int = 0,
) -> Realization:
    r"""Model to data: the fewest points with :math:`\sum\nabla\text{loss}(\theta) = g - 2\nu\theta`.

    A user who owns them, with ridge nu, has :math:`\nabla L(\theta) = g`.

    Parameters
    ----------
    problem : Problem
        Gives the loss, the shape and the common ridge.
    theta, gradient : array_like, shape of a model
        The attacker's model and its report g.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the inputs may lie; default `Unbounded`.
    extra : int
        How many points more than the fewest may be spent on smaller inputs; in a bounded domain
        exactly so many more are shipped.

    Returns
    -------
    Realization
        The points and the proof that fewer cannot do.

    Raises
    ------
    InvalidInputError, UnrealizableGradientError, UnsupportedCombinationError, CertificateError
        As `realize_gradient`; the first also if nu is left out and users have different ones.

    Notes
    -----
    Source: T2.5 and T3. A difference :math:`g - 2\nu\theta` below the rounding of its two terms is
    taken for the zero that it is.

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> problem = Problem(LeastSquares(), SquaredL2(0.5), [Dataset([[1.0]], [0.0])])
    >>> to_data(problem, [3.0], [-1.0]).n_points
    1
    """
    check_problem(problem)
    theta = problem.check_model("theta", theta)
    g = problem.check_model("gradient", gradient)
    return _realize(problem, theta, g, attacker_nu(problem, nu), domain, extra)


def _realize(
    problem: Problem,
    theta: FloatArray,
    g: FloatArray,
    nu: float,
    domain: Domain,
    extra: int,
    off: float = 0.0,
) -> Realization:
    r"""Realize :math:`g - 2\nu\theta`, taken for zero where that is rounding, g being ``off``."""
    ridge = 2.0 * nu * theta
    h = g - ridge
    if not (np.isfinite(h).all() and math.isfinite(norm(h))):
        raise InvalidInputError(
            f"the gradient to be realized overflows: |g| = {norm(g):.3g}, 2 nu |theta| = "
            f"{norm(ridge):.3g}. Choose a nearer target"
        )
    rounding = off + rounding_of(g, ridge)
    if norm(h) <= rounding:
        h = np.zeros_like(h)
    if problem.loss.has_gauge:
        h = _without_gauge(problem, h, nu, rounding)
    return realize_gradient(problem.loss, theta, h, domain, extra=extra)


def _without_gauge(problem: Problem, h: FloatArray, nu: float, rounding: float) -> FloatArray:
    """Return H with rows that sum to 0, which all gradients of softmax have, if rounding allows."""
    means = h.mean(axis=1, keepdims=True)
    off = norm(means) * math.sqrt(h.shape[1])
    if off > rounding + REALIZATION_RESIDUAL * norm(h):
        raise InvalidInputError(
            f"the rows of a softmax gradient sum to 0, but those of g - 2 nu theta have means up to "
            f"{np.abs(means).max():.3g}: with nu = {nu:g} no data pull at what adding one number to "
            f"all {h.shape[1]} classes changes. Center the target: "
            "target - target.mean(axis=1, keepdims=True)"
        )
    return np.asarray(h - means)


@dataclass(frozen=True, eq=False, repr=False)
class Poisoning:
    r"""A poisoned dataset and what is proved about it.

    Attributes
    ----------
    dataset : Dataset
        What the attacker owns.
    target : array
        The global model at which the attacker sends the report.
    gradient : array
        The report g.
    theta : array
        :math:`\theta_\spadesuit`, the attacker's personal model.
    n_points, lower_bound : int
        Number of points, and the number that no dataset can go below.
    proof : LowerBound
        The argument behind the lower bound.
    residual : float
        Relative residual of the realized gradient.
    note : str
        Empty, or why more points than the lower bound are shipped.
    poisoned : Problem
        The problem with the attacker appended as its last user.
    thetas : tuple of arrays
        The predicted personal models, the attacker's last.
    certificate : Certificate
        For `poison`: of ``poisoned`` at (target, thetas). For `reproduce_gradient`: that the
        attacker's honest reply at ``target`` balances -g.
    domain : Domain
        Where the attacker's inputs may lie; the lower bound holds for all datasets in it.
    """

    dataset: Dataset
    target: FloatArray
    gradient: FloatArray
    theta: FloatArray
    n_points: int
    lower_bound: int
    proof: LowerBound
    residual: float
    note: str
    poisoned: Problem
    thetas: tuple[FloatArray, ...]
    certificate: Certificate
    domain: Domain = Unbounded()

    def __repr__(self) -> str:
        return (
            f"<Poisoning: {self.n_points} points (at least {self.lower_bound} needed), "
            f"|rho* - target| <= {self.certificate.distance:.2g}>"
        )

    @property
    def data_gradient(self) -> FloatArray:
        r""":math:`h = g - 2\nu\theta_\spadesuit`, what the gradients of the points sum to."""
        return self.gradient - 2.0 * float(self.poisoned.nu[-1]) * self.theta

    def require(self, tol: float) -> Poisoning:
        r"""Return self if the points, the lower bound and the certificate's bounds hold.

        The points and the argument are checked from scratch; of whole numbers and categories only that
        the points miss the gradient by no more than ``residual``. The certificate must reach ``tol`` as
        in `Certificate.require`; `verify` recomputes it.

        Raises
        ------
        CertificateError
            If one of them fails.
        """
        h = self.data_gradient
        claims = (
            ("lower bound", self.lower_bound - self.proof.value, "must be the proved one"),
            ("n_points", self.n_points - self.dataset.n_points, "must be those of the dataset"),
            (
                "dataset",
                float(self.dataset != self.poisoned.datasets[-1]),
                "must be that of the last user of the poisoned problem",
            ),
        )
        wrong = [Check(f"{what} is off", abs(by), 0.0, "<=", why) for what, by, why in claims if by]
        if wrong:
            raise CertificateError("the attack contradicts itself:", checks=wrong)
        check_lower_bound(self.poisoned.loss, self.theta, h, self.proof, self.domain)
        outside = int(np.sum(~self.domain.allows(self.dataset)))
        if outside:
            clause = Check("points outside the domain", outside, 0.0, "<=", f"of {self.domain!r}")
            raise CertificateError("points left the domain:", checks=[clause])
        missing = norm(missing_gradient(self.poisoned.loss, self.dataset, self.theta, h))
        # No points at all are right where h is the rounding of what the honest users report.
        models = np.stack([theta.ravel() for theta in self.thetas])
        reports = self.poisoned.local_losses.gradient(models)[:-1]
        scale = norm(self.gradient) + norm(h - self.gradient) + math.fsum(lengths(reports))
        allowed = REALIZATION_RESIDUAL * scale
        if (
            self.domain.discrete
        ):  # rounded points miss by what they claim; the certificate says the rest
            allowed = max(allowed, self.residual * norm(h) * (1.0 + VERIFY_RELATIVE))
        if not missing <= allowed:
            clause = Check("residual", missing, allowed, "<=", "of the points")
            raise CertificateError("the points miss the gradient:", checks=[clause])
        self.certificate.require(tol)
        return self


def poison(
    problem: Problem,
    target: npt.ArrayLike,
    *,
    nu: float | None = None,
    domain: Domain = Unbounded(),
    extra: int = 0,
) -> Poisoning:
    r"""Return the smallest dataset with which one more participant makes ``target`` the optimum.

    Parameters
    ----------
    problem : Problem
        The honest users; the attacker becomes one more, the last.
    target : array_like, shape of a model
        The aimed global model :math:`\rho_\dagger`.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the attacker's inputs may lie; default `Unbounded`.
    extra : int
        How many points more than the fewest may be spent on smaller inputs; in a bounded domain
        exactly so many more are shipped.

    Returns
    -------
    Poisoning
        Its certificate bounds the distance of the poisoned optimum from the target.

    Raises
    ------
    UnreachableTargetError
        If no plausible report makes the target stationary.
    InvalidInputError, UnrealizableGradientError, UnsupportedCombinationError, CertificateError
        As `realize_gradient`.
    NotSolvedError
        If the replies of the honest users are so badly known that no points might be needed.

    Notes
    -----
    Source: T2.5. The optimum is unique when the certificate's distance is finite (nu > 0 with
    squared l2; under l2 also |g| < lam).

    Examples
    --------
    >>> from gplconvex import Dataset, LeastSquares, SquaredL2
    >>> honest = Problem(LeastSquares(), SquaredL2(1.0), [Dataset([[1.0]], [3.0])], nu=0.1)
    >>> attack = poison(honest, [-5.0])
    >>> attack.n_points, attack.certificate.distance < 1e-12
    (1, True)
    >>> solve(attack.poisoned).rho.round(10)
    array([-5.])
    """
    check_problem(problem)
    target = problem.check_model("target", target)
    ridge = attacker_nu(problem, nu)
    honest = replies(problem, target)
    gradient = _needed(problem, target, honest)
    theta = to_model(problem, target, gradient)
    rounding, unsolved = _errors_of_pull(problem, honest)
    realization = _realize(problem, theta, gradient, ridge, domain, extra, rounding + unsolved)
    solved = max(UNSOLVED * math.fsum(lengths(honest.gradient)), rounding / UNSOLVED)
    if not realization.n_points and unsolved > solved:
        raise NotSolvedError(
            f"the replies of the honest users at the target are known only up to {unsolved:.2g} in "
            "their gradients, and within that no points at all are needed: rescale the features, add a "
            "ridge or choose a nearer target",
            solution=None,
        )
    poisoned = problem.with_user(realization.dataset, ridge)
    thetas = (*honest.theta.reshape(-1, *problem.shape), theta)
    certificate = certify(poisoned, target, thetas)
    return _poisoning(realization, target, gradient, theta, poisoned, thetas, certificate, domain)


def reproduce_gradient(
    problem: Problem,
    rho: npt.ArrayLike,
    gradient: npt.ArrayLike,
    *,
    nu: float | None = None,
    domain: Domain = Unbounded(),
    extra: int = 0,
) -> Poisoning:
    r"""Return the smallest dataset whose owner, following the protocol, reports ``gradient`` at rho.

    Parameters
    ----------
    problem : Problem
        The honest users; only their loss, regularizer and ridge matter.
    rho : array_like, shape of a model
        The global model of the round.
    gradient : array_like, shape of a model
        The Byzantine report g, in Grad.
    nu : float, optional
        The attacker's own ridge; default, the one that all users of the problem share.
    domain : Domain
        Where the attacker's inputs may lie; default `Unbounded`.
    extra : int
        How many points more than the fewest may be spent on smaller inputs; in a bounded domain
        exactly so many more are shipped.

    Returns
    -------
    Poisoning
        Its certificate is that of the attacker alone, whose reply at rho balances -g.

    Raises
    ------
    InvalidInputError
        If g is outside Grad, or a shape is wrong.
    UnrealizableGradientError, UnsupportedCombinationError, CertificateError
        As `realize_gradient`.

    Notes
    -----
    Source: T2, end of the list.

    Examples
    --------
    >>> from gplconvex import Dataset, Logistic, SmoothL2, moreau_envelope
    >>> honest = Problem(Logistic(), SmoothL2(1.0), [Dataset([[1.0, 2.0]], [1.0])], nu=0.1)
    >>> attack = reproduce_gradient(honest, [1.0, 1.0], [0.3, -0.6])
    >>> attacker = attack.poisoned.n_users - 1
    >>> moreau_envelope(attack.poisoned, attacker, [1.0, 1.0]).gradient.round(12)
    array([ 0.3, -0.6])
    """
    check_problem(problem)
    rho = problem.check_model("rho", rho)
    g = problem.check_model("gradient", gradient)
    ridge = attacker_nu(problem, nu)
    theta = to_model(problem, rho, g)
    realization = to_data(problem, theta, g, nu=ridge, domain=domain, extra=extra)
    poisoned = problem.with_user(realization.dataset, ridge)
    honest = replies(problem, rho).theta.reshape(-1, *problem.shape)
    alone = Problem(problem.loss, problem.regularizer, [realization.dataset], ridge)
    certificate = certify(alone, rho, [theta], attacker=GradientAttack(-g))
    return _poisoning(realization, rho, g, theta, poisoned, (*honest, theta), certificate, domain)


def _poisoning(
    realization: Realization,
    target: FloatArray,
    gradient: FloatArray,
    theta: FloatArray,
    poisoned: Problem,
    thetas: tuple[FloatArray, ...],
    certificate: Certificate,
    domain: Domain,
) -> Poisoning:
    return Poisoning(
        dataset=realization.dataset,
        target=target,
        gradient=gradient,
        theta=theta,
        n_points=realization.n_points,
        lower_bound=realization.lower_bound,
        proof=realization.proof,
        residual=realization.residual,
        note=realization.note,
        poisoned=poisoned,
        thetas=thetas,
        certificate=certificate,
        domain=domain,
    )


def _errors_of_pull(problem: Problem, honest: Replies) -> tuple[float, float]:
    """Return how far the computed pull may be from the exact one, by rounding and by solving."""
    exact, rounding = problem.local_losses.certified_gradient(honest.theta)
    return 4.0 * math.fsum(rounding), 4.0 * math.fsum(lengths(honest.gradient - exact))


def attacker_nu(problem: Problem, nu: float | None) -> float:
    """Return the attacker's ridge: the given one, or that which all users share."""
    if nu is not None:
        return check_nu(nu)
    if (problem.nu != problem.nu[0]).any():
        raise InvalidInputError(
            f"the users have different ridges, {problem.nu.tolist()}: say which one the attacker has "
            "with nu=..."
        )
    return float(problem.nu[0])
