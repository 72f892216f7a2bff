"""What people ask: floors that hold for all datasets, searches that ship, gradients that are right."""

import dataclasses
import itertools

import numpy as np
import pytest

import gplconvex as gc
from gplconvex.questions.cost import Costs
from gplconvex.questions.worst import worst_point

BOX = gc.Box(-1.0, 1.0)
REGULARIZERS = [gc.HardConsensus(), gc.SquaredL2(2.0), gc.L2(40.0), gc.SmoothL2(50.0)]


def users(regularizer, *, intercept=True, n_users=2, n=25, nu=0.5, seed=3) -> gc.Problem:
    """Return users whose labels follow two features, with noise."""
    rng = np.random.default_rng(seed)
    data = []
    for _ in range(n_users):
        x = rng.uniform(-1.0, 1.0, (n, 2))
        data.append(gc.Dataset(x, np.where(x @ [2.0, -1.0] + rng.normal(size=n) > 0.2, 1.0, -1.0)))
    return gc.Problem(gc.Logistic(intercept=intercept), regularizer, data, nu=nu)


def flipped(problem: gc.Problem, x, margin=0.0) -> gc.Predictions:
    """Return the goal that these inputs get the other labels."""
    honest = gc.solve(problem).rho
    z = problem.loss.predictor(np.asarray(x, dtype=float), honest)
    return gc.Predictions(x, -np.sign(z), margin)


@pytest.fixture(scope="module")
def honest() -> gc.Problem:
    return users(gc.HardConsensus())


@pytest.fixture(scope="module")
def goal(honest) -> gc.Predictions:
    return flipped(honest, [[0.9, -0.5]], margin=0.2)


@pytest.fixture(scope="module")
def audited(honest, goal) -> gc.GoalAudit:
    return gc.audit(honest, goal, nu=0.0, domain=BOX)


@pytest.fixture(scope="module")
def cheapest(honest, goal) -> gc.Cheapest:
    return gc.cheapest_target(honest, goal, nu=0.0, domain=BOX)


@pytest.fixture(scope="module")
def closest(honest) -> gc.Closest:
    return gc.closest_reachable(honest, np.zeros(3), 4, nu=0.0, domain=BOX)


# -- the cost and its gradient -----------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("nu", [0.0, 0.3])
def test_the_gradient_of_the_cost_is_that_of_finite_differences(regularizer, intercept, nu):
    problem = users(regularizer, intercept=intercept)
    costs = Costs(problem, BOX, nu)
    rho = gc.solve(problem).rho + 0.3 * np.array([1.0, -0.7, 0.4])[: 2 + intercept]
    step = 1e-5
    differences = [
        (costs.value(rho + step * e) - costs.value(rho - step * e)) / (2.0 * step)
        for e in np.eye(len(rho))
    ]
    found = costs.at(rho)
    np.testing.assert_allclose(found.gradient, differences, rtol=1e-5, atol=1e-5)
    assert found.value == pytest.approx(costs.value(rho), rel=1e-9)


def test_a_cost_map_holds_the_gauges_of_its_targets(honest):
    center, axes = gc.solve(honest).rho, np.eye(3)[:2]
    extent = ((-2.0, 1.0), (0.0, 1.0))
    found = gc.cost_map(honest, center, axes, extent=extent, resolution=(4, 3), nu=0.0, domain=BOX)
    assert found.points.shape == (4, 3)
    target = center + found.first[1] * axes[0] + found.second[2] * axes[1]
    g = gc.required_gradient(honest, target)
    assert found.points[1, 2] == pytest.approx(gc.gauge(honest.loss, target, g, BOX).value)
    assert found.points[1, 2] <= gc.audit(honest, target, nu=0.0, domain=BOX).floor
    assert found.points[2, 0] == pytest.approx(0.0, abs=1e-6)  # the center, where nobody is needed


def test_a_cost_map_has_no_number_where_no_report_is_enough():
    problem = users(gc.L2(3.0))
    found = gc.cost_map(
        problem, np.zeros(3), np.eye(3)[:2], extent=((-9, 9),) * 2, resolution=5, domain=BOX
    )
    assert np.isinf(found.points[0, 0])
    with pytest.raises(gc.UnreachableTargetError):
        gc.required_gradient(problem, [-9.0, -9.0, 0.0])


