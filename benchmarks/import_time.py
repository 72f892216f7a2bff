"""How long `import gplconvex` takes beside the import of what it is built on.

Run ``python benchmarks/import_time.py``. Fresh interpreters import numpy and scipy.linalg alone, and the
package, in turn; the medians are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 11
BASE = "import numpy, scipy.linalg"
PACKAGE = "import gplconvex"

TIMED = """
import time
began = time.perf_counter()
{statement}
print(time.perf_counter() - began)
"""


def seconds(statement: str) -> float:
    """Return how long a statement takes in a fresh interpreter."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median seconds of the import of the base and of the package, taken in pairs."""
    pairs = [(seconds(BASE), seconds(PACKAGE)) for _ in range(rounds + 1)]
    base, package = zip(*pairs[1:], strict=True)  # the first pair warms the file cache
    return statistics.median(base), statistics.median(package)


def main() -> None:
    """Print the medians, their difference and their ratio."""
    base, package = measure()
    print(f"{BASE:<28} {base:.3f} s")
    print(f"{PACKAGE:<28} {package:.3f} s")
    print(f"difference {package - base:+.3f} s, ratio {package / base:.2f}, {ROUNDS} rounds")


if __name__ == "__main__":
    main()
