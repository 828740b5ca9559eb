"""The bridge to programs of others: SExtractor, SCAMP, SWarp, astrometry.net.

Each is run without a shell, in a folder of its own under names of our choice, with a time limit;
what it leaves is moved to its place when it is whole. All failures are ServiceError.
"""

from photometrus.io.external.astromatic import (
    ScampSolution,
    scamp,
    sextractor,
    swarp,
    tan_grid,
)
from photometrus.io.external.astrometrynet import build_index, solve_field
from photometrus.io.external.process import Output, find_program, run

__all__ = [
    "Output",
    "ScampSolution",
    "build_index",
    "find_program",
    "run",
    "scamp",
    "sextractor",
    "solve_field",
    "swarp",
    "tan_grid",
]