# -- audits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_no_fewer_points_than_the_floor_reach_the_goal_by_brute_force(margin):
    """One coefficient: the optimum is beyond c if and only if the derivative at c says so."""
    data = gc.Dataset([[1.0], [-1.0], [0.5]], [1.0, -1.0, -1.0], [4, 3, 1])
    problem = gc.Problem(gc.Logistic(), gc.HardConsensus(), [data], nu=0.2)
    goal = gc.Predictions([[1.0]], [-1.0], margin)  # rho <= -margin
    floor = gc.audit(problem, goal, nu=0.0, domain=BOX).require().floor
    slope = problem.locals[0].gradient(np.array([-margin]))[0]
    x = np.tile(np.linspace(-1.0, 1.0, 21), 2)
    y = np.repeat([-1.0, 1.0], 21)
    pushes = np.round(x * problem.loss.residual(-margin * x, y), 12)
    for k in range(min(floor, 4)):
        sums = map(sum, itertools.combinations_with_replacement(np.unique(pushes), k))
        assert slope + max(sums) < -1e-9  # so that the optimum stays above -margin
    needed = int(np.ceil(-slope / pushes.max()))
    assert 1 < floor <= needed


@pytest.mark.parametrize("regularizer", [*REGULARIZERS, gc.SquaredL2(0.2), gc.L2(4.0)], ids=repr)
@pytest.mark.parametrize("nu", [0.0, 0.4])
def test_poisoned_optima_of_fewer_points_than_the_floor_stay_out_of_the_goal(regularizer, nu):
    problem = users(regularizer)
    goal = flipped(problem, [[0.9, -0.5]], margin=0.5)
    found = gc.audit(problem, goal, nu=nu, domain=BOX).require()
    assert found.floor >= 1
    a, c = goal.half_spaces(problem)
    rng = np.random.default_rng(0)
    for extreme in (True, False):
        x = rng.uniform(-1.0, 1.0, (found.floor - 1, 2))
        x = np.array([0.9, -0.5]) / 0.9 if extreme else x
        x = np.broadcast_to(x, (found.floor - 1, 2))
        y = np.full(len(x), np.asarray(goal.y)[0])
        data = gc.Dataset(x, y) if len(x) else gc.Dataset.empty(2)
        poisoned = gc.solve(problem.with_user(data, nu))
        assert (a @ poisoned.rho < c).all()


def test_a_real_attack_takes_at_least_the_floor(cheapest, audited):
    assert 1 < audited.floor <= cheapest.poisoning.n_points
    assert cheapest.audit.floor == audited.floor


def test_a_goal_of_softmax_has_a_floor_too():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2))
    y = np.argmax(x @ rng.normal(size=(2, 3)), axis=1).astype(float)
    problem = gc.Problem(
        gc.Softmax(3, intercept=True), gc.HardConsensus(), [gc.Dataset(x, y)], nu=0.3
    )
    rho = gc.solve(problem).rho
    z = problem.loss.predictor(x[:1], rho)[0]
    goal = gc.Predictions(x[:1], [float(np.argmin(z))], margin=1.0)
    a, _ = goal.half_spaces(problem)
    ahead = z.min() - np.delete(z, np.argmin(z))
    np.testing.assert_allclose(a @ rho.ravel(), ahead)
    found = gc.audit(problem, goal, nu=0.0, domain=gc.Box(-2.0, 2.0)).require()
    assert found.floor >= 2
    assert gc.audit(problem, goal, nu=0.0).require().floor == 1  # unbounded: no more is provable
    far = dataclasses.replace(goal, margin=6.0)
    farther = gc.audit(problem, far, nu=0.0).require()  # but with a reference without slopes
    assert farther.floor > 1
    assert not farther.reference[1][-1][:-1].any()


