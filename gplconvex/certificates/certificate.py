"""`Check` and `Certificate`: what is guaranteed of one point, and its JSON form."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from typing import Any

from gplconvex.data import is_number
from gplconvex.errors import CertificateError, InvalidInputError

FORMAT = "gplconvex certificate 1"


@dataclass(frozen=True)
class Check:
    """One clause of a certificate: ``value relation bound`` must hold.

    Attributes
    ----------
    name : str
        What is checked.
    value, bound : float
        The two sides.
    relation : str
        ``"<="``, ``"<"`` or ``">"``.
    meaning : str
        What the clause is for, and what to do when it fails.
    """

    name: str
    value: float
    bound: float
    relation: str
    meaning: str

    @property
    def passed(self) -> bool:
        """Whether the clause holds (never with a NaN)."""
        return {
            "<=": self.value <= self.bound,
            "<": self.value < self.bound,
            ">": self.value > self.bound,
        }[self.relation]

    def __str__(self) -> str:
        state = "ok" if self.passed else "FAILS"
        value, bound = f"{self.value:.3g}", f"{self.bound:.3g}"
        if value == bound and self.value != self.bound:
            value, bound = f"{self.value:.17g}", f"{self.bound:.17g}"
        clause = f"{value} {self.relation} {bound}"
        return f"[{state}] {self.name}: {clause} ({self.meaning})"


@dataclass(frozen=True)
class Certificate:
    r"""Guaranteed bounds for one point of one problem.

    Attributes
    ----------
    gap : float
        Bound of :math:`F(\rho, \theta) - F^*`; ``inf`` when no bound exists.
    distance : float
        Bound of :math:`|\rho - \rho^*|` for every minimizer; ``inf`` when no bound exists.
    rule : str
        Which argument gave the distance.
    theta_distances : tuple of float
        Bounds of :math:`|\theta_n - \theta_n^*|`, one a user.
    value : float
        :math:`F(\rho, \theta)`, the attacker's term included: the scale of the gap.
    size : float
        :math:`|\rho|`: the scale of the distance.
    strong_convexity : tuple of float
        :math:`\mu_n`, one a user (for hard consensus one number, of the pooled loss).
    rounding : float
        The allowance: a bound of the rounding error of the sum of all gradients.
    unit_roundoff : float
        That of the arithmetic in which gradients were accumulated (`numpy.longdouble`). Machines
        whose arithmetic is shorter prove weaker bounds, so that `verify` asks for the same.
    checks : tuple of Check
        The clauses that the bounds rest on.
    fingerprint : str
        Hash of the problem and the point: a certificate speaks of one point only.
    """

    gap: float
    distance: float
    rule: str
    theta_distances: tuple[float, ...]
    value: float
    size: float
    strong_convexity: tuple[float, ...]
    rounding: float
    unit_roundoff: float
    checks: tuple[Check, ...]
    fingerprint: str

    @property
    def relative_gap(self) -> float:
        """The gap over ``1 + |value|``."""
        return self.gap / (1.0 + abs(self.value))

    @property
    def relative_distance(self) -> float:
        """The distance over ``1 + |rho|``."""
        return self.distance / (1.0 + self.size)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The clauses that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    def require(self, tol: float) -> Certificate:
        r"""Return self if ``distance <= tol * (1 + |rho|)`` and ``gap <= tol * (1 + |value|)``.

        Raises
        ------
        CertificateError
            Otherwise, with the failing clauses.
        """
        wanted = (
            Check("relative gap", self.relative_gap, tol, "<=", "gap / (1 + |F|) within tol"),
            Check(
                "relative distance",
                self.relative_distance,
                tol,
                "<=",
                "distance / (1 + |rho|) within tol",
            ),
        )
        failing = [*self.failures, *(check for check in wanted if not check.passed)]
        if failing:
            raise CertificateError(f"the certificate does not reach tol = {tol:g}:", checks=failing)
        return self

    def __str__(self) -> str:
        lines = [
            f"F - F* <= {self.gap:.3g} (F = {self.value:.6g})",
            f"|rho - rho*| <= {self.distance:.3g} (|rho| = {self.size:.6g}; {self.rule})",
            *map(str, self.checks),
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the certificate as JSON text; infinities are written as strings."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(_finite(content), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Return the certificate that `to_json` wrote, bit for bit.

        Reading proves nothing: `verify` does.

        Raises
        ------
        InvalidInputError
            If the text is not such a certificate.
        """
        try:
            content = json.loads(text)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"not a certificate: not JSON ({error}); pass its text, not the name of a file"
            ) from error
        fields = _Fields(content, {"format", *(field.name for field in dataclasses.fields(cls))})
        if fields.text("format") != FORMAT:
            raise InvalidInputError(
                f"not a certificate: format must be {FORMAT!r}; got {content['format']!r}"
            )
        return cls(
            gap=fields.number("gap"),
            distance=fields.number("distance"),
            rule=fields.text("rule"),
            theta_distances=fields.numbers("theta_distances"),
            value=fields.number("value"),
            size=fields.number("size"),
            strong_convexity=fields.numbers("strong_convexity"),
            rounding=fields.number("rounding"),
            unit_roundoff=fields.number("unit_roundoff"),
            checks=tuple(_read_check(check) for check in fields.items("checks")),
            fingerprint=fields.text("fingerprint"),
        )


class _Fields:
    """The fields of a JSON object, each checked for its type as it is read."""

    def __init__(self, content: Any, names: set[str]) -> None:
        if not isinstance(content, dict):
            raise InvalidInputError(
                f"not a certificate: expected a JSON object; got {type(content).__name__}"
            )
        if content.keys() != names:
            raise InvalidInputError(
                f"not a certificate: missing fields {sorted(names - content.keys())}, unknown fields "
                f"{sorted(content.keys() - names)}"
            )
        self._content = content

    def _require(self, name: str, passed: bool, expected: str) -> Any:
        value = self._content[name]
        if not passed:
            raise InvalidInputError(
                f"not a certificate: field {name!r} must be {expected}; got {value!r}"
            )
        return value

    def text(self, name: str) -> str:
        return str(self._require(name, isinstance(self._content[name], str), "text"))

    def items(self, name: str) -> list[Any]:
        return list(self._require(name, isinstance(self._content[name], list), "a list"))

    def number(self, name: str) -> float:
        return _number(self._require(name, _is_number(self._content[name]), "a number"))

    def numbers(self, name: str) -> tuple[float, ...]:
        self._require(name, all(map(_is_number, self.items(name))), "a list of numbers")
        return tuple(_number(value) for value in self.items(name))


def _read_check(content: Any) -> Check:
    fields = _Fields(content, {field.name for field in dataclasses.fields(Check)})
    relation = fields.text("relation")
    if relation not in ("<=", "<", ">"):
        raise InvalidInputError(
            f"not a certificate: field 'relation' must be <=, < or >; got {relation!r}"
        )
    return Check(
        fields.text("name"),
        fields.number("value"),
        fields.number("bound"),
        relation,
        fields.text("meaning"),
    )


NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""How JSON text writes what JSON numbers cannot be."""


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, which JSON lacks, by strings."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in NOT_FINITE
    return is_number(value) and abs(value) <= sys.float_info.max


def _number(value: Any) -> float:
    return NOT_FINITE[value] if isinstance(value, str) else float(value)
