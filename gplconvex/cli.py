"""The command line. It parses arguments, prints what `gplconvex.report` says, and writes files."""

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from gplconvex import __version__
from gplconvex.data import Dataset
from gplconvex.errors import GplConvexError, InvalidInputError, MissingDependencyError
from gplconvex.files import write_bytes, write_text
from gplconvex.losses import Loss
from gplconvex.problem import Problem
from gplconvex.regularizers import Regularizer
from gplconvex.solvers import Progress as SolverProgress
from gplconvex.solvers import Solution, Status, solve

if TYPE_CHECKING:
    import typer
    from matplotlib.figure import Figure
    from rich.progress import Progress, TaskID


RESULTS = (
    "figure.png",
    "figure.pdf",
    "poisoned_patients.csv",
    "models.csv",
    "certificate.json",
    "minimality.json",
    "poisoned_record.csv",
    "models_linear.csv",
    "certificate_linear.json",
    "minimality_linear.json",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an expected failure is one message and exit code 1.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default, those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old terminal may know no ±
    try:
        application()(arguments)
    except (GplConvexError, OSError) as error:
        sys.exit(f"error: {error}")


def application() -> "typer.Typer":
    """Return the commands.

    Raises
    ------
    MissingDependencyError
        If typer is not installed.
    """
    _require("typer")
    import typer

    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Data poisoning and Byzantine attacks in convex federated learning, exact and certified.",
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"gplconvex {__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=print_version,
                is_eager=True,
                help="Show the version and exit.",
            ),
        ] = False,
    ) -> None:
        pass

    @app.command("demo")
    def demo_command(
        out: Annotated[
            Path, typer.Option("--out", file_okay=False, help="Folder for the results.")
        ] = Path("demo-output"),
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace results that are already there.")
        ] = False,
    ) -> None:
        """See the theorem happen on 920 patients of four hospitals: offline, in seconds.

        A fifth participant reverses what the hospitals learn: by a gradient, by a frozen model, and
        by a dataset of provably minimal size. Prints the story, and writes a figure, the fake
        patients, the models, the certificates and the proofs that fewer patients cannot do it.
        """
        demo(out, overwrite=overwrite)

    @app.command("solve")
    def solve_command(
        users: Annotated[
            list[Path],
            typer.Argument(
                exists=True,
                dir_okay=False,
                help="One CSV file a user, as Dataset.save writes them.",
            ),
        ],
        loss: Annotated[str, typer.Option(help=f"One of {', '.join(sorted(Loss.registry))}.")],
        regularizer: Annotated[
            str, typer.Option(help=f"One of {', '.join(sorted(Regularizer.registry))}.")
        ] = "squared-l2",
        lam: Annotated[float, typer.Option(help="Strength of the regularizer.")] = 1.0,
        delta: Annotated[float, typer.Option(help="Of smooth l2.")] = 1.0,
        nu: Annotated[float, typer.Option(help="Ridge of every user.")] = 0.01,
        intercept: Annotated[
            bool, typer.Option("--intercept", help="Append a feature fixed to 1.")
        ] = False,
        classes: Annotated[
            int | None, typer.Option(help="Of softmax; default, the largest label plus 1.")
        ] = None,
        method: Annotated[str, typer.Option(help="auto, newton, lbfgs or cvxpy.")] = "auto",
        tol: Annotated[float, typer.Option(help="Relative gap to be certified.")] = 1e-9,
        time_limit: Annotated[
            float | None, typer.Option(help="Seconds; then the best point is returned.")
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(dir_okay=False, help="File for models and certificate (JSON)."),
        ] = None,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace the file if it is there.")
        ] = False,
    ) -> None:
        """Solve a problem of many users, and certify what comes out.

        Ends with code 0 if the certified gap is within the tolerance, otherwise 1. Ctrl-C ends the
        search, not the program: the best point so far is certified and written like any other.
        """
        if out is not None and not overwrite:
            _require_absent([out])
        problem = _problem(
            [Dataset.load(path) for path in users],
            loss,
            {"intercept": intercept, "n_classes": classes},
            regularizer,
            {"lam": lam, "delta": delta},
            nu,
        )
        solution = solve_with_progress(problem, method=method, tol=tol, time_limit=time_limit)
        if out is not None:
            write_text(out, solution_json(solution), overwrite=overwrite)
        if solution.status is not Status.OPTIMAL:
            raise typer.Exit(1)

    @app.command("figures")
    def figures_command(
        names: Annotated[
            list[str] | None, typer.Argument(help="Which experiments; default, all of them.")
        ] = None,
        out: Annotated[
            Path, typer.Option("--out", file_okay=False, help="Folder for results and pictures.")
        ] = Path("figures"),
        full: Annotated[
            bool,
            typer.Option(
                "--full/--quick",
                help="On MNIST, which takes most of an hour; or on small digits, two minutes.",
            ),
        ] = False,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Start anew; default, go on where it was.")
        ] = False,
    ) -> None:
        """Run the published experiments again, beside what is true at the certified optimum.

        Of each experiment a result (npz) and a picture (png, pdf) are left in the folder. What is
        there already is not computed again: killed at any point, the same command goes on.
        """
        figures(names or [], out, size="full" if full else "quick", overwrite=overwrite)

    return app


