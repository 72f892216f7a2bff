"""Results that are kept in files, and experiments whose steps are done once.

A result is a dataclass of arrays, numbers, texts, certificates and other results. `Result.save` writes
it as one ``.npz`` file, which `Result.load` gives back bit for bit.

An experiment is a function that asks `Steps` for what takes long. Whoever kills it loses the step at
hand and nothing else: run again with the same settings it reads what is there and goes on, to the same
result.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from gplconvex.certificates import Certificate
from gplconvex.errors import InvalidInputError
from gplconvex.files import write_bytes
from gplconvex.solvers import Solution

FORMAT = "gplconvex result 1"
"""The first word of a file."""


@dataclass(frozen=True, eq=False)
class Result:
    """Base of results that can be saved: its fields are arrays, numbers, texts, or of these.

    Examples
    --------
    >>> import tempfile
    >>> @dataclass(frozen=True, eq=False)
    ... class Curve(Result):
    ...     name: str
    ...     values: np.ndarray
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Curve("squares", np.array([0.0, 1.0, 4.0])).save(f"{folder}/squares.npz")
    ...     Curve.load(path)
    Curve(name='squares', values=array([0., 1., 4.]))
    """

    kinds: ClassVar[dict[str, type[Result]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Result.kinds[cls.__name__] = cls

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a compressed ``.npz`` file, from which `load` gives back the same bits.

        Lists come back as tuples.

        Parameters
        ----------
        path : path-like
            The file.
        settings : mapping, optional
            What the result is of, for whoever reads the file: numbers and texts.
        overwrite : bool
            Whether the file may be there already.

        Raises
        ------
        InvalidInputError
            If the file exists and ``overwrite`` is false, or its folder does not exist.
        """
        arrays: dict[str, Any] = {}
        head = {
            "format": FORMAT,
            "settings": dict(settings or {}),
            "result": _written(self, arrays),
        }
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, head=np.array(json.dumps(head)), **arrays)
        return write_bytes(path, content.getvalue(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote, bit for bit.

        Raises
        ------
        InvalidInputError
            If the file is no result of this class.
        """
        return cls._load(Path(path))[0]

    @classmethod
    def _load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """Return the result and its settings."""
        content = path.read_bytes()
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file)
            head = json.loads(str(arrays["head"]))
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']!r}")
            result, settings = _read(head["result"], arrays), dict(head["settings"])
        except Exception as error:  # what zipfile, zlib and numpy raise for damage has no end
            raise InvalidInputError(
                f"{str(path)!r} is not a result that Result.save wrote, or it is damaged: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(result, cls):
            raise InvalidInputError(
                f"{str(path)!r} holds a {type(result).__name__}; expected a {cls.__name__}"
            )
        return result, settings


def _written(value: Any, arrays: dict[str, Any]) -> Any:
    """Return a value as JSON has it; arrays and their places go into ``arrays``."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case np.ndarray():
            name = f"array_{len(arrays)}"
            arrays[name] = value
            return {"array": name}
        case tuple() | list():
            return {"items": [_written(item, arrays) for item in value]}
        case Mapping():
            return {"pairs": [[_written(k, arrays), _written(v, arrays)] for k, v in value.items()]}
        case Certificate():
            return {"certificate": value.to_json()}
        case Result():
            content = {each.name: getattr(value, each.name) for each in fields(value)}
            return {
                "result": type(value).__name__,
                "fields": {name: _written(part, arrays) for name, part in content.items()},
            }
    raise TypeError(f"a result cannot hold {value!r} of type {type(value).__name__}")


def _read(value: Any, arrays: Mapping[str, Any]) -> Any:
    """Return what `_written` was given; lists have become tuples."""
    match value:
        case {"array": name}:
            array = arrays[name]
            array.setflags(write=False)
            return array
        case {"items": items}:
            return tuple(_read(item, arrays) for item in items)
        case {"pairs": pairs}:
            return {_read(k, arrays): _read(v, arrays) for k, v in pairs}
        case {"certificate": text}:
            return Certificate.from_json(text)
        case {"result": kind, "fields": content}:
            return Result.kinds[kind](**{k: _read(part, arrays) for k, part in content.items()})
    return value


R = TypeVar("R", bound=Result)


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Steps:
    """Where the steps of an experiment are kept, and who is told of them.

    Parameters
    ----------
    folder : Path, optional
        Where results of steps are written and looked for; None: nowhere.
    settings : mapping
        What the steps depend on, in numbers and texts, besides the version of the package. A step
        found in a file of other settings is refused.
    on_step : callable
        Called with the name of each step that is computed, as it begins.
    on_progress : callable
        Called with a number from 0 to 1 where a step knows how far it is.
    shared : Path, optional
        Folder of the steps that several experiments have in common; see `common`.

    Examples
    --------
    >>> @dataclass(frozen=True, eq=False)
    ... class Answer(Result):
    ...     value: int
    >>> Steps()("the answer", lambda: Answer(42))
    Answer(value=42)
    """

    folder: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    on_step: Callable[[str], object] = _nothing
    on_progress: Callable[[float], object] = _nothing
    shared: Path | None = None

    def within(self, name: str, **settings: Any) -> Steps:
        """Return the steps of a part: its folder lies in this one, its settings are these and more."""
        return Steps(
            None if self.folder is None else self.folder / name,
            {**self.settings, **settings},
            self.on_step,
            self.on_progress,
            self.shared,
        )

    def common(self, **settings: Any) -> Steps:
        """Return steps that several experiments share: in a folder named after their settings."""
        return Steps(
            None if self.shared is None else self.shared / _folder_name(settings),
            settings,
            self.on_step,
            self.on_progress,
            self.shared,
        )

    def __call__(self, name: str, compute: Callable[[], R]) -> R:
        """Return what a step returned when it was done, now or earlier.

        Parameters
        ----------
        name : str
            Of the step, and of its file.
        compute : callable
            Does the step. It must depend on nothing but the settings.

        Raises
        ------
        InvalidInputError
            If the file is of other settings, or damaged.
        """
        if self.folder is None:
            self.on_step(name)
            return compute()
        from gplconvex import __version__

        path = self.folder / f"{name}.npz"
        settings = {"gplconvex": __version__, **self.settings}
        if path.exists():
            found, of = Result._load(path)
            if of != json.loads(json.dumps(settings)):
                raise InvalidInputError(
                    f"{str(path)!r} is of other settings: expected {settings}, got {of}. Choose "
                    "another folder, or start anew"
                )
            return found  # type: ignore[return-value]  # what compute returned, by the settings
        self.on_step(name)
        result = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        result.save(path, settings=settings)
        return result


def _folder_name(settings: Mapping[str, Any]) -> str:
    """Return settings as the name of a folder, such as ``images=digits,users=10``."""
    text = ",".join(f"{name}={value}" for name, value in settings.items())
    return "".join(letter for letter in text if letter.isalnum() or letter in "=,.-_")


@dataclass(frozen=True, eq=False)
class Optimum(Result):
    r"""A certified optimum, without the data that it is of.

    Attributes
    ----------
    rho : array, shape of a model
    thetas : array, shape (N, *shape of a model)
    certificate : Certificate
        Guaranteed bounds at this point.
    status : str
        OPTIMAL, INACCURATE or UNCERTIFIED; see `gplconvex.Status`.
    passes, seconds : float
        What the solver took, the certificate not counted.
    """

    rho: Any
    thetas: Any
    certificate: Certificate
    status: str
    passes: float
    seconds: float

    @classmethod
    def of(cls, solution: Solution) -> Self:
        """Return what is kept of a solution."""
        return cls(
            solution.rho,
            np.stack(solution.thetas),
            solution.certificate,
            solution.status.name,
            float(solution.stats.get("passes", np.nan)),
            float(solution.stats["seconds"]),
        )


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """So many."""
        return time.perf_counter() - self._began
