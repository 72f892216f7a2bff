"""Tables of results, printed row by row as they come and written as a Markdown file."""

from __future__ import annotations

import argparse
import gc as garbage
from collections.abc import Iterable
from pathlib import Path

from machine import machine

import gplconvex as gc
from gplconvex.files import write_text

Row = tuple[object, ...]


class Tables:
    """A page of tables.

    Parameters
    ----------
    title : str
    description : str
        What ``--help`` shows.
    positional : sequence of str
        Names of paths that the command takes.

    Attributes
    ----------
    arguments : Namespace
        What the command was given.
    """

    def __init__(self, title: str, description: str | None, positional: Iterable[str] = ()) -> None:
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawTextHelpFormatter
        )
        for name in positional:
            parser.add_argument(name, type=Path)
        parser.add_argument("--out", type=Path)
        parser.add_argument(
            "--without", nargs="*", default=[], help="words in the titles of tables to leave out"
        )
        self.arguments = parser.parse_args()
        self.lines = [f"# {title}", "", f"gplconvex {gc.__version__}. {machine()}.", ""]

    def table(self, title: str, header: str, rows: Iterable[Row]) -> None:
        """Add a table; rows may be an iterator that measures, and short ones end in empty cells."""
        if any(word in title for word in self.arguments.without):
            return
        names = header.split(" | ")
        self.lines.extend([f"## {title}", "", f"| {header} |", "|" + " --- |" * len(names)])
        print("\n".join(self.lines[-4:]), flush=True)
        for row in rows:
            cells = [*map(_shown, row), *[""] * (len(names) - len(row))]
            self.lines.append("| " + " | ".join(cells) + " |")
            print(self.lines[-1], flush=True)
            garbage.collect()
        self.lines.append("")
        if self.arguments.out:
            write_text(self.arguments.out, "\n".join(self.lines), overwrite=True)


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
