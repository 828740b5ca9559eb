"""Kernels compiled before they are wanted: by the reduction of a small simulated chip."""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from photometrus.arrivals import Request
from photometrus.config import load
from photometrus.errors import PhotometrusError
from photometrus.frame import Progress, no_progress
from photometrus.photometry.recipe import measure_stack
from photometrus.photometry.request import PhotometryRequest
from photometrus.pipeline import reduce_observation
from photometrus.simulate.night import SimulateConfig, simulate_night

SMALL = SimulateConfig(
    size=512, chips=(1,), ramps=5, flats=4, seed=3, density="bulge", distortion="template"
)
"""With stars enough for every step."""


def warm(progress: Progress = no_progress) -> float:
    """Make numba compile what a chip's reduction and photometry need; the seconds it took.

    Numba keeps what it compiled beside the package, or where NUMBA_CACHE_DIR says. Raises
    PhotometrusError when the chip cannot be reduced, which would be a broken installation.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="photometrus-warm-") as name, _silence():
        root = Path(name)
        night = simulate_night(root / "night", SMALL)
        given = {
            "archive": str(night),
            "catalog": str(night / "refcat_2mass.fits"),
            "flat_dir": str(root / "flats"),
            "distortion_dir": "none",
        }
        config = load(None, {"input": given, "run": {"pages": False}})
        request = Request(SMALL.target, SMALL.night, SMALL.band, SMALL.chips, root / "reduced")
        [chip] = reduce_observation(request, config, progress=progress).chips
        if chip.coadd is None:
            raise PhotometrusError(f"a simulated chip cannot be reduced: {chip.error}")
        deep = {"catalog": str(night / "refcat_deep.fits"), "plots": False}
        config = load(None, {"photometry": deep})
        measure_stack(PhotometryRequest(stack=chip.coadd), config, progress=progress)
    return time.monotonic() - begun


@contextmanager
def _silence() -> Iterator[None]:
    """Nobody wants to know how good a chip is that is thrown away."""
    log = logging.getLogger("photometrus")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
