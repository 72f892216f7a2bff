"""The record of a run: its file bit for bit, why runs end, and what is left when one fails."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gplconvex as gc
from gplconvex.federated import (
    CounterGradientAttack,
    HeavyBall,
    InProcess,
    Rejection,
    Round,
    Trace,
    record,
    rounds,
    rules,
    run,
)
from gplconvex.federated import trace as module
from tests import strategies as cases

NUMBERS = st.floats()  # with NaN, infinities, -0.0 and subnormal ones


def problem(n_users: int = 3) -> gc.Problem:
    return cases.example(gc.LeastSquares(), gc.SquaredL2(0.7), users=n_users)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Records of any shape and content; rows of NaN where somebody was not asked."""
    t, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    model = draw(st.sampled_from([(1,), (3,), (2, 3)]))

    def array(*shape: int) -> np.ndarray:
        return draw(hnp.arrays(np.float64, shape, elements=NUMBERS))

    norms, reports = array(t, n), array(t, n, *model) if draw(st.booleans()) else None
    silent = draw(hnp.arrays(np.bool_, (t, n)))
    norms[silent] = math.nan
    if reports is not None:
        reports[silent] = math.nan
    rejections = st.builds(Rejection, st.integers(0, t - 1), st.integers(0, n - 1), st.text())
    names = draw(st.lists(st.text(), max_size=2, unique=True))
    return Trace(
        array(t + 1, *model),
        array(t),
        norms,
        reports,
        tuple(draw(st.lists(rejections, max_size=3))),
        draw(st.text()),
        tuple(draw(st.lists(st.text(), min_size=n, max_size=n))),
        {name: array(*model) for name in names},
        draw(NUMBERS),
    )


def bits(trace: Trace) -> list[Any]:
    """Everything in a trace, numbers by their bits."""

    def of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.shape, value.dtype.str, value.tobytes()
        if isinstance(value, dict):
            return [(name, of(model)) for name, model in value.items()]
        return str(value) if isinstance(value, float) else value

    return [of(getattr(trace, field.name)) for field in dataclasses.fields(trace)]


def read(content: bytes, folder: Path) -> Trace:
    path = folder / "damaged.npz"
    path.write_bytes(content)
    return Trace.load(path)


# -- files -------------------------------------------------------------------------------------------