def figures(
    names: Sequence[str], out: Path, *, size: Literal["quick", "full"], overwrite: bool = False
) -> None:
    """Run experiments and draw them, with a bar for each; see `gplconvex.experiments.catalog`.

    Raises
    ------
    InvalidInputError
        For an unknown name, or a folder with results of another size or version.
    MissingDependencyError
        If a library of the extra ``figures`` is not installed.
    """
    _require("rich", "matplotlib", extra="figures")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from gplconvex import plots
    from gplconvex.experiments.catalog import EXPERIMENTS, forget, result_of

    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise InvalidInputError(
            f"experiments are {', '.join(EXPERIMENTS)}; got {', '.join(unknown)}"
        )
    out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    for name in names or EXPERIMENTS:
        if overwrite:
            forget(name, out)
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(name, total=1.0)
            result = result_of(
                name,
                size,
                out,
                on_step=partial(_next_step, bar, task, name),
                on_progress=partial(_go_on, bar, task),
            )
            figure = getattr(plots, name)(result)
            for suffix in ("png", "pdf"):
                path = out / f"{name}.{suffix}"
                if overwrite or not path.exists():
                    write_bytes(path, _image(figure, path.name), overwrite=overwrite)
        console.print(f"{name}: {EXPERIMENTS[name].title}", markup=False, soft_wrap=True)
        console.print(f"  {out / name}.npz, .png, .pdf", markup=False, soft_wrap=True)


def _next_step(bar: "Progress", task: "TaskID", name: str, step: str) -> None:
    bar.update(task, description=f"{name}: {step}", completed=0.0)


def _go_on(bar: "Progress", task: "TaskID", share: float) -> None:
    bar.update(task, completed=share)


def _problem(
    datasets: list[Dataset],
    loss: str,
    loss_options: dict[str, Any],
    regularizer: str,
    regularizer_options: dict[str, Any],
    nu: float,
) -> Problem:
    """Return the problem; options that a class does not have are for other classes."""
    if loss_options["n_classes"] is None:
        largest = max((float(data.y.max(initial=0.0)) for data in datasets), default=0.0)
        columns = max((data.y.shape[1] for data in datasets if data.y.ndim == 2), default=0)
        loss_options = {**loss_options, "n_classes": columns or max(2, int(largest) + 1)}
    return Problem(
        _registered(Loss.registry, "loss", loss, loss_options),
        _registered(Regularizer.registry, "regularizer", regularizer, regularizer_options),
        datasets,
        nu,
    )


def _registered(registry: dict[str, Any], what: str, name: str, options: dict[str, Any]) -> Any:
    if name not in registry:
        raise InvalidInputError(
            f"{what} must be one of {', '.join(sorted(registry))}; got {name!r}"
        )
    known = {field.name for field in dataclasses.fields(registry[name])}
    return registry[name](**{key: value for key, value in options.items() if key in known})


