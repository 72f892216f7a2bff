"""The command line. It parses arguments, prints what `gplconvex.report` says, and writes files."""

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gplconvex import __version__
from gplconvex.errors import GplConvexError, InvalidInputError, MissingDependencyError
from gplconvex.files import write_bytes, write_text

if TYPE_CHECKING:
    import typer
    from matplotlib.figure import Figure


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

    return app


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


def _require(*libraries: str) -> None:
    for library in libraries:
        try:
            import_module(library)
        except ImportError as error:
            raise MissingDependencyError(
                f'this command needs {library}: install it with pip install "gplconvex[demo]"'
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