@given(trace=traces())
def test_a_file_gives_back_the_same_bits(
    trace: Trace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("traces") / "trace.npz"
    assert trace.save(path) == path
    assert bits(Trace.load(path)) == bits(trace)


def example(folder: Path, **options: Any) -> Trace:
    """A run with everything in it: who is not asked, who is dropped, who sends nothing."""
    attackers = [lambda query: None, lambda query: [math.inf, 0.0], gc.ModelAttack([1.0, 2.0])]
    return run(
        problem(),
        attackers,
        fraction=0.6,
        max_rounds=8,
        references={"origin": [0.0, 0.0], "elsewhere": [1.0, -1.0]},
        save=folder / "trace.npz",
        **options,
    )


@pytest.mark.parametrize("keep_reports", [True, False])
def test_a_run_writes_what_it_returns(tmp_path: Path, keep_reports: bool) -> None:
    trace = example(tmp_path, keep_reports=keep_reports)
    assert bits(Trace.load(tmp_path / "trace.npz")) == bits(trace)
    assert {rejection.participant for rejection in trace.rejections} == {3, 4}
    assert np.isnan(trace.norms).any()
    assert [path.name for path in tmp_path.iterdir()] == ["trace.npz"]


def test_files_are_not_overwritten_unasked(tmp_path: Path) -> None:
    trace = example(tmp_path)
    path = tmp_path / "trace.npz"
    before = path.read_bytes()
    for call in (lambda: trace.save(path), lambda: example(tmp_path)):
        with pytest.raises(gc.InvalidInputError, match="exists"):
            call()
    assert path.read_bytes() == before
    path.write_bytes(b"something else")
    example(tmp_path, overwrite=True)
    again = Trace.load(path)
    np.testing.assert_array_equal(again.rho, trace.rho)


def test_a_file_that_appears_meanwhile_is_kept_and_the_trace_too(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    options: dict[str, Any] = {"save": path, "max_rounds": 4}
    with pytest.raises(gc.RunError, match="could not be written") as caught:
        run(problem(), progress=lambda one: path.write_bytes(b"precious"), **options)
    assert path.read_bytes() == b"precious"
    assert caught.value.trace.n_rounds == 4
    assert caught.value.trace.stopped == "max_rounds"
    path.unlink()

    def fail(one: Round) -> None:
        path.write_bytes(b"precious")
        raise OSError("the display is gone")

    with pytest.raises(gc.RunError, match=r"the display is gone.*could not be written") as caught:
        run(problem(), progress=fail, **options)
    assert path.read_bytes() == b"precious"
    assert caught.value.trace.n_rounds == 1


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    example(tmp_path)
    content = (tmp_path / "trace.npz").read_bytes()
    with pytest.raises(gc.InvalidInputError, match="is not a trace"):
        read(content[: int(part * len(content))], tmp_path)


@given(place=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_a_damaged_file_is_refused_or_says_the_same(
    place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One bit flipped: the checksums of the archive find it, unless it is a date in there."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = example(folder)
    content = bytearray((folder / "trace.npz").read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    try:
        found = read(bytes(content), folder)
    except gc.InvalidInputError:
        return
    assert bits(found) == bits(whole)


def archive(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def stored(folder: Path, **changed: Any) -> bytes:
    """The archive of a trace with some arrays changed, or left out (None)."""
    example(folder)
    with np.load(folder / "trace.npz") as file:
        arrays = {**dict(file), **changed}
    return archive(**{name: value for name, value in arrays.items() if value is not None})


def test_other_files_are_refused(tmp_path: Path) -> None:
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    example(tmp_path)
    with np.load(tmp_path / "trace.npz") as file:
        head = json.loads(str(file["head"]))
    (tmp_path / "trace.npz").unlink()
    others = {
        "nothing": b"",
        "text": b"round,rho\n0,1.0\n",
        "one array": single.getvalue(),
        "a pickle": pickle.dumps([1.0]),
        "other arrays": archive(x=np.zeros(3)),
        "an object": archive(head=np.array([None], dtype=object)),
    }
    for name, changed in {
        "no JSON": {"head": np.array("{")},
        "a list": {"head": np.array("[]")},
        "another format": {"head": np.array(json.dumps({**head, "format": "gplconvex trace 0"}))},
        "no names": {"head": np.array(json.dumps({**head, "participants": 3}))},
        "fewer names": {"head": np.array(json.dumps({**head, "participants": ["a"]}))},
        "no reference": {"reference_1": None},
        "no norms": {"norms": None},
        "no reports": {"reports": None},
        "fewer norms": {"norms": np.zeros((8, 5))},
        "more rounds": {"step_sizes": np.zeros(9)},
        "another model": {"rho": np.zeros((9, 3))},
        "other reports": {"reports": np.zeros((8, 6, 3))},
        "a step for all": {"step_sizes": np.array(0.1)},
    }.items():
        others[name] = stored(tmp_path, **changed)
        (tmp_path / "trace.npz").unlink()
    for content in others.values():
        with pytest.raises(gc.InvalidInputError, match="is not a trace"):
            read(content, tmp_path)
    assert read(stored(tmp_path), tmp_path).n_rounds == 8  # the control: nothing changed
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "absent.npz")


def test_a_run_that_is_killed_leaves_its_rounds_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written again and again, from the moment at which one may be killed."""
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    path = tmp_path / "trace.npz"
    seen = []

    def progress(one: Round) -> None:
        if one.number:
            left = Trace.load(path)
            seen.append((left.stopped, left.n_rounds))

    trace = run(problem(), max_rounds=5, save=path, progress=progress)
    assert seen == [("running", n) for n in (1, 2, 3, 4)]
    assert bits(Trace.load(path)) == bits(trace)
    assert trace.stopped == "max_rounds"


# -- what is in it -----------------------------------------------------------------------------------


@given(trace=traces(), data=st.data())
def test_distances_by_their_definition(trace: Trace, data: st.DataObject) -> None:
    model = trace.rho.shape[1:]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    point = rng.normal(size=model)
    trace = dataclasses.replace(
        trace, rho=rng.normal(size=trace.rho.shape), references={"point": point}
    )
    expected = [math.dist(rho.ravel(), point.ravel()) for rho in trace.rho]
    for name in ("point", point, point.tolist()):
        np.testing.assert_allclose(trace.distances(name), expected, rtol=1e-13)
    with pytest.raises(gc.InvalidInputError, match="no reference 'other'"):
        trace.distances("other")
    with pytest.raises(gc.InvalidInputError, match="shape"):
        trace.distances(np.zeros(7))


def test_the_record_is_that_of_the_rounds() -> None:
    attackers = [gc.GradientAttack([1.0, 0.0]), CounterGradientAttack([3.0, 3.0]), silent]
    options: dict[str, Any] = {"fraction": 0.5, "seed": 4, "step_size": 0.1}
    trace = run(problem(), attackers, max_rounds=7, **options)
    names = ("user 0", "user 1", "user 2", "GradientAttack", "CounterGradientAttack", "silent")
    assert trace.participants == names
    assert trace.n_rounds == 7
    dropped = []
    for t, one in enumerate(itertools.islice(rounds(problem(), attackers, **options), 7)):
        np.testing.assert_array_equal(trace.rho[t], one.rho)
        np.testing.assert_array_equal(trace.rho[t + 1], one.next_rho)
        np.testing.assert_array_equal(trace.reports[t, one.asked], one.reports)
        np.testing.assert_array_equal(trace.norms[t, one.asked], one.norms)
        others = np.setdiff1d(np.arange(6), one.asked)
        assert np.isnan(trace.norms[t, others]).all()
        assert np.isnan(trace.reports[t, others]).all()
        dropped.extend(one.rejections)
    assert trace.rejections == tuple(dropped)


def silent(query: Any) -> None:
    return None


def test_reports_may_be_left_out() -> None:
    full, slim = (run(problem(), keep_reports=keep, max_rounds=5) for keep in (True, False))
    assert slim.reports is None
    np.testing.assert_array_equal(slim.norms, full.norms)
    np.testing.assert_array_equal(slim.rho, full.rho)
    np.testing.assert_allclose(full.norms, np.linalg.norm(full.reports, axis=2), rtol=1e-14)


# -- why runs end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 7])
def test_max_rounds(most: int) -> None:
    trace = run(problem(), max_rounds=most)
    assert (trace.stopped, trace.n_rounds) == ("max_rounds", most)


def test_time_limit() -> None:
    trace = run(problem(), time_limit=1e-9)
    assert (trace.stopped, trace.n_rounds) == ("time_limit", 1)
    assert trace.seconds > 0.0


@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
def test_stationary(tol: float) -> None:
    trace = run(problem(), tol=tol)
    assert trace.stopped == "stationary"
    ratios = np.linalg.norm(trace.reports.sum(axis=1), axis=1) / trace.norms.sum(axis=1)
    assert (ratios[-2:] <= tol).all()
    assert (ratios[:-2] > tol).all()
    assert trace.distances(gc.solve(problem()).rho)[-1] <= 10.0 * tol


def test_who_remembers_is_given_a_second_round() -> None:
    """From the honest optimum nothing moves in the first round, and the attack begins."""
    optimum, target = gc.solve(problem()).rho, np.array([5.0, 5.0])
    attacked = run(problem(), [CounterGradientAttack(target)], start=optimum, max_rounds=400)
    assert attacked.distances(target)[-1] < 1e-8
    alone = run(problem(), start=optimum)
    assert (alone.stopped, alone.n_rounds) == ("stationary", 2)


def test_momentum_through_the_optimum_is_no_end() -> None:
    """One user, one step at the optimum exactly, with a velocity that leads beyond."""
    one = gc.Problem(gc.LeastSquares(), gc.SquaredL2(0.5), [gc.Dataset([[1.0]], [0.0])])
    trace = run(one, optimizer=HeavyBall(0.5), step_size=2.0, start=[8.0], max_rounds=3)
    assert trace.rho[:3].ravel().tolist() == [8.0, 0.0, -4.0]  # G(rho) = rho / 2
    assert trace.stopped == "max_rounds"


def test_no_part_of_the_participants_tells_that_all_are_done() -> None:
    """The reports of those who have no data vanish at the start; those of the others do not."""
    data = problem().datasets
    mixed = gc.Problem(gc.LeastSquares(), gc.SquaredL2(0.7), [gc.Dataset.empty(2)] * 9 + [data[0]])
    trace = run(mixed, fraction=0.1, max_rounds=30, step_size=0.01)
    assert not trace.rho[1].any()  # the draws of this seed: one without data first
    assert trace.rho[-1].any()
    assert trace.stopped == "max_rounds"


@pytest.mark.parametrize("loss", [gc.LeastSquares(), gc.Logistic(), gc.Softmax(3)], ids=repr)
def test_diverged(loss: gc.Loss) -> None:
    too_long = cases.example(loss, gc.SquaredL2(1.0), nu=1.0)
    trace = run(too_long, step_size=1e3)
    assert trace.stopped == "diverged"
    assert np.isfinite(trace.rho[-2]).all()
    assert np.abs(trace.rho[-1]).max() > 1e140


@pytest.mark.parametrize("saved", [True, False])
def test_an_interrupt_ends_a_run_like_a_time_limit(tmp_path: Path, saved: bool) -> None:
    def progress(one: Round) -> None:
        if one.number == 3:
            raise KeyboardInterrupt

    path = tmp_path / "trace.npz"
    trace = run(problem(), progress=progress, save=path if saved else None)
    assert (trace.stopped, trace.n_rounds) == ("interrupted", 4)
    np.testing.assert_array_equal(trace.rho, run(problem(), max_rounds=4).rho)
    assert path.exists() == saved
    if saved:
        assert bits(Trace.load(path)) == bits(trace)


def test_an_interrupt_in_a_round_keeps_the_rounds_before() -> None:
    def attack(query: Any) -> np.ndarray:
        if query.round == 2:
            raise KeyboardInterrupt
        return np.zeros(2)

    trace = run(problem(), [attack])
    assert (trace.stopped, trace.n_rounds) == ("interrupted", 2)


def test_an_interrupt_before_there_is_anything_is_one(tmp_path: Path) -> None:
    def attack(query: Any) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(problem(), [attack], save=tmp_path / "trace.npz")
    assert not list(tmp_path.iterdir())


def test_an_error_in_progress_carries_the_rounds(tmp_path: Path) -> None:
    def progress(one: Round) -> None:
        if one.number == 3:
            raise ZeroDivisionError("no progress")

    path = tmp_path / "trace.npz"
    with pytest.raises(gc.RunError, match="no progress") as caught:
        run(problem(), progress=progress, save=path)
    error = caught.value
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.trace.n_rounds == 4
    assert error.trace.stopped == "error: no progress"
    assert str(path) in str(error)
    assert bits(Trace.load(path)) == bits(error.trace)
    np.testing.assert_array_equal(error.trace.rho, run(problem(), max_rounds=4).rho)


class Watched:
    """An engine that knows whether its users were sent home."""

    state = "closed"

    @contextmanager
    def opens(self, *arguments: Any) -> Iterator[Any]:
        self.state = "open"
        with InProcess().opens(*arguments) as users:
            try:
                yield users
            finally:
                self.state = "closed"


def fails(error: type[BaseException]) -> Any:
    def progress(one: Round) -> None:
        if one.number == 2:
            raise error

    return progress


@pytest.mark.parametrize("how", ["max_rounds", "interrupted", "error"])
def test_users_are_sent_home_however_a_run_ends(how: str) -> None:
    engine = Watched()
    states = []

    def progress(one: Round) -> None:
        states.append(engine.state)
        if how != "max_rounds":
            fails(KeyboardInterrupt if how == "interrupted" else ValueError)(one)

    try:
        trace = run(problem(), engine=engine, max_rounds=3, progress=progress)
    except gc.RunError as error:
        trace = error.trace
    assert trace.stopped.startswith(how)
    assert states == ["open"] * 3
    assert engine.state == "closed"


# -- options -----------------------------------------------------------------------------------------

BAD = [
    {"max_rounds": 0},
    {"max_rounds": 2.5},
    {"max_rounds": True},
    {"tol": -1e-9},
    {"tol": math.nan},
    {"tol": "small"},
    {"time_limit": 0.0},
    {"time_limit": math.nan},
    {"references": {"target": [1.0]}},
    {"references": {"target": [math.nan, 0.0]}},
    {"progress": 3},
    {"step_size": 0.0},
    {"step_size": "fast"},
    {"step_size": True},
    {"step_size": [0.1, 0.2]},
    {"step_size": np.array([0.1, 0.2])},
    {"fraction": 0.0},
    {"fraction": 1.5},
    {"fraction": math.nan},
    {"fraction": True},
    {"seed": -1},
    {"seed": 1.5},
    {"seed": True},
    {"rule": "mean"},
    {"optimizer": "adam"},
    {"optimizer": lambda pull, step_size: pull},
    {"honest": [gc.federated.Honest()]},
    {"start": [1.0]},
    {"start": [math.inf, 0.0]},
    {"attackers": gc.GradientAttack([1.0, 0.0])},
    {"attackers": [3]},
    {"attackers": [None]},
    {"attackers": [[1.0, 0.0]]},
    {"attackers": [gc.GradientAttack([1.0])]},
    {"attackers": [gc.ModelAttack([1.0, 2.0, 3.0])]},
    {"attackers": [CounterGradientAttack([1.0])]},
    {"attackers": [gc.federated.DataAttack(gc.Dataset([[1.0]], [1.0]))]},
]


@pytest.mark.parametrize("options", BAD, ids=lambda options: str(options)[:40])
@pytest.mark.parametrize("there", [False, True])
def test_bad_options_are_refused_before_anything_happens(
    tmp_path: Path, options: dict[str, Any], there: bool
) -> None:
    path = tmp_path / "trace.npz"
    if there:
        path.write_bytes(b"precious")
    engine = Watched()
    engine.state = "never opened"
    whole = {"engine": engine, "save": path, "overwrite": there, **options}
    with pytest.raises(gc.InvalidInputError):
        run(problem(), **whole)
    assert engine.state == "never opened"
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == (
        [("trace.npz", b"precious")] if there else []
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_where_nothing_can_be_written_is_refused_at_once(
    tmp_path: Path, overwrite: bool
) -> None:
    engine = Watched()
    engine.state = "never opened"
    for path in (tmp_path / "absent" / "trace.npz", tmp_path):
        with pytest.raises(gc.InvalidInputError):
            run(problem(), engine=engine, save=path, overwrite=overwrite)
    assert engine.state == "never opened"


def test_implausible_constant_gradients_are_refused_at_once() -> None:
    kinked = cases.example(gc.LeastSquares(), gc.SmoothL2(1.0))
    with pytest.raises(gc.InvalidInputError, match="not plausible"):
        run(kinked, [gc.GradientAttack([1.0, 1.0])])


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError):
        run(problem(), stepsize=0.1)


# -- rounds of another server ------------------------------------------------------------------------


def test_any_rounds_can_be_recorded() -> None:
    """A list of them, an iterator, a generator: where they end, the record does."""
    found = list(itertools.islice(rounds(problem()), 5))
    names = ["a", "b", "c"]
    expected = run(problem(), max_rounds=5)
    for source in (found, iter(found), (one for one in found), itertools.islice(found, 5)):
        trace = record(source, names)
        np.testing.assert_array_equal(trace.rho, expected.rho)
        np.testing.assert_array_equal(trace.reports, expected.reports)
        assert (trace.stopped, trace.participants) == ("ended", ("a", "b", "c"))
    with pytest.raises(gc.InvalidInputError, match="no rounds"):
        record([], names)


def test_rounds_that_are_not_taken_are_closed() -> None:
    """Whoever still holds the rounds of a run that is over finds no more, and no users at work."""
    engine = Watched()
    source = rounds(problem(), engine=engine)
    record(source, ["a", "b", "c"], max_rounds=2)
    assert engine.state == "closed"
    assert next(source, None) is None


@pytest.mark.parametrize("n_users", [1, 3])
def test_reports_that_vanish_end_a_run_as_those_that_cancel_do(n_users: int) -> None:
    """Where all users agree their reports tend to 0, and never cancel."""
    data = gc.Dataset([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, -1.0, 1.0])
    problem = gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), [data] * n_users, nu=0.1)
    trace = run(problem)
    assert trace.stopped == "stationary"
    assert 5 < trace.n_rounds < 200
    assert trace.distances(gc.solve(problem).rho)[-1] < 1e-8
    assert run(problem, tol=0.0, max_rounds=300).stopped == "max_rounds"


def test_a_trace_says_what_was_run(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    options: dict[str, Any] = {"rule": rules.trimmed_mean(0), "step_size": 0.05, "fraction": 0.9}
    problem = cases.example(gc.LeastSquares(), gc.SquaredL2(1.0))
    nothing = gc.GradientAttack(np.zeros(problem.shape))
    trace = run(problem, [nothing], max_rounds=2, save=path, **options)
    assert trace.settings["rule"] == "trimmed_mean(0)"
    assert trace.settings["gplconvex"] == gc.__version__
    assert trace.settings["seed"] == "0"
    assert "GradientAttack" in trace.settings["attackers"]
    assert Trace.load(path).settings == trace.settings
    assert repr(trace).startswith("Trace(2 rounds, ")
    assert len(repr(trace)) < 100
