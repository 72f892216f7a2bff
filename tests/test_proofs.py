"""The ledger of statements: all hold, every mutation and counterexample breaks, files are written."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_check import Entry, Identity, Measurement, check, identity, statements
from proofs_check.__main__ import main
from proofs_check.ledger import SEED, as_json, as_markdown

MODULES = statements()
MUTATIONS = [(number, name) for number, module in MODULES.items() for name in module.MUTATIONS]


@cache
def entry_of(number: str, seed: int = SEED) -> Entry:
    return check(number, MODULES[number], seed)


def report(entry: Entry) -> str:
    return "\n".join(entry.lines())


# -- statements --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", MODULES)
def test_statement_holds_and_its_counterexamples_break(number: str) -> None:
    entry = entry_of(number)
    assert entry.green, report(entry)
    assert entry.symbolic
    assert entry.source.startswith(("paper", "this package"))
    assert entry.margin >= 0.0


@pytest.mark.slow
@pytest.mark.parametrize("number", MODULES)
@pytest.mark.parametrize("seed", [0, 12345])
def test_statement_holds_on_other_instances(number: str, seed: int) -> None:
    entry = entry_of(number, seed)
    assert entry.green, report(entry)


@pytest.mark.parametrize("number", MODULES)
def test_statement_names_what_can_be_mutated_by_one_percent(number: str) -> None:
    module = MODULES[number]
    assert module.MUTATIONS
    assert (module.__doc__ or "").startswith(f"{number}. ")
    for name, factor in module.MUTATIONS.items():
        assert getattr(module, name) != 0.0
        assert 0.0 < abs(factor - 1.0) <= 0.01 + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), MUTATIONS)
def test_mutation_turns_a_claim_red(
    number: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim, not a counterexample that begins to hold; and the constant is nowhere else."""
    module = MODULES[number]
    monkeypatch.setattr(module, name, getattr(module, name) * module.MUTATIONS[name])
    entry = check(number, module)
    assert not all(each.holds for each in (*entry.symbolic, *entry.numeric)), report(entry)


def test_statements_are_in_order() -> None:
    numbers = [int(number.removeprefix("S")) for number in MODULES]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1


# -- the parts of an entry ---------------------------------------------------------------------------


NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-3, 1e6)
TOLERANCES = st.floats(1e-12, 1e-2)


@given(computed=NUMBERS, claimed=NUMBERS, tolerance=TOLERANCES)
def test_relations_are_what_they_say(computed: float, claimed: float, tolerance: float) -> None:
    """Relative to the larger number, absolute where the claim is 0; = is both inequalities."""
    least, most, equal = (
        Measurement("x", computed, claimed, relation, tolerance) for relation in (">=", "<=", "=")
    )
    scale = max(abs(computed), abs(claimed)) if claimed != 0.0 else 1.0
    slack, doubt = tolerance * scale, 1e-9 * tolerance * scale  # rounding of the margin
    over = computed - claimed
    if abs(abs(over) - slack) > doubt + 4e-16 * scale:
        assert most.holds == (over <= slack)
        assert least.holds == (-over <= slack)
    assert equal.holds == (least.holds and most.holds)
    assert equal.margin == min(least.margin, most.margin)


@given(claimed=POSITIVE, tolerance=TOLERANCES, factor=st.floats(1.1, 10.0))
def test_margin_is_what_is_left(claimed: float, tolerance: float, factor: float) -> None:
    assert Measurement("x", claimed, claimed, "=", tolerance).margin == tolerance
    off = Measurement("x", claimed * (1.0 + factor * tolerance), claimed, "=", tolerance)
    assert not off.holds
    inside = Measurement("x", claimed * (1.0 + tolerance / factor), claimed, "=", tolerance)
    assert inside.holds
    assert 0.0 < inside.margin < tolerance


@pytest.mark.parametrize("relation", ["=", "<=", ">="])
@pytest.mark.parametrize("claimed", [0.0, 1.0, math.nan])
def test_what_is_no_number_fails(relation: str, claimed: float) -> None:
    assert not Measurement("x", math.nan, claimed, relation).holds  # type: ignore[arg-type]


