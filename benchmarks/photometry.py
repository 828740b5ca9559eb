"""Measure a catalogue of `photometrus photometry` against the truth of the simulation.

Usage: ``python benchmarks/photometry.py stack/coadd....C3.VHS.ecsv TRUTH_DIR [--chip 3]``

With ``--run`` the catalogue is made first, and its time and memory are taken; what follows ``--``
goes to the command: ``photometry.py --run CATALOG TRUTH -- -filepath COADD -catalog FILE``.
"""

import argparse
import json
import sys
from pathlib import Path

from judge.catalog import read_catalog
from judge.limits import check, limits_of
from judge.magnitudes import measure_catalog
from judge.run import run_photometry
from judge.show import show
from judge.stack import read_stack
from judge.truth import read_truth


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when all is within the limits of acceptance, 3 when something is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalog", type=Path, help="<coadd name>.<survey>.ecsv")
    parser.add_argument("truth", type=Path, help="folder of truth.fits and meta.json")
    parser.add_argument("--chip", type=int, default=3)
    parser.add_argument("--parent", type=Path, help="product tree; else the catalogue's")
    parser.add_argument("--offset", type=float, help="published - truth's magnitudes, by system")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--limits", choices=("issue4",), default="issue4")
    parser.add_argument("--run", action="store_true", help="make the catalogue first, and time it")
    parser.add_argument("options", nargs="*", help="after --: options of `photometrus photometry`")
    given = parser.parse_args(argv)
    run = run_photometry(given.options) if given.run else {}
    parent = given.parent or given.catalog.resolve().parents[1]
    truth = read_truth(given.truth, given.chip)
    catalog = read_catalog(given.catalog, truth.band, given.offset)
    numbers = measure_catalog(catalog, truth, read_stack(parent, given.chip)) | run
    failures = check(numbers, limits_of(numbers, given.limits))
    show(numbers, failures)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
