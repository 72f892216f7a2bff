"""Certificates as files and as claims: what is written is read, and no forgery is accepted."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gplconvex as gc
from tests.certified_instances import HOPELESS, INSTANCES

# -- JSON --------------------------------------------------------------------------------------------


def certificates() -> Iterator[tuple[gc.Certificate, tuple[Any, ...], Any]]:
    """Certificates of every kind, each with what `verify` needs to recompute it."""
    for _, problem, attacker in INSTANCES[::5]:
        solution = gc.solve(problem, attacker=attacker)
        yield solution.certificate, (problem, solution.rho, solution.thetas), attacker
    problem = gc.Problem(gc.Logistic(), gc.SquaredL2(1.0), HOPELESS["separable labels, nu = 0"])
    place = (problem, [1.0, 0.5], [[1.0, 0.5]] * 2)
    yield gc.certify(*place), place, None


ALL = list(certificates())


def test_json_round_trip_is_bit_exact() -> None:
    infinite = 0
    for certificate, place, attacker in ALL:
        text = certificate.to_json()
        back = gc.Certificate.from_json(text)
        assert back == certificate
        assert back.to_json() == text
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        infinite += math.isinf(back.distance)
        gc.verify(back, *place, attacker=attacker)
    assert infinite


def without(content: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != key}


def test_what_is_no_certificate_is_not_read() -> None:
    text = ALL[0][0].to_json()
    content = json.loads(text)
    wrong: list[Any] = ["", "7", "[]", "null", "{}", '"gap"', text[:-2], text.replace(" 1", "", 1)]
    wrong += [json.dumps(without(content, key)) for key in content]
    wrong += [json.dumps({**content, "more": 1.0}), json.dumps({**content, "format": "another 1"})]
    bad_numbers = (None, True, "one", [1.0], {"a": 1.0}, 10**400)
    for name in ("gap", "distance", "value", "size", "rounding"):
        wrong += [json.dumps({**content, name: bad}) for bad in bad_numbers]
    for name in ("rule", "fingerprint"):
        wrong += [json.dumps({**content, name: bad}) for bad in (None, 5, ["l2"])]
    for name in ("theta_distances", "strong_convexity", "checks"):
        wrong += [json.dumps({**content, name: bad}) for bad in (None, 5.0, "123", {"1": 2.0})]
    for name in ("theta_distances", "strong_convexity", "checks"):
        wrong += [json.dumps({**content, name: [bad]}) for bad in (None, True, "one", [1.0])]
    for key in ("name", "value", "bound", "relation", "meaning"):
        first = content["checks"][0]
        for changed in (without(first, key), {**first, key: None}, {**first, "more": 1.0}):
            wrong.append(json.dumps({**content, "checks": [changed, *content["checks"][1:]]}))
    other_relation = {**content["checks"][0], "relation": "=="}
    wrong.append(json.dumps({**content, "checks": [other_relation, *content["checks"][1:]]}))
    for item in wrong:
        with pytest.raises(gc.InvalidInputError, match="not a certificate"):
            gc.Certificate.from_json(item)


# -- forgeries ---------------------------------------------------------------------------------------

OTHER_TEXT = ("", "no", "strong convexity", "no bound exists", "<=", "<", ">", "=")


def forgeries(value: Any) -> Iterator[Any]:
    """Other values for one field."""
    if isinstance(value, str):
        yield from (other for other in (*OTHER_TEXT, value + " ", value.upper()) if other != value)
        return
    tiny_moves = (value * 0.5, value * 2.0, value * (1 + 1e-3), value * (1 - 1e-5), value + 1.0)
    others = (*tiny_moves, 0.0, -1.0, 1e-300, math.nan, math.inf, -math.inf, -value, "1", None)
    yield from (other for other in others if other != value)


def forge(item: Any) -> Iterator[tuple[str, Any]]:
    """Every copy of a certificate with one leaf changed, with the name of the leaf."""
    if dataclasses.is_dataclass(item):
        for field in dataclasses.fields(item):
            for name, changed in forge(getattr(item, field.name)):
                yield f".{field.name}{name}", dataclasses.replace(item, **{field.name: changed})
    elif isinstance(item, tuple):
        for i, entry in enumerate(item):
            for name, changed in forge(entry):
                yield f"[{i}]{name}", (*item[:i], changed, *item[i + 1 :])
        yield " cut", item[:-1]
        yield " longer", (*item, item[-1])
    else:
        yield from (("", changed) for changed in forgeries(item))


def denied(forged: gc.Certificate, place: tuple[Any, ...], attacker: Any) -> bool:
    try:
        gc.verify(forged, *place, attacker=attacker)
    except gc.CertificateError:
        return True
    return False


@pytest.mark.parametrize("number", range(0, len(ALL), 2))
def test_every_forged_field_is_rejected(number: int) -> None:
    genuine, place, attacker = ALL[number]
    gc.verify(genuine, *place, attacker=attacker)
    seen, accepted = set(), []
    for name, forged in forge(genuine):
        seen.add(name)
        if not denied(forged, place, attacker):
            accepted.append(name)
    assert not accepted
    fields = {field.name for field in dataclasses.fields(genuine)}
    assert {name[1:].partition("[")[0].partition(" ")[0] for name in seen} == fields
    assert len(seen) >= 10 + 5 * len(genuine.checks)


def test_a_certificate_speaks_of_one_point_of_one_problem() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.choice([-1.0, 1.0], size=6)
    data, loss, regularizer = gc.Dataset(x, y), gc.Logistic(), gc.SquaredL2(0.5)
    problem = gc.Problem(loss, regularizer, [data, data], 0.1)
    solution = gc.solve(problem)
    rho, thetas = solution.rho, solution.thetas
    flipped = gc.Dataset(x, np.append(y[:-1], -y[-1]))
    ulp = np.nextafter(rho, np.inf)
    others: list[tuple[gc.Problem, Any, Any, Any]] = [
        (gc.Problem(loss, regularizer, [flipped, data], 0.1), rho, thetas, None),
        (
            gc.Problem(loss, regularizer, [data, gc.Dataset(x, y, [2, 1, 1, 1, 1, 1])], 0.1),
            rho,
            thetas,
            None,
        ),
        (gc.Problem(loss, gc.SquaredL2(0.5 * (1 + 1e-12)), [data, data], 0.1), rho, thetas, None),
        (gc.Problem(loss, regularizer, [data, data], [0.1, 0.1 * (1 + 1e-12)]), rho, thetas, None),
        (gc.Problem(gc.LeastSquares(), regularizer, [data, data], 0.1), rho, thetas, None),
        (problem, ulp, thetas, None),
        (problem, rho, (thetas[0], ulp), None),
        (problem, rho, thetas, gc.GradientAttack([0.0, 0.0])),
        (problem, rho, thetas, gc.ModelAttack(rho)),
    ]
    gc.verify(solution.certificate, problem, rho, thetas)
    for place in others:
        with pytest.raises(gc.CertificateError, match="fingerprint"):
            gc.verify(solution.certificate, *place[:3], attacker=place[3])
        own = gc.certify(*place[:3], attacker=place[3])
        gc.verify(own, *place[:3], attacker=place[3])
    # The same user twice: which of them moved matters too, and so does the attacker's regularizer.
    swapped = gc.certify(problem, rho, (ulp, thetas[1]))
    with pytest.raises(gc.CertificateError, match="fingerprint"):
        gc.verify(swapped, problem, rho, (thetas[0], ulp))
    model = gc.certify(problem, rho, thetas, attacker=gc.ModelAttack(ulp))
    with pytest.raises(gc.CertificateError, match="fingerprint"):
        gc.verify(model, problem, rho, thetas, attacker=gc.ModelAttack(ulp, gc.L2(1.0)))
