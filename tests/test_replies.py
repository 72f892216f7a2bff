"""Replies of large models, which the native solver finds user by user, are those of the envelopes."""

from __future__ import annotations

import numpy as np
import pytest

import gplconvex as gc
from gplconvex import replies as module
from tests import strategies as cases

KINDS = (gc.SquaredL2(0.6), gc.SmoothL2(2.0, 0.7), gc.L2(2.0), gc.L2(1e3), gc.HardConsensus())


@pytest.mark.parametrize("regularizer", KINDS, ids=repr)
@pytest.mark.parametrize("loss", [gc.Logistic(intercept=True), gc.Softmax(3)], ids=repr)
def test_both_ways_to_the_replies_agree(
    loss: gc.Loss, regularizer: gc.Regularizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = cases.example(loss, regularizer, rows=12)
    rho = cases.centered(problem, np.random.default_rng(1).normal(size=problem.shape))
    small = module.replies(problem, rho)
    monkeypatch.setattr(module, "fits_newton", lambda problem: False)
    large = module.replies(problem, rho)
    size = 1.0 + np.linalg.norm(rho)
    assert np.abs(large.theta - small.theta).max() <= 1e-6 * size
    assert np.abs(large.gradient - small.gradient).max() <= 1e-5 * size
    if loss.has_gauge:
        models = large.theta.reshape(-1, *problem.shape)
        assert np.abs(models.sum(axis=2)).max() <= 1e-14 * size


def test_large_models_can_be_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fits_newton", lambda problem: False)
    problem = cases.example(gc.Softmax(3), gc.SquaredL2(0.5), rows=12)
    target = cases.centered(problem, np.random.default_rng(2).normal(size=problem.shape))
    attack = gc.poison(problem, target).require(1e-7)
    again = gc.to_data(problem, attack.theta, attack.gradient)
    assert again.n_points == attack.n_points
    distance = np.linalg.norm(gc.solve(attack.poisoned).rho - target)
    assert distance <= 1e-6 * (1.0 + np.linalg.norm(target))
