r"""The last layer of a network that is trained already: from convex models to deep ones.

A network that ends in softmax is, up to its last layer, a map :math:`\phi` from inputs to features. If
users share that *body* as it is, and learn the last layer together, their problem is the convex one on
features :math:`\phi(x)` instead of pixels, and everything that is proved of it holds. Features may come
from anywhere (`Features.load`); here a small body is trained,

.. math:: \phi(x) = \tanh(x W + b),

on images that no user has. Features of images lie between -1 and 1, and those of the fake points can be
kept there, if a few more are spent. Then they are features of inputs: the body has no more units than
pixels, W has full rank, and each f has the preimages

.. math:: x W = \tanh^{-1} f - b .

With fewer units than pixels there is room to choose among them, and projections in turn on these planes
and on the box look for images, all pixels from 0 to 1. The certificate is of the features that the body
computes from these pixels, rounding included. Nothing is claimed of users who go on training the body.

**What was published** is of CIFAR-10 and the 4096 features of a VGG-13-BN, with a target accuracy of
0.934. Neither is here; a file of those features would be a `Features`.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from gplconvex._types import FloatArray
from gplconvex.certificates import Certificate, certify
from gplconvex.data import Dataset, frozen_array
from gplconvex.datasets import Images, digits, mnist
from gplconvex.equivalence import poison
from gplconvex.errors import InvalidInputError
from gplconvex.experiments.federation import LAM, NU, Federation
from gplconvex.experiments.results import Optimum, Result, Steps
from gplconvex.federated.optimizers import Adam
from gplconvex.files import write_bytes
from gplconvex.problem import Problem
from gplconvex.regularizers import norm

RATE = 0.005
"""Step size of Adam when a body is trained."""

ROUNDS, INSIDE = 2000, 1e-3
"""Projections in turn, and how far inside the box they aim, so that they arrive."""

ARRAYS = ("x", "y", "x_test", "y_test")
"""Of a file of features."""


@dataclass(frozen=True, eq=False)
class Features:
    r"""What a network's body makes of training and test inputs, with their classes.

    Attributes
    ----------
    name : str
        Identifies them: steps of an experiment are kept under this name.
    x, x_test : arrays, shapes (m, d), (n, d)
        Features, one row an input.
    y, y_test : arrays, shapes (m,), (n,)
        Classes, whole numbers from 0.
    classes : tuple of str
        What each class is called.

    Raises
    ------
    InvalidInputError
        For shapes that disagree, numbers that are not finite, labels that are no class.

    Examples
    --------
    >>> Features("two", [[0.0], [1.0]], [0, 1], [[0.9]], [1], ("low", "high")).x.shape
    (2, 1)
    """

    name: str
    x: Any
    y: Any
    x_test: Any
    y_test: Any
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        for inputs, labels in (("x", "y"), ("x_test", "y_test")):
            x, y = (
                frozen_array(f"{self.name}: {name}", getattr(self, name))
                for name in (inputs, labels)
            )
            if x.ndim != 2 or y.shape != x.shape[:1] or not x.size:
                raise InvalidInputError(
                    f"{self.name}: {inputs} must have shape (m, d) and {labels} (m,), m and d at "
                    f"least 1; got {x.shape} and {y.shape}"
                )
            if not np.isfinite(x).all():
                raise InvalidInputError(f"{self.name}: {inputs} must be finite")
            if not np.isin(y, np.arange(len(self.classes))).all():
                raise InvalidInputError(
                    f"{self.name}: {labels} must be classes, whole numbers from 0 to "
                    f"{len(self.classes) - 1}; got {np.unique(y)[:9].tolist()}"
                )
            object.__setattr__(self, inputs, x)
            object.__setattr__(self, labels, y)
        if self.x.shape[1] != self.x_test.shape[1]:
            raise InvalidInputError(
                f"{self.name}: x and x_test must have the same features; got {self.x.shape[1]} and "
                f"{self.x_test.shape[1]}"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Features:
        r"""Read features from a NumPy archive, written by `save` or by ``np.savez``.

        Parameters
        ----------
        path : path-like
            An ``.npz`` file with arrays ``x``, ``y``, ``x_test`` and ``y_test``, and, if classes have
            names, ``classes``. Their name is that of the file and some digits of its sha256.

        Raises
        ------
        InvalidInputError
            If the file is no such archive, or its arrays are not as `Features` wants them.
        """
        path = Path(path)
        content = path.read_bytes()
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                stored = {name: archive[name] for name in (*ARRAYS, "classes") if name in archive}
        # A single array (.npy) is no context manager: a TypeError.
        except (zipfile.BadZipFile, ValueError, EOFError, TypeError) as error:
            raise InvalidInputError(
                f"{str(path)!r} must be a NumPy archive of plain numbers; got: {error}. Write it with "
                "np.savez(path, x=..., y=..., x_test=..., y_test=...)"
            ) from error
        missing = [name for name in ARRAYS if name not in stored]
        if missing:
            raise InvalidInputError(
                f"{str(path)!r} must hold the arrays {list(ARRAYS)}; it lacks {missing}"
            )
        labels = np.concatenate([np.ravel(stored["y"]), np.ravel(stored["y_test"])])
        n_classes = int(labels.max(initial=0)) + 1 if labels.dtype.kind in "iuf" else 0
        classes = stored.get("classes", np.arange(n_classes))
        name = f"{path.stem} {hashlib.sha256(content).hexdigest()[:8]}"
        x, y, x_test, y_test = (stored[each] for each in ARRAYS)
        return cls(name, x, y, x_test, y_test, tuple(map(str, classes)))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write an ``.npz`` file that `load` reads.

        Raises
        ------
        InvalidInputError
            If the file exists and ``overwrite`` is false, or its folder does not exist.
        """
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        np.savez_compressed(content, classes=np.array(self.classes), **arrays)
        return write_bytes(path, content.getvalue(), overwrite=overwrite)

    def federation(self, n_users: int, points: int, *, lam: float, nu: float) -> Federation:
        """Deal the first ``n_users * points`` training features out to users."""
        if not (n_users >= 1 and points >= 1 and n_users * points <= len(self.y)):
            raise InvalidInputError(
                f"n_users and points must be at least 1, and n_users * points at most the "
                f"{len(self.y)} training inputs of {self.name}; got {n_users} * {points}"
            )
        cuts = points * np.arange(1, n_users + 1)
        parts = zip(np.split(self.x, cuts)[:n_users], np.split(self.y, cuts)[:n_users], strict=True)
        users = [Dataset(x, y) for x, y in parts]
        return Federation(
            self.name, users, len(self.classes), self.x_test, self.y_test, lam=lam, nu=nu
        )


