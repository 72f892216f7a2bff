"""Writing files: atomically, and never over an existing one unless asked."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gplconvex.errors import InvalidInputError


def require_absent(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a `Path`; raise `InvalidInputError` when something is already there."""
    path = Path(path)
    if path.exists():
        raise InvalidInputError(
            f"output file {str(path)!r} exists and is not overwritten: "
            "choose another name, remove the file, or pass overwrite=True"
        )
    return path


def write_bytes(path: str | os.PathLike[str], content: bytes, *, overwrite: bool = False) -> Path:
    """Write ``content`` to ``path`` completely or not at all.

    The bytes go to a temporary file in the same folder, which is then linked (or, with
    ``overwrite``, moved) to its final name in one step of the file system: a reader never sees a
    half-written file, and two writers cannot both win.

    Raises
    ------
    InvalidInputError
        If ``path`` exists and ``overwrite`` is false, or its folder does not exist.
    """
    path = Path(path) if overwrite else require_absent(path)
    if not path.parent.is_dir():
        raise InvalidInputError(f"folder {str(path.parent)!r} does not exist: create it first")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp is private; an output file follows the umask
        if overwrite:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)  # unlike a rename, a link fails when the name is taken
            except FileExistsError:
                require_absent(path)
                raise
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def write_text(path: str | os.PathLike[str], content: str, *, overwrite: bool = False) -> Path:
    """Write ``content`` as UTF-8; see `write_bytes`."""
    return write_bytes(path, content.encode("utf-8"), overwrite=overwrite)
