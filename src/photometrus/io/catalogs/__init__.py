"""Reference catalogues: a file on disk or a survey of the Virtual Observatory.

Whatever the source, a table with the same columns comes out (`reference`). Surveys are asked
through TAP, then through Simple Cone Search, one service after the other; what came is kept in a
folder, so that a cone within a cone that is already there costs no network.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from photometrus.errors import UsageError, nearest
from photometrus.io.catalogs.columns import WAVELENGTH_NM, separation_deg, standard_columns
from photometrus.io.catalogs.files import read
from photometrus.io.catalogs.services import cached, default_cache
from photometrus.io.catalogs.surveys import SURVEYS, Survey, services_of, survey_named

__all__ = [
    "SURVEYS",
    "Survey",
    "default_cache",
    "reference",
    "separation_deg",
    "standard_columns",
]

log = logging.getLogger(__name__)


def reference(
    source: str | Path,
    centre: tuple[float, float],
    radius_deg: float,
    band: str,
    *,
    cache: Path | None = None,
    services: Sequence[str] = (),
    timeout_s: float = 60.0,
) -> Table:
    """The reference stars within a circle on the sky.

    source : a file (FITS, FITS_LDAC, ECSV, VOTable, CSV) or a survey's name (`SURVEYS`)
    centre, radius_deg : the circle: RA, Dec (degrees, ICRS) and its radius
    band : Z, Y, J or H; where the catalogue lacks it, the nearest in wavelength that it has
    cache : folder for what surveys answered; None means $PHOTOMETRUS_CACHE, or the user's
    services : where to ask instead of $PHOTOMETRUS_VO_<SURVEY> (addresses with blanks between)
        and of the survey's own, each ``tap+https://host/tap#table`` or ``scs+https://host/cone?``
    timeout_s : longest silence of a service, seconds

    returns a Table with `ra_deg`, `dec_deg` (float64, ICRS at `epoch_yr`), `pos_err_arcsec` (one
    axis; 0.1 where the catalogue does not tell), `pm_ra_mas_yr` (times cos Dec), `pm_dec_mas_yr`
    (0 where unknown), `epoch_yr`, `mag`, `mag_err` (NaN where there is none: a limit, or a
    catalogue without errors) and `extended` (bool). `meta`: `source`, `mag_system`, `mag_band`,
    `proper_motions`, `pos_err_assumed`, `n`. Brightest first, whatever the order of the source;
    rows without a position or magnitude are left out.

    Raises MissingInput (no such file), UsageError (columns, survey's name), ServiceError.
    """
    if band not in WAVELENGTH_NM:
        known = [name for name in WAVELENGTH_NM if name]
        raise UsageError(f"band {band!r}: known are {', '.join(known)}{nearest(band, known)}")
    ra, dec = centre[0] % 360.0, centre[1]
    survey = survey_named(source)
    if survey is None:
        rows, system, epoch, name = read(Path(source)), "Vega", None, str(source)
    else:
        asked = services_of(survey, services)
        folder = cache if cache is not None else default_cache()
        rows = cached(survey, asked, (ra, dec, radius_deg), folder, timeout_s)
        system, epoch, name = survey.mag_system, survey.epoch_yr, survey.name
    stars = standard_columns(rows, band, name, epoch_yr=epoch)
    stars = stars[separation_deg(stars["ra_deg"], stars["dec_deg"], ra, dec) <= radius_deg]
    stars = stars[np.lexsort((stars["dec_deg"], stars["ra_deg"], stars["mag"]))]
    stars.meta["mag_system"] = str(rows.meta.get("MAGSYS", system))
    stars.meta["n"] = len(stars)
    log.info("%s: %d reference stars within %.3f deg", name, len(stars), radius_deg)
    return stars
