r"""The setting of the published experiments: images dealt out to honest users, and a liar's wish.

Softmax regression with intercept, pixels in [0, 1], sums and not means. The target is the model of
users whose labels are all one class on, :math:`y \to y + 1 \bmod K`: it names nearly every image wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.datasets import Images
from gplconvex.experiments.results import Optimum, Steps
from gplconvex.losses import Softmax
from gplconvex.participants import Attacker
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer, SquaredL2
from gplconvex.solvers import Solution, solve

LAM = 1.0
"""The published strength of the tie between the shared model and each personal one."""

NU = 0.1
"""Ridge of every participant. The published experiments have none, and then MNIST has no optimum: some
pixels never occur in some class, and the loss falls for ever along them (T4)."""

SOLVE_TOL = 1e-13
"""Relative gap asked of a solver: what is to be certified is a distance of 1e-6 (1 + |rho|), and a
distance is about the root of a gap."""


@dataclass(frozen=True, eq=False)
class Federation:
    r"""Honest users with images of K classes, and test images.

    Attributes
    ----------
    name : str
        Of the images.
    users : sequence of Dataset
        Inputs (m, d), labels 0, ..., K-1.
    n_classes : int
        K.
    x_test, y_test : arrays, shapes (n, d), (n,)
        What models are measured with.
    lam, nu : float
        Of the problems.
    """

    name: str
    users: Sequence[Dataset]
    n_classes: int
    x_test: FloatArray
    y_test: FloatArray
    lam: float = LAM
    nu: float = NU

    @classmethod
    def of(
        cls, images: Images, n_users: int, points: int, *, lam: float = LAM, nu: float = NU
    ) -> Federation:
        """Deal the first ``n_users * points`` training images out to users."""
        users = images.deal(n_users, points)
        classes = len(images.classes)
        return cls(images.name, users, classes, images.x_test, images.y_test, lam, nu)

    @property
    def settings(self) -> dict[str, Any]:
        """What identifies the federation, in numbers and texts."""
        rows = [user.n_points for user in self.users]
        return {
            "images": self.name,
            "users": len(rows),
            "points": [min(rows), max(rows)],
            "lam": self.lam,
            "nu": self.nu,
        }

    @property
    def loss(self) -> Softmax:
        """Softmax with intercept."""
        return Softmax(self.n_classes, intercept=True)

    def problem(self, regularizer: Regularizer | None = None) -> Problem:
        r"""Return what the honest users minimize; default, under squared l2 with ``lam``."""
        return Problem(self.loss, regularizer or SquaredL2(self.lam), self.users, self.nu)

    def relabeled(self) -> Problem:
        r"""Return the same with labels :math:`y + 1 \bmod K`, whose optimum is the target."""
        users = [Dataset(user.x, (user.y + 1) % self.n_classes, user.counts) for user in self.users]
        return Problem(self.loss, SquaredL2(self.lam), users, self.nu)

    def accuracy(self, model: FloatArray, shift: int = 0) -> float:
        r"""Return the share of test images that a model puts into class :math:`y + shift \bmod K`."""
        named = np.argmax(self.x_test @ model[:-1] + model[-1], axis=1)
        return float(np.mean(named == (self.y_test + shift) % self.n_classes))

    def accuracy_within(self, model: FloatArray, distance: float) -> tuple[float, float]:
        r"""Return bounds of the accuracy of all models within a distance of one.

        Logits of two classes differ by :math:`(x, 1)^\top(\theta_j - \theta_k)`, which a change of
        :math:`\theta` by ``distance`` moves by at most :math:`\sqrt 2\,|(x, 1)|` times that.
        """
        logits = self.x_test @ model[:-1] + model[-1]
        true = self.y_test.astype(np.intp)[:, None]
        own = np.take_along_axis(logits, true, axis=1)[:, 0]
        np.put_along_axis(logits, true, -np.inf, axis=1)
        margin = own - logits.max(axis=1)
        moved = distance * np.sqrt(2.0 * (1.0 + np.sum(self.x_test**2, axis=1)))
        return float(np.mean(margin > moved)), float(np.mean(margin >= -moved))

    def honest(self, steps: Steps) -> Optimum:
        """Return the optimum of the honest users."""
        common = steps.common(**self.settings)
        return common("honest", lambda: Optimum.of(optimum(self.problem())))

    def target(self, steps: Steps) -> FloatArray:
        r"""Return :math:`\rho_\dagger`, the shared model of the relabeled users.

        Relabeling permutes the classes and changes nothing else: the columns are those of the honest
        optimum, each one class on. They sum to 0, as at every optimum with a ridge: no data could
        lead elsewhere.
        """
        target = np.roll(self.honest(steps).rho, 1, axis=1)
        return np.asarray(target - target.mean(axis=1, keepdims=True))


def optimum(
    problem: Problem, attacker: Attacker | None = None, start: Any = None, **options: Any
) -> Solution:
    """Return the optimum to the accuracy that the experiments certify, or raise `NotSolvedError`."""
    options = {"tol": SOLVE_TOL, **options}
    return solve(problem, attacker=attacker, start=start, **options).require_optimal()