def test_without_bounds_of_labels_one_point_is_all_that_is_proved():
    data = gc.Dataset([[1.0], [2.0]], [1.0, 2.5])
    problem = gc.Problem(gc.LeastSquares(), gc.HardConsensus(), [data], nu=0.1)
    goal = gc.HalfSpaces([[-1.0]], [5.0])
    assert gc.audit(problem, goal, nu=0.0, domain=gc.Box(-1.0, 1.0)).require().floor == 1
    bounded = gc.Box(-1.0, 1.0, labels=(-3.0, 3.0))
    assert gc.audit(problem, goal, nu=0.0, domain=bounded).require().floor > 5


def test_the_honest_optimum_needs_no_points(honest):
    rho = gc.solve(honest).rho
    reached = gc.HalfSpaces(np.eye(3), rho - 0.1)
    found = gc.audit(honest, reached, nu=0.0, domain=BOX).require()
    assert found.floor == 0
    assert "Nothing is proved" in str(found)


def test_the_worst_point_is_at_least_as_bad_as_any_other():
    rng = np.random.default_rng(2)
    x = rng.uniform(-1.0, 1.0, (500, 2))
    for loss, t, y in (
        (gc.Logistic(True), np.array([1.0, -2.0, 0.3]), rng.choice([-1.0, 1.0], 500)),
        (gc.LeastSquares(True), np.array([1.0, -2.0, 0.3]), rng.uniform(-2.0, 2.0, 500)),
        (gc.Softmax(3), rng.normal(size=(2, 3)), rng.integers(3, size=500).astype(float)),
    ):
        domain = gc.Box(-1.0, 1.0, labels=(-2.0, 2.0))
        worst = worst_point(loss, t, domain)
        assert worst.value >= loss.value(loss.predictor(x, t), y).max()
        own = loss.value(loss.predictor(worst.x[None], t), np.array([worst.y]))[0]
        assert own <= worst.value * (1.0 + 1e-12)


def test_an_audit_of_a_target_says_how_many(honest):
    found = gc.audit(honest, np.zeros(3), nu=0.0, domain=BOX).require()
    assert found.poisoning is not None
    assert found.floor == found.poisoning.lower_bound
    assert f"No {found.floor - 1} points" in str(found)
    assert f"; {found.poisoning.n_points} points do." in str(found)


def test_an_audit_of_an_unreachable_target_says_so():
    found = gc.audit(users(gc.L2(3.0)), [-9.0, -9.0, 0.0], domain=BOX).require()
    assert found.floor == np.inf
    assert str(found).startswith("No points whatever")


@pytest.mark.parametrize(
    "forged",
    [
        lambda a: dataclasses.replace(a, floor=a.floor + 1),
        lambda a: dataclasses.replace(a, multipliers=-a.multipliers),
        lambda a: dataclasses.replace(a, multipliers=5.0 * a.multipliers),
        lambda a: dataclasses.replace(a, domain=gc.Box(-30.0, 30.0)),
        lambda a: dataclasses.replace(a, nearest=a.reference),
        lambda a: dataclasses.replace(a, reference=a.nearest),
        lambda a: dataclasses.replace(a, goal=gc.Predictions([[0.9, -0.5]], [1.0])),
        lambda a: dataclasses.replace(a, problem=users(gc.HardConsensus(), n=5)),
    ],
)
def test_a_forged_audit_of_a_goal_is_refused(audited, forged):
    assert audited.require() is audited
    with pytest.raises(gc.CertificateError):
        forged(audited).require()


@pytest.mark.parametrize(
    "forged",
    [
        lambda a: dataclasses.replace(a, floor=a.floor + 1),
        lambda a: dataclasses.replace(a, floor=np.inf, poisoning=None),
        lambda a: dataclasses.replace(a, target=a.target + 0.1),
        lambda a: dataclasses.replace(
            a, poisoning=dataclasses.replace(a.poisoning, theta=a.target + 0.1)
        ),
        lambda a: dataclasses.replace(a, domain=gc.Box(-30.0, 30.0)),
        lambda a: dataclasses.replace(a, problem=users(gc.HardConsensus(), n=5)),
    ],
)
def test_a_forged_audit_of_a_target_is_refused(closest, forged):
    assert closest.audit.require() is closest.audit
    with pytest.raises(gc.CertificateError):
        forged(closest.audit).require()


