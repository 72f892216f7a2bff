"""What targets cost: bounds and points agree with T3.4 and T3.6, and floors hold for real attacks."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from same_results import assert_same

import gplconvex as gc
from gplconvex.datasets import digits
from gplconvex.experiments import price as module
from gplconvex.experiments.federation import Federation
from gplconvex.experiments.price import POOLED, Price, Prices, price, quick, two_classes
from gplconvex.experiments.results import Result, Steps
from gplconvex.plots.price import price as draw
from gplconvex.realization.multiclass_bound import kappas

LAMS = (0.5, 20.0, POOLED)
SHARES = (0.5, 0.9)


def few_classes(classes: int, users: int, points: int) -> Federation:
    """Return the digits 0, 1, ... only."""
    images = digits()
    train, test = images.labels < classes, images.test_labels < classes
    x, y = images.pixels[train] / 16.0, images.labels[train]
    dealt = [
        gc.Dataset(x[i * points : (i + 1) * points], y[i * points : (i + 1) * points])
        for i in range(users)
    ]
    tests = images.x_test[test], images.y_test[test]
    return Federation(f"{classes} digits", dealt, classes, *tests)


@pytest.fixture(scope="module")
def three() -> Federation:
    return few_classes(3, 2, 60)


@pytest.fixture(scope="module")
def pair() -> Federation:
    return Federation.of(two_classes(digits(), 4, 9), 2, 60)


@pytest.fixture(scope="module")
def result(three: Federation, pair: Federation) -> Price:
    return price(three, pair, lams=LAMS, scales=(0.5, 2.0), ways=(0.5,), shares=SHARES)


def tables(result: Price) -> list[Prices]:
    return [part for part in vars(result).values() if isinstance(part, Prices)]


def test_constructed_points_are_within_the_bounds_of_the_theory(result: Price) -> None:
    for table in tables(result):
        built = table.points >= 0
        assert (table.points[built] >= table.bounds[built]).all()
    assert (result.targets.points <= result.targets.bounds + 2 * 3 + 2).all()  # T3.4
    assert max(certificate.distance for certificate in result.certificates) < 1e-5


def test_the_numbers_are_those_of_newton_replies(three: Federation, result: Price) -> None:
    """The honest pull, found anew user by user, gives the same report, formula and bound."""
    target, kappa = three.target(Steps()), float(kappas(np.zeros(3))[0])
    for i, lam in enumerate(LAMS[:2]):
        problem = three.problem(gc.SquaredL2(lam))
        g = -sum(gc.moreau_envelope(problem, n, target).gradient for n in range(2))
        theta = target - g / (2.0 * lam)
        formula = (np.sum(g * g) / (2.0 * lam) - np.sum(target * g)) / kappa
        assert result.targets.formula[i] == pytest.approx(formula, rel=1e-7)
        assert result.targets.gradients[i] == pytest.approx(np.linalg.norm(g), rel=1e-8)
        paid = -np.sum(theta * (g - 2.0 * three.nu * theta)) / kappa
        assert result.targets.bounds[i] >= math.floor(paid)  # an intercept only adds to it
    pull = (
        three.problem(gc.HardConsensus())
        .local_losses.gradient(np.tile(target.ravel(), (2, 1)))
        .sum(axis=0)
    )
    assert result.targets.gradients[2] == pytest.approx(np.linalg.norm(pull))


def test_the_formula_leaves_out_the_ridge_and_nothing_else() -> None:
    three = dataclasses.replace(few_classes(3, 2, 60), nu=1e-4)
    table = module._listed(module._Cone(three, Steps()), [(1.0, 1.0)])
    assert table.bounds[0] == pytest.approx(table.formula[0], rel=1e-2, abs=2)
    heavy = dataclasses.replace(three, nu=1.0)
    table = module._listed(module._Cone(heavy, Steps()), [(1.0, 1.0)])
    assert table.bounds[0] > 1.1 * table.formula[0]  # the negative control: here it matters


def test_labels_are_relabeled_at_no_more_than_the_target_costs(result: Price) -> None:
    wanted = np.tile(np.array(SHARES) * result.target, len(LAMS))
    assert (result.found.reached >= wanted).all()
    assert (result.found.bounds.reshape(len(LAMS), -1) <= result.targets.bounds[:, None]).all()
    for labels in (result.pair_free, result.pair_pixels):
        assert (labels.bounds <= result.pair_targets.bounds).all()
    assert (result.pair_free.bounds <= result.pair_pixels.bounds).all()  # fewer inputs allowed


def test_a_floor_holds_for_an_attack_that_misnames(pair: Federation, result: Price) -> None:
    problem, target = pair.problem(gc.HardConsensus()), pair.target(Steps())
    rho = 0.1 * target
    attack = gc.poison(problem, rho, domain=gc.Box(0.0, 1.0))
    x = np.vstack([user.x for user in pair.users])
    y = np.concatenate([user.y for user in pair.users])
    misnamed = float(np.mean(np.argmax(x @ rho[:-1] + rho[-1], axis=1) != y))
    honest = module._Cone(pair, Steps()).honest
    floor = module._floors(pair, honest, [misnamed]).points[0]
    assert 1 < floor <= attack.n_points
    # Negative control: a misnamed image costs log 2, not ten times as much.
    cheat = module._floors(pair, honest, [10.0 * misnamed]).points[0]
    assert cheat > floor
    assert (result.pair_floors.points <= result.pair_pixels.points[-1]).all()


def test_two_classes_keep_their_images() -> None:
    images, both = digits(), two_classes(digits(), 4, 9)
    four, nine = (images.pixels[images.labels == c] for c in (4, 9))
    assert np.array_equal(both.pixels[both.labels == 0], four)
    assert np.array_equal(both.pixels[both.labels == 1], nine)
    assert both.classes == ("4", "9")
    assert both.writers is None


def test_the_search_finds_the_least_of_a_parabola() -> None:
    bound = lambda s: round(1e6 * (math.log(s) - math.log(0.3)) ** 2)  # noqa: E731
    assert module._least(bound) == pytest.approx(0.3, rel=1e-3)
    assert module._least(lambda s: round(1e6 * s)) < module.SMALLEST  # falls all the way down


def test_save_load_resume(
    tmp_path: Path, three: Federation, pair: Federation, result: Price
) -> None:
    kept = Result.load(result.save(tmp_path / "price.npz"))
    assert isinstance(kept, Price)
    assert_same(kept, result)

    class Killed(Exception):
        pass

    def kill(name: str) -> None:
        if name == "pair, lam 20":
            raise Killed

    settings = {"lams": LAMS, "scales": (0.5, 2.0), "ways": (0.5,), "shares": SHARES}
    with pytest.raises(Killed):
        price(three, pair, **settings, steps=Steps(tmp_path, on_step=kill))
    done: list[str] = []
    again = price(three, pair, **settings, steps=Steps(tmp_path, on_step=done.append))
    assert "scaled" not in done
    assert "pair, lam 20" in done
    assert_same(again, result)


def test_the_figure_shows_the_numbers(result: Price) -> None:
    figure = draw(result)
    first, second, third, fourth = figure.axes
    lines = {line.get_label(): line for line in first.lines}
    assert np.array_equal(lines["the target itself"].get_ydata(), result.targets.points)
    assert np.array_equal(
        lines["90% of its labels, cheapest found"].get_ydata(), result.found.points[1::2]
    )
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["0.5", "20", "pooled"]
    assert np.array_equal(second.lines[0].get_ydata(), result.scaled.bounds)
    assert third.lines[0].get_ydata()[0] == result.on_the_way.bounds[0]
    assert np.array_equal(fourth.lines[2].get_ydata(), result.pair_free.points)


def test_bad_input(three: Federation, pair: Federation) -> None:
    with pytest.raises(gc.InvalidInputError, match="two classes"):
        price(three, three)
    for wrong in ({"lams": (0.0,)}, {"lams": ()}, {"shares": (1.5,)}, {"shares": ()}):
        with pytest.raises(gc.InvalidInputError, match="positive and shares"):
            price(three, pair, **wrong)


@pytest.mark.slow
def test_quick_says_that_labels_are_cheaper_than_models() -> None:
    result = quick(Steps())
    assert (result.found.points < result.targets.points).all()
    assert result.found.points[-1] < 100 < result.targets.points[-1]