@dataclass(frozen=True, eq=False)
class Body(Result):
    r"""A hidden layer of h units, and the head that it was trained with.

    Attributes
    ----------
    weights, bias : arrays, shapes (d, h), (h,)
        W and b.
    head : array, shape (h + 1, K)
        A softmax model of the features, the intercept last.
    mean : array, shape (d,)
        The mean of the inputs that it was trained on.
    """

    weights: Any
    bias: Any
    head: Any
    mean: Any

    def features(self, x: FloatArray) -> FloatArray:
        r"""Return :math:`\tanh(x W + b)`, shape (m, h)."""
        return np.asarray(np.tanh(x @ self.weights + self.bias))

    def inputs(self, features: FloatArray) -> FloatArray:
        r"""Return inputs that have these features, shape (m, d).

        From the nearest to the mean, projections on the preimages of the features and on the box of
        pixels take turns. What is returned lies in [0, 1], if that is reached for all of them; if not,
        it is the nearest to the mean.

        Raises
        ------
        InvalidInputError
            If a feature is not strictly between -1 and 1, or the weights are not of rank h: then there
            need not be any.
        """
        d, h = self.weights.shape
        if not (np.abs(features) < 1.0).all():
            raise InvalidInputError(
                "features of inputs lie strictly between -1 and 1; got one of "
                f"{np.abs(features).max():g} in size"
            )
        if np.linalg.matrix_rank(self.weights) < h:
            raise InvalidInputError(
                f"the weights must have rank {h}, so that all features are those of an input; their "
                f"shape is {d, h}"
            )
        inverse = np.linalg.pinv(self.weights)
        wanted = np.arctanh(features) - self.bias
        x = nearest = self.mean + (wanted - self.mean @ self.weights) @ inverse
        for _ in range(ROUNDS):
            if is_image(x):
                return np.asarray(x)
            x = np.clip(x, INSIDE, 1.0 - INSIDE)
            x += (wanted - x @ self.weights) @ inverse
        return np.asarray(nearest)


def is_image(x: FloatArray) -> bool:
    """Return whether all pixels are from 0 to 1."""
    return bool((x >= 0.0).all() and (x <= 1.0).all())


