"""Results in words and tables: result -> rich renderable, or text for a file. Nothing is computed."""

from __future__ import annotations

import csv
import io
from decimal import ROUND_CEILING, Context

from gplconvex.errors import MissingDependencyError
from gplconvex.experiments.hospitals import LAM, NU, Reversal
from gplconvex.regularizers import norm

try:
    from rich import box
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise MissingDependencyError(
        'reports need rich: install it with pip install "gplconvex[demo]"'
    ) from error


def diagnosis_story(reversal: Reversal) -> RenderableType:
    """Tell, step by step, how the diagnosis of four hospitals is reversed.

    Parameters
    ----------
    reversal : Reversal
        From `gplconvex.experiments.reverse_diagnosis`.
    """
    poisoning, honest = reversal.poisoning, reversal.honest
    healthy, ill = _counts_by_label(reversal)
    return _steps(
        (
            "Honest optimum",
            f"{len(reversal.data.hospitals)} hospitals with {reversal.n_patients} patients learn to "
            "diagnose heart disease. Each fits a logistic model of its own, and a tie (squared l2, "
            f"lam = {LAM:g}; ridge nu = {NU:g}) keeps it close to one shared model rho. Proved: "
            f"rho is within {upper(honest.certified)} of the exact optimum.",
        ),
        (
            "The gradient",
            "A fifth participant wants the shared model reversed: target = -rho. There the "
            f"hospitals pull back with a gradient of norm {norm(poisoning.gradient):.1f}. Whoever "
            "reports its opposite g in every round holds the server at the target.",
        ),
        (
            "The model",
            "Exactly one personal model makes a participant who follows the protocol report g at "
            f"the target. It has norm {norm(poisoning.theta):.1f}. Freezing it does the same damage.",
        ),
        (
            "The data",
            f"{poisoning.n_points} fake patients make an honest learner arrive at that model: "
            f"{ill} times one record that says ill, {healthy} times one that says healthy. "
            f"{_why_no_fewer(reversal)}",
        ),
        (
            "The check",
            "Each attacked problem is solved from scratch, the one with the fake patients by two "
            "solvers that share no code. A solver's word is not believed: the number after ± is a "
            "proved bound of how far the model found is from the exact optimum.",
        ),
    )


def heart_rate_story(reversal: Reversal) -> RenderableType:
    """Tell how a single record reverses a linear regression.

    Parameters
    ----------
    reversal : Reversal
        From `gplconvex.experiments.reverse_heart_rate`.
    """
    return _steps(
        (
            "One is enough",
            "Let the hospitals predict the maximum heart rate instead, by least squares "
            f"({reversal.n_patients} patients have a measured one). The shared model is reversed by "
            f"{reversal.poisoning.n_points} fake patient. {_why_no_fewer(reversal)} Proved: with "
            "this one the exact optimum is within "
            f"{upper(reversal.poisoning.certificate.distance)} of the target.",
        ),
        first=6,
    )


def outcomes(reversal: Reversal) -> Table:
    """Return a table of the honest model and the attacks.

    Parameters
    ----------
    reversal : Reversal
        With accuracies as scores.
    """
    poisoning = reversal.poisoning
    table = _table(
        "shared model", "distance to target", *reversal.data.hospitals, "points", "fewest"
    )
    for outcome in reversal.outcomes:
        has_data = outcome.solution.problem is poisoning.poisoned
        table.add_row(
            outcome.name,
            f"{outcome.distance:.1g} ± {upper(outcome.certified)}",
            *(f"{score:.1%}" for score in outcome.scores),
            str(poisoning.n_points) if has_data else "",
            str(poisoning.lower_bound) if has_data else "",
            style="bold" if outcome is reversal.honest else None,
        )
    table.caption = (
        "Percentages: accuracy of the shared model on the patients of each hospital. "
        "Fewest: no dataset with fewer points does it (proved)."
    )
    return table


def record(reversal: Reversal) -> Table:
    """Return a table of the fake record, in natural units.

    Parameters
    ----------
    reversal : Reversal
        With a single fake record.
    """
    data = reversal.data
    (values,), (label,) = reversal.fake_records.tolist(), reversal.fake_labels.tolist()
    table = _table("the fake patient", "value", "unit")
    table.columns[-1].justify = "left"
    for feature, value, unit in zip(data.features, values, data.units, strict=True):
        table.add_row(feature, f"{value:.2f}", unit)
    table.add_section()
    name, _, unit = data.label.rstrip(")").partition(" (")
    table.add_row(f"label: {name}", f"{label:.2f}", unit, style="bold")
    table.caption = (
        "No unit: 1 is yes, 0 is no, and the theorem allows what lies between or beyond. "
        f"The label gives it away: the highest of a real patient is {reversal.highest_label:.0f}."
    )
    return table


def models_csv(reversal: Reversal) -> str:
    """Return the target and the personal models there, the attacker's last, as CSV text.

    With the fake records this is what the certificate speaks of. Numbers are written in full.

    Parameters
    ----------
    reversal : Reversal
        Either one.
    """
    poisoning = reversal.poisoning
    models = {"shared (target)": poisoning.target}
    models |= zip((*reversal.data.hospitals, "attacker"), poisoning.thetas, strict=True)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["model", *reversal.data.features, "intercept"])
    for name, model in models.items():
        writer.writerow([name, *map(repr, model.tolist())])
    return stream.getvalue()


def upper(bound: float) -> str:
    """Return two digits of a guaranteed bound, rounded up, so that what is printed holds too.

    Examples
    --------
    >>> upper(1.21e-12), upper(0.5)
    ('1.3e-12', '5.0e-01')
    """
    rounded = Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(bound)
    return f"{float(rounded):.1e}"


def _why_no_fewer(reversal: Reversal) -> str:
    """Put the argument of the lower bound in one sentence."""
    poisoning = reversal.poisoning
    proof, along = poisoning.proof, reversal.data_gradient_along
    if along is not None:
        return (
            f"{proof.value - 1} cannot: along one direction the records must add up to {along:.2f}, "
            f"no record whatever contributes more than {proof.support:.5f}, and {along:.2f} / "
            f"{proof.support:.5f} = {along / proof.support:.2f}."
        )
    if proof.argument == "nonzero":
        return "None cannot: without data the fifth participant has no gradient to report."
    return f"{proof.value - 1} cannot (argument: {proof.argument})."


def _counts_by_label(reversal: Reversal) -> tuple[int, int]:
    dataset = reversal.poisoning.dataset
    counts = dict(zip(dataset.y.tolist(), dataset.counts.tolist(), strict=True))
    return counts[-1.0], counts[1.0]


def _steps(*steps: tuple[str, str], first: int = 1) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", style="bold cyan", no_wrap=True)
    grid.add_column()
    for number, (title, sentences) in enumerate(steps, start=first):
        grid.add_row(str(number), Text.assemble((f"{title}. ", "bold"), sentences))
    return grid


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table
