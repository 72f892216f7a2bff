"""The demo: its result satisfies the theorem, and the command keeps what it promises."""

import csv
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

import gplconvex as gc
from gplconvex import cli, report
from gplconvex.experiments import (
    Reversal,
    check_reversal,
    hospitals,
    reverse_diagnosis,
    reverse_heart_rate,
)

RESULTS = set(cli.RESULTS)


@pytest.fixture(scope="module")
def diagnosis() -> Reversal:
    return reverse_diagnosis()


@pytest.fixture(scope="module")
def heart_rate() -> Reversal:
    return reverse_heart_rate()


@pytest.fixture(scope="module", params=["diagnosis", "heart rate"])
def reversal(request: pytest.FixtureRequest, diagnosis: Reversal, heart_rate: Reversal) -> Reversal:
    return diagnosis if request.param == "diagnosis" else heart_rate


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """Run the command once, as a program with its output in a pipe."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    return out, run("demo", "--out", str(out))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    colors = {"FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "GITHUB_ACTIONS", "COLUMNS"}
    inherited = {name: value for name, value in os.environ.items() if name not in colors}
    return subprocess.run(
        [sys.executable, "-c", "from gplconvex.cli import main; main()", *arguments],
        env=inherited | {"PYTHONIOENCODING": "utf-8"} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- the result --------------------------------------------------------------------------------------


def test_the_attacks_reach_the_target_and_the_honest_model_does_not(reversal):
    target = reversal.poisoning.target
    np.testing.assert_array_equal(target, -reversal.honest.solution.rho)
    scale = 1.0 + np.linalg.norm(target)
    for attack in reversal.attacks:
        # |optimum - target| <= |model - target| + |model - optimum|
        assert attack.distance + attack.certified <= attack.tolerance * scale
        assert attack.distance == pytest.approx(np.linalg.norm(attack.solution.rho - target))
    assert reversal.honest.distance - reversal.honest.certified > 0.5


def test_the_data_rows_agree_with_the_certificate_that_no_solver_took_part_in(reversal):
    predicted = reversal.poisoning.certificate.distance
    rows = [row for row in reversal.attacks if row.name.startswith("data poisoning")]
    assert [row.solution.method for row in rows] == ["newton", "cvxpy:CLARABEL"]
    for row in rows:
        assert row.solution.problem.n_users == reversal.problem.n_users + 1
        assert row.distance <= row.certified + predicted


def test_the_dataset_is_minimal(reversal):
    poisoning = reversal.poisoning
    assert poisoning.dataset.n_points == poisoning.n_points == poisoning.lower_bound
    gc.check_lower_bound(
        reversal.problem.loss, poisoning.theta, reversal.data_gradient, poisoning.proof
    )


def test_the_attackers_data_have_the_gradient_that_the_proof_is_about(reversal):
    dataset, theta = reversal.poisoning.dataset, reversal.poisoning.theta
    alone = gc.Problem(reversal.problem.loss, reversal.problem.regularizer, [dataset])
    h = reversal.data_gradient
    error = alone.locals[0].gradient(theta) - h
    # Thousands of equal records of opposite labels cancel: about 1e4 units of rounding.
    assert np.linalg.norm(error) <= 1e-11 * np.linalg.norm(h)


def test_the_argument_that_people_read_rules_out_one_record_less(diagnosis):
    poisoning = diagnosis.poisoning
    fewer = poisoning.n_points - 1
    assert diagnosis.data_gradient_along > fewer * poisoning.proof.support
    # kappa = W(1/e), from its definition: kappa e^kappa = 1/e
    kappa = poisoning.proof.support
    assert kappa * np.exp(kappa) == pytest.approx(np.exp(-1.0))
    told = " ".join(plain(report.diagnosis_story(diagnosis)).split())
    assert f"{fewer} cannot" in told
    assert f"= {diagnosis.data_gradient_along / kappa:.2f}." in told


def test_one_record_is_enough_for_least_squares(heart_rate):
    assert heart_rate.poisoning.n_points == 1
    assert heart_rate.fake_labels[0] > heart_rate.highest_label


def test_reversing_the_model_reverses_the_accuracies(diagnosis):
    for attack in diagnosis.attacks:
        np.testing.assert_allclose(attack.scores, 1.0 - np.array(diagnosis.honest.scores))
    # counted by hand for one hospital
    cleveland, rho = diagnosis.data.datasets[0], diagnosis.honest.solution.rho
    right = sum(
        (x @ rho[:-1] + rho[-1] > 0) == (y > 0)
        for x, y in zip(cleveland.x, cleveland.y, strict=True)
    )
    assert diagnosis.honest.scores[0] == right / 303


def test_reversing_the_model_raises_every_error(heart_rate):
    for attack in heart_rate.attacks:
        assert np.all(np.array(attack.scores) > heart_rate.honest.scores)


def forge_target(reversal: Reversal) -> Reversal:
    target = reversal.poisoning.target + 1e-6
    poisoning = dataclasses.replace(reversal.poisoning, target=target)
    return dataclasses.replace(reversal, poisoning=poisoning)


def forge_bound(reversal: Reversal) -> Reversal:
    proof = reversal.poisoning.proof
    proof = dataclasses.replace(proof, value=proof.value + 1)
    poisoning = dataclasses.replace(reversal.poisoning, proof=proof, lower_bound=proof.value)
    return dataclasses.replace(reversal, poisoning=poisoning)


def forge_size(reversal: Reversal) -> Reversal:
    dataset = reversal.poisoning.dataset
    larger = gc.Dataset(dataset.x, dataset.y, dataset.counts + 1)
    poisoning = dataclasses.replace(reversal.poisoning, dataset=larger)
    return dataclasses.replace(reversal, poisoning=poisoning)


def forge_distance(reversal: Reversal) -> Reversal:
    first = dataclasses.replace(reversal.attacks[0], distance=1e-3)
    return dataclasses.replace(reversal, attacks=(first, *reversal.attacks[1:]))


def forge_solution(reversal: Reversal) -> Reversal:
    solution = reversal.attacks[0].solution
    certificate = gc.certify(
        reversal.problem,
        solution.rho + 1e-4,
        solution.thetas,
        attacker=gc.GradientAttack(reversal.poisoning.gradient),
    )
    solution = dataclasses.replace(solution, certificate=certificate)
    first = dataclasses.replace(reversal.attacks[0], solution=solution)
    return dataclasses.replace(reversal, attacks=(first, *reversal.attacks[1:]))


def forge_certificate(reversal: Reversal) -> Reversal:
    certificate = dataclasses.replace(reversal.poisoning.certificate, distance=0.0)
    poisoning = dataclasses.replace(reversal.poisoning, certificate=certificate)
    return dataclasses.replace(reversal, poisoning=poisoning)


@pytest.mark.parametrize(
    "forge",
    [forge_target, forge_bound, forge_size, forge_distance, forge_solution, forge_certificate],
)
def test_a_forged_result_is_refused(reversal, forge):
    check_reversal(reversal)
    with pytest.raises(gc.CertificateError):
        check_reversal(forge(reversal))


# -- what is printed ---------------------------------------------------------------------------------


def plain(part, width: int = 80) -> str:
    from rich.console import Console

    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(part)
    return capture.get()


@pytest.mark.parametrize("width", [60, 79, 80, 120])
def test_the_tables_fit_and_lose_nothing(diagnosis, heart_rate, width):
    parts = (
        report.diagnosis_story(diagnosis),
        report.outcomes(diagnosis, width=width),
        report.heart_rate_story(heart_rate),
        report.record(heart_rate),
    )
    text = "".join(plain(part, width) for part in parts)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = ["Cleveland", "Hungary", "Switzerland", "Clarabel", "536.88 1/min", "74.92 years"]
    words += [f"{score:.1%}" for outcome in diagnosis.outcomes for score in outcome.scores]
    for word in words:
        assert word in text


@pytest.mark.parametrize("bound", [0.0, 1e-300, 1.2000001e-12, 0.95, 0.999, 7.0, 123.4])
def test_a_printed_bound_is_never_smaller_than_the_bound(bound):
    assert bound <= float(report.upper(bound)) <= 1.1 * bound


# -- the command -------------------------------------------------------------------------------------


def test_the_demo_succeeds_and_prints_plain_text_in_a_pipe(demo):
    out, finished = demo
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert "\x1b" not in finished.stdout
    for words in ("1143", "1142 cannot", "gradient attack", "data poisoning", "536.88"):
        assert words in finished.stdout
    assert {path.name for path in out.iterdir()} == RESULTS
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("loss", "hospital_data", "data", "models", "certificate"),
    [
        (
            gc.Logistic(intercept=True),
            gc.heart_disease,
            "poisoned_patients.csv",
            "models.csv",
            "certificate.json",
        ),
        (
            gc.LeastSquares(intercept=True),
            gc.heart_disease_regression,
            "poisoned_record.csv",
            "models_linear.csv",
            "certificate_linear.json",
        ),
    ],
)
def test_the_files_alone_prove_the_result(demo, loss, hospital_data, data, models, certificate):
    out, _ = demo
    real = hospital_data()
    fake = gc.Dataset.load(out / data)
    honest = gc.Problem(loss, gc.SquaredL2(1.0), real.datasets, nu=0.1)
    poisoned = honest.with_user(fake, 0.1)
    with open(out / models, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["model", *real.features, "intercept"]
    assert [row[0] for row in rows] == ["shared (target)", *real.hospitals, "attacker"]
    rho, *thetas = [np.array(row[1:], dtype=float) for row in rows]
    written = gc.Certificate.from_json((out / certificate).read_text(encoding="utf-8"))
    gc.verify(written.require(1e-8), poisoned, rho, thetas)
    minimality = (out / certificate.replace("certificate", "minimality")).read_text(
        encoding="utf-8"
    )
    proof = gc.LowerBound.from_json(minimality)
    needed = gc.to_gradient(honest, rho, thetas[-1]) - 2 * 0.1 * thetas[-1]
    gc.check_lower_bound(loss, thetas[-1], needed, proof)
    assert proof.value == fake.n_points
    np.testing.assert_allclose(rho, -gc.solve(honest).rho, atol=1e-10)
    np.testing.assert_allclose(rho, gc.solve(poisoned).rho, atol=1e-10)
    with open(out / data, encoding="utf-8") as stream:
        assert stream.readline().strip().split(",") == [*real.features, "y", "count"]


def test_results_are_not_overwritten_and_nothing_is_computed(demo, monkeypatch, capsys):
    out, _ = demo
    before = contents(out)
    monkeypatch.setattr(hospitals, "solve", lambda *_, **__: pytest.fail("computed"))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--out", str(out)])
    assert "figure.png" in stopped.value.code
    assert "--overwrite" in stopped.value.code
    assert contents(out) == before


def test_one_result_in_the_way_is_enough(tmp_path):
    (tmp_path / "certificate.json").write_text("mine")
    with pytest.raises(gc.InvalidInputError, match=r"certificate\.json"):
        cli.demo(tmp_path)
    assert contents(tmp_path) == {"certificate.json": b"mine"}


def test_overwrite_writes_the_same_results_and_spares_other_files(demo, tmp_path):
    out, _ = demo
    (tmp_path / "certificate.json").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--out", str(tmp_path), "--overwrite"])
    assert stopped.value.code == 0
    written = contents(tmp_path)
    assert written.pop("notes.txt") == b"mine"
    assert written == contents(out)


def forge_poison(monkeypatch):
    genuine = hospitals.poison

    def poison(problem, target):
        attack = genuine(problem, target)
        return dataclasses.replace(
            attack, certificate=dataclasses.replace(attack.certificate, gap=0.0)
        )

    monkeypatch.setattr(hospitals, "poison", poison)


def break_proof(monkeypatch):
    def refuse(*_):
        raise gc.CertificateError("the argument does not prove it", checks=[])

    monkeypatch.setattr(hospitals, "check_lower_bound", refuse)


def break_solver(monkeypatch):
    genuine = hospitals.solve

    def solve(problem, **options):
        solution = genuine(problem, **options)
        certificate = gc.certify(problem, solution.rho + 1e-3, solution.thetas)
        return dataclasses.replace(solution, certificate=certificate)

    monkeypatch.setattr(hospitals, "solve", solve)


@pytest.mark.parametrize("sabotage", [forge_poison, break_proof, break_solver])
def test_a_failing_certificate_ends_in_exit_code_1_and_no_files(sabotage, tmp_path, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--out", str(tmp_path)])
    # A text is what sys.exit prints to stderr, with code 1.
    assert stopped.value.code.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["typer", "rich", "matplotlib", "cvxpy"])
def test_a_missing_library_is_named_with_the_extra(library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--out", str(tmp_path)])
    assert library in stopped.value.code
    assert 'pip install "gplconvex[demo]"' in stopped.value.code
    assert list(tmp_path.iterdir()) == []


def test_a_bug_shows_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(hospitals, "poison", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo", "--out", str(tmp_path)])


def test_a_file_where_the_folder_should_be_is_a_usage_error(tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--out", str(tmp_path / "taken")])
    assert stopped.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_failures_reach_the_shell(demo):
    out, _ = demo
    refused = run("demo", "--out", str(out))
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version"], [f"gplconvex {gc.__version__}"]),
        (["--help"], ["demo", "--version"]),
        (["demo", "--help"], ["--out", "--overwrite", "demo-output"]),
    ],
)
def test_version_and_help(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for word in words:
        assert word in printed