def train_body(
    x: FloatArray, y: npt.ArrayLike, n_classes: int, *, hidden: int, epochs: int, seed: int
) -> Body:
    r"""Train a network of one hidden layer: the mean of softmax losses, all points in every step.

    Parameters
    ----------
    x, y : arrays, shapes (m, d), (m,)
        Inputs and classes.
    n_classes : int
        K.
    hidden, epochs : int
        Units of the hidden layer, and steps of Adam, of size 0.005.
    seed : int
        Of the first weights: normal with variance 1/d; the head begins at 0.
    """
    m, d = x.shape
    one_hot = np.eye(n_classes)[np.asarray(y, dtype=np.intp)]
    weights = np.random.default_rng(seed).standard_normal((d, hidden)) / np.sqrt(d)
    bias, head = np.zeros(hidden), np.zeros((hidden + 1, n_classes))
    steps = [Adam().starts() for _ in range(3)]
    for _ in range(epochs):
        f = np.tanh(x @ weights + bias)
        residual = (softmax(f @ head[:-1] + head[-1], axis=1) - one_hot) / m
        slope = (residual @ head[:-1].T) * (1.0 - f * f)
        head_slope = np.vstack([f.T @ residual, residual.sum(axis=0)])
        weights = weights - steps[0](x.T @ slope, RATE)
        bias = bias - steps[1](slope.sum(axis=0), RATE)
        head = head - steps[2](head_slope, RATE)
    return Body(weights, bias, head, x.mean(axis=0))


@dataclass(frozen=True, eq=False)
class LayerAttack(Result):
    r"""Points whose owner makes the target the last layer that everybody shares.

    Attributes
    ----------
    x, y, counts : arrays, shapes (k, h), (k,), (k,)
        Their features, classes and multiplicities.
    points, lower_bound : int
        How many they are, and how many points of any features are needed, by T3.4.
    note : str
        Empty, or why they are more than the bound and what was to be spent.
    certificate : Certificate
        Of the target in the poisoned problem.
    pull, spade_norm : float
        :math:`|g|` and :math:`|\theta_\spadesuit|`.
    inputs : array, shape (k, d), or None
        Inputs of the body that have these features, images if such were found (`is_image`); None
        without a body, or where there are none.
    inputs_certificate : Certificate or None
        Of the target in the problem poisoned by what the body makes of these inputs.
    """

    x: Any
    y: Any
    counts: Any
    points: int
    lower_bound: int
    note: str
    certificate: Certificate
    pull: float
    spade_norm: float
    inputs: Any
    inputs_certificate: Certificate | None

    @property
    def largest(self) -> float:
        """The largest feature, in size."""
        return float(np.abs(self.x).max())


@dataclass(frozen=True, eq=False)
class LastLayer(Result):
    r"""The last layer that a federation learns, without an attack and with one.

    Attributes
    ----------
    settings : dict
        Of the federation.
    body_accuracy : float
        Of the body with the head that it was trained with, on test inputs; NaN without a body.
    honest : Optimum
        Of the honest users.
    honest_accuracy : array, shape (3,)
        Of their shared model on test inputs: where the solver stopped, and the least and the greatest of
        any model within the certified distance of it.
    accuracy, shifted : arrays, shape (3,)
        Likewise of the target, poisoned with the fewest points: shares of test inputs that it puts into
        their class, and into the one after.
    target_norm : float
        :math:`|\rho_\dagger|`.
    largest : float
        The largest feature of the users' inputs, in size.
    fewest : LayerAttack
        With the fewest points.
    smaller : LayerAttack
        With ``extra`` points more, whose features are smaller.
    extra : int
        How many.
    shape : tuple of int
        Of an input, if it is an image; otherwise empty.
    """

    settings: dict[str, Any]
    body_accuracy: float
    honest: Optimum
    honest_accuracy: Any
    accuracy: Any
    shifted: Any
    target_norm: float
    largest: float
    fewest: LayerAttack
    smaller: LayerAttack
    extra: int
    shape: tuple[int, ...]