def test_an_unbounded_number_fails_where_a_bound_is_claimed() -> None:
    assert not Measurement("x", math.inf, 1.0, "<=").holds
    assert not Measurement("x", math.inf, 0.0).holds


def test_identities_are_proved() -> None:
    import sympy as sp

    x, n = sp.symbols("x n", positive=True)
    assert identity("a square", (x + n) ** 2 - x**2 - 2 * x * n - n**2).holds
    assert identity("a condition", sp.Eq(sp.exp(sp.log(x)), x), x > 0).holds
    assert not identity("true at one only", x**2 - x).holds
    assert not identity("one of two", x - x, x).holds
    assert not identity("not decided", sp.Eq(x, n)).holds


TRUE, FALSE = Measurement("x", 1.0, 1.0), Measurement("x", 2.0, 1.0)


@pytest.mark.parametrize(
    ("symbolic", "numeric", "broken", "green"),
    [
        ([True], [TRUE], [FALSE], True),
        ([], [TRUE], [FALSE], True),
        ([False], [TRUE], [FALSE], False),
        ([True, False], [TRUE], [FALSE], False),
        ([True], [TRUE, FALSE], [FALSE], False),
        ([True], [TRUE], [FALSE, TRUE], False),
        ([True], [], [FALSE], False),
        ([True], [TRUE], [], False),
    ],
)
def test_green_needs_everything(
    symbolic: list[bool], numeric: list[Measurement], broken: list[Measurement], green: bool
) -> None:
    identities = tuple(Identity("x = x", holds) for holds in symbolic)
    entry = Entry("S1", "t", "this package", identities, tuple(numeric), tuple(broken), 0, 0.1)
    assert entry.green is green
    assert ("FAILS" in report(entry)) is not green
    assert ("XX" in report(entry)) is (not green and bool(numeric and broken))


# -- the ledger --------------------------------------------------------------------------------------


def test_the_ledger_is_json_and_a_page() -> None:
    entries = [entry_of("S1"), entry_of("S2")]
    read = json.loads(as_json(entries))
    assert [each["number"] for each in read] == ["S1", "S2"]
    for content, entry in zip(read, entries, strict=True):
        assert content["green"] is True
        assert content["seed"] == SEED
        assert content["margin"] == entry.margin
        assert content["numeric"][0]["computed"] == entry.numeric[0].computed
        assert len(content["counterexamples"]) == len(entry.counterexamples)
    page = as_markdown(entries)
    for entry in entries:
        assert f"| {entry.number} {entry.title} | {entry.source} | " in page
        assert f"## {entry.number} {entry.title}" in page
        assert all(str(each) in page for each in (*entry.numeric, *entry.counterexamples))


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """S1 alone, whatever others there are."""
    monkeypatch.setattr("proofs_check.__main__.statements", lambda: {"S1": MODULES["S1"]})
    return MODULES["S1"]


def test_all_green_is_exit_code_0(
    fast: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "ledger.json"
    page = tmp_path / "ledger.md"
    assert main(["--json", str(written), "--markdown", str(page), "--seed", "7"]) == 0
    assert json.loads(written.read_text("utf-8"))[0]["seed"] == 7
    assert page.read_text("utf-8").startswith("# The ledger\n")
    printed = capsys.readouterr().out
    assert fast.TITLE in printed
    assert "All hold" in printed
    assert "XX" not in printed


def test_a_false_statement_is_exit_code_1(
    fast: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, factor = next(iter(fast.MUTATIONS.items()))
    monkeypatch.setattr(fast, name, getattr(fast, name) * factor)
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert "FAIL: S1" in printed
    assert "XX" in printed


def test_only_the_statements_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--statement", "S1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 statements")
    assert "S2" not in printed


def test_an_unknown_statement_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--statement", "S99"])
    assert exit_.value.code == 2
    assert "S99" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--markdown"])
@pytest.mark.usefixtures("fast")
def test_files_are_not_overwritten_unasked(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kept"
    path.write_text("mine", "utf-8")
    with pytest.raises(SystemExit) as exit_:
        main([option, str(path)])
    assert exit_.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text("utf-8") == "mine"
    assert main([option, str(path), "--overwrite"]) == 0
    assert path.read_text("utf-8") != "mine"
