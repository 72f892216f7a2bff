"""Statements, what checking them found, and how that is written down."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

SEED = 2022
"""Of the random instances, unless another is given."""


@dataclass(frozen=True)
class Identity:
    """Something that algebra proves, or why there is nothing of that kind.

    Attributes
    ----------
    formula : str
        What is proved, in words or symbols; or why no symbolic part is possible.
    holds : bool
        Whether what should vanish or be true, does or is, symbolically.
    """

    formula: str
    holds: bool


@dataclass(frozen=True)
class Measurement:
    """A computed number beside a claimed one.

    Attributes
    ----------
    what : str
        What was computed; of a counterexample, the assumption that is dropped.
    computed, claimed : float
    relation : {"=", "<=", ">="}
        How the computed number must stand to the claimed one.
    tolerance : float
        What rounding, or a solver's certified error, may take away, relative to the larger of both;
        and absolutely where the claim is 0.
    """

    what: str
    computed: float
    claimed: float
    relation: Literal["=", "<=", ">="] = "="
    tolerance: float = 1e-9

    @property
    def excess(self) -> float:
        """How far the computed number is on the wrong side, relatively; ``inf`` for NaN."""
        scale = max(abs(self.computed), abs(self.claimed)) if self.claimed != 0.0 else 1.0
        over = (self.computed - self.claimed) / scale if scale != 0.0 else 0.0
        if math.isnan(over):
            return math.inf
        return {"=": abs(over), "<=": over, ">=": -over}[self.relation]

    @property
    def margin(self) -> float:
        """How far the claim is from failing, relatively; negative if it fails."""
        return self.tolerance - self.excess

    @property
    def holds(self) -> bool:
        """Whether the claim holds."""
        return self.margin >= 0.0

    def __str__(self) -> str:
        numbers = f"{self.what}: {self.computed:.6g} {self.relation} {self.claimed:.6g}"
        if self.relation == "=":
            return f"{numbers} (off {self.excess:.1e}, allowed {self.tolerance:.0e})"
        return f"{numbers} (margin {self.margin:.1e})"


@dataclass(frozen=True)
class Entry:
    """What checking one statement found."""

    number: str
    title: str
    source: str
    symbolic: tuple[Identity, ...]
    numeric: tuple[Measurement, ...]
    counterexamples: tuple[Measurement, ...]
    seed: int
    seconds: float

    @property
    def green(self) -> bool:
        """Whether all claims hold, and none does without its assumptions."""
        return (
            all(each.holds for each in self.symbolic)
            and all(each.holds for each in self.numeric)
            and bool(self.numeric and self.counterexamples)
            and not any(each.holds for each in self.counterexamples)
        )

    @property
    def margin(self) -> float:
        """The least margin of the numeric claims."""
        return min((each.margin for each in self.numeric), default=-math.inf)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the ledger."""
        state = "holds" if self.green else "FAILS"
        yield f"{self.number}  {self.title} ({self.source}): {state}, {self.seconds:.1f} s"
        for identity in self.symbolic:
            yield f"     {_mark(identity.holds)} proved    {identity.formula}"
        for measured in self.numeric:
            yield f"     {_mark(measured.holds)} measured  {measured}"
        for broken in self.counterexamples:
            yield f"     {_mark(not broken.holds)} breaks    {broken}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as what JSON can hold."""
        return {**asdict(self), "green": self.green, "margin": self.margin}


def statements() -> dict[str, ModuleType]:
    """Return the modules of all statements by number, S1 first."""
    import proofs_check

    names = sorted(
        module.name
        for module in pkgutil.iter_modules(proofs_check.__path__)
        if module.name.startswith("s") and module.name[1:3].isdigit()
    )
    return {f"S{int(name[1:3])}": importlib.import_module(f"proofs_check.{name}") for name in names}


def check(number: str, module: ModuleType, seed: int = SEED) -> Entry:
    """Check a statement."""
    began = time.perf_counter()
    symbolic = tuple(module.symbolic())
    numeric = tuple(module.numeric(np.random.default_rng(seed)))
    broken = tuple(module.counterexample())
    seconds = time.perf_counter() - began
    return Entry(number, module.TITLE, module.SOURCE, symbolic, numeric, broken, seed, seconds)


def identity(formula: str, *vanishing: Any) -> Identity:
    """Return that expressions simplify to 0, and conditions to true."""
    import sympy

    def proved(expression: Any) -> bool:
        simplified = sympy.simplify(expression)
        return bool(simplified == 0 or simplified == sympy.true)

    return Identity(formula, all(proved(expression) for expression in vanishing))


def as_json(entries: Sequence[Entry]) -> str:
    """Return the ledger as JSON."""
    return json.dumps([entry.to_json() for entry in entries], indent=2) + "\n"


def as_markdown(entries: Sequence[Entry]) -> str:
    """Return the ledger as a Markdown page."""
    seeds = ", ".join(sorted({str(entry.seed) for entry in entries}))
    lines = ["# The ledger", ""]
    lines += [
        f"Written by `python -m proofs_check --markdown`, seed {seeds}. Proved: by algebra.",
        "",
    ]
    lines += [
        "Measured: a computed number beside a claimed one; an equation may be off by what rounding"
    ]
    lines += [
        "or a certified error takes. Breaks: claims that fail once an assumption is dropped.",
        "",
    ]
    lines += ["| statement | source | proved | measured | breaks without an assumption |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for entry in entries:
        counts = [
            f"{sum(each.holds for each in entry.symbolic)} of {len(entry.symbolic)}",
            f"{sum(each.holds for each in entry.numeric)} of {len(entry.numeric)}",
            f"{sum(not each.holds for each in entry.counterexamples)} of "
            f"{len(entry.counterexamples)}",
        ]
        lines.append(f"| {entry.number} {entry.title} | {entry.source} | {' | '.join(counts)} |")
    for entry in entries:
        lines += ["", f"## {entry.number} {entry.title}", "", f"Source: {entry.source}.", ""]
        lines += [f"- {line.strip()}" for line in list(entry.lines())[1:]]
    return "\n".join(lines) + "\n"


def _mark(good: bool) -> str:
    return "ok" if good else "XX"