def last_layer(
    features: Features,
    n_users: int,
    points: int,
    *,
    extra: int = 0,
    lam: float = LAM,
    nu: float = NU,
    body: Body | None = None,
    shape: tuple[int, ...] = (),
    steps: Steps = Steps(),
) -> LastLayer:
    r"""Learn the last layer of a network together, and poison it.

    Parameters
    ----------
    features : Features
        Of the training inputs, the first ``n_users * points`` of which are dealt out.
    n_users, points : int
        How many honest users, and inputs of each.
    extra : int
        How many points more than the fewest a second attack spends on smaller features.
    lam, nu : float
        :math:`\lambda`, of squared l2, and the ridge of every participant.
    body : Body, optional
        What made the features, if inputs for the fake points are wanted.
    shape : tuple of int
        Of an input, if it is an image.
    steps : Steps
        Where steps are kept.

    Raises
    ------
    InvalidInputError
        If there are too few inputs.
    NotSolvedError
        If an optimum cannot be certified.
    """
    federation = features.federation(n_users, points, lam=lam, nu=nu)
    steps = steps.within("last_layer", **federation.settings)
    honest, target = federation.honest(steps), federation.target(steps)

    def attack(more: int) -> LayerAttack:
        return _attack(federation.problem(), target, more, body)

    fewest = steps("fewest points", lambda: attack(0))
    smaller = steps(f"{extra} points more", lambda: attack(extra)) if extra else fewest
    shifted = replace(federation, y_test=(federation.y_test + 1) % federation.n_classes)
    distance = fewest.certificate.distance
    return LastLayer(
        settings=federation.settings,
        body_accuracy=math.nan if body is None else federation.accuracy(body.head),
        honest=honest,
        honest_accuracy=_accuracies(federation, honest.rho, honest.certificate.distance),
        accuracy=_accuracies(federation, target, distance),
        shifted=_accuracies(shifted, target, distance),
        target_norm=norm(target),
        largest=max(float(np.abs(user.x).max()) for user in federation.users),
        fewest=fewest,
        smaller=smaller,
        extra=extra,
        shape=tuple(shape),
    )


def _accuracies(federation: Federation, model: FloatArray, distance: float) -> FloatArray:
    return np.array([federation.accuracy(model), *federation.accuracy_within(model, distance)])


def _attack(problem: Problem, target: FloatArray, extra: int, body: Body | None) -> LayerAttack:
    """Poison, and look for inputs."""
    attack = poison(problem, target, extra=extra)
    data, inputs, certificate = attack.dataset, None, None
    if body is not None and (np.abs(data.x) < 1.0).all():
        inputs = body.inputs(data.x)
        seen = Dataset(body.features(inputs), data.y, data.counts)
        poisoned = problem.with_user(seen, float(attack.poisoned.nu[-1]))
        certificate = certify(poisoned, target, attack.thetas)
    return LayerAttack(
        data.x,
        data.y,
        data.counts,
        attack.n_points,
        attack.lower_bound,
        attack.note,
        attack.certificate,
        norm(attack.gradient),
        norm(attack.theta),
        inputs,
        certificate,
    )


def on_small_body(
    images: Images,
    n_users: int,
    points: int,
    *,
    hidden: int,
    epochs: int,
    extra: int,
    seed: int = 0,
    lam: float = LAM,
    nu: float = NU,
    steps: Steps = Steps(),
) -> LastLayer:
    r"""Train a body on the images that are not dealt out, and do `last_layer` on its features.

    Parameters
    ----------
    images : Images
        The first ``n_users * points`` are dealt out, as their features; the body learns the others.
    n_users, points, extra, lam, nu, steps
        As for `last_layer`.
    hidden, epochs, seed
        As for `train_body`.

    Raises
    ------
    InvalidInputError, NotSolvedError
        As `last_layer`, and if no images are left for the body.
    """
    total, n_classes = n_users * points, len(images.classes)
    if not 1 <= total < len(images.labels):
        raise InvalidInputError(
            f"n_users * points must leave some of the {len(images.labels)} images for the body; got "
            f"{n_users} * {points}"
        )
    name = f"{images.name}, {hidden} units, {epochs} epochs, seed {seed}"

    def learn() -> Body:
        x = images.pixels[total:] / images.levels
        return train_body(
            x, images.labels[total:], n_classes, hidden=hidden, epochs=epochs, seed=seed
        )

    body = steps.within("last_layer", images=name, dealt=total)("body", learn)
    features = Features(
        name,
        body.features(images.pixels[:total] / images.levels),
        images.labels[:total],
        body.features(images.x_test),
        images.y_test,
        images.classes,
    )
    return last_layer(
        features,
        n_users,
        points,
        extra=extra,
        lam=lam,
        nu=nu,
        body=body,
        shape=images.shape,
        steps=steps,
    )


def quick(steps: Steps) -> LastLayer:
    """Run it on small digits, 400 of which a body of 32 units learns."""
    return on_small_body(digits(), 10, 100, hidden=32, epochs=200, extra=300, lam=0.1, steps=steps)


def full(steps: Steps) -> LastLayer:
    """Run it on MNIST, the last 10 000 images of which a body of 128 units learns."""
    return on_small_body(mnist(), 10, 5000, hidden=128, epochs=150, extra=1000, steps=steps)
