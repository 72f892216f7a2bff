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
        lambda a: dataclasses.replace(a, n_points=a.n_points - 1),
        lambda a: dataclasses.replace(a, n_points=0, dataset=gc.Dataset.empty(3)),
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


def test_parameters_of_another_precision_are_taken_as_float64():
    """Bounds would otherwise be computed in the shorter precision, and be wrong."""
    for short in (np.float32(1.0), np.float16(1.0), 1):
        for regularizer in (gc.SquaredL2(short), gc.L2(short), gc.SmoothL2(short, short)):
            assert type(regularizer.lam) is float
    problem = gc.Problem(
        gc.LeastSquares(), gc.L2(np.float32(1)), [([[1e-6]], [-1e-3 - (1 - 1e-9) * 1e6])]
    )
    pull = gc.GradientAttack(-problem.locals[0].gradient(np.array([-1e3])))
    assert not 1e-11 < gc.certify(problem, [0.0], [[-1e3]], attacker=pull).gap < 1e-6


@pytest.mark.parametrize("value", [0.0, 1e-200, 1e200, np.nan, True, "1", None, 10**400])
def test_a_strength_out_of_range_is_refused(value):
    for make in (gc.SquaredL2, gc.L2, gc.SmoothL2, lambda lam: gc.SmoothL2(1.0, lam)):
        with pytest.raises(gc.InvalidInputError):
            make(value)


def test_no_number_of_constant_residuals_is_proved_beyond_what_was_tried():
    loss, zero = gc.Logistic(intercept=True), np.zeros(2)
    for h, value in (([0.0, 0.0], 2), ([1.0, 1e6], 10**9)):
        claim = gc.LowerBound(value, "constant predictor")
        with pytest.raises(gc.CertificateError):
            gc.check_lower_bound(loss, zero, h, claim)


@pytest.mark.parametrize("claim", ["residuals", "constant predictor", "direction", "counting"])
def test_nothing_is_proved_of_what_is_not_finite(claim):
    for theta, h in (([1.0, np.nan], [1.0, 1.0]), ([1.0, 1.0], [1.0, np.inf]), ([], [])):
        with pytest.raises(gc.InvalidInputError):
            gc.check_lower_bound(gc.Logistic(intercept=True), theta, h, gc.LowerBound(10**9, claim))


def test_a_point_away_from_a_frozen_model_under_consensus_has_no_bound():
    problem = gc.Problem(gc.LeastSquares(), gc.HardConsensus(), [([[1.0, 2.0]], [2.0])], nu=0.1)
    attacker = gc.ModelAttack([0.3, 0.7])
    certificate = gc.certify(problem, [0.0, 0.0], [[0.0, 0.0]], attacker=attacker)
    assert certificate.gap == certificate.distance == np.inf
    assert certificate.failures[0].name == "the attacker agrees"


@pytest.mark.parametrize("size", [1e100, 1e200])
def test_huge_data_end_in_a_certificate_or_a_refusal(size):
    for loss in (gc.LeastSquares(), gc.Logistic()):
        problem = gc.Problem(loss, gc.SquaredL2(1.0), [([[size]], [1.0])], nu=1.0)
        certificate = gc.certify(problem, [0.0], [[0.0]])
        assert certificate.gap > 0.0
    pooled = gc.Problem(gc.Logistic(), gc.HardConsensus(), [([[size]], [1.0])])
    assert gc.certify(pooled, [0.0], [[0.0]]).gap > 0.0


@pytest.mark.parametrize("off", [-1e-15, -4e-16, 0.0, 1e-15, 1e-8])
def test_sums_of_residuals_next_to_an_integer_are_realized_minimally(off):
    """Then all residuals may have to be next to 1, where predictors are large."""
    loss, theta = gc.Logistic(intercept=True), np.array([2.0, 0.0, 0.5])
    for whole in (1, 2, 5):
        for s in (-30.0, -1e-3, 0.1, 40.0, 500.0):
            h = np.array([(s - 0.5 * (whole + off)) / 2.0, 1.0, whole + off])
            found = gc.realize_gradient(loss, theta, h)
            assert found.n_points == found.lower_bound
            gc.check_lower_bound(loss, theta, h, found.proof)


def test_gradients_of_any_size_are_realized_or_refused_with_a_sentence():
    """Entries from 1e-130 to 1e130: no warning, no foreign error, no blame on the caller's data."""
    rng = np.random.default_rng(0)
    for trial in range(400):
        loss = (gc.LeastSquares, gc.Logistic)[trial % 2](intercept=bool(trial & 2))
        sizes = 10.0 ** rng.uniform(-130, 130, size=(2, rng.integers(1, 5) + loss.intercept))
        theta, h = rng.normal(size=sizes.shape) * sizes
        try:
            found = gc.realize_gradient(loss, theta, h)
        except (gc.CertificateError, gc.UnrealizableGradientError):
            continue
        gc.check_lower_bound(loss, theta, h, found.proof)
        assert found.residual <= 1e-12
