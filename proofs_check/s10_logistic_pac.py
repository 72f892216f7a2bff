r"""S10. Logistic regression is gradient-PAC*, for every alpha in (1/2, 1).

Along a ray, :math:`s_w(r) = w^\top\nabla L(\theta_\dagger + r w)` with :math:`|w| = 1` does not
decrease. So the inequality of gradient-PAC* holds for all theta as soon as it does within distance 1 of
:math:`\theta_\dagger`, and there, with the least slope :math:`\kappa_i` of a chord of the sigmoid from
:math:`z_i = \theta_\dagger^\top x_i` to :math:`z_i \pm |x_i|`,

.. math:: s_w(r) \ge w^\top\nabla L(\theta_\dagger) + r\,w^\top K w, \qquad
          K = \sum_i \kappa_i x_i x_i^\top.

The chords' slopes rise and then fall, so :math:`\kappa_i` is that to one of the ends. Hence :math:`A I =
\lambda_{\min}(K)`, :math:`B I^\alpha = |\nabla L(\theta_\dagger)|` hold; :math:`E K / I > 0` depends on
:math:`|\theta_\dagger|` only through :math:`z_i`, and honest labels make

.. math:: E\,|\nabla L(\theta_\dagger)|^2 = \sum_i E\,\sigma'(z_i)\,|x_i|^2
          \le \tfrac14 I\,\mathrm{tr}\,E x x^\top,

with equality at :math:`\theta_\dagger = 0`. So the event's probability tends to 1 as in S9. Beyond
distance 1 the left side grows only linearly, which is why the inequality has a minimum.

Source: the paper; the constants are this package's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import sympy as sp
from scipy.optimize import minimize_scalar
from scipy.special import expit

import gplconvex as gc
from gplconvex.pac import estimate_gradient_pac, gradient_pac
from proofs_check.ledger import Identity, Measurement, identity

TITLE = "logistic regression is gradient-PAC*"
SOURCE = "paper; constants this package"

VARIANCE = 0.25
"""E|grad L(theta_d)|^2 over I tr E x x^T, at most, and at theta_d = 0."""

DISTANCE = 1.0
"""Where the inequality with the largest A is an equality, at theta_d = 0 on a line."""

MUTATIONS = {"VARIANCE": 0.99, "DISTANCE": 1.01}


def symbolic() -> Iterator[Identity]:
    """Residuals, rays, chords, and the step from r = 1 to all r."""
    z, s, t = sp.symbols("z s t", real=True)

    def sigmoid(at: sp.Expr) -> sp.Expr:
        return 1 / (1 + sp.exp(-at))

    p = sigmoid(z)
    residuals = ((-sigmoid(-z), p), (sigmoid(z), 1 - p))  # of labels +1 and -1
    yield identity(
        "an honest residual has mean 0 and variance sigma'(z), at most 1/4",
        sum(w * probability for w, probability in residuals),
        sum(w**2 * probability for w, probability in residuals) - sp.diff(p, z),
        sp.nsimplify(VARIANCE) - p * (1 - p) - (p - sp.Rational(1, 2)) ** 2,
    )
    inner = sp.symbols("a", real=True)  # w . x
    yield identity(
        "d/dr of w . x sigma(z + r w . x) = (w . x)^2 sigma (1 - sigma), at least 0",
        sp.diff(inner * sigmoid(z + t * inner), t)
        - inner**2 * sigmoid(z + t * inner) * (1 - sigmoid(z + t * inner)),
    )
    chord = (sigmoid(z + s) - sigmoid(z)) / s
    second = sp.diff(sigmoid(z), z, 2)
    yield identity(
        "a chord's slope moves towards sigma' at its end, and sigma' rises to z = 0 and falls",
        sp.diff(chord, s) - (sp.diff(sigmoid(z + s), s) - chord) / s,
        second - p * (1 - p) * (1 - 2 * p),
    )
    r, gap, curved = sp.symbols("r gap curved", positive=True)
    yield identity(
        "(g.w + b) + r w.Kw - r (g.w + b + w.Kw) = (1 - r) (g.w + b)",
        gap + r * curved - r * (gap + curved) - (1 - r) * gap,
    )


def numeric(rng: np.random.Generator) -> Iterator[Measurement]:
    """All outcomes of small data, random models near and far, a line, and frequencies."""
    loss, target = gc.Logistic(), rng.normal(size=2)
    computed, curvature = _mean_square(target)
    yield Measurement("E|grad|^2 is the sum of E sigma' |x|^2", computed, curvature)
    yield Measurement("E|grad|^2 over I tr E x x^T", computed / 4.0, VARIANCE, "<=")
    yield Measurement("and at theta_d = 0", _mean_square(np.zeros(2))[0] / 4.0, VARIANCE)
    yield Measurement("on a line the tightest r", *_tightest(rng), tolerance=1e-6)
    data = gc.honest_dataset(loss, target, 60, seed=int(rng.integers(2**32)))
    found = gradient_pac(loss, data, target)
    A, B = found.constants(0.75)
    yield Measurement(
        "the least margin over 2000 models", _margin(data, target, A, B, rng), 0.0, ">="
    )
    z, reach = data.x @ target, np.linalg.norm(data.x, axis=1)
    chords = [(expit(z + s) - expit(z)) / s for s in (reach, -reach)]
    weights = np.minimum(*chords)
    least = float(np.linalg.eigvalsh(data.x.T @ (weights[:, None] * data.x))[0])
    yield Measurement("A I is no less than the least eigenvalue of K", 60 * A, 0.98 * least, ">=")
    few, many = estimate_gradient_pac(
        loss,
        target / np.linalg.norm(target),
        [10, 1000],
        A=0.03,
        B=0.2,
        alpha=0.9,
        n_trials=12,
        seed=int(rng.integers(2**32)),
        inputs="rademacher",
    ).proportions
    allowed = 0.25 * 2 / 0.2**2 * 1000 ** (1.0 - 2.0 * 0.9)
    yield Measurement("frequency of failing at I = 1000", 1.0 - many.successes / 12, allowed, "<=")
    yield Measurement("it holds no less often than at 10", many.successes, few.successes, ">=")


def counterexample() -> Iterator[Measurement]:
    """Drop the minimum, the honest labels, or the span of the inputs."""
    loss, target = gc.Logistic(), np.array([1.0, -1.0])
    data = gc.honest_dataset(loss, target, 200, seed=0)
    A, B = gradient_pac(loss, data, target).constants(0.75)
    local = gc.Problem(loss, gc.SquaredL2(1.0), [data]).locals[0]
    v = 1000.0 * np.array([0.6, 0.8])
    left = float(v @ local.gradient(target + v)) + B * 200**0.75 * 1000.0
    yield Measurement("|v|^2 instead of min(|v|, |v|^2), |v| = 1000", left, A * 200 * 1e6, ">=")
    always = gradient_pac(loss, gc.Dataset(data.x + np.array([1.0, 0.0]), np.ones(200)), target)
    yield Measurement(
        "all labels +1: |grad| <= 0.5 I^0.75", always.gradient_norm, 0.5 * 200**0.75, "<="
    )
    line = gc.Dataset(np.outer(np.ones(200), [1.0, 1.0]), np.tile([1.0, -1.0], 100))
    yield Measurement(
        "inputs on a line: A is at least 0.01",
        gradient_pac(loss, line, [0.0, 0.0]).constants(0.75)[0],
        0.01,
        ">=",
    )


def _mean_square(theta: np.ndarray) -> tuple[float, float]:
    """Return E|grad L(theta)|^2 and the sum of E sigma' |x|^2, over all signs of 2 points."""
    d, n = theta.size, 2
    outcomes, probabilities, curvature = [], [], 0.0
    for signs in itertools.product((-1.0, 1.0), repeat=n * d):
        x = np.reshape(signs, (n, d))
        z = x @ theta
        curvature += float(np.sum(expit(z) * expit(-z) * d)) / 2 ** (n * d)
        for labels in itertools.product((-1.0, 1.0), repeat=n):
            outcomes.append(gc.Dataset(x, labels))
            probabilities.append(float(np.prod(expit(np.array(labels) * z))) / 2 ** (n * d))
    problem = gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), outcomes)
    gradients = problem.local_losses.gradient(np.tile(theta, (len(outcomes), 1)))
    return float(np.array(probabilities) @ np.sum(gradients**2, axis=1)), curvature