# -- searches ----------------------------------------------------------------------------------------


def test_the_cheapest_target_meets_the_goal_and_no_neighbor_is_cheaper(honest, goal, cheapest):
    assert cheapest.require() is cheapest
    a, c = goal.half_spaces(honest)
    poisoned = gc.solve(cheapest.poisoning.poisoned)
    assert (a @ poisoned.rho >= c).all()
    costs, rng = Costs(honest, BOX, 0.0), np.random.default_rng(5)
    for step in 1e-2 * rng.normal(size=(50, 3)):
        neighbor = cheapest.target + step
        if (a @ neighbor >= c).all():
            assert costs.value(neighbor) >= cheapest.cost * (1.0 - 1e-6)
    assert costs.value(cheapest.target) == pytest.approx(cheapest.cost)


def test_the_cheapest_target_is_cheaper_than_the_honest_optimum_within_the_goal(honest, cheapest):
    assert cheapest.cost <= Costs(honest, BOX, 0.0).value(cheapest.audit.nearest[0]) * (1 + 1e-6)


def test_the_closest_reachable_model_is_within_the_budget_and_nearer_than_the_segment(
    honest, closest
):
    assert closest.require() is closest
    assert closest.out_of_reach
    assert closest.poisoning.n_points <= 4
    origin, costs = gc.solve(honest).rho, Costs(honest, BOX, 0.0)
    shares = np.linspace(0.0, 1.0, 401)
    # Integers may want a step back: compare with what one point less would reach in the limit.
    on_segment = max(s for s in shares if costs.value((1.0 - s) * origin) <= 3.0)
    assert closest.distance < (1.0 - on_segment) * np.linalg.norm(origin)
    poisoned = gc.solve(closest.poisoning.poisoned)
    assert np.linalg.norm(poisoned.rho) == pytest.approx(closest.distance)


def test_a_budget_that_is_enough_reaches_the_target(honest, closest):
    assert closest.audit.poisoning is not None
    enough = closest.audit.poisoning.n_points
    found = gc.closest_reachable(honest, np.zeros(3), enough, nu=0.0, domain=BOX).require()
    assert found.distance == 0.0
    assert not found.out_of_reach
    np.testing.assert_array_equal(found.rho, np.zeros(3))


@pytest.mark.parametrize("regularizer", [gc.SquaredL2(2.0), gc.L2(12.0)], ids=repr)
def test_searches_work_with_personal_models(regularizer):
    problem = users(regularizer)
    goal = flipped(problem, [[0.9, -0.5]])
    gc.cheapest_target(problem, goal, nu=0.0, domain=BOX).require()
    found = gc.closest_reachable(problem, [-4.0, 4.0, 0.0], 12, nu=0.0, domain=BOX).require()
    assert 0.0 < found.distance < np.linalg.norm(gc.solve(problem).rho - [-4.0, 4.0, 0.0])


def test_a_goal_out_of_reach_is_refused_with_the_reason():
    problem = users(gc.L2(2.0))
    with pytest.raises(gc.UnreachableTargetError):
        gc.cheapest_target(problem, flipped(problem, [[0.9, -0.5]], 3.0), nu=0.0, domain=BOX)


@pytest.mark.parametrize(
    "forged",
    [
        lambda c: dataclasses.replace(c, budget=c.poisoning.n_points - 1),
        lambda c: dataclasses.replace(c, distance=0.5 * c.distance),
        lambda c: dataclasses.replace(c, poisoning=c.audit.poisoning),
        lambda c: dataclasses.replace(c, audit=dataclasses.replace(c.audit, floor=99)),
    ],
)
def test_a_forged_closest_is_refused(closest, forged):
    with pytest.raises(gc.CertificateError):
        forged(closest).require()


@pytest.mark.parametrize(
    "forged",
    [
        lambda c, other: dataclasses.replace(c, poisoning=other),
        lambda c, other: dataclasses.replace(c, audit=dataclasses.replace(c.audit, nu=0.1)),
        lambda c, other: dataclasses.replace(
            c, audit=dataclasses.replace(c.audit, floor=c.audit.floor + 1)
        ),
    ],
)
def test_a_forged_cheapest_is_refused(cheapest, closest, forged):
    with pytest.raises(gc.CertificateError):
        forged(cheapest, closest.poisoning).require()


