"""`Realization`: a dataset with a wanted gradient, and the last step of every construction."""

from __future__ import annotations

from dataclasses import dataclass

from gplconvex._types import FloatArray
from gplconvex.certificates import Check
from gplconvex.data import Dataset
from gplconvex.errors import CertificateError
from gplconvex.losses import Loss
from gplconvex.realization.exact import REACHES, polish, relative_residual
from gplconvex.realization.lower_bound import LowerBound
from gplconvex.rounding import POLISHED, REALIZATION_RESIDUAL


@dataclass(frozen=True, eq=False, repr=False)
class Realization:
    """A dataset with a wanted gradient, and the proof that fewer points cannot have it.

    Attributes
    ----------
    dataset : Dataset
        The points; equal points are one row with a count.
    n_points : int
        Their number, with multiplicities.
    lower_bound : int
        No dataset of fewer points has the gradient. Equal to ``n_points``, unless ``note`` says why or
        extra points were asked for; for softmax with K > 2 up to 2 K + 2 less without a note.
    proof : LowerBound
        The argument behind ``lower_bound``; `check_lower_bound` checks it.
    residual : float
        ``|sum of gradients - h| / |h|``, evaluated at the float64 points in twice their precision.
    note : str
        Empty, or why more points than that are shipped, or extra ones are not.
    """

    dataset: Dataset
    n_points: int
    lower_bound: int
    proof: LowerBound
    residual: float
    note: str = ""

    def __repr__(self) -> str:
        return (
            f"<Realization: {self.n_points} points in {self.dataset.n_rows} rows (at least "
            f"{self.lower_bound} needed), residual {self.residual:.2g}>"
        )

    @property
    def direction(self) -> FloatArray | None:
        """The dual certificate v, if the argument has one."""
        return self.proof.direction


def finish(
    loss: Loss,
    theta: FloatArray,
    h: FloatArray,
    data: Dataset,
    proof: LowerBound,
    note: str = "",
) -> Realization:
    """Measure the residual of the shipped points and refuse one that is too large."""
    residual = relative_residual(loss, data, theta, h)
    best = data
    for _ in range(2):
        if residual <= POLISHED:
            break
        for reach in REACHES:
            polished = polish(loss, data, theta, h, reach)
            better = relative_residual(loss, polished, theta, h)
            if better < residual:
                best, residual = polished, better
        data = best
    return ship(data, residual, proof, note)


def ship(data: Dataset, residual: float, proof: LowerBound, note: str = "") -> Realization:
    """Return the points, or refuse them if their residual is too large."""
    if not residual <= REALIZATION_RESIDUAL:
        check = Check(
            "relative residual",
            residual,
            REALIZATION_RESIDUAL,
            "<=",
            "rounding the inputs to float64 costs more than this here: theta and the gradient are "
            "large and nearly orthogonal, or theta is tiny beside its intercept; rescale the "
            "features or move the target",
        )
        raise CertificateError("the realized points miss the gradient:", checks=[check])
    return Realization(data, data.n_points, proof.value, proof, residual, note)
