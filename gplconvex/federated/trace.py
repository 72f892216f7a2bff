"""A run: rounds until there is reason to stop, and the record of them."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import Literal, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import is_number
from gplconvex.errors import InvalidInputError, RunError
from gplconvex.federated.optimizers import Optimizer
from gplconvex.federated.participants import Attack, name_of
from gplconvex.federated.protocol import Engine, Rejection, Round, StepSize, rounds
from gplconvex.federated.rules import Rule
from gplconvex.federated.users import Honest
from gplconvex.files import require_absent, write_bytes
from gplconvex.problem import Problem
from gplconvex.regularizers import lengths
from gplconvex.rounding import LARGEST

FORMAT = "gplconvex trace 1"
"""The first word of a file."""

SAVE_EVERY = 10.0
"""Seconds after which the trace so far is written again."""

STATIONARY = 1e-10
"""Relative pull at which a run is over: rounding leaves more digits of a sum of 1e5 reports."""


@dataclass(frozen=True, eq=False)
class Trace:
    r"""The record of a run of T rounds with N participants.

    Attributes
    ----------
    rho : array, shape (T + 1, *shape of a model)
        :math:`\rho^0, \ldots, \rho^T`.
    step_sizes : array, shape (T,)
        :math:`\eta_t`.
    norms : array, shape (T, N)
        The norms of the reports; NaN who was not asked, or sent nothing of the right shape.
    reports : array, shape (T, N, *shape of a model), or None
        The reports, likewise, dropped or not; None if they were not kept.
    rejections : tuple of Rejection
        Whose report was dropped when, and why.
    stopped : str
        Why the run is over: ``"stationary"``, ``"max_rounds"``, ``"time_limit"``, ``"diverged"``,
        ``"interrupted"``, ``"error: ..."``, or ``"ended"`` where the rounds did; ``"running"`` in a file
        that a killed run left behind.
    participants : tuple of str
        What the N participants are, honest users first.
    references : dict
        Models to compare with, by name.
    seconds : float
        Since the first round began.
    settings : dict
        What was run, in words: version, problem, attackers and options.
    """

    rho: FloatArray
    step_sizes: FloatArray
    norms: FloatArray
    reports: FloatArray | None
    rejections: tuple[Rejection, ...]
    stopped: str
    participants: tuple[str, ...]
    references: dict[str, FloatArray] = field(default_factory=dict)
    seconds: float = math.nan
    settings: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"Trace({self.n_rounds} rounds, {len(self.participants)} participants, "
            f"{self.stopped!r}, {len(self.rejections)} rejections)"
        )

    @property
    def n_rounds(self) -> int:
        """Number of rounds T."""
        return len(self.step_sizes)

    def distances(self, model: str | npt.ArrayLike) -> FloatArray:
        r"""Return :math:`|\rho^t - \rho|`, t = 0..T, shape (T + 1,).

        Parameters
        ----------
        model : str or array_like, shape of a model
            The name of one of the ``references``, or :math:`\rho`.
        """
        if isinstance(model, str):
            if model not in self.references:
                raise InvalidInputError(
                    f"the trace has no reference {model!r}; it has {sorted(self.references)}"
                )
            model = self.references[model]
        point = np.asarray(model, dtype=np.float64)
        if point.shape != self.rho.shape[1:]:
            raise InvalidInputError(
                f"the model must have shape {self.rho.shape[1:]}; got {point.shape}"
            )
        return lengths((self.rho - point).reshape(len(self.rho), -1))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a compressed ``.npz`` file, from which `load` gives back the same bits.

        Raises
        ------
        InvalidInputError
            If the file exists and ``overwrite`` is false, or its folder does not exist.
        """
        head = {
            "format": FORMAT,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "participants": self.participants,
            "references": list(self.references),
            "reports": self.reports is not None,
            "rejections": [asdict(rejection) for rejection in self.rejections],
            "settings": self.settings,
        }
        arrays = {
            "head": np.array(json.dumps(head)),
            "rho": self.rho,
            "step_sizes": self.step_sizes,
            "norms": self.norms,
            **{f"reference_{i}": model for i, model in enumerate(self.references.values())},
        }
        if self.reports is not None:
            arrays["reports"] = self.reports
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        return write_bytes(path, content.getvalue(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Read what `save` wrote, bit for bit.

        Raises
        ------
        InvalidInputError
            If the file is not a trace.
        """
        content = Path(path).read_bytes()
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file)
            head = json.loads(str(arrays["head"]))
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']!r}")
            t, n = len(arrays["step_sizes"]), len(head["participants"])
            model = arrays["rho"].shape[1:]
            shapes = {
                "rho": (t + 1, *model),
                "step_sizes": (t,),
                "norms": (t, n),
                "reports": (t, n, *model),
                **{f"reference_{i}": model for i in range(len(head["references"]))},
            }
            for name, shape in shapes.items():
                if name in arrays and arrays[name].shape != shape:
                    raise ValueError(f"{name} of shape {arrays[name].shape}, not {shape}")
            return cls(
                arrays["rho"],
                arrays["step_sizes"],
                arrays["norms"],
                arrays["reports"] if head["reports"] else None,
                tuple(Rejection(**rejection) for rejection in head["rejections"]),
                head["stopped"],
                tuple(head["participants"]),
                {name: arrays[f"reference_{i}"] for i, name in enumerate(head["references"])},
                head["seconds"],
                head["settings"],
            )
        except Exception as error:  # what zipfile, zlib and numpy raise for damage has no end
            raise InvalidInputError(
                f"{str(path)!r} is not a trace that Trace.save wrote, or it is damaged: "
                f"{type(error).__name__}: {error}"
            ) from error


class RoundOptions(TypedDict, total=False):
    """The options of `rounds`."""

    rule: Rule
    optimizer: Optimizer
    step_size: StepSize | Literal["auto"]
    fraction: float
    seed: int
    honest: Honest | Sequence[Honest]
    start: npt.ArrayLike | None
    engine: Engine | None


def run(
    problem: Problem,
    attackers: Sequence[Attack] = (),
    *,
    max_rounds: int = 1000,
    tol: float = STATIONARY,
    time_limit: float | None = None,
    references: Mapping[str, npt.ArrayLike] | None = None,
    keep_reports: bool = True,
    save: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[Round], object] | None = None,
    **options: Unpack[RoundOptions],
) -> Trace:
    r"""Run the protocol until its reports cancel, and return the record.

    Parameters
    ----------
    problem, attackers
        Who takes part; see `rounds`.
    max_rounds : int
        Stop after so many rounds.
    tol : float
        Stop when everybody was asked twice in a row, and the pull was at most ``tol``, at least 0, times
        the sum of the norms of the reports; or that sum was at most ``tol`` times the largest so far,
        as where all users agree. 0: go on. (Once tells nothing of who remembers: a
        `CounterGradientAttack` begins in its second round.)
    time_limit : float, optional
        Stop after the first round that ends so many seconds after the start.
    references : mapping, optional
        Models that the record names, to measure distances to.
    keep_reports : bool
        Whether the record has all reports, T N p numbers; their norms are kept in any case.
    save : path-like, optional
        Where to write the record: every ten seconds, and when the run is over for whatever reason.
    overwrite : bool
        Whether ``save`` may replace a file.
    progress : callable, optional
        Called with each `Round`.
    **options
        ``rule``, ``optimizer``, ``step_size``, ``fraction``, ``seed``, ``honest``, ``start`` and
        ``engine`` of `rounds`.

    Returns
    -------
    Trace
        An interruption (Ctrl-C) ends a run like a time limit does.

    Raises
    ------
    InvalidInputError, UnsupportedCombinationError
        Before the first round, or if that fails already; see `rounds`.
    RunError
        If a later round fails, ``progress``, or writing the file. It carries the trace so far, and the
        failure is its ``__cause__``.

    Examples
    --------
    The theorem: a gradient, a model and data lead to the same place.

    >>> from gplconvex import Dataset, GradientAttack, LeastSquares, ModelAttack, SquaredL2, poison
    >>> from gplconvex.federated import DataAttack
    >>> problem = Problem(LeastSquares(), SquaredL2(1.0), [Dataset([[1.0]], [3.0])], nu=0.1)
    >>> attack = poison(problem, [-2.0])
    >>> data = DataAttack(attack.dataset)
    >>> for attacker in (GradientAttack(attack.gradient), ModelAttack(attack.theta), data):
    ...     print(run(problem, [attacker]).rho[-1].round(8))
    [-2.]
    [-2.]
    [-2.]
    """
    all_rounds = rounds(problem, attackers, **options)
    names, models = names_and_models(problem, attackers, references)
    return record(
        all_rounds,
        names,
        max_rounds=max_rounds,
        tol=tol,
        time_limit=time_limit,
        references=models,
        keep_reports=keep_reports,
        save=save,
        overwrite=overwrite,
        progress=progress,
        settings=settings_of(rounds, problem, attackers, **options),
    )


def settings_of(
    function: Callable[..., object], *arguments: object, **options: object
) -> dict[str, str]:
    """Return what a function that yields rounds is called with, in words, defaults included."""
    from gplconvex import __version__

    call = signature(function).bind(*arguments, **options)
    call.apply_defaults()
    words = {
        name: getattr(value, "__name__", repr(value)) for name, value in call.arguments.items()
    }
    return {"gplconvex": __version__, **words}


def names_and_models(
    problem: Problem,
    attackers: Sequence[Attack],
    references: Mapping[str, npt.ArrayLike] | None,
) -> tuple[tuple[str, ...], dict[str, FloatArray]]:
    """Return the names of the participants, and the models to compare with."""
    names = (
        *(f"user {n}" for n in range(problem.n_users)),
        *(name_of(attack) for attack in attackers),
    )
    if not isinstance(references, (Mapping, NoneType)):
        raise InvalidInputError(
            f"references must be a mapping of names to models; got {type(references).__name__}"
        )
    models = {
        name: problem.check_model(f"references[{name!r}]", model)
        for name, model in (references or {}).items()
    }
    return names, models


def record(
    all_rounds: Iterable[Round],
    participants: Sequence[str],
    *,
    max_rounds: int = 1000,
    tol: float = STATIONARY,
    time_limit: float | None = None,
    references: Mapping[str, FloatArray] | None = None,
    keep_reports: bool = True,
    save: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[Round], object] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Trace:
    """Take rounds, of whatever server, until there is reason to stop; see `run`."""
    whole = isinstance(max_rounds, (int, np.integer)) and not isinstance(max_rounds, bool)
    if not (whole and max_rounds >= 1):
        raise InvalidInputError(f"max_rounds must be an integer from 1; got {max_rounds!r}")
    if not (is_number(tol) and tol >= 0.0):
        raise InvalidInputError(f"tol must be a number, at least 0; got {tol!r}")
    if time_limit is not None and not (is_number(time_limit) and time_limit > 0.0):
        raise InvalidInputError(f"time_limit must be a positive number; got {time_limit!r}")
    if progress is not None and not callable(progress):
        raise InvalidInputError(f"progress must be a function of a Round; got {progress!r}")
    if save is not None:
        _check_writable(save, overwrite)
    recorder = _Recorder(participants, dict(references or {}), keep_reports, dict(settings or {}))
    written = time.monotonic()
    stopped: str | None = None
    try:
        with ExitStack() as at_end:
            source = iter(all_rounds)
            if isinstance(source, Generator):
                at_end.callback(source.close)
            for each in source:
                recorder.add(each, tol)
                if progress is not None:
                    progress(each)
                stopped = _reason(each, recorder, max_rounds, time_limit)
                if stopped is not None:
                    break
                if save is not None and time.monotonic() - written > SAVE_EVERY:
                    recorder.trace("running").save(save, overwrite=overwrite)
                    written, overwrite = time.monotonic(), True
    except KeyboardInterrupt:
        stopped = "interrupted"
    except Exception as error:
        if not recorder.rounds:
            raise
        trace = recorder.trace(f"error: {error}")
        where = "" if save is None else _write(trace, save, overwrite)
        raise RunError(
            f"the run failed in round {trace.n_rounds}: {error}. What was done before is in the "
            f"attribute trace of this error{where}",
            trace=trace,
        ) from error
    if not recorder.rounds:
        if stopped is None:
            raise InvalidInputError("there are no rounds to record")
        raise KeyboardInterrupt
    trace = recorder.trace(stopped or "ended")
    if save is not None:
        try:
            trace.save(save, overwrite=overwrite)
        except (InvalidInputError, OSError) as error:
            raise RunError(
                f"the run is over ({trace.stopped}), but its trace could not be written: {error}. It "
                "is in the attribute trace of this error",
                trace=trace,
            ) from error
    return trace


def _check_writable(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise `InvalidInputError` where a trace could not be written at the end of a run."""
    path = Path(path) if overwrite else require_absent(path)
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInputError(
            f"save: {str(path)!r} must be a file in a folder that exists: create the folder first"
        )


def _write(trace: Trace, path: str | os.PathLike[str], overwrite: bool) -> str:
    """Write the trace of a run that failed, and return where, in words."""
    try:
        trace.save(path, overwrite=overwrite)
    except (InvalidInputError, OSError) as error:
        return f", and could not be written: {error}"
    return f" and in {str(path)!r}"


def _reason(
    last: Round, recorder: _Recorder, max_rounds: int, time_limit: float | None
) -> str | None:
    """Return why to stop after a round, or None."""
    if not (np.abs(last.next_rho) <= LARGEST).all():
        return "diverged"
    if recorder.still >= 2:
        return "stationary"
    if len(recorder.rounds) >= max_rounds:
        return "max_rounds"
    if time_limit is not None and recorder.seconds >= time_limit:
        return "time_limit"
    return None


class _Recorder:
    """Rounds so far."""

    def __init__(
        self,
        participants: Sequence[str],
        references: dict[str, FloatArray],
        keep_reports: bool,
        settings: dict[str, str],
    ) -> None:
        self.settings = settings
        self.participants, self.references = tuple(participants), references
        self.keep_reports = keep_reports
        self.rounds: list[tuple[Round, FloatArray, FloatArray | None]] = []
        self.still, self.most = 0, 0.0
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the first round began."""
        return time.monotonic() - self.began

    def add(self, last: Round, tol: float) -> None:
        """Record a round, and count those in a row whose reports, of everybody, cancel or vanish."""
        everybody = len(last.asked) == len(self.participants)
        self.most = max(self.most, last.total)
        still = everybody and (last.relative_pull <= tol or last.total <= tol * self.most)
        self.still = self.still + 1 if still else 0
        norms = self._of_all(last, last.norms)
        reports = self._of_all(last, last.reports) if self.keep_reports else None
        # Of the round without its reports nothing is large; an interrupt finds all of it or nothing.
        slim = replace(last, reports=last.reports[:0])
        self.rounds.append((slim, norms, reports))

    def _of_all(self, last: Round, values: FloatArray) -> FloatArray:
        """Return what belongs to those who were asked, NaN for the others."""
        if len(last.asked) == len(self.participants):
            return values
        everybody = np.full((len(self.participants), *values.shape[1:]), math.nan)
        everybody[last.asked] = values
        return everybody

    def trace(self, stopped: str) -> Trace:
        """Return the record."""
        rounds, norms, reports = zip(*self.rounds, strict=True)
        return Trace(
            np.stack([rounds[0].rho, *(each.next_rho for each in rounds)]),
            np.array([each.step_size for each in rounds]),
            np.stack(norms),
            np.stack(reports) if self.keep_reports else None,
            tuple(rejection for each in rounds for rejection in each.rejections),
            stopped,
            self.participants,
            self.references,
            self.seconds,
            self.settings,
        )
