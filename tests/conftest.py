"""Settings that every test shares."""

import os
from pathlib import Path

from hypothesis import settings

# Figures are drawn into files: no test needs, or may wait for, a screen.
os.environ["MPLBACKEND"] = "Agg"

# Data that a user would fetch; tests of what is neither here nor named by the caller are skipped.
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
if SHARED_DATA.is_dir():
    os.environ.setdefault("GPLCONVEX_DATA", str(SHARED_DATA))

# "dev" looks for something new at each run; "ci" looks longer, and at the same examples each time.
# A deadline would only measure how busy the machine is.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile(
    "ci", deadline=None, max_examples=200, derandomize=True, database=None, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))