def _tightest(rng: np.random.Generator) -> tuple[float, float]:
    """Return where (phi_w(r) + B I^alpha) / min(1, r) is least, and where that is claimed."""
    x = rng.uniform(0.5, 3.0, size=(20, 1))
    local = gc.Problem(
        gc.Logistic(), gc.SquaredL2(1.0), [gc.Dataset(x, np.sign(rng.normal(size=20)))]
    ).locals[0]
    slope = local.gradient(np.zeros(1))

    def ratio(r: float) -> float:
        w = -np.sign(slope)
        lifted = float(w @ local.gradient(r * w)) + abs(float(slope[0]))
        return lifted / min(1.0, r)

    found = minimize_scalar(ratio, bounds=(0.05, 5.0), method="bounded", options={"xatol": 1e-10})
    return float(found.x), DISTANCE


def _margin(
    data: gc.Dataset, target: np.ndarray, A: float, B: float, rng: np.random.Generator
) -> float:
    """Return the least of left side over right side, minus 1, over models near and far."""
    local = gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), [data]).locals[0]
    n = data.n_points
    margins: list[float] = []
    for size in np.exp(rng.uniform(np.log(1e-3), np.log(1e3), 2000)):
        w = rng.normal(size=target.size)
        v = size * w / np.linalg.norm(w)
        left = float(v @ local.gradient(target + v)) + B * n**0.75 * size
        margins.append(left / (A * n * min(size, size**2)) - 1.0)
    return min(margins)
