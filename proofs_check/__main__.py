"""Print the ledger: ``python -m proofs_check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gplconvex.errors import InvalidInputError
from gplconvex.files import require_absent, write_text
from proofs_check.ledger import SEED, as_json, as_markdown, check, statements


def main(arguments: list[str] | None = None) -> int:
    """Check statements, print what was found, and return 0 if all hold and 1 otherwise."""
    modules = statements()
    parser = argparse.ArgumentParser(prog="python -m proofs_check", description=__doc__)
    parser.add_argument(
        "--statement", nargs="+", metavar="S", choices=list(modules), help="only these, such as S12"
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of random instances ({SEED})")
    parser.add_argument("--json", type=Path, help="write the ledger as JSON")
    parser.add_argument("--markdown", type=Path, help="write the ledger as a Markdown page")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    options = parser.parse_args(arguments)
    outputs = ((options.json, as_json), (options.markdown, as_markdown))
    for path, _ in outputs:
        try:
            if path is not None and not options.overwrite:
                require_absent(path)
        except InvalidInputError as error:
            parser.error(f"{error} (here: --overwrite)")
    wanted = options.statement or list(modules)
    print(f"{len(wanted)} statements, seed {options.seed}", flush=True)
    entries = []
    for number in wanted:
        print(f"{number} ...", end="", file=sys.stderr, flush=True)
        entries.append(check(number, modules[number], options.seed))
        print("\r", end="", file=sys.stderr, flush=True)
        print("\n".join(entries[-1].lines()), flush=True)
    for path, written in outputs:
        if path is not None:
            write_text(path, written(entries), overwrite=options.overwrite)
    failing = [entry.number for entry in entries if not entry.green]
    print(f"FAIL: {', '.join(failing)}" if failing else "All hold; every counterexample breaks.")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
