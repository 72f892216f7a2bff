"""Small promises: what is read-only stays so, what is shown is short, what is claimed is checked."""

import dataclasses

import numpy as np
import pytest

import gplconvex as gc


@pytest.fixture(scope="module")
def honest() -> gc.Problem:
    rng = np.random.default_rng(7)
    data = [gc.Dataset(rng.normal(size=(9, 3)), rng.choice([-1.0, 1.0], size=9)) for _ in range(3)]
    return gc.Problem(gc.Logistic(intercept=True), gc.SquaredL2(1.0), data, nu=0.2)


@pytest.fixture(scope="module")
def attack(honest: gc.Problem) -> gc.Poisoning:
    return gc.poison(honest, [3.0, -2.0, 1.0, 0.5])


@pytest.mark.parametrize("name", ["nu", "datasets", "loss", "regularizer", "locals", "new"])
def test_a_problem_is_read_only(honest, name):
    """A certificate names a problem: another one must be another object."""
    with pytest.raises(AttributeError, match="read-only"):
        setattr(honest, name, 1.0)


def test_solutions_and_attacks_are_read_only(honest, attack):
    solution = gc.solve(honest)
    for model in (solution.rho, *solution.thetas, attack.target, honest.nu):
        with pytest.raises(ValueError, match="read-only"):
            model[0] = 5.0


def test_what_is_printed_is_short(honest, attack):
    for thing in (honest, attack, gc.solve(honest), attack.dataset):
        assert len(repr(thing)) < 200
        assert "array" not in repr(thing)


def test_an_attack_that_keeps_its_promise_is_returned(attack):
    assert attack.require(1e-8) is attack


@pytest.mark.parametrize(
    "forged",
    [
        lambda a: dataclasses.replace(a, lower_bound=a.lower_bound + 1),
        lambda a: dataclasses.replace(
            a,
            lower_bound=a.lower_bound + 1,
            proof=dataclasses.replace(a.proof, value=a.proof.value + 1),
        ),
        lambda a: dataclasses.replace(a, theta=1.1 * a.theta),
        lambda a: dataclasses.replace(
            a, certificate=gc.certify(a.poisoned, a.target + 0.1, a.thetas)
        ),
    ],
)
def test_a_forged_attack_is_refused(attack, forged):
    with pytest.raises(gc.CertificateError):
        forged(attack).require(1e-8)


def test_a_proof_survives_json(attack):
    proof = gc.LowerBound.from_json(attack.proof.to_json())
    assert proof.to_json() == attack.proof.to_json()
    gc.check_lower_bound(attack.poisoned.loss, attack.theta, attack.data_gradient, proof)
    plain = gc.LowerBound(1, "nonzero")
    assert gc.LowerBound.from_json(plain.to_json()).to_json() == plain.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"format": "gplconvex certificate 1"}'])
def test_what_is_no_proof_is_not_read(text):
    with pytest.raises(gc.InvalidInputError, match="not a lower bound"):
        gc.LowerBound.from_json(text)


def test_the_honest_optimum_takes_no_points_even_without_ridge():
    """The gradient to be realized is then rounding, and is recognized as such."""
    data = gc.heart_disease().datasets
    for regularizer in (gc.SquaredL2(1.0), gc.SmoothL2(50.0), gc.HardConsensus()):
        problem = gc.Problem(gc.Logistic(intercept=True), regularizer, data)
        attack = gc.poison(problem, gc.solve(problem).rho)
        assert attack.n_points == attack.lower_bound == 0
        attack.require(1e-8)


def test_targets_out_of_range_are_refused(honest):
    with pytest.raises(gc.UnrealizableGradientError, match="points are needed"):
        gc.poison(honest, [1e12, 0.0, 0.0, 0.0])
    with pytest.raises(gc.InvalidInputError, match="overflow"):
        gc.poison(honest, [1e155, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("wrong", [None, 3, [], "problem"])
def test_what_is_no_problem_is_refused(wrong):
    for call in (
        gc.solve,
        lambda p: gc.certify(p, [0.0], [[0.0]]),
        lambda p: gc.moreau_envelope(p, 0, [0.0]),
        lambda p: gc.required_gradient(p, [0.0]),
        lambda p: gc.poison(p, [0.0]),
        lambda p: gc.reproduce_gradient(p, [0.0], [0.0]),
        lambda p: gc.to_model(p, [0.0], [0.0]),
        lambda p: gc.to_gradient(p, [0.0], [0.0]),
        lambda p: gc.to_data(p, [0.0], [0.0]),
    ):
        with pytest.raises(gc.InvalidInputError, match="expected a Problem"):
            call(wrong)


def test_an_attack_is_no_problem_but_has_one(attack):
    with pytest.raises(gc.InvalidInputError, match=r"\.poisoned"):
        gc.solve(attack)


def test_an_array_is_no_attacker(honest):
    with pytest.raises(gc.InvalidInputError, match="GradientAttack"):
        gc.solve(honest, attacker=np.ones(4))


@pytest.mark.parametrize(
    "x", [np.ma.masked_less([[1.0, -1.0]], 0.0), [["1", "2"]], np.array([["2020-01-01"]], "M8[D]")]
)
def test_what_is_no_array_of_numbers_is_refused(x):
    with pytest.raises(gc.InvalidInputError, match="real numbers"):
        gc.Dataset(x, [1.0])
