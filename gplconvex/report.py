"""Results in words and tables: result -> rich renderable, or text for a file. Nothing is computed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context

from gplconvex.errors import MissingDependencyError
from gplconvex.experiments.hospitals import LAM, NU, Reversal
from gplconvex.regularizers import norm

try:
    from rich import box
    from rich.console import Group, RenderableType
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
    title = Text(
        "Data poisoning does what Byzantine gradients do (Farhadkhani et al., ICML 2022)\n", "bold"
    )
    steps = _steps(
        (
            "Honest optimum",
            f"Four hospitals with {reversal.n_patients} patients learn to diagnose heart disease. "
            "Each fits a logistic model of its own, and a tie (squared l2, "
            f"lam = {LAM:g}; ridge nu = {NU:g}) keeps it close to one shared model rho. Proved: "
            f"rho is within {upper(honest.certified)} of the exact optimum.",
        ),
        (
            "The gradient",
            "A fifth participant wants the shared model reversed: target = -rho. There the "
            f"hospitals pull back with a gradient of norm {norm(poisoning.gradient):.1f}. Whoever "
            "reports the opposite, g, in every round makes the target the optimum.",
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
            "independent solvers: Newton, and Clarabel through cvxpy. No solver's word is believed: "
            "the number after ± is a proved bound of how far its model is from the exact optimum.",
        ),
    )
    return Group(title, steps)


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


def outcomes(reversal: Reversal, *, width: int = 80) -> RenderableType:
    """Return a table of the honest model and the attacks.

    Parameters
    ----------
    reversal : Reversal
        With accuracies as scores.
    width : int
        Characters in a line; with fewer than 80 the accuracies become a table of their own.
    """
    poisoning, rows = reversal.poisoning, reversal.outcomes
    with_data = [outcome.solution.problem is poisoning.poisoned for outcome in rows]
    model = {"shared model": [outcome.name for outcome in rows]}
    distance = {
        "distance\nto target": [
            f"{_short(outcome.distance)} ± {upper(outcome.certified)}" for outcome in rows
        ]
    }
    accuracies = {
        hospital.replace(" ", "\n"): [f"{outcome.scores[n]:.1%}" for outcome in rows]
        for n, hospital in enumerate(reversal.data.hospitals)
    }
    points = {
        "points": [str(poisoning.n_points) if data else "" for data in with_data],
        "lower\nbound": [str(poisoning.lower_bound) if data else "" for data in with_data],
    }
    caption = Text(
        "Percentages: accuracy of the shared model on the patients of each hospital. "
        "Lower bound: no dataset with fewer points does it.",
        style="italic",
    )
    if width < 80:
        return Group(_table(model | distance | points), "", _table(model | accuracies), "", caption)
    return Group(_table(model | distance | accuracies | points), "", caption)


def record(reversal: Reversal) -> RenderableType:
    """Return a table of the fake record, in natural units.

    Parameters
    ----------
    reversal : Reversal
        With a single fake record.
    """
    data = reversal.data
    label, _, unit = data.label.removesuffix(")").partition(" (")
    values = [*reversal.fake_records[0].tolist(), reversal.fake_labels[0].item()]
    table = _table(
        {
            "the fake patient": [*data.features, f"label: {label}"],
            "value": [f"{value:.2f}" for value in values],
            "unit": [*data.units, unit],
        }
    )
    caption = Text(
        "No unit: 1 is yes, 0 is no, and the theorem lets an attacker use numbers between and "
        "beyond. What gives this patient away is the label: the highest of a real one is "
        f"{reversal.highest_label:.0f}.",
        style="italic",
    )
    return Group(table, "", caption)


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


def _short(distance: float) -> str:
    return f"{distance:.2f}" if distance >= 0.01 else f"{distance:.0e}"


def _why_no_fewer(reversal: Reversal) -> str:
    """Put the argument of the lower bound in one sentence."""
    poisoning = reversal.poisoning
    proof, along = poisoning.proof, reversal.data_gradient_along
    if along is not None:
        most, ratio = proof.support, along / proof.support
        return (
            f"{proof.value - 1} cannot: along one direction the records must add up to {along:.4f}, "
            f"no record whatever contributes more than {most:.6f}, and {along:.4f} / {most:.6f} = "
            f"{ratio:.2f}."
        )
    if proof.argument == "nonzero":
        return (
            "None at all is too few: a fifth participant without data would only pull towards zero, "
            "by its ridge."
        )
    return f"{proof.value - 1} cannot (argument: {proof.argument})."


def _counts_by_label(reversal: Reversal) -> tuple[int, int]:
    dataset = reversal.poisoning.dataset
    healthy = int(dataset.counts[dataset.y < 0.0].sum())
    return healthy, dataset.n_points - healthy


def _steps(*steps: tuple[str, str], first: int = 1) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", style="bold cyan", no_wrap=True)
    grid.add_column()
    for number, (title, sentences) in enumerate(steps, start=first):
        grid.add_row(str(number), Text.assemble((f"{title}. ", "bold"), sentences))
    return grid


def _table(columns: Mapping[str, Sequence[str]]) -> Table:
    """Return a table: the first column on the left, the others on the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name, cells in columns.items():
        first = name == next(iter(columns))
        table.add_column(name, justify="left" if first else "right", no_wrap="±" in cells[0])
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table
