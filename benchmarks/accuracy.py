"""Measure a finished reduction against the truth of the simulation it came from.

Usage: ``python benchmarks/accuracy.py PARENT TRUTH_DIR [--chip 3] [--reference refcat.fits]``

The command of the package `judge`.
"""

import argparse
import json
import sys
from pathlib import Path

from judge.limits import ACCEPTANCE, WINDOW, check, limits_of
from judge.measure import measure
from judge.show import show

__all__ = ["ACCEPTANCE", "WINDOW", "check", "measure"]


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when all is within the limits of acceptance, 3 when something is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parent", type=Path, help="product tree: stack/, C3_sub/, run.json")
    parser.add_argument("truth", type=Path, help="folder of truth.fits and meta.json")
    parser.add_argument("--chip", type=int, default=3)
    parser.add_argument("--reference", type=Path, help="catalogue with RAJ2000, DEJ2000")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--plot", type=Path, help="write a PNG of the astrometric residuals here")
    parser.add_argument("--unclipped", type=Path, help="product tree stacked without clipping")
    parser.add_argument("--limits", choices=("main", "issue3"), default="main")
    given = parser.parse_args(argv)
    numbers = measure(
        given.parent, given.truth, given.chip, given.reference, given.plot, given.unclipped
    )
    failures = check(numbers, limits_of(numbers, given.limits))
    show(numbers, failures)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