def solve_with_progress(
    problem: Problem, *, method: str, tol: float, time_limit: float | None
) -> Solution:
    """Solve, draw a bar on the terminal (how many digits of the tolerance), and print the outcome."""
    _require("rich")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(highlight=False)
    if method.startswith("cvxpy"):
        solution = solve(problem, method=method, tol=tol)
    else:
        text = TextColumn("{task.description}")
        with Progress(text, BarColumn(), console=console, transient=True) as bar:
            task = bar.add_task("starting", total=1.0)

            def show(state: SolverProgress) -> None:
                # From a relative gap of 1 to the tolerance, in digits.
                gap = min(1.0, max(state.relative_gap, tol))
                digits = math.log(gap) / math.log(tol) if tol < 1.0 else 1.0
                line = (
                    f"F = {state.objective:.10g}, relative gap {state.relative_gap:.1e}, "
                    f"{state.passes:.0f} passes, {state.seconds:.1f} s"
                )
                bar.update(task, completed=digits, description=line)

            solution = solve(problem, method=method, tol=tol, time_limit=time_limit, progress=show)
    stats, bounds = solution.stats, solution.certificate
    console.print(
        f"{solution.status.name} ({solution.stopped}): F = {solution.value:.10g}, certified gap "
        f"{bounds.gap:.2g}, certified distance of rho {bounds.distance:.2g}; "
        f"{solution.method}, {stats['iterations']:.0f} iterations, {stats['passes']:.0f} passes, "
        f"{stats['seconds']:.2f} s",
        soft_wrap=True,
    )
    return solution


def solution_json(solution: Solution) -> str:
    """Return models and certificate as JSON; floats in full, so that `verify` accepts what is read."""
    content = {
        "rho": solution.rho.tolist(),
        "thetas": [theta.tolist() for theta in solution.thetas],
        "value": solution.value,
        "status": solution.status.name,
        "stopped": solution.stopped,
        "method": solution.method,
        "certificate": json.loads(solution.certificate.to_json()),
    }
    return json.dumps(content) + "\n"


def demo(out: Path, *, overwrite: bool = False) -> None:
    """Run the demo: print its story and write its results into the folder ``out``.

    Raises
    ------
    InvalidInputError
        Before anything is computed, if a result exists and ``overwrite`` is false.
    MissingDependencyError
        If a library of the extra ``demo`` is not installed.
    CertificateError
        If a certificate fails; nothing is written then.
    """
    paths = {name: out / name for name in RESULTS}
    if not overwrite:
        _require_absent(paths.values())
    out.mkdir(parents=True, exist_ok=True)
    _require("rich")
    from rich.console import Console

    console = Console(highlight=False)
    with console.status("Loading libraries") as status:
        _require("matplotlib", "cvxpy")
        from gplconvex import plots, report
        from gplconvex.experiments import reverse_diagnosis, reverse_heart_rate

        diagnosis = reverse_diagnosis(lambda step: status.update(f"Diagnosis: {step}"))
        heart_rate = reverse_heart_rate(lambda step: status.update(f"Heart rate: {step}"))
        status.update("Drawing")
        figure = plots.reversal(diagnosis)
        images = {name: _image(figure, name) for name in ("figure.png", "figure.pdf")}

    for name, image in images.items():
        write_bytes(paths[name], image, overwrite=overwrite)
    for reversal, data, suffix in (
        (diagnosis, "poisoned_patients.csv", ""),
        (heart_rate, "poisoned_record.csv", "_linear"),
    ):
        poisoning = reversal.poisoning
        features = reversal.data.features
        poisoning.dataset.save(paths[data], feature_names=features, overwrite=overwrite)
        for name, content in (
            (f"models{suffix}.csv", report.models_csv(reversal)),
            (f"certificate{suffix}.json", poisoning.certificate.to_json()),
            (f"minimality{suffix}.json", poisoning.proof.to_json()),
        ):
            write_text(paths[name], content, overwrite=overwrite)

    for part in (
        report.diagnosis_story(diagnosis),
        report.outcomes(diagnosis, width=console.width),
        report.heart_rate_story(heart_rate),
        report.record(heart_rate),
    ):
        console.print(part)
        console.print()
    for path in paths.values():
        console.print(f"wrote {path}", markup=False, soft_wrap=True)


def _require(*libraries: str, extra: str = "demo") -> None:
    for library in libraries:
        try:
            import_module(library)
        except ImportError as error:
            raise MissingDependencyError(
                f'this command needs {library}: install it with pip install "gplconvex[{extra}]"'
            ) from error


def _require_absent(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise InvalidInputError(
                f"result {str(path)!r} exists and is not overwritten: choose another folder with "
                "--out, remove the file, or pass --overwrite"
            )


def _image(figure: "Figure", name: str) -> bytes:
    stream = BytesIO()
    # Without the date the same results are the same bytes.
    metadata = {"CreationDate": None} if name.endswith(".pdf") else {}
    figure.savefig(stream, format=Path(name).suffix[1:], metadata=metadata)
    return stream.getvalue()
