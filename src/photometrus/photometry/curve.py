"""A position through all stacks below a folder."""

import math
import re
from functools import partial
from pathlib import Path

from astropy.table import Table

from photometrus.config import Config
from photometrus.frame import Progress, no_progress
from photometrus.instrument import filters_of
from photometrus.lightcurve import find_stacks, light_curve
from photometrus.photometry.epoch import measure_epoch
from photometrus.workers import cores, threads


def curve_below(
    root: Path,
    ra_deg: float,
    dec_deg: float,
    config: Config,
    *,
    band: str = "",
    t0_mjd: float = math.nan,
    progress: Progress = no_progress,
) -> Table:
    """The light curve of a position from all stacks below a folder, or those of a band.

    t0_mjd : of the event, UTC

    Raises MissingInput when no stack holds the position.
    """
    stacks = [path for path in find_stacks(root) if not band or is_of(path, band)]
    with threads(config.run.threads or cores()) as each:
        return light_curve(
            stacks,
            ra_deg,
            dec_deg,
            partial(measure_epoch, config=config, each=each),
            config.lightcurve,
            system=config.photometry.magsys,
            t0_mjd=t0_mjd,
            progress=progress,
        )


def is_of(stack: Path, band: str) -> bool:
    """Whether a stack's name says that it is of a band; any other name may be of any."""
    words = re.match(r"coadd\.(\w+-\w+)\.", stack.name)
    return words is None or words[1] == "-".join(filters_of(band))
