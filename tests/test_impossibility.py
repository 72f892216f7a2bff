"""No server beats the bound, in worlds that it cannot tell apart; who is told which is which does."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gplconvex as gc
from gplconvex.federated import DataAttack, rounds, run
from gplconvex.impossibility import (
    FIT,
    REGULARIZERS,
    RIDGE,
    Instance,
    Sweep,
    World,
    indistinguishable,
    measure,
    poisoned_worlds,
    server_rules,
    sweep,
)
from gplconvex.plots import impossibility
from tests import strategies as cases

ROUNDING = 1e-9


@st.composite
def instances(draw: st.DrawFn, most_users: int = 9) -> Instance:
    n_users = draw(st.integers(2, most_users))
    f = draw(st.integers(1, n_users // 2))
    d = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rest = rng.choice([0.0, 1.0, 0.5, rng.random()], size=n_users - 2 * f).tolist()
    return indistinguishable(
        n_users,
        f,
        draw(cases.powers(1e-2, 1e2)),
        rest=rest,
        reach=draw(st.sampled_from([1.0, 1.5, 2.0])),
        direction=rng.normal(size=d),
    )


# -- the two worlds ----------------------------------------------------------------------------------


@given(instance=instances())
@settings(max_examples=40)
def test_worlds_keep_to_the_diameter_and_their_means_are_apart(instance: Instance) -> None:
    n, f, p = instance.n_users, instance.f, instance.preferred
    first, second = instance.worlds
    for world in instance.worlds:
        assert len(world.honest) == n - f
        assert len(world.strategic) == f
        assert sorted(world.honest + world.strategic) == list(range(n))
        mine = p[list(world.honest)]
        apart = np.linalg.norm(mine[:, None] - mine, axis=-1).max()
        assert apart <= instance.delta * (1.0 + ROUNDING)
        assert world.diameter == pytest.approx(apart, abs=1e-12 * instance.delta)
        np.testing.assert_allclose(world.mean, mine.mean(axis=0), rtol=1e-14)
    assert not set(first.strategic) & set(second.strategic)
    between = np.linalg.norm(second.mean - first.mean)
    assert between == pytest.approx(f * instance.reach * instance.delta / (n - f), rel=1e-12)
    assert instance.bound == pytest.approx(between / 2.0, rel=1e-12)


@given(st.integers(2, 40), st.data(), st.integers(-5, 5))
def test_means_differ_by_exactly_the_claimed(n: int, data: st.DataObject, exponent: int) -> None:
    """In rational numbers: positions are float64 numbers, and their sums are not rounded."""
    f = data.draw(st.integers(1, n // 2))
    rest = data.draw(st.lists(st.floats(0.0, 1.0), min_size=n - 2 * f, max_size=n - 2 * f))
    delta = 2.0**exponent
    instance = indistinguishable(n, f, delta, rest=rest)
    means = [
        sum(Fraction(instance.preferred[i, 0].item()) for i in world.honest) / (n - f)
        for world in instance.worlds
    ]
    assert means[1] - means[0] == f * Fraction(delta) / (n - f)


@given(instance=instances())
@settings(max_examples=25)
def test_preferred_models_minimize_local_losses(instance: Instance) -> None:
    problem = instance.problem(gc.SquaredL2(1.0))
    assert (problem.nu == RIDGE).all()
    far = instance.preferred + np.random.default_rng(0).normal(size=instance.preferred.shape)
    for local, p, theta in zip(problem.locals, instance.preferred, far, strict=True):
        size = FIT * (1.0 + float(np.linalg.norm(p)))
        assert np.linalg.norm(local.gradient(p)) <= 1e-13 * size
        np.testing.assert_allclose(local.gradient(theta), FIT * (theta - p), atol=1e-12 * size)


def reports_by_user(instance: Instance, world: World, regularizer, rule, n_rounds: int) -> list:
    """What every user sends, when the strategic ones poison data and follow the protocol.

    The server sees users, not roles: it takes their reports in the order of the users.
    """
    order = np.argsort(world.honest + world.strategic)
    attackers = [DataAttack(instance.datasets[n]) for n in world.strategic]
    all_rounds = rounds(
        instance.problem(regularizer, world),
        attackers,
        rule=lambda reports: rule(reports[order]),
        step_size=0.1 / instance.n_users,
        start=np.full(instance.preferred.shape[1:], 0.3 * instance.delta),
    )
    return [each.reports[order].tobytes() for each in itertools.islice(all_rounds, n_rounds)]


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
@given(instance=instances(most_users=7), data=st.data())
@settings(max_examples=5)
def test_reports_are_the_same_bits_in_both_worlds(
    regularizer: gc.Regularizer, instance: Instance, data: st.DataObject
) -> None:
    rules = server_rules(instance.n_users, instance.f)
    rule = rules[data.draw(st.sampled_from(sorted(rules)))]
    first, second = (
        reports_by_user(instance, world, regularizer, rule, 4) for world in instance.worlds
    )
    assert first == second


# -- nobody beats the bound --------------------------------------------------------------------------


@given(instance=instances())
@settings(max_examples=15)
def test_no_server_beats_the_bound(instance: Instance) -> None:
    measured = measure(instance)
    assert set(measured.rho) == {*REGULARIZERS, *server_rules(instance.n_users, instance.f)}
    assert min(measured.over_bound.values()) >= 1.0 - ROUNDING
    for name, errors in measured.errors.items():
        gap = np.linalg.norm(instance.worlds[1].mean - instance.worlds[0].mean)
        assert errors.sum() >= gap * (1.0 - ROUNDING), name


@given(instance=instances(most_users=7), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_no_point_at_all_beats_the_bound(instance: Instance, seed: int) -> None:
    rng = np.random.default_rng(seed)
    middle = 0.5 * (instance.worlds[0].mean + instance.worlds[1].mean)
    np.testing.assert_allclose(instance.errors(middle), instance.bound, rtol=1e-9)
    for scale in (1e-6, 1e-2, 1.0):
        rho = middle + scale * instance.delta * rng.normal(size=middle.shape)
        assert instance.errors(rho).max() >= instance.bound * (1.0 - ROUNDING)


@pytest.mark.parametrize("reach", [1.0, 2.0])
def test_the_bound_is_attained_where_the_worlds_mirror_each_other(reach: float) -> None:
    measured = measure(indistinguishable(9, 2, 3.0, rest=0.5, reach=reach, direction=[3.0, 4.0]))
    ratios = measured.over_bound
    del ratios["multi krum"]  # breaks ties by the order of users, and never settles
    assert measured.unsettled in ((), ("multi krum",))
    assert list(ratios.values()) == pytest.approx([1.0] * len(ratios), abs=1e-9)


def test_errors_have_their_closed_forms() -> None:
    """One end and the others against the other end: a mean is f D/N from one of the two."""
    n, f = 9, 2
    ratios = measure(indistinguishable(n, f, 1e3)).over_bound
    for name in ("squared l2", "hard consensus", "mean"):
        assert ratios[name] == pytest.approx(2.0 * (n - f) / n, rel=1e-9)
    for name in ("coordinate median", "geometric median", "krum", "trimmed mean", "multi krum"):
        assert ratios[name] == pytest.approx(2.0, rel=1e-9)
    assert ratios["l2"] == pytest.approx(2.0, rel=1e-3)  # reports of lam, from near the median
    near = measure(indistinguishable(n, f, 1e-3)).over_bound  # where all of them are linear
    for name in ("l2", "smooth l2", "centered clipping"):
        assert near[name] == pytest.approx(2.0 * (n - f) / n, rel=1e-4)


@given(
    st.integers(3, 15),
    st.data(),
    cases.powers(1e-2, 1e2),
    st.integers(0, 2**32 - 1),
)
def test_trimmed_mean_and_midpoint_have_the_best_constants(
    n: int, data: st.DataObject, delta: float, seed: int
) -> None:
    """In one dimension: f delta/(N - f), wherever strategic users are; half, if within delta."""
    f = data.draw(st.integers(1, (n - 1) // 2))
    rng = np.random.default_rng(seed)
    honest = delta * rng.choice([0.0, 1.0, rng.random()], size=n - f)
    best = f * delta / (n - f)
    anywhere = rng.normal(size=f) * delta * rng.choice([0.1, 1.0, 100.0])
    trimmed = server_rules(n, f)["trimmed mean"]
    estimate = trimmed(np.concatenate([honest, anywhere])[:, None])[0]
    assert abs(estimate - honest.mean()) <= best * (1.0 + ROUNDING)
    everybody = np.sort(np.concatenate([honest, delta * rng.random(f)]))
    middle = 0.5 * (everybody[: n - f].mean() + everybody[f:].mean())
    assert abs(middle - honest.mean()) <= 0.5 * best * (1.0 + ROUNDING)


def test_strategic_users_who_stand_outside_double_the_bound() -> None:
    inside, outside = (indistinguishable(9, 2, 1.0, rest=0.5, reach=r) for r in (1.0, 2.0))
    assert outside.bound == 2.0 * inside.bound
    assert max(world.diameter for world in outside.worlds) == 1.0  # of the honest, still
    assert np.ptp(outside.preferred) == 2.0


# -- negative controls -------------------------------------------------------------------------------


@given(instance=instances())
@settings(max_examples=20)
def test_who_is_told_who_is_honest_makes_no_error(instance: Instance) -> None:
    """The mean of the honest users alone, which is also that with f = 0, is right in both worlds."""
    for regularizer in (gc.SquaredL2(1.0), gc.HardConsensus()):
        for world in instance.worlds:
            alone = gc.solve(instance.problem(regularizer, world)).require_optimal()
            error = np.linalg.norm(alone.rho - world.mean)
            assert error <= 1e-9 * instance.bound


def test_different_data_could_be_told_apart() -> None:
    """If the strategic users of one world sent something else, a rule could serve both."""
    instance = indistinguishable(9, 2, 1.0)
    first = instance.worlds[0]
    silent = [DataAttack(instance.datasets[0])] * 2  # they agree with the others instead
    trace = run(instance.problem(gc.SquaredL2(1.0), first), silent)
    assert np.linalg.norm(trace.rho[-1] - first.mean) <= 1e-9 * instance.bound
    trace = run(instance.problem(gc.SquaredL2(1.0)))  # those of the other world, all honest but two
    assert instance.errors(trace.rho[-1])[1] < instance.bound


# -- as data poisoning -------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
@given(instance=instances(most_users=5))
@settings(max_examples=4)
def test_poisoned_data_do_the_same(regularizer: gc.Regularizer, instance: Instance) -> None:
    common = gc.solve(instance.problem(regularizer)).require_optimal()
    for each, world in zip(poisoned_worlds(instance, regularizer), instance.worlds, strict=True):
        assert each.world is world
        assert each.poisoned.n_users == instance.n_users
        assert each.n_points <= 1
        np.testing.assert_array_equal(each.rho, common.rho)
        assert each.certificate.relative_gap <= 1e-9
        if math.isfinite(each.certificate.distance):
            found = gc.solve(each.poisoned).require_optimal()
            off = np.linalg.norm(found.rho - common.rho)
            assert off <= each.certificate.distance + found.certificate.distance


@pytest.mark.parametrize("regularizer", REGULARIZERS.values(), ids=REGULARIZERS)
def test_poisoned_worlds_obey_the_bound(regularizer: gc.Regularizer) -> None:
    instance = indistinguishable(7, 2, 5.0, rest=[0.0, 0.2, 1.0], direction=[2.0, -1.0])
    errors = [
        np.linalg.norm(gc.solve(each.poisoned).rho - each.world.mean)
        for each in poisoned_worlds(instance, regularizer)
        if math.isfinite(each.certificate.distance)
    ]
    assert len(errors) == 2
    assert max(errors) >= instance.bound


# -- sweeps, the figure, bad input -------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweeps() -> tuple[Sweep, Sweep]:
    return sweep(5, [1, 2], 1.0), sweep(5, 1, [0.01, 1.0, 100.0])


def test_sweeps_have_their_closed_forms(sweeps: tuple[Sweep, Sweep]) -> None:
    by_f, by_delta = sweeps
    n = by_f.n_users
    np.testing.assert_allclose(by_f.bound, by_f.f / (2.0 * (n - by_f.f)))
    np.testing.assert_allclose(by_f.over_bound["mean"], 2.0 * (n - by_f.f) / n)
    np.testing.assert_allclose(by_f.over_bound["trimmed mean"], 2.0)
    # A median is wrong by half of the diameter where the ends are nearly even, however small f is.
    np.testing.assert_allclose(by_f.over_bound["coordinate median"], (n - 1) / by_f.f)
    for name in ("l2", "smooth l2", "centered clipping"):
        little, _, much = by_delta.over_bound[name]
        assert little == pytest.approx(by_delta.over_bound["mean"][0], rel=1e-2), name
        assert much == pytest.approx(n - 1, rel=0.1), name
    ratios = [ratio for each in sweeps for ratio in each.over_bound.values()]
    assert min(map(np.nanmin, ratios)) >= 1.0 - ROUNDING


def test_rules_are_left_out_where_there_are_too_few_users() -> None:
    by_f = sweep(4, [1, 2], 1.0, regularizers={})
    assert np.isnan(by_f.over_bound["krum"]).tolist() == [False, True]
    assert set(server_rules(4, 2)) == {
        "mean",
        "coordinate median",
        "geometric median",
        "centered clipping",
    }


def test_figure_is_drawn(sweeps: tuple[Sweep, Sweep], tmp_path: Path) -> None:
    figure = impossibility(*sweeps)
    path = tmp_path / "impossibility.png"
    figure.savefig(path)
    assert path.stat().st_size > 10_000
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "squared l2, hard consensus, mean" in labels
    names = [name for label in labels for name in label.split(", ")]
    assert sorted(names) == sorted(sweeps[0].over_bound)
    for axes, result in zip(figure.axes, sweeps, strict=True):
        low, high = axes.get_ylim()
        assert low < 1.0 < max(map(np.nanmax, result.over_bound.values())) < high


def test_figure_refuses_other_users_and_too_many_curves(sweeps: tuple[Sweep, Sweep]) -> None:
    with pytest.raises(gc.InvalidInputError, match="same number of users"):
        impossibility(sweeps[0], sweep(6, 1, 1.0))
    many = {f"lam = {lam}": gc.SmoothL2(float(lam)) for lam in range(1, 10)}
    with pytest.raises(gc.InvalidInputError, match="at most 8"):
        impossibility(sweep(3, 1, 3.0, regularizers=many), sweep(3, 1, 3.0, regularizers=many))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f": 0}, "f must be an integer from 1"),
        ({"f": 1.0}, "f must be an integer"),
        ({"f": 4}, "2 f"),
        ({"n_users": 7.0}, "n_users"),
        ({"delta": 0.0}, "delta must be a positive number"),
        ({"delta": math.inf}, "delta must be a positive number"),
        ({"rest": [0.0]}, "N - 2f = 3"),
        ({"rest": 1.5}, "from 0 to 1"),
        ({"rest": [0.0, math.nan, 0.0]}, "from 0 to 1"),
        ({"reach": 2.5}, "reach must be from 1 to 2"),
        ({"direction": [0.0, 0.0]}, "not all 0"),
        ({"direction": [[1.0]]}, "direction"),
    ],
)
def test_bad_input_is_refused(options: dict, message: str) -> None:
    with pytest.raises(gc.InvalidInputError, match=message):
        indistinguishable(**{"n_users": 7, "f": 2, "delta": 1.0, **options})


def test_more_bad_input_is_refused() -> None:
    instance = indistinguishable(5, 1, 1.0)
    with pytest.raises(gc.InvalidInputError, match="rho must have shape"):
        instance.errors([1.0, 2.0])
    with pytest.raises(gc.InvalidInputError, match="different names"):
        measure(instance, rules={"l2": server_rules(5, 1)["mean"]})
    with pytest.raises(gc.InvalidInputError, match="one length"):
        sweep(5, [1, 2], [1.0, 2.0, 3.0])
