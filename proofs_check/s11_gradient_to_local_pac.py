r"""S11. Gradient-PAC* makes learning locally PAC*, and says how fast.

At an optimum an honest user has :math:`\nabla L_h(\theta_h^*) = \nabla r(\rho^* - \theta_h^*)`. *l2 and
smooth l2*: its norm is at most lam, so with :math:`t = |\theta_h^* - \theta_{\dagger h}|`

.. math:: A I \min(t, t^2) - B I^\alpha t \le \lambda t, \qquad
          \min(1, t) \le \frac{B I^\alpha + \lambda}{A I} \to 0,

**whatever the others do**, even if they see the points first. *Any r*, the others' models frozen: the
inequality integrates along the ray to :math:`L_h(\theta) - L_h(\theta_{\dagger h}) \ge A I\,q(t) -
B I^\alpha t`, with :math:`q(t) = t^2/2` up to 1 and :math:`t - 1/2` beyond, and the optimum is no worse
than the honest models with any rho,

.. math:: \sum_h A I\,q(t_h) - B I^\alpha t_h \le C
          = \min_\rho \sum_h r(\rho - \theta_{\dagger h}) + \sum_s r(\rho - \theta_{\spadesuit s}).

C does not grow with I as long as the others' models do not: so under squared l2 learning is locally PAC*
**for fixed others**, and not uniformly: an attack that grows with I keeps honest users off for ever.

Source: the paper; that squared l2 has another order of quantifiers, this package.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import sympy as sp

import gplconvex as gc
from gplconvex.pac import estimate_local_pac, gradient_pac
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "gradient-PAC* makes learning locally PAC*"
SOURCE = "paper; quantifiers this package"

WEIGHT = 1.0
"""Of lam in the bound of the distance."""

AREA = 0.5
"""q(1), by how much L grows within distance 1 over A I."""

MUTATIONS = {"WEIGHT": 0.99, "AREA": 1.01}


def symbolic() -> Iterator[Identity]:
    """Near and far, the limit, and the integral along a ray."""
    A, B, n, lam, t, s = sp.symbols("A B I lam t s", positive=True)
    alpha = sp.symbols("alpha", real=True)
    noise = B * n**alpha
    for name, least, power in (("far", sp.Integer(1), t), ("near", t, t**2)):
        yield identity(
            f"{name}: lam t - (A I min(t, t^2) - B I^alpha t) = t (B I^alpha + lam - A I min(1, t))",
            lam * t - (A * n * power - noise * t) - t * (noise + lam - A * n * least),
        )
    below = sp.symbols("a", positive=True)  # alpha = 1 - a
    bound = sp.expand((B * n ** (1 - below) + lam) / (A * n))
    yield identity(
        "(B I^alpha + lam) / (A I) tends to 0 for alpha < 1, at 1/2 like B / (A sqrt I)",
        sp.limit(sp.powsimp(bound.subs(below, sp.Rational(1, 9))), n, sp.oo),
        sp.limit(sp.powsimp(bound.subs(below, sp.Rational(1, 2)) * sp.sqrt(n)), n, sp.oo) - B / A,
    )
    yield identity(
        "the integral of A I min(1, s) - B I^alpha is A I q(t) - B I^alpha t",
        sp.integrate(s, (s, 0, 1)) - sp.nsimplify(AREA),
        sp.integrate(s, (s, 0, t)) - sp.nsimplify(AREA) * t**2,
        sp.integrate(s, (s, 0, 1)) + sp.integrate(1, (s, 1, t)) - (t - sp.nsimplify(AREA)),
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """On the line both bounds are equalities; in the plane all users keep within them."""
    lam = float(rng.uniform(0.5, 2.0))
    x = rng.normal(size=(12, 1)) + 2.0
    line = gc.Dataset(x, 0.1 * x[:, 0])  # around 0 the gradient points away
    found = gradient_pac(gc.LeastSquares(), line, [0.0])
    A, B = found.constants(0.5)
    reply = gc.moreau_envelope(gc.Problem(gc.LeastSquares(), gc.L2(lam), [line]), 0, [1e6]).theta
    noise = B * 12**0.5
    yield Measurement(
        "l2, rho far away on a line: t = (B I^alpha + lam) / (A I)",
        float(reply[0]),
        (noise + WEIGHT * lam) / (12 * A),
    )
    local = gc.Problem(gc.LeastSquares(), gc.L2(lam), [line]).locals[0]
    grown = local.value(np.ones(1)) - local.value(np.zeros(1))
    yield Measurement("and L grows by A I q(1) - B I^alpha", grown, 12 * A * AREA - noise)
    models = rng.normal(size=(2, 2)) / 2.0
    for loss in (gc.LeastSquares(), gc.Logistic()):
        for regularizer in (gc.L2(lam), gc.SmoothL2(lam)):
            yield from _within(loss, regularizer, models, rng)
    yield from _squared(models, lam, rng)


def counterexample() -> Iterator[Measurement]:
    """Take squared l2, where reports have no bound, and let the attack grow with I."""
    models = np.array([[1.0, 0.0], [0.0, -1.0]])

    def grows(problem: gc.Problem) -> gc.GradientAttack:
        return gc.GradientAttack(np.array([2.0 * problem.datasets[0].n_points, 0.0]))

    found = estimate_local_pac(
        gc.LeastSquares(), gc.SquaredL2(1.0), models, [50, 2000], attack=grows, n_trials=2, seed=0
    )
    few, many = found.distances.max(axis=(1, 2))
    yield Measurement(
        "squared l2, an attack of 2 I: the distance is halved from 50 to 2000 points",
        many,
        few / 2.0,
        "<=",
    )
    data = gc.honest_dataset(gc.LeastSquares(), models[0], 200, seed=0)
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(1.0), [data])
    reply = gc.moreau_envelope(problem, 0, [1e4, 1e4]).theta
    bound = gradient_pac(gc.LeastSquares(), data, models[0]).distance_bound(1.0)
    yield Measurement(
        "squared l2, rho far away: within (B I^alpha + lam) / (A I)",
        float(np.linalg.norm(reply - models[0])),
        bound,
        "<=",
    )


def _within(
    loss: gc.Loss, regularizer: gc.Regularizer, models: np.ndarray, rng: np.random.Generator
) -> Iterator[Measurement]:
    """Set an attacker far away, who may send what it likes: the worst user over its bound."""
    found = estimate_local_pac(
        loss,
        regularizer,
        models,
        [400],
        attack=gc.ModelAttack(100.0 * rng.normal(size=2)),
        n_trials=2,
        seed=int(rng.integers(2**32)),
    )
    name = f"{type(loss).__name__}, {type(regularizer).__name__}"
    worst = float(np.max(found.distances / found.bounds))
    yield Measurement(f"{name}: the worst distance over its bound", worst, 1.0, "<=")


def _squared(models: np.ndarray, lam: float, rng: np.random.Generator) -> Iterator[Measurement]:
    """Freeze another model under squared l2: the sum of A I q(t) - B I^alpha t against C."""
    spade = 20.0 * rng.normal(size=2)
    others = np.vstack([models, spade])
    C = lam * float(np.sum((others - others.mean(axis=0)) ** 2))
    data = [
        gc.honest_dataset(gc.LeastSquares(), theta, 100, seed=int(rng.integers(2**32)))
        for theta in models
    ]
    problem = gc.Problem(gc.LeastSquares(), gc.SquaredL2(lam), data)
    solution = gc.solve(problem, attacker=gc.ModelAttack(spade)).require_optimal()
    total = 0.0
    for own, theta, reached in zip(data, models, solution.thetas, strict=True):
        A, B = gradient_pac(gc.LeastSquares(), own, theta).constants(0.5)
        t = float(np.linalg.norm(reached - theta))
        q = AREA * t**2 if t <= 1.0 else t - AREA
        total += 100 * A * q - B * 10.0 * t
    yield Measurement("squared l2: the sum of A I q(t) - B I^alpha t is at most C", total, C, "<=")