def test_sentences_are_short_and_say_what_is_not_known(audited, cheapest, closest):
    assert "is not known" in str(cheapest)
    assert "is proved" in str(closest)
    for answer in (audited, cheapest, closest, closest.audit):
        assert str(answer).endswith(".")
        assert len(repr(answer)) < 250


# -- wrong questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p: gc.Predictions([[1.0, 2.0]], [1.0], margin=-1.0), "margin"),
        (lambda p: gc.Predictions([[1.0, 2.0]], [1.0, 1.0]), "labels|rows|shape"),
        (lambda p: gc.Predictions(np.empty((0, 2)), []), "at least one input"),
        (lambda p: gc.HalfSpaces([[0.0, 0.0, 0.0]], [1.0]), "not 0"),
        (lambda p: gc.HalfSpaces([[1.0, 0.0, 0.0]], [1.0, 2.0]), "a bound for each"),
        (lambda p: gc.audit(p, gc.Predictions([[1.0]], [1.0]), domain=BOX), "features"),
        (lambda p: gc.audit(p, gc.Predictions([[1.0, 2.0]], [3.0]), domain=BOX), "labels -1 and"),
        (lambda p: gc.audit(p, gc.HalfSpaces([[1.0]], [1.0]), domain=BOX), "shape of a model"),
        (
            lambda p: gc.audit(p, gc.Predictions([[1, 2], [1, 2]], [1, -1], 1.0), domain=BOX),
            "no point in common",
        ),
        (lambda p: gc.audit(p, np.zeros(3), domain="box"), "domain must be"),
        (lambda p: gc.audit("problem", np.zeros(3)), "expected a Problem"),
        (lambda p: gc.closest_reachable(p, np.zeros(3), 0, domain=BOX), "budget"),
        (lambda p: gc.closest_reachable(p, np.zeros(3), 2.5, domain=BOX), "budget"),
        (lambda p: gc.closest_reachable(p, np.zeros(2), 2, domain=BOX), "target"),
        (lambda p: gc.cheapest_target(p, np.zeros(3), domain=BOX), "goal must be"),
        (lambda p: gc.cost_map(p, np.zeros(3), [np.ones(3), np.ones(3)], domain=BOX), "span"),
        (lambda p: gc.cost_map(p, np.zeros(3), [np.ones(3)], domain=BOX), "two models"),
        (
            lambda p: gc.cost_map(
                p, np.zeros(3), np.eye(3)[:2], extent=((1, 0), (0, 1)), domain=BOX
            ),
            "extent",
        ),
        (
            lambda p: gc.cost_map(p, np.zeros(3), np.eye(3)[:2], resolution=1, domain=BOX),
            "resolution",
        ),
    ],
)
def test_wrong_questions_are_refused(honest, ask, message):
    with pytest.raises(gc.InvalidInputError, match=message):
        ask(honest)


def test_labels_to_predict_are_for_classification():
    problem = gc.Problem(gc.LeastSquares(), gc.HardConsensus(), [([[1.0]], [2.0])], nu=1.0)
    with pytest.raises(gc.UnsupportedCombinationError, match="HalfSpaces"):
        gc.audit(problem, gc.Predictions([[1.0]], [1.0]), domain=BOX)


def test_a_cost_map_is_drawn_also_where_nothing_is_reachable(honest):
    plots = pytest.importorskip("gplconvex.plots")
    center, axes = gc.solve(honest).rho, np.eye(3)[:2]
    found = gc.cost_map(honest, center, axes, resolution=5, nu=0.0, domain=BOX)
    figure = plots.cost_map(found, marks={"honest": (0.0, 0.0)}, labels=("a", "b"))
    assert figure.axes[0].get_xlabel() == "a"
    nowhere = dataclasses.replace(found, points=np.full((5, 5), np.inf))
    plots.cost_map(nowhere)
